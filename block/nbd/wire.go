package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/nitrino/nitrino/block"
)

// Numbers of the protocol, named as in its specification
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
const (
	initMagic       = 0x4e42444d41474943 // "NBDMAGIC"
	optionMagic     = 0x49484156454f5054 // "IHAVEOPT"
	answerMagic     = 0x0003e889045565a9
	requestMagic    = 0x25609513
	simpleMagic     = 0x67446698
	structuredMagic = 0x668e33ef

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Options of the handshake, and the answers to them.
const (
	optStartTLS          = 5
	optGo                = 7
	optStructuredReply   = 8
	optSetMetaContext    = 10
	answerAck            = 1
	answerInfo           = 3
	answerMetaContext    = 4
	answerError          = 1 << 31
	answerErrUnsupported = answerError + 1

	infoExport    = 0
	infoBlockSize = 3
)

// Transmission flags.
const (
	flagHasFlags        = 1 << 0
	flagReadOnly        = 1 << 1
	flagSendFlush       = 1 << 2
	flagSendTrim        = 1 << 5
	flagSendWriteZeroes = 1 << 6
	flagCanMultiConn    = 1 << 8
)

// Commands, and their flags.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdWriteZeroes = 6
	cmdBlockStatus = 7

	cmdFlagNoHole = 1 << 1
	cmdFlagReqOne = 1 << 3
)

// Chunks of structured replies.
const (
	chunkDone        = 1 << 0 // a flag: it is the last one
	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkBlockStatus = 5
	chunkError       = 1 << 15

	stateHole = 1 << 0
	stateZero = 1 << 1
)

// Errors that a reply can name.
const (
	errnoPerm     = 1
	errnoIO       = 5
	errnoNoMem    = 12
	errnoInval    = 22
	errnoNoSpc    = 28
	errnoOverflow = 75
	errnoNotSup   = 95
	errnoShutdown = 108
)

const (
	requestLen = 28
	// maxPayload is what a request may carry where the server names no limit, in bytes.
	maxPayload = 32 << 20
	// maxWrite is how much a write carries at most, in bytes; blocks are no larger.
	maxWrite = 1 << 20
	// maxAnswer bounds the data of an answer in the handshake, maxAnswers how many
	// there are to one option.
	maxAnswer  = 64 << 10
	maxAnswers = 64
	// maxText bounds what a server says about an error.
	maxText = 4096
)

// errProtocol: what came is not the protocol, so nothing that follows can be trusted.
var errProtocol = errors.New("not the NBD protocol")

// putRequest encodes a request's header.
func putRequest(b *[requestLen]byte, flags, command uint16, cookie uint64, offset int64, length uint32) {
	binary.BigEndian.PutUint32(b[0:], requestMagic)
	binary.BigEndian.PutUint16(b[4:], flags)
	binary.BigEndian.PutUint16(b[6:], command)
	binary.BigEndian.PutUint64(b[8:], cookie)
	binary.BigEndian.PutUint64(b[16:], uint64(offset))
	binary.BigEndian.PutUint32(b[24:], length)
}

// replyError is the error that a reply names by its number, with what else the
// server says of it.
func replyError(number uint32, text string) error {
	var err error
	switch number {
	case errnoPerm:
		err = block.ErrReadOnly
	case errnoIO:
		err = syscall.EIO
	case errnoNoMem:
		err = syscall.ENOMEM
	case errnoInval:
		err = syscall.EINVAL
	case errnoNoSpc:
		err = block.ErrNoSpace
	case errnoOverflow:
		err = syscall.EOVERFLOW
	case errnoNotSup:
		err = errors.ErrUnsupported
	case errnoShutdown:
		// The server is going: another, or the same one later, is to be asked.
		return fmt.Errorf("%w: the server shuts down", errLost)
	default:
		err = fmt.Errorf("error %d", number)
	}
	if text != "" {
		return fmt.Errorf("NBD server: %q: %w", text, err)
	}
	return fmt.Errorf("NBD server: %w", err)
}
