package network

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// fakeKernel is a kernel with one interface, and VLANs on it.
type fakeKernel struct {
	start time.Time
	boot  string

	mu      sync.Mutex
	wake    func()
	link    link // index 0: there is none
	vlans   []link
	have    []held
	ends    map[netip.Prefix]time.Time
	routes  []heldRoute
	sysctls map[string]string
	looks   int      // how often the addresses were asked for
	log     []string // what was changed
	refuse  error    // the answer to SetAddress
}

// held is an address of an interface, and heldRoute a route over one.
type held struct {
	on int
	address
}

type heldRoute struct {
	on int
	kernelRoute
}

func newKernel() *fakeKernel {
	k := &fakeKernel{start: time.Now(), boot: "one", ends: map[netip.Prefix]time.Time{}, sysctls: map[string]string{}}
	k.link = link{name: "eth0", index: 2, mac: own(), mtu: 1500, carrier: true}
	for _, s := range []string{"disable_ipv6", "accept_ra", "autoconf", "addr_gen_mode", "use_tempaddr", "router_solicitation_delay"} {
		k.sysctls["net/ipv6/conf/eth0/"+s] = "0"
	}
	return k
}

// change changes the link as the world does.
func (k *fakeKernel) change(f func(l *link)) {
	k.mu.Lock()
	f(&k.link)
	wake := k.wake
	k.mu.Unlock()
	if wake != nil {
		wake()
	}
}

func (k *fakeKernel) note(format string, args ...any) {
	k.log = append(k.log, fmt.Sprintf(format, args...))
}

// changes answers what was changed since it was last asked.
func (k *fakeKernel) changes() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	log := k.log
	k.log = nil
	return log
}

func (k *fakeKernel) Watch(ctx context.Context, changed func()) error {
	k.mu.Lock()
	k.wake = changed
	k.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (k *fakeKernel) Link(name string) (link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range append(k.vlans, k.link) {
		if l.index != 0 && name == l.name {
			return l, nil
		}
	}
	return link{}, fmt.Errorf("interface %s: %w", name, fs.ErrNotExist)
}

func (k *fakeKernel) VLANs(parent link) ([]link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.vlans), nil
}

func (k *fakeKernel) AddVLAN(parent link, name string, v vlan) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note("+%s %d priority %d", name, v.id, v.priority)
	k.vlans = append(k.vlans, link{name: name, index: 100*v.id + v.priority, mac: k.link.mac, mtu: k.link.mtu, up: true, carrier: true, vlan: v})
	k.sysctls["net/ipv6/conf/"+name+"/disable_ipv6"] = "0"
	return nil
}

func (k *fakeKernel) DeleteVLAN(l link) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note("-%s", l.name)
	k.vlans = slices.DeleteFunc(k.vlans, func(o link) bool { return o.index == l.index })
	k.have = slices.DeleteFunc(k.have, func(h held) bool { return h.on == l.index })
	k.routes = slices.DeleteFunc(k.routes, func(h heldRoute) bool { return h.on == l.index })
	return nil
}

func (k *fakeKernel) SetUp(l link) error {
	if l.name != "lo" {
		k.change(func(l *link) { l.up = true })
	}
	return nil
}

func (k *fakeKernel) SetMTU(_ link, mtu int) error {
	k.change(func(l *link) { l.mtu = mtu })
	return nil
}

func (k *fakeKernel) Addresses(l link) ([]address, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looks++
	var list []address
	for _, h := range k.have {
		if end, ok := k.ends[h.prefix]; ok {
			h.valid = max(time.Until(end), 1)
		}
		if h.on == l.index {
			list = append(list, h.address)
		}
	}
	return list, nil
}

func (k *fakeKernel) SetAddress(l link, a address) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		return k.refuse
	}
	if !slices.ContainsFunc(k.have, func(h held) bool { return h.prefix == a.prefix && h.on == l.index }) {
		k.note("+%s", a.prefix)
		k.have = append(k.have, held{l.index, address{prefix: a.prefix}})
	}
	delete(k.ends, a.prefix)
	if a.valid > 0 {
		k.ends[a.prefix] = time.Now().Add(a.valid)
	}
	return nil
}

func (k *fakeKernel) DeleteAddress(l link, a address) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note("-%s", a.prefix)
	k.have = slices.DeleteFunc(k.have, func(h held) bool { return h.prefix == a.prefix && h.on == l.index })
	return nil
}

func (k *fakeKernel) Routes(l link) ([]kernelRoute, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []kernelRoute
	for _, h := range k.routes {
		if h.on == l.index {
			list = append(list, h.kernelRoute)
		}
	}
	return list, nil
}

func (k *fakeKernel) AddRoute(l link, r kernelRoute) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note("+%s via %s", r.to, r.gateway)
	k.routes = append(k.routes, heldRoute{l.index, r})
	return nil
}

func (k *fakeKernel) DeleteRoute(l link, r kernelRoute) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note("-%s via %s", r.to, r.gateway)
	k.routes = slices.DeleteFunc(k.routes, func(h heldRoute) bool { return h == heldRoute{l.index, r} })
	return nil
}

func (k *fakeKernel) Neighbor(netip.Addr) (net.HardwareAddr, error) { return nil, nil }

func (k *fakeKernel) Sysctl(name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.sysctls[name]
	if !ok {
		return "", fs.ErrNotExist
	}
	return v, nil
}

func (k *fakeKernel) SetSysctl(name, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sysctls[name] = value
	return nil
}

func (k *fakeKernel) Clock() (clock, error) {
	return clock{time.Now(), k.boot, time.Since(k.start)}, nil
}

// fakeLAN is a wire with DHCP servers and machines at its end.
type fakeLAN struct {
	mu sync.Mutex
	// serve answers a client's message.
	serve func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4
	// machines answer ARP.
	machines map[netip.Addr]net.HardwareAddr
	sent     []string // what clients sent, and when
	start    time.Time
	open     int // connections
	arps     []*fakeARP
}

func newLAN() *fakeLAN {
	return &fakeLAN{start: time.Now(), machines: map[netip.Addr]net.HardwareAddr{}}
}

type fakeDHCP struct {
	lan  *fakeLAN
	from netip.Addr
	in   chan *dhcpv4.DHCPv4
}

func (n *fakeLAN) DHCP(_ link, from netip.Addr) (dhcpConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open++
	return &fakeDHCP{n, from, make(chan *dhcpv4.DHCPv4, 100)}, nil
}

func (c *fakeDHCP) Send(m *dhcpv4.DHCPv4, to netip.Addr) error {
	c.lan.mu.Lock()
	defer c.lan.mu.Unlock()
	where := "all"
	if to.IsValid() {
		where = to.String()
	}
	about := ""
	if a := m.RequestedIPAddress(); a != nil {
		about = " " + a.String()
	}
	c.lan.sent = append(c.lan.sent, fmt.Sprintf("%v %v%s to %s", time.Since(c.lan.start).Round(time.Second), m.MessageType(), about, where))
	if c.lan.serve == nil {
		return nil
	}
	for _, a := range c.lan.serve(m, to) {
		c.in <- a
	}
	return nil
}

func (c *fakeDHCP) Receive(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	select {
	case m := <-c.in:
		return m, nil
	case <-ctx.Done():
		return nil, os.ErrDeadlineExceeded
	}
}

func (c *fakeDHCP) Close() error {
	c.lan.mu.Lock()
	defer c.lan.mu.Unlock()
	c.lan.open--
	return nil
}

type fakeARP struct {
	lan    *fakeLAN
	sender netip.Addr
	in     chan arpPacket
}

func (n *fakeLAN) ARP(_ link, sender netip.Addr) (arpConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open++
	c := &fakeARP{n, sender, make(chan arpPacket, 100)}
	n.arps = append(n.arps, c)
	return c, nil
}

func (c *fakeARP) Send(p arpPacket, to net.HardwareAddr) error {
	c.lan.mu.Lock()
	defer c.lan.mu.Unlock()
	mac, ok := c.lan.machines[p.target]
	if ok && (to == nil || to.String() == mac.String()) && p.target == c.sender {
		c.in <- arpPacket{reply: true, senderMAC: mac, sender: p.target, targetMAC: p.senderMAC, target: p.sender}
	}
	return nil
}

func (c *fakeARP) Receive(ctx context.Context) (arpPacket, error) {
	select {
	case p := <-c.in:
		return p, nil
	case <-ctx.Done():
		return arpPacket{}, os.ErrDeadlineExceeded
	}
}

func (c *fakeARP) Close() error {
	c.lan.mu.Lock()
	defer c.lan.mu.Unlock()
	c.lan.open--
	c.lan.arps = slices.DeleteFunc(c.lan.arps, func(o *fakeARP) bool { return o == c })
	return nil
}

// claim has a machine say that it has the address.
func (n *fakeLAN) claim(a netip.Addr, mac net.HardwareAddr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.arps {
		if c.sender == a {
			c.in <- arpPacket{senderMAC: mac, sender: a, target: a}
		}
	}
}

// messages answers what clients sent since it was last asked.
func (n *fakeLAN) messages() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sent
	n.sent = nil
	return s
}

func (n *fakeLAN) set(serve func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serve = serve
}

// server answers as 192.0.2.1, which grants 192.0.2.50 for an hour.
func server(t *testing.T, change ...dhcpv4.Modifier) func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
	return func(m *dhcpv4.DHCPv4, _ netip.Addr) []*dhcpv4.DHCPv4 {
		kind := dhcpv4.MessageTypeAck
		switch m.MessageType() {
		case dhcpv4.MessageTypeDiscover:
			kind = dhcpv4.MessageTypeOffer
		case dhcpv4.MessageTypeRequest:
		default:
			return nil
		}
		return []*dhcpv4.DHCPv4{ack(t, append([]dhcpv4.Modifier{dhcpv4.WithTransactionID(m.TransactionID), dhcpv4.WithMessageType(kind)}, change...)...)}
	}
}

// refuse answers requests with a NAK.
func refuse(t *testing.T, by net.IP) func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
	return func(m *dhcpv4.DHCPv4, _ netip.Addr) []*dhcpv4.DHCPv4 {
		if m.MessageType() != dhcpv4.MessageTypeRequest {
			return nil
		}
		return []*dhcpv4.DHCPv4{ack(t, dhcpv4.WithTransactionID(m.TransactionID), dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(by)))}
	}
}

// leases is a Leases.
type leases struct {
	mu     sync.Mutex
	data   []byte
	stores int
}

func (l *leases) Load() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.data == nil {
		return nil, fs.ErrNotExist
	}
	return l.data, nil
}

func (l *leases) Store(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = b
	l.stores++
	return nil
}

// bench is a manager between a kernel and a LAN that are not real. It is for a
// synctest bubble.
type bench struct {
	*testing.T
	k      *fakeKernel
	n      *fakeLAN
	leases leases
	m      *Manager
	stop   func()

	mu     sync.Mutex
	events []string
}

func newBench(t *testing.T) *bench { return &bench{T: t, k: newKernel(), n: newLAN()} }

// run starts a manager, in the place of the one before.
func (b *bench) run(c Config) {
	b.Helper()
	if b.stop != nil {
		b.stop()
	}
	m, err := New(Options{
		Config: c, HostName: "rack7.example.com", Interface: func() (string, error) { return "eth0", nil }, Leases: &b.leases,
		Report: func(e Event) { b.mu.Lock(); defer b.mu.Unlock(); b.events = append(b.events, e.Kind+": "+e.Message) },
		Log:    slog.New(slog.NewTextHandler(b.Output(), nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	m.kernel, m.wire = b.k, b.n
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	b.m = m
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("Run: %v", err)
		}
		b.n.mu.Lock()
		defer b.n.mu.Unlock()
		if b.n.open != 0 {
			b.Errorf("got %d open sockets after Run, want none", b.n.open)
		}
	}
}

// peek runs f while neither kernel, LAN nor leases change.
func (b *bench) peek(f func()) {
	b.k.mu.Lock()
	defer b.k.mu.Unlock()
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	b.leases.mu.Lock()
	defer b.leases.mu.Unlock()
	f()
}

func (b *bench) looks() (n int)  { b.peek(func() { n = b.k.looks }); return n }
func (b *bench) stores() (n int) { b.peek(func() { n = b.leases.stores }); return n }

func (b *bench) sysctl(name string) (value string) {
	b.peek(func() { value = b.k.sysctls["net/ipv6/conf/eth0/"+name] })
	return value
}

// heard answers the events since it was last asked.
func (b *bench) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.events
	b.events = nil
	return e
}

func (b *bench) want(what string, got, want []string) {
	b.Helper()
	if !slices.Equal(got, want) {
		b.Errorf("got %s\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
