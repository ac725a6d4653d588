// Package virt is the board that QEMU's machine "virt" is: its PL061 has the
// lines to the host, pci-serial leads to the host's COM port, and a
// virtio-serial port reaches what stands in for the firmware.
package virt

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/gpio"
	"github.com/nitrino/nitrino/board/hwmon"
	"github.com/nitrino/nitrino/board/i2c"
	"github.com/nitrino/nitrino/board/sysfs"
	"github.com/nitrino/nitrino/board/tty"
	"github.com/nitrino/nitrino/host"
)

// Chip is the label of the PL061.
const Chip = "9030000.pl061"

// The PL061's lines. Line 3 is the machine's own power key.
const (
	linePowerButton = 0
	lineResetButton = 1
	lineNMIButton   = 2
	lineIDLight     = 4
	linePowerLED    = 5
	lineStandby     = 6
	lineHostReset   = 7
)

// A Board is QEMU's machine "virt".
type Board struct {
	root string // holds /proc, /sys and /dev
	log  *slog.Logger
}

// New returns the board. Nothing is opened yet.
func New(log *slog.Logger) *Board { return &Board{root: "/", log: log} }

// Identity says which board this is. It has no serial number, and BootID is
// left to the caller.
func (b *Board) Identity() host.Identity {
	return host.Identity{Manufacturer: "QEMU", Model: "virt"}
}

// Wires are all wires that the emulator joins to the host.
func (b *Board) Wires() board.Wires {
	wire := func(line int) *board.Wire { return &board.Wire{Line: line} }
	return board.Wires{
		PowerButton: wire(linePowerButton),
		ResetButton: wire(lineResetButton),
		NMIButton:   wire(lineNMIButton),
		IDLight:     wire(lineIDLight),
		PowerLED:    wire(linePowerLED),
		Standby:     wire(lineStandby),
		HostReset:   wire(lineHostReset),
	}
}

// chip opens a GPIO chip; the board's own is the PL061.
func (b *Board) chip(label string) (*gpio.Chip, error) {
	return gpio.Open(filepath.Join(b.root, "dev"), cmp.Or(label, Chip))
}

// Chip names the board's own GPIO chip, if it is there.
func (b *Board) Chip() (string, error) {
	c, err := b.chip("")
	if err != nil {
		return "", err
	}
	return c.Label(), c.Close()
}

// Check answers a *settings.FieldError, relative to the wires, for the first
// wire to a chip or line that the board has not.
func (b *Board) Check(w board.Wires) error { return gpio.Check(b.chip, w) }

// Open opens all that can be opened. Each wire in the list failed: its part is
// nil and the others work. The function gives everything back.
func (b *Board) Open(w board.Wires, s board.Serial) (host.Parts, []*board.WireError, func() error) {
	p := host.Parts{Identity: b.Identity(), Console: tty.New(b.root, s, b.serial, b.log)}
	failed, release := gpio.Connect(b.chip, w, &p)
	return p, failed, release
}

// OpenSensors adds the sensors and the FRU memory to p, as Open does the wires.
// The machine measures nothing by itself.
func (b *Board) OpenSensors(s board.Sensors, p *host.Parts) ([]*board.WireError, func() error) {
	return hwmon.Connect(i2c.Buses{Root: b.root, Own: isOwnBus}, nil, s, p)
}

// isOwnBus finds the bus that the emulator plays.
func isOwnBus(d sysfs.Device) bool {
	return sysfs.Link(filepath.Dir(d.Carrier), "driver") == "i2c_virtio"
}

// serial finds the port to the host: the first UART on the PCI bus.
func (b *Board) serial() (string, error) {
	list, err := sysfs.Class(b.root, "tty")
	if err != nil {
		return "", err
	}
	for _, t := range list {
		if d := t.On("pci"); d != "" && sysfs.Link(d, "driver") == "serial" {
			return t.Name, nil
		}
	}
	return "", fmt.Errorf("%w: no pci-serial", tty.ErrNone)
}

// errNoInterface says that there is no network interface that would do.
var errNoInterface = errors.New("there is no management interface")

// Interface names the management interface: the first virtio NIC on the PCI
// bus. The second is the link to the host.
func (b *Board) Interface() (string, error) {
	list, err := sysfs.Class(b.root, "net")
	if err != nil {
		return "", err
	}
	for _, d := range list { // a carrier's path begins with its PCI address
		if d.On("pci") != "" && sysfs.Link(d.Carrier, "driver") == "virtio_net" {
			return d.Name, nil
		}
	}
	return "", fmt.Errorf("%w: no virtio NIC", errNoInterface)
}
