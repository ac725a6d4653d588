package update

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/nitrino/nitrino/host"
)

// Files of the folder.
const (
	stagedFile    = "staged.bundle"
	pendingPrefix = "pending-"
	pendingSuffix = ".tmp"
)

// reserve is what a bundle leaves free of the file system, in bytes: the state of
// the board has to be written at any time.
const reserve = 16 << 20

// StagingOptions are what OpenStaging needs.
type StagingOptions struct {
	// Dir is the folder of the bundles, and has nothing else; it is made if it is
	// not there.
	Dir string
	// Keys answers the keys that are trusted now.
	Keys func() []ed25519.PublicKey
	// Arch and Running are those of Options.
	Arch, Running string
	// Roots are whom Fetch trusts for https; nil: the system's.
	Roots  *x509.CertPool
	Events *host.Events
}

// A Staging takes bundles in, one at a time, and keeps the last that was sound
// until it is installed or another takes its place.
type Staging struct {
	opt StagingOptions
	// free answers how many bytes there are for a file in the folder.
	free func(dir string) (int64, error)

	taking sync.Mutex // held while a bundle is taken in

	mu     sync.Mutex // guards the following, and stagedFile
	staged *Bundle
}

// OpenStaging opens the folder. What a crash left half done is removed, and so is
// a kept bundle that no key which is trusted now has signed.
func OpenStaging(opt StagingOptions) (*Staging, error) {
	s := &Staging{opt: opt, free: free}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	entries, err := os.ReadDir(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("update: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), pendingPrefix) && strings.HasSuffix(e.Name(), pendingSuffix) {
			if err := os.Remove(filepath.Join(opt.Dir, e.Name())); err != nil {
				return nil, fmt.Errorf("update: what a crash left: %w", err)
			}
		}
	}
	b, err := s.kept()
	if err == nil {
		s.staged = b
	} else if !errors.Is(err, fs.ErrNotExist) {
		opt.Events.Add(host.Event{Severity: host.Warning, Kind: "update.dropped", Message: fmt.Sprintf("The update that was kept is dropped: %v.", err)})
		if err := os.Remove(s.path()); err != nil {
			return nil, fmt.Errorf("update: %w", err)
		}
	}
	return s, nil
}

func (s *Staging) path() string { return filepath.Join(s.opt.Dir, stagedFile) }

func (s *Staging) options() Options {
	return Options{Keys: s.opt.Keys(), Arch: s.opt.Arch, Running: s.opt.Running}
}

// kept reads what the kept bundle says of itself. Its files were checked when it
// came, and will be when they are installed; here that would delay the start.
func (s *Staging) kept() (b *Bundle, err error) {
	f, err := os.Open(s.path())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	v, err := begin(context.Background(), f, s.options())
	if err != nil {
		return nil, err
	}
	v.bundle.Size, v.bundle.Staged = info.Size(), info.ModTime()
	return v.bundle, nil
}

// Staged answers the bundle that is kept; false: none is.
func (s *Staging) Staged() (Bundle, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.staged == nil {
		return Bundle{}, false
	}
	return *s.staged, true
}

// Discard removes the bundle that is kept; ErrNone where none is.
func (s *Staging) Discard(from host.Origin) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.staged == nil {
		return ErrNone
	}
	if err := errors.Join(os.Remove(s.path()), syncDir(s.opt.Dir)); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	s.opt.Events.Add(host.Event{Kind: "update.discarded", Origin: from, Message: fmt.Sprintf("The update to version %s was discarded.", s.staged.Manifest.Version)})
	s.staged = nil
	return nil
}

// Put takes in the bundle that r gives, of so many bytes or, with -1, of a length
// that is not known before. It is checked while it comes, and is on the disk, in
// the place of the one before, when Put returns nil. Otherwise the one before
// stays. A reader that stalls has to be ended by whom it belongs to.
//
// Besides Verify's errors: ErrBusy, ErrFull.
func (s *Staging) Put(ctx context.Context, r io.Reader, size int64, from host.Origin) (Bundle, error) {
	if !s.taking.TryLock() {
		return Bundle{}, ErrBusy
	}
	defer s.taking.Unlock()
	b, err := s.put(ctx, r, size)
	if err != nil {
		return Bundle{}, s.refused(err, from)
	}
	text := fmt.Sprintf("Version %s (revision %s) was checked and can be installed", b.Manifest.Version, b.Manifest.Revision)
	if b.Downgrade {
		text += fmt.Sprintf("; it is older than %s, which runs", s.opt.Running)
	}
	s.opt.Events.Add(host.Event{Kind: "update.staged", Origin: from, Message: text + "."})
	return *b, nil
}

// refused tells of a bundle that was not taken in.
func (s *Staging) refused(err error, from host.Origin) error {
	s.opt.Events.Add(host.Event{Severity: host.Warning, Kind: "update.refused", Origin: from, Message: fmt.Sprintf("An update was refused: %v.", err)})
	return fmt.Errorf("update: %w", err)
}

func (s *Staging) put(ctx context.Context, r io.Reader, size int64) (b *Bundle, err error) {
	o := s.options()
	room, err := s.free(s.opt.Dir)
	switch {
	case err != nil:
		return nil, err
	case len(o.Keys) == 0:
		return nil, ErrNoKey
	case size > MaxSize:
		return nil, fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, MaxSize)
	case room < max(size, 0)+reserve:
		return nil, fmt.Errorf("%w: %d bytes are free, and %d of them stay so", ErrFull, room, reserve)
	}
	f, err := os.CreateTemp(s.opt.Dir, pendingPrefix+"*"+pendingSuffix)
	if err != nil {
		return nil, full(err)
	}
	defer func() {
		if err != nil {
			// A leftover goes at the next start at the latest.
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	b, err = Verify(ctx, io.TeeReader(r, &file{f, room - reserve}), o)
	if err == nil {
		err = full(f.Sync())
	}
	if err = errors.Join(err, full(f.Close())); err != nil {
		return nil, err
	}
	return b, s.keep(f.Name(), b)
}

// keep puts a bundle that is on the disk into its place.
func (s *Staging) keep(name string, b *Bundle) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	b.Staged = info.ModTime()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Rename(name, s.path()); err != nil {
		return err
	}
	s.staged = b // it is there, though the next line may fail
	return syncDir(s.opt.Dir)
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A file takes so many bytes.
type file struct {
	f    *os.File
	room int64
}

func (f *file) Write(p []byte) (int, error) {
	if f.room -= int64(len(p)); f.room < 0 {
		return 0, ErrFull
	}
	n, err := f.f.Write(p)
	return n, full(err)
}

// full says ErrFull where the file system does.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func free(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("the room in %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}
