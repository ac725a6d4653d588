package event

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// users are redfishtest's, which may change.
type users struct {
	*redfishtest.Auth
	mu      sync.Mutex
	all     map[string]auth.User
	changed chan struct{}
}

func (u *users) User(name string) (auth.User, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	found, is := u.all[name]
	return found, is
}

func (u *users) Changed() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.changed
}

func (u *users) change(f func(map[string]auth.User)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f(u.all)
	close(u.changed)
	u.changed = make(chan struct{})
}

// bench is a service with all that it needs.
type bench struct {
	*redfishtest.Rig
	t       testing.TB
	service *Service
	events  *host.Events
	users   *users
	store   *store.Store
	stop    func() // ends Run
}

func newStore(t testing.TB) *store.Store {
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

func newBench(t testing.TB, db *store.Store) *bench {
	t.Helper()
	events, err := host.OpenEvents(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return newBenchOf(t, db, events)
}

func newBenchOf(t testing.TB, db *store.Store, events *host.Events) *bench {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	var err error
	login := redfishtest.NewAuth()
	b := &bench{t: t, events: events, store: db, users: &users{Auth: login, all: map[string]auth.User{}, changed: make(chan struct{})}}
	for name, u := range login.Users {
		b.users.all[name] = u
	}
	b.service, err = New(Options{Events: events, Store: db, Users: b.users, Log: log, MetricReports: true,
		Origin: func(e host.Event) string {
			switch {
			case e.Sensor != nil:
				return resource.SensorsURI + "/" + e.Sensor.Name
			case strings.HasPrefix(e.Kind, "subscription."):
				return resource.EventServiceURI
			}
			return resource.SystemURI
		},
		LogEntry: func(e host.Event) string {
			return fmt.Sprintf("%s/Event/Entries/%d", resource.ManagerLogServicesURI, e.ID)
		}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := protocol.New(protocol.Options{Auth: login, Routes: b.service.Routes(), Log: log, Changed: b.service.Changed})
	if err != nil {
		t.Fatal(err)
	}
	b.Rig = redfishtest.New(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.service.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	// As host.Events.Run does at the end of a service's life.
	wg.Go(func() {
		if err := events.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("events: %v", err)
		}
	})
	b.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(b.stop)
	return b
}

func (b *bench) log(kind string) host.Event {
	return b.events.Add(host.Event{Kind: kind, Message: "It is " + kind + "."})
}

// subscribe makes a subscription with more properties, and returns its URI.
func (b *bench) subscribe(destination, more string) string {
	b.t.Helper()
	a := b.Want(redfishtest.Call{Method: "POST", URI: resource.SubscriptionsURI, User: "admin",
		Body: `{"Protocol":"Redfish","Destination":"` + destination + `"` + more + `}`}, 201)
	return a.Header.Get("Location")
}

// event is what tests look at of a payload.
type event struct {
	Type    string `json:"@odata.type"`
	ID      string `json:"Id"`
	Context string
	Events  []struct {
		MemberId, EventId, EventType, MessageId, Message, MessageSeverity, Username string
		OriginOfCondition, LogEntry                                                 map[string]string
	}
}

// keys are those of the MessageIds.
func (e event) keys() (keys []string) {
	for _, r := range e.Events {
		_, key := splitID(r.MessageId)
		keys = append(keys, key)
	}
	return keys
}

func (b *bench) parse(body []byte) (e event) {
	b.t.Helper()
	var any map[string]any
	if err := errors.Join(json.Unmarshal(body, &e), json.Unmarshal(body, &any)); err != nil {
		b.t.Fatalf("%v in %s", err, body)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(e.Type, "#"), ".")
	schema := strings.TrimPrefix(e.Type[:strings.LastIndexByte(e.Type, '.')], "#")
	if problems := b.Schemas.Check(schema, "", any); name == "Event" && problems != nil {
		b.t.Errorf("%v\n%s", problems, body)
	}
	return e
}

// A sink is a destination.
type sink struct {
	*httptest.Server
	mu       sync.Mutex
	status   int
	requests []*http.Request
	bodies   chan []byte
}

func newSink(t testing.TB, secure bool) *sink {
	s := &sink{status: 204, bodies: make(chan []byte, 1000)}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.requests = append(s.requests, r)
		status := s.status
		s.mu.Unlock()
		w.WriteHeader(status)
		s.bodies <- body
	})
	if secure {
		s.Server = httptest.NewTLSServer(h)
	} else {
		s.Server = httptest.NewServer(h)
	}
	t.Cleanup(s.Close)
	return s
}

func (s *sink) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// await reads payloads until one has a message of that key, and returns all
// keys on the way.
func (b *bench) await(s *sink, key string) (keys []string) {
	b.t.Helper()
	for {
		select {
		case body := <-s.bodies:
			for _, k := range b.parse(body).keys() {
				if keys = append(keys, k); k == key {
					return keys
				}
			}
		case <-time.After(20 * time.Second):
			b.t.Fatalf("no %s; there came %v", key, keys)
		}
	}
}

// A feed is a stream that a client reads.
type feed struct {
	b    *bench
	resp *http.Response
	read *bufio.Reader
	end  func()
}

func (b *bench) open(c *http.Client, base, user, query string, header map[string]string) *feed {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", base+streamURI+query, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if req.Header.Get("X-Auth-Token") == "" {
		req.SetBasicAuth(user, user+"-pw")
	}
	resp, err := c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	f := &feed{b, resp, bufio.NewReader(resp.Body), sync.OnceFunc(func() {
		cancel()
		if err := resp.Body.Close(); err != nil {
			b.t.Error(err)
		}
	})}
	b.t.Cleanup(f.end)
	return f
}

// stream opens a stream over the rig's server.
func (b *bench) stream(query string) *feed {
	return b.open(b.Server.Client(), b.Server.URL, "admin", query, nil)
}

// next reads the next event and its id; io.EOF at the end.
func (f *feed) next() (id string, e event, err error) {
	for {
		line, err := f.read.ReadString('\n')
		if err != nil {
			return "", event{}, err
		}
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
		case "id":
			id = value
		case "data":
			e = f.b.parse([]byte(value))
		case "":
			if id != "" {
				return id, e, nil
			}
		}
	}
}

// await reads until a message of that key came; it returns all keys and the last
// id.
func (f *feed) await(key string) (keys []string, id string) {
	f.b.t.Helper()
	watch := time.AfterFunc(20*time.Second, f.end)
	defer watch.Stop()
	for {
		id, e, err := f.next()
		if err != nil {
			f.b.t.Fatalf("no %s: %v; there came %v", key, err, keys)
		}
		for _, k := range e.keys() {
			if keys = append(keys, k); k == key {
				return keys, id
			}
		}
	}
}

// ends waits until the service ends the stream.
func (f *feed) ends() {
	f.b.t.Helper()
	watch := time.AfterFunc(20*time.Second, f.end)
	defer watch.Stop()
	for {
		if _, _, err := f.next(); err != nil {
			if !errors.Is(err, io.EOF) {
				f.b.t.Errorf("the stream ended with %v, want EOF", err)
			}
			return
		}
	}
}

// members lists the subscriptions.
func (b *bench) members() (uris []string) {
	b.t.Helper()
	list, _ := b.Want(redfishtest.Call{Method: "GET", URI: resource.SubscriptionsURI, User: "reader"}, 200).JSON["Members"].([]any)
	for _, m := range list {
		uris = append(uris, m.(map[string]any)["@odata.id"].(string))
	}
	return uris
}

// eventually waits for something that happens by itself.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 2000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not in time: %s", what)
}
