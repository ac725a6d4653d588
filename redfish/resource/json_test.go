package resource

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestAppendJSON(t *testing.T) {
	const text = `{"b":1.50,"a":[true,null,{"c":"\u003cd\u003e \"é\""}],"e":{},"f":[]}`
	o, err := ParseObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := AppendJSON([]byte("x"), o)
	if want := "x" + text; string(got) != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	got, err = AppendJSON(nil, Object{{"raw", json.RawMessage(`{"z":1}`)}})
	if want := `{"raw":{"z":1}}`; string(got) != want || err != nil {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if got, err := AppendJSON(nil, []any{struct{}{}}); err == nil {
		t.Errorf("a value of another type: got %s, want an error", got)
	}
	if got := o.Get("b"); got != json.Number("1.50") {
		t.Errorf("Get: got %v", got)
	}
	if got := o.Get("none"); got != nil {
		t.Errorf("Get of none: got %v", got)
	}
	if _, err := ParseObject([]byte(`[1]`)); err == nil {
		t.Error("an array is taken for an object")
	}
}

// FuzzJSON: what is read and written again means the same.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2.5e3,"\ud83d\ude00<>&",null,true,{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := ParseObject(data)
		if err != nil {
			return
		}
		again, err := AppendJSON(nil, o)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		d, e := json.NewDecoder(bytes.NewReader(data)), json.NewDecoder(bytes.NewReader(again))
		d.UseNumber()
		e.UseNumber()
		if d.Decode(&want) != nil || e.Decode(&got) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s became %s", data, again)
		}
	})
}
