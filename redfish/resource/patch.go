package resource

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
)

// A Property is one that PATCH can write. Set writes it, or says why not; for
// an object it may do both, each for a part. The problems' RelatedProperties
// are seen from the object that the property is in: "#/Name".
type Property struct {
	Name string
	Set  func(value any) (done bool, problems []message.Message)
}

// Patch applies the request's body (DSP0266, PATCH (update)): what can be
// written is written, and the rest is listed in the answer; if nothing could
// be, the answer is an error.
func Patch(q *Request, get Handler, writable ...Property) *Reply {
	if len(q.Body) == 0 {
		return Fail(message.EmptyJSON())
	}
	before := get(q)
	if before.Problems != nil {
		return before
	}
	known, err := names(before.Resource)
	if err != nil {
		return Fail(message.InternalError())
	}
	done, problems := write(q.Body, writable, known)
	switch {
	case !done && problems == nil:
		return Fail(message.NoOperation())
	case !done:
		return Fail(problems...)
	}
	after := get(q)
	if after.Problems != nil {
		return after
	}
	return &Reply{Status: http.StatusOK, Resource: after.Resource, Problems: problems}
}

// write writes each member of a body for which there is a property. known are
// the members of what is shown.
func write(body Object, writable []Property, known map[string]json.RawMessage) (done bool, problems []message.Message) {
	for _, m := range body {
		if Ignored(m.Name) {
			continue
		}
		i := slices.IndexFunc(writable, func(p Property) bool { return p.Name == m.Name })
		if i < 0 {
			problem := message.PropertyUnknown(m.Name)
			if _, there := known[m.Name]; there {
				problem = message.PropertyNotWritable(m.Name)
			}
			problems = append(problems, problem.About(message.Pointer(m.Name)))
			continue
		}
		written, bad := writable[i].Set(m.Value)
		done = done || written
		problems = append(problems, bad...)
	}
	return done, problems
}

// names lists the members of a resource or of an object in it.
func names(v any) (map[string]json.RawMessage, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	known := map[string]json.RawMessage{}
	return known, json.Unmarshal(data, &known)
}

// result is what a property's Set answers for a value of the right type. A
// setter's problem that is about nothing yet is about the property.
func result(name string, problems []message.Message) (bool, []message.Message) {
	for i, p := range problems {
		if p.RelatedProperties == nil {
			problems[i] = p.About(message.Pointer(name))
		}
	}
	return problems == nil, problems
}

func badType(name string, value any) (bool, []message.Message) {
	return false, []message.Message{message.PropertyValueTypeError(value, name).About(message.Pointer(name))}
}

// Bool is a property that is true or false.
func Bool(name string, set func(bool) []message.Message) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		b, isBool := value.(bool)
		if !isBool {
			return badType(name, value)
		}
		return result(name, set(b))
	}}
}

// String is a property that is any text.
func String(name string, set func(string) []message.Message) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		text, isString := value.(string)
		if !isString {
			return badType(name, value)
		}
		return result(name, set(text))
	}}
}

// Secret is a String that is never shown, not even in errors.
func Secret(name string, set func(string) []message.Message) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		text, isString := value.(string)
		if !isString {
			return false, []message.Message{message.PropertyValueError(name).About(message.Pointer(name))}
		}
		return result(name, set(text))
	}}
}

// Enum is a property that is one of some words.
func Enum(name string, words []string, set func(string) []message.Message) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		text, isString := value.(string)
		if !isString {
			return badType(name, value)
		}
		if !slices.Contains(words, text) {
			return false, []message.Message{message.PropertyValueNotInList(text, name).About(message.Pointer(name))}
		}
		return result(name, set(text))
	}}
}

// Integer is a property that is a whole number from low to high.
func Integer(name string, low, high int64, set func(int64) []message.Message) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		n, fits, isNumber := integer(value)
		if !isNumber {
			return badType(name, value)
		}
		if !fits || n < low || n > high {
			return false, []message.Message{message.PropertyValueOutOfRange(value, name).About(message.Pointer(name))}
		}
		return result(name, set(n))
	}}
}

// integer reads a whole number as JSON may write it (1e3, 5.0); fits: it is one
// of int64.
func integer(value any) (n int64, fits, isNumber bool) {
	number, isNumber := value.(json.Number)
	if !isNumber {
		return 0, false, false
	}
	if n, err := number.Int64(); err == nil {
		return n, true, true
	}
	f, err := number.Float64()
	if err == nil && f != math.Trunc(f) {
		return 0, false, false
	}
	if err != nil || math.Abs(f) >= 1<<53 {
		return 0, false, true
	}
	return int64(f), true, true
}

// Number is a property that is any number, or null if null is not nil.
func Number(name string, set func(float64) []message.Message, null func() []message.Message) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		if value == nil && null != nil {
			return result(name, null())
		}
		number, isNumber := value.(json.Number)
		if !isNumber {
			return badType(name, value)
		}
		f, err := number.Float64()
		if err != nil {
			return false, []message.Message{message.PropertyValueOutOfRange(value, name).About(message.Pointer(name))}
		}
		return result(name, set(f))
	}}
}

// Nullable is p that also takes null, for which unset is called.
func Nullable(p Property, unset func() []message.Message) Property {
	return Property{p.Name, func(value any) (bool, []message.Message) {
		if value == nil {
			return result(p.Name, unset())
		}
		return p.Set(value)
	}}
}

// Group is an object with properties of its own. shown is the object as GET
// shows it: what is in it and not writable is told from what is not there.
func Group(name string, shown any, writable ...Property) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		body, isObject := value.(Object)
		if !isObject {
			return badType(name, value)
		}
		known, err := names(shown)
		if err != nil {
			return result(name, []message.Message{message.InternalError()})
		}
		done, problems := write(body, writable, known)
		for i, p := range problems {
			problems[i] = p.About(Within(name, p.RelatedProperties)...)
		}
		return done, problems
	}}
}

// Whole is an object whose properties mean something only together: check is
// given each as it was sent, and the setter is called once, if none was bad.
func Whole(name string, shown any, writable []Property, set func() []message.Message) Property {
	group := Group(name, shown, writable...)
	return Property{name, func(value any) (bool, []message.Message) {
		done, problems := group.Set(value)
		if !done || problems != nil {
			return false, problems
		}
		return result(name, set())
	}}
}

// Within puts pointers into the object name: "#/A" becomes "#/name/A".
func Within(name string, pointers []string) []string {
	var all []string
	for _, p := range pointers {
		all = append(all, message.Pointer(name)+strings.TrimPrefix(p, "#"))
	}
	return all
}
