package ipmi

import (
	"encoding/binary"

	"github.com/nitrino/nitrino/ipmi/command"
)

// Numbers of RMCP and ASF 2.0 (DSP0136 section 3.2).
const (
	rmcpVersion = 0x06
	rmcpNoAck   = 0xFF // sequence of a message that wants no RMCP ACK
	classASF    = 0x06
	classIPMI   = 0x07
	classAck    = 0x80 // set in the class of an ACK

	asfIANA     = 4542
	asfPing     = 0x80
	asfPong     = 0x40
	asfEntities = 0x81 // IPMI supported, ASF version 1.0 (table 13-7)
)

// Session header formats (section 13.6, table 13-8).
const (
	authTypeNone   = 0x00
	authTypeFormat = 0x06 // RMCP+ packet
)

// Payload types (table 13-16).
const (
	payloadIPMI         = 0x00
	payloadSOL          = 0x01
	payloadOpenRequest  = 0x10
	payloadOpenResponse = 0x11
	payloadRAKP1        = 0x12
	payloadRAKP2        = 0x13
	payloadRAKP3        = 0x14
	payloadRAKP4        = 0x15
)

const (
	rmcpHeaderLen    = 4
	sessionHeaderLen = 12 // RMCP+ without an OEM payload
	// maxPacket is the longest datagram read or sent. IPMI over LAN messages
	// are below 300 bytes; SOL packets carry at most 255 characters.
	maxPacket = 1024
)

// appendRMCP begins a packet of the IPMI class.
func appendRMCP(b []byte) []byte { return append(b, rmcpVersion, 0, rmcpNoAck, classIPMI) }

// parseRMCP splits a datagram (DSP0136 section 3.2.2.3).
func parseRMCP(p []byte) (seq, class byte, rest []byte, ok bool) {
	if len(p) < rmcpHeaderLen || p[0] != rmcpVersion {
		return 0, 0, nil, false
	}
	return p[2], p[3], p[rmcpHeaderLen:], true
}

// appendPong answers an ASF presence ping, empty where p is none (section
// 13.2.3, tables 13-6 and 13-7). IANA numbers are big-endian in ASF.
func appendPong(b, p []byte) []byte {
	if len(p) < 8 || binary.BigEndian.Uint32(p) != asfIANA || p[4] != asfPing {
		return b
	}
	b = append(b, rmcpVersion, 0, rmcpNoAck, classASF)
	b = binary.BigEndian.AppendUint32(b, asfIANA)
	b = append(b, asfPong, p[5], 0, 16)
	b = binary.BigEndian.AppendUint32(b, asfIANA)
	return append(b, 0, 0, 0, 0, asfEntities, 0, 0, 0, 0, 0, 0, 0)
}

// parseSessionless takes an IPMI 1.5 session header with authentication type
// none and session 0, the framing of Get Channel Authentication Capabilities
// (section 13.6). Real v1.5 sessions do not exist here.
func parseSessionless(p []byte) (payload []byte, ok bool) {
	if len(p) < 10 || p[0] != authTypeNone || binary.LittleEndian.Uint32(p[5:]) != 0 {
		return nil, false
	}
	// Some consoles append the legacy pad byte of section 13.6: what follows
	// the payload is not looked at.
	n := int(p[9])
	if len(p)-10 < n {
		return nil, false
	}
	return p[10 : 10+n], true
}

// appendSessionless frames a message as parseSessionless takes it.
func appendSessionless(b, payload []byte) []byte {
	b = appendRMCP(b)
	b = append(b, authTypeNone, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(payload)))
	return append(b, payload...)
}

// sessionHeader is an RMCP+ session header (section 13.6) and what it frames.
type sessionHeader struct {
	payload       byte // type, without the two flags
	encrypted     bool
	authenticated bool
	id, seq       uint32
	body          []byte
}

// parseSession takes what follows the RMCP header. OEM explicit payloads have
// six more header bytes and are not for us.
func parseSession(p []byte) (h sessionHeader, ok bool) {
	if len(p) < sessionHeaderLen || p[0] != authTypeFormat {
		return h, false
	}
	h.payload = p[1] & 0x3F
	h.encrypted = p[1]&0x80 != 0
	h.authenticated = p[1]&0x40 != 0
	if h.payload == 0x02 {
		return h, false
	}
	h.id = binary.LittleEndian.Uint32(p[2:])
	h.seq = binary.LittleEndian.Uint32(p[6:])
	n := int(binary.LittleEndian.Uint16(p[10:]))
	if len(p)-sessionHeaderLen < n {
		return h, false
	}
	h.body = p[sessionHeaderLen : sessionHeaderLen+n]
	return h, true
}

// appendSession frames a payload that belongs to no session: session 0,
// sequence 0, neither encrypted nor authenticated.
func appendSession(b []byte, payload byte, body []byte) []byte {
	b = appendRMCP(b)
	b = append(b, authTypeFormat, payload, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// message is a request as section 13.8 frames it, IPMB's form without the bus.
type message struct {
	netFn  command.NetFn
	lun    byte // the responder's
	rqAddr byte
	rqSeq  byte // 6 bits
	rqLUN  byte
	cmd    byte
	data   []byte
}

// parseMessage checks addresses and both checksums (section 13.8). A message
// for another device than the BMC, or from what is no software (bit 0 of the
// requester's address, section 5.5), gets no answer.
func parseMessage(p []byte) (m message, ok bool) {
	if len(p) < 7 || p[0] != command.BMCAddr || p[3]&1 == 0 {
		return m, false
	}
	if checksum(p[:3]) != 0 || checksum(p[3:]) != 0 {
		return m, false
	}
	m = message{
		netFn: command.NetFn(p[1] >> 2), lun: p[1] & 3,
		rqAddr: p[3], rqSeq: p[4] >> 2, rqLUN: p[4] & 3,
		cmd: p[5], data: p[6 : len(p)-1],
	}
	return m, m.netFn&1 == 0 // odd is a response
}

// appendResponse frames the answer to m.
func appendResponse(b []byte, m *message, code command.Code, data []byte) []byte {
	at := len(b)
	b = append(b, m.rqAddr, byte(m.netFn+1)<<2|m.rqLUN)
	b = append(b, -checksum(b[at:]))
	at = len(b)
	b = append(b, command.BMCAddr, m.rqSeq<<2|m.lun, m.cmd, byte(code))
	b = append(b, data...)
	return append(b, -checksum(b[at:]))
}

// checksum is the sum of p; with its two's complement appended it is 0.
func checksum(p []byte) byte {
	var sum byte
	for _, x := range p {
		sum += x
	}
	return sum
}
