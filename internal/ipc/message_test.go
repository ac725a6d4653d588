package ipc

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	tests := []struct {
		name, text string
		want       string // "" for a good message, else a part of the error
	}{
		{"tell", `{"v":1,"type":"beat"}`, ""},
		{"request", `{"v":1,"type":"hello","id":7,"body":{"a":[1]}}`, ""},
		{"answer", `{"v":1,"type":"answer","id":7}`, ""},
		{"refusal", `{"v":1,"type":"answer","id":7,"error":"no"}`, ""},
		{"older", `{"v":0,"type":"beat"}`, "version 0"},
		{"newer, with what this one does not know", `{"v":2,"kind":"beat","more":true}`, "version 2"},
		{"no version", `{"type":"beat"}`, "version 0"},
		{"no type", `{"v":1}`, "no type"},
		{"unknown field", `{"v":1,"type":"beat","x":1}`, "unknown"},
		{"field twice", `{"v":1,"type":"beat","type":"ready"}`, "duplicate"},
		{"other case", `{"v":1,"Type":"beat"}`, "unknown"},
		{"answer to nothing", `{"v":1,"type":"answer"}`, "answer to nothing"},
		{"error in a request", `{"v":1,"type":"hello","id":7,"error":"no"}`, "no answer"},
		{"negative ID", `{"v":1,"type":"hello","id":-1}`, "message"},
		{"two messages", `{"v":1,"type":"beat"}{"v":1,"type":"beat"}`, "message"},
		{"nothing", ``, "message"},
		{"no JSON", "\x00\xff", "message"},
		{"too long", `{"v":1,"type":"beat","body":"` + strings.Repeat("x", MaxMessage) + `"}`, "more than"},
	}
	for _, tt := range tests {
		_, err := Decode([]byte(tt.text))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		_, version := errors.AsType[*VersionError](err)
		if err != nil && !version && !errors.Is(err, ErrMessage) {
			t.Errorf("%s: got %v, which is neither kind of error", tt.name, err)
		}
	}
}

func TestInto(t *testing.T) {
	var v struct {
		A int `json:"a"`
	}
	for text, good := range map[string]bool{`{"a":1}`: true, `{}`: true, `{"a":1,"b":2}`: false, `{"a":"1"}`: false, ``: false} {
		err := Message{Type: "x", Body: []byte(text)}.Into(&v)
		if (err == nil) != good || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("%q: got %v, want good: %v", text, err, good)
		}
	}
}

// FuzzDecode: what was decoded encodes to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"v":1,"type":"hello","id":7,"body":{"a":[1]}}`, `{"v":1,"type":"answer","id":7,"error":"no"}`, `{"v":2}`, `{"v":1,"type":"beat"`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Decode(data)
		if err != nil {
			return
		}
		again, err := encode(m, nil)
		if err != nil {
			if len(data) > MaxMessage-1024 {
				return // other escapes of the same text may be longer
			}
			t.Fatalf("%q: decoded but not encoded: %v", data, err)
		}
		n, err := Decode(again)
		if err != nil {
			t.Fatalf("%q: encoded as %q: %v", data, again, err)
		}
		if n.Type != m.Type || n.ID != m.ID || n.Error != m.Error || len(m.Body) > 0 && !bytes.Equal(canonical(t, n), canonical(t, m)) {
			t.Errorf("%q: got %+v, want %+v", data, n, m)
		}
	})
}

// canonical is a body in RFC 8785's form.
func canonical(t *testing.T, m Message) []byte {
	b := m.Body.Clone()
	if err := b.Canonicalize(); err != nil {
		t.Fatal(err)
	}
	return b
}
