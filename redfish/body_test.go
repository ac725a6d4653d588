package redfish

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
)

func TestDecodeObject(t *testing.T) {
	for _, c := range []struct {
		body string
		want object
		id   string
	}{
		{`{}`, object{}, ""},
		{` {"b":1, "a":[true,null,{"c":"d"}]} `, object{{"b", json.Number("1")}, {"a", []any{true, nil, object{{"c", "d"}}}}}, ""},
		{``, nil, "MalformedJSON"},
		{`{"a":1,}`, nil, "MalformedJSON"},
		{`{"a" 1}`, nil, "MalformedJSON"},
		{`{1:1}`, nil, "MalformedJSON"},
		{`{"a":1]`, nil, "MalformedJSON"},
		{`{"a":01}`, nil, "MalformedJSON"},
		{`{"a":NaN}`, nil, "MalformedJSON"},
		{`{}x`, nil, "MalformedJSON"},
		{`null`, nil, "UnrecognizedRequestBody"},
		{`"a"`, nil, "UnrecognizedRequestBody"},
		{`{"a":1,"\u0061":2}`, nil, "PropertyDuplicate"},
		{`{"a":[{"b":1,"b":1}]}`, nil, "PropertyDuplicate"},
		{strings.Repeat(`{"a":`, maxDepth) + `1` + strings.Repeat(`}`, maxDepth), nil, ""},
		{strings.Repeat(`{"a":`, maxDepth+1) + `1` + strings.Repeat(`}`, maxDepth+1), nil, "UnrecognizedRequestBody"},
		{strings.Repeat(`[`, 100000), nil, "UnrecognizedRequestBody"},
	} {
		got, problem := decodeObject([]byte(c.body), "")
		id := ""
		if problem != nil {
			id = strings.TrimPrefix(problem.ID, baseRegistry)
		}
		if id != c.id || c.want != nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%.60s: got %v %q, want %v %q", c.body, got, id, c.want, c.id)
		}
	}
}

// FuzzBody reads a request body and all that is done with its values: what is
// taken must be JSON that encoding/json takes too, and must never be an
// override that the host does not have.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"ResetType":"On"}`, `{"PowerRestorePolicy":"LastState","@odata.etag":"\"x\""}`, `{"SessionTimeout":1e2}`, `{"a":{"a":1,"a":2}}`,
		`{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe","BootSourceOverrideMode":null}}`, "{\"a\":\"\xff\"}", `[[[[`, `{"~/":[{}]}`,
	} {
		f.Add([]byte(s))
	}
	targets := []host.BootTarget{host.BootPXE, host.BootCD}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, problem := decodeObject(data, "")
		if problem != nil {
			if problem.status != 400 {
				t.Errorf("status %d", problem.status)
			}
			return
		}
		var std map[string]any
		if err := json.Unmarshal(data, &std); err != nil || len(std) != len(o) {
			t.Errorf("taken, but encoding/json says %v, %d of %d members", err, len(std), len(o))
		}
		for _, m := range o {
			pointer(m.name)
			show(m.value)
			given, isObject := m.value.(object)
			if !isObject {
				continue
			}
			for _, now := range []host.BootOverride{{Target: host.BootDefault}, {Target: host.BootCD, Continuous: true}} {
				shown := newBoot(targets, now)
				sent, problems := bootValues(given, shown.Targets)
				if problems != nil {
					continue
				}
				want, problems := parseBoot(sent, shown, now)
				if problems == nil && want.Target != host.BootDefault && want.Target != host.BootPXE && want.Target != host.BootCD {
					t.Errorf("target %q", want.Target)
				}
			}
		}
	})
}
