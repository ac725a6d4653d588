// Package scsi is a SCSI target without a transport: the device server of SPC-4,
// SBC-3 and MMC-6 for disks and CD-ROM drives, with reservations and unit
// attentions. A transport, package iscsi, moves the commands and their data.
package scsi

import "sync/atomic"

// Status codes (SAM-5 section 5.3.1).
const (
	StatusGood                = 0x00
	StatusCheckCondition      = 0x02
	StatusConditionMet        = 0x04
	StatusBusy                = 0x08
	StatusReservationConflict = 0x18
	StatusTaskSetFull         = 0x28
	StatusACAActive           = 0x30
	StatusTaskAborted         = 0x40
)

// An Attribute is how a command stands to the others of its task set (SAM-5
// section 8.6).
type Attribute byte

// The attributes, with iSCSI's numbers (RFC 7143 section 11.3.1).
const (
	Untagged Attribute = iota
	Simple
	Ordered
	HeadOfQueue
	ACA
)

// A Command is one SCSI command on its way through a Nexus. The transport fills
// the first group, calls Nexus.Begin, provides Data, calls Nexus.Try or
// Nexus.Execute, sends what the command answers, and calls Nexus.End. A Command
// can be used again after a Reset.
type Command struct {
	// LUN is as the transport has it: 8 bytes, big-endian (SAM-5 section 4.7).
	LUN uint64
	// CDB has all bytes of the command's descriptor block, at least 16; what is
	// unused is zero.
	CDB       []byte
	Attribute Attribute
	// Expected is how many bytes the initiator wants to move (iSCSI's Expected Data
	// Transfer Length). Only commands whose standard refuses any other amount than
	// theirs look at it; 0 says nothing.
	Expected int

	// In and Out are what Begin finds the command to move, in bytes: In to the
	// initiator at most, Out from it exactly. At most one is not zero. A command that
	// answers with parameter data lowers In, when it is executed, to the allocation
	// length or what there is, the smaller one; residuals are counted from that.
	In, Out int

	// Data is the data of either direction, which the transport provides between
	// Begin and Execute: In bytes long with room to be filled, or the Out bytes. It
	// may be shorter than Out where the initiator gives less than the CDB asks for;
	// Execute then does as much as whole blocks of it allow. The command does not
	// keep it after Execute.
	Data []byte

	// N is how many bytes of Data were filled (In), or used (Out).
	N int
	// Status is the answer; Sense is its sense data in fixed or descriptor form
	// where Status is StatusCheckCondition, else empty.
	Status byte
	Sense  []byte

	// What Begin found out. All is the goroutine's that calls Begin, Try, Execute
	// and End one after the other, but for what the task set says it guards.
	nexus     *Nexus
	set       *taskSet
	link      *link // nil: no such logical unit
	operation *operation
	lba       uint64
	offset    int64 // of the range on the disk, in bytes
	length    int64
	through   bool // has to outlive a loss of power before the answer
	admitted  uint32
	erasures  uint32
	vector    [1][]byte

	// Guarded by set.mu.
	previous, next *Command
	order          uint64
	ready          chan struct{} // closed when it may be executed; nil: it always could
	ended          chan struct{} // closed by End, where somebody waits for it
	queued         bool
	canceled       chan struct{} // closed when it is aborted, where it waits for something else too

	aborted atomic.Bool
}

// Reset makes a command that End was called for ready for the next use.
func (c *Command) Reset() {
	*c = Command{Sense: c.Sense[:0]}
}

// Turn is closed when no other command has to end before this one, or it was aborted;
// nil: that was so from Begin on.
func (c *Command) Turn() <-chan struct{} { return c.ready }

// Aborted says that the command was aborted: its answer must not be sent.
func (c *Command) Aborted() bool { return c.aborted.Load() }
