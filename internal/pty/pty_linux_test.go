package pty

import (
	"io"
	"testing"
)

// TestOpen: all bytes pass, both ways, as they are.
func TestOpen(t *testing.T) {
	person, program, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	for _, way := range []struct {
		name string
		from io.Writer
		to   io.Reader
	}{{"typed", person, program}, {"shown", program, person}} {
		if _, err := way.from.Write(all); err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		got := make([]byte, len(all))
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != string(all) {
			t.Errorf("%s: got % X, %v, want % X", way.name, got, err, all)
		}
	}
	for _, f := range []io.Closer{program, person} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
