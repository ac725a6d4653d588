package host

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

// However long a wire chatters, the log grows little, and says so.
func TestChatter(t *testing.T) {
	toggle := func(s *fakeSense, d time.Duration) func() {
		level := s.level
		return func() { level = !level; s.set(level); time.Sleep(d) }
	}
	for _, tt := range []struct {
		name string
		step func(r *rig) func()
		must string
	}{
		{"panel", func(r *rig) func() { return toggle(r.panel, 50*ms) }, "panel.power-button"},
		{"panel reset", func(r *rig) func() { return toggle(r.panelR, 50*ms) }, "panel.reset-button"},
		{"standby", func(r *rig) func() { return toggle(r.standby, 100*ms) }, "power.ac-restored"},
		{"reset", func(r *rig) func() { return toggle(r.reset, 600*ms) }, "power.restarted"},
		{"light", func(r *rig) func() { return toggle(r.led, 3*time.Second) }, "power.on"},
		{"light like sleep", func(r *rig) func() {
			n := 0
			return func() {
				if n++; n%8 == 0 {
					time.Sleep(3 * time.Second)
				}
				r.led.set(n%2 == 0)
				time.Sleep(300 * ms)
			}
		}, "power.asleep"},
		{"failing wire", func(r *rig) func() {
			failed := false
			return func() {
				if failed = !failed; failed {
					r.led.fail(io.ErrUnexpectedEOF)
				} else {
					r.led.fail(nil)
				}
				time.Sleep(time.Second)
			}
		}, ""}, // it is tried so seldom that nothing need be left out
	} {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.cfg.Restore = AlwaysOff
				r.boot()
				r.must(PowerOn)
				time.Sleep(time.Minute)
				step, began := tt.step(r), time.Now()
				for time.Since(began) < 20*time.Minute {
					step()
				}
				r.led.fail(nil)
				got := r.h.Events.Since(0, 0)
				if len(got) > 120 {
					t.Errorf("got %d events in 20 minutes", len(got))
				}
				told := slices.ContainsFunc(got, func(e Event) bool {
					return e.Kind == tt.must && strings.Contains(e.Message, "at most once in")
				})
				if !told && tt.must != "" {
					t.Errorf("no event %s says that further ones are left out", tt.must)
				}
			})
		})
	}
}

func TestHush(t *testing.T) {
	var h hush
	now := time.Now()
	said := 0
	for i := range 100 {
		say, more := h.take("a", now)
		if say {
			said++
		}
		if want := i == hushBurst-1; (more != "") != want {
			t.Errorf("event %d: got %q", i, more)
		}
	}
	if say, _ := h.take("b", now); said != hushBurst || !say {
		t.Errorf("got %d said and %v of another sort, want %d and true", said, say, hushBurst)
	}
	now = now.Add(hushEvery)
	if say, more := h.take("a", now); !say || !strings.Contains(more, "80 more") {
		t.Errorf("later: got %v, %q, want 80 more", say, more)
	}
	if say, _ := h.take("a", now.Add(hushEvery-time.Second)); say {
		t.Error("too soon: said")
	}
	now = now.Add(1000 * hushEvery)
	said = 0
	for range 100 {
		if say, _ := h.take("a", now); say {
			said++
		}
	}
	if said != hushBurst {
		t.Errorf("after a long rest: got %d said, want %d", said, hushBurst)
	}
}

// A spike on the standby wire ends no request, and a bounce of a button is
// one press.
func TestSpikes(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		before := r.h.Events.Last()
		op := r.begin(GracefulOff)
		time.Sleep(time.Second)
		r.standby.set(false)
		time.Sleep(10 * ms)
		r.standby.set(true)
		<-op.Done()
		if op.Err() != nil {
			t.Errorf("graceful off: %v", op.Err())
		}
		for range 5 {
			r.panelR.set(true)
			synctest.Wait()
			time.Sleep(2 * ms)
			r.panelR.set(false)
			synctest.Wait()
			time.Sleep(2 * ms)
		}
		if got := r.kinds(before); !slices.Equal(got, []string{"power.request", "power.off", "panel.reset-button"}) {
			t.Errorf("events: got %v", got)
		}
	})
}

// Each start is told with who caused it.
func TestOrigins(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		tests := []struct {
			name string
			do   func()
			kind string
			want Origin
		}{
			{"a finger", func() { r.buttonEdge(true); time.Sleep(150 * ms); r.buttonEdge(false) }, "power.on", panel},
			{"a finger on reset", func() {
				r.panelR.set(true)
				r.reset.set(true)
				time.Sleep(100 * ms)
				r.reset.set(false)
				r.panelR.set(false)
			}, "power.restarted", panel},
			{"the system", func() { r.reset.set(true); time.Sleep(100 * ms); r.reset.set(false) }, "power.restarted", hostItself},
			{"a reset command", func() { r.must(Reset) }, "power.restarted", Origin{Via: "test"}},
			{"off", func() { r.must(ForceOff) }, "power.off", Origin{Via: "test"}},
			{"on", func() { r.must(PowerOn) }, "power.on", Origin{Via: "test"}},
		}
		for _, tt := range tests {
			before := r.h.Events.Last()
			tt.do()
			time.Sleep(time.Minute)
			var got []Origin
			for _, e := range r.h.Events.Since(before, 0) {
				if e.Kind == tt.kind {
					got = append(got, e.Origin)
				}
			}
			if !slices.Equal(got, []Origin{tt.want}) {
				t.Errorf("%s: got %s from %v, want once from %v", tt.name, tt.kind, got, tt.want)
			}
		}
		// A restart without loss of power leaves alone who switched it on.
		if st := r.h.Power.Status(); !st.OnByCommand {
			t.Error("OnByCommand: got false")
		}
		r.reset.set(true)
		time.Sleep(100 * ms)
		r.reset.set(false)
		time.Sleep(time.Minute)
		if st := r.h.Power.Status(); !st.OnByCommand || st.RestartCause != CauseSoftReset {
			t.Errorf("after a soft reset: got %+v", st)
		}
	})
}

// Whatever changes in Status wakes who waits.
func TestWaitWakes(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.HostReset = nil
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		old := r.h.Power.Status()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.AfterFunc(100*ms, func() { r.panelR.set(true) })
		if err := r.h.Power.Wait(ctx, old); err != nil {
			t.Errorf("a new restart cause: Wait got %v", err)
		}
	})
}
