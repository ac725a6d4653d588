package board

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board/sysfs/sysfstest"
)

func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		name, compatible, line string
		want                   string
		err                    string
	}{
		{"QEMU", `linux,dummy-virt\0`, "", Virt, ""},
		{"Pi 3B", `raspberrypi,3-model-b\0brcm,bcm2837\0`, "", Pi, ""},
		{"Pi 3B+", `raspberrypi,3-model-b-plus\0brcm,bcm2837\0`, "", Pi, ""},
		{"Pi 4B", `raspberrypi,4-model-b\0brcm,bcm2711\0`, "console=null bmc.slot=a", Pi, ""},
		{"CM4", `raspberrypi,4-compute-module\0brcm,bcm2711\0`, "", Pi, ""},
		{"Zero 2 W", `raspberrypi,model-zero-2-w\0brcm,bcm2837\0`, "", Pi, ""},
		{"the chip alone", `acme,board\0brcm,bcm2711\0`, "", Pi, ""},
		{"overridden", `linux,dummy-virt\0`, "quiet bmc.board=rpi panic=5", Pi, ""},
		{"overridden twice", `acme,board\0`, "bmc.board=rpi bmc.board=virt", Virt, ""},
		{"another", `acme,board\0acme,chip\0`, "xbmc.board=rpi", "", `["acme,board" "acme,chip"]`},
		{"overridden by another", `linux,dummy-virt\0`, "bmc.board=nano", "", "bmc.board=nano"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := sysfstest.Root(t, "proc/cmdline = quiet "+tt.line, "proc/device-tree/compatible = "+tt.compatible)
			got, err := Detect(root)
			if got != tt.want || (err == nil) != (tt.err == "") {
				t.Fatalf("got %q, %v, want %q", got, err, tt.want)
			}
			if err != nil && (!errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %v with %s", err, ErrUnknown, tt.err)
			}
		})
	}
	if _, err := Detect(sysfstest.Root(t, "proc/cmdline = quiet")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no device tree: got %v, want %v", err, fs.ErrNotExist)
	}
}

func FuzzDetect(f *testing.F) {
	f.Add("linux,dummy-virt\x00", "quiet")
	f.Add("a\x00b", "bmc.board=rpi\n")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, compatible, line string) {
		root := sysfstest.Root(t, "proc/device-tree")
		for name, text := range map[string]string{"proc/device-tree/compatible": compatible, "proc/cmdline": line} {
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := Detect(root); (got == Pi || got == Virt) == (err != nil) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
