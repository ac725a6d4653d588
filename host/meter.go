package host

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// Meter tells what the host draws: the sum of the wattage sensors of the whole
// system or, where there is none, of those of its power supplies.
type Meter struct {
	gauges []*Sensor
	power  *Power
	events *Events
	db     *store.Store

	setting sync.Mutex // one change of the limit at a time, the disk included

	mu    sync.Mutex
	now   statistics
	past  statistics // those of the meterSpan before
	limit PowerLimit
	over  time.Time // since when the host draws too much; zero: it does not
	told  bool      // that it does
	act   time.Time // when to switch it off, again if need be
}

// statistics are those of the readings since a time, one each second.
type statistics struct {
	since         time.Time
	min, max, sum float64
	count         int
}

// A MeterStatus is one look at a Meter.
type MeterStatus struct {
	// Now is the draw in watts and At when it was measured. Valid: it is of now.
	Now   float64
	At    time.Time
	Valid bool
	// Min, Max and Average are watts over the time since Since, which is zero
	// where nothing was measured yet.
	Min, Max, Average float64
	Since             time.Time
}

// A LimitAction is what is done about a host that draws too much.
type LimitAction string

// The actions.
const (
	LimitLog LimitAction = "log" // an event
	LimitOff LimitAction = "off" // likewise, and the host is forced off
)

// A PowerLimit is how much the host may draw.
type PowerLimit struct {
	Active bool `json:"active"`
	Watts  int  `json:"watts"`
	// Correction is how long the host may draw more.
	Correction time.Duration `json:"correction"`
	// Period is over what time whoever set the limit looks at the draw (DCMI
	// 1.5, Set Power Limit: management application statistics sampling
	// period). It is kept for them; the board looks each second.
	Period time.Duration `json:"period"`
	Action LimitAction   `json:"action"`
}

const (
	meterBucket = "meter"
	limitKey    = "limit"
	// meterSpan is half of the longest time that the statistics are of.
	meterSpan = 12 * time.Hour
	// limitRetry is how long a host is left alone that did not go off.
	limitRetry = 30 * time.Second
)

// newMeter returns nil where nothing measures what the host draws.
func newMeter(sensors *Sensors, power *Power, opt Options) *Meter {
	m := &Meter{power: power, events: opt.Events, db: opt.Store, limit: PowerLimit{Action: LimitLog}}
	for _, place := range []Place{PlaceSystem, PlacePSU} {
		m.gauges = slices.DeleteFunc(slices.Clone(sensors.list), func(x *Sensor) bool {
			return x.part.Quantity != Wattage || x.part.Place != place
		})
		if len(m.gauges) > 0 {
			break
		}
	}
	if len(m.gauges) == 0 {
		return nil
	}
	kept := m.limit
	_, err := m.db.GetJSON(meterBucket, limitKey, &kept)
	if err == nil {
		err = m.check(kept)
	}
	if err != nil {
		m.events.Add(Event{Severity: Warning, Kind: "power.limit-record", Message: fmt.Sprintf("The saved power limit is not in force: %v.", err)})
		return m
	}
	m.limit = kept
	return m
}

// Status never blocks.
func (m *Meter) Status() MeterStatus {
	var s MeterStatus
	s.Now, s.At, s.Valid = m.read()
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.now
	if m.past.count > 0 {
		all.since = m.past.since
		all.min, all.max = min(all.min, m.past.min), max(all.max, m.past.max)
		all.sum += m.past.sum
		all.count += m.past.count
	}
	if all.count > 0 {
		s.Since, s.Min, s.Max, s.Average = all.since, all.min, all.max, all.sum/float64(all.count)
	}
	return s
}

// read adds the sensors up. The sum is valid if all of them are.
func (m *Meter) read() (watts float64, at time.Time, valid bool) {
	valid = true
	for i, x := range m.gauges {
		r := x.Reading()
		watts += r.Value
		valid = valid && r.Valid
		if i == 0 || r.At.Before(at) {
			at = r.At
		}
	}
	return watts, at, valid
}

// sample takes the reading of a second into the statistics, and sees to the
// limit.
func (m *Meter) sample(now time.Time) {
	watts, _, valid := m.read()
	m.mu.Lock()
	if valid {
		m.count(watts, now)
	}
	l, event, off := m.limit, "", false
	switch {
	case !l.Active || !valid:
		// A host that nobody measures is not switched off, and whether it draws
		// too much is found out anew.
		m.over = time.Time{}
	case watts <= float64(l.Watts):
		m.over = time.Time{}
		if m.told {
			m.told = false
			event = "power.limit-cleared"
		}
	default:
		if m.over.IsZero() {
			m.over, m.act = now, now.Add(l.Correction)
		}
		if now.Before(m.act) {
			break
		}
		m.act = now.Add(max(l.Correction, limitRetry))
		off = l.Action == LimitOff
		if !m.told {
			m.told = true
			event = "power.limit"
		}
	}
	m.mu.Unlock()
	switch event {
	case "power.limit":
		msg := fmt.Sprintf("The host draws %.0f W, and may draw %d W.", watts, l.Watts)
		if off {
			msg += " It is switched off."
		}
		// A draw that swings around the limit must not fill the log.
		m.power.note(Event{Severity: Warning, Kind: event, Message: msg})
	case "power.limit-cleared":
		m.power.note(Event{Kind: event, Message: fmt.Sprintf("The host draws %.0f W again, and may draw %d W.", watts, l.Watts)})
	}
	if !off {
		return
	}
	if _, err := m.power.Request(ForceOff, CauseCommand, Origin{}); err != nil && event != "" {
		m.events.Add(Event{Severity: Critical, Kind: "power.limit-failed", Message: fmt.Sprintf("The host draws too much and could not be switched off: %v.", err)})
	}
}

// count takes one reading, with m.mu held.
func (m *Meter) count(watts float64, now time.Time) {
	s := &m.now
	if s.count > 0 && now.Sub(s.since) >= meterSpan {
		m.past, *s = *s, statistics{}
	}
	if s.count == 0 {
		*s = statistics{since: now, min: watts, max: watts}
	}
	s.min, s.max = min(s.min, watts), max(s.max, watts)
	s.sum += watts
	s.count++
}

// Limit returns the limit that was set last.
func (m *Meter) Limit() PowerLimit {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.limit
}

// SetLimit changes the limit for good: it is on the disk when SetLimit returns
// nil. It answers ErrInvalid, and errors.ErrUnsupported where LimitOff is asked
// for and the wires cannot switch the host off.
func (m *Meter) SetLimit(l PowerLimit, from Origin) error {
	if err := m.check(l); err != nil {
		return err
	}
	m.setting.Lock()
	defer m.setting.Unlock()
	if m.Limit() == l {
		return nil
	}
	if err := m.db.PutJSON(meterBucket, limitKey, l); err != nil {
		return err
	}
	m.mu.Lock()
	told := m.told
	m.limit, m.over, m.told = l, time.Time{}, false
	m.mu.Unlock()
	if told { // a host that draws more than the new limit is told again
		m.events.Add(Event{Kind: "power.limit-cleared", Origin: from, Message: "The host does not draw more than it may: its power limit was changed."})
	}
	msg := "The host's power is not limited."
	if l.Active {
		msg = fmt.Sprintf("The host may draw %d W for longer than %v; action: %s.", l.Watts, l.Correction, l.Action)
	}
	m.events.Add(Event{Kind: "power.limit-changed", Origin: from, Message: msg})
	return nil
}

func (m *Meter) check(l PowerLimit) error {
	switch {
	case l.Action != LimitLog && l.Action != LimitOff:
		return fmt.Errorf("power limit action %q: %w", l.Action, ErrInvalid)
	case l.Watts < 0 || l.Active && l.Watts == 0 || l.Correction < 0 || l.Period < 0:
		return fmt.Errorf("power limit of %d W for %v, looked at each %v: %w", l.Watts, l.Correction, l.Period, ErrInvalid)
	case l.Active && l.Action == LimitOff && !m.power.Supports(ForceOff):
		return fmt.Errorf("power limit action %q: %w", l.Action, errors.ErrUnsupported)
	}
	return nil
}
