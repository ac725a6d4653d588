package host

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The AC of the host fails and comes back while the board, which has a supply
// of its own, runs on.
func TestRestoreOverACLoss(t *testing.T) {
	tests := []struct {
		policy RestorePolicy
		on     bool
		want   PowerState
		cause  Cause
	}{
		{AlwaysOff, true, StateOff, CauseCommand},
		{AlwaysOff, false, StateOff, CauseUnknown},
		{LastState, true, StateOn, CauseRestore},
		{LastState, false, StateOff, CauseUnknown},
		{AlwaysOn, true, StateOn, CauseAlwaysOn},
		{AlwaysOn, false, StateOn, CauseAlwaysOn},
	}
	for _, tt := range tests {
		t.Run(string(tt.policy)+map[bool]string{true: "/on", false: "/off"}[tt.on], func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.cfg.Restore = tt.policy
				// The board starts with its host; let that first restore pass.
				r.parts.Identity.BootID = ""
				r.boot()
				if tt.on {
					r.must(PowerOn)
				}
				time.Sleep(time.Minute)
				r.acOff()
				time.Sleep(time.Hour) // long past SaveAfter: "off" must not become the state to restore
				r.want(StateOff)
				r.refused(PowerOn, ErrNoStandby)
				if got := r.h.Power.Status().ACFailed; got != tt.on {
					t.Errorf("ACFailed: got %v, want %v", got, tt.on)
				}
				r.acOn()
				time.Sleep(time.Minute)
				r.want(tt.want)
				if got := r.h.Power.Status().RestartCause; got != tt.cause {
					t.Errorf("cause: got %s, want %s", got, tt.cause)
				}
			})
		})
	}
}

// The whole rack loses power: the board starts together with its host.
func TestRestoreAtPowerUp(t *testing.T) {
	tests := []struct {
		policy RestorePolicy
		on     bool
		want   PowerState
	}{
		{AlwaysOff, true, StateOff},
		{LastState, true, StateOn},
		{LastState, false, StateOff},
		{AlwaysOn, false, StateOn},
	}
	for _, standby := range []bool{true, false} {
		for _, tt := range tests {
			name := string(tt.policy) + map[bool]string{true: "/on", false: "/off"}[tt.on] + map[bool]string{true: "/5VSB", false: ""}[standby]
			t.Run(name, func(t *testing.T) {
				inVirtualTime(t, func(t *testing.T, r *rig) {
					if !standby {
						r.parts.Standby = nil
					}
					r.boot()
					if tt.on {
						r.must(PowerOn)
						time.Sleep(time.Minute)
					}
					r.stop()
					r.turnOff()
					r.cfg.Restore = tt.policy
					r.parts.Identity.BootID = "second"
					r.boot()
					time.Sleep(time.Minute)
					r.want(tt.want)
				})
			})
		}
	}
}

// A restart of the software is no power failure: it never changes the power.
func TestSoftwareRestartLeavesPowerAlone(t *testing.T) {
	for _, policy := range []RestorePolicy{AlwaysOff, LastState, AlwaysOn} {
		for _, on := range []bool{true, false} {
			t.Run(string(policy)+map[bool]string{true: "/on", false: "/off"}[on], func(t *testing.T) {
				inVirtualTime(t, func(t *testing.T, r *rig) {
					r.boot()
					if on {
						r.must(PowerOn)
						time.Sleep(time.Minute)
					}
					r.cfg.Restore = policy
					was := r.state()
					presses := len(r.btn.all())
					for range 3 {
						r.reboot(false)
						r.want(was)
						time.Sleep(time.Hour)
						r.want(was)
					}
					if got := len(r.btn.all()); got != presses {
						t.Errorf("the power button was pressed %d times by restarts", got-presses)
					}
				})
			})
		}
	}
}

// Without a standby wire a loss that nobody asked for counts as a failure:
// the host is wanted on, and is pressed on until it comes.
func TestLossWithoutStandbyWire(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.Standby = nil
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		before := r.h.Events.Last()
		r.acOff()
		time.Sleep(10 * time.Minute)
		r.want(StateOff)
		if st := r.h.Power.Status(); !st.ACFailed || !st.Fault {
			t.Errorf("status: got %+v, want ACFailed and Fault", st)
		}
		failures := 0
		for _, k := range r.kinds(before) {
			if k == "power.failed" {
				failures++
			}
		}
		if failures != 1 {
			t.Errorf("power.failed: got %d events in ten minutes, want 1", failures)
		}
		r.acOn()
		time.Sleep(2 * time.Minute)
		r.want(StateOn)
		if got := r.h.Power.Status().RestartCause; got != CauseRestore {
			t.Errorf("cause: got %s, want %s", got, CauseRestore)
		}
	})
}

// The failure is remembered over a restart of the software and of the board.
func TestLossThenRestart(t *testing.T) {
	for _, powerUp := range []bool{false, true} {
		inVirtualTime(t, func(t *testing.T, r *rig) {
			r.boot()
			r.must(PowerOn)
			time.Sleep(time.Minute)
			r.acOff()
			time.Sleep(time.Minute)
			r.reboot(powerUp)
			time.Sleep(time.Minute)
			r.want(StateOff)
			r.acOn()
			time.Sleep(time.Minute)
			r.want(StateOn)
		})
	}
}

// Who switches the host off while it has no power means it to stay off.
func TestOffWhileLost(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(time.Minute)
		r.must(ForceOff)
		r.acOn()
		time.Sleep(time.Hour)
		r.want(StateOff)
	})
}

// The AC fails in the middle of a request: it fails, and what it was to bring
// about is restored.
func TestACFailsDuringRequest(t *testing.T) {
	tests := []struct {
		action Action
		on     bool
		end    PowerState
	}{
		{PowerOn, false, StateOn},
		{Cycle, true, StateOn},
		{ForceOff, true, StateOff},
		{GracefulOff, true, StateOff},
	}
	for _, tt := range tests {
		t.Run(string(tt.action), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.boot()
				if tt.on {
					r.must(PowerOn)
					time.Sleep(time.Minute)
				}
				op := r.begin(tt.action)
				time.Sleep(100 * ms)
				r.acOff()
				<-op.Done()
				if !errors.Is(op.Err(), ErrNoStandby) {
					t.Errorf("error: got %v, want %v", op.Err(), ErrNoStandby)
				}
				time.Sleep(time.Minute)
				r.want(StateOff)
				r.acOn()
				time.Sleep(time.Minute)
				r.want(tt.end)
			})
		})
	}
}

// A power dip shorter than the light's settling is a failure as well.
func TestShortDip(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(100 * ms)
		r.acOn()
		time.Sleep(time.Minute)
		r.want(StateOn)
		if got := r.h.Power.Status().RestartCause; got != CauseRestore {
			t.Errorf("cause: got %s, want %s", got, CauseRestore)
		}
	})
}

func TestRestoreDelay(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.cfg.RestoreDelay, r.cfg.RestoreJitter = 30*time.Second, 20*time.Second
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		var delays []time.Duration
		for range 8 {
			r.acOff()
			time.Sleep(time.Minute)
			r.btn.forget()
			back := time.Since(r.btn.start)
			r.acOn()
			time.Sleep(time.Minute)
			got := r.btn.all()
			if len(got) != 1 {
				t.Fatalf("presses: got %v, want one", got)
			}
			delay := got[0].at - back
			if delay < 30*time.Second || delay >= 50*time.Second {
				t.Errorf("delay: got %v, want 30s to 50s", delay)
			}
			delays = append(delays, delay)
			time.Sleep(time.Minute)
		}
		slices.Sort(delays)
		if len(slices.Compact(delays)) < 2 {
			t.Errorf("delays: got %v, want them to differ", delays)
		}
	})
}

// A command during the delay takes the restore's place.
func TestCommandDuringDelay(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.cfg.RestoreDelay = time.Minute
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.acOff()
		time.Sleep(time.Minute)
		r.acOn()
		time.Sleep(10 * time.Second)
		r.must(ForceOff)
		time.Sleep(time.Hour)
		r.want(StateOff)
	})
}

// What nobody commanded is saved once it lasted: what the host did by itself
// is what last-state restores.
func TestSaveAfter(t *testing.T) {
	tests := []struct {
		name string
		do   func(r *rig) // with the host on and saved as on
		wait time.Duration
		want PowerState
	}{
		{"shut itself down", func(r *rig) { r.turnOff() }, 30 * time.Second, StateOff},
		{"shut itself down just before", func(r *rig) { r.turnOff() }, 5 * time.Second, StateOn},
		{"pressed off by a person", func(r *rig) { r.buttonEdge(true); time.Sleep(200 * ms); r.buttonEdge(false) }, time.Minute, StateOff},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.boot()
				r.must(PowerOn)
				time.Sleep(time.Minute)
				tt.do(r)
				time.Sleep(tt.wait)
				r.acOff()
				time.Sleep(time.Minute)
				r.acOn()
				time.Sleep(time.Minute)
				r.want(tt.want)
			})
		})
	}
}

func TestPersonsPressWithoutStandbyWire(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.Standby = nil
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.buttonEdge(true)
		time.Sleep(200 * ms)
		r.buttonEdge(false)
		time.Sleep(time.Hour)
		r.want(StateOff)
		if got := r.kinds(0); slices.Contains(got, "power.lost") || !slices.Contains(got, "panel.power-button") {
			t.Errorf("events: got %v, want the press and no loss", got)
		}
	})
}

// The software dies in the pause of a cycle: the second half is still owed.
func TestCrashInCycle(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.cfg.OffTime = time.Minute
		r.boot()
		r.must(PowerOn)
		r.begin(Cycle)
		time.Sleep(10 * time.Second)
		r.want(StateOff)
		r.reboot(false)
		time.Sleep(time.Minute)
		r.want(StateOn)
	})
}

func TestSetRestorePolicy(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		var saved RestorePolicy
		r.h.Power.savePolicy = func(p RestorePolicy, _ Origin) error { saved = p; return nil }
		if err := r.h.Power.SetRestorePolicy(AlwaysOn, Origin{}); err != nil || saved != AlwaysOn {
			t.Errorf("got %v and %q saved, want always-on saved", err, saved)
		}
		if err := r.h.Power.SetRestorePolicy("sometimes", Origin{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("nonsense: got %v, want %v", err, ErrInvalid)
		}
		full := errors.New("disk full")
		r.h.Power.savePolicy = func(RestorePolicy, Origin) error { return full }
		if err := r.h.Power.SetRestorePolicy(AlwaysOff, Origin{}); !errors.Is(err, full) {
			t.Errorf("got %v, want %v", err, full)
		}
		if got := r.h.Power.Status().Restore; got != AlwaysOn {
			t.Errorf("policy after a failed save: got %s, want always-on", got)
		}
	})
}

func TestPowerConfigValidate(t *testing.T) {
	if err := DefaultPowerConfig().Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	c := DefaultPowerConfig()
	c.PowerPulse = 10 * time.Second
	if err := c.Validate(); !errors.Is(err, ErrInvalid) {
		t.Errorf("a pulse of 10s: got %v, want %v", err, ErrInvalid)
	}
}

// A damaged record is told and treated as none.
func TestDamagedRecord(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		h := r.boot()
		if err := h.Events.db.PutJSON(powerBucket, powerKey, "nonsense"); err != nil {
			t.Fatal(err)
		}
		r.reboot(true)
		synctest.Wait()
		r.want(StateOff)
		if got := r.kinds(0); !slices.Contains(got, "power.record") {
			t.Errorf("events: got %v, want power.record", got)
		}
	})
}
