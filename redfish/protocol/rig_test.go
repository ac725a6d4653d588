package protocol

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A rig is a service of a few made-up resources: systems a, b and c with a log
// each, a chassis with sensors, an upload and a stream.
type rig struct {
	*redfishtest.Rig
	auth    *redfishtest.Auth
	service *Service

	mu      sync.Mutex
	tags    map[string]string // the systems' AssetTags, by id
	entries int
	changes []string
	hold    chan struct{} // a PATCH of system c waits for it
}

const (
	uploadURI  = resource.UpdateServiceURI + "/upload"
	streamURI  = resource.EventServiceURI + "/SSE"
	xmlURI     = "/redfish/v1/document"
	restartURI = resource.SystemsURI + "/a/Actions/ComputerSystem.Reset"
	entriesURI = resource.SystemsURI + "/a/LogServices/log/Entries"

	testSystemType = "ComputerSystem.v1_27_0.ComputerSystem"
)

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{auth: redfishtest.NewAuth(), tags: map[string]string{"a": "one", "b": "two", "c": "three"}, entries: 5, hold: make(chan struct{})}
	var err error
	r.service, err = New(Options{Auth: r.auth, Routes: r.routes(t), Log: slog.New(slog.DiscardHandler), Changed: func(kind, uri, odataType string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changes = append(r.changes, kind+" "+uri+" "+odataType)
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, r.service)
	return r
}

func (r *rig) routes(t testing.TB) []resource.Route {
	system := resource.SystemsURI + "/{id}"
	fixed, err := JSONDocument(map[string]string{"v1": resource.RootURI})
	if err != nil {
		t.Fatal(err)
	}
	return []resource.Route{
		{Pattern: "/redfish", Get: func(*resource.Request) *resource.Reply { return &resource.Reply{Status: 200, Document: fixed} }},
		{Pattern: xmlURI, Media: XMLType, Get: func(*resource.Request) *resource.Reply {
			return &resource.Reply{Status: 200, Document: fixed}
		}},
		{Pattern: resource.SystemsURI, Type: "ComputerSystemCollection.ComputerSystemCollection", Get: r.getSystems, Post: r.postSystem},
		{Pattern: system, Type: testSystemType, Get: r.getSystem, Patch: r.patchSystem, Delete: r.deleteSystem},
		{Pattern: system + "/Actions/ComputerSystem.Reset", Type: testSystemType, Action: "ComputerSystem.Reset", Post: r.postReset},
		{Pattern: system + "/Certificates", Type: "CertificateCollection.CertificateCollection", Under: "ComputerSystem", Get: r.collection("CertificateCollection")},
		{Pattern: system + "/LogServices", Type: "LogServiceCollection.LogServiceCollection", Under: "ComputerSystem", Get: func(q *resource.Request) *resource.Reply {
			return resource.OK(resource.NewCollection(q.URL.Path, "LogServiceCollection", "Logs", q.URL.Path+"/log"))
		}},
		{Pattern: system + "/LogServices/log", Type: "LogService.v1_9_0.LogService", Under: "ComputerSystem", Get: func(q *resource.Request) *resource.Reply {
			return resource.OK(struct {
				resource.OData
				Entries resource.Link
			}{resource.NewOData(q.URL.Path, "LogService.v1_9_0.LogService", "Log"), resource.Link{ODataID: q.URL.Path + "/Entries"}})
		}},
		{Pattern: system + "/LogServices/log/Entries", Type: "LogEntryCollection.LogEntryCollection", Under: "ComputerSystem", Get: r.getEntries},
		{Pattern: resource.ChassisURI, Type: "Chassis.v1_28_0.Chassis", Get: r.getChassis},
		{Pattern: resource.SensorsURI, Type: "SensorCollection.SensorCollection", Get: func(q *resource.Request) *resource.Reply {
			return resource.OK(resource.NewCollection(resource.SensorsURI, "SensorCollection", "Sensors", resource.SensorsURI+"/cpu"))
		}},
		{Pattern: resource.SensorsURI + "/cpu", Type: "Sensor.v1_13_0.Sensor", Get: func(q *resource.Request) *resource.Reply {
			return resource.OK(struct {
				resource.OData
				Reading      float64
				ReadingUnits string
			}{resource.NewOData(q.URL.Path, "Sensor.v1_13_0.Sensor", "CPU"), 41.5, "Cel"})
		}},
		{Pattern: resource.AccountsURI + "/{id}", Type: "ManagerAccount.v1_14_1.ManagerAccount", Self: true, Free: true, Get: r.getAccount, Patch: r.getAccount, Delete: r.deleteSystem},
		{Pattern: resource.SessionsURI, Type: "SessionCollection.SessionCollection", Open: true, Get: r.collection("SessionCollection"), Post: func(*resource.Request) *resource.Reply { return resource.NoContent() }},
		{Pattern: uploadURI, Type: "UpdateService.v1_17_0.UpdateService", Action: "upload", Raw: true, Post: func(q *resource.Request) *resource.Reply {
			data, err := io.ReadAll(q.Request.Body)
			if err != nil {
				return resource.Fail(message.OperationFailed())
			}
			return &resource.Reply{Status: http.StatusAccepted, Location: "/redfish/v1/" + strconv.Itoa(len(data))}
		}},
		{Pattern: streamURI, Type: "EventService.v1_12_0.EventService", Stream: true, Get: func(q *resource.Request) *resource.Reply {
			if q.Method != "GET" {
				t.Errorf("%s came to the stream's handler", q.Method)
			}
			return &resource.Reply{Status: 200, Stream: func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprintf(w, ": %s\n\n", q.URL.Query().Get("$filter"))
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				if q.URL.Query().Has("slow") {
					time.Sleep(2 * paceLimit)
					fmt.Fprint(w, "data: later\n\n")
				}
			}}
		}},
	}
}

func (r *rig) collection(schema string) resource.Handler {
	return func(q *resource.Request) *resource.Reply {
		return resource.OK(resource.NewCollection(q.URL.Path, schema, schema))
	}
}

type testSystem struct {
	resource.OData
	AssetTag      string
	Status        resource.Status
	MemorySummary struct{ TotalSystemMemoryGiB *float64 }
	Boot          struct {
		BootSourceOverrideTarget string
		Allowable                []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	}
	LogServices, Certificates resource.Link
	Links                     struct{ Chassis []resource.Link }
}

func (r *rig) getSystem(q *resource.Request) *resource.Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := q.PathValue("id")
	tag, found := r.tags[id]
	if !found {
		return resource.Fail(message.ResourceNotFound("ComputerSystem", id))
	}
	uri := resource.SystemsURI + "/" + id
	s := testSystem{OData: resource.NewOData(uri, testSystemType, "System "+id), AssetTag: tag, Status: resource.Enabled()}
	if id != "c" {
		s.MemorySummary.TotalSystemMemoryGiB = new(float64(len(tag) * 16))
	}
	s.Boot.BootSourceOverrideTarget, s.Boot.Allowable = "Pxe", []string{"None", "Pxe"}
	s.LogServices, s.Certificates = resource.Link{ODataID: uri + "/LogServices"}, resource.Link{ODataID: uri + "/Certificates"}
	s.Links.Chassis = resource.Links(resource.ChassisURI)
	return resource.OK(s)
}

func (r *rig) patchSystem(q *resource.Request) *resource.Reply {
	return resource.Patch(q, r.getSystem, resource.String("AssetTag", func(text string) []message.Message {
		if q.PathValue("id") == "c" {
			<-r.hold
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tags[q.PathValue("id")] = text
		return nil
	}))
}

func (r *rig) deleteSystem(q *resource.Request) *resource.Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.tags, q.PathValue("id"))
	return resource.NoContent()
}

func (r *rig) postSystem(q *resource.Request) *resource.Reply {
	var tag string
	if problems := q.Parameters("", resource.Required(resource.Text("AssetTag", &tag))); problems != nil {
		return resource.Fail(problems...)
	}
	r.mu.Lock()
	r.tags["new"] = tag
	r.mu.Unlock()
	q.SetPathValue("id", "new")
	return resource.Created(r.getSystem(q).Resource, resource.SystemsURI+"/new")
}

func (r *rig) postReset(q *resource.Request) *resource.Reply {
	var kind string
	if problems := q.Parameters("ComputerSystem.Reset", resource.Text("ResetType", &kind)); problems != nil {
		return resource.Fail(problems...)
	}
	return resource.NoContent()
}

func (r *rig) getSystems(*resource.Request) *resource.Reply {
	var uris []string
	for _, id := range []string{"a", "b", "c", "gone"} {
		if _, there := r.tags[id]; there {
			uris = append(uris, resource.SystemsURI+"/"+id)
		}
	}
	return resource.OK(resource.NewCollection(resource.SystemsURI, "ComputerSystemCollection", "Systems", uris...))
}

type testEntry struct {
	resource.OData
	Created, EntryType, Severity, Message string
	Links                                 struct{ OriginOfCondition resource.Link }
}

func (r *rig) getEntries(q *resource.Request) *resource.Reply {
	var all []testEntry
	for i := range r.entries {
		e := testEntry{OData: resource.NewOData(fmt.Sprintf("%s/%d", q.URL.Path, i+1), "LogEntry.v1_21_0.LogEntry", "Entry"),
			Created: time.Unix(1_700_000_000+int64(i)*60, 0).UTC().Format(time.RFC3339), EntryType: "Event", Severity: "OK", Message: "it's " + strconv.Itoa(i+1)}
		if i%2 == 1 {
			e.Severity = "Warning"
		}
		e.Links.OriginOfCondition = resource.Link{ODataID: resource.SystemsURI + "/" + q.PathValue("id")}
		all = append(all, e)
	}
	return resource.OK(resource.NewFullCollection(q.URL.Path, "LogEntryCollection", "Entries", all))
}

func (r *rig) getChassis(*resource.Request) *resource.Reply {
	c := struct {
		resource.OData
		ChassisType string
		Sensors     resource.Link
		Links       struct{ ComputerSystems []resource.Link }
	}{OData: resource.NewOData(resource.ChassisURI, "Chassis.v1_28_0.Chassis", "Chassis"), ChassisType: "Other", Sensors: resource.Link{ODataID: resource.SensorsURI}}
	c.Links.ComputerSystems = resource.Links(resource.SystemsURI+"/a", resource.SystemsURI+"/b")
	return resource.OK(c)
}

func (r *rig) getAccount(q *resource.Request) *resource.Reply {
	return resource.OK(struct {
		resource.OData
		UserName     string
		AccountTypes []string
	}{resource.NewOData(resource.AccountsURI+"/"+q.PathValue("id"), "ManagerAccount.v1_14_1.ManagerAccount", "Account"), q.PathValue("id"), []string{"Redfish"}})
}
