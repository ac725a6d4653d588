package network

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func static(address string) Config {
	c := dhcpOnly()
	c.IPv4 = IPv4Config{Method: MethodStatic, Address: address}
	return c
}

func (b *bench) configure(c Config) {
	b.Helper()
	if err := b.m.Configure(c, "rack7"); err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
}

func TestVLAN(t *testing.T) {
	in(t, func(b *bench) {
		c := static("192.0.2.5/24")
		b.run(c)
		synctest.Wait()
		b.want("changes", b.k.changes(), []string{"+192.0.2.5/24"})
		c.VLAN, c.VLANPriority = 7, 5
		b.configure(c)
		b.want("changes", b.k.changes(), []string{"+eth0.7 7 priority 5", "-192.0.2.5/24", "+192.0.2.5/24"})
		if s := b.m.State(); s.Interface != "eth0.7" || s.VLAN != 7 || len(s.Addresses) != 1 {
			b.Errorf("got the state %+v, want the address on eth0.7", s)
		}
		if off := b.sysctl("disable_ipv6"); off != "1" {
			b.Errorf("got disable_ipv6 %s of the interface below, want 1", off)
		}
		// Another priority is another link; a restart of the software is not.
		c.VLANPriority = 0
		b.configure(c)
		b.want("changes", b.k.changes(), []string{"-eth0.7", "+eth0.7 7 priority 0", "+192.0.2.5/24"})
		b.run(c)
		synctest.Wait()
		b.want("changes over a restart", b.k.changes(), nil)
		c.VLAN = 4094
		b.configure(c)
		b.want("changes", b.k.changes(), []string{"+eth0.4094 4094 priority 0", "-eth0.7", "+192.0.2.5/24"})
		// What a run before this one made goes as well.
		c.VLAN = 0
		b.run(c)
		synctest.Wait()
		b.want("changes", b.k.changes(), []string{"-eth0.4094", "+192.0.2.5/24"})
		if s := b.m.State(); s.Interface != "eth0" || s.VLAN != 0 {
			b.Errorf("got the state %+v, want eth0", s)
		}
	})
}

// The lease of another VLAN is of no use, even if its router answers here.
func TestVLANLease(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T))
		b.n.machines[netip.MustParseAddr("192.0.2.1")] = net.HardwareAddr{2, 0, 0, 0, 0, 1}
		c := dhcpOnly()
		b.run(c)
		synctest.Wait()
		discover := []string{"0s DISCOVER to all", "0s REQUEST 192.0.2.50 to all"}
		b.want("messages", b.n.messages(), discover)
		c.VLAN = 7
		b.configure(c)
		b.want("messages", b.n.messages(), discover)
		// A restart in the same VLAN begins with its lease.
		b.run(c)
		synctest.Wait()
		b.want("messages", b.n.messages(), discover[1:])
	})
}

// The MTU of the net without a tag does not stay with the board's interface.
func TestVLANMTU(t *testing.T) {
	in(t, func(b *bench) {
		b.n.set(server(b.T, dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x05, 0x78}))))
		c := dhcpOnly()
		b.run(c)
		synctest.Wait()
		b.peek(func() {
			if got := b.k.link.mtu; got != 1400 {
				b.Errorf("got MTU %d with a lease, want 1400", got)
			}
		})
		b.n.set(server(b.T))
		c.VLAN = 7
		b.configure(c)
		if got := b.m.State(); got.VLAN != 7 || got.MTU != standardMTU {
			b.Errorf("got VLAN %d with MTU %d, want 7 with %d", got.VLAN, got.MTU, standardMTU)
		}
	})
}

func TestVLANName(t *testing.T) {
	for _, tt := range []struct {
		parent string
		id     int
		want   string
	}{
		{"eth0", 1, "eth0.1"},
		{"eth0", 4094, "eth0.4094"},
		{"abcdefghij", 4094, "abcdefghij.4094"},
		{"abcdefghijk", 4094, "vlan4094"},
		{"enx001122334455", 7, "vlan7"},
	} {
		if got := vlanName(tt.parent, tt.id); got != tt.want {
			t.Errorf("VLAN %d on %s: got %s, want %s", tt.id, tt.parent, got, tt.want)
		}
	}
}

// A configuration counts as applied once the kernel has it: of DHCP, when a
// server answered or none does.
func TestApplied(t *testing.T) {
	in(t, func(b *bench) {
		c := static("192.0.2.5/24")
		b.run(c)
		applied := func(c Config, want time.Duration) {
			b.Helper()
			synctest.Wait()
			since, ok := b.m.Applied(c)
			if want < 0 && ok {
				b.Errorf("got applied since %v ago, want not yet", time.Since(since))
			}
			if want >= 0 && (!ok || time.Since(since) != want) {
				b.Errorf("got applied %v since %v ago, want since %v", ok, time.Since(since), want)
			}
		}
		applied(c, 0)
		applied(static("192.0.2.6/24"), -1)
		time.Sleep(time.Minute)
		applied(c, time.Minute)
		// Something else, or nothing at all, was configured.
		other := c
		other.Trial = 0
		b.configure(other)
		applied(c, time.Minute)
		// The server does not answer; the old address stays until then.
		d := dhcpOnly()
		b.configure(d)
		applied(d, -1)
		time.Sleep(time.Minute)
		since, ok := b.m.Applied(d)
		if !ok || time.Since(since) >= time.Minute {
			b.Errorf("got applied %v since %v ago, want it after the search was given up", ok, time.Since(since))
		}
		b.configure(c)
		applied(c, 0)
		// The kernel refuses it.
		b.peek(func() { b.k.refuse = errors.New("no") })
		c = static("192.0.2.7/24")
		b.configure(c)
		applied(c, -1)
		b.peek(func() { b.k.refuse = nil })
		time.Sleep(retryAfter)
		applied(c, 0)
	})
}
