// Package pdu is the codec of iSCSI's protocol data units as a target needs it
// (RFC 7143 section 11). It only looks at bytes that others own: a basic header
// segment where it lies in a receive buffer is read through a *Header, and what
// is sent is put into the sender's own Header. Nothing here reads, writes or
// waits, and but for errors nothing allocates.
package pdu

import "encoding/binary"

// HeaderLength is that of a basic header segment (section 11.2.1), bytes.
const HeaderLength = 48

// DigestLength is that of a header or data digest (section 13.1), bytes.
const DigestLength = 4

// MaxAHSLength is what TotalAHSLength can tell at most, bytes.
const MaxAHSLength = 255 * 4

// MaxDataSegmentLength is what DataSegmentLength can tell at most, bytes.
const MaxDataSegmentLength = 1<<24 - 1

// NoTag is the Initiator or Target Transfer Tag that stands for none (sections
// 11.2.1.8, 11.7.4).
const NoTag = 0xffffffff

// An Opcode says what a PDU is (section 11.2.1.2).
type Opcode byte

// What an initiator sends.
const (
	OpNOPOut         Opcode = 0x00
	OpSCSICommand    Opcode = 0x01
	OpTaskManagement Opcode = 0x02
	OpLogin          Opcode = 0x03
	OpText           Opcode = 0x04
	OpDataOut        Opcode = 0x05
	OpLogout         Opcode = 0x06
	OpSNACK          Opcode = 0x10
)

// What a target sends.
const (
	OpNOPIn                  Opcode = 0x20
	OpSCSIResponse           Opcode = 0x21
	OpTaskManagementResponse Opcode = 0x22
	OpLoginResponse          Opcode = 0x23
	OpTextResponse           Opcode = 0x24
	OpDataIn                 Opcode = 0x25
	OpLogoutResponse         Opcode = 0x26
	OpR2T                    Opcode = 0x31
	OpAsync                  Opcode = 0x32
	OpReject                 Opcode = 0x3f
)

// A Header is a basic header segment. Its methods give the fields that several
// PDUs share; the others are those of the PDUs' own types.
type Header [HeaderLength]byte

// Opcode is what the PDU is.
func (h *Header) Opcode() Opcode { return Opcode(h[0] & 0x3f) }

// Immediate is the I bit: the request does not take a place in the order of
// commands (section 4.2.2.1).
func (h *Header) Immediate() bool { return h[0]&0x40 != 0 }

// Final is the F bit.
func (h *Header) Final() bool { return h[1]&0x80 != 0 }

// AHSLength is that of all additional header segments, bytes.
func (h *Header) AHSLength() int { return int(h[4]) * 4 }

// DataLength is that of the data segment without its padding, bytes.
func (h *Header) DataLength() int { return int(h[5])<<16 | int(h[6])<<8 | int(h[7]) }

// SetDataLength is for a PDU whose data is known after its header.
func (h *Header) SetDataLength(n int) {
	h[5], h[6], h[7] = byte(n>>16), byte(n>>8), byte(n)
}

// Length is that of the whole PDU, padding and digests included, bytes. A data
// digest is there only with data (section 11.2.3).
func (h *Header) Length(headerDigest, dataDigest bool) int {
	n := HeaderLength + h.AHSLength()
	if headerDigest {
		n += DigestLength
	}
	if data := h.DataLength(); data > 0 {
		n += data + Padding(data)
		if dataDigest {
			n += DigestLength
		}
	}
	return n
}

// Padding is how many bytes fill a segment of n bytes up to a whole word
// (section 11.1).
func Padding(n int) int { return -n & 3 }

// LUN is the logical unit number, 8 bytes as SAM has them.
func (h *Header) LUN() uint64 { return binary.BigEndian.Uint64(h[8:]) }

// ITT is the Initiator Task Tag.
func (h *Header) ITT() uint32 { return binary.BigEndian.Uint32(h[16:]) }

// TTT is the Target Transfer Tag, of the PDUs that have one.
func (h *Header) TTT() uint32 { return binary.BigEndian.Uint32(h[20:]) }

// CmdSN is a request's, of all but Data-Out and SNACK.
func (h *Header) CmdSN() uint32 { return binary.BigEndian.Uint32(h[24:]) }

// ExpStatSN is a request's: it has got all answers before this one.
func (h *Header) ExpStatSN() uint32 { return binary.BigEndian.Uint32(h[28:]) }

// SetStatSN numbers a response, or says in an R2T and in a NOP-In with no
// Initiator Task Tag what the next will have. Data-In without status has none.
func (h *Header) SetStatSN(n uint32) { binary.BigEndian.PutUint32(h[24:], n) }

// SetWindow says which commands a target takes (section 4.2.2.1).
func (h *Header) SetWindow(expCmdSN, maxCmdSN uint32) {
	binary.BigEndian.PutUint32(h[28:], expCmdSN)
	binary.BigEndian.PutUint32(h[32:], maxCmdSN)
}

// StatSN is a response's.
func (h *Header) StatSN() uint32 { return binary.BigEndian.Uint32(h[24:]) }

// ExpCmdSN is a response's.
func (h *Header) ExpCmdSN() uint32 { return binary.BigEndian.Uint32(h[28:]) }

// MaxCmdSN is a response's.
func (h *Header) MaxCmdSN() uint32 { return binary.BigEndian.Uint32(h[32:]) }

// Before reports whether serial number a comes before b: they wrap (section
// 4.2.2.1, RFC 1982).
func Before(a, b uint32) bool { return int32(a-b) < 0 }
