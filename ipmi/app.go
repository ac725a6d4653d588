package ipmi

import (
	"encoding/binary"

	"github.com/nitrino/nitrino/ipmi/command"
)

// appCommands are those of the BMC itself (chapter 20).
func (s *Server) appCommands() []command.Command {
	list := []command.Command{
		{NetFn: command.App, Cmd: 0x01, Name: "Get Device ID", Privilege: command.User, Run: s.getDeviceID},
	}
	if s.resetBMC != nil {
		list = append(list,
			command.Command{NetFn: command.App, Cmd: 0x02, Name: "Cold Reset", Privilege: command.Administrator, Conduct: command.Changes, Run: s.reset(true)},
			command.Command{NetFn: command.App, Cmd: 0x03, Name: "Warm Reset", Privilege: command.Administrator, Conduct: command.Changes, Run: s.reset(false)})
	}
	return append(list,
		command.Command{NetFn: command.App, Cmd: 0x04, Name: "Get Self Test Results", Privilege: command.User, Run: s.getSelfTest},
		command.Command{NetFn: command.App, Cmd: 0x08, Name: "Get Device GUID", Privilege: command.User, Run: s.getDeviceGUID},
		command.Command{NetFn: command.App, Cmd: 0x37, Name: "Get System GUID", Privilege: command.User, Sessionless: true, Run: s.getSystemGUID},
	)
}

// deviceID is a free choice of ours; consoles only look for 00h,
// "unspecified" (section 20.1).
const deviceID = 0x20

// getDeviceID: section 20.1.
func (s *Server) getDeviceID(c *command.Call) command.Code {
	d := &s.device
	c.Put(deviceID, d.Revision, d.Major, d.Minor/10<<4|d.Minor%10, 0x02, s.support,
		byte(d.Manufacturer), byte(d.Manufacturer>>8), byte(d.Manufacturer>>16))
	c.Reply = binary.LittleEndian.AppendUint16(c.Reply, d.Product)
	c.Put(d.Aux[:]...)
	return command.OK
}

// deviceSupport is byte 6, additional device support: each bit follows from
// the command that a device of the kind must have.
func (s *Server) deviceSupport() (bits byte) {
	for _, d := range [...]struct {
		bit   byte
		netFn command.NetFn
		cmd   uint8
	}{
		{0x80, command.Chassis, 0x01}, // chassis device: Get Chassis Status
		{0x08, command.Storage, 0x11}, // FRU inventory device: Read FRU Data
		{0x04, command.Storage, 0x43}, // SEL device: Get SEL Entry
		{0x02, command.Storage, 0x23}, // SDR repository device: Get SDR
		{0x01, command.Sensor, 0x2D},  // sensor device: Get Sensor Reading
	} {
		if s.has(d.netFn, d.cmd) {
			bits |= d.bit
		}
	}
	return bits
}

// reset: sections 20.2 and 20.3. The answer goes out first.
func (s *Server) reset(cold bool) func(*command.Call) command.Code {
	return func(c *command.Call) command.Code {
		from := c.Origin
		c.After = func() { s.resetBMC(cold, from) }
		return command.OK
	}
}

// getSelfTest: section 20.4.
func (s *Server) getSelfTest(c *command.Call) command.Code {
	switch {
	case s.selfTest == nil:
		c.Put(0x56, 0x00) // this board has no self-test (table 20-4)
	default:
		if failed := s.selfTest(); failed != 0 {
			c.Put(0x57, byte(failed))
		} else {
			c.Put(0x55, 0x00)
		}
	}
	return command.OK
}

// getDeviceGUID: section 20.8.
func (s *Server) getDeviceGUID(c *command.Call) command.Code {
	c.Put(s.deviceGUID[:]...)
	return command.OK
}

// getSystemGUID: section 22.14.
func (s *Server) getSystemGUID(c *command.Call) command.Code {
	c.Put(s.systemGUID[:]...)
	return command.OK
}
