package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nitrino/nitrino/block"
)

// Sense keys (SPC-4 section 4.5.6).
const (
	noSense        = 0x0
	notReady       = 0x2
	mediumError    = 0x3
	hardwareError  = 0x4
	illegalRequest = 0x5
	unitAttention  = 0x6
	dataProtect    = 0x7
	copyAborted    = 0xa
	abortedCommand = 0xb
	miscompare     = 0xe
)

// Additional sense codes with their qualifiers (SPC-4 annex F.2).
const (
	codeNone                   = 0x0000
	codeBecomingReady          = 0x0401
	codeNotReady               = 0x0400
	codeSanitizeInProgress     = 0x041b
	codeWriteError             = 0x0c00
	codeUnrecoveredRead        = 0x1100
	codeParameterListLength    = 0x1a00
	codeMiscompare             = 0x1d00
	codeInvalidOpcode          = 0x2000
	codeOutOfRange             = 0x2100
	codeInvalidField           = 0x2400
	codeNoSuchUnit             = 0x2500
	codeInvalidParameter       = 0x2600
	codeTooManyTargets         = 0x2606
	codeUnsupportedTargetType  = 0x2607
	codeTooManySegments        = 0x2608
	codeUnsupportedSegmentType = 0x2609
	codeInvalidRelease         = 0x2604
	codeWriteProtected         = 0x2700
	codeSoftwareProtected      = 0x2702
	codeAllocationFailed       = 0x2707
	codeMediumChanged          = 0x2800
	codePowerOn                = 0x2900
	codeBusReset               = 0x2902
	codeDeviceReset            = 0x2903
	codeModeChanged            = 0x2a01
	codeReservationsPreempted  = 0x2a03
	codeReservationsReleased   = 0x2a04
	codeRegistrationsPreempted = 0x2a05
	codeCapacityChanged        = 0x2a09
	codeSequence               = 0x2c00
	codeCommandsCleared        = 0x2f00
	codeNoMedium               = 0x3a00
	codeSavingUnsupported      = 0x3900
	codeUnitsChanged           = 0x3f0e
	codeInternalFailure        = 0x4400
	codeInvalidMessage         = 0x4900
	codeRemovalPrevented       = 0x5302
	codeInsufficientResources  = 0x5504
	codeCopyTargetUnreachable  = 0x0d02
)

// A condition is why a command ends with CHECK CONDITION.
type condition struct {
	key  byte
	code uint16 // additional sense code and qualifier
	// information is an LBA or an offset, where hasInformation.
	information    uint64
	hasInformation bool
	// specific is sense-key specific (SPC-4 section 4.5.2.4); its first bit says
	// that it is there.
	specific [3]byte
}

func illegal(code uint16) *condition { return &condition{key: illegalRequest, code: code} }

// badField points to the byte, and the highest bit of it, of the CDB that cannot be.
func badField(at, bit int) *condition {
	c := illegal(codeInvalidField)
	c.specific = [3]byte{0x80 | 0x40 | 0x08 | byte(bit), byte(at >> 8), byte(at)}
	return c
}

// badParameter points into the parameter list.
func badParameter(at, bit int) *condition {
	c := illegal(codeInvalidParameter)
	c.specific = [3]byte{0x80 | 0x08 | byte(bit), byte(at >> 8), byte(at)}
	return c
}

// at adds an LBA or an offset.
func (c *condition) at(information uint64) *condition {
	c.information, c.hasInformation = information, true
	return c
}

// append writes the sense data in descriptor or fixed form (SPC-4 sections 4.5.2
// and 4.5.3).
func (c *condition) append(b []byte, descriptor bool) []byte {
	if descriptor {
		start := len(b)
		b = append(b, 0x72, c.key, byte(c.code>>8), byte(c.code), 0, 0, 0, 0)
		if c.hasInformation {
			b = append(b, 0x00, 10, 0x80, 0)
			b = binary.BigEndian.AppendUint64(b, c.information)
		}
		if c.specific[0] != 0 {
			b = append(b, 0x02, 6, 0, 0, c.specific[0], c.specific[1], c.specific[2], 0)
		}
		b[start+7] = byte(len(b) - start - 8)
		return b
	}
	response, information := byte(0x70), uint32(0)
	if c.hasInformation && c.information <= 0xffffffff {
		response, information = 0xf0, uint32(c.information) // VALID
	}
	b = append(b, response, 0, c.key)
	b = binary.BigEndian.AppendUint32(b, information)
	b = append(b, 10, 0, 0, 0, 0, byte(c.code>>8), byte(c.code), 0)
	return append(b, c.specific[:]...)
}

// An access says what a storage error happened to.
type access int

const (
	reading access = iota
	writing
)

// failure is the condition for what a disk fails with, at an LBA.
func failure(err error, a access, lba uint64) *condition {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, block.ErrNoSpace):
		return (&condition{key: dataProtect, code: codeAllocationFailed}).at(lba)
	case errors.Is(err, block.ErrReadOnly):
		return &condition{key: dataProtect, code: codeWriteProtected}
	case errors.Is(err, block.ErrRange):
		return illegal(codeOutOfRange).at(lba)
	case errors.Is(err, block.ErrMedium):
		code := uint16(codeUnrecoveredRead)
		if a == writing {
			code = codeWriteError
		}
		return (&condition{key: mediumError, code: code}).at(lba)
	case errors.Is(err, block.ErrGone):
		// What the volume stands on may come back. Of all that says so, "in process of
		// becoming ready" is what Linux (scsi_check_sense, scsi_io_completion) and
		// Windows (classpnp) try again with a delay; 04/00 fails the request at once.
		return &condition{key: notReady, code: codeBecomingReady}
	case errors.Is(err, errSanitized):
		return &condition{key: notReady, code: codeSanitizeInProgress} // it is to come anew
	case errors.Is(err, block.ErrClosed):
		return &condition{key: notReady, code: codeNotReady}
	}
	return &condition{key: hardwareError, code: codeInternalFailure}
}

// fail answers with CHECK CONDITION.
func (c *Command) fail(d *condition) {
	c.Status = StatusCheckCondition
	c.Sense = d.append(c.Sense[:0], c.link != nil && c.link.unit.mode.descriptorSense.Load())
	c.N = 0
	if c.link != nil {
		c.link.unit.logFailure(c, d)
	}
}

// logFailure tells who looks for the reason why a host does not take a disk.
func (u *Unit) logFailure(c *Command, d *condition) {
	if !u.o.Log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	name := "unknown"
	if c.operation != nil {
		name = c.operation.name
	}
	u.o.Log.Debug("SCSI: CHECK CONDITION", "volume", u.disk.Identity().Name, "initiator", c.nexus.initiator, "command", name,
		"CDB", fmt.Sprintf("%x", c.CDB), "sense", fmt.Sprintf("%x/%04x", d.key, d.code))
}
