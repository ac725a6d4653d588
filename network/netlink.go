package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linux is the kernel that runs.
type linux struct{}

// routeMetric keeps the board's routes apart from those that others make over
// other interfaces, which would have 0.
const routeMetric = 100

func (linux) Watch(ctx context.Context, changed func()) error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("watching the network interfaces: %w", err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	changed()
	for {
		_, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil, errors.Is(err, unix.ENOBUFS):
			// What changed is looked up: a message that did not fit is news too.
			changed()
		case errors.Is(err, unix.EINTR):
		default:
			return fmt.Errorf("watching the network interfaces: %w", err)
		}
	}
}

func (linux) Link(name string) (link, error) {
	l, err := netlink.LinkByName(name)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return link{}, fmt.Errorf("interface %s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return link{}, fmt.Errorf("interface %s: %w", name, err)
	}
	return linkOf(l), nil
}

func linkOf(n netlink.Link) link {
	a := n.Attrs()
	l := link{
		name: a.Name, index: a.Index, mac: a.HardwareAddr, mtu: a.MTU,
		up: a.RawFlags&unix.IFF_UP != 0, carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
	if v, ok := n.(*netlink.Vlan); ok {
		// The kernel leaves priority 0 out of the map.
		l.vlan = vlan{parent: a.ParentIndex, id: v.VlanId, priority: int(v.EgressQosMap[0])}
	}
	return l
}

func (linux) VLANs(parent link) ([]link, error) {
	found, err := again(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing the VLANs on %s: %w", parent.name, err)
	}
	var list []link
	for _, f := range found {
		if l := linkOf(f); l.vlan.id != 0 && l.vlan.parent == parent.index {
			list = append(list, l)
		}
	}
	return list, nil
}

func (linux) AddVLAN(parent link, name string, v vlan) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, parent.index
	n := &netlink.Vlan{LinkAttrs: attrs, VlanId: v.id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q, EgressQosMap: map[uint32]uint32{}}
	// Sockets have 0, what the kernel itself sends up to 7 (TC_PRIO_CONTROL).
	for p := range uint32(8) {
		n.EgressQosMap[p] = uint32(v.priority)
	}
	if err := netlink.LinkAdd(n); err != nil {
		return fmt.Errorf("adding VLAN %d to %s: %w", v.id, parent.name, err)
	}
	return nil
}

func (linux) DeleteVLAN(l link) error {
	if err := netlink.LinkDel(l.handle()); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing VLAN %d (%s): %w", l.vlan.id, l.name, err)
	}
	return nil
}

// handle is what netlink takes for an interface.
func (l link) handle() netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: l.name, Index: l.index}}
}

func (linux) SetUp(l link) error {
	if err := netlink.LinkSetUp(l.handle()); err != nil {
		return fmt.Errorf("starting interface %s: %w", l.name, err)
	}
	return nil
}

func (linux) SetMTU(l link, mtu int) error {
	if err := netlink.LinkSetMTU(l.handle(), mtu); err != nil {
		return fmt.Errorf("setting the MTU of %s to %d: %w", l.name, mtu, err)
	}
	return nil
}

// again repeats a listing that changed while it was read.
func again[T any](list func() ([]T, error)) ([]T, error) {
	for range 5 {
		if l, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return l, err
		}
	}
	return list()
}

func (linux) Addresses(l link) ([]address, error) {
	found, err := again(func() ([]netlink.Addr, error) { return netlink.AddrList(l.handle(), netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of %s: %w", l.name, err)
	}
	var list []address
	for _, f := range found {
		p, ok := prefixOf(f.IPNet)
		if !ok {
			continue
		}
		a := address{
			prefix:    p,
			automatic: p.Addr().Is6() && f.Flags&unix.IFA_F_PERMANENT == 0,
			// An optimistic address is used while it is tentative (RFC 4429).
			tentative: f.Flags&unix.IFA_F_TENTATIVE != 0 && f.Flags&unix.IFA_F_OPTIMISTIC == 0,
			failed:    f.Flags&unix.IFA_F_DADFAILED != 0,
		}
		if uint32(f.ValidLft) != 0xffffffff {
			a.valid = time.Duration(uint32(f.ValidLft)) * time.Second
		}
		list = append(list, a)
	}
	return list, nil
}

func (linux) SetAddress(l link, a address) error {
	n := &netlink.Addr{IPNet: netOf(a.prefix)}
	if a.valid > 0 {
		n.ValidLft = int(max(a.valid/time.Second, 1))
		n.PreferedLft = n.ValidLft
	}
	if err := netlink.AddrReplace(l.handle(), n); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", l.name, a.prefix, err)
	}
	return nil
}

func (linux) DeleteAddress(l link, a address) error {
	// Gone already is as good: the kernel ends leases by itself, too.
	if err := netlink.AddrDel(l.handle(), &netlink.Addr{IPNet: netOf(a.prefix)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("taking the address %s from %s: %w", a.prefix, l.name, err)
	}
	return nil
}

func (linux) Routes(l link) ([]kernelRoute, error) {
	found, err := again(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: l.index, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the routes of %s: %w", l.name, err)
	}
	var list []kernelRoute
	for _, f := range found {
		if f.Protocol == unix.RTPROT_KERNEL {
			continue
		}
		r := kernelRoute{onLink: f.Flags&unix.RTNH_F_ONLINK != 0, protocol: int(f.Protocol)}
		var ok bool
		if r.to, ok = prefixOf(f.Dst); !ok {
			r.to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if f.Family == netlink.FAMILY_V6 {
				r.to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
		}
		// Absent ones stay zero.
		r.gateway, _ = netip.AddrFromSlice(f.Gw)
		r.source, _ = netip.AddrFromSlice(f.Src)
		r.gateway, r.source = r.gateway.Unmap(), r.source.Unmap()
		list = append(list, r)
	}
	return list, nil
}

func (l link) route(r kernelRoute) *netlink.Route {
	n := &netlink.Route{LinkIndex: l.index, Dst: netOf(r.to), Protocol: netlink.RouteProtocol(r.protocol), Priority: routeMetric}
	if r.gateway.IsValid() {
		n.Gw = r.gateway.AsSlice()
	} else {
		n.Scope = netlink.SCOPE_LINK
	}
	if r.source.IsValid() {
		n.Src = r.source.AsSlice()
	}
	if r.onLink {
		n.Flags = int(netlink.FLAG_ONLINK)
	}
	return n
}

func (linux) AddRoute(l link, r kernelRoute) error {
	if err := netlink.RouteAdd(l.route(r)); err != nil {
		return fmt.Errorf("adding the route to %s over %s: %w", r.to, l.name, err)
	}
	return nil
}

func (linux) DeleteRoute(l link, r kernelRoute) error {
	n := l.route(r)
	if r.protocol == unix.RTPROT_RA {
		n.Priority = 0 // the kernel's own metric
	}
	if err := netlink.RouteDel(n); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("removing the route to %s over %s: %w", r.to, l.name, err)
	}
	return nil
}

func (linux) Neighbor(a netip.Addr) (net.HardwareAddr, error) {
	family := netlink.FAMILY_V4
	if a.Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := again(func() ([]netlink.Neigh, error) { return netlink.NeighList(0, family) })
	if err != nil {
		return nil, fmt.Errorf("listing the neighbors: %w", err)
	}
	for _, n := range list {
		ip, _ := netip.AddrFromSlice(n.IP)
		if ip.Unmap() == a && n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) == 0 && len(n.HardwareAddr) == 6 {
			return n.HardwareAddr, nil
		}
	}
	return nil, nil
}

func (linux) Sysctl(name string) (string, error) {
	b, err := os.ReadFile(path.Join("/proc/sys", name))
	return strings.TrimSpace(string(b)), err
}

func (linux) SetSysctl(name, value string) error {
	return os.WriteFile(path.Join("/proc/sys", name), []byte(value), 0)
}

func (linux) Clock() (clock, error) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return clock{}, fmt.Errorf("reading the clock: %w", err)
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return clock{}, fmt.Errorf("reading the boot's name: %w", err)
	}
	return clock{now: time.Now(), boot: strings.TrimSpace(string(id)), up: time.Duration(up.Nano())}, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: slices.Clone(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
