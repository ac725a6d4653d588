package boardtest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
)

// senses are the inputs that are wired.
func senses(p host.Parts) map[string]host.Sense {
	all := map[string]host.Sense{
		"power LED": p.PowerLED, "standby": p.Standby, "host reset": p.HostReset,
		"power button pressed": p.PowerButtonPressed, "reset button pressed": p.ResetButtonPressed,
	}
	for name, s := range all {
		if s == nil {
			delete(all, name)
		}
	}
	return all
}

func releasedAtStart(t *testing.T, r Rig) {
	led := watching(t, r.Parts.PowerLED)
	time.Sleep(quiet)
	if got, _ := led.seen(); !slices.Equal(got, []bool{false}) {
		t.Errorf("power LED: got %v, want off", got)
	}
	if r.On() {
		t.Error("the host is on, and nobody pressed")
	}
	for name, s := range map[string]host.Sense{"power": r.Parts.PowerButtonPressed, "reset": r.Parts.ResetButtonPressed} {
		if s != nil && level(t, s) {
			t.Errorf("the %s button is pressed", name)
		}
	}
	if r.Parts.Standby != nil && !level(t, r.Parts.Standby) {
		t.Error("there is no standby power")
	}
}

func levelsAndWatches(t *testing.T, r Rig) {
	cause := errors.New("enough")
	for name, s := range senses(r.Parts) {
		first, second := watching(t, s), watching(t, s)
		want := level(t, s)
		first.until(want, r.Limit, name)
		second.until(want, r.Limit, name+", watched again")

		ctx, cancel := context.WithCancelCause(t.Context())
		var calls []bool
		err := s.Watch(ctx, func(active bool) { calls = append(calls, active); cancel(cause) })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Watch ended with %v, want %v", name, err, context.Canceled)
		}
		if !slices.Equal(calls, []bool{want}) {
			t.Errorf("%s: first told %v, want the level %v", name, calls, want)
		}
		late, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := s.Watch(late, func(bool) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: Watch ended with %v, want %v", name, err, context.DeadlineExceeded)
		}
		stop()

		first.cancel()
		<-first.done
		if !errors.Is(first.err, context.Canceled) {
			t.Errorf("%s: Watch ended with %v, want %v", name, first.err, context.Canceled)
		}
	}
	// Every watch that is left is told of every change.
	a, b := watching(t, r.Parts.PowerLED), watching(t, r.Parts.PowerLED)
	pulse(t, r.Parts.PowerButton, press)
	a.until(true, r.Limit, "power LED")
	b.until(true, r.Limit, "power LED, watched again")
	stays(t, a)
	stays(t, b)
}

func pressStarts(t *testing.T, r Rig) {
	led, m := watching(t, r.Parts.PowerLED), open(t, r.Parts.Console)
	pulse(t, r.Parts.PowerButton, press)
	led.until(true, r.Limit, "the power LED after a press")
	if !r.On() {
		t.Error("the LED is lit and the host is off")
	}
	m.expect(r.BIOS, r.Limit)
	m.expect(r.Up, r.Limit)
	led.steady(quiet, "the power LED of a running host")
	if r.Parts.HostReset != nil {
		watching(t, r.Parts.HostReset).until(false, r.Limit, "the platform reset of a running host")
	}
}

func shortPress(t *testing.T, r Rig) {
	if r.Down == "" {
		t.Fatal("the host's operating system does not show its shutdown")
	}
	led, m := running(t, r)
	pulse(t, r.Parts.PowerButton, press)
	m.expect(r.Down, r.Limit) // which a cut would not show
	led.until(false, r.Limit, "the power LED after the shutdown")
	led.steady(quiet, "the power LED after the shutdown")
	if r.On() {
		t.Error("the LED is dark and the host is on")
	}
	pulse(t, r.Parts.PowerButton, press)
	led.until(true, r.Limit, "the power LED at the next start")
}

func holdCuts(t *testing.T, r Rig) {
	if r.Hang == "" {
		t.Fatal("the host's operating system cannot be hung")
	}
	led, m := running(t, r)
	m.write(r.Hang)
	time.Sleep(quiet)
	pulse(t, r.Parts.PowerButton, press)
	led.steady(quiet, "the power LED of a deaf host after a short press")

	set(t, r.Parts.PowerButton, true)
	pressed := time.Now()
	led.until(false, cut+r.Limit, "the power LED during a hold")
	if took := time.Since(pressed); took < cut/2 {
		t.Errorf("the power went after %v of a hold, want about %v", took, cut)
	}
	led.steady(quiet, "the power LED while the hold goes on")
	set(t, r.Parts.PowerButton, false)
	led.steady(quiet, "the power LED after the hold")
	if r.On() {
		t.Error("the LED is dark and the host is on")
	}
	pulse(t, r.Parts.PowerButton, press)
	led.until(true, r.Limit, "the power LED at the next start")
	m.expect(r.Up, r.Limit)
}

func resetRestarts(t *testing.T, r Rig) {
	if r.Parts.ResetButton == nil {
		t.Fatal("no reset wire")
	}
	led, m := running(t, r)
	var platform *watch
	if r.Parts.HostReset != nil {
		platform = watching(t, r.Parts.HostReset)
		platform.until(false, r.Limit, "the platform reset of a running host")
	}
	pulse(t, r.Parts.ResetButton, reset)
	m.expect(r.BIOS, r.Limit)
	m.expect(r.Up, r.Limit)
	stays(t, led)
	if platform != nil {
		platform.until(false, r.Limit, "the platform reset after a restart")
		if got, _ := platform.seen(); !slices.Contains(got, true) {
			t.Errorf("platform reset: got %v, want a pulse", got)
		}
	}
	// A reset of a host that is off does not start it.
	if r.Down == "" {
		return
	}
	pulse(t, r.Parts.PowerButton, press)
	led.until(false, r.Limit, "the power LED after the shutdown")
	pulse(t, r.Parts.ResetButton, reset)
	led.steady(quiet, "the power LED after a reset of a host that is off")
}

func nmiArrives(t *testing.T, r Rig) {
	if r.Parts.NMIButton == nil || r.AfterNMI == "" {
		t.Fatal("no NMI wire, or the host does not show an NMI")
	}
	led, m := running(t, r)
	for range 2 {
		pulse(t, r.Parts.NMIButton, press)
		m.expect(r.AfterNMI, r.Limit)
	}
	// Pressing what is pressed is no second NMI.
	for _, active := range []bool{true, true, false, false} {
		set(t, r.Parts.NMIButton, active)
	}
	m.expect(r.AfterNMI, r.Limit)
	time.Sleep(quiet)
	m.mu.Lock()
	if bytes.Contains(m.text, []byte(r.AfterNMI)) {
		t.Errorf("one press, two NMIs: %q", m.text)
	}
	m.mu.Unlock()
	stays(t, led)
}

func idLight(t *testing.T, r Rig) {
	if r.Parts.IDLight == nil || r.IDLight == nil {
		t.Fatal("no ID light, or nobody can see it")
	}
	for _, lit := range []bool{false, true, true, false, false} {
		set(t, r.Parts.IDLight, lit)
		if got := r.IDLight(); got != lit {
			t.Errorf("got %v, want %v", got, lit)
		}
	}
	if r.On() {
		t.Error("the ID light switched the host on")
	}
}

func setMany(t *testing.T, r Rig) {
	led := watching(t, r.Parts.PowerLED)
	var all sync.WaitGroup
	for _, l := range []host.Line{r.Parts.PowerButton, r.Parts.ResetButton, r.Parts.NMIButton, r.Parts.IDLight} {
		if l == nil {
			continue
		}
		for range 4 {
			all.Go(func() {
				for range 20 {
					if err := l.Set(false); err != nil {
						t.Error(err)
					}
					for _, s := range senses(r.Parts) {
						if _, err := s.Level(); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	all.Wait()
	led.steady(quiet, "the power LED after nothing but releases")

	// Pressing what is pressed is no second press.
	for _, active := range []bool{true, true} {
		set(t, r.Parts.PowerButton, active)
	}
	time.Sleep(press)
	for _, active := range []bool{true, false, false} {
		set(t, r.Parts.PowerButton, active)
	}
	led.until(true, r.Limit, "the power LED after one press")
	led.steady(quiet, "the power LED after one press")
}

func person(t *testing.T, r Rig) {
	if r.PressPower == nil {
		t.Fatal("nobody can press")
	}
	led := watching(t, r.Parts.PowerLED)
	seen := map[string]*watch{}
	for name, s := range map[string]host.Sense{"power": r.Parts.PowerButtonPressed, "reset": r.Parts.ResetButtonPressed} {
		if s != nil {
			seen[name] = watching(t, s)
			seen[name].until(false, r.Limit, name+" button")
		}
	}
	r.PressPower(press)
	led.until(true, r.Limit, "the power LED after a person's press")
	if r.PressReset != nil {
		time.Sleep(quiet)
		r.PressReset(press)
	}
	time.Sleep(quiet)
	for name, w := range seen {
		if got, _ := w.seen(); !slices.Equal(got, []bool{false, true, false}) && (name == "power" || r.PressReset != nil) {
			t.Errorf("%s button: got %v, want one press", name, got)
		}
	}
	// What the board drives is seen on the same wires.
	if w := seen["reset"]; w != nil && r.Parts.ResetButton != nil {
		set(t, r.Parts.ResetButton, true)
		w.until(true, r.Limit, "reset button, driven by the board")
		set(t, r.Parts.ResetButton, false)
		w.until(false, r.Limit, "reset button, released by the board")
	}
	stays(t, led)
}

func standbyLost(t *testing.T, r Rig) {
	if r.SetStandby == nil || r.Parts.Standby == nil {
		t.Fatal("no standby wire, or the AC power cannot be switched")
	}
	led, m := running(t, r)
	standby := watching(t, r.Parts.Standby)
	standby.until(true, r.Limit, "standby")
	r.SetStandby(false)
	standby.until(false, r.Limit, "standby without AC")
	led.until(false, r.Limit, "the power LED without AC")
	pulse(t, r.Parts.PowerButton, press)
	led.steady(quiet, "the power LED after a press without AC")
	r.SetStandby(true)
	standby.until(true, r.Limit, "standby with AC again")
	led.steady(quiet, "the power LED after AC came back")
	if r.On() {
		t.Error("the host started by itself")
	}
	pulse(t, r.Parts.PowerButton, press)
	led.until(true, r.Limit, "the power LED after a press with AC again")
	m.expect(r.Up, r.Limit)
}

func byItself(t *testing.T, r Rig) {
	if r.OSReboot == nil || r.OSShutdown == nil {
		t.Fatal("the host does nothing by itself")
	}
	led, m := running(t, r)
	if err := r.OSReboot(); err != nil {
		t.Fatal(err)
	}
	m.expect(r.BIOS, r.Limit)
	m.expect(r.Up, r.Limit)
	stays(t, led)
	if err := r.OSShutdown(); err != nil {
		t.Fatal(err)
	}
	led.until(false, r.Limit, "the power LED after the host's own shutdown")
	if err := r.OSShutdown(); !errors.Is(err, host.ErrNoPower) {
		t.Errorf("a host that is off shut down: got %v, want %v", err, host.ErrNoPower)
	}
}

func console(t *testing.T, r Rig) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := r.Parts.Console.Open(ended); !errors.Is(err, context.Canceled) {
		if err == nil {
			c.Close()
		}
		t.Errorf("Open with an ended ctx: got %v, want %v", err, context.Canceled)
	}
	first := open(t, r.Parts.Console) // a host that is off is just silent
	first.write("nobody reads this")
	time.Sleep(quiet)
	first.mu.Lock()
	if len(first.text) > 0 {
		t.Errorf("a host that is off sent %q", first.text)
	}
	first.mu.Unlock()
	pulse(t, r.Parts.PowerButton, press)
	first.expect(r.BIOS, r.Limit)
	first.expect(r.Up, r.Limit)
	if r.Echoes {
		first.write("hello")
		first.expect("hello", r.Limit)
	}
	if err := first.conn.Break(t.Context()); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("break: %v", err)
	}
	first.close()
	if n, err := first.conn.Write([]byte("x")); err == nil {
		t.Errorf("wrote %d bytes to a closed port", n)
	}

	second := open(t, r.Parts.Console)
	if r.Echoes {
		second.write(" again\r")
		second.expect("again", r.Limit)
	}
	if r.Parts.ResetButton != nil {
		pulse(t, r.Parts.ResetButton, reset)
		second.expect(r.Up, r.Limit)
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	if bytes.Contains(first.text, []byte("again")) {
		t.Error("a closed port went on reading")
	}
}

func bootSelection(t *testing.T, r Rig) {
	b := r.Parts.Boot
	if b == nil {
		t.Fatal("the board cannot choose what boots")
	}
	targets := b.Targets()
	if len(targets) == 0 || slices.Contains(targets, host.BootDefault) {
		t.Errorf("targets: got %v, want some, without %s", targets, host.BootDefault)
	}
	try := func(when string) {
		t.Helper()
		for _, target := range append(targets, host.BootDefault) {
			for _, mode := range []host.BootMode{host.BootModeDefault, host.BootModeLegacy, host.BootModeUEFI} {
				err := b.SelectBoot(t.Context(), target, mode)
				if mode != host.BootModeDefault && errors.Is(err, errors.ErrUnsupported) {
					continue // few boards can choose the mode
				}
				if err != nil {
					t.Errorf("%s, %s %s: %v", when, target, mode, err)
				}
			}
		}
		if err := b.SelectBoot(t.Context(), "Nonsense", host.BootModeDefault); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s, an unknown target: got %v, want %v", when, err, errors.ErrUnsupported)
		}
	}
	try("off")
	led, _ := running(t, r)
	try("on")
	stays(t, led)
}
