package manager

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// The names of what PATCH of the interface takes.
const (
	nameHostName = "HostName"
	nameFQDN     = "FQDN"
	nameDNS      = "StaticNameServers"
	nameDHCPv4   = "DHCPv4"
	nameDHCP     = "DHCPEnabled"
	nameStatic4  = "IPv4StaticAddresses"
	nameIPv6     = "IPv6Enabled"
	nameAuto     = "StatelessAddressAutoConfig"
	nameSLAAC    = "IPv6AutoConfigEnabled"
	nameStatic6  = "IPv6StaticAddresses"
	nameGateway6 = "IPv6StaticDefaultGateways"
	nameVLAN     = "VLAN"
	nameVLANOn   = "VLANEnable"
	nameVLANID   = "VLANId"
)

// A draft is what a PATCH of the interface asks for: nil is not sent.
type draft struct {
	hostName       *string
	fqdn           *string // "": no domain
	dns            *[]string
	v4, v6         familyDraft
	gateways       *[]netip.Addr // of IPv6
	vlanOn         *bool
	vlanID, vlanPr *int64
}

// A familyDraft is what is sent of IPv4 or IPv6.
type familyDraft struct {
	on        *bool
	automatic *bool
	static    *[]Family // of Method Static; one at most is taken
}

// patchInterface changes the network as one: half of a change could cut the board
// off. It is on trial as one made in any other way, and the answer says so.
func (m *Manager) patchInterface(q *resource.Request) *resource.Reply {
	now, set := m.opt.Network.State(), m.opt.Network.Config()
	var d draft
	var notes []message.Message
	shown := m.newInterface(q.PathValue("id"), now, set)
	commit := func() (problems []message.Message) {
		notes, problems = m.setNetwork(d, set, q.Origin())
		return problems
	}
	reply := resource.PatchWhole(q, m.getInterface, commit, d.properties(now.Managed, shown, set)...)
	if reply.Resource != nil {
		reply.Problems = append(reply.Problems, notes...)
	}
	return reply
}

// properties note in the draft what is sent.
func (d *draft) properties(managed bool, shown ethernetInterface, set Config) []resource.Property {
	all := []resource.Property{
		resource.String(nameHostName, func(s string) []message.Message {
			d.hostName = &s
			if strings.Contains(s, ".") { // DSP0268: without any domain
				return []message.Message{message.PropertyValueFormatError(s, nameHostName)}
			}
			return nil
		}),
		resource.Nullable(resource.String(nameFQDN, func(s string) []message.Message {
			d.fqdn = &s
			if s == "" {
				return []message.Message{message.PropertyValueFormatError(s, nameFQDN)}
			}
			return nil
		}), func() []message.Message { d.fqdn = new(""); return nil }),
	}
	if !managed {
		return all
	}
	flag := func(name string, to **bool) resource.Property {
		return resource.Bool(name, func(on bool) []message.Message { *to = &on; return nil })
	}
	return append(all,
		resource.Strings(nameDNS, set.DNS, func(list []string) []message.Message { d.dns = &list; return nil }),
		resource.Group(nameDHCPv4, shown.DHCPv4, flag(nameDHCP, &d.v4.automatic)),
		array(nameStatic4, staticOf(set.IPv4), &d.v4.static, readStatic4),
		flag(nameIPv6, &d.v6.on),
		resource.Group(nameAuto, shown.AutoConfig, flag(nameSLAAC, &d.v6.automatic)),
		array(nameStatic6, staticOf(set.IPv6), &d.v6.static, readStatic6),
		array(nameGateway6, gatewaysOf(set.IPv6), &d.gateways, readGateway6),
		resource.Group("DHCPv6", shown.DHCPv6, resource.Enum("OperatingMode", shown.DHCPv6.Modes, func(string) []message.Message { return nil })),
		resource.Group(nameVLAN, shown.VLAN, flag(nameVLANOn, &d.vlanOn),
			// What IEEE 802.1Q section 9.6 has room for; 0 is what is shown of none.
			resource.Integer(nameVLANID, 0, 4094, func(n int64) []message.Message { d.vlanID = &n; return nil }),
			resource.Integer("VLANPriority", 0, 7, func(n int64) []message.Message { d.vlanPr = &n; return nil })),
	)
}

// array is a property that is an array of objects, one of which is used at most.
func array[T any](name string, was []T, to **[]T, one func(was *T, value any) (T, []message.Message)) resource.Property {
	return resource.Property{Name: name, Set: func(value any) (bool, []message.Message) {
		list, problems := resource.Elements(name, value, was, one)
		if problems != nil {
			return false, problems
		}
		if len(list) > 1 {
			return false, []message.Message{message.ArraySizeTooLong(name, 1).About(message.Pointer(name))}
		}
		*to = &list
		return true, nil
	}}
}

func staticOf(f Family) []Family {
	if f.Method != Static {
		return nil
	}
	return []Family{f}
}

func gatewaysOf(f Family) []netip.Addr {
	if f.Method != Static || !f.Gateway.IsValid() {
		return nil
	}
	return []netip.Addr{f.Gateway}
}

// address reads an address of IPv4 or IPv6, without a zone.
func address(value any, name string, v6 bool) (netip.Addr, []message.Message) {
	text, isString := value.(string)
	if !isString {
		return netip.Addr{}, []message.Message{message.PropertyValueTypeError(value, name).About(message.Pointer(name))}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is6() != v6 || a.Is4In6() || a.Zone() != "" {
		return netip.Addr{}, []message.Message{message.PropertyValueFormatError(text, name).About(message.Pointer(name))}
	}
	return a, nil
}

// object reads the members of an array's element. What was read from here and is
// sent back, as AddressOrigin, asks for nothing.
func object(value any, name string, set map[string]func(any) []message.Message) (problems []message.Message) {
	o, isObject := value.(resource.Object)
	if !isObject {
		return []message.Message{message.PropertyValueTypeError(value, name)}
	}
	for _, m := range o {
		read, known := set[m.Name]
		switch {
		case known:
			problems = append(problems, read(m.Value)...)
		case m.Name == "AddressOrigin" || m.Name == "AddressState" || resource.Ignored(m.Name):
		default:
			problems = append(problems, message.PropertyUnknown(m.Name).About(message.Pointer(m.Name)))
		}
	}
	return problems
}

// missing lists what an address is not one without.
func missing(a netip.Addr, bits int, length string) (problems []message.Message) {
	if !a.IsValid() {
		problems = append(problems, message.PropertyMissing("Address").About(message.Pointer("Address")))
	}
	if bits < 0 {
		problems = append(problems, message.PropertyMissing(length).About(message.Pointer(length)))
	}
	return problems
}

// begin is what an element had before: -1 bits are none.
func begin(was *Family) (a netip.Addr, bits int, gateway netip.Addr) {
	if was == nil {
		return netip.Addr{}, -1, netip.Addr{}
	}
	return was.Address.Addr(), was.Address.Bits(), was.Gateway
}

// readStatic4 reads an IPv4Address. A net may have no gateway: null.
func readStatic4(was *Family, value any) (Family, []message.Message) {
	a, bits, gateway := begin(was)
	problems := object(value, nameStatic4, map[string]func(any) []message.Message{
		"Address": func(v any) (bad []message.Message) { a, bad = address(v, "Address", false); return bad },
		"SubnetMask": func(v any) []message.Message {
			m, bad := address(v, "SubnetMask", false)
			if bad != nil {
				return bad
			}
			ones, size := net.IPMask(m.AsSlice()).Size()
			if size == 0 { // not ones and then zeros
				return []message.Message{message.PropertyValueFormatError(v, "SubnetMask").About(message.Pointer("SubnetMask"))}
			}
			bits = ones
			return nil
		},
		"Gateway": func(v any) (bad []message.Message) {
			if v == nil {
				gateway = netip.Addr{}
				return nil
			}
			gateway, bad = address(v, "Gateway", false)
			return bad
		},
	})
	if problems == nil {
		problems = missing(a, bits, "SubnetMask")
	}
	if problems != nil {
		return Family{}, problems
	}
	return Family{Static, netip.PrefixFrom(a, bits), gateway}, nil
}

// readStatic6 reads an IPv6StaticAddress.
func readStatic6(was *Family, value any) (Family, []message.Message) {
	a, bits, gateway := begin(was)
	const length = "PrefixLength"
	problems := object(value, nameStatic6, map[string]func(any) []message.Message{
		"Address": func(v any) (bad []message.Message) { a, bad = address(v, "Address", true); return bad },
		length: func(v any) []message.Message {
			_, bad := resource.Integer(length, 0, 128, func(n int64) []message.Message { bits = int(n); return nil }).Set(v)
			return bad
		},
	})
	if problems == nil {
		problems = missing(a, bits, length)
	}
	if problems != nil {
		return Family{}, problems
	}
	return Family{Static, netip.PrefixFrom(a, bits), gateway}, nil
}

// readGateway6 reads an IPv6GatewayStaticAddress.
func readGateway6(was *netip.Addr, value any) (a netip.Addr, problems []message.Message) {
	if was != nil {
		a = *was
	}
	problems = object(value, nameGateway6, map[string]func(any) []message.Message{
		"Address": func(v any) (bad []message.Message) { a, bad = address(v, "Address", true); return bad },
	})
	if problems == nil {
		problems = missing(a, 0, "")
	}
	return a, problems
}

func conflict(name, other string, path ...string) []message.Message {
	return []message.Message{message.PropertyValueConflict(name, other).About(message.Pointer(path...))}
}

// settle tells how the network is to be set.
func (d *draft) settle(set Config) (Config, []message.Message) {
	want := set
	if d.dns != nil {
		want.DNS = *d.dns
	}
	host, domain, _ := strings.Cut(set.HostName, ".")
	switch {
	case d.fqdn != nil && *d.fqdn == "": // null
		if d.hostName != nil {
			host = *d.hostName
		}
		want.HostName = host
	case d.fqdn != nil: // HostName does not count then (DSP0268, EthernetInterface.HostName)
		want.HostName = *d.fqdn
	case d.hostName != nil && domain != "":
		want.HostName = *d.hostName + "." + domain
	case d.hostName != nil:
		want.HostName = *d.hostName
	}
	var problems, more []message.Message
	want.IPv4, problems = d.v4.settle(set.IPv4, DHCP, nameStatic4, nameDHCPv4, nameDHCP)
	want.IPv6, more = d.v6.settle(set.IPv6, SLAAC, nameStatic6, nameAuto, nameSLAAC)
	problems = append(problems, more...)
	switch {
	case d.gateways == nil:
	case want.IPv6.Method == Static:
		want.IPv6.Gateway = netip.Addr{}
		for _, g := range *d.gateways {
			want.IPv6.Gateway = g
		}
	case len(*d.gateways) > 0: // routers name themselves
		problems = append(problems, conflict(nameGateway6, nameStatic6, nameGateway6)...)
	}
	more = d.settleVLAN(&want)
	return want, append(problems, more...)
}

// settle tells how a family is to be set. The board has one address of each: a
// static one ends what comes by itself, and without either the family is off.
func (f *familyDraft) settle(set Family, automatic Method, static, group, name string) (Family, []message.Message) {
	given := f.static != nil && len(*f.static) > 0
	auto := f.automatic != nil && *f.automatic
	switch {
	case f.on != nil && !*f.on:
		if given {
			return set, conflict(static, nameIPv6, static)
		}
		if auto {
			return set, conflict(name, nameIPv6, group, name)
		}
		return Family{Method: Off}, nil
	case given && auto:
		return set, conflict(static, name, static)
	case given:
		return (*f.static)[0], nil
	case auto:
		return Family{Method: automatic}, nil
	case f.static != nil && (f.automatic != nil || set.Method == Static):
		if f.on != nil { // it is to be on
			return set, conflict(nameIPv6, static, nameIPv6)
		}
		return Family{Method: Off}, nil
	case f.automatic != nil && set.Method == automatic:
		// Half of a change; who wants the family off sends an empty array.
		return set, []message.Message{message.PropertyMissing(static).About(message.Pointer(static))}
	case f.on != nil && set.Method == Off && f.automatic != nil:
		return set, []message.Message{message.PropertyMissing(static).About(message.Pointer(static))}
	case f.on != nil && set.Method == Off:
		return Family{Method: automatic}, nil
	}
	return set, nil
}

// settleVLAN: the board keeps no number of a VLAN that is off.
func (d *draft) settleVLAN(c *Config) []message.Message {
	if d.vlanPr != nil {
		c.VLANPriority = int(*d.vlanPr)
	}
	on, id := c.VLAN != 0, c.VLAN
	if d.vlanOn != nil {
		on = *d.vlanOn
	}
	if d.vlanID != nil {
		id = int(*d.vlanID)
	}
	switch {
	case !on && id != c.VLAN: // a client that sends back what it read means nothing by it
		return conflict(nameVLANID, nameVLANOn, nameVLAN, nameVLANID)
	case !on:
		c.VLAN = 0
	case d.vlanID != nil && id == 0:
		return conflict(nameVLANID, nameVLANOn, nameVLAN, nameVLANID)
	case id == 0:
		return []message.Message{message.PropertyMissing(nameVLANID).About(message.Pointer(nameVLAN, nameVLANID))}
	default:
		c.VLAN = id
	}
	return nil
}

// setNetwork writes what a draft asks for.
func (m *Manager) setNetwork(d draft, set Config, from host.Origin) (notes, problems []message.Message) {
	want, problems := d.settle(set)
	if problems != nil || want.Equal(set) {
		return nil, problems
	}
	trial, err := m.opt.Network.Set(want, from)
	if wrong, is := errors.AsType[*settings.Error](err); is {
		return nil, []message.Message{refused(d, want, wrong)}
	}
	if err != nil {
		m.log.Error("network not changed", "error", err)
		return nil, []message.Message{message.InternalError()}
	}
	if trial > 0 {
		// The kind of the event that is in the log now; see package message.
		note := message.Of(host.Event{Kind: "network.trial", Severity: host.Warning,
			Message: fmt.Sprintf("The changed network is on trial: unless somebody logs in over it within %v, it is changed back.", trial)})
		note.Resolution = "Log in to this service at the manager's address as it is now, by a new connection."
		notes = append(notes, note)
	}
	return notes, nil
}

// refused puts what the settings find wrong into the words of what was sent.
func refused(d draft, want Config, wrong *settings.Error) message.Message {
	var name string
	var value any
	path := []string{}
	switch pointer := strings.TrimPrefix(wrong.Pointer, "/network"); pointer {
	case "/hostname":
		name, value = nameHostName, want.HostName
		if d.fqdn != nil {
			name = nameFQDN
		}
	case "/ipv4/address":
		name, value, path = "Address", want.IPv4.Address.String(), []string{nameStatic4, "0"}
	case "/ipv4/gateway":
		name, value, path = "Gateway", want.IPv4.Gateway.String(), []string{nameStatic4, "0"}
	case "/ipv4/method":
		name, value, path = nameDHCP, false, []string{nameDHCPv4}
	case "/ipv6/address":
		name, value, path = "Address", want.IPv6.Address.String(), []string{nameStatic6, "0"}
	case "/ipv6/gateway":
		name, value, path = "Address", want.IPv6.Gateway.String(), []string{nameGateway6, "0"}
	case "/ipv6/method":
		name, value = nameIPv6, false
	case "/vlan":
		name, value, path = nameVLANID, want.VLAN, []string{nameVLAN}
	case "/vlan_priority":
		name, value, path = "VLANPriority", want.VLANPriority, []string{nameVLAN}
	default: // "/dns" or one of them
		name, value = nameDNS, strings.Join(want.DNS, " ")
		if _, index, one := strings.Cut(pointer, "/dns/"); one {
			p := message.PropertyValueIncorrect(name, value).About(message.Pointer(name, index))
			p.Resolution = wrong.Problem
			return p
		}
	}
	p := message.PropertyValueIncorrect(name, value).About(message.Pointer(append(path, name)...))
	p.Resolution = wrong.Problem
	return p
}
