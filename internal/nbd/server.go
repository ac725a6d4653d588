// Package nbd serves one block device to clients of the NBD protocol: fixed
// newstyle handshake, simple replies, no TLS. It is meant for sockets that only
// the right client reaches.
package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// MaxRequest is the most that one request may read or write, in bytes.
	MaxRequest = 32 << 20
	// maxFlight bounds the data of the requests of one connection that are
	// under way, maxRequests their number. A client that sends more waits.
	maxFlight   = MaxRequest
	maxRequests = 64
	// maxConns bounds the connections; QEMU makes one, the kernel up to one a CPU.
	maxConns = 16
	// handshakeLimit is how long a client may take to choose the export.
	handshakeLimit = 10 * time.Second
	// pooled is the size of the buffers that are kept for the next request.
	pooled = 256<<10 + replyLen
)

// A Device is what is served. Its methods are called from several goroutines
// and within Size.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Size is in bytes, and never changes.
	Size() int64
	// Flush returns when every write that has returned is kept.
	Flush() error
}

// A Trimmer is a Device that can forget a range, which then may read as
// anything.
type Trimmer interface {
	Trim(offset, length int64) error
}

// A Zeroer is a Device that can clear a range faster than by writing. It keeps
// the range allocated if hole is false.
type Zeroer interface {
	Zero(offset, length int64, hole bool) error
}

// An Export says what a Server serves.
type Export struct {
	// Name is what clients ask for; the empty name works too.
	Name string
	// Description is for people.
	Description string
	Device      Device
	// ReadOnly: writes are refused.
	ReadOnly bool
	// BlockSize is what offsets and lengths must be multiples of, a power of two
	// up to 4096, in bytes; 0: anything goes.
	BlockSize int
}

// A Server serves one Export.
type Server struct {
	export  Export
	log     *slog.Logger
	buffers sync.Pool // of *[]byte with pooled bytes
}

// New makes a server. It fails for an export that cannot be.
func New(e Export, log *slog.Logger) (*Server, error) {
	switch {
	case e.BlockSize < 0 || e.BlockSize > 4096 || e.BlockSize&(e.BlockSize-1) != 0:
		return nil, fmt.Errorf("NBD: block size %d", e.BlockSize)
	case len(e.Name) > maxName || len(e.Description) > maxName:
		return nil, fmt.Errorf("NBD: a name of more than %d bytes", maxName)
	case e.Device.Size() < 0:
		return nil, fmt.Errorf("NBD: size %d", e.Device.Size())
	}
	e.BlockSize = max(e.BlockSize, 1)
	s := &Server{export: e, log: log}
	s.buffers.New = func() any { return new(make([]byte, pooled)) }
	return s, nil
}

// Serve takes clients from l until ctx ends or l fails, and closes l. Once ctx
// has ended no reply is sent any more; Serve returns when the device's methods
// have returned too.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept tells
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	room := make(chan struct{}, maxConns)
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			_ = l.Close() // the error of Accept is the one that matters
			return fmt.Errorf("NBD: %w", err)
		}
		select {
		case room <- struct{}{}:
		default:
			s.log.Warn("NBD: too many connections", "limit", maxConns)
			_ = conn.Close() // it got nothing from us
			continue
		}
		conns.Go(func() {
			defer func() { <-room }()
			if err := s.ServeConn(ctx, conn); err != nil && ctx.Err() == nil {
				s.log.Debug("NBD: connection ended", "error", err)
			}
		})
	}
}

// ServeConn serves one client until it leaves, fails or ctx ends, and closes
// conn.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the calls on it
	defer stop()
	c := &session{s: s, ctx: ctx, conn: conn}
	err := conn.SetDeadline(time.Now().Add(handshakeLimit))
	if err == nil {
		err = c.handshake()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err == nil {
		err = c.transmit()
	}
	if errors.Is(err, errLeft) {
		err = nil
	}
	_ = conn.Close() // it is over: no error of it matters
	return err
}

// buffer returns room for a reply's header and n bytes after it.
func (s *Server) buffer(n int) *[]byte {
	if replyLen+n > pooled {
		return new(make([]byte, replyLen+n))
	}
	b := s.buffers.Get().(*[]byte)
	*b = (*b)[:replyLen+n]
	return b
}

func (s *Server) recycle(b *[]byte) {
	if cap(*b) == pooled {
		s.buffers.Put(b)
	}
}
