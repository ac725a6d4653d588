package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

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
	workers.Go(func() { p.hours.run(ctx, p.log) })
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
	// Whoever was admitted before ctx ended has its task once the lock is free,
	// and nobody is admitted after that.
	p.mu.Lock()
	p.broadcast()
	p.mu.Unlock()
	p.tasks.Wait()

	p.mu.Lock()
	p.running, p.takenUp = nil, false
	for _, t := range []**time.Timer{&p.restoring, &p.saving, &p.led.debounce, &p.led.settle, &p.standby.debounce, &p.reseter.check} {
		p.stopTimer(t)
	}
	p.setState(StateUnknown)
	p.led, p.standby, p.reseter = led{}, signal{}, resetSense{}
	p.broadcast()
	p.mu.Unlock()
	errs = errs[:0]
	for _, b := range p.buttons() {
		errs = append(errs, b.release())
	}
	return errors.Join(append(errs, p.saver.flush(), p.hours.save())...)
}

func (p *Power) buttons() []*button {
	return slices.DeleteFunc([]*button{p.power, p.reset, p.nmi}, func(b *button) bool { return b == nil })
}

// wireWell is how long a wire must have worked for its failure to be a first
// one, after which it is tried again soon.
const wireWell = 10 * time.Second

// watch follows one sense for as long as ctx lasts. A wire that fails is told
// once and tried again.
func (p *Power) watch(ctx context.Context, name string, in Sense, see func(bool), lose func()) {
	wait, told := 100*time.Millisecond, false
	for {
		began := time.Now()
		err := in.Watch(ctx, func(active bool) {
			if told {
				told = false
				p.note(Event{Kind: "wire.restored", Message: fmt.Sprintf("The wire %q works again.", name)}, name)
			}
			see(active)
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > wireWell {
			wait = 100 * time.Millisecond
		}
		if !told {
			told = true
			p.note(Event{Severity: Critical, Kind: "wire.failed", Message: fmt.Sprintf("The wire %q failed: %v.", name, err)}, name)
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
