package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nitrino/nitrino/board/sim"
	"github.com/nitrino/nitrino/cmds/emulate/i2c"
	"github.com/nitrino/nitrino/cmds/emulate/vhost"
)

// Where the chips are on the board's I2C bus. Image/emulated.json names them, and
// what they measure.
const (
	powerAddress = 0x40
	inletAddress = 0x48
	fruAddress   = 0x50
)

// What there is to measure where nobody says otherwise.
const (
	inletCelsius = 24
	wattsOn      = 60
	wattsStandby = 4
)

// fruFile in -dir has the bytes of the EEPROM.
const fruFile = "fru.bin"

// chips are those on the board's I2C bus, which stay when the board is off.
type chips struct {
	inlet *i2c.LM75
	power *i2c.INA226
	fru   *i2c.EEPROM
	bus   *i2c.Bus
	file  *os.File
}

// newChips makes the chips; watts says what the host draws. Close them in the end.
func newChips(dir string, watts func() float64) (*chips, error) {
	file, err := openFRU(filepath.Join(dir, fruFile))
	if err != nil {
		return nil, err
	}
	c := &chips{
		inlet: i2c.NewLM75(func() float64 { return inletCelsius }),
		power: i2c.NewINA226(watts),
		fru:   i2c.NewEEPROM(file),
		file:  file,
	}
	c.bus = i2c.New(map[uint16]i2c.Chip{inletAddress: c.inlet, powerAddress: c.power, fruAddress: c.fru})
	return c, nil
}

// openFRU opens the EEPROM's file. A new one is erased: all bits are set.
func openFRU(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < i2c.EEPROMSize {
		blank := make([]byte, i2c.EEPROMSize-info.Size())
		for i := range blank {
			blank[i] = 0xff
		}
		_, err = f.WriteAt(blank, info.Size())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (c *chips) close() error { return c.file.Close() }

// serve is the bus of a board that runs, until its QEMU ends.
func (c *chips) serve(conn net.Conn, log *slog.Logger) {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		log.Error("the I2C bus", "error", errors.ErrUnsupported)
		return
	}
	if err := vhost.Serve(unix, vhost.Device{Features: i2c.Features, Request: c.bus.Request}, log); err != nil {
		log.Error("the I2C bus", "error", err)
	}
}

// set carries out "sensor NAME VALUE" of the control socket: a value to measure,
// "fail" or "ok".
func (c *chips) set(name, value string) error {
	type chip interface {
		Fail()
		Restore()
	}
	found, ok := map[string]chip{"inlet": c.inlet, "power": c.power, "fru": c.fru}[name]
	if !ok {
		return fmt.Errorf("sensor %q: want inlet, power or fru", name)
	}
	switch value {
	case "fail":
		found.Fail()
		return nil
	case "ok":
		found.Restore()
		return nil
	}
	meter, ok := found.(interface{ Set(float64) })
	v, err := strconv.ParseFloat(value, 64)
	if !ok || err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("sensor %s %q: want a number (not for fru), fail or ok", name, value)
	}
	meter.Set(v)
	return nil
}

// watts is what the host draws.
func watts(w *wires, h hands) float64 {
	if h == nil {
		return 0
	}
	if h.On() {
		return wattsOn
	}
	if ac, err := w.level(sim.LineStandby); err == nil && ac {
		return wattsStandby
	}
	return 0
}
