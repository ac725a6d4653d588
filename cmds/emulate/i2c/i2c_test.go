package i2c

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// ask makes a request as Linux's driver does, and returns what was read.
func ask(b *Bus, address byte, flags uint32, out []byte, room int) ([]byte, bool) {
	request := binary.LittleEndian.AppendUint16(nil, uint16(address)<<1)
	request = append(request, 0, 0)
	request = binary.LittleEndian.AppendUint32(request, flags)
	in := make([]byte, room+1)
	in[room] = 0xaa
	if n := b.Request(append(request, out...), in); n != len(in) {
		return nil, false
	}
	return in[:room], in[room] == statusOK
}

// register reads one of 16 bits, by a write and a read that belong together.
func register(t *testing.T, b *Bus, address, number byte) uint16 {
	t.Helper()
	if _, ok := ask(b, address, failNext, []byte{number}, 0); !ok {
		t.Fatalf("%#x does not take pointer %#x", address, number)
	}
	in, ok := ask(b, address, toRead, nil, 2)
	if !ok {
		t.Fatalf("%#x does not give register %#x", address, number)
	}
	return binary.BigEndian.Uint16(in)
}

func file(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "eeprom"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // a test may have closed it
	if err := f.Truncate(EEPROMSize); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLM75(t *testing.T) {
	c := NewLM75(func() float64 { return 24 })
	b := New(map[uint16]Chip{0x48: c})
	for _, tt := range []struct {
		celsius float64
		want    uint16 // the data sheet's table of temperatures
	}{
		{125, 0x7d00}, {25, 0x1900}, {0.5, 0x0080}, {0, 0}, {-0.5, 0xff80}, {-25, 0xe700}, {-55, 0xc900},
		{31.3, 0x1f80}, {1000, 0x7d00},
	} {
		c.Set(tt.celsius)
		if got := register(t, b, 0x48, lm75Temperature); got != tt.want {
			t.Errorf("%v °C: got %#04x, want %#04x", tt.celsius, got, tt.want)
		}
	}
	c.Fail()
	if _, ok := ask(b, 0x48, toRead, nil, 2); ok {
		t.Error("a chip that fails has answered")
	}
	c.Restore()
	if got := register(t, b, 0x48, lm75Temperature); got != 24<<8 {
		t.Errorf("restored: got %#04x", got)
	}
	if got := register(t, b, 0x48, lm75Overtemp); got != 80<<8 {
		t.Errorf("the limit at power-up: got %#04x", got)
	}
	for _, w := range [][]byte{{lm75Overtemp, 50, 0}, {lm75Configuration, 0x60}, {lm75Temperature, 1, 2}} {
		if _, ok := ask(b, 0x48, 0, w, 0); !ok {
			t.Errorf("writing % x failed", w)
		}
	}
	if got := register(t, b, 0x48, lm75Overtemp); got != 50<<8 {
		t.Errorf("the limit: got %#04x", got)
	}
	if in, ok := ask(b, 0x48, toRead, nil, 1); !ok || in[0] != 50 {
		t.Errorf("one byte: got % x", in)
	}
	if got := register(t, b, 0x48, lm75Configuration); got != 0x6000 {
		t.Errorf("the configuration: got %#04x", got)
	}
}

func TestINA226(t *testing.T) {
	c := NewINA226(func() float64 { return 60 })
	b := New(map[uint16]Chip{0x40: c})
	if got := register(t, b, 0x40, inaPower); got != 0 {
		t.Errorf("power without a calibration: got %d", got)
	}
	calibrate := []byte{inaCalibration, 2048 >> 8, 0}
	if _, ok := ask(b, 0x40, 0, calibrate, 0); !ok {
		t.Fatal("the calibration was refused")
	}
	for _, tt := range []struct {
		name string
		reg  byte
		want uint16
	}{
		{"12 V", inaBusVoltage, 9600},
		{"5 A through 5 mΩ", inaShuntVoltage, 10000},
		{"current in steps of 0.5 mA", inaCurrent, 10000},
		{"60 W in steps of 12.5 mW", inaPower, 4800},
		{"manufacturer", inaManufacturer, 0x5449},
		{"die", inaDie, 0x2260},
		{"configuration", inaConfiguration, inaConfigured},
	} {
		if got := register(t, b, 0x40, tt.reg); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	c.Set(-12)
	if got := int16(register(t, b, 0x40, inaCurrent)); got != -2000 {
		t.Errorf("current of -12 W: got %d", got)
	}
	c.Set(1e9) // more than it can tell
	if got := int16(register(t, b, 0x40, inaShuntVoltage)); got != 32767 {
		t.Errorf("too much: got %d", got)
	}
	if _, ok := ask(b, 0x40, 0, []byte{inaConfiguration, 0x80, 0}, 0); !ok {
		t.Error("the reset was refused")
	}
	if cal, cfg := register(t, b, 0x40, inaCalibration), register(t, b, 0x40, inaConfiguration); cal != 0 || cfg != inaConfigured {
		t.Errorf("after a reset: got calibration %#x, configuration %#x", cal, cfg)
	}
}

func TestEEPROM(t *testing.T) {
	f := file(t)
	c := NewEEPROM(f)
	b := New(map[uint16]Chip{0x50: c})
	write := func(at uint16, p string) bool {
		_, ok := ask(b, 0x50, 0, append(binary.BigEndian.AppendUint16(nil, at), p...), 0)
		return ok
	}
	read := func(at uint16, n int) string {
		t.Helper()
		if _, ok := ask(b, 0x50, failNext, binary.BigEndian.AppendUint16(nil, at), 0); !ok {
			t.Fatal("the address was refused")
		}
		p, ok := ask(b, 0x50, toRead, nil, n)
		if !ok {
			t.Fatal("reading failed")
		}
		return string(p)
	}
	if !write(4090, "abcdef") || !write(0, "01") {
		t.Fatal("writing failed")
	}
	if got := read(4090, 8); got != "abcdef01" {
		t.Errorf("over the end: got %q", got)
	}
	if p, ok := ask(b, 0x50, toRead, nil, 1); !ok || p[0] != 0 {
		t.Errorf("what is next: got %q", p)
	}
	if !write(62, "wxyz") {
		t.Fatal("writing failed")
	}
	if got := read(62, 2) + read(32, 2); got != "wxyz" {
		t.Errorf("over a page's end: got %q", got)
	}
	again := New(map[uint16]Chip{0x50: NewEEPROM(f)})
	if _, ok := ask(again, 0x50, 0, []byte{0x0f, 0xfa}, 0); !ok {
		t.Error("the address was refused")
	}
	if p, ok := ask(again, 0x50, toRead, nil, 6); !ok || string(p) != "abcdef" {
		t.Errorf("another chip on the same file: got %q", p)
	}
	c.Fail()
	if write(0, "x") {
		t.Error("a memory that fails was written")
	}
	c.Restore()
	if got := read(0, 1); got != "0" {
		t.Errorf("restored: got %q", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Read(make([]byte, 1)); !errors.Is(err, errEEPROM) {
		t.Errorf("no file: got %v", err)
	}
}

func TestBus(t *testing.T) {
	b := New(map[uint16]Chip{0x48: NewLM75(func() float64 { return 24 })})
	if _, ok := ask(b, 0x48, 0, nil, 0); !ok {
		t.Error("a request without data, as to scan: the chip did not answer")
	}
	if _, ok := ask(b, 0x49, 0, nil, 0); ok {
		t.Error("a chip that is not there has answered")
	}
	// What was to be done together fails together (section 5.8.6.1).
	if _, ok := ask(b, 0x49, failNext, []byte{0}, 0); ok {
		t.Error("a chip that is not there has answered")
	}
	if _, ok := ask(b, 0x48, toRead|failNext, nil, 2); ok {
		t.Error("the second part was done without the first")
	}
	if _, ok := ask(b, 0x48, toRead, nil, 2); ok {
		t.Error("the third part was done without the first")
	}
	if _, ok := ask(b, 0x48, toRead, nil, 2); !ok {
		t.Error("the next request failed")
	}
	if n := b.Request(make([]byte, 20), nil); n != 0 {
		t.Errorf("no room for a status: got %d", n)
	}
	in := []byte{9, 9}
	if n := b.Request([]byte{1, 2}, in); n != 2 || !bytes.Equal(in, []byte{9, statusErr}) {
		t.Errorf("a short header: got %d, % x", n, in)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte{0x90, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}, 1)
	f.Add([]byte{0xa0, 0, 0, 0, 2, 0, 0, 0}, 40)
	f.Add([]byte{0x80, 0, 0, 0, 0, 0, 0, 0, 5, 255, 255}, 1)
	f.Fuzz(func(t *testing.T, out []byte, room int) {
		b := New(map[uint16]Chip{
			0x48: NewLM75(func() float64 { return -1e300 }),
			0x40: NewINA226(func() float64 { return 1e300 }),
			0x50: NewEEPROM(file(t)),
		})
		in := make([]byte, min(uint(room), 5000))
		for range 3 {
			if n := b.Request(out, in); n != len(in) {
				t.Errorf("got %d of %d", n, len(in))
			}
			if len(in) > 0 && in[len(in)-1] > statusErr {
				t.Errorf("got status %d", in[len(in)-1])
			}
			if len(out) > 4 {
				out[4] ^= toRead
			}
		}
	})
}
