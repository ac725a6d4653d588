package iscsi

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/nitrino/nitrino/block/iscsi/login"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/host"
)

const (
	// maxWindow is how many commands an initiator may have under way, tightWindow
	// how many while memory is short.
	maxWindow   = 128
	tightWindow = 8
	// maxImmediate is how many commands may be under way outside of the window.
	maxImmediate = 16
	// maxManaging is how many immediate task management functions may be: one for each
	// command there can be.
	maxManaging = maxWindow + maxImmediate

	// receiveSize holds the longest PDU that may come.
	receiveSize = pdu.HeaderLength + pdu.MaxAHSLength + 2*pdu.DigestLength + maxSegment
	// maxSegment is the MaxRecvDataSegmentLength that is declared, bytes.
	maxSegment = 256 << 10
	// directSize is from when on missing data is read to where it belongs, not
	// through the receive buffer.
	directSize = 4 << 10
	// Between PDUs whose data is read directly only little is read ahead, as it has
	// to be copied; else much.
	readAheadBulk = 4 << 10
	readAheadMost = 256 << 10
	readAhead     = 64 << 10
)

// Why a connection is over, where it is not for an error of reading or sending.
var (
	errLogout     = errors.New("logout")
	errReinstated = errors.New("the initiator logged in anew")
	errStopped    = errors.New("the target stops")
	errRetired    = errors.New("the target is not there for this initiator any more")
	errReset      = errors.New("the target was reset")
	errStuck      = errors.New("the initiator does not read")
	errDigest     = errors.New("a data digest is wrong")
	errCutOff     = errors.New("the rest of a PDU does not come")
	errCrowded    = errors.New("there are too many discovery sessions")
)

// A conn is the connection of a session, which has only one at a time (section
// 13.2), in the full feature phase.
//
// One goroutine, the reader, takes PDUs out of what it has read, executes commands
// that have nothing to wait for, and sends the answers when it has no more PDUs.
// Commands that have to wait get goroutines of their own.
type conn struct {
	s       *Server
	session *session
	sock    *socket
	params  login.Parameters
	work    sync.WaitGroup  // all goroutines but the reader
	ctx     context.Context // ends when the connection breaks
	cancel  context.CancelFunc
	share   *share

	// The reader's.
	in    []byte
	r, w  int // in[r:w] is not used yet
	ahead int // bytes to read ahead

	// mine: the reader has output to send that there was no room for.
	mine  bool
	begun *task             // between Begin and its end, or its place in tasks
	idle  []*task           // ended, to be used again
	held  map[uint32][]byte // PDUs that others have to come before, by CmdSN
	text  textState
	done  error // the reader is to send what there is, and end
	// inBody: of a PDU some data is taken, and some to come; partly: that, or a part of
	// a PDU is there, while the reader waits for more.
	inBody bool
	partly atomic.Bool

	mu       sync.Mutex
	tasks    map[uint32]*task // by Initiator Task Tag; not those that the reader answers at once
	expCmdSN uint32
	maxCmdSN uint32
	statSN   uint32
	tag      uint32 // the last Target Transfer Tag
	// taken counts the commands in the window that have no answer yet, immediate those
	// outside of it.
	taken, immediate int
	managing         int // immediate task management functions that have no answer yet
	out              output
	leaving          bool // somebody waits until there are no tasks, or nothing to send
	closing          bool // what comes is ignored
	broken           bool
	why              error
	reads            uint64 // how often something came
	dataOuts         uint64 // of commands that waited for them
	pulse            pulse
}

func newConn(ctx context.Context, s *Server, sess *session, sock *socket, rest []byte) *conn {
	r := sess.result
	c := &conn{
		s: s, session: sess, sock: sock, params: r.Parameters, share: sess.share,
		in: make([]byte, receiveSize), ahead: readAhead, tasks: make(map[uint32]*task),
		expCmdSN: r.ExpCmdSN, maxCmdSN: r.ExpCmdSN + maxWindow - 1, statSN: r.StatSN,
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.out.room.L = &c.mu
	c.w = copy(c.in, rest)
	return c
}

// run serves the connection until it ends, and returns why, when nothing of it is
// under way any more.
func (c *conn) run() error {
	err := c.read()
	c.mu.Lock()
	c.breakOff(err)
	err = c.why
	for _, t := range c.tasks {
		t.filling = false // nobody is at it any more
	}
	c.mu.Unlock()
	c.endBegun()
	c.abandonAll(func(*task) bool { return true })
	c.work.Wait()
	c.mu.Lock()
	for c.out.sending && !c.mine { // those of watch and SetTargets, which are not of work
		c.out.room.Wait()
	}
	c.forget()
	if a := c.out.arena; a != nil {
		c.out.arena = nil
		c.s.memory.put(a)
	}
	c.mu.Unlock()
	if cerr := c.sock.close(); cerr != nil {
		c.s.o.Log.Debug("iSCSI: closing a connection", "error", cerr)
	}
	return err
}

// breakOff ends the connection, and all that waits on it. The caller holds mu.
func (c *conn) breakOff(why error) {
	if c.broken {
		return
	}
	c.broken, c.why = true, why
	c.cancel()
	c.sock.shutdown()
	c.out.room.Broadcast()
}

// drop is breakOff for other goroutines.
func (c *conn) drop(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakOff(why)
}

// spawn calls f in a goroutine.
func (c *conn) spawn(f func()) {
	c.work.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				c.panicked(p)
			}
		}()
		f()
	})
}

// panicked reports a panic, which costs this connection and no other.
func (c *conn) panicked(p any) {
	stack := debug.Stack()
	c.s.o.Log.Error("iSCSI: panic", "initiator", c.session.initiator, "target", c.session.name, "panic", p, "stack", string(stack))
	c.s.o.Report(host.Critical, "iscsi.panic", fmt.Sprintf("The connection of %s to %s ended by a fault of the software: %v.\n%s", c.session.initiator, c.session.name, p, stack))
	c.drop(fmt.Errorf("panic: %v", p))
}

// read is the reader.
func (c *conn) read() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			c.panicked(p)
		}
	}()
	for {
		for more := true; more && c.done == nil; {
			if more, err = c.next(); err != nil {
				return err
			}
			if more {
				if err := c.relieve(); err != nil {
					return err
				}
			}
		}
		if c.done != nil {
			return c.finishOutput()
		}
		if err := c.receive(nil); err != nil {
			return err
		}
	}
}

// finishOutput sends the last answers before the connection is closed.
func (c *conn) finishOutput() error {
	c.flush(true)
	if c.mine {
		c.drain()
		c.mine = false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out.sending && !c.broken {
		c.out.room.Wait()
	}
	return c.done
}

// receive sends what there is to send, and waits until something has come: into
// direct, and what is more into the receive buffer. It returns how much of direct
// there is by shortening it.
func (c *conn) receive(direct *[]byte) error {
	c.flush(true)
	if err := c.awaitRoom(true); err != nil {
		return err
	}
	if c.r == c.w {
		c.r, c.w = 0, 0
	} else if len(c.in)-c.w < c.ahead {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	var to []byte
	ahead := c.ahead
	if direct != nil {
		to, ahead = *direct, readAheadBulk
	}
	room := c.in[c.w:min(len(c.in), c.w+ahead)]
	c.partly.Store(c.inBody || c.r < c.w)
	n, err := c.sock.read(to, room)
	c.partly.Store(false)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.broken {
			return c.why
		}
		return err
	}
	c.mu.Lock()
	c.reads++
	c.mu.Unlock()
	if direct != nil {
		k := min(n, len(to))
		*direct = to[k:]
		n -= k
		c.ahead = readAheadBulk
	} else if n == len(room) {
		c.ahead = min(2*max(c.ahead, readAhead/2), readAheadMost)
	}
	c.w += n
	return nil
}

// next handles one PDU of the receive buffer, if there is a whole one.
func (c *conn) next() (more bool, err error) {
	have := c.w - c.r
	if have < pdu.HeaderLength {
		return false, nil
	}
	h := (*pdu.Header)(c.in[c.r:])
	front := pdu.HeaderLength + h.AHSLength()
	if c.params.HeaderDigest {
		front += pdu.DigestLength
	}
	if have < front {
		return false, nil
	}
	b := c.in[c.r : c.r+front]
	if c.params.HeaderDigest {
		// What the PDU's length is, nobody knows then (section 7.8).
		if end := front - pdu.DigestLength; !pdu.Digest(0).Update(b[:end]).Is(b[end:]) {
			return false, errors.New("a header's digest is wrong")
		}
	}
	data := h.DataLength()
	if data > c.params.MaxRecvDataSegmentLength {
		return false, fmt.Errorf("a data segment of %d bytes", data)
	}
	total := h.Length(c.params.HeaderDigest, c.params.DataDigest)
	if have < total {
		if total-have < directSize {
			return false, nil
		}
		switch h.Opcode() {
		case pdu.OpDataOut:
			c.r += front
			return true, c.dataOut(*h, nil, true)
		case pdu.OpSCSICommand:
			if now, _ := c.turn(h); now {
				ahs := append([]byte(nil), b[pdu.HeaderLength:pdu.HeaderLength+h.AHSLength()]...)
				c.r += front
				return true, c.ordered(*h, ahs, nil)
			}
		}
		return false, nil
	}
	c.r += total
	segment := c.in[c.r-total+front : c.r-total+front+data : c.r-total+front+data]
	if c.params.DataDigest && data > 0 {
		end := total - pdu.DigestLength
		whole := c.in[c.r-total : c.r]
		if !pdu.Digest(0).Update(whole[front:end]).Is(whole[end:]) {
			return true, c.badData(*h, segment)
		}
	}
	return true, c.handle(*h, b[pdu.HeaderLength:pdu.HeaderLength+h.AHSLength()], segment)
}

// badData is for a PDU whose data came with a wrong digest (section 7.8). Data of a
// command that goes on makes that command fail. For all else the initiator would
// have to send the PDU again, to fill the gap in the order of commands; error
// recovery level 0 has no means for that but a new session.
func (c *conn) badData(h pdu.Header, data []byte) error {
	if h.Opcode() == pdu.OpDataOut {
		return c.dataOut(h, data, false)
	}
	c.reject(&h, pdu.ReasonDataDigest)
	c.done = errDigest
	return nil
}

// body moves the data segment of a PDU of which only the header is taken off the
// receive buffer into dst, and drops what does not fit. It reports whether its
// digest is right.
func (c *conn) body(dst []byte, length int) (sound bool, err error) {
	var digest pdu.Digest
	c.inBody = true
	defer func() { c.inBody = false }()
	for left := length; left > 0; {
		switch {
		case c.r < c.w:
			from := c.in[c.r:min(c.w, c.r+left)]
			c.r += len(from)
			left -= len(from)
			if c.params.DataDigest {
				digest = digest.Update(from)
			}
			dst = dst[copy(dst, from):]
		case len(dst) > 0:
			at := dst[:min(len(dst), left)]
			rest := at
			if err := c.receive(&rest); err != nil {
				return false, err
			}
			n := len(at) - len(rest)
			if c.params.DataDigest {
				digest = digest.Update(at[:n])
			}
			left -= n
			dst = dst[n:]
		default:
			if err := c.receive(nil); err != nil {
				return false, err
			}
		}
	}
	n := c.tail(length)
	for c.w-c.r < n {
		if err := c.receive(nil); err != nil {
			return false, err
		}
	}
	trailer := c.in[c.r : c.r+n]
	c.r += n
	if c.params.DataDigest && length > 0 {
		pad := pdu.Padding(length)
		return digest.Update(trailer[:pad]).Is(trailer[pad:]), nil
	}
	return true, nil
}

// skip drops the data segment of a PDU that body would move.
func (c *conn) skip(length int) error {
	_, err := c.body(nil, length)
	return err
}

// handle takes a PDU whose data, if not nil, is a part of the receive buffer.
func (c *conn) handle(h pdu.Header, ahs, data []byte) error {
	switch h.Opcode() {
	case pdu.OpDataOut:
		return c.dataOut(h, data, true)
	case pdu.OpSNACK:
		// Error recovery level 0 has nothing to send again (section 11.16).
		c.reject(&h, pdu.ReasonSNACK)
		return nil
	case pdu.OpSCSICommand, pdu.OpNOPOut, pdu.OpTaskManagement, pdu.OpText, pdu.OpLogout:
	case pdu.OpLogin:
		c.reject(&h, pdu.ReasonProtocolError)
		return nil
	default:
		c.reject(&h, pdu.ReasonCommandNotSupported)
		return nil
	}
	switch now, later := c.turn(&h); {
	case now:
		return c.ordered(h, ahs, data)
	case later:
		return c.hold(h, ahs, data)
	}
	return nil
}

// turn says whether a request is to be handled now, or later, as others come before
// it. One outside of the window is to be ignored (section 4.2.2.1).
func (c *conn) turn(h *pdu.Header) (now, later bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing, c.broken:
		return false, false
	case h.Immediate():
		return true, false
	}
	sn := h.CmdSN()
	if pdu.Before(sn, c.expCmdSN) || pdu.Before(c.maxCmdSN, sn) {
		return false, false
	}
	return sn == c.expCmdSN, sn != c.expCmdSN
}

// hold keeps a PDU for when those before it have come. Over one connection they come
// in order, but for an initiator that skips numbers, which gets little room for that.
func (c *conn) hold(h pdu.Header, ahs, data []byte) error {
	sn := h.CmdSN()
	if c.held == nil {
		c.held = make(map[uint32][]byte)
	}
	size := 0
	for _, b := range c.held {
		size += len(b)
	}
	if size+len(data) > maxHeld {
		return errors.New("commands are missing before others")
	}
	if _, ok := c.held[sn]; !ok {
		c.held[sn] = append(append(append([]byte(nil), h[:]...), ahs...), data...)
	}
	return nil
}

// maxHeld is how much is kept of what came before its turn, bytes. It is beside the
// budget of memory.
const maxHeld = 64 << 10

// ordered handles a request that is immediate, or whose turn it is. Of a SCSI
// command data may be nil, though it has some: it is still to be read then.
func (c *conn) ordered(h pdu.Header, ahs, data []byte) error {
	if err := c.request(&h, ahs, data); err != nil {
		return err
	}
	for len(c.held) > 0 && c.done == nil {
		next := c.expCmdSN // which only the reader changes
		b, ok := c.held[next]
		if !ok {
			return nil
		}
		delete(c.held, next)
		if len(b) == 0 { // it was aborted before it came
			c.mu.Lock()
			c.expCmdSN++
			c.mu.Unlock()
			continue
		}
		h := pdu.Header(b)
		b = b[pdu.HeaderLength:]
		if err := c.request(&h, b[:h.AHSLength()], b[h.AHSLength():]); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) request(h *pdu.Header, ahs, data []byte) error {
	if h.Opcode() == pdu.OpSCSICommand {
		return c.command(h, ahs, data)
	}
	c.advance(h)
	switch h.Opcode() {
	case pdu.OpNOPOut:
		return c.nopOut(h, data)
	case pdu.OpTaskManagement:
		return c.taskManagement(h)
	case pdu.OpText:
		return c.textRequest(h, data)
	default: // as handle chose
		return c.logout(h)
	}
}

// advance counts a request that is not immediate.
func (c *conn) advance(h *pdu.Header) {
	if !h.Immediate() {
		c.mu.Lock()
		c.expCmdSN++
		c.mu.Unlock()
	}
}

// reject answers a PDU that cannot be handled with its own header (section 11.17).
func (c *conn) reject(h *pdu.Header, reason pdu.Reason) {
	c.s.o.Log.Debug("iSCSI: rejected", "initiator", c.session.initiator, "opcode", h.Opcode(), "reason", reason)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.post(func(to *pdu.Header) {
		(&pdu.Reject{Reason: reason, DataLength: pdu.HeaderLength}).Encode(to)
		c.stamp(to, false)
	}, h[:])
}

// refuse rejects a PDU that could not be taken apart.
func (c *conn) refuse(h *pdu.Header, err error) error {
	var e *pdu.Error
	if !errors.As(err, &e) {
		return err
	}
	c.reject(h, e.Reason)
	return nil
}
