package bmc

import (
	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/host"
)

// An Event is one line of the event log, as the other processes of a board,
// which have no log, send it to the one that has.
type Event = host.Event

// The severities of an Event.
const (
	OK       = host.OK
	Warning  = host.Warning
	Critical = host.Critical
)

// A Board is the hardware that carries nitrino: a package below board has one.
type Board interface {
	// Identity says what the board is; its BootID is empty.
	Identity() host.Identity
	// Wires are those that the board has where the owner says nothing.
	Wires() board.Wires
	// Chip is the label of the board's own GPIO chip; an error if it is not
	// there.
	Chip() (string, error)
	// Check answers a *settings.FieldError, relative to the section, for wires
	// that the board cannot have.
	Check(board.Wires) error
	// Open opens what can be opened; the rest is told and left out. The
	// function that is returned closes all.
	Open(board.Wires, board.Serial) (host.Parts, []*board.WireError, func() error)
	// OpenSensors adds to the parts what the settings say of sensors and the
	// inventory's memory, and what the board measures by itself; as Open.
	OpenSensors(board.Sensors, *host.Parts) ([]*board.WireError, func() error)
	// Interface names the network interface for managing; an error if there is
	// none yet.
	Interface() (string, error)
	// Restart tells the hardware what reboot(2) is about to be given.
	Restart(arg string) error
}
