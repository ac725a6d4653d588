package kernel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func sample() recipe {
	built := time.Date(2026, 11, 14, 12, 56, 1, 0, time.UTC)
	return recipe{
		Source: "6.12.1-1", Time: built, Compiler: "gcc 12", Fragment: "CONFIG_A=y\n",
		Patches: map[string]string{"a.patch": "a", "b.patch": "b"},
		Targets: targets(), Variables: variables(built), Compression: compression,
	}
}

// TestHash: each part of a recipe gives another folder, the same recipe the same.
func TestHash(t *testing.T) {
	seen := map[string]string{}
	for _, tt := range []struct {
		name   string
		change func(*recipe)
	}{
		{"nothing", func(*recipe) {}},
		{"the source", func(r *recipe) { r.Source = "6.12.2-1" }},
		{"the time", func(r *recipe) { r.Time = r.Time.Add(time.Second) }},
		{"the compiler", func(r *recipe) { r.Compiler = "gcc 13" }},
		{"the fragment", func(r *recipe) { r.Fragment += "CONFIG_B=y\n" }},
		{"a patch", func(r *recipe) { r.Patches["a.patch"] = "c" }},
		{"a patch's name", func(r *recipe) { r.Patches = map[string]string{"a.patch": "a", "c.patch": "b"} }},
		{"a patch more", func(r *recipe) { r.Patches["c.patch"] = "" }},
		{"a target", func(r *recipe) { r.Targets = r.Targets[1:] }},
		{"a variable", func(r *recipe) { r.Variables[0] = "ARCH=arm" }},
		{"the compression", func(r *recipe) { r.Compression = "none" }},
	} {
		r := sample()
		tt.change(&r)
		hash, err := r.hash()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[hash]; ok {
			t.Errorf("%s: the same hash as with %s changed", tt.name, other)
		}
		seen[hash] = tt.name
		again, err := r.hash()
		if err != nil || again != hash {
			t.Errorf("%s: hashed twice: %s and %s, %v", tt.name, hash, again, err)
		}
	}
}

func TestMissingTools(t *testing.T) {
	find := func(name string) (string, error) {
		if name == "bison" || name == "aarch64-linux-gnu-gcc" {
			return "", errors.New("not there")
		}
		return "/usr/bin/" + name, nil
	}
	err := tools(find)
	if want := "apt-get install gcc-aarch64-linux-gnu bison"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %q at the end", err, want)
	}
	if err := tools(func(string) (string, error) { return "there", nil }); err != nil {
		t.Error(err)
	}
}

// TestPatches: each patch names the files it is to touch, and its hunks are as
// long as they say; patch(1) would else take it in part, or for garbage.
func TestPatches(t *testing.T) {
	touches := map[string][]string{
		"tryboot.patch":    {"drivers/firmware/raspberrypi.c", "include/soc/bcm2835/raspberrypi-firmware.h"},
		"partition.patch":  {"drivers/watchdog/bcm2835_wdt.c"},
		"virtio-i2c.patch": {"drivers/i2c/busses/i2c-virtio.c"},
	}
	names, err := fs.Glob(patches, "patches/*.patch")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(touches) {
		t.Errorf("patches %v, want %d", names, len(touches))
	}
	for _, name := range names {
		text, err := patches.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := readPatch(t, name, string(text))
		if want := touches[filepath.Base(name)]; !slices.Equal(got, want) {
			t.Errorf("%s touches %v, want %v", name, got, want)
		}
	}
}

// readPatch checks a patch in unified format and returns the files it touches.
func readPatch(t *testing.T, name, text string) (files []string) {
	t.Helper()
	hunk := regexp.MustCompile(`^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@`)
	length := func(digits string) int {
		if digits == "" {
			return 1
		}
		n, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] == "" || strings.HasPrefix(lines[0], "---") {
		t.Errorf("%s does not say first what it is for", name)
	}
	old, new := 0, 0 // lines of the hunk still to come
	for i, line := range lines {
		switch {
		case old > 0 || new > 0:
			switch {
			case strings.HasPrefix(line, " "):
				old, new = old-1, new-1
			case strings.HasPrefix(line, "-"):
				old--
			case strings.HasPrefix(line, "+"):
				new--
			default:
				t.Fatalf("%s:%d: %q within a hunk", name, i+1, line)
			}
		case strings.HasPrefix(line, "--- a/"):
			file := strings.TrimPrefix(line, "--- a/")
			if i+1 == len(lines) || lines[i+1] != "+++ b/"+file {
				t.Errorf("%s:%d: %s is to become another file", name, i+1, file)
			}
			files = append(files, file)
		case hunk.MatchString(line):
			m := hunk.FindStringSubmatch(line)
			old, new = length(m[1]), length(m[2])
		case len(files) > 0 && !strings.HasPrefix(line, "+++ "):
			t.Errorf("%s:%d: %q after a hunk", name, i+1, line)
		}
	}
	if old != 0 || new != 0 {
		t.Errorf("%s: the last hunk lacks %d old and %d new lines", name, old, new)
	}
	return files
}

func TestLoadOrder(t *testing.T) {
	got, err := loadOrder(map[string][]string{
		"a-top.ko": {"z_base", "m-mid"}, "m-mid.ko": {"z_base"}, "z-base.ko": nil, "b.ko": nil,
	})
	if want := []string{"z-base.ko", "m-mid.ko", "a-top.ko", "b.ko"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if order, err := loadOrder(map[string][]string{"a.ko": {"b"}, "b.ko": {"a"}}); err == nil {
		t.Errorf("a circle: got %v", order)
	}
	if order, err := loadOrder(map[string][]string{"a.ko": {"b"}}); err == nil {
		t.Errorf("a missing module: got %v", order)
	}
}

// module makes an ELF file with one section of its own.
func module(section string, data []byte) []byte {
	names := "\x00.shstrtab\x00" + section + "\x00"
	const header, entry = 64, 64
	var b bytes.Buffer
	put := func(v ...any) {
		for _, v := range v {
			// Fixed-size values into memory: this cannot fail.
			_ = binary.Write(&b, binary.LittleEndian, v)
		}
	}
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	namesAt, dataAt := uint64(header), uint64(header+len(names))
	tableAt := dataAt + uint64(len(data))
	put(uint16(1), uint16(183), uint32(1), uint64(0), uint64(0), tableAt, uint32(0),
		uint16(header), uint16(0), uint16(0), uint16(entry), uint16(3), uint16(1))
	b.WriteString(names)
	b.Write(data)
	put(make([]byte, entry))
	put(uint32(1), uint32(3), uint64(0), uint64(0), namesAt, uint64(len(names)), uint32(0), uint32(0), uint64(1), uint64(0))
	put(uint32(11), uint32(1), uint64(0), uint64(0), dataAt, uint64(len(data)), uint32(0), uint32(0), uint64(1), uint64(0))
	return b.Bytes()
}

func TestDependencies(t *testing.T) {
	for _, tt := range []struct {
		name string
		file []byte
		want []string
		fail bool
	}{
		{"two", module(".modinfo", []byte("license=GPL\x00depends=a,b_c\x00name=x\x00")), []string{"a", "b_c"}, false},
		{"none", module(".modinfo", []byte("license=GPL\x00depends=\x00")), nil, false},
		{"not a module", module(".text", []byte("depends=a\x00")), nil, true},
		{"not ELF", []byte("depends=a\x00"), nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := dependencies(bytes.NewReader(tt.file))
			if (err != nil) != tt.fail || !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v, an error: %v", got, err, tt.want, tt.fail)
			}
		})
	}
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "Image"), filepath.Join(dir, imageFile)
	want := bytes.Repeat([]byte("kernel "), 1000)
	if err := os.WriteFile(from, want, 0o644); err != nil {
		t.Fatal(err)
	}
	sum, err := pack(from, to)
	if err != nil {
		t.Fatal(err)
	}
	again, err := pack(from, to)
	if err != nil || again != sum {
		t.Errorf("packed twice: %s and %s, %v", sum, again, err)
	}
	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("unpacked: %d bytes, %v; want %d", len(got), err, len(want))
	}
	if r.Name != "" || !r.ModTime.IsZero() {
		t.Errorf("the header says %q, %v", r.Name, r.ModTime)
	}
}

// TestOpen reads a finished build's folder back.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	text := `{"version":"6.12.1-x","dtbs":["a.dtb"],"modules":["b.ko","a.ko"],"components":[{"name":"linux","version":"1","source":"s","sha256":"0"}]}`
	if err := os.WriteFile(filepath.Join(dir, recordFile), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	modules := []string{filepath.Join(dir, "modules", "b.ko"), filepath.Join(dir, "modules", "a.ko")}
	if k.Version != "6.12.1-x" || !slices.Equal(k.Modules, modules) || len(k.DTBs) != 1 || k.Components[0].Name != "linux" {
		t.Errorf("got %+v", k)
	}
	if k, err := open(t.TempDir()); err == nil {
		t.Errorf("an empty folder: got %+v", k)
	}
}
