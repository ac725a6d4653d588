package pef

import (
	"encoding/binary"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/sdr"
	"github.com/nitrino/nitrino/ipmi/sel"
)

// An action is a set of what a filter does (chapter 17): the bits of a filter's
// action, of the capabilities and of the global control.
type action byte

const (
	actionAlert     action = 0x01
	actionPowerOff  action = 0x02
	actionReset     action = 0x04
	actionCycle     action = 0x08
	actionInterrupt action = 0x20
)

// powerActions are the actions on the host in the order of their priority (chapter
// 17): only the first of those that come together is done.
var powerActions = [...]struct {
	bit action
	do  host.Action
}{
	{actionPowerOff, host.ForceOff},
	{actionCycle, host.Cycle},
	{actionReset, host.Reset},
	{actionInterrupt, host.NMI},
}

const (
	filterLen = 20
	enabled   = 0x80 // of a filter
	typeBits  = 0x60
	factory   = 0x40 // its type: configured by the manufacturer
	matchAny  = 0xFF // in the bytes that are compared as a whole
)

// A filter is an entry of the event filter table (table 17-2), as it is written
// and read.
type filter [filterLen]byte

func (f *filter) enabled() bool     { return f[0]&enabled != 0 }
func (f *filter) actions() action   { return action(f[1]) }
func (f *filter) policy() byte      { return f[2] & 0x0F }
func (f *filter) severity() byte    { return f[3] }
func (f *filter) offsets() uint16   { return binary.LittleEndian.Uint16(f[9:]) }
func (f *filter) data(i int) []byte { return f[11+3*i : 14+3*i] } // mask, compare 1, compare 2

// valid says whether a filter can be in the table. Its actions have to be ones
// that the board can do.
func (f *filter) valid(can action) bool {
	switch f[3] {
	case 0, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20:
	default:
		return false // a severity is one bit
	}
	kind := f[0] & typeBits
	return f[0]&^(enabled|typeBits) == 0 && (kind == 0 || kind == factory) && f.actions()&^can == 0 && f[2]&0x80 == 0
}

// matches compares an event with the filter (chapter 17). Only records of type
// 02h are events.
func (f *filter) matches(r *[sel.RecordLen]byte) bool {
	if r[2] != recordEvent {
		return false
	}
	// Generator, sensor type, sensor number, and the event's direction and
	// type, which is compared as one byte: 01h is an assertion, 81h the
	// deassertion.
	for i, b := range [...]byte{r[7], r[8], r[10], r[11], r[12]} {
		if want := f[4+i]; want != matchAny && want != b {
			return false
		}
	}
	if f.offsets()>>(r[13]&0x0F)&1 == 0 {
		return false
	}
	for i := range 3 {
		if !matchData(r[13+i], f.data(i)) {
			return false
		}
	}
	return true
}

// matchData compares a byte of event data (chapter 17). Bits outside the mask
// are not compared. Those with a one in compare 1 have to be as in compare 2; of
// the others one that is as in compare 2 is enough.
func matchData(b byte, f []byte) bool {
	mask, exact, want := f[0], f[1], f[2]
	differs := (b ^ want) & mask
	if differs&exact != 0 {
		return false
	}
	loose := mask &^ exact
	return loose == 0 || differs&loose != loose
}

const recordEvent = 0x02 // table 32-1

// Sensor types (table 42-3) and severities (table 17-2) of the factory's filters.
const (
	sensorTemperature = 0x01
	sensorVoltage     = 0x02
	sensorCurrent     = 0x03
	sensorFan         = 0x04
	sensorPowerSupply = 0x08
	sensorPowerUnit   = 0x09
	sensorOther       = 0x0B
	sensorBoot        = 0x1D
	sensorACPI        = 0x22
	sensorWatchdog2   = 0x23
	sensorHealth      = 0x28

	severityInformation = 0x02
	severityWarning     = 0x08
	severityCritical    = 0x10
)

// factoryFilters are the entries that a board begins with: alerts for what goes
// wrong with servers, all of them off. The rest of the table is empty.
func factoryFilters() (list [filters]filter) {
	const (
		// Offsets of threshold events (table 42-2): the lower critical and
		// non-recoverable ones going low, the upper ones going high.
		critical = 1<<2 | 1<<4 | 1<<9 | 1<<11
		warning  = 1<<0 | 1<<7 // the non-critical ones
		all      = 0xFFFF
	)
	for i, e := range [...]struct {
		severity, sensorType, number, event byte
		offsets                             uint16
	}{
		{severityCritical, sensorTemperature, matchAny, sdr.Threshold, critical},
		{severityWarning, sensorTemperature, matchAny, sdr.Threshold, warning},
		{severityCritical, sensorVoltage, matchAny, sdr.Threshold, critical},
		{severityCritical, sensorCurrent, matchAny, sdr.Threshold, critical},
		{severityCritical, sensorFan, matchAny, sdr.Threshold, critical},
		{severityCritical, sensorOther, matchAny, sdr.Threshold, critical},
		{severityCritical, sensorPowerSupply, matchAny, sdr.SensorSpecific, 1<<1 | 1<<2 | 1<<3},          // failure, predicted, no input
		{severityCritical, sensorPowerUnit, sdr.NumberAC, sdr.SensorSpecific, 1<<0 | 1<<4 | 1<<5 | 1<<6}, // off by itself, AC lost, failures
		{severityCritical, sensorWatchdog2, sdr.NumberWatchdog, sdr.SensorSpecific, 0x0F},                // expired, reset, off, cycle
		{severityInformation, sensorACPI, sdr.NumberPower, sdr.SensorSpecific, all},
		{severityWarning, sensorOther, sdr.NumberPowerLimit, sdr.LimitExceeded, 1 << 1},
		{severityWarning, sensorHealth, matchAny, sdr.SensorSpecific, all},
	} {
		f := &list[i]
		*f = filter{factory, byte(actionAlert), factoryPolicy, e.severity, matchAny, matchAny, e.sensorType, e.number, e.event}
		binary.LittleEndian.PutUint16(f[9:], e.offsets)
	}
	return list
}
