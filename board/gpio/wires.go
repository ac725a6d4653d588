package gpio

import (
	"errors"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// An Opener opens a chip by its label; the empty label is the board's own chip.
type Opener func(label string) (*Chip, error)

// Check answers a *settings.FieldError, relative to the wires, for the first
// wire to a chip or line that is not there. Whether a line is in use does not
// matter: it may be this very software that uses it.
func Check(open Opener, w board.Wires) error {
	var err error
	chips := opened{open: open, chips: map[string]*Chip{}}
	for _, n := range w.List() {
		chip, e := chips.get(n.Chip)
		if e != nil {
			field := "/line" // a wire to the board's own chip names none
			if n.Chip != "" {
				field = "/chip"
			}
			err = &settings.FieldError{Pointer: "/" + n.Name + field, Err: e}
			break
		}
		if e := chip.Check(n.Line); e != nil {
			err = &settings.FieldError{Pointer: "/" + n.Name + "/line", Err: e}
			break
		}
	}
	return errors.Join(err, chips.Close())
}

// Connect takes the lines of the wires and puts them into p. A line that cannot
// be taken leaves its part nil and is told in the list. release gives all lines
// back.
func Connect(open Opener, w board.Wires, p *host.Parts) (failed []*board.WireError, release func() error) {
	outputs, inputs := board.Places(p)
	var closers []func() error
	chips := opened{open: open, chips: map[string]*Chip{}}
	take := func(n board.NamedWire) error {
		chip, err := chips.get(n.Chip)
		if err != nil {
			return err
		}
		if n.Output {
			out, err := chip.Output(n.Line, n.ActiveLow)
			if err != nil {
				return err
			}
			*outputs[n.Name] = out
			closers = append(closers, out.Close)
			return nil
		}
		in, err := chip.Input(n.Line, n.ActiveLow)
		if err != nil {
			return err
		}
		*inputs[n.Name] = in
		closers = append(closers, in.Close)
		return nil
	}
	for _, n := range w.List() {
		if err := take(n); err != nil {
			failed = append(failed, &board.WireError{Path: "wires." + n.Name, Err: err})
		}
	}
	// Lines need their chip no more, but an error here is told at the end.
	err := chips.Close()
	return failed, func() error {
		errs := []error{err}
		for _, c := range closers {
			errs = append(errs, c())
		}
		return errors.Join(errs...)
	}
}

// opened keeps chips that several wires lead to.
type opened struct {
	open  Opener
	chips map[string]*Chip
}

func (o *opened) get(label string) (*Chip, error) {
	if c := o.chips[label]; c != nil {
		return c, nil
	}
	c, err := o.open(label)
	if err == nil {
		o.chips[label] = c
	}
	return c, err
}

func (o *opened) Close() error {
	var errs []error
	for _, c := range o.chips {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
