// Emulate boots a card image in QEMU as the board, and plays everything around
// the board: the firmware that reads the card, the wires to a host, and a hand
// at the mains.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nitrino/nitrino/board/sim"
	"github.com/nitrino/nitrino/internal/control"
)

func main() {
	began := time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, began, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "emulate: %v\n", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	card, dir, machine, host, record, words string
	initrds, qemu                           []string
	unplugged                               bool // the cable of the network; the control socket changes it
	addr                                    netip.Addr
	base                                    int
	verbose                                 bool
}

// maxPort is the highest of the well-known ports: VNC's.
const maxPort = 5900

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("emulate", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.card, "card", "", "the card's image `file`, which is written to")
	f.StringVar(&o.dir, "dir", "", "`folder` for serial.log, the control socket and the host (default: a temporary one)")
	f.IntVar(&o.base, "base", 20000, "`number` added to each well-known port")
	f.StringVar(&o.machine, "machine", virt, "the board: virt or raspi3b")
	f.StringVar(&o.host, "host", "", "the managed machine: pc, q35 or none (default: pc; raspi3b: none)")
	f.StringVar(&o.record, "record", "", "`file` for a log of all writes to the card (QEMU's blklogwrites)")
	f.Func("initrd", "`file` to add to the initramfs; may be repeated", func(s string) error {
		o.initrds = append(o.initrds, s)
		return nil
	})
	f.Func("qemu", "`argument` to add to those of the board's QEMU; may be repeated", func(s string) error {
		o.qemu = append(o.qemu, s)
		return nil
	})
	f.StringVar(&o.words, "append", "", "`words` to add to the kernel's command line")
	addr := f.String("addr", "127.0.0.1", "IPv4 `address` where the board's services answer")
	f.BoolVar(&o.verbose, "v", false, "log everything")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.addr, err = netip.ParseAddr(*addr)
	if o.host == "" {
		o.host = "pc"
		if o.machine != virt {
			o.host = "none"
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.card == "":
		return o, errors.New("-card is missing: the image to boot, as mkcard makes it")
	case o.base < 0 || o.base+maxPort > 65535:
		return o, fmt.Errorf("-base %d: want 0 to %d", o.base, 65535-maxPort)
	case !slices.Contains([]string{virt, raspi3b}, o.machine):
		return o, fmt.Errorf("-machine %q: want %s or %s", o.machine, virt, raspi3b)
	case !slices.Contains([]string{"none", "pc", "q35"}, o.host):
		return o, fmt.Errorf("-host %q: want none, pc or q35", o.host)
	case o.machine != virt && o.host != "none":
		return o, fmt.Errorf("-host %s: QEMU's %s has no wires that reach outside", o.host, o.machine)
	case err != nil || !o.addr.Is4():
		return o, fmt.Errorf("-addr %q: want an IPv4 address", *addr)
	case strings.ContainsAny(o.words, "\n\x00"):
		return o, errors.New("-append: the kernel's command line is one line")
	}
	// QEMU runs in the folder, and finds these from anywhere.
	for _, p := range []*string{&o.card, &o.dir, &o.record} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// run is the whole program; it ends with ctx.
func run(ctx context.Context, began time.Time, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))

	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "emulate-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	}
	dir, err := control.Lock(o.dir, "emulate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()

	w := newWires(log)
	var h hands
	if o.host != "none" {
		q, err := sim.NewQEMU(ctx, sim.QEMUConfig{
			Dir: filepath.Join(o.dir, hostDir), Machine: o.host, Netdev: dgram(hostLink, filepath.Join("..", boardLink)),
		}, log)
		if err != nil {
			return fmt.Errorf("the host: %w", err)
		}
		defer func() {
			limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			err = errors.Join(err, q.Close(limit))
		}()
		h = q.Harness
		end, err := w.join(ctx, q.Harness)
		if err != nil {
			return err
		}
		defer end()
	}
	chips, err := newChips(o.dir, func() float64 { return watts(w, h) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, chips.close()) }()
	b, err := newBoard(o, w, chips, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var services sync.WaitGroup
	defer services.Wait()
	defer cancel(nil)
	c, err := control.Listen(dir, panel{ctx, b, w, chips, h}.do, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	services.Go(func() {
		line, err := probe(ctx, o, b.linked)
		if ctx.Err() != nil {
			return // the end came first
		}
		if err != nil {
			log.Warn("the board is ready", "error", err) // the line says what is known
		}
		line.ReadyMS = time.Since(began).Milliseconds()
		if err := line.Print(stdout, stderr); err != nil {
			cancel(err) // nobody reads the line: nobody can use this
		}
	})
	err = b.run(ctx)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}
