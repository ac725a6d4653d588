package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/store"
)

// A rig is a clock that is off, with servers that know.
type rig struct {
	*Clock
	events *host.Events
	start  func() // once the servers are prepared

	mu      sync.Mutex
	answers map[string]func() (sample, error)
	offered []netip.Addr
	fails   error // of the adjuster
	past
}

// The past is what happened so far.
type past struct {
	off          time.Duration // what the clock lacks
	asked        map[string]int
	steps, slews []time.Duration
}

// so is the past up to now.
func (r *rig) so() past {
	r.mu.Lock()
	defer r.mu.Unlock()
	return past{r.off, maps.Clone(r.asked), slices.Clone(r.steps), slices.Clone(r.slews)}
}

// Step and Slew are the machine's clock.
func (r *rig) Step(by time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails != nil {
		return r.fails
	}
	r.steps = append(r.steps, by)
	r.off -= by
	return nil
}

func (r *rig) Slew(by, _ time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fails != nil {
		return r.fails
	}
	r.slews = append(r.slews, by)
	r.off -= by
	return nil
}

func (r *rig) ask(_ context.Context, server string) (sample, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[server]++
	answer, ok := r.answers[server]
	if !ok {
		return sample{}, errors.New("timeout")
	}
	s, err := answer()
	s.server = server
	return s, err
}

// right is a server that tells the true time, but for an error.
func (r *rig) right(wrong time.Duration) func() (sample, error) {
	return func() (sample, error) { return sample{offset: r.off + wrong, distance: time.Millisecond}, nil }
}

func openEvents(t *testing.T) *host.Events {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	events, err := host.OpenEvents(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// run runs f, which starts the clock, in time that passes by itself.
func run(t *testing.T, config Config, off time.Duration, f func(t *testing.T, r *rig)) {
	events := openEvents(t)
	synctest.Test(t, func(t *testing.T) {
		r := &rig{events: events, answers: map[string]func() (sample, error){}, past: past{off: off, asked: map[string]int{}}}
		r.Clock = New(Options{
			Config: config, Adjust: r, Events: events, Log: slog.New(slog.DiscardHandler), NotBefore: time.Now().Add(-time.Hour),
			Offered: func() []netip.Addr { r.mu.Lock(); defer r.mu.Unlock(); return r.offered },
		})
		r.Clock.query = r.ask
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		r.start = func() {
			go func() {
				if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("Run: got %v, want %v", err, context.Canceled)
				}
			}()
		}
		f(t, r)
	})
}

func (r *rig) kinds() []string {
	var kinds []string
	for _, e := range r.events.Since(0, 0) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// want checks the events so far.
func (r *rig) want(t *testing.T, kinds ...string) {
	t.Helper()
	if got := r.kinds(); !slices.Equal(got, kinds) {
		t.Errorf("got events %q, want %q", got, kinds)
	}
}

// after lets time pass.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func servers(names ...string) Config { return Config{NTP: true, Servers: names} }

func TestStepThenSlew(t *testing.T) {
	run(t, servers("a"), 90*24*time.Hour, func(t *testing.T, r *rig) {
		r.answers["a:123"] = r.right(0)
		r.start()
		after(time.Second)
		if len(r.so().steps) != 1 || r.so().off != 0 {
			t.Fatalf("got steps %v, still off by %v, want one step", r.so().steps, r.so().off)
		}
		r.want(t, "clock.stepped", "clock.synchronized")
		if s := r.Status(); !s.Synchronized || s.Server != "a:123" || s.Offset != 90*24*time.Hour || !slices.Equal(s.Servers, []string{"a:123"}) || !s.NTP {
			t.Errorf("got %+v, want it kept by a", s)
		}
		r.mu.Lock()
		r.off = 100 * time.Millisecond
		r.mu.Unlock()
		after(3 * maxPoll)
		if len(r.so().steps) != 1 || len(r.so().slews) == 0 || r.so().slews[0] != 100*time.Millisecond {
			t.Errorf("got steps %v, slews %v, want a slew of 100ms first", r.so().steps, r.so().slews)
		}
		// Once the clock is right, questions become rare.
		before := r.so().asked["a:123"]
		after(10 * maxPoll)
		if n := r.so().asked["a:123"] - before; n < 8 || n > 13 {
			t.Errorf("got %d questions in 10 times %v, want about 10", n, maxPoll)
		}
		r.want(t, "clock.stepped", "clock.synchronized")
	})
}

// TestOneLatePacket: a clock that is right is not set by one bad answer.
func TestOneLatePacket(t *testing.T) {
	run(t, servers("a"), 0, func(t *testing.T, r *rig) {
		r.answers["a:123"] = r.right(0)
		r.start()
		after(time.Second)
		r.mu.Lock()
		bad := 1
		r.answers["a:123"] = func() (sample, error) {
			if bad > 0 {
				bad--
				return sample{offset: 3 * time.Second}, nil
			}
			return sample{offset: r.off}, nil
		}
		r.mu.Unlock()
		after(10 * minPoll)
		if len(r.so().steps) != 0 {
			t.Errorf("one bad answer: got steps %v, want none", r.so().steps)
		}
		r.mu.Lock()
		r.off = -time.Hour // somebody set the machine's clock behind our back
		r.mu.Unlock()
		after(2 * maxPoll)
		if !slices.Equal(r.so().steps, []time.Duration{-time.Hour}) {
			t.Errorf("an hour ahead, twice: got steps %v, want one back", r.so().steps)
		}
		r.want(t, "clock.synchronized", "clock.stepped")
	})
}

func TestMedian(t *testing.T) {
	run(t, servers("a", "b", "c", "d"), 50*time.Millisecond, func(t *testing.T, r *rig) {
		r.answers["a:123"] = r.right(0)
		r.answers["b:123"] = r.right(time.Hour) // wrong
		r.answers["c:123"] = r.right(time.Millisecond)
		// d does not answer.
		r.start()
		after(10 * time.Second)
		if !slices.Equal(r.so().slews, []time.Duration{51 * time.Millisecond}) || len(r.so().steps) != 0 || r.Status().Server != "c:123" {
			t.Errorf("got slews %v, steps %v, %q, want the middle one", r.so().slews, r.so().steps, r.Status().Server)
		}
	})
	two := []sample{{"a:123", time.Second, 2 * time.Millisecond}, {"b:123", 0, 3 * time.Millisecond}}
	if got := choose(two); got.server != "a:123" {
		t.Errorf("of two: got %v, want the surer one", got)
	}
}

func TestNobodyAnswers(t *testing.T) {
	run(t, servers("a"), time.Hour, func(t *testing.T, r *rig) {
		r.start()
		after(neverAfter - 10*time.Second)
		r.want(t)
		after(time.Hour)
		r.want(t, "clock.unsynchronized")
		if n := r.so().asked["a:123"]; n < 40 || n > 80 {
			t.Errorf("got %d questions in an hour, want about 60", n)
		}
		r.mu.Lock()
		r.answers["a:123"] = r.right(0)
		r.mu.Unlock()
		after(2 * minPoll)
		r.want(t, "clock.unsynchronized", "clock.stepped", "clock.synchronized")
		r.mu.Lock()
		delete(r.answers, "a:123")
		r.mu.Unlock()
		after(lostAfter - 2*minPoll)
		if !r.Status().Synchronized {
			t.Error("silent for less than an hour: got unsynchronized")
		}
		after(2*minPoll + maxPoll)
		if r.Status().Synchronized {
			t.Error("silent for more than an hour: got synchronized")
		}
		after(24 * time.Hour)
		r.want(t, "clock.unsynchronized", "clock.stepped", "clock.synchronized", "clock.unsynchronized")
	})
}

func TestKissOfDeath(t *testing.T) {
	run(t, servers("never", "less", "good"), 0, func(t *testing.T, r *rig) {
		r.answers["never:123"] = func() (sample, error) { return sample{}, &kissError{"DENY"} }
		r.answers["less:123"] = func() (sample, error) { return sample{}, &kissError{"RATE"} }
		r.answers["good:123"] = r.right(0)
		r.start()
		after(20 * time.Hour)
		if n := r.so().asked["never:123"]; n != 1 {
			t.Errorf("DENY: got %d questions, want 1", n)
		}
		if n, limit := r.so().asked["less:123"], int(20*time.Hour/maxPoll)+1; n < 2 || n > limit {
			t.Errorf("RATE: got %d questions, want 2 to %d", n, limit)
		}
		if n := r.so().asked["good:123"]; n < 60 {
			t.Errorf("another: got %d questions, want it asked on", n)
		}
	})
	run(t, servers("never"), 0, func(t *testing.T, r *rig) {
		r.answers["never:123"] = func() (sample, error) { return sample{}, &kissError{"RSTR"} }
		r.start()
		after(20 * time.Hour)
		if n := r.so().asked["never:123"]; n != 1 {
			t.Errorf("the only one: got %d questions, want 1", n)
		}
		r.want(t, "clock.unsynchronized")
		// Whoever names it again has it asked again.
		r.Configure(servers("never", "other"))
		after(time.Second)
		if n := r.so().asked["never:123"]; n != 2 {
			t.Errorf("after a change: got %d questions, want 2", n)
		}
	})
}

// TestOffered: without servers in the settings those of the network count, when
// it names some.
func TestOffered(t *testing.T) {
	run(t, DefaultConfig(), time.Minute, func(t *testing.T, r *rig) {
		r.start()
		after(48 * time.Hour)
		r.want(t) // a closed network is no fault
		if err := r.Set(time.Now().Add(time.Second), host.Origin{}); err != nil {
			t.Errorf("by hand, with nobody else: got %v", err)
		}
		r.mu.Lock()
		r.offered = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}
		r.answers["192.0.2.9:123"] = r.right(0)
		r.mu.Unlock()
		after(2 * idle)
		r.want(t, "clock.set", "clock.stepped", "clock.synchronized")
		if s := r.Status(); !slices.Equal(s.Servers, []string{"192.0.2.9:123", "[2001:db8::9]:123"}) {
			t.Errorf("got servers %q, want both", s.Servers)
		}
		r.Configure(servers("a"))
		after(time.Second)
		if r.so().asked["a:123"] != 1 || r.Status().Synchronized {
			t.Errorf("got %v, %+v, want a asked, which does not answer", r.so().asked, r.Status())
		}
	})
}

func TestSet(t *testing.T) {
	from := host.Origin{Via: "redfish", User: "admin"}
	run(t, servers("a"), 0, func(t *testing.T, r *rig) {
		r.answers["a:123"] = r.right(0)
		r.start()
		after(time.Second)
		if err := r.Set(time.Now(), from); !errors.Is(err, ErrKept) {
			t.Errorf("with NTP: got %v, want %v", err, ErrKept)
		}
		r.Configure(Config{Servers: []string{"a"}})
		after(time.Hour)
		asked := r.so().asked["a:123"]
		for _, bad := range []time.Time{time.Now().Add(-3 * time.Hour), time.Date(end, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
			if err := r.Set(bad, from); !errors.Is(err, host.ErrInvalid) {
				t.Errorf("%v: got %v, want %v", bad, err, host.ErrInvalid)
			}
		}
		// The zone of a time is of no matter.
		if err := r.Set(time.Now().Add(time.Hour).In(time.FixedZone("", 7200)), from); err != nil || !slices.Equal(r.so().steps, []time.Duration{time.Hour}) {
			t.Errorf("got %v, steps %v, want one of an hour", err, r.so().steps)
		}
		r.want(t, "clock.synchronized", "clock.set")
		if e := r.events.Since(1, 0)[0]; e.Origin != from {
			t.Errorf("got %v, want the event to say who", e)
		}
		if s := r.Status(); s.NTP || s.Synchronized || len(s.Servers) != 0 || r.so().asked["a:123"] != asked {
			t.Errorf("NTP off: got %+v, %d questions more, want none", s, r.so().asked["a:123"]-asked)
		}
		r.mu.Lock()
		r.fails = errors.New("not permitted")
		r.mu.Unlock()
		if err := r.Set(time.Now(), from); !errors.Is(err, r.fails) {
			t.Errorf("got %v, want %v", err, r.fails)
		}
		if now := r.Now(); now.Location() != time.UTC {
			t.Errorf("got %v, want UTC", now)
		}
	})
}

// TestSimulated: the clock of the machine is left alone.
func TestSimulated(t *testing.T) {
	events := openEvents(t)
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Config: servers("a"), Events: events, Log: slog.New(slog.DiscardHandler)})
		c.query = func(context.Context, string) (sample, error) { t.Error("a server is asked"); return sample{}, nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := c.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: got %v", err)
		}
		if err := c.Set(time.Now(), host.Origin{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Set: got %v, want %v", err, errors.ErrUnsupported)
		}
		if s := c.Status(); s.NTP || s.Synchronized || s.Servers != nil {
			t.Errorf("got %+v, want nothing kept", s)
		}
	})
}

// TestTooEarly: a server that has lost its own clock is not followed.
func TestTooEarly(t *testing.T) {
	run(t, servers("a"), 0, func(t *testing.T, r *rig) {
		r.answers["a:123"] = r.right(-20 * 365 * 24 * time.Hour)
		r.start()
		after(time.Hour)
		if len(r.so().steps) != 0 {
			t.Errorf("got steps %v, want none", r.so().steps)
		}
		r.want(t, "clock.unsynchronized")
		if e := r.events.Since(0, 0)[0]; !strings.Contains(e.Message, errTooEarly.Error()) || strings.Contains(e.Message, "\n") {
			t.Errorf("got %q, want one line with the reason", e.Message)
		}
	})
}

// TestNotPermitted: what the machine refuses is told once, and works later.
func TestNotPermitted(t *testing.T) {
	run(t, servers("a"), time.Hour, func(t *testing.T, r *rig) {
		r.fails = errors.New("not permitted")
		r.answers["a:123"] = r.right(0)
		r.start()
		after(time.Hour)
		r.want(t, "clock.unsynchronized")
		r.mu.Lock()
		r.fails = nil
		r.mu.Unlock()
		after(2 * minPoll)
		r.want(t, "clock.unsynchronized", "clock.stepped", "clock.synchronized")
	})
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		servers []string
		bad     int // -1: none
	}{
		{nil, -1},
		{[]string{"192.0.2.1", "2001:db8::1", "ntp.example.net", "ntp.example.net.", "fe80::1%eth0"}, -1},
		{[]string{"ok", ""}, 1},
		{[]string{"192.0.2"}, 0},
		{[]string{"192.0.2.1:123"}, 0},
		{[]string{"[2001:db8::1]"}, 0},
		{[]string{"a b"}, 0},
		{[]string{"-a"}, 0},
		{[]string{"a..b"}, 0},
		{[]string{"0.0.0.0"}, 0},
		{[]string{"224.0.1.1"}, 0},
		{[]string{"a", "a"}, 1},
		{[]string{strings.Repeat("a", 64)}, 0},
		{[]string{strings.Repeat("a.", 127) + "a"}, 0},
	} {
		err := Config{Servers: tt.servers}.Validate()
		field, ok := errors.AsType[*settings.FieldError](err)
		if tt.bad < 0 && err != nil || tt.bad >= 0 && (!ok || field.Pointer != fmt.Sprintf("/servers/%d", tt.bad)) {
			t.Errorf("%q: got %v, want what is wrong at %d", tt.servers, err, tt.bad)
		}
	}
	if err := (Config{Servers: make([]string, maxServers+1)}).Validate(); err == nil {
		t.Error("too many: got no error")
	}
}
