package sim

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
)

// FakeConfig says how a Fake behaves. Every zero time means at once.
type FakeConfig struct {
	Header
	// BIOSTime is how long after power-on or reset the firmware's banner
	// comes, BootTime how long after that the operating system is up.
	BIOSTime, BootTime time.Duration
	// ShutdownTime is how long the operating system takes to shut down.
	ShutdownTime time.Duration
	// IgnoreACPI: the operating system does not obey the power button.
	IgnoreACPI bool
	// BootID names this power-up of the board; empty: a random one.
	BootID string
}

// DefaultFake is a machine that answers every power command within a second.
func DefaultFake() FakeConfig {
	return FakeConfig{
		Header:       Header{LEDDelay: 20 * time.Millisecond},
		BIOSTime:     50 * time.Millisecond,
		BootTime:     200 * time.Millisecond,
		ShutdownTime: 300 * time.Millisecond,
	}
}

// Fake is a machine in plain Go: a BIOS that prints a banner on the serial
// console, and an operating system that echoes, knows the words of the demo
// disk (reboot, poweroff, sleep, hang) and obeys the power button. It has no
// goroutine but the panel's and uses only package time.
type Fake struct {
	*Harness
	cfg FakeConfig
	con *console
	cd  *FakeDrive
	usb *FakeDrive

	mu     sync.Mutex
	on     bool
	osUp   bool
	asleep bool
	deaf   bool          // hung: neither ACPI nor the keyboard acts
	life   chan struct{} // this boot; a timer of an earlier one does nothing
	typed  []byte
	target host.BootTarget
}

// NewFake makes a machine that is off. Close it in the end.
func NewFake(cfg FakeConfig, log *slog.Logger) (*Fake, error) {
	f := &Fake{cfg: cfg, target: host.BootDefault}
	f.con = newConsole(f.typing, f.serialBreak)
	if cfg.BootID == "" {
		cfg.BootID = rand.Text()
	}
	var err error
	f.Harness, err = newHarness(f, cfg.Header, log)
	if err != nil {
		return nil, err
	}
	f.console, f.boot = f.con, f
	f.identity = host.Identity{Manufacturer: "nitrino", Model: "Simulated board, plain host", BootID: cfg.BootID}
	f.cd, f.usb = &FakeDrive{kind: host.MediumCD}, &FakeDrive{kind: host.MediumDisk}
	f.drives = driveParts(f.cd, f.usb)
	f.hardware = &host.Hardware{Manufacturer: "nitrino", Model: "Simulated host", ProcessorCount: 1, CoreCount: 1, ThreadCount: 1}
	return f, nil
}

// Close ends the machine. ctx is not needed: nothing has to be waited for.
func (f *Fake) Close(context.Context) error {
	f.stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end()
	return nil
}

// Targets implements host.BootSelector.
func (f *Fake) Targets() []host.BootTarget {
	return []host.BootTarget{host.BootPXE, host.BootDisk, host.BootCD, host.BootUSB}
}

// SelectBoot implements host.BootSelector. The console shows what is booted.
func (f *Fake) SelectBoot(ctx context.Context, t host.BootTarget, m host.BootMode) error {
	if err := checkBoot(t, m, true); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.target = t
	return ctx.Err()
}

// end makes this boot's timers do nothing. It is called with mu held.
func (f *Fake) end() {
	f.on, f.osUp, f.asleep, f.deaf, f.typed = false, false, false, false, nil
	if f.life != nil {
		close(f.life)
		f.life = nil
	}
}

// later calls do with mu held after d, if this boot still lasts then. It is
// called with mu held.
func (f *Fake) later(d time.Duration, do func()) {
	life := f.life
	time.AfterFunc(d, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		select {
		case <-life:
		default:
			do()
		}
	})
}

// bringUp runs the BIOS and boots. It is called with mu held.
func (f *Fake) bringUp() {
	f.end()
	f.on, f.life = true, make(chan struct{})
	f.later(f.cfg.BIOSTime, func() {
		from := map[host.BootTarget]string{host.BootPXE: "network", host.BootCD: "DVD/CD", host.BootUSB: "USB"}[f.target]
		if from == "" {
			from = "hard disk"
		}
		f.con.output(fmt.Appendf(nil, "\r\nnitrino simulated BIOS\r\n\r\nBooting from %s...\r\n", from))
		f.later(f.cfg.BootTime, func() {
			f.osUp = true
			f.con.output([]byte("nitrino demo host is up\r\n> "))
		})
	})
}

func (f *Fake) start(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bringUp()
	f.started()
	return nil
}

// powerButton is the ACPI button: the operating system shuts down, and while
// there is none the BIOS cuts the power, as BIOSes do.
func (f *Fake) powerButton(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.on || f.deaf:
	case !f.osUp:
		f.end()
		f.stopped()
	case !f.cfg.IgnoreACPI:
		f.goDown()
	}
	return nil
}

// goDown shuts the operating system down. It is called with mu held.
func (f *Fake) goDown() {
	f.deaf = true // a second press changes nothing
	f.con.output([]byte("\r\nshutting down\r\n"))
	f.later(f.cfg.ShutdownTime, func() {
		f.end()
		f.stopped()
	})
}

func (f *Fake) wake(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asleep {
		f.asleep = false
		f.sleeps(false)
		f.con.output([]byte("\r\n> "))
	}
	return nil
}

func (f *Fake) reset(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.on {
		f.bringUp()
		f.restarted()
	}
	return nil
}

func (f *Fake) nmi(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.osUp && !f.asleep {
		f.con.output([]byte("\r\nNMI\r\n"))
	}
	return nil
}

func (f *Fake) kill(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end()
	f.stopped()
	return nil
}

func (f *Fake) reboot(ctx context.Context) error {
	if !f.isOn() {
		return host.ErrNoPower
	}
	return f.reset(ctx)
}

func (f *Fake) shutdown(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on {
		return host.ErrNoPower
	}
	f.goDown()
	return nil
}

func (f *Fake) sleep(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on {
		return host.ErrNoPower
	}
	f.asleep = true
	f.sleeps(true)
	return nil
}

func (f *Fake) isOn() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.on
}

// typing takes input from the console. Without an operating system nobody
// reads it.
func (f *Fake) typing(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range p {
		if !f.osUp || f.deaf || f.asleep {
			return nil
		}
		switch {
		case b == '\r':
			line := string(f.typed)
			f.typed = nil
			f.con.output([]byte("\r\n"))
			f.command(line)
		case b >= ' ' && len(f.typed) < 256:
			f.typed = append(f.typed, b)
			f.con.output([]byte{b})
		}
	}
	return nil
}

// command is called with mu held.
func (f *Fake) command(line string) {
	switch line {
	case "reboot":
		f.bringUp()
		f.restarted()
		return
	case "poweroff":
		f.goDown()
		return
	case "sleep":
		f.asleep = true
		f.sleeps(true)
		return
	case "hang":
		f.deaf = true
		return
	}
	f.con.output([]byte("> "))
}

func (f *Fake) serialBreak(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.osUp && !f.deaf && !f.asleep {
		f.con.output([]byte("\r\nBREAK\r\n> "))
	}
	return nil
}
