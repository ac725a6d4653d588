package settings

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/nitrino/nitrino/internal/atomicfile"
)

// Set changes what is at path ("power.off_time", or "" for the whole document)
// by a JSON merge patch (RFC 7396): objects merge, all else replaces. null
// means what it means in a file: the built-in default again, or away with it;
// use Unset to get back what the files say. value is JSON; what is no JSON, or
// is and does not fit where its text as a string does, is taken as a string, so
// that 5s needs no quotes. On an error nothing has changed. When Set returns
// nil the change is on the disk, and Get has it.
func (s *Store[T]) Set(path, value string) error {
	names, err := splitPath(path)
	if err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.settable(names); err != nil {
		return err
	}
	if len(names) == 0 {
		d, err := parse("", []byte(value))
		if err != nil {
			return err
		}
		return s.patch(d)
	}
	d, jsonErr := parseValue(names, value)
	if jsonErr == nil {
		jsonErr = s.patch(d)
	}
	if _, isError := errors.AsType[*Error](jsonErr); !isError {
		return jsonErr // nil, or the disk's
	}
	kind := jsontext.Value(value).Kind()
	if d != nil && kind == jsontext.KindString {
		return jsonErr // a string it was
	}
	word := &node{raw: appendQuoted(nil, value)}
	wordErr := s.patch(&document{root: nest(names, word)})
	if _, isError := errors.AsType[*Error](wordErr); !isError {
		return wordErr
	}
	// Neither fits. What was meant as JSON gets the error of the JSON.
	switch kind {
	case jsontext.KindBeginObject, jsontext.KindBeginArray, jsontext.KindString:
		return jsonErr
	}
	if d != nil {
		return jsonErr
	}
	return wordErr
}

// parseValue makes the patch that puts a JSON value at a path.
func parseValue(names []string, value string) (*document, error) {
	// As the only member of an object, since parse takes nothing else.
	d, err := parse("", slices.Concat([]byte(`{"":`), []byte(value), []byte("\n}")))
	if e, ok := errors.AsType[*Error](err); ok {
		e.Pointer = string(pointerOf(names)) + strings.TrimPrefix(e.Pointer, "/") // less the token ""
	}
	if err != nil {
		return nil, err
	}
	if len(d.root.members) != 1 {
		return nil, d.fail(-1, "", "there is more than one value", nil)
	}
	return &document{root: nest(names, d.root.members[0].value)}, nil
}

// settable refuses a path that leads into a list.
func (s *Store[T]) settable(names []string) error {
	n := s.state().root
	for i, name := range names {
		if n = n.child(name); n.isList() && i < len(names)-1 {
			return &Error{Pointer: string(pointerOf(names)), Problem: pathOf(pointerOf(names[:i+1])) + " is a list, which can only be set as a whole"}
		}
	}
	return nil
}

// Unset drops the changed value at path, so that the layers below show through
// again; "" drops all changes.
func (s *Store[T]) Unset(path string) error {
	names, err := splitPath(path)
	if err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	now := s.state()
	if len(names) > 0 && names[0] == "version" {
		return &Error{Pointer: "/version", Problem: "it cannot be unset"}
	}
	var root *node
	if now.changed != nil {
		root = now.changed.root
	}
	if at := pointerOf(names); root == nil || root.find(at) == nil {
		if now.root.find(at) == nil {
			return s.unknown(names)
		}
		return nil // nothing is changed there
	}
	if err := s.settable(names); err != nil {
		return err
	}
	if root = root.remove(names); root == nil {
		root = newObject(0, nil)
	}
	return s.change(root, nil)
}

// patch merges d into the changed layer. s.changing is held.
func (s *Store[T]) patch(d *document) error {
	if err := s.checkTypes(d); err != nil {
		return err
	}
	var root *node
	if now := s.state(); now.changed != nil {
		root = now.changed.root
	}
	if root == nil {
		root = newObject(0, nil)
	}
	return s.change(compose(s.below, root, d.root), d)
}

// change makes root the changed layer, on the disk first. input is what the
// change came from, for the places of errors; it may be nil.
func (s *Store[T]) change(root *node, input *document) error {
	if root.child("version") == nil {
		version := member{name: "version", value: &node{raw: jsontext.Value(strconv.Itoa(s.opt.Version))}}
		root = newObject(0, append([]member{version}, root.members...))
	}
	text, err := root.pretty()
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	// As the next Open will read it.
	changed, err := parse("", text)
	if err != nil {
		return err
	}
	if err := s.checkVersion(changed); err != nil {
		return err
	}
	if err := s.checkTypes(changed); err != nil {
		return err
	}
	docs := append(s.docs[:len(s.docs):len(s.docs)], changed)
	if input != nil {
		docs = append(docs, input)
	}
	next, err := s.accept(overlay(s.below, changed.root, s.zero, s.defaults), docs)
	if err != nil {
		return err
	}
	old := s.state()
	if old.changed != nil && bytes.Equal(text, old.changed.text) {
		return nil
	}
	if err := atomicfile.Write(s.opt.Changed, text, 0o600); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	next.generation, next.changed = old.generation+1, changed
	s.mu.Lock()
	s.now = next
	close(s.new)
	s.new = make(chan struct{})
	s.mu.Unlock()
	var paths []string // not the values, which may be secrets
	if input != nil {
		paths = leaves(input.root, "")
	}
	s.opt.Log.Info("settings changed", "set", paths, "generation", next.generation)
	s.keep(Layer{Name: ChangedLayer, Path: s.opt.Changed}, text)
	return nil
}
