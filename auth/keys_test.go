package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func noReport(string) {}

func TestTLSCertificate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	made, err := TLSCertificate(dir, []string{"bmc-7.example", "192.0.2.9", "localhost", "::1"}, now, noReport)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("got key %T, want ECDSA P-256", leaf.PublicKey)
	}
	if len(leaf.IPAddresses) != 3 || leaf.Subject.CommonName != "bmc-7.example" || leaf.SerialNumber.Sign() <= 0 {
		t.Errorf("got addresses %v, subject %v, serial %v", leaf.IPAddresses, leaf.Subject, leaf.SerialNumber)
	}
	names := []string{"bmc-7.example", "192.0.2.9", "localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil && isHostName(h) {
		names = append(names, h)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, name := range names {
		for _, at := range []time.Time{time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC), now, now.AddDate(20, 0, 0)} {
			if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: at}); err != nil {
				t.Errorf("%s in %d: %v", name, at.Year(), err)
			}
		}
	}
	again, err := TLSCertificate(dir, []string{"other"}, now.AddDate(50, 0, 0), noReport)
	if err != nil || !bytes.Equal(again.Certificate[0], made.Certificate[0]) {
		t.Errorf("second call: %v, or another certificate", err)
	}
	if err := handshake(again, roots); err != nil {
		t.Errorf("handshake: %v", err)
	}
}

func handshake(c tls.Certificate, roots *x509.CertPool) error {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c}})
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = errors.Join(conn.(*tls.Conn).Handshake(), conn.Close())
		}
		served <- err
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots})
	if err == nil {
		err = conn.Close()
	}
	return errors.Join(err, l.Close(), <-served)
}

func TestCertificateBeforeTime(t *testing.T) {
	c, err := TLSCertificate(t.TempDir(), nil, time.Unix(3600, 0), noReport)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Leaf.NotBefore.Before(time.Unix(3600, 0)) {
		t.Errorf("begins %v, after now", c.Leaf.NotBefore)
	}
	if _, err := TLSCertificate(t.TempDir(), []string{"no name"}, now, noReport); !errors.Is(err, ErrInvalid) {
		t.Errorf("bad name: got %v, want %v", err, ErrInvalid)
	}
}

func TestIsHostName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "bmc-1.example.com": true, "1.example": true, "": false, "-a": false, "a-": false, "a..b": false,
		"a.": false, "a_b": false, "a b": false, "é": false, "*.example": false,
		strings.Repeat("x", 63): true, strings.Repeat("x", 64): false,
	} {
		if got := isHostName(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

// TestKeyFiles is what the three kinds of key have in common.
func TestKeyFiles(t *testing.T) {
	for _, c := range []struct {
		file string
		load func(dir string, report func(string)) (string, error)
	}{
		{tlsFile, func(dir string, report func(string)) (string, error) {
			c, err := TLSCertificate(dir, nil, now, report)
			if err != nil {
				return "", err
			}
			return string(c.Certificate[0]), nil
		}},
		{sshFile, func(dir string, report func(string)) (string, error) {
			s, err := SSHHostKey(dir, report)
			if err != nil {
				return "", err
			}
			if s.PublicKey().Type() != "ssh-ed25519" {
				return "", errors.New(s.PublicKey().Type())
			}
			return string(s.PublicKey().Marshal()), nil
		}},
		{sealFile, func(dir string, report func(string)) (string, error) {
			k, err := SealKey(dir, "serial", report)
			return string(k[:]), err
		}},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.file)
		var reports []string
		report := func(message string) { reports = append(reports, message) }
		load := func() string {
			t.Helper()
			v, err := c.load(dir, report)
			if err != nil {
				t.Fatalf("%s: %v", c.file, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: got mode %v, %v, want 0600", c.file, info.Mode(), err)
			}
			return v
		}
		first := load()
		if load() != first {
			t.Errorf("%s: another key at the second call", c.file)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if load() != first {
			t.Errorf("%s: another key after a change of mode", c.file)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(reports) != 0 {
			t.Errorf("%s: got reports %q for a good file", c.file, reports)
		}
		damaged := data[:len(data)/2]
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		second := load()
		if second == first || load() != second {
			t.Errorf("%s: a damaged key was not replaced once", c.file)
		}
		if len(reports) != 1 || !strings.Contains(reports[0], c.file+" is damaged") || !strings.Contains(reports[0], c.file+".bad") {
			t.Errorf("%s: got reports %q, want one that names both files", c.file, reports)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || !bytes.Equal(kept, damaged) {
			t.Errorf("%s: the damaged file was not kept: %v", c.file, err)
		}

		// What cannot be read is no reason for a new identity.
		if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.load(dir, report); err == nil {
			t.Errorf("%s: no error for a file that cannot be read", c.file)
		}
		if _, err := c.load(filepath.Join(path+".bad", "x"), report); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v for a folder that cannot be", c.file, err)
		}
	}
}

func TestSealKeyMixesSerial(t *testing.T) {
	dir := t.TempDir()
	a, errA := SealKey(dir, "1", noReport)
	b, errB := SealKey(dir, "2", noReport)
	raw, errC := os.ReadFile(filepath.Join(dir, sealFile))
	if err := errors.Join(errA, errB, errC); err != nil {
		t.Fatal(err)
	}
	if a == b || bytes.Equal(a[:], raw) {
		t.Error("the serial number makes no difference")
	}
}
