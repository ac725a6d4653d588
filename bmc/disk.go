package bmc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/nbd"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/internal/ipc"
)

// diskLook is how often the space on the card is looked at.
const diskLook = 10 * time.Second

// The folders below DiskOptions.Dir.
const (
	diskStore = "store" // package volume's
	diskISCSI = "iscsi" // what is exported
)

// What all hosts together may take of the board's memory, in bytes.
const (
	// commandMemory is for the data of iSCSI commands; data that comes unasked may take
	// half as much besides.
	commandMemory = 12 << 20
	// unflushedMemory is for what NBD servers have not flushed.
	unflushedMemory = 6 << 20
)

// DiskOptions are what a Disk needs.
type DiskOptions struct {
	// Dir is the folder of the volumes and of what is kept about them, the disk
	// process's alone. It is there already.
	Dir string
	// Version is the software's; Instance differs at each start of the process.
	Version, Instance string
	// BootID is that of the running kernel, see KernelBootID.
	BootID string
	// ISCSI is where iSCSI listens, host:port; without a host all addresses, with
	// port 0 a free one.
	ISCSI string
	Log   *slog.Logger
}

// KernelBootID answers what differs at each start of the kernel.
func KernelBootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text)), err
}

// A Disk is what the disk process does: it keeps the volumes and exports them. It
// outlives the core process that it answers, whose restarts change nothing here.
type Disk struct {
	hello   DiskHello
	dir     string
	log     *slog.Logger
	events  *ipc.Outbox[Event]
	volumes *volume.Store
	budget  *nbd.Budget
	iscsi   *exports
	slots   chan struct{} // of requests under way
	changes chan struct{} // of the targets, under way
	long    chan struct{} // of imports and exports
	jobIdle time.Duration // how long their pipes may stand still

	mu      sync.Mutex
	health  DiskHealth
	jobs    []*diskJob    // the oldest first
	changed chan struct{} // closed at each change of the above
}

// NewDisk opens the volumes, and what the last core had them exported as. Call Run,
// and Close in the end.
func NewDisk(o DiskOptions) (*Disk, error) {
	d := &Disk{
		hello: DiskHello{o.Version, o.Instance, time.Now()}, dir: o.Dir, log: o.Log, changed: make(chan struct{}),
		budget: nbd.NewBudget(unflushedMemory), slots: make(chan struct{}, maxRequests),
		changes: make(chan struct{}, maxRequests), long: make(chan struct{}, maxLong), jobIdle: jobIdle,
		events: ipc.NewOutbox(diskEvent, func(n int) Event {
			return Event{Time: time.Now(), Severity: Warning, Kind: "events.lost", Message: fmt.Sprintf("%d events of the disk process found no place.", n)}
		})}
	var err error
	d.volumes, err = volume.Open(volume.Options{Dir: filepath.Join(o.Dir, diskStore), BootID: o.BootID, Log: o.Log, Report: d.reportVolume, Dial: d.dial})
	if err != nil {
		return nil, err
	}
	d.iscsi, err = openExports(exportsOptions{
		Dir: filepath.Join(o.Dir, diskISCSI), Address: o.ISCSI, Volumes: d.volumes, Log: o.Log, Report: d.Report, Changed: d.touch,
	})
	if err == nil {
		err = d.look()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close closes the volumes. Nothing may run any more.
func (d *Disk) Close() error {
	if d.iscsi != nil {
		d.iscsi.close()
	}
	return d.volumes.Close()
}

// dial connects to an NBD server.
func (d *Disk) dial(ctx context.Context, uri string, report func(error)) (block.Device, error) {
	c, err := nbd.Dial(ctx, uri, nbd.Options{Budget: d.budget, Log: d.log, Report: report})
	if err != nil {
		return nil, err // no *nbd.Client that is nil
	}
	return c, nil
}

// maxEvent bounds the text of an event, in bytes.
const maxEvent = 8 << 10

// Report puts an event on the log as soon as there is a core process to take it.
func (d *Disk) Report(e Event) {
	e.Time = time.Now()
	// What came from a network may be in it; it has to fit into a message.
	if len(e.Message) > maxEvent {
		e.Message = e.Message[:maxEvent] + "…"
	}
	e.Message = strings.ToValidUTF8(e.Message, "?")
	d.log.Log(context.Background(), eventLevel(e), e.Message, "kind", e.Kind)
	d.events.Put(e)
}

// reportVolume reports what the volumes do by themselves; what was asked for is
// reported with who asked.
func (d *Disk) reportVolume(e volume.Event) {
	switch e.Kind {
	case kindVolumeCreated, kindVolumeSnapshot, kindVolumeReverted, kindVolumeResized, kindVolumeRenamed, kindVolumeDeleted, kindVolumeImported:
		return
	}
	d.Report(Event{Severity: e.Severity, Kind: e.Kind, Message: e.Message})
}

// eventLevel is the level at which an event is logged.
func eventLevel(e Event) slog.Level {
	if e.Severity == OK {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// Run looks after the volumes and exports them until ctx ends.
func (d *Disk) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks.Go(func() {
		if err := d.volumes.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("the volumes' work in the background has ended", "error", err)
		}
	})
	tasks.Go(func() { d.iscsi.run(ctx) })
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

// touch says that something has changed of what core is told.
func (d *Disk) touch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.touched()
}

// touched is touch for who holds mu.
func (d *Disk) touched() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// look reads the space that is left.
func (d *Disk) look() error {
	// A file system whose card was pulled goes on to answer statfs(2).
	if _, err := os.ReadDir(d.dir); err != nil {
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
	if now != was {
		d.health = now
		d.touched()
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
