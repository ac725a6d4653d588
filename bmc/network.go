package bmc

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/network"
)

// A Network is how the board's own addresses are managed.
type Network struct {
	// Interface answers the board's choice of an interface; an error as long as
	// there is none.
	Interface func() (string, error)
	// ResolvConf is the file that tells the name servers; empty: none.
	ResolvConf string
}

// newNetwork makes what keeps the board on its network.
func (b *BMC) newNetwork(n Network, now Settings) (*network.Manager, error) {
	return network.New(network.Options{
		Config: now.Network, HostName: now.HostName, Interface: n.Interface, ResolvConf: n.ResolvConf,
		Leases: leases{b.db}, Log: b.log,
		Report: func(e network.Event) {
			b.Events.Add(host.Event{Severity: severity(e.Level), Kind: e.Kind, Message: e.Message})
		},
	})
}

// severity is how urgent a level of the log is.
func severity(l slog.Level) host.Severity {
	switch {
	case l >= slog.LevelError:
		return host.Critical
	case l >= slog.LevelWarn:
		return host.Warning
	}
	return host.OK
}

// leases keeps the DHCP lease with the rest of the state.
type leases struct{ db *store.Store }

const (
	networkBucket = "network"
	leaseKey      = "lease"
)

// Load answers what Store stored.
func (l leases) Load() ([]byte, error) {
	var kept []byte
	err := l.db.View(func(t store.Tx) error { kept = t.Get(networkBucket, []byte(leaseKey)); return nil })
	if err == nil && kept == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("the kept lease: %w", err)
	}
	return kept, nil
}

// Store keeps data; it is on the disk when Store returns nil.
func (l leases) Store(data []byte) error {
	return l.db.Update(func(t store.Tx) error { return t.Put(networkBucket, []byte(leaseKey), data) })
}

// familySettings is how the settings have IPv4 or IPv6.
type familySettings struct {
	Method  string `json:"method"`
	Address string `json:"address"`
	Gateway string `json:"gateway"`
}

// newFamilySettings keeps address and gateway only of the method that has them.
func newFamilySettings(method string, address netip.Prefix, gateway netip.Addr) familySettings {
	s := familySettings{Method: method}
	if method == network.MethodStatic && address.IsValid() {
		s.Address = address.String()
	}
	if method == network.MethodStatic && gateway.IsValid() {
		s.Gateway = gateway.String()
	}
	return s
}
