package nbd

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// depth is how many requests are under way on one connection.
const depth = 64

// A link is one connection in its transmission phase.
type link struct {
	conn net.Conn
	e    export

	writing sync.Mutex // one request at a time
	header  [requestLen]byte
	vector  net.Buffers // what is being written; WriteTo takes it apart
	left    net.Buffers
	out     *bufio.Writer // instead, where the connection has no writev

	free chan int // slots of table without a call

	// heard is when the peer last gave a sign of life, or the first of the calls under
	// way was made: a time.Duration after began, as no clock that is set may matter.
	began time.Time
	heard atomic.Int64

	mu    sync.Mutex
	calls int // in table
	table [depth]*call
	turn  [depth]uint32 // the upper half of a slot's cookie: an old answer is none to a new call
	ended bool
}

func newLink(conn net.Conn, e export) *link {
	l := &link{conn: conn, e: e, free: make(chan int, depth), began: time.Now()}
	for i := range depth {
		l.free <- i
	}
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default: // TLS would make a record of each piece
		l.out = bufio.NewWriterSize(conn, 64<<10)
	}
	return l
}

// enter gives a call the slot and its cookie. It is false on a link that has ended.
func (l *link) enter(c *call, slot int) (cookie uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, false
	}
	if l.calls++; l.calls == 1 {
		l.heard.Store(int64(time.Since(l.began)))
	}
	c.reset()
	c.slot = slot
	l.turn[slot]++
	l.table[slot] = c
	return uint64(l.turn[slot])<<32 | uint64(slot), true
}

// find has the call that a cookie belongs to, or nil.
func (l *link) find(cookie uint64) *call {
	slot := cookie & (1<<32 - 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if slot >= depth || l.turn[slot] != uint32(cookie>>32) {
		return nil
	}
	return l.table[slot]
}

// complete ends a call.
func (l *link) complete(c *call, err error) {
	l.mu.Lock()
	l.table[c.slot] = nil
	l.calls--
	l.mu.Unlock()
	l.free <- c.slot // a call has one slot: there is room
	c.done <- err
}

// send writes a request, whose data is not copied on the way.
func (l *link) send(c *call, cookie uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	putRequest(&l.header, c.flags, c.command, cookie, c.offset, uint32(c.length))
	l.vector = append(l.vector[:0], l.header[:])
	if c.command == cmdWrite {
		l.vector = append(l.vector, c.bufs...)
	}
	if l.out == nil {
		l.left = l.vector
		_, err := l.left.WriteTo(l.conn)
		clear(l.vector)
		return err
	}
	for _, b := range l.vector {
		if _, err := l.out.Write(b); err != nil {
			return err
		}
	}
	clear(l.vector)
	return l.out.Flush()
}

// silent is how long the peer has been silent with calls under way.
func (l *link) silent() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == 0 {
		return 0
	}
	return time.Since(l.began) - time.Duration(l.heard.Load())
}

// Read reads from the connection, and notes the sign of life.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.conn.Read(p)
	l.heard.Store(int64(time.Since(l.began)))
	return n, err
}

// receive takes answers until the connection ends or is not to be trusted any more,
// and ends all calls that have none then with errLost. Nothing is written to any
// caller's memory after that.
func (l *link) receive(r io.Reader) error {
	in := incoming(r)
	var err error
	for err == nil {
		err = l.answer(in)
	}
	l.mu.Lock()
	l.ended = true
	left := l.table
	l.mu.Unlock()
	for _, c := range left {
		if c != nil {
			l.complete(c, errLost)
		}
	}
	return err
}

// answer takes one simple reply or chunk. An error ends the connection.
func (l *link) answer(in *bufio.Reader) error {
	b, err := in.Peek(16)
	if err != nil {
		return err
	}
	switch magic := binary.BigEndian.Uint32(b); {
	case magic == simpleMagic:
		number, cookie := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
		if _, err := in.Discard(16); err != nil {
			return err
		}
		return l.simple(in, number, cookie)
	case magic == structuredMagic && l.e.structured:
		if b, err = in.Peek(20); err != nil {
			return err
		}
		k := chunk{
			flags: binary.BigEndian.Uint16(b[4:]), kind: binary.BigEndian.Uint16(b[6:]),
			length: int64(binary.BigEndian.Uint32(b[16:])),
		}
		cookie := binary.BigEndian.Uint64(b[8:])
		if _, err := in.Discard(20); err != nil {
			return err
		}
		return l.structured(in, k, cookie)
	default:
		return fmt.Errorf("%w: reply magic %#x", errProtocol, magic)
	}
}

func (l *link) simple(in *bufio.Reader, number uint32, cookie uint64) error {
	c := l.find(cookie)
	switch {
	case c == nil:
		return fmt.Errorf("%w: a reply to a request that was not made", errProtocol)
	case len(c.got) > 0 || c.err != nil || c.answered,
		l.e.structured && c.command == cmdRead, c.command == cmdBlockStatus:
		return fmt.Errorf("%w: a simple reply to a request that structured ones are for", errProtocol)
	case number != 0:
		return l.failed(c, replyError(number, ""))
	case c.command == cmdRead:
		if err := c.read(in, c.offset, c.length); err != nil {
			return err
		}
	}
	l.complete(c, nil)
	return nil
}

// failed ends a call with an error, which may be that the server goes.
func (l *link) failed(c *call, err error) error {
	lost := isLost(err)
	l.complete(c, err)
	if lost {
		return err
	}
	return nil
}

// A chunk is the head of a part of a structured reply.
type chunk struct {
	flags, kind uint16
	length      int64 // of what follows, bytes
}

func (l *link) structured(in *bufio.Reader, k chunk, cookie uint64) error {
	c := l.find(cookie)
	if c == nil {
		return fmt.Errorf("%w: a reply to a request that was not made", errProtocol)
	}
	last := k.flags&chunkDone != 0
	var err error
	switch {
	case k.kind&chunkError != 0:
		err = c.failure(in, k)
	case k.kind == chunkNone && k.length == 0 && last:
	case k.kind == chunkData && k.length > 8 && c.command == cmdRead:
		var offset int64
		if offset, err = number64(in); err == nil {
			err = c.read(in, offset, k.length-8)
		}
	case k.kind == chunkHole && k.length == 12 && c.command == cmdRead:
		err = c.hole(in)
	case k.kind == chunkBlockStatus && k.length >= 12 && k.length%8 == 4 && c.command == cmdBlockStatus && !c.answered:
		err = l.status(in, c, k.length)
	default:
		err = fmt.Errorf("%w: chunk %d of %d bytes for command %d", errProtocol, k.kind, k.length, c.command)
	}
	if err != nil || !last {
		return err
	}
	err = c.finish()
	if err != nil && c.err == nil {
		return err // the call ends with the connection
	}
	return l.failed(c, err)
}

func number64(in *bufio.Reader) (int64, error) {
	b, err := in.Peek(8)
	if err != nil {
		return 0, err
	}
	n := int64(binary.BigEndian.Uint64(b))
	_, err = in.Discard(8)
	return n, err
}

// hole takes a part of a read that is zeros.
func (c *call) hole(in *bufio.Reader) error {
	offset, err := number64(in)
	if err != nil {
		return err
	}
	b, err := in.Peek(4)
	if err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(b))
	if err := c.cover(offset, n); err != nil {
		return err
	}
	err = c.scatter(offset, n, func(b []byte) error { clear(b); return nil })
	if err == nil {
		_, err = in.Discard(4)
	}
	return err
}

// failure takes an error chunk: a number, a text, and perhaps where it was.
func (c *call) failure(in *bufio.Reader, k chunk) error {
	if k.length < 6 || k.length > 6+8+maxText {
		return fmt.Errorf("%w: an error of %d bytes", errProtocol, k.length)
	}
	b, err := in.Peek(6)
	if err != nil {
		return err
	}
	number, n := binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint16(b[4:]))
	if _, err := in.Discard(6); err != nil {
		return err
	}
	if n > k.length-6 || n > maxText || number == 0 {
		return fmt.Errorf("%w: error %d with a text of %d bytes", errProtocol, number, n)
	}
	text := c.text[:n]
	if _, err := io.ReadFull(in, text); err != nil {
		return err
	}
	if _, err := in.Discard(int(k.length - 6 - n)); err != nil {
		return err
	}
	if c.err == nil { // the first one is the cause
		c.err = replyError(number, strings.ToValidUTF8(string(text), "?"))
	}
	return nil
}

// status takes a block status, of which the first extent is what was asked for.
func (l *link) status(in *bufio.Reader, c *call, n int64) error {
	b, err := in.Peek(12)
	if err != nil {
		return err
	}
	id, length, state := binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint32(b[4:])), binary.BigEndian.Uint32(b[8:])
	if _, err := in.Discard(12); err != nil {
		return err
	}
	if id != l.e.context || length == 0 || length > c.length || n != 12 {
		return fmt.Errorf("%w: a status of %d of %d bytes in context %d", errProtocol, length, c.length, id)
	}
	c.whole, c.state, c.answered = length, state, true
	return nil
}
