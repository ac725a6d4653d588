package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/internal/landlock"
)

// volumesDir below /perm has the volumes, and all that the disk process may see.
const volumesDir = "volumes"

// runDisk is the disk process, until ctx ends or its parent is gone.
func runDisk(ctx context.Context, parent *os.File, log *slog.Logger) error {
	l, err := newLink(parent)
	if err != nil {
		return err
	}
	return l.with(ctx, func(ctx context.Context) error { return serveDisk(ctx, l, log) })
}

// serveDisk serves each core process in turn until ctx ends.
func serveDisk(ctx context.Context, l *link, log *slog.Logger) error {
	s, err := l.start(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.Perm, volumesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	restricted := landlock.Restrict(dir)
	d, err := bmc.NewDisk(dir, version, rand.Text()[:8], log)
	if err != nil {
		return err
	}
	if restricted != nil {
		d.Report(bmc.Event{Severity: bmc.Warning, Kind: "disk.unrestricted", Message: fmt.Sprintf("The disk process can see more than the volumes: %v.", restricted)})
	}
	var tasks sync.WaitGroup
	defer tasks.Wait() // all end with ctx
	tasks.Go(func() { d.Run(ctx) })
	if err := l.conn.Tell(msgReady, nil, nil); err != nil {
		return err
	}
	for {
		select {
		case c := <-l.peers:
			tasks.Go(func() {
				if err := d.Serve(ctx, c); err != nil && ctx.Err() == nil {
					log.Error("core's connection", "error", err)
				}
			})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
