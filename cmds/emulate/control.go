package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/internal/control"
)

// hands is what a person in front of the host can do (*sim.Harness).
type hands interface {
	On() bool
	SetStandby(on bool)
	PressPowerButton(d time.Duration)
	PressReset(d time.Duration)
}

// A panel is everything that the control socket reaches.
type panel struct {
	ctx   context.Context // ends with the program
	board *board
	wires *wires
	chips *chips
	hands hands // nil: there is no host
}

var errNoHost = errors.New("there is no host")

// do carries out one line from the control socket.
func (p panel) do(line string) (string, error) {
	word, argument, _ := strings.Cut(line, " ")
	if word == "line" {
		n, err := strconv.Atoi(argument)
		if err != nil {
			return "", fmt.Errorf("line %q: want a number", argument)
		}
		level, err := p.wires.level(n)
		if err != nil {
			return "", err
		}
		if level {
			return "1", nil
		}
		return "0", nil
	}
	if word == "sensor" {
		name, value, _ := strings.Cut(argument, " ")
		return "", p.chips.set(name, value)
	}
	var act func(hands)
	switch line {
	case "cut":
		return "", p.board.mains(p.ctx, false)
	case "restore":
		return "", p.board.mains(p.ctx, true)
	case "net-off":
		return "", p.board.plug(p.ctx, false)
	case "net-on":
		return "", p.board.plug(p.ctx, true)
	case "host-ac-off":
		act = func(h hands) { h.SetStandby(false) }
	case "host-ac-on":
		act = func(h hands) { h.SetStandby(true) }
	case "press-power":
		act = func(h hands) { h.PressPowerButton(control.Finger) }
	case "press-reset":
		act = func(h hands) { h.PressReset(control.Finger) }
	default:
		return "", fmt.Errorf("%q: want cut, restore, net-off, net-on, host-ac-off, host-ac-on, press-power, press-reset, line N or sensor NAME VALUE", line)
	}
	if p.hands == nil {
		return "", errNoHost
	}
	act(p.hands)
	return "", nil
}
