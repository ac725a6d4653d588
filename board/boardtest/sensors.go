package boardtest

import (
	"slices"
	"testing"

	"github.com/nitrino/nitrino/host"
)

// Sensors checks what host.SensorPart promises, of each sensor of a board: those
// that mean something while the host is off have a reading, if it is.
func Sensors(t *testing.T, parts []host.SensorPart) {
	t.Helper()
	names := map[string]bool{}
	for _, p := range parts {
		ok := len(p.Name) >= 1 && len(p.Name) <= 16
		for _, c := range p.Name {
			ok = ok && c >= ' ' && c <= '~'
		}
		if !ok || names[p.Name] {
			t.Errorf("the name %q is taken, or not 1 to 16 characters of printable ASCII", p.Name)
		}
		names[p.Name] = true
		if p.Quantity == "" || p.Place == "" {
			t.Errorf("%s: quantity %q, place %q", p.Name, p.Quantity, p.Place)
		}
		order := []float64{p.Min}
		l := p.Limits
		for _, v := range []*float64{l.LowerFatal, l.LowerCritical, l.LowerCaution, l.UpperCaution, l.UpperCritical, l.UpperFatal} {
			if v != nil {
				order = append(order, *v)
			}
		}
		if order = append(order, p.Max); p.Min >= p.Max || !slices.IsSorted(order) || l.Hysteresis < 0 {
			t.Errorf("%s: limits and range are not in order: %v, hysteresis %v", p.Name, order, l.Hysteresis)
		}
		if p.HostPower {
			continue
		}
		if v, err := p.Gauge.Read(t.Context()); err != nil || v < p.Min || v > p.Max {
			t.Errorf("%s: got %v, %v, want %v to %v", p.Name, v, err, p.Min, p.Max)
		}
	}
}
