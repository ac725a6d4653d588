//go:build e2e

package overlays

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/image/kernel"
)

// TestApply lays every overlay over the device tree of every board of the real
// kernel, and reads what Linux will.
func TestApply(t *testing.T) {
	cache := os.Getenv("NITRINO_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "nitrino")
	}
	k, err := kernel.Build(t.Context(), kernel.Options{Cache: cache, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if len(k.DTBs) < 7 {
		t.Errorf("got the device trees %q, want those of seven boards", k.DTBs)
	}
	list, err := Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var files []string
	for _, o := range list {
		path := filepath.Join(dir, o.Name+".dtbo")
		if err := os.WriteFile(path, o.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	for _, dtb := range k.DTBs {
		t.Run(filepath.Base(dtb), func(t *testing.T) {
			tree := filepath.Join(t.TempDir(), "applied.dtb")
			if out, err := exec.Command("fdtoverlay", append([]string{"-i", dtb, "-o", tree}, files...)...).CombinedOutput(); err != nil {
				t.Fatalf("fdtoverlay: %v: %s", err, out)
			}
			get := func(node, property string) string {
				t.Helper()
				out, err := exec.Command("fdtget", tree, node, property).CombinedOutput()
				if err != nil {
					t.Fatalf("fdtget %s %s: %v: %s", node, property, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			uart0, uart1 := get("/__symbols__", "uart0"), get("/__symbols__", "uart1")
			pins := get("/__symbols__", "uart0_gpio14")
			for _, tt := range []struct{ node, property, want string }{
				{uart0, "compatible", "arm,pl011 arm,primecell"},
				{uart0, "status", "okay"},
				{uart0, "pinctrl-0", get(pins, "phandle")},
				{pins, "brcm,pins", "14 15"},
				{pins, "brcm,function", "4"}, // ALT0
				{"/aliases", "serial0", uart0},
				{uart1, "status", "disabled"},
				{get("/__symbols__", "bt"), "status", "disabled"},
				{get("/__symbols__", "usb"), "compatible", "brcm,bcm2835-usb"},
				{get("/__symbols__", "usb"), "dr_mode", "peripheral"},
				// The sensors' bus, on pins 3 and 5 of the header, needs no overlay.
				{get("/__symbols__", "i2c1"), "status", "okay"},
				{get("/__symbols__", "i2c1_gpio2"), "brcm,pins", "2 3"},
				// No pin of the header is given away.
				{get("/__symbols__", "gpio"), "pinctrl-0", ""},
			} {
				if got := get(tt.node, tt.property); got != tt.want {
					t.Errorf("%s of %s: got %q, want %q", tt.property, tt.node, got, tt.want)
				}
			}
		})
	}
}
