package board

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/internal/card"
)

// Names of the boards that Detect knows.
const (
	Pi   = "rpi"
	Virt = "virt"
)

// ErrUnknown says that the software has no package for the board it runs on.
var ErrUnknown = errors.New("the board is not known")

// Detect says which board this is: what the kernel's command line says
// (card.BoardParam), else what the device tree's compatible strings do. root is
// the folder that holds /proc ("/").
func Detect(root string) (name string, err error) {
	line, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return "", err
	}
	if name, ok := parameter(string(line), card.BoardParam); ok {
		if name != Pi && name != Virt {
			return "", fmt.Errorf("%w: %s=%s on the kernel's command line, not %s or %s", ErrUnknown, card.BoardParam, name, Pi, Virt)
		}
		return name, nil
	}
	text, err := DeviceTree(root, "compatible")
	if err != nil {
		return "", err
	}
	compatible := strings.Split(text, "\x00")
	for _, c := range compatible { // the most specific comes first
		switch {
		case c == "linux,dummy-virt":
			return Virt, nil
		case strings.HasPrefix(c, "raspberrypi,"), c == "brcm,bcm2711", c == "brcm,bcm2837":
			return Pi, nil
		}
	}
	return "", fmt.Errorf("%w: its device tree is compatible with %q", ErrUnknown, compatible)
}

// parameter finds the last value of a word NAME=VALUE on a kernel's command line.
func parameter(line, name string) (value string, ok bool) {
	for _, word := range slices.Backward(strings.Fields(line)) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// DeviceTree reads a property of the device tree's root node, without the zero
// that ends its string, or its last one where it is a list (Devicetree
// Specification section 2.2.4). root is the folder that holds /proc ("/").
func DeviceTree(root, property string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, "proc/device-tree", property))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(b), "\x00"), nil
}
