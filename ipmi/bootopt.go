package ipmi

import (
	"errors"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Parameters of the system boot options (table 28-14).
const (
	bootInProgress    = 0
	bootValidClearing = 3
	bootAcknowledge   = 4
	bootFlags         = 5
	bootVersion       = 0x01
	bootParamInvalid  = 0x80 // bit of the selector: marked invalid or locked
)

// Completion codes of the boot options alone.
const (
	codeParamUnsupported command.Code = 0x80
	codeInProgress       command.Code = 0x81 // parameter 0
)

// bootFlagLife ends boot flags that no boot has used (table 28-14, parameter
// 3), and a parameter change that was never completed.
const bootFlagLife = 60 * time.Second

// bootOptions are the parameters that belong to IPMI alone. They are not kept
// over a restart of the board, as the table allows.
type bootOptions struct {
	mu sync.Mutex
	// inProgress is when parameter 0 was set to "in progress". A console that
	// dies must not lock out all others, so it is over after a while.
	inProgress time.Time
	keep       byte // parameter 3: what does not clear the flags
	ack        byte // parameter 4
}

// bootCommands are Set and Get System Boot Options; they need a host whose
// boot can be steered.
func (s *Server) bootCommands() []command.Command {
	if s.host.boot == nil {
		return nil
	}
	return []command.Command{
		{NetFn: command.Chassis, Cmd: 0x08, Name: "Set System Boot Options", Privilege: command.Operator, Conduct: command.Waits, MinLen: 1, MaxLen: 18, Run: s.setBootOptions},
		{NetFn: command.Chassis, Cmd: 0x09, Name: "Get System Boot Options", Privilege: command.Operator, MinLen: 3, MaxLen: 3, Run: s.getBootOptions},
	}
}

// bootDevices are the boot device selectors (parameter 5, data 2, bits 5:2)
// that stand for one of the host's targets. More selectors may mean one
// target; the first is the one that is read back.
var bootDevices = [...]struct {
	selector byte
	target   host.BootTarget
}{
	{0x1, host.BootPXE},
	{0x1, host.BootUEFIHTTP}, // IPMI has no word for it; PXE says "network" at least
	{0x2, host.BootDisk},
	{0x5, host.BootCD},
	{0x8, host.BootCD}, // remotely connected CD
	{0x6, host.BootBIOSSetup},
}

// setBootOptions: section 28.12.
func (s *Server) setBootOptions(c *command.Call) command.Code {
	param, data := c.Data[0]&0x7F, c.Data[1:]
	want := map[byte]int{bootInProgress: 1, bootValidClearing: 1, bootAcknowledge: 2, bootFlags: 5}
	n, known := want[param]
	switch {
	case !known:
		return codeParamUnsupported
	case c.Data[0]&bootParamInvalid != 0:
		return command.InvalidField // no parameter here can be locked
	case len(data) != n:
		return command.BadLength
	}
	if param == bootFlags {
		return s.setBootFlags(c, data)
	}
	o := &s.bootOptions
	o.mu.Lock()
	defer o.mu.Unlock()
	switch param {
	case bootInProgress:
		return o.setInProgress(data[0]&3, c.Now)
	case bootValidClearing:
		o.keep = data[0] & 0x1F
	case bootAcknowledge:
		o.ack = o.ack&^data[0] | data[1]&data[0]
	}
	return command.OK
}

func (o *bootOptions) setInProgress(v byte, now time.Time) command.Code {
	switch v {
	case 0:
		o.inProgress = time.Time{}
	case 1:
		if o.busy(now) {
			return codeInProgress
		}
		o.inProgress = now
	default: // commit write: there is nothing to roll back to
		return command.InvalidField
	}
	return command.OK
}

func (o *bootOptions) busy(now time.Time) bool {
	return !o.inProgress.IsZero() && now.Sub(o.inProgress) < bootFlagLife
}

// setBootFlags is parameter 5. Bits that the wires cannot act on (clear CMOS,
// locks, console redirection) are refused, not swallowed.
func (s *Server) setBootFlags(c *command.Call, d []byte) command.Code {
	const valid, persistent, efi = 0x80, 0x40, 0x20
	const deviceBits = 0x3C
	override := host.BootOverride{Target: host.BootDefault}
	selector := d[1] >> 2 & 0x0F
	if d[0]&valid != 0 {
		if d[1]&^deviceBits != 0 || d[2] != 0 || d[3] != 0 || d[4] != 0 {
			return command.InvalidField
		}
		for _, b := range bootDevices {
			if b.selector == selector && override.Target == host.BootDefault {
				override.Target = b.target
			}
		}
		if selector != 0 && override.Target == host.BootDefault {
			return command.InvalidField
		}
	}
	if override.Target != host.BootDefault {
		// A clear EFI bit says "PC compatible", and is all that most consoles
		// ever send: it leaves the mode to the firmware.
		if d[0]&efi != 0 {
			override.Mode = host.BootModeUEFI
		}
		override.Continuous = d[0]&persistent != 0
		if !override.Continuous && !s.bootOptions.keepsForEver() {
			override.Expires = c.Now.Add(bootFlagLife)
		}
	}
	err := s.host.boot.Set(override, c.Origin)
	if errors.Is(err, errors.ErrUnsupported) {
		return command.InvalidField // this device, not the parameter
	}
	return command.Result(s.log, "Set System Boot Options", err)
}

// keepsForEver is parameter 3, bit 3: the flags stay though no chassis control
// command comes within 60 s.
func (o *bootOptions) keepsForEver() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keep&0x08 != 0
}

// restartBootCountdown gives the boot flags their whole life again: they end
// 60 s after the last chassis control command (parameter 3, bit 3).
func (s *Server) restartBootCountdown(c *command.Call) {
	if s.host.boot == nil {
		return
	}
	o := s.host.boot.Get()
	if o.Target == host.BootDefault || o.Expires.IsZero() {
		return
	}
	if o.Expires = c.Now.Add(bootFlagLife); s.bootOptions.keepsForEver() {
		o.Expires = time.Time{}
	}
	if err := s.host.boot.Set(o, c.Origin); err != nil {
		// The command itself must not fail of it.
		s.log.Warn("IPMI boot flags keep their old end", "error", err)
	}
}

// getBootOptions: section 28.13.
func (s *Server) getBootOptions(c *command.Call) command.Code {
	param := c.Data[0] & 0x7F
	o := &s.bootOptions
	o.mu.Lock()
	defer o.mu.Unlock()
	c.Put(bootVersion, param)
	switch param {
	case bootInProgress:
		if o.busy(c.Now) {
			c.Put(1)
		} else {
			c.Put(0)
		}
	case bootValidClearing:
		c.Put(o.keep)
	case bootAcknowledge:
		c.Put(0, o.ack) // the write mask reads as 0
	case bootFlags:
		s.putBootFlags(c)
	default:
		return codeParamUnsupported
	}
	return command.OK
}

func (s *Server) putBootFlags(c *command.Call) {
	b := s.host.boot.Get()
	var flags, device byte
	if b.Target != host.BootDefault && b.Target != "" {
		flags = 0x80
		for _, d := range bootDevices {
			if d.target == b.Target && device == 0 {
				device = d.selector << 2
			}
		}
		if b.Continuous {
			flags |= 0x40
		}
		if b.Mode == host.BootModeUEFI {
			flags |= 0x20
		}
	}
	c.Put(flags, device, 0, 0, 0)
}
