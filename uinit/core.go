package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/internal/atomicfile"
	"github.com/nitrino/nitrino/internal/card"
	"github.com/nitrino/nitrino/internal/ipc"
)

// Where the services answer.
const (
	portHTTPS = 443
	portSSH   = 22
	portIPMI  = 623
)

// loginRetry is how soon a first login that could not be written is tried again.
const loginRetry = 30 * time.Second

// A core is the process that talks to the world.
type core struct {
	log *slog.Logger
	// boards makes the board of a name; nil is a board without wires.
	boards func(string, *slog.Logger) (bmc.Board, error)
	// writable makes the boot partition writable during a call.
	writable func(func() error) error
	// ethernet chooses the interface for managing where the board is not known;
	// nil: none is managed then.
	ethernet func() (string, error)
	// run says where to listen and what the system is told.
	run bmc.Run

	link    *link
	start   start
	board   bmc.Board
	events  chan handed // from the parent, for whoever has the log open
	told    bool        // the parent knows that this is ready
	onSpare bool        // the state lives in memory
}

// newCore makes the core process of a board.
func newCore(log *slog.Logger) *core {
	return &core{log: log, boards: newBoard, writable: writable, events: make(chan handed),
		run: bmc.Run{HTTPS: portHTTPS, SSH: portSSH, IPMI: portIPMI, SetHostName: func(name string) error {
			return os.NewSyscallError("sethostname", unix.Sethostname([]byte(name)))
		}}}
}

// resolvConf is where Go's resolver finds the name servers.
const resolvConf = "/etc/resolv.conf"

// anyEthernet names the first Ethernet interface there is.
func anyEthernet() (string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 && len(i.HardwareAddr) == 6 {
			return i.Name, nil
		}
	}
	return "", errors.New("there is no Ethernet interface")
}

// main runs until ctx ends or the parent is gone.
func (c *core) main(ctx context.Context, parent *os.File) (err error) {
	if c.link, err = newLink(parent); err != nil {
		return err
	}
	c.link.event = c.event
	return c.link.with(ctx, c.serve)
}

// A handed event is one of the parent's.
type handed struct {
	event bmc.Event
	kept  chan error // nil: it is on the card
}

// event hands an event of the parent to the log, and returns when it is kept.
func (c *core) event(ctx context.Context, m ipc.Message) error {
	h := handed{kept: make(chan error, 1)}
	if err := m.Into(&h.event); err != nil {
		return err
	}
	for {
		select {
		case c.events <- h:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := <-h.kept; err == nil {
			return nil
		}
		// A reset closed the log; the next one is about to be opened.
	}
}

// serve runs the services, anew after each reset, until ctx ends.
func (c *core) serve(ctx context.Context) error {
	var err error
	if c.start, err = c.link.start(ctx); err != nil {
		return err
	}
	if c.board, err = c.boards(c.start.Board, c.log); err != nil {
		return err
	}
	for {
		if err := c.once(ctx); !errors.Is(err, bmc.ErrReset) {
			return err
		}
		c.log.Info("the BMC was reset")
	}
}

// once runs the services from start to end or reset.
func (c *core) once(ctx context.Context) (err error) {
	b, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel(nil)
	tasks.Go(func() {
		for {
			select {
			case h := <-c.events:
				h.kept <- b.Keep(ctx, h.event)
			case <-ctx.Done():
				return
			}
		}
	})
	if err := c.login(b); err != nil {
		b.Events.Add(bmc.Event{Severity: bmc.Critical, Kind: "login.failed", Message: fmt.Sprintf("There is no administrator, and the first login cannot be written to the card: %v.", err)})
		tasks.Go(func() { c.loginLater(ctx, b) })
	}

	r := c.run
	if c.board != nil {
		set := b.Settings.Get()
		var broken []*board.WireError
		var closeParts func() error
		r.Parts, broken, closeParts = c.board.Open(set.Wires, set.Serial)
		defer func() { err = errors.Join(err, closeParts()) }()
		silent, closeSensors := c.board.OpenSensors(set.Sensors, &r.Parts)
		defer func() { err = errors.Join(err, closeSensors()) }()
		for _, w := range append(broken, silent...) {
			b.Events.Add(bmc.Event{Severity: bmc.Warning, Kind: "wire.failed", Message: fmt.Sprintf("A wire is left out: %v.", w)})
		}
		r.Parts.Identity = c.board.Identity()
		r.Network = &bmc.Network{Interface: c.board.Interface, ResolvConf: resolvConf}
	} else if c.ethernet != nil {
		r.Network = &bmc.Network{Interface: c.ethernet, ResolvConf: resolvConf}
	}
	r.Parts.Identity.BootID = c.start.BootID
	r.Disk = c.link.peer
	r.Ready = func(bmc.Addresses) {
		if c.told {
			return
		}
		c.told = true
		if err := c.link.conn.Tell(msgReady, nil, nil); err != nil {
			cancel(err)
		}
	}
	err = b.Run(ctx, r)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// open opens the state: on the card, or where that cannot be used, a copy in
// memory of what can be read.
func (c *core) open() (*bmc.BMC, error) {
	o := bmc.Options{
		Dir: c.start.Perm, Card: filepath.Join(c.start.Card, card.SettingsFile), Pin: true,
		Version: version, Log: c.log,
	}
	if c.board != nil {
		o.Serial, o.CheckWires = c.board.Identity().Serial, c.board.Check
		o.Defaults = func() bmc.Settings {
			s := bmc.Defaults()
			s.Wires = c.board.Wires()
			return s
		}
	}
	var why error
	if !c.onSpare {
		b, err := bmc.Open(o)
		if !mediumFailed(err) {
			return b, err
		}
		why, c.onSpare = err, true
		if err := salvage(c.start.Perm, c.start.Spare); err != nil {
			c.log.Error("not all of the state can be read", "error", err)
		}
	}
	o.Dir = c.start.Spare
	b, err := bmc.Open(o)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	if why != nil {
		b.Events.Add(bmc.Event{Severity: bmc.Critical, Kind: "perm.failed", Message: fmt.Sprintf("The card cannot be used: %v. What is changed now is lost with the power.", why)})
	}
	return b, nil
}

// mediumFailed says whether an error is the card's and not the software's.
func mediumFailed(err error) bool {
	for _, e := range []error{unix.ENOSPC, unix.EIO, unix.EROFS, unix.ENXIO, unix.EUCLEAN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// salvage copies the state, that is the files of a folder and those one below in
// the settings' folder of good copies. What an earlier core process has copied
// is newer than what is on the card.
func salvage(from, to string) error {
	entries, err := os.ReadDir(to)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return nil
	}
	var errs []error
	for _, pattern := range []string{"*", filepath.Join(bmc.LastGoodDir, "*")} {
		paths, err := filepath.Glob(filepath.Join(from, pattern))
		errs = append(errs, err)
		for _, path := range paths {
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				continue // what cannot be looked at cannot be copied
			}
			name, err := filepath.Rel(from, path)
			if err == nil {
				err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700)
			}
			var text []byte
			if err == nil {
				text, err = os.ReadFile(path)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, name), text, 0o600)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// login makes sure that somebody can get in: the first login goes to the boot
// partition, and nowhere else. One that is there already, and whose user is
// gone, is used again.
func (c *core) login(b *bmc.BMC) error {
	if b.Users.HasAdministrator() {
		return nil
	}
	path := filepath.Join(c.start.Card, card.LoginFile)
	if _, err := os.Stat(path); err == nil {
		if _, err := b.Login(path, ""); err == nil {
			b.Events.Add(bmc.Event{Severity: bmc.Warning, Kind: "login.restored", Message: "There was no administrator; the first login on the card's boot partition counts again."})
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := c.writable(func() error {
		if err := atomicfile.Clean(c.start.Card); err != nil {
			return err
		}
		_, err := b.Login(path, "")
		return err
	})
	if err == nil {
		b.Events.Add(bmc.Event{Kind: "login.created", Message: fmt.Sprintf("The first login is in the file %s on the card's boot partition.", card.LoginFile)})
	}
	return err
}

// loginLater tries again until there is a login or ctx ends.
func (c *core) loginLater(ctx context.Context, b *bmc.BMC) {
	tick := time.NewTicker(loginRetry)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := c.login(b)
		if err == nil {
			return
		}
		c.log.Warn("the first login", "error", err)
	}
}
