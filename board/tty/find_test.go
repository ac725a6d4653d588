package tty

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/sysfs/sysfstest"
)

// machine has a UART, two USB adapters (one of the CDC class) and a port of a
// gadget.
const machine = `
	sys/class/tty/console/active = tty0 ttyAMA0
	sys/class/tty/tty0
	sys/class/tty/ttyAMA0/device -> /sys/devices/platform/soc/fe201000.serial
	sys/devices/platform/soc/fe201000.serial/subsystem -> /sys/bus/amba
	sys/class/tty/ttyS0/device -> /sys/devices/platform/serial8250
	sys/devices/platform/serial8250/subsystem -> /sys/bus/platform
	sys/class/tty/ttyGS0/device -> /sys/devices/platform/soc/fe980000.usb/gadget.0
	sys/devices/platform/soc/fe980000.usb/gadget.0/subsystem -> /sys/bus/gadget
	dev/ttyAMA0 = x
	dev/ttyS0 = x
	dev/serial/by-id/console -> ../../ttyAMA0
	dev/serial/by-id/host -> ../../ttyS0
`

const adapters = `
	sys/class/tty/ttyACM0/device -> /sys/devices/platform/usb1/1-1/1-1.2/1-1.2:1.0
	sys/devices/platform/usb1/1-1/1-1.2/1-1.2:1.0/subsystem -> /sys/bus/usb
	sys/class/tty/ttyUSB0/device -> /sys/devices/platform/usb1/1-1/1-1.1/1-1.1:1.0/ttyUSB0
	sys/devices/platform/usb1/1-1/1-1.1/1-1.1:1.0/subsystem -> /sys/bus/usb
	sys/devices/platform/usb1/1-1/1-1.1/1-1.1:1.0/ttyUSB0/subsystem -> /sys/bus/usb-serial
`

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		name, machine, port string
		want                string // the path below the root
		err                 error
	}{
		{"the board's", machine, board.SerialBoard, "dev/ttyS0", nil},
		{"USB, by where it is plugged in", machine + adapters, board.SerialUSB, "dev/ttyUSB0", nil},
		{"USB, none", machine, board.SerialUSB, "", ErrNone},
		{"a path", machine, "/dev/ttyS0", "dev/ttyS0", nil},
		{"a path by a link", machine, "/dev/serial/by-id/host", "dev/serial/by-id/host", nil},
		{"a path that is not there", machine, "/dev/ttyUSB7", "", fs.ErrNotExist},
		{"the console", machine, "/dev/ttyAMA0", "", ErrConsole},
		{"the console by a link", machine, "/dev/serial/by-id/console", "", ErrConsole},
		{"no console at all", "dev/ttyAMA0 = x", "/dev/ttyAMA0", "dev/ttyAMA0", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := sysfstest.Root(t, tt.machine)
			own := func() (string, error) { return "ttyS0", nil }
			p, ok := New(root, board.Serial{Port: tt.port, Baud: 9600}, own, slog.New(slog.DiscardHandler)).(*Port)
			if !ok || p.Baud != 9600 {
				t.Fatalf("got %+v", p)
			}
			got, err := p.Find()
			if tt.err == nil && (got != filepath.Join(root, tt.want) || err != nil) || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v, want %q, %v", strings.TrimPrefix(got, root), err, tt.want, tt.err)
			}
		})
	}
	if p := New("/", board.Serial{Port: board.SerialNone}, nil, nil); p != nil {
		t.Errorf("no port: got %v", p)
	}
}
