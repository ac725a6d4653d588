package host

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ConsoleReplay is how many bytes of the console's past who joins is shown.
const ConsoleReplay = 256 << 10

// Console shares the host's serial port among many: each watcher has a place
// of its own in one ring, so memory stays the same however many watch, and a
// slow one loses its oldest bytes (and is told) instead of slowing the rest.
type Console struct {
	port Port
	log  *slog.Logger

	mu   sync.Mutex
	ring []byte
	end  int64 // count of all bytes ever read from the port
	grew chan struct{}
	conn PortConn // nil while the port is not open

	writing sync.Mutex // one write at a time, whole
}

// errNotOpen says that the console cannot take input now.
var errNotOpen = errors.New("the serial port is not open")

func newConsole(port Port, log *slog.Logger) *Console {
	return &Console{port: port, log: log, ring: make([]byte, ConsoleReplay), grew: make(chan struct{})}
}

// run opens the port, again after each failure, and feeds the ring until ctx
// ends. Only ctx's end makes it return.
func (c *Console) run(ctx context.Context) {
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		conn, err := c.port.Open(ctx)
		if err == nil {
			began := time.Now()
			err = c.feed(ctx, conn)
			if time.Since(began) > time.Second { // a port that fails at once is not hurried
				wait = 50 * time.Millisecond
			}
		}
		if ctx.Err() != nil {
			return
		}
		c.log.Debug("serial port", "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, 2*time.Second)
	}
}

func (c *Console) feed(ctx context.Context, conn PortConn) error {
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close() // the read below returns the error that matters
		close(closed)
	})
	defer func() {
		c.mu.Lock()
		c.conn = nil
		c.mu.Unlock()
		if stop() {
			_ = conn.Close() // the port failed already; its error is what feed returns
		} else {
			<-closed
		}
	}()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			c.add(buf[:n])
		}
		if err != nil {
			return err
		}
	}
}

func (c *Console) add(p []byte) {
	c.mu.Lock()
	for len(p) > 0 {
		n := copy(c.ring[c.end%int64(len(c.ring)):], p)
		c.end += int64(n)
		p = p[n:]
	}
	close(c.grew)
	c.grew = make(chan struct{})
	c.mu.Unlock()
}

// Write sends p to the host. Several writers take turns, each call whole. It
// fails while the port is not open: nothing is kept for later, since what a
// person typed at a dead machine must not run on the next one.
func (c *Console) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	conn := c.open()
	if conn == nil {
		return 0, errNotOpen
	}
	return conn.Write(p)
}

// Break sends a break.
func (c *Console) Break(ctx context.Context) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	conn := c.open()
	if conn == nil {
		return errNotOpen
	}
	return conn.Break(ctx)
}

func (c *Console) open() PortConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// A Watcher reads the console from a place of its own. It needs no closing
// and is for one goroutine.
type Watcher struct {
	c   *Console
	pos int64
}

// Watch joins the console, replay bytes (at most ConsoleReplay) back from now.
func (c *Console) Watch(replay int) *Watcher {
	c.mu.Lock()
	defer c.mu.Unlock()
	back := min(int64(max(replay, 0)), int64(len(c.ring)), c.end)
	return &Watcher{c: c, pos: c.end - back}
}

// Next waits until there are bytes, copies as many as fit into p and says how
// many older ones were lost because the watcher was too slow. It returns
// ctx's error when ctx ends first.
func (w *Watcher) Next(ctx context.Context, p []byte) (n int, lost int64, err error) {
	c := w.c
	for {
		c.mu.Lock()
		if oldest := c.end - int64(len(c.ring)); w.pos < oldest {
			lost += oldest - w.pos
			w.pos = oldest
		}
		if w.pos < c.end {
			for n < len(p) && w.pos < c.end {
				at := w.pos % int64(len(c.ring))
				k := copy(p[n:], c.ring[at:min(int64(len(c.ring)), at+c.end-w.pos)])
				n += k
				w.pos += int64(k)
			}
			c.mu.Unlock()
			return n, lost, nil
		}
		grew := c.grew
		c.mu.Unlock()
		select {
		case <-grew:
		case <-ctx.Done():
			return 0, lost, ctx.Err()
		}
	}
}
