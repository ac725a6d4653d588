package nbd

import (
	"github.com/nitrino/nitrino/block"
)

// Size is the length in bytes, whole sectors. It never changes.
func (c *Client) Size() int64 { return c.size }

// ReadOnly tells whether nothing may be written.
func (c *Client) ReadOnly() bool { return c.o.ReadOnly || c.e.flags&flagReadOnly != 0 }

// Readv fills bufs from offset on.
func (c *Client) Readv(bufs [][]byte, offset int64) error {
	n := block.Length(bufs)
	if err := c.begin(offset, n, false); err != nil {
		return err
	}
	defer c.pending.Done()
	if c.whole(offset, n) {
		return c.read(bufs, offset, n)
	}
	from, to := c.outer(offset, n)
	b := make([]byte, to-from)
	if err := c.read([][]byte{b}, from, to-from); err != nil {
		return err
	}
	b = b[offset-from:]
	for _, p := range bufs {
		b = b[copy(p, b):]
	}
	return nil
}

// read reads whole blocks, as much at a time as the server takes.
func (c *Client) read(bufs [][]byte, offset, n int64) error {
	for done := int64(0); done < n; done += c.e.payload {
		k := c.call(cmdRead, 0, offset+done, min(c.e.payload, n-done))
		k.cut(bufs, done, k.length)
		_, err := c.do(k)
		c.end(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// Writev writes bufs from offset on.
func (c *Client) Writev(bufs [][]byte, offset int64) error {
	n := block.Length(bufs)
	if err := c.begin(offset, n, true); err != nil {
		return err
	}
	defer c.pending.Done()
	if c.whole(offset, n) {
		c.patching.RLock()
		defer c.patching.RUnlock()
		return c.write(bufs, offset, n)
	}
	return c.patch(bufs, offset, n)
}

// write writes whole blocks. In parts, since the journal has a copy of each.
func (c *Client) write(bufs [][]byte, offset, n int64) error {
	part := min(c.e.payload, maxWrite)
	for done := int64(0); done < n; done += part {
		k := c.call(cmdWrite, 0, offset+done, min(part, n-done))
		k.cut(bufs, done, k.length)
		err := c.change(k)
		c.end(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// Flush returns when what had returned before is on the server's storage.
func (c *Client) Flush() error {
	if err := c.begin(0, 0, false); err != nil {
		return err
	}
	defer c.pending.Done()
	if c.e.flags&flagSendFlush == 0 || c.ReadOnly() {
		return nil
	}
	_, err := c.flush()
	return err
}

// Discard clears a range, and lets the server give up the room. NBD_CMD_TRIM does not
// promise zeros, so it is NBD_CMD_WRITE_ZEROES that may leave a hole.
func (c *Client) Discard(offset, length int64) error { return c.WriteZeroes(offset, length, false) }

// CanDiscard tells whether the server can give up room. One that can clear but not trim
// writes zeros.
func (c *Client) CanDiscard() bool {
	const both = flagSendTrim | flagSendWriteZeroes
	return c.e.flags&both == both
}

// WriteZeroes clears a range.
func (c *Client) WriteZeroes(offset, length int64, keep bool) error {
	if err := c.begin(offset, length, true); err != nil {
		return err
	}
	defer c.pending.Done()
	if length == 0 {
		return nil
	}
	// The blocks of which only a part is in the range are patched.
	from, to := (offset+c.unit-1)&^(c.unit-1), (offset+length)&^(c.unit-1)
	if from > to {
		return c.patch(c.nothing(length), offset, length)
	}
	if from > offset {
		if err := c.patch(c.nothing(from-offset), offset, from-offset); err != nil {
			return err
		}
	}
	if end := offset + length; end > to {
		if err := c.patch(c.nothing(end-to), to, end-to); err != nil {
			return err
		}
	}
	c.patching.RLock()
	defer c.patching.RUnlock()
	return c.clear(from, to, keep)
}

// clear clears whole blocks from one byte to before another.
func (c *Client) clear(from, to int64, keep bool) error {
	if c.e.flags&flagSendWriteZeroes == 0 {
		const part = 1 << 20
		for ; from < to; from += part {
			n := min(part, to-from)
			if err := c.write(c.nothing(n), from, n); err != nil {
				return err
			}
		}
		return nil
	}
	var flags uint16
	if keep {
		flags = cmdFlagNoHole
	}
	for ; from < to; from += c.e.payload {
		k := c.call(cmdWriteZeroes, flags, from, min(c.e.payload, to-from))
		err := c.change(k)
		c.end(k)
		if err != nil {
			return err
		}
	}
	return nil
}

// nothing is a vector of n zeros.
func (c *Client) nothing(n int64) [][]byte {
	var bufs [][]byte
	for ; n > 0; n -= int64(len(c.zeros)) {
		bufs = append(bufs, c.zeros[:min(n, int64(len(c.zeros)))])
	}
	return bufs
}

// Extent tells what takes room, where the server has base:allocation; else everything
// does.
func (c *Client) Extent(offset int64) (length int64, mapped bool, err error) {
	if err := c.begin(offset, block.SectorSize, false); err != nil {
		return 0, false, err
	}
	defer c.pending.Done()
	if !c.e.allocation {
		return c.size - offset, true, nil
	}
	from := offset &^ (c.unit - 1)
	// The end is that of the export, as offsets and lengths are its blocks.
	k := c.call(cmdBlockStatus, cmdFlagReqOne, from, min(statusMost, c.e.size-from)&^(c.e.block-1))
	defer c.end(k)
	if _, err := c.do(k); err != nil {
		return 0, false, err
	}
	// What takes room and reads as zeros does take room.
	mapped = k.state&(stateHole|stateZero) != stateHole|stateZero
	length = min(k.whole-(offset-from), c.size-offset) &^ (block.SectorSize - 1)
	if length <= 0 {
		return block.SectorSize, true, nil // a sector that is a hole in part
	}
	return length, mapped, nil
}

// whole tells whether a range is whole blocks of the server.
func (c *Client) whole(offset, n int64) bool { return (offset|n)&(c.unit-1) == 0 }

// outer is the range of whole blocks around one.
func (c *Client) outer(offset, n int64) (from, to int64) {
	return offset &^ (c.unit - 1), (offset + n + c.unit - 1) &^ (c.unit - 1)
}

// patch writes what is not whole blocks: what is around it is read and written back,
// while nobody else changes anything.
func (c *Client) patch(bufs [][]byte, offset, n int64) error {
	c.patching.Lock()
	defer c.patching.Unlock()
	from, to := c.outer(offset, n)
	var whole [][]byte
	if from < offset {
		b := make([]byte, c.unit)
		if err := c.read([][]byte{b}, from, c.unit); err != nil {
			return err
		}
		whole = append(whole, b[:offset-from])
	}
	whole = append(whole, bufs...)
	if end := offset + n; end < to {
		b := make([]byte, c.unit)
		if err := c.read([][]byte{b}, to-c.unit, c.unit); err != nil {
			return err
		}
		whole = append(whole, b[end-(to-c.unit):])
	}
	return c.write(whole, from, to-from)
}
