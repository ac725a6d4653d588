package settings

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSet(t *testing.T) {
	const card = "{\"version\":1,\n\"web\":{\"on\":false},\n\"wires\":{\"eth0.7\":{\"line\":3}}}"
	for _, tt := range []struct {
		path, value string
		err         string // "" where it works
		show        string // the same path afterwards
	}{
		{"power.off_time", "7s", "", `"7s"`},
		{"power.off_time", `"1m"`, "", `"1m0s"`},
		{"power.off_time", "5", `power.off_time: 5 is not a duration (want for example "5s")`, `"5s"`},
		{"power.off_time", "5 parsecs", `power.off_time: "5 parsecs" is not a duration (want for example "5s")`, `"5s"`},
		{"power.off_time", "61s", "power.off_time: 1m1s is not between 0s and 1m0s", `"5s"`},
		{"hostname", "bmc-7", "", `"bmc-7"`},
		{"hostname", "7", "", `"7"`},
		{"hostname", "true", "", `"true"`},
		{"hostname", "", "", `""`},
		{"hostname", "two words", "", `"two words"`},
		{"hostname", `say "hi"`, "", `"say \"hi\""`},
		{"hostname", `1},{"x":2`, "", `"1},{\"x\":2"`},
		{"hostname", `1,"x":2`, "", `"1,\"x\":2"`},
		{"hostname", "a\xffb", "", `"a` + "\ufffd" + `b"`},
		{"web.port", "8443", "", `8443`},
		{"web.port", " 8443 ", "", `8443`},
		{"web.port", "abc", `web.port: "abc" is not a whole number`, `443`},
		{"web.port", "70000", "web.port: 70000 is out of range", `443`},
		{"web.port", "4.5", "web.port: 4.5 is not a whole number", `443`},
		{"web.on", "true", "", `true`},
		{"web.on", "yes", `web.on: "yes" is not true or false`, `false`},
		{"web.on", "null", "", `true`}, // the built-in default, not the card's
		{"web.prot", "1", `web: unknown field "prot" (did you mean "port"?)`, ""},
		{"web", `{"port": 1}`, "", `{"port":1,"on":false,"load":0,"raw":[0,0]}`},
		{"web", `{"port": }`, "web.port: invalid character '}' at start of value", `{"port":443,"on":false,"load":0,"raw":[0,0]}`},
		{"web", "x", `web: "x" is not an object {…}`, `{"port":443,"on":false,"load":0,"raw":[0,0]}`},
		{"dns", `["10.0.0.1"]`, "", `["10.0.0.1"]`},
		{"dns.0", "10.0.0.1", `dns.0: dns is a list, which can only be set as a whole`, ""},
		{"users.0.name", "x", `users.0.name: users is a list, which can only be set as a whole`, `"admin"`},
		{"users", `[{"name":"a"},{"name":""}]`, "users.1.name: a name is needed", `[{"name":"admin"}]`},
		{"/wires/eth0.7/line", "4", "", `4`},
		{"wires.new.line", "9", "", `9`},
		{"hostname.x", "1", `hostname: an object {…} is not a string in "quotes"`, ""},
		{"", `{"hostname": "a", "web": {"port": 2}}`, "", `{"version":1,"hostname":"a","power":{"off_time":"5s","restore":"last"},"web":{"port":2,"on":false,"load":0,"raw":[0,0]},"dns":[],"wires":{"eth0.7":{"line":3,"invert":false,"chip":""},"reset":{"line":17,"invert":false,"chip":"soc"}},"proxy":null,"users":[{"name":"admin"}]}`},
		{"", `null`, "the document is not an object {…}", ""},
		{"", `7`, "the document is not an object {…}", ""},
		{"version", "2", "version: version 2 is not known to this build, want 1", "1"},
		{"version", "null", "version: version null is not known to this build, want 1", "1"},
		{"a..b", "1", `"a..b": no such setting: want names joined by dots, like power.off_time`, ""},
		{"/a~2", "1", `"/a~2": no such setting: want names joined by dots, like power.off_time`, ""},
	} {
		t.Run(tt.path+"="+tt.value, func(t *testing.T) {
			b := newBench(t)
			b.write("bmc.json", card)
			s := b.open()
			before, err := s.Show("")
			must(t, err)
			err = s.Set(tt.path, tt.value)
			if tt.err == "" {
				must(t, err)
			} else {
				wantError(t, err, tt.err)
				b.wantFile("changed.json", "absent")
				if after, err := s.Show(""); err != nil || string(after) != string(before) {
					t.Errorf("a refused Set changed the document to %s, %v", after, err)
				}
				if gen := s.Generation(); gen != 1 {
					t.Errorf("a refused Set made generation %d", gen)
				}
			}
			if tt.show != "" {
				wantShow(t, s, tt.path, tt.show)
				wantShow(t, b.open(), tt.path, tt.show) // it was on the disk
			}
			b.wantFile("bmc.json", card)
		})
	}
}

func TestSetWhole(t *testing.T) {
	b := newBench(t)
	b.write("bmc.json", "{\"version\":1,\n \"web\":{\"on\":false,\"port\":80}}")
	s := b.open()
	for _, tt := range []struct{ patch, err string }{
		{`{"hostname":"a","power":{"off_time":"2s"},"wires":{"reset":null,"led":{"line":4}}}`, ""},
		{"{\n\"hostname\":\"b\",\n\"power\":{\"off_tim\":\"2s\"}}", `power: unknown field "off_tim" (did you mean "off_time"?)`},
		{"{\"hostname\":\"b\",\n\"power\":{\"off_time\":\"2h\"}}", `power.off_time: 2h0m0s is not between 0s and 1m0s`},
		{`{"web":{"on":true}}`, `bmc.json:2:27: web.port: 80 is taken`},
		{`{"hostname":"b"`, `the document ends in the middle`},
		{`[]`, `the document is not an object {…}`},
		{`{"version":2}`, `version: version 2 is not known to this build, want 1`},
		{`{"note":"` + strings.Repeat("x", MaxSize-20) + `"}`, `the document is longer than 1 MiB`},
		{`{"wires":{"led":{"invert":true}}}`, ""},
		{`{}`, ""},
	} {
		before, err := s.Show("")
		must(t, err)
		err = s.Set("", tt.patch)
		if tt.err == "" {
			must(t, err)
			continue
		}
		wantError(t, err, tt.err)
		if after, err := s.Show(""); err != nil || string(after) != string(before) {
			t.Errorf("the refused patch %.80s made the document %s, %v", tt.patch, after, err)
		}
	}
	for _, s := range []*Store[config]{s, b.open()} {
		wantShow(t, s, "hostname", `"a"`)
		wantShow(t, s, "power.off_time", `"2s"`)
		wantShow(t, s, "wires", `{"led":{"line":4,"invert":true,"chip":""}}`)
	}
	const file = `{
  "version": 1,
  "hostname": "a",
  "power": {
    "off_time": "2s"
  },
  "wires": {
    "reset": null,
    "led": {
      "line": 4,
      "invert": true
    }
  }
}
`
	b.wantFile("changed.json", file)
	b.wantFile("good/changed.json", file)
}

func TestUnset(t *testing.T) {
	b := newBench(t)
	b.write("bmc.json", `{"version":1,"hostname":"card","wires":{"led":{"line":3}}}`)
	s := b.open()
	must(t, s.Unset("hostname")) // nothing was changed: no file for it
	b.wantFile("changed.json", "absent")
	must(t, s.Set("", `{"hostname":"a","power":{"off_time":"2s"},"wires":{"led":{"line":4},"new":{"line":5}},"users":[{"name":"u"}]}`))
	for _, tt := range []struct{ path, err, show, want string }{
		{"hostnam", `hostnam: no such setting (did you mean "hostname"?)`, "hostname", `"a"`},
		{"power.x", `power.x: no such setting (known here: off_time, restore)`, "hostname", `"a"`},
		{"version", "version: it cannot be unset", "version", "1"},
		{"users.0", "users.0: users is a list, which can only be set as a whole", "users", `[{"name":"u"}]`},
		{"users.0.name", "users.0.name: users is a list, which can only be set as a whole", "users", `[{"name":"u"}]`},
		{"hostname", "", "hostname", `"card"`},
		{"hostname", "", "hostname", `"card"`},
		{"power.off_time", "", "power.off_time", `"5s"`},
		{"wires.led.line", "", "wires.led.line", "3"},
		{"wires.new", "", "wires", `{"led":{"line":3,"invert":false,"chip":""},"reset":{"line":17,"invert":false,"chip":"soc"}}`},
		{"users", "", "users", `[{"name":"admin"}]`},
	} {
		err := s.Unset(tt.path)
		if tt.err == "" {
			must(t, err)
		} else {
			wantError(t, err, tt.err)
		}
		wantShow(t, s, tt.show, tt.want)
		wantShow(t, b.open(), tt.show, tt.want)
	}
	b.wantFile("changed.json", "{\n  \"version\": 1\n}\n") // no empty objects stay behind
	must(t, s.Set("hostname", "b"))
	must(t, s.Unset(""))
	wantShow(t, s, "hostname", `"card"`)

	// What makes the rest invalid cannot be dropped.
	b.write("bmc.json", `{"version":1,"web":{"port":80,"on":false}}`)
	b.write("changed.json", `{"version":1,"web":{"port":81}}`)
	s = b.open()
	must(t, s.Set("web.on", "true"))
	wantError(t, s.Unset("web.port"), "bmc.json:1:28: web.port: 80 is taken")
	wantShow(t, s, "web.port", "81")
}

func TestShowAndPaths(t *testing.T) {
	b := newBench(t)
	b.write("bmc.json", `{"version":1,"wires":{"reset":null,"eth0.7":{"line":3},"":{}, "a/b~c":{}}}`)
	s := b.open()
	got, err := s.Show("power")
	must(t, err)
	if want := "{\n  \"off_time\": \"5s\",\n  \"restore\": \"last\"\n}\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	wantShow(t, s, "users.0.name", `"admin"`)
	paths := strings.Join(s.Paths(), " ")
	want := "version hostname power.off_time power.restore web.port web.on web.load web.raw dns " +
		"/wires//line /wires//invert /wires//chip wires.a/b~c.line wires.a/b~c.invert wires.a/b~c.chip " +
		"/wires/eth0.7/line /wires/eth0.7/invert /wires/eth0.7/chip proxy users"
	if paths != want {
		t.Errorf("paths: got %s, want %s", paths, want)
	}
	for _, path := range s.Paths() { // each can be used
		if _, err := s.Show(path); err != nil {
			t.Errorf("Show(%q): %v", path, err)
		}
	}
	for path, want := range map[string]string{
		"hostnme":          `hostnme: no such setting (did you mean "hostname"?)`,
		"power.of_time":    `power.of_time: no such setting (did you mean "off_time"?)`,
		"hostname.x.y":     `hostname.x: no such setting`,
		"users.7":          `users.7: no such setting`,
		"users.-1":         `users.-1: no such setting`,
		"/wires/eth0.7/xx": `/wires/eth0.7/xx: no such setting (known here: line, invert, chip)`,
	} {
		_, err := s.Show(path)
		wantError(t, err, want)
		if !errors.Is(err, ErrUnknownPath) {
			t.Errorf("%v is not ErrUnknownPath", err)
		}
	}
}

func TestDiskFails(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Changed = b.path("gone/changed.json")
	s, err := Open(o)
	must(t, err)
	if err := s.Set("hostname", "a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	wantShow(t, s, "hostname", `"bmc"`)

	// The change is good although its second copy fails; that is told.
	must(t, os.Mkdir(b.path("gone"), 0o700))
	must(t, os.Remove(b.path("good")))
	must(t, s.Set("hostname", "a"))
	wantShow(t, s, "hostname", `"a"`)
	if len(b.problems) != 1 || b.problems[0].InForce != o.Changed || !strings.Contains(b.problems[0].String(), "last good copy could not be made") {
		t.Errorf("problems: %v", b.problems)
	}
}

func TestLogKeepsSecrets(t *testing.T) {
	b := newBench(t)
	var out bytes.Buffer
	o := b.options()
	o.Log = slog.New(slog.NewTextHandler(&out, nil))
	s, err := Open(o)
	must(t, err)
	must(t, s.Set("", `{"proxy":"hunter2","users":[{"name":"hunter2"}]}`))
	if log := out.String(); !strings.Contains(log, "proxy users") || strings.Contains(log, "hunter2") {
		t.Errorf("the log: %s", log)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBench(t).open()
		old := s.Generation()
		done := make(chan uint64)
		go func() {
			gen, err := s.Wait(t.Context(), old)
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			done <- gen
		}()
		synctest.Wait()
		must(t, s.Set("hostname", "bmc2"))
		if gen := <-done; gen != old+1 || gen != s.Generation() {
			t.Errorf("Wait returned %d, want %d", gen, old+1)
		}
		if gen, err := s.Wait(t.Context(), old); err != nil || gen != old+1 {
			t.Errorf("Wait for the past: %d, %v", gen, err)
		}
		must(t, s.Set("hostname", "bmc2")) // nothing new
		if s.Set("hostname", "5") != nil || s.Set("web.port", "x") == nil {
			t.Error("Set did not do as it should")
		}
		if gen := s.Generation(); gen != old+2 {
			t.Errorf("generation %d, want %d: only changes count", gen, old+2)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Wait(ctx, old+2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestConcurrent(t *testing.T) {
	b := newBench(t)
	s := b.open()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				if err := s.Set(fmt.Sprintf("wires.w%d.line", i), fmt.Sprint(j)); err != nil {
					t.Errorf("Set: %v", err)
				}
				if c := s.Get(); c.Wires[fmt.Sprintf("w%d", i)].Line != j {
					t.Errorf("after Set to %d: %+v", j, c.Wires)
				}
				s.Paths() // others change meanwhile; only that it does not break is of interest
			}
		})
	}
	wg.Wait()
	if gen := s.Generation(); gen != 41 {
		t.Errorf("generation %d, want 41: each change counts once", gen)
	}
	want, err := s.Show("")
	must(t, err)
	got, err := b.open().Show("")
	must(t, err)
	if string(got) != string(want) {
		t.Errorf("opened again: got %s, want %s", got, want)
	}
}

// childEnv holds the folder that the test binary, run as the child of
// TestKilled, keeps its settings in.
const childEnv = "SETTINGS_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, changeLoop(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func loopOptions(dir string, report func(Problem)) Options[config] {
	return Options[config]{
		Defaults: defaults, Version: 1, Validate: validate,
		Changed: filepath.Join(dir, "changed.json"), LastGood: filepath.Join(dir, "good"),
		Log: slog.New(slog.DiscardHandler), Report: report,
	}
}

// changeLoop sets two fields that belong together, over and over, and says on
// standard output what has been set.
func changeLoop(dir string) error {
	var problem error
	s, err := Open(loopOptions(dir, func(p Problem) { problem = p.Err }))
	if err = errors.Join(err, problem); err != nil {
		return err
	}
	for n := s.Get().Wires["reset"].Line + 1; ; n++ {
		patch := fmt.Sprintf(`{"hostname":"h%d","wires":{"reset":{"line":%d}},"note":"%s"}`, n, n, strings.Repeat("x", n*7919%50_000))
		if err := errors.Join(s.Set("", patch), problem); err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func TestKilled(t *testing.T) {
	dir := t.TempDir()
	last := 0
	for range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatal("the child changed nothing")
		}
		kill := time.AfterFunc(100*time.Millisecond, func() {
			if err := cmd.Process.Kill(); err != nil {
				t.Errorf("killing the child: %v", err)
			}
		})
		for more := true; more; more = lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				break // cut in its line
			}
			last = n
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		kill.Stop()
		s, err := Open(loopOptions(dir, func(p Problem) { t.Errorf("problem: %v", p) }))
		must(t, err)
		c := s.Get()
		if n := c.Wires["reset"].Line; n < last || n > last+1 || c.Hostname != fmt.Sprint("h", n) || len(c.Note) != n*7919%50_000 {
			t.Fatalf("after a kill: line %d, host name %s, note of %d; %d was set last", n, c.Hostname, len(c.Note), last)
		}
	}
}

// FuzzDecode feeds any text as a file: it is refused with a place inside the
// text, or accepted, and then what Show gives is accepted as the same.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"version":1}`, `{"version":1,"hostname":"a","power":{"off_time":"1h","restore":"on"},"dns":["::1%eth0"]}`,
		"\xef\xbb\xbf{\r\n\"version\": 1,\"proxy\":\"\\ud83d\\ude00\"}", `{"version":1,"wires":{"a":null,"":{"line":-0}}}`,
		`{"version":1,"web":{"load":1e400}}`, `{"version":1,"web":{"load":1.0e2,"raw":[1,2]}}`, `{"version":1,"users":[{"name":"x","keys":["k"]}],"note":null}`,
		`{"version":1,"version":1}`, `{"version":1.0}`, `[`, `{"version":1,"a":[[[[`, "{\"version\":1,\n\"x\xff\":1}", `{"version":1,"power":null,"web":{"prot":1}}`,
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	s, err := Open(loopOptions(dir, func(p Problem) { f.Errorf("problem: %v", p) }))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := s.try("bmc.json", text)
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("%T: %v", err, err)
			}
			lines := strings.Split(strings.TrimPrefix(string(text), "\xef\xbb\xbf"), "\n")
			if e.Problem == "" || e.Line > len(lines) || e.Line > 0 && (e.Column < 1 || e.Column > 1+len([]rune(lines[e.Line-1]))) {
				t.Fatalf("no such place: %+v", e)
			}
			return
		}
		first, err := s.accept(overlay(s.below, d.root, s.zero, s.defaults), []*document{d})
		if err != nil {
			t.Fatal(err)
		}
		pretty, err := first.root.pretty()
		if err != nil {
			t.Fatal(err)
		}
		if d, err = s.try("again.json", pretty); err != nil {
			t.Fatalf("%s\nwas shown and is refused: %v", pretty, err)
		}
		// Over the zero document, so that nothing of the defaults helps.
		second, err := s.accept(overlay(s.zero, d.root, s.zero, s.zero), []*document{d})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.text, second.text) {
			t.Fatalf("got %s, want %s", second.text, first.text)
		}
	})
}
