package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// A control is a unix socket for the hands of who stands in front of the
// machine, one word a line, with the words of emulate's. Each line is answered
// with "ok" or "error: ...".
type control struct {
	listener net.Listener
	machine  machine
	log      *slog.Logger
	conns    sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// newControl listens at "control" in the folder, which is locked: a socket that
// is there was left by a killed process and is replaced.
func newControl(dir *os.File, m machine, log *slog.Logger) (*control, error) {
	// A unix socket's path has at most 107 bytes; a folder's may have more.
	path := fmt.Sprintf("/proc/self/fd/%d/control", dir.Fd())
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	c := &control{listener: l, machine: m, log: log, open: make(map[net.Conn]struct{})}
	c.conns.Go(c.accept)
	return c, nil
}

// Close ends the socket and all connections.
func (c *control) Close() error {
	err := c.listener.Close()
	c.mu.Lock()
	for conn := range c.open {
		err = errors.Join(err, conn.Close())
	}
	c.open = nil
	c.mu.Unlock()
	c.conns.Wait()
	return err
}

func (c *control) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				c.log.Error("control socket", "error", err)
			}
			return
		}
		c.mu.Lock()
		closed := c.open == nil
		if !closed {
			c.open[conn] = struct{}{}
			c.conns.Go(func() { c.serve(conn) })
		}
		c.mu.Unlock()
		if closed {
			if err := conn.Close(); err != nil {
				c.log.Debug("control connection", "error", err)
			}
			return
		}
	}
}

func (c *control) serve(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		answer := "ok"
		if err := c.do(lines.Text()); err != nil {
			answer = "error: " + err.Error()
		}
		if _, err := io.WriteString(conn, answer+"\n"); err != nil {
			break
		}
	}
	c.mu.Lock()
	delete(c.open, conn)
	c.mu.Unlock()
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.log.Debug("control connection", "error", err)
	}
}

// finger is how long a person presses a button.
const finger = 200 * time.Millisecond

func (c *control) do(line string) error {
	switch line {
	case "host-ac-off":
		c.machine.SetStandby(false)
	case "host-ac-on":
		c.machine.SetStandby(true)
	case "press-power":
		c.machine.PressPowerButton(finger)
	case "press-reset":
		c.machine.PressReset(finger)
	default:
		return fmt.Errorf("%q: want host-ac-off, host-ac-on, press-power or press-reset", line)
	}
	return nil
}
