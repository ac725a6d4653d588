// Package lan has the LAN configuration parameters: the board's own addresses,
// and where its alerts go (chapter 23 of the IPMI v2.0 specification, revision
// 1.1).
package lan

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Events is where changes are told.
type Events interface {
	Add(host.Event) host.Event
}

// Lockout is what a user name is locked out after (parameter 26).
type Lockout struct {
	// Threshold is how many wrong passwords it takes; 0: there is no limit.
	Threshold int
	// Forget is after how long without one they are forgotten, and Duration
	// how long the lockout lasts; 0: for ever.
	Forget, Duration time.Duration
}

// Options are what New takes.
type Options struct {
	// Network is the board's own network. Nil: it cannot be set from here, and
	// Fixed is how it is.
	Network Network
	Fixed   State
	// Port is the UDP port that the board answers RMCP on.
	Port uint16
	// CipherSuites answers the suites on offer, at most 16 (table 22-20). It
	// never blocks.
	CipherSuites func() []byte
	// Lockout answers what holds now; it never blocks.
	Lockout func() Lockout
	Store   *store.Store
	Events  Events
	Log     *slog.Logger
}

// A LAN is the channel's configuration. Its methods may be called from several
// goroutines at once.
type LAN struct {
	opt Options

	// changing is held by the one command that changes something, while it
	// waits for the disk or the network; mu only for a moment.
	changing sync.Mutex

	mu         sync.Mutex
	inProgress time.Time // of the last write under parameter 0's lock; zero: none
	draft      *draft    // what was written and is not in force
	written    time.Time // the draft's last change
	pending    bool      // the draft waits for the end of the lock
	idleVLAN   uint16    // the VLAN ID that a console wrote and switched off
	volatile   Destination
	kept       kept
	told       host.Origin // who caused the last event, and when
	toldAt     time.Time
}

// New makes the LAN channel's configuration from what was kept.
func New(o Options) (*LAN, error) {
	l := &LAN{opt: o, volatile: factoryDestination(), kept: factory()}
	if _, err := o.Store.GetJSON(bucket, keptKey, &l.kept); err != nil {
		return nil, fmt.Errorf("the alert destinations: %w", err)
	}
	return l, nil
}

// Commands are the commands of chapter 23. Suspend BMC ARPs and the statistics
// are left out: the kernel answers ARP for all of the board, and counts for all
// of it.
func (l *LAN) Commands() []command.Command {
	return []command.Command{
		{NetFn: command.Transport, Cmd: 0x01, Name: "Set LAN Configuration Parameters", Privilege: command.Administrator, Conduct: command.Waits, MinLen: 3, MaxLen: 22, Run: l.set},
		{NetFn: command.Transport, Cmd: 0x02, Name: "Get LAN Configuration Parameters", Privilege: command.Operator, MinLen: 4, MaxLen: 4, Run: l.get},
	}
}

// Completion codes of the two commands alone (sections 23.1 and 23.2).
const (
	codeUnsupported command.Code = 0x80
	codeInProgress  command.Code = 0x81
	codeReadOnly    command.Code = 0x82
)

// The parameters (table 23-4).
const (
	paramInProgress   = 0
	paramAuthSupport  = 1
	paramAuthEnables  = 2
	paramAddress      = 3
	paramSource       = 4
	paramMAC          = 5
	paramMask         = 6
	paramHeader       = 7
	paramPort         = 8
	paramSecondPort   = 9
	paramARP          = 10
	paramARPInterval  = 11
	paramGateway      = 12
	paramGatewayMAC   = 13
	paramBackup       = 14
	paramBackupMAC    = 15
	paramCommunity    = 16
	paramDestinations = 17
	paramDestType     = 18
	paramDestAddress  = 19
	paramVLAN         = 20
	paramPriority     = 21
	paramSuiteCount   = 22
	paramSuites       = 23
	paramSuiteLevels  = 24
	paramDestVLAN     = 25
	paramLockout      = 26

	param6Support      = 50
	param6Enables      = 51
	param6Class        = 52
	param6Hops         = 53
	param6Flow         = 54
	param6Status       = 55
	param6Static       = 56
	param6StaticDUID   = 57
	param6Dynamic      = 59
	param6DynamicDUID  = 60
	param6DHCPTiming   = 62
	param6RouterUse    = 64
	param6Router1      = 65
	param6Router1MAC   = 66
	param6Router1Len   = 67
	param6Router1Net   = 68
	param6Router2      = 69
	param6Router2MAC   = 70
	param6Router2Len   = 71
	param6Router2Net   = 72
	param6RouterCount  = 73
	param6DynRouter    = 74
	param6DynRouterMAC = 75
	param6DynRouterLen = 76
	param6DynRouterNet = 77
	param6NDTiming     = 79
)

const (
	// lockLife ends a set in progress that its console never completed.
	lockLife = 60 * time.Second
	// draftLife ends a configuration that nobody made whole: the parts of
	// yesterday must not join those of today.
	draftLife = 10 * time.Minute
)

// locked says, with l.mu held, whether a console has set "set in progress". One
// that dies must not lock out all others, so it is over after a while, and what
// was written under it is forgotten.
func (l *LAN) locked(now time.Time) bool {
	if l.inProgress.IsZero() {
		return false
	}
	if now.Sub(l.inProgress) < lockLife {
		return true
	}
	l.inProgress = time.Time{}
	if l.pending {
		l.draft, l.pending = nil, false
	}
	return false
}

// set is section 23.1.
func (l *LAN) set(c *command.Call) command.Code {
	if !command.IsLAN(c.Data[0]) {
		return command.InvalidField
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	param, data := c.Data[1], c.Data[2:]
	switch param {
	case paramInProgress:
		return l.setInProgress(c, data)
	case paramCommunity, paramDestType, paramDestAddress:
		return l.setKept(c, param, data)
	}
	edit, writable := editOf(param)
	if !writable || l.opt.Network == nil {
		return l.setSame(c, param, data)
	}
	return l.write(c, edit, data)
}

// setSame is for what cannot be changed: writing what is there already
// succeeds, since consoles write back whole configurations that they read.
func (l *LAN) setSame(c *command.Call, param byte, data []byte) command.Code {
	var selector byte
	switch param {
	case paramDestVLAN, param6Static, param6Dynamic, param6DynRouter, param6DynRouterMAC, param6DynRouterLen, param6DynRouterNet:
		selector = data[0]
	}
	now := command.Call{Now: c.Now}
	if code := l.read(&now, param, selector); code != command.OK {
		return code
	}
	if len(data) != len(now.Reply) {
		return command.BadLength
	}
	if string(data) != string(now.Reply) {
		return codeReadOnly
	}
	return command.OK
}

// setInProgress is parameter 0. "Commit write" and "set complete" both put what
// was written in force: roll-back as table 23-4 knows it is not offered.
func (l *LAN) setInProgress(c *command.Call, data []byte) command.Code {
	if len(data) != 1 {
		return command.BadLength
	}
	const complete, progress, commit = 0, 1, 2
	l.mu.Lock()
	locked := l.locked(c.Now)
	switch {
	case data[0] > commit:
		l.mu.Unlock()
		return command.InvalidField
	case data[0] == progress && locked:
		l.mu.Unlock()
		return codeInProgress
	case data[0] == progress:
		l.inProgress = c.Now
		l.mu.Unlock()
		return command.OK
	case data[0] == complete:
		l.inProgress = time.Time{}
	}
	pending := l.pending
	l.pending = false
	l.mu.Unlock()
	if !pending {
		return command.OK
	}
	code := l.apply(c)
	if code != command.OK {
		// What was refused can be mended as long as the lock holds; then it is
		// gone, or it would spoil what is written next.
		l.mu.Lock()
		if l.pending = data[0] == commit && locked; !l.pending {
			l.draft = nil
		}
		l.mu.Unlock()
	}
	return code
}

// write puts one parameter into the draft, and the draft in force where no
// console wants to write more first.
func (l *LAN) write(c *command.Call, e edit, data []byte) command.Code {
	if len(data) < e.min || len(data) > e.max {
		return command.BadLength
	}
	l.mu.Lock()
	locked := l.locked(c.Now)
	d := l.now(c.Now)
	if code := e.run(&d, data); code != command.OK {
		l.mu.Unlock()
		return code
	}
	before, writtenBefore := l.draft, l.written
	l.draft, l.written = &d, c.Now
	if locked {
		l.inProgress, l.pending = c.Now, true
		l.mu.Unlock()
		return command.OK
	}
	l.mu.Unlock()
	code := l.apply(c)
	if code != command.OK {
		// A write that failed leaves nothing behind.
		l.mu.Lock()
		l.draft, l.written = before, writtenBefore
		l.mu.Unlock()
	}
	return code
}

// now answers, with l.mu held, the draft or else what is set. A draft is over
// when the network was set otherwise since: it would undo that.
func (l *LAN) now(t time.Time) draft {
	set := l.opt.Fixed.config()
	if l.opt.Network != nil {
		set = l.opt.Network.Config()
	}
	if l.locked(t); l.draft != nil && t.Sub(l.written) < draftLife && l.draft.over == set {
		return *l.draft
	}
	d := newDraft(set, l.state())
	d.vlanID = l.idleVLAN
	return d
}

// state is how the network is now.
func (l *LAN) state() State {
	if l.opt.Network == nil {
		return l.opt.Fixed
	}
	return l.opt.Network.State()
}

// apply puts the draft in force as soon as it is whole: consoles write the
// source, the address, the mask and the gateway one after the other, ipmitool
// even in sessions of their own.
func (l *LAN) apply(c *command.Call) command.Code {
	l.mu.Lock()
	d := l.now(c.Now)
	l.mu.Unlock()
	conf, whole := d.config()
	if !whole {
		return command.OK
	}
	if conf != l.opt.Network.Config() {
		if err := l.opt.Network.Set(conf, c.Origin); err != nil {
			return command.Result(l.opt.Log, "Set LAN Configuration Parameters", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idleVLAN, l.draft = d.vlanID, nil
	if d.waits() {
		d.over = conf
		l.draft = &d
	}
	return command.OK
}
