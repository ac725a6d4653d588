package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nitrino/nitrino/host"
)

// checkBoot refuses what a machine cannot boot: neither has a firmware setup
// that could be entered, and QEMU's SeaBIOS has no UEFI mode.
func checkBoot(t host.BootTarget, m host.BootMode, uefi bool) error {
	if m == host.BootModeUEFI && !uefi {
		return fmt.Errorf("boot mode %s: %w", m, errors.ErrUnsupported)
	}
	if !slices.Contains([]host.BootTarget{host.BootDefault, host.BootPXE, host.BootDisk, host.BootCD, host.BootUSB}, t) {
		return fmt.Errorf("boot target %s: %w", t, errors.ErrUnsupported)
	}
	return nil
}
