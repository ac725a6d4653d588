package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/image/flash"
	"github.com/nitrino/nitrino/update"
)

func TestBundle(t *testing.T) {
	dir := t.TempDir()
	keyFile, file := filepath.Join(dir, "release.pem"), filepath.Join(dir, "out", "nitrino.bundle")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-newkey", keyFile}, strings.NewReader(""), &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public().(ed25519.PublicKey)
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 || !strings.Contains(out.String(), `"`+update.FormatKey(public)+`"`) {
		t.Errorf("got %v, %v, %q, want a file for the owner alone, and the public key", info.Mode(), err, out.String())
	}
	if err := makeKey(keyFile, &out); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key over another: got %v, want %v", err, fs.ErrExist)
	}

	p := &fake{kernel: "one"}
	o := options{bundle: file, key: keyFile}
	for range 2 { // the second takes the first's place
		if err := makeCard(t.Context(), o, p, flash.Live(), dir, strings.NewReader(""), &out); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := update.Verify(t.Context(), f, update.Options{Keys: []ed25519.PublicKey{public}, Arch: "arm64", Running: version})
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if b.Manifest.Version != version || b.Manifest.Revision != "0123" || b.Downgrade || len(b.Manifest.Files) != 6 {
		t.Errorf("got %+v, want version %s and 6 files", b, version)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v beside the bundle, want nothing", left, err)
	}

	// A key that is none is told before anything is built.
	bad := filepath.Join(dir, "bad.pem")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.asked = 0
	if err := makeCard(t.Context(), options{bundle: file, key: bad}, p, flash.Live(), dir, strings.NewReader(""), &out); err == nil || !strings.Contains(err.Error(), "bad.pem") || p.asked != 0 {
		t.Errorf("a bad key: got %v, %d parts built, want an error that names the file, and none", err, p.asked)
	}
}
