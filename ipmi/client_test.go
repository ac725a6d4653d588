package ipmi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
	"testing"
	"time"

	"github.com/nitrino/nitrino/ipmi/command"
)

// console is a client of our own: it shares no code with the server, and every
// step of it can be done wrong on purpose.
type console struct {
	t    testing.TB
	w    *worker
	mail mailbox

	user, password, kg  string
	suite               byte // 17 or 3
	openPrivilege, role byte
	tag                 byte
	consoleID, id       uint32
	rc, rm, guid        [16]byte
	sik, k1, k2         []byte
	seq                 uint32
	rqSeq               byte
}

// send hands a datagram over and returns the answer to it at once.
func (c *console) send(p []byte) []byte {
	in := slices.Clone(p)
	out := slices.Clone(c.w.handle(in))
	c.w.finish()
	return out
}

func plain(kind byte, body []byte) []byte {
	p := []byte{6, 0, 0xFF, 7, 6, kind, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(body)), byte(len(body) >> 8)}
	return append(p, body...)
}

// body takes an answer outside a session apart.
func (c *console) body(p []byte, kind byte) []byte {
	c.t.Helper()
	if len(p) < 16 || p[5] != kind || len(p) != 16+int(binary.LittleEndian.Uint16(p[14:])) {
		c.t.Fatalf("answer % X is no payload of type %02X", p, kind)
	}
	return p[16:]
}

// algorithms of a suite, all three.
func algorithms(suite byte) [3]byte {
	return map[byte][3]byte{
		0: {0, 0, 0}, 1: {1, 0, 0}, 2: {1, 1, 0}, 3: {1, 1, 1}, 4: {1, 1, 2}, 6: {2, 0, 0}, 7: {2, 2, 0}, 8: {2, 2, 1},
		11: {2, 3, 0}, 12: {2, 3, 1}, 15: {3, 0, 0}, 16: {3, 4, 0}, 17: {3, 4, 1}, 18: {3, 4, 2},
	}[suite]
}

func openRequestOf(tag, privilege byte, consoleID uint32, algorithms [3]byte) []byte {
	b := []byte{tag, privilege, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, consoleID)
	for i, a := range algorithms {
		b = append(b, byte(i), 0, 0, 8, a, 0, 0, 0)
	}
	return b
}

// open does Open Session and answers its status.
func (c *console) open() byte {
	c.t.Helper()
	c.tag++
	r := c.body(c.send(plain(0x10, openRequestOf(c.tag, c.openPrivilege, c.consoleID, algorithms(c.suite)))), 0x11)
	if r[0] != c.tag || binary.LittleEndian.Uint32(r[4:]) != c.consoleID {
		c.t.Fatalf("Open Session Response % X: want tag %d and console ID %08X", r, c.tag, c.consoleID)
	}
	if r[1] == 0 {
		c.id = binary.LittleEndian.Uint32(r[8:])
	}
	return r[1]
}

func (c *console) rakp1Body(username string) []byte {
	c.tag++
	b := []byte{c.tag, 0, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, c.id)
	b = append(b, c.rc[:]...)
	b = append(b, c.role, 0, 0, byte(len(username)))
	return append(b, username...)
}

// rakp1 does RAKP 1 and answers RAKP 2, whole.
func (c *console) rakp1() []byte {
	c.t.Helper()
	rand.Read(c.rc[:])
	return c.rakp2(c.send(plain(0x12, c.rakp1Body(c.user))))
}

// rakp2 reads RAKP 2.
func (c *console) rakp2(p []byte) []byte {
	c.t.Helper()
	r := c.body(p, 0x13)
	if r[0] != c.tag {
		c.t.Fatalf("RAKP 2 has tag %d, want %d", r[0], c.tag)
	}
	if r[1] == 0 {
		copy(c.rm[:], r[8:])
		copy(c.guid[:], r[24:])
	}
	return r
}

func (c *console) newHash() hash.Hash {
	if c.suite == 3 {
		return sha1.New()
	}
	return sha256.New()
}

func (c *console) mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(c.newHash, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

func (c *console) key() []byte {
	return append([]byte(c.password), make([]byte, 20-len(c.password))...)
}

func (c *console) name() []byte { return append([]byte{c.role, byte(len(c.user))}, c.user...) }

// code2 is what RAKP 2 must carry.
func (c *console) code2() []byte {
	return c.mac(c.key(), le32(c.consoleID), le32(c.id), c.rc[:], c.rm[:], c.guid[:], c.name())
}

func (c *console) rakp3Body(status byte) []byte {
	c.tag++
	b := append([]byte{c.tag, status, 0, 0}, le32(c.id)...)
	if status != 0 {
		return b
	}
	return append(b, c.mac(c.key(), c.rm[:], le32(c.consoleID), c.name())...)
}

// rakp3 does RAKP 3, answers RAKP 4 whole, and makes the session's keys.
func (c *console) rakp3() []byte {
	c.t.Helper()
	r := c.rakp4(c.send(plain(0x14, c.rakp3Body(0))))
	c.keys()
	return r
}

func (c *console) rakp4(p []byte) []byte {
	c.t.Helper()
	r := c.body(p, 0x15)
	if r[0] != c.tag {
		c.t.Fatalf("RAKP 4 has tag %d, want %d", r[0], c.tag)
	}
	return r
}

func (c *console) keys() {
	kg := []byte(c.kg)
	if len(kg) == 0 {
		kg = c.key()
	}
	c.sik = c.mac(kg, c.rc[:], c.rm[:], c.name())
	c.k1 = c.mac(c.sik, slices.Repeat([]byte{1}, 20))
	c.k2 = c.mac(c.sik, slices.Repeat([]byte{2}, 20))
	c.seq = 0
}

func (c *console) codeLen() int {
	if c.suite == 3 {
		return 12
	}
	return 16
}

// login goes all the way and checks both of the BMC's codes.
func (c *console) login() *console {
	c.t.Helper()
	if status := c.open(); status != 0 {
		c.t.Fatalf("Open Session: status %02Xh", status)
	}
	if r := c.rakp1(); r[1] != 0 || !slices.Equal(r[40:], c.code2()) {
		c.t.Fatalf("RAKP 2 is % X, want code % X", r, c.code2())
	}
	r := c.rakp3()
	if r[1] != 0 {
		c.t.Fatalf("RAKP 4: status %02Xh", r[1])
	}
	if want := c.mac(c.sik, c.rc[:], le32(c.id), c.guid[:])[:c.codeLen()]; !slices.Equal(r[8:], want) {
		c.t.Fatalf("RAKP 4 has code % X, want % X", r[8:], want)
	}
	return c
}

// admin logs in and raises the session to privilege p.
func (c *console) at(p command.Privilege) *console {
	c.t.Helper()
	c.login()
	if code, _ := c.command(command.App, 0x3B, byte(p)); code != command.OK {
		c.t.Fatalf("Set Session Privilege Level %v: %v", p, code)
	}
	return c
}

func request(rqSeq byte, n command.NetFn, cmd byte, data ...byte) []byte {
	m := []byte{0x20, byte(n) << 2}
	m = append(m, -sum(m))
	tail := append([]byte{0x81, rqSeq << 2, cmd}, data...)
	return append(append(m, tail...), -sum(tail))
}

func sum(p []byte) (s byte) {
	for _, b := range p {
		s += b
	}
	return s
}

// seal makes a packet of the session.
func (c *console) seal(seq uint32, kind byte, body []byte) []byte {
	pad := (16 - (len(body)+1)%16) % 16
	text := slices.Clone(body)
	for i := range pad {
		text = append(text, byte(i+1))
	}
	return c.frame(seq, kind, c.encrypt(append(text, byte(pad))))
}

// encrypt does no padding: text must be whole blocks.
func (c *console) encrypt(text []byte) []byte {
	iv := make([]byte, 16)
	rand.Read(iv)
	block, err := aes.NewCipher(c.k2[:16])
	if err != nil {
		c.t.Fatal(err)
	}
	out := slices.Clone(text)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, text)
	return append(iv, out...)
}

// frame puts session header and trailer round a payload.
func (c *console) frame(seq uint32, kind byte, payload []byte) []byte {
	p := append([]byte{6, 0, 0xFF, 7, 6, kind}, le32(c.id)...)
	p = append(p, le32(seq)...)
	p = append(p, byte(len(payload)), byte(len(payload)>>8))
	p = append(p, payload...)
	n := 0
	for (len(p)-4+2)%4 != 0 {
		p = append(p, 0xFF)
		n++
	}
	p = append(p, byte(n), 7)
	return append(p, c.mac(c.k1, p[4:])[:c.codeLen()]...)
}

// unseal opens a packet of the BMC and returns the payload.
func (c *console) unseal(p []byte) []byte {
	c.t.Helper()
	at := len(p) - c.codeLen()
	if at < 32 || p[5]&0xC0 != 0xC0 || binary.LittleEndian.Uint32(p[6:]) != c.consoleID {
		c.t.Fatalf("% X is no sealed packet for console %08X", p, c.consoleID)
	}
	if want := c.mac(c.k1, p[4:at])[:c.codeLen()]; !slices.Equal(p[at:], want) {
		c.t.Fatalf("packet has AuthCode % X, want % X", p[at:], want)
	}
	n := int(binary.LittleEndian.Uint16(p[14:]))
	block, err := aes.NewCipher(c.k2[:16])
	if err != nil {
		c.t.Fatal(err)
	}
	text := slices.Clone(p[32 : 16+n])
	cipher.NewCBCDecrypter(block, p[16:32]).CryptBlocks(text, text)
	pad := int(text[len(text)-1])
	for i, b := range text[len(text)-1-pad : len(text)-1] {
		if int(b) != i+1 {
			c.t.Fatalf("confidentiality pad in % X", text)
		}
	}
	return text[:len(text)-1-pad]
}

// response takes an IPMI response message apart.
func (c *console) response(m []byte, rqSeq byte, n command.NetFn, cmd byte) (command.Code, []byte) {
	c.t.Helper()
	if len(m) < 8 || sum(m[:3]) != 0 || sum(m[3:]) != 0 || m[0] != 0x81 || m[1] != byte(n+1)<<2 || m[3] != 0x20 || m[4] != rqSeq<<2 || m[5] != cmd {
		c.t.Fatalf("% X is no response to %02X/%02X with sequence %d", m, n, cmd, rqSeq)
	}
	return command.Code(m[6]), m[7 : len(m)-1]
}

// next makes the session's next packet.
func (c *console) next(body []byte) []byte {
	c.seq++
	return c.seal(c.seq, 0xC0, body)
}

// wait returns a packet that the server sends by itself.
func (c *console) wait() []byte {
	c.t.Helper()
	select {
	case p := <-c.mail:
		return p
	case <-time.After(10 * time.Second):
		c.t.Fatal("no answer")
		return nil
	}
}

// command runs one in the session.
func (c *console) command(n command.NetFn, cmd byte, data ...byte) (command.Code, []byte) {
	c.t.Helper()
	c.rqSeq = (c.rqSeq + 1) & 0x3F
	out := c.send(c.next(request(c.rqSeq, n, cmd, data...)))
	if len(out) == 0 {
		out = c.wait()
	}
	return c.response(c.unseal(out), c.rqSeq, n, cmd)
}
