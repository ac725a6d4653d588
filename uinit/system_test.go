package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/internal/card"
)

func TestKmsg(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(newKmsg(&b, "core"))
	log.Debug("left out")
	log.With("port", 7).WithGroup("g").Warn("two words", "level", "x y")
	log.Error(strings.Repeat("x", 2*kmsgLimit))
	log.Info("plain")
	lines := strings.SplitAfter(b.String(), "\n")
	if want := "<28>nitrino: core: two words port=7 g.level=\"x y\"\n"; lines[0] != want {
		t.Errorf("got %q, want %q", lines[0], want)
	}
	if !strings.HasPrefix(lines[1], "<27>nitrino: core: xxx") || len(lines[1]) != kmsgLimit+1 {
		t.Errorf("got %d bytes %.30q, want %d", len(lines[1]), lines[1], kmsgLimit+1)
	}
	if want := "<30>nitrino: core: plain\n"; lines[2] != want {
		t.Errorf("got %q, want %q", lines[2], want)
	}
}

func TestBuildTime(t *testing.T) {
	want := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"2026-11-01T12:00:00Z": want, "1793534400": want, "": {}} {
		if got, err := buildTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	if _, err := buildTime("yesterday"); err == nil {
		t.Error("yesterday: got success")
	}
}

func TestKeepTime(t *testing.T) {
	dir := t.TempDir()
	if got, err := lastTime(dir); err != nil || !got.IsZero() {
		t.Errorf("at first: got %v, %v, want zero", got, err)
	}
	for range 2 {
		before := time.Now()
		if err := keepTime(dir); err != nil {
			t.Fatal(err)
		}
		got, err := lastTime(dir)
		if err != nil || got.Before(before.Add(-time.Second)) || got.After(time.Now().Add(time.Second)) {
			t.Errorf("got %v, %v, want about %v", got, err, before)
		}
	}
	if err := keepTime(filepath.Join(dir, "none")); err == nil {
		t.Error("no folder: got success")
	}
}

func TestBootID(t *testing.T) {
	for _, tt := range []struct {
		name  string
		file  string
		cause startCause
		want  string
		after string // in the file
	}{
		{"first", "", causeUnknown, "fresh", ""},
		{"power-up", "old\n", causeUnknown, "fresh", "old"},
		{"restart in order", "old restarts\n", causeUnknown, "old", "old"},
		{"restart in order, power-up seen", "old restarts\n", causePower, "fresh", "fresh"},
		{"reset seen", "old\n", causeReset, "old", "old"},
		{"power-up seen", "old\n", causePower, "fresh", "old"},
		{"reset seen at first", "", causeReset, "fresh", ""},
		{"no ID in the file", " restarts\n", causeUnknown, "fresh", "fresh"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, bootFile)
		if tt.file != "" {
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := takeBootID(dir, tt.cause, "fresh")
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
		text, err := os.ReadFile(path)
		if err != nil && tt.after != "" || strings.TrimSpace(string(text)) != tt.after {
			t.Errorf("%s: the file has %q, %v, want %q", tt.name, text, err, tt.after)
		}
	}
}

// TestBootIDCut: a restart in order, then a power cut.
func TestBootIDCut(t *testing.T) {
	dir := t.TempDir()
	first, err := takeBootID(dir, causeUnknown, "one")
	if err != nil {
		t.Fatal(err)
	}
	if err := keepBootID(dir, first, bootAgain); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "three"} {
		if got, err := takeBootID(dir, causeUnknown, "three"); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// write writes a file below root and the folders above it.
func write(t *testing.T, root, name string, text []byte) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, text, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestWhyStarted(t *testing.T) {
	for text, want := range map[string]startCause{"\x00\x00\x10\x00": causePower, "\x00\x00\x00\x20": causeReset, "": causeUnknown, "\x10": causeUnknown} {
		root := t.TempDir()
		if text != "" {
			write(t, root, resetStatus, []byte(text))
		}
		if got := whyStarted(root); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestSlot(t *testing.T) {
	autoboot := card.Autoboot{Boot: card.SlotA, Try: card.SlotB}.Encode()
	for _, tt := range []struct {
		name, cmdline string
		property      []byte
		autoboot      []byte
		slot          slot
		event         string // kind
	}{
		{"as named", "quiet bmc.slot=a panic=5", nil, autoboot, slot{card.SlotA, false}, ""},
		{"the other", "bmc.slot=b", nil, autoboot, slot{card.SlotB, false}, "slot.fallback"},
		{"on trial, emulated", "bmc.slot=b bmc.tryboot=1", nil, autoboot, slot{card.SlotB, true}, "slot.trial"},
		{"on trial, a Pi", "bmc.slot=b", []byte{0, 0, 0, 1}, autoboot, slot{card.SlotB, true}, "slot.trial"},
		{"a Pi says no", "bmc.slot=b bmc.tryboot=1", []byte{0, 0, 0, 0}, autoboot, slot{card.SlotB, false}, "slot.fallback"},
		{"no autoboot.txt", "bmc.slot=a", nil, nil, slot{card.SlotA, false}, "slot.unknown"},
		{"autoboot.txt is damaged", "bmc.slot=a", nil, []byte("boot_partition=x"), slot{card.SlotA, false}, "slot.unknown"},
		{"started by hand", "quiet", nil, autoboot, slot{}, ""},
		{"no slot's name", "bmc.slot=c", nil, autoboot, slot{}, ""},
	} {
		root := t.TempDir()
		write(t, root, "proc/cmdline", []byte(tt.cmdline+"\n"))
		if tt.property != nil {
			write(t, root, trialProperty, tt.property)
		}
		if tt.autoboot != nil {
			write(t, root, card.AutobootFile, tt.autoboot)
		}
		got, err := runningSlot(root)
		if err != nil || got != tt.slot {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.slot)
		}
		if e, _ := got.event(root); e.Kind != tt.event {
			t.Errorf("%s: got the event %q, want %q", tt.name, e.Kind, tt.event)
		}
	}
}

// cardImage makes the first sector of a card.
func cardImage(permType byte, permStart, permSize uint32) *mbr {
	m := new(mbr)
	for n, e := range []struct {
		kind        byte
		start, size uint32
	}{{typeFAT32, 2048, 1 << 18}, {typeFAT32, 1 << 19, 1 << 18}, {typeFAT32, 1 << 20, 1 << 18}, {permType, permStart, permSize}} {
		to := m.entry(n + 1)
		to[mbrType] = e.kind
		binary.LittleEndian.PutUint32(to[mbrStart:], e.start)
		binary.LittleEndian.PutUint32(to[mbrSize:], e.size)
	}
	m[mbrSignature], m[mbrSignature+1] = 0x55, 0xaa
	return m
}

func TestGrowEntry(t *testing.T) {
	const start, gib = 1 << 21, 1 << 21 // sectors
	for _, tt := range []struct {
		name string
		size uint32
		disk int64 // sectors
		want uint32
	}{
		{"the card is as large", gib, 2 * gib, gib},
		{"larger", gib, 10 * gib, 9 * gib},
		{"not by whole MiB", gib, 10*gib + 2047, 9 * gib},
		{"less than a MiB larger", gib, 2*gib + 2047, gib},
		{"smaller than the entry says", 4 * gib, 2 * gib, 4 * gib},
		{"more than an entry can say", gib, 1 << 33, (1<<32 - 1 - start) / 2048 * 2048},
	} {
		m := cardImage(typeLinux, start, tt.size)
		before := *m
		grown := m.grow(tt.disk)
		if _, got := m.sectors(card.PermPartition); got != tt.want || grown != (got != tt.size) {
			t.Errorf("%s: got %d sectors, grown %v, want %d", tt.name, got, grown, tt.want)
		}
		copy(m.entry(card.PermPartition), before.entry(card.PermPartition))
		if *m != before {
			t.Errorf("%s: more than the one entry was changed", tt.name)
		}
	}
}

// TestNewDisk has files in place of devices.
func TestNewDisk(t *testing.T) {
	good := cardImage(typeLinux, 1<<21, 1<<20)
	foreign := cardImage(typeLinux, 1<<21, 1<<20)
	foreign.entry(card.BootPartition)[mbrType] = typeLinux
	unsigned := cardImage(typeLinux, 1<<21, 1<<20)
	unsigned[mbrSignature] = 0
	for _, tt := range []struct {
		name  string
		mbr   *mbr
		parts []string
		perm  bool
		err   error
	}{
		{"good", good, []string{"p1", "p4"}, true, nil},
		{"p4 is not there yet", good, []string{"p1"}, false, os.ErrNotExist},
		{"p1 is not there yet", good, []string{"p4"}, false, os.ErrNotExist},
		{"no p4 at all", cardImage(0, 0, 0), []string{"p1"}, false, nil},
		{"another's card", foreign, []string{"p1", "p4"}, false, errNoCard},
		{"no table", unsigned, []string{"p1", "p4"}, false, errNoCard},
	} {
		dir := t.TempDir()
		write(t, dir, "disk", tt.mbr[:])
		for _, p := range tt.parts {
			write(t, dir, "disk"+p, nil)
		}
		d, err := newDisk(filepath.Join(dir, "disk"), filepath.Join(dir, "diskp"))
		if !errors.Is(err, tt.err) || (d.perm != "") != tt.perm {
			t.Errorf("%s: got %+v, %v, want %v and perm %v", tt.name, d, err, tt.err, tt.perm)
		}
	}
	if _, err := newDisk(filepath.Join(t.TempDir(), "disk"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no disk: got %v", err)
	}
}

func TestFileSystemSize(t *testing.T) {
	super := make([]byte, 2048)
	binary.LittleEndian.PutUint32(super[1024+4:], 1000)
	super[1024+24] = 2
	binary.LittleEndian.PutUint16(super[1024+56:], unix.EXT4_SUPER_MAGIC)
	path := filepath.Join(t.TempDir(), "p4")
	for _, tt := range []struct {
		name   string
		change func()
		want   int64
	}{
		{"ext4", func() {}, 1000 * 4096},
		{"other blocks", func() { super[1024+24] = 0 }, 0},
		{"no ext4", func() { super[1024+24], super[1024+56] = 2, 0 }, 0},
	} {
		tt.change()
		if err := os.WriteFile(path, super, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := fileSystemSize(path); got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%s: got %d, %v, want %d", tt.name, got, err, tt.want)
		}
	}
}

func TestAwait(t *testing.T) {
	u, err := openUevents()
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	missing := errors.New("not there")
	if err := u.await(t.Context(), time.Minute, func() error { return nil }); err != nil {
		t.Errorf("there at once: got %v", err)
	}
	if err := u.await(t.Context(), 20*time.Millisecond, func() error { return missing }); !errors.Is(err, missing) {
		t.Errorf("never there: got %v, want %v", err, missing)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.await(ctx, time.Minute, func() error { return missing }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: got %v, want %v", err, context.Canceled)
	}
}

func TestLastWords(t *testing.T) {
	w := &lastWords{log: slog.New(slog.DiscardHandler)}
	for _, part := range []string{"hello\npan", "ic: at the", " disco\n\ngoroutine 1\n", strings.Repeat("x", 3*maxLine)} {
		if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
			t.Errorf("got %d, %v, want %d", n, err, len(part))
		}
	}
	if got, want := w.why(), "panic: at the disco"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
