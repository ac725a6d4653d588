package ipmi

import "encoding/binary"

// sessionCommands steer sessions (chapter 22). Get Session Challenge and
// Activate Session, which begin v1.5 sessions, are not among them on purpose.
func (s *Server) sessionCommands() []Command {
	return []Command{
		{NetFn: NetFnApp, Cmd: 0x3B, Name: "Set Session Privilege Level", Privilege: PrivilegeUser, MinLen: 1, MaxLen: 1, run: s.setSessionPrivilege},
		{NetFn: NetFnApp, Cmd: 0x3C, Name: "Close Session", Privilege: PrivilegeCallback, Conduct: Changes, MinLen: 4, MaxLen: 5, run: s.closeSession},
		{NetFn: NetFnApp, Cmd: 0x3D, Name: "Get Session Info", Privilege: PrivilegeUser, MinLen: 1, MaxLen: 5, run: s.getSessionInfo},
	}
}

// setSessionPrivilege: section 22.18.
func (s *Server) setSessionPrivilege(c *call) completionCode {
	want := Privilege(c.data[0] & 0x0F)
	switch {
	case want == PrivilegeNone: // only asks
	case want < PrivilegeUser || want > PrivilegeOEM:
		return codeInvalidField
	case want > min(c.session.userLimit, s.cfg.MaxPrivilege):
		return codeAboveUserLimit
	case want > c.session.max: // the login asked for less
		return codeNotForThisSession
	default:
		c.session.privilege = want
	}
	c.put(byte(c.session.privilege))
	return codeOK
}

// closeSession: section 22.19. Everybody may close the session of the request,
// administrators any.
func (s *Server) closeSession(c *call) completionCode {
	var target *session
	id := binary.LittleEndian.Uint32(c.data)
	switch {
	case id == 0 && len(c.data) == 5:
		if target = s.byHandle(c.data[4]); target == nil {
			return codeNoSuchHandle
		}
	case len(c.data) == 5:
		return codeLength
	default:
		target = s.activeByID(id)
	}
	if target != c.session && c.session.privilege < PrivilegeAdministrator {
		return codePrivilege // also where there is none: IDs are not to be guessed
	}
	if target == nil {
		return codeNoSuchSession
	}
	s.table.end(target, c.now)
	s.closed(target, "closed by "+c.session.exchange.username)
	return codeOK
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
func (s *Server) getSessionInfo(c *call) completionCode {
	var x *session
	switch which := c.data[0]; {
	case which == 0x00 && len(c.data) == 1:
		x = c.session
	case which == 0xFE && len(c.data) == 2:
		x = s.byHandle(c.data[1])
	case which == 0xFF && len(c.data) == 5:
		x = s.activeByID(binary.LittleEndian.Uint32(c.data[1:]))
	case which >= 0xFE || len(c.data) != 1:
		return codeLength
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
		c.put(0, byte(s.table.slots), byte(s.table.count))
		return codeOK
	}
	const rmcpPlus = 0x10 // session protocol, in the byte of the channel
	c.put(x.handle, byte(s.table.slots), byte(s.table.count), s.userID(x.exchange.username), byte(x.privilege), rmcpPlus|channelLAN)
	// The console's address: 4 bytes, so 0 for IPv6; its MAC, which UDP does
	// not tell; its port.
	var addr [4]byte
	if a := x.peer.addr.Addr().Unmap(); a.Is4() {
		addr = a.As4()
	}
	c.put(addr[:]...)
	c.put(0, 0, 0, 0, 0, 0)
	c.reply = binary.LittleEndian.AppendUint16(c.reply, x.peer.addr.Port())
	return codeOK
}

// userID is a user's number: the place in the sorted list, from 2 on, since 1
// is the anonymous user (section 6.9). 0 where the user is gone.
func (s *Server) userID(name string) byte {
	for i, u := range s.accounts.Users() {
		if u.Name == name && i+2 <= 0x3F {
			return byte(i + 2)
		}
	}
	return 0
}
