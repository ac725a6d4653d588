package ipmi

import (
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// chassisCommands are chapter 28 but for the boot options.
func (s *Server) chassisCommands() []command.Command {
	list := []command.Command{
		{NetFn: command.Chassis, Cmd: 0x00, Name: "Get Chassis Capabilities", Privilege: command.User, Run: s.getChassisCapabilities},
		{NetFn: command.Chassis, Cmd: 0x01, Name: "Get Chassis Status", Privilege: command.User, Run: s.getChassisStatus},
		{NetFn: command.Chassis, Cmd: 0x02, Name: "Chassis Control", Privilege: command.Operator, Conduct: command.Waits, MinLen: 1, MaxLen: 1, Run: s.chassisControl},
	}
	if s.host.identify != nil {
		list = append(list, command.Command{NetFn: command.Chassis, Cmd: 0x04, Name: "Chassis Identify", Privilege: command.Operator, Conduct: command.Waits, MaxLen: 2, Run: s.chassisIdentify})
	}
	return append(list,
		command.Command{NetFn: command.Chassis, Cmd: 0x06, Name: "Set Power Restore Policy", Privilege: command.Operator, Conduct: command.Waits, MinLen: 1, MaxLen: 1, Run: s.setRestorePolicy},
		command.Command{NetFn: command.Chassis, Cmd: 0x07, Name: "Get System Restart Cause", Privilege: command.User, Run: s.getRestartCause},
	)
}

// getChassisCapabilities: section 28.1. The devices are all the BMC itself.
func (s *Server) getChassisCapabilities(c *command.Call) command.Code {
	var flags byte
	if s.host.power.Supports(host.NMI) {
		flags |= 0x04 // diagnostic interrupt
	}
	device := func(cmd uint8) byte {
		if s.has(command.Storage, cmd) {
			return command.BMCAddr
		}
		return 0
	}
	c.Put(flags, device(0x11), device(0x23), device(0x43), command.BMCAddr)
	return command.OK
}

// getChassisStatus: section 28.2.
func (s *Server) getChassisStatus(c *command.Call) command.Code {
	st := s.host.power.Status()
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
		{s.host.identify != nil, &misc, 0x40}, // the identify state is told
	} {
		if f.is {
			*f.to |= f.bit
		}
	}
	if s.host.identify != nil && s.host.identify.On() {
		if s.light.timed(c.Now) {
			misc |= 0x10
		} else {
			misc |= 0x20
		}
	}
	c.Put(now, last, misc)
	return command.OK
}

// chassisControl: section 28.3. The answer says that the request was taken and
// begun; how it ends is told by the chassis status and the event log.
func (s *Server) chassisControl(c *command.Call) command.Code {
	actions := [...]host.Action{host.ForceOff, host.PowerOn, host.Cycle, host.Reset, host.NMI, host.GracefulOff}
	n := int(c.Data[0] & 0x0F)
	if n >= len(actions) {
		return command.InvalidField
	}
	s.restartBootCountdown(c)
	_, err := s.host.power.Request(actions[n], host.CauseCommand, c.Origin)
	return command.Result(s.log, "Chassis Control", err)
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

// chassisIdentify: section 28.5.
func (s *Server) chassisIdentify(c *command.Call) command.Code {
	d := 15 * time.Second
	if len(c.Data) > 0 {
		d = time.Duration(c.Data[0]) * time.Second
	}
	if c.Arg(1)&1 != 0 {
		d = -1 // for ever
	}
	if err := s.host.identify.Set(d, c.Origin); err != nil {
		return command.Result(s.log, "Chassis Identify", err)
	}
	s.light.mu.Lock()
	defer s.light.mu.Unlock()
	s.light.until = c.Now.Add(d)
	return command.OK
}

// setRestorePolicy: section 28.8. 3 changes nothing: consoles use it to learn
// which policies there are.
func (s *Server) setRestorePolicy(c *command.Call) command.Code {
	policies := [...]host.RestorePolicy{host.AlwaysOff, host.LastState, host.AlwaysOn}
	const noChange, all = 3, 0x07
	n := int(c.Data[0] & 0x07)
	switch {
	case n > noChange:
		return command.InvalidField
	case n < noChange:
		if err := s.host.power.SetRestorePolicy(policies[n], c.Origin); err != nil {
			return command.Result(s.log, "Set Power Restore Policy", err)
		}
	}
	c.Put(all)
	return command.OK
}

// getRestartCause: section 28.11.
func (s *Server) getRestartCause(c *command.Call) command.Code {
	var cause, channel byte
	switch s.host.power.Status().RestartCause {
	case host.CauseCommand:
		cause, channel = 0x01, command.ChannelLAN
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
