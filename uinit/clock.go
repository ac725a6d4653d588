package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockFile below /perm has the last known time as its time of change.
const clockFile = "clock"

// buildTime reads what the build wrote: RFC 3339, or seconds since 1970; zero
// where it wrote nothing.
func buildTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	return time.Parse(time.RFC3339, text)
}

// notBefore sets the clock forward to t, if it is behind that. The boards have
// no clock that runs without power.
func notBefore(t time.Time) error {
	if !time.Now().Before(t) {
		return nil
	}
	v := unix.NsecToTimeval(t.UnixNano())
	if err := unix.Settimeofday(&v); err != nil {
		return fmt.Errorf("the clock: %w", err)
	}
	return nil
}

// lastTime is the last time that was kept in a folder; zero where none was.
func lastTime(dir string) (time.Time, error) {
	info, err := os.Stat(filepath.Join(dir, clockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// keepTime keeps the present time. It is on the disk when it returns nil, and so
// shows whether the folder can be written to.
func keepTime(dir string) error {
	path := filepath.Join(dir, clockFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	now := time.Now()
	return errors.Join(os.Chtimes(path, now, now), f.Sync(), f.Close())
}
