package user

import (
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// keyLen is the length of K_G in bytes.
const keyLen = 20

// Keys keep K_G, the BMC's key in two-key logins (section 13.31). All zero bytes
// are no key: the user's serves.
type Keys interface {
	// KG does not block.
	KG() (key [keyLen]byte, locked bool)
	SetKG(key [keyLen]byte, from host.Origin) error
	// LockKG makes the key neither readable nor writable by IPMI, for good.
	LockKG(from host.Origin) error
}

// Completion codes of Set Channel Security Keys.
const (
	codeKeyLocked   command.Code = 0x80
	codeKeyTooShort command.Code = 0x81
	codeKeyTooLong  command.Code = 0x82
	codeKRUnused    command.Code = 0x84
)

// Lock states in the answer.
const (
	stateLocked   = 1
	stateUnlocked = 2
)

// setKeys: section 22.25. K_R would seed the random numbers of a BMC that has no
// source of its own.
func (m *Manager) setKeys(c *command.Call) command.Code {
	const readKey, setKey, lockKey = 0, 1, 2
	const keyKR, keyKG = 0, 1
	operation, value := c.Data[1]&0x03, c.Data[3:]
	switch {
	case !command.IsLAN(c.Data[0]) || operation > lockKey || c.Data[2] > keyKG:
		return command.InvalidField
	case c.Data[2] == keyKR:
		return codeKRUnused
	case operation != setKey && len(value) > 0:
		return command.BadLength
	}
	key, locked := m.keys.KG()
	var err error
	switch {
	case locked && operation == lockKey:
		c.Put(stateLocked)
		return command.OK
	case locked:
		return codeKeyLocked
	}
	switch operation {
	case readKey:
		c.Put(stateUnlocked)
		c.Put(key[:]...)
	case setKey:
		switch {
		case len(value) < keyLen:
			return codeKeyTooShort
		case len(value) > keyLen:
			return codeKeyTooLong
		case [keyLen]byte(value) != key:
			err = m.keys.SetKG([keyLen]byte(value), c.Origin)
		}
		c.Put(stateUnlocked)
	case lockKey:
		err = m.keys.LockKG(c.Origin)
		c.Put(stateLocked)
	}
	return command.Result(m.log, "Set Channel Security Keys", err)
}
