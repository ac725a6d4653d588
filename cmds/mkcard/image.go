package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/image/sdcard"
	"github.com/nitrino/nitrino/internal/progress"
)

// makeImage makes the image in the file, and leaves one alone that is it
// already: a board that ran from it has its state there. A new one takes the
// old one's place at once, when it is whole.
func makeImage(ctx context.Context, file string, c *sdcard.Contents, stdout io.Writer) error {
	if held, err := holds(file, c); err != nil {
		return err
	} else if held {
		_, err := fmt.Fprintf(stdout, "%s: made before, from the same parts and settings\n", file)
		return err
	}
	total, err := c.Bytes()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	m := progress.Start(stdout, file, total, "B")
	err = sdcard.Write(ctx, f, c, m.Add)
	if err == nil {
		err = sdcard.Check(f)
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	m.Done(err)
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// holds says whether the file is an image of these contents.
func holds(file string, c *sdcard.Contents) (held bool, err error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil {
		return false, err
	} else if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is no file (to write to a card: -device)", file)
	} else if info.Size() != sdcard.Size {
		return false, nil
	}
	return sdcard.Holds(f, c)
}
