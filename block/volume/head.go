package volume

import (
	"errors"
	"sync"
	"sync/atomic"

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
	remote bool         // dev takes no room on the card
	mirror *mirror      // nil but in a merge

	full atomic.Bool // the owner was told that a remote one has no room
}

func (h *head) put(d block.Device) {
	h.dev = d
	h.prompt, _ = d.(block.Prompt)
	_, h.remote = d.(*upstream)
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
	if done {
		h.note(block.Length(bufs), err)
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
	if !h.remote && h.store.room.tight.Load() {
		there, err := hasRoom(h.dev, offset, length)
		if err != nil {
			return err
		}
		if !there {
			h.note(0, block.ErrNoSpace)
			return block.ErrNoSpace
		}
	}
	err := h.both(offset, f)
	h.note(length, err)
	return err
}

// both makes a change, in a merge also below.
func (h *head) both(offset int64, f func(block.Device) error) error {
	if h.mirror != nil {
		return h.mirror.change(offset, f)
	}
	return f(h.dev)
}

func (h *head) Discard(offset, length int64) error {
	err := h.both(offset, func(d block.Device) error { return d.Discard(offset, length) })
	h.note(0, err) // an overlay may need room for its bits
	return err
}

func (h *head) CanDiscard() bool { return canDiscard(h.dev) }

func (h *head) Flush() error {
	err := h.dev.Flush()
	h.note(0, err)
	return err
}

func (h *head) Extent(offset int64) (int64, bool, error) { return h.dev.Extent(offset) }

// Resize grows the layer: first its files, then its description.
func (h *head) Resize(size int64) error { return h.store.resizeLayer(h.layer, h.dev, size) }

func (h *head) Close() error {
	h.store.release(h.layer)
	return nil
}

// note looks after the room when n bytes were written, or could not be.
func (h *head) note(n int64, err error) {
	switch {
	case h.remote && errors.Is(err, block.ErrNoSpace):
		if h.full.CompareAndSwap(false, true) { // once for as long as the volume is in use
			h.store.fullUpstream(h.volume)
		}
	case errors.Is(err, block.ErrNoSpace):
		h.store.full(h.volume)
	case !h.remote && err == nil:
		h.store.wrote(n)
	}
}

// hasRoom tells whether all of a range has room of the device's own already.
func hasRoom(d block.Device, offset, length int64) (bool, error) {
	for end := offset + length; offset < end; {
		n, own := ownOf(d, offset)
		if !own {
			return false, nil
		}
		mapped, there, err := d.Extent(offset)
		if err != nil || !there {
			return false, err
		}
		offset += min(n, mapped)
	}
	return true, nil
}

// ownOf tells whether what is at offset is the device's own, and how many bytes the
// answer holds for. All that is no overlay's is.
func ownOf(d block.Device, offset int64) (length int64, own bool) {
	if o, ok := d.(interface {
		Own(offset int64) (length int64, own bool)
	}); ok {
		return o.Own(offset)
	}
	return d.Size() - offset, true
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
