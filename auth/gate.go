package auth

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// How many may wait for their hash: in all, and of one source.
const (
	maxWaiting          = 128
	maxWaitingPerSource = 16
)

// gate lets one hash run at a time. Who waits is served source by source in
// turn, so that a source with many attempts waits for itself, not the others.
type gate struct {
	mu      sync.Mutex
	busy    bool
	waiting int
	queues  map[netip.Addr][]*waiter
	turns   []netip.Addr // the sources that wait, the next one first
}

// A waiter's channel gets nil when it is its turn, or why it will not be.
type waiter struct{ turn chan error }

func newGate() *gate { return &gate{queues: map[netip.Addr][]*waiter{}} }

// enter waits for the turn, or until ctx ends. After nil the caller must leave.
func (g *gate) enter(ctx context.Context, source netip.Addr) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	if !g.busy {
		g.busy = true
		g.mu.Unlock()
		return nil
	}
	if len(g.queues[source]) >= maxWaitingPerSource || g.waiting >= maxWaiting && !g.makeRoom(source) {
		g.mu.Unlock()
		return ErrBusy
	}
	w := &waiter{turn: make(chan error, 1)}
	if len(g.queues[source]) == 0 {
		g.turns = append(g.turns, source)
	}
	g.queues[source] = append(g.queues[source], w)
	g.waiting++
	g.mu.Unlock()

	select {
	case err := <-w.turn:
		return err
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.queues[source], w)
	if i >= 0 {
		g.remove(source, i)
	}
	g.mu.Unlock()
	if i < 0 && <-w.turn == nil {
		g.leave() // the turn came in the same moment
	}
	return ctx.Err()
}

// makeRoom turns away the newest waiter of the source with the most, if that
// is more than the newcomer's source would have.
func (g *gate) makeRoom(source netip.Addr) bool {
	most := source
	for s, q := range g.queues {
		if len(q) > len(g.queues[most]) {
			most = s
		}
	}
	last := len(g.queues[most]) - 1
	if last <= len(g.queues[source]) {
		return false
	}
	g.remove(most, last).turn <- ErrBusy
	return true
}

// leave gives the turn to the next.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.turns) == 0 {
		g.busy = false
		return
	}
	source := g.turns[0]
	w := g.remove(source, 0)
	if len(g.queues[source]) > 0 { // to the end of the line
		g.turns = append(g.turns[1:], source)
	}
	w.turn <- nil
}

// remove takes a waiter out, and a source without waiters out of the turns.
func (g *gate) remove(source netip.Addr, i int) *waiter {
	w := g.queues[source][i]
	g.queues[source] = slices.Delete(g.queues[source], i, i+1)
	g.waiting--
	if len(g.queues[source]) == 0 {
		delete(g.queues, source)
		g.turns = slices.DeleteFunc(g.turns, func(s netip.Addr) bool { return s == source })
	}
	return w
}
