package redfish

import (
	"encoding/json"
	"net/http"
)

// A property is one that PATCH can write. set writes it, or says why not; for
// an object it may do both, each for a part.
type property struct {
	name string
	set  func(value any) (done bool, problems []message)
}

// patch applies the request's body (DSP0266, PATCH (update)): what can be
// written is written, and the rest is listed in the answer; if nothing could
// be, the answer is an error.
func (s *Service) patch(q *request, get func(*request) *reply, writable []property) *reply {
	if len(q.body) == 0 {
		return fail(emptyJSON())
	}
	before := get(q)
	if before.problems != nil {
		return before
	}
	known, err := names(before.resource)
	if err != nil {
		return s.failed(err)
	}
	var problems []message
	done, asked := false, false
	for _, m := range q.body {
		if ignored(m.name) {
			continue
		}
		asked = true
		set := func(any) (bool, []message) { return false, []message{unwritable(m.name, known).about(pointer(m.name))} }
		for _, p := range writable {
			if p.name == m.name {
				set = p.set
			}
		}
		written, bad := set(m.value)
		done = done || written
		problems = append(problems, bad...)
	}
	switch {
	case !asked:
		return fail(noOperation())
	case !done:
		return fail(problems...)
	}
	after := get(q)
	if after.problems != nil {
		return after
	}
	return &reply{status: http.StatusOK, resource: after.resource, problems: problems}
}

// unwritable tells a property that is there from one that is not.
func unwritable(name string, known map[string]json.RawMessage) message {
	if _, there := known[name]; there {
		return propertyNotWritable(name)
	}
	return propertyUnknown(name)
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
