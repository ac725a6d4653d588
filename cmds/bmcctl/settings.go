package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
)

func settingCommands() []command {
	return []command{
		{name: "settings network show", help: "show the BMC's network interfaces", setup: plain(showNetwork)},
		{name: "settings network set", help: "change an interface of the BMC", setup: setNetwork},
		{name: "settings services", help: "show which services the BMC offers, and their ports", setup: plain(listServices)},
		{name: "settings enable", args: "SERVICE", help: "switch a service on", values: map[string][]string{"SERVICE": services()}, setup: switchService(true)},
		{name: "settings disable", args: "SERVICE", help: "switch a service off", values: map[string][]string{"SERVICE": services()}, setup: switchService(false)},
		{name: "settings hostname", args: "[NAME]", help: "show or set the BMC's host name", setup: plain(hostname)},
		{name: "settings time", args: "[now|TIME]", help: "show or set the BMC's clock; TIME as in 2026-01-31T12:00:00Z", setup: plain(setTime)},
		{name: "settings ntp", args: "[SERVER...]", help: "show or set the time servers", setup: ntp},
	}
}

// services are the protocols of ManagerNetworkProtocol that one may switch.
func services() []string {
	return []string{"http", "https", "ssh", "telnet", "ipmi", "snmp", "ssdp", "kvmip", "rfb", "rdp", "virtualmedia"}
}

// An ethernet is an EthernetInterface.
type ethernet struct {
	URI                                string `json:"@odata.id"`
	ID                                 string `json:"Id"`
	MACAddress, LinkStatus, HostName   string
	InterfaceEnabled                   *bool
	SpeedMbps                          *int
	DHCPv4                             struct{ DHCPEnabled *bool }
	IPv4Addresses, IPv4StaticAddresses []ipv4
	IPv6Addresses, IPv6StaticAddresses []ipv6
	IPv6DefaultGateway                 string
	IPv6Enabled                        *bool
	NameServers, StaticNameServers     []string
}

type ipv4 struct {
	Address       string
	SubnetMask    string
	Gateway       string `json:",omitempty"`
	AddressOrigin string `json:",omitempty"`
}

type ipv6 struct {
	Address       string
	PrefixLength  int
	AddressOrigin string `json:",omitempty"`
}

func (p *program) interfaces(c *client) ([]ethernet, error) {
	m, err := p.manager(c)
	if err != nil {
		return nil, err
	}
	all, err := members[ethernet](c, m.EthernetInterfaces.URI)
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	return all, nil
}

// An interfaceRow is one of settings network show.
type interfaceRow struct {
	Interface   string   `json:"interface"`
	MAC         string   `json:"mac,omitempty"`
	Link        string   `json:"link,omitempty"`
	DHCP        *bool    `json:"dhcp,omitempty"`
	Addresses   []string `json:"addresses"` // ADDRESS/PREFIX
	Gateways    []string `json:"gateways"`
	NameServers []string `json:"name_servers"`
	HostName    string   `json:"host_name,omitempty"`
}

func (e ethernet) row() interfaceRow {
	r := interfaceRow{e.ID, e.MACAddress, e.LinkStatus, e.DHCPv4.DHCPEnabled, []string{}, []string{}, []string{}, e.HostName}
	for _, a := range e.IPv4Addresses {
		r.Addresses = append(r.Addresses, a.Address+maskBits(a.SubnetMask))
		r.Gateways = appendOnce(r.Gateways, a.Gateway)
	}
	for _, a := range e.IPv6Addresses {
		r.Addresses = append(r.Addresses, fmt.Sprintf("%s/%d", a.Address, a.PrefixLength))
	}
	r.Gateways = appendOnce(r.Gateways, e.IPv6DefaultGateway)
	for _, s := range e.NameServers {
		r.NameServers = appendOnce(r.NameServers, s)
	}
	return r
}

// appendOnce adds what says something and is not there; services fill unused places
// with empty and unspecified addresses.
func appendOnce(all []string, one string) []string {
	if one == "" || one == "0.0.0.0" || one == "::" || slices.Contains(all, one) {
		return all
	}
	return append(all, one)
}

// maskBits writes a netmask as a prefix's length; "" where it is none.
func maskBits(mask string) string {
	a, err := netip.ParseAddr(mask)
	if err != nil || !a.Is4() {
		return ""
	}
	n := 0
	for _, b := range a.As4() {
		for ; b&0x80 != 0; b <<= 1 {
			n++
		}
	}
	return fmt.Sprintf("/%d", n)
}

func showNetwork(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	some, err := p.interfaces(c)
	if err != nil {
		return err
	}
	all := []interfaceRow{}
	for _, e := range some {
		all = append(all, e.row())
	}
	return p.show(all, func(w io.Writer) {
		for i, r := range all {
			if i > 0 {
				fmt.Fprintln(w)
			}
			field(w, "Interface", r.Interface)
			field(w, "  MAC address", r.MAC)
			field(w, "  Link", r.Link)
			if r.DHCP != nil {
				field(w, "  DHCP", onOff(*r.DHCP))
			}
			field(w, "  Addresses", strings.Join(r.Addresses, " "))
			field(w, "  Gateways", strings.Join(r.Gateways, " "))
			field(w, "  Name servers", strings.Join(r.NameServers, " "))
			field(w, "  Host name", r.HostName)
		}
	})
}

// An ethernetPatch is the body that changes an interface; what is nil stays.
type ethernetPatch struct {
	DHCPv4     *dhcp    `json:",omitempty"`
	IPv4       []ipv4   `json:"IPv4StaticAddresses,omitempty"`
	IPv6       []ipv6   `json:"IPv6StaticAddresses,omitempty"`
	NameServer []string `json:"StaticNameServers,omitempty"`
	IPv6On     *bool    `json:"IPv6Enabled,omitempty"`
}

type dhcp struct{ DHCPEnabled bool }

func setNetwork(f *flag.FlagSet) call {
	id := f.String("if", "", "`interface` to change, where the BMC has several")
	byDHCP := f.Bool("dhcp", false, "get the IPv4 address by DHCP")
	address := f.String("address", "", "fixed `ADDRESS/PREFIX`, IPv4 or IPv6")
	gateway := f.String("gateway", "", "IPv4 `gateway` of the fixed address")
	dns := f.String("dns", "", "name `servers`, parted by commas")
	v6 := f.String("ipv6", "", "`on` or off")
	return func(ctx context.Context, p *program, _ []string) error {
		body, err := networkBody(*byDHCP, *address, *gateway, *dns, *v6)
		if err != nil {
			return err
		}
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		all, err := p.interfaces(c)
		if err != nil {
			return err
		}
		var ids []string
		var one *ethernet
		for i, e := range all {
			ids = append(ids, e.ID)
			if e.ID == *id || *id == "" && len(all) == 1 {
				one = &all[i]
			}
		}
		if one == nil {
			return usagef("want -if with one of %s", strings.Join(ids, ", "))
		}
		if err := c.patch(one.URI, body); err != nil {
			return err
		}
		return p.done("Interface %s is changed", one.ID)
	}
}

// networkBody makes the change of the flags.
func networkBody(byDHCP bool, address, gateway, dns, v6 string) (body ethernetPatch, err error) {
	switch {
	case byDHCP && address != "" && !strings.Contains(address, ":"):
		return body, usagef("-dhcp and a fixed IPv4 address together: want one of them")
	case gateway != "" && (address == "" || strings.Contains(address, ":")):
		return body, usagef("-gateway is a fixed IPv4 address's: want -address too")
	case !byDHCP && address == "" && dns == "" && v6 == "":
		return body, usagef("nothing to change: want -dhcp, -address, -dns or -ipv6")
	case v6 != "" && v6 != "on" && v6 != "off":
		return body, usagef("-ipv6 %s: want on or off", v6)
	}
	if byDHCP {
		body.DHCPv4 = &dhcp{true}
	}
	if address != "" {
		prefix, err := netip.ParsePrefix(address)
		if err != nil {
			return body, usagef("-address %s: want ADDRESS/PREFIX, as in 192.0.2.10/24", address)
		}
		if prefix.Addr().Is4() {
			body.DHCPv4 = &dhcp{false}
			mask := ^uint32(0) << (32 - prefix.Bits())
			text := netip.AddrFrom4([4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}).String()
			body.IPv4 = []ipv4{{Address: prefix.Addr().String(), SubnetMask: text, Gateway: gateway}}
		} else {
			body.IPv6 = []ipv6{{Address: prefix.Addr().String(), PrefixLength: prefix.Bits()}}
		}
	}
	if gateway != "" {
		if a, err := netip.ParseAddr(gateway); err != nil || !a.Is4() {
			return body, usagef("-gateway %s: want an IPv4 address", gateway)
		}
	}
	if dns != "" {
		for one := range strings.SplitSeq(dns, ",") {
			if _, err := netip.ParseAddr(one); err != nil {
				return body, usagef("-dns %s: want addresses, parted by commas", dns)
			}
			body.NameServer = append(body.NameServer, one)
		}
	}
	if v6 != "" {
		body.IPv6On = new(v6 == "on")
	}
	return body, nil
}

// A protocol is one of ManagerNetworkProtocol's.
type protocol struct {
	Name    string `json:"service"`
	Enabled bool   `json:"enabled"`
	Port    *int   `json:"port,omitempty"`
}

// A netProtocol is the part of ManagerNetworkProtocol that has no fixed form.
type netProtocol struct {
	uri       string
	HostName  string
	NTP       *ntpState
	protocols []protocol
}

type ntpState struct {
	ProtocolEnabled        *bool
	NTPServers             []string
	NetworkSuppliedServers []string
}

// protocols reads what the BMC offers, under the names that the service uses.
func (p *program) protocols(c *client) (*netProtocol, error) {
	m, err := p.manager(c)
	if err != nil {
		return nil, err
	}
	var raw map[string]json.RawMessage
	if _, err := c.read(m.NetworkProtocol.URI, &raw); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	n := &netProtocol{uri: m.NetworkProtocol.URI}
	for name, data := range raw {
		var one struct {
			ProtocolEnabled *bool
			Port            *int
		}
		switch name {
		case "HostName":
			err = json.Unmarshal(data, &n.HostName)
		case "NTP":
			err = json.Unmarshal(data, &n.NTP)
		default:
			// Whatever has no such property is none that can be switched.
			if json.Unmarshal(data, &one) == nil && one.ProtocolEnabled != nil {
				n.protocols = append(n.protocols, protocol{name, *one.ProtocolEnabled, one.Port})
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: what the service sent cannot be read: %w", name, err)
		}
	}
	slices.SortFunc(n.protocols, func(a, b protocol) int { return strings.Compare(a.Name, b.Name) })
	return n, nil
}

func listServices(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	n, err := p.protocols(c)
	if err != nil {
		return err
	}
	all := append([]protocol{}, n.protocols...)
	return p.show(all, func(w io.Writer) {
		row(w, "SERVICE", "STATE", "PORT")
		for _, s := range all {
			port := ""
			if s.Port != nil {
				port = fmt.Sprint(*s.Port)
			}
			row(w, s.Name, onOff(s.Enabled), port)
		}
	})
}

func switchService(on bool) func(*flag.FlagSet) call {
	return func(f *flag.FlagSet) call {
		yes := on
		if !on {
			f.BoolVar(&yes, "yes", false, "do not ask whether to switch off HTTPS, over which bmcctl itself works")
		}
		return func(ctx context.Context, p *program, args []string) error {
			c, err := p.connect(ctx)
			if err != nil {
				return err
			}
			n, err := p.protocols(c)
			if err != nil {
				return err
			}
			var names []string
			for _, s := range n.protocols {
				names = append(names, s.Name)
				if !strings.EqualFold(s.Name, args[0]) {
					continue
				}
				if s.Name == "HTTPS" {
					if err := p.sure(yes, "Without HTTPS bmcctl cannot reach "+c.profile.Host+" any more. Switch it off?"); err != nil {
						return err
					}
				}
				type state struct{ ProtocolEnabled bool }
				if err := c.patch(n.uri, map[string]state{s.Name: {on}}); err != nil {
					return err
				}
				return p.done("%s is %s", s.Name, onOff(on))
			}
			return usagef("there is no service %q, only %s", args[0], strings.Join(names, ", "))
		}
	}
}

// hostname is an interface's property in newer services, and NetworkProtocol's
// only to read there.
func hostname(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		n, err := p.protocols(c)
		if err != nil {
			return err
		}
		return p.show(struct {
			HostName string `json:"host_name"`
		}{n.HostName}, func(w io.Writer) { fmt.Fprintln(w, clean(n.HostName)) })
	}
	all, err := p.interfaces(c)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("host name: %w", errUnsupported)
	}
	if err := c.patch(all[0].URI, struct{ HostName string }{args[0]}); err != nil {
		return err
	}
	return p.done("The BMC's host name is %s", args[0])
}

func setTime(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	m, err := p.manager(c)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return p.show(struct {
			Time string `json:"time"`
		}{m.DateTime}, func(w io.Writer) { fmt.Fprintln(w, clean(m.DateTime)) })
	}
	now := time.Now()
	if args[0] != "now" {
		if now, err = time.Parse(time.RFC3339, args[0]); err != nil {
			return usagef("time %s: want now, or as in 2026-01-31T12:00:00Z", args[0])
		}
	}
	text := now.UTC().Format("2006-01-02T15:04:05+00:00")
	if err := c.patch(m.URI, struct{ DateTime string }{text}); err != nil {
		return err
	}
	return p.done("The BMC's clock is set to %s", text)
}

func ntp(f *flag.FlagSet) call {
	off := f.Bool("off", false, "ask no time servers")
	supplied := f.Bool("supplied", false, "ask the servers that the network names")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		n, err := p.protocols(c)
		if err != nil {
			return err
		}
		if n.NTP == nil {
			return fmt.Errorf("time servers: %w", errUnsupported)
		}
		if len(args) == 0 && !*off && !*supplied {
			return p.showNTP(*n.NTP)
		}
		if *off && (*supplied || len(args) > 0) || *supplied && len(args) > 0 {
			return usagef("want servers, -supplied or -off")
		}
		type state struct {
			ProtocolEnabled bool
			NTPServers      *[]string `json:",omitempty"`
		}
		body := struct{ NTP state }{state{ProtocolEnabled: !*off}}
		if !*off {
			servers := append([]string{}, args...)
			body.NTP.NTPServers = &servers
		}
		if err := c.patch(n.uri, body); err != nil {
			return err
		}
		return p.done("Time servers: %s", strings.Join(append([]string{onOff(!*off)}, args...), " "))
	}
}

func (p *program) showNTP(s ntpState) error {
	r := struct {
		Enabled  bool     `json:"enabled"`
		Servers  []string `json:"servers"`
		Supplied []string `json:"supplied_by_network"`
	}{s.ProtocolEnabled != nil && *s.ProtocolEnabled, []string{}, []string{}}
	for _, one := range s.NTPServers {
		r.Servers = appendOnce(r.Servers, one)
	}
	for _, one := range s.NetworkSuppliedServers {
		r.Supplied = appendOnce(r.Supplied, one)
	}
	return p.show(r, func(w io.Writer) {
		field(w, "Time servers", onOff(r.Enabled))
		field(w, "Own", strings.Join(r.Servers, " "))
		field(w, "By the network", strings.Join(r.Supplied, " "))
	})
}
