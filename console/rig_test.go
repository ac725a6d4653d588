package console

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// patience is how long a test waits for what must come; it is only used up by
// a test that fails.
const patience = 30 * time.Second

// A rig is a Server on loopback for a host whose wires are here.
type rig struct {
	t        *testing.T
	s        *Server
	h        *host.Host
	users    *fakeUsers
	settings *fakeSettings
	config   Config
	led      *light
	power    *line
	serial   *serial
	key      ed25519.PrivateKey
	addr     string
	stop     context.CancelFunc
	done     chan struct{} // closed when Serve has returned
	err      error
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newRig(t *testing.T, change func(*rig, *host.Parts, *Options)) *rig {
	t.Helper()
	r := &rig{t: t, users: newFakeUsers(), config: Config{HostName: "board"}, settings: &fakeSettings{values: map[string]string{"host.name": "board"}},
		led: &light{changed: make(chan struct{})}, done: make(chan struct{})}
	opened := make(chan struct{})
	r.serial = &serial{opened: opened}
	r.power = &line{edge: func(active bool) {
		if on, _ := r.led.Level(); active { // Level never fails
			r.led.set(!on)
		}
	}}
	parts := host.Parts{PowerButton: r.power, PowerLED: r.led, NMIButton: &line{}, IDLight: &line{}, Console: r.serial, Boot: selector{}}
	_, r.key, _ = ed25519.GenerateKey(nil) // crypto/rand never fails
	signer, err := gossh.NewSignerFromKey(r.key)
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Auth: r.users, Settings: r.settings, HostKey: signer, Config: func() Config { return r.config }, Version: "1.2.3", Log: discard()}
	if change != nil {
		change(r, &parts, &opt)
	}
	db, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	events, err := host.OpenEvents(db, discard())
	if err != nil {
		t.Fatal(err)
	}
	cfg := host.DefaultPowerConfig()
	cfg.PowerPulse, cfg.Debounce, cfg.BlinkWindow, cfg.PowerGoodLimit = 10*time.Millisecond, 0, 100*time.Millisecond, 200*time.Millisecond
	cfg.OffTime = 0
	r.h, err = host.New(parts, host.Options{Store: db, Events: events, Log: discard(), Power: cfg})
	if err != nil {
		t.Fatal(err)
	}
	opt.Host = r.h
	if r.s, err = New(opt); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	hostDone := make(chan struct{})
	hostCtx, hostStop := context.WithCancel(context.Background())
	go func() {
		defer close(hostDone)
		if err := r.h.Run(hostCtx); err != nil {
			t.Error("host:", err)
		}
	}()
	go func() {
		defer close(r.done)
		r.err = r.s.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		hostStop()
		<-hostDone
	})
	if parts.Console != nil {
		<-opened
	}
	r.until("the host's state", func() bool { return parts.PowerLED == nil || r.h.Power.Status().State != host.StateUnknown })
	return r
}

// until waits for something that no channel tells.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s did not come", what)
		}
	}
}

func clientConfig(user string, methods ...gossh.AuthMethod) *gossh.ClientConfig {
	return &gossh.ClientConfig{User: user, Auth: methods, HostKeyCallback: gossh.InsecureIgnoreHostKey(), Timeout: patience}
}

// login connects as a user with the right password.
func (r *rig) login(user string) *gossh.Client {
	r.t.Helper()
	c, err := gossh.Dial("tcp", r.addr, clientConfig(user, gossh.Password(user+"-password")))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	return c
}

// exec runs a command and returns its outputs and exit code.
func (r *rig) exec(c *gossh.Client, command, stdin string) (stdout, stderr string, code int) {
	r.t.Helper()
	s, err := c.NewSession()
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // closed by the server already
	var o, e bytes.Buffer
	s.Stdout, s.Stderr, s.Stdin = &o, &e, strings.NewReader(stdin)
	err = s.Run(command)
	var exit *gossh.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitStatus()
	case err != nil:
		r.t.Fatalf("%s: %v", command, err)
	}
	return o.String(), e.String(), code
}

// A terminal is a session with or without a pty that a test types at.
type terminal struct {
	t   *testing.T
	s   *gossh.Session
	in  io.WriteCloser
	mu  sync.Mutex
	got []byte
	new chan struct{}
	end chan struct{} // closed at the end of the output
}

// terminal starts a command, "" being the shell.
func (r *rig) terminal(c *gossh.Client, pty bool, command string) *terminal {
	r.t.Helper()
	s, err := c.NewSession()
	if err != nil {
		r.t.Fatal(err)
	}
	if pty {
		if err := s.RequestPty("xterm", 24, 200, gossh.TerminalModes{}); err != nil {
			r.t.Fatal(err)
		}
	}
	x := &terminal{t: r.t, s: s, new: make(chan struct{}, 1), end: make(chan struct{})}
	if x.in, err = s.StdinPipe(); err != nil {
		r.t.Fatal(err)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	s.Stderr = writer(x.add)
	if command == "" {
		err = s.Shell()
	} else {
		err = s.Start(command)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	go func() {
		defer close(x.end)
		_, _ = io.Copy(writer(x.add), out) // ends with the session, however that ends
	}()
	return x
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func (x *terminal) add(p []byte) {
	x.mu.Lock()
	x.got = append(x.got, p...)
	x.mu.Unlock()
	select {
	case x.new <- struct{}{}:
	default:
	}
}

func (x *terminal) all() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return string(x.got)
}

func (x *terminal) typ(s string) {
	x.t.Helper()
	if _, err := io.WriteString(x.in, s); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits until the output has want and takes all up to it away.
func (x *terminal) expect(want string) string {
	x.t.Helper()
	limit := time.After(patience)
	for {
		x.mu.Lock()
		if i := bytes.Index(x.got, []byte(want)); i >= 0 {
			before := string(x.got[:i])
			x.got = x.got[i+len(want):]
			x.mu.Unlock()
			return before
		}
		x.mu.Unlock()
		select {
		case <-x.new:
		case <-limit:
			x.t.Fatalf("no %q in %q", want, x.all())
		}
	}
}

// wait returns the exit code.
func (x *terminal) wait() int {
	x.t.Helper()
	got := make(chan error, 1)
	go func() { got <- x.s.Wait() }()
	select {
	case err := <-got:
		var exit *gossh.ExitError
		if errors.As(err, &exit) {
			return exit.ExitStatus()
		}
		if err != nil {
			x.t.Fatalf("the session ended with %v", err)
		}
		return 0
	case <-time.After(patience):
		x.t.Fatalf("the session did not end; it wrote %q", x.all())
		return 0
	}
}

// clientAttempt is how a client of a test is seen, but for its name.
var clientAttempt = auth.Attempt{Via: "ssh", Source: netip.MustParseAddr("127.0.0.1")}
