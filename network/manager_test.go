package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const upByDHCP = "network.up: eth0 has 192.0.2.50/24 by DHCP from 192.0.2.1"

// in runs a test in a bubble.
func in(t *testing.T, f func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		f(b)
		if b.stop != nil {
			b.stop()
		}
	})
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func dhcpOnly() Config {
	c := DefaultConfig()
	c.IPv6.Method = MethodOff
	return c
}

func TestBind(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.n.machines[netip.MustParseAddr("192.0.2.1")] = net.HardwareAddr{2, 0, 0, 0, 0, 1}
		b.run(dhcpOnly())
		synctest.Wait() // no time passes
		b.want("messages", b.n.messages(), []string{"0s DISCOVER to all", "0s REQUEST 192.0.2.50 to all"})
		b.want("changes", b.k.changes(), []string{"+192.0.2.50/24", "+0.0.0.0/0 via 192.0.2.1"})
		b.want("events", b.heard(), []string{upByDHCP})
		b.peek(func() {
			if b.leases.stores != 2 || !strings.Contains(string(b.leases.data), `"gateway_mac":"02:00:00:00:00:01"`) {
				b.Errorf("got %d stores, the last %s; want 2, the second with the gateway's MAC", b.leases.stores, b.leases.data)
			}
		})
		s := b.m.State()
		if len(s.Addresses) != 1 || s.Addresses[0].Method != MethodDHCP || !s.Addresses[0].Expires.Equal(time.Now().Add(time.Hour)) ||
			!slices.Equal(s.Gateways, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) || !s.Carrier {
			b.Errorf("got the state %+v", s)
		}
		// Nothing is looked at while nothing happens.
		looks := b.looks()
		after(29 * time.Minute)
		if n := b.looks() - looks; n > 0 {
			b.Errorf("got %d looks at an idle network, want none", n)
		}
	})
}

func TestRenewal(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.run(dhcpOnly())
		after(29 * time.Minute)
		b.n.messages()
		b.k.changes()
		b.heard()
		stores := b.stores()
		after(2 * time.Minute)
		b.want("messages", b.n.messages(), []string{"30m0s REQUEST to 192.0.2.1"})
		if b.stores() != stores+1 {
			b.Errorf("got %d stores of a renewal after half an hour, want 1", b.stores()-stores)
		}
		// From now on nobody answers: to the server at T1 (halves of the time
		// left to T2), to all at T2, and then the address goes.
		b.n.set(nil)
		after(58*time.Minute + 59*time.Second)
		b.want("messages", b.n.messages(), []string{
			"1h0m0s REQUEST to 192.0.2.1", "1h11m15s REQUEST to 192.0.2.1", "1h16m53s REQUEST to 192.0.2.1", "1h19m41s REQUEST to 192.0.2.1", "1h21m6s REQUEST to 192.0.2.1", "1h22m6s REQUEST to 192.0.2.1",
			"1h22m30s REQUEST to all", "1h26m15s REQUEST to all", "1h28m8s REQUEST to all", "1h29m8s REQUEST to all",
		})
		b.want("changes", b.k.changes(), nil)
		after(time.Second)
		b.want("changes", b.k.changes(), []string{"-192.0.2.50/24", "-0.0.0.0/0 via 192.0.2.1"})
		b.want("events", b.heard(), []string{"network.down: 192.0.2.50/24 is no longer an address of the board: the lease is over"})
	})
}

func TestRefusedRenewal(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.run(dhcpOnly())
		after(time.Minute)
		b.heard()
		// Anybody's refusal does not count, the server's own does.
		b.n.set(refuse(b.T, net.IPv4(192, 0, 2, 66)))
		after(30 * time.Minute)
		b.want("events", b.heard(), nil)
		b.n.set(refuse(b.T, net.IPv4(192, 0, 2, 1)))
		after(20 * time.Minute)
		b.want("events", b.heard(), []string{
			"network.down: 192.0.2.50/24 is no longer an address of the board: the DHCP server refused it",
			"network.no-address: eth0 has no address: no DHCP server answers"})
		// And it goes on asking.
		b.n.set(server(b.T))
		after(2 * time.Minute)
		b.want("events", b.heard(), []string{upByDHCP})
	})
}

func TestSilence(t *testing.T) {
	in(t, func(b *bench) {
		b.run(dhcpOnly())
		after(10 * time.Minute)
		b.want("events", b.heard(), []string{"network.no-address: eth0 has no address: no DHCP server answers"})
		// 1, 2, 4 … 64 s and then every 64 s or so.
		if n := len(b.n.messages()); n < 12 || n > 18 {
			b.Errorf("got %d messages in ten minutes, want about 15", n)
		}
		b.n.set(server(b.T))
		after(75 * time.Second)
		b.want("events", b.heard(), []string{upByDHCP})
	})
}

func TestBadAnswers(t *testing.T) {
	in(t, func(b *bench) {
		good := server(b.T)
		b.n.set(func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
			list := good(m, to)
			foreign, _ := dhcpv4.FromBytes(list[0].ToBytes())
			foreign.TransactionID[0]++
			other, _ := dhcpv4.FromBytes(list[0].ToBytes())
			other.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, 0, 6}
			bad := server(b.T, dhcpv4.WithYourIP(net.IPv4(127, 0, 0, 1)))(m, to)
			return slices.Concat([]*dhcpv4.DHCPv4{m, foreign, other}, bad, list)
		})
		b.run(dhcpOnly())
		synctest.Wait()
		b.want("events", b.heard(), []string{upByDHCP})
	})
}

// TestRestart is the board's start with a kept lease, in another network, with
// and without what was there before.
func TestRestart(t *testing.T) {
	gateway := netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		name     string
		sameBoot bool
		change   func(b *bench)
		events   []string // at once
		later    []string // within a minute
		messages []string // the first
	}{
		{"the server answers", false, func(*bench) {}, []string{upByDHCP}, nil, []string{"REQUEST 192.0.2.50 to all"}},
		{"only the gateway answers", false, func(b *bench) { b.n.set(nil) }, []string{upByDHCP}, nil,
			[]string{"REQUEST 192.0.2.50 to all", "REQUEST 192.0.2.50 to all", "REQUEST 192.0.2.50 to all", "DISCOVER 192.0.2.50 to all"}},
		{"nobody answers", false, func(b *bench) { b.n.set(nil); delete(b.n.machines, gateway) }, nil, []string{upByDHCP},
			[]string{"REQUEST 192.0.2.50 to all"}},
		{"another gateway", false, func(b *bench) { b.n.set(nil); b.n.machines[gateway] = net.HardwareAddr{2, 0, 0, 0, 0, 7} }, nil, []string{upByDHCP},
			[]string{"REQUEST 192.0.2.50 to all"}},
		{"the server refuses", false, func(b *bench) {
			b.n.set(refuse(b.T, net.IPv4(192, 0, 2, 1)))
			delete(b.n.machines, gateway)
		}, nil, []string{"network.no-address: eth0 has no address: no DHCP server answers"}, []string{"REQUEST 192.0.2.50 to all", "DISCOVER to all"}},
		{"another server offers", false, func(b *bench) {
			delete(b.n.machines, gateway)
			other := server(b.T, dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 70)))
			b.n.set(func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
				if m.ServerIdentifier() == nil && m.MessageType() == dhcpv4.MessageTypeRequest {
					return nil // it does not know the address, and says nothing
				}
				return other(m, to)
			})
		}, nil, []string{"network.up: eth0 has 192.0.2.70/24 by DHCP from 192.0.2.1"}, []string{"REQUEST 192.0.2.50 to all"}},
		{"a second server refuses", false, func(b *bench) {
			good, bad := server(b.T), refuse(b.T, net.IPv4(192, 0, 2, 66))
			b.n.set(func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 { return append(bad(m, to), good(m, to)...) })
		}, []string{upByDHCP}, nil, []string{"REQUEST 192.0.2.50 to all"}},
		{"the software alone, with nobody there", true, func(b *bench) { b.n.set(nil); delete(b.n.machines, gateway) }, []string{upByDHCP}, nil,
			[]string{"REQUEST 192.0.2.50 to all"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(b *bench) {
				b.n.set(server(b.T))
				b.n.machines[gateway] = net.HardwareAddr{2, 0, 0, 0, 0, 1}
				b.run(dhcpOnly())
				after(time.Minute)
				b.stop()
				b.stop = nil
				if !tt.sameBoot {
					b.k.have, b.k.routes, b.k.boot = nil, nil, "two"
				}
				b.k.changes()
				b.heard()
				b.n.messages()
				tt.change(b)
				b.run(dhcpOnly())
				synctest.Wait()
				b.want("events at once", b.heard(), tt.events)
				after(40 * time.Second)
				b.want("events later", b.heard(), tt.later)
				var got []string
				for _, m := range b.n.messages() {
					_, what, _ := strings.Cut(m, " ")
					got = append(got, what)
				}
				if len(got) < len(tt.messages) || !slices.Equal(got[:len(tt.messages)], tt.messages) {
					b.Errorf("got messages %q, want first %q", got, tt.messages)
				}
				if tt.sameBoot {
					b.want("changes", b.k.changes(), nil)
				}
			})
		})
	}
}

// TestKeptUntilItEnds: without server and gateway the kept address is used as
// long as its lease lasts.
func TestKeptUntilItEnds(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.run(dhcpOnly())
		after(time.Minute)
		b.stop()
		b.stop = nil
		b.k.have, b.k.routes, b.k.boot = nil, nil, "two"
		b.n.set(nil)
		b.heard()
		b.run(dhcpOnly())
		after(58 * time.Minute)
		b.want("events", b.heard(), []string{upByDHCP})
		after(time.Minute)
		b.want("events", b.heard(), []string{"network.down: 192.0.2.50/24 is no longer an address of the board: the lease is over"})
	})
}

func TestCable(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.k.link.carrier = false
		b.run(dhcpOnly())
		after(time.Minute)
		b.want("events", b.heard(), []string{"network.down: eth0 is not connected: is the cable plugged?"})
		b.want("messages without a link", b.n.messages(), nil)
		looks := b.looks()
		after(time.Hour)
		if n := b.looks() - looks; n > 0 {
			b.Errorf("got %d looks while no cable is plugged, want none", n)
		}
		b.k.change(func(l *link) { l.carrier = true })
		synctest.Wait()
		b.want("events", b.heard(), []string{"network.up: eth0 is connected", upByDHCP})
		b.k.changes()
		b.n.messages()
		// Out and in again: asked at once, the address stays, nobody is told.
		b.k.change(func(l *link) { l.carrier = false })
		after(time.Second)
		b.k.change(func(l *link) { l.carrier = true })
		synctest.Wait()
		if got := b.n.messages(); len(got) != 1 || !strings.HasSuffix(got[0], " REQUEST 192.0.2.50 to all") {
			b.Errorf("got messages %q, want one for the address", got)
		}
		b.want("changes", b.k.changes(), nil)
		b.want("events", b.heard(), nil)
		// Out until the lease is over.
		b.k.change(func(l *link) { l.carrier = false })
		after(time.Hour)
		b.want("events", b.heard(), []string{"network.down: eth0 is not connected: is the cable plugged?",
			"network.down: 192.0.2.50/24 is no longer an address of the board: the lease is over"})
	})
}

func TestConflicts(t *testing.T) {
	other := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	own := netip.MustParseAddr("192.0.2.50")
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.n.machines[own] = other
		b.run(dhcpOnly())
		synctest.Wait()
		b.want("events", b.heard(), []string{upByDHCP, "network.conflict: 192.0.2.50 is also used by the machine 02:00:00:00:00:09",
			"network.down: 192.0.2.50/24 is no longer an address of the board: another machine uses it"})
		b.peek(func() { delete(b.n.machines, own) })
		b.n.messages()
		after(11 * time.Second)
		b.want("messages", b.n.messages(), []string{"10s DISCOVER to all", "10s REQUEST 192.0.2.50 to all"})
		b.want("events", b.heard(), []string{upByDHCP})
		// Later one claim is answered, a second makes it give way.
		after(20 * time.Minute)
		b.n.claim(own, other)
		after(20 * time.Second)
		b.want("events", b.heard(), []string{"network.conflict: 192.0.2.50 is also used by the machine 02:00:00:00:00:09"})
		b.n.messages()
		b.n.claim(own, other)
		synctest.Wait()
		if got := b.n.messages(); len(got) != 1 || !strings.Contains(got[0], "DECLINE 192.0.2.50 to all") {
			b.Errorf("got messages %q, want a DECLINE", got)
		}
	})
}

// TestHostileNeighbour claims every address that is granted, for an hour.
func TestHostileNeighbour(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.n.machines[netip.MustParseAddr("192.0.2.50")] = net.HardwareAddr{2, 0, 0, 0, 0, 9}
		b.run(dhcpOnly())
		after(time.Hour)
		conflicts := slices.DeleteFunc(b.heard(), func(s string) bool { return !strings.HasPrefix(s, KindConflict) })
		if len(conflicts) != maxDeclines {
			b.Errorf("got %d words of conflicts, want %d", len(conflicts), maxDeclines)
		}
		if n := len(b.n.messages()); n > 250 {
			b.Errorf("got %d messages in an hour, want about three a minute", n)
		}
	})
}

func TestConfigure(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		c := DefaultConfig()
		c.IPv4 = IPv4Config{Method: MethodStatic, Address: "192.0.2.5/24", Gateway: "192.0.2.1"}
		b.run(c)
		synctest.Wait()
		b.want("changes", b.k.changes(), []string{"+192.0.2.5/24", "+0.0.0.0/0 via 192.0.2.1"})
		b.want("messages", b.n.messages(), nil)
		if got := b.sysctl("accept_ra"); got != "2" {
			b.Errorf("got accept_ra %s with SLAAC, want 2", got)
		}
		c.IPv6 = IPv6Config{Method: MethodStatic, Address: "2001:db8::5/64", Gateway: "fe80::1"}
		for range 2 { // the second time nothing changes
			if err := b.m.Configure(c, "rack8"); err != nil {
				b.Fatal(err)
			}
			synctest.Wait()
		}
		b.want("changes", b.k.changes(), []string{"+2001:db8::5/64", "+::/0 via fe80::1"})
		if got := b.sysctl("accept_ra"); got != "0" {
			b.Errorf("got accept_ra %s with a fixed address, want 0", got)
		}
		c.IPv4 = IPv4Config{Method: MethodDHCP}
		if err := b.m.Configure(c, "rack8"); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		b.want("changes", b.k.changes(), []string{"-192.0.2.5/24", "+192.0.2.50/24", "-0.0.0.0/0 via 192.0.2.1", "+0.0.0.0/0 via 192.0.2.1"})
		c.DNS = []string{"no address"}
		if err := b.m.Configure(c, "rack8"); err == nil {
			b.Error("got nil for a bad configuration, want an error")
		}
	})
}

func TestRefusal(t *testing.T) {
	in(t, func(b *bench) {
		b.k.refuse = errors.New("no buffer space")
		c := dhcpOnly()
		c.IPv4 = IPv4Config{Method: MethodStatic, Address: "192.0.2.5/24"}
		b.run(c)
		after(time.Minute)
		b.want("events", b.heard(), []string{"network.failed: no buffer space"})
		b.k.mu.Lock()
		b.k.refuse = nil
		b.k.mu.Unlock()
		after(10 * time.Second)
		b.want("events", b.heard(), []string{"network.up: eth0 has 192.0.2.5/24, as set"})
	})
}

func TestResolvConf(t *testing.T) {
	name := filepath.Join(t.TempDir(), "resolv.conf")
	p, err := Config{IPv4: IPv4Config{Method: MethodDHCP}, IPv6: IPv6Config{Method: MethodOff}}.plan()
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{m: &Manager{opt: Options{ResolvConf: name}}, plan: p, lease: &lease{terms: usual()}}
	for _, tt := range []struct {
		dns  []netip.Addr
		want string
	}{
		{nil, "nameserver 192.0.2.2\n"},
		{[]netip.Addr{netip.MustParseAddr("2001:db8::1")}, "nameserver 2001:db8::1\n"},
	} {
		r.plan.dns = tt.dns
		if err := r.resolvConf(); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(name); err != nil || string(b) != tt.want {
			t.Errorf("got %q, %v; want %q", b, err, tt.want)
		}
	}
}
