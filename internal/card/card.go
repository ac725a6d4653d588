// Package card says how a card is laid out: what the image puts on it, the
// board's firmware reads, and the running software mounts and switches.
package card

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The partitions of the card's MBR.
const (
	// BootPartition (FAT32) holds bootcode.bin, autoboot.txt, the owner's
	// settings and the first login.
	BootPartition = 1
	// SlotA and SlotB (FAT32) each hold a whole system: firmware, kernel,
	// initramfs, device trees, config.txt, cmdline.txt and manifest.
	SlotA = 2
	SlotB = 3
	// PermPartition (ext4) holds everything that outlives a restart. It is
	// grown to the card's end at the first start.
	PermPartition = 4
)

// Files of the boot partition.
const (
	AutobootFile = "autoboot.txt"
	SettingsFile = "bmc.json"
	// LoginFile is where the first login is left for the owner.
	LoginFile = "login.json"
)

// Files of a slot.
const (
	ConfigFile    = "config.txt"
	CmdlineFile   = "cmdline.txt"
	KernelFile    = "kernel8.img"
	InitramfsFile = "initramfs.img"
	ManifestFile  = "manifest.json"
)

// Words of the kernel's command line.
const (
	// SlotParam names the slot that runs: "a" or "b".
	SlotParam = "bmc.slot"
	// BoardParam overrides the board that the device tree names: "rpi", "virt".
	BoardParam = "bmc.board"
	// TrialParam is "1" where the slot runs on trial and the device tree has no
	// place to say so.
	TrialParam = "bmc.tryboot"
)

// TryArgument is what reboot(2) is given (LINUX_REBOOT_CMD_RESTART2) so that the
// slot under [tryboot] is started once.
const TryArgument = "0 tryboot"

// SlotName answers "a" or "b" for a slot's partition, else "".
func SlotName(partition int) string {
	switch partition {
	case SlotA:
		return "a"
	case SlotB:
		return "b"
	}
	return ""
}

// SlotPartition is the reverse of SlotName; 0 for no slot's name.
func SlotPartition(name string) int {
	switch name {
	case "a":
		return SlotA
	case "b":
		return SlotB
	}
	return 0
}

// OtherSlot answers the partition of the slot that partition is not.
func OtherSlot(partition int) int { return SlotA + SlotB - partition }

// An Autoboot is the content of autoboot.txt, the switch between the slots.
type Autoboot struct {
	// Boot is the partition that is started, Try the one that is started once
	// after a reboot with TryArgument.
	Boot, Try int
}

// AutobootSize is the size of autoboot.txt in bytes: one sector, so that it is
// overwritten in place and a cut leaves the old text or the new.
const AutobootSize = 512

// Encode returns the file, AutobootSize bytes long. The padding is a comment of
// blank-free lines, which every version of the firmware skips.
func (a Autoboot) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "[all]\ntryboot_a_b=1\nboot_partition=%d\n[tryboot]\nboot_partition=%d\n", a.Boot, a.Try)
	for b.Len() < AutobootSize {
		n := min(AutobootSize-b.Len(), 64)
		if n > 1 {
			b.WriteByte('#')
			b.WriteString(strings.Repeat("-", n-2))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// errNoPartition says that autoboot.txt names no partition to start.
var errNoPartition = errors.New("no boot_partition")

// ParseAutoboot reads autoboot.txt as the firmware does: [all], [none] and
// [tryboot] filter the lines below them, an unknown filter hides its lines, an
// unknown key is skipped, the last value counts. A missing boot_partition is an
// error, a missing one under [tryboot] makes Try the same as Boot.
func ParseAutoboot(text []byte) (Autoboot, error) {
	var a Autoboot
	section := "all"
	for line := range strings.Lines(string(bytes.TrimRight(text, "\x00"))) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.ToLower(strings.TrimSuffix(name, "]"))
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key != "boot_partition" || strings.HasPrefix(line, "#") {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 63 {
			return Autoboot{}, fmt.Errorf("autoboot.txt: boot_partition %q is not a partition", value)
		}
		switch section {
		case "all":
			a.Boot, a.Try = n, n
		case "tryboot":
			a.Try = n
		}
	}
	if a.Boot == 0 {
		return Autoboot{}, fmt.Errorf("autoboot.txt: %w", errNoPartition)
	}
	return a, nil
}
