//go:build guest

package virt

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"testing"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/boardtest"
	"github.com/nitrino/nitrino/host"
)

// emulated are the chips that emulate plays, as image/emulated.json has them.
func emulated() board.Sensors {
	return board.Sensors{
		Chips: []board.Chip{
			{Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Inlet temp"},
			{Address: 0x40, Chip: "ina226", ShuntMicroOhm: 5000, Place: host.PlaceSystem, Name: "Input",
				Channels: map[string]board.Channel{"power1": {Name: "Input power"}, "curr1": {Off: true}}},
		},
		FRU: board.EEPROM{Address: 0x50, Chip: "24c32"},
	}
}

func openSensors(t *testing.T, s board.Sensors) (host.Parts, []*board.WireError) {
	t.Helper()
	var p host.Parts
	failed, release := New(slog.New(slog.NewTextHandler(t.Output(), nil))).OpenSensors(s, &p)
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return p, failed
}

func sensor(t *testing.T, p host.Parts, name string) host.SensorPart {
	t.Helper()
	for _, s := range p.Sensors {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no sensor %q among %+v", name, p.Sensors)
	return host.SensorPart{}
}

// TestSensors has the chips of the emulator, behind the kernel's own drivers.
func TestSensors(t *testing.T) {
	o := newOutside(t)
	p, failed := openSensors(t, emulated())
	for _, err := range failed {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	boardtest.Sensors(t, p.Sensors)
	inlet, volts, power := sensor(t, p, "Inlet temp"), sensor(t, p, "Input volt"), sensor(t, p, "Input power")
	if len(p.Sensors) != 3 || inlet.Limits.UpperCaution == nil || *inlet.Limits.UpperCaution != 80 || inlet.Limits.Hysteresis != 5 {
		t.Errorf("got sensors %+v", p.Sensors)
	}
	wants := func(s host.SensorPart, want float64) {
		t.Helper()
		var got float64
		var err error
		until(t, s.Name, func() bool {
			got, err = s.Gauge.Read(t.Context())
			return err == nil && math.Abs(got-want) < 0.11
		})
		t.Logf("%s: %v", s.Name, got)
	}
	fails := func(s host.SensorPart) {
		t.Helper()
		if got, err := s.Gauge.Read(t.Context()); err == nil {
			t.Errorf("%s: got %v, want an error", s.Name, got)
		}
	}
	// What the host draws follows its power.
	o.do("host-ac-off")
	wants(power, 0)
	o.do("host-ac-on")
	wants(power, 4)
	o.do("press-power")
	wants(power, 60)
	o.do("host-ac-off")
	o.do("sensor power 42")
	wants(power, 42)
	wants(volts, 12)
	o.do("sensor power ok")
	wants(power, 0)
	o.do("host-ac-on")

	// LM75s change their readings 10 times a second at the most.
	o.do("sensor inlet 31.5")
	wants(inlet, 31.5)
	o.do("sensor inlet -10")
	wants(inlet, -10)
	o.do("sensor inlet fail")
	until(t, "a failure", func() bool { _, err := inlet.Gauge.Read(t.Context()); return err != nil })
	o.do("sensor inlet ok")
	wants(inlet, 24)

	// A chip whose driver goes and comes is found again.
	bind := func(word string) {
		t.Helper()
		if err := os.WriteFile("/sys/bus/i2c/drivers/lm75/"+word, []byte("0-0048"), 0); err != nil {
			t.Fatal(err)
		}
	}
	bind("unbind")
	fails(inlet)
	fails(inlet)
	bind("bind")
	wants(inlet, 24)

	t.Run("FRU", func(t *testing.T) {
		if p.FRU == nil || p.FRU.Size() != 4096 {
			t.Fatalf("got memory %+v", p.FRU)
		}
		want := bytes.Repeat([]byte("FRU inventory 0123456789 "), 10)
		if n, err := p.FRU.WriteAt(want, 100); n != len(want) || err != nil {
			t.Fatalf("writing: %d, %v", n, err)
		}
		// A board that starts again has it.
		again, failed := openSensors(t, emulated())
		if len(failed) > 0 {
			t.Fatal(failed)
		}
		got := make([]byte, len(want)+2)
		if _, err := again.FRU.ReadAt(got, 99); err != nil || !bytes.Equal(got[1:len(want)+1], want) || got[0] != 0xff || got[len(want)+1] != 0xff {
			t.Errorf("got %q, %v", got, err)
		}
		if n, err := p.FRU.WriteAt([]byte{1, 2}, 4095); n != 0 || err == nil {
			t.Errorf("beyond the end: %d, %v", n, err)
		}
		o.do("sensor fru fail")
		if _, err := p.FRU.ReadAt(got, 0); err == nil {
			t.Error("a memory that is gone was read")
		}
		o.do("sensor fru ok")
		if _, err := p.FRU.ReadAt(got, 0); err != nil {
			t.Error(err)
		}
	})

	t.Run("missing", func(t *testing.T) {
		s := emulated()
		s.Chips[0].Address = 0x49
		s.Chips = append(s.Chips, board.Chip{Bus: 9, Address: 0x48, Chip: "lm75", Place: host.PlaceInlet, Name: "Other"})
		s.FRU.Address = 0x51
		for range 2 { // a chip that is known and silent is tried again
			p, failed := openSensors(t, s)
			if len(failed) != 3 || !errors.Is(failed[0], board.ErrNoAnswer) || !errors.Is(failed[1], board.ErrNoBus) || !errors.Is(failed[2], board.ErrNoAnswer) {
				t.Errorf("got %v", failed)
			}
			if len(p.Sensors) != 2 || p.FRU != nil {
				t.Errorf("got parts %+v", p)
			}
		}
	})

	t.Run("another chip", func(t *testing.T) {
		s := emulated()
		s.Chips[0].Chip = "tmp75"
		p, failed := openSensors(t, s)
		if len(failed) > 0 {
			t.Fatal(failed)
		}
		wants(sensor(t, p, "Inlet temp"), 24)
	})
}
