package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/qmp"
)

// QEMUConfig says which host is emulated. Dir is needed, the rest has
// defaults.
type QEMUConfig struct {
	Header
	// Dir holds sockets, log, demo disk and what else must outlive a
	// restart. One QEMU object at a time can use it.
	Dir string
	// Binary is the emulator; empty: qemu-system-x86_64 on the PATH.
	Binary string
	// Machine is "pc" (the default) or "q35".
	Machine string
	// Accel is "tcg" (the default: software, works everywhere) or "kvm".
	Accel string
	// Memory is in MiB; 0: 128.
	Memory int
	// Disk is the host's disk image and DiskFormat its format ("raw" if
	// empty); without Disk there is a demo disk, which boots in a second.
	Disk, DiskFormat string
	// Netdev is what the network card is plugged into: the value of QEMU's
	// -netdev without its id; sockets may be named from Dir. Empty: a network
	// of its own that leads nowhere.
	Netdev string
	// Args are added to QEMU's arguments.
	Args []string
}

const (
	qmpLimit   = 10 * time.Second // for one command, on a busy computer
	quitLimit  = time.Second      // for QEMU to end when asked, before it is killed
	reachLimit = 5 * time.Second  // for a QEMU found running to answer
)

// QEMU is a machine emulated by qemu-system-x86_64. The process is the power:
// it runs while the machine is on. It is no child that ends with its parent:
// it goes on when the parent is killed, and the next NewQEMU on the same Dir
// takes it over.
type QEMU struct {
	*Harness
	cfg  QEMUConfig
	dir  *os.File // open and locked; sockets are reached through it
	log  *slog.Logger
	con  *console
	cd   *drive
	usb  *drive
	wait sync.WaitGroup // one for each process that is watched

	mu   sync.Mutex
	proc *process // nil while off
	left bool     // Detach: what ends now is only the connection

	booting sync.Mutex // held to say what the next boot uses, to start and to insert
	target  host.BootTarget
}

// NewQEMU prepares the machine. It is off, unless a QEMU from an earlier
// object with the same Dir still runs: that one is taken over. End it with
// Close.
func NewQEMU(ctx context.Context, cfg QEMUConfig, log *slog.Logger) (*QEMU, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(cfg.Dir)
	if err != nil {
		return nil, err
	}
	q := &QEMU{cfg: cfg, dir: dir, log: log, target: host.BootDefault}
	if err := q.prepare(ctx); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return q, nil
}

func (q *QEMU) prepare(ctx context.Context) error {
	if err := syscall.Flock(int(q.dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use by another process: %w", q.cfg.Dir, err)
	}
	if q.cfg.Disk == "" {
		q.cfg.Disk, q.cfg.DiskFormat = filepath.Join(q.cfg.Dir, "demo.img"), "raw"
		if err := writeDemoDisk(q.cfg.Disk); err != nil {
			return err
		}
	}
	id, err := bootID(q.cfg.Dir)
	if err != nil {
		return err
	}
	q.Harness, err = newHarness(q, q.cfg.Header, q.log)
	if err != nil {
		return err
	}
	q.con = newConsole(q.typing, q.serialBreak)
	q.console, q.boot = q.con, q
	q.identity = host.Identity{Manufacturer: "nitrino", Model: "Simulated board, QEMU host", BootID: id}
	q.cd = &drive{q: q, kind: host.MediumCD, node: cdID + "-medium", socket: cdSocket}
	q.usb = &drive{q: q, kind: host.MediumDisk, node: usbID + "-medium", socket: usbSocket}
	q.drives = driveParts(q.cd, q.usb)
	q.hardware = q.cfg.hardware()
	if err := q.adopt(ctx); err != nil {
		q.stop()
		return err
	}
	return nil
}

// Close ends the machine, waits until its process is gone, and ends this
// power-up of the board.
func (q *QEMU) Close(ctx context.Context) error {
	q.stop()
	if err := q.kill(ctx); err != nil {
		return errors.Join(err, q.dir.Close())
	}
	q.wait.Wait()
	q.release()
	q.clean()
	return errors.Join(dropBootID(q.cfg.Dir), q.dir.Close())
}

// Detach leaves the machine running, as a kill -9 of the board's software
// does. It is for tests.
func (q *QEMU) Detach() error {
	q.stop()
	q.mu.Lock()
	q.left = true
	proc := q.proc
	q.mu.Unlock()
	if proc != nil {
		proc.disconnect()
	}
	q.wait.Wait()
	q.release()
	return q.dir.Close()
}

// release ends the serving of media, and waits for its end.
func (q *QEMU) release() {
	for _, d := range []*drive{q.cd, q.usb} {
		d.Release()
		d.settle()
		if err := q.remove(d.socket); err != nil {
			q.log.Warn("cleaning up after a medium", "error", err)
		}
	}
}

// Execute runs a QMP command and decodes its answer into result unless that
// is nil. It answers host.ErrNoPower while the machine is off and *qmp.Error
// where QEMU refuses.
func (q *QEMU) Execute(ctx context.Context, command string, args, result any) error {
	proc := q.process()
	if proc == nil {
		return host.ErrNoPower
	}
	ctx, cancel := context.WithTimeout(ctx, qmpLimit)
	defer cancel()
	err := proc.qmp.Execute(ctx, command, args, result)
	if err == nil {
		return nil
	}
	select {
	case <-proc.qmp.Done():
		return fmt.Errorf("%w: %w", host.ErrNoPower, err) // it ended meanwhile
	default:
		return err
	}
}

func (q *QEMU) process() *process {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.proc
}

// Targets implements host.BootSelector. There is no firmware setup to enter.
func (q *QEMU) Targets() []host.BootTarget {
	return []host.BootTarget{host.BootPXE, host.BootDisk, host.BootCD, host.BootUSB}
}

// SelectBoot implements host.BootSelector. It puts one device first; the
// others stay behind it, as in a PC's BIOS. SeaBIOS reads the order at each
// reset, so a running machine needs no restart of QEMU.
func (q *QEMU) SelectBoot(ctx context.Context, t host.BootTarget, m host.BootMode) error {
	if err := checkBoot(t, m, false); err != nil {
		return err
	}
	q.booting.Lock()
	defer q.booting.Unlock()
	q.target = t
	order := bootOrder(t)
	// QEMU refuses an index that another device has, so all are freed first.
	for _, free := range []bool{true, false} {
		for i, id := range order {
			if free {
				i = -1
			}
			args := map[string]any{"path": "/machine/peripheral/" + id, "property": "bootindex", "value": i}
			err := q.Execute(ctx, "qom-set", args, nil)
			if refusal, ok := errors.AsType[*qmp.Error](err); ok && id == usbID && refusal.Class == noDevice {
				continue // it is not plugged in
			}
			if errors.Is(err, host.ErrNoPower) {
				return nil // the next start has the order
			}
			if err != nil {
				return fmt.Errorf("boot order: %w", err)
			}
		}
	}
	return nil
}

// start implements machine.
func (q *QEMU) start(ctx context.Context) error {
	if q.process() != nil {
		return errors.New("QEMU runs already")
	}
	// Held to the end: what is told of the next boot meanwhile is for the one
	// after this.
	q.booting.Lock()
	defer q.booting.Unlock()
	proc, err := q.launch(ctx, q.target)
	if err != nil {
		return err
	}
	q.own(proc)
	for _, d := range []*drive{q.cd, q.usb} {
		if err := d.connect(ctx); err != nil {
			// A machine without its medium is better than none.
			q.log.Warn("QEMU: a medium cannot be put in", "node", d.node, "error", err)
		}
	}
	// The firmware is given the boot order at a reset, and what was plugged in
	// has its place there.
	err = q.Execute(ctx, "system_reset", nil, nil)
	if err == nil {
		err = q.Execute(ctx, "cont", nil, nil)
	}
	if err != nil {
		return errors.Join(err, q.kill(ctx))
	}
	return nil
}

// own makes proc the machine's process.
func (q *QEMU) own(proc *process) {
	q.mu.Lock()
	q.proc = proc
	q.mu.Unlock()
	q.started()
	q.wait.Add(1)
	go q.watch(proc)
}

// watch feeds the console until proc ends, and sees it off.
func (q *QEMU) watch(proc *process) {
	defer q.wait.Done()
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		buf := make([]byte, 4096)
		for {
			n, err := proc.serial.Read(buf)
			q.con.output(buf[:n])
			if err != nil {
				return // the port ends with the process, which QMP tells
			}
		}
	}()
	<-proc.qmp.Done()
	q.mu.Lock()
	left := q.left
	q.mu.Unlock()
	if left {
		<-pumped
		return
	}
	if err := proc.reap(); err != nil && !proc.cut.Load() {
		q.log.Warn("QEMU", "error", err, "output", q.lastOutput())
	}
	proc.disconnect()
	<-pumped
	q.mu.Lock()
	q.proc = nil
	q.mu.Unlock()
	close(proc.gone)
	q.stopped()
}

// event takes QMP events.
func (q *QEMU) event(name string, data []byte) {
	q.log.Debug("QEMU", "event", name, "data", string(data))
	switch name {
	case "RESET":
		q.restarted()
	case "SUSPEND":
		q.sleeps(true)
	case "WAKEUP":
		q.sleeps(false)
	case "DEVICE_TRAY_MOVED":
		q.cd.trayMoved(data)
	}
}

// powerButton, wake, reset, nmi and kill implement machine. A machine that
// went off meanwhile has nothing to do.

func (q *QEMU) powerButton(ctx context.Context) error { return q.try(ctx, "system_powerdown") }
func (q *QEMU) wake(ctx context.Context) error        { return q.try(ctx, "system_wakeup") }
func (q *QEMU) reset(ctx context.Context) error       { return q.try(ctx, "system_reset") }
func (q *QEMU) nmi(ctx context.Context) error         { return q.try(ctx, "inject-nmi") }

func (q *QEMU) try(ctx context.Context, command string) error {
	err := q.Execute(ctx, command, nil, nil)
	if errors.Is(err, host.ErrNoPower) {
		return nil
	}
	return err
}

// kill ends the process: by QMP, and by a signal where that takes too long.
func (q *QEMU) kill(ctx context.Context) error {
	proc := q.process()
	if proc == nil {
		return nil
	}
	proc.cut.Store(true)
	quit, cancel := context.WithTimeout(ctx, quitLimit)
	defer cancel()
	// Whether quit was answered says nothing: what counts is that it is gone.
	_ = proc.qmp.Execute(quit, "quit", nil, nil)
	select {
	case <-proc.gone:
		return nil
	case <-quit.Done():
	}
	if err := proc.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("killing QEMU: %w", err)
	}
	select {
	case <-proc.gone:
		return nil
	case <-time.After(qmpLimit): // a killed process goes, whatever ctx says
		return errors.New("QEMU was killed and is still there")
	}
}

func (q *QEMU) reboot(ctx context.Context) error { return q.Execute(ctx, "system_reset", nil, nil) }
func (q *QEMU) shutdown(ctx context.Context) error {
	return q.Execute(ctx, "system_powerdown", nil, nil)
}
func (q *QEMU) sleep(context.Context) error {
	return fmt.Errorf("only the guest can suspend itself: %w", errors.ErrUnsupported)
}

// typing gives input to the machine's UART. A UART does not wait for a guest
// that does not read: what QEMU has no room for within a second is lost.
func (q *QEMU) typing(p []byte) error {
	proc := q.process()
	if proc == nil {
		return nil
	}
	if err := proc.serial.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return nil // the process is ending
	}
	if n, err := proc.serial.Write(p); err != nil && !errors.Is(err, net.ErrClosed) {
		q.log.Debug("serial input lost", "bytes", len(p)-n, "error", err)
	}
	return nil
}

func (q *QEMU) serialBreak(ctx context.Context) error {
	err := q.Execute(ctx, "chardev-send-break", map[string]string{"id": serialID}, nil)
	if errors.Is(err, host.ErrNoPower) {
		return nil // the wire does not tell
	}
	return err
}
