package console

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
		bad  bool
	}{
		{"", nil, false},
		{" \t ", nil, false},
		{"power on", []string{"power", "on"}, false},
		{"  a \t b ", []string{"a", "b"}, false},
		{`a 'b c' "d e"`, []string{"a", "b c", "d e"}, false},
		{`''`, []string{""}, false},
		{`a"" ''`, []string{"a", ""}, false},
		{`a'b'"c"d`, []string{"abcd"}, false},
		{`a\ b`, []string{"a b"}, false},
		{`'a\'`, []string{`a\`}, false},
		{`"a\"b\\c\d"`, []string{`a"b\c\d`}, false},
		{`\'`, []string{"'"}, false},
		{`#x`, []string{"#x"}, false},
		{`set x '{"a": 1}'`, []string{"set", "x", `{"a": 1}`}, false},
		{`set x {"a": ["1", "2 3"]}`, []string{"set", "x", `{"a": ["1", "2 3"]}`}, false},
		{` ["a b"] x`, []string{`["a b"]`, "x"}, false},
		{`[1]2`, []string{"[1]2"}, false},
		{`a["b c"]`, []string{"a[b c]"}, false},
		{`["a b`, nil, true},
		{`[a "b"]`, []string{"[a", "b]"}, false},
		{"ü 'é'", []string{"ü", "é"}, false},
		{`'a`, nil, true},
		{`"a`, nil, true},
		{`a\`, nil, true},
		{`"a\"`, nil, true},
	} {
		got, err := split(tt.in)
		if !slices.Equal(got, tt.want) || (err != nil) != tt.bad {
			t.Errorf("split(%q): got %q, %v, want %q", tt.in, got, err, tt.want)
		}
		if err != nil && !errors.Is(err, errUsage) {
			t.Errorf("split(%q): %v is no usage error", tt.in, err)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{`a 'b c' "d\"e"`, `''`, `a\ b`, "x\x00y", `"`, `["a b"]'c'`, `{"a":"\""} b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := split(line)
		if err != nil {
			if words != nil {
				t.Fatalf("%q: words beside an error: %q", line, words)
			}
			return
		}
		// Quoted again, the words are the same.
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		again, err := split(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Fatalf("%q: got %q, quoted %q, then %q, %v", line, words, quoted, again, err)
		}
	})
}

func testFlags() []flag {
	return []flag{{name: "-f", long: "--follow"}, {name: "-n", long: "--lines", value: "N"}, {name: "--json"}}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args  string
		given map[string]string
		rest  []string
		bad   bool
	}{
		{"", map[string]string{}, nil, false},
		{"a b", map[string]string{}, []string{"a", "b"}, false},
		{"-f", map[string]string{"-f": ""}, nil, false},
		{"--follow a", map[string]string{"-f": ""}, []string{"a"}, false},
		{"a -n 5 b", map[string]string{"-n": "5"}, []string{"a", "b"}, false},
		{"--lines=5", map[string]string{"-n": "5"}, nil, false},
		{"-n -5", map[string]string{"-n": "-5"}, nil, false},
		{"-- -f", map[string]string{}, []string{"-f"}, false},
		{"-", map[string]string{}, []string{"-"}, false},
		{"-n", nil, nil, true},
		{"-x", nil, nil, true},
		{"-fn", nil, nil, true},
		{"--json=1", nil, nil, true},
		{"--follow --", map[string]string{"-f": ""}, nil, false},
	} {
		given, rest, err := parse(strings.Fields(tt.args), testFlags())
		if !maps.Equal(given, tt.given) || !slices.Equal(rest, tt.rest) || (err != nil) != tt.bad {
			t.Errorf("parse(%q): got %v, %q, %v, want %v, %q", tt.args, given, rest, err, tt.given, tt.rest)
		}
		if err != nil && !errors.Is(err, errUsage) {
			t.Errorf("parse(%q): %v is no usage error", tt.args, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a -n 5 --json", "-- -f", "--lines=", "-n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		given, rest, err := parse(args, testFlags())
		if err != nil {
			return
		}
		if len(given)+len(rest) > len(args) {
			t.Fatalf("%q: more comes out than went in: %v, %q", args, given, rest)
		}
		for _, r := range rest {
			if !slices.Contains(args, r) {
				t.Fatalf("%q: %q was not among them", args, r)
			}
		}
		for name := range given {
			if _, ok := findFlag(testFlags(), name); !ok {
				t.Fatalf("%q: unknown option %q", args, name)
			}
		}
	})
}

func TestClean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"plain", "plain"},
		{"zwölf 日本", "zwölf 日本"},
		{"\x1b[2Jx", `\u001b[2Jx`},
		{"a\nb\tc", `a\u000ab\u0009c`},
		{"\x7f", `\u007f`},
		{"\u009b31m", `\u009b31m`},
		{"\u202eabc", `\u202eabc`},
		{"\U000e0041", `\udb40\udc41`},
		{"\xff\x9b", `\xff\x9b`},
		{"\ufffd", "\ufffd"},
	} {
		if got := clean(tt.in); got != tt.want {
			t.Errorf("clean(%q): got %q, want %q", tt.in, got, tt.want)
		}
	}
	if got, want := cleanText("a\n\tb\x1b"), "a\n\tb\\u001b"; got != want {
		t.Errorf("cleanText: got %q, want %q", got, want)
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range clean(s) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q: %q is left", s, r)
			}
		}
	})
}
