package firmware

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf16"
)

// smallVolume makes a FAT32 with one file a cluster of 512 bytes: 2 is the root
// folder, which holds up to 16 entries.
func smallVolume(files map[string]string) []byte {
	const sectors = 32
	b := make([]byte, sectors*512)
	le := binary.LittleEndian
	le.PutUint16(b[11:], 512)
	b[13] = 1
	le.PutUint16(b[14:], 1)
	b[16] = 1
	le.PutUint32(b[32:], sectors)
	le.PutUint32(b[36:], 1)
	le.PutUint32(b[44:], 2)
	b[510], b[511] = 0x55, 0xaa
	table := b[512:1024]
	le.PutUint32(table[2*4:], 0x0fffffff)
	i := 0
	for name, content := range files {
		e := b[1024+i*32:]
		base, ext, _ := strings.Cut(name, ".")
		copy(e, fmt.Sprintf("%-8s%-3s", base, ext))
		le.PutUint16(e[26:], uint16(3+i))
		le.PutUint32(e[28:], uint32(len(content)))
		le.PutUint32(table[(3+i)*4:], 0xffffffff) // the upper four bits count for nothing
		copy(b[1024+(1+i)*512:], content)
		i++
	}
	return b
}

func read(b []byte, name string) (string, error) {
	v, err := openVolume(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return "", err
	}
	content, err := v.readFile(name)
	return string(content), err
}

func TestVolume(t *testing.T) {
	set16 := func(at int, value uint16) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], value) }
	}
	set32 := func(at int, value uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], value) }
	}
	const (
		table = 512
		root  = 1024
	)
	for _, c := range []struct {
		name   string
		damage func([]byte)
		want   error
	}{
		{"whole", func([]byte) {}, nil},
		{"no signature", set16(510, 0), errFAT},
		{"sectors of no bytes", set16(11, 0), errFAT},
		{"sectors of odd size", set16(11, 513), errFAT},
		{"clusters of no sectors", func(b []byte) { b[13] = 0 }, errFAT},
		{"no FAT", func(b []byte) { b[16] = 0 }, errFAT},
		{"FAT of no size", set32(36, 0), errFAT},
		{"FAT larger than the volume", set32(36, 0xffffffff), errFAT},
		{"FAT16", set16(22, 1), errFAT},
		{"no sectors", set32(32, 0), errFAT},
		{"root beyond the end", set32(44, 1000), errFAT},
		{"root before the beginning", set32(44, 0), errFAT},
		{"file larger than the volume", set32(root+28, 1<<30), errFAT},
		{"file longer than its chain", set32(root+28, 600), errFAT},
		{"chain to a free cluster", func(b []byte) { set32(root+28, 600)(b); set32(table+3*4, 0)(b) }, errFAT},
		{"chain in a circle", func(b []byte) { set32(table+2*4, 2)(b); copy(b[root:root+512], bytes.Repeat([]byte{0xe5}, 512)) }, errFAT},
		{"deleted", func(b []byte) { b[root] = 0xe5 }, fs.ErrNotExist},
		{"label", func(b []byte) { b[root+11] = 0x08 }, fs.ErrNotExist},
		{"folder", func(b []byte) { b[root+11] = 0x10 }, fs.ErrNotExist},
		{"fewer entries in the FAT than clusters", set32(32, 4), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := smallVolume(map[string]string{"A.TXT": "content"})
			c.damage(b)
			got, err := read(b, "a.txt")
			if !errors.Is(err, c.want) || c.want == nil && got != "content" {
				t.Errorf("got %q, %v, want %v", got, err, c.want)
			}
		})
	}
}

// longEntries are the entries of a long name before the one of short.
func longEntries(name string, short []byte) []byte {
	units := utf16.Encode([]rune(name))
	units = append(units, 0)
	for len(units)%13 != 0 {
		units = append(units, 0xffff)
	}
	var sum byte
	for _, c := range short[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	var b []byte
	for n := len(units) / 13; n > 0; n-- {
		e := make([]byte, 32)
		e[0], e[11], e[13] = byte(n), 0x0f, sum
		if n == len(units)/13 {
			e[0] |= 0x40
		}
		for i, u := range units[(n-1)*13 : n*13] {
			at := 1 + i*2
			if i >= 5 {
				at = 14 + (i-5)*2
			}
			if i >= 11 {
				at = 28 + (i-11)*2
			}
			binary.LittleEndian.PutUint16(e[at:], u)
		}
		b = append(b, e...)
	}
	return b
}

func TestLongNames(t *testing.T) {
	const name = "bcm2711-rpi-cm4-ïo.dtb"
	b := smallVolume(map[string]string{"BCM271~1.DTB": "tree"})
	root := b[1024:1536]
	entry := bytes.Clone(root[:32])
	entries := append(longEntries(name, entry), entry...)
	copy(root, entries)
	for _, n := range []string{name, "BCM2711-rpi-cm4-Ïo.dtb", "bcm271~1.dtb"} {
		if got, err := read(b, n); err != nil || got != "tree" {
			t.Errorf("%s: got %q, %v", n, got, err)
		}
	}
	// A long name whose parts are not in order, or of another file, is none.
	root[0] = 0x41
	if _, err := read(b, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("parts out of order: got %v, want fs.ErrNotExist", err)
	}
	copy(root, entries)
	root[13]++
	if _, err := read(b, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("wrong checksum: got %v, want fs.ErrNotExist", err)
	}
}

func FuzzVolume(f *testing.F) {
	f.Add(smallVolume(map[string]string{"A.TXT": "content"}), "a.txt")
	f.Add(smallVolume(map[string]string{"A.TXT": "content"}), "a/b")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		content, err := read(b, name)
		if err == nil && len(content) > len(b) {
			t.Errorf("got %d bytes from a volume of %d", len(content), len(b))
		}
	})
}
