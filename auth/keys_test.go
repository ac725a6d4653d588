package auth

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

func noReport(string) {}

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
			c, err := OpenCertificate(dir, nil, clock, func(r Report) { report(r.Message) })
			if err != nil {
				return "", err
			}
			return c.PEM(), nil
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
