package sdr

import "github.com/nitrino/nitrino/host"

// discrete are the sensors that are no gauges, as far as there is something to
// tell of. The offsets are those of table 42-3.
func discrete(o Options) []*sensor {
	manages := o.Power.Supports(host.PowerOn)
	all := []*sensor{
		// S0, S3, S4 or S5; a reading may also be G3, for the light tells
		// nothing where there is no supply.
		{number: NumberPower, name: "Power State", asserts: 0x0049, states: 0x00C9, state: func() (uint16, bool) { return acpiStates(o.Power.Status()) }},
	}
	if manages || o.Power.Status().StandbyWired {
		// Power off, AC lost, soft power control failure.
		all = append(all, &sensor{number: NumberAC, name: "Power Unit", asserts: 0x0031, deasserts: 0x0010, states: 0x0030,
			state: func() (uint16, bool) { return supplyStates(o.Power.Status()), true }})
	}
	if o.Watchdog != nil {
		// Expired with nothing done, reset, power down, power cycle; about to.
		all = append(all, &sensor{number: NumberWatchdog, name: "Watchdog", asserts: 0x010F, states: 0x010F,
			state: func() (uint16, bool) { return watchdogStates(o.Watchdog.Status()), true }})
	}
	if o.Buttons {
		// The power button, the reset button.
		all = append(all, &sensor{number: NumberButton, name: "Buttons", asserts: 0x0005})
	}
	all = append(all,
		// System restart.
		&sensor{number: NumberBoot, name: "System Restart", asserts: 0x0080},
		// Session activated, invalid user name or password, invalid password
		// disable.
		&sensor{number: NumberSession, name: "Session Audit", asserts: 0x000D},
		// Log cleared, all event logging disabled.
		&sensor{number: NumberLog, name: "Event Log", asserts: 0x000C, deasserts: 0x0008},
		// Controller access degraded, sensor failure.
		&sensor{number: NumberHealth, name: "BMC Health", asserts: 0x0012, deasserts: 0x0012})
	if o.Power.Supports(host.NMI) {
		// Front panel NMI, diagnostic interrupt.
		all = append(all, &sensor{number: NumberInterrupt, name: "Interrupt", asserts: 0x0001})
	}
	if o.PowerLimit {
		// Limit exceeded.
		all = append(all, &sensor{number: NumberPowerLimit, name: "Power Limit", asserts: 0x0002, deasserts: 0x0002})
	}
	for _, x := range all {
		x.sensorType, x.eventType = Type(x.number)
		x.entity, x.instance = entitySystemBoard, 1
		switch x.number {
		case NumberSession, NumberLog, NumberHealth:
			x.entity = entityManagement
		}
	}
	return all
}

// acpiStates: System ACPI Power State. False: nobody can tell.
func acpiStates(st host.PowerStatus) (uint16, bool) {
	const s0, s3, softOff, g3 = 1 << 0, 1 << 3, 1 << 6, 1 << 7
	switch {
	case st.State == host.StateUnknown:
		return 0, false
	case st.State == host.StateAsleep:
		return s3, true
	case st.PowerGood:
		return s0, true
	case st.StandbyWired && !st.Standby:
		return g3, true
	}
	return softOff, true
}

// supplyStates: Power Unit.
func supplyStates(st host.PowerStatus) (bits uint16) {
	if st.StandbyWired && !st.Standby {
		bits |= 1 << 4 // AC lost
	}
	if st.Fault {
		bits |= 1 << 5 // soft power control failure
	}
	return bits
}

// watchdogStates: Watchdog 2, what became of the timer since somebody cleared
// its marks.
func watchdogStates(st host.WatchdogStatus) (bits uint16) {
	for _, expired := range st.Expired {
		if expired {
			bits |= 1 << WatchdogOffset(st.Config.Action)
		}
	}
	if st.PreTimedOut {
		bits |= 1 << 8 // timer interrupt
	}
	return bits
}

// WatchdogOffset is the offset of Watchdog 2 that says what was done when the
// timer expired.
func WatchdogOffset(a host.Action) uint8 {
	switch a {
	case host.Reset:
		return 0x01
	case host.ForceOff:
		return 0x02
	case host.Cycle:
		return 0x03
	}
	return 0x00
}
