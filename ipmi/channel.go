package ipmi

import "github.com/nitrino/nitrino/ipmi/command"

// channelCommands tell of the LAN channel and how to log in (chapter 22).
func (s *Server) channelCommands() []command.Command {
	return []command.Command{
		{NetFn: command.App, Cmd: 0x38, Name: "Get Channel Authentication Capabilities", Privilege: command.None, Sessionless: true, MinLen: 2, MaxLen: 2, Run: s.getAuthCapabilities},
		{NetFn: command.App, Cmd: 0x42, Name: "Get Channel Info", Privilege: command.User, MinLen: 1, MaxLen: 1, Run: s.getChannelInfo},
		{NetFn: command.App, Cmd: 0x54, Name: "Get Channel Cipher Suites", Privilege: command.None, Sessionless: true, MinLen: 3, MaxLen: 3, Run: s.getCipherSuites},
	}
}

// getAuthCapabilities: section 22.13. There are no v1.5 authentication types,
// so a console that asks for v1.5 data finds no way in.
func (s *Server) getAuthCapabilities(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	if p := command.Privilege(c.Data[1] & 0x0F); p < command.Callback || p > command.OEMLevel {
		return command.InvalidField
	}
	status := byte(0x04) // non-null user names; packets and users are always authenticated
	if s.kg() != nil {
		status |= 0x20
	}
	extended := c.Data[0] & 0x80 // asked for, so answered
	capabilities := byte(0)
	if extended != 0 {
		capabilities = 0x02 // v2.0 connections only
	}
	c.Put(command.ChannelLAN, extended, status, capabilities, 0, 0, 0, 0)
	return command.OK
}

// getChannelInfo: section 22.24.
func (s *Server) getChannelInfo(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	const (
		medium802_3  = 0x04 // table 6-3
		protocolIPMB = 0x01 // table 6-2: IPMI messages in IPMB's form
		multiSession = 0x80
	)
	// The vendor is the IPMI forum's number, 7154, as section 22.24 wants.
	c.Put(command.ChannelLAN, medium802_3, protocolIPMB, multiSession|byte(min(s.table.count, mostTold)), 0xF2, 0x1B, 0x00, 0, 0)
	return command.OK
}

// getCipherSuites: section 22.15. Records or algorithms, in rising order, are
// handed out in pieces of 16 bytes; the piece that is shorter is the last.
func (s *Server) getCipherSuites(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	if kind := c.Data[1] & 0x3F; kind != payloadIPMI && kind != payloadSOL {
		return command.InvalidField
	}
	var room [64]byte
	list := room[:0]
	const integrityTag, confidentialityTag = 0x40, 0x80 // section 22.15.1
	if bySuite := c.Data[2]&0x80 != 0; bySuite {
		for i := len(s.suites) - 1; i >= 0; i-- { // preference falls as numbers do
			x := s.suites[i]
			list = append(list, 0xC0, x.id, x.auth, integrityTag|x.integrity, confidentialityTag|x.confidentiality)
		}
	} else {
		for i := len(s.suites) - 1; i >= 0; i-- {
			list = append(list, s.suites[i].auth)
		}
		for i := len(s.suites) - 1; i >= 0; i-- {
			list = append(list, integrityTag|s.suites[i].integrity)
		}
		list = append(list, confidentialityTag|s.suites[0].confidentiality) // AES-CBC-128 is in all
	}
	from := min(16*int(c.Data[2]&0x3F), len(list))
	c.Put(command.ChannelLAN)
	c.Put(list[from:min(from+16, len(list))]...)
	return command.OK
}
