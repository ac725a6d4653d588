package volume

import (
	"sync"
	"time"
)

// grace is how long a server may be away before people are told: right after a start
// the board's own network is not there yet, and what comes back by itself hosts hardly
// notice, as their requests wait that long.
const grace = 30 * time.Second

// An outage is the time in which a server cannot be reached.
type outage struct {
	// tell tells people why a server cannot be reached, or with nil that it can again.
	// It must not call the outage.
	tell func(error)

	mu     sync.Mutex
	why    error
	timer  *time.Timer // nil: there is none
	told   bool
	closed bool
}

// lost begins an outage, or says that something else is wrong now.
func (o *outage) lost(why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.why = why
	switch {
	case o.closed:
	case o.told:
		o.tell(why)
	case o.timer == nil:
		var timer *time.Timer
		timer = time.AfterFunc(grace, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.timer == timer { // else it has just ended
				o.told = true
				o.tell(o.why)
			}
		})
		o.timer = timer
	}
}

// still says why a server cannot be reached now, which is no news.
func (o *outage) still(why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.why = why
}

// found ends an outage. If nobody was told of it nobody is told of its end.
func (o *outage) found() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if told := o.end(); told {
		o.tell(nil)
	}
}

// close ends it without a word: nothing is told from then on.
func (o *outage) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.end()
}

func (o *outage) end() (told bool) {
	if o.timer != nil {
		o.timer.Stop()
	}
	told = o.told
	o.timer, o.told = nil, false
	return told
}
