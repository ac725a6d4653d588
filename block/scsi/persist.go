package scsi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A reservationType is what a persistent reservation allows others (SPC-4 table 70);
// 0: there is none.
type reservationType byte

const (
	writeExclusive                reservationType = 1
	exclusiveAccess               reservationType = 3
	writeExclusiveRegistrants     reservationType = 5
	exclusiveAccessRegistrants    reservationType = 6
	writeExclusiveAllRegistrants  reservationType = 7
	exclusiveAccessAllRegistrants reservationType = 8
)

func (t reservationType) valid() bool {
	return t == writeExclusive || t == exclusiveAccess || t >= writeExclusiveRegistrants && t <= exclusiveAccessAllRegistrants
}

// exclusive: others may not even read.
func (t reservationType) exclusive() bool {
	return t == exclusiveAccess || t == exclusiveAccessRegistrants || t == exclusiveAccessAllRegistrants
}

// registrants: who is registered may do all.
func (t reservationType) registrants() bool { return t >= writeExclusiveRegistrants }

// all: who is registered holds the reservation.
func (t reservationType) all() bool { return t >= writeExclusiveAllRegistrants }

// A registration is an I_T nexus that has registered, whether it is there now or not.
type registration struct {
	Initiator string `json:"initiator"`
	Target    string `json:"target"`
	Port      uint16 `json:"port"`
	Key       uint64 `json:"key"`
	Holder    bool   `json:"holder"`
}

func (r *registration) is(n *Nexus) bool {
	return r.Initiator == n.initiator && r.Target == n.target.name && r.Port == n.target.group
}

// reservations are the persistent ones of a unit (SPC-4 section 5.12). Its lists are
// replaced, never changed.
type reservations struct {
	generation    uint32
	kind          reservationType
	keep          bool // APTPL
	registrations []registration
}

// kept is what outlives a loss of power.
type kept struct {
	Type          reservationType `json:"type"`
	Registrations []registration  `json:"registrations"`
}

// ErrKept: UnitOptions.Kept is not what Keep got.
var ErrKept = errors.New("the reservations that were kept are damaged")

func (r *reservations) restore(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	var k kept
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&k)
	if err == nil && d.More() {
		err = errors.New("something follows")
	}
	if err == nil {
		err = k.check()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKept, err)
	}
	r.kind, r.registrations, r.keep = k.Type, k.Registrations, true
	return nil
}

// check finds what no PERSISTENT RESERVE OUT makes; a reservation without a holder
// would bar everybody.
func (k kept) check() error {
	if k.Type != 0 && !k.Type.valid() {
		return fmt.Errorf("a type of %d", k.Type)
	}
	holders := 0
	for i, g := range k.Registrations {
		if g.Initiator == "" || g.Target == "" || g.Key == 0 {
			return fmt.Errorf("registration %d is of nobody", i)
		}
		if g.Holder {
			holders++
		}
	}
	want := 0
	if k.Type != 0 {
		want = 1
	}
	if len(k.Registrations) == 0 || holders != want && !k.Type.all() {
		return fmt.Errorf("%d of %d registrations hold a reservation of the type %d", holders, len(k.Registrations), k.Type)
	}
	return nil
}

// find is the nexus' registration, -1: none.
func (r *reservations) find(n *Nexus) int {
	return slices.IndexFunc(r.registrations, func(g registration) bool { return g.is(n) })
}

// mark tells a link what its nexus is to the reservations.
func (r *reservations) mark(l *link) {
	i := r.find(l.nexus)
	l.registered = i >= 0
	l.holder = i >= 0 && r.kind != 0 && (r.kind.all() || r.registrations[i].Holder)
}

// holders says whether registration i holds the reservation.
func (r *reservations) holds(i int) bool {
	return r.kind != 0 && (r.kind.all() || r.registrations[i].Holder)
}

// clone is a copy that may be changed.
func (r *reservations) clone() *reservations {
	n := *r
	n.registrations = slices.Clone(r.registrations)
	return &n
}

// hold makes registration i the holder of a reservation.
func (r *reservations) hold(i int, t reservationType) {
	for j := range r.registrations {
		r.registrations[j].Holder = j == i
	}
	r.kind = t
}

// release ends the reservation.
func (r *reservations) release() {
	for j := range r.registrations {
		r.registrations[j].Holder = false
	}
	r.kind = 0
}

// Service actions of PERSISTENT RESERVE IN and OUT.
const (
	readKeys           = 0
	readReservation    = 1
	reportCapabilities = 2
	readFullStatus     = 3

	actionRegister       = 0
	actionReserve        = 1
	actionRelease        = 2
	actionClear          = 3
	actionPreempt        = 4
	actionPreemptAbort   = 5
	actionRegisterIgnore = 6
	actionMove           = 7
)

func decodeReserveIn(_ *Unit, c *Command) *condition {
	c.allow(allocation16(c.CDB[7:]))
	return nil
}

// reserveIn is PERSISTENT RESERVE IN (SPC-4 section 6.15).
func reserveIn(u *Unit, c *Command) *condition {
	u.tasks.mu.Lock()
	r := u.persist // the lists are never changed
	u.tasks.mu.Unlock()
	if c.CDB[1]&0x1f == reportCapabilities {
		b := []byte{0, 8, 0x10, 0x80, 0xea, 0x01, 0, 0} // CRH; TMV; all six types
		if u.o.Keep != nil {
			b[2] |= 0x01 // PTPL_C
		}
		if r.keep {
			b[3] |= 0x01 // PTPL_A
		}
		c.reply(b)
		return nil
	}
	b := binary.BigEndian.AppendUint32(nil, r.generation)
	b = append(b, 0, 0, 0, 0)
	switch c.CDB[1] & 0x1f {
	case readKeys:
		for _, g := range r.registrations {
			b = binary.BigEndian.AppendUint64(b, g.Key)
		}
	case readReservation:
		if r.kind != 0 {
			var key uint64 // 0 where all registrants hold it
			for _, g := range r.registrations {
				if g.Holder && !r.kind.all() {
					key = g.Key
				}
			}
			b = binary.BigEndian.AppendUint64(b, key)
			b = append(b, 0, 0, 0, 0, 0, byte(r.kind), 0, 0)
		}
	case readFullStatus:
		for i, g := range r.registrations {
			b = binary.BigEndian.AppendUint64(b, g.Key)
			holder, kind := byte(0), byte(0)
			if r.holds(i) {
				holder, kind = 0x01, byte(r.kind)
			}
			b = append(b, 0, 0, 0, 0, holder, kind, 0, 0, 0, 0)
			b = binary.BigEndian.AppendUint16(b, g.Port)
			id := transportID(g.Initiator)
			b = binary.BigEndian.AppendUint32(b, uint32(len(id)))
			b = append(b, id...)
		}
	}
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-8))
	c.reply(b)
	return nil
}

// transportID names an iSCSI initiator port (SPC-4 section 7.6.4.6, format 01b).
func transportID(initiator string) []byte {
	name := terminated(initiator)
	for len(name) < 20 {
		name = append(name, 0)
	}
	b := []byte{0x40 | 0x05, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	return append(b, name...)
}

// parseTransportID is its reverse. A name without ISID (format 00b) is no port's.
func parseTransportID(b []byte) (initiator string, ok bool) {
	if len(b) < 24 || b[0] != 0x40|0x05 {
		return "", false
	}
	n := allocation16(b[2:])
	if n%4 != 0 || n < 20 || len(b) != 4+n {
		return "", false
	}
	name, rest, found := bytes.Cut(b[4:], []byte{0})
	if !found || len(bytes.Trim(rest, "\x00")) != 0 || !strings.Contains(string(name), ",i,0x") {
		return "", false
	}
	return string(name), true
}

func decodeReserveOut(_ *Unit, c *Command) *condition {
	n := allocation32(c.CDB[5:])
	switch action := c.CDB[1] & 0x1f; {
	case action != actionMove && n != 24, n < 24, n > maxParameters:
		// Without SPEC_I_PT, which is not offered, the list has this length.
		return illegal(codeParameterListLength)
	case action == actionReserve || action == actionRelease || action == actionPreempt || action == actionPreemptAbort:
		if c.CDB[2]>>4 != 0 { // only a logical unit can be reserved
			return badField(2, 7)
		}
		if !reservationType(c.CDB[2] & 0x0f).valid() {
			return badField(2, 3)
		}
	}
	c.Out = n
	return nil
}

// A reserving is what a PERSISTENT RESERVE OUT asks for, and what comes of it.
type reserving struct {
	*reservations     // as they will be
	own           int // who asks, -1: not registered
	kind          reservationType
	key, action   uint64
	conflict      bool
	// told are who is to get a unit attention.
	told []telling
	// preempted are registrations that were taken away by others.
	preempted []registration
}

type telling struct {
	registration
	code uint16
}

// tell has all who are registered told, but the one who asks.
func (q *reserving) tell(code uint16) {
	for i, g := range q.registrations {
		if i != q.own {
			q.told = append(q.told, telling{g, code})
		}
	}
}

// reserveOut is PERSISTENT RESERVE OUT (SPC-4 section 6.16).
func reserveOut(u *Unit, c *Command) *condition {
	list := c.Data[:min(len(c.Data), c.Out)]
	c.N = len(list)
	if len(list) < 24 || len(list) < c.Out {
		return illegal(codeParameterListLength)
	}
	lost, d := u.reserveAs(c, list)
	if d != nil || c.CDB[1]&0x1f != actionPreemptAbort {
		return d
	}
	// Other changes of reservations look at them anew when it is their turn, so that
	// two that preempt each other need not wait for each other.
	for _, end := range u.tasks.abortAll(c.nexus, func(l *link, d *Command) bool {
		return lost[l] && (d.operation == nil || d.operation.code != c.operation.code)
	}) {
		<-end
	}
	return nil
}

// reserveAs makes the change to a copy, which is kept if it has to be and then takes
// effect at once. It returns the links that were preempted.
func (u *Unit) reserveAs(c *Command, list []byte) (map[*link]bool, *condition) {
	u.registering.Lock()
	defer u.registering.Unlock()
	if c.Aborted() {
		return nil, nil
	}
	u.tasks.mu.Lock()
	q := &reserving{reservations: u.persist.clone()}
	reserved := u.reserver != nil
	u.tasks.mu.Unlock()
	if reserved { // by RESERVE, even if by the same nexus: the two do not go together
		c.Status = StatusReservationConflict
		return nil, nil
	}
	q.own = q.find(c.nexus)
	q.kind = reservationType(c.CDB[2] & 0x0f)
	q.key, q.action = binary.BigEndian.Uint64(list), binary.BigEndian.Uint64(list[8:])

	var d *condition
	switch action := c.CDB[1] & 0x1f; action {
	case actionRegister, actionRegisterIgnore:
		d = q.register(u, c, list[20], action == actionRegisterIgnore)
	case actionMove:
		d = q.move(u, c, list)
	default:
		switch {
		case q.own < 0 || q.registrations[q.own].Key != q.key:
			q.conflict = true
		case action == actionReserve:
			q.reserve()
		case action == actionRelease:
			d = q.free()
		case action == actionClear:
			q.clear()
		default:
			d = q.preempt()
		}
	}
	switch {
	case d != nil:
		return nil, d
	case q.conflict:
		c.Status = StatusReservationConflict
		return nil, nil
	}
	if err := u.keep(q.reservations); err != nil {
		u.o.Log.Error("reservations were not kept", "volume", u.disk.Identity().Name, "error", err)
		return nil, illegal(codeInsufficientResources)
	}
	return u.take(q, c), nil
}

// keep writes down what has to outlive a loss of power, or that nothing has any more.
func (u *Unit) keep(next *reservations) error {
	u.tasks.mu.Lock()
	before := u.persist.keep
	u.tasks.mu.Unlock()
	switch {
	case u.o.Keep == nil || !next.keep && !before:
		return nil
	case !next.keep || len(next.registrations) == 0:
		return u.o.Keep(nil)
	}
	b, err := json.Marshal(kept{Type: next.kind, Registrations: next.registrations})
	if err != nil {
		return err
	}
	return u.o.Keep(b)
}

// take puts the next reservations in force, and returns the links that were
// preempted.
func (u *Unit) take(q *reserving, c *Command) map[*link]bool {
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	u.persist = *q.reservations
	u.changes.Add(1)
	lost := make(map[*link]bool)
	for l := range u.links {
		u.persist.mark(l)
		for _, t := range q.told {
			if t.is(l.nexus) && l.nexus != c.nexus {
				l.attentions.add(t.code)
			}
		}
		for _, g := range q.preempted {
			if g.is(l.nexus) {
				lost[l] = true
			}
		}
	}
	c.admitted = u.changes.Load()
	return lost
}

// register is REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-4 section 5.12.7).
func (q *reserving) register(u *Unit, c *Command, flags byte, ignore bool) *condition {
	switch {
	case flags&0x08 != 0: // SPEC_I_PT
		return badParameter(20, 3)
	case flags&0x04 != 0: // ALL_TG_PT
		return badParameter(20, 2)
	case flags&0x01 != 0 && u.o.Keep == nil: // APTPL
		return badParameter(20, 0)
	}
	var before uint64 // that of who is not registered
	if q.own >= 0 {
		before = q.registrations[q.own].Key
	}
	if !ignore && q.key != before {
		q.conflict = true
		return nil
	}
	switch {
	case q.own >= 0 && q.action != 0:
		q.registrations[q.own].Key = q.action
	case q.own >= 0:
		q.unregister()
	case q.action != 0:
		const most = 1024
		if len(q.registrations) == most {
			return illegal(codeInsufficientResources)
		}
		q.registrations = append(q.registrations, registration{
			Initiator: c.nexus.initiator, Target: c.nexus.target.name, Port: c.nexus.target.group, Key: q.action})
	default: // the ignored key of nobody, to be removed
		return nil
	}
	q.reservations.keep = flags&0x01 != 0
	q.generation++
	return nil
}

// unregister takes the own registration away, and with it a reservation that it
// alone holds (SPC-4 section 5.12.11.2.2).
func (q *reserving) unregister() {
	if q.holds(q.own) && (!q.reservations.kind.all() || len(q.registrations) == 1) {
		if q.reservations.kind.registrants() {
			q.tell(codeReservationsReleased)
		}
		q.release()
	}
	q.registrations = slices.Delete(q.registrations, q.own, q.own+1)
	q.own = -1
}

func (q *reserving) reserve() {
	switch {
	case q.reservations.kind == 0:
		q.hold(q.own, q.kind)
	case !q.holds(q.own) || q.reservations.kind != q.kind:
		q.conflict = true
	}
}

// free is RELEASE (SPC-4 section 5.12.11.2.1).
func (q *reserving) free() *condition {
	switch {
	case q.reservations.kind == 0 || !q.holds(q.own):
		return nil
	case q.reservations.kind != q.kind:
		return illegal(codeInvalidRelease)
	}
	if q.reservations.kind.registrants() {
		q.tell(codeReservationsReleased)
	}
	q.release()
	return nil
}

func (q *reserving) clear() {
	q.tell(codeReservationsPreempted)
	q.release()
	q.registrations = nil
	q.generation++
}

// preempt is PREEMPT, and the first half of PREEMPT AND ABORT (SPC-4 section
// 5.12.11.2.4 and figure 7).
func (q *reserving) preempt() *condition {
	was := q.reservations.kind
	takes := false // the reservation
	switch {
	case was.all():
		takes = q.action == 0
	case was != 0:
		for i, g := range q.registrations {
			takes = takes || q.holds(i) && g.Key == q.action
		}
	}
	if q.action == 0 && !takes {
		return badParameter(8, 7)
	}
	self := q.registrations[q.own]
	var stay []registration
	found := false
	for i, g := range q.registrations {
		matches := g.Key == q.action || takes && was.all()
		found = found || matches
		if i == q.own || !matches {
			stay = append(stay, g)
			continue
		}
		q.preempted = append(q.preempted, g)
		q.told = append(q.told, telling{g, codeRegistrationsPreempted})
	}
	if !found {
		q.conflict = true
		return nil
	}
	q.registrations = stay
	q.own = slices.Index(stay, self)
	if takes {
		q.hold(q.own, q.kind)
		if was != q.kind {
			q.tell(codeReservationsReleased)
		}
	}
	q.generation++
	return nil
}

// move is REGISTER AND MOVE (SPC-4 section 5.12.8).
func (q *reserving) move(u *Unit, c *Command, list []byte) *condition {
	n := binary.BigEndian.Uint32(list[20:])
	flags, port := list[17], binary.BigEndian.Uint16(list[18:])
	initiator, ok := "", false
	if int64(n) == int64(len(list)-24) {
		initiator, ok = parseTransportID(list[24:])
	} else {
		return illegal(codeParameterListLength)
	}
	switch {
	case q.own < 0 || q.registrations[q.own].Key != q.key:
		q.conflict = true
		return nil
	case q.reservations.kind == 0 || q.reservations.kind.all() || !q.holds(q.own):
		q.conflict = true
		return nil
	case q.action == 0:
		return badParameter(8, 7)
	case flags&0x01 != 0 && u.o.Keep == nil:
		return badParameter(17, 0)
	case port != c.nexus.target.group:
		return badParameter(18, 7)
	case !ok || initiator == c.nexus.initiator:
		return badParameter(24, 7)
	}
	from := q.own
	to := slices.IndexFunc(q.registrations, func(g registration) bool {
		return g.Initiator == initiator && g.Target == c.nexus.target.name && g.Port == port
	})
	if to < 0 {
		to = len(q.registrations)
		q.registrations = append(q.registrations, registration{Initiator: initiator, Target: c.nexus.target.name, Port: port})
	}
	q.registrations[to].Key = q.action
	q.hold(to, q.reservations.kind)
	if flags&0x02 != 0 { // UNREG
		q.registrations = slices.Delete(q.registrations, from, from+1)
	}
	q.reservations.keep = flags&0x01 != 0
	q.generation++
	return nil
}
