package ipc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SendLimit is how long a message may wait for room in the socket. A peer that
// does not read for so long has its connection closed: nobody waits for it for
// ever.
const SendLimit = time.Second

// ErrClosed says that the connection has ended.
var ErrClosed = errors.New("the connection has ended")

// A RemoteError is the other end's answer that a request failed.
type RemoteError struct {
	Text string
	// Code is the kind of error, where the Handler's had one: a word that both
	// ends know.
	Code string
}

func (e *RemoteError) Error() string { return e.Text }

// A Handler takes what the other end sends, one message after another. What it
// returns is the answer, where one is wanted; the file is its to close and may
// be nil. ctx is Run's. An error that has a method Code() string tells the other
// end its kind.
//
// What takes time is not for a Handler, as no other message is taken meanwhile: it
// returns a Later for that.
type Handler func(ctx context.Context, m Message, file *os.File) (answer any, err error)

// A Later is in the place of an answer that takes time: Run calls it in a goroutine
// of its own, sends what it returns, and waits for it before it returns itself. ctx
// ends with the connection. How many there may be at a time is the Handler's to see
// to.
type Later func(ctx context.Context) (answer any, err error)

// A Conn is one end of a connection. Its methods may be called from several
// goroutines; answers come only while Run runs.
type Conn struct {
	sock *net.UnixConn

	writing sync.Mutex

	mu      sync.Mutex
	last    uint64                  // ID of the newest request
	calls   map[uint64]chan Message // the requests that wait for an answer
	ended   chan struct{}           // closed by Close
	isEnded bool
}

// Pair makes the two ends of a connection, for New here or in a child that gets
// one of them. Both are closed at exec where they are not handed over.
func Pair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "ipc"), os.NewFile(uintptr(fds[1]), "ipc"), nil
}

// New makes a connection of one end of a Pair, which it takes over: it is
// closed even if New fails.
func New(f *os.File) (*Conn, error) {
	c, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("ipc: %w", err)
	}
	sock, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("ipc: %T is not a local socket", c), c.Close())
	}
	return &Conn{sock: sock, calls: make(map[uint64]chan Message), ended: make(chan struct{})}, nil
}

// Close ends the connection; Run and calls that wait return. Only the first
// Close does something.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isEnded {
		return nil
	}
	c.isEnded = true
	close(c.ended)
	return c.sock.Close()
}

// Run receives until the connection ends, ctx ends, or something comes that is
// no message, and closes the connection. It returns nil when the other end has
// closed it.
func (c *Conn) Run(ctx context.Context, handle Handler) error {
	stop := context.AfterFunc(ctx, func() { c.Close() }) // the error is of no use: the socket is gone either way
	defer stop()
	var later sync.WaitGroup
	defer later.Wait()
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	err := c.receive(ctx, handle, func(m Message, work Later) {
		later.Go(func() {
			answer, err := work(working)
			if err != nil && working.Err() != nil {
				return // no refusal: it is this end that stops
			}
			// Where it cannot be sent, the connection has ended, as receive sees.
			_ = c.answer(m, answer, err)
		})
	})
	if ctx.Err() != nil {
		err = ctx.Err() // why the socket was closed
	}
	return errors.Join(err, c.Close())
}

func (c *Conn) receive(ctx context.Context, handle Handler, later func(Message, Later)) error {
	data := make([]byte, MaxMessage+1)
	control := make([]byte, unix.CmsgSpace(4))
	for {
		n, nc, flags, _, err := c.sock.ReadMsgUnix(data, control)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET):
			return nil
		case err != nil:
			return fmt.Errorf("ipc: %w", err)
		}
		file, err := fileOf(control[:nc])
		if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			err = fmt.Errorf("%w: it is too long", ErrMessage)
		}
		var m Message
		if err == nil {
			m, err = Decode(data[:n])
		}
		if err != nil {
			return errors.Join(err, closeFile(file))
		}
		if m.Type == typeAnswer {
			c.answered(m)
			if err := closeFile(file); err != nil {
				return err
			}
			continue
		}
		m.Body = m.Body.Clone() // data is used again
		answer, err := handle(ctx, m, file)
		if err != nil && ctx.Err() != nil {
			return ctx.Err() // no refusal: it is this end that stops
		}
		if m.ID == 0 {
			if err != nil {
				return fmt.Errorf("%s: %w", m.Type, err)
			}
			continue
		}
		if work, ok := answer.(Later); ok && err == nil {
			later(m, work)
			continue
		}
		if err := c.answer(m, answer, err); err != nil {
			return err
		}
	}
}

// answer sends the answer to a request. One that is no message, as it is too long,
// is the other end's to hear of.
func (c *Conn) answer(m Message, answer any, err error) error {
	if err == nil {
		err = c.send(Message{Type: typeAnswer, ID: m.ID}, answer, nil)
		if !errors.Is(err, ErrMessage) {
			return err
		}
	}
	reply := Message{Type: typeAnswer, ID: m.ID, Error: cmp.Or(err.Error(), "failed")}
	if len(reply.Error) > maxError {
		reply.Error = reply.Error[:maxError] + "…"
	}
	reply.Error = strings.ToValidUTF8(reply.Error, "?") // JSON has nothing else
	if coded, ok := errors.AsType[interface {
		error
		Code() string
	}](err); ok {
		reply.Code = coded.Code()
	}
	return c.send(reply, nil, nil)
}

// maxError bounds the text of an error, in bytes, so that it fits into a message.
const maxError = 4096

// answered gives an answer to the call that waits for it; who waited may have
// given up.
func (c *Conn) answered(m Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to, ok := c.calls[m.ID]; ok {
		delete(c.calls, m.ID)
		m.Body = m.Body.Clone() // the buffer is used again
		to <- m                 // has room for one
	}
}

// Tell sends a message that wants no answer; body and file may be nil. The
// other end gets a file of its own, the caller still closes this one.
func (c *Conn) Tell(kind string, body any, file *os.File) error {
	return c.send(Message{Type: kind}, body, file)
}

// Call sends a request and waits for its answer, which it reads into *answer
// unless that is nil. It fails with a *RemoteError where the other end refused,
// and with ErrClosed where the connection ended.
func (c *Conn) Call(ctx context.Context, kind string, body, answer any) error {
	return c.CallWith(ctx, kind, body, nil, answer)
}

// CallWith is Call with a file, which it takes over: it is closed here as soon as
// the other end has it.
func (c *Conn) CallWith(ctx context.Context, kind string, body any, file *os.File, answer any) error {
	wait, err := c.Ask(kind, body, file)
	if err != nil {
		return err
	}
	return wait(ctx, answer)
}

// Ask is the first half of CallWith: when it returns the request is on its way, before
// all that is sent later. wait, to be called once if there is no error, is the rest.
func (c *Conn) Ask(kind string, body any, file *os.File) (wait func(ctx context.Context, answer any) error, err error) {
	got := make(chan Message, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.calls[id] = got
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		delete(c.calls, id)
		c.mu.Unlock()
	}
	if err := errors.Join(c.send(Message{Type: kind, ID: id}, body, file), closeFile(file)); err != nil {
		forget()
		return nil, err
	}
	return func(ctx context.Context, answer any) error {
		defer forget()
		select {
		case m := <-got:
			switch {
			case m.Error != "":
				return &RemoteError{m.Error, m.Code}
			case answer == nil:
				return nil
			}
			return m.Into(answer)
		case <-c.ended:
			return fmt.Errorf("%s: %w", kind, ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", kind, ctx.Err())
		}
	}, nil
}

// send closes the connection when it fails, but for ErrMessage: a message that is
// missing in the middle is worse than none any more.
func (c *Conn) send(m Message, body any, file *os.File) error {
	data, err := encode(m, body)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Type, err)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if file == nil {
		err = c.write(data, nil)
	} else {
		// File.Fd would make the file one that blocks a thread, at both ends.
		var raw syscall.RawConn
		if raw, err = file.SyscallConn(); err == nil {
			var werr error
			err = raw.Control(func(fd uintptr) { werr = c.write(data, unix.UnixRights(int(fd))) })
			err = cmp.Or(err, werr)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("%s: the other end does not read: %w", m.Type, err)
	case errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		err = fmt.Errorf("%s: %w", m.Type, ErrClosed)
	}
	return errors.Join(err, c.Close())
}

// write sends a packet. c.writing is held.
func (c *Conn) write(data, control []byte) error {
	if err := c.sock.SetWriteDeadline(time.Now().Add(SendLimit)); err != nil {
		return err
	}
	_, _, err := c.sock.WriteMsgUnix(data, control, nil)
	return err
}

// fileOf takes the one file out of the control data that came with a message.
func fileOf(control []byte) (*os.File, error) {
	if len(control) == 0 {
		return nil, nil
	}
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	var file *os.File
	for _, one := range list {
		fds, err := unix.ParseUnixRights(&one)
		if err != nil {
			return file, fmt.Errorf("%w: %w", ErrMessage, err)
		}
		for _, fd := range fds {
			if file != nil {
				return file, errors.Join(fmt.Errorf("%w: it has two files", ErrMessage), unix.Close(fd))
			}
			// So that Close interrupts who reads or writes a pipe.
			if err := unix.SetNonblock(fd, true); err != nil {
				return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
			}
			file = os.NewFile(uintptr(fd), "ipc")
		}
	}
	return file, nil
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}
