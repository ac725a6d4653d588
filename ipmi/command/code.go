package command

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

// A Code is the completion code, the first byte of an answer (table 5-2). The
// codes from 80h to BEh are each command's own.
type Code uint8

// The generic codes.
const (
	OK             Code = 0x00
	Busy           Code = 0xC0
	InvalidCommand Code = 0xC1
	InvalidLUN     Code = 0xC2
	Timeout        Code = 0xC3
	NoSpace        Code = 0xC4
	ReservationBad Code = 0xC5 // canceled, or never made
	Truncated      Code = 0xC6
	BadLength      Code = 0xC7
	TooLong        Code = 0xC8 // a field's length limit exceeded
	OutOfRange     Code = 0xC9
	CannotReturn   Code = 0xCA // cannot return the number of requested bytes
	NotPresent     Code = 0xCB // the requested sensor, data or record
	InvalidField   Code = 0xCC
	Illegal        Code = 0xCD // for the sensor or record type
	NoResponse     Code = 0xCE
	TooLow         Code = 0xD4 // insufficient privilege
	WrongState     Code = 0xD5 // not in the present state
	Unavailable    Code = 0xD6 // the sub-function is disabled or unavailable
	Unspecified    Code = 0xFF
)

// CodeOf is the one place where the domain's errors become completion codes;
// false: it does not know err.
// A command whose wire is absent as a whole is not in the table and answers
// "invalid command"; where only one of its functions is, that one is
// "unavailable", which consoles show as such.
func CodeOf(err error) (Code, bool) {
	for _, e := range []struct {
		err  error
		code Code
	}{
		{nil, OK},
		{host.ErrBusy, Busy},
		{host.ErrStopped, Busy}, // being started or stopped: try again
		{host.ErrNoPower, WrongState},
		{host.ErrAsleep, WrongState},
		{host.ErrNoStandby, WrongState},
		{errors.ErrUnsupported, Unavailable},
		{host.ErrInvalid, InvalidField},
		{auth.ErrInvalid, InvalidField},
		{auth.ErrExists, InvalidField},
		{auth.ErrNotFound, InvalidField},
		{auth.ErrFull, NoSpace},
		{auth.ErrLastAdministrator, WrongState},
		{auth.ErrBusy, Busy},
	} {
		if errors.Is(err, e.err) {
			return e.code, true
		}
	}
	return Unspecified, false
}

// Result is CodeOf for handlers; an error that has no code is logged.
func Result(log *slog.Logger, command string, err error) Code {
	code, known := CodeOf(err)
	if !known {
		log.Error("IPMI command failed", "command", command, "error", err)
	}
	return code
}

// String names the code in logs and tests.
func (c Code) String() string { return fmt.Sprintf("%02Xh", uint8(c)) }
