package cow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/nitrino/nitrino/block"
)

// A card keeps files as storage does behind a page cache: until a file is synced it
// may have, of each sector, any version since the last sync.
type card struct {
	rnd   *rand.Rand
	files map[string]*stored
	// left operations, and the machine is off. full: one in so many writes finds no
	// room, 0 for none.
	left, full int
	off        bool
}

var errOff = errors.New("the machine is off")

// A version is what a sector has at one time; nil is zeros.
type version = *[block.SectorSize]byte

// stored is a file. A sector that is in neither is zeros.
type stored struct {
	cache   map[int64]version
	durable map[int64]version
	pending map[int64][]version
	length  int64
	lengths []int64 // since the last sync, the one at that time first
}

func newCard(rnd *rand.Rand) *card { return &card{rnd: rnd, files: make(map[string]*stored)} }

// step is an operation: whether it happens, or only begins to.
func (c *card) step() error {
	if c.left--; c.left == 0 {
		c.off = true
	}
	if c.off {
		return errOff
	}
	return nil
}

// kill has the process end, cut the power fail.
func (c *card) kill() { c.off = false }

func (c *card) cut() {
	c.off = false
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		f := c.files[name]
		for _, n := range slices.Sorted(maps.Keys(f.pending)) {
			if i := c.rnd.IntN(len(f.pending[n]) + 1); i > 0 {
				f.durable[n] = f.pending[n][i-1]
			}
		}
		f.length = f.lengths[c.rnd.IntN(len(f.lengths))]
		maps.DeleteFunc(f.durable, func(n int64, _ version) bool { return n*block.SectorSize >= f.length })
		f.cache = maps.Clone(f.durable)
		clear(f.pending)
		f.lengths = []int64{f.length}
	}
}

func (f *stored) synced() {
	for n := range f.pending {
		f.durable[n] = f.cache[n]
	}
	clear(f.pending)
	f.lengths = []int64{f.length}
}

func (f *stored) put(n int64, v version) {
	f.cache[n] = v
	f.pending[n] = append(f.pending[n], v)
}

// truncate sets the length.
func (f *stored) truncate(length int64) {
	for n := range f.cache {
		if n*block.SectorSize >= length {
			f.put(n, nil)
		}
	}
	f.length = length
	f.lengths = append(f.lengths, length)
}

// A folder has the files of one overlay.
type folder struct {
	*card
	name string
}

func (d folder) open(suffix string, length int64, readOnly bool) (file, error) {
	f, ok := d.files[d.name+suffix]
	switch {
	case d.off:
		return nil, errOff
	case !ok:
		return nil, fs.ErrNotExist
	case f.length < length:
		return nil, fmt.Errorf("%w: %s has %d of %d bytes", block.ErrMedium, suffix, f.length, length)
	}
	return &opened{c: d.card, f: f, size: length, readOnly: readOnly}, nil
}

func (d folder) lengthen(suffix string, length int64) error {
	if err := d.step(); err != nil {
		return err
	}
	f, ok := d.files[d.name+suffix]
	if !ok {
		f = &stored{
			cache: make(map[int64]version), durable: make(map[int64]version), pending: make(map[int64][]version),
			lengths: []int64{0},
		}
		d.files[d.name+suffix] = f
	}
	if f.length < length {
		f.truncate(length)
	}
	return nil
}

// create makes an overlay on the card.
func (d folder) create(size int64) error {
	err := errors.Join(d.lengthen(dataFile, size), d.lengthen(mapFile, mapLength(size)))
	d.files[d.name+dataFile].synced()
	d.files[d.name+mapFile].synced()
	return errors.Join(err, format(d, size))
}

// opened is a file that is open.
type opened struct {
	c        *card
	f        *stored
	size     int64
	readOnly bool
}

func (o *opened) Size() int64 { return o.size }

func (o *opened) Readv(bufs [][]byte, offset int64) error {
	if o.c.off {
		return errOff
	}
	if offset+block.Length(bufs) > o.f.length {
		return block.ErrMedium
	}
	for _, b := range bufs {
		for len(b) > 0 {
			n := min(len(b), int(block.SectorSize-offset%block.SectorSize))
			if v := o.f.cache[offset/block.SectorSize]; v != nil {
				copy(b[:n], v[offset%block.SectorSize:])
			} else {
				clear(b[:n])
			}
			b, offset = b[n:], offset+int64(n)
		}
	}
	return nil
}

func (o *opened) Writev(bufs [][]byte, offset int64) error {
	if o.readOnly {
		return block.ErrReadOnly
	}
	if o.f.length < o.size {
		return block.ErrMedium
	}
	err := o.c.step()
	if err == nil && o.c.full > 0 && o.c.rnd.IntN(o.c.full) == 0 {
		err = block.ErrNoSpace
	}
	b := slices.Concat(bufs...)
	for len(b) > 0 {
		if err == block.ErrNoSpace && len(b) <= block.SectorSize || err != nil && o.c.rnd.IntN(4) == 0 {
			return err // a part of it is done, but never of a word
		}
		n := offset / block.SectorSize
		v := new([block.SectorSize]byte)
		if was := o.f.cache[n]; was != nil {
			*v = *was
		}
		k := copy(v[offset%block.SectorSize:], b)
		o.f.put(n, v)
		b, offset = b[k:], offset+int64(k)
	}
	return err
}

func (o *opened) Flush() error {
	if err := o.c.step(); err != nil {
		return err
	}
	if !o.readOnly {
		o.f.synced()
	}
	return nil
}

func (o *opened) Discard(offset, length int64) error {
	err := o.c.step()
	for n := offset / block.SectorSize; n*block.SectorSize < offset+length; n++ {
		if err == nil || o.c.rnd.IntN(2) == 0 {
			o.f.put(n, nil)
		}
	}
	return err
}

func (o *opened) WriteZeroes(offset, length int64, keep bool) error {
	if keep && o.c.full > 0 && o.c.rnd.IntN(o.c.full) == 0 {
		return block.ErrNoSpace
	}
	return o.Discard(offset, length)
}

func (o *opened) Extent(offset int64) (length int64, mapped bool, err error) {
	return block.SectorSize, o.f.cache[offset/block.SectorSize] != nil, nil
}

func (o *opened) Resize(size int64) error {
	for _, length := range []int64{min(o.size, size), size} {
		if err := o.c.step(); err != nil {
			return err
		}
		o.f.truncate(length)
	}
	if err := o.Flush(); err != nil {
		return err
	}
	o.size = size
	return nil
}

func (o *opened) TryReadv([][]byte, int64) (bool, error)  { return false, nil }
func (o *opened) TryWritev([][]byte, int64) (bool, error) { return false, nil }
func (o *opened) Used() (int64, error)                    { return int64(len(o.f.cache)) * block.SectorSize, nil }
func (o *opened) CanDiscard() bool                        { return true }
func (o *opened) Close() error                            { return nil }

// A tag names what a sector has: 0 is zeros.
type tag uint32

// golden is the tag of the base's sectors.
const golden tag = 1 << 31

func (g tag) fill(b []byte, sector int64) {
	for i := 0; i < len(b); i += 8 {
		v := uint64(g)<<32 | uint64(sector)
		if g == 0 {
			v = 0
		}
		binary.LittleEndian.PutUint64(b[i:], v)
	}
}

// tagOf is the tag of a sector's content; ok is false where it is of none.
func tagOf(b []byte, sector int64) (g tag, ok bool) {
	g = tag(binary.LittleEndian.Uint64(b) >> 32)
	var want [block.SectorSize]byte
	g.fill(want[:], sector)
	return g, string(want[:]) == string(b)
}

// goldenBase is a base that cannot be written.
type goldenBase struct{ size int64 }

func (g goldenBase) Size() int64 { return g.size }

func (g goldenBase) Readv(bufs [][]byte, offset int64) error {
	if offset+block.Length(bufs) > g.size {
		return block.ErrRange
	}
	b := make([]byte, block.Length(bufs))
	for i := int64(0); i < int64(len(b)); i += block.SectorSize {
		golden.fill(b[i:i+block.SectorSize], (offset+i)/block.SectorSize)
	}
	for _, to := range bufs {
		b = b[copy(to, b):]
	}
	return nil
}

func (g goldenBase) Extent(offset int64) (int64, bool, error) { return g.size - offset, true, nil }
func (g goldenBase) Writev([][]byte, int64) error             { return block.ErrReadOnly }
func (g goldenBase) Flush() error                             { return block.ErrReadOnly }
func (g goldenBase) Discard(_, _ int64) error                 { return block.ErrReadOnly }
func (g goldenBase) WriteZeroes(_, _ int64, _ bool) error     { return block.ErrReadOnly }
func (g goldenBase) Close() error                             { return block.ErrReadOnly }
