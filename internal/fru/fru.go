// Package fru reads and writes FRU information: what the memory of a machine or
// of one of its parts says of it (IPMI Platform Management FRU Information
// Storage Definition v1.0, revision 1.3).
package fru

import (
	"errors"
	"fmt"
	"time"
)

// What can be wrong; the errors of this package say more and wrap one of these.
var (
	// ErrFormat: the bytes are not FRU information, or damaged.
	ErrFormat = errors.New("bad FRU information")
	// ErrInvalid: the value cannot be stored.
	ErrInvalid = errors.New("invalid FRU value")
	// ErrNoSpace: the memory is too small for it.
	ErrNoSpace = errors.New("no space left in the FRU memory")
)

// English is the language code that gives text one byte a character
// (section 15).
const English = 0

// An Inventory is what a memory holds. Areas that are nil are absent.
type Inventory struct {
	// Internal is the internal use area, whose content is its maker's own. It
	// begins with its format version and reaches up to the next area, or to the
	// end of the memory.
	Internal []byte
	Chassis  *Area
	Board    *Area
	Product  *Area
	// Records are the multi-record area.
	Records []Record
}

// A Kind names one of the areas that have fields.
type Kind uint8

// The areas (sections 10, 11 and 12).
const (
	Chassis Kind = iota
	Board
	Product
)

// String names the area.
func (k Kind) String() string {
	names := [...]string{"chassis", "board", "product"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Fields of the chassis area; the maker's own follow.
const (
	ChassisPartNumber = iota
	ChassisSerial
	chassisFields
)

// Fields of the board area; the maker's own follow.
const (
	BoardManufacturer = iota
	BoardProduct
	BoardSerial
	BoardPartNumber
	BoardFileID
	boardFields
)

// Fields of the product area; the maker's own follow.
const (
	ProductManufacturer = iota
	ProductName
	ProductPartNumber
	ProductVersion
	ProductSerial
	ProductAssetTag
	ProductFileID
	productFields
)

// An Area is a chassis, board or product area.
type Area struct {
	// ChassisType is SMBIOS' type of enclosure; of a chassis area only.
	ChassisType byte
	// Language is a code of section 15; a chassis area has none, and is English.
	Language byte
	// Made is when the board was made, to the minute, zero: unknown; of a board
	// area only.
	Made time.Time
	// Fields are those the definition names, and after them the maker's own.
	Fields []Field
}

// Text is the field's text, "" where there is none.
func (a *Area) Text(field int) string {
	if a == nil || field < 0 || field >= len(a.Fields) {
		return ""
	}
	return a.Fields[field].Text(a.Language)
}

// A Record is one of the multi-record area (section 16). Its data is as the
// table of its type says.
type Record struct {
	Type byte
	// Version of the record's format, 2 for those of this definition.
	Version byte
	Data    []byte
}

// Types of records.
const (
	RecordPowerSupply      = 0x00
	RecordDCOutput         = 0x01
	RecordDCLoad           = 0x02
	RecordManagementAccess = 0x03
	// RecordOEM and above are makers' own; their data begins with the IANA
	// number of the maker.
	RecordOEM = 0xC0
)

// RecordVersion is the format version of the definition's records.
const RecordVersion = 2

// SystemUniqueID is the management access record (section 18.4) that names the
// machine by its UUID.
func SystemUniqueID(uuid [16]byte) Record {
	const subType = 0x07
	return Record{Type: RecordManagementAccess, Version: RecordVersion, Data: append([]byte{subType}, uuid[:]...)}
}

const (
	unit         = 8 // areas start and end at multiples of it
	headerLen    = 8
	version      = 1
	endOfFields  = 0xC1
	recordHeader = 5
	endOfList    = 0x80 // bit of a record's second byte
	versionBits  = 0x0F // bits of it, and of the first byte of header and areas
)

// Places of the offsets in the common header (section 8).
const (
	offsetInternal = 1 + iota
	offsetChassis
	offsetBoard
	offsetProduct
	offsetRecords
	headerEnd
)

// sum is what bytes with a zero checksum add up to 0 with.
func sum(b []byte) (s byte) {
	for _, x := range b {
		s += x
	}
	return s
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}

// shape is what differs between the kinds of areas: where the common header
// has the offset, how long the part before the fields is, and how many fields
// the definition names.
func (k Kind) shape() (place, head, fields int) {
	switch k {
	case Chassis:
		return offsetChassis, 3, chassisFields
	case Board:
		return offsetBoard, 6, boardFields
	default:
		return offsetProduct, 3, productFields
	}
}
