package resource

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/nitrino/nitrino/redfish/message"
)

// PatchWhole is Patch for a resource whose properties mean something only
// together: their setters note what was sent, and commit is called once to write
// it. A bad value keeps all from being written; what is not there or not to be
// written keeps only itself from it.
func PatchWhole(q *Request, get Handler, commit func() []message.Message, noting ...Property) *Reply {
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
	noted, problems := write(q.Body, noting, known)
	switch {
	case !noted && problems == nil:
		return Fail(message.NoOperation())
	case !noted || slices.ContainsFunc(problems, IsBad):
		return Fail(problems...)
	}
	if bad := commit(); bad != nil {
		return Fail(append(problems, bad...)...)
	}
	after := get(q)
	if after.Problems != nil { // it is done, and what it made cannot be shown yet
		return NoContent()
	}
	return &Reply{Status: http.StatusOK, Resource: after.Resource, Problems: problems}
}

// IsBad reports whether a problem is with a value, and not just with a property
// that is not there or not to be written.
func IsBad(m message.Message) bool {
	return m.ID != message.BaseRegistry+"PropertyUnknown" && m.ID != message.BaseRegistry+"PropertyNotWritable"
}

// Elements merges what a PATCH sends for the array name with what is in it
// (DSP0266, PATCH on array properties): null takes an element out, {} leaves it
// as it is, and those behind the last one sent go. one reads an element; was is
// nil where there is none yet. What is wrong in it is seen from the element:
// "#/Address", or about nothing.
func Elements[T any](name string, value any, was []T, one func(was *T, value any) (T, []message.Message)) (merged []T, problems []message.Message) {
	list, isList := value.([]any)
	if !isList {
		_, problems := badType(name, value)
		return nil, problems
	}
	merged = []T{}
	for i, each := range list {
		var now *T
		if i < len(was) {
			now = &was[i]
		}
		object, isObject := each.(Object)
		switch {
		case each == nil:
			continue
		case isObject && len(object) == 0:
			if now != nil {
				merged = append(merged, *now)
			}
			continue
		}
		element, bad := one(now, each)
		for _, p := range bad {
			if p.RelatedProperties == nil {
				p.RelatedProperties = []string{"#"}
			}
			problems = append(problems, p.About(Within(name, Within(strconv.Itoa(i), p.RelatedProperties))...))
		}
		merged = append(merged, element)
	}
	return merged, problems
}

// Strings is a property that is an array of texts; was are those in it.
func Strings(name string, was []string, set func([]string) []message.Message) Property {
	return Property{name, func(value any) (bool, []message.Message) {
		all, problems := Elements(name, value, was, func(_ *string, value any) (string, []message.Message) {
			text, isString := value.(string)
			if !isString {
				return "", []message.Message{message.PropertyValueTypeError(value, name)}
			}
			return text, nil
		})
		if problems != nil {
			return false, problems
		}
		return result(name, set(all))
	}}
}
