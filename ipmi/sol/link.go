package sol

import (
	"fmt"
	"time"
)

const (
	// queueSize is how much typed input waits for the serial port: a third of
	// a second at 115200 bit/s.
	queueSize = 4096
	// maxQueue bounds what waits there when a console does not wait for its
	// answer: ipmitool takes any output of the host that comes meanwhile for it.
	maxQueue = 64 << 10
	// maxBreaks is how many breaks may wait there.
	maxBreaks = 4
	// holdLimit is how long the answer to a packet waits for the port to take
	// it. Consoles ask again after a second.
	holdLimit = 400 * time.Millisecond
	// refuseDelay is how long a refusal waits: FreeIPMI sends what was refused
	// again at once, and for as long as it is.
	refuseDelay = 100 * time.Millisecond
	// resendGap bounds how fast a console can have packets repeated.
	resendGap = 20 * time.Millisecond
	// slowRetry is the interval of retries when the configured ones are over.
	slowRetry = time.Second
	// maxNotes bounds the remarks that wait for their place in the output.
	maxNotes = 1024
)

// timing is when packets go to the console (table 26-5, parameters 3 and 4).
type timing struct {
	accumulate time.Duration // how long a packet that is not full waits
	threshold  int           // characters that are sent without waiting
	retries    int           // after which the pace slows
	interval   time.Duration // between retries
}

// link is both halves of the protocol of one activated payload, with at most
// one packet under way in each direction. It has no clock and does no input or
// output: its callers say what time it is, and serialise the calls.
//
// The numbers of SOL packets are only 15, so an old packet that the network
// kept back can look like a new one. The session's sequence numbers tell them
// apart: a console sends a packet only after its previous one was answered, so
// what it sent earlier than a packet that was taken already is old.
type link struct {
	// To the console.
	seq       byte // of the newest packet
	out       [maxData]byte
	n         int       // characters in out
	since     time.Time // when the first of them came
	sent      [headerLen + maxData]byte
	sentLen   int // 0: no packet is under way
	sentAt    time.Time
	tries     int
	suspended bool // by the console, until it resumes
	again     bool // the console asked for it
	overrun   bool // characters were lost since the last packet
	notes     []byte
	told      string // the reason last noted for input that was not sent
	flushes   int    // how often the console threw the output away
	acked     bool   // there was an acknowledgement, and newestAck is its
	newestAck uint32 // session sequence
	off       bool   // the host is powered down or sleeps
	offTold   bool

	// From the console.
	taken  byte   // number of the newest packet, 0: none yet
	newest uint32 // its session sequence, or that of its last repetition
	answer header // to it, unless held
	held   held
	queue  []byte // typed and not written
	breaks []int  // before which byte of queue
	flight int    // bytes taken from the queue whose write has not returned
	// proven: the port took the last write. While it is not, a packet is only
	// acknowledged when it is written.
	proven bool
}

// held is a packet from the console whose answer waits.
type held struct {
	on     bool
	until  time.Time // then it is answered with what was accepted
	size   int
	rest   []byte // did not fit into the queue yet
	refuse bool   // nothing was accepted
	ready  bool
	buf    [maxInbound]byte
}

func newLink() *link { return &link{queue: make([]byte, 0, queueSize)} }

// room is how many characters add takes.
func (l *link) room() int {
	if len(l.notes) > 0 {
		return 0
	}
	return maxData - l.n
}

// add takes characters of the host, at most room.
func (l *link) add(p []byte, now time.Time) {
	if l.n == 0 {
		l.since = now
	}
	l.n += copy(l.out[l.n:], p)
}

// lose says that n characters of the host were lost before what comes next.
func (l *link) lose(n int64) {
	l.overrun = true
	l.note(fmt.Sprintf("%d bytes were lost: the connection is too slow", n))
}

// note puts a remark for the person at the console into the output.
func (l *link) note(text string) {
	if len(l.notes)+len(text)+6 <= maxNotes {
		l.notes = append(l.notes, "\r\n["+text+"]\r\n"...)
	}
}

// unsent notes once why input does not reach the host.
func (l *link) unsent(why, text string) {
	if l.told != why {
		l.told = why
		l.note(text)
	}
}

// setOff says whether the host is powered down or sleeps. What was typed at a
// dead machine must not run on the next one.
func (l *link) setOff(off bool) {
	if off && !l.off {
		l.proven = false
		if n := l.drop(); n > 0 {
			l.note(fmt.Sprintf("%d bytes were not sent: the host went off or to sleep", n))
		}
	}
	l.off = off
}

// drop forgets the typed input that is not written.
func (l *link) drop() int {
	n := len(l.queue)
	l.queue, l.breaks = l.queue[:0], l.breaks[:0]
	return n
}

// poll appends the packet that is to be sent now to b; where there is none, it
// says when to ask again, zero: not before something happens.
func (l *link) poll(b []byte, t timing, now time.Time) (packet []byte, next time.Time) {
	if l.off != l.offTold { // told once at each change (table 15-2, status bit 5)
		l.offTold = l.off
		h := header{op: statusNACK}
		if l.off {
			h.op |= statusUnavailable
		}
		return h.append(b), next
	}
	if l.held.on {
		if l.held.ready || !now.Before(l.held.until) {
			return l.answerHeld().append(b), next
		}
		next = l.held.until
	}
	if len(l.notes) > 0 {
		k := min(len(l.notes), maxData-l.n)
		l.add(l.notes[:k], now)
		l.notes = append(l.notes[:0], l.notes[k:]...)
	}
	var due time.Time
	switch {
	case l.sentLen > 0 && l.suspended:
		return nil, next
	case l.sentLen > 0:
		if due = l.sentAt.Add(l.pause(t)); !now.Before(due) {
			l.sentAt, l.again = now, false
			l.tries++
			return append(b, l.sent[:l.sentLen]...), next
		}
	case l.n > 0:
		if due = l.since.Add(t.accumulate); l.n >= min(t.threshold, maxData) || !now.Before(due) {
			return append(b, l.pack(now)...), next
		}
	default:
		return nil, next
	}
	if next.IsZero() || due.Before(next) {
		next = due
	}
	return nil, next
}

// pause is the time from the last sending of the packet under way to the next.
// The specification lets it be dropped when the retries are over (section
// 15.11). Here it stays, with the ring behind it, and a network that comes back
// has lost nothing; a console that does not come back loses its session.
func (l *link) pause(t timing) time.Duration {
	switch {
	case l.again:
		return resendGap
	case l.tries < t.retries:
		return max(t.interval, resendGap)
	}
	return max(t.interval, slowRetry)
}

// pack makes the next packet of what is in out.
func (l *link) pack(now time.Time) []byte {
	l.seq = l.seq%sequences + 1
	h := header{seq: l.seq}
	if l.overrun {
		h.op |= statusOverrun
	}
	h.append(l.sent[:0])
	l.sentLen = headerLen + copy(l.sent[headerLen:], l.out[:l.n])
	l.n, l.overrun, l.tries, l.sentAt, l.again, l.suspended = 0, false, 0, now, false, false
	return l.sent[:l.sentLen]
}

// receive handles a packet from the console, which came under the session's
// sequence number session, and returns the answer that is to be sent at once.
// A console that may not type has what it typed dropped.
func (l *link) receive(p []byte, session uint32, mayType bool, now time.Time) (answer header, send bool) {
	h, data, ok := parse(p)
	if !ok {
		return header{}, false
	}
	if h.ack != 0 {
		l.acknowledged(h, session)
	}
	if h.seq == 0 { // an acknowledgement, or a control packet
		l.operate(h.op, mayType)
		return header{}, false
	}
	if l.taken != 0 {
		if int32(session-l.newest) < 0 {
			return header{}, false
		}
		if h.seq == l.taken {
			l.newest = session
			return l.answer, !l.held.on // while it is held, the answer will come
		}
	}
	l.overrule()
	l.taken, l.newest = h.seq, session
	l.operate(h.op, mayType)
	return l.take(h, data, mayType, now)
}

// take accepts the characters of a new packet, as far as it can.
func (l *link) take(h header, data []byte, mayType bool, now time.Time) (answer header, send bool) {
	l.answer = header{ack: h.seq, count: byte(len(data))}
	switch {
	case len(data) == 0 && (h.op&opBreak == 0 || !l.off), !mayType:
		if len(data) > 0 {
			l.unsent("role", "your role may only watch; what you type is not sent")
		}
		return l.answer, true
	case l.off:
		l.unsent("off", "not sent: the host is off or asleep")
		l.hold(data, now.Add(refuseDelay))
		l.held.refuse = true
		return header{}, false
	}
	k := min(len(data), max(0, queueSize-l.flight-len(l.queue)))
	l.queue = append(l.queue, data[:k]...)
	if k == len(data) && l.proven {
		return l.answer, true
	}
	l.hold(data[k:], now.Add(holdLimit))
	l.held.size = len(data)
	return header{}, false
}

// overrule ends the wait of the held packet, since its console sent the next
// one without an answer.
func (l *link) overrule() {
	x := &l.held
	if x.on && !x.refuse {
		k := min(len(x.rest), maxQueue-l.flight-len(l.queue))
		l.queue = append(l.queue, x.rest[:k]...)
		if n := len(x.rest) - k; n > 0 {
			l.unsent("busy", fmt.Sprintf("the serial port is busy: %d bytes were not taken", n))
		}
	}
	x.on = false
}

func (l *link) hold(rest []byte, until time.Time) {
	l.held.on, l.held.ready, l.held.refuse, l.held.until, l.held.size = true, false, false, until, len(rest)
	l.held.rest = l.held.buf[:copy(l.held.buf[:], rest)]
}

// answerHeld answers the held packet by what became of it.
func (l *link) answerHeld() header {
	x := &l.held
	x.on = false
	switch {
	case x.refuse:
		l.answer.count, l.answer.op = 0, statusNACK
		if l.off {
			l.answer.op |= statusUnavailable
		}
	case len(x.rest) > 0:
		l.answer.count, l.answer.op = byte(x.size-len(x.rest)), statusNACK
		l.unsent("busy", fmt.Sprintf("the serial port is busy: %d bytes were not taken", len(x.rest)))
	}
	return l.answer
}

// operate does the operations of a packet, which come before its characters.
func (l *link) operate(op byte, mayType bool) {
	if op&opFlushInbound != 0 {
		l.drop()
	}
	if op&opFlushOutbound != 0 {
		l.n, l.sentLen, l.suspended = 0, 0, false
		l.flushes++
	}
	if op&opBreak != 0 && mayType && !l.off && len(l.breaks) < maxBreaks {
		l.breaks = append(l.breaks, len(l.queue))
	}
}

// acknowledged handles an answer to a packet of ours (table 15-3).
func (l *link) acknowledged(h header, session uint32) {
	if l.sentLen == 0 || h.ack != l.seq || l.acked && int32(session-l.newestAck) <= 0 {
		return
	}
	l.acked, l.newestAck = true, session
	switch {
	case h.op&opNACK == 0 && int(h.count) >= l.sentLen-headerLen:
		l.sentLen, l.suspended = 0, false
	case h.op&opNACK != 0 && h.count == 0:
		l.suspended = true
	default: // a part of it, or the end of a suspension
		l.suspended, l.again = false, true
	}
}

// next takes what is to be written to the host next, into b: characters, or a
// break. wrote must follow.
func (l *link) next(b []byte) (n int, isBreak bool) {
	end := len(l.queue)
	if len(l.breaks) > 0 {
		if end = l.breaks[0]; end == 0 {
			l.breaks = append(l.breaks[:0], l.breaks[1:]...)
			return 0, true
		}
	}
	n = copy(b, l.queue[:end])
	l.queue = append(l.queue[:0], l.queue[n:]...)
	for i := range l.breaks {
		l.breaks[i] -= n
	}
	l.flight = n
	return n, false
}

// wrote says how the write of n characters ended.
func (l *link) wrote(n int, err error) {
	l.flight = 0
	if err != nil {
		l.proven = false
		lost := n + l.drop()
		if l.held.on { // the console is told, and may send it again
			lost = max(0, lost-l.held.size+len(l.held.rest))
			l.held.refuse, l.held.ready = true, true
		}
		text := "not sent: " + err.Error()
		if lost > 0 {
			text = fmt.Sprintf("%d bytes were not sent: %v", lost, err)
		}
		l.unsent("failed", text)
		return
	}
	l.proven, l.told = true, ""
	if x := &l.held; x.on && !x.refuse {
		k := min(len(x.rest), max(0, queueSize-len(l.queue)))
		l.queue = append(l.queue, x.rest[:k]...)
		x.rest = x.rest[k:]
		x.ready = len(x.rest) == 0
	}
}

// brokeOff says how a break ended.
func (l *link) brokeOff(err error) {
	if err != nil {
		l.note("no break was sent: " + err.Error())
	}
}

// farewell is the last that is sent: why the payload is deactivated, in words
// for consoles that do not show the status, and the status (table 15-2, status
// bit 4). Nobody acknowledges either.
func (l *link) farewell(why string) [2][]byte {
	l.seq = l.seq%sequences + 1
	words := "\r\n[SOL ends: " + why + "]\r\n"
	return [2][]byte{
		append(header{seq: l.seq}.append(nil), words[:min(len(words), maxData)]...),
		header{op: statusNACK | statusDeactivated}.append(nil),
	}
}
