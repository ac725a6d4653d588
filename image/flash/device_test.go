package flash

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// machine is a sysfs and a procfs with one disk, 8:16, of 2 GB in two
// partitions, on the given bus.
func machine(t *testing.T, bus, name string, number uint64) (s System, disk, proc string) {
	t.Helper()
	root := t.TempDir()
	sys, proc := filepath.Join(root, "sys"), filepath.Join(root, "proc")
	disk = filepath.Join(sys, "devices", bus, "block", name)
	for path, text := range map[string]string{
		disk + "/uevent":                  "MAJOR=8\nMINOR=16\nDEVNAME=" + name + "\nDEVTYPE=disk\n",
		disk + "/removable":               "0\n",
		disk + "/ro":                      "0\n",
		disk + "/size":                    "4000000\n",
		disk + "/device/vendor":           "Generic \n",
		disk + "/device/model":            "SD/MMC\n",
		disk + "/holders/.keep":           "",
		disk + "/" + name + "1/dev":       "8:17\n",
		disk + "/" + name + "1/partition": "1\n",
		disk + "/" + name + "2/dev":       "8:18\n",
		disk + "/" + name + "2/partition": "2\n",
		disk + "/queue/rotational":        "1\n",
		proc + "/self/mountinfo":          "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n",
		proc + "/swaps":                   "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/vdb  partition\t9\t0\t-2\n",
	} {
		put(t, path, text)
	}
	remove(t, disk+"/holders/.keep")
	for _, part := range []string{"1", "2"} {
		if err := os.Mkdir(disk+"/"+name+part+"/holders", 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(sys, "dev", "block", devName(number))
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../devices/"+bus+"/block/"+name, link); err != nil {
		t.Fatal(err)
	}
	return System{os.DirFS(sys), os.DirFS(proc)}, disk, proc
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestLook(t *testing.T) {
	const usb, sata = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0", "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0"
	mounts := "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
	for _, tt := range []struct {
		name, bus, disk string
		change          func(t *testing.T, disk, proc string)
		want            error
		says            string
	}{
		{"on USB", usb, "sdb", nil, nil, ""},
		{"a card reader inside", sata, "sdb", func(t *testing.T, disk, _ string) { put(t, disk+"/removable", "1\n") }, nil, ""},
		{"a card slot", "platform/mmc0/mmc0:0001", "mmcblk0", nil, nil, ""},
		{"a disk inside", sata, "sdb", nil, ErrNotRemovable, ""},
		{"a name like usb", "virtual/usbx/usb", "sdb", nil, ErrNotRemovable, ""},
		{"a loop device", "virtual", "loop0", nil, ErrNotRemovable, ""},
		{"read-only", usb, "sdb", func(t *testing.T, disk, _ string) { put(t, disk+"/ro", "1\n") }, ErrReadOnly, ""},
		{"a partition", usb, "sdb", func(t *testing.T, disk, _ string) { put(t, disk+"/partition", "1\n") }, ErrPartition, ""},
		{"mounted", usb, "sdb", func(t *testing.T, _, proc string) {
			put(t, proc+"/self/mountinfo", mounts+"30 22 8:16 / /mnt/a\\040card rw - vfat /dev/sdb rw\n")
		}, ErrInUse, "sdb is mounted at /mnt/a card"},
		{"a partition mounted", usb, "sdb", func(t *testing.T, _, proc string) {
			put(t, proc+"/self/mountinfo", mounts+"30 22 8:18 / /boot rw shared:7 master:2 - vfat /dev/sdb2 rw\n")
		}, ErrInUse, "sdb2 is mounted at /boot"},
		{"part of btrfs", usb, "sdb", func(t *testing.T, _, proc string) {
			put(t, proc+"/self/mountinfo", mounts+"30 22 0:31 /root / rw - btrfs /dev/sdb1 rw\n")
		}, ErrInUse, "sdb1 is mounted at /"},
		{"swap", usb, "sdb", func(t *testing.T, _, proc string) {
			put(t, proc+"/swaps", "Filename Type Size Used Priority\n/dev/sdb2 partition 1 0 -2\n")
		}, ErrInUse, "sdb2 is swapped to"},
		{"no swap in the kernel", usb, "sdb", func(t *testing.T, _, proc string) { remove(t, proc+"/swaps") }, nil, ""},
		{"part of a RAID", usb, "sdb", func(t *testing.T, disk, _ string) { put(t, disk+"/sdb1/holders/md0", "") }, ErrInUse, "sdb/sdb1 is part of md0"},
		{"encrypted as a whole", usb, "sdb", func(t *testing.T, disk, _ string) { put(t, disk+"/holders/dm-0", "") }, ErrInUse, "sdb is part of dm-0"},
		{"a system that does not say", usb, "sdb", func(t *testing.T, _, proc string) { remove(t, proc+"/self/mountinfo") }, os.ErrNotExist, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			number := unix.Mkdev(8, 16)
			s, disk, proc := machine(t, tt.bus, tt.disk, number)
			if tt.change != nil {
				tt.change(t, disk, proc)
			}
			d, err := s.look(number)
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("got %v, want %v with %q", err, tt.want, tt.says)
			}
			if err != nil {
				return
			}
			if d.Size != 4000000*512 || d.Model != "Generic SD/MMC" {
				t.Errorf("got %+v, want 2048000000 bytes and its model", d)
			}
			d.Path = "/dev/x"
			if got, want := d.String(), "/dev/x (Generic SD/MMC, 2.0 GB)"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestWriteRefusesFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	put(t, path, strings.Repeat("x", 512))
	image, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := image.Close(); err != nil {
			t.Error(err)
		}
	}()
	other := filepath.Join(t.TempDir(), "other")
	put(t, other, "as it was")
	odd := filepath.Join(t.TempDir(), "odd")
	put(t, odd, "no sectors")
	for _, tt := range []struct {
		path string
		want error
	}{
		{path, ErrImage},
		{other, ErrNotDevice},
		{"/dev/null", ErrNotDevice},
		{filepath.Join(t.TempDir(), "nothing"), os.ErrNotExist},
	} {
		if err := Live().Write(t.Context(), tt.path, image, t.Output()); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.path, err, tt.want)
		}
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "as it was" {
		t.Errorf("the file: got %q, %v, want it as it was", text, err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{`a\040b`: "a b", `\134`: `\`, `a\`: `a\`, `\999`: `\999`, `\04`: `\04`} {
		if got := unescape(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n")
	f.Add("30 22 8:16 / /mnt/a\\040card rw - vfat /dev/sdb rw")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text) {
			if m.number == "" || m.at == "" || m.source == "" {
				t.Errorf("%q: got %+v, want no empty fields", text, m)
			}
		}
	})
}
