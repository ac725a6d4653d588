// Package boardtest holds the one suite that every board has to pass, and
// with it what host.Parts promise.
package boardtest

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
)

// A Rig is a board with a host that is off, and what a test can do at the
// host's side. A case that needs what is nil or empty fails: a board that lacks
// it says so by leaving the case out.
type Rig struct {
	// Parts are the board's. PowerButton, PowerLED and Console are needed.
	Parts host.Parts
	// Limit is how long the host may take for any one thing: to start, to
	// boot, to shut down.
	Limit time.Duration
	// On is the truth about the host's power.
	On func() bool

	// What the console shows: BIOS at each start and reset, Up once the
	// operating system obeys the power button, Down when it does so, and
	// AfterNMI at an NMI.
	BIOS, Up, Down, AfterNMI string
	// Hang, typed at the console, makes the operating system deaf.
	Hang string
	// Echoes: the operating system echoes what is typed.
	Echoes bool

	// PressPower and PressReset are a person's finger on the front panel.
	PressPower, PressReset func(d time.Duration)
	// SetStandby switches the host's AC power.
	SetStandby func(on bool)
	// IDLight reports whether the ID light is lit.
	IDLight func() bool
	// OSReboot and OSShutdown are what the host does by itself.
	OSReboot, OSShutdown func() error
}

// Run runs the suite in real time, but for the cases named in without: those
// whose wires the board lacks. newRig makes a fresh rig for each case and has t
// clean it up.
func Run(t *testing.T, newRig func(t *testing.T) Rig, without ...string) {
	for _, c := range cases(t, without) {
		t.Run(c.name, func(t *testing.T) { c.run(t, newRig(t)) })
	}
}

// RunVirtual runs the suite in virtual time (testing/synctest), for boards
// without real I/O.
func RunVirtual(t *testing.T, newRig func(t *testing.T) Rig, without ...string) {
	for _, c := range cases(t, without) {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, newRig(t)) })
		})
	}
}

const (
	press = 200 * time.Millisecond // a short press, as host.DefaultPowerConfig has it
	reset = 500 * time.Millisecond
	cut   = 4 * time.Second // a hold that cuts
	quiet = time.Second     // in which nothing is to happen
)

type testCase struct {
	name string
	run  func(*testing.T, Rig)
}

// cases are all but those left out. A name that is no case's is an error.
func cases(t *testing.T, without []string) []testCase {
	t.Helper()
	all := []testCase{
		{"released at start", releasedAtStart},
		{"levels and watches", levelsAndWatches},
		{"a press starts the host", pressStarts},
		{"a short press is the ACPI button", shortPress},
		{"a hold cuts", holdCuts},
		{"a reset restarts", resetRestarts},
		{"an NMI arrives", nmiArrives},
		{"the ID light", idLight},
		{"setting twice and from many", setMany},
		{"a person at the front panel", person},
		{"standby power lost", standbyLost},
		{"the host by itself", byItself},
		{"console", console},
		{"boot selection", bootSelection},
	}
	for _, name := range without {
		n := len(all)
		if all = slices.DeleteFunc(all, func(c testCase) bool { return c.name == name }); len(all) == n {
			t.Fatalf("there is no case %q to leave out", name)
		}
	}
	return all
}
