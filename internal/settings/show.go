package settings

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// Show returns the part of the document that is at path, all of it for "", as
// indented JSON with a line feed at its end.
func (s *Store[T]) Show(path string) ([]byte, error) {
	names, err := splitPath(path)
	if err != nil {
		return nil, err
	}
	n := s.state().root.find(pointerOf(names))
	if n == nil {
		return nil, s.unknown(names)
	}
	return n.pretty()
}

// Paths lists the path of every setting, in the order of the document: for Set,
// dotted, or a JSON pointer where a name has a dot. Lists and empty maps count
// as one setting.
func (s *Store[T]) Paths() []string { return leaves(s.state().root, "") }

// leaves lists the paths of what n, which is at at, holds.
func leaves(n *node, at jsontext.Pointer) []string {
	if !n.isObject() || len(n.members) == 0 {
		return []string{pathOf(at)}
	}
	var paths []string
	for _, m := range n.members {
		paths = append(paths, leaves(m.value, at.AppendToken(m.name))...)
	}
	return paths
}

// unknown is the error for a path that names nothing.
func (s *Store[T]) unknown(names []string) error {
	n := s.state().root
	for i, name := range names {
		next := n.child(name)
		if next != nil {
			n = next
			continue
		}
		var known []string
		for _, m := range n.members {
			known = append(known, m.name)
		}
		return fmt.Errorf("%s: %w%s", pathOf(pointerOf(names[:i+1])), ErrUnknownPath, suggest(name, known))
	}
	return fmt.Errorf("%s: %w", pathOf(pointerOf(names)), ErrUnknownPath)
}
