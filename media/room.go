package media

import (
	"fmt"
	"sync"
	"syscall"
)

// reserve is what media leave free of their file system, in bytes: the board's
// state has to be written at any time.
const reserve = 32 << 20

// A room is the space on the disk that library and caches share.
type room struct {
	limit int64 // 0: none but what the disk has
	// free answers how many bytes there are for files in dir.
	free func(dir string) (int64, error)
	dir  string

	mu   sync.Mutex
	used int64
}

// take reserves n bytes, and answers ErrFull where that is too much.
func (r *room) take(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fits(n); err != nil {
		return err
	}
	r.used += n
	return nil
}

// has answers ErrFull where take would.
func (r *room) has(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fits(n)
}

// fits is has with r.mu held.
func (r *room) fits(n int64) error {
	if r.limit > 0 && n > r.limit-r.used {
		return ErrFull
	}
	return r.onDisk(n)
}

// onDisk answers ErrFull where the disk has no room for n bytes more.
func (r *room) onDisk(n int64) error {
	left, err := r.free(r.dir)
	switch {
	case err != nil:
		return err
	case n > left-reserve:
		return ErrFull
	}
	return nil
}

// force counts what is on the disk already.
func (r *room) force(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += n
}

func (r *room) give(n int64) { r.force(-n) }

func free(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("the room in %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}
