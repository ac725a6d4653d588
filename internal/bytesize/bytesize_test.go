package bytesize

import (
	"errors"
	"math"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64 // -1: no size
	}{
		{"0", 0}, {"512", 512}, {"512B", 512}, {"64MiB", 64 << 20}, {"64 MiB", 64 << 20}, {"10G", 10 << 30}, {"10g", 10 << 30},
		{"1k", 1024}, {"1KiB", 1024}, {"2T", 2 << 40}, {"7EiB", 7 << 60}, {"9223372036854775807", math.MaxInt64},
		{"8E", -1}, {"9223372036854775808", -1}, {"", -1}, {"G", -1}, {"-1", -1}, {"+1", -1}, {"1.5G", -1}, {"64MB", -1},
		{"64Mi", -1}, {"1Z", -1}, {"1  G", -1}, {"0x10", -1}, {"1_000", -1},
	} {
		got, err := Parse(tt.text)
		if bad := errors.Is(err, ErrSyntax); bad != (tt.want < 0) || !bad && got != tt.want {
			t.Errorf("%q: got %d, %v, want %d", tt.text, got, err, tt.want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, tt := range []struct {
		n    int64
		want string
	}{
		{0, "0B"}, {1023, "1023B"}, {1024, "1KiB"}, {1536, "1.5KiB"}, {64 << 20, "64MiB"}, {10<<30 + 1, "10.0GiB"}, {16 << 40, "16TiB"}, {math.MaxInt64, "8.0EiB"},
	} {
		if got := Format(tt.n); got != tt.want {
			t.Errorf("%d: got %s, want %s", tt.n, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"64MiB", "10 G", "", "9E"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		if n < 0 || err != nil && n != 0 {
			t.Errorf("%q: got %d, %v", text, n, err)
		}
	})
}
