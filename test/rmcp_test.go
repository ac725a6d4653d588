//go:build bench

package test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net"
	"time"
)

// A session is an RMCP+ session with as little work on the client's side as
// can be, so that what is measured is the server. It checks that each answer
// is for its request and succeeded, not its integrity.
type session struct {
	conn  net.Conn
	id    uint32 // the server's
	seq   uint32
	rqSeq byte
	mac   hash.Hash
	macN  int // bytes of it that are sent
	aes   cipher.Block
	out   []byte
	in    []byte
}

// algorithms is a cipher suite.
type algorithms struct {
	auth, integrity byte
	new             func() hash.Hash
	macN            int
}

var (
	suite3  = algorithms{1, 1, sha1.New, 12}
	suite17 = algorithms{3, 4, sha256.New, 16}
)

const wait = 2 * time.Second

var errAnswer = errors.New("not the answer to the request")

// exchange sends a payload outside a session and returns the answer's.
func exchange(conn net.Conn, buf []byte, kind byte, body []byte) ([]byte, error) {
	p := append([]byte{6, 0, 0xff, 7, 6, kind, 0, 0, 0, 0, 0, 0, 0, 0}, byte(len(body)), 0)
	if _, err := conn.Write(append(p, body...)); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	if n < 18 || buf[5] != kind+1 {
		return nil, fmt.Errorf("payload type %02x: %w", kind, errAnswer)
	}
	if buf[17] != 0 {
		return nil, fmt.Errorf("payload type %02x: status %02x", kind, buf[17])
	}
	return buf[16:n], nil
}

// open logs in (IPMI 2.0 section 13.15 on) and asks for administrator.
func open(conn net.Conn, user, password string, a algorithms) (*session, error) {
	s := &session{conn: conn, macN: a.macN, in: make([]byte, 1024)}
	const console = 0x01020304
	body := []byte{0, 0, 0, 0}
	body = binary.LittleEndian.AppendUint32(body, console)
	for i, alg := range []byte{a.auth, a.integrity, 1} {
		body = append(body, byte(i), 0, 0, 8, alg, 0, 0, 0)
	}
	r, err := exchange(conn, s.in, 0x10, body)
	if err != nil {
		return nil, err
	}
	s.id = binary.LittleEndian.Uint32(r[8:])

	var rc, rm, guid [16]byte
	rand.Read(rc[:])
	const role = 0x14 // administrator, by name only
	body = binary.LittleEndian.AppendUint32([]byte{0, 0, 0, 0}, s.id)
	body = append(body, rc[:]...)
	body = append(append(body, role, 0, 0, byte(len(user))), user...)
	if r, err = exchange(conn, s.in, 0x12, body); err != nil {
		return nil, err
	}
	copy(rm[:], r[8:])
	copy(guid[:], r[24:])

	key := make([]byte, 20)
	copy(key, password)
	sum := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(a.new, key)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	name := append([]byte{role, byte(len(user))}, user...)
	body = binary.LittleEndian.AppendUint32([]byte{0, 0, 0, 0}, s.id)
	body = append(body, sum(key, rm[:], binary.LittleEndian.AppendUint32(nil, console), name)...)
	if _, err = exchange(conn, s.in, 0x14, body); err != nil {
		return nil, err
	}
	sik := sum(key, rc[:], rm[:], name)
	constant := func(b byte) []byte {
		c := make([]byte, 20)
		for i := range c {
			c[i] = b
		}
		return c
	}
	s.mac = hmac.New(a.new, sum(sik, constant(1)))
	if s.aes, err = aes.NewCipher(sum(sik, constant(2))[:16]); err != nil {
		return nil, err
	}
	return s, s.command(0x06, 0x3b, 4) // Set Session Privilege Level: administrator
}

// close ends the session and keeps the socket.
func (s *session) close() error {
	return s.command(0x06, 0x3c, byte(s.id), byte(s.id>>8), byte(s.id>>16), byte(s.id>>24))
}

// command sends one command and waits for its answer.
func (s *session) command(netFn, cmd byte, data ...byte) error {
	s.seq++
	s.rqSeq = (s.rqSeq + 4) & 0xfc
	msg := append([]byte{0x20, netFn << 2, 0, 0x81, s.rqSeq, cmd}, data...)
	msg[2] = -(msg[0] + msg[1])
	var total byte
	for _, b := range msg[3:] {
		total += b
	}
	msg = append(msg, -total)
	for pad := byte(1); (len(msg)+1)%16 != 0; pad++ {
		msg = append(msg, pad)
	}
	msg = append(msg, byte((16-(len(data)+7+1)%16)%16))
	var iv [16]byte
	binary.LittleEndian.PutUint32(iv[:], s.seq)
	cipher.NewCBCEncrypter(s.aes, iv[:]).CryptBlocks(msg, msg)

	p := append(s.out[:0], 6, 0, 0xff, 7, 6, 0xc0)
	p = binary.LittleEndian.AppendUint32(p, s.id)
	p = binary.LittleEndian.AppendUint32(p, s.seq)
	p = binary.LittleEndian.AppendUint16(p, uint16(16+len(msg)))
	p = append(append(p, iv[:]...), msg...)
	pads := byte(0)
	for ; (len(p)-4+2)%4 != 0; pads++ {
		p = append(p, 0xff)
	}
	p = append(p, pads, 7)
	s.mac.Reset()
	s.mac.Write(p[4:])
	p = s.mac.Sum(p)
	p = p[:len(p)-s.mac.Size()+s.macN]
	s.out = p
	if _, err := s.conn.Write(p); err != nil {
		return err
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	n, err := s.conn.Read(s.in)
	if err != nil {
		return err
	}
	if n < 16+32 {
		return errAnswer
	}
	r := s.in[16:n]
	length := int(binary.LittleEndian.Uint16(s.in[14:]))
	if length < 32 || length > len(r) || length%16 != 0 {
		return errAnswer
	}
	cipher.NewCBCDecrypter(s.aes, r[:16]).CryptBlocks(r[16:length], r[16:length])
	if r[16+4] != s.rqSeq || r[16+5] != cmd {
		return errAnswer
	}
	if r[16+6] != 0 {
		return fmt.Errorf("command %02x/%02x: completion code %02x", netFn, cmd, r[16+6])
	}
	return nil
}
