// Package bmc assembles the services of a board from its settings and parts.
// It is the only package that knows them all.
package bmc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/clock"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/atomicfile"
	"github.com/nitrino/nitrino/internal/ipc"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/internal/supervise"
	"github.com/nitrino/nitrino/network"
)

// ErrReset is what Run returns when somebody reset the BMC: everything is to
// be opened and run again. The host is not touched.
var ErrReset = errors.New("the BMC was reset")

// Options are what Open needs.
type Options struct {
	// Dir is where everything lives that outlives a restart; it is made if it
	// is not there.
	Dir string
	// Card is the owner's bmc.json; empty: there is none.
	Card string
	// Defaults are the settings below the card's; nil: Defaults of this package.
	Defaults func() Settings
	// CheckWires says whether the board has the lines that the settings name;
	// nil: it is not asked.
	CheckWires func(board.Wires) error
	// Serial is the board's serial number; the IPMI secrets are sealed to it,
	// so that the card alone does not open them.
	Serial string
	// Pin keeps the state in memory, so that it can be read after the card is
	// gone.
	Pin bool
	// Simulated: the board is a simulator's, on loopback; short passwords do.
	Simulated bool
	// Version is the software's.
	Version string
	Log     *slog.Logger
}

// LastGoodDir below Options.Dir has the last good copies of the settings.
const LastGoodDir = "last-good"

// A BMC is one board's software.
type BMC struct {
	// Users, Settings and Events are open from Open to Close. Disks are what the
	// disk process has, as long as Run runs.
	Users    *auth.Auth
	Settings *SettingsStore
	Events   *host.Events
	Disks    *Disks

	opt   Options
	log   *slog.Logger
	db    *store.Store
	trial *trial
	// IPMI's LAN channel: who may use it, and its key.
	channel *lanChannel
	key     *channelKeys
	reset   chan struct{} // gets one when Run is to end with ErrReset
}

// Open opens what is kept in the folder, which one process at a time may do.
// Close it in the end.
func Open(o Options) (b *BMC, err error) {
	if o.Defaults == nil {
		o.Defaults = Defaults
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	b = &BMC{opt: o, log: o.Log, reset: make(chan struct{}, 1)}
	b.channel = &lanChannel{b: b, wake: make(chan struct{}, 1)}
	// The store comes first: its lock keeps a second process away from all
	// that is in the folder.
	var damage error
	b.db, damage, err = openStore(filepath.Join(o.Dir, stateFile), o.Pin)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	if err := atomicfile.Clean(o.Dir); err != nil {
		return nil, fmt.Errorf("leftovers of a crash: %w", err)
	}
	if err := b.takeDefaults(); err != nil {
		return nil, err
	}
	if b.Events, err = host.OpenEvents(b.db, o.Log); err != nil {
		return nil, err
	}
	if damage != nil {
		b.Events.Add(host.Event{Severity: host.Critical, Kind: "state.damaged",
			Message: fmt.Sprintf("The saved state was damaged and is kept aside; users, events and the power state begin anew: %v.", damage)})
	}
	set, lost, err := b.openSettings()
	if err != nil {
		return nil, err
	}
	b.trial = &trial{
		db: b.db, settings: set, changed: b.changedFile(), events: b.Events, log: o.Log,
		loopback: o.Simulated, wake: make(chan struct{}, 1),
	}
	b.Settings = &SettingsStore{set, b.trial}
	b.Disks = newDisks(b.Events, o.Log, b.Settings)
	if lost {
		if err := b.Disks.hold(); err != nil {
			return nil, err
		}
	}
	key, err := auth.SealKey(o.Dir, o.Serial, b.keyDamaged)
	if err != nil {
		return nil, err
	}
	if b.key, err = openKeys(b.db, key, b.Events); err != nil {
		return nil, err
	}
	b.Users, err = auth.Open(auth.Options{
		Store: b.db, SealKey: key, Log: o.Log, Report: b.audit,
		Lockout: auth.Lockout(b.Settings.Get().Lockout), ShortSecrets: o.Simulated,
		LoggedIn: b.trial.loggedIn,
	})
	return b, err
}

// openStore opens the state. A damaged file is kept aside and a new one begun:
// a board that does not start for a bad sector is worth less than one that
// forgot its users.
func openStore(path string, pin bool) (db *store.Store, damage, err error) {
	open := store.Open
	if pin {
		open = store.OpenPinned
	}
	db, err = open(path)
	if !errors.Is(err, store.ErrDamaged) {
		return db, nil, err
	}
	damage = err
	if err := os.Rename(path, path+".bad"); err != nil {
		return nil, nil, errors.Join(damage, err)
	}
	db, err = open(path)
	return db, damage, err
}

// openSettings says also whether a file could not be used and had no good copy.
func (b *BMC) openSettings() (_ *settings.Store[Settings], lost bool, _ error) {
	set, err := settings.Open(settings.Options[Settings]{
		Defaults: b.opt.Defaults,
		Version:  SettingsVersion,
		Layers: []settings.Layer{
			{Name: cardLayer, Path: b.opt.Card, ReadOnly: true},
			{Name: permLayer, Path: filepath.Join(b.opt.Dir, permName)},
		},
		Changed:  b.changedFile(),
		LastGood: filepath.Join(b.opt.Dir, LastGoodDir),
		Validate: func(s *Settings) error { return validate(s, b.opt.CheckWires) },
		Log:      b.log,
		Report: func(p settings.Problem) {
			lost = lost || p.InForce == ""
			b.Events.Add(host.Event{Severity: host.Critical, Kind: "settings.bad", Message: p.String()})
		},
	})
	return set, lost, err
}

// The files of the settings, and the names of their layers.
const (
	cardLayer   = "card"
	permLayer   = "perm"
	permName    = "bmc.json"
	changedName = "changed.json"
)

// changedFile is where the settings keep what an API changed.
func (b *BMC) changedFile() string { return filepath.Join(b.opt.Dir, changedName) }

// Close ends what Open opened.
func (b *BMC) Close() error {
	var errs []error
	if b.Users != nil {
		errs = append(errs, b.Users.Close())
	}
	return errors.Join(append(errs, b.db.Close())...)
}

// keepLimit is how long Keep waits for the card.
const keepLimit = 3 * time.Second

// Keep adds an event that another process hands over, and returns when it is on
// the card: that process may forget it, even if this one is killed now. It waits
// for a few seconds, and not at all for a card that does not work; the event is
// written when that can be. It fails only when ctx ends before.
func (b *BMC) Keep(ctx context.Context, e Event) error { return keep(ctx, b.Events, e) }

func keep(ctx context.Context, events *host.Events, e Event) error {
	events.Add(e)
	limited, cancel := context.WithTimeout(ctx, keepLimit)
	defer cancel()
	if err := events.Flush(limited); err != nil {
		return ctx.Err() // else the log's writer tells what is wrong, and goes on
	}
	return nil
}

// audit turns a line of the audit trail into an event.
func (b *BMC) audit(r auth.Report) {
	b.Events.Add(host.Event{Severity: host.Severity(r.Level), Kind: r.Kind, Message: r.Message,
		Origin: host.Origin{Via: r.Via, User: r.User, Source: r.Source}})
}

// keyDamaged makes an event of a key file that had to be replaced.
func (b *BMC) keyDamaged(message string) {
	b.Events.Add(host.Event{Severity: host.Critical, Kind: "key.damaged", Message: message})
}

// Addresses say where the services answer (host:port), empty where one does
// not run.
type Addresses struct {
	HTTPS, SSH, IPMI string
}

// A Run is what Run needs besides the BMC.
type Run struct {
	Parts host.Parts
	// Address and the ports say where to listen; an empty address is all of the
	// board's, port 0 takes a free one.
	Address          string
	HTTPS, SSH, IPMI int
	// Network: the board has addresses of its own to manage; nil: others do.
	Network *Network
	// Clock: the machine's clock is the board's to set; nil: it is not.
	Clock *Clock
	// Disk waits for the next connection to the disk process; nil: there is no
	// such process.
	Disk func(context.Context) (*ipc.Conn, error)
	// SetHostName takes the board's name, at the start and when it changes; nil:
	// nobody wants it.
	SetHostName func(string) error
	// Ready is called once when every enabled service listens.
	Ready func(Addresses)
}

// keys are the board's own.
type keys struct {
	tls *auth.Certificate
	ssh gossh.Signer
}

// Run runs the host and the services until ctx ends, and returns when all have
// ended. It fails when a service cannot begin to listen; one that fails later
// is started again. ErrReset means that Close, Open and Run are wanted again.
func (b *BMC) Run(ctx context.Context, r Run) error {
	gen := b.Settings.Generation() // before Get: no change in between is missed
	now := b.channel.apply(b.Settings.Get())
	ctx, cancel := context.WithCancelCause(ctx)
	group := supervise.New(b.log, func(s supervise.Report) {
		severity := host.Warning
		if s.State == supervise.Running {
			severity = host.OK
		}
		b.Events.Add(host.Event{Severity: severity, Kind: "service." + string(s.State), Message: reportText(s)})
	})
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() {
		select {
		case <-b.reset:
			cancel(ErrReset)
		case <-ctx.Done():
		}
	})
	err := b.serve(ctx, r, gen, now, group)
	limit, done := context.WithTimeout(context.Background(), 15*time.Second)
	defer done()
	return errors.Join(err, group.Close(limit))
}

// serve starts all services in the group, and follows the settings, which were
// now at gen, until ctx ends.
func (b *BMC) serve(ctx context.Context, r Run, gen uint64, now Settings, group *supervise.Group) error {
	// The log is started first, so that it ends last; then the network, which
	// has to wait for others while the rest is prepared.
	if err := group.Start("events", b.Events.Run); err != nil {
		return err
	}
	var net *network.Manager
	var err error
	if r.Network != nil {
		if net, err = b.newNetwork(*r.Network, now); err != nil {
			return err
		}
		if err := group.Start("network", net.Run); err != nil {
			return err
		}
		if err := b.trial.begin(net); err != nil {
			b.notApplied(err) // the network is what it is
		}
		if err := group.Start("network-trial", b.trial.run); err != nil {
			return err
		}
	}
	times := b.newClock(r.Clock, now, net)
	if err := group.Start("clock", times.Run); err != nil {
		return err
	}
	names := []string{now.HostName}
	if r.Address != "" { // else all, which are not known yet
		names = append(names, r.Address)
	}
	var k keys
	if k.tls, err = auth.OpenCertificate(b.opt.Dir, names, time.Now, b.audit); err != nil {
		return err
	}
	if k.ssh, err = auth.SSHHostKey(b.opt.Dir, b.keyDamaged); err != nil {
		return err
	}
	if r.SetHostName == nil {
		r.SetHostName = func(string) error { return nil }
	}
	if err := errors.Join(b.giveKeys(now.SSHKeys), r.SetHostName(now.HostName)); err != nil {
		b.notApplied(err) // no reason not to start
	}
	h, err := host.New(r.Parts, host.Options{Store: b.db, Events: b.Events, Log: b.log, Power: now.Power,
		SaveRestorePolicy: func(p host.RestorePolicy, from host.Origin) error {
			return b.changer().Set("power.restore_policy", string(p), from)
		}})
	if err != nil {
		return err
	}
	w := web{b: b, host: h, keys: k, run: r, net: net, clock: times, ports: &ports{}}
	services, err := b.services(w, group)
	if err != nil {
		return err
	}
	if err := group.Start("host", h.Run); err != nil {
		return err
	}
	if r.Disk != nil {
		if err := group.Start("disk", func(ctx context.Context) error { return b.Disks.run(ctx, r.Disk) }); err != nil {
			return err
		}
	}
	var at Addresses
	for _, s := range services {
		if err := s.begin(group, now, &at); err != nil {
			return err
		}
	}
	w.ports.set(at)
	b.Events.Add(host.Event{Kind: "bmc.started", Message: fmt.Sprintf("nitrino %s is up.", b.opt.Version)})
	r.Ready(at)
	return b.follow(ctx, gen, now, group, h, net, times, services, r.SetHostName)
}

// follow applies each change of the settings since gen, when they were now,
// until ctx ends.
func (b *BMC) follow(ctx context.Context, gen uint64, now Settings, group *supervise.Group, h *host.Host, net *network.Manager, times *clock.Clock, services []*service, setHostName func(string) error) error {
	for {
		next, err := b.changes(ctx, gen)
		if errors.Is(context.Cause(ctx), ErrReset) {
			return ErrReset
		}
		if err != nil {
			return nil // ctx's end is how Run ends
		}
		gen = next
		last := now
		now = b.channel.apply(b.Settings.Get())
		if !now.Wires.Equal(last.Wires) || now.Serial != last.Serial || !now.Sensors.Equal(last.Sensors) {
			b.Events.Add(host.Event{Kind: "settings.pending", Message: "The wires or sensors were changed; the change takes effect when the BMC is reset or started again."})
		}
		errs := []error{h.Power.Configure(now.Power), b.Users.Configure(auth.Lockout(now.Lockout)), b.giveKeys(now.SSHKeys)}
		times.Configure(now.Time)
		if now.HostName != last.HostName {
			errs = append(errs, setHostName(now.HostName))
		}
		for _, s := range services {
			errs = append(errs, s.apply(group, now))
		}
		if net != nil {
			if !now.Network.Equal(last.Network) {
				pause(ctx, answerTime)
			}
			errs = append(errs, net.Configure(now.Network, now.HostName))
		}
		if err := errors.Join(errs...); err != nil {
			b.notApplied(err)
		}
	}
}

// answerTime is how long the answer to who changed the network has to get out:
// it may be that the way it came by is about to go.
const answerTime = 500 * time.Millisecond

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// changes waits until there is something to follow: a change of the settings
// since gen, or of what lies over them. It answers their generation.
func (b *BMC) changes(ctx context.Context, gen uint64) (uint64, error) {
	limited, cancel := context.WithCancel(ctx)
	var woken sync.WaitGroup
	defer woken.Wait()
	defer cancel()
	woken.Go(func() {
		select {
		case <-b.channel.wake:
			cancel()
		case <-limited.Done():
		}
	})
	next, err := b.Settings.Wait(limited, gen)
	if ctx.Err() == nil {
		err = nil // woken
	}
	return next, err
}

// kindNotApplied is the event of settings that are not in force.
const kindNotApplied = "settings.not-applied"

func (b *BMC) notApplied(err error) {
	b.Events.Add(host.Event{Severity: host.Warning, Kind: kindNotApplied, Message: fmt.Sprintf("Not all settings could be applied: %v.", err)})
}

// Where the SSH keys of the settings are remembered that admin was given.
const (
	bmcBucket = "bmc"
	sshKeys   = "ssh_keys"
)

// giveKeys gives the user admin the SSH keys of the settings, and takes away
// those that were given before and are no longer there. Keys given on the
// console stay.
func (b *BMC) giveKeys(keys []string) error {
	u, ok := b.Users.User(auth.FirstUser)
	if !ok {
		return nil
	}
	var given []string
	if _, err := b.db.GetJSON(bmcBucket, sshKeys, &given); err != nil {
		return err
	}
	if slices.Equal(given, keys) {
		return nil
	}
	all := slices.DeleteFunc(slices.Clone(u.Keys), func(k string) bool { return slices.Contains(given, k) && !slices.Contains(keys, k) })
	for _, k := range keys {
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	if err := b.Users.SetKeys(u.Name, all, auth.Attempt{}); err != nil {
		return fmt.Errorf("ssh_keys: %w", err)
	}
	return b.db.PutJSON(bmcBucket, sshKeys, keys)
}
