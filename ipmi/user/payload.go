package user

import "github.com/nitrino/nitrino/ipmi/command"

// payloadSOL is the bit of payload type 1, the only one beside IPMI messages, in
// the standard payload enables.
const payloadSOL = 0x02

// getPayloadAccess: section 24.7.
func (m *Manager) getPayloadAccess(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	u, found, code := m.find(c.Data[1])
	if code != command.OK {
		return code
	}
	enables := byte(0)
	if found && !u.IPMIAccess.NoSOL {
		enables = payloadSOL
	}
	c.Put(enables, 0, 0, 0)
	return command.OK
}

// setPayloadAccess: section 24.6.
func (m *Manager) setPayloadAccess(c *command.Call) command.Code {
	const enable, disable = 0, 1
	operation := c.Data[1] >> 6
	if !command.IsLAN(c.Data[0]) || operation > disable {
		return command.InvalidField
	}
	if c.Data[2]&^payloadSOL != 0 || c.Data[3] != 0 || c.Data[4] != 0 || c.Data[5] != 0 {
		return command.InvalidField // payloads that there are not
	}
	u, found, code := m.find(c.Data[1])
	if code != command.OK {
		return code
	}
	switch {
	case c.Data[2]&payloadSOL == 0: // nothing is to change
		return command.OK
	case found:
		x := u.IPMIAccess
		x.NoSOL = operation == disable
		return command.Result(m.log, "Set User Payload Access", m.users.SetIPMIAccess(u.Name, x, by(c.Origin)))
	case operation == enable:
		return command.InvalidField
	}
	return command.OK // nobody has it disabled already
}
