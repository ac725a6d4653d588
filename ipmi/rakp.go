package ipmi

import (
	"encoding/binary"
	"net/netip"

	"github.com/nitrino/nitrino/ipmi/command"
)

// RMCP+ and RAKP status codes (table 13-15).
const (
	statusOK               = 0x00
	statusNoResources      = 0x01
	statusInvalidSession   = 0x02
	statusInvalidRole      = 0x09
	statusInvalidNameLen   = 0x0C
	statusInvalidICV       = 0x0F
	statusNoCipherSuite    = 0x11
	statusIllegalParameter = 0x12
)

const (
	maxNameLen = 16 // table 13-11, bytes 29:44
	wildcard   = -1 // an algorithm that the console leaves to us
)

// openRequest is an RMCP+ Open Session Request (section 13.17).
type openRequest struct {
	tag       byte
	privilege command.Privilege
	consoleID uint32
	// Algorithm numbers, wildcard where the console left them open.
	auth, integrity, confidentiality int
}

// parseOpen answers statusOK or the status to refuse with; ok is false where
// there is nobody to answer to.
func parseOpen(p []byte) (r openRequest, status byte, ok bool) {
	if len(p) < 8 {
		return r, 0, false
	}
	r.tag = p[0]
	r.privilege = command.Privilege(p[1] & 0x0F)
	r.consoleID = binary.LittleEndian.Uint32(p[4:])
	if len(p) < 32 {
		return r, statusIllegalParameter, true
	}
	for i, to := range []*int{&r.auth, &r.integrity, &r.confidentiality} {
		q := p[8+8*i:][:8]
		if int(q[0]) != i {
			return r, statusIllegalParameter, true
		}
		switch q[3] {
		case 0: // null payload: we choose (table 13-9)
			*to = wildcard
		case 8:
			*to = int(q[4] & 0x3F)
		default:
			return r, statusIllegalParameter, true
		}
	}
	if r.privilege > command.OEMLevel {
		return r, statusInvalidRole, true
	}
	return r, statusOK, true
}

// appendOpenResponse answers an Open Session Request (section 13.18).
func appendOpenResponse(b []byte, tag byte, s *session) []byte {
	b = append(b, tag, statusOK, byte(s.max), 0)
	b = binary.LittleEndian.AppendUint32(b, s.consoleID)
	b = binary.LittleEndian.AppendUint32(b, s.id)
	for i, algorithm := range []byte{s.suite.auth, s.suite.integrity, s.suite.confidentiality} {
		b = append(b, byte(i), 0, 0, 8, algorithm, 0, 0, 0)
	}
	return b
}

// appendStatus is the common form of a refusal: Open Session Response, RAKP 2
// and RAKP 4 all begin so, and end here on an error.
func appendStatus(b []byte, tag, status byte, consoleID uint32) []byte {
	b = append(b, tag, status, 0, 0)
	return binary.LittleEndian.AppendUint32(b, consoleID)
}

// rakp1 is a RAKP message 1 (section 13.20).
type rakp1 struct {
	tag      byte
	id       uint32 // the managed system's session ID
	random   [16]byte
	role     byte // as sent: it goes into the HMACs with the look-up bit
	username []byte
}

// parseRAKP1 answers statusOK or the status to refuse with; tag and id are
// right in both cases. ok is false where there is nobody to answer to.
func parseRAKP1(p []byte) (r rakp1, status byte, ok bool) {
	if len(p) < 8 {
		return r, 0, false
	}
	r.tag = p[0]
	r.id = binary.LittleEndian.Uint32(p[4:])
	if len(p) < 28 {
		return r, statusIllegalParameter, true
	}
	copy(r.random[:], p[8:])
	r.role = p[24]
	n := int(p[27])
	switch {
	case n > maxNameLen:
		return r, statusInvalidNameLen, true
	case len(p) < 28+n:
		return r, statusIllegalParameter, true
	}
	r.username = p[28 : 28+n]
	// Bit 4 asks for look-up by name alone, else by name and role (section
	// 13.20). Names are unique here, so both find the same user, and the role
	// is limited by the user's in both cases.
	if p := command.Privilege(r.role & 0x0F); p < command.Callback || p > command.OEMLevel {
		return r, statusInvalidRole, true
	}
	return r, statusOK, true
}

// rakp3 is a RAKP message 3 (section 13.22).
type rakp3 struct {
	tag    byte
	status byte // not 0: the console gives up
	id     uint32
	code   []byte // key exchange authentication code
}

func parseRAKP3(p []byte) (r rakp3, ok bool) {
	if len(p) < 8 {
		return r, false
	}
	return rakp3{tag: p[0], status: p[1], id: binary.LittleEndian.Uint32(p[4:]), code: p[8:]}, true
}

// exchange is what both sides know after RAKP 1 and 2, and the HMACs over it.
type exchange struct {
	consoleID, id         uint32
	consoleRandom, random [16]byte // RC and RM
	guid                  [16]byte
	role                  byte
	username              string
}

// code2 is RAKP 2's key exchange authentication code (section 13.31).
func (x *exchange) code2(s *suite, key []byte) []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, x.consoleID)
	b = binary.LittleEndian.AppendUint32(b, x.id)
	b = append(b, x.consoleRandom[:]...)
	b = append(b, x.random[:]...)
	b = append(b, x.guid[:]...)
	return s.hmac(key, x.appendUser(b))
}

// code3 is what RAKP 3 must carry (section 13.31).
func (x *exchange) code3(s *suite, key []byte) []byte {
	b := append([]byte(nil), x.random[:]...)
	b = binary.LittleEndian.AppendUint32(b, x.consoleID)
	return s.hmac(key, x.appendUser(b))
}

// sessionKey is the SIK; key is KG, or the user's where KG is not set (section
// 13.31).
func (x *exchange) sessionKey(s *suite, key []byte) []byte {
	b := append([]byte(nil), x.consoleRandom[:]...)
	b = append(b, x.random[:]...)
	return s.hmac(key, x.appendUser(b))
}

// code4 is RAKP 4's integrity check value, cut to the suite's length (section
// 13.28.1 and 13.28.4).
func (x *exchange) code4(s *suite, sik []byte) []byte {
	b := append([]byte(nil), x.consoleRandom[:]...)
	b = binary.LittleEndian.AppendUint32(b, x.id)
	b = append(b, x.guid[:]...)
	return s.hmac(sik, b)[:s.codeLen]
}

func (x *exchange) appendUser(b []byte) []byte {
	return append(append(b, x.role, byte(len(x.username))), x.username...)
}

// sourceOf is what counts as one source: an IPv4 address, or an IPv6 /64, which
// is the smallest network one attacker owns (RFC 4291 section 2.5.1).
func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked().Addr()
	}
	return a
}
