package system

import (
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
)

// restarts knows when the host last started or restarted: the event log does.
type restarts struct {
	events *host.Events

	mu     sync.Mutex
	seen   uint64 // events up to this ID were looked at
	latest time.Time
}

// last is that time, "" where the log does not have it. It has fractions of a
// second: clients see by it that a host restarted, also one that was just started.
func (r *restarts) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events.Since(r.seen, 0) {
		r.seen = e.ID
		if e.Kind == "power.on" || e.Kind == "power.restarted" {
			r.latest = e.Time
		}
	}
	if r.latest.IsZero() {
		return ""
	}
	return r.latest.UTC().Format(time.RFC3339Nano)
}
