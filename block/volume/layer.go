package volume

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/cow"
	"github.com/nitrino/nitrino/block/raw"
	"github.com/nitrino/nitrino/internal/atomicfile"
)

// maxDepth is how many layers may stand on one another: every read of what was
// never written goes through all of them.
const maxDepth = 64

// A layer is one of the store. Its description and pins are guarded by Store.mu.
type layer struct {
	id   string
	desc layerDescription
	// pins count what reads the layer and has no volume for it: it is neither
	// deleted nor merged meanwhile.
	pins int
	// away is why its NBD server cannot be reached; guarded by Store.mu.
	away string

	mu   sync.Mutex
	dev  block.Device // nil: not open
	refs int          // the heads and layers above that have it
	base *layer       // whose device dev reads
}

// acquire opens a layer and what it stands on, or counts one more that has it.
func (s *Store) acquire(l *layer) (block.Device, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dev == nil {
		if err := s.openLayer(l); err != nil {
			return nil, err
		}
	}
	l.refs++
	return l.dev, nil
}

// openLayer sets a layer's device and base. The caller holds its mu.
func (s *Store) openLayer(l *layer) error {
	s.mu.Lock()
	desc := l.desc
	base, ok := s.layers[desc.Base]
	s.mu.Unlock()
	switch desc.Format {
	case block.FormatRaw:
		f, err := raw.Open(s.dataPath(desc)+".raw", desc.Size, desc.ReadOnly)
		if err != nil {
			return err
		}
		l.dev = f
	case block.FormatCoW:
		if !ok {
			return fmt.Errorf("%w: what it stands on is missing", block.ErrMedium)
		}
		below, err := s.acquire(base)
		if err != nil {
			return fmt.Errorf("what it stands on: %w", err)
		}
		// It is opened for writing also where it is a snapshot's: a merge may write
		// to it, and its disk is read-only.
		o, err := cow.Open(s.dataPath(desc), s.overlay(desc, below))
		if err != nil {
			s.release(base)
			return err
		}
		l.dev, l.base = o, base
	case block.FormatNBD:
		u, err := s.openUpstream(l, desc)
		if err != nil {
			return err
		}
		l.dev = u
	}
	return nil
}

func (s *Store) overlay(desc layerDescription, base block.Device) cow.Options {
	return cow.Options{
		Base: base, Size: desc.Size, BootID: s.opt.BootID,
		Report: func(err error) {
			// Of a full card the head tells, once; hosts try again and again.
			if !errors.Is(err, block.ErrNoSpace) {
				s.opt.Log.Error("a volume's overlay", "layer", desc.Data, "error", err)
			}
		},
	}
}

// release gives up what acquire gave.
func (s *Store) release(l *layer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs--; l.refs > 0 {
		return
	}
	if err := l.dev.Close(); err != nil {
		s.opt.Log.Error("closing a layer", "layer", l.id, "error", err)
	}
	base := l.base
	l.dev, l.base = nil, nil
	if base != nil {
		s.release(base)
	}
}

// dataPath is what the names of a layer's files begin with.
func (s *Store) dataPath(d layerDescription) string {
	return filepath.Join(s.opt.Dir, "layers", d.Data)
}

// used is how many bytes a layer's own files take on the card.
func (s *Store) used(d layerDescription) int64 {
	var names []string
	switch d.Format {
	case block.FormatRaw:
		names = []string{".raw"}
	case block.FormatCoW:
		names = []string{".data", ".map", ".live"}
	}
	var n int64
	for _, name := range names {
		var st unix.Stat_t
		// A file that is missing takes no room; what else that means shows in use.
		if err := unix.Stat(s.dataPath(d)+name, &st); err == nil {
			n += st.Blocks * 512
		}
	}
	return n
}

// newLayer makes a layer that nothing names yet: its files and its description,
// durably. The caller holds changing.
func (s *Store) newLayer(d layerDescription) (*layer, error) {
	l := &layer{id: rand.Text(), desc: d}
	l.desc.Version = descriptionVersion
	if d.Format != block.FormatNBD {
		l.desc.Data = l.id
	}
	if err := s.makeFiles(l.desc); err != nil {
		return nil, err
	}
	return l, s.addLayer(l)
}

func (s *Store) makeFiles(d layerDescription) error {
	if err := s.step("make files of layer"); err != nil {
		return err
	}
	var err error
	switch d.Format {
	case block.FormatRaw:
		err = raw.Create(s.dataPath(d)+".raw", d.Size)
	case block.FormatCoW:
		err = cow.Create(s.dataPath(d), d.Size)
	}
	if err != nil {
		return errors.Join(err, s.removeFiles(d))
	}
	return nil
}

// addLayer describes a layer whose files are there; if it fails they are gone.
func (s *Store) addLayer(l *layer) error {
	if err := s.put(s.layerPath(l.id), l.desc); err != nil {
		return errors.Join(err, s.remove(s.layerPath(l.id)), s.removeFiles(l.desc))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.layers[l.id] = l
	return nil
}

// dropLayer deletes a layer that nothing names. Its files go where no other layer
// has them.
func (s *Store) dropLayer(l *layer) {
	err := s.remove(s.layerPath(l.id))
	s.mu.Lock()
	if err == nil {
		delete(s.layers, l.id)
	}
	shared := false
	for _, other := range s.layers {
		shared = shared || other.desc.Data == l.desc.Data && l.desc.Data != ""
	}
	s.mu.Unlock()
	if err == nil && !shared {
		err = s.removeFiles(l.desc)
	}
	if err != nil {
		// It is garbage that the next Open finds.
		s.opt.Log.Error("deleting a layer", "layer", l.id, "error", err)
	}
}

func (s *Store) removeFiles(d layerDescription) error {
	if err := s.step("remove files of layer"); err != nil {
		return err
	}
	switch d.Format {
	case block.FormatRaw:
		if err := os.Remove(s.dataPath(d) + ".raw"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	case block.FormatCoW:
		return cow.Remove(s.dataPath(d))
	}
	return nil
}

// put writes a description. After an error the old one may be there or the new one.
func (s *Store) put(path string, description any) error {
	text, err := encode(description)
	if err != nil {
		return err
	}
	if err := s.step("write %s", filepath.Base(filepath.Dir(path))); err != nil {
		return err
	}
	return raw.NoSpace(atomicfile.Write(path, text, 0o600))
}

// replace writes a description over another one; after an error the old one counts,
// or nothing is deleted any more as nobody knows.
func (s *Store) replace(path string, description, old any) error {
	err := s.put(path, description)
	if err == nil {
		return nil
	}
	text, readErr := os.ReadFile(path)
	before, encodeErr := encode(old)
	if readErr == nil && encodeErr == nil && string(text) == string(before) {
		return err
	}
	if back := s.put(path, old); back != nil {
		s.mu.Lock()
		s.unsure = true
		s.mu.Unlock()
		return errors.Join(err, back)
	}
	return err
}

// remove deletes a description; it may be missing.
func (s *Store) remove(path string) error {
	if err := s.step("remove from %s", filepath.Base(filepath.Dir(path))); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// withoutSecrets is a URI without a user's password.
func withoutSecrets(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.User == nil {
		return uri
	}
	u.User = nil
	return u.String()
}

// uuidBytes is a valid UUID's 16 bytes.
func uuidBytes(text string) (id [16]byte) {
	// It was checked when it was read.
	_, _ = hex.Decode(id[:], []byte(strings.ReplaceAll(text, "-", "")))
	return id
}
