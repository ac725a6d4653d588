package resource

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/redfish/message"
)

func TestDecodeObject(t *testing.T) {
	for _, c := range []struct {
		body string
		want Object
		id   string
	}{
		{`{}`, Object{}, ""},
		{` {"b":1, "a":[true,null,{"c":"d"}]} `, Object{{"b", json.Number("1")}, {"a", []any{true, nil, Object{{"c", "d"}}}}}, ""},
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
		got, problem := Decode([]byte(c.body), "")
		id := ""
		if problem != nil {
			id = strings.TrimPrefix(problem.ID, message.BaseRegistry)
		}
		if id != c.id || c.want != nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%.60s: got %v %q, want %v %q", c.body, got, id, c.want, c.id)
		}
	}
}

// FuzzBody: what is taken must be JSON that encoding/json takes too, and is
// patched without a panic.
func FuzzBody(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"ResetType":"On"}`, `{"PowerRestorePolicy":"LastState","@odata.etag":"\"\x\""}`, `{"SessionTimeout":1e2}`, `{"a":{"a":1,"a":2}}`,
		`{"Group":{"Word":"b","Count":1e400,"x":null}}`, `{"Flag":null,"Number":1e999}`, "{\"a\":\"\xff\"}", `[[[[`, `{"~/":[{}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, problem := Decode(data, "")
		if problem != nil {
			if problem.Status != 400 {
				t.Errorf("status %d", problem.Status)
			}
			return
		}
		var std map[string]json.RawMessage
		if err := json.Unmarshal(data, &std); err != nil || len(std) != len(o) {
			t.Errorf("taken, but encoding/json says %v, %d of %d members", err, len(std), len(o))
		}
		var count int64
		var word string
		ok := func() []message.Message { return nil }
		properties := []Property{
			Bool("Flag", func(bool) []message.Message { return ok() }),
			Integer("Count", -5, 5, func(n int64) []message.Message { count = n; return nil }),
			Nullable(Enum("Word", []string{"a", "b"}, func(w string) []message.Message { word = w; return nil }), ok),
			Number("Number", func(float64) []message.Message { return ok() }, ok),
		}
		reply := Patch(&Request{Body: o}, func(*Request) *Reply { return OK(NewCollection("/x", "X", "x")) },
			append(properties, Group("Group", NewOData("/x", "X.X", "x"), properties...))...)
		if reply.Problems == nil && reply.Resource == nil {
			t.Error("neither done nor refused")
		}
		if count < -5 || count > 5 || word != "" && word != "a" && word != "b" {
			t.Errorf("set %d, %q", count, word)
		}
		for _, p := range (&Request{Body: o}).Parameters("A.B", Required(Word("Word", []string{"a"}, &word)), Count("Count", 0, 9, &count)) {
			if p.Status != 400 || len(p.RelatedProperties) != 1 {
				t.Errorf("got %+v", p)
			}
		}
	})
}
