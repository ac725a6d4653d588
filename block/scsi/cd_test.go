package scsi

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
)

func TestDisc(t *testing.T) {
	b := newRig(t, block.Identity{ReadOnly: true}, func(o *UnitOptions) { o.CD = true })
	n := b.connect("iqn.a")
	const size = testBlocks / 4 // 2048-byte blocks
	for _, tt := range []struct {
		name string
		cdb  []byte
		want string
	}{
		{"INQUIRY", []byte{0x12, 0, 0, 0, 8}, "05 80 06 12 5b 10 00 02"},
		{"READ CAPACITY(10)", code10(0x25, 0, 0, 0), "000003ff 00000800"},
		{"READ TOC", []byte{0x43, 0, 0, 0, 0, 0, 0, 0, 255}, "0012 01 01 00 14 01 00 00000000 00 14 aa 00 00000400"},
		{"READ TOC, MSF", []byte{0x43, 2, 0, 0, 0, 0, 0, 0, 255}, "0012 01 01 00 14 01 00 00000200 00 14 aa 00 00000f31"},
		{"READ TOC, sessions", []byte{0x43, 0, 1, 0, 0, 0, 0, 0, 255}, "000a 01 01 00 14 01 00 00000000"},
		{"READ TOC, 4 bytes", []byte{0x43, 0, 0, 0, 0, 0, 0, 0, 4}, "0012 01 01"},
		{"GET EVENT STATUS", []byte{0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8}, "0006 04 10 00 02 00 00"},
		{"GET EVENT STATUS of others", []byte{0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8}, "0002 80 10"},
		{"GET CONFIGURATION", []byte{0x46, 2, 0, 0x10, 0, 0, 0, 0, 255}, "00000010 0000 0008 0010 03 08 00000800 0001 00 00"},
		{"READ DISC INFORMATION", []byte{0x51, 0, 0, 0, 0, 0, 0, 0, 7}, "0020 0e 01 01 01 01"},
		{"MODE SENSE(10), capabilities", []byte{0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 15}, "001c 00 00 0000 0000 2a 14 3b 00 70 00 29"},
	} {
		c := do(n, tt.cdb, nil)
		expect(t, tt.name, c, "good")
		if want := strings.Join(strings.Fields(tt.want), ""); hex.EncodeToString(c.Data) != want {
			t.Errorf("%s: got %x, want %s", tt.name, c.Data, want)
		}
	}
	b.memory.data[(size-1)*2048] = 7
	c := do(n, code10(0x28, 0, size-1, 1), nil)
	if expect(t, "the last block", c, "good"); len(c.Data) != 2048 || c.Data[0] != 7 {
		t.Errorf("the last block: got %d bytes", len(c.Data))
	}
	for _, tt := range []struct {
		code []byte
		want string
	}{
		{code10(0x28, 0, size, 1), "5/2100"}, {code10(0x2a, 0, 0, 1), "5/2000"}, {[]byte{0x12, 1, 0xb0, 0, 255}, "5/2400"},
		{[]byte{0x43, 0, 2, 0, 0, 0, 0, 0, 255}, "5/2400"}, {[]byte{0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8}, "5/2400"}, {[]byte{0x46, 3, 0, 0, 0, 0, 0, 0, 8}, "5/2400"},
	} {
		expect(t, hex.EncodeToString(tt.code), do(n, tt.code, nil), tt.want)
	}
	if _, err := NewUnit(UnitOptions{Disk: newRig(t, block.Identity{BlockSize: 4096}, nil).disk, CD: true}); err == nil {
		t.Error("a disc of 4096-byte blocks: no error")
	}
}

func TestEject(t *testing.T) {
	for _, cd := range []bool{false, true} {
		b := newRig(t, block.Identity{}, func(o *UnitOptions) { o.CD, o.Removable = cd, true })
		n, m := b.connect("iqn.a"), b.connect("iqn.b")
		const ejects, loads = 2, 3
		move := func(n *Nexus, how byte) *Command { return do(n, []byte{0x1b, 0, 0, 0, how}, nil) }
		expect(t, "PREVENT", do(m, []byte{0x1e, 0, 0, 0, 1}, nil), "good")
		expect(t, "a prevented eject", move(n, ejects), "5/5302")
		expect(t, "ALLOW of another", do(n, []byte{0x1e, 0, 0, 0, 0}, nil), "good")
		expect(t, "a prevented eject", move(n, ejects), "5/5302")
		m.Close() // which ends its PREVENT
		expect(t, "stop without LOEJ", move(n, 0), "good")
		expect(t, "a power condition", do(n, []byte{0x1b, 0, 0, 0, 0x22}, nil), "good")
		expect(t, "ready", do(n, []byte{0}, nil), "good")
		expect(t, "eject", move(n, ejects), "good")
		for _, code := range [][]byte{{0}, code10(0x28, 0, 0, 1), code10(0x25, 0, 0, 0)} {
			expect(t, "without a medium", do(n, code, nil), "2/3a00")
		}
		expect(t, "INQUIRY", do(n, []byte{0x12, 0, 0, 0, 36}, nil), "good")
		m = b.connect("iqn.b")
		expect(t, "PREVENT while it is out", do(m, []byte{0x1e, 0, 0, 0, 1}, nil), "good")
		expect(t, "a prevented load", move(n, loads), "5/5302")
		if _, ends := n.Manage(LogicalUnitReset, 0); ends.Wait(t.Context()) != nil {
			t.Error("the reset does not end")
		}
		expect(t, "the reset", do(n, []byte{0}, nil), "6/2903")
		expect(t, "the reset, of the other", do(m, []byte{0}, nil), "6/2903")
		expect(t, "load", move(n, loads), "good")
		expect(t, "ready again", do(n, []byte{0}, nil), "good")
		expect(t, "the other is told", do(m, []byte{0}, nil), "6/2800")
		// A new disc takes the place of the ejected one.
		expect(t, "eject", move(n, ejects), "good")
		if err := b.disk.Exchange(func(d block.Device) (block.Device, bool, error) { return d, true, nil }); err != nil {
			t.Error(err)
		}
		expect(t, "a new medium", do(n, []byte{0}, nil), "6/2800")
		expect(t, "ready with it", do(n, []byte{0}, nil), "good")
		failed := errors.New("the card is gone")
		b.memory.fail = failed
		expect(t, "stop with what cannot be flushed", move(n, 0), "4/4400")
	}
}
