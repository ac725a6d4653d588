package qcow2

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// A piece is a run of one byte.
type piece struct {
	at, n int
	fill  byte
}

// golden are the images in testdata: how qemu-img and qemu-io make them, and what is
// on their disks besides zeros.
var golden = []struct {
	name   string
	create []string
	size   int
	io     []string // commands of qemu-io
	pack   []string // if set, the image is converted with these
	want   []piece
}{
	{"v2-512", []string{"-o", "compat=0.10,cluster_size=512"}, 100 << 10,
		[]string{"write -P 1 512 512", "write -P 2 40000 10000", "write -P 3 102399 1"}, nil,
		[]piece{{512, 512, 1}, {40000, 10000, 2}, {102399, 1, 3}}},
	{"v3-zero", []string{"-o", "cluster_size=4k"}, 1<<20 + 512,
		[]string{"write -P 9 0 1M", "write -z 8k 4k", "write -z -u 16k 64k", "write -P 4 1048576 512"}, nil,
		[]piece{{0, 8 << 10, 9}, {12 << 10, 4 << 10, 9}, {80 << 10, 1<<20 - 80<<10, 9}, {1 << 20, 512, 4}}},
	{"v3-2M", []string{"-o", "cluster_size=2M"}, 5 << 20,
		[]string{"write -P 7 3M 512", "write -P 8 5242368 512"}, nil,
		[]piece{{3 << 20, 512, 7}, {5<<20 - 512, 512, 8}}},
	{"extended", []string{"-o", "cluster_size=16k,extended_l2=on"}, 256 << 10,
		[]string{"write -P 1 512 512", "write -P 2 20000 3000", "write -z 20480 1024", "write -P 5 64k 16k", "write -z 80k 16k", "write -z 64k 1k"}, nil,
		[]piece{{512, 512, 1}, {20000, 480, 2}, {21504, 1496, 2}, {65 << 10, 15 << 10, 5}}},
	{"snapshot", []string{"-o", "cluster_size=4k"}, 64 << 10,
		[]string{"write -P 1 0 32k"}, nil,
		[]piece{{0, 32 << 10, 1}}},
	{"deflate", []string{"-o", "cluster_size=4k"}, 200 << 10,
		[]string{"write -P 1 0 10k", "write -P 2 100k 100k"}, []string{"-c", "-o", "cluster_size=4k"},
		[]piece{{0, 10 << 10, 1}, {100 << 10, 100 << 10, 2}}},
	{"zstd", []string{"-o", "cluster_size=4k"}, 200 << 10,
		[]string{"write -P 1 0 10k", "write -P 2 100k 100k"}, []string{"-c", "-o", "cluster_size=4k,compression_type=zstd"},
		[]piece{{0, 10 << 10, 1}, {100 << 10, 100 << 10, 2}}},
	{"zstd-extended", []string{"-o", "cluster_size=16k"}, 200 << 10,
		[]string{"write -P 1 0 10k", "write -P 2 100k 100k"}, []string{"-c", "-o", "cluster_size=16k,compression_type=zstd,extended_l2=on"},
		[]piece{{0, 10 << 10, 1}, {100 << 10, 100 << 10, 2}}},
}

func disk(size int, pieces []piece) []byte {
	b := make([]byte, size)
	for _, p := range pieces {
		copy(b[p.at:], bytes.Repeat([]byte{p.fill}, p.n))
	}
	return b
}

func load(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".qcow2.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(b []byte) (*Image, error) { return Open(bytes.NewReader(b), int64(len(b))) }

// content reads an image by its extents, and checks these.
func content(m *Image) ([]byte, error) {
	b := make([]byte, m.Size())
	for at := int64(0); at < m.Size(); {
		n, mapped, err := m.Extent(at)
		if err != nil {
			return nil, err
		}
		if n <= 0 || at+n > m.Size() {
			return nil, fmt.Errorf("an extent of %d bytes at %d", n, at)
		}
		if _, err := m.ReadAt(b[at:at+n], at); err != nil {
			return nil, err
		}
		if !mapped && !bytes.Equal(b[at:at+n], make([]byte, n)) {
			return nil, fmt.Errorf("at %d are no zeros", at)
		}
		at += n
	}
	return b, nil
}

func TestGolden(t *testing.T) {
	for _, tt := range golden {
		m, err := open(load(t, tt.name))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got, err := content(m)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		same(t, tt.name, got, disk(tt.size, tt.want))
		whole := make([]byte, tt.size+1)
		if n, err := m.ReadAt(whole, 0); n != tt.size || !errors.Is(err, io.EOF) {
			t.Errorf("%s: read %d bytes and %v, want %d and %v", tt.name, n, err, tt.size, io.EOF)
		}
		same(t, tt.name+" at once", whole[:tt.size], got)
	}
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %d bytes, want %d", what, len(got), len(want))
		return
	}
	if bytes.Equal(got, want) {
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: at %d: got %#x, want %#x", what, i, got[i], want[i])
			return
		}
	}
}

func TestRefused(t *testing.T) {
	be := binary.BigEndian
	feature := func(bits uint64) func([]byte) {
		return func(b []byte) { be.PutUint64(b[72:], be.Uint64(b[72:])|bits) }
	}
	for _, tt := range []struct {
		name   string
		change func(b []byte)
		is     error
		says   string
	}{
		{"no magic", func(b []byte) { b[0] = 0 }, ErrDamaged, "begin"},
		{"version", func(b []byte) { be.PutUint32(b[4:], 4) }, errors.ErrUnsupported, "version 4"},
		{"backing file", func(b []byte) {
			copy(b[1024:], "base.img")
			be.PutUint64(b[8:], 1024)
			be.PutUint32(b[16:], 8)
		}, errors.ErrUnsupported, `"base.img"`},
		{"backing file out of the image", func(b []byte) { be.PutUint64(b[8:], 1<<60); be.PutUint32(b[16:], 1<<31) }, errors.ErrUnsupported, "backing"},
		{"encrypted", func(b []byte) { be.PutUint32(b[32:], 2) }, errors.ErrUnsupported, "encrypted"},
		{"data file", feature(featureDataFile), errors.ErrUnsupported, "external data"},
		{"corrupt", feature(featureCorrupt), ErrDamaged, "corrupt"},
		{"unknown feature", feature(1 << 7), errors.ErrUnsupported, "bit 7"},
		{"compression", func(b []byte) { feature(featureCompression)(b); b[104] = 9 }, errors.ErrUnsupported, "compression type 9"},
		{"compression without a bit", func(b []byte) { b[104] = 1 }, ErrDamaged, "feature bit"},
		{"clusters", func(b []byte) { be.PutUint32(b[20:], 40) }, ErrDamaged, "2^40"},
		{"subclusters of 128 bytes", feature(featureExtendedL2), ErrDamaged, "subclusters"},
		{"header", func(b []byte) { be.PutUint32(b[100:], 1<<31) }, ErrDamaged, "header"},
		{"size", func(b []byte) { be.PutUint64(b[24:], 1<<63) }, ErrDamaged, "disk of"},
		{"L1 too short", func(b []byte) { be.PutUint64(b[24:], 1<<40) }, ErrDamaged, "L1"},
		{"L1 outside", func(b []byte) { be.PutUint64(b[40:], 1<<50) }, ErrDamaged, "L1"},
		{"L1 longer than the file", func(b []byte) { be.PutUint64(b[24:], 1<<50); be.PutUint32(b[36:], 1<<31) }, ErrDamaged, "L1"},
	} {
		b := load(t, "snapshot")
		tt.change(b)
		_, err := open(b)
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %v that says %q", tt.name, err, tt.is, tt.says)
		}
	}
	b := load(t, "snapshot")
	feature(featureDirty)(b)
	if _, err := open(b); err != nil {
		t.Errorf("dirty: got %v", err)
	}
	// The feature name table, which qemu-img writes, names what is not known.
	b = load(t, "extended")
	at := bytes.Index(b, []byte("dirty bit"))
	if at < 0 {
		t.Fatal("no feature names")
	}
	b[at-1] = 33
	feature(1 << 33)(b)
	if _, err := open(b); err == nil || !strings.Contains(err.Error(), `bit 33 ("dirty bit")`) {
		t.Errorf("a named feature: got %v", err)
	}
}

// An image that was cut off is never read as zeros.
func TestCut(t *testing.T) {
	for _, tt := range golden {
		whole := load(t, tt.name)
		want := disk(tt.size, tt.want)
		for n := 0; n < len(whole); n += max(512, len(whole)/97) {
			m, err := open(whole[:n])
			if err != nil {
				continue
			}
			if got, err := content(m); err == nil && !bytes.Equal(got, want) {
				t.Errorf("%s: the first %d of %d bytes: other contents without an error", tt.name, n, len(whole))
			}
		}
	}
}

// memory is a device of 4 KiB pages.
type memory struct {
	block.Device
	size  int64
	pages map[int64][]byte
}

func newMemory(size int64) *memory { return &memory{size: size, pages: make(map[int64][]byte)} }

func (m *memory) Size() int64 { return m.size }

func (m *memory) Readv(bufs [][]byte, offset int64) error {
	for _, b := range bufs {
		for len(b) > 0 {
			part := b[:min(int64(len(b)), 4096-offset%4096)]
			if page := m.pages[offset/4096]; page != nil {
				copy(part, page[offset%4096:])
			} else {
				clear(part)
			}
			b = b[len(part):]
			offset += int64(len(part))
		}
	}
	return nil
}

func (m *memory) Extent(offset int64) (int64, bool, error) {
	i := offset / 4096
	mapped, end := m.pages[i] != nil, i+1
	for end*4096 < m.size && (m.pages[end] != nil) == mapped {
		end++
	}
	return min(end*4096, m.size) - offset, mapped, nil
}

func (m *memory) put(at int64, data []byte) {
	for len(data) > 0 {
		if m.pages[at/4096] == nil {
			m.pages[at/4096] = make([]byte, 4096)
		}
		n := copy(m.pages[at/4096][at%4096:], data)
		data = data[n:]
		at += int64(n)
	}
}

// equal compares an image with the device that it was made of, without holding
// either in memory.
func (m *memory) equal(image *Image) error {
	if image.Size() != m.size {
		return fmt.Errorf("got %d bytes, want %d", image.Size(), m.size)
	}
	got, want := make([]byte, 4096), make([]byte, 4096)
	for at := int64(0); at < m.size; {
		n, mapped, err := image.Extent(at)
		if err != nil {
			return err
		}
		for end := at + n; at < end; at += 4096 {
			if !mapped && m.pages[at/4096] == nil {
				continue
			}
			n := min(4096, m.size-at)
			if _, err := image.ReadAt(got[:n], at); err != nil {
				return err
			}
			if err := m.Readv([][]byte{want[:n]}, at); err != nil {
				return err
			}
			if !bytes.Equal(got[:n], want[:n]) {
				return fmt.Errorf("other data at %d", at)
			}
		}
	}
	return nil
}

// devices are what Write is tried with.
func devices() map[string]*memory {
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	all := map[string]*memory{
		"empty":  newMemory(10 << 20),
		"sector": newMemory(512),
		"full":   newMemory(3<<20 + 512),
		"zeros":  newMemory(1 << 20),
		"mixed":  newMemory(1<<30 + 512),
	}
	all["sector"].put(0, noise(512))
	all["full"].put(0, noise(3<<20+512))
	all["zeros"].put(0, make([]byte, 1<<20))
	m := all["mixed"]
	for range 40 {
		m.put(random.Int64N(m.size/512-300)*512, noise(512*(1+random.IntN(300))))
	}
	m.put(m.size-512, noise(512))
	return all
}

func TestWrite(t *testing.T) {
	for name, d := range devices() {
		var out bytes.Buffer
		var last, total int64
		err := Write(t.Context(), &out, d, func(done, of int64) {
			if done < last || done > of {
				t.Errorf("%s: %d of %d bytes after %d", name, done, of, last)
			}
			last, total = done, of
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if last != total {
			t.Errorf("%s: %d of %d bytes at the end", name, last, total)
		}
		m, err := open(out.Bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := d.equal(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if (name == "empty" || name == "zeros") && out.Len() > 5*writeCluster {
			t.Errorf("%s: %d bytes for nothing", name, out.Len())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, io.Discard, devices()["full"], nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// A hole is a disk of nothing but zeros that take no room.
type hole struct {
	block.Device
	size int64
}

func (h hole) Size() int64                          { return h.size }
func (h hole) Extent(at int64) (int64, bool, error) { return h.size - at, false, nil }

// What an export takes of the memory depends on what is on the disk, not on its size.
func TestWriteMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Write(t.Context(), io.Discard, hole{size: 16<<40 - 4096}, nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 8 {
		t.Errorf("16 TiB of nothing: got %d MiB of memory, want at most 8", got)
	}
}

// An image of many clusters is laid out so that its reference counts count
// themselves.
func TestLay(t *testing.T) {
	for _, data := range []int64{0, 1, refcounts - 5, refcounts, 1 << 20, 1 << 28, 1<<33 + 7} {
		l := lay(1<<50, data/l2Entries+1, data)
		if l.used != l.dataFrom+l.data || l.refBlocks*refcounts < l.used || (l.refBlocks-1)*refcounts >= l.used || l.refTable*l2Entries < l.refBlocks {
			t.Errorf("%d clusters: %+v", data, l)
		}
	}
}

// A patched file has other bytes from at on, and ends at length.
type patched struct {
	file   []byte
	at     int64
	patch  []byte
	length int64
}

func (p patched) ReadAt(b []byte, offset int64) (int, error) {
	n := copy(b[:max(0, min(int64(len(b)), p.length-offset))], p.file[min(offset, int64(len(p.file))):])
	for i := range b[:n] {
		if k := offset + int64(i) - p.at; k >= 0 && k < int64(len(p.patch)) {
			b[i] = p.patch[k]
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// The images of testdata with any bytes in any place, cut off anywhere. Where the
// tables begin is a seed.
func FuzzOpen(f *testing.F) {
	var files [][]byte
	for i, tt := range golden {
		b := load(f, tt.name)
		files = append(files, b)
		f.Add(uint8(i), uint32(0), b[:112], uint32(0))
		h, err := parseHeader(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), uint32(h.l1Offset), b[h.l1Offset:][:8], uint32(0))
		l2 := binary.BigEndian.Uint64(b[h.l1Offset:]) & offsetMask
		f.Add(uint8(i), uint32(l2), b[l2:][:64], uint32(0))
	}
	f.Fuzz(func(t *testing.T, which uint8, place uint32, patch []byte, cut uint32) {
		file := files[int(which)%len(files)]
		length := max(0, int64(len(file))-int64(cut))
		m, err := Open(patched{file, int64(place), patch, length}, length)
		if err != nil {
			return
		}
		buf := make([]byte, 8<<10)
		at := int64(0)
		for range 64 {
			if at >= m.Size() {
				break
			}
			n, mapped, err := m.Extent(at)
			if err != nil {
				return
			}
			if n <= 0 || at+n > m.Size() {
				t.Fatalf("an extent of %d bytes at %d of %d", n, at, m.Size())
			}
			part := buf[:min(n, int64(len(buf)))]
			for i := range part {
				part[i] = 0xff
			}
			got, err := m.ReadAt(part, at)
			if err == nil && got != len(part) {
				t.Fatalf("%d of %d bytes without an error", got, len(part))
			}
			if err == nil && !mapped && !bytes.Equal(part, make([]byte, len(part))) {
				t.Fatalf("no zeros at %d", at)
			}
			at += n
		}
	})
}

func BenchmarkReadAt(b *testing.B) {
	for _, name := range []string{"v3-zero", "deflate", "zstd"} {
		b.Run(name, func(b *testing.B) {
			m, err := open(load(b, name))
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, m.Size())
			b.SetBytes(m.Size())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.ReadAt(buf, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
