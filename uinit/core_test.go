package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/internal/ipc"
)

// kept opens what a board kept below dir and answers the messages of its events
// by kind.
func kept(t *testing.T, dir string) (*bmc.BMC, map[string][]string) {
	t.Helper()
	b, err := bmc.Open(bmc.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	events := map[string][]string{}
	for _, e := range b.Events.Since(0, 0) {
		events[e.Kind] = append(events[e.Kind], e.Message)
	}
	return b, events
}

// TestBoard runs the real children on loopback: core is killed, then disk.
func TestBoard(t *testing.T) {
	t.Parallel()
	r := newRig(t, "real core", "disk", func(p *parent) { p.note(bmc.Event{Kind: "test", Message: "early"}) })
	const joined, up = "<30>nitrino: core: The disk process ", "<30>nitrino: core: nitrino"
	r.await("host name nitrino", 1)
	r.await(joined, 1)
	r.await(up, 1)
	r.await("<30>nitrino: core: early", 1)
	r.kill("real core")
	first := r.await(joined, 2)
	if instance := func(i int) string { word, _, _ := strings.Cut(first[i], " "); return word }; instance(0) != instance(1) {
		t.Errorf("got %q, want the same disk process before and after", first)
	}
	r.kill("disk")
	r.await(joined, 3)
	r.await("<28>nitrino: core: The process disk, instance 1, ended", 1)
	login := filepath.Join(r.dir, "card", card.LoginFile)
	var l bmc.Login
	text, err := os.ReadFile(login)
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err != nil || l.User != "admin" || l.Password == "" || l.IPMIPassword == "" {
		t.Errorf("the first login: got %+v, %v", l, err)
	}
	r.end()

	b, events := kept(t, filepath.Join(r.dir, "perm"))
	if !b.Users.HasAdministrator() {
		t.Error("there is no administrator")
	}
	// It was in core's memory when that was killed.
	if got := events["test"]; len(got) == 0 || got[0] != "early" {
		t.Errorf("got the events %q of before core began, want early", got)
	}
	if got := events["process.exited"]; len(got) != 2 || !strings.Contains(got[0], "core, instance 1") || !strings.Contains(got[1], "disk, instance 1") {
		t.Errorf("got the events %q, want the end of core and that of disk", got)
	}
	if got := events["disk.up"]; len(got) < 2 {
		t.Errorf("got the events %q of the disk process, want two", got)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "perm", volumesDir)); err != nil {
		t.Errorf("the folder of volumes: %v", err)
	}
}

// TestEventAcrossReset: an event that reaches a log which is being closed goes to
// the next one.
func TestEventAcrossReset(t *testing.T) {
	c := newCore(slog.New(slog.DiscardHandler))
	var got []string
	logs := make(chan struct{})
	go func() {
		defer close(logs)
		for _, err := range []error{context.Canceled, nil} {
			h := <-c.events
			got = append(got, h.event.Kind)
			h.kept <- err
		}
	}()
	if err := c.event(t.Context(), ipc.Message{Type: msgEvent, ID: 1, Body: []byte(`{"kind":"test"}`)}); err != nil {
		t.Error(err)
	}
	<-logs
	if want := []string{"test", "test"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.event(ended, ipc.Message{Type: msgEvent, ID: 2, Body: []byte(`{"kind":"test"}`)}); !errors.Is(err, context.Canceled) {
		t.Errorf("core ends: got %v, want %v", err, context.Canceled)
	}
}

// TestLoginAgain: without /perm the login on the card still counts.
func TestLoginAgain(t *testing.T) {
	dir := t.TempDir()
	writes := 0
	c := newCore(slog.New(slog.DiscardHandler))
	c.start = start{Card: dir}
	c.writable = func(f func() error) error { writes++; return f() }
	for i, want := range []string{"login.created", "login.restored"} {
		b, _ := kept(t, t.TempDir())
		if err := c.login(b); err != nil {
			t.Fatal(err)
		}
		if !b.Users.HasAdministrator() {
			t.Errorf("start %d: there is no administrator", i+1)
		}
		if got := b.Events.Since(0, 0); got[len(got)-1].Kind != want {
			t.Errorf("start %d: got the event %q, want %q", i+1, got[len(got)-1].Kind, want)
		}
		if writes != 1 {
			t.Errorf("start %d: the card was written %d times, want once", i+1, writes)
		}
		if err := c.login(b); err != nil || writes != 1 {
			t.Errorf("again: got %v and %d writes, want nothing to do", err, writes)
		}
	}
}

// TestLoginRefused: a card that cannot be written to makes no administrator.
func TestLoginRefused(t *testing.T) {
	c := newCore(slog.New(slog.DiscardHandler))
	c.start = start{Card: t.TempDir()}
	c.writable = func(func() error) error { return unix.EROFS }
	b, _ := kept(t, t.TempDir())
	if err := c.login(b); !errors.Is(err, unix.EROFS) || b.Users.HasAdministrator() {
		t.Errorf("got %v, want %v and no administrator", err, unix.EROFS)
	}
}

func TestMediumFailed(t *testing.T) {
	for err, want := range map[error]bool{
		nil:                                  false,
		fmt.Errorf("store: %w", unix.ENOSPC): true,
		&os.PathError{Op: "open", Path: "x", Err: unix.EROFS}: true,
		errors.Join(errors.New("other"), unix.EIO):            true,
		unix.ENOENT: false,
	} {
		if got := mediumFailed(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}

// TestSalvage: the state is copied, the volumes are not, and a copy that is
// there already stays.
func TestSalvage(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from, "state.db", []byte("state"))
	write(t, from, filepath.Join(bmc.LastGoodDir, "card.json"), []byte("good"))
	write(t, from, filepath.Join(volumesDir, "disk0"), []byte("large"))
	if err := salvage(from, to); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"state.db": "state", filepath.Join(bmc.LastGoodDir, "card.json"): "good"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(to, volumesDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the volumes: got %v, want them left out", err)
	}
	write(t, to, "state.db", []byte("newer"))
	if err := salvage(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "state.db")); err != nil || string(got) != "newer" {
		t.Errorf("the second time: got %q, %v, want what was there", got, err)
	}
}
