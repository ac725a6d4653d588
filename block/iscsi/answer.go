package iscsi

import (
	"encoding/binary"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
)

// respond queues the answer of a task: its data, and its status with the last of
// them if that has nothing more to tell (section 11.7.3). The caller holds mu.
func (c *conn) respond(t *task) {
	cmd := &t.cmd
	good := cmd.Status == scsi.StatusGood || cmd.Status == scsi.StatusConditionMet
	out, in := t.expected()
	n := 0
	if cmd.Out == 0 && !t.req.Write {
		n = min(cmd.N, in, len(cmd.Data))
	}
	var outResidual, inResidual pdu.Residual
	if good {
		outResidual, inResidual = residual(out, cmd.Out), residual(in, cmd.In)
	} else {
		outResidual, inResidual = residual(out, min(out, cmd.N)), residual(in, n)
	}
	r := pdu.SCSIResponse{Status: cmd.Status, ITT: t.req.ITT, Residual: outResidual}
	if t.req.Read && t.req.Write {
		r.ReadResidual = residual(in, 0) // no command of package scsi moves data both ways
	} else {
		switch {
		case t.req.Read:
			r.Residual = inResidual
		case !t.req.Write && good: // nothing was expected in either direction
			r.Residual = residual(0, cmd.In+cmd.Out)
		}
		if n > 0 {
			collapsed := good && len(cmd.Sense) == 0
			r.ExpDataSN = c.dataIn(t, n, collapsed, r.Residual)
			if collapsed {
				return
			}
		}
	}
	if t.in.buffer != nil { // nothing came of it
		c.unused(t.in)
		t.in = piece{}
	}
	r.ExpDataSN += t.asks // of R2T
	if len(cmd.Sense) == 0 {
		c.post(func(h *pdu.Header) { r.Encode(h); c.stamp(h, false) })
		return
	}
	var length [2]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(cmd.Sense)))
	r.DataLength = len(length) + len(cmd.Sense)
	c.post(func(h *pdu.Header) { r.Encode(h); c.stamp(h, false) }, length[:], cmd.Sense)
}

// residual compares what was expected with what the command is about.
func residual(expected, n int) pdu.Residual {
	return pdu.Residual{Overflow: n > expected, Underflow: n < expected, Count: uint32(max(n-expected, expected-n))}
}

// dataIn queues n bytes at t.in as Data-In, and says how many PDUs they are. The
// caller holds mu.
func (c *conn) dataIn(t *task, n int, collapsed bool, r pdu.Residual) (count uint32) {
	if t.front {
		p := t.in
		p.to = p.from + c.head() + n + c.tail(n)
		d := pdu.DataIn{Final: true, HasStatus: collapsed, ITT: t.req.ITT, DataLength: n}
		if collapsed {
			d.Status, d.Residual = t.cmd.Status, r
		}
		h := (*pdu.Header)(p.bytes())
		d.Encode(h)
		c.stampData(h, collapsed)
		c.seal(p, n)
		c.add(p)
		t.in = piece{}
		return 1
	}
	burst, behind := 0, piece{}
	for at := 0; at < n; count++ {
		k := min(n-at, c.params.MaxSendDataSegmentLength, c.params.MaxBurstLength-burst)
		last := at+k == n
		d := pdu.DataIn{ITT: t.req.ITT, DataSN: count, BufferOffset: uint32(at), DataLength: k}
		if burst += k; burst == c.params.MaxBurstLength || last {
			d.Final, burst = true, 0
		}
		if last && collapsed {
			d.HasStatus, d.Status, d.Residual = true, t.cmd.Status, r
		}
		front := c.space(c.head())
		h := (*pdu.Header)(front.bytes())
		d.Encode(h)
		c.stampData(h, d.HasStatus)
		c.seal(front, 0)
		c.add(front)
		data := piece{t.in.buffer, t.in.from + at, t.in.from + at + k}
		data.buffer.pieces++
		c.add(data)
		if tail := c.tail(k); tail > 0 {
			behind = c.space(tail)
			c.trailer(behind.bytes(), data.bytes())
			c.add(behind)
		}
		at += k
	}
	t.in.buffer.pieces-- // the task's own
	c.release(t.in.buffer)
	t.in = piece{}
	return count
}

// stampData is stamp for Data-In, which has a StatSN only with a status (section
// 11.7.4). The caller holds mu.
func (c *conn) stampData(h *pdu.Header, status bool) {
	if status {
		c.stamp(h, false)
		return
	}
	h.SetWindow(c.expCmdSN, c.window())
}

// tellWindow sends a NOP-In that wants no answer if the window was closed and is
// not any more: without an answer to the command that closed it, the initiator would
// wait for ever. The caller holds mu.
func (c *conn) tellWindow() {
	if c.broken || c.maxCmdSN != c.expCmdSN-1 {
		return
	}
	c.post(func(h *pdu.Header) {
		(&pdu.NOPIn{ITT: pdu.NoTag, TTT: pdu.NoTag}).Encode(h)
		c.stamp(h, true)
	})
}
