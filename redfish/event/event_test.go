package event

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

type call = redfishtest.Call

func TestEventService(t *testing.T) {
	b := newBench(t, newStore(t))
	uri := resource.EventServiceURI
	a := b.Want(call{Method: "GET", URI: uri, User: "reader"}, 200)
	for path, want := range map[string]any{"ServiceEnabled": true, "DeliveryRetryAttempts": 3.0, "DeliveryRetryIntervalSeconds": 30.0, "ServerSentEventUri": streamURI,
		"ExcludeMessageId": true, "IncludeOriginOfConditionSupported": false} {
		if got := a.At(path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	b.Want(call{Method: "PATCH", URI: uri, User: "admin", Body: `{"DeliveryRetryAttempts":5,"DeliveryRetryIntervalSeconds":7}`}, 200)
	b.Want(call{Method: "PATCH", URI: uri, User: "oper", Body: `{"DeliveryRetryAttempts":5}`}, 403, "InsufficientPrivilege")
	b.Want(call{Method: "PATCH", URI: uri, User: "admin", Body: `{"DeliveryRetryAttempts":-1}`}, 400, "PropertyValueOutOfRange")
	b.Want(call{Method: "PATCH", URI: uri, User: "admin", Body: `{"DeliveryRetryIntervalSeconds":0}`}, 400, "PropertyValueOutOfRange")
	b.Want(call{Method: "PATCH", URI: uri, User: "admin", Body: `{"ServerSentEventUri":"x"}`}, 400, "PropertyNotWritable")
	a = b.Want(call{Method: "GET", URI: uri, User: "reader"}, 200)
	if got := fmt.Sprint(a.At("DeliveryRetryAttempts"), a.At("DeliveryRetryIntervalSeconds")); got != "5 7" {
		t.Errorf("got %s, want 5 7", got)
	}

	b.Want(call{Method: "PATCH", URI: uri, User: "admin", Body: `{"ServiceEnabled":false}`}, 200)
	if got := b.Want(call{Method: "GET", URI: uri, User: "reader"}, 200).At("Status", "State"); got != "Disabled" {
		t.Errorf("State: got %v, want Disabled", got)
	}
	b.Want(call{Method: "POST", URI: testURI, User: "admin"}, 503, "ServiceDisabled")
	b.Want(call{Method: "GET", URI: streamURI, User: "reader", Header: map[string]string{"Accept": "text/event-stream"}}, 503, "ServiceDisabled")

	// It is kept.
	again := newBench(t, b.store)
	if got := again.Want(call{Method: "GET", URI: uri, User: "reader"}, 200).At("ServiceEnabled"); got != false {
		t.Errorf("after a restart: got %v, want false", got)
	}
}

// What DMTF's validator posts, and what is shown of it.
func TestSubscription(t *testing.T) {
	b := newBench(t, newStore(t))
	const minimal = `{"Context":"RPV test subscription","Protocol":"Redfish","Destination":"https://192.0.2.50/Destination1"}`
	a := b.Want(call{Method: "POST", URI: resource.SubscriptionsURI, User: "admin", Body: minimal}, 201)
	uri := a.Header.Get("Location")
	a = b.Want(call{Method: "GET", URI: uri, User: "reader"}, 200)
	for path, want := range map[string]any{"Context": "RPV test subscription", "Protocol": "Redfish", "SubscriptionType": "RedfishEvent", "EventFormatType": "Event",
		"DeliveryRetryPolicy": "RetryForeverWithBackoff", "VerifyCertificate": false, "IncludeOriginOfCondition": false} {
		if got := a.At(path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	if got := b.members(); !slices.Equal(got, []string{uri}) {
		t.Errorf("members: got %v, want %s", got, uri)
	}
	b.Want(call{Method: "DELETE", URI: uri, User: "admin"}, 204)
	b.Want(call{Method: "GET", URI: uri, User: "admin"}, 404, "ResourceNotFound")
	b.Want(call{Method: "DELETE", URI: uri, User: "admin"}, 404, "ResourceNotFound")

	full := b.subscribe("http://192.0.2.1/e?key=hush", `,"Context":null,"SubscriptionType":"RedfishEvent","EventFormatType":"Event","DeliveryRetryPolicy":"SuspendRetries","VerifyCertificate":true,
		"HttpHeaders":[{"Authorization":"Bearer secret"}],"RegistryPrefixes":["Nitrino"],"ExcludeRegistryPrefixes":["Base"],"MessageIds":["ResourceEvent.1.0.ResourceChanged"],
		"ExcludeMessageIds":["Nitrino.PowerOn"],"ResourceTypes":["ComputerSystem","Session"],"Severities":["Warning"],"SubordinateResources":true,
		"OriginResources":[{"@odata.id":"/redfish/v1/Systems/system"}],"EventTypes":["Alert"],"IncludeOriginOfCondition":false,"MetricReportDefinitions":[]`)
	a = b.Want(call{Method: "GET", URI: full, User: "reader"}, 200)
	if got, want := b.Want(call{Method: "GET", URI: full, User: "admin"}, 200).At("Destination"), "http://192.0.2.1/e?key=hush"; got != want {
		t.Errorf("an administrator sees %v, want %v", got, want)
	}
	for _, e := range b.events.Since(0, 0) {
		if strings.Contains(e.Message, "hush") {
			t.Errorf("a secret is in an event: %s", e.Message)
		}
	}
	if strings.Contains(string(a.Body), "secret") || strings.Contains(string(a.Body), "hush") || fmt.Sprint(a.At("HttpHeaders")) != "[]" {
		t.Errorf("a header is shown: %s", a.Body)
	}
	if got := fmt.Sprint(a.At("RegistryPrefixes"), a.At("MessageIds"), a.At("OriginResources"), a.At("Severities"), a.At("EventTypes")); got !=
		"[Nitrino] [ResourceEvent.1.0.ResourceChanged] [map[@odata.id:/redfish/v1/Systems/system]] [Warning] [Alert]" {
		t.Errorf("got %s", got)
	}

	patch := func(body string) call { return call{Method: "PATCH", URI: full, User: "admin", Body: body} }
	b.Want(patch(`{"Context":"new","DeliveryRetryPolicy":"RetryForever","VerifyCertificate":false,"HttpHeaders":[{"X-A":"b"}]}`), 200)
	b.Want(patch(`{"Destination":"http://x"}`), 400, "PropertyNotWritable")
	b.Want(patch(`{"DeliveryRetryPolicy":"Never"}`), 400, "PropertyValueNotInList")
	b.Want(patch(`{"HttpHeaders":{"X-A":"c"}}`), 200) // as gofish has it
	b.Want(patch(`{"HttpHeaders":[{"Host":"x"}]}`), 400, "PropertyValueError")
	b.Want(patch(`{"HttpHeaders":{"Host":"x"}}`), 400, "PropertyValueError")
	b.Want(patch(`{"Context":"`+strings.Repeat("x", 1025)+`"}`), 400, "StringValueTooLong")
	b.Want(call{Method: "PATCH", URI: full, User: "admin", Body: `{"Context":"x"}`, Header: map[string]string{"If-Match": `"old"`}}, 412, "PreconditionFailed")
	if got := b.Want(call{Method: "GET", URI: full, User: "reader"}, 200).At("Context"); got != "new" {
		t.Errorf("Context: got %v, want new", got)
	}
	// Who may not configure the manager may change their own only.
	for _, c := range []call{patch(`{"Context":"x"}`), {Method: "DELETE", URI: full}, {Method: "POST", URI: full + "/Actions/" + suspendAction}} {
		c.User = "oper"
		b.Want(c, 403, "InsufficientPrivilege")
	}
	own := b.Want(call{Method: "POST", URI: resource.SubscriptionsURI, User: "oper", Body: minimal}, 201).Header.Get("Location")
	b.Want(call{Method: "PATCH", URI: own, User: "oper", Body: `{"Context":"x"}`}, 200)
	b.Want(call{Method: "DELETE", URI: own, User: "oper"}, 204)
	b.Want(call{Method: "POST", URI: resource.SubscriptionsURI, User: "reader", Body: minimal}, 403, "InsufficientPrivilege")
}

func TestBadSubscriptions(t *testing.T) {
	b := newBench(t, newStore(t))
	long := strings.Repeat("x", 1025)
	for body, want := range map[string]string{
		`{"Protocol":"Redfish"}`:                                                                               "PropertyMissing",
		`{"Destination":"http://h"}`:                                                                           "PropertyMissing",
		`{"Destination":"http://h","Protocol":"FTP"}`:                                                          "PropertyValueNotInList",
		`{"Destination":"ftp://h","Protocol":"Redfish"}`:                                                       "PropertyValueFormatError",
		`{"Destination":"http://","Protocol":"Redfish"}`:                                                       "PropertyValueFormatError",
		`{"Destination":"http://u:p@h","Protocol":"Redfish"}`:                                                  "PropertyValueFormatError",
		`{"Destination":"http://h#f","Protocol":"Redfish"}`:                                                    "PropertyValueFormatError",
		`{"Destination":"http://h/` + long + `","Protocol":"Redfish"}`:                                         "PropertyValueFormatError",
		`{"Destination":"http://h","Protocol":1}`:                                                              "PropertyValueTypeError",
		`{"Destination":7,"Protocol":"Redfish"}`:                                                               "PropertyValueTypeError",
		`{"Destination":"http://h","Protocol":"Redfish","Nope":1}`:                                             "PropertyUnknown",
		`{"Destination":"http://h","Protocol":"Redfish","Context":1}`:                                          "PropertyValueTypeError",
		`{"Destination":"http://h","Protocol":"Redfish","EventFormatType":"x"}`:                                "PropertyValueNotInList",
		`{"Destination":"http://h","Protocol":"Redfish","SubscriptionType":"SSE"}`:                             "PropertyValueNotInList",
		`{"Destination":"http://h","Protocol":"Redfish","RegistryPrefixes":["x"]}`:                             "PropertyValueNotInList",
		`{"Destination":"http://h","Protocol":"Redfish","ResourceTypes":["x"]}`:                                "PropertyValueNotInList",
		`{"Destination":"http://h","Protocol":"Redfish","MessageIds":"x"}`:                                     "PropertyValueTypeError",
		`{"Destination":"http://h","Protocol":"Redfish","MessageIds":["` + long + `"]}`:                        "StringValueTooLong",
		`{"Destination":"http://h","Protocol":"Redfish","MessageIds":[` + strings.Repeat(`"x",`, 64) + `"x"]}`: "ArraySizeTooLong",
		`{"Destination":"http://h","Protocol":"Redfish","OriginResources":["/redfish/v1"]}`:                    "PropertyValueTypeError",
		`{"Destination":"http://h","Protocol":"Redfish","OriginResources":[{"@odata.id":"/x"}]}`:               "PropertyValueFormatError",
		`{"Destination":"http://h","Protocol":"Redfish","HttpHeaders":[{"A":"b\r\nc"}]}`:                       "PropertyValueError",
		`{"Destination":"http://h","Protocol":"Redfish","HttpHeaders":[{"A b":"c"}]}`:                          "PropertyValueError",
		`{"Destination":"http://h","Protocol":"Redfish","HttpHeaders":"secret"}`:                               "PropertyValueError",
		`{"Destination":"http://h","Protocol":"Redfish","IncludeOriginOfCondition":true}`:                      "PropertyValueError",
	} {
		a := b.Want(call{Method: "POST", URI: resource.SubscriptionsURI, User: "admin", Body: body}, 400, want)
		if len(a.Related()) != 1 || strings.Contains(string(a.Body), "secret") {
			t.Errorf("%s: %s", body, a.Body)
		}
	}
	if got := b.members(); len(got) != 0 {
		t.Errorf("members: %v", got)
	}
}

func TestPush(t *testing.T) {
	b := newBench(t, newStore(t))
	all, some := newSink(t, false), newSink(t, true)
	b.log("power.off") // nobody was there yet
	uri := b.subscribe(all.URL+"/path?x=y", `,"Context":"mine","HttpHeaders":[{"Authorization":"Bearer secret"},{"X-A":"b","X-C":"d"}]`)
	b.subscribe(some.URL, `,"MessageIds":["Nitrino.PowerOn"]`)
	b.events.Add(host.Event{Kind: "sensor.limit", Severity: host.Critical, Message: "Too hot.", Sensor: &host.SensorChange{Name: "cpu"}, Origin: host.Origin{User: "jim"}})
	b.log("power.on")
	got := b.await(all, "PowerOn")
	slices.Sort(got[:len(got)-2]) // of the two subscriptions
	if want := []string{"ResourceCreated", "ResourceCreated", "SubscriptionCreated", "SubscriptionCreated", "SensorLimit", "PowerOn"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := b.await(some, "PowerOn"); len(got) != 1 {
		t.Errorf("got %v, want PowerOn", got)
	}
	all.mu.Lock()
	r := all.requests[0]
	all.mu.Unlock()
	if r.Method != "POST" || r.URL.String() != "/path?x=y" || r.Header.Get("Authorization") != "Bearer secret" || r.Header.Get("X-C") != "d" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
	}

	// The client's own test event, and the registry's.
	b.Want(call{Method: "POST", URI: submitURI, User: "admin", Body: `{"MessageId":"Test.1.0.Mine","EventId":"77","EventTimestamp":"2020-01-02T03:04:05Z","EventType":"Alert","EventGroupId":4,
		"Message":"A \"quote\"","MessageArgs":["a"],"MessageSeverity":"Warning","OriginOfCondition":"/redfish/v1/Systems/system"}`}, 204)
	b.await(all, "Mine")
	b.Want(call{Method: "POST", URI: testURI, User: "admin"}, 204)
	b.await(all, "TestMessage")
	b.service.Task("TaskProgressChanged", []string{"3", "50"}, "/redfish/v1/TaskService/Tasks/3")
	b.await(all, "TaskProgressChanged")

	for body, want := range map[string]string{
		`{}`:                     "ActionParameterMissing",
		`{"MessageId":"nodots"}`: "ActionParameterValueFormatError",
		`{"MessageId":"A.1.0.B","EventTimestamp":"today"}`: "ActionParameterValueFormatError",
		`{"MessageId":"A.1.0.B","EventType":"x"}`:          "ActionParameterValueNotInList",
		`{"MessageId":"A.1.0.B","X":"x"}`:                  "ActionParameterUnknown",
	} {
		b.Want(call{Method: "POST", URI: submitURI, User: "admin", Body: body}, 400, want)
	}
	b.Want(call{Method: "POST", URI: testURI, User: "oper"}, 403, "InsufficientPrivilege")
	b.Want(call{Method: "DELETE", URI: uri, User: "admin"}, 204)
	b.log("power.off")
	b.Want(call{Method: "POST", URI: testURI, User: "admin"}, 204)
}

func TestPushReport(t *testing.T) {
	b := newBench(t, newStore(t))
	all, one := newSink(t, false), newSink(t, false)
	b.subscribe(all.URL, `,"EventFormatType":"MetricReport","Context":"r"`)
	b.subscribe(one.URL, `,"EventFormatType":"MetricReport","MetricReportDefinitions":[{"@odata.id":"/redfish/v1/TelemetryService/MetricReportDefinitions/B"}]`)
	for _, id := range []string{"A", "B"} {
		report := struct{ resource.OData }{resource.NewOData("/redfish/v1/TelemetryService/MetricReports/"+id, "MetricReport.v1_5_2.MetricReport", "Report")}
		if err := b.service.Report("/redfish/v1/TelemetryService/MetricReportDefinitions/"+id, report); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct {
		from *sink
		id   string
	}{{all, "A"}, {all, "B"}, {one, "B"}} {
		if e := b.parse(<-want.from.bodies); e.ID != want.id || e.Type != "#MetricReport.v1_5_2.MetricReport" {
			t.Errorf("got %+v, want %s", e, want.id)
		}
	}
}

// Each policy, with a destination that does not take events and then does.
func TestRetries(t *testing.T) {
	for _, policy := range policies() {
		t.Run(policy, func(t *testing.T) {
			b := newBench(t, newStore(t))
			b.service.mu.Lock()
			b.service.conf.Attempts, b.service.conf.Interval = 2, 0
			b.service.mu.Unlock()
			s := newSink(t, false)
			s.answer(500)
			uri := b.subscribe(s.URL, `,"DeliveryRetryPolicy":"`+policy+`","MessageIds":["Nitrino.PowerOn"]`)
			b.log("power.on")
			for range 3 {
				b.await(s, "PowerOn")
			}
			switch policy {
			case terminate:
				eventually(t, "the subscription is removed", func() bool { return len(b.members()) == 0 })
				return
			case suspend:
				eventually(t, "the subscription is suspended", func() bool {
					return b.Want(call{Method: "GET", URI: uri, User: "reader"}, 200).At("Status", "State") == "Disabled"
				})
				s.answer(200)
				b.Want(call{Method: "POST", URI: uri + "/Actions/" + resumeAction, User: "admin"}, 204)
			default:
				b.await(s, "PowerOn")
				s.answer(200)
			}
			b.await(s, "PowerOn")
			eventually(t, "the subscription is well", func() bool {
				a := b.Want(call{Method: "GET", URI: uri, User: "reader"}, 200)
				return a.At("Status", "State") == "Enabled" && a.At("Status", "Health") == "OK"
			})
			kinds := ""
			for _, e := range b.events.Since(0, 0) {
				kinds += " " + e.Kind
			}
			if want := "subscription.failed"; strings.Count(kinds, want) != 1 {
				t.Errorf("%s is not there once: %s", want, kinds)
			}
		})
	}
}

func TestSuspendResume(t *testing.T) {
	b := newBench(t, newStore(t))
	s := newSink(t, false)
	uri := b.subscribe(s.URL, `,"RegistryPrefixes":["Nitrino"],"ResourceTypes":["ComputerSystem"]`)
	b.Want(call{Method: "POST", URI: uri + "/Actions/" + suspendAction, User: "admin"}, 204)
	b.log("power.on")
	b.Want(call{Method: "POST", URI: uri + "/Actions/" + resumeAction, User: "admin", Body: `{"DeliverBufferedEventDuration":"x"}`}, 400, "ActionParameterValueFormatError")
	b.Want(call{Method: "POST", URI: uri + "/Actions/" + resumeAction, User: "admin", Body: `{"DeliverBufferedEventDuration":"PT1H"}`}, 204)
	b.await(s, "PowerOn")
	b.Want(call{Method: "POST", URI: uri + "/Actions/" + suspendAction, User: "admin"}, 204)
	b.log("power.on")
	eventually(t, "the event is in the buffer", func() bool {
		b.service.mu.Lock()
		defer b.service.mu.Unlock()
		return b.service.buffer.head.Log >= b.events.Last()
	})
	b.Want(call{Method: "POST", URI: uri + "/Actions/" + resumeAction, User: "admin", Body: `{"DeliverBufferedEventDuration":"PT0S"}`}, 204)
	b.log("power.off")
	if got := b.await(s, "PowerOff"); len(got) != 1 {
		t.Errorf("got %v, want PowerOff", got)
	}
}

// What happens while the software is down is sent when it is up again.
func TestRestart(t *testing.T) {
	db := newStore(t)
	b := newBench(t, db)
	s := newSink(t, false)
	uri := b.subscribe(s.URL, `,"Context":"kept","HttpHeaders":[{"X-Secret":"s"}],"ResourceTypes":["ComputerSystem"]`)
	b.log("power.on")
	b.await(s, "PowerOn")
	b.stop()
	b.events.Add(host.Event{Kind: "power.asleep", Message: "Nobody saw it."})
	again := newBenchOf(t, db, b.events)
	// What came last before may come twice.
	if got := again.await(s, "PowerAsleep"); len(got) > 2 {
		t.Errorf("got %v, want PowerAsleep", got)
	}
	s.mu.Lock()
	r := s.requests[len(s.requests)-1]
	s.mu.Unlock()
	if got := r.Header.Get("X-Secret"); got != "s" {
		t.Errorf("X-Secret: got %q, want s", got)
	}
	if got := again.Want(call{Method: "GET", URI: uri, User: "reader"}, 200).At("Context"); got != "kept" {
		t.Errorf("Context: got %v, want kept", got)
	}
}

// Who falls behind is told, and gets what is still there.
func TestFallBehind(t *testing.T) {
	b := newBench(t, newStore(t))
	s := newSink(t, false)
	uri := b.subscribe(s.URL, "")
	b.await(s, "ResourceCreated")
	b.Want(call{Method: "POST", URI: uri + "/Actions/" + suspendAction, User: "admin"}, 204)
	for range maxItems + 10 {
		b.service.Changed("ResourceChanged", "/redfish/v1/Systems/system", "#ComputerSystem.v1_27_0.ComputerSystem")
	}
	b.log("power.on")
	b.Want(call{Method: "POST", URI: uri + "/Actions/" + resumeAction, User: "admin"}, 204)
	var got []string
	for len(got) == 0 || got[len(got)-1] != "PowerOn" {
		got = append(got, b.await(s, "PowerOn")...)
	}
	i := slices.Index(got, "EventBufferExceeded")
	if n := len(got) - i; i < 0 || i > 2 || n < maxItems-10 || n > maxItems+10 {
		t.Errorf("EventBufferExceeded is number %d of %d", i, len(got))
	}
}

func TestLimits(t *testing.T) {
	b := newBench(t, newStore(t))
	b.service.mu.Lock()
	for i := range maxPushes {
		b.service.subs[fmt.Sprint(i)] = &subscription{id: fmt.Sprint(i), target: target{Suspended: true}}
	}
	b.service.mu.Unlock()
	b.Want(call{Method: "POST", URI: resource.SubscriptionsURI, User: "admin", Body: `{"Protocol":"Redfish","Destination":"http://192.0.2.1"}`}, 503, "EventSubscriptionLimitExceeded")
	for range maxStreams {
		b.stream("")
	}
	b.Want(call{Method: "GET", URI: streamURI, User: "admin", Header: map[string]string{"Accept": "text/event-stream"}}, 503, "EventSubscriptionLimitExceeded")
}

// memory is what lives on the heap.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A user's end is the streams' end.
func TestStreamOfUser(t *testing.T) {
	for name, change := range map[string]func(map[string]auth.User){
		"deleted":  func(all map[string]auth.User) { delete(all, "oper") },
		"disabled": func(all map[string]auth.User) { all["oper"] = auth.User{Name: "oper", Role: auth.Operator} },
		"role": func(all map[string]auth.User) {
			all["oper"] = auth.User{Name: "oper", Role: auth.ReadOnly, Enabled: true}
		},
		"password": func(all map[string]auth.User) {
			all["oper"] = auth.User{Name: "oper", Role: auth.Operator, Enabled: true, PasswordChangeRequired: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, newStore(t))
			f := b.open(b.Server.Client(), b.Server.URL, "oper", "", nil)
			other := b.stream("")
			b.log("power.on")
			f.await("PowerOn")
			b.users.change(change)
			f.ends()
			eventually(t, "one stream is left", func() bool { return len(b.members()) == 1 })
			b.log("power.off")
			other.await("PowerOff")
		})
	}
}

// A session's end is not its streams' end, but that of the user's password is.
func TestStreamOfSession(t *testing.T) {
	b := newBench(t, newStore(t))
	u, _ := b.users.User("oper")
	session, token, err := b.users.NewSession(u, auth.Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	f := b.open(b.Server.Client(), b.Server.URL, "", "", map[string]string{"X-Auth-Token": token})
	b.users.EndSession(session.ID)
	b.log("power.on")
	f.await("PowerOn")
	b.users.change(func(all map[string]auth.User) {
		u.PasswordChangeRequired = true
		all["oper"] = u
	})
	b.log("power.off")
	for {
		_, e, err := f.next()
		if err != nil {
			break
		}
		if slices.Contains(e.keys(), "PowerOff") {
			t.Error("an event was sent to who has to change the password first")
		}
	}
	eventually(t, "no stream is left", func() bool { return len(b.members()) == 0 })
}

// A post under way when a client resumes from further on does not bring back
// what is left out.
func TestResumeWhilePosting(t *testing.T) {
	b := newBench(t, newStore(t))
	came, answer := make(chan string), make(chan struct{})
	d := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		came <- strings.Join(b.parse(body).keys(), " ")
		<-answer
	}))
	defer d.Close()
	uri := b.subscribe(d.URL, `,"RegistryPrefixes":["Nitrino"]`)
	<-came // that it was made
	b.Want(redfishtest.Call{Method: "POST", URI: uri + "/Actions/EventDestination.SuspendSubscription", User: "admin", Body: "{}"}, 204)
	b.log("power.on")
	eventually(t, "the event waits", func() bool {
		b.service.mu.Lock()
		defer b.service.mu.Unlock()
		return b.service.buffer.head.Log == b.events.Last()
	})
	time.Sleep(5 * time.Millisecond)
	b.Want(redfishtest.Call{Method: "POST", URI: uri + "/Actions/EventDestination.ResumeSubscription", User: "admin", Body: `{"DeliverBufferedEventDuration":"PT0.001S"}`}, 204)
	answer <- struct{}{}
	b.log("power.off")
	for got := ""; !strings.Contains(got, "PowerOff"); answer <- struct{}{} {
		if got = <-came; strings.Contains(got, "PowerOn") {
			t.Errorf("got %s, which was to be left out", got)
		}
	}
}

// What events are about can be asked for.
func TestOrigins(t *testing.T) {
	for uri, want := range map[string]string{resource.SystemURI: "ComputerSystem", resource.ManagerURI: "Manager", resource.SensorsURI + "/x": "Sensor",
		resource.AccountServiceURI: "AccountService", resource.EventServiceURI: "EventService", resource.UpdateServiceURI: "UpdateService",
		resource.StorageURI: "Storage", resource.ISCSIFabricURI: "Fabric"} {
		s := &Service{opt: Options{Origin: func(host.Event) string { return uri }}}
		if at, got := s.originOf(host.Event{}); at != uri || got != want || !slices.Contains(resourceTypes(), got) {
			t.Errorf("got %s, %s, want %s, %s", at, got, uri, want)
		}
	}
	if !slices.IsSorted(resourceTypes()) {
		t.Error("the types are in no order")
	}
}
