package resource

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT0S": 0, "PT1M": time.Minute, "P1D": 24 * time.Hour, "P1DT2H3M4.5S": 26*time.Hour + 3*time.Minute + 4500*time.Millisecond, "PT90M": 90 * time.Minute, "PT4.1S": 4100 * time.Millisecond,
	} {
		got, ok := ParseDuration(text)
		if !ok || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, ok, want)
		}
		again, ok := ParseDuration(FormatDuration(want))
		if !ok || again != want {
			t.Errorf("%v is written as %s", want, FormatDuration(want))
		}
	}
	for _, text := range []string{"", "P", "PT", "P1", "1D", "P1DT", "PT1", "PT1S ", "PT-1S", "P1M", "PT1x5S", "PT99999999999S", "P99999DT999999H"} {
		if d, ok := ParseDuration(text); ok {
			t.Errorf("%q: got %v, want none", text, d)
		}
	}
}

func FuzzDuration(f *testing.F) {
	f.Add("P1DT2H3M4.5S")
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := ParseDuration(text)
		if !ok {
			return
		}
		again, ok := ParseDuration(FormatDuration(d))
		if !ok || d < 0 || again != d.Round(time.Millisecond) {
			t.Errorf("%q: %v is written as %s", text, d, FormatDuration(d))
		}
	})
}
