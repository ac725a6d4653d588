package bmc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/internal/ipc"
)

// The messages between core and disk. Core sends hello and subscribe, which are
// answered; then disk tells health, volumes and sessions, at once and when they
// have changed, and sends events, which core answers when it has them.
const (
	diskHello     = "hello"
	diskSubscribe = "subscribe"
	diskHealth    = "health"
	diskVolumes   = "volumes"
	diskSessions  = "sessions"
	diskEvent     = "event"
)

// A DiskHello says who the disk process is.
type DiskHello struct {
	Software string `json:"software"` // its version
	// Instance differs at each start of the process; Since is when that was.
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"`
}

// A DiskHealth is how the place for volumes is, in bytes.
type DiskHealth struct {
	Size int64 `json:"size"`
	Free int64 `json:"free"`
	// Full: so little is free that an event has said so.
	Full bool `json:"full"`
}

// A Volume is one disk that a host may be given.
type Volume struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
}

// A DiskSession is a client that has a volume open.
type DiskSession struct {
	Volume string    `json:"volume"`
	Client string    `json:"client"`
	Since  time.Time `json:"since"`
}

// diskLook is how often the folder of volumes is looked at.
const diskLook = 10 * time.Second

// A Disk is what the disk process does. It outlives the core process that it
// answers, whose restarts change nothing here.
type Disk struct {
	hello  DiskHello
	dir    string
	log    *slog.Logger
	events *ipc.Outbox[Event]

	mu      sync.Mutex
	health  DiskHealth
	volumes []Volume
	changed chan struct{} // closed at each change of the two
}

// NewDisk serves the volumes in dir, which is there already. version is the
// software's.
func NewDisk(dir, version, instance string, log *slog.Logger) (*Disk, error) {
	d := &Disk{hello: DiskHello{version, instance, time.Now()}, dir: dir, log: log, changed: make(chan struct{}),
		events: ipc.NewOutbox(diskEvent, func(n int) Event {
			return Event{Time: time.Now(), Severity: Warning, Kind: "events.lost", Message: fmt.Sprintf("%d events of the disk process found no place.", n)}
		})}
	return d, d.look()
}

// Report puts an event on the log as soon as there is a core process to take it.
func (d *Disk) Report(e Event) {
	e.Time = time.Now()
	d.log.Log(context.Background(), eventLevel(e), e.Message, "kind", e.Kind)
	d.events.Put(e)
}

// eventLevel is the level at which an event is logged.
func eventLevel(e Event) slog.Level {
	if e.Severity == OK {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// Run looks after the volumes until ctx ends.
func (d *Disk) Run(ctx context.Context) error {
	tick := time.NewTicker(diskLook)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		err := d.look()
		if err != nil && !failing {
			d.Report(Event{Severity: Critical, Kind: "volumes.failed", Message: fmt.Sprintf("The volumes cannot be read: %v.", err)})
		}
		if err == nil && failing {
			d.Report(Event{Severity: OK, Kind: "volumes.restored", Message: "The volumes can be read again."})
		}
		failing = err != nil
	}
}

// look reads the folder and the space that is left.
func (d *Disk) look() error {
	volumes, err := listVolumes(d.dir)
	if err != nil {
		return err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		return fmt.Errorf("%s: %w", d.dir, err)
	}
	d.mu.Lock()
	was := d.health
	now := DiskHealth{Size: int64(s.Blocks) * s.Bsize, Free: int64(s.Bavail) * s.Bsize}
	now.Full = isFull(now.Size, now.Free, was.Full)
	if now != was || !slices.Equal(volumes, d.volumes) {
		d.health, d.volumes = now, volumes
		close(d.changed)
		d.changed = make(chan struct{})
	}
	d.mu.Unlock()
	switch {
	case now.Full && !was.Full:
		d.Report(Event{Severity: Warning, Kind: "perm.full", Message: fmt.Sprintf("The card is nearly full: %d of %d MiB are free.", now.Free>>20, now.Size>>20)})
	case was.Full && !now.Full:
		d.Report(Event{Severity: OK, Kind: "perm.space", Message: fmt.Sprintf("The card has room again: %d of %d MiB are free.", now.Free>>20, now.Size>>20)})
	}
	return nil
}

// isFull says whether less than 5 % or 16 MiB are free (a quarter, of what is
// smaller than 64 MiB); it must be a quarter more for that to be over.
func isFull(size, free int64, was bool) bool {
	limit := max(size/20, min(16<<20, size/4))
	if was {
		limit += limit / 4
	}
	return free < limit
}

// listVolumes lists the files of a folder in the order of their names.
func listVolumes(dir string) ([]Volume, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	volumes := []Volume{}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			volumes = append(volumes, Volume{e.Name(), info.Size()})
		}
	}
	return volumes, nil
}

// Serve answers a core process until the connection or ctx ends, and closes the
// connection.
func (d *Disk) Serve(ctx context.Context, c *ipc.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	subscribed := false
	return c.Run(ctx, func(_ context.Context, m ipc.Message, file *os.File) (any, error) {
		if file != nil {
			return nil, errors.Join(fmt.Errorf("%s with a file", m.Type), file.Close())
		}
		switch m.Type {
		case diskHello:
			return d.hello, nil
		case diskSubscribe:
			if subscribed {
				return nil, errors.New("subscribed already")
			}
			subscribed = true
			// Both end with the connection, and nobody is left to be told why.
			tasks.Go(func() { d.tell(ctx, c) })
			tasks.Go(func() {
				d.events.Deliver(ctx, c, func(e Event, err error) {
					d.log.Error("core refused an event", "kind", e.Kind, "error", err)
				})
			})
			return nil, nil
		}
		return nil, fmt.Errorf("%s: %w", m.Type, errors.ErrUnsupported)
	})
}

// tell sends the state, and again what of it changes, until ctx or the
// connection ends.
func (d *Disk) tell(ctx context.Context, c *ipc.Conn) error {
	d.mu.Lock()
	health, volumes, changed := d.health, d.volumes, d.changed
	d.mu.Unlock()
	// Nothing exports volumes yet: there are no sessions that could change.
	err := errors.Join(c.Tell(diskHealth, health, nil), c.Tell(diskVolumes, volumes, nil), c.Tell(diskSessions, []DiskSession{}, nil))
	for err == nil {
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		d.mu.Lock()
		health, volumes, changed = d.health, d.volumes, d.changed
		d.mu.Unlock()
		err = errors.Join(c.Tell(diskHealth, health, nil), c.Tell(diskVolumes, volumes, nil))
	}
	return err
}
