package bmc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/board/sim"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/supervise"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A caller is a client of Redfish with admin's password, or with a token.
type caller struct {
	t     *testing.T
	at    string
	token string
	*http.Client
}

func newCaller(t *testing.T, at string) *caller {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return &caller{t, at, "", &http.Client{Transport: tr, Timeout: 20 * time.Second}}
}

// do sends a request as admin.
func (c *caller) do(method, uri, body string) (resp *http.Response, text []byte, err error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, "https://"+c.at+uri, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("X-Auth-Token", c.token)
	} else {
		req.SetBasicAuth("admin", "secret")
	}
	if resp, err = c.Do(req); err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp, text, err
}

// want sends a request and checks the status.
func (c *caller) want(method, uri, body string, status int) map[string]any {
	c.t.Helper()
	resp, text, err := c.do(method, uri, body)
	fail(c.t, err)
	if resp.StatusCode != status {
		c.t.Fatalf("%s %s: got %d, want %d: %s", method, uri, resp.StatusCode, status, text)
	}
	var answer map[string]any
	if len(text) > 0 {
		fail(c.t, json.Unmarshal(text, &answer))
	}
	return answer
}

// TestRedfishReset: an action ends Run with ErrReset, with all that ran for it,
// open streams too, and another run of the same folder is as good.
func TestRedfishReset(t *testing.T) {
	dir := t.TempDir()
	before := runtime.NumGoroutine()
	for i, body := range []string{`{"ResetType":"ForceRestart"}`, `{}`} {
		func() {
			b, err := Open(options(dir))
			fail(t, err)
			_, err = b.Login(filepath.Join(dir, "login.json"), "secret")
			fail(t, err)
			machine, err := sim.NewFake(sim.DefaultFake(), slog.New(slog.DiscardHandler))
			fail(t, err)
			parts, err := machine.Parts(sim.Wires())
			fail(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ready, ended := make(chan Addresses, 1), make(chan error, 1)
			go func() {
				ended <- b.Run(ctx, Run{Parts: parts, Address: "127.0.0.1", Ready: func(a Addresses) { ready <- a }})
			}()
			c := newCaller(t, (<-ready).HTTPS)
			defer c.CloseIdleConnections()
			stream, err := http.NewRequestWithContext(ctx, "GET", "https://"+c.at+"/redfish/v1/EventService/SSE", nil)
			fail(t, err)
			stream.SetBasicAuth("admin", "secret")
			resp, err := c.Transport.RoundTrip(stream)
			fail(t, err)
			defer resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("stream: %s", resp.Status)
			}
			c.want("POST", resource.SystemURI+"/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`, 204)
			c.want("POST", resource.ManagerURI+"/Actions/Manager.Reset", body, 204)
			if err := <-ended; !errors.Is(err, ErrReset) {
				t.Errorf("run %d: got %v, want %v", i, err, ErrReset)
			}
			fail(t, b.Close(), machine.Close(context.Background()))
		}()
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before+2 }) // of net/http's own
}

// TestRedfishDefaults: what the action asks for is done by the next Open.
func TestRedfishDefaults(t *testing.T) {
	for scope, stays := range map[string]bool{"ResetAll": false, "PreserveNetworkAndUsers": true} {
		dir := t.TempDir()
		b, err := Open(options(dir))
		fail(t, err)
		_, err = b.Login(filepath.Join(dir, "login.json"), "secret")
		fail(t, err)
		ready, ended := make(chan Addresses, 1), make(chan error, 1)
		go func() {
			ended <- b.Run(t.Context(), Run{Address: "127.0.0.1", Ready: func(a Addresses) { ready <- a }})
		}()
		c := newCaller(t, (<-ready).HTTPS)
		c.want("POST", resource.AccountsURI, `{"UserName":"bob","Password":"bobs password","RoleId":"Operator"}`, 201)
		c.want("PATCH", resource.NetworkProtocolURI, `{"IPMI":{"ProtocolEnabled":false}}`, 200)
		c.want("POST", resource.ManagerURI+"/Actions/Manager.ResetToDefaults", `{}`, 400)
		c.want("POST", resource.ManagerURI+"/Actions/Manager.ResetToDefaults", `{"ResetType":"`+scope+`"}`, 204)
		if err := <-ended; !errors.Is(err, ErrReset) {
			t.Errorf("%s: got %v, want %v", scope, err, ErrReset)
		}
		fail(t, b.Close())
		b, err = Open(options(dir))
		fail(t, err)
		if _, found := b.Users.User("bob"); found != stays {
			t.Errorf("%s: bob is there: %t, want %t", scope, found, stays)
		}
		if !b.Settings.Get().IPMI.Enabled {
			t.Errorf("%s: a setting was not reset", scope)
		}
		if !slices.ContainsFunc(b.Events.Since(0, 0), func(e host.Event) bool { return e.Kind == "bmc.defaults" && e.Origin.User == "admin" }) {
			t.Errorf("%s: no event says who asked", scope)
		}
		fail(t, b.Close())
	}
}

// TestRedfishSwitchesServices: HTTPS can be switched off by itself as long as SSH
// is there, and answers before it goes.
func TestRedfishSwitchesServices(t *testing.T) {
	r := start(t, t.TempDir())
	c := newCaller(t, r.at.HTTPS)
	c.want("PATCH", resource.NetworkProtocolURI, `{"SSH":{"ProtocolEnabled":false}}`, 200)
	eventually(t, "the end of SSH", func() bool { return !listens(r.at.SSH) })
	c.want("PATCH", resource.NetworkProtocolURI, `{"HTTPS":{"ProtocolEnabled":false}}`, 400)
	c.want("PATCH", resource.NetworkProtocolURI, `{"SSH":{"ProtocolEnabled":true},"IPMI":{"ProtocolEnabled":false}}`, 200)
	account := c.want("GET", resource.AccountsURI+"/admin", "", 200)
	if types, _ := account["AccountTypes"].([]any); slices.Contains(types, any("IPMI")) || !slices.Contains(types, any("HostConsole")) {
		t.Errorf("AccountTypes: got %v, want those of SSH and none of IPMI", types)
	}
	c.want("PATCH", resource.NetworkProtocolURI, `{"HTTPS":{"ProtocolEnabled":false}}`, 200)
	eventually(t, "the end of HTTPS", func() bool { return !listens(r.at.HTTPS) })
}

// TestRedfishOwnPassword: a new password ends the sessions of the old one, whoever
// began them, and those of nobody else.
func TestRedfishOwnPassword(t *testing.T) {
	r := start(t, t.TempDir())
	c := newCaller(t, r.at.HTTPS)
	login := func(name, password string) *caller {
		t.Helper()
		resp, text, err := c.do("POST", resource.SessionsURI, `{"UserName":"`+name+`","Password":"`+password+`"}`)
		fail(t, err)
		if resp.StatusCode != 201 {
			t.Fatalf("login of %s: %s: %s", name, resp.Status, text)
		}
		other := newCaller(t, r.at.HTTPS)
		other.token = resp.Header.Get("X-Auth-Token")
		return other
	}
	c.want("POST", resource.AccountsURI, `{"UserName":"bob","Password":"bobs password","RoleId":"ReadOnly"}`, 201)
	bob, again, admin := login("bob", "bobs password"), login("bob", "bobs password"), login("admin", "secret")
	const uri = resource.AccountsURI + "/bob"
	bob.want("PATCH", uri, `{"RoleId":"Administrator"}`, 403)
	bob.want("PATCH", uri, `{"Password":"bobs new password"}`, 200)
	bob.want("GET", uri, "", 401)
	again.want("GET", uri, "", 401)
	admin.want("GET", uri, "", 200)
	login("bob", "bobs new password").want("GET", uri, "", 200)
}

// TestRedfishBareBoard: a board without any wire has a tree that is whole and
// right.
func TestRedfishBareBoard(t *testing.T) {
	dir := t.TempDir()
	o := options(dir)
	b, err := Open(o)
	fail(t, err)
	_, err = b.Login(filepath.Join(dir, "login.json"), "secret")
	fail(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		ended <- b.Run(ctx, Run{Address: "127.0.0.1", Ready: func(a Addresses) { ready <- a }})
	}()
	c := newCaller(t, (<-ready).HTTPS)
	schemas := redfishtest.Schemas(t)
	todo, seen := []string{resource.RootURI}, map[string]bool{}
	var links func(v any)
	links = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, each := range v {
				if uri, is := each.(string); is && (name == "@odata.id" || name == "@Redfish.ActionInfo") && !strings.Contains(uri, "#") && !seen[uri] {
					todo, seen[uri] = append(todo, uri), true
				}
				links(each)
			}
		case []any:
			for _, each := range v {
				links(each)
			}
		}
	}
	for len(todo) > 0 {
		uri := todo[0]
		todo = todo[1:]
		answer := c.want("GET", uri, "", 200)
		kind, _ := answer["@odata.type"].(string)
		if strings.Contains(kind, "PrivilegeRegistry.") {
			continue // DMTF's own document, whose schema is not among those that are served
		}
		for _, bad := range schemas.Check(strings.TrimPrefix(kind[:max(0, strings.LastIndexByte(kind, '.'))], "#"), "", answer) {
			t.Errorf("%s: %s", uri, bad)
		}
		links(answer)
	}
	if len(seen) < 50 {
		t.Errorf("only %d resources", len(seen))
	}
	for _, uri := range []string{resource.SystemVirtualMediaURI, resource.TelemetryServiceURI, resource.SystemURI + "/Actions/ComputerSystem.Reset"} {
		if seen[uri] {
			t.Errorf("%s is there without its wires", uri)
		}
	}
	cancel()
	fail(t, <-ended, b.Close())
}

// TestHealthy: one service that fails is enough for the manager not to be well.
func TestHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := supervise.New(slog.New(slog.DiscardHandler), func(supervise.Report) {})
		idle := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		fail(t, group.Start("one", idle))
		synctest.Wait()
		if !healthy(group) {
			t.Error("a service that runs is no fault")
		}
		fail(t, group.Start("other", func(context.Context) error { return errors.New("no") }))
		synctest.Wait()
		if healthy(group) {
			t.Error("a service fails, and all is well")
		}
		fail(t, group.Close(t.Context()))
	})
}

// TestRedfishWithoutFolders: where the disk lets neither media nor updates be, the
// rest is served, and the log says why.
func TestRedfishWithoutFolders(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{mediaDir, updateDir} {
		fail(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	r := start(t, dir)
	c := newCaller(t, r.at.HTTPS)
	for _, uri := range []string{resource.SystemURI, resource.ManagerURI} {
		if link, there := c.want("GET", uri, "", 200)["VirtualMedia"]; there {
			t.Errorf("%s: VirtualMedia is %v", uri, link)
		}
	}
	c.want("GET", resource.UpdateServiceURI, "", 404)
	for _, kind := range []string{"media.failed", "update.failed"} {
		if !slices.ContainsFunc(r.Events.Since(0, 0), func(e host.Event) bool { return e.Kind == kind }) {
			t.Errorf("no event %s", kind)
		}
	}
}
