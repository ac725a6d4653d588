package manager

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/nitrino/nitrino/host"
)

// A Network is the board's own network.
type Network interface {
	// State is how the network is now; it never blocks. Config is how it is set.
	State() State
	Config() Config
	// Set changes the network as one, and answers how long it is on trial: unless
	// somebody logs in over it by then, it is changed back. 0: the change is for
	// good. What cannot be is a *settings.Error whose Pointer is of bmc.json. Where
	// the addresses are not Managed only HostName ever differs from Config.
	Set(c Config, from host.Origin) (trial time.Duration, err error)
}

// A State is what the board's network interface has now.
type State struct {
	// Interface is the name of the interface, the one below where there is a
	// VLAN; empty: there is none yet.
	Interface string
	// Managed: the addresses are the board's to set.
	Managed bool
	MAC     net.HardwareAddr // nil: it has none
	MTU     int              // 0: unknown
	// Carrier: a cable is plugged and the other end answers.
	Carrier bool
	// SpeedMbps is 0 where it is not known; FullDuplex is nil then.
	SpeedMbps  int
	FullDuplex *bool
	Addresses  []Address
	Gateways   []netip.Addr
	DNS        []netip.Addr
}

// An Address is one that the interface has; link-local ones are left out.
type Address struct {
	Prefix netip.Prefix
	Method Method // DHCP, Static or SLAAC
}

// A Config is how the board's network is set.
type Config struct {
	// HostName may have dots: then it is a fully qualified domain name.
	HostName   string
	IPv4, IPv6 Family
	// VLAN is 1 to 4094, 0 for none; VLANPriority is 0 to 7.
	VLAN, VLANPriority int
	// DNS lists name servers; empty: those that DHCP tells.
	DNS []string
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

// The methods, as the settings name them. DHCP is IPv4's and SLAAC IPv6's
// automatic one.
const (
	DHCP   Method = "dhcp"
	SLAAC  Method = "slaac"
	Static Method = "static"
	Off    Method = "off"
)

// Equal says whether both are the same.
func (c Config) Equal(o Config) bool {
	return c.HostName == o.HostName && c.IPv4 == o.IPv4 && c.IPv6 == o.IPv6 &&
		c.VLAN == o.VLAN && c.VLANPriority == o.VLANPriority && slices.Equal(c.DNS, o.DNS)
}

// MachineState is the State of a network that is the machine's, as a simulator's
// is: the interface that has the address. Where that is the unspecified one, it is
// the first interface that is up, the loopback one only where there is no other.
func MachineState(a netip.Addr) (State, error) {
	all, err := net.Interfaces()
	if err != nil {
		return State{}, fmt.Errorf("the machine's network: %w", err)
	}
	var loopback State
	for _, i := range all {
		list, err := i.Addrs()
		if err != nil {
			return State{}, fmt.Errorf("the machine's network: %w", err)
		}
		s := State{Interface: i.Name, MAC: i.HardwareAddr, MTU: i.MTU, Carrier: i.Flags&net.FlagRunning != 0}
		found := a.IsUnspecified() && i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0
		for _, each := range list {
			n, isNet := each.(*net.IPNet)
			if !isNet {
				continue
			}
			ip, _ := netip.AddrFromSlice(n.IP) // the system's are 4 or 16 bytes
			ip = ip.Unmap()
			bits, _ := n.Mask.Size()
			// An IPv4 loopback net is all of the interface's (RFC 1122 section 3.2.1.3).
			p := netip.PrefixFrom(ip, bits)
			found = found || ip == a || ip.IsLoopback() && p.Contains(a)
			if !ip.IsLinkLocalUnicast() {
				s.Addresses = append(s.Addresses, Address{p, Static})
			}
		}
		if found {
			return s, nil
		}
		if i.Flags&net.FlagLoopback != 0 {
			loopback = s
		}
	}
	if a.IsUnspecified() && loopback.Interface != "" {
		return loopback, nil
	}
	return State{}, fmt.Errorf("no interface of the machine has the address %s", a)
}
