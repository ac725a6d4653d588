//go:build e2e

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/image/sdcard"
	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/update/manifest"
)

// budget is how large kernel, initramfs and device trees of a slot may be.
const budget = 16 << 20

// TestCard makes the real card twice.
func TestCard(t *testing.T) {
	var cards [2]*os.File
	for i := range cards {
		file := filepath.Join(t.TempDir(), "card.img")
		if err := run(t.Context(), []string{"-o", file}, strings.NewReader(""), t.Output(), t.Output()); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}()
		cards[i] = f
		m, err := sdcard.CheckSlot(f, "a")
		if err = errors.Join(err, sdcard.Check(f)); err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, file := range m.Files {
			if file.Name == card.KernelFile || file.Name == card.InitramfsFile || strings.HasSuffix(file.Name, ".dtb") {
				size += file.Size
			}
		}
		t.Logf("kernel, initramfs and device trees: %d bytes, %.1f %% of the budget", size, 100*float64(size)/budget)
		if size > budget {
			t.Errorf("got %d bytes of kernel, initramfs and device trees, want %d at most", size, budget)
		}
		for _, name := range []string{
			"bcm2711-rpi-4-b.dtb", "bcm2711-rpi-cm4-io.dtb", "bcm2837-rpi-3-b.dtb", "bcm2837-rpi-3-b-plus.dtb", "bcm2837-rpi-zero-2-w.dtb",
			"start_cd.elf", "fixup_cd.dat", "start4cd.elf", "fixup4cd.dat", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat",
		} {
			if !slices.ContainsFunc(m.Files, func(f manifest.File) bool { return f.Name == name }) {
				t.Errorf("%s is not in the slot", name)
			}
		}
	}
	const chunk = 4 << 20
	first, second := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); at < sdcard.Size; at += chunk {
		if _, err := cards[0].ReadAt(first, at); err != nil {
			t.Fatal(err)
		}
		if _, err := cards[1].ReadAt(second, at); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Fatalf("two builds differ between %d and %d", at, at+chunk)
		}
	}
}
