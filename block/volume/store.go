// Package volume keeps the named volumes of a folder: disks, golden images and
// snapshots.
//
// A volume is a description, volumes/NAME.json, that names a layer. A layer is a
// description, layers/ID.json, with the files of its contents: a raw file, a
// copy-on-write overlay (package cow) on another layer, or none for a disk on an
// NBD server. Volumes share layers: a clone's overlay stands on the image's layer;
// a snapshot takes over the layer that its disk has written to, and the disk goes
// on with a new overlay on top. incoming holds what an import has not finished.
//
// Power may fail between any two steps. So that what Open finds is always
// either the state before or the one after, each change has one step that counts:
// a description that is replaced, renamed or removed whole. What has to be there
// is made durable before that step, and what is useless after it is deleted later;
// layers that no volume reaches, and files that no layer names, are what Open
// deletes. A snapshot has two such steps, first the disk's description, which has it
// go on with an overlay on its layer, then the snapshot's; in between the disk is
// what it was, on two layers, which are merged. Nothing is deleted while a description
// is unreadable that a volume may need, since it might name anything.
//
// A layer that no volume has and one layer stands on is merged with it in the
// background (Run): see merge.go.
//
// An image's contents are never written to: its file has no write permission, it
// is opened for reading, and Verify compares it with the digest in the description.
//
// Store.changing is held by what changes descriptions, one after the other;
// Store.mu, for moments only, by what reads or writes the tables. The order of
// locks is changing, volume.use, layer.mu from above to below, Store.mu.
package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
)

// What a Store's methods fail with, besides the errors of package block.
var (
	// ErrNotFound: there is no such volume.
	ErrNotFound = errors.New("there is no such volume")
	// ErrExists: a volume has that name.
	ErrExists = errors.New("a volume of that name exists already")
	// ErrInUse: a host may be using the volume.
	ErrInUse = errors.New("the volume is in use")
	// ErrName: no volume can have that name.
	ErrName = errors.New("a volume's name has 1 to 63 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit")
	// ErrStandsOn: other volumes are made of this one.
	ErrStandsOn = errors.New("other volumes stand on it")
	// ErrRequest: what is asked for makes no sense.
	ErrRequest = errors.New("the request cannot be met")
	// ErrFailed: the volume is damaged.
	ErrFailed = errors.New("the volume has failed")
	// ErrShrink: a volume never gets smaller.
	ErrShrink = errors.New("a volume cannot shrink")
	// ErrContent: the data is not what was announced, or not what can be read.
	ErrContent = errors.New("the data is unusable")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the volumes are closed")
)

// An Event is what the owner of the store gets to know.
type Event struct {
	Severity host.Severity
	Kind     string // "volume.created" and so on
	Message  string // one English sentence
}

// Options are what a Store needs.
type Options struct {
	// Dir is the folder, the store's alone. It is made where it is missing.
	Dir string
	// BootID is that of the running kernel (/proc/sys/kernel/random/boot_id).
	BootID string
	Log    *slog.Logger
	// Report is called for each event; it must not call the store.
	Report func(Event)
	// Dial connects to an NBD server; nil: volumes on one are refused. The device
	// calls report, which may be nil, when it has lost the connection, with the reason,
	// and with nil when it has it again; not while it is closed.
	Dial func(ctx context.Context, uri string, report func(error)) (block.Device, error)
}

// A Store has the volumes of a folder. Its methods are safe for many goroutines.
type Store struct {
	opt Options
	// edge is called before each step that changes the folder, and the step is not
	// taken if it fails. It is nil but in tests, which let power fail there.
	edge func(step string) error

	changing  chan struct{} // a mutex that a context ends the wait for
	work      chan struct{} // wakes Run; holds one
	unpacking chan struct{} // held by who unpacks what takes much memory
	room      *room

	mu      sync.Mutex
	volumes map[string]*volume
	layers  map[string]*layer
	// reserved are the names of imports under way.
	reserved map[string]bool
	changed  chan struct{}
	merging  *merge
	closed   bool
	// unsure: a description cannot be read, or nobody knows which of two is on the
	// disk. Nothing is deleted then.
	unsure bool
}

// A volume is one of the store. Its description and name are guarded by Store.mu.
type volume struct {
	name   string
	desc   volumeDescription
	failed string
	// damaged is what Verify has found.
	damaged string
	gone    bool

	// use guards what follows, and is held while the volume is put to use or out of it.
	use   sync.Mutex
	disk  *block.Disk
	head  *head
	opens int // those that have the disk
}

// Open reads the descriptions below Dir, and completes or undoes what a crash cut
// short. A volume that is damaged is in the list as failed; an error is one of the
// folder itself. Files are opened when a volume is first used.
func Open(o Options) (*Store, error) { return open(o, nil) }

func open(o Options, edge func(string) error) (*Store, error) {
	s := &Store{
		opt: o, edge: edge,
		changing: make(chan struct{}, 1), work: make(chan struct{}, 1),
		unpacking: make(chan struct{}, 1),
		room:      &room{dir: o.Dir, statfs: unix.Statfs},
		volumes:   make(map[string]*volume), layers: make(map[string]*layer),
		reserved: make(map[string]bool), changed: make(chan struct{}),
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("opening the volumes: %w", err)
	}
	return s, nil
}

// Run does what is left to the background until ctx ends: it merges layers, and
// watches the room on the card.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		s.watchRoom()
		wait := s.mergeAll(ctx)
		var retry <-chan time.Time
		if wait > 0 {
			retry = time.After(wait)
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				s.watchRoom()
			case <-retry:
				again = true
			case <-s.work:
				again = true
			}
		}
	}
}

// Close ends all use: disks that are in use fail with block.ErrClosed from then
// on. What was written stays written, as after any end of the process.
func (s *Store) Close() error {
	s.changing <- struct{}{}
	defer s.unlock()
	s.quiesce(nil)
	s.mu.Lock()
	s.closed = true
	all := s.sorted()
	s.mu.Unlock()
	var errs []error
	for _, v := range all {
		v.use.Lock()
		if v.disk != nil {
			errs = append(errs, v.disk.Close())
			v.disk, v.head = nil, nil
		}
		v.use.Unlock()
	}
	return errors.Join(errs...)
}

// lock begins a change of descriptions.
func (s *Store) lock(ctx context.Context) error {
	select {
	case s.changing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		<-s.changing
		return ErrClosed
	}
	return nil
}

func (s *Store) unlock() { <-s.changing }

// wake has Run look for work.
func (s *Store) wake() {
	select {
	case s.work <- struct{}{}:
	default: // it is awake
	}
}

// Changed is closed at the next change of what List answers, but for the bytes that
// volumes take.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Store) report(severity host.Severity, kind, format string, args ...any) {
	if s.opt.Report != nil {
		s.opt.Report(Event{severity, kind, fmt.Sprintf(format, args...)})
	}
}

// sorted are the volumes in the order of their names. The caller holds mu.
func (s *Store) sorted() []*volume {
	list := make([]*volume, 0, len(s.volumes))
	for _, v := range s.volumes {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *volume) int { return cmp.Compare(a.name, b.name) })
	return list
}

// List has all volumes in the order of their names.
func (s *Store) List() []block.Info {
	s.mu.Lock()
	names := s.namesByUUID()
	list := make([]block.Info, 0, len(s.volumes))
	data := make([]layerDescription, 0, len(s.volumes))
	for _, v := range s.sorted() {
		info, layer := s.info(v, names)
		list, data = append(list, info), append(data, layer)
	}
	s.mu.Unlock()
	for i := range list {
		list[i].Used = s.used(data[i])
	}
	return list
}

// Get has one of them.
func (s *Store) Get(name string) (block.Info, error) {
	s.mu.Lock()
	v, ok := s.volumes[name]
	if !ok {
		s.mu.Unlock()
		return block.Info{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	info, data := s.info(v, s.namesByUUID())
	s.mu.Unlock()
	info.Used = s.used(data)
	return info, nil
}

// namesByUUID says what volumes are called now. The caller holds mu.
func (s *Store) namesByUUID() map[string]string {
	names := make(map[string]string, len(s.volumes))
	for _, v := range s.volumes {
		names[v.desc.UUID] = v.name
	}
	return names
}

// info is what is known of a volume without a look at its files. The caller
// holds mu.
func (s *Store) info(v *volume, names map[string]string) (block.Info, layerDescription) {
	d := v.desc
	info := block.Info{
		Name: v.name, UUID: d.UUID, Kind: d.Kind,
		BlockSize: d.BlockSize, PhysicalSize: d.PhysicalSize,
		Of: cmp.Or(names[d.Of.UUID], d.Of.Name), Base: cmp.Or(names[d.Base.UUID], d.Base.Name),
		Source: d.Source, Created: d.Created, Failed: cmp.Or(v.failed, s.awayBelow(v), v.damaged),
	}
	if d.Of == (naming{}) {
		info.Of = ""
	}
	if d.Base == (naming{}) {
		info.Base = ""
	}
	l, ok := s.layers[d.Layer]
	if !ok {
		return info, layerDescription{}
	}
	info.Format, info.Size, info.Upstream = l.desc.Format, l.desc.Size, withoutSecrets(l.desc.Upstream)
	return info, l.desc
}

// Use gives the volume's disk to an exporter, the same one to all. release ends
// it, once; the disk closes with the last of them. Where the NBD server below is not
// there all that needs it fails with block.ErrGone until it is, and Info.Failed says so.
func (s *Store) Use(name string) (d *block.Disk, release func(), err error) {
	v, err := s.find(name)
	if err != nil {
		return nil, nil, err
	}
	disk, err := s.enter(v)
	if err != nil {
		return nil, nil, err
	}
	return disk, sync.OnceFunc(func() { s.leave(v) }), nil
}

func (s *Store) find(name string) (*volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.volumes[name]
	switch {
	case s.closed:
		return nil, ErrClosed
	case !ok:
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return v, nil
}

// enter opens the volume's disk, or counts one more that has it. A merge does so
// too; what such use would hinder ends it first, see quiesce.
func (s *Store) enter(v *volume) (*block.Disk, error) {
	v.use.Lock()
	defer v.use.Unlock()
	s.mu.Lock()
	name, desc, l, gone, closed := v.name, v.desc, s.layers[v.desc.Layer], v.gone, s.closed
	s.mu.Unlock()
	switch {
	case gone:
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	case closed:
		return nil, ErrClosed
	case l == nil:
		return nil, fmt.Errorf("%w: %s: %s", ErrFailed, name, v.failed)
	}
	if v.disk == nil {
		if err := s.openDisk(v, name, desc, l); err != nil {
			s.fail(v, err)
			return nil, fmt.Errorf("volume %s: %w", name, err)
		}
		s.fail(v, nil)
	}
	v.opens++
	return v.disk, nil
}

func (s *Store) openDisk(v *volume, name string, desc volumeDescription, l *layer) error {
	dev, err := s.acquire(l)
	if err != nil {
		return err
	}
	h := &head{store: s, volume: v, layer: l}
	h.put(dev)
	id := block.Identity{
		Name: name, UUID: uuidBytes(desc.UUID), BlockSize: desc.BlockSize, PhysicalSize: desc.PhysicalSize,
		ReadOnly: desc.Kind != block.KindDisk,
	}
	disk, err := block.NewDisk(id, h)
	if err != nil {
		s.release(l)
		return err
	}
	v.disk, v.head = disk, h
	return nil
}

func (s *Store) leave(v *volume) {
	v.use.Lock()
	defer v.use.Unlock()
	if v.opens--; v.opens > 0 || v.disk == nil {
		return
	}
	if err := v.disk.Close(); err != nil {
		s.opt.Log.Error("closing a volume", "volume", v.disk.Identity().Name, "error", err)
	}
	v.disk, v.head = nil, nil
}

// fail notes why a volume cannot be used, or that it can; a change is reported.
func (s *Store) fail(v *volume, err error) { s.failure(v, &v.failed, err) }

// failure is fail for one of the volume's kinds of failures.
func (s *Store) failure(v *volume, kind *string, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	s.mu.Lock()
	was, name := *kind, v.name
	*kind = why
	s.mu.Unlock()
	if (was == "") == (why == "") {
		return
	}
	s.notify()
	if why != "" {
		s.report(host.Critical, "volume.failed", "The volume %s cannot be used: %s.", name, strings.TrimSuffix(why, "."))
	}
}

// folder is one of the three below Dir.
func (s *Store) folder(name string) string { return filepath.Join(s.opt.Dir, name) }

func (s *Store) volumePath(name string) string {
	return filepath.Join(s.opt.Dir, "volumes", name+".json")
}

func (s *Store) layerPath(id string) string { return filepath.Join(s.opt.Dir, "layers", id+".json") }

// step is the edge of the folder, see edge.
func (s *Store) step(format string, args ...any) error {
	if s.edge == nil {
		return nil
	}
	return s.edge(fmt.Sprintf(format, args...))
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
