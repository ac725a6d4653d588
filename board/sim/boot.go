package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nitrino/nitrino/host"
)

// checkBoot refuses what neither machine can boot: both have a PC BIOS, so
// there is no UEFI mode, and no firmware setup that could be entered.
func checkBoot(t host.BootTarget, m host.BootMode) error {
	if m == host.BootModeUEFI {
		return fmt.Errorf("boot mode %s: %w", m, errors.ErrUnsupported)
	}
	if !slices.Contains([]host.BootTarget{host.BootDefault, host.BootPXE, host.BootDisk, host.BootCD}, t) {
		return fmt.Errorf("boot target %s: %w", t, errors.ErrUnsupported)
	}
	return nil
}
