package tty

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/sysfs"
	"github.com/nitrino/nitrino/host"
)

// ErrNone says that no terminal is there that would do.
var ErrNone = errors.New("there is no such serial port")

// New returns the port that s names, nil for board.SerialNone. root is the
// folder with /sys and /dev ("/"), own finds the board's own port: its name in
// /sys/class/tty.
func New(root string, s board.Serial, own func() (string, error), log *slog.Logger) host.Port {
	var find func() (string, error)
	switch s.Port {
	case board.SerialNone:
		return nil
	case board.SerialBoard:
		find = own
	case board.SerialUSB:
		find = func() (string, error) { return firstUSB(root) }
	default:
		find = func() (string, error) {
			path, err := filepath.EvalSymlinks(filepath.Join(root, s.Port))
			return filepath.Base(path), err
		}
	}
	return &Port{Baud: s.Baud, Log: log, Find: func() (string, error) {
		name, err := find()
		if err != nil {
			return "", err
		}
		if err := checkConsole(root, name); err != nil {
			return "", err
		}
		if s.Port == board.SerialBoard || s.Port == board.SerialUSB {
			return filepath.Join(root, "dev", name), nil
		}
		return filepath.Join(root, s.Port), nil
	}}
}

// checkConsole answers ErrConsole for a terminal on which the kernel prints.
func checkConsole(root, name string) error {
	active, err := os.ReadFile(filepath.Join(root, "sys/class/tty/console/active"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without consoles has none
		return err
	}
	if slices.Contains(strings.Fields(string(active)), name) {
		return fmt.Errorf("%s: %w", name, ErrConsole)
	}
	return nil
}

// firstUSB finds the first USB serial adapter. A gadget's ports, whose other
// end is the host's USB, are on no USB bus of ours.
func firstUSB(root string) (string, error) {
	list, err := sysfs.Class(root, "tty")
	if err != nil {
		return "", err
	}
	for _, t := range list {
		if t.On("usb") != "" {
			return t.Name, nil
		}
	}
	return "", fmt.Errorf("%w: no USB serial adapter", ErrNone)
}
