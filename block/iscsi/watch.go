package iscsi

import (
	"context"
	"time"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

const (
	// idleLimit is after how many seconds of silence the initiator is asked for a sign
	// of life, again and again. Not to answer is no reason to drop it: iPXE never does.
	idleLimit = 15
	// stuckLimit is how many seconds an initiator may read nothing of what there is
	// for it.
	stuckLimit = 30
	// dataLimit is how many seconds the data of a command may fail to come while none
	// of any other comes, and the rest of a PDU. What waits for it has memory that
	// others need.
	dataLimit = 30
	// abortLimit is how many seconds a command may be in the way of those who aborted it,
	// as its data is being read.
	abortLimit = 3
)

// pulse is what watch knows of a connection from one second to the next.
type pulse struct {
	reads, sent, dataOuts uint64
	idle, stuck           int
}

// watch looks after the connections each second, until ctx ends.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		for ses := range s.sessions {
			if ses.conn == nil {
				continue
			}
			ses.conn.second()
			if ses.retire > 0 {
				if ses.retire--; ses.retire == 0 {
					ses.conn.drop(errRetired)
				}
			}
		}
		s.mu.Unlock()
	}
}

// second is what happens to a connection once a second.
func (c *conn) second() {
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return
	}
	p := &c.pulse
	if c.out.queued <= maxQueued { // else nothing is read
		p.idle++
		c.missData()
	}
	if c.reads != p.reads {
		p.reads, p.idle = c.reads, 0
	}
	p.stuck++
	if c.out.queued == 0 || c.out.sent != p.sent {
		p.sent, p.stuck = c.out.sent, 0
	}
	if p.stuck >= stuckLimit {
		c.breakOff(errStuck)
	}
	if p.idle >= dataLimit && c.partly.Load() {
		c.breakOff(errCutOff)
	}
	for _, t := range c.tasks {
		if t.dead {
			if t.overdue++; t.overdue > abortLimit {
				c.breakOff(errCutOff)
			}
		}
	}
	ask := p.idle > 0 && p.idle%idleLimit == 0 && c.out.queued == 0 && !c.broken
	if ask {
		c.ping()
	}
	c.mu.Unlock()
	if ask {
		c.flush(false)
	}
}

// missData ends the commands whose data does not come. Error recovery level 0 has no
// means to ask for it again (section 7.2.2); what comes of it later is dropped as
// that of no command. The caller holds mu.
func (c *conn) missData() {
	if c.dataOuts != c.pulse.dataOuts {
		c.pulse.dataOuts = c.dataOuts
		return
	}
	for _, t := range c.tasks {
		if t.state != receiving || len(t.bursts) == 0 || t.filling {
			continue
		}
		if t.silent++; t.silent < dataLimit {
			continue
		}
		t.spoil(faultSilent)
		t.bursts, t.state = nil, running
		c.spawn(func() {
			if !t.answered {
				t.fail()
			}
			c.answer(t, false)
			c.flush(false)
		})
	}
}

// askToLeave sends the asynchronous message for that (section 11.9.1).
func (c *conn) askToLeave() {
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return
	}
	c.post(func(h *pdu.Header) {
		(&pdu.Async{Event: pdu.AsyncLogoutRequest, Parameter: [3]uint16{2: logoutTime}}).Encode(h)
		c.stamp(h, false)
	})
	c.mu.Unlock()
	c.flush(false)
}

// dropLater drops the connection when what is queued has been sent.
func (c *conn) dropLater(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return
	}
	c.leaving = true
	c.spawn(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for c.out.queued > 0 && !c.broken {
			c.out.room.Wait()
		}
		c.breakOff(why)
	})
}
