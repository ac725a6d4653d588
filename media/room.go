package media

import "sync"

// A room is the space on the disk that library and caches share.
type room struct {
	limit int64 // 0: none

	mu   sync.Mutex
	used int64
}

// take reserves n bytes, and answers ErrFull where that is too much.
func (r *room) take(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit > 0 && r.used+n > r.limit {
		return ErrFull
	}
	r.used += n
	return nil
}

// force counts what is on the disk already.
func (r *room) force(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += n
}

func (r *room) give(n int64) { r.force(-n) }
