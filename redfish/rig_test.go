package redfish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// fakeAuth is an Auth whose passwords are the user's name with "-pw" and whose
// clock a test sets.
type fakeAuth struct {
	mu       sync.Mutex
	users    map[string]auth.User
	sessions map[string]auth.Session // by token
	timeout  time.Duration
	now      time.Time
	tries    int
	err      error // of Password, if set
	saveErr  error // of SetSessionTimeout, if set
}

func newFakeAuth() *fakeAuth {
	a := &fakeAuth{users: map[string]auth.User{}, sessions: map[string]auth.Session{}, timeout: 30 * time.Minute, now: time.Unix(1_700_000_000, 0)}
	for name, role := range map[string]auth.Role{"admin": auth.Administrator, "oper": auth.Operator, "reader": auth.ReadOnly, "nobody": "Guest"} {
		a.users[name] = auth.User{Name: name, Role: role, Enabled: true}
	}
	return a
}

func (a *fakeAuth) Password(_ context.Context, t auth.Attempt, password string) (auth.User, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tries++
	if a.err != nil {
		return auth.User{}, a.err
	}
	if t.Via != Via || !t.Source.IsLoopback() {
		return auth.User{}, fmt.Errorf("attempt %+v", t)
	}
	u, found := a.users[t.Name]
	if !found || password != t.Name+"-pw" {
		return auth.User{}, fmt.Errorf("fake: %w", auth.ErrDenied)
	}
	return u, nil
}

func (a *fakeAuth) NewSession(u auth.User, t auth.Attempt) (auth.Session, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token := fmt.Sprintf("token%d", len(a.sessions))
	s := auth.Session{ID: fmt.Sprintf("s%d", len(a.sessions)), User: u.Name, Role: u.Role, Source: t.Source, Via: t.Via, Created: a.now, LastUsed: a.now}
	a.sessions[token] = s
	return s, token, nil
}

func (a *fakeAuth) live(s auth.Session) bool { return a.now.Sub(s.LastUsed) <= a.timeout }

func (a *fakeAuth) Session(token string) (auth.Session, auth.User, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, found := a.sessions[token]
	if !found || !a.live(s) {
		return auth.Session{}, auth.User{}, false
	}
	s.LastUsed = a.now
	a.sessions[token] = s
	return s, a.users[s.User], true
}

func (a *fakeAuth) SessionByID(id string) (auth.Session, bool) {
	for _, s := range a.Sessions() {
		if s.ID == id {
			return s, true
		}
	}
	return auth.Session{}, false
}

func (a *fakeAuth) Sessions() []auth.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []auth.Session
	for _, s := range a.sessions {
		if a.live(s) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(x, y auth.Session) int { return strings.Compare(x.ID, y.ID) })
	return all
}

func (a *fakeAuth) EndSession(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for token, s := range a.sessions {
		if s.ID == id && a.live(s) {
			s.LastUsed = time.Time{}
			a.sessions[token] = s
			return true
		}
	}
	return false
}

func (a *fakeAuth) SessionTimeout() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timeout
}

func (a *fakeAuth) SetSessionTimeout(d time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.saveErr != nil {
		return a.saveErr
	}
	a.timeout = d
	return nil
}

func (a *fakeAuth) pass(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(d)
}

// fakeLine is an output; press, if set, is called when it goes active.
type fakeLine struct {
	mu      sync.Mutex
	active  bool
	presses int
	press   func()
	err     error
}

func (l *fakeLine) Set(active bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if active && !l.active {
		l.presses++
		if l.press != nil {
			l.press()
		}
	}
	l.active = active
	return nil
}

func (l *fakeLine) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *fakeLine) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.presses
}

// fakeSense is an input that a test sets.
type fakeSense struct {
	mu      sync.Mutex
	level   bool
	changed chan struct{}
}

func newFakeSense(level bool) *fakeSense {
	return &fakeSense{level: level, changed: make(chan struct{})}
}

func (s *fakeSense) set(level bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.level = level
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *fakeSense) Level() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.level, nil
}

func (s *fakeSense) Watch(ctx context.Context, changed func(bool)) error {
	for {
		s.mu.Lock()
		level, wake := s.level, s.changed
		s.mu.Unlock()
		changed(level)
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fakeSelector is a BootSelector that takes everything, or err.
type fakeSelector struct {
	mu  sync.Mutex
	err error
}

func (s *fakeSelector) Targets() []host.BootTarget {
	return []host.BootTarget{host.BootPXE, host.BootDisk, host.BootUEFIHTTP}
}

func (s *fakeSelector) SelectBoot(context.Context, host.BootTarget, host.BootMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// A rig is a service on a host of fake wires, behind TLS on loopback.
type rig struct {
	t        testing.TB
	host     *host.Host
	auth     *fakeAuth
	service  *Service
	server   *httptest.Server
	led      *fakeSense
	button   *fakeLine
	light    *fakeLine
	selector *fakeSelector
	policies []host.RestorePolicy // saved; only read when no request runs
	schemas  schemaSet
}

// newRig wires everything; the host is on if on is true. bare leaves out all
// wires but the reset button. The host runs, unless stopped.
type rigOptions struct{ on, bare, stopped bool }

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, auth: newFakeAuth(), led: newFakeSense(o.on), button: &fakeLine{}, light: &fakeLine{}, selector: &fakeSelector{}, schemas: loadSchemas(t)}
	r.button.press = func() {
		if on, _ := r.led.Level(); !on { // it never fails
			r.led.set(true)
		}
	}
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	events, err := host.OpenEvents(db, log)
	if err != nil {
		t.Fatal(err)
	}
	parts := host.Parts{PowerButton: r.button, ResetButton: &fakeLine{}, IDLight: r.light, PowerLED: r.led, Boot: r.selector}
	if o.bare {
		parts = host.Parts{ResetButton: &fakeLine{}}
	}
	cfg := host.DefaultPowerConfig()
	cfg.PowerPulse, cfg.ResetPulse, cfg.Debounce = 10*time.Millisecond, 10*time.Millisecond, 0
	cfg.Restore = host.AlwaysOff
	r.host, err = host.New(parts, host.Options{Store: db, Events: events, Log: log, Power: cfg,
		SaveRestorePolicy: func(p host.RestorePolicy, from host.Origin) error {
			if from.Via != Via || from.User == "" || from.Source != "127.0.0.1" {
				return fmt.Errorf("origin %+v", from)
			}
			r.policies = append(r.policies, p)
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if !o.stopped {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- r.host.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		if !o.bare {
			want := host.StateOff
			if o.on {
				want = host.StateOn
			}
			r.await(want)
		}
	}
	r.service, err = New(Options{Host: r.host, Auth: r.auth, Log: log, Product: "nitrino", Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewTLSServer(r.service)
	t.Cleanup(r.server.Close)
	return r
}

// await waits for a power state.
func (r *rig) await(want host.PowerState) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		now := r.host.Power.Status()
		if now.State == want {
			return
		}
		if err := r.host.Power.Wait(ctx, now); err != nil {
			r.t.Fatalf("state %s, want %s: %v", now.State, want, err)
		}
	}
}

// An answer is a response whose general form has been checked.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any // nil: no JSON object
}

// A call is a request. user "" sends no credentials.
type call struct {
	method, uri, user, body string
	header                  map[string]string
}

// do sends a request and checks what holds for every answer (DSP0266, Response
// headers), its payload's schema included.
func (r *rig) do(c call) answer {
	r.t.Helper()
	req, err := http.NewRequest(c.method, r.server.URL+c.uri, strings.NewReader(c.body))
	if err != nil {
		r.t.Fatal(err)
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.user+"-pw")
	}
	if c.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := resp.Body.Close(); err != nil {
			r.t.Error(err)
		}
	}()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		r.t.Fatal(err)
	}
	if bytes.HasPrefix(a.body, []byte("{")) {
		if err := json.Unmarshal(a.body, &a.json); err != nil {
			r.t.Fatalf("%s %s: %v in %s", c.method, c.uri, err, a.body)
		}
	}
	for _, problem := range r.check(c, a) {
		r.t.Errorf("%s %s (%d): %s\n%s", c.method, c.uri, a.status, problem, a.body)
	}
	return a
}

func (r *rig) check(c call, a answer) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for name, want := range map[string]string{"OData-Version": "4.0", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Set-Cookie": ""} {
		if got := a.header.Get(name); got != want {
			bad("header %s: got %q, want %q", name, got, want)
		}
	}
	reading := c.method == "GET" || c.method == "HEAD"
	if (reading && a.status < 300 || a.status == 405) && a.header.Get("Allow") == "" {
		bad("no header Allow")
	}
	if (a.status == 401) != (a.header.Get("WWW-Authenticate") != "") {
		bad("WWW-Authenticate: %q", a.header.Get("WWW-Authenticate"))
	}
	if c.method == "HEAD" || a.status == 204 || a.status == 304 {
		if len(a.body) > 0 {
			bad("has a body")
		}
		return problems
	}
	if got := a.header.Get("Content-Type"); got != jsonType && !strings.HasPrefix(c.uri, metadataURI) {
		bad("Content-Type %q", got)
	}
	if a.status >= 400 {
		return append(problems, r.schemas.check("redfish-error.v1_0_2", "", a.json)...)
	}
	if reading && a.header.Get("ETag") == "" {
		bad("no ETag")
	}
	odataType, isResource := a.json["@odata.type"].(string)
	if !isResource {
		return problems
	}
	schema := strings.TrimPrefix(odataType[:strings.LastIndexByte(odataType, '.')], "#")
	if got, want := a.header.Get("Link"), "<http://redfish.dmtf.org/schemas/v1/"+schema+".json>; rel=describedby"; got != want {
		bad("Link: got %q, want %q", got, want)
	}
	if got, want := a.json["@odata.etag"], a.header.Get("ETag"); got != want || len(want) < 3 || want[0] != '"' {
		bad("ETag: %q in the body, %q in the header", got, want)
	}
	return append(problems, r.schemas.check(schema, "", a.json)...)
}

// messages lists the keys of the answer's messages.
func (a answer) messages() (keys []string) {
	list, _ := a.json["@Message.ExtendedInfo"].([]any)
	if e, isError := a.json["error"].(map[string]any); isError {
		list, _ = e["@Message.ExtendedInfo"].([]any)
	}
	for _, m := range list {
		id, _ := m.(map[string]any)["MessageId"].(string)
		keys = append(keys, strings.TrimPrefix(id, baseRegistry))
	}
	return keys
}

// related lists the RelatedProperties of all messages.
func (a answer) related() (pointers []string) {
	list, _ := a.json["@Message.ExtendedInfo"].([]any)
	if e, isError := a.json["error"].(map[string]any); isError {
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

// at walks into the answer's JSON.
func (a answer) at(path ...string) any {
	var v any = a.json
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// want checks the status and the messages.
func (r *rig) want(c call, status int, keys ...string) answer {
	r.t.Helper()
	a := r.do(c)
	if a.status != status || !slices.Equal(a.messages(), keys) {
		r.t.Errorf("%s %s as %q %s: got %d %v, want %d %v", c.method, c.uri, c.user, clip(c.body), a.status, a.messages(), status, keys)
	}
	return a
}
