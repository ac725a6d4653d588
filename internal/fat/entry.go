package fat

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// EntrySize is the size of a folder's entry in bytes.
const EntrySize = 32

// Attributes of an entry (page 22).
const (
	attrLabel  = 0x08
	attrFolder = 0x10
	attrLong   = 0x0f
)

// An Entry is a file or folder.
type Entry struct {
	Name    string // its path from the root
	Dir     bool
	Label   bool // the volume's label, which is no file
	Dot     bool // the folder itself or its parent
	Size    int64
	Cluster uint32 // the first; 0 of an empty file
	Offset  int64  // of its short entry in the partition

	short string // its short name, without the folders
}

// newEntry reads a short entry; name is its long name, if it has one.
func newEntry(b []byte, name string) Entry {
	le := binary.LittleEndian
	e := Entry{
		Name: name, Dir: b[11]&attrFolder != 0, Label: b[11]&attrLabel != 0, Size: int64(le.Uint32(b[28:])),
		Cluster: uint32(le.Uint16(b[20:]))<<16 | uint32(le.Uint16(b[26:])),
	}
	base, ext := strings.TrimRight(string(b[:8]), " "), strings.TrimRight(string(b[8:11]), " ")
	e.Dot = (base == "." || base == "..") && ext == ""
	// Windows NT's bits for names that are in lower case throughout.
	if b[12]&0x08 != 0 {
		base = strings.ToLower(base)
	}
	if b[12]&0x10 != 0 {
		ext = strings.ToLower(ext)
	}
	if e.short = base; ext != "" {
		e.short += "." + ext
	}
	if e.Name == "" {
		e.Name = e.short
	}
	return e
}

// A longName collects the entries of a long name, which stand before their
// file's, the last part first (page 28).
type longName struct {
	units []uint16
	next  byte // the number of the part that has to come; 0: the name is whole
	sum   byte
}

func (l *longName) add(b []byte) {
	number := b[0] &^ 0x40
	switch {
	case b[0]&0x40 != 0 && number > 0 && number <= 20:
		*l = longName{sum: b[13], next: number}
	case number == 0 || number != l.next || b[13] != l.sum:
		*l = longName{}
		return
	}
	part := make([]uint16, 0, 13)
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := span[0]; i < span[1]; i += 2 {
			part = append(part, binary.LittleEndian.Uint16(b[i:]))
		}
	}
	l.units = append(part, l.units...)
	l.next--
}

// take returns the name if it belongs to the entry with this short name, else
// "", and begins anew.
func (l *longName) take(short []byte) string {
	name := *l
	*l = longName{}
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if len(name.units) == 0 || name.next != 0 || name.sum != sum {
		return ""
	}
	for i, u := range name.units {
		if u == 0 {
			name.units = name.units[:i]
			break
		}
	}
	return string(utf16.Decode(name.units))
}
