package boardtest

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
)

// A watch records what one Watch tells.
type watch struct {
	t      *testing.T
	s      host.Sense
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Watch, once done is closed

	mu     sync.Mutex
	levels []bool
	grew   chan struct{}
}

// watching starts a Watch that ends with the test.
func watching(t *testing.T, s host.Sense) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{t: t, s: s, cancel: cancel, done: make(chan struct{}), grew: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = s.Watch(ctx, func(active bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.levels = append(w.levels, active)
			close(w.grew)
			w.grew = make(chan struct{})
		})
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

// seen returns all levels so far.
func (w *watch) seen() (levels []bool, grew chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]bool(nil), w.levels...), w.grew
}

// until waits until the newest level is want, and fails after limit.
func (w *watch) until(want bool, limit time.Duration, what string) {
	w.t.Helper()
	deadline := time.After(limit)
	for {
		levels, grew := w.seen()
		if n := len(levels); n > 0 && levels[n-1] == want {
			if got := level(w.t, w.s); got != want {
				// It may have changed again; then the watch tells soon.
				select {
				case <-grew:
					continue
				case <-deadline:
					w.t.Fatalf("%s: Watch says %v, Level says %v", what, want, got)
				}
			}
			return
		}
		select {
		case <-grew:
		case <-w.done:
			w.t.Fatalf("%s: Watch ended: %v", what, w.err)
		case <-deadline:
			w.t.Fatalf("%s: not %v after %v; levels were %v", what, want, limit, levels)
		}
	}
}

// steady fails if anything changes within d.
func (w *watch) steady(d time.Duration, what string) {
	w.t.Helper()
	before, _ := w.seen()
	time.Sleep(d)
	if after, _ := w.seen(); len(after) != len(before) {
		w.t.Fatalf("%s: changed to %v", what, after[len(before):])
	}
}

func level(t *testing.T, s host.Sense) bool {
	t.Helper()
	active, err := s.Level()
	if err != nil {
		t.Fatal(err)
	}
	return active
}

func set(t *testing.T, l host.Line, active bool) {
	t.Helper()
	if err := l.Set(active); err != nil {
		t.Fatal(err)
	}
}

func pulse(t *testing.T, l host.Line, d time.Duration) {
	t.Helper()
	set(t, l, true)
	time.Sleep(d)
	set(t, l, false)
}

// A terminal collects what the console shows.
type terminal struct {
	t    *testing.T
	conn host.PortConn
	done chan struct{}

	mu   sync.Mutex
	text []byte
	grew chan struct{}
}

// open opens the console until the test ends.
func open(t *testing.T, p host.Port) *terminal {
	t.Helper()
	conn, err := p.Open(t.Context())
	if err != nil {
		t.Fatalf("opening the console: %v", err)
	}
	m := &terminal{t: t, conn: conn, done: make(chan struct{}), grew: make(chan struct{})}
	go func() {
		defer close(m.done)
		buf := make([]byte, 512)
		for {
			n, err := conn.Read(buf)
			m.mu.Lock()
			m.text = append(m.text, buf[:n]...)
			close(m.grew)
			m.grew = make(chan struct{})
			m.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(m.close)
	return m
}

// close closes the port; a Read under way must return then.
func (m *terminal) close() {
	if err := m.conn.Close(); err != nil {
		m.t.Errorf("closing the console: %v", err)
	}
	<-m.done
}

// expect waits for want and forgets all up to it.
func (m *terminal) expect(want string, limit time.Duration) {
	m.t.Helper()
	deadline := time.After(limit)
	for {
		m.mu.Lock()
		i := bytes.Index(m.text, []byte(want))
		if i >= 0 {
			m.text = m.text[i+len(want):]
		}
		text, grew := string(m.text), m.grew
		m.mu.Unlock()
		if i >= 0 {
			return
		}
		select {
		case <-grew:
		case <-deadline:
			m.t.Fatalf("the console did not show %q within %v, but %q", want, limit, text)
		}
	}
}

func (m *terminal) write(text string) {
	m.t.Helper()
	if n, err := m.conn.Write([]byte(text)); err != nil || n != len(text) {
		m.t.Fatalf("writing to the console: %d bytes, %v", n, err)
	}
}

// running starts the host and waits until its operating system is up.
func running(t *testing.T, r Rig) (led *watch, m *terminal) {
	t.Helper()
	led, m = watching(t, r.Parts.PowerLED), open(t, r.Parts.Console)
	pulse(t, r.Parts.PowerButton, press)
	led.until(true, r.Limit, "the power LED after a press")
	m.expect(r.Up, r.Limit)
	return led, m
}

// stays fails unless the LED has been on since it first came.
func stays(t *testing.T, led *watch) {
	t.Helper()
	if got, _ := led.seen(); len(got) != 2 || got[0] || !got[1] {
		t.Errorf("power LED: got %v, want off, then on", got)
	}
}
