package sdcard

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/update"
	"github.com/nitrino/nitrino/update/manifest"
)

// Contents are what a card is made from.
type Contents struct {
	// Version is nitrino's, Revision the commit it was built from.
	Version, Revision string
	// Date is that of every file and file system: the commit's, so that the same
	// source gives the same card.
	Date time.Time
	// Settings is the document bmc.json, checked by the caller; empty: the
	// defaults count.
	Settings []byte
	// Components are the parts that File.Component names.
	Components []manifest.Component
	// Boot are files of the boot partition besides autoboot.txt, the settings
	// and the text for the owner: what the ROM of a board loads.
	Boot []File
	// Slot are the files of both slots besides config.txt, cmdline.txt and the
	// manifest.
	Slot []File
}

// A File goes onto the card.
type File struct {
	Name      string // path from the partition's root, with slashes
	Component string // the part it belongs to; "" in the boot partition
	Data      []byte
}

// arch is what the firmware's, the kernel's and our own files are built for.
const arch = "arm64"

// Own is the component of the files that this package writes itself.
const Own = "nitrino"

// configText is config.txt of both slots (www.raspberrypi.com/documentation,
// config.txt).
const configText = `# nitrino. An update replaces this file.
arm_64bit=1
kernel=` + card.KernelFile + `
initramfs ` + card.InitramfsFile + ` followkernel
# The device trees are Linux's own, under its names: bcm2837-rpi-3-b.dtb.
upstream_kernel=1

# The least memory for the graphics, which nothing here uses. It selects the
# firmware start_cd.elf, start4cd.elf.
gpu_mem=16
disable_splash=1
boot_delay=0
camera_auto_detect=0
display_auto_detect=0

# The serial port on the header is the COM port of the machine next door: the
# firmware holds its line idle and says nothing on it.
enable_uart=1
uart_2ndstage=0
dtoverlay=host-uart

# A kernel that does not come up in this time (in seconds) is given up.
kernel_watchdog_timeout=15

[pi02]
dtoverlay=header-gpio

[pi4]
dtoverlay=gadget

[all]
`

// words are those of the kernel's command line in both slots. No console: the
// only one a board has is the port that belongs to its host. The board starts
// again 5 s after a panic, and when no program has taken the watchdog over from
// the kernel in 60 s, where the firmware has started it. No network block
// devices beforehand, and no control groups, which u-root's init mounts unless
// told that a systemd follows: both cost time and serve nothing.
const words = "console=null quiet loglevel=4 panic=5 watchdog.open_timeout=60 nbd.nbds_max=0 uroot.initflags=systemd=1"

// slotWords name the slot, and the one to start after a panic.
func slotWords(slot string) string {
	other := card.OtherSlot(card.SlotPartition(slot))
	return fmt.Sprintf("%s=%s bcm2835_wdt.panic_partition=%d", card.SlotParam, slot, other)
}

// Cmdline is cmdline.txt of a slot, "a" or "b", from the words of its manifest.
func Cmdline(words, slot string) []byte {
	return []byte(words + " " + slotWords(slot) + "\n")
}

// readme is for who opens the card on a computer.
const readme = `This card runs nitrino, a board that manages the machine beside it.

bmc.json      its settings: host name, SSH keys, wires, what is enabled.
              {"version": 1} alone takes every default. A mistake in it is
              reported, and the last good settings are used.
login.json    appears after the first start, with the first login. Write it
              down and delete it.

All settings with their meanings: docs/settings.md, the wires: docs/wiring.md,
at https://github.com/nitrino/nitrino
`

// bootFiles are all files of the boot partition.
func (c *Contents) bootFiles() ([]File, error) {
	settings := c.Settings
	if len(settings) == 0 {
		settings = []byte("{\"version\": 1}\n")
	}
	files := []File{
		{Name: card.AutobootFile, Data: card.Autoboot{Boot: card.SlotA, Try: card.SlotB}.Encode()},
		{Name: card.SettingsFile, Data: settings},
		{Name: "README.txt", Data: []byte(strings.ReplaceAll(readme, "\n", "\r\n"))},
	}
	for _, f := range c.Boot {
		if slices.ContainsFunc(files, func(o File) bool { return strings.EqualFold(o.Name, f.Name) }) {
			return nil, fmt.Errorf("sdcard: %s is on the boot partition twice", f.Name)
		}
		files = append(files, f)
	}
	return files, nil
}

// listed are the files that the manifest lists: the same in both slots.
func (c *Contents) listed() []File {
	files := append(slices.Clone(c.Slot), File{Name: card.ConfigFile, Component: Own, Data: []byte(configText)})
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files
}

// slotFiles are all files of the slot "a" or "b".
func (c *Contents) slotFiles(slot string, manifest []byte) []File {
	return append(c.listed(),
		File{Name: card.CmdlineFile, Data: Cmdline(words, slot)},
		File{Name: card.ManifestFile, Data: manifest})
}

// needed are the files that config.txt names.
func needed() []string {
	list := []string{card.KernelFile, card.InitramfsFile}
	for line := range strings.Lines(configText) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "dtoverlay="); ok {
			list = append(list, "overlays/"+name+".dtbo")
		}
	}
	return list
}

// manifest returns the document manifest.json of these contents.
func (c *Contents) manifest() ([]byte, error) {
	for _, name := range needed() {
		if !slices.ContainsFunc(c.Slot, func(f File) bool { return f.Name == name }) {
			return nil, fmt.Errorf("sdcard: %s is missing, which %s names", name, card.ConfigFile)
		}
	}
	m := manifest.Manifest{
		Format: manifest.Format, Version: c.Version, Revision: c.Revision, Arch: arch, Cmdline: words,
		Components: slices.Clone(c.Components),
	}
	own := sha256.New()
	for _, f := range c.listed() {
		if strings.EqualFold(f.Name, card.CmdlineFile) || strings.EqualFold(f.Name, card.ManifestFile) {
			return nil, fmt.Errorf("sdcard: %s is written by this package", f.Name)
		}
		if f.Component == Own {
			own.Write(f.Data) // a hash never fails
		}
		m.Files = append(m.Files, manifest.File{
			Name: f.Name, Component: f.Component, Size: int64(len(f.Data)), SHA256: Hash(f.Data),
		})
	}
	if !slices.ContainsFunc(m.Components, func(p manifest.Component) bool { return p.Name == Own }) {
		m.Components = append(m.Components, manifest.Component{
			Name: Own, Version: c.Version, Source: "github.com/nitrino/nitrino " + c.Revision, SHA256: hex.EncodeToString(own.Sum(nil)),
		})
	}
	return m.Encode()
}

// WriteBundle writes the bundle (package update) that makes a slot of these
// contents, signed with the keys.
func (c *Contents) WriteBundle(w io.Writer, keys ...ed25519.PrivateKey) error {
	text, err := c.manifest()
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, f := range c.listed() {
		files[f.Name] = f.Data
	}
	return update.Write(w, text, func(name string) (io.Reader, error) { return bytes.NewReader(files[name]), nil }, keys...)
}

// Hash is the SHA-256 of data as a manifest has it.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Bytes is how much Write reports to its progress altogether.
func (c *Contents) Bytes() (int64, error) {
	text, err := c.manifest()
	if err != nil {
		return 0, err
	}
	boot, err := c.bootFiles()
	if err != nil {
		return 0, err
	}
	var n int64
	for _, list := range [][]File{boot, c.slotFiles("a", text), c.slotFiles("b", text)} {
		for _, f := range list {
			n += int64(len(f.Data))
		}
	}
	return n, nil
}
