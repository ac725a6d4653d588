package auth

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

const (
	minRSABits  = 2048
	maxRSABits  = 16384 // OpenSSH's limit
	maxKeyBytes = 8192  // of an authorized_keys line
)

// PublicKey judges a login by a key, given in SSH wire form. The front-end must
// have verified the client's signature by it before: a success is a login, in
// the audit trail and for the lockout's usual places. For the question whether
// a key would do, which a client may ask about keys it does not have (RFC 4252
// section 7), there is User.
//
// A lock on password guessing does not stop keys. The errors are ErrDenied and
// ctx's.
func (a *Auth) PublicKey(ctx context.Context, t Attempt, key []byte) (User, error) {
	if err := ctx.Err(); err != nil {
		return User{}, err
	}
	var none record
	r := a.lookup(t.Name)
	known := r != nil && r.Enabled
	if !known {
		r = &none
	}
	// All places are compared, whether there are keys in them or not.
	digest, match := keyDigest(key), 0
	for i := range r.digests {
		match |= subtle.ConstantTimeCompare(digest[:], r.digests[i][:])
	}
	if a.lockouts.keysLocked(t) {
		return User{}, ErrDenied
	}
	ok := known && match == 1
	a.lockouts.keyResult(t, ok)
	if !ok {
		return User{}, ErrDenied
	}
	a.audit.login(t)
	return r.user(), nil
}

// keyDigest stands for a key of any length in the comparison.
func keyDigest(key []byte) [32]byte { return sha256.Sum256(key) }

// CheckKey says what is wrong with an authorized_keys line, nil if SetKeys
// takes it.
func CheckKey(line string) error {
	_, err := parseKey(line)
	return err
}

// parseKey takes one authorized_keys line (sshd(8), AUTHORIZED_KEYS FILE
// FORMAT) without options: what they forbid would not be forbidden here, so a
// line with some is refused rather than half obeyed.
func parseKey(line string) (ssh.PublicKey, error) {
	if len(line) > maxKeyBytes {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, maxKeyBytes)
	}
	if !utf8.ValidString(line) || strings.ContainsFunc(line, func(c rune) bool { return c != '\t' && unicode.IsControl(c) }) {
		return nil, fmt.Errorf("%w: not one line of text", ErrInvalid)
	}
	kind := ""
	if f := strings.Fields(line); len(f) > 0 {
		kind = f[0]
	}
	switch {
	case kind == "ssh-dss":
		return nil, fmt.Errorf("%w: DSA keys (%s) are too weak; use ssh-ed25519", ErrInvalid, kind)
	case strings.Contains(kind, "-cert-"):
		return nil, fmt.Errorf("%w: %s is a certificate; give the plain public key", ErrInvalid, kind)
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, fmt.Errorf("%w: not an authorized_keys line: %w", ErrInvalid, err)
	}
	if len(options) > 0 {
		return nil, fmt.Errorf("%w: options (%s) are not supported before a key", ErrInvalid, strings.Join(options, ","))
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return key, nil
	case ssh.KeyAlgoRSA:
		bits, err := rsaBits(key)
		if err != nil {
			return nil, err
		}
		if bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("%w: the RSA key has %d bits, allowed are %d to %d", ErrInvalid, bits, minRSABits, maxRSABits)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%w: %s keys are not supported", ErrInvalid, key.Type())
}

func rsaBits(key ssh.PublicKey) (int, error) {
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.N.BitLen(), nil
		}
	}
	return 0, fmt.Errorf("%w: not an RSA key", ErrInvalid)
}
