package lan

import (
	"net/netip"

	"github.com/nitrino/nitrino/host"
)

// Network is the board's own network.
type Network interface {
	// State is how it is now; it never blocks.
	State() State
	// Config is how it is set; it never blocks.
	Config() Config
	// Set puts a new configuration on trial: it is rolled back if nobody logs
	// in over it in time. It answers host.ErrInvalid (wrapped) for one that
	// cannot be, and may block.
	Set(Config, host.Origin) error
	// Neighbor is the MAC address of a machine on the board's link, zero where
	// it is not known. It asks nobody but the kernel.
	Neighbor(netip.Addr) [6]byte
}

// A State is what the board's network interface has now.
type State struct {
	MAC [6]byte
	// IPv4 is the address with its prefix length, and IPv4Gateway the default
	// route's; zero where there is none.
	IPv4         netip.Prefix
	IPv4Gateway  netip.Addr
	IPv6         []Address
	IPv6Gateways []netip.Addr
	// VLAN is the 802.1Q VLAN that the board lives in, 1 to 4094; 0: none.
	VLAN int
}

// An Address is an IPv6 address with its prefix length.
type Address struct {
	Prefix netip.Prefix
	// Dynamic: the interface got it from routers (SLAAC) or of itself.
	Dynamic bool
}

// A Config is how the board gets its addresses. Configs can be compared.
type Config struct {
	IPv4, IPv6 Family
	// VLAN is 1 to 4094, 0 for none; VLANPriority is 0 to 7.
	VLAN, VLANPriority int
}

// A Family is a Config's part for IPv4 or IPv6.
type Family struct {
	Method Method
	// Address, with its prefix length, and Gateway are for Static; Gateway is
	// the zero Addr where there is none.
	Address netip.Prefix
	Gateway netip.Addr
}

// A Method is how an interface gets its addresses.
type Method string

// The methods. DHCP is IPv4's and SLAAC IPv6's automatic one.
const (
	DHCP   Method = "dhcp"
	SLAAC  Method = "slaac"
	Static Method = "static"
	Off    Method = "off"
)

// config is how a network that cannot be set would be set.
func (s State) config() Config {
	c := Config{IPv4: Family{Method: Off}, IPv6: Family{Method: Off}, VLAN: s.VLAN}
	if s.IPv4.IsValid() {
		c.IPv4 = Family{Method: Static, Address: s.IPv4, Gateway: s.IPv4Gateway}
	}
	for _, a := range s.IPv6 {
		switch {
		case !a.Dynamic:
			c.IPv6 = Family{Method: Static, Address: a.Prefix}
		case c.IPv6.Method == Off:
			c.IPv6.Method = SLAAC
		}
	}
	return c
}
