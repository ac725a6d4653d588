package scsi

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A taskSet has the commands of a logical unit, of all nexuses, from Begin to End,
// and says which may be executed when (SAM-5 section 8: one task set, as the control
// mode page's TST says).
type taskSet struct {
	mu          sync.Mutex // guards all of the unit that is not atomic
	first, last *Command
	orders      uint64
	// barriers counts ordered and head-of-queue commands, dormant those that may not
	// be executed yet. With none of either nothing needs to be looked through.
	barriers, dormant int
	// visits are of commands of other units' task sets that write here.
	visits []*visit
}

// A visit is a command's, of another unit's task set, to a unit that it writes to.
type visit struct {
	link    *link // the unit's, of the command's nexus
	command *Command
	stopped atomic.Bool   // it must not write any more
	over    chan struct{} // closed when it does not
}

func (c *Command) barrier() bool { return c.Attribute == Ordered || c.Attribute == HeadOfQueue }

// add appends a command. The caller holds mu.
func (s *taskSet) add(c *Command) {
	c.set, c.queued = s, true
	s.orders++
	c.order = s.orders
	if c.previous = s.last; c.previous != nil {
		c.previous.next = c
	} else {
		s.first = c
	}
	s.last = c
	if c.barrier() {
		s.barriers++
	}
	if s.blocked(c) {
		c.ready = make(chan struct{})
		s.dormant++
	}
}

// blocked says whether a command has to wait for others (SAM-5 section 8.7). The
// caller holds mu.
func (s *taskSet) blocked(c *Command) bool {
	switch {
	case c.Attribute == HeadOfQueue:
		return false
	case c.Attribute == Ordered:
		// All older ones; and heads of the queue that came meanwhile.
		if c.previous != nil {
			return true
		}
	case s.barriers == 0:
		return false
	}
	for d := s.first; d != nil; d = d.next {
		if d != c && (d.Attribute == HeadOfQueue || d.Attribute == Ordered && d.order < c.order) {
			return true
		}
	}
	return false
}

// remove takes a command out and lets go those that waited for it. The caller holds
// mu.
func (s *taskSet) remove(c *Command) {
	if c.previous != nil {
		c.previous.next = c.next
	} else {
		s.first = c.next
	}
	if c.next != nil {
		c.next.previous = c.previous
	} else {
		s.last = c.previous
	}
	c.previous, c.next, c.queued = nil, nil, false
	if c.barrier() {
		s.barriers--
	}
	s.wake(c)
	if c.ended != nil {
		close(c.ended)
	}
	if s.dormant == 0 {
		return
	}
	for d := s.first; d != nil; d = d.next {
		if !d.enabled() && !s.blocked(d) {
			s.wake(d)
		}
	}
}

// wake lets a dormant command go on. The caller holds mu.
func (s *taskSet) wake(c *Command) {
	if !c.enabled() {
		close(c.ready)
		s.dormant--
	}
}

// enabled says that a command need not wait for others.
func (c *Command) enabled() bool {
	if c.ready == nil {
		return true
	}
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// abort marks a command; what waits for its turn ends at once. The channel is closed
// when it has ended. The caller holds mu.
func (s *taskSet) abort(c *Command) <-chan struct{} {
	if !c.aborted.Swap(true) && c.canceled != nil {
		close(c.canceled)
	}
	if c.ended == nil {
		c.ended = make(chan struct{})
	}
	s.wake(c)
	return c.ended
}

// cancel is closed when a command is aborted; nil for one of no task set.
func (c *Command) cancel() <-chan struct{} {
	if c.set == nil {
		return nil
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if c.canceled == nil {
		c.canceled = make(chan struct{})
		if c.aborted.Load() {
			close(c.canceled)
		}
	}
	return c.canceled
}

// abortAll marks the commands that match, tells the nexuses of those that are not
// by's, and returns what is closed as each ends. A match knows a command by the link
// to this unit too.
func (s *taskSet) abortAll(by *Nexus, match func(*link, *Command) bool) []<-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []<-chan struct{}
	for c := s.first; c != nil; c = c.next {
		if !match(c.link, c) {
			continue
		}
		told := c.aborted.Load()
		all = append(all, s.abort(c))
		if c.nexus != by && !told && c.nexus.aborted != nil {
			c.nexus.aborted(c)
		}
	}
	for _, v := range s.visits {
		if match(v.link, v.command) {
			v.stopped.Store(true)
			all = append(all, v.over)
		}
	}
	return all
}

// enter begins a visit, leave ends it.
func (s *taskSet) enter(l *link, c *Command) *visit {
	v := &visit{link: l, command: c, over: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits = append(s.visits, v)
	return v
}

func (s *taskSet) leave(v *visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visits = slices.DeleteFunc(s.visits, func(o *visit) bool { return o == v })
	close(v.over)
}
