// Uinit is nitrino on a board. The kernel's init starts it as the parent, which
// mounts the card, feeds the watchdog and runs two children, the same program
// again: core, which talks to the world, and disk, which a host's disks hang on.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	// The image has no certificates of authorities; without any, no server that
	// images, updates or events come from or go to over https could be verified.
	_ "golang.org/x/crypto/x509roots/fallback"
	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/rpi"
	"github.com/nitrino/nitrino/board/virt"
)

// version is the software's and built when it was made (RFC 3339, or seconds
// since 1970); the build sets both (-ldflags -X).
var (
	version = "0.1.0"
	built   = ""
)

// self is the program that runs.
const self = "/proc/self/exe"

// Memory in bytes: the soft limits of the Go heaps.
const (
	parentMemory = 16 << 20
	coreMemory   = 64 << 20
	diskMemory   = 48 << 20
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var process string
	if len(os.Args) > 1 {
		process = os.Args[1]
	}
	log := newLog(process)
	var err error
	switch process {
	case "core":
		c := newCore(log)
		c.ethernet = anyEthernet
		var made time.Time
		if made, err = buildTime(built); err != nil {
			log.Error("when this was built is not known", "error", err)
		}
		c.run.Clock = &bmc.Clock{Built: made}
		err = c.main(ctx, os.NewFile(3, "parent"))
	case "disk":
		err = runDisk(ctx, os.NewFile(3, "parent"), fmt.Sprintf(":%d", portISCSI), log)
	default:
		err = runParent(ctx, log)
	}
	if err != nil {
		log.Error("ends", "error", err)
		os.Exit(1)
	}
}

// newBoard answers the board of a name that board.Detect gave; nil for "".
func newBoard(name string, log *slog.Logger) (bmc.Board, error) {
	switch name {
	case "":
		return nil, nil
	case board.Pi:
		return rpi.New(log), nil
	case board.Virt:
		return virt.New(log), nil
	}
	return nil, fmt.Errorf("%q: %w", name, board.ErrUnknown)
}

// runParent runs the board until it is restarted. It returns only when that
// fails, or where the kernel's init is not the one that it is made for.
func runParent(ctx context.Context, log *slog.Logger) error {
	debug.SetMemoryLimit(parentMemory)
	if err := os.WriteFile(kmsgRate, []byte("on\n"), 0); err != nil {
		log.Warn("the kernel's log leaves lines out", "error", err)
	}
	log.Info("starts", "version", version, "built", built)
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		log.Warn("the kernel's order of killing could not be set", "error", err)
	}
	child := func(name string, memory int64, oom int) role {
		return role{name: name, command: []string{self, name}, memory: memory, oom: oom}
	}
	s := &system{log: log, root: "/"}
	s.parent = newParent(child("core", coreMemory, 0), child("disk", diskMemory, -900), log)
	running, err := runningSlot(s.root)
	if err != nil {
		log.Error("which system runs is not known", "error", err)
	}
	s.slot = running
	s.parent.onTrial = func() bool { return running.onTrial }
	s.floorClock()
	w, err := openWatchdog(watchdogPath)
	if err != nil {
		s.parent.note(bmc.Event{Severity: bmc.Warning, Kind: "watchdog.missing", Message: fmt.Sprintf("The hardware's watchdog cannot be used: %v.", err)})
	}
	if w != nil {
		s.parent.watchdog = w
	}

	begin := make(chan start, 1)
	background, cancel := context.WithCancel(context.Background())
	s.tasks.Go(func() {
		begin <- s.setUp(background)
		s.grow()
		s.keep(background)
	})
	arg := s.parent.run(ctx, begin)
	cancel()
	return s.restart(arg)
}

// restart ends everything on the card and restarts the board.
func (s *system) restart(arg string) error {
	// Not waited for without end: growing the file system may take long, and
	// ext4 makes good for what is cut.
	waited := make(chan struct{})
	go func() { s.tasks.Wait(); close(waited) }()
	select {
	case <-waited:
		s.leave()
	case <-time.After(cardLimit):
		s.log.Warn("the card is still being worked on")
	}
	unix.Sync()
	if s.board != nil {
		if err := s.board.Restart(arg); err != nil {
			s.log.Error("the board was not told how to restart", "error", err)
		}
	}
	s.log.Info("restarts", "argument", arg)
	if arg == "" {
		return os.NewSyscallError("reboot", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	}
	return restart2(arg)
}

// leave keeps what the next start needs and lets go of the card.
func (s *system) leave() {
	var errs []error
	if s.onCard {
		errs = append(errs, keepTime(permDir))
		if s.bootID != "" {
			errs = append(errs, keepBootID(permDir, s.bootID, bootAgain))
		}
	}
	for _, dir := range []string{permDir, cardDir} {
		err := unix.Unmount(dir, 0)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
		if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: nothing is mounted
			errs = append(errs, fmt.Errorf("%s: %w", dir, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Error("leaving the card", "error", err)
	}
}

// modelOf is how the device tree calls the board.
func modelOf(root string) string {
	model, err := board.DeviceTree(root, "model")
	if errors.Is(err, fs.ErrNotExist) {
		return "unknown"
	}
	return strings.TrimSpace(model)
}
