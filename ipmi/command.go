package ipmi

import (
	"fmt"
	"runtime/debug"

	"github.com/nitrino/nitrino/ipmi/command"
)

type commandKey struct {
	netFn command.NetFn
	cmd   uint8
	body  uint32
}

// bodyLen is how many bytes of defining body requests of n begin with (table
// 5-1).
func bodyLen(n command.NetFn) int {
	switch n {
	case command.Group:
		return 1
	case command.OEM:
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
func (s *Server) Commands() []command.Command { return append([]command.Command(nil), s.list...) }

// register takes a list of commands into the table.
func (s *Server) register(list []command.Command) error {
	for i := range list {
		c := &list[i]
		key := commandKey{c.NetFn, c.Cmd, c.Body}
		if s.commands[key] != nil {
			return fmt.Errorf("command %02X/%02X is there twice", c.NetFn, c.Cmd)
		}
		s.commands[key] = c
		s.list = append(s.list, *c)
	}
	return nil
}

// has says whether a command is in the table: capability bits follow from it.
func (s *Server) has(n command.NetFn, cmd uint8) bool {
	return s.commands[commandKey{n, cmd, 0}] != nil
}

// find looks a request up and checks all that is known without running it.
func (s *Server) find(m *message, holder *session) (*command.Command, command.Code) {
	key := commandKey{netFn: m.netFn, cmd: m.cmd}
	n := bodyLen(m.netFn)
	if len(m.data) < n {
		return nil, command.InvalidCommand
	}
	key.body = bodyOf(m.data[:n])
	c := s.commands[key]
	switch {
	case c == nil:
		return nil, command.InvalidCommand
	case m.lun != 0: // the BMC's own commands live at LUN 00b (section 7.2)
		return nil, command.InvalidLUN
	case holder == nil && !c.Sessionless:
		return nil, command.TooLow
	case holder != nil && holder.privilege < c.Privilege:
		return nil, command.TooLow
	case len(m.data)-n < c.MinLen || len(m.data)-n > c.MaxLen:
		return nil, command.BadLength
	}
	return c, command.OK
}

// perform runs a command and puts the defining body before its answer. A
// handler that panics fails alone: the sessions of all others go on.
func (s *Server) perform(cmd *command.Command, c *command.Call, m *message) (code command.Code) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("IPMI command panicked", "command", cmd.Name, "panic", r, "stack", string(debug.Stack()))
			c.Reply, c.Whole, c.After, code = c.Reply[:0], false, nil, command.Unspecified
		}
	}()
	n := bodyLen(cmd.NetFn)
	c.Data = m.data[n:]
	c.Reply = append(c.Reply[:0], m.data[:n]...)
	code = cmd.Run(c)
	if code != command.OK && !c.Whole {
		c.Reply = c.Reply[:n]
	}
	return code
}
