package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
)

const (
	// dialTime is how long a connection to an NBD server may take; firstDial how
	// long who opens a volume waits for it.
	dialTime, firstDial = 20 * time.Second, 5 * time.Second
	// Waits between attempts to connect to a server that was not there.
	firstRetry, lastRetry = 200 * time.Millisecond, 5 * time.Second
)

// An upstream is a layer's disk on an NBD server. A server that is not there when it
// is opened is asked again in the background: until it answers all fails with
// block.ErrGone, and the volumes on it count as failed. A connection that is lost
// later is the device's own to mend; if that takes longer than the grace they count as
// failed too.
type upstream struct {
	store  *Store
	layer  *layer
	size   int64
	outage outage

	cancel  context.CancelFunc
	running sync.WaitGroup

	mu  sync.RWMutex
	dev block.Device // nil: there is none yet
	err error        // why
}

// openUpstream connects to a layer's server, or begins to try.
func (s *Store) openUpstream(l *layer, desc layerDescription) (*upstream, error) {
	if s.opt.Dial == nil {
		return nil, fmt.Errorf("NBD servers: %w", errors.ErrUnsupported)
	}
	u := &upstream{store: s, layer: l, size: desc.Size}
	u.outage.tell = u.tell
	ctx, cancel := context.WithCancel(context.Background()) // Close ends it
	u.cancel = cancel
	if err := u.connect(ctx, desc.Upstream, firstDial); err != nil {
		s.setAway(l, err)
		u.outage.lost(err)
		u.running.Go(func() { u.retry(ctx, desc.Upstream) })
		return u, nil
	}
	// What stands on the disk hides what is behind the end that it knows.
	if size := u.dev.Size(); size > u.size && len(s.above(l)) == 0 {
		s.mu.Lock()
		l.desc.Size, u.size = size, size
		s.mu.Unlock()
	}
	return u, nil
}

func (u *upstream) connect(ctx context.Context, uri string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	d, err := u.store.opt.Dial(ctx, uri, u.report)
	if err == nil && d.Size() < u.size {
		err = errors.Join(fmt.Errorf("%w: the NBD server's disk has shrunk from %d to %d bytes", block.ErrMedium, u.size, d.Size()), d.Close())
	} else if err != nil && !errors.Is(err, block.ErrGone) {
		err = fmt.Errorf("%w: %w", block.ErrGone, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err = err; err == nil {
		u.dev = d
	}
	return err
}

func (u *upstream) retry(ctx context.Context, uri string) {
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return
		}
		err := u.connect(ctx, uri, dialTime)
		if ctx.Err() != nil {
			return
		}
		u.store.setAway(u.layer, err)
		if err == nil {
			u.outage.found()
			return
		}
		u.outage.still(err)
	}
}

// report takes how the device's connection is.
func (u *upstream) report(err error) {
	if err != nil {
		u.outage.lost(err)
		return
	}
	u.store.setAway(u.layer, nil)
	u.outage.found()
}

// tell tells people of an outage or its end.
func (u *upstream) tell(err error) {
	list := u.store.standing(u.layer)
	if err == nil {
		u.store.report(host.OK, "volume.reachable", "The NBD server of the volume %s can be reached again.", list)
		return
	}
	u.store.setAway(u.layer, err)
	u.store.report(host.Critical, "volume.unreachable", "The NBD server of the volume %s cannot be reached: %s.", list, strings.TrimSuffix(err.Error(), "."))
}

// setAway notes why a layer's server cannot be reached, or that it can.
func (s *Store) setAway(l *layer, err error) {
	now := ""
	if err != nil {
		now = err.Error()
	}
	s.mu.Lock()
	was := l.away
	l.away = now
	s.mu.Unlock()
	if was != now {
		s.notify()
	}
}

// standing names volumes whose contents are on a layer, for people.
func (s *Store) standing(l *layer) string {
	var names []string
	s.mu.Lock()
	for _, v := range s.sorted() {
		if s.reaches(v, l) {
			names = append(names, v.name)
		}
	}
	s.mu.Unlock()
	const most = 3
	if n := len(names) - most; n > 0 {
		names = append(slices.Clip(names[:most]), fmt.Sprintf("and %d more", n))
	}
	return strings.Join(names, ", ")
}

// reaches tells whether a volume's contents are on a layer. The caller holds mu.
func (s *Store) reaches(v *volume, below *layer) bool {
	l := s.layers[v.desc.Layer]
	for depth := 0; l != nil && depth <= 2*maxDepth; depth++ {
		if l == below {
			return true
		}
		l = s.layers[l.desc.Base]
	}
	return false
}

// awayBelow is why a server that a volume is on cannot be reached, if it cannot. The
// caller holds mu.
func (s *Store) awayBelow(v *volume) string {
	l := s.layers[v.desc.Layer]
	for depth := 0; l != nil && depth <= 2*maxDepth; depth++ { // damaged ones may stand in a circle
		if l.away != "" {
			return l.away
		}
		l = s.layers[l.desc.Base]
	}
	return ""
}

// device is what is there now.
func (u *upstream) device() (block.Device, error) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.dev, u.err
}

// do has f done by the device. Close comes only when nobody uses it any more.
func (u *upstream) do(f func(block.Device) error) error {
	d, err := u.device()
	if err != nil {
		return err
	}
	return f(d)
}

func (u *upstream) Size() int64 { return u.size }

func (u *upstream) Readv(bufs [][]byte, offset int64) error {
	return u.do(func(d block.Device) error { return d.Readv(bufs, offset) })
}

func (u *upstream) Writev(bufs [][]byte, offset int64) error {
	return u.do(func(d block.Device) error { return d.Writev(bufs, offset) })
}

func (u *upstream) Flush() error { return u.do(block.Device.Flush) }

func (u *upstream) Discard(offset, length int64) error {
	return u.do(func(d block.Device) error { return d.Discard(offset, length) })
}

func (u *upstream) CanDiscard() bool {
	dev, err := u.device()
	if err != nil {
		return true // nobody knows
	}
	return canDiscard(dev)
}

func (u *upstream) WriteZeroes(offset, length int64, keep bool) error {
	return u.do(func(d block.Device) error { return d.WriteZeroes(offset, length, keep) })
}

func (u *upstream) Extent(offset int64) (length int64, mapped bool, err error) {
	d, err := u.device()
	if err != nil {
		return 0, false, err
	}
	length, mapped, err = d.Extent(offset)
	return min(length, u.size-offset), mapped, err // the server's disk may be larger
}

func (u *upstream) Close() error {
	u.cancel()
	u.running.Wait()
	u.outage.close()
	d, err := u.device()
	if err == nil {
		err = d.Close()
	} else {
		err = nil // there is nothing to close
	}
	u.store.mu.Lock()
	u.layer.away = "" // nobody asks any more, so nobody knows
	u.store.mu.Unlock()
	return err
}

func canDiscard(d block.Device) bool {
	c, ok := d.(block.Discarder)
	return !ok || c.CanDiscard()
}
