package redfish

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/doctable"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/account"
	"github.com/nitrino/nitrino/redfish/certificate"
	"github.com/nitrino/nitrino/redfish/chassis"
	"github.com/nitrino/nitrino/redfish/event"
	eventlog "github.com/nitrino/nitrino/redfish/log"
	"github.com/nitrino/nitrino/redfish/manager"
	"github.com/nitrino/nitrino/redfish/media"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/registry"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/redfish/session"
	"github.com/nitrino/nitrino/redfish/storage"
	"github.com/nitrino/nitrino/redfish/system"
	"github.com/nitrino/nitrino/redfish/task"
	"github.com/nitrino/nitrino/redfish/telemetry"
	"github.com/nitrino/nitrino/redfish/update"
)

// A namedDrive is a drive of which only the name counts.
type namedDrive struct {
	media.Drive
	name string
}

func (d namedDrive) Name() string { return d.name }

type steady float64

func (g steady) Read(context.Context) (float64, error) { return float64(g), nil }

// documentedRoutes are those of a board with the parts and drives.
func documentedRoutes(t *testing.T, parts func(*host.Parts), drives ...media.Drive) []resource.Route {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	h := redfishtest.NewHost(t, redfishtest.HostOptions{Stopped: true, Parts: parts})
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	var routes []resource.Route
	add := func(c Chapter, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, c.Routes()...)
	}
	box := chassis.New(chassis.Options{Host: h.Host, Log: log})
	add(system.New(system.Options{Host: h.Host, Log: log}), nil)
	add(session.New(redfishtest.NewAuth(), log), nil)
	add(box, nil)
	for _, o := range []eventlog.Options{
		{URI: resource.SystemLogServicesURI, Under: "ComputerSystem", ID: "EventLog"},
		{URI: resource.ManagerLogServicesURI, Under: "Manager", ID: "Log"},
	} {
		o.Events, o.Store, o.Log = h.Events, db, log
		c, err := eventlog.New(o)
		add(c, err)
	}
	events, err := event.New(event.Options{Events: h.Events, Store: db, Log: log})
	add(events, err)
	tasks, err := task.New(task.Options{Store: db, Log: log})
	add(tasks, err)
	add(account.New(account.Options{Log: log}), nil)
	add(certificate.New(nil, log), nil)
	add(manager.New(manager.Options{Log: log}), nil)
	updates, err := update.New(update.Options{Tasks: tasks, Store: db, Log: log})
	add(updates, err)
	add(storage.New(storage.Options{Log: log}), nil)
	if sensors := h.Sensors.List(); len(sensors) > 0 {
		add(telemetry.New(telemetry.Options{Sensors: sensors, Store: db, Log: log, Sensor: box.SensorURI}), nil)
	}
	if drives != nil {
		c, err := media.New(media.Options{Drives: drives, Tasks: tasks, Store: db, Log: log, System: true, Manager: true})
		add(c, err)
	}
	registries, err := registry.New(types(routes))
	add(registries, err)
	first, err := root(Options{Host: h.Host}, routes)
	if err != nil {
		t.Fatal(err)
	}
	return append(first, routes...)
}

// least finds who may call each method of the routes, by asking a service with
// the same routes that does nothing; the key is the method and the pattern.
func least(t *testing.T, routes []resource.Route) map[string]string {
	t.Helper()
	done := func(*resource.Request) *resource.Reply { return resource.NoContent() }
	idle := slices.Clone(routes)
	for i := range idle {
		rt := &idle[i]
		rt.Stream, rt.Raw = false, false
		for _, h := range []*resource.Handler{&rt.Get, &rt.Post, &rt.Patch, &rt.Put, &rt.Delete} {
			if *h != nil {
				*h = done
			}
		}
	}
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: slog.New(slog.DiscardHandler), Routes: idle})
	if err != nil {
		t.Fatal(err)
	}
	rig := redfishtest.New(t, service)
	who := map[string]string{}
	for _, rt := range routes {
		uri := strings.NewReplacer("{id}", "x", "{key}", "x", "{file}", "x").Replace(rt.Pattern)
		for _, method := range rt.Methods() {
			for _, as := range []struct{ user, name string }{
				{"", "anybody"}, {"reader", string(auth.ReadOnly)}, {"oper", string(auth.Operator)}, {"admin", string(auth.Administrator)},
			} {
				body := ""
				if method == "POST" || method == "PATCH" || method == "PUT" {
					body = "{}"
				}
				status := rig.Do(redfishtest.Call{Method: method, URI: uri, User: as.user, Body: body}).Status
				if status != http.StatusUnauthorized && status != http.StatusForbidden {
					who[method+" "+rt.Pattern] = as.name
					break
				}
			}
		}
	}
	return who
}

// resourceTable renders the routes of a fully wired board, an action with the
// resource that has it; bare is what a board without wires has.
func resourceTable(all, bare []resource.Route, who map[string]string) string {
	slices.SortStableFunc(all, func(a, b resource.Route) int { return cmp.Compare(a.Pattern, b.Pattern) })
	actions := map[string][]string{} // by the resource's pattern
	for _, rt := range all {
		if of, name, isAction := strings.Cut(rt.Pattern, "/Actions/"); isAction {
			actions[of] = append(actions[of], "`"+name+"` "+who["POST "+rt.Pattern])
		}
	}
	var b strings.Builder
	b.WriteString("| URI | who may | actions, who may | schema | only where wired |\n|---|---|---|---|---|\n")
	for _, rt := range all {
		if rt.Action != "" {
			continue
		}
		var methods []string
		for _, method := range rt.Methods() {
			if method != "HEAD" { // as GET
				methods = append(methods, method+" "+who[method+" "+rt.Pattern])
			}
		}
		wired := ""
		if !slices.ContainsFunc(bare, func(o resource.Route) bool { return o.Pattern == rt.Pattern }) {
			wired = "yes"
		}
		schema := ""
		if dot := strings.LastIndexByte(rt.Type, '.'); dot >= 0 && !rt.Stream && !rt.Raw {
			schema = rt.Type[:dot]
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", strings.TrimPrefix(rt.Pattern, rootURI+"/"), strings.Join(methods, ", "),
			strings.Join(actions[rt.Pattern], ", "), schema, wired)
	}
	return b.String()
}

// TestDocs holds docs/redfish.md to the routes that the service answers by;
// go test ./redfish -run TestDocs -update writes it.
func TestDocs(t *testing.T) {
	all := documentedRoutes(t, func(p *host.Parts) {
		p.Sensors = []host.SensorPart{{Name: "Input power", Quantity: host.Wattage, Place: host.PlaceSystem, Max: 500, Gauge: steady(60)}}
	}, namedDrive{name: "{id}"})
	bare := documentedRoutes(t, func(p *host.Parts) { *p = host.Parts{} })
	doctable.Check(t, "../docs/redfish.md", "resources", resourceTable(all, bare, least(t, all)))
}

// TestDocsKinds holds the list of docs/architecture.md to the kinds of events: a
// name that begins with a dot has the area of the one before it.
func TestDocsKinds(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, begins := strings.Cut(string(text), "<!-- kinds: begin -->")
	list, _, ends := strings.Cut(list, "<!-- kinds: end -->")
	if !begins || !ends {
		t.Fatal("docs/architecture.md has no list of kinds")
	}
	listed, area := map[string]bool{}, ""
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(list, -1) {
		kind := m[1]
		if strings.HasPrefix(kind, ".") {
			kind = area + kind
		}
		area, _, _ = strings.Cut(kind, ".")
		if listed[message.Key(kind)] {
			t.Errorf("%s is listed twice", kind)
		}
		listed[message.Key(kind)] = true
	}
	doc, err := message.OwnRegistryDocument()
	if err != nil {
		t.Fatal(err)
	}
	var registry struct{ Messages map[string]json.RawMessage }
	if err := json.Unmarshal(doc, &registry); err != nil {
		t.Fatal(err)
	}
	for key := range registry.Messages {
		if !listed[key] {
			t.Errorf("docs/architecture.md does not list %s", key)
		}
	}
	for key := range listed {
		if registry.Messages[key] == nil {
			t.Errorf("docs/architecture.md lists %s, which is no kind of event", key)
		}
	}
}
