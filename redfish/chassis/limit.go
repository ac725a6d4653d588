package chassis

import (
	"errors"
	"slices"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// This file is the power limit of the host, in its three shapes:
// EnvironmentMetrics.PowerLimitWatts, Control, and the one of legacy.go.

const (
	environmentMetricsURI = resource.ChassisURI + "/EnvironmentMetrics"
	controlsURI           = resource.ChassisURI + "/Controls"
	powerLimitURI         = controlsURI + "/PowerLimit"

	environmentMetricsType = "EnvironmentMetrics.v1_5_0.EnvironmentMetrics"
	controlCollectionType  = "ControlCollection.ControlCollection"
	controlType            = "Control.v1_7_0.Control"

	powerLimitName = "PowerLimitWatts"
	setPointName   = "SetPoint"
	modeName       = "ControlMode"
	delayName      = "ControlDelaySeconds"

	// The words of ControlMode.
	automatic = "Automatic"
	disabled  = "Disabled"

	// maxWatts is the highest limit that is taken: what IPMI can tell, too (DCMI
	// 1.5, Get Power Limit).
	maxWatts = 65534
	// maxCorrection bounds the time that the host may draw more, in seconds.
	maxCorrection = 24 * 60 * 60
)

type environmentMetrics struct {
	resource.OData
	PowerWatts         *excerpt    `json:"PowerWatts,omitempty"`
	PowerLimitWatts    *powerLimit `json:"PowerLimitWatts,omitempty"`
	TemperatureCelsius *excerpt    `json:"TemperatureCelsius,omitempty"`
	HumidityPercent    *excerpt    `json:"HumidityPercent,omitempty"`
}

// Settled implements resource.Settled.
func (r environmentMetrics) Settled() resource.Typed {
	r.PowerWatts, r.TemperatureCelsius, r.HumidityPercent = r.PowerWatts.settled(), r.TemperatureCelsius.settled(), r.HumidityPercent.settled()
	if r.PowerLimitWatts != nil {
		l := *r.PowerLimitWatts
		l.Reading = nil
		r.PowerLimitWatts = &l
	}
	return r
}

// A powerLimit is the excerpt of the Control.
type powerLimit struct {
	DataSourceURI string   `json:"DataSourceUri"`
	Reading       *float64 `json:"Reading"`
	setting
	Writable []string `json:"@Redfish.WriteableProperties"`
}

// A setting is what both have that can be written.
type setting struct {
	SetPoint     *int     `json:"SetPoint"` // null: none was set yet
	AllowableMin int      `json:"AllowableMin"`
	AllowableMax int      `json:"AllowableMax"`
	ControlMode  string   `json:"ControlMode"`
	Modes        []string `json:"ControlMode@Redfish.AllowableValues"`
}

func newSetting(l host.PowerLimit) setting {
	s := setting{AllowableMin: 1, AllowableMax: maxWatts, ControlMode: disabled, Modes: []string{automatic, disabled}}
	if l.Watts > 0 {
		s.SetPoint = &l.Watts
	}
	if l.Active {
		s.ControlMode = automatic
	}
	return s
}

// watts is what the host draws, with the sensor if it is one alone that tells.
func (c *Chassis) watts() *excerpt {
	e := &excerpt{}
	if now := c.Host.Meter.Status(); now.Valid {
		e.Reading = new(round(now.Now))
	}
	gauges := c.which(host.Wattage, host.PlaceSystem) // as host.Meter chooses them
	if len(gauges) == 0 {
		gauges = c.supplies()
	}
	if len(gauges) == 1 {
		e.DataSourceURI = gauges[0].uri()
	}
	return e
}

func (c *Chassis) getEnvironmentMetrics(*resource.Request) *resource.Reply {
	r := environmentMetrics{
		OData:              resource.NewOData(environmentMetricsURI, environmentMetricsType, "Environment Metrics"),
		TemperatureCelsius: first(c.which(host.Temperature, host.PlaceInlet)),
		HumidityPercent:    first(c.which(host.Humidity, "")),
	}
	if c.Host.Meter != nil {
		r.PowerWatts = c.watts()
		r.PowerLimitWatts = &powerLimit{powerLimitURI, r.PowerWatts.Reading, newSetting(c.Host.Meter.Limit()), []string{setPointName, modeName}}
	}
	return resource.OK(r)
}

func (c *Chassis) patchEnvironmentMetrics(q *resource.Request) *resource.Reply {
	l := c.Host.Meter.Limit()
	keep := func(change func(*host.PowerLimit)) []message.Message {
		change(&l)
		return nil
	}
	shown := powerLimit{}
	return resource.Patch(q, c.getEnvironmentMetrics, resource.Whole(powerLimitName, shown,
		[]resource.Property{writeSetPoint(keep), writeMode(keep)},
		func() []message.Message { return c.setLimit(l, q.Origin(), powerLimitName) }))
}

// writeSetPoint is SetPoint, which change takes into the limit.
func writeSetPoint(change func(func(*host.PowerLimit)) []message.Message) resource.Property {
	return resource.Nullable(resource.Integer(setPointName, 1, maxWatts, func(watts int64) []message.Message {
		return change(func(l *host.PowerLimit) { l.Watts = int(watts) })
	}), func() []message.Message { return change(func(l *host.PowerLimit) { l.Watts = 0 }) })
}

// writeMode is ControlMode, which change takes into the limit.
func writeMode(change func(func(*host.PowerLimit)) []message.Message) resource.Property {
	return resource.Enum(modeName, []string{automatic, disabled}, func(mode string) []message.Message {
		return change(func(l *host.PowerLimit) { l.Active = mode == automatic })
	})
}

// setLimit sets the limit, of which the properties are in the object within.
func (c *Chassis) setLimit(l host.PowerLimit, from host.Origin, within ...string) []message.Message {
	err := c.Host.Meter.SetLimit(l, from)
	switch {
	case errors.Is(err, host.ErrInvalid):
		// The values are in range: it is a limit in force without watts.
		return []message.Message{message.PropertyValueConflict(modeName, setPointName).
			About(message.Pointer(slices.Concat(within, []string{modeName})...), message.Pointer(slices.Concat(within, []string{setPointName})...))}
	case err != nil:
		return []message.Message{c.failed("PowerLimit", err)}
	}
	return nil
}

type control struct {
	resource.OData
	ControlType         string          `json:"ControlType"`
	SetPointType        string          `json:"SetPointType"`
	SetPointUnits       string          `json:"SetPointUnits"`
	ControlDelaySeconds float64         `json:"ControlDelaySeconds"`
	PhysicalContext     string          `json:"PhysicalContext"`
	Sensor              *excerpt        `json:"Sensor,omitempty"`
	Status              resource.Status `json:"Status"`
	setting
}

// Settled implements resource.Settled.
func (r control) Settled() resource.Typed {
	r.Sensor = r.Sensor.settled()
	return r
}

func (c *Chassis) getControls(*resource.Request) *resource.Reply {
	var uris []string
	if c.Host.Meter != nil {
		uris = append(uris, powerLimitURI)
	}
	return resource.OK(resource.NewCollection(controlsURI, "ControlCollection", "Control Collection", uris...))
}

func (c *Chassis) getPowerLimit(*resource.Request) *resource.Reply {
	l := c.Host.Meter.Limit()
	r := control{
		OData:               resource.NewOData(powerLimitURI, controlType, "Power Limit"),
		ControlType:         "Power",
		SetPointType:        "Single",
		SetPointUnits:       "W",
		ControlDelaySeconds: l.Correction.Seconds(),
		PhysicalContext:     "Chassis",
		Status:              resource.Enabled(),
		setting:             newSetting(l),
	}
	if w := c.watts(); w.DataSourceURI != "" {
		r.Sensor = w
	}
	return resource.OK(r)
}

func (c *Chassis) patchPowerLimit(q *resource.Request) *resource.Reply {
	change := func(f func(*host.PowerLimit)) []message.Message {
		l := c.Host.Meter.Limit()
		f(&l)
		return c.setLimit(l, q.Origin())
	}
	delay := resource.Number(delayName, func(seconds float64) []message.Message {
		if seconds < 0 || seconds > maxCorrection {
			return []message.Message{message.PropertyValueOutOfRange(seconds, delayName)}
		}
		return change(func(l *host.PowerLimit) { l.Correction = time.Duration(seconds * float64(time.Second)) })
	}, nil)
	// A limit comes into force after it got its watts, and loses them after it
	// went out of force, in whatever order the client says so.
	rank := func(m resource.Member) int {
		switch {
		case m.Name == modeName && m.Value == disabled:
			return 0
		case m.Name == modeName:
			return 2
		}
		return 1
	}
	slices.SortStableFunc(q.Body, func(a, b resource.Member) int { return rank(a) - rank(b) })
	return resource.Patch(q, c.getPowerLimit, writeSetPoint(change), writeMode(change), delay)
}
