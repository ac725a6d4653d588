package host

import (
	"context"
	"errors"
	"io"
)

// A MediumKind is what the host takes a medium for.
type MediumKind string

// The kinds of media. A CD can only be read.
const (
	MediumCD   MediumKind = "CD"
	MediumDisk MediumKind = "Disk"
)

// ErrDriveFull: the drive has a medium, which has to be ejected first.
var ErrDriveFull = errors.New("the drive has a medium already")

// A DrivePart is one drive of the host for virtual media.
type DrivePart struct {
	// Name tells it from the other drives and never changes: "cd", "usb".
	Name string
	// Kinds are what it can show to the host, at least one, the usual first.
	Kinds []MediumKind
	Drive Drive
}

// A Medium is the content of a CD or disk. Its methods may be called from
// several goroutines, and any call may take long. What a successful Flush
// followed is kept.
type Medium interface {
	io.ReaderAt
	io.WriterAt
	// Size is in bytes, and never changes.
	Size() int64
	Flush() error
}

// A Loading is what Insert puts into a drive.
type Loading struct {
	Medium Medium
	Kind   MediumKind
	// ReadOnly: the host cannot write. A CD is always read-only.
	ReadOnly bool
	// Ejected is called when the host opens the drive by itself; the medium
	// stays in until Eject. It must not block. It may be nil.
	Ejected func()
}

// A Drive is a drive whose media can be changed. The calls come one at a time.
type Drive interface {
	// Insert puts a medium in, and returns when the host can read it, or will
	// from its next power-on. It answers ErrDriveFull where there is one, and
	// errors.ErrUnsupported for a kind that the drive cannot show.
	//
	// Where a medium was released, here or by a software that ended without
	// that, one of the same size and kind goes on for it and the host sees no
	// change; any other takes its place.
	Insert(ctx context.Context, l Loading) error
	// Eject takes the medium out, whatever the host says to that. An empty
	// drive is no error.
	Eject(ctx context.Context) error
	// Release leaves the medium in and stops serving it: when it returns, no
	// answer reaches the host any more. The host waits a while for the next
	// Insert. Calls of the medium's methods may still be under way.
	Release()
}
