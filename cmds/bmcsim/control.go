package main

import (
	"fmt"

	"github.com/nitrino/nitrino/internal/control"
)

// do carries out one word from the control socket, with the words of emulate's.
func (m machine) do(line string) (string, error) {
	switch line {
	case "host-ac-off":
		m.SetStandby(false)
	case "host-ac-on":
		m.SetStandby(true)
	case "press-power":
		m.PressPowerButton(control.Finger)
	case "press-reset":
		m.PressReset(control.Finger)
	default:
		return "", fmt.Errorf("%q: want host-ac-off, host-ac-on, press-power or press-reset", line)
	}
	return "", nil
}
