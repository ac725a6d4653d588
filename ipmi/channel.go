package ipmi

// Channels (table 6-1). The board has no system interface: the host cannot
// speak to it but over the LAN.
const (
	channelLAN     = 0x01
	channelCurrent = 0x0E // the channel a request came over
)

// channelCommands tell of the LAN channel and how to log in (chapter 22).
func (s *Server) channelCommands() []Command {
	return []Command{
		{NetFn: NetFnApp, Cmd: 0x38, Name: "Get Channel Authentication Capabilities", Privilege: PrivilegeNone, Sessionless: true, MinLen: 2, MaxLen: 2, run: s.getAuthCapabilities},
		{NetFn: NetFnApp, Cmd: 0x41, Name: "Get Channel Access", Privilege: PrivilegeUser, MinLen: 2, MaxLen: 2, run: s.getChannelAccess},
		{NetFn: NetFnApp, Cmd: 0x42, Name: "Get Channel Info", Privilege: PrivilegeUser, MinLen: 1, MaxLen: 1, run: s.getChannelInfo},
		{NetFn: NetFnApp, Cmd: 0x54, Name: "Get Channel Cipher Suites", Privilege: PrivilegeNone, Sessionless: true, MinLen: 3, MaxLen: 3, run: s.getCipherSuites},
	}
}

// isLAN says whether a request's channel byte names the LAN channel.
func isLAN(b byte) bool { return b&0x0F == channelLAN || b&0x0F == channelCurrent }

// getAuthCapabilities: section 22.13. There are no v1.5 authentication types,
// so a console that asks for v1.5 data finds no way in.
func (s *Server) getAuthCapabilities(c *call) completionCode {
	if !isLAN(c.data[0]) {
		return codeInvalidField
	}
	if p := Privilege(c.data[1] & 0x0F); p < PrivilegeCallback || p > PrivilegeOEM {
		return codeInvalidField
	}
	status := byte(0x04) // non-null user names; packets and users are always authenticated
	if len(s.cfg.KG) > 0 {
		status |= 0x20
	}
	extended := c.data[0] & 0x80 // asked for, so answered
	capabilities := byte(0)
	if extended != 0 {
		capabilities = 0x02 // v2.0 connections only
	}
	c.put(channelLAN, extended, status, capabilities, 0, 0, 0, 0)
	return codeOK
}

// getChannelAccess: section 22.23. The volatile and the kept settings are the
// same: both come from the board's settings.
func (s *Server) getChannelAccess(c *call) completionCode {
	if which := c.data[1] >> 6; !isLAN(c.data[0]) || which != 1 && which != 2 {
		return codeInvalidField
	}
	const alertsDisabled, alwaysAvailable = 0x20, 0x02
	c.put(alertsDisabled|alwaysAvailable, byte(s.cfg.MaxPrivilege))
	return codeOK
}

// getChannelInfo: section 22.24.
func (s *Server) getChannelInfo(c *call) completionCode {
	if !isLAN(c.data[0]) {
		return codeInvalidField
	}
	const (
		medium802_3  = 0x04 // table 6-3
		protocolIPMB = 0x01 // table 6-2: IPMI messages in IPMB's form
		multiSession = 0x80
	)
	// The vendor is the IPMI forum's number, 7154, as section 22.24 wants.
	c.put(channelLAN, medium802_3, protocolIPMB, multiSession|byte(s.table.count), 0xF2, 0x1B, 0x00, 0, 0)
	return codeOK
}

// getCipherSuites: section 22.15. Records or algorithms, in rising order, are
// handed out in pieces of 16 bytes; the piece that is shorter is the last.
func (s *Server) getCipherSuites(c *call) completionCode {
	if !isLAN(c.data[0]) {
		return codeInvalidField
	}
	const payloadSOL = 0x01
	if kind := c.data[1] & 0x3F; kind != payloadIPMI && kind != payloadSOL {
		return codeInvalidField
	}
	var room [64]byte
	list := room[:0]
	const integrityTag, confidentialityTag = 0x40, 0x80 // section 22.15.1
	if bySuite := c.data[2]&0x80 != 0; bySuite {
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
	from := min(16*int(c.data[2]&0x3F), len(list))
	c.put(channelLAN)
	c.put(list[from:min(from+16, len(list))]...)
	return codeOK
}
