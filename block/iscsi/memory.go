package iscsi

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	smallestBuffer = 4 << 10
	classes        = 12 // 4 KiB to 8 MiB, powers of two
	// trimPause is how long a buffer has to be of no use before it is given up.
	trimPause = 10 * time.Second
)

// memory is what the data of all commands may take. Its limit is for what can wait:
// reads, and writes that are asked for by R2T. Data that comes unasked was promised
// room by the command window; it has half as much besides. The two are apart, as a
// command with some of its data may wait for room for all of it: who gets that has
// all that it needs, and gives it back.
//
// Buffers are used again, not left to the garbage collector: what is made new until it
// runs would be on top of what is in use. They are given up for buffers of other sizes
// where all would be more than the limits, and when they are of no use for a while.
type memory struct {
	limit int
	// tight: half of it is in use, so that windows should not grow.
	tight atomic.Bool

	mu    sync.Mutex
	used  [kinds]int
	free  [classes][]*buffer
	kept  int // bytes in free
	spare int // the least of kept since the last trim
	// trimming: the next trim will come.
	trimming bool
	queue    []*waiter
}

// A kind is what a buffer counts as.
type kind int

const (
	limited kind = iota
	unasked      // data that comes so
	answers
	kinds
)

// A share is what the connections of one initiator have of the memory; a quarter at
// most, so that one that is stuck leaves enough to the others.
type share struct{ used [kinds]int } // guarded by memory.mu

type waiter struct {
	share *share
	n     int
	got   chan *buffer // holds one
}

// A buffer is memory for data.
type buffer struct {
	b     []byte
	share *share
	kind  kind
	class int

	// Used by the connection whose buffer it is, guarded by its mutex: how much is
	// taken, and how many pieces of its output are in here.
	filled, pieces int
}

func newMemory(limit int) *memory { return &memory{limit: limit} }

// sized is the class of n bytes and its length.
func sized(n int) (class, length int) {
	if n > smallestBuffer<<(classes-1) {
		return -1, n
	}
	class = max(bits.Len(uint(max(n, 1)-1)), 12) - 12
	return class, smallestBuffer << class
}

// fits says whether n bytes more are within the limits; the first buffer of a share,
// or of all, may be greater. The caller holds mu.
func (m *memory) fits(s *share, n int) bool {
	return m.room(n) && m.fair(s, n)
}

func (m *memory) room(n int) bool { return m.used[limited]+n <= m.limit || m.used[limited] == 0 }

func (m *memory) fair(s *share, n int) bool {
	return s.used[limited]+n <= m.limit/4 || s.used[limited] == 0
}

// take makes a buffer of at least n bytes. The caller holds mu.
func (m *memory) take(s *share, k kind, n int) *buffer {
	class, length := sized(n)
	m.count(s, k, length)
	if class >= 0 {
		if f := len(m.free[class]); f > 0 {
			b := m.free[class][f-1]
			m.drop(class)
			b.share, b.kind = s, k
			return b
		}
	}
	m.release(m.used[limited] + m.used[unasked] + m.kept - m.limit - m.limit/2)
	return &buffer{b: make([]byte, length), share: s, kind: k, class: class}
}

// count counts bytes that are taken or, if negative, given back. The caller holds mu.
func (m *memory) count(s *share, k kind, n int) {
	m.used[k] += n
	s.used[k] += n
	m.tight.Store(m.used[limited]+m.used[unasked] > m.limit/2)
}

// get returns a buffer of at least n bytes, nil where there is none without waiting.
func (m *memory) get(s *share, n int) *buffer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, length := sized(n); len(m.queue) > 0 || !m.fits(s, length) {
		return nil
	}
	return m.take(s, limited, n)
}

// promised returns a buffer for data that comes unasked, nil where even the room
// for such data is taken.
func (m *memory) promised(s *share, n int) *buffer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, length := sized(n); m.used[unasked]+length > m.limit/2 {
		return nil
	}
	return m.take(s, unasked, n)
}

// wait returns a buffer when it is its turn, nil once quit is closed.
func (m *memory) wait(s *share, n int, quit <-chan struct{}) *buffer {
	_, length := sized(n)
	m.mu.Lock()
	if len(m.queue) == 0 && m.fits(s, length) {
		defer m.mu.Unlock()
		return m.take(s, limited, n)
	}
	w := &waiter{share: s, n: n, got: make(chan *buffer, 1)}
	m.queue = append(m.queue, w)
	m.serve()
	m.mu.Unlock()
	select {
	case b := <-w.got:
		return b
	case <-quit:
	}
	m.mu.Lock()
	m.queue = slices.DeleteFunc(m.queue, func(o *waiter) bool { return o == w })
	m.mu.Unlock()
	select {
	case b := <-w.got: // it came at the same moment
		m.put(b)
	default:
	}
	return nil
}

// serve gives to those that wait, in their order; one that only its share holds up
// does not hold up those of others. The caller holds mu.
func (m *memory) serve() {
	var full []*share
	for i := 0; i < len(m.queue); {
		w := m.queue[i]
		_, length := sized(w.n)
		switch {
		case slices.Contains(full, w.share):
			i++ // after those before it: a command may wait for one of them
		case m.fits(w.share, length):
			m.queue = slices.Delete(m.queue, i, i+1)
			w.got <- m.take(w.share, limited, w.n)
		case m.fair(w.share, length):
			return // first come, first served
		default:
			full = append(full, w.share)
			i++
		}
	}
}

// put gives a buffer back.
func (m *memory) put(b *buffer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count(b.share, b.kind, -len(b.b))
	b.share, b.filled, b.pieces = nil, 0, 0
	if b.class >= 0 {
		m.free[b.class] = append(m.free[b.class], b)
		m.kept += len(b.b)
		if !m.trimming {
			m.trimming = true
			time.AfterFunc(trimPause, m.trim)
		}
	}
	m.serve()
}

// drop takes the last of a class out of the free buffers. The caller holds mu.
func (m *memory) drop(class int) {
	last := len(m.free[class]) - 1
	m.kept -= len(m.free[class][last].b)
	m.spare = min(m.spare, m.kept)
	m.free[class][last] = nil
	m.free[class] = m.free[class][:last]
}

// release gives up n bytes of free buffers, or the few more that the last of them has;
// the greatest go first. The caller holds mu.
func (m *memory) release(n int) {
	left := max(m.kept-n, 0)
	for class := classes - 1; m.kept > left; {
		if len(m.free[class]) > 0 {
			m.drop(class)
		} else {
			class--
		}
	}
}

// trim gives up what was of no use since the last time.
func (m *memory) trim() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.release(m.spare)
	m.spare = m.kept
	if m.trimming = m.kept > 0; m.trimming {
		time.AfterFunc(trimPause, m.trim)
	}
}

// always returns a buffer for output whatever the limit, as answers cannot wait.
// How much of it a connection has is bounded by maxQueued.
func (m *memory) always(s *share, n int) *buffer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.take(s, answers, n)
}
