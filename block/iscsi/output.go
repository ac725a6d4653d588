package iscsi

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

const (
	// arenaSize is the buffer that headers and small data gather in, bytes.
	arenaSize = 128 << 10
	// flushSize is when what has gathered is sent though more could follow, bytes.
	flushSize = 128 << 10
	// maxQueued is how much may wait for an initiator that does not read before
	// nothing is read from it either, bytes. What is under way still comes on top.
	// More would gain nothing, and leave the processor's cache before it is sent.
	maxQueued = 256 << 10
)

// A piece is a part of a buffer that is to be sent.
type piece struct {
	buffer   *buffer
	from, to int
}

// output is what a connection has to send. Whoever has something to send adds it
// under the connection's mutex, and sends all there is, if nobody does already.
type output struct {
	arena  *buffer // nil, or the one that is being filled
	pieces []piece
	first  int // of pieces that is not sent
	queued int // bytes
	sent   uint64
	// sending: somebody sees to it that the pieces are sent.
	sending bool
	room    sync.Cond
}

// space takes n bytes for something to be sent with add. The caller holds mu.
func (c *conn) space(n int) piece {
	o := &c.out
	if n > arenaSize {
		b := c.s.memory.always(c.share, n)
		b.filled, b.pieces = n, 1
		return piece{b, 0, n}
	}
	if o.arena != nil && o.arena.filled+n > len(o.arena.b) {
		if a := o.arena; a.pieces == 0 {
			c.s.memory.put(a)
		}
		o.arena = nil
	}
	if o.arena == nil {
		o.arena = c.s.memory.always(c.share, arenaSize)
	}
	a := o.arena
	p := piece{a, a.filled, a.filled + n}
	a.filled += n
	a.pieces++
	return p
}

// unused gives back what space took. The caller holds mu.
func (c *conn) unused(p piece) {
	p.buffer.pieces--
	if p.buffer.filled == p.to {
		p.buffer.filled = p.from
	}
	c.release(p.buffer)
}

// release gives a buffer back of which nothing is to be sent any more. The caller
// holds mu.
func (c *conn) release(b *buffer) {
	switch {
	case b.pieces > 0:
	case b == c.out.arena:
		b.filled = 0 // its beginning is still in the processor's cache
	default:
		c.s.memory.put(b)
	}
}

func (p piece) bytes() []byte { return p.buffer.b[p.from:p.to] }

// add queues a piece. The caller holds mu.
func (c *conn) add(p piece) {
	o := &c.out
	o.queued += p.to - p.from
	if k := len(o.pieces); k > o.first {
		if last := &o.pieces[k-1]; last.buffer == p.buffer && last.to == p.from {
			last.to = p.to
			p.buffer.pieces--
			return
		}
	}
	o.pieces = append(o.pieces, p)
}

// stamp numbers a response that has a status, or that says what the next will have
// (where next is set), and tells the window. The caller holds mu.
func (c *conn) stamp(h *pdu.Header, next bool) {
	h.SetStatSN(c.statSN)
	if !next {
		c.statSN++
	}
	h.SetWindow(c.expCmdSN, c.window())
}

// window is MaxCmdSN: it never goes back (section 4.2.2.1). The caller holds mu.
func (c *conn) window() uint32 {
	room := maxWindow - c.taken
	if c.s.memory.tight.Load() {
		// One, so that the initiator learns of more by its answer.
		room = min(room, max(1, tightWindow-c.taken))
	}
	if last := c.expCmdSN - 1 + uint32(max(room, 0)); pdu.Before(c.maxCmdSN, last) {
		c.maxCmdSN = last
	}
	return c.maxCmdSN
}

// seal makes a PDU of p's first bytes with the header at their beginning, and data
// of which inline bytes follow it in p; it sets the header's digest, and the
// padding and digest of the data behind. p has head(), inline and tail() bytes.
func (c *conn) seal(p piece, inline int) {
	b := p.bytes()
	if c.params.HeaderDigest {
		pdu.Digest(0).Update(b[:pdu.HeaderLength]).Put(b[pdu.HeaderLength:])
	}
	if inline > 0 {
		c.trailer(b[c.head()+inline:], b[c.head():c.head()+inline])
	}
}

// head is the length of a header and its digest, bytes.
func (c *conn) head() int {
	if c.params.HeaderDigest {
		return pdu.HeaderLength + pdu.DigestLength
	}
	return pdu.HeaderLength
}

// tail is the length of what follows n bytes of data, bytes.
func (c *conn) tail(n int) int {
	switch {
	case n == 0:
		return 0
	case c.params.DataDigest:
		return pdu.Padding(n) + pdu.DigestLength
	}
	return pdu.Padding(n)
}

// trailer fills what follows data: zeros, and the digest.
func (c *conn) trailer(b, data []byte) {
	n := pdu.Padding(len(data))
	clear(b[:n])
	if c.params.DataDigest {
		pdu.Digest(0).Update(data).Pad(len(data)).Put(b[n:])
	}
}

// post queues a PDU whose data is copied; encode fills its header. The caller holds
// mu.
func (c *conn) post(encode func(*pdu.Header), data ...[]byte) {
	n := 0
	for _, d := range data {
		n += len(d)
	}
	p := c.space(c.head() + n + c.tail(n))
	b := p.bytes()
	encode((*pdu.Header)(b))
	b = b[c.head():]
	for _, d := range data {
		b = b[copy(b, d):]
	}
	c.seal(p, n)
	c.add(p)
}

// flush sends what is queued as far as it can without waiting. For the reader the
// rest stays its own to send, as c.mine says; for others a goroutine sends it.
func (c *conn) flush(reader bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.queued == 0 || c.out.sending && !(reader && c.mine) {
		return
	}
	c.out.sending = true
	blocked := c.send()
	if reader {
		c.mine = blocked
	}
	switch {
	case !blocked:
		c.out.sending = false
		if c.leaving {
			c.out.room.Broadcast()
		}
	case !reader:
		c.spawn(c.drain)
	}
}

// relieve has the reader send what has gathered, if it is much, and wait where too
// much of it is left.
func (c *conn) relieve() error {
	c.mu.Lock()
	queued := c.out.queued
	c.mu.Unlock()
	if queued < flushSize {
		return nil
	}
	c.flush(true)
	return c.awaitRoom(false)
}

// awaitRoom waits until not too much is queued; with input, also until something has
// come, or nothing is left of the reader's own to send.
func (c *conn) awaitRoom(input bool) error {
	for {
		c.mu.Lock()
		for !c.mine && c.out.queued > maxQueued && !c.broken {
			c.out.room.Wait()
		}
		full := c.out.queued > maxQueued
		broken, why := c.broken, c.why
		c.mu.Unlock()
		switch {
		case broken:
			return why
		case !c.mine || !input && !full:
			return nil
		}
		readable, writable, err := c.sock.wait(input && !full)
		if err != nil {
			return err
		}
		if writable {
			c.flush(true)
		}
		if readable {
			return nil
		}
	}
}

// drain sends until all is sent, and waits for room.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.send() {
		c.mu.Unlock()
		_, _, err := c.sock.wait(false)
		c.mu.Lock()
		if err != nil {
			c.breakOff(err)
		}
	}
	c.out.sending = false
	c.out.room.Broadcast()
}

// send sends until all is sent, or there is no room. The caller holds mu, and has
// set sending.
func (c *conn) send() (blocked bool) {
	o := &c.out
	for o.queued > 0 {
		n := 0
		for _, p := range o.pieces[o.first:min(len(o.pieces), o.first+maxVectors)] {
			c.sock.out[n].Base = &p.buffer.b[p.from]
			c.sock.out[n].SetLen(p.to - p.from)
			n++
		}
		c.mu.Unlock()
		sent, err := c.sock.send(n)
		c.mu.Lock()
		if errors.Is(err, unix.EAGAIN) && !c.broken {
			return true
		}
		if err != nil || c.broken {
			c.breakOff(err)
			c.forget()
			return false
		}
		c.consume(sent)
	}
	return false
}

// consume takes n bytes off the queue. The caller holds mu.
func (c *conn) consume(n int) {
	o := &c.out
	o.sent += uint64(n)
	full := o.queued > maxQueued
	o.queued -= n
	for n > 0 {
		p := &o.pieces[o.first]
		if k := p.to - p.from; n < k {
			p.from += n
			break
		} else {
			n -= k
		}
		p.buffer.pieces--
		c.release(p.buffer)
		o.pieces[o.first] = piece{}
		o.first++
	}
	if o.first == len(o.pieces) {
		o.pieces, o.first = o.pieces[:0], 0
	} else if o.first >= 1024 {
		o.pieces = append(o.pieces[:0], o.pieces[o.first:]...)
		o.first = 0
	}
	if full && o.queued <= maxQueued {
		o.room.Broadcast()
	}
}

// forget drops what cannot be sent any more. The caller holds mu.
func (c *conn) forget() {
	if c.out.queued > 0 {
		c.consume(c.out.queued)
	}
	c.out.room.Broadcast()
}
