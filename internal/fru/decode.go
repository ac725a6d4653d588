package fru

import (
	"slices"
	"time"
)

// epoch is where the minutes of a board's date begin (section 11).
func epoch() time.Time { return time.Date(1996, 1, 1, 0, 0, 0, 0, time.UTC) }

// Decode reads a memory. It fails with ErrFormat where anything in it is
// damaged or of a format that this definition does not have.
func Decode(image []byte) (*Inventory, error) {
	at, err := offsets(image)
	if err != nil {
		return nil, err
	}
	inv := &Inventory{}
	if start := at[offsetInternal]; start != 0 {
		end := len(image)
		for _, next := range at {
			if next > start {
				end = min(end, next)
			}
		}
		inv.Internal = slices.Clone(image[start:end])
	}
	for k, to := range [...]**Area{Chassis: &inv.Chassis, Board: &inv.Board, Product: &inv.Product} {
		place, _, _ := Kind(k).shape()
		if at[place] == 0 {
			continue
		}
		if *to, err = decodeArea(image, at[place], Kind(k)); err != nil {
			return nil, err
		}
	}
	if start := at[offsetRecords]; start != 0 {
		if inv.Records, _, err = decodeRecords(image, start); err != nil {
			return nil, err
		}
	}
	return inv, nil
}

// offsets reads the common header (section 8): where each area starts, in
// bytes, 0 where it is absent.
func offsets(image []byte) (at [headerEnd]int, err error) {
	switch {
	case len(image) < headerLen:
		return at, bad("%d bytes are no header", len(image))
	case image[0]&versionBits != version:
		return at, bad("header of format version %d", image[0]&versionBits)
	case sum(image[:headerLen]) != 0:
		return at, bad("wrong header checksum")
	}
	for i := offsetInternal; i < headerEnd; i++ {
		at[i] = int(image[i]) * unit
		if at[i] >= len(image) {
			return at, bad("an area starts outside the memory, at %d", at[i])
		}
	}
	return at, nil
}

// areaBytes is the area at start, checked.
func areaBytes(image []byte, start int, k Kind) ([]byte, error) {
	b := image[start:]
	if len(b) < unit {
		return nil, bad("%s area outside the memory", k)
	}
	if b[0]&versionBits != version {
		return nil, bad("%s area of format version %d", k, b[0]&versionBits)
	}
	n := int(b[1]) * unit
	_, head, _ := k.shape()
	if n <= head || n > len(b) {
		return nil, bad("%s area of %d bytes", k, n)
	}
	if sum(b[:n]) != 0 {
		return nil, bad("wrong checksum of the %s area", k)
	}
	return b[:n], nil
}

func decodeArea(image []byte, start int, k Kind) (*Area, error) {
	b, err := areaBytes(image, start, k)
	if err != nil {
		return nil, err
	}
	a := &Area{}
	switch k {
	case Chassis:
		a.ChassisType = b[2]
	case Board:
		if minutes := int(b[3]) | int(b[4])<<8 | int(b[5])<<16; minutes != 0 {
			a.Made = epoch().Add(time.Duration(minutes) * time.Minute)
		}
		fallthrough
	default:
		a.Language = b[2]
	}
	_, head, named := k.shape()
	if a.Fields, err = takeFields(b[head:len(b)-1], named); err != nil {
		return nil, bad("%s area: %v", k, err)
	}
	return a, nil
}

// decodeRecords reads the records from start on, and says where they end.
func decodeRecords(image []byte, start int) (list []Record, end int, err error) {
	for at := start; ; {
		b := image[at:]
		switch {
		case len(b) < recordHeader:
			return nil, 0, bad("record %d starts outside the memory", len(list))
		case sum(b[:recordHeader]) != 0:
			return nil, 0, bad("wrong header checksum of record %d", len(list))
		}
		n := recordHeader + int(b[2])
		if n > len(b) {
			return nil, 0, bad("record %d ends outside the memory", len(list))
		}
		data := b[recordHeader:n]
		if sum(data)+b[3] != 0 {
			return nil, 0, bad("wrong checksum of record %d", len(list))
		}
		list = append(list, Record{Type: b[0], Version: b[1] & versionBits, Data: slices.Clone(data)})
		if at += n; b[1]&endOfList != 0 {
			return list, at, nil
		}
	}
}
