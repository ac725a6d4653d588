package pef

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// A decoded is what a receiver reads of a trap.
type decoded struct {
	community         string
	enterprise, bound string
	agent             [4]byte
	generic, specific uint32
	ticks             uint32
	pet               []byte
}

// text is the alert string in the OEM field.
func (d *decoded) text() string {
	f := d.pet[46:]
	if f[0] == 0xC1 {
		return ""
	}
	return string(f[1 : 1+f[0]&0x3F])
}

// ber reads values one after the other.
type ber struct {
	b   []byte
	err error
}

func (r *ber) next(tag byte) []byte {
	if r.err != nil {
		return nil
	}
	if len(r.b) < 2 || r.b[0] != tag {
		r.err = fmt.Errorf("want tag %02X in % X", tag, r.b)
		return nil
	}
	n, at := int(r.b[1]), 2
	if n >= 0x80 {
		digits := n & 0x7F
		n = 0
		for i := range digits {
			n = n<<8 | int(r.b[2+i])
		}
		at += digits
	}
	if len(r.b) < at+n {
		r.err = errors.New("it is cut short")
		return nil
	}
	v := r.b[at : at+n]
	r.b = r.b[at+n:]
	return v
}

func (r *ber) number(tag byte) (v uint32) {
	b := r.next(tag)
	if len(b) > 1 && b[0] == 0 && b[1] < 0x80 || len(b) > 0 && b[0] >= 0x80 || len(b) > 5 {
		r.err = fmt.Errorf("% X is no shortest non-negative number", b)
	}
	for _, d := range b {
		v = v<<8 | uint32(d)
	}
	return v
}

func (r *ber) oid() string {
	b := r.next(berOID)
	if r.err != nil || len(b) == 0 {
		return ""
	}
	s := fmt.Sprintf("%d.%d", b[0]/40, b[0]%40)
	arc := uint32(0)
	for _, d := range b[1:] {
		arc = arc<<7 | uint32(d&0x7F)
		if d < 0x80 {
			s += fmt.Sprintf(".%d", arc)
			arc = 0
		}
	}
	return s
}

func decodeTrap(packet []byte) (d decoded, err error) {
	outer := ber{b: packet}
	message := ber{b: outer.next(berSequence)}
	if v := message.number(berInteger); v != 0 {
		return d, fmt.Errorf("SNMP version %d", v)
	}
	d.community = string(message.next(berOctets))
	pdu := ber{b: message.next(berTrap)}
	d.enterprise = pdu.oid()
	copy(d.agent[:], pdu.next(berIPAddress))
	d.generic, d.specific = pdu.number(berInteger), pdu.number(berInteger)
	d.ticks = pdu.number(berTimeTicks)
	list := ber{b: pdu.next(berSequence)}
	binding := ber{b: list.next(berSequence)}
	d.bound, d.pet = binding.oid(), binding.next(berOctets)
	for _, r := range []ber{outer, message, pdu, list, binding} {
		if err := cmpError(r); err != nil {
			return d, err
		}
	}
	return d, nil
}

func cmpError(r ber) error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("% X is left over", r.b)
	}
	return r.err
}

func testTrap() trap {
	return trap{community: "public", from: netip.MustParseAddr("192.0.2.99"), uptime: 3*time.Hour + 20*time.Millisecond,
		guid: [16]byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 8, 9, 10, 11, 12, 13, 14, 15}, sequence: 0x1234, severity: severityCritical,
		record: record(sensorTemperature, 5, 0x81, 0x59, 0x70, 0x6E), entity: [2]byte{3, 1}, maker: 0x1B27, product: 0x4455}
}

func TestTrap(t *testing.T) {
	tr := testTrap()
	got, err := decodeTrap(tr.packet())
	if err != nil {
		t.Fatal(err)
	}
	want := decoded{community: "public", enterprise: "1.3.6.1.4.1.3183.1.1", bound: "1.3.6.1.4.1.3183.1.1.1", agent: [4]byte{192, 0, 2, 99}, generic: 6, specific: 0x010189, ticks: 1080002}
	pet := got.pet
	got.pet = nil
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	wantPET := []byte{0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 8, 9, 10, 11, 12, 13, 14, 15,
		0x12, 0x34, 0x36, 0x70, 0x02, 0x00, 0xFF, 0xFF, 0x20, 0x20, 0x10, 0x20, 5, 3, 1, 0x59, 0x70, 0x6E, 0, 0, 0, 0, 0, 0xFF, 0, 0, 0x1B, 0x27, 0x44, 0x55, 0xC1}
	if !bytes.Equal(pet, wantPET) {
		t.Errorf("got\n% X, want\n% X", pet, wantPET)
	}
}

func TestTrapTexts(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 80))
	for _, tt := range []struct{ text, want string }{{"", ""}, {"x", "x "}, {"the CPU is hot", "the CPU is hot"}, {long, long[:maxText]}} {
		tr := testTrap()
		tr.text = tt.text
		got, err := decodeTrap(tr.packet())
		if err != nil || got.text() != tt.want || got.pet[len(got.pet)-1] != 0xC1 {
			t.Errorf("%q: got %q, %v, want %q", tt.text, got.text(), err, tt.want)
		}
	}
}

// FuzzTrap: any record makes a trap that can be read.
func FuzzTrap(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 0, 0, 0, 0x20, 0, 4, 1, 5, 1, 0x59, 0x70, 0x6E}, "text", uint32(100), []byte{10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, r []byte, text string, ms uint32, from []byte) {
		tr := trap{community: "public", uptime: time.Duration(ms) * time.Millisecond, text: text, sequence: uint16(ms), maker: ms}
		copy(tr.record[:], r)
		tr.from, _ = netip.AddrFromSlice(from)
		got, err := decodeTrap(tr.packet())
		if err != nil {
			t.Fatal(err)
		}
		if got.specific != tr.specific() || got.ticks != uint32(tr.uptime/(10*time.Millisecond)) || len(got.pet) > 46+64 {
			t.Errorf("got %+v of %+v", got, tr)
		}
	})
}
