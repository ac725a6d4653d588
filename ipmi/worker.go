package ipmi

import (
	"net/netip"
	"sync"
	"time"

	"github.com/nitrino/nitrino/ipmi/command"
)

// maxWaiting bounds the commands that wait at once, in all.
const maxWaiting = 16

// peer is where a packet came from and where its answer goes.
type peer struct {
	addr netip.AddrPort
	via  transport
	// control holds the socket's ancillary data of the packet: sent back as it
	// is, it makes the answer come from the address that was asked.
	control [64]byte
	n       int
}

// transport sends a packet to a peer; it does not keep b.
type transport interface {
	send(b []byte, to *peer)
}

// worker handles one packet at a time in buffers of its own.
type worker struct {
	s       *Server
	in      [maxPacket + 1]byte // one more tells a longer packet
	out     [maxPacket]byte
	body    [maxPacket]byte
	reply   [maxPacket]byte
	from    peer
	call    command.Call
	verdict verdict
	tasks   sync.WaitGroup // commands that wait
}

func newWorker(s *Server) *worker { return &worker{s: s} }

// finish does what may only be done when the answer is sent.
func (w *worker) finish() {
	if w.verdict.decided {
		w.s.accounts.SecretResult(w.verdict.attempt, w.verdict.ok)
		w.verdict = verdict{}
	}
	if f := w.call.After; f != nil {
		w.call.After = nil
		f()
	}
}

// handle takes a packet from w.from and returns the answer, empty where there
// is none. The packet is changed; the answer is valid until the next call.
func (w *worker) handle(p []byte) []byte {
	seq, class, p, ok := parseRMCP(p)
	if !ok || len(p) == 0 {
		return nil
	}
	if class == classASF {
		if !w.s.admits(&w.from) {
			return nil
		}
		if seq != rmcpNoAck { // DSP0136 section 3.2.2.2
			w.from.via.send([]byte{rmcpVersion, 0, seq, classASF | classAck}, &w.from)
		}
		return appendPong(w.out[:0], p)
	}
	if class != classIPMI {
		return nil
	}
	now := time.Now()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if p[0] == authTypeNone {
		body, ok := parseSessionless(p)
		if !ok || !w.s.outside.allow(sourceOf(w.from.addr.Addr()), now) {
			return nil
		}
		if body = w.sessionless(body, now); body == nil {
			return nil
		}
		return appendSessionless(w.out[:0], body)
	}
	h, ok := parseSession(p)
	switch {
	case !ok:
		return nil
	case h.id != 0:
		return w.inSession(p, &h, now)
	case h.encrypted || h.authenticated, !w.s.outside.allow(sourceOf(w.from.addr.Addr()), now):
		return nil
	}
	answer, kind := w.body[:0], byte(0)
	switch h.payload {
	case payloadIPMI:
		answer, kind = w.sessionless(h.body, now), payloadIPMI
	case payloadOpenRequest:
		answer, kind = w.s.openSession(answer, h.body, &w.from, now), payloadOpenResponse
	case payloadRAKP1:
		answer, kind = w.s.rakp1(answer, h.body, &w.from, now), payloadRAKP2
	case payloadRAKP3:
		answer, kind = w.s.rakp3(answer, h.body, &w.from, now, &w.verdict), payloadRAKP4
	}
	if len(answer) == 0 {
		return nil
	}
	return appendSession(w.out[:0], kind, answer)
}

// admits says whether a source has not asked too much outside sessions.
func (s *Server) admits(from *peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outside.allow(sourceOf(from.addr.Addr()), time.Now())
}

// sessionless answers a command outside sessions.
func (w *worker) sessionless(p []byte, now time.Time) []byte {
	m, ok := parseMessage(p)
	if !ok {
		return nil
	}
	w.call = command.Call{Reply: w.reply[:0], Now: now}
	cmd, code := w.s.find(&m, nil)
	if cmd != nil {
		code = w.s.perform(cmd, &w.call, &m)
	}
	return appendResponse(w.body[:0], &m, code, w.call.Reply)
}

// inSession opens a session's packet and answers what is in it. In a session
// every payload is encrypted and authenticated: all else is dropped.
func (w *worker) inSession(p []byte, h *sessionHeader, now time.Time) []byte {
	x := w.s.table.byID[h.id]
	if x == nil || x.sealer == nil || !h.encrypted || !h.authenticated || !x.window.fresh(h.seq) {
		return nil
	}
	if !x.sealer.verify(p, sessionHeaderLen+len(h.body)) {
		return nil
	}
	x.window.take(h.seq)
	x.unheard = 0
	body, ok := x.sealer.decrypt(h.body)
	if !ok {
		return nil
	}
	if x.state == stateActive {
		x.lastUsed = now
		x.peer = w.from // it may have moved; the packet proves that it is the console
	}
	switch h.payload {
	case payloadIPMI:
		return w.command(x, body, now)
	case payloadSOL:
		return w.serial(x, body, h.seq, now)
	}
	return nil
}

// command answers a command of a session, at most once where it changes
// something.
func (w *worker) command(x *session, p []byte, now time.Time) []byte {
	m, ok := parseMessage(p)
	if !ok {
		return nil
	}
	known := &x.replies[m.rqSeq]
	if known.repeats(&m, w.s.seed, now, x.commands) {
		if known.running {
			return nil // its answer will come
		}
		return w.answer(x, &m, known.code, known.data[:known.n])
	}
	if x.state != stateActive {
		return nil
	}
	x.commands++
	if !known.running {
		*known = reply{}
	}
	w.call = command.Call{Reply: w.reply[:0], Now: now, Session: x}
	cmd, code := w.s.find(&m, x)
	switch {
	case cmd == nil:
	case cmd.Conduct == command.Reads:
		code = w.s.perform(cmd, &w.call, &m)
	case known.running: // another command: its number is to be kept for that one
		code = command.Busy
	case cmd.Conduct == command.Changes:
		w.call.Origin = x.origin()
		known.begin(&m, w.s.seed, x.commands)
		code = w.s.perform(cmd, &w.call, &m)
		known.finish(now, code, w.call.Reply)
	case w.s.waiting >= maxWaiting:
		code = command.Busy
	default:
		known.begin(&m, w.s.seed, x.commands)
		w.wait(x, cmd, m, now)
		return nil
	}
	return w.answer(x, &m, code, w.call.Reply)
}

func (w *worker) answer(x *session, m *message, code command.Code, data []byte) []byte {
	return x.seal(w.out[:0], payloadIPMI, appendResponse(w.body[:0], m, code, data))
}

// wait runs a command that may take its time. The lock is held.
func (w *worker) wait(x *session, cmd *command.Command, m message, now time.Time) {
	s := w.s
	m.data = append([]byte(nil), m.data...)
	c := command.Call{Now: now, Origin: x.origin()}
	s.waiting++
	w.tasks.Go(func() {
		code := s.perform(cmd, &c, &m)
		if code == command.Busy || code == command.Unspecified {
			s.log.Info("IPMI command refused", "command", cmd.Name, "code", code, "origin", c.Origin.String())
		}
		s.mu.Lock()
		s.waiting--
		x.replies[m.rqSeq].finish(time.Now(), code, c.Reply)
		packet := x.seal(make([]byte, 0, maxPacket), payloadIPMI, appendResponse(nil, &m, code, c.Reply))
		to := x.peer
		s.mu.Unlock()
		to.via.send(packet, &to)
		if c.After != nil {
			c.After()
		}
	})
}
