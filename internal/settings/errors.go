package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrUnknownPath says that a path names nothing in the settings.
var ErrUnknownPath = errors.New("no such setting")

// An Error says what is wrong with a document, and where.
type Error struct {
	File         string // base name; "" where the text came from no file
	Line, Column int    // from 1; 0 where no place can be told; columns count characters
	Pointer      string // JSON pointer (RFC 6901) of what is wrong; "" for the whole
	Problem      string // in plain words
	Err          error  // the cause, if another package found it
}

// Error says all of it: bmc.json:12:5: power.off_time: "5" is not a duration.
func (e *Error) Error() string {
	s := e.Problem
	if e.Pointer != "" {
		s = pathOf(jsontext.Pointer(e.Pointer)) + ": " + s
	}
	switch {
	case e.File == "":
		return s
	case e.Line == 0:
		return e.File + ": " + s
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, s)
}

func (e *Error) Unwrap() error { return e.Err }

// A FieldError is what Options.Validate returns, alone or joined with others,
// so that the place in the file can be told.
type FieldError struct {
	Pointer string // JSON pointer (RFC 6901) of the field, "/power/off_time"
	Err     error
}

func (e *FieldError) Error() string {
	return pathOf(jsontext.Pointer(e.Pointer)) + ": " + e.Err.Error()
}

func (e *FieldError) Unwrap() error { return e.Err }

// fail makes the error for a place in the document; offset -1: no place.
func (d *document) fail(offset int, at jsontext.Pointer, problem string, cause error) *Error {
	e := &Error{File: d.file, Pointer: string(at), Problem: problem, Err: cause}
	if offset >= 0 && d.file != "" {
		e.Line, e.Column = d.position(offset)
	}
	return e
}

// syntax puts an error of the JSON grammar into plain words.
func (d *document) syntax(err error) *Error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return d.fail(len(d.text), "", "the document ends in the middle", io.ErrUnexpectedEOF)
	}
	s, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return d.fail(-1, "", err.Error(), err)
	}
	offset := int(s.ByteOffset)
	if errors.Is(s.Err, jsontext.ErrDuplicateName) {
		return d.fail(offset, s.JSONPointer.Parent(), fmt.Sprintf("the field %q is there twice", s.JSONPointer.LastToken()), err)
	}
	problem := s.Error() // for want of a cause
	if s.Err != nil {
		problem = s.Err.Error()
	}
	rest := d.text[min(offset, len(d.text)):]
	switch {
	case len(rest) > 0 && (rest[0] == '/' || rest[0] == '#'):
		problem = "comments are not possible in JSON"
	case len(rest) > 0 && rest[0] == ',':
		if next := bytes.TrimLeft(rest[1:], " \t\r\n"); len(next) > 0 && (next[0] == '}' || next[0] == ']') {
			problem = fmt.Sprintf("the comma before %q is one too many", next[:1])
		}
	}
	return d.fail(offset, s.JSONPointer, problem, err)
}

// explain puts an error of json.Unmarshal into plain words. root is what was
// decoded; docs are where it came from, the lowest first.
func explain(err error, root *node, docs []*document) error {
	s, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return place(docs, "", false, err.Error(), err)
	}
	at := s.JSONPointer
	if errors.Is(s.Err, json.ErrUnknownName) {
		problem := fmt.Sprintf("unknown field %q", at.LastToken()) + suggest(at.LastToken(), fieldNames(s))
		e := place(docs, at, true, problem, err)
		e.Pointer = string(at.Parent())
		return e
	}
	problem := ""
	switch value := show(root.find(at)); {
	case s.Err == nil:
		problem = value + " is not " + wanted(s)
	case errors.Is(s.Err, errNotDuration):
		problem = value + " is " + errNotDuration.Error()
	case errors.Is(s.Err, strconv.ErrRange):
		problem = value + " is out of range"
	case errors.Is(s.Err, strconv.ErrSyntax):
		problem = value + " is not " + wanted(s)
	default:
		problem = s.Err.Error()
		if !strings.Contains(problem, value) {
			problem = value + ": " + problem
		}
	}
	return place(docs, at, false, problem, err)
}

// place makes the error for at, in the highest document that holds it or, when
// none does, that holds the nearest object around it. name: the place is that
// of the name, not of the value.
func place(docs []*document, at jsontext.Pointer, name bool, problem string, cause error) *Error {
	for p := at; p != ""; p = p.Parent() {
		for i := len(docs) - 1; i >= 0; i-- {
			d := docs[i]
			n := d.root.find(p)
			if n == nil {
				continue
			}
			offset := n.at
			if parent := d.root.find(p.Parent()); name && p == at && parent.isObject() {
				offset = parent.members[parent.index[p.LastToken()]].at
			}
			return d.fail(offset, at, problem, cause)
		}
	}
	if len(docs) == 0 {
		return &Error{Pointer: string(at), Problem: problem, Err: cause}
	}
	return docs[len(docs)-1].fail(-1, at, problem, cause)
}

// placeAll finds the places of what Validate returned.
func placeAll(docs []*document, err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, e := range joined.Unwrap() {
			list = append(list, placeAll(docs, e))
		}
		return errors.Join(list...)
	}
	if f, ok := errors.AsType[*FieldError](err); ok {
		return place(docs, jsontext.Pointer(f.Pointer), false, f.Err.Error(), f.Err)
	}
	return place(docs, "", false, err.Error(), err)
}

// show is a value as an error quotes it.
func show(n *node) string {
	switch {
	case n == nil:
		return "what is missing"
	case n.isObject():
		return "an object {…}"
	case n.raw.Kind() == jsontext.KindBeginArray:
		return "a list […]"
	}
	const limit = 60
	if r := []rune(string(n.raw)); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return string(n.raw)
}

// wanted names what a field takes.
func wanted(s *json.SemanticError) string {
	if s.GoType == nil {
		return "what this field takes"
	}
	switch kind := s.GoType.Kind().String(); strings.TrimRight(kind, "0123456789") {
	case "bool":
		return "true or false"
	case "int", "uint":
		return "a whole number"
	case "float":
		return "a number"
	case "string":
		return `a string in "quotes"`
	case "slice", "array":
		if s.JSONKind == jsontext.KindBeginArray {
			return "a string of base64" // of all lists only bytes refuse a list
		}
		return "a list […]"
	case "map", "struct":
		return "an object {…}"
	default:
		return "a " + kind
	}
}

// fieldNames lists the fields that stand where an unknown one was met. The
// error carries the Go type; to ask that for its tags is the only reflection
// here, and only a message's wording depends on it.
func fieldNames(s *json.SemanticError) []string {
	if s.GoType == nil || s.GoType.Kind().String() != "struct" {
		return nil
	}
	var names []string
	for f := range s.GoType.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// suggest words the hint at what an unknown name may have meant.
func suggest(name string, known []string) string {
	best, bestDistance := "", 1+len(name)/3
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d <= bestDistance && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf(" (did you mean %q?)", best)
	case len(known) > 0:
		return fmt.Sprintf(" (known here: %s)", strings.Join(known, ", "))
	}
	return ""
}

// distance is the number of letters to insert, drop, change or swap with
// their neighbour that make b of a.
func distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			change := row[j]
			if a[i] != b[j] {
				change++
			}
			next[j+1] = min(change, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
