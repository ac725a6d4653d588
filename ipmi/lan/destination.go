package lan

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

const (
	// destinations is how many alert destinations are kept, besides number 0,
	// which is for Alert Immediate and lost at a restart (parameter 18).
	destinations = 4
	// communityLen is the most that a community string has (parameter 16).
	communityLen = 18

	bucket  = "ipmi-lan"
	keptKey = "alerts"
)

// kept is what outlives a restart.
type kept struct {
	Community    string                    `json:"community"`
	Destinations [destinations]Destination `json:"destinations"`
}

// A Destination is who gets alerts.
type Destination struct {
	// Acknowledge: an alert counts as received only when the receiver says so.
	Acknowledge bool `json:"acknowledge,omitempty"`
	// Interval is how long an acknowledgement is waited for, and what is
	// between two sendings: 1 to 256 s.
	Interval time.Duration `json:"interval"`
	// Retries is how often an alert is sent again, 0 to 7.
	Retries int `json:"retries"`
	// Address is the receiver's; zero where there is none.
	Address netip.Addr `json:"address,omitzero"`
	// Backup and MAC are kept for who reads them back: the kernel's routes
	// and neighbours say how a packet goes.
	Backup bool    `json:"backup,omitempty"`
	MAC    [6]byte `json:"mac"`
}

func factoryDestination() Destination { return Destination{Interval: 3 * time.Second, Retries: 3} }

func factory() kept {
	k := kept{Community: "public"}
	for i := range k.Destinations {
		k.Destinations[i] = factoryDestination()
	}
	return k
}

// Destination is the alert destination n, 0 to 4; false: there is none of that
// number.
func (l *LAN) Destination(n int) (Destination, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.destination(n)
	if d == nil {
		return Destination{}, false
	}
	return *d, true
}

func (l *LAN) destination(n int) *Destination {
	switch {
	case n == 0:
		return &l.volatile
	case n > 0 && n <= destinations:
		return &l.kept.Destinations[n-1]
	}
	return nil
}

// Community is the SNMP community string of alerts.
func (l *LAN) Community() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept.Community
}

const (
	acknowledge = 0x80 // of a destination's type
	formatIPv6  = 0x10 // of its address
	backup      = 0x01 // its gateway
)

// readDestination puts the parameters 18, 19 and 25, with l.mu held.
func (l *LAN) readDestination(c *command.Call, param, set byte) command.Code {
	d := l.destination(int(set))
	if d == nil {
		return command.OutOfRange
	}
	switch param {
	case paramDestType:
		c.Put(set, bit(d.Acknowledge, acknowledge), byte(d.Interval/time.Second-1), byte(d.Retries))
	case paramDestAddress:
		if d.Address.Is6() {
			c.Put(set, formatIPv6)
			put16(c, d.Address)
			break
		}
		c.Put(set, 0, bit(d.Backup, backup))
		put4(c, d.Address)
		c.Put(d.MAC[:]...)
	case paramDestVLAN:
		c.Put(set, 0, 0, 0) // alerts go over the board's own VLAN
	}
	return command.OK
}

// setKept is the parameters 16, 18 and 19.
func (l *LAN) setKept(c *command.Call, param byte, data []byte) command.Code {
	l.mu.Lock()
	k, volatile := l.kept, l.volatile
	l.mu.Unlock()
	var code command.Code
	if param == paramCommunity {
		code = k.setCommunity(data)
	} else {
		n := int(data[0])
		d := &volatile
		if n > destinations {
			return command.OutOfRange
		}
		if n > 0 {
			d = &k.Destinations[n-1]
		}
		if param == paramDestType {
			code = d.setType(data[1:])
		} else {
			code = d.setAddress(data[1:])
		}
	}
	if code != command.OK {
		return code
	}
	l.mu.Lock()
	changed := k != l.kept
	l.volatile = volatile
	l.mu.Unlock()
	if !changed {
		return command.OK
	}
	if err := l.opt.Store.PutJSON(bucket, keptKey, k); err != nil {
		return command.Result(l.opt.Log, "Set LAN Configuration Parameters", err)
	}
	l.mu.Lock()
	l.kept = k
	l.mu.Unlock()
	l.tell(c)
	return command.OK
}

// tellAgain is how long further changes by the same person are told by the
// first one's event: consoles write field by field.
const tellAgain = time.Minute

func (l *LAN) tell(c *command.Call) {
	l.mu.Lock()
	quiet := l.told == c.Origin && c.Now.Sub(l.toldAt) < tellAgain
	if !quiet {
		l.told, l.toldAt = c.Origin, c.Now
	}
	l.mu.Unlock()
	if !quiet {
		l.opt.Events.Add(host.Event{Kind: "ipmi.alert-destinations", Message: "The destinations of IPMI alerts were changed.", Origin: c.Origin})
	}
}

// padded is a community string as it is on the wire.
func padded(s string) []byte {
	b := make([]byte, communityLen)
	copy(b, s)
	return b
}

// setCommunity takes what consoles send: 18 bytes, the end filled with zeros,
// or only those that are.
func (k *kept) setCommunity(data []byte) command.Code {
	if len(data) > communityLen {
		return command.BadLength
	}
	text, rest, _ := bytes.Cut(data, []byte{0})
	for _, b := range text {
		if b < ' ' || b > '~' {
			return command.InvalidField
		}
	}
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return command.InvalidField
	}
	k.Community = string(text)
	return command.OK
}

// setType is what follows the selector of parameter 18. Only PET is sent.
func (d *Destination) setType(data []byte) command.Code {
	if len(data) != 3 {
		return command.BadLength
	}
	if data[0]&^acknowledge != 0 || data[2] > 7 {
		return command.InvalidField
	}
	d.Acknowledge = data[0]&acknowledge != 0
	d.Interval = (time.Duration(data[1]) + 1) * time.Second
	d.Retries = int(data[2])
	return command.OK
}

// setAddress is what follows the selector of parameter 19.
func (d *Destination) setAddress(data []byte) command.Code {
	switch {
	case len(data) == 12 && data[0] == 0 && data[1]&^backup == 0:
		a := netip.AddrFrom4([4]byte(data[2:6]))
		switch {
		case a.IsUnspecified():
			a = netip.Addr{}
		case !receives(a):
			return command.InvalidField
		}
		d.Address, d.Backup, d.MAC = a, data[1]&backup != 0, [6]byte(data[6:])
	case len(data) == 17 && data[0] == formatIPv6:
		a := netip.AddrFrom16([16]byte(data[1:]))
		switch {
		case a.IsUnspecified():
			a = netip.Addr{}
		case !receives(a) || a.Is4In6():
			return command.InvalidField
		}
		d.Address, d.Backup, d.MAC = a, false, [6]byte{}
	case len(data) != 12 && len(data) != 17:
		return command.BadLength
	default:
		return command.InvalidField
	}
	return command.OK
}

// receives says whether alerts can be sent to the address. A simulated board's
// receiver may be on loopback.
func receives(a netip.Addr) bool { return unicast(a) || a.IsLoopback() }
