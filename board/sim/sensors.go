package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nitrino/nitrino/host"
)

// A climate is how warm it is in the machine: it warms up while it works, and
// cools down after. Its harness guards it.
type climate struct {
	began   time.Time
	working bool
	since   time.Time
	warm    float64 // at since: 0 is as cold as its surroundings, 1 as warm as it gets
}

// Time constants: a machine that works has fans that warm it through; one that is
// off only loses what it has.
const (
	warmsUp   = 30 * time.Second
	coolsDown = 2 * time.Minute
)

// works says from when on the machine works, or not.
func (c *climate) works(working bool, now time.Time) {
	if working != c.working {
		c.warm, c.since, c.working = c.warmth(now), now, working
	}
}

func (c *climate) warmth(now time.Time) float64 {
	t := now.Sub(c.since)
	if c.working {
		return 1 - (1-c.warm)*math.Exp(-t.Seconds()/warmsUp.Seconds())
	}
	return c.warm * math.Exp(-t.Seconds()/coolsDown.Seconds())
}

// wave goes from -1 to 1 and back, once in a period: nothing real stands still.
func (c *climate) wave(now time.Time, period time.Duration) float64 {
	return math.Sin(2 * math.Pi * now.Sub(c.began).Seconds() / period.Seconds())
}

// A gauge is one sensor of the machine.
type gauge struct {
	h    *Harness
	name string // as hooks call it
	part host.SensorPart
	// actual is what there is to measure. It is called with the harness's mu held.
	actual func(now time.Time) float64

	// The harness's mu guards these.
	failed, set bool
	value       float64
}

var errSensor = errors.New("the simulated sensor fails")

// Read implements host.Gauge.
func (g *gauge) Read(ctx context.Context) (float64, error) {
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	v := g.value
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case g.failed:
		return 0, errSensor
	case !g.set:
		v = g.actual(time.Now())
	}
	return min(max(v, g.part.Min), g.part.Max), nil
}

// newGauges makes the sensors of the machine.
func newGauges(h *Harness) []*gauge {
	c := &h.climate
	// ifWorks is what has no power while the machine does not work.
	ifWorks := func(v float64) float64 {
		if !c.working {
			return 0
		}
		return v
	}
	limit := func(v float64) *float64 { return &v }
	return []*gauge{
		{h: h, name: "inlet", part: host.SensorPart{
			Name: "Inlet temp", Quantity: host.Temperature, Place: host.PlaceInlet, Max: 127.5,
			Limits: host.Limits{UpperCaution: limit(35), UpperCritical: limit(40), UpperFatal: limit(45), Hysteresis: 2},
		}, actual: func(now time.Time) float64 {
			return 23 + c.warmth(now) + 0.5*c.wave(now, 5*time.Minute)
		}},
		{h: h, name: "cpu", part: host.SensorPart{
			Name: "CPU temp", Quantity: host.Temperature, Place: host.PlaceCPU, Max: 127.5, HostPower: true,
			Limits: host.Limits{UpperCaution: limit(85), UpperCritical: limit(95), UpperFatal: limit(105), Hysteresis: 3},
		}, actual: func(now time.Time) float64 {
			return 25 + 28*c.warmth(now) + 2*c.wave(now, 41*time.Second)
		}},
		{h: h, name: "fan", part: host.SensorPart{
			Name: "Fan 1", Quantity: host.FanSpeed, Place: host.PlaceFan, Max: 5100, HostPower: true,
			Limits: host.Limits{LowerCaution: limit(600), LowerCritical: limit(400), Hysteresis: 50},
		}, actual: func(now time.Time) float64 {
			return ifWorks(1000 + 800*c.warmth(now) + 20*c.wave(now, 13*time.Second))
		}},
		{h: h, name: "12v", part: host.SensorPart{
			Name: "12 V", Quantity: host.Voltage, Place: host.PlaceSystem, Max: 15.3, HostPower: true,
			Limits: host.Limits{LowerCaution: limit(11.4), LowerCritical: limit(10.8), UpperCaution: limit(12.6), UpperCritical: limit(13.2), Hysteresis: 0.1},
		}, actual: func(now time.Time) float64 {
			return ifWorks(12.05 + 0.03*c.wave(now, 29*time.Second))
		}},
		{h: h, name: "power", part: host.SensorPart{
			Name: "Input power", Quantity: host.Wattage, Place: host.PlaceSystem, Max: 510,
		}, actual: func(now time.Time) float64 {
			switch {
			case !h.standby:
				return 0
			case h.up && h.asleep:
				return 7
			case !c.working:
				return 4
			}
			return 60 + 10*c.warmth(now) + 4*c.wave(now, 41*time.Second)
		}},
	}
}

// sensors are the machine's, as its board has them.
func (h *Harness) sensors() []host.SensorPart {
	var list []host.SensorPart
	for _, g := range h.gauges {
		part := g.part
		part.Gauge = g
		list = append(list, part)
	}
	return list
}

// SetSensor gives a sensor ("inlet", "cpu", "fan", "12v", "power") a value to
// tell from now on, in its unit.
func (h *Harness) SetSensor(name string, v float64) error {
	return h.onSensor(name, func(g *gauge) { g.failed, g.set, g.value = false, true, v })
}

// FailSensor breaks a sensor.
func (h *Harness) FailSensor(name string) error {
	return h.onSensor(name, func(g *gauge) { g.failed = true })
}

// FreeSensor repairs a sensor, and lets it tell what there is.
func (h *Harness) FreeSensor(name string) error {
	return h.onSensor(name, func(g *gauge) { g.failed, g.set = false, false })
}

func (h *Harness) onSensor(name string, do func(*gauge)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for _, g := range h.gauges {
		if g.name == name {
			do(g)
			return nil
		}
		names = append(names, g.name)
	}
	return fmt.Errorf("sensor %q: want %s", name, strings.Join(names, ", "))
}
