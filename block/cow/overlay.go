package cow

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/nitrino/nitrino/block"
)

// Options are of an overlay that is opened.
type Options struct {
	// Base is what shows where the overlay has nothing of its own; beyond its size,
	// and without one, are zeros. It is only read, and belongs to the caller; it may
	// stand below other overlays too.
	Base block.Device
	// Size is the volume's, in bytes. Files that are of a smaller one are damaged;
	// larger ones, as of a growth that was not noted, are cut off.
	Size int64
	// ReadOnly: nothing is written, not even the files.
	ReadOnly bool
	// BootID is the running kernel's, which tells whether its page cache has seen all
	// that was written.
	BootID string
	// Report is told of each error of the overlay's own files, by whoever met it; may be nil.
	Report func(error)
}

// An Overlay is a device. It is safe for many goroutines. No two may have the same
// files open at once, unless for reading only.
type Overlay struct {
	files    files
	readOnly bool
	bootID   string
	report   func(error)

	// io is held by each call to read, by what must be alone to write.
	io     sync.RWMutex
	closed bool
	base   block.Device
	prompt block.Prompt // the base, where it is one
	head   header
	size   atomic.Int64 // of head
	bits   bitmap
	data   file
	own    file // the map

	// beginning is held by who begins the live file, or a page of the bitmap.
	// live is nil until begin has made the file what the bits are.
	beginning sync.Mutex
	live      atomic.Pointer[file]

	// words are the locks of the bitmap's words, each of every 64th.
	words [64]sync.Mutex
	pool  sync.Pool // of *scratch

	// As in a raw.File.
	asked    atomic.Uint64
	flushing sync.Mutex
	flushed  uint64
	synced   bool // the map was, since it was opened
}

// A scratch is what a call needs for a while.
type scratch struct {
	bufs       [][]byte
	one        [1][]byte
	word       [8]byte
	head, tail [clusterSize]byte
}

// Open opens an overlay that Create made.
func Open(path string, o Options) (*Overlay, error) {
	v, err := open(prefix(path), o)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return v, nil
}

func open(all files, o Options) (*Overlay, error) {
	if !validSize(o.Size) {
		return nil, fmt.Errorf("%w: a size of %d bytes", block.ErrRange, o.Size)
	}
	if len(o.BootID) > bootIDLen {
		return nil, fmt.Errorf("a boot ID of %d bytes", len(o.BootID))
	}
	head, err := readHeader(all, mapFile, mapMagic)
	if err != nil {
		return nil, err
	}
	if head.size < o.Size {
		return nil, fmt.Errorf("%w: the files are of %d bytes, not of %d", block.ErrMedium, head.size, o.Size)
	}
	v := &Overlay{files: all, readOnly: o.ReadOnly, bootID: o.BootID, report: o.Report, head: head}
	v.pool.New = func() any { return new(scratch) }
	v.setBase(o.Base)
	if err := v.load(); err != nil {
		return nil, errors.Join(err, v.closeFiles())
	}
	switch {
	case head.size == o.Size:
	case o.ReadOnly:
		v.crop(o.Size)
	default:
		err = v.resize(o.Size)
	}
	if err != nil {
		return nil, errors.Join(err, v.closeFiles())
	}
	return v, nil
}

func readHeader(all files, suffix, magic string) (header, error) {
	f, err := all.open(suffix, headerSize, true)
	if err != nil {
		return header{}, err
	}
	b := make([]byte, headerSize)
	if err := errors.Join(f.Readv([][]byte{b}, 0), f.Close()); err != nil {
		return header{}, err
	}
	return decodeHeader(b, magic)
}

// load opens the files and reads the bits.
func (o *Overlay) load() error {
	size := o.head.size
	o.size.Store(size)
	o.bits.resize(clustersOf(size))
	var err error
	if o.own, err = o.files.open(mapFile, mapLength(size), o.readOnly); err != nil {
		return err
	}
	if o.data, err = o.files.open(dataFile, size, o.readOnly); err != nil {
		return err
	}
	if err := o.loadMap(); err != nil {
		return err
	}
	live, err := readHeader(o.files, liveFile, liveMagic)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, block.ErrMedium): // none, or not begun
		return nil
	case err != nil:
		return err
	case live.bootID != o.bootID || live.generation != o.head.generation:
		return nil
	}
	f, err := o.files.open(liveFile, liveLength(size), o.readOnly)
	if err != nil {
		return err
	}
	o.live.Store(&f)
	return o.loadLive(f)
}

func (o *Overlay) loadMap() error {
	clusters := clustersOf(o.head.size)
	b := make([]byte, pageSectors*block.SectorSize)
	for first, count := int64(0), sectorsOf(o.head.size); first < count; first += pageSectors {
		b = b[:min(count-first, pageSectors)*block.SectorSize]
		if err := o.own.Readv([][]byte{b}, sectorAt(first)); err != nil {
			return err
		}
		for i := range int64(len(b) / block.SectorSize) {
			if err := o.bits.load(first+i, b[i*block.SectorSize:][:block.SectorSize], clusters); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadLive adds the bits that the map does not have yet.
func (o *Overlay) loadLive(f file) error {
	clusters := clustersOf(o.head.size)
	return o.eachLive(f, func(word int64, b []byte) error {
		for ; len(b) > 0; word, b = word+1, b[8:] {
			set := binary.LittleEndian.Uint64(b) & valid(word, clusters) &^ o.bits.word(word)
			if set != 0 {
				o.bits.addPage(word)
				o.bits.add(word, set, true)
			}
		}
		return nil
	})
}

// eachLive calls do with each page's words of the live file, the first of which is
// number word.
func (o *Overlay) eachLive(f file, do func(word int64, b []byte) error) error {
	b := make([]byte, pageWords*8)
	for word, count := int64(0), sectorsOf(o.head.size)*sectorWords; word < count; word += pageWords {
		b = b[:min(count-word, pageWords)*8]
		if err := f.Readv([][]byte{b}, wordAt(word)); err != nil {
			return err
		}
		if err := do(word, b); err != nil {
			return err
		}
	}
	return nil
}

// begin makes the live file what the bits are, which are those of the map.
func (o *Overlay) begin() error {
	if o.live.Load() != nil {
		return nil
	}
	o.beginning.Lock()
	defer o.beginning.Unlock()
	if o.live.Load() != nil {
		return nil
	}
	length := liveLength(o.head.size)
	if err := o.files.lengthen(liveFile, length); err != nil {
		return err
	}
	f, err := o.files.open(liveFile, length, false)
	if err != nil {
		return err
	}
	if err := o.rewrite(f); err != nil {
		return errors.Join(err, f.Close())
	}
	o.live.Store(&f)
	return nil
}

func (o *Overlay) rewrite(f file) error {
	if err := f.Writev([][]byte{make([]byte, headerSize)}, 0); err != nil {
		return err
	}
	// Only what differs is written: on a full card there may be room for no more.
	err := o.eachLive(f, func(word int64, b []byte) error {
		var differs uint64
		for i := range int64(len(b) / 8) {
			w := o.bits.word(word + i)
			differs |= binary.LittleEndian.Uint64(b[i*8:]) ^ w
			binary.LittleEndian.PutUint64(b[i*8:], w)
		}
		if differs == 0 {
			return nil
		}
		return f.Writev([][]byte{b}, wordAt(word))
	})
	if err != nil {
		return err
	}
	h := o.head
	h.bootID = o.bootID
	return f.Writev([][]byte{h.encode(liveMagic)}, 0)
}

func newGeneration() (g [16]byte) {
	_, _ = rand.Read(g[:]) // which never fails
	return g
}

func (o *Overlay) setBase(base block.Device) {
	o.base = base
	o.prompt, _ = base.(block.Prompt)
}

// tell passes on an error of the overlay's own files.
func (o *Overlay) tell(err error) error {
	if err != nil && o.report != nil {
		o.report(err)
	}
	return err
}

// enter is nil if a call may go on, which unlocks io then.
func (o *Overlay) enter(writes bool) error {
	o.io.RLock()
	err := o.may(writes)
	if err != nil {
		o.io.RUnlock()
	}
	return err
}

func (o *Overlay) may(writes bool) error {
	switch {
	case o.closed:
		return block.ErrClosed
	case writes && o.readOnly:
		return block.ErrReadOnly
	}
	return nil
}

// Size is the length in bytes.
func (o *Overlay) Size() int64 { return o.size.Load() }

// Used is what the overlay's files take on their file system, in bytes.
func (o *Overlay) Used() (int64, error) {
	if err := o.enter(false); err != nil {
		return 0, err
	}
	defer o.io.RUnlock()
	all := []file{o.data, o.own}
	if live := o.live.Load(); live != nil {
		all = append(all, *live)
	}
	var sum int64
	for _, f := range all {
		n, err := f.Used()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// Rebase goes on with another base, on which the overlay has to read the same.
func (o *Overlay) Rebase(base block.Device) {
	o.io.Lock()
	defer o.io.Unlock()
	o.setBase(base)
}

// Close waits for the calls under way and closes the files, but not the base.
func (o *Overlay) Close() error {
	o.io.Lock()
	defer o.io.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	return o.closeFiles()
}

func (o *Overlay) closeFiles() error {
	var errs []error
	if live := o.live.Swap(nil); live != nil {
		errs = append(errs, (*live).Close())
	}
	for _, f := range []file{o.data, o.own} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
