package host

import (
	"testing"
	"testing/synctest"
	"time"
)

func (r *rig) wantHours(when string, low, high time.Duration) {
	r.t.Helper()
	synctest.Wait()
	if got, ok := r.h.Power.Hours(); !ok || got < low || got > high {
		r.t.Errorf("%s: got %v, %v; want %v to %v", when, got, ok, low, high)
	}
}

func TestHours(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0
		r.boot()
		time.Sleep(5 * time.Hour)
		r.wantHours("off", 0, 0)
		r.must(PowerOn)
		time.Sleep(10*time.Hour + 30*time.Minute)
		r.wantHours("on", 10*time.Hour+30*time.Minute, 10*time.Hour+30*time.Minute)
		r.crash(false)
		r.wantHours("after a crash", 10*time.Hour, 10*time.Hour)
		time.Sleep(90 * time.Minute)
		r.reboot(false)
		r.wantHours("after an end", 11*time.Hour+30*time.Minute, 11*time.Hour+30*time.Minute)
		wake := r.blink()
		time.Sleep(time.Hour)
		r.wantHours("asleep", 12*time.Hour+30*time.Minute, 12*time.Hour+30*time.Minute)
		wake(true)
		time.Sleep(70 * time.Second)
		r.must(ForceOff)
		on, _ := r.h.Power.Hours()
		r.crash(false)
		r.wantHours("off, after a crash", on, on)
		time.Sleep(time.Hour)
		r.wantHours("off", on, on)
		if on < 12*time.Hour+30*time.Minute || on > 12*time.Hour+32*time.Minute {
			t.Errorf("in all: got %v", on)
		}
	})
}

// The card is written once an hour, and when the host goes off.
func TestHoursWrites(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		h := r.h.Power.hours
		writes, last := 0, time.Duration(0)
		for m := range 600 {
			if m == 30 {
				r.comesOn()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			h.mu.Lock()
			if h.saved != last {
				writes, last = writes+1, h.saved
			}
			h.mu.Unlock()
		}
		if writes != 9 {
			t.Errorf("writes in 9.5 h: got %d, want 9", writes)
		}
	})
}

// A wire that chatters does not wear out the card, and what it counts is not
// lost.
func TestHoursChatter(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		h := r.h.Power.hours
		writes, last := 0, time.Duration(0)
		for range 600 {
			r.comesOn()
			time.Sleep(3 * time.Second)
			r.change(func() { r.on = false })
			r.light(false)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			h.mu.Lock()
			if h.saved != last {
				writes, last = writes+1, h.saved
			}
			h.mu.Unlock()
		}
		if on, _ := r.h.Power.Hours(); writes > int(on/time.Minute) || on-last >= time.Minute {
			t.Errorf("%d writes in %v, of which %v are kept", writes, on, last)
		}
	})
}

func TestHoursWithoutLED(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.PowerLED = nil
		r.boot()
		time.Sleep(time.Hour)
		if got, ok := r.h.Power.Hours(); ok || got != 0 {
			t.Errorf("got %v, %v; want 0, false", got, ok)
		}
	})
}

func TestRestartVia(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0
		r.boot()
		want := func(when string, cause Cause, via string, warm bool) {
			t.Helper()
			synctest.Wait()
			if st := r.h.Power.Status(); st.RestartCause != cause || st.RestartVia != via || st.RestartWarm != warm {
				t.Errorf("%s: got %s via %q, warm %v, want %s via %q, warm %v", when, st.RestartCause, st.RestartVia, st.RestartWarm, cause, via, warm)
			}
		}
		r.must(PowerOn)
		want("on", CauseCommand, "test", false)
		r.crash(false)
		want("after a crash", CauseCommand, "test", false)
		r.resetEdge(true)
		time.Sleep(100 * ms)
		r.resetEdge(false)
		time.Sleep(time.Second)
		want("reset by itself", CauseSoftReset, "", true)
		r.must(Reset)
		want("reset", CauseCommand, "test", true)
		r.panelR.set(true)
		time.Sleep(100 * ms)
		r.panelR.set(false)
		r.resetEdge(true)
		time.Sleep(100 * ms)
		r.resetEdge(false)
		time.Sleep(time.Second)
		want("button", CauseResetButton, "", true)
	})
}
