package gpio

import (
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"
)

// A fakeChip stands in for the kernel.
type fakeChip struct {
	count int
	free  map[int]*fakeLine // what a request gives; a line that is not there is busy
	flags map[int]uint64    // as requested
	fail  error             // of requests
	open  int
}

func (c *fakeChip) lines() int { return c.count }

func (c *fakeChip) request(line int, flags uint64) (handle, error) {
	if c.fail != nil {
		return nil, c.fail
	}
	l := c.free[line]
	if l == nil {
		return nil, unix.EBUSY
	}
	c.flags[line] = flags
	return l, nil
}

func (c *fakeChip) user(int) string { return "Poweroff" }

func (c *fakeChip) Close() error { c.open--; return nil }

// A fakeLine has a level and a queue of events, which may tell less than the
// level.
type fakeLine struct {
	mu     sync.Mutex
	level  bool
	set    []bool
	queue  []bool
	fail   error
	closed bool
	wake   chan struct{}
}

func newFakeLine() *fakeLine { return &fakeLine{wake: make(chan struct{}, 1)} }

// change is the last of some edges; each of queue is an event.
func (l *fakeLine) change(level bool, queue ...bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level = level
	l.queue = append(l.queue, queue...)
	l.poke()
}

func (l *fakeLine) unplug(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
	l.poke()
}

func (l *fakeLine) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// err is called with mu held.
func (l *fakeLine) err() error {
	if l.closed {
		return fs.ErrClosed
	}
	return l.fail
}

func (l *fakeLine) value() (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.level, l.err()
}

func (l *fakeLine) setValue(active bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.err(); err != nil {
		return err
	}
	l.set = append(l.set, active)
	return nil
}

func (l *fakeLine) events() ([]bool, error) {
	for {
		l.mu.Lock()
		got, err := l.queue, l.err()
		l.queue = nil
		l.mu.Unlock()
		if err != nil || len(got) > 0 {
			return got, err
		}
		<-l.wake
	}
}

func (l *fakeLine) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fs.ErrClosed
	}
	l.closed = true
	l.poke()
	return nil
}
