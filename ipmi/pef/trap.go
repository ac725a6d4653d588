package pef

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/nitrino/nitrino/ipmi/sel"
)

// A trap is one Platform Event Trap (Platform Event Trap Format Specification
// v1.0), an SNMPv1 trap (RFC 1157).
type trap struct {
	community string
	from      netip.Addr    // the agent's address; one of IPv6 cannot be told
	uptime    time.Duration // of the agent
	guid      [16]byte      // most significant byte first
	sequence  uint16        // the same for all sendings of one alert
	severity  byte          // table 17-2
	record    [sel.RecordLen]byte
	entity    [2]byte // of the sensor: ID and instance; 0: unspecified
	maker     uint32  // IANA enterprise number
	product   uint16
	text      string // the alert string
}

// Tags of BER (RFC 1155, RFC 1157).
const (
	berInteger   = 0x02
	berOctets    = 0x04
	berOID       = 0x06
	berSequence  = 0x30
	berIPAddress = 0x40
	berTimeTicks = 0x43
	berTrap      = 0xA4
)

// packet is the trap's SNMP message.
func (t *trap) packet() []byte {
	// wired for management: 3183, PET: 1, version 1: 1.
	enterprise := []uint32{1, 3, 6, 1, 4, 1, 3183, 1, 1}
	const version1, enterpriseSpecific = 0, 6
	var agent [4]byte
	if t.from.Is4() {
		agent = t.from.As4()
	}
	return tlv(berSequence,
		integer(berInteger, version1),
		tlv(berOctets, []byte(t.community)),
		tlv(berTrap,
			oid(enterprise),
			tlv(berIPAddress, agent[:]),
			integer(berInteger, enterpriseSpecific),
			integer(berInteger, t.specific()),
			integer(berTimeTicks, uint32(t.uptime/(10*time.Millisecond))),
			tlv(berSequence, tlv(berSequence, oid(append(enterprise, 1)), tlv(berOctets, t.fields())))))
}

// specific is the trap's number: sensor type, event type, event offset; bit 7 of
// the last says that the event was a deassertion.
func (t *trap) specific() uint32 {
	const deassertion = 0x80
	return uint32(t.record[10])<<16 | uint32(t.record[12]&^deassertion)<<8 | uint32(t.record[12]&deassertion|t.record[13]&0x0F)
}

// petEpoch is where PET's time begins, 1998-01-01, in the time of the SEL.
const petEpoch = 883612800

// timestamp is the event's time for PET; 0 is unspecified, as for a clock that
// was never set.
func timestamp(record *[sel.RecordLen]byte) uint32 {
	if at := binary.LittleEndian.Uint32(record[3:]); at > petEpoch && at != math.MaxUint32 {
		return at - petEpoch
	}
	return 0
}

const (
	unspecified = 0xFF
	sourceIPMI  = 0x20
)

// source is PET's event source type for the record's generator: a controller,
// or software by its ID (table 5-4).
func source(record *[sel.RecordLen]byte) byte {
	const software = 0x01
	if record[7]&software == 0 {
		return sourceIPMI
	}
	switch id := record[7] >> 1; {
	case id < 0x10:
		return 0x00 // platform firmware
	case id < 0x20:
		return 0x08 // SMI handler
	case id < 0x30:
		return 0x10 // system management software
	}
	return unspecified
}

// maxText is the most characters of an alert string that the OEM field holds.
const maxText = 61

// fields are the variable binding's value: numbers are most significant byte
// first.
func (t *trap) fields() []byte {
	const utcOffsetUnknown, english = 0xFFFF, 25
	b := slices.Clone(t.guid[:])
	b = binary.BigEndian.AppendUint16(b, t.sequence)
	b = binary.BigEndian.AppendUint32(b, timestamp(&t.record))
	b = binary.BigEndian.AppendUint16(b, utcOffsetUnknown)
	b = append(b, sourceIPMI, source(&t.record), t.severity, t.record[7], t.record[11], t.entity[0], t.entity[1])
	b = append(b, t.record[13], t.record[14], t.record[15], 0, 0, 0, 0, 0)
	language := byte(unspecified)
	if t.text != "" {
		language = english
	}
	b = append(b, language)
	b = binary.BigEndian.AppendUint32(b, t.maker)
	b = binary.BigEndian.AppendUint16(b, t.product)
	return append(b, custom(t.text)...)
}

// custom is the alert string as PET's OEM field: type and length as in a FRU's
// fields, the characters, and the end.
func custom(s string) []byte {
	const latin1, end = 0xC0, 0xC1
	if s == "" {
		return []byte{end}
	}
	if len(s) == 1 {
		s += " " // a length of 1 would be the end
	}
	s = s[:min(len(s), maxText)]
	return slices.Concat([]byte{latin1 | byte(len(s))}, []byte(s), []byte{end})
}

// tlv is a value of BER: tag, length, contents.
func tlv(tag byte, parts ...[]byte) []byte {
	contents := slices.Concat(parts...)
	b := []byte{tag}
	switch n := len(contents); {
	case n < 0x80:
		b = append(b, byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, 0x82, byte(n>>8), byte(n)) // no packet is longer
	}
	return append(b, contents...)
}

// integer is a non-negative number in as few bytes as it takes, whose first bit
// is clear.
func integer(tag byte, v uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0}, v)
	for len(b) > 1 && b[0] == 0 && b[1] < 0x80 {
		b = b[1:]
	}
	return tlv(tag, b)
}

// oid encodes an object identifier of at least two arcs.
func oid(arcs []uint32) []byte {
	b := []byte{byte(arcs[0]*40 + arcs[1])}
	for _, a := range arcs[2:] {
		var digits []byte // base 128, the last one without the continuation bit
		for more := byte(0); ; more = 0x80 {
			digits = append(digits, byte(a&0x7F)|more)
			if a >>= 7; a == 0 {
				break
			}
		}
		slices.Reverse(digits)
		b = append(b, digits...)
	}
	return tlv(berOID, b)
}
