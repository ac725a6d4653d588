package host

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAsleep(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		wake := r.blink()
		synctest.Wait()
		time.Sleep(100 * ms)
		r.want(StatePoweringOff) // nobody can tell yet
		time.Sleep(1900 * ms)
		r.want(StateAsleep)
		for range 100 {
			time.Sleep(170 * ms)
			r.want(StateAsleep)
		}
		for _, a := range []Action{GracefulOff, GracefulRestart, Reset, NMI} {
			r.refused(a, ErrAsleep)
		}
		if st := r.h.Power.Status(); !st.PowerGood {
			t.Error("PowerGood: got false, want true: a sleeping host is not off")
		}
		// The button wakes it.
		op := r.begin(PowerOn)
		wake(true)
		<-op.Done()
		if op.Err() != nil {
			t.Errorf("waking: %v", op.Err())
		}
		r.want(StateOn)
	})
}

// A sleeping host is forced off by the whole hold: its light's dark half is
// not the power going.
func TestForceOffAsleep(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.btn.forget()
		stop := r.blink()
		time.Sleep(10 * time.Second)
		r.want(StateAsleep)
		op := r.begin(ForceOff)
		time.Sleep(5 * time.Second)
		stop(false)
		<-op.Done()
		if op.Err() != nil {
			t.Errorf("force off: %v", op.Err())
		}
		r.want(StateOff)
		if got := r.btn.all(); len(got) != 1 || got[0].length < 4*time.Second {
			t.Errorf("power button: got %v, want one hold of more than 4s", got)
		}
		time.Sleep(time.Minute)
		r.want(StateOff)
	})
}

// The press that was to shut the host down sent it to sleep.
func TestGracefulSleeps(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		op := r.begin(GracefulOff)
		for i := range 8 {
			time.Sleep(500 * ms)
			r.led.set(i%2 == 1)
		}
		<-op.Done()
		if !errors.Is(op.Err(), ErrAsleep) {
			t.Errorf("graceful off: got %v, want %v", op.Err(), ErrAsleep)
		}
		r.want(StateAsleep)
	})
}

func TestDebounceAndFlicker(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		before := r.h.Events.Last()
		for range 20 { // spikes shorter than the debounce
			r.led.set(false)
			time.Sleep(10 * ms)
			r.led.set(true)
			time.Sleep(10 * ms)
			r.want(StateOn)
		}
		r.led.set(false) // one flicker
		time.Sleep(300 * ms)
		r.want(StatePoweringOff)
		r.led.set(true)
		time.Sleep(10 * time.Second)
		r.want(StateOn)
		if got := r.kinds(before); len(got) != 0 {
			t.Errorf("events: got %v, want none", got)
		}
	})
}

func TestLEDWireFails(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		r.led.fail(errors.New("gone"))
		r.want(StateUnknown)
		r.refused(ForceOff, ErrStopped)
		r.led.fail(nil)
		time.Sleep(time.Minute)
		r.want(StateOn)
		if got := r.kinds(0); !slices.Contains(got, "wire.failed") || !slices.Contains(got, "wire.restored") {
			t.Errorf("events: got %v, want wire.failed and wire.restored", got)
		}
	})
}

// A host that could not be woken sleeps on.
func TestWakeFails(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		wake := r.blink()
		time.Sleep(10*time.Second + 100*ms)
		before := r.h.Events.Last()
		broken := errors.New("wire is broken")
		r.btn.fail(broken, false)
		if err := r.do(PowerOn); !errors.Is(err, broken) {
			t.Errorf("power on: got %v, want %v", err, broken)
		}
		for range 30 {
			r.want(StateAsleep)
			time.Sleep(170 * ms)
		}
		if got := r.kinds(before); !slices.Equal(got, []string{"power.request", "power.failed"}) {
			t.Errorf("events: got %v, want the request and its failure", got)
		}
		wake(true)
	})
}
