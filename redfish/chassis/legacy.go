package chassis

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// This file shows the sensors as older clients look for them: Thermal and
// Power, which ThermalSubsystem, PowerSubsystem and Sensor took the place of.

const (
	thermalURI = resource.ChassisURI + "/Thermal"
	powerURI   = resource.ChassisURI + "/Power"

	thermalType = "Thermal.v1_7_3.Thermal"
	powerType   = "Power.v1_7_3.Power"
)

// A member is what every entry of their arrays begins with.
type member struct {
	ODataID  string          `json:"@odata.id"`
	MemberID string          `json:"MemberId"`
	Name     string          `json:"Name"`
	Context  string          `json:"PhysicalContext,omitempty"`
	Status   resource.Status `json:"Status"`
}

func newMember(uri, array string, index int, x sensor) member {
	return member{fmt.Sprintf("%s#/%s/%d", uri, array, index), fmt.Sprint(index), x.Name(), physicalContext(x.Place()), x.status()}
}

// oldLimits are the thresholds; those of fans are whole numbers.
type oldLimits[N int | float64] struct {
	LowerFatal    *N `json:"LowerThresholdFatal,omitempty"`
	LowerCritical *N `json:"LowerThresholdCritical,omitempty"`
	LowerCaution  *N `json:"LowerThresholdNonCritical,omitempty"`
	UpperCaution  *N `json:"UpperThresholdNonCritical,omitempty"`
	UpperCritical *N `json:"UpperThresholdCritical,omitempty"`
	UpperFatal    *N `json:"UpperThresholdFatal,omitempty"`
}

func newOldLimits[N int | float64](l host.Limits) oldLimits[N] {
	return oldLimits[N]{number[N](l.LowerFatal), number[N](l.LowerCritical), number[N](l.LowerCaution),
		number[N](l.UpperCaution), number[N](l.UpperCritical), number[N](l.UpperFatal)}
}

// number is v as an N; nil stays nil.
func number[N int | float64](v *float64) *N {
	if v == nil {
		return nil
	}
	n := N(*v)
	if float64(n) != *v { // N is int
		n = N(math.Round(*v))
	}
	return &n
}

type thermal struct {
	resource.OData
	Temperatures []temperature   `json:"Temperatures"`
	Fans         []oldFan        `json:"Fans"`
	Status       resource.Status `json:"Status"`
}

type temperature struct {
	member
	ReadingCelsius *float64 `json:"ReadingCelsius"`
	Min            float64  `json:"MinReadingRangeTemp"`
	Max            float64  `json:"MaxReadingRangeTemp"`
	oldLimits[float64]
}

type oldFan struct {
	member
	Reading      *int   `json:"Reading"`
	ReadingUnits string `json:"ReadingUnits"`
	Min          int    `json:"MinReadingRange"`
	Max          int    `json:"MaxReadingRange"`
	oldLimits[int]
}

func (c *Chassis) getThermal(*resource.Request) *resource.Reply {
	r := thermal{
		OData:        resource.NewOData(thermalURI, thermalType, "Thermal"),
		Temperatures: []temperature{},
		Fans:         []oldFan{},
		Status: c.rollup(func(x sensor) bool {
			return x.Quantity() == host.Temperature || x.Quantity() == host.FanSpeed
		}),
	}
	for i, x := range c.which(host.Temperature, "") {
		low, high := x.Range()
		r.Temperatures = append(r.Temperatures, temperature{newMember(thermalURI, "Temperatures", i, x), x.reading(), low, high, newOldLimits[float64](x.Limits())})
	}
	for i, x := range c.which(host.FanSpeed, "") {
		low, high := x.Range()
		r.Fans = append(r.Fans, oldFan{newMember(thermalURI, "Fans", i, x), number[int](x.reading()), "RPM",
			int(math.Round(low)), int(math.Round(high)), newOldLimits[int](x.Limits())})
	}
	return resource.OK(r)
}

type power struct {
	resource.OData
	PowerControl  []powerControl `json:"PowerControl"`
	Voltages      []voltage      `json:"Voltages"`
	PowerSupplies []oldSupply    `json:"PowerSupplies"`
}

type powerControl struct {
	member
	Watts   *float64      `json:"PowerConsumedWatts"`
	Metrics *powerMetrics `json:"PowerMetrics,omitempty"`
	Limit   oldLimit      `json:"PowerLimit"`
}

type powerMetrics struct {
	Minutes int     `json:"IntervalInMin"`
	Min     float64 `json:"MinConsumedWatts"`
	Max     float64 `json:"MaxConsumedWatts"`
	Average float64 `json:"AverageConsumedWatts"`
}

type oldLimit struct {
	Watts      *int     `json:"LimitInWatts"` // null: not limited
	Exception  string   `json:"LimitException"`
	Exceptions []string `json:"LimitException@Redfish.AllowableValues"`
	Correction int64    `json:"CorrectionInMs"`
}

type voltage struct {
	member
	ReadingVolts *float64 `json:"ReadingVolts"`
	Min          float64  `json:"MinReadingRange"`
	Max          float64  `json:"MaxReadingRange"`
	oldLimits[float64]
}

type oldSupply struct {
	member
	PowerInputWatts *float64 `json:"PowerInputWatts"`
}

// Settled implements resource.Settled: the limit can be written, and what is
// measured changes all the time.
func (r power) Settled() resource.Typed {
	if len(r.PowerControl) > 0 {
		r.PowerControl = []powerControl{{Limit: r.PowerControl[0].Limit}}
	}
	r.Voltages, r.PowerSupplies = nil, nil
	return r
}

const (
	powerControlName = "PowerControl"
	oldLimitName     = "PowerLimit"
	oldWattsName     = "LimitInWatts"
	exceptionName    = "LimitException"
	correctionName   = "CorrectionInMs"

	// The words of LimitException.
	hardPowerOff = "HardPowerOff"
	logEventOnly = "LogEventOnly"
)

func (c *Chassis) getPower(*resource.Request) *resource.Reply {
	r := power{
		OData:         resource.NewOData(powerURI, powerType, "Power"),
		PowerControl:  []powerControl{},
		Voltages:      []voltage{},
		PowerSupplies: []oldSupply{},
	}
	if m := c.Host.Meter; m != nil {
		p := powerControl{
			member: member{powerURI + "#/" + powerControlName + "/0", "0", "Host Power", "Chassis", resource.Enabled()},
			Watts:  c.watts().Reading,
			Limit:  c.oldLimit(),
		}
		if now := m.Status(); !now.Since.IsZero() {
			// The schema counts whole minutes, and the first is one, too.
			p.Metrics = &powerMetrics{max(1, int(time.Since(now.Since)/time.Minute)), round(now.Min), round(now.Max), round(now.Average)}
		}
		r.PowerControl = append(r.PowerControl, p)
	}
	for i, x := range c.which(host.Voltage, "") {
		low, high := x.Range()
		r.Voltages = append(r.Voltages, voltage{newMember(powerURI, "Voltages", i, x), x.reading(), low, high, newOldLimits[float64](x.Limits())})
	}
	for i, x := range c.supplies() {
		m := newMember(powerURI, "PowerSupplies", i, x)
		m.Context = "" // the schema has none here
		r.PowerSupplies = append(r.PowerSupplies, oldSupply{m, x.reading()})
	}
	return resource.OK(r)
}

func (c *Chassis) oldLimit() oldLimit {
	l := c.Host.Meter.Limit()
	r := oldLimit{Exception: logEventOnly, Exceptions: []string{logEventOnly}, Correction: l.Correction.Milliseconds()}
	if c.Host.Power.Supports(host.ForceOff) {
		r.Exceptions = append(r.Exceptions, hardPowerOff)
	}
	if l.Action == host.LimitOff {
		r.Exception = hardPowerOff
	}
	if l.Active {
		r.Watts = &l.Watts
	}
	return r
}

func (c *Chassis) patchPower(q *resource.Request) *resource.Reply {
	return resource.Patch(q, c.getPower, resource.Property{Name: powerControlName, Set: func(value any) (bool, []message.Message) {
		list, isList := value.([]any)
		if !isList {
			return false, []message.Message{message.PropertyValueTypeError(value, powerControlName).About(message.Pointer(powerControlName))}
		}
		if len(list) != 1 {
			return false, []message.Message{message.ArraySizeTooLong(powerControlName, 1).About(message.Pointer(powerControlName))}
		}
		// The element as an object of that name: its pointers are the array's.
		shown := powerControl{Limit: c.oldLimit()}
		done, problems := resource.Group("0", shown, c.writeOldLimit(q.Origin())).Set(list[0])
		for i, p := range problems {
			problems[i] = p.About(resource.Within(powerControlName, p.RelatedProperties)...)
		}
		return done, problems
	}})
}

// writeOldLimit is the property PowerLimit. To limit it takes LimitInWatts, and
// null there ends it.
func (c *Chassis) writeOldLimit(from host.Origin) resource.Property {
	l, shown := c.Host.Meter.Limit(), c.oldLimit()
	writable := []resource.Property{
		resource.Nullable(resource.Integer(oldWattsName, 1, maxWatts, func(watts int64) []message.Message {
			l.Active, l.Watts = true, int(watts)
			return nil
		}), func() []message.Message {
			l.Active = false
			return nil
		}),
		resource.Enum(exceptionName, shown.Exceptions, func(word string) []message.Message {
			l.Action = host.LimitLog
			if word == hardPowerOff {
				l.Action = host.LimitOff
			}
			return nil
		}),
		resource.Integer(correctionName, 0, maxCorrection*1000, func(ms int64) []message.Message {
			l.Correction = time.Duration(ms) * time.Millisecond
			return nil
		}),
	}
	return resource.Whole(oldLimitName, shown, writable, func() []message.Message {
		err := c.Host.Meter.SetLimit(l, from)
		if errors.Is(err, errors.ErrUnsupported) {
			// It was set so while there was a wire to switch off with.
			return []message.Message{message.PropertyValueNotInList(hardPowerOff, exceptionName).About(message.Pointer(oldLimitName, exceptionName))}
		}
		if err != nil {
			return []message.Message{c.failed(oldLimitName, err)}
		}
		return nil
	})
}
