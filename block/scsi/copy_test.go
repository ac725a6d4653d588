package scsi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"testing/synctest"

	"github.com/nitrino/nitrino/block"
)

// copyList is the parameter list of EXTENDED COPY.
func copyList(id byte, targets [][8]byte, segments ...[]byte) []byte {
	b := make([]byte, copyHeader)
	b[0] = id
	binary.BigEndian.PutUint16(b[2:], uint16(len(targets)*targetSize))
	for _, name := range targets {
		d := make([]byte, targetSize)
		d[0], d[4], d[5], d[7] = targetIdentity, codesBinary, designatorNAA, 8
		copy(d[8:], name[:])
		b = append(b, d...)
	}
	at := len(b)
	for _, s := range segments {
		b = append(b, s...)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-at))
	return b
}

func blockSegment(from, to, blocks uint16, source, destination uint64) []byte {
	b := []byte{segmentBlocks, 0, 0, 24, byte(from >> 8), byte(from), byte(to >> 8), byte(to), 0, 0, byte(blocks >> 8), byte(blocks)}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, source), destination)
}

func byteSegment(from, to uint16, length uint32, source, destination uint64, offset uint16) []byte {
	b := []byte{segmentOffset, 0, 0, 28, byte(from >> 8), byte(from), byte(to >> 8), byte(to)}
	b = binary.BigEndian.AppendUint32(b, length)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, source), destination)
	return append(b, byte(offset>>8), byte(offset), 0, 0)
}

func TestExtendedCopy(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	second := newRig(t, block.Identity{UUID: [16]byte{1, 15: 2}, BlockSize: 4096}, nil)
	protected := newRig(t, block.Identity{UUID: [16]byte{1, 15: 3}, ReadOnly: true}, nil)
	b.target.SetUnits(map[uint16]*Unit{0: b.unit, 1: second.unit, 2: protected.unit})
	n := b.connect("iqn.a")
	one := [][8]byte{b.unit.naa()}
	three := [][8]byte{b.unit.naa(), second.unit.naa(), protected.unit.naa()}
	for i := range b.memory.data {
		b.memory.data[i] = byte(i / 512)
	}
	before := bytes.Clone(b.memory.data)
	send := func(list []byte) *Command { return do(n, code16(0x83, 0, 0, uint32(len(list))), list) }
	tooMany := make([][8]byte, maxCopyTargets+1)
	for i := range tooMany {
		tooMany[i] = b.unit.naa()
	}
	var segments [][]byte
	for range maxCopySegments + 1 {
		segments = append(segments, blockSegment(0, 0, 1, 0, 1))
	}
	stream := blockSegment(0, 0, 1, 0, 1)
	stream[0] = 0x03
	fibre := copyList(1, one, blockSegment(0, 0, 1, 0, 1))
	fibre[copyHeader] = 0xe0
	whole := copyList(1, one, blockSegment(0, 0, 1, 0, 1))
	for _, tt := range []struct {
		name string
		list []byte
		want string
	}{
		{"nothing", nil, "good"},
		{"without descriptors", copyList(1, nil), "good"},
		{"a cut header", whole[:15], "5/1a00"},
		{"a cut target", whole[:copyHeader+31], "5/1a00"},
		{"a cut segment", whole[:len(whole)-1], "5/1a00"},
		{"too many targets", copyList(1, tooMany, blockSegment(0, 0, 1, 0, 1)), "5/2606"},
		{"too many segments", copyList(1, one, segments...), "5/2608"},
		{"a type of target", fibre, "5/2607"},
		{"a type of segment", copyList(1, one, stream), "5/2609"},
		{"no such target", copyList(1, [][8]byte{{1}}, blockSegment(0, 0, 1, 0, 1)), "a/0804"},
		{"no such index", copyList(1, one, blockSegment(0, 1, 1, 0, 1)), "a/0804"},
		{"behind the end", copyList(1, one, blockSegment(0, 0, 2, 0, testBlocks-1)), "a/0000"},
		{"far behind the end", copyList(1, one, blockSegment(0, 0, 2, 1<<63, 0)), "a/0000"},
		{"to what is read-only", copyList(1, three, blockSegment(0, 2, 8, 0, 0)), "a/0d02"},
		{"part of a block", copyList(1, three, blockSegment(0, 1, 7, 0, 0)), "5/2600"},
		{"an odd offset", copyList(1, one, byteSegment(0, 0, 512, 0, 4, 100)), "5/2600"},
	} {
		expect(t, tt.name, send(tt.list), tt.want)
		if !bytes.Equal(b.memory.data, before) {
			t.Fatalf("%s: something was copied", tt.name)
		}
	}

	expect(t, "copies", send(copyList(5, three, blockSegment(0, 0, 4, 8, 100), byteSegment(0, 1, 8192, 8, 2, 512))), "good")
	if !bytes.Equal(b.memory.data[100*512:104*512], before[8*512:12*512]) {
		t.Error("the copy within the unit differs")
	}
	if !bytes.Equal(second.memory.data[2*4096:4*4096], before[9*512:25*512]) {
		t.Error("the copy to the other unit differs")
	}
	c := do(n, code16(0x84, 0, 5<<56, 64), nil)
	if got := hex.EncodeToString(c.Data); got != "00000008"+"01000201"+"0000000a" {
		t.Errorf("RECEIVE COPY STATUS: got %s", got)
	}
	// Onto itself, both ways, in more than one chunk.
	for _, tt := range []struct{ from, to uint64 }{{0, 3}, {3, 0}} {
		copy(b.memory.data, before)
		expect(t, "overlapping", send(copyList(1, one, blockSegment(0, 0, 2000, tt.from, tt.to))), "good")
		if !bytes.Equal(b.memory.data[tt.to*512:(tt.to+2000)*512], before[tt.from*512:(tt.from+2000)*512]) {
			t.Errorf("blocks copied from %d to %d differ", tt.from, tt.to)
		}
	}
	// A reservation on the other unit binds the copy too.
	m := second.connect("iqn.b")
	out(m, 0, 0, 0, 0xb, 0)
	out(m, 1, 1, 0xb, 0, 0)
	expect(t, "to what another has reserved", send(copyList(1, three, blockSegment(0, 1, 8, 0, 0))), "a/0d02")
	expect(t, "from it", send(copyList(1, three, blockSegment(1, 0, 1, 0, 0))), "good")
	page := do(n, []byte{0x12, 1, 0x8f, 0, 255, 0}, nil)
	if len(page.Data) != 4+12+32+8+8+36 {
		t.Errorf("the third-party copy page has %d bytes", len(page.Data))
	}
}

// A reset of the unit that is copied to waits for the copy, which another unit's task
// set has.
func TestCopyAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, block.Identity{}, nil)
		second := newRig(t, block.Identity{UUID: [16]byte{1, 15: 2}}, nil)
		second.memory.stall, second.memory.stalled = make(chan struct{}), make(chan struct{}, 9)
		b.target.SetUnits(map[uint16]*Unit{0: b.unit, 1: second.unit})
		n := b.connect("iqn.a")
		for i := range b.memory.data {
			b.memory.data[i] = 7
		}
		list := copyList(1, [][8]byte{b.unit.naa(), second.unit.naa()}, blockSegment(0, 1, 2000, 0, 0))
		copied := make(chan *Command)
		go func() { copied <- do(n, code16(0x83, 0, 0, uint32(len(list))), list) }()
		<-second.memory.stalled
		reset := make(chan struct{})
		go func() {
			if _, ends := n.Manage(LogicalUnitReset, 1<<48); ends.Wait(t.Context()) != nil {
				t.Error("the reset does not end")
			}
			close(reset)
		}()
		synctest.Wait()
		select {
		case <-reset:
			t.Error("the reset has answered while a write is under way")
		default:
		}
		second.memory.stall <- struct{}{}
		<-reset
		expect(t, "the copy", <-copied, "a/0d02")
		if got := bytes.Count(second.memory.data, []byte{7}); got != maxChunk {
			t.Errorf("copied %d bytes, want the %d that were under way", got, maxChunk)
		}
	})
}
