package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/supervise"
	"github.com/nitrino/nitrino/ipmi"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/lan"
	"github.com/nitrino/nitrino/ipmi/user"
	"github.com/nitrino/nitrino/network"
)

// This file lets IPMI's commands see and change the settings and the network.

// listenIPMI opens the socket of IPMI over LAN, and answers what serves it.
func (b *BMC) listenIPMI(s Settings, h *host.Host, r Run, manager *network.Manager, group *supervise.Group) (func(context.Context) error, string, error) {
	c, err := net.ListenPacket("udp", join(r.Address, r.IPMI))
	if err != nil {
		return nil, "", err
	}
	conn := c.(*net.UDPConn)
	major, minor := firmware(b.opt.Version)
	srv, err := ipmi.New(ipmi.Options{
		Config: s.IPMI.config(), Accounts: b.Users, Host: h, Log: b.log, Store: b.db,
		Device:     ipmi.Device{Major: major, Minor: minor},
		ResetBMC:   func(bool, host.Origin) { b.Reset() },
		SelfTest:   func() ipmi.SelfTest { return selfTest(group) },
		Port:       conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(),
		SerialRate: func() int { return b.channel.settings().Serial.Baud },
		Board:      b.ipmiBoard(r, manager),
	})
	if err != nil {
		return nil, "", errors.Join(err, conn.Close())
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		background := make(chan error, 1)
		go func() { background <- srv.Run(ctx); cancel() }() // one does not go on without the other
		err := srv.Serve(ctx, conn)
		cancel()
		return errors.Join(err, <-background, conn.Close())
	}, conn.LocalAddr().String(), nil
}

// ipmiBoard is what IPMI's commands see and change.
func (b *BMC) ipmiBoard(r Run, manager *network.Manager) ipmi.Board {
	x := ipmi.Board{
		Users: b.Users, Channel: b.channel, Keys: b.key, Names: boardName{b},
		Lockout: b.lanLockout, SetCycleInterval: b.setCycleInterval,
	}
	if manager != nil {
		x.Network = lanNetwork{b, manager}
	}
	// A board without a network of its own answers at one address.
	if a, err := netip.ParseAddr(r.Address); err == nil && a.Is4() {
		bits := a.BitLen()
		if a.IsLoopback() {
			bits = 8 // RFC 1122 section 3.2.1.3
		}
		x.Fixed.IPv4 = netip.PrefixFrom(a, bits)
	} else if err == nil {
		x.Fixed.IPv6 = []lan.Address{{Prefix: netip.PrefixFrom(a, a.BitLen())}}
	}
	return x
}

// setFor changes a setting for an IPMI command: what is wrong with the value is
// host.ErrInvalid.
func (b *BMC) setFor(path, value string, from host.Origin) error {
	err := b.changer().Set(path, value, from)
	if _, wrong := errors.AsType[*settings.Error](err); wrong {
		return fmt.Errorf("%w: %w", host.ErrInvalid, err)
	}
	return err
}

// setSection is setFor for several settings at once.
func (b *BMC) setSection(path string, fields any, from host.Origin) error {
	value, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return b.setFor(path, string(value), from)
}

// setCycleInterval sets how long a power cycle leaves the host off.
func (b *BMC) setCycleInterval(d time.Duration, from host.Origin) error {
	return b.setFor("power.off_time", d.String(), from)
}

// A boardName is the board's name as the management controller's identifier.
type boardName struct{ b *BMC }

// HostName is the board's name.
func (n boardName) HostName() string { return n.b.channel.settings().HostName }

// SetHostName changes it; host.ErrInvalid for what is no host name.
func (n boardName) SetHostName(name string, from host.Origin) error {
	quoted, err := json.Marshal(name) // or digits alone would be a number
	if err != nil {
		return err
	}
	return n.b.setFor("hostname", string(quoted), from)
}

// lanLockout is the lockout of a user name (table 23-4, parameter 26).
func (b *BMC) lanLockout() lan.Lockout {
	l := b.channel.settings().Lockout
	if l.Threshold == 0 { // no locks at all
		return lan.Lockout{}
	}
	return lan.Lockout{Threshold: l.UserThreshold, Forget: l.Forget, Duration: l.First}
}

// A lanNetwork is the board's own network as a lan.Network.
type lanNetwork struct {
	b   *BMC
	net *network.Manager
}

// State is how the network is.
func (n lanNetwork) State() lan.State {
	return lanState(n.net.State())
}

// Neighbor is the MAC address of a machine on the link.
func (n lanNetwork) Neighbor(a netip.Addr) (mac [6]byte) {
	found, err := n.net.Neighbor(a)
	if err != nil {
		n.b.log.Debug("the MAC address of a neighbor", "error", err)
	}
	copy(mac[:], found)
	return mac
}

func lanState(s network.State) lan.State {
	l := lan.State{VLAN: s.VLAN}
	copy(l.MAC[:], s.MAC)
	for _, a := range s.Addresses {
		switch {
		case a.Prefix.Addr().Is6():
			l.IPv6 = append(l.IPv6, lan.Address{Prefix: a.Prefix, Dynamic: a.Method == network.MethodSLAAC})
		case !l.IPv4.IsValid():
			l.IPv4 = a.Prefix
		}
	}
	for _, g := range s.Gateways {
		switch {
		case g.Is6():
			l.IPv6Gateways = append(l.IPv6Gateways, g)
		case !l.IPv4Gateway.IsValid():
			l.IPv4Gateway = g
		}
	}
	return l
}

// Config is how the network is set.
func (n lanNetwork) Config() lan.Config { return lanConfig(n.b.channel.settings().Network) }

// lanConfig takes a valid c; the methods have the same names.
func lanConfig(c network.Config) lan.Config {
	family := func(method, address, gateway string) lan.Family {
		f := lan.Family{Method: lan.Method(method)}
		// They were checked; what is empty stays zero.
		f.Address, _ = netip.ParsePrefix(address)
		f.Gateway, _ = netip.ParseAddr(gateway)
		return f
	}
	return lan.Config{
		IPv4: family(c.IPv4.Method, c.IPv4.Address, c.IPv4.Gateway),
		IPv6: family(c.IPv6.Method, c.IPv6.Address, c.IPv6.Gateway),
		VLAN: c.VLAN, VLANPriority: c.VLANPriority,
	}
}

// Set changes the network, on trial.
func (n lanNetwork) Set(c lan.Config, from host.Origin) error {
	familyOf := func(f lan.Family) familySettings {
		return newFamilySettings(string(f.Method), f.Address, f.Gateway)
	}
	return n.b.setSection("network", struct {
		IPv4         familySettings `json:"ipv4"`
		IPv6         familySettings `json:"ipv6"`
		VLAN         int            `json:"vlan"`
		VLANPriority int            `json:"vlan_priority"`
	}{familyOf(c.IPv4), familyOf(c.IPv6), c.VLAN, c.VLANPriority}, from)
}

// privilegeOf reads the setting ipmi.max_privilege.
func privilegeOf(word string) (command.Privilege, error) {
	for _, p := range [...]command.Privilege{command.User, command.Operator, command.Administrator} {
		if word == privilegeWord(p) {
			return p, nil
		}
	}
	return command.None, fmt.Errorf("%q is not user, operator or administrator", word)
}

func privilegeWord(p command.Privilege) string {
	switch p {
	case command.User:
		return "user"
	case command.Operator:
		return "operator"
	case command.Administrator:
		return "administrator"
	}
	return "" // no setting's
}

// A lanChannel is the access to IPMI over LAN as a user.Channel. IPMI has it
// twice (sections 22.22 and 22.23): what is kept is the settings; what is in force
// is the settings as well, unless somebody changed only one of the two. That
// holds until the software starts again or the settings are changed by any
// other way, which count at once.
type lanChannel struct {
	b    *BMC
	wake chan struct{} // what is in force changed

	mu    sync.Mutex // guards the following; nothing waits while holding it
	force *inForce
	read  *Settings // of the generation; nil: not read yet
	gen   uint64
}

// settings are the settings for who only looks at them. Commands do under the
// lock of all sessions, some before any login, so the document is decoded once
// for each change of it.
func (c *lanChannel) settings() *Settings {
	gen := c.b.Settings.Generation() // before Get: at worst it is read once more
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil || c.gen != gen {
		now := c.b.Settings.Get()
		c.read, c.gen = &now, gen
	}
	return c.read
}

// inForce is an access that lies over the settings while they say one of two.
type inForce struct {
	access user.Access
	over   [2]user.Access
}

func accessOf(s IPMISettings) user.Access {
	// A word that was checked.
	limit, _ := privilegeOf(s.MaxPrivilege)
	return user.Access{Enabled: s.Enabled, Limit: limit, Alerts: s.Alerts}
}

// Access answers what is kept or in force.
func (c *lanChannel) Access(kept bool) user.Access {
	set := accessOf(c.settings().IPMI)
	if kept {
		return set
	}
	return c.now(set)
}

// now is what is in force over what is set.
func (c *lanChannel) now(set user.Access) user.Access {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.force != nil && (c.force.over[0] == set || c.force.over[1] == set) {
		return c.force.access
	}
	return set
}

// lay makes what is in force lie over the settings, which are set and may
// become next.
func (c *lanChannel) lay(access, set, next user.Access) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.force = nil
	if access != set || access != next {
		c.force = &inForce{access, [2]user.Access{set, next}}
	}
}

// apply is what the settings are with what is in force. What lay over others is
// over for good, also where these come back.
func (c *lanChannel) apply(s Settings) Settings {
	set := accessOf(s.IPMI)
	a := c.now(set)
	c.mu.Lock()
	if c.force != nil && c.force.over[0] != set && c.force.over[1] != set {
		c.force = nil
	}
	c.mu.Unlock()
	s.IPMI.Enabled, s.IPMI.MaxPrivilege, s.IPMI.Alerts = a.Enabled, privilegeWord(a.Limit), a.Alerts
	return s
}

// SetAccess changes what is kept, or what is in force.
func (c *lanChannel) SetAccess(a user.Access, kept bool, from host.Origin) error {
	word := privilegeWord(a.Limit)
	if word == "" {
		return fmt.Errorf("%w: %s is no limit of IPMI over LAN", host.ErrInvalid, a.Limit)
	}
	set := accessOf(c.settings().IPMI)
	if kept {
		c.lay(c.now(set), set, a)
		return c.b.setSection("ipmi", struct {
			Enabled      bool   `json:"enabled"`
			MaxPrivilege string `json:"max_privilege"`
			Alerts       bool   `json:"alerts"`
		}{a.Enabled, word, a.Alerts}, from)
	}
	c.lay(a, set, set)
	c.b.Events.Add(host.Event{Kind: "settings.changed", Origin: from, Message: fmt.Sprintf(
		"Until the board's software starts again: IPMI over LAN enabled: %v; at most: %s; alerts: %v.", a.Enabled, word, a.Alerts)})
	select {
	case c.wake <- struct{}{}:
	default: // it is to look already
	}
	return nil
}
