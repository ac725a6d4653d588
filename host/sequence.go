package host

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// perform runs an operation's steps in order.
func (p *Power) perform(ctx context.Context, op *Operation) error {
	if err := p.intend(ctx, op); err != nil {
		return err
	}
	switch op.action {
	case PowerOn:
		return p.turnOn(ctx, op)
	case ForceOff:
		return p.cut(ctx, op)
	case GracefulOff:
		return p.shutDown(ctx, op)
	case Cycle, GracefulRestart:
		off := p.cut
		if op.action == GracefulRestart {
			off = p.shutDown
		}
		if err := off(ctx, op); err != nil {
			return err
		}
		if err := pause(ctx, p.cfgNow().OffTime); err != nil {
			return err
		}
		return p.turnOn(ctx, op)
	case Reset:
		return p.pulseReset(ctx, op)
	case PressButton:
		return p.pressOnce(ctx, op)
	}
	return fmt.Errorf("power action %q: %w", op.action, errors.ErrUnsupported)
}

// intend writes what the request is to lead to before any wire is driven, so
// that a cut in the middle restores what was asked for.
func (p *Power) intend(ctx context.Context, op *Operation) error {
	p.mu.Lock()
	switch op.action {
	case PowerOn:
		p.rec.Wanted, p.rec.Lost = true, false
		if p.rec.Owed == "" {
			p.rec.Owed = op.cause
		}
	case ForceOff, GracefulOff:
		p.rec.Wanted, p.rec.Owed, p.rec.Lost = false, "", false
	case Cycle, GracefulRestart:
		p.rec.Wanted, p.rec.Lost = true, false
	}
	p.save()
	p.mu.Unlock()
	return p.saver.wait(ctx)
}

// turnOn presses the power button and waits for the light.
func (p *Power) turnOn(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	p.mu.Lock()
	p.addCause(op.cause)
	p.setState(StatePoweringOn)
	p.led.edges = 0
	justOut := !p.led.good && !op.asleep && time.Since(p.led.goodAt) < cfg.BlinkWindow
	p.mu.Unlock()
	if justOut {
		// A light that went out just now may be one that blinks.
		err := p.waitLED(ctx, false, func(time.Time) time.Duration { return cfg.BlinkWindow }, cfg.BlinkWindow+cfg.Debounce)
		if err != nil && !errors.Is(err, ErrNoResponse) {
			return err
		}
	}
	p.mu.Lock()
	lit := p.led.good && !op.asleep // it came on by itself: a press would shut it down
	p.mu.Unlock()
	if !lit {
		if err := p.power.press(ctx, cfg.PowerPulse, nil); err != nil {
			return err
		}
	}
	// A sleeping host's light blinks until it is awake.
	steady := time.Duration(0)
	if op.asleep {
		steady = cfg.BlinkWindow
	}
	if err := p.waitLED(ctx, true, func(time.Time) time.Duration { return steady }, cfg.PowerGoodLimit+steady); err != nil {
		return fmt.Errorf("no power light within %v of the press: %w", cfg.PowerGoodLimit, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setState(StateOn)
	p.led.edges = 0
	if op.asleep && op.action == PowerOn {
		p.causes = nil
		p.forgetOwed()
		p.events.Add(Event{Kind: "power.awake", Origin: op.origin, Message: "The host was woken up."})
		return nil
	}
	p.cameOn(op.cause, op.origin)
	return nil
}

// atxHold is a bit less than the 4 s after which ATX boards cut the power of
// a held button (ACPI 6.5 section 4.8.3.2.2, power button override). A light
// that goes out sooner may belong to a host that the press sends to sleep.
const atxHold = 3500 * time.Millisecond

// cut holds the power button until the power is gone.
func (p *Power) cut(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	p.mu.Lock()
	p.setState(StatePoweringOff)
	p.led.edges = 0
	lit := p.led.good || op.asleep
	p.mu.Unlock()
	steady := func(time.Time) time.Duration { return cfg.BlinkWindow }
	if !lit && p.waitLED(ctx, false, steady, cfg.BlinkWindow+cfg.Debounce) == nil {
		// It just shut down: a hold now would first switch it on.
		p.mu.Lock()
		defer p.mu.Unlock()
		p.offByCommand(op, "The host was switched off.")
		return nil
	}

	began := time.Now()
	gone := make(chan struct{})
	released := make(chan error, 1)
	go func() { released <- p.power.press(ctx, cfg.ForceOffHold, gone) }()
	err := p.waitLED(ctx, false, func(fell time.Time) time.Duration {
		if op.asleep || fell.Sub(began) < min(atxHold, cfg.ForceOffHold*7/8) {
			return cfg.BlinkWindow
		}
		return 0
	}, cfg.ForceOffHold+2*cfg.Debounce)
	close(gone)
	if err := errors.Join(err, <-released); err != nil {
		return fmt.Errorf("the power button was held for %v: %w", time.Since(began).Round(time.Millisecond), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offByCommand(op, "The host was switched off.")
	return nil
}

// shutDown presses the power button and lets the operating system do the rest.
func (p *Power) shutDown(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	p.mu.Lock()
	p.setState(StatePoweringOff)
	p.led.edges = 0
	p.mu.Unlock()
	if err := p.power.press(ctx, cfg.PowerPulse, nil); err != nil {
		return err
	}
	err := p.waitLED(ctx, false, func(time.Time) time.Duration { return cfg.BlinkWindow }, cfg.GracefulLimit)
	p.mu.Lock()
	p.lastPress, p.pressedBy = time.Now(), op.origin // it may still obey
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("no shutdown within %v of the press: %w", cfg.GracefulLimit, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offByCommand(op, "The host shut down.")
	return nil
}

// offByCommand notes an off that was asked for, with p.mu held.
func (p *Power) offByCommand(op *Operation, said string) {
	p.setState(StateOff)
	p.led.edges = 0
	op.asleep = false
	p.causes = nil
	p.rec.ACFailed, p.rec.OnByCommand = false, false
	if op.action == Cycle || op.action == GracefulRestart {
		p.rec.Owed = op.cause // a crash in the pause must not leave it off
	}
	p.save()
	p.events.Add(Event{Kind: "power.off", Origin: op.origin, Message: said})
}

// pulseReset pulses the reset line and, where the wire is there, sees to it
// that the host went into reset.
func (p *Power) pulseReset(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	p.mu.Lock()
	p.addCause(op.cause)
	before := p.reseter.count
	if p.reseter.active && p.led.good {
		// It has just come on and is in reset still; the pulse prolongs that.
		p.reseter.whileGood = true
		p.reseter.count++
	}
	p.mu.Unlock()
	if err := p.reset.press(ctx, cfg.ResetPulse, nil); err != nil {
		return err
	}
	if p.parts.HostReset == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.restarted(op.origin)
		return nil
	}
	limit := time.NewTimer(time.Second + cfg.WarmResetCheck)
	defer limit.Stop()
	for {
		p.mu.Lock()
		seen := p.reseter.count > before && !p.reseter.whileGood
		changed := p.changed
		p.mu.Unlock()
		if seen {
			return nil
		}
		select {
		case <-changed:
		case <-limit.C:
			return ErrNoResponse
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pressOnce presses the power button and leaves the judging to observe.go.
func (p *Power) pressOnce(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	p.mu.Lock()
	off := p.parts.PowerLED != nil && !p.led.good
	if off {
		p.addCause(op.cause)
	}
	p.lastPress, p.pressedBy = time.Now(), op.origin
	p.mu.Unlock()
	if off {
		return p.turnOn(ctx, op)
	}
	return p.power.press(ctx, cfg.PowerPulse, nil)
}

// waitLED waits until the debounced LED has been want for as long as steady
// says, given when it took that level. It answers ErrNoResponse after limit.
func (p *Power) waitLED(ctx context.Context, want bool, steady func(since time.Time) time.Duration, limit time.Duration) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		p.mu.Lock()
		now, changed := p.led, p.changed
		p.mu.Unlock()
		var due <-chan time.Time
		if now.known && now.good == want {
			left := steady(now.goodAt) - time.Since(now.goodAt)
			if left <= 0 {
				return nil
			}
			due = time.After(left)
		}
		select {
		case <-due:
		case <-changed:
		case <-end.C:
			return ErrNoResponse
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
