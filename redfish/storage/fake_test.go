package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

var errAway = errors.New("the disks are away")

// fakeDisks are volumes without contents, but for those that were imported.
type fakeDisks struct {
	mu       sync.Mutex
	volumes  map[string]block.Info
	contents map[string][]byte
	targets  []block.Target
	sessions []block.Session
	jobs     []block.Job
	from     host.Origin
	err      error // of all that changes, if set
	away     bool
	imported block.ImportRequest
	url      string
	exported int // how many bytes an export has before err
	canceled []string
	changed  chan struct{}
}

func newFakeDisks() *fakeDisks {
	return &fakeDisks{volumes: map[string]block.Info{}, contents: map[string][]byte{}, changed: make(chan struct{})}
}

// do makes a change.
func (d *fakeDisks) do(from host.Origin, change func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return fmt.Errorf("fake: %w", errAway)
	}
	if d.err != nil {
		return d.err
	}
	d.from = from
	err := change()
	close(d.changed)
	d.changed = make(chan struct{})
	return err
}

func (d *fakeDisks) List() []block.Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.volumes), func(a, b block.Info) int { return cmp.Compare(a.Name, b.Name) })
}

func (d *fakeDisks) Get(name string) (block.Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.find(name)
}

func (d *fakeDisks) find(name string) (block.Info, error) {
	i, ok := d.volumes[name]
	if !ok {
		return i, fmt.Errorf("%w: %s", volume.ErrNotFound, name)
	}
	return i, nil
}

// add makes a volume. d.mu is held.
func (d *fakeDisks) add(i block.Info) (block.Info, error) {
	if _, there := d.volumes[i.Name]; there {
		return i, fmt.Errorf("%w: %s", volume.ErrExists, i.Name)
	}
	i.UUID = fmt.Sprintf("00000000-0000-4000-8000-%012d", len(d.volumes))
	i.Created = time.Unix(1_700_000_000, 0)
	i.BlockSize, i.PhysicalSize = cmp.Or(i.BlockSize, 512), cmp.Or(i.PhysicalSize, 4096)
	d.volumes[i.Name] = i
	return i, nil
}

func (d *fakeDisks) Create(_ context.Context, r block.CreateRequest, from host.Origin) (i block.Info, err error) {
	return i, d.do(from, func() error {
		i = block.Info{Name: r.Name, Kind: block.KindDisk, Format: block.FormatRaw, Size: r.Size, BlockSize: r.BlockSize, Base: r.Clone, Upstream: r.Upstream}
		if r.ReadOnly {
			i.Kind = block.KindImage
		}
		if r.Upstream != "" {
			i.Format = block.FormatNBD
		}
		if r.Clone != "" {
			base, err := d.find(r.Clone)
			if err != nil {
				return err
			}
			i.Format, i.Size = block.FormatCoW, cmp.Or(r.Size, base.Size)
		}
		i, err = d.add(i)
		return err
	})
}

func (d *fakeDisks) Snapshot(_ context.Context, of, name string, from host.Origin) (i block.Info, err error) {
	return i, d.do(from, func() error {
		was, err := d.find(of)
		if err != nil {
			return err
		}
		i, err = d.add(block.Info{Name: name, Kind: block.KindSnapshot, Format: block.FormatCoW, Size: was.Size, Of: of})
		return err
	})
}

func (d *fakeDisks) Revert(_ context.Context, name, snapshot string, from host.Origin) error {
	return d.do(from, func() error {
		if d.volumes[snapshot].Of != name {
			return fmt.Errorf("%w: %s is no snapshot of %s", volume.ErrRequest, snapshot, name)
		}
		_, err := d.find(name)
		return err
	})
}

func (d *fakeDisks) Resize(_ context.Context, name string, size int64, from host.Origin) error {
	return d.do(from, func() error {
		i, err := d.find(name)
		if err == nil && size < i.Size {
			err = volume.ErrShrink
		}
		if err == nil {
			i.Size = size
			d.volumes[name] = i
		}
		return err
	})
}

func (d *fakeDisks) Rename(_ context.Context, name, to string, from host.Origin) error {
	return d.do(from, func() error {
		i, err := d.find(name)
		if err != nil {
			return err
		}
		if _, there := d.volumes[to]; there {
			return volume.ErrExists
		}
		i.Name = to
		delete(d.volumes, name)
		d.volumes[to] = i
		return volume.CheckName(to)
	})
}

func (d *fakeDisks) Delete(_ context.Context, name string, from host.Origin) error {
	return d.do(from, func() error {
		if _, err := d.find(name); err != nil {
			return err
		}
		delete(d.volumes, name)
		return nil
	})
}

func (d *fakeDisks) Verify(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return errAway
	}
	_, err := d.find(name)
	return err
}

func (d *fakeDisks) ImportURL(_ context.Context, r block.ImportRequest, url string, from host.Origin) (j block.Job, err error) {
	return j, d.do(from, func() error {
		d.imported, d.url = r, url
		if _, err := d.find(r.Name); err == nil {
			return volume.ErrExists
		}
		j = block.Job{ID: fmt.Sprintf("job%d", len(d.jobs)), Volume: r.Name, Operation: "import", Started: time.Unix(1_700_000_000, 0)}
		d.jobs = append(d.jobs, j)
		return nil
	})
}

// progress changes the last job.
func (d *fakeDisks) progress(t *testing.T, done, total int64, ended bool, why string) {
	t.Helper()
	if err := d.do(d.from, func() error {
		j := &d.jobs[len(d.jobs)-1]
		if j.Done, j.Total, j.Error = done, total, why; !ended {
			return nil
		}
		if j.Ended = time.Unix(1_700_000_100, 0); why != "" {
			return nil
		}
		_, err := d.add(block.Info{Name: j.Volume, Kind: block.KindImage, Format: block.FormatRaw, Size: total})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (d *fakeDisks) ImportStream(_ context.Context, r block.ImportRequest, data io.Reader, from host.Origin) (i block.Info, err error) {
	text, err := io.ReadAll(data)
	if err != nil {
		return i, fmt.Errorf("fake: %w", err)
	}
	return i, d.do(from, func() error {
		d.imported, d.contents[r.Name] = r, text
		i, err = d.add(block.Info{Name: r.Name, Kind: cmp.Or(r.Kind, block.KindImage), Format: block.FormatRaw, Size: int64(len(text)), Used: int64(len(text)), BlockSize: r.BlockSize})
		return err
	})
}

func (d *fakeDisks) Export(_ context.Context, name, format string, w io.Writer) error {
	d.mu.Lock()
	text, err := d.contents[name], d.err
	d.mu.Unlock()
	if err != nil {
		text = text[:d.exported]
	}
	if format == "qcow2" {
		text = append([]byte("QFI\xfb"), text...)
	}
	if len(text) == 0 || err != nil && d.exported == 0 {
		return err
	}
	_, failed := w.Write(text)
	return errors.Join(err, failed)
}

func (d *fakeDisks) Jobs() []block.Job {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.jobs)
}

func (d *fakeDisks) CancelJob(_ context.Context, id string, from host.Origin) error {
	return d.do(from, func() error {
		d.canceled = append(d.canceled, id)
		for i := range d.jobs {
			if d.jobs[i].ID == id {
				d.jobs[i].Ended, d.jobs[i].Error = time.Unix(1_700_000_100, 0), "canceled"
			}
		}
		return nil
	})
}

func (d *fakeDisks) Space() (size, free int64) { return 1 << 30, 3 << 28 }

func (d *fakeDisks) Targets() []block.Target {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(d.targets)
	for i := range all {
		all[i].CHAP.Secret, all[i].Mutual.Secret = "", ""
	}
	return all
}

func (d *fakeDisks) PutTarget(_ context.Context, t block.Target, from host.Origin) error {
	return d.do(from, func() error {
		if t.Name[:4] != "iqn." {
			return fmt.Errorf("%w: %q is not an iSCSI name", host.ErrInvalid, t.Name)
		}
		i := slices.IndexFunc(d.targets, func(o block.Target) bool { return o.Name == t.Name })
		if i < 0 {
			d.targets = append(d.targets, t)
			return nil
		}
		d.targets[i] = t
		return nil
	})
}

func (d *fakeDisks) DeleteTarget(_ context.Context, name string, from host.Origin) error {
	return d.do(from, func() error {
		d.targets = slices.DeleteFunc(d.targets, func(o block.Target) bool { return o.Name == name })
		return nil
	})
}

func (d *fakeDisks) TargetName(volume string) string { return "iqn.2026-01.test:" + volume }

func (d *fakeDisks) Sessions() []block.Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.sessions)
}

func (d *fakeDisks) Up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.away
}

func (d *fakeDisks) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *fakeDisks) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// A fakeTask are Tasks of which a test looks at the last one.
type fakeTask struct {
	mu      sync.Mutex
	percent int
	done    chan *resource.Reply // of one without patience
	cancel  context.CancelFunc
	refused bool
}

func (f *fakeTask) Start(q *resource.Request, _ string, patience time.Duration, work resource.Work) *resource.Reply {
	if f.refused {
		return resource.Fail(message.TemporarilyUnavailable())
	}
	if patience > 0 {
		return work(q.Context(), f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel, f.done = cancel, make(chan *resource.Reply, 1)
	go func() { f.done <- work(ctx, f) }()
	return &resource.Reply{Status: 202, Location: "/redfish/v1/TaskService/TaskMonitors/1"}
}

func (f *fakeTask) Percent(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.percent = n
}

func (f *fakeTask) Say(message.Message) {}

type rig struct {
	*redfishtest.Rig
	t     testing.TB
	s     *Service
	disks *fakeDisks
	tasks *fakeTask
	on    bool
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, disks: newFakeDisks(), tasks: &fakeTask{}, on: true}
	log := slog.New(slog.DiscardHandler)
	r.s = New(Options{Disks: r.disks, Tasks: r.tasks, Log: log, Later: []error{errAway}, Version: "1.2.3",
		ISCSI:        func() (bool, int) { return r.on, 3260 },
		TargetFailed: func(name string) string { return map[string]string{"iqn.2026-01.test:bad": "no volume x"}[name] }})
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: r.s.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

// do sends a request as an Operator.
func (r *rig) do(method, uri, body string, status int, keys ...string) redfishtest.Answer {
	r.t.Helper()
	return r.Want(redfishtest.Call{Method: method, URI: uri, User: "oper", Body: body}, status, keys...)
}

func (r *rig) get(uri string) redfishtest.Answer {
	r.t.Helper()
	return r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
}

// shows compares what is at paths of an answer, as fmt writes it.
func (r *rig) shows(a redfishtest.Answer, want map[string]string) {
	r.t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got := fmt.Sprint(at(a.JSON, path)); got != want[path] {
			r.t.Errorf("%v: %s: got %s, want %s", a.At("@odata.id"), path, got, want[path])
		}
	}
}
