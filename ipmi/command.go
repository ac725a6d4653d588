package ipmi

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/nitrino/nitrino/host"
)

// A NetFn is a network function (table 5-1), the even number of requests.
type NetFn uint8

// The network functions that commands are sorted into.
const (
	NetFnChassis   NetFn = 0x00
	NetFnBridge    NetFn = 0x02
	NetFnSensor    NetFn = 0x04
	NetFnApp       NetFn = 0x06
	NetFnFirmware  NetFn = 0x08
	NetFnStorage   NetFn = 0x0A
	NetFnTransport NetFn = 0x0C
	NetFnGroup     NetFn = 0x2C // requests and answers begin with the defining body
	NetFnOEM       NetFn = 0x2E // likewise, with an IANA number of three bytes
)

// A Privilege is a privilege level (section 6.8);
// each one may do what those below it may.
type Privilege uint8

// The levels.
const (
	PrivilegeNone          Privilege = 0
	PrivilegeCallback      Privilege = 1
	PrivilegeUser          Privilege = 2
	PrivilegeOperator      Privilege = 3
	PrivilegeAdministrator Privilege = 4
	PrivilegeOEM           Privilege = 5
)

// String names the level as the specification does.
func (p Privilege) String() string {
	names := [...]string{"NONE", "CALLBACK", "USER", "OPERATOR", "ADMINISTRATOR", "OEM"}
	if int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("Privilege(%d)", uint8(p))
}

// A Conduct says how a command is run.
type Conduct uint8

// The conducts.
const (
	// Reads: the command changes nothing, or nothing that doing it twice would
	// spoil. It runs in the receiver and must not block; a repetition runs
	// again.
	Reads Conduct = iota
	// Changes: likewise, but a repetition gets the first answer again.
	Changes
	// Waits: as Changes, and it may wait for a disk or a wire: it runs in a
	// goroutine of its own, without the server's lock, and meanwhile every
	// other command is answered.
	Waits
)

// A Command is one line of the table of commands.
type Command struct {
	NetFn NetFn
	Cmd   uint8
	// Body is the defining body of NetFnGroup (one byte) and NetFnOEM (an IANA
	// number). Handlers do not see it.
	Body uint32
	Name string
	// Privilege is the least that may use it (appendix G).
	Privilege Privilege
	// Sessionless: it is also answered outside sessions.
	Sessionless bool
	Conduct     Conduct
	// MinLen and MaxLen bound the request's data, in bytes.
	MinLen, MaxLen int

	run func(*call) completionCode
}

// call is one request under way.
type call struct {
	data   []byte // of the request
	reply  []byte // of the answer; handlers append
	now    time.Time
	origin host.Origin // who asks; set unless the command Reads
	// session is nil outside a session and for commands that Wait, since those
	// do not hold the lock that guards it.
	session *session
	after   func() // run when the answer is sent, without the lock
}

// put appends to the answer.
func (c *call) put(b ...byte) { c.reply = append(c.reply, b...) }

// arg is the request's byte i, 0 where the request is shorter.
func (c *call) arg(i int) byte {
	if i < len(c.data) {
		return c.data[i]
	}
	return 0
}

type commandKey struct {
	netFn NetFn
	cmd   uint8
	body  uint32
}

// bodyLen is how many bytes of defining body requests of n begin with (table
// 5-1).
func bodyLen(n NetFn) int {
	switch n {
	case NetFnGroup:
		return 1
	case NetFnOEM:
		return 3
	}
	return 0
}

func bodyOf(p []byte) (body uint32) {
	for i, b := range p {
		body |= uint32(b) << (8 * i)
	}
	return body
}

// Commands lists what this server answers, in the order of the specification's
// chapters. It depends on what is wired: a command that could only ever fail
// is not in it.
func (s *Server) Commands() []Command { return append([]Command(nil), s.list...) }

// register makes the table; each part of the specification has its own list.
func (s *Server) register(lists ...[]Command) error {
	s.commands = map[commandKey]*Command{}
	for _, list := range lists {
		s.list = append(s.list, list...)
	}
	for i := range s.list {
		c := &s.list[i]
		key := commandKey{c.NetFn, c.Cmd, c.Body}
		if s.commands[key] != nil {
			return fmt.Errorf("command %02X/%02X is there twice", c.NetFn, c.Cmd)
		}
		s.commands[key] = c
	}
	return nil
}

// has says whether a command is in the table: capability bits follow from it.
func (s *Server) has(n NetFn, cmd uint8) bool { return s.commands[commandKey{n, cmd, 0}] != nil }

// find looks a request up and checks all that is known without running it.
func (s *Server) find(m *message, holder *session) (*Command, completionCode) {
	key := commandKey{netFn: m.netFn, cmd: m.cmd}
	n := bodyLen(m.netFn)
	if len(m.data) < n {
		return nil, codeInvalidCommand
	}
	key.body = bodyOf(m.data[:n])
	c := s.commands[key]
	switch {
	case c == nil:
		return nil, codeInvalidCommand
	case m.lun != 0: // the BMC's own commands live at LUN 00b (section 7.2)
		return nil, codeInvalidLUN
	case holder == nil && !c.Sessionless:
		return nil, codePrivilege
	case holder != nil && holder.privilege < c.Privilege:
		return nil, codePrivilege
	case len(m.data)-n < c.MinLen || len(m.data)-n > c.MaxLen:
		return nil, codeLength
	}
	return c, codeOK
}

// perform runs a command and puts the defining body before its answer. A
// handler that panics fails alone: the sessions of all others go on.
func (s *Server) perform(cmd *Command, c *call, m *message) (code completionCode) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("IPMI command panicked", "command", cmd.Name, "panic", r, "stack", string(debug.Stack()))
			c.reply, c.after, code = c.reply[:0], nil, codeUnspecified
		}
	}()
	n := bodyLen(cmd.NetFn)
	c.data = m.data[n:]
	c.reply = append(c.reply[:0], m.data[:n]...)
	code = cmd.run(c)
	if code != codeOK {
		c.reply = c.reply[:n]
	}
	return code
}
