package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/image/sdcard"
	"github.com/nitrino/nitrino/update"
)

// makeKey makes the private key of releases, which is never written over, and
// prints the public one as the settings take it.
func makeKey(file string, stdout io.Writer) error {
	private, public, err := update.NewKey()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("-newkey: %w", err)
	}
	_, err = f.Write(private)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	_, err = fmt.Fprintf(stdout, "Boards trust what %s signs with these settings:\n{\"version\": 1, \"update\": {\"keys\": [\"%s\"]}}\n", file, update.FormatKey(public))
	return err
}

func readKey(file string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	key, err := update.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("-key %s: %w", file, err)
	}
	return key, nil
}

// makeBundle writes the bundle of these contents. It takes the place of one that
// is there when it is whole.
func makeBundle(file string, c *sdcard.Contents, key ed25519.PrivateKey, stdout io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	if err = c.WriteBundle(f, key); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	_, err = fmt.Fprintf(stdout, "%s: version %s, signed\n", file, c.Version)
	return err
}
