package scsi

import (
	"encoding/binary"
	"math"
)

// A class is how an operation stands to a persistent reservation of another nexus
// (SPC-4 table 66, SBC-3 table 9, MMC-6 table 5).
type class int

const (
	conflictsNever class = iota
	// conflictsExclusive: only if access is exclusive; what reads.
	conflictsExclusive
	conflictsAlways
)

// An operation is a command as an operation code, and perhaps a service action, names
// it.
type operation struct {
	code   byte
	action int // -1: the code has none
	// name is the standard's.
	name string
	// usage is the CDB usage data of REPORT SUPPORTED OPERATION CODES; its length is
	// the CDB's.
	usage []byte

	class class
	// reserved: allowed despite a RESERVE of another nexus.
	reserved bool
	// lenient says that this very command never conflicts, where that depends on it.
	lenient func(*Command) bool
	// unattended: a unit attention is neither reported nor cleared (SAM-5 section 5.14).
	unattended bool
	// medium: only with a medium.
	medium bool

	// decode checks the CDB and sets what the command moves; nil: nothing.
	decode func(*Unit, *Command) *condition
	// run carries the command out. If prompt, it never waits for anything.
	run    func(*Unit, *Command) *condition
	prompt bool
	// try is run where nothing has to be waited for.
	try func(*Unit, *Command) (done bool, d *condition)
}

// A table has the operations by code, and those with service actions one after the
// other.
type table [256][]*operation

func (t *table) add(all ...*operation) {
	for _, o := range all {
		t[o.code] = append(t[o.code], o)
	}
}

// find returns the operation of a CDB, nil if there is none.
func (t *table) find(cdb []byte) *operation {
	for _, o := range t[cdb[0]] {
		if o.action < 0 || o.action == int(cdb[1]&0x1f) {
			return o
		}
	}
	return nil
}

// check is nil for a CDB with an operation, and nothing in it that no command has.
func (t *table) check(c *Command) *condition {
	switch {
	case c.operation == nil && len(t[c.CDB[0]]) > 0:
		return badField(1, 4)
	case c.operation == nil:
		return illegal(codeInvalidOpcode)
	case c.Attribute == ACA:
		// There never is an ACA condition (SAM-5 section 8.6.5).
		return illegal(codeInvalidMessage)
	}
	// NACA: INQUIRY's NORMACA is 0 (SAM-5 section 5.2).
	if last := len(c.operation.usage) - 1; c.CDB[last]&0x04 != 0 {
		return badField(last, 2)
	}
	return nil
}

func allocation16(b []byte) int { return int(binary.BigEndian.Uint16(b)) }

func allocation32(b []byte) int { return int(min(binary.BigEndian.Uint32(b), math.MaxInt32)) }

// maxParameters bounds the parameter data of all commands, in bytes.
const maxParameters = 64 << 10

// allow sets what a command that answers with parameter data moves at most.
func (c *Command) allow(allocation int) { c.In = min(allocation, maxParameters) }

// reply answers with parameter data, of which In is what the initiator allows.
func (c *Command) reply(data []byte) {
	c.In = min(c.In, len(data))
	c.N = copy(c.Data, data[:c.In])
}

// span is the first block and the number of blocks of a CDB, by the group of its
// operation code (SPC-4 section 4.2.5.1).
func span(cdb []byte) (lba, blocks uint64) {
	switch cdb[0] >> 5 {
	case 0:
		lba = uint64(binary.BigEndian.Uint32(cdb)) & 0x1fffff
		if blocks = uint64(cdb[4]); blocks == 0 {
			blocks = 256
		}
		return lba, blocks
	case 1, 2:
		return uint64(binary.BigEndian.Uint32(cdb[2:])), uint64(binary.BigEndian.Uint16(cdb[7:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(cdb[2:])), uint64(binary.BigEndian.Uint32(cdb[6:]))
	}
	return binary.BigEndian.Uint64(cdb[2:]), uint64(binary.BigEndian.Uint32(cdb[10:]))
}

// within is nil for a range that does not exceed the capacity. One without blocks may
// be where the capacity ends.
func (u *Unit) within(lba, blocks uint64) *condition {
	if total := uint64(u.disk.Size() / u.block); lba > total || blocks > total-lba {
		return illegal(codeOutOfRange).at(lba)
	}
	return nil
}

// set makes a range of blocks the command's.
func (u *Unit) set(c *Command, lba, blocks uint64) *condition {
	if d := u.within(lba, blocks); d != nil {
		return d
	}
	c.lba, c.offset, c.length = lba, int64(lba)*u.block, int64(blocks)*u.block
	return nil
}

// lengthAt is where a CDB has the number of its blocks.
func lengthAt(cdb []byte) int {
	switch cdb[0] >> 5 {
	case 0:
		return 4
	case 1, 2:
		return 7
	case 5:
		return 6
	}
	return 10
}
