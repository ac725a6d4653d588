package user

import (
	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/ipmi/command"
)

// getName: section 22.29. An ID that nobody has answers zero bytes, as the
// anonymous user does, so that consoles list all IDs.
func (m *Manager) getName(c *command.Call) command.Code {
	u, _, code := m.find(c.Data[0])
	if code != command.OK {
		return code
	}
	var name [auth.MaxName]byte
	copy(name[:], u.Name)
	c.Put(name[:]...)
	return command.OK
}

// setName: section 22.28. A name makes a user of an ID that nobody has: disabled,
// with the least role, and without any password. No name deletes the user.
func (m *Manager) setName(c *command.Call) command.Code {
	u, found, code := m.find(c.Data[0])
	if code != command.OK {
		return code
	}
	name, clean := text(c.Data[1:])
	if !clean {
		return command.InvalidField
	}
	var err error
	switch {
	case name == "" && !found:
	case name == "":
		err = m.users.Delete(u.Name, by(c.Origin))
	case found:
		err = m.users.Rename(u.Name, name, by(c.Origin))
	default: // of 1, too, which package auth refuses
		err = m.users.Create(auth.User{Name: name, Role: auth.ReadOnly, Number: idOf(c.Data[0])}, "", by(c.Origin))
	}
	return command.Result(m.log, "Set User Name", err)
}
