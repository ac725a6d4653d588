package login

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/block"
)

// maxBinary bounds CHAP_C and CHAP_R (section 12.1.3), bytes.
const maxBinary = 1024

// A step is where CHAP stands (section 12.1.3).
type step byte

const (
	unasked    step = iota // no AuthMethod yet
	chosen                 // it is CHAP; CHAP_A is to come
	challenged             // CHAP_N and CHAP_R are to come
	proved                 // or nothing had to be
)

// chap is the target's side of CHAP (RFC 1994).
type chap struct {
	step      step
	algorithm func() hash.Hash
	id        byte
	challenge []byte
}

// algorithm is one of PPP's numbers for them, as IANA's registry has them for
// CHAP_A; nil for others. MD5 is what firmware has: the challenge is ours and
// fresh, and a secret has 12 bytes or more.
func algorithm(number int) func() hash.Hash {
	switch number {
	case 5:
		return md5.New
	case 6:
		return sha1.New
	case 7:
		return sha256.New
	case 8:
		return func() hash.Hash { return sha3.New256() }
	}
	return nil
}

// security answers the keys of the security stage.
func (l *Login) security(offers *pairs) (answers pairs, err error) {
	if methods, ok := offers.take("AuthMethod"); ok {
		return l.method(methods)
	}
	switch l.chap.step {
	case chosen:
		if algorithms, ok := offers.take("CHAP_A"); ok {
			return l.challenge(algorithms)
		}
	case challenged:
		return l.verify(offers)
	}
	return nil, nil
}

// method chooses how the initiator proves who it is (section 12.1).
func (l *Login) method(methods string) (answers pairs, err error) {
	want := "None"
	if l.target.CHAP.User != "" {
		want = "CHAP"
	}
	for m := range strings.SplitSeq(methods, ",") {
		if m != want {
			continue
		}
		l.chap.step = proved
		if want == "CHAP" {
			l.chap.step = chosen
		}
		return pairs{{"AuthMethod", want}}, nil
	}
	return nil, refusal(AuthenticationFailure, "AuthMethod=%.40s, not %s", methods, want)
}

// challenge takes the initiator's first algorithm that there is.
func (l *Login) challenge(algorithms string) (answers pairs, err error) {
	for a := range strings.SplitSeq(algorithms, ",") {
		n, ok := number(a, 0, 255)
		if !ok {
			continue
		}
		if l.chap.algorithm = algorithm(n); l.chap.algorithm == nil {
			continue
		}
		random := make([]byte, 1+max(l.chap.algorithm().Size(), 16))
		if _, err := io.ReadFull(l.policy.Rand, random); err != nil {
			return nil, refusal(TargetError, "no challenge: %v", err)
		}
		l.chap.step, l.chap.id, l.chap.challenge = challenged, random[0], random[1:]
		return pairs{
			{"CHAP_A", strconv.Itoa(n)},
			{"CHAP_I", strconv.Itoa(int(l.chap.id))},
			{"CHAP_C", "0x" + hex.EncodeToString(l.chap.challenge)},
		}, nil
	}
	return nil, refusal(AuthenticationFailure, "CHAP_A=%.40s: none that is known", algorithms)
}

// verify looks at the initiator's answer, and answers its own challenge if there
// is one. What is wrong, the name or the secret, only takes the same time and
// gives the same answer.
func (l *Login) verify(offers *pairs) (answers pairs, err error) {
	name, named := offers.take("CHAP_N")
	response, answered := offers.take("CHAP_R")
	if !named || !answered {
		return nil, refusal(AuthenticationFailure, "CHAP without CHAP_N or CHAP_R")
	}
	c := l.target.CHAP
	got, ok := octets(response, maxBinary)
	want := l.chap.sum(l.chap.id, c, l.chap.challenge)
	if subtle.ConstantTimeCompare(got, want)&subtle.ConstantTimeCompare([]byte(name), []byte(c.User)) != 1 || !ok {
		return nil, refusal(AuthenticationFailure, "CHAP: a wrong name or secret")
	}
	l.chap.step, l.result.User = proved, c.User
	id, hasID := offers.take("CHAP_I")
	challenge, hasChallenge := offers.take("CHAP_C")
	if !hasID && !hasChallenge {
		return nil, nil
	}
	n, okID := number(id, 0, 255)
	theirs, okChallenge := octets(challenge, maxBinary)
	m := l.target.Mutual
	switch {
	case !okID || !okChallenge:
		return nil, refusal(AuthenticationFailure, "CHAP_I or CHAP_C of the initiator is wrong")
	case m.User == "":
		return nil, refusal(AuthenticationFailure, "the initiator wants the target to prove itself, which has no secret for that")
	case bytes.Equal(theirs, l.chap.challenge): // section 12.1.3
		return nil, refusal(AuthenticationFailure, "the initiator's challenge is ours")
	case m.Secret == c.Secret: // section 12.1.3: either could be got out of the other
		return nil, refusal(AuthenticationFailure, "the secrets of both directions are the same")
	}
	return pairs{
		{"CHAP_N", m.User},
		{"CHAP_R", "0x" + hex.EncodeToString(l.chap.sum(byte(n), m, theirs))},
	}, nil
}

// sum is the response to a challenge (RFC 1994 section 4.1).
func (c *chap) sum(id byte, by block.Credentials, challenge []byte) []byte {
	h := c.algorithm()
	h.Write(slices.Concat([]byte{id}, []byte(by.Secret), challenge)) // never fails
	return h.Sum(nil)
}
