package log

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	systemLog  = resource.SystemLogServicesURI + "/EventLog"
	managerLog = resource.ManagerLogServicesURI + "/Log"
)

// A rig is a system's log and a manager's, of the same events.
type rig struct {
	*redfishtest.Rig
	events  *host.Events
	db      *store.Store
	system  *Service
	handler *bytes.Buffer // what was logged
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func newRig(t testing.TB, db *store.Store, events *host.Events) *rig {
	t.Helper()
	r := &rig{db: db, events: events, handler: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(r.handler, nil))
	origin := OriginOf(func(name string) string {
		if name == "Inlet temp" {
			return resource.SensorsURI + "/Inlet_temp"
		}
		return ""
	})
	var err error
	r.system, err = New(Options{URI: resource.SystemLogServicesURI, Under: "ComputerSystem", ID: "EventLog", Name: "System Event Log",
		Purposes: []string{"Diagnostic", "Operations"}, Events: events, Show: OfHost, Origin: origin, Store: db, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := New(Options{URI: resource.ManagerLogServicesURI, Under: "Manager", ID: "Log", Name: "Manager Log", Events: events, Origin: origin, Store: db, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: append(r.system.Routes(), manager.Routes()...)})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

func openEvents(t testing.TB, db *store.Store) *host.Events {
	t.Helper()
	events, err := host.OpenEvents(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func get(uri string) redfishtest.Call {
	return redfishtest.Call{Method: "GET", URI: uri, User: "reader"}
}

func post(uri, user, body string) redfishtest.Call {
	return redfishtest.Call{Method: "POST", URI: uri + "/Actions/LogService.ClearLog", User: user, Body: body}
}

// ids are those of the entries of a log.
func (r *rig) ids(uri string) string {
	a := r.Want(get(uri+"/Entries"), 200)
	var ids []string
	members, _ := a.JSON["Members"].([]any)
	for _, m := range members {
		e, _ := m.(map[string]any)
		id, _ := e["Id"].(string)
		ids = append(ids, id)
		if bad := r.Schemas.Check("LogEntry.v1_21_0", "", m); bad != nil {
			panic(fmt.Sprint(bad))
		}
		if one := r.Want(get(uri+"/Entries/"+id), 200); one.At("Message") != e["Message"] || one.At("Created") != e["Created"] {
			ids = append(ids, "another")
		}
	}
	if n, _ := a.JSON["Members@odata.count"].(float64); int(n) != len(ids) {
		ids = append(ids, "miscounted")
	}
	return strings.Join(ids, " ")
}

func TestLogs(t *testing.T) {
	db := openStore(t)
	r := newRig(t, db, openEvents(t, db))
	if got := r.ids(systemLog) + r.ids(managerLog); got != "" {
		t.Errorf("an empty log has %s", got)
	}
	at := time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.FixedZone("", 3600))
	r.events.Add(host.Event{Kind: "power.on", Message: "The host is on.", Time: at, Origin: host.Origin{Via: "redfish", User: "ann", Source: "10.0.0.1"}})
	r.events.Add(host.Event{Kind: "auth.login", Message: "In."})
	r.events.Add(host.Event{Kind: "sensor.limit", Severity: host.Critical, Message: "Hot.", Sensor: &host.SensorChange{Name: "Inlet temp"}})
	r.events.Add(host.Event{Kind: "sensor.limit", Severity: host.Warning, Message: "Hot, too.", Sensor: &host.SensorChange{Name: "gone"}})
	r.events.Add(host.Event{Kind: "watchdog.missing", Severity: host.Warning, Message: "None."})
	for _, kind := range []string{"volume.full", "volumes.failed", "iscsi.open", "disk.down"} {
		r.events.Add(host.Event{Kind: kind, Severity: host.Critical, Message: "Disks."})
	}
	if got, want := r.ids(systemLog), "1 3 4"; got != want {
		t.Errorf("the system's log has %q, want %q", got, want)
	}
	if got, want := r.ids(managerLog), "1 2 3 4 5 6 7 8 9"; got != want {
		t.Errorf("the manager's log has %q, want %q", got, want)
	}
	a := r.Want(get(managerLog+"/Entries/1"), 200)
	for path, want := range map[string]string{
		"Created": "2026-03-04T04:06:07.089Z", "EntryType": "Event", "Severity": "OK", "Message": "The host is on.", "MessageId": "Nitrino.1.0.PowerOn",
		"MessageArgs": "[The host is on.]", "Username": "ann", "Originator": "10.0.0.1", "OriginatorType": "Client", "EventId": "1",
		"Links/OriginOfCondition/@odata.id": resource.SystemURI,
	} {
		if got := fmt.Sprint(a.At(strings.Split(path, "/")...)); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	for id, want := range map[string]string{"2": resource.AccountServiceURI, "3": resource.SensorsURI + "/Inlet_temp", "4": resource.SystemURI, "5": resource.ManagerURI,
		"6": resource.StorageURI, "7": resource.StorageURI, "8": resource.ISCSIFabricURI, "9": resource.ManagerURI} {
		if got := r.Do(get(managerLog+"/Entries/"+id)).At("Links", "OriginOfCondition", "@odata.id"); got != want {
			t.Errorf("entry %s is about %v, want %s", id, got, want)
		}
	}
	for _, id := range []string{"0", "2", "6", "10", "01", "+1", "-1", "x", "99999999999999999999"} {
		r.Want(get(systemLog+"/Entries/"+id), 404, "ResourceNotFound")
	}
	for uri, name := range map[string]string{systemLog: "System Event Log", managerLog: "Manager Log"} {
		a := r.Want(get(uri), 200)
		if a.At("Name") != name || a.At("OverWritePolicy") != "WrapsWhenFull" || a.At("MaxNumberOfRecords") != float64(host.MaxEvents) ||
			a.At("Actions", "#LogService.ClearLog", "target") != uri+"/Actions/LogService.ClearLog" || a.At("DateTimeLocalOffset") != "+00:00" {
			t.Errorf("%s: %s", uri, a.Body)
		}
		if _, err := time.Parse(time.RFC3339, fmt.Sprint(a.At("DateTime"))); err != nil {
			t.Error(err)
		}
		r.Want(get(uri[:strings.LastIndexByte(uri, '/')]), 200)
		if settled := service.Settled(service{DateTime: "now"}).(service); settled.DateTime != "" {
			t.Error("the tag has the time in it")
		}
	}
}

func TestClear(t *testing.T) {
	db := openStore(t)
	events := openEvents(t, db)
	r := newRig(t, db, events)
	for range 3 {
		events.Add(host.Event{Kind: "power.on", Message: "On."})
	}
	// Who may: the host's log is a component, the board's is the manager's.
	r.Want(post(systemLog, "reader", ""), 403, "InsufficientPrivilege")
	r.Want(post(managerLog, "oper", ""), 403, "InsufficientPrivilege")
	for _, c := range []struct{ body, key string }{
		{`{"LogEntriesETag":"\"x\""}`, "ActionParameterNotSupported"},
		{`{"LogType":"SEL"}`, "ActionParameterUnknown"},
		{`[]`, "UnrecognizedRequestBody"},
	} {
		r.Want(post(systemLog, "oper", c.body), 400, c.key)
	}
	if got, want := r.ids(systemLog), "1 2 3"; got != want {
		t.Fatalf("after refusals the log has %q, want %q", got, want)
	}
	r.Want(post(systemLog, "oper", `{}`), 204)
	if got := r.ids(systemLog); got != "" {
		t.Errorf("the cleared log has %q", got)
	}
	r.Want(get(systemLog+"/Entries/1"), 404, "ResourceNotFound")
	// The other log has all, and who cleared this one.
	if got, want := r.ids(managerLog), "1 2 3 4"; got != want {
		t.Errorf("the manager's log has %q, want %q", got, want)
	}
	if e := events.Since(3, 0)[0]; e.Kind != "log.cleared" || e.Message != "The System Event Log was cleared." || e.Origin.User != "oper" {
		t.Errorf("the event: %+v", e)
	}
	events.Add(host.Event{Kind: "power.off", Message: "Off."})
	if got, want := r.ids(systemLog), "5"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
	// A restart does not bring back what was cleared.
	r = newRig(t, db, events)
	if got, want := r.ids(systemLog), "5"; got != want {
		t.Errorf("after a restart the log has %q, want %q", got, want)
	}
	r.Want(post(managerLog, "admin", ""), 204)
	if got, want := r.ids(managerLog), "6"; got != want {
		t.Errorf("the manager's log has %q, want %q: its own clearing", got, want)
	}
	// The events were lost in a crash, the mark was not.
	if err := db.PutJSON(markBucket, r.system.markKey(), 1000); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, db, events)
	events.Add(host.Event{Kind: "power.on", Message: "On."})
	if got, want := r.ids(systemLog), "7"; got != want {
		t.Errorf("after a crash the log has %q, want %q", got, want)
	}
	// A mark that cannot be read hides nothing.
	if err := db.PutJSON(markBucket, r.system.markKey(), "?"); err != nil {
		t.Fatal(err)
	}
	r = newRig(t, db, events)
	if got, want := r.ids(systemLog), "1 2 3 5 7"; got != want || !strings.Contains(r.handler.String(), "not known") {
		t.Errorf("without a mark the log has %q, want %q; %s", got, want, r.handler)
	}
}

// A mark that cannot be written is none, and the log stays.
func TestClearFails(t *testing.T) {
	db, kept := openStore(t), openStore(t)
	events := openEvents(t, kept)
	r := newRig(t, db, events)
	events.Add(host.Event{Kind: "power.on", Message: "On."})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r.Want(post(systemLog, "oper", ""), 500, "InternalError")
	if got, want := r.ids(systemLog), "1"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// A full log is shown whole, and what left it is gone.
func TestFullLog(t *testing.T) {
	db := openStore(t)
	events := openEvents(t, db)
	r := newRig(t, db, events)
	for range host.MaxEvents + 1 {
		events.Add(host.Event{Kind: "power.request", Message: "The host was asked to do something that takes a sentence to say.", Origin: host.Origin{User: "ann"}})
	}
	r.Want(get(systemLog+"/Entries/1"), 404, "ResourceNotFound")
	r.Want(get(systemLog+"/Entries/2"), 200)
	reply := r.system.getEntries(nil)
	if c, _ := reply.Resource.(resource.Collection); c.Count != host.MaxEvents {
		t.Errorf("%d entries, want %d", c.Count, host.MaxEvents)
	}
}

// Which log an event is in is decided for each kind that the documentation has.
func TestOfHost(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, page, found := bytes.Cut(page, []byte("## The event log"))
	if !found {
		t.Fatal("no chapter on the event log")
	}
	hosts := map[string]bool{"power": true, "power limit": true, "sensors": true, "wires, panel": true, "watchdog timer": true, "inventory": true, "boot": true}
	rows := regexp.MustCompile(`(?m)^\| ([^|]*[a-zA-Z]) \| (.*) \|$`).FindAllSubmatch(page, -1)
	if len(rows) < 10 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		area := ""
		for _, name := range regexp.MustCompile("`([a-z-]*)\\.([a-z.-]+)`").FindAllSubmatch(row[2], -1) {
			if len(name[1]) > 0 {
				area = string(name[1])
			}
			kind := area + "." + string(name[2])
			want := hosts[string(row[1])]
			switch kind {
			case "sel.added", "sel.event":
				want = true
			}
			if area == "media" || area == "console" {
				want = true
			}
			if got := OfHost(host.Event{Kind: kind}); got != want {
				t.Errorf("%s (%s): of the host %v, want %v", kind, row[1], got, want)
			}
		}
	}
}

// What a client of a full log waits for, the network excepted.
func BenchmarkEntries(b *testing.B) {
	db := openStore(b)
	events := openEvents(b, db)
	r := newRig(b, db, events)
	for range host.MaxEvents {
		events.Add(host.Event{Kind: "power.request", Message: "The host was asked to do something that takes a sentence to say.", Origin: host.Origin{User: "ann"}})
	}
	for b.Loop() {
		body, err := json.Marshal(r.system.getEntries(nil).Resource)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(body)))
	}
}
