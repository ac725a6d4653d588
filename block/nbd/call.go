package nbd

import (
	"fmt"
	"io"

	"github.com/nitrino/nitrino/block"
)

// A call is a request from when it is made until it is answered. Calls are kept for
// the next request.
type call struct {
	flags, command uint16
	offset, length int64
	bufs           [][]byte   // a read's or a write's data
	vector         [][]byte   // bufs may be a part of the caller's list, cut here
	done           chan error // has room for one
	got            []run      // the parts of a read that are there, in order
	err            error      // that a chunk told, until the last chunk
	whole          int64      // an answer to block status: the extent's length
	state          uint32     // and flags
	slot           int        // of its link while it is under way
	answered       bool       // a block status has come
	text           [maxText]byte
}

// A run is a part of a read's data, from one byte to before another.
type run struct{ from, to int64 }

// maxRuns bounds the holes that a server may leave in a read while it answers out of
// order.
const maxRuns = 1024

func newCall() *call { return &call{done: make(chan error, 1)} }

// reset prepares a call to be sent, perhaps not for the first time.
func (c *call) reset() {
	c.got = c.got[:0]
	c.err = nil
	c.answered = false
}

// release forgets the caller's memory.
func (c *call) release() {
	clear(c.vector)
	c.vector = c.vector[:0]
	c.bufs = nil
}

// cover notes that a part of a read has come. What comes twice, or not at all, is a
// server's lie: the buffers have other data in them from before.
func (c *call) cover(offset, n int64) error {
	from := offset - c.offset
	if n <= 0 || from < 0 || from > c.length || n > c.length-from {
		return fmt.Errorf("%w: %d bytes at %d for a read of %d at %d", errProtocol, n, offset, c.length, c.offset)
	}
	i := len(c.got)
	for i > 0 && c.got[i-1].from >= from {
		i--
	}
	if i > 0 && c.got[i-1].to > from || i < len(c.got) && c.got[i].from < from+n {
		return fmt.Errorf("%w: %d bytes at %d came twice", errProtocol, n, offset)
	}
	switch {
	case i > 0 && c.got[i-1].to == from:
		c.got[i-1].to += n
	case len(c.got) == maxRuns:
		return fmt.Errorf("%w: a read in more than %d parts", errProtocol, maxRuns)
	default:
		c.got = append(c.got, run{})
		copy(c.got[i+1:], c.got[i:])
		c.got[i] = run{from, from + n}
		i++
	}
	if i < len(c.got) && c.got[i].from == c.got[i-1].to {
		c.got[i-1].to = c.got[i].to
		c.got = append(c.got[:i], c.got[i+1:]...)
	}
	return nil
}

// finish has the error of a call whose last chunk has come.
func (c *call) finish() error {
	switch {
	case c.err != nil:
		return c.err
	case c.command == cmdRead && (len(c.got) != 1 || c.got[0] != run{0, c.length}):
		return fmt.Errorf("%w: a part of a read did not come", errProtocol)
	case c.command == cmdBlockStatus && !c.answered:
		return fmt.Errorf("%w: no block status", errProtocol)
	}
	return nil
}

// scatter calls f with those parts of the buffers that are n bytes from offset on.
func (c *call) scatter(offset, n int64, f func([]byte) error) error {
	from := offset - c.offset
	for _, b := range c.bufs {
		if n == 0 {
			break
		}
		if from >= int64(len(b)) {
			from -= int64(len(b))
			continue
		}
		part := b[from:]
		from = 0
		part = part[:min(n, int64(len(part)))]
		n -= int64(len(part))
		if err := f(part); err != nil {
			return err
		}
	}
	return nil
}

// read reads a part of the data.
func (c *call) read(in io.Reader, offset, n int64) error {
	if err := c.cover(offset, n); err != nil {
		return err
	}
	return c.scatter(offset, n, func(b []byte) error {
		_, err := io.ReadFull(in, b)
		return err
	})
}

// cut makes the call's buffers those n bytes of bufs that begin at from.
func (c *call) cut(bufs [][]byte, from, n int64) {
	c.vector = block.Cut(c.vector[:0], bufs, from, n)
	c.bufs = c.vector
}
