package bmc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi"
	"github.com/nitrino/nitrino/block/scsi"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/atomicfile"
)

// The files below exportsOptions.Dir.
const (
	exportsFile  = "targets.json"
	reservations = "reservations" // see diskreservations.go
)

// applyLimit is how long a change waits for one before it, whose storage does not
// answer; core asks again.
const applyLimit = 10 * time.Second

// endLimit is how long a change waits for the commands that it ends. If storage does
// not answer, the units that they are on are given up later.
const endLimit = 6 * time.Second

// errWaiting is for a change that does not count in all yet. It is also host.ErrBusy.
var errWaiting error = &diskError{"what iSCSI exports is still being changed: storage does not answer", []error{errBusy, host.ErrBusy}}

// portalGroup is the tag of the one group of portals that there is.
const portalGroup = 1

// The pauses between attempts to listen.
const (
	firstListen = 100 * time.Millisecond
	lastListen  = 10 * time.Second
)

type exportsOptions struct {
	Dir     string
	Address string
	Volumes *volume.Store
	Log     *slog.Logger
	Report  func(Event)
	// Changed is called when there is something to tell core.
	Changed func()
}

// exports are the volumes as iSCSI targets. What core wants exported is kept, so
// that hosts have their disks again before there is a core.
type exports struct {
	opt    exportsOptions
	server *iscsi.Server
	wake   chan struct{} // run is to look at whether to listen

	endLimit time.Duration

	// applying is held over changes of what is exported, which wait for storage, though
	// not for long.
	applying chan struct{} // holds one then
	units    map[unitKey]*exportedUnit
	targets  map[string]*exportedTarget
	// leaving are targets that are no more, as long as initiators are logged in: they
	// have been asked to log out, and may have something to write before.
	leaving []*exportedTarget
	open    map[string]bool // the targets that people were told to be anybody's
	ends    scsi.Endings    // of commands of units that targets have no more

	turns   atomic.Uint64
	setting sync.Mutex // held while what is wanted is replaced and kept
	latest  uint64     // the turn of what is wanted, guarded by setting

	mu      sync.Mutex
	want    *wantedExports       // replaced, never changed
	configs []iscsi.TargetConfig // what the server has
	told    string               // the targets that it has, as JSON; empty: not all that are wanted
	at      string               // where it listens
	fares   []ServedTarget
	missing bool // a unit is not there
	parting bool // some are leaving
	ending  bool // units are to be given up, on which commands have not ended
}

// wantedExports are what core wants exported.
type wantedExports struct {
	Version int            `json:"version"`
	Enabled bool           `json:"enabled"`
	Targets []block.Target `json:"targets"`
}

const wantedVersion = 1

// A unitKey is what a logical unit is made of; targets that show the same share it.
type unitKey struct {
	volume string
	cd     bool
}

type exportedUnit struct {
	*scsi.Unit
	release func()
}

type exportedTarget struct {
	*scsi.Target
	name  string
	units map[uint16]*scsi.Unit
}

// show gives a target its units. Those that it has no more must not be released
// before over.
func (e *exports) show(t *exportedTarget, units map[uint16]*scsi.Unit) {
	if !maps.Equal(t.units, units) {
		e.ends = append(e.ends, t.SetUnits(units)...)
		t.units = units
	}
}

// over waits for the commands of units that targets had, though not for long, and
// says whether they have all ended.
func (e *exports) over() bool {
	ctx, cancel := context.WithTimeout(context.Background(), e.endLimit)
	defer cancel()
	if e.ends.Wait(ctx) != nil {
		return false
	}
	e.ends = nil
	return true
}

// openExports begins to export what the last core wanted.
func openExports(o exportsOptions) (*exports, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, reservations), 0o700); err != nil {
		return nil, err
	}
	if err := errors.Join(atomicfile.Clean(o.Dir), atomicfile.Clean(filepath.Join(o.Dir, reservations))); err != nil {
		return nil, fmt.Errorf("leftovers of a crash: %w", err)
	}
	e := &exports{
		opt: o, wake: make(chan struct{}, 1), units: make(map[unitKey]*exportedUnit), targets: make(map[string]*exportedTarget),
		applying: make(chan struct{}, 1), open: make(map[string]bool), want: new(wantedExports), endLimit: endLimit,
	}
	e.server = iscsi.New(iscsi.Options{Memory: commandMemory, Log: o.Log, Report: func(severity host.Severity, kind, message string) {
		o.Report(Event{Severity: severity, Kind: kind, Message: message})
	}})
	e.sweepReservations()
	text, err := os.ReadFile(filepath.Join(o.Dir, exportsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		err = json.Unmarshal(text, e.want)
	}
	if err == nil && e.want.Version != wantedVersion {
		err = fmt.Errorf("version %d is not known", e.want.Version)
	}
	if err != nil {
		// Core tells them again.
		e.want = new(wantedExports)
		o.Report(Event{Severity: Warning, Kind: "iscsi.failed", Message: fmt.Sprintf("What iSCSI is to export cannot be read: %v.", err)})
	}
	e.apply()
	return e, nil
}

// set exports other targets, or none; when it returns nil that is kept, and done.
// What nobody may use any more is refused before anything that may take long: storage
// that does not answer, or a card that is slow, holds up no revocation.
func (e *exports) set(enabled bool, targets []block.Target) error {
	return e.setInTurn(e.turn(), enabled, targets)
}

// turn is the place of a change among all: they count in the order in which they came,
// also where their goroutines run in another.
func (e *exports) turn() uint64 { return e.turns.Add(1) }

func (e *exports) setInTurn(turn uint64, enabled bool, targets []block.Target) error {
	want := &wantedExports{wantedVersion, enabled, targets}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	e.setting.Lock()
	if turn < e.latest {
		e.setting.Unlock()
		return errBusy // a later change has overtaken it; who wanted this one is gone
	}
	e.latest = turn
	e.mu.Lock()
	e.want = want
	e.restrict()
	e.mu.Unlock()
	if !enabled {
		e.look()
	}
	path := filepath.Join(e.opt.Dir, exportsFile)
	if old, rerr := os.ReadFile(path); rerr != nil || string(old) != string(text) {
		// The secrets are in it.
		if err = atomicfile.Write(path, text, 0o600); err != nil {
			err = fmt.Errorf("what iSCSI exports cannot be kept: %w", err)
		}
	}
	e.setting.Unlock()
	select {
	case e.applying <- struct{}{}:
	case <-time.After(applyLimit):
		e.look()
		return errors.Join(err, errWaiting)
	}
	e.applyLocked()
	<-e.applying
	e.look() // only now: who comes finds all targets
	return err
}

// look has run look at whether to listen.
func (e *exports) look() {
	select {
	case e.wake <- struct{}{}:
	default: // it is to look already
	}
}

// restrict leaves of what the server has only what is wanted, as it is wanted now;
// apply adds the rest. The caller holds mu.
func (e *exports) restrict() {
	wanted := make(map[string]block.Target)
	if e.want.Enabled {
		for _, t := range e.want.Targets {
			wanted[t.Name] = t
		}
	}
	var rest []iscsi.TargetConfig
	for _, c := range e.configs {
		if t, ok := wanted[c.Name]; ok {
			rest = append(rest, iscsi.TargetConfig{Target: t, SCSI: c.SCSI})
		}
	}
	e.configs, e.told = rest, ""
	e.server.SetTargets(rest)
}

// apply makes what is exported what is wanted, as far as the volumes are there.
func (e *exports) apply() {
	e.applying <- struct{}{}
	defer func() { <-e.applying }()
	e.applyLocked()
}

func (e *exports) applyLocked() {
	e.mu.Lock()
	now := e.want
	e.mu.Unlock()
	want := *now
	if !want.Enabled {
		want.Targets = nil
	}
	e.tellOpen(want.Targets)
	failed := e.openUnits(want.Targets)
	used := make(map[*scsi.Unit]bool)
	fares := []ServedTarget{}
	var configs []iscsi.TargetConfig
	targets := make(map[string]*exportedTarget, len(want.Targets))
	units := make(map[string]map[uint16]*scsi.Unit, len(want.Targets))
	missing := false
	for _, t := range want.Targets {
		fare := ServedTarget{Name: t.Name}
		luns := make(map[uint16]*scsi.Unit)
		for _, l := range t.LUNs {
			key := unitKey{l.Volume, l.CD}
			unit := e.units[key]
			if unit == nil {
				missing = true
				fare.Failed = strings.TrimPrefix(fare.Failed+fmt.Sprintf("; LUN %d: %v", l.Number, failed[key]), "; ")
				continue
			}
			used[unit.Unit] = true
			luns[l.Number] = unit.Unit
		}
		fare.Failed = told(fare.Failed)
		fares = append(fares, fare)
		target := e.targets[t.Name]
		if target == nil {
			target = &exportedTarget{Target: scsi.NewTarget(t.Name, portalGroup), name: t.Name}
		}
		targets[t.Name], units[t.Name] = target, luns
		configs = append(configs, iscsi.TargetConfig{Target: t, SCSI: target.Target})
	}
	// New targets have their units before anybody may log in; those of targets that
	// go are given up when nobody can use them any more.
	for name, t := range targets {
		e.show(t, units[name])
	}
	e.mu.Lock()
	// If something else is wanted meanwhile, who wants it applies it next.
	if text, err := json.Marshal(want.Targets); e.want == now && (err != nil || string(text) != e.told) {
		e.server.SetTargets(configs)
		e.configs, e.told = configs, string(text)
	}
	e.mu.Unlock()
	for name, t := range e.targets {
		if targets[name] == nil {
			e.leaving = append(e.leaving, t)
		}
	}
	e.targets = targets
	sessions := e.server.Sessions()
	e.leaving = slices.DeleteFunc(e.leaving, func(t *exportedTarget) bool {
		if want.Enabled && slices.ContainsFunc(sessions, func(s block.Session) bool { return s.Target == t.name }) {
			for _, u := range t.units {
				used[u] = true
			}
			return false
		}
		e.show(t, nil)
		return true
	})
	over := e.over()
	for key, u := range e.units {
		if !used[u.Unit] && over {
			u.Close()
			u.release()
			delete(e.units, key)
		}
	}
	e.mu.Lock()
	e.fares, e.missing, e.parting, e.ending = fares, missing, len(e.leaving) > 0, !over
	e.mu.Unlock()
	e.opt.Changed()
}

// tellOpen tells people, once, of targets that anybody may use who reaches the port.
func (e *exports) tellOpen(targets []block.Target) {
	open := make(map[string]bool)
	for _, t := range targets {
		if len(t.Initiators) > 0 || t.CHAP.User != "" || len(t.LUNs) == 0 {
			continue
		}
		open[t.Name] = true
		if !e.open[t.Name] {
			e.opt.Report(Event{Severity: Warning, Kind: "iscsi.open", Message: fmt.Sprintf("Anybody who reaches the iSCSI port may use the target %s: it has neither initiators nor chap.", t.Name)})
		}
	}
	e.open = open
}

// maxOpening is how many volumes are opened at a time: each may wait for a server.
const maxOpening = 64

// openUnits makes the logical units that are missing, as far as the volumes are there,
// and says why not.
func (e *exports) openUnits(targets []block.Target) (failed map[unitKey]error) {
	missing := make(map[unitKey]bool)
	for _, t := range targets {
		for _, l := range t.LUNs {
			if key := (unitKey{l.Volume, l.CD}); e.units[key] == nil {
				missing[key] = true
			}
		}
	}
	failed = make(map[unitKey]error)
	var mu sync.Mutex // guards failed and units
	var tasks sync.WaitGroup
	slots := make(chan struct{}, maxOpening)
	for key := range missing {
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			u, err := e.newUnit(key)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[key] = err
				return
			}
			e.units[key] = u
		})
	}
	tasks.Wait()
	return failed
}

// newUnit makes the logical unit of a volume.
func (e *exports) newUnit(key unitKey) (*exportedUnit, error) {
	disk, release, err := e.opt.Volumes.Use(key.volume)
	if err != nil {
		return nil, err
	}
	o := scsi.UnitOptions{Disk: disk, CD: key.cd, Vendor: "nitrino", Product: "disk", Revision: "1", Log: e.opt.Log}
	var u *scsi.Unit
	if key.cd {
		o.Product = "cd-rom"
		u, err = scsi.NewUnit(o)
	} else {
		u, err = e.newDiskUnit(o)
	}
	if err != nil {
		release()
		return nil, err
	}
	return &exportedUnit{u, release}, nil
}

// without calls f while a volume is not exported, unless an initiator is logged in
// that has it.
func (e *exports) without(name string, f func() error) error {
	e.applying <- struct{}{}
	defer func() { <-e.applying }()
	for _, s := range e.server.Sessions() {
		if slices.Contains(s.Volumes, name) {
			return fmt.Errorf("%w: %s is logged in at %s", volume.ErrInUse, s.Initiator, s.Target)
		}
	}
	for _, t := range e.targets {
		rest := maps.Clone(t.units)
		maps.DeleteFunc(rest, func(_ uint16, u *scsi.Unit) bool { return e.isOf(u, name) })
		e.show(t, rest)
	}
	if !e.over() {
		e.applyLocked()
		return errWaiting
	}
	for key, u := range e.units {
		if key.volume == name {
			u.Close()
			u.release()
			delete(e.units, key)
		}
	}
	err := f()
	e.applyLocked()
	return err
}

func (e *exports) isOf(u *scsi.Unit, name string) bool {
	for _, cd := range []bool{false, true} {
		if x := e.units[unitKey{name, cd}]; x != nil && x.Unit == u {
			return true
		}
	}
	return false
}

// run listens while iSCSI is enabled, and mends what is exported, until ctx ends.
func (e *exports) run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { e.mend(ctx) })
	for {
		e.mu.Lock()
		enabled := e.want.Enabled
		e.mu.Unlock()
		if enabled {
			serving, stop := context.WithCancel(ctx)
			var served sync.WaitGroup
			served.Go(func() { e.listen(serving) })
			for enabled && ctx.Err() == nil {
				select {
				case <-e.wake:
				case <-ctx.Done():
				}
				e.mu.Lock()
				enabled = e.want.Enabled
				e.mu.Unlock()
			}
			stop()
			served.Wait()
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
			return
		}
	}
}

// mend exports what was missing once there are other volumes, and gives up what
// nobody is logged in for any more.
func (e *exports) mend(ctx context.Context) {
	for {
		volumes, sessions := e.opt.Volumes.Changed(), e.server.Changed()
		e.mu.Lock()
		again := e.missing || e.parting || e.ending
		e.mu.Unlock()
		if again {
			e.apply()
		}
		select {
		case <-time.After(applyLimit): // commands that end tell nobody here
		case <-volumes:
		case <-sessions:
		case <-ctx.Done():
			return
		}
	}
}

// listen serves until ctx ends. Where the port cannot be had that is tried again.
func (e *exports) listen(ctx context.Context) {
	wait := firstListen
	failing := false
	for ctx.Err() == nil {
		var c net.ListenConfig
		l, err := c.Listen(ctx, "tcp", e.opt.Address)
		if err == nil {
			if failing {
				e.opt.Report(Event{Severity: OK, Kind: "iscsi.restored", Message: "Disks are exported by iSCSI again."})
			}
			failing, wait = false, firstListen
			e.listens(l.Addr().String())
			err = e.server.Serve(ctx, l)
			e.listens("")
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			failing = true
			e.opt.Report(Event{Severity: Critical, Kind: "iscsi.failed", Message: fmt.Sprintf("Disks cannot be exported by iSCSI: %v.", err)})
		}
		pause(ctx, wait)
		wait = min(2*wait, lastListen)
	}
}

func (e *exports) listens(at string) {
	e.mu.Lock()
	e.at = at
	e.mu.Unlock()
	e.opt.Changed()
}

// address is where it listens; empty: it does not.
func (e *exports) address() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

// served says how the targets fare.
func (e *exports) served() []ServedTarget {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.fares
}

func (e *exports) sessions() []block.Session { return e.server.Sessions() }

// changed is closed when the sessions change.
func (e *exports) changed() <-chan struct{} { return e.server.Changed() }

// close gives up all volumes. Nobody is served any more.
func (e *exports) close() {
	e.applying <- struct{}{}
	defer func() { <-e.applying }()
	for _, t := range slices.AppendSeq(e.leaving, maps.Values(e.targets)) {
		e.show(t, nil)
	}
	_ = e.ends.Wait(context.Background()) // which does not end
	for _, u := range e.units {
		u.Close()
		u.release()
	}
	e.targets, e.leaving, e.units = nil, nil, nil
}
