package fru

import (
	"strings"
	"unicode/utf8"

	"github.com/nitrino/nitrino/host"
	format "github.com/nitrino/nitrino/internal/fru"
)

// prepare writes the first content of a blank inventory: the board area names
// the board, and the host's own areas wait for their owner.
func (x *FRU) prepare() error {
	if !x.Inventory.Blank() {
		return nil
	}
	image, err := x.first().Encode(x.Inventory.Size())
	if err != nil {
		return err
	}
	return x.Inventory.WriteAt(image, 0, host.Origin{})
}

// first is that content. It is shaped by what "ipmitool fru edit" can do: it
// finds no field that is empty, and where a field grows it moves chassis,
// board, product and records as if all of them were there.
func (x *FRU) first() *format.Inventory {
	const unknown = 0x02 // type of chassis (SMBIOS table 17)
	id := x.Identity
	return &format.Inventory{
		Chassis: &format.Area{ChassisType: unknown, Fields: []format.Field{blank(), blank()}},
		Board: &format.Area{Fields: []format.Field{
			format.BoardManufacturer: name(id.Manufacturer),
			format.BoardProduct:      name(id.Model),
			format.BoardSerial:       name(id.Serial),
			format.BoardPartNumber:   blank(),
			format.BoardFileID:       {Encoding: format.Latin1},
		}},
		Product: &format.Area{Fields: []format.Field{
			format.ProductManufacturer: blank(),
			format.ProductName:         blank(),
			format.ProductPartNumber:   blank(),
			format.ProductVersion:      blank(),
			format.ProductSerial:       blank(),
			format.ProductAssetTag:     blank(),
			format.ProductFileID:       {Encoding: format.Latin1},
		}},
		Records: []format.Record{format.SystemUniqueID(x.UUID)},
	}
}

// blank is a field that says nothing and can be edited.
func blank() format.Field {
	return format.Field{Encoding: format.Latin1, Data: []byte("  ")}
}

// name is the field for a name that the board gave, as far as it has room.
func name(s string) format.Field {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7F || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	for s != "" {
		if f, err := format.NewField(s); err == nil {
			return f
		}
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return blank()
}
