package tty

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/host"
)

const limit = 10 * time.Second

// newPTY makes a pair of terminals: the host's end, and the path of ours.
func newPTY(t *testing.T) (far *os.File, path string) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() }) // it may be closed already
	raw, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = raw.Control(func(fd uintptr) {
		if err := unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			t.Error(err)
		}
		var err error
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return far, fmt.Sprintf("/dev/pts/%d", n)
}

func newPort(path string) *Port {
	return &Port{Find: func() (string, error) { return path, nil }, Baud: 115200, Log: slog.New(slog.DiscardHandler)}
}

func open(t *testing.T, p *Port) host.PortConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := p.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // it may be closed already
	return c
}

// everyByte holds each byte, those that a terminal acts on among text too.
func everyByte() []byte {
	b := []byte("a\x03b\x04c\x11d\x13e\x1af\x1cg\x7fh\x00i\xff\xffj\r\n\r\r\n")
	for i := range 256 {
		b = append(b, byte(i))
	}
	return b
}

func TestBytes(t *testing.T) {
	far, path := newPTY(t)
	c := open(t, newPort(path))
	for _, tt := range []struct {
		name     string
		from, to io.ReadWriter
	}{
		{"to the host", c, far},
		{"from the host", far, c},
	} {
		want := everyByte()
		if n, err := tt.from.Write(want); err != nil || n != len(want) {
			t.Fatalf("%s: wrote %d bytes: %v", tt.name, n, err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(tt.to, got); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, want)
		}
	}
	// Nothing is echoed: the next thing that arrives is what is sent next.
	if _, err := io.WriteString(c, "end"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 16)
	if n, err := far.Read(got); err != nil || string(got[:n]) != "end" {
		t.Errorf("got %q, %v", got[:n], err)
	}
}

func TestSpeed(t *testing.T) {
	for _, baud := range []int{9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1000000, 1500000, 3000000} {
		_, path := newPTY(t)
		p := newPort(path)
		p.Baud = baud
		c := open(t, p).(*conn)
		var got *unix.Termios
		if err := c.control(func(fd int) (err error) { got, err = unix.IoctlGetTermios(fd, unix.TCGETS2); return err }); err != nil {
			t.Fatal(err)
		}
		if got.Ispeed != uint32(baud) || got.Ospeed != uint32(baud) {
			t.Errorf("got %d and %d baud, want %d", got.Ispeed, got.Ospeed, baud)
		}
		if got.Cflag&(unix.CRTSCTS|unix.HUPCL|unix.PARENB|unix.CSTOPB) != 0 || got.Cflag&(unix.CS8|unix.CREAD|unix.CLOCAL) != unix.CS8|unix.CREAD|unix.CLOCAL {
			t.Errorf("control flags: got %#o", got.Cflag)
		}
	}
}

func TestClose(t *testing.T) {
	_, path := newPTY(t)
	c := open(t, newPort(path))
	var ended sync.WaitGroup
	ended.Go(func() {
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Read: got %d, %v, want %v", n, err, fs.ErrClosed)
		}
	})
	ended.Go(func() { // nobody reads at the other end, so this fills up
		for {
			if _, err := c.Write(make([]byte, 4096)); err != nil {
				if !errors.Is(err, fs.ErrClosed) {
					t.Errorf("Write: got %v, want %v", err, fs.ErrClosed)
				}
				return
			}
		}
	})
	time.Sleep(50 * time.Millisecond)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	ended.Wait()
	if _, err := c.Write([]byte("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Close: got %v, want %v", err, fs.ErrClosed)
	}
	if err := c.Break(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Break after Close: got %v, want %v", err, fs.ErrClosed)
	}
}

func TestHangup(t *testing.T) {
	link := filepath.Join(t.TempDir(), "tty")
	plug := func() *os.File {
		far, path := newPTY(t)
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		return far
	}
	p := newPort(link)
	for range 2 {
		far := plug()
		c := open(t, p)
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("Read after a hangup: got %d bytes", n)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("Write after a hangup: no error")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenWaits(t *testing.T) {
	link := filepath.Join(t.TempDir(), "tty")
	var log bytes.Buffer
	p := newPort(link)
	p.Log = slog.New(slog.NewTextHandler(&log, nil))
	got := make(chan error, 1)
	go func() {
		c, err := p.Open(t.Context())
		if err == nil {
			err = c.Close()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("opened what is not there: %v", err)
	case <-time.After(2 * lookEvery):
	}
	_, path := newPTY(t)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Fatal("not opened")
	}
	if n := strings.Count(log.String(), "waiting"); n != 1 {
		t.Errorf("told %d times why it waits, want once: %s", n, log.String())
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := p.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended ctx: got %v, %v", c, err)
	}
}

func TestExclusive(t *testing.T) {
	_, path := newPTY(t)
	p := newPort(path)
	first := open(t, p)
	// Root passes TIOCEXCL and meets the lock, others meet TIOCEXCL.
	if _, err := p.open(); !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second open: got %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, p)
}

func TestNoTerminal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newPort(path).open(); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("got %v, want %v", err, unix.ENOTTY)
	}
}

func TestBreak(t *testing.T) {
	_, path := newPTY(t)
	c := open(t, newPort(path))
	began := time.Now()
	if err := c.Break(t.Context()); err != nil { // a pty takes it for done
		t.Error(err)
	}
	if took := time.Since(began); took < breakTime {
		t.Errorf("held for %v, want %v", took, breakTime)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Break(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended ctx: got %v, want %v", err, context.Canceled)
	}
	for err, want := range map[error]bool{unix.ENOTTY: true, unix.EOPNOTSUPP: true, unix.EINVAL: true, unix.EIO: false, nil: false} {
		if got := unsupported(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}
