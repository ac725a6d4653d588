package ipmi

import (
	"encoding/binary"

	"github.com/nitrino/nitrino/ipmi/command"
)

// Completion codes of single commands.
const (
	codeNotForThisSession command.Code = 0x80 // Set Session Privilege Level
	codeAboveUserLimit    command.Code = 0x81 // Set Session Privilege Level
	codeNoSuchSession     command.Code = 0x87 // Close Session
	codeNoSuchHandle      command.Code = 0x88 // Close Session
)

// sessionCommands steer sessions (chapter 22). Get Session Challenge and
// Activate Session, which begin v1.5 sessions, are not among them on purpose.
func (s *Server) sessionCommands() []command.Command {
	return []command.Command{
		{NetFn: command.App, Cmd: 0x3B, Name: "Set Session Privilege Level", Privilege: command.User, MinLen: 1, MaxLen: 1, Run: s.setSessionPrivilege},
		{NetFn: command.App, Cmd: 0x3C, Name: "Close Session", Privilege: command.Callback, Conduct: command.Changes, MinLen: 4, MaxLen: 5, Run: s.closeSession},
		{NetFn: command.App, Cmd: 0x3D, Name: "Get Session Info", Privilege: command.User, MinLen: 1, MaxLen: 5, Run: s.getSessionInfo},
	}
}

// holder is the session that c was called in.
func holder(c *command.Call) *session { return c.Session.(*session) }

// setSessionPrivilege: section 22.18.
func (s *Server) setSessionPrivilege(c *command.Call) command.Code {
	want := command.Privilege(c.Data[0] & 0x0F)
	switch {
	case want == command.None: // only asks
	case want < command.User || want > command.OEMLevel:
		return command.InvalidField
	case want > min(holder(c).userLimit, s.limit()):
		return codeAboveUserLimit
	case want > holder(c).max: // the login asked for less
		return codeNotForThisSession
	default:
		if raised := want > max(command.User, holder(c).privilege); raised {
			s.accounts.Privilege(holder(c).attempt(), want.String())
		}
		holder(c).privilege = want
	}
	c.Put(byte(holder(c).privilege))
	return command.OK
}

// closeSession: section 22.19. Everybody may close the session of the request,
// administrators any.
func (s *Server) closeSession(c *command.Call) command.Code {
	var target *session
	id := binary.LittleEndian.Uint32(c.Data)
	switch {
	case id == 0 && len(c.Data) == 5:
		if target = s.byHandle(c.Data[4]); target == nil {
			return codeNoSuchHandle
		}
	case len(c.Data) == 5:
		return command.BadLength
	default:
		target = s.activeByID(id)
	}
	if target != holder(c) && holder(c).privilege < command.Administrator {
		return command.TooLow // also where there is none: IDs are not to be guessed
	}
	if target == nil {
		return codeNoSuchSession
	}
	if target == holder(c) && target.sol != nil {
		s.sol.End(target.sol, "") // the answer says it
	}
	s.table.end(target, c.Now)
	s.closed(target, "closed by "+holder(c).exchange.username)
	return command.OK
}

// activeByID returns the active session of an ID, or nil.
func (s *Server) activeByID(id uint32) *session {
	if x := s.table.byID[id]; x != nil && x.state == stateActive {
		return x
	}
	return nil
}

func (s *Server) byHandle(h byte) *session {
	if h == 0 || int(h) > maxSlots {
		return nil
	}
	return s.table.active[h]
}

// getSessionInfo: section 22.20.
func (s *Server) getSessionInfo(c *command.Call) command.Code {
	var x *session
	switch which := c.Data[0]; {
	case which == 0x00 && len(c.Data) == 1:
		x = holder(c)
	case which == 0xFE && len(c.Data) == 2:
		x = s.byHandle(c.Data[1])
	case which == 0xFF && len(c.Data) == 5:
		x = s.activeByID(binary.LittleEndian.Uint32(c.Data[1:]))
	case which >= 0xFE || len(c.Data) != 1:
		return command.BadLength
	default: // the n-th active one
		n := int(which)
		for _, y := range s.table.active {
			if y != nil {
				if n--; n == 0 {
					x = y
				}
			}
		}
	}
	if x == nil {
		c.Put(0, byte(min(s.table.slots, mostTold)), byte(min(s.table.count, mostTold)))
		return command.OK
	}
	const rmcpPlus = 0x10 // session protocol, in the byte of the channel
	c.Put(x.handle, byte(min(s.table.slots, mostTold)), byte(min(s.table.count, mostTold)), s.userID(x.exchange.username), byte(x.privilege), rmcpPlus|command.ChannelLAN)
	// The console's address: 4 bytes, so 0 for IPv6; its MAC, which UDP does
	// not tell; its port.
	var addr [4]byte
	if a := x.peer.addr.Addr().Unmap(); a.Is4() {
		addr = a.As4()
	}
	c.Put(addr[:]...)
	c.Put(0, 0, 0, 0, 0, 0)
	c.Reply = binary.LittleEndian.AppendUint16(c.Reply, x.peer.addr.Port())
	return command.OK
}

// userID is a user's number (section 6.9), 0 where the user is gone.
func (s *Server) userID(name string) byte {
	u, _ := s.accounts.User(name)
	return byte(u.Number)
}
