package host

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"
)

// A crash at any time neither changes the power nor forgets what was asked
// for. Each case's host has been on for a minute, where it says so.
func TestCrash(t *testing.T) {
	tests := []struct {
		name    string
		off     bool // the host is off at first
		change  func(r *rig)
		do      func(t *testing.T, r *rig) // up to the crash
		want    PowerState
		presses int // in all after do began
		no      string
	}{
		{name: "after the press of a graceful off",
			change: func(r *rig) { r.parts.Standby, r.cfg.Restore = nil, AlwaysOn },
			do:     func(t *testing.T, r *rig) { r.begin(GracefulOff); time.Sleep(time.Second) },
			want:   StateOff, presses: 1, no: "power.lost"},
		{name: "after the press of a graceful restart",
			do:   func(t *testing.T, r *rig) { r.begin(GracefulRestart); time.Sleep(time.Second) },
			want: StateOn, presses: 2, no: "power.lost"},
		{name: "as the light goes out in a cycle",
			do:   func(t *testing.T, r *rig) { r.begin(Cycle); time.Sleep(4005 * ms) },
			want: StateOn, presses: 2},
		{name: "in the hold of a cycle, which the host ignores",
			change: func(r *rig) { r.osTime = 0 },
			do:     func(t *testing.T, r *rig) { r.begin(Cycle); time.Sleep(time.Second) },
			want:   StateOn, presses: 1},
		{name: "before the light of a slow host", off: true,
			change: func(r *rig) { r.ledDelay = 6 * time.Second },
			do:     func(t *testing.T, r *rig) { r.begin(PowerOn); time.Sleep(time.Second) },
			want:   StateOn, presses: 1},
		{name: "before the press", off: true,
			change: func(r *rig) { r.deaf = true },
			do: func(t *testing.T, r *rig) {
				r.begin(PowerOn)
				time.Sleep(time.Second)
				r.change(func() { r.deaf = false })
			},
			want: StateOn, presses: 2},
		{name: "and AC fails before the restart",
			do: func(t *testing.T, r *rig) {
				r.stop()
				r.acOff()
				r.reboot(false)
				time.Sleep(time.Minute)
				r.acOn()
			},
			want: StateOn, presses: 1, no: "power.off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				if tt.change != nil {
					tt.change(r)
				}
				policy := r.cfg.Restore
				r.cfg.Restore = LastState
				r.boot()
				cfg := r.cfg
				cfg.Restore = policy
				if err := r.h.Power.Configure(cfg); err != nil {
					t.Fatal(err)
				}
				r.cfg.Restore = policy
				if !tt.off {
					r.must(PowerOn)
					time.Sleep(time.Minute)
				}
				r.btn.forget()
				tt.do(t, r)
				r.crash(false)
				time.Sleep(10 * time.Minute)
				r.want(tt.want)
				if got := r.btn.all(); len(got) != tt.presses {
					t.Errorf("presses: got %v, want %d", got, tt.presses)
				}
				if got := r.kinds(0); slices.Contains(got, tt.no) {
					t.Errorf("events: got %v, want no %s", got, tt.no)
				}
			})
		})
	}
}

// The software restarts while the host sleeps, at both halves of a blink:
// nothing has happened, and nothing is told.
func TestRestartWhileAsleep(t *testing.T) {
	for _, standby := range []bool{true, false} {
		for _, at := range []time.Duration{10 * time.Second, 10*time.Second + 500*ms} {
			inVirtualTime(t, func(t *testing.T, r *rig) {
				if !standby {
					r.parts.Standby = nil
				}
				r.boot()
				r.must(PowerOn)
				time.Sleep(time.Minute)
				wake := r.blink()
				time.Sleep(at + 100*ms)
				r.want(StateAsleep)
				cause := r.h.Power.Status().RestartCause
				r.crash(false)
				r.want(StateAsleep)
				time.Sleep(10 * time.Minute)
				r.want(StateAsleep)
				if got := r.kinds(0); len(got) != 0 {
					t.Errorf("events: got %v, want none", got)
				}
				if got := r.h.Power.Status().RestartCause; got != cause {
					t.Errorf("cause: got %s, want %s", got, cause)
				}
				wake(true)
				time.Sleep(time.Minute)
				r.want(StateOn)
				if got := r.kinds(0); !slices.Equal(got, []string{"power.awake"}) {
					t.Errorf("events: got %v, want power.awake", got)
				}
			})
		}
	}
}

// A Host whose Run has ended runs again.
func TestRunAgain(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		broken := errors.New("wire is broken")
		r.rst.fail(broken, true)
		h := r.boot()
		time.Sleep(time.Minute)
		r.refused(PowerOn, ErrStopped)
		r.rst.fail(nil, false)
		if err := r.again(nil); !errors.Is(err, broken) {
			t.Errorf("Run: got %v, want %v", err, broken)
		}
		r.must(PowerOn)
		time.Sleep(time.Minute)
		r.reset.set(true) // the reset is under way when Run ends
		op := r.begin(ForceOff)
		time.Sleep(time.Second)
		if err := r.again(nil); err != nil {
			t.Errorf("Run: %v", err)
		}
		<-op.Done()
		if !errors.Is(op.Err(), ErrStopped) {
			t.Errorf("force off: got %v, want %v", op.Err(), ErrStopped)
		}
		before := h.Events.Last()
		r.reset.set(false)
		time.Sleep(time.Minute)
		if got := r.kinds(before); len(got) > 1 { // it may obey the press
			t.Errorf("events: got %v", got)
		}
	})
}

// Who asks while Run ends is refused, or the request ends with Run.
func TestRequestWhileStopping(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		slow := &slowSense{r.standby}
		r.parts.Standby = slow
		r.boot()
		go r.stop()
		time.Sleep(500 * ms) // the wire's Watch has not returned yet
		for _, a := range []Action{PowerOn, NMI} {
			r.refused(a, ErrStopped)
		}
		time.Sleep(time.Minute)
	})
}

// slowSense takes its time to end.
type slowSense struct{ *fakeSense }

func (s *slowSense) Watch(ctx context.Context, changed func(bool)) error {
	err := s.fakeSense.Watch(ctx, changed)
	time.Sleep(time.Second)
	return err
}

// A record that could not be written is written by the next Run; nobody waits
// for a disk that hangs.
func TestSaver(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		s := newSaver(r.h.Events.db)
		s.put(record{Wanted: true}) // and nobody writes
		began := time.Now()
		if err := s.wait(t.Context()); err != nil || time.Since(began) != saveLimit {
			t.Errorf("wait: got %v after %v, want %v", err, time.Since(began), saveLimit)
		}
		s.wake = make(chan struct{}, 1) // the last run took the signal
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.run(ctx, r.h.Power.log); close(done) }()
		if err := s.wait(t.Context()); err != nil || s.written != s.gen {
			t.Errorf("got %v, %d of %d written", err, s.written, s.gen)
		}
		cancel()
		<-done
	})
}

// Whatever the record says, a restart of the software presses nothing on a
// host that is on, and on one that is off only what is owed.
func TestEveryRecord(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.boot()
		for _, on := range []bool{true, false} {
			for _, owed := range []Cause{"", CauseCommand, CauseRestore} {
				for _, going := range []Action{"", ForceOff, GracefulRestart} {
					for flags := range 16 {
						rec := record{BootID: "first", Cause: CauseUnknown, Owed: owed, Going: going,
							Wanted: flags&1 != 0, Lost: flags&2 != 0, Failed: flags&4 != 0, Asleep: flags&8 != 0}
						err := r.again(func() {
							r.change(func() { r.on = on })
							r.led.set(on)
							p := r.h.Power
							p.mu.Lock()
							p.rec, p.causes, p.lastPress = rec, nil, time.Time{}
							p.mu.Unlock()
						})
						if err != nil {
							t.Fatal(err)
						}
						r.btn.forget()
						time.Sleep(time.Hour)
						may := !on && (owed != "" || rec.Lost)
						if got := len(r.btn.all()); got > 1 || got > 0 && !may {
							t.Errorf("on %v, %+v: got %d presses", on, rec, got)
						}
						isOn := false
						r.change(func() { isOn = r.on })
						if may && !rec.Lost && owed == CauseCommand && !rec.Asleep && !isOn {
							t.Errorf("on %v, %+v: the power-on that is owed was not made", on, rec)
						}
						if st := r.h.Power.Status(); (st.State == StateOn) != isOn {
							t.Errorf("on %v, %+v: got state %s", on, rec, st.State)
						}
						if left := r.rec(); left.Lost || left.Owed != "" || left.Going != "" {
							t.Errorf("on %v, %+v: left %+v", on, rec, left)
						}
					}
				}
			}
		}
	})
}

// The record of a run that died, and what the wires say since.
func TestTakeUp(t *testing.T) {
	// begin runs the Host again on rec with the machine on or off.
	begin := func(t *testing.T, r *rig, rec record, on bool) {
		t.Helper()
		err := r.again(func() {
			r.change(func() { r.on = on })
			r.led.set(on)
			rec.Cause = CauseUnknown
			r.h.Power.mu.Lock()
			r.h.Power.rec = rec
			r.h.Power.mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T, r *rig, want bool) {
		t.Helper()
		if got := r.rec(); got.Wanted != want || got.Owed != "" || got.Going != "" || got.Lost {
			t.Errorf("record: got %+v, want wanted %v and nothing to come", got, want)
		}
	}
	for name, f := range map[string]func(t *testing.T, r *rig){
		"a shutdown under way is not wanted on": func(t *testing.T, r *rig) {
			begin(t, r, record{BootID: "first", Going: GracefulOff}, true)
			time.Sleep(time.Minute)
			r.acOff()
			time.Sleep(time.Minute)
			r.acOn()
			time.Sleep(time.Minute)
			check(t, r, false)
			r.want(StateOff)
		},
		"a shutdown that never comes": func(t *testing.T, r *rig) {
			begin(t, r, record{BootID: "first", Going: GracefulRestart, Owed: CauseCommand}, true)
			time.Sleep(10 * time.Minute)
			check(t, r, true)
			r.turnOff()
			time.Sleep(time.Hour)
			r.want(StateOff)
		},
		"what was under way before the board lost its power": func(t *testing.T, r *rig) {
			begin(t, r, record{BootID: "earlier", Going: ForceOff}, true)
			time.Sleep(time.Minute)
			check(t, r, true)
		},
		"asleep and not saved yet": func(t *testing.T, r *rig) {
			begin(t, r, record{BootID: "first", Asleep: true}, false)
			wake := r.blink()
			time.Sleep(time.Minute)
			check(t, r, true)
			wake(true)
		},
		"AC comes back before the light is seen": func(t *testing.T, r *rig) {
			r.led.fail(io.ErrUnexpectedEOF)
			r.standby.set(false)
			begin(t, r, record{BootID: "first", Asleep: true, Wanted: true, Lost: true}, true)
			r.standby.set(true)
			time.Sleep(50 * ms)
			r.led.fail(nil)
			time.Sleep(time.Minute)
			check(t, r, true)
			if got := r.kinds(0); !slices.Contains(got, "power.on") {
				t.Errorf("events: got %v, want power.on: it does not sleep on after that", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, r *rig) { r.boot(); f(t, r) })
		})
	}
}
