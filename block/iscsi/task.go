package iscsi

import (
	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
)

// maxInline is up to when data to be read gets its place between the headers, bytes.
const maxInline = 64 << 10

// A state is how far a command is.
type state byte

const (
	// receiving: it waits for data of the initiator, or for memory. Nobody executes
	// it, and whoever ends it may do so at once.
	receiving state = iota
	// running: it is being executed, and ended by who does that.
	running
	ended
)

// A task is a SCSI command of a connection.
type task struct {
	req pdu.SCSICommand
	cmd scsi.Command

	// Guarded by the connection's mutex.
	state state
	// filling: the reader moves data into its buffer; dead: it is to be ended after
	// that, and whoever aborted it has waited for that for overdue seconds.
	filling, dead bool
	overdue       int

	// in is where the data for the initiator goes; front tells that a header fits
	// before it.
	in    piece
	front bool

	// What is known of the data from the initiator: see transfer.go.
	buffer *buffer
	writes
}

// expected is how much the initiator wants to send and to get, bytes.
func (t *task) expected() (out, in int) {
	switch {
	case t.req.Write && t.req.Read:
		return int(t.req.ExpectedLength), int(t.req.ReadLength)
	case t.req.Write:
		return int(t.req.ExpectedLength), 0
	case t.req.Read:
		return 0, int(t.req.ExpectedLength)
	}
	return 0, 0
}

// dormant says that other commands have to end first, which may wait for memory:
// until then a command takes none that they could have.
func (t *task) dormant() bool {
	turn := t.cmd.Turn()
	if turn == nil {
		return false
	}
	select {
	case <-turn:
		return false
	default:
		return true
	}
}

// granted waits for a command's turn, and then for n bytes for its data; nil if the
// connection ends before.
func (c *conn) granted(t *task, n int) *buffer {
	if turn := t.cmd.Turn(); turn != nil {
		select {
		case <-turn:
		case <-c.ctx.Done():
			return nil
		}
	}
	return c.s.memory.wait(c.share, n, c.ctx.Done())
}

// newTask is for the reader.
func (c *conn) newTask() *task {
	if k := len(c.idle); k > 0 {
		t := c.idle[k-1]
		c.idle = c.idle[:k-1]
		return t
	}
	return new(task)
}

// reuse is for a task that only the reader knows.
func (c *conn) reuse(t *task) {
	if len(c.idle) < maxWindow {
		t.cmd.Reset()
		*t = task{req: pdu.SCSICommand{CDB: t.req.CDB[:0]}, cmd: scsi.Command{Sense: t.cmd.Sense}}
		c.idle = append(c.idle, t)
	}
}

// command handles a SCSI Command. data is nil where it is to be read yet.
func (c *conn) command(h *pdu.Header, ahs, data []byte) error {
	t := c.newTask()
	length := h.DataLength()
	err := t.req.Decode(h, ahs)
	if err == nil && c.session.nexus == nil {
		err = &pdu.Error{Reason: pdu.ReasonProtocolError, What: "a SCSI command in a discovery session"}
	}
	if err != nil {
		c.advance(h)
		c.reuse(t)
		return c.refuseData(h, data, err)
	}
	c.mu.Lock()
	_, twice := c.tasks[t.req.ITT]
	many := h.Immediate() && c.immediate >= maxImmediate
	switch {
	case h.Immediate() && !twice && !many:
		c.immediate++
	case !h.Immediate():
		c.expCmdSN++
		if !twice {
			c.taken++
		}
	}
	c.mu.Unlock()
	switch {
	case twice:
		c.reuse(t)
		return c.refuseData(h, data, &pdu.Error{Reason: pdu.ReasonTaskInProgress, What: "the task tag of a command that is under way"})
	case many:
		c.reuse(t)
		return c.refuseData(h, data, &pdu.Error{Reason: pdu.ReasonImmediateTooMany, What: "too many immediate commands"})
	}
	cmd := &t.cmd
	cmd.LUN, cmd.CDB, cmd.Attribute, cmd.Expected = t.req.LUN, t.req.CDB, scsi.Attribute(t.req.Attribute), int(t.req.ExpectedLength)
	answered := c.session.nexus.Begin(cmd)
	c.begun = t
	out, _ := t.expected()
	if out == 0 && length == 0 {
		if answered {
			c.answer(t, true)
		} else {
			c.try(t)
		}
		return nil
	}
	return c.commandData(t, h, data, answered)
}

// refuseData rejects a command, and drops its data.
func (c *conn) refuseData(h *pdu.Header, data []byte, why error) error {
	if err := c.refuse(h, why); err != nil {
		return err
	}
	if data == nil {
		return c.skip(h.DataLength())
	}
	return nil
}

// try has the reader execute a command whose data is there. If it has to wait a
// goroutine does it.
func (c *conn) try(t *task) {
	cmd := &t.cmd
	if _, in := t.expected(); cmd.Out == 0 && cmd.In > 0 && in > 0 && !c.provide(t, min(cmd.In, in)) {
		c.register(t, receiving)
		c.spawn(func() { c.await(t) })
		return
	}
	if c.session.nexus.Try(cmd) {
		c.answer(t, true)
		return
	}
	if t.in.buffer != nil && t.in.buffer.kind == answers && !c.settle(t) {
		c.register(t, receiving)
		c.spawn(func() { c.await(t) })
		return
	}
	c.register(t, running)
	c.spawn(func() { c.execute(t) })
}

// settle moves the place for a command's answer to memory that has a limit: nobody
// knows how long the command waits, and how many others will. It may be impossible
// at once.
func (c *conn) settle(t *task) bool {
	n := len(t.cmd.Data)
	c.mu.Lock()
	c.unused(t.in)
	c.mu.Unlock()
	t.in, t.front, t.cmd.Data = piece{}, false, nil
	return c.take(t, n)
}

// take finds memory with a limit for n bytes to the initiator, if that is possible at
// once.
func (c *conn) take(t *task, n int) bool {
	if t.dormant() {
		return false
	}
	b := c.s.memory.get(c.share, n)
	if b == nil {
		return false
	}
	t.place(b, n)
	return true
}

// provide makes room for n bytes to the initiator, if that is possible at once.
func (c *conn) provide(t *task, n int) bool {
	if n > maxInline {
		return c.take(t, n)
	}
	t.front = n <= c.params.MaxSendDataSegmentLength && n <= c.params.MaxBurstLength
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.front {
		t.in = c.space(n)
		t.cmd.Data = t.in.bytes()
		return true
	}
	t.in = c.space(c.head() + n + c.tail(n))
	t.cmd.Data = t.in.bytes()[c.head():][:n]
	return true
}

// place makes a buffer the one for n bytes to the initiator.
func (t *task) place(b *buffer, n int) {
	b.filled, b.pieces = n, 1
	t.in = piece{b, 0, n}
	t.cmd.Data = b.b[:n]
}

// register makes a task known to those that may abort it.
func (c *conn) register(t *task, s state) {
	c.mu.Lock()
	t.state = s
	c.tasks[t.req.ITT] = t
	c.mu.Unlock()
	c.begun = nil
	if s == receiving && t.cmd.Aborted() { // before anybody could find it
		c.end(t)
	}
}

// await executes a command that reads, when it is its turn and there is memory for it.
func (c *conn) await(t *task) {
	_, n := t.expected()
	n = min(n, t.cmd.In)
	b := c.granted(t, n)
	if b == nil {
		return // the connection's end ends the task
	}
	c.mu.Lock()
	if t.state != receiving {
		c.mu.Unlock()
		c.s.memory.put(b)
		return
	}
	t.place(b, n)
	t.state = running
	c.mu.Unlock()
	c.execute(t)
}

// execute carries a command out in a goroutine that may wait.
func (c *conn) execute(t *task) {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
			c.close(t, false)
			c.session.nexus.End(&t.cmd)
		}
	}()
	c.session.nexus.Execute(&t.cmd)
	c.answer(t, false)
	c.flush(false)
}

// endBegun ends the command that the reader was at when the connection ended.
func (c *conn) endBegun() {
	if t := c.begun; t != nil {
		c.begun = nil
		c.close(t, false)
		c.session.nexus.End(&t.cmd)
	}
}

// answer ends a command that was executed, and queues its answer if it is wanted.
func (c *conn) answer(t *task, reader bool) {
	c.close(t, !t.cmd.Aborted())
	c.session.nexus.End(&t.cmd)
	if reader {
		c.begun = nil
		c.reuse(t)
	}
}

// close is answer for what the connection knows of a command.
func (c *conn) close(t *task, respond bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish(t)
	if respond {
		c.respond(t)
		return
	}
	if t.in.buffer != nil {
		c.unused(t.in)
	}
	c.tellWindow()
}

// finish takes a task out. The caller holds mu, and calls the nexus' End without it.
func (c *conn) finish(t *task) {
	if t.state == ended {
		return
	}
	t.state = ended
	if c.tasks[t.req.ITT] == t {
		delete(c.tasks, t.req.ITT)
	}
	if t.req.Immediate {
		c.immediate--
	} else {
		c.taken--
	}
	if t.buffer != nil {
		c.s.memory.put(t.buffer)
		t.buffer = nil
	}
	if c.leaving {
		c.out.room.Broadcast()
	}
}

// end ends a command of this connection without an answer, if it waits for data or
// memory; who executes it ends it otherwise.
func (c *conn) end(t *task) {
	c.mu.Lock()
	mine := c.claim(t)
	c.mu.Unlock()
	if mine {
		c.session.nexus.End(&t.cmd)
	}
}

// claim takes out a command that is the caller's to end then. While the reader moves
// data into its buffer it is the reader's, after that. The caller holds mu, and calls
// the nexus' End without it.
func (c *conn) claim(t *task) bool {
	switch {
	case t.state != receiving || c.tasks[t.req.ITT] != t:
		return false
	case t.filling:
		t.dead = true
		return false
	}
	c.finish(t)
	c.tellWindow()
	return true
}

// abandonAll is for all that match, of those that wait; it marks the others.
func (c *conn) abandonAll(match func(*task) bool) {
	c.mu.Lock()
	var waiting, running []*task
	for _, t := range c.tasks {
		switch {
		case !match(t):
		case t.state == receiving:
			waiting = append(waiting, t)
		default:
			running = append(running, t)
		}
	}
	c.mu.Unlock()
	for _, t := range waiting {
		c.end(t)
	}
	for _, t := range running {
		c.session.nexus.Abort(&t.cmd)
	}
}

// aborted is called by package scsi when another nexus ended a command.
func (c *conn) aborted(cmd *scsi.Command) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken { // all are ended anyway
		return
	}
	c.spawn(func() {
		c.mu.Lock()
		mine := false
		for _, t := range c.tasks {
			if &t.cmd == cmd && cmd.Aborted() { // else it is another one meanwhile
				mine = c.claim(t)
				break
			}
		}
		c.mu.Unlock()
		if mine {
			c.session.nexus.End(cmd)
			c.flush(false)
		}
	})
}
