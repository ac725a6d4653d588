package fru

import (
	"fmt"
	"math"
	"slices"
)

// SetField returns the image with one field of an area changed, and of the same
// size. What it does not know stays as it is: gaps, the makers' own records and
// areas are moved at most. An area that is absent is added, with empty fields;
// a field that is none of the area's, and not the next after them, is
// ErrInvalid. It fails with ErrFormat where image is damaged, and with
// ErrNoSpace where the end of the memory is in use.
func SetField(image []byte, k Kind, field int, f Field) ([]byte, error) {
	inv, err := Decode(image)
	if err != nil {
		return nil, err
	}
	at, err := offsets(image)
	if err != nil {
		return nil, err
	}
	place, _, named := k.shape()
	a, start, length := [...]*Area{Chassis: inv.Chassis, Board: inv.Board, Product: inv.Product}[k], at[place], 0
	if a == nil {
		a = &Area{}
		for range named {
			a.Fields = append(a.Fields, Field{Encoding: Latin1})
		}
		if start, err = inv.freePlace(image, at); err != nil {
			return nil, err
		}
	} else {
		length = int(image[start+1]) * unit
	}
	switch {
	case field < 0 || field > len(a.Fields):
		return nil, fmt.Errorf("%w: the %s area has no field %d", ErrInvalid, k, field)
	case field == len(a.Fields):
		a.Fields = append(a.Fields, f)
	default:
		a.Fields[field] = f
	}
	fresh, err := a.encode(k, length)
	if err != nil {
		return nil, err
	}
	for _, other := range at {
		if other > start && other < start+length {
			return nil, bad("areas overlap at %d", other)
		}
	}
	out, err := splice(image, start, length, fresh)
	if err != nil {
		return nil, err
	}
	out[place] = byte(start / unit)
	out[headerLen-1] = 0
	out[headerLen-1] = -sum(out[:headerLen])
	if _, err := Decode(out); err != nil {
		// What fell off the end looked free and was not.
		return nil, fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return out, nil
}

// freePlace is where a new area can go: before the records, else behind all
// that is known.
func (inv *Inventory) freePlace(image []byte, at [headerEnd]int) (int, error) {
	if at[offsetRecords] != 0 {
		return at[offsetRecords], nil
	}
	end := headerLen
	for k := Chassis; k <= Product; k++ {
		place, _, _ := k.shape()
		if start := at[place]; start != 0 {
			end = max(end, start+int(image[start+1])*unit)
		}
	}
	if at[offsetInternal] >= end {
		return 0, fmt.Errorf("%w: the internal use area reaches to its end", ErrNoSpace)
	}
	if end > math.MaxUint8*unit || end >= len(image) {
		return 0, ErrNoSpace
	}
	return end, nil
}

// splice puts fresh in the place of length bytes at start, and moves what
// follows. Only blank bytes may fall off the end. It leaves the header's
// checksum wrong.
func splice(image []byte, start, length int, fresh []byte) ([]byte, error) {
	out := slices.Concat(image[:start], fresh, image[start+length:])
	if slices.ContainsFunc(out[len(image):], func(b byte) bool { return b != 0 && b != 0xFF }) {
		return nil, ErrNoSpace
	}
	out = out[:len(image)]
	for i := offsetInternal; i < headerEnd; i++ {
		if old := int(image[i]) * unit; old >= start+length {
			moved := int(image[i]) + (len(fresh)-length)/unit
			if moved > math.MaxUint8 {
				return nil, ErrNoSpace
			}
			out[i] = byte(moved)
		}
	}
	return out, nil
}
