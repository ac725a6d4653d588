package ipmi

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sol"
)

type sessionState uint8

const (
	stateOpened   sessionState = iota // Open Session answered
	stateRAKP2                        // RAKP 2 sent: one RAKP 3 will be judged
	stateRefused                      // RAKP 3 was wrong: only its repetition is answered
	stateActive                       // commands
	stateFarewell                     // closed: only repeated commands are answered
)

// session is one RMCP+ session from Open Session to its end. The server's lock
// guards it.
type session struct {
	state    sessionState
	id       uint32 // ours
	peer     peer
	source   netip.Addr
	lastUsed time.Time // the clock of the state's limit
	begun    time.Time

	consoleID uint32
	suite     *suite
	max       command.Privilege // at most this, from what is known so far

	// The handshake. The last request and answer are kept for a console that
	// lost the answer and asks again.
	exchange  exchange
	secret    auth.Secret // its key is gone when the session is active
	known     bool        // the user exists, may log in, and secret is the user's own
	userLimit command.Privilege
	request   []byte
	answer    []byte

	// An active session.
	handle    byte // 1 and up, for Get Session Info
	privilege command.Privilege
	window    window
	sent      uint32 // sequence of the last packet sent
	unheard   int    // packets sent since the console was last heard, but for answers
	sealer    *sealer
	replies   *[64]reply  // by the requester's sequence
	commands  uint32      // how many were taken, repetitions excepted
	sol       *sol.Stream // the last one activated, nil: none was
}

func (s *session) attempt() auth.Attempt {
	return auth.Attempt{Via: "ipmi", Source: s.peer.addr.Addr().Unmap(), Name: s.exchange.username, Begun: s.begun}
}

func (s *session) origin() host.Origin {
	return host.Origin{Via: "ipmi", User: s.exchange.username, Source: s.peer.addr.Addr().Unmap().String()}
}

// Username and Level are for handlers.
func (s *session) Username() string { return s.exchange.username }

// Level is the present privilege level.
func (s *session) Level() command.Privilege { return s.privilege }

// seal frames a payload as the session's next packet in b.
func (s *session) seal(b []byte, payload byte, body []byte) []byte {
	s.sent++
	if s.sent == 0 { // 0 is for packets outside sessions (section 6.12.8)
		s.sent = 1
	}
	return s.sealer.seal(b, payload, s.consoleID, s.sent, body)
}

// window tells new sequence numbers from those seen (section 6.12.13): 64 wide,
// so that packets may come in another order, and never moving back, so that
// none is taken twice. All of a session's packets are authenticated, so a jump
// forward is the console's own doing and needs no limit but the number circle's.
type window struct {
	last uint32
	seen uint64 // bit n: last-n was seen
}

// newWindow counts 0 and what lies before it as seen.
func newWindow() window { return window{seen: ^uint64(0)} }

// fresh says whether seq may be taken. It changes nothing, since it is asked
// before the packet is known to be genuine.
func (w *window) fresh(seq uint32) bool {
	ahead := int32(seq - w.last)
	switch {
	case seq == 0:
		return false
	case ahead > 0:
		return true
	case ahead <= -64:
		return false
	}
	return w.seen&(1<<uint(-ahead)) == 0
}

// take marks a fresh seq as seen.
func (w *window) take(seq uint32) {
	ahead := int32(seq - w.last)
	switch {
	case ahead <= 0:
		w.seen |= 1 << uint(-ahead)
		return
	case ahead >= 64:
		w.seen = 0
	default:
		w.seen <<= uint(ahead)
	}
	w.seen |= 1
	w.last = seq
}

const (
	// replyAge is how long after its answer a command that changes something is
	// recognised when it comes again. ipmitool's last try comes 6 s after its first, and
	// FreeIPMI tries each second. A console uses its 64 numbers again after
	// that many commands, and some use one for all; so whatever other command
	// comes under a number makes it new at once.
	replyAge = 10 * time.Second
	// replyLag is how many other commands may come between. A console that
	// sends one command over and over is back at a number after 64.
	replyLag = 32
)

// reply is the last command that came under one requester's sequence, if it
// changes something: a console that lost the answer sends the command in a new
// packet, and it must not run again.
type reply struct {
	at      time.Time // of the answer; zero: nothing to repeat
	command uint32
	number  uint32 // of session.commands
	digest  uint64 // of the request's data
	running bool   // not answered yet
	code    command.Code
	data    [command.MaxKept]byte
	n       int
}

// commandKey holds what makes a command the same one besides its data.
func (m *message) commandKey() uint32 {
	return uint32(m.netFn)<<24 | uint32(m.cmd)<<16 | uint32(m.lun)<<12 | uint32(m.rqLUN)<<8 | uint32(m.rqAddr)
}

func (r *reply) repeats(m *message, seed maphash.Seed, now time.Time, commands uint32) bool {
	recent := r.running || !r.at.IsZero() && now.Sub(r.at) < replyAge && commands-r.number < replyLag
	return recent && r.command == m.commandKey() && r.digest == maphash.Bytes(seed, m.data)
}

func (r *reply) begin(m *message, seed maphash.Seed, commands uint32) {
	*r = reply{command: m.commandKey(), number: commands, digest: maphash.Bytes(seed, m.data), running: true}
}

func (r *reply) finish(now time.Time, code command.Code, data []byte) {
	r.at, r.running, r.code = now, false, code
	r.n = copy(r.data[:], data)
}
