// Package chassis has the commands of the chassis device: power, the ID light,
// what the host boots next (chapter 28 of the IPMI v2.0 specification, revision
// 1.1, whose sections and tables the comments cite).
package chassis

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// The parts of the host that the commands act on. *host.Power, *host.Boot and
// *host.Identify are these; tests have others.
type (
	// Power switches the host.
	Power interface {
		Supports(host.Action) bool
		Request(host.Action, host.Cause, host.Origin) (*host.Operation, error)
		Status() host.PowerStatus
		SetRestorePolicy(host.RestorePolicy, host.Origin) error
		// Hours is how long the host was on in all; false where nobody can tell.
		Hours() (time.Duration, bool)
	}
	// Boot is the boot override.
	Boot interface {
		Targets() []host.BootTarget
		Get() host.BootOverride
		Set(host.BootOverride, host.Origin) error
		// Extend gives an override that ends another end; zero: none.
		Extend(expires time.Time, from host.Origin) error
	}
	// Identify is the ID light.
	Identify interface {
		On() bool
		Set(time.Duration, host.Origin) error
	}
)

// Options are what New needs.
type Options struct {
	Power Power
	// Boot and Identify are nil where the wires are absent.
	Boot     Boot
	Identify Identify
	// Has says whether the board has a command: the capabilities follow from it.
	Has func(command.NetFn, uint8) bool
	// SetCycleInterval sets how long a power cycle leaves the host off, for
	// good; host.ErrInvalid where it is out of range.
	SetCycleInterval func(time.Duration, host.Origin) error
	Log              *slog.Logger
}

// A Chassis answers the commands of the chassis device.
type Chassis struct {
	Options
	options bootOptions
	light   light
}

// New makes a chassis device.
func New(o Options) *Chassis { return &Chassis{Options: o} }

// Commands lists the commands that the wires allow.
func (x *Chassis) Commands() []command.Command {
	list := []command.Command{
		{NetFn: command.Chassis, Cmd: 0x00, Name: "Get Chassis Capabilities", Privilege: command.User, Run: x.getCapabilities},
		{NetFn: command.Chassis, Cmd: 0x01, Name: "Get Chassis Status", Privilege: command.User, Run: x.getStatus},
		{NetFn: command.Chassis, Cmd: 0x02, Name: "Chassis Control", Privilege: command.Operator, Conduct: command.Waits, MinLen: 1, MaxLen: 1, Run: x.control},
	}
	if x.Identify != nil {
		list = append(list, command.Command{NetFn: command.Chassis, Cmd: 0x04, Name: "Chassis Identify", Privilege: command.Operator, Conduct: command.Waits, MaxLen: 2, Run: x.identify})
	}
	list = append(list,
		command.Command{NetFn: command.Chassis, Cmd: 0x05, Name: "Set Chassis Capabilities", Privilege: command.Administrator, MinLen: 5, MaxLen: 6, Run: x.setCapabilities},
		command.Command{NetFn: command.Chassis, Cmd: 0x06, Name: "Set Power Restore Policy", Privilege: command.Operator, Conduct: command.Waits, MinLen: 1, MaxLen: 1, Run: x.setRestorePolicy},
		command.Command{NetFn: command.Chassis, Cmd: 0x07, Name: "Get System Restart Cause", Privilege: command.User, Run: x.getRestartCause},
	)
	if x.Boot != nil {
		list = append(list,
			command.Command{NetFn: command.Chassis, Cmd: 0x08, Name: "Set System Boot Options", Privilege: command.Operator, Conduct: command.Waits, MinLen: 1, MaxLen: 18, Run: x.setBootOptions},
			command.Command{NetFn: command.Chassis, Cmd: 0x09, Name: "Get System Boot Options", Privilege: command.Operator, MinLen: 3, MaxLen: 3, Run: x.getBootOptions})
	}
	list = append(list, command.Command{NetFn: command.Chassis, Cmd: 0x0A, Name: "Set Front Panel Button Enables", Privilege: command.Administrator, MinLen: 1, MaxLen: 1, Run: x.setFrontPanel})
	if x.Power.Supports(host.Cycle) {
		list = append(list, command.Command{NetFn: command.Chassis, Cmd: 0x0B, Name: "Set Power Cycle Interval", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 1, MaxLen: 1, Run: x.setCycleInterval})
	}
	if _, ok := x.Power.Hours(); ok {
		list = append(list, command.Command{NetFn: command.Chassis, Cmd: 0x0F, Name: "Get POH Counter", Privilege: command.User, Run: x.getHours})
	}
	return list
}

// capabilities are the answer to Get Chassis Capabilities (section 28.1). The
// devices are all the BMC itself.
func (x *Chassis) capabilities() [5]byte {
	var flags byte
	if x.Power.Supports(host.NMI) {
		flags |= 0x04 // diagnostic interrupt
	}
	device := func(cmd uint8) byte {
		if x.Has(command.Storage, cmd) {
			return command.BMCAddr
		}
		return 0
	}
	return [...]byte{flags, device(0x11), device(0x23), device(0x43), command.BMCAddr}
}

// getCapabilities: section 28.1.
func (x *Chassis) getCapabilities(c *command.Call) command.Code {
	all := x.capabilities()
	c.Put(all[:]...)
	return command.OK
}

// setCapabilities: section 28.7. The devices cannot move, and there is no sensor
// of intrusion and no lock of the panel: only what is so already can be set,
// which is what consoles do that write back what they read.
func (x *Chassis) setCapabilities(c *command.Call) command.Code {
	const settable = 0x03 // intrusion sensor and front panel lockout
	all := x.capabilities()
	if c.Data[0]&^settable != 0 || c.Data[0]&settable != all[0]&settable || !bytes.Equal(c.Data[1:5], all[1:]) || c.Arg(5) != 0 && c.Arg(5) != command.BMCAddr {
		return command.InvalidField
	}
	return command.OK
}

// getStatus: section 28.2.
func (x *Chassis) getStatus(c *command.Call) command.Code {
	st := x.Power.Status()
	var now, last, misc byte
	switch st.Restore {
	case host.AlwaysOff:
	case host.LastState:
		now |= 0x20
	case host.AlwaysOn:
		now |= 0x40
	default:
		now |= 0x60 // unknown
	}
	for _, f := range [...]struct {
		is  bool
		to  *byte
		bit byte
	}{
		{st.PowerGood, &now, 0x01},
		{st.Fault, &now, 0x10}, // power control fault: the host is not in the state it was told
		{st.ACFailed, &last, 0x01},
		{st.OnByCommand, &last, 0x10},
		{x.Identify != nil, &misc, 0x40}, // the identify state is told
	} {
		if f.is {
			*f.to |= f.bit
		}
	}
	if x.Identify != nil && x.Identify.On() {
		if x.light.timed(c.Now) {
			misc |= 0x10
		} else {
			misc |= 0x20
		}
	}
	c.Put(now, last, misc)
	return command.OK
}

// control: section 28.3. The answer says that the request was taken and
// begun; how it ends is told by the chassis status and the event log.
func (x *Chassis) control(c *command.Call) command.Code {
	actions := [...]host.Action{host.ForceOff, host.PowerOn, host.Cycle, host.Reset, host.NMI, host.GracefulOff}
	n := int(c.Data[0] & 0x0F)
	if n >= len(actions) {
		return command.InvalidField
	}
	x.restartBootCountdown(c)
	_, err := x.Power.Request(actions[n], host.CauseCommand, c.Origin)
	return command.Result(x.Log, "Chassis Control", err)
}

// light remembers whether the ID light was last lit for a time, which the
// light itself does not tell. The zero light was not.
type light struct {
	mu    sync.Mutex
	until time.Time
}

func (l *light) timed(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.until)
}

// identify: section 28.5.
func (x *Chassis) identify(c *command.Call) command.Code {
	d := 15 * time.Second
	if len(c.Data) > 0 {
		d = time.Duration(c.Data[0]) * time.Second
	}
	if c.Arg(1)&1 != 0 {
		d = -1 // for ever
	}
	if err := x.Identify.Set(d, c.Origin); err != nil {
		return command.Result(x.Log, "Chassis Identify", err)
	}
	x.light.mu.Lock()
	defer x.light.mu.Unlock()
	x.light.until = c.Now.Add(d)
	return command.OK
}

// setRestorePolicy: section 28.8. 3 changes nothing: consoles use it to learn
// which policies there are.
func (x *Chassis) setRestorePolicy(c *command.Call) command.Code {
	policies := [...]host.RestorePolicy{host.AlwaysOff, host.LastState, host.AlwaysOn}
	const noChange, all = 3, 0x07
	n := int(c.Data[0] & 0x07)
	switch {
	case n > noChange:
		return command.InvalidField
	case n < noChange:
		if err := x.Power.SetRestorePolicy(policies[n], c.Origin); err != nil {
			return command.Result(x.Log, "Set Power Restore Policy", err)
		}
	}
	c.Put(all)
	return command.OK
}

// viaPEF is how the event filter names itself where it switches the host.
const viaPEF = "pef"

// getRestartCause: section 28.11. The channel is told where the cause came over
// one of IPMI's.
func (x *Chassis) getRestartCause(c *command.Call) command.Code {
	st := x.Power.Status()
	var cause, channel byte
	switch st.RestartCause {
	case host.CauseCommand:
		switch cause = 0x01; {
		case st.RestartVia == "ipmi":
			channel = command.ChannelLAN
		case st.RestartVia == viaPEF && st.RestartWarm:
			cause = 0x08
		case st.RestartVia == viaPEF:
			cause = 0x09 // power cycle
		}
	case host.CauseResetButton:
		cause = 0x02
	case host.CausePowerButton:
		cause = 0x03
	case host.CauseWatchdog:
		cause = 0x04
	case host.CauseAlwaysOn:
		cause = 0x06
	case host.CauseRestore:
		cause = 0x07
	case host.CauseSoftReset:
		cause = 0x0A
	}
	c.Put(cause, channel)
	return command.OK
}

// setFrontPanel: section 28.6. The board's lines are beside the buttons' own
// wires, so it cannot keep a person from pressing them.
func (x *Chassis) setFrontPanel(c *command.Call) command.Code {
	const disable = 0x0F
	switch {
	case c.Data[0]&^disable != 0:
		return command.InvalidField
	case c.Data[0] != 0:
		return command.Unavailable
	}
	return command.OK
}

// setCycleInterval: section 28.9, in seconds.
func (x *Chassis) setCycleInterval(c *command.Call) command.Code {
	err := x.SetCycleInterval(time.Duration(c.Data[0])*time.Second, c.Origin)
	return command.Result(x.Log, "Set Power Cycle Interval", err)
}

// getHours: section 28.14; the counter counts hours.
func (x *Chassis) getHours(c *command.Call) command.Code {
	const minutes = 60
	on, ok := x.Power.Hours()
	if !ok {
		return command.Unavailable
	}
	c.Put(minutes)
	c.Reply = binary.LittleEndian.AppendUint32(c.Reply, uint32(min(int64(on/time.Hour), 1<<32-1)))
	return command.OK
}
