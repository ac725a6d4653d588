package bmc

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
	"github.com/nitrino/nitrino/internal/store"
)

// pair makes the two ends of a connection.
func pair(t *testing.T) (a, b *ipc.Conn) {
	t.Helper()
	fa, fb, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = ipc.New(fa); err != nil {
		t.Fatal(err)
	}
	if b, err = ipc.New(fb); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// TestDiskLink: core learns the disk process's state, its events reach the log,
// its end is told, and the next one is taken up.
func TestDiskLink(t *testing.T) {
	r := newDiskRig(t)
	first := r.newDisk("one", t.TempDir())
	first.Report(Event{Kind: "test", Message: "before anybody listens"})
	if _, err := first.volumes.Create(t.Context(), block.CreateRequest{Name: "disk0", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	die := r.join(first)
	r.await("joined", func() bool {
		s := r.State()
		list := r.List()
		return s.Up && s.Hello.Instance == "one" && s.Hello.Software == "1.2.3" && s.Hello.Since.Equal(first.hello.Since) &&
			len(list) == 1 && list[0].Name == "disk0" && list[0].Size == 1<<20 && s.Health.Size > 0
	})
	r.await("its event", func() bool { return first.events.Len() == 0 })
	if !slices.Contains(r.kinds(), "test") {
		t.Errorf("got the events %q, want the disk process's test", r.kinds())
	}
	if err := first.volumes.Delete(t.Context(), "disk0"); err != nil {
		t.Fatal(err)
	}
	r.await("a volume went", func() bool { return len(r.List()) == 0 })
	die()
	r.await("it died", func() bool { return !r.Up() && slices.Contains(r.kinds(), "disk.down") })
	if _, err := r.Create(t.Context(), block.CreateRequest{Name: "disk1", Size: 1 << 20}, host.Origin{}); !errors.Is(err, ErrDisk) || !errors.Is(err, block.ErrGone) {
		t.Errorf("without a disk process: got %v, want %v", err, ErrDisk)
	}
	r.join(r.newDisk("two", t.TempDir()))
	r.await("the next", func() bool { s := r.State(); return s.Up && s.Hello.Instance == "two" })
}

// TestKeep: an event that was handed over is on the disk when that is
// acknowledged; a log that is not written does not hold it up for ever.
func TestKeep(t *testing.T) { synctest.Test(t, testKeep) }

func testKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	events, err := host.OpenEvents(db, log)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := keep(t.Context(), events, Event{Kind: "unwritten"}); err != nil || time.Since(began) != keepLimit {
		t.Errorf("without a writer: got %v after %s, want nil after %s", err, time.Since(began), keepLimit)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := keep(ended, events, Event{Kind: "unwritten"}); !errors.Is(err, context.Canceled) {
		t.Errorf("the log ended: got %v, want %v", err, context.Canceled)
	}
	running, stop := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	tasks.Go(func() { events.Run(running) })
	if err := keep(t.Context(), events, Event{Kind: "kept"}); err != nil {
		t.Error(err)
	}
	// What a SIGKILL of this moment would leave.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".left", text, 0o600); err != nil {
		t.Fatal(err)
	}
	left, err := store.Open(path + ".left")
	if err != nil {
		t.Fatal(err)
	}
	again, err := host.OpenEvents(left, log)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Since(0, 0); len(got) != 3 || got[2].Kind != "kept" {
		t.Errorf("after a kill: got %+v, want all three", got)
	}
	stop()
	tasks.Wait()
	if err := errors.Join(left.Close(), db.Close()); err != nil {
		t.Error(err)
	}
}

func TestIsFull(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		size, free int64
		was, want  bool
	}{
		{1000 * mib, 51 * mib, false, false},
		{1000 * mib, 49 * mib, false, true},
		{1000 * mib, 60 * mib, true, true},
		{1000 * mib, 63 * mib, true, false},
		{200 * mib, 17 * mib, false, false},
		{200 * mib, 15 * mib, false, true},
		{32 * mib, 9 * mib, false, false},
		{32 * mib, 7 * mib, false, true},
		{0, 0, false, false},
	} {
		if got := isFull(tt.size, tt.free, tt.was); got != tt.want {
			t.Errorf("%d of %d MiB free, was %v: got %v, want %v", tt.free/mib, tt.size/mib, tt.was, got, tt.want)
		}
	}
}

// TestForeignDisk: what is no disk process is told and left.
func TestForeignDisk(t *testing.T) {
	db, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	events, err := host.OpenEvents(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l := newDisks(events, slog.New(slog.DiscardHandler), nil)
	for what, want := range map[string]string{"nonsense": "nonsense: unsupported", diskVolumes: "volumes"} {
		here, there := pair(t)
		if err := there.Tell(what, "x", nil); err != nil {
			t.Fatal(err)
		}
		err := l.serve(t.Context(), here)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
		if err := there.Close(); err != nil {
			t.Error(err)
		}
	}
}
