// Package watchdog has the commands of the BMC watchdog timer (chapter 27 of the
// IPMI v2.0 specification, revision 1.1).
package watchdog

import (
	"errors"
	"log/slog"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// A Timer is the watchdog; *host.Watchdog is one. None of it waits but Set,
// Start and Stop.
type Timer interface {
	// Set changes the timer; it stops a running one unless KeepRunning is set.
	Set(host.WatchdogConfig, host.Origin) error
	// Start starts it, or starts it again, from its whole time;
	// host.ErrNotSet before any Set.
	Start(host.Origin) error
	Status() host.WatchdogStatus
}

// A Watchdog answers the commands of the watchdog timer.
type Watchdog struct {
	timer Timer
	log   *slog.Logger
}

// New makes the commands of a timer.
func New(t Timer, log *slog.Logger) *Watchdog { return &Watchdog{timer: t, log: log} }

// Commands lists the commands.
func (w *Watchdog) Commands() []command.Command {
	return []command.Command{
		{NetFn: command.App, Cmd: 0x22, Name: "Reset Watchdog Timer", Privilege: command.Operator, Conduct: command.Waits, Run: w.reset},
		{NetFn: command.App, Cmd: 0x24, Name: "Set Watchdog Timer", Privilege: command.Operator, Conduct: command.Waits, MinLen: 6, MaxLen: 6, Run: w.set},
		{NetFn: command.App, Cmd: 0x25, Name: "Get Watchdog Timer", Privilege: command.User, Run: w.get},
	}
}

// codeNotSet answers Reset Watchdog Timer before Set Watchdog Timer.
const codeNotSet command.Code = 0x80

// Bits of byte 1, timer use.
const (
	dontLog = 0x80
	running = 0x40 // Set: do not stop a running timer
	useMask = 0x07
)

// preNMI is the pre-timeout interrupt in byte 2; SMI and the messaging
// interrupt would need a system interface.
const (
	preMask   = 0x70
	preNMI    = 0x20
	actionBit = 0x07
)

// tick is the unit of the countdown.
const tick = 100 * time.Millisecond

// uses are the timer uses by their number, 0 is reserved; bit n of the
// expiration flags is use n's.
func uses() [6]host.WatchdogUse {
	return [...]host.WatchdogUse{host.WatchdogNone, host.WatchdogBIOSFRB2, host.WatchdogBIOSPost, host.WatchdogOSLoad, host.WatchdogSMSOS, host.WatchdogOEM}
}

// actions are the timeout actions by their number.
func actions() [4]host.Action {
	return [...]host.Action{"", host.Reset, host.ForceOff, host.Cycle}
}

// reset: section 27.5.
func (w *Watchdog) reset(c *command.Call) command.Code {
	err := w.timer.Start(c.Origin)
	if errors.Is(err, host.ErrNotSet) {
		return codeNotSet
	}
	return command.Result(w.log, "Reset Watchdog Timer", err)
}

// set: section 27.6.
func (w *Watchdog) set(c *command.Call) command.Code {
	d, uses, actions := c.Data, uses(), actions()
	use, action := int(d[0]&useMask), int(d[1]&actionBit)
	if use == 0 || use >= len(uses) || action >= len(actions) || d[0]&^(dontLog|running|useMask) != 0 || d[1]&^(preMask|actionBit) != 0 {
		return command.InvalidField
	}
	if pre := d[1] & preMask; pre != 0 && pre != preNMI {
		return command.InvalidField
	}
	config := host.WatchdogConfig{
		Use: uses[use], Action: actions[action],
		PreNMI: d[1]&preMask == preNMI, PreTimeout: time.Duration(d[2]) * time.Second,
		Timeout: time.Duration(uint16(d[4])|uint16(d[5])<<8) * tick,
		Quiet:   d[0]&dontLog != 0, KeepRunning: d[0]&running != 0,
	}
	for n, u := range uses {
		if n > 0 && d[3]&(1<<n) != 0 {
			config.ClearExpired = append(config.ClearExpired, u)
		}
	}
	err := w.timer.Set(config, c.Origin)
	if errors.Is(err, errors.ErrUnsupported) {
		return command.InvalidField // this action or interrupt, not the timer
	}
	return command.Result(w.log, "Set Watchdog Timer", err)
}

// get: section 27.7.
func (w *Watchdog) get(c *command.Call) command.Code {
	st := w.timer.Status()
	var use, action, expired byte
	for n, u := range uses() {
		if u == st.Config.Use {
			use = byte(n)
		}
		if n > 0 && st.Expired[u] {
			expired |= 1 << n
		}
	}
	for n, a := range actions() {
		if a == st.Config.Action {
			action = byte(n)
		}
	}
	if st.Config.Quiet {
		use |= dontLog
	}
	if st.Running {
		use |= running
	}
	if st.Config.PreNMI {
		action |= preNMI
	}
	c.Put(use, action, byte(st.Config.PreTimeout/time.Second), expired)
	c.Put16(uint16(st.Config.Timeout / tick))
	c.Put16(uint16(st.Left / tick))
	return command.OK
}
