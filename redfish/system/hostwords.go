package system

import (
	"errors"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// This file puts package host's words and errors into Redfish's.

// systemStatus is Resource.Status of the host.
func systemStatus(p host.PowerStatus) resource.Status {
	st := resource.Status{Health: "OK"}
	if p.Fault {
		st.Health = "Warning"
	}
	switch p.State {
	case host.StateOn, host.StatePoweringOff:
		st.State = new("Enabled")
	case host.StatePoweringOn:
		st.State = new("Starting")
	case host.StateOff, host.StateAsleep:
		// Enabled, but awaits an action from outside to activate it.
		st.State = new("StandbyOffline")
		if p.StandbyWired && !p.Standby {
			st.State = new("UnavailableOffline")
		}
	}
	return st
}

// resetCause is ComputerSystem.LastResetCauses, which has no word for a reset
// button; "" leaves the property out.
func resetCause(c host.Cause) string {
	switch c {
	case host.CauseWatchdog:
		return "WatchdogExpiration"
	case host.CauseCommand:
		return "ManagementCommand"
	case host.CausePowerButton:
		return "PowerButtonPress"
	case host.CauseAlwaysOn, host.CauseRestore:
		return "PowerRestorePolicy"
	case host.CauseSoftReset:
		return "OSSoftRestart"
	case host.CauseUnknown:
		return "Unknown"
	}
	return ""
}

// restorePolicy is ComputerSystem.PowerRestorePolicyTypes.
func restorePolicy(p host.RestorePolicy) string {
	switch p {
	case host.AlwaysOff:
		return "AlwaysOff"
	case host.AlwaysOn:
		return "AlwaysOn"
	case host.LastState:
		return "LastState"
	}
	return ""
}

// powerProblem maps a refused power request.
//
// Busy is ResourceInUse with 409, not ServiceTemporarilyUnavailable with 503:
// it is the host that is in transition, not the service; how long it takes is
// up to its operating system, so there is no honest Retry-After; and clients
// repeat a 503 by themselves, which for a reset is not theirs to decide.
func (s *System) powerProblem(err error) message.Message {
	switch {
	case errors.Is(err, host.ErrBusy):
		return message.ResourceInUse()
	case errors.Is(err, host.ErrNoPower), errors.Is(err, host.ErrAsleep), errors.Is(err, host.ErrNoStandby):
		return message.ResourceInStandby()
	case errors.Is(err, host.ErrStopped):
		return message.TemporarilyUnavailable()
	}
	s.Log.Error("power request failed", "error", err)
	return message.InternalError()
}

// notUpdated logs why a property could not be written.
func (s *System) notUpdated(name string, err error) message.Message {
	s.Log.Error("property not updated", "property", name, "error", err)
	return message.PropertyNotUpdated(name).About(message.Pointer(name))
}
