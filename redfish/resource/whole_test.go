package resource

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nitrino/nitrino/redfish/message"
)

// A thing has a name and a list.
type thing struct {
	OData
	Word string   `json:"Word"`
	Size int      `json:"Size"`
	List []string `json:"List"`
}

// PatchWhole writes all or nothing of what has a value.
func TestPatchWhole(t *testing.T) {
	for _, c := range []struct {
		body    string
		refuse  bool // what is to be committed
		status  int
		keys    []string
		related []string
		want    string
	}{
		{`{"Word":"b"}`, false, 200, nil, nil, "b [x y]"},
		{`{"Word":"b","Size":2,"Bogus":1}`, false, 200, []string{"PropertyNotWritable", "PropertyUnknown"}, []string{"#/Size", "#/Bogus"}, "b [x y]"},
		{`{"Word":"b","List":[5]}`, false, 0, []string{"PropertyValueTypeError"}, []string{"#/List/0"}, "a [x y]"},
		{`{"Word":"b","Size":2}`, true, 0, []string{"PropertyNotWritable", "PropertyNotUpdated"}, []string{"#/Size", "#/Word"}, "a [x y]"},
		{`{"Size":2}`, false, 0, []string{"PropertyNotWritable"}, []string{"#/Size"}, "a [x y]"},
		{`{}`, false, 0, []string{"EmptyJSON"}, nil, "a [x y]"},
		{`{"@odata.id":"/x"}`, false, 0, []string{"NoOperation"}, nil, "a [x y]"},
		// Arrays.
		{`{"List":["z"]}`, false, 200, nil, nil, "a [z]"},
		{`{"List":[null,"z"]}`, false, 200, nil, nil, "a [z]"},
		{`{"List":[{},"z","w"]}`, false, 200, nil, nil, "a [x z w]"},
		{`{"List":[{},{},{},null]}`, false, 200, nil, nil, "a [x y]"},
		{`{"List":[]}`, false, 200, nil, nil, "a []"},
		{`{"List":{}}`, false, 0, []string{"PropertyValueTypeError"}, []string{"#/List"}, "a [x y]"},
		{`{"List":["z",{"a":1},7]}`, false, 0, []string{"PropertyValueTypeError", "PropertyValueTypeError"}, []string{"#/List/1", "#/List/2"}, "a [x y]"},
	} {
		now := thing{OData: NewOData("/redfish/v1/x", "Thing.v1_0_0.Thing", "x"), Word: "a", List: []string{"x", "y"}}
		next := now
		body, problem := Decode([]byte(c.body), "")
		if problem != nil {
			t.Fatal(problem)
		}
		commit := func() []message.Message {
			if c.refuse {
				return []message.Message{message.PropertyNotUpdated("Word").About("#/Word")}
			}
			now = next
			return nil
		}
		reply := PatchWhole(&Request{Body: body}, func(*Request) *Reply { return OK(now) }, commit,
			String("Word", func(s string) []message.Message { next.Word = s; return nil }),
			Strings("List", now.List, func(list []string) []message.Message { next.List = list; return nil }))
		var keys, related []string
		for _, p := range reply.Problems {
			keys = append(keys, p.ID[len(message.BaseRegistry):])
			related = append(related, p.RelatedProperties...)
		}
		if got := fmt.Sprint(now.Word, " ", now.List); reply.Status != c.status || !slices.Equal(keys, c.keys) || !slices.Equal(related, c.related) || got != c.want {
			t.Errorf("%s: got %d %v %v, %s; want %d %v %v, %s", c.body, reply.Status, keys, related, got, c.status, c.keys, c.related, c.want)
		}
	}
}
