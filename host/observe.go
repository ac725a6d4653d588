package host

import (
	"fmt"
	"slices"
	"time"
)

// led is the power light as last seen.
type led struct {
	known bool
	raw   bool // the wire's level
	good  bool // raw, debounced
	// goodAt is when good took its value; zero: before anybody looked.
	goodAt time.Time
	// edges counts changes of good that followed each other within
	// BlinkWindow. Two flashes are a sleeping host (S3), one is a flicker.
	edges    int
	debounce *time.Timer
	settle   *time.Timer
}

// asleepEdges is out, on, out, on.
const asleepEdges = 4

// resetSense is the platform reset as last seen.
type resetSense struct {
	known, active bool
	// whileGood: the reset began while the power was good, so it is a warm
	// one if the power is still there some time after it ended.
	whileGood bool
	count     int // resets seen begin while the power was good
	check     *time.Timer
}

// seenCause is a reason for a start that may be about to come.
type seenCause struct {
	cause Cause
	at    time.Time
}

// causeLife is how long a cause may precede the start that it explains.
const causeLife = 30 * time.Second

// rank orders causes, highest first (power.md of the first implementations:
// watchdog > command > buttons > policies > soft reset).
var rank = []Cause{CauseWatchdog, CauseCommand, CauseResetButton, CausePowerButton, CauseAlwaysOn, CauseRestore, CauseSoftReset}

func (p *Power) addCause(c Cause) {
	p.causes = append(p.causes, seenCause{c, time.Now()})
}

// takeCause returns the highest cause of the last while, def where there is
// none, and forgets them all: one start is explained once.
func (p *Power) takeCause(def Cause) Cause {
	best := len(rank)
	for _, c := range p.causes {
		if r := slices.Index(rank, c.cause); r >= 0 && r < best && time.Since(c.at) <= causeLife {
			best = r
		}
	}
	p.causes = nil
	if best == len(rank) {
		return def
	}
	return rank[best]
}

// seeLED takes a level of the power LED's wire.
func (p *Power) seeLED(active bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.led.known {
		p.led = led{known: true, raw: active, good: active}
		p.broadcast()
		p.takeUp()
		return
	}
	if p.led.raw == active {
		return
	}
	p.led.raw = active
	switch {
	case p.led.raw == p.led.good:
		p.stopTimer(&p.led.debounce) // it was only a spike
	case p.cfg.Debounce == 0:
		p.turned()
	default:
		p.after(&p.led.debounce, p.cfg.Debounce, p.turned)
	}
}

// loseLED is told that the LED's wire failed: nobody knows the state now.
func (p *Power) loseLED() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopTimer(&p.led.debounce)
	p.stopTimer(&p.led.settle)
	p.stopTimer(&p.saving)
	p.led = led{}
	p.takenUp = false
	if p.op == nil {
		p.setState(StateUnknown)
	}
	p.broadcast()
}

// turned takes a debounced change of the LED.
func (p *Power) turned() {
	p.led.good, p.led.goodAt = p.led.raw, time.Now()
	p.led.edges++
	if !p.led.good {
		p.reseter.whileGood = false // the power went: PLTRST# stays until it is back
	}
	p.after(&p.led.settle, p.cfg.BlinkWindow, p.steady)
	p.broadcast()
	if p.op != nil {
		if p.led.edges >= asleepEdges && (p.op.action == GracefulOff || p.op.action == GracefulRestart) {
			p.op.cancel(ErrAsleep) // its button sends the host to sleep
		}
		return
	}
	if !p.takenUp {
		return
	}
	p.stopTimer(&p.saving)
	if p.led.edges >= asleepEdges {
		p.fellAsleep()
		return
	}
	switch {
	case p.state == StateOff && p.led.good:
		p.setState(StateOn)
		p.cameOn(p.rec.Owed, Origin{Via: "host"})
	case p.state == StateOn && !p.led.good:
		p.setState(StatePoweringOff) // or a blink: steady will tell
	case p.state == StatePoweringOff && p.led.good:
		p.setState(StateOn)
	}
}

func (p *Power) fellAsleep() {
	if p.state == StateAsleep {
		return
	}
	p.setState(StateAsleep)
	p.events.Add(Event{Kind: "power.asleep", Message: "The host sleeps: its power light blinks."})
}

// steady is called when the LED has kept its level for BlinkWindow.
func (p *Power) steady() {
	p.led.edges = 0
	if p.op != nil || !p.takenUp {
		return
	}
	switch {
	case p.led.good && p.state == StateAsleep:
		p.setState(StateOn)
		p.events.Add(Event{Kind: "power.awake", Message: "The host woke up."})
	case !p.led.good && (p.state == StateAsleep || p.state == StatePoweringOff):
		p.setState(StateOff)
		p.wentOff()
	}
	p.saveLater()
}

// cameOn notes that the host has started. owed explains a start that no
// better cause was seen for.
func (p *Power) cameOn(owed Cause, from Origin) {
	if owed == "" {
		owed = CauseUnknown
	}
	cause := p.takeCause(owed)
	p.rec.Cause, p.rec.OnByCommand, p.rec.Lost = cause, cause == CauseCommand, false
	p.fault = false
	p.forgetOwed()
	p.used()
	p.events.Add(Event{Kind: "power.on", Origin: from, Message: fmt.Sprintf("The host is on; cause: %s.", cause)})
}

// restarted notes that the host has started again without losing power.
func (p *Power) restarted(from Origin) {
	cause := p.takeCause(CauseSoftReset)
	p.rec.Cause, p.rec.OnByCommand = cause, false
	p.save()
	p.used()
	p.events.Add(Event{Kind: "power.restarted", Origin: from, Message: fmt.Sprintf("The host restarted; cause: %s.", cause)})
}

// used tells the boot override that a boot began.
func (p *Power) used() {
	if p.boot != nil {
		p.boot.booted()
	}
}

// seeReset takes a level of the platform reset.
func (p *Power) seeReset(active bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.reseter.known
	p.reseter.known, p.reseter.active = true, active
	switch {
	case first:
	case active && p.led.good:
		p.reseter.whileGood = true
		p.reseter.count++
		p.stopTimer(&p.reseter.check)
		p.broadcast()
	case !active && p.reseter.whileGood:
		p.after(&p.reseter.check, p.cfg.WarmResetCheck, func() {
			p.reseter.whileGood = false
			p.broadcast()
			if !p.led.good {
				return // it went down with the power: not a restart
			}
			from := Origin{}
			if p.op != nil {
				from = p.op.origin
			}
			p.restarted(from)
		})
	}
}

// seePowerButton takes a level of the front panel's power button.
func (p *Power) seePowerButton(active bool) {
	if !active || p.power.own() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastPress, p.pressedBy = time.Now(), Origin{Via: "panel"}
	p.addCause(CausePowerButton)
	p.events.Add(Event{Kind: "panel.power-button", Origin: Origin{Via: "panel"}, Message: "Somebody pressed the power button."})
}

// seeResetButton takes a level of the front panel's reset button.
func (p *Power) seeResetButton(active bool) {
	if !active || p.reset.own() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addCause(CauseResetButton)
	p.events.Add(Event{Kind: "panel.reset-button", Origin: Origin{Via: "panel"}, Message: "Somebody pressed the reset button."})
	if p.parts.HostReset == nil && p.led.good {
		p.restarted(Origin{Via: "panel"})
	}
}
