package ipmi

import (
	"errors"
	"fmt"

	"github.com/nitrino/nitrino/host"
)

// completionCode is the first byte of an answer (table 5-2).
type completionCode uint8

const (
	codeOK             completionCode = 0x00
	codeBusy           completionCode = 0xC0
	codeInvalidCommand completionCode = 0xC1
	codeInvalidLUN     completionCode = 0xC2
	codeLength         completionCode = 0xC7
	codeInvalidField   completionCode = 0xCC
	codePrivilege      completionCode = 0xD4
	codeWrongState     completionCode = 0xD5 // not in the present state
	codeUnavailable    completionCode = 0xD6 // the sub-function is disabled or unavailable
	codeUnspecified    completionCode = 0xFF
)

// Codes of single commands.
const (
	codeParamUnsupported  completionCode = 0x80 // Get and Set System Boot Options
	codeInProgress        completionCode = 0x81 // Set System Boot Options, parameter 0
	codeNotForThisSession completionCode = 0x80 // Set Session Privilege Level
	codeAboveUserLimit    completionCode = 0x81 // Set Session Privilege Level
	codeNoSuchSession     completionCode = 0x87 // Close Session
	codeNoSuchHandle      completionCode = 0x88 // Close Session
)

// codeOf is the one place where the domain's errors become completion codes.
// A command whose wire is absent as a whole is not in the table and answers
// "invalid command"; where only one of its functions is, that one is
// "unavailable", which consoles show as such.
func codeOf(err error) (completionCode, bool) {
	for _, e := range []struct {
		err  error
		code completionCode
	}{
		{nil, codeOK},
		{host.ErrBusy, codeBusy},
		{host.ErrStopped, codeBusy}, // being started or stopped: try again
		{host.ErrNoPower, codeWrongState},
		{host.ErrAsleep, codeWrongState},
		{host.ErrNoStandby, codeWrongState},
		{errors.ErrUnsupported, codeUnavailable},
		{host.ErrInvalid, codeInvalidField},
	} {
		if errors.Is(err, e.err) {
			return e.code, true
		}
	}
	return codeUnspecified, false
}

// result is codeOf for handlers; an error that has no code is logged.
func (s *Server) result(command string, err error) completionCode {
	code, known := codeOf(err)
	if !known {
		s.log.Error("IPMI command failed", "command", command, "error", err)
	}
	return code
}

// String names the code in logs and tests.
func (c completionCode) String() string { return fmt.Sprintf("%02Xh", uint8(c)) }
