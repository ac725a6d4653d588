// Package sel is the System Event Log: the one event log as IPMI shows it, with
// record IDs, a clock and a deletion of its own (chapters 31 and 32 of the IPMI
// v2.0 specification, revision 1.1).
//
// An event whose kind is in the table of Kinds becomes a record as soon as Run
// sees it, and a record is in the store before anybody sees it: one that was
// shown keeps its ID, whatever happens. It goes when the event log is full and the
// event goes, or when a console deletes it; the event stays then.
package sel

import "github.com/nitrino/nitrino/host"

// RecordLen is the length of a SEL record (section 32.1).
const RecordLen = 16

// An Entry is one record of the log.
type Entry struct {
	// Seq counts from 1 and is never used again. It is the event's ID, so that
	// some numbers are left out.
	Seq uint64
	// Record is the record as Get SEL Entry answers it.
	Record [RecordLen]byte
	// Severity and Origin are those of the event behind it.
	Severity host.Severity
	Origin   host.Origin
}

// ID is the record's ID.
func (e *Entry) ID() uint16 { return uint16(e.Record[0]) | uint16(e.Record[1])<<8 }
