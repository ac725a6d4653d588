package user

import (
	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Completion codes of Set User Password.
const (
	codeWrongPassword command.Code = 0x80 // and its size is right
	codeWrongSize     command.Code = 0x81
)

// Operations of Set User Password.
const (
	disableUser = iota
	enableUser
	setPassword
	testPassword
)

const (
	shortPassword = 16
	longPassword  = auth.MaxIPMISecret
	longBit       = 0x80 // of byte 1: the password is one of 20 bytes
)

// setPassword: section 22.30. The password is the IPMI secret; an empty one
// takes it away, since there are no logins without a secret.
func (m *Manager) setPassword(c *command.Call) command.Code {
	u, found, code := m.find(c.Data[0])
	if code != command.OK {
		return code
	}
	size := shortPassword
	if c.Data[0]&longBit != 0 {
		size = longPassword
	}
	operation, field := c.Data[1]&0x03, c.Data[2:]
	switch n := len(field); {
	case n == size:
	// Consoles need not send a password that is not looked at, and some send
	// one of either size.
	case operation <= enableUser && (n == 0 || n == shortPassword || n == longPassword):
	default:
		return command.BadLength
	}
	secret, clean := text(field)
	var err error
	switch operation {
	case disableUser, enableUser:
		enable := operation == enableUser
		switch {
		case found:
			err = m.users.SetEnabled(u.Name, enable, by(c.Origin))
		case enable: // nobody; and nobody is disabled already
			return command.InvalidField
		}
	case setPassword:
		switch {
		case !clean || !found && secret != "":
			return command.InvalidField
		case found:
			err = m.users.SetIPMISecretSize(u.Name, secret, size, by(c.Origin))
		}
	case testPassword:
		return m.testPassword(u, found, secret, clean, size)
	}
	return command.Result(m.log, "Set User Password", err)
}

// testPassword answers the size's code for a wrong password, too: a secret that
// was set as one of 16 bytes is not one of 20 though both be the same. One that
// another front-end set is either, if it is not longer.
func (m *Manager) testPassword(u auth.User, found bool, secret string, clean bool, size int) command.Code {
	right := found && clean && m.users.CheckIPMISecret(u.Name, secret) || !found && secret == ""
	switch {
	case u.IPMISecretSize != 0 && u.IPMISecretSize != size:
		return codeWrongSize
	case !right:
		return codeWrongPassword
	}
	return command.OK
}
