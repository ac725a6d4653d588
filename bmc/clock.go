package bmc

import (
	"net/netip"
	"time"

	"github.com/nitrino/nitrino/clock"
	"github.com/nitrino/nitrino/network"
)

// A Clock says that the machine's clock is the board's to set.
type Clock struct {
	// Built is when the software was made: the clock is not set to before it.
	Built time.Time
}

// newClock makes what keeps the clock. The clock of a machine that runs a
// simulator (own is nil) is left alone; manager is nil where others manage the
// network.
func (b *BMC) newClock(own *Clock, now Settings, manager *network.Manager) *clock.Clock {
	o := clock.Options{Config: now.Time, Events: b.Events, Log: b.log}
	if own != nil {
		o.Adjust, o.NotBefore = clock.System{}, own.Built
	}
	if manager != nil {
		o.Offered = func() []netip.Addr { return manager.State().NTP }
	}
	return clock.New(o)
}
