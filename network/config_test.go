package network

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/internal/settings"
)

func TestValidate(t *testing.T) {
	static4 := func(address, gateway string) func(*Config) {
		return func(c *Config) { c.IPv4 = IPv4Config{Method: MethodStatic, Address: address, Gateway: gateway} }
	}
	static6 := func(address, gateway string) func(*Config) {
		return func(c *Config) { c.IPv6 = IPv6Config{Method: MethodStatic, Address: address, Gateway: gateway} }
	}
	dns := func(list ...string) func(*Config) { return func(c *Config) { c.DNS = list } }
	for _, tt := range []struct {
		name    string
		change  func(*Config)
		pointer string // "" for a good one
		problem string // part of the words
	}{
		{"the defaults", func(*Config) {}, "", ""},
		{"an interface", func(c *Config) { c.Interface = "enx0123456789ab" }, "", ""},
		{"a long name", func(c *Config) { c.Interface = "enx0123456789abc" }, "/interface", "at most 15 characters"},
		{"a path", func(c *Config) { c.Interface = "../eth0" }, "/interface", "cannot be the name"},
		{"dots", func(c *Config) { c.Interface = ".." }, "/interface", "cannot be the name"},
		{"loopback", func(c *Config) { c.Interface = "lo" }, "/interface", "loopback"},

		{"no method", func(c *Config) { c.IPv4.Method = "" }, "/ipv4/method", `"" is not dhcp, static or off`},
		{"IPv6's method", func(c *Config) { c.IPv4.Method = MethodSLAAC }, "/ipv4/method", `"slaac" is not dhcp, static or off`},
		{"IPv4's method", func(c *Config) { c.IPv6.Method = MethodDHCP }, "/ipv6/method", `"dhcp" is not slaac, static or off`},
		{"one off", func(c *Config) { c.IPv6.Method = MethodOff }, "", ""},
		{"both off", func(c *Config) { c.IPv4.Method, c.IPv6.Method = MethodOff, MethodOff }, "/ipv6/method", "nobody could reach"},
		{"an address beside DHCP", func(c *Config) { c.IPv4.Address = "192.0.2.5/24" }, "/ipv4/address", "needs the method static, not dhcp"},
		{"a gateway beside SLAAC", func(c *Config) { c.IPv6.Gateway = "fe80::1" }, "/ipv6/gateway", "needs the method static, not slaac"},

		{"static", static4("192.0.2.5/24", "192.0.2.1"), "", ""},
		{"without gateway", static4("192.0.2.5/24", ""), "", ""},
		{"a net of two", static4("192.0.2.4/31", "192.0.2.5"), "", ""},
		{"a gateway on the link", static4("192.0.2.5/32", "198.51.100.1"), "", ""},
		{"no address", static4("", ""), "/ipv4/address", "needs an address, as 192.0.2.5/24"},
		{"no prefix length", static4("192.0.2.5", ""), "/ipv4/address", "lacks its prefix length"},
		{"a netmask", static4("192.0.2.5/255.255.255.0", ""), "/ipv4/address", "not an address with its prefix length"},
		{"words", static4("here", ""), "/ipv4/address", "not an address with its prefix length"},
		{"IPv6 for IPv4", static4("2001:db8::5/64", ""), "/ipv4/address", "is an IPv6 address, not an IPv4 one"},
		{"the network address", static4("192.0.2.0/24", ""), "/ipv4/address", "the network or broadcast address of 192.0.2.0/24"},
		{"the broadcast address", static4("192.0.2.127/25", ""), "/ipv4/address", "the network or broadcast address of 192.0.2.0/25"},
		{"the whole world", static4("192.0.2.5/0", ""), "/ipv4/address", "prefix length 0"},
		{"multicast", static4("224.0.0.5/24", ""), "/ipv4/address", "multicast"},
		{"loopback address", static4("127.0.0.2/8", ""), "/ipv4/address", "loopback"},
		{"class E", static4("250.0.0.2/8", ""), "/ipv4/address", "not an address that a machine can have"},
		{"this network", static4("0.1.2.3/24", ""), "/ipv4/address", "not an address that a machine can have"},
		{"a gateway outside", static4("192.0.2.5/24", "192.0.3.1"), "/ipv4/gateway", "192.0.3.1 is outside the net 192.0.2.0/24"},
		{"itself", static4("192.0.2.5/24", "192.0.2.5"), "/ipv4/gateway", "the board's own address"},
		{"the network as gateway", static4("192.0.2.5/24", "192.0.2.0"), "/ipv4/gateway", "network or broadcast address"},
		{"a gateway with a length", static4("192.0.2.5/24", "192.0.2.1/24"), "/ipv4/gateway", "is not an IPv4 address"},
		{"an IPv6 gateway", static4("192.0.2.5/24", "fe80::1"), "/ipv4/gateway", "is an IPv6 address"},
		{"no gateway to a single address", static4("192.0.2.5/32", "127.0.0.1"), "/ipv4/gateway", "outside"},

		{"static IPv6", static6("2001:db8::5/64", "2001:db8::1"), "", ""},
		{"a link-local gateway", static6("2001:db8::5/64", "fe80::1"), "", ""},
		{"the router's address", static6("2001:db8::/64", ""), "/ipv6/address", "anycast address of the routers"},
		{"IPv4 for IPv6", static6("192.0.2.5/24", ""), "/ipv6/address", "is an IPv4 address, not an IPv6 one"},
		{"IPv4 in IPv6", static6("::ffff:192.0.2.5/120", ""), "/ipv6/address", "not an IPv6 one"},
		{"link-local", static6("fe80::5/64", ""), "/ipv6/address", "link-local"},
		{"IPv6 multicast", static6("ff02::5/64", ""), "/ipv6/address", "multicast"},
		{"an IPv6 gateway outside", static6("2001:db8::5/64", "2001:db8:1::1"), "/ipv6/gateway", "outside the net 2001:db8::/64"},
		{"a zone", static6("2001:db8::5/64", "fe80::1%eth0"), "/ipv6/gateway", "is not an IPv6 address"},

		{"name servers", dns("192.0.2.1", "2001:db8::1", "192.0.2.2"), "", ""},
		{"four", dns("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"), "/dns", "4 name servers are more than 3"},
		{"a name", dns("192.0.2.1", "dns.example"), "/dns/1", "is not an IP address"},
		{"a multicast server", dns("224.0.0.251"), "/dns/0", "cannot be the address of a name server"},

		{"a VLAN", func(c *Config) { c.VLAN, c.VLANPriority = 4094, 7 }, "", ""},
		{"a reserved VLAN", func(c *Config) { c.VLAN = 4095 }, "/vlan", "4095 is not between 0 (none) and 4094"},
		{"a negative VLAN", func(c *Config) { c.VLAN = -1 }, "/vlan", "-1 is not between"},
		{"too high a priority", func(c *Config) { c.VLAN, c.VLANPriority = 5, 8 }, "/vlan_priority", "8 is not between 0 and 7"},
		{"no trial", func(c *Config) { c.Trial = 0 }, "", ""},
		{"a short trial", func(c *Config) { c.Trial = 9 * time.Second }, "/trial", "9s is neither 0s (no trial) nor between 10s and 1h0m0s"},
		{"a long trial", func(c *Config) { c.Trial = time.Hour + 1 }, "/trial", "is neither"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig()
			tt.change(&c)
			err := c.Validate()
			if tt.pointer == "" {
				if err != nil {
					t.Errorf("got %v, want nil", err)
				}
				return
			}
			f, ok := errors.AsType[*settings.FieldError](err)
			if !ok || f.Pointer != tt.pointer || !strings.Contains(f.Err.Error(), tt.problem) {
				t.Errorf("got %v, want %s: …%s…", err, tt.pointer, tt.problem)
			}
		})
	}
}
