package cow

import "github.com/nitrino/nitrino/block"

// Readv fills bufs, one after another, from offset on.
func (o *Overlay) Readv(bufs [][]byte, offset int64) error {
	if err := o.enter(false); err != nil {
		return err
	}
	defer o.io.RUnlock()
	_, err := o.readv(bufs, offset, false)
	return err
}

// TryReadv is Readv where nothing has to be waited for.
func (o *Overlay) TryReadv(bufs [][]byte, offset int64) (done bool, err error) {
	if !o.io.TryRLock() {
		return false, nil
	}
	defer o.io.RUnlock()
	if o.closed {
		return false, nil
	}
	return o.readv(bufs, offset, true)
}

// TryWritev is Writev where nothing has to be waited for: to clusters that are here.
func (o *Overlay) TryWritev(bufs [][]byte, offset int64) (done bool, err error) {
	if !o.io.TryRLock() {
		return false, nil
	}
	defer o.io.RUnlock()
	end := offset + block.Length(bufs)
	if o.may(true) != nil || end == offset {
		return false, nil
	}
	if here, to := o.run(offset, end); !here || to != end {
		return false, nil
	}
	done, err = o.data.TryWritev(bufs, offset)
	return done, o.tell(err)
}

// run tells whether what is at from is here, and up to where, at most end, the same
// is so, in bytes.
func (o *Overlay) run(from, end int64) (here bool, to int64) {
	here, cluster := o.bits.run(from/clusterSize, clustersOf(end))
	return here, min(cluster*clusterSize, end)
}

// readv reads what is here and what is not, in turns; prompt has it not wait.
func (o *Overlay) readv(bufs [][]byte, offset int64, prompt bool) (done bool, err error) {
	end := offset + block.Length(bufs)
	if end == offset {
		return true, nil
	}
	here, to := o.run(offset, end)
	if to == end {
		return o.readRun(here, bufs, offset, end, prompt)
	}
	s := o.scratch()
	defer o.release(s)
	for at := offset; at < end; at = to {
		here, to = o.run(at, end)
		s.bufs = block.Cut(s.bufs[:0], bufs, at-offset, to-at)
		if done, err = o.readRun(here, s.bufs, at, to, prompt); !done || err != nil {
			return done, err
		}
	}
	return true, nil
}

func (o *Overlay) readRun(here bool, bufs [][]byte, at, end int64, prompt bool) (done bool, err error) {
	switch {
	case here && prompt:
		done, err = o.data.TryReadv(bufs, at)
		return done, o.tell(err)
	case here:
		return true, o.tell(o.data.Readv(bufs, at))
	case at >= o.shown(o.base):
		for _, b := range bufs {
			clear(b)
		}
		return true, nil
	case prompt && (o.prompt == nil || end > o.shown(o.base)):
		return false, nil
	case prompt:
		return o.prompt.TryReadv(bufs, at)
	}
	return true, o.readBase(o.base, bufs, at, end)
}

// shown is how many bytes of a base show through, at most.
func (o *Overlay) shown(base block.Device) int64 {
	if base == nil {
		return 0
	}
	return min(o.head.inherited, base.Size())
}

// readBase reads what shows of a base, from at to end, and zeros beyond.
func (o *Overlay) readBase(base block.Device, bufs [][]byte, at, end int64) error {
	shown := min(o.shown(base), end)
	if shown == end {
		return base.Readv(bufs, at)
	}
	if shown > at {
		if err := base.Readv(block.Cut(nil, bufs, 0, shown-at), at); err != nil {
			return err
		}
	}
	for _, b := range block.Cut(nil, bufs, max(shown-at, 0), end-max(shown, at)) {
		clear(b)
	}
	return nil
}

func (o *Overlay) scratch() *scratch { return o.pool.Get().(*scratch) }

func (o *Overlay) release(s *scratch) {
	clear(s.bufs[:cap(s.bufs)]) // the buffers are the caller's
	o.pool.Put(s)
}

// Own tells whether what is at offset is the overlay's own, be it written or zeros,
// whatever the base has there; and how many bytes the answer holds for. What is not
// is the base's.
func (o *Overlay) Own(offset int64) (length int64, own bool) {
	o.io.RLock()
	defer o.io.RUnlock()
	here, end := o.run(offset, o.head.size)
	shown := o.shown(o.base)
	switch {
	case here:
		return end - offset, true
	case offset < shown:
		return min(end, shown) - offset, false
	}
	return end - offset, true // zeros, behind what shows of the base
}

// Extent tells whether the bytes at offset take room, here or in the base, and how
// many bytes the answer holds for.
func (o *Overlay) Extent(offset int64) (length int64, mapped bool, err error) {
	if err := o.enter(false); err != nil {
		return 0, false, err
	}
	defer o.io.RUnlock()
	here, end := o.run(offset, o.head.size)
	if here {
		length, mapped, err = o.data.Extent(offset)
		return min(length, end-offset), mapped, o.tell(err)
	}
	shown := o.shown(o.base)
	if offset >= shown {
		return end - offset, false, nil
	}
	length, mapped, err = o.base.Extent(offset)
	return min(length, end-offset, shown-offset), mapped, err
}
