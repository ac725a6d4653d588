package resource

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// ParseObject reads a JSON object that this service made.
func ParseObject(data []byte) (Object, error) {
	v, err := parse(data)
	if err != nil {
		return nil, err
	}
	o, isObject := v.(Object)
	if !isObject {
		return nil, fmt.Errorf("%w: no object", errSyntax)
	}
	return o, nil
}

// Get finds a member's value; nil: there is none, or it is null.
func (o Object) Get(name string) any {
	for _, m := range o {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// AppendJSON writes a value as Object describes them. A json.RawMessage is
// written as it is.
func AppendJSON(to []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(to, "null"...), nil
	case bool:
		return strconv.AppendBool(to, v), nil
	case json.Number:
		return append(to, v...), nil
	case json.RawMessage:
		return append(to, v...), nil
	case string:
		return appendString(to, v)
	case []any:
		to = append(to, '[')
		for i, each := range v {
			if i > 0 {
				to = append(to, ',')
			}
			if to, err = AppendJSON(to, each); err != nil {
				return nil, err
			}
		}
		return append(to, ']'), nil
	case Object:
		to = append(to, '{')
		for i, m := range v {
			if i > 0 {
				to = append(to, ',')
			}
			if to, err = appendString(to, m.Name); err != nil {
				return nil, err
			}
			if to, err = AppendJSON(append(to, ':'), m.Value); err != nil {
				return nil, err
			}
		}
		return append(to, '}'), nil
	}
	return nil, fmt.Errorf("encoding JSON: a %T", v)
}

// appendString escapes as encoding/json does, so that a text looks the same
// however it came to be in an answer.
func appendString(to []byte, text string) ([]byte, error) {
	data, err := json.Marshal(text)
	if err != nil {
		return nil, fmt.Errorf("encoding a text: %w", err)
	}
	return append(to, data...), nil
}
