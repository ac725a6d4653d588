package scsi

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/nitrino/nitrino/block"
)

// UnitOptions are what a logical unit is made of.
type UnitOptions struct {
	Disk *block.Disk
	// CD makes it a CD-ROM drive with the disk as its disc: read-only, in blocks of
	// 2048 bytes, of which the disk must have a whole number.
	CD bool
	// Removable makes a disk one whose medium can be ejected. A CD-ROM always is.
	Removable bool
	// Vendor, Product and Revision are at most 8, 16 and 4 bytes of ASCII.
	Vendor, Product, Revision string
	// Kept are the reservations that are to outlive a loss of power (APTPL), as Keep
	// got them last. Keep returns when that is so; empty: there are none any more.
	// With a nil Keep this is not offered.
	Kept []byte
	Keep func([]byte) error
	Log  *slog.Logger
}

// A Unit is a logical unit: one disk, as all targets that have it show it.
// Reservations, unit attentions and the task set are its own.
type Unit struct {
	o     UnitOptions
	disk  *block.Disk
	block int64 // bytes of a logical block
	table table
	stop  func()
	mode  mode

	tasks taskSet // whose mu guards what follows
	links map[*link]struct{}
	// reserver has a reservation by RESERVE.
	reserver  *link
	persist   reservations
	ejected   bool
	sanitizes bool
	// changes counts what may make a command conflict that did not when it came.
	changes atomic.Uint32
	// erasures counts SANITIZEs that began; modifying is held for reading over each
	// write, so that they can wait for those of before.
	erasures  atomic.Uint32
	modifying sync.RWMutex

	chunks      chan struct{} // holds one for each chunk in use: see verify.go
	registering sync.Mutex    // held by each PERSISTENT RESERVE OUT, also while it keeps
}

// A link is an I_T_L nexus: what a unit knows of an initiator that can reach it.
type link struct {
	nexus *Nexus
	unit  *Unit
	lun   uint16

	// Guarded by unit.tasks.mu.
	gone       bool
	attentions attentions
	prevents   bool // PREVENT ALLOW MEDIUM REMOVAL
	registered bool
	holder     bool
	copied     *copyStatus // what the last EXTENDED COPY did
}

// NewUnit makes a logical unit.
func NewUnit(o UnitOptions) (*Unit, error) {
	id := o.Disk.Identity()
	u := &Unit{o: o, disk: o.Disk, block: int64(id.BlockSize), links: make(map[*link]struct{}), chunks: make(chan struct{}, maxChunks)}
	if o.CD {
		u.block = discBlock
		u.o.Removable = true
		if discBlock%id.BlockSize != 0 || o.Disk.Size()%discBlock != 0 {
			return nil, fmt.Errorf("volume %s: %d bytes are no disc of whole blocks of %d", id.Name, o.Disk.Size(), discBlock)
		}
	}
	if len(o.Vendor) > 8 || len(o.Product) > 16 || len(o.Revision) > 4 {
		return nil, fmt.Errorf("volume %s: the names %q, %q, %q are too long", id.Name, o.Vendor, o.Product, o.Revision)
	}
	if err := u.persist.restore(o.Kept); err != nil {
		return nil, fmt.Errorf("volume %s: its reservations: %w", id.Name, err)
	}
	u.mode.reset()
	u.table = newTable(o.CD)
	u.stop = o.Disk.Watch(u.changed)
	return u, nil
}

// Close stops watching the disk, and leaves it open.
func (u *Unit) Close() { u.stop() }

// changed tells the initiators what happened to the disk.
func (u *Unit) changed(c block.Change) {
	code := uint16(codeCapacityChanged)
	if c == block.Replaced {
		code = codeMediumChanged
	}
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	if c == block.Replaced {
		u.ejected = false
	}
	u.attend(code, nil)
}

// attend queues a unit attention for all nexuses but one. The caller holds the lock.
func (u *Unit) attend(code uint16, but *link) {
	for l := range u.links {
		if l != but {
			l.attentions.add(code)
		}
	}
}

// join makes the I_T_L nexus.
func (u *Unit) join(n *Nexus, lun uint16) *link {
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	l := &link{nexus: n, unit: u, lun: lun}
	l.attentions.add(codePowerOn)
	u.links[l] = struct{}{}
	u.persist.mark(l)
	return l
}

// leave ends it: nothing begins on it any more.
func (u *Unit) leave(l *link) {
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	l.gone = true
	delete(u.links, l)
	if u.reserver == l {
		u.reserver = nil
		u.changes.Add(1)
	}
}

// reset is what all resets do, besides ending the commands (SAM-5 section 6.3.3).
func (u *Unit) reset(code uint16) {
	u.tasks.mu.Lock()
	defer u.tasks.mu.Unlock()
	u.reserver = nil
	u.changes.Add(1)
	u.mode.reset()
	for l := range u.links {
		l.prevents = false
		l.copied = nil
	}
	u.attend(code, nil)
}

// admit says whether a command may go on: nil, or why not. A conflict is not a
// condition but a status of its own. The caller holds the lock.
func (u *Unit) admit(l *link, c *Command) (d *condition, conflict bool) {
	o := c.operation
	if o == nil || !o.unattended {
		if code, ok := l.attentions.take(); ok {
			return &condition{key: unitAttention, code: code}, false
		}
	}
	if o == nil {
		return nil, false
	}
	if u.conflicts(l, c) {
		return nil, true
	}
	if o.medium {
		switch {
		case u.ejected:
			return &condition{key: notReady, code: codeNoMedium}, false
		case u.sanitizes:
			return &condition{key: notReady, code: codeSanitizeInProgress}, false
		}
	}
	return nil, false
}

// conflicts says whether another nexus' reservation forbids a command. The caller
// holds the lock.
func (u *Unit) conflicts(l *link, c *Command) bool {
	o := c.operation
	switch {
	case u.reserver == nil && u.persist.kind == 0:
		return false
	case o.reserved, o.lenient != nil && o.lenient(c):
		return false
	}
	return u.bars(l, o.class)
}

// bars says whether a reservation keeps a nexus from what a class stands for. The
// caller holds the lock.
func (u *Unit) bars(l *link, access class) bool {
	switch {
	case u.reserver != nil:
		return u.reserver != l
	case u.persist.kind == 0 || l.holder:
		return false
	case l.registered && u.persist.kind.registrants():
		return false
	case access == conflictsExclusive:
		return u.persist.kind.exclusive()
	}
	return access != conflictsNever
}
