package network

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Bounds of what a server may tell.
const (
	// minDuration: a lease shorter than this would keep the board and the
	// network busy with renewals.
	minDuration = 30 * time.Second
	// minRenew is the shortest T1 that is believed.
	minRenew = 10 * time.Second
	// infinite is the lease time that never ends (RFC 2131 section 3.3).
	infinite = 0xffffffff * time.Second
	// maxRoutes is how many classless static routes are taken.
	maxRoutes = 32
	// maxNTP is how many time servers are taken.
	maxNTP = 4
	// minMTU is IPv6's (RFC 8200 section 5): below it the kernel would turn
	// IPv6 off. maxMTU is that of jumbo frames.
	minMTU, maxMTU = 1280, 9216
)

// terms are what a server grants.
type terms struct {
	address  netip.Prefix
	server   netip.Addr
	gateway  netip.Addr // zero: none
	routes   []route    // the default route not among them
	dns      []netip.Addr
	ntp      []netip.Addr // time servers
	mtu      int          // 0: not told
	duration time.Duration
	t1, t2   time.Duration // since the grant
}

// A route leads to a net over a gateway, or on the link itself if there is none.
type route struct {
	to      netip.Prefix
	gateway netip.Addr
}

// parseTerms checks an offer or acknowledgement before anything of it is used:
// any machine on the link can send one. What only matters in part (a name
// server, a route, an MTU) is left out if it cannot be; what the address rests
// on makes the whole answer void.
func parseTerms(m *dhcpv4.DHCPv4) (terms, error) {
	var t terms
	var ok bool
	if t.server, ok = option(m, dhcpv4.OptionServerIdentifier); !ok || !usable(t.server) || t.server.IsLoopback() {
		return terms{}, errors.New("the server does not say who it is")
	}
	own, ok := netip.AddrFromSlice(m.YourIPAddr.To4())
	if !ok {
		return terms{}, errors.New("no address")
	}
	bits, err := maskBits(m, own)
	if err != nil {
		return terms{}, err
	}
	t.address = netip.PrefixFrom(own, bits)
	if err := checkGranted(t.address); err != nil {
		return terms{}, err
	}

	seconds, ok := uint32Option(m, dhcpv4.OptionIPAddressLeaseTime)
	t.duration = time.Duration(seconds) * time.Second
	if !ok || t.duration < minDuration {
		return terms{}, fmt.Errorf("a lease of %v", t.duration)
	}
	t1, _ := uint32Option(m, dhcpv4.OptionRenewTimeValue)
	t2, _ := uint32Option(m, dhcpv4.OptionRebindingTimeValue)
	t.t1, t.t2 = renewals(t.duration, time.Duration(t1)*time.Second, time.Duration(t2)*time.Second)

	// With classless routes the router option does not count (RFC 3442).
	if b := m.Options.Get(dhcpv4.OptionClasslessStaticRoute); len(b) > 0 {
		t.gateway, t.routes = classlessRoutes(b, own)
	} else {
		for _, a := range addresses(m.Options.Get(dhcpv4.OptionRouter)) {
			if goodGateway(a, own) {
				t.gateway = a
				break
			}
		}
	}
	t.dns = servers(addresses(m.Options.Get(dhcpv4.OptionDomainNameServer)), maxDNS)
	t.ntp = servers(addresses(m.Options.Get(dhcpv4.OptionNTPServers)), maxNTP)
	if b := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		if mtu := int(binary.BigEndian.Uint16(b)); mtu >= minMTU && mtu <= maxMTU {
			t.mtu = mtu
		}
	}
	return t, nil
}

// servers takes the first of a list that can be servers, each once.
func servers(list []netip.Addr, most int) []netip.Addr {
	var found []netip.Addr
	for _, a := range list {
		if len(found) < most && a.Is4() && usable(a) && !a.IsLoopback() && !slices.Contains(found, a) {
			found = append(found, a)
		}
	}
	return found
}

// checkGranted says why a server cannot grant p.
func checkGranted(p netip.Prefix) error {
	if p.Addr().IsLinkLocalUnicast() {
		return fmt.Errorf("%s is a link-local address", p.Addr()) // RFC 3927 section 1.6
	}
	if p.Bits() < 8 {
		return fmt.Errorf("%s is a net that no board is in", p)
	}
	return checkOwn(p)
}

// maskBits reads the subnet mask; a server may leave it out, then it is that
// of the address's class.
func maskBits(m *dhcpv4.DHCPv4, own netip.Addr) (int, error) {
	mask := net.IPMask(m.Options.Get(dhcpv4.OptionSubnetMask))
	if len(mask) == 0 {
		mask = net.IP(own.AsSlice()).DefaultMask()
	}
	bits, size := mask.Size()
	if size != 32 {
		return 0, fmt.Errorf("the subnet mask %v is none", mask)
	}
	return bits, nil
}

// renewals answers T1 and T2, the server's where they are in order, else those
// of RFC 2131 section 4.4.5.
func renewals(duration, t1, t2 time.Duration) (time.Duration, time.Duration) {
	if t1 < minRenew || t1 >= duration {
		t1 = duration / 2
	}
	if t2 <= t1 || t2 >= duration {
		t2 = max(duration/8*7, t1+(duration-t1)/2)
	}
	return t1, t2
}

// goodGateway: it may lie outside the net (it is then taken to be on the link),
// but it is another machine.
func goodGateway(a, own netip.Addr) bool { return usable(a) && !a.IsLoopback() && a != own }

// classlessRoutes reads option 121 (RFC 3442) and stops where it breaks off.
func classlessRoutes(b []byte, own netip.Addr) (gateway netip.Addr, routes []route) {
	for len(b) > 0 && len(routes) < maxRoutes {
		bits := int(b[0])
		n := (bits + 7) / 8
		if bits > 32 || len(b) < 1+n+4 {
			break
		}
		var to [4]byte
		copy(to[:], b[1:1+n])
		via := netip.AddrFrom4([4]byte(b[1+n : 1+n+4]))
		b = b[1+n+4:]
		p := netip.PrefixFrom(netip.AddrFrom4(to), bits).Masked()
		switch {
		case via.IsUnspecified() && bits > 0: // on the link itself
			via = netip.Addr{}
		case !goodGateway(via, own):
			continue
		}
		switch {
		case bits == 0:
			if !gateway.IsValid() {
				gateway = via
			}
		case usable(p.Addr()) && !p.Addr().IsLoopback() && !p.Contains(own) && !slices.ContainsFunc(routes, func(r route) bool { return r.to == p }):
			routes = append(routes, route{p, via})
		}
	}
	return gateway, routes
}

func option(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode) (netip.Addr, bool) {
	b := m.Options.Get(code)
	if len(b) != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}

func uint32Option(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode) (uint32, bool) {
	b := m.Options.Get(code)
	if len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

// addresses reads a list of addresses, the rest of one that breaks off left out.
func addresses(b []byte) []netip.Addr {
	var list []netip.Addr
	for a := range slices.Chunk(b, 4) {
		if len(a) == 4 {
			list = append(list, netip.AddrFrom4([4]byte(a)))
		}
	}
	return list
}

// A lease is what a server granted, and when.
type lease struct {
	terms
	// granted is when the request was sent (RFC 2131 section 4.4.1), by the
	// monotonic clock.
	granted time.Time
	// gatewayMAC tells the link again (RFC 4436); nil while it is not known.
	gatewayMAC net.HardwareAddr
	// confirmed: a server acknowledged it since the link came up.
	confirmed bool
}

// ends is when the lease is over; ok is false if never.
func (l *lease) ends() (at time.Time, ok bool) {
	return l.granted.Add(l.duration), l.duration != infinite
}

// over says whether the lease has ended.
func (l *lease) over(now time.Time) bool {
	at, ok := l.ends()
	return ok && !now.Before(at)
}

// A leaseFile is a lease as Leases keeps it.
type leaseFile struct {
	Version    int          `json:"version"`
	MAC        string       `json:"mac"` // of the interface that has it
	VLAN       int          `json:"vlan,omitempty"`
	Address    netip.Prefix `json:"address"`
	Server     netip.Addr   `json:"server"`
	Gateway    netip.Addr   `json:"gateway,omitzero"`
	GatewayMAC string       `json:"gateway_mac,omitempty"`
	Routes     []routeFile  `json:"routes,omitempty"`
	DNS        []netip.Addr `json:"dns,omitempty"`
	NTP        []netip.Addr `json:"ntp,omitempty"`
	MTU        int          `json:"mtu,omitempty"`
	// Seconds since the grant; 0xffffffff: for ever.
	Duration uint32 `json:"duration"`
	T1       uint32 `json:"t1"`
	T2       uint32 `json:"t2"`
	// When it was granted: by the calendar, and within one run of the kernel
	// by the time since its start.
	Granted time.Time     `json:"granted"`
	Boot    string        `json:"boot"`
	Uptime  time.Duration `json:"uptime_ns"`
}

type routeFile struct {
	To      netip.Prefix `json:"to"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

const (
	leaseVersion = 1
	maxLeaseFile = 16 << 10 // bytes
)

// A clock is the time as a lease over a restart needs it.
type clock struct {
	now  time.Time // the calendar, and Go's monotonic clock
	boot string    // names this run of the kernel
	up   time.Duration
}

// encodeLease writes l as it is at c.
func encodeLease(l *lease, mac net.HardwareAddr, vlan int, c clock) ([]byte, error) {
	age := c.now.Sub(l.granted)
	f := leaseFile{
		Version: leaseVersion, MAC: mac.String(), VLAN: vlan,
		Address: l.address, Server: l.server, Gateway: l.gateway, GatewayMAC: l.gatewayMAC.String(),
		DNS: l.dns, NTP: l.ntp, MTU: l.mtu,
		Duration: uint32(l.duration / time.Second), T1: uint32(l.t1 / time.Second), T2: uint32(l.t2 / time.Second),
		Granted: c.now.Add(-age).Round(0).UTC(), Boot: c.boot, Uptime: c.up - age,
	}
	for _, r := range l.routes {
		f.Routes = append(f.Routes, routeFile{r.to, r.gateway})
	}
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("writing the lease: %w", err)
	}
	return b, nil
}

var errLeaseOver = errors.New("the kept lease is over")

// decodeLease reads what encodeLease wrote and checks it as an answer of a
// server is checked: cards rot, and people edit.
//
// How old the lease is depends on the clocks. In the same run of the kernel the
// time since its start is exact, whatever happened to the calendar. After
// another start only the calendar is left, and without an RTC it stood still
// while the power was off: the age found is then the least it can be, so such a
// lease is asked for and compared with the link (client.go), never believed.
func decodeLease(b []byte, mac net.HardwareAddr, vlan int, c clock) (*lease, error) {
	if len(b) > maxLeaseFile {
		return nil, fmt.Errorf("the kept lease has %d bytes", len(b))
	}
	var f leaseFile
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&f); err != nil {
		return nil, fmt.Errorf("the kept lease: %w", err)
	}
	if f.Version != leaseVersion {
		return nil, fmt.Errorf("the kept lease has the version %d", f.Version)
	}
	if f.MAC != mac.String() {
		return nil, fmt.Errorf("the kept lease is of the interface %s", f.MAC)
	}
	// A router may answer for all its addresses in each VLAN, by the same MAC
	// address, so the client would take the VLAN for the lease's.
	if f.VLAN != vlan {
		return nil, fmt.Errorf("the kept lease is of VLAN %d", f.VLAN)
	}
	if !f.Address.IsValid() || !f.Address.Addr().Is4() || !f.Server.Is4() || !usable(f.Server) {
		return nil, errors.New("the kept lease has no address or server")
	}
	if err := checkGranted(f.Address); err != nil {
		return nil, fmt.Errorf("the kept lease: %w", err)
	}
	own := f.Address.Addr()
	l := &lease{terms: terms{
		address: f.Address, server: f.Server,
		duration: time.Duration(f.Duration) * time.Second,
	}}
	if l.duration < minDuration {
		return nil, fmt.Errorf("the kept lease is for %v", l.duration)
	}
	l.t1, l.t2 = renewals(l.duration, time.Duration(f.T1)*time.Second, time.Duration(f.T2)*time.Second)
	if f.Gateway.Is4() && goodGateway(f.Gateway, own) {
		l.gateway = f.Gateway
		// Without it the link is not recognised, which only costs time.
		if mac, err := net.ParseMAC(f.GatewayMAC); err == nil && len(mac) == 6 {
			l.gatewayMAC = mac
		}
	}
	for _, r := range f.Routes {
		if len(l.routes) < maxRoutes && r.To.IsValid() && r.To.Addr().Is4() && r.To.Bits() > 0 && r.To == r.To.Masked() && usable(r.To.Addr()) &&
			!r.To.Addr().IsLoopback() && !r.To.Contains(own) && (!r.Gateway.IsValid() || r.Gateway.Is4() && goodGateway(r.Gateway, own)) {
			l.routes = append(l.routes, route{r.To, r.Gateway})
		}
	}
	l.dns, l.ntp = servers(f.DNS, maxDNS), servers(f.NTP, maxNTP)
	if f.MTU >= minMTU && f.MTU <= maxMTU {
		l.mtu = f.MTU
	}
	age := c.now.Round(0).Sub(f.Granted)
	if f.Boot == c.boot && f.Boot != "" {
		if age = c.up - f.Uptime; f.Uptime < 0 || f.Uptime > c.up {
			return nil, errors.New("the kept lease is of the future")
		}
	}
	l.granted = c.now.Add(-max(age, 0))
	if l.over(c.now) {
		return nil, errLeaseOver
	}
	return l, nil
}
