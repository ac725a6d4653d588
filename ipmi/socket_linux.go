package ipmi

import (
	"errors"
	"net"
	"syscall"
)

// wantDestination makes each read bring IP_PKTINFO or IPV6_PKTINFO, which
// hold the packet's destination and interface. Both have the same form when
// they are sent, where they choose source and interface (ip(7), RFC 3542
// section 6), so that an answer only has to give them back.
func wantDestination(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var v4 bool
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		v4 = a.IP.To4() != nil
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if v4 {
			set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		} else {
			// IPv4 packets on such a socket bring it too, with mapped addresses.
			set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
		}
	})
	return errors.Join(err, set)
}
