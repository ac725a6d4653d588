package update

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParseKey reads a public key as the settings have it: the 32 bytes of an
// Ed25519 key in base64.
func ParseKey(text string) (ed25519.PublicKey, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is not an Ed25519 public key (%d bytes in base64)", text, ed25519.PublicKeySize)
	}
	return key, nil
}

// ParseKeys reads a list of keys that were checked before, and leaves out what
// is none.
func ParseKeys(texts []string) []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for _, text := range texts {
		if key, err := ParseKey(text); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// FormatKey is the reverse of ParseKey.
func FormatKey(key ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(key) }

// privateKeyType is that of a PKCS #8 key (RFC 7468 section 10).
const privateKeyType = "PRIVATE KEY"

// NewKey makes a private key, in the form that ParsePrivateKey and openssl read,
// with its public one.
func NewKey() (private []byte, public ed25519.PublicKey, err error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateKeyType, Bytes: der}), public, nil
}

// ParsePrivateKey reads a private key: PKCS #8 in PEM.
func ParsePrivateKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != privateKeyType {
		return nil, errors.New("not a private key in PEM (PKCS #8)")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the private key: %w", err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is not one of Ed25519")
	}
	return private, nil
}

// trusted says whether one of the keys made one of the signatures of text.
func trusted(keys []ed25519.PublicKey, text, signatures []byte) bool {
	for len(signatures) >= ed25519.SignatureSize {
		for _, key := range keys {
			if ed25519.Verify(key, text, signatures[:ed25519.SignatureSize]) {
				return true
			}
		}
		signatures = signatures[ed25519.SignatureSize:]
	}
	return false
}
