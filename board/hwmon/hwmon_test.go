package hwmon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/i2c"
	"github.com/nitrino/nitrino/board/sysfs"
	"github.com/nitrino/nitrino/board/sysfs/sysfstest"
	"github.com/nitrino/nitrino/host"
)

const (
	bus = `
	sys/class/i2c-dev/i2c-1/device -> /sys/devices/soc/i2c-1
	sys/devices/soc/i2c-1/new_device = -
	`
	soc = `
	sys/class/hwmon/hwmon3/device -> /sys/devices/virtual/thermal/thermal_zone0
	sys/devices/virtual/thermal/thermal_zone0/type = cpu-thermal
	sys/class/hwmon/hwmon3/name = cpu_thermal
	sys/class/hwmon/hwmon3/temp1_input = 48312
	sys/class/hwmon/hwmon3/temp1_crit = 110000
	sys/class/hwmon/hwmon4/device -> /sys/devices/soc/firmware
	sys/devices/soc/firmware/x = y
	sys/class/hwmon/hwmon4/name = rpi_volt
	sys/class/hwmon/hwmon4/in0_lcrit_alarm = 0
	`
)

// chipAt is a chip on the bus that its driver runs, with hwmon's number n.
func chipAt(address int, chip string, n int, files string) string {
	device := fmt.Sprintf("sys/devices/soc/i2c-1/1-%04x", address)
	s := fmt.Sprintf("%s/name = %s\n%s/driver -> /sys/bus/i2c/drivers/x\n", device, chip, device)
	s += fmt.Sprintf("sys/class/hwmon/hwmon%d/device -> /%s\nsys/class/hwmon/hwmon%d/name = %s\n", n, device, n, chip)
	for line := range strings.Lines(files) {
		if line = strings.TrimSpace(line); line != "" {
			s += fmt.Sprintf("sys/class/hwmon/hwmon%d/%s\n", n, line)
		}
	}
	return s
}

const (
	lm75 = `
	temp1_input = 24500
	temp1_max = 80000
	temp1_max_hyst = 75000
	`
	ina226 = `
	in0_input = 25
	in0_crit = 0
	in1_input = 12006
	in1_crit = 0
	in1_lcrit = 0
	curr1_input = 5003
	power1_input = 60050000
	power1_crit = 0
	shunt_resistor = 10000
	update_interval = 18
	`
	nct7802 = `
	temp1_input = 45000
	temp1_min = -128000
	temp1_max = 90000
	temp1_crit = 85000
	temp1_fault = 0
	temp4_input = 31000
	temp4_crit = 100000
	temp4_emergency = 105000
	temp4_label = Ambient, near the fan
	fan1_input = 1234
	fan1_min = 300
	fan2_input = 0
	in1_input = 3301
	`
)

func attach(t *testing.T, root string, s board.Sensors) (host.Parts, []*board.WireError) {
	t.Helper()
	var p host.Parts
	buses := i2c.Buses{Root: root, Own: func(d sysfs.Device) bool { return d.Name == "i2c-1" }}
	failed, release := Connect(buses, []Own{{"cpu_thermal", "Board temp"}, {"absent", "x"}}, s, &p)
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return p, failed
}

// describe says in a line what a sensor is and tells.
func describe(t *testing.T, s host.SensorPart) string {
	t.Helper()
	v, err := s.Gauge.Read(t.Context())
	if err != nil {
		return fmt.Sprintf("%s: %v", s.Name, err)
	}
	text := fmt.Sprintf("%s: %v (%.6g to %.6g) %s at %s", s.Name, v, s.Min, s.Max, s.Quantity, s.Place)
	if s.HostPower {
		text += " while on"
	}
	for _, l := range []struct {
		name string
		v    *float64
	}{
		{"lf", s.Limits.LowerFatal}, {"lc", s.Limits.LowerCritical}, {"lw", s.Limits.LowerCaution},
		{"uw", s.Limits.UpperCaution}, {"uc", s.Limits.UpperCritical}, {"uf", s.Limits.UpperFatal},
	} {
		if l.v != nil {
			text += fmt.Sprintf(" %s=%v", l.name, *l.v)
		}
	}
	if s.Limits.Hysteresis != 0 {
		text += fmt.Sprintf(" h=%v", s.Limits.Hysteresis)
	}
	return text
}

func TestConnect(t *testing.T) {
	limit, beyond := 4.5, 400.0
	for _, c := range []struct {
		name    string
		entries []string
		chips   []board.Chip
		want    []string
		failed  []string
	}{
		{"nothing", nil, nil, nil, nil},
		{"the board's own", []string{soc}, nil, []string{"Board temp: 48.312 (-55 to 125) temperature at board uc=110"}, nil},
		{"one sensor", []string{chipAt(0x48, "lm75", 0, lm75)},
			[]board.Chip{{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet"}},
			[]string{"Inlet: 24.5 (-55 to 125) temperature at inlet uw=80 h=5"}, nil},
		{"a power monitor", []string{soc, chipAt(0x40, "ina226", 7, ina226)},
			[]board.Chip{{Bus: 1, Address: 0x40, Chip: "ina226", ShuntMicroOhm: 5000, Place: host.PlaceSystem, Name: "Input"}},
			[]string{
				"Board temp: 48.312 (-55 to 125) temperature at board uc=110",
				"Input volt: 12.006 (0 to 36) voltage at system",
				"Input amp: 5.003 (0 to 16.384) current at system",
				"Input power: 60.05 (0 to 589.824) power at system",
			}, nil},
		{"channels", []string{chipAt(0x40, "ina226", 7, ina226)},
			[]board.Chip{{Address: 0x40, Chip: "ina226", Place: host.PlaceSystem, Name: "Input", Channels: map[string]board.Channel{
				"in1":   {Name: "12 V", Place: host.PlacePSU, Min: 2, Max: 15, Limits: &host.Limits{LowerCritical: &limit}},
				"curr1": {Off: true},
			}}},
			[]string{
				"12 V: 12.006 (2 to 15) voltage at psu lc=4.5",
				"Input power: 60.05 (0 to 294.912) power at system",
			}, nil},
		{"a monitor of all", []string{chipAt(0x28, "nct7802", 1, nct7802)},
			[]board.Chip{{Address: 0x28, Chip: "nct7802", Place: host.PlaceSystem, Name: "Mainboard", Channels: map[string]board.Channel{"temp1": {Place: host.PlaceCPU}}}},
			[]string{
				"Mainboard temp1: 45 (-55 to 125) temperature at cpu while on uw=90",
				"Mainb Ambient, n: 31 (-55 to 125) temperature at system uc=100 uf=105",
				"Mainboard volt: 3.301 (0 to 36) voltage at system",
				"Mainboard fan1: 1234 (0 to 25500) fan at fan while on lw=300",
				"Mainboard fan2: 0 (0 to 25500) fan at fan while on",
			}, nil},
		{"names that meet", []string{soc, chipAt(0x48, "lm75", 0, lm75), chipAt(0x40, "ina226", 7, ina226), chipAt(0x41, "ina226", 8, ina226)},
			[]board.Chip{
				{Address: 0x40, Chip: "ina226", Place: host.PlacePSU, Name: "Power supply 1a", Channels: map[string]board.Channel{"power1": {Off: true}}},
				{Address: 0x41, Chip: "ina226", Place: host.PlacePSU, Name: "Power supply 1b", Channels: map[string]board.Channel{"power1": {Name: "Power suppl amp"}}},
				{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Board temp"},
			},
			[]string{
				"Board temp: 48.312 (-55 to 125) temperature at board uc=110",
				"Power suppl volt: 12.006 (0 to 36) voltage at psu",
				"Power supply amp: 5.003 (0 to 8.192) current at psu",
				"Power sup volt 2: 12.006 (0 to 36) voltage at psu",
				"Power supp amp 2: 5.003 (0 to 8.192) current at psu",
				"Power suppl amp: 60.05 (0 to 294.912) power at psu",
				"Board temp 2: 24.5 (-55 to 125) temperature at inlet uw=80 h=5",
			}, nil},
		{"what cannot be", []string{chipAt(0x48, "lm75", 0, lm75), chipAt(0x44, "sht3x", 1, ""), chipAt(0x40, "ina226", 7, ina226)},
			[]board.Chip{
				{Address: 0x4a, Chip: "lm75", Place: host.PlaceInlet, Name: "Away"},
				{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet", ShuntMicroOhm: 1},
				{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet", Channels: map[string]board.Channel{"temp2": {}}},
				{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet", Channels: map[string]board.Channel{"temp1": {Off: true}}},
				{Address: 0x44, Chip: "sht3x", Place: host.PlaceInlet, Name: "Humidity"},
				{Bus: 2, Address: 0x44, Chip: "sht3x", Place: host.PlaceInlet, Name: "Far"},
				{Address: 0x40, Chip: "ina226", Place: host.PlaceSystem, Name: "Input", Channels: map[string]board.Channel{"power1": {Limits: &host.Limits{UpperFatal: &beyond}}}},
				{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet"},
			},
			[]string{"Inlet: 24.5 (-55 to 125) temperature at inlet uw=80 h=5"},
			[]string{
				"sensors.chips.0: Away: the chip does not answer",
				"sensors.chips.1: Inlet: the chip has no shunt to set",
				"sensors.chips.2: Inlet: the chip has no sensor temp2",
				"sensors.chips.3: Inlet: the chip has no sensors",
				"sensors.chips.4: Humidity: the chip has no sensors",
				"sensors.chips.5: Far: there is no such I2C bus: i2c-2",
				"sensors.chips.6: Input: limits of power1: [400]: the sensor tells",
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := sysfstest.Root(t, append(c.entries, "sys/class/hwmon", bus)...)
			p, failed := attach(t, root, board.Sensors{Chips: c.chips})
			if len(p.Sensors) != len(c.want) || len(failed) != len(c.failed) {
				t.Errorf("got %d sensors and %v, want %d and %q", len(p.Sensors), failed, len(c.want), c.failed)
			}
			for i, s := range p.Sensors[:min(len(c.want), len(p.Sensors))] {
				if got := describe(t, s); got != c.want[i] {
					t.Errorf("got  %s\nwant %s", got, c.want[i])
				}
			}
			for i, err := range failed[:min(len(c.failed), len(failed))] {
				if !strings.HasPrefix(err.Error(), c.failed[i]) {
					t.Errorf("got %v, want %s", err, c.failed[i])
				}
			}
			for _, set := range c.chips {
				if c.failed == nil && set.ShuntMicroOhm != 0 {
					got, err := os.ReadFile(filepath.Join(root, "sys/class/hwmon/hwmon7/shunt_resistor"))
					if err != nil || string(got) != "50000" { // "5000" over "10000", which a real file is not cut off by
						t.Errorf("got shunt %q, %v", got, err)
					}
				}
			}
		})
	}
}

// TestGauge has a chip that goes away and comes back as another hwmon device.
func TestGauge(t *testing.T) {
	root := sysfstest.Root(t, bus, chipAt(0x48, "lm75", 0, lm75+"temp1_fault = 0"))
	p, failed := attach(t, root, board.Sensors{Chips: []board.Chip{{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet"}}})
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	gauge := p.Sensors[0].Gauge
	hwmon := filepath.Join(root, "sys/class/hwmon")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(hwmon, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(value float64, err error) {
		t.Helper()
		got, gotErr := gauge.Read(t.Context())
		if got != value || !errors.Is(gotErr, err) {
			t.Errorf("got %v, %v, want %v, %v", got, gotErr, value, err)
		}
	}
	want(24.5, nil)
	write("hwmon0/temp1_input", "-1250\n")
	want(-1.25, nil)
	write("hwmon0/temp1_fault", "1\n")
	want(0, errFault)
	write("hwmon0/temp1_fault", "0\n")
	want(-1.25, nil)

	write("hwmon0/temp1_input", "")
	if v, err := gauge.Read(t.Context()); err == nil {
		t.Errorf("nothing to read: got %v", v)
	}
	if err := os.Rename(filepath.Join(hwmon, "hwmon0"), filepath.Join(root, "away")); err != nil {
		t.Fatal(err)
	}
	want(0, errGone)
	if err := os.Rename(filepath.Join(root, "away"), filepath.Join(hwmon, "hwmon9")); err != nil {
		t.Fatal(err)
	}
	write("hwmon9/temp1_input", "30000")
	want(30, nil)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gauge.Read(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = gauge.Read(t.Context()) }); n > 0 {
		t.Errorf("got %v allocations for a reading", n)
	}
}

func TestFRU(t *testing.T) {
	device := "sys/devices/soc/i2c-1/1-0050"
	root := sysfstest.Root(t, bus, "sys/class/hwmon", device+"/name = 24c02\n"+device+"/driver -> /sys/bus/i2c/drivers/at24\n"+device+"/eeprom = 0123456789")
	p, failed := attach(t, root, board.Sensors{FRU: board.EEPROM{Address: 0x50, Chip: "24c02"}})
	if len(failed) > 0 || p.FRU == nil || p.FRU.Size() != 10 {
		t.Errorf("got %+v, %v", p.FRU, failed)
	}
	p, failed = attach(t, root, board.Sensors{FRU: board.EEPROM{Address: 0x51, Chip: "24c02"}})
	if len(failed) != 1 || failed[0].Path != "sensors.fru" || !errors.Is(failed[0], board.ErrNoAnswer) || p.FRU != nil {
		t.Errorf("got %+v, %v", p.FRU, failed)
	}
}

func FuzzParseChannel(f *testing.F) {
	for _, s := range []string{"temp1_input", "in0_input", "power12_input", "fan1_min", "temp01_input", "humidity1_input", "in_input", "temp-1_input"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file string) {
		if c, ok := parseChannel(file); ok && c.name()+"_input" != file {
			t.Errorf("%q: got %+v", file, c)
		}
	})
}
