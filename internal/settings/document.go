package settings

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxSize is how many bytes a document may have.
const MaxSize = 1 << 20

// A document is a parsed JSON object and the text it came from.
type document struct {
	file string // as errors show it; "" for input that has no lines to show
	text []byte // without byte order mark
	root *node
}

// A node is a JSON value. Nodes are never changed: an edit makes new ones along
// its path.
type node struct {
	at      int            // offset of its first byte in the document's text
	raw     jsontext.Value // as written; nil for an object
	members []member       // of an object, in the order of the text
	index   map[string]int // place of each name in members
	items   []*node        // of a list; only for positions, lists are replaced whole
}

type member struct {
	name  string
	at    int   // offset of the name
	value *node // nil, in a list of changes: to be removed
}

func newObject(at int, members []member) *node {
	n := &node{at: at, members: members, index: make(map[string]int, len(members))}
	for i, m := range members {
		n.index[m.name] = i
	}
	return n
}

func (n *node) isObject() bool { return n.raw == nil }
func (n *node) isList() bool   { return n != nil && n.raw.Kind() == jsontext.KindBeginArray }
func (n *node) isNull() bool   { return n.raw != nil && n.raw.Kind() == jsontext.KindNull }

// child returns a member or a list's item, nil where there is none. It may be
// called on nil.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	if i, ok := n.index[name]; ok {
		return n.members[i].value
	}
	if i, err := strconv.ParseUint(name, 10, 31); err == nil && int(i) < len(n.items) {
		return n.items[i]
	}
	return nil
}

func (n *node) find(at jsontext.Pointer) *node {
	for name := range at.Tokens() {
		n = n.child(name)
	}
	return n
}

// with returns a copy of the object n with the changes made. No name may be in
// them twice.
func (n *node) with(changes ...member) *node {
	todo := newObject(0, changes).index
	members := make([]member, 0, len(n.members)+len(changes))
	for _, m := range n.members {
		if i, ok := todo[m.name]; ok {
			m.value = changes[i].value
		}
		if m.value != nil {
			members = append(members, m)
		}
	}
	for _, c := range changes {
		if _, ok := n.index[c.name]; !ok && c.value != nil {
			members = append(members, c)
		}
	}
	return newObject(n.at, members)
}

// remove returns a copy of n without what is at path, and without the objects
// that this leaves empty. It returns nil when nothing of n is left.
func (n *node) remove(path []string) *node {
	if len(path) == 0 {
		return nil
	}
	next := n.child(path[0])
	if next == nil || !n.isObject() {
		return n
	}
	c := n.with(member{name: path[0], value: next.remove(path[1:])})
	if len(c.members) == 0 {
		return nil
	}
	return c
}

// nest returns value inside objects, so that it is at path.
func nest(path []string, value *node) *node {
	for _, name := range slices.Backward(path) {
		value = newObject(0, []member{{name: name, value: value}})
	}
	return value
}

// overlay returns lower with layer put over it: objects merge, all else
// replaces. null puts the built-in default back where zero, the document of T's
// zero value, says that the field always has a value; else it removes (an
// entry of a map, what is left out when empty).
func overlay(lower, layer, zero, defaults *node) *node {
	if !layer.isObject() {
		return layer
	}
	if lower == nil || !lower.isObject() {
		lower = newObject(0, nil)
	}
	changes := make([]member, 0, len(layer.members))
	for _, m := range layer.members {
		z, d := zero.child(m.name), defaults.child(m.name)
		c := member{name: m.name} // null: removed, unless …
		switch {
		case !m.value.isNull():
			c.value = overlay(lower.child(m.name), m.value, z, d)
		case z != nil && !z.isNull():
			c.value = d
		}
		changes = append(changes, c)
	}
	return lower.with(changes...)
}

// compose returns the layer that has the effect of layer and then patch over
// what is below, lower. Nulls stay nulls.
func compose(lower, layer, patch *node) *node {
	if layer == nil || !patch.isObject() {
		return patch
	}
	if layer.isNull() && lower != nil && lower.isObject() {
		// The null took away all that is below. That must stay so for the
		// members that the patch does not give.
		nulls := make([]member, 0, len(lower.members))
		for _, m := range lower.members {
			nulls = append(nulls, member{name: m.name, value: &node{raw: jsontext.Value("null")}})
		}
		layer = newObject(0, nulls)
	}
	if !layer.isObject() {
		return patch
	}
	changes := make([]member, 0, len(patch.members))
	for _, m := range patch.members {
		changes = append(changes, member{name: m.name, value: compose(lower.child(m.name), layer.child(m.name), m.value)})
	}
	return layer.with(changes...)
}

// appendTo appends the value's JSON text.
func (n *node) appendTo(b []byte) []byte {
	if !n.isObject() {
		return append(b, n.raw...)
	}
	b = append(b, '{')
	for i, m := range n.members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, m.name), ':')
		b = m.value.appendTo(b)
	}
	return append(b, '}')
}

// pretty returns the value's JSON text, indented, with a line feed at its end.
func (n *node) pretty() ([]byte, error) {
	v := jsontext.Value(n.appendTo(nil))
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	return append(v, '\n'), nil
}

// appendQuoted appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD, as JSON cannot hold them.
func appendQuoted(b []byte, s string) []byte {
	b, err := jsontext.AppendQuote(b, strings.ToValidUTF8(s, "\ufffd"))
	if err != nil {
		panic("settings: quoting valid UTF-8 failed: " + err.Error()) // its only error is for what is not UTF-8
	}
	return b
}

// parse reads a document's text: one JSON object, no name twice. People edit
// the file on any system, so a byte order mark and CRLF are welcome.
func parse(file string, text []byte) (*document, error) {
	d := &document{file: file, text: bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))}
	switch {
	case len(text) > MaxSize:
		return nil, d.fail(-1, "", "the document is longer than 1 MiB", nil)
	case bytes.HasPrefix(text, []byte("\xff\xfe")), bytes.HasPrefix(text, []byte("\xfe\xff")):
		return nil, d.fail(-1, "", "the document is in UTF-16, save it as UTF-8", nil)
	case len(bytes.TrimSpace(d.text)) == 0:
		return nil, d.fail(-1, "", "the document is empty", io.ErrUnexpectedEOF)
	case len(bytes.Trim(d.text, "\x00")) == 0:
		return nil, d.fail(-1, "", "the document is all zero bytes", io.ErrUnexpectedEOF)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(d.text))
	root, err := d.value(dec)
	if err != nil {
		return nil, err
	}
	if !root.isObject() {
		return nil, d.fail(root.at, "", "the document is not an object {…}", nil)
	}
	end := int(dec.InputOffset())
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		end += len(d.text[end:]) - len(bytes.TrimLeft(d.text[end:], " \t\r\n"))
		return nil, d.fail(end, "", "there is more after the end of the document", nil)
	}
	d.root = root
	return d, nil
}

func (d *document) value(dec *jsontext.Decoder) (*node, error) {
	switch dec.PeekKind() {
	case jsontext.KindBeginObject:
		return d.object(dec)
	case jsontext.KindBeginArray:
		return d.list(dec)
	}
	v, err := dec.ReadValue()
	if err != nil {
		return nil, d.syntax(err)
	}
	return &node{at: int(dec.InputOffset()) - len(v), raw: v.Clone()}, nil
}

func (d *document) object(dec *jsontext.Decoder) (*node, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	start := int(dec.InputOffset()) - 1
	var members []member
	for dec.PeekKind() != jsontext.KindEndObject {
		quoted, err := dec.ReadValue()
		if err != nil {
			return nil, d.syntax(err)
		}
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return nil, d.syntax(err)
		}
		at := int(dec.InputOffset()) - len(quoted)
		value, err := d.value(dec)
		if err != nil {
			return nil, err
		}
		members = append(members, member{string(name), at, value})
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	return newObject(start, members), nil
}

func (d *document) list(dec *jsontext.Decoder) (*node, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	n := &node{at: int(dec.InputOffset()) - 1}
	for dec.PeekKind() != jsontext.KindEndArray {
		item, err := d.value(dec)
		if err != nil {
			return nil, err
		}
		if item.isNull() {
			return nil, d.fail(item.at, dec.StackPointer(), "null has no meaning in a list", nil)
		}
		n.items = append(n.items, item)
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, d.syntax(err)
	}
	n.raw = jsontext.Value(d.text[n.at:dec.InputOffset()])
	return n, nil
}

// position tells line and column of an offset, both from 1, the column in
// characters.
func (d *document) position(offset int) (line, column int) {
	before := d.text[:min(max(offset, 0), len(d.text))]
	line = 1 + bytes.Count(before, []byte("\n"))
	return line, 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
}
