package sdcard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/update/manifest"
)

// noise is data without zeros' regularity, the same each time.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

func contents() *Contents {
	kernel, dtb := noise(300_000, 1), noise(30_000, 2)
	return &Contents{
		Version: "0.1.0", Revision: "0123abcd", Date: time.Date(2026, 11, 22, 14, 30, 58, 0, time.UTC),
		Components: []manifest.Component{
			{Name: "kernel", Version: "6.12.1", Source: "linux-source-6.12", SHA256: Hash(kernel)},
			{Name: "initramfs", Version: "0.1.0", Source: "u-root", SHA256: Hash(nil)},
		},
		Boot: []File{{Name: "bootcode.bin", Data: noise(50_000, 3)}},
		Slot: []File{
			{Name: card.KernelFile, Component: "kernel", Data: kernel},
			{Name: card.InitramfsFile, Component: "initramfs", Data: noise(1000, 5)},
			{Name: "bcm2837-rpi-3-b-plus.dtb", Component: "kernel", Data: dtb},
			{Name: "bcm2837-rpi-3-b.dtb", Component: "kernel", Data: dtb},
			{Name: "overlays/gadget.dtbo", Component: Own, Data: noise(500, 6)},
			{Name: "overlays/header-gpio.dtbo", Component: Own, Data: noise(200, 7)},
			{Name: "overlays/host-uart.dtbo", Component: Own, Data: noise(700, 4)},
		},
	}
}

// build makes a card in a file and returns it.
func build(t testing.TB, c *Contents) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "card.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	var added int64
	if err := Write(t.Context(), f, c, func(n int64) { added += n }); err != nil {
		t.Fatal(err)
	}
	if want, err := c.Bytes(); err != nil || added != want {
		t.Errorf("progress: got %d bytes, %v, want %d", added, err, want)
	}
	return f
}

// hash is the SHA-256 of what a card holds. Holes are not read: most of it is one.
func hash(t *testing.T, f *os.File) string {
	t.Helper()
	const seekData, seekHole = 3, 4
	sum := sha256.New()
	for at := int64(0); ; {
		data, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if at, err = f.Seek(data, seekHole); err != nil {
			t.Fatal(err)
		}
		// Blocks of zeros count as holes, wherever the file system has them.
		block := make([]byte, 4096)
		for ; data < at; data += int64(len(block)) {
			if _, err := f.ReadAt(block, data); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !bytes.Equal(block, make([]byte, len(block))) {
				sum.Write(hashed(data, block))
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func hashed(at int64, block []byte) []byte {
	sum := sha256.Sum256(block)
	return append(sum[:], byte(at>>12), byte(at>>20), byte(at>>28))
}

// TestSameBytes builds on different days.
func TestSameBytes(t *testing.T) { synctest.Test(t, testSameBytes) }

func testSameBytes(t *testing.T) {
	first := build(t, contents())
	time.Sleep(24*time.Hour + time.Second + time.Millisecond)
	second := build(t, contents())
	if a, b := hash(t, first), hash(t, second); a != b {
		t.Errorf("two builds: got %s and %s, want the same", a, b)
	}
	info, err := first.Stat()
	if err != nil || info.Size() != Size {
		t.Errorf("got %d bytes, %v, want %d", info.Size(), err, int64(Size))
	}
	if st := info.Sys().(*syscall.Stat_t); st.Blocks*512 > 64*mib {
		t.Errorf("got %d bytes on disk, want few: the file is sparse", st.Blocks*512)
	}

	other := contents()
	other.Slot[0].Data = noise(300_000, 9)
	third := build(t, other)
	for _, at := range []int64{440, first4 + 67, perm4 + superblockAt + 0x68} {
		a, b := make([]byte, 4), make([]byte, 4)
		if _, err := first.ReadAt(a, at); err != nil {
			t.Fatal(err)
		}
		if _, err := third.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(a, b) {
			t.Errorf("identity at %d: got %x for other contents too, want it to differ", at, a)
		}
	}
}

// Where the boot partition and /perm begin.
const first4, perm4 = first, first + bootSize + 2*slotSize

func TestCheck(t *testing.T) {
	c := contents()
	f := build(t, c)
	if err := Check(f); err != nil {
		t.Errorf("a new card: got %v, want nothing wrong", err)
	}
	m, err := CheckSlot(f, "b")
	if err != nil || m.Version != "0.1.0" || len(m.Files) != 8 {
		t.Errorf("got %+v, %v, want version 0.1.0 and 8 files", m, err)
	}
	if text, err := BootFile(f, card.SettingsFile); err != nil || string(text) != "{\"version\": 1}\n" {
		t.Errorf("settings: got %q, %v", text, err)
	}
	if ok, err := Holds(f, c); !ok || err != nil {
		t.Errorf("its own contents: got %v, %v, want true", ok, err)
	}
	c.Settings = []byte(`{"version":1,"hostname":"x"}`)
	if ok, err := Holds(f, c); ok || err != nil {
		t.Errorf("other settings: got %v, %v, want false", ok, err)
	}
	c = contents()
	c.Revision = "4567"
	if ok, err := Holds(f, c); ok || err != nil {
		t.Errorf("another revision: got %v, %v, want false", ok, err)
	}
}

func TestSlotsDiffer(t *testing.T) {
	f := build(t, contents())
	for slot, want := range map[string]string{
		"a": "console=null quiet loglevel=4 panic=5 watchdog.open_timeout=60 nbd.nbds_max=0 uroot.initflags=systemd=1 bmc.slot=a bcm2835_wdt.panic_partition=3\n",
		"b": "console=null quiet loglevel=4 panic=5 watchdog.open_timeout=60 nbd.nbds_max=0 uroot.initflags=systemd=1 bmc.slot=b bcm2835_wdt.panic_partition=2\n",
	} {
		m, err := CheckSlot(f, slot)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(Cmdline(m.Cmdline, slot)); got != want {
			t.Errorf("slot %s: got %q, want %q", slot, got, want)
		}
	}
}

// damaged is a card with bytes written over it, which the card itself keeps.
type damaged struct {
	io.ReaderAt
	at   int64
	with []byte
}

func (d damaged) ReadAt(p []byte, at int64) (int, error) {
	n, err := d.ReaderAt.ReadAt(p, at)
	for i := range d.with {
		if j := d.at + int64(i) - at; 0 <= j && j < int64(n) {
			p[j] = d.with[i]
		}
	}
	return n, err
}

func TestDamage(t *testing.T) {
	c := contents()
	f := build(t, c)
	slotB := partitions()[card.SlotB]
	b, err := open(f, card.SlotB)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := b.Walk()
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) (entry, data int64) {
		for _, e := range entries {
			if e.Name == name {
				if e.Cluster == 0 {
					return slotB.start + e.Offset, 0
				}
				return slotB.start + e.Offset, slotB.start + b.Offset(e.Cluster)
			}
		}
		t.Fatalf("%s is not on the card", name)
		return 0, 0
	}
	kernelEntry, kernel := at(card.KernelFile)
	_, overlay := at("overlays/host-uart.dtbo")
	_, list := at(card.ManifestFile)
	_, line := at(card.CmdlineFile)
	for _, tt := range []struct {
		name string
		at   int64
		with string
		want string
	}{
		{"a byte of the kernel", kernel + 299_999, "\x00\x01", "kernel8.img: its SHA-256"},
		{"a byte of an overlay", overlay, "\x00\x01", "overlays/host-uart.dtbo: its SHA-256"},
		{"the kernel's size", kernelEntry + 28, "\x01\x00", "kernel8.img: got"},
		{"the kernel's name", kernelEntry, "X", "kernel8.img is missing"},
		{"the kernel's first cluster", kernelEntry + 26, "\xff\xff", "kernel8.img"},
		{"the manifest", list, "[", "manifest"},
		{"the command line", line, "C", `cmdline.txt: got "Console`},
		{"the first table", slotB.start + 32*sector + 40, "\xff\xff\xff\x0f", "bcm2837-rpi-3-b-plus.dtb: not a sound FAT32"},
		{"the boot sector", slotB.start + 510, "\x00", "no signature"},
		{"zeros", slotB.start, strings.Repeat("\x00", sector), "no signature"},
		{"its type", 446 + 2*16 + 4, "\x83", "type 0x83"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := damaged{f, tt.at, []byte(tt.with)}
			if _, err := CheckSlot(d, "a"); err != nil {
				t.Errorf("slot a: got %v, want it sound", err)
			}
			err := Check(d)
			e, ok := errors.AsType[*SlotError](err)
			if !ok || e.Slot != "b" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error of slot b with %q", err, tt.want)
			}
			if held, err := Holds(d, c); held || err != nil {
				t.Errorf("got %v, %v, want that it does not hold its contents", held, err)
			}
		})
	}
	boot := make([]byte, sector)
	if _, err := f.ReadAt(boot, slotB.start); err != nil {
		t.Fatal(err)
	}
	tableSize := int64(binary.LittleEndian.Uint32(boot[36:])) * sector
	if err := Check(damaged{f, slotB.start + 32*sector + tableSize + 40, []byte("\xff\xff\xff\x0f")}); err != nil {
		t.Errorf("the second table, as a power cut leaves it: got %v, want it sound", err)
	}
	if err := Check(bytes.NewReader(make([]byte, mib))); err == nil || !strings.Contains(err.Error(), "no partition table") {
		t.Errorf("zeros: got %v, want an error", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Contents)
		want   string
	}{
		{"no version", func(c *Contents) { c.Version = "" }, "no version"},
		{"no kernel", func(c *Contents) { c.Slot[0].Name = "kernel.img" }, "kernel8.img is missing"},
		{"no overlay", func(c *Contents) { c.Slot = c.Slot[:6] }, "host-uart.dtbo is missing"},
		{"a file of its own", func(c *Contents) { c.Slot[2].Name = card.CmdlineFile }, "cmdline.txt"},
		{"a file twice", func(c *Contents) { c.Slot[2].Name = "KERNEL8.IMG" }, "a second one"},
		{"settings twice", func(c *Contents) { c.Boot[0].Name = "BMC.json" }, "BMC.json"},
		{"a path that leads out", func(c *Contents) { c.Slot[2].Name = "../x" }, "../x"},
		{"an empty file", func(c *Contents) { c.Slot[0].Data = nil }, "kernel8.img: the file is empty"},
		{"no such component", func(c *Contents) { c.Slot[0].Component = "x" }, `component "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := contents()
			tt.change(c)
			f, err := os.Create(filepath.Join(t.TempDir(), "card.img"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := Write(t.Context(), f, c, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	f := build(t, contents())
	if err := Write(t.Context(), f, contents(), nil); err == nil {
		t.Error("a file that is not empty: got no error")
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	g, err := os.Create(filepath.Join(t.TempDir(), "card.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(stopped, g, contents(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: got %v, want %v", err, context.Canceled)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestDOSTime(t *testing.T) {
	for _, tt := range []struct {
		at          time.Time
		date, clock uint16
	}{
		{time.Date(2026, 11, 22, 14, 30, 59, 0, time.UTC), 46<<9 | 11<<5 | 22, 14<<11 | 30<<5 | 29},
		{time.Date(1970, 1, 1, 12, 0, 0, 0, time.UTC), 1<<5 | 1, 0},
	} {
		if date, clock := dosTime(tt.at); date != tt.date || clock != tt.clock {
			t.Errorf("%v: got %#x %#x, want %#x %#x", tt.at, date, clock, tt.date, tt.clock)
		}
	}
}
