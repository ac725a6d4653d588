package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// ids lists the Ids of an answer's members.
func ids(a redfishtest.Answer) (all []string) {
	members, _ := a.JSON["Members"].([]any)
	for _, m := range members {
		o := m.(map[string]any)
		uri := o["@odata.id"].(string)
		all = append(all, uri[strings.LastIndexByte(uri, '/')+1:])
	}
	return all
}

func TestCollectionQueries(t *testing.T) {
	r := newRig(t)
	filter := func(text string) string { return "?$filter=" + url.QueryEscape(text) }
	for _, c := range []struct {
		uri   string
		ids   string
		count float64
		next  string
	}{
		{resource.SystemsURI + "?$top=2", "a b", 3, resource.SystemsURI + "?$skip=2&$top=2"},
		{resource.SystemsURI + "?%24top=2&rubbish&other=%zz", "a b", 3, resource.SystemsURI + "?$skip=2&$top=2"},
		{resource.SystemsURI + "?$skip=2&$top=2", "c", 3, ""},
		{resource.SystemsURI + "?$skip=2", "c", 3, ""},
		{resource.SystemsURI + "?$skip=9", "", 3, ""},
		{resource.SystemsURI + "?$top=0", "", 3, ""},
		{resource.SystemsURI + "?$top=3", "a b c", 3, ""},
		{resource.SystemsURI + filter(`AssetTag eq 'two'`), "b", 1, ""},
		{resource.SystemsURI + filter(`MemorySummary/TotalSystemMemoryGiB ge 48`), "a b", 2, ""},
		{resource.SystemsURI + filter(`MemorySummary/TotalSystemMemoryGiB eq null`), "c", 1, ""},
		{resource.SystemsURI + filter(`Status/State eq 'Enabled'`) + "&$top=1", "a", 3, resource.SystemsURI + "?$skip=1&$top=1&" + filter(`Status/State eq 'Enabled'`)[1:]},
		{resource.SystemsURI + filter(`Status/State eq 'Disabled'`), "", 0, ""},
		{entriesURI + filter(`Severity eq 'Warning'`), "2 4", 2, ""},
		{entriesURI + filter(`Message eq 'it''s 3'`), "3", 1, ""},
		{entriesURI + filter(`Created gt 2023-11-14T22:14:20Z`) + "&$skip=1&$top=1", "4", 3, entriesURI + "?$skip=2&$top=1&" + filter(`Created gt 2023-11-14T22:14:20Z`)[1:]},
	} {
		a := r.Want(redfishtest.Call{Method: "GET", URI: c.uri, User: "reader"}, 200)
		next, _ := a.JSON["Members@odata.nextLink"].(string)
		if got := strings.Join(ids(a), " "); got != c.ids || a.JSON["Members@odata.count"] != c.count || next != c.next {
			t.Errorf("%s: got %q of %v and %q, want %q of %v and %q", c.uri, got, a.JSON["Members@odata.count"], next, c.ids, c.count, c.next)
		}
		if a.Header.Get("ETag") != "" {
			t.Errorf("%s: has an ETag", c.uri)
		}
	}
	// The links of the pages lead through all members.
	var all []string
	for uri := entriesURI + "?$top=2"; uri != ""; {
		a := r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
		all = append(all, ids(a)...)
		uri, _ = a.JSON["Members@odata.nextLink"].(string)
	}
	if want := []string{"1", "2", "3", "4", "5"}; !slices.Equal(all, want) {
		t.Errorf("pages: got %v, want %v", all, want)
	}
}

// A fragile resource can be encoded only if it is the first.
type fragile struct {
	resource.OData
	n int
}

func (f fragile) MarshalJSON() ([]byte, error) {
	if f.n > 0 {
		return nil, errors.New("not asked for")
	}
	return []byte(`{}`), nil
}

// Of a long log, a page costs no more than its entries.
func TestPageEncodesNothingElse(t *testing.T) {
	r := newRig(t)
	members := make([]fragile, 4096)
	for i := range members {
		members[i].n = i
	}
	ask, _, _ := parseQuery("$top=1")
	q := &resource.Request{Request: httptest.NewRequest("GET", entriesURI, nil)}
	a := r.service.shape(q, resource.OK(resource.NewFullCollection(entriesURI, "LogEntryCollection", "Entries", members)), ask)
	if a.Problems != nil || !strings.Contains(string(a.Document.Body), `"Members@odata.count":4096,"Members":[{}]`) {
		t.Errorf("got %+v", a)
	}
}

func TestOnly(t *testing.T) {
	r := newRig(t)
	get := func(uri string) redfishtest.Answer {
		t.Helper()
		return r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
	}
	if got, want := get(resource.SensorsURI+"?only"), get(resource.SensorsURI+"/cpu"); string(got.Body) != string(want.Body) || got.Header.Get("ETag") != want.Header.Get("ETag") {
		t.Errorf("one member: got %s, want %s", got.Body, want.Body)
	}
	if got, want := get(resource.SystemsURI+"?only"), get(resource.SystemsURI); string(got.Body) != string(want.Body) {
		t.Errorf("three members: got %s, want %s", got.Body, want.Body)
	}
	r.entries = 1
	if got := get(entriesURI + "?only").At("Message"); got != "it's 1" {
		t.Errorf("member in full: got %v", got)
	}
	r.entries = 0
	if got := get(entriesURI + "?only").At("Members@odata.count"); got != 0.0 {
		t.Errorf("no member: got %v", got)
	}
}

func TestBadQueries(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		method, uri string
		status      int
		keys        []string
	}{
		{"GET", resource.SystemsURI + "?$unknown=1", 501, []string{"QueryParameterUnsupported"}},
		{"GET", resource.SystemsURI + "?$Top=1&$x", 501, []string{"QueryParameterUnsupported", "QueryParameterUnsupported"}},
		{"GET", resource.SystemsURI + "?$unknown=1&$top=x", 501, []string{"QueryParameterUnsupported"}},
		{"GET", resource.SystemsURI + "?Only&TOP=1", 200, nil},
		{"GET", resource.SystemsURI + "?only=foo", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?only&$top=1", 400, []string{"QueryCombinationInvalid"}},
		{"GET", resource.SystemURI + "?only", 404, []string{"ResourceNotFound"}},
		{"GET", resource.SystemsURI + "/a?only", 400, []string{"QueryNotSupportedOnResource"}},
		{"GET", resource.SystemsURI + "/a?excerpt=foo", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "/a?$top=1", 400, []string{"QueryNotSupportedOnResource"}},
		{"GET", resource.SystemsURI + "/a?$skip=1", 400, []string{"QueryNotSupportedOnResource"}},
		{"GET", resource.SystemsURI + "/a?$filter=Id+eq+'a'", 400, []string{"QueryNotSupportedOnResource"}},
		{"GET", "/redfish?$select=v1", 400, []string{"QueryNotSupportedOnResource"}},
		{"GET", resource.SystemsURI + "?$top=-1", 400, []string{"QueryParameterOutOfRange"}},
		{"GET", resource.SystemsURI + "?$top=99999999999999999999", 400, []string{"QueryParameterOutOfRange"}},
		{"GET", resource.SystemsURI + "?$top=", 400, []string{"QueryParameterValueTypeError"}},
		{"GET", resource.SystemsURI + "?$top", 400, []string{"QueryParameterValueTypeError"}},
		{"GET", resource.SystemsURI + "?$top=%2b1", 400, []string{"QueryParameterValueTypeError"}},
		{"GET", resource.SystemsURI + "?$top=1&$top=2", 400, []string{"QueryParameterValueError"}},
		{"GET", resource.SystemsURI + "?$skip=1.5&$top=x", 400, []string{"QueryParameterValueTypeError", "QueryParameterValueTypeError"}},
		{"GET", resource.SystemsURI + "?$filter=%zz", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$filter=", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$filter=Id+eq+1", 400, []string{"QueryParameterValueTypeError"}},
		{"GET", resource.SystemsURI + "?$filter=contains(Id,'a')", 501, []string{"QueryParameterUnsupported"}},
		{"GET", resource.SystemsURI + "?$expand", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$expand=Members", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$expand=.($levels=1", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$expand=.($levels=)", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$expand=.($levels=0)", 400, []string{"QueryParameterOutOfRange"}},
		{"GET", resource.SystemsURI + "?$expand=.($levels=7)", 400, []string{"QueryParameterOutOfRange"}},
		{"GET", resource.SystemsURI + "?$select=", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$select=Name,,Id", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$select=" + strings.Repeat("Name,", maxSelected) + "Id", 400, []string{"QueryParameterValueFormatError"}},
		{"GET", resource.SystemsURI + "?$select=Status/", 400, []string{"QueryParameterValueFormatError"}},
		{"PATCH", resource.SystemsURI + "/a?$select=Name", 400, []string{"QueryNotSupportedOnOperation"}},
		{"POST", restartURI + "?$top=1", 400, []string{"QueryNotSupportedOnOperation"}},
		{"POST", restartURI + "?$unknown", 501, []string{"QueryParameterUnsupported"}},
		{"POST", restartURI + "?only&x=1", 204, nil},
		{"DELETE", resource.SystemsURI + "/gone?$expand=.", 400, []string{"QueryNotSupportedOnOperation"}},
		// Authentication goes before any of it.
		{"GET", resource.SystemsURI + "?$unknown=1", 401, []string{"AccessUnauthorized"}},
	} {
		user := "admin"
		if c.status == 401 {
			user = ""
		}
		r.Want(redfishtest.Call{Method: c.method, URI: c.uri, User: user}, c.status, c.keys...)
	}
}

func TestExpand(t *testing.T) {
	r := newRig(t)
	get := func(uri, user string) redfishtest.Answer {
		t.Helper()
		return r.Want(redfishtest.Call{Method: "GET", URI: uri, User: user}, 200)
	}
	at := func(v any, path ...any) any {
		for _, p := range path {
			switch p := p.(type) {
			case string:
				o, _ := v.(map[string]any)
				v = o[p]
			case int:
				list, _ := v.([]any)
				if p >= len(list) {
					return nil
				}
				v = list[p]
			}
		}
		return v
	}
	const a = resource.SystemsURI + "/a"
	for _, c := range []struct {
		uri, user string
		path      []any
		want      any // nil: it is not there
	}{
		{resource.SystemsURI + "?$expand=.", "reader", []any{"Members", 1, "AssetTag"}, "two"},
		{resource.SystemsURI + "?$expand=*", "reader", []any{"Members", 1, "AssetTag"}, "two"},
		{resource.SystemsURI + "?$expand=~", "reader", []any{"Members", 1, "AssetTag"}, nil},
		{resource.SystemsURI + "?$expand=.", "reader", []any{"Members", 1, "LogServices", "Name"}, nil},
		{resource.SystemsURI + "?$expand=.($levels=2)", "reader", []any{"Members", 1, "LogServices", "Name"}, "Logs"},
		{resource.SystemsURI + "?$expand=.&$top=1", "reader", []any{"Members", 1}, nil},
		{resource.SystemsURI + "?$expand=.&$top=1", "reader", []any{"Members@odata.count"}, 3.0},
		{resource.SystemsURI + "?$expand=.&$filter=AssetTag+eq+'two'", "reader", []any{"Members", 0, "Id"}, "b"},
		{a + "?$expand=.", "reader", []any{"LogServices", "Name"}, "Logs"},
		{a + "?$expand=.", "reader", []any{"Links", "Chassis", 0, "Name"}, nil},
		{a + "?$expand=~", "reader", []any{"Links", "Chassis", 0, "Name"}, "Chassis"},
		{a + "?$expand=~", "reader", []any{"LogServices", "Name"}, nil},
		{a + "?$expand=*", "reader", []any{"Links", "Chassis", 0, "Name"}, "Chassis"},
		{a + "?$expand=*($levels=2)", "reader", []any{"Links", "Chassis", 0, "Sensors", "Name"}, "Sensors"},
		// Back to itself, and on to another one.
		{a + "?$expand=*($levels=6)", "reader", []any{"Links", "Chassis", 0, "Links", "ComputerSystems", 0, "Name"}, nil},
		{a + "?$expand=*($levels=6)", "reader", []any{"Links", "Chassis", 0, "Links", "ComputerSystems", 0, "@odata.id"}, a},
		{a + "?$expand=*($levels=6)", "reader", []any{"Links", "Chassis", 0, "Links", "ComputerSystems", 1, "Name"}, "System b"},
		{a + "/?$expand=*($levels=6)", "reader", []any{"Links", "Chassis", 0, "Links", "ComputerSystems", 0, "Name"}, nil},
		// What the user may not read stays a link.
		{a + "?$expand=.", "reader", []any{"Certificates", "@odata.id"}, a + "/Certificates"},
		{a + "?$expand=.", "reader", []any{"Certificates", "Name"}, nil},
		{a + "?$expand=.", "oper", []any{"Certificates", "Name"}, "CertificateCollection"},
		// Members that stand there in full are a level themselves.
		{entriesURI + "?$expand=*", "reader", []any{"Members", 0, "Links", "OriginOfCondition", "Name"}, nil},
		{entriesURI + "?$expand=*($levels=2)", "reader", []any{"Members", 0, "Links", "OriginOfCondition", "Name"}, "System a"},
		// With $select, of the resources themselves.
		{resource.SystemsURI + "?$select=AssetTag&$expand=.", "reader", []any{"Members", 2, "AssetTag"}, "three"},
		{resource.SystemsURI + "?$select=AssetTag&$expand=.", "reader", []any{"Members", 2, "Name"}, nil},
		{resource.SystemsURI + "?$select=AssetTag&$expand=.", "reader", []any{"Members@odata.count"}, 3.0},
		{resource.SystemsURI + "?$select=Members/AssetTag&$expand=.", "reader", []any{"Members", 2, "AssetTag"}, "three"},
		{resource.SystemsURI + "?$select=Members/AssetTag&$expand=.", "reader", []any{"Members", 2, "Name"}, nil},
		{resource.SensorsURI + "?excerpt&$expand=.", "reader", []any{"Members", 0, "Reading"}, 41.5},
		{resource.SensorsURI + "?excerpt&$expand=.", "reader", []any{"Members", 0, "ReadingUnits"}, nil},
	} {
		answer := get(c.uri, c.user)
		if got := at(any(answer.JSON), c.path...); got != c.want {
			t.Errorf("%s as %s: %v: got %v, want %v", c.uri, c.user, c.path, got, c.want)
		}
		if answer.Header.Get("ETag") != "" {
			t.Errorf("%s: has an ETag", c.uri)
		}
	}
	// What stands in the answer is what GET shows.
	member, _ := at(any(get(resource.SystemsURI+"?$expand=.", "reader").JSON), "Members", 0).(map[string]any)
	if want := get(a, "reader").JSON; !reflect.DeepEqual(member, want) {
		t.Errorf("member: got %v, want %v", member, want)
	}
	// An answer that would be too long is refused (DSP0266: 507).
	r.entries = 6000
	r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemsURI + "?$expand=.($levels=5)", User: "reader"}, 507, "InsufficientStorage")
}

func TestSelect(t *testing.T) {
	r := newRig(t)
	const a = resource.SystemsURI + "/a"
	whole := r.Want(redfishtest.Call{Method: "GET", URI: a, User: "reader"}, 200)
	for _, c := range []struct{ uri, want string }{
		{a + "?$select=Name", `"Name":"System a"`},
		{a + "?$select=AssetTag,%20Status/State", `"AssetTag":"one","Status":{"State":"Enabled"}`},
		{a + "?$select=Status,Status/State", `"Status":{"State":"Enabled","Health":"OK"}`},
		{a + "?$select=Status/State,Status", `"Status":{"State":"Enabled","Health":"OK"}`},
		{a + "?$select=Status/State,Status/Health,Missing,Missing/Deep", `"Status":{"State":"Enabled","Health":"OK"}`},
		{a + "?$select=Boot/BootSourceOverrideTarget", `"Boot":{"BootSourceOverrideTarget":"Pxe","BootSourceOverrideTarget@Redfish.AllowableValues":["None","Pxe"]}`},
		{a + "?$select=LogServices", `"LogServices":{"@odata.id":"` + a + `/LogServices"}`},
		{resource.SystemsURI + "?$select=Name", `"Name":"Systems"`},
		{resource.SystemsURI + "?$select=Members@odata.count", `"Members@odata.count":3`},
		{resource.SensorsURI + "?$select=Members", `"Members@odata.count":1,"Members":[{"@odata.id":"` + resource.SensorsURI + `/cpu"}]`},
		{resource.SensorsURI + "/cpu?excerpt", `"Reading":41.5`},
		{resource.SensorsURI + "/cpu?excerpt&$select=Name", ``},
	} {
		answer := r.Want(redfishtest.Call{Method: "GET", URI: c.uri, User: "reader"}, 200)
		plain, _, _ := strings.Cut(c.uri, "?")
		full := r.Want(redfishtest.Call{Method: "GET", URI: plain, User: "reader"}, 200)
		want := fmt.Sprintf(`{"@odata.etag":%q,"@odata.id":%q,"@odata.type":%q`, full.Header.Get("ETag"), plain, full.JSON["@odata.type"])
		if c.want != "" {
			want += "," + c.want
		}
		if got := string(answer.Body); got != want+"}" {
			t.Errorf("%s:\n got %s\nwant %s}", c.uri, got, want)
		}
		if got := answer.Header.Get("ETag"); got != full.Header.Get("ETag") {
			t.Errorf("%s: ETag: got %s, want that of the whole resource", c.uri, got)
		}
	}
	// It serves for a change, and tells that there was none.
	tag := whole.Header.Get("ETag")
	r.Want(redfishtest.Call{Method: "GET", URI: a + "?$select=Name", User: "admin", Header: map[string]string{"If-None-Match": tag}}, 304)
	r.Want(redfishtest.Call{Method: "PATCH", URI: a, User: "admin", Body: `{"AssetTag":"x"}`, Header: map[string]string{"If-Match": tag}}, 200)
	// A resource without an excerpt is shown whole.
	now := r.Want(redfishtest.Call{Method: "GET", URI: a, User: "reader"}, 200)
	if got := r.Want(redfishtest.Call{Method: "GET", URI: a + "?excerpt", User: "reader"}, 200); string(got.Body) != string(now.Body) {
		t.Errorf("excerpt: got %s, want %s", got.Body, now.Body)
	}
	head := r.Want(redfishtest.Call{Method: "HEAD", URI: a + "?$select=Name", User: "reader"}, 200)
	if got := head.Header.Get("Content-Length"); got == "" {
		t.Error("HEAD with a query: no Content-Length")
	}
}

// FuzzQuery: whatever the query, there is a decision and no panic, and what a
// filter lets through is asked of JSON that may be anything.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		`$filter=Status/State+eq+'Enabled'+and+not+(Count+gt+2)`, `$top=1&$skip=2`, `only`, `excerpt&$select=A/B,C`, `$expand=*($levels=3)`,
		`$filter=Created+ge+2026-01-01T00:00:00Z+or+A+eq+null`, `%24top=%31`, `$filter=%27`, `$x=1`,
	} {
		f.Add(s, `{"A":null,"Count":3,"Status":{"State":"Enabled"},"Members":[{"@odata.id":"/x","@odata.type":"y"}]}`)
	}
	f.Fuzz(func(t *testing.T, raw, body string) {
		ask, unsupported, problems := parseQuery(raw)
		for _, m := range slices.Concat(unsupported, problems) {
			if m.Status != 400 && m.Status != 501 {
				t.Errorf("%q: status %d", raw, m.Status)
			}
		}
		if len(unsupported) > 0 || problems != nil || !json.Valid([]byte(body)) {
			return
		}
		var member map[string]any
		if ask.filter != nil && json.Unmarshal([]byte(body), &member) == nil {
			if _, err := ask.filter.holds(member); err != nil && err != errFilterType {
				t.Errorf("%q of %q: %v", raw, body, err)
			}
		}
		if e := ask.expand; e != nil && (e.levels < 1 || e.levels > MaxLevels || !e.links && !e.others) {
			t.Errorf("%q: %+v", raw, e)
		}
		o, err := resource.ParseObject([]byte(body))
		if err != nil || ask.selected == nil {
			return
		}
		data, err := resource.AppendJSON(nil, excerptOf(selectOf(o, ask.selected, ask.selected)))
		if err != nil || !json.Valid(data) || len(data) > 8*len(body)+8 {
			t.Errorf("%q of %q: %s, %v", raw, body, data, err)
		}
	})
}

// FuzzRequest: no request makes the service fail.
func FuzzRequest(f *testing.F) {
	for _, uri := range []string{resource.SystemsURI + "?$expand=*($levels=6)", aURI, entriesURI + "?$filter=Id+eq+'1'&$top=1", "/redfish//v1", restartURI, uploadURI, streamURI} {
		f.Add("GET", uri, "", "", "")
		f.Add("PATCH", uri, `{"AssetTag":"x","Status":{"State":null}}`, `"x", W/"y"`, "text/*;q=0")
	}
	r := newRig(f)
	close(r.hold)
	f.Fuzz(func(t *testing.T, method, uri, body, match, accept string) {
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			return
		}
		q := httptest.NewRequest("GET", "https://localhost/", strings.NewReader(body))
		q.Method, q.URL, q.RemoteAddr = method, u, "127.0.0.1:1"
		q.SetBasicAuth("admin", "admin-pw")
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("If-Match", match)
		q.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		r.service.ServeHTTP(w, q)
		if w.Code < 200 || w.Code >= 600 || w.Code == 500 {
			t.Errorf("%s %s: got %d", method, uri, w.Code)
		}
		if w.Code >= 400 && !json.Valid(w.Body.Bytes()) && method != "HEAD" && w.Header().Get("Location") == "" {
			t.Errorf("%s %s: %d with %s", method, uri, w.Code, w.Body)
		}
	})
}

// A log of 4096 entries: a page of it, a search in it, and all of it.
func BenchmarkLog(b *testing.B) {
	for _, query := range []string{"?$top=50", "?$filter=Severity+eq+'Critical'", "", "?$select=Members/Message"} {
		b.Run(query, func(b *testing.B) {
			r := newRig(b)
			r.entries = 4096
			b.ReportAllocs()
			for b.Loop() {
				q := httptest.NewRequest("GET", "https://localhost"+entriesURI+query, nil)
				q.RemoteAddr = "127.0.0.1:1"
				q.SetBasicAuth("reader", "reader-pw")
				w := httptest.NewRecorder()
				r.service.ServeHTTP(w, q)
				if w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
