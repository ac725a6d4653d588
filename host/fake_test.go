package host

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// fakeSense is an input that a test sets.
type fakeSense struct {
	mu      sync.Mutex
	level   bool
	err     error
	changed chan struct{}
	follow  func(level bool) // what hangs on it
}

// edge makes f follow each set.
func (s *fakeSense) edge(f func(level bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow = f
}

func newFakeSense(level bool) *fakeSense {
	return &fakeSense{level: level, changed: make(chan struct{})}
}

func (s *fakeSense) set(level bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level = level
	close(s.changed)
	s.changed = make(chan struct{})
	if s.follow != nil {
		s.follow(level)
	}
}

func (s *fakeSense) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	s.set(s.level)
}

func (s *fakeSense) Level() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level, s.err
}

func (s *fakeSense) Watch(ctx context.Context, changed func(bool)) error {
	first, last := true, false
	for {
		s.mu.Lock()
		level, err, wake := s.level, s.err, s.changed
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if first || level != last {
			first, last = false, level
			changed(level)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A press is one pulse that a fake line saw.
type press struct {
	at, length time.Duration // since the test began
}

// fakeLine is an output that remembers its presses.
type fakeLine struct {
	mu      sync.Mutex
	start   time.Time
	since   time.Time
	active  bool
	presses []press
	edge    func(active bool)
	err     error
	errOff  bool // also a release fails
}

func (l *fakeLine) Set(active bool) error {
	l.mu.Lock()
	if l.err != nil && (active || l.errOff) {
		defer l.mu.Unlock()
		return l.err
	}
	was := l.active
	l.active = active
	switch {
	case active && !was:
		l.since = time.Now()
	case !active && was:
		l.presses = append(l.presses, press{l.since.Sub(l.start), time.Since(l.since)})
	}
	edge := l.edge
	l.mu.Unlock()
	if edge != nil && active != was {
		edge(active)
	}
	return nil
}

func (l *fakeLine) all() []press {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]press(nil), l.presses...)
}

// forget drops the presses seen so far.
func (l *fakeLine) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.presses = nil
}

// follow makes f see each edge.
func (l *fakeLine) follow(f func(active bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.edge = f
}

// fail makes each Set fail that presses, and all that release too.
func (l *fakeLine) fail(err error, releases bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.errOff = err, releases
}

func (l *fakeLine) pressed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active
}

// A rig is an ATX machine in virtual time with its wires, and the Host on it.
type rig struct {
	t       *testing.T
	dir     string
	parts   Parts
	cfg     PowerConfig
	h       *Host
	stop    func()
	again   func(between func()) error // ends Run, and calls it again on the same Host
	btn     *fakeLine
	rst     *fakeLine
	nmi     *fakeLine
	led     *fakeSense
	standby *fakeSense
	reset   *fakeSense
	panel   *fakeSense
	panelR  *fakeSense

	mu       sync.Mutex
	on       bool
	hold     *time.Timer
	deaf     bool          // the button does nothing
	stuckOn  bool          // the light never goes out
	ledDelay time.Duration // press to light
	osTime   time.Duration // press to shutdown; 0: the OS ignores it
	ac       bool
}

// newRig makes a machine that is off, has AC, and is fully wired.
func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), cfg: DefaultPowerConfig(), ac: true, ledDelay: 300 * time.Millisecond, osTime: 10 * time.Second}
	now := time.Now()
	r.btn = &fakeLine{start: now, edge: r.buttonEdge}
	r.rst = &fakeLine{start: now, edge: func(active bool) { r.resetEdge(active) }}
	r.nmi = &fakeLine{start: now}
	r.led, r.standby, r.reset = newFakeSense(false), newFakeSense(true), newFakeSense(false)
	r.panel, r.panelR = newFakeSense(false), newFakeSense(false)
	r.parts = Parts{
		PowerButton: r.btn, ResetButton: r.rst, NMIButton: r.nmi,
		PowerLED: r.led, Standby: r.standby, HostReset: r.reset,
		PowerButtonPressed: r.panel, ResetButtonPressed: r.panelR,
		Identity: Identity{BootID: "first"},
	}
	return r
}

func (r *rig) buttonEdge(active bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parts.PowerButtonPressed != nil {
		r.panel.set(active)
	}
	if r.deaf || !r.ac {
		return
	}
	if !active {
		if r.hold != nil {
			r.hold.Stop()
			r.hold = nil
		}
		return
	}
	if !r.on {
		r.on = true
		time.AfterFunc(r.ledDelay, func() { r.light(true) })
		return
	}
	r.hold = time.AfterFunc(4*time.Second, func() { r.turnOff() })
	if r.osTime > 0 {
		time.AfterFunc(r.osTime, func() { r.turnOff() })
	}
}

func (r *rig) light(want bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on == want && !(r.stuckOn && !want) {
		r.led.set(want)
	}
}

func (r *rig) turnOff() {
	r.mu.Lock()
	r.on = false
	r.mu.Unlock()
	r.light(false)
}

func (r *rig) resetEdge(active bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on {
		r.reset.set(active)
	}
}

// blink puts the machine to sleep: its light blinks at 1 Hz, dark first, until
// the function it returns is called with the level to stay at.
func (r *rig) blink() func(level bool) {
	stop := make(chan bool)
	go func() {
		for on := false; ; on = !on {
			r.led.set(on)
			select {
			case <-time.After(500 * ms):
			case level := <-stop:
				r.led.set(level)
				return
			}
		}
	}()
	return func(level bool) { stop <- level }
}

func (r *rig) acOff() {
	r.mu.Lock()
	r.ac, r.on = false, false
	r.mu.Unlock()
	r.standby.set(false)
	r.led.set(false)
}

func (r *rig) acOn() {
	r.mu.Lock()
	r.ac = true
	r.mu.Unlock()
	r.standby.set(true)
}

// boot starts the host's software and waits until it has taken up the wires.
func (r *rig) boot() *Host {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := store.Open(filepath.Join(r.dir, "state.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	events, err := OpenEvents(db, log)
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := New(r.parts, Options{Store: db, Events: events, Log: log, Power: r.cfg})
	if err != nil {
		r.t.Fatal(err)
	}
	r.h = h
	end := r.run()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := end(); err != nil {
			r.t.Errorf("Run: %v", err)
		}
		if err := db.Close(); err != nil {
			r.t.Error(err)
		}
	}
	r.again = func(between func()) error {
		err := end()
		if between != nil {
			between()
		}
		end = r.run()
		return err
	}
	return h
}

// run runs the Host until the function it returns is called.
func (r *rig) run() func() error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.h.Run(ctx) }()
	synctest.Wait()
	return func() error { cancel(); return <-done }
}

// reboot ends the software and starts it again; powerUp: the board too.
func (r *rig) reboot(powerUp bool) *Host {
	r.t.Helper()
	r.stop()
	if powerUp {
		r.parts.Identity.BootID += "+"
	}
	return r.boot()
}

// crash ends the software as a kill does, and starts it again: the disk has
// what was on it at the crash, whatever the end would have written.
func (r *rig) crash(powerUp bool) *Host {
	r.t.Helper()
	synctest.Wait()
	path := filepath.Join(r.dir, "state.db")
	then, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stop()
	if err := os.WriteFile(path, then, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.reboot(powerUp)
}

// change changes the machine.
func (r *rig) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// comesOn is the machine switched on by nobody that the Host knows.
func (r *rig) comesOn() {
	r.change(func() { r.on = true })
	r.light(true)
}

// rec is the record as the Host has it.
func (r *rig) rec() record {
	synctest.Wait()
	r.h.Power.mu.Lock()
	defer r.h.Power.mu.Unlock()
	return r.h.Power.rec
}

func (r *rig) state() PowerState {
	synctest.Wait()
	return r.h.Power.Status().State
}

func (r *rig) want(s PowerState) {
	r.t.Helper()
	if got := r.state(); got != s {
		r.t.Fatalf("state: got %s, want %s", got, s)
	}
}

// do requests a and waits for its outcome.
func (r *rig) do(a Action) error {
	r.t.Helper()
	op, err := r.h.Power.Request(a, CauseCommand, Origin{Via: "test"})
	if err != nil {
		return err
	}
	<-op.Done()
	return op.Err()
}

func (r *rig) must(a Action) {
	r.t.Helper()
	if err := r.do(a); err != nil {
		r.t.Fatalf("power %s: %v", a, err)
	}
}

func (r *rig) begin(a Action) *Operation {
	r.t.Helper()
	op, err := r.h.Power.Request(a, CauseCommand, Origin{Via: "test"})
	if err != nil {
		r.t.Fatalf("power %s: %v", a, err)
	}
	synctest.Wait()
	return op
}

func (r *rig) refused(a Action, want error) {
	r.t.Helper()
	if _, err := r.h.Power.Request(a, CauseCommand, Origin{}); !errors.Is(err, want) {
		r.t.Errorf("power %s: got %v, want %v", a, err, want)
	}
}

func (r *rig) kinds(from uint64) (kinds []string) {
	for _, e := range r.h.Events.Since(from, 0) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// inVirtualTime runs f in a bubble with a machine.
func inVirtualTime(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer func() {
			if r.stop != nil {
				r.stop()
			}
			time.Sleep(time.Hour) // lets the machine's own timers end
		}()
		f(t, r)
	})
}
