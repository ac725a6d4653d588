package bmc

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/clock"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/network"
	"github.com/nitrino/nitrino/redfish/manager"
)

// This file shows the board to Redfish's Manager.

// A managerNetwork is the board's own network as a manager.Network. net is nil
// where the network is the machine's; then at is the address that is served.
type managerNetwork struct {
	b   *BMC
	net *network.Manager
	// iface answers the board's choice of an interface.
	iface func() (string, error)
	at    netip.Addr
}

// State is how the network is.
func (n managerNetwork) State() manager.State {
	if n.net == nil {
		s, err := manager.MachineState(n.at)
		if err != nil {
			n.b.log.Warn("the machine's network", "error", err)
		}
		return s
	}
	now := n.net.State()
	// That of now is another with a VLAN, and none while it is changed.
	name := n.b.channel.settings().Network.Interface
	if name == "" {
		var err error
		if name, err = n.iface(); err != nil {
			name = "" // there is none yet
		}
	}
	s := manager.State{Interface: name, Managed: true, MAC: now.MAC, MTU: now.MTU, Carrier: now.Carrier, Gateways: now.Gateways, DNS: now.DNS}
	for _, a := range now.Addresses {
		s.Addresses = append(s.Addresses, manager.Address{Prefix: a.Prefix, Method: manager.Method(a.Method)})
	}
	return s
}

// Config is how the network is set.
func (n managerNetwork) Config() manager.Config {
	s := n.b.channel.settings()
	family := func(method, address, gateway string) manager.Family {
		f := manager.Family{Method: manager.Method(method)}
		// They were checked; what is empty stays zero.
		f.Address, _ = netip.ParsePrefix(address)
		f.Gateway, _ = netip.ParseAddr(gateway)
		return f
	}
	c := s.Network
	return manager.Config{
		HostName: s.HostName,
		IPv4:     family(c.IPv4.Method, c.IPv4.Address, c.IPv4.Gateway),
		IPv6:     family(c.IPv6.Method, c.IPv6.Address, c.IPv6.Gateway),
		VLAN:     c.VLAN, VLANPriority: c.VLANPriority, DNS: c.DNS,
	}
}

// Set changes the network, on trial, and the board's name.
func (n managerNetwork) Set(c manager.Config, from host.Origin) (trial time.Duration, err error) {
	now := n.Config()
	name := c.HostName
	now.HostName = name
	if n.net != nil && !c.Equal(now) {
		if err := n.setNetwork(c, from); err != nil {
			return 0, err
		}
		trial = n.b.channel.settings().Network.Trial
	}
	if name == n.b.channel.settings().HostName {
		return trial, nil
	}
	quoted, err := json.Marshal(name) // or digits alone would be a number
	if err != nil {
		return trial, err
	}
	return trial, n.b.changer().Set("hostname", string(quoted), from)
}

func (n managerNetwork) setNetwork(c manager.Config, from host.Origin) error {
	familyOf := func(f manager.Family) familySettings {
		return newFamilySettings(string(f.Method), f.Address, f.Gateway)
	}
	section, err := json.Marshal(struct {
		IPv4         familySettings `json:"ipv4"`
		IPv6         familySettings `json:"ipv6"`
		VLAN         int            `json:"vlan"`
		VLANPriority int            `json:"vlan_priority"`
		DNS          []string       `json:"dns"`
	}{familyOf(c.IPv4), familyOf(c.IPv6), c.VLAN, c.VLANPriority, append([]string{}, c.DNS...)})
	if err != nil {
		return err
	}
	return n.b.changer().Set("network", string(section), from)
}

// managerServices are the services that the settings switch.
type managerServices struct {
	b     *BMC
	run   Run
	ports *ports
}

// Service implements manager.Services.
func (m managerServices) Service(s manager.Service) (on bool, port int, there bool) {
	set, at := m.b.channel.settings(), m.ports.get()
	portOf := func(address string, wanted int) int {
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			return wanted // it was off when the others began
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return wanted
		}
		return n
	}
	switch s {
	case manager.HTTPS:
		return set.HTTPS.Enabled, portOf(at.HTTPS, m.run.HTTPS), true
	case manager.SSH:
		return set.SSH.Enabled, portOf(at.SSH, m.run.SSH), true
	case manager.IPMI:
		return set.IPMI.Enabled, portOf(at.IPMI, m.run.IPMI), true
	}
	return false, 0, false
}

// SetEnabled implements manager.Services.
func (m managerServices) SetEnabled(s manager.Service, on bool, from host.Origin) error {
	path := map[manager.Service]string{manager.HTTPS: "https.enabled", manager.SSH: "ssh.enabled", manager.IPMI: "ipmi.enabled"}[s]
	if path == "" {
		return errors.ErrUnsupported
	}
	return m.b.changer().Set(path, strconv.FormatBool(on), from)
}

// managerNTP is how the clock is kept; net may be nil.
type managerNTP struct {
	b   *BMC
	net *network.Manager
}

// Config implements manager.NTP.
func (n managerNTP) Config() (on bool, servers []string) {
	t := n.b.channel.settings().Time
	return t.NTP, t.Servers
}

// Offered implements manager.NTP.
func (n managerNTP) Offered() (servers []string) {
	if n.net == nil {
		return nil
	}
	for _, a := range n.net.State().NTP {
		servers = append(servers, a.String())
	}
	return servers
}

// Set implements manager.NTP.
func (n managerNTP) Set(on bool, servers []string, from host.Origin) error {
	section, err := json.Marshal(struct {
		NTP     bool     `json:"ntp"`
		Servers []string `json:"servers"`
	}{on, append([]string{}, servers...)})
	if err != nil {
		return err
	}
	return n.b.changer().Set("time", string(section), from)
}

// A managerClock is the board's clock.
type managerClock struct{ *clock.Clock }

// Set implements manager.Clock.
func (c managerClock) Set(t time.Time, from host.Origin) error {
	err := c.Clock.Set(t, from)
	if errors.Is(err, clock.ErrKept) {
		return manager.ErrKept
	}
	return err
}

// A lifecycle ends what runs.
type lifecycle struct{ b *BMC }

// Reset implements manager.Lifecycle.
func (l lifecycle) Reset(from host.Origin) {
	l.b.Events.Add(host.Event{Kind: "bmc.reset", Message: "The BMC was reset.", Origin: from})
	l.b.Reset()
}

// ToDefaults implements manager.Lifecycle.
func (l lifecycle) ToDefaults(scope manager.Scope, from host.Origin) error {
	return l.b.keepDefaults(DefaultsScope(scope), from)
}

// saveLockout keeps a lockout policy in the settings; host.ErrInvalid for one
// that breaks a rule.
func (b *BMC) saveLockout(l auth.Lockout, from host.Origin) error {
	err := b.setSection("lockout", struct {
		Threshold     int    `json:"threshold"`
		UserThreshold int    `json:"user_threshold"`
		First         string `json:"first"`
		Factor        int    `json:"factor"`
		Max           string `json:"max"`
		UserMax       string `json:"user_max"`
		Forget        string `json:"forget"`
	}{l.Threshold, l.UserThreshold, l.First.String(), l.Factor, l.Max.String(), l.UserMax.String(), l.Forget.String()}, from)
	if err != nil {
		return err
	}
	return b.Users.Configure(l) // what follows the settings would do it a little later
}
