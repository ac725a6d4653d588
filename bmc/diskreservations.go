package bmc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nitrino/nitrino/block/scsi"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/atomicfile"
)

// Reservations that are to outlive a loss of power (APTPL) are all that is kept of a
// disk beside its volume: a file each, named by the volume's UUID. One that is
// damaged is set aside under that name and damagedSuffix.
const damagedSuffix = ".bad"

// kindReservationsLost is the event of a disk whose reservations cannot be read.
const kindReservationsLost = "volume.reservations-lost"

// newDiskUnit makes the logical unit of a disk, with the reservations that were kept
// of it. If they cannot be read it has none, and people are told: hosts that rely on
// them register again when they find that they are gone, while without the disk they
// could do nothing at all.
func (e *exports) newDiskUnit(o scsi.UnitOptions) (*scsi.Unit, error) {
	id := o.Disk.Identity()
	path := filepath.Join(e.opt.Dir, reservations, fmt.Sprintf("%x", id.UUID))
	o.Keep = func(text []byte) error {
		if len(text) == 0 {
			return errors.Join(removeAll(path), syncDir(filepath.Dir(path)))
		}
		return atomicfile.Write(path, text, 0o600)
	}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return scsi.NewUnit(o)
	case err == nil && len(text) == 0: // Keep never writes that
		err = scsi.ErrKept
	case err == nil:
		o.Kept = text
		u, uerr := scsi.NewUnit(o)
		if !errors.Is(uerr, scsi.ErrKept) {
			return u, uerr
		}
		err = uerr
	}
	e.opt.Report(Event{Severity: host.Warning, Kind: kindReservationsLost,
		Message: fmt.Sprintf("The volume %s has lost the reservations that its hosts had made: %v.", id.Name, err)})
	if err := os.Rename(path, path+damagedSuffix); err != nil {
		e.opt.Log.Error("damaged reservations cannot be set aside", "volume", id.Name, "error", err)
	}
	o.Kept = nil
	return scsi.NewUnit(o)
}

// sweepReservations deletes what is kept of volumes that are no more. What cannot be
// deleted is tried again at the next time.
func (e *exports) sweepReservations() {
	dir := filepath.Join(e.opt.Dir, reservations)
	files, err := os.ReadDir(dir) // first: there are none but of volumes that there were by then
	known := make(map[string]bool)
	for _, v := range e.opt.Volumes.List() {
		if v.UUID == "" {
			return // its description is damaged: any of them may be its own
		}
		known[strings.ToLower(strings.ReplaceAll(v.UUID, "-", ""))] = true
	}
	for _, f := range files {
		if !known[strings.TrimSuffix(f.Name(), damagedSuffix)] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	if err != nil {
		e.opt.Log.Error("reservations of volumes that are no more", "error", err)
	}
}
