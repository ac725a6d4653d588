package ipmi

import (
	"bytes"
	"errors"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sol"
)

// Completion codes of the payload commands.
const (
	codePayloadActive    command.Code = 0x80 // Activate: on another session
	codePayloadDisabled  command.Code = 0x81
	codePayloadLimit     command.Code = 0x82 // Activate: as many as there can be
	codeOnlyEncrypted    command.Code = 0x84 // Activate
	codePayloadInactive  command.Code = 0x80 // Deactivate
	codeNoSuchPayload    command.Code = 0x80 // Get Channel Payload Version
	codeEncryptionForced command.Code = 0x81 // Suspend/Resume Payload Encryption
	codeNotActive        command.Code = 0x83 // Suspend/Resume Payload Encryption
)

// payloadCommands are chapter 24 but for the users' access. Serial over LAN is
// the one payload that is activated.
func (s *Server) payloadCommands() []command.Command {
	list := []command.Command{
		{NetFn: command.App, Cmd: 0x4E, Name: "Get Channel Payload Support", Privilege: command.User, MinLen: 1, MaxLen: 1, Run: s.getPayloadSupport},
		{NetFn: command.App, Cmd: 0x4F, Name: "Get Channel Payload Version", Privilege: command.User, MinLen: 2, MaxLen: 2, Run: s.getPayloadVersion},
	}
	if s.sol == nil {
		return list
	}
	return append([]command.Command{
		// Which level they need is one of SOL's parameters (appendix G, note 10).
		{NetFn: command.App, Cmd: 0x48, Name: "Activate Payload", Privilege: command.User, Conduct: command.Changes, MinLen: 6, MaxLen: 6, Run: s.activatePayload},
		{NetFn: command.App, Cmd: 0x49, Name: "Deactivate Payload", Privilege: command.User, Conduct: command.Changes, MinLen: 6, MaxLen: 6, Run: s.deactivatePayload},
		{NetFn: command.App, Cmd: 0x4A, Name: "Get Payload Activation Status", Privilege: command.User, MinLen: 1, MaxLen: 1, Run: s.getActivationStatus},
		{NetFn: command.App, Cmd: 0x4B, Name: "Get Payload Instance Info", Privilege: command.User, MinLen: 2, MaxLen: 2, Run: s.getInstanceInfo},
		{NetFn: command.App, Cmd: 0x55, Name: "Suspend/Resume Payload Encryption", Privilege: command.User, MinLen: 3, MaxLen: 3, Run: s.suspendEncryption},
	}, list...)
}

func (s *Server) newSOL(o Options) *sol.SOL {
	rate := o.SerialRate
	if rate == nil {
		rate = func() int { return 0 }
	}
	x := sol.Options{
		Console: s.host.console, BitRate: rate, Log: s.log,
		Off: func() bool {
			st := s.host.power.Status()
			return st.State == host.StateOff || st.State == host.StateAsleep || st.State == host.StatePoweringOff && !st.PowerGood
		},
		Port: func() uint16 { return o.Port },
		Changed: func(what string, from host.Origin) {
			if s.host.event != nil {
				s.host.event(host.Event{Severity: host.OK, Kind: "ipmi.sol-changed", Message: what, Origin: from})
			}
		},
	}
	if o.Store != nil {
		x.Store = o.Store
	}
	return sol.New(x)
}

// maxUnheard is how many packets a session sends by itself before it has heard
// of its console again. FreeIPMI takes no packet that is more than 8 ahead of
// the last one that came, and so would never hear us again.
const maxUnheard = 8

// carrier sends SOL's packets in a session.
type carrier struct {
	s      *Server
	x      *session
	buf    [maxPacket]byte
	packet []byte // the last one sent, in buf
	last   [sol.PayloadSize]byte
	n      int // of last, which packet carries
}

// Send goes on in a session that was just closed: it may have to be told that
// its payload is deactivated. To a silent console it repeats the last packet as
// it is.
func (c *carrier) Send(p []byte) {
	c.s.mu.Lock()
	if c.x.unheard < maxUnheard || !bytes.Equal(p, c.last[:c.n]) {
		c.x.unheard++
		c.packet = c.x.seal(c.buf[:0], payloadSOL, p)
		c.n = copy(c.last[:], p)
	}
	to := c.x.peer
	c.s.mu.Unlock()
	to.via.send(c.packet, &to)
}

// serial handles a SOL packet of a session.
func (w *worker) serial(x *session, p []byte, seq uint32, now time.Time) []byte {
	if x.sol == nil || x.state != stateActive {
		return nil
	}
	answer := x.sol.Receive(w.body[:0], p, seq, x.privilege >= command.Operator, now)
	if len(answer) == 0 {
		return nil
	}
	return x.seal(w.out[:0], payloadSOL, answer)
}

// activatePayload: section 24.1.
func (s *Server) activatePayload(c *command.Call) command.Code {
	const encryption, authentication = 0x80, 0x40
	x := holder(c)
	switch aux := c.Data[2]; {
	case c.Data[0]&0x3F != payloadSOL:
		return command.InvalidField
	case x.privilege < s.sol.Settings().Privilege || !s.mayUseSOL(x.exchange.username):
		return command.TooLow
	case aux&(encryption|authentication) == encryption:
		return command.InvalidField
	case aux&encryption == 0:
		return codeOnlyEncrypted
	case x.sol != nil && x.sol.Active(): // packets do not tell the instance, so a session has one
		return codePayloadActive
	}
	stream, err := s.sol.Activate(int(c.Data[1]&0x0F), &carrier{s: s, x: x})
	switch {
	case errors.Is(err, sol.ErrActive):
		return codePayloadActive
	case errors.Is(err, sol.ErrDisabled):
		return codePayloadDisabled
	case errors.Is(err, sol.ErrLimit):
		return codePayloadLimit
	case errors.Is(err, sol.ErrStopped):
		return command.Busy
	case err != nil:
		return command.Result(s.log, "Activate Payload", err)
	}
	x.sol = stream
	s.log.Info("SOL activated", "instance", c.Data[1]&0x0F, "origin", c.Origin.String())
	const noVLAN = 0xFFFF
	c.Put32(0) // no test mode
	c.Put16(sol.PayloadSize)
	c.Put16(sol.PayloadSize)
	c.Put16(s.sol.Port())
	c.Put16(noVLAN)
	return command.OK
}

// mayUseSOL says whether a user may activate SOL at all.
func (s *Server) mayUseSOL(name string) bool {
	u, ok := s.accounts.User(name)
	return ok && !u.IPMIAccess.NoSOL
}

// deactivatePayload: section 24.2. Who left a session behind may end what it
// has; an administrator may end anybody's.
func (s *Server) deactivatePayload(c *command.Call) command.Code {
	n := int(c.Data[1] & 0x0F)
	if c.Data[0]&0x3F != payloadSOL || n < 1 || n > sol.Instances {
		return command.InvalidField
	}
	stream := s.sol.Active(n)
	if stream == nil {
		return codePayloadInactive
	}
	x, owner := holder(c), stream.Carrier().(*carrier).x
	if x != owner && x.exchange.username != owner.exchange.username && x.privilege < command.Administrator {
		return command.TooLow
	}
	why := "deactivated by " + c.Origin.String()
	if x == owner {
		why = "" // the answer says it
	}
	s.sol.End(stream, why)
	s.log.Info("SOL deactivated", "instance", n, "origin", c.Origin.String())
	return command.OK
}

// getActivationStatus: section 24.4.
func (s *Server) getActivationStatus(c *command.Call) command.Code {
	if c.Data[0] != payloadSOL {
		return command.InvalidField
	}
	var active byte
	for i := range sol.Instances {
		if s.sol.Active(i+1) != nil {
			active |= 1 << i
		}
	}
	c.Put(sol.Instances, active, 0)
	return command.OK
}

// getInstanceInfo: section 24.5.
func (s *Server) getInstanceInfo(c *command.Call) command.Code {
	n := int(c.Data[1])
	if c.Data[0] != payloadSOL || n < 1 || n > sol.Instances {
		return command.InvalidField
	}
	var id uint32
	if stream := s.sol.Active(n); stream != nil {
		id = stream.Carrier().(*carrier).x.id
	}
	const firstPort = 1 // the host's one serial port that is redirected
	c.Put32(id)
	c.Put(firstPort, 0, 0, 0, 0, 0, 0, 0)
	return command.OK
}

// getPayloadSupport: section 24.8.
func (s *Server) getPayloadSupport(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	standard := byte(1 << payloadIPMI)
	if s.sol != nil && s.sol.Settings().Enabled {
		standard |= 1 << payloadSOL
	}
	const setUp = 0x3F // 10h to 15h: Open Session Request to RAKP message 4
	c.Put(standard, 0, setUp, 0, 0, 0, 0, 0)
	return command.OK
}

// getPayloadVersion: section 24.9. FreeIPMI keeps sessions alive with it.
func (s *Server) getPayloadVersion(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	switch p := c.Data[1]; {
	case p == payloadIPMI, p == payloadSOL && s.sol != nil, p >= payloadOpenRequest && p <= payloadRAKP4:
		c.Put(0x10) // 1.0
		return command.OK
	}
	return codeNoSuchPayload
}

// suspendEncryption: section 24.3. Everything in a session is encrypted, and
// AES-CBC begins each packet with a vector of its own.
func (s *Server) suspendEncryption(c *command.Call) command.Code {
	const suspend, resume, regenerate = 0, 1, 2
	switch p := c.Data[0] & 0x3F; {
	case p != payloadIPMI && p != payloadSOL:
		return command.InvalidField
	case p == payloadSOL && s.sol.Active(int(c.Data[1]&0x0F)) == nil:
		return codeNotActive
	}
	switch c.Data[2] & 0x1F {
	case suspend:
		return codeEncryptionForced
	case resume, regenerate:
		return command.OK
	}
	return command.InvalidField
}
