package cow

import (
	"errors"
	"fmt"

	"github.com/nitrino/nitrino/block"
)

// Flush returns when all that was written before outlives a loss of power. Once a sync
// has failed it fails for good, as a raw.File's does.
func (o *Overlay) Flush() error {
	if err := o.enter(false); err != nil {
		return err
	}
	defer o.io.RUnlock()
	if o.readOnly {
		return nil
	}
	return o.flush()
}

func (o *Overlay) flush() error {
	mine := o.asked.Add(1)
	o.flushing.Lock()
	defer o.flushing.Unlock()
	if o.flushed >= mine {
		return nil
	}
	covers := o.asked.Load()
	if err := o.sync(); err != nil {
		return o.tell(err)
	}
	o.flushed = covers
	return nil
}

// sync brings data and then the bits that it had before to the storage.
func (o *Overlay) sync() error {
	dirty := o.bits.snapshot()
	err := o.data.Flush()
	for i := range dirty {
		if err != nil {
			break
		}
		err = o.own.Writev([][]byte{dirty[i].data[:]}, sectorAt(dirty[i].number))
	}
	if err == nil && (len(dirty) > 0 || !o.synced) {
		err = o.own.Flush()
	}
	if err != nil {
		o.bits.soil(dirty)
		return err
	}
	o.synced = true
	return nil
}

// Resize changes the size, and returns when that outlives a loss of power.
func (o *Overlay) Resize(size int64) error {
	if !validSize(size) {
		return fmt.Errorf("%w: a size of %d bytes", block.ErrRange, size)
	}
	o.io.Lock()
	defer o.io.Unlock()
	if err := o.may(true); err != nil {
		return err
	}
	return o.tell(o.resize(size))
}

// resize is Resize for who is alone.
func (o *Overlay) resize(size int64) error {
	was := o.head.size
	if size == was {
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	if size > was {
		if err := o.grow(size); err != nil {
			return err
		}
	}
	h := o.head
	h.size, h.inherited = size, min(h.inherited, size)
	if err := o.putHeader(h); err != nil {
		return err
	}
	o.crop(size)
	if size > was {
		return nil
	}
	// The volume is smaller now. If the room cannot be given back it is taken away
	// when the volume grows.
	_ = o.tell(errors.Join(o.data.Resize(size), o.own.Resize(mapLength(size))))
	return nil
}

// crop has the bits and the size be those of a volume of so many bytes.
func (o *Overlay) crop(size int64) {
	o.bits.resize(clustersOf(size))
	o.head.size = size
	o.head.inherited = min(o.head.inherited, size)
	o.size.Store(size)
}

// grow makes the files longer. What a larger volume of before left in them is taken
// away first.
func (o *Overlay) grow(size int64) error {
	was := o.head.size
	if err := errors.Join(o.data.Resize(was), o.own.Resize(mapLength(was))); err != nil {
		return err
	}
	last := o.bits.sector(sectorsOf(was) - 1)
	if err := o.own.Writev([][]byte{last.data[:]}, sectorAt(last.number)); err != nil {
		return err
	}
	return errors.Join(o.data.Resize(size), o.own.Resize(mapLength(size)))
}

// putHeader brings a header to the storage; the map has to have all bits. A live file
// is not believed from then on.
func (o *Overlay) putHeader(h header) error {
	h.generation = newGeneration()
	if err := o.own.Writev([][]byte{h.encode(mapMagic)}, 0); err != nil {
		return err
	}
	o.head.generation = h.generation
	if live := o.live.Swap(nil); live != nil {
		_ = (*live).Close() // it is of no use any more
	}
	if err := o.own.Flush(); err != nil {
		return err
	}
	o.head = h
	return nil
}
