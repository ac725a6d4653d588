package ipmi

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// socket sends and receives for a server.
type socket struct {
	conn *net.UDPConn
	log  *slog.Logger
}

// readBuffer holds some thousand small packets: 20 000 strangers' packets a
// second took some of a console's with the kernel's usual 208 KiB, and none
// with this.
const readBuffer = 1 << 20

// errTruncated says that a packet was longer than any we take.
var errTruncated = errors.New("packet too long")

// newSocket asks a socket that is bound to no address for the address each
// packet was sent to. A console drops answers from another one, and a board
// has many: IPv4, link-local, one or two for each prefix.
func newSocket(conn *net.UDPConn, log *slog.Logger) (*socket, error) {
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok && (a.IP == nil || a.IP.IsUnspecified()) {
		if err := wantDestination(conn); err != nil {
			return nil, fmt.Errorf("ipmi socket %v: %w", a, err)
		}
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("ipmi socket: %w", err)
	}
	// A burst of others' packets must not push out a console's, which comes
	// again only after a second. The kernel gives as much as it may.
	if err := conn.SetReadBuffer(readBuffer); err != nil {
		return nil, fmt.Errorf("ipmi socket: %w", err)
	}
	return &socket{conn: conn, log: log}, nil
}

// interrupt makes read return.
func (k *socket) interrupt() {
	if err := k.conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		k.log.Error("IPMI socket does not stop", "error", err)
	}
}

func (k *socket) read(w *worker) (int, error) {
	n, oobn, _, addr, err := k.conn.ReadMsgUDPAddrPort(w.in[:], w.from.control[:])
	if err != nil {
		return 0, err
	}
	w.from.addr, w.from.n, w.from.via = addr, oobn, k
	if n > maxPacket {
		return 0, errTruncated
	}
	return n, nil
}

func (k *socket) send(b []byte, to *peer) {
	if _, _, err := k.conn.WriteMsgUDPAddrPort(b, to.control[:to.n], to.addr); err != nil {
		// As if the network had lost it: the console asks again.
		k.log.Debug("IPMI packet not sent", "to", to.addr, "error", err)
	}
}
