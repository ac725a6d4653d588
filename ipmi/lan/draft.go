package lan

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/nitrino/nitrino/ipmi/command"
)

// A draft is a configuration in the parts that it is written in. It may not be
// whole: a static source whose address is still to come.
type draft struct {
	source  Method
	address netip.Addr
	bits    int // of the mask; 0: none yet
	gateway netip.Addr
	// given: the address was written or is set, and not just the one that the
	// interface has now.
	given bool
	// wrote: the address, the mask or the gateway was written while the source
	// was none that uses it, and waits for the source to become static.
	wrote bool

	ipv6           Family
	vlan, priority int
	vlanID         uint16 // written together with "off"

	over Config // what was set when it was begun
}

// newDraft begins with what is set. Where the addresses come by themselves, it
// has those of now: they are read back, and who goes on to a static address
// keeps the mask and the gateway that he does not write.
func newDraft(c Config, s State) draft {
	d := draft{source: c.IPv4.Method, ipv6: c.IPv6, vlan: c.VLAN, priority: c.VLANPriority, over: c}
	switch c.IPv4.Method {
	case Static:
		d.address, d.bits, d.gateway, d.given = c.IPv4.Address.Addr(), c.IPv4.Address.Bits(), c.IPv4.Gateway, true
	case DHCP:
		if s.IPv4.IsValid() {
			d.address, d.bits, d.gateway = s.IPv4.Addr(), s.IPv4.Bits(), s.IPv4Gateway
		}
	}
	return d
}

// config is the draft as a Config; false: it is not whole yet. It is not where
// the address or the mask is missing, or the gateway is in another net than the
// address: then one of the two is still to be written (a gateway of 0.0.0.0
// says that there is none).
func (d *draft) config() (Config, bool) {
	c := Config{IPv4: Family{Method: d.source}, IPv6: Family{Method: d.ipv6.Method}, VLAN: d.vlan, VLANPriority: d.priority}
	if d.source == Static {
		if !d.given || !d.address.IsValid() || d.bits == 0 {
			return Config{}, false
		}
		c.IPv4.Address, c.IPv4.Gateway = netip.PrefixFrom(d.address, d.bits), d.gateway
		if d.gateway.IsValid() && !c.IPv4.Address.Contains(d.gateway) && !c.IPv4.Address.IsSingleIP() {
			return Config{}, false
		}
	}
	if d.ipv6.Method == Static {
		c.IPv6 = d.ipv6
	}
	return c, true
}

// waits says whether the draft has more than its Config: what was written
// before the source became static.
func (d *draft) waits() bool {
	return d.source != Static && d.wrote || d.ipv6.Method != Static && d.ipv6.Gateway.IsValid()
}

// An edit writes a parameter of min to max bytes into a draft.
type edit struct {
	min, max int
	run      func(d *draft, data []byte) command.Code
}

// editOf is how a parameter changes the network; false: it does not.
func editOf(param byte) (edit, bool) {
	switch param {
	case paramAddress:
		return edit{4, 4, editAddress}, true
	case paramSource:
		return edit{1, 1, editSource}, true
	case paramMask:
		return edit{4, 4, editMask}, true
	case paramGateway:
		return edit{4, 4, editGateway}, true
	case paramVLAN:
		return edit{2, 2, editVLAN}, true
	case paramPriority:
		return edit{1, 1, editPriority}, true
	case param6Enables:
		return edit{1, 1, editEnables}, true
	case param6Static:
		return edit{19, 20, editStatic6}, true
	case param6Router1:
		return edit{16, 16, editRouter6}, true
	}
	return edit{}, false
}

// unicast says whether a machine can have the address (RFC 6890).
func unicast(a netip.Addr) bool {
	return !a.IsMulticast() && !a.IsLoopback() && !a.IsUnspecified() && !(a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240))
}

// address4 reads an IPv4 address; 0.0.0.0 is none, and the zero Addr.
func address4(data []byte) (netip.Addr, bool) {
	a := netip.AddrFrom4([4]byte(data))
	if a.IsUnspecified() {
		return netip.Addr{}, true
	}
	return a, unicast(a)
}

func editAddress(d *draft, data []byte) command.Code {
	a, ok := address4(data)
	if !ok {
		return command.InvalidField
	}
	d.address, d.given, d.wrote = a, a.IsValid(), true
	return command.OK
}

func editGateway(d *draft, data []byte) command.Code {
	a, ok := address4(data)
	if !ok {
		return command.InvalidField
	}
	d.gateway, d.wrote = a, true
	return command.OK
}

func editMask(d *draft, data []byte) command.Code {
	m := binary.BigEndian.Uint32(data)
	n := bits.LeadingZeros32(^m)
	if m<<n != 0 {
		return command.InvalidField // a mask is ones and then zeros
	}
	d.bits, d.wrote = n, true
	return command.OK
}

// The address sources (parameter 4).
const (
	sourceUnspecified = 0
	sourceStatic      = 1
	sourceDHCP        = 2
)

func sourceOf(m Method) byte {
	switch m {
	case Static:
		return sourceStatic
	case DHCP:
		return sourceDHCP
	}
	return sourceUnspecified
}

func editSource(d *draft, data []byte) command.Code {
	switch s := data[0]; {
	case s == sourceOf(d.source):
	case s == sourceStatic:
		d.source = Static
	case s == sourceDHCP:
		d.source, d.given, d.wrote = DHCP, false, false
	default:
		return command.InvalidField // the host's firmware sets no address here
	}
	return command.OK
}

const (
	vlanEnable = 0x8000
	vlanMask   = 0x0FFF
)

func editVLAN(d *draft, data []byte) command.Code {
	v := binary.LittleEndian.Uint16(data)
	id := v & vlanMask
	switch {
	case v&^(vlanEnable|vlanMask) != 0, id == vlanMask, v == vlanEnable:
		return command.InvalidField
	case v&vlanEnable != 0:
		d.vlan, d.vlanID = int(id), 0
	default:
		d.vlan, d.vlanID = 0, id
	}
	return command.OK
}

func editPriority(d *draft, data []byte) command.Code {
	if data[0] > 7 {
		return command.InvalidField
	}
	d.priority = int(data[0])
	return command.OK
}

// The addressing enables (parameter 51).
const (
	only4 = 0
	only6 = 1
	both  = 2
)

func enables(four, six Method) byte {
	switch {
	case six == Off:
		return only4
	case four == Off:
		return only6
	}
	return both
}

// editEnables switches a family on that is off, to addresses that come by
// themselves.
func editEnables(d *draft, data []byte) command.Code {
	if data[0] > both {
		return command.InvalidField
	}
	switch {
	case data[0] == only6:
		d.source = Off
	case d.source == Off:
		d.source = DHCP
	}
	switch {
	case data[0] == only4:
		d.ipv6 = Family{Method: Off}
	case d.ipv6.Method == Off:
		d.ipv6.Method = SLAAC
	}
	return command.OK
}

const (
	enable6     = 0x80 // of a static address
	prefix6Last = 18   // where its prefix length is, behind selector, enable and address
)

// editStatic6 is the one static address: selector, enable and source, address,
// prefix length, and a status that is not written.
func editStatic6(d *draft, data []byte) command.Code {
	if data[0] != 0 {
		return command.OutOfRange
	}
	if data[1]&^enable6 != 0 || data[prefix6Last] > 128 {
		return command.InvalidField
	}
	p := netip.PrefixFrom(netip.AddrFrom16([16]byte(data[2:prefix6Last])), int(data[prefix6Last]))
	switch {
	case data[1]&enable6 == 0:
		if d.ipv6.Method == Static {
			d.ipv6 = Family{Method: SLAAC}
		}
	case !unicast(p.Addr()) || p.Addr().Is4In6():
		return command.InvalidField
	default:
		d.ipv6.Method, d.ipv6.Address = Static, p
	}
	return command.OK
}

func editRouter6(d *draft, data []byte) command.Code {
	a := netip.AddrFrom16([16]byte(data))
	switch {
	case a.IsUnspecified():
		d.ipv6.Gateway = netip.Addr{}
	case !unicast(a) || a.Is4In6():
		return command.InvalidField
	default:
		d.ipv6.Gateway = a
	}
	return command.OK
}
