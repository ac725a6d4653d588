package sdr

import (
	"encoding/binary"
	"math"
	"sync"

	"github.com/nitrino/nitrino/ipmi/command"
)

// reservations are those of a repository whose records never change: nothing
// but another one of the same console ends one (section 33.11), so that many
// consoles can read at once. The oldest give way.
type reservations struct {
	mu   sync.Mutex
	last uint16
	held [64]struct {
		id uint16
		by command.Session
	}
}

func (l *reservations) reserve(by command.Session) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.held {
		if l.held[i].by == by {
			l.held[i].id = 0
		}
	}
	if l.last++; l.last == 0 { // 0000h is "none"
		l.last = 1
	}
	at := &l.held[int(l.last)%len(l.held)]
	at.id, at.by = l.last, by
	return l.last
}

func (l *reservations) holds(id uint16, by command.Session) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.held[int(id)%len(l.held)]
	return id != 0 && at.id == id && at.by == by
}

// getInfo: section 33.9.
func (r *Repository) getInfo(c *command.Call) command.Code {
	const (
		noSpace    = 0
		neverErase = math.MaxUint32
		reserves   = 0x02
		allocation = 0x01
	)
	c.Put(sdrVersion)
	c.Put16(uint16(len(r.records)))
	c.Put16(noSpace)
	c.Put32(r.added)
	c.Put32(neverErase)
	c.Put(reserves | allocation)
	return command.OK
}

// getAllocation: section 33.10. A unit holds one record, and none is free.
func (r *Repository) getAllocation(c *command.Call) command.Code {
	c.Put16(uint16(len(r.records)))
	c.Put16(maxRecord)
	c.Put16(0)
	c.Put16(0)
	c.Put(1)
	return command.OK
}

// reserve: sections 33.11 and 35.4.
func reserve(l *reservations) func(*command.Call) command.Code {
	return func(c *command.Call) command.Code {
		c.Put16(l.reserve(c.Session))
		return command.OK
	}
}

// getRecord: sections 33.12 and 35.3.
func (r *Repository) getRecord(l *reservations) func(*command.Call) command.Code {
	return func(c *command.Call) command.Code {
		id := binary.LittleEndian.Uint16(c.Data[2:])
		offset, count := int(c.Data[4]), int(c.Data[5])
		const first, last, whole = 0x0000, 0xFFFF, 0xFF
		if offset > 0 && !l.holds(binary.LittleEndian.Uint16(c.Data), c.Session) {
			return command.ReservationBad
		}
		switch id {
		case first:
			id = 1
		case last:
			id = uint16(len(r.records))
		}
		if id == 0 || int(id) > len(r.records) {
			return command.NotPresent
		}
		var buffer [maxRecord]byte
		data := r.records[id-1].now(&buffer)
		switch {
		case offset >= len(data):
			return command.OutOfRange
		case count == whole:
			count = len(data) - offset
		case count > len(data)-offset:
			return command.CannotReturn
		}
		next := id + 1
		if int(id) == len(r.records) {
			next = last
		}
		c.Put16(next)
		c.Put(data[offset : offset+count]...)
		return command.OK
	}
}

// now is the record with the limits that are in force now.
func (rec *record) now(buffer *[maxRecord]byte) []byte {
	data := buffer[:copy(buffer[:], rec.data)]
	if x := rec.gauge; x != nil {
		readable, raw := x.thresholds()
		data[atReadable] = readable
		for i := range raw {
			data[atThresholds+i] = raw[len(raw)-1-i] // from the upper fatal one down
		}
		h := x.factors.rawDifference(x.gauge.Limits().Hysteresis)
		data[atHysteresis], data[atHysteresis+1] = h, h
	}
	return data
}

// getTime: section 33.17.
func (r *Repository) getTime(c *command.Call) command.Code {
	c.Put32(r.clock.Time(c.Now))
	return command.OK
}

// setTime: section 33.18. There is one clock for both logs.
func (r *Repository) setTime(c *command.Call) command.Code {
	err := r.clock.Set(binary.LittleEndian.Uint32(c.Data), c.Now, c.Origin)
	return command.Result(r.log, "Set SDR Repository Time", err)
}

// getDeviceInfo: section 35.2. The sensors stay the same.
func (r *Repository) getDeviceInfo(c *command.Call) command.Code {
	count := len(r.sensors)
	if c.Arg(0)&1 != 0 {
		count = len(r.records)
	}
	const lun0 = 0x01
	c.Put(byte(min(count, math.MaxUint8)), lun0)
	return command.OK
}
