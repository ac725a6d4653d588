package sdr

import (
	"fmt"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// find answers the sensor that a request's first byte names.
func (r *Repository) find(c *command.Call) (*sensor, command.Code) {
	x := r.byNum[c.Data[0]]
	if x == nil {
		return nil, command.NotPresent
	}
	return x, command.OK
}

// findGauge is find for what only gauges have.
func (r *Repository) findGauge(c *command.Call) (*sensor, command.Code) {
	x, code := r.find(c)
	if x != nil && x.gauge == nil {
		return nil, command.Illegal
	}
	return x, code
}

// key is where a sensor's enables are kept. A gauge may get another number
// where the board's settings change.
func (x *sensor) key() string {
	if x.gauge != nil {
		return "gauge " + x.name
	}
	return fmt.Sprintf("%02X", x.number)
}

// getFactors: section 35.5. They are the same for each reading.
func (r *Repository) getFactors(c *command.Call) command.Code {
	x, code := r.findGauge(c)
	if x == nil {
		return code
	}
	factors := x.factors.put()
	c.Put(c.Data[1]) // the next reading that has factors
	c.Put(factors[:]...)
	return command.OK
}

// limitsOf are l's in the order of the commands' bits and bytes.
func limitsOf(l *host.Limits) [len(limits)]**float64 {
	return [...]**float64{&l.LowerCaution, &l.LowerCritical, &l.LowerFatal, &l.UpperCaution, &l.UpperCritical, &l.UpperFatal}
}

// thresholds are the limits in force, and which there are.
func (x *sensor) thresholds() (readable uint8, raw [len(limits)]byte) {
	l := x.gauge.Limits()
	for i, at := range limitsOf(&l) {
		if *at != nil {
			readable |= 1 << i
			raw[i] = x.factors.Raw(**at)
		}
	}
	return readable, raw
}

// getThresholds: section 35.9.
func (r *Repository) getThresholds(c *command.Call) command.Code {
	x, code := r.findGauge(c)
	if x == nil {
		return code
	}
	readable, raw := x.thresholds()
	c.Put(readable)
	c.Put(raw[:]...)
	return command.OK
}

// setThresholds: section 35.8. A limit whose byte stays the same keeps its
// value, which may lie between two bytes.
func (r *Repository) setThresholds(c *command.Call) command.Code {
	x, code := r.findGauge(c)
	if x == nil {
		return code
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	wanted := x.gauge.Limits()
	lowest, highest := x.gauge.Range()
	for i, at := range limitsOf(&wanted) {
		raw := c.Data[2+i]
		if c.Data[1]>>i&1 == 0 || *at != nil && x.factors.Raw(**at) == raw {
			continue
		}
		v := min(max(x.factors.Value(raw), lowest), highest)
		*at = &v
	}
	return command.Result(r.log, "Set Sensor Thresholds", x.gauge.SetLimits(wanted, c.Origin))
}

// getHysteresis: section 35.7. There is one for both directions.
func (r *Repository) getHysteresis(c *command.Call) command.Code {
	x, code := r.findGauge(c)
	if x == nil {
		return code
	}
	h := x.factors.rawDifference(x.gauge.Limits().Hysteresis)
	c.Put(h, h)
	return command.OK
}

// setHysteresis: section 35.6. A console that changes one of the two directions
// means the one value that there is; two that differ are refused.
func (r *Repository) setHysteresis(c *command.Call) command.Code {
	x, code := r.findGauge(c)
	if x == nil {
		return code
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	wanted := x.gauge.Limits()
	now := x.factors.rawDifference(wanted.Hysteresis)
	positive, negative := c.Data[2], c.Data[3]
	h := positive
	if positive == now {
		h = negative
	}
	switch {
	case positive != negative && positive != now && negative != now:
		return command.InvalidField
	case h == now:
		return command.OK
	}
	wanted.Hysteresis = x.factors.difference(h)
	return command.Result(r.log, "Set Sensor Hysteresis", x.gauge.SetLimits(wanted, c.Origin))
}

// Bits of the event enable, event status and reading commands.
const (
	flagEvents      = 0x80 // event messages are enabled
	flagScanning    = 0x40
	flagUnavailable = 0x20 // there is no reading now
)

// flags are a sensor's enables as the commands answer them.
func (r *Repository) flags(x *sensor) (enables, uint8) {
	r.mu.Lock()
	e := x.enables
	r.mu.Unlock()
	var flags uint8
	if !e.NoEvents {
		flags |= flagEvents
	}
	if !e.NoScan {
		flags |= flagScanning
	}
	return e, flags
}

// masks are the assertion and deassertion events that a request names from its
// third byte on; it may leave out some.
func masks(c *command.Call) (asserts, deasserts uint16) {
	return uint16(c.Arg(2)) | uint16(c.Arg(3))<<8, uint16(c.Arg(4)) | uint16(c.Arg(5))<<8
}

// setEventEnable: section 35.10. It is kept over restarts. Events that the
// sensor cannot make are passed over.
func (r *Repository) setEventEnable(c *command.Call) command.Code {
	x, code := r.find(c)
	if x == nil {
		return code
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	was, _ := r.flags(x)
	wanted := was
	wanted.NoEvents = c.Data[1]&flagEvents == 0
	wanted.NoScan = c.Data[1]&flagScanning == 0
	asserts, deasserts := masks(c)
	switch c.Data[1] >> 4 & 3 {
	case 0: // leave the events as they are
	case 1:
		wanted.Asserts |= asserts & x.asserts
		wanted.Deasserts |= deasserts & x.deasserts
	case 2:
		wanted.Asserts &^= asserts
		wanted.Deasserts &^= deasserts
	default:
		return command.InvalidField
	}
	if wanted == was {
		return command.OK // consoles write back what they read
	}
	if err := r.db.PutJSON(enablesBucket, x.key(), wanted); err != nil {
		return command.Result(r.log, "Set Sensor Event Enable", err)
	}
	r.mu.Lock()
	x.enables = wanted
	r.mu.Unlock()
	r.events.Add(host.Event{Kind: "sensor.events-changed", Origin: c.Origin, Sensor: &host.SensorChange{Name: x.name},
		Message: fmt.Sprintf("The events of the IPMI sensor %q were changed: %s.", x.name, wanted)})
	return command.OK
}

// String says them for people.
func (e enables) String() string {
	switch {
	case e.NoScan:
		return "it is not scanned"
	case e.NoEvents:
		return "none is told"
	}
	return fmt.Sprintf("assertions %04Xh and deassertions %04Xh are told", e.Asserts, e.Deasserts)
}

// getEventEnable: section 35.11.
func (r *Repository) getEventEnable(c *command.Call) command.Code {
	x, code := r.find(c)
	if x == nil {
		return code
	}
	e, flags := r.flags(x)
	c.Put(flags)
	c.Put16(e.Asserts)
	c.Put16(e.Deasserts)
	return command.OK
}

// rearm: section 35.12. Every sensor re-arms itself as soon as its state
// changes, so that nothing is left to do.
func (r *Repository) rearm(c *command.Call) command.Code {
	_, code := r.find(c)
	return code
}

// present are a sensor's states: a bit for each limit that it is beyond, or for
// each state of one that is no gauge. False: there is no reading.
func (x *sensor) present() (states uint16, value float64, ok bool) {
	if x.gauge == nil {
		states, ok = x.state()
		return states, 0, ok
	}
	reading := x.gauge.Reading()
	if !reading.Valid {
		return 0, 0, false
	}
	return uint16(reading.Crossed), reading.Value, true
}

// getEventStatus: section 35.13. Sensors that re-arm themselves tell their
// present state.
func (r *Repository) getEventStatus(c *command.Call) command.Code {
	x, code := r.find(c)
	if x == nil {
		return code
	}
	if x.gauge == nil && x.state == nil {
		return command.Illegal
	}
	_, flags := r.flags(x)
	states, _, ok := x.present()
	switch {
	case !ok:
		flags |= flagUnavailable
	case x.gauge != nil:
		crossed := states
		states = 0
		for _, l := range limits {
			if host.Limit(crossed)&l != 0 {
				states |= 1 << Offset(l)
			}
		}
	}
	c.Put(flags)
	c.Put16(states)
	c.Put16(0)
	return command.OK
}

// getReading: section 35.14.
func (r *Repository) getReading(c *command.Call) command.Code {
	x, code := r.find(c)
	if x == nil {
		return code
	}
	if x.gauge == nil && x.state == nil {
		return command.Illegal // it only makes events
	}
	e, flags := r.flags(x)
	states, value, ok := x.present()
	if !ok || e.NoScan {
		flags |= flagUnavailable
		states = 0
	}
	if x.gauge == nil {
		c.Put(0, flags, byte(states), byte(states>>8)|0x80)
		return command.OK
	}
	var raw byte
	if flags&flagUnavailable == 0 {
		raw = x.factors.Raw(value)
	}
	const reserved = 0xC0 // ones
	c.Put(raw, flags, byte(states)|reserved)
	return command.OK
}

// getType: section 35.16.
func (r *Repository) getType(c *command.Call) command.Code {
	x, code := r.find(c)
	if x == nil {
		return code
	}
	c.Put(x.sensorType, x.eventType)
	return command.OK
}
