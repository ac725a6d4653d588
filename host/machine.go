package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Power is the power state machine. Its state is what the wires say; a
// command is an operation that drives a wire and waits for the wires to agree.
// One operation runs at a time, in a goroutine of its own (sequence.go); what
// the host does by itself is judged in observe.go, and what it is owed after
// a power failure in restore.go.
type Power struct {
	power, reset, nmi *button // nil where absent
	parts             Parts
	boot              *Boot
	events            *Events
	log               *slog.Logger
	savePolicy        func(RestorePolicy, Origin) error
	saver             *saver

	mu      sync.Mutex
	cfg     PowerConfig
	changed chan struct{} // closed and replaced when anything below changes

	running context.Context // Run's, nil while it does not run
	tasks   sync.WaitGroup  // goroutines that Run waits for
	op      *Operation      // nil when idle

	state PowerState
	since time.Time
	fault bool

	takenUp bool // the wires' first levels were compared with the record
	led     led
	standby signal
	reseter resetSense

	causes     []seenCause // why the next start may come
	lastPress  time.Time   // last press of the power button that may lead to a shutdown
	pressedBy  Origin      // who that was
	rec        record
	restoring  *time.Timer // the power-on that is owed
	saving     *time.Timer // SaveAfter
	retryQuiet bool        // the restore already failed once and was told
}

// signal is a sense as last seen; failed: its wire does not work.
type signal struct {
	known, active, failed bool
}

// An Operation is a power request under way.
type Operation struct {
	action Action
	origin Origin
	cause  Cause
	asleep bool // the host sleeps, and its light blinks
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error
}

// Done is closed when the operation has ended.
func (o *Operation) Done() <-chan struct{} { return o.done }

// Err is the outcome; it may be asked only after Done is closed.
func (o *Operation) Err() error { return o.err }

// finished is the operation of a request that was true already.
func finished() *Operation {
	done := make(chan struct{})
	close(done)
	return &Operation{done: done}
}

func newPower(parts Parts, boot *Boot, opt Options) (*Power, error) {
	p := &Power{
		parts: parts, boot: boot, events: opt.Events, log: opt.Log, savePolicy: opt.SaveRestorePolicy,
		cfg: opt.Power, changed: make(chan struct{}), state: StateUnknown, since: time.Now(),
		saver: newSaver(opt.Store),
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

// Request asks for a power action and answers at once. A nil error says that
// the action has begun, or that the host is already as asked; its outcome is
// the Operation's. Otherwise nothing was done, and the error is
// errors.ErrUnsupported (a wire is absent), ErrBusy, ErrNoPower, ErrAsleep,
// ErrNoStandby or ErrStopped.
func (p *Power) Request(a Action, cause Cause, from Origin) (*Operation, error) {
	if !p.Supports(a) {
		return nil, fmt.Errorf("power %s: %w", a, errors.ErrUnsupported)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	how, err := p.admit(a)
	switch {
	case err != nil:
		return nil, fmt.Errorf("power %s: %w", a, err)
	case how == already:
		return finished(), nil
	case how == join:
		return p.op, nil
	}
	p.events.Add(Event{Kind: "power.request", Message: fmt.Sprintf("Power action %q was requested.", a), Origin: from})
	return p.start(a, cause, from, how), nil
}

// An admission is how a request is taken.
type admission int

const (
	begin     admission = iota
	already             // there is nothing to do
	join                // the operation under way is just that
	supersede           // it takes the place of the one under way
	queue               // it begins when the one under way has ended
)

// admit decides, with p.mu held, how a is taken, if it is.
func (p *Power) admit(a Action) (admission, error) {
	if p.running == nil {
		return 0, ErrStopped
	}
	if p.parts.PowerLED == nil {
		if p.op != nil && a != NMI {
			return 0, ErrBusy
		}
		return begin, nil
	}
	if !p.takenUp {
		return 0, ErrStopped
	}
	if p.op != nil {
		return p.admitDuring(a)
	}
	if p.standby.known && !p.standby.active && a != ForceOff && a != GracefulOff {
		return 0, ErrNoStandby
	}
	switch p.state {
	case StateOff:
		switch a {
		case ForceOff, GracefulOff:
			p.rec.Wanted = false // who says off means it to stay off
			p.forgetOwed()
			return already, nil
		case GracefulRestart, Cycle, Reset, NMI:
			return 0, ErrNoPower
		}
	case StateOn:
		if a == PowerOn {
			return already, nil
		}
	case StateAsleep:
		switch a {
		case GracefulOff, GracefulRestart, Reset, NMI:
			return 0, ErrAsleep
		}
	default:
		// The light went out a moment ago and nobody knows yet for what.
		if a != PowerOn {
			return 0, ErrBusy
		}
		p.setState(StateOff)
		p.wentOff()
	}
	return begin, nil
}

// admitDuring decides about a request while an operation is under way.
func (p *Power) admitDuring(a Action) (admission, error) {
	now := p.op.action
	if p.state == StatePoweringOn && p.led.good && !p.op.asleep {
		// The host is on, and who looks may ask for what comes next; only
		// the press of the button has to end.
		if a == PowerOn {
			return join, nil
		}
		return queue, nil
	}
	if (now == ForceOff || now == GracefulOff) && !p.led.good {
		// The host looks off, and who looks may ask for what comes next; the
		// operation only makes sure that the light does not blink.
		switch a {
		case PowerOn:
			return queue, nil
		case ForceOff, GracefulOff:
			return join, nil
		case GracefulRestart, Cycle, Reset, NMI:
			return 0, ErrNoPower
		}
	}
	// A host that takes its time to shut down can be dealt with harder.
	if now == GracefulOff || now == GracefulRestart && p.state == StatePoweringOff {
		switch a {
		case ForceOff, Cycle, Reset, NMI:
			return supersede, nil
		}
	}
	return 0, ErrBusy
}

// start runs an operation, with p.mu held.
func (p *Power) start(a Action, cause Cause, from Origin, how admission) *Operation {
	ctx, cancel := context.WithCancelCause(p.running)
	op := &Operation{action: a, origin: from, cause: cause, asleep: p.state == StateAsleep, cancel: cancel, done: make(chan struct{})}
	if a == NMI {
		p.tasks.Go(func() { p.finishNMI(op, p.nmi.press(ctx, p.cfgNow().NMIPulse, nil)) })
		return op
	}
	before := p.op
	if how == supersede {
		before.cancel(ErrSuperseded)
	}
	p.op = op
	p.stopTimer(&p.restoring)
	p.stopTimer(&p.saving)
	p.broadcast()
	p.tasks.Go(func() {
		if before != nil {
			<-before.done
		}
		p.finish(op, p.perform(ctx, op))
	})
	return op
}

// finish ends an operation: the state is again what the LED says.
func (p *Power) finish(op *Operation, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op.cancel(nil)
	op.err = err
	superseded := errors.Is(err, ErrSuperseded)
	last := p.op == op
	if last {
		p.op = nil
		p.rested(op)
	}
	switch {
	case err == nil:
		p.fault = false
	case superseded || p.running.Err() != nil:
	default:
		p.fault = true
		if !p.retryQuiet {
			p.events.Add(Event{Severity: Warning, Kind: "power.failed", Origin: op.origin,
				Message: fmt.Sprintf("Power action %q failed: %v. The host is %s.", op.action, err, p.state)})
		}
		p.afterFailure(op)
	}
	if last && p.running.Err() == nil && p.takenUp {
		if p.rec.Lost {
			p.judge() // the AC went and came while the operation ran
		}
		p.saveLater()
	}
	close(op.done)
	p.broadcast()
}

// rested sets the state from the LED after an operation, with p.mu held.
func (p *Power) rested(op *Operation) {
	switch {
	case p.parts.PowerLED == nil || !p.led.known:
		p.setState(StateUnknown)
	case p.led.edges >= asleepEdges:
		p.fellAsleep()
	case p.led.good:
		p.setState(StateOn)
	case (op.action == Reset || op.action == PressButton) && p.state == StateOn:
		// The light went out meanwhile, which neither action asks for.
		p.setState(StatePoweringOff)
		if p.led.settle == nil {
			p.steady()
		}
	default:
		p.setState(StateOff)
	}
}

func (p *Power) finishNMI(op *Operation, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op.cancel(nil)
	op.err = err
	if err != nil && p.running.Err() == nil {
		p.events.Add(Event{Severity: Warning, Kind: "power.failed", Origin: op.origin,
			Message: fmt.Sprintf("The diagnostic interrupt failed: %v.", err)})
	} else if err == nil {
		p.events.Add(Event{Kind: "power.nmi", Origin: op.origin, Message: "A diagnostic interrupt was sent to the host."})
	}
	close(op.done)
	p.broadcast()
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
		Restore:      p.cfg.Restore,
	}
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

// run drives the machine until ctx ends. When it returns, no goroutine is left
// and every button is released.
func (p *Power) run(ctx context.Context) error {
	var errs []error
	for _, b := range p.buttons() {
		errs = append(errs, b.release())
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.mu.Lock()
	p.running, p.takenUp = ctx, false
	p.mu.Unlock()

	var workers sync.WaitGroup
	workers.Go(func() { p.saver.run(ctx, p.log) })
	for _, w := range []struct {
		name string
		in   Sense
		see  func(bool)
		lose func() // nil: nothing hangs on it
	}{
		// Standby before the LED: what the LED says is judged by it.
		{"standby", p.parts.Standby, p.seeStandby, p.loseStandby},
		{"power LED", p.parts.PowerLED, p.seeLED, p.loseLED},
		{"host reset", p.parts.HostReset, p.seeReset, nil},
		{"power button sense", p.parts.PowerButtonPressed, p.seePowerButton, nil},
		{"reset button sense", p.parts.ResetButtonPressed, p.seeResetButton, nil},
	} {
		if w.in != nil {
			workers.Go(func() { p.watch(ctx, w.name, w.in, w.see, w.lose) })
		}
	}
	<-ctx.Done()
	workers.Wait()
	p.tasks.Wait()

	p.mu.Lock()
	p.running = nil
	for _, t := range []**time.Timer{&p.restoring, &p.saving, &p.led.debounce, &p.led.settle, &p.reseter.check} {
		p.stopTimer(t)
	}
	p.setState(StateUnknown)
	p.led = led{}
	p.standby = signal{}
	p.broadcast()
	p.mu.Unlock()
	errs = errs[:0]
	for _, b := range p.buttons() {
		errs = append(errs, b.release())
	}
	return errors.Join(append(errs, p.saver.flush())...)
}

func (p *Power) buttons() []*button {
	return slices.DeleteFunc([]*button{p.power, p.reset, p.nmi}, func(b *button) bool { return b == nil })
}

// watch follows one sense for as long as ctx lasts. A wire that fails is told
// once and tried again.
func (p *Power) watch(ctx context.Context, name string, in Sense, see func(bool), lose func()) {
	wait, told := 100*time.Millisecond, false
	for {
		err := in.Watch(ctx, func(active bool) {
			if told {
				told, wait = false, 100*time.Millisecond
				p.events.Add(Event{Kind: "wire.restored", Message: fmt.Sprintf("The wire %q works again.", name)})
			}
			see(active)
		})
		if ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			p.events.Add(Event{Severity: Critical, Kind: "wire.failed", Message: fmt.Sprintf("The wire %q failed: %v.", name, err)})
			if lose != nil {
				lose()
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, 10*time.Second)
	}
}
