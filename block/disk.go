package block

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// An Identity is what a host sees a disk by.
type Identity struct {
	// Name is the volume's.
	Name string
	// UUID is the disk's for as long as it lives; serial numbers and names of
	// hardware are made of it.
	UUID [16]byte
	// BlockSize is that of a logical block, 512 or 4096; PhysicalSize what the
	// storage writes at best at once, at least BlockSize. Both in bytes, powers of
	// two.
	BlockSize, PhysicalSize int
	// ReadOnly: writes fail with ErrReadOnly.
	ReadOnly bool
}

// A Change is what happened to a disk while it was in use.
type Change int

const (
	// Resized: Size answers differently.
	Resized Change = iota
	// Replaced: the contents are other ones, as after going back to a snapshot.
	Replaced
)

// Counts are what a Disk has done since it was opened.
type Counts struct {
	Reads, Writes, Flushes, Discards uint64
	ReadBytes, WrittenBytes          uint64
	Errors                           uint64
}

// A Disk is a device that is in use by exporters, of which there may be several at
// once. It checks ranges, holds what must not happen at the same moment apart, and
// lets its device be exchanged. It is safe for many goroutines.
type Disk struct {
	id Identity

	// io is held by each operation to read, by what must be alone to write.
	io      sync.RWMutex
	device  Device
	prompt  Prompt // the device, where it is one
	closed  bool
	size    atomic.Int64
	reads   atomic.Uint64
	writes  atomic.Uint64
	flushes atomic.Uint64
	drops   atomic.Uint64
	in, out atomic.Uint64
	failed  atomic.Uint64
	solid   atomic.Bool // what CanDiscard found last

	mu    sync.Mutex
	watch map[*func(Change)]struct{}
}

// NewDisk puts a device to use. The device belongs to the disk then.
func NewDisk(id Identity, d Device) (*Disk, error) {
	switch {
	case id.BlockSize != SectorSize && id.BlockSize != 4096:
		return nil, fmt.Errorf("volume %s: blocks of %d bytes", id.Name, id.BlockSize)
	case id.PhysicalSize < id.BlockSize || id.PhysicalSize&(id.PhysicalSize-1) != 0:
		return nil, fmt.Errorf("volume %s: physical blocks of %d bytes", id.Name, id.PhysicalSize)
	case d.Size() <= 0 || d.Size()%int64(id.BlockSize) != 0:
		return nil, fmt.Errorf("volume %s: %d bytes are no whole blocks of %d", id.Name, d.Size(), id.BlockSize)
	}
	k := &Disk{id: id, watch: make(map[*func(Change)]struct{})}
	k.put(d)
	return k, nil
}

func (k *Disk) put(d Device) {
	k.device = d
	k.prompt, _ = d.(Prompt)
	k.size.Store(d.Size())
}

// Identity is what the disk is known by.
func (k *Disk) Identity() Identity { return k.id }

// Size is the length in bytes, whole blocks.
func (k *Disk) Size() int64 { return k.size.Load() }

// Counts tells what the disk has done.
func (k *Disk) Counts() Counts {
	return Counts{
		Reads: k.reads.Load(), Writes: k.writes.Load(), Flushes: k.flushes.Load(), Discards: k.drops.Load(),
		ReadBytes: k.in.Load(), WrittenBytes: k.out.Load(), Errors: k.failed.Load(),
	}
}

// Watch has f called after each change, from the goroutine that makes it, until
// stop is called; f must not call the disk's Exchange, Resize or Close.
func (k *Disk) Watch(f func(Change)) (stop func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watch[&f] = struct{}{}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watch, &f)
	}
}

func (k *Disk) tell(c Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for f := range k.watch {
		(*f)(c)
	}
}

// check is nil for a range of whole blocks within the disk. The caller holds io.
func (k *Disk) check(offset, length int64) error {
	size, block := k.size.Load(), int64(k.id.BlockSize)
	switch {
	case k.closed:
		return ErrClosed
	case offset < 0 || length < 0 || offset > size || length > size-offset || offset%block != 0 || length%block != 0:
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrRange, length, offset, size)
	}
	return nil
}

// done counts what fails; io.EOF from a device is no end of data that a host could
// understand.
func (k *Disk) done(err error) error {
	if err == nil {
		return nil
	}
	k.failed.Add(1)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", ErrMedium, err)
	}
	return err
}

// Readv fills bufs from offset on.
func (k *Disk) Readv(bufs [][]byte, offset int64) error {
	k.io.RLock()
	defer k.io.RUnlock()
	return k.readv(bufs, offset)
}

func (k *Disk) readv(bufs [][]byte, offset int64) error {
	n := Length(bufs)
	if err := k.check(offset, n); err != nil || n == 0 {
		return err
	}
	k.reads.Add(1)
	k.in.Add(uint64(n))
	return k.done(k.device.Readv(bufs, offset))
}

// Writev writes bufs from offset on; through has it outlive a loss of power before
// it returns (FUA).
func (k *Disk) Writev(bufs [][]byte, offset int64, through bool) error {
	k.io.RLock()
	defer k.io.RUnlock()
	return k.writev(bufs, offset, through)
}

func (k *Disk) writev(bufs [][]byte, offset int64, through bool) error {
	n := Length(bufs)
	if err := k.writable(offset, n); err != nil || n == 0 {
		return err
	}
	k.writes.Add(1)
	k.out.Add(uint64(n))
	err := k.device.Writev(bufs, offset)
	if err == nil && through {
		err = k.device.Flush()
	}
	return k.done(err)
}

func (k *Disk) writable(offset, length int64) error {
	if err := k.check(offset, length); err != nil {
		return err
	}
	if k.id.ReadOnly {
		return ErrReadOnly
	}
	return nil
}

// TryReadv is Readv where nothing has to be waited for; else done is false, and
// nothing has happened.
func (k *Disk) TryReadv(bufs [][]byte, offset int64) (done bool, err error) {
	if !k.io.TryRLock() {
		return false, nil
	}
	defer k.io.RUnlock()
	n := Length(bufs)
	if k.prompt == nil || n == 0 || k.check(offset, n) != nil {
		return false, nil
	}
	if done, err = k.prompt.TryReadv(bufs, offset); done {
		k.reads.Add(1)
		k.in.Add(uint64(n))
		err = k.done(err)
	}
	return done, err
}

// TryWritev is Writev, not through, where nothing has to be waited for; else done
// is false, and nothing has happened.
func (k *Disk) TryWritev(bufs [][]byte, offset int64) (done bool, err error) {
	if !k.io.TryRLock() {
		return false, nil
	}
	defer k.io.RUnlock()
	n := Length(bufs)
	if k.prompt == nil || n == 0 || k.writable(offset, n) != nil {
		return false, nil
	}
	if done, err = k.prompt.TryWritev(bufs, offset); done {
		k.writes.Add(1)
		k.out.Add(uint64(n))
		err = k.done(err)
	}
	return done, err
}

// Flush returns when all that was written before outlives a loss of power.
func (k *Disk) Flush() error {
	k.io.RLock()
	defer k.io.RUnlock()
	if k.closed {
		return ErrClosed
	}
	k.flushes.Add(1)
	return k.done(k.device.Flush())
}

// Discard gives up what a range holds; it reads as zeros then.
func (k *Disk) Discard(offset, length int64) error {
	k.io.RLock()
	defer k.io.RUnlock()
	if err := k.writable(offset, length); err != nil || length == 0 {
		return err
	}
	k.drops.Add(1)
	return k.done(k.device.Discard(offset, length))
}

// CanDiscard tells whether Discard gives up room, rather than to write zeros. It never
// waits: while the device is being exchanged the answer is the last one.
func (k *Disk) CanDiscard() bool {
	if k.io.TryRLock() {
		d, ok := k.device.(Discarder)
		k.solid.Store(ok && !d.CanDiscard())
		k.io.RUnlock()
	}
	return !k.solid.Load()
}

// WriteZeroes clears a range, as Device says.
func (k *Disk) WriteZeroes(offset, length int64, keep bool) error {
	k.io.RLock()
	defer k.io.RUnlock()
	if err := k.writable(offset, length); err != nil || length == 0 {
		return err
	}
	k.writes.Add(1)
	return k.done(k.device.WriteZeroes(offset, length, keep))
}

// Extent tells what takes room, as Device says, in whole blocks.
func (k *Disk) Extent(offset int64) (length int64, mapped bool, err error) {
	k.io.RLock()
	defer k.io.RUnlock()
	block := int64(k.id.BlockSize)
	if err := k.check(offset, block); err != nil {
		return 0, false, err
	}
	length, mapped, err = k.device.Extent(offset)
	if err != nil {
		return 0, false, k.done(err)
	}
	if whole := length &^ (block - 1); whole > 0 {
		return whole, mapped, nil
	}
	return block, true, nil // a block that is there in part
}

// An Alone is a Disk during Atomically: its methods are the disk's.
type Alone struct{ k *Disk }

// Readv is Disk.Readv.
func (a Alone) Readv(bufs [][]byte, offset int64) error { return a.k.readv(bufs, offset) }

// Writev is Disk.Writev.
func (a Alone) Writev(bufs [][]byte, offset int64, through bool) error {
	return a.k.writev(bufs, offset, through)
}

// Atomically calls f while nobody else reads or writes.
func (k *Disk) Atomically(f func(Alone) error) error {
	k.io.Lock()
	defer k.io.Unlock()
	return f(Alone{k})
}

// Exchange calls f while nobody reads or writes, and goes on with the device that
// it returns; the disk does not close the one before. If the contents are other
// ones, watchers are told by Replaced, and by Resized if the size is another. If f
// fails nothing has changed.
func (k *Disk) Exchange(f func(Device) (next Device, replaced bool, err error)) error {
	k.io.Lock()
	if k.closed {
		k.io.Unlock()
		return ErrClosed
	}
	was := k.size.Load()
	next, replaced, err := f(k.device)
	if err == nil {
		k.put(next)
	}
	k.io.Unlock()
	if err != nil {
		return err
	}
	if replaced {
		k.tell(Replaced)
	}
	if k.size.Load() != was {
		k.tell(Resized)
	}
	return nil
}

// Resize changes the size, in bytes, and tells the watchers.
func (k *Disk) Resize(size int64) error {
	if size <= 0 || size%int64(k.id.BlockSize) != 0 {
		return fmt.Errorf("%w: a size of %d bytes", ErrRange, size)
	}
	return k.Exchange(func(d Device) (Device, bool, error) {
		r, ok := d.(Resizer)
		if !ok {
			return nil, false, fmt.Errorf("the size cannot change: %w", errors.ErrUnsupported)
		}
		return d, false, r.Resize(size)
	})
}

// Close waits for what is under way and closes the device; all else fails with
// ErrClosed from then on.
func (k *Disk) Close() error {
	k.io.Lock()
	defer k.io.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	return k.device.Close()
}
