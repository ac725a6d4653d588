package bmc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
)

// ErrDisk says that the disk process cannot be asked for anything: it is not
// there, or was not for long enough. It is also block.ErrGone.
var ErrDisk = fmt.Errorf("the disk process does not answer: %w", block.ErrGone)

// A DiskState is what core knows of the disk process.
type DiskState struct {
	// Up: it is connected. What is below is the last that it told.
	Up     bool
	Hello  DiskHello
	Health DiskHealth
}

// Disks are the volumes and their exports as the rest of the board sees them. The
// disk process has them; this is core's end of the connection to it. What is read
// is what the disk process told last, also while it is away; what is changed is
// changed, and can be read, when the method returns, and an event says who did it.
type Disks struct {
	events *host.Events
	log    *slog.Logger
	// settings has what shall be there.
	settings diskSettings
	// retry is how soon what could not be made is tried again.
	retry time.Duration
	// greetRetry is how soon core asks for another connection where one failed at its
	// beginning.
	greetRetry time.Duration

	pushing sync.Mutex // guards the following, over the answer of the disk process
	pushed  *pushed
	held    held

	targeting sync.Mutex // one change of the targets at a time
	view      iscsiView

	mu       sync.Mutex
	state    DiskState
	conn     *ipc.Conn // nil: it is away
	volumes  mirror[block.Info]
	sorted   []block.Info // volumes by name; nil: to be made when it is asked for
	sessions mirror[block.Session]
	jobs     mirror[block.Job]
	served   mirror[ServedTarget]
	own      []*ownJob // imports from servers, the oldest first
	ctx      context.Context
	tasks    *sync.WaitGroup // of own; nil: run does not run
	settled  bool
	changed  chan struct{} // closed at each change of what can be read
}

// diskSettings are the settings as Disks need them.
type diskSettings interface {
	Get() Settings
	Generation() uint64
	Wait(ctx context.Context, old uint64) (uint64, error)
	Set(path, value string) error
}

func newDisks(events *host.Events, log *slog.Logger, set diskSettings) *Disks {
	return &Disks{events: events, log: log, settings: set, retry: 10 * time.Second, greetRetry: time.Second, changed: make(chan struct{})}
}

// set changes what can be read.
func (d *Disks) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	close(d.changed)
	d.changed = make(chan struct{})
}

// State is what is known of the disk process.
func (d *Disks) State() DiskState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Up says whether the disk process is there.
func (d *Disks) Up() bool { return d.State().Up }

// Changed is closed at the next change of what can be read.
func (d *Disks) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Space is the room on the card for volumes, and what of it is free, in bytes.
func (d *Disks) Space() (size, free int64) {
	h := d.State().Health
	return h.Size, h.Free
}

// List has all volumes in the order of their names.
func (d *Disks) List() []block.Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sorted == nil {
		d.sorted = slices.SortedFunc(maps.Values(d.volumes.list), func(a, b block.Info) int { return cmp.Compare(a.Name, b.Name) })
	}
	return slices.Clone(d.sorted)
}

// Get has one volume; volume.ErrNotFound where there is none of the name.
func (d *Disks) Get(name string) (block.Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, ok := d.volumes.list[name]
	if !ok {
		return block.Info{}, fmt.Errorf("%w: %.80s", volume.ErrNotFound, name)
	}
	return i, nil
}

// Sessions are the initiators that are logged in, the longest first.
func (d *Disks) Sessions() []block.Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.sessions.list), func(a, b block.Session) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(sessionKey(a), sessionKey(b)))
	})
}

// connection answers the connection to the disk process.
func (d *Disks) connection() (*ipc.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil, ErrDisk
	}
	return d.conn, nil
}

// call asks the disk process. An error is of the kind that it has there.
func (d *Disks) call(ctx context.Context, kind string, body, answer any) error {
	c, err := d.connection()
	if err != nil {
		return err
	}
	return callError(c.Call(ctx, kind, body, answer))
}

// callError is the error of a call: of its kind, or ErrDisk.
func callError(err error) error {
	if errors.Is(err, ipc.ErrClosed) {
		return fmt.Errorf("%w (%w)", ErrDisk, err)
	}
	return fromDisk(err)
}

// run keeps up the connection, of which next makes a new one, until ctx ends.
// Core does without a disk process; that there is none is an event.
func (d *Disks) run(ctx context.Context, next func(context.Context) (*ipc.Conn, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	d.set(func() { d.ctx, d.tasks = ctx, &tasks })
	defer func() {
		d.set(func() { d.tasks = nil }) // from here on none begins
		cancel()
		tasks.Wait()
	}()
	tasks.Go(func() { d.provide(ctx) })
	tasks.Go(func() { d.export(ctx) })
	last := "" // why it could not be reached, as the last event says
	for {
		c, err := next(ctx)
		if err != nil {
			return err // ctx's end, and else the supervisor calls again
		}
		err = d.serve(ctx, c)
		up := false
		d.set(func() { up, d.state.Up, d.conn = d.state.Up, false, nil })
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
		if up || why != last {
			d.events.Add(Event{Severity: Warning, Kind: "disk.down", Message: fmt.Sprintf("The disk process cannot be reached: %s.", why)})
			last = why
		}
		if !up {
			pause(ctx, d.greetRetry) // what fails at its beginning does so again
		}
	}
}

// serve talks over one connection until it ends.
func (d *Disks) serve(ctx context.Context, c *ipc.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	greeted := make(chan error, 1)
	go func() {
		err := d.greet(ctx, c)
		if err != nil && !errors.Is(err, ipc.ErrClosed) {
			cancel()
		}
		greeted <- err
	}()
	err := c.Run(ctx, func(_ context.Context, m ipc.Message, file *os.File) (any, error) {
		if file != nil {
			return nil, errors.Join(fmt.Errorf("%s with a file", m.Type), file.Close())
		}
		return d.take(m)
	})
	cancel()
	if first := <-greeted; first != nil && !errors.Is(first, ipc.ErrClosed) {
		return first
	}
	return err
}

// greet learns who the disk process is, and takes up the state that it had
// before this core began. That has been told when the disk process answers.
func (d *Disks) greet(ctx context.Context, c *ipc.Conn) error {
	var hello DiskHello
	if err := c.Call(ctx, diskHello, nil, &hello); err != nil {
		return err
	}
	if err := c.Call(ctx, diskSubscribe, nil, nil); err != nil {
		return err
	}
	d.set(func() { d.state.Up, d.state.Hello, d.conn = true, hello, c })
	d.events.Add(Event{Kind: "disk.up", Message: fmt.Sprintf("The disk process %s serves since %s.", hello.Instance, hello.Since.UTC().Format("2006-01-02 15:04:05Z"))})
	return nil
}

// take handles what the disk process tells. Nothing waits here: the disk process does
// not wait for who does not read.
func (d *Disks) take(m ipc.Message) (any, error) {
	switch m.Type {
	case diskHealth:
		return nil, into(m, func(v DiskHealth) { d.set(func() { d.state.Health = v }) })
	case diskVolumes:
		return nil, into(m, func(v page[block.Info]) { d.set(func() { d.volumes.take(v, volumeKey); d.sorted = nil }) })
	case diskSessions:
		return nil, into(m, func(v page[block.Session]) { d.set(func() { d.sessions.take(v, sessionKey) }) })
	case diskJobs:
		return nil, into(m, func(v page[block.Job]) { d.set(func() { d.jobs.take(v, jobKey) }) })
	case diskServed:
		return nil, into(m, func(v page[ServedTarget]) { d.set(func() { d.served.take(v, servedKey) }) })
	case diskEvent:
		var e Event
		if err := m.Into(&e); err != nil {
			return nil, err
		}
		return ipc.Later(func(ctx context.Context) (any, error) { return nil, keep(ctx, d.events, e) }), nil
	}
	return nil, fmt.Errorf("%s: %w", m.Type, errors.ErrUnsupported)
}
