package scsi

import (
	"testing"

	"github.com/nitrino/nitrino/block"
)

// once is the way of a READ(10) or WRITE(10) of 4 KiB that need not wait.
func once(t testing.TB, n *Nexus, c *Command, code, data []byte) {
	c.CDB, c.Attribute = code, Simple
	done := n.Begin(c)
	c.Data = data
	if done || !n.Try(c) || c.Status != StatusGood || c.N != len(data) {
		t.Errorf("%#x: %s, %d bytes", code[0], outcome(c), c.N)
	}
	n.End(c)
	c.Reset()
}

func TestAllocations(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	c, data := new(Command), make([]byte, 4096)
	for _, code := range [][]byte{cdb(code10(0x28, 0, 8, 8)...), cdb(code10(0x2a, 0, 8, 8)...)} {
		if got := testing.AllocsPerRun(100, func() { once(t, n, c, code, data) }); got != 0 {
			t.Errorf("%#x: got %v allocations, want none", code[0], got)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	x := newRig(b, block.Identity{}, nil)
	n := x.connect("iqn.a")
	c, data, code := new(Command), make([]byte, 4096), cdb(code10(0x28, 0, 8, 8)...)
	b.ReportAllocs()
	for b.Loop() {
		once(b, n, c, code, data)
	}
}

func BenchmarkWrite(b *testing.B) {
	x := newRig(b, block.Identity{}, nil)
	n := x.connect("iqn.a")
	c, data, code := new(Command), make([]byte, 4096), cdb(code10(0x2a, 0, 8, 8)...)
	b.ReportAllocs()
	for b.Loop() {
		once(b, n, c, code, data)
	}
}

// BenchmarkSessions has a session on each processor, all at one unit.
func BenchmarkSessions(b *testing.B) {
	x := newRig(b, block.Identity{}, nil)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		n := x.connect("iqn.a")
		c, data, code := new(Command), make([]byte, 4096), cdb(code10(0x28, 0, 8, 8)...)
		for p.Next() {
			once(b, n, c, code, data)
		}
	})
}
