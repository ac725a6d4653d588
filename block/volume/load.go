package volume

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/atomicfile"
)

// maxDescription is how long a description may be, in bytes.
const maxDescription = 64 << 10

// load reads the folder and completes or undoes what a crash cut short.
func (s *Store) load() error {
	for _, name := range []string{"volumes", "layers", "incoming"} {
		if err := os.MkdirAll(s.folder(name), 0o700); err != nil {
			return err
		}
	}
	if err := syncFolder(s.opt.Dir); err != nil {
		return err
	}
	if err := errors.Join(atomicfile.Clean(s.folder("volumes")), atomicfile.Clean(s.folder("layers")), s.emptyIncoming()); err != nil {
		return err
	}
	files, unreadable, err := s.loadLayers()
	if err != nil {
		return err
	}
	if err := s.loadVolumes(); err != nil {
		return err
	}
	s.findFailed(files)
	if !s.unsure {
		// No volume reaches them, so that what they name does not matter.
		for _, path := range unreadable {
			if err := s.remove(path); err != nil {
				return err
			}
		}
	}
	s.sweep()
	s.removeStray(files)
	s.watchRoom()
	return nil
}

func (s *Store) emptyIncoming() error {
	entries, err := os.ReadDir(s.folder("incoming"))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, s.step("remove from incoming"), os.RemoveAll(filepath.Join(s.folder("incoming"), e.Name())))
	}
	return errors.Join(errs...)
}

// loadLayers reads all that is in layers. It gives the names of the files that are
// no descriptions, and the paths of the descriptions that cannot be read.
func (s *Store) loadLayers() (files map[string]bool, unreadable []string, err error) {
	entries, err := os.ReadDir(s.folder("layers"))
	if err != nil {
		return nil, nil, err
	}
	files = make(map[string]bool)
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			files[e.Name()] = true
			continue
		}
		text, err := readDescription(s.layerPath(id))
		var desc layerDescription
		if err == nil && !validID(id) {
			err = fmt.Errorf("no layer is named %q", id)
		}
		if err == nil {
			desc, err = decodeLayer(text)
		}
		if err != nil {
			unreadable = append(unreadable, s.layerPath(id))
			s.opt.Log.Error("a layer's description", "file", e.Name(), "error", err)
			continue
		}
		s.layers[id] = &layer{id: id, desc: desc}
	}
	return files, unreadable, nil
}

func (s *Store) loadVolumes() error {
	entries, err := os.ReadDir(s.folder("volumes"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || CheckName(name) != nil {
			s.unsure = s.unsure || ok // somebody may have renamed it by hand
			s.opt.Log.Warn("what is among the volumes is none", "file", e.Name())
			continue
		}
		v := &volume{name: name}
		text, err := readDescription(s.volumePath(name))
		if err == nil {
			v.desc, err = decodeVolume(text)
		}
		if err != nil {
			v.failed = err.Error()
			v.desc = volumeDescription{}
			s.unsure = true
		}
		s.volumes[name] = v
	}
	return nil
}

// readDescription reads a file that has no business to be long.
func readDescription(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxDescription:
		return nil, errors.New("it is no description")
	}
	return os.ReadFile(path)
}

// findFailed marks the volumes that have lost a layer or its files.
func (s *Store) findFailed(files map[string]bool) {
	for _, v := range s.sorted() {
		if v.failed == "" {
			v.failed = s.missing(v.desc.Layer, files)
		}
		if v.failed != "" {
			s.report(host.Critical, "volume.failed", "The volume %s cannot be used: %s.", v.name, v.failed)
		}
	}
}

func (s *Store) missing(id string, files map[string]bool) string {
	for depth := 0; id != ""; depth++ {
		l, ok := s.layers[id]
		switch {
		case !ok:
			s.unsure = true // of which files are that layer's, and what it stood on
			return "the description of a layer is missing or damaged"
		case depth > maxDepth*2:
			return "its layers stand on one another in a circle"
		}
		for _, suffix := range suffixes(l.desc.Format) {
			if !files[l.desc.Data+suffix] {
				return "a file of its contents is missing"
			}
		}
		id = l.desc.Base
	}
	return ""
}

// suffixes are those of the files that a layer cannot be without.
func suffixes(f block.Format) []string {
	switch f {
	case block.FormatRaw:
		return []string{".raw"}
	case block.FormatCoW:
		return []string{".data", ".map"}
	}
	return nil
}

// sweep deletes the layers that no volume needs. The caller holds changing.
func (s *Store) sweep() {
	for {
		s.mu.Lock()
		garbage := s.garbage()
		s.mu.Unlock()
		if garbage == nil {
			return
		}
		// From above to below, for what it stood on may be garbage too.
		for _, l := range garbage {
			s.dropLayer(l)
		}
		s.mu.Lock()
		stuck := slices.ContainsFunc(garbage, func(l *layer) bool { return s.layers[l.id] != nil })
		s.mu.Unlock()
		if stuck {
			return // it was logged, and goes at the next start
		}
	}
}

// garbage are the layers that nothing names or stands on. The caller holds mu.
func (s *Store) garbage() []*layer {
	if s.unsure {
		return nil
	}
	needed := make(map[string]bool, len(s.layers))
	for _, v := range s.volumes {
		needed[v.desc.Layer] = true
	}
	for _, l := range s.layers {
		if l.desc.Base != "" {
			needed[l.desc.Base] = true
		}
	}
	var list []*layer
	for id, l := range s.layers {
		if !needed[id] && l.pins == 0 {
			list = append(list, l)
		}
	}
	return list
}

// removeStray deletes the files in layers that no layer names.
func (s *Store) removeStray(files map[string]bool) {
	if s.unsure {
		return
	}
	named := make(map[string]bool, len(s.layers))
	for _, l := range s.layers {
		named[l.desc.Data] = true
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		stem, _, _ := strings.Cut(name, ".")
		if named[stem] || !validID(stem) {
			continue // what has no such name is somebody else's
		}
		err := s.step("remove stray file")
		if err == nil {
			err = os.Remove(filepath.Join(s.folder("layers"), name))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.opt.Log.Error("deleting a stray file", "file", name, "error", err)
		}
	}
}
