package host

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Operation is a power request under way.
type Operation struct {
	action Action
	origin Origin
	cause  Cause
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error

	asleep    bool // the host sleeps, and its light blinks
	unsettled bool // the light went out a moment ago; nobody knows yet for what
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

// Request asks for a power action and answers at once. A nil error says that
// the action has begun, that it begins as soon as the one under way has ended,
// or that the host is already as asked; its outcome is the Operation's.
// Otherwise nothing was done, and the error is errors.ErrUnsupported (a wire is
// absent), ErrBusy, ErrNoPower, ErrAsleep, ErrNoStandby or ErrStopped.
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
	case how == join && p.next != nil:
		return p.next, nil
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
	join                // the newest operation is just that
	supersede           // it takes the place of the one under way
	queue               // it begins when the one under way has ended
)

// admit decides, with p.mu held, how a is taken, if it is.
func (p *Power) admit(a Action) (admission, error) {
	if p.running == nil || p.running.Err() != nil || p.parts.PowerLED != nil && !p.takenUp {
		return 0, ErrStopped
	}
	if a == NMI && p.nmiOp != nil {
		return 0, ErrBusy
	}
	if p.noAC() && a != ForceOff && a != GracefulOff {
		return 0, ErrNoStandby
	}
	if p.parts.PowerLED == nil {
		if p.op != nil && a != NMI {
			return 0, ErrBusy
		}
		return begin, nil
	}
	if p.op != nil {
		return p.admitDuring(a)
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
			if p.rec.Going == "" {
				p.rec.Wanted = true
				p.save()
			}
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
	}
	return begin, nil
}

// admitDuring decides about a request while an operation is under way.
func (p *Power) admitDuring(a Action) (admission, error) {
	if p.next != nil && a != NMI {
		if p.next.action == a {
			return join, nil
		}
		return 0, ErrBusy
	}
	now := p.op.action
	if p.state == StatePoweringOn && p.led.good && !p.op.asleep {
		// The host is on, and who looks may ask for what comes next; only
		// the press of the button has to end.
		if a == PowerOn {
			return join, nil
		}
		return queue, nil
	}
	if now == ForceOff && a == PowerOn {
		// Off and then on is a cycle; scripts ask for the one right after the
		// other, and the button is held for seconds.
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
	if p.state != StatePoweringOn && p.led.good && (now == GracefulOff || now == GracefulRestart) {
		switch a {
		case ForceOff, Cycle, Reset, NMI:
			return supersede, nil
		}
	}
	return 0, ErrBusy
}

// start makes an operation and runs it now or, where one is under way, next;
// with p.mu held.
func (p *Power) start(a Action, cause Cause, from Origin, how admission) *Operation {
	ctx, cancel := context.WithCancelCause(p.running)
	op := &Operation{action: a, origin: from, cause: cause, ctx: ctx, cancel: cancel, done: make(chan struct{})}
	switch {
	case a == NMI: // its line is its own: it disturbs nothing
		p.nmiOp = op
		p.tasks.Go(func() { p.finishNMI(op, p.nmi.press(ctx, p.cfgNow().NMIPulse, nil)) })
	case p.op == nil:
		op.unsettled = p.state == StatePoweringOff
		p.launch(op)
	default:
		p.next = op
		if how == supersede {
			p.op.cancel(ErrSuperseded)
		}
	}
	return op
}

// launch runs an operation, with p.mu held and none under way.
func (p *Power) launch(op *Operation) {
	p.op = op
	op.asleep = p.state == StateAsleep
	p.stopTimer(&p.restoring)
	p.stopTimer(&p.saving)
	p.broadcast()
	p.tasks.Go(func() { p.finish(op, p.perform(op)) })
}

// finish ends an operation: the state is again what the LED says. The next
// one, if there is one, begins.
func (p *Power) finish(op *Operation, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stopped := p.running.Err() != nil
	if err != nil && stopped {
		err = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	op.cancel(nil)
	op.err = err
	p.op = nil
	superseded := errors.Is(err, ErrSuperseded)
	if !superseded {
		p.rested(op)
	}
	switch {
	case err == nil:
		p.fault = false
	case superseded || stopped:
	default:
		p.fault = true
		if !p.retryQuiet || !op.cause.policy() {
			p.events.Add(Event{Severity: Warning, Kind: "power.failed", Origin: op.origin,
				Message: fmt.Sprintf("Power action %q failed: %v. The host is %s.", op.action, err, p.state)})
		}
		p.afterFailure(op)
	}
	if next := p.next; next != nil {
		p.next = nil
		p.launch(next)
	} else if !stopped && p.takenUp {
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
	case op.asleep:
		p.setState(StateAsleep) // its light may be between two blinks
		p.settle()
	case p.led.good:
		p.setState(StateOn)
	case p.state == StateOn || p.state != StateOff && time.Since(p.led.goodAt) < p.cfg.BlinkWindow:
		// The light went out for something else than the operation.
		p.setState(StatePoweringOff)
		p.settle()
	default:
		p.setState(StateOff)
	}
}

func (p *Power) finishNMI(op *Operation, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stopped := p.running.Err() != nil
	if err != nil && stopped {
		err = fmt.Errorf("%w: %w", ErrStopped, err)
	}
	op.cancel(nil)
	op.err = err
	p.nmiOp = nil
	if err != nil && !stopped {
		p.events.Add(Event{Severity: Warning, Kind: "power.failed", Origin: op.origin,
			Message: fmt.Sprintf("The diagnostic interrupt failed: %v.", err)})
	} else if err == nil {
		p.events.Add(Event{Kind: "power.nmi", Origin: op.origin, Message: "A diagnostic interrupt was sent to the host."})
	}
	close(op.done)
	p.broadcast()
}
