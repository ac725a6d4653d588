package bmc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
)

// A DiskState is what core knows of the disk process.
type DiskState struct {
	// Up: it is connected. What is below is the last that it told.
	Up       bool
	Hello    DiskHello
	Health   DiskHealth
	Volumes  []Volume
	Sessions []DiskSession
}

// A diskLink is core's end of the connection to the disk process.
type diskLink struct {
	events *host.Events

	mu    sync.Mutex
	state DiskState
}

// Disk returns what is known of the disk process.
func (b *BMC) Disk() DiskState {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	return b.disk.state
}

// set changes the state.
func (l *diskLink) set(change func(*DiskState)) {
	l.mu.Lock()
	change(&l.state)
	l.mu.Unlock()
}

// run keeps up the connection, of which next makes a new one, until ctx ends.
// Core does without a disk process; that there is none is an event.
func (l *diskLink) run(ctx context.Context, next func(context.Context) (*ipc.Conn, error)) error {
	for {
		c, err := next(ctx)
		if err != nil {
			return err // ctx's end, and else the supervisor calls again
		}
		err = l.serve(ctx, c)
		up := false
		l.set(func(s *DiskState) { up, s.Up = s.Up, false })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !up && err == nil {
			continue // a process that was dying; the next one is on its way
		}
		why := "the connection ended"
		if err != nil {
			why = err.Error()
		}
		l.events.Add(Event{Severity: Warning, Kind: "disk.down", Message: fmt.Sprintf("The disk process cannot be reached: %s.", why)})
	}
}

// serve talks over one connection until it ends.
func (l *diskLink) serve(ctx context.Context, c *ipc.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	greeted := make(chan error, 1)
	go func() {
		err := l.greet(ctx, c)
		if err != nil && !errors.Is(err, ipc.ErrClosed) {
			cancel()
		}
		greeted <- err
	}()
	err := c.Run(ctx, func(ctx context.Context, m ipc.Message, file *os.File) (any, error) {
		if file != nil {
			return nil, errors.Join(fmt.Errorf("%s with a file", m.Type), file.Close())
		}
		return nil, l.take(ctx, m)
	})
	cancel()
	if first := <-greeted; first != nil && !errors.Is(first, ipc.ErrClosed) {
		return first
	}
	return err
}

// greet learns who the disk process is, and takes up the state that it had
// before this core began.
func (l *diskLink) greet(ctx context.Context, c *ipc.Conn) error {
	var hello DiskHello
	if err := c.Call(ctx, diskHello, nil, &hello); err != nil {
		return err
	}
	if err := c.Call(ctx, diskSubscribe, nil, nil); err != nil {
		return err
	}
	l.set(func(s *DiskState) { s.Up, s.Hello = true, hello })
	l.events.Add(Event{Kind: "disk.up", Message: fmt.Sprintf("The disk process %s serves since %s.", hello.Instance, hello.Since.UTC().Format("2006-01-02 15:04:05Z"))})
	return nil
}

// take handles what the disk process tells.
func (l *diskLink) take(ctx context.Context, m ipc.Message) error {
	switch m.Type {
	case diskHealth:
		return takeInto(l, m, func(s *DiskState, v DiskHealth) { s.Health = v })
	case diskVolumes:
		return takeInto(l, m, func(s *DiskState, v []Volume) { s.Volumes = v })
	case diskSessions:
		return takeInto(l, m, func(s *DiskState, v []DiskSession) { s.Sessions = v })
	case diskEvent:
		var e Event
		if err := m.Into(&e); err != nil {
			return err
		}
		return keep(ctx, l.events, e)
	}
	return fmt.Errorf("%s: %w", m.Type, errors.ErrUnsupported)
}

func takeInto[T any](l *diskLink, m ipc.Message, put func(*DiskState, T)) error {
	var v T
	if err := m.Into(&v); err != nil {
		return err
	}
	l.set(func(s *DiskState) { put(s, v) })
	return nil
}
