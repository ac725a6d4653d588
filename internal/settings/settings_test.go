package settings

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

type policy string

func (p *policy) UnmarshalText(text []byte) error {
	switch v := policy(text); v {
	case "on", "off", "last":
		*p = v
		return nil
	}
	return fmt.Errorf("policy %q: want on, off or last", text)
}

type user struct {
	Name string   `json:"name"`
	Keys []string `json:"keys,omitempty"`
}

type wire struct {
	Line   int    `json:"line"`
	Invert bool   `json:"invert"`
	Chip   string `json:"chip"`
}

type config struct {
	Version  int    `json:"version"`
	Hostname string `json:"hostname"`
	Power    struct {
		OffTime time.Duration `json:"off_time"`
		Restore policy        `json:"restore"`
	} `json:"power"`
	Web struct {
		Port uint16    `json:"port"`
		On   bool      `json:"on"`
		Load float64   `json:"load"`
		Raw  [2]uint16 `json:"raw"`
	} `json:"web"`
	DNS   []netip.Addr    `json:"dns"`
	Wires map[string]wire `json:"wires"`
	Proxy *string         `json:"proxy"`
	Users []user          `json:"users"`
	Note  string          `json:"note,omitempty"`
}

func defaults() config {
	c := config{Version: 1, Hostname: "bmc", Wires: map[string]wire{"reset": {Line: 17, Chip: "soc"}}, Users: []user{{Name: "admin"}}}
	c.Power.OffTime, c.Power.Restore = 5*time.Second, "last"
	c.Web.Port, c.Web.On = 443, true
	return c
}

func validate(c *config) error {
	var errs []error
	if d := c.Power.OffTime; d < 0 || d > time.Minute {
		errs = append(errs, &FieldError{"/power/off_time", fmt.Errorf("%v is not between 0s and 1m0s", d)})
	}
	for i, u := range c.Users {
		if u.Name == "" {
			errs = append(errs, &FieldError{fmt.Sprintf("/users/%d/name", i), errors.New("a name is needed")})
		}
	}
	if c.Web.Port == 80 && c.Web.On {
		errs = append(errs, &FieldError{"/web/port", errors.New("80 is taken")})
	}
	if c.Note == "whole" {
		errs = append(errs, errors.New("the note spoils all"))
	}
	return errors.Join(errs...)
}

// bench is a store's surroundings: a card, a perm folder and what was reported.
type bench struct {
	t        *testing.T
	dir      string
	problems []Problem
}

func newBench(t *testing.T) *bench { return &bench{t: t, dir: t.TempDir()} }

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) wantFile(name, want string) {
	b.t.Helper()
	got, err := os.ReadFile(b.path(name))
	if errors.Is(err, os.ErrNotExist) {
		got = []byte("absent")
	} else if err != nil {
		b.t.Fatal(err)
	}
	if string(got) != want {
		b.t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func (b *bench) options() Options[config] {
	return Options[config]{
		Defaults: defaults,
		Version:  1,
		Layers: []Layer{
			{Name: "card", Path: b.path("bmc.json"), ReadOnly: true},
			{Name: "perm", Path: b.path("perm.json")},
		},
		Changed:  b.path("changed.json"),
		LastGood: b.path("good"),
		Validate: validate,
		Log:      slog.New(slog.DiscardHandler),
		Report:   func(p Problem) { b.problems = append(b.problems, p) },
	}
}

// open opens a store and wants as many problems as given, each with the words.
func (b *bench) open(problems ...string) *Store[config] {
	b.t.Helper()
	b.problems = nil
	s, err := Open(b.options())
	if err != nil {
		b.t.Fatal(err)
	}
	if len(b.problems) != len(problems) {
		b.t.Fatalf("got %d problems, want %d: %v", len(b.problems), len(problems), b.problems)
	}
	for i, want := range problems {
		if got := b.problems[i].String(); !strings.Contains(got, want) {
			b.t.Errorf("problem %d: got %q, want in it %q", i, got, want)
		}
	}
	return s
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got error %v\nwant      %s", err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantShow(t *testing.T, s *Store[config], path, want string) {
	t.Helper()
	got, err := s.Show(path)
	if err != nil {
		t.Errorf("Show(%q): %v", path, err)
		return
	}
	v := jsontext.Value(got)
	if err := v.Compact(); err != nil || string(v) != want {
		t.Errorf("Show(%q): got %s, %v, want %s", path, v, err, want)
	}
}

func TestLayers(t *testing.T) {
	b := newBench(t)
	b.write("bmc.json", "\xef\xbb\xbf{\r\n\t\"version\": 1,\r\n\t\"hostname\": \"card\", \"power\": {\"off_time\": \"2s\"},\r\n\"wires\": {\"led\": {\"line\": 4}}, \"dns\": [\"10.0.0.1\", \"10.0.0.2\"], \"proxy\": \"a:1\"}\r\n")
	b.write("perm.json", `{"version": 1, "hostname": "perm", "wires": {"led": {"invert": true}, "reset": {"line": 5}}, "dns": ["::1"]}`)
	b.write("changed.json", `{"version": 1, "power": {"restore": "on"}, "wires": {"led": {"line": 6}}}`)
	s := b.open()
	got := s.Get()
	want := defaults()
	want.Hostname = "perm"
	want.Power.OffTime, want.Power.Restore = 2*time.Second, "on"
	want.Wires["led"] = wire{Line: 6, Invert: true}
	want.Wires["reset"] = wire{Line: 5, Chip: "soc"}
	if g, w := fmt.Sprintf("%+v", got.Wires), fmt.Sprintf("%+v", want.Wires); g != w {
		t.Errorf("wires: got %s, want %s", g, w)
	}
	if got.Hostname != want.Hostname || got.Power != want.Power || got.Web != want.Web {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(got.DNS) != 1 || got.DNS[0] != netip.IPv6Loopback() || got.Proxy == nil || *got.Proxy != "a:1" {
		t.Errorf("dns %v, proxy %v", got.DNS, got.Proxy)
	}

	// What Get gave is the caller's own.
	got.Wires["led"] = wire{}
	*got.Proxy = "changed"
	got.Users[0].Name = "mallory"
	if again := s.Get(); again.Wires["led"].Line != 6 || *again.Proxy != "a:1" || again.Users[0].Name != "admin" {
		t.Errorf("a caller changed the store: %+v", again)
	}
}

func TestNull(t *testing.T) {
	b := newBench(t)
	b.write("bmc.json", `{"version": 1, "hostname": "card", "power": {"off_time": "2s", "restore": "on"}, "proxy": "a:1", "note": "n",
		"wires": {"led": {"line": 4}, "reset": {"line": 5}}, "dns": ["::1"], "users": []}`)
	b.write("perm.json", `{"version": 1, "hostname": null, "power": null, "proxy": null, "note": null,
		"wires": {"led": null, "reset": {"line": null}}, "dns": null, "users": null}`)
	s := b.open()
	wantShow(t, s, "", `{"version":1,"hostname":"bmc","power":{"off_time":"5s","restore":"last"},`+
		`"web":{"port":443,"on":true,"load":0,"raw":[0,0]},"dns":[],"wires":{"reset":{"line":0,"invert":false,"chip":"soc"}},"proxy":null,"users":[{"name":"admin"}]}`)
	must(t, s.Set("power.off_time", "9s"))
	must(t, s.Set("power.off_time", "null"))
	wantShow(t, s, "power.off_time", `"5s"`)
	// A change over a null: what the null took away stays away.
	must(t, s.Set("wires", "null"))
	wantShow(t, s, "wires", `{"reset":{"line":17,"invert":false,"chip":"soc"}}`)
	must(t, s.Set("wires.reset", "null"))
	wantShow(t, s, "wires", `{}`)
	must(t, s.Set("wires.reset.line", "9"))
	wantShow(t, s, "wires", `{"reset":{"line":9,"invert":false,"chip":""}}`)
	must(t, s.Unset("wires"))
	wantShow(t, s, "wires", `{"reset":{"line":0,"invert":false,"chip":"soc"}}`)
}

// TestFileErrors has one mistake a row; each file is refused with the words
// given, and nothing of it is used.
func TestFileErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", `bmc.json: the document is empty`},
		{"blank", "\r\n \t", `bmc.json: the document is empty`},
		{"zero bytes", "\x00\x00\x00", `bmc.json: the document is all zero bytes`},
		{"UTF-16", "\xff\xfe{\x00", `bmc.json: the document is in UTF-16, save it as UTF-8`},
		{"too long", `{"version":1,"note":"` + strings.Repeat("x", MaxSize) + `"}`, `bmc.json: the document is longer than 1 MiB`},
		{"truncated", "{\n  \"version\": 1,\n  \"hostname\": \"a", `bmc.json:3:17: the document ends in the middle`},
		{"truncated at a line's end", "{\n  \"version\": 1,\n", `bmc.json:3:1: the document ends in the middle`},
		{"not an object", "\n[1]", `bmc.json:2:1: the document is not an object {…}`},
		{"trailing", "{\"version\":1}\n{\"version\":1}", `bmc.json:2:1: there is more after the end of the document`},
		{"trailing rubbish", "{\"version\":1}\n}", `bmc.json:2:1: there is more after the end of the document`},
		{"comment", "{\n  // mine\n  \"version\": 1}", `bmc.json:2:3: comments are not possible in JSON`},
		{"comma too many", "{\"version\":1,\n}", `bmc.json:1:13: the comma before "}" is one too many`},
		{"comma too few", "{\"version\":1\n\"hostname\":\"a\"}", `bmc.json:2:1: invalid character '"' after object value (expecting ',' or '}')`},
		{"control character", "{\"version\":1,\"hostname\":\"a\tb\"}", `bmc.json:1:27: hostname: invalid character '\t' in string (expecting non-control character)`},
		{"bad UTF-8", "{\"version\":1,\"hostname\":\"ä\xffb\"}", `bmc.json:1:27: hostname: invalid UTF-8`},
		{"twice", "{\"version\":1,\n \"power\":{\"off_time\":\"1s\",\n  \"off_time\":\"2s\"}}", `bmc.json:3:3: power: the field "off_time" is there twice`},
		{"twice in a list", "{\"version\":1,\n \"users\":[{\"name\":\"a\",\"name\":\"b\"}]}", `bmc.json:2:23: users.0: the field "name" is there twice`},
		{"null in a list", `{"version":1,"dns":["::1", null]}`, `bmc.json:1:28: dns.1: null has no meaning in a list`},
		{"no version", "\n {\"hostname\":\"a\"}", `bmc.json:2:2: the field "version" is missing, want "version": 1`},
		{"other version", "{\"what\":2,\n\"version\":2}", `bmc.json:2:11: version: version 2 is not known to this build, want 1`},
		{"version in words", `{"version":"1"}`, `bmc.json:1:12: version: version "1" is not known to this build, want 1`},
		{"unknown", "{\n  \"version\": 1,\n  \"hostnme\": \"a\"\n}", `bmc.json:3:3: unknown field "hostnme" (did you mean "hostname"?)`},
		{"unknown in other case", `{"version":1,"HostName":"a"}`, `bmc.json:1:14: unknown field "HostName" (did you mean "hostname"?)`},
		{"unknown deep", "{\"version\":1,\r\n\"wires\":{\"led\":{\"lien\":4}}}", `bmc.json:2:17: wires.led: unknown field "lien" (did you mean "line"?)`},
		{"unknown without likeness", `{"version":1,"power":{"xyzzy":4}}`, `bmc.json:1:23: power: unknown field "xyzzy" (known here: off_time, restore)`},
		{"unknown in a list, left out when empty", `{"version":1,"users":[{"name":"é"},{"key":[]}]}`, `bmc.json:1:37: users.1: unknown field "key" (did you mean "keys"?)`},
		{"duration", "{\n \"version\": 1,\n \"power\": {\n  \"off_time\": \"5 parsecs\"}}", `bmc.json:4:15: power.off_time: "5 parsecs" is not a duration (want for example "5s")`},
		{"duration as number", `{"version":1,"power":{"off_time":5}}`, `bmc.json:1:34: power.off_time: 5 is not a duration (want for example "5s")`},
		{"duration as object", `{"version":1,"power":{"off_time":{}}}`, `bmc.json:1:34: power.off_time: an object {…} is not a duration (want for example "5s")`},
		{"columns in characters", `{"version":1,"hostname":"日本","web":{"port":"x"}}`, `bmc.json:1:44: web.port: "x" is not a whole number`},
		{"number for string", `{"version":1,"hostname":7}`, `bmc.json:1:25: hostname: 7 is not a string in "quotes"`},
		{"string for bool", `{"version":1,"web":{"on":"yes"}}`, `bmc.json:1:26: web.on: "yes" is not true or false`},
		{"object for list", `{"version":1,"dns":{}}`, `bmc.json:1:20: dns: an object {…} is not a list […]`},
		{"list for object", `{"version":1,"power":["a"]}`, `bmc.json:1:22: power: a list […] is not an object {…}`},
		{"string for float", `{"version":1,"web":{"load":"a"}}`, `bmc.json:1:28: web.load: "a" is not a number`},
		{"range", `{"version":1,"web":{"port":65536}}`, `bmc.json:1:28: web.port: 65536 is out of range`},
		{"fraction", `{"version":1,"web":{"port":4.5}}`, `bmc.json:1:28: web.port: 4.5 is not a whole number`},
		{"negative", `{"version":1,"web":{"port":-1}}`, `bmc.json:1:28: web.port: -1 is not a whole number`},
		{"array too long", `{"version":1,"web":{"raw":[1,2,3]}}`, `bmc.json:1:27: web.raw: a list […]: too many array elements`},
		{"address", `{"version":1,"dns":["::1","10.0.0.300"]}`, `bmc.json:1:27: dns.1: ParseAddr("10.0.0.300"): IPv4 field has value >255`},
		{"number for address", `{"version":1,"dns":[5]}`, `bmc.json:1:21: dns.0: 5: JSON value must be string type`},
		{"choice", `{"version":1,"power":{"restore":"never"}}`, `bmc.json:1:33: power.restore: policy "never": want on, off or last`},
		{"semantic", "{\"version\":1,\n\"power\":{\"off_time\":\"2m\"}}", `bmc.json:2:21: power.off_time: 2m0s is not between 0s and 1m0s`},
		{"semantic in a list", "{\"version\":1,\n\"users\":[{\"name\":\"a\"},{\"name\":\"\"}]}", `bmc.json:2:31: users.1.name: a name is needed`},
		{"semantic, missing", "{\"version\":1,\n\"users\":[{\"name\":\"a\"},{}]}", `bmc.json:2:23: users.1.name: a name is needed`},
		{"semantic, two", "{\"version\":1,\"users\":[{}],\n\"power\":{\"off_time\":\"-1s\"}}", "bmc.json:2:21: power.off_time: -1s is not between 0s and 1m0s\nbmc.json:1:23: users.0.name: a name is needed"},
		{"semantic, whole", `{"version":1,"note":"whole"}`, `bmc.json: the note spoils all`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.write("bmc.json", tt.text)
			s := b.open("")
			wantError(t, b.problems[0].Err, tt.want)
			if p := b.problems[0]; p.Layer != "card" || p.Path != b.path("bmc.json") || p.InForce != "" || p.Kept != "" {
				t.Errorf("got problem %+v", p)
			}
			if got := s.Get().Hostname; got != "bmc" {
				t.Errorf("the bad file's host name %q is in force", got)
			}
			b.wantFile("bmc.json", tt.text)
		})
	}
}

// A map's entry whose missing field has no valid zero value.
func TestNoValidZero(t *testing.T) {
	type strict struct {
		Version int               `json:"version"`
		Ports   map[string]policy `json:"ports"`
		Hosts   map[string]struct {
			Mode policy `json:"mode"`
			Name string `json:"name"`
		} `json:"hosts"`
	}
	b := newBench(t)
	b.write("bmc.json", "{\"version\":1,\n \"hosts\":{\"a\":{\"name\":\"x\"}}}")
	var problems []Problem
	_, err := Open(Options[strict]{
		Defaults: func() strict { return strict{Version: 1} }, Version: 1,
		Layers:  []Layer{{Name: "card", Path: b.path("bmc.json")}},
		Changed: b.path("changed.json"), LastGood: b.path("good"),
		Log: slog.New(slog.DiscardHandler), Report: func(p Problem) { problems = append(problems, p) },
	})
	must(t, err)
	if len(problems) != 1 {
		t.Fatalf("problems: %v", problems)
	}
	wantError(t, problems[0].Err, `bmc.json:2:15: hosts.a.mode: policy "": want on, off or last`)
}

func TestLastGood(t *testing.T) {
	const first, second, bad = `{"version":1,"hostname":"first"}`, `{"version":1,"hostname":"second"}`, `{"version":1,"hostname":"bad`
	b := newBench(t)
	for _, layer := range []struct {
		name, file string
		readOnly   bool
	}{{"card", "bmc.json", true}, {"perm", "perm.json", false}, {"changed", "changed.json", false}} {
		t.Run(layer.name, func(t *testing.T) {
			b.t = t
			b.wantFile("good/"+layer.name+".json", "absent")
			b.write(layer.file, first)
			b.open()
			b.wantFile("good/"+layer.name+".json", first)
			b.write(layer.file, second)
			b.open()
			b.wantFile("good/"+layer.name+".json", second)

			for range 2 { // told at every start, not only at the first
				b.write(layer.file, bad)
				s := b.open(" Its last good copy " + b.path("good/"+layer.name+".json") + " is in force.")
				if got := s.Get().Hostname; got != "second" {
					t.Errorf("host name %q, want that of the last good copy", got)
				}
				p := b.problems[0]
				if p.Layer != layer.name || !strings.Contains(p.String(), layer.file+":1:29: the document ends in the middle") {
					t.Errorf("problem: %v", p)
				}
				b.wantFile("good/"+layer.name+".json", second)
				b.wantFile(layer.file, bad)
				if layer.readOnly {
					b.wantFile("good/"+layer.name+".bad", "absent")
				} else if b.wantFile("good/"+layer.name+".bad", bad); p.Kept != b.path("good/"+layer.name+".bad") {
					t.Errorf("kept as %q", p.Kept)
				}
			}

			// It goes away without a word: as when the card does not mount.
			must(t, os.Remove(b.path(layer.file)))
			s := b.open("though it was there before (to do without, put {\"version\": 1} into it)")
			if got := s.Get().Hostname; got != "second" {
				t.Errorf("host name %q, want that of the last good copy", got)
			}

			// The copy is bad too.
			b.write("good/"+layer.name+".json", "\x00\x00")
			b.open("its last good copy: " + layer.name + ".json: the document is all zero bytes. The layer is left out.")

			b.write(layer.file, `{"version":1}`)
			s = b.open()
			if got := s.Get().Hostname; got != "bmc" {
				t.Errorf("host name %q, want the default", got)
			}
			b.wantFile("good/"+layer.name+".json", `{"version":1}`)
		})
	}
}

// A board without its state partition still has its card's settings.
func TestNowhereToKeep(t *testing.T) {
	b := newBench(t)
	b.write("good", "a file where the folder should be")
	b.write("bmc.json", `{"version":1,"hostname":"card"}`)
	b.write("perm.json", `{`)
	s := b.open("no copies can be kept", "its last good copy could not be made", "the document ends in the middle")
	if b.problems[1].InForce != b.path("bmc.json") || s.Get().Hostname != "card" {
		t.Errorf("the card's good file is not in force: %+v", b.problems[1])
	}
}

func TestUnreadable(t *testing.T) {
	b := newBench(t)
	b.write("bmc.json", `{"version":1,"hostname":"card"}`)
	b.open()
	must(t, os.Remove(b.path("bmc.json")))
	must(t, os.Mkdir(b.path("bmc.json"), 0o700)) // opens, and cannot be read
	s := b.open("is a directory. Its last good copy")
	if got := s.Get().Hostname; got != "card" {
		t.Errorf("host name %q, want card", got)
	}
}

func TestLayersThatDoNotGoTogether(t *testing.T) {
	b := newBench(t)
	b.write("bmc.json", "{\"version\":1,\"web\":{\"on\":false,\n\"port\":80}}")
	b.write("perm.json", `{"version":1,"hostname":"perm","web":{"on":true}}`)
	s := b.open("perm.json does not go with the layers below: bmc.json:2:8: web.port: 80 is taken. The layer is left out.")
	if c := s.Get(); c.Hostname != "bmc" || c.Web.Port != 80 || c.Web.On {
		t.Errorf("got %+v, want the card's alone", c)
	}
}

func TestOpenRefusesOptions(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		name string
		mend func(*Options[config])
		want string
	}{
		{"invalid defaults", func(o *Options[config]) {
			o.Defaults = func() config { c := defaults(); c.Power.OffTime = time.Hour; return c }
		}, "settings: the defaults: power.off_time: 1h0m0s is not between 0s and 1m0s"},
		{"defaults that cannot be read back", func(o *Options[config]) {
			o.Defaults = func() config { c := defaults(); c.Power.Restore = ""; return c }
		}, `settings: the defaults: power.restore: policy "": want on, off or last`},
		{"other version", func(o *Options[config]) { o.Version = 2 },
			"settings: the defaults: version: version 1 is not known to this build, want 2"},
		{"name taken", func(o *Options[config]) { o.Layers[1].Name = "card" },
			`settings: layer name "card" is taken or not fit for a file name`},
		{"name of a built-in layer", func(o *Options[config]) { o.Layers[1].Name = "changed" },
			`settings: layer name "changed" is taken or not fit for a file name`},
		{"name with a slash", func(o *Options[config]) { o.Layers[1].Name = "a/b" },
			`settings: layer name "a/b" is taken or not fit for a file name`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := b.options()
			tt.mend(&o)
			_, err := Open(o)
			wantError(t, err, tt.want)
		})
	}
}
