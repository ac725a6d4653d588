package main

import (
	"time"

	"github.com/nitrino/nitrino/bmc"
)

// The messages between the parent and its children, over the children's file 3.
const (
	// msgBeat (child → parent) comes each beatEvery: its loop runs.
	msgBeat = "beat"
	// msgReady (child → parent): it does its work.
	msgReady = "ready"
	// msgStart (parent → child) has a start: what the child waits for.
	msgStart = "start"
	// msgPeer (core → parent) asks for a new connection to disk; (parent →
	// both) hands over its ends, a file each.
	msgPeer = "peer"
	// msgEvent (parent → core, answered) has a bmc.Event for the log.
	msgEvent = "event"
	// msgReboot (core → parent, answered) has a reboot.
	msgReboot = "reboot"
)

// A start is what the parent has found out.
type start struct {
	// Board is what board.Detect answered; empty: no board that is known.
	Board  string `json:"board"`
	BootID string `json:"boot_id"`
	// Perm is the folder for what outlives a restart, Spare one in memory for
	// where Perm cannot be used.
	Perm  string `json:"perm"`
	Spare string `json:"spare"`
	// Card is where the boot partition is mounted.
	Card string `json:"card"`
}

// A reboot restarts the board in order.
type reboot struct {
	// Arg is reboot(2)'s argument; empty: none.
	Arg string `json:"arg"`
}

// newEvent is an event that happened now, in a process that has no log.
func newEvent(e bmc.Event) bmc.Event {
	e.Time = time.Now()
	if e.Severity == "" {
		e.Severity = bmc.OK
	}
	return e
}
