// Package i2c makes chips on an I2C bus known to Linux, and is the memory that
// one of them has (Linux's Documentation/i2c/instantiating-devices.rst).
package i2c

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/sysfs"
)

// Buses are the I2C buses of a board.
type Buses struct {
	// Root is the folder that holds /sys ("/").
	Root string
	// Own says which of them is the board's own.
	Own func(sysfs.Device) bool
}

// find returns the folder in sysfs of the bus with that number; 0: the board's
// own, whose number may depend on what else is plugged in.
func (b Buses) find(number int) (string, error) {
	list, err := sysfs.Class(b.Root, "i2c-dev")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, d := range list {
		if number == 0 && b.Own(d) || number != 0 && d.Name == fmt.Sprintf("i2c-%d", number) {
			return d.Carrier, nil
		}
	}
	if number == 0 {
		return "", fmt.Errorf("%w: the board's own", board.ErrNoBus)
	}
	return "", fmt.Errorf("%w: i2c-%d", board.ErrNoBus, number)
}

// Device makes the chip at an address known to the kernel, if it is not yet, and
// returns its folder in sysfs, which stays the same over restarts. A chip that
// did not answer its driver is an error.
func (b Buses) Device(bus, address int, chip string) (string, error) {
	adapter, err := b.find(bus)
	if err != nil {
		return "", err
	}
	number := strings.TrimPrefix(filepath.Base(adapter), "i2c-")
	device := filepath.Join(adapter, fmt.Sprintf("%s-%04x", number, address))
	name, err := os.ReadFile(filepath.Join(device, "name"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	case strings.TrimSpace(string(name)) == chip && sysfs.Link(device, "driver") != "":
		return device, nil
	default:
		// Settings named another chip before, or it did not answer then. One
		// that the device tree declares cannot be taken away.
		if err := tell(filepath.Join(adapter, "delete_device"), fmt.Sprintf("%#x", address)); err != nil {
			return "", fmt.Errorf("%s at %#x is not %s: %w", strings.TrimSpace(string(name)), address, chip, err)
		}
	}
	if err := tell(filepath.Join(adapter, "new_device"), fmt.Sprintf("%s %#x", chip, address)); err != nil {
		return "", err
	}
	if sysfs.Link(device, "driver") == "" {
		return "", fmt.Errorf("%w: %s at %#x of %s", board.ErrNoAnswer, chip, address, filepath.Base(adapter))
	}
	return device, nil
}

// tell writes to a file that is there: sysfs has none to make.
func tell(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
