package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// perform runs an operation's steps in order.
func (p *Power) perform(op *Operation) error {
	ctx := op.ctx
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
		// The pause ends early when the host comes on by itself.
		if err := p.waitLED(ctx, true, 0, p.cfgNow().OffTime); err != nil && !errors.Is(err, ErrNoResponse) {
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
		p.rec.Wanted, p.rec.Going = true, ""
		if p.rec.Owed == "" {
			p.rec.Owed = op.cause
		}
	case ForceOff, GracefulOff:
		p.rec.Wanted, p.rec.Owed, p.rec.Going = false, "", op.action
	case Cycle, GracefulRestart:
		p.rec.Wanted, p.rec.Owed, p.rec.Going = true, op.cause, op.action
	case Reset, PressButton:
		if p.led.good {
			p.rec.Owed, p.rec.Going = "", ""
		}
		if op.action == Reset {
			p.rec.Wanted = true // also where it takes a shutdown's place
		}
	}
	if op.action != Reset && op.action != PressButton && !p.noAC() {
		p.rec.Lost = false // the request takes the policy's place
	}
	p.save()
	p.mu.Unlock()
	return p.saver.wait(ctx)
}

// look says whether the light is lit, once its level has settled. No button is
// pressed on a level that may be a spike, nor on one that nobody knows.
func (p *Power) look(ctx context.Context, cfg PowerConfig) (lit bool, err error) {
	end := time.NewTimer(cfg.Debounce + time.Second)
	defer end.Stop()
	for {
		p.mu.Lock()
		now, changed := p.led, p.changed
		p.mu.Unlock()
		if now.known && now.raw == now.good {
			return now.good, context.Cause(ctx)
		}
		select {
		case <-changed:
		case <-end.C:
			return false, fmt.Errorf("the power light cannot be seen: %w", ErrNoResponse)
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// isOff says whether the light is out for good: then a press would switch the
// host on. A light that went out just now may blink.
func (p *Power) isOff(ctx context.Context, cfg PowerConfig) (bool, error) {
	lit, err := p.look(ctx, cfg)
	if lit || err != nil {
		return false, err
	}
	p.mu.Lock()
	left := cfg.BlinkWindow - time.Since(p.led.goodAt)
	p.mu.Unlock()
	if err := p.waitLED(ctx, true, 0, left); !errors.Is(err, ErrNoResponse) {
		return false, err
	}
	lit, err = p.look(ctx, cfg)
	return !lit && err == nil, err
}

// isDark waits for the dark half of a sleeping host's blink. A light that has
// none is one that was woken up: a press would shut it down.
func (p *Power) isDark(ctx context.Context, cfg PowerConfig) (bool, error) {
	err := p.waitLED(ctx, false, 0, cfg.BlinkWindow+cfg.Debounce)
	if errors.Is(err, ErrNoResponse) {
		_, err = p.look(ctx, cfg)
		return false, err
	}
	return err == nil, err
}

// turnOn presses the power button of a host that is off or asleep and waits
// for the light.
func (p *Power) turnOn(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	p.mu.Lock()
	p.addCause(op.cause, op.origin)
	p.setState(StatePoweringOn)
	p.led.edges = 0
	p.mu.Unlock()
	if err := p.power.rest(ctx); err != nil {
		return err
	}
	off := p.isOff
	if op.asleep {
		off = p.isDark
	}
	press, err := off(ctx, cfg)
	if err != nil {
		return err
	}
	// A light that came on by itself is let be: a press would shut the host
	// down. That light, and that of a sleeping host, might only blink.
	steady := cfg.BlinkWindow
	if press {
		if op.unsettled {
			p.mu.Lock()
			p.wentOff()
			p.mu.Unlock()
		}
		if !op.asleep {
			steady = 0
		}
		if err := p.power.press(ctx, cfg.PowerPulse, nil); err != nil {
			return err
		}
	}
	if err := p.waitLED(ctx, true, steady, cfg.PowerGoodLimit+steady); err != nil {
		return fmt.Errorf("no steady power light within %v: %w", cfg.PowerGoodLimit+steady, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setState(StateOn)
	p.led.edges = 0
	switch {
	case op.asleep:
		op.asleep = false
		p.causes = nil
		p.forgetOwed()
		p.events.Add(Event{Kind: "power.awake", Origin: op.origin, Message: "The host was woken up."})
	case op.unsettled && !press:
		p.causes = nil
		p.forgetOwed() // the light only flickered: the host was on all the time
	default:
		p.cameOn(op.cause, op.origin)
	}
	return nil
}

// atxHold is a bit less than the 4 s after which ATX boards cut the power of
// a held button (ACPI 6.5 section 4.8.3.2.2, power button override). A light
// that goes out sooner may belong to a host that the press sends to sleep.
const atxHold = 3500 * time.Millisecond

// cut holds the power button until the power is gone.
func (p *Power) cut(ctx context.Context, op *Operation) error {
	cfg, off, err := p.goingOff(ctx, op)
	if off || err != nil {
		return err
	}
	began := time.Now()
	gone := make(chan struct{})
	released := make(chan error, 1)
	go func() { released <- p.power.press(ctx, cfg.ForceOffHold, gone) }()
	sure := began.Add(min(atxHold, cfg.ForceOffHold*7/8))
	err = p.waitLEDUntil(ctx, false, func(now led) time.Duration {
		if op.asleep || now.edges > 1 || now.goodAt.Before(sure) {
			return cfg.BlinkWindow
		}
		return 0
	}, cfg.ForceOffHold+2*cfg.Debounce)
	close(gone)
	if failed := <-released; err == nil || errors.Is(failed, err) {
		err = failed // which then says more
	}
	if err != nil {
		p.pressed(op.origin) // the host may take it for a short press
		return fmt.Errorf("the power button was held for %v: %w", time.Since(began).Round(time.Millisecond), err)
	}
	p.offByCommand(op, "The host was switched off.")
	return nil
}

// shutDown presses the power button and lets the operating system do the rest.
func (p *Power) shutDown(ctx context.Context, op *Operation) error {
	cfg, off, err := p.goingOff(ctx, op)
	if off || err != nil {
		return err
	}
	if err := p.power.press(ctx, cfg.PowerPulse, nil); err != nil {
		return err
	}
	if err := p.waitLED(ctx, false, cfg.BlinkWindow, cfg.GracefulLimit); err != nil {
		p.pressed(op.origin) // it may still obey
		return fmt.Errorf("no shutdown within %v of the press: %w", cfg.GracefulLimit, err)
	}
	p.offByCommand(op, "The host shut down.")
	return nil
}

// goingOff begins an off. One that happened by itself in the meantime is as
// good: a press now would switch the host on.
func (p *Power) goingOff(ctx context.Context, op *Operation) (cfg PowerConfig, off bool, err error) {
	p.mu.Lock()
	cfg = p.cfg
	p.setState(StatePoweringOff)
	p.led.edges = 0
	p.mu.Unlock()
	if err := p.power.rest(ctx); err != nil {
		return cfg, false, err
	}
	if off, err = p.isOff(ctx, cfg); off {
		p.offByCommand(op, "The host is off.")
	}
	return cfg, off, err
}

// pressed notes a press of the power button that may lead to a shutdown.
func (p *Power) pressed(from Origin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastPress, p.pressedBy = time.Now(), from
}

// offByCommand notes an off that was asked for.
func (p *Power) offByCommand(op *Operation, said string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setState(StateOff)
	p.led.edges = 0
	op.asleep = false
	p.causes, p.lastPress = nil, time.Time{}
	p.rec.ACFailed, p.rec.Failed, p.rec.OnByCommand, p.rec.Going = false, false, false, ""
	p.save()
	p.events.Add(Event{Kind: "power.off", Origin: op.origin, Message: said})
}

// pulseReset pulses the reset line and, where the wire is there, sees to it
// that the host went into reset.
func (p *Power) pulseReset(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	if err := p.reset.rest(ctx); err != nil {
		return err
	}
	if p.parts.PowerLED != nil {
		if lit, err := p.look(ctx, cfg); err != nil || !lit {
			return cmp.Or(err, ErrNoPower)
		}
	}
	p.mu.Lock()
	if p.parts.PowerLED != nil {
		p.setState(StateOn)
	}
	p.addCause(op.cause, op.origin)
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
		begun := p.reseter.count > before
		ended := begun && !p.reseter.whileGood
		changed := p.changed
		p.mu.Unlock()
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-limit.C:
			if begun {
				return nil // its end is told when it comes
			}
			return ErrNoResponse
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pressOnce presses the power button once. What it does to a host that is on
// is judged in observe.go.
func (p *Power) pressOnce(ctx context.Context, op *Operation) error {
	cfg := p.cfgNow()
	if err := p.power.rest(ctx); err != nil {
		return err
	}
	if p.parts.PowerLED != nil {
		lit, err := p.look(ctx, cfg)
		if err != nil {
			return err
		}
		if !lit {
			return p.turnOn(ctx, op)
		}
	}
	p.pressed(op.origin)
	return p.power.press(ctx, cfg.PowerPulse, nil)
}

// waitLED waits until the debounced LED has been want for steady. It answers
// ErrNoResponse after limit.
func (p *Power) waitLED(ctx context.Context, want bool, steady, limit time.Duration) error {
	return p.waitLEDUntil(ctx, want, func(led) time.Duration { return steady }, limit)
}

// waitLEDUntil is waitLED where steady depends on how the LED behaved.
func (p *Power) waitLEDUntil(ctx context.Context, want bool, steady func(led) time.Duration, limit time.Duration) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		p.mu.Lock()
		now, changed := p.led, p.changed
		p.mu.Unlock()
		var due <-chan time.Time
		if now.known && now.good == want {
			left := steady(now) - time.Since(now.goodAt)
			if left <= 0 {
				return context.Cause(ctx)
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
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}
