package iscsi

import (
	"github.com/nitrino/nitrino/block/iscsi/login"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

// maxText is what a Text Request may have at most, in all its PDUs, bytes.
const maxText = 64 << 10

// nopOut answers a NOP-Out with its data, as much of it as the initiator can take
// (section 11.18).
func (c *conn) nopOut(h *pdu.Header, data []byte) error {
	var n pdu.NOPOut
	if err := n.Decode(h); err != nil {
		return c.refuse(h, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.ITT == pdu.NoTag { // it answers our ping, and that something came is all we want to know
		return nil
	}
	data = data[:min(len(data), c.params.MaxSendDataSegmentLength)]
	c.post(func(to *pdu.Header) {
		(&pdu.NOPIn{LUN: n.LUN, ITT: n.ITT, TTT: pdu.NoTag, DataLength: len(data)}).Encode(to)
		c.stamp(to, false)
	}, data)
	return nil
}

// textState is an exchange of Text Requests and Responses (section 11.10): its tags,
// the request as far as it came, or what is left of the response.
type textState struct {
	open     bool
	itt, ttt uint32
	request  []byte
	rest     []byte
}

// textRequest answers a Text Request.
func (c *conn) textRequest(h *pdu.Header, data []byte) error {
	var q pdu.Text
	if err := q.Decode(h); err != nil {
		return c.refuse(h, err)
	}
	t := &c.text
	switch {
	case q.TTT == pdu.NoTag: // a new one, which ends any other
		*t = textState{itt: q.ITT}
	case !t.open || t.ttt != q.TTT || t.itt != q.ITT:
		c.reject(h, pdu.ReasonProtocolError)
		return nil
	}
	if len(t.request)+len(data) > maxText {
		*t = textState{}
		c.reject(h, pdu.ReasonOutOfResources)
		return nil
	}
	t.request = append(t.request, data...)
	a := pdu.TextResponse{ITT: q.ITT, TTT: pdu.NoTag, LUN: q.LUN}
	if !q.Continue && len(t.rest) == 0 {
		if len(t.request) > 0 {
			text, err := login.TextResponse(t.request, c.session.result, c.listed)
			c.mu.Lock()
			c.params.MaxSendDataSegmentLength = c.session.result.MaxSendDataSegmentLength
			c.mu.Unlock()
			if err != nil {
				*t = textState{}
				c.reject(h, pdu.ReasonProtocolError)
				return nil
			}
			t.request, t.rest = nil, text
		}
	} else if !q.Continue && len(data) > 0 { // the initiator is to take what is left first
		*t = textState{}
		c.reject(h, pdu.ReasonProtocolError)
		return nil
	}
	n := min(len(t.rest), c.params.MaxSendDataSegmentLength)
	part := t.rest[:n]
	t.rest = t.rest[n:]
	a.DataLength = n
	a.Continue = len(t.rest) > 0
	a.Final = q.Final && !a.Continue
	if t.open = !a.Final; t.open {
		t.ttt = q.ITT // any tag but NoTag does, as there is only one exchange
		a.TTT = t.ttt
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.post(func(to *pdu.Header) { a.Encode(to); c.stamp(to, false) }, part)
	return nil
}

// listed is what SendTargets tells the initiator.
func (c *conn) listed(name string) []login.Listed {
	return c.s.listed(c.session, name)
}

// logout ends the session, or refuses to end only a part of it (section 11.14).
func (c *conn) logout(h *pdu.Header) error {
	var l pdu.Logout
	if err := l.Decode(h); err != nil {
		return c.refuse(h, err)
	}
	a := pdu.LogoutResponse{ITT: l.ITT, Response: pdu.LogoutDone, Time2Wait: uint16(c.params.DefaultTime2Wait)}
	switch {
	case l.Reason == pdu.RemoveForRecovery:
		a.Response = pdu.LogoutRecoveryNotSupported
	case l.Reason == pdu.CloseConnection && l.CID != c.session.result.CID:
		a.Response = pdu.LogoutCIDNotFound
	default:
		// Nothing of its commands may land once this is answered.
		c.flush(true)
		if c.mine {
			c.drain()
			c.mine = false
		}
		c.abandonAll(func(*task) bool { return true })
		c.mu.Lock()
		c.leaving = true
		for len(c.tasks) > 0 && !c.broken {
			c.out.room.Wait()
		}
		c.mu.Unlock()
		c.done = errLogout
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.post(func(to *pdu.Header) { a.Encode(to); c.stamp(to, false) })
	return nil
}

// ping asks the initiator whether it is there (section 11.19). The caller holds mu.
func (c *conn) ping() {
	if c.tag++; c.tag == pdu.NoTag {
		c.tag = 0
	}
	c.post(func(h *pdu.Header) {
		(&pdu.NOPIn{ITT: pdu.NoTag, TTT: c.tag}).Encode(h)
		c.stamp(h, true)
	})
}
