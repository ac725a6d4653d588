// Package user has the commands that manage users, what they may do on the LAN
// channel, and the channel itself (chapters 22 and 24 of the IPMI v2.0
// specification, revision 1.1, whose sections and tables the comments cite).
//
// There is one list of users for all front-ends: a user here is a user of SSH
// and Redfish too. The privilege level limit is the user's role, a disabled user
// is disabled everywhere, and the password alone is IPMI's own.
package user

import (
	"bytes"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Users are the accounts; *auth.Auth is one. ByNumber and Users do not block.
type Users interface {
	ByNumber(n int) (auth.User, bool)
	Users() []auth.User
	// Create makes a user with the number and access that u has.
	Create(u auth.User, password string, by auth.Attempt) error
	Delete(name string, by auth.Attempt) error
	Rename(name, to string, by auth.Attempt) error
	SetRole(name string, r auth.Role, by auth.Attempt) error
	SetEnabled(name string, enabled bool, by auth.Attempt) error
	SetIPMIAccess(name string, x auth.IPMIAccess, by auth.Attempt) error
	SetIPMISecretSize(name, secret string, size int, by auth.Attempt) error
	CheckIPMISecret(name, secret string) bool
}

// Options are what New needs.
type Options struct {
	Users Users
	// Channel is the LAN channel; nil: its access is not to be set.
	Channel Channel
	// Keys hold K_G; nil: it is not to be set.
	Keys Keys
	Log  *slog.Logger
}

// A Manager answers the commands.
type Manager struct {
	users   Users
	channel Channel
	keys    Keys
	log     *slog.Logger

	// changing is held by the one command that changes something: most read a
	// whole and write it back with a part changed.
	changing sync.Mutex
}

// New makes the commands of a list of users.
func New(o Options) *Manager {
	return &Manager{users: o.Users, channel: o.Channel, keys: o.Keys, log: o.Log}
}

// Commands lists the commands.
func (m *Manager) Commands() []command.Command {
	list := []command.Command{
		{NetFn: command.App, Cmd: 0x43, Name: "Set User Access", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 3, MaxLen: 4, Run: m.alone(m.setAccess)},
		{NetFn: command.App, Cmd: 0x44, Name: "Get User Access", Privilege: command.Operator, MinLen: 2, MaxLen: 2, Run: m.getAccess},
		{NetFn: command.App, Cmd: 0x45, Name: "Set User Name", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 1 + auth.MaxName, MaxLen: 1 + auth.MaxName, Run: m.alone(m.setName)},
		{NetFn: command.App, Cmd: 0x46, Name: "Get User Name", Privilege: command.Operator, MinLen: 1, MaxLen: 1, Run: m.getName},
		{NetFn: command.App, Cmd: 0x47, Name: "Set User Password", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 2, MaxLen: 2 + auth.MaxIPMISecret, Run: m.alone(m.setPassword)},
		{NetFn: command.App, Cmd: 0x4C, Name: "Set User Payload Access", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 6, MaxLen: 6, Run: m.alone(m.setPayloadAccess)},
		{NetFn: command.App, Cmd: 0x4D, Name: "Get User Payload Access", Privilege: command.Operator, MinLen: 2, MaxLen: 2, Run: m.getPayloadAccess},
	}
	if m.channel != nil {
		list = append(list,
			command.Command{NetFn: command.App, Cmd: 0x40, Name: "Set Channel Access", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 3, MaxLen: 3, Run: m.alone(m.setChannelAccess)},
			command.Command{NetFn: command.App, Cmd: 0x41, Name: "Get Channel Access", Privilege: command.User, MinLen: 2, MaxLen: 2, Run: m.getChannelAccess},
		)
	}
	if m.keys != nil {
		list = append(list, command.Command{NetFn: command.App, Cmd: 0x56, Name: "Set Channel Security Keys", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 3, MaxLen: 3 + 2*keyLen, Run: m.alone(m.setKeys)})
	}
	return list
}

// alone runs a command that changes something while no other does.
func (m *Manager) alone(run func(*command.Call) command.Code) func(*command.Call) command.Code {
	return func(c *command.Call) command.Code {
		m.changing.Lock()
		defer m.changing.Unlock()
		return run(c)
	}
}

// find looks the user of an ID up; found is false for an ID that nobody has. So
// is 1, that of the user without a name (section 6.9): there is none here, and
// package auth gives nobody that number.
func (m *Manager) find(b byte) (u auth.User, found bool, code command.Code) {
	id := idOf(b)
	switch {
	case id == 0: // reserved (section 22.26)
		return u, false, command.InvalidField
	case id > auth.MaxNumber:
		return u, false, command.OutOfRange
	}
	u, found = m.users.ByNumber(id)
	return u, found, command.OK
}

// idOf reads a user ID; the two bits above are other fields.
func idOf(b byte) int { return int(b & 0x3F) }

// by is who asks, for package auth.
func by(o host.Origin) auth.Attempt {
	source, err := netip.ParseAddr(o.Source)
	if err != nil {
		source = netip.Addr{} // the trail then says the user and the way alone
	}
	return auth.Attempt{Via: o.Via, Source: source, Name: o.User}
}

// text reads a field that zero bytes fill up; false where something follows
// them.
func text(field []byte) (string, bool) {
	s, rest, _ := bytes.Cut(field, []byte{0})
	return string(s), len(bytes.Trim(rest, "\x00")) == 0
}
