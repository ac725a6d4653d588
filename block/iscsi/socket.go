package iscsi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVectors is how many pieces of memory go to the kernel in one call.
const maxVectors = 64

// keepAlive finds initiators that have vanished, 40 s after their last sign of
// life: some never answer a NOP-In, so that only TCP can tell.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 10 * time.Second, Count: 3}
}

// userTimeout is how long sent data may stay unacknowledged by the peer's kernel.
const userTimeout = 40 * time.Second

// A socket is a connection in the full feature phase. Reading blocks in the
// kernel, not in the runtime's poller: one wake-up less on the way from a request
// to its answer. Sending never blocks.
type socket struct {
	fd int
	// What one call of the kernel gets. out is the sender's, in the reader's.
	out [maxVectors]unix.Iovec
	in  [2]unix.Iovec
	msg unix.Msghdr
}

// takeSocket makes a socket of a connection, which is closed in any case.
func takeSocket(c net.Conn) (*socket, error) {
	defer func() { _ = c.Close() }() // the socket has a descriptor of its own
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("iSCSI over %T", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{fd: -1}
	var took error
	if err := raw.Control(func(fd uintptr) { s.fd, took = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if took != nil {
		return nil, took
	}
	if err := unix.SetNonblock(s.fd, false); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if _, ok := c.(*net.TCPConn); ok {
		if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond)); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// read waits for bytes and puts them into a, and what is more into b.
func (s *socket) read(a, b []byte) (int, error) {
	n := 0
	for _, p := range [][]byte{a, b} {
		if len(p) > 0 {
			s.in[n].Base = &p[0]
			s.in[n].SetLen(len(p))
			n++
		}
	}
	defer clear(s.in[:n]) // it would hold on to the buffers of a connection that rests
	for {
		got, _, errno := unix.Syscall(unix.SYS_READV, uintptr(s.fd), uintptr(unsafe.Pointer(&s.in)), uintptr(n))
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, errno
		case got == 0:
			return 0, io.EOF
		default:
			return int(got), nil
		}
	}
}

// send sends the first n of out, or a part; without room it is unix.EAGAIN. out is
// empty then.
func (s *socket) send(n int) (int, error) {
	defer clear(s.out[:n])
	s.msg.Iov = &s.out[0]
	s.msg.SetIovlen(n)
	for {
		sent, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(sent), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// wait waits for bytes to read, if in is set, or for room to send.
func (s *socket) wait(in bool) (readable, writable bool, err error) {
	fds := [1]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	if in {
		fds[0].Events |= unix.POLLIN
	}
	for {
		switch _, err := unix.Poll(fds[:], -1); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, false, err
		default:
			const over = unix.POLLERR | unix.POLLHUP // reading or sending tells more
			return in && fds[0].Revents&(unix.POLLIN|over) != 0, fds[0].Revents&(unix.POLLOUT|over) != 0, nil
		}
	}
}

// shutdown ends the connection and every call that waits for it.
func (s *socket) shutdown() {
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR) // it fails where the peer was first
}

// close gives up the descriptor; no other call may be under way.
func (s *socket) close() error { return unix.Close(s.fd) }
