// Package clock keeps the board's clock right by time servers (NTP, RFC 5905). The
// boards have no clock that runs without power.
//
// The servers are asked in turn with what the network is worth: seldom while the
// clock is right, never again where one says so. What most of them say counts.
// A clock that is far off is set at once, one that is a little off is brought
// back by and by, so that no time comes twice. Without any server the board works
// as it did before, and somebody may set the clock.
package clock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
)

// Limits of the clock.
const (
	// stepThreshold is the least error that is set right at once (STEPT of RFC
	// 5905 section 11.3).
	stepThreshold = 128 * time.Millisecond
	// steady is the greatest error that makes questions rarer.
	steady = 10 * time.Millisecond
)

// The times between two rounds of questions.
const (
	minPoll = 64 * time.Second
	maxPoll = 1024 * time.Second
	// firstRetry follows a round without an answer, and doubles up to minPoll.
	firstRetry = 2 * time.Second
	// confirm is how soon a large error of a clock that was right is looked at
	// again: one packet may have been long on its way.
	confirm = 4 * time.Second
	// idle is how often a network that has named no server is asked for one.
	idle = 5 * time.Second
	// longHold is how long a server that refuses to answer is left alone.
	longHold = 24 * time.Hour
)

// When people are told that no server answers.
const (
	neverAfter = time.Minute // one that never did
	lostAfter  = time.Hour   // after the last answer
)

// end is the first year that cannot be set: Linux's own limit is near.
const end = 2200

// ErrKept says that the clock is not to be set by hand. Compare with errors.Is.
var ErrKept = errors.New("the clock is kept by time servers: switch NTP off first")

// errTooEarly says that a server's time cannot be.
var errTooEarly = errors.New("it says a time before this software was made")

// Options are what New needs.
type Options struct {
	Config Config
	// Offered answers the time servers that the network names; nil: none.
	Offered func() []netip.Addr
	// Adjust sets the clock; nil: it is not the board's to set.
	Adjust Adjuster
	// NotBefore is a time that has certainly passed; the clock is not set to one
	// before it.
	NotBefore time.Time
	Events    *host.Events
	Log       *slog.Logger
}

// A Status says how the clock is.
type Status struct {
	// NTP: time servers are to be asked; Servers are those, as host:port.
	NTP     bool
	Servers []string
	// Synchronized: a server's word is not older than an hour.
	Synchronized bool
	// Server is the one that was followed last, Offset what the clock lacked then,
	// and At when; zero before the first time.
	Server string
	Offset time.Duration
	At     time.Time
}

// A Clock is the board's.
type Clock struct {
	opt   Options
	query func(ctx context.Context, server string) (sample, error)
	wake  chan struct{} // the settings changed

	mu      sync.Mutex // guards the following, and the machine's clock
	config  Config
	changes int // counts config
	status  Status
}

// New makes a clock; Run keeps it.
func New(opt Options) *Clock {
	if opt.Offered == nil {
		opt.Offered = func() []netip.Addr { return nil }
	}
	return &Clock{opt: opt, query: query, wake: make(chan struct{}, 1), config: opt.Config}
}

// Now is the time in UTC, which is the board's zone.
func (c *Clock) Now() time.Time { return time.Now().UTC() }

// Status answers how the clock is.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.NTP, s.Servers = c.config.NTP && c.opt.Adjust != nil, c.servers()
	return s
}

// Configure changes the settings at run time.
func (c *Clock) Configure(config Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if config.Equal(c.config) {
		return
	}
	c.config = config
	c.changes++
	select {
	case c.wake <- struct{}{}:
	default: // it is to look already
	}
}

// servers are those to ask now, as host:port. The caller holds mu.
func (c *Clock) servers() []string {
	if !c.config.NTP || c.opt.Adjust == nil {
		return nil
	}
	names := c.config.Servers
	if len(names) == 0 {
		for _, a := range c.opt.Offered() {
			names = append(names, a.String())
		}
	}
	var list []string
	for _, name := range names[:min(len(names), maxServers)] {
		list = append(list, net.JoinHostPort(name, "123"))
	}
	return list
}

// Set sets the clock by somebody's word. It fails with ErrKept while time servers
// keep it, with errors.ErrUnsupported where it is not the board's, and with
// host.ErrInvalid for a time that cannot be.
func (c *Clock) Set(t time.Time, from host.Origin) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Now()
	switch {
	case c.opt.Adjust == nil:
		return fmt.Errorf("the clock is that of the machine that simulates the board: %w", errors.ErrUnsupported)
	case len(c.servers()) > 0:
		return ErrKept
	case t.Before(c.opt.NotBefore):
		return fmt.Errorf("%s is before this software was made: %w", stamp(t), host.ErrInvalid)
	case t.UTC().Year() >= end:
		return fmt.Errorf("%s is too late for the board's clock: %w", stamp(t), host.ErrInvalid)
	}
	if err := c.opt.Adjust.Step(t.Sub(now)); err != nil {
		return fmt.Errorf("setting the clock: %w", err)
	}
	c.status.Synchronized = false
	c.opt.Events.Add(host.Event{Kind: "clock.set", Origin: from, Message: fmt.Sprintf("The clock was set from %s to %s.", stamp(now), stamp(t))})
	return nil
}

// stamp is a time for people.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// Run keeps the clock until ctx ends.
func (c *Clock) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		c.keep(ctx)
	}
	return ctx.Err()
}

// keep works with one set of settings, until they change or ctx ends.
func (c *Clock) keep(ctx context.Context) {
	c.mu.Lock()
	k := keeper{c: c, changes: c.changes, poll: minPoll, begun: time.Now(), held: map[string]time.Time{}}
	c.status.Synchronized = false
	c.mu.Unlock()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
			return
		case <-timer.C:
		}
		wait := k.round(ctx)
		// Boards that start together do not stay together.
		timer.Reset(wait - wait/16 + rand.N(wait/8))
	}
}

// A keeper is what Run knows of the servers.
type keeper struct {
	c       *Clock
	changes int // of the settings that it works with
	poll    time.Duration
	begun   time.Time            // when the first server was there to ask
	good    time.Time            // of the last answer; zero: never
	failed  int                  // rounds without an answer since then
	far     bool                 // the last answer was far off, and is to be confirmed
	silent  bool                 // people know that nobody answers
	held    map[string]time.Time // servers that are not to be asked before
}

// round asks once, sets the clock by the answers, and says when to ask again.
func (k *keeper) round(ctx context.Context) time.Duration {
	k.c.mu.Lock()
	servers := k.c.servers()
	on := k.c.config.NTP && k.c.opt.Adjust != nil
	k.c.mu.Unlock()
	if len(servers) == 0 {
		if !on {
			return longHold // a change of the settings comes before
		}
		if k.good.IsZero() {
			k.begun = time.Now() // a network without servers is no fault
		}
		k.miss(errors.New("the network names no time server"))
		return idle
	}
	now := time.Now()
	asked := slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return now.Before(k.held[s]) })
	if len(asked) == 0 {
		k.miss(errors.New("all of them want to be left alone"))
		until := k.held[servers[0]]
		for _, s := range servers {
			if k.held[s].Before(until) {
				until = k.held[s]
			}
		}
		return min(time.Until(until)+time.Second, maxPoll) // the network may name others
	}
	samples, err := k.ask(ctx, asked)
	if ctx.Err() != nil {
		return minPoll
	}
	if len(samples) == 0 {
		k.miss(err)
		k.failed++
		return min(firstRetry<<min(k.failed-1, 10), minPoll)
	}
	return k.apply(choose(samples))
}

// ask asks the servers at once. err says why there is no sample of the others.
func (k *keeper) ask(ctx context.Context, servers []string) ([]sample, error) {
	samples, errs := make([]sample, len(servers)), make([]error, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() { samples[i], errs[i] = k.c.query(ctx, server) })
	}
	asking.Wait()
	var good []sample
	for i, server := range servers {
		if errs[i] == nil && time.Now().Add(samples[i].offset).Before(k.c.opt.NotBefore) {
			errs[i] = errTooEarly
		}
		if errs[i] == nil {
			good = append(good, samples[i])
			continue
		}
		if kiss, ok := errors.AsType[*kissError](errs[i]); ok {
			hold := maxPoll
			if kiss.forever() {
				hold = longHold
			}
			k.held[server] = time.Now().Add(hold)
		}
		errs[i] = fmt.Errorf("%s: %w", server, errs[i])
		k.c.opt.Log.Debug("a time server", "error", errs[i])
	}
	return good, errors.Join(errs...)
}

// choose takes the sample in the middle, so that one server that is wrong among
// three does no harm; of the two in the middle the surer one.
func choose(samples []sample) sample {
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.offset, b.offset) })
	n := len(samples)
	low, high := samples[(n-1)/2], samples[n/2]
	if low.distance <= high.distance {
		return low
	}
	return high
}

// miss takes in that nobody answered.
func (k *keeper) miss(why error) {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	k.far = false
	never := k.good.IsZero()
	if k.silent || never && time.Since(k.begun) < neverAfter || !never && time.Since(k.good) < lostAfter {
		return
	}
	k.silent = true
	c.status.Synchronized = false
	k.poll = minPoll
	c.opt.Events.Add(host.Event{Severity: host.Warning, Kind: "clock.unsynchronized", Message: fmt.Sprintf("The clock is kept by no time server: %s.", reason(why))})
}

// reason makes one line of an error.
func reason(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// apply sets the clock by a sample, and says when to ask again.
func (k *keeper) apply(s sample) time.Duration {
	c := k.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.changes != c.changes {
		return minPoll // the settings changed meanwhile, and NTP may be off
	}
	far := s.offset.Abs() > stepThreshold
	if far && c.status.Synchronized && !k.far {
		k.far = true
		return confirm
	}
	k.far = false
	now := c.Now()
	var err error
	if far {
		err = c.opt.Adjust.Step(s.offset)
	} else {
		err = c.opt.Adjust.Slew(s.offset, k.poll)
	}
	if err != nil {
		if !k.silent {
			k.silent = true
			c.opt.Events.Add(host.Event{Severity: host.Warning, Kind: "clock.unsynchronized", Message: fmt.Sprintf("The clock cannot be set: %v.", err)})
		}
		c.status.Synchronized = false
		return minPoll
	}
	if far {
		to := now.Add(s.offset)
		c.opt.Events.Add(host.Event{Kind: "clock.stepped", Message: fmt.Sprintf("The clock was set from %s to %s, as the time server %s says.", stamp(now), stamp(to), s.server)})
	}
	if !c.status.Synchronized {
		c.opt.Events.Add(host.Event{Kind: "clock.synchronized", Message: fmt.Sprintf("The clock is kept by the time server %s.", s.server)})
	}
	c.status = Status{Synchronized: true, Server: s.server, Offset: s.offset, At: c.Now()}
	k.good, k.failed, k.silent = time.Now(), 0, false
	if s.offset.Abs() < steady {
		k.poll = min(k.poll*2, maxPoll)
	} else {
		k.poll = max(k.poll/2, minPoll)
	}
	return k.poll
}
