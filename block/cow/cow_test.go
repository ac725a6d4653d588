package cow

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/blocktest"
	"github.com/nitrino/nitrino/block/raw"
)

const bootID = "5f2c1c6e-0c8d-4a39-9b55-0f7e4d1f4a10"

// pattern is n bytes that differ from one sector to the next.
func pattern(n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>9*7 + i>>17 + 1)
	}
	return b
}

// baseOf is a raw device with content, to be read only.
func baseOf(t testing.TB, content []byte) block.Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(path, content, 0o400); err != nil {
		t.Fatal(err)
	}
	f, err := raw.Open(path, int64(len(content)), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
			t.Errorf("the base was changed (%v)", err)
		}
	})
	return f
}

func newOverlay(t testing.TB, path string, o Options) *Overlay {
	t.Helper()
	if err := Create(path, o.Size); err != nil {
		t.Fatal(err)
	}
	return openOverlay(t, path, o)
}

func openOverlay(t testing.TB, path string, o Options) *Overlay {
	t.Helper()
	if o.BootID == "" {
		o.BootID = bootID
	}
	v, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func read(t testing.TB, d block.Device, offset, n int64) []byte {
	t.Helper()
	b := make([]byte, n)
	if err := d.Readv([][]byte{b}, offset); err != nil {
		t.Fatalf("Readv of %d at %d: %v", n, offset, err)
	}
	return b
}

func write(t testing.TB, d block.Device, offset int64, b []byte) {
	t.Helper()
	if err := d.Writev([][]byte{b}, offset); err != nil {
		t.Fatalf("Writev of %d at %d: %v", len(b), offset, err)
	}
}

func TestConformance(t *testing.T) {
	content := pattern(700<<10 + 1536)
	for _, c := range []struct {
		name    string
		content []byte
		base    func(t *testing.T) block.Device
	}{
		{"none", nil, func(*testing.T) block.Device { return nil }},
		{"raw", content, func(t *testing.T) block.Device { return baseOf(t, content) }},
		{"cow", append(bytes.Clone(content[:300<<10]), bytes.Repeat([]byte{9}, 512)...), func(t *testing.T) block.Device {
			v := newOverlay(t, filepath.Join(t.TempDir(), "lower"), Options{Base: baseOf(t, content), Size: 300<<10 + 512})
			write(t, v, 300<<10, bytes.Repeat([]byte{9}, 512))
			return v
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			type made struct {
				path string
				base block.Device
			}
			all := make(map[block.Device]made)
			boots := 0
			blocktest.Run(t, blocktest.Options{
				New: func(t *testing.T, size int64) block.Device {
					m := made{filepath.Join(t.TempDir(), "v"), c.base(t)}
					v := newOverlay(t, m.path, Options{Base: m.base, Size: size})
					all[v] = m
					return v
				},
				Reopen: func(t *testing.T, d block.Device) block.Device {
					m := all[d]
					o := Options{Base: m.base, Size: d.Size(), BootID: bootID}
					if boots++; boots%3 == 0 { // as after a loss of power
						if err := d.Flush(); err != nil {
							t.Fatal(err)
						}
						o.BootID = strings.Repeat("x", boots%2+1)
					}
					if err := d.Close(); err != nil {
						t.Fatal(err)
					}
					v := openOverlay(t, m.path, o)
					if o.BootID != bootID { // and the one after it
						if err := v.Close(); err != nil {
							t.Fatal(err)
						}
						o.BootID = bootID
						v = openOverlay(t, m.path, o)
					}
					all[v] = m
					return v
				},
				Content: c.content,
				Resizes: true,
				Prompt:  true,
			})
		})
	}
}

// A clone that was never written takes the headers' room, and its disk what was
// written.
func TestUsed(t *testing.T) {
	const size = 64 << 30
	path := filepath.Join(t.TempDir(), "v")
	v := newOverlay(t, path, Options{Size: size})
	read(t, v, 1<<30, 8192)
	if got, err := v.Used(); got > 4096 || err != nil {
		t.Errorf("Used of a new clone: got %d, %v", got, err)
	}
	if _, err := os.Stat(path + liveFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the live file of a clone that was never written: got %v, want %v", err, fs.ErrNotExist)
	}
	write(t, v, 40<<30, pattern(8192))
	if err := v.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Used(); got < 8192 || got > 64<<10 || err != nil {
		t.Errorf("Used with two clusters: got %d, %v", got, err)
	}
	if err := v.Discard(0, size); err != nil {
		t.Fatal(err)
	}
	if got := read(t, v, 40<<30, 8192); !bytes.Equal(got, make([]byte, 8192)) {
		t.Error("after Discard of everything: not zeros")
	}
}

// Own tells what is the overlay's, whatever the base has; Extent what takes room.
func TestOwn(t *testing.T) {
	base := baseOf(t, pattern(64<<10))
	v := newOverlay(t, filepath.Join(t.TempDir(), "v"), Options{Base: base, Size: 96 << 10})
	write(t, v, 8192+512, pattern(512))
	if err := v.Discard(16<<10, 4096); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at, length int64
		own        bool
	}{
		{0, 8192, false}, {512, 7680, false}, {8192, 4096, true}, {8704, 3584, true}, {12 << 10, 4096, false},
		{16 << 10, 4096, true}, {20 << 10, 44 << 10, false}, {64 << 10, 32 << 10, true},
	} {
		if length, own := v.Own(c.at); length != c.length || own != c.own {
			t.Errorf("Own(%d): got %d, %t, want %d, %t", c.at, length, own, c.length, c.own)
		}
	}
}

// To discard what the base has not either takes no memory, and no room.
func TestDiscardNothing(t *testing.T) {
	const size = 1 << 40
	dir := t.TempDir()
	if err := raw.Create(filepath.Join(dir, "base"), size); err != nil {
		t.Fatal(err)
	}
	base, err := raw.Open(filepath.Join(dir, "base"), size, false)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	write(t, base, 1<<30, pattern(8192))
	v := newOverlay(t, filepath.Join(dir, "v"), Options{Base: base, Size: size})
	if err := v.Discard(0, size); err != nil {
		t.Fatal(err)
	}
	if got := read(t, v, 1<<30, 8192); !bytes.Equal(got, make([]byte, 8192)) {
		t.Error("what the base has was not discarded")
	}
	pages := 0
	for i := range v.bits.pages {
		if v.bits.pages[i].Load() != nil {
			pages++
		}
	}
	if pages != 1 {
		t.Errorf("%d pages of bits, want 1", pages)
	}
}

// A file that cannot be as long as it has to be is one for which there is no room.
func TestLengthen(t *testing.T) {
	err := prefix(filepath.Join(t.TempDir(), "v")).lengthen(liveFile, 1<<62)
	if !errors.Is(err, block.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, block.ErrNoSpace)
	}
}

// With the boot ID of another kernel only what was flushed is there; with the same
// one, all that was written.
func TestBootID(t *testing.T) {
	base := baseOf(t, pattern(1<<20))
	o := Options{Base: base, Size: 1 << 20, BootID: "first"}
	path := filepath.Join(t.TempDir(), "v")
	v := newOverlay(t, path, o)
	one, two := bytes.Repeat([]byte{1}, 512), bytes.Repeat([]byte{2}, 512)
	write(t, v, 4096, one)
	if err := v.Flush(); err != nil {
		t.Fatal(err)
	}
	write(t, v, 5*4096, two)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}

	o.ReadOnly = true
	v = openOverlay(t, path, o)
	if got := read(t, v, 5*4096, 512); !bytes.Equal(got, two) {
		t.Error("the same boot: what was written is not there")
	}
	o.BootID = "second"
	v = openOverlay(t, path, o)
	if got := read(t, v, 4096, 512); !bytes.Equal(got, one) {
		t.Error("another boot: what was flushed is not there")
	}
	if got := read(t, v, 5*4096, 512); !bytes.Equal(got, pattern(1 << 20)[5*4096:][:512]) {
		t.Error("another boot: what was not flushed is not the base's")
	}
	o.ReadOnly = false
	v = openOverlay(t, path, o)
	write(t, v, 9*4096, one)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = openOverlay(t, path, o)
	if got := read(t, v, 5*4096, 512); !bytes.Equal(got, pattern(1 << 20)[5*4096:][:512]) {
		t.Error("the live file of the first boot is believed again")
	}
	if got := read(t, v, 9*4096, 512); !bytes.Equal(got, one) {
		t.Error("the second boot's write is not there")
	}
}

// A live file from before a resize, or of a volume that was removed, is not believed.
func TestStaleLive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	o := Options{Base: baseOf(t, pattern(1<<20)), Size: 1 << 20, BootID: "b"}
	v := newOverlay(t, path, o)
	write(t, v, 8192, make([]byte, 4096))
	stale, err := os.ReadFile(path + liveFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, next := range map[string]func(){
		"resized": func() {
			if err := v.Resize(1<<20 - 512); err != nil {
				t.Fatal(err)
			}
			o.Size = v.Size()
		},
		"removed": func() {
			if err := Remove(path); err != nil {
				t.Fatal(err)
			}
			v = newOverlay(t, path, o)
		},
	} {
		next()
		want := read(t, v, 0, o.Size)
		if err := errors.Join(v.Close(), os.WriteFile(path+liveFile, stale, 0o600)); err != nil {
			t.Fatal(err)
		}
		v = openOverlay(t, path, o)
		if got := read(t, v, 0, o.Size); !bytes.Equal(got, want) {
			t.Errorf("%s: the live file of before is believed", name)
		}
	}
}

// Files that are damaged are not opened, and not read if it happens later.
func TestDamaged(t *testing.T) {
	const size = 64 << 20
	flip := func(at int64) func(string) error {
		return func(name string) error {
			b, err := os.ReadFile(name)
			if err == nil {
				b[at] ^= 0x10
				err = os.WriteFile(name, b, 0o600)
			}
			return err
		}
	}
	cut := func(n int64) func(string) error { return func(name string) error { return os.Truncate(name, n) } }
	for _, c := range []struct {
		name, suffix string
		damage       func(name string) error
		want         error
	}{
		{"no data", dataFile, os.Remove, fs.ErrNotExist},
		{"data cut", dataFile, cut(size - 1), block.ErrMedium},
		{"data empty", dataFile, cut(0), block.ErrMedium},
		{"no map", mapFile, os.Remove, fs.ErrNotExist},
		{"map cut", mapFile, cut(headerRoom + 512), block.ErrMedium},
		{"map empty", mapFile, cut(0), block.ErrMedium},
		{"magic", mapFile, flip(0), block.ErrMedium},
		{"size", mapFile, flip(11), block.ErrMedium},
		{"header's sum", mapFile, flip(sumAt), block.ErrMedium},
		{"a bit", mapFile, flip(headerRoom), block.ErrMedium},
		{"a sum", mapFile, flip(headerRoom + bitsBytes + 1), block.ErrMedium},
		{"a bit of an empty sector", mapFile, flip(headerRoom + 3*512 + 7), block.ErrMedium},
		{"live cut", liveFile, cut(headerRoom), block.ErrMedium},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "v")
			v := newOverlay(t, path, Options{Size: size})
			write(t, v, 0, pattern(64<<10))
			if err := errors.Join(v.Flush(), v.Close(), c.damage(path+c.suffix)); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{true, false} {
				if _, err := Open(path, Options{Size: size, BootID: bootID, ReadOnly: readOnly}); !errors.Is(err, c.want) {
					t.Errorf("Open: got %v, want %v", err, c.want)
				}
			}
		})
	}
	path := filepath.Join(t.TempDir(), "v")
	var reported error
	v := newOverlay(t, path, Options{Base: baseOf(t, pattern(size)), Size: size, Report: func(err error) { reported = err }})
	write(t, v, 0, pattern(64<<10))
	if err := os.Truncate(path+dataFile, 32<<10); err != nil {
		t.Fatal(err)
	}
	b := [][]byte{make([]byte, 4096)}
	for name, err := range map[string]error{
		"Readv":           v.Readv(b, 40<<10),
		"Writev":          v.Writev(b, 0),
		"Writev, first":   v.Writev(b, 1<<20),
		"Discard":         v.Discard(1<<20, 8192),
		"Open, too large": func() error { _, err := Open(path, Options{Size: 2 * size}); return err }(),
	} {
		if !errors.Is(err, block.ErrMedium) {
			t.Errorf("%s: got %v, want %v", name, err, block.ErrMedium)
		}
	}
	if !errors.Is(reported, block.ErrMedium) {
		t.Errorf("Report: got %v", reported)
	}
	if got := read(t, v, 1<<20, 4096); !bytes.Equal(got, pattern(size)[1<<20:][:4096]) {
		t.Error("a write that failed is seen")
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	newOverlay(t, path, Options{Size: 1 << 20})
	v := openOverlay(t, path, Options{Size: 1 << 20, ReadOnly: true})
	b := [][]byte{make([]byte, 512)}
	for name, err := range map[string]error{
		"Writev":      v.Writev(b, 0),
		"Discard":     v.Discard(0, 512),
		"WriteZeroes": v.WriteZeroes(0, 512, true),
		"Resize":      v.Resize(512),
		"Absorb":      v.Absorb(t.Context(), v, nil),
	} {
		if !errors.Is(err, block.ErrReadOnly) {
			t.Errorf("%s: got %v, want %v", name, err, block.ErrReadOnly)
		}
	}
	if done, err := v.TryWritev(b, 0); done || err != nil {
		t.Errorf("TryWritev: got %t, %v", done, err)
	}
}

// A snapshot in the middle of a chain goes away, while the volume is written.
func TestAbsorb(t *testing.T) {
	for _, c := range []struct {
		name               string
		base, lower, upper int64
	}{
		{"all alike", 1 << 20, 1 << 20, 1 << 20},
		{"growing", 300<<10 + 512, 600<<10 + 1024, 1<<20 + 1536},
		{"lower is less", 1 << 20, 300<<10 + 512, 1 << 20},
		{"upper is less", 1 << 20, 1 << 20, 300<<10 + 512},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := baseOf(t, pattern(c.base))
			dir := t.TempDir()
			lower := newOverlay(t, filepath.Join(dir, "lower"), Options{Base: base, Size: c.lower})
			upper := newOverlay(t, filepath.Join(dir, "upper"), Options{Base: lower, Size: c.upper})
			for i := int64(0); i < 60; i++ {
				at := i * 24 << 9
				if n := 512 * (1 + i%19); at+n <= c.lower {
					write(t, lower, at, bytes.Repeat([]byte{byte(100 + i)}, int(n)))
				}
				if at += i % 7 * 512; i%3 == 0 && at+1024 <= c.upper {
					write(t, upper, at, bytes.Repeat([]byte{byte(200 + i)}, 1024))
				}
			}
			if err := errors.Join(lower.Discard(64<<10, 64<<10), lower.Discard(c.lower-1024, 1024)); err != nil {
				t.Fatal(err)
			}
			want := read(t, upper, 0, c.upper)
			calls, last, sum := 0, int64(0), int64(0)
			err := upper.Absorb(t.Context(), lower, func(done, total int64) {
				if calls++; done < last || done > total {
					t.Errorf("progress: %d of %d after %d", done, total, last)
				}
				last, sum = done, total
				at := int64(calls) * 4096 // while it is in use
				write(t, upper, at, bytes.Repeat([]byte{byte(calls)}, 512))
				copy(want[at:], bytes.Repeat([]byte{byte(calls)}, 512))
			})
			if err != nil {
				t.Fatal(err)
			}
			if calls == 0 || sum == 0 {
				t.Error("progress: nothing was told")
			}
			if got := read(t, upper, 0, c.upper); !bytes.Equal(got, want) {
				t.Error("after Absorb it reads otherwise")
			}
			upper.Rebase(base)
			if err := lower.Close(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, upper, 0, c.upper); !bytes.Equal(got, want) {
				t.Error("after Rebase it reads otherwise")
			}
			if err := upper.Close(); err != nil {
				t.Fatal(err)
			}
			upper = openOverlay(t, filepath.Join(dir, "upper"), Options{Base: base, Size: c.upper, BootID: "another"})
			if got := read(t, upper, 0, c.upper); !bytes.Equal(got, want) {
				t.Error("after a loss of power it reads otherwise")
			}
		})
	}
	v := newOverlay(t, filepath.Join(t.TempDir(), "v"), Options{Size: 1 << 20})
	write(t, v, 0, pattern(4096))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	upper := newOverlay(t, filepath.Join(t.TempDir(), "v"), Options{Base: v, Size: 1 << 20})
	if err := upper.Absorb(ctx, v, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Absorb, ended: got %v, want %v", err, context.Canceled)
	}
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	newOverlay(t, path, Options{Size: 512})
	if err := Create(path, 512); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create again: got %v, want %v", err, fs.ErrExist)
	}
	for _, size := range []int64{0, -512, 1000, maxSize + 512} {
		if err := Create(path+"x", size); !errors.Is(err, block.ErrRange) {
			t.Errorf("Create of %d bytes: got %v, want %v", size, err, block.ErrRange)
		}
	}
	if err := errors.Join(Remove(path), Remove(path)); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("after Remove: got %v, %v", left, err)
	}
}

func TestAllocations(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "cow-test-")
	if err != nil {
		dir = t.TempDir()
	} else {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	v := newOverlay(t, filepath.Join(dir, "v"), Options{Base: baseOf(t, pattern(1<<20)), Size: 1 << 20})
	bufs := [][]byte{make([]byte, 4096), make([]byte, 4096)}
	if err := v.Writev(bufs, 0); err != nil {
		t.Fatal(err)
	}
	got := testing.AllocsPerRun(100, func() {
		for at := int64(0); at < 16384; at += 4096 { // here, half here, not here
			_, err := v.TryReadv(bufs, at)
			if err == nil {
				err = v.Readv(bufs, at)
			}
			if err == nil {
				_, err = v.TryWritev(bufs, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	if got > poolMisses {
		t.Errorf("got %v allocations, want at most %d", got, poolMisses)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{})
	f.Add(header{size: 1 << 30, inherited: 4096, generation: [16]byte{1}}.encode(mapMagic))
	f.Add(header{size: 512, bootID: bootID}.encode(liveMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, magic := range []string{mapMagic, liveMagic} {
			h, err := decodeHeader(b, magic)
			if err != nil {
				if !errors.Is(err, block.ErrMedium) {
					t.Errorf("got %v, want %v", err, block.ErrMedium)
				}
				continue
			}
			if got, err := decodeHeader(h.encode(magic), magic); got != h || err != nil {
				t.Errorf("encoded again: got %+v, %v, want %+v", got, err, h)
			}
		}
	})
}

func FuzzSector(f *testing.F) {
	var b bitmap
	b.resize(1 << 16)
	b.addPage(0)
	b.add(3, 0xf0f0, true)
	s := b.sector(0)
	f.Add(s.data[:], int64(0))
	f.Add(make([]byte, block.SectorSize), int64(5))
	f.Fuzz(func(t *testing.T, data []byte, number int64) {
		const clusters = 1<<16 - 77
		if len(data) != block.SectorSize || number < 0 || number >= sectorsOf(clusters*clusterSize) {
			return
		}
		var b bitmap
		b.resize(clusters)
		if err := b.load(number, data, clusters); err != nil {
			return
		}
		if last := int64(clusters / wordClusters); b.word(last)&^valid(last, clusters) != 0 {
			t.Error("bits beyond the last cluster")
		}
	})
}

// run against a slow one.
func TestRun(t *testing.T) {
	const clusters = 3*pageClusters + 100
	var b bitmap
	b.resize(clusters)
	has := make([]bool, clusters)
	for _, c := range []int64{0, 1, 2, 63, 64, 65, 127, 128, 200, pageClusters - 1, pageClusters, 3*pageClusters + 7, clusters - 1} {
		b.addPage(c / wordClusters)
		b.add(c/wordClusters, 1<<(c%wordClusters), false)
		has[c] = true
	}
	for c := int64(300); c < 700; c++ {
		b.addPage(c / wordClusters)
		b.add(c/wordClusters, 1<<(c%wordClusters), false)
		has[c] = true
	}
	check := func(from, end int64) {
		want := from
		for want < end && has[want] == has[from] {
			want++
		}
		if here, to := b.run(from, end); here != has[from] || to != want {
			t.Errorf("run(%d, %d): got %t up to %d, want %t up to %d", from, end, here, to, has[from], want)
		}
	}
	for from := int64(0); from < 800; from++ {
		for _, end := range []int64{from + 1, from + 5, from + 64, 750 + from, clusters} {
			check(from, end)
		}
	}
	for _, from := range []int64{pageClusters - 2, pageClusters - 1, pageClusters, pageClusters + 1, 3 * pageClusters, clusters - 2, clusters - 1} {
		check(from, clusters)
	}
}

func BenchmarkRead(b *testing.B) {
	dir, err := os.MkdirTemp("/dev/shm", "cow-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	const size = 64 << 20
	if err := raw.Create(filepath.Join(dir, "raw"), size); err != nil {
		b.Fatal(err)
	}
	base, err := raw.Open(filepath.Join(dir, "raw"), size, false)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = base.Close() })
	write(b, base, 0, pattern(size))
	o := Options{Base: base, Size: size}
	written := newOverlay(b, filepath.Join(dir, "written"), o)
	write(b, written, 0, pattern(size))
	empty := newOverlay(b, filepath.Join(dir, "empty"), o)
	bufs := [][]byte{make([]byte, 4096)}
	for _, c := range []struct {
		name string
		d    interface {
			block.Device
			block.Prompt
		}
	}{{"raw", base}, {"written", written}, {"base", empty}} {
		each := func(name string, call func(at int64) error) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(4096)
				at := int64(0)
				for b.Loop() {
					if err := call(at); err != nil {
						b.Fatal(err)
					}
					at = (at + 7919*4096) % size // each cluster, in no order
				}
			})
		}
		each("Readv", func(at int64) error { return c.d.Readv(bufs, at) })
		each("TryReadv", func(at int64) error { _, err := c.d.TryReadv(bufs, at); return err })
	}
}
