package message

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/host"
)

// logged finds the kinds of events that the module's code names: each text that
// stands for a Kind (which, to be a kind and no path, must have a known first
// word), and what else looks like one.
func logged(t *testing.T, root string, first map[string]bool) map[string]string {
	t.Helper()
	shape := regexp.MustCompile(`^([a-z]+)\.[a-z][a-z-]*$`)
	found, files := map[string]string{}, token.NewFileSet()
	add := func(e ast.Expr, sure bool) {
		lit, isLit := e.(*ast.BasicLit)
		if !isLit || lit.Kind != token.STRING {
			return
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		if parts := shape.FindStringSubmatch(text); sure || parts != nil && first[parts[1]] {
			found[text] = files.Position(lit.Pos()).String()
		}
	}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (base == "testdata" || base[0] == '.' || name == "redfish" || name == "cmds" || name == "test" || name == "image" || name == "build"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path.Join(root, name))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				name, is := n.Type.(*ast.Ident)
				if of, qualified := n.Type.(*ast.SelectorExpr); qualified {
					name, is = of.Sel, true
				}
				if !is || name.Name != "Event" {
					break
				}
				for _, e := range n.Elts {
					if pair, is := e.(*ast.KeyValueExpr); is {
						if key, is := pair.Key.(*ast.Ident); is && key.Name == "Kind" {
							add(pair.Value, true)
						}
					}
				}
			case *ast.BasicLit:
				add(n, false)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Every kind of event that the code logs is in the registry, and no other.
func TestKinds(t *testing.T) {
	// What looks like a kind and is none: files and settings.
	none := []string{"bmc.board", "bmc.json", "bmc.slot", "bmc.tryboot", "card.img", "ipmi.enabled", "iscsi.targets", "login.json", "state.db", "tls.pem", "usb.sock", "update.json", "media.json"}
	listed, first := map[string]bool{}, map[string]bool{}
	for k := range kinds {
		if listed[k.name] {
			t.Errorf("%s is there twice", k.name)
		}
		listed[k.name] = true
		word, _, _ := strings.Cut(k.name, ".")
		first[word] = true
	}
	root := "../.."
	named := logged(t, root, first)
	for kind, where := range logged(t, root+"/redfish/event", first) {
		named[kind] = "redfish/event/" + where
	}
	for kind, where := range named {
		if !listed[kind] && !slices.Contains(none, kind) {
			t.Errorf("%s: the kind %s is not in own.go", where, kind)
		}
	}
	// Names that the code puts together.
	for _, state := range []string{"failing", "running", "stuck"} {
		named["service."+state] = "bmc"
	}
	for k := range kinds {
		if named[k.name] == "" {
			t.Errorf("no code names the kind %s of own.go", k.name)
		}
	}
}

func TestOwnRegistry(t *testing.T) {
	doc, err := OwnRegistryDocument()
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		ID             string `json:"Id"`
		RegistryPrefix string
		Messages       map[string]struct {
			Description, Message, MessageSeverity, Resolution string
			NumberOfArgs                                      int
		}
	}
	if err := json.Unmarshal(doc, &r); err != nil {
		t.Fatal(err)
	}
	if got, want := r.ID, "Nitrino.1.0.0"; got != want || !strings.HasPrefix(got+".", OwnRegistry) {
		t.Errorf("Id: got %q, want %q", got, want)
	}
	last, n := "", 0
	for k := range kinds {
		if n++; k.name <= last {
			t.Errorf("%s is not in order", k.name)
		}
		last = k.name
		m, found := r.Messages[Key(k.name)]
		if !found || m.Message != "%1" || m.NumberOfArgs != 1 {
			t.Errorf("%s: got %+v", k.name, m)
		}
		for _, text := range []string{m.Description, m.Resolution} {
			if !strings.HasSuffix(text, ".") || text[0] < 'A' || text[0] > 'Z' {
				t.Errorf("%s: %q is no sentence", k.name, text)
			}
		}
		if !slices.Contains([]string{OK, Warning, Critical}, m.MessageSeverity) {
			t.Errorf("%s: severity %q", k.name, m.MessageSeverity)
		}
	}
	if len(r.Messages) != n {
		t.Errorf("got %d messages, want %d: two kinds have one key", len(r.Messages), n)
	}
}

func TestOf(t *testing.T) {
	m := Of(host.Event{Kind: "sensor.failed", Severity: host.Warning, Message: "The sensor \"Fan\" cannot be read."})
	if m.ID != "Nitrino.1.0.SensorFailed" || m.Severity != Warning || m.Text != "The sensor \"Fan\" cannot be read." ||
		len(m.Args) != 1 || m.Args[0] != m.Text || m.Resolution != "Check the sensor and its wires." {
		t.Errorf("got %+v", m)
	}
	if m = Of(host.Event{Kind: "never.seen", Message: "It is new."}); m.ID != "Nitrino.1.0.NeverSeen" || m.Resolution != "None." {
		t.Errorf("got %+v", m)
	}
}

func BenchmarkOf(b *testing.B) {
	e := host.Event{Kind: "wire.restored", Message: "A wire works again."}
	for b.Loop() {
		Of(e)
	}
}
