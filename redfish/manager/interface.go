package manager

import (
	"net"
	"net/netip"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	interfacesType = "EthernetInterfaceCollection.EthernetInterfaceCollection"
	interfaceType  = "EthernetInterface.v1_12_4.EthernetInterface"
)

// ethernetInterface is the board's one interface. What the profiles ask for and
// is not known is null.
type ethernetInterface struct {
	resource.OData
	InterfaceEnabled    bool            `json:"InterfaceEnabled"`
	Status              resource.Status `json:"Status"`
	LinkStatus          string          `json:"LinkStatus"`
	MACAddress          *string         `json:"MACAddress"`
	PermanentMACAddress string          `json:"PermanentMACAddress,omitempty"`
	SpeedMbps           *int            `json:"SpeedMbps"`
	FullDuplex          *bool           `json:"FullDuplex,omitempty"`
	MTUSize             int             `json:"MTUSize,omitempty"`
	HostName            string          `json:"HostName"`
	FQDN                *string         `json:"FQDN"`
	NameServers         []string        `json:"NameServers"`
	StaticNameServers   []string        `json:"StaticNameServers"`

	IPv4Addresses       []ipv4Address `json:"IPv4Addresses"`
	IPv4StaticAddresses []ipv4Address `json:"IPv4StaticAddresses"`
	DHCPv4              dhcpv4        `json:"DHCPv4"`

	IPv6Enabled               bool          `json:"IPv6Enabled"`
	IPv6Addresses             []ipv6Address `json:"IPv6Addresses"`
	IPv6DefaultGateway        *string       `json:"IPv6DefaultGateway"`
	IPv6StaticAddresses       []ipv6Address `json:"IPv6StaticAddresses"`
	MaxIPv6StaticAddresses    int           `json:"MaxIPv6StaticAddresses"`
	IPv6StaticDefaultGateways []ipv6Gateway `json:"IPv6StaticDefaultGateways"`
	AutoConfig                autoConfig    `json:"StatelessAddressAutoConfig"`
	DHCPv6                    dhcpv6        `json:"DHCPv6"`

	VLAN  *vlan          `json:"VLAN,omitempty"`
	Links interfaceLinks `json:"Links"`
}

type interfaceLinks struct {
	Chassis *resource.Link `json:"Chassis,omitempty"`
}

type ipv4Address struct {
	Address       string  `json:"Address"`
	SubnetMask    string  `json:"SubnetMask"`
	AddressOrigin string  `json:"AddressOrigin,omitempty"`
	Gateway       *string `json:"Gateway"` // null: none
}

type ipv6Address struct {
	Address       string `json:"Address"`
	PrefixLength  int    `json:"PrefixLength"`
	AddressOrigin string `json:"AddressOrigin,omitempty"`
	AddressState  string `json:"AddressState,omitempty"`
}

type ipv6Gateway struct {
	Address string `json:"Address"`
}

type dhcpv4 struct {
	DHCPEnabled   bool `json:"DHCPEnabled"`
	UseDNSServers bool `json:"UseDNSServers"`
}

type dhcpv6 struct {
	OperatingMode string   `json:"OperatingMode"`
	Modes         []string `json:"OperatingMode@Redfish.AllowableValues"`
}

type autoConfig struct {
	IPv6AutoConfigEnabled bool `json:"IPv6AutoConfigEnabled"`
}

// vlan is the tag of the interface's frames; an Id of 0 is none's.
type vlan struct {
	VLANEnable   bool `json:"VLANEnable"`
	VLANID       int  `json:"VLANId"`
	VLANPriority int  `json:"VLANPriority"`
}

// interfaceID makes an Id of an interface's name: only what a URI has unescaped.
func interfaceID(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

func (m *Manager) getInterfaces(*resource.Request) *resource.Reply {
	var uris []string
	if name := m.opt.Network.State().Interface; name != "" {
		uris = append(uris, resource.EthernetInterfacesURI+"/"+interfaceID(name))
	}
	return resource.OK(resource.NewCollection(resource.EthernetInterfacesURI, "EthernetInterfaceCollection", "Ethernet Interface Collection", uris...))
}

func (m *Manager) getInterface(q *resource.Request) *resource.Reply {
	now, set := m.opt.Network.State(), m.opt.Network.Config()
	id := q.PathValue("id")
	if now.Interface == "" || id != interfaceID(now.Interface) {
		return resource.Fail(message.ResourceNotFound("EthernetInterface", id))
	}
	return resource.OK(m.newInterface(id, now, set))
}

func (m *Manager) newInterface(id string, now State, set Config) ethernetInterface {
	hostName, fqdn := splitName(set.HostName)
	r := ethernetInterface{
		OData:                     resource.NewOData(resource.EthernetInterfacesURI+"/"+id, interfaceType, "Manager Ethernet Interface"),
		InterfaceEnabled:          true,
		Status:                    resource.Enabled(),
		LinkStatus:                "LinkUp",
		MTUSize:                   now.MTU,
		FullDuplex:                now.FullDuplex,
		HostName:                  hostName,
		FQDN:                      fqdn,
		NameServers:               texts(now.DNS),
		StaticNameServers:         []string{},
		IPv4Addresses:             []ipv4Address{},
		IPv4StaticAddresses:       []ipv4Address{},
		IPv6Addresses:             []ipv6Address{},
		IPv6StaticAddresses:       []ipv6Address{},
		IPv6StaticDefaultGateways: []ipv6Gateway{},
		DHCPv6:                    dhcpv6{"Disabled", []string{"Disabled"}},
		Links:                     interfaceLinks{link(m.opt.Chassis, resource.ChassisURI)},
	}
	if !now.Carrier {
		r.LinkStatus, r.Status.Health = "NoLink", "Warning"
	}
	if len(now.MAC) > 0 {
		r.MACAddress = new(macText(now.MAC))
		r.PermanentMACAddress = *r.MACAddress // nothing here changes it
	}
	if now.SpeedMbps > 0 {
		r.SpeedMbps = new(now.SpeedMbps)
	}
	for _, a := range now.Addresses {
		if a.Prefix.Addr().Is4() {
			r.IPv4Addresses = append(r.IPv4Addresses, ipv4Address{a.Prefix.Addr().String(), mask(a.Prefix), origin(a.Method), nil})
		} else {
			r.IPv6Addresses = append(r.IPv6Addresses, ipv6Address{a.Prefix.Addr().String(), a.Prefix.Bits(), origin(a.Method), "Preferred"})
		}
	}
	r.IPv6Enabled = len(r.IPv6Addresses) > 0
	for _, g := range now.Gateways {
		switch {
		case g.Is4() && len(r.IPv4Addresses) > 0 && r.IPv4Addresses[0].Gateway == nil:
			r.IPv4Addresses[0].Gateway = new(g.String())
		case g.Is6() && r.IPv6DefaultGateway == nil:
			r.IPv6DefaultGateway = new(g.String())
		}
	}
	if now.Managed {
		r.configured(set)
	}
	return r
}

// configured fills in what is set rather than what is.
func (r *ethernetInterface) configured(c Config) {
	r.StaticNameServers = append(r.StaticNameServers, c.DNS...)
	r.DHCPv4 = dhcpv4{DHCPEnabled: c.IPv4.Method == DHCP, UseDNSServers: c.IPv4.Method == DHCP && len(c.DNS) == 0}
	if c.IPv4.Method == Static {
		r.IPv4StaticAddresses = append(r.IPv4StaticAddresses, ipv4Address{c.IPv4.Address.Addr().String(), mask(c.IPv4.Address), "", optional(c.IPv4.Gateway)})
	}
	r.IPv6Enabled = c.IPv6.Method != Off
	r.AutoConfig.IPv6AutoConfigEnabled = c.IPv6.Method == SLAAC
	r.MaxIPv6StaticAddresses = 1
	if c.IPv6.Method == Static {
		r.IPv6StaticAddresses = append(r.IPv6StaticAddresses, ipv6Address{Address: c.IPv6.Address.Addr().String(), PrefixLength: c.IPv6.Address.Bits()})
		if c.IPv6.Gateway.IsValid() {
			r.IPv6StaticDefaultGateways = append(r.IPv6StaticDefaultGateways, ipv6Gateway{c.IPv6.Gateway.String()})
		}
	}
	r.VLAN = &vlan{c.VLAN != 0, c.VLAN, c.VLANPriority}
}

// splitName tells a host name without its domain, and the whole where it has one.
func splitName(name string) (hostName string, fqdn *string) {
	hostName, domain, _ := strings.Cut(name, ".")
	if domain != "" {
		fqdn = &name
	}
	return hostName, fqdn
}

// origin is IPv4Address.AddressOrigin or IPv6Address's.
func origin(m Method) string {
	switch m {
	case DHCP:
		return "DHCP"
	case SLAAC:
		return "SLAAC"
	}
	return "Static"
}

func mask(p netip.Prefix) string { return net.IP(net.CIDRMask(p.Bits(), 32)).String() }

// macText is in the form of the schema's pattern, which most tools write in capitals.
func macText(mac net.HardwareAddr) string { return strings.ToUpper(mac.String()) }

func optional(a netip.Addr) *string {
	if !a.IsValid() {
		return nil
	}
	return new(a.String())
}

// texts is never nil.
func texts(all []netip.Addr) []string {
	list := []string{}
	for _, a := range all {
		list = append(list, a.String())
	}
	return list
}
