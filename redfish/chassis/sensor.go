package chassis

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	sensorCollectionType = "SensorCollection.SensorCollection"
	sensorType           = "Sensor.v1_12_0.Sensor"
)

// A sensor is one of the host's, with the Id that its name becomes in URIs.
type sensor struct {
	*host.Sensor
	id string
}

func (x sensor) uri() string { return resource.SensorsURI + "/" + x.id }

// newSensors gives each sensor its Id: of the name what may stand in a URI
// (DSP0266, URIs: no character that has to be encoded), and a number where two
// would be the same.
func newSensors(list []*host.Sensor) []sensor {
	var all []sensor
	taken := map[string]bool{}
	for _, x := range list {
		name := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
				return r
			}
			return '_'
		}, x.Name())
		id := name
		for i := 2; taken[id]; i++ {
			id = fmt.Sprintf("%s_%d", name, i)
		}
		taken[id] = true
		all = append(all, sensor{x, id})
	}
	return all
}

// SensorURI is where the sensor of that name is shown; "" is nowhere.
func (c *Chassis) SensorURI(name string) string {
	for _, x := range c.sensors {
		if x.Name() == name {
			return x.uri()
		}
	}
	return ""
}

// which are the sensors of a quantity and, unless it is "", of a place.
func (c *Chassis) which(q host.Quantity, p host.Place) []sensor {
	var all []sensor
	for _, x := range c.sensors {
		if x.Quantity() == q && (p == "" || x.Place() == p) {
			all = append(all, x)
		}
	}
	return all
}

// find finds one of some sensors by the request's path.
func find(q *resource.Request, schema string, among []sensor) (sensor, *resource.Reply) {
	id := q.PathValue("id")
	for _, x := range among {
		if x.id == id {
			return x, nil
		}
	}
	return sensor{}, resource.Fail(message.ResourceNotFound(schema, id))
}

// reading is what the sensor tells, without digits that no gauge means; nil
// (null) where it tells nothing now.
func (x sensor) reading() *float64 {
	now := x.Reading()
	if !now.Valid {
		return nil
	}
	return new(round(now.Value))
}

func round(v float64) float64 { return math.Round(v*1000) / 1000 }

// status is the sensor's: one that tells nothing cannot be judged.
func (x sensor) status() resource.Status {
	now := x.Reading()
	if !now.Valid {
		return resource.Status{State: new("UnavailableOffline")}
	}
	return resource.Status{State: new("Enabled"), Health: health(now.Crossed)}
}

// health is Resource.Health of limits that are crossed.
func health(crossed host.Limit) string {
	switch {
	case crossed&^(host.LowerCaution|host.UpperCaution) != 0:
		return message.Critical
	case crossed != 0:
		return message.Warning
	}
	return message.OK
}

// physicalContext is PhysicalContext of a place.
func physicalContext(p host.Place) string {
	switch p {
	case host.PlaceBoard:
		return "Manager"
	case host.PlaceInlet:
		return "Intake"
	case host.PlaceExhaust:
		return "Exhaust"
	case host.PlaceCPU:
		return "CPU"
	case host.PlacePSU:
		return "PowerSupply"
	case host.PlaceFan:
		return "Fan"
	}
	return "Chassis"
}

// kind is Sensor.ReadingType of a quantity, and its unit in UCUM's letters.
func kind(q host.Quantity) (readingType, unit string) {
	switch q {
	case host.Temperature:
		return "Temperature", "Cel"
	case host.Voltage:
		return "Voltage", "V"
	case host.Current:
		return "Current", "A"
	case host.FanSpeed:
		return "Rotational", "{rev}/min"
	case host.Wattage:
		return "Power", "W"
	case host.Humidity:
		return "Humidity", "%"
	}
	return "", ""
}

type sensorResource struct {
	resource.OData
	ReadingType     string          `json:"ReadingType,omitempty"`
	ReadingUnits    string          `json:"ReadingUnits,omitempty"`
	Reading         *float64        `json:"Reading"`
	ReadingTime     string          `json:"ReadingTime,omitempty"`
	ReadingRangeMin float64         `json:"ReadingRangeMin"`
	ReadingRangeMax float64         `json:"ReadingRangeMax"`
	PhysicalContext string          `json:"PhysicalContext"`
	Thresholds      thresholds      `json:"Thresholds"`
	Status          resource.Status `json:"Status"`
}

// Settled implements resource.Settled: a reading is never the same.
func (r sensorResource) Settled() resource.Typed {
	r.Reading, r.ReadingTime = nil, ""
	return r
}

type thresholds struct {
	LowerFatal    *threshold `json:"LowerFatal,omitempty"`
	LowerCritical *threshold `json:"LowerCritical,omitempty"`
	LowerCaution  *threshold `json:"LowerCaution,omitempty"`
	UpperCaution  *threshold `json:"UpperCaution,omitempty"`
	UpperCritical *threshold `json:"UpperCritical,omitempty"`
	UpperFatal    *threshold `json:"UpperFatal,omitempty"`
}

type threshold struct {
	Reading    float64 `json:"Reading"`
	Activation string  `json:"Activation"`
	// HysteresisReading is the way back: below an upper threshold it is negative.
	HysteresisReading float64 `json:"HysteresisReading,omitempty"`
}

// The words of Threshold.Activation.
const (
	increasing = "Increasing"
	decreasing = "Decreasing"
)

func newThresholds(l host.Limits) thresholds {
	lower := func(at *float64) *threshold {
		if at == nil {
			return nil
		}
		return &threshold{*at, decreasing, l.Hysteresis}
	}
	upper := func(at *float64) *threshold {
		if at == nil {
			return nil
		}
		return &threshold{*at, increasing, -l.Hysteresis}
	}
	return thresholds{lower(l.LowerFatal), lower(l.LowerCritical), lower(l.LowerCaution),
		upper(l.UpperCaution), upper(l.UpperCritical), upper(l.UpperFatal)}
}

func (c *Chassis) getSensors(*resource.Request) *resource.Reply {
	var uris []string
	for _, x := range c.sensors {
		uris = append(uris, x.uri())
	}
	return resource.OK(resource.NewCollection(resource.SensorsURI, "SensorCollection", "Sensor Collection", uris...))
}

func (c *Chassis) getSensor(q *resource.Request) *resource.Reply {
	x, problem := find(q, "Sensor", c.sensors)
	if problem != nil {
		return problem
	}
	now := x.Reading()
	r := sensorResource{
		OData:           resource.NewOData(x.uri(), sensorType, x.Name()),
		Reading:         x.reading(),
		PhysicalContext: physicalContext(x.Place()),
		Thresholds:      newThresholds(x.Limits()),
		Status:          x.status(),
	}
	r.ReadingType, r.ReadingUnits = kind(x.Quantity())
	r.ReadingRangeMin, r.ReadingRangeMax = x.Range()
	if !now.At.IsZero() {
		r.ReadingTime = now.At.UTC().Format(time.RFC3339)
	}
	return resource.OK(r)
}

func (c *Chassis) patchSensor(q *resource.Request) *resource.Reply {
	x, problem := find(q, "Sensor", c.sensors)
	if problem != nil {
		return problem
	}
	return resource.Patch(q, c.getSensor, c.writeThresholds(x, q.Origin()))
}

const thresholdsName = "Thresholds"

// writeThresholds is the property Thresholds. They are set together, as one
// bounds another. A threshold of null, or with a Reading of null, is removed.
func (c *Chassis) writeThresholds(x sensor, from host.Origin) resource.Property {
	limits := x.Limits() // its pointers are replaced, and what they lead to is left alone
	shown := newThresholds(limits)
	lowest, highest := x.Range()
	one := func(name, activation string, at **float64, now *threshold) resource.Property {
		remove := func() []message.Message {
			*at = nil
			return nil
		}
		reading := resource.Number("Reading", func(v float64) []message.Message {
			if v < lowest || v > highest {
				return []message.Message{message.PropertyValueOutOfRange(v, "Reading")}
			}
			*at = &v
			return nil
		}, remove)
		// The direction is part of the threshold's name; a client may say it too.
		direction := resource.Enum("Activation", []string{activation}, func(string) []message.Message { return nil })
		if now == nil {
			now = &threshold{}
		}
		return resource.Nullable(resource.Group(name, now, reading, direction), remove)
	}
	writable := []resource.Property{
		one("LowerFatal", decreasing, &limits.LowerFatal, shown.LowerFatal),
		one("LowerCritical", decreasing, &limits.LowerCritical, shown.LowerCritical),
		one("LowerCaution", decreasing, &limits.LowerCaution, shown.LowerCaution),
		one("UpperCaution", increasing, &limits.UpperCaution, shown.UpperCaution),
		one("UpperCritical", increasing, &limits.UpperCritical, shown.UpperCritical),
		one("UpperFatal", increasing, &limits.UpperFatal, shown.UpperFatal),
	}
	return resource.Whole(thresholdsName, shown, writable, func() []message.Message {
		err := x.SetLimits(limits, from)
		if errors.Is(err, host.ErrInvalid) {
			return []message.Message{crossing(limits)}
		}
		if err != nil {
			return []message.Message{c.failed(thresholdsName, err)}
		}
		return nil
	})
}

// crossing says which lower threshold is not below which upper one.
func crossing(l host.Limits) message.Message {
	type limit struct {
		name string
		at   *float64
	}
	for _, low := range []limit{{"LowerCaution", l.LowerCaution}, {"LowerCritical", l.LowerCritical}, {"LowerFatal", l.LowerFatal}} {
		for _, high := range []limit{{"UpperCaution", l.UpperCaution}, {"UpperCritical", l.UpperCritical}, {"UpperFatal", l.UpperFatal}} {
			if low.at != nil && high.at != nil && *low.at >= *high.at {
				return message.PropertyValueConflict(low.name, high.name).
					About(message.Pointer(thresholdsName, low.name, "Reading"), message.Pointer(thresholdsName, high.name, "Reading"))
			}
		}
	}
	return message.PropertyValueError(thresholdsName)
}

// An excerpt is what other resources show of a sensor (schema Sensor, the
// properties that are marked so).
type excerpt struct {
	// DataSourceURI is empty where the value is not that of one sensor.
	DataSourceURI string   `json:"DataSourceUri,omitempty"`
	Reading       *float64 `json:"Reading"`
}

// first is what the first of some sensors tells; nil where there is none.
func first(all []sensor) *excerpt {
	if len(all) == 0 {
		return nil
	}
	return &excerpt{all[0].uri(), all[0].reading()}
}

// settled is e without its reading.
func (e *excerpt) settled() *excerpt {
	if e == nil {
		return nil
	}
	return &excerpt{DataSourceURI: e.DataSourceURI}
}
