package host

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// dog is a configuration that most tests begin with.
var dog = WatchdogConfig{Use: WatchdogSMSOS, Action: Reset, Timeout: time.Minute}

// watched boots with a host that has been on for a minute.
func watched(t *testing.T, f func(t *testing.T, r *rig, w *Watchdog)) {
	t.Helper()
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.osTime = 0 // it ignores a press
		r.boot()
		r.must(PowerOn)
		time.Sleep(time.Minute)
		f(t, r, r.h.Watchdog)
	})
}

func mustSet(t *testing.T, w *Watchdog, c WatchdogConfig) {
	t.Helper()
	if err := w.Set(c, Origin{Via: "test"}); err != nil {
		t.Fatal(err)
	}
}

func mustStart(t *testing.T, w *Watchdog) {
	t.Helper()
	if err := w.Start(Origin{Via: "test"}); err != nil {
		t.Fatal(err)
	}
}

func TestWatchdogExpires(t *testing.T) {
	for _, tt := range []struct {
		action Action
		change func(c *WatchdogConfig)
		told   []string
		end    PowerState
		cause  Cause
		nmi    int
	}{
		{Reset, nil, []string{`watchdog.expired sms-os "reset"`, "power.request", "power.restarted"}, StateOn, CauseWatchdog, 0},
		{Cycle, nil, []string{`watchdog.expired sms-os "cycle"`, "power.request", "power.off", "power.on"}, StateOn, CauseWatchdog, 0},
		{ForceOff, nil, []string{`watchdog.expired sms-os "off"`, "power.request", "power.off"}, StateOff, CauseCommand, 0},
		{"", nil, []string{`watchdog.expired sms-os ""`}, StateOn, CauseCommand, 0},
		{Reset, func(c *WatchdogConfig) { c.Quiet = true }, []string{"power.request", "power.restarted"}, StateOn, CauseWatchdog, 0},
		{"", func(c *WatchdogConfig) { c.Timeout = 0 }, []string{`watchdog.expired sms-os ""`}, StateOn, CauseCommand, 0},
		{Reset, func(c *WatchdogConfig) { c.PreNMI, c.PreTimeout = true, 10*time.Second },
			[]string{`watchdog.pre-timeout sms-os "reset"`, "power.request", "power.nmi", `watchdog.expired sms-os "reset"`, "power.request", "power.restarted"}, StateOn, CauseWatchdog, 1},
		{"", func(c *WatchdogConfig) { c.PreNMI, c.Quiet = true, true }, []string{"power.request", "power.nmi"}, StateOn, CauseCommand, 1},
	} {
		watched(t, func(t *testing.T, r *rig, w *Watchdog) {
			c := dog
			c.Action = tt.action
			if tt.change != nil {
				tt.change(&c)
			}
			mustSet(t, w, c)
			if got := w.Status(); got.Running || !got.Set || got.Left != c.Timeout {
				t.Errorf("%s: after Set: got %+v", tt.action, got)
			}
			time.Sleep(time.Hour)
			mustStart(t, w)
			before := r.h.Events.Last()
			if c.Timeout > 0 {
				time.Sleep(c.Timeout - time.Second)
				if got := w.Status(); !got.Running || got.Left != time.Second || got.PreTimedOut != (c.PreTimeout > 0) || got.Expired != nil {
					t.Errorf("%s: a second before: got %+v", tt.action, got)
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			got := w.Status()
			if want := map[WatchdogUse]bool{WatchdogSMSOS: true}; got.Running || got.Left != 0 || !maps.Equal(got.Expired, want) || got.Config.Quiet {
				t.Errorf("%s: expired: got %+v", tt.action, got)
			}
			time.Sleep(time.Hour)
			r.wantTold(before, tt.told...)
			r.want(tt.end)
			st := r.h.Power.Status()
			if st.RestartCause != tt.cause || tt.cause == CauseWatchdog && st.RestartVia != "" {
				t.Errorf("%s: cause: got %s by %q, want %s", tt.action, st.RestartCause, st.RestartVia, tt.cause)
			}
			if got := len(r.nmi.all()); got != tt.nmi {
				t.Errorf("%s: NMIs: got %d, want %d", tt.action, got, tt.nmi)
			}
			mustSet(t, w, WatchdogConfig{Use: WatchdogOEM, ClearExpired: []WatchdogUse{WatchdogSMSOS}})
			if got := w.Status().Expired; got != nil {
				t.Errorf("%s: cleared: got %v", tt.action, got)
			}
		})
	}
}

// A timer that is started again in time does nothing and tells nothing.
func TestWatchdogKicked(t *testing.T) {
	watched(t, func(t *testing.T, r *rig, w *Watchdog) {
		before := r.h.Events.Last()
		if err := w.Start(Origin{}); !errors.Is(err, ErrNotSet) {
			t.Errorf("start: got %v, want %v", err, ErrNotSet)
		}
		mustSet(t, w, dog)
		for i := range 200 {
			if i > 100 {
				mustSet(t, w, dog) // some set it anew each time
			}
			mustStart(t, w)
			time.Sleep(59 * time.Second)
		}
		r.wantTold(before, `watchdog.set sms-os "reset"`)
		changed := dog
		changed.Timeout = 2 * time.Minute
		mustSet(t, w, changed)
		mustStart(t, w)
		r.wantTold(before, `watchdog.set sms-os "reset"`, `watchdog.set sms-os "reset"`)
		time.Sleep(90 * time.Second)

		// Set with KeepRunning goes on with the new count.
		changed.KeepRunning, changed.Timeout = true, time.Minute
		mustSet(t, w, changed)
		if got := w.Status(); !got.Running || got.Left != time.Minute {
			t.Errorf("kept running: got %+v", got)
		}
		before = r.h.Events.Last()
		w.Stop(Origin{})
		w.Stop(Origin{})
		r.wantTold(before, `watchdog.set sms-os ""`)
		// It does not start one that is stopped.
		mustSet(t, w, changed)
		if got := w.Status(); got.Running || got.Left != time.Minute {
			t.Errorf("kept stopped: got %+v", got)
		}
		mustStart(t, w)
		time.Sleep(20 * time.Second)
		mustSet(t, w, dog) // which stops it
		before = r.h.Events.Last()
		time.Sleep(time.Hour)
		r.wantTold(before, `watchdog.set sms-os ""`)
	})
}

// Once the interrupt was sent, only Set stops the count.
func TestWatchdogPreTimeoutIsFinal(t *testing.T) {
	watched(t, func(t *testing.T, r *rig, w *Watchdog) {
		c := dog
		c.PreNMI, c.PreTimeout = true, 10*time.Second
		mustSet(t, w, c)
		mustStart(t, w)
		time.Sleep(55 * time.Second)
		mustStart(t, w)
		if got := w.Status(); got.Left != 5*time.Second || !got.PreTimedOut {
			t.Errorf("started after the interrupt: got %+v", got)
		}
		c.KeepRunning = true
		mustSet(t, w, c)
		if got := w.Status(); got.Left != time.Minute || got.PreTimedOut {
			t.Errorf("set after the interrupt: got %+v", got)
		}
		time.Sleep(49 * time.Second)
		mustStart(t, w)
		time.Sleep(49 * time.Second)
		if got := len(r.nmi.all()); got != 1 {
			t.Errorf("NMIs: got %d, want 1", got)
		}
	})
}

// Where the host goes, so does who started the timer.
func TestWatchdogStopsWithHost(t *testing.T) {
	for _, tt := range []struct {
		name string
		use  WatchdogUse
		do   func(r *rig)
		runs bool
	}{
		{"off", WatchdogOSLoad, func(r *rig) { r.must(ForceOff) }, false},
		{"by itself", WatchdogSMSOS, func(r *rig) { r.turnOff() }, false},
		{"AC", WatchdogSMSOS, func(r *rig) { r.acOff() }, false},
		{"cycle", WatchdogBIOSPost, func(r *rig) { r.must(Cycle) }, false},
		{"asleep", WatchdogSMSOS, func(r *rig) { wake := r.blink(); time.Sleep(5 * time.Second); wake(true) }, false},
		{"reset", WatchdogSMSOS, func(r *rig) { r.must(Reset) }, false},
		{"reset by itself", WatchdogOEM, func(r *rig) { r.resetEdge(true); time.Sleep(100 * ms); r.resetEdge(false) }, false},
		{"reset in its start", WatchdogOSLoad, func(r *rig) { r.must(Reset) }, true},
		{"flicker", WatchdogSMSOS, func(r *rig) { r.led.set(false); time.Sleep(300 * ms); r.led.set(true) }, true},
		{"software", WatchdogOSLoad, func(r *rig) {
			if err := r.again(nil); err != nil {
				r.t.Error(err)
			}
		}, false},
		{"LED's wire", WatchdogSMSOS, func(r *rig) { r.led.fail(errors.New("gone")) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			watched(t, func(t *testing.T, r *rig, w *Watchdog) {
				c := dog
				c.Use, c.Quiet = tt.use, true
				mustSet(t, w, c)
				mustStart(t, w)
				tt.do(r)
				time.Sleep(5 * time.Second)
				if got := w.Status(); got.Running != tt.runs {
					t.Errorf("got %+v, want running %v", got, tt.runs)
				}
				if got := r.kinds(0); slices.Contains(got, "watchdog.expired") {
					t.Errorf("events: got %v", got)
				}
			})
		})
	}
}

// A host that is off or asleep is left alone.
func TestWatchdogOfSleepers(t *testing.T) {
	for _, asleep := range []bool{false, true} {
		watched(t, func(t *testing.T, r *rig, w *Watchdog) {
			if asleep {
				wake := r.blink()
				defer wake(false)
				time.Sleep(10 * time.Second)
			} else {
				r.must(ForceOff)
			}
			state := r.state()
			c := dog
			c.Action, c.PreNMI = Cycle, true
			mustSet(t, w, c)
			mustStart(t, w)
			before := r.h.Events.Last()
			time.Sleep(10 * time.Minute)
			r.wantTold(before, `watchdog.pre-timeout sms-os "cycle"`, `watchdog.expired sms-os ""`)
			r.want(state)
		})
	}
}

// An action that is refused is told, and not tried again.
func TestWatchdogRefused(t *testing.T) {
	watched(t, func(t *testing.T, r *rig, w *Watchdog) {
		c := dog
		c.Timeout = 3 * time.Second
		mustSet(t, w, c)
		mustStart(t, w)
		r.change(func() { r.stuckOn = true })
		time.Sleep(2 * time.Second)
		op := r.begin(Cycle)
		before := r.h.Events.Last()
		time.Sleep(2 * time.Second)
		r.wantTold(before, `watchdog.expired sms-os "reset"`, "watchdog.failed")
		<-op.Done()
	})
}

func TestWatchdogSetRefuses(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		r.parts.NMIButton, r.parts.ResetButton = nil, nil
		w := r.boot().Watchdog
		for name, tt := range map[string]struct {
			c    WatchdogConfig
			want error
		}{
			"no use":         {WatchdogConfig{}, ErrInvalid},
			"other use":      {WatchdogConfig{Use: "x"}, ErrInvalid},
			"cleared use":    {WatchdogConfig{Use: WatchdogOEM, ClearExpired: []WatchdogUse{""}}, ErrInvalid},
			"no reset wire":  {WatchdogConfig{Use: WatchdogOEM, Action: Reset}, errors.ErrUnsupported},
			"no such action": {WatchdogConfig{Use: WatchdogOEM, Action: PowerOn}, errors.ErrUnsupported},
			"no NMI wire":    {WatchdogConfig{Use: WatchdogOEM, PreNMI: true}, errors.ErrUnsupported},
			"negative":       {WatchdogConfig{Use: WatchdogOEM, Timeout: -1}, ErrInvalid},
			"fine":           {WatchdogConfig{Use: WatchdogOEM, Action: Cycle, PreTimeout: 1}, nil},
		} {
			if err := w.Set(tt.c, Origin{}); !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", name, err, tt.want)
			}
		}
		if !w.Supports("") || w.Supports(Reset) || !w.Supports(ForceOff) || w.SupportsPreNMI() {
			t.Error("Supports differs from the wires")
		}
	})
	watched(t, func(t *testing.T, r *rig, w *Watchdog) {
		c := dog
		c.PreNMI, c.PreTimeout = true, 61*time.Second
		if err := w.Set(c, Origin{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("interrupt before the start: got %v, want %v", err, ErrInvalid)
		}
	})
}

// Looking at the timer, and starting it again, cost no memory.
func TestWatchdogAllocates(t *testing.T) {
	watched(t, func(t *testing.T, r *rig, w *Watchdog) {
		mustSet(t, w, dog)
		mustStart(t, w)
		from := Origin{Via: "test"}
		if got := testing.AllocsPerRun(100, func() {
			if w.Start(from) != nil || !w.Status().Running {
				t.Error("it does not run")
			}
		}); got != 0 {
			t.Errorf("got %v allocations, want 0", got)
		}
	})
}
