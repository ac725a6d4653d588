// Package settings keeps one JSON document that comes in layers: built-in
// defaults, files in rising precedence, and last what an API changed. Files are
// parsed strictly; a bad one is reported with line and column and never used,
// its last good copy stands in for it.
//
// Objects of a layer merge with those below; lists and all other values
// replace. null in a layer gives a field its built-in default back, and removes
// what need not be there: a map's entry, or a field that the document leaves
// out when it is empty.
//
// Every layer must make a valid document together with those below it.
package settings

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/go-json-experiment/json"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// ChangedLayer is the name of the layer that Set and Unset write.
const ChangedLayer = "changed"

// A Layer is one file of the document.
type Layer struct {
	// Name is short and fit for a file name: "card".
	Name string
	// Path is the file; "" where the layer is absent. A file that is not
	// there makes an empty layer, unless it was there before.
	Path string
	// ReadOnly: a person's file on a medium of its own. A bad one stays
	// where it is and is not copied.
	ReadOnly bool
}

// Options describe a store. All but Layers and Validate are needed.
type Options[T any] struct {
	// Defaults returns the built-in document. All that counts in a T must
	// survive being written as JSON and read back.
	Defaults func() T
	// Version is what the document's field "version" must have, in Defaults
	// and in each file.
	Version int
	// Layers are the files, in rising precedence.
	Layers []Layer
	// Changed is the file of the last layer, the one that Set and
	// Unset write. Its folder is there.
	Changed string
	// LastGood is the folder, this store's own, where the last good copy of
	// each layer is kept (NAME.json) and the last bad one (NAME.bad). It is
	// made if it is not there.
	LastGood string
	// Validate answers what is wrong with a document beyond its types: a
	// *FieldError, several joined, or any error. It must not change v.
	Validate func(v *T) error
	Log      *slog.Logger
	// Report hears of each problem with a file, during Open and later. It
	// must not call the store.
	Report func(Problem)
}

// A Problem is a layer whose file could not be used, or not be kept.
type Problem struct {
	Layer string
	Path  string // the file that has the problem
	Err   error  // with *Error inside where the file's content is at fault
	// InForce is the file that the layer now comes from: Path itself, the
	// last good copy, or "": the layer is empty.
	InForce string
	// Kept is the copy of the bad file; "" where none was made.
	Kept string
}

// String is the problem in a sentence or two.
func (p Problem) String() string {
	what := strings.ReplaceAll(p.Err.Error(), "\n", "; ") // errors.Join's lines
	s := fmt.Sprintf("Settings, layer %s, %s: %s.", p.Layer, p.Path, what)
	switch p.InForce {
	case p.Path:
	case "":
		s += " The layer is left out."
	default:
		s += " Its last good copy " + p.InForce + " is in force."
	}
	if p.Kept != "" {
		s += " The bad file is kept as " + p.Kept + "."
	}
	return s
}

// A Store holds the document. It is safe for several goroutines. One process
// at a time may open the same files.
type Store[T any] struct {
	opt            Options[T]
	decode, encode json.Options
	zero, defaults *node
	docs           []*document // of the layers below Changed that are in force
	below          *node       // all of them merged

	changing sync.Mutex // one change at a time

	mu  sync.Mutex
	now *state
	new chan struct{} // closed when now is replaced
}

// A state is one version of the document. It is never changed.
type state struct {
	generation uint64
	changed    *document // nil where nothing has ever been changed
	text       []byte    // the whole document, as T is encoded
	root       *node     // text, parsed
}

// Open reads all layers. Bad files are no error: they are reported, and Open
// fails only when the options are not usable.
func Open[T any](opt Options[T]) (*Store[T], error) {
	s := &Store[T]{opt: opt, decode: decodeOptions(), encode: encodeOptions(), new: make(chan struct{})}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if err := s.openLastGood(); err != nil {
		opt.Report(Problem{Layer: ChangedLayer, Path: opt.LastGood, InForce: opt.LastGood, Err: err})
	}
	s.below = s.defaults
	for _, l := range opt.Layers {
		if d := s.load(l); d != nil {
			s.docs = append(s.docs, d)
			s.below = overlay(s.below, d.root, s.zero, s.defaults)
		}
	}
	changed := s.load(Layer{Name: ChangedLayer, Path: opt.Changed})
	docs, merged := s.docs, s.below
	if changed != nil {
		docs, merged = append(docs[:len(docs):len(docs)], changed), overlay(merged, changed.root, s.zero, s.defaults)
	}
	// load has tried this very document before.
	now, err := s.accept(merged, docs)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	now.generation, now.changed = 1, changed
	s.now = now
	return s, nil
}

// prepare checks the options and makes the documents of the zero value and of
// the defaults.
func (s *Store[T]) prepare() error {
	names := map[string]bool{ChangedLayer: true}
	for _, l := range s.opt.Layers {
		if l.Name == "" || names[l.Name] || filepath.Base(l.Name) != l.Name {
			return fmt.Errorf("layer name %q is taken or not fit for a file name", l.Name)
		}
		names[l.Name] = true
	}
	var zero T
	for _, v := range []struct {
		value *T
		root  **node
	}{{&zero, &s.zero}, {new(s.opt.Defaults()), &s.defaults}} {
		text, err := json.Marshal(v.value, s.encode)
		if err != nil {
			return fmt.Errorf("writing %T: %w", zero, err)
		}
		d, err := parse("", text)
		if err != nil {
			return fmt.Errorf("writing %T: %w", zero, err)
		}
		*v.root = d.root
	}
	d := &document{root: s.defaults}
	if err := s.checkVersion(d); err != nil {
		return fmt.Errorf("the defaults: %w", err)
	}
	if _, err := s.accept(s.defaults, []*document{d}); err != nil {
		return fmt.Errorf("the defaults: %w", err)
	}
	return nil
}

func (s *Store[T]) openLastGood() error {
	if err := os.MkdirAll(s.opt.LastGood, 0o700); err != nil {
		return fmt.Errorf("no copies can be kept: %w", err)
	}
	return atomicfile.Clean(s.opt.LastGood)
}

func (s *Store[T]) goodPath(layer string) string {
	return filepath.Join(s.opt.LastGood, layer+".json")
}

// load reads a layer to be put over s.below. It returns nil for an empty one.
func (s *Store[T]) load(l Layer) *document {
	if l.Path == "" {
		return nil
	}
	good := s.goodPath(l.Name)
	text, err := readLimited(l.Path)
	isRead := err == nil
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(good); errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
		// A card that does not mount looks just like this, and who needs the
		// file's network settings cannot come to mend it.
		err = fmt.Errorf("%w, though it was there before (to do without, put {\"version\": %d} into it)", err, s.opt.Version)
	}
	if isRead {
		var d *document
		if d, err = s.try(filepath.Base(l.Path), text); err == nil {
			s.opt.Log.Info("settings read", "layer", l.Name, "path", l.Path)
			s.keep(l, text)
			return d
		}
	}
	p := Problem{Layer: l.Name, Path: l.Path, Err: err}
	if isRead && !l.ReadOnly {
		bad := filepath.Join(s.opt.LastGood, l.Name+".bad")
		if err := writeIfNew(bad, text); err != nil {
			p.Err = fmt.Errorf("%w; the bad file could not be kept: %w", p.Err, err)
		} else {
			p.Kept = bad
		}
	}
	var d *document
	text, err = readLimited(good)
	if err == nil {
		d, err = s.try(filepath.Base(good), text)
	}
	switch {
	case err == nil:
		p.InForce = good
	case !errors.Is(err, os.ErrNotExist):
		p.Err = fmt.Errorf("%w; its last good copy: %w", p.Err, err)
	}
	s.opt.Report(p)
	return d
}

// try parses a layer's text and checks it alone and over what is below.
func (s *Store[T]) try(file string, text []byte) (*document, error) {
	d, err := parse(file, text)
	if err != nil {
		return nil, err
	}
	if err := s.checkVersion(d); err != nil {
		return nil, err
	}
	if err := s.checkTypes(d); err != nil {
		return nil, err
	}
	docs := append(s.docs[:len(s.docs):len(s.docs)], d)
	if _, err := s.accept(overlay(s.below, d.root, s.zero, s.defaults), docs); err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.File != file {
			// Each is fine without the other; the higher one has to give way.
			return nil, fmt.Errorf("%s does not go with the layers below: %w", file, err)
		}
		return nil, err
	}
	return d, nil
}

func (s *Store[T]) checkVersion(d *document) error {
	want := strconv.Itoa(s.opt.Version)
	switch v := d.root.child("version"); {
	case v == nil:
		return d.fail(d.root.at, "", fmt.Sprintf("the field \"version\" is missing, want \"version\": %s", want), nil)
	case v.isObject() || string(v.raw) != want:
		return d.fail(v.at, "/version", fmt.Sprintf("version %s is not known to this build, want %s", show(v), want), nil)
	}
	return nil
}

// checkTypes finds unknown fields and wrong types in one layer.
func (s *Store[T]) checkTypes(d *document) error {
	var v T
	if err := json.Unmarshal(d.root.appendTo(nil), &v, s.decode); err != nil {
		return explain(err, d.root, []*document{d})
	}
	return nil
}

// accept makes a state of a merged document, or tells what is wrong with it and
// in which of docs, from which it was merged.
func (s *Store[T]) accept(merged *node, docs []*document) (*state, error) {
	var v, again T
	if err := json.Unmarshal(merged.appendTo(nil), &v, s.decode); err != nil {
		return nil, explain(err, merged, docs)
	}
	text, err := json.Marshal(v, s.encode)
	if err != nil {
		return nil, place(docs, "", false, err.Error(), err)
	}
	d, err := parse("", text)
	if err != nil {
		return nil, err
	}
	// A field that is nowhere may have a zero value that cannot be read back
	// (a choice that must be one of a few words); Get relies on this.
	if err := json.Unmarshal(text, &again, s.decode); err != nil {
		return nil, explain(err, d.root, docs)
	}
	if s.opt.Validate != nil {
		if err := s.opt.Validate(&again); err != nil {
			return nil, placeAll(docs, err)
		}
	}
	return &state{text: text, root: d.root}, nil
}

// keep copies a good layer's text to its last good copy.
func (s *Store[T]) keep(l Layer, text []byte) {
	if err := writeIfNew(s.goodPath(l.Name), text); err != nil {
		s.opt.Report(Problem{Layer: l.Name, Path: l.Path, InForce: l.Path, Err: fmt.Errorf("its last good copy could not be made: %w", err)})
	}
}

// Get returns the document. The caller may do with it what it likes.
func (s *Store[T]) Get() T {
	var v T
	if err := json.Unmarshal(s.state().text, &v, s.decode); err != nil {
		// accept has read the very same text.
		panic(fmt.Sprintf("settings: an accepted document cannot be read: %v", err))
	}
	return v
}

// Generation counts the documents from 1; each change adds one.
func (s *Store[T]) Generation() uint64 { return s.state().generation }

// Wait blocks until Generation differs from old and returns it, or ctx's error
// when that ends first.
func (s *Store[T]) Wait(ctx context.Context, old uint64) (uint64, error) {
	for {
		s.mu.Lock()
		now, next := s.now.generation, s.new
		s.mu.Unlock()
		if now != old {
			return now, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
}

func (s *Store[T]) state() *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// readLimited reads a file, at most one byte more than a document may have.
func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	return text, errors.Join(err, f.Close())
}

// writeIfNew spares the flash what is there already.
func writeIfNew(path string, text []byte) error {
	if old, err := readLimited(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return atomicfile.Write(path, text, 0o600)
}
