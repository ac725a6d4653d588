package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// A session is one session channel: a shell, or one command (RFC 4254
// section 6).
type session struct {
	*conn
	ch     gossh.Channel
	ctx    context.Context // ends with the channel
	cancel context.CancelFunc
	in     *input
	user   string

	// These are set before the shell or the command starts.
	tty     bool
	started bool
	exec    bool // it is one command, which has the input for itself

	// term and keys are the terminal where there is one, else nil.
	term *term.Terminal
	keys *keyboard

	mu      sync.Mutex
	onBreak func() bool // what a break request does; nil: refused
}

// openSession runs a session channel to its end.
func (c *conn) openSession(nc gossh.NewChannel) {
	if err := c.begin(); err != nil {
		_ = nc.Reject(gossh.ResourceShortage, err.Error()) // the connection's end is seen elsewhere
		return
	}
	defer c.finish()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	s := &session{conn: c, ch: ch, in: newInput(), user: *c.user.Load()}
	s.ctx, s.cancel = context.WithCancel(c.work)
	s.keys = &keyboard{in: s.in, ctx: s.ctx}
	s.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{s.keys, s.out(ch)}, "")
	s.term.History = new(history)

	var wg sync.WaitGroup
	wg.Go(func() { s.in.pump(s.ctx, ch, c.touch) })
	for r := range reqs {
		ok, start := s.request(r)
		if r.WantReply {
			_ = r.Reply(ok, nil) // the connection's end closes reqs
		}
		if start != nil {
			wg.Go(start) // after the reply, which must not come after the exit code
		}
	}
	s.cancel()
	_ = ch.Close() // the client has closed it
	wg.Wait()
}

// request answers one request of the session's; start, where there is one, is
// what it asked to run.
func (s *session) request(r *gossh.Request) (ok bool, start func()) {
	switch r.Type {
	case "pty-req":
		var m struct {
			Term                string
			Columns, Rows, X, Y uint32
			Modes               string
		}
		if s.started || s.tty || gossh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		s.tty = true
		return s.resize(m.Columns, m.Rows), nil
	case "window-change":
		var m struct{ Columns, Rows, X, Y uint32 }
		return s.tty && gossh.Unmarshal(r.Payload, &m) == nil && s.resize(m.Columns, m.Rows), nil
	case "env":
		// Taken and not used: clients send the language without being asked.
		var m struct{ Name, Value string }
		return gossh.Unmarshal(r.Payload, &m) == nil && (m.Name == "LANG" || m.Name == "TERM"), nil
	case "shell", "exec":
		var m struct{ Command string }
		if s.started || r.Type == "exec" && gossh.Unmarshal(r.Payload, &m) != nil {
			return false, nil
		}
		s.started, s.exec = true, r.Type == "exec"
		return true, func() { s.serve(r.Type == "shell", m.Command) }
	case "signal":
		var m struct{ Name string }
		if gossh.Unmarshal(r.Payload, &m) != nil || m.Name != "INT" && m.Name != "TERM" && m.Name != "HUP" {
			return false, nil
		}
		s.cancel()
		return true, nil
	case "break": // RFC 4335
		s.mu.Lock()
		f := s.onBreak
		s.mu.Unlock()
		return f != nil && f(), nil
	}
	return false, nil // forwarding of agents and X11, and subsystems, among others
}

// resize takes any size a client may claim.
func (s *session) resize(columns, rows uint32) bool {
	bound := func(n, zero uint32) int {
		if n == 0 {
			n = zero // a client that does not know sends 0
		}
		return int(min(n, 4096))
	}
	return s.term.SetSize(bound(columns, 80), bound(rows, 24)) == nil
}

// serve runs the shell or the command and closes the channel.
func (s *session) serve(shell bool, command string) {
	code := failed
	defer func() {
		// One session's fault must not end the others'.
		if r := recover(); r != nil {
			s.s.opt.Log.Error("ssh: panic", "user", s.user, "panic", r, "stack", string(debug.Stack()))
		}
		// Any of these fails when the client is already gone.
		why := context.Cause(s.work)
		finished := !shell && code == done // nothing was cut short
		if why != nil && !errors.Is(why, context.Canceled) && !finished {
			s.sayEnd(why)
		}
		_ = s.ch.CloseWrite()
		_, _ = s.ch.SendRequest("exit-status", false, gossh.Marshal(struct{ Status uint32 }{uint32(code)}))
		_ = s.ch.Close()
		s.cancel()
	}()
	switch {
	case !shell:
		code = s.run(command)
	case s.tty:
		code = s.prompt()
	default:
		code = s.script()
	}
}

// sayEnd tells the person why the connection is about to end.
func (s *session) sayEnd(why error) {
	w, begin, end := s.ch.Stderr(), "", "\n"
	if s.tty {
		w, begin, end = s.ch, "\r\x1b[K", "\r\n" // a terminal has no second stream, and may show a prompt
	}
	_, _ = fmt.Fprintf(w, "%s%s: %s%s", begin, clean(s.s.now().HostName), why, end) // the client may be gone
}

// setBreak sets what a break request does.
func (s *session) setBreak(f func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onBreak = f
}

// out is w with the connection's idle time reset by each write.
func (s *session) out(w io.Writer) io.Writer { return touching{w, s.conn.touch} }

type touching struct {
	w     io.Writer
	touch func()
}

func (t touching) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.touch()
	return n, err
}
