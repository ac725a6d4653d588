package console

import (
	"bytes"
	"testing"
)

// run feeds chunks and writes each action into the output as <n>.
func runEscape(chunks ...[]byte) (string, bool) {
	var e escape
	var out []byte
	for _, in := range chunks {
		for len(in) > 0 {
			var used int
			var act action
			out, used, act = e.next(out, in)
			in = in[used:]
			switch act {
			case leave:
				return string(out), true
			case sendBreak:
				out = append(out, "<B>"...)
			case showHelp:
				out = append(out, "<?>"...)
			}
		}
	}
	return string(e.rest(out)), false
}

func TestEscape(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		left     bool
	}{
		{"", "", false},
		{"ls\r", "ls\r", false},
		{"~.", "", true},
		{"ls\r~.x", "ls\r", true},
		{"ls\n~.", "ls\n", true},
		{"a~.", "a~.", false},
		{" ~.", " ~.", false},
		{"~~.", "~.", false},
		{"~~~.", "~~.", false},
		{"~x", "~x", false},
		{"~\r~.", "~\r", true},
		{"~B~B", "<B><B>", false},
		{"~?\r", "<?>\r", false},
		{"~B~.", "<B>", true},
		{"~b", "~b", false},
		{"~", "~", false},
		{"x\r~", "x\r~", false},
		{"~x~.", "~x~.", false},
	} {
		got, left := runEscape([]byte(tt.in))
		if got != tt.want || left != tt.left {
			t.Errorf("%q: got %q, %v, want %q, %v", tt.in, got, left, tt.want, tt.left)
		}
		var single [][]byte
		for i := range tt.in {
			single = append(single, []byte(tt.in[i:i+1]))
		}
		if again, leftAgain := runEscape(single...); again != got || leftAgain != left {
			t.Errorf("%q byte by byte: got %q, %v, want %q, %v", tt.in, again, leftAgain, got, left)
		}
	}
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"ls\r~.", "~~.", "~B~?x", "a\n~x", "\r~"} {
		f.Add([]byte(s), uint(2))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint) {
		whole, left := runEscape(in)
		at := int(cut % uint(len(in)+1))
		if got, gotLeft := runEscape(in[:at], in[at:]); got != whole || gotLeft != left {
			t.Fatalf("%q cut at %d: got %q, %v, want %q, %v", in, at, got, gotLeft, whole, left)
		}
		// Nothing but escapes is ever lost, by a second way to say what
		// they are.
		var want []byte
		rest, start := in, true
		for len(rest) > 0 {
			if start && len(rest) > 1 && rest[0] == '~' {
				switch rest[1] {
				case '.':
					if !left || string(want) != whole {
						t.Fatalf("%q: got %q, %v, want %q and to leave", in, whole, left, want)
					}
					return
				case 'B', '?':
					want = append(append(append(want, '<'), rest[1]), '>')
					rest = rest[2:]
					continue
				case '~':
					rest = rest[1:]
				default:
					want = append(want, '~')
					rest = rest[1:]
				}
			}
			want = append(want, rest[0])
			start = bytes.IndexByte([]byte("\r\n"), rest[0]) >= 0
			rest = rest[1:]
		}
		if left || string(want) != whole {
			t.Fatalf("%q: got %q, %v, want %q", in, whole, left, want)
		}
	})
}
