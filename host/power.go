package host

import (
	"fmt"
	"time"

	"github.com/nitrino/nitrino/internal/settings"
)

// A PowerState is what the host's power supply does, transitions included.
type PowerState string

// The power states, named as Redfish's Resource.PowerState where it has them.
const (
	// StateUnknown: no power LED is wired, so nobody can tell.
	StateUnknown     PowerState = "Unknown"
	StateOff         PowerState = "Off"
	StatePoweringOn  PowerState = "PoweringOn"
	StateOn          PowerState = "On"
	StatePoweringOff PowerState = "PoweringOff"
	// StateAsleep is S3: the power LED blinks. Redfish calls it Paused.
	StateAsleep PowerState = "Asleep"
)

// An Action is a power request.
type Action string

// The actions. Which are there depends on the wires: see Power.Supports.
const (
	// PowerOn presses the power button of a host that is off or asleep.
	PowerOn Action = "on"
	// ForceOff holds the power button until the power goes.
	ForceOff Action = "off"
	// GracefulOff presses the power button of a running host and waits for
	// its operating system to shut down.
	GracefulOff Action = "soft"
	// GracefulRestart is GracefulOff, then PowerOn.
	GracefulRestart Action = "restart"
	// Cycle is ForceOff, a pause, then PowerOn. It needs a host that is on.
	Cycle Action = "cycle"
	// Reset pulses the reset line.
	Reset Action = "reset"
	// NMI pulses the line of the diagnostic interrupt.
	NMI Action = "diag"
	// PressButton presses the power button once, as a person would.
	PressButton Action = "press"
)

// Actions lists every action, in the order help texts show them.
var Actions = [...]Action{PowerOn, ForceOff, GracefulOff, GracefulRestart, Cycle, Reset, NMI, PressButton}

// A Cause says why the host last started or restarted. The values' order is
// their rank: of several causes seen at one restart the highest is kept.
type Cause string

// The causes, highest rank first.
const (
	CauseWatchdog    Cause = "watchdog"
	CauseCommand     Cause = "command"
	CauseResetButton Cause = "reset-button"
	CausePowerButton Cause = "power-button"
	CauseAlwaysOn    Cause = "always-on-policy"
	CauseRestore     Cause = "restore-policy"
	CauseSoftReset   Cause = "soft-reset"
	CauseUnknown     Cause = "unknown"
)

// A RestorePolicy says what the host does when power returns after a failure.
type RestorePolicy string

// The restore policies.
const (
	AlwaysOff RestorePolicy = "always-off"
	AlwaysOn  RestorePolicy = "always-on"
	LastState RestorePolicy = "last-state"
)

// UnmarshalText takes only the three policies.
func (p *RestorePolicy) UnmarshalText(text []byte) error {
	switch v := RestorePolicy(text); v {
	case AlwaysOff, AlwaysOn, LastState:
		*p = v
		return nil
	}
	return fmt.Errorf("restore policy %q: %w: want always-off, always-on or last-state", text, ErrInvalid)
}

// PowerConfig holds every time of the power state machine and its restore
// policy. It is the section "power" of the settings.
type PowerConfig struct {
	// PowerPulse is how long a short press of the power button lasts.
	PowerPulse time.Duration `json:"power_pulse"`
	// ForceOffHold is the longest hold of the power button; it ends early
	// when the power goes. ATX cuts after 4 s.
	ForceOffHold time.Duration `json:"force_off_hold"`
	ResetPulse   time.Duration `json:"reset_pulse"`
	NMIPulse     time.Duration `json:"nmi_pulse"`
	// OffTime is the pause of a power cycle with the power off.
	OffTime time.Duration `json:"off_time"`
	// PowerGoodLimit is how long the power LED may take to come on.
	PowerGoodLimit time.Duration `json:"power_good_limit"`
	// GracefulLimit is how long the operating system may take to shut down.
	GracefulLimit time.Duration `json:"graceful_limit"`
	// WarmResetCheck is how long after a platform reset the power must still
	// be there for it to count as a warm restart.
	WarmResetCheck time.Duration `json:"warm_reset_check"`
	// SaveAfter is how long a state that nobody commanded must last before
	// it is saved as the one to restore.
	SaveAfter time.Duration `json:"save_after"`
	// Debounce is how long a level of the power LED must last to count.
	Debounce time.Duration `json:"debounce"`
	// BlinkWindow is longer than a sleeping host's power LED is ever steady.
	// An LED that goes out by itself counts as off after this long.
	BlinkWindow time.Duration `json:"blink_window"`
	// Restore is the policy after a power failure.
	Restore RestorePolicy `json:"restore_policy"`
	// RestoreDelay and a random part of RestoreJitter pass before a host is
	// restored, so that a rack does not draw its inrush at once.
	RestoreDelay  time.Duration `json:"restore_delay"`
	RestoreJitter time.Duration `json:"restore_jitter"`
	// RestoreRetry is how often a host that failed is pressed on again where
	// no standby wire tells when its power is back; 0: only at board start.
	RestoreRetry time.Duration `json:"restore_retry"`
}

// DefaultPowerConfig has the times that x86 boards are built for.
func DefaultPowerConfig() PowerConfig {
	return PowerConfig{
		PowerPulse:     200 * time.Millisecond,
		ForceOffHold:   15 * time.Second,
		ResetPulse:     500 * time.Millisecond,
		NMIPulse:       200 * time.Millisecond,
		OffTime:        5 * time.Second,
		PowerGoodLimit: 8 * time.Second,
		GracefulLimit:  300 * time.Second,
		WarmResetCheck: 500 * time.Millisecond,
		SaveAfter:      7 * time.Second,
		Debounce:       20 * time.Millisecond,
		BlinkWindow:    1500 * time.Millisecond,
		Restore:        LastState,
		RestoreDelay:   0,
		RestoreJitter:  0,
		RestoreRetry:   time.Minute,
	}
}

// Validate answers a *settings.FieldError for the first field out of its range.
func (c PowerConfig) Validate() error {
	for _, f := range []struct {
		name           string
		got, low, high time.Duration
	}{
		{"power_pulse", c.PowerPulse, 10 * time.Millisecond, 3 * time.Second},
		{"force_off_hold", c.ForceOffHold, time.Second, time.Minute},
		{"reset_pulse", c.ResetPulse, 10 * time.Millisecond, 10 * time.Second},
		{"nmi_pulse", c.NMIPulse, 10 * time.Millisecond, 10 * time.Second},
		{"off_time", c.OffTime, 0, 5 * time.Minute},
		{"power_good_limit", c.PowerGoodLimit, 100 * time.Millisecond, 5 * time.Minute},
		{"graceful_limit", c.GracefulLimit, time.Second, time.Hour},
		{"warm_reset_check", c.WarmResetCheck, 0, time.Minute},
		{"save_after", c.SaveAfter, 0, time.Hour},
		{"debounce", c.Debounce, 0, time.Second},
		{"blink_window", c.BlinkWindow, 100 * time.Millisecond, 30 * time.Second},
		{"restore_delay", c.RestoreDelay, 0, time.Hour},
		{"restore_jitter", c.RestoreJitter, 0, time.Hour},
		{"restore_retry", c.RestoreRetry, 0, 24 * time.Hour},
	} {
		if f.got < f.low || f.got > f.high {
			return &settings.FieldError{Pointer: "/" + f.name, Err: fmt.Errorf("%v is not between %v and %v: %w", f.got, f.low, f.high, ErrInvalid)}
		}
	}
	return nil
}

// PowerStatus is one consistent look at the host's power.
type PowerStatus struct {
	State PowerState
	// Since is when State began.
	Since time.Time
	// PowerGood is the debounced power LED: what IPMI's chassis status says
	// during a transition. A sleeping host counts as on.
	PowerGood bool
	// StandbyWired and Standby tell of the AC power.
	StandbyWired, Standby bool
	// ACFailed: the last loss of power was an AC failure.
	ACFailed bool
	// Fault: the last power request failed, or the power went by itself.
	Fault bool
	// OnByCommand: the host was last switched on by a command.
	OnByCommand bool
	// RestartCause is why the host last started or restarted.
	RestartCause Cause
	// RestartVia is the front-end (Origin.Via) of the command that was the
	// cause; empty where it was none, or nobody remembers.
	RestartVia string
	// RestartWarm: the host kept its power over the last restart.
	RestartWarm bool
	Restore     RestorePolicy
}
