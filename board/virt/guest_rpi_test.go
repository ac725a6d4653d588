//go:build guest

package virt

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/boardtest"
	"github.com/nitrino/nitrino/board/rpi"
	"github.com/nitrino/nitrino/board/sim"
	"github.com/nitrino/nitrino/host"
)

// simModule is the kernel's simulator of GPIO chips (gpio-sim), which comes in
// the archive of test modules.
const simModule = "/lib/modules/nitrino-test/gpio-sim.ko"

// piWires use a Pi's header as its owner might.
func piWires() board.Wires {
	return board.Wires{
		PowerButton:        &board.Wire{Line: 17},
		ResetButton:        &board.Wire{Line: 27},
		NMIButton:          &board.Wire{Line: 22},
		IDLight:            &board.Wire{Line: 23, Chip: "pinctrl-bcm2711"},
		PowerLED:           &board.Wire{Line: 24, ActiveLow: true},
		Standby:            &board.Wire{Line: 25},
		HostReset:          &board.Wire{Line: 10, ActiveLow: true},
		PowerButtonPressed: &board.Wire{Line: 4, ActiveLow: true},
		ResetButtonPressed: &board.Wire{Line: 5},
	}
}

// TestRaspberryPi runs the suite on board/rpi: its header is a simulated chip
// of the kernel, its host the fake in this process, at the far side of the
// simulated lines and of a pseudo terminal.
func TestRaspberryPi(t *testing.T) {
	lines := simulate(t, "pinctrl-bcm2711", 54)
	boardtest.Run(t, func(t *testing.T) boardtest.Rig {
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		fake, err := sim.NewFake(sim.DefaultFake(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := fake.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		far, err := fake.Parts(sim.Wires())
		if err != nil {
			t.Fatal(err)
		}
		b := rpi.New(log)
		if err := b.Check(piWires()); err != nil {
			t.Fatal(err)
		}
		p, failed, release := b.Open(piWires(), board.Serial{Port: joinConsole(t, far.Console), Baud: 115200})
		t.Cleanup(func() {
			if err := release(); err != nil {
				t.Error(err)
			}
		})
		for _, err := range failed {
			t.Fatal(err)
		}

		w := piWires()
		for _, out := range []struct {
			near *host.Line
			far  host.Line
			wire *board.Wire
		}{
			{&p.PowerButton, far.PowerButton, w.PowerButton},
			{&p.ResetButton, far.ResetButton, w.ResetButton},
			{&p.NMIButton, far.NMIButton, w.NMIButton},
			{&p.IDLight, far.IDLight, w.IDLight},
		} {
			*out.near = tap{*out.near, lines, out.wire.Line, out.far}
		}
		for _, in := range []struct {
			near, far host.Sense
			wire      *board.Wire
		}{
			{p.PowerLED, far.PowerLED, w.PowerLED},
			{p.Standby, far.Standby, w.Standby},
			{p.HostReset, far.HostReset, w.HostReset},
			{p.PowerButtonPressed, far.PowerButtonPressed, w.PowerButtonPressed},
			{p.ResetButtonPressed, far.ResetButtonPressed, w.ResetButtonPressed},
		} {
			drive(t, lines, in.wire, in.far)
			until(t, "a line with its level", func() bool {
				near, err := in.near.Level()
				far, ferr := in.far.Level()
				return err == nil && ferr == nil && near == far
			})
		}
		return boardtest.Rig{
			Parts: p, Limit: guestLimit, On: fake.On,
			BIOS: "simulated BIOS", Up: "nitrino demo host is up\r\n> ", Down: "shutting down", AfterNMI: "NMI\r\n",
			Hang: "hang\r", Echoes: true,
			PressPower: fake.PressPowerButton, PressReset: fake.PressReset,
			SetStandby: fake.SetStandby, IDLight: fake.IDLight,
			OSReboot: fake.OSReboot, OSShutdown: fake.OSShutdown,
		}
	}, "boot selection")
}

// simLines is the folder in sysfs of a simulated chip: its lines as the world
// outside sees them.
type simLines string

// level reads the level on a line.
func (s simLines) level(line int) (bool, error) {
	text, err := os.ReadFile(filepath.Join(string(s), fmt.Sprintf("sim_gpio%d/value", line)))
	return strings.TrimSpace(string(text)) == "1", err
}

// pull gives an input its level.
func (s simLines) pull(line int, high bool) error {
	word := map[bool]string{false: "pull-down", true: "pull-up"}[high]
	return os.WriteFile(filepath.Join(string(s), fmt.Sprintf("sim_gpio%d/pull", line)), []byte(word), 0)
}

// simulate makes a chip with that label (the kernel's
// Documentation/admin-guide/gpio/gpio-sim.rst).
func simulate(t *testing.T, label string, lines int) simLines {
	t.Helper()
	module, err := os.Open(simModule)
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	if err := unix.FinitModule(int(module.Fd()), "", 0); err != nil {
		t.Fatalf("%s: %v", simModule, err)
	}
	if err := unix.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	chip := "/sys/kernel/config/gpio-sim/chip"
	if err := os.MkdirAll(chip+"/bank0", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ name, text string }{
		{"bank0/num_lines", fmt.Sprint(lines)}, {"bank0/label", label}, {"live", "1"},
	} {
		if err := os.WriteFile(filepath.Join(chip, f.name), []byte(f.text), 0); err != nil {
			t.Fatal(err)
		}
	}
	device, err := os.ReadFile(chip + "/dev_name")
	if err != nil {
		t.Fatal(err)
	}
	name, err := os.ReadFile(chip + "/bank0/chip_name")
	if err != nil {
		t.Fatal(err)
	}
	return simLines(filepath.Join("/sys/devices/platform", strings.TrimSpace(string(device)), strings.TrimSpace(string(name))))
}

// A tap is an output of the board. What its line has after each Set goes to the
// host.
type tap struct {
	near  host.Line
	lines simLines
	line  int
	far   host.Line
}

func (o tap) Set(active bool) error {
	if err := o.near.Set(active); err != nil {
		return err
	}
	level, err := o.lines.level(o.line)
	if err != nil {
		return err
	}
	return o.far.Set(level)
}

// drive gives a line the level that the host's has, until the test ends.
func drive(t *testing.T, lines simLines, w *board.Wire, far host.Sense) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		_ = far.Watch(ctx, func(active bool) { // it ends with ctx
			if err := lines.pull(w.Line, active != w.ActiveLow); err != nil {
				t.Error(err)
			}
		})
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// joinConsole joins the host's console to a pseudo terminal and returns the path
// of the board's end.
func joinConsole(t *testing.T, p host.Port) string {
	t.Helper()
	if err := os.MkdirAll("/dev/pts", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", 0, ""); err != nil && err != unix.EBUSY {
		t.Fatal(err)
	}
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = raw.Control(func(fd uintptr) {
		if err := unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			t.Error(err)
		}
		// The mode is that of the pair: nothing is echoed from the start.
		mode, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
		if err := unix.IoctlSetTermios(int(fd), unix.TCSETS, mode); err != nil {
			t.Error(err)
		}
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/dev/pts/%d", n)
	// As long as this is open, the pair does not hang up between two users.
	held, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { _, _ = io.Copy(far, conn) }) // both end with the test
	done.Go(func() { _, _ = io.Copy(conn, far) })
	t.Cleanup(func() {
		conn.Close()
		far.Close()
		held.Close()
		done.Wait()
	})
	return path
}
