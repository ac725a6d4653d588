package dcmi

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

// windows are the rolling averages that are kept. A code has the number in bits
// 5:0 and the unit above: seconds, minutes, hours, days.
var windows = [...]struct {
	code    byte
	samples int
}{
	{0x05, 5}, {0x0F, 15}, {0x1E, 30},
	{0x41, 60}, {0x43, 3 * 60}, {0x47, 7 * 60}, {0x4F, 15 * 60}, {0x5E, 30 * 60},
	{0x81, 3600},
}

// history is what the host drew in each second of the last hour.
type history struct {
	mu    sync.Mutex
	watts [3600]uint16 // noWatts where it was not known
	next  int
	count int       // how many there are
	at    time.Time // when the newest was taken
}

const noWatts = math.MaxUint16

func (h *history) add(s host.MeterStatus) {
	w := uint16(noWatts)
	if s.Valid {
		w = toWatts(s.Now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watts[h.next] = w
	h.next = (h.next + 1) % len(h.watts)
	h.count = min(h.count+1, len(h.watts))
	h.at = s.At
}

// over is the statistics of the newest samples; false where none is known.
func (h *history) over(samples int) (s host.MeterStatus, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.At = h.at
	sum, n := 0.0, 0
	for i := range min(samples, h.count) {
		w := h.watts[(h.next-1-i+len(h.watts))%len(h.watts)]
		if w == noWatts {
			continue
		}
		v := float64(w)
		if n == 0 {
			s.Min, s.Max = v, v
		}
		s.Min, s.Max = min(s.Min, v), max(s.Max, v)
		sum += v
		n++
	}
	if n > 0 {
		s.Average = sum / float64(n)
	}
	return s, n > 0
}

// toWatts is how watts go into two bytes.
func toWatts(w float64) uint16 {
	return uint16(min(max(math.Round(w), 0), noWatts-1))
}

// getPowerReading is Get Power Reading. Mode 1 is over all the time of the
// meter's statistics, mode 2 over one of windows.
func (x *DCMI) getPowerReading(c *command.Call) command.Code {
	const normal, enhanced, active = 0x01, 0x02, 0x40
	s := x.Meter.Status()
	known := s.Valid
	var period uint32
	switch c.Data[0] {
	case normal:
		if !s.Since.IsZero() {
			period = uint32(min(max(c.Now.Sub(s.Since).Milliseconds(), 0), math.MaxUint32))
		}
	case enhanced:
		samples := 0
		for _, w := range windows {
			if w.code == c.Data[1] {
				samples = w.samples
			}
		}
		if samples == 0 {
			return command.OutOfRange
		}
		now := s.Now
		s, known = x.history.over(samples)
		s.Now = now
		period = uint32(c.Data[1]) // as the code that was asked for
	default:
		return command.InvalidField
	}
	var state byte
	if known {
		state = active
	}
	c.Put16(toWatts(s.Now))
	c.Put16(toWatts(s.Min))
	c.Put16(toWatts(s.Max))
	c.Put16(toWatts(s.Average))
	c.Put32(uint32(max(s.At.Unix(), 0)))
	c.Put32(period)
	c.Put(state)
	return command.OK
}

// Exception actions of a power limit. Those from 02h to 10h are OEM's.
const (
	actionNone = 0x00
	actionOff  = 0x01
	actionLog  = 0x11
)

// What is told of a limit that was never set: consoles change one value of it
// at a time, and hand the others back.
const (
	defaultCorrection = 10 * time.Second
	defaultPeriod     = time.Minute
)

// Bounds of the time that the host may draw too much: the board looks once a
// second.
const (
	minCorrection = time.Second
	maxCorrection = time.Hour
)

// codeNoLimit: no limit is active. The answer tells all the same what would be.
const codeNoLimit command.Code = 0x80

// getPowerLimit is Get Power Limit.
func (x *DCMI) getPowerLimit(c *command.Call) command.Code {
	l := x.Meter.Limit()
	action := byte(actionLog)
	if l.Action == host.LimitOff {
		action = actionOff
	}
	if l.Correction == 0 {
		l.Correction = defaultCorrection
	}
	if l.Period == 0 {
		l.Period = defaultPeriod
	}
	c.Put(0, 0, action)
	c.Put16(uint16(min(l.Watts, math.MaxUint16)))
	c.Put32(uint32(l.Correction.Milliseconds()))
	c.Put(0, 0)
	c.Put16(uint16(l.Period.Seconds()))
	if !l.Active {
		c.Whole = true
		return codeNoLimit
	}
	return command.OK
}

// setPowerLimit is Set Power Limit. A limit that is active stays so. The log
// tells of the host that draws too much even where no action is asked for.
func (x *DCMI) setPowerLimit(c *command.Call) command.Code {
	l := x.Meter.Limit()
	l.Watts = int(binary.LittleEndian.Uint16(c.Data[4:]))
	l.Correction = time.Duration(binary.LittleEndian.Uint32(c.Data[6:])) * time.Millisecond
	l.Period = time.Duration(binary.LittleEndian.Uint16(c.Data[12:])) * time.Second
	switch c.Data[3] {
	case actionNone, actionLog:
		l.Action = host.LimitLog
	case actionOff:
		l.Action = host.LimitOff
	default:
		return command.InvalidField
	}
	switch {
	case l.Watts == 0:
		return codeLimitOutOfRange
	case l.Correction < minCorrection || l.Correction > maxCorrection:
		return codeTimeOutOfRange
	case l.Period == 0:
		return codePeriodOutOfRange
	}
	return command.Result(x.Log, "Set Power Limit", x.Meter.SetLimit(l, c.Origin))
}

// activatePowerLimit is Activate/Deactivate Power Limit.
func (x *DCMI) activatePowerLimit(c *command.Call) command.Code {
	l := x.Meter.Limit()
	switch c.Data[0] {
	case 0:
		l.Active = false
	case 1:
		if l.Watts == 0 {
			return command.WrongState // there is none to activate
		}
		l.Active = true
	default:
		return command.InvalidField
	}
	return command.Result(x.Log, "Activate/Deactivate Power Limit", x.Meter.SetLimit(l, c.Origin))
}
