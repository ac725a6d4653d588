package scsi

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
)

// A Target is a target port with its logical units.
type Target struct {
	name    string
	group   uint16
	table   table   // for where there is no unit
	nowhere taskSet // of those commands

	mu      sync.Mutex
	units   map[uint16]*Unit
	nexuses map[*Nexus]struct{}
}

// NewTarget makes a target without units. Its name is the iSCSI name, the portal
// group its relative target port identifier, 1 or more.
func NewTarget(name string, portalGroup uint16) *Target {
	return &Target{name: name, group: portalGroup, table: newNowhereTable(), nexuses: make(map[*Nexus]struct{})}
}

// A Nexus is an initiator port's way to a target port: a session.
type Nexus struct {
	target    *Target
	initiator string
	aborted   func(*Command)
	links     atomic.Pointer[map[uint16]*link]
}

// Connect makes the I_T nexus of a session. The initiator is the initiator port's
// name: iSCSI name, ",i,0x" and the ISID in 12 hexadecimal digits (SPC-4 section
// 7.6.4.6).
//
// aborted is called, from any goroutine, for each command of this nexus that
// another one ended, or SetUnits: the transport must not wait for its data any
// longer, but call End for it. It must neither block nor call the package, nor wait
// for a lock that is held while the package is called.
func (t *Target) Connect(initiator string, aborted func(*Command)) *Nexus {
	n := &Nexus{target: t, initiator: initiator, aborted: aborted}
	t.mu.Lock()
	defer t.mu.Unlock()
	links := make(map[uint16]*link, len(t.units))
	for lun, u := range t.units {
		links[lun] = u.join(n, lun)
	}
	n.links.Store(&links)
	t.nexuses[n] = struct{}{}
	return n
}

// Close is the loss of the nexus, when the transport has ended its commands.
// Persistent reservations stay.
func (n *Nexus) Close() {
	n.target.mu.Lock()
	defer n.target.mu.Unlock()
	delete(n.target.nexuses, n)
	for _, l := range *n.links.Load() {
		l.unit.leave(l)
	}
	n.links.Store(&map[uint16]*link{})
}

// SetUnits gives the target its logical units, 0 to 255. The commands of those that
// are not among them any more are aborted; these units must not be closed before the
// endings are there.
func (t *Target) SetUnits(units map[uint16]*Unit) Endings {
	t.mu.Lock()
	changed := !maps.Equal(t.units, units)
	t.units = maps.Clone(units)
	var left []*link
	for n := range t.nexuses {
		links := make(map[uint16]*link, len(units))
		for lun, l := range *n.links.Load() {
			if units[lun] == l.unit {
				links[lun] = l
			} else {
				l.unit.leave(l)
				left = append(left, l)
			}
		}
		for lun, u := range units {
			if links[lun] == nil {
				links[lun] = u.join(n, lun)
			}
		}
		n.links.Store(&links)
		if changed {
			n.attend(codeUnitsChanged)
		}
	}
	t.mu.Unlock()
	var ends Endings
	for _, l := range left {
		ends = append(ends, l.unit.tasks.abortAll(nil, func(of *link, _ *Command) bool { return of == l })...)
	}
	return ends
}

// attend queues a unit attention on all units of the nexus.
func (n *Nexus) attend(code uint16) {
	for _, l := range *n.links.Load() {
		l.unit.tasks.mu.Lock()
		l.attentions.add(code)
		l.unit.tasks.mu.Unlock()
	}
}

// reported drops the attention of the changed units on all of them (SPC-4 section
// 6.33).
func (n *Nexus) reported() {
	for _, l := range *n.links.Load() {
		l.unit.tasks.mu.Lock()
		l.attentions.drop(codeUnitsChanged)
		l.unit.tasks.mu.Unlock()
	}
}

// at finds the link of a LUN, by the peripheral or the flat addressing method (SAM-5
// section 4.7.7); nil: there is no such unit.
func (n *Nexus) at(lun uint64) *link {
	const below = 1<<48 - 1
	if method := lun >> 62; method > 1 || method == 0 && lun>>56 != 0 || lun&below != 0 {
		return nil
	}
	return (*n.links.Load())[uint16(lun>>48)&0x3fff]
}

// address is a LUN in the 8 bytes of REPORT LUNS.
func address(lun uint16) uint64 {
	if lun > 0xff {
		return uint64(lun)<<48 | 1<<62
	}
	return uint64(lun) << 48
}

// Begin decodes and checks a command and puts it into its unit's task set. The
// transport calls it in the order in which the initiator sent the commands, from one
// goroutine at a time; it never blocks. If done, the command is answered already.
// Either way End follows.
func (n *Nexus) Begin(c *Command) (done bool) {
	c.nexus = n
	c.Status, c.Sense, c.N = StatusGood, c.Sense[:0], 0
	if l := n.at(c.LUN); l != nil {
		if done, ok := n.beginAt(l, c); ok {
			return done
		}
	}
	t := n.target
	c.operation = t.table.find(c.CDB)
	t.nowhere.mu.Lock()
	t.nowhere.add(c)
	t.nowhere.mu.Unlock()
	if c.operation == nil {
		c.fail(illegal(codeNoSuchUnit))
		return true
	}
	return n.decode(c, nil, &t.table)
}

// beginAt is Begin at a unit; not ok if the unit was taken away meanwhile.
func (n *Nexus) beginAt(l *link, c *Command) (done, ok bool) {
	u := l.unit
	c.operation = u.table.find(c.CDB)
	u.tasks.mu.Lock()
	if l.gone {
		u.tasks.mu.Unlock()
		return false, false
	}
	c.link = l
	u.tasks.add(c)
	d, conflict := u.admit(l, c)
	c.admitted, c.erasures = u.changes.Load(), u.erasures.Load()
	u.tasks.mu.Unlock()
	switch {
	case conflict:
		c.Status = StatusReservationConflict
		return true, true
	case d != nil:
		c.fail(d)
		return true, true
	}
	return n.decode(c, u, &u.table), true
}

func (n *Nexus) decode(c *Command, u *Unit, t *table) (done bool) {
	d := t.check(c)
	if d == nil && c.operation.decode != nil {
		d = c.operation.decode(u, c)
	}
	if d != nil {
		c.In, c.Out = 0, 0
		c.fail(d)
		return true
	}
	return false
}

// Try executes a command if nothing has to be waited for; else it is false, nothing
// has happened, and Execute is to be called from a goroutine that may wait.
func (n *Nexus) Try(c *Command) bool {
	o := c.operation
	if o.try == nil && !o.prompt || !c.enabled() {
		return false
	}
	if !n.allowed(c) {
		return true
	}
	if o.try == nil {
		n.run(c)
		return true
	}
	done, d := o.try(c.link.unit, c)
	if d != nil {
		c.fail(d)
	}
	return done
}

// Execute carries a command out, when those before it that it has to wait for have
// ended, and returns when it is answered.
func (n *Nexus) Execute(c *Command) {
	if c.ready != nil {
		<-c.ready
	}
	if n.allowed(c) {
		n.run(c)
	}
}

func (n *Nexus) run(c *Command) {
	var u *Unit
	if c.link != nil {
		u = c.link.unit
	}
	if d := c.operation.run(u, c); d != nil {
		c.fail(d)
	}
	if c.Aborted() {
		c.Status = StatusTaskAborted
	}
}

// allowed says whether a command may still be executed, and answers it if not. It
// may have been aborted since it began; and if a reservation was made, or the unit
// sanitized, while it waited for its turn or its data, nothing of it may land after
// that.
func (n *Nexus) allowed(c *Command) bool {
	if c.Aborted() {
		c.Status = StatusTaskAborted
		return false
	}
	if c.link == nil || c.link.unit.changes.Load() == c.admitted {
		return true
	}
	u := c.link.unit
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	if u.conflicts(c.link, c) {
		c.Status = StatusReservationConflict
		return false
	}
	if c.operation.medium && u.erasures.Load() != c.erasures {
		c.fail(failure(errSanitized, writing, 0))
		return false
	}
	c.admitted = u.changes.Load()
	return true
}

// End takes the command out of the task set: once for each Begin. Nobody else knows
// the command from then on.
func (n *Nexus) End(c *Command) {
	c.Data, c.vector[0] = nil, nil
	c.set.mu.Lock()
	c.set.remove(c)
	c.set.mu.Unlock()
}

// Abort marks a command of this nexus, as ABORT TASK does: if it is not executed yet
// it never will be. The channel is closed when it has ended, after which nothing of it
// can land any more.
func (n *Nexus) Abort(c *Command) <-chan struct{} {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if !c.queued {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return c.set.abort(c)
}

// A Function is a task management function, with iSCSI's numbers (RFC 7143 section
// 11.5.1). ABORT TASK is Nexus.Abort.
type Function byte

// The functions of Nexus.Manage.
const (
	AbortTaskSet     Function = 2
	ClearACA         Function = 3
	ClearTaskSet     Function = 4
	LogicalUnitReset Function = 5
	TargetWarmReset  Function = 6
	TargetColdReset  Function = 7
)

// A Response answers a task management function, with iSCSI's numbers (RFC 7143
// section 11.6.1).
type Response byte

// The responses.
const (
	FunctionComplete Response = 0
	TaskDoesNotExist Response = 1
	LUNDoesNotExist  Response = 2
	NotSupported     Response = 5
)

// Endings are closed as commands end that were aborted.
type Endings []<-chan struct{}

// Wait returns when all have ended; if ctx ends before that, with its error.
func (e Endings) Wait(ctx context.Context) error {
	for _, end := range e {
		select {
		case <-end:
		case <-ctx.Done():
			return fmt.Errorf("commands do not end: %w", context.Cause(ctx))
		}
	}
	return nil
}

// Manage carries out a task management function on a unit, or all of the target's.
// It marks the commands concerned and does not block: the transport calls it in the
// order in which the initiator sent it and the commands, so that it concerns those
// before it and no other. Once all endings are there nothing of these commands can
// land any more, and the function may be answered. The transport itself has to stop
// waiting for the data of this nexus' own commands.
func (n *Nexus) Manage(f Function, lun uint64) (Response, Endings) {
	var units []*Unit
	switch f {
	case AbortTaskSet, ClearTaskSet, LogicalUnitReset:
		l := n.at(lun)
		if l == nil {
			return LUNDoesNotExist, nil
		}
		units = []*Unit{l.unit}
	case TargetWarmReset, TargetColdReset:
		for _, l := range *n.links.Load() {
			units = append(units, l.unit)
		}
	default: // ClearACA: INQUIRY's NORMACA is 0
		return NotSupported, nil
	}
	var ends Endings
	for _, u := range units {
		match := func(*link, *Command) bool { return true }
		switch f {
		case AbortTaskSet:
			match = func(l *link, _ *Command) bool { return l.nexus == n }
		case ClearTaskSet:
			// Called for each command, with the lock held.
			match = func(l *link, _ *Command) bool {
				if l.nexus != n {
					l.attentions.add(codeCommandsCleared)
				}
				return true
			}
		case LogicalUnitReset:
			u.reset(codeDeviceReset)
		case TargetWarmReset:
			u.reset(codeBusReset)
		case TargetColdReset:
			u.reset(codePowerOn)
		}
		ends = append(ends, u.tasks.abortAll(n, match)...)
	}
	return FunctionComplete, ends
}

// reportLUNs is REPORT LUNS (SPC-4 section 6.33).
func reportLUNs(_ *Unit, c *Command) *condition {
	data := make([]byte, 8, 64)
	n := c.nexus
	if report := c.CDB[2]; report != 1 { // 1: well-known logical units only
		links := *n.links.Load()
		for lun := range uint16(1 << 14) {
			if len(data) == 8+8*len(links) {
				break
			}
			if links[lun] != nil {
				data = binary.BigEndian.AppendUint64(data, address(lun))
			}
		}
	}
	binary.BigEndian.PutUint32(data, uint32(len(data)-8))
	n.reported()
	c.reply(data)
	return nil
}

func decodeReportLUNs(_ *Unit, c *Command) *condition {
	if c.CDB[2] > 2 {
		return badField(2, 7)
	}
	c.allow(allocation32(c.CDB[6:]))
	return nil
}
