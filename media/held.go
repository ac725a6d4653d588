package media

import "sync"

// A held medium is a content that the host uses. Its end waits for the calls
// under way.
type held struct {
	content
	mu    sync.RWMutex // held to read by calls
	ended bool
}

func (h *held) ReadAt(p []byte, off int64) (int, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.ended {
		return 0, ErrStopped
	}
	return h.content.ReadAt(p, off)
}

func (h *held) WriteAt(p []byte, off int64) (int, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.ended {
		return 0, ErrStopped
	}
	return h.content.WriteAt(p, off)
}

func (h *held) Flush() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.ended {
		return ErrStopped
	}
	return h.content.Flush()
}

func (h *held) close(keep bool) error {
	h.interrupt()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	return h.content.close(keep)
}
