// Package sysfs finds devices of one class, by what carries them.
package sysfs

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// A Device is one of a class (a terminal, a network interface) that is carried
// by hardware.
type Device struct {
	Name string // in the class, and in /dev
	// Carrier is the folder in sysfs of what carries it, links resolved. The
	// kernel may have put devices of its own between it and the hardware.
	Carrier string
}

// Class lists the devices of a class that are carried by hardware, in the order
// of where they are plugged in, which stays the same over restarts. root is the
// folder that holds /sys ("/").
func Class(root, class string) ([]Device, error) {
	folder := filepath.Join(root, "sys/class", class)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var list []Device
	for _, e := range entries {
		carrier, err := filepath.EvalSymlinks(filepath.Join(folder, e.Name(), "device"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue // a virtual one, a file, or one that was just unplugged
		}
		if err != nil {
			return nil, err
		}
		list = append(list, Device{e.Name(), carrier})
	}
	slices.SortFunc(list, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Carrier, b.Carrier), cmp.Compare(a.Name, b.Name))
	})
	return list, nil
}

// On returns the nearest folder from the carrier upwards that is a device on
// the bus ("usb", "pci", "amba"), "" for none.
func (d Device) On(bus string) string {
	for folder := d.Carrier; folder != filepath.Dir(folder); folder = filepath.Dir(folder) {
		if Link(folder, "subsystem") == bus {
			return folder
		}
	}
	return ""
}

// Link returns the last part of where a link in a device's folder leads
// ("driver", "subsystem", "of_node"), "" where it is not there.
func Link(folder, name string) string {
	target, err := os.Readlink(filepath.Join(folder, name))
	if err != nil {
		return "" // not there, or just unplugged
	}
	return filepath.Base(target)
}
