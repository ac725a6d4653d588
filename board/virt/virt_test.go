package virt

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/sysfs/sysfstest"
	"github.com/nitrino/nitrino/board/tty"
	"github.com/nitrino/nitrino/host"
)

// machine is what Linux 6.12 shows on QEMU 7.2, with a USB serial adapter that
// is on the PCI bus too.
const machine = `
	proc/device-tree/compatible = linux,dummy-virt\0
	proc/device-tree/model = linux,dummy-virt\0
	sys/class/tty/console/active = ttyAMA0
	sys/class/tty/ttyAMA0/device -> /sys/devices/platform/9000000.pl011/9000000.pl011:0/9000000.pl011:0.0
	sys/devices/platform/9000000.pl011/9000000.pl011:0/9000000.pl011:0.0/subsystem -> /sys/bus/serial-base
	sys/devices/platform/9000000.pl011/subsystem -> /sys/bus/amba
	sys/devices/platform/9000000.pl011/driver -> /sys/bus/amba/drivers/uart-pl011
	sys/class/tty/ttyUSB0/device -> /sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/usb1/1-2/1-2:1.0/ttyUSB0
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/usb1/1-2/1-2:1.0/ttyUSB0
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/subsystem -> /sys/bus/pci
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:01.0/driver -> /sys/bus/pci/drivers/xhci_hcd
	sys/class/tty/ttyS1/device -> /sys/devices/platform/serial8250/serial8250:0/serial8250:0.1
	sys/devices/platform/serial8250/serial8250:0/serial8250:0.1/subsystem -> /sys/bus/serial-base
	sys/class/net/lo
`

const pciSerial = `
	sys/class/tty/ttyS0/device -> /sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:03.0/0000:00:03.0:0/0000:00:03.0:0.0
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:03.0/0000:00:03.0:0/0000:00:03.0:0.0/subsystem -> /sys/bus/serial-base
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:03.0/subsystem -> /sys/bus/pci
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:03.0/driver -> /sys/bus/pci/drivers/serial
`

const nics = `
	sys/class/net/eth0/device -> /sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:05.0/virtio2
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:05.0/virtio2/driver -> /sys/bus/virtio/drivers/virtio_net
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:05.0/subsystem -> /sys/bus/pci
	sys/class/net/eth1/device -> /sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/virtio1
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/virtio1/driver -> /sys/bus/virtio/drivers/virtio_net
	sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:02.0/subsystem -> /sys/bus/pci
`

func newBoard(t *testing.T, entries ...string) *Board {
	return &Board{root: sysfstest.Root(t, entries...), log: slog.New(slog.DiscardHandler)}
}

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name                string
		entries             []string
		serial, nic         string
		serialErr, ethernet error
	}{
		{"all", []string{machine, pciSerial, nics}, "ttyS0", "eth1", nil, nil},
		{"nothing", []string{machine}, "", "", tty.ErrNone, errNoInterface},
		{"no sysfs", nil, "", "", fs.ErrNotExist, fs.ErrNotExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(t, tt.entries...)
			if got, err := b.serial(); got != tt.serial || !errors.Is(err, tt.serialErr) {
				t.Errorf("serial: got %q, %v, want %q, %v", got, err, tt.serial, tt.serialErr)
			}
			if got, err := b.Interface(); got != tt.nic || !errors.Is(err, tt.ethernet) {
				t.Errorf("interface: got %q, %v, want %q, %v", got, err, tt.nic, tt.ethernet)
			}
		})
	}
}

// Without its GPIO chip the board comes up on what is left, and says so.
func TestOpenWithoutChip(t *testing.T) {
	b := newBoard(t, machine, pciSerial, "dev")
	if err := b.Check(b.Wires()); !errors.Is(err, board.ErrNoLine) || !strings.Contains(err.Error(), Chip) {
		t.Errorf("Check: got %v, want %v with %s", err, board.ErrNoLine, Chip)
	}
	p, failed, release := b.Open(b.Wires(), board.DefaultSerial())
	if len(failed) != len(b.Wires().List()) {
		t.Errorf("got %v, want all wires to fail", failed)
	}
	if p.PowerButton != nil || p.PowerLED != nil || p.Console == nil {
		t.Errorf("got %+v, want the console alone", p)
	}
	if want := (host.Identity{Manufacturer: "QEMU", Model: "virt"}); p.Identity != want {
		t.Errorf("got %+v, want %+v", p.Identity, want)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestRestartWithoutEmulator(t *testing.T) {
	for _, entries := range []string{"sys/class", "sys/class/virtio-ports/vport1p1/name = other"} {
		if err := newBoard(t, entries).Restart("0 tryboot"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want %v", entries, err, fs.ErrNotExist)
		}
	}
}

func TestTell(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		err          string // in the error; "" for none
	}{
		{"ok", "ok\n", ""},
		{"refused", "error: no card\n", "error: no card"},
		{"the end", "", "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, emulator := net.Pipe()
			defer client.Close()
			got := make(chan string, 1)
			go func() {
				buf := make([]byte, 64)
				n, err := emulator.Read(buf)
				if err != nil {
					t.Error(err)
				}
				got <- string(buf[:n])
				if _, err := emulator.Write([]byte(tt.answer)); err != nil {
					t.Error(err)
				}
				emulator.Close()
			}()
			if err := tell(client, "0 tryboot"); (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if line := <-got; line != "reboot 0 tryboot\n" {
				t.Errorf("told %q", line)
			}
		})
	}
}

func TestOwnBus(t *testing.T) {
	b := newBoard(t, machine, `
		sys/class/i2c-dev/i2c-0/device -> /sys/devices/usb/1-1/i2c-0
		sys/devices/usb/1-1/i2c-0/name = i2c-tiny-usb
		sys/class/i2c-dev/i2c-1/device -> /sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:0a.0/virtio5/i2c-1
		sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:0a.0/virtio5/driver -> /sys/bus/virtio/drivers/i2c_virtio
		sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:0a.0/virtio5/i2c-1/1-0050/name = 24c32
		sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:0a.0/virtio5/i2c-1/1-0050/driver -> /sys/bus/i2c/drivers/at24
		sys/devices/platform/4010000000.pcie/pci0000:00/0000:00:0a.0/virtio5/i2c-1/1-0050/eeprom = bytes
	`)
	var p host.Parts
	failed, release := b.OpenSensors(board.Sensors{FRU: board.EEPROM{Address: 0x50, Chip: "24c32"}}, &p)
	if len(failed) > 0 || p.FRU == nil || p.FRU.Size() != 5 || len(p.Sensors) > 0 {
		t.Errorf("got %+v, %v", p, failed)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
