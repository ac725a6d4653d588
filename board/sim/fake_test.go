package sim

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/boardtest"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

func newTestFake(t *testing.T, cfg FakeConfig) *Fake {
	f, err := NewFake(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// rig is a board with all wires.
func rig(t *testing.T, h *Harness, wires board.Wires) boardtest.Rig {
	parts, err := h.Parts(wires)
	if err != nil {
		t.Fatal(err)
	}
	return boardtest.Rig{
		Parts: parts, On: h.On,
		Up: "nitrino demo host is up\r\n> ", Down: "shutting down", AfterNMI: "NMI\r\n", Hang: "hang\r", Echoes: true,
		PressPower: h.PressPowerButton, PressReset: h.PressReset,
		SetStandby: h.SetStandby, IDLight: h.IDLight,
		OSReboot: h.OSReboot, OSShutdown: h.OSShutdown,
	}
}

func TestFakeBoard(t *testing.T) {
	newRig := func(h Header, low bool) func(t *testing.T) boardtest.Rig {
		return func(t *testing.T) boardtest.Rig {
			cfg := DefaultFake()
			cfg.ActiveLow = h.ActiveLow
			wires := Wires()
			if low {
				for _, w := range []*board.Wire{wires.PowerButton, wires.ResetButton, wires.HostReset, wires.PowerLED} {
					w.ActiveLow = true
				}
			}
			r := rig(t, newTestFake(t, cfg).Harness, wires)
			r.BIOS, r.Limit = "simulated BIOS", time.Second
			return r
		}
	}
	t.Run("active high", func(t *testing.T) { boardtest.RunVirtual(t, newRig(Header{}, false)) })
	t.Run("active low", func(t *testing.T) {
		low := []int{LinePowerButton, LineResetButton, LineHostReset, LinePowerLED}
		boardtest.RunVirtual(t, newRig(Header{ActiveLow: low}, true))
	})
}

func TestParts(t *testing.T) {
	for _, c := range []struct {
		name  string
		wires board.Wires
		field string
		err   error
	}{
		{"no wires", board.Wires{}, "", nil},
		{"all wires", Wires(), "", nil},
		{"the machine's own line", board.Wires{PowerButton: &board.Wire{Line: 3}}, "/power_button/line", board.ErrNoLine},
		{"no such input", board.Wires{Standby: &board.Wire{Line: 10}}, "/standby/line", board.ErrNoLine},
		{"output on an input", board.Wires{NMIButton: &board.Wire{Line: LinePowerLED}}, "/nmi_button/line", board.ErrDirection},
		{"input on an output", board.Wires{PowerLED: &board.Wire{Line: LineIDLight}}, "/power_led/line", board.ErrDirection},
		{"chip", board.Wires{PowerLED: &board.Wire{Chip: "x", Line: LinePowerLED}}, "/power_led/chip", board.ErrNoLine},
		{"line twice", board.Wires{PowerLED: &board.Wire{Line: 5}, Standby: &board.Wire{Line: 5}}, "/standby/line", board.ErrLineTwice},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := newTestFake(t, DefaultFake()).Parts(c.wires)
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			var f *settings.FieldError
			if c.err != nil && (!errors.As(err, &f) || f.Pointer != c.field) {
				t.Fatalf("got %v, want field %s", err, c.field)
			}
			if got, want := p.PowerButton != nil, err == nil && c.wires.PowerButton != nil; got != want {
				t.Errorf("power button: got %v, want %v", got, want)
			}
			if got, want := p.ResetButtonPressed != nil, err == nil && c.wires.ResetButtonPressed != nil; got != want {
				t.Errorf("reset button pressed: got %v, want %v", got, want)
			}
		})
	}
	if _, err := NewFake(FakeConfig{Header: Header{ActiveLow: []int{10}}}, slog.New(slog.DiscardHandler)); !errors.Is(err, board.ErrNoLine) {
		t.Errorf("active-low line 10: got %v, want %v", err, board.ErrNoLine)
	}
}

// history follows a sense for the rest of the test.
func history(t *testing.T, s host.Sense) func() []bool {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var levels []bool
	go func() {
		defer close(done)
		if err := s.Watch(ctx, func(l bool) { levels = append(levels, l) }); !errors.Is(err, context.Canceled) {
			t.Errorf("Watch: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() []bool { synctest.Wait(); return slices.Clone(levels) }
}

func TestFakeFaults(t *testing.T) {
	const press = 200 * time.Millisecond
	for _, c := range []struct {
		name  string
		cfg   FakeConfig
		do    func(f *Fake)
		led   []bool
		reset []bool
		on    bool
	}{
		{"a 200 ms press answers at once", FakeConfig{}, func(f *Fake) {
			f.PressPowerButton(press)
		}, []bool{false, true}, []bool{true, false}, true},
		{"a second press while the BIOS runs switches off", FakeConfig{BIOSTime: time.Minute}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			f.PressPowerButton(press)
		}, []bool{false, true, false}, []bool{true, false, true}, false},
		{"an operating system that ignores the button", FakeConfig{IgnoreACPI: true}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			f.PressPowerButton(press)
		}, []bool{false, true}, []bool{true, false}, true},
		{"a hold that started it cuts it", FakeConfig{IgnoreACPI: true}, func(f *Fake) {
			f.PressPowerButton(6 * time.Second)
			time.Sleep(10 * time.Second)
		}, []bool{false, true, false}, []bool{true, false, true}, false},
		{"a hold of just under 4 s does not cut", FakeConfig{IgnoreACPI: true}, func(f *Fake) {
			f.PressPowerButton(4*time.Second - time.Millisecond)
			time.Sleep(10 * time.Second)
		}, []bool{false, true}, []bool{true, false}, true},
		{"two short presses make no hold", FakeConfig{IgnoreACPI: true}, func(f *Fake) {
			f.PressPowerButton(3 * time.Second)
			time.Sleep(3500 * time.Millisecond)
			f.PressPowerButton(3 * time.Second)
			time.Sleep(10 * time.Second)
		}, []bool{false, true}, []bool{true, false}, true},
		{"the power button ignored", FakeConfig{}, func(f *Fake) {
			f.IgnorePowerButton(true)
			f.PressPowerButton(press)
		}, []bool{false}, []bool{true}, false},
		{"a hold ignored", FakeConfig{IgnoreACPI: true}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			f.IgnorePowerButton(true)
			f.PressPowerButton(20 * time.Second)
			time.Sleep(time.Minute)
		}, []bool{false, true}, []bool{true, false}, true},
		{"a reset ignored", FakeConfig{}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			f.IgnoreReset(true)
			f.PressReset(press)
		}, []bool{false, true}, []bool{true, false}, true},
		{"a reset", FakeConfig{}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			f.PressReset(press)
		}, []bool{false, true}, []bool{true, false, true, false}, true},
		{"LED stuck off", FakeConfig{}, func(f *Fake) {
			f.SetLED(LEDStuckOff)
			f.PressPowerButton(press)
		}, []bool{false}, []bool{true, false}, true},
		{"LED stuck on, then repaired", FakeConfig{}, func(f *Fake) {
			f.SetLED(LEDStuckOn)
			time.Sleep(time.Second)
			f.SetLED(LEDWorks)
		}, []bool{false, true, false}, []bool{true}, false},
		{"LED blinks with 1 Hz", FakeConfig{}, func(f *Fake) {
			f.SetLED(LEDBlinking)
			time.Sleep(2400 * time.Millisecond)
			f.SetLED(LEDWorks)
		}, []bool{false, true, false, true, false, true, false}, []bool{true}, false},
		{"LED delay", FakeConfig{Header: Header{LEDDelay: 3 * time.Second}}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(2 * time.Second)
			f.SetStandby(false) // cut before it was ever lit
			time.Sleep(10 * time.Second)
		}, []bool{false}, []bool{true, false, true}, false},
		{"asleep, woken by a press", FakeConfig{}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			if err := f.OSSleep(); err != nil {
				panic(err)
			}
			time.Sleep(700 * time.Millisecond)
			f.PressPowerButton(press)
		}, []bool{false, true, false, true}, []bool{true, false, true, false}, true},
		{"asleep, cut by a hold", FakeConfig{IgnoreACPI: true}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			if err := f.OSSleep(); err != nil {
				panic(err)
			}
			time.Sleep(100 * time.Millisecond)
			f.PressPowerButton(5 * time.Second)
			time.Sleep(10 * time.Second)
		}, []bool{false, true, false}, []bool{true, false, true, false, true}, false},
		{"AC lost while the button is held", FakeConfig{}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			f.PressPowerButton(3 * time.Second)
			time.Sleep(time.Second)
			f.SetStandby(false)
			f.SetStandby(true)
			time.Sleep(10 * time.Second)
		}, []bool{false, true, false}, []bool{true, false, true}, false},
		{"AC back, the BIOS powers on", FakeConfig{Header: Header{PowerOnAfterAC: true}}, func(f *Fake) {
			f.SetStandby(false)
			time.Sleep(time.Second)
			f.SetStandby(true)
		}, []bool{false, true}, []bool{true, false}, true},
		{"pressed again at once after a cut", FakeConfig{IgnoreACPI: true}, func(f *Fake) {
			f.PressPowerButton(press)
			time.Sleep(time.Second)
			f.SetStandby(false)
			f.SetStandby(true)
			f.PressPowerButton(press)
		}, []bool{false, true, false, true}, []bool{true, false, true, false}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newTestFake(t, c.cfg)
				p, err := f.Parts(Wires())
				if err != nil {
					t.Fatal(err)
				}
				led, reset := history(t, p.PowerLED), history(t, p.HostReset)
				synctest.Wait()
				c.do(f)
				time.Sleep(900 * time.Millisecond)
				if got := led(); !slices.Equal(got, c.led) {
					t.Errorf("LED: got %v, want %v", got, c.led)
				}
				if got := reset(); !slices.Equal(got, c.reset) {
					t.Errorf("host reset: got %v, want %v", got, c.reset)
				}
				if got := f.On(); got != c.on {
					t.Errorf("on: got %v, want %v", got, c.on)
				}
			})
		})
	}
}

// A watcher that is slow is told of every level all the same.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSignal(true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan []bool)
		go func() {
			var levels []bool
			err := sense{s, false}.Watch(ctx, func(level bool) {
				time.Sleep(time.Second)
				levels = append(levels, level)
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
			done <- levels
		}()
		synctest.Wait()
		for _, level := range []bool{false, true, true, false, false, true, false} {
			s.set(level)
		}
		time.Sleep(time.Minute)
		cancel()
		if got, want := <-done, []bool{true, false, true, false, true, false}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// A machine that takes its time, or fails, must not confuse the latch.
func TestSlowMachine(t *testing.T) {
	type script struct {
		name     string
		starts   time.Duration
		startErr error
		do       func(h *Harness)
		led      []bool
		calls    []string
	}
	for _, c := range []script{
		{"starts", time.Second, nil, func(h *Harness) { h.PressPowerButton(time.Millisecond) }, []bool{false, true}, []string{"start"}},
		{"fails to start", time.Second, errors.New("no"), func(h *Harness) {
			h.PressPowerButton(time.Millisecond)
			time.Sleep(2 * time.Second)
			h.PressPowerButton(time.Millisecond) // tried again, not taken for an ACPI press
		}, []bool{false}, []string{"start", "start"}},
		{"cut while it starts", 10 * time.Second, nil, func(h *Harness) {
			h.PressPowerButton(5 * time.Second)
		}, []bool{false}, []string{"start", "kill"}},
		{"cut while it starts, and started again", 2 * time.Second, nil, func(h *Harness) {
			h.PressPowerButton(time.Millisecond)
			time.Sleep(time.Second)
			h.SetStandby(false)
			h.SetStandby(true)
			h.PressPowerButton(time.Millisecond)
		}, []bool{false, true}, []string{"start", "kill", "start"}},
		{"cut twice before the first is done", time.Millisecond, nil, func(h *Harness) {
			h.PressPowerButton(time.Millisecond)
			time.Sleep(time.Second)
			for range 2 {
				h.SetStandby(false)
				h.SetStandby(true)
				h.PressPowerButton(time.Millisecond)
				time.Sleep(2 * time.Millisecond)
			}
		}, []bool{false, true, false, true}, []string{"start", "kill", "kill", "start"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &slowMachine{takes: c.starts, err: c.startErr}
				h, err := newHarness(m, Header{}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				defer h.stop()
				m.h = h
				led := history(t, sense{h.led, false})
				synctest.Wait()
				c.do(h)
				time.Sleep(time.Minute)
				if got := led(); !slices.Equal(got, c.led) {
					t.Errorf("LED: got %v, want %v", got, c.led)
				}
				if !slices.Equal(m.calls, c.calls) {
					t.Errorf("calls: got %v, want %v", m.calls, c.calls)
				}
			})
		})
	}
}

// slowMachine takes time to start and a second to be killed.
type slowMachine struct {
	h     *Harness
	takes time.Duration
	err   error
	calls []string
}

func (m *slowMachine) start(ctx context.Context) error {
	m.calls = append(m.calls, "start")
	select {
	case <-time.After(m.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if m.err == nil {
		m.h.started()
	}
	return m.err
}

func (m *slowMachine) kill(context.Context) error {
	m.calls = append(m.calls, "kill")
	time.Sleep(time.Second)
	m.h.stopped()
	return nil
}

func (m *slowMachine) call(name string) error { m.calls = append(m.calls, name); return nil }

func (m *slowMachine) powerButton(context.Context) error { return m.call("power button") }
func (m *slowMachine) wake(context.Context) error        { return m.call("wake") }
func (m *slowMachine) reset(context.Context) error       { return m.call("reset") }
func (m *slowMachine) nmi(context.Context) error         { return m.call("nmi") }
func (m *slowMachine) reboot(context.Context) error      { return m.call("reboot") }
func (m *slowMachine) shutdown(context.Context) error    { return m.call("shutdown") }
func (m *slowMachine) sleep(context.Context) error       { return m.call("sleep") }
