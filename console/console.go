// Package console is the SSH front-end: a small command line for people, the
// same commands for scripts, and the host's serial console.
//
// Package github.com/gliderlabs/ssh carries the connections. Its session
// handling does not fit (it rewrites the newlines of a terminal's raw stream
// and waits on window changes that nobody takes), so sessions are handled
// here, by the extension point that it has for that.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
)

// Users is who may log in and what the users commands change; *auth.Auth is one.
type Users interface {
	Password(ctx context.Context, t auth.Attempt, password string) (auth.User, error)
	// PublicKey is asked once the client has proved to own the key.
	PublicKey(ctx context.Context, t auth.Attempt, key []byte) (auth.User, error)
	User(name string) (auth.User, bool)
	Users() []auth.User
	Create(u auth.User, password string, by auth.Attempt) error
	Delete(name string, by auth.Attempt) error
	Rename(name, to string, by auth.Attempt) error
	SetRole(name string, role auth.Role, by auth.Attempt) error
	SetEnabled(name string, enabled bool, by auth.Attempt) error
	SetPassword(name, password string, by auth.Attempt) error
	SetIPMISecret(name, secret string, by auth.Attempt) error
	SetIPMIAccess(name string, x auth.IPMIAccess, by auth.Attempt) error
	SetKeys(name string, keys []string, by auth.Attempt) error
	// Changed is closed at the next change of any user.
	Changed() <-chan struct{}
}

// Settings are the board's settings as the settings commands show and change
// them. A path is dotted; the empty path is the whole document.
type Settings interface {
	Show(path string) ([]byte, error)
	Set(path, value string, by host.Origin) error
	Unset(path string, by host.Origin) error
	Paths() []string
	// KeepNetwork ends the trial of a changed network, for good; host.ErrInvalid
	// where none is on trial.
	KeepNetwork(by host.Origin) error
}

// Config is what the settings say of the front-end.
type Config struct {
	// HostName names the board in the prompt and the banner.
	HostName string
	// MaxSessions is how many connections may be logged in at once; 0: 16.
	MaxSessions int
	// IdleTimeout closes a connection over whose sessions nothing came or
	// went for so long; keep-alives do not count. 0: never.
	IdleTimeout time.Duration
	// ConsoleReplay is how many bytes of the console's past are shown to who
	// joins; 0: host.ConsoleReplay, the most there is; negative: none.
	ConsoleReplay int
}

// Options are what New needs.
type Options struct {
	Host *host.Host
	Auth Users
	// Settings may be nil: the settings commands are then absent.
	Settings Settings
	// Disks may be nil: the volume and target commands are then absent.
	Disks block.Manager
	// HostKey is an ed25519 key.
	HostKey gossh.Signer
	// Version is what the version command shows.
	Version string
	Log     *slog.Logger
	// Config is asked at each use, so that a change throws nobody off.
	Config func() Config
}

// The limits of connections that have not proved who they are.
const (
	// loginLimit is how long a connection may take to log in.
	loginLimit = 20 * time.Second
	// maxLogins and maxLoginsPerSource are how many connections may be in
	// the course of logging in, in all and from one address (one /64).
	maxLogins          = 32
	maxLoginsPerSource = 8
	// maxPasswords is how many passwords one connection may try.
	maxPasswords = 3
	// maxAuthTries counts what else fails too. It is above maxPasswords,
	// since a client offers each key of its agent before it asks for a
	// password.
	maxAuthTries = 10
)

// maxChannels is how many sessions one connection may have open (OpenSSH's
// MaxSessions has this default too).
const maxChannels = 10

// sweepEvery is how often, at least, connections are checked for idleness.
const sweepEvery = 2 * time.Second

// A Server is the SSH front-end.
type Server struct {
	opt  Options
	ssh  ssh.Server
	rows []row

	mu       sync.Mutex
	conns    map[*conn]struct{}
	logins   map[netip.Addr]int // connections logging in, by source
	waiting  int                // sum of logins
	loggedIn int
}

// New makes the front-end. It answers an error where an option is unusable.
func New(o Options) (*Server, error) {
	if o.HostKey == nil || o.HostKey.PublicKey().Type() != gossh.KeyAlgoED25519 {
		return nil, errors.New("ssh: the host key must be an ed25519 key")
	}
	if o.Host == nil || o.Auth == nil || o.Log == nil || o.Config == nil {
		return nil, errors.New("ssh: Host, Auth, Log and Config must be set")
	}
	s := &Server{opt: o, conns: make(map[*conn]struct{}), logins: make(map[netip.Addr]int)}
	s.rows = s.table()
	s.ssh = ssh.Server{
		Version:     "nitrino",
		HostSigners: []ssh.Signer{o.HostKey},
		ConnCallback: func(ctx ssh.Context, nc net.Conn) net.Conn {
			ctx.SetValue(connKey{}, nc)
			return nc
		},
		ServerConfigCallback: func(ctx ssh.Context) *gossh.ServerConfig { return connOf(ctx).config() },
		// Both handlers must be there: without any the library lets in
		// everybody. The name that ctx knows is the first one the client
		// gave, so conn takes it from the login's own messages instead.
		PasswordHandler:  func(ctx ssh.Context, password string) bool { return connOf(ctx).password(password) },
		PublicKeyHandler: func(ctx ssh.Context, key ssh.PublicKey) bool { return connOf(ctx).offer(key) },
		ChannelHandlers: map[string]ssh.ChannelHandler{
			"session": func(_ *ssh.Server, _ *gossh.ServerConn, ch gossh.NewChannel, ctx ssh.Context) {
				connOf(ctx).openSession(ch)
			},
		},
	}
	return s, nil
}

// now is the configuration, its defaults filled in.
func (s *Server) now() Config {
	c := s.opt.Config()
	if c.MaxSessions == 0 {
		c.MaxSessions = 16
	}
	if c.ConsoleReplay == 0 {
		c.ConsoleReplay = host.ConsoleReplay
	}
	return c
}

// connKey is the ssh.Context key of the *conn.
type connKey struct{}

func connOf(ctx ssh.Context) *conn { return ctx.Value(connKey{}).(*conn) }

// Serve accepts connections until ctx ends; it then ends every one of them,
// waits until all that they ran has ended, and returns ctx's error. Any other
// error means that the listener failed. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { s.endAll(func(*conn) error { return errStopping }) }()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept returns the error that matters
	defer func() {
		if stop() {
			_ = l.Close() // the listener failed already
		}
	}()
	wg.Go(func() { s.sweep(ctx) })
	pause := 5 * time.Millisecond
	for {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = nc.Close() // nobody will speak to it
			}
			return ctx.Err()
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("ssh: %w", err)
		}
		if err != nil {
			// Out of file descriptors, or the client is gone: both pass.
			s.opt.Log.Warn("ssh: accepting a connection", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		c := s.admit(nc)
		if c == nil {
			_ = nc.Close() // refused; the client sees the end
			continue
		}
		wg.Go(c.serve)
	}
}

// Why a connection is ended. Its sessions say so to their users.
var (
	errStopping = errors.New("the SSH service is stopping")
	errIdle     = errors.New("nothing came or went for too long")
	errLockout  = errors.New("the user was deleted or disabled")
)

// endAll ends each connection for which why has a reason.
func (s *Server) endAll(why func(*conn) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if reason := why(c); reason != nil {
			c.end(reason)
		}
	}
}

// sweep ends connections that are idle, and those of a user who is deleted or
// disabled as soon as that happens.
func (s *Server) sweep(ctx context.Context) {
	for {
		every := sweepEvery
		if idle := s.now().IdleTimeout; idle > 0 {
			every = max(min(every, idle/4), time.Millisecond)
		}
		changed := s.opt.Auth.Changed()
		s.endAll((*conn).expired)
		select {
		case <-time.After(every):
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// A conn is one connection. As a net.Conn it is what the library reads.
type conn struct {
	net.Conn
	s      *Server
	ctx    context.Context
	cancel context.CancelFunc // closes the connection
	// work is for what the sessions run. It ends before ctx, so that they
	// can still say how they ended, and why.
	work     context.Context
	stopWork context.CancelCauseFunc
	source   netip.Addr
	begun    time.Time

	// These belong to the goroutine that logs in.
	meta      gossh.ConnMetadata
	passwords int

	limit    *time.Timer // ends a connection that takes too long to log in
	activity atomic.Int64
	user     atomic.Pointer[string] // nil before the login
	full     atomic.Bool            // MaxSessions were there already

	mu       sync.Mutex
	ending   bool // no session may begin any more
	channels int
	sessions sync.WaitGroup
}

// admit makes the conn of an accepted connection, nil where too many others
// are in the course of logging in.
func (s *Server) admit(nc net.Conn) *conn {
	var source netip.Addr
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		source = a.AddrPort().Addr().Unmap().WithZone("")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= maxLogins || s.logins[sourceGroup(source)] >= maxLoginsPerSource {
		s.opt.Log.Debug("ssh: too many unfinished logins", "source", source)
		return nil
	}
	c := &conn{Conn: nc, s: s, source: source, begun: time.Now()}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.work, c.stopWork = context.WithCancelCause(c.ctx)
	c.touch()
	c.limit = time.AfterFunc(loginLimit, c.cancel)
	s.conns[c] = struct{}{}
	s.logins[sourceGroup(source)]++
	s.waiting++
	return c
}

// sourceGroup is what counts as one source: an IPv4 address, or an IPv6 /64,
// as whoever has one address of it has them all.
func sourceGroup(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (c *conn) serve() {
	stop := context.AfterFunc(c.ctx, func() { _ = c.Close() }) // ends the library's reading
	defer func() {
		// One connection's fault must not end the others'.
		if r := recover(); r != nil {
			c.s.opt.Log.Error("ssh: panic", "source", c.source, "panic", r, "stack", string(debug.Stack()))
		}
		c.cancel()
		c.limit.Stop()
		stop()
		_ = c.Close() // may be closed already
		c.mu.Lock()
		c.ending = true
		c.mu.Unlock()
		c.sessions.Wait()
		c.leave()
	}()
	c.s.ssh.HandleConn(c)
}

// enter is called once, when user has logged in.
func (c *conn) enter(user string) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLogin(c)
	c.user.Store(&user)
	c.touch()
	if s.loggedIn >= s.now().MaxSessions {
		// The first session is refused with words, so that the client can
		// tell this from a wrong password.
		c.full.Store(true)
		c.limit.Reset(5 * time.Second)
		return
	}
	s.loggedIn++
	c.limit.Stop()
	s.opt.Log.Info("ssh: logged in", "user", user, "source", c.source)
}

// leave gives back what admit and enter took.
func (c *conn) leave() {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	switch user := c.user.Load(); {
	case user == nil:
		s.endLogin(c)
	case !c.full.Load():
		s.loggedIn--
		s.opt.Log.Info("ssh: closed", "user", *user, "source", c.source)
	}
}

func (s *Server) endLogin(c *conn) {
	s.waiting--
	g := sourceGroup(c.source)
	if s.logins[g]--; s.logins[g] == 0 {
		delete(s.logins, g)
	}
}

func (c *conn) touch() { c.activity.Store(time.Now().UnixNano()) }

// expired says why the connection may not stay; nil: it may.
func (c *conn) expired() error {
	name := c.user.Load()
	if name == nil {
		return nil
	}
	if idle := c.s.now().IdleTimeout; idle > 0 && time.Since(time.Unix(0, c.activity.Load())) > idle {
		return errIdle
	}
	if u, ok := c.s.opt.Auth.User(*name); !ok || !u.Enabled {
		return errLockout
	}
	return nil
}

// farewell is how long the sessions of a connection that ends may take to end
// by themselves.
const farewell = time.Second

// end stops what the sessions run and closes the connection once they have
// told the client how they ended: a command that makes the service stop or
// start anew has an exit code like any other.
func (c *conn) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return
	}
	c.ending = true
	c.stopWork(why)
	if c.channels == 0 {
		c.cancel()
		return
	}
	c.limit.Reset(farewell)
}

// begin registers a session; finish takes it back.
func (c *conn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ending:
		return errors.New("the connection is closing")
	case c.full.Load():
		return fmt.Errorf("%d connections are logged in, which is the limit", c.s.now().MaxSessions)
	case c.channels >= maxChannels:
		return fmt.Errorf("a connection may have %d sessions", maxChannels)
	}
	c.channels++
	c.sessions.Add(1)
	return nil
}

func (c *conn) finish() {
	c.mu.Lock()
	c.channels--
	if c.ending && c.channels == 0 {
		c.cancel()
	}
	c.mu.Unlock()
	c.sessions.Done()
}
