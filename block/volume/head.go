package volume

import (
	"errors"
	"sync"

	"github.com/nitrino/nitrino/block"
)

// A head is the device of a volume's disk: the layer that the disk writes to. It
// is where the store learns that there is no room left, and where a merge sees
// what is written. Its fields change only within Disk.Exchange, when nobody uses
// them.
type head struct {
	store  *Store
	volume *volume
	layer  *layer
	dev    block.Device
	prompt block.Prompt // dev, where it is one
	mirror *mirror      // nil but in a merge
}

func (h *head) put(d block.Device) {
	h.dev = d
	h.prompt, _ = d.(block.Prompt)
}

func (h *head) Size() int64 { return h.dev.Size() }

func (h *head) Readv(bufs [][]byte, offset int64) error { return h.dev.Readv(bufs, offset) }

func (h *head) TryReadv(bufs [][]byte, offset int64) (bool, error) {
	if h.prompt == nil {
		return false, nil
	}
	return h.prompt.TryReadv(bufs, offset)
}

func (h *head) TryWritev(bufs [][]byte, offset int64) (bool, error) {
	if h.prompt == nil || h.mirror != nil || h.store.room.tight.Load() {
		return false, nil
	}
	done, err := h.prompt.TryWritev(bufs, offset)
	if err != nil {
		h.note(err)
	}
	return done, err
}

func (h *head) Writev(bufs [][]byte, offset int64) error {
	return h.change(offset, block.Length(bufs), func(d block.Device) error { return d.Writev(bufs, offset) })
}

func (h *head) WriteZeroes(offset, length int64, keep bool) error {
	return h.change(offset, length, func(d block.Device) error { return d.WriteZeroes(offset, length, keep) })
}

// change makes a change that may take room.
func (h *head) change(offset, length int64, f func(block.Device) error) error {
	if h.store.room.tight.Load() {
		there, err := mapped(h.dev, offset, length)
		if err != nil {
			return err
		}
		if !there {
			h.note(block.ErrNoSpace)
			return block.ErrNoSpace
		}
	}
	if h.mirror != nil {
		return h.mirror.change(offset, f)
	}
	err := f(h.dev)
	if err != nil {
		h.note(err)
	}
	return err
}

func (h *head) Discard(offset, length int64) error {
	f := func(d block.Device) error { return d.Discard(offset, length) }
	if h.mirror != nil {
		return h.mirror.change(offset, f)
	}
	return f(h.dev)
}

func (h *head) Flush() error { return h.dev.Flush() }

func (h *head) Extent(offset int64) (int64, bool, error) { return h.dev.Extent(offset) }

// Resize grows the layer: first its files, then its description.
func (h *head) Resize(size int64) error { return h.store.resizeLayer(h.layer, h.dev, size) }

func (h *head) Close() error {
	h.store.release(h.layer)
	return nil
}

// note has the owner told that there is no room.
func (h *head) note(err error) {
	if errors.Is(err, block.ErrNoSpace) {
		h.store.full(h.volume)
	}
}

// mapped tells whether all of a range takes room already.
func mapped(d block.Device, offset, length int64) (bool, error) {
	for end := offset + length; offset < end; {
		n, there, err := d.Extent(offset)
		if err != nil || !there {
			return false, err
		}
		offset += n
	}
	return true, nil
}

// A mirror has what is written to an overlay written to the layer below too, as
// far as a merge has come.
type mirror struct {
	over, below block.Device

	mu     sync.Mutex // one change or step of the merge at a time: both get all in one order
	upTo   int64      // what is before has been copied
	failed error      // below is not as it should be, for which the merge ends
}

func (m *mirror) change(offset int64, f func(block.Device) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := f(m.over)
	// What reaches past upTo is hidden by the overlay, and copied again.
	if err == nil && offset < m.upTo {
		m.failed = errors.Join(m.failed, f(m.below))
	} else if err != nil && m.failed == nil {
		m.failed = err // it may have been made in part
	}
	return err
}
