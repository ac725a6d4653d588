package settings

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// A Leaf is one setting.
type Leaf struct {
	Path   string // for Set: dotted, or a JSON pointer where a name has a dot
	Value  string // as JSON in one line
	Source string // name of the layer that the value comes from
}

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

// Leaves lists every setting with its value and where that comes from, in the
// order of the document. Lists and empty maps count as one setting.
func (s *Store[T]) Leaves() []Leaf {
	now := s.state()
	docs, origins := s.docs, s.origins
	if now.changed != nil {
		docs = append(docs[:len(docs):len(docs)], now.changed)
		origins = append(origins[:len(origins):len(origins)], ChangedLayer)
	}
	var leaves []Leaf
	walk(now.root, "", func(l Leaf, at jsontext.Pointer) {
		l.Source = DefaultLayer
		for i, d := range slices.Backward(docs) {
			if decides(d.root, at) {
				l.Source = origins[i]
				break
			}
		}
		leaves = append(leaves, l)
	})
	return leaves
}

// Paths lists the path of every setting, for completion.
func (s *Store[T]) Paths() []string {
	var paths []string
	walk(s.state().root, "", func(l Leaf, _ jsontext.Pointer) { paths = append(paths, l.Path) })
	return paths
}

// decides tells whether a layer gives the setting at its value: by holding it,
// or a null above it that brought the default back.
func decides(layer *node, at jsontext.Pointer) bool {
	for name := range at.Tokens() {
		if layer == nil || !layer.isObject() {
			break
		}
		layer = layer.child(name)
	}
	return layer != nil
}

func walk(n *node, at jsontext.Pointer, visit func(Leaf, jsontext.Pointer)) {
	if !n.isObject() || len(n.members) == 0 {
		visit(Leaf{Path: pathOf(at), Value: string(n.appendTo(nil))}, at)
		return
	}
	for _, m := range n.members {
		walk(m.value, at.AppendToken(m.name), visit)
	}
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
