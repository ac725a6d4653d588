package bmc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
	"github.com/nitrino/nitrino/media"
)

// Create makes a volume.
func (d *Disks) Create(ctx context.Context, r block.CreateRequest, from host.Origin) (i block.Info, err error) {
	return i, d.call(ctx, diskCreate, createMessage{r, from}, &i)
}

// Snapshot keeps how a volume is now as another one.
func (d *Disks) Snapshot(ctx context.Context, of, name string, from host.Origin) (i block.Info, err error) {
	return i, d.call(ctx, diskSnapshot, volumeMessage{Volume: of, Name: name, From: from}, &i)
}

// Revert makes a volume's contents those of a snapshot of it. A volume that an
// initiator is logged in for is volume.ErrInUse.
func (d *Disks) Revert(ctx context.Context, name, snapshot string, from host.Origin) error {
	return d.call(ctx, diskRevert, volumeMessage{Volume: name, Name: snapshot, From: from}, nil)
}

// Resize grows a volume, also while it is in use. size is in bytes.
func (d *Disks) Resize(ctx context.Context, name string, size int64, from host.Origin) error {
	return d.call(ctx, diskResize, volumeMessage{Volume: name, Size: size, From: from}, nil)
}

// Rename gives a volume another name. Targets show volumes by name: one that is
// shown is volume.ErrInUse.
func (d *Disks) Rename(ctx context.Context, name, to string, from host.Origin) error {
	if err := d.unshown(name); err != nil {
		return err
	}
	return d.call(ctx, diskRename, volumeMessage{Volume: name, Name: to, From: from}, nil)
}

// Delete deletes a volume. One that a target shows is volume.ErrInUse.
func (d *Disks) Delete(ctx context.Context, name string, from host.Origin) error {
	if err := d.unshown(name); err != nil {
		return err
	}
	return d.call(ctx, diskDelete, volumeMessage{Volume: name, From: from}, nil)
}

// unshown fails where a target shows a volume.
func (d *Disks) unshown(name string) error {
	for _, t := range d.settings.Get().ISCSI.Targets {
		if slices.ContainsFunc(t.LUNs, func(l block.LUN) bool { return l.Volume == name }) {
			return fmt.Errorf("%w: the target %s shows it", volume.ErrInUse, t.Name)
		}
	}
	return nil
}

// Verify reads an image and compares it with the digest that it had at first.
func (d *Disks) Verify(ctx context.Context, name string) error {
	return d.call(ctx, diskVerify, volumeMessage{Volume: name}, nil)
}

// cancelLimit is how long a job that was cancelled may take to end.
const cancelLimit = 10 * time.Second

// job asks for an import or export. When it returns that is on its way, so that what
// is told of it comes later; wait returns when it has ended: soon after ctx. job takes
// the file over.
func (d *Disks) job(ctx context.Context, c *ipc.Conn, id, kind string, body any, file *os.File, answer any) (wait func() error, err error) {
	answered, err := c.Ask(kind, body, file)
	if err != nil {
		return nil, callError(err)
	}
	return func() error { return d.waitJob(ctx, c, id, answered, answer) }, nil
}

func (d *Disks) waitJob(ctx context.Context, c *ipc.Conn, id string, answered func(context.Context, any) error, answer any) error {
	limited, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = c.Tell(diskCancel, jobMessage{id}, nil) // it fails where the connection has ended, and with it the job
		pause(limited, cancelLimit)
		cancel()
	})
	defer stop()
	err := callError(answered(limited, answer))
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pipeBuffer is how much goes into a pipe, or out of it, at once.
const pipeBuffer = 64 << 10

// ImportStream makes a volume of what r gives, and returns when it is there. r is
// read to its end, or until the volume cannot be made.
func (d *Disks) ImportStream(ctx context.Context, r block.ImportRequest, data io.Reader, from host.Origin) (block.Info, error) {
	return d.importAs(ctx, rand.Text(), r, data, from)
}

func (d *Disks) importAs(ctx context.Context, id string, r block.ImportRequest, data io.Reader, from host.Origin) (i block.Info, err error) {
	c, err := d.connection()
	if err != nil {
		return i, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return i, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wait, err := d.job(ctx, c, id, diskImport, importMessage{id, r, from}, out, &i)
	if err != nil {
		return i, errors.Join(err, in.Close())
	}
	done := make(chan error, 1)
	go func() { done <- wait() }()
	_, err = io.CopyBuffer(struct{ io.Writer }{in}, data, make([]byte, pipeBuffer))
	if err == nil {
		err = callError(c.Tell(diskComplete, jobMessage{id}, nil))
	}
	if err != nil && !errors.Is(err, syscall.EPIPE) { // then the disk process says why it reads no more
		cancel(err)
	}
	err = in.Close() // which alone is no end of the data
	return i, errors.Join(<-done, err)
}

// Export writes a volume to w as "raw" or "qcow2": one that is in use as it is at
// one moment.
func (d *Disks) Export(ctx context.Context, name, format string, w io.Writer) error {
	c, err := d.connection()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	id := rand.Text()
	wait, err := d.job(ctx, c, id, diskExport, exportMessage{id, name, format}, in, nil)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	done := make(chan error, 1)
	go func() { done <- wait() }()
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{out}, make([]byte, pipeBuffer)); err != nil {
		cancel(err)
	}
	err = out.Close()
	return errors.Join(<-done, err)
}

// keptJobs is how many imports that have ended are remembered.
const keptJobs = 16

// An ownJob is an import from a server. Disks.mu guards it.
type ownJob struct {
	block.Job
	cancel context.CancelFunc
}

// ImportURL begins to make a volume of a file on a web server. A connection that is
// lost is made anew where the server allows it.
func (d *Disks) ImportURL(_ context.Context, r block.ImportRequest, url string, from host.Origin) (block.Job, error) {
	j, _, err := d.beginImport(r, url, from, func(err error) {
		d.events.Add(Event{Severity: Warning, Kind: kindImportFailed, Origin: from, Message: fmt.Sprintf("The volume %s was not imported: %v.", r.Name, err)})
	})
	return j, err
}

// beginImport is ImportURL; the channel has the error in the end, of which failed is
// told before.
func (d *Disks) beginImport(r block.ImportRequest, url string, from host.Origin, failed func(error)) (block.Job, <-chan error, error) {
	if err := checkVolumeName(r.Name); err != nil {
		return block.Job{}, nil, fmt.Errorf("%w: %w", volume.ErrName, err)
	}
	if !isURL(url, "http", "https") {
		return block.Job{}, nil, fmt.Errorf("%w: %w", host.ErrInvalid, media.ErrScheme)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil || d.tasks == nil {
		return block.Job{}, nil, ErrDisk
	}
	if _, ok := d.volumes.list[r.Name]; ok {
		return block.Job{}, nil, fmt.Errorf("%w: %s", volume.ErrExists, r.Name)
	}
	running := 0
	for _, o := range d.own {
		if o.Ended.IsZero() {
			running++
		}
	}
	if running >= maxLong/2 { // uploads and exports have the rest
		return block.Job{}, nil, errBusy
	}
	ctx, cancel := context.WithCancel(d.ctx)
	j := &ownJob{block.Job{ID: rand.Text(), Volume: r.Name, Operation: "import", Started: time.Now()}, cancel}
	d.own = append(d.own, j)
	ended := make(chan error, 1)
	d.tasks.Go(func() {
		defer cancel()
		err := d.fetch(ctx, j.ID, r, url, from)
		if err != nil && ctx.Err() != nil {
			err = errCanceled
		}
		if err != nil {
			failed(err)
		}
		ended <- err // before what wakes those who wait for it
		d.set(func() { d.endOwn(j, err) })
	})
	return j.Job, ended, nil
}

const kindImportFailed = "volume.import-failed"

// fetch imports a volume from a server.
func (d *Disks) fetch(ctx context.Context, id string, r block.ImportRequest, url string, from host.Origin) (err error) {
	data, err := media.OpenDownload(ctx, media.Source{Image: url, VerifyCertificate: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	if r.Length = max(data.Size(), 0); r.Source == "" {
		r.Source = data.String()
	}
	_, err = d.importAs(ctx, id, r, data, from)
	return err
}

// endOwn notes the end of a job. d.mu is held.
func (d *Disks) endOwn(j *ownJob, err error) {
	if t, ok := d.jobs.list[j.ID]; ok {
		j.Done, j.Total = t.Done, t.Total
	}
	j.Ended = time.Now()
	if err != nil {
		j.Error = err.Error()
	}
	ended := 0
	for i, o := range slices.Backward(d.own) {
		if o.Ended.IsZero() {
			continue
		}
		if ended++; ended > keptJobs {
			d.own = slices.Delete(d.own, i, i+1)
		}
	}
}

// Jobs are what takes long, and the last ones that did, the oldest first.
func (d *Disks) Jobs() []block.Job {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := maps.Clone(d.jobs.list)
	if all == nil {
		all = make(map[string]block.Job)
	}
	if d.conn == nil {
		// They ended with the disk process, or nobody knows.
		maps.DeleteFunc(all, func(_ string, j block.Job) bool { return j.Ended.IsZero() })
	}
	for _, o := range d.own {
		j := o.Job
		if t, ok := all[o.ID]; ok && j.Ended.IsZero() {
			j.Done, j.Total = t.Done, t.Total
		}
		all[o.ID] = j
	}
	return slices.SortedFunc(maps.Values(all), func(a, b block.Job) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
}

// CancelJob ends an import or export; volume.ErrNotFound where none of that ID runs.
func (d *Disks) CancelJob(_ context.Context, id string, from host.Origin) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.own, func(o *ownJob) bool { return o.ID == id && o.Ended.IsZero() })
	if i >= 0 {
		d.own[i].cancel()
		d.log.Info("an import was cancelled", "volume", d.own[i].Volume, "by", from.String())
		return nil
	}
	j, ok := d.jobs.list[id]
	switch {
	case !ok || !j.Ended.IsZero():
		return fmt.Errorf("%w: no job %.40q runs", volume.ErrNotFound, id)
	case j.Operation == "merge":
		return fmt.Errorf("a merge goes on until it is done: %w", errors.ErrUnsupported)
	case d.conn == nil:
		return ErrDisk
	}
	d.log.Info("a job was cancelled", "volume", j.Volume, "operation", j.Operation, "by", from.String())
	return d.conn.Tell(diskCancel, jobMessage{id}, nil)
}
