package pef

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sel"
)

const (
	// maxAlerts bounds the alerts that wait to be sent or acknowledged.
	maxAlerts = 64
	// offline is how long an alert waits for a network to go out to, which
	// counts as no try.
	offline = 15 * time.Minute
)

// A job is an alert to be sent by a policy.
type job struct {
	Record   [sel.RecordLen]byte `json:"record"`
	Severity byte                `json:"severity"`
	Policy   byte                `json:"policy"`
	Filter   byte                `json:"filter"` // the first that matched
	Sequence uint16              `json:"sequence"`
}

// jobs are the alerts under way. PEF.mu guards it.
type jobs struct {
	start     func(job) // nil while Run does not
	immediate func(send func(context.Context))
	waiting   map[uint16]*waiter
	// overflow: alerts were lost; overflowTold: and it was told.
	overflow, overflowTold bool
}

// A waiter is an alert that an acknowledgement is waited for.
type waiter struct {
	record [sel.RecordLen]byte
	acked  chan struct{}
}

// deliver sends an alert by the entries of its policy (chapter 17).
func (p *PEF) deliver(ctx context.Context, j job) {
	p.mu.Lock()
	from := p.alertsFrom
	p.mu.Unlock()
	if !sleep(ctx, time.Until(from)) {
		return // it is kept
	}
	conf := p.config.Load()
	var before error // of the alert before
	sent := false
	for i := range conf.Policies {
		e := &conf.Policies[i]
		if !e.enabled() || e.number() != j.Policy {
			continue
		}
		if sent && before == nil {
			// There is one channel and one type of destination: what wants to
			// go on with another of them has nowhere to go.
			if e.rule() == ruleStop || e.rule() == ruleNextChannel || e.rule() == ruleNextDestination {
				break
			}
			if e.rule() == ruleNextEntry {
				continue
			}
		}
		before = p.alert(ctx, j, e.destination(), conf.stringFor(e, j.Filter))
		if ctx.Err() != nil {
			return
		}
		sent = true
		p.tellAlert(fmt.Sprintf("of event filter %d", j.Filter), j, e.destination(), host.Origin{Via: via}, before)
	}
	p.done(j)
}

// tellAlert tells what became of an alert, which came as why says.
func (p *PEF) tellAlert(why string, j job, destination int, from host.Origin, err error) {
	e := host.Event{Kind: "pef.alert", Origin: from,
		Message: fmt.Sprintf("Alert %d %s was sent to destination %d.", j.Sequence, why, destination)}
	if err != nil {
		e.Severity = host.Warning
		e.Message = fmt.Sprintf("Alert %d %s did not reach destination %d: %v.", j.Sequence, why, destination, err)
	}
	p.opt.Events.Add(e)
}

var (
	errSilenced    = errors.New("alerting is switched off on the channel")
	errNowhere     = errors.New("the destination has no address")
	errUnconfirmed = errors.New("nobody acknowledged it")
)

// alert sends one trap as often as its destination wants it (table 23-4,
// parameter 18). It succeeds when it was acknowledged, or, where nobody is asked
// to, sent.
func (p *PEF) alert(ctx context.Context, j job, destination int, text string) error {
	d, ok := p.opt.Destinations.Destination(destination)
	switch {
	case p.opt.Alerting != nil && !p.opt.Alerting():
		return errSilenced
	case !ok || !d.Address.IsValid():
		return errNowhere
	}
	w := &waiter{record: j.Record, acked: make(chan struct{})}
	if d.Acknowledge {
		p.mu.Lock()
		p.jobs.waiting[j.Sequence] = w
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			delete(p.jobs.waiting, j.Sequence)
			p.mu.Unlock()
		}()
	}
	t := p.trap(j, text)
	begun, result := time.Now(), error(nil)
	for tries := 0; tries <= d.Retries; {
		result = p.send(netip.AddrPortFrom(d.Address, p.opt.Port), func(from netip.Addr) []byte {
			t.from, t.uptime = from, time.Since(p.start)
			return t.packet()
		})
		switch {
		case result == nil:
			tries++
		case time.Since(begun) > offline:
			return fmt.Errorf("sending it: %w", result)
		}
		if result == nil && !d.Acknowledge && tries > d.Retries {
			return nil
		}
		pause := time.NewTimer(d.Interval)
		select {
		case <-w.acked:
			pause.Stop()
			return nil
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
	return errUnconfirmed
}

// trap is a job's trap but for where it is sent from.
func (p *PEF) trap(j job, text string) trap {
	conf := p.config.Load()
	t := trap{community: p.opt.Destinations.Community(), guid: p.opt.GUID, sequence: j.Sequence, severity: j.Severity,
		record: j.Record, maker: p.opt.Maker, product: p.opt.Product, text: text}
	if conf.UseGUID {
		t.guid = conf.GUID
	}
	if p.opt.Entity != nil {
		t.entity[0], t.entity[1] = p.opt.Entity(j.Record[11])
	}
	return t
}

// sendUDP sends one datagram.
func sendUDP(to netip.AddrPort, packet func(from netip.Addr) []byte) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	from := netip.Addr{}
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		from = a.AddrPort().Addr().Unmap()
	}
	_, err = c.Write(packet(from))
	return errors.Join(err, c.Close())
}

// sleep waits; false: ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// petAcknowledge: section 30.8. Anybody may send it; it counts where it repeats
// what the trap said. That it did not is not told: a second acknowledgement is
// as good as the first, and strangers learn nothing.
func (p *PEF) petAcknowledge(c *command.Call) command.Code {
	p.mu.Lock()
	defer p.mu.Unlock()
	sequence := binary.LittleEndian.Uint16(c.Data)
	w, ok := p.jobs.waiting[sequence]
	if !ok {
		return command.OK
	}
	r := &w.record
	if binary.LittleEndian.Uint32(c.Data[2:]) == timestamp(r) && c.Data[6] == source(r) && c.Data[7] == r[7] && c.Data[8] == r[11] && string(c.Data[9:12]) == string(r[13:16]) {
		delete(p.jobs.waiting, sequence)
		close(w.acked)
	}
	return command.OK
}

// The states of Alert Immediate (section 30.7).
const (
	immediateNone    = 0x00
	immediateSuccess = 0x01
	immediateFailed  = 0x03 // for want of an acknowledgement, or of a network
	immediateRunning = 0xFF
)

// codeAlertRunning: an alert is in progress on the channel (section 30.7).
const codeAlertRunning command.Code = 0x81

// alertImmediate: section 30.7. It is not kept over a restart: who asks for it
// looks at how it ends.
func (p *PEF) alertImmediate(c *command.Call) command.Code {
	const initiate, status, forget = 0, 1, 2
	if len(c.Data) != 3 && len(c.Data) != 11 {
		return command.BadLength
	}
	if !command.IsLAN(c.Data[0]) || c.Data[1]&0x30 != 0 {
		return command.InvalidField
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch c.Data[1] >> 6 {
	case initiate:
		return p.startImmediate(c)
	case status:
		c.Put(p.immediate)
	case forget:
		if p.immediate != immediateRunning {
			p.immediate = immediateNone
		}
		c.Put(p.immediate)
	default:
		return command.InvalidField
	}
	return command.OK
}

// startImmediate begins Alert Immediate, with p.mu held.
func (p *PEF) startImmediate(c *command.Call) command.Code {
	const withString = 0x80
	destination, text := int(c.Data[1]&0x0F), ""
	if d, ok := p.opt.Destinations.Destination(destination); !ok || !d.Address.IsValid() {
		return command.InvalidField
	}
	if c.Data[2]&withString != 0 {
		n := c.Data[2] &^ withString
		if n > alertStrings {
			return command.InvalidField
		}
		text = p.config.Load().Strings[n].String()
	}
	switch {
	case p.immediate == immediateRunning:
		return codeAlertRunning
	case p.jobs.immediate == nil:
		return command.Busy // the service is not running
	}
	j := job{Sequence: p.nextSequence()}
	r := &j.Record
	r[2], r[7] = recordEvent, command.BMCAddr
	binary.LittleEndian.PutUint32(r[3:], uint32(c.Now.Unix()))
	if e := c.Data[3:]; len(e) > 0 {
		r[7] = e[0]
		copy(r[9:], e[1:])
	}
	p.immediate = immediateRunning
	// A script that asks on and on is told of once a minute.
	quiet := p.asked == c.Origin && c.Now.Sub(p.askedAt) < tellAgain
	if !quiet {
		p.asked, p.askedAt = c.Origin, c.Now
	}
	from := c.Origin
	p.jobs.immediate(func(ctx context.Context) {
		err := p.alert(ctx, j, destination, text)
		p.mu.Lock()
		p.immediate = immediateSuccess
		if err != nil {
			p.immediate = immediateFailed
		}
		p.mu.Unlock()
		if !quiet {
			p.tellAlert("as asked for", j, destination, from, err)
		}
	})
	return command.OK
}
