package host

import (
	"fmt"
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
	at   time.Time
	from Origin
}

// causeLife is how long a cause may precede the start that it explains.
const causeLife = 30 * time.Second

// rank orders causes, highest first (as the best-known firmware does:
// watchdog > command > buttons > policies > soft reset).
var rank = [...]Cause{CauseWatchdog, CauseCommand, CauseResetButton, CausePowerButton, CauseAlwaysOn, CauseRestore, CauseSoftReset}

func (p *Power) addCause(c Cause, from Origin) {
	if p.causes == nil {
		p.causes = map[Cause]seenCause{}
	}
	p.causes[c] = seenCause{time.Now(), from}
}

// takeCause returns the highest cause of the last while and whose it was, def
// and from where there is none, and forgets them all: one start is explained
// once.
func (p *Power) takeCause(def Cause, from Origin) (Cause, Origin) {
	causes := p.causes
	p.causes = nil
	for _, c := range rank {
		if seen, ok := causes[c]; ok && time.Since(seen.at) <= causeLife {
			return c, seen.from
		}
	}
	return def, from
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
		p.broadcast()
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
	p.settle()
	p.broadcast()
	if p.op != nil {
		if p.led.edges >= asleepEdges && p.state == StatePoweringOff && (p.op.action == GracefulOff || p.op.action == GracefulRestart) {
			p.op.cancel(ErrAsleep) // its button sends the host to sleep
		}
		return
	}
	if !p.takenUp {
		return
	}
	if p.led.edges >= asleepEdges {
		p.fellAsleep()
		return
	}
	if p.state != StateAsleep {
		p.stopTimer(&p.saving)
	}
	switch {
	case p.state == StateOff && p.led.good:
		p.setState(StateOn)
		if !p.acFailed() { // else it may be but a flash as its AC power comes back
			p.cameOn(p.rec.Owed, hostItself)
		}
	case p.state == StateOn && !p.led.good:
		p.setState(StatePoweringOff) // or a blink: steady will tell
	case p.state == StatePoweringOff && p.led.good:
		p.setState(StateOn)
	}
}

// hostItself is the origin of what nobody asked for.
var hostItself = Origin{Via: "host"}

// settle has steady called when the LED has kept its level for long enough.
func (p *Power) settle() { p.after(&p.led.settle, p.cfg.BlinkWindow, p.steady) }

func (p *Power) fellAsleep() {
	if p.led.good && !p.noAC() && p.led.edges >= 2*asleepEdges {
		p.survived() // a few flashes may also be its AC power coming back
	}
	if p.state == StateAsleep {
		return
	}
	p.setState(StateAsleep)
	p.saveLater()
	p.note(Event{Kind: "power.asleep", Origin: hostItself, Message: "The host sleeps: its power light blinks."})
}

// steady is called when the LED has kept its level for BlinkWindow.
func (p *Power) steady() {
	p.led.edges = 0
	if p.op != nil || !p.takenUp {
		return
	}
	was := p.state
	switch {
	case p.led.good && (was == StateAsleep || was == StateOn):
		p.setState(StateOn)
		if p.acFailed() {
			p.rec.ACFailed = true
			p.cameOn(p.rec.Owed, hostItself) // what it was doing is lost
		} else if was == StateAsleep {
			p.note(Event{Kind: "power.awake", Origin: hostItself, Message: "The host woke up."})
		}
	case !p.led.good && (p.state == StateAsleep || p.state == StatePoweringOff):
		p.setState(StateOff)
		p.wentOff()
		if p.rec.Lost {
			p.judge()
		}
	}
	p.saveLater()
}

// acFailed says whether the host's AC power failed, and the host has not been
// seen to start since.
func (p *Power) acFailed() bool { return p.rec.Lost || p.rec.Owed.policy() }

// cameOn notes that the host has started. owed explains a start that no
// better cause was seen for.
func (p *Power) cameOn(owed Cause, from Origin) {
	if owed == "" {
		owed = CauseUnknown
	}
	cause, from := p.takeCause(owed, from)
	p.explain(cause, from, false)
	p.rec.OnByCommand = cause == CauseCommand
	p.rec.Lost, p.rec.Failed = false, false
	p.fault = false
	p.lastPress = time.Time{} // a press before the start is not one to shut down
	p.forgetOwed()
	p.used()
	e := Event{Kind: "power.on", Origin: from, Message: fmt.Sprintf("The host is on; cause: %s.", cause)}
	if p.op != nil {
		p.events.Add(e)
	} else {
		p.note(e)
	}
}

// explain notes why the host started or restarted; warm: without losing power.
func (p *Power) explain(cause Cause, from Origin, warm bool) {
	p.rec.Cause, p.rec.Via, p.rec.Warm = cause, "", warm
	if cause == CauseCommand && from != hostItself {
		p.rec.Via = from.Via
	}
}

// restarted notes that the host has started again without losing power.
func (p *Power) restarted(from Origin) {
	cause, from := p.takeCause(CauseSoftReset, from)
	p.explain(cause, from, true)
	p.lastPress = time.Time{} // what runs now has not seen it
	p.save()
	p.watchdog.hostRestarted()
	p.used()
	e := Event{Kind: "power.restarted", Origin: from, Message: fmt.Sprintf("The host restarted; cause: %s.", cause)}
	if cause == CauseCommand || cause == CauseWatchdog {
		p.events.Add(e)
	} else {
		p.note(e)
	}
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
			p.restarted(hostItself)
		})
	}
}

// panel is the origin of a person's finger on the machine.
var panel = Origin{Via: "panel"}

// bounce is a button's sense that may chatter.
type bounce struct {
	active   bool
	released time.Time
}

// press says whether a level is the beginning of a press: what follows a
// release within gap is the same press still.
func (b *bounce) press(active bool, gap time.Duration) bool {
	was := b.active
	b.active = active
	if was && !active {
		b.released = time.Now()
	}
	return active && !was && time.Since(b.released) >= gap
}

// seePowerButton takes a level of the front panel's power button.
func (p *Power) seePowerButton(active bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.panelPower.press(active, p.cfg.Debounce) || p.power.own() {
		return
	}
	p.lastPress, p.pressedBy = time.Now(), panel
	p.addCause(CausePowerButton, panel)
	p.note(Event{Kind: "panel.power-button", Origin: panel, Message: "Somebody pressed the power button."})
}

// seeResetButton takes a level of the front panel's reset button.
func (p *Power) seeResetButton(active bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.panelReset.press(active, p.cfg.Debounce) || p.reset.own() {
		return
	}
	p.addCause(CauseResetButton, panel)
	p.note(Event{Kind: "panel.reset-button", Origin: panel, Message: "Somebody pressed the reset button."})
	if p.parts.HostReset == nil && p.led.good {
		p.restarted(panel)
	}
}
