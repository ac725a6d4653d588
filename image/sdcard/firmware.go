package sdcard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/go-json-experiment/json"
	// The boards' firmware, pinned by go.mod. The package is empty: its files are
	// read from the module's folder when a card is made, and are in no program.
	_ "github.com/gokrazy/firmware"

	"github.com/nitrino/nitrino/update/manifest"
)

const (
	firmwareModule = "github.com/gokrazy/firmware"
	// firmwareName is the firmware's component.
	firmwareName = "raspberrypi-firmware"
	// romFile is what the ROM of a Pi 3 and a Zero 2 W loads from the boot
	// partition; a Pi 4 has the like in its EEPROM.
	romFile = "bootcode.bin"
)

// firmwareFiles are those of a slot: the second stages with their memory maps,
// for the Pi 3 and Zero 2 W and for the Pi 4 and CM4. config.txt asks for the
// cut-down ones; the others are what is loaded where config.txt cannot be read.
func firmwareFiles() []string {
	return []string{
		"start.elf", "fixup.dat", "start_cd.elf", "fixup_cd.dat",
		"start4.elf", "fixup4.dat", "start4cd.elf", "fixup4cd.dat",
		// Its second condition: it goes wherever the files go.
		"LICENSE.broadcom",
	}
}

// FirmwareDir returns the folder of the firmware's files and their version. It
// asks Go, in the source tree at tree, and loads the module where it is missing.
func FirmwareDir(ctx context.Context, tree string) (dir, version string, err error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", firmwareModule)
	cmd.Dir = tree
	out, err := cmd.Output()
	if err != nil {
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s%s", err, e.Stderr, out)
		}
		return "", "", fmt.Errorf("finding %s: %w", firmwareModule, err)
	}
	var module struct {
		Dir     string
		Version string
	}
	if err := json.Unmarshal(out, &module); err != nil {
		return "", "", fmt.Errorf("finding %s: %w", firmwareModule, err)
	}
	return module.Dir, module.Version, nil
}

// AddFirmware adds the firmware in dir to the contents.
func (c *Contents) AddFirmware(dir, version string) error {
	rom, err := os.ReadFile(filepath.Join(dir, romFile))
	if err != nil {
		return err
	}
	sum := sha256.New()
	sum.Write(rom) // a hash never fails
	c.Boot = append(c.Boot, File{Name: romFile, Data: rom})
	for _, name := range firmwareFiles() {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		sum.Write(data)
		c.Slot = append(c.Slot, File{Name: name, Component: firmwareName, Data: data})
	}
	c.Components = append(c.Components, manifest.Component{
		Name: firmwareName, Version: version, Source: "Go module " + firmwareModule, SHA256: hex.EncodeToString(sum.Sum(nil)),
	})
	return nil
}
