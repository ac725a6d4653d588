package sel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
)

// Commands lists the commands of chapter 31, and Platform Event Message.
func (l *Log) Commands() []command.Command {
	const reads, waits = command.Reads, command.Waits
	return []command.Command{
		{NetFn: command.Storage, Cmd: 0x40, Name: "Get SEL Info", Privilege: command.User, Conduct: reads, Run: l.getInfo},
		{NetFn: command.Storage, Cmd: 0x41, Name: "Get SEL Allocation Info", Privilege: command.User, Conduct: reads, Run: l.getAllocation},
		{NetFn: command.Storage, Cmd: 0x42, Name: "Reserve SEL", Privilege: command.User, Conduct: waits, Run: l.reserve},
		{NetFn: command.Storage, Cmd: 0x43, Name: "Get SEL Entry", Privilege: command.User, Conduct: reads, MinLen: 6, MaxLen: 6, Run: l.getEntry},
		{NetFn: command.Storage, Cmd: 0x44, Name: "Add SEL Entry", Privilege: command.Operator, Conduct: waits, MinLen: RecordLen, MaxLen: RecordLen, Run: l.addEntry},
		{NetFn: command.Storage, Cmd: 0x46, Name: "Delete SEL Entry", Privilege: command.Operator, Conduct: waits, MinLen: 4, MaxLen: 4, Run: l.deleteEntry},
		{NetFn: command.Storage, Cmd: 0x47, Name: "Clear SEL", Privilege: command.Operator, Conduct: waits, MinLen: 6, MaxLen: 6, Run: l.clear},
		{NetFn: command.Storage, Cmd: 0x48, Name: "Get SEL Time", Privilege: command.User, Conduct: reads, Run: l.getTime},
		{NetFn: command.Storage, Cmd: 0x49, Name: "Set SEL Time", Privilege: command.Operator, Conduct: waits, MinLen: 4, MaxLen: 4, Run: l.setTime},
		{NetFn: command.Storage, Cmd: 0x5C, Name: "Get SEL Time UTC Offset", Privilege: command.User, Conduct: reads, Run: l.getUTCOffset},
		{NetFn: command.Storage, Cmd: 0x5D, Name: "Set SEL Time UTC Offset", Privilege: command.Operator, Conduct: waits, MinLen: 2, MaxLen: 2, Run: l.setUTCOffset},
		{NetFn: command.Sensor, Cmd: 0x02, Name: "Platform Event", Privilege: command.Operator, Conduct: waits, MinLen: 7, MaxLen: 7, Run: l.platformEvent},
	}
}

// free is how many records can come before the oldest one goes. The event log
// is full when the events since then are host.MaxEvents; IDs that a crash left
// out count as events here, so that it is at least that many. l.mu is held.
func (l *Log) free() int {
	if len(l.list) == 0 {
		return host.MaxEvents
	}
	since := max(int64(l.state.Cursor-l.list[0].seq)+1, int64(len(l.list)))
	return host.MaxEvents - int(min(since, host.MaxEvents))
}

// getInfo: section 31.2.
func (l *Log) getInfo(c *command.Call) command.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	const version, overflow, deletes, reserves, allocation = 0x51, 0x80, 0x08, 0x02, 0x01
	support := byte(deletes | reserves | allocation)
	if l.state.Overflow {
		support |= overflow
	}
	c.Put(version)
	c.Put16(uint16(len(l.list)))
	c.Put16(uint16(min(l.free()*RecordLen, math.MaxUint16)))
	c.Put32(l.state.Added)
	c.Put32(l.state.Erased)
	c.Put(support)
	return command.OK
}

// getAllocation: section 31.3. A unit holds one record.
func (l *Log) getAllocation(c *command.Call) command.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := uint16(l.free())
	c.Put16(host.MaxEvents)
	c.Put16(RecordLen)
	c.Put16(free)
	c.Put16(free)
	c.Put(1)
	return command.OK
}

// reserve: section 31.4. A record that comes ends the reservation, so those of
// the events up to now come first: a console's own login would.
func (l *Log) reserve(c *command.Call) command.Code {
	l.follow()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reserved++; l.reserved == 0 { // 0000h is "none"
		l.reserved = 1
	}
	l.valid = true
	c.Put16(l.reserved)
	return command.OK
}

// holds says whether a reservation is in force.
func (l *Log) holds(id uint16) bool { return l.valid && id == l.reserved }

// find answers where a record is: 0000h is the first, FFFFh the last. IDs come
// one after the other, and begin again. l.mu is held.
func (l *Log) find(id uint16) (int, bool) {
	const first, last = 0x0000, 0xFFFF
	switch {
	case len(l.list) == 0:
		return 0, false
	case id == first:
		return 0, true
	case id == last:
		return len(l.list) - 1, true
	}
	base := l.list[0].id()
	lo, hi := 0, len(l.list)
	for lo < hi {
		mid := (lo + hi) / 2
		if l.list[mid].id()-base < id-base {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(l.list) && l.list[lo].id() == id
}

// getEntry: section 31.5. A part from the middle needs a reservation.
func (l *Log) getEntry(c *command.Call) command.Code {
	reservation, id := binary.LittleEndian.Uint16(c.Data), binary.LittleEndian.Uint16(c.Data[2:])
	offset, count := int(c.Data[4]), int(c.Data[5])
	const whole, none = 0xFF, 0xFFFF
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset > 0 && !l.holds(reservation) {
		return command.ReservationBad
	}
	at, ok := l.find(id)
	switch {
	case !ok:
		return command.NotPresent
	case offset >= RecordLen:
		return command.OutOfRange
	case count == whole:
		count = RecordLen - offset
	case count > RecordLen-offset:
		return command.CannotReturn
	}
	next := uint16(none)
	if at+1 < len(l.list) {
		next = l.list[at+1].id()
	}
	c.Put16(next)
	c.Put(l.list[at].record[offset : offset+count]...)
	return command.OK
}

// addEntry: section 31.6. The log sets ID and time.
func (l *Log) addEntry(c *command.Call) command.Code {
	const typeUnsupported command.Code = 0x80
	record := slices.Clone(c.Data)
	if t := record[atType]; t != typeEvent && t < typeOEM {
		return typeUnsupported
	}
	l.turn.Lock() // or another console might delete it before its ID is known
	defer l.turn.Unlock()
	e := l.events.Add(host.Event{Kind: kindAdded, Origin: c.Origin, Data: record,
		Message: fmt.Sprintf("A record was added to the IPMI event log: % X.", record)})
	l.take()
	for i := len(l.list) - 1; i >= 0 && l.list[i].seq >= e.ID; i-- {
		x := &l.list[i]
		if x.record[atType] == record[atType] && bytes.Equal(x.record[atGenerator:], record[atGenerator:]) {
			c.Put16(x.id())
			return command.OK
		}
	}
	return command.Unspecified // more events than the log holds came since
}

// deletionBurst is the longest pause between two deletions of one burst.
const deletionBurst = 10 * time.Second

// deleteEntry: section 31.8. The other records keep their IDs, so reservations
// stay as they are. A burst of deletions is one event: who empties the log
// record by record must not push all other events out of theirs.
func (l *Log) deleteEntry(c *command.Call) command.Code {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	held := l.holds(binary.LittleEndian.Uint16(c.Data))
	at, ok := l.find(binary.LittleEndian.Uint16(c.Data[2:]))
	l.mu.Unlock()
	switch {
	case !held:
		return command.ReservationBad
	case !ok:
		return command.NotPresent
	}
	gone := l.list[at]
	now := l.state
	now.Erased = l.clock.Time(c.Now)
	err := l.save(now, nil, func(t store.Tx) error { return t.Delete(recordBucket, key(gone.seq)) })
	if err != nil {
		return command.Result(l.log, "Delete SEL Entry", err)
	}
	l.mu.Lock()
	l.list = slices.Delete(l.list, at, at+1)
	l.state = now
	l.mu.Unlock()
	if l.deleter != c.Origin || c.Now.Sub(l.deleted) > deletionBurst {
		l.events.Add(host.Event{Kind: kindDeleted, Origin: c.Origin,
			Message: fmt.Sprintf("Records are deleted from the IPMI event log, the first is %d.", gone.id())})
	}
	l.deleted, l.deleter = c.Now, c.Origin
	c.Put16(gone.id())
	return command.OK
}

// clear: section 31.9. It is done when it answers, so the state of an erasure
// is always "completed"; that is told to the holder of the last reservation,
// which the clearing itself ended.
func (l *Log) clear(c *command.Call) command.Code {
	const initiate, status, completed = 0xAA, 0x00, 0x01
	if string(c.Data[2:5]) != "CLR" {
		return command.InvalidField
	}
	reservation := binary.LittleEndian.Uint16(c.Data)
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	held, known := l.holds(reservation), reservation == l.reserved && reservation != 0
	l.mu.Unlock()
	switch op := c.Data[5]; {
	case op != initiate && op != status:
		return command.InvalidField
	case op == status && known:
		c.Put(completed)
		return command.OK
	case op == status || !held:
		return command.ReservationBad
	}
	now := l.state
	now.Erased, now.Overflow = l.clock.Time(c.Now), false
	err := l.save(now, nil, func(t store.Tx) error { return t.DeleteBelow(recordBucket, key(math.MaxUint64)) })
	if err != nil {
		return command.Result(l.log, "Clear SEL", err)
	}
	l.mu.Lock()
	l.list, l.state, l.valid = nil, now, false
	l.mu.Unlock()
	l.events.Add(host.Event{Kind: kindCleared, Origin: c.Origin, Message: "The IPMI event log was cleared."})
	l.take()
	c.Put(completed)
	return command.OK
}

// getTime: section 31.10.
func (l *Log) getTime(c *command.Call) command.Code {
	c.Put32(l.clock.Time(c.Now))
	return command.OK
}

// setTime: section 31.11.
func (l *Log) setTime(c *command.Call) command.Code {
	return command.Result(l.log, "Set SEL Time", l.clock.Set(binary.LittleEndian.Uint32(c.Data), c.Now, c.Origin))
}

// utcUnknown stands for a time zone that nobody told.
const utcUnknown = 0x07FF

// getUTCOffset: section 31.11a.
func (l *Log) getUTCOffset(c *command.Call) command.Code {
	c.Put16(uint16(l.clock.now().UTC))
	return command.OK
}

// setUTCOffset: section 31.11b.
func (l *Log) setUTCOffset(c *command.Call) command.Code {
	minutes := int16(binary.LittleEndian.Uint16(c.Data))
	const day = 24 * 60
	if minutes != utcUnknown && (minutes < -day || minutes > day) {
		return command.InvalidField
	}
	return command.Result(l.log, "Set SEL Time UTC Offset", l.clock.setUTC(minutes, c.Origin))
}

// platformEvent: section 29.3. Over the LAN its generator is the console's
// software, and the channel is told.
func (l *Log) platformEvent(c *command.Call) command.Code {
	const (
		remoteConsole = 0x81 // software ID 40h (table 5-4)
		oldRevision   = 0x03 // IPMI 1.0
	)
	if rev := c.Data[0]; rev != evmRev && rev != oldRevision {
		return command.InvalidField
	}
	record := make([]byte, RecordLen)
	record[atType] = typeEvent
	record[atGenerator], record[atGenerator+1] = remoteConsole, command.ChannelLAN<<4
	copy(record[atRevision:], c.Data)
	l.events.Add(host.Event{Kind: kindEvent, Origin: c.Origin, Data: record,
		Message: fmt.Sprintf("A console sent an event message: sensor type %02Xh, sensor %02Xh, event type %02Xh, data %02Xh %02Xh %02Xh.",
			c.Data[1], c.Data[2], c.Data[3], c.Data[4], c.Data[5], c.Data[6])})
	l.follow()
	return command.OK
}
