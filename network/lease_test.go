package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func own() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 5} }

// ack is a server's usual answer, changed by the modifiers.
func ack(t testing.TB, change ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(own()),
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck),
		dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 50)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
		dhcpv4.WithOption(dhcpv4.OptSubnetMask(net.CIDRMask(24, 32))),
		dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(192, 0, 2, 1))),
		dhcpv4.WithOption(dhcpv4.OptDNS(net.IPv4(192, 0, 2, 2))),
		dhcpv4.WithLeaseTime(3600),
	}, change...)...)
	if err != nil {
		t.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	return m
}

func raw(code dhcpv4.OptionCode, b ...byte) dhcpv4.Modifier { return dhcpv4.WithGeneric(code, b) }

func seconds(code dhcpv4.OptionCode, n uint32) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(code, binary.BigEndian.AppendUint32(nil, n))
}

func usual() terms {
	return terms{
		address: netip.MustParsePrefix("192.0.2.50/24"), server: netip.MustParseAddr("192.0.2.1"), gateway: netip.MustParseAddr("192.0.2.1"),
		dns: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, duration: time.Hour, t1: 30 * time.Minute, t2: 52*time.Minute + 30*time.Second,
	}
}

func TestParseTerms(t *testing.T) {
	address := func(a, b, c, d byte) dhcpv4.Modifier { return dhcpv4.WithYourIP(net.IPv4(a, b, c, d)) }
	with := func(change func(*terms)) *terms {
		w := usual()
		change(&w)
		return &w
	}
	for _, tt := range []struct {
		name   string
		change []dhcpv4.Modifier
		want   *terms
		bad    string // part of the error, where want is nil
	}{
		{"the usual", nil, with(func(*terms) {}), ""},
		{"no server", []dhcpv4.Modifier{dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier)}, nil, "who it is"},
		{"server 0.0.0.0", []dhcpv4.Modifier{raw(dhcpv4.OptionServerIdentifier, 0, 0, 0, 0)}, nil, "who it is"},
		{"no address", []dhcpv4.Modifier{address(0, 0, 0, 0)}, nil, "that a machine can have"},
		{"multicast", []dhcpv4.Modifier{address(224, 0, 0, 1)}, nil, "multicast"},
		{"loopback", []dhcpv4.Modifier{address(127, 0, 0, 1)}, nil, "loopback"},
		{"link-local", []dhcpv4.Modifier{address(169, 254, 1, 1)}, nil, "link-local"},
		{"everybody", []dhcpv4.Modifier{address(255, 255, 255, 255)}, nil, "that a machine can have"},
		{"the network", []dhcpv4.Modifier{address(192, 0, 2, 0)}, nil, "network or broadcast"},
		{"broadcast", []dhcpv4.Modifier{address(192, 0, 2, 255)}, nil, "network or broadcast"},
		{"mask with holes", []dhcpv4.Modifier{raw(dhcpv4.OptionSubnetMask, 255, 0, 255, 0)}, nil, "mask"},
		{"mask 0", []dhcpv4.Modifier{raw(dhcpv4.OptionSubnetMask, 0, 0, 0, 0)}, nil, "no board is in"},
		{"mask of 3 bytes", []dhcpv4.Modifier{raw(dhcpv4.OptionSubnetMask, 255, 255, 255)}, nil, "mask"},
		{"no mask", []dhcpv4.Modifier{dhcpv4.WithoutOption(dhcpv4.OptionSubnetMask)}, with(func(*terms) {}), ""}, // class C
		{"a single address", []dhcpv4.Modifier{raw(dhcpv4.OptionSubnetMask, 255, 255, 255, 255)},
			with(func(w *terms) { w.address = netip.MustParsePrefix("192.0.2.50/32") }), ""},

		{"no lease time", []dhcpv4.Modifier{dhcpv4.WithoutOption(dhcpv4.OptionIPAddressLeaseTime)}, nil, "lease of 0s"},
		{"a second", []dhcpv4.Modifier{dhcpv4.WithLeaseTime(1)}, nil, "lease of 1s"},
		{"for ever", []dhcpv4.Modifier{dhcpv4.WithLeaseTime(0xffffffff)},
			with(func(w *terms) { w.duration = infinite; w.t1, w.t2 = renewals(infinite, 0, 0) }), ""},
		{"T1 and T2", []dhcpv4.Modifier{seconds(dhcpv4.OptionRenewTimeValue, 600), seconds(dhcpv4.OptionRebindingTimeValue, 1200)},
			with(func(w *terms) { w.t1, w.t2 = 10*time.Minute, 20*time.Minute }), ""},
		{"T1 at once", []dhcpv4.Modifier{seconds(dhcpv4.OptionRenewTimeValue, 0)}, with(func(*terms) {}), ""},
		{"T1 and T2 after the end", []dhcpv4.Modifier{seconds(dhcpv4.OptionRenewTimeValue, 7200), seconds(dhcpv4.OptionRebindingTimeValue, 3600)},
			with(func(*terms) {}), ""},
		{"T2 before T1", []dhcpv4.Modifier{seconds(dhcpv4.OptionRenewTimeValue, 600), seconds(dhcpv4.OptionRebindingTimeValue, 60)},
			with(func(w *terms) { w.t1 = 10 * time.Minute }), ""},

		{"gateway 0", []dhcpv4.Modifier{raw(dhcpv4.OptionRouter, 0, 0, 0, 0)}, with(func(w *terms) { w.gateway = netip.Addr{} }), ""},
		{"gateway itself, then another", []dhcpv4.Modifier{raw(dhcpv4.OptionRouter, 192, 0, 2, 50, 192, 0, 2, 9)},
			with(func(w *terms) { w.gateway = netip.MustParseAddr("192.0.2.9") }), ""},
		{"half a gateway", []dhcpv4.Modifier{raw(dhcpv4.OptionRouter, 192, 0)}, with(func(w *terms) { w.gateway = netip.Addr{} }), ""},
		{"300 name servers", []dhcpv4.Modifier{raw(dhcpv4.OptionDomainNameServer, bytes.Repeat([]byte{0, 0, 0, 0, 192, 0, 2, 3, 127, 0, 0, 1, 192, 0, 2, 4, 192, 0, 2, 5}, 60)...)},
			with(func(w *terms) {
				w.dns = []netip.Addr{netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4"), netip.MustParseAddr("192.0.2.5")}
			}), ""},
		{"many time servers", []dhcpv4.Modifier{raw(dhcpv4.OptionNTPServers, bytes.Repeat([]byte{0, 0, 0, 0, 192, 0, 2, 3, 127, 0, 0, 1, 192, 0, 2, 4}, 9)...)},
			with(func(w *terms) {
				w.ntp = []netip.Addr{netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.4")}
			}), ""},
		{"half a time server", []dhcpv4.Modifier{raw(dhcpv4.OptionNTPServers, 192, 0, 2)}, with(func(w *terms) { w.ntp = nil }), ""},
		{"MTU", []dhcpv4.Modifier{raw(dhcpv4.OptionInterfaceMTU, 0x23, 0x28)}, with(func(w *terms) { w.mtu = 9000 }), ""},
		{"MTU 68", []dhcpv4.Modifier{raw(dhcpv4.OptionInterfaceMTU, 0, 68)}, with(func(*terms) {}), ""},
		{"MTU 65535", []dhcpv4.Modifier{raw(dhcpv4.OptionInterfaceMTU, 255, 255)}, with(func(*terms) {}), ""},

		{"classless routes", []dhcpv4.Modifier{raw(dhcpv4.OptionClasslessStaticRoute,
			16, 10, 9, 192, 0, 2, 7, // by a gateway
			20, 10, 8, 255, 0, 0, 0, 0, // on the link, with bits below its mask
			0, 192, 0, 2, 8, // default
			8, 127, 127, 0, 0, 1, // loopback
			24, 192, 0, 2, 192, 0, 2, 9, // its own net
			4, 224, 192, 0, 2, 9, // multicast
			33, 1, 2, 3)}, // broken off
			with(func(w *terms) {
				w.gateway = netip.MustParseAddr("192.0.2.8")
				w.routes = []route{{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParseAddr("192.0.2.7")}, {netip.MustParsePrefix("10.8.240.0/20"), netip.Addr{}}}
			}), ""},
		{"classless routes without default", []dhcpv4.Modifier{raw(dhcpv4.OptionClasslessStaticRoute, 8, 10, 192, 0, 2, 7)},
			with(func(w *terms) {
				w.gateway = netip.Addr{}
				w.routes = []route{{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParseAddr("192.0.2.7")}}
			}), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseTerms(ack(t, tt.change...))
			switch {
			case tt.want == nil && (err == nil || !strings.Contains(err.Error(), tt.bad)):
				t.Errorf("got %+v, %v; want an error with %q", got, err, tt.bad)
			case tt.want != nil && (err != nil || !reflect.DeepEqual(got, *tt.want)):
				t.Errorf("got %+v, %v\nwant %+v", got, err, *tt.want)
			}
		})
	}
}

func TestManyRoutes(t *testing.T) {
	var b []byte
	for i := range 200 {
		b = append(b, 24, 10, 0, byte(i), 192, 0, 2, 1)
	}
	if got, err := parseTerms(ack(t, raw(dhcpv4.OptionClasslessStaticRoute, b...))); err != nil || len(got.routes) != maxRoutes {
		t.Errorf("got %d routes, %v; want %d", len(got.routes), err, maxRoutes)
	}
}

func TestLeaseFile(t *testing.T) {
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	l := &lease{terms: usual(), granted: start, gatewayMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, confirmed: true}
	l.mtu, l.ntp = 1400, []netip.Addr{netip.MustParseAddr("192.0.2.3")}
	l.routes = []route{{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParseAddr("192.0.2.7")}, {netip.MustParsePrefix("10.8.0.0/16"), netip.Addr{}}}
	b, err := encodeLease(l, own(), 0, clock{start.Add(time.Minute), "one", 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	forever := *l
	forever.duration = infinite
	f, err := encodeLease(&forever, own(), 0, clock{start, "one", 0})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		mac  net.HardwareAddr
		vlan int
		at   clock
		left time.Duration // 0: it is refused
	}{
		{"the same run", b, own(), 0, clock{start.Add(2 * time.Minute), "one", 11 * time.Minute}, 58 * time.Minute},
		{"the same run, the calendar jumped ahead", b, own(), 0, clock{start.AddDate(1, 0, 0), "one", 11 * time.Minute}, 58 * time.Minute},
		{"the same run, the calendar jumped back", b, own(), 0, clock{start.AddDate(-1, 0, 0), "one", 11 * time.Minute}, 58 * time.Minute},
		{"the same run, over", b, own(), 0, clock{start.Add(2 * time.Minute), "one", 69 * time.Minute}, 0},
		{"another run", b, own(), 0, clock{start.Add(20 * time.Minute), "two", time.Second}, 40 * time.Minute},
		{"another run, over", b, own(), 0, clock{start.Add(time.Hour), "two", time.Second}, 0},
		{"another run, without a clock", b, own(), 0, clock{start.AddDate(-1, 0, 0), "two", time.Second}, time.Hour},
		{"from the future of this run", b, own(), 0, clock{start, "one", time.Minute}, 0},
		{"for ever", f, own(), 0, clock{start.AddDate(9, 0, 0), "two", time.Second}, infinite},
		{"another VLAN", b, own(), 7, clock{start, "one", 11 * time.Minute}, 0},
		{"another interface", b, net.HardwareAddr{2, 0, 0, 0, 0, 6}, 0, clock{start, "one", 11 * time.Minute}, 0},
		{"nothing", nil, own(), 0, clock{start, "one", 0}, 0},
		{"cut off", b[:len(b)/2], own(), 0, clock{start, "one", 11 * time.Minute}, 0},
		{"another version", bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1), own(), 0, clock{start, "one", 11 * time.Minute}, 0},
		{"IPv6", bytes.Replace(b, []byte("192.0.2.50/24"), []byte("2001:db8::5/64"), 1), own(), 0, clock{start, "one", 11 * time.Minute}, 0},
		{"multicast", bytes.Replace(b, []byte("192.0.2.50/24"), []byte("224.0.0.50/24"), 1), own(), 0, clock{start, "one", 11 * time.Minute}, 0},
		{"too long", append(bytes.Clone(b), bytes.Repeat([]byte(" "), maxLeaseFile)...), own(), 0, clock{start, "one", 11 * time.Minute}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeLease(tt.data, tt.mac, tt.vlan, tt.at)
			if tt.left == 0 {
				if err == nil {
					t.Fatalf("got %+v, want an error", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.left == infinite {
				if _, ends := got.ends(); ends {
					t.Errorf("got a lease that ends, want none")
				}
				return
			}
			end, _ := got.ends()
			if left := end.Sub(tt.at.now); left != tt.left {
				t.Errorf("got %v left, want %v", left, tt.left)
			}
			if got.confirmed {
				t.Error("got a confirmed lease out of a file")
			}
			if !reflect.DeepEqual(got.terms, l.terms) || got.gatewayMAC.String() != l.gatewayMAC.String() {
				t.Errorf("got %+v, want %+v", got, l)
			}
		})
	}
	if _, err := decodeLease(b, own(), 0, clock{start.Add(2 * time.Hour), "two", 0}); !errors.Is(err, errLeaseOver) {
		t.Errorf("got %v, want errLeaseOver", err)
	}
}

// checkTerms holds what is to be used to what a kernel can take.
func checkTerms(t *testing.T, w terms) {
	t.Helper()
	if !w.address.IsValid() || checkGranted(w.address) != nil || !usable(w.server) {
		t.Errorf("got the address %v of %v", w.address, w.server)
	}
	if w.gateway.IsValid() && !goodGateway(w.gateway, w.address.Addr()) || len(w.dns) > maxDNS || slices.ContainsFunc(w.dns, func(a netip.Addr) bool { return !usable(a) }) {
		t.Errorf("got the gateway %v, name servers %v", w.gateway, w.dns)
	}
	if w.mtu != 0 && (w.mtu < minMTU || w.mtu > maxMTU) || w.duration < minDuration || w.t1 < minRenew || w.t2 <= w.t1 || w.t2 >= w.duration {
		t.Errorf("got MTU %d, lease %v, T1 %v, T2 %v", w.mtu, w.duration, w.t1, w.t2)
	}
	if len(w.routes) > maxRoutes {
		t.Errorf("got %d routes", len(w.routes))
	}
	for _, r := range w.routes {
		if r.to != r.to.Masked() || r.to.Bits() == 0 || r.to.Contains(w.address.Addr()) {
			t.Errorf("got the route %v", r)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(ack(f).ToBytes())
	f.Add(ack(f, raw(dhcpv4.OptionClasslessStaticRoute, 16, 10, 9, 192, 0, 2, 7, 0, 192, 0, 2, 8), raw(dhcpv4.OptionInterfaceMTU, 5, 220)).ToBytes())
	f.Add(ack(f, seconds(dhcpv4.OptionRenewTimeValue, 29), dhcpv4.WithLeaseTime(30)).ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		a, err := parseAnswer(m, own())
		if err == nil && a.kind != dhcpv4.MessageTypeNak {
			checkTerms(t, a.terms)
		}
	})
}

func FuzzLease(f *testing.F) {
	at := clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), "one", time.Hour}
	l := &lease{terms: usual(), granted: at.now}
	b, err := encodeLease(l, own(), 0, at)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"mac":"02:00:00:00:00:05","address":"192.0.2.5/24","server":"192.0.2.1","duration":4294967295,"granted":"0001-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeLease(b, own(), 0, at)
		if err != nil {
			return
		}
		checkTerms(t, l.terms)
		if end, ends := l.ends(); ends && (!end.After(at.now) || end.Sub(at.now) > l.duration) {
			t.Errorf("got a lease of %v that ends at %v", l.duration, end)
		}
	})
}

func TestARP(t *testing.T) {
	p := arpPacket{reply: true, senderMAC: own(), sender: netip.MustParseAddr("192.0.2.5"), targetMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, target: netip.MustParseAddr("192.0.2.1")}
	want := []byte{0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 5, 192, 0, 2, 5, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1}
	if got := p.encode(); !bytes.Equal(got, want) {
		t.Errorf("got % x\nwant % x", got, want)
	}
	if got, err := decodeARP(want); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("got %+v, %v; want %+v", got, err, p)
	}
}

func FuzzARP(f *testing.F) {
	f.Add(arpPacket{senderMAC: own(), sender: netip.IPv4Unspecified(), target: netip.MustParseAddr("192.0.2.1")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeARP(b)
		if err == nil && !bytes.Equal(p.encode(), b[:arpSize]) {
			t.Errorf("got % x of % x", p.encode(), b)
		}
	})
}
