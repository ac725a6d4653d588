// Package media puts images into the host's drives: from http and https
// servers, of which only what the host reads is fetched, and from a library of
// uploaded images.
package media

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// Options are what Open needs.
type Options struct {
	Drives []host.DrivePart
	// Dir holds library and caches.
	Dir    string
	DB     *store.Store
	Events *host.Events
	Log    *slog.Logger
	// Limit is how many bytes library and caches may take together; 0: what the
	// disk has, but for a reserve. Where it is reached, the caches forget what they can fetch
	// again, so an image from a server may be larger.
	Limit int64
}

// A Service is the host's drives and the library. It may be used from Open on,
// and ends with Run.
type Service struct {
	opt      Options
	room     room
	patience patience
	drives   []*Drive
	ctx      context.Context // ends with Run
	cancel   context.CancelFunc

	mu    sync.Mutex
	users map[string]users // of the library's images
}

// users are the drives that have an image.
type users struct {
	n      int
	writer bool // the only one
}

const bucket = "media"

// Open reads what was in the drives and cleans up what a crash left. The host
// sees nothing of it before Run.
func Open(o Options) (*Service, error) {
	s := &Service{opt: o, room: room{limit: o.Limit, free: free, dir: o.Dir}, patience: usualPatience(), users: make(map[string]users)}
	for _, dir := range []string{s.libraryDir(), s.cacheDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("media: %w", err)
		}
	}
	for _, part := range o.Drives {
		d := &Drive{s: s, part: part, op: make(chan struct{}, 1), ejected: make(chan struct{}, 1)}
		var r record
		found, err := o.DB.GetJSON(bucket, part.Name, &r)
		if err != nil {
			o.Events.Add(host.Event{Severity: host.Warning, Kind: "media.failed", Message: fmt.Sprintf("What was in the drive %s cannot be read: %v.", part.Name, err)})
		} else if found {
			d.now = &r
			if r.Library != "" {
				// Two drives were given the image under the same rule.
				if err := s.hold(r.Library, !r.Source.WriteProtected); err != nil {
					o.Log.Warn("media", "drive", part.Name, "error", err)
					d.now = nil
				}
			}
		}
		s.drives = append(s.drives, d)
	}
	if err := s.cleanUp(); err != nil {
		return nil, fmt.Errorf("media: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (s *Service) libraryDir() string { return filepath.Join(s.opt.Dir, "images") }
func (s *Service) cacheDir() string   { return filepath.Join(s.opt.Dir, "cache") }

// cleanUp removes unfinished uploads and the caches that no drive goes on with,
// and counts the library.
func (s *Service) cleanUp() error {
	entries, err := os.ReadDir(s.libraryDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), uploadPrefix) {
			if err := os.Remove(filepath.Join(s.libraryDir(), e.Name())); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.room.force(info.Size())
	}
	if entries, err = os.ReadDir(s.cacheDir()); err != nil {
		return err
	}
	used := make(map[string]bool)
	for _, d := range s.drives {
		if d.now != nil && d.now.Library == "" {
			used[d.part.Name], used[d.part.Name+stateSuffix] = true, true
		}
	}
	for _, e := range entries {
		if !used[e.Name()] {
			if err := os.Remove(filepath.Join(s.cacheDir(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Drives are the host's drives, in their order; there may be none.
func (s *Service) Drives() []*Drive { return s.drives }

// Run puts in again what was in the drives, and ends with ctx: then the media
// stay in, for the next Run, but are no longer served.
func (s *Service) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	for _, d := range s.drives {
		tasks.Go(func() { d.run(ctx) })
	}
	<-ctx.Done()
	s.cancel()
	tasks.Wait()
	var errs []error
	for _, d := range s.drives {
		errs = append(errs, d.leave())
	}
	return cmp.Or(errors.Join(errs...), ctx.Err())
}
