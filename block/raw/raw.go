// Package raw keeps a disk's content in a sparse file.
//
// Whoever else has the file may truncate it. A range that is missing then is an
// error, never zeros: a read finds it by its short count, and a write, which would
// put zeros between the file's end and itself, asks for the file's length before.
package raw

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/nitrino/nitrino/block"
	"golang.org/x/sys/unix"
)

// maxVectors is Linux' IOV_MAX, the most buffers of one system call.
const maxVectors = 1024

// A File is a device in a file. It is safe for many goroutines, and takes any offsets
// and lengths, not only whole sectors.
type File struct {
	name     string
	fd       int
	readOnly bool
	// memory: the file system is the page cache (tmpfs, ramfs), so that reading and
	// writing is copying and never waits.
	memory bool
	// nowait: the file system may know RWF_NOWAIT.
	nowait atomic.Bool
	// solid: the file system has no holes.
	solid atomic.Bool
	size  atomic.Int64

	// io is held by each call to read, by what must be alone to write.
	io     sync.RWMutex
	closed bool

	// asked counts calls of Flush. The field flushed, under flushing, is the last of
	// them that a sync has covered: who waited meanwhile needs none of its own.
	asked    atomic.Uint64
	flushing sync.Mutex
	flushed  uint64
	lost     error // by the first sync that failed
}

// Create makes a sparse file of size bytes, a multiple of block.SectorSize, which
// outlives a loss of power when Create returns. It fails if there is a file at path.
func Create(path string, size int64) error {
	if size <= 0 || size%block.SectorSize != 0 {
		return fmt.Errorf("creating %s: %w: a size of %d bytes", path, block.ErrRange, size)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return NoSpace(err)
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return NoSpace(errors.Join(fmt.Errorf("creating %s: %w", path, err), os.Remove(path)))
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open opens the file at path as a device of size bytes, a multiple of
// block.SectorSize. A file that is shorter fails with block.ErrMedium; what a longer
// one has beyond is not seen.
func Open(path string, size int64, readOnly bool) (*File, error) {
	if size <= 0 || size%block.SectorSize != 0 {
		return nil, fmt.Errorf("opening %s: %w: a size of %d bytes", path, block.ErrRange, size)
	}
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if readOnly {
		flags = unix.O_RDONLY | unix.O_CLOEXEC
	}
	f := &File{name: path, readOnly: readOnly}
	for {
		var err error
		if f.fd, err = unix.Open(path, flags, 0); err == nil {
			break
		} else if err != unix.EINTR {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
	var system unix.Statfs_t
	err := unix.Fstatfs(f.fd, &system)
	if err == nil {
		f.memory = system.Type == unix.TMPFS_MAGIC || system.Type == unix.RAMFS_MAGIC
		f.nowait.Store(!f.memory)
		f.size.Store(size)
		err = f.whole()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), unix.Close(f.fd))
	}
	return f, nil
}

// NoSpace has the system's errors of a full file system be block.ErrNoSpace too.
func NoSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w: %w", block.ErrNoSpace, err)
	}
	return err
}

func (f *File) failed(doing string, err error) error {
	return NoSpace(fmt.Errorf("%s %s: %w", doing, f.name, err))
}

// whole fails if the file has become shorter than it has to be. To seek is the
// cheapest way to ask; nothing here uses the file's position.
func (f *File) whole() error {
	length, err := unix.Seek(f.fd, 0, unix.SEEK_END)
	if err != nil {
		return err
	}
	if size := f.size.Load(); length < size {
		return fmt.Errorf("%w: the file has %d of %d bytes", block.ErrMedium, length, size)
	}
	return nil
}

// Size is the length in bytes.
func (f *File) Size() int64 { return f.size.Load() }

// enter is nil if a call may go on, which unlocks io then.
func (f *File) enter(writes bool) error {
	f.io.RLock()
	err := f.may(writes)
	if err != nil {
		f.io.RUnlock()
	}
	return err
}

func (f *File) may(writes bool) error {
	switch {
	case f.closed:
		return block.ErrClosed
	case !writes:
		return nil
	case f.readOnly:
		return block.ErrReadOnly
	}
	if err := f.whole(); err != nil {
		return f.failed("writing", err)
	}
	return nil
}

// Readv fills bufs, one after another, from offset on.
func (f *File) Readv(bufs [][]byte, offset int64) error {
	if err := f.enter(false); err != nil {
		return err
	}
	defer f.io.RUnlock()
	return f.readv(bufs, offset)
}

func (f *File) readv(bufs [][]byte, offset int64) error {
	for bufs = after(bufs, 0); len(bufs) > 0; {
		var n int
		var err error
		if len(bufs) == 1 {
			n, err = unix.Pread(f.fd, bufs[0], offset)
		} else {
			n, err = unix.Preadv(f.fd, bufs[:min(len(bufs), maxVectors)], offset)
		}
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return f.failed("reading", err)
		case n == 0:
			return f.failed("reading", fmt.Errorf("%w: the file ends at %d", block.ErrMedium, offset))
		}
		bufs, offset = after(bufs, n), offset+int64(n)
	}
	return nil
}

// Writev writes bufs, one after another, from offset on.
func (f *File) Writev(bufs [][]byte, offset int64) error {
	if err := f.enter(true); err != nil {
		return err
	}
	defer f.io.RUnlock()
	return f.writev(bufs, offset)
}

func (f *File) writev(bufs [][]byte, offset int64) error {
	for bufs = after(bufs, 0); len(bufs) > 0; {
		var n int
		var err error
		if len(bufs) == 1 {
			n, err = unix.Pwrite(f.fd, bufs[0], offset)
		} else {
			n, err = unix.Pwritev(f.fd, bufs[:min(len(bufs), maxVectors)], offset)
		}
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return f.failed("writing", err)
		case n == 0:
			return f.failed("writing", unix.EIO) // it would go on for ever
		}
		bufs, offset = after(bufs, n), offset+int64(n)
	}
	return nil
}

// after is what remains of bufs after n bytes, without empty ones before it. The
// list is shared where that can be, and never changed.
func after(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n == 0 {
		return bufs
	}
	rest := append([][]byte(nil), bufs...)
	rest[0] = rest[0][n:]
	return rest
}

// TryReadv is Readv where nothing has to be waited for.
func (f *File) TryReadv(bufs [][]byte, offset int64) (done bool, err error) {
	if !f.memory && !f.nowait.Load() || len(bufs) > maxVectors || !f.io.TryRLock() {
		return false, nil
	}
	defer f.io.RUnlock()
	if f.closed {
		return false, nil
	}
	if f.memory { // which does not know RWF_NOWAIT
		return true, f.readv(bufs, offset)
	}
	n, err := unix.Preadv2(f.fd, bufs, offset, unix.RWF_NOWAIT)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		f.nowait.Store(false)
	}
	// A short count is what the page cache had. All else that hinders, Readv finds.
	return err == nil && int64(n) == block.Length(bufs), nil
}

// TryWritev is Writev where nothing has to be waited for.
func (f *File) TryWritev(bufs [][]byte, offset int64) (done bool, err error) {
	if !f.memory || !f.io.TryRLock() {
		return false, nil
	}
	defer f.io.RUnlock()
	if f.may(true) != nil {
		return false, nil // Writev says why
	}
	return true, f.writev(bufs, offset)
}

// Flush returns when all that was written before outlives a loss of power. Once it
// has failed it does so for good, until the file is opened again: the kernel has
// given up what it could not write, and would tell nobody at the next sync.
func (f *File) Flush() error {
	if err := f.enter(false); err != nil {
		return err
	}
	defer f.io.RUnlock()
	if f.readOnly {
		return nil
	}
	mine := f.asked.Add(1)
	f.flushing.Lock()
	defer f.flushing.Unlock()
	if f.lost != nil {
		return f.lost
	}
	if f.flushed >= mine {
		return nil
	}
	covers := f.asked.Load()
	if err := again(func() error { return unix.Fdatasync(f.fd) }); err != nil {
		f.lost = f.failed("syncing", err)
		return f.lost
	}
	f.flushed = covers
	return nil
}

// again calls until no signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// Discard gives a range back to the file system; it reads as zeros then.
func (f *File) Discard(offset, length int64) error {
	return f.clear(offset, length, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
}

// WriteZeroes clears a range. If keep is set it has room then.
func (f *File) WriteZeroes(offset, length int64, keep bool) error {
	if !keep {
		return f.Discard(offset, length)
	}
	return f.clear(offset, length, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE)
}

func (f *File) clear(offset, length int64, mode uint32) error {
	if length == 0 {
		return nil // which fallocate refuses
	}
	if err := f.enter(true); err != nil {
		return err
	}
	defer f.io.RUnlock()
	err := again(func() error { return unix.Fallocate(f.fd, mode, offset, length) })
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS {
		if mode&unix.FALLOC_FL_PUNCH_HOLE != 0 {
			f.solid.Store(true)
		}
		return f.zero(offset, length)
	}
	if err != nil {
		return f.failed("clearing", err)
	}
	return nil
}

// zero writes zeros.
func (f *File) zero(offset, length int64) error {
	zeros := make([]byte, min(length, 64<<10))
	for length > 0 {
		var bufs [][]byte
		n := min(length, 1<<20)
		for left := n; left > 0; {
			b := zeros[:min(left, int64(len(zeros)))]
			bufs, left = append(bufs, b), left-int64(len(b))
		}
		if err := f.writev(bufs, offset); err != nil {
			return err
		}
		offset, length = offset+n, length-n
	}
	return nil
}

// Extent tells whether the bytes at offset take room, and how many bytes the answer
// holds for.
func (f *File) Extent(offset int64) (length int64, mapped bool, err error) {
	if err := f.enter(false); err != nil {
		return 0, false, err
	}
	defer f.io.RUnlock()
	if err := f.whole(); err != nil {
		return 0, false, f.failed("reading", err)
	}
	size := f.size.Load()
	data, err := unix.Seek(f.fd, offset, unix.SEEK_DATA)
	if err == unix.ENXIO { // there is none up to the end
		return size - offset, false, nil
	}
	if err != nil {
		return 0, false, f.failed("reading", err)
	}
	// Where the file system's blocks are no whole sectors, data wins.
	if hole := (min(data, size) - offset) &^ (block.SectorSize - 1); hole > 0 {
		return hole, false, nil
	}
	end, err := unix.Seek(f.fd, max(data, offset), unix.SEEK_HOLE)
	if err != nil {
		return 0, false, f.failed("reading", err)
	}
	end = (end + block.SectorSize - 1) &^ (block.SectorSize - 1)
	return min(end, size) - offset, true, nil
}

// Resize changes the size, and returns when that outlives a loss of power. What is
// new reads as zeros, whatever the file had there.
func (f *File) Resize(size int64) error {
	if size <= 0 || size%block.SectorSize != 0 {
		return fmt.Errorf("%s: %w: a size of %d bytes", f.name, block.ErrRange, size)
	}
	f.io.Lock()
	defer f.io.Unlock()
	if err := f.may(true); err != nil {
		return err
	}
	for _, length := range []int64{min(f.size.Load(), size), size} {
		if err := again(func() error { return unix.Ftruncate(f.fd, length) }); err != nil {
			return f.failed("resizing", err)
		}
	}
	if err := again(func() error { return unix.Fsync(f.fd) }); err != nil {
		return f.failed("syncing", err)
	}
	f.size.Store(size)
	return nil
}

// CanDiscard tells whether Discard gives room back: whether the file system knows
// holes, as far as anybody has tried.
func (f *File) CanDiscard() bool { return !f.solid.Load() }

// Used is what the file takes on its file system, in bytes.
func (f *File) Used() (int64, error) {
	if err := f.enter(false); err != nil {
		return 0, err
	}
	defer f.io.RUnlock()
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, f.failed("reading", err)
	}
	return st.Blocks * 512, nil
}

// Close waits for the calls under way and closes the file.
func (f *File) Close() error {
	f.io.Lock()
	defer f.io.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if err := unix.Close(f.fd); err != nil && err != unix.EINTR { // the descriptor is gone in either case
		return f.failed("closing", err)
	}
	return nil
}
