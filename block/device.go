// Package block has the disks that a board serves to its host: what a device is,
// and the Disk that exporters share. The kinds of devices are packages below it
// (raw, cow, nbd), as are the exporters (iscsi); package volume keeps the named
// volumes.
package block

import "errors"

// SectorSize is the unit of all sizes and offsets, in bytes. A disk's logical
// blocks are one or eight of them.
const SectorSize = 512

// A Device is a disk's content. Its methods are called from many goroutines, also
// for overlapping ranges; offsets and lengths are in bytes, multiples of
// SectorSize, and within Size (a Disk sees to that). A method that has returned an
// error may have done its work in part.
//
// A write that has returned outlives the process that made it, whatever kills it;
// one that a Flush came after outlives a loss of power.
type Device interface {
	// Size is the length in bytes.
	Size() int64
	// Readv fills bufs, one after another, from offset on.
	Readv(bufs [][]byte, offset int64) error
	// Writev writes bufs, one after another, from offset on. Neither it nor Readv
	// keeps or changes the list.
	Writev(bufs [][]byte, offset int64) error
	// Flush returns when every write, discard and clearing that had returned
	// before it began outlives a loss of power.
	Flush() error
	// Discard gives up what a range holds; it reads as zeros then.
	Discard(offset, length int64) error
	// WriteZeroes clears a range. If keep is set the room for it is allocated, so
	// that a later write there does not fail for want of room, where the device can.
	WriteZeroes(offset, length int64, keep bool) error
	// Extent tells whether the bytes at offset take room, and how many bytes from
	// there on the answer holds for (at least one sector, within Size). What takes
	// no room reads as zeros.
	Extent(offset int64) (length int64, mapped bool, err error)
	// Close gives up the device after the calls under way. It does not flush.
	Close() error
}

// A Prompt is a Device that often need not wait for anything. Its methods never
// block; where done is false they have done nothing, and the caller asks again by
// Readv or Writev in a goroutine that may wait.
type Prompt interface {
	TryReadv(bufs [][]byte, offset int64) (done bool, err error)
	TryWritev(bufs [][]byte, offset int64) (done bool, err error)
}

// A Resizer is a Device whose size can change. What is new reads as zeros; a
// device that cannot shrink says so by errors.ErrUnsupported.
type Resizer interface {
	Resize(size int64) error
}

// A Discarder is a Device that may be unable to give up room: if CanDiscard is
// false its Discard writes zeros. Other devices can.
type Discarder interface {
	CanDiscard() bool
}

// What devices fail with, besides errors.ErrUnsupported, and the system's errors
// for a disk that fails.
var (
	// ErrNoSpace: there is no room to write. What was there before is unharmed.
	ErrNoSpace = errors.New("no space left for the volume")
	// ErrReadOnly: nothing may be written.
	ErrReadOnly = errors.New("the volume is read-only")
	// ErrMedium: a range cannot be read, as it is not where it should be. Zeros are
	// never given instead.
	ErrMedium = errors.New("the volume's data is damaged")
	// ErrRange: a range is not within the device, or not in whole sectors.
	ErrRange = errors.New("outside the volume")
	// ErrGone: what the device stands on cannot be reached.
	ErrGone = errors.New("the volume's storage cannot be reached")
	// ErrClosed: the device was closed.
	ErrClosed = errors.New("the volume is closed")
)

// Length adds up the lengths of bufs.
func Length(bufs [][]byte) int64 {
	var n int64
	for _, b := range bufs {
		n += int64(len(b))
	}
	return n
}

// Cut appends to dst the part of bufs that begins at byte from and is n bytes
// long; the bytes are shared, not copied.
func Cut(dst, bufs [][]byte, from, n int64) [][]byte {
	for _, b := range bufs {
		if n <= 0 {
			break
		}
		if from >= int64(len(b)) {
			from -= int64(len(b))
			continue
		}
		b = b[from:]
		from = 0
		b = b[:min(n, int64(len(b)))]
		dst = append(dst, b)
		n -= int64(len(b))
	}
	return dst
}
