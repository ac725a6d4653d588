package host

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The host goes off by itself just as it is asked to: a press now would
// switch it on.
func TestNoPressOnAHostThatJustWentOff(t *testing.T) {
	for _, a := range []Action{GracefulOff, ForceOff} {
		inVirtualTime(t, func(t *testing.T, r *rig) {
			r.boot()
			r.must(PowerOn)
			time.Sleep(time.Minute)
			r.btn.forget()
			r.turnOff()
			time.Sleep(5 * ms) // the light is not debounced yet
			r.must(a)
			time.Sleep(time.Minute)
			r.want(StateOff)
			if got := r.btn.all(); len(got) != 0 {
				t.Errorf("%s: got presses %v, want none", a, got)
			}
		})
	}
}

// A light that comes on just before the press is not pressed out again.
func TestNoPressOnAHostThatJustCameOn(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		time.Sleep(time.Minute)
		r.comesOn()
		time.Sleep(5 * ms) // the light is not debounced yet
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.want(StateOn)
		if got := r.btn.all(); len(got) != 0 {
			t.Errorf("got presses %v, want none", got)
		}
	})
}

// The light flickers and somebody asks for power: nothing has happened.
func TestOnDuringFlicker(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		before := r.h.Events.Last()
		r.led.set(false)
		time.Sleep(300 * ms)
		op := r.begin(PowerOn)
		time.Sleep(300 * ms)
		r.led.set(true)
		<-op.Done()
		r.want(StateOn)
		if got := r.kinds(before); op.Err() != nil || !slices.Equal(got, []string{"power.request"}) {
			t.Errorf("got %v with events %v, want only the request", op.Err(), got)
		}
		if got := r.btn.all(); len(got) != 1 {
			t.Errorf("presses: got %v, want the first one only", got)
		}
	})
}

// A host that wakes up by itself just before the press is not pressed.
func TestOnAsItWakes(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		wake := r.blink()
		time.Sleep(10 * time.Second)
		r.want(StateAsleep)
		r.btn.forget()
		wake(true)
		time.Sleep(100 * ms)
		r.must(PowerOn)
		r.want(StateOn)
		if got := r.btn.all(); len(got) != 0 {
			t.Errorf("got presses %v, want none", got)
		}
	})
}

// Nobody presses a button blindly: with the light's wire gone a request fails.
func TestNoBlindPress(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.cfg.OffTime = 5 * time.Second
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.btn.forget()
		op := r.begin(Cycle)
		time.Sleep(5 * time.Second) // in the pause
		r.led.fail(io.ErrUnexpectedEOF)
		<-op.Done()
		if !errors.Is(op.Err(), ErrNoResponse) {
			t.Errorf("cycle: got %v, want %v", op.Err(), ErrNoResponse)
		}
		if got := r.btn.all(); len(got) != 1 {
			t.Errorf("presses: got %v, want the hold only", got)
		}
		r.led.fail(nil)
		time.Sleep(time.Minute)
		r.want(StateOff)
	})
}

// Two presses are apart, so that the header does not take them as one.
func TestPressesApart(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.ledDelay = 10 * ms
		r.boot()
		on := r.begin(PowerOn)
		time.Sleep(100 * ms)
		off := r.begin(GracefulOff)
		<-on.Done()
		<-off.Done()
		got := r.btn.all()
		if len(got) != 2 || got[1].at-(got[0].at+got[0].length) < pressGap {
			t.Errorf("presses: got %v, want two, %v apart", got, pressGap)
		}
	})
}

// A request that has ended drives no line, and a release that fails is tried
// again.
func TestButton(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		edges := 0
		line := &fakeLine{edge: func(bool) { edges++ }}
		b := &button{name: "b", line: line, log: discard}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.press(ended, time.Second, nil); !errors.Is(err, context.Canceled) || edges != 0 {
			t.Errorf("a press without a request: got %v and %d edges", err, edges)
		}
		line.edge = func(active bool) {
			if active {
				line.fail(io.ErrUnexpectedEOF, true)
				time.AfterFunc(500*ms, func() { line.fail(nil, false) })
			}
		}
		if err := b.press(t.Context(), 200*ms, nil); err != nil || line.pressed() {
			t.Errorf("a release that fails for a while: got %v and the line %v", err, line.pressed())
		}
		line.fail(io.ErrUnexpectedEOF, true)
		if err := b.release(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a release that fails for good: got %v", err)
		}
	})
}

// A press that wakes the host is no start of it.
func TestPressWakes(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		wake := r.blink()
		time.Sleep(10*time.Second + 100*ms) // in the dark half
		before := r.h.Events.Last()
		r.btn.follow(func(active bool) {
			if active {
				wake(true)
			}
		})
		r.must(PressButton)
		time.Sleep(time.Minute)
		r.want(StateOn)
		if got := r.kinds(before); !slices.Equal(got, []string{"power.request", "power.awake"}) {
			t.Errorf("events: got %v, want the request and power.awake", got)
		}
	})
}

// One interrupt at a time: the second is not answered with success.
func TestNMIBusy(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		op := r.begin(NMI)
		r.refused(NMI, ErrBusy)
		<-op.Done()
		r.must(NMI)
		if got := len(r.nmi.all()); got != 2 {
			t.Errorf("pulses: got %d, want 2", got)
		}
	})
}

// Only the first power-off of a graceful restart can be superseded, and the
// end of the reset is not waited for.
func TestResetTakesShutdownsPlace(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.begin(GracefulRestart)
		time.Sleep(time.Second)
		r.must(Reset)
		r.want(StateOn)
		// What the restart was to bring about is forgotten.
		time.Sleep(time.Minute)
		r.turnOff()
		time.Sleep(time.Hour)
		r.want(StateOff)
	})
}

// A platform that takes long to come out of reset did go into reset.
func TestLongReset(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		r.rst.follow(func(active bool) {
			if active {
				r.reset.set(true)
				time.AfterFunc(10*time.Second, func() { r.reset.set(false) })
			}
		})
		r.must(Reset)
		time.Sleep(time.Minute)
		if got := r.kinds(0); got[len(got)-1] != "power.restarted" {
			t.Errorf("events: got %v, want power.restarted at the end", got)
		}
	})
}

// A shutdown that turns into sleep ends although another request waits for it.
func TestSleepWithQueuedRequest(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.btn.forget()
		off := r.begin(GracefulOff)
		time.Sleep(time.Second)
		wake := r.blink()
		time.Sleep(200 * ms)
		on := r.begin(PowerOn)
		if again := r.begin(PowerOn); again != on {
			t.Error("a second on: got another operation, want the one that waits")
		}
		r.btn.follow(func(active bool) {
			if active {
				wake(true)
			}
		})
		<-off.Done()
		<-on.Done()
		if !errors.Is(off.Err(), ErrAsleep) || on.Err() != nil {
			t.Errorf("got %v, then %v, want %v and none", off.Err(), on.Err(), ErrAsleep)
		}
		r.want(StateOn)
	})
}

// The pause of a cycle is honest about a host that comes on by itself.
func TestOnByItselfDuringCycle(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.cfg.OffTime = time.Minute
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		op := r.begin(Cycle)
		time.Sleep(10 * time.Second)
		r.want(StateOff)
		r.buttonEdge(true)
		time.Sleep(150 * ms)
		r.buttonEdge(false)
		<-op.Done()
		if took := time.Since(r.h.Power.Status().Since); op.Err() != nil || took > time.Second {
			t.Errorf("got %v, on since %v", op.Err(), took)
		}
		if got := r.btn.all(); len(got) != 2 {
			t.Errorf("presses: got %v, want the first on and the hold", got)
		}
	})
}

// The message of a failure names its reason once.
func TestFailureSaidOnce(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		op := r.begin(ForceOff)
		time.Sleep(time.Second)
		r.acOff()
		<-op.Done()
		if got := strings.Count(op.Err().Error(), ErrNoStandby.Error()); got != 1 {
			t.Errorf("got %q, want the reason once", op.Err())
		}
	})
}

// The system obeys in the last moment: the request has failed, and the
// shutdown is told all the same.
func TestShutdownAtTheLimit(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.change(func() { r.osTime = r.cfg.GracefulLimit - 500*ms })
		before := r.h.Events.Last()
		if err := r.do(GracefulOff); !errors.Is(err, ErrNoResponse) {
			t.Errorf("graceful off: got %v, want %v", err, ErrNoResponse)
		}
		r.want(StatePoweringOff)
		time.Sleep(time.Minute)
		r.want(StateOff)
		if got := r.kinds(before); !slices.Equal(got, []string{"power.request", "power.failed", "power.off"}) {
			t.Errorf("events: got %v", got)
		}
	})
}

// A host that has only begun to sleep is held down long enough to be cut.
func TestForceOffAsItFallsAsleep(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.btn.forget()
		go func() {
			for i := range 15 {
				r.led.set(i%2 == 1)
				time.Sleep(350 * ms)
			}
		}()
		time.Sleep(400 * ms) // lit again: it still counts as on
		op := r.begin(ForceOff)
		<-op.Done()
		if got := r.btn.all(); op.Err() != nil || len(got) != 1 || got[0].length < 4*time.Second {
			t.Errorf("got %v and presses %v, want one hold of more than 4s", op.Err(), got)
		}
	})
}
