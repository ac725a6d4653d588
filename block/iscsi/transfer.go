package iscsi

import (
	"slices"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
)

// A burst is a sequence of Data-Out that the initiator is to send: it was asked for
// by an R2T, or comes unasked.
type burst struct {
	tag       uint32 // Target Transfer Tag; pdu.NoTag: unasked
	next, end int    // offsets of what is missing, in the command's data
	sn        uint32 // the next DataSN
}

// writes are what a command knows of the data from the initiator. The connection's
// mutex guards it.
type writes struct {
	want   int // bytes that the command takes
	have   int // of them that are there
	asked  int // up to where data came, or was asked for
	asks   uint32
	bursts []burst
	// fault is why the data cannot be used; the command is answered with it when no
	// more of its data can come (section 7.8).
	fault fault
	// answered: Begin has answered already, and only waits for that.
	answered bool
	waiting  bool // for its turn and memory
	silent   int  // seconds that nothing came in though it was asked for
}

// A fault is an iSCSI condition, as additional sense code and qualifier (section
// 11.4.7.2); its sense key is ABORTED COMMAND.
type fault uint16

const (
	faultUnexpected fault = 0x0c0c // unexpected unsolicited data
	faultAmount     fault = 0x0c0d // incorrect amount of data
	faultCRC        fault = 0x4705 // protocol service CRC error
	// faultSilent is SPC-4's INITIATOR RESPONSE TIMEOUT: iSCSI has no condition for it.
	faultSilent fault = 0x4b06
	// faultFull is no condition: there is no memory for data that comes unasked, and
	// the initiator is to send the command again.
	faultFull fault = 0xffff
)

// fail makes a fault the answer.
func (t *task) fail() {
	if t.fault == faultFull {
		t.cmd.Status = scsi.StatusTaskSetFull
		return
	}
	t.cmd.Status, t.cmd.N = scsi.StatusCheckCondition, 0
	t.cmd.Sense = append(t.cmd.Sense[:0], 0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, byte(t.fault>>8), byte(t.fault), 0, 0, 0, 0)
}

// spoil notes the first fault.
func (t *task) spoil(f fault) {
	if t.fault == 0 {
		t.fault = f
	}
}

// commandData is for a command with data from the initiator: it takes what comes
// with the command, and sees to the rest. The task has begun.
func (c *conn) commandData(t *task, h *pdu.Header, data []byte, answered bool) error {
	out, _ := t.expected()
	length := h.DataLength()
	p := &c.params
	t.answered = answered
	if !answered {
		t.want = min(t.cmd.Out, out)
	}
	switch {
	case length > 0 && !p.ImmediateData, !t.req.Final && p.InitialR2T:
		t.spoil(faultUnexpected)
	case length > min(out, p.FirstBurstLength):
		t.spoil(faultAmount)
	}
	if !t.req.Final { // more comes unasked (section 11.3.1)
		t.bursts = append(t.bursts, burst{tag: pdu.NoTag, next: length, end: max(length, min(out, p.FirstBurstLength))})
	}
	t.have, t.asked = min(length, t.want), length

	// The common case: all is there.
	if data != nil && t.have == t.want && len(t.bursts) == 0 && t.fault == 0 && !answered {
		t.cmd.Data = data[:t.want]
		if c.session.nexus.Try(&t.cmd) {
			c.answer(t, true)
			return nil
		}
		if t.want > 0 { // the receive buffer is the reader's
			c.reserve(t)
		}
		if t.fault == 0 {
			if t.buffer != nil {
				t.cmd.Data = t.buffer.b[:copy(t.buffer.b, data[:t.want])]
			}
			c.register(t, running)
			c.spawn(func() { c.execute(t) })
			return nil
		}
	}

	if !answered && t.want > 0 && t.fault == 0 && t.buffer == nil {
		c.reserve(t)
	}
	var to []byte
	if t.buffer != nil {
		to = t.buffer.b[:t.have]
	}
	if data != nil {
		copy(to, data)
	} else {
		// Others may abort it meanwhile, and must not wait long for what may never come.
		t.filling = true
		c.register(t, receiving)
		c.askAhead(t)
		sound, err := c.body(to, length)
		if err != nil {
			return err
		}
		c.mu.Lock()
		t.filling = false
		dead := t.dead
		c.mu.Unlock()
		if !sound { // badData for a command that has begun
			c.reject(h, pdu.ReasonDataDigest)
			c.done = errDigest
		}
		if dead || !sound {
			c.end(t)
			return nil
		}
		c.proceed(t)
		return nil
	}
	c.register(t, receiving)
	c.proceed(t)
	return nil
}

// reserve finds memory for a command's data: for all, or at least for that which
// comes unasked.
func (c *conn) reserve(t *task) {
	if !t.dormant() {
		if t.buffer = c.s.memory.get(c.share, t.want); t.buffer != nil {
			return
		}
	}
	unasked := t.have
	if len(t.bursts) > 0 {
		unasked = min(t.want, t.bursts[0].end)
	}
	if unasked == 0 {
		return
	}
	if t.buffer = c.s.memory.promised(c.share, unasked); t.buffer == nil {
		t.spoil(faultFull)
	}
}

// dataOut handles a Data-Out. data is nil where it is to be read yet; sound says
// that its digest is right, as far as it is there.
func (c *conn) dataOut(h pdu.Header, data []byte, sound bool) error {
	var d pdu.DataOut
	length := h.DataLength()
	if err := d.Decode(&h); err != nil {
		return c.refuseData(&h, data, err)
	}
	if !sound {
		c.reject(&h, pdu.ReasonDataDigest)
	}
	t, to := c.arrive(&d, length, sound)
	if data != nil {
		copy(to, data)
	} else {
		ok, err := c.body(to, length)
		if err != nil {
			return err
		}
		if !ok {
			c.reject(&h, pdu.ReasonDataDigest)
			sound = false
		}
	}
	if t == nil { // it was on its way when its command ended; or never had one
		return nil
	}
	if c.arrived(t, &d, len(to), sound) {
		c.end(t)
		return nil
	}
	c.proceed(t)
	return nil
}

// arrive checks a Data-Out, and says whose it is and where its data goes. The task
// is not ended before arrived.
func (c *conn) arrive(d *pdu.DataOut, length int, sound bool) (t *task, to []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t = c.tasks[d.ITT]; t == nil || t.state != receiving {
		return nil, nil
	}
	b := t.burst(d.TTT)
	if b == nil {
		return nil, nil
	}
	from := int(d.BufferOffset)
	switch {
	case !sound, d.DataSN != b.sn, from != b.next:
		t.spoil(faultCRC) // something is missing (section 7.9)
	case length > b.end-from:
		t.spoil(faultAmount)
	}
	b.sn++
	b.next += length
	t.filling, t.silent = true, 0
	c.dataOuts++
	if t.fault == 0 && !t.answered && from < t.want && t.buffer != nil {
		to = t.buffer.b[from:min(from+length, t.want)]
	}
	return t, to
}

// arrived counts the data of a Data-Out, n bytes of which the command takes. It says
// whether the command was aborted meanwhile.
func (c *conn) arrived(t *task, d *pdu.DataOut, n int, sound bool) (dead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.filling = false
	if !sound {
		t.spoil(faultCRC)
	}
	t.have += n
	b := t.burst(d.TTT)
	if d.Final || b.next >= b.end {
		if !d.Final || b.tag != pdu.NoTag && b.next != b.end {
			t.spoil(faultAmount)
		}
		if b.tag == pdu.NoTag {
			t.asked = max(t.asked, b.next)
		}
		t.bursts = slices.DeleteFunc(t.bursts, func(b burst) bool { return b.tag == d.TTT })
	}
	return t.dead
}

// burst finds a sequence by its tag.
func (t *task) burst(tag uint32) *burst {
	for i := range t.bursts {
		if t.bursts[i].tag == tag {
			return &t.bursts[i]
		}
	}
	return nil
}

// proceed does what is next with a command that waits for data: nothing, to ask for
// more, to execute it, to answer it.
func (c *conn) proceed(t *task) {
	if !c.complete(t) {
		return
	}
	c.begun = t
	if t.fault != 0 || t.answered {
		if !t.answered {
			t.fail()
		}
		c.answer(t, true)
		return
	}
	if t.want > 0 {
		t.cmd.Data = t.buffer.b[:t.want]
	}
	if c.session.nexus.Try(&t.cmd) {
		c.answer(t, true)
		return
	}
	c.begun = nil
	c.spawn(func() { c.execute(t) })
}

// complete says whether a command need not wait for data any more, and has it
// running then; else it asks for more where it may.
func (c *conn) complete(t *task) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	spoiled := t.fault != 0 || t.answered
	switch {
	case t.state != receiving || c.tasks[t.req.ITT] != t: // it was aborted
	case spoiled && len(t.bursts) > 0: // until they have come: what follows is another command's
	case spoiled, t.have == t.want && len(t.bursts) == 0:
		t.state = running
		return true
	case t.waiting, len(t.bursts) > 0 && t.bursts[0].tag == pdu.NoTag:
	case t.buffer == nil || len(t.buffer.b) < t.want:
		t.waiting = true
		c.spawn(func() { c.grow(t) })
	default:
		c.ask(t)
	}
	return false
}

// grow gets the memory for a command's whole data, when it is its turn, and asks for
// the data then.
func (c *conn) grow(t *task) {
	b := c.granted(t, t.want)
	if b == nil {
		return // the connection's end ends the task
	}
	c.mu.Lock()
	if t.state != receiving {
		c.mu.Unlock()
		c.s.memory.put(b)
		return
	}
	if t.buffer != nil {
		copy(b.b, t.buffer.b[:t.have])
		c.s.memory.put(t.buffer)
	}
	t.buffer = b
	c.ask(t)
	t.waiting = false
	c.mu.Unlock()
	c.flush(false)
}

// askAhead asks for the rest of a command's data while the first of it is still to be
// read, where nothing else comes unasked: the initiator need not wait in between.
func (c *conn) askAhead(t *task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.state == receiving && t.fault == 0 && !t.answered && len(t.bursts) == 0 && t.buffer != nil && len(t.buffer.b) >= t.want {
		c.ask(t)
	}
}

// ask asks for as much of a command's data as may be asked for at once (sections
// 11.8, 13.17). The caller holds mu.
func (c *conn) ask(t *task) {
	for t.asked < t.want && len(t.bursts) < c.params.MaxOutstandingR2T {
		n := min(t.want-t.asked, c.params.MaxBurstLength)
		if c.tag++; c.tag == pdu.NoTag {
			c.tag = 0
		}
		r := pdu.R2T{LUN: t.req.LUN, ITT: t.req.ITT, TTT: c.tag, R2TSN: t.asks, BufferOffset: uint32(t.asked), DesiredLength: uint32(n)}
		c.post(func(h *pdu.Header) { r.Encode(h); c.stamp(h, true) })
		t.bursts = append(t.bursts, burst{tag: c.tag, next: t.asked, end: t.asked + n})
		t.asked += n
		t.asks++
	}
}
