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
	// Lost: the power failed and the policy has not been asked yet.
	Lost bool `json:"lost,omitempty"`

	Cause       Cause `json:"cause"`
	OnByCommand bool  `json:"on_by_command"`
	ACFailed    bool  `json:"ac_failed"`
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
	if p.op != nil {
		return // the LED's wire came back in the middle of an operation
	}
	if p.led.good {
		p.setState(StateOn)
		if p.rec.Lost || p.rec.Owed != "" {
			p.cameOn(p.rec.Owed, Origin{Via: "host"}) // while nobody looked
		}
		p.saveLater()
		return
	}
	p.setState(StateOff)
	switch {
	case poweredUp || p.rec.Lost:
		p.rec.ACFailed = p.rec.Wanted
		p.rec.Lost = true
		p.save()
		p.judge()
	case p.rec.Owed != "":
		p.owe(p.rec.Owed, 0)
	case p.rec.Wanted:
		p.wentOff() // while nobody looked
		p.saveLater()
	}
}

// saveLater makes the state that nobody commanded the wanted one once it has
// lasted for SaveAfter: a host that loses its AC is off for a while first.
func (p *Power) saveLater() {
	var want bool
	switch p.state {
	case StateOn, StateAsleep:
		want = true
	case StateOff:
		if p.rec.Lost || p.rec.Owed != "" {
			return
		}
	default:
		return
	}
	if p.rec.Wanted == want {
		return
	}
	p.after(&p.saving, p.cfg.SaveAfter, func() {
		if p.op != nil || !want && (p.rec.Lost || p.rec.Owed != "") {
			return
		}
		p.rec.Wanted = want
		p.save()
	})
}

// wentOff judges a loss of power that no command explains.
func (p *Power) wentOff() {
	const byItself = "The host switched itself off."
	p.causes = nil
	p.rec.ACFailed = false
	switch {
	case p.rec.Lost || p.rec.Owed != "": // seeStandby has told already
		p.rec.ACFailed = true
	case !p.lastPress.IsZero() && time.Since(p.lastPress) <= p.cfg.GracefulLimit:
		p.events.Add(Event{Kind: "power.off", Origin: p.pressedBy, Message: "The host shut down after its power button was pressed."})
	case p.standbyWired():
		p.events.Add(Event{Kind: "power.off", Origin: Origin{Via: "host"}, Message: byItself})
	default:
		// Without a standby wire a host that switched itself off looks like
		// one whose AC failed. The wanted state stays "on".
		p.fault, p.rec.ACFailed = true, true
		p.events.Add(Event{Severity: Critical, Kind: "power.lost", Message: "The host lost its power, and no command asked for it."})
		if p.cfg.Restore != AlwaysOff && p.cfg.RestoreRetry > 0 && (p.rec.Wanted || p.cfg.Restore == AlwaysOn) {
			p.owe(p.policyCause(), p.cfg.RestoreRetry)
		}
	}
	p.lastPress = time.Time{}
	p.save()
}

// seeStandby takes a level of the standby supply.
func (p *Power) seeStandby(active bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.standby.known
	if !first && p.standby.active == active {
		return
	}
	p.standby = signal{known: true, active: active}
	p.broadcast()
	switch {
	case first && !p.takenUp:
		p.takeUp()
	case !active:
		p.stopTimer(&p.restoring)
		p.stopTimer(&p.saving)
		p.rec.Lost = true
		p.rec.ACFailed = p.rec.Wanted
		p.save()
		p.events.Add(Event{Severity: Critical, Kind: "power.ac-lost", Message: "The host lost its AC power."})
		if p.op != nil {
			p.op.cancel(ErrNoStandby)
		}
	case p.rec.Lost:
		p.events.Add(Event{Kind: "power.ac-restored", Message: "The host has AC power again."})
		p.judge()
	}
}

// loseStandby is told that the standby wire failed: it is as if not wired.
func (p *Power) loseStandby() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.standby = signal{failed: true}
	p.takeUp()
}

func (p *Power) standbyWired() bool { return p.parts.Standby != nil && !p.standby.failed }

// judge asks the policy about a failure that is over. While the standby wire
// says that there is no AC it waits for seeStandby to call again.
func (p *Power) judge() {
	if p.standbyWired() && !p.standby.active || p.op != nil {
		return
	}
	p.rec.Lost = false
	if p.state == StateOn || p.state == StateAsleep || p.led.good {
		p.save() // it came through, or came back by itself
		return
	}
	switch {
	case p.parts.PowerButton == nil:
	case p.cfg.Restore == AlwaysOn, p.cfg.Restore == LastState && p.rec.Wanted:
		p.owe(p.policyCause(), 0)
		return
	}
	p.rec.Owed, p.rec.Wanted = "", false
	p.save()
}

func (p *Power) policyCause() Cause {
	if p.cfg.Restore == AlwaysOn {
		return CauseAlwaysOn
	}
	return CauseRestore
}

// owe notes that the host is to be switched on, and does so after the delay
// of the settings and wait more. Any start, and any command, settles the debt.
func (p *Power) owe(cause Cause, wait time.Duration) {
	p.rec.Owed = cause
	p.save()
	if cause != CauseCommand {
		wait += p.cfg.RestoreDelay
		if p.cfg.RestoreJitter > 0 {
			wait += rand.N(p.cfg.RestoreJitter)
		}
	}
	// A sleeping host's light may be between two blinks.
	p.after(&p.restoring, max(wait, p.cfg.BlinkWindow), func() {
		if p.op != nil || p.state != StateOff || p.rec.Owed == "" || p.standbyWired() && !p.standby.active {
			return
		}
		p.start(PowerOn, cause, Origin{}, begin)
	})
}

// forgetOwed drops the power-on that is owed.
func (p *Power) forgetOwed() {
	p.stopTimer(&p.restoring)
	p.retryQuiet = false
	p.rec.Owed = ""
	p.save()
}

// afterFailure keeps or drops what the failed operation was to bring about.
func (p *Power) afterFailure(op *Operation) {
	switch {
	case errors.Is(op.err, ErrNoStandby):
		// seeStandby keeps the wanted state for when AC is back.
	case p.led.good:
		p.rec.Wanted, p.rec.Owed = true, ""
	case p.rec.Owed != "" && p.rec.Owed != CauseCommand && p.cfg.RestoreRetry > 0:
		p.retryQuiet = true
		p.owe(p.rec.Owed, p.cfg.RestoreRetry)
		return
	default:
		p.rec.Owed = ""
	}
	p.save()
}

// save marks the record for writing, with p.mu held.
func (p *Power) save() { p.saver.put(p.rec) }
