package sim

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
)

func TestQEMUConfig(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "qemu-system-x86_64")
	if err := os.WriteFile(binary, []byte("#!/bin/false\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  QEMUConfig
		want string // in the error; empty: none
	}{
		{"defaults", QEMUConfig{Dir: dir, Binary: binary}, ""},
		{"q35 with kvm", QEMUConfig{Dir: dir, Binary: binary, Machine: "q35", Accel: "kvm"}, ""},
		{"no directory", QEMUConfig{Binary: binary}, "Dir"},
		{"machine", QEMUConfig{Dir: dir, Binary: binary, Machine: "pc,accel=kvm"}, "machine"},
		{"accelerator", QEMUConfig{Dir: dir, Binary: binary, Accel: "hvf"}, "accelerator"},
		{"no emulator", QEMUConfig{Dir: dir, Binary: filepath.Join(dir, "absent")}, "qemu-system-x86"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.cfg.complete()
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want one about %s", err, c.want)
				}
				return
			}
			if err != nil || got.Memory != 128 || got.Machine == "" || got.Accel == "" {
				t.Fatalf("got %+v, %v", got, err)
			}
		})
	}
	if _, err := (QEMUConfig{Dir: dir, Binary: filepath.Join(dir, "absent")}).complete(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no emulator: got %v, want %v", err, os.ErrNotExist)
	}
}

func TestQEMUArgs(t *testing.T) {
	q := &QEMU{cfg: QEMUConfig{Dir: "/d,x=y", Machine: "pc", Accel: "tcg", Memory: 256, Disk: `/a,b="c".img`, DiskFormat: "qcow2", Args: []string{"-snapshot"}}}
	args, err := q.args(host.BootPXE)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{
		{"-machine", "pc,graphics=off"},
		{"-accel", "tcg,thread=multi"},
		{"-m", "256"},
		{"-pidfile", "/d,x=y/qemu.pid"},
		{"-device", "virtio-net-pci,netdev=net0,id=nic0,bootindex=0"},
		{"-device", "virtio-blk-pci,drive=hd0-image,id=hd0,bootindex=1"},
		{"-device", "ide-cd,bus=ide.1,id=cd0,bootindex=2"},
		{"-device", "qemu-xhci,id=usb"},
		{"-S", "-snapshot"},
	} {
		found := false
		for i := range args[1:] {
			found = found || slices.Equal(args[i:i+2], want)
		}
		if !found {
			t.Errorf("%q is not in %q", want, args)
		}
	}
	if got := strings.Join(args, " "); !strings.Contains(got, `"filename":"/a,b=\"c\".img"`) {
		t.Errorf("the disk's path is not quoted in %s", got)
	}
}

func TestBootOrder(t *testing.T) {
	for _, c := range []struct {
		target host.BootTarget
		want   []string
	}{
		{host.BootDefault, []string{diskID, cdID, usbID, nicID}},
		{host.BootDisk, []string{diskID, cdID, usbID, nicID}},
		{host.BootCD, []string{cdID, diskID, usbID, nicID}},
		{host.BootUSB, []string{usbID, diskID, cdID, nicID}},
		{host.BootPXE, []string{nicID, diskID, cdID, usbID}},
	} {
		if got := bootOrder(c.target); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.target, got, c.want)
		}
	}
}

func TestIsOurs(t *testing.T) {
	const file = "/run/sim/qemu.pid"
	for _, c := range []struct {
		name string
		args []string
		want bool
	}{
		{"ours", []string{"/usr/bin/qemu-system-x86_64", "-S", "-pidfile", file, "-m", "1"}, true},
		{"upgraded elsewhere", []string{"/opt/bin/qemu-system-x86_64", "-pidfile", file}, true},
		{"another directory's", []string{"/usr/bin/qemu-system-x86_64", "-pidfile", "/run/other/qemu.pid"}, false},
		{"a longer path", []string{"/usr/bin/qemu-system-x86_64", "-pidfile", file + "2"}, false},
		{"no pid file", []string{"/usr/bin/qemu-system-x86_64", file}, false},
		{"option without value", []string{"/usr/bin/qemu-system-x86_64", "-pidfile"}, false},
		{"someone who looks for it", []string{"grep", "-pidfile", file}, false},
		{"nothing", nil, false},
	} {
		line := strings.Join(c.args, "\x00") + "\x00"
		if got := isOurs([]byte(line), "/usr/bin/qemu-system-x86_64", file); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAlive(t *testing.T) {
	if !alive(os.Getpid()) {
		t.Error("this process is said to be dead")
	}
	// This test's own program, which only lists nothing and ends.
	cmd := exec.Command(os.Args[0], "-test.list=^$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("a process that ended is said to be alive")
	}
}

func TestBootID(t *testing.T) {
	dir := t.TempDir()
	id := func() string {
		t.Helper()
		id, err := bootID(dir)
		if err != nil || id == "" {
			t.Fatalf("got %q, %v", id, err)
		}
		return id
	}
	first := id()
	if got := id(); got != first {
		t.Errorf("after a restart: got %s, want %s", got, first)
	}
	for _, damaged := range []string{"", first, "another-kernel-boot " + first} {
		if err := os.WriteFile(filepath.Join(dir, bootIDFile), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := id(); got == first {
			t.Errorf("file %q: got the old ID", damaged)
		}
	}
	before := id()
	for range 2 {
		if err := dropBootID(dir); err != nil {
			t.Fatal(err)
		}
	}
	if got := id(); got == before {
		t.Error("dropped, and still the same")
	}
}

func TestDemoDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "demo.img")
	if err := writeDemoDisk(path); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(disk) != 1<<20 || disk[510] != 0x55 || disk[511] != 0xaa {
		t.Fatalf("%d bytes, signature %x", len(disk), disk[510:512])
	}
	// The code and the table name texts by their address.
	at := func(address int, want string) {
		t.Helper()
		if got := disk[address-0x7c00:]; !bytes.HasPrefix(got, []byte(want)) {
			t.Errorf("%x: got %q, want %q", address, got[:len(want)], want)
		}
	}
	word := func(address int) int {
		return int(disk[address-0x7c00]) | int(disk[address-0x7c00+1])<<8
	}
	at(0x7d0b, "\r\nnitrino demo host is up\r\n\x00")
	at(0x7d2d, "\r\nshutting down\r\n\x00")
	at(0x7d3f, "\r\nNMI\r\n\x00")
	for i, want := range []string{"reboot\x00", "poweroff\x00", "sleep\x00", "hang\x00"} {
		at(word(0x7d47+4*i), want)
	}
	if got := word(0x7d57); got != 0 {
		t.Errorf("end of the table: got %x", got)
	}

	// What the guest wrote stays.
	disk[600] = 1
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeDemoDisk(path); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, disk) {
		t.Errorf("the disk was written again: %v", err)
	}
}

func TestConsoleOverrun(t *testing.T) {
	var typed bytes.Buffer
	c := newConsole(func(p []byte) error { typed.Write(p); return nil }, nil)
	conn, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.output([]byte("old"))
	c.output(bytes.Repeat([]byte{'x'}, serialBuffer-3))
	c.output([]byte("new"))
	buf := make([]byte, 2*serialBuffer)
	n, err := conn.Read(buf)
	if err != nil || n != serialBuffer || !bytes.HasPrefix(buf[:n], []byte("xxx")) || !bytes.HasSuffix(buf[:n], []byte("xnew")) {
		t.Errorf("got %d bytes, %q…%q, %v: want the newest %d", n, buf[:3], buf[n-4:n], err, serialBuffer)
	}
	if n, err := conn.Write([]byte("in")); n != 2 || err != nil || typed.String() != "in" {
		t.Errorf("write: got %d, %v, %q", n, err, typed.String())
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	c.output([]byte("late"))
	if n, err := conn.Read(buf); err == nil {
		t.Errorf("read %d bytes from a closed port", n)
	}
	if err := conn.Break(t.Context()); err == nil {
		t.Error("break on a closed port")
	}
}
