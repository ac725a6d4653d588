package fru

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func field(t testing.TB, text string) Field {
	t.Helper()
	f, err := NewField(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func fields(t testing.TB, texts ...string) (list []Field) {
	for _, s := range texts {
		list = append(list, field(t, s))
	}
	return list
}

// whole has every area.
func whole(t testing.TB) *Inventory {
	return &Inventory{
		Internal: []byte{1, 2, 3, 4, 5, 6, 7, 8},
		Chassis:  &Area{ChassisType: 0x17, Fields: fields(t, "part", "serial", "custom")},
		Board: &Area{
			Made:   time.Date(2024, 2, 29, 23, 59, 0, 0, time.UTC),
			Fields: fields(t, "maker", "board", "0001", "B-1", ""),
		},
		Product: &Area{
			Language: 25,
			Fields:   fields(t, "maker", "product", "P-1", "v1", "0002", "tag", "", "one", "two"),
		},
		Records: []Record{
			{Type: RecordPowerSupply, Version: RecordVersion, Data: bytes.Repeat([]byte{7}, 24)},
			SystemUniqueID([16]byte{0xAA, 15: 0xBB}),
			{Type: RecordOEM, Version: RecordVersion, Data: []byte{1, 2, 3, 4}},
		},
	}
}

func encode(t testing.TB, inv *Inventory, size int) []byte {
	t.Helper()
	b, err := inv.Encode(size)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, size-len(b))...)
}

func TestRoundTrip(t *testing.T) {
	for _, tt := range []struct {
		name string
		inv  *Inventory
	}{
		{"all", whole(t)},
		{"nothing", &Inventory{}},
		{"product alone", &Inventory{Product: whole(t).Product}},
		{"records alone", &Inventory{Records: whole(t).Records}},
		{"no date", &Inventory{Board: &Area{Fields: fields(t, "a b", "c d", "", "", "")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := encode(t, tt.inv, 512)
			got, err := Decode(b)
			if err != nil || len(b) != 512 {
				t.Fatalf("%v, %d bytes", err, len(b))
			}
			if !reflect.DeepEqual(got, tt.inv) {
				t.Errorf("got %+v, want %+v", got, tt.inv)
			}
		})
	}
}

// TestLayout holds the bytes against the definition's tables.
func TestLayout(t *testing.T) {
	inv := &Inventory{
		Board: &Area{
			Made:   time.Date(1996, 1, 1, 4, 18, 0, 0, time.UTC), // 258 minutes
			Fields: []Field{{Binary, []byte{0xAB}}, {BCDPlus, []byte{0x12}}, {SixBit, []byte{0x29, 0xDC, 0xA6}}, field(t, "x"), field(t, "")},
		},
		Records: []Record{{Type: 0xC1, Version: 2, Data: []byte{9}}},
	}
	want := []byte{
		0x01, 0, 0, 1, 0, 4, 0, 0xFA,
		0x01, 3, 0, 2, 1, 0, 0x01, 0xAB, 0x41, 0x12, 0x83, 0x29, 0xDC, 0xA6, 0xC2, 'x', ' ', 0xC0, 0xC1, 0, 0, 0, 0, 0,
		0xC1, 0x82, 1, 0xF7, 0xC5, 9,
	}
	want[31] = -sum(want[8:31])
	if got := encode(t, inv, len(want)); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	for i, text := range []string{"AB", "12", "IPMI", "x", ""} {
		if got := inv.Board.Text(i); got != text {
			t.Errorf("field %d is %q, want %q", i, got, text)
		}
	}
	if got := inv.Product.Text(0) + inv.Board.Text(-1) + inv.Board.Text(9); got != "" {
		t.Errorf("absent fields say %q", got)
	}
}

func TestFieldText(t *testing.T) {
	for _, tt := range []struct {
		name     string
		field    Field
		language byte
		want     string
	}{
		{"latin 1", Field{Latin1, []byte{'K', 0xF6, 'l', 'n'}}, English, "Köln"},
		{"utf-16", Field{Latin1, []byte{0xAC, 0x20, 0x3D, 0xD8, 0x00, 0xDE, 'x'}}, 1, "€😀"},
		{"utf-8", Field{Latin1, []byte("\xEF\xBB\xBF€")}, English, "€"},
		{"broken utf-8", Field{Latin1, []byte("\xEF\xBB\xBF\xFF")}, English, "\uFFFD"},
		{"blanks", Field{Latin1, []byte("a  \x00")}, English, "a"},
		{"six bit, rest", Field{SixBit, []byte{0x21}}, English, "A"},
		{"bcd", Field{BCDPlus, []byte{0x09, 0xBC, 0x1A}}, English, "09-.1"},
	} {
		if got := tt.field.Text(tt.language); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, text := range []string{"", "x", "tag 1", "Köln", "€ 5", strings.Repeat("ö", 63), strings.Repeat("€", 20)} {
		if got := field(t, text).Text(English); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
	for _, text := range []string{"a\nb", "\x00", "\x7F", "€\xFF", strings.Repeat("x", 64), strings.Repeat("€", 21)} {
		if f, err := NewField(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q became %+v, %v", text, f, err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	good := encode(t, whole(t), 512)
	// chassis, board and product of whole start here
	starts := map[string]int{"chassis": int(good[2]) * 8, "board": int(good[3]) * 8, "product": int(good[4]) * 8, "record": int(good[5]) * 8}
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
		want   string
	}{
		{"empty", func(b []byte) []byte { return nil }, "no header"},
		{"blank", func(b []byte) []byte { return make([]byte, 64) }, "format version 0"},
		{"header checksum", func(b []byte) []byte { b[7]++; return b }, "header checksum"},
		{"offset", func(b []byte) []byte { b[2] = 0xFF; b[7] = 0; b[7] = -sum(b[:8]); return b }, "outside the memory, at 2040"},
		{"area version", func(b []byte) []byte { b[starts["board"]] = 2; return b }, "board area of format version 2"},
		{"area length", func(b []byte) []byte { b[starts["product"]+1] = 0; return b }, "product area of 0 bytes"},
		{"area checksum", func(b []byte) []byte { b[starts["chassis"]+4] = 'q'; return b }, "checksum of the chassis area"},
		{"record checksum", func(b []byte) []byte { b[starts["record"]+5] = 'q'; return b }, "checksum of record 0"},
		{"record header", func(b []byte) []byte { b[starts["record"]]++; return b }, "header checksum of record 0"},
		{"cut", func(b []byte) []byte { return b[:starts["record"]+9] }, "record 0 ends outside"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(tt.damage(bytes.Clone(good)))
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

func TestEncodeErrors(t *testing.T) {
	long := Field{Latin1, bytes.Repeat([]byte{'x'}, 63)}
	var many []Field
	for range 40 {
		many = append(many, long)
	}
	for _, tt := range []struct {
		name string
		inv  Inventory
		want error
	}{
		{"small memory", Inventory{Product: &Area{Fields: []Field{long, long}}}, ErrNoSpace},
		{"long area", Inventory{Product: &Area{Fields: many}}, ErrNoSpace},
		{"far area", Inventory{Internal: make([]byte, 2048), Product: &Area{}}, ErrNoSpace},
		{"long field", Inventory{Product: &Area{Fields: []Field{{Latin1, make([]byte, 64)}}}}, ErrInvalid},
		{"one byte", Inventory{Product: &Area{Fields: []Field{{Latin1, []byte("x")}}}}, ErrInvalid},
		{"old board", Inventory{Board: &Area{Made: time.Unix(1, 0)}}, ErrInvalid},
		{"new board", Inventory{Board: &Area{Made: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}}, ErrInvalid},
		{"long record", Inventory{Records: []Record{{Data: make([]byte, 256)}}}, ErrInvalid},
	} {
		size := 4096
		if tt.name == "small memory" {
			size = 128
		}
		if _, err := tt.inv.Encode(size); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestSetField(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, tt := range []struct {
		name  string
		inv   *Inventory
		size  int
		kind  Kind
		field int
		text  string
		want  error
	}{
		{"same length", whole(t), 512, Product, ProductAssetTag, "gat", nil},
		{"shorter", whole(t), 512, Product, ProductName, "", nil},
		{"longer", whole(t), 512, Product, ProductAssetTag, long, nil},
		{"areas behind it move", whole(t), 512, Chassis, ChassisPartNumber, long, nil},
		{"another custom field", whole(t), 512, Board, boardFields, "more", nil},
		{"no such field", whole(t), 512, Board, boardFields + 1, "more", ErrInvalid},
		{"negative", whole(t), 512, Board, -1, "more", ErrInvalid},
		{"full", whole(t), 224, Product, ProductAssetTag, long, ErrNoSpace},
		{"new area before records", &Inventory{Records: whole(t).Records}, 256, Product, ProductAssetTag, long, nil},
		{"new area behind board", &Inventory{Board: whole(t).Board}, 256, Product, ProductAssetTag, long, nil},
		{"new area, header alone", &Inventory{}, 256, Product, ProductAssetTag, long, nil},
		{"new area, no room", &Inventory{Board: whole(t).Board}, 64, Product, ProductAssetTag, long, ErrNoSpace},
		{"internal area behind", &Inventory{Internal: []byte{1}}, 64, Product, ProductAssetTag, long, ErrNoSpace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := encode(t, tt.inv, tt.size)
			before := bytes.Clone(image)
			got, err := SetField(image, tt.kind, tt.field, field(t, tt.text))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if !bytes.Equal(image, before) {
				t.Error("the image given was changed")
			}
			if err != nil {
				return
			}
			want, err := Decode(image)
			if err != nil {
				t.Fatal(err)
			}
			at := [...]**Area{Chassis: &want.Chassis, Board: &want.Board, Product: &want.Product}[tt.kind]
			if *at == nil {
				*at = &Area{Fields: fields(t, "", "", "", "", "", "", "")}
			}
			if tt.field == len((*at).Fields) {
				(*at).Fields = append((*at).Fields, Field{})
			}
			(*at).Fields[tt.field] = field(t, tt.text)
			now, err := Decode(got)
			if err != nil || len(got) != tt.size {
				t.Fatalf("%v, %d bytes", err, len(got))
			}
			if !reflect.DeepEqual(now, want) {
				t.Errorf("got %+v, want %+v", now, want)
			}
		})
	}
}

// TestSetFieldKeepsUnknown: bytes in gaps belong to somebody.
func TestSetFieldKeepsUnknown(t *testing.T) {
	inv := &Inventory{Product: &Area{Fields: fields(t, "a1", "b1", "", "", "", "", "")}}
	image := encode(t, inv, 128)
	used := int(image[9]) * unit
	copy(image[headerLen+used:], "somebody's")
	got, err := SetField(image, Product, ProductName, field(t, strings.Repeat("n", 30)))
	if err != nil || bytes.Count(got, []byte("somebody's")) != 1 {
		t.Errorf("%v: %x", err, got)
	}
	copy(image[128-10:], "somebody's")
	if _, err := SetField(image, Product, ProductName, field(t, strings.Repeat("n", 30))); !errors.Is(err, ErrNoSpace) {
		t.Errorf("the end of the memory was overwritten: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, whole(f), 512), uint8(2), uint8(ProductAssetTag), "tag")
	f.Add(encode(f, &Inventory{}, 8), uint8(0), uint8(0), "")
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0xFE, 1, 2}, uint8(1), uint8(0), "x")
	f.Fuzz(func(t *testing.T, image []byte, kind, index uint8, text string) {
		inv, err := Decode(image)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, a := range []*Area{inv.Chassis, inv.Board, inv.Product} {
			if a != nil {
				for i := range a.Fields {
					a.Text(i)
				}
			}
		}
		if again, err := inv.Encode(1 << 16); err == nil {
			if _, err := Decode(again); err != nil {
				t.Fatalf("what was encoded is damaged: %v", err)
			}
		}
		value, err := NewField(text)
		if err != nil {
			return
		}
		kind %= 3
		got, err := SetField(image, Kind(kind), int(index), value)
		if err != nil {
			return
		}
		now, err := Decode(got)
		if err != nil || len(got) != len(image) {
			t.Fatalf("after SetField: %v, %d bytes of %d", err, len(got), len(image))
		}
		a := [...]*Area{now.Chassis, now.Board, now.Product}[kind]
		if !reflect.DeepEqual(a.Fields[index], value) && len(value.Data) > 0 {
			t.Fatalf("field is %+v, not %+v", a.Fields[index], value)
		}
	})
}
