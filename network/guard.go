package network

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"
)

// The times of the detection of address conflicts (RFC 5227 section 1.1).
const (
	probes           = 3
	probeInterval    = 300 * time.Millisecond
	announcements    = 2
	announceInterval = 2 * time.Second
	defendInterval   = 10 * time.Second
)

// guard watches over an IPv4 address that has just been configured: it asks
// whether another machine has it, announces it, and then waits for a machine
// that claims it, until ctx ends. conflict is told of each such machine, at most
// once in defendInterval; settled is false while the address is new.
//
// RFC 5227 wants the questions before the address is used, which takes seconds
// that a board's start does not have. They come after it instead: a wrong
// address is noticed within a second and, if it came by DHCP, given back.
func guard(ctx context.Context, log *slog.Logger, w wire, l link, own netip.Addr, conflict func(other net.HardwareAddr, settled bool)) {
	conn, err := w.ARP(l, own)
	if err != nil {
		log.Warn("address conflicts are not watched for", "address", own, "error", err)
		return
	}
	defer conn.Close() // nothing was written that could be lost
	send := func(p arpPacket) {
		if err := conn.Send(p, nil); err != nil {
			log.Debug("sending ARP", "address", own, "error", err)
		}
	}
	probe := arpPacket{senderMAC: l.mac, sender: netip.IPv4Unspecified(), target: own}
	announcement := arpPacket{senderMAC: l.mac, sender: own, target: own}
	wait := func(d time.Duration) (arpPacket, error) { return receiveFor(ctx, conn, d) }

	for step := 0; ctx.Err() == nil; {
		settled := step >= probes
		var p arpPacket
		var err error
		switch {
		case !settled:
			send(probe)
			p, err = wait(probeInterval)
		case step < probes+announcements:
			send(announcement)
			p, err = wait(announceInterval)
		default:
			p, err = conn.Receive(ctx)
		}
		step++
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			log.Debug("receiving ARP", "address", own, "error", err)
			sleep(ctx, firstWait) // the interface went down
		default:
			conflict(p.senderMAC, settled)
			// Defended once (section 2.4 (b), (c)); and not more often than
			// this, or two machines would shout at each other for ever.
			if settled {
				send(announcement)
			}
			sleep(ctx, defendInterval)
		}
	}
}
