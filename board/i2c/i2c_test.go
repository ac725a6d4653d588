package i2c

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/sysfs"
	"github.com/nitrino/nitrino/board/sysfs/sysfstest"
)

// buses are two, of which the second is the board's own.
const buses = `
	sys/class/i2c-dev/i2c-0/device -> /sys/devices/soc/a.i2c/i2c-0
	sys/class/i2c-dev/i2c-4/device -> /sys/devices/soc/b.i2c/i2c-4
	sys/devices/soc/b.i2c/driver -> /sys/bus/platform/drivers/own
	sys/devices/soc/a.i2c/i2c-0/new_device = -
	sys/devices/soc/b.i2c/i2c-4/new_device = -
	sys/devices/soc/b.i2c/i2c-4/delete_device = -
`

func isOwn(d sysfs.Device) bool { return sysfs.Link(filepath.Dir(d.Carrier), "driver") == "own" }

func TestDevice(t *testing.T) {
	const device = "sys/devices/soc/b.i2c/i2c-4/4-0048"
	known := device + "/name = lm75\n" + device + "/driver -> /sys/bus/i2c/drivers/lm75\n"
	for _, c := range []struct {
		name, chip   string
		bus, address int
		entries      string
		err          error
		made, gone   string // what the kernel was told: "-" for nothing
	}{
		{"known", "lm75", 0, 0x48, known, nil, "-", "-"},
		{"known by the bus's number", "lm75", 4, 0x48, known, nil, "-", "-"},
		// This kernel never finds the chip.
		{"not known", "lm75", 0, 0x49, known, board.ErrNoAnswer, "lm75 0x49", "-"},
		{"without an answer before", "lm75", 0, 0x48, device + "/name = lm75", board.ErrNoAnswer, "lm75 0x48", "0x48"},
		{"no such bus", "lm75", 3, 0x48, known, board.ErrNoBus, "-", "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := Buses{sysfstest.Root(t, buses, c.entries), isOwn}
			got, err := b.Device(c.bus, c.address, c.chip)
			if !errors.Is(err, c.err) || err == nil && got != filepath.Join(b.Root, device) {
				t.Errorf("got %q, %v, want %v", got, err, c.err)
			}
			for file, want := range map[string]string{"new_device": c.made, "delete_device": c.gone} {
				if got, err := os.ReadFile(filepath.Join(b.Root, "sys/devices/soc/b.i2c/i2c-4", file)); err != nil || string(got) != want {
					t.Errorf("%s: got %q, %v, want %q", file, got, err, want)
				}
			}
		})
	}
	t.Run("another chip", func(t *testing.T) {
		b := Buses{sysfstest.Root(t, buses, known), isOwn}
		if err := os.Remove(filepath.Join(b.Root, "sys/devices/soc/b.i2c/i2c-4/delete_device")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Device(0, 0x48, "tmp75"); err == nil || !strings.Contains(err.Error(), "lm75 at 0x48 is not tmp75") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no I2C at all", func(t *testing.T) {
		b := Buses{sysfstest.Root(t, "sys"), isOwn}
		if _, err := b.Device(0, 0x48, "lm75"); !errors.Is(err, board.ErrNoBus) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEEPROM(t *testing.T) {
	const device = "sys/devices/soc/b.i2c/i2c-4/4-0050"
	b := Buses{sysfstest.Root(t, buses, device+"/name = 24c02\n"+device+"/driver -> /sys/bus/i2c/drivers/at24\n"), isOwn}
	set := board.EEPROM{Address: 0x50, Chip: "24c02"}
	if _, err := b.EEPROM(set); err == nil {
		t.Error("no file: no error")
	}
	path := filepath.Join(b.Root, device, "eeprom")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xff}, 256), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := b.EEPROM(set)
	if err != nil {
		t.Fatal(err)
	}
	if m.Size() != 256 {
		t.Errorf("got %d bytes", m.Size())
	}
	want := []byte("inventory")
	if n, err := m.WriteAt(want, 247); n != len(want) || err != nil {
		t.Errorf("writing: %d, %v", n, err)
	}
	got := make([]byte, 10)
	if n, err := m.ReadAt(got, 246); n != 10 || err != nil || string(got) != "\xffinventory" {
		t.Errorf("got %q, %d, %v", got, n, err)
	}
	for _, at := range []int64{-1, 248, 1 << 40} {
		if n, err := m.WriteAt(want, at); n != 0 || err == nil {
			t.Errorf("writing at %d: %d, %v", at, n, err)
		}
		if n, err := m.ReadAt(want, at); n != 0 || err == nil {
			t.Errorf("reading at %d: %d, %v", at, n, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadAt(got, 0); err == nil {
		t.Error("a memory that is gone: no error")
	}
}

// A medium records what is written, and fails beyond its room.
type medium struct {
	writes []string
	room   int
}

var errRoom = errors.New("no room")

func (m *medium) WriteAt(p []byte, off int64) (int, error) {
	if len(p) > m.room {
		return m.room, errRoom
	}
	m.room -= len(p)
	m.writes = append(m.writes, string(p))
	return len(p), nil
}

func TestWriteChanges(t *testing.T) {
	for _, c := range []struct {
		old, p string
		room   int
		want   string
		n      int
		err    error
	}{
		{"", "", 9, "", 0, nil},
		{"same", "same", 9, "", 4, nil},
		{"....", "abcd", 9, "abcd", 4, nil},
		{"a..d..", "abcdef", 9, "bc ef", 6, nil},
		{".bc.", "abcd", 9, "a d", 4, nil},
		{".bcd..", "abcdef", 2, "a", 5, errRoom},
	} {
		m := &medium{room: c.room}
		n, err := writeChanges(m, []byte(c.p), []byte(c.old), 0)
		if got := strings.Join(m.writes, " "); got != c.want || n != c.n || !errors.Is(err, c.err) {
			t.Errorf("%q over %q: got %q, %d, %v, want %q, %d, %v", c.p, c.old, got, n, err, c.want, c.n, c.err)
		}
	}
}
