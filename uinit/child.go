package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nitrino/nitrino/internal/ipc"
)

// A link is a child's end of the connection to its parent.
type link struct {
	conn *ipc.Conn
	// started has the start, once.
	started chan start
	// peers has the newest connection to the other child.
	peers chan *ipc.Conn
	// event takes an event; it answers when that is on the log.
	event func(context.Context, ipc.Message) error
}

func newLink(file *os.File) (*link, error) {
	conn, err := ipc.New(file)
	if err != nil {
		return nil, fmt.Errorf("the parent: %w", err)
	}
	return &link{conn: conn, started: make(chan start, 1), peers: make(chan *ipc.Conn, 1)}, nil
}

// errOrphan says that the parent is gone: the board is about to be reset.
var errOrphan = errors.New("the parent is gone")

// run serves the parent, and beats, until ctx ends.
func (l *link) run(ctx context.Context) error {
	beating, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- l.beat(beating) }()
	err := l.conn.Run(ctx, l.handle)
	stop()
	if berr := <-ended; err == nil {
		err = berr
	}
	select {
	case c := <-l.peers:
		err = errors.Join(err, c.Close())
	default:
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errOrphan, err)
}

// with runs work, and serves the parent beside it, until ctx ends, the parent is
// gone, or work returns. The end of ctx is no error.
func (l *link) with(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		served <- l.run(ctx)
		cancel()
	}()
	err := work(ctx)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ipc.ErrClosed)) {
		err = nil
	}
	cancel()
	return errors.Join(err, <-served)
}

// beat tells the parent that this process runs.
func (l *link) beat(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.conn.Tell(msgBeat, nil, nil); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// handle takes what the parent says.
func (l *link) handle(ctx context.Context, m ipc.Message, file *os.File) (any, error) {
	if (file != nil) != (m.Type == msgPeer) {
		if file != nil {
			return nil, errors.Join(fmt.Errorf("%s with a file", m.Type), file.Close())
		}
		return nil, fmt.Errorf("%s without a file", m.Type)
	}
	switch {
	case m.Type == msgStart:
		var s start
		if err := m.Into(&s); err != nil {
			return nil, err
		}
		select {
		case l.started <- s:
			return nil, nil
		default:
			return nil, errors.New("started twice")
		}
	case m.Type == msgPeer:
		c, err := ipc.New(file)
		if err != nil {
			return nil, err
		}
		select {
		case old := <-l.peers: // nobody has taken it yet
			err = old.Close()
		default:
		}
		l.peers <- c // has room: only this goroutine sends
		return nil, err
	case m.Type == msgEvent && l.event != nil:
		return nil, l.event(ctx, m)
	}
	return nil, fmt.Errorf("%s: %w", m.Type, errors.ErrUnsupported)
}

// start waits for what the parent has found out.
func (l *link) start(ctx context.Context) (start, error) {
	select {
	case s := <-l.started:
		return s, nil
	case <-ctx.Done():
		return start{}, ctx.Err()
	}
}

// peer asks the parent for a connection to disk and waits for it.
func (l *link) peer(ctx context.Context) (*ipc.Conn, error) {
	if err := l.conn.Tell(msgPeer, nil, nil); err != nil {
		return nil, err
	}
	select {
	case c := <-l.peers:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
