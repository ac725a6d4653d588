package scsi

import "errors"

// maxTransfer is the most that one command reads or writes, in bytes, as the block
// limits page tells. It bounds the memory that a command takes.
const maxTransfer = 8 << 20

const (
	flagProtect = 0xe0 // RDPROTECT, WRPROTECT, VRPROTECT, ORPROTECT
	flagFUA     = 0x08
)

// transfer makes the range of the CDB the command's, if it may be moved.
func (u *Unit) transfer(c *Command) *condition {
	lba, blocks := span(c.CDB)
	if d := u.set(c, lba, blocks); d != nil {
		return d
	}
	if c.length > maxTransfer {
		return badField(lengthAt(c.CDB), 7)
	}
	if c.CDB[0]>>5 != 0 && c.CDB[1]&flagProtect != 0 {
		return badField(1, 7) // there is no protection information
	}
	return nil
}

// writable is why nothing may be written, nil if something may.
func (u *Unit) writable() *condition {
	switch {
	case u.o.CD || u.disk.Identity().ReadOnly:
		return &condition{key: dataProtect, code: codeWriteProtected}
	case u.mode.protect.Load():
		return &condition{key: dataProtect, code: codeSoftwareProtected}
	}
	return nil
}

func decodeRead(u *Unit, c *Command) *condition {
	if d := u.transfer(c); d != nil {
		return d
	}
	c.In = int(c.length)
	return nil
}

func tryRead(u *Unit, c *Command) (bool, *condition) {
	n := min(len(c.Data), c.In)
	if n == 0 {
		return true, nil
	}
	if int64(n)%u.block != 0 {
		return false, nil
	}
	c.vector[0] = c.Data[:n]
	done, err := u.disk.TryReadv(c.vector[:], c.offset)
	if !done {
		return false, nil
	}
	if err != nil {
		return true, failure(err, reading, c.lba)
	}
	c.N = n
	return true, nil
}

func read(u *Unit, c *Command) *condition {
	n := min(len(c.Data), c.In)
	whole := n - n%int(u.block)
	c.vector[0] = c.Data[:whole]
	if err := u.disk.Readv(c.vector[:], c.offset); err != nil {
		return failure(err, reading, c.lba)
	}
	if whole < n { // the initiator wants a part of a block
		last := make([]byte, u.block)
		if err := u.disk.Readv([][]byte{last}, c.offset+int64(whole)); err != nil {
			return failure(err, reading, c.lba)
		}
		copy(c.Data[whole:n], last)
	}
	c.N = n
	return nil
}

func decodeWrite(u *Unit, c *Command) *condition {
	if d := u.writable(); d != nil {
		return d
	}
	if d := u.transfer(c); d != nil {
		return d
	}
	c.Out = int(c.length)
	c.through = !u.mode.cache.Load() || c.CDB[0]>>5 != 0 && c.CDB[1]&flagFUA != 0
	return nil
}

func tryWrite(u *Unit, c *Command) (bool, *condition) {
	n := min(len(c.Data), c.Out)
	n -= n % int(u.block)
	if n == 0 {
		return true, nil
	}
	if c.through || !u.modifying.TryRLock() {
		return false, nil
	}
	c.vector[0] = c.Data[:n]
	done, err := false, errSanitized
	if u.erasures.Load() == c.erasures {
		done, err = u.disk.TryWritev(c.vector[:], c.offset)
	}
	u.modifying.RUnlock()
	if !done {
		return false, nil
	}
	if err == nil {
		err = u.last(c.through)
	}
	if err != nil {
		return true, failure(err, writing, c.lba)
	}
	c.N = n
	return true, nil
}

// write writes the whole blocks that there are.
func write(u *Unit, c *Command) *condition {
	n := min(len(c.Data), c.Out)
	n -= n % int(u.block)
	c.vector[0] = c.Data[:n]
	err := u.modify(c.erasures, func() error { return u.disk.Writev(c.vector[:], c.offset, c.through) })
	if err == nil {
		err = u.last(c.through)
	}
	if err != nil {
		return failure(err, writing, c.lba)
	}
	c.N = n
	return nil
}

// last is called when something was written, which is to be answered: if answers may
// not come early by then, it has to outlive a loss of power first.
func (u *Unit) last(through bool) error {
	if through || u.mode.cache.Load() {
		return nil
	}
	return u.disk.Flush()
}

// errSanitized is for what would be written by commands from before SANITIZE.
var errSanitized = errors.New("the data is of before a SANITIZE")

// modify calls f, which writes, unless the unit was sanitized since a command began,
// or is.
func (u *Unit) modify(since uint32, f func() error) error {
	if u.erasures.Load() == since { // else nobody is to wait
		u.modifying.RLock()
		defer u.modifying.RUnlock()
	}
	if u.erasures.Load() != since {
		return errSanitized
	}
	return f()
}

// decodeSync is SYNCHRONIZE CACHE. Of IMMED nothing is made: an answer that comes
// when all is done is an honest one, also for those who do not ask for that.
func decodeSync(u *Unit, c *Command) *condition {
	lba, blocks := span(c.CDB)
	return u.set(c, lba, blocks)
}

func synchronize(u *Unit, c *Command) *condition {
	return failure(u.disk.Flush(), writing, c.lba)
}

// prefetch is PRE-FETCH. To look ahead is the system's own business; since nobody
// knows whether its cache has the room the answer is GOOD, not CONDITION MET (SBC-3
// section 5.8).
func prefetch(*Unit, *Command) *condition { return nil }
