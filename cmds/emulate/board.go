package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/nitrino/nitrino/cmds/emulate/firmware"
)

// A board is the power of the board and its firmware: it runs QEMU while there
// is power, and reads the card anew at each reset.
type board struct {
	o        options
	wires    *wires
	chips    *chips
	log      *slog.Logger
	requests chan mains
	cables   chan cable
	initrds  []byte        // of -initrd
	linked   chan struct{} // closed once a guest has brought its network up
	link     func()        // closes it
}

// mains asks for power, or for none.
type mains struct {
	on   bool
	done chan struct{} // closed when it is so
}

// cable asks for the cable of the management network to be in, or not.
type cable struct {
	in   bool
	done chan error
}

func newBoard(o options, w *wires, c *chips, log *slog.Logger) (*board, error) {
	b := &board{o: o, wires: w, chips: c, log: log, requests: make(chan mains), cables: make(chan cable), linked: make(chan struct{})}
	b.link = sync.OnceFunc(func() { close(b.linked) })
	info, err := os.Stat(o.card)
	if err != nil {
		return nil, fmt.Errorf("-card: %w", err)
	}
	if n := info.Size(); n == 0 || n&(n-1) != 0 {
		return nil, fmt.Errorf("-card %s: it has %d bytes; QEMU's SD cards have sizes that are powers of two", o.card, n)
	}
	for _, name := range o.initrds {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("-initrd: %w", err)
		}
		b.initrds = join(b.initrds, content)
	}
	if o.record != "" {
		if err := os.WriteFile(o.record, nil, 0o600); err != nil {
			return nil, fmt.Errorf("-record: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(o.dir, bootDir), 0o700); err != nil {
		return nil, err
	}
	return b, os.WriteFile(filepath.Join(o.dir, serialLog), nil, 0o600)
}

// join puts one archive behind another, at the multiple of four bytes where the
// kernel looks for it (Documentation/driver-api/early-userspace/buffer-format.rst).
func join(a, b []byte) []byte {
	for len(a)%4 != 0 {
		a = append(a, 0)
	}
	return append(a, b...)
}

// mains switches the board's power, and returns when it is so.
func (b *board) mains(ctx context.Context, on bool) error {
	r := mains{on, make(chan struct{})}
	select {
	case b.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// plug puts the cable of the management network in, or pulls it, and returns
// when it is so; a board without power finds it so later.
func (b *board) plug(ctx context.Context, in bool) error {
	c := cable{in, make(chan error, 1)}
	select {
	case b.cables <- c:
		return <-c.done
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run is the board from its first power-up until ctx ends.
func (b *board) run(ctx context.Context) error {
	// QEMU ends with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	power := true
	var told firmware.Reboot
	for ctx.Err() == nil {
		if !power {
			power = b.dark(ctx)
			told = firmware.Reboot{}
			continue
		}
		boot, err := b.load(ctx, told)
		if errors.Is(err, firmware.ErrNothing) {
			b.log.Error("the board does not start", "error", err, "hint", "change the card, or restore its power")
			power = b.stuck(ctx)
			told = firmware.Reboot{}
			continue
		}
		if err == nil {
			power, told, err = b.power(ctx, boot)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// dark is a board without power. It returns when the power is back.
func (b *board) dark(ctx context.Context) (power bool) {
	for {
		select {
		case <-ctx.Done():
			return false
		case c := <-b.cables:
			b.o.unplugged = !c.in
			c.done <- nil
		case r := <-b.requests:
			close(r.done)
			if r.on {
				return true
			}
		}
	}
}

// stuck is a board whose firmware found nothing: it tries a card that changes.
func (b *board) stuck(ctx context.Context) (power bool) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	before := b.changed()
	for {
		select {
		case <-ctx.Done():
			return false
		case c := <-b.cables:
			b.o.unplugged = !c.in
			c.done <- nil
		case r := <-b.requests:
			close(r.done)
			return r.on
		case <-look.C:
			if b.changed() != before {
				return true
			}
		}
	}
}

// changed is when the card last did; the zero time where there is none.
func (b *board) changed() time.Time {
	info, err := os.Stat(b.o.card)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// load is the firmware: it reads the card, and leaves what it starts in files.
func (b *board) load(ctx context.Context, told firmware.Reboot) (*firmware.Boot, error) {
	disk, err := os.Open(b.o.card)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", firmware.ErrNothing, err)
	}
	defer func() { _ = disk.Close() }() // it was only read
	info, err := disk.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", firmware.ErrNothing, err)
	}
	boot, passed, err := firmware.Read(disk, info.Size(), told, model(b.o.machine))
	for _, reason := range passed {
		b.log.Warn("firmware: passed over", "reason", reason)
	}
	if err != nil {
		return nil, err
	}
	b.log.Info("firmware: starts", "partition", boot.Partition, "tryboot", boot.Tryboot, "told", told.Partition)
	boot.Initramfs = join(boot.Initramfs, b.initrds)
	for name, content := range map[string][]byte{"kernel": boot.Kernel, "initramfs": boot.Initramfs, "dtb": boot.DeviceTree} {
		if err := os.WriteFile(filepath.Join(b.o.dir, bootDir, name), content, 0o600); err != nil {
			return nil, err
		}
	}
	return boot, b.overlay(ctx, boot.Overlays)
}

// overlay applies the overlays to the device tree. One that does not fit is left
// out, as the Pi's firmware does.
func (b *board) overlay(ctx context.Context, overlays []firmware.Overlay) error {
	tree := filepath.Join(b.o.dir, bootDir, "dtb")
	for _, o := range overlays {
		file := filepath.Join(b.o.dir, bootDir, "overlay")
		if err := os.WriteFile(file, o.Content, 0o600); err != nil {
			return err
		}
		output, err := exec.CommandContext(ctx, "fdtoverlay", "-i", tree, "-o", tree+".new", file).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("a device-tree overlay (Debian package device-tree-compiler): %w", err)
		}
		if err != nil {
			b.log.Warn("firmware: an overlay does not fit", "overlay", o.Name, "error", err, "output", string(output))
			continue
		}
		if err := os.Rename(tree+".new", tree); err != nil {
			return err
		}
	}
	return nil
}

// power runs QEMU from one reset to the next, or until the power is gone. It
// returns whether there is power then, and what the firmware is told.
func (b *board) power(ctx context.Context, boot *firmware.Boot) (bool, firmware.Reboot, error) {
	p, err := launch(ctx, b.o, boot, b.wires, b.chips, b.link, b.log)
	if err != nil {
		return true, firmware.Reboot{}, err
	}
	defer p.kill()
	restored := false
	var bite, look <-chan time.Time
	if boot.Watchdog > 0 && b.o.machine == virt {
		bite = time.After(boot.Watchdog)
		t := time.NewTicker(boot.Watchdog / 8)
		defer t.Stop()
		look = t.C
	}
	for {
		select {
		case <-ctx.Done():
			p.quit()
			return false, firmware.Reboot{}, nil
		case c := <-b.cables:
			b.o.unplugged = !c.in
			c.done <- p.plug(ctx, c.in)
		case r := <-b.requests:
			if r.on {
				// A board that is just switching itself off is to start again.
				restored = p.execute(ctx, "query-status", nil, nil) != nil
				close(r.done)
				continue
			}
			p.kill()
			b.log.Info("the board's power is cut")
			close(r.done)
			return false, firmware.Reboot{}, nil
		case <-look:
			switch taken, err := p.watched(ctx); {
			case err != nil:
				b.log.Debug("the watchdog", "error", err)
			case taken:
				b.log.Debug("the kernel has taken the watchdog over")
				bite, look = nil, nil
			}
		case <-bite:
			b.log.Warn("firmware: the kernel did not take the watchdog over", "after", boot.Watchdog)
			return true, firmware.Reboot{Partition: boot.WatchdogPartition}, nil
		case <-p.done:
			switch end, told := p.outcome(); end {
			case reset:
				b.log.Info("the board is reset")
				return true, told, nil
			case off:
				b.log.Info("the board has switched itself off; restore starts it")
				return restored, firmware.Reboot{}, nil
			default:
				return false, firmware.Reboot{}, fmt.Errorf("QEMU has ended: %s", lastOutput(b.o))
			}
		}
	}
}
