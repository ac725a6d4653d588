package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

const (
	// ejectLimit bounds what the hardware takes to change a medium when nobody
	// waits for it.
	ejectLimit = 30 * time.Second
	// firstRetry and lastRetry are between the attempts to put a medium in again.
	firstRetry = 2 * time.Second
	lastRetry  = time.Minute
)

// A Drive is one of the host's, with what is in it.
type Drive struct {
	s       *Service
	part    host.DrivePart
	op      chan struct{} // holds a token while the medium is changed
	ejected chan struct{} // the host opened the drive

	mu     sync.Mutex
	abort  context.CancelFunc // ends the insertion under way; nil: there is none
	now    *record            // nil: empty
	medium *held              // nil: not put in again yet, or empty
	err    error              // of the source
}

// A record is what is in a drive, as the store keeps it. With the password: the
// image has to be read after a restart too.
type record struct {
	Source Source `json:"source"`
	// Library is the name of the image there; else it is the URL's.
	Library string `json:"library,omitempty"`
	Name    string `json:"name"`
	Size    int64  `json:"size"`
	// Validator is the server's; Ranges: it gives parts.
	Validator validator `json:"validator,omitzero"`
	Ranges    bool      `json:"ranges,omitempty"`
}

// Status is what a drive has.
type Status struct {
	Inserted bool
	// Image is the source's, without a password; Name is its file name.
	Image, Name string
	Kind        host.MediumKind
	// Uploaded: the image is in the library.
	Uploaded          bool
	WriteProtected    bool
	VerifyCertificate bool
	UserName          string
	// Size is in bytes.
	Size int64
	// Err is why the source fails now; nil: it does not.
	Err error
}

// Name tells the drive from the others.
func (d *Drive) Name() string { return d.part.Name }

// Kinds are what the drive can show to the host, the usual first.
func (d *Drive) Kinds() []host.MediumKind { return slices.Clone(d.part.Kinds) }

// Status tells what is in.
func (d *Drive) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now == nil {
		return Status{}
	}
	src := d.now.Source
	return Status{
		Inserted: true, Image: src.Image, Name: d.now.Name, Kind: src.Kind, Uploaded: d.now.Library != "",
		WriteProtected: src.WriteProtected, VerifyCertificate: src.VerifyCertificate, UserName: src.UserName,
		Size: d.now.Size, Err: d.err,
	}
}

// Insert returns when the host can read the image, or will from its next
// power-on; an image from a server that gives no ranges is downloaded before. On
// an error nothing is in the drive, except with ErrOccupied and ErrBusy.
func (d *Drive) Insert(ctx context.Context, src Source, from host.Origin) error {
	src, name, u, err := parseSource(src)
	if err != nil {
		return err
	}
	if src.Kind != "" && !slices.Contains(d.part.Kinds, src.Kind) {
		return fmt.Errorf("%w: %s", ErrKind, src.Kind)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(d.s.ctx, cancel)
	defer stop()
	d.mu.Lock()
	busy, occupied := d.abort != nil, d.now != nil
	if !busy {
		d.abort = cancel
	}
	d.mu.Unlock()
	if busy {
		return ErrBusy
	}
	defer func() { d.mu.Lock(); d.abort = nil; d.mu.Unlock() }()
	if occupied {
		return ErrOccupied
	}
	select {
	case d.op <- struct{}{}:
		defer func() { <-d.op }()
	case <-ctx.Done():
		return d.s.ended(ctx.Err())
	}
	if err := d.insert(ctx, src, name, u); err != nil {
		return d.s.ended(err)
	}
	d.mu.Lock()
	r := d.now
	d.mu.Unlock()
	d.s.opt.Events.Add(host.Event{Kind: "media.inserted", Origin: from, Message: fmt.Sprintf("%s was inserted into the drive %s as %s.", r.shown(), d.part.Name, phrase(r.Source))})
	return nil
}

// ended is ErrStopped where the service has ended, else err.
func (s *Service) ended(err error) error {
	if s.ctx.Err() != nil {
		return ErrStopped
	}
	return err
}

// insert is Insert with d.op held, which nobody but us can have filled.
func (d *Drive) insert(ctx context.Context, src Source, name string, u *url.URL) (err error) {
	r := &record{Source: src, Library: name, Name: name}
	var c content
	if name != "" {
		c, err = d.openLibrary(r)
	} else {
		r.Name = imageName(u)
		c, err = d.openServer(ctx, r, u)
	}
	if err != nil {
		return err
	}
	m := &held{content: c}
	if err := d.load(ctx, r, m); err != nil {
		return errors.Join(err, m.close(false))
	}
	if err := d.s.opt.DB.PutJSON(bucket, d.part.Name, r); err != nil {
		m.interrupt()
		return errors.Join(err, d.unload(), m.close(false))
	}
	d.mu.Lock()
	d.now, d.medium, d.err = r, m, nil
	d.mu.Unlock()
	return nil
}

// shown names the image in events.
func (r *record) shown() string {
	if u, err := url.Parse(r.Source.Image); err == nil && r.Library == "" {
		return shown(u)
	}
	return r.Source.Image
}

func phrase(s Source) string {
	switch {
	case s.Kind == host.MediumCD:
		return "a CD"
	case s.WriteProtected:
		return "a write-protected disk"
	}
	return "a disk"
}

// decide fills in the kind, as the content says where nobody else did.
func (d *Drive) decide(r *record, content io.ReaderAt) {
	kind := r.Source.Kind
	if kind == "" {
		kind = d.part.Kinds[0]
		switch {
		case slices.Contains(d.part.Kinds, host.MediumCD) && (strings.HasSuffix(strings.ToLower(r.Name), ".iso") || isCD(content)):
			kind = host.MediumCD
		case slices.Contains(d.part.Kinds, host.MediumDisk):
			kind = host.MediumDisk
		}
	}
	r.Source.Kind = kind
	r.Source.WriteProtected = r.Source.WriteProtected || kind == host.MediumCD
}

// isCD looks for a volume descriptor (ECMA-119 section 9.1).
func isCD(content io.ReaderAt) bool {
	var id [5]byte
	n, _ := content.ReadAt(id[:], 16*2048+1) // what cannot be read is none
	return n == len(id) && string(id[:]) == "CD001"
}

// openLibrary opens an image of the library.
func (d *Drive) openLibrary(r *record) (content, error) {
	// Held as by a reader while its kind is not known.
	if err := d.s.hold(r.Library, false); err != nil {
		return nil, err
	}
	release := func(writer bool) func() { return func() { d.s.unhold(r.Library, writer) } }
	path := filepath.Join(d.s.libraryDir(), r.Library)
	l, err := openLocal(path, false, release(false))
	if err != nil {
		release(false)()
		return nil, err
	}
	d.decide(r, l)
	r.Size = l.size
	if r.Source.WriteProtected {
		return l, nil
	}
	if err := l.close(false); err != nil {
		return nil, err
	}
	if err := d.s.hold(r.Library, true); err != nil {
		return nil, err
	}
	w, err := openLocal(path, true, release(true))
	if err != nil {
		release(true)()
		return nil, err
	}
	r.Size = w.size
	return w, nil
}

func (d *Drive) cachePath() string { return filepath.Join(d.s.cacheDir(), d.part.Name) }

// openServer asks the server for an image.
func (d *Drive) openServer(ctx context.Context, r *record, u *url.URL) (content, error) {
	srv := newServer(u, r.Source, d.s.patience)
	c, ranges, err := openRemote(ctx, srv, d.cachePath(), &d.s.room, d.report)
	if err != nil {
		srv.close()
		return nil, err
	}
	d.decide(r, c)
	r.Size, r.Validator, r.Ranges = c.size, c.validator, ranges
	return c, nil
}

// load gives the medium to the hardware.
func (d *Drive) load(ctx context.Context, r *record, m *held) error {
	select {
	case <-d.ejected: // that was another medium
	default:
	}
	return d.part.Drive.Insert(ctx, host.Loading{Medium: m, Kind: r.Source.Kind, ReadOnly: r.Source.WriteProtected, Ejected: func() {
		select {
		case d.ejected <- struct{}{}:
		default: // it is known
		}
	}})
}

// unload takes the medium from the hardware, also where who asked for it has
// gone.
func (d *Drive) unload() error {
	ctx, cancel := context.WithTimeout(context.Background(), ejectLimit)
	defer cancel()
	return d.part.Drive.Eject(ctx)
}

// Eject takes the medium out, also against the host's will, and ends an
// insertion under way. It answers ErrEmpty where there is nothing to do.
func (d *Drive) Eject(ctx context.Context, from host.Origin) error {
	d.mu.Lock()
	aborted := d.abort != nil
	if aborted {
		d.abort()
	}
	d.mu.Unlock()
	select {
	case d.op <- struct{}{}:
		defer func() { <-d.op }()
	case <-ctx.Done():
		return ctx.Err()
	case <-d.s.ctx.Done():
		return ErrStopped
	}
	d.mu.Lock()
	r, m := d.now, d.medium
	d.mu.Unlock()
	if r == nil {
		if aborted {
			return nil
		}
		return ErrEmpty
	}
	return d.eject(r, m, from, "")
}

// eject is Eject with d.op held. why is added to the event.
func (d *Drive) eject(r *record, m *held, from host.Origin, why string) error {
	if m != nil {
		m.interrupt() // the hardware may wait for reads under way
	}
	if err := d.unload(); err != nil {
		err = fmt.Errorf("ejecting: %w", err)
		d.mu.Lock()
		d.err = err // the host can no longer read what it still has
		d.mu.Unlock()
		return err
	}
	err := d.s.opt.DB.Update(func(t store.Tx) error { return t.Delete(bucket, []byte(d.part.Name)) })
	switch {
	case m != nil:
		err = errors.Join(err, m.close(false))
	case r.Library != "":
		d.s.unhold(r.Library, !r.Source.WriteProtected)
	default:
		err = errors.Join(err, dropCache(d.cachePath()))
	}
	d.mu.Lock()
	d.now, d.medium, d.err = nil, nil, nil
	d.mu.Unlock()
	d.s.opt.Events.Add(host.Event{Kind: "media.ejected", Origin: from, Message: fmt.Sprintf("%s was ejected from the drive %s%s.", r.shown(), d.part.Name, why)})
	return err
}

// report is told how the source does.
func (d *Drive) report(err error) {
	d.mu.Lock()
	r, known := d.now, d.err != nil
	d.err = err
	d.mu.Unlock()
	if err != nil && !known && r != nil {
		d.s.opt.Events.Add(host.Event{Severity: host.Warning, Kind: "media.failed", Message: fmt.Sprintf("The host cannot read %s in the drive %s: %v.", r.shown(), d.part.Name, err)})
	}
}

// run puts in what was in, or makes sure that nothing is, and follows the host
// until ctx ends.
func (d *Drive) run(ctx context.Context) {
	pause := firstRetry
	var retry <-chan time.Time
	again := func() {
		retry = nil
		if err := d.restore(ctx); err != nil && ctx.Err() == nil {
			d.report(err)
			retry = time.After(pause)
			pause = min(2*pause, lastRetry)
		}
	}
	for again(); ; {
		select {
		case <-retry:
			again()
		case <-d.ejected:
			d.hostEjected(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// hostEjected follows the host, which opened the drive: an installer does that so
// that the host boots from its disk next.
func (d *Drive) hostEjected(ctx context.Context) {
	select {
	case d.op <- struct{}{}:
		defer func() { <-d.op }()
	case <-ctx.Done():
		return
	}
	d.mu.Lock()
	r, m := d.now, d.medium
	d.mu.Unlock()
	if r == nil || m == nil {
		return
	}
	if err := d.eject(r, m, host.Origin{}, " by the host"); err != nil {
		d.report(err)
	}
}

// restore brings the hardware to what the store says. It needs no server where
// that gives ranges.
func (d *Drive) restore(ctx context.Context) error {
	select {
	case d.op <- struct{}{}:
		defer func() { <-d.op }()
	case <-ctx.Done():
		return ctx.Err()
	}
	d.mu.Lock()
	r, m := d.now, d.medium
	d.mu.Unlock()
	switch {
	case r == nil:
		return d.unload()
	case m != nil:
		return nil // inserted meanwhile
	}
	c, err := d.reopen(ctx, r)
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrScheme) {
		// What the host began to read cannot come back.
		d.report(err)
		return d.eject(r, nil, host.Origin{}, ", as it cannot be read any more")
	}
	if err != nil {
		return err
	}
	m = &held{content: c}
	if err := d.load(ctx, r, m); err != nil {
		return errors.Join(err, m.close(true))
	}
	d.mu.Lock()
	d.medium, d.err = m, nil
	d.mu.Unlock()
	d.s.opt.Log.Info("media: put in again", "drive", d.part.Name, "image", r.shown())
	return nil
}

// reopen opens what a record says.
func (d *Drive) reopen(ctx context.Context, r *record) (content, error) {
	if r.Library != "" {
		writer := !r.Source.WriteProtected
		l, err := openLocal(filepath.Join(d.s.libraryDir(), r.Library), writer, func() { d.s.unhold(r.Library, writer) })
		if err != nil {
			return nil, err
		}
		if l.size != r.Size {
			return nil, errors.Join(ErrChanged, l.file.Close())
		}
		return l, nil
	}
	_, _, u, err := parseSource(r.Source)
	if err != nil {
		return nil, err
	}
	boot, err := thisBoot()
	if err != nil {
		return nil, err
	}
	id := identity{URL: u.String(), Size: r.Size, Validator: r.Validator, Boot: boot}
	srv := newServer(u, r.Source, d.s.patience)
	kept, err := oldCache(d.cachePath(), id, &d.s.room)
	if err == nil && kept == nil && r.Ranges {
		kept, err = newCache(d.cachePath(), id, &d.s.room)
	}
	if err != nil {
		return nil, err
	}
	if kept != nil {
		return newRemote(srv, r.Validator, kept, d.report), nil
	}
	c, _, err := openRemote(ctx, srv, d.cachePath(), &d.s.room, d.report)
	if err != nil {
		srv.close()
		return nil, err
	}
	if c.size != r.Size || !r.Validator.matches(c.validator) {
		return nil, errors.Join(ErrChanged, c.close(false))
	}
	return c, nil
}

// leave ends the serving and keeps the rest for the next run.
func (d *Drive) leave() error {
	d.op <- struct{}{} // for ever: the service has ended
	d.part.Drive.Release()
	d.mu.Lock()
	m := d.medium
	d.medium = nil
	d.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.close(true)
}
