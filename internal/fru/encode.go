package fru

import (
	"fmt"
	"math"
	"time"
)

// Encode is what a memory of size bytes has to begin with; the rest of it is
// free. It fails with ErrInvalid or ErrNoSpace.
func (inv *Inventory) Encode(size int) ([]byte, error) {
	b := make([]byte, headerLen)
	b[0] = version
	place := func(i int) error {
		if len(b)/unit > math.MaxUint8 {
			return ErrNoSpace // an offset is a byte
		}
		b[i] = byte(len(b) / unit)
		return nil
	}
	if inv.Internal != nil {
		if err := place(offsetInternal); err != nil {
			return nil, err
		}
		b = pad(append(b, inv.Internal...))
	}
	for k, a := range [...]*Area{Chassis: inv.Chassis, Board: inv.Board, Product: inv.Product} {
		if a == nil {
			continue
		}
		i, _, _ := Kind(k).shape()
		if err := place(i); err != nil {
			return nil, err
		}
		area, err := a.encode(Kind(k), 0)
		if err != nil {
			return nil, err
		}
		b = append(b, area...)
	}
	if len(inv.Records) > 0 {
		if err := place(offsetRecords); err != nil {
			return nil, err
		}
		var err error
		if b, err = appendRecords(b, inv.Records); err != nil {
			return nil, err
		}
	}
	if len(b) > size {
		return nil, fmt.Errorf("%w: %d of %d bytes", ErrNoSpace, len(b), size)
	}
	b[headerLen-1] = -sum(b[:headerLen-1])
	return b, nil
}

// pad fills up to where the next area may start.
func pad(b []byte) []byte {
	for len(b)%unit != 0 {
		b = append(b, 0)
	}
	return b
}

// encode is the area in at least atLeast bytes, which is a multiple of unit.
func (a *Area) encode(k Kind, atLeast int) ([]byte, error) {
	b := []byte{version, 0, a.Language}
	switch k {
	case Chassis:
		b[2] = a.ChassisType
	case Board:
		var minutes int64
		if !a.Made.IsZero() {
			minutes = int64(a.Made.Sub(epoch()) / time.Minute)
		}
		if minutes < 0 || minutes >= 1<<24 {
			return nil, fmt.Errorf("%w: a board made at %v", ErrInvalid, a.Made)
		}
		b = append(b, byte(minutes), byte(minutes>>8), byte(minutes>>16))
	}
	b, err := appendFields(b, a.Fields)
	if err != nil {
		return nil, fmt.Errorf("%s area: %w", k, err)
	}
	b = pad(append(b, 0)) // the last byte is the checksum
	if len(b) < atLeast {
		b = append(b, make([]byte, atLeast-len(b))...)
	}
	if len(b)/unit > math.MaxUint8 {
		return nil, fmt.Errorf("%w: %s area of %d bytes", ErrNoSpace, k, len(b))
	}
	b[1] = byte(len(b) / unit)
	b[len(b)-1] = -sum(b)
	return b, nil
}

func appendRecords(b []byte, list []Record) ([]byte, error) {
	for i, r := range list {
		if len(r.Data) > math.MaxUint8 || r.Version > versionBits {
			return nil, fmt.Errorf("%w: record %d", ErrInvalid, i)
		}
		head := []byte{r.Type, r.Version, byte(len(r.Data)), -sum(r.Data), 0}
		if i == len(list)-1 {
			head[1] |= endOfList
		}
		head[recordHeader-1] = -sum(head)
		b = append(append(b, head...), r.Data...)
	}
	return b, nil
}
