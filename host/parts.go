// Package host is the managed machine as every front-end sees it: a power
// state machine, a boot override, a console shared by many, and one event log.
//
// A Host is concrete. Interfaces stand only at the hardware edge, in this file,
// and a board (package board/...) implements them. A part that is nil is a
// wire that is absent, and what needs it answers errors.ErrUnsupported.
package host

import (
	"context"
	"io"
)

// Parts are the wires a board has to its host. Every field may be nil (or
// empty): that wire is absent.
type Parts struct {
	// PowerButton, ResetButton and NMIButton drive the header of the host's
	// front panel, in parallel with the buttons a person presses.
	PowerButton Line
	ResetButton Line
	NMIButton   Line
	// IDLight is the light that shows which machine is meant.
	IDLight Line

	// PowerLED is the host's power light: steady in S0, blinking on most
	// boards in S3. It is the only truth about power that the header gives.
	PowerLED Sense
	// Standby is the 5 V standby supply (5VSB): active while the host has AC.
	Standby Sense
	// HostReset is the platform reset (PLTRST#, on the TPM header): active
	// while the host is held in reset. It tells a warm restart.
	HostReset Sense
	// PowerButtonPressed and ResetButtonPressed see the front panel's own
	// buttons. They also see what PowerButton and ResetButton drive.
	PowerButtonPressed Sense
	ResetButtonPressed Sense

	// Console is the host's serial port.
	Console Port
	// Boot steers what the host boots next.
	Boot BootSelector
	// Sensors measure the host and what is around it.
	Sensors []SensorPart
	// FRU is the memory that holds the inventory of the host; nil: it is kept
	// with the rest of the state.
	FRU Memory
	// Drives take virtual media.
	Drives []DrivePart
	// Hardware is what the board knows of the host's machine.
	Hardware *Hardware

	// Identity says which board and host these are.
	Identity Identity
}

// A Line is an output. Active is the logical level: for a button, pressed.
// Set returns when the wire has the level. It may be called from any goroutine.
type Line interface {
	Set(active bool) error
}

// A Sense is an input. Active is the logical level: for a light, lit.
type Sense interface {
	// Level reads the input now.
	Level() (active bool, err error)
	// Watch calls changed with the level at the call and then with each new
	// level, in order, from one goroutine, until ctx ends; it then returns
	// ctx's error. Any other error means the wire failed. changed must not
	// block. Several Watches may run at once.
	Watch(ctx context.Context, changed func(active bool)) error
}

// A Port is a serial port that can be opened again after it failed.
type Port interface {
	// Open waits until the port can be used, or ctx ends. Bytes that come
	// from the host while nobody has the port open may be lost. A Read or
	// Write error means that the connection is gone: close and open again.
	Open(ctx context.Context) (PortConn, error)
}

// A PortConn is an open serial port. Close makes pending calls return.
type PortConn interface {
	io.ReadWriteCloser
	// Break holds the line in the break state for a short while (at least
	// 250 ms). It returns errors.ErrUnsupported where the port cannot.
	Break(ctx context.Context) error
}

// A BootSelector makes the host boot from a chosen device, as far as the
// board's wires reach (its own network boot, virtual media, an emulator's
// boot order).
type BootSelector interface {
	// Targets lists what SelectBoot takes, BootDefault excluded.
	Targets() []BootTarget
	// SelectBoot decides what the host boots at its next power-on or reset
	// and those after it, until it is called again; BootDefault gives the
	// choice back to the host's firmware. A boot under way keeps what it
	// began with. It answers errors.ErrUnsupported for a target or mode that
	// the wires cannot bring about.
	SelectBoot(ctx context.Context, t BootTarget, m BootMode) error
}

// A Memory is a small one that is slow to write, as an EEPROM. Read and write
// all of a range or fail.
type Memory interface {
	Size() int
	io.ReaderAt
	io.WriterAt
}

// Identity says which board and which host these are.
type Identity struct {
	// Manufacturer, Model and Serial describe the board that runs nitrino.
	Manufacturer, Model, Serial string
	// BootID differs at each power-up of the board and stays over restarts
	// of the software: a restart never acts as a power failure did.
	BootID string
}
