package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/nitrino/nitrino/redfish/message"
)

// maxDepth is how deep objects and arrays of a request may nest. No schema
// goes half as deep.
const maxDepth = 16

// An Object is a JSON object in the order it was sent. A value is nil, a bool,
// a string, a json.Number, an []any or an Object.
type Object []Member

// A Member is one of an Object.
type Member struct {
	Name  string
	Value any
}

var (
	errTooDeep = errors.New("nested too deep")
	errSyntax  = errors.New("not JSON")
)

// A duplicateError says which name an object has twice; RFC 8259 section 4
// leaves open which value would count.
type duplicateError struct{ path []string }

func (e *duplicateError) Error() string { return "duplicate name " + strings.Join(e.path, "/") }

// Decode reads a request body (strict JSON in UTF-8, one object) or says
// what is wrong with it. action is the action that the body has parameters
// for, "" where it has properties.
func Decode(data []byte, action string) (Object, *message.Message) {
	v, err := parse(data)
	if dup := (*duplicateError)(nil); errors.As(err, &dup) {
		name := dup.path[len(dup.path)-1]
		m := message.PropertyDuplicate(name)
		if action != "" {
			m = message.ActionParameterDuplicate(action, name)
		}
		return nil, new(m.About(message.Pointer(dup.path...)))
	}
	if errors.Is(err, errTooDeep) {
		return nil, new(message.UnrecognizedRequestBody())
	}
	if err != nil {
		return nil, new(message.MalformedJSON())
	}
	o, isObject := v.(Object)
	if !isObject {
		return nil, new(message.UnrecognizedRequestBody())
	}
	return o, nil
}

func parse(data []byte) (any, error) {
	// The decoder would put U+FFFD for what is no UTF-8.
	if !utf8.Valid(data) {
		return nil, errSyntax
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := parseValue(d, nil)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errSyntax
	}
	return v, nil
}

func parseValue(d *json.Decoder, path []string) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSyntax, err)
	}
	delim, nests := t.(json.Delim)
	if !nests {
		return t, nil
	}
	if len(path) >= maxDepth {
		return nil, errTooDeep
	}
	if delim == '[' {
		list := []any{}
		for d.More() {
			v, err := parseValue(d, append(path, fmt.Sprint(len(list))))
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, end(d)
	}
	o, seen := Object{}, map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errSyntax, err)
		}
		name, isString := t.(string)
		if !isString {
			return nil, errSyntax
		}
		here := append(path, name)
		if seen[name] {
			return nil, &duplicateError{append([]string(nil), here...)}
		}
		seen[name] = true
		v, err := parseValue(d, here)
		if err != nil {
			return nil, err
		}
		o = append(o, Member{name, v})
	}
	return o, end(d)
}

// end takes the closing bracket.
func end(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("%w: %w", errSyntax, err)
	}
	return nil
}

// Ignored: annotations that a client has from an earlier GET and that ask for
// nothing (DSP0266, PATCH (update)): any @odata or @Message one, and one that
// belongs to a property.
func Ignored(name string) bool {
	return strings.HasPrefix(name, "@odata.") || strings.HasPrefix(name, "@Message.") || strings.IndexByte(name, '@') > 0
}
