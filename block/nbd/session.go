package nbd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// errLost: the connection ended before a request had its answer.
var errLost = errors.New("the connection to the NBD server was lost")

func isLost(err error) bool { return errors.Is(err, errLost) }

// A session is the connections that are used at the same time. They live and die
// together: what is lost with one cannot be told from what is lost with all.
type session struct {
	links   []*link
	began   time.Time
	next    atomic.Uint32
	readers sync.WaitGroup

	once  sync.Once
	ended chan struct{} // closed when it has
	err   error         // why; to be read after ended
}

// open makes a session with up to o.Connections connections.
func open(ctx context.Context, p place, o *Options) (*session, export, error) {
	conn, e, err := connect(ctx, p, o)
	if err != nil {
		return nil, export{}, err
	}
	s := &session{links: []*link{newLink(conn, e)}, began: time.Now(), ended: make(chan struct{})}
	for e.flags&flagCanMultiConn != 0 && len(s.links) < o.Connections {
		conn, other, err := connect(ctx, p, o)
		if err != nil {
			break // a server may limit them: one is enough
		}
		s.links = append(s.links, newLink(conn, other))
		if err := other.fits(e); err != nil {
			s.fail(err)
			return nil, export{}, err
		}
	}
	for _, l := range s.links {
		s.readers.Go(func() { s.fail(l.receive(l)) })
	}
	s.readers.Go(func() { s.watch(o.Patience, o.Report) })
	return s, e, nil
}

// watch tells of a server that takes requests and does not answer them, for longer than
// patience, and with nil that it does again. It is waited for as long as its connection
// lives: what it is still doing could land over what came later by another connection.
func (s *session) watch(patience time.Duration, report func(error)) {
	tick := time.NewTicker(patience / 4)
	defer tick.Stop()
	told := false
	for {
		select {
		case <-tick.C:
		case <-s.ended:
			return
		}
		silent := slices.ContainsFunc(s.links, func(l *link) bool { return l.silent() > patience })
		switch {
		case silent && !told:
			report(fmt.Errorf("the server has not answered for %v", patience))
		case told && !silent:
			report(nil)
		}
		told = silent
	}
}

// fits tells whether what is served now can stand for what was before.
func (e export) fits(before export) error {
	const need = flagSendFlush | flagSendWriteZeroes
	switch {
	case e.size != before.size:
		return fmt.Errorf("%w: %d bytes were %d", ErrChanged, e.size, before.size)
	case (e.flags^before.flags)&flagReadOnly != 0:
		return fmt.Errorf("%w: read-only or not", ErrChanged)
	case before.flags&^e.flags&need != 0 || before.allocation && !e.allocation:
		return fmt.Errorf("%w: it cannot do any more what it could", ErrChanged)
	case e.block > before.block || e.payload < before.payload:
		return fmt.Errorf("%w: blocks of %d bytes, requests of %d", ErrChanged, e.block, e.payload)
	}
	return nil
}

// fail ends the session, if nothing has before.
func (s *session) fail(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.ended)
		for _, l := range s.links {
			_ = l.conn.Close() // it is over: no error of it matters
		}
	})
}

// leave ends the session as the protocol has it.
func (s *session) leave() {
	for _, l := range s.links {
		// The server sees the end of the connection if it does not see this.
		_ = l.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = l.send(&call{command: cmdDisconnect}, 0)
	}
	s.fail(context.Canceled)
}

// exchange sends a call and waits for its answer.
func (s *session) exchange(c *call) error {
	l := s.links[int(s.next.Add(1)%uint32(len(s.links)))]
	var slot int
	select {
	case slot = <-l.free:
	case <-s.ended:
		return errLost
	}
	cookie, ok := l.enter(c, slot)
	if !ok {
		l.free <- slot
		return errLost
	}
	if err := l.send(c, cookie); err != nil {
		s.fail(err)
	}
	return <-c.done
}
