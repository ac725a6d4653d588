package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers of the protocol, named as in its specification
// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
const (
	initMagic    = 0x4e42444d41474943 // "NBDMAGIC"
	optionMagic  = 0x49484156454f5054 // "IHAVEOPT"
	answerMagic  = 0x0003e889045565a9
	requestMagic = 0x25609513
	replyMagic   = 0x67446698

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Options of the handshake, and the answers to them.
const (
	optExportName = 1
	optAbort      = 2
	optList       = 3
	optInfo       = 6
	optGo         = 7

	repAck        = 1
	repServer     = 2
	repInfo       = 3
	repErrUnsup   = 1<<31 + 1
	repErrInvalid = 1<<31 + 3
	repErrUnknown = 1<<31 + 6
	repErrTooBig  = 1<<31 + 9

	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3
)

// Transmission flags.
const (
	hasFlags        = 1 << 0
	readOnly        = 1 << 1
	sendFlush       = 1 << 2
	sendFUA         = 1 << 3
	sendTrim        = 1 << 5
	sendWriteZeroes = 1 << 6
	canMultiConn    = 1 << 8
)

// Commands, and their flags.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6

	cmdFlagFUA      = 1 << 0
	cmdFlagNoHole   = 1 << 1
	cmdFlagFastZero = 1 << 4
)

// Errors that a reply can name.
const (
	ePerm     = 1
	eIO       = 5
	eInval    = 22
	eNoSpc    = 28
	eOverflow = 75
	eNotSup   = 95
)

const (
	requestLen = 28
	replyLen   = 16
	// maxOption bounds the data of one option; a name has at most 4096 bytes.
	maxOption = 16 << 10
	maxName   = 4096
)

var errProtocol = errors.New("not the NBD protocol")

// A request is one header of the transmission phase.
type request struct {
	flags, command uint16
	cookie, offset uint64
	length         uint32
}

// decodeRequest reads a header of requestLen bytes.
func decodeRequest(b []byte) (request, error) {
	if magic := binary.BigEndian.Uint32(b); magic != requestMagic {
		return request{}, fmt.Errorf("%w: request magic %#x", errProtocol, magic)
	}
	return request{
		flags:   binary.BigEndian.Uint16(b[4:]),
		command: binary.BigEndian.Uint16(b[6:]),
		cookie:  binary.BigEndian.Uint64(b[8:]),
		offset:  binary.BigEndian.Uint64(b[16:]),
		length:  binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// An infoRequest is the data of NBD_OPT_INFO and NBD_OPT_GO.
type infoRequest struct {
	name  string
	infos []uint16
}

var errOption = errors.New("malformed option")

func decodeInfo(b []byte) (infoRequest, error) {
	if len(b) < 6 {
		return infoRequest{}, errOption
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxName || int(n) > len(b)-6 {
		return infoRequest{}, errOption
	}
	r := infoRequest{name: string(b[4 : 4+n])}
	b = b[4+n:]
	count := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) != 2*count {
		return infoRequest{}, errOption
	}
	for i := range count {
		r.infos = append(r.infos, binary.BigEndian.Uint16(b[2*i:]))
	}
	return r, nil
}

// appendReply appends a simple reply's header.
func appendReply(b []byte, code uint32, cookie uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, replyMagic)
	b = binary.BigEndian.AppendUint32(b, code)
	return binary.BigEndian.AppendUint64(b, cookie)
}

// appendAnswer appends an answer to an option.
func appendAnswer(b []byte, option, kind uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, answerMagic)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}
