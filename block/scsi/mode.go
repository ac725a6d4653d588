package scsi

import (
	"encoding/binary"
	"maps"
	"sync/atomic"
)

// A mode has what MODE SELECT can change, for all nexuses alike.
type mode struct {
	cache           atomic.Bool // WCE: answers may come before the data outlives a loss of power
	descriptorSense atomic.Bool // D_SENSE
	protect         atomic.Bool // SWP
}

// reset sets the defaults.
func (m *mode) reset() {
	m.cache.Store(true)
	m.descriptorSense.Store(false)
	m.protect.Store(false)
}

// Mode pages (SPC-4 section 7.5, SBC-3 section 6.4, MMC-6 annex).
const (
	pageErrorRecovery = 0x01
	pageReconnect     = 0x02
	pageCaching       = 0x08
	pageControl       = 0x0a
	pageExceptions    = 0x1c
	pageCapabilities  = 0x2a
	pageAll           = 0x3f

	subpageExtension = 0x01 // of pageControl
	subpageAll       = 0xff
)

// Bits of the pages that can change.
const (
	bitWCE    = 0x04 // byte 2 of pageCaching
	bitDSENSE = 0x04 // byte 2 of pageControl
	bitSWP    = 0x08 // byte 4 of pageControl
)

// A control says which values MODE SENSE is to give.
type control byte

const (
	current control = iota
	changeable
	defaults
	saved
)

// pages are the numbers of all mode pages and subpages, in their order.
func (u *Unit) pages() [][2]byte {
	all := [][2]byte{{pageErrorRecovery, 0}, {pageReconnect, 0}, {pageCaching, 0}, {pageControl, 0}, {pageControl, subpageExtension}, {pageExceptions, 0}}
	if u.o.CD {
		all = append(all, [2]byte{pageCapabilities, 0})
	}
	return all
}

// page is one mode page, from its code on.
func (u *Unit) page(code, subpage byte, pc control) []byte {
	flag := func(b *byte, bit byte, now *atomic.Bool, usual bool) {
		if pc == changeable || pc == current && now.Load() || pc == defaults && usual {
			*b |= bit
		}
	}
	fixed := pc != changeable
	var p []byte
	switch {
	case code == pageControl && subpage == subpageExtension:
		p = make([]byte, 32)
		p[0], p[1] = code|0x40, subpage // SPF
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)-4))
		return p
	case code == pageErrorRecovery, code == pageExceptions:
		p = make([]byte, 12)
	case code == pageReconnect:
		p = make([]byte, 16)
	case code == pageCaching:
		p = make([]byte, 20)
		flag(&p[2], bitWCE, &u.mode.cache, true)
		if fixed {
			p[12] = 0x20 // DRA: no read-ahead of ours
		}
	case code == pageControl:
		p = make([]byte, 12)
		flag(&p[2], bitDSENSE, &u.mode.descriptorSense, false)
		flag(&p[4], bitSWP, &u.mode.protect, false)
		if fixed {
			p[3] = 0x10 // QUEUE ALGORITHM MODIFIER: unrestricted reordering of simple commands
			p[8], p[9] = 0xff, 0xff
		}
	case code == pageCapabilities:
		p = u.capabilities(fixed)
	}
	p[0], p[1] = code, byte(len(p)-2)
	return p
}

func decodeModeSense(_ *Unit, c *Command) *condition {
	if control(c.CDB[2]>>6) == saved {
		return illegal(codeSavingUnsupported)
	}
	if c.CDB[0] == opModeSense10 {
		c.allow(allocation16(c.CDB[7:]))
	} else {
		c.allow(int(c.CDB[4]))
	}
	return nil
}

// modeSense is MODE SENSE(6) and (10).
func modeSense(u *Unit, c *Command) *condition {
	pc, code, subpage := control(c.CDB[2]>>6), c.CDB[2]&0x3f, c.CDB[3]
	ten := c.CDB[0] == opModeSense10
	long := ten && c.CDB[1]&0x10 != 0 // LLBAA
	var pages []byte
	for _, p := range u.pages() {
		if (code == pageAll || code == p[0]) && (subpage == p[1] || subpage == subpageAll) {
			pages = append(pages, u.page(p[0], p[1], pc)...)
		}
	}
	if len(pages) == 0 {
		return badField(2, 5)
	}
	var parameter byte // device-specific
	if !u.o.CD {
		parameter = 0x10 // DPOFUA
		if u.disk.Identity().ReadOnly || u.mode.protect.Load() {
			parameter |= 0x80 // WP
		}
	}
	var descriptor []byte
	if c.CDB[1]&0x08 == 0 && !u.o.CD { // DBD
		descriptor = u.descriptor(long)
	}
	var data []byte
	if ten {
		data = make([]byte, 8)
		binary.BigEndian.PutUint16(data, uint16(6+len(descriptor)+len(pages)))
		data[3] = parameter
		if long && len(descriptor) > 0 {
			data[4] = 1
		}
		data[7] = byte(len(descriptor))
	} else {
		data = []byte{byte(3 + len(descriptor) + len(pages)), 0, parameter, byte(len(descriptor))}
	}
	c.reply(append(append(data, descriptor...), pages...))
	return nil
}

// descriptor is the block descriptor, short or long (SBC-3 section 6.4.2).
func (u *Unit) descriptor(long bool) []byte {
	blocks := uint64(u.disk.Size() / u.block)
	if long {
		b := make([]byte, 16)
		binary.BigEndian.PutUint64(b, blocks)
		binary.BigEndian.PutUint32(b[12:], uint32(u.block))
		return b
	}
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b, uint32(min(blocks, 0xffffffff)))
	binary.BigEndian.PutUint32(b[4:], uint32(u.block)) // its high byte is reserved, and 0
	return b
}

func decodeModeSelect(_ *Unit, c *Command) *condition {
	switch {
	case c.CDB[1]&0x10 == 0: // PF: vendor-specific pages
		return badField(1, 4)
	case c.CDB[1]&0x01 != 0: // SP: nothing can be saved
		return badField(1, 0)
	}
	if c.CDB[0] == opModeSelect10 {
		c.Out = allocation16(c.CDB[7:])
	} else {
		c.Out = int(c.CDB[4])
	}
	return nil
}

// modeSelect is MODE SELECT(6) and (10). Either all of it takes effect or nothing.
func modeSelect(u *Unit, c *Command) *condition {
	list := c.Data[:min(len(c.Data), c.Out)]
	c.N = len(list)
	if len(list) == 0 {
		return nil
	}
	header, long := 4, false
	if c.CDB[0] == opModeSelect10 {
		header = 8
	}
	if len(list) < header {
		return illegal(codeParameterListLength)
	}
	descriptors := int(list[3])
	if header == 8 {
		descriptors, long = allocation16(list[6:]), list[4]&1 != 0
	}
	if len(list) < header+descriptors {
		return illegal(codeParameterListLength)
	}
	if d := u.checkDescriptor(list[header:header+descriptors], header, long); d != nil {
		return d
	}
	set := make(map[*atomic.Bool]bool)
	for at := header + descriptors; at < len(list); {
		p := list[at:]
		code, subpage, size := p[0]&0x3f, byte(0), 2
		if p[0]&0x40 != 0 {
			size = 4
		}
		if len(p) < size {
			return illegal(codeParameterListLength)
		}
		if size == 4 {
			subpage = p[1]
			size += allocation16(p[2:])
		} else {
			size += int(p[1])
		}
		if len(p) < size {
			return illegal(codeParameterListLength)
		}
		if d := u.checkPage(p[:size], code, subpage, at); d != nil {
			return d
		}
		switch {
		case code == pageCaching:
			set[&u.mode.cache] = p[2]&bitWCE != 0
		case code == pageControl && subpage == 0:
			set[&u.mode.descriptorSense] = p[2]&bitDSENSE != 0
			set[&u.mode.protect] = p[4]&bitSWP != 0
		}
		at += size
	}
	was := make(map[*atomic.Bool]bool)
	for b, v := range set {
		was[b] = b.Swap(v)
	}
	// What was written while answers could come early has to be safe before the
	// initiator may believe that it is. Writes that end from now on see to it
	// themselves.
	if was[&u.mode.cache] && !u.mode.cache.Load() {
		if err := u.disk.Flush(); err != nil {
			for b, v := range was {
				b.Store(v)
			}
			return failure(err, writing, 0)
		}
	}
	if !maps.Equal(set, was) {
		u.tasks.mu.Lock()
		u.attend(codeModeChanged, c.link)
		u.tasks.mu.Unlock()
	}
	return nil
}

// checkDescriptor refuses a block descriptor that would change the disk's geometry.
func (u *Unit) checkDescriptor(b []byte, at int, long bool) *condition {
	if len(b) == 0 {
		return nil
	}
	want := u.descriptor(long)
	if len(b) != len(want) {
		return badParameter(at-1, 7)
	}
	// A number of blocks of 0 or all ones leaves it as it is.
	half := len(b) / 2
	blocks, size := b[:half], b[half:]
	if binary.BigEndian.Uint32(size[len(size)-4:])&0xffffff != uint32(u.block) {
		return badParameter(at+half, 7)
	}
	zero, ones, same := true, true, true
	for i, v := range blocks {
		zero = zero && v == 0
		ones = ones && v == 0xff
		same = same && v == want[i]
	}
	if !zero && !ones && !same {
		return badParameter(at, 7)
	}
	return nil
}

// checkPage refuses a page that there is not, or that changes what cannot be.
func (u *Unit) checkPage(p []byte, code, subpage byte, at int) *condition {
	for _, known := range u.pages() {
		if known != [2]byte{code, subpage} {
			continue
		}
		now, mask := u.page(code, subpage, current), u.page(code, subpage, changeable)
		if len(p) != len(now) {
			return badParameter(at+1, 7)
		}
		first := 2
		if p[0]&0x40 != 0 {
			first = 4
		}
		for i := first; i < len(p); i++ {
			if (p[i]^now[i])&^mask[i] != 0 {
				return badParameter(at+i, 7)
			}
		}
		return nil
	}
	return badParameter(at, 5)
}
