package block_test

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/blocktest"
	"github.com/nitrino/nitrino/block/raw"
)

// device makes a Disk a Device, to be held against what all devices have to do.
type device struct{ *block.Disk }

func (d device) Writev(bufs [][]byte, offset int64) error {
	return d.Disk.Writev(bufs, offset, offset%1024 == 0)
}

func newRaw(t *testing.T, size int64) block.Device {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := raw.Create(path, size); err != nil {
		t.Fatal(err)
	}
	f, err := raw.Open(path, size, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func newDisk(t *testing.T, id block.Identity, d block.Device) *block.Disk {
	t.Helper()
	k, err := block.NewDisk(id, d)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestConformance(t *testing.T) {
	for _, size := range []int{512, 4096} {
		blocktest.Run(t, blocktest.Options{
			New: func(t *testing.T, n int64) block.Device {
				return device{newDisk(t, block.Identity{Name: "d", BlockSize: size, PhysicalSize: 4096}, newRaw(t, n))}
			},
			Granularity: int64(size),
			Resizes:     true,
			Prompt:      true,
		})
	}
}

func TestNewDisk(t *testing.T) {
	for _, c := range []struct {
		id   block.Identity
		size int64
		ok   bool
	}{
		{block.Identity{BlockSize: 512, PhysicalSize: 512}, 512, true},
		{block.Identity{BlockSize: 4096, PhysicalSize: 8192}, 8192, true},
		{block.Identity{BlockSize: 4096, PhysicalSize: 4096}, 4608, false},
		{block.Identity{BlockSize: 4096, PhysicalSize: 512}, 4096, false},
		{block.Identity{BlockSize: 512, PhysicalSize: 1536}, 4096, false},
		{block.Identity{BlockSize: 1024, PhysicalSize: 4096}, 4096, false},
	} {
		_, err := block.NewDisk(c.id, newRaw(t, c.size))
		if (err == nil) != c.ok {
			t.Errorf("%+v of %d bytes: got %v, want ok %t", c.id, c.size, err, c.ok)
		}
	}
}

// What is not within the disk, or in no whole blocks, reaches no device.
func TestRange(t *testing.T) {
	k := newDisk(t, block.Identity{BlockSize: 4096, PhysicalSize: 4096}, newRaw(t, 64<<10))
	for _, c := range []struct{ offset, length int64 }{
		{-4096, 4096}, {64 << 10, 4096}, {60 << 10, 8192}, {512, 4096}, {0, 512}, {1<<63 - 4096, 8192},
	} {
		b := [][]byte{make([]byte, c.length)}
		for name, err := range map[string]error{
			"Readv":       k.Readv(b, c.offset),
			"Writev":      k.Writev(b, c.offset, false),
			"Discard":     k.Discard(c.offset, c.length),
			"WriteZeroes": k.WriteZeroes(c.offset, c.length, true),
			"Atomically": k.Atomically(func(a block.Alone) error {
				return errors.Join(a.Readv(b, c.offset), a.Writev(b, c.offset, true))
			}),
		} {
			if !errors.Is(err, block.ErrRange) {
				t.Errorf("%s of %d at %d: got %v, want %v", name, c.length, c.offset, err, block.ErrRange)
			}
		}
		if done, err := k.TryReadv(b, c.offset); done || err != nil {
			t.Errorf("TryReadv of %d at %d: got %t, %v", c.length, c.offset, done, err)
		}
	}
	if err := k.Resize(4608); !errors.Is(err, block.ErrRange) {
		t.Errorf("Resize to no whole blocks: got %v, want %v", err, block.ErrRange)
	}
}

func TestReadOnly(t *testing.T) {
	k := newDisk(t, block.Identity{BlockSize: 512, PhysicalSize: 512, ReadOnly: true}, newRaw(t, 4096))
	b := [][]byte{make([]byte, 512)}
	for name, err := range map[string]error{
		"Writev":      k.Writev(b, 0, true),
		"Discard":     k.Discard(0, 512),
		"WriteZeroes": k.WriteZeroes(0, 512, false),
	} {
		if !errors.Is(err, block.ErrReadOnly) {
			t.Errorf("%s: got %v, want %v", name, err, block.ErrReadOnly)
		}
	}
	if err := k.Readv(b, 0); err != nil {
		t.Error(err)
	}
}

// Watchers are told of another size and of other contents, until they stop.
func TestExchange(t *testing.T) {
	k := newDisk(t, block.Identity{BlockSize: 512, PhysicalSize: 512}, newRaw(t, 4096))
	var got []block.Change
	stop := k.Watch(func(c block.Change) { got = append(got, c) })
	next := newRaw(t, 8192)
	want := bytes.Repeat([]byte{5}, 512)
	if err := next.Writev([][]byte{want}, 0); err != nil {
		t.Fatal(err)
	}
	if err := k.Exchange(func(block.Device) (block.Device, bool, error) { return next, true, nil }); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 512)
	if err := k.Readv([][]byte{b}, 0); err != nil || !bytes.Equal(b, want) || k.Size() != 8192 {
		t.Errorf("after Exchange: size %d, %v", k.Size(), err)
	}
	if err := k.Exchange(func(block.Device) (block.Device, bool, error) { return nil, true, io.ErrNoProgress }); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("Exchange that fails: got %v, want %v", err, io.ErrNoProgress)
	}
	if err := k.Resize(4096); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := k.Resize(1024); err != nil {
		t.Fatal(err)
	}
	if want := []block.Change{block.Replaced, block.Resized, block.Resized}; !slices.Equal(got, want) {
		t.Errorf("changes: got %v, want %v", got, want)
	}
	if err := errors.Join(k.Close(), k.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := k.Resize(4096); !errors.Is(err, block.ErrClosed) {
		t.Errorf("Resize after Close: got %v, want %v", err, block.ErrClosed)
	}
}

// broken fails with what is no error of a disk.
type broken struct{ block.Device }

func (broken) Readv([][]byte, int64) error { return io.ErrUnexpectedEOF }

func TestCounts(t *testing.T) {
	k := newDisk(t, block.Identity{BlockSize: 512, PhysicalSize: 512}, broken{newRaw(t, 4096)})
	b := [][]byte{make([]byte, 512), make([]byte, 1024)}
	if err := k.Readv(b, 0); !errors.Is(err, block.ErrMedium) {
		t.Errorf("Readv: got %v, want %v", err, block.ErrMedium)
	}
	if err := errors.Join(k.Writev(b, 0, false), k.Flush(), k.Discard(0, 512)); err != nil {
		t.Fatal(err)
	}
	want := block.Counts{Reads: 1, Writes: 1, Flushes: 1, Discards: 1, ReadBytes: 1536, WrittenBytes: 1536, Errors: 1}
	if got := k.Counts(); got != want {
		t.Errorf("Counts: got %+v, want %+v", got, want)
	}
}

func TestCut(t *testing.T) {
	bufs := [][]byte{[]byte("ab"), {}, []byte("cdef"), []byte("g")}
	for from := range int64(8) {
		for n := range 8 - from {
			cut := block.Cut(nil, bufs, from, n)
			if got, want := string(slices.Concat(cut...)), "abcdefg"[from:from+n]; got != want || block.Length(cut) != n {
				t.Errorf("Cut at %d of %d: got %q, want %q", from, n, got, want)
			}
		}
	}
}

// solid is a device without holes.
type solid struct{ block.Device }

func (solid) CanDiscard() bool { return false }

func TestCanDiscard(t *testing.T) {
	d := newRaw(t, 4096)
	id := block.Identity{BlockSize: 512, PhysicalSize: 512}
	for _, c := range []struct {
		d    block.Device
		want bool
	}{{d, true}, {broken{d}, true}, {solid{d}, false}} {
		if got := newDisk(t, id, c.d).CanDiscard(); got != c.want {
			t.Errorf("CanDiscard of %T: got %t, want %t", c.d, got, c.want)
		}
	}
	k := newDisk(t, id, solid{d})
	k.CanDiscard()
	if err := k.Atomically(func(block.Alone) error {
		if k.CanDiscard() {
			t.Error("CanDiscard while another is alone: got true, want the last answer")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
