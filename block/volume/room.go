package volume

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
)

// maxReserve is what is kept free at most, in bytes, for the rest of the board:
// settings, events and descriptions have to be written on a card that is full of
// volumes too.
const maxReserve = 64 << 20

// A room is the file system that the volumes are on.
type room struct {
	dir    string
	statfs func(path string, st *unix.Statfs_t) error
	// since is how much disks have written since the last look, in bytes.
	since atomic.Int64
	// tight: the reserve is touched. Disks may not take more room then.
	tight atomic.Bool
	// full: the owner was told that there is none, when so many bytes were free.
	full   atomic.Bool
	fullAt atomic.Int64
}

// lookAfter is how much disks write between two looks for room, in bytes: so little
// that the reserve is hardly touched.
const lookAfter = maxReserve / 8

// space is how much room there is beyond the reserve, and how large the file
// system is. Bytes.
func (r *room) space() (free, size int64, err error) {
	var st unix.Statfs_t
	if err := r.statfs(r.dir, &st); err != nil {
		return 0, 0, fmt.Errorf("the room for volumes: %w", err)
	}
	size = int64(st.Blocks) * st.Bsize
	free = int64(st.Bavail)*st.Bsize - reserveOf(size)
	return max(free, 0), size, nil
}

// reserveOf is what is kept free on a file system of size bytes.
func reserveOf(size int64) int64 { return min(maxReserve, size/20) }

// need fails where there is no room for n bytes beyond the reserve.
func (r *room) need(n int64) error {
	free, _, err := r.space()
	if err == nil && n > free {
		err = fmt.Errorf("%w: %d MiB are needed, %d MiB are free", block.ErrNoSpace, (n+1<<20-1)>>20, free>>20)
	}
	return err
}

// Space tells how much room there is for volumes, and how large the file system
// is that they are on. Bytes.
func (s *Store) Space() (free, size int64, err error) { return s.room.space() }

// watchRoom looks whether disks may go on to take room.
func (s *Store) watchRoom() {
	free, size, err := s.room.space()
	if err != nil {
		s.opt.Log.Error("looking for room", "error", err)
		return
	}
	s.room.tight.Store(free == 0)
	// Only more than there was then is room again: it may be something else than the
	// file system's blocks that has come to its end.
	if free > s.room.fullAt.Load()+reserveOf(size)/4 && s.room.full.CompareAndSwap(true, false) {
		s.report(host.OK, "volume.full", "There is room for volumes again: %d MiB.", free>>20)
	}
}

// wrote counts what disks write, and looks for room from time to time.
func (s *Store) wrote(n int64) {
	if s.room.since.Add(n) >= lookAfter {
		s.room.since.Store(0)
		s.watchRoom()
	}
}

// full tells the owner, once until there is room again, that a volume found none.
func (s *Store) full(v *volume) {
	if s.room.full.Load() {
		return
	}
	free, _, err := s.room.space()
	if err != nil {
		free = 0 // watchRoom says why it cannot look
	}
	s.room.fullAt.Store(free)
	if s.room.full.CompareAndSwap(false, true) {
		s.mu.Lock()
		name := v.name
		s.mu.Unlock()
		s.report(host.Critical, "volume.full", "The volume %s finds no room to write to: its host sees errors until there is some.", name)
	}
}

// fullUpstream tells the owner that a volume's NBD server has no room.
func (s *Store) fullUpstream(v *volume) {
	s.mu.Lock()
	name := v.name
	s.mu.Unlock()
	s.report(host.Critical, "volume.full", "The NBD server of the volume %s has no room: its host sees errors until there is some.", name)
}
