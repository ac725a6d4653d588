// Bmcsim runs a board's services, what serves its disks too, in one process, on
// loopback, in front of a simulated machine: a QEMU, or plain Go values.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/sim"
	"github.com/nitrino/nitrino/internal/control"
	"github.com/nitrino/nitrino/internal/readyline"
)

// version is the software's; the build sets it (-ldflags -X).
var version = "0.1.0"

func main() {
	began := time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, began, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "bmcsim: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	dir, addr, password, host, config string
	base                              int
	verbose                           bool
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bmcsim", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.dir, "dir", "", "`folder` for everything that outlives a restart (default: a temporary one)")
	f.IntVar(&o.base, "base", 20000, "`number` added to each well-known port")
	f.StringVar(&o.addr, "addr", "127.0.0.1", "`address` to listen on")
	f.StringVar(&o.password, "password", "", "password and IPMI secret of the user admin (default: random)")
	f.StringVar(&o.host, "host", "qemu", "the managed machine: qemu or fake")
	f.StringVar(&o.config, "config", "", "settings `file` (bmc.json), as on a card")
	f.BoolVar(&o.verbose, "v", false, "log everything")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.base < 0 || o.base+5900 > 65535:
		return o, fmt.Errorf("-base %d: want 0 to %d", o.base, 65535-5900)
	case o.host != "qemu" && o.host != "fake":
		return o, fmt.Errorf("-host %q: want qemu or fake", o.host)
	}
	return o, nil
}

// run is the whole program; it ends with ctx.
func run(ctx context.Context, began time.Time, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "bmcsim-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	dir, err := control.Lock(o.dir, "bmcsim")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if o.config != "" {
		if _, err := os.Stat(o.config); err != nil {
			return fmt.Errorf("-config: %w", err)
		}
	}
	machine, err := newMachine(ctx, o, log)
	if err != nil {
		return err
	}
	defer func() {
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = errors.Join(err, machine.close(limit))
	}()
	ctl, err := control.Listen(dir, machine.do, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ctl.Close()) }()

	disk, err := newDisk(o.dir, net.JoinHostPort(o.addr, strconv.Itoa(o.base+3260)), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.close()) }()

	ready := false
	for {
		err := once(ctx, o, machine, disk, log, func(r readyline.Line) error {
			if ready {
				return nil // the BMC was reset; who waits for the line has it
			}
			ready = true
			r.ReadyMS = time.Since(began).Milliseconds()
			return r.Print(stdout, stderr)
		})
		if !errors.Is(err, bmc.ErrReset) {
			return err
		}
	}
}

// once runs the BMC's software from start to end or reset.
func once(ctx context.Context, o options, m machine, d *disk, log *slog.Logger, ready func(readyline.Line) error) (err error) {
	b, err := bmc.Open(bmc.Options{
		Dir: o.dir, Card: o.config, Version: version, Log: log, Simulated: true,
		Defaults:   func() bmc.Settings { return defaults(o.host) },
		CheckWires: func(w board.Wires) error { _, err := m.Parts(w); return err },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	// A real board hands its first login out once; the simulator keeps it
	// beside its state, for the script that starts it again.
	login, err := b.Login(filepath.Join(o.dir, "login.json"), o.password)
	if err != nil {
		return err
	}
	parts, err := m.Parts(b.Settings.Get().Wires)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = b.Run(ctx, bmc.Run{
		Parts: parts, Address: o.addr, HTTPS: o.base + 443, SSH: o.base + 22, IPMI: o.base + 623,
		Disk: d.connect,
		Ready: func(a bmc.Addresses) {
			line := newLine(a, login)
			line.ISCSI = iscsiAt(ctx, b)
			if err := ready(line); err != nil {
				cancel(err) // nobody reads the line: nobody can use this
			}
		},
	})
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func newLine(a bmc.Addresses, l bmc.Login) readyline.Line {
	r := readyline.Line{SSH: a.SSH, IPMI: a.IPMI, User: l.User, Password: l.Password, IPMIPassword: l.IPMIPassword}
	if a.HTTPS != "" {
		r.Redfish = "https://" + a.HTTPS
	}
	return r
}

// settleLimit is how long the volumes of the settings are waited for.
const settleLimit = 10 * time.Second

// iscsiAt waits for the volumes of the settings, and says where they are exported;
// empty: nowhere.
func iscsiAt(ctx context.Context, b *bmc.BMC) string {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		changed := b.Disks.Changed()
		at := b.Disks.State().Health.ISCSI
		if b.Disks.Settled() && (at != "" || !b.Settings.Get().ISCSI.Enabled) {
			return at
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return at // events say why
		}
	}
}

// disk0 is the volume that a simulated board has at first, and its size in bytes.
const (
	disk0     = "disk0"
	disk0Size = 64 << 20
)

// defaults are the settings of a simulated board: every wire and service, and a
// volume that whoever reaches the simulator may use.
func defaults(host string) bmc.Settings {
	s := bmc.Defaults()
	s.HostName = "bmcsim"
	s.Wires = sim.Wires()
	s.IPMI.Enabled = true
	s.Volumes = []bmc.VolumeSettings{{Name: disk0, Size: disk0Size}}
	s.ISCSI.Enabled = true
	s.ISCSI.Targets = append(s.ISCSI.Targets, bmc.TargetOf(disk0))
	if host == "fake" {
		// Its light blinks with 1 Hz; scripts wait for it often.
		s.Power.BlinkWindow = 600 * time.Millisecond
	}
	return s
}

// A machine is the simulated host, with the hands of who stands in front of it.
type machine struct {
	*sim.Harness
	close func(context.Context) error
}

func newMachine(ctx context.Context, o options, log *slog.Logger) (machine, error) {
	if o.host == "fake" {
		f, err := sim.NewFake(sim.DefaultFake(), log)
		if err != nil {
			return machine{}, err
		}
		return machine{f.Harness, f.Close}, nil
	}
	q, err := sim.NewQEMU(ctx, sim.QEMUConfig{Dir: filepath.Join(o.dir, "host")}, log)
	if err != nil {
		return machine{}, err
	}
	return machine{q.Harness, q.Close}, nil
}
