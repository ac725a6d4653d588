//go:build e2e

package initramfs

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pierrec/lz4/v4"

	"github.com/nitrino/nitrino/image/kernel"
)

func cacheFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "nitrino")
}

func build(t *testing.T) *Initramfs {
	t.Helper()
	i, err := Build(t.Context(), Options{
		Tree: filepath.Join("..", ".."), Package: "./image/initramfs/testdata/hello",
		Version: "v1.2.3", Built: time.Date(2026, 11, 14, 12, 56, 1, 0, time.UTC),
		Cache: cacheFolder(t), Progress: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestBuild: the archive holds what it should and not a file more, and two
// builds give the same bytes.
func TestBuild(t *testing.T) {
	one, two := build(t), build(t)
	if !bytes.Equal(one.Data, two.Data) {
		t.Error("two builds differ")
	}
	if !slices.Equal(one.Components, two.Components) {
		t.Errorf("components %v and %v", one.Components, two.Components)
	}
	var archive bytes.Buffer
	// The zeros at the end are no frame.
	if _, err := archive.ReadFrom(lz4.NewReader(bytes.NewReader(one.Data))); archive.Len() == 0 {
		t.Fatal(err)
	}
	files, err := readArchive(archive.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Mode.String()+" "+f.Name)
	}
	want := []string{
		"drwxr-xr-x bbin", "-rwxr-xr-x bbin/bb", "Lrwxrwxrwx bbin/init",
		"Lrwxrwxrwx init", "drwxr-xr-x bin", "-rwxr-xr-x bin/uinit",
	}
	if !slices.Equal(got, want) {
		t.Errorf("it holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	t.Logf("%d bytes, %d packed", archive.Len(), len(one.Data))
}

// TestBoot boots it on our kernel, with the modules for tests appended: each can
// be loaded in their order.
func TestBoot(t *testing.T) {
	k, err := kernel.Build(t.Context(), kernel.Options{Cache: cacheFolder(t), Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	modules, err := TestModules(k)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, append(build(t).Data, modules...), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "512",
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", k.Image, "-initrd", initrd, "-append", "console=ttyAMA0 panic=-1")
	out, err := cmd.CombinedOutput()
	log := strings.ReplaceAll(string(out), "\r", "")
	if err != nil {
		t.Fatalf("QEMU: %v\n%s", err, log)
	}
	want := []string{"hello: version v1.2.3, built 2026-11-14T12:56:01Z, parent 1\n"}
	for _, m := range k.Modules {
		want = append(want, "-"+filepath.Base(m)+": <nil>\n")
	}
	for _, w := range want {
		if !strings.Contains(log, w) {
			t.Errorf("the console lacks %q", w)
		}
	}
	if t.Failed() {
		t.Log(log)
	}
}
