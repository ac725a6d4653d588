package sim

import (
	"context"
	"sync"
)

// A signal is an input line: a level that many watch. Levels alternate, so a
// count of edges is all that a slow watcher needs to miss none.
type signal struct {
	mu    sync.Mutex
	level bool
	edges uint64
	grew  chan struct{} // closed at the next edge
}

func newSignal(level bool) *signal { return &signal{level: level, grew: make(chan struct{})} }

func (s *signal) set(level bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.level == level {
		return
	}
	s.level = level
	s.edges++
	close(s.grew)
	s.grew = make(chan struct{})
}

func (s *signal) now() (level bool, edges uint64, grew chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level, s.edges, s.grew
}

// A sense is a signal as read through a wire.
type sense struct {
	*signal
	invert bool
}

// Level implements host.Sense.
func (s sense) Level() (bool, error) {
	level, _, _ := s.now()
	return level != s.invert, nil
}

// Watch implements host.Sense.
func (s sense) Watch(ctx context.Context, changed func(active bool)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	level, seen, grew := s.now()
	changed(level != s.invert)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grew:
		}
		var edges uint64
		_, edges, grew = s.now()
		for ; seen < edges; seen++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			level = !level
			changed(level != s.invert)
		}
	}
}
