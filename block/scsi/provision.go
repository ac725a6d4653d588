package scsi

import (
	"bytes"
	"encoding/binary"
	"math"
)

// maxSame is the most blocks of WRITE SAME. A host's slip of a zero does not clear a
// disk, and no command takes long.
const maxSame = 1<<16 - 1

// maxClear is how much is cleared or given up at once, in bytes; between two pieces
// an abort can end the command.
const maxClear = 64 << 20

// pieces calls f, which writes, for the parts of a range, until it fails or the
// command is aborted. SANITIZE's own command is not one of the unit's.
func (u *Unit) pieces(c *Command, offset, length, size int64, f func(offset, length int64) error) (at int64, err error) {
	for length > 0 && !c.Aborted() {
		n := min(length, size)
		if c.link == nil {
			err = f(offset, n)
		} else {
			err = u.modify(c.erasures, func() error { return f(offset, n) })
		}
		if err != nil {
			return offset, err
		}
		offset += n
		length -= n
	}
	return offset, nil
}

// discard gives a range up. Where the storage cannot do that it is cleared: it reads
// as zeros in any case.
func (u *Unit) discard(c *Command, offset, length int64) *condition {
	at, err := u.pieces(c, offset, length, maxClear, u.disk.Discard)
	if !unsupported(err) {
		return failure(err, writing, uint64(at/u.block))
	}
	return u.clear(c, at, offset+length-at, false)
}

// clear writes zeros. If keep is set the room for them is kept.
func (u *Unit) clear(c *Command, offset, length int64, keep bool) *condition {
	at, err := u.pieces(c, offset, length, maxClear, func(offset, length int64) error {
		return u.disk.WriteZeroes(offset, length, keep)
	})
	if !unsupported(err) {
		return failure(err, writing, uint64(at/u.block))
	}
	return u.repeat(c, make([]byte, u.block), at, offset+length-at)
}

// repeat writes a block over and over.
func (u *Unit) repeat(c *Command, one []byte, offset, length int64) *condition {
	return u.chunk(c, min(length, maxChunk), func(data []byte) *condition {
		for n := copy(data, one); n < len(data); n *= 2 {
			copy(data[n:], data[:n])
		}
		at, err := u.pieces(c, offset, length, maxChunk, func(offset, length int64) error {
			return u.disk.Writev([][]byte{data[:length]}, offset, false)
		})
		return failure(err, writing, uint64(at/u.block))
	})
}

// Bits of WRITE SAME's second byte.
const (
	flagAnchor = 0x10
	flagUnmap  = 0x08
	flagNDOB   = 0x01 // of WRITE SAME(16)
)

// decodeWriteSame is WRITE SAME(10) and (16) (SBC-3 section 5.44).
func decodeWriteSame(u *Unit, c *Command) *condition {
	if d := u.writable(); d != nil {
		return d
	}
	flags := c.CDB[1]
	sixteen := c.CDB[0] == opWriteSame16
	switch {
	case flags&flagProtect != 0:
		return badField(1, 7)
	case flags&flagAnchor != 0: // nothing is anchored here
		return badField(1, 4)
	case flags&0x06 != 0: // PBDATA, LBDATA: obsolete, and would need other data
		return badField(1, 2)
	case flags&flagNDOB != 0 && !sixteen:
		return badField(1, 0)
	}
	lba, blocks := span(c.CDB)
	if d := u.set(c, lba, blocks); d != nil {
		return d
	}
	if blocks == 0 || blocks > maxSame { // WSNZ: 0 does not mean all to the end
		return badField(lengthAt(c.CDB), 7)
	}
	if flags&flagNDOB == 0 {
		c.Out = int(u.block)
	}
	if c.Expected != 0 && c.Expected != c.Out {
		return badField(lengthAt(c.CDB), 7)
	}
	c.through = !u.mode.cache.Load()
	return nil
}

func writeSame(u *Unit, c *Command) *condition {
	if len(c.Data) < c.Out {
		return badField(lengthAt(c.CDB), 7)
	}
	one := c.Data[:c.Out]
	c.N = c.Out
	zeros := len(bytes.Trim(one, "\x00")) == 0
	var d *condition
	switch unmap := c.CDB[1]&flagUnmap != 0; {
	case zeros && unmap:
		d = u.discard(c, c.offset, c.length)
	case zeros:
		d = u.clear(c, c.offset, c.length, true)
	default: // with UNMAP too: what is given up would not read as this
		d = u.repeat(c, one, c.offset, c.length)
	}
	if d != nil {
		return d
	}
	if c.through {
		return failure(u.disk.Flush(), writing, c.lba)
	}
	return failure(u.last(false), writing, c.lba)
}

func decodeUnmap(u *Unit, c *Command) *condition {
	if d := u.writable(); d != nil {
		return d
	}
	if c.CDB[1]&0x01 != 0 { // ANCHOR
		return badField(1, 0)
	}
	c.Out = allocation16(c.CDB[7:])
	return nil
}

// unmap is UNMAP (SBC-3 section 5.28). All descriptors are checked before the first
// one takes effect.
func unmap(u *Unit, c *Command) *condition {
	const header, size = 8, 16
	list := c.Data[:min(len(c.Data), c.Out)]
	c.N = len(list)
	if c.Out == 0 {
		return nil
	}
	if len(list) < header {
		return illegal(codeParameterListLength)
	}
	n := min(allocation16(list[2:]), len(list)-header) / size * size
	descriptors := list[header : header+n]
	if n/size > maxUnmaps {
		return badParameter(2, 7)
	}
	each := func(f func(lba, blocks uint64) *condition) *condition {
		for b := descriptors; len(b) > 0; b = b[size:] {
			if d := f(binary.BigEndian.Uint64(b), uint64(binary.BigEndian.Uint32(b[8:]))); d != nil {
				return d
			}
		}
		return nil
	}
	if d := each(u.within); d != nil {
		return d
	}
	return each(func(lba, blocks uint64) *condition {
		at, err := u.pieces(c, int64(lba)*u.block, int64(blocks)*u.block, maxClear, u.disk.Discard)
		if unsupported(err) {
			// A request that may be declined: what stays mapped stays as it was. To write
			// all of a disk because somebody makes a file system on it would be no favour.
			return nil
		}
		return failure(err, writing, uint64(at/u.block))
	})
}

func decodeStatus(u *Unit, c *Command) *condition {
	lba := binary.BigEndian.Uint64(c.CDB[2:])
	if d := u.set(c, lba, 1); d != nil {
		return d
	}
	c.allow(allocation32(c.CDB[10:]))
	return nil
}

// status is GET LBA STATUS (SBC-3 section 5.4): as many extents as there is room for.
func status(u *Unit, c *Command) *condition {
	const header, size = 8, 16
	data := make([]byte, header, header+size)
	end := u.disk.Size()
	for at := c.offset; at < end && len(data)+size <= max(c.In, header+size) && !c.Aborted(); {
		length, mapped, err := u.extent(c, at, end)
		if err != nil {
			return failure(err, reading, uint64(at/u.block))
		}
		provisioning := byte(1) // deallocated
		if mapped {
			provisioning = 0
		}
		data = binary.BigEndian.AppendUint64(data, uint64(at/u.block))
		data = binary.BigEndian.AppendUint32(data, uint32(length/u.block))
		data = append(data, provisioning, 0, 0, 0)
		at += length
	}
	binary.BigEndian.PutUint32(data, uint32(len(data)-4))
	c.reply(data)
	return nil
}

// extent is how far the blocks from at on are mapped, or are not. It looks at a few
// of the disk's own extents only, which may be small.
func (u *Unit) extent(c *Command, at, end int64) (length int64, mapped bool, err error) {
	most := min(end-at, math.MaxUint32*u.block)
	for range 1024 {
		n, is, err := u.disk.Extent(at + length)
		if err != nil {
			return 0, false, err
		}
		if length > 0 && is != mapped || c.Aborted() {
			break
		}
		mapped = is
		if length = min(length+n, most); length == most {
			break
		}
	}
	return length, mapped, nil
}

// decodeErase is SANITIZE's BLOCK ERASE.
func decodeErase(u *Unit, c *Command) *condition {
	if d := u.writable(); d != nil {
		return d
	}
	// A command that ends all data is not to be taken for another one by mistake: here
	// what is reserved has to be 0, and there is no parameter list.
	if c.CDB[1]&0x40 != 0 {
		return badField(1, 6)
	}
	for i, b := range c.CDB[2:9] {
		if b != 0 {
			return badField(2+i, 7)
		}
	}
	return nil
}

// erase gives up all of the disk, while nothing else is done with it (SBC-3 section
// 4.11). AUSE and IMMED change nothing: it answers when it is done.
func erase(u *Unit, _ *Command) *condition {
	u.tasks.mu.Lock()
	if u.sanitizes {
		u.tasks.mu.Unlock()
		return &condition{key: notReady, code: codeSanitizeInProgress}
	}
	u.sanitizes = true
	u.erasures.Add(1)
	u.changes.Add(1) // commands that began before are looked at anew
	u.tasks.mu.Unlock()
	u.modifying.Lock() // once what they have begun to write is written
	defer u.modifying.Unlock()
	defer func() {
		u.tasks.mu.Lock()
		defer u.tasks.mu.Unlock()
		u.sanitizes = false
	}()
	// An abort does not end it: nobody is to take for erased what is so in part.
	if d := u.discard(new(Command), 0, u.disk.Size()); d != nil {
		return d
	}
	return failure(u.disk.Flush(), writing, 0)
}
