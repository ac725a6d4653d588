package i2c

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
)

// A register file is what both meters have: registers of 16 bits, the high byte
// first, behind a pointer that a write's first byte sets.
type registers struct {
	pointer byte
	values  map[byte]uint16
}

// write sets the pointer, and the register that can be written.
func (r *registers) write(p []byte, writable func(byte) bool) {
	if len(p) == 0 {
		return
	}
	r.pointer = p[0]
	if !writable(r.pointer) {
		return
	}
	switch len(p) {
	case 2:
		r.values[r.pointer] = uint16(p[1]) << 8
	case 3:
		r.values[r.pointer] = binary.BigEndian.Uint16(p[1:])
	}
}

// read gives the bytes of v over and over.
func (r *registers) read(p []byte, v uint16) {
	for i := range p {
		p[i] = byte(v >> (8 * (1 - i%2)))
	}
}

// A meter is what the chips that measure have in common: the value at their pins,
// and whether they answer.
type meter struct {
	mu     sync.Mutex
	silent bool
	value  float64
	actual func() float64 // the value where none was set
	set    bool
}

// Set gives the chip a value to measure from now on.
func (m *meter) Set(v float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.value, m.set, m.silent = v, true, false
}

// Fail makes the chip silent.
func (m *meter) Fail() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = true
}

// Restore makes the chip answer, and measure what there is.
func (m *meter) Restore() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set, m.silent = false, false
}

// measure returns the value at the pins.
func (m *meter) measure() (float64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.silent:
		return 0, ErrSilent
	case m.set:
		return m.value, nil
	}
	return m.actual(), nil
}

// An LM75 is TI's digital temperature sensor (its data sheet, SNIS153).
type LM75 struct {
	meter
	r registers
}

// Registers of an LM75.
const (
	lm75Temperature   = 0
	lm75Configuration = 1
	lm75Hysteresis    = 2
	lm75Overtemp      = 3
)

// NewLM75 makes a sensor in a place that is as warm (°C) as the function says.
func NewLM75(celsius func() float64) *LM75 {
	return &LM75{meter{actual: celsius}, registers{values: map[byte]uint16{lm75Hysteresis: 75 << 8, lm75Overtemp: 80 << 8}}}
}

// Write implements Chip.
func (c *LM75) Write(p []byte) error {
	if _, err := c.measure(); err != nil {
		return err
	}
	c.r.write(p, func(r byte) bool { return r >= lm75Configuration && r <= lm75Overtemp })
	return nil
}

// Read implements Chip.
func (c *LM75) Read(p []byte) error {
	v, err := c.measure()
	if err != nil {
		return err
	}
	word := c.r.values[c.r.pointer]
	if c.r.pointer == lm75Temperature {
		half := math.Round(min(max(v, -55), 125) * 2) // steps of 0.5 °C
		word = uint16(int16(half)) << 7
	}
	c.r.read(p, word)
	return nil
}

// An INA226 is TI's power monitor (its data sheet, SBOS547), with a shunt in the
// supply of 12 V.
type INA226 struct {
	meter
	r registers
}

// Registers of an INA226 and what they have at power-up.
const (
	inaConfiguration = 0x00
	inaShuntVoltage  = 0x01
	inaBusVoltage    = 0x02
	inaPower         = 0x03
	inaCurrent       = 0x04
	inaCalibration   = 0x05
	inaMaskEnable    = 0x06
	inaAlertLimit    = 0x07
	inaManufacturer  = 0xfe
	inaDie           = 0xff

	inaConfigured = 0x4127
	inaReset      = 0x8000
)

// The circuit around it.
const (
	// Shunt is the resistance, in µΩ.
	Shunt = 5000
	// Supply is the voltage.
	Supply = 12.0
)

// NewINA226 makes a monitor of a supply that gives as much (W) as the function
// says.
func NewINA226(watts func() float64) *INA226 {
	c := &INA226{meter: meter{actual: watts}}
	c.reset()
	return c
}

func (c *INA226) reset() {
	c.r.values = map[byte]uint16{inaConfiguration: inaConfigured, inaManufacturer: 0x5449, inaDie: 0x2260}
}

// Write implements Chip.
func (c *INA226) Write(p []byte) error {
	if _, err := c.measure(); err != nil {
		return err
	}
	c.r.write(p, func(r byte) bool {
		return r == inaConfiguration || r == inaCalibration || r == inaMaskEnable || r == inaAlertLimit
	})
	if c.r.values[inaConfiguration]&inaReset != 0 {
		c.reset()
	}
	return nil
}

// Read implements Chip.
func (c *INA226) Read(p []byte) error {
	watts, err := c.measure()
	if err != nil {
		return err
	}
	// Steps of 2.5 µV at the shunt and 1.25 mV on the bus; current and power as
	// in the data sheet's equations 3 and 4.
	shunt := min(max(math.Round(watts/Supply*Shunt/2.5), math.MinInt16), math.MaxInt16)
	bus := math.Round(Supply / 1.25e-3)
	current := min(max(math.Trunc(shunt*float64(c.r.values[inaCalibration])/2048), math.MinInt16), math.MaxInt16)
	word := c.r.values[c.r.pointer]
	switch c.r.pointer {
	case inaShuntVoltage:
		word = uint16(int16(shunt))
	case inaBusVoltage:
		word = uint16(bus)
	case inaCurrent:
		word = uint16(int16(current))
	case inaPower:
		word = uint16(min(math.Abs(current)*bus/20000, math.MaxUint16))
	}
	c.r.read(p, word)
	return nil
}

// Storage is where an EEPROM keeps its bytes.
type Storage interface {
	io.ReaderAt
	io.WriterAt
}

// An EEPROM is a 24C32: 4096 bytes in pages of 32, behind an address of two bytes
// (Microchip's data sheet DS21713).
type EEPROM struct {
	mu     sync.Mutex
	silent bool
	bytes  Storage
	at     int
}

// Size and page of a 24C32.
const (
	EEPROMSize = 4096
	eepromPage = 32
)

// NewEEPROM makes a memory whose bytes, EEPROMSize of them, are in s.
func NewEEPROM(s Storage) *EEPROM { return &EEPROM{bytes: s} }

// Fail makes the memory silent.
func (c *EEPROM) Fail() { c.answer(false) }

// Restore makes it answer.
func (c *EEPROM) Restore() { c.answer(true) }

func (c *EEPROM) answer(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = !yes
}

var errEEPROM = errors.New("the memory's file")

// Write implements Chip. What goes beyond the end of a page goes to its begin.
func (c *EEPROM) Write(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return ErrSilent
	}
	if len(p) < 2 {
		return nil
	}
	c.at = int(binary.BigEndian.Uint16(p)) % EEPROMSize
	page := c.at - c.at%eepromPage
	for i, v := range p[2:] {
		at := page + (c.at+i)%eepromPage
		if _, err := c.bytes.WriteAt([]byte{v}, int64(at)); err != nil {
			return fmt.Errorf("%w: %w", errEEPROM, err)
		}
	}
	c.at = page + (c.at+len(p)-2)%eepromPage
	return nil
}

// Read implements Chip. After the last byte comes the first.
func (c *EEPROM) Read(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent {
		return ErrSilent
	}
	for len(p) > 0 {
		n := min(len(p), EEPROMSize-c.at)
		if _, err := c.bytes.ReadAt(p[:n], int64(c.at)); err != nil {
			return fmt.Errorf("%w: %w", errEEPROM, err)
		}
		c.at, p = (c.at+n)%EEPROMSize, p[n:]
	}
	return nil
}
