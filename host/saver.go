package host

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// A saver writes the newest power record; those overtaken meanwhile are
// skipped, so that a slow card delays no wire.
type saver struct {
	db   *store.Store
	wake chan struct{}

	mu      sync.Mutex
	rec     record
	gen     uint64 // of rec
	written uint64 // newest gen on the disk
	tried   uint64 // newest gen that was written or could not be
	grew    chan struct{}
}

func newSaver(db *store.Store) *saver {
	return &saver{db: db, wake: make(chan struct{}, 1), grew: make(chan struct{})}
}

// put makes r the record to write.
func (s *saver) put(r record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen > 0 && s.rec == r {
		return
	}
	s.rec = r
	s.gen++
	s.poke()
}

func (s *saver) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// saveRetry is how long after a failure the record is tried again, unless a
// newer one comes before.
const saveRetry = 2 * time.Second

// run writes until ctx ends. A record that could not be written is tried
// again until it is, or a newer one takes its place.
func (s *saver) run(ctx context.Context, log *slog.Logger) {
	told := false
	var retry <-chan time.Time
	s.poke() // the last run may have left one
	for {
		select {
		case <-s.wake:
		case <-retry:
		case <-ctx.Done():
			return
		}
		err := s.flush()
		if err == nil {
			told, retry = false, nil
			continue
		}
		if !told {
			told = true
			log.Error("the power state could not be saved", "error", err)
		}
		retry = time.After(saveRetry)
	}
}

// flush writes the newest record if that was not done yet.
func (s *saver) flush() error {
	s.mu.Lock()
	rec, gen, done := s.rec, s.gen, s.gen == s.written
	s.mu.Unlock()
	if done {
		return nil
	}
	err := s.db.PutJSON(powerBucket, powerKey, rec)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = gen
	if err == nil {
		s.written = gen
	}
	close(s.grew)
	s.grew = make(chan struct{})
	return err
}

// saveLimit is how long a request waits for the disk: a full card, or one that
// hangs, must not keep anybody from switching the host.
const saveLimit = 5 * time.Second

// wait returns when what was put before the call is on the disk. It also
// returns when it could not be brought there, and after saveLimit.
func (s *saver) wait(ctx context.Context) error {
	limit := time.NewTimer(saveLimit)
	defer limit.Stop()
	s.mu.Lock()
	gen := s.gen
	s.mu.Unlock()
	for {
		s.mu.Lock()
		tried, grew := s.tried, s.grew
		s.mu.Unlock()
		if tried >= gen {
			return context.Cause(ctx)
		}
		select {
		case <-grew:
		case <-limit.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
