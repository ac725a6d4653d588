package redfishtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Line is an output; Press, if set, is called when it goes active.
type Line struct {
	mu      sync.Mutex
	active  bool
	presses int
	Press   func()
	err     error
}

// Set implements host.Line.
func (l *Line) Set(active bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if active && !l.active {
		l.presses++
		if l.Press != nil {
			l.Press()
		}
	}
	l.active = active
	return nil
}

// Fail makes Set answer err.
func (l *Line) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// Count says how often it was pressed.
func (l *Line) Count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.presses
}

// Sense is an input that a test sets.
type Sense struct {
	mu      sync.Mutex
	level   bool
	changed chan struct{}
}

// NewSense has that level.
func NewSense(level bool) *Sense {
	return &Sense{level: level, changed: make(chan struct{})}
}

// Set changes the level.
func (s *Sense) Set(level bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level = level
	close(s.changed)
	s.changed = make(chan struct{})
}

// Level implements host.Sense.
func (s *Sense) Level() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level, nil
}

// Watch implements host.Sense.
func (s *Sense) Watch(ctx context.Context, changed func(bool)) error {
	for {
		s.mu.Lock()
		level, wake := s.level, s.changed
		s.mu.Unlock()
		changed(level)
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Selector is a BootSelector that takes everything, or err.
type Selector struct {
	mu  sync.Mutex
	err error
}

// Targets implements host.BootSelector.
func (s *Selector) Targets() []host.BootTarget {
	return []host.BootTarget{host.BootPXE, host.BootDisk, host.BootUEFIHTTP}
}

// SelectBoot implements host.BootSelector.
func (s *Selector) SelectBoot(context.Context, host.BootTarget, host.BootMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Host is a host of fake wires.
type Host struct {
	*host.Host
	LED           *Sense
	Button, Light *Line
	Selector      *Selector
	Policies      []host.RestorePolicy // saved; only read when no request runs
}

// HostOptions: the host is on; Bare leaves out all wires but the reset button;
// the host runs, unless Stopped. Parts, if set, changes what it is made of.
type HostOptions struct {
	On, Bare, Stopped bool
	Parts             func(*host.Parts)
}

// NewHost makes one.
func NewHost(t testing.TB, o HostOptions) *Host {
	t.Helper()
	r := &Host{LED: NewSense(o.On), Button: &Line{}, Light: &Line{}, Selector: &Selector{}}
	r.Button.Press = func() {
		if on, _ := r.LED.Level(); !on { // it never fails
			r.LED.Set(true)
		}
	}
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	events, err := host.OpenEvents(db, log)
	if err != nil {
		t.Fatal(err)
	}
	parts := host.Parts{PowerButton: r.Button, ResetButton: &Line{}, IDLight: r.Light, PowerLED: r.LED, Boot: r.Selector}
	if o.Bare {
		parts = host.Parts{ResetButton: &Line{}}
	}
	if o.Parts != nil {
		o.Parts(&parts)
	}
	cfg := host.DefaultPowerConfig()
	cfg.PowerPulse, cfg.ResetPulse, cfg.Debounce = 10*time.Millisecond, 10*time.Millisecond, 0
	cfg.Restore = host.AlwaysOff
	r.Host, err = host.New(parts, host.Options{Store: db, Events: events, Log: log, Power: cfg,
		SaveRestorePolicy: func(p host.RestorePolicy, from host.Origin) error {
			if from.Via != resource.Via || from.User == "" || from.Source != "127.0.0.1" {
				return fmt.Errorf("origin %+v", from)
			}
			r.Policies = append(r.Policies, p)
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if !o.Stopped {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		if !o.Bare {
			want := host.StateOff
			if o.On {
				want = host.StateOn
			}
			r.Await(t, want)
		}
	}
	return r
}

// Await waits for a power state.
func (r *Host) Await(t testing.TB, want host.PowerState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		now := r.Power.Status()
		if now.State == want {
			return
		}
		if err := r.Power.Wait(ctx, now); err != nil {
			t.Fatalf("state %s, want %s: %v", now.State, want, err)
		}
	}
}

// Fail makes SelectBoot answer err.
func (s *Selector) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}
