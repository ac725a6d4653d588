package network

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// Who made a route (rtnetlink(7)): all routes of the first two on the board's
// interface are this package's.
const (
	protocolStatic = 4
	protocolDHCP   = 16
	protocolRA     = 9
)

// lifetimeSlack is how much an address's end in the kernel may differ from the
// lease's: the kernel counts whole seconds.
const lifetimeSlack = 5 * time.Second

func defaultRoute(gateway netip.Addr, own netip.Prefix, protocol int) []kernelRoute {
	if !gateway.IsValid() {
		return nil
	}
	r := kernelRoute{to: netip.PrefixFrom(netip.IPv6Unspecified(), 0), gateway: gateway, protocol: protocol}
	if gateway.Is4() {
		// The source makes the kernel remove the route with the address.
		r.to, r.source, r.onLink = netip.PrefixFrom(netip.IPv4Unspecified(), 0), own.Addr(), !own.Contains(gateway)
	}
	return []kernelRoute{r}
}

// leaseRoutes are a lease's routes: those on the link first, since others may
// lead over them.
func leaseRoutes(l *lease) []kernelRoute {
	var list []kernelRoute
	for _, r := range l.routes {
		if !r.gateway.IsValid() {
			list = append(list, kernelRoute{to: r.to, source: l.address.Addr(), protocol: protocolDHCP})
		}
	}
	for _, r := range l.routes {
		if r.gateway.IsValid() {
			list = append(list, kernelRoute{to: r.to, gateway: r.gateway, source: l.address.Addr(), onLink: !l.address.Contains(r.gateway), protocol: protocolDHCP})
		}
	}
	return append(list, defaultRoute(l.gateway, l.address, protocolDHCP)...)
}

// addresses makes l have the addresses want and no other; those that routers
// advertise belong to the kernel where SLAAC is on. all4: IPv4 addresses that
// are not wanted go, too.
func (r *runner) addresses(l link, want []address, all4 bool) error {
	have, err := r.m.kernel.Addresses(l)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range have {
		a := h.prefix.Addr()
		switch {
		case slices.ContainsFunc(want, func(w address) bool { return w.prefix == h.prefix }):
		case a.Is4() && !all4, a.Is6() && a.IsLinkLocalUnicast():
		case h.automatic && (r.plan.v6.method == MethodSLAAC || l.index != r.link.index):
		default:
			errs = append(errs, r.m.kernel.DeleteAddress(l, h))
		}
	}
	for _, w := range want {
		i := slices.IndexFunc(have, func(h address) bool { return h.prefix == w.prefix })
		if i >= 0 && (w.valid > 0) == (have[i].valid > 0) && (w.valid-have[i].valid).Abs() <= lifetimeSlack {
			continue
		}
		errs = append(errs, r.m.kernel.SetAddress(l, w))
	}
	return errors.Join(errs...)
}

// routes makes l have the routes want and none of this package's besides; all4
// is as in addresses.
func (r *runner) routes(l link, want []kernelRoute, all4 bool) error {
	have, err := r.m.kernel.Routes(l)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range have {
		ours := h.protocol == protocolStatic || h.protocol == protocolDHCP ||
			h.protocol == protocolRA && r.plan.v6.method != MethodSLAAC
		if ours && (all4 || h.to.Addr().Is6()) && !slices.Contains(want, h) {
			errs = append(errs, r.m.kernel.DeleteRoute(l, h))
		}
	}
	for _, w := range want {
		if !slices.Contains(have, w) {
			errs = append(errs, r.m.kernel.AddRoute(l, w))
		}
	}
	return errors.Join(errs...)
}

// standardMTU is Ethernet's.
const standardMTU = 1500

// mtu takes the lease's MTU, or Ethernet's again after another's end. A driver
// that cannot do it is no reason to have no network.
func (r *runner) mtu() error {
	want := 0
	switch {
	case r.lease != nil:
		want = r.lease.mtu
		if want == 0 && r.mtuSet {
			want = standardMTU
		}
	case r.mtuSet && r.why != "", r.mtuSet && r.plan.v4.method != MethodDHCP:
		want = standardMTU
	}
	if want == 0 || want == r.link.mtu || want == r.mtuTried {
		return nil
	}
	r.mtuTried, r.mtuSet = want, want != standardMTU
	return r.m.kernel.SetMTU(r.link, want)
}

// sysctls sets IPv6 up. The values are written only where they differ, and with
// IPv6 off meanwhile: the kernel then begins anew with the link-local address
// and asks for routers at once.
//
// The addresses are made from the MAC address (addr_gen_mode 0, RFC 4291
// appendix A), not from a secret (RFC 8064): that hides machines that move
// about, while a board stays, and is to be found under the same address after
// it lost all state, by whoever reads the MAC address on its label.
func (r *runner) sysctls() error {
	conf := path.Join("net/ipv6/conf", r.link.name)
	disabled := path.Join(conf, "disable_ipv6")
	off, err := r.m.kernel.Sysctl(disabled)
	if errors.Is(err, fs.ErrNotExist) {
		if r.plan.v6.method == MethodStatic {
			return fmt.Errorf("the kernel has no IPv6: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the settings of IPv6: %w", err)
	}
	set := func(name, value string) error {
		if err := r.m.kernel.SetSysctl(name, value); err != nil {
			return fmt.Errorf("setting %s to %s: %w", name, value, err)
		}
		return nil
	}
	if r.plan.v6.method == MethodOff {
		if off == "1" {
			return nil
		}
		return set(disabled, "1")
	}
	automatic, accept := "0", "0"
	if r.plan.v6.method == MethodSLAAC {
		// 2: advertisements count even if the board forwards for its host.
		automatic, accept = "1", "2"
	}
	var differ [][2]string
	for _, s := range [][2]string{
		{"accept_ra", accept},
		{"autoconf", automatic},
		{"addr_gen_mode", "0"},
		{"use_tempaddr", "0"},
		// No random pause of up to a second before the first packet.
		{"router_solicitation_delay", "0"},
		// A switch that has just seen the link may lose the first question.
		{"router_solicitation_interval", "1"},
		// RFC 4429: addresses work while they are being checked. Not every
		// kernel has these two.
		{"optimistic_dad", "1"},
		{"use_optimistic", "1"},
	} {
		name := path.Join(conf, s[0])
		value, err := r.m.kernel.Sysctl(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if value != s[1] {
			differ = append(differ, [2]string{name, s[1]})
		}
	}
	if len(differ) > 0 && off != "1" {
		off = "1"
		if err := set(disabled, "1"); err != nil {
			return err
		}
	}
	for _, s := range differ {
		if err := set(s[0], s[1]); err != nil {
			return err
		}
	}
	if off == "1" {
		return set(disabled, "0")
	}
	return nil
}

// dns are the name servers to ask.
func (r *runner) dns() []netip.Addr {
	if len(r.plan.dns) > 0 || r.lease == nil {
		return r.plan.dns
	}
	return r.lease.dns
}

// resolvConf writes the name servers down, if they differ from those there.
func (r *runner) resolvConf() error {
	name := r.m.opt.ResolvConf
	if name == "" {
		return nil
	}
	var b strings.Builder
	for _, a := range r.dns() {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if old, err := os.ReadFile(name); err == nil && string(old) == b.String() {
		return nil
	}
	return atomicfile.Write(name, []byte(b.String()), 0o644)
}

// show takes in what the interface has now, for State, and tells people of the
// addresses that came and went.
func (r *runner) show(have []address, routes []kernelRoute) {
	s := State{Interface: r.link.name, VLAN: r.link.vlan.id, MAC: r.link.mac, MTU: r.link.mtu, Carrier: r.link.carrier, DNS: r.dns()}
	if r.lease != nil {
		s.NTP = r.lease.ntp
	}
	now := time.Now()
	shown := map[netip.Prefix]string{}
	for _, h := range have {
		a := h.prefix.Addr()
		if a.Is6() && a.IsLinkLocalUnicast() {
			continue
		}
		if h.failed {
			if now.Sub(r.complained) > conflictQuiet {
				r.report(slog.LevelError, KindConflict, "%s is also used by another machine", a)
			}
			r.complained = now
			continue
		}
		if h.tentative {
			continue
		}
		e := Address{Prefix: h.prefix, Method: MethodStatic}
		switch {
		case h.automatic:
			e.Method = MethodSLAAC
		case a.Is4() && r.plan.v4.method == MethodDHCP:
			e.Method = MethodDHCP
		}
		if h.valid > 0 {
			e.Expires = now.Add(h.valid)
		}
		s.Addresses = append(s.Addresses, e)
		shown[h.prefix] = e.Method
	}
	for _, k := range routes {
		if k.to.Bits() == 0 && k.gateway.IsValid() {
			s.Gateways = append(s.Gateways, k.gateway)
		}
	}
	if r.lease != nil {
		s.Server = r.lease.server
	}
	r.m.mu.Lock()
	r.m.state = s
	r.m.mu.Unlock()

	for p, method := range r.shown {
		if _, still := shown[p]; still {
			continue
		}
		why := ""
		if method == MethodDHCP && r.why != "" {
			why = ": " + r.why
		}
		r.report(slog.LevelWarn, KindDown, "%s is no longer an address of the board%s", p, why)
	}
	for _, e := range s.Addresses {
		if _, before := r.shown[e.Prefix]; before {
			continue
		}
		switch e.Method {
		case MethodDHCP:
			from := "the run before"
			if r.lease != nil {
				from = r.lease.server.String()
			}
			r.report(slog.LevelInfo, KindUp, "%s has %s by DHCP from %s", r.link.name, e.Prefix, from)
		case MethodSLAAC:
			r.report(slog.LevelInfo, KindUp, "%s has %s by SLAAC", r.link.name, e.Prefix)
		default:
			r.report(slog.LevelInfo, KindUp, "%s has %s, as set", r.link.name, e.Prefix)
		}
	}
	r.shown = shown
}
