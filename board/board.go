// Package board says which wires join the board to its host. The packages
// below it (board/rpi, board/virt, board/sim) turn them into host.Parts.
package board

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/internal/settings"
)

// MaxLine is the highest line number that a GPIO chip can have here.
const MaxLine = 1023

// A Wire is one line of a GPIO chip.
type Wire struct {
	// Chip is the chip's label; empty: the board's own chip.
	Chip string `json:"chip,omitempty"`
	// Line is the line's number (offset) on the chip, from 0.
	Line int `json:"line"`
	// ActiveLow: the wire is active when its level is low.
	ActiveLow bool `json:"active_low,omitempty"`
}

// Wires is the section "wires" of the settings. A nil wire is not there, and
// what needs it is not offered. The meanings are those of host.Parts.
type Wires struct {
	PowerButton *Wire `json:"power_button,omitempty"`
	ResetButton *Wire `json:"reset_button,omitempty"`
	NMIButton   *Wire `json:"nmi_button,omitempty"`
	IDLight     *Wire `json:"id_light,omitempty"`

	PowerLED           *Wire `json:"power_led,omitempty"`
	Standby            *Wire `json:"standby,omitempty"`
	HostReset          *Wire `json:"host_reset,omitempty"`
	PowerButtonPressed *Wire `json:"power_button_pressed,omitempty"`
	ResetButtonPressed *Wire `json:"reset_button_pressed,omitempty"`
}

// A Serial is the section "serial" of the settings: the port that leads to the host's COM port.
type Serial struct {
	// Port is SerialBoard, SerialNone, SerialUSB or the path of a terminal
	// below /dev.
	Port string `json:"port"`
	// Baud is the speed in bits a second; 8 data bits, no parity, 1 stop bit.
	Baud int `json:"baud"`
}

// Values of Serial.Port.
const (
	SerialBoard = "board" // the board's own port
	SerialNone  = "none"  // nothing is wired
	SerialUSB   = "usb"   // the first USB serial adapter
)

// bauds are the speeds that terminals of Linux know and hosts use.
func bauds() []int {
	return []int{9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1000000, 1500000, 3000000}
}

// DefaultSerial is the board's own port as firmwares of servers set theirs.
func DefaultSerial() Serial { return Serial{Port: SerialBoard, Baud: 115200} }

// Validate answers a *settings.FieldError, relative to the section, for a port
// or speed that cannot be.
func (s Serial) Validate() error {
	switch s.Port {
	case SerialBoard, SerialNone, SerialUSB:
	default:
		if !strings.HasPrefix(s.Port, "/dev/") || path.Clean(s.Port) != s.Port {
			return &settings.FieldError{Pointer: "/port", Err: fmt.Errorf("%q is not %s, %s, %s or a path below /dev", s.Port, SerialBoard, SerialNone, SerialUSB)}
		}
	}
	if !slices.Contains(bauds(), s.Baud) {
		return &settings.FieldError{Pointer: "/baud", Err: fmt.Errorf("%d is not one of %v", s.Baud, bauds())}
	}
	return nil
}

// A NamedWire is a wire that is there, with its name in the settings.
type NamedWire struct {
	Name   string
	Output bool // driven by the board; else read by it
	Wire
}

// List returns the wires that are there, in the order of the fields.
func (w Wires) List() []NamedWire {
	var list []NamedWire
	for _, f := range []struct {
		name   string
		output bool
		wire   *Wire
	}{
		{"power_button", true, w.PowerButton},
		{"reset_button", true, w.ResetButton},
		{"nmi_button", true, w.NMIButton},
		{"id_light", true, w.IDLight},
		{"power_led", false, w.PowerLED},
		{"standby", false, w.Standby},
		{"host_reset", false, w.HostReset},
		{"power_button_pressed", false, w.PowerButtonPressed},
		{"reset_button_pressed", false, w.ResetButtonPressed},
	} {
		if f.wire != nil {
			list = append(list, NamedWire{f.name, f.output, *f.wire})
		}
	}
	return list
}

// Equal says whether both are the same wires.
func (w Wires) Equal(other Wires) bool { return slices.Equal(w.List(), other.List()) }

// Reasons why a wire cannot be. Compare with errors.Is.
var (
	ErrLineTwice = errors.New("the line is used twice")
	ErrNoLine    = errors.New("there is no such line")
	ErrDirection = errors.New("the line has the wrong direction")
	ErrBusy      = errors.New("the line is in use")
)

// Reasons why a chip cannot be. Compare with errors.Is.
var (
	ErrNoBus    = errors.New("there is no such I2C bus")
	ErrNoAnswer = errors.New("the chip does not answer, or is none that the kernel has a driver for")
)

// A WireError says that one wire or chip cannot be used; the others can.
type WireError struct {
	Path string // in the settings: "wires.standby", "sensors.chips.0"
	Err  error
}

func (e *WireError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }

func (e *WireError) Unwrap() error { return e.Err }

// Validate answers a *settings.FieldError, relative to the wires, for the first wire whose line is out of
// range or used by an earlier wire too.
func (w Wires) Validate() error {
	type line struct {
		chip string
		line int
	}
	used := make(map[line]string)
	for _, n := range w.List() {
		if n.Line < 0 || n.Line > MaxLine {
			return &settings.FieldError{Pointer: "/" + n.Name + "/line", Err: fmt.Errorf("%w: %d is not between 0 and %d", ErrNoLine, n.Line, MaxLine)}
		}
		at := line{n.Chip, n.Line}
		if first, ok := used[at]; ok {
			return &settings.FieldError{Pointer: "/" + n.Name + "/line", Err: fmt.Errorf("%w: %d is %s already", ErrLineTwice, n.Line, first)}
		}
		used[at] = n.Name
	}
	return nil
}
