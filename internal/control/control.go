// Package control is the folder of a program that plays hardware, and in it the
// unix socket for the hands of who stands in front of that hardware.
package control

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
	"syscall"
	"time"
)

// Finger is how long a person presses a button.
const Finger = 200 * time.Millisecond

// Lock makes the folder if it is not there and keeps a second program out of it
// until the file that is returned is closed.
func Lock(path, program string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	// One that was killed a moment ago may still be on its way out.
	for end := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another %s runs on %s", program, path)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// A Server answers the socket "control". Each line is a command, answered with
// "ok", "ok ANSWER" or "error: ...".
type Server struct {
	listener net.Listener
	do       func(line string) (answer string, err error)
	log      *slog.Logger
	conns    sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// Listen makes the socket in the folder, which is locked: a socket that is there
// was left by a killed process and is replaced. do may be called several times
// at once, by each connection's goroutine.
func Listen(dir *os.File, do func(line string) (string, error), log *slog.Logger) (*Server, error) {
	// A unix socket's path has at most 107 bytes; a folder's may have more.
	path := fmt.Sprintf("/proc/self/fd/%d/control", dir.Fd())
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, do: do, log: log, open: make(map[net.Conn]struct{})}
	s.conns.Go(s.accept)
	return s, nil
}

// Close ends the socket and all connections, and waits for the commands under
// way.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		err = errors.Join(err, conn.Close())
	}
	s.open = nil
	s.mu.Unlock()
	s.conns.Wait()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.log.Error("control socket", "error", err)
			}
			return
		}
		s.mu.Lock()
		closed := s.open == nil
		if !closed {
			s.open[conn] = struct{}{}
			s.conns.Go(func() { s.serve(conn) })
		}
		s.mu.Unlock()
		if closed {
			if err := conn.Close(); err != nil {
				s.log.Debug("control connection", "error", err)
			}
			return
		}
	}
}

func (s *Server) serve(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		answer, err := s.do(lines.Text())
		switch {
		case err != nil:
			answer = "error: " + err.Error()
		case answer != "":
			answer = "ok " + answer
		default:
			answer = "ok"
		}
		if _, err := io.WriteString(conn, answer+"\n"); err != nil {
			break
		}
	}
	s.mu.Lock()
	delete(s.open, conn)
	s.mu.Unlock()
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Debug("control connection", "error", err)
	}
}
