package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/board/sim"
)

func TestSensorWords(t *testing.T) {
	f, err := sim.NewFake(sim.DefaultFake(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m := machine{f.Harness, f.Close}
	defer func() {
		if err := m.close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	p, err := m.Parts(sim.Wires())
	if err != nil {
		t.Fatal(err)
	}
	power := p.Sensors[len(p.Sensors)-1].Gauge
	for _, c := range []struct {
		word string
		err  string  // "" for none
		want float64 // of the power; -1: it fails
	}{
		{"sensor power 123.5", "", 123.5},
		{"sensor power fail", "", -1},
		{"sensor power auto", "", 4},
		{"sensor power", "want a number, fail or auto", 4},
		{"sensor power NaN", "want a number", 4},
		{"sensor power +Inf", "want a number", 4},
		{"sensor outlet 1", "want inlet, cpu, fan, 12v, power", 4},
		{"sensor outlet fail", "want inlet, cpu, fan, 12v, power", 4},
		{"sensors", "or sensor NAME VALUE", 4},
	} {
		_, err := m.do(c.word)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: got %v, want %q", c.word, err, c.err)
		}
		got, err := power.Read(t.Context())
		if err != nil {
			got = -1
		}
		if got != c.want {
			t.Errorf("%s: got %v, want %v", c.word, got, c.want)
		}
	}
}
