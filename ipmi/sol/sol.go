// Package sol is Serial over LAN (chapters 15 and 26): the host's serial
// console as a payload of an IPMI session. Section and table numbers are those
// of the IPMI v2.0 specification, revision 1.1.
//
// Each activated payload watches the console from a place of its own, as each
// ssh session does: a slow one loses its oldest bytes and says so, and slows
// nobody. What is typed goes through one writer, since the port is one.
package sol

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
)

// Instances is how many payloads can be active at once.
const Instances = 4

const (
	bucket      = "ipmi"
	settingsKey = "sol"
	// watchPower is how often a payload looks whether the host is on.
	watchPower = 500 * time.Millisecond
	// settle is how long a new payload is silent, unless its console speaks:
	// ipmitool takes a SOL packet that overtakes the answer to Activate Payload
	// for that answer.
	settle = 100 * time.Millisecond
	// writeSize is the most that one write to the port has, so that there is
	// soon room for more.
	writeSize = 256
)

// A Console is the host's serial port, shared by many.
type Console interface {
	// Watch joins the console, replay bytes back from now.
	Watch(replay int) Watcher
	// Write sends p to the host, whole, and may block. It fails while the port
	// is not open.
	Write(p []byte) (int, error)
	Break(ctx context.Context) error
}

// A Watcher reads the console from a place of its own.
type Watcher interface {
	// Next waits for bytes, copies what fits into p, and says how many older
	// ones were lost.
	Next(ctx context.Context, p []byte) (n int, lost int64, err error)
}

// A Store keeps the settings; *store.Store is one.
type Store interface {
	GetJSON(bucket, key string, v any) (bool, error)
	PutJSON(bucket, key string, v any) error
}

// A Carrier is the session that carries a payload.
type Carrier interface {
	// Send sends a payload as the session's next packet, or loses it. It does
	// not keep p. One goroutine calls it, which holds no lock.
	Send(p []byte)
}

// Options are what New needs.
type Options struct {
	Console Console
	// Off says at once whether the host is powered down or sleeps.
	Off func() bool
	// BitRate is the serial port's, in bits a second, 0 where it has none.
	BitRate func() int
	// Port is the UDP port that the sessions come to.
	Port func() uint16
	// Store keeps the settings; nil: they last as long as the process.
	Store Store
	// Changed is told of changed settings in one sentence; it may be nil.
	Changed func(what string, from host.Origin)
	Log     *slog.Logger
}

// Why a payload cannot be activated.
var (
	ErrDisabled = errors.New("SOL is disabled")
	ErrActive   = errors.New("the instance is active")
	ErrLimit    = errors.New("all instances are active")
	ErrStopped  = errors.New("SOL is not running")
)

// SOL is the payload type of one board. Its methods may be called from any
// goroutine; only Run and the setting of parameters block.
type SOL struct {
	opt     Options
	starts  chan *Stream  // to Run
	typed   chan struct{} // there may be something to write
	setting sync.Mutex    // held while a parameter is set, disk included

	mu         sync.Mutex
	settings   Settings
	inProgress byte
	running    bool
	active     [Instances]*Stream
	ended      []*Stream // whose typed input is not yet written
}

// New reads the settings. Ones that cannot be read are told in the log and are
// the defaults.
func New(o Options) *SOL {
	s := &SOL{opt: o, settings: DefaultSettings(), starts: make(chan *Stream, Instances), typed: make(chan struct{}, 1)}
	if o.Store == nil {
		return s
	}
	kept := DefaultSettings()
	_, err := o.Store.GetJSON(bucket, settingsKey, &kept)
	if err = errors.Join(err, kept.validate()); err != nil {
		o.Log.Error("SOL settings are not used", "error", err)
		return s
	}
	s.settings = kept
	return s
}

// Settings are those in force.
func (s *SOL) Settings() Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

// Port is the UDP port that consoles are told.
func (s *SOL) Port() uint16 {
	if p := s.Settings().Port; p != 0 {
		return p
	}
	return s.opt.Port()
}

// Run carries what is activated until ctx ends, which deactivates all. It may
// be called again then.
func (s *SOL) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("SOL runs already")
	}
	s.running = true
	s.mu.Unlock()
	var tasks sync.WaitGroup
	tasks.Go(func() { s.write(ctx) })
	for ctx.Err() == nil {
		select {
		case x := <-s.starts:
			tasks.Go(func() { x.run(ctx) })
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	s.running = false
	s.mu.Unlock()
	s.endAll("the board's IPMI service ends")
	tasks.Wait()
	for len(s.starts) > 0 {
		<-s.starts // activated, and ended just now
	}
	return ctx.Err()
}

// Activate begins instance n, from 1, on a session. It answers one of the
// errors above, or host.ErrInvalid for an instance that there is not.
func (s *SOL) Activate(n int, c Carrier) (*Stream, error) {
	x := newStream(s, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.running:
		return nil, ErrStopped
	case !s.settings.Enabled:
		return nil, ErrDisabled
	case !slices.Contains(s.active[:], nil):
		if n >= 1 && n <= Instances {
			return nil, ErrActive
		}
		return nil, ErrLimit
	case n < 1 || n > Instances:
		return nil, host.ErrInvalid
	case s.active[n-1] != nil:
		return nil, ErrActive
	}
	select {
	case s.starts <- x:
		s.active[n-1] = x
		return x, nil
	default: // Run will soon have taken those before it
		return nil, ErrStopped
	}
}

// Active returns the payload of instance n, from 1; nil where it is not active.
func (s *SOL) Active(n int) *Stream {
	if n < 1 || n > Instances {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active[n-1]
}

// End deactivates x, if it still is active. why is told to its console, with
// the status "deactivated"; where it is empty the console knows.
func (s *SOL) End(x *Stream, why string) {
	s.mu.Lock()
	i := slices.Index(s.active[:], x)
	if i >= 0 {
		s.active[i] = nil
		if len(s.ended) >= Instances { // the port has taken nothing for long
			s.ended = s.ended[1:]
		}
		s.ended = append(s.ended, x)
	}
	s.mu.Unlock()
	if i >= 0 {
		x.end(why)
	}
}

func (s *SOL) endAll(why string) {
	for n := range Instances {
		if x := s.Active(n + 1); x != nil {
			s.End(x, why)
		}
	}
}

// write writes what is typed to the host, until ctx ends. A console that types
// much has its turn like the others.
func (s *SOL) write(ctx context.Context) {
	var buf [writeSize]byte
	for {
		select {
		case <-s.typed:
		case <-ctx.Done():
			return
		}
		for more := true; more && ctx.Err() == nil; {
			more = false
			s.mu.Lock()
			all := append(slices.Clone(s.active[:]), s.ended...)
			s.mu.Unlock()
			for _, x := range all {
				if x != nil && x.writeOne(ctx, buf[:]) {
					more = true
				}
			}
		}
		s.mu.Lock()
		s.ended = slices.DeleteFunc(s.ended, (*Stream).written)
		s.mu.Unlock()
	}
}

// signal wakes who waits for c, which has room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
