package host

// A WatchdogUse says what a watchdog timer watches over.
type WatchdogUse string

// The uses (IPMI 2.0 table 27-4).
const (
	WatchdogNone     WatchdogUse = ""
	WatchdogBIOSFRB2 WatchdogUse = "bios-frb2"
	WatchdogBIOSPost WatchdogUse = "bios-post"
	WatchdogOSLoad   WatchdogUse = "os-load"
	WatchdogSMSOS    WatchdogUse = "sms-os"
	WatchdogOEM      WatchdogUse = "oem"
)

// A WatchdogChange says more of an event of the watchdog.
type WatchdogChange struct {
	Use WatchdogUse `json:"use"`
	// Action is what was done when it expired; empty: nothing.
	Action Action `json:"action,omitempty"`
	// Pre: it is about to expire.
	Pre bool `json:"pre,omitempty"`
}
