package bmc

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/update"
)

// TestUpdateKeys: the keys of the settings are trusted, and at once.
func TestUpdateKeys(t *testing.T) {
	b, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	updates := b.openUpdates()
	if updates == nil {
		t.Fatalf("the folder cannot be used: %v", b.Events.Since(0, 0))
	}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	var bundle bytes.Buffer
	manifest := []byte(`{"format": 1, "version": "1.0.0", "revision": "x", "arch": "arm64"}`)
	if err := update.Write(&bundle, manifest, func(string) (io.Reader, error) { return nil, errors.New("it has no files") }, key); err != nil {
		t.Fatal(err)
	}
	put := func() error {
		_, err := updates.Put(t.Context(), bytes.NewReader(bundle.Bytes()), -1, host.Origin{})
		return err
	}
	if err := put(); !errors.Is(err, update.ErrNoKey) {
		t.Errorf("by default: got %v, want %v", err, update.ErrNoKey)
	}
	if err := b.Settings.Set("update.keys", `["no key"]`); err == nil {
		t.Error("a key that is none: got no error")
	}
	if err := b.Settings.Set("update.keys", `["`+update.FormatKey(key.Public().(ed25519.PublicKey))+`"]`); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Errorf("with the key: got %v", err)
	}
	if staged, ok := updates.Staged(); !ok || !staged.Downgrade {
		t.Errorf("got %+v, %v, want a version that is older than 1.2.3", staged, ok)
	}
	if err := b.Settings.Unset("update.keys"); err != nil {
		t.Fatal(err)
	}
	if err := put(); !errors.Is(err, update.ErrNoKey) {
		t.Errorf("without it again: got %v, want %v", err, update.ErrNoKey)
	}
}

// TestNoUpdates: a disk that does not work is no reason not to serve.
func TestNoUpdates(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(filepath.Join(dir, updateDir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := b.openUpdates(); got != nil {
		t.Errorf("got %v, want none", got)
	}
	if list := b.Events.Since(0, 0); len(list) == 0 || list[len(list)-1].Kind != "update.failed" {
		t.Errorf("got events %v, want update.failed at the end", list)
	}
}
