package hwmon

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/i2c"
	"github.com/nitrino/nitrino/host"
)

// A builder makes the list of sensors.
type builder struct {
	parts  []host.SensorPart
	gauges []*gauge
	given  map[string]bool // names that the owner gave to channels
}

func (b *builder) has(name string) bool {
	return slices.ContainsFunc(b.parts, func(p host.SensorPart) bool { return p.Name == name })
}

// connect adds a chip of the settings.
func (b *builder) connect(buses i2c.Buses, set board.Chip) error {
	device, err := buses.Device(set.Bus, set.Address, set.Chip)
	if err != nil {
		return err
	}
	c := &chip{root: buses.Root, device: device, shunt: set.ShuntMicroOhm}
	folder, err := c.folder()
	if err != nil {
		return err
	}
	return b.add(c, folder, set)
}

// add adds the sensors of a chip that are in use: all or none.
func (b *builder) add(c *chip, folder string, set board.Chip) (err error) {
	before := len(b.parts)
	defer func() {
		if err != nil {
			b.parts, b.gauges = b.parts[:before], b.gauges[:before]
		}
	}()
	all, err := channels(folder)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(ch channel) bool { return set.Channels[ch.name()].Off || internal(set.Chip, ch) })
	if len(all) == 0 {
		return errors.New("the chip has no sensors")
	}
	for name := range set.Channels {
		if !set.Channels[name].Off && !slices.ContainsFunc(all, func(ch channel) bool { return ch.name() == name }) {
			return fmt.Errorf("the chip has no sensor %s", name)
		}
	}
	for _, ch := range all {
		own := set.Channels[ch.name()]
		part := host.SensorPart{Name: own.Name, Quantity: ch.kind.quantity, Place: cmp.Or(own.Place, set.Place)}
		if part.Name == "" || b.has(part.Name) {
			part.Name = b.name(set.Name, folder, ch, all)
		}
		if part.Quantity == host.FanSpeed && part.Place == host.PlaceSystem {
			part.Place = host.PlaceFan
		}
		// What is inside the host is still, cold or without power when it is off.
		part.HostPower = part.Place == host.PlaceCPU || part.Place == host.PlaceFan
		part.Min, part.Max = span(set, ch.kind)
		if own.Min != own.Max {
			part.Min, part.Max = own.Min, own.Max
		}
		if own.Limits != nil {
			if err := board.CheckLimits(*own.Limits, part.Min, part.Max); err != nil {
				return fmt.Errorf("limits of %s: %w", ch.name(), err)
			}
			part.Limits = *own.Limits
		} else {
			part.Limits = limits(folder, ch, part.Min, part.Max)
		}
		g := &gauge{chip: c, channel: ch}
		part.Gauge = g
		b.parts, b.gauges = append(b.parts, part), append(b.gauges, g)
	}
	return nil
}

// name makes a name that no other sensor has: that of the chip, and if it has
// several sensors, the driver's label or the quantity of this one.
func (b *builder) name(of, folder string, ch channel, all []channel) string {
	suffix := ""
	if len(all) > 1 {
		suffix = ch.kind.word
		if slices.ContainsFunc(all, func(o channel) bool { return o.kind == ch.kind && o.number != ch.number }) {
			suffix += strconv.Itoa(ch.number)
		}
		if label, err := text(filepath.Join(folder, ch.name()+"_label")); err == nil && label != "" {
			suffix = strings.Map(func(r rune) rune {
				if r < ' ' || r > '~' {
					return -1
				}
				return r
			}, label)
		}
	}
	name := fit(of, suffix)
	for n := 2; b.given[name] || b.has(name); n++ {
		number := strconv.Itoa(n)
		name = fit(of, strings.TrimSpace(suffix[:min(len(suffix), 9-len(number))]+" "+number))
	}
	return name
}

// fit joins both. Where there is no room, the ends of both go: the first keeps 5
// characters.
func fit(name, suffix string) string {
	if suffix == "" {
		return name
	}
	suffix = suffix[:min(len(suffix), board.MaxSensorName-6)]
	name = name[:min(len(name), board.MaxSensorName-1-len(suffix))]
	return strings.TrimSpace(name + " " + suffix)
}

// A kind is one of the kinds of channels that drivers have.
type kind struct {
	prefix   string // of its files
	word     string // in names of sensors
	quantity host.Quantity
	parts    float64 // of the quantity's unit, which its files count
	min, max float64 // where nobody says better
}

func kinds() []kind {
	return []kind{
		{"temp", "temp", host.Temperature, 1e3, -55, 125},
		{"in", "volt", host.Voltage, 1e3, 0, 36},
		{"curr", "amp", host.Current, 1e3, 0, 170},
		{"power", "power", host.Wattage, 1e6, 0, 2000},
		{"fan", "fan", host.FanSpeed, 1, 0, 25500},
		{"humidity", "humidity", host.Humidity, 1e3, 0, 100},
	}
}

// A channel is one sensor of a chip.
type channel struct {
	kind   kind
	number int
}

// name is what the channel's files begin with.
func (c channel) name() string { return c.kind.prefix + strconv.Itoa(c.number) }

// parseChannel reads the name of a file that has a reading: "temp1_input".
func parseChannel(file string) (channel, bool) {
	name, ok := strings.CutSuffix(file, "_input")
	if !ok {
		return channel{}, false
	}
	for _, k := range kinds() {
		digits, ok := strings.CutPrefix(name, k.prefix)
		n, err := strconv.Atoi(digits)
		if ok && err == nil && n >= 0 && strconv.Itoa(n) == digits {
			return channel{k, n}, true
		}
	}
	return channel{}, false
}

// channels lists what a chip measures, by kind and number.
func channels(folder string) ([]channel, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var list []channel
	for _, e := range entries {
		if c, ok := parseChannel(e.Name()); ok {
			list = append(list, c)
		}
	}
	order := map[string]int{}
	for i, k := range kinds() {
		order[k.prefix] = i
	}
	slices.SortFunc(list, func(a, b channel) int {
		return cmp.Or(cmp.Compare(order[a.kind.prefix], order[b.kind.prefix]), cmp.Compare(a.number, b.number))
	})
	return list, nil
}

// internal says that a channel is no more than another one in other units: the
// voltage at the shunt of a chip that tells the current through it
// (Documentation/hwmon/ina2xx.rst, ina3221.rst), and sums.
func internal(chip string, c channel) bool {
	switch chip {
	case "ina3221":
		return c.kind.prefix == "in" && c.number >= 4 || c.kind.prefix == "curr" && c.number >= 4
	case "ina219", "ina220", "ina226", "ina230", "ina231", "ina260":
		return c.kind.prefix == "in" && c.number == 0
	}
	return false
}

// span is what a channel can tell. That of a current depends on the shunt, by the
// voltage that the chip takes there (their data sheets: 320 mV, 81.92 mV and
// 163.8 mV at the most), which is 10 mΩ where nobody says otherwise.
func span(set board.Chip, k kind) (low, high float64) {
	var shunt, bus float64 // V
	switch set.Chip {
	case "ina219", "ina220":
		shunt, bus = 0.320, 26
	case "ina226", "ina230", "ina231":
		shunt, bus = 0.08192, 36
	case "ina3221":
		shunt, bus = 0.1638, 26
	default:
		return k.min, k.max
	}
	amps := shunt / (float64(cmp.Or(set.ShuntMicroOhm, 10_000)) * 1e-6)
	switch k.quantity {
	case host.Voltage:
		return 0, bus
	case host.Current:
		return 0, amps
	case host.Wattage:
		return 0, amps * bus
	}
	return k.min, k.max
}

// limits are the thresholds that the chip or the firmware knows. What is not
// between low and high, or not in order, is what a chip has when nobody set it.
func limits(folder string, c channel, low, high float64) host.Limits {
	read := func(name string) (float64, bool) {
		s, err := text(filepath.Join(folder, c.name()+"_"+name))
		v, numErr := strconv.ParseInt(s, 10, 64)
		return float64(v) / c.kind.parts, err == nil && numErr == nil
	}
	var l host.Limits
	last := low
	for _, f := range []struct {
		to   **float64
		name string
	}{
		{&l.LowerCritical, "lcrit"}, {&l.LowerCaution, "min"},
		{&l.UpperCaution, "max"}, {&l.UpperCritical, "crit"}, {&l.UpperFatal, "emergency"},
	} {
		// 0 is how chips say that there is none, but for the frost.
		v, ok := read(f.name)
		frost := c.kind.quantity == host.Temperature && f.to == &l.LowerCaution
		if ok && v > last && v < high && (v != 0 || frost) {
			*f.to, last = &v, v
		}
	}
	if l.UpperCaution != nil {
		if back, ok := read("max_hyst"); ok && back < *l.UpperCaution && back > low {
			l.Hysteresis = *l.UpperCaution - back
		}
	}
	return l
}
