// Package sdr tells of the sensors: the SDR repository, and the sensor commands
// (chapters 33 to 35 of the IPMI v2.0 specification, revision 1.1).
package sdr

// Numbers of the sensors that are no gauges: they tell of events. Gauges have
// 1 and up, in the order of host.Sensors.
const (
	NumberPower      = 0xE0 // the host's power (System ACPI Power State, 22h)
	NumberAC         = 0xE1 // its AC supply (Power Unit, 09h)
	NumberWatchdog   = 0xE2 // Watchdog 2, 23h
	NumberButton     = 0xE3 // the panel's buttons, 14h
	NumberBoot       = 0xE4 // System Boot / Restart Initiated, 1Dh
	NumberSession    = 0xE5 // Session Audit, 2Ah
	NumberLog        = 0xE6 // Event Logging Disabled, 10h
	NumberHealth     = 0xE7 // Management Subsystem Health, 28h
	NumberInterrupt  = 0xE8 // the diagnostic interrupt (Critical Interrupt, 13h)
	NumberPowerLimit = 0xE9 // the host's power limit (Other Units-based Sensor, 0Bh)
)

// maxGauges keeps the gauges' numbers below the others'.
const maxGauges = NumberPower - 1

// Event/reading type codes (table 42-1).
const (
	Threshold      = 0x01
	LimitExceeded  = 0x05 // generic: limit not exceeded, limit exceeded
	SensorSpecific = 0x6F
)

// Type answers the sensor type (table 42-3) and the event/reading type code of
// a sensor that is no gauge.
func Type(number uint8) (sensorType, eventType uint8) {
	switch number {
	case NumberPower:
		return 0x22, SensorSpecific
	case NumberAC:
		return 0x09, SensorSpecific
	case NumberWatchdog:
		return 0x23, SensorSpecific
	case NumberButton:
		return 0x14, SensorSpecific
	case NumberBoot:
		return 0x1D, SensorSpecific
	case NumberSession:
		return 0x2A, SensorSpecific
	case NumberLog:
		return 0x10, SensorSpecific
	case NumberHealth:
		return 0x28, SensorSpecific
	case NumberInterrupt:
		return 0x13, SensorSpecific
	case NumberPowerLimit:
		return 0x0B, LimitExceeded
	}
	return 0, 0
}
