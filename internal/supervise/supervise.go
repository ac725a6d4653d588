// Package supervise keeps services running: a service that fails or panics is
// logged, reported and started again, and the others never notice.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// The times of the supervision.
const (
	// FirstDelay and MaxDelay bound the pause before a failed service is
	// started again; it doubles with each failure.
	FirstDelay = 100 * time.Millisecond
	MaxDelay   = 30 * time.Second
	// HealthyAfter is how long a service must run for its failures to be
	// forgotten.
	HealthyAfter = time.Minute
	// StopLimit is how long a service may take to return once its context
	// has ended.
	StopLimit = 10 * time.Second
)

// Errors of the group's methods. Compare with errors.Is.
var (
	// ErrRunning: a service of that name is running already.
	ErrRunning = errors.New("the service is running already")
	// ErrNotFound: no service has that name.
	ErrNotFound = errors.New("no such service")
	// ErrClosed: Close has been called.
	ErrClosed = errors.New("the services are being stopped")
	// ErrStuck: the service did not return within StopLimit. It is left
	// behind; what it holds (a port, a file) is not free yet.
	ErrStuck = errors.New("the service did not return when it was stopped")
	// ErrReturned: a service returned nil although nobody stopped it.
	ErrReturned = errors.New("the service returned without being stopped")
)

// A PanicError is the failure of a service that panicked.
type PanicError struct {
	Value any
	Stack []byte // as debug.Stack gives it
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// A State says how a service is.
type State string

// The states.
const (
	// Running: no failure, or none within HealthyAfter.
	Running State = "running"
	// Failing: it failed and waits for its next start, or runs again but for
	// less than HealthyAfter.
	Failing State = "failing"
	// Waiting: it begins when its predecessor of the same name has ended.
	Waiting State = "waiting"
	// Stuck: it was stopped and does not return.
	Stuck State = "stuck"
)

// A Report tells of a change that people should hear of: a service that ran
// well failed (Failing), one that failed runs well again (Running), or one does
// not return (Stuck). Failures between the first two are only logged.
type Report struct {
	Service string
	State   State
	Err     error // why; nil for Running
}

// Health is how one service is now.
type Health struct {
	Service  string
	State    State
	Since    time.Time // when State began
	Failures int       // since it was last well; 0 when Running
	Err      error     // the latest failure, nil when Running
}

// A Group is a set of services, each with a name of its own.
type Group struct {
	log    *slog.Logger
	report func(Report)

	mu       sync.Mutex
	closed   bool
	services []*service               // in the order of their start
	turns    map[string]chan struct{} // by name: held by the one service that may run
}

type service struct {
	name   string
	run    func(context.Context) error
	cancel context.CancelFunc
	done   chan struct{} // closed when the service has ended for good

	health Health // guarded by Group.mu
}

// New returns an empty group. report is called from the services' own
// goroutines, several at once, and from Stop, Replace and Close; it must
// return soon and must not call those three.
func New(log *slog.Logger, report func(Report)) *Group {
	return &Group{log: log, report: report, turns: map[string]chan struct{}{}}
}

// Start runs a service until Stop or Close. run must return soon after its
// context has ended; whatever it returns earlier, nil included, is a failure
// after which it is called again. A predecessor that is stuck does not make
// Start fail: the service begins when the predecessor has ended.
func (g *Group) Start(name string, run func(context.Context) error) error {
	_, err := g.put(name, run, false)
	return err
}

// Stop ends a service and waits until it has returned. It fails with ErrStuck
// when that takes longer than StopLimit.
func (g *Group) Stop(name string) error {
	s := g.find(name)
	if s == nil {
		return fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return g.stop(context.Background(), s)
}

// Replace is Stop and Start as one step: no other caller comes in between, and
// the new service begins only after the old one has returned. A service that is
// not there is started. When the old one is stuck, Replace returns ErrStuck
// after StopLimit and the new one waits on.
func (g *Group) Replace(name string, run func(context.Context) error) error {
	old, err := g.put(name, run, true)
	if err != nil || old == nil {
		return err
	}
	return g.stop(context.Background(), old)
}

// Close ends all services, the last started first, each waited for before the
// next is told. When ctx ends, the rest are told at once and not waited for.
// It returns nil when all have returned. The group cannot be used again.
func (g *Group) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	list := slices.Clone(g.services)
	g.mu.Unlock()
	var errs []error
	for _, s := range slices.Backward(list) {
		errs = append(errs, g.stop(ctx, s))
	}
	return errors.Join(errs...)
}

// Health tells how each service is, in the order of their start.
func (g *Group) Health() []Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Health, 0, len(g.services))
	for _, s := range g.services {
		list = append(list, s.health)
	}
	return list
}

func (g *Group) find(name string) *service {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := g.index(name); i >= 0 {
		return g.services[i]
	}
	return nil
}

func (g *Group) index(name string) int {
	return slices.IndexFunc(g.services, func(s *service) bool { return s.name == name })
}

// put starts a service and returns the one whose place it took.
func (g *Group) put(name string, run func(context.Context) error, replace bool) (old *service, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("%s: %w", name, ErrClosed)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{name: name, run: run, cancel: cancel, done: make(chan struct{}),
		health: Health{Service: name, State: Waiting, Since: time.Now()}}
	if i := g.index(name); i < 0 {
		g.services = append(g.services, s)
	} else if old = g.services[i]; replace || old.health.State == Stuck {
		g.services[i] = s
	} else {
		cancel()
		return nil, fmt.Errorf("%s: %w", name, ErrRunning)
	}
	if g.turns[name] == nil {
		g.turns[name] = make(chan struct{}, 1)
	}
	go g.supervise(ctx, s, g.turns[name])
	return old, nil
}

// stop tells s to end and waits, at most until ctx ends.
func (g *Group) stop(ctx context.Context, s *service) error {
	s.cancel()
	limit := time.NewTimer(StopLimit)
	defer limit.Stop()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		select {
		case <-s.done: // both were ready; that it has ended is what counts
			return nil
		default:
			return fmt.Errorf("stopping %s: %w", s.name, ctx.Err())
		}
	case <-limit.C:
	}
	err := fmt.Errorf("%s: %w", s.name, ErrStuck)
	g.mu.Lock()
	first := s.health.State != Stuck
	if first {
		s.health.State, s.health.Since, s.health.Err = Stuck, time.Now(), ErrStuck
	}
	g.mu.Unlock()
	if first {
		g.log.Error("service does not return", "service", s.name, "limit", StopLimit)
		g.report(Report{Service: s.name, State: Stuck, Err: ErrStuck})
	}
	return err
}

// supervise is the life of one service.
func (g *Group) supervise(ctx context.Context, s *service, turn chan struct{}) {
	defer func() {
		s.cancel()
		g.mu.Lock()
		g.services = slices.DeleteFunc(g.services, func(o *service) bool { return o == s })
		g.mu.Unlock()
		close(s.done)
	}()
	// Two runs under one name would fight for the same wires and ports.
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-turn }()
	g.mu.Lock()
	if s.health.State == Waiting { // else Stuck: stop came in between
		s.health.State, s.health.Since = Running, time.Now()
	}
	g.mu.Unlock()

	log := g.log.With("service", s.name)
	delay := FirstDelay
	for ctx.Err() == nil {
		start := time.Now()
		err := g.attempt(ctx, s, log)
		var p *PanicError
		if errors.As(err, &p) {
			log.Error("service panicked", "panic", p.Value, "stack", string(p.Stack))
		}
		if ctx.Err() != nil && p == nil {
			log.Debug("service ended", "error", err)
			return
		}
		if err == nil {
			err = ErrReturned
		}
		if time.Since(start) >= HealthyAfter {
			delay = FirstDelay
		}
		g.failed(s, err)
		if ctx.Err() != nil {
			return
		}
		log.Warn("service failed", "error", err, "again_in", delay)
		pause := time.NewTimer(delay)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		delay = min(2*delay, MaxDelay)
	}
}

// attempt runs the service once. In a goroutine of its own, so that the
// recovery can be told while it runs.
func (g *Group) attempt(ctx context.Context, s *service, log *slog.Logger) error {
	result := make(chan error, 1)
	go func() {
		// Stays if the service leaves by runtime.Goexit.
		err := errors.New("the service ended its goroutine")
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			result <- err
		}()
		err = s.run(ctx)
	}()
	healthy := time.NewTimer(HealthyAfter)
	defer healthy.Stop()
	for {
		select {
		case err := <-result:
			return err
		case <-healthy.C:
			g.recovered(s, log)
		}
	}
}

func (g *Group) failed(s *service, err error) {
	g.mu.Lock()
	first := s.health.State == Running
	if first {
		s.health.State, s.health.Since = Failing, time.Now()
	}
	s.health.Failures++
	s.health.Err = err
	g.mu.Unlock()
	if first {
		g.report(Report{Service: s.name, State: Failing, Err: err})
	}
}

func (g *Group) recovered(s *service, log *slog.Logger) {
	g.mu.Lock()
	back := s.health.State == Failing
	if back {
		s.health = Health{Service: s.name, State: Running, Since: time.Now()}
	}
	g.mu.Unlock()
	if back {
		log.Info("service runs well again")
		g.report(Report{Service: s.name, State: Running})
	}
}
