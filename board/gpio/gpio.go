// Package gpio drives and watches lines of Linux GPIO chips, through version 2
// of the kernel's character device.
package gpio

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/board"
)

// consumer is the name that the kernel shows for lines in use here.
const consumer = "nitrino"

// A Chip is one GPIO chip. Lines taken from it outlive its Close.
type Chip struct {
	label string
	dev   device
}

// Open finds a chip by its label among the character devices in the folder dev
// ("/dev"). It answers board.ErrNoLine where no chip has that label.
func Open(dev, label string) (*Chip, error) {
	c, err := find(dev, label)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no GPIO chip %s (%w)", board.ErrNoLine, label, err)
	}
	if err != nil {
		return nil, fmt.Errorf("GPIO chip %s: %w", label, err)
	}
	return &Chip{label, c}, nil
}

// Label is the name by which the chip was found.
func (c *Chip) Label() string { return c.label }

// Close gives the chip back. The lines stay as they are.
func (c *Chip) Close() error { return c.dev.Close() }

// Check answers board.ErrNoLine for a line that the chip has not.
func (c *Chip) Check(line int) error {
	if line < 0 || line >= c.dev.lines() {
		return fmt.Errorf("%w: GPIO chip %s has the lines 0 to %d, not %d", board.ErrNoLine, c.label, c.dev.lines()-1, line)
	}
	return nil
}

// Output takes a line and drives it, inactive to begin with, and without a
// moment in which it is anything else. It answers board.ErrNoLine or
// board.ErrBusy.
func (c *Chip) Output(line int, activeLow bool) (*Output, error) {
	flags := uint64(flagOutput)
	if activeLow {
		flags |= flagActiveLow
	}
	h, err := c.request(line, flags)
	if err != nil {
		return nil, err
	}
	return &Output{name: c.name(line), handle: h}, nil
}

// Input takes a line and watches it. Where the chip has pull resistors, they
// pull to the inactive level, so that a wire that came loose reads inactive. It
// answers board.ErrNoLine or board.ErrBusy.
func (c *Chip) Input(line int, activeLow bool) (*Input, error) {
	flags := uint64(flagInput | flagEdgeRising | flagEdgeFalling)
	if activeLow {
		flags |= flagActiveLow | flagBiasPullUp
	} else {
		flags |= flagBiasPullDown
	}
	h, err := c.request(line, flags)
	if err != nil {
		return nil, err
	}
	in, err := newInput(c.name(line), h)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return in, nil
}

func (c *Chip) name(line int) string { return fmt.Sprintf("line %d of GPIO chip %s", line, c.label) }

func (c *Chip) request(line int, flags uint64) (handle, error) {
	if err := c.Check(line); err != nil {
		return nil, err
	}
	h, err := c.dev.request(line, flags)
	switch {
	case errors.Is(err, unix.EBUSY):
		by := ""
		if user := c.dev.user(line); user != "" {
			by = fmt.Sprintf(", by %q", user)
		}
		return nil, fmt.Errorf("%w: %s%s", board.ErrBusy, c.name(line), by)
	case errors.Is(err, unix.ENXIO) && flags&flagInput != 0:
		return nil, fmt.Errorf("%s tells no changes: it has no interrupt: %w", c.name(line), err)
	case err != nil:
		return nil, fmt.Errorf("taking %s: %w", c.name(line), err)
	}
	return h, nil
}

// An Output is a line that is driven. It is a host.Line.
type Output struct {
	name   string
	handle handle
	closed sync.Once
}

// Set implements host.Line.
func (o *Output) Set(active bool) error {
	if err := o.handle.setValue(active); err != nil {
		return fmt.Errorf("setting %s: %w", o.name, err)
	}
	return nil
}

// Close makes the line inactive and gives it back: some chips leave a line
// that nobody drives at its last level, and a button must not stay pressed.
func (o *Output) Close() error {
	var err error
	o.closed.Do(func() { err = errors.Join(o.Set(false), o.handle.Close()) })
	return err
}
