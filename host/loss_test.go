package host

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// AC fails while one request is under way and another waits: both fail, and
// the last one is what AC's return brings about.
func TestACFailsWithQueuedRequest(t *testing.T) {
	for _, tt := range []struct {
		first, next Action
		at          time.Duration
		end         PowerState
	}{{PowerOn, ForceOff, 100 * ms, StateOff}, {GracefulOff, PowerOn, 1100 * ms, StateOn}} {
		inVirtualTime(t, func(t *testing.T, r *rig) {
			r.ledDelay, r.osTime = 10*ms, time.Second
			r.boot()
			if tt.first != PowerOn {
				r.must(PowerOn)
				time.Sleep(time.Minute)
			}
			one := r.begin(tt.first)
			time.Sleep(tt.at)
			two := r.begin(tt.next)
			r.acOff()
			<-one.Done()
			<-two.Done()
			for _, op := range []*Operation{one, two} {
				if !errors.Is(op.Err(), ErrNoStandby) {
					t.Errorf("%s: got %v, want %v", op.action, op.Err(), ErrNoStandby)
				}
			}
			n := len(r.btn.all())
			time.Sleep(time.Minute)
			r.acOn()
			time.Sleep(time.Minute)
			r.want(tt.end)
			if got := len(r.btn.all()) - n; got != map[PowerState]int{StateOn: 1}[tt.end] {
				t.Errorf("presses after AC came back: got %d", got)
			}
		})
	}
}

// The press that switched the host on is not taken for one that shuts it down.
func TestLossAfterPersonsPowerOn(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.Standby = nil
		r.boot()
		r.buttonEdge(true)
		time.Sleep(200 * ms)
		r.buttonEdge(false)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(time.Minute)
		r.acOn()
		time.Sleep(5 * time.Minute)
		r.want(StateOn)
	})
}

// Without a standby wire and without retries, the failure is made good when
// the board starts, and not by a mere restart of its software.
func TestLossWithoutRetry(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.Standby, r.cfg.RestoreRetry = nil, 0
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(time.Minute)
		r.acOn()
		for range 2 {
			r.reboot(false)
			time.Sleep(time.Hour)
			r.want(StateOff)
		}
		if got := r.kinds(0); len(got) != 0 {
			t.Errorf("events after a restart: got %v, want none", got)
		}
		r.reboot(true)
		time.Sleep(time.Minute)
		r.want(StateOn)
	})
}

// The policy is the one at the time of the press.
func TestPolicyChangedDuringDelay(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.cfg.RestoreDelay = time.Minute
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(time.Minute)
		r.acOn()
		time.Sleep(10 * time.Second)
		if err := r.h.Power.SetRestorePolicy(AlwaysOff, Origin{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.want(StateOff)
	})
}

// A dip takes the power of a sleeping host, and of one whose light follows
// late, as well.
func TestDips(t *testing.T) {
	dip := func(r *rig) { r.acOff(); time.Sleep(100 * ms); r.acOn() }
	for name, do := range map[string]func(r *rig){
		"asleep": func(r *rig) {
			wake := r.blink()
			time.Sleep(10 * time.Second)
			wake(false)
			dip(r)
		},
		"late light": func(r *rig) {
			r.standby.set(false)
			time.Sleep(100 * ms)
			r.standby.set(true)
			time.Sleep(200 * ms)
			r.turnOff()
		},
		"flicker": func(r *rig) {
			dip(r)
			for range 2 {
				time.Sleep(700 * ms)
				r.led.set(true)
				time.Sleep(50 * ms)
				r.led.set(false)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.boot()
				r.must(PowerOn)
				time.Sleep(time.Minute)
				do(r)
				time.Sleep(time.Minute)
				r.want(StateOn)
				if st := r.h.Power.Status(); !st.ACFailed {
					t.Errorf("got %+v, want it on after an AC failure", st)
				}
			})
		})
	}
}

// AC power that fails and is back before the light follows: the host came
// through, and what it does later is its own.
func TestCameThrough(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.buttonEdge(true)
		time.Sleep(200 * ms)
		r.buttonEdge(false)
		time.Sleep(3 * time.Second) // on is not saved yet
		r.standby.set(false)
		time.Sleep(100 * ms)
		r.standby.set(true)
		time.Sleep(500 * ms)
		r.must(Reset) // the look at what came of it begins anew
		time.Sleep(time.Minute)
		if rec := r.rec(); rec.Lost || !rec.Wanted {
			t.Errorf("record: got %+v, want not lost and wanted", rec)
		}
		r.turnOff()
		time.Sleep(time.Hour)
		r.want(StateOff)
	})
}

// What is wanted while the host sleeps is that it is on.
func TestSleepIsSaved(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.comesOn()
		time.Sleep(3 * time.Second)
		wake := r.blink()
		time.Sleep(time.Minute)
		r.want(StateAsleep)
		if !r.rec().Wanted {
			t.Error("wanted: got false, want true")
		}
		wake(true)
	})
}

// Who asks a host on that is on means it to be on.
func TestOnWhenOnIsWanted(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.comesOn()
		time.Sleep(time.Second)
		r.must(PowerOn)
		r.acOff()
		time.Sleep(time.Minute)
		r.acOn()
		time.Sleep(time.Minute)
		r.want(StateOn)
	})
}

// A command's failure is told also while a restore is retried quietly.
func TestFailureToldDuringRetries(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.Standby = nil
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(90 * time.Second)
		before := r.h.Events.Last()
		if err := r.do(PowerOn); !errors.Is(err, ErrNoResponse) {
			t.Errorf("power on: got %v, want %v", err, ErrNoResponse)
		}
		if got := r.kinds(before); !slices.Equal(got, []string{"power.request", "power.failed"}) {
			t.Errorf("events: got %v, want the request and its failure", got)
		}
	})
}

// A standby wire that fails while AC is lost: the restore is tried blindly.
func TestStandbyWireFailsDuringLoss(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(time.Minute)
		r.standby.fail(errors.New("gone"))
		time.Sleep(time.Minute)
		r.acOn()
		time.Sleep(5 * time.Minute)
		r.want(StateOn)
	})
}

// A reset that takes a shutdown's place means the host to be on.
func TestResetIsWantedOn(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.begin(GracefulOff)
		time.Sleep(time.Second)
		r.must(Reset)
		r.acOff()
		time.Sleep(time.Minute)
		r.acOn()
		time.Sleep(time.Minute)
		r.want(StateOn)
	})
}

// A press that the system ignored explains no loss after the next start of it.
func TestLossAfterRestart(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.Standby, r.osTime = nil, 0
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.must(PressButton)
		r.must(Reset)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(time.Minute)
		r.acOn()
		time.Sleep(5 * time.Minute)
		r.want(StateOn)
	})
}
