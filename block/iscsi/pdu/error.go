package pdu

import "fmt"

// A Reason says why a PDU was rejected (section 11.17.1).
type Reason byte

// The reasons of section 11.17.1.
const (
	ReasonDataDigest          Reason = 0x02
	ReasonSNACK               Reason = 0x03
	ReasonProtocolError       Reason = 0x04
	ReasonCommandNotSupported Reason = 0x05
	ReasonImmediateTooMany    Reason = 0x06
	ReasonTaskInProgress      Reason = 0x07
	ReasonInvalidDataACK      Reason = 0x08
	ReasonInvalidField        Reason = 0x09
	ReasonOutOfResources      Reason = 0x0a
	ReasonNegotiationReset    Reason = 0x0b
	ReasonWaitingForLogout    Reason = 0x0c
)

// An Error is a PDU that is not as the standard has it.
type Error struct {
	Reason Reason // what to reject it with
	What   string
}

func (e *Error) Error() string { return fmt.Sprintf("iSCSI PDU: %s", e.What) }

func invalid(what string) error  { return &Error{ReasonInvalidField, what} }
func protocol(what string) error { return &Error{ReasonProtocolError, what} }
