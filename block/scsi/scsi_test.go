package scsi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// code10 is a CDB of 10 bytes.
func code10(op byte, flags byte, lba uint32, blocks uint16) []byte {
	b := []byte{op, flags}
	b = binary.BigEndian.AppendUint32(b, lba)
	b = append(b, 0)
	return append(binary.BigEndian.AppendUint16(b, blocks), 0)
}

// code12 is one of 12.
func code12(op byte, flags byte, lba, blocks uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{op, flags}, lba)
	return append(binary.BigEndian.AppendUint32(b, blocks), 0, 0)
}

// code16 is one of 16.
func code16(op byte, flags byte, lba uint64, blocks uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte{op, flags}, lba)
	return append(binary.BigEndian.AppendUint32(b, blocks), 0, 0)
}

func blocks(n int, with byte) []byte { return bytes.Repeat([]byte{with}, n*512) }

func TestGolden(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	serial := hex.EncodeToString([]byte("9a0102030405460788090a0b0c0d0e0f"))
	for _, tt := range []struct {
		name string
		cdb  []byte
		want string // hexadecimal; blanks mean nothing
	}{
		{"INQUIRY", []byte{0x12, 0, 0, 0, 96, 0}, "00 00 06 12 5b 18 00 02" + hex.EncodeToString([]byte("nitrino volume          1   ")) +
			strings.Repeat("00", 22) + "00a0 0960 0460 04c0" + strings.Repeat("00", 30)},
		{"INQUIRY, 5 bytes", []byte{0x12, 0, 0, 0, 5, 0}, "00 00 06 12 5b"},
		{"supported pages", []byte{0x12, 1, 0, 0, 255, 0}, "00 00 00 09 00 80 83 86 87 8f b0 b1 b2"},
		{"serial number", []byte{0x12, 1, 0x80, 0, 255, 0}, "00 80 00 20" + serial},
		{"identification", []byte{0x12, 1, 0x83, 0, 255, 0}, "00 83 00 98" +
			"01 03 00 08 3209 0a0b0c0d0e0f" +
			"02 01 00 38" + hex.EncodeToString([]byte("nitrino volume          ")) + serial +
			"51 94 00 04 0000 0001  51 95 00 04 0000 0001" +
			"53 98 00 20" + hex.EncodeToString([]byte("iqn.2026-01.test:disk0,t,0x0001\x00")) +
			"53 a8 00 18" + hex.EncodeToString([]byte("iqn.2026-01.test:disk0\x00\x00"))},
		{"policy", []byte{0x12, 1, 0x87, 0, 255, 0}, "00 87 00 04 3f ff 00 00"},
		{"block limits", []byte{0x12, 1, 0xb0, 0, 255, 0}, "00 b0 00 3c 01 ff 0008 00004000 00000800 00000000 ffffffff 00000100 00000008 80000000 000000000000ffff" + strings.Repeat("00", 20)},
		{"provisioning", []byte{0x12, 1, 0xb2, 0, 255, 0}, "00 b2 00 04 00 e4 02 00"},
		{"READ CAPACITY(10)", []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "00000fff 00000200"},
		{"READ CAPACITY(16)", code16(0x9e, 0x10, 0, 32), "0000000000000fff 00000200 00 03 c0 00" + strings.Repeat("00", 16)},
		{"REPORT LUNS", []byte{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, "00000008 00000000 0000000000000000"},
		{"REQUEST SENSE", []byte{0x03, 0, 0, 0, 252, 0}, "70 00 00 00000000 0a 00000000 0000 00 000000"},
		{"REQUEST SENSE, descriptor", []byte{0x03, 1, 0, 0, 252, 0}, "72 00 0000 000000 00"},
		{"MODE SENSE(6), caching", []byte{0x1a, 8, 0x08, 0, 255, 0}, "17 00 10 00  08 12 04 00 0000 0000 0000 0000 20" + strings.Repeat("00", 7)},
		{"MODE SENSE(6), changeable", []byte{0x1a, 8, 0x4a, 0, 255, 0}, "0f 00 10 00  0a 0a 04 00 08 00 0000 0000 0000"},
		{"MODE SENSE(10), long descriptor", []byte{0x5a, 0x10, 0x0a, 0, 0, 0, 0, 0, 255, 0},
			"0022 00 10 01 00 0010  0000000000001000 00000000 00000200  0a 0a 00 10 00 00 0000 ffff 0000"},
		{"REPORT TARGET PORT GROUPS", []byte{0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}, "0000000c 00 01 0001 00 00 00 01 0000 0001"},
		{"REPORT IDENTIFYING INFORMATION", []byte{0xa3, 0x05, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}, "00000000"},
		{"one operation", []byte{0xa3, 0x0c, 1, 0x28, 0, 0, 0, 0, 0, 255, 0, 0}, "00 03 000a 28 f8 ffffffff 00 ffff 00"},
		{"one with action and timeouts", []byte{0xa3, 0x0c, 0x82, 0x9e, 0, 0x10, 0, 0, 0, 255, 0, 0},
			"00 83 0010 9e 10 0000000000000000 ffffffff 00 00 000a 00 00 00000000 00000000"},
		{"none", []byte{0xa3, 0x0c, 1, 0xff, 0, 0, 0, 0, 0, 255, 0, 0}, "00 01 0000"},
		{"READ DEFECT DATA(10)", []byte{0x37, 0, 0x1d, 0, 0, 0, 0, 0, 32, 0}, "00 1d 0000"},
		{"GET LBA STATUS", code16(0x9e, 0x12, 5, 255), "00000014 00000000 0000000000000005 00000ffb 01 000000"},
		{"keys", []byte{0x5e, 0, 0, 0, 0, 0, 0, 0, 255, 0}, "00000000 00000000"},
		{"reservation capabilities", []byte{0x5e, 2, 0, 0, 0, 0, 0, 0, 255, 0}, "0008 10 80 ea01 0000"},
		{"copy parameters", code16(0x84, 3, 0, 255), "0000002b 01 000000 0010 0040 00001000 02000000 00000000 00000000 00000000 0000 00ff ff 09 00 00 000000 03 02 0a e4"},
	} {
		c := do(n, tt.cdb, nil)
		expect(t, tt.name, c, "good")
		want, err := hex.DecodeString(strings.Join(strings.Fields(tt.want), ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.Data, want) {
			t.Errorf("%s: got\n%x, want\n%x", tt.name, c.Data, want)
		}
	}
}

func TestRefused(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	for _, tt := range []struct {
		name string
		cdb  []byte
		want string // key/code, with the field that the sense points to
	}{
		{"an unknown code", []byte{0xff}, "5/2000 "},
		{"an unknown service action", []byte{0x9e, 0x1f}, "5/2400 cc0001"},
		{"NACA", []byte{0x00, 0, 0, 0, 0, 0x04}, "5/2400 ca0005"},
		{"NACA of 10 bytes", append(code10(0x28, 0, 0, 1)[:9], 0x04), "5/2400 ca0009"},
		{"behind the end", code10(0x28, 0, testBlocks-1, 2), "5/2100 "},
		{"no block behind the end", code10(0x28, 0, testBlocks+1, 0), "5/2100 "},
		{"GET LBA STATUS behind the end", code16(0x9e, 0x12, testBlocks, 24), "5/2100 "},
		{"WRITE SAME of no blocks", code10(0x41, 0, 0, 0), "5/2400 cf0007"},
		{"WRITE SAME of too many", code16(0x93, 0, 0, 1<<16), "5/2100 "},
		{"far behind the end", code16(0x88, 0, 1<<63, 1), "5/2100 "},
		{"wrapping around", code16(0x88, 0, 1<<64-1, 1<<32-1), "5/2100 "},
		{"RDPROTECT", code10(0x28, 0x20, 0, 1), "5/2400 cf0001"},
		{"WRPROTECT", code16(0x8a, 0x80, 0, 1), "5/2400 cf0001"},
		{"BYTCHK 10b", code10(0x2f, 0x04, 0, 1), "5/2400 ca0001"},
		{"WRITE SAME, ANCHOR", code16(0x93, 0x10, 0, 1), "5/2400 cc0001"},
		{"WRITE SAME(10), NDOB", code10(0x41, 0x01, 0, 1), "5/2400 c80001"},
		{"UNMAP, ANCHOR", []byte{0x42, 1, 0, 0, 0, 0, 0, 0, 24}, "5/2400 c80001"},
		{"INQUIRY, page without EVPD", []byte{0x12, 0, 0x80, 0, 255}, "5/2400 cf0002"},
		{"INQUIRY, no such page", []byte{0x12, 1, 0xc0, 0, 255}, "5/2400 cf0002"},
		{"MODE SENSE, no such page", []byte{0x1a, 0, 0x05, 0, 255}, "5/2400 cd0002"},
		{"MODE SENSE, saved", []byte{0x1a, 0, 0xc8, 0, 255}, "5/3900 "},
		{"RESERVE of another scope", []byte{0x5f, 1, 0x11, 0, 0, 0, 0, 0, 24}, "5/2400 cf0002"},
		{"RESERVE of no type", []byte{0x5f, 1, 0x02, 0, 0, 0, 0, 0, 24}, "5/2400 cb0002"},
		{"PERSISTENT RESERVE OUT, 23 bytes", []byte{0x5f, 0, 0, 0, 0, 0, 0, 0, 23}, "5/1a00 "},
		{"no such copy", code16(0x84, 0, 0x05<<56, 12), "5/2400 cf0002"},
		{"SANITIZE, reserved", []byte{0x48, 0x42}, "5/2400 ce0001"},
		{"SANITIZE, a list", []byte{0x48, 2, 0, 0, 0, 0, 0, 0, 8}, "5/2400 cf0008"},
		{"ejecting a disk", []byte{0x1b, 0, 0, 0, 2}, "5/2400 c90004"},
	} {
		c := do(n, tt.cdb, nil)
		got := outcome(c) + " "
		if len(c.Sense) == 18 && c.Sense[15] != 0 {
			got += hex.EncodeToString(c.Sense[15:18])
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if c.In != 0 && c.N != 0 {
			t.Errorf("%s: got %d bytes", tt.name, c.N)
		}
	}
}

func TestReadWrite(t *testing.T) {
	for _, slow := range []bool{false, true} {
		b := newRig(t, block.Identity{}, nil)
		b.memory.slow = slow
		n := b.connect("iqn.a")
		for i, tt := range []struct{ write, read []byte }{
			{[]byte{0x0a, 0, 0, 9, 2, 0}, []byte{0x08, 0, 0, 9, 2, 0}},
			{code10(0x2a, 0, 9, 2), code10(0x28, 0x18, 9, 2)},
			{code12(0xaa, 0x10, 9, 2), code12(0xa8, 0, 9, 2)},
			{code16(0x8a, 0x08, 9, 2), code16(0x88, 0, 9, 2)},
			{code10(0x2e, 0x02, 9, 2), code10(0x28, 0, 9, 2)},
			{code12(0xae, 0, 9, 2), code10(0x28, 0, 9, 2)},
			{code16(0x8e, 0x02, 9, 2), code10(0x28, 0, 9, 2)},
		} {
			data := blocks(2, byte(0x40+i))
			w := do(n, tt.write, data)
			expect(t, fmt.Sprintf("write %#x", tt.write[0]), w, "good")
			if w.N != 1024 || w.Out != 1024 {
				t.Errorf("write %#x: moved %d of %d, want 1024", tt.write[0], w.N, w.Out)
			}
			r := do(n, tt.read, nil)
			expect(t, fmt.Sprintf("read %#x", tt.read[0]), r, "good")
			if !bytes.Equal(r.Data, data) {
				t.Errorf("read %#x after write %#x: other data", tt.read[0], tt.write[0])
			}
		}
		// FUA of WRITE(16), and three WRITE AND VERIFY.
		if b.memory.flushes != 4 {
			t.Errorf("got %d flushes, want 4", b.memory.flushes)
		}
		expect(t, "READ(6) of 256 blocks", do(n, []byte{0x08, 0, 0, 0, 0, 0}, nil), "good")
		expect(t, "SYNCHRONIZE CACHE", do(n, code10(0x35, 2, 0, 0), nil), "good")
		if b.memory.flushes != 5 {
			t.Errorf("got %d flushes after SYNCHRONIZE CACHE, want 5", b.memory.flushes)
		}
	}
}

// What the initiator wants or gives less than the CDB is about.
func TestShort(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	expect(t, "WRITE(10)", do(n, code10(0x2a, 0, 0, 4), blocks(4, 7)), "good")
	for _, size := range []int{0, 200, 512, 1000, 2048} {
		c := &Command{CDB: cdb(code10(0x28, 0, 0, 4)...)}
		if n.Begin(c) {
			t.Fatalf("READ(10): %s", outcome(c))
		}
		c.Data = make([]byte, size)
		if !n.Try(c) {
			n.Execute(c)
		}
		if c.In != 2048 || c.N != size || !bytes.Equal(c.Data, blocks(4, 7)[:size]) {
			t.Errorf("READ(10) into %d bytes: got %d of %d", size, c.N, c.In)
		}
		n.End(c)
	}
	for _, size := range []int{0, 511, 1100} {
		clear(b.memory.data)
		c := do(n, code10(0x2a, 0, 0, 4), blocks(4, 9)[:size])
		whole := size / 512 * 512
		if c.Status != StatusGood || c.N != whole || bytes.Count(b.memory.data, []byte{9}) != whole {
			t.Errorf("WRITE(10) of %d bytes: %s, moved %d, want %d", size, outcome(c), c.N, whole)
		}
	}
}

func TestVerify(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	expect(t, "write", do(n, code10(0x2a, 0, 0, 4), blocks(4, 7)), "good")
	wrong := blocks(4, 7)
	wrong[3*512+5] = 8
	for _, op := range [][]byte{code10(0x2f, 0, 0, 4), code12(0xaf, 0, 0, 4), code16(0x8f, 0, 0, 4)} {
		for _, tt := range []struct {
			check byte
			data  []byte
			want  string
		}{
			{0, nil, "good"},
			{1, blocks(4, 7), "good"},
			{1, wrong, "e/1d00"},
			{3, blocks(1, 7), "good"},
			{3, blocks(1, 6), "e/1d00"},
		} {
			code := bytes.Clone(op)
			code[1] |= tt.check << 1
			c := do(n, code, tt.data)
			expect(t, fmt.Sprintf("%#x, BYTCHK %d", op[0], tt.check), c, tt.want)
			if at := binary.BigEndian.Uint32(append(c.Sense, make([]byte, 8)...)[3:]); len(tt.data) == 2048 && tt.want != "good" && at != 3*512+5 {
				t.Errorf("%#x: the miscompare is at %d, want %d", op[0], at, 3*512+5)
			}
		}
	}
}

func TestCompareAndWrite(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	code := func(lba uint64, blocks byte) []byte {
		c := code16(0x89, 0, lba, 0)
		c[13] = blocks
		return c
	}
	both := append(blocks(255, 0), blocks(255, 5)...)
	expect(t, "255 blocks", do(n, code(testBlocks-255, 255), both), "good")
	if got := bytes.Count(b.memory.data, []byte{5}); got != 255*512 {
		t.Errorf("wrote %d bytes, want %d", got, 255*512)
	}
	c := do(n, code(testBlocks-1, 1), both[254*512:256*512])
	expect(t, "miscompare", c, "e/1d00")
	if at := binary.BigEndian.Uint32(c.Sense[3:]); c.Sense[0] != 0xf0 || at != 0 {
		t.Errorf("the miscompare is at %d (%#x), want 0", at, c.Sense[0])
	}
	expect(t, "half of the data", do(n, code(0, 2), blocks(2, 0)), "5/2400")
	more := &Command{CDB: cdb(code(0, 1)...), Expected: 4 * 512}
	carry(n, more, blocks(4, 0))
	expect(t, "too much data", more, "5/2400")
	expect(t, "no blocks", do(n, code(0, 0), nil), "good")
	expect(t, "behind the end", do(n, code(testBlocks, 1), both), "5/2100")
}

// COMPARE AND WRITE is atomic: of all who try to take a lock, one gets it.
func TestLock(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	code := code16(0x89, 0, 5, 0)
	code[13] = 1
	var wg sync.WaitGroup
	won := make(chan int, 8)
	for i := range 8 {
		n := b.connect("iqn.a")
		wg.Go(func() {
			if do(n, code, append(blocks(1, 0), blocks(1, byte(i+1))...)).Status == StatusGood {
				won <- i
			}
		})
	}
	wg.Wait()
	if got := len(won); got != 1 {
		t.Errorf("%d got the lock, want 1", got)
	}
}

func TestOrWrite(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	expect(t, "write", do(n, code10(0x2a, 0, 1, 2), blocks(2, 0x50)), "good")
	expect(t, "ORWRITE", do(n, code16(0x8b, 0, 1, 2), blocks(2, 0x0a)), "good")
	if got := b.memory.data[512:1536]; !bytes.Equal(got, blocks(2, 0x5a)) {
		t.Errorf("got %x, want all 5a", got[:4])
	}
}

func TestProvisioning(t *testing.T) {
	for _, plain := range []bool{false, true} {
		b := newRig(t, block.Identity{}, nil)
		b.memory.plain = plain
		n := b.connect("iqn.a")
		offered := map[bool]string{false: "00b2000400e40200 c0", true: "00b2000400000000 00"}[plain]
		got := fmt.Sprintf("%x %02x", do(n, []byte{0x12, 1, 0xb2, 0, 255, 0}, nil).Data, do(n, code16(0x9e, 0x10, 0, 32), nil).Data[14])
		if got != offered {
			t.Errorf("plain %t: provisioning is offered as %s, want %s", plain, got, offered)
		}
		whole := func(what string, from, to int, want byte) {
			t.Helper()
			if got := b.memory.data[from*512 : to*512]; !bytes.Equal(got, blocks(to-from, want)) {
				t.Errorf("%s: blocks %d to %d are not all %#x", what, from, to, want)
			}
		}
		expect(t, "WRITE SAME(10)", do(n, code10(0x41, 0, 0, testBlocks), blocks(1, 3)), "good")
		whole("WRITE SAME(10)", 0, testBlocks, 3)
		expect(t, "WRITE SAME(16), UNMAP", do(n, code16(0x93, 0x08, 8, 8), blocks(1, 0)), "good")
		whole("WRITE SAME(16)", 8, 16, 0)
		expect(t, "WRITE SAME(16), UNMAP, not zeros", do(n, code16(0x93, 0x08, 8, 8), blocks(1, 4)), "good")
		whole("WRITE SAME(16), not zeros", 8, 16, 4)
		expect(t, "WRITE SAME(16), NDOB", do(n, code16(0x93, 0x09, 16, 8), nil), "good")
		whole("WRITE SAME(16), NDOB", 16, 24, 0)
		half := &Command{CDB: cdb(code10(0x41, 0, 0, 1)...), Expected: 256}
		carry(n, half, blocks(1, 1)[:256])
		expect(t, "WRITE SAME of half a block", half, "5/2400")

		unmap := func(pairs ...uint64) []byte {
			list := []byte{0, byte(6 + 8*len(pairs)), 0, byte(8 * len(pairs)), 0, 0, 0, 0}
			for i := 0; i < len(pairs); i += 2 {
				list = binary.BigEndian.AppendUint64(list, pairs[i])
				list = binary.BigEndian.AppendUint32(list, uint32(pairs[i+1]))
				list = append(list, 0, 0, 0, 0)
			}
			return list
		}
		send := func(list []byte) *Command { return do(n, code10(0x42, 0, 0, uint16(len(list))), list) }
		expect(t, "UNMAP", send(unmap(32, 8, 48, 1)), "good")
		given := byte(0)
		if plain {
			given = 3 // nothing can be given up
		}
		whole("UNMAP", 32, 40, given)
		whole("UNMAP", 40, 48, 3)
		whole("UNMAP", 48, 49, given)
		expect(t, "UNMAP with one behind the end", send(unmap(56, 1, testBlocks, 1)), "5/2100")
		whole("refused UNMAP", 56, 57, 3)
		expect(t, "UNMAP of nothing", send(nil), "good")
		expect(t, "UNMAP of no blocks", send(unmap(testBlocks, 0)), "good")
		expect(t, "UNMAP, a short list", send(unmap()[:7]), "5/1a00")
		expect(t, "UNMAP, too many", send(append([]byte{0x10, 0x16, 0x10, 0x10, 0, 0, 0, 0}, make([]byte, 257*16)...)), "5/2600")

		c := do(n, code16(0x9e, 0x12, 31, 8+3*16), nil)
		want := "0000003400000000" + "000000000000001f0000000100000000" + "00000000000000200000000801000000" + "00000000000000280000000800000000"
		if got := hex.EncodeToString(c.Data); got != want && !plain {
			t.Errorf("GET LBA STATUS: got\n%s, want\n%s", got, want)
		}
		expect(t, "SANITIZE", do(n, []byte{0x48, 2}, nil), "good")
		whole("SANITIZE", 0, testBlocks, 0)
	}
}

// Errors of the storage, and what is not to be written at all.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		err         error
		read, write string
	}{
		{block.ErrNoSpace, "7/2707", "7/2707"},
		{fmt.Errorf("a read: %w", block.ErrMedium), "3/1100", "3/0c00"},
		{block.ErrGone, "2/0401", "2/0401"},
		{block.ErrClosed, "2/0400", "2/0400"},
		{block.ErrReadOnly, "7/2700", "7/2700"},
		{errors.New("whatever"), "4/4400", "4/4400"},
	} {
		b := newRig(t, block.Identity{}, nil)
		n := b.connect("iqn.a")
		b.memory.fail = tt.err
		r := do(n, code10(0x28, 0, 0x123, 1), nil)
		expect(t, "reading: "+tt.err.Error(), r, tt.read)
		expect(t, "writing: "+tt.err.Error(), do(n, code10(0x2a, 0, 0x123, 1), blocks(1, 1)), tt.write)
		expect(t, "flushing: "+tt.err.Error(), do(n, code10(0x35, 0, 0, 0), nil), tt.write)
		if at := binary.BigEndian.Uint32(r.Sense[3:]); errors.Is(tt.err, block.ErrMedium) && (at != 0x123 || r.Sense[0] != 0xf0) {
			t.Errorf("%v: the LBA is %#x, want 0x123", tt.err, at)
		}
		b.memory.fail = nil
		expect(t, "reading again", do(n, code10(0x28, 0, 0, 1), nil), "good")
	}
	b := newRig(t, block.Identity{ReadOnly: true}, nil)
	n := b.connect("iqn.a")
	for _, code := range [][]byte{code10(0x2a, 0, 0, 1), code10(0x41, 0, 0, 1), code16(0x93, 8, 0, 1), code10(0x42, 0, 0, 24), code16(0x89, 0, 0, 0), code16(0x8b, 0, 0, 1), code10(0x2e, 0, 0, 1), {0x48, 2}} {
		expect(t, fmt.Sprintf("read-only, %#x", code[0]), do(n, code, blocks(1, 0)), "7/2700")
	}
	if c := do(n, []byte{0x1a, 0, 0x3f, 0, 255}, nil); c.Data[2] != 0x90 {
		t.Errorf("MODE SENSE of what is read-only: got %#x, want WP", c.Data[2])
	}
}

// Logical blocks of 4096 bytes.
func Test4Kn(t *testing.T) {
	b := newRig(t, block.Identity{BlockSize: 4096}, nil)
	n := b.connect("iqn.a")
	c := do(n, code16(0x9e, 0x10, 0, 32), nil)
	if got := hex.EncodeToString(c.Data[:16]); got != "0000000000000fff000010000000c000" {
		t.Errorf("READ CAPACITY(16): got %s", got)
	}
	expect(t, "write", do(n, code10(0x2a, 0, 1, 1), bytes.Repeat([]byte{6}, 4096)), "good")
	if b.memory.data[4095] != 0 || b.memory.data[4096] != 6 || b.memory.data[8191] != 6 || b.memory.data[8192] != 0 {
		t.Error("the block is not where it should be")
	}
}

func TestMode(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n, other := b.connect("iqn.a"), b.connect("iqn.b")
	set := func(page ...byte) *Command {
		list := append([]byte{0, 0, 0, 0}, page...)
		return do(n, []byte{0x15, 0x10, 0, 0, byte(len(list))}, list)
	}
	caching := make([]byte, 20)
	caching[0], caching[1], caching[12] = 0x08, 0x12, 0x20
	expect(t, "WCE off", set(caching...), "good")
	if b.memory.flushes != 1 {
		t.Errorf("got %d flushes as the cache went off, want 1", b.memory.flushes)
	}
	expect(t, "the other is told", do(other, []byte{0}, nil), "6/2a01")
	expect(t, "a write", do(n, code10(0x2a, 0, 0, 1), blocks(1, 1)), "good")
	if b.memory.flushes != 2 {
		t.Errorf("got %d flushes after a write without cache, want 2", b.memory.flushes)
	}
	control := []byte{0x0a, 0x0a, 0x04, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0}
	expect(t, "D_SENSE and SWP", set(control...), "good")
	c := do(n, code10(0x2a, 0, 0, 1), blocks(1, 1))
	expect(t, "SWP", c, "7/2702")
	if got := hex.EncodeToString(c.Sense); got != "7207270200000000" {
		t.Errorf("descriptor sense: got %s", got)
	}
	c = do(n, code16(0x88, 0, 1<<40, 1), nil)
	if got := hex.EncodeToString(c.Sense); got != "720521000000000c000a80000000010000000000" {
		t.Errorf("an LBA in descriptor sense: got %s", got)
	}
	control[3] = 0
	expect(t, "what cannot change", set(control...), "5/2600")
	expect(t, "a page too short", set(0x08, 0x12, 0), "5/1a00")
	expect(t, "no such page", set(0x05, 0), "5/2600")
	expect(t, "SP", do(n, []byte{0x15, 0x11, 0, 0, 4}, make([]byte, 4)), "5/2400")
	descriptor := []byte{0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 2, 0}
	expect(t, "the same geometry", do(n, []byte{0x15, 0x10, 0, 0, 12}, descriptor), "good")
	descriptor[10] = 16
	expect(t, "another block size", do(n, []byte{0x15, 0x10, 0, 0, 12}, descriptor), "5/2600")
	if r, ends := n.Manage(LogicalUnitReset, 0); r != FunctionComplete || ends.Wait(t.Context()) != nil {
		t.Errorf("LOGICAL UNIT RESET: response %d, or it does not end", r)
	}
	expect(t, "the reset", do(n, []byte{0}, nil), "6/2903")
	expect(t, "a write after the reset", do(n, code10(0x2a, 0, 0, 1), blocks(1, 1)), "good")
}

func TestNowhere(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	b.target.SetUnits(map[uint16]*Unit{0: b.unit, 7: b.unit})
	for _, tt := range []struct {
		lun  uint64
		cdb  []byte
		want string
	}{
		{7 << 48, []byte{0x12, 0, 0, 0, 36}, "good"},
		{7<<48 | 1<<62, []byte{0x12, 0, 0, 0, 36}, "good"},
		{1 << 48, []byte{0x12, 0, 0, 0, 36}, "good"},
		{1 << 48, []byte{0x12, 1, 0, 0, 36}, "5/2400"},
		{1 << 48, []byte{0x03, 0, 0, 0, 18}, "good"},
		{1 << 48, []byte{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, "good"},
		{1 << 48, []byte{0}, "5/2500"},
		{1, []byte{0}, "5/2500"},
		{1 << 63, []byte{0}, "5/2500"},
		{1 << 56, []byte{0}, "5/2500"},
	} {
		c := doLUN(n, tt.lun, tt.cdb, nil)
		expect(t, fmt.Sprintf("LUN %#x, %#x", tt.lun, tt.cdb[0]), c, tt.want)
		switch {
		case tt.cdb[0] == 0x12 && tt.want == "good":
			want := byte(0)
			if tt.lun == 1<<48 {
				want = 0x7f
			}
			if c.Data[0] != want {
				t.Errorf("INQUIRY of LUN %#x: got %#x, want %#x", tt.lun, c.Data[0], want)
			}
		case tt.cdb[0] == 0x03:
			if got := hex.EncodeToString(c.Data[:14]); got != "700005000000000a000000002500" {
				t.Errorf("REQUEST SENSE: got %s", got)
			}
		case tt.cdb[0] == 0xa0:
			if got := hex.EncodeToString(c.Data); got != "000000100000000000000000000000000007000000000000" {
				t.Errorf("REPORT LUNS: got %s", got)
			}
		}
	}
}
