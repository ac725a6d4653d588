package raw

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/blocktest"
	"golang.org/x/sys/unix"
)

// folders are where files are tried: the usual file system, and one in memory.
func folders(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{"disk": t.TempDir()}
	if shm, err := os.MkdirTemp("/dev/shm", "raw-test-"); err == nil { // not every system has it
		t.Cleanup(func() { _ = os.RemoveAll(shm) })
		all["memory"] = shm
	}
	return all
}

func newFile(t testing.TB, path string, size int64) *File {
	t.Helper()
	if err := Create(path, size); err != nil {
		t.Fatal(err)
	}
	return openFile(t, path, size, false)
}

func openFile(t testing.TB, path string, size int64, readOnly bool) *File {
	t.Helper()
	f, err := Open(path, size, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestConformance(t *testing.T) {
	for name, dir := range folders(t) {
		t.Run(name, func(t *testing.T) {
			blocktest.Run(t, blocktest.Options{
				New: func(t *testing.T, size int64) block.Device {
					path := filepath.Join(dir, filepath.Base(t.Name()))
					return newFile(t, path, size)
				},
				Reopen: func(t *testing.T, d block.Device) block.Device {
					if err := d.Close(); err != nil {
						t.Fatal(err)
					}
					return openFile(t, d.(*File).name, d.Size(), false)
				},
				Resizes: true,
				Prompt:  true,
			})
		})
	}
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f := newFile(t, path, 1<<40)
	if got, err := f.Used(); got != 0 || err != nil {
		t.Errorf("Used of a new file: got %d, %v, want 0", got, err)
	}
	if err := Create(path, 512); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create where a file is: got %v, want %v", err, fs.ErrExist)
	}
	for _, size := range []int64{0, -512, 513} {
		if err := Create(path+"x", size); !errors.Is(err, block.ErrRange) {
			t.Errorf("Create of %d bytes: got %v, want %v", size, err, block.ErrRange)
		}
	}
	if err := Create(filepath.Join(path, "no", "folder"), 512); err == nil {
		t.Error("Create in a folder that is none: got no error")
	}
}

// A file that is shorter than it has to be is damaged: to all that asks for what is
// missing, and to all that would make it look whole.
func TestTruncated(t *testing.T) {
	for name, dir := range folders(t) {
		t.Run(name, func(t *testing.T) {
			const size = 64 << 10
			path := filepath.Join(dir, "f")
			f := newFile(t, path, size)
			b := [][]byte{bytes.Repeat([]byte{7}, 4096), bytes.Repeat([]byte{8}, 4096)}
			if err := f.Writev(b, 0); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, 6<<10); err != nil {
				t.Fatal(err)
			}
			_, _, extent := f.Extent(0)
			for _, c := range []struct {
				name string
				err  error
			}{
				{"Readv across the end", f.Readv(b, 0)},
				{"Readv beyond the end", f.Readv(b[:1], 32<<10)},
				{"Writev before the end", f.Writev(b[:1], 0)},
				{"Writev beyond the end", f.Writev(b, 32<<10)},
				{"Discard", f.Discard(0, 4096)},
				{"WriteZeroes", f.WriteZeroes(0, size, true)},
				{"Resize", f.Resize(2 * size)},
				{"Extent", extent},
			} {
				if !errors.Is(c.err, block.ErrMedium) {
					t.Errorf("%s: got %v, want %v", c.name, c.err, block.ErrMedium)
				}
			}
			if done, err := f.TryReadv(b, 32<<10); done && err == nil {
				t.Error("TryReadv beyond the end: done")
			}
			if done, err := f.TryWritev(b, 32<<10); done && err == nil {
				t.Error("TryWritev beyond the end: done")
			}
			if got, err := os.Stat(path); err != nil || got.Size() != 6<<10 {
				t.Errorf("the file's length: got %d, %v, want it as it was", got.Size(), err)
			}
			if err := f.Readv(b[:1], 0); err != nil {
				t.Errorf("Readv of what is there: %v", err)
			}
			if _, err := Open(path, size, true); !errors.Is(err, block.ErrMedium) {
				t.Errorf("Open: got %v, want %v", err, block.ErrMedium)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	newFile(t, path, 8192)
	f := openFile(t, path, 8192, true)
	b := [][]byte{make([]byte, 512)}
	for name, err := range map[string]error{
		"Writev":      f.Writev(b, 0),
		"Discard":     f.Discard(0, 512),
		"WriteZeroes": f.WriteZeroes(0, 512, false),
		"Resize":      f.Resize(512),
	} {
		if !errors.Is(err, block.ErrReadOnly) {
			t.Errorf("%s: got %v, want %v", name, err, block.ErrReadOnly)
		}
	}
	if err := errors.Join(f.Readv(b, 512), f.Flush()); err != nil {
		t.Error(err)
	}
}

// A file longer than the device hides nothing that a later growth would show.
func TestLonger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, bytes.Repeat([]byte{1}, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	f := openFile(t, path, 4096, false)
	if n, mapped, err := f.Extent(0); n != 4096 || !mapped || err != nil {
		t.Errorf("Extent: got %d, %t, %v", n, mapped, err)
	}
	if err := f.Resize(8192); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 8192)
	if err := f.Readv([][]byte{got}, 0); err != nil {
		t.Fatal(err)
	}
	if want := append(bytes.Repeat([]byte{1}, 4096), make([]byte, 4096)...); !bytes.Equal(got, want) {
		t.Error("what was beyond the end has come back")
	}
}

func TestNoSpace(t *testing.T) {
	for _, errno := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if err := (&File{}).failed("writing", errno); !errors.Is(err, block.ErrNoSpace) || !errors.Is(err, errno) {
			t.Errorf("%v: got %v", errno, err)
		}
	}
	if err := (&File{}).failed("writing", unix.EIO); errors.Is(err, block.ErrNoSpace) || !errors.Is(err, unix.EIO) {
		t.Errorf("EIO: got %v", err)
	}
	// Offsets past what a file system can have are the full disk of a test without root.
	f := newFile(t, filepath.Join(t.TempDir(), "f"), 4096)
	if err := f.Resize(1<<63 - 512); !errors.Is(err, block.ErrNoSpace) {
		t.Errorf("Resize: got %v, want %v", err, block.ErrNoSpace)
	}
	if err := f.Writev([][]byte{make([]byte, 4096)}, 0); err != nil || f.Size() != 4096 {
		t.Errorf("after a Resize that failed: size %d, %v", f.Size(), err)
	}
}

func TestCloseWaits(t *testing.T) {
	f := newFile(t, filepath.Join(t.TempDir(), "f"), 4096)
	f.io.RLock() // as a call under way does
	closed := make(chan error)
	go func() { closed <- f.Close() }()
	select {
	case err := <-closed:
		t.Errorf("Close returned %v during a call", err)
	case <-time.After(20 * time.Millisecond):
	}
	f.io.RUnlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

func TestAllocations(t *testing.T) {
	for name, dir := range folders(t) {
		f := newFile(t, filepath.Join(dir, "allocations"), 1<<20)
		bufs := [][]byte{make([]byte, 4096), make([]byte, 4096)}
		if err := f.Writev(bufs, 0); err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 2; n++ {
			got := testing.AllocsPerRun(100, func() {
				_, err := f.TryReadv(bufs[:n], 0)
				if err == nil {
					err = f.Readv(bufs[:n], 0)
				}
				if err == nil {
					_, err = f.TryWritev(bufs[:n], 0)
				}
				if err == nil {
					err = f.Writev(bufs[:n], 0)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			if got != 0 {
				t.Errorf("%s: %v allocations for %d buffers", name, got, n)
			}
		}
	}
}

func BenchmarkFile(b *testing.B) {
	const size = 64 << 20
	for name, dir := range folders(b) {
		f := newFile(b, filepath.Join(dir, "f"), size)
		if err := f.Writev([][]byte{make([]byte, size)}, 0); err != nil {
			b.Fatal(err)
		}
		one, two := [][]byte{make([]byte, 4096)}, [][]byte{make([]byte, 2048), make([]byte, 2048)}
		for _, c := range []struct {
			name string
			bufs [][]byte
			call func(bufs [][]byte, offset int64) error
		}{
			{"Readv/1", one, f.Readv},
			{"Readv/2", two, f.Readv},
			{"TryReadv/1", one, func(v [][]byte, at int64) error { _, err := f.TryReadv(v, at); return err }},
			{"Writev/1", one, f.Writev},
			{"Writev/2", two, f.Writev},
			{"Writev/1-unchecked", one, f.writev},
		} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(4096)
				at := int64(0)
				for b.Loop() {
					if err := c.call(c.bufs, at); err != nil {
						b.Fatal(err)
					}
					at = (at + 37*4096) % size
				}
			})
		}
	}
}
