package nbd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"sync"
	"syscall"
)

// A session is one client.
type session struct {
	s    *Server
	ctx  context.Context
	conn net.Conn

	writing sync.Mutex // one reply at a time

	flight sync.WaitGroup // requests under way

	mu       sync.Mutex
	ended    sync.Cond // on mu: a request ended
	requests int
	bytes    int
}

// transmit answers requests, several at a time and in any order, until the
// client leaves.
func (c *session) transmit() error {
	c.ended.L = &c.mu
	defer c.flight.Wait()
	// A request's data that is larger goes around the buffer.
	in := bufio.NewReaderSize(c.conn, 16<<10)
	var header [requestLen]byte
	for {
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return err
		}
		r, err := decodeRequest(header[:])
		if err != nil {
			return err
		}
		if r.command == cmdDisc {
			c.flight.Wait() // what was asked before is answered
			return errLeft
		}
		code := c.check(r)
		if code != 0 {
			if r.command == cmdWrite {
				if _, err := io.CopyN(io.Discard, in, int64(r.length)); err != nil {
					return err
				}
			}
			if err := c.reply(appendReply(nil, code, r.cookie)); err != nil {
				return err
			}
			continue
		}
		n := 0
		if r.command == cmdRead || r.command == cmdWrite {
			n = int(r.length)
		}
		c.admit(n)
		b := c.s.buffer(n)
		if r.command == cmdWrite {
			if _, err := io.ReadFull(in, (*b)[replyLen:]); err != nil {
				c.leave(n)
				return err
			}
		}
		c.flight.Go(func() {
			defer c.leave(n)
			c.serve(r, *b)
			c.s.recycle(b)
		})
	}
}

// admit waits until there is room for a request with n bytes.
func (c *session) admit(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.requests >= maxRequests || c.requests > 0 && c.bytes+n > maxFlight {
		c.ended.Wait()
	}
	c.requests++
	c.bytes += n
}

func (c *session) leave(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests--
	c.bytes -= n
	c.ended.Signal()
}

// check answers with the error for a request that must not reach the device,
// else 0.
func (c *session) check(r request) uint32 {
	e := &c.s.export
	size := uint64(e.Device.Size())
	flags := uint16(cmdFlagFUA) // a client may send it with any command once it is offered
	var changes bool
	switch r.command {
	case cmdRead:
	case cmdFlush:
		if r.offset != 0 || r.length != 0 {
			return eInval
		}
	case cmdWrite:
		changes = true
	case cmdTrim:
		if _, ok := e.Device.(Trimmer); !ok {
			return eInval
		}
		changes = true
	case cmdWriteZeroes:
		if _, ok := e.Device.(Zeroer); !ok {
			return eInval
		}
		changes = true
		flags |= cmdFlagNoHole
		if r.flags&cmdFlagFastZero != 0 {
			return eNotSup // it was not offered, and is a question whether
		}
	default:
		return eInval
	}
	moves := r.command == cmdRead || r.command == cmdWrite
	outside := r.offset > size || uint64(r.length) > size-r.offset
	block := uint64(e.BlockSize)
	switch {
	case r.flags&^flags != 0:
		return eInval
	case changes && e.ReadOnly:
		return ePerm
	case moves && r.length > MaxRequest:
		return eOverflow
	case outside && changes:
		return eNoSpc // as the specification asks for writes
	case outside:
		return eInval
	case r.offset%block != 0 || uint64(r.length)%block != 0:
		return eInval
	}
	return 0
}

// serve does what a good request asks for and replies. b has room for a
// reply's header and the request's data.
func (c *session) serve(r request, b []byte) {
	d := c.s.export.Device
	data, offset := b[replyLen:], int64(r.offset)
	var err error
	switch r.command {
	case cmdRead:
		var n int
		if n, err = d.ReadAt(data, offset); n == len(data) {
			err = nil // io.EOF may come with the last byte (io.ReaderAt)
		}
	case cmdWrite:
		_, err = d.WriteAt(data, offset)
	case cmdFlush:
		err = d.Flush()
	case cmdTrim:
		err = d.(Trimmer).Trim(offset, int64(r.length))
	case cmdWriteZeroes:
		err = d.(Zeroer).Zero(offset, int64(r.length), r.flags&cmdFlagNoHole == 0)
	}
	if err == nil && r.flags&cmdFlagFUA != 0 && r.command != cmdRead && r.command != cmdFlush {
		err = d.Flush()
	}
	if c.ctx.Err() != nil {
		return // the client is to ask again elsewhere
	}
	code := number(err)
	if code != 0 {
		c.s.log.Debug("NBD: a request failed", "command", r.command, "offset", r.offset, "length", r.length, "error", err)
	}
	appendReply(b[:0], code, r.cookie)
	if code != 0 || r.command != cmdRead {
		b = b[:replyLen]
	}
	if err := c.reply(b); err != nil {
		_ = c.conn.Close() // half a reply may be out: the reader sees the end
	}
}

// number is a device's error as a reply names it.
func number(err error) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.ENOSPC):
		return eNoSpc
	case errors.Is(err, fs.ErrPermission):
		return ePerm
	case errors.Is(err, errors.ErrUnsupported):
		return eNotSup
	}
	return eIO
}

func (c *session) reply(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.conn.Write(b)
	return err
}
