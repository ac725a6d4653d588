package sel

import (
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sdr"
)

// Kinds of events that this package adds to the one log. Those with a record
// have it in Event.Data.
const (
	kindAdded      = "sel.added" // a console added a record
	kindEvent      = "sel.event" // a console sent an event message
	kindDeleted    = "sel.deleted"
	kindCleared    = "sel.cleared"
	kindLoggingOff = "sel.logging-off"
	kindLoggingOn  = "sel.logging-on"
)

// A Kind says what becomes of the events of a kind: a record of a sensor, with
// the sensor type, event type and offset of tables 42-1 to 42-3.
type Kind struct {
	Kind string
	// Number is 0 for kinds whose sensor the event names, and of records that
	// a console sent; Type and Event are 0 then too.
	Number      uint8
	Type, Event uint8
	Offset      uint8
	Deassert    bool
	// Text says what the record tells.
	Text string
}

// Kinds lists the kinds of events that become records; events of another kind
// are not in the SEL.
func Kinds() []Kind {
	const deassert = true
	list := []Kind{
		{Kind: "power.on", Number: sdr.NumberPower, Offset: 0x00, Text: "S0 / G0, working"},
		{Kind: "power.awake", Number: sdr.NumberPower, Offset: 0x00, Text: "S0 / G0, working"},
		{Kind: "power.asleep", Number: sdr.NumberPower, Offset: 0x03, Text: "S3, asleep"},
		{Kind: "power.off", Number: sdr.NumberPower, Offset: 0x06, Text: "S4 / S5, off"},
		{Kind: "power.restarted", Number: sdr.NumberBoot, Offset: 0x07, Text: "system restart, with its cause"},
		{Kind: "power.lost", Number: sdr.NumberAC, Offset: 0x00, Text: "power off: the power went by itself"},
		{Kind: "power.ac-lost", Number: sdr.NumberAC, Offset: 0x04, Text: "AC lost"},
		{Kind: "power.ac-restored", Number: sdr.NumberAC, Offset: 0x04, Deassert: deassert, Text: "AC lost: over"},
		{Kind: "power.failed", Number: sdr.NumberAC, Offset: 0x05, Text: "soft power control failure"},
		{Kind: "power.limit-failed", Number: sdr.NumberAC, Offset: 0x05, Text: "soft power control failure"},
		{Kind: "thermal.limit-failed", Number: sdr.NumberAC, Offset: 0x05, Text: "soft power control failure"},
		{Kind: "watchdog.failed", Number: sdr.NumberAC, Offset: 0x05, Text: "soft power control failure"},
		{Kind: "power.nmi", Number: sdr.NumberInterrupt, Offset: 0x00, Text: "NMI / diagnostic interrupt"},
		{Kind: "power.limit", Number: sdr.NumberPowerLimit, Offset: 0x01, Text: "limit exceeded"},
		{Kind: "power.limit-cleared", Number: sdr.NumberPowerLimit, Offset: 0x01, Deassert: deassert, Text: "limit exceeded: over"},
		{Kind: "panel.power-button", Number: sdr.NumberButton, Offset: 0x00, Text: "power button pressed"},
		{Kind: "panel.reset-button", Number: sdr.NumberButton, Offset: 0x02, Text: "reset button pressed"},
		{Kind: "watchdog.expired", Number: sdr.NumberWatchdog, Offset: 0x00, Text: "timer expired; offset 1 hard reset, 2 power down, 3 power cycle"},
		{Kind: "watchdog.pre-timeout", Number: sdr.NumberWatchdog, Offset: 0x08, Text: "timer interrupt"},
		{Kind: "sensor.limit", Text: "the sensor's event type 01h, with reading and limit"},
		{Kind: "thermal.limit", Text: "the same, upper critical, with DCMI's thermal limit"},
		{Kind: "thermal.limit-cleared", Text: "the same, upper critical, with DCMI's thermal limit"},
		{Kind: "sensor.failed", Number: sdr.NumberHealth, Offset: 0x04, Text: "sensor failure, with its number"},
		{Kind: "sensor.restored", Number: sdr.NumberHealth, Offset: 0x04, Deassert: deassert, Text: "sensor failure: over"},
		{Kind: "auth.login", Number: sdr.NumberSession, Offset: 0x00, Text: "session activated, with the user's ID"},
		{Kind: "auth.failed", Number: sdr.NumberSession, Offset: 0x02, Text: "invalid user name or password"},
		{Kind: "auth.flood", Number: sdr.NumberSession, Offset: 0x02, Text: "invalid user name or password, many"},
		{Kind: "auth.locked", Number: sdr.NumberSession, Offset: 0x03, Text: "invalid password disable"},
		{Kind: kindCleared, Number: sdr.NumberLog, Offset: 0x02, Text: "log area reset / cleared"},
		{Kind: kindLoggingOff, Number: sdr.NumberLog, Offset: 0x03, Text: "all event logging disabled"},
		{Kind: kindLoggingOn, Number: sdr.NumberLog, Offset: 0x03, Deassert: deassert, Text: "all event logging disabled: over"},
		{Kind: kindAdded, Text: "the record as the console gave it"},
		{Kind: kindEvent, Text: "the event as the console sent it"},
	}
	for _, kind := range [...]string{
		"board.unknown", "boot.record", "card.damaged", "disk.down", "events.damaged", "events.lost", "gpio.missing", "iscsi.failed", "iscsi.panic", "key.damaged",
		"login.failed", "perm.damaged", "perm.failed", "perm.full", "perm.missing", "power.limit-record", "power.record",
		"process.exited", "process.failed", "sensor.record", "service.failing", "service.stuck", "settings.bad", "settings.not-applied",
		"slot.fallback", "slot.refused", "slot.unknown", "state.damaged", "volume.failed", "volume.unreachable", "volumes.failed", "watchdog.missing", "wire.failed",
	} {
		list = append(list, Kind{Kind: kind, Number: sdr.NumberHealth, Offset: 0x01, Text: "controller access degraded"})
	}
	for _, kind := range [...]string{
		"iscsi.restored", "perm.restored", "perm.space", "process.restarted", "service.running", "volume.reachable", "volumes.restored", "wire.restored",
	} {
		list = append(list, Kind{Kind: kind, Number: sdr.NumberHealth, Offset: 0x01, Deassert: deassert, Text: "controller access degraded: over"})
	}
	for i := range list {
		list[i].Type, list[i].Event = sdr.Type(list[i].Number)
	}
	return list
}

// Record types (section 32.1).
const (
	typeEvent         = 0x02
	typeOEM           = 0xC0 // up to DFh: with a timestamp
	typeOEMTimestamps = 0xE0 // up to FFh: without one
)

// evmRev is the event message format of IPMI 2.0 and 1.5.
const evmRev = 0x04

// Where a record of type 02h has what (table 32-1), from 0 on.
const (
	atType      = 2
	atTime      = 3
	atGenerator = 7
	atRevision  = 9
	atEvent     = 10 // sensor type, sensor number, direction and event type, three bytes of data
)

// Event data 1, the upper bits (table 29-6).
const (
	data2Reading   = 0x40 // event data 2 is the trigger's reading
	data3Threshold = 0x10 // event data 3 is the trigger's threshold
	data2Specific  = 0xC0 // event data 2 is what table 42-3 says
	data3Specific  = 0x30
	unspecified    = 0xFF
)

// A verdict is what becomes of an event.
type verdict uint8

const (
	unmapped verdict = iota // its kind is not in the SEL
	disabled                // its sensor's events, or all of them, are switched off
	recorded
)

// record makes an event's record but for its ID.
func (l *Log) record(e *host.Event) ([RecordLen]byte, verdict) {
	var r [RecordLen]byte
	k, ok := l.kinds[e.Kind]
	switch {
	case !ok:
		return r, unmapped
	case e.Kind == kindAdded || e.Kind == kindEvent:
		if copy(r[:], e.Data) != RecordLen {
			return r, unmapped
		}
		if e.Kind == kindEvent && l.state.Off {
			return r, disabled
		}
		if r[atType] < typeOEMTimestamps {
			l.stamp(&r, e)
		}
		return r, recorded
	}
	number, sensorType, eventType, offset, deassert := k.Number, k.Type, k.Event, k.Offset, k.Deassert
	data := [3]byte{0, unspecified, unspecified}
	switch e.Kind {
	case "sensor.limit", "thermal.limit", "thermal.limit-cleared":
		if e.Sensor == nil {
			return r, unmapped
		}
		g, ok := l.sensors.Gauge(e.Sensor.Name)
		if !ok {
			return r, unmapped // the board's sensors are others now
		}
		number, sensorType, eventType = g.Number, g.Type, sdr.Threshold
		offset, deassert = sdr.Offset(e.Sensor.Limit), !e.Sensor.Beyond
		data = [3]byte{data2Reading | data3Threshold, g.Factors.Raw(e.Sensor.Value), g.Factors.Raw(e.Sensor.At)}
	case "sensor.failed", "sensor.restored":
		if e.Sensor != nil {
			if g, ok := l.sensors.Gauge(e.Sensor.Name); ok {
				data[0], data[1] = data2Specific, g.Number
			}
		}
	case "watchdog.expired", "watchdog.pre-timeout":
		if w := e.Watchdog; w != nil {
			if !w.Pre {
				offset = sdr.WatchdogOffset(w.Action)
			}
			data[0], data[1] = data2Specific, watchdogData(w)
		}
	case "power.restarted":
		data[0], data[1] = data2Specific, restartCause(e.Origin)
		if e.Origin.Via == "ipmi" {
			data[0] |= data3Specific
			data[2] = command.ChannelLAN
		}
	case "auth.login":
		data[0], data[1] = data2Specific, l.userID(e.Origin.User)
		fallthrough
	case "auth.failed", "auth.locked":
		if e.Origin.Via == "ipmi" { // other front-ends have no channel
			data[0] |= data3Specific
			data[2] = command.ChannelLAN
		}
	}
	if l.state.Off && e.Kind != kindLoggingOff || !l.sensors.Enabled(number, offset, deassert) {
		return r, disabled
	}
	const assertion, deassertion = 0x00, 0x80
	direction := uint8(assertion)
	if deassert {
		direction = deassertion
	}
	r[atType] = typeEvent
	l.stamp(&r, e)
	r[atGenerator], r[atRevision] = command.BMCAddr, evmRev
	copy(r[atEvent:], []byte{sensorType, number, direction | eventType, data[0] | offset, data[1], data[2]})
	return r, recorded
}

// stamp sets a record's time.
func (l *Log) stamp(r *[RecordLen]byte, e *host.Event) {
	t := l.clock.Time(e.Time)
	r[atTime], r[atTime+1], r[atTime+2], r[atTime+3] = byte(t), byte(t>>8), byte(t>>16), byte(t>>24)
}

// watchdogData is event data 2 of Watchdog 2: the interrupt that was sent and
// the timer's use.
func watchdogData(w *host.WatchdogChange) uint8 {
	const none, nmi = 0x00, 0x20
	interrupt := uint8(none)
	if w.Pre {
		interrupt = nmi
	}
	uses := [...]host.WatchdogUse{1: host.WatchdogBIOSFRB2, host.WatchdogBIOSPost, host.WatchdogOSLoad, host.WatchdogSMSOS, host.WatchdogOEM}
	for i, use := range uses {
		if use == w.Use && i > 0 {
			return interrupt | uint8(i)
		}
	}
	return interrupt | 0x0F // unspecified
}

// restartCause is event data 2 of System Restart, as Get System Restart Cause
// has it (section 28.11): who restarted the host tells it.
func restartCause(from host.Origin) uint8 {
	switch {
	case from.User != "" || from.Via == "ipmi":
		return 0x01 // chassis control command
	case from.Via == "panel":
		return 0x02 // reset by push button
	case from.Via == "host":
		return 0x0A // soft reset
	case from.Via == "pef":
		return 0x08 // reset by the event filter
	case from == host.Origin{}:
		return 0x04 // watchdog timer: nothing else of the board's own resets it
	}
	return 0x00
}
