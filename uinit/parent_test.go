package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nitrino/nitrino/bmc"
)

// TestCoreKilled: disk runs on, and the new core is joined to it.
func TestCoreKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, "core", "disk", nil)
	first := r.await("disk", 1)[0]
	r.kill("core")
	if again := r.await("disk", 2)[1]; again != first {
		t.Errorf("got the disk process %s behind the new core, want still %s", again, first)
	}
	events := r.await("event process.", 2)
	if want := "exited The process core, instance 1, ended after"; !strings.HasPrefix(events[0], want) || !strings.Contains(events[0], "signal: killed") {
		t.Errorf("got the event %q, want %q and the signal", events[0], want)
	}
	if want := "restarted The process core runs again, instance 2."; !strings.HasPrefix(events[1], want) {
		t.Errorf("got the event %q, want %q", events[1], want)
	}
	if got := r.lines("boot"); !slices.Equal(got, []string{"boot7", "boot7"}) {
		t.Errorf("got the boot IDs %q, want one", got)
	}
	if got := len(r.lines("start disk")); got != 1 {
		t.Errorf("got %d starts of disk, want 1", got)
	}
}

// TestDiskKilled: core runs on, and is joined to the new disk.
func TestDiskKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t, "core", "disk", nil)
	first := r.await("disk", 1)[0]
	r.kill("disk")
	if again := r.await("disk", 2)[1]; again == first {
		t.Errorf("got the disk process %s again, want another", again)
	}
	r.await("event process.restarted", 1)
	if got := len(r.lines("start core")); got != 1 {
		t.Errorf("got %d starts of core, want 1", got)
	}
}

// TestEventsKept: what happens while core is down is told when it is up.
func TestEventsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, "crash twice", "disk", func(p *parent) {
		for i := range 3 {
			p.note(bmc.Event{Kind: "test", Message: fmt.Sprint(i)})
		}
	})
	events := r.await("event", 6)
	if want := []string{"test 0", "test 1", "test 2"}; !slices.Equal(events[:3], want) {
		t.Errorf("got %q, want %q first", events, want)
	}
	for _, e := range events[3:5] {
		if !strings.HasPrefix(e, "process.exited") || !strings.Contains(e, "exit status 2 (panic: not yet)") {
			t.Errorf("got the event %q, want the panic", e)
		}
	}
}

// TestPauses: a child that does not start is started again less and less often.
func TestPauses(t *testing.T) {
	t.Parallel()
	r := newRig(t, "crash", "disk", nil)
	var last, pause int64
	for i, line := range r.await("start crash", 5) {
		var pid, at int64
		if _, err := fmt.Sscan(line, &pid, &at); err != nil {
			t.Fatal(err)
		}
		if i > 0 && at-last < pause {
			t.Errorf("start %d came %d ms after the last, want at least %d", i+1, at-last, pause)
		}
		last, pause = at, max(2*pause, firstPause.Milliseconds())
	}
}

// TestLongPauses has no child: the pauses double up to the longest.
func TestLongPauses(t *testing.T) {
	p := newParent(role{}, role{}, slog.New(slog.DiscardHandler))
	defer close(p.done)
	for i := range 12 {
		p.later(p.core)
		p.core.timer.Stop()
		if want := min(firstPause<<i, maxPause); p.core.pause != want {
			t.Errorf("pause %d: got %s, want %s", i+1, p.core.pause, want)
		}
	}
}

func TestSilentChild(t *testing.T) {
	t.Parallel()
	r := newRig(t, "core", "silent", func(p *parent) { p.limits.silent, p.limits.stop = 6*time.Second, 100*time.Millisecond })
	e := r.await("event process.exited", 1)[0]
	if !strings.Contains(e, "signal: killed (it was silent for 6s)") {
		t.Errorf("got the event %q, want why it was killed", e)
	}
	r.await("start silent", 2)
	if got := len(r.lines("start core")); got != 1 {
		t.Errorf("got %d starts of core, want 1: it beats", got)
	}
}

// TestGarbage: a child that says what nobody understands is replaced.
func TestGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t, "core", "garbage", nil)
	if e := r.await("event process.exited", 1)[0]; !strings.Contains(e, "nonsense: unsupported operation") {
		t.Errorf("got the event %q, want what was not understood", e)
	}
	r.await("start garbage", 2)
}

func TestOrderlyEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, "core", "disk", nil)
	r.await("disk", 1)
	if arg := r.end(); arg != "" {
		t.Errorf("got the argument %q, want none", arg)
	}
	for _, c := range r.children() {
		if c.last != "exit status 0" {
			t.Errorf("%s: got %q, want exit status 0", c.role.name, c.last)
		}
	}
}

func TestStubbornChild(t *testing.T) {
	t.Parallel()
	r := newRig(t, "stubborn", "disk", func(p *parent) { p.limits.stop = 100 * time.Millisecond })
	r.await("disk", 1)
	r.end()
	if want := "signal: killed (it did not end within 100ms)"; r.core.last != want {
		t.Errorf("got %q, want %q", r.core.last, want)
	}
}

func TestReboot(t *testing.T) {
	t.Parallel()
	r := newRig(t, "reboot", "disk", nil)
	if got := r.wait(); got != "0 tryboot" {
		t.Errorf("got the argument %q, want the one that core asked for", got)
	}
}

// TestTrial: a system on trial whose core does not start is left.
func TestTrial(t *testing.T) {
	t.Parallel()
	r := newRig(t, "crash", "disk", func(p *parent) { p.onTrial = func() bool { return true } })
	if got := r.wait(); got != "" {
		t.Errorf("got the argument %q, want none", got)
	}
	if got := len(r.lines("start crash")); got != trialFailures {
		t.Errorf("got %d starts, want %d", got, trialFailures)
	}
}

// fed counts.
type fed struct{ n atomic.Int32 }

func (f *fed) Feed() error { f.n.Add(1); return nil }

// TestWatchdog: it is fed while children come and go, and no longer when one
// that was killed stays.
func TestWatchdog(t *testing.T) {
	w := new(fed)
	p := newParent(role{name: "core"}, role{name: "disk"}, slog.New(slog.DiscardHandler))
	p.watchdog = w
	step := func(name string, want int32) {
		t.Helper()
		before := w.n.Load()
		p.check()
		if got := w.n.Load() - before; got != want {
			t.Errorf("%s: fed %d times, want %d", name, got, want)
		}
	}
	step("no child runs", 1)
	p.disk.process = &process{role: &p.disk.role, beat: time.Now()}
	step("one beats", 1)
	p.disk.process.killed = time.Now().Add(-goneLimit + time.Second)
	step("one was killed a while ago", 1)
	p.disk.process.killed = time.Now().Add(-goneLimit)
	step("one does not go", 0)
	p.disk.process = nil
	step("it went after all", 1)
}
