package sim

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/board/boardtest"
	"github.com/nitrino/nitrino/host"
)

// TestSensors follows the readings through a day of the machine.
func TestSensors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := NewFake(DefaultFake(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := f.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		p, err := f.Parts(Wires())
		if err != nil {
			t.Fatal(err)
		}
		boardtest.Sensors(t, p.Sensors)
		want := func(when string, bounds map[string][2]float64) {
			t.Helper()
			for _, s := range p.Sensors {
				if b, ok := bounds[s.Name]; ok {
					if v, err := s.Gauge.Read(t.Context()); err != nil || v < b[0] || v > b[1] {
						t.Errorf("%s, %s: got %v, %v, want %v to %v", when, s.Name, v, err, b[0], b[1])
					}
				}
			}
		}
		want("off", map[string][2]float64{"Inlet temp": {22, 24}, "CPU temp": {23, 27}, "Fan 1": {0, 0}, "12 V": {0, 0}, "Input power": {4, 4}})
		f.PressPowerButton(200 * time.Millisecond)
		time.Sleep(time.Second)
		want("just on", map[string][2]float64{"CPU temp": {23, 30}, "Fan 1": {900, 1200}, "12 V": {11.9, 12.2}, "Input power": {56, 66}})
		time.Sleep(5 * time.Minute)
		want("warm", map[string][2]float64{"Inlet temp": {23, 25}, "CPU temp": {50, 56}, "Fan 1": {1750, 1850}, "12 V": {11.9, 12.2}, "Input power": {65, 75}})
		for _, s := range p.Sensors {
			v, err := s.Gauge.Read(t.Context())
			if l := s.Limits; err != nil || l.UpperCaution != nil && v >= *l.UpperCaution || l.LowerCaution != nil && v <= *l.LowerCaution {
				t.Errorf("warm, %s: got %v, %v, beyond a limit", s.Name, v, err)
			}
		}
		if err := f.OSSleep(); err != nil {
			t.Fatal(err)
		}
		want("asleep", map[string][2]float64{"Fan 1": {0, 0}, "12 V": {0, 0}, "Input power": {7, 7}})
		f.SetStandby(false)
		synctest.Wait()
		want("without AC", map[string][2]float64{"CPU temp": {50, 56}, "Input power": {0, 0}})
		time.Sleep(time.Hour)
		want("cold", map[string][2]float64{"CPU temp": {23, 27}, "Inlet temp": {22, 24}})
	})
}

func TestSensorHooks(t *testing.T) {
	f, err := NewFake(DefaultFake(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	p, err := f.Parts(Wires())
	if err != nil {
		t.Fatal(err)
	}
	var inlet host.SensorPart
	for _, s := range p.Sensors {
		if s.Place == host.PlaceInlet {
			inlet = s
		}
	}
	read := func() float64 {
		t.Helper()
		v, err := inlet.Gauge.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(f.SetSensor("inlet", 41.5))
	if got := read(); got != 41.5 {
		t.Errorf("got %v, want 41.5", got)
	}
	do(f.SetSensor("inlet", 1000))
	if got := read(); got != inlet.Max {
		t.Errorf("got %v, want %v", got, inlet.Max)
	}
	do(f.FailSensor("inlet"))
	if v, err := inlet.Gauge.Read(t.Context()); err == nil {
		t.Errorf("failed: got %v", v)
	}
	do(f.FreeSensor("inlet"))
	if got := read(); got < 22 || got > 25 {
		t.Errorf("free: got %v", got)
	}
	if err := f.SetSensor("outlet", 1); err == nil {
		t.Error("no such sensor: no error")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if v, err := inlet.Gauge.Read(ended); err == nil {
		t.Errorf("ended: got %v", v)
	}
}
