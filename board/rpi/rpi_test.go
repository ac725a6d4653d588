package rpi

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/boardtest"
	"github.com/nitrino/nitrino/board/sysfs/sysfstest"
	"github.com/nitrino/nitrino/board/tty"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// The models as Linux 6.12 shows them with the upstream device trees, and our
// overlay that gives the PL011 to the header. That of the 3B was taken from
// QEMU's raspi3b, the others follow its drivers and device trees.
const (
	pi3B = `
	proc/device-tree/model = Raspberry Pi 3 Model B Rev 1.2\0
	proc/device-tree/serial-number = 00000000a5b6c7d8\0
	sys/class/tty/console/active = ttynull0
	sys/class/tty/ttyAMA0/device -> /sys/devices/platform/soc/3f201000.serial/3f201000.serial:0/3f201000.serial:0.0
	sys/devices/platform/soc/3f201000.serial/3f201000.serial:0/3f201000.serial:0.0/subsystem -> /sys/bus/serial-base
	sys/devices/platform/soc/3f201000.serial/3f201000.serial:0/3f201000.serial:0.0/of_node -> /sys/firmware/devicetree/base/soc/serial@7e201000
	sys/devices/platform/soc/3f201000.serial/subsystem -> /sys/bus/amba
	sys/devices/platform/soc/3f201000.serial/driver -> /sys/bus/amba/drivers/uart-pl011
	sys/devices/platform/soc/3f201000.serial/of_node -> /sys/firmware/devicetree/base/soc/serial@7e201000
	sys/class/tty/ttyS1/device -> /sys/devices/platform/soc/3f215040.serial/3f215040.serial:0/3f215040.serial:0.0
	sys/devices/platform/soc/3f215040.serial/3f215040.serial:0/3f215040.serial:0.0/of_node -> /sys/firmware/devicetree/base/soc/serial@7e215040
	sys/devices/platform/soc/3f215040.serial/subsystem -> /sys/bus/platform
	sys/class/net/lo
	sys/class/net/eth0/device -> /sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1:1.0
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1:1.0/subsystem -> /sys/bus/usb
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1:1.0/driver -> /sys/bus/usb/drivers/smsc95xx
	`
	pi3BPlus = `
	proc/device-tree/model = Raspberry Pi 3 Model B Plus Rev 1.3\0
	proc/device-tree/serial-number = 00000000b5b6c7d8\0
	sys/class/tty/ttyAMA0/device -> /sys/devices/platform/soc/3f201000.serial
	sys/devices/platform/soc/3f201000.serial/subsystem -> /sys/bus/amba
	sys/devices/platform/soc/3f201000.serial/of_node -> /sys/firmware/devicetree/base/soc/serial@7e201000
	sys/class/net/eth0/device -> /sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1.1/1-1.1.1:1.0
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1.1/1-1.1.1:1.0/subsystem -> /sys/bus/usb
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1.1/1-1.1.1:1.0/driver -> /sys/bus/usb/drivers/lan78xx
	sys/class/net/wlan0/wireless
	sys/class/net/wlan0/device -> /sys/devices/platform/soc/3f300000.mmc/mmc1
	sys/devices/platform/soc/3f300000.mmc/mmc1/subsystem -> /sys/bus/sdio
	`
	// A Pi 4 has five more UARTs, one of which is on here and comes first.
	pi4B = `
	proc/device-tree/model = Raspberry Pi 4 Model B Rev 1.4\0
	proc/device-tree/serial-number = 10000000c5b6c7d8\0
	sys/class/tty/ttyAMA0/device -> /sys/devices/platform/soc/fe201800.serial
	sys/devices/platform/soc/fe201800.serial/subsystem -> /sys/bus/amba
	sys/devices/platform/soc/fe201800.serial/of_node -> /sys/firmware/devicetree/base/soc/serial@7e201800
	sys/class/tty/ttyAMA1/device -> /sys/devices/platform/soc/fe201000.serial
	sys/devices/platform/soc/fe201000.serial/subsystem -> /sys/bus/amba
	sys/devices/platform/soc/fe201000.serial/of_node -> /sys/firmware/devicetree/base/soc/serial@7e201000
	sys/class/net/eth0/device -> /sys/devices/platform/scb/fd580000.ethernet
	sys/devices/platform/scb/fd580000.ethernet/subsystem -> /sys/bus/platform
	sys/devices/platform/scb/fd580000.ethernet/driver -> /sys/bus/platform/drivers/bcmgenet
	`
	cm4 = `
	proc/device-tree/model = Raspberry Pi Compute Module 4 Rev 1.1\0
	proc/device-tree/serial-number = 10000000d5b6c7d8\0
	sys/class/tty/ttyAMA0/device -> /sys/devices/platform/soc/fe201000.serial
	sys/devices/platform/soc/fe201000.serial/subsystem -> /sys/bus/amba
	sys/devices/platform/soc/fe201000.serial/of_node -> /sys/firmware/devicetree/base/soc/serial@7e201000
	sys/class/net/eth0/device -> /sys/devices/platform/scb/fd580000.ethernet
	sys/devices/platform/scb/fd580000.ethernet/driver -> /sys/bus/platform/drivers/bcmgenet
	sys/class/net/eth1/device -> /sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1/1-1:1.0
	sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1/1-1:1.0/subsystem -> /sys/bus/usb
	sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1/1-1:1.0/driver -> /sys/bus/usb/drivers/lan78xx
	`
	// A Zero 2 W without an adapter has Wi-Fi alone.
	zero2W = `
	proc/device-tree/model = Raspberry Pi Zero 2 W Rev 1.0\0
	proc/device-tree/serial-number = 00000000e5b6c7d8\0
	sys/class/tty/ttyAMA0/device -> /sys/devices/platform/soc/3f201000.serial
	sys/devices/platform/soc/3f201000.serial/subsystem -> /sys/bus/amba
	sys/devices/platform/soc/3f201000.serial/of_node -> /sys/firmware/devicetree/base/soc/serial@7e201000
	sys/class/net/wlan0/wireless
	sys/class/net/wlan0/device -> /sys/devices/platform/soc/3f300000.mmc/mmc1
	sys/devices/platform/soc/3f300000.mmc/mmc1/subsystem -> /sys/bus/sdio
	`
	adapters = `
	sys/class/net/eth0/device -> /sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.4/1-1.4:2.0
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.4/1-1.4:2.0/subsystem -> /sys/bus/usb
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.4/1-1.4:2.0/driver -> /sys/bus/usb/drivers/cdc_ncm
	sys/class/net/eth1/device -> /sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2/1-1.2:1.0
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2/1-1.2:1.0/subsystem -> /sys/bus/usb
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.2/1-1.2:1.0/driver -> /sys/bus/usb/drivers/r8152
	sys/class/net/wlan1/wireless
	sys/class/net/wlan1/device -> /sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1:1.0
	sys/devices/platform/soc/3f980000.usb/usb1/1-1/1-1.1/1-1.1:1.0/subsystem -> /sys/bus/usb
	`
	gadget = `
	sys/class/net/usb0/device -> /sys/devices/platform/soc/fe980000.usb/gadget.0
	sys/devices/platform/soc/fe980000.usb/subsystem -> /sys/bus/platform
	sys/devices/platform/soc/fe980000.usb/gadget.0/subsystem -> /sys/bus/gadget
	`
)

func newBoard(t *testing.T, entries ...string) *Board {
	return &Board{root: sysfstest.Root(t, entries...), log: slog.New(slog.DiscardHandler)}
}

func TestModels(t *testing.T) {
	for _, tt := range []struct {
		name    string
		entries []string
		model   string
		number  string
		serial  string // "" for none
		nic     string // "" for none
	}{
		{"3B", []string{pi3B}, "Raspberry Pi 3 Model B Rev 1.2", "00000000a5b6c7d8", "ttyAMA0", "eth0"},
		{"3B+", []string{pi3BPlus}, "Raspberry Pi 3 Model B Plus Rev 1.3", "00000000b5b6c7d8", "ttyAMA0", "eth0"},
		{"4B", []string{pi4B, gadget}, "Raspberry Pi 4 Model B Rev 1.4", "10000000c5b6c7d8", "ttyAMA1", "eth0"},
		{"CM4 with an adapter", []string{cm4}, "Raspberry Pi Compute Module 4 Rev 1.1", "10000000d5b6c7d8", "ttyAMA0", "eth0"},
		{"Zero 2 W", []string{zero2W, gadget}, "Raspberry Pi Zero 2 W Rev 1.0", "00000000e5b6c7d8", "ttyAMA0", ""},
		{"Zero 2 W with adapters", []string{zero2W, adapters, gadget}, "Raspberry Pi Zero 2 W Rev 1.0", "00000000e5b6c7d8", "ttyAMA0", "eth1"},
		{"emulated, without the UART and a serial number", []string{"proc/device-tree/model = x", "sys/class/tty", "sys/class/net"}, "x", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(t, tt.entries...)
			if got, want := b.Identity(), (host.Identity{Manufacturer: "Raspberry Pi", Model: tt.model, Serial: tt.number}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if got, err := b.serial(); got != tt.serial || errors.Is(err, tty.ErrNone) != (tt.serial == "") {
				t.Errorf("serial: got %q, %v, want %q", got, err, tt.serial)
			}
			if got, err := b.Interface(); got != tt.nic || errors.Is(err, errNoInterface) != (tt.nic == "") {
				t.Errorf("interface: got %q, %v, want %q", got, err, tt.nic)
			}
			if err := b.Restart("0 tryboot"); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := newBoard(t).Interface(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no sysfs: got %v", err)
	}
}

func TestCheckLine(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wires board.Wires
		field string // "" where the rules allow it
		text  string
	}{
		{"the first output", board.Wires{PowerButton: &board.Wire{Line: 9}}, "", ""},
		{"the last output", board.Wires{IDLight: &board.Wire{Line: 27, Chip: "pinctrl-bcm2835"}}, "", ""},
		{"an output that pulls up", board.Wires{PowerButton: &board.Wire{Line: 8}}, "/power_button/line", "press a button"},
		{"the same by the chip's label", board.Wires{ResetButton: &board.Wire{Line: 0, Chip: "pinctrl-bcm2711"}}, "/reset_button/line", "GPIO 9 to 27"},
		{"an active-low output", board.Wires{NMIButton: &board.Wire{Line: 17, ActiveLow: true}}, "/nmi_button/line", "active high"},
		{"an output off the header", board.Wires{IDLight: &board.Wire{Line: 28}}, "/id_light/line", "GPIO 28"},
		{"an input of the card's lines", board.Wires{PowerLED: &board.Wire{Line: 48}}, "/power_led/line", "the Pi's own"},
		{"an input that pulls up", board.Wires{Standby: &board.Wire{Line: 4, ActiveLow: true}}, "", ""},
		{"an input on the UART", board.Wires{HostReset: &board.Wire{Line: 15}}, "/host_reset/line", "serial port"},
		{"an output on the UART", board.Wires{PowerButton: &board.Wire{Line: 14}}, "/power_button/line", "serial port"},
		{"an expander", board.Wires{PowerButton: &board.Wire{Line: 3, Chip: "20-0020", ActiveLow: true}}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := newBoard(t, "dev").Check(tt.wires)
			f, ok := errors.AsType[*settings.FieldError](err)
			if !ok {
				t.Fatalf("got %v, want a field", err)
			}
			if tt.field == "" { // then it is for want of the chip
				if errors.Is(err, ErrUnsafe) || !errors.Is(err, board.ErrNoLine) {
					t.Errorf("got %v, want %v alone", err, board.ErrNoLine)
				}
				return
			}
			if f.Pointer != tt.field || !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want field %s with %q", err, tt.field, tt.text)
			}
		})
	}
	if err := newBoard(t, "dev").Check(board.Wires{}); err != nil {
		t.Errorf("no wires: got %v", err)
	}
}

func TestOpenWithoutChip(t *testing.T) {
	b := newBoard(t, pi4B, "dev")
	w := board.Wires{PowerButton: &board.Wire{Line: 17}, PowerLED: &board.Wire{Line: 22, Chip: "20-0020"}}
	p, failed, release := b.Open(w, board.DefaultSerial())
	if len(failed) != 2 || !errors.Is(failed[0], board.ErrNoLine) || !strings.Contains(failed[0].Error(), "pinctrl-bcm2711") || !strings.Contains(failed[1].Error(), "20-0020") {
		t.Errorf("got %v, want both wires to fail", failed)
	}
	if p.PowerButton != nil || p.PowerLED != nil || p.Console == nil || p.Identity.Serial == "" {
		t.Errorf("got %+v, want the console alone", p)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if len(b.Wires().List()) != 0 {
		t.Error("wires by default")
	}
}

// TestOpenSensors has a Pi 4 with a thermometer on its header.
func TestOpenSensors(t *testing.T) {
	b := newBoard(t, pi4B, `
		sys/class/hwmon/hwmon0/device -> /sys/devices/virtual/thermal/thermal_zone0
		sys/devices/virtual/thermal/thermal_zone0/type = cpu-thermal
		sys/class/hwmon/hwmon0/name = cpu_thermal
		sys/class/hwmon/hwmon0/temp1_input = 51121
		sys/class/hwmon/hwmon1/device -> /sys/devices/platform/soc/fe804000.i2c/i2c-1/1-0048
		sys/class/hwmon/hwmon1/name = lm75
		sys/class/hwmon/hwmon1/temp1_input = 22500
		sys/class/i2c-dev/i2c-0/device -> /sys/devices/platform/soc/fe205000.i2c/i2c-0
		sys/devices/platform/soc/fe205000.i2c/of_node -> /sys/firmware/devicetree/base/soc/i2c@7e205000
		sys/devices/platform/soc/fe205000.i2c/i2c-0/name = bcm2835 (i2c@7e205000)
		sys/class/i2c-dev/i2c-1/device -> /sys/devices/platform/soc/fe804000.i2c/i2c-1
		sys/devices/platform/soc/fe804000.i2c/of_node -> /sys/firmware/devicetree/base/soc/i2c@7e804000
		sys/devices/platform/soc/fe804000.i2c/i2c-1/1-0048/name = lm75
		sys/devices/platform/soc/fe804000.i2c/i2c-1/1-0048/driver -> /sys/bus/i2c/drivers/lm75
	`)
	var p host.Parts
	failed, release := b.OpenSensors(board.Sensors{Chips: []board.Chip{{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet temp"}}}, &p)
	defer func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	}()
	if len(failed) > 0 || len(p.Sensors) != 2 {
		t.Fatalf("got %+v, %v", p.Sensors, failed)
	}
	for i, want := range []struct {
		name  string
		place host.Place
		value float64
	}{{"Board temp", host.PlaceBoard, 51.121}, {"Inlet temp", host.PlaceInlet, 22.5}} {
		s := p.Sensors[i]
		if v, err := s.Gauge.Read(t.Context()); err != nil || v != want.value || s.Name != want.name || s.Place != want.place {
			t.Errorf("got %s at %s: %v, %v, want %+v", s.Name, s.Place, v, err, want)
		}
	}
	boardtest.Sensors(t, p.Sensors)
}
