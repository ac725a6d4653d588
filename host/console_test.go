package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakePort is a serial port whose far end is a test. cut breaks it.
type fakePort struct {
	mu    sync.Mutex
	far   farEnd
	opens int
	sent  bytes.Buffer
}

// farEnd is one connection of a fakePort.
type farEnd struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func (p *fakePort) Open(ctx context.Context) (PortConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opens++
	r, w := io.Pipe()
	p.far = farEnd{r, w}
	return &fakeConn{p, r}, nil
}

func (p *fakePort) say(b []byte) { p.mu.Lock(); w := p.far.w; p.mu.Unlock(); _, _ = w.Write(b) } // a cut port loses it
func (p *fakePort) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.far.w.CloseWithError(io.ErrUnexpectedEOF)
}

type fakeConn struct {
	p *fakePort
	r *io.PipeReader
}

func (c *fakeConn) Read(b []byte) (int, error) { return c.r.Read(b) }
func (c *fakeConn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.p.sent.Write(b)
}
func (c *fakeConn) Close() error                    { return c.r.Close() }
func (c *fakeConn) Break(ctx context.Context) error { return errors.ErrUnsupported }

func withConsole(t *testing.T, f func(t *testing.T, c *Console, port *fakePort)) {
	synctest.Test(t, func(t *testing.T) {
		port := &fakePort{}
		c := newConsole(port, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.run(ctx); close(done) }()
		synctest.Wait()
		f(t, c, port)
		cancel()
		<-done
	})
}

// read takes what a watcher has now.
func read(t *testing.T, w *Watcher) (got []byte, lost int64) {
	t.Helper()
	buf := make([]byte, 1000) // not a divisor of the ring, so that wraps happen
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		n, l, err := w.Next(ctx, buf)
		cancel()
		lost += l
		if err != nil {
			return got, lost
		}
		got = append(got, buf[:n]...)
	}
}

func pattern(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from + i) % 251)
	}
	return b
}

func TestConsoleReplay(t *testing.T) {
	withConsole(t, func(t *testing.T, c *Console, port *fakePort) {
		total := ConsoleReplay + 12345
		for at := 0; at < total; at += 777 {
			port.say(pattern(at, min(777, total-at)))
		}
		synctest.Wait()
		for _, tt := range []struct{ replay, want int }{{0, 0}, {100, 100}, {ConsoleReplay, ConsoleReplay}, {1 << 30, ConsoleReplay}, {-1, 0}} {
			got, lost := read(t, c.Watch(tt.replay))
			if want := pattern(total-tt.want, tt.want); !bytes.Equal(got, want) || lost != 0 {
				t.Errorf("replay %d: got %d bytes and %d lost, want the last %d bytes", tt.replay, len(got), lost, tt.want)
			}
		}
	})
}

// A watcher that sleeps loses its oldest bytes, is told how many, and goes on
// with what follows; the others lose nothing.
func TestConsoleSlowWatcher(t *testing.T) {
	withConsole(t, func(t *testing.T, c *Console, port *fakePort) {
		slow, fast := c.Watch(0), c.Watch(0)
		total := 3*ConsoleReplay + 1
		var got []byte
		for at := 0; at < total; at += 4096 {
			port.say(pattern(at, min(4096, total-at)))
			b, lost := read(t, fast)
			got = append(got, b...)
			if lost != 0 {
				t.Fatalf("the fast watcher lost %d bytes", lost)
			}
		}
		if !bytes.Equal(got, pattern(0, total)) {
			t.Errorf("the fast watcher's %d bytes differ from what was said", len(got))
		}
		got, lost := read(t, slow)
		if want := int64(total - ConsoleReplay); lost != want {
			t.Errorf("lost: got %d, want %d", lost, want)
		}
		if !bytes.Equal(got, pattern(total-ConsoleReplay, ConsoleReplay)) {
			t.Error("the slow watcher's bytes are not the last ones said")
		}
	})
}

func TestConsoleReopens(t *testing.T) {
	withConsole(t, func(t *testing.T, c *Console, port *fakePort) {
		w := c.Watch(0)
		port.say([]byte("one "))
		if n, err := c.Write([]byte("a")); n != 1 || err != nil {
			t.Errorf("Write: got %d, %v", n, err)
		}
		port.cut()
		synctest.Wait()
		if _, err := c.Write([]byte("lost")); !errors.Is(err, errNotOpen) {
			t.Errorf("Write to a dead port: got %v, want %v", err, errNotOpen)
		}
		if err := c.Break(t.Context()); !errors.Is(err, errNotOpen) {
			t.Errorf("Break on a dead port: got %v, want %v", err, errNotOpen)
		}
		time.Sleep(time.Second)
		port.say([]byte("two"))
		if got, _ := read(t, w); string(got) != "one two" {
			t.Errorf("got %q, want %q", got, "one two")
		}
		if err := c.Break(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Break: got %v, want %v", err, errors.ErrUnsupported)
		}
		if got := port.sent.String(); got != "a" {
			t.Errorf("sent: got %q, want %q", got, "a")
		}
	})
}

// Writes of several typists do not mix within a call.
func TestConsoleWritesWhole(t *testing.T) {
	withConsole(t, func(t *testing.T, c *Console, port *fakePort) {
		var typists sync.WaitGroup
		for _, word := range []string{"aaaa", "bbbb", "cccc"} {
			typists.Go(func() {
				for range 100 {
					if _, err := c.Write([]byte(word)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		typists.Wait()
		got := port.sent.Bytes()
		if len(got) != 3*4*100 {
			t.Fatalf("sent: got %d bytes, want 1200", len(got))
		}
		for i := 0; i < len(got); i += 4 {
			if !bytes.Equal(got[i:i+4], bytes.Repeat(got[i:i+1], 4)) {
				t.Fatalf("mixed at %d: %q", i, got[i:i+4])
			}
		}
	})
}

// A port that opens and fails at once is not hurried.
func TestConsoleDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port := &deadPort{}
		c := newConsole(port, discard)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c.run(ctx)
		if port.opens > 40 {
			t.Errorf("opened %d times in a minute", port.opens)
		}
	})
}

type deadPort struct{ opens int }

func (p *deadPort) Open(context.Context) (PortConn, error) { p.opens++; return p, nil }
func (p *deadPort) Read([]byte) (int, error)               { return 0, io.EOF }
func (p *deadPort) Write([]byte) (int, error)              { return 0, io.EOF }
func (p *deadPort) Break(context.Context) error            { return io.EOF }
func (p *deadPort) Close() error                           { return nil }

// When run has returned the port is closed, also one that takes its time.
func TestConsoleCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		port := &slowPort{ended: make(chan struct{})}
		c := newConsole(port, discard)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c.run(ctx)
		if port.closed != 1 {
			t.Errorf("closed %d times when run returned, want once", port.closed)
		}
	})
}

type slowPort struct {
	deadPort
	ended  chan struct{}
	closed int
}

func (p *slowPort) Open(context.Context) (PortConn, error) { return p, nil }
func (p *slowPort) Read([]byte) (int, error)               { <-p.ended; return 0, io.EOF }
func (p *slowPort) Close() error                           { close(p.ended); time.Sleep(time.Second); p.closed++; return nil }

// Many watchers, each at its own pace, see the same bytes in order.
func TestConsoleManyWatchers(t *testing.T) {
	withConsole(t, func(t *testing.T, c *Console, port *fakePort) {
		const total = 3*ConsoleReplay + 777
		ctx, cancel := context.WithCancel(t.Context())
		var watchers sync.WaitGroup
		for i := range 50 {
			w := c.Watch(0)
			watchers.Go(func() {
				at, buf := int64(0), make([]byte, 100+97*i)
				for at < total {
					n, lost, err := w.Next(ctx, buf)
					at += lost
					if err != nil || !bytes.Equal(buf[:n], pattern(int(at%251), n)) {
						t.Errorf("watcher %d at %d: got %d other bytes, error %v", i, at, n, err)
						return
					}
					at += int64(n)
					if i%5 == 0 {
						time.Sleep(time.Duration(i) * time.Millisecond)
					}
				}
			})
		}
		for at := 0; at < total; at += 5000 {
			port.say(pattern(at, min(5000, total-at)))
			time.Sleep(time.Millisecond)
		}
		watchers.Wait()
		cancel()
	})
}

// A watcher that is behind by the whole ring loses nothing, by one more one.
func TestConsoleRingEdge(t *testing.T) {
	for _, late := range []int{0, 1} {
		c := newConsole(nil, discard)
		w := c.Watch(0)
		c.add(pattern(0, ConsoleReplay+late))
		got, lost := read(t, w)
		if lost != int64(late) || !bytes.Equal(got, pattern(late, ConsoleReplay)) {
			t.Errorf("%d too late: got %d bytes and %d lost", late, len(got), lost)
		}
	}
}
