package redfishtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/redfish/message"
)

// A Rig is a service behind TLS on loopback, and a client of it whose users
// have the passwords that Auth's have.
type Rig struct {
	t       testing.TB
	Server  *httptest.Server
	Schemas SchemaSet
}

// New serves h.
func New(t testing.TB, h http.Handler) *Rig {
	t.Helper()
	r := &Rig{t: t, Server: httptest.NewTLSServer(h), Schemas: Schemas(t)}
	t.Cleanup(r.Server.Close)
	return r
}

// An Answer is a response whose general form has been checked.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	JSON   map[string]any // nil: no JSON object
}

// A Call is a request. User "" sends no credentials.
type Call struct {
	Method, URI, User, Body string
	Header                  map[string]string
}

// Do sends a request and checks what holds for every answer (DSP0266, Response
// headers), its payload's schema included.
func (r *Rig) Do(c Call) Answer {
	r.t.Helper()
	req, err := http.NewRequest(c.Method, r.Server.URL+c.URI, strings.NewReader(c.Body))
	if err != nil {
		r.t.Fatal(err)
	}
	if c.User != "" {
		req.SetBasicAuth(c.User, c.User+"-pw")
	}
	if c.Body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range c.Header {
		req.Header.Set(k, v)
	}
	resp, err := r.Server.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := resp.Body.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	if a.Body, err = io.ReadAll(resp.Body); err != nil {
		r.t.Fatal(err)
	}
	if bytes.HasPrefix(a.Body, []byte("{")) {
		if err := json.Unmarshal(a.Body, &a.JSON); err != nil {
			r.t.Fatalf("%s %s: %v in %s", c.Method, c.URI, err, a.Body)
		}
	}
	for _, problem := range r.check(c, a) {
		r.t.Errorf("%s %s (%d): %s\n%s", c.Method, c.URI, a.Status, problem, a.Body)
	}
	return a
}

func (r *Rig) check(c Call, a Answer) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for name, want := range map[string]string{"OData-Version": "4.0", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Set-Cookie": ""} {
		if got := a.Header.Get(name); got != want {
			bad("header %s: got %q, want %q", name, got, want)
		}
	}
	reading := c.Method == "GET" || c.Method == "HEAD"
	if (reading && a.Status < 300 || a.Status == 405) && a.Header.Get("Allow") == "" {
		bad("no header Allow")
	}
	if (a.Status == 401) != (a.Header.Get("WWW-Authenticate") != "") {
		bad("WWW-Authenticate: %q", a.Header.Get("WWW-Authenticate"))
	}
	if c.Method == "HEAD" || a.Status == 204 || a.Status == 304 {
		if len(a.Body) > 0 {
			bad("has a body")
		}
		return problems
	}
	if a.Status == 202 && len(a.Body) == 0 {
		return problems
	}
	if got := a.Header.Get("Content-Type"); got != "application/json;charset=utf-8" && !strings.HasPrefix(c.URI, "/redfish/v1/$metadata") {
		bad("Content-Type %q", got)
	}
	if a.Status >= 400 {
		return append(problems, r.Schemas.Check("redfish-error.v1_0_2", "", a.JSON)...)
	}
	// Only a resource as it is has an entity tag in any case, and all properties
	// that its schema requires, and no more.
	_, params, shaped := strings.Cut(c.URI, "?")
	if reading && !shaped && a.Header.Get("ETag") == "" {
		bad("no ETag")
	}
	odataType, _ := a.JSON["@odata.type"].(string)
	if odataType == "" || a.JSON["@odata.id"] == nil { // a document
		return problems
	}
	schema := strings.TrimPrefix(odataType[:strings.LastIndexByte(odataType, '.')], "#")
	folder := "schemas/v1/"
	if strings.HasPrefix(schema, "Volume") || strings.HasPrefix(schema, "StoragePool") { // SNIA's
		folder = "schemas/swordfish/v1/"
	}
	if got, want := a.Header.Get("Link"), "<http://redfish.dmtf.org/"+folder+schema+".json>; rel=describedby"; got != want {
		bad("Link: got %q, want %q", got, want)
	}
	if got, want := a.JSON["@odata.etag"], a.Header.Get("ETag"); got != want && !(shaped && want == "") || !shaped && (len(want) < 3 || want[0] != '"') {
		bad("ETag: %q in the body, %q in the header", got, want)
	}
	if strings.Contains(params, "expand") || strings.Contains(params, "select") || strings.Contains(params, "excerpt") {
		return problems
	}
	return append(problems, r.Schemas.Check(schema, "", a.JSON)...)
}

// Messages lists the keys of the answer's messages.
func (a Answer) Messages() (keys []string) {
	list, _ := a.JSON["@Message.ExtendedInfo"].([]any)
	if e, isError := a.JSON["error"].(map[string]any); isError {
		list, _ = e["@Message.ExtendedInfo"].([]any)
	}
	for _, m := range list {
		id, _ := m.(map[string]any)["MessageId"].(string)
		keys = append(keys, strings.TrimPrefix(id, message.BaseRegistry))
	}
	return keys
}

// Related lists the RelatedProperties of all messages.
func (a Answer) Related() (pointers []string) {
	list, _ := a.JSON["@Message.ExtendedInfo"].([]any)
	if e, isError := a.JSON["error"].(map[string]any); isError {
		list, _ = e["@Message.ExtendedInfo"].([]any)
	}
	for _, m := range list {
		each, _ := m.(map[string]any)["RelatedProperties"].([]any)
		for _, p := range each {
			pointers = append(pointers, p.(string))
		}
	}
	return pointers
}

// At walks into the answer's JSON.
func (a Answer) At(path ...string) any {
	var v any = a.JSON
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// Want checks the status and the messages.
func (r *Rig) Want(c Call, status int, keys ...string) Answer {
	r.t.Helper()
	a := r.Do(c)
	if a.Status != status || !slices.Equal(a.Messages(), keys) {
		r.t.Errorf("%s %s as %q %s: got %d %v, want %d %v", c.Method, c.URI, c.User, message.Clip(c.Body), a.Status, a.Messages(), status, keys)
	}
	return a
}

// Walk follows all links from the service root as a user, and returns the
// resources by URI. Each must be there, and be where it says that it is.
func (r *Rig) Walk(user string) map[string]map[string]any {
	r.t.Helper()
	seen := map[string]map[string]any{}
	var visit func(uri string)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, each := range v {
				uri, isString := each.(string)
				if isString && (name == "@odata.id" || name == "@Redfish.ActionInfo" || name == "Members@odata.nextLink") && !strings.Contains(uri, "#") {
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
	visit = func(uri string) {
		if seen[uri] != nil {
			return
		}
		a := r.Do(Call{Method: "GET", URI: uri, User: user})
		if plain, _, _ := strings.Cut(uri, "?"); a.Status != 200 || a.At("@odata.id") != plain {
			r.t.Errorf("GET %s: got %d and @odata.id %v", uri, a.Status, a.At("@odata.id"))
			return
		}
		seen[uri] = a.JSON
		walk(any(a.JSON))
	}
	visit("/redfish/v1/")
	return seen
}
