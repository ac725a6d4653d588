package host

import "errors"

// Requests are refused with one of these, or with errors.ErrUnsupported where
// a wire is absent. Compare with errors.Is.
var (
	// ErrBusy: another power request is under way.
	ErrBusy = errors.New("another power request is under way")
	// ErrNoPower: the host is off, and the request needs it on.
	ErrNoPower = errors.New("the host is off")
	// ErrAsleep: the host sleeps (S3), and the request needs it awake.
	ErrAsleep = errors.New("the host is asleep")
	// ErrNoStandby: the host has no AC power (5VSB is gone).
	ErrNoStandby = errors.New("the host has no standby power")
	// ErrNoResponse: the wire was driven and the host did not react in time.
	ErrNoResponse = errors.New("the host did not react")
	// ErrSuperseded: a later, stronger request took this one's place.
	ErrSuperseded = errors.New("replaced by a later request")
	// ErrStopped: the board's software is stopping.
	ErrStopped = errors.New("the power service is not running")
	// ErrNotSet: the watchdog timer was never set, so nobody knows what it is
	// to do.
	ErrNotSet = errors.New("the watchdog timer was never set")
	// ErrInvalid: the request's values are not of the kind it takes.
	ErrInvalid = errors.New("invalid value")
)
