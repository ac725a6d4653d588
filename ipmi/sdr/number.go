// Package sdr tells of the sensors: the SDR repository, and the sensor commands
// (chapters 33 to 35 of the IPMI v2.0 specification, revision 1.1).
package sdr

// Numbers of the sensors that are no gauges: they tell of events. Gauges have
// 1 and up, in the order of host.Sensors.
const (
	NumberPower    = 0xE0 // the host's power (System ACPI Power State, 22h)
	NumberAC       = 0xE1 // its AC supply (Power Unit, 09h)
	NumberWatchdog = 0xE2 // Watchdog 2, 23h
	NumberButton   = 0xE3 // the panel's buttons, 14h
	NumberBoot     = 0xE4 // System Boot / Restart Initiated, 1Dh
	NumberSession  = 0xE5 // Session Audit, 2Ah
	NumberLog      = 0xE6 // Event Logging Disabled, 10h
	NumberHealth   = 0xE7 // Management Subsystem Health, 28h
)
