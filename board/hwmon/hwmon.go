// Package hwmon turns the sensors that Linux's hardware monitoring drivers show
// in /sys/class/hwmon (Documentation/hwmon/sysfs-interface.rst) into parts of
// the host.
package hwmon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/i2c"
	"github.com/nitrino/nitrino/board/sysfs"
	"github.com/nitrino/nitrino/host"
)

// An Own is a driver whose sensors are of the board itself.
type Own struct {
	Driver string // as it names itself in sysfs
	Name   string // of its sensor, or how the names of its sensors begin
}

// Connect puts the sensors and the memory of the inventory into p: those of the
// board itself, where they are there, then those of the settings. A chip that
// cannot be used is left out and told in the list. release closes all.
func Connect(buses i2c.Buses, own []Own, s board.Sensors, p *host.Parts) (failed []*board.WireError, release func() error) {
	b := builder{given: map[string]bool{}}
	for _, o := range own {
		c := &chip{root: buses.Root, driver: o.Driver}
		// A board whose kernel does not show it has one sensor less.
		if folder, err := c.folder(); err == nil {
			if err := b.add(c, folder, board.Chip{Name: o.Name, Place: host.PlaceBoard}); err != nil {
				failed = append(failed, &board.WireError{Path: "the board's " + o.Driver, Err: err})
			}
		}
	}
	for _, set := range s.Chips {
		for _, channel := range set.Channels {
			b.given[channel.Name] = true
		}
	}
	for i, set := range s.Chips {
		if err := b.connect(buses, set); err != nil {
			failed = append(failed, &board.WireError{Path: fmt.Sprintf("sensors.chips.%d", i), Err: fmt.Errorf("%s: %w", set.Name, err)})
		}
	}
	p.Sensors = append(p.Sensors, b.parts...)
	if s.FRU.Chip != "" {
		memory, err := buses.EEPROM(s.FRU)
		if err != nil {
			failed = append(failed, &board.WireError{Path: "sensors.fru", Err: err})
		} else {
			p.FRU = memory
		}
	}
	return failed, func() error {
		var errs []error
		for _, g := range b.gauges {
			errs = append(errs, g.Close())
		}
		return errors.Join(errs...)
	}
}

// A chip is a device that has sensors.
type chip struct {
	root   string
	device string // its folder in sysfs; "": whichever has the driver
	driver string // as it names itself; "": any
	shunt  int    // µΩ; 0: as the driver has it
}

var errGone = errors.New("the chip's driver does not run")

// folder finds the chip's folder in sysfs, whose number depends on what came
// first, and makes sure that the driver knows the shunt: it forgets it with the
// chip.
func (c *chip) folder() (string, error) {
	list, err := sysfs.Class(c.root, "hwmon")
	if err != nil {
		return "", err
	}
	for _, d := range list {
		folder := filepath.Join(c.root, "sys/class/hwmon", d.Name)
		if c.device != "" && d.Carrier != c.device {
			continue
		}
		if c.driver != "" {
			if name, err := text(filepath.Join(folder, "name")); err != nil || name != c.driver {
				continue
			}
		}
		return folder, c.setShunt(folder)
	}
	return "", errGone
}

// setShunt gives the driver of each of the chip's inputs the shunt's resistance.
func (c *chip) setShunt(folder string) error {
	if c.shunt == 0 {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(folder, "shunt*_resistor"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("the chip has no shunt to set")
	}
	for _, file := range files {
		if now, err := text(file); err == nil && now == strconv.Itoa(c.shunt) {
			continue
		}
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(strconv.Itoa(c.shunt))
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// text reads a file of one line.
func text(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
