package user

import (
	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Bits of Set User Access byte 1 and Get User Access byte 4.
const (
	changeBits     = 0x80
	callbackOnly   = 0x40
	linkAuth       = 0x20
	ipmiMessaging  = 0x10
	noAccess       = 0x0F // a privilege limit beside the levels
	enabledStatus  = 0x40 // Get User Access byte 2: by Set User Password
	disabledStatus = 0x80
	// fixedNames is how many IDs have a name that cannot be set: 1 alone.
	fixedNames = 1
)

// limitOf is the user's privilege limit on the channel: the role's, or less.
func limitOf(u auth.User) byte {
	switch u.IPMIAccess.Limit {
	case auth.NoIPMI:
		return noAccess
	case auth.CallbackLimit:
		return byte(command.Callback)
	}
	switch u.Role {
	case auth.Administrator:
		return byte(command.Administrator)
	case auth.Operator:
		return byte(command.Operator)
	case auth.ReadOnly:
		return byte(command.User)
	}
	return noAccess
}

// accessOf is byte 4 of Get User Access. An ID that nobody has has no access.
func accessOf(u auth.User, found bool) byte {
	if !found {
		return noAccess
	}
	b := limitOf(u)
	if u.IPMIAccess.Callback {
		b |= callbackOnly
	}
	if u.IPMIAccess.LinkAuth {
		b |= linkAuth
	}
	if !u.IPMIAccess.NoMessaging {
		b |= ipmiMessaging
	}
	return b
}

// getAccess: section 22.27.
func (m *Manager) getAccess(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	u, found, code := m.find(c.Data[1])
	if code != command.OK {
		return code
	}
	enabled := byte(0)
	for _, other := range m.users.Users() {
		if other.Enabled {
			enabled++
		}
	}
	status := byte(disabledStatus)
	if u.Enabled {
		status = enabledStatus
	}
	c.Put(auth.MaxNumber, status|enabled, fixedNames, accessOf(u, found))
	return command.OK
}

// setAccess: section 22.26. A level is the user's role; callback and no access
// leave the role alone and narrow it for IPMI.
func (m *Manager) setAccess(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	u, found, code := m.find(c.Data[1])
	if code != command.OK {
		return code
	}
	role, x := u.Role, u.IPMIAccess
	switch limit := c.Data[2] & 0x0F; limit {
	case byte(command.Callback):
		x.Limit = auth.CallbackLimit
	case byte(command.User):
		role, x.Limit = auth.ReadOnly, auth.RoleLimit
	case byte(command.Operator):
		role, x.Limit = auth.Operator, auth.RoleLimit
	case byte(command.Administrator):
		role, x.Limit = auth.Administrator, auth.RoleLimit
	case noAccess:
		x.Limit = auth.NoIPMI
	default: // reserved, and the OEM level that nobody has here
		return command.InvalidField
	}
	if c.Data[0]&changeBits != 0 {
		x.Callback = c.Data[0]&callbackOnly != 0
		x.LinkAuth = c.Data[0]&linkAuth != 0
		x.NoMessaging = c.Data[0]&ipmiMessaging == 0
	}
	if len(c.Data) > 3 {
		x.SessionLimit = int(c.Data[3] & 0x0F)
	}
	if !found {
		// Consoles write back what they read of an ID that nobody has.
		if x.Limit == auth.NoIPMI && !x.Callback && !x.LinkAuth && (x.NoMessaging || c.Data[0]&changeBits == 0) {
			return command.OK
		}
		return command.InvalidField
	}
	// The role first: it may be refused, and then nothing has changed.
	if role != u.Role {
		if err := m.users.SetRole(u.Name, role, by(c.Origin)); err != nil {
			return command.Result(m.log, "Set User Access", err)
		}
	}
	return command.Result(m.log, "Set User Access", m.users.SetIPMIAccess(u.Name, x, by(c.Origin)))
}
