package sdr

import (
	"math"
	"testing"
)

func TestFactors(t *testing.T) {
	for _, tt := range []struct {
		lowest, highest float64
		want            Factors
	}{
		{0, 255, Factors{M: 1}},
		{0, 510, Factors{M: 2}},
		{0, 2550, Factors{M: 1, RExp: 1}},
		{0, 25500, Factors{M: 1, RExp: 2}},
		{-128, 127, Factors{M: 1, Signed: true}},
		{-40, 125, Factors{M: 1, Signed: true}},
		{-40, 87.5, Factors{M: 7, RExp: -1, Signed: true}},
		{-10, 10, Factors{M: 8, RExp: -2, Signed: true}},
		{-20, 490, Factors{M: 4, Signed: true}},
		{-300, -45, Factors{M: 1, B: -3, BExp: 2}},
		{0, 16, Factors{M: 65, RExp: -3}},
		{0, 100, Factors{M: 4, RExp: -1}},
		{0, 600, Factors{M: 25, RExp: -1}},
		{0, 12000, Factors{M: 5, RExp: 1}},
		{3, 3.6, Factors{M: 25, B: 3, BExp: 4, RExp: -4}},
		{0, 1e9, Factors{M: 4, RExp: 6}},
		{0, 1e13, Factors{M: 511, RExp: 7}},
		{-1e-3, 1e-3, Factors{M: 8, RExp: -6, Signed: true}},
	} {
		got := newFactors(tt.lowest, tt.highest)
		if got != tt.want {
			t.Errorf("%v to %v: got %+v (step %v), want %+v", tt.lowest, tt.highest, got, got.step(), tt.want)
		}
	}
	f := Factors{M: 65, B: -4, BExp: 3, RExp: -2}
	for _, tt := range []struct {
		value float64
		raw   byte
		back  float64
	}{{-40, 0, -40}, {25, 100, 25}, {125.75, 255, 125.75}, {200, 255, 125.75}, {-99, 0, -40}, {25.3, 100, 25}} {
		if raw := f.Raw(tt.value); raw != tt.raw || f.Value(raw) != tt.back {
			t.Errorf("%v: got %d, which is %v, want %d, %v", tt.value, raw, f.Value(raw), tt.raw, tt.back)
		}
	}
	if got := (Factors{M: 1, Signed: true}).Raw(-1); got != 0xFF {
		t.Errorf("-1: got %02X", got)
	}
	if got := (Factors{}).Raw(5); got != 0 {
		t.Errorf("no factors: got %d", got)
	}
	if got := (Factors{M: -2, B: 300, BExp: -3, RExp: -2}).put(); got != [6]byte{0xFE, 0xC0, 0x2C, 0x40, 0, 0xED} {
		t.Errorf("got % X", got)
	}
}

// For any range that boards may tell, the factors fit in their fields, and no
// value in it is off by more than half a step.
func FuzzFactors(f *testing.F) {
	f.Add(-40.0, 125.0, 0.5)
	f.Add(3.0, 3.3, 0.1)
	f.Add(1e6, 1e6+1, 0.9)
	f.Add(0.001, 1e6, 0.9)
	f.Fuzz(func(t *testing.T, lowest, highest, where float64) {
		if !(math.Abs(lowest) < 1e9 && math.Abs(highest) < 1e9 && lowest < highest && where >= 0 && where <= 1) {
			return
		}
		span := highest - lowest
		if span < 1e-9 || math.Max(math.Abs(lowest), math.Abs(highest)) > 1e6*span {
			return // no sensor is that precise
		}
		x := newFactors(lowest, highest)
		if x.M < 1 || x.M > maxFactor || x.B < minFactor || x.B > maxFactor ||
			x.BExp < minExponent || x.BExp > maxExponent || x.RExp < minExponent || x.RExp > maxExponent {
			t.Fatalf("%v to %v: got %+v", lowest, highest, x)
		}
		// What an offset has to win, what a round number may cost, and a sign.
		least, most := x.bounds()
		reach := max(highest/most, 0)
		if x.Signed {
			reach = max(reach, lowest/least)
		}
		if x.step() > 1.13*reach+1e-8 && x.B == 0 {
			t.Errorf("%v to %v: %+v has a step of %v", lowest, highest, x, x.step())
		}
		v := lowest + where*span
		if off := math.Abs(x.Value(x.Raw(v)) - v); off > x.step()*0.5001+1e-9 {
			t.Errorf("%v to %v: %+v has %v for %v", lowest, highest, x, x.Value(x.Raw(v)), v)
		}
	})
}
