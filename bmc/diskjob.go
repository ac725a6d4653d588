package bmc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/block"
)

// jobIdle is how long a job's pipe may stand still: a client that is suspended, or gone
// without a word, would keep a place that others need.
const jobIdle = 5 * time.Minute

// endedJobs is how many jobs that have ended are told.
const endedJobs = 16

// A diskJob is an import or an export. Disk.mu guards it.
type diskJob struct {
	block.Job
	complete chan struct{} // closed once core has written all
	canceled chan struct{} // closed once it shall end
}

// begin notes a job, which end ends.
func (d *Disk) begin(id, name, operation string, total int64) (*diskJob, error) {
	j := &diskJob{Job: block.Job{ID: id, Volume: name, Operation: operation, Total: total, Started: time.Now()},
		complete: make(chan struct{}), canceled: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	if id == "" || slices.ContainsFunc(d.jobs, func(o *diskJob) bool { return o.ID == id }) {
		return nil, fmt.Errorf("a job cannot be named %.40q", id)
	}
	d.jobs = append(d.jobs, j)
	d.touched()
	return j, nil
}

// working gives a job a context that ends when it is cancelled, and closes its file
// then, so that nothing waits for the pipe. end ends the two and waits for nothing.
func (j *diskJob) working(ctx context.Context, file *os.File) (_ context.Context, end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-j.canceled:
			cancel()
		case <-ctx.Done():
		}
	})
	stop := context.AfterFunc(ctx, func() { _ = file.Close() }) // what it was to carry is given up
	return ctx, func() error {
		var err error
		if stop() {
			err = file.Close()
		}
		cancel()
		watch.Wait()
		return err
	}
}

// progress takes how far a job is.
func (d *Disk) progress(j *diskJob) func(done, total int64) {
	return func(done, total int64) {
		d.mu.Lock()
		defer d.mu.Unlock()
		j.Done, j.Total = done, total
		d.touched()
	}
}

// end notes the end of a job. An error that came of its cancellation is errCanceled.
func (d *Disk) end(ctx context.Context, j *diskJob, err error) error {
	if err != nil && ctx.Err() != nil {
		err = errCanceled
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	j.Ended = time.Now()
	if err != nil {
		j.Error = told(err.Error())
	}
	ended := 0
	for i, o := range slices.Backward(d.jobs) {
		if o.Ended.IsZero() {
			continue
		}
		if ended++; ended > endedJobs {
			d.jobs = slices.Delete(d.jobs, i, i+1)
		}
	}
	d.touched()
	return err
}

// tellJob does what core says of a job. One that has just ended is not there any
// more.
func (d *Disk) tellJob(id string, do func(*diskJob)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, j := range d.jobs {
		if j.ID == id && j.Ended.IsZero() {
			do(j)
		}
	}
}

// completed notes that core has written all of an import, cancel that it shall end.
func (j *diskJob) completed() { closeOnce(j.complete) }
func (j *diskJob) cancel()    { closeOnce(j.canceled) }

// closeOnce closes a channel that may be closed. Disk.mu is held.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// An incoming is what is imported, out of core's pipe. The pipe also ends when core
// does: only core's word makes that the end of the data.
type incoming struct {
	ctx  context.Context
	file *os.File
	job  *diskJob
	idle time.Duration
}

// Read implements io.Reader.
func (r incoming) Read(p []byte) (int, error) {
	if err := r.file.SetReadDeadline(time.Now().Add(r.idle)); err != nil {
		return 0, err
	}
	n, err := r.file.Read(p)
	switch {
	case n == 0 && errors.Is(err, os.ErrDeadlineExceeded):
		return 0, fmt.Errorf("nothing came for %v: %w", r.idle, os.ErrDeadlineExceeded)
	case n > 0 || !errors.Is(err, io.EOF):
		return n, err
	}
	select {
	case <-r.job.complete:
		return 0, io.EOF
	case <-r.ctx.Done():
		return 0, io.ErrUnexpectedEOF
	}
}

// An outgoing is what is exported, into core's pipe.
type outgoing struct {
	file *os.File
	idle time.Duration
}

// Write implements io.Writer.
func (w outgoing) Write(p []byte) (done int, err error) {
	for {
		if err := w.file.SetWriteDeadline(time.Now().Add(w.idle)); err != nil {
			return done, err
		}
		n, err := w.file.Write(p[done:])
		done += n
		switch {
		case err == nil || !errors.Is(err, os.ErrDeadlineExceeded):
			return done, err
		case n == 0: // else it is slow, and goes on
			return done, fmt.Errorf("nothing was taken for %v: %w", w.idle, os.ErrDeadlineExceeded)
		}
	}
}

// importVolume reads a volume out of a pipe, which it closes.
func (d *Disk) importVolume(ctx context.Context, j *diskJob, r block.ImportRequest, file *os.File) (block.Info, error) {
	working, end := j.working(ctx, file)
	i, err := d.volumes.Import(working, r, incoming{working, file, j, d.jobIdle}, d.progress(j))
	err = d.end(working, j, err)
	_ = end() // all that counts has been read
	return i, err
}

// exportVolume writes a volume into a pipe, which it closes.
func (d *Disk) exportVolume(ctx context.Context, j *diskJob, format string, file *os.File) error {
	working, end := j.working(ctx, file)
	err := d.volumes.Export(working, j.Volume, format, outgoing{file, d.jobIdle}, d.progress(j))
	err = d.end(working, j, err)
	return errors.Join(err, end())
}
