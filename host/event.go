package host

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// A Severity grades an event as Redfish's Health does.
type Severity string

// The severities, from harmless to urgent.
const (
	OK       Severity = "OK"
	Warning  Severity = "Warning"
	Critical Severity = "Critical"
)

// An Origin says who caused something and from where. The zero Origin is the
// board itself.
type Origin struct {
	// Via is the front-end: "ipmi", "ssh", "redfish", "panel" for a person's
	// finger on the machine, "" for the board itself.
	Via string `json:"via,omitempty"`
	// User is the user's name as given.
	User string `json:"user,omitempty"`
	// Source is the network address, without port.
	Source string `json:"source,omitempty"`
}

// String says the origin in a few words: "admin from 10.0.0.1 by ssh".
func (o Origin) String() string {
	s := o.User
	if o.Source != "" {
		s += " from " + o.Source
	}
	if o.Via != "" {
		s += " by " + o.Via
	}
	if s == "" {
		return "the board"
	}
	if s[0] == ' ' {
		s = s[1:]
	}
	return s
}

// An Event is one line of the one log. SEL, Redfish LogService, SSE and the
// console's events command are views of it.
type Event struct {
	// ID counts from 1 and is never used again.
	ID uint64 `json:"id"`
	// Time is the board's clock at the event.
	Time     time.Time `json:"time"`
	Severity Severity  `json:"severity"`
	// Kind is a stable dotted name: "power.on", "auth.failed".
	Kind string `json:"kind"`
	// Message is one English sentence.
	Message string `json:"message"`
	Origin  Origin `json:"origin,omitzero"`
	// Sensor says more of the kinds that begin with "sensor." and "thermal.", and
	// Watchdog of those with "watchdog.".
	Sensor   *SensorChange   `json:"sensor,omitempty"`
	Watchdog *WatchdogChange `json:"watchdog,omitempty"`
	// Data is what a front-end keeps with an event that came over it, in its
	// own form.
	Data []byte `json:"data,omitempty"`
}

// MaxEvents is how many events the log keeps; the oldest go first.
const MaxEvents = 4096

// The IDs up to the reserved one may have been given out: a crash loses the
// events that were not written yet, and their IDs must not be given again. A
// clean end gives back what was not used.
const (
	eventBucket   = "events"
	eventIDBucket = "event-ids"
	reservedKey   = "reserved"
	reserveAhead  = 512
)

// Events is the one event log. Add returns at once; one writer puts what came
// meanwhile into the store together, so that a burst costs few flash writes.
type Events struct {
	log *slog.Logger
	db  *store.Store

	mu       sync.Mutex
	list     []Event // oldest first, at most MaxEvents
	last     uint64  // ID of the newest event ever
	written  uint64  // newest ID that is in the store
	reserved uint64  // as it is in the store
	grew     chan struct{}
	tried    chan struct{} // closed when the writer has tried to write
	failed   error         // of the last try
}

// OpenEvents reads the log kept in db. An entry that cannot be read is left
// out, and an event says so.
func OpenEvents(db *store.Store, log *slog.Logger) (*Events, error) {
	l := &Events{log: log, db: db, grew: make(chan struct{}), tried: make(chan struct{})}
	bad := 0
	err := db.Update(func(t store.Tx) error {
		if v := t.Get(eventIDBucket, []byte(reservedKey)); len(v) == 8 {
			l.last = binary.BigEndian.Uint64(v)
		}
		err := t.Each(eventBucket, func(k, v []byte) error {
			if len(k) == 8 {
				l.last = max(l.last, binary.BigEndian.Uint64(k))
			}
			var e Event
			if err := json.Unmarshal(v, &e); err != nil || len(k) != 8 {
				bad++
				return nil
			}
			l.list = append(l.list, e)
			return nil
		})
		if err != nil {
			return err
		}
		return l.reserve(t, l.last+reserveAhead)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the event log: %w", err)
	}
	l.written, l.reserved = l.last, l.last+reserveAhead
	l.list = l.list[max(0, len(l.list)-MaxEvents):]
	if bad > 0 {
		l.Add(Event{Severity: Warning, Kind: "events.damaged", Message: fmt.Sprintf("%d kept events could not be read.", bad)})
	}
	return l, nil
}

func (l *Events) reserve(t store.Tx, id uint64) error {
	return t.Put(eventIDBucket, []byte(reservedKey), binary.BigEndian.AppendUint64(nil, id))
}

// Add appends e; it sets ID, and Time and Severity where they are zero, and
// returns the event as logged.
func (l *Events) Add(e Event) Event {
	if e.Severity == "" {
		e.Severity = OK
	}
	l.mu.Lock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	l.last++
	e.ID = l.last
	if len(l.list) == MaxEvents {
		l.list[0] = Event{} // its strings may go at once, the array when it is full
		l.list = l.list[1:]
	}
	l.list = append(l.list, e)
	close(l.grew)
	l.grew = make(chan struct{})
	l.mu.Unlock()

	level := slog.LevelInfo
	if e.Severity != OK {
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, e.Message, "kind", e.Kind, "event", e.ID, "origin", e.Origin.String())
	return e
}

// Since returns the kept events whose ID is greater than id, oldest first, at
// most limit (0: all).
func (l *Events) Since(id uint64, limit int) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.since(id, limit)
}

func (l *Events) since(id uint64, limit int) []Event {
	lo, hi := 0, len(l.list)
	for lo < hi {
		mid := (lo + hi) / 2
		if l.list[mid].ID > id {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	found := l.list[lo:]
	if limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return append([]Event(nil), found...)
}

// Last returns the ID of the newest event, 0 where there was none.
func (l *Events) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Wait blocks until there is an event whose ID is greater than id, or ctx ends.
func (l *Events) Wait(ctx context.Context, id uint64) error {
	for {
		l.mu.Lock()
		if l.last > id {
			l.mu.Unlock()
			return nil
		}
		grew := l.grew
		l.mu.Unlock()
		select {
		case <-grew:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Flush waits until all that was added before is in the store. It fails when ctx
// ends, and at once where the store does not work: a Run that goes on writes
// then when it can.
func (l *Events) Flush(ctx context.Context) error {
	l.mu.Lock()
	last := l.last
	for l.written < last {
		tried, failed := l.tried, l.failed
		l.mu.Unlock()
		if failed != nil {
			return failed
		}
		select {
		case <-tried:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
	}
	l.mu.Unlock()
	return nil
}

// Run writes events to the store until ctx ends, then writes what is left.
func (l *Events) Run(ctx context.Context) error {
	for {
		// Wait returns nil also when ctx has ended, if there is an event.
		if err := cmp.Or(l.Wait(ctx, l.onDisk()), ctx.Err()); err != nil {
			return errors.Join(err, l.flush(true))
		}
		if err := l.flush(false); err != nil {
			// The log stays in memory; the store may work again later.
			l.log.Error("events could not be written", "error", err)
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
		}
	}
}

func (l *Events) onDisk() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written
}

// flush writes what is not in the store yet. final: no event is to follow.
func (l *Events) flush(final bool) error {
	l.mu.Lock()
	todo := l.since(l.written, 0)
	last, reserved, oldest := l.last, l.reserved, uint64(0)
	if len(l.list) > 0 {
		oldest = l.list[0].ID
	}
	l.mu.Unlock()
	switch {
	case final:
		reserved = last
	case reserved < last+reserveAhead/2:
		reserved = last + reserveAhead
	}
	if len(todo) == 0 && !final {
		return nil
	}
	err := l.db.Update(func(t store.Tx) error {
		for _, e := range todo {
			v, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if err := t.Put(eventBucket, binary.BigEndian.AppendUint64(nil, e.ID), v); err != nil {
				return err
			}
		}
		if err := l.reserve(t, reserved); err != nil {
			return err
		}
		return t.DeleteBelow(eventBucket, binary.BigEndian.AppendUint64(nil, oldest))
	})
	if err != nil {
		err = fmt.Errorf("writing events: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.written, l.reserved = last, reserved
	}
	l.failed = err
	close(l.tried)
	l.tried = make(chan struct{})
	return err
}
