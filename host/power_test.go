package host

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

const ms = time.Millisecond

func TestActions(t *testing.T) {
	tests := []struct {
		name   string
		on     bool
		action Action
		err    error
		states []PowerState // as they change
		power  []time.Duration
		reset  []time.Duration
		nmi    []time.Duration
	}{
		{"on", false, PowerOn, nil, []PowerState{StatePoweringOn, StateOn}, []time.Duration{200 * ms}, nil, nil},
		{"on when on", true, PowerOn, nil, nil, nil, nil, nil},
		{"off when off", false, ForceOff, nil, nil, nil, nil, nil},
		{"soft when off", false, GracefulOff, nil, nil, nil, nil, nil},
		// Released early: 4 s and the LED's debounce, not 15 s.
		{"off", true, ForceOff, nil, []PowerState{StatePoweringOff, StateOff}, []time.Duration{4020 * ms}, nil, nil},
		{"soft", true, GracefulOff, nil, []PowerState{StatePoweringOff, StateOff}, []time.Duration{200 * ms}, nil, nil},
		{"restart", true, GracefulRestart, nil, []PowerState{StatePoweringOff, StateOff, StatePoweringOn, StateOn}, []time.Duration{200 * ms, 200 * ms}, nil, nil},
		{"cycle", true, Cycle, nil, []PowerState{StatePoweringOff, StateOff, StatePoweringOn, StateOn}, []time.Duration{4020 * ms, 200 * ms}, nil, nil},
		{"reset", true, Reset, nil, nil, nil, []time.Duration{500 * ms}, nil},
		{"diag", true, NMI, nil, nil, nil, nil, []time.Duration{200 * ms}},
		{"press when off", false, PressButton, nil, []PowerState{StatePoweringOn, StateOn}, []time.Duration{200 * ms}, nil, nil},
		{"press when on", true, PressButton, nil, nil, []time.Duration{200 * ms}, nil, nil},
		{"cycle when off", false, Cycle, ErrNoPower, nil, nil, nil, nil},
		{"reset when off", false, Reset, ErrNoPower, nil, nil, nil, nil},
		{"diag when off", false, NMI, ErrNoPower, nil, nil, nil, nil},
		{"restart when off", false, GracefulRestart, ErrNoPower, nil, nil, nil, nil},
		{"nonsense", true, Action("explode"), errors.ErrUnsupported, nil, nil, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.boot()
				if tt.on {
					r.must(PowerOn)
					r.btn.forget()
					time.Sleep(time.Minute)
				}
				var states []PowerState
				ctx, cancel := context.WithCancel(t.Context())
				watched := make(chan struct{})
				go func() {
					defer close(watched)
					for old := r.h.Power.Status(); r.h.Power.Wait(ctx, old) == nil; {
						now := r.h.Power.Status()
						if now.State != old.State {
							states = append(states, now.State)
						}
						old = now
					}
				}()
				synctest.Wait()
				if err := r.do(tt.action); !errors.Is(err, tt.err) || tt.err == nil && err != nil {
					t.Errorf("error: got %v, want %v", err, tt.err)
				}
				synctest.Wait()
				cancel()
				<-watched
				if !slices.Equal(states, tt.states) {
					t.Errorf("states: got %v, want %v", states, tt.states)
				}
				for _, line := range []struct {
					name string
					got  []press
					want []time.Duration
				}{{"power", r.btn.all(), tt.power}, {"reset", r.rst.all(), tt.reset}, {"nmi", r.nmi.all(), tt.nmi}} {
					var got []time.Duration
					for _, p := range line.got {
						got = append(got, p.length)
					}
					if !slices.Equal(got, line.want) {
						t.Errorf("%s line: got presses %v, want %v", line.name, got, line.want)
					}
				}
			})
		})
	}
}

func TestOneRequestAtATime(t *testing.T) {
	tests := []struct {
		running Action
		on      bool
		busy    []Action
	}{
		{PowerOn, false, Actions[:]},
		{ForceOff, true, Actions[1:]}, // on is for after it
		{Cycle, true, Actions[:]},
		{Reset, true, []Action{PowerOn, ForceOff, GracefulOff, GracefulRestart, Cycle, Reset, PressButton, NMI}},
		{GracefulOff, true, []Action{PowerOn, GracefulOff, GracefulRestart, PressButton}},
	}
	for _, tt := range tests {
		t.Run(string(tt.running), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.boot()
				if tt.on {
					r.must(PowerOn)
				}
				op := r.begin(tt.running)
				for _, a := range tt.busy {
					r.refused(a, ErrBusy)
				}
				<-op.Done()
				if op.Err() != nil {
					t.Errorf("%s: got %v, want no error", tt.running, op.Err())
				}
			})
		})
	}
}

// A host that takes its time to shut down can be switched off, cycled, reset
// and interrupted meanwhile.
func TestGracefulGivesWay(t *testing.T) {
	for _, tt := range []struct {
		action Action
		end    PowerState
		err    error
	}{
		{ForceOff, StateOff, ErrSuperseded},
		{Cycle, StateOn, ErrSuperseded},
		{Reset, StateOn, ErrSuperseded},
		{NMI, StateOn, ErrNoResponse},
	} {
		t.Run(string(tt.action), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.osTime = 0
				r.boot()
				r.must(PowerOn)
				soft := r.begin(GracefulOff)
				time.Sleep(20 * time.Second)
				r.must(tt.action)
				<-soft.Done()
				if !errors.Is(soft.Err(), tt.err) {
					t.Errorf("graceful off: got %v, want %v", soft.Err(), tt.err)
				}
				r.want(tt.end)
			})
		})
	}
}

// Who sees the host off may ask for the next thing at once, though the
// operation still makes sure that the light does not blink.
func TestRequestsAsTheLightGoesOut(t *testing.T) {
	for _, off := range []Action{ForceOff, GracefulOff} {
		t.Run(string(off), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.osTime = time.Second // also during a force-off's hold
				r.boot()
				r.must(PowerOn)
				first := r.begin(off)
				time.Sleep(1100 * ms)
				if st := r.h.Power.Status(); st.PowerGood || st.State != StatePoweringOff {
					t.Fatalf("status: got %+v, want powering off without power", st)
				}
				if again := r.begin(ForceOff); again != first {
					t.Error("a second off: got another operation, want the one under way")
				}
				on := r.begin(PowerOn)
				r.refused(ForceOff, ErrBusy)
				<-first.Done()
				<-on.Done()
				if first.Err() != nil || on.Err() != nil {
					t.Errorf("got %v, then %v, want both done", first.Err(), on.Err())
				}
				r.want(StateOn)
				time.Sleep(time.Hour)
				r.want(StateOn)
				r.reboot(false)
				r.want(StateOn)
			})
		})
	}
}

// An on right behind a forced off is for after it, while the light is still lit;
// where the host does not go off, it is on, and nothing presses the button.
func TestOnRightAfterForceOff(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run("stuck="+strconv.FormatBool(stuck), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.osTime = 0
				r.boot()
				r.must(PowerOn)
				r.stuckOn = stuck
				off := r.begin(ForceOff)
				on := r.begin(PowerOn)
				if again := r.begin(PowerOn); again != on {
					t.Error("a second on: got another operation, want the one that waits")
				}
				r.refused(Cycle, ErrBusy)
				<-off.Done()
				<-on.Done()
				if (off.Err() != nil) != stuck || on.Err() != nil {
					t.Errorf("got %v, then %v", off.Err(), on.Err())
				}
				want := 3 // presses
				if stuck {
					want = 2
				}
				if got := len(r.btn.all()); got != want {
					t.Errorf("the button was pressed %d times, want %d", got, want)
				}
				time.Sleep(time.Hour)
				r.want(StateOn)
			})
		})
	}
}

// Likewise as the light comes on, while the button is still pressed.
func TestRequestsAsTheLightComesOn(t *testing.T) {
	for _, next := range []struct {
		action Action
		end    PowerState
	}{{ForceOff, StateOff}, {GracefulOff, StateOff}, {Reset, StateOn}, {NMI, StateOn}, {Cycle, StateOn}} {
		t.Run(string(next.action), func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.ledDelay = 10 * ms
				r.boot()
				on := r.begin(PowerOn)
				time.Sleep(100 * ms)
				if again := r.begin(PowerOn); again != on {
					t.Error("a second on: got another operation, want the one under way")
				}
				op := r.begin(next.action)
				<-on.Done()
				<-op.Done()
				if on.Err() != nil || op.Err() != nil {
					t.Errorf("got %v, then %v, want both done", on.Err(), op.Err())
				}
				if got := r.btn.all(); got[0].length != 200*ms {
					t.Errorf("the press: got %v, want the whole 200ms", got[0])
				}
				r.want(next.end)
			})
		})
	}
}

// The host has only just gone out by itself when somebody asks for it.
func TestOnWhileUnsettled(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.turnOff()
		time.Sleep(500 * ms)
		r.want(StatePoweringOff)
		r.refused(Reset, ErrBusy)
		r.must(PowerOn)
		r.want(StateOn)
	})
}

// A reset right after the power came on, while the host is in reset anyway.
func TestResetDuringColdReset(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.reset.set(true)
		r.boot()
		r.must(PowerOn)
		op := r.begin(Reset) // its release ends the reset
		<-op.Done()
		if op.Err() != nil {
			t.Errorf("reset: %v", op.Err())
		}
		if got := r.kinds(0); !slices.Contains(got, "power.restarted") {
			t.Errorf("events: got %v, want power.restarted", got)
		}
	})
}

// The platform reset is active while the power is off: its end at power-on is
// no warm restart, and uses no boot override up.
func TestResetLineOverPowerOff(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.reset.set(true)
		r.led.edge(func(on bool) {
			if on {
				time.AfterFunc(100*ms, func() { r.reset.set(false) })
			} else {
				r.reset.set(true)
			}
		})
		r.boot()
		for range 3 {
			r.must(PowerOn)
			time.Sleep(time.Minute)
			r.must(GracefulOff)
			time.Sleep(time.Minute)
		}
		if got := r.kinds(0); slices.Contains(got, "power.restarted") {
			t.Errorf("events: got %v, want no restart", got)
		}
	})
}

// Once the light is out, a reset of a host that shuts down would do nothing.
func TestNoResetAfterShutdown(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		op := r.begin(GracefulOff)
		time.Sleep(r.osTime + time.Second)
		r.want(StatePoweringOff)
		for _, a := range []Action{Reset, NMI, Cycle, GracefulRestart} {
			r.refused(a, ErrNoPower)
		}
		<-op.Done()
		r.want(StateOff)
	})
}

func TestGracefulTimeout(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0
		r.boot()
		r.must(PowerOn)
		began := time.Now()
		if err := r.do(GracefulOff); !errors.Is(err, ErrNoResponse) {
			t.Errorf("error: got %v, want %v", err, ErrNoResponse)
		}
		if got, want := time.Since(began), r.cfg.GracefulLimit+r.cfg.PowerPulse; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
		r.want(StateOn)
		if st := r.h.Power.Status(); !st.Fault || !st.PowerGood {
			t.Errorf("status: got %+v, want a fault and good power", st)
		}
		r.must(ForceOff)
	})
}

// A hold belongs to its own timer: another line's pulse does not end it.
func TestPulsesAreIndependent(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		r.btn.forget()
		p := r.h.Power
		op := r.begin(ForceOff)
		time.Sleep(time.Second)
		if err := p.nmi.press(t.Context(), 200*ms, nil); err != nil {
			t.Error(err)
		}
		if err := p.reset.press(t.Context(), 500*ms, nil); err != nil {
			t.Error(err)
		}
		<-op.Done()
		if got := r.btn.all(); len(got) != 1 || got[0].length != 4020*ms {
			t.Errorf("power button: got %v, want one hold of 4.02s", got)
		}
	})
}

// Force off of a host whose light never goes out ends, says so, and leaves
// the machine usable.
func TestForceOffStuck(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		r.stuckOn, r.btn.presses = true, nil
		if err := r.do(ForceOff); !errors.Is(err, ErrNoResponse) {
			t.Errorf("error: got %v, want %v", err, ErrNoResponse)
		}
		if got := r.btn.all(); len(got) != 1 || got[0].length != r.cfg.ForceOffHold {
			t.Errorf("power button: got %v, want one hold of %v", got, r.cfg.ForceOffHold)
		}
		r.want(StateOn)
		r.stuckOn = false
		r.led.set(false)
		time.Sleep(time.Minute)
		r.want(StateOff)
		r.must(PowerOn)
	})
}

func TestPowerOnWithoutLight(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.deaf = true
		r.boot()
		op := r.begin(PowerOn)
		r.want(StatePoweringOn)
		<-op.Done()
		if !errors.Is(op.Err(), ErrNoResponse) {
			t.Errorf("error: got %v, want %v", op.Err(), ErrNoResponse)
		}
		r.want(StateOff)
		r.deaf = false
		r.must(PowerOn)
		if r.h.Power.Status().Fault {
			t.Error("fault: still set after a success")
		}
	})
}

// A line that fails is an error of the request, never a success.
func TestLineFails(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		broken := errors.New("wire is broken")
		r.boot()
		r.btn.err = broken
		if err := r.do(PowerOn); !errors.Is(err, broken) {
			t.Errorf("error: got %v, want %v", err, broken)
		}
		r.want(StateOff)
	})
}

func TestAbsentWires(t *testing.T) {
	tests := []struct {
		name string
		cut  func(p *Parts)
		want []Action
	}{
		{"all wired", func(*Parts) {}, Actions[:]},
		{"no LED", func(p *Parts) { p.PowerLED = nil }, []Action{Reset, NMI, PressButton}},
		{"no power button", func(p *Parts) { p.PowerButton = nil }, []Action{Reset, NMI}},
		{"no reset, no NMI", func(p *Parts) { p.ResetButton, p.NMIButton = nil, nil },
			[]Action{PowerOn, ForceOff, GracefulOff, GracefulRestart, Cycle, PressButton}},
		{"nothing", func(p *Parts) { *p = Parts{} }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				tt.cut(&r.parts)
				h := r.boot()
				var got []Action
				for _, a := range Actions {
					if h.Power.Supports(a) {
						got = append(got, a)
					} else {
						r.refused(a, errors.ErrUnsupported)
					}
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("supported: got %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// Without an LED nobody knows the state, and nothing claims to.
func TestPressWithoutLED(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.PowerLED = nil
		r.boot()
		r.want(StateUnknown)
		r.must(PressButton)
		r.want(StateUnknown)
		if got := r.btn.all(); len(got) != 1 || got[0].length != 200*ms {
			t.Errorf("power button: got %v, want one press of 200ms", got)
		}
	})
}

func TestRestartCause(t *testing.T) {
	warm := func(r *rig) { r.reset.set(true); time.Sleep(10 * ms); r.reset.set(false) }
	tests := []struct {
		name string
		do   func(t *testing.T, r *rig)
		want Cause
	}{
		{"power on", func(t *testing.T, r *rig) { r.must(PowerOn) }, CauseCommand},
		{"panel", func(t *testing.T, r *rig) { r.buttonEdge(true); time.Sleep(200 * ms); r.buttonEdge(false) }, CausePowerButton},
		{"nobody", func(t *testing.T, r *rig) { r.led.set(true) }, CauseUnknown},
		{"reset", func(t *testing.T, r *rig) { r.must(PowerOn); time.Sleep(time.Minute); r.must(Reset) }, CauseCommand},
		{"reset by watchdog", func(t *testing.T, r *rig) {
			r.must(PowerOn)
			time.Sleep(time.Minute)
			if _, err := r.h.Power.Request(Reset, CauseWatchdog, Origin{}); err != nil {
				t.Error(err)
			}
		}, CauseWatchdog},
		{"warm restart", func(t *testing.T, r *rig) { r.must(PowerOn); time.Sleep(time.Minute); warm(r) }, CauseSoftReset},
		{"reset button", func(t *testing.T, r *rig) {
			r.must(PowerOn)
			time.Sleep(time.Minute)
			r.panelR.set(true)
			warm(r)
			r.panelR.set(false)
		}, CauseResetButton},
		{"a finger on reset and a command", func(t *testing.T, r *rig) {
			r.must(PowerOn)
			time.Sleep(time.Minute)
			r.panelR.set(true)
			r.panelR.set(false)
			r.must(Reset)
		}, CauseCommand},
		{"an old cause explains nothing", func(t *testing.T, r *rig) {
			r.must(PowerOn)
			r.panelR.set(true)
			r.panelR.set(false)
			time.Sleep(time.Minute)
			warm(r)
		}, CauseSoftReset},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				r.boot()
				tt.do(t, r)
				time.Sleep(5 * time.Second)
				if got := r.h.Power.Status().RestartCause; got != tt.want {
					t.Errorf("cause: got %s, want %s", got, tt.want)
				}
				r.reboot(false)
				if got := r.h.Power.Status().RestartCause; got != tt.want {
					t.Errorf("cause after a restart of the software: got %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// A reset that the host does not follow is no success.
func TestResetIgnored(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		r.rst.edge = nil
		if err := r.do(Reset); !errors.Is(err, ErrNoResponse) {
			t.Errorf("error: got %v, want %v", err, ErrNoResponse)
		}
		r.want(StateOn)
	})
}

func TestRefusedBeforeRun(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.stop()
		r.refused(PowerOn, ErrStopped)
	})
}

// Stopping in the middle of a hold releases the button.
func TestStopReleases(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		r.must(PowerOn)
		op := r.begin(ForceOff)
		time.Sleep(time.Second)
		r.stop()
		<-op.Done()
		if op.Err() == nil {
			t.Error("force off: got success, want an error")
		}
		if r.btn.active {
			t.Error("the power button is still pressed")
		}
	})
}
