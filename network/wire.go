package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A wire opens sockets on one interface. Tests have their own.
type wire interface {
	// DHCP opens a connection for an interface without address or, with from,
	// for one that has it.
	DHCP(l link, from netip.Addr) (dhcpConn, error)
	// ARP opens a connection that receives only what machines other than l
	// say as sender.
	ARP(l link, sender netip.Addr) (arpConn, error)
}

// An arpConn carries ARP packets over one interface.
type arpConn interface {
	// Send sends to one machine or, with nil, to all.
	Send(p arpPacket, to net.HardwareAddr) error
	// Receive waits for a packet until ctx ends.
	Receive(ctx context.Context) (arpPacket, error)
	Close() error
}

// sockets is the wire of the kernel.
type sockets struct{}

func (sockets) DHCP(l link, from netip.Addr) (dhcpConn, error) {
	if from.IsValid() {
		return boundDHCP(l, from)
	}
	// AF_PACKET, because without an address the kernel neither sends nor
	// receives. The filter keeps the board from waking for every packet.
	filter, err := bpf.Assemble(dhcpFilter())
	if err != nil {
		return nil, fmt.Errorf("DHCP's filter: %w", err)
	}
	raw, err := packet.Listen(l.netInterface(), packet.Datagram, unix.ETH_P_IP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket on %s: %w", l.name, err)
	}
	return &dhcpSocket{nclient4.NewBroadcastUDPConn(raw, &net.UDPAddr{Port: nclient4.ClientPort})}, nil
}

// boundDHCP opens an ordinary socket: the kernel then finds the server's MAC
// address and the way to it, and answers no ICMP in our stead.
func boundDHCP(l link, from netip.Addr) (dhcpConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, l.name),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
		}), err)
	}}
	// Not bound to the address: a server may broadcast its answer.
	c, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", nclient4.ClientPort))
	if err != nil {
		return nil, fmt.Errorf("opening the DHCP socket of %s on %s: %w", from, l.name, err)
	}
	return &dhcpSocket{c}, nil
}

// dhcpFilter lets whole UDP datagrams to the client's port through.
func dhcpFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 6, Size: 2}, // fragments have no ports
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 4},
		bpf.LoadMemShift{Off: 0}, // the IP header's length
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nclient4.ClientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	}
}

// dhcpSocket is a dhcpConn over UDP.
type dhcpSocket struct{ net.PacketConn }

func (s *dhcpSocket) Send(m *dhcpv4.DHCPv4, to netip.Addr) error {
	addr := &net.UDPAddr{IP: net.IPv4bcast, Port: nclient4.ServerPort}
	if to.IsValid() {
		addr.IP = to.AsSlice()
	}
	_, err := s.WriteTo(m.ToBytes(), addr)
	return err
}

func (s *dhcpSocket) Receive(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	b := make([]byte, 1<<16) // of any size that UDP has
	for {
		n, err := readFrom(ctx, s.PacketConn, b)
		if err != nil {
			return nil, err
		}
		// What is no DHCP message is nobody's answer.
		if m, err := dhcpv4.FromBytes(b[:n]); err == nil {
			return m, nil
		}
	}
}

// readFrom reads a packet, or returns os.ErrDeadlineExceeded when ctx ends.
func readFrom(ctx context.Context, c net.PacketConn, b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() {
		// If it fails the socket is closed, and the read ends of itself.
		_ = c.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	n, _, err := c.ReadFrom(b)
	return n, err
}

// An arpPacket is what matters of an ARP packet for IPv4 over Ethernet (RFC 826).
type arpPacket struct {
	reply     bool
	senderMAC net.HardwareAddr
	sender    netip.Addr
	targetMAC net.HardwareAddr // nil: unknown
	target    netip.Addr
}

const arpSize = 28

func (p arpPacket) encode() []byte {
	b := make([]byte, 0, arpSize)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their sizes, a request
	if p.reply {
		b[7] = 2
	}
	b = append(b, p.senderMAC...)
	b = append(b, p.sender.AsSlice()...)
	if p.targetMAC == nil {
		b = append(b, 0, 0, 0, 0, 0, 0)
	}
	b = append(b, p.targetMAC...)
	return append(b, p.target.AsSlice()...)
}

func decodeARP(b []byte) (arpPacket, error) {
	if len(b) < arpSize || !bytes.Equal(b[:7], []byte{0, 1, 8, 0, 6, 4, 0}) || b[7] != 1 && b[7] != 2 {
		return arpPacket{}, errors.New("no ARP packet for IPv4 over Ethernet")
	}
	return arpPacket{
		reply:     b[7] == 2,
		senderMAC: bytes.Clone(b[8:14]),
		sender:    netip.AddrFrom4([4]byte(b[14:18])),
		targetMAC: bytes.Clone(b[18:24]),
		target:    netip.AddrFrom4([4]byte(b[24:28])),
	}, nil
}

func (sockets) ARP(l link, sender netip.Addr) (arpConn, error) {
	filter, err := bpf.Assemble(arpFilter(sender, l.mac))
	if err != nil {
		return nil, fmt.Errorf("ARP's filter: %w", err)
	}
	c, err := packet.Listen(l.netInterface(), packet.Datagram, unix.ETH_P_ARP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("opening an ARP socket on %s: %w", l.name, err)
	}
	return &arpSocket{c}, nil
}

// arpFilter lets through what machines other than mac say as sender.
func arpFilter(sender netip.Addr, mac net.HardwareAddr) []bpf.Instruction {
	ip := sender.As4()
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 14, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(ip[:]), SkipTrue: 5},
		bpf.LoadAbsolute{Off: 8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(mac[:4]), SkipTrue: 2},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(mac[4:6])), SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	}
}

type arpSocket struct{ conn *packet.Conn }

func (s *arpSocket) Send(p arpPacket, to net.HardwareAddr) error {
	if to == nil {
		to = nclient4.BroadcastMac
	}
	_, err := s.conn.WriteTo(p.encode(), &packet.Addr{HardwareAddr: to})
	return err
}

func (s *arpSocket) Receive(ctx context.Context) (arpPacket, error) {
	b := make([]byte, 64)
	for {
		n, err := readFrom(ctx, s.conn, b)
		if err != nil {
			return arpPacket{}, err
		}
		if p, err := decodeARP(b[:n]); err == nil {
			return p, nil
		}
	}
}

func (s *arpSocket) Close() error { return s.conn.Close() }

// resolve asks by ARP for the MAC address of to: with mac, of that machine
// alone (RFC 4436 section 2.1.1: sent to it, so that no other machine learns an
// address that may be wrong here).
func resolve(ctx context.Context, w wire, l link, from, to netip.Addr, mac net.HardwareAddr) (net.HardwareAddr, error) {
	conn, err := w.ARP(l, to)
	if err != nil {
		return nil, err
	}
	defer conn.Close() // nothing was written that could be lost
	for {
		if err := conn.Send(arpPacket{senderMAC: l.mac, sender: from, target: to}, mac); err != nil {
			return nil, fmt.Errorf("asking for %s by ARP: %w", to, err)
		}
		p, err := receiveFor(ctx, conn, firstWait/2)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("asking for %s by ARP: %w", to, ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return nil, fmt.Errorf("asking for %s by ARP: %w", to, err)
		case p.reply && (mac == nil || bytes.Equal(p.senderMAC, mac)):
			return p.senderMAC, nil
		}
	}
}

// receiveFor receives a packet, or returns os.ErrDeadlineExceeded after wait.
func receiveFor(ctx context.Context, conn arpConn, wait time.Duration) (arpPacket, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p, err := conn.Receive(ctx)
	if ctx.Err() != nil {
		return arpPacket{}, os.ErrDeadlineExceeded
	}
	return p, err
}
