package main

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// The boot ID differs at each power-up of the board and stays over everything
// else: what happens to the host depends on it. bootFile below /perm keeps it,
// with bootAgain behind it while the board restarts in order.
const (
	bootFile  = "boot-id"
	bootAgain = " restarts"
)

// A start of the board is one of these.
type startCause int

const (
	causeUnknown startCause = iota // the hardware does not say
	causePower
	causeReset
)

// resetStatus is the property of the device tree in which the Pi's firmware
// leaves the register PM_RSTS, big endian; resetPower is set in it after a
// power-on (HADPOR).
const (
	resetStatus = "proc/device-tree/chosen/bootloader/rsts"
	resetPower  = 0x1000
)

// whyStarted says why the board started. root is the folder that holds /proc.
func whyStarted(root string) startCause {
	b, err := os.ReadFile(filepath.Join(root, resetStatus))
	switch {
	case err != nil || len(b) != 4:
		return causeUnknown // other boards, older firmware
	case binary.BigEndian.Uint32(b)&resetPower != 0:
		return causePower
	}
	return causeReset
}

// takeBootID answers the boot ID of this start: the kept one, if the board was
// not without power since, else fresh. That the board restarted in order is
// forgotten on the disk before it counts: a power cut from now on is one.
func takeBootID(dir string, cause startCause, fresh string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, bootFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fresh, err
	}
	kept, again := strings.CutSuffix(strings.TrimSuffix(string(text), "\n"), bootAgain)
	id := fresh
	if kept != "" && (cause == causeReset || cause == causeUnknown && again) {
		id = kept
	}
	if again {
		if err := keepBootID(dir, id, ""); err != nil {
			return fresh, err // else the next power-up would have the same
		}
	}
	return id, nil
}

// keepBootID writes the file.
func keepBootID(dir, id, suffix string) error {
	return atomicfile.Write(filepath.Join(dir, bootFile), []byte(id+suffix+"\n"), 0o600)
}
