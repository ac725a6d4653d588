package cow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/raw"
)

// A file is one of an overlay's. Offsets and lengths need not be whole sectors.
type file interface {
	block.Device
	block.Prompt
	block.Resizer
	block.Discarder
	Used() (int64, error)
}

// suffixes of the files' names.
const (
	dataFile = ".data"
	mapFile  = ".map"
	liveFile = ".live"
)

// files are where an overlay's are kept.
type files interface {
	// open opens a file as one of length bytes. It fails with block.ErrMedium if it is
	// shorter, and with fs.ErrNotExist.
	open(suffix string, length int64, readOnly bool) (file, error)
	// lengthen has a file be there and have at least length bytes.
	lengthen(suffix string, length int64) error
}

// A prefix is of the names of an overlay's files.
type prefix string

func (p prefix) open(suffix string, length int64, readOnly bool) (file, error) {
	f, err := raw.Open(string(p)+suffix, length, readOnly)
	if err != nil {
		return nil, err // no interface around a nil
	}
	return f, nil
}

func (p prefix) lengthen(suffix string, length int64) error {
	f, err := os.OpenFile(string(p)+suffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return raw.NoSpace(err)
	}
	st, err := f.Stat()
	if err == nil && st.Size() < length {
		err = raw.NoSpace(f.Truncate(length))
	}
	return errors.Join(err, f.Close())
}

// Create makes the files of an overlay of size bytes without any cluster: path with
// ".data" and ".map" after it. They outlive a loss of power when Create returns. It
// fails if either is there; if it is interrupted, Remove takes away what it has made.
func Create(path string, size int64) error {
	if !validSize(size) {
		return fmt.Errorf("creating %s: %w: a size of %d bytes", path, block.ErrRange, size)
	}
	if err := raw.Create(path+dataFile, size); err != nil {
		return err
	}
	if err := raw.Create(path+mapFile, mapLength(size)); err != nil {
		return errors.Join(err, os.Remove(path+dataFile))
	}
	if err := format(prefix(path), size); err != nil {
		return errors.Join(fmt.Errorf("creating %s: %w", path, err), Remove(path))
	}
	return nil
}

// format writes the header of a new map.
func format(all files, size int64) error {
	m, err := all.open(mapFile, mapLength(size), false)
	if err != nil {
		return err
	}
	h := header{size: size, inherited: size, generation: newGeneration()}
	err = m.Writev([][]byte{h.encode(mapMagic)}, 0)
	if err == nil {
		err = m.Flush()
	}
	return errors.Join(err, m.Close())
}

// Remove deletes an overlay's files, as far as they are there. They stay deleted after
// a loss of power.
func Remove(path string) error {
	// The map first: what is left without it cannot be taken for an overlay.
	for _, suffix := range []string{mapFile, liveFile, dataFile} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
