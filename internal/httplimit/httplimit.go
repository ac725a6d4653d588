// Package httplimit bounds the connections of an http.Server so that those who
// only hold them cannot keep out those who ask for something.
//
// A connection is at work while a request is under way on it: from the end of the
// request's header (of HTTP/2, of the first stream's) to the end of the answer.
// All else (a handshake that does not end, a header that comes byte by byte,
// keep-alive) is waiting. When the places are taken, a newcomer gets that of a
// waiting connection; one at work is never closed.
package httplimit

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// A Listener has a bounded number of connections open. Its ConnState has to be
// the http.Server's.
type Listener struct {
	net.Listener
	places, share int
	freed         chan struct{} // gets one when a connection ends or comes to wait
	closing       chan struct{} // closed when no more may come in

	mu      sync.Mutex // guards the following, and the fields of each conn
	ended   bool
	open    int
	sources map[netip.Addr]*source // those that have connections
}

// A source is who connections come from.
type source struct {
	open int
	// waiting are the connections without a request, as *conn: who has waited
	// longest is first.
	waiting list.List
}

// A conn is a connection that has, or had, a place.
type conn struct {
	net.Conn
	l    *Listener
	from netip.Addr
	gone bool          // it has given its place back
	wait *list.Element // in its source's waiting; nil: it is at work, or gone
}

// New bounds the connections of l to so many places. One source, that is an IPv4
// address or an IPv6 /64, has half of them at most, so that requests that do not
// end are no way to have them all.
func New(l net.Listener, places int) *Listener {
	return &Listener{Listener: l, places: places, share: (places + 1) / 2,
		freed: make(chan struct{}, 1), closing: make(chan struct{}), sources: map[netip.Addr]*source{}}
}

// sourceOf is what counts as one source: the smallest network that one attacker
// owns (RFC 4291 section 2.5.1).
func sourceOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{} // all others are one
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

// Accept waits for the next connection and for a place for it. Of a source that
// is at work on all of its share, further connections are closed at once.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, l: l, from: sourceOf(raw.RemoteAddr())}
		if l.enter(c) {
			return c, nil
		}
		c.drop()
	}
}

// drop closes a connection that nobody is to hear of again, an error included.
func (c *conn) drop() { _ = c.Conn.Close() }

// enter waits until c has a place; false: it gets none.
func (l *Listener) enter(c *conn) bool {
	for {
		switch victim, v := l.admit(c); {
		case v == refused:
			return false
		case v == admitted:
			if victim != nil {
				victim.drop()
			}
			return true
		}
		select {
		case <-l.freed:
		case <-l.closing:
			return false
		}
	}
}

// A verdict is what admit answers.
type verdict int

const (
	admitted verdict = iota
	refused
	full
)

// admit gives c a place if there is one, or that of victim, which is to be
// closed: where the share of c's source is taken the one of it that has waited
// longest, else the one of the source of which the most are waiting.
func (l *Listener) admit(c *conn) (victim *conn, v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, refused
	}
	s := l.sources[c.from]
	switch {
	case s != nil && s.open >= l.share:
		if s.waiting.Len() == 0 {
			return nil, refused
		}
		victim = s.first()
	case l.open >= l.places:
		most := s
		for _, o := range l.sources {
			if most == nil || o.waiting.Len() > most.waiting.Len() {
				most = o
			}
		}
		if most.waiting.Len() == 0 {
			return nil, full
		}
		victim = most.first()
	}
	if victim != nil {
		l.remove(victim)
	}
	if s = l.sources[c.from]; s == nil { // the victim may have been its last
		s = &source{}
		l.sources[c.from] = s
	}
	s.open++
	l.open++
	c.wait = s.waiting.PushBack(c)
	return victim, admitted
}

// first answers the connection that has waited longest; there is one.
func (s *source) first() *conn { return s.waiting.Front().Value.(*conn) }

// remove takes c's place back. l.mu is held.
func (l *Listener) remove(c *conn) {
	s := l.sources[c.from]
	c.gone = true
	if c.wait != nil {
		s.waiting.Remove(c.wait)
		c.wait = nil
	}
	l.open--
	if s.open--; s.open == 0 {
		delete(l.sources, c.from)
	}
	l.free()
}

// free has Accept look again for a place.
func (l *Listener) free() {
	select {
	case l.freed <- struct{}{}:
	default: // it has been told
	}
}

// ConnState follows what the server does on a connection; it is for
// http.Server.ConnState.
func (l *Listener) ConnState(nc net.Conn, state http.ConnState) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // a *tls.Conn
		nc = t.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.gone {
		return
	}
	s := l.sources[c.from]
	switch state {
	case http.StateActive, http.StateHijacked:
		if c.wait != nil {
			s.waiting.Remove(c.wait)
			c.wait = nil
		}
	case http.StateIdle:
		if c.wait != nil { // HTTP/2's first, before any request
			s.waiting.MoveToBack(c.wait)
		} else {
			c.wait = s.waiting.PushBack(c)
		}
		l.free()
	case http.StateNew, http.StateClosed: // Accept and Close have seen to it
	}
}

// Close closes the listener, and the connections without a request: the end of
// the server need not wait for them.
func (l *Listener) Close() error {
	l.mu.Lock()
	if !l.ended {
		l.ended = true
		close(l.closing)
	}
	var waiting []*conn
	for _, s := range l.sources {
		for e := s.waiting.Front(); e != nil; e = e.Next() {
			waiting = append(waiting, e.Value.(*conn))
		}
	}
	for _, c := range waiting {
		l.remove(c)
	}
	l.mu.Unlock()
	for _, c := range waiting {
		c.drop()
	}
	return l.Listener.Close()
}

// Close closes the connection and gives its place back.
func (c *conn) Close() error {
	c.l.mu.Lock()
	if !c.gone {
		c.l.remove(c)
	}
	c.l.mu.Unlock()
	return c.Conn.Close()
}
