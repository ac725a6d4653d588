package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/host"
)

func TestMaxSessions(t *testing.T) {
	r := newRig(t, func(r *rig, _ *host.Parts, _ *Options) { r.config.MaxSessions = 2 })
	a := r.login("admin")
	r.login("op")
	third := r.login("ro")
	_, err := third.NewSession()
	var refused *gossh.OpenChannelError
	if !errors.As(err, &refused) || refused.Reason != gossh.ResourceShortage {
		t.Errorf("the third connection's session: %v", err)
	}
	if _, _, code := r.exec(a, "version", ""); code != 0 {
		t.Error("the first connection is disturbed")
	}
	_ = third.Close()
	_ = a.Close()
	r.until("the place of a closed connection", func() bool {
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		return r.s.loggedIn == 1
	})
	if _, _, code := r.exec(r.login("admin"), "version", ""); code != 0 {
		t.Error("no place after one left")
	}
}

func TestMaxChannels(t *testing.T) {
	r := newRig(t, nil)
	c := r.login("admin")
	for range maxChannels {
		if _, err := c.NewSession(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("one more session was opened")
	}
}

func TestUnfinishedLoginsPerSource(t *testing.T) {
	r := newRig(t, nil)
	waiting := func() int {
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		return r.s.waiting
	}
	var held []net.Conn
	for range maxLoginsPerSource {
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, nc)
	}
	r.until("all places taken", func() bool { return waiting() == maxLoginsPerSource })
	if c, err := gossh.Dial("tcp", r.addr, clientConfig("admin", gossh.Password("admin-password"))); err == nil {
		_ = c.Close()
		t.Error("one more was let in")
	}
	_ = held[0].Close()
	r.until("a free place", func() bool { return waiting() < maxLoginsPerSource })
	r.login("admin")
	for _, nc := range held {
		_ = nc.Close()
	}
	r.until("nobody waiting", func() bool { return waiting() == 0 })
	if n := len(r.s.logins); n != 0 {
		t.Errorf("%d sources are still counted", n)
	}
}

func TestSourceGroup(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
	} {
		if got := sourceGroup(netip.MustParseAddr(tt.a)) == sourceGroup(netip.MustParseAddr(tt.b)); got != tt.same {
			t.Errorf("%s and %s: same is %v, want %v", tt.a, tt.b, got, tt.same)
		}
	}
}

// A pipeListener hands out one end of pipes, which synctest understands.
type pipeListener struct{ conns chan net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *pipeListener) Close() error   { close(l.conns); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestLoginLimit(t *testing.T) {
	r := newRig(t, nil)
	opt := r.s.opt
	synctest.Test(t, func(t *testing.T) {
		opt.Auth = newFakeUsers()
		s, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		l := &pipeListener{make(chan net.Conn)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Serve(ctx, l) }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		begin := time.Now()
		n, err := io.Copy(io.Discard, ours) // the client never answers
		if got := time.Since(begin); got != loginLimit || n == 0 {
			t.Errorf("closed after %v with %d bytes (%v), want after %v", got, n, err, loginLimit)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestIdle(t *testing.T) {
	r := newRig(t, func(r *rig, _ *host.Parts, _ *Options) { r.config.IdleTimeout = 50 * time.Millisecond })
	c := r.login("admin")
	x := r.terminal(c, true, "")
	select {
	case <-x.end:
	case <-time.After(patience):
		t.Error("an idle session stays open")
	}
	x.expect("board: nothing came or went for too long\r\n")
}

func TestExpired(t *testing.T) {
	users := newFakeUsers()
	now := time.Now()
	for _, tt := range []struct {
		user string
		idle time.Duration
		last time.Time
		want error
	}{
		{"", time.Hour, now.Add(-2 * time.Hour), nil}, // has not logged in: another limit
		{"admin", 0, now.Add(-48 * time.Hour), nil},
		{"admin", time.Hour, now.Add(-time.Minute), nil},
		{"admin", time.Hour, now.Add(-2 * time.Hour), errIdle},
		{"off", 0, now, errLockout},
		{"gone", 0, now, errLockout},
	} {
		c := &conn{s: &Server{opt: Options{Auth: users, Config: func() Config { return Config{IdleTimeout: tt.idle} }}}}
		c.activity.Store(tt.last.UnixNano())
		if tt.user != "" {
			c.user.Store(&tt.user)
		}
		if got := c.expired(); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

// A user who is deleted or disabled loses what is open; others stay.
func TestUserGone(t *testing.T) {
	r := newRig(t, nil)
	for _, tt := range []struct {
		name string
		user string
		do   func() error
	}{
		{"disabled", "op", func() error { return r.users.SetEnabled("op", false, clientAttempt) }},
		{"deleted", "ro", func() error { return r.users.Delete("ro", clientAttempt) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			admin, c := r.login("admin"), r.login(tt.user)
			x := r.terminal(c, true, "")
			x.expect("board> ")
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
			x.expect("board: the user was deleted or disabled\r\n")
			_ = c.Wait() // the end itself is what is tested
			if _, _, code := r.exec(admin, "version", ""); code != 0 {
				t.Error("another user's connection is gone too")
			}
		})
	}
}

func TestServeEnds(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("serve", func(t *testing.T) {
		r := newRig(t, nil)
		c := r.login("admin")
		var open []*terminal
		for _, command := range []string{"", "console", "events -f"} {
			for _, pty := range []bool{true, false} {
				open = append(open, r.terminal(c, pty, command))
			}
		}
		half, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = half.Close() }()
		open[0].expect("board> ")
		r.stop()
		select {
		case <-r.done:
		case <-time.After(patience):
			buf := make([]byte, 1<<20)
			t.Fatalf("Serve does not end:\n%s", buf[:runtime.Stack(buf, true)])
		}
		if !errors.Is(r.err, context.Canceled) {
			t.Errorf("Serve: %v", r.err)
		}
		for _, x := range open {
			<-x.end
		}
		if len(r.s.conns) != 0 || r.s.loggedIn != 0 || r.s.waiting != 0 {
			t.Errorf("left: %d connections, %d logged in, %d logging in", len(r.s.conns), r.s.loggedIn, r.s.waiting)
		}
	})
	noMore(t, before)
}

// A command that makes the service start anew, as a changed setting does, ends
// like any other, and whoever is there is told.
func TestServeEndsByCommand(t *testing.T) {
	r := newRig(t, nil)
	r.settings.changed = r.stop
	r.h.Events.Add(host.Event{Kind: "test.one", Message: "Here."}) // for events to show
	c := r.login("admin")
	console := r.terminal(c, true, "console")
	others := map[*terminal]string{
		r.terminal(c, true, ""):           "board: the SSH service is stopping\r\n",
		console:                           "[left the console]\r\n\r\x1b[Kboard: the SSH service is stopping\r\n",
		r.terminal(c, false, "events -f"): "board: the SSH service is stopping\n",
	}
	script := r.terminal(c, false, "")
	for x := range others {
		r.until("its beginning", func() bool { return x.all() != "" })
	}
	stdout, stderr, code := r.exec(c, "settings set host.name new", "")
	if stdout != "" || stderr != "" || code != done {
		t.Errorf("got %q, %q, exit code %d, want an exit code of %d and no words", stdout, stderr, code, done)
	}
	for x, want := range others {
		x.expect(want)
	}
	script.expect("board: the SSH service is stopping\n")
	for _, cut := range []*terminal{script, console} {
		if code := cut.wait(); code != failed {
			t.Errorf("what was cut off: exit code %d, want %d", code, failed)
		}
	}
	if err := c.Wait(); err == nil {
		t.Error("the connection stays open")
	}
}

// A client that takes no more output does not hold up the end.
func TestServeEndsStuckClient(t *testing.T) {
	r := newRig(t, nil)
	s, err := r.login("admin").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	// Nobody reads its output, of which the window takes 2 MiB.
	if _, err := s.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for err == nil {
			_, err = io.WriteString(in, "help\n") // fails when the connection ends
		}
	}()
	r.until("its output stuck", func() bool {
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		for c := range r.s.conns {
			return time.Since(time.Unix(0, c.activity.Load())) > 200*time.Millisecond
		}
		return false
	})
	r.stop()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Error("Serve does not end")
	}
}

// noMore waits until no more goroutines run than before: those of the SSH
// library end just after their connection.
func noMore(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("goroutines: %d, were %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// A client's end, however rude, leaves nothing running while the server goes on.
func TestClientEnds(t *testing.T) {
	r := newRig(t, nil)
	before := runtime.NumGoroutine() + 2 // Serve's own two may not run yet
	for _, command := range []string{"", "console", "events -f"} {
		for _, pty := range []bool{true, false} {
			c := r.login("admin")
			x := r.terminal(c, pty, command)
			if pty {
				for range 100 { // more than anybody would take
					if err := x.s.WindowChange(30, 90); err != nil {
						t.Fatal(err)
					}
				}
			}
			x.typ(strings.Repeat("x", 3*maxTypeAhead))
			_ = c.Close()
		}
	}
	noMore(t, before)
}

func TestNew(t *testing.T) {
	r := newRig(t, nil)
	_, _, big := keys(t)
	for _, tt := range []struct {
		name   string
		change func(*Options)
	}{
		{"no host key", func(o *Options) { o.HostKey = nil }},
		{"RSA host key", func(o *Options) { o.HostKey = big }},
		{"no users", func(o *Options) { o.Auth = nil }},
		{"no host", func(o *Options) { o.Host = nil }},
	} {
		o := r.s.opt
		tt.change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
}
