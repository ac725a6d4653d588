package firmware

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/cmds/emulate/cardtest"
	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/internal/fat/fattest"
)

// image is an arm64 kernel as far as its header goes.
func image(says string) []byte {
	b := make([]byte, 4096)
	copy(b[56:], "ARM\x64")
	copy(b[64:], says)
	return b
}

func packed(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(t testing.TB, name string) (*os.File, int64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return f, info.Size()
}

var pi3 = Model{Filters: []string{"pi3"}, DeviceTree: "bcm2710-rpi-3-b.dtb"}
var pi4 = Model{Filters: []string{"pi4"}}

func slot(t testing.TB, name string) map[string][]byte {
	return map[string][]byte{
		card.KernelFile:      packed(t, image(name)),
		card.InitramfsFile:   bytes.Repeat([]byte(name), 5000),
		card.CmdlineFile:     []byte("  console=null bmc.slot=" + name + " \r\nsecond line\n"),
		card.ConfigFile:      []byte("initramfs initramfs.img followkernel\nkernel_watchdog_timeout=7\n[pi3]\ndevice_tree=broadcom.dtb\ndtoverlay=uart,pin=14\ndtoverlay=absent\n[tryboot]\nkernel_watchdog_partition=3\n"),
		"broadcom.dtb":       []byte("tree of " + name),
		"overlays/uart.dtbo": []byte("overlay of " + name),
	}
}

func whole(t testing.TB) map[int]map[string][]byte {
	return map[int]map[string][]byte{
		1: {card.AutobootFile: card.Autoboot{Boot: 2, Try: 3}.Encode(), card.LoginFile: []byte("{}")},
		2: slot(t, "a"),
		3: slot(t, "b"),
	}
}

func TestRead(t *testing.T) {
	disk, size := open(t, cardtest.New(t, whole(t)))
	for _, c := range []struct {
		name  string
		told  Reboot
		model Model
		slot  string
		want  Boot
	}{
		{"power-up", Reboot{}, pi4, "a", Boot{Partition: 2}},
		{"tryboot", Reboot{Tryboot: true}, pi4, "b", Boot{Partition: 3, Tryboot: true}},
		{"partition", Reboot{Partition: 3}, pi4, "b", Boot{Partition: 3}},
		{"partition and tryboot", Reboot{Partition: 2, Tryboot: true}, pi3, "a", Boot{Partition: 2, Tryboot: true}},
		{"a partition that is not bootable", Reboot{Partition: 1}, pi4, "a", Boot{Partition: 2}},
		{"a partition that is not there", Reboot{Partition: 9}, pi4, "a", Boot{Partition: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, passed, err := Read(disk, size, c.told, c.model)
			if err != nil {
				t.Fatalf("got %v (%v)", err, passed)
			}
			if b.Partition != c.want.Partition || b.Tryboot != c.want.Tryboot {
				t.Errorf("got partition %d, tryboot %v, want %d, %v", b.Partition, b.Tryboot, c.want.Partition, c.want.Tryboot)
			}
			if want := "console=null bmc.slot=" + c.slot; b.Cmdline != want {
				t.Errorf("got command line %q, want %q", b.Cmdline, want)
			}
			if !bytes.Equal(b.Kernel, image(c.slot)) {
				t.Errorf("got %d bytes of a kernel, not slot %s's", len(b.Kernel), c.slot)
			}
			if want := bytes.Repeat([]byte(c.slot), 5000); !bytes.Equal(b.Initramfs, want) {
				t.Errorf("got %d bytes of an initramfs, want %d", len(b.Initramfs), len(want))
			}
			if b.Watchdog != 7*time.Second {
				t.Errorf("got watchdog %v, want 7s", b.Watchdog)
			}
			if want := map[bool]int{true: 3}[c.told.Tryboot && c.model.DeviceTree != ""]; b.WatchdogPartition != want {
				t.Errorf("got watchdog partition %d, want %d", b.WatchdogPartition, want)
			}
			switch {
			case c.model.DeviceTree == "" && (b.DeviceTree != nil || b.Overlays != nil):
				t.Errorf("got a device tree for a model that needs none")
			case c.model.DeviceTree != "" && (string(b.DeviceTree) != "tree of "+c.slot || len(b.Overlays) != 1 || b.Overlays[0].Name != "uart" || string(b.Overlays[0].Content) != "overlay of "+c.slot):
				t.Errorf("got device tree %q with %v", b.DeviceTree, b.Overlays)
			}
		})
	}
	if _, err := ReadFile(disk, size, 1, "LOGIN.JSON"); err != nil {
		t.Errorf("login.json: %v", err)
	}
	for _, name := range []string{"bmc.json", "login.json/x", "", "login.json.bak"} {
		if _, err := ReadFile(disk, size, 1, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: got %v, want fs.ErrNotExist", name, err)
		}
	}
	if _, err := ReadFile(disk, size, 4, "x"); err == nil {
		t.Error("no error for partition 4, which is not there")
	}
}

// TestDamage has a slot A that cannot be started.
func TestDamage(t *testing.T) {
	without := func(name string) func(map[string][]byte) {
		return func(f map[string][]byte) { delete(f, name) }
	}
	with := func(name string, content []byte) func(map[string][]byte) {
		return func(f map[string][]byte) { f[name] = content }
	}
	kernel := packed(t, image("a"))
	broken := bytes.Clone(kernel)
	broken[len(broken)-5] ^= 1 // the checksum
	for _, c := range []struct {
		name string
		do   func(map[string][]byte)
		want string
	}{
		{"no kernel", without(card.KernelFile), "kernel8.img: file does not exist"},
		{"no initramfs", without(card.InitramfsFile), "initramfs.img: file does not exist"},
		{"no config.txt", without(card.ConfigFile), "config.txt: file does not exist"},
		{"no cmdline.txt", without(card.CmdlineFile), "cmdline.txt: file does not exist"},
		{"kernel with a wrong checksum", with(card.KernelFile, broken), "kernel8.img: gzip: invalid checksum"},
		{"half a kernel", with(card.KernelFile, kernel[:len(kernel)/2]), "kernel8.img: unexpected EOF"},
		{"no kernel at all", with(card.KernelFile, []byte("text")), "kernel8.img: not an arm64 kernel"},
		{"empty kernel", with(card.KernelFile, nil), "kernel8.img: not an arm64 kernel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parts := whole(t)
			parts[2] = maps.Clone(parts[2])
			c.do(parts[2])
			disk, size := open(t, cardtest.New(t, parts))
			b, passed, err := Read(disk, size, Reboot{}, pi4)
			if err != nil || b.Partition != 3 {
				t.Fatalf("got %v, %v, want partition 3", b, err)
			}
			// Partition 1 has its turn between: it is no system.
			if got := errors.Join(passed...).Error(); !strings.HasPrefix(got, "partition 2: "+c.want) {
				t.Errorf("got %q, want partition 2: %s", got, c.want)
			}
		})
	}
	for _, c := range []struct {
		name          string
		n             int
		offset, bytes int64
		boots         int
	}{
		{"slot A's boot sector", 2, 0, 512, 3},
		{"slot A's first FAT", 2, 32 * 512, 300 * 512, 3},
		{"the boot partition", 1, 0, 1 << 20, 2},
		{"the second FAT, which is a copy", 2, (32 + 616) * 512, 512, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := cardtest.New(t, whole(t))
			cardtest.Damage(t, name, c.n, c.offset, c.bytes)
			disk, size := open(t, name)
			b, passed, err := Read(disk, size, Reboot{}, pi4)
			if err != nil || b.Partition != c.boots {
				t.Errorf("got %v, %v, %v, want partition %d", b, passed, err, c.boots)
			}
		})
	}
	t.Run("everything", func(t *testing.T) {
		disk, size := open(t, cardtest.New(t, nil))
		if _, passed, err := Read(disk, size, Reboot{}, pi4); !errors.Is(err, ErrNothing) || len(passed) != 5 {
			t.Errorf("got %v, %v, want ErrNothing and five reasons", passed, err)
		}
		if _, _, err := Read(bytes.NewReader(make([]byte, 4096)), 4096, Reboot{}, pi4); !errors.Is(err, ErrNothing) {
			t.Errorf("no partition table: got %v, want ErrNothing", err)
		}
	})
}

func TestParseReboot(t *testing.T) {
	for _, c := range []struct {
		argument string
		want     Reboot
		ok       bool
	}{
		{"", Reboot{}, true},
		{"0 tryboot", Reboot{Tryboot: true}, true},
		{"3", Reboot{Partition: 3}, true},
		{"62", Reboot{Partition: 62}, true},
		{"2 tryboot", Reboot{2, true}, true},
		{"tryboot", Reboot{Tryboot: true}, true},
		{"bootloader", Reboot{}, true},
		{"63", Reboot{}, false},
		{"99999999999999999999", Reboot{}, false},
	} {
		got, err := ParseReboot(c.argument)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: got %v, %v, want %v, ok %v", c.argument, got, err, c.want, c.ok)
		}
	}
}

func FuzzParseReboot(f *testing.F) {
	for _, s := range []string{"", "0 tryboot", "3", "99999", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseReboot(s); err == nil && (r.Partition < 0 || r.Partition > maxPartition) {
			t.Errorf("%q: got %v", s, r)
		}
	})
}

// FuzzRead reads a small disk whose one partition, a small FAT, is the input.
func FuzzRead(f *testing.F) {
	f.Add(smallDisk(fattest.New(map[string]string{
		"CONFIG.TXT": "initramfs INIT followkernel\nkernel=KERNEL\n", "INIT": "x", "KERNEL": string(image("x"))[:64], "CMDLINE.TXT": "y",
		"AUTOBOOT.TXT": "boot_partition=1\n",
	})))
	f.Fuzz(func(t *testing.T, disk []byte) {
		b, _, err := Read(bytes.NewReader(disk), int64(len(disk)), Reboot{}, pi3)
		if (b == nil) == (err == nil) {
			t.Fatalf("got %v, %v", b, err)
		}
	})
}

func smallDisk(volume []byte) []byte {
	d := make([]byte, 512, 512+len(volume))
	d[446+4], d[446+8], d[446+12] = 0x0c, 1, byte(len(volume)/512)
	d[510], d[511] = 0x55, 0xaa
	return append(d, volume...)
}

func TestSmall(t *testing.T) {
	disk := smallDisk(fattest.New(map[string]string{"CONFIG.TXT": "kernel=KERNEL", "KERNEL": string(image("x"))[:64], "CMDLINE.TXT": "y"}))
	b, passed, err := Read(bytes.NewReader(disk), int64(len(disk)), Reboot{}, pi4)
	if err != nil || b.Cmdline != "y" || b.Partition != 1 {
		t.Errorf("got %v, %v, %v", b, passed, err)
	}
}
