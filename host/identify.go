package host

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Identify is the light that shows a person which machine is meant.
type Identify struct {
	line   Line
	events *Events

	on    atomic.Bool // apart from mu: who looks never waits for the wire
	mu    sync.Mutex
	timer *time.Timer
}

// On says whether the light is on.
func (i *Identify) On() bool { return i.on.Load() }

// Set lights it for d; 0 puts it out, less than 0 leaves it on.
func (i *Identify) Set(d time.Duration, from Origin) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	was, timed := i.on.Load(), i.timer != nil
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
	if err := i.set(d != 0); err != nil {
		return err
	}
	if d > 0 {
		var t *time.Timer
		t = time.AfterFunc(d, func() {
			i.mu.Lock()
			defer i.mu.Unlock()
			if i.timer != t {
				return
			}
			i.timer = nil
			if err := i.set(false); err != nil {
				i.events.Add(Event{Severity: Warning, Kind: "wire.failed", Message: err.Error()})
			}
		})
		i.timer = t
	}
	if is := d != 0; was == is && timed == (d > 0) {
		return nil // prolonged at most, as scripts do over and over again
	}
	msg := "The ID light was put out."
	switch {
	case d < 0:
		msg = "The ID light was switched on."
	case d > 0:
		msg = fmt.Sprintf("The ID light was switched on for %v.", d)
	}
	i.events.Add(Event{Kind: "identify", Origin: from, Message: msg})
	return nil
}

func (i *Identify) set(on bool) error {
	if err := i.line.Set(on); err != nil {
		return fmt.Errorf("the ID light: %w", err)
	}
	i.on.Store(on)
	return nil
}

// begin puts out a light that a run which died may have left on.
func (i *Identify) begin() {
	if err := i.stop(); err != nil {
		i.events.Add(Event{Severity: Warning, Kind: "wire.failed", Message: err.Error()})
	}
}

// stop puts the light out.
func (i *Identify) stop() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
	return i.set(false)
}
