package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/internal/ipc"
)

// volumesDir below the simulator's folder has the volumes.
const volumesDir = "volumes"

// A disk is what on a board is a process of its own. It speaks with the rest
// over the same kind of connection, and outlives resets of the BMC as that
// process does.
type disk struct {
	*bmc.Disk
	ctx   context.Context // of all that it does
	end   context.CancelFunc
	log   *slog.Logger
	tasks sync.WaitGroup
}

// newDisk serves the volumes below dir until close, by iSCSI at host:port.
func newDisk(dir, iscsi string, log *slog.Logger) (*disk, error) {
	dir = filepath.Join(dir, volumesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	kernel, err := bmc.KernelBootID()
	if err != nil {
		return nil, err
	}
	served, err := bmc.NewDisk(bmc.DiskOptions{Dir: dir, Version: version, Instance: rand.Text()[:8], BootID: kernel, ISCSI: iscsi, Log: log})
	if err != nil {
		return nil, err
	}
	d := &disk{Disk: served, log: log}
	d.ctx, d.end = context.WithCancel(context.Background())
	d.tasks.Go(func() { d.Run(d.ctx) }) // it ends with the context alone
	return d, nil
}

// close ends it and every connection.
func (d *disk) close() error {
	d.end()
	d.tasks.Wait()
	return d.Disk.Close()
}

// connect makes a connection to it: bmc.Run's Disk.
func (d *disk) connect(context.Context) (*ipc.Conn, error) {
	core, own, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	conn, err := ipc.New(own)
	if err != nil {
		return nil, errors.Join(err, core.Close())
	}
	d.tasks.Go(func() {
		if err := d.Serve(d.ctx, conn); err != nil && d.ctx.Err() == nil {
			d.log.Error("the connection between the BMC and its disk part", "error", err)
		}
	})
	return ipc.New(core) // where that fails, the other end sees it closed
}
