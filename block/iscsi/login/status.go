package login

import (
	"fmt"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

// A Status is Status-Class and Status-Detail of a Login Response (section 11.13.5).
type Status uint16

// The statuses of section 11.13.5 that a target without redirection has.
const (
	Success                 Status = 0x0000
	InitiatorError          Status = 0x0200
	AuthenticationFailure   Status = 0x0201
	AuthorizationFailure    Status = 0x0202
	NotFound                Status = 0x0203
	TargetRemoved           Status = 0x0204
	UnsupportedVersion      Status = 0x0205
	TooManyConnections      Status = 0x0206
	MissingParameter        Status = 0x0207
	CannotIncludeInSession  Status = 0x0208
	SessionTypeNotSupported Status = 0x0209
	SessionDoesNotExist     Status = 0x020a
	InvalidDuringLogin      Status = 0x020b
	TargetError             Status = 0x0300
	ServiceUnavailable      Status = 0x0301
	OutOfResources          Status = 0x0302
)

// An Error is why a login is refused.
type Error struct {
	Status Status
	What   string // for a log; it has no secrets
}

func (e *Error) Error() string {
	return fmt.Sprintf("iSCSI login: %s (status %04x)", e.What, uint16(e.Status))
}

// Refuse turns a Login Response into a refusal without data.
func Refuse(response *pdu.Header, s Status) {
	response[1] &= 0x0c // the current stage alone (sections 11.13.6 and 11.13.7)
	response.SetDataLength(0)
	response[36], response[37] = byte(s>>8), byte(s)
}
