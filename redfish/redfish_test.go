package redfish

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Every URI, with each method, as each kind of User: the privileges of
// Redfish_1.8.0_PrivilegeRegistry and DSP0266's rules for what needs no login.
func TestMethodsAndPrivileges(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"oper","Password":"oper-pw"}`}) // s0, for Sessions/s0
	users := []string{"", "nobody", "reader", "oper", "admin"}
	for _, c := range []struct {
		uri, method, body string
		want              [5]int // as each of users
	}{
		{"/redfish", "GET", "", [5]int{200, 200, 200, 200, 200}},
		{"/redfish/", "GET", "", [5]int{200, 200, 200, 200, 200}},
		{"/redfish", "POST", "{}", [5]int{405, 405, 405, 405, 405}},
		{"/redfish/v1", "GET", "", [5]int{200, 200, 200, 200, 200}},
		{"/redfish/v1/", "GET", "", [5]int{200, 200, 200, 200, 200}},
		{"/redfish/v1/", "HEAD", "", [5]int{200, 200, 200, 200, 200}},
		{"/redfish/v1/", "PATCH", "{}", [5]int{405, 405, 405, 405, 405}},
		{"/redfish/v1/", "DELETE", "", [5]int{405, 405, 405, 405, 405}},
		{"/redfish/v1/", "FAKEMETHOD", "", [5]int{501, 501, 501, 501, 501}},
		{"/redfish/v1/odata", "GET", "", [5]int{200, 200, 200, 200, 200}},
		{"/redfish/v1/$metadata", "GET", "", [5]int{200, 200, 200, 200, 200}},
		{"/redfish/v1/Nothing", "GET", "", [5]int{401, 404, 404, 404, 404}},
		{"/other", "GET", "", [5]int{401, 404, 404, 404, 404}},
		{"/redfish/v1/Systems", "GET", "", [5]int{401, 403, 200, 200, 200}},
		{"/redfish/v1/Systems", "POST", "{}", [5]int{401, 405, 405, 405, 405}},
		{"/redfish/v1/Systems/system", "GET", "", [5]int{401, 403, 200, 200, 200}},
		{"/redfish/v1/Systems/system/", "HEAD", "", [5]int{401, 403, 200, 200, 200}},
		{"/redfish/v1/Systems/other", "GET", "", [5]int{401, 404, 404, 404, 404}},
		{"/redfish/v1/Systems/system", "PATCH", `{"LocationIndicatorActive":true}`, [5]int{401, 403, 403, 200, 200}},
		{"/redfish/v1/Systems/system", "PUT", `{}`, [5]int{401, 405, 405, 405, 405}},
		{"/redfish/v1/Systems/system", "DELETE", "", [5]int{401, 405, 405, 405, 405}},
		{resetURI, "GET", "", [5]int{401, 405, 405, 405, 405}},
		{resetURI, "POST", `{"ResetType":"On"}`, [5]int{401, 403, 403, 204, 204}},
		{"/redfish/v1/SessionService", "GET", "", [5]int{401, 403, 200, 200, 200}},
		{"/redfish/v1/SessionService", "PATCH", `{"SessionTimeout":600}`, [5]int{401, 403, 403, 403, 200}},
		{"/redfish/v1/SessionService/Sessions", "GET", "", [5]int{401, 403, 200, 200, 200}},
		{"/redfish/v1/SessionService/Sessions", "PATCH", "{}", [5]int{401, 405, 405, 405, 405}},
		{"/redfish/v1/SessionService/Sessions/Members", "GET", "", [5]int{405, 405, 405, 405, 405}},
		{"/redfish/v1/SessionService/Sessions/s0", "GET", "", [5]int{401, 403, 403, 200, 200}},
		{"/redfish/v1/SessionService/Sessions/s0", "PATCH", "{}", [5]int{401, 405, 405, 405, 405}},
		{"/redfish/v1/SessionService/Sessions/gone", "GET", "", [5]int{401, 403, 404, 404, 404}},
		{"/redfish/v1/SessionService/Sessions/s0", "DELETE", "", [5]int{401, 403, 403, 204, 404}},
	} {
		for i, user := range users {
			if got := r.Do(redfishtest.Call{Method: c.method, URI: c.uri, User: user, Body: c.body}).Status; got != c.want[i] {
				t.Errorf("%s %s as %q: got %d, want %d", c.method, c.uri, user, got, c.want[i])
			}
		}
	}
}

func TestFixedDocuments(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
	if got, want := string(r.Do(redfishtest.Call{Method: "GET", URI: "/redfish"}).Body), `{"v1":"/redfish/v1/"}`; got != want {
		t.Errorf("/redfish: got %s, want %s", got, want)
	}
	root := r.Do(redfishtest.Call{Method: "GET", URI: resource.RootURI})
	for _, c := range []struct {
		path []string
		want any
	}{
		{[]string{"RedfishVersion"}, "1.21.0"},
		{[]string{"Product"}, "nitrino 1.2.3"},
		{[]string{"UUID"}, uuidOf(r.host.UUID)},
		{[]string{"Links", "Sessions", "@odata.id"}, resource.SessionsURI},
		{[]string{"ProtocolFeaturesSupported", "OnlyMemberQuery"}, true},
		{[]string{"ProtocolFeaturesSupported", "ExpandQuery", "MaxLevels"}, 6.0},
		{[]string{"ProtocolFeaturesSupported", "DeepOperations", "DeepPATCH"}, false},
		{[]string{"Vendor"}, "nitrino"},
		{[]string{"Registries", "@odata.id"}, resource.RegistriesURI},
		{[]string{"JsonSchemas", "@odata.id"}, resource.JSONSchemasURI},
		{[]string{"Chassis"}, nil}, // no such chapter is here
	} {
		if got := root.At(c.path...); got != c.want {
			t.Errorf("ServiceRoot %v: got %v, want %v", c.path, got, c.want)
		}
	}
	service := r.Do(redfishtest.Call{Method: "GET", URI: odataURI})
	if got := service.At("@odata.context"); got != metadataURI {
		t.Errorf("@odata.context: got %v, want %v", got, metadataURI)
	}
	for _, e := range service.At("value").([]any) {
		uri := e.(map[string]any)["url"].(string)
		if got := r.Do(redfishtest.Call{Method: "GET", URI: uri, User: "admin"}).Status; got != 200 {
			t.Errorf("service document's %s: got %d, want 200", uri, got)
		}
	}
	a := r.Do(redfishtest.Call{Method: "GET", URI: metadataURI, Header: map[string]string{"Accept": "application/xml"}})
	if got := a.Header.Get("Content-Type"); got != protocol.XMLType {
		t.Errorf("$metadata: Content-Type %q, want %q", got, protocol.XMLType)
	}
	var doc struct {
		Reference []struct {
			Include []struct {
				Namespace string `xml:",attr"`
			}
		}
		DataServices struct {
			Schema struct {
				EntityContainer struct {
					Extends string `xml:",attr"`
				}
			}
		}
	}
	if err := xml.Unmarshal(a.Body, &doc); err != nil {
		t.Fatal(err)
	}
	included := map[string]bool{}
	for _, ref := range doc.Reference {
		for _, i := range ref.Include {
			included[i.Namespace] = true
		}
	}
	if got := doc.DataServices.Schema.EntityContainer.Extends; !included[strings.TrimSuffix(got, ".ServiceContainer")] {
		t.Errorf("$metadata: container %q is of no namespace referred to", got)
	}
}

// Every link that any resource has must lead somewhere, and what is there must
// be what $metadata and JsonSchemas list.
func TestEveryLinkResolves(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"oper","Password":"oper-pw"}`})
	seen := r.Walk("admin")
	for _, uri := range []string{resource.RootURI, resource.SystemURI, resource.SessionsURI + "/s0", resource.RegistriesURI + "/Redfish_1.8.0_PrivilegeRegistry", resource.JSONSchemasURI + "/Session.v1_8_0"} {
		if seen[uri] == nil {
			t.Errorf("no link leads to %s", uri)
		}
	}
	metadata := string(r.Do(redfishtest.Call{Method: "GET", URI: metadataURI}).Body)
	for uri, v := range seen {
		odataType := v["@odata.type"].(string)
		namespace := strings.TrimPrefix(odataType[:strings.LastIndexByte(odataType, '.')], "#")
		if !strings.Contains(metadata, `Namespace="`+namespace+`"`) {
			t.Errorf("%s: $metadata does not have %s", uri, namespace)
		}
		if seen[resource.JSONSchemasURI+"/"+namespace] == nil {
			t.Errorf("%s: JsonSchemas does not have %s", uri, namespace)
		}
	}
	// All of it fits into one answer.
	all := r.Want(redfishtest.Call{Method: "GET", URI: resource.RootURI + "?$expand=.($levels=6)", User: "admin"}, 200)
	if got := all.At("Systems", "Members"); !strings.Contains(fmt.Sprint(got), "PowerState") {
		t.Errorf("expanded root: no system in it: %.200s", all.Body)
	}
}

// The service root needs no login, but what $expand shows of the rest does.
func TestExpandedRoot(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
	const uri = resource.RootURI + "?$expand=."
	for _, c := range []struct {
		user string
		want any
	}{{"", nil}, {"nobody", nil}, {"reader", "Computer System Collection"}} {
		a := r.Want(redfishtest.Call{Method: "GET", URI: uri, User: c.user}, 200)
		if got := a.At("Systems", "Name"); got != c.want || a.At("Systems", "@odata.id") != resource.SystemsURI {
			t.Errorf("as %q: got %v, want %v", c.user, a.At("Systems"), c.want)
		}
	}
	r.Want(redfishtest.Call{Method: "GET", URI: uri, Header: map[string]string{"X-Auth-Token": "none"}}, 401, "AccessUnauthorized")
	r.Want(redfishtest.Call{Method: "GET", URI: resource.RootURI, Header: map[string]string{"X-Auth-Token": "none"}}, 200)
	r.Want(redfishtest.Call{Method: "GET", URI: odataURI + "?$select=value"}, 400, "QueryNotSupportedOnResource")
	r.Want(redfishtest.Call{Method: "GET", URI: "/redfish/v1/openapi.yaml", User: "reader"}, 404, "InvalidURI")
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("New without parts: no error")
	}
}

// One GET of a System has to stay far below 2 ms (the budget is the p99 over
// loopback). Allocations are those of client and server together.
func BenchmarkSystem(b *testing.B) {
	r := newRig(b, redfishtest.HostOptions{On: true})
	benchmark(b, r, resource.SystemURI)
}

// All of the service in one answer.
func BenchmarkTree(b *testing.B) {
	r := newRig(b, redfishtest.HostOptions{On: true})
	benchmark(b, r, resource.RootURI+"?$expand=.($levels=6)")
}

func benchmark(b *testing.B, r *rig, uri string) {
	_, token, err := r.auth.NewSession(r.auth.Users["admin"], authAttempt("admin"))
	if err != nil {
		b.Fatal(err)
	}
	client := r.Server.Client()
	var all []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequest("GET", r.Server.URL+uri, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("X-Auth-Token", token)
		start := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if resp.StatusCode != 200 {
			b.Fatal(resp.Status)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil { // else the connection cannot be used again
			b.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(start))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}
