package flash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/internal/progress"
)

// chunk is how much is read and written at once: a multiple of every sector and
// page, the erase block of few cards.
const chunk = 1 << 20

// Write puts the image, whose size is a multiple of 512 bytes, onto the device at
// path, and reads it back from the medium to compare. It refuses what Find
// refuses, and then has written nothing. It shows its progress on out.
//
// Blocks of zeros are written only where the device does not hold zeros after it
// was told to discard everything. The partition table comes last: a card that
// was pulled out half-way has none.
func (s System) Write(ctx context.Context, path string, image *os.File, out io.Writer) error {
	info, err := image.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err != nil {
		return err
	} else if os.SameFile(info, there) {
		return fmt.Errorf("%s: %w", path, ErrImage)
	}
	size := info.Size()
	if size == 0 || size%512 != 0 {
		return fmt.Errorf("%s: %d bytes are not whole sectors", image.Name(), size)
	}
	d, err := s.Find(path, size)
	if err != nil {
		return err
	}
	f, err := open(d)
	if err != nil {
		return err
	}
	wrote := progress.Start(out, "writing "+d.Path, size, "B")
	sum, err := write(ctx, f, image, size, wrote)
	if err == nil {
		err = f.Sync()
	}
	wrote.Done(err)
	if err == nil {
		read := progress.Start(out, "verifying "+d.Path, size, "B")
		err = verify(ctx, d, size, sum, read)
		read.Done(err)
	}
	if err == nil {
		// The card is right even where this system's view of it stays the old one,
		// as with drivers that know no partitions.
		_ = unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0)
	}
	return errors.Join(err, f.Close())
}

// open opens the device that was looked at, for nobody else: the kernel answers
// EBUSY while it or a partition is mounted or part of something, and nobody can
// mount it while it is open.
func open(d Device) (*os.File, error) {
	f, err := os.OpenFile(d.Path, os.O_RDWR|os.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s: %w", d.Path, ErrInUse)
	} else if err != nil {
		return nil, err
	}
	if err := same(f, d); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// same makes sure that the path still leads to the device that was looked at.
func same(f *os.File, d Device) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", d.Path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || uint64(st.Rdev) != d.number {
		return fmt.Errorf("%s: %w: it was exchanged", d.Path, ErrNotDevice)
	}
	return nil
}

// write copies the image and returns its hash.
func write(ctx context.Context, f, image *os.File, size int64, m *progress.Meter) (sum []byte, err error) {
	// Discarding is a favour that many devices do not do; what they then hold is
	// read below.
	span := [2]uint64{0, uint64(size)}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span[0])))

	hash := sha256.New()
	head := make([]byte, min(chunk, size))
	if _, err := image.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("reading the image: %w", err)
	}
	hash.Write(head) // a hash never fails
	if _, err := f.WriteAt(make([]byte, len(head)), 0); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	m.Set(int64(len(head)))
	block, zeros, old := make([]byte, chunk), make([]byte, chunk), make([]byte, chunk)
	for at := int64(len(head)); at < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(chunk, size-at)
		if _, err := image.ReadAt(block[:n], at); err != nil {
			return nil, fmt.Errorf("reading the image: %w", err)
		}
		hash.Write(block[:n])
		needed := true
		if bytes.Equal(block[:n], zeros[:n]) {
			if _, err := f.ReadAt(old[:n], at); err != nil {
				return nil, err
			}
			needed = !bytes.Equal(old[:n], zeros[:n])
		}
		if needed {
			if _, err := f.WriteAt(block[:n], at); err != nil {
				return nil, err
			}
			// At once, so that the progress is that of the card and not of memory.
			if err := unix.SyncFileRange(int(f.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WAIT_AFTER); err != nil {
				return nil, err
			}
		}
		at += n
		m.Set(at)
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(head, 0); err != nil {
		return nil, err
	}
	return hash.Sum(nil), nil
}

// errDiffers says that the medium does not hold what was written.
var errDiffers = errors.New("what was read back is not what was written: the card is bad")

// verify reads the medium itself, past the page cache (O_DIRECT), and compares.
func verify(ctx context.Context, d Device, size int64, want []byte, m *progress.Meter) (err error) {
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := same(f, d); err != nil {
		return err
	}
	// Direct reads go to whole pages.
	block, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(block)) }()
	hash := sha256.New()
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunk, size-at)
		if _, err := f.ReadAt(block[:n], at); err != nil {
			return err
		}
		hash.Write(block[:n])
		at += n
		m.Set(at)
	}
	if !bytes.Equal(hash.Sum(nil), want) {
		return fmt.Errorf("%s: %w", d.Path, errDiffers)
	}
	return nil
}
