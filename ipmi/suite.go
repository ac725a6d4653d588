package ipmi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

// suite is a cipher suite (table 22-20): the three algorithms belong together,
// and a console gets all three as proposed or none.
type suite struct {
	id                               byte
	auth, integrity, confidentiality byte // tables 13-17 to 13-19
	newHash                          func() hash.Hash
	codeLen                          int // of a packet's AuthCode and of RAKP 4's check value
}

// suites returns what is offered, in the order of preference: 17, and where
// the owner allows it 3. Every other suite lacks encryption, or integrity, or
// rests on MD5 or RC4.
func suites(withSHA1 bool) []*suite {
	list := []*suite{{id: 17, auth: 3, integrity: 4, confidentiality: 1, newHash: sha256.New, codeLen: 16}}
	if withSHA1 {
		list = append(list, &suite{id: 3, auth: 1, integrity: 1, confidentiality: 1, newHash: sha1.New, codeLen: 12})
	}
	return list
}

// matches says whether a console that proposed r can be given s.
func (s *suite) matches(r *openRequest) bool {
	fits := func(want int, have byte) bool { return want == wildcard || want == int(have) }
	return fits(r.auth, s.auth) && fits(r.integrity, s.integrity) && fits(r.confidentiality, s.confidentiality)
}

func (s *suite) hmac(key, data []byte) []byte {
	m := hmac.New(s.newHash, key)
	m.Write(data)
	return m.Sum(nil)
}

// additionalKey is K1 or K2 (section 13.32).
func (s *suite) additionalKey(sik []byte, n byte) []byte {
	var constant [20]byte
	for i := range constant {
		constant[i] = n
	}
	return s.hmac(sik, constant[:])
}

// sealer protects one session's packets. Its states are made once, so that a
// packet allocates nothing.
type sealer struct {
	mac     hash.Hash // keyed with K1
	codeLen int
	block   cipher.Block // AES-128 with the first 16 bytes of K2 (section 13.29.1)
	sum     [sha256.Size]byte
}

func newSealer(s *suite, sik []byte) (*sealer, error) {
	block, err := aes.NewCipher(s.additionalKey(sik, 2)[:16])
	if err != nil {
		return nil, err
	}
	return &sealer{mac: hmac.New(s.newHash, s.additionalKey(sik, 1)), codeLen: s.codeLen, block: block}, nil
}

// code returns the AuthCode of p, valid until the next call.
func (z *sealer) code(p []byte) []byte {
	z.mac.Reset()
	z.mac.Write(p)
	return z.mac.Sum(z.sum[:0])[:z.codeLen]
}

// verify checks the session trailer of a packet without its RMCP header:
// integrity pad, pad length, next header 07h, AuthCode (section 13.6 and
// 13.28.4). n is the length of header and payload.
func (z *sealer) verify(p []byte, n int) bool {
	covered := len(p) - z.codeLen
	if covered < n+2 || subtle.ConstantTimeCompare(z.code(p[:covered]), p[covered:]) != 1 {
		return false
	}
	pad := int(p[covered-2])
	return p[covered-1] == 0x07 && pad == covered-2-n
}

// decrypt takes an AES-CBC payload apart, in place: IV, ciphertext that ends
// in a pad of 1, 2, 3 … and the pad's length (section 13.29.2).
func (z *sealer) decrypt(p []byte) ([]byte, bool) {
	if len(p) < 2*aes.BlockSize || len(p)%aes.BlockSize != 0 {
		return nil, false
	}
	// From the end, so that each block's predecessor is still ciphertext.
	for at := len(p) - aes.BlockSize; at > 0; at -= aes.BlockSize {
		block := p[at : at+aes.BlockSize]
		z.block.Decrypt(block, block)
		subtle.XORBytes(block, block, p[at-aes.BlockSize:at])
	}
	p = p[aes.BlockSize:]
	pad := int(p[len(p)-1])
	if pad >= aes.BlockSize {
		return nil, false
	}
	end := len(p) - 1 - pad
	for i, x := range p[end : len(p)-1] {
		if int(x) != i+1 {
			return nil, false
		}
	}
	return p[:end], true
}

// seal frames body as a packet of a session, encrypted and authenticated, in b,
// which must be empty. It does not allocate where b is long enough.
func (z *sealer) seal(b []byte, payload byte, id, seq uint32, body []byte) []byte {
	b = appendRMCP(b)
	b = append(b, authTypeFormat, 0xC0|payload)
	b = binary.LittleEndian.AppendUint32(b, id)
	b = binary.LittleEndian.AppendUint32(b, seq)
	pad := (aes.BlockSize - (len(body)+1)%aes.BlockSize) % aes.BlockSize
	b = binary.LittleEndian.AppendUint16(b, uint16(aes.BlockSize+len(body)+pad+1))

	start := len(b)
	var iv [aes.BlockSize]byte
	b = append(b, iv[:]...)
	_, _ = rand.Read(b[start:]) // it never fails, says its documentation
	b = append(b, body...)
	for i := range pad {
		b = append(b, byte(i+1))
	}
	b = append(b, byte(pad))
	for at := start + aes.BlockSize; at < len(b); at += aes.BlockSize {
		block := b[at : at+aes.BlockSize]
		subtle.XORBytes(block, block, b[at-aes.BlockSize:at])
		z.block.Encrypt(block, block)
	}

	// The AuthCode covers header to next header; the pad makes that a
	// multiple of 4 (section 13.6).
	n := 0
	for (len(b)-rmcpHeaderLen+2)%4 != 0 {
		b = append(b, 0xFF)
		n++
	}
	b = append(b, byte(n), 0x07)
	return append(b, z.code(b[rmcpHeaderLen:])...)
}
