package ipmi

import (
	"encoding/binary"

	"github.com/nitrino/nitrino/host"
)

// appCommands are those of the BMC itself (chapter 20).
func (s *Server) appCommands() []Command {
	list := []Command{
		{NetFn: NetFnApp, Cmd: 0x01, Name: "Get Device ID", Privilege: PrivilegeUser, run: s.getDeviceID},
	}
	if s.resetBMC != nil {
		list = append(list,
			Command{NetFn: NetFnApp, Cmd: 0x02, Name: "Cold Reset", Privilege: PrivilegeAdministrator, Conduct: Changes, run: s.reset(true)},
			Command{NetFn: NetFnApp, Cmd: 0x03, Name: "Warm Reset", Privilege: PrivilegeAdministrator, Conduct: Changes, run: s.reset(false)})
	}
	return append(list,
		Command{NetFn: NetFnApp, Cmd: 0x04, Name: "Get Self Test Results", Privilege: PrivilegeUser, run: s.getSelfTest},
		Command{NetFn: NetFnApp, Cmd: 0x07, Name: "Get ACPI Power State", Privilege: PrivilegeUser, run: s.getACPIState},
		Command{NetFn: NetFnApp, Cmd: 0x08, Name: "Get Device GUID", Privilege: PrivilegeUser, run: s.getDeviceGUID},
		Command{NetFn: NetFnApp, Cmd: 0x37, Name: "Get System GUID", Privilege: PrivilegeUser, Sessionless: true, run: s.getSystemGUID},
	)
}

// deviceID is a free choice of ours; consoles only look for 00h,
// "unspecified" (section 20.1).
const deviceID = 0x20

// getDeviceID: section 20.1.
func (s *Server) getDeviceID(c *call) completionCode {
	d := &s.device
	c.put(deviceID, d.Revision, d.Major, d.Minor/10<<4|d.Minor%10, 0x02, s.support,
		byte(d.Manufacturer), byte(d.Manufacturer>>8), byte(d.Manufacturer>>16))
	c.reply = binary.LittleEndian.AppendUint16(c.reply, d.Product)
	c.put(d.Aux[:]...)
	return codeOK
}

// deviceSupport is byte 6, additional device support: each bit follows from
// the command that a device of the kind must have.
func (s *Server) deviceSupport() (bits byte) {
	for _, d := range [...]struct {
		bit   byte
		netFn NetFn
		cmd   uint8
	}{
		{0x80, NetFnChassis, 0x01}, // chassis device: Get Chassis Status
		{0x08, NetFnStorage, 0x11}, // FRU inventory device: Read FRU Data
		{0x04, NetFnStorage, 0x43}, // SEL device: Get SEL Entry
		{0x02, NetFnStorage, 0x23}, // SDR repository device: Get SDR
		{0x01, NetFnSensor, 0x2D},  // sensor device: Get Sensor Reading
	} {
		if s.has(d.netFn, d.cmd) {
			bits |= d.bit
		}
	}
	return bits
}

// reset: sections 20.2 and 20.3. The answer goes out first.
func (s *Server) reset(cold bool) func(*call) completionCode {
	return func(c *call) completionCode {
		from := c.origin
		c.after = func() { s.resetBMC(cold, from) }
		return codeOK
	}
}

// getSelfTest: section 20.4.
func (s *Server) getSelfTest(c *call) completionCode {
	switch {
	case s.selfTest == nil:
		c.put(0x56, 0x00) // this board has no self-test (table 20-4)
	default:
		if failed := s.selfTest(); failed != 0 {
			c.put(0x57, byte(failed))
		} else {
			c.put(0x55, 0x00)
		}
	}
	return codeOK
}

// getACPIState: section 20.7. The front panel's light tells on from asleep and
// off, no more; the device that answers is always in D0.
func (s *Server) getACPIState(c *call) completionCode {
	const d0 = 0x00
	st := s.host.power.Status()
	state := byte(0x2A) // unknown
	switch {
	case st.State == host.StateAsleep:
		state = 0x03 // S3
	case st.State == host.StateUnknown:
	case st.PowerGood:
		state = 0x00 // S0/G0
	case st.StandbyWired && !st.Standby:
		state = 0x07 // G3, mechanical off
	default:
		state = 0x06 // S4 or S5, not told apart
	}
	c.put(state, d0)
	return codeOK
}

// getDeviceGUID: section 20.8.
func (s *Server) getDeviceGUID(c *call) completionCode {
	c.put(s.deviceGUID[:]...)
	return codeOK
}

// getSystemGUID: section 22.14.
func (s *Server) getSystemGUID(c *call) completionCode {
	c.put(s.systemGUID[:]...)
	return codeOK
}
