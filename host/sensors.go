package host

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// Sensors are what measures the host and what is around it. Run reads each of
// them once a second.
type Sensors struct {
	list   []*Sensor
	power  *Power
	events *Events
	db     *store.Store
	hush   hush
}

// A Sensor is one of them.
type Sensor struct {
	hub  *Sensors
	part SensorPart
	wake chan struct{}

	turn   sync.Mutex // one judgement at a time, its events included
	failed bool       // the gauge does not work, and that was told

	mu      sync.Mutex // apart from turn: who looks never waits for a wire
	limits  Limits     // what its pointers lead to never changes
	reading Reading
}

const limitsBucket = "sensor-limits"

const (
	// sensorPeriod is the time between two readings.
	sensorPeriod = time.Second
	// gaugeLimit bounds one reading.
	gaugeLimit = 5 * time.Second
	// stale is how old a reading may be that is of now: a gauge may be slow, and
	// one that does not mind its context is no reason to show what was long ago.
	stale = gaugeLimit + 2*sensorPeriod
	// spinUp is how long after the power a sensor of Parts that has HostPower
	// means something: fans have to turn first, and voltages to settle. It is
	// longer than the bright half of a sleeping host's blink.
	spinUp = 3 * time.Second
)

func newSensors(parts []SensorPart, power *Power, opt Options) (*Sensors, error) {
	s := &Sensors{power: power, events: opt.Events, db: opt.Store}
	names := map[string]bool{}
	for _, part := range parts {
		if err := part.check(); err != nil {
			return nil, err
		}
		if names[part.Name] {
			return nil, fmt.Errorf("sensor %q: %w: there are two of that name", part.Name, ErrInvalid)
		}
		names[part.Name] = true
		x := &Sensor{hub: s, part: part, wake: make(chan struct{}, 1), limits: part.Limits.clone()}
		var kept Limits
		found, err := s.db.GetJSON(limitsBucket, part.Name, &kept)
		if err == nil && found {
			err = kept.check(part.Min, part.Max)
		}
		switch {
		case err != nil:
			s.events.Add(Event{Severity: Warning, Kind: "sensor.record", Sensor: &SensorChange{Name: part.Name},
				Message: fmt.Sprintf("The saved limits of the sensor %q are not used: %v.", part.Name, err)})
		case found:
			x.limits = kept
		}
		s.list = append(s.list, x)
	}
	return s, nil
}

// check answers ErrInvalid for a part that no board may hand over.
func (p SensorPart) check() error {
	bad := len(p.Name) < 1 || len(p.Name) > 16
	for _, c := range []byte(p.Name) {
		bad = bad || c < ' ' || c > '~'
	}
	switch {
	case bad:
		return fmt.Errorf("sensor %q: %w: a name has 1 to 16 characters of printable ASCII", p.Name, ErrInvalid)
	case p.Gauge == nil:
		return fmt.Errorf("sensor %q: %w: it has no gauge", p.Name, ErrInvalid)
	case !finite(p.Min) || !finite(p.Max) || p.Min >= p.Max:
		return fmt.Errorf("sensor %q: %w: its range is %v to %v", p.Name, ErrInvalid, p.Min, p.Max)
	}
	err := p.Limits.check(p.Min, p.Max)
	if err == nil {
		err = p.Limits.ordered()
	}
	if err != nil {
		return fmt.Errorf("sensor %q: %w", p.Name, err)
	}
	return nil
}

// List returns them in the order of Parts.Sensors. It never changes.
func (s *Sensors) List() []*Sensor { return s.list }

// Name is unique among the sensors.
func (x *Sensor) Name() string { return x.part.Name }

// Quantity is what it measures.
func (x *Sensor) Quantity() Quantity { return x.part.Quantity }

// Place says what it is part of.
func (x *Sensor) Place() Place { return x.part.Place }

// Range bounds what it can tell.
func (x *Sensor) Range() (lowest, highest float64) { return x.part.Min, x.part.Max }

// Reading is what it last told; how long ago depends on how slow the gauge is.
// It never blocks.
func (x *Sensor) Reading() Reading {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.reading
	r.Valid = r.Valid && time.Since(r.At) <= stale
	return r
}

// Limits are those in force. What their pointers lead to must not be changed.
func (x *Sensor) Limits() Limits {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.limits
}

// SetLimits changes the limits for good: they are on the disk when it returns
// nil. It answers ErrInvalid for limits out of the range, and for a lower one
// that is not below each upper one. Those of one side may be in any order:
// consoles set one after the other, and which first is up to them.
func (x *Sensor) SetLimits(l Limits, from Origin) error {
	if err := l.check(x.part.Min, x.part.Max); err != nil {
		return fmt.Errorf("sensor %q: %w", x.part.Name, err)
	}
	l = l.clone()
	x.turn.Lock()
	defer x.turn.Unlock()
	if x.Limits().same(l) {
		return nil
	}
	if err := x.hub.db.PutJSON(limitsBucket, x.part.Name, l); err != nil {
		return err
	}
	x.mu.Lock()
	x.limits = l
	now := x.reading
	x.mu.Unlock()
	x.hub.events.Add(Event{Kind: "sensor.limits-changed", Origin: from, Sensor: &SensorChange{Name: x.part.Name},
		Message: fmt.Sprintf("The limits of the sensor %q were changed.", x.part.Name)})
	if now.Valid {
		x.judge(now.Value, now.At)
	}
	return nil
}

// run reads the sensors until ctx ends, and has the meter, if there is one,
// take what they told a second ago. A sensor has a goroutine of its own, so
// that one whose gauge is slow delays nobody.
func (s *Sensors) run(ctx context.Context, meter *Meter) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for _, x := range s.list {
		workers.Go(func() { x.run(ctx) })
	}
	tick := time.NewTicker(sensorPeriod)
	defer tick.Stop()
	for {
		if meter != nil {
			meter.sample(time.Now())
		}
		for _, x := range s.list {
			select {
			case x.wake <- struct{}{}:
			default: // it is reading still
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// run reads the sensor at each wake until ctx ends.
func (x *Sensor) run(ctx context.Context) {
	defer x.void()
	// One context serves all readings, until one of them takes too long.
	var reading context.Context
	var cancel context.CancelFunc
	var limit *time.Timer
	for {
		if reading == nil {
			reading, cancel = context.WithCancel(ctx)
			limit = time.AfterFunc(gaugeLimit, cancel)
			limit.Stop()
		}
		select {
		case <-x.wake:
		case <-ctx.Done():
			cancel()
			return
		}
		limit.Reset(gaugeLimit)
		x.poll(ctx, reading)
		if !limit.Stop() {
			cancel()
			reading = nil
		}
	}
}

// void takes the validity of a reading that nobody keeps up to date.
func (x *Sensor) void() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading.Valid = false
}

// means says whether a reading of now would mean something.
func (x *Sensor) means() bool { return !x.part.HostPower || x.hub.power.onFor(spinUp) }

// poll reads the gauge once, for as long as reading lasts; ctx is Run's.
func (x *Sensor) poll(ctx, reading context.Context) {
	if !x.means() {
		x.silence()
		return
	}
	v, err := x.part.Gauge.Read(reading)
	switch {
	case ctx.Err() != nil:
		return
	case !x.means(): // the host went off meanwhile
		x.silence()
		return
	case err != nil && reading.Err() != nil:
		err = fmt.Errorf("no answer within %v: %w", gaugeLimit, err)
	case err == nil && !finite(v):
		err = fmt.Errorf("the reading %v: %w", v, ErrInvalid)
	}
	x.turn.Lock()
	defer x.turn.Unlock()
	if err != nil {
		x.void()
		if !x.failed {
			x.failed = true
			x.note(Event{Severity: Warning, Kind: "sensor.failed", Sensor: &SensorChange{Name: x.part.Name},
				Message: fmt.Sprintf("The sensor %q failed: %v.", x.part.Name, err)})
		}
		return
	}
	if x.failed {
		x.failed = false
		x.note(Event{Kind: "sensor.restored", Sensor: &SensorChange{Name: x.part.Name, Value: v},
			Message: fmt.Sprintf("The sensor %q works again.", x.part.Name)})
	}
	x.judge(v, time.Now())
}

// silence notes that the sensor means nothing now. What was crossed is not
// told to be back: nobody knows.
func (x *Sensor) silence() {
	x.turn.Lock()
	defer x.turn.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading.Valid, x.reading.Crossed = false, 0
}

// judge takes a reading and tells which limits it crossed, with x.turn held.
func (x *Sensor) judge(v float64, at time.Time) {
	x.mu.Lock()
	was, limits := x.reading.Crossed, x.limits
	now := limits.crossed(v, was)
	x.reading = Reading{Value: v, At: at, Valid: true, Crossed: now}
	x.mu.Unlock()
	if now == was {
		return
	}
	// The mildest limit first on the way out, the hardest on the way back.
	for i := len(eachLimit) - 1; i >= 0; i-- {
		if l := eachLimit[i]; was&l != 0 && now&l == 0 && limits.at(l) != nil {
			x.crossed(l, false, v, *limits.at(l))
		}
	}
	for _, l := range eachLimit {
		if was&l == 0 && now&l != 0 {
			x.crossed(l, true, v, *limits.at(l))
		}
	}
}

// crossed tells that a limit was crossed.
func (x *Sensor) crossed(l Limit, beyond bool, v, at float64) {
	e := Event{Kind: "sensor.limit", Sensor: &SensorChange{Name: x.part.Name, Limit: l, Beyond: beyond, Value: v, At: at}}
	unit := x.part.Quantity.Unit()
	if beyond {
		e.Severity = Critical
		if l&(LowerCaution|UpperCaution) != 0 {
			e.Severity = Warning
		}
		e.Message = fmt.Sprintf("The sensor %q is at %.4g %s, beyond its %s limit of %.4g %s.", x.part.Name, v, unit, l, at, unit)
	} else {
		e.Message = fmt.Sprintf("The sensor %q is at %.4g %s, back from its %s limit of %.4g %s.", x.part.Name, v, unit, l, at, unit)
	}
	x.note(e)
}

// note logs what a sensor tells by itself, which may be much.
func (x *Sensor) note(e Event) {
	if say, more := x.hub.hush.take(fmt.Sprint(e.Kind, x.part.Name), time.Now()); say {
		e.Message += more
		x.hub.events.Add(e)
	}
}

// eachLimit has the limits, on each side the mildest first.
var eachLimit = [...]Limit{LowerCaution, LowerCritical, LowerFatal, UpperCaution, UpperCritical, UpperFatal}

// String names the limit in messages.
func (l Limit) String() string {
	switch l {
	case LowerCaution:
		return "lower caution"
	case LowerCritical:
		return "lower critical"
	case LowerFatal:
		return "lower fatal"
	case UpperCaution:
		return "upper caution"
	case UpperCritical:
		return "upper critical"
	case UpperFatal:
		return "upper fatal"
	}
	return fmt.Sprintf("Limit(%#02x)", uint8(l))
}

// Unit is the sign of the unit that q is measured in.
func (q Quantity) Unit() string {
	switch q {
	case Temperature:
		return "°C"
	case Voltage:
		return "V"
	case Current:
		return "A"
	case FanSpeed:
		return "rpm"
	case Wattage:
		return "W"
	case Humidity:
		return "%"
	}
	return ""
}

// at returns one of the limits, nil where there is none.
func (l Limits) at(one Limit) *float64 {
	switch one {
	case LowerCaution:
		return l.LowerCaution
	case LowerCritical:
		return l.LowerCritical
	case LowerFatal:
		return l.LowerFatal
	case UpperCaution:
		return l.UpperCaution
	case UpperCritical:
		return l.UpperCritical
	case UpperFatal:
		return l.UpperFatal
	}
	return nil
}

const lowerLimits = LowerCaution | LowerCritical | LowerFatal

// crossed says which limits v is beyond when those of was were crossed before.
// A limit itself counts as crossed (IPMI 2.0 section 35.14: "at or above").
func (l Limits) crossed(v float64, was Limit) (now Limit) {
	for _, one := range eachLimit {
		at := l.at(one)
		if at == nil {
			continue
		}
		over := v - *at
		if one&lowerLimits != 0 {
			over = -over
		}
		if over >= 0 || was&one != 0 && -over < l.Hysteresis {
			now |= one
		}
	}
	return now
}

// check answers ErrInvalid for limits out of a range, and for a lower one that
// is not below each upper one.
func (l Limits) check(lowest, highest float64) error {
	if !finite(l.Hysteresis) || l.Hysteresis < 0 || l.Hysteresis > highest-lowest {
		return fmt.Errorf("hysteresis %v: %w", l.Hysteresis, ErrInvalid)
	}
	top, topName := math.Inf(-1), Limit(0) // the highest of the lower ones
	for _, one := range eachLimit {        // which come first
		at := l.at(one)
		switch {
		case at == nil:
		case !finite(*at) || *at < lowest || *at > highest:
			return fmt.Errorf("%s limit %v: %w: the sensor's range is %v to %v", one, *at, ErrInvalid, lowest, highest)
		case one&lowerLimits == 0 && *at <= top:
			return fmt.Errorf("%s limit %v: %w: the %s limit is %v", one, *at, ErrInvalid, topName, top)
		case one&lowerLimits != 0 && *at > top:
			top, topName = *at, one
		}
	}
	return nil
}

// ordered answers ErrInvalid where a limit is beyond a harder one.
func (l Limits) ordered() error {
	last, lastName := math.Inf(-1), Limit(0)
	for _, one := range [...]Limit{LowerFatal, LowerCritical, LowerCaution, UpperCaution, UpperCritical, UpperFatal} {
		at := l.at(one)
		if at == nil {
			continue
		}
		if *at < last {
			return fmt.Errorf("%s limit %v: %w: the %s limit is %v", one, *at, ErrInvalid, lastName, last)
		}
		last, lastName = *at, one
	}
	return nil
}

// clone copies the limits and what their pointers lead to.
func (l Limits) clone() Limits {
	for _, p := range []**float64{&l.LowerCaution, &l.LowerCritical, &l.LowerFatal, &l.UpperCaution, &l.UpperCritical, &l.UpperFatal} {
		if *p != nil {
			*p = new(**p)
		}
	}
	return l
}

func (l Limits) same(o Limits) bool {
	for _, one := range eachLimit {
		a, b := l.at(one), o.at(one)
		if (a == nil) != (b == nil) || a != nil && *a != *b {
			return false
		}
	}
	return l.Hysteresis == o.Hysteresis
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
