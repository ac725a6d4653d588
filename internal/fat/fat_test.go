package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/nitrino/nitrino/internal/fat/fattest"
)

func small() []byte { return fattest.New(map[string]string{"A.TXT": "content"}) }

func read(b []byte, name string) (string, error) {
	v, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return "", err
	}
	content, err := v.ReadFile(name, 1<<40)
	return string(content), err
}

func walk(b []byte) ([]string, error) {
	v, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	all, err := v.Walk()
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
	}
	return names, err
}

func set16(at int, value uint16) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], value) }
}

func set32(at int, value uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], value) }
}

func TestVolume(t *testing.T) {
	const (
		table = fattest.Table
		root  = fattest.Root
	)
	for _, c := range []struct {
		name   string
		damage func([]byte)
		want   error
	}{
		{"whole", func([]byte) {}, nil},
		{"no signature", set16(510, 0), ErrDamaged},
		{"sectors of no bytes", set16(11, 0), ErrDamaged},
		{"sectors of odd size", set16(11, 513), ErrDamaged},
		{"clusters of no sectors", func(b []byte) { b[13] = 0 }, ErrDamaged},
		{"clusters of three sectors", func(b []byte) { b[13] = 3 }, ErrDamaged},
		{"no FAT", func(b []byte) { b[16] = 0 }, ErrDamaged},
		{"FAT of no size", set32(36, 0), ErrDamaged},
		{"FAT larger than the volume", set32(36, 0xffffffff), ErrDamaged},
		{"FAT16", set16(22, 1), ErrDamaged},
		{"entries in FAT16's root", set16(17, 512), ErrDamaged},
		{"nothing reserved", set16(14, 0), ErrDamaged},
		{"no sectors", set32(32, 0), ErrDamaged},
		{"root beyond the end", set32(44, 1000), ErrDamaged},
		{"root before the beginning", set32(44, 0), ErrDamaged},
		{"file larger than the volume", set32(root+28, 1<<30), ErrDamaged},
		{"file longer than its chain", set32(root+28, 600), ErrDamaged},
		{"chain to a free cluster", func(b []byte) { set32(root+28, 600)(b); set32(table+3*4, 0)(b) }, ErrDamaged},
		{"chain in a circle", func(b []byte) { set32(table+2*4, 2)(b); copy(b[root:root+512], bytes.Repeat([]byte{0xe5}, 512)) }, ErrDamaged},
		{"deleted", func(b []byte) { b[root] = 0xe5 }, fs.ErrNotExist},
		{"label", func(b []byte) { b[root+11] = 0x08 }, fs.ErrNotExist},
		{"folder", func(b []byte) { b[root+11] = 0x10 }, fs.ErrNotExist},
		{"fewer clusters than entries", set32(32, 4), nil},
		{"larger than its partition", set32(32, 4000), nil},
		{"chain longer than the file", set32(table+3*4, 4), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := small()
			c.damage(b)
			got, err := read(b, "a.txt")
			if !errors.Is(err, c.want) || c.want == nil && got != "content" {
				t.Errorf("got %q, %v, want %v", got, err, c.want)
			}
		})
	}
	if _, err := read(small()[:100], "a.txt"); !errors.Is(err, ErrDamaged) {
		t.Errorf("100 bytes: got %v, want %v", err, ErrDamaged)
	}
}

// TestTables: the first table counts, whatever a power cut has left in the other.
func TestTables(t *testing.T) {
	one := small()
	b := slices.Concat(one[:fattest.Root], bytes.Repeat([]byte{0xff}, 512), one[fattest.Root:])
	b[16] = 2
	set32(32, 33)(b)
	if got, err := read(b, "a.txt"); err != nil || got != "content" {
		t.Errorf("got %q, %v, want %q", got, err, "content")
	}
}

// TestPieces: a file whose clusters stand in several places, in no order.
func TestPieces(t *testing.T) {
	b := small()
	var want strings.Builder
	chain := []uint32{9, 10, 11, 4, 7, 6, 5}
	for i, c := range chain {
		content := bytes.Repeat([]byte{byte('a' + i)}, 512)
		copy(b[fattest.Root+(c-2)*512:], content)
		want.Write(content)
		next := uint32(0x0fffffff)
		if i+1 < len(chain) {
			next = chain[i+1]
		}
		set32(fattest.Table+int(c)*4, next)(b)
	}
	set16(fattest.Root+26, 9)(b)
	set32(fattest.Root+28, uint32(want.Len()-100))(b)
	if got, err := read(b, "A.TXT"); err != nil || got != want.String()[:want.Len()-100] {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, want.Len()-100)
	}
	v, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.ReadFile("a.txt", 1000); err == nil {
		t.Error("more than the limit: got no error")
	}
	// 32 sectors, two of them no clusters; the root and 3 are in use too.
	if count, first, err := v.Free(); count != 30-9 || first != 8 || err != nil {
		t.Errorf("free: got %d from %d, %v, want %d from 8", count, first, err, 30-9)
	}
}

// TestFolders: a folder with its dots and a file, beside a label.
func TestFolders(t *testing.T) {
	b := fattest.New(map[string]string{"A.TXT": "content", "DIR": "", "LABEL": ""})
	root, dir := b[fattest.Root:], b[fattest.Root+2*512:]
	root[32+11], root[64+11] = 0x10, 0x08
	root[32+12] = 0x08 // lower case
	copy(dir[64:], root[:32])
	for i, name := range []string{".", ".."} {
		copy(dir[i*32:], root[32:64])
		copy(dir[i*32:], name+"  ")
	}
	got, err := walk(b)
	if want := []string{"A.TXT", "dir", "dir/.", "dir/..", "dir/A.TXT", "LABEL"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	for name, want := range map[string]error{
		"Dir/a.txt": nil, "dir/b": fs.ErrNotExist, "dir": fs.ErrNotExist, "dir/../a.txt": fs.ErrNotExist, "a.txt/x": fs.ErrNotExist,
		"": fs.ErrNotExist, "/a.txt": fs.ErrNotExist, "label": fs.ErrNotExist,
	} {
		if _, err := read(b, name); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", name, err, want)
		}
	}
	// A folder that is its own child, and one that is no chain.
	set16(2*512+fattest.Root+64+26, 4)(b)
	dir[64+11] = 0x10
	if _, err := walk(b); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("a folder in itself: got %v, want it too deep", err)
	}
	set16(fattest.Root+32+26, 0)(b)
	if _, err := walk(b); !errors.Is(err, ErrDamaged) || !strings.HasPrefix(err.Error(), "/dir: ") {
		t.Errorf("a folder without a chain: got %v, want an error of /dir", err)
	}
	if got, err := read(b, "a.txt"); err != nil || got != "content" {
		t.Errorf("a file beside the damage: got %q, %v", got, err)
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
	b := fattest.New(map[string]string{"BCM271~1.DTB": "tree"})
	root := b[fattest.Root : fattest.Root+512]
	entry := bytes.Clone(root[:32])
	entries := append(longEntries(name, entry), entry...)
	copy(root, entries)
	if got, err := walk(b); err != nil || !slices.Equal(got, []string{name}) {
		t.Errorf("got %q, %v, want %q", got, err, name)
	}
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

// FuzzVolume reads volumes that are anything: a file by its name, and all that a
// walk finds.
func FuzzVolume(f *testing.F) {
	f.Add(small(), "a.txt")
	f.Add(small(), "a/b")
	folder := fattest.New(map[string]string{"A.TXT": "content", "DIR": ""})
	folder[fattest.Root+32+11] = 0x10
	f.Add(folder, "dir/b")
	long := fattest.New(map[string]string{"LONG~1": "content"})
	short := bytes.Clone(long[fattest.Root : fattest.Root+32])
	copy(long[fattest.Root:], append(longEntries("a long name", short), short...))
	f.Add(long, "a long name")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		v, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if content, err := v.ReadFile(name, 1<<20); err == nil && len(content) > len(b) {
			t.Errorf("got %d bytes from a volume of %d", len(content), len(b))
		}
		all, err := v.Walk()
		if err != nil {
			return
		}
		for _, e := range all[:min(len(all), 100)] {
			var out bytes.Buffer
			if err := v.Copy(&out, e); err == nil && int64(out.Len()) != e.Size {
				t.Errorf("%q: got %d bytes, want %d", e.Name, out.Len(), e.Size)
			}
		}
	})
}
