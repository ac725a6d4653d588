package system

import (
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/resource"
)

// watchdogTimer is ComputerSystem.HostWatchdogTimer. It is only shown: who
// starts the timer again and again says what it is for, by IPMI.
type watchdogTimer struct {
	FunctionEnabled bool            `json:"FunctionEnabled"`
	TimeoutAction   string          `json:"TimeoutAction"`
	WarningAction   string          `json:"WarningAction"`
	Status          resource.Status `json:"Status"`
}

func newWatchdogTimer(now host.WatchdogStatus) watchdogTimer {
	// The function is always there; Status says whether it counts.
	w := watchdogTimer{FunctionEnabled: true, TimeoutAction: "None", WarningAction: "None", Status: resource.Disabled()}
	switch now.Config.Action {
	case host.Reset:
		w.TimeoutAction = "ResetSystem"
	case host.Cycle:
		w.TimeoutAction = "PowerCycle"
	case host.ForceOff:
		w.TimeoutAction = "PowerDown"
	}
	if now.Config.PreNMI {
		w.WarningAction = "DiagnosticInterrupt"
	}
	if now.Running {
		w.Status = resource.Enabled()
	}
	return w
}
