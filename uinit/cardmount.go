package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/internal/card"
)

// Where things are mounted, and how.
const (
	cardDir  = "/card"
	permDir  = "/perm"
	spareDir = "/run/perm"
	// cardLimit is how long the card may take to be found.
	cardLimit = 5 * time.Second
	// memorySize bounds what stands in for /perm.
	memorySize = "size=32m,mode=0700"

	cardFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	// What is on the boot partition is the owner's alone, secrets included.
	cardOptions = "umask=0077"
)

// A disk is a block device that is a card.
type disk struct {
	path string // of the whole
	boot string // of p1
	perm string // of p4; empty: there is none
}

// findCard waits for the card as long as needed.
func findCard(ctx context.Context, limit time.Duration) (disk, error) {
	u, err := openUevents()
	if err != nil {
		return disk{}, err
	}
	var found disk
	err = u.await(ctx, limit, func() error {
		var errs []error
		for _, c := range []struct{ path, between string }{{"/dev/mmcblk0", "p"}, {"/dev/mmcblk1", "p"}, {"/dev/mmcblk2", "p"}, {"/dev/vda", ""}} {
			d, err := newDisk(c.path, c.path+c.between)
			if err == nil {
				found = d
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	return found, errors.Join(err, u.Close())
}

// newDisk answers the card at path, whose partitions' paths are before and a
// number, if all can be opened. A device may be named a moment before that.
func newDisk(path, before string) (disk, error) {
	d := disk{path: path, boot: before + strconv.Itoa(card.BootPartition)}
	f, err := os.Open(path)
	if err != nil {
		return disk{}, err
	}
	m, err := readMBR(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return disk{}, fmt.Errorf("%s: %w", path, err)
	}
	parts := []string{d.boot}
	if m.hasPerm() {
		d.perm = before + strconv.Itoa(card.PermPartition)
		parts = append(parts, d.perm)
	}
	for _, path := range parts {
		f, err := os.Open(path)
		if err != nil {
			return disk{}, err
		}
		if err := f.Close(); err != nil {
			return disk{}, err
		}
	}
	return d, nil
}

// mountBoot mounts the boot partition, which only who changes it mounts for
// writing, and only for as long.
func (d disk) mountBoot() error {
	if err := os.MkdirAll(cardDir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(d.boot, cardDir, "vfat", cardFlags|unix.MS_RDONLY, cardOptions); err != nil {
		return fmt.Errorf("mounting %s: %w", d.boot, err)
	}
	return nil
}

// mountPerm mounts /perm and tries whether it can be written to.
func (d disk) mountPerm() error {
	if d.perm == "" {
		return errNoPerm
	}
	if err := unix.Mount(d.perm, permDir, "ext4", cardFlags, "errors=remount-ro"); err != nil {
		return fmt.Errorf("mounting %s: %w", d.perm, err)
	}
	if err := tryWriting(permDir); err != nil {
		return errors.Join(err, unix.Unmount(permDir, unix.MNT_DETACH))
	}
	return nil
}

// errNoPerm says that the card has no partition for /perm.
var errNoPerm = errors.New("the card has no partition for it")

// tryWriting fails where a file cannot be made. A full card passes: what is on
// it is worth more than what cannot be added.
func tryWriting(dir string) error {
	f, err := os.CreateTemp(dir, ".try-")
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// mountMemory makes /perm a file system in memory.
func mountMemory() error {
	if err := unix.Mount("nitrino", permDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, memorySize); err != nil {
		return fmt.Errorf("mounting a file system in memory: %w", err)
	}
	return nil
}

// writable makes the boot partition writable during f.
func writable(f func() error) (err error) {
	if err := unix.Mount("", cardDir, "", unix.MS_REMOUNT|cardFlags, cardOptions); err != nil {
		return fmt.Errorf("making %s writable: %w", cardDir, err)
	}
	defer func() { err = errors.Join(err, protect()) }()
	return f()
}

// protect makes the boot partition read-only, which writes what is left.
func protect() error {
	if err := unix.Mount("", cardDir, "", unix.MS_REMOUNT|unix.MS_RDONLY|cardFlags, cardOptions); err != nil {
		return fmt.Errorf("making %s read-only: %w", cardDir, err)
	}
	return nil
}
