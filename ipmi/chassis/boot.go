package chassis

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Parameters of the system boot options (table 28-14).
const (
	bootInProgress    = 0
	bootPartition     = 1
	bootScan          = 2
	bootValidClearing = 3
	bootAcknowledge   = 4
	bootFlags         = 5
	bootInitiator     = 6
	bootMailbox       = 7

	bootVersion      = 0x01
	bootParamInvalid = 0x80 // bit of the selector: marked invalid or locked
)

// mailboxBlocks is how many blocks the boot initiator mailbox has; the
// specification wants 80 bytes at least.
const (
	mailboxBlocks = 16
	mailboxBlock  = 16 // bytes
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
	// What parties leave for one another; the board itself looks at none of it.
	partition byte
	scan      byte
	ack       byte
	initiator [9]byte // channel, session ID, time
	mailbox   [mailboxBlocks][mailboxBlock]byte

	keep byte // parameter 3: what does not clear the flags
}

// bootDevices are the boot device selectors (parameter 5, data 2, bits 5:2)
// that stand for one of the host's targets. A selector means the first of its
// targets that the host can boot from, and a target is read back as its first
// selector.
var bootDevices = [...]struct {
	selector byte
	target   host.BootTarget
}{
	{0x1, host.BootPXE},
	{0x1, host.BootUEFIHTTP}, // IPMI has no word for it; PXE says "network" at least
	{0x2, host.BootDisk},
	{0x4, host.BootDiags},
	{0x5, host.BootCD},
	{0x8, host.BootCD}, // remotely connected CD
	{0x6, host.BootBIOSSetup},
	{0xF, host.BootUSB}, // floppy or primary removable medium
	{0xF, host.BootFloppy},
	{0x7, host.BootUSB}, // the same, remotely connected
	{0x7, host.BootFloppy},
}

// setBootOptions: section 28.12.
func (x *Chassis) setBootOptions(c *command.Call) command.Code {
	param, data := c.Data[0]&0x7F, c.Data[1:]
	lengths := [...]int{bootInProgress: 1, bootPartition: 1, bootScan: 1, bootValidClearing: 1, bootAcknowledge: 2, bootFlags: 5, bootInitiator: 9, bootMailbox: 1 + mailboxBlock}
	switch {
	case int(param) >= len(lengths):
		return codeParamUnsupported
	case c.Data[0]&bootParamInvalid != 0:
		return command.InvalidField // no parameter here can be locked
	case param == bootMailbox && len(data) > 1 && len(data) < lengths[param]:
		// ipmitool sends as much of the last block as it has.
	case len(data) != lengths[param]:
		return command.BadLength
	}
	if param == bootFlags {
		return x.setBootFlags(c, data)
	}
	o := &x.options
	o.mu.Lock()
	defer o.mu.Unlock()
	switch param {
	case bootInProgress:
		return o.setInProgress(data[0]&3, c.Now)
	case bootPartition:
		o.partition = data[0]
	case bootScan:
		o.scan = data[0] & 0x03
	case bootValidClearing:
		o.keep = data[0] & 0x1F
	case bootAcknowledge:
		o.ack = o.ack&^data[0] | data[1]&data[0]
	case bootInitiator:
		copy(o.initiator[:], data)
	case bootMailbox:
		if int(data[0]) >= mailboxBlocks {
			return command.OutOfRange
		}
		o.mailbox[data[0]] = [mailboxBlock]byte{}
		copy(o.mailbox[data[0]][:], data[1:])
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
func (x *Chassis) setBootFlags(c *command.Call, d []byte) command.Code {
	const valid, persistent, efi = 0x80, 0x40, 0x20
	const deviceBits = 0x3C
	override := host.BootOverride{Target: host.BootDefault}
	selector := d[1] >> 2 & 0x0F
	if d[0]&valid != 0 {
		if d[1]&^deviceBits != 0 || d[2] != 0 || d[3] != 0 || d[4] != 0 {
			return command.InvalidField
		}
		if selector != 0 {
			var ok bool
			if override.Target, ok = x.target(selector); !ok {
				return command.InvalidField
			}
		}
	}
	if override.Target != host.BootDefault {
		// A clear EFI bit says "PC compatible", and is all that most consoles
		// ever send: it leaves the mode to the firmware.
		if d[0]&efi != 0 {
			override.Mode = host.BootModeUEFI
		}
		override.Continuous = d[0]&persistent != 0
		if !override.Continuous && !x.options.keepsForEver() {
			override.Expires = c.Now.Add(bootFlagLife)
		}
	}
	err := x.Boot.Set(override, c.Origin)
	if errors.Is(err, errors.ErrUnsupported) {
		return command.InvalidField // this device or mode, not the parameter
	}
	return command.Result(x.Log, "Set System Boot Options", err)
}

// target is what a boot device selector means on this host.
func (x *Chassis) target(selector byte) (host.BootTarget, bool) {
	can := x.Boot.Targets()
	for _, b := range bootDevices {
		if b.selector == selector && slices.Contains(can, b.target) {
			return b.target, true
		}
	}
	return "", false
}

// keepsForEver is parameter 3, bit 3: the flags stay though no chassis control
// command comes within 60 s.
func (o *bootOptions) keepsForEver() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.keep&0x08 != 0
}

// bootCountdownStep is the least that the end of the boot flags is moved by: a
// script that repeats a command must not wear out the card.
const bootCountdownStep = 5 * time.Second

// restartBootCountdown gives the boot flags their whole life again: they end
// 60 s after the last chassis control command (parameter 3, bit 3).
func (x *Chassis) restartBootCountdown(c *command.Call) {
	if x.Boot == nil {
		return
	}
	var end time.Time
	if !x.options.keepsForEver() {
		end = c.Now.Add(bootFlagLife)
		if end.Sub(x.Boot.Get().Expires) < bootCountdownStep {
			return
		}
	}
	if err := x.Boot.Extend(end, c.Origin); err != nil {
		// The command itself must not fail of it.
		x.Log.Warn("IPMI boot flags keep their old end", "error", err)
	}
}

// getBootOptions: section 28.13.
func (x *Chassis) getBootOptions(c *command.Call) command.Code {
	param, block := c.Data[0]&0x7F, c.Data[1]
	o := &x.options
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
	case bootPartition:
		c.Put(o.partition)
	case bootScan:
		c.Put(o.scan)
	case bootValidClearing:
		c.Put(o.keep)
	case bootAcknowledge:
		c.Put(0, o.ack) // the write mask reads as 0
	case bootFlags:
		x.putBootFlags(c)
	case bootInitiator:
		c.Put(o.initiator[:]...)
	case bootMailbox:
		if int(block) >= mailboxBlocks {
			return command.OutOfRange
		}
		c.Put(block)
		c.Put(o.mailbox[block][:]...)
	default:
		return codeParamUnsupported
	}
	return command.OK
}

func (x *Chassis) putBootFlags(c *command.Call) {
	b := x.Boot.Get()
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
