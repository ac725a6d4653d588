package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The hardware's watchdog resets the board unless it is fed. The Pi's counts 15
// seconds at most.
const (
	watchdogPath    = "/dev/watchdog0"
	watchdogSeconds = 15
)

// A hardwareWatchdog is an open watchdog. It is never closed: one that is goes
// on counting, so that a restart that hangs ends too.
type hardwareWatchdog struct {
	f *os.File
}

// openWatchdog starts it.
func openWatchdog(path string) (*hardwareWatchdog, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	w := &hardwareWatchdog{f}
	// The call answers the time that the hardware can do, in the same place.
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, watchdogSeconds); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return w, fmt.Errorf("%s: its time cannot be set: %w", path, err)
	}
	return w, nil
}

// Feed gives it the whole time again.
func (w *hardwareWatchdog) Feed() error {
	_, err := w.f.Write([]byte{0}) // not 'V', which would stop it
	return err
}
