package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// A WatchdogUse says what a watchdog timer watches over.
type WatchdogUse string

// The uses (IPMI 2.0 table 27-4).
const (
	WatchdogNone     WatchdogUse = ""
	WatchdogBIOSFRB2 WatchdogUse = "bios-frb2"
	WatchdogBIOSPost WatchdogUse = "bios-post"
	WatchdogOSLoad   WatchdogUse = "os-load"
	WatchdogSMSOS    WatchdogUse = "sms-os"
	WatchdogOEM      WatchdogUse = "oem"
)

// A WatchdogChange says more of an event of the watchdog.
type WatchdogChange struct {
	Use WatchdogUse `json:"use"`
	// Action is what was done when it expired; empty: nothing.
	Action Action `json:"action,omitempty"`
	// Pre: it is about to expire.
	Pre bool `json:"pre,omitempty"`
}

// A WatchdogConfig is what the timer does.
type WatchdogConfig struct {
	Use WatchdogUse
	// Action is done when the timer expires: Reset, ForceOff, Cycle; empty:
	// nothing.
	Action Action
	// PreNMI sends the host a diagnostic interrupt PreTimeout before the timer
	// expires; 0: when it does.
	PreNMI     bool
	PreTimeout time.Duration
	// Timeout is what Start counts down from; 0: it expires at once.
	Timeout time.Duration
	// Quiet: no event when the timer expires next, nor before that. A restart
	// of the host ends it too (IPMI 2.0 chapter 27).
	Quiet bool
	// KeepRunning: Set lets a running timer go on with the new count, else it
	// stops it.
	KeepRunning bool
	// ClearExpired are the uses whose mark in WatchdogStatus.Expired Set takes
	// away.
	ClearExpired []WatchdogUse
}

// A WatchdogStatus is one look at the timer.
type WatchdogStatus struct {
	// Config is as it was set, KeepRunning and ClearExpired excepted, and Quiet
	// if it is still in force.
	Config WatchdogConfig
	// Set: Set was called since the board's software started.
	Set     bool
	Running bool
	// Left is the count; it stands still while the timer does not run.
	Left time.Duration
	// Expired marks the uses that the timer expired in; nil: none.
	Expired map[WatchdogUse]bool
	// PreTimedOut: the count is within PreTimeout, and PreNMI was told so.
	PreTimedOut bool
}

// Watchdog is the timer that deals with a host that hangs (IPMI 2.0 chapter
// 27). Who watches over the host sets it, starts it, and starts it again before
// it expires.
//
// A host that goes off or to sleep stops it: nobody is there to start it again.
// So does a restart where it watches over what ran before (SMS/OS, OEM): the
// host's firmware knows of no board that it had to stop the timer of. One that
// watches over the start itself (BIOS, OS load) goes on. A restart of the
// board's software stops it too, and never acts on the host.
type Watchdog struct {
	events *Events
	power  *Power
	wake   chan struct{}

	mu      sync.Mutex // never held in a call of power, which calls with its own held
	cfg     WatchdogConfig
	set     bool
	running bool
	ends    time.Time     // while running
	left    time.Duration // while not
	preDone bool
	expired map[WatchdogUse]bool

	// who watches starts the timer over and over again: only what is new is told
	told   watchdogTold
	tellAt time.Time // when a stop by Set is told unless it is started again; zero: none
	by     Origin    // who did that
}

// watchdogTold is what was last told of the timer.
type watchdogTold struct {
	running bool
	use     WatchdogUse
	action  Action
	preNMI  bool
	pre     time.Duration
	timeout time.Duration
}

// stopTold is how long after a stop by Set it is told, for that is also how a
// timer is set anew.
const stopTold = 2 * time.Second

func newWatchdog(events *Events) *Watchdog {
	return &Watchdog{events: events, wake: make(chan struct{}, 1)}
}

// Supports says whether the wires can do what the timer would do when it
// expires.
func (w *Watchdog) Supports(a Action) bool {
	switch a {
	case "":
		return true
	case Reset, ForceOff, Cycle:
		return w.power.Supports(a)
	}
	return false
}

// SupportsPreNMI says whether the wires can do PreNMI.
func (w *Watchdog) SupportsPreNMI() bool { return w.power.Supports(NMI) }

// Set says what the timer does. It answers errors.ErrUnsupported for what the
// wires cannot do, and ErrInvalid for values that make no sense. The timer is
// stopped then, unless KeepRunning.
func (w *Watchdog) Set(c WatchdogConfig, from Origin) error {
	if err := w.check(c); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, use := range c.ClearExpired {
		delete(w.expired, use)
	}
	keep := c.KeepRunning && w.running
	c.KeepRunning, c.ClearExpired = false, nil
	w.cfg, w.set, w.preDone = c, true, false
	if keep {
		w.count(from)
		return nil
	}
	w.running, w.left = false, c.Timeout
	if w.told.running {
		w.tellAt, w.by = time.Now().Add(stopTold), from
	}
	w.poke()
	return nil
}

func (w *Watchdog) check(c WatchdogConfig) error {
	for _, use := range append([]WatchdogUse{c.Use}, c.ClearExpired...) {
		switch use {
		case WatchdogBIOSFRB2, WatchdogBIOSPost, WatchdogOSLoad, WatchdogSMSOS, WatchdogOEM:
		default:
			return fmt.Errorf("watchdog use %q: %w", use, ErrInvalid)
		}
	}
	switch {
	case !w.Supports(c.Action):
		return fmt.Errorf("watchdog action %q: %w", c.Action, errors.ErrUnsupported)
	case c.PreNMI && !w.SupportsPreNMI():
		return fmt.Errorf("a watchdog's diagnostic interrupt: %w", errors.ErrUnsupported)
	case c.Timeout < 0 || c.PreTimeout < 0 || c.PreNMI && c.PreTimeout > c.Timeout:
		return fmt.Errorf("watchdog times of %v and %v before: %w", c.Timeout, c.PreTimeout, ErrInvalid)
	}
	return nil
}

// Start starts the count, or starts it again. It answers ErrNotSet before any
// Set. Once PreNMI was sent only Set stops the count (IPMI 2.0 section 27.5).
func (w *Watchdog) Start(from Origin) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.set:
		return ErrNotSet
	case w.running && w.preDone:
		return nil
	}
	w.preDone = false
	w.count(from)
	return nil
}

// count begins the count, with w.mu held.
func (w *Watchdog) count(from Origin) {
	w.running, w.ends, w.tellAt = true, time.Now().Add(w.cfg.Timeout), time.Time{}
	c := w.cfg
	if now := (watchdogTold{true, c.Use, c.Action, c.PreNMI, c.PreTimeout, c.Timeout}); w.told != now {
		w.told = now
		what := "nothing is done"
		if c.Action != "" {
			what = fmt.Sprintf("%q is done", c.Action)
		}
		w.events.Add(Event{Kind: "watchdog.set", Origin: from, Watchdog: &WatchdogChange{Use: c.Use, Action: c.Action},
			Message: fmt.Sprintf("The watchdog timer (%s) runs: %s unless it is started again within %v.", c.Use, what, c.Timeout)})
	}
	w.poke()
}

// Stop stops the count.
func (w *Watchdog) Stop(from Origin) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.halt() {
		w.tellStop(from)
	}
}

// halt stops the count, if there is one, with w.mu held.
func (w *Watchdog) halt() bool {
	if !w.running {
		return false
	}
	w.running, w.left = false, max(0, time.Until(w.ends))
	w.poke()
	return true
}

func (w *Watchdog) tellStop(from Origin) {
	w.told, w.tellAt = watchdogTold{}, time.Time{}
	w.events.Add(Event{Kind: "watchdog.set", Origin: from, Watchdog: &WatchdogChange{Use: w.cfg.Use},
		Message: fmt.Sprintf("The watchdog timer (%s) was stopped.", w.cfg.Use)})
}

// Status never blocks.
func (w *Watchdog) Status() WatchdogStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := WatchdogStatus{Config: w.cfg, Set: w.set, Running: w.running, Left: w.left, PreTimedOut: w.preDone}
	if w.running {
		s.Left = max(0, time.Until(w.ends))
	}
	if len(w.expired) > 0 {
		s.Expired = maps.Clone(w.expired)
	}
	return s
}

// hostGone is told that the host went off or to sleep. Like hostRestarted it
// is called with the Power's lock held.
func (w *Watchdog) hostGone() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.halt()
	w.told, w.tellAt = watchdogTold{}, time.Time{}
}

// hostRestarted is told that the host started again without losing power.
func (w *Watchdog) hostRestarted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cfg.Quiet = false
	switch w.cfg.Use {
	case WatchdogBIOSFRB2, WatchdogBIOSPost, WatchdogOSLoad:
		return
	}
	w.halt()
	w.told, w.tellAt = watchdogTold{}, time.Time{}
}

func (w *Watchdog) poke() {
	select {
	case w.wake <- struct{}{}:
	default: // run is awake already
	}
}

// run counts until ctx ends.
func (w *Watchdog) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ctx.Done():
			w.mu.Lock()
			w.halt()
			w.told, w.tellAt = watchdogTold{}, time.Time{}
			w.mu.Unlock()
			return
		}
		next := w.tick(time.Now())
		if next.IsZero() {
			timer.Stop()
			continue
		}
		timer.Reset(time.Until(next))
	}
}

// tick does what is due, and says when the next is; zero: nothing is to come.
func (w *Watchdog) tick(now time.Time) (next time.Time) {
	w.mu.Lock()
	c, pre, end := w.cfg, false, false
	if w.running {
		next = w.ends
		if at := w.ends.Add(-c.PreTimeout); c.PreNMI && !w.preDone {
			if pre = !now.Before(at); pre {
				w.preDone = true
			} else {
				next = at
			}
		}
		if end = !now.Before(w.ends); end {
			next = time.Time{}
			w.running, w.left, w.cfg.Quiet, w.told = false, 0, false, watchdogTold{}
			if w.expired == nil {
				w.expired = map[WatchdogUse]bool{}
			}
			w.expired[c.Use] = true
		}
	}
	switch {
	case w.tellAt.IsZero():
	case !now.Before(w.tellAt):
		w.tellStop(w.by)
	case next.IsZero() || w.tellAt.Before(next):
		next = w.tellAt
	}
	w.mu.Unlock()
	if pre {
		w.preTimeout(c)
	}
	if end {
		w.expire(c)
	}
	return next
}

// preTimeout sends the diagnostic interrupt of a timer that is about to expire.
func (w *Watchdog) preTimeout(c WatchdogConfig) {
	if !c.Quiet {
		w.events.Add(Event{Severity: Warning, Kind: "watchdog.pre-timeout", Watchdog: &WatchdogChange{Use: c.Use, Action: c.Action, Pre: true},
			Message: fmt.Sprintf("The watchdog timer (%s) expires in %v.", c.Use, c.PreTimeout)})
	}
	if !w.hostOff() {
		w.act(NMI)
	}
}

// expire does what the timer was set for. A host that is off or asleep stays so.
func (w *Watchdog) expire(c WatchdogConfig) {
	if w.hostOff() {
		c.Action = ""
	}
	if !c.Quiet {
		msg := fmt.Sprintf("The watchdog timer (%s) expired.", c.Use)
		if c.Action != "" {
			msg = fmt.Sprintf("The watchdog timer (%s) expired; action: %s.", c.Use, c.Action)
		}
		w.events.Add(Event{Severity: Critical, Kind: "watchdog.expired", Watchdog: &WatchdogChange{Use: c.Use, Action: c.Action}, Message: msg})
	}
	if c.Action != "" {
		w.act(c.Action)
	}
}

func (w *Watchdog) hostOff() bool {
	state := w.power.Status().State
	return state == StateOff || state == StateAsleep
}

// act begins an action. What comes of it is told by the Power; one that is
// refused is not tried again: the host is being dealt with already.
func (w *Watchdog) act(a Action) {
	if _, err := w.power.Request(a, CauseWatchdog, Origin{}); err != nil {
		w.events.Add(Event{Severity: Warning, Kind: "watchdog.failed", Message: fmt.Sprintf("The watchdog timer's action was not done: %v.", err)})
	}
}
