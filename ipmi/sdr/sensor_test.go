package sdr

import (
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

func TestReading(t *testing.T) {
	r := newRig(t)
	r.wants(r.sensor(command.OK, 0x2D, 1), "00 e0 c0")
	r.gauges[0].reading = host.Reading{Value: 25, Valid: true}
	r.wants(r.sensor(command.OK, 0x2D, 1), "19 c0 c0")
	r.gauges[0].reading = host.Reading{Value: 95, Valid: true, Crossed: host.UpperCaution | host.UpperCritical}
	r.wants(r.sensor(command.OK, 0x2D, 1), "5f c0 d8")
	r.wants(r.sensor(command.OK, 0x2B, 1), "c0 80 02 00 00")
	r.gauges[0].reading = host.Reading{Value: 95, Crossed: host.UpperCaution}
	r.wants(r.sensor(command.OK, 0x2D, 1), "00 e0 c0")
	r.wants(r.sensor(command.OK, 0x2B, 1), "e0 00 00 00 00")
	r.sensor(command.Illegal, 0x2D, NumberBoot)
	r.sensor(command.Illegal, 0x2B, NumberBoot)
	r.sensor(command.NotPresent, 0x2D, 4)
	r.sensor(command.BadLength, 0x2D)
	r.sensor(command.BadLength, 0x2D, 1, 2)
}

func TestStates(t *testing.T) {
	for _, tt := range []struct {
		name     string
		status   host.PowerStatus
		acpi, ac string
	}{
		{"on", host.PowerStatus{State: host.StateOn, PowerGood: true, StandbyWired: true, Standby: true}, "00 c0 01 80", "00 c0 00 80"},
		{"off", host.PowerStatus{State: host.StateOff, StandbyWired: true, Standby: true}, "00 c0 40 80", "00 c0 00 80"},
		{"asleep", host.PowerStatus{State: host.StateAsleep, PowerGood: true}, "00 c0 08 80", "00 c0 00 80"},
		{"without AC", host.PowerStatus{State: host.StateOff, StandbyWired: true}, "00 c0 80 80", "00 c0 10 80"},
		{"not obeying", host.PowerStatus{State: host.StateOn, PowerGood: true, Fault: true}, "00 c0 01 80", "00 c0 20 80"},
		{"unknown", host.PowerStatus{State: host.StateUnknown}, "00 e0 00 80", "00 c0 00 80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.host.status = tt.status
			r.t = t
			r.wants(r.sensor(command.OK, 0x2D, NumberPower), tt.acpi)
			r.wants(r.sensor(command.OK, 0x2D, NumberAC), tt.ac)
		})
	}
	r := newRig(t)
	r.wants(r.sensor(command.OK, 0x2D, NumberWatchdog), "00 c0 00 80")
	r.host.watchdog = host.WatchdogStatus{Config: host.WatchdogConfig{Action: host.Cycle}, Expired: map[host.WatchdogUse]bool{host.WatchdogSMSOS: true}, PreTimedOut: true}
	r.wants(r.sensor(command.OK, 0x2D, NumberWatchdog), "00 c0 08 81")
	r.wants(r.sensor(command.OK, 0x2B, NumberWatchdog), "c0 08 01 00 00")
}

func TestTypes(t *testing.T) {
	r := newRig(t)
	for number, want := range map[byte]string{1: "01 01", 2: "02 01", 3: "0b 01", NumberPower: "22 6f", NumberPowerLimit: "0b 05"} {
		r.wants(r.sensor(command.OK, 0x2F, number), want)
	}
	r.sensor(command.NotPresent, 0x2F, 9)
	r.wants(r.sensor(command.OK, 0x23, 1, 77), "4d 01 00 00 00 00 00")
	r.sensor(command.Illegal, 0x23, NumberPower, 0)
	r.sensor(command.NotPresent, 0x23, 9, 0)
}

func TestThresholds(t *testing.T) {
	r := newRig(t)
	g := r.gauges[0]
	r.wants(r.sensor(command.OK, 0x27, 1), "18 00 00 00 50 5a 00")
	// The same bytes change no value that lies between two of them.
	r.sensor(command.OK, 0x26, 1, 0x18, 0, 0, 0, 80, 90, 0)
	if *g.limits.UpperCaution != 80 || *g.limits.UpperCritical != 90.3 {
		t.Errorf("got %v and %v", *g.limits.UpperCaution, *g.limits.UpperCritical)
	}
	was := *g.limits.UpperCaution
	r.sensor(command.OK, 0x26, 1, 0x29, 0xEC, 0, 0, 50, 0, 0x7F)
	l := g.limits
	if *l.UpperCaution != 50 || *l.LowerCaution != -20 || *l.UpperCritical != 90.3 || *l.UpperFatal != 125 || l.LowerFatal != nil || l.Hysteresis != 2 {
		t.Errorf("got %v %v %v %v %v", *l.UpperCaution, *l.LowerCaution, *l.UpperCritical, *l.UpperFatal, l.LowerFatal)
	}
	if g.from != commandtest.Origin() || was != 80 {
		t.Errorf("it came from %v, and the old limits were changed to %v", g.from, was)
	}
	r.wants(r.sensor(command.OK, 0x27, 1), "39 ec 00 00 32 5a 7d")
	sets := g.sets
	r.sensor(command.InvalidField, 0x26, 1, 0x08, 0, 0, 0, 100, 0, 0) // above the critical one
	if g.sets != sets {
		t.Error("limits in a wrong order were set")
	}
	r.sensor(command.Illegal, 0x26, NumberAC, 0, 0, 0, 0, 0, 0, 0)
	r.sensor(command.Illegal, 0x27, NumberAC)
	r.sensor(command.NotPresent, 0x26, 99, 0, 0, 0, 0, 0, 0, 0)
	r.sensor(command.NotPresent, 0x27, 99)
	r.sensor(command.BadLength, 0x26, 1, 0, 0, 0, 0, 0, 0)
}

func TestHysteresis(t *testing.T) {
	r := newRig(t)
	g := r.gauges[0]
	r.wants(r.sensor(command.OK, 0x25, 1, 0xFF), "02 02")
	g.limits.Hysteresis = 2.2
	r.sensor(command.OK, 0x24, 1, 0xFF, 2, 2)
	if g.sets != 0 || g.limits.Hysteresis != 2.2 {
		t.Errorf("the same byte changed it to %v", g.limits.Hysteresis)
	}
	for _, tt := range []struct {
		positive, negative byte
		want               command.Code
		now                float64
	}{
		{10, 10, command.OK, 10},
		{20, 10, command.OK, 20}, // one of the two is changed
		{20, 10, command.OK, 10},
		{30, 40, command.InvalidField, 10},
		{0, 0, command.OK, 0},
	} {
		r.sensor(tt.want, 0x24, 1, 0xFF, tt.positive, tt.negative)
		if g.limits.Hysteresis != tt.now {
			t.Errorf("%d, %d: got %v, want %v", tt.positive, tt.negative, g.limits.Hysteresis, tt.now)
		}
	}
	r.sensor(command.Illegal, 0x24, NumberPower, 0xFF, 0, 0)
	r.sensor(command.Illegal, 0x25, NumberPower, 0xFF)
	r.sensor(command.NotPresent, 0x25, 99, 0xFF)
}

func TestEventEnable(t *testing.T) {
	r := newRig(t)
	const high = 9 // upper critical going high
	enabled := func(number, offset uint8, assert, deassert bool) {
		t.Helper()
		a, d := r.Enabled(number, offset, false), r.Enabled(number, offset, true)
		if a != assert || d != deassert {
			t.Errorf("sensor %02Xh, offset %d: got %v, %v, want %v, %v", number, offset, a, d, assert, deassert)
		}
	}
	r.wants(r.sensor(command.OK, 0x29, 1), "c0 95 0a 95 0a")
	r.wants(r.sensor(command.OK, 0x29, NumberHealth), "c0 12 00 12 00")
	enabled(1, high, true, true)
	enabled(NumberPower, 0, true, false)
	enabled(NumberPower, 1, false, false)
	enabled(200, 5, true, true) // nobody's
	r.sensor(command.OK, 0x28, 1, 0xE0, 0, 0x02, 0, 0)
	enabled(1, high, false, true)
	r.sensor(command.OK, 0x28, 1, 0xE0, 0, 0x02, 0, 0)
	if told := r.events.told; len(told) != 1 || told[0].Origin != commandtest.Origin() || told[0].Sensor.Name != "CPU Temp" {
		t.Errorf("events: got %+v, want one", told)
	}
	r.restart()
	enabled(1, high, false, true)
	r.wants(r.sensor(command.OK, 0x29, 1), "c0 95 08 95 0a")
	r.sensor(command.OK, 0x28, 1, 0xD0, 0xFF, 0xFF, 0xFF, 0xFF)
	r.wants(r.sensor(command.OK, 0x29, 1), "c0 95 0a 95 0a")
	r.sensor(command.OK, 0x28, 1, 0x40)
	enabled(1, high, false, false)
	r.wants(r.sensor(command.OK, 0x2D, 1), "00 60 c0")
	r.sensor(command.OK, 0x28, 1, 0x80)
	r.gauges[0].reading = host.Reading{Value: 95, Valid: true, Crossed: host.UpperCaution}
	enabled(1, high, false, false)
	r.wants(r.sensor(command.OK, 0x2D, 1), "00 a0 c0") // not scanned
	r.sensor(command.InvalidField, 0x28, 1, 0xF0)
	r.sensor(command.NotPresent, 0x28, 99, 0xC0)
	r.sensor(command.NotPresent, 0x29, 99)
	r.sensor(command.OK, 0x28, NumberPower, 0xE0, 1)
	enabled(NumberPower, 0, false, false)
	enabled(NumberPower, 6, true, false)

	// What is kept is the gauge's, whatever its number.
	r.gauges[0], r.gauges[1] = r.gauges[1], r.gauges[0]
	r.restart()
	enabled(1, high, true, true)
	enabled(2, high, false, false)

	r.sensor(command.OK, 0x2A, 1, 0)
	r.sensor(command.NotPresent, 0x2A, 99, 0)

	// What is so already is not written again.
	told := len(r.events.told)
	must(t, r.opt.Store.Close())
	r.sensor(command.OK, 0x28, NumberPower, 0xE0, 1)
	r.sensor(command.Unspecified, 0x28, NumberPower, 0xE0, 0x40)
	if len(r.events.told) != told {
		t.Errorf("events of what was not changed: %+v", r.events.told[told:])
	}
}
