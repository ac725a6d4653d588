//go:build e2e

package qcow2

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata")

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compare reads an image as qemu-img does.
func compare(t *testing.T, what, path string) []byte {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	run(t, "qemu-img", "convert", "-O", "raw", path, raw)
	m, err := open(read(t, path))
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return nil
	}
	got, err := content(m)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	same(t, what, got, read(t, raw))
	return got
}

// The images of testdata, as this QEMU makes them.
func TestQEMUGolden(t *testing.T) {
	for _, tt := range golden {
		path := filepath.Join(t.TempDir(), tt.name)
		run(t, "qemu-img", append(append([]string{"create", "-q", "-f", "qcow2"}, tt.create...), path, fmt.Sprint(tt.size))...)
		for i, command := range tt.io {
			run(t, "qemu-io", "-f", "qcow2", "-c", command, path)
			if tt.name == "snapshot" && i == 0 {
				run(t, "qemu-img", "snapshot", "-c", "before", path)
				run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 1 0 16k", path)
			}
		}
		if tt.pack != nil {
			run(t, "qemu-img", append(append([]string{"convert", "-O", "qcow2"}, tt.pack...), path, path+".packed")...)
			path += ".packed"
		}
		same(t, tt.name, compare(t, tt.name, path), disk(tt.size, tt.want))
		if *update {
			var b bytes.Buffer
			z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := z.Write(read(t, path)); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join("testdata", tt.name+".qcow2.gz"), b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Every way that qemu-img can make an image, of a disk with noise, text and holes.
func TestQEMUConvert(t *testing.T) {
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	f, err := os.Create(raw)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	const size = 40<<20 + 512
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		b := make([]byte, 512*(1+random.IntN(700)))
		switch random.IntN(3) {
		case 0:
			copy(b, strings.Repeat(fmt.Sprintf("line %d of a text\n", random.IntN(1e6)), len(b)/20))
		case 1:
			for i := range b {
				b[i] = byte(random.Uint32())
			}
		}
		if _, err := f.WriteAt(b, int64(random.IntN(size/512-700))*512); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.WriteAt([]byte("the end"), size-7); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	want := read(t, raw)
	for _, options := range [][]string{
		{"-o", "compat=0.10"},
		{"-o", "compat=0.10,cluster_size=512"},
		{"-o", "cluster_size=512"},
		{"-o", "cluster_size=64k"},
		{"-o", "cluster_size=2M"},
		{"-o", "cluster_size=2M,extended_l2=on"},
		{"-o", "cluster_size=64k,extended_l2=on"},
		{"-o", "refcount_bits=1"},
		{"-o", "lazy_refcounts=on"},
		{"-o", "preallocation=metadata"},
		{"-o", "preallocation=full"},
		{"-S", "0"},
		{"-c"},
		{"-c", "-o", "compat=0.10"},
		{"-c", "-o", "cluster_size=512"},
		{"-c", "-o", "cluster_size=2M"},
		{"-c", "-o", "compression_type=zstd"},
		{"-c", "-o", "compression_type=zstd,cluster_size=2M"},
		{"-c", "-o", "compression_type=zstd,cluster_size=512"},
		{"-c", "-o", "compression_type=zstd,cluster_size=16k,extended_l2=on"},
	} {
		path := filepath.Join(dir, "qcow2")
		run(t, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, options...), raw, path)...)
		same(t, fmt.Sprint(options), compare(t, fmt.Sprint(options), path), want)
	}
}

func TestQEMUReadsWrite(t *testing.T) {
	for name, d := range devices() {
		path := filepath.Join(t.TempDir(), name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := Write(t.Context(), f, d, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := run(t, "qemu-img", "check", "-f", "qcow2", path); !strings.Contains(got, "No errors were found") {
			t.Errorf("%s: qemu-img check: %s", name, got)
		}
		raw := path + ".raw"
		f, err = os.Create(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(d.size); err != nil {
			t.Fatal(err)
		}
		for i, page := range d.pages {
			if _, err := f.WriteAt(page[:min(4096, d.size-i*4096)], i*4096); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw)
	}
}
