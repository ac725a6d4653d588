package initramfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/image/kernel"
)

// TestModulesAreInLoadOrder: by their names too.
func TestModulesAreInLoadOrder(t *testing.T) {
	dir := t.TempDir()
	k := &kernel.Kernel{}
	for _, name := range []string{"z-base.ko", "a-top.ko"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		k.Modules = append(k.Modules, file)
	}
	data, err := TestModules(k)
	if err != nil {
		t.Fatal(err)
	}
	files, err := readArchive(data)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		if f.Mode.Type() != fs.ModeDir {
			got = append(got, f.Name+" "+string(f.Data))
		}
	}
	want := []string{ModulesFolder + "/00-z-base.ko z-base.ko", ModulesFolder + "/01-a-top.ko a-top.ko"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	k.Modules = append(k.Modules, filepath.Join(dir, "gone.ko"))
	if data, err := TestModules(k); err == nil {
		t.Errorf("a missing module: %d bytes", len(data))
	}
}

// TestUrootHash: another version of what is pinned is built anew.
func TestUrootHash(t *testing.T) {
	hash := func(mod, sum string) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range map[string]string{"go.mod": mod, "go.sum": sum} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		h, err := urootHash(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	first := hash("module a\n", "1\n")
	if again := hash("module a\n", "1\n"); again != first {
		t.Errorf("the same in another folder: %s, want %s", again, first)
	}
	if other := hash("module b\n", "1\n"); other == first {
		t.Error("another go.mod gives the same hash")
	}
	if other := hash("module a\n", "2\n"); other == first {
		t.Error("another go.sum gives the same hash")
	}
	if h, err := urootHash(t.Context(), t.TempDir()); err == nil {
		t.Errorf("without go.mod: %s", h)
	}
}
