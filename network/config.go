package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nitrino/nitrino/internal/settings"
)

// A Config is the section "network" of the settings: the board's own addresses.
type Config struct {
	// Interface is the name of the network interface; empty: the board's choice.
	Interface string `json:"interface"`
	// VLAN is the IEEE 802.1Q VLAN on it that the board lives in, 1 to 4094; 0:
	// its frames have no tag. VLANPriority (PCP) is that of the frames sent.
	VLAN         int        `json:"vlan"`
	VLANPriority int        `json:"vlan_priority"`
	IPv4         IPv4Config `json:"ipv4"`
	IPv6         IPv6Config `json:"ipv6"`
	// DNS lists name servers; empty: those that DHCP tells.
	DNS []string `json:"dns"`
	// Trial is how long a change at run time has to prove itself, which is not
	// this package's affair; 0: changes are for good.
	Trial time.Duration `json:"trial"`
}

// Equal says whether c and o are the same network. Trial is not a part of it.
func (c Config) Equal(o Config) bool {
	return c.Interface == o.Interface && c.VLAN == o.VLAN && c.VLANPriority == o.VLANPriority &&
		c.IPv4 == o.IPv4 && c.IPv6 == o.IPv6 && slices.Equal(c.DNS, o.DNS)
}

// An IPv4Config says how the interface gets its IPv4 address.
type IPv4Config struct {
	// Method is MethodDHCP, MethodStatic or MethodOff.
	Method string `json:"method"`
	// Address, with its prefix length ("192.0.2.5/24"), and Gateway are for
	// MethodStatic.
	Address string `json:"address"`
	Gateway string `json:"gateway"`
}

// An IPv6Config says how the interface gets its IPv6 addresses.
type IPv6Config struct {
	// Method is MethodSLAAC, MethodStatic or MethodOff.
	Method string `json:"method"`
	// Address, with its prefix length ("2001:db8::5/64"), and Gateway are for
	// MethodStatic.
	Address string `json:"address"`
	Gateway string `json:"gateway"`
}

// Values of Method.
const (
	MethodDHCP   = "dhcp"
	MethodSLAAC  = "slaac"
	MethodStatic = "static"
	MethodOff    = "off"
)

// maxDNS is how many name servers a resolver asks (MAXNS of resolv.conf(5)).
const maxDNS = 3

// The bounds of the VLAN's numbers (IEEE 802.1Q section 9.6: 4095 is reserved)
// and of a trial.
const (
	maxVLAN         = 4094
	maxVLANPriority = 7
	minTrial        = 10 * time.Second
	maxTrial        = time.Hour
)

// DefaultConfig takes what the network offers.
func DefaultConfig() Config {
	return Config{IPv4: IPv4Config{Method: MethodDHCP}, IPv6: IPv6Config{Method: MethodSLAAC}, DNS: []string{}, Trial: 2 * time.Minute}
}

// Validate answers a *settings.FieldError, relative to the section, for the
// first field that cannot be.
func (c Config) Validate() error {
	_, err := c.plan()
	return err
}

// A plan is a Config in the types that the work is done with.
type plan struct {
	iface              string
	vlan, vlanPriority int
	v4, v6             family
	dns                []netip.Addr
}

// A family is the plan for IPv4 or IPv6.
type family struct {
	method  string
	address netip.Prefix // the address and its prefix length; zero if not static
	gateway netip.Addr   // zero if there is none
}

func (c Config) plan() (plan, error) {
	p := plan{iface: c.Interface, vlan: c.VLAN, vlanPriority: c.VLANPriority}
	if err := checkInterface(c.Interface); err != nil {
		return plan{}, &settings.FieldError{Pointer: "/interface", Err: err}
	}
	if c.VLAN < 0 || c.VLAN > maxVLAN {
		return plan{}, &settings.FieldError{Pointer: "/vlan", Err: fmt.Errorf("%d is not between 0 (none) and %d", c.VLAN, maxVLAN)}
	}
	if c.VLANPriority < 0 || c.VLANPriority > maxVLANPriority {
		return plan{}, &settings.FieldError{Pointer: "/vlan_priority", Err: fmt.Errorf("%d is not between 0 and %d", c.VLANPriority, maxVLANPriority)}
	}
	if c.Trial != 0 && (c.Trial < minTrial || c.Trial > maxTrial) {
		return plan{}, &settings.FieldError{Pointer: "/trial", Err: fmt.Errorf("%v is neither 0s (no trial) nor between %v and %v", c.Trial, minTrial, maxTrial)}
	}
	var err error
	if p.v4, err = parseFamily("/ipv4", c.IPv4.Method, MethodDHCP, c.IPv4.Address, c.IPv4.Gateway, false); err != nil {
		return plan{}, err
	}
	if p.v6, err = parseFamily("/ipv6", c.IPv6.Method, MethodSLAAC, c.IPv6.Address, c.IPv6.Gateway, true); err != nil {
		return plan{}, err
	}
	if p.v4.method == MethodOff && p.v6.method == MethodOff {
		return plan{}, &settings.FieldError{Pointer: "/ipv6/method", Err: errors.New("IPv4 is off already: with both off nobody could reach the board")}
	}
	if len(c.DNS) > maxDNS {
		return plan{}, &settings.FieldError{Pointer: "/dns", Err: fmt.Errorf("%d name servers are more than %d", len(c.DNS), maxDNS)}
	}
	for i, s := range c.DNS {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			err = fmt.Errorf("%q is not an IP address", s)
		case a.Zone() != "" || a.Is4In6() || !usable(a) || a.IsLoopback():
			err = fmt.Errorf("%s cannot be the address of a name server", s)
		}
		if err != nil {
			return plan{}, &settings.FieldError{Pointer: fmt.Sprintf("/dns/%d", i), Err: err}
		}
		p.dns = append(p.dns, a)
	}
	return p, nil
}

// checkInterface takes the names that the kernel takes (dev_valid_name).
func checkInterface(name string) error {
	switch {
	case len(name) > 15:
		return fmt.Errorf("%q: the name of an interface has at most 15 characters", name)
	case name == "." || name == ".." || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r > '~' }):
		return fmt.Errorf("%q cannot be the name of an interface", name)
	case name == "lo":
		return errors.New("lo is the loopback interface, which no network is connected to")
	}
	return nil
}

func parseFamily(at, method, automatic, address, gateway string, v6 bool) (family, error) {
	bad := func(field string, format string, args ...any) (family, error) {
		return family{}, &settings.FieldError{Pointer: at + field, Err: fmt.Errorf(format, args...)}
	}
	f := family{method: method}
	switch method {
	case automatic, MethodOff:
		// Refused rather than passed over: who writes an address wants it.
		if address != "" {
			return bad("/address", "an address needs the method %s, not %s", MethodStatic, method)
		}
		if gateway != "" {
			return bad("/gateway", "a gateway needs the method %s, not %s", MethodStatic, method)
		}
		return f, nil
	case MethodStatic:
	default:
		return bad("/method", "%q is not %s, %s or %s", method, automatic, MethodStatic, MethodOff)
	}
	name, other, example := "IPv4", "IPv6", "192.0.2.5/24"
	if v6 {
		name, other, example = "IPv6", "IPv4", "2001:db8::5/64"
	}
	if address == "" {
		return bad("/address", "the method %s needs an address, as %s", MethodStatic, example)
	}
	p, err := netip.ParsePrefix(address)
	if err != nil {
		if _, addrErr := netip.ParseAddr(address); addrErr == nil {
			return bad("/address", "%s lacks its prefix length, as in %s", address, example)
		}
		return bad("/address", "%q is not an address with its prefix length, as %s", address, example)
	}
	if p.Addr().Is6() != v6 || p.Addr().Is4In6() {
		return bad("/address", "%s is an %s address, not an %s one", address, other, name)
	}
	if err := checkOwn(p); err != nil {
		return bad("/address", "%w", err)
	}
	f.address = p
	if gateway == "" {
		return f, nil
	}
	g, err := netip.ParseAddr(gateway)
	if err != nil || g.Zone() != "" {
		return bad("/gateway", "%q is not an %s address", gateway, name)
	}
	if g.Is6() != v6 || g.Is4In6() {
		return bad("/gateway", "%s is an %s address, not an %s one", gateway, other, name)
	}
	f.gateway = g
	switch {
	case g == p.Addr():
		return bad("/gateway", "%s is the board's own address", gateway)
	case v6 && g.IsLinkLocalUnicast() || p.IsSingleIP() && usable(g) && !g.IsLoopback():
		// A router's link-local address is on every link; beside a /32 or /128
		// any router can be, as hosting networks do it.
		return f, nil
	case !p.Contains(g):
		return bad("/gateway", "%s is outside the net %s", gateway, p.Masked())
	case isEdge(netip.PrefixFrom(g, p.Bits())):
		return bad("/gateway", "%s is the network or broadcast address of %s", gateway, p.Masked())
	}
	return f, nil
}

// checkOwn says why p cannot be an address of the board.
func checkOwn(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case p.Bits() == 0:
		return fmt.Errorf("%s: the prefix length 0 makes the whole world one net", p)
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast address", a)
	case a.IsLoopback():
		return fmt.Errorf("%s is a loopback address", a)
	case !usable(a):
		return fmt.Errorf("%s is not an address that a machine can have", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is a link-local address, which the interface has of itself", a)
	case isEdge(p) && a.Is6():
		return fmt.Errorf("%s is the anycast address of the routers of %s", a, p.Masked())
	case isEdge(p):
		return fmt.Errorf("%s is the network or broadcast address of %s", a, p.Masked())
	}
	return nil
}

// usable says whether a is a unicast address that can stand in a packet (RFC
// 6890): not 0.0.0.0/8, 240.0.0.0/4, multicast or ::.
func usable(a netip.Addr) bool {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	if a.Is4() {
		b := a.As4()
		return b[0] != 0 && b[0] < 240
	}
	return true
}

// isEdge says whether p's address is the first of its net, or in IPv4 the last,
// which no machine has (RFC 1122 section 3.2.1.3, RFC 4291 section 2.6.1). Nets
// of two or one have no such addresses (RFC 3021, RFC 6164).
func isEdge(p netip.Prefix) bool {
	if p.Addr().BitLen()-p.Bits() < 2 {
		return false
	}
	return p.Addr() == p.Masked().Addr() || p.Addr().Is4() && p.Addr() == last(p)
}

// last is the highest address of an IPv4 net.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
