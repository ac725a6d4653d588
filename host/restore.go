package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// record is what outlives a restart of the software.
type record struct {
	// Wanted: the host is meant to be on. It is what last-state restores.
	Wanted bool `json:"wanted"`
	// BootID is the board's power-up that wrote this.
	BootID string `json:"boot_id"`
	// Owed is the cause of a power-on that is still to come: after a power
	// failure, or the second half of a cycle. "" where none is.
	Owed Cause `json:"owed,omitempty"`
	// Going is an action that was to switch the host off first of all, and
	// has not done so yet. "" where none is.
	Going Action `json:"going,omitempty"`
	// Failed: the host is off since its power failed, as far as anybody knows.
	Failed bool `json:"failed,omitempty"`
	// Asleep: the host slept when it was last seen.
	Asleep bool `json:"asleep,omitempty"`
	// Lost: the power failed and the policy has not been asked yet.
	Lost bool `json:"lost,omitempty"`

	Cause       Cause  `json:"cause"`
	Via         string `json:"via,omitempty"`  // of a command that is Cause
	Warm        bool   `json:"warm,omitempty"` // the restart lost no power
	OnByCommand bool   `json:"on_by_command"`
	ACFailed    bool   `json:"ac_failed"`
}

const (
	powerBucket = "power"
	powerKey    = "record"
)

// load reads the record that the last run left.
func (p *Power) load() {
	p.rec.Cause = CauseUnknown
	if _, err := p.saver.db.GetJSON(powerBucket, powerKey, &p.rec); err != nil {
		// A record that cannot be read is as none: the host is left as it is.
		p.rec = record{Cause: CauseUnknown}
		p.events.Add(Event{Severity: Critical, Kind: "power.record", Message: fmt.Sprintf("The saved power state cannot be read: %v.", err)})
	}
}

// takeUp is called when a first level came in. Once all that matters are
// known it compares them with the record: the board may have been powered up
// together with its host, or only its software restarted.
func (p *Power) takeUp() {
	if p.takenUp || !p.led.known || p.parts.Standby != nil && !p.standby.known && !p.standby.failed {
		return
	}
	p.takenUp = true
	poweredUp := p.rec.BootID != p.parts.Identity.BootID
	p.rec.BootID = p.parts.Identity.BootID
	p.save()
	if p.noAC() && !p.rec.Lost {
		p.lostAC() // while nobody looked
	}
	if p.op != nil {
		return // the LED's wire came back in the middle of an operation
	}
	if !p.led.good && !p.rec.Asleep {
		p.setState(StateOff)
		p.foundOff(poweredUp)
		return
	}
	if poweredUp || p.rec.Lost {
		p.rec.Going = ""
	}
	switch {
	case p.rec.Asleep: // its light may be between two blinks
		p.setState(StateAsleep)
		p.settle()
		p.rec.Lost = p.rec.Lost || poweredUp // until the light tells
		if p.rec.Going == "" {
			p.rec.Owed = ""
		}
	default:
		p.setState(StateOn)
		if p.rec.Lost || p.rec.Owed != "" && p.rec.Going == "" {
			p.cameOn(p.rec.Owed, hostItself) // while nobody looked
		}
	}
	if p.rec.Going != "" {
		// The software died between the press and the shutdown, which may
		// still come.
		p.lastPress, p.pressedBy = time.Now(), Origin{}
		p.after(&p.restoring, p.cfg.GracefulLimit, func() { p.forgetOwed(); p.saveLater() })
	}
	p.save()
	p.saveLater()
}

// foundOff judges a host that is off at the first look.
func (p *Power) foundOff(poweredUp bool) {
	going := p.rec.Going
	p.rec.Going = ""
	switch {
	case poweredUp || p.rec.Lost:
		p.rec.Lost, p.rec.ACFailed = true, p.rec.Wanted
		p.judge()
	case p.rec.Owed != "":
		// It may have been pressed on just before the software died.
		p.owe(p.rec.Owed, p.cfg.PowerGoodLimit)
	case going != "":
		p.rec.ACFailed = false
		p.note(Event{Kind: "power.off", Origin: hostItself, Message: "The host went off, as was asked for before."})
	case p.rec.Wanted && !p.rec.Failed: // else it was told
		p.wentOff() // while nobody looked
		p.saveLater()
	}
}

// saveLater makes the state that nobody commanded the wanted one once it has
// lasted for SaveAfter: a host that loses its AC is off for a while first.
func (p *Power) saveLater() {
	p.stopTimer(&p.saving)
	want, ok := p.settled()
	if !ok || want == p.rec.Wanted {
		return
	}
	p.after(&p.saving, p.cfg.SaveAfter, func() {
		if again, ok := p.settled(); ok && again == want {
			p.rec.Wanted = want
			p.save()
		}
	})
}

// settled says whether the host is on, and whether that may become the wanted
// state: nothing more is to come, and an off is not a power failure.
func (p *Power) settled() (on, ok bool) {
	switch {
	case p.op != nil || p.rec.Going != "":
		return false, false
	case p.state == StateOn, p.state == StateAsleep:
		return true, true
	}
	return false, p.state == StateOff && !p.rec.Lost && p.rec.Owed == "" && !p.rec.Failed
}

// wentOff judges a loss of power that the operation under way, if there is
// one, did not bring about.
func (p *Power) wentOff() {
	pressed := !p.lastPress.IsZero() && time.Since(p.lastPress) <= p.cfg.GracefulLimit
	going := p.rec.Going
	p.causes, p.lastPress = nil, time.Time{}
	p.rec.ACFailed, p.rec.Failed, p.rec.Going = false, false, ""
	p.watchdog.hostGone() // the state may not say so: it may be coming on again
	switch {
	case p.rec.Lost: // lostAC has told
		p.rec.ACFailed = true
	case p.rec.Owed.policy(): // and the policy was asked before the light went out
		p.rec.ACFailed = true
		p.owe(p.rec.Owed, 0)
	case pressed:
		p.note(Event{Kind: "power.off", Origin: p.pressedBy, Message: "The host shut down after its power button was pressed."})
		if going != "" && p.rec.Owed != "" {
			p.owe(p.rec.Owed, p.cfg.OffTime) // the rest of a restart that the software did not live to see
		}
	case p.standbyWired():
		p.note(Event{Kind: "power.off", Origin: hostItself, Message: "The host switched itself off."})
	default:
		// Without a standby wire a host that switched itself off looks like
		// one whose AC failed. The wanted state stays "on".
		p.fault, p.rec.ACFailed, p.rec.Failed = true, true, true
		p.note(Event{Severity: Critical, Kind: "power.lost", Origin: hostItself, Message: "The host lost its power, and no command asked for it."})
		if p.cfg.Restore != AlwaysOff && p.cfg.RestoreRetry > 0 && (p.rec.Wanted || p.cfg.Restore == AlwaysOn) {
			p.owe(p.policyCause(), p.cfg.RestoreRetry)
		}
	}
	p.save()
}

// seeStandby takes a level of the standby supply's wire.
func (p *Power) seeStandby(active bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s := &p.standby; {
	case !s.known:
		*s = signal{known: true, raw: active, active: active}
		p.broadcast()
		if p.takenUp || p.parts.PowerLED == nil {
			p.standbyTurned()
		}
		p.takeUp()
	case s.raw == active:
	default:
		s.raw = active
		if s.raw == s.active {
			p.stopTimer(&s.debounce) // it was only a spike
			return
		}
		p.after(&s.debounce, p.cfg.Debounce, func() {
			s.active = s.raw
			p.standbyTurned()
		})
	}
}

// standbyTurned takes a debounced change of the standby supply.
func (p *Power) standbyTurned() {
	p.broadcast()
	switch {
	case !p.standby.active:
		p.stopTimer(&p.restoring)
		p.stopTimer(&p.saving)
		if !p.rec.Lost {
			p.lostAC()
		}
		for _, op := range []*Operation{p.op, p.next} {
			if op != nil {
				op.cancel(ErrNoStandby)
			}
		}
	case p.rec.Lost:
		p.note(Event{Kind: "power.ac-restored", Message: "The host has AC power again."})
		p.judge()
	}
}

// lostAC notes a failure of the host's AC power.
func (p *Power) lostAC() {
	p.rec.Lost, p.rec.ACFailed = true, p.rec.Wanted
	p.save()
	p.note(Event{Severity: Critical, Kind: "power.ac-lost", Message: "The host lost its AC power."})
}

// loseStandby is told that the standby wire failed: it is as if not wired.
func (p *Power) loseStandby() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopTimer(&p.standby.debounce)
	p.standby = signal{failed: true}
	p.broadcast()
	p.takeUp()
	if p.takenUp && p.rec.Lost && p.cfg.RestoreRetry > 0 {
		p.judge() // nobody will tell when the AC is back, so it is tried
	}
}

func (p *Power) standbyWired() bool { return p.parts.Standby != nil && !p.standby.failed }

// noAC says whether the standby wire says that the host has no AC power.
func (p *Power) noAC() bool { return p.standby.known && !p.standby.active }

// judge asks the policy about a failure that is over. While the standby wire
// says that there is no AC it waits for seeStandby to call again.
func (p *Power) judge() {
	if p.noAC() || p.op != nil || p.parts.PowerLED != nil && !p.takenUp {
		return // who is waited for calls again
	}
	if p.led.good || p.state == StateOn || p.state == StateAsleep {
		// It seems to have come through. A light that is about to go out
		// tells otherwise, and has steady call again.
		p.after(&p.restoring, p.cfg.BlinkWindow+p.cfg.Debounce, func() {
			if p.led.good && p.led.settle == nil && !p.noAC() {
				p.survived()
			}
		})
		return
	}
	p.rec.Lost = false
	switch {
	case p.parts.PowerButton == nil || p.parts.PowerLED == nil:
	case p.restores():
		p.owe(p.policyCause(), 0)
		return
	}
	p.rec.Owed, p.rec.Going, p.rec.Wanted = "", "", false
	p.save()
}

// survived notes that the host is on after a failure of its AC power.
func (p *Power) survived() {
	if p.acFailed() {
		p.rec.Lost, p.rec.Failed = false, false
		p.forgetOwed()
		p.saveLater()
	}
}

// restores says whether the policy switches a host on that lost its power.
func (p *Power) restores() bool {
	return p.cfg.Restore == AlwaysOn || p.cfg.Restore == LastState && p.rec.Wanted
}

func (p *Power) policyCause() Cause {
	if p.cfg.Restore == AlwaysOn {
		return CauseAlwaysOn
	}
	return CauseRestore
}

// policy says whether c is a restore policy's.
func (c Cause) policy() bool { return c == CauseAlwaysOn || c == CauseRestore }

// owe notes that the host is to be switched on, and does so after wait and,
// for the policy, the delay of the settings. Any start, and any command,
// settles the debt.
func (p *Power) owe(cause Cause, wait time.Duration) {
	p.rec.Owed = cause
	p.save()
	if cause.policy() {
		wait += p.cfg.RestoreDelay
		if p.cfg.RestoreJitter > 0 {
			wait += rand.N(p.cfg.RestoreJitter)
		}
	}
	// A sleeping host's light may be between two blinks.
	p.after(&p.restoring, max(wait, p.cfg.BlinkWindow), p.pay)
}

// pay begins the power-on that is owed. Where it does not, what keeps it from
// that calls again: an operation's end, AC power's return, the light's rest.
func (p *Power) pay() {
	if p.op != nil || p.state != StateOff || p.rec.Owed == "" || p.noAC() {
		return
	}
	cause := p.rec.Owed
	if cause.policy() {
		if !p.restores() { // it was changed meanwhile
			p.rec.Wanted = false
			p.forgetOwed()
			return
		}
		cause = p.policyCause()
	}
	p.start(PowerOn, cause, Origin{}, begin)
}

// forgetOwed drops the power-on that is owed.
func (p *Power) forgetOwed() {
	p.stopTimer(&p.restoring)
	p.retryQuiet = false
	p.rec.Owed, p.rec.Going = "", ""
	p.save()
}

// afterFailure keeps or drops what the failed operation was to bring about.
func (p *Power) afterFailure(op *Operation) {
	switch {
	case errors.Is(op.err, ErrNoStandby):
		return // the policy is asked when AC power is back
	case p.led.good || p.state == StateAsleep:
		p.rec.Wanted, p.rec.Owed, p.rec.Going = true, "", ""
	case p.rec.Owed.policy() && p.cfg.RestoreRetry > 0:
		p.retryQuiet = true
		p.owe(p.rec.Owed, p.cfg.RestoreRetry)
		return
	default:
		p.rec.Owed, p.rec.Going = "", ""
	}
	p.save()
}

// save marks the record for writing, with p.mu held, and wakes who watches
// what Status shows of it.
func (p *Power) save() {
	p.saver.put(p.rec)
	p.broadcast()
}
