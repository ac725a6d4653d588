// Package sim is a board in one process: an ATX machine simulated by the
// lines of its front-panel header. The machine behind the header is either
// Fake, plain Go, or QEMU, a real emulator.
package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// The lines of the simulated header, numbered as emulate numbers the lines of
// the virt board's PL061 (which has no lines from 7 on). Line 3 is not wired.
const (
	LinePowerButton = 0 // outputs, as the board sees them
	LineResetButton = 1
	LineNMIButton   = 2
	LineIDLight     = 4

	LinePowerLED           = 5 // inputs
	LineStandby            = 6
	LineHostReset          = 7
	LinePowerButtonPressed = 8
	LineResetButtonPressed = 9
)

const lines = 10

// Wires are all lines of the header, wired as they are: active high.
func Wires() board.Wires {
	wire := func(line int) *board.Wire { return &board.Wire{Line: line} }
	return board.Wires{
		PowerButton:        wire(LinePowerButton),
		ResetButton:        wire(LineResetButton),
		NMIButton:          wire(LineNMIButton),
		IDLight:            wire(LineIDLight),
		PowerLED:           wire(LinePowerLED),
		Standby:            wire(LineStandby),
		HostReset:          wire(LineHostReset),
		PowerButtonPressed: wire(LinePowerButtonPressed),
		ResetButtonPressed: wire(LineResetButtonPressed),
	}
}

// Header says how the simulated mainboard is built.
type Header struct {
	// ActiveLow lists the lines that are active when low. A wire to one must
	// say so too, as on a real board: else a released button is pressed.
	ActiveLow []int
	// LEDDelay is how long after power-on the power LED comes on.
	LEDDelay time.Duration
	// PowerOnAfterAC makes the machine start when standby power returns, as
	// a BIOS set to "power on" does; else it stays off.
	PowerOnAfterAC bool
}

// Parts gives the machine as seen through wires. It answers a
// *settings.FieldError for a wire to a line that the header has not, or whose
// direction is the other one.
func (h *Harness) Parts(wires board.Wires) (host.Parts, error) {
	if err := wires.Validate(); err != nil {
		return host.Parts{}, err
	}
	p := host.Parts{Console: h.console, Boot: h.boot, Identity: h.identity, Sensors: h.sensors(), Drives: h.drives, Hardware: h.hardware}
	outputs, inputs := board.Places(&p)
	for _, w := range wires.List() {
		if w.Chip != "" {
			return host.Parts{}, &settings.FieldError{Pointer: "/" + w.Name + "/chip", Err: fmt.Errorf("%w: the simulated header has no chip %q", board.ErrNoLine, w.Chip)}
		}
		var err error
		if out := outputs[w.Name]; out != nil {
			*out, err = h.line(w.Wire)
		} else if in := inputs[w.Name]; in != nil {
			*in, err = h.sense(w.Wire)
		} else {
			err = errors.ErrUnsupported
		}
		if err != nil {
			return host.Parts{}, &settings.FieldError{Pointer: "/" + w.Name + "/line", Err: err}
		}
	}
	return p, nil
}

// isOutput reports whether the header has the line as an output.
func isOutput(line int) bool {
	return line == LinePowerButton || line == LineResetButton || line == LineNMIButton || line == LineIDLight
}

func (h *Harness) line(w board.Wire) (host.Line, error) {
	if isOutput(w.Line) {
		return line{h, w.Line, w.ActiveLow != h.low[w.Line]}, nil
	}
	if h.input(w.Line) != nil {
		return nil, fmt.Errorf("%w: %d is an input", board.ErrDirection, w.Line)
	}
	return nil, fmt.Errorf("%w: the simulated header has no line %d", board.ErrNoLine, w.Line)
}

func (h *Harness) sense(w board.Wire) (host.Sense, error) {
	if s := h.input(w.Line); s != nil {
		return sense{s, w.ActiveLow != h.low[w.Line]}, nil
	}
	if isOutput(w.Line) {
		return nil, fmt.Errorf("%w: %d is an output", board.ErrDirection, w.Line)
	}
	return nil, fmt.Errorf("%w: the simulated header has no line %d", board.ErrNoLine, w.Line)
}

// input returns the signal of an input line, nil where it is none.
func (h *Harness) input(line int) *signal {
	switch line {
	case LinePowerLED:
		return h.led
	case LineStandby:
		return h.standbyLine
	case LineHostReset:
		return h.hostReset
	case LinePowerButtonPressed:
		return h.powerSeen
	case LineResetButtonPressed:
		return h.resetSeen
	}
	return nil
}

// A line is an output of the header as driven through a wire.
type line struct {
	h      *Harness
	n      int
	invert bool
}

// Set implements host.Line.
func (l line) Set(active bool) error {
	l.h.drive(l.n, active != l.invert)
	return nil
}
