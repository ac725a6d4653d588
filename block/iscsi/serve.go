package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block/iscsi/login"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/host"
)

const (
	// loginLimit is how long a login may take.
	loginLimit = 15 * time.Second
	// maxLogins bounds the logins under way, maxLoginsOf those of one address. One
	// more ends the oldest of that address, or of the one that has most.
	maxLogins   = 64
	maxLoginsOf = 16
)

// loggingIn is a connection whose login is under way.
type loggingIn struct {
	conn net.Conn
	host string
}

// Serve takes initiators from l until ctx ends or l fails, and closes l. Once ctx
// has ended no answer is sent any more; Serve returns when no command is under way.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept tells
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	conns.Go(func() { s.watch(ctx) })
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
				s.o.Log.Warn("iSCSI: accepting", "error", err)
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
				continue
			}
			_ = l.Close() // the error of Accept is the one that matters
			return fmt.Errorf("iSCSI: %w", err)
		}
		in := s.begin(conn)
		conns.Go(func() { s.serve(ctx, in) })
	}
}

// begin counts a login, and ends another one if there are too many.
func (s *Server) begin(conn net.Conn) *loggingIn {
	in := &loggingIn{conn: conn, host: hostOf(conn.RemoteAddr())}
	s.mu.Lock()
	defer s.mu.Unlock()
	of := make(map[string][]*loggingIn) // oldest first
	var most []*loggingIn
	for _, l := range s.logins {
		of[l.host] = append(of[l.host], l)
		if len(of[l.host]) > len(most) {
			most = of[l.host]
		}
	}
	switch same := of[in.host]; {
	case len(same) >= maxLoginsOf:
		s.evict(same[0])
	case len(s.logins) >= maxLogins:
		s.evict(most[0])
	}
	s.logins = append(s.logins, in)
	return in
}

// evict ends a login. The caller holds mu.
func (s *Server) evict(in *loggingIn) {
	_ = in.conn.Close() // whoever waits for it is told
	s.over(in)
}

// over forgets a login. The caller holds mu.
func (s *Server) over(in *loggingIn) {
	for i, l := range s.logins {
		if l == in {
			s.logins = append(s.logins[:i], s.logins[i+1:]...)
			return
		}
	}
}

// hostOf is an address without its port.
func hostOf(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.IP.String()
	}
	return a.String()
}

// serve is a connection from its beginning to its end.
func (s *Server) serve(ctx context.Context, in *loggingIn) {
	stop := context.AfterFunc(ctx, func() { _ = in.conn.Close() }) // ends the calls on it
	defer stop()
	if t, ok := in.conn.(*net.TCPConn); ok {
		if err := errors.Join(t.SetNoDelay(true), t.SetKeepAliveConfig(keepAlive())); err != nil {
			s.o.Log.Debug("iSCSI: options of a connection", "error", err)
		}
	}
	ses, rest, err := s.login(ctx, in.conn)
	s.mu.Lock()
	s.over(in)
	s.mu.Unlock()
	if err != nil {
		s.refuse(in, err)
	}
	if ses == nil {
		_ = in.conn.Close() // it is over: no error of it matters
		return
	}
	if err == nil {
		err = s.full(ctx, ses, in.conn, rest)
	} else {
		_ = in.conn.Close()
	}
	s.depart(ses, err)
}

// login is the login phase. It returns the session, if there is one even though the
// login failed in the end, and what came after the login.
func (s *Server) login(ctx context.Context, conn net.Conn) (ses *session, rest []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Report(host.Critical, "iscsi.panic", fmt.Sprintf("A login from %s ended by a fault of the software: %v.", conn.RemoteAddr(), p))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(loginLimit)); err != nil {
		return nil, nil, err
	}
	l := login.New(&s.policy, portalGroup)
	in := make([]byte, 0, 1<<10)
	for {
		var h pdu.Header
		if in, err = fill(conn, in, pdu.HeaderLength); err != nil {
			return nil, nil, err
		}
		copy(h[:], in)
		total := h.Length(false, false)
		if h.AHSLength() > 0 || h.DataLength() > login.MaxData {
			return nil, nil, fmt.Errorf("a login request of %d bytes", total)
		}
		if in, err = fill(conn, in, total); err != nil {
			return nil, nil, err
		}
		var response pdu.Header
		text, done, refused := l.Step(&h, in[pdu.HeaderLength:pdu.HeaderLength+h.DataLength()], &response)
		in = in[:copy(in, in[total:])]
		if done != nil {
			var status login.Status
			if ses, status, refused = s.admit(ctx, done, conn.RemoteAddr(), conn.LocalAddr()); ses != nil {
				response.SetTSIH(ses.tsih)
			} else {
				login.Refuse(&response, status)
				text = nil
				refused = fmt.Errorf("%s to %s: %w", done.Initiator, done.Target, refused)
			}
		}
		out := append(append(make([]byte, 0, pdu.HeaderLength+len(text)+3), response[:]...), text...)
		out = append(out, make([]byte, pdu.Padding(len(text)))...)
		if _, err := conn.Write(out); err != nil {
			return ses, nil, errors.Join(refused, err)
		}
		if refused != nil || ses != nil {
			return ses, in, refused
		}
	}
}

// fill reads until there are n bytes in b.
func fill(conn net.Conn, b []byte, n int) ([]byte, error) {
	if cap(b) < n {
		b = append(make([]byte, 0, n), b...)
	}
	for len(b) < n {
		k, err := conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+k]
		if err != nil && len(b) < n {
			if errors.Is(err, io.EOF) && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return b, err
		}
	}
	return b, nil
}

// full is the full feature phase.
func (s *Server) full(ctx context.Context, ses *session, conn net.Conn, rest []byte) error {
	sock, err := takeSocket(conn)
	if err != nil {
		return err
	}
	c := newConn(ctx, s, ses, sock, rest)
	defer c.cancel()
	stop := context.AfterFunc(ctx, func() { c.drop(errStopped) })
	defer stop()
	s.mu.Lock()
	ses.conn = c
	dropped := ses.dropped
	s.change()
	s.mu.Unlock()
	if dropped != nil {
		c.drop(dropped)
	}
	r := ses.result
	s.o.Log.Info("iSCSI: login", "initiator", ses.initiator, "alias", r.InitiatorAlias, "target", ses.name, "user", r.User, "address", ses.address, "discovery", r.Discovery)
	if !r.Discovery {
		s.tell(ses, host.OK, "iscsi.login", fmt.Sprintf("%s logged in to %s from %s.", ses.initiator, ses.name, ses.address))
	}
	return c.run()
}

// depart is the end of a session, when nothing of it is under way.
func (s *Server) depart(ses *session, why error) {
	if ses.nexus != nil {
		ses.nexus.Close()
	}
	s.mu.Lock()
	delete(s.sessions, ses)
	close(ses.ended)
	s.change()
	s.mu.Unlock()
	s.o.Log.Info("iSCSI: session ended", "initiator", ses.initiator, "target", ses.name, "address", ses.address, "why", why)
	switch {
	case ses.nexus == nil || errors.Is(why, errStopped):
	case errors.Is(why, errLogout) || errors.Is(why, errReinstated):
		s.tell(ses, host.OK, "iscsi.logout", fmt.Sprintf("%s left %s.", ses.initiator, ses.name))
	case errors.Is(why, io.EOF): // as firmware does when the operating system takes over
		s.tell(ses, host.OK, "iscsi.dropped", fmt.Sprintf("%s closed its connection to %s without a logout.", ses.initiator, ses.name))
	default:
		s.tell(ses, host.Warning, "iscsi.dropped", fmt.Sprintf("The connection of %s to %s ended: %v.", ses.initiator, ses.name, why))
	}
}

// tell reports what a session does, if its host does not do so all the time.
func (s *Server) tell(ses *session, severity host.Severity, kind, message string) {
	s.mu.Lock()
	missed, ok := s.told.take(pacer{ses.host, ses.name}, time.Now())
	s.mu.Unlock()
	if !ok {
		return
	}
	if missed > 0 {
		message += fmt.Sprintf(" %d events before this one, like it, are not listed.", missed)
	}
	s.o.Report(severity, kind, message)
}

// refusals bounds how often people are told of refused logins.
type refusals struct {
	next  time.Time
	count int
}

// refusalPause is how long after one report the next one comes at the earliest.
const refusalPause = 10 * time.Second

// refuse logs a login that failed, and reports it where somebody may not log in.
func (s *Server) refuse(in *loggingIn, err error) {
	s.o.Log.Info("iSCSI: login failed", "address", in.conn.RemoteAddr(), "error", err)
	e, ok := errors.AsType[*login.Error](err)
	if !ok || e.Status != login.AuthenticationFailure && e.Status != login.AuthorizationFailure && e.Status != login.NotFound {
		return
	}
	s.mu.Lock()
	r := &s.refused
	r.count++
	n, now := r.count, time.Now()
	tell := !now.Before(r.next)
	if tell {
		r.next, r.count = now.Add(refusalPause), 0
	}
	s.mu.Unlock()
	if tell {
		s.o.Report(host.Warning, "iscsi.refused", fmt.Sprintf("A login from %s was refused: %s (%d since the last report).", in.host, e.What, n))
	}
}
