package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/cow"
	"github.com/nitrino/nitrino/host"
)

// Two layers become one where the lower one has no volume and nothing else stands
// on it, as after its snapshot was deleted. There are two ways.
//
// Where the lower one is an overlay, the upper one absorbs what it lacks (cow's
// Absorb, which a crash does not hurt), and stands on what the lower one stood on.
//
// Else all that the upper one has is written down into the lower one, so that a raw
// disk is one again and nothing is there twice: the upper one hides it, so that
// it does not matter where a crash stops that. What a host writes meanwhile goes to
// both as far as the copy has come (mirror). When all is there and flushed, the
// upper layer's description is replaced by one that has the lower one's files: that
// is the step that counts.

const (
	// mergeStep is how much is copied at once, in bytes, while writers wait.
	mergeStep = 256 << 10
	// mergeRetry is how long a merge that failed rests.
	mergeRetry = time.Minute
)

// A merge is one under way.
type merge struct {
	upper, lower *layer
	volume       *volume // whose layer the upper one is, if there is one
	cancel       context.CancelFunc
	done         chan struct{}
	job          block.Job // guarded by Store.mu
}

// Merges has the merge that is under way, if one is.
func (s *Store) Merges() []block.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.merging == nil {
		return nil
	}
	return []block.Job{s.merging.job}
}

// quiesce ends the merge that has to do with a layer, or any for nil; it begins
// anew later. The caller holds changing, and no volume.use.
func (s *Store) quiesce(l *layer) {
	s.mu.Lock()
	m := s.merging
	s.mu.Unlock()
	if m != nil && (l == nil || l == m.upper || l == m.lower) {
		m.cancel()
		<-m.done
		s.wake()
	}
}

// quiesceDown ends the merges of a layer and of what it stands on, all of which
// may be about to go.
func (s *Store) quiesceDown(l *layer) {
	for l != nil {
		s.quiesce(l)
		s.mu.Lock()
		l = s.layers[l.desc.Base]
		s.mu.Unlock()
	}
}

// mergeAll makes all merges that there are to make. If one fails it says after how
// long they are worth another try.
func (s *Store) mergeAll(ctx context.Context) (retry time.Duration) {
	failed := make(map[string]bool)
	for {
		if err := s.lock(ctx); err != nil {
			return 0
		}
		s.sweep() // what was kept for a reader that is done
		ctx, cancel := context.WithCancel(ctx)
		m := s.nextMerge(failed)
		if m != nil {
			m.cancel = cancel
		}
		s.mu.Lock()
		s.merging = m
		s.mu.Unlock()
		s.unlock()
		if m == nil {
			cancel()
			return retry
		}
		err := s.merge(ctx, m)
		cancelled := ctx.Err() != nil
		cancel()
		s.mu.Lock()
		s.merging = nil
		s.mu.Unlock()
		close(m.done)
		switch {
		case err == nil:
			s.notify()
		case cancelled:
			failed[m.lower.id] = true // until what has ended it wakes Run
		default:
			failed[m.lower.id] = true
			retry = mergeRetry
			s.opt.Log.Warn("merging layers", "volume", m.job.Volume, "error", err)
		}
	}
}

// nextMerge looks for a layer to merge. The caller holds changing.
func (s *Store) nextMerge(but map[string]bool) *merge {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsure {
		return nil
	}
	named := make(map[string]*volume, len(s.volumes))
	for _, v := range s.sorted() {
		named[v.desc.Layer] = v
	}
	above := make(map[string][]*layer)
	for _, l := range s.layers {
		above[l.desc.Base] = append(above[l.desc.Base], l)
	}
	for id, l := range s.layers {
		on := above[id]
		if named[id] != nil || len(on) != 1 || but[id] || l.pins > 0 || on[0].pins > 0 || l.desc.ReadOnly ||
			l.desc.Format == block.FormatNBD && l.desc.Size != on[0].desc.Size {
			continue
		}
		m := &merge{upper: on[0], lower: l, volume: named[on[0].id], done: make(chan struct{})}
		m.job = block.Job{ID: "merge-" + id, Operation: "merge", Started: time.Now().UTC()}
		if m.volume != nil {
			m.job.Volume = m.volume.name
		}
		return m
	}
	return nil
}

func (s *Store) merge(ctx context.Context, m *merge) error {
	dev, err := s.acquire(m.upper)
	if err != nil {
		return err
	}
	defer s.release(m.upper)
	over, ok := dev.(*cow.Overlay)
	if !ok {
		return errors.New("what stands on a layer is no overlay")
	}
	m.upper.mu.Lock()
	below := m.upper.base.dev // it stays, as the upper layer has it
	m.upper.mu.Unlock()
	if lower, ok := below.(*cow.Overlay); ok {
		err = s.absorb(ctx, m, over, lower)
	} else {
		err = s.pushDown(ctx, m, over, below)
	}
	if err != nil {
		return err
	}
	if m.job.Volume != "" {
		s.report(host.OK, "volume.merged", "An earlier state of the volume %s that nobody needs any more was merged into it.", m.job.Volume)
	}
	return nil
}

func (s *Store) progress(m *merge) func(done, total int64) {
	return func(done, total int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		m.job.Done, m.job.Total = done, total
	}
}

func (s *Store) absorb(ctx context.Context, m *merge, over, lower *cow.Overlay) error {
	// What is absorbed is there twice until the lower layer goes. The reserve is not
	// for that.
	inRoom, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	told, was := s.progress(m), int64(0)
	err := over.Absorb(inRoom, lower, func(done, total int64) {
		s.wrote(done - was)
		if was = done; s.room.tight.Load() {
			stop(block.ErrNoSpace)
		}
		told(done, total)
	})
	if err != nil {
		return errors.Join(err, context.Cause(inRoom))
	}
	if err := over.Flush(); err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	s.mu.Lock()
	desc := m.upper.desc
	desc.Base = m.lower.desc.Base
	bottom := s.layers[desc.Base]
	s.mu.Unlock()
	dev, err := s.acquire(bottom)
	if err != nil {
		return err
	}
	m.upper.mu.Lock()
	if err := s.describe(m.upper, desc); err != nil {
		m.upper.mu.Unlock()
		s.release(bottom)
		return err
	}
	over.Rebase(dev)
	m.upper.base = bottom
	m.upper.mu.Unlock()
	s.release(m.lower)
	s.sweep()
	return nil
}

// pushDown writes what the overlay has into the layer below.
func (s *Store) pushDown(ctx context.Context, m *merge, over *cow.Overlay, below block.Device) (err error) {
	if size := over.Size(); below.Size() < size {
		if err := s.lock(ctx); err != nil {
			return err
		}
		err := s.resizeLayer(m.lower, below, size)
		s.unlock()
		if err != nil {
			return err
		}
	}
	// What the layer below gets has to be hidden after a loss of power too.
	if err := over.Flush(); err != nil {
		return err
	}
	both := &mirror{over: over, below: below}
	// exchange is Disk.Exchange of the volume's disk, if it has one.
	exchange := func(f func(h *head) error) error { return f(nil) }
	if m.volume != nil {
		disk, err := s.enter(m.volume)
		if err != nil {
			return err
		}
		defer s.leave(m.volume)
		h := m.volume.head // of the disk that was entered
		exchange = func(f func(*head) error) error {
			return disk.Exchange(func(d block.Device) (block.Device, bool, error) { return d, false, f(h) })
		}
	}
	set := func(to *mirror) func(*head) error {
		return func(h *head) error {
			if h != nil {
				h.mirror = to
			}
			return nil
		}
	}
	if err := exchange(set(both)); err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, block.ErrClosed) {
			err = errors.Join(err, exchange(set(nil)))
		}
	}()
	if err := s.copyDown(ctx, m, both); err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	was := m.upper.desc
	if err := exchange(func(h *head) error {
		if both.failed != nil {
			return fmt.Errorf("a write to the layer below: %w", both.failed)
		}
		if err := below.Flush(); err != nil {
			return err
		}
		return s.takeOver(m, over, below, h)
	}); err != nil {
		return err
	}
	// The lower layer's description goes; its files are the upper one's.
	s.sweep()
	if err := s.removeFiles(was); err != nil {
		s.opt.Log.Error("deleting a layer's files", "layer", m.upper.id, "error", err)
	}
	return nil
}

// takeOver has the upper layer go on with the device and the files of the lower
// one.
func (s *Store) takeOver(m *merge, over *cow.Overlay, below block.Device, h *head) error {
	if err := s.exchangeFiles(m); err != nil {
		return err
	}
	// One that is being opened has either device, and is as content with the new one.
	for _, l := range s.above(m.upper) {
		l.mu.Lock()
		if o, ok := l.dev.(*cow.Overlay); ok {
			o.Rebase(below)
		}
		l.mu.Unlock()
	}
	if h != nil {
		h.mirror = nil
		h.put(below)
	}
	if err := over.Close(); err != nil {
		s.opt.Log.Error("closing a merged layer", "layer", m.upper.id, "error", err)
	}
	return nil
}

// exchangeFiles is the step of a merge that counts.
func (s *Store) exchangeFiles(m *merge) error {
	m.upper.mu.Lock()
	defer m.upper.mu.Unlock()
	if err := s.describe(m.upper, m.lower.desc); err != nil {
		return err
	}
	m.lower.mu.Lock()
	defer m.lower.mu.Unlock()
	m.upper.dev, m.upper.base = m.lower.dev, m.lower.base
	m.lower.dev, m.lower.base, m.lower.refs = nil, nil, 0
	return nil
}

// above are the layers that stand on one.
func (s *Store) above(l *layer) []*layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*layer
	for _, other := range s.layers {
		if other.desc.Base == l.id {
			list = append(list, other)
		}
	}
	return list
}

// copyDown has the lower device read as the overlay, from begin to end.
func (s *Store) copyDown(ctx context.Context, m *merge, r *mirror) error {
	a, b := make([]byte, mergeStep), make([]byte, mergeStep)
	size := r.over.Size()
	told := s.progress(m)
	for r.upTo < size { // only this goroutine changes upTo
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.room.tight.Load() {
			return block.ErrNoSpace
		}
		copied, err := r.copyStep(a, b)
		if err != nil {
			return err
		}
		s.wrote(copied)
		told(r.upTo, size)
	}
	return nil
}

// copyStep copies what comes next, at most copied bytes, and moves upTo behind it.
func (m *mirror) copyStep(a, b []byte) (copied int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return 0, m.failed
	}
	ownN, own := ownOf(m.over, m.upTo)
	if !own { // it is below already
		m.upTo += ownN
		return 0, nil
	}
	n, above, err := m.over.Extent(m.upTo)
	if err != nil {
		return 0, err
	}
	belowN, below, err := m.below.Extent(m.upTo)
	if err != nil {
		return 0, err
	}
	n = min(n, ownN)
	switch {
	case !above && !below:
		n = min(n, belowN)
	case !above:
		n = min(n, belowN)
		if err := m.below.Discard(m.upTo, n); err != nil {
			return 0, err
		}
	default:
		n = min(n, mergeStep)
		if err := copyDifferent(m.over, m.below, m.upTo, a[:n], b[:n]); err != nil {
			return 0, err
		}
		copied = n
	}
	m.upTo += n
	return copied, nil
}

// copyDifferent writes the blocks of a range that differ. a and b are as long as
// the range.
func copyDifferent(from, to block.Device, offset int64, a, b []byte) error {
	if err := errors.Join(from.Readv([][]byte{a}, offset), to.Readv([][]byte{b}, offset)); err != nil {
		return err
	}
	for at := 0; at < len(a); {
		end := at
		for end < len(a) && !bytes.Equal(a[end:min(end+grain, len(a))], b[end:min(end+grain, len(a))]) {
			end = min(end+grain, len(a))
		}
		if end > at {
			if err := to.Writev([][]byte{a[at:end]}, offset+int64(at)); err != nil {
				return err
			}
		}
		at = end + grain
	}
	return nil
}
