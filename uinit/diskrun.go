package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/internal/landlock"
)

// volumesDir below /perm has the volumes, and all that the disk process may see.
const volumesDir = "volumes"

// resolverDir has what Go's resolver reads, for the names of NBD servers: the name
// servers change while the process runs, by a new file in the place of the old.
const resolverDir = "/etc"

// portISCSI is where iSCSI answers (RFC 7143 section 4.2.7.1).
const portISCSI = 3260

// collectAt is by how much the heap grows, in per cent, before the garbage collector
// runs. Most of it are buffers that are used again: it has little to look at and little
// to find, so that seldom room for as much again would be wasted.
const collectAt = 25

// runDisk is the disk process, until ctx ends or its parent is gone. iscsiAt is
// where iSCSI listens, host:port.
func runDisk(ctx context.Context, parent *os.File, iscsiAt string, log *slog.Logger) error {
	debug.SetGCPercent(collectAt)
	l, err := newLink(parent)
	if err != nil {
		return err
	}
	return l.with(ctx, func(ctx context.Context) error { return serveDisk(ctx, l, iscsiAt, log) })
}

// serveDisk serves each core process in turn until ctx ends.
func serveDisk(ctx context.Context, l *link, iscsiAt string, log *slog.Logger) (err error) {
	s, err := l.start(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(s.Perm, volumesDir)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.MkdirAll(resolverDir, 0o755)); err != nil {
		return err
	}
	kernel, err := bmc.KernelBootID()
	if err != nil {
		return err
	}
	restricted := landlock.Restrict(dir, resolverDir)
	d, err := bmc.NewDisk(bmc.DiskOptions{Dir: dir, Version: version, Instance: rand.Text()[:8], BootID: kernel, ISCSI: iscsiAt, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
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
