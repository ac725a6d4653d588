// Package system has what consoles and software leave with the BMC about the
// system, and the switches of the BMC itself (sections 20.6, 22.1, 22.2, 22.14a
// and 22.14b of the IPMI v2.0 specification, revision 1.1).
package system

import (
	"log/slog"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Power tells whether the host is on; *host.Power is one.
type Power interface{ Status() host.PowerStatus }

// Logging is the switch of the System Event Log.
type Logging interface {
	Logging() bool
	// SetLogging keeps the switch over restarts.
	SetLogging(on bool, from host.Origin) error
}

// Options are what New needs.
type Options struct {
	Power   Power
	Logging Logging
	// Event tells of a change.
	Event func(host.Event)
	Store *store.Store
	Log   *slog.Logger
}

// A System answers the commands of this package.
type System struct {
	Options
	info info
}

// New reads what is kept. What cannot be read is left out, and the log says so.
func New(o Options) *System {
	x := &System{Options: o}
	x.info.load(o.Store, o.Log)
	return x
}

// Commands lists the commands.
func (x *System) Commands() []command.Command {
	return []command.Command{
		{NetFn: command.App, Cmd: 0x06, Name: "Set ACPI Power State", Privilege: command.Administrator, MinLen: 2, MaxLen: 2, Run: x.setACPIState},
		{NetFn: command.App, Cmd: 0x07, Name: "Get ACPI Power State", Privilege: command.User, Run: x.getACPIState},
		{NetFn: command.App, Cmd: 0x2E, Name: "Set BMC Global Enables", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 1, MaxLen: 1, Run: x.setEnables},
		{NetFn: command.App, Cmd: 0x2F, Name: "Get BMC Global Enables", Privilege: command.User, Run: x.getEnables},
		{NetFn: command.App, Cmd: 0x58, Name: "Set System Info Parameters", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 2, MaxLen: 18, Run: x.setInfo},
		{NetFn: command.App, Cmd: 0x59, Name: "Get System Info Parameters", Privilege: command.User, MinLen: 4, MaxLen: 4, Run: x.getInfo},
	}
}

// acpi is the host's ACPI power state (section 20.7). The front panel's light
// tells on from asleep and off, no more.
func (x *System) acpi() byte {
	st := x.Power.Status()
	switch {
	case st.State == host.StateAsleep:
		return 0x03 // S3
	case st.State == host.StateUnknown:
		return 0x2A
	case st.PowerGood:
		return 0x00 // S0/G0
	case st.StandbyWired && !st.Standby:
		return 0x07 // G3, mechanical off
	}
	return 0x06 // S4 or S5, not told apart
}

// deviceD0 is the power state of the device that answers, always.
const deviceD0 = 0x00

// getACPIState: section 20.7.
func (x *System) getACPIState(c *command.Call) command.Code {
	c.Put(x.acpi(), deviceD0)
	return command.OK
}

// setACPIState: section 20.6. The states are read off the wires, so that nobody
// can tell the board another one than it sees.
func (x *System) setACPIState(c *command.Call) command.Code {
	const set, noChange = 0x80, 0x7F
	for i, is := range [...]byte{x.acpi(), deviceD0} {
		if to := c.Data[i] &^ set; c.Data[i]&set != 0 && to != noChange && to != is {
			return command.InvalidField
		}
	}
	return command.OK
}

// eventLogging is bit 3 of the global enables. The others belong to a system
// interface, which the board does not have.
const eventLogging = 0x08

// setEnables: section 22.1.
func (x *System) setEnables(c *command.Call) command.Code {
	if c.Data[0]&^eventLogging != 0 {
		return command.InvalidField
	}
	return command.Result(x.Log, "Set BMC Global Enables", x.Logging.SetLogging(c.Data[0] != 0, c.Origin))
}

// getEnables: section 22.2.
func (x *System) getEnables(c *command.Call) command.Code {
	var on byte
	if x.Logging.Logging() {
		on = eventLogging
	}
	c.Put(on)
	return command.OK
}
