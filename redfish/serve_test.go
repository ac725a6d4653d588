package redfish

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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
		{"/redfish/v1/", "FAKEMETHOD", "", [5]int{405, 405, 405, 405, 405}},
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

func TestAllow(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
	for _, c := range []struct{ method, uri, want string }{
		{"GET", resource.RootURI, "GET, HEAD"},
		{"GET", resource.SystemURI, "GET, HEAD, PATCH"},
		{"HEAD", resource.SystemURI, "GET, HEAD, PATCH"},
		{"PUT", resource.SystemURI, "GET, HEAD, PATCH"},
		{"GET", resetURI, "POST"},
		{"GET", resource.SessionsURI, "GET, HEAD, POST"},
		{"DELETE", resource.SessionsURI + "/x", ""},
	} {
		if got := r.Do(redfishtest.Call{Method: c.method, URI: c.uri, User: "admin"}).Header.Get("Allow"); got != c.want {
			t.Errorf("%s %s: Allow: got %q, want %q", c.method, c.uri, got, c.want)
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
		{[]string{"ProtocolFeaturesSupported", "OnlyMemberQuery"}, false},
		{[]string{"ProtocolFeaturesSupported", "ExpandQuery", "ExpandAll"}, false},
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
	// Whatever a resource says it is must be among the references.
	r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"oper","Password":"oper-pw"}`})
	for _, uri := range []string{resource.RootURI, resource.SystemsURI, resource.SystemURI, resource.SessionServiceURI, resource.SessionsURI, resource.SessionsURI + "/s0"} {
		odataType, _ := r.Do(redfishtest.Call{Method: "GET", URI: uri, User: "admin"}).At("@odata.type").(string)
		namespace := strings.TrimPrefix(odataType[:strings.LastIndexByte(odataType, '.')], "#")
		if !included[namespace] {
			t.Errorf("$metadata: no reference to %s of %s", namespace, uri)
		}
	}
	if got := doc.DataServices.Schema.EntityContainer.Extends; !included[strings.TrimSuffix(got, ".ServiceContainer")] {
		t.Errorf("$metadata: container %q is of no namespace referred to", got)
	}
}

// Every link that any resource has must lead somewhere.
func TestEveryLinkResolves(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"oper","Password":"oper-pw"}`})
	seen := map[string]bool{}
	var walk func(v any)
	visit := func(uri string) {
		if seen[uri] {
			return
		}
		seen[uri] = true
		a := r.Do(redfishtest.Call{Method: "GET", URI: uri, User: "admin"})
		if a.Status != 200 || a.At("@odata.id") != uri {
			t.Errorf("GET %s: got %d and @odata.id %v", uri, a.Status, a.At("@odata.id"))
		}
		walk(any(a.JSON))
	}
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, each := range v {
				if uri, isString := each.(string); isString && name == "@odata.id" {
					visit(uri)
				}
				walk(each)
			}
		case []any:
			for _, each := range v {
				walk(each)
			}
		}
	}
	visit(resource.RootURI)
	if len(seen) != 6 {
		t.Errorf("got %d resources %v, want 6", len(seen), seen)
	}
}

func TestRequestHeaders(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
	for _, c := range []struct {
		name, uri, header, value string
		status                   int
		keys                     []string
	}{
		{"odata version", resource.RootURI, "OData-Version", "4.0", 200, nil},
		{"later odata version", resource.RootURI, "OData-Version", "4.1", 412, []string{"HeaderInvalid"}},
		{"json", resource.SystemURI, "Accept", "application/json", 200, nil},
		{"json with charset", resource.SystemURI, "Accept", "application/json;charset=utf-8", 200, nil},
		{"application range", resource.SystemURI, "Accept", "application/*;charset=utf-8", 200, nil},
		{"anything", resource.SystemURI, "Accept", "text/html, */*;q=0.1", 200, nil},
		{"empty", resource.SystemURI, "Accept", "", 200, nil},
		{"html only", resource.SystemURI, "Accept", "text/html", 406, []string{"HeaderInvalid"}},
		{"json refused", resource.SystemURI, "Accept", "application/json;q=0, text/html", 406, []string{"HeaderInvalid"}},
		{"metadata as anything", metadataURI, "Accept", "application/json", 200, nil},
		{"odd query", resource.SystemURI + "?rubbish=1&only", "X-Test", "1", 200, nil},
		{"expand", resource.SystemURI + "?$expand=.", "X-Test", "1", 501, []string{"QueryParameterUnsupported"}},
		{"two queries", resource.SystemURI + "?%24top=1&$skip", "X-Test", "1", 501, []string{"QueryParameterUnsupported", "QueryParameterUnsupported"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.Want(redfishtest.Call{Method: "GET", URI: c.uri, User: "reader", Header: map[string]string{c.header: c.value}}, c.status, c.keys...)
		})
	}
	// Authentication goes before any other header (DSP0266).
	r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemURI + "?$top=1", Header: map[string]string{"OData-Version": "9"}}, 401, "AccessUnauthorized")
}

func TestBodies(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for _, c := range []struct {
		name, uri, contentType, body string
		status                       int
		keys                         []string
	}{
		{"charset", resource.SystemURI, "application/json; charset=UTF-8", `{"LocationIndicatorActive":true}`, 200, nil},
		{"form", resource.SystemURI, "application/x-www-form-urlencoded", `{"LocationIndicatorActive":true}`, 415, []string{"HeaderInvalid"}},
		{"plain text", resetURI, "text/plain", `{"ResetType":"On"}`, 415, []string{"HeaderInvalid"}},
		{"latin", resource.SystemURI, "application/json; charset=latin1", `{}`, 415, []string{"HeaderInvalid"}},
		{"no type", resource.SystemURI, "", `{}`, 415, []string{"HeaderInvalid"}},
		{"no json", resource.SystemURI, "application/json", `{"LocationIndicatorActive":true`, 400, []string{"MalformedJSON"}},
		{"two values", resource.SystemURI, "application/json", `{} {}`, 400, []string{"MalformedJSON"}},
		{"no object", resource.SystemURI, "application/json", `[1]`, 400, []string{"UnrecognizedRequestBody"}},
		{"not utf-8", resource.SystemURI, "application/json", "{\"a\":\"\xff\"}", 400, []string{"MalformedJSON"}},
		{"too deep", resource.SystemURI, "application/json", deep, 400, []string{"UnrecognizedRequestBody"}},
		{"duplicate", resource.SystemURI, "application/json", `{"LocationIndicatorActive":true,"LocationIndicatorActive":false}`, 400, []string{"PropertyDuplicate"}},
		{"nested duplicate", resource.SystemURI, "application/json", `{"Boot":{"a":1,"a":1}}`, 400, []string{"PropertyDuplicate"}},
		{"duplicate parameter", resetURI, "application/json", `{"ResetType":"On","ResetType":"ForceOff"}`, 400, []string{"ActionParameterDuplicate"}},
		{"too long", resource.SystemURI, "application/json", `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, 413, []string{"PayloadTooLarge"}},
		{"empty", resource.SystemURI, "application/json", `{}`, 400, []string{"EmptyJSON"}},
		{"nothing", resource.SystemURI, "application/json", ``, 400, []string{"EmptyJSON"}},
		{"annotations only", resource.SystemURI, "application/json", `{"@odata.id":"/x","Name@Message.ExtendedInfo":[]}`, 400, []string{"NoOperation"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			method := "PATCH"
			if c.uri == resetURI {
				method = "POST"
			}
			r.Want(redfishtest.Call{Method: method, URI: c.uri, User: "admin", Body: c.body, Header: map[string]string{"Content-Type": c.contentType}}, c.status, c.keys...)
		})
	}
	a := r.Do(redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "admin", Body: `{"Boot":{"a":1,"a":1}}`})
	if got, want := a.Related(), []string{"#/Boot/a"}; !slices.Equal(got, want) {
		t.Errorf("RelatedProperties: got %v, want %v", got, want)
	}
}

func TestEntityTags(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{On: true})
	get := redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "admin"}
	first := r.Do(get).Header.Get("ETag")
	if again := r.Do(get).Header.Get("ETag"); again != first {
		t.Fatalf("ETag changed by itself: %s, then %s", first, again)
	}
	if head := r.Do(redfishtest.Call{Method: "HEAD", URI: resource.SystemURI, User: "admin"}).Header.Get("ETag"); head != first {
		t.Errorf("HEAD: ETag %s, want %s", head, first)
	}
	patch := func(name, value, on string) redfishtest.Call {
		return redfishtest.Call{Method: "PATCH", URI: resource.SystemURI, User: "admin", Body: `{"LocationIndicatorActive":` + on + `}`, Header: map[string]string{name: value}}
	}
	r.Want(patch("If-Match", `"other"`, "true"), 412, "PreconditionFailed")
	r.Want(patch("If-Match", `W/`+first, "true"), 412, "PreconditionFailed")
	r.Want(patch("If-None-Match", `*`, "true"), 412, "PreconditionFailed")
	if r.host.Identify.On() {
		t.Fatal("a refused PATCH had an effect")
	}
	second := r.Want(patch("If-Match", `"other", `+first, "true"), 200)
	if tag := second.Header.Get("ETag"); tag == first {
		t.Error("the ETag stayed over a change")
	} else if now := r.Do(get).Header.Get("ETag"); now != tag {
		t.Errorf("GET after PATCH: ETag %s, want %s", now, tag)
	}
	r.Want(patch("If-Match", first, "false"), 412, "PreconditionFailed")
	r.Want(patch("If-Match", "*", "false"), 200)
	if now := r.Do(get).Header.Get("ETag"); now != first {
		t.Errorf("same state, other ETag: %s, want %s", now, first)
	}

	for _, c := range []struct {
		name, header, value, uri string
		want                     int
	}{
		{"not changed", "If-None-Match", first, resource.SystemURI, 304},
		{"not changed, of several", "If-None-Match", `"x", W/` + first, resource.SystemURI, 304},
		{"changed", "If-None-Match", `"x"`, resource.SystemURI, 200},
		{"if-match", "If-Match", first, resource.SystemURI, 200},
		{"if-match fails", "If-Match", `"x"`, resource.SystemURI, 412},
		{"fixed", "If-None-Match", "*", resource.RootURI, 304},
	} {
		a := r.Do(redfishtest.Call{Method: "GET", URI: c.uri, User: "admin", Header: map[string]string{c.header: c.value}})
		if a.Status != c.want {
			t.Errorf("%s: got %d, want %d", c.name, a.Status, c.want)
		}
		if c.want == 304 && a.Header.Get("ETag") == "" {
			t.Errorf("%s: no ETag", c.name)
		}
	}
	// DELETE too is guarded.
	r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"oper","Password":"oper-pw"}`})
	r.Want(redfishtest.Call{Method: "DELETE", URI: resource.SessionsURI + "/s0", User: "oper", Header: map[string]string{"If-Match": `"x"`}}, 412, "PreconditionFailed")
	r.Want(redfishtest.Call{Method: "DELETE", URI: resource.SessionsURI + "/none", User: "oper", Header: map[string]string{"If-Match": `"x"`}}, 404, "ResourceNotFound")
}

// Nobody logs in without TLS, and no password is looked at.
func TestNoLoginWithoutTLS(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
	for _, c := range []struct {
		method, uri, user, body string
		want                    int
	}{
		{"GET", resource.RootURI, "", "", 200},
		{"GET", resource.SystemURI, "admin", "", 403},
		{"GET", resource.SystemURI, "", "", 403},
		{"POST", resource.SessionsURI, "", `{"UserName":"admin","Password":"admin-pw"}`, 403},
	} {
		req := httptest.NewRequest(c.method, c.uri, strings.NewReader(c.body))
		req.Header.Set("Content-Type", "application/json")
		if c.user != "" {
			req.SetBasicAuth(c.user, c.user+"-pw")
		}
		req.TLS = nil
		w := httptest.NewRecorder()
		r.Server.Config.Handler.ServeHTTP(w, req)
		if w.Code != c.want {
			t.Errorf("%s %s as %q: got %d, want %d", c.method, c.uri, c.user, w.Code, c.want)
		}
	}
	if r.auth.Tries != 0 || len(r.auth.Open) != 0 {
		t.Errorf("got %d tries and %d sessions, want none", r.auth.Tries, len(r.auth.Open))
	}
}

func TestCredentials(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
	for _, c := range []struct {
		name   string
		header map[string]string
		want   int
	}{
		{"unknown token", map[string]string{"X-Auth-Token": "x"}, 401},
		{"no basic", map[string]string{"Authorization": "Basic !!"}, 401},
		{"bearer", map[string]string{"Authorization": "Bearer x"}, 401},
		{"wrong password", map[string]string{"Authorization": "Basic YWRtaW46eA=="}, 401},
		{"unknown user", map[string]string{"Authorization": "Basic eDp4"}, 401},
		{"bad token before good password", map[string]string{"X-Auth-Token": "x", "Authorization": "Basic YWRtaW46YWRtaW4tcHc="}, 401},
		{"good", map[string]string{"Authorization": "Basic YWRtaW46YWRtaW4tcHc="}, 200},
		{"cookie", map[string]string{"Cookie": "X-Auth-Token=token0"}, 401},
	} {
		if got := r.Do(redfishtest.Call{Method: "GET", URI: resource.SystemURI, Header: c.header}).Status; got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	r.auth.Err = errors.New("no memory for a hash")
	a := r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemURI, User: "admin"}, 503, "ServiceTemporarilyUnavailable")
	if got := a.Header.Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After: got %q, want 5", got)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("New without parts: no error")
	}
}

// One GET of a System has to stay far below 2 ms (the budget is the p99 over
// loopback).
func BenchmarkGetSystem(b *testing.B) {
	r := newRig(b, redfishtest.HostOptions{On: true})
	_, token, err := r.auth.NewSession(r.auth.Users["admin"], authAttempt("admin"))
	if err != nil {
		b.Fatal(err)
	}
	client := r.Server.Client()
	var worst []time.Duration
	for b.Loop() {
		req, err := http.NewRequest("GET", r.Server.URL+resource.SystemURI, nil)
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
		worst = append(worst, time.Since(start))
	}
	slices.Sort(worst)
	b.ReportMetric(float64(worst[len(worst)*99/100].Microseconds()), "p99-µs")
}
