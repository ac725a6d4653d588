//go:build e2e

package kernel

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestBuild builds the kernel, or takes it from the cache of who runs the test:
// the first time takes minutes (go test -timeout 60m).
func TestBuild(t *testing.T) {
	folder, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	k, err := Build(t.Context(), Options{Cache: filepath.Join(folder, "nitrino"), Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open(k.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	// Documentation/arch/arm64/booting.rst: the magic number is at 56.
	if got := string(image[56:60]); got != "ARM\x64" {
		t.Errorf("the image's magic number is %q", got)
	}
	if !bytes.Contains(image, []byte("Linux version "+k.Version+" (nitrino@nitrino)")) {
		t.Errorf("the image does not say version %s", k.Version)
	}
	// The folder of the build, whose name is random, is in nothing.
	for _, file := range append([]string{k.Config}, k.Modules...) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("/making-")) {
			t.Errorf("%s has the build's folder in it", file)
		}
	}
	if bytes.Contains(image, []byte("/making-")) {
		t.Error("the image has the build's folder in it")
	}
	for _, dtb := range k.DTBs {
		data, err := os.ReadFile(dtb)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte("__symbols__")) {
			t.Errorf("%s has no symbols for overlays", dtb)
		}
	}
	if len(k.DTBs) != len(boards()) || len(k.Components) != 1 {
		t.Errorf("%d device trees, %d components", len(k.DTBs), len(k.Components))
	}
	var names []string
	for _, m := range k.Modules {
		names = append(names, filepath.Base(m))
	}
	for _, pair := range [][2]string{{"usbip-core.ko", "vhci-hcd.ko"}, {"v4l2-tpg.ko", "vivid.ko"}} {
		first, second := slices.Index(names, pair[0]), slices.Index(names, pair[1])
		if first < 0 || second < first {
			t.Errorf("%s is not before %s in %v", pair[0], pair[1], names)
		}
	}
	t.Logf("kernel %s in %s", k.Version, k.Dir)
}
