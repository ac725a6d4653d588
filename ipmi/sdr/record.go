package sdr

import (
	"strings"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Record types (chapter 43).
const (
	typeFull      = 0x01
	typeCompact   = 0x02
	typeEventOnly = 0x03
	typeFRU       = 0x11
	typeMC        = 0x12
)

const (
	sdrVersion = 0x51
	headerLen  = 5
	maxName    = 16
	maxRecord  = 64 // a full sensor record with the longest name
)

// Where a full sensor record holds what changes, from 0 on (table 43-1).
const (
	atReadable   = 18
	atThresholds = 36 // the upper ones from fatal to caution, then the lower ones
	atHysteresis = 42 // positive-going, then negative-going
)

// Entity IDs (table 43-13).
const (
	entityProcessor   = 0x03
	entityManagement  = 0x06 // system management module
	entitySystemBoard = 0x07
	entityPowerSupply = 0x0A
	entityChassis     = 0x17
	entityFan         = 0x1D
	entityAirInlet    = 0x37
)

// entityOf is the entity for a gauge's place. No ID stands for the air that
// goes out: it is the chassis'.
func entityOf(p host.Place) uint8 {
	switch p {
	case host.PlaceBoard:
		return entityManagement
	case host.PlaceInlet:
		return entityAirInlet
	case host.PlaceExhaust:
		return entityChassis
	case host.PlaceCPU:
		return entityProcessor
	case host.PlacePSU:
		return entityPowerSupply
	case host.PlaceFan:
		return entityFan
	}
	return entitySystemBoard
}

// kindOf is the sensor type (table 42-3) and the base unit (table 43-15) for
// what a gauge measures; percent says that the unit is a percentage.
func kindOf(q host.Quantity) (sensorType, unit uint8, percent bool) {
	switch q {
	case host.Temperature:
		return 0x01, 1, false // degrees C
	case host.Voltage:
		return 0x02, 4, false
	case host.Current:
		return 0x03, 5, false
	case host.FanSpeed:
		return 0x04, 18, false // RPM
	case host.Wattage:
		return 0x0B, 6, false // other units-based sensor
	case host.Humidity:
		return 0x0B, 0, true
	}
	return 0x0B, 0, false
}

// Sensor capabilities (table 43-1, byte 12): all re-arm themselves, and each
// event can be enabled by itself.
const (
	capAutoRearm  = 0x40
	capHysteresis = 0x20 // readable and settable
	capThresholds = 0x08 // likewise
)

// Sensor initialization (table 43-1, byte 11): all that can be set is
// initialized, and scanning and events are on after a start.
const (
	initGauge    = 0x7F
	initDiscrete = 0x67
)

// fullRecord is table 43-1. What the owner can change is filled in when the
// record is read.
func fullRecord(x *sensor) []byte {
	q := x.gauge.Quantity()
	sensorType, unit, percent := kindOf(q)
	const analog = 0x80 // two's complement
	var units uint8
	if x.factors.Signed {
		units |= analog
	}
	if percent {
		units |= 0x01
	}
	lowest, highest := x.gauge.Range()
	const allLimits = 0x3F
	// Bits 14 to 12 say that the comparison with the limits is told.
	const told = 0x7000
	b := []byte{0, 0, sdrVersion, typeFull, 0,
		command.BMCAddr, 0, x.number, x.entity, x.instance, initGauge, capAutoRearm | capHysteresis | capThresholds,
		sensorType, Threshold}
	b = append16(b, x.asserts|told)
	b = append16(b, x.deasserts|told)
	b = append(b, 0, allLimits, units, unit, 0, 0) // linear
	factors := x.factors.put()
	b = append(b, factors[:]...)
	b = append(b, 0, 0, 0, 0, x.factors.Raw(highest), x.factors.Raw(lowest)) // no nominal value, no normal range
	b = append(b, make([]byte, 6)...)                                        // the limits
	b = append(b, 0, 0, 0, 0, 0)                                             // hysteresis, reserved, OEM
	return finish(b, x.name)
}

// compactRecord is table 43-2.
func compactRecord(x *sensor) []byte {
	b := []byte{0, 0, sdrVersion, typeCompact, 0,
		command.BMCAddr, 0, x.number, x.entity, x.instance, initDiscrete, capAutoRearm, x.sensorType, x.eventType}
	b = append16(b, x.asserts)
	b = append16(b, x.deasserts)
	b = append16(b, x.states)
	const noReading, one = 0xC0, 1
	b = append(b, noReading, 0, 0, one, 0, 0, 0, 0, 0, 0, 0)
	return finish(b, x.name)
}

// eventOnlyRecord is table 43-3.
func eventOnlyRecord(x *sensor) []byte {
	const one = 1
	b := []byte{0, 0, sdrVersion, typeEventOnly, 0,
		command.BMCAddr, 0, x.number, x.entity, x.instance, x.sensorType, x.eventType, one, 0, 0, 0}
	return finish(b, x.name)
}

// fruRecord is table 43-7: the inventory of the system, FRU device 0 of the
// BMC.
func fruRecord(name string) []byte {
	const logical, inventory, unspecified = 0x80, 0x10, 0x00
	return finish([]byte{0, 0, sdrVersion, typeFRU, 0,
		command.BMCAddr, 0, logical, 0, 0, inventory, unspecified, entitySystemBoard, 1, 0}, name)
}

// mcRecord is table 43-8: the BMC itself.
func mcRecord(name string, capabilities uint8) []byte {
	return finish([]byte{0, 0, sdrVersion, typeMC, 0,
		command.BMCAddr, 0, 0, capabilities, 0, 0, 0, entityManagement, 1, 0}, name)
}

// finish adds the name, and sets the length.
func finish(b []byte, name string) []byte {
	if len(name) > maxName {
		name = strings.TrimRight(name[:maxName], " ")
	}
	if len(name) == 1 {
		name += " " // text of one byte is no text (section 43.15)
	}
	const latin1 = 0xC0
	b = append(b, latin1|byte(len(name)))
	b = append(b, name...)
	b[4] = byte(len(b) - headerLen)
	return b
}

func append16(b []byte, v uint16) []byte { return append(b, byte(v), byte(v>>8)) }
