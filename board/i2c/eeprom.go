package i2c

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/host"
)

// EEPROM makes the memory known to the kernel. A memory that does not answer is
// an error.
func (b Buses) EEPROM(e board.EEPROM) (host.Memory, error) {
	device, err := b.Device(e.Bus, e.Address, e.Chip)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(device, "eeprom")
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return &memory{path, int(info.Size())}, nil
}

// A memory is the file that the driver at24 makes. It is opened for each use,
// so that it works again after the memory was away.
type memory struct {
	path string
	size int
}

func (m *memory) Size() int { return m.size }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(m.size) {
		return 0, fmt.Errorf("%d bytes at %d of %d: %w", len(p), off, m.size, io.EOF)
	}
	f, err := os.Open(m.path)
	if err != nil {
		return 0, err
	}
	n, err := f.ReadAt(p, off)
	return n, errors.Join(err, f.Close())
}

// WriteAt writes only what is to change: the driver writes each byte by itself,
// which takes up to 5 ms and wears the memory.
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	old := make([]byte, len(p))
	if _, err := m.ReadAt(old, off); err != nil {
		return 0, err
	}
	f, err := os.OpenFile(m.path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	n, err := writeChanges(f, p, old, off)
	return n, errors.Join(err, f.Close())
}

// writeChanges writes those runs of p that differ from old, which both belong at
// off, and returns how much of p is there now.
func writeChanges(w io.WriterAt, p, old []byte, off int64) (int, error) {
	for at := 0; at < len(p); {
		end := at + 1
		for end < len(p) && (p[end] == old[end]) == (p[at] == old[at]) {
			end++
		}
		if p[at] != old[at] {
			if n, err := w.WriteAt(p[at:end], off+int64(at)); err != nil {
				return at + n, err
			}
		}
		at = end
	}
	return len(p), nil
}
