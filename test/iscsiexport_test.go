//go:build e2e

package test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi"
	"github.com/nitrino/nitrino/block/raw"
	"github.com/nitrino/nitrino/block/scsi"
	"github.com/nitrino/nitrino/host"
)

// An exported is a target in the test's own process, so that a test has its disks in
// its hands.
type exported struct {
	portal
	server  *iscsi.Server
	targets []iscsi.TargetConfig
	units   map[uint16]*scsi.Unit // of the first target

	mu     sync.Mutex
	events []string // "kind: message"
}

// A unit is how a disk is shown.
type unit struct {
	disk          *block.Disk
	cd, removable bool
}

// export serves disks as one target's units, from LUN 0 on, until the test ends.
func export(tb testing.TB, t block.Target, disks ...*block.Disk) *exported {
	tb.Helper()
	units := make([]unit, len(disks))
	for n, d := range disks {
		units[n].disk = d
	}
	return exportUnits(tb, t, units...)
}

func exportUnits(tb testing.TB, t block.Target, units ...unit) *exported {
	tb.Helper()
	e := &exported{}
	e.server = iscsi.New(iscsi.Options{Log: testLog(tb), Report: func(_ host.Severity, kind, message string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.events = append(e.events, kind+": "+message)
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	e.addr = l.Addr().String()
	e.portal = e.add(tb, t, units...)
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := e.server.Serve(ctx, l); err != nil && ctx.Err() == nil {
			tb.Errorf("the target ended: %v", err)
		}
	})
	tb.Cleanup(func() {
		stop()
		serving.Wait()
		for _, panicked := range e.reported("iscsi.panic") {
			tb.Error(panicked)
		}
	})
	return e
}

func testLog(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// add serves another target at the same address.
func (e *exported) add(tb testing.TB, t block.Target, units ...unit) portal {
	tb.Helper()
	if t.Name == "" {
		t.Name = fmt.Sprintf("iqn.2026-01.io.nitrino:test%d", len(e.targets))
	}
	target, shown := scsi.NewTarget(t.Name, 1), map[uint16]*scsi.Unit{}
	for n, one := range units {
		shown[uint16(n)] = one.show(tb)
		t.LUNs = append(t.LUNs, block.LUN{Number: uint16(n), Volume: one.disk.Identity().Name, CD: one.cd})
	}
	target.SetUnits(shown)
	if e.units == nil {
		e.units = shown
	}
	e.targets = append(e.targets, iscsi.TargetConfig{Target: t, SCSI: target})
	e.server.SetTargets(slices.Clone(e.targets))
	return portal{e.addr, t.Name}
}

// addUnit gives the first target one more unit, while it is in use.
func (e *exported) addUnit(tb testing.TB, u unit) {
	tb.Helper()
	e.units[uint16(len(e.units))] = u.show(tb)
	e.targets[0].SCSI.SetUnits(e.units)
}

// show makes the logical unit.
func (u unit) show(tb testing.TB) *scsi.Unit {
	tb.Helper()
	made, err := scsi.NewUnit(scsi.UnitOptions{
		Disk: u.disk, CD: u.cd, Removable: u.removable, Vendor: "nitrino", Product: "disk", Revision: "1", Log: testLog(tb),
		Keep: func([]byte) error { return nil }, // nothing here outlives the test
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(made.Close)
	return made
}

// reported are the events of a kind.
func (e *exported) reported(kind string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var of []string
	for _, event := range e.events {
		if strings.HasPrefix(event, kind+": ") {
			of = append(of, event)
		}
	}
	return of
}

// rawFile is a sparse file of that size.
func rawFile(tb testing.TB, size int64) (path string, d *raw.File) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "disk.img")
	if err := raw.Create(path, size); err != nil {
		tb.Fatal(err)
	}
	d, err := raw.Open(path, size, false)
	if err != nil {
		tb.Fatal(err)
	}
	return path, d
}

func rawDisk(tb testing.TB, size int64) *block.Disk {
	tb.Helper()
	_, d := rawFile(tb, size)
	return newDisk(tb, d, false)
}

// lockedDisk may not be written.
func lockedDisk(tb testing.TB, size int64) *block.Disk {
	tb.Helper()
	_, d := rawFile(tb, size)
	return newDisk(tb, d, true)
}

// newDisk puts a device to use, until the test ends.
func newDisk(tb testing.TB, d block.Device, readOnly bool) *block.Disk {
	tb.Helper()
	return newDiskOf(tb, d, block.Identity{PhysicalSize: 4096, ReadOnly: readOnly})
}

func newDiskOf(tb testing.TB, d block.Device, id block.Identity) *block.Disk {
	tb.Helper()
	id.Name, id.BlockSize = "volume", blockSize
	if _, err := rand.Read(id.UUID[:]); err != nil {
		tb.Fatal(err)
	}
	disk, err := block.NewDisk(id, d)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := disk.Close(); err != nil {
			tb.Error(err)
		}
	})
	return disk
}
