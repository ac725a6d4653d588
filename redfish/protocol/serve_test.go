package protocol

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

const aURI = resource.SystemsURI + "/a"

func TestAllow(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ method, uri, want string }{
		{"GET", "/redfish", "GET, HEAD"},
		{"FAKE", "/redfish", "GET, HEAD"},
		{"OPTIONS", aURI, "GET, HEAD, PATCH, DELETE"},
		{"GET", aURI, "GET, HEAD, PATCH, DELETE"},
		{"HEAD", aURI, "GET, HEAD, PATCH, DELETE"},
		{"PUT", aURI, "GET, HEAD, PATCH, DELETE"},
		{"GET", restartURI, "POST"},
		{"GET", resource.SessionsURI, "GET, HEAD, POST"},
		{"DELETE", resource.SessionsURI + "/x", ""},
	} {
		if got := r.Do(redfishtest.Call{Method: c.method, URI: c.uri, User: "admin"}).Header.Get("Allow"); got != c.want {
			t.Errorf("%s %s: Allow: got %q, want %q", c.method, c.uri, got, c.want)
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name, uri, header, value string
		status                   int
		keys                     []string
	}{
		{"odata version", "/redfish", "OData-Version", "4.0", 200, nil},
		{"later odata version", "/redfish", "OData-Version", "4.1", 412, []string{"HeaderInvalid"}},
		{"json", aURI, "Accept", "application/json", 200, nil},
		{"json with charset", aURI, "Accept", "application/json;charset=utf-8", 200, nil},
		{"application range", aURI, "Accept", "application/*;charset=utf-8", 200, nil},
		{"anything", aURI, "Accept", "text/html, */*;q=0.1", 200, nil},
		{"empty", aURI, "Accept", "", 200, nil},
		{"html only", aURI, "Accept", "text/html", 406, []string{"HeaderInvalid"}},
		{"json refused", aURI, "Accept", "application/json;q=0, text/html", 406, []string{"HeaderInvalid"}},
		{"another form, as anything", xmlURI, "Accept", "application/json", 200, nil},
		{"stream", streamURI, "Accept", "application/json", 406, []string{"HeaderInvalid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.Want(redfishtest.Call{Method: "GET", URI: c.uri, User: "reader", Header: map[string]string{c.header: c.value}}, c.status, c.keys...)
		})
	}
	// Authentication goes before any other header (DSP0266).
	r.Want(redfishtest.Call{Method: "GET", URI: aURI + "?$top=1", Header: map[string]string{"OData-Version": "9"}}, 401, "AccessUnauthorized")
}

func TestBodies(t *testing.T) {
	r := newRig(t)
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	for _, c := range []struct {
		name, uri, contentType, body string
		status                       int
		keys                         []string
	}{
		{"charset", aURI, "application/json; charset=UTF-8", `{"AssetTag":"x"}`, 200, nil},
		{"form", aURI, "application/x-www-form-urlencoded", `{"AssetTag":"x"}`, 415, []string{"HeaderInvalid"}},
		{"plain text", restartURI, "text/plain", `{"ResetType":"On"}`, 415, []string{"HeaderInvalid"}},
		{"latin", aURI, "application/json; charset=latin1", `{}`, 415, []string{"HeaderInvalid"}},
		{"no type", aURI, "", `{}`, 415, []string{"HeaderInvalid"}},
		{"no json", aURI, "application/json", `{"AssetTag":"x"`, 400, []string{"MalformedJSON"}},
		{"two values", aURI, "application/json", `{} {}`, 400, []string{"MalformedJSON"}},
		{"no object", aURI, "application/json", `[1]`, 400, []string{"UnrecognizedRequestBody"}},
		{"not utf-8", aURI, "application/json", "{\"a\":\"\xff\"}", 400, []string{"MalformedJSON"}},
		{"too deep", aURI, "application/json", deep, 400, []string{"UnrecognizedRequestBody"}},
		{"duplicate", aURI, "application/json", `{"AssetTag":"x","AssetTag":"y"}`, 400, []string{"PropertyDuplicate"}},
		{"nested duplicate", aURI, "application/json", `{"Boot":{"a":1,"a":1}}`, 400, []string{"PropertyDuplicate"}},
		{"duplicate parameter", restartURI, "application/json", `{"ResetType":"On","ResetType":"ForceOff"}`, 400, []string{"ActionParameterDuplicate"}},
		{"too long", aURI, "application/json", `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, 413, []string{"PayloadTooLarge"}},
		{"long login", resource.SessionsURI, "application/json", `{"a":"` + strings.Repeat("x", maxOpenBody) + `"}`, 413, []string{"PayloadTooLarge"}},
		{"empty", aURI, "application/json", `{}`, 400, []string{"EmptyJSON"}},
		{"nothing", aURI, "application/json", ``, 400, []string{"EmptyJSON"}},
		{"annotations only", aURI, "application/json", `{"@odata.id":"/x","Name@Message.ExtendedInfo":[]}`, 400, []string{"NoOperation"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			method := "PATCH"
			if c.uri != aURI {
				method = "POST"
			}
			r.Want(redfishtest.Call{Method: method, URI: c.uri, User: "admin", Body: c.body, Header: map[string]string{"Content-Type": c.contentType}}, c.status, c.keys...)
		})
	}
	a := r.Do(redfishtest.Call{Method: "PATCH", URI: aURI, User: "admin", Body: `{"Boot":{"a":1,"a":1}}`})
	if got, want := a.Related(), []string{"#/Boot/a"}; !slices.Equal(got, want) {
		t.Errorf("RelatedProperties: got %v, want %v", got, want)
	}
}

func TestEntityTags(t *testing.T) {
	r := newRig(t)
	get := redfishtest.Call{Method: "GET", URI: aURI, User: "admin"}
	first := r.Do(get).Header.Get("ETag")
	if again := r.Do(get).Header.Get("ETag"); again != first {
		t.Fatalf("ETag changed by itself: %s, then %s", first, again)
	}
	if head := r.Do(redfishtest.Call{Method: "HEAD", URI: aURI, User: "admin"}).Header.Get("ETag"); head != first {
		t.Errorf("HEAD: ETag %s, want %s", head, first)
	}
	patch := func(name, value, tag string) redfishtest.Call {
		return redfishtest.Call{Method: "PATCH", URI: aURI, User: "admin", Body: `{"AssetTag":"` + tag + `"}`, Header: map[string]string{name: value}}
	}
	r.Want(patch("If-Match", `"other"`, "other"), 412, "PreconditionFailed")
	r.Want(patch("If-Match", `W/`+first, "other"), 412, "PreconditionFailed")
	r.Want(patch("If-None-Match", `*`, "other"), 412, "PreconditionFailed")
	if r.tags["a"] != "one" {
		t.Fatal("a refused PATCH had an effect")
	}
	second := r.Want(patch("If-Match", `"other", `+first, "other"), 200)
	if tag := second.Header.Get("ETag"); tag == first {
		t.Error("the ETag stayed over a change")
	} else if now := r.Do(get).Header.Get("ETag"); now != tag {
		t.Errorf("GET after PATCH: ETag %s, want %s", now, tag)
	}
	r.Want(patch("If-Match", first, "one"), 412, "PreconditionFailed")
	r.Want(patch("If-Match", "*", "one"), 200)
	if now := r.Do(get).Header.Get("ETag"); now != first {
		t.Errorf("same state, other ETag: %s, want %s", now, first)
	}

	for _, c := range []struct {
		name, header, value, uri string
		want                     int
	}{
		{"not changed", "If-None-Match", first, aURI, 304},
		{"not changed, of several", "If-None-Match", `"x", W/` + first, aURI, 304},
		{"changed", "If-None-Match", `"x"`, aURI, 200},
		{"if-match", "If-Match", first, aURI, 200},
		{"if-match fails", "If-Match", `"x"`, aURI, 412},
		{"fixed", "If-None-Match", "*", "/redfish", 304},
	} {
		a := r.Do(redfishtest.Call{Method: "GET", URI: c.uri, User: "admin", Header: map[string]string{c.header: c.value}})
		if a.Status != c.want {
			t.Errorf("%s: got %d, want %d", c.name, a.Status, c.want)
		}
		if c.want == 304 && a.Header.Get("ETag") == "" {
			t.Errorf("%s: no ETag", c.name)
		}
	}
	// What is no entity tag matches none.
	r.Want(patch("If-Match", first+"foobar", "other"), 412, "PreconditionFailed")
	r.Want(patch("If-Match", "", "other"), 412, "PreconditionFailed")
	// DELETE too is guarded.
	r.Want(redfishtest.Call{Method: "DELETE", URI: aURI, User: "oper", Header: map[string]string{"If-Match": `"x"`}}, 412, "PreconditionFailed")
	r.Want(redfishtest.Call{Method: "DELETE", URI: resource.SystemsURI + "/none", User: "oper", Header: map[string]string{"If-Match": `"x"`}}, 404, "ResourceNotFound")
}

// Nobody logs in without TLS, and no password is looked at.
func TestNoLoginWithoutTLS(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		method, uri, user, body string
		want                    int
	}{
		{"GET", "/redfish", "", "", 200},
		{"GET", aURI, "admin", "", 403},
		{"GET", aURI, "", "", 403},
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
	r := newRig(t)
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
		if got := r.Do(redfishtest.Call{Method: "GET", URI: aURI, Header: c.header}).Status; got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	r.auth.Err = errors.New("no memory for a hash")
	a := r.Want(redfishtest.Call{Method: "GET", URI: aURI, User: "admin"}, 503, "ServiceTemporarilyUnavailable")
	if got := a.Header.Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After: got %q, want 5", got)
	}
}

// A user who has to change the password can do that, and end the session.
func TestPasswordChangeRequired(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"admin", "reader"} {
		u := r.auth.Users[name]
		u.PasswordChangeRequired = true
		r.auth.Users[name] = u
	}
	own := resource.AccountURI(r.auth.Users["reader"])
	for _, c := range []struct {
		method, uri, user string
		status            int
		keys              []string
	}{
		{"GET", "/redfish", "reader", 200, nil},
		{"GET", resource.SystemsURI, "reader", 403, []string{"PasswordChangeRequired"}},
		{"GET", "/redfish/v1/Nothing", "reader", 403, []string{"PasswordChangeRequired"}},
		{"POST", restartURI, "admin", 403, []string{"PasswordChangeRequired"}},
		{"GET", streamURI, "admin", 403, []string{"PasswordChangeRequired"}},
		{"GET", own, "reader", 200, nil},
		{"GET", own + "/", "reader", 200, nil},
		{"HEAD", own, "reader", 200, nil},
		{"PATCH", own, "reader", 200, nil},
		{"DELETE", own, "reader", 403, []string{"PasswordChangeRequired"}},
		{"PATCH", own, "admin", 403, []string{"PasswordChangeRequired"}},
		{"GET", own, "admin", 403, []string{"PasswordChangeRequired"}},
		{"GET", resource.SessionsURI, "reader", 403, []string{"PasswordChangeRequired"}},
		{"POST", resource.SessionsURI, "", 204, nil},
		{"GET", resource.SystemsURI, "oper", 200, nil},
	} {
		r.Want(redfishtest.Call{Method: c.method, URI: c.uri, User: c.user}, c.status, c.keys...)
	}
	a := r.Do(redfishtest.Call{Method: "GET", URI: resource.SystemsURI, User: "reader"})
	if !strings.Contains(string(a.Body), own) {
		t.Errorf("the account's URI is missing: %s", a.Body)
	}
}

// A page of another origin cannot change anything with what the browser keeps,
// and nobody's page gets an Allow-Origin.
func TestForeignPages(t *testing.T) {
	r := newRig(t)
	here := "https://" + r.Server.Listener.Addr().String()
	for _, c := range []struct {
		method, uri string
		header      map[string]string
		want        int
	}{
		{"POST", uploadURI, nil, 202},
		{"POST", uploadURI, map[string]string{"Content-Type": "multipart/form-data; boundary=x", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", uploadURI, map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"POST", uploadURI, map[string]string{"Origin": "https://evil.example"}, 403},
		{"POST", uploadURI, map[string]string{"Origin": "null"}, 403},
		{"POST", uploadURI, map[string]string{"Origin": here}, 202},
		{"POST", uploadURI, map[string]string{"Origin": here, "Sec-Fetch-Site": "same-origin"}, 202},
		{"POST", restartURI, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"PATCH", aURI, map[string]string{"Origin": "https://evil.example"}, 403},
		{"DELETE", aURI, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"GET", streamURI, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"GET", aURI, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200},
		{"GET", aURI, map[string]string{"Origin": "https://evil.example"}, 200},
	} {
		a := r.Do(redfishtest.Call{Method: c.method, URI: c.uri, User: "admin", Body: "{}", Header: c.header})
		if a.Status != c.want || a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s %v: got %d and Allow-Origin %q, want %d and none", c.method, c.uri, c.header, a.Status, a.Header.Get("Access-Control-Allow-Origin"), c.want)
		}
	}
	// A preflight has no credentials.
	preflight := r.Do(redfishtest.Call{Method: "OPTIONS", URI: aURI, Header: map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "PATCH"}})
	if preflight.Status < 400 || preflight.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight: got %d, %v", preflight.Status, preflight.Header)
	}
}

// paceLimit is a server's limit of a request and an answer in tests.
const paceLimit = 200 * time.Millisecond

// Uploads and streams last longer than the server lets others; who stalls is
// cut off by the server's limits all the same.
func TestPace(t *testing.T) {
	r := newRig(t)
	server := httptest.NewUnstartedServer(r.service)
	server.Config.ReadTimeout, server.Config.WriteTimeout = paceLimit, paceLimit
	server.StartTLS()
	defer server.Close()
	post := func(uri, contentType string) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		body := &slowBody{left: 5, pause: paceLimit / 2}
		req, err := http.NewRequestWithContext(ctx, "POST", server.URL+uri, body)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", "admin-pw")
		req.Header.Set("Content-Type", contentType)
		resp, err := server.Client().Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return resp, err
	}
	resp, err := post(uploadURI, "application/octet-stream")
	if err != nil || resp.StatusCode != 202 || resp.Header.Get("Location") != "/redfish/v1/5" {
		t.Errorf("slow upload: got %+v, %v, want 202", resp, err)
	}
	if resp, err := post(restartURI, "application/json"); err == nil && resp.StatusCode < 400 {
		t.Errorf("slow JSON: got %s", resp.Status)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+streamURI+"?slow", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "admin-pw")
	if resp, err = server.Client().Do(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); !strings.Contains(string(data), "later") || err != nil {
		t.Errorf("slow stream: got %q, %v", data, err)
	}
}

// Who sends a byte now and then is cut off in the end, and who is only slow is
// not.
func TestCreepingUpload(t *testing.T) {
	for _, c := range []struct {
		chunk, chunks int
		pause         time.Duration
		ok            bool
	}{
		{1, 100, 50 * time.Second, false},
		{100 << 10, 100, 50 * time.Second, true},
		{1, 10, time.Second, true},
		{1, 2, 61 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			var sender sync.WaitGroup
			defer sender.Wait()
			sender.Go(func() {
				for range c.chunks {
					time.Sleep(c.pause)
					if _, err := far.Write(make([]byte, c.chunk)); err != nil {
						return // cut off
					}
				}
			})
			began := time.Now()
			body := struct {
				io.Reader
				io.Closer
			}{io.LimitReader(near, int64(c.chunk*c.chunks)), near}
			n, err := io.Copy(io.Discard, PacedBody(body, http.NewResponseController(deadlines{near})))
			near.Close()
			if ok := err == nil && n == int64(c.chunk*c.chunks); ok != c.ok || !ok && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%+v: got %d bytes, %v, after %v", c, n, err, time.Since(began))
			}
			if took := time.Since(began); !c.ok && took > 2*idle {
				t.Errorf("%+v: it took %v", c, took)
			}
		})
	}
}

// deadlines is a writer of a connection that has deadlines.
type deadlines struct{ net.Conn }

func (deadlines) Header() http.Header { return nil }
func (deadlines) WriteHeader(int)     {}

// A client that takes its time to read long answers does not fill the memory,
// and keeps nobody from what is short.
func TestLongAnswers(t *testing.T) {
	r := newRig(t)
	r.entries = 1000
	get := func(uri string) *stuckWriter {
		w := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), wrote: make(chan struct{}), free: make(chan struct{})}
		req := httptest.NewRequestWithContext(t.Context(), "GET", "https://x"+uri, nil)
		req.RemoteAddr = "127.0.0.1:9"
		req.SetBasicAuth("reader", "reader-pw")
		w.done.Go(func() { r.service.ServeHTTP(w, req) })
		return w
	}
	var slow []*stuckWriter
	for i := range maxLong + 4 {
		w := get(entriesURI)
		<-w.wrote
		want := 200
		if i >= maxLong {
			want = 503
		}
		if w.Code != want || (w.Header().Get("ETag") != "") != (want == 200) {
			t.Errorf("long answer %d: got %d, want %d; %v", i, w.Code, want, w.Header())
		}
		slow = append(slow, w)
	}
	for _, uri := range []string{entriesURI + "?$top=2", entriesURI + "?$expand=.&$top=1", aURI, "/redfish"} {
		w := get(uri)
		<-w.wrote
		if w.Code != 200 {
			t.Errorf("%s: got %d, want 200", uri, w.Code)
		}
		slow = append(slow, w)
	}
	for _, w := range slow {
		close(w.free)
		w.done.Wait()
	}
	if len(r.service.long) != 0 || len(r.service.shown) != 0 || len(r.service.expands) != 0 {
		t.Error("places are left taken")
	}
}

// A stuckWriter is a client that takes nothing until it is freed.
type stuckWriter struct {
	*httptest.ResponseRecorder
	wrote, free chan struct{}
	done        sync.WaitGroup
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	close(w.wrote)
	<-w.free
	return len(p), nil
}

// slowBody is that many bytes, with a pause before each.
type slowBody struct {
	left  int
	pause time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(b.pause)
	b.left--
	p[0] = ' '
	return 1, nil
}

func TestStream(t *testing.T) {
	r := newRig(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.Server.URL+streamURI+"?$filter=Severity%20eq%20x&$other", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("reader", "reader-pw")
	req.Header.Set("Accept", "text/event-stream;charset=utf-8")
	resp, err := r.Server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if got, want := line, ": Severity eq x\n"; got != want || err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("got %q, %v, %v, want %q", got, err, resp.Header, want)
	}
	r.Want(redfishtest.Call{Method: "HEAD", URI: streamURI, User: "reader"}, 200)
}

func TestChanged(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		call   redfishtest.Call
		status int
		want   string
	}{
		{redfishtest.Call{Method: "PATCH", URI: aURI + "/", Body: `{"AssetTag":"x"}`}, 200, "ResourceChanged " + aURI + " #" + testSystemType},
		{redfishtest.Call{Method: "PATCH", URI: aURI, Body: `{"Bogus":"x"}`}, 400, ""},
		{redfishtest.Call{Method: "PATCH", URI: aURI, Body: `{"AssetTag":"y","Bogus":"x"}`}, 200, "ResourceChanged " + aURI + " #" + testSystemType},
		{redfishtest.Call{Method: "POST", URI: resource.SystemsURI, Body: `{"AssetTag":"x"}`}, 201, "ResourceCreated " + resource.SystemsURI + "/new #" + testSystemType},
		{redfishtest.Call{Method: "POST", URI: resource.SystemsURI + "/Members", Body: `{"AssetTag":"x"}`}, 201, "ResourceCreated " + resource.SystemsURI + "/new #" + testSystemType},
		{redfishtest.Call{Method: "POST", URI: restartURI, Body: `{"ResetType":"On"}`}, 204, ""},
		{redfishtest.Call{Method: "GET", URI: aURI}, 200, ""},
		{redfishtest.Call{Method: "DELETE", URI: aURI}, 204, "ResourceRemoved " + aURI + " #" + testSystemType},
	} {
		r.changes = nil
		c.call.User = "admin"
		if got := r.Do(c.call).Status; got != c.status {
			t.Errorf("%s %s: got %d, want %d", c.call.Method, c.call.URI, got, c.status)
		}
		if got := strings.Join(r.changes, ","); got != c.want {
			t.Errorf("%s %s: told %q, want %q", c.call.Method, c.call.URI, got, c.want)
		}
	}
}

// A change that waits for a wire makes only those of the same resource wait.
func TestSlowChange(t *testing.T) {
	r := newRig(t)
	patch := func(id, tag string) int {
		return r.Do(redfishtest.Call{Method: "PATCH", URI: resource.SystemsURI + "/" + id, User: "admin", Body: `{"AssetTag":"` + tag + `"}`, Header: map[string]string{"If-Match": "*"}}).Status
	}
	done := make(chan int, 2)
	for range 2 {
		go func() { done <- patch("c", "slow") }()
	}
	for r.service.changes.waiting(resource.SystemsURI+"/c") != 2 {
		time.Sleep(time.Millisecond)
	}
	if got := patch("a", "quick"); got != 200 {
		t.Errorf("another resource: got %d", got)
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemsURI + "/c", User: "admin"}, 200)
	for range 2 {
		r.hold <- struct{}{}
		if got := <-done; got != 200 {
			t.Errorf("the slow ones: got %d", got)
		}
	}
	if n := len(r.service.changes.held); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

// waiting counts who has the lock or waits for it.
func (l *locks) waiting(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.held[name]; one != nil {
		return one.users
	}
	return 0
}
