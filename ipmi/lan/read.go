package lan

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"github.com/nitrino/nitrino/ipmi/command"
)

const (
	// revision of the parameters (section 23.2): 1, and compatible back to 1.
	revision = 0x11
	// revisionOnly, in the channel's byte, asks for nothing but it.
	revisionOnly = 0x80
	// maxSuites is how many cipher suites parameter 23 has room for.
	maxSuites = 16
	// dynamic6 is how many IPv6 addresses that came by themselves are told.
	dynamic6 = 4
)

// get is section 23.2.
func (l *LAN) get(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	c.Put(revision)
	if c.Data[0]&revisionOnly != 0 {
		return command.OK
	}
	return l.read(c, c.Data[1], c.Data[2])
}

// read puts a parameter's data (table 23-4). What only can be read says what the
// kernel does: it answers ARP and announces each address that it takes, and
// sends IPv4 with a time to live of 64 and "don't fragment".
func (l *LAN) read(c *command.Call, param, set byte) command.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch param {
	case paramInProgress:
		c.Put(bit(l.locked(c.Now), 1))
	case paramAuthSupport:
		c.Put(0) // no v1.5 authentication: sessions are RMCP+
	case paramAuthEnables:
		c.Put(0, 0, 0, 0, 0)
	case paramHeader:
		const timeToLive, dontFragment = 64, 0x40
		c.Put(timeToLive, dontFragment, 0)
	case paramPort:
		c.Put16(l.opt.Port)
	case paramSecondPort:
		const secure = 664 // the port of RMCP's security extensions, which are not used
		c.Put16(secure)
	case paramARP:
		const responses, gratuitous = 0x02, 0x01
		c.Put(responses | gratuitous)
	case paramARPInterval:
		const twoSeconds = 3 // in half seconds, from 0
		c.Put(twoSeconds)
	case paramBackup:
		c.Put(0, 0, 0, 0)
	case paramBackupMAC:
		c.Put(0, 0, 0, 0, 0, 0)
	case paramCommunity:
		c.Put(padded(l.kept.Community)...)
	case paramDestinations:
		c.Put(destinations)
	case paramDestType, paramDestAddress, paramDestVLAN:
		return l.readDestination(c, param, set)
	case paramSuiteCount, paramSuites, paramSuiteLevels:
		l.readSuites(c, param)
	case paramLockout:
		return l.readLockout(c)
	case paramAddress, paramSource, paramMAC, paramMask, paramGateway, paramGatewayMAC, paramVLAN, paramPriority:
		l.read4(c, param)
	default:
		return l.read6(c, param, set)
	}
	return command.OK
}

func bit(is bool, b byte) byte {
	if is {
		return b
	}
	return 0
}

// read4 puts the parameters of IPv4 and of the VLAN.
func (l *LAN) read4(c *command.Call, param byte) {
	if param == paramMAC {
		mac := l.state().MAC
		c.Put(mac[:]...)
		return
	}
	d := l.now(c.Now)
	switch param {
	case paramAddress:
		put4(c, d.address)
	case paramSource:
		c.Put(sourceOf(d.source))
	case paramMask:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(math.MaxUint32<<(32-d.bits)))
		c.Put(b[:]...)
	case paramGateway:
		put4(c, d.gateway)
	case paramGatewayMAC:
		var mac [6]byte
		if l.opt.Network != nil && d.gateway.IsValid() && l.state().IPv4Gateway == d.gateway {
			mac = l.opt.Network.Neighbor(d.gateway)
		}
		c.Put(mac[:]...)
	case paramVLAN:
		v := d.vlanID
		if d.vlan != 0 {
			v = vlanEnable | uint16(d.vlan)
		}
		c.Put16(v)
	case paramPriority:
		c.Put(byte(d.priority))
	}
}

func put4(c *command.Call, a netip.Addr) {
	var b [4]byte
	if a.Is4() {
		b = a.As4()
	}
	c.Put(b[:]...)
}

func put16(c *command.Call, a netip.Addr) {
	var b [16]byte
	if a.Is6() {
		b = a.As16()
	}
	c.Put(b[:]...)
}

// readSuites puts the parameters 22 to 24. A suite gives each user the level
// that he has otherwise. Where levels stand is by the suite's ID, as ipmitool
// and FreeIPMI read them: by the order in the list of suites, as table 23-4 can
// be read too, they would show suite 0, which needs no password, as open.
func (l *LAN) readSuites(c *command.Call, param byte) {
	suites := l.opt.CipherSuites()
	suites = suites[:min(len(suites), maxSuites)]
	switch param {
	case paramSuiteCount:
		c.Put(byte(len(suites)))
	case paramSuites:
		var b [1 + maxSuites]byte
		copy(b[1:], suites)
		c.Put(b[:]...)
	case paramSuiteLevels:
		var b [1 + maxSuites/2]byte
		for _, id := range suites {
			if id < maxSuites {
				b[1+id/2] |= byte(command.Administrator) << (id % 2 * 4)
			}
		}
		c.Put(b[:]...)
	}
}

// readLockout puts parameter 26, whose times are tens of seconds.
func (l *LAN) readLockout(c *command.Call) command.Code {
	if l.opt.Lockout == nil {
		return codeUnsupported
	}
	const tell = 0x01
	tens := func(d time.Duration) uint16 {
		return uint16(min((d+10*time.Second-1)/(10*time.Second), math.MaxUint16)) // rounded up: 0 means never
	}
	o := l.opt.Lockout()
	c.Put(tell, byte(min(o.Threshold, math.MaxUint8)))
	c.Put16(tens(o.Forget))
	c.Put16(tens(o.Duration))
	return command.OK
}

// The states of an IPv6 address (parameters 56 and 59).
const (
	active6   = 0
	disabled6 = 1
	pending6  = 2
)

// read6 puts the parameters of IPv6. Timings, DUIDs and the traffic class are
// the kernel's, and cannot be read or set from here.
func (l *LAN) read6(c *command.Call, param, set byte) command.Code {
	d, s := l.now(c.Now), l.state()
	static, routed := d.ipv6.Method == Static, d.ipv6.Method == SLAAC
	switch param {
	case param6Support:
		const alone, together, alerts = 0x01, 0x02, 0x04
		c.Put(alone | together | alerts)
	case param6Enables:
		c.Put(enables(d.source, d.ipv6.Method))
	case param6Class:
		c.Put(0)
	case param6Hops:
		c.Put(64)
	case param6Flow:
		c.Put(0, 0, 0)
	case param6Status:
		const slaac = 0x02
		c.Put(1, dynamic6, slaac)
	case param6Static:
		if set != 0 {
			return command.OutOfRange
		}
		state := byte(disabled6)
		var p netip.Prefix
		if static {
			state, p = pending6, d.ipv6.Address
			for _, a := range s.IPv6 {
				if a.Prefix == p {
					state = active6
				}
			}
		}
		c.Put(set, bit(static, enable6))
		putPrefix6(c, p)
		c.Put(state)
	case param6Dynamic:
		return readDynamic6(c, s, set)
	case param6StaticDUID, param6DynamicDUID, param6DHCPTiming, param6NDTiming:
		c.Put(0)
	case param6RouterUse:
		const fromConfig, fromRouters = 0x01, 0x02
		c.Put(bit(static, fromConfig) | bit(routed, fromRouters))
	case param6Router1:
		put16(c, d.ipv6.Gateway)
	case param6Router2, param6Router1Net, param6Router2Net:
		put16(c, netip.Addr{})
	case param6Router1MAC, param6Router2MAC:
		c.Put(0, 0, 0, 0, 0, 0)
	case param6Router1Len, param6Router2Len:
		c.Put(0)
	case param6RouterCount:
		c.Put(bit(routed, byte(len(routers6(s)))))
	case param6DynRouter, param6DynRouterMAC, param6DynRouterLen, param6DynRouterNet:
		list := routers6(s)
		if !routed || int(set) >= len(list) {
			return command.OutOfRange
		}
		c.Put(set)
		switch param {
		case param6DynRouter:
			put16(c, list[set])
		case param6DynRouterMAC:
			c.Put(0, 0, 0, 0, 0, 0)
		case param6DynRouterLen:
			c.Put(0)
		case param6DynRouterNet:
			put16(c, netip.Addr{})
		}
	default:
		return codeUnsupported
	}
	return command.OK
}

// routers6 are the routers that fit into a count of one byte.
func routers6(s State) []netip.Addr { return s.IPv6Gateways[:min(len(s.IPv6Gateways), math.MaxUint8)] }

// readDynamic6 puts parameter 59.
func readDynamic6(c *command.Call, s State, set byte) command.Code {
	if set >= dynamic6 {
		return command.OutOfRange
	}
	n := byte(0)
	for _, a := range s.IPv6 {
		if !a.Dynamic {
			continue
		}
		if n == set {
			const slaac = 0x01
			c.Put(set, slaac)
			putPrefix6(c, a.Prefix)
			c.Put(active6)
			return command.OK
		}
		n++
	}
	c.Put(set, 0)
	putPrefix6(c, netip.Prefix{})
	c.Put(disabled6)
	return command.OK
}

func putPrefix6(c *command.Call, p netip.Prefix) {
	put16(c, p.Addr())
	c.Put(byte(max(p.Bits(), 0)))
}
