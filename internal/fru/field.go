package fru

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// An Encoding is how a field's bytes stand for text (section 13).
type Encoding uint8

// The encodings.
const (
	Binary Encoding = iota
	BCDPlus
	SixBit
	// Latin1 is 8-bit ASCII and Latin 1 where the language is English, and
	// UTF-16, least significant byte first, where it is another.
	Latin1
)

// MaxField is how many bytes a field has at most.
const MaxField = 63

// A Field is one type/length byte and the data it announces.
type Field struct {
	Encoding Encoding
	Data     []byte
}

// utf8Mark begins text that is UTF-8: the definition does not know it, but DCMI
// v1.5 has it so in asset tags.
const utf8Mark = "\xEF\xBB\xBF"

// NewField makes the field that holds text in English, as Latin 1 where its
// letters suffice, else as UTF-8 with a mark before it. It fails with
// ErrInvalid where text has control characters, or more than MaxField bytes.
func NewField(text string) (Field, error) {
	data, wide := make([]byte, 0, len(text)), !utf8.ValidString(text)
	for _, r := range text {
		if r < ' ' || r == 0x7F {
			return Field{}, fmt.Errorf("%w: control characters", ErrInvalid)
		}
		wide = wide || r > 0xFF
		data = append(data, byte(r))
	}
	if wide {
		if !utf8.ValidString(text) {
			return Field{}, fmt.Errorf("%w: not UTF-8", ErrInvalid)
		}
		data = []byte(utf8Mark + text)
	}
	return NewRawField(data)
}

// NewRawField makes a field of the encoding Latin1 with these bytes. It fails
// with ErrInvalid where there are more than MaxField.
func NewRawField(data []byte) (Field, error) {
	if len(data) > MaxField {
		return Field{}, fmt.Errorf("%w: %d bytes, at most %d", ErrInvalid, len(data), MaxField)
	}
	data = slices.Clone(data)
	if len(data) == 1 {
		// One byte cannot be told from the end of the fields (section 13). The
		// blank is no NUL because ipmitool's "fru edit" takes the field to be as
		// long as the text it shows.
		data = append(data, ' ')
	}
	return Field{Encoding: Latin1, Data: data}, nil
}

// Text is what the field says, in UTF-8, without the blanks that only fill it
// up. Bytes that are no text, and what cannot be decoded, show as hex digits
// or as U+FFFD.
func (f Field) Text(language byte) string {
	var s string
	switch f.Encoding {
	case Binary:
		return fmt.Sprintf("%X", f.Data)
	case BCDPlus:
		s = bcdPlus(f.Data)
	case SixBit:
		s = sixBit(f.Data)
	default:
		switch rest, marked := strings.CutPrefix(string(f.Data), utf8Mark); {
		case marked:
			s = strings.ToValidUTF8(rest, "\uFFFD")
		case f.Wide(language):
			s = wideText(f.Data)
		default:
			s = latin1(f.Data)
		}
	}
	return strings.TrimRight(s, " \x00")
}

// Wide says whether the field is UTF-16, in an area of that language.
func (f Field) Wide(language byte) bool {
	const named = 25 // English again, by its name
	return f.Encoding == Latin1 && language != English && language != named && !strings.HasPrefix(string(f.Data), utf8Mark)
}

// bcdPlus: section 13.1. The three codes in reserve show as ipmitool has them.
func bcdPlus(data []byte) string {
	const digits = "0123456789 -.:,_"
	var s strings.Builder
	for _, b := range data {
		s.WriteByte(digits[b>>4])
		s.WriteByte(digits[b&0x0F])
	}
	return s.String()
}

// sixBit: section 13.2, four characters in three bytes, the first in the least
// significant bits.
func sixBit(data []byte) string {
	var s strings.Builder
	bits, n := uint(0), 0
	for _, b := range data {
		bits |= uint(b) << n
		for n += 8; n >= 6; n -= 6 {
			s.WriteByte(byte(bits&0x3F) + ' ')
			bits >>= 6
		}
	}
	return s.String()
}

func latin1(data []byte) string {
	var s strings.Builder
	for _, b := range data {
		s.WriteRune(rune(b))
	}
	return s.String()
}

func wideText(data []byte) string {
	var units []uint16
	for ; len(data) >= 2; data = data[2:] {
		units = append(units, binary.LittleEndian.Uint16(data))
	}
	return string(utf16.Decode(units))
}

// takeFields reads fields up to the end mark. Those of the definition that a
// maker left out at the end are empty.
func takeFields(b []byte, named int) ([]Field, error) {
	var list []Field
	for {
		switch {
		case len(b) == 0:
			return nil, bad("the fields have no end")
		case b[0] == endOfFields:
			for len(list) < named {
				list = append(list, Field{Encoding: Latin1})
			}
			return list, nil
		}
		n := int(b[0] & MaxField)
		if len(b) < 1+n {
			return nil, bad("field %d ends outside its area", len(list))
		}
		list = append(list, Field{Encoding: Encoding(b[0] >> 6), Data: slices.Clone(b[1 : 1+n])})
		b = b[1+n:]
	}
}

// appendFields is the inverse of takeFields.
func appendFields(b []byte, list []Field) ([]byte, error) {
	for i, f := range list {
		if len(f.Data) > MaxField || f.Encoding > Latin1 || f.Encoding == Latin1 && len(f.Data) == 1 {
			return nil, fmt.Errorf("%w: field %d", ErrInvalid, i)
		}
		b = append(b, byte(f.Encoding)<<6|byte(len(f.Data)))
		b = append(b, f.Data...)
	}
	return append(b, endOfFields), nil
}
