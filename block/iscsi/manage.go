package iscsi

import (
	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
)

// taskManagement carries out a task management function (section 11.5). It is
// answered when the commands concerned have ended: nothing of them lands later.
func (c *conn) taskManagement(h *pdu.Header) error {
	var m pdu.TaskManagement
	err := m.Decode(h)
	if err == nil && c.session.nexus == nil {
		err = &pdu.Error{Reason: pdu.ReasonProtocolError, What: "task management in a discovery session"}
	}
	if err == nil && !c.enter(m.Immediate) {
		err = &pdu.Error{Reason: pdu.ReasonImmediateTooMany, What: "too many immediate task management functions"}
	}
	if err != nil {
		return c.refuse(h, err)
	}
	switch m.Function {
	case pdu.AbortTask:
		c.abortTask(&m)
	case pdu.TaskReassign:
		c.managed(&m, pdu.ReassignNotSupported)
	case pdu.AbortTaskSet, pdu.ClearTaskSet, pdu.LogicalUnitReset:
		// By what Manage marks, not by the LUN: it can be written in more than one way.
		c.manage(m, func(t *task) bool { return t.cmd.Aborted() })
	case pdu.TargetWarmReset, pdu.TargetColdReset:
		c.manage(m, func(*task) bool { return true })
	default:
		c.managed(&m, pdu.FunctionNotSupported)
	}
	return nil
}

// enter counts a function that is under way, until managed: it may wait as long as a
// command. It is false if there are too many.
func (c *conn) enter(immediate bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !immediate:
		c.taken++
	case c.managing >= maxManaging:
		return false
	default:
		c.managing++
	}
	return true
}

// managed queues the answer.
func (c *conn) managed(m *pdu.TaskManagement, response byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Immediate {
		c.managing--
	} else {
		c.taken--
	}
	c.post(func(to *pdu.Header) {
		(&pdu.TaskManagementResponse{Response: response, ITT: m.ITT}).Encode(to)
		c.stamp(to, false)
	})
}

// abortTask is ABORT TASK.
func (c *conn) abortTask(m *pdu.TaskManagement) {
	c.mu.Lock()
	t := c.tasks[m.ReferencedTag]
	if t == nil || t.req.LUN != m.LUN {
		response := byte(pdu.TaskDoesNotExist)
		// One that has not come yet, and would have to before this function, counts as
		// if it had come and was aborted (section 11.6.1).
		if t == nil && !pdu.Before(m.RefCmdSN, c.expCmdSN) && pdu.Before(m.RefCmdSN, m.CmdSN) && !pdu.Before(c.maxCmdSN, m.RefCmdSN) {
			response = pdu.FunctionComplete
			if c.held == nil {
				c.held = make(map[uint32][]byte)
			}
			c.held[m.RefCmdSN] = nil
		}
		c.mu.Unlock()
		c.managed(m, response)
		return
	}
	waits := t.state == receiving
	c.mu.Unlock()
	if waits {
		c.end(t)
		c.managed(m, pdu.FunctionComplete)
		return
	}
	over := c.session.nexus.Abort(&t.cmd)
	c.spawn(func() {
		select {
		case <-over:
			c.managed(m, pdu.FunctionComplete)
			c.flush(false)
		case <-c.ctx.Done():
		}
	})
}

// manage is for the functions that concern several commands: those that came before,
// as match knows them of this connection. What comes next is not waited for.
func (c *conn) manage(m pdu.TaskManagement, match func(*task) bool) {
	r, ends := c.session.nexus.Manage(scsi.Function(m.Function), m.LUN)
	if r != scsi.FunctionComplete {
		c.managed(&m, byte(r))
		return
	}
	c.abandonAll(match)
	cold := m.Function == pdu.TargetColdReset
	var others []*session
	if cold { // all sessions end, and nothing that comes for them is done any more (section 11.5.1)
		c.mu.Lock()
		c.closing = true
		c.mu.Unlock()
		others = c.s.resetOthers(c.session)
	}
	c.spawn(func() {
		if ends.Wait(c.ctx) != nil {
			return // there is nobody to tell
		}
		for _, ses := range others {
			select {
			case <-ses.ended:
			case <-c.ctx.Done():
				return
			}
		}
		c.managed(&m, pdu.FunctionComplete)
		c.flush(false)
		if cold {
			c.dropLater(errReset)
		}
	})
}
