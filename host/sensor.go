package host

import (
	"context"
	"time"
)

// A Quantity is what a sensor measures.
type Quantity string

// The quantities and their units.
const (
	Temperature Quantity = "temperature" // °C
	Voltage     Quantity = "voltage"     // V
	Current     Quantity = "current"     // A
	FanSpeed    Quantity = "fan"         // revolutions per minute
	Wattage     Quantity = "power"       // W
	Humidity    Quantity = "humidity"    // % relative
)

// A Place says what a sensor is part of.
type Place string

// The places.
const (
	PlaceBoard   Place = "board"   // the board that runs nitrino
	PlaceSystem  Place = "system"  // the host as a whole
	PlaceInlet   Place = "inlet"   // the air that goes in
	PlaceExhaust Place = "exhaust" // the air that comes out
	PlaceCPU     Place = "cpu"
	PlacePSU     Place = "psu" // a power supply of the host
	PlaceFan     Place = "fan"
)

// A SensorPart is a sensor that a board has.
type SensorPart struct {
	// Name is unique: 1 to 16 characters of printable ASCII.
	Name     string
	Quantity Quantity
	Place    Place
	// Min and Max bound what it can tell.
	Min, Max float64
	// Limits are those where the owner set none.
	Limits Limits
	// HostPower: it means something only while the host is on.
	HostPower bool
	Gauge     Gauge
}

// A Gauge is the hardware of a sensor. Read may take its time; it ends soon
// after ctx. An error means that there is no reading now.
type Gauge interface {
	Read(ctx context.Context) (float64, error)
}

// Limits are a sensor's thresholds in its unit, nil where there is none. Every
// lower one is below every upper one; those that a board has are in order, from
// caution to fatal.
type Limits struct {
	LowerCaution  *float64 `json:"lower_caution,omitempty"`
	LowerCritical *float64 `json:"lower_critical,omitempty"`
	LowerFatal    *float64 `json:"lower_fatal,omitempty"`
	UpperCaution  *float64 `json:"upper_caution,omitempty"`
	UpperCritical *float64 `json:"upper_critical,omitempty"`
	UpperFatal    *float64 `json:"upper_fatal,omitempty"`
	// Hysteresis is how far a reading has to come back over a limit before it
	// counts as back.
	Hysteresis float64 `json:"hysteresis,omitempty"`
}

// A Limit names one of Limits.
type Limit uint8

// The limits, as bits of a set.
const (
	LowerCaution Limit = 1 << iota
	LowerCritical
	LowerFatal
	UpperCaution
	UpperCritical
	UpperFatal
)

// A Reading is what a sensor last told.
type Reading struct {
	Value float64
	// At is when it was read; zero: it was never.
	At time.Time
	// Valid: Value is of now. Else the gauge fails, or the sensor means nothing
	// while the host is off.
	Valid bool
	// Crossed are the limits that the value is beyond.
	Crossed Limit
}

// A SensorChange says, in an Event of kind "sensor.limit" or "thermal.limit",
// which limit was crossed, and how.
type SensorChange struct {
	Name  string `json:"name"`
	Limit Limit  `json:"limit"`
	// Beyond: the value went beyond the limit; else it came back.
	Beyond bool `json:"beyond,omitempty"`
	// Value is the reading and At the limit, in the sensor's unit.
	Value float64 `json:"value"`
	At    float64 `json:"at"`
}
