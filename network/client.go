package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// The times of the DHCP client.
const (
	// firstWait is how long the first message waits for an answer; each
	// further one waits twice as long, up to maxWait. RFC 2131 section 4.1
	// begins with 4 s; but the first frames after a link came up are often
	// lost, and a board that is asked for is to be there.
	firstWait = time.Second
	maxWait   = 64 * time.Second
	// requestTries is how often an offered or kept address is asked for.
	requestTries = 3
	// keptAfter is how long no server may answer before a kept address is
	// used although nobody confirmed it, and before people are told.
	keptAfter = 10 * time.Second
	// declineWait follows a declined address (RFC 2131 section 3.1 step 5).
	declineWait = 10 * time.Second
	// minRetry is the least between two messages of a renewal (section 4.4.5).
	minRetry = time.Minute
	// otherNAK is how long a refusal by a server that did not grant the kept
	// address waits for the word of the one that did.
	otherNAK = 200 * time.Millisecond
)

// A dhcpConn carries DHCP messages over one interface.
type dhcpConn interface {
	// Send sends to a server or, with the zero Addr, to all.
	Send(m *dhcpv4.DHCPv4, to netip.Addr) error
	// Receive waits for a message until ctx ends.
	Receive(ctx context.Context) (*dhcpv4.DHCPv4, error)
	Close() error
}

// A client finds and keeps one DHCP lease on a link that is up.
type client struct {
	log      *slog.Logger
	mac      net.HardwareAddr
	hostName string
	pause    time.Duration // after a declined address
	// dial opens a connection, for an interface without address or from one.
	dial func(from netip.Addr) (dhcpConn, error)
	// resolve asks by ARP, as from, for the MAC of to; of any machine that has
	// the address, or of one whose MAC is known.
	resolve func(ctx context.Context, from, to netip.Addr, mac net.HardwareAddr) (net.HardwareAddr, error)
	// found is told each change. It must not wait for the client's end.
	found func(ctx context.Context, n news)

	lastBad string // the last reason why an answer could not be used
}

// news is what a client tells.
type news struct {
	lease *lease // nil: there is none (any more)
	// silent: no server has answered for keptAfter.
	silent bool
	why    string // in words for people, where lease is nil
}

// errGone says that a server took an address back.
var errGone = errors.New("the server refused the address")

// run works until ctx ends. kept is a lease from before, to be confirmed;
// declined is one whose address another machine uses.
func (c *client) run(ctx context.Context, kept, declined *lease) {
	if declined != nil {
		c.decline(ctx, declined)
		sleep(ctx, c.pause)
	}
	for refused := 0; ctx.Err() == nil; {
		l, err := c.acquire(ctx, kept)
		if err != nil {
			return // ctx ended
		}
		since := time.Now()
		why := c.hold(ctx, c.keep(ctx, l))
		if ctx.Err() != nil {
			return
		}
		kept = nil
		c.found(ctx, news{why: why})
		// A server that grants and refuses in turn does not get the board to spin.
		if time.Since(since) > maxWait {
			refused = 0
		}
		rest(ctx, refused)
		refused++
	}
}

// rest comes before the next try after a refusal, but for the first.
func rest(ctx context.Context, refused int) {
	if refused > 0 {
		sleep(ctx, backoff(refused-1))
	}
}

// acquire answers a lease that a server acknowledged. It begins with the kept
// one (INIT-REBOOT, RFC 2131 section 3.2) and goes on for ever. Its error is
// that ctx ended.
//
// Section 3.2 lets a client use the kept address only after an answer, or when
// none comes; RFC 4436 lets it at once if the gateway of then, asked by ARP with
// its MAC address, answers: then the link is the same. Both questions go out
// together, so that a board whose DHCP server starts later than it does (after a
// power cut most do) answers within milliseconds.
func (c *client) acquire(ctx context.Context, kept *lease) (*lease, error) {
	start := time.Now()
	told := false
	refused := 0
	for try := 0; ctx.Err() == nil; try++ {
		conn, err := c.dial(netip.Addr{})
		if err != nil {
			c.log.Warn("DHCP cannot listen", "error", err)
			sleep(ctx, backoff(try))
			continue
		}
		l, err := c.attempt(ctx, conn, kept, try, start)
		if err := conn.Close(); err != nil {
			c.log.Debug("closing the DHCP socket", "error", err)
		}
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, errGone):
			kept = nil
			c.found(ctx, news{why: "the DHCP server refused it"})
			rest(ctx, refused)
			refused++
		case !errors.Is(err, os.ErrDeadlineExceeded):
			c.log.Warn("DHCP", "error", err)
			sleep(ctx, backoff(try))
		}
		if kept != nil && kept.over(time.Now()) {
			kept = nil
			c.found(ctx, news{why: "the lease is over"})
		}
		if !told && time.Since(start) >= keptAfter {
			told = true
			c.found(ctx, news{lease: kept, silent: true})
		}
	}
	return nil, ctx.Err()
}

// attempt asks once: the first time for the kept address, else for any.
func (c *client) attempt(ctx context.Context, conn dhcpConn, kept *lease, try int, start time.Time) (*lease, error) {
	if try == 0 && kept != nil {
		return c.reboot(ctx, conn, kept, start)
	}
	m, err := c.message(dhcpv4.MessageTypeDiscover, start)
	if err != nil {
		return nil, err
	}
	if kept != nil {
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(kept.address.Addr().AsSlice()))
	}
	wait := backoff(try)
	if kept != nil {
		if at, ok := kept.ends(); ok {
			wait = min(wait, time.Until(at))
		}
	}
	if left := keptAfter - time.Since(start); left > 0 {
		wait = min(wait, left)
	}
	offer, err := c.ask(ctx, conn, m, netip.Addr{}, wait, func(a answer) bool { return a.kind == dhcpv4.MessageTypeOffer })
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	if m, err = c.message(dhcpv4.MessageTypeRequest, start); err != nil {
		return nil, err
	}
	// The server knows its offer by the transaction (section 4.3.2).
	m.TransactionID = offer.xid
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.address.Addr().AsSlice()))
	m.UpdateOption(dhcpv4.OptServerIdentifier(offer.server.AsSlice()))
	for i := range requestTries {
		ack, err := c.ask(ctx, conn, m, netip.Addr{}, firstWait<<i, func(a answer) bool {
			return a.kind != dhcpv4.MessageTypeOffer && a.server == offer.server
		})
		if err == nil {
			return granted(ack, sent)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
	return nil, os.ErrDeadlineExceeded
}

// reboot asks for the kept address.
func (c *client) reboot(ctx context.Context, conn dhcpConn, kept *lease, start time.Time) (*lease, error) {
	recognise, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.recognise(recognise, kept)
	}()
	// What a server says goes before what the link looks like.
	defer func() { cancel(); <-done }()

	m, err := c.message(dhcpv4.MessageTypeRequest, start)
	if err != nil {
		return nil, err
	}
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(kept.address.Addr().AsSlice()))
	mine := func(a answer) bool {
		return a.kind == dhcpv4.MessageTypeAck || a.kind == dhcpv4.MessageTypeNak && a.server == kept.server
	}
	for i := range requestTries {
		sent := time.Now()
		var foreign bool
		a, err := c.ask(ctx, conn, m, netip.Addr{}, firstWait<<i, func(a answer) bool {
			foreign = a.kind == dhcpv4.MessageTypeNak && a.server != kept.server
			return foreign || mine(a)
		})
		if err == nil && foreign {
			// A second server on the link that does not know the address must
			// not take it away from the first.
			if a, err = c.receive(ctx, conn, m.TransactionID, otherNAK, mine); errors.Is(err, os.ErrDeadlineExceeded) {
				return nil, errGone
			}
		}
		if err == nil {
			return granted(a, sent)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
	return nil, os.ErrDeadlineExceeded
}

// recognise uses the kept address at once where the gateway is the same (RFC
// 4436 section 2.2).
func (c *client) recognise(ctx context.Context, kept *lease) {
	if kept.confirmed || kept.gatewayMAC == nil {
		return // in use, or nothing to know the link by
	}
	ctx, cancel := context.WithTimeout(ctx, 2*firstWait)
	defer cancel()
	if _, err := c.resolve(ctx, kept.address.Addr(), kept.gateway, kept.gatewayMAC); err != nil {
		c.log.Debug("the gateway of the kept lease does not answer", "gateway", kept.gateway, "error", err)
		return
	}
	c.found(ctx, news{lease: kept})
}

// granted turns an answer to a request into a lease.
func granted(a answer, sent time.Time) (*lease, error) {
	if a.kind == dhcpv4.MessageTypeNak {
		return nil, errGone
	}
	return &lease{terms: a.terms, granted: sent, confirmed: true}, nil
}

// keep tells of a lease, and answers it with what its link is known by.
func (c *client) keep(ctx context.Context, l *lease) *lease {
	c.found(ctx, news{lease: l})
	if !l.gateway.IsValid() || l.gatewayMAC != nil {
		return l
	}
	limited, cancel := context.WithTimeout(ctx, 3*firstWait)
	defer cancel()
	mac, err := c.resolve(limited, l.address.Addr(), l.gateway, nil)
	if err != nil {
		c.log.Debug("the gateway does not answer ARP", "gateway", l.gateway, "error", err)
		return l
	}
	next := *l // the other is in somebody else's hands
	next.gatewayMAC = mac
	c.found(ctx, news{lease: &next})
	return &next
}

// hold renews the lease for as long as it lasts (RFC 2131 section 4.4.5), and
// answers why it lasts no longer.
func (c *client) hold(ctx context.Context, l *lease) (why string) {
	for {
		end, ends := l.ends()
		if !ends {
			<-ctx.Done()
			return ""
		}
		sleep(ctx, time.Until(l.granted.Add(l.t1)))
		if ctx.Err() != nil {
			return ""
		}
		next, err := c.renew(ctx, l, l.server, l.granted.Add(l.t2))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			next, err = c.renew(ctx, l, netip.Addr{}, end)
		}
		switch {
		case ctx.Err() != nil:
			return ""
		case errors.Is(err, errGone):
			return "the DHCP server refused it"
		case err != nil:
			return "the lease is over: no DHCP server renewed it"
		}
		if next.gateway == l.gateway {
			next.gatewayMAC = l.gatewayMAC
		}
		l = c.keep(ctx, next)
	}
}

// renew asks the server, or all of them, until the time end.
func (c *client) renew(ctx context.Context, l *lease, server netip.Addr, end time.Time) (*lease, error) {
	for failed := 0; time.Now().Before(end); {
		conn, err := c.dial(l.address.Addr())
		if err != nil {
			c.log.Warn("DHCP cannot listen", "error", err)
			sleep(ctx, min(backoff(failed), time.Until(end)))
			failed++
			continue
		}
		next, err := c.renewOver(ctx, conn, l, server, end)
		if err := conn.Close(); err != nil {
			c.log.Debug("closing the DHCP socket", "error", err)
		}
		return next, err
	}
	return nil, os.ErrDeadlineExceeded
}

func (c *client) renewOver(ctx context.Context, conn dhcpConn, l *lease, server netip.Addr, end time.Time) (*lease, error) {
	begun := time.Now()
	for {
		left := time.Until(end)
		if left <= 0 {
			return nil, os.ErrDeadlineExceeded
		}
		m, err := c.message(dhcpv4.MessageTypeRequest, begun)
		if err != nil {
			return nil, err
		}
		m.ClientIPAddr = l.address.Addr().AsSlice()
		sent := time.Now()
		a, err := c.ask(ctx, conn, m, server, min(left, max(left/2, minRetry)), func(a answer) bool {
			// To a refused renewal only the lease's own server is heard.
			return a.kind == dhcpv4.MessageTypeAck && a.address.Addr() == l.address.Addr() ||
				a.kind == dhcpv4.MessageTypeNak && (!server.IsValid() || a.server == l.server)
		})
		if err == nil {
			return granted(a, sent)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
}

// decline tells the server that another machine has the address.
func (c *client) decline(ctx context.Context, l *lease) {
	m, err := c.message(dhcpv4.MessageTypeDecline, time.Now())
	if err == nil {
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(l.address.Addr().AsSlice()))
		m.UpdateOption(dhcpv4.OptServerIdentifier(l.server.AsSlice()))
		// Table 5 of RFC 2131: must not be in a DHCPDECLINE.
		m.DeleteOption(dhcpv4.OptionParameterRequestList)
		var conn dhcpConn
		if conn, err = c.dial(netip.Addr{}); err == nil {
			err = errors.Join(conn.Send(m, netip.Addr{}), conn.Close())
		}
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("declining an address", "address", l.address.Addr(), "error", err)
	}
}

// An answer is a server's message that was checked.
type answer struct {
	terms
	kind dhcpv4.MessageType
	xid  dhcpv4.TransactionID
}

// ask sends m and waits for an answer that take accepts. It returns
// os.ErrDeadlineExceeded after wait, and ctx's error when that ends.
func (c *client) ask(ctx context.Context, conn dhcpConn, m *dhcpv4.DHCPv4, to netip.Addr, wait time.Duration, take func(answer) bool) (answer, error) {
	if err := conn.Send(m, to); err != nil {
		// A lost message: the link may be coming up, or the route be missing.
		c.log.Debug("sending a DHCP message", "type", m.MessageType(), "error", err)
	}
	return c.receive(ctx, conn, m.TransactionID, wait, take)
}

func (c *client) receive(ctx context.Context, conn dhcpConn, xid dhcpv4.TransactionID, wait time.Duration, take func(answer) bool) (answer, error) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		m, err := conn.Receive(limited)
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		if limited.Err() != nil {
			return answer{}, os.ErrDeadlineExceeded
		}
		if err != nil {
			// The interface went down; its coming back is somebody else's news.
			c.log.Debug("receiving DHCP messages", "error", err)
			sleep(limited, firstWait)
			continue
		}
		if m.TransactionID != xid {
			continue
		}
		a, err := parseAnswer(m, c.mac)
		if err != nil {
			// Once for each reason: who sends one may send thousands.
			if c.lastBad != err.Error() {
				c.lastBad = err.Error()
				c.log.Warn("a DHCP answer that cannot be used", "error", err)
			}
			continue
		}
		if take(a) {
			return a, nil
		}
	}
}

// parseAnswer checks a message of a server to the machine mac.
func parseAnswer(m *dhcpv4.DHCPv4, mac net.HardwareAddr) (answer, error) {
	a := answer{kind: m.MessageType(), xid: m.TransactionID}
	if m.OpCode != dhcpv4.OpcodeBootReply || m.ClientHWAddr.String() != mac.String() {
		return answer{}, errors.New("it is for another machine")
	}
	var err error
	switch a.kind {
	case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck:
		a.terms, err = parseTerms(m)
	case dhcpv4.MessageTypeNak:
		// Some servers leave their name out; then it is nobody's refusal.
		a.server, _ = option(m, dhcpv4.OptionServerIdentifier)
	default:
		err = errors.New("it is no answer")
	}
	if err != nil {
		return answer{}, fmt.Errorf("%v from %v: %w", a.kind, m.ServerIdentifier(), err)
	}
	return a, nil
}

// message makes what all messages have in common.
func (c *client) message(kind dhcpv4.MessageType, since time.Time) (*dhcpv4.DHCPv4, error) {
	var xid dhcpv4.TransactionID
	binary.BigEndian.PutUint32(xid[:], rand.Uint32())
	m, err := dhcpv4.New(
		dhcpv4.WithTransactionID(xid),
		dhcpv4.WithHwAddr(c.mac),
		dhcpv4.WithMessageType(kind),
		// The hardware type and address (RFC 2132 section 9.14): the same
		// after any loss of state, and what the firmware of the board sends.
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, c.mac...))),
	)
	if err != nil {
		return nil, fmt.Errorf("making a DHCP message: %w", err)
	}
	m.NumSeconds = uint16(min(time.Since(since)/time.Second, 0xffff))
	if kind == dhcpv4.MessageTypeDecline {
		return m, nil
	}
	m.UpdateOption(dhcpv4.OptClassIdentifier("nitrino"))
	if name, _, _ := strings.Cut(c.hostName, "."); name != "" {
		m.UpdateOption(dhcpv4.OptHostName(name))
	}
	m.UpdateOption(dhcpv4.OptParameterRequestList(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionNTPServers, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue))
	return m, nil
}

// backoff is how long attempt number try waits, give or take an eighth so that
// boards that start together do not stay together.
func backoff(try int) time.Duration {
	wait := min(firstWait<<min(try, 10), maxWait)
	return wait - wait/8 + rand.N(wait/4)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
