package sim

import (
	"context"
	"io"
	"sync"

	"github.com/nitrino/nitrino/host"
)

// serialBuffer is how much output waits for a reader that is slow. The oldest
// is lost then, as in a UART that overruns.
const serialBuffer = 64 << 10

// console is the machine's serial port (a host.Port). It can be opened while
// the machine is off, as a real one, and several times.
type console struct {
	// input takes what was typed; brk sends a break.
	input func(p []byte) error
	brk   func(ctx context.Context) error

	mu    sync.Mutex
	conns map[*consoleConn]struct{}
}

func newConsole(input func([]byte) error, brk func(context.Context) error) *console {
	return &console{input: input, brk: brk, conns: make(map[*consoleConn]struct{})}
}

// Open implements host.Port.
func (c *console) Open(ctx context.Context) (host.PortConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn := &consoleConn{c: c, grew: make(chan struct{}, 1), closed: make(chan struct{})}
	c.mu.Lock()
	c.conns[conn] = struct{}{}
	c.mu.Unlock()
	return conn, nil
}

// output gives what the machine sent to everyone who has the port open.
func (c *console) output(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.add(p)
	}
}

type consoleConn struct {
	c      *console
	grew   chan struct{} // holds a token while buf may have bytes
	closed chan struct{}
	once   sync.Once

	mu  sync.Mutex
	buf []byte
}

func (n *consoleConn) add(p []byte) {
	n.mu.Lock()
	n.buf = append(n.buf, p...)
	n.buf = n.buf[max(0, len(n.buf)-serialBuffer):]
	n.mu.Unlock()
	select {
	case n.grew <- struct{}{}:
	default:
	}
}

func (n *consoleConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		select {
		case <-n.closed:
			return 0, io.ErrClosedPipe
		default:
		}
		n.mu.Lock()
		k := copy(p, n.buf)
		n.buf = n.buf[k:]
		n.mu.Unlock()
		if k > 0 {
			return k, nil
		}
		select {
		case <-n.grew:
		case <-n.closed:
		}
	}
}

// Write sends p to the machine. A machine that is off hears nothing, and the
// wire does not tell.
func (n *consoleConn) Write(p []byte) (int, error) {
	select {
	case <-n.closed:
		return 0, io.ErrClosedPipe
	default:
	}
	if err := n.c.input(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Break implements host.PortConn.
func (n *consoleConn) Break(ctx context.Context) error {
	select {
	case <-n.closed:
		return io.ErrClosedPipe
	default:
	}
	return n.c.brk(ctx)
}

func (n *consoleConn) Close() error {
	n.once.Do(func() {
		close(n.closed)
		n.c.mu.Lock()
		delete(n.c.conns, n)
		n.c.mu.Unlock()
	})
	return nil
}
