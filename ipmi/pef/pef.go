// Package pef is platform event filtering: what the board does of itself when an
// event is logged (chapters 17 and 30 of the IPMI v2.0 specification, revision
// 1.1). It switches the host, and sends alerts as Platform Event Traps.
package pef

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/lan"
	"github.com/nitrino/nitrino/ipmi/sel"
)

// SEL is the log whose entries are filtered; sel.Log is one.
type SEL interface {
	// Since answers the entries after seq, oldest first, at most max.
	Since(seq uint64, max int) []sel.Entry
	// Wait blocks until there is an entry after seq, or ctx ends.
	Wait(ctx context.Context, seq uint64) error
	// Last is the newest entry's number.
	Last() uint64
}

// Power is what the actions need; host.Power is one.
type Power interface {
	Supports(host.Action) bool
	Request(host.Action, host.Cause, host.Origin) (*host.Operation, error)
}

// Destinations tell where alerts go; lan.LAN has them.
type Destinations interface {
	Destination(n int) (lan.Destination, bool)
	Community() string
}

// Events is where changes, actions and alerts are told.
type Events interface {
	Add(host.Event) host.Event
}

// Options are what New takes.
type Options struct {
	SEL          SEL
	Power        Power
	Destinations Destinations
	Store        *store.Store
	Events       Events
	Log          *slog.Logger
	// GUID is the host's UUID, most significant byte first. Traps have it
	// where no other was configured.
	GUID [16]byte
	// Maker (an IANA enterprise number) and Product are those of Get Device ID.
	Maker   uint32
	Product uint16
	// Entity answers the entity ID and instance of a sensor (table 43-13), for
	// traps. Nil: they are unspecified.
	Entity func(sensor byte) (id, instance byte)
	// Alerting says whether the channel's access allows alerts (Set Channel
	// Access); it never blocks. Nil: it does.
	Alerting func() bool
	// Port is the UDP port that traps go to; 0: 162.
	Port uint16
}

// A PEF filters events. Its methods may be called from several goroutines at
// once.
type PEF struct {
	opt   Options
	can   action // what the wires can do
	start time.Time
	send  sender

	config atomic.Pointer[config]
	// changing is held by the one command that changes the configuration or
	// the place in the log; saving by who writes the state; mu only for a
	// moment. They are taken in this order.
	changing, saving sync.Mutex

	mu         sync.Mutex
	state      state
	kept       bool      // the state was read from the disk
	version    uint64    // counts the states to be kept
	saved      uint64    // the newest that is
	inProgress time.Time // when parameter 0 was last set
	told       host.Origin
	toldAt     time.Time
	wake       func() // ends the engine's wait
	woken      bool
	postpone   postpone
	quietUntil time.Time   // no actions before: the startup delay
	alertsFrom time.Time   // no alerts before: the alert startup delay
	immediate  byte        // the status of Alert Immediate
	asked      host.Origin // who caused its last event, and when
	askedAt    time.Time
	jobs       jobs
}

// via is how the filter names itself as an origin.
const via = "pef"

const (
	bucket    = "pef"
	configKey = "config"
	stateKey  = "state"

	// lockLife ends a "set in progress" that its console never completed.
	lockLife = 60 * time.Second
	// tellAgain is how long further changes by the same person are told by
	// the first one's event: consoles write field by field.
	tellAgain = time.Minute
)

// New makes a PEF from what was kept.
func New(o Options) (*PEF, error) {
	if o.Port == 0 {
		o.Port = 162
	}
	p := &PEF{opt: o, can: actionAlert, start: time.Now(), send: sendUDP}
	p.jobs.waiting = make(map[uint16]*waiter)
	for _, a := range powerActions {
		if o.Power.Supports(a.do) {
			p.can |= a.bit
		}
	}
	conf := factoryConfig(p.can)
	if _, err := o.Store.GetJSON(bucket, configKey, conf); err != nil {
		return nil, fmt.Errorf("the event filters: %w", err)
	}
	p.config.Store(conf)
	var err error
	if p.kept, err = o.Store.GetJSON(bucket, stateKey, &p.state); err != nil {
		return nil, fmt.Errorf("the place of the event filters in the log: %w", err)
	}
	return p, nil
}

// Commands are the commands of chapter 30.
func (p *PEF) Commands() []command.Command {
	return []command.Command{
		{NetFn: command.Sensor, Cmd: 0x10, Name: "Get PEF Capabilities", Privilege: command.User, Run: p.getCapabilities},
		{NetFn: command.Sensor, Cmd: 0x11, Name: "Arm PEF Postpone Timer", Privilege: command.Administrator, Conduct: command.Changes, MinLen: 1, MaxLen: 1, Run: p.armPostpone},
		{NetFn: command.Sensor, Cmd: 0x12, Name: "Set PEF Configuration Parameters", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 2, MaxLen: 22, Run: p.setConfig},
		{NetFn: command.Sensor, Cmd: 0x13, Name: "Get PEF Configuration Parameters", Privilege: command.Operator, MinLen: 3, MaxLen: 3, Run: p.getConfig},
		{NetFn: command.Sensor, Cmd: 0x14, Name: "Set Last Processed Event ID", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 3, MaxLen: 3, Run: p.setLastProcessed},
		{NetFn: command.Sensor, Cmd: 0x15, Name: "Get Last Processed Event ID", Privilege: command.Administrator, Run: p.getLastProcessed},
		{NetFn: command.Sensor, Cmd: 0x16, Name: "Alert Immediate", Privilege: command.Administrator, Conduct: command.Changes, MinLen: 3, MaxLen: 11, Run: p.alertImmediate},
		{NetFn: command.Sensor, Cmd: 0x17, Name: "PET Acknowledge", Privilege: command.None, Sessionless: true, MinLen: 12, MaxLen: 12, Run: p.petAcknowledge},
	}
}

// locked says, with p.mu held, whether a console has set "set in progress". One
// that dies must not lock out all others, so it is over after a while.
func (p *PEF) locked(now time.Time) bool {
	return !p.inProgress.IsZero() && now.Sub(p.inProgress) < lockLife
}

func (p *PEF) destinationExists(n int) bool {
	_, ok := p.opt.Destinations.Destination(n)
	return ok
}

// getCapabilities: section 30.1.
func (p *PEF) getCapabilities(c *command.Call) command.Code {
	const version = 0x51 // 1.5, the digits swapped
	c.Put(version, byte(p.can), filters)
	return command.OK
}

// getLastProcessed: section 30.6.
func (p *PEF) getLastProcessed(c *command.Call) command.Code {
	var added [4]byte
	last := uint16(0xFFFF) // the SEL is empty
	if e, ok := newest(p.opt.SEL); ok {
		last = e.ID()
		copy(added[:], e.Record[3:7])
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Put(added[:]...)
	c.Put16(last)
	c.Put16(p.state.SoftwareID)
	c.Put16(p.state.ProcessedID)
	return command.OK
}

// newest is the SEL's last entry, which may have been deleted.
func newest(s SEL) (sel.Entry, bool) {
	last := s.Last()
	list := s.Since(max(last, 1)-1, 1)
	if len(list) == 0 {
		list = s.Since(0, 0)
	}
	if len(list) == 0 {
		return sel.Entry{}, false
	}
	return list[len(list)-1], true
}

// setLastProcessed: section 30.5.
func (p *PEF) setLastProcessed(c *command.Call) command.Code {
	const byBMC = 0x01
	if c.Data[0]&^byBMC != 0 {
		return command.InvalidField
	}
	id := uint16(c.Data[1]) | uint16(c.Data[2])<<8
	var seq uint64
	for _, e := range p.opt.SEL.Since(0, 0) {
		if e.ID() == id {
			seq = e.Seq
		}
	}
	if seq == 0 {
		return command.NotPresent
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.Lock()
	at, atID := &p.state.Software, &p.state.SoftwareID
	if c.Data[0] == byBMC {
		at, atID = &p.state.Processed, &p.state.ProcessedID
	}
	if *at == seq && *atID == id && p.saved == p.version {
		p.mu.Unlock()
		return command.OK
	}
	*at, *atID = seq, id
	p.kick()
	p.mu.Unlock()
	return command.Result(p.opt.Log, "Set Last Processed Event ID", p.save())
}

// sender sends a packet that is made when the address it goes from is known.
type sender func(to netip.AddrPort, packet func(from netip.Addr) []byte) error
