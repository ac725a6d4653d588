// Package tty is the serial port that leads to the host, on a terminal of
// Linux: the board's own UART or a USB adapter.
package tty

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/host"
)

const (
	// lookEvery is how often a port that cannot be used is looked for.
	lookEvery = 500 * time.Millisecond
	// breakTime is how long Break holds the line: tcsendbreak(3) promises at
	// least 250 ms.
	breakTime = 300 * time.Millisecond
)

// ErrConsole says that the kernel writes its messages to the port, so that it
// cannot be the host's.
var ErrConsole = errors.New("the port is the kernel's console")

// A Port is a terminal that may come and go. It is a host.Port.
type Port struct {
	// Find returns the path of the terminal. It is asked at each try to open,
	// since a USB adapter that comes back may have another name.
	Find func() (string, error)
	// Baud is the speed in bits a second.
	Baud int
	Log  *slog.Logger
}

// Open implements host.Port: it waits until the terminal is there, free and
// able, and logs once why it waits.
func (p *Port) Open(ctx context.Context) (host.PortConn, error) {
	told := ""
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := p.open()
		if err == nil {
			return c, nil
		}
		if why := err.Error(); why != told {
			p.Log.Warn("waiting for the serial port", "error", why)
			told = why
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func (p *Port) open() (*conn, error) {
	path, err := p.Find()
	if err != nil {
		return nil, err
	}
	// Non-blocking: opening does not wait for a carrier, and Close can wake a
	// Read. It must not become the process's controlling terminal either.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	c := &conn{f}
	if err := c.control(func(fd int) error { return claim(fd, p.Baud) }); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return c, nil
}

// claim makes the terminal ours alone, and a plain line of bytes.
func claim(fd, baud int) error {
	// The lock is what programs agree on; TIOCEXCL holds off those that do not
	// lock, root excepted.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("the port is in use: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TIOCEXCL, 0); err != nil {
		return fmt.Errorf("claiming the port: %w", err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return fmt.Errorf("reading the mode: %w", err)
	}
	raw(t, baud)
	if err := unix.IoctlSetTermios(fd, unix.TCSETS2, t); err != nil {
		return fmt.Errorf("setting the mode: %w", err)
	}
	// A driver takes the nearest speed that its clock gives, or none.
	t, err = unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return fmt.Errorf("reading the mode: %w", err)
	}
	if off := int(t.Ospeed) - baud; max(off, -off) > baud/50 {
		return fmt.Errorf("%w: %d baud: the port does %d", errors.ErrUnsupported, baud, t.Ospeed)
	}
	return nil
}

// raw sets the mode: eight bits, no parity, one stop bit, no flow control, no
// byte changed or acted on.
func raw(t *unix.Termios, baud int) {
	// A host without power holds its line low: that break is no byte.
	t.Iflag = unix.IGNBRK
	t.Oflag = 0
	t.Lflag = 0
	// Without HUPCL the host sees nothing when the port is closed.
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.BOTHER
	t.Ispeed, t.Ospeed = uint32(baud), uint32(baud)
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
}

// A conn is an open terminal.
type conn struct{ *os.File }

// Close may be called again, as those who wait for an end do.
func (c *conn) Close() error {
	if err := c.File.Close(); !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

// Break implements host.PortConn.
func (c *conn) Break(ctx context.Context) error {
	err := c.ioctl(unix.TIOCSBRK)
	if unsupported(err) {
		return fmt.Errorf("%s: sending a break: %w", c.Name(), errors.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("%s: beginning a break: %w", c.Name(), err)
	}
	var ended error
	select {
	case <-time.After(breakTime):
	case <-ctx.Done():
		ended = ctx.Err()
	}
	// Closing the file meanwhile ends the break too.
	if err := c.ioctl(unix.TIOCCBRK); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("%s: ending a break: %w", c.Name(), err)
	}
	return ended
}

// unsupported tells a driver that cannot send a break: USB adapters answer
// ENOTTY, those of the CDC class EOPNOTSUPP.
func unsupported(err error) bool {
	return errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// ioctl tries again when a signal comes: the kernel waits until all is sent
// before it begins a break, and the Go runtime sends itself signals.
func (c *conn) ioctl(number uint) error {
	return c.control(func(fd int) error {
		for {
			if err := unix.IoctlSetInt(fd, number, 0); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
}

// control runs f on the descriptor; beside Close it answers fs.ErrClosed.
func (c *conn) control(f func(fd int) error) error {
	rawConn, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := rawConn.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return fs.ErrClosed // which is all that Control itself reports
	}
	return failed
}
