package scsi

import (
	"bytes"
	"errors"

	"github.com/nitrino/nitrino/block"
)

// maxChunk is how much of a disk a command looks at at once that may be about all of
// it, in bytes; between two an abort can end it.
const maxChunk = 256 << 10

// maxChunks is how many chunks a unit has at a time, in all commands: their memory
// is beside that of the transport.
const maxChunks = 4

// chunk calls f with memory of that size, when there is some; if the command is
// aborted before, not at all.
func (u *Unit) chunk(c *Command, size int64, f func([]byte) *condition) *condition {
	select {
	case u.chunks <- struct{}{}:
	case <-c.cancel():
		return nil
	}
	defer func() { <-u.chunks }()
	return f(make([]byte, size))
}

// Values of BYTCHK (SBC-3 section 5.32): what is compared with the data.
const (
	checkNothing = 0 // that it can be read
	checkAll     = 1
	checkEach    = 3 // each block with the same one
)

// decodeVerify is VERIFY.
func decodeVerify(u *Unit, c *Command) *condition {
	lba, blocks := span(c.CDB)
	if d := u.set(c, lba, blocks); d != nil {
		return d
	}
	if c.CDB[1]&flagProtect != 0 {
		return badField(1, 7)
	}
	switch check := c.CDB[1] >> 1 & 3; {
	case check == checkNothing:
	case check == checkAll && c.length > maxTransfer:
		return badField(lengthAt(c.CDB), 7)
	case check == checkAll:
		c.Out = int(c.length)
	case check == checkEach && blocks > 0:
		c.Out = int(u.block)
	case check == checkEach:
	default:
		return badField(1, 2)
	}
	return nil
}

func verify(u *Unit, c *Command) *condition {
	check := c.CDB[1] >> 1 & 3
	data := c.Data[:min(len(c.Data), c.Out)]
	length := c.length
	switch check {
	case checkAll:
		length = int64(len(data)) / u.block * u.block
	case checkEach:
		if int64(len(data)) < u.block {
			return nil // the initiator gives less than there is to compare with
		}
	}
	d := u.compare(c, length, func(got []byte, at int64) (int64, bool) {
		switch check {
		case checkAll:
			return differ(got, data[at:])
		case checkEach:
			for i := int64(0); i < int64(len(got)); i += u.block {
				if offset, is := differ(got[i:i+u.block], data); is {
					return offset, true
				}
			}
		}
		return 0, false
	})
	c.N = len(data)
	return d
}

// differ finds the first byte of got that is another in want.
func differ(got, want []byte) (offset int64, is bool) {
	want = want[:len(got)]
	if bytes.Equal(got, want) {
		return 0, false
	}
	for i := range got {
		if got[i] != want[i] {
			return int64(i), true
		}
	}
	return 0, false
}

// compare reads the first length bytes of the command's range in chunks; f finds the
// offset, in the data, of what is not as it should be.
func (u *Unit) compare(c *Command, length int64, f func(got []byte, at int64) (int64, bool)) *condition {
	for at := int64(0); at < length && !c.Aborted(); at += maxChunk {
		d := u.chunk(c, min(length-at, maxChunk), func(chunk []byte) *condition {
			if err := u.disk.Readv([][]byte{chunk}, c.offset+at); err != nil {
				return failure(err, reading, uint64((c.offset+at)/u.block))
			}
			if offset, is := f(chunk, at); is {
				return (&condition{key: miscompare, code: codeMiscompare}).at(uint64(at + offset))
			}
			return nil
		})
		if d != nil {
			return d
		}
	}
	return nil
}

// decodeWriteVerify is WRITE AND VERIFY, which has BYTCHK where WRITE has FUA, and is
// through in any case: what is verified is to be on the medium.
func decodeWriteVerify(u *Unit, c *Command) *condition {
	if d := decodeWrite(u, c); d != nil {
		return d
	}
	if c.CDB[1]>>1&3 > checkAll {
		return badField(1, 2)
	}
	c.through = true
	return nil
}

func writeVerify(u *Unit, c *Command) *condition {
	if d := write(u, c); d != nil {
		return d
	}
	data := c.Data[:c.N]
	return u.compare(c, int64(c.N), func(got []byte, at int64) (int64, bool) {
		if c.CDB[1]>>1&3 == checkNothing {
			return 0, false
		}
		return differ(got, data[at:])
	})
}

// decodeCompareWrite is COMPARE AND WRITE (SBC-3 section 5.2).
func decodeCompareWrite(u *Unit, c *Command) *condition {
	if d := u.writable(); d != nil {
		return d
	}
	if c.CDB[1]&flagProtect != 0 {
		return badField(1, 7)
	}
	lba, _ := span(c.CDB)
	if d := u.set(c, lba, uint64(c.CDB[13])); d != nil {
		return d
	}
	c.Out = 2 * int(c.length)
	if c.Expected > c.Out {
		return badField(13, 7)
	}
	c.through = !u.mode.cache.Load() || c.CDB[1]&flagFUA != 0
	return nil
}

func compareWrite(u *Unit, c *Command) *condition {
	if len(c.Data) < c.Out {
		return badField(13, 7) // half a comparison is none
	}
	if c.length == 0 {
		return nil
	}
	want, next := c.Data[:c.length], c.Data[c.length:c.Out]
	got := make([]byte, c.length)
	offset, is, where := int64(0), false, reading
	err := u.modify(c.erasures, func() error {
		return u.disk.Atomically(func(a block.Alone) error {
			if c.Aborted() {
				return nil
			}
			if err := a.Readv([][]byte{got}, c.offset); err != nil {
				return err
			}
			if offset, is = differ(got, want); is {
				return nil
			}
			where = writing
			return a.Writev([][]byte{next}, c.offset, c.through)
		})
	})
	if err == nil && where == writing {
		err = u.last(c.through)
	}
	c.N = c.Out
	switch {
	case err != nil:
		return failure(err, where, c.lba)
	case is:
		return (&condition{key: miscompare, code: codeMiscompare}).at(uint64(offset))
	}
	return nil
}

// orWrite is ORWRITE(16), which decodes as WRITE(16) does (SBC-3 section 5.5).
func orWrite(u *Unit, c *Command) *condition {
	n := min(len(c.Data), c.Out)
	n -= n % int(u.block)
	data := c.Data[:n]
	got := make([]byte, n)
	where := reading
	err := u.modify(c.erasures, func() error {
		return u.disk.Atomically(func(a block.Alone) error {
			if c.Aborted() {
				return nil
			}
			if err := a.Readv([][]byte{got}, c.offset); err != nil {
				return err
			}
			for i := range got {
				got[i] |= data[i]
			}
			where = writing
			return a.Writev([][]byte{got}, c.offset, c.through)
		})
	})
	if err == nil {
		err = u.last(c.through)
	}
	c.N = n
	return failure(err, where, c.lba)
}

// unsupported says that a device cannot do something at all.
func unsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }
