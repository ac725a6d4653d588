package manager

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

const eth0 = resource.EthernetInterfacesURI + "/eth0"

func TestInterface(t *testing.T) {
	r := newRig(t, nil)
	if got := fmt.Sprint(r.get(resource.EthernetInterfacesURI).At("Members")); got != "[map[@odata.id:"+eth0+"]]" {
		t.Errorf("members: %s", got)
	}
	a := r.get(eth0)
	for _, c := range []struct{ name, want string }{
		{"MACAddress", "DC:A6:32:01:02:03"},
		{"PermanentMACAddress", "DC:A6:32:01:02:03"},
		{"LinkStatus", "LinkUp"},
		{"SpeedMbps", "1000"},
		{"FullDuplex", "true"},
		{"MTUSize", "1500"},
		{"InterfaceEnabled", "true"},
		{"HostName", "bmc"},
		{"FQDN", "bmc.example.com"},
		{"NameServers", "[192.0.2.53]"},
		{"StaticNameServers", "[]"},
		{"IPv4Addresses", "[map[Address:192.0.2.5 AddressOrigin:DHCP Gateway:192.0.2.1 SubnetMask:255.255.255.0]]"},
		{"IPv4StaticAddresses", "[]"},
		{"DHCPv4", "map[DHCPEnabled:true UseDNSServers:true]"},
		{"IPv6Addresses", "[map[Address:2001:db8::5 AddressOrigin:SLAAC AddressState:Preferred PrefixLength:64]]"},
		{"IPv6DefaultGateway", "fe80::1"},
		{"IPv6StaticAddresses", "[]"},
		{"IPv6StaticDefaultGateways", "[]"},
		{"StatelessAddressAutoConfig", "map[IPv6AutoConfigEnabled:true]"},
		{"VLAN", "map[VLANEnable:false VLANId:0 VLANPriority:0]"},
	} {
		if got := fmt.Sprint(a.At(c.name)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.EthernetInterfacesURI + "/eth1", User: "reader"}, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.EthernetInterfacesURI + "/eth1", User: "admin", Body: `{"HostName":"x"}`}, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "PATCH", URI: eth0, User: "oper", Body: `{"HostName":"x"}`}, 403, "InsufficientPrivilege")
}

// A board without a cable, a link's address or an interface at all.
func TestInterfaceBare(t *testing.T) {
	r := newRig(t, nil)
	r.state = State{Interface: "usb0:1", Managed: true}
	r.config = Config{HostName: "bmc", IPv4: Family{Method: Static, Address: netip.MustParsePrefix("192.0.2.5/24")},
		IPv6: Family{Method: Static, Address: netip.MustParsePrefix("2001:db8::5/64"), Gateway: netip.MustParseAddr("fe80::2")}, VLAN: 7, DNS: []string{"192.0.2.53"}}
	a := r.get(resource.EthernetInterfacesURI + "/usb0_1")
	for _, c := range []struct{ name, want string }{
		{"MACAddress", "<nil>"},
		{"SpeedMbps", "<nil>"},
		{"FQDN", "<nil>"},
		{"LinkStatus", "NoLink"},
		{"IPv4Addresses", "[]"},
		{"IPv4StaticAddresses", "[map[Address:192.0.2.5 Gateway:<nil> SubnetMask:255.255.255.0]]"},
		{"IPv6StaticAddresses", "[map[Address:2001:db8::5 PrefixLength:64]]"},
		{"IPv6StaticDefaultGateways", "[map[Address:fe80::2]]"},
		{"StaticNameServers", "[192.0.2.53]"},
		{"NameServers", "[]"},
		{"DHCPv4", "map[DHCPEnabled:false UseDNSServers:false]"},
		{"VLAN", "map[VLANEnable:true VLANId:7 VLANPriority:0]"},
	} {
		if got := fmt.Sprint(a.At(c.name)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	r.state = State{}
	if got := fmt.Sprint(r.get(resource.EthernetInterfacesURI).At("Members")); got != "[]" {
		t.Errorf("members without an interface: %s", got)
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.EthernetInterfacesURI + "/", User: "reader"}, 200)
}

// The machine's own network shows what is, and takes no more than a name.
func TestInterfaceUnmanaged(t *testing.T) {
	r := newRig(t, nil)
	state, err := MachineState(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	r.state = state
	r.config = Config{HostName: "bmc"}
	uri := resource.EthernetInterfacesURI + "/" + interfaceID(state.Interface)
	a := r.get(uri)
	if got := fmt.Sprint(a.At("IPv4Addresses")); !strings.HasPrefix(got, "[map[Address:127.0.0.1 AddressOrigin:Static Gateway:<nil> SubnetMask:255.0.0.0]") {
		t.Errorf("IPv4Addresses: %s", got)
	}
	r.patch(t, uri, `{"DHCPv4":{"DHCPEnabled":true}}`, 400, []string{"PropertyNotWritable"}, []string{"#/DHCPv4"})
	r.patch(t, uri, `{"VLAN":{"VLANEnable":true,"VLANId":5}}`, 400, []string{"PropertyUnknown"}, []string{"#/VLAN"})
	r.trial = 0
	r.patch(t, uri, `{"HostName":"sim"}`, 200, nil, nil)
	if r.config.HostName != "sim" {
		t.Errorf("host name: %q", r.config.HostName)
	}
	if _, err := MachineState(netip.MustParseAddr("203.0.113.77")); err == nil {
		t.Error("an address that no interface has: no error")
	}
	if s, err := MachineState(netip.IPv4Unspecified()); err != nil || s.Interface == "" {
		t.Errorf("any address: %+v, %v", s, err)
	}
}

// text writes a Config in short.
func text(c Config) string {
	family := func(f Family) string {
		s := string(f.Method)
		if f.Address.IsValid() {
			s += " " + f.Address.String()
		}
		if f.Gateway.IsValid() {
			s += " via " + f.Gateway.String()
		}
		return s
	}
	s := fmt.Sprintf("%s; %s; %s", c.HostName, family(c.IPv4), family(c.IPv6))
	if c.VLAN != 0 || c.VLANPriority != 0 {
		s += fmt.Sprintf("; vlan %d/%d", c.VLAN, c.VLANPriority)
	}
	if len(c.DNS) > 0 {
		s += "; dns " + strings.Join(c.DNS, " ")
	}
	return s
}

func automatic() Config {
	return Config{HostName: "bmc.example.com", IPv4: Family{Method: DHCP}, IPv6: Family{Method: SLAAC}}
}

func static() Config {
	return Config{HostName: "bmc", VLAN: 7, DNS: []string{"192.0.2.53", "192.0.2.54"},
		IPv4: Family{Static, netip.MustParsePrefix("192.0.2.5/24"), netip.MustParseAddr("192.0.2.1")},
		IPv6: Family{Static, netip.MustParsePrefix("2001:db8::5/64"), netip.MustParseAddr("2001:db8::1")}}
}

func TestPatchInterface(t *testing.T) {
	r := newRig(t, nil)
	const trial = message.OwnRegistry + "NetworkTrial"
	const six = "bmc; static 192.0.2.5/24 via 192.0.2.1; "
	const four = "; static 2001:db8::5/64 via 2001:db8::1; vlan 7/0; dns 192.0.2.53 192.0.2.54"
	for _, c := range []struct {
		from    Config
		body    string
		keys    []string // of problems; where one is bad, all is refused
		related []string
		want    string // "": as before
	}{
		// Addresses of IPv4.
		{automatic(), `{"IPv4StaticAddresses":[{"Address":"192.0.2.9","SubnetMask":"255.255.255.0","Gateway":"192.0.2.1"}]}`, nil, nil, "bmc.example.com; static 192.0.2.9/24 via 192.0.2.1; slaac"},
		{automatic(), `{"DHCPv4":{"DHCPEnabled":false},"IPv4StaticAddresses":[{"Address":"192.0.2.9","SubnetMask":"255.255.255.0","Gateway":null,"AddressOrigin":"Static"}]}`, nil, nil, "bmc.example.com; static 192.0.2.9/24; slaac"},
		{automatic(), `{"DHCPv4":{"DHCPEnabled":true},"IPv4StaticAddresses":[{"Address":"192.0.2.9","SubnetMask":"255.255.255.0"}]}`, []string{"PropertyValueConflict"}, []string{"#/IPv4StaticAddresses"}, ""},
		{automatic(), `{"DHCPv4":{"DHCPEnabled":false}}`, []string{"PropertyMissing"}, []string{"#/IPv4StaticAddresses"}, ""},
		{automatic(), `{"DHCPv4":{"DHCPEnabled":false},"IPv4StaticAddresses":[]}`, nil, nil, "bmc.example.com; off; slaac"},
		{automatic(), `{"IPv4StaticAddresses":[null,{}]}`, nil, nil, ""},
		{automatic(), `{"IPv4StaticAddresses":[{"SubnetMask":"255.255.255.0"}]}`, []string{"PropertyMissing"}, []string{"#/IPv4StaticAddresses/0/Address"}, ""},
		{automatic(), `{"IPv4StaticAddresses":[null,{"Address":"192.0.2.9"}]}`, []string{"PropertyMissing"}, []string{"#/IPv4StaticAddresses/1/SubnetMask"}, ""},
		{automatic(), `{"IPv4StaticAddresses":[{"Address":"2001:db8::1","SubnetMask":"255.0.255.0","Gateway":5,"Bogus":1}]}`,
			[]string{"PropertyValueFormatError", "PropertyValueFormatError", "PropertyValueTypeError", "PropertyUnknown"},
			[]string{"#/IPv4StaticAddresses/0/Address", "#/IPv4StaticAddresses/0/SubnetMask", "#/IPv4StaticAddresses/0/Gateway", "#/IPv4StaticAddresses/0/Bogus"}, ""},
		{automatic(), `{"IPv4StaticAddresses":["192.0.2.9"]}`, []string{"PropertyValueTypeError"}, []string{"#/IPv4StaticAddresses/0"}, ""},
		{automatic(), `{"IPv4StaticAddresses":null}`, []string{"PropertyValueTypeError"}, []string{"#/IPv4StaticAddresses"}, ""},
		{automatic(), `{"IPv4StaticAddresses":[{"Address":"192.0.2.9","SubnetMask":"255.255.255.0"},{"Address":"192.0.2.10","SubnetMask":"255.255.255.0"}]}`, []string{"ArraySizeTooLong"}, []string{"#/IPv4StaticAddresses"}, ""},
		{static(), `{"IPv4StaticAddresses":[{"Gateway":"192.0.2.2"}]}`, nil, nil, "bmc; static 192.0.2.5/24 via 192.0.2.2" + four},
		{static(), `{"IPv4StaticAddresses":[{"SubnetMask":"255.255.0.0"}]}`, nil, nil, "bmc; static 192.0.2.5/16 via 192.0.2.1" + four},
		{static(), `{"IPv4StaticAddresses":[{}]}`, nil, nil, ""},
		{static(), `{"IPv4StaticAddresses":[null]}`, nil, nil, "bmc; off" + four},
		{static(), `{"DHCPv4":{"DHCPEnabled":true}}`, nil, nil, "bmc; dhcp" + four},
		{static(), `{"DHCPv4":{"DHCPEnabled":false}}`, nil, nil, ""},
		{static(), `{"DHCPv4":{"DHCPEnabled":null}}`, []string{"PropertyValueTypeError"}, []string{"#/DHCPv4/DHCPEnabled"}, ""},
		// Of IPv6.
		{automatic(), `{"IPv6StaticAddresses":[{"Address":"2001:db8::9","PrefixLength":64}],"IPv6StaticDefaultGateways":[{"Address":"fe80::9"}]}`, nil, nil, "bmc.example.com; dhcp; static 2001:db8::9/64 via fe80::9"},
		{automatic(), `{"IPv6StaticDefaultGateways":[{"Address":"fe80::9"}]}`, []string{"PropertyValueConflict"}, []string{"#/IPv6StaticDefaultGateways"}, ""},
		{automatic(), `{"IPv6StaticDefaultGateways":[]}`, nil, nil, ""},
		{automatic(), `{"IPv6Enabled":false}`, nil, nil, "bmc.example.com; dhcp; off"},
		{automatic(), `{"IPv6Enabled":false,"StatelessAddressAutoConfig":{"IPv6AutoConfigEnabled":true}}`, []string{"PropertyValueConflict"}, []string{"#/StatelessAddressAutoConfig/IPv6AutoConfigEnabled"}, ""},
		{automatic(), `{"IPv6Enabled":false,"IPv6StaticAddresses":[{"Address":"2001:db8::9","PrefixLength":64}]}`, []string{"PropertyValueConflict"}, []string{"#/IPv6StaticAddresses"}, ""},
		{automatic(), `{"StatelessAddressAutoConfig":{"IPv6AutoConfigEnabled":false}}`, []string{"PropertyMissing"}, []string{"#/IPv6StaticAddresses"}, ""},
		{automatic(), `{"IPv6StaticAddresses":[{"Address":"192.0.2.1","PrefixLength":129}]}`, []string{"PropertyValueFormatError", "PropertyValueOutOfRange"}, []string{"#/IPv6StaticAddresses/0/Address", "#/IPv6StaticAddresses/0/PrefixLength"}, ""},
		{automatic(), `{"IPv6StaticAddresses":[{"Address":"fe80::1%eth0"}]}`, []string{"PropertyValueFormatError"}, []string{"#/IPv6StaticAddresses/0/Address"}, ""},
		{automatic(), `{"IPv6StaticAddresses":[{"Address":"2001:db8::9"}]}`, []string{"PropertyMissing"}, []string{"#/IPv6StaticAddresses/0/PrefixLength"}, ""},
		{static(), `{"StatelessAddressAutoConfig":{"IPv6AutoConfigEnabled":true}}`, nil, nil, six + "slaac; vlan 7/0; dns 192.0.2.53 192.0.2.54"},
		{static(), `{"IPv6StaticDefaultGateways":[null]}`, nil, nil, six + "static 2001:db8::5/64; vlan 7/0; dns 192.0.2.53 192.0.2.54"},
		{static(), `{"IPv6StaticAddresses":[]}`, nil, nil, six + "off; vlan 7/0; dns 192.0.2.53 192.0.2.54"},
		{static(), `{"IPv6StaticAddresses":[],"IPv6Enabled":true}`, []string{"PropertyValueConflict"}, []string{"#/IPv6Enabled"}, ""},
		{Config{HostName: "bmc", IPv4: Family{Method: DHCP}, IPv6: Family{Method: Off}}, `{"IPv6Enabled":true}`, nil, nil, "bmc; dhcp; slaac"},
		{Config{HostName: "bmc", IPv4: Family{Method: DHCP}, IPv6: Family{Method: Off}}, `{"IPv6Enabled":true,"StatelessAddressAutoConfig":{"IPv6AutoConfigEnabled":false}}`, []string{"PropertyMissing"}, []string{"#/IPv6StaticAddresses"}, ""},
		{automatic(), `{"DHCPv6":{"OperatingMode":"Disabled"}}`, nil, nil, ""},
		{automatic(), `{"DHCPv6":{"OperatingMode":"Stateful"}}`, []string{"PropertyValueNotInList"}, []string{"#/DHCPv6/OperatingMode"}, ""},
		// VLANs.
		{automatic(), `{"VLAN":{"VLANEnable":true,"VLANId":5,"VLANPriority":3}}`, nil, nil, "bmc.example.com; dhcp; slaac; vlan 5/3"},
		{automatic(), `{"VLAN":{"VLANEnable":true}}`, []string{"PropertyMissing"}, []string{"#/VLAN/VLANId"}, ""},
		{automatic(), `{"VLAN":{"VLANId":5}}`, []string{"PropertyValueConflict"}, []string{"#/VLAN/VLANId"}, ""},
		{automatic(), `{"VLAN":{"VLANEnable":true,"VLANId":0}}`, []string{"PropertyValueConflict"}, []string{"#/VLAN/VLANId"}, ""},
		{automatic(), `{"VLAN":{"VLANId":4095}}`, []string{"PropertyValueOutOfRange"}, []string{"#/VLAN/VLANId"}, ""},
		{static(), `{"VLAN":{"VLANEnable":false,"VLANId":7}}`, nil, nil, strings.Replace(text(static()), "; vlan 7/0", "", 1)},
		{static(), `{"VLAN":{"VLANId":9}}`, nil, nil, strings.Replace(text(static()), "vlan 7", "vlan 9", 1)},
		// Name servers and names.
		{static(), `{"StaticNameServers":[null,"192.0.2.55"]}`, nil, nil, strings.Replace(text(static()), "192.0.2.53 192.0.2.54", "192.0.2.55", 1)},
		{static(), `{"StaticNameServers":[{},"192.0.2.55"]}`, nil, nil, strings.Replace(text(static()), "192.0.2.54", "192.0.2.55", 1)},
		{static(), `{"StaticNameServers":[]}`, nil, nil, strings.Replace(text(static()), "; dns 192.0.2.53 192.0.2.54", "", 1)},
		{static(), `{"StaticNameServers":[1]}`, []string{"PropertyValueTypeError"}, []string{"#/StaticNameServers/0"}, ""},
		{automatic(), `{"HostName":"node"}`, nil, nil, "node.example.com; dhcp; slaac"},
		{automatic(), `{"HostName":"node.example.net"}`, []string{"PropertyValueFormatError"}, []string{"#/HostName"}, ""},
		{automatic(), `{"FQDN":"node.example.net","HostName":"other"}`, nil, nil, "node.example.net; dhcp; slaac"},
		{automatic(), `{"FQDN":null}`, nil, nil, "bmc; dhcp; slaac"},
		{automatic(), `{"FQDN":""}`, []string{"PropertyValueFormatError"}, []string{"#/FQDN"}, ""},
		{automatic(), `{"FQDN":null,"HostName":"node"}`, nil, nil, "node; dhcp; slaac"},
		// What is not there or not to be written keeps nothing else from it.
		{automatic(), `{"MACAddress":"00:00:00:00:00:01","Bogus":1,"HostName":"node"}`, []string{"PropertyNotWritable", "PropertyUnknown"}, []string{"#/MACAddress", "#/Bogus"}, "node.example.com; dhcp; slaac"},
		{automatic(), `{"DHCPv4":{"UseDNSServers":false},"HostName":"node"}`, []string{"PropertyNotWritable"}, []string{"#/DHCPv4/UseDNSServers"}, "node.example.com; dhcp; slaac"},
		{automatic(), `{"MACAddress":"00:00:00:00:00:01"}`, []string{"PropertyNotWritable"}, []string{"#/MACAddress"}, ""},
		// One bad value keeps all from it.
		{automatic(), `{"HostName":"node","StaticNameServers":[1]}`, []string{"PropertyValueTypeError"}, []string{"#/StaticNameServers/0"}, ""},
		{automatic(), `{"HostName":"bmc"}`, nil, nil, ""},
	} {
		r.set(c.from)
		status, want, sets, keys := 200, c.want, 1, c.keys
		if c.want == "" {
			want, sets = text(c.from), 0
			if c.keys != nil {
				status = 400
			}
		} else {
			keys = append(append([]string{}, keys...), trial)
		}
		r.patch(t, eth0, c.body, status, keys, c.related)
		if got := text(r.config); got != want || r.sets != sets {
			t.Errorf("%s: got %s after %d changes, want %s after %d", c.body, got, r.sets, want, sets)
		}
	}
}

// What the settings refuse is said of what was sent.
func TestPatchInterfaceRefused(t *testing.T) {
	r := newRig(t, nil)
	const body = `{"HostName":"node","VLAN":{"VLANId":9}}`
	for _, c := range []struct {
		pointer, body, related string
	}{
		{"/hostname", body, "#/HostName"},
		{"/hostname", `{"FQDN":"x.y"}`, "#/FQDN"},
		{"/network/ipv4/address", body, "#/IPv4StaticAddresses/0/Address"},
		{"/network/ipv4/gateway", body, "#/IPv4StaticAddresses/0/Gateway"},
		{"/network/ipv4/method", body, "#/DHCPv4/DHCPEnabled"},
		{"/network/ipv6/address", body, "#/IPv6StaticAddresses/0/Address"},
		{"/network/ipv6/gateway", body, "#/IPv6StaticDefaultGateways/0/Address"},
		{"/network/ipv6/method", body, "#/IPv6Enabled"},
		{"/network/vlan", body, "#/VLAN/VLANId"},
		{"/network/vlan_priority", body, "#/VLAN/VLANPriority"},
		{"/network/dns", body, "#/StaticNameServers"},
		{"/network/dns/1", body, "#/StaticNameServers/1"},
	} {
		r.set(static())
		r.fail(fmt.Errorf("set: %w", &settings.Error{Pointer: c.pointer, Problem: "it cannot be so"}))
		a := r.patch(t, eth0, c.body, 400, []string{"PropertyValueIncorrect"}, []string{c.related})
		if !strings.Contains(string(a.Body), `"Resolution":"it cannot be so"`) {
			t.Errorf("%s: no reason in %s", c.pointer, a.Body)
		}
	}
	r.fail(errors.New("disk"))
	r.patch(t, eth0, body, 500, []string{"InternalError"}, nil)
	// A change that is made is no error, even if it takes the interface along.
	r.fail(nil)
	r.goes = true
	r.patch(t, eth0, body, 204, nil, nil)
}

// FuzzPatchInterface: whatever is sent, what comes out is a network that has what
// its methods need, and no more.
func FuzzPatchInterface(f *testing.F) {
	for _, s := range []string{
		`{"IPv4StaticAddresses":[{"Address":"192.0.2.9","SubnetMask":"255.255.255.0","Gateway":"192.0.2.1"}],"DHCPv4":{"DHCPEnabled":false}}`,
		`{"IPv6StaticAddresses":[{"Address":"2001:db8::9","PrefixLength":64},null],"IPv6StaticDefaultGateways":[{}],"IPv6Enabled":true}`,
		`{"VLAN":{"VLANEnable":true,"VLANId":5},"StaticNameServers":[{},null,"x"],"HostName":"a","FQDN":null}`,
		`{"StatelessAddressAutoConfig":{"IPv6AutoConfigEnabled":false}}`,
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	b := newBoard()
	m := New(b.options())
	f.Fuzz(func(t *testing.T, data []byte, fromStatic bool) {
		body, problem := resource.Decode(data, "")
		if problem != nil {
			return
		}
		from := automatic()
		if fromStatic {
			from = static()
		}
		var d draft
		for _, p := range d.properties(true, m.newInterface("eth0", b.state, from), from) {
			for _, member := range body {
				if p.Name != member.Name {
					continue
				}
				if _, problems := p.Set(member.Value); len(problems) > 0 {
					return
				}
			}
		}
		c, problems := d.settle(from)
		if problems != nil {
			for _, p := range problems {
				if p.Status != 400 || len(p.RelatedProperties) == 0 {
					t.Errorf("%+v", p)
				}
			}
			return
		}
		for _, f := range []Family{c.IPv4, c.IPv6} {
			if (f.Method == Static) != f.Address.IsValid() || f.Method != Static && f.Gateway.IsValid() {
				t.Errorf("%s: %+v", data, f)
			}
		}
		if c.VLAN < 0 || c.VLAN > 4094 || c.VLANPriority < 0 || c.VLANPriority > 7 {
			t.Errorf("%s: VLAN %d/%d", data, c.VLAN, c.VLANPriority)
		}
	})
}
