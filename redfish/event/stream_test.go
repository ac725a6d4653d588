package event

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/redfish/resource"
)

// Over both versions of HTTP: it begins at once, has an EventDestination as long
// as it lives, and goes on where the client's last event was.
func TestStream(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP", version), func(t *testing.T) {
			b := newBench(t, newStore(t))
			server := httptest.NewUnstartedServer(b.Server.Config.Handler)
			server.EnableHTTP2 = version == 2
			// The limits of a board's server are shorter than a stream.
			server.Config.ReadTimeout, server.Config.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
			server.StartTLS()
			t.Cleanup(server.Close)
			f := b.open(server.Client(), server.URL, "reader", "", nil)
			if f.resp.ProtoMajor != version || f.resp.StatusCode != 200 || f.resp.Header.Get("Content-Type") != "text/event-stream" || f.resp.Header.Get("Cache-Control") != "no-cache" {
				t.Fatalf("got %s %d %v", f.resp.Proto, f.resp.StatusCode, f.resp.Header)
			}
			if line, err := f.read.ReadString('\n'); err != nil || line[0] != ':' {
				t.Errorf("the stream begins with %q, %v, want a comment", line, err)
			}
			members := b.members()
			if len(members) != 1 {
				t.Fatalf("members: got %v, want one", members)
			}
			a := b.Want(call{Method: "GET", URI: members[0], User: "reader"}, 200)
			if got := fmt.Sprint(a.At("SubscriptionType"), a.At("Protocol")); got != "SSERedfish" || !strings.HasPrefix(a.At("Destination").(string), "redfish-sse://127.0.0.1:") || a.At("Context") == "" {
				t.Errorf("got %s: %s", got, a.Body)
			}
			time.Sleep(500 * time.Millisecond)
			b.log("power.on")
			f.await("PowerOn")
			b.service.Changed("ResourceChanged", resource.SystemURI, "#ComputerSystem.v1_27_0.ComputerSystem")
			_, last := f.await("ResourceChanged")
			f.end()
			eventually(t, "the subscription is gone", func() bool { return len(b.members()) == 0 })
			b.log("power.off")
			again := b.open(server.Client(), server.URL, "reader", "", map[string]string{"Last-Event-ID": last})
			if got, _ := again.await("PowerOff"); len(got) != 1 {
				t.Errorf("got %v, want PowerOff alone", got)
			}
			// What is no id of ours: it begins now.
			late := b.open(server.Client(), server.URL, "reader", "", map[string]string{"Last-Event-ID": "x-9"})
			b.log("power.nmi")
			if got, _ := late.await("PowerNmi"); len(got) != 1 {
				t.Errorf("got %v, want PowerNmi alone", got)
			}
			// Its subscription's end is the stream's.
			members = b.members()
			for _, uri := range members {
				b.Want(call{Method: "DELETE", URI: uri, User: "admin"}, 204)
			}
			again.ends()
			late.ends()
		})
	}
}

// Each id is of one payload, in rising order.
func TestStreamIDs(t *testing.T) {
	b := newBench(t, newStore(t))
	f := b.stream("")
	go func() {
		for range 50 {
			b.log("power.on")
			b.service.Changed("ResourceChanged", resource.SystemURI, "")
		}
		b.log("power.off")
	}()
	before := Position{}
	for {
		id, e, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePosition(id)
		if err != nil || p.compare(before) <= 0 || e.ID != id {
			t.Fatalf("id %q (%v) of %q after %v", id, err, e.ID, before)
		}
		before = p
		if keys := e.keys(); slices.Contains(keys, "PowerOff") {
			return
		}
	}
}

func TestStreamRequests(t *testing.T) {
	b := newBench(t, newStore(t))
	get := func(query, accept string) call {
		return call{Method: "GET", URI: streamURI + query, User: "reader", Header: map[string]string{"Accept": accept}}
	}
	b.Want(get("", "application/json"), 406, "HeaderInvalid")
	b.Want(get("?$select=Id", "text/event-stream"), 501, "QueryParameterUnsupported")
	b.Want(get("?$filter=Nope%20eq%20x", "text/event-stream"), 400, "QueryParameterValueFormatError")
	b.Want(get("?$filter=", "text/event-stream"), 400, "QueryParameterValueFormatError")
	b.Want(call{Method: "GET", URI: streamURI, Header: map[string]string{"Accept": "text/event-stream"}}, 401, "AccessUnauthorized")
	b.Want(call{Method: "POST", URI: streamURI, User: "admin"}, 405, "OperationNotAllowed")
	b.Want(call{Method: "HEAD", URI: streamURI, User: "reader"}, 200)
	if got := b.members(); len(got) != 0 {
		t.Errorf("members: %v", got)
	}

	f := b.stream("?$filter=" + strings.ReplaceAll("OriginResource eq '/redfish/v1/Systems' and SubordinateResources eq true and (MessageId eq 'Nitrino.PowerOff' or RegistryPrefix eq ResourceEvent)", " ", "%20"))
	b.log("power.on")
	b.service.Changed("ResourceChanged", resource.ManagerURI, "")
	b.service.Changed("ResourceChanged", resource.SystemURI, "")
	b.log("power.off")
	if got, _ := f.await("PowerOff"); !slices.Equal(got, []string{"ResourceChanged", "PowerOff"}) {
		t.Errorf("got %v, want ResourceChanged PowerOff", got)
	}

	// Disabling the service ends it.
	b.Want(call{Method: "PATCH", URI: resource.EventServiceURI, User: "admin", Body: `{"ServiceEnabled":false}`}, 200)
	f.ends()
}

func TestStreamReport(t *testing.T) {
	b := newBench(t, newStore(t))
	reports, both := b.stream("?$filter=EventFormatType%20eq%20MetricReport"), b.stream("?$filter=EventFormatType%20eq%20Event%20or%20EventFormatType%20eq%20MetricReport")
	b.log("power.on")
	report := struct{ resource.OData }{resource.NewOData("/redfish/v1/TelemetryService/MetricReports/A", "MetricReport.v1_5_2.MetricReport", "Report")}
	if err := b.service.Report("/redfish/v1/TelemetryService/MetricReportDefinitions/A", report); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, e, err := both.next()
		if err != nil {
			t.Fatal(err)
		}
		if e.ID == "A" {
			break
		}
	}
	if _, e, err := reports.next(); err != nil || e.ID != "A" {
		t.Errorf("got %+v, %v, want the report", e, err)
	}
}

func TestParseFilter(t *testing.T) {
	e := &item{registry: "Nitrino", key: "PowerOn", severity: "Warning", eventType: "Alert", origin: "/redfish/v1/Systems/system", resourceType: "ComputerSystem"}
	report := &item{eventType: typeReport, report: "/redfish/v1/TelemetryService/MetricReportDefinitions/A"}
	for filter, want := range map[string][2]bool{ // for e, and for report
		"EventFormatType eq Event":                                                         {true, false},
		"EventFormatType eq 'MetricReport'":                                                {false, true},
		"EventType eq 'MetricReport'":                                                      {false, true},
		"(EventType eq 'Alert')":                                                           {true, false},
		"MetricReportDefinition eq '" + report.report + "'":                                {false, true},
		"MessageId eq 'Nitrino.1.7.PowerOn'":                                               {true, false},
		"MessageId eq 'Nitrino.PowerOff'":                                                  {false, false},
		"RegistryPrefix eq Nitrino":                                                        {true, false},
		"ResourceType eq 'ComputerSystem'":                                                 {true, false},
		"Severity eq 'Warning'":                                                            {true, false},
		"MessageSeverity eq 'OK'":                                                          {false, false},
		"OriginResource eq '/redfish/v1/Systems/system'":                                   {true, false},
		"OriginResource eq '/redfish/v1/Systems'":                                          {false, false},
		"SubordinateResources eq true and OriginResource eq '/redfish/v1/Systems/'":        {true, false},
		"OriginResource eq '/redfish/v1/Systems' and SubordinateResources eq true":         {true, false},
		"OriginResource eq '/redfish/v1/Systems' and SubordinateResources eq false":        {false, false},
		"OriginResource eq '/redfish/v1/Sys' and SubordinateResources eq true":             {false, false},
		"Severity eq 'OK' and Severity eq 'Warning' or ResourceType eq 'ComputerSystem'":   {true, false},
		"Severity eq 'OK' and (Severity eq 'Warning' or ResourceType eq 'ComputerSystem')": {false, false},
		" ( ( Severity eq 'Warning')and(RegistryPrefix eq 'Nitrino') ) ":                   {true, false},
		"RegistryPrefix eq 'It''s'":                                                        {false, false},
	} {
		m, err := parseFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := [2]bool{m(e), m(report)}; got != want {
			t.Errorf("%s: got %v, want %v", filter, got, want)
		}
	}
	for _, filter := range []string{"", " ", "EventFormatType", "EventFormatType eq", "EventFormatType ne Event", "EventFormatType eq Other", "Nope eq 1", "Severity eq 'OK", "(Severity eq OK",
		"Severity eq OK)", "Severity eq OK Severity eq OK", "Severity eq OK and", "or", "eq eq eq", "SubordinateResources eq 1", "not Severity eq OK", "Severity eq (OK)",
		strings.Repeat("(", 100) + "Severity eq OK" + strings.Repeat(")", 100)} {
		if _, err := parseFilter(filter); err == nil {
			t.Errorf("%q was understood", filter)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("OriginResource eq '/redfish/v1/Systems' and SubordinateResources eq true and (MessageId eq 'Nitrino.PowerOff' or RegistryPrefix eq ResourceEvent)")
	f.Add("EventFormatType eq 'It''s' or (Severity eq OK)")
	e := &item{registry: "Nitrino", key: "PowerOn", severity: "Warning", origin: "/redfish/v1/Systems/system"}
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := parseFilter(text); err == nil {
			m(e)
		}
	})
}

func FuzzPosition(f *testing.F) {
	f.Add("12.3")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePosition(text); err == nil && p.String() != text {
			t.Errorf("%q is %+v, written %q", text, p, p)
		}
	})
}

func TestFilter(t *testing.T) {
	i := &item{registry: "Nitrino", key: "PowerOn", severity: "OK", eventType: "StatusChange", origin: "/redfish/v1/Systems/system", resourceType: "ComputerSystem"}
	for _, c := range []struct {
		filter Filter
		want   bool
	}{
		{Filter{}, true},
		{Filter{MetricReports: true}, false},
		{Filter{RegistryPrefixes: []string{"Base"}}, false},
		{Filter{RegistryPrefixes: []string{"Base"}, MessageIDs: []string{"Nitrino.PowerOn"}}, true},
		{Filter{RegistryPrefixes: []string{"Nitrino"}, MessageIDs: []string{"Base.1.0.Success"}}, true},
		{Filter{RegistryPrefixes: []string{"Nitrino"}, ExcludeMessageIDs: []string{"Nitrino.1.0.PowerOn"}}, false},
		{Filter{ExcludeRegistryPrefixes: []string{"Nitrino"}}, false},
		{Filter{Severities: []string{"Warning", "Critical"}}, false},
		{Filter{EventTypes: []string{"StatusChange"}}, true},
		{Filter{ResourceTypes: []string{"Manager"}}, false},
		{Filter{OriginResources: []string{"/redfish/v1/Systems"}}, false},
		{Filter{OriginResources: []string{"/redfish/v1/Managers", "/redfish/v1/Systems"}, SubordinateResources: true}, true},
	} {
		if got := c.filter.matches(i); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.filter, got, c.want)
		}
	}
}
