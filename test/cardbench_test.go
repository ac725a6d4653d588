//go:build bench

package test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/image/initramfs"
)

// moments are when things happened in the board, in milliseconds since its
// kernel started, as the kernel's log has them.
type moments map[string]float64

// log reads them; each name is the text by which a line is known.
func (b *booted) moments(names ...string) moments {
	b.tb.Helper()
	text := b.get("kmsg", "")
	m := moments{}
	for line := range strings.Lines(text) {
		at, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, n := range names {
			if _, seen := m[n]; !seen && strings.Contains(said, n) {
				us, err := strconv.ParseFloat(at, 64)
				if err != nil {
					b.tb.Fatal(err)
				}
				m[n] = us / 1000
			}
		}
	}
	for _, n := range names {
		if _, ok := m[n]; !ok {
			b.tb.Fatalf("the kernel's log does not tell of %q:\n%s", n, tail(text))
		}
	}
	return m
}

const (
	unpacking = "Unpacking initramfs"
	unpacked  = "Freeing initrd memory"
	toInit    = "as init process"
	helloUp   = "hello: ready"
	coreUp    = "nitrino: core is ready"
	addressed = "network.up"
)

// BenchmarkCardStart measures a start of the booted card beside that of hello,
// the least that could answer, on the same kernel in the same emulator: from
// the kernel's start to /init, the unpacking in it, and from /init to the
// services' answer, at the first start (with keys to make) and at later ones.
func BenchmarkCardStart(b *testing.B) {
	var kernel, unpack, hello, first, again []float64
	for b.Loop() {
		h := insert(b, helloCard(b))
		h.spawn()
		eventually(b, "hello", time.Minute, func() bool { return strings.Contains(h.get("kmsg", ""), helloUp) })
		m := h.moments(unpacking, unpacked, toInit, helloUp)
		hello = append(hello, m[helloUp]-m[toInit])
		h.stop()

		c := boot(b, card(b))
		m = c.moments(unpacking, unpacked, toInit, coreUp, addressed)
		first = append(first, max(m[coreUp], m[addressed])-m[toInit])
		c.cut()
		m = c.moments(unpacking, unpacked, toInit, coreUp, addressed)
		again = append(again, max(m[coreUp], m[addressed])-m[toInit])
		kernel = append(kernel, m[toInit])
		unpack = append(unpack, m[unpacked]-m[unpacking])
		c.stop()
	}
	b.ReportMetric(median(kernel), "kernel_ms")
	b.ReportMetric(median(unpack), "unpack_ms")
	b.ReportMetric(median(hello), "hello_ms")
	b.ReportMetric(median(first), "first_ms")
	b.ReportMetric(median(again), "again_ms")
	b.ReportMetric(median(first)/median(hello), "first/hello")
	b.ReportMetric(median(again)/median(hello), "again/hello")
	b.ReportMetric(0, "ns/op")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// helloCard is a card whose software only says hello.
func helloCard(b *testing.B) string {
	b.Helper()
	image := card(b)
	hello, err := initramfs.Build(b.Context(), initramfs.Options{
		Tree: "..", Package: "./test/hello", Version: "0", Built: time.Unix(0, 0), Cache: cacheDir(b), Progress: b.Output(),
	})
	if err != nil {
		b.Fatal(err)
	}
	onCard(b, image, 2, "initramfs.img", string(hello.Data))
	return image
}

// BenchmarkCardSize reports what a slot holds, against its budget of 16 MiB.
func BenchmarkCardSize(b *testing.B) {
	for b.Loop() {
		listing := client(b, "mdir", "-/", "-b", "-i", fat(b, card(b), 2)).must(b)
		var total, kernel, initramfs, trees float64
		for name := range strings.Lines(listing) {
			name = strings.TrimSpace(name)
			base := filepath.Base(name)
			size := sizeOf(b, name)
			switch {
			case base == "kernel8.img":
				kernel = size
			case base == "initramfs.img":
				initramfs = size
			case strings.HasSuffix(base, ".dtb"), strings.HasSuffix(base, ".dtbo"):
				trees += size
			default:
				continue // the firmware of the Pi
			}
			total += size
		}
		b.ReportMetric(kernel/(1<<20), "kernel_MiB")
		b.ReportMetric(initramfs/(1<<20), "initramfs_MiB")
		b.ReportMetric(trees/(1<<20), "trees_MiB")
		b.ReportMetric(total/(1<<20), "slot_MiB")
	}
	b.ReportMetric(0, "ns/op")
}

// sizeOf is the size of a file in slot A.
func sizeOf(b *testing.B, name string) float64 {
	b.Helper()
	path := filepath.Join(b.TempDir(), "file")
	client(b, "mcopy", "-n", "-o", "-i", fat(b, made.image, 2), name, path).must(b)
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(info.Size())
}

// BenchmarkCardMemory reports the resident memory of each process of the booted
// card, idle, against the budget of 40 MiB for core and disk.
func BenchmarkCardMemory(b *testing.B) {
	for b.Loop() {
		c := boot(b, card(b), "-host", "pc")
		time.Sleep(10 * time.Second)
		mib := func(name string) float64 { return float64(c.process(name).resident) / 1024 }
		parent, core, disk := mib("/bin/uinit"), mib("core"), mib("disk")
		b.ReportMetric(parent, "parent_MiB")
		b.ReportMetric(core, "core_MiB")
		b.ReportMetric(disk, "disk_MiB")
		b.ReportMetric(core+disk, "core+disk_MiB")
		c.stop()
	}
	b.ReportMetric(0, "ns/op")
}
