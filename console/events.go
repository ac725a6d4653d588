package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nitrino/nitrino/host"
)

// number reads a decimal argument between low and high.
func number(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%w: \"%s\" is not a number from %d to %d", errUsage, clean(s), low, high)
	}
	return n, nil
}

func events(ctx context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	follow := c.flag("-f")
	lines := 20
	if follow {
		lines = 10
	}
	if v, ok := c.flags["-n"]; ok {
		n, err := number(v, 0, host.MaxEvents)
		if err != nil {
			return err
		}
		if lines = n; n == 0 {
			lines = host.MaxEvents
		}
	}
	log := c.s.opt.Host.Events
	last := log.Last()
	// Counted, not reckoned from the IDs, which have gaps where a crash was.
	list := log.Since(0, 0)
	list = list[max(0, len(list)-lines):]
	for {
		for _, e := range list {
			if err := c.printEvent(e); err != nil {
				return err
			}
			last = e.ID
		}
		if !follow {
			return nil
		}
		if err := log.Wait(ctx, last); err != nil {
			if errors.Is(context.Cause(ctx), errInterrupted) {
				return nil // so it is meant to end
			}
			return err
		}
		list = log.Since(last, 0)
	}
}

// printEvent writes one event on one line. Names and messages in it may be
// what somebody sent over the network.
func (c *call) printEvent(e host.Event) error {
	if c.flag("--json") {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.out, clean(string(line)))
		return err
	}
	by := ""
	if e.Origin != (host.Origin{}) {
		by = " (" + clean(e.Origin.String()) + ")"
	}
	_, err := fmt.Fprintf(c.out, "%s  %-8s  %s: %s%s\n", stamp(e.Time), e.Severity, clean(e.Kind), clean(e.Message), by)
	return err
}
