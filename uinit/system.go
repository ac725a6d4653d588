package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/board"
)

// keepTimeEvery is how often the time is kept: what a power cut may take from
// the clock, and how long a card that cannot be written to stays unnoticed.
const keepTimeEvery = 5 * time.Minute

// A system is what the parent knows of the machine that it runs on.
type system struct {
	log    *slog.Logger
	root   string // holds /proc, /sys and /dev
	parent *parent
	slot   slot
	tasks  sync.WaitGroup

	// setUp fills these; who reads them has waited for it.
	board  bmc.Board // nil: none that is known
	disk   disk      // the zero disk: no card
	onCard bool      // /perm is on the card
	bootID string
}

// floorClock sets the clock to when the software was made, if it is earlier.
func (s *system) floorClock() {
	t, err := buildTime(built)
	if err == nil {
		err = notBefore(t)
	}
	if err != nil {
		s.log.Error("the clock was not set", "error", err)
	}
}

// setUp finds the board and the card and mounts it. It fails in nothing: what is
// not there is an event.
func (s *system) setUp(ctx context.Context) start {
	var sides sync.WaitGroup
	var name string
	sides.Go(func() { name = s.findBoard() })
	s.mountCard(ctx)
	sides.Wait()
	return start{Board: name, BootID: s.bootID, Perm: permDir, Spare: spareDir, Card: cardDir}
}

// findBoard answers the board's name; empty: none that is known.
func (s *system) findBoard() string {
	name, err := board.Detect(s.root)
	if err == nil {
		s.board, err = newBoard(name, s.log)
	}
	if err != nil {
		s.parent.note(bmc.Event{Severity: bmc.Critical, Kind: "board.unknown", Message: fmt.Sprintf("No wire can be used: %v.", err)})
		return ""
	}
	s.log.Info("board found", "board", name, "model", modelOf(s.root))
	chip, err := s.board.Chip()
	if err != nil {
		s.parent.note(bmc.Event{Severity: bmc.Critical, Kind: "gpio.missing", Message: fmt.Sprintf("The board's own lines cannot be used: %v.", err)})
		return name
	}
	s.log.Info("GPIO chip found", "label", chip)
	return name
}

// mountCard mounts the card's partitions, or memory in place of /perm.
func (s *system) mountCard(ctx context.Context) {
	s.bootID = rand.Text()
	for _, dir := range []string{permDir, spareDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			s.log.Error("a folder is missing", "error", err)
		}
	}
	var err error
	kind := "perm.missing"
	s.disk, err = findCard(ctx, cardLimit)
	if err == nil {
		s.log.Info("card found", "device", s.disk.path)
		if err := s.disk.mountBoot(); err != nil {
			s.parent.note(bmc.Event{Severity: bmc.Critical, Kind: "card.damaged", Message: fmt.Sprintf("The card's settings cannot be read: %v.", err)})
		} else if e, tell := s.slot.event(cardDir); tell {
			s.parent.note(e)
		}
		if err = s.disk.mountPerm(); err != nil && !errors.Is(err, errNoPerm) {
			kind = "perm.damaged"
		}
	}
	if err != nil {
		s.parent.note(bmc.Event{Severity: bmc.Critical, Kind: kind,
			Message: fmt.Sprintf("Nothing can be kept on the card: %v. What is changed now is lost with the power.", err)})
		if err := mountMemory(); err != nil {
			s.log.Error("the root file system is used in place of /perm", "error", err)
		}
		return
	}
	s.onCard = true
	s.log.Info("card mounted")
	last, err := lastTime(permDir)
	if err == nil {
		err = notBefore(last)
	}
	if err != nil {
		s.log.Error("the last known time", "error", err)
	}
	if s.bootID, err = takeBootID(permDir, whyStarted(s.root), s.bootID); err != nil {
		s.parent.note(bmc.Event{Severity: bmc.Warning, Kind: "perm.failed", Message: fmt.Sprintf("Whether the board was without power is not known: %v.", err)})
	}
}

// grow gives /perm the rest of the card.
func (s *system) grow() {
	if !s.onCard {
		return
	}
	before := sizeOf(permDir)
	size, err := growPerm(s.disk.path, s.disk.perm, permDir)
	switch {
	case err != nil:
		s.parent.note(bmc.Event{Severity: bmc.Warning, Kind: "perm.not-grown", Message: fmt.Sprintf("The card is not used to its end: %v.", err)})
	case sizeOf(permDir) > before:
		s.parent.note(bmc.Event{Kind: "perm.grown", Message: fmt.Sprintf("The card's last partition has %d MiB now.", size>>20)})
	}
}

// sizeOf is a file system's size in bytes, 0 where it cannot be told.
func sizeOf(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0
	}
	return int64(s.Blocks) * s.Bsize
}

// keep keeps the boot ID, and the time until ctx ends; it tells when that fails.
func (s *system) keep(ctx context.Context) {
	if !s.onCard {
		return
	}
	if whyStarted(s.root) != causeUnknown {
		// Only a board that knows a reset from a power-up asks for it again.
		if err := keepBootID(permDir, s.bootID, ""); err != nil {
			s.log.Error("the boot ID", "error", err)
		}
	}
	tick := time.NewTicker(keepTimeEvery)
	defer tick.Stop()
	failing := false
	for {
		err := keepTime(permDir)
		if err != nil && !failing && !errors.Is(err, unix.ENOSPC) {
			s.parent.note(bmc.Event{Severity: bmc.Critical, Kind: "perm.failed",
				Message: fmt.Sprintf("The card cannot be written to: %v. What is changed now is lost with the power.", err)})
		}
		if err == nil && failing {
			s.parent.note(bmc.Event{Kind: "perm.restored", Message: "The card can be written to again."})
		}
		failing = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// restart2 is reboot(2) with an argument, which the firmware gets.
func restart2(arg string) error {
	p, err := unix.BytePtrFromString(arg)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall6(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_RESTART2, uintptr(unsafe.Pointer(p)), 0, 0)
	return os.NewSyscallError("reboot", errno)
}
