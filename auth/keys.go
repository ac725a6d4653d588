package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// The files of the board's own keys, each with mode 0600.
const (
	tlsFile  = "tls.pem" // certificate and key together: one rename, no mismatch
	sshFile  = "ssh_host_ed25519_key"
	sealFile = "seal.key"
)

// The life of a self-made certificate. The board has no clock of its own: it
// may make the certificate long before it learns the time, and must not lose
// it then. 2049 is the last year that RFC 5280 section 4.1.2.5 writes in the
// form that every client reads.
var (
	certificateFrom = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	certificateTo   = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// TLSCertificate returns the certificate in dir; where there is none it makes
// one: ECDSA P-256, self-signed, for the board's host name, localhost,
// 127.0.0.1, ::1 and the given names or addresses. It is made once: other names
// later change nothing, since clients have pinned it. The owner may put another
// (chain first, then key, PEM) in its place. A damaged file is renamed to
// "….bad" and replaced, and report is told in a sentence for people. now only
// matters if it is before the fixed date that certificates begin with.
func TLSCertificate(dir string, names []string, now time.Time, report func(message string)) (tls.Certificate, error) {
	return keptOrMade(filepath.Join(dir, tlsFile),
		func(data []byte) (tls.Certificate, error) { return tls.X509KeyPair(data, data) },
		func() ([]byte, error) { return makeCertificate(names, now) },
		"HTTPS has a new self-made certificate", report)
}

// SSHHostKey returns the Ed25519 host key in dir (OpenSSH's format), made at the
// first call. A damaged file is treated as TLSCertificate's.
func SSHHostKey(dir string, report func(message string)) (ssh.Signer, error) {
	return keptOrMade(filepath.Join(dir, sshFile), ssh.ParsePrivateKey, func() ([]byte, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		block, err := ssh.MarshalPrivateKey(key, "")
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(block), nil
	}, "SSH has a new host key, which clients will warn of", report)
}

// SealKey returns the key for Options.SealKey: 32 random bytes kept in dir, made
// at the first call, mixed by HKDF-SHA-256 (RFC 5869) with the board's serial
// number, so that a card read elsewhere does not open the secrets without the
// number of its board. A damaged file is treated as TLSCertificate's; the
// secrets sealed with it are lost then.
func SealKey(dir string, boardSerial string, report func(message string)) ([32]byte, error) {
	key, err := keptOrMade(filepath.Join(dir, sealFile),
		func(data []byte) ([]byte, error) {
			if len(data) != 32 {
				return nil, fmt.Errorf("%d bytes instead of 32", len(data))
			}
			return data, nil
		},
		func() ([]byte, error) { return randomBytes(32), nil },
		"the IPMI secrets sealed with it must be set again", report)
	if err != nil {
		return [32]byte{}, err
	}
	mixed, err := hkdf.Key(sha256.New, key, []byte(boardSerial), "nitrino seal key 1", 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("seal key: %w", err)
	}
	return [32]byte(mixed), nil
}

// keptOrMade reads a key file; where it is not there, or parse refuses it, it
// makes a new one, which is on the disk before it is used. A file that cannot
// be read at all is an error: a card that fails to read must not cost the
// board its identity. What a new key means for people is for the report.
func keptOrMade[T any](path string, parse func([]byte) (T, error), create func() ([]byte, error), meaning string, report func(string)) (T, error) {
	var none T
	var damage error
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		var v T
		if v, damage = parse(data); damage == nil {
			if err := keepPrivate(path); err != nil {
				return none, err
			}
			return v, nil
		}
		if err := os.Rename(path, path+".bad"); err != nil {
			return none, fmt.Errorf("setting a damaged key aside: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return none, fmt.Errorf("key: %w", err)
	}
	if data, err = create(); err != nil {
		return none, fmt.Errorf("making %s: %w", filepath.Base(path), err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return none, fmt.Errorf("key: %w", err)
	}
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		return none, fmt.Errorf("key: %w", err)
	}
	v, err := parse(data)
	if err != nil {
		return none, fmt.Errorf("making %s: %w", filepath.Base(path), err)
	}
	if damage != nil {
		report(fmt.Sprintf("The key file %s is damaged (%v) and is kept as %[1]s.bad; %s.", filepath.Base(path), damage, meaning))
	}
	return v, nil
}

// keepPrivate takes away rights that others were given on a key file.
func keepPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	return nil
}

func makeCertificate(names []string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	from := certificateFrom
	if now.Before(from) {
		from = now.Add(-24 * time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(randomBytes(16)),
		NotBefore:             from,
		NotAfter:              certificateTo,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	hostname, err := os.Hostname()
	if err == nil && isHostName(hostname) {
		template.DNSNames = append(template.DNSNames, hostname)
	}
	template.DNSNames = append(template.DNSNames, "localhost")
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			if !slices.ContainsFunc(template.IPAddresses, ip.Equal) {
				template.IPAddresses = append(template.IPAddresses, ip)
			}
			continue
		}
		if !isHostName(name) {
			return nil, fmt.Errorf("%w: %q is no host name or address", ErrInvalid, name)
		}
		if !slices.Contains(template.DNSNames, name) {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	// The name is for people; clients look at the alternative names only
	// (RFC 9525). 64 is RFC 5280's upper bound for it.
	first := slices.Concat(names, template.DNSNames)[0]
	template.Subject = pkix.Name{CommonName: first[:min(len(first), 64)]}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), nil
}

// isHostName is RFC 1123 section 2.1: labels of letters, digits and hyphens.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
