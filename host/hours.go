package host

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// hours counts how long the host was on in all. So that the card lasts, it is
// written once an hour, when the host goes off and was on for a minute since,
// and at the end of Run: a crash loses an hour at most.
type hours struct {
	db   *store.Store
	wake chan struct{}

	mu    sync.Mutex
	total time.Duration // up to since
	since time.Time     // when the host came on; zero: it is off
	saved time.Duration // as it is in the store
}

const (
	hoursKey   = "hours"
	hoursEvery = time.Hour
	// hoursLeast is the least that is written when the host goes off: a wire
	// that chatters must not wear out the card.
	hoursLeast = time.Minute
)

func newHours(db *store.Store, events *Events) *hours {
	h := &hours{db: db, wake: make(chan struct{}, 1)}
	if _, err := db.GetJSON(powerBucket, hoursKey, &h.total); err != nil {
		h.total = 0
		events.Add(Event{Severity: Warning, Kind: "power.record", Message: fmt.Sprintf("The count of power-on hours begins anew: %v.", err)})
	}
	h.saved = h.total
	return h
}

// Hours says how long the host was on in all since the board first ran; a
// sleeping host counts as on. It is not ok where no power LED is wired.
func (p *Power) Hours() (on time.Duration, ok bool) {
	return p.hours.get(), p.parts.PowerLED != nil
}

func (h *hours) get() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return h.total
	}
	return h.total + time.Since(h.since)
}

// enter is told of each new state. It returns at once.
func (h *hours) enter(s PowerState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := !h.since.IsZero()
	on := was
	switch s {
	case StateOn, StateAsleep:
		on = true
	case StateOff, StateUnknown:
		on = false
	}
	switch {
	case on == was:
		return
	case on:
		h.since = time.Now()
	default:
		h.total += time.Since(h.since)
		h.since = time.Time{}
	}
	select {
	case h.wake <- struct{}{}:
	default: // run is awake already
	}
}

// run writes the count until ctx ends.
func (h *hours) run(ctx context.Context, log *slog.Logger) {
	for {
		h.mu.Lock()
		off := h.since.IsZero() && h.total-h.saved >= hoursLeast
		h.mu.Unlock()
		if off {
			h.saveOrLog(log)
		}
		select {
		case <-h.wake:
		case <-time.After(hoursEvery):
			h.saveOrLog(log)
		case <-ctx.Done():
			return
		}
	}
}

func (h *hours) saveOrLog(log *slog.Logger) {
	if err := h.save(); err != nil {
		log.Error("the power-on hours could not be saved", "error", err)
	}
}

// save writes the count if it has changed.
func (h *hours) save() error {
	total := h.get()
	h.mu.Lock()
	done := total == h.saved
	h.mu.Unlock()
	if done {
		return nil
	}
	if err := h.db.PutJSON(powerBucket, hoursKey, total); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = total
	return nil
}
