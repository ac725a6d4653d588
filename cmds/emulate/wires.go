package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nitrino/nitrino/board/sim"
)

// pins is the number of lines of a PL061.
const pins = 8

// wires joins the board, which is now on and now off, to its host: the lines of
// the board's PL061, numbered as board/sim numbers the lines of its header, and
// the serial port. What leads to a board that is off ends in nothing, and a
// board that is off drives nothing.
type wires struct {
	log *slog.Logger

	mu     sync.Mutex
	levels [pins]bool               // outputs as last seen, inputs as last driven
	out    map[int]func(bool) error // to the host
	chip   *qtest                   // nil while the board is off
	path   string                   // of the PL061 in QEMU's object tree
	serial net.Conn                 // the board's port; nil while it is off
	host   io.Writer                // the host's port; nil where there is none
}

func newWires(log *slog.Logger) *wires { return &wires{log: log} }

// isInput says whether the board reads the line.
func isInput(line int) bool {
	return line == sim.LinePowerLED || line == sim.LineStandby || line == sim.LineHostReset
}

func isOutput(line int) bool {
	return line == sim.LinePowerButton || line == sim.LineResetButton || line == sim.LineNMIButton || line == sim.LineIDLight
}

// join plugs a host in. It stays joined until the function that is returned has
// returned, or ctx has ended.
func (w *wires) join(ctx context.Context, h *sim.Harness) (end func(), err error) {
	parts, err := h.Parts(sim.Wires())
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.out = map[int]func(bool) error{
		sim.LinePowerButton: parts.PowerButton.Set,
		sim.LineResetButton: parts.ResetButton.Set,
		sim.LineNMIButton:   parts.NMIButton.Set,
		sim.LineIDLight:     parts.IDLight.Set,
	}
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	for line, watch := range map[int]func(context.Context, func(bool)) error{
		sim.LinePowerLED:  parts.PowerLED.Watch,
		sim.LineStandby:   parts.Standby.Watch,
		sim.LineHostReset: parts.HostReset.Watch,
	} {
		wait.Go(func() {
			if err := watch(ctx, func(level bool) { w.input(line, level) }); ctx.Err() == nil {
				w.log.Error("a wire from the host", "line", line, "error", err)
			}
		})
	}
	wait.Go(func() {
		for ctx.Err() == nil {
			port, err := parts.Console.Open(ctx)
			if err == nil {
				err = w.copyFromHost(ctx, port)
			}
			if ctx.Err() == nil {
				w.log.Warn("the host's serial port", "error", err)
			}
		}
	})
	return func() { cancel(); wait.Wait() }, nil
}

// level answers the control socket.
func (w *wires) level(line int) (bool, error) {
	if !isInput(line) && !isOutput(line) {
		return false, fmt.Errorf("line %d: no wire ends there", line)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.levels[line], nil
}

// input has a level from the host, for the board.
func (w *wires) input(line int, level bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.levels[line] = level
	w.drive(line)
}

// drive is called with mu held.
func (w *wires) drive(line int) {
	if w.chip == nil {
		return
	}
	value := 0
	if w.levels[line] {
		value = 1
	}
	w.log.Debug("to the board", "line", line, "level", value)
	// Nobody waits for the answer: it comes from the reader, which may be
	// waiting for mu.
	if err := w.chip.send(fmt.Sprintf("set_irq_in %s unnamed-gpio-in %d %d", w.path, line, value), nil); err != nil {
		w.log.Debug("the board has just ended", "line", line, "error", err)
	}
}

// output has a level from the board, for the host.
func (w *wires) output(line int, level bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !isOutput(line) || w.levels[line] == level {
		return
	}
	w.log.Debug("from the board", "line", line, "level", level)
	w.levels[line] = level
	if set := w.out[line]; set != nil {
		if err := set(level); err != nil {
			w.log.Error("a wire to the host", "line", line, "error", err)
		}
	}
}

// attach wires a board that starts: its inputs get their levels. chip is nil
// where the board has no PL061.
func (w *wires) attach(chip *qtest, path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.chip, w.path = chip, path
	for line := range pins {
		if isInput(line) {
			w.drive(line)
		}
	}
}

// detach is the end of the board's power: its outputs are released.
func (w *wires) detach() {
	w.mu.Lock()
	w.chip = nil
	w.mu.Unlock()
	for line := range pins {
		w.output(line, false)
	}
}

// stall is how long a port whose other side does not read is waited for. A UART
// would not wait at all.
const stall = 100 * time.Millisecond

// copyFromHost carries the host's serial output to the board until ctx ends or
// the port fails, and closes it.
func (w *wires) copyFromHost(ctx context.Context, port io.ReadWriteCloser) error {
	w.mu.Lock()
	w.host = port
	w.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		_ = port.Close() // makes Read return, whose error is the one that counts
	})
	defer stop()
	defer func() {
		w.mu.Lock()
		w.host = nil
		w.mu.Unlock()
		_ = port.Close() // it has failed, or closes a second time
	}()
	buf := make([]byte, 4096)
	for {
		n, err := port.Read(buf)
		if n > 0 {
			w.toBoard(buf[:n])
		}
		if err != nil {
			return err
		}
	}
}

// toBoard gives the board what the host has sent. What it does not take is lost.
func (w *wires) toBoard(p []byte) {
	w.mu.Lock()
	port := w.serial
	w.mu.Unlock()
	if port == nil {
		return
	}
	if err := port.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return // the board has just ended
	}
	if n, err := port.Write(p); err != nil && !errors.Is(err, net.ErrClosed) {
		w.log.Debug("serial output lost", "bytes", len(p)-n, "error", err)
	}
}

// copyFromBoard carries the board's serial output to the host until the board's
// port ends.
func (w *wires) copyFromBoard(port net.Conn) {
	w.mu.Lock()
	w.serial = port
	w.mu.Unlock()
	buf := make([]byte, 4096)
	for {
		n, err := port.Read(buf)
		w.mu.Lock()
		host := w.host
		w.mu.Unlock()
		if n > 0 && host != nil {
			if _, err := host.Write(buf[:n]); err != nil {
				w.log.Debug("serial input lost", "bytes", n, "error", err)
			}
		}
		if err != nil {
			break
		}
	}
	w.mu.Lock()
	if w.serial == port {
		w.serial = nil
	}
	w.mu.Unlock()
}
