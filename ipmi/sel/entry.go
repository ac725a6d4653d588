// Package sel is the System Event Log: the one event log as IPMI shows it, with
// record IDs, a clock and a deletion of its own (chapters 31 and 32 of the IPMI
// v2.0 specification, revision 1.1).
package sel

import "github.com/nitrino/nitrino/host"

// RecordLen is the length of a SEL record (section 32.1).
const RecordLen = 16

// An Entry is one record of the log.
type Entry struct {
	// Seq counts from 1 and is never used again.
	Seq uint64
	// Record is the record as Get SEL Entry answers it.
	Record [RecordLen]byte
	// Severity and Origin are those of the event behind it.
	Severity host.Severity
	Origin   host.Origin
}

// ID is the record's ID.
func (e *Entry) ID() uint16 { return uint16(e.Record[0]) | uint16(e.Record[1])<<8 }
