//go:build e2e

package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stmcginnis/gofish/redfish"

	"github.com/nitrino/nitrino/redfish/redfishtest"
)

// A listener is a client's server, to which the board posts events.
type listener struct {
	t       *testing.T
	URL     string
	schemas redfishtest.SchemaSet

	mu     sync.Mutex
	refuse bool
	posts  []map[string]any
	secret []string // the header Authorization of each
}

func listen(t *testing.T) *listener {
	t.Helper()
	l := &listener{t: t, schemas: redfishtest.Schemas(t)}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	l.URL = server.URL + "/events"
	return l
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	var post map[string]any
	if err == nil {
		err = json.Unmarshal(text, &post)
	}
	if err != nil || r.Method != "POST" || r.URL.Path != "/events" {
		l.t.Errorf("%s %s: %v in %s", r.Method, r.URL, err, text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	kind, _ := post["@odata.type"].(string)
	if kind != "" {
		for _, problem := range l.schemas.Check(strings.TrimPrefix(kind[:strings.LastIndexByte(kind, '.')], "#"), "", any(post)) {
			l.t.Errorf("an event: %s\n%s", problem, text)
		}
	}
	l.posts, l.secret = append(l.posts, post), append(l.secret, r.Header.Get("Authorization"))
	w.WriteHeader(http.StatusNoContent)
}

func (l *listener) setRefuse(refuse bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = refuse
}

// events are the MessageIds without versions of all that came, in their order.
func (l *listener) events() (keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, post := range l.posts {
		keys = append(keys, eventKeys(post)...)
	}
	return keys
}

// eventKeys are those of one Event.
func eventKeys(event map[string]any) (keys []string) {
	list, _ := event["Events"].([]any)
	for _, each := range list {
		object, _ := each.(map[string]any)
		id, _ := object["MessageId"].(string)
		keys = append(keys, id[:strings.IndexByte(id+".", '.')]+id[strings.LastIndexByte("."+id, '.'):])
	}
	return keys
}

// await waits for an event, and returns how many there are of it.
func (l *listener) await(key string) int {
	l.t.Helper()
	n := 0
	eventually(l.t, "the event "+key, 20*time.Second, func() bool {
		n = 0
		for _, each := range l.events() {
			if strings.HasSuffix(each, key) {
				n++
			}
		}
		return n > 0
	})
	return n
}

// TestEventPush: events are posted to who subscribed, in their order, again where
// that failed, and also after a restart.
func TestEventPush(t *testing.T) {
	s := start(t, "-host", "fake", "-password", "push-test-1")
	l := listen(t)
	c := s.gofish(t, s.User, s.Password)
	service, err := c.Service.EventService()
	if err != nil {
		t.Fatal(err)
	}
	uri, err := service.CreateEventSubscriptionInstance(l.URL, nil, nil, nil,
		redfish.RedfishEventDestinationProtocol, "the cellar", redfish.RetryForeverDeliveryRetryPolicy, nil)
	if err != nil {
		t.Fatal(err)
	}
	// gofish has no list for it, as the schema has.
	s.admin().do(http.StatusOK, "PATCH", strings.TrimPrefix(uri, s.Redfish), `{"HttpHeaders": [{"Authorization": "Bearer of-the-listener"}]}`)
	if a := s.admin().get(strings.TrimPrefix(uri, s.Redfish)); strings.Contains(string(a.body), "of-the-listener") {
		t.Errorf("the subscription tells its secret: %s", a.body)
	}
	if err := service.TestEventSubscription(); err != nil {
		t.Fatal(err)
	}
	l.await("TestMessage")
	l.mu.Lock()
	if i := len(l.posts) - 1; l.posts[i]["Context"] != "the cellar" || l.secret[i] != "Bearer of-the-listener" {
		t.Errorf("Context %v, Authorization %q", l.posts[i]["Context"], l.secret[i])
	}
	l.mu.Unlock()

	// What fails is posted again; nothing is lost, and nothing comes twice.
	s.admin().do(http.StatusOK, "PATCH", "/redfish/v1/EventService", `{"DeliveryRetryIntervalSeconds": 1}`)
	l.setRefuse(true)
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	s.ipmitool("chassis", "power", "off").must(t)
	s.power("off")
	l.setRefuse(false)
	if n := l.await("PowerOff"); n != 1 {
		t.Errorf("PowerOff came %d times", n)
	}
	if keys := strings.Join(l.events(), " "); strings.Count(keys, "PowerOn") != 1 || strings.Index(keys, "PowerOn") > strings.Index(keys, "PowerOff") {
		t.Errorf("events: got %s, want PowerOn once, before PowerOff", keys)
	}

	s.stop()
	s.run()
	eventually(t, "the event of the restart", 20*time.Second, func() bool {
		return slices.ContainsFunc(l.events(), func(key string) bool { return strings.HasSuffix(key, "BmcStarted") })
	})
	admin := s.admin()
	admin.do(http.StatusNoContent, "DELETE", strings.TrimPrefix(uri, s.Redfish), "")
	before := len(l.events()) // and what was on its way
	admin.do(http.StatusNoContent, "POST", "/redfish/v1/EventService/Actions/EventService.TestEventSubscription", "{}")
	// Who is subscribed still gets it, and then the other would have it.
	other := listen(t)
	admin.do(http.StatusCreated, "POST", "/redfish/v1/EventService/Subscriptions", fmt.Sprintf(`{"Destination": %q, "Protocol": "Redfish", "MessageIds": ["ResourceEvent.1.4.TestMessage"]}`, other.URL))
	admin.do(http.StatusNoContent, "POST", "/redfish/v1/EventService/Actions/EventService.TestEventSubscription", "{}")
	other.await("TestMessage")
	if got := l.events()[before:]; slices.ContainsFunc(got, func(key string) bool { return strings.HasSuffix(key, "TestMessage") }) {
		t.Errorf("after the subscription's end: %v", got)
	}
}

// A stream is one of server-sent events.
type stream struct {
	t      *testing.T
	cancel context.CancelFunc
	lines  *bufio.Reader
	last   string // the id of the newest event
}

// stream opens one that goes on after an event; "" begins now.
func (c caller) stream(t *testing.T, filter, after string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	path := "/redfish/v1/EventService/SSE"
	if filter != "" {
		path += "?$filter=" + strings.ReplaceAll(filter, " ", "%20")
	}
	r := c.request("GET", path, nil).WithContext(ctx)
	r.Header.Set("Accept", "text/event-stream")
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	forever := *c.client
	forever.Timeout = 0
	resp, err := forever.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the stream: %v, %+v", err, resp)
	}
	t.Cleanup(func() { resp.Body.Close() }) // cancelled before
	return &stream{t, cancel, bufio.NewReader(resp.Body), ""}
}

// await reads until an event of that key came, and returns the keys on the way.
func (x *stream) await(key string) (keys []string) {
	x.t.Helper()
	limit := time.AfterFunc(20*time.Second, x.cancel)
	defer limit.Stop()
	for {
		line, err := x.lines.ReadString('\n')
		if err != nil {
			x.t.Fatalf("waiting for %s: %v after %v", key, err, keys)
		}
		if id, is := strings.CutPrefix(line, "id: "); is {
			x.last = strings.TrimSpace(id)
		}
		data, is := strings.CutPrefix(line, "data: ")
		if !is {
			continue
		}
		var event map[string]any
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			x.t.Fatalf("%v in %s", err, data)
		}
		keys = append(keys, eventKeys(event)...)
		if slices.ContainsFunc(keys, func(each string) bool { return strings.HasSuffix(each, key) }) {
			return keys
		}
	}
}

// ends reads until the board ends the stream.
func (x *stream) ends() {
	x.t.Helper()
	limit := time.AfterFunc(20*time.Second, x.cancel)
	if _, err := io.Copy(io.Discard, x.lines); err != nil || !limit.Stop() {
		x.t.Errorf("the stream does not end: %v", err)
	}
}

// TestEventStream: a stream shows what happens, goes on where it was left, and
// its subscription lives as long as it does.
func TestEventStream(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	const uri = "/redfish/v1/EventService/Subscriptions"
	const testURI = "/redfish/v1/EventService/Actions/EventService.TestEventSubscription"
	x := admin.stream(t, "", "")
	members := admin.get(uri).members()
	if len(members) != 1 {
		t.Fatalf("subscriptions: %v", members)
	}
	admin.do(http.StatusNoContent, "POST", testURI, "{}")
	x.await("TestMessage")
	x.cancel()
	eventually(t, "the subscription to end with its stream", 10*time.Second, func() bool { return len(admin.get(uri).members()) == 0 })

	// What happens while nobody reads is told afterwards.
	s.ipmitool("chassis", "power", "on").must(t)
	s.power("on")
	again := admin.stream(t, "", x.last)
	if got := strings.Join(again.await("PowerOn"), " "); strings.Contains(got, "TestMessage") {
		t.Errorf("what was read comes again: %s", got)
	}
	members = admin.get(uri).members()
	admin.do(http.StatusNoContent, "DELETE", members[0], "")
	again.ends()

	// A filter lets through what it names.
	only := admin.stream(t, "ResourceType eq 'AccountService'", "")
	admin.do(http.StatusNoContent, "POST", testURI, "{}")
	s.ipmitool("chassis", "power", "off").must(t)
	s.power("off")
	admin.do(http.StatusCreated, "POST", "/redfish/v1/AccountService/Accounts", `{"UserName": "bob", "Password": "the-secret-of-bob-1", "RoleId": "Operator"}`)
	if got := strings.Join(only.await("Created"), " "); strings.Contains(got, "TestMessage") || strings.Contains(got, "Power") {
		t.Errorf("the filter let through %s", got)
	}
	// A user who may no longer come in has no stream either.
	bob := s.as("bob", "the-secret-of-bob-1").stream(t, "", "")
	account := "/redfish/v1/AccountService/Accounts/" + accountID(admin, "bob")
	admin.do(http.StatusOK, "PATCH", account, `{"Enabled": false}`)
	bob.ends()
	for _, bad := range []string{"Colour eq 'red'", "ResourceType eq", "(ResourceType eq 'Manager'"} {
		r := admin.request("GET", "/redfish/v1/EventService/SSE?$filter="+strings.ReplaceAll(bad, " ", "%20"), nil)
		r.Header.Set("Accept", "text/event-stream")
		if a, err := admin.send(r); err != nil || a.status != http.StatusBadRequest {
			t.Errorf("the filter %s: got %d, %v, want 400", bad, a.status, err)
		}
	}
}
