package progress

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLog: a step of a minute leaves a line every ten seconds, no more.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		m := Start(&log, "kernel 6.12", 600, "objects")
		time.Sleep(50 * time.Millisecond) // never at the same instant as the line
		for range 350 {
			m.Add(1)
			time.Sleep(100 * time.Millisecond)
		}
		m.Done(nil)
		m.Done(errors.New("too late"))
		m.Add(1)
		want := "kernel 6.12: 17%, 100 of 600 objects, 10s, about 50s left\n" +
			"kernel 6.12: 33%, 200 of 600 objects, 20s, about 40s left\n" +
			"kernel 6.12: 50%, 300 of 600 objects, 30s, about 30s left\n" +
			"kernel 6.12: done in 35s\n"
		if got := log.String(); got != want {
			t.Errorf("got:\n%swant:\n%s", got, want)
		}
	})
}

func TestQuickStepIsOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		m := Start(&log, "device trees", 7, "")
		for range 7 {
			time.Sleep(50 * time.Millisecond)
			m.Add(1)
		}
		m.Done(nil)
		if got, want := log.String(), "device trees: done in 0.3s\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestFailure is also a step that does not say how far it is.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		m := Start(&log, "card", 0, "B")
		time.Sleep(25 * time.Second)
		m.Done(errors.New("no space"))
		if got, want := log.String(), "card: 10s\ncard: 20s\ncard: failed after 25s\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestTerminal: the line is rewritten ten times a second at most, and nothing
// of a longer one is left behind a shorter one.
func TestTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var screen strings.Builder
		m := start(&screen, true, "card", 1000, "B")
		m.Set(1) // too early for a line
		time.Sleep(990 * time.Millisecond)
		m.Set(100)
		m.Set(101)
		time.Sleep(1100 * time.Millisecond)
		m.Done(nil)
		lines := []string{
			"card: 0%, 0 B of 1.0 kB, 0.0s",
			"card: 10%, 100 B of 1.0 kB, 1.0s",
			"card: 10%, 101 B of 1.0 kB, 2.0s, 50 B/s, about 17s left",
			"card: done in 2.1s",
		}
		want := "\r" + lines[0] + "\r" + lines[1] + "\r" + lines[2] + "\r" + lines[3] +
			strings.Repeat(" ", len(lines[2])-len(lines[3])) + "\n"
		if got := screen.String(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

func TestLine(t *testing.T) {
	for _, tt := range []struct {
		name        string
		total, done int64
		unit        string
		ran         time.Duration
		want        string
	}{
		{"nothing is known yet", 0, 0, "B", 0, "x: 0.0s"},
		{"the end is unknown", 0, 2_500_000, "B", 12 * time.Second, "x: 2.5 MB, 12s, 208.3 kB/s"},
		{"too early to guess", 100, 1, "objects", time.Second, "x: 1%, 1 of 100 objects, 1.0s"},
		{"more than was expected", 100, 120, "objects", time.Minute, "x: 100%, 120 of 100 objects, 1m00s"},
		{"long", 4, 1, "", 90 * time.Minute, "x: 25%, 1h30m, about 4h30m left"},
		{"large", 3_000_000_000, 1_000_000_000, "B", 20 * time.Second, "x: 33%, 1.00 GB of 3.00 GB, 20s, 50.0 MB/s, about 40s left"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Meter{what: "x", unit: tt.unit, total: tt.total, done: tt.done}
			if got := m.line(tt.ran); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
