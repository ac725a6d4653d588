package dcmi

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// A thermalLimit is what happens when an inlet sensor is warmer than allowed for
// a while.
type thermalLimit struct {
	Actions byte   `json:"actions"` // as Set Thermal Limit has them
	Celsius byte   `json:"celsius"`
	Seconds uint16 `json:"seconds"` // that it may be warmer
}

// Bits of Actions.
const (
	thermalPersistent = 0x80 // over restarts
	thermalOff        = 0x40
	thermalLog        = 0x20
)

// thermal are the limits, by the instance of their sensor.
type thermal struct {
	// inlets are the sensors that can have one, where the host can be switched
	// off. They never change.
	inlets []Thermometer

	setting sync.Mutex // one change at a time, the disk included

	mu     sync.Mutex
	limits map[uint8]*heat
}

// heat is a limit and how the sensor stands to it.
type heat struct {
	thermalLimit
	over time.Time // since when it is too warm; zero: it is not
	told bool      // that it is
	act  time.Time // when to switch the host off, again if need be
}

const thermalBucket = "dcmi-thermal"

// thermalHysteresis is how far an inlet has to cool down below its limit, in
// degrees, before it is told to be within it: one that dances on the limit must
// not fill the log.
const thermalHysteresis = 2

// thermalRetry is how long a host is left alone that did not go off.
const thermalRetry = 30 * time.Second

func (x *DCMI) loadThermal() {
	x.thermal.limits = map[uint8]*heat{}
	if !x.Power.Supports(host.ForceOff) {
		return
	}
	for _, t := range x.Thermometers {
		if t.Sensor.Place() != host.PlaceInlet {
			continue
		}
		x.thermal.inlets = append(x.thermal.inlets, t)
		h := &heat{}
		if _, err := x.Store.GetJSON(thermalBucket, t.key(), &h.thermalLimit); err != nil {
			x.Log.Error("a thermal limit that was kept is not in force", "sensor", t.Sensor.Name(), "error", err)
		}
		x.thermal.limits[t.Instance] = h
	}
}

func (t *Thermometer) key() string { return strconv.Itoa(int(t.Instance)) }

// inlet is the sensor that a request's entity ID and instance name.
func (x *DCMI) inlet(c *command.Call) (Thermometer, command.Code) {
	if p, known := placeOf(c.Data[0]); !known || p != host.PlaceInlet {
		return Thermometer{}, command.InvalidField
	}
	for _, t := range x.thermal.inlets {
		if t.Instance == c.Data[1] {
			return t, command.OK
		}
	}
	return Thermometer{}, command.NotPresent
}

// getThermalLimit is Get Thermal Limit.
func (x *DCMI) getThermalLimit(c *command.Call) command.Code {
	t, code := x.inlet(c)
	if code != command.OK {
		return code
	}
	x.thermal.mu.Lock()
	defer x.thermal.mu.Unlock()
	l := x.thermal.limits[t.Instance].thermalLimit
	c.Put(l.Actions, l.Celsius)
	c.Put16(l.Seconds)
	return command.OK
}

// setThermalLimit is Set Thermal Limit. Without an action the limit is off. One
// that is not persistent is over at the next start, and the one kept before it
// is in force again.
func (x *DCMI) setThermalLimit(c *command.Call) command.Code {
	t, code := x.inlet(c)
	if code != command.OK {
		return code
	}
	const highest = 125 // no server's inlet sensor tells more
	l := thermalLimit{Actions: c.Data[2], Celsius: c.Data[3], Seconds: binary.LittleEndian.Uint16(c.Data[4:])}
	switch {
	case l.Actions&^(thermalPersistent|thermalOff|thermalLog) != 0:
		return command.InvalidField
	case l.active() && l.Celsius == 0, l.Celsius > highest:
		return codeLimitOutOfRange
	}
	x.thermal.setting.Lock()
	defer x.thermal.setting.Unlock()
	x.thermal.mu.Lock()
	was := x.thermal.limits[t.Instance].thermalLimit
	x.thermal.mu.Unlock()
	if was == l {
		return command.OK // and the sensor stands to it as before
	}
	if l.Actions&thermalPersistent != 0 {
		if err := x.Store.PutJSON(thermalBucket, t.key(), l); err != nil {
			return command.Result(x.Log, "Set Thermal Limit", err)
		}
	}
	x.thermal.mu.Lock()
	told := x.thermal.limits[t.Instance].told
	x.thermal.limits[t.Instance] = &heat{thermalLimit: l}
	x.thermal.mu.Unlock()
	if told {
		// What is over the new limit is told again.
		x.Events.Add(host.Event{Kind: "thermal.limit-cleared", Origin: c.Origin, Sensor: was.change(t, t.Sensor.Reading(), false),
			Message: fmt.Sprintf("The sensor %q is not over its thermal limit of %d °C: it was changed.", t.Sensor.Name(), was.Celsius)})
	}
	x.Events.Add(host.Event{Kind: "thermal.limit-changed", Origin: c.Origin, Message: l.message(t.Sensor.Name())})
	return command.OK
}

func (l thermalLimit) active() bool { return l.Actions&(thermalOff|thermalLog) != 0 }

// change is what the SEL shows as the sensor's.
func (l thermalLimit) change(t Thermometer, r host.Reading, beyond bool) *host.SensorChange {
	return &host.SensorChange{Name: t.Sensor.Name(), Limit: host.UpperCritical, Beyond: beyond, Value: r.Value, At: float64(l.Celsius)}
}

func (l thermalLimit) message(name string) string {
	if !l.active() {
		return fmt.Sprintf("The sensor %q has no thermal limit.", name)
	}
	what := "is told"
	if l.Actions&thermalOff != 0 {
		what = "switches the host off"
	}
	return fmt.Sprintf("The sensor %q over %d °C for %d s %s.", name, l.Celsius, l.Seconds, what)
}

// watchHeat compares the inlets with their limits, once a second.
func (x *DCMI) watchHeat(now time.Time) {
	for _, t := range x.thermal.inlets {
		r := t.Sensor.Reading()
		x.thermal.mu.Lock()
		h := x.thermal.limits[t.Instance]
		l := h.thermalLimit
		event, off := h.look(r, now, x.Power.Status().State == host.StateOn)
		x.thermal.mu.Unlock()
		switch event {
		case "thermal.limit":
			x.Events.Add(host.Event{Severity: host.Warning, Kind: event, Sensor: l.change(t, r, true),
				Message: fmt.Sprintf("The sensor %q is at %.0f °C, over its thermal limit of %d °C.", t.Sensor.Name(), r.Value, l.Celsius)})
		case "thermal.limit-cleared":
			x.Events.Add(host.Event{Kind: event, Sensor: l.change(t, r, false),
				Message: fmt.Sprintf("The sensor %q is at %.0f °C, within its thermal limit of %d °C.", t.Sensor.Name(), r.Value, l.Celsius)})
		}
		if !off {
			continue
		}
		if _, err := x.Power.Request(host.ForceOff, host.CauseCommand, host.Origin{}); err != nil && event != "" {
			x.Events.Add(host.Event{Severity: host.Critical, Kind: "thermal.limit-failed",
				Message: fmt.Sprintf("The host is too warm and could not be switched off: %v.", err)})
		}
	}
}

// look takes in one reading, and says what to tell and whether to switch the
// host off: again only where it is known to be on, since the button that
// switches it off may also switch it on. A sensor that does not work switches
// nothing off.
func (h *heat) look(r host.Reading, now time.Time, on bool) (event string, off bool) {
	switch {
	case !h.active() || !r.Valid:
		h.over = time.Time{}
	case r.Value <= float64(h.Celsius):
		h.over = time.Time{}
		if h.told && r.Value <= float64(h.Celsius)-thermalHysteresis {
			h.told = false
			event = "thermal.limit-cleared"
		}
	default:
		if h.over.IsZero() {
			h.over, h.act = now, now.Add(time.Duration(h.Seconds)*time.Second)
		}
		if now.Before(h.act) {
			return "", false
		}
		h.act = now.Add(thermalRetry)
		off = h.Actions&thermalOff != 0 && (on || !h.told)
		if !h.told {
			h.told = true
			event = "thermal.limit"
		}
	}
	return event, off
}
