package host

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Power is the power state machine. Its state is what the wires say; a
// command is an operation that drives a wire and waits for the wires to agree.
// One operation runs at a time, in a goroutine of its own (request.go says how
// it gets there, sequence.go what it does); what the host does by itself is
// judged in observe.go, and what it is owed after a power failure in
// restore.go.
type Power struct {
	power, reset, nmi *button // nil where absent
	parts             Parts
	boot              *Boot
	events            *Events
	log               *slog.Logger
	savePolicy        func(RestorePolicy, Origin) error
	saver             *saver
	hours             *hours
	watchdog          *Watchdog

	mu      sync.Mutex
	cfg     PowerConfig
	changed chan struct{} // closed and replaced when anything below changes

	running context.Context // Run's, nil while it does not run
	tasks   sync.WaitGroup  // goroutines that Run waits for
	op      *Operation      // the one under way, nil when idle
	next    *Operation      // the one that begins when op has ended; nil for none
	nmiOp   *Operation      // the diagnostic interrupt under way, apart from op

	state PowerState
	since time.Time
	fault bool

	takenUp bool // the wires' first levels were compared with the record
	led     led
	standby signal
	reseter resetSense

	panelPower, panelReset bounce // the front panel's own buttons

	causes     map[Cause]seenCause // why the next start may come
	lastPress  time.Time           // last press of the power button that may lead to a shutdown
	pressedBy  Origin              // who that was
	rec        record
	restoring  *time.Timer // the power-on that is owed
	saving     *time.Timer // SaveAfter
	retryQuiet bool        // the restore already failed once and was told
	hush       hush
}

// signal is a sense as last seen.
type signal struct {
	known  bool
	raw    bool // the wire's level
	active bool // raw, debounced
	failed bool // the wire does not work
	// debounce is the change of active that is to come.
	debounce *time.Timer
}

func newPower(parts Parts, boot *Boot, watchdog *Watchdog, opt Options) (*Power, error) {
	p := &Power{
		parts: parts, boot: boot, events: opt.Events, log: opt.Log, savePolicy: opt.SaveRestorePolicy,
		cfg: opt.Power, changed: make(chan struct{}), state: StateUnknown, since: time.Now(),
		saver: newSaver(opt.Store), hours: newHours(opt.Store, opt.Events), watchdog: watchdog,
	}
	for _, b := range []struct {
		to   **button
		line Line
		name string
	}{
		{&p.power, parts.PowerButton, "power button"},
		{&p.reset, parts.ResetButton, "reset button"},
		{&p.nmi, parts.NMIButton, "NMI button"},
	} {
		if b.line != nil {
			*b.to = &button{name: b.name, line: b.line, log: opt.Log}
		}
	}
	if err := opt.Power.Validate(); err != nil {
		return nil, fmt.Errorf("power settings: %w", err)
	}
	p.load()
	return p, nil
}

// Supports says whether the wires that a needs are there.
func (p *Power) Supports(a Action) bool {
	switch a {
	case Reset:
		return p.reset != nil
	case NMI:
		return p.nmi != nil
	case PressButton:
		return p.power != nil
	case PowerOn, ForceOff, GracefulOff, GracefulRestart, Cycle:
		// Without the LED nobody knows what a press of the button does.
		return p.power != nil && p.parts.PowerLED != nil
	}
	return false
}

// Status is one consistent look.
func (p *Power) Status() PowerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status()
}

func (p *Power) status() PowerStatus {
	return PowerStatus{
		State:        p.state,
		Since:        p.since,
		PowerGood:    p.led.known && (p.led.good || p.state == StateAsleep),
		StandbyWired: p.parts.Standby != nil,
		Standby:      p.standby.known && p.standby.active,
		ACFailed:     p.rec.ACFailed,
		Fault:        p.fault,
		OnByCommand:  p.rec.OnByCommand,
		RestartCause: p.rec.Cause,
		RestartVia:   p.rec.Via,
		RestartWarm:  p.rec.Warm,
		Restore:      p.cfg.Restore,
	}
}

// onFor says whether the host has been on for d, as far as its light tells; a
// sleeping one is not. Where none is wired it may be on, and counts as such.
func (p *Power) onFor(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parts.PowerLED == nil {
		return true
	}
	return p.led.known && p.led.good && p.state != StateAsleep && time.Since(p.led.goodAt) >= d
}

// Wait blocks until Status differs from old, or ctx ends.
func (p *Power) Wait(ctx context.Context, old PowerStatus) error {
	for {
		p.mu.Lock()
		now, changed := p.status(), p.changed
		p.mu.Unlock()
		if now != old {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Configure changes the times and the policy. An operation under way keeps
// the times it began a step with.
func (p *Power) Configure(c PowerConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg = c
	p.broadcast()
	return nil
}

// SetRestorePolicy changes the restore policy for good.
func (p *Power) SetRestorePolicy(r RestorePolicy, from Origin) error {
	if err := new(RestorePolicy).UnmarshalText([]byte(r)); err != nil {
		return err
	}
	if p.savePolicy != nil {
		if err := p.savePolicy(r, from); err != nil {
			return fmt.Errorf("saving the restore policy: %w", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg.Restore = r
	p.broadcast()
	return nil
}

func (p *Power) cfgNow() PowerConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg
}

// broadcast wakes all who wait for a change, with p.mu held.
func (p *Power) broadcast() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// setState enters a state, with p.mu held.
func (p *Power) setState(s PowerState) {
	if p.state == s {
		return
	}
	p.state, p.since = s, time.Now()
	p.broadcast()
	p.hours.enter(s)
	if s == StateOff || s == StateAsleep {
		p.watchdog.hostGone()
	}
	switch s {
	case StateOn, StateOff, StateAsleep:
		if p.rec.Asleep != (s == StateAsleep) {
			p.rec.Asleep = s == StateAsleep
			p.save()
		}
	}
}

// after runs f with p.mu held once d has passed, unless the timer is stopped
// or replaced before.
func (p *Power) after(slot **time.Timer, d time.Duration, f func()) {
	p.stopTimer(slot)
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if *slot != t || p.running == nil || p.running.Err() != nil {
			return
		}
		*slot = nil
		f()
	})
	*slot = t
}

func (p *Power) stopTimer(slot **time.Timer) {
	if *slot != nil {
		(*slot).Stop()
		*slot = nil
	}
}
