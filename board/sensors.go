package board

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// Sensors is the section "sensors" of the settings: chips on an I2C bus that
// measure the host or what is around it, and the memory of its inventory.
type Sensors struct {
	Chips []Chip `json:"chips"`
	// FRU is the EEPROM of the inventory; one without Chip is not there.
	FRU EEPROM `json:"fru"`
}

// DefaultSensors are none: only the owner knows what is wired.
func DefaultSensors() Sensors { return Sensors{Chips: []Chip{}, FRU: EEPROM{Address: 0x50}} }

// A Chip is one that measures.
type Chip struct {
	// Bus is the number of the I2C bus as Linux counts them; 0: the board's own.
	Bus int `json:"bus,omitempty"`
	// Address is the 7-bit one.
	Address int `json:"address"`
	// Chip is its type, by the name that the kernel's driver has for it.
	Chip string `json:"chip"`
	// ShuntMicroOhm is the resistor through which it measures currents; 0: what
	// its driver assumes.
	ShuntMicroOhm int `json:"shunt_micro_ohm,omitempty"`
	// Place says what it measures.
	Place host.Place `json:"place"`
	// Name is that of its sensor; where it has more than one, their names
	// begin with it.
	Name string `json:"name"`
	// Channels say more of single sensors, by the kernel's name of each: "temp1",
	// "in1", "fan2".
	Channels map[string]Channel `json:"channels,omitempty"`
}

// A Channel is one sensor of a chip. What is zero is as the chip says.
type Channel struct {
	// Off: nothing is connected to it.
	Off   bool       `json:"off,omitempty"`
	Name  string     `json:"name,omitempty"`
	Place host.Place `json:"place,omitempty"`
	// Min and Max bound what it can tell, in its unit; both or none.
	Min float64 `json:"min,omitempty"`
	Max float64 `json:"max,omitempty"`
	// Limits replace those that the chip has.
	Limits *host.Limits `json:"limits,omitempty"`
}

// An EEPROM is a serial memory of the 24C family.
type EEPROM struct {
	Bus     int `json:"bus"`
	Address int `json:"address"`
	// Chip is its type: "24c02", "24c32". A wrong one writes to wrong places.
	Chip string `json:"chip"`
}

const (
	// The 7-bit addresses below and above these have meanings of their own
	// (UM10204 section 3.1.12).
	minAddress = 0x08
	maxAddress = 0x77

	maxBus   = 255
	maxShunt = 1_000_000_000 // µΩ
	maxChips = 16
	// MaxSensorName is how many characters a sensor's name has at most
	// (host.SensorPart).
	MaxSensorName = 16
)

func chipName() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,18}$`) }
func eepromName() *regexp.Regexp {
	return regexp.MustCompile(`^24c(01|02|04|08|16|32|64|128|256|512|1024)$`)
}
func channelName() *regexp.Regexp {
	return regexp.MustCompile(`^(temp|in|curr|power|fan|humidity)[0-9]{1,2}$`)
}

// places are those that a sensor can have.
func places() []host.Place {
	return []host.Place{host.PlaceBoard, host.PlaceSystem, host.PlaceInlet, host.PlaceExhaust, host.PlaceCPU, host.PlacePSU, host.PlaceFan}
}

// Validate answers a *settings.FieldError, relative to the section, for the first
// thing that cannot be.
func (s Sensors) Validate() error {
	bad := func(pointer string, err error) error { return &settings.FieldError{Pointer: pointer, Err: err} }
	if len(s.Chips) > maxChips {
		return bad("/chips", fmt.Errorf("%d chips are more than %d", len(s.Chips), maxChips))
	}
	type place struct{ bus, address int }
	used := map[place]string{}
	names := map[string]string{}
	at := func(pointer string, bus, address int) error {
		switch {
		case bus < 0 || bus > maxBus:
			return bad(pointer+"/bus", fmt.Errorf("%d is not between 0 and %d", bus, maxBus))
		case address < minAddress || address > maxAddress:
			return bad(pointer+"/address", fmt.Errorf("%d is not between %d and %d", address, minAddress, maxAddress))
		case used[place{bus, address}] != "":
			return bad(pointer+"/address", fmt.Errorf("%w: %d on the bus is %s already", ErrAddressTwice, address, used[place{bus, address}]))
		}
		used[place{bus, address}] = pointer[1:]
		return nil
	}
	name := func(pointer, name string) error {
		if err := checkSensorName(name); err != nil {
			return bad(pointer, err)
		}
		if first, ok := names[name]; ok {
			return bad(pointer, fmt.Errorf("%q is the name of %s already", name, first))
		}
		names[name] = pointer[1:]
		return nil
	}
	for i, c := range s.Chips {
		p := fmt.Sprintf("/chips/%d", i)
		if err := at(p, c.Bus, c.Address); err != nil {
			return err
		}
		if err := name(p+"/name", c.Name); err != nil {
			return err
		}
		switch {
		case !chipName().MatchString(c.Chip):
			return bad(p+"/chip", fmt.Errorf("%q is not the name of a chip, like ina226", c.Chip))
		case c.ShuntMicroOhm < 0 || c.ShuntMicroOhm > maxShunt:
			return bad(p+"/shunt_micro_ohm", fmt.Errorf("%d is not between 0 and %d", c.ShuntMicroOhm, maxShunt))
		case !slices.Contains(places(), c.Place):
			return bad(p+"/place", fmt.Errorf("%q is not one of %v", c.Place, places()))
		}
		for _, channel := range slices.Sorted(maps.Keys(c.Channels)) {
			p, v := p+"/channels/"+pointerToken(channel), c.Channels[channel]
			switch {
			case !channelName().MatchString(channel):
				return bad(p, fmt.Errorf("%q is not a sensor of a chip, like temp1, in1, curr1, power1, fan1, humidity1", channel))
			case v.Place != "" && !slices.Contains(places(), v.Place):
				return bad(p+"/place", fmt.Errorf("%q is not one of %v", v.Place, places()))
			case v.Min > v.Max || v.Min == v.Max && v.Min != 0:
				return bad(p+"/max", fmt.Errorf("%v is not above %v", v.Max, v.Min))
			}
			if v.Name != "" && v.Name != c.Name {
				if err := name(p+"/name", v.Name); err != nil {
					return err
				}
			}
			if v.Limits != nil {
				low, high := v.Min, v.Max
				if low == high { // only the chip knows them
					low, high = math.Inf(-1), math.Inf(1)
				}
				if err := CheckLimits(*v.Limits, low, high); err != nil {
					return bad(p+"/limits", err)
				}
			}
		}
	}
	if s.FRU.Chip == "" {
		return nil
	}
	if !eepromName().MatchString(s.FRU.Chip) {
		return bad("/fru/chip", fmt.Errorf("%q is not a serial EEPROM from 24c01 to 24c1024", s.FRU.Chip))
	}
	return at("/fru", s.FRU.Bus, s.FRU.Address)
}

// pointerToken is a name in a JSON pointer (RFC 6901 section 3).
func pointerToken(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// ErrAddressTwice says that two chips are at the same place.
var ErrAddressTwice = errors.New("the address is used twice")

func checkSensorName(name string) error {
	ok := len(name) >= 1 && len(name) <= MaxSensorName && name[0] != ' ' && name[len(name)-1] != ' '
	for _, c := range name {
		ok = ok && c >= ' ' && c <= '~'
	}
	if !ok {
		return fmt.Errorf("%q is not a sensor's name (1 to %d characters of ASCII)", name, MaxSensorName)
	}
	return nil
}

// limitValues are those that are there, from the lowest on.
func limitValues(l host.Limits) []float64 {
	var list []float64
	for _, v := range []*float64{l.LowerFatal, l.LowerCritical, l.LowerCaution, l.UpperCaution, l.UpperCritical, l.UpperFatal} {
		if v != nil {
			list = append(list, *v)
		}
	}
	return list
}

// CheckLimits says whether a sensor that tells low to high can have these limits.
func CheckLimits(l host.Limits, low, high float64) error {
	values := limitValues(l)
	switch {
	case !slices.IsSorted(values), sameLimit(l):
		return fmt.Errorf("%v: want lower_fatal ≤ lower_critical ≤ lower_caution < upper_caution ≤ upper_critical ≤ upper_fatal", values)
	case len(values) > 0 && (values[0] < low || values[len(values)-1] > high):
		return fmt.Errorf("%v: the sensor tells %v to %v only", values, low, high)
	case l.Hysteresis < 0 || l.Hysteresis > high-low:
		return fmt.Errorf("the hysteresis %v is not between 0 and %v", l.Hysteresis, high-low)
	}
	return nil
}

// sameLimit says whether the highest lower limit of limits in order is the lowest
// upper one too.
func sameLimit(l host.Limits) bool {
	low, high := cmp.Or(l.LowerCaution, l.LowerCritical, l.LowerFatal), cmp.Or(l.UpperCaution, l.UpperCritical, l.UpperFatal)
	return low != nil && high != nil && *low == *high
}

// Equal says whether both are the same sensors.
func (s Sensors) Equal(other Sensors) bool {
	return s.FRU == other.FRU && slices.EqualFunc(s.Chips, other.Chips, Chip.equal)
}

func (c Chip) equal(d Chip) bool {
	return c.Bus == d.Bus && c.Address == d.Address && c.Chip == d.Chip && c.ShuntMicroOhm == d.ShuntMicroOhm &&
		c.Place == d.Place && c.Name == d.Name && maps.EqualFunc(c.Channels, d.Channels, Channel.equal)
}

func (c Channel) equal(d Channel) bool {
	limits := func(l *host.Limits) host.Limits {
		if l == nil {
			return host.Limits{}
		}
		return *l
	}
	a, b := limits(c.Limits), limits(d.Limits)
	same := func(x, y *float64) bool { return x == y || x != nil && y != nil && *x == *y }
	return c.Off == d.Off && c.Name == d.Name && c.Place == d.Place && c.Min == d.Min && c.Max == d.Max &&
		(c.Limits == nil) == (d.Limits == nil) && a.Hysteresis == b.Hysteresis &&
		same(a.LowerCaution, b.LowerCaution) && same(a.LowerCritical, b.LowerCritical) && same(a.LowerFatal, b.LowerFatal) &&
		same(a.UpperCaution, b.UpperCaution) && same(a.UpperCritical, b.UpperCritical) && same(a.UpperFatal, b.UpperFatal)
}
