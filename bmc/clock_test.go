package bmc

import (
	"errors"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
)

// TestWhoseClock: a simulator's clock is not the board's, a board's is.
func TestWhoseClock(t *testing.T) {
	b, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	now := b.Settings.Get()
	now.Time.Servers = []string{"192.0.2.1"}
	if c := b.newClock(nil, now, nil); c.Status().NTP || !errors.Is(c.Set(time.Now(), host.Origin{}), errors.ErrUnsupported) {
		t.Errorf("simulated: got %+v, want a clock that is left alone", c.Status())
	}
	// To set it would set that of the machine which tests this.
	if s := b.newClock(&Clock{Built: time.Now()}, now, nil).Status(); !s.NTP || len(s.Servers) != 1 {
		t.Errorf("got %+v, want one server", s)
	}
}
