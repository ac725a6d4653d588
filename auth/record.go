package auth

import (
	"bytes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/chacha20poly1305"
)

// The limits of a user.
const (
	// MaxUsers is how many users there can be.
	MaxUsers = 16
	// MaxName is the longest name in bytes (IPMI 2.0 section 22.28).
	MaxName = 16
	// MaxKeys is how many SSH public keys a user can have.
	MaxKeys = 16
	// MinPassword and MaxPassword bound a password's bytes.
	MinPassword = 8
	MaxPassword = 128
	// MinIPMISecret and MaxIPMISecret bound an IPMI secret's bytes (IPMI 2.0
	// section 22.30: 20 bytes in RMCP+).
	MinIPMISecret = 8
	MaxIPMISecret = 20
)

const userBucket = "users"

// record is a user as stored, and what is derived from it. It never changes
// once others see it.
type record struct {
	Name     string   `json:"name"`
	Role     Role     `json:"role"`
	Enabled  bool     `json:"enabled"`
	Password string   `json:"password,omitempty"` // PHC; none: no login by password
	Keys     []string `json:"keys,omitempty"`     // authorized_keys lines
	IPMI     []byte   `json:"ipmi,omitempty"`     // the sealed IPMI secret

	Number     int        `json:"number,omitempty"`    // 0 only before load gave one
	SecretSize int        `json:"ipmi_size,omitempty"` // User.IPMISecretSize
	Access     IPMIAccess `json:"ipmi_access,omitzero"`

	ChangeRequired bool `json:"change_required,omitempty"` // User.PasswordChangeRequired

	hash    phc               // of Password
	digests [MaxKeys][32]byte // of Keys
	secret  [MaxIPMISecret]byte
	opened  bool   // secret is there
	version uint64 // changes with name, password, role and Enabled

	ipmiVersion uint64 // User.IPMIVersion
}

func (r *record) user() User {
	return User{Name: r.Name, Role: r.Role, Enabled: r.Enabled, Number: r.Number,
		IPMI: r.opened, IPMISecretSize: r.SecretSize, IPMIAccess: r.Access,
		Keys: slices.Clone(r.Keys), PasswordChangeRequired: r.ChangeRequired,
		IPMIVersion: r.ipmiVersion, version: r.version}
}

// decodeRecord reads a stored user. Fields it does not know are left out, not
// refused: after a fall back to an older release the users must still log in.
func decodeRecord(name string, raw []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	if r.Name != name {
		return nil, fmt.Errorf("%w: name %q in the record of %q", ErrInvalid, r.Name, name)
	}
	// What only IPMI looks at keeps nobody from SSH and Redfish: a number that
	// cannot be is given anew, and access that is not understood is none.
	if checkNumber(r.Number) != nil {
		r.Number = 0
	}
	if checkSecretSize(r.SecretSize) != nil {
		r.SecretSize = 0
	}
	if r.Access.validate() != nil {
		r.Access = IPMIAccess{Limit: NoIPMI}
	}
	if err := r.derive(); err != nil {
		return nil, err
	}
	return &r, nil
}

// derive checks all but the IPMI secret, and fills what is derived from it.
func (r *record) derive() error {
	if err := checkName(r.Name); err != nil {
		return err
	}
	if r.Role.rank() == 0 {
		return fmt.Errorf("%w: role %q", ErrInvalid, r.Role)
	}
	if err := r.Access.validate(); err != nil {
		return err
	}
	r.hash = phc{}
	if r.Password != "" {
		var err error
		if r.hash, err = parsePHC(r.Password); err != nil {
			return fmt.Errorf("password of %s: %w", r.Name, err)
		}
	}
	if len(r.Keys) > MaxKeys {
		return fmt.Errorf("%w: %d SSH keys, at most %d", ErrInvalid, len(r.Keys), MaxKeys)
	}
	r.digests = [MaxKeys][32]byte{}
	for i, line := range r.Keys {
		key, err := parseKey(line)
		if err != nil {
			return fmt.Errorf("SSH key %d: %w", i+1, err)
		}
		r.digests[i] = keyDigest(key.Marshal())
	}
	return nil
}

// checkName takes [A-Za-z_][A-Za-z0-9_.-]*, at most MaxName bytes.
func checkName(name string) error {
	if name == "" || len(name) > MaxName {
		return fmt.Errorf("%w: a user name has 1 to %d characters", ErrInvalid, MaxName)
	}
	for i, c := range []byte(name) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		later := c >= '0' && c <= '9' || c == '.' || c == '-'
		if !letter && (i == 0 || !later) {
			return fmt.Errorf("%w: user name %q: it takes letters, digits, '_', '.' and '-', and begins with a letter or '_'", ErrInvalid, name)
		}
	}
	return nil
}

func checkPassword(password string, least int) error {
	if len(password) < least || len(password) > MaxPassword {
		return fmt.Errorf("%w: a password has %d to %d bytes", ErrInvalid, least, MaxPassword)
	}
	if !utf8.ValidString(password) || bytes.ContainsFunc([]byte(password), unicode.IsControl) {
		return fmt.Errorf("%w: a password is UTF-8 text without control characters", ErrInvalid)
	}
	return nil
}

// checkIPMISecret keeps to printable ASCII: the secret travels padded with zero
// bytes, and clients take it from a command line.
func checkIPMISecret(secret string, least int) error {
	if len(secret) < least || len(secret) > MaxIPMISecret {
		return fmt.Errorf("%w: an IPMI secret has %d to %d bytes", ErrInvalid, least, MaxIPMISecret)
	}
	for _, c := range []byte(secret) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("%w: an IPMI secret is printable ASCII", ErrInvalid)
		}
	}
	return nil
}

// seal encrypts an IPMI secret, which the protocol needs in clear (so hashing
// it is no way). The name is bound in: a sealed secret moved to another user's
// record does not open. The secret is sealed padded, so that its length does
// not show.
func (r *record) seal(key [32]byte, secret string) error {
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	r.secret = [MaxIPMISecret]byte{}
	copy(r.secret[:], secret)
	nonce := randomBytes(aead.NonceSize())
	r.IPMI = aead.Seal(nonce, nonce, r.secret[:], []byte(r.Name))
	r.opened = true
	return nil
}

// open decrypts the sealed secret, if there is one.
func (r *record) open(key [32]byte) error {
	r.opened = false
	if r.IPMI == nil {
		return nil
	}
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	if len(r.IPMI) != aead.NonceSize()+MaxIPMISecret+aead.Overhead() {
		return errors.New("the sealed secret has the wrong length")
	}
	nonce, sealed := r.IPMI[:aead.NonceSize()], r.IPMI[aead.NonceSize():]
	secret, err := aead.Open(nil, nonce, sealed, []byte(r.Name))
	if err != nil {
		return errors.New("the sealed secret does not open with this board's key")
	}
	copy(r.secret[:], secret)
	r.opened = true
	return nil
}

func newAEAD(key [32]byte) (cipher.AEAD, error) {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return aead, nil
}
