package scsi

import (
	"bytes"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// Anything at all, to a disk, a disc and where there is no unit: each command is
// answered, nothing is moved beyond what was announced, and nothing happens outside
// the disk (which memory would panic of).
func FuzzCommand(f *testing.F) {
	t := newTable(false)
	for op := range t {
		for _, o := range t[op] {
			f.Add(cdb(o.usage...), []byte{}, byte(0))
			f.Add(cdb(o.code, byte(max(o.action, 0)), 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 24), make([]byte, 48), byte(1))
		}
	}
	b := newRig(f, block.Identity{}, nil)
	f.Add(code16(0x83, 0, 0, 200), copyList(1, [][8]byte{b.unit.naa()}, blockSegment(0, 0, 2, 0, 1)), byte(0))
	f.Fuzz(func(t *testing.T, code, data []byte, how byte) {
		if len(code) < 16 {
			return
		}
		b := newRig(t, block.Identity{}, nil)
		disc := newRig(t, block.Identity{UUID: [16]byte{1}}, func(o *UnitOptions) { o.CD = true })
		b.target.SetUnits(map[uint16]*Unit{0: b.unit, 1: disc.unit})
		n := b.connect("iqn.a")
		c := &Command{LUN: uint64(how&3) << 48, CDB: bytes.Clone(code), Attribute: Attribute(how >> 2 % 5), Expected: len(data)}
		expect(t, "REGISTER", out(n, 0, 0, 0, 1, 0), "good")
		if !n.Begin(c) {
			if c.In < 0 || c.Out < 0 || c.In > maxTransfer || c.Out > 2*maxTransfer {
				t.Fatalf("%x: moves %d, %d bytes", code, c.In, c.Out)
			}
			announced := c.In
			finish(n, c, data)
			if c.In > announced || c.N > max(c.In, c.Out) || c.N < 0 {
				t.Errorf("%x: moved %d of %d, %d; announced were %d", code, c.N, c.In, c.Out, announced)
			}
		}
		n.End(c)
		switch c.Status {
		case StatusGood, StatusReservationConflict:
			if len(c.Sense) > 0 {
				t.Errorf("%x: status %#x with sense data", code, c.Status)
			}
		case StatusCheckCondition:
			if len(c.Sense) < 8 {
				t.Errorf("%x: got %d bytes of sense data", code, len(c.Sense))
			}
		default:
			t.Errorf("%x: status %#x", code, c.Status)
		}
		if u := &b.unit.tasks; u.first != nil || u.dormant != 0 || u.barriers != 0 {
			t.Errorf("%x: the task set is not empty", code)
		}
	})
}
