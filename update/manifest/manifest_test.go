package manifest

import (
	"bytes"
	"strings"
	"testing"
)

func example() *Manifest {
	hash := strings.Repeat("0123456789abcdef", 4)
	return &Manifest{
		Format: Format, Version: "0.1.0", Revision: "abc", Arch: "arm64", Cmdline: "console=null quiet",
		Components: []Component{{"kernel", "6.12.1", "linux-source-6.12", hash}},
		Files: []File{
			{"kernel8.img", "kernel", 7, hash},
			{"overlays/a.dtbo", "kernel", 0, hash},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	text, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Encode()
	if err != nil || !bytes.Equal(again, text) {
		t.Errorf("got %s, %v, want %s", again, err, text)
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"an unknown field", `"revision"`, `"x":1,"revision"`, "x"},
		{"a field twice", `"revision"`, `"version":"2","revision"`, "duplicate"},
		{"another format", `"format": 1`, `"format": 2`, "format 2, want 1"},
		{"no version", `"0.1.0"`, `""`, "no version"},
		{"no architecture", `"arm64"`, `""`, "no arch"},
		{"a command line of two lines", `null quiet`, `null\nquiet`, "one line"},
		{"a way out", `overlays/a.dtbo`, `../a.dtbo`, "not a path"},
		{"an absolute path", `overlays/a.dtbo`, `/a.dtbo`, "not a path"},
		{"a drive", `overlays/a.dtbo`, `overlays:a`, "not a path"},
		{"the folder itself", `overlays/a.dtbo`, `.`, "not a path"},
		{"disorder", `overlays/a.dtbo`, `a.dtbo`, "order"},
		{"one name twice", `overlays/a.dtbo`, `kernel8.img`, "order"},
		{"a hash in capitals", `89abcdef"`, `89ABCDEF"`, "lower-case"},
		{"a negative size", `"size": 7`, `"size": -7`, "size -7"},
		{"no such component", `"component": "kernel"`, `"component": "x"`, "no component"},
		{"bytes behind", `}
`, `}}`, "after"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := bytes.LastIndex(good, []byte(tt.old))
			if i < 0 {
				t.Fatalf("%s is not in %s", tt.old, good)
			}
			text := string(good[:i]) + tt.new + string(good[i+len(tt.old):])
			if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	m := example()
	m.Files[1].Name = "kernel8.imG"
	m.Files[0], m.Files[1] = m.Files[1], m.Files[0]
	if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), "second") {
		t.Errorf("two names that differ in case: got %v, want an error", err)
	}
	if _, err := Parse(bytes.Repeat([]byte(" "), MaxSize+1)); err == nil {
		t.Error("a document that is too long: got no error")
	}
}

func FuzzParse(f *testing.F) {
	text, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1,"version":"1","arch":"arm64"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		first, err := m.Encode()
		if err != nil {
			return // larger with its spaces than a document may be
		}
		again, err := Parse(first)
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if second, err := again.Encode(); err != nil || !bytes.Equal(first, second) {
			t.Errorf("got %s, %v, want %s", second, err, first)
		}
	})
}
