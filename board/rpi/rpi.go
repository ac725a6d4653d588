// Package rpi is the board that a Raspberry Pi is: lines of its 40-pin header,
// the UART there, and its Ethernet.
package rpi

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/gpio"
	"github.com/nitrino/nitrino/board/hwmon"
	"github.com/nitrino/nitrino/board/i2c"
	"github.com/nitrino/nitrino/board/sysfs"
	"github.com/nitrino/nitrino/board/tty"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// chips are the labels of the chip behind the header: of a Pi 4, 400 or CM4,
// and of a Pi 3 or Zero 2 W.
func chips() []string { return []string{"pinctrl-bcm2711", "pinctrl-bcm2835"} }

// The header has GPIO 0 to lastLine; what is beyond belongs to the card, the
// Ethernet and the like. Lines from firstOutput on may be driven: at reset
// BCM2711 and BCM2837 pull GPIO 0 to 8 up and those down ("BCM2711 ARM
// Peripherals", table of alternate functions).
const (
	firstOutput = 9
	lastLine    = 27
)

// The header's UART.
const (
	lineTXD = 14
	lineRXD = 15
	// uartNode is the name of its PL011 in the device tree. Others (Bluetooth
	// on some models, UARTs 2 to 5 of a Pi 4) are elsewhere.
	uartNode = "serial@7e201000"
)

// busNode is the name in the device tree of the I2C bus on GPIO 2 and 3.
const busNode = "i2c@7e804000"

// A Board is a Raspberry Pi.
type Board struct {
	root string // holds /proc, /sys and /dev
	log  *slog.Logger
}

// New returns the board. Nothing is opened yet.
func New(log *slog.Logger) *Board { return &Board{root: "/", log: log} }

// Identity is what the device tree says, completed by the Pi's firmware. BootID
// is left to the caller.
func (b *Board) Identity() host.Identity {
	property := func(name string) string {
		text, err := board.DeviceTree(b.root, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.log.Warn("device tree", "error", err)
		}
		return text
	}
	return host.Identity{Manufacturer: "Raspberry Pi", Model: property("model"), Serial: property("serial-number")}
}

// Wires are none: only the owner knows what is wired.
func (b *Board) Wires() board.Wires { return board.Wires{} }

// chip opens a GPIO chip; the board's own is the header's.
func (b *Board) chip(label string) (*gpio.Chip, error) {
	dev := filepath.Join(b.root, "dev")
	if label != "" {
		return gpio.Open(dev, label)
	}
	var errs []error
	for _, label := range chips() {
		c, err := gpio.Open(dev, label)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
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
// wire to a chip or line that the board has not, or that must not be used so.
func (b *Board) Check(w board.Wires) error {
	for _, n := range w.List() {
		if n.Chip != "" && !slices.Contains(chips(), n.Chip) {
			continue // a port expander has rules of its own
		}
		if err := checkLine(n); err != nil {
			return &settings.FieldError{Pointer: "/" + n.Name + "/line", Err: err}
		}
	}
	return gpio.Check(b.chip, w)
}

// ErrUnsafe says that a wire would harm the host or be harmed.
var ErrUnsafe = errors.New("the line must not be used so")

func checkLine(n board.NamedWire) error {
	switch {
	case n.Line > lastLine:
		return fmt.Errorf("%w: GPIO %d is not on the header but the Pi's own", ErrUnsafe, n.Line)
	case n.Line == lineTXD || n.Line == lineRXD:
		return fmt.Errorf("%w: GPIO %d and %d are the serial port to the host", ErrUnsafe, lineTXD, lineRXD)
	case n.Output && n.Line < firstOutput:
		return fmt.Errorf("%w: GPIO 0 to %d pull up while the Pi starts, which would press a button; outputs are GPIO %d to %d", ErrUnsafe, firstOutput-1, firstOutput, lastLine)
	case n.Output && n.ActiveLow:
		return fmt.Errorf("%w: GPIO %d is low while the Pi starts, which would press a button; wire outputs active high", ErrUnsafe, n.Line)
	}
	return nil
}

// Open opens all that can be opened. Each wire in the list failed: its part is
// nil and the others work. The function gives everything back.
func (b *Board) Open(w board.Wires, s board.Serial) (host.Parts, []*board.WireError, func() error) {
	p := host.Parts{Identity: b.Identity(), Console: tty.New(b.root, s, b.serial, b.log)}
	failed, release := gpio.Connect(b.chip, w, &p)
	return p, failed, release
}

// OpenSensors adds the sensors and the FRU memory to p, as Open does the wires.
// The Pi itself tells how warm its processor is; of its supply it only tells that
// it was too low, which is no measure.
func (b *Board) OpenSensors(s board.Sensors, p *host.Parts) ([]*board.WireError, func() error) {
	own := []hwmon.Own{{Driver: "cpu_thermal", Name: "Board temp"}}
	return hwmon.Connect(i2c.Buses{Root: b.root, Own: isOwnBus}, own, s, p)
}

// isOwnBus finds the bus of the header.
func isOwnBus(d sysfs.Device) bool {
	return sysfs.Link(filepath.Dir(d.Carrier), "of_node") == busNode
}

// serial finds the header's UART.
func (b *Board) serial() (string, error) {
	list, err := sysfs.Class(b.root, "tty")
	if err != nil {
		return "", err
	}
	for _, t := range list {
		if d := t.On("amba"); d != "" && sysfs.Link(d, "of_node") == uartNode {
			return t.Name, nil
		}
	}
	return "", fmt.Errorf("%w: the header's UART (%s) is not there", tty.ErrNone, uartNode)
}

// errNoInterface says that there is no network interface that would do, yet.
var errNoInterface = errors.New("there is no management interface")

// onBoard are the drivers of the Ethernet that is soldered on: of a Pi 4, 400
// or CM4, of a 3B, and of a 3B+. The latter two are on the Pi's USB, so an
// adapter with such a chip looks the same; it comes after the former.
func onBoard() []string { return []string{"bcmgenet", "smsc95xx", "lan78xx"} }

// Interface names the management interface: the on-board Ethernet, else the
// first USB adapter. It answers an error as long as there is none.
func (b *Board) Interface() (string, error) {
	list, err := sysfs.Class(b.root, "net")
	if err != nil {
		return "", err
	}
	for _, driver := range onBoard() {
		for _, d := range list {
			if sysfs.Link(d.Carrier, "driver") == driver {
				return d.Name, nil
			}
		}
	}
	for _, d := range list {
		if b.isAdapter(d) {
			return d.Name, nil
		}
	}
	return "", fmt.Errorf("%w: neither on-board Ethernet nor a USB adapter", errNoInterface)
}

// isAdapter tells a USB Ethernet adapter from a gadget function, which is on no
// USB bus of ours, and from Wi-Fi.
func (b *Board) isAdapter(d sysfs.Device) bool {
	_, err := os.Stat(filepath.Join(b.root, "sys/class/net", d.Name, "wireless"))
	return d.On("usb") != "" && errors.Is(err, fs.ErrNotExist)
}

// Restart has nothing to tell: the kernel hands the argument of reboot(2) to
// the firmware.
func (b *Board) Restart(string) error { return nil }
