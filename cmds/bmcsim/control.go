package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/internal/control"
)

// do carries out one word from the control socket, with the words of emulate's.
func (m machine) do(line string) (string, error) {
	if argument, ok := strings.CutPrefix(line, "sensor "); ok {
		name, value, _ := strings.Cut(argument, " ")
		return "", m.sensor(name, value)
	}
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
		return "", fmt.Errorf("%q: want host-ac-off, host-ac-on, press-power, press-reset or sensor NAME VALUE", line)
	}
	return "", nil
}

// sensor gives a sensor a value to tell, breaks it, or lets it tell what it is by
// itself again.
func (m machine) sensor(name, value string) error {
	switch value {
	case "fail":
		return m.FailSensor(name)
	case "auto":
		return m.FreeSensor(name)
	}
	v, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("sensor %s %q: want a number, fail or auto", name, value)
	}
	return m.SetSensor(name, v)
}
