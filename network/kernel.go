package network

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// A kernel is the part of the network that the kernel holds. Tests have their
// own.
type kernel interface {
	// Watch calls changed after each change of a link or an address, until ctx
	// ends, whose error it then returns; any other error is a failure.
	Watch(ctx context.Context, changed func()) error
	// Link answers fs.ErrNotExist where there is no such interface.
	Link(name string) (link, error)
	// VLANs lists the VLANs on an interface.
	VLANs(parent link) ([]link, error)
	AddVLAN(parent link, name string, v vlan) error
	// DeleteVLAN removes one; one that is gone is no error.
	DeleteVLAN(l link) error
	SetUp(l link) error
	SetMTU(l link, mtu int) error
	Addresses(l link) ([]address, error)
	// SetAddress adds an address or changes how long it is valid.
	SetAddress(l link, a address) error
	DeleteAddress(l link, a address) error
	// Routes lists l's routes in the main table, those to its own nets left out.
	Routes(l link) ([]kernelRoute, error)
	AddRoute(l link, r kernelRoute) error
	DeleteRoute(l link, r kernelRoute) error
	// Neighbor answers the MAC address behind an address on a link; nil where
	// the kernel does not know it.
	Neighbor(a netip.Addr) (net.HardwareAddr, error)
	// Sysctl reads net/... below /proc/sys; fs.ErrNotExist where the kernel
	// does not have it.
	Sysctl(name string) (string, error)
	SetSysctl(name, value string) error
	Clock() (clock, error)
}

// A link is a network interface as it is.
type link struct {
	name    string
	index   int
	mac     net.HardwareAddr
	mtu     int
	up      bool // set to work
	carrier bool // and connected
	vlan    vlan // zero: it is none
}

// A vlan is what makes an interface a VLAN on another.
type vlan struct {
	parent   int // index
	id       int
	priority int // of the frames sent
}

func (l link) netInterface() *net.Interface {
	return &net.Interface{Index: l.index, Name: l.name, MTU: l.mtu, HardwareAddr: l.mac}
}

// An address is one that an interface has, or is to have.
type address struct {
	prefix netip.Prefix
	// valid is how long from now; 0: for ever.
	valid time.Duration
	// automatic: the kernel made it from an advertisement.
	automatic bool
	// tentative: not to be used yet; failed: another machine has it (RFC 4862
	// section 5.4).
	tentative, failed bool
}

// A kernelRoute is a route over an interface.
type kernelRoute struct {
	to       netip.Prefix
	gateway  netip.Addr
	source   netip.Addr // zero: the kernel's choice
	onLink   bool       // the gateway is on the link, whatever its address says
	protocol int        // who made it: the kernel's RTPROT_ numbers
}
