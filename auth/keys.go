package auth

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// The files of the board's own keys, each with mode 0600.
const (
	tlsFile  = "tls.pem"     // certificate and key together: one rename, no mismatch
	nextFile = "tls.csr.key" // the key whose certificate has been asked for
	sshFile  = "ssh_host_ed25519_key"
	sealFile = "seal.key"
)

// SSHHostKey returns the Ed25519 host key in dir (OpenSSH's format), made at the
// first call. A damaged file is treated as OpenCertificate's.
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
// number of its board. A damaged file is treated as OpenCertificate's; the
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

// RemoveKeys removes the board's keys from dir, those of the past too, so that it
// gets others at its next start: the seal key, which the users' IPMI secrets hang
// on, only where seal says so.
func RemoveKeys(dir string, seal bool) error {
	files := []string{tlsFile, nextFile, sshFile}
	if seal {
		files = append(files, sealFile)
	}
	var errs []error
	for _, name := range files {
		for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, name+badSuffix)} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("key: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// badSuffix is what a damaged file's name ends with once it is set aside.
const badSuffix = ".bad"

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
		if err := os.Rename(path, path+badSuffix); err != nil {
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
