// Package ipmi answers IPMI 2.0 over LAN: RMCP, ASF presence pings, RMCP+
// sessions with RAKP, and the commands of a BMC on top. Section and table
// numbers in comments are those of the IPMI v2.0 specification, revision 1.1,
// unless another document is named.
//
// IPMI's login hands everybody who knows a user's name an HMAC that can be
// cracked offline (section 13.21 demands it). So the secret is IPMI's own, long
// and random, and never a password that opens anything else.
//
// A packet is handled where it was received and nothing in its path allocates.
// Commands are lines of one table; see Command for how they are run.
package ipmi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/chassis"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sol"
	"github.com/nitrino/nitrino/ipmi/user"
)

// Config is the section "ipmi" of the settings.
type Config struct {
	// Suite3 also offers cipher suite 3 (SHA-1) to consoles that know no
	// other; suite 17 always is.
	Suite3 bool `json:"suite3"`
	// MaxSessions bounds the sessions open at once, 1 to 64.
	MaxSessions int `json:"max_sessions"`
	// IdleTimeout ends a silent session. The specification says 60 s.
	IdleTimeout time.Duration `json:"idle_timeout"`
	// LoginsPerSecond is how many logins one address (IPv6: one /64) may begin
	// a second, over time; five seconds' worth may come at once.
	LoginsPerSecond int `json:"logins_per_second"`
}

// DefaultConfig is what most data centres want.
func DefaultConfig() Config {
	return Config{
		MaxSessions:     maxSlots,
		IdleTimeout:     60 * time.Second,
		LoginsPerSecond: 50,
	}
}

// Validate answers a *settings.FieldError for the first field out of its range.
func (c Config) Validate() error {
	switch {
	case c.MaxSessions < 1 || c.MaxSessions > maxSlots:
		return &settings.FieldError{Pointer: "/max_sessions", Err: fmt.Errorf("%d is not between 1 and %d: %w", c.MaxSessions, maxSlots, host.ErrInvalid)}
	case c.IdleTimeout < 10*time.Second || c.IdleTimeout > time.Hour:
		return &settings.FieldError{Pointer: "/idle_timeout", Err: fmt.Errorf("%v is not between 10s and 1h: %w", c.IdleTimeout, host.ErrInvalid)}
	case c.LoginsPerSecond < 1 || c.LoginsPerSecond > 10000:
		return &settings.FieldError{Pointer: "/logins_per_second", Err: fmt.Errorf("%d is not between 1 and 10000: %w", c.LoginsPerSecond, host.ErrInvalid)}
	}
	return nil
}

// Accounts are the users as this package needs them; *auth.Auth is one. None
// of it may block.
type Accounts interface {
	// Secret is asked before anything is proved, and again when it is; known
	// is false for all who may not log in.
	Secret(t auth.Attempt) (s auth.Secret, known bool)
	// SecretResult tells whether the login asked about succeeded.
	SecretResult(t auth.Attempt, ok bool)
	// Privilege tells that the session of t was raised to a level.
	Privilege(t auth.Attempt, level string)
	User(name string) (auth.User, bool)
}

// Device is what Get Device ID and the GUID commands say of the board.
type Device struct {
	Revision     uint8    // of the board, 4 bits
	Major, Minor uint8    // of the firmware; at most 127 and 99
	Aux          [4]uint8 // free: a build number
	Manufacturer uint32   // IANA enterprise number, 20 bits; 0 is "unspecified"
	Product      uint16
	// GUID names the board, in RFC 4122's byte order. Where it is zero it is
	// derived from the host's UUID.
	GUID [16]byte
}

// A SelfTest is the outcome of the board's self-test: the second byte of Get
// Self Test Results (section 20.4), each bit a device that failed, 0 none.
type SelfTest uint8

// Options are what New needs.
type Options struct {
	Config   Config
	Accounts Accounts
	Host     *host.Host
	Device   Device
	Log      *slog.Logger
	// ResetBMC restarts the board's software, cold or warm, never the host. It
	// is called when the request has been answered. nil: there are no such
	// commands.
	ResetBMC func(cold bool, from host.Origin)
	// SelfTest returns the result of the last self-test at once; nil where
	// there is none.
	SelfTest func() SelfTest
	// Board is what the commands change of the board's settings.
	Board Board
	// Port is the UDP port that is served.
	Port uint16
	// Store keeps what IPMI's own commands set.
	Store *store.Store
	// SerialRate is the rate of the host's serial console, in bits a second;
	// nil, or 0, where it has none.
	SerialRate func() int
}

// machine is the host; boot, identify and console are nil where they are
// absent, and event is nil where nobody wants to know.
type machine struct {
	power    chassis.Power
	boot     chassis.Boot
	identify chassis.Identify
	console  sol.Console
	event    func(host.Event)
	uuid     [16]byte
}

// hostConsole is the host's console as package sol needs it.
type hostConsole struct{ *host.Console }

func (c hostConsole) Watch(replay int) sol.Watcher { return c.Console.Watch(replay) }

// Server is one BMC on the LAN. Its methods may be called from any goroutine.
type Server struct {
	cfg      Config
	accounts Accounts
	channel  user.Channel // nil: the channel has no limit
	keys     user.Keys    // nil: there is no K_G
	host     machine
	device   Device
	log      *slog.Logger
	resetBMC func(cold bool, from host.Origin)
	selfTest func() SelfTest

	suites     []*suite
	list       []command.Command
	commands   map[commandKey]*command.Command
	support    byte     // additional device support, of Get Device ID
	systemGUID [16]byte // least significant byte first (section 20.8)
	deviceGUID [16]byte
	bootKey    [32]byte
	seed       maphash.Seed
	sol        *sol.SOL // nil where there is no console
	background []func(context.Context) error

	mu      sync.Mutex
	table   *table
	logins  *limiter
	outside *limiter // of answers outside sessions
	waiting int      // commands that wait
}

// New makes a server that answers nothing yet; see Serve.
func New(o Options) (*Server, error) {
	m := machine{power: o.Host.Power, uuid: o.Host.UUID, event: func(e host.Event) { o.Host.Events.Add(e) }}
	if o.Host.Boot != nil {
		m.boot = o.Host.Boot
	}
	if o.Host.Identify != nil {
		m.identify = o.Host.Identify
	}
	if o.Host.Console != nil {
		m.console = hostConsole{o.Host.Console}
	}
	s, err := newServer(o, m)
	if err != nil {
		return nil, err
	}
	chapters, err := s.chapters(o)
	if err != nil {
		return nil, fmt.Errorf("ipmi: %w", err)
	}
	return s, s.add(chapters...)
}

// newServer makes a server of what needs sessions, and the chassis.
func newServer(o Options, m machine) (*Server, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("ipmi settings: %w", err)
	}
	if d := o.Device; d.Major > 127 || d.Minor > 99 || d.Revision > 15 || d.Manufacturer > 0xFFFFE {
		return nil, fmt.Errorf("ipmi device %+v: %w", d, host.ErrInvalid)
	}
	s := &Server{
		cfg: o.Config, accounts: o.Accounts, channel: o.Board.Channel, keys: o.Board.Keys, host: m, device: o.Device, log: o.Log, resetBMC: o.ResetBMC, selfTest: o.SelfTest,
		suites: suites(o.Config.Suite3), seed: maphash.MakeSeed(),
		table:    newTable(o.Config.MaxSessions, o.Config.IdleTimeout),
		commands: map[commandKey]*command.Command{},
		logins:   newLimiter(float64(o.Config.LoginsPerSecond), 5*float64(o.Config.LoginsPerSecond)),
		outside:  newLimiter(packetsPerLogin*float64(o.Config.LoginsPerSecond), 5*packetsPerLogin*float64(o.Config.LoginsPerSecond)),
	}
	_, _ = rand.Read(s.bootKey[:]) // it never fails, says its documentation
	s.systemGUID = reversed(m.uuid)
	if s.device.GUID == [16]byte{} {
		s.device.GUID = boardGUID(m.uuid)
	}
	s.deviceGUID = reversed(s.device.GUID)
	body := chassis.New(chassis.Options{
		Power: m.power, Boot: m.boot, Identify: m.identify, Has: s.has, SetCycleInterval: o.Board.SetCycleInterval, Log: o.Log,
	})
	own := []chapter{{s.appCommands(), nil}, {s.channelCommands(), nil}, {s.sessionCommands(), nil}, {body.Commands(), nil}}
	if m.console != nil {
		s.sol = s.newSOL(o)
		own = append(own, chapter{s.sol.Commands(), s.sol.Run})
	}
	return s, s.add(append(own, chapter{s.payloadCommands(), nil})...)
}

// add takes chapters into the table, each command once.
func (s *Server) add(chapters ...chapter) error {
	for _, c := range chapters {
		if err := s.register(c.commands); err != nil {
			return err
		}
		if c.run != nil {
			s.background = append(s.background, c.run)
		}
	}
	s.support = s.deviceSupport()
	return nil
}

// boardGUID derives the board's UUID from the host's, so that it stays as long
// as that: version 8, by SHA-256 (RFC 9562 section 5.8).
func boardGUID(host [16]byte) (g [16]byte) {
	sum := sha256.Sum256(append([]byte("nitrino board of "), host[:]...))
	copy(g[:], sum[:])
	g[6] = g[6]&0x0F | 0x80
	g[8] = g[8]&0x3F | 0x80
	return g
}

// reversed brings a UUID into IPMI's order, least significant byte first.
func reversed(u [16]byte) (r [16]byte) {
	for i, b := range u {
		r[15-i] = b
	}
	return r
}

// Run does the work in the background, until ctx ends; it returns ctx's error.
// It is to run beside Serve, and may be called again when it has returned.
func (s *Server) Run(ctx context.Context) error { return runAll(ctx, s.background) }

// Serve answers what comes to conn, until ctx ends or the socket fails; it does
// not close conn. It may run for several sockets at once, and sessions outlive
// it: a Serve that follows goes on with them.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	k, err := newSocket(conn, s.log)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, k.interrupt)
	sweeping, cancel := context.WithCancel(ctx)
	var sweeper sync.WaitGroup
	sweeper.Go(func() { s.sweep(sweeping) })
	err = s.receive(k)
	stop()
	cancel()
	sweeper.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("ipmi socket: %w", err)
}

func (s *Server) receive(k *socket) error {
	w := newWorker(s)
	defer w.tasks.Wait()
	for {
		n, err := k.read(w)
		switch {
		case errors.Is(err, errTruncated):
			continue
		case err != nil:
			return err
		}
		if out := w.handle(w.in[:n]); len(out) > 0 {
			k.send(out, &w.from)
		}
		w.finish()
	}
}

// sweep ends what is over, each second.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.expire(now)
		case <-ctx.Done():
			return
		}
	}
}

// limit is the most that a session on the LAN channel may do.
func (s *Server) limit() command.Privilege {
	if s.channel == nil {
		return command.Administrator
	}
	return s.channel.Access(false).Limit
}

// kg is the key of two-key logins; nil: the user's key serves (section 13.31).
func (s *Server) kg() []byte {
	if s.keys == nil {
		return nil
	}
	key, _ := s.keys.KG()
	if key == [20]byte{} {
		return nil
	}
	return key[:]
}

// expire also ends the sessions of users who are gone or changed, and limits
// those of a channel whose limit was lowered: rights that were taken away must
// not live on in an open session.
func (s *Server) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.limit()
	s.table.expire(now, func(x *session) { s.closed(x, "idle") })
	for _, x := range s.table.active {
		if x == nil {
			continue
		}
		if u, ok := s.accounts.User(x.exchange.username); !ok || u.IPMIVersion != x.secret.Version {
			s.table.end(x, now)
			s.closed(x, "user changed")
			continue
		}
		x.max = min(x.max, limit)
		x.privilege = min(x.privilege, limit)
	}
}

// closed is told of each session that ended, and why. The lock is held.
func (s *Server) closed(x *session, why string) {
	if x.sol != nil {
		s.sol.End(x.sol, "the session was closed: "+why)
	}
	s.log.Debug("IPMI session closed", "user", x.exchange.username, "from", x.peer.addr, "why", why, "sessions", s.table.count)
}
