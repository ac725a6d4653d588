package vhost

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"unsafe"
)

// A guest is memory that a test lays a queue of four entries out in. The guest
// and the front-end see it at different addresses.
type guest struct {
	bytes []byte
	queue queue
}

const (
	guestBase = 0x4000_0000
	userBase  = 0x7f00_0000_0000

	atDesc, atAvail, atUsed, atIndirect, atData = 0, 64, 128, 256, 512
)

// aligned is memory as mmap gives it.
func aligned(n int) []byte {
	words := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n)
}

func newGuest() *guest {
	return &guest{aligned(1024), queue{size: 4, desc: userBase + atDesc, avail: userBase + atAvail, used: userBase + atUsed}}
}

func (g *guest) memory() memory { return memory{{guestBase, userBase, g.bytes}} }

func (g *guest) descriptor(table, i int, address uint64, length uint32, flags, next uint16) {
	d := g.bytes[table+descSize*i:]
	binary.LittleEndian.PutUint64(d, address)
	binary.LittleEndian.PutUint32(d[8:], length)
	binary.LittleEndian.PutUint16(d[12:], flags)
	binary.LittleEndian.PutUint16(d[14:], next)
}

// offer puts heads into the available ring.
func (g *guest) offer(heads ...uint16) {
	avail := g.bytes[atAvail:]
	n := binary.LittleEndian.Uint16(avail[2:])
	for _, h := range heads {
		binary.LittleEndian.PutUint16(avail[4+2*(n%4):], h)
		n++
	}
	binary.LittleEndian.PutUint16(avail[2:], n)
}

// used returns the ring's index, and the entry before it.
func (g *guest) used() (index uint16, head, length uint32) {
	used := g.bytes[atUsed:]
	index = binary.LittleEndian.Uint16(used[2:])
	e := used[4+8*((index-1)%4):]
	return index, binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
}

// echo answers with what was sent, twice.
func echo(out, in []byte) int { return copy(in, append(bytes.Clone(out), out...)) }

func TestRun(t *testing.T) {
	direct := func(g *guest) {
		g.descriptor(atDesc, 2, guestBase+atData, 2, descNext, 0)
		g.descriptor(atDesc, 0, guestBase+atData+2, 1, descNext, 3)
		g.descriptor(atDesc, 3, guestBase+atData+16, 4, descNext|descWrite, 1)
		g.descriptor(atDesc, 1, guestBase+atData+32, 8, descWrite, 0)
		copy(g.bytes[atData:], "abc")
		g.offer(2)
	}
	for _, c := range []struct {
		name   string
		set    func(*guest)
		count  int
		err    error
		length uint32 // of the last request's answer
	}{
		{"nothing", func(g *guest) {}, 0, nil, 0},
		{"a chain", direct, 1, nil, 6},
		{"an indirect chain", func(g *guest) {
			g.descriptor(atDesc, 1, guestBase+atIndirect, 3*descSize, descIndirect, 0)
			g.descriptor(atIndirect, 0, guestBase+atData, 3, descNext, 2)
			g.descriptor(atIndirect, 2, guestBase+atData+16, 4, descNext|descWrite, 1)
			g.descriptor(atIndirect, 1, guestBase+atData+32, 8, descWrite, 0)
			copy(g.bytes[atData:], "abc")
			g.offer(1)
		}, 1, nil, 6},
		{"two at once, over the ring's end", func(g *guest) {
			for i := range 4 {
				g.descriptor(atDesc, i, guestBase+atData, 1, 0, 0)
			}
			g.queue.last = 0xffff
			binary.LittleEndian.PutUint16(g.bytes[atAvail+2:], 0xffff)
			g.offer(3, 2)
		}, 2, nil, 0},
		{"no memory there", func(g *guest) {
			g.descriptor(atDesc, 0, guestBase+1020, 8, 0, 0)
			g.offer(0)
		}, 0, errRing, 0},
		{"the front-end's address", func(g *guest) {
			g.descriptor(atDesc, 0, userBase, 8, 0, 0)
			g.offer(0)
		}, 0, errRing, 0},
		{"an address that wraps", func(g *guest) {
			g.descriptor(atDesc, 0, ^uint64(0), 8, 0, 0)
			g.offer(0)
		}, 0, errRing, 0},
		{"no such descriptor", func(g *guest) { g.offer(4) }, 0, errRing, 0},
		{"a circle", func(g *guest) {
			g.descriptor(atDesc, 0, guestBase+atData, 1, descNext, 1)
			g.descriptor(atDesc, 1, guestBase+atData, 1, descNext, 0)
			g.offer(0)
		}, 0, errRing, 0},
		{"too long", func(g *guest) {
			g.descriptor(atDesc, 0, guestBase, 1<<31, 0, 0)
			g.offer(0)
		}, 0, errRing, 0},
		{"a table in a table", func(g *guest) {
			g.descriptor(atDesc, 0, guestBase+atIndirect, descSize, descIndirect, 0)
			g.descriptor(atIndirect, 0, guestBase+atIndirect, descSize, descIndirect, 0)
			g.offer(0)
		}, 0, errRing, 0},
		{"an empty table", func(g *guest) {
			g.descriptor(atDesc, 0, guestBase+atIndirect, 0, descIndirect, 0)
			g.offer(0)
		}, 0, errRing, 0},
		{"more than there is room for", func(g *guest) { g.offer(0, 0, 0, 0, 0) }, 0, errRing, 0},
		{"no queue", func(g *guest) { g.queue.size = 0 }, 0, errRing, 0},
		{"a ring that is not aligned", func(g *guest) { g.queue.avail += 2 }, 0, errRing, 0},
		{"a ring beyond memory", func(g *guest) { g.queue.used = userBase + 1000 }, 0, errRing, 0},
		{"the second of two is bad", func(g *guest) { direct(g); g.offer(9) }, 1, errRing, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest()
			c.set(g)
			before := g.queue.last
			n, err := g.queue.run(g.memory(), echo)
			if n != c.count || !errors.Is(err, c.err) {
				t.Fatalf("got %d, %v, want %d, %v", n, err, c.count, c.err)
			}
			index, _, length := g.used()
			if int(index) != n || g.queue.last-before != uint16(n) || n > 0 && length != c.length {
				t.Errorf("got %d requests done with %d bytes, next %d after %d", index, length, g.queue.last, before)
			}
			if c.length == 6 {
				if got := string(g.bytes[atData+16:atData+20]) + string(g.bytes[atData+32:atData+35]); got != "abcabc\x00" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
}

// FuzzRun has guests whose memory is anything.
func FuzzRun(f *testing.F) {
	g := newGuest()
	g.descriptor(atDesc, 0, guestBase+atData, 3, descNext, 1)
	g.descriptor(atDesc, 1, guestBase+atData+16, 8, descWrite, 0)
	g.offer(0)
	f.Add(g.bytes, uint16(4), uint64(atDesc), uint64(atAvail), uint64(atUsed), uint16(0))
	f.Fuzz(func(t *testing.T, content []byte, size uint16, desc, avail, used uint64, last uint16) {
		b := aligned(len(content) + 1)
		copy(b, content)
		m := memory{{0, 0, b}}
		q := queue{size, desc, avail, used, last}
		n, err := q.run(m, func(out, in []byte) int {
			if len(out)+len(in) > maxRequest {
				t.Errorf("got %d and %d bytes", len(out), len(in))
			}
			return echo(out, in)
		})
		if n > int(size) || err == nil && q.last != last+uint16(n) {
			t.Errorf("got %d requests of %d, next %d after %d", n, size, q.last, last)
		}
	})
}
