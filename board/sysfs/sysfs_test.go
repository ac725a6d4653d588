package sysfs_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/board/sysfs"
	"github.com/nitrino/nitrino/board/sysfs/sysfstest"
)

func TestClass(t *testing.T) {
	root := sysfstest.Root(t, `
		sys/class/net/lo
		sys/class/net/bonding_masters = text
		sys/class/net/eth1/device -> /sys/devices/pci0/0000:00:02.0/virtio1
		sys/class/net/eth2/device -> /sys/devices/pci0/0000:00:01.0/virtio0
		sys/class/net/gone/device -> /sys/devices/gone
		sys/devices/pci0/0000:00:01.0/subsystem -> ../../../bus/pci
		sys/devices/pci0/0000:00:01.0/virtio0/driver -> ../../../../bus/virtio/drivers/virtio_net
		sys/devices/pci0/0000:00:01.0/virtio0/subsystem -> ../../../../bus/virtio
		sys/devices/pci0/0000:00:02.0/virtio1/subsystem -> ../../../../bus/virtio
	`)
	list, err := sysfs.Class(root, "net")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	if !slices.Equal(names, []string{"eth2", "eth1"}) {
		t.Fatalf("got %v, want those of hardware by their place", names)
	}
	d := list[0]
	if got, want := d.On("pci"), filepath.Join(root, "sys/devices/pci0/0000:00:01.0"); got != want {
		t.Errorf("on PCI: got %q, want %q", got, want)
	}
	if got := d.On("usb"); got != "" {
		t.Errorf("on USB: got %q", got)
	}
	if got := sysfs.Link(d.Carrier, "driver"); got != "virtio_net" {
		t.Errorf("driver: got %q", got)
	}
	if got := sysfs.Link(list[1].Carrier, "driver"); got != "" {
		t.Errorf("no driver: got %q", got)
	}
	if _, err := sysfs.Class(root, "tty"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such class: got %v", err)
	}
}
