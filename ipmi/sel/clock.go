package sel

import (
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// A Clock is the one of the SEL and of the SDR repository: the board's, and how
// far off a console set it.
type Clock struct {
	db     *store.Store
	events Events

	saving sync.Mutex // one change at a time
	mu     sync.Mutex // guards kept
	kept   clockState
}

type clockState struct {
	Offset time.Duration `json:"offset,omitempty"` // what it shows, less the board's time
	// UTC is the time zone of what it shows, in minutes from UTC.
	UTC int16 `json:"utc,omitempty"`
}

const clockKey = "clock"

// NewClock reads what db keeps. It begins as the board's clock, in UTC.
func NewClock(db *store.Store, events Events, log *slog.Logger) *Clock {
	c := &Clock{db: db, events: events}
	if _, err := db.GetJSON(stateBucket, clockKey, &c.kept); err != nil {
		log.Error("the SEL's clock is the board's: what was kept cannot be read", "error", err)
		c.kept = clockState{}
	}
	return c
}

func (c *Clock) now() clockState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// Time is what it shows at now, in seconds since 1970 (section 37).
func (c *Clock) Time(now time.Time) uint32 {
	t := now.Add(c.now().Offset).Unix()
	// FFFFFFFFh is "unspecified".
	return uint32(min(max(t, 0), math.MaxUint32-1))
}

// Set makes it show t at now. It is on the disk when Set returns nil.
func (c *Clock) Set(t uint32, now time.Time, from host.Origin) error {
	if c.Time(now) == t {
		return nil // there are scripts that set it over and over again
	}
	at := time.Unix(int64(t), 0)
	return c.change(func(s *clockState) { s.Offset = at.Sub(now) }, host.Event{Kind: "sel.time-set", Origin: from,
		Message: fmt.Sprintf("The clock of the IPMI event log was set to %s.", at.UTC().Format("2006-01-02 15:04:05Z"))})
}

func (c *Clock) setUTC(minutes int16, from host.Origin) error {
	if c.now().UTC == minutes {
		return nil
	}
	return c.change(func(s *clockState) { s.UTC = minutes }, host.Event{Kind: "sel.time-set", Origin: from,
		Message: fmt.Sprintf("The time zone of the IPMI event log's clock was set to %d minutes from UTC.", minutes)})
}

func (c *Clock) change(f func(*clockState), e host.Event) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	kept := c.now()
	f(&kept)
	if err := c.db.PutJSON(stateBucket, clockKey, kept); err != nil {
		return err
	}
	c.mu.Lock()
	c.kept = kept
	c.mu.Unlock()
	c.events.Add(e)
	return nil
}
