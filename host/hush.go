package host

import (
	"fmt"
	"sync"
	"time"
)

// A hush keeps a wire that chatters from filling the log: what the wires say
// by themselves is logged in bursts of hushBurst of one sort, and then one each
// hushEvery. What somebody asked for is not hushed.
type hush struct {
	mu    sync.Mutex
	sorts map[string]*budget
}

const (
	hushBurst = 20
	hushEvery = 10 * time.Minute
)

// budget is what a sort of events may still use.
type budget struct {
	used   int       // at most hushBurst
	since  time.Time // used goes down by one each hushEvery from here
	untold int       // events left out since the last one logged
}

// note logs what a wire said. wire, where it is given, has a budget of its own.
func (p *Power) note(e Event, wire ...string) {
	if say, more := p.hush.take(fmt.Sprint(e.Kind, wire), time.Now()); say {
		e.Message += more
		p.events.Add(e)
	}
}

// take says whether an event of a sort may be logged, and what to add to it.
func (h *hush) take(sort string, now time.Time) (say bool, more string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sorts == nil {
		h.sorts = map[string]*budget{}
	}
	b := h.sorts[sort]
	if b == nil {
		b = &budget{}
		h.sorts[sort] = b
	}
	regained := min(b.used, int(now.Sub(b.since)/hushEvery))
	b.used -= regained
	b.since = b.since.Add(time.Duration(regained) * hushEvery)
	if b.used == 0 {
		b.since = now
	}
	if b.used == hushBurst {
		b.untold++
		return false, ""
	}
	b.used++
	if b.untold > 0 {
		more = fmt.Sprintf(" (%d more like it were not logged.)", b.untold)
		b.untold = 0
	} else if b.used == hushBurst {
		more = fmt.Sprintf(" (From now on these are logged at most once in %v.)", hushEvery)
	}
	return true, more
}
