package session

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A rig is the chapter on its own.
type rig struct {
	*redfishtest.Rig
	auth    *redfishtest.Auth
	chapter *Service
}

func newRig(t testing.TB) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	r := &rig{auth: redfishtest.NewAuth()}
	r.chapter = New(r.auth, log)
	service, err := protocol.New(protocol.Options{Auth: r.auth, Log: log, Routes: r.chapter.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

// A session from login to its end (DSP0266, Redfish session login).
func TestSessionLife(t *testing.T) {
	for _, uri := range []string{resource.SessionsURI, resource.SessionsURI + "/", resource.SessionsURI + "/Members"} {
		r := newRig(t)
		made := r.Want(redfishtest.Call{Method: "POST", URI: uri, Body: `{"UserName":"oper","Password":"oper-pw"}`}, 201)
		token, location := made.Header.Get("X-Auth-Token"), made.Header.Get("Location")
		if token == "" || location != resource.SessionsURI+"/s0" || made.At("@odata.id") != location {
			t.Fatalf("POST %s: token %q, Location %q, @odata.id %v", uri, token, location, made.At("@odata.id"))
		}
		for name, want := range map[string]any{"UserName": "oper", "SessionType": "Redfish", "ClientOriginIPAddress": "127.0.0.1", "CreatedTime": "2023-11-14T22:13:20Z", "Password": nil} {
			if got := made.At(name); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		if _, shown := made.JSON["Password"]; !shown {
			t.Error("Password is not there")
		}
		with := func(method, uri string) int {
			return r.Do(redfishtest.Call{Method: method, URI: uri, Header: map[string]string{"X-Auth-Token": token}}).Status
		}
		r.auth.Pass(29 * time.Minute)
		if got := with("GET", location); got != 200 {
			t.Errorf("GET own session: got %d, want 200", got)
		}
		r.auth.Pass(29 * time.Minute) // the request before prolonged it
		list := r.Do(redfishtest.Call{Method: "GET", URI: resource.SessionsURI, Header: map[string]string{"X-Auth-Token": token}})
		if got := list.At("Members@odata.count"); got != 1.0 {
			t.Errorf("Members@odata.count: got %v, want 1", got)
		}
		if got := with("DELETE", location); got != 204 {
			t.Errorf("DELETE own session: got %d, want 204", got)
		}
		if got := with("GET", resource.SessionServiceURI); got != 401 {
			t.Errorf("GET after logout: got %d, want 401", got)
		}
		list = r.Do(redfishtest.Call{Method: "GET", URI: resource.SessionsURI, User: "admin"})
		if got := list.At("Members@odata.count"); got != 0.0 {
			t.Errorf("Members@odata.count after logout: got %v, want 0", got)
		}
		if members, isList := list.At("Members").([]any); !isList || len(members) != 0 {
			t.Errorf("Members after logout: got %v, want []", list.At("Members"))
		}
	}
}

func TestSessionTimesOut(t *testing.T) {
	r := newRig(t)
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SessionServiceURI, User: "admin", Body: `{"SessionTimeout":60}`}, 200)
	made := r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"reader","Password":"reader-pw"}`})
	get := redfishtest.Call{Method: "GET", URI: resource.SessionServiceURI, Header: map[string]string{"X-Auth-Token": made.Header.Get("X-Auth-Token")}}
	r.Want(get, 200)
	r.auth.Pass(61 * time.Second)
	r.Want(get, 401, "AccessUnauthorized")
	r.Want(redfishtest.Call{Method: "GET", URI: made.Header.Get("Location"), User: "admin"}, 404, "ResourceNotFound")
}

// Whose session one may see and end.
func TestSessionOwners(t *testing.T) {
	r := newRig(t)
	login := func(user string) string {
		a := r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"` + user + `","Password":"` + user + `-pw"}`})
		return a.Header.Get("Location")
	}
	for _, c := range []struct {
		owner, user string
		want        int
	}{
		{"reader", "oper", 403},
		{"oper", "reader", 403},
		{"admin", "oper", 403},
		{"reader", "reader", 204},
		{"oper", "admin", 204},
	} {
		uri := login(c.owner)
		if got := r.Do(redfishtest.Call{Method: "DELETE", URI: uri, User: c.user}).Status; got != c.want {
			t.Errorf("DELETE session of %s as %s: got %d, want %d", c.owner, c.user, got, c.want)
		}
		want := map[int]int{403: 200, 204: 404}[c.want]
		if got := r.Do(redfishtest.Call{Method: "GET", URI: uri, User: c.owner}).Status; got != want {
			t.Errorf("GET after DELETE as %s: got %d, want %d", c.user, got, want)
		}
	}
}

func TestBadLogins(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		body   string
		status int
		keys   []string
	}{
		{`{"UserName":"oper","Password":"x"}`, 401, []string{"AccessUnauthorized"}},
		{`{"UserName":"none","Password":"none-pw"}`, 401, []string{"AccessUnauthorized"}},
		{`{"UserName":"oper"}`, 400, []string{"PropertyMissing"}},
		{``, 400, []string{"PropertyMissing", "PropertyMissing"}},
		{`{"UserName":"oper","Password":7}`, 400, []string{"PropertyValueTypeError"}},
		{`{"UserName":"oper","Password":"oper-pw","Colour":"red"}`, 400, []string{"PropertyUnknown"}},
		{`{"UserName":"oper","Password":"oper-pw","Context":7}`, 400, []string{"PropertyValueTypeError"}},
		{`{"UserName":"oper","Password":"oper-pw","Context":"` + strings.Repeat("x", maxContext+1) + `"}`, 400, []string{"StringValueTooLong"}},
	} {
		a := r.Want(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: c.body}, c.status, c.keys...)
		if a.Header.Get("X-Auth-Token") != "" || a.Header.Get("Location") != "" {
			t.Errorf("%s: a session came of it", c.body)
		}
	}
	if len(r.auth.Open) != 0 {
		t.Errorf("got %d sessions, want 0", len(r.auth.Open))
	}
}

func TestSessionServicePatch(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		body   string
		status int
		want   float64 // SessionTimeout afterwards
		keys   []string
	}{
		{`{"SessionTimeout":30}`, 200, 30, nil},
		{`{"SessionTimeout":86400}`, 200, 86400, nil},
		{`{"SessionTimeout":29}`, 400, 86400, []string{"PropertyValueOutOfRange"}},
		{`{"SessionTimeout":86401}`, 400, 86400, []string{"PropertyValueOutOfRange"}},
		{`{"SessionTimeout":99999999999999999999}`, 400, 86400, []string{"PropertyValueOutOfRange"}},
		{`{"SessionTimeout":30.5}`, 400, 86400, []string{"PropertyValueTypeError"}},
		{`{"SessionTimeout":"60"}`, 400, 86400, []string{"PropertyValueTypeError"}},
		{`{"SessionTimeout":null}`, 400, 86400, []string{"PropertyValueTypeError"}},
		{`{"ServiceEnabled":false}`, 400, 86400, []string{"PropertyNotWritable"}},
		{`{"ServiceEnabled":false,"SessionTimeout":61}`, 200, 61, []string{"PropertyNotWritable"}},
	} {
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SessionServiceURI, User: "admin", Body: c.body}, c.status, c.keys...)
		if got := r.Do(redfishtest.Call{Method: "GET", URI: resource.SessionServiceURI, User: "admin"}).At("SessionTimeout"); got != c.want {
			t.Errorf("%s: SessionTimeout %v, want %v", c.body, got, c.want)
		}
	}
	r.auth.SaveErr = errors.New("disk full")
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SessionServiceURI, User: "admin", Body: `{"SessionTimeout":62}`}, 500, "PropertyNotUpdated")
}

// The list has what the user may see.
func TestSessionList(t *testing.T) {
	r := newRig(t)
	for _, user := range []string{"reader", "oper", "oper"} {
		r.Want(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"` + user + `","Password":"` + user + `-pw"}`}, 201)
	}
	for user, want := range map[string]float64{"reader": 1, "oper": 2, "admin": 3} {
		if got := r.Want(redfishtest.Call{Method: "GET", URI: resource.SessionsURI, User: user}, 200).At("Members@odata.count"); got != want {
			t.Errorf("%s: got %v sessions, want %v", user, got, want)
		}
	}
}

// A session keeps what the client calls it, and the service forgets it with the
// session.
func TestSessionContext(t *testing.T) {
	r := newRig(t)
	for i, c := range []struct {
		context string
		want    any
	}{{`,"Context":"night job"`, "night job"}, {`,"Context":""`, ""}, {``, nil}} {
		made := r.Want(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"oper","Password":"oper-pw"` + c.context + `}`}, 201)
		got := r.Want(redfishtest.Call{Method: "GET", URI: made.Header.Get("Location"), User: "oper"}, 200)
		if made.At("Context") != c.want || got.At("Context") != c.want {
			t.Errorf("%d: got %v, then %v, want %v", i, made.At("Context"), got.At("Context"), c.want)
		}
		r.Want(redfishtest.Call{Method: "DELETE", URI: made.Header.Get("Location"), User: "oper"}, 204)
	}
	if len(r.chapter.contexts) != 0 {
		t.Errorf("%d contexts are kept, want 0", len(r.chapter.contexts))
	}
}

// Who has to change the password may log in, which says so, and log out
// (DSP0266, Password change required).
func TestPasswordChangeRequired(t *testing.T) {
	r := newRig(t)
	other := r.Want(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"oper","Password":"oper-pw"}`}, 201)
	u := r.auth.Users["admin"]
	u.PasswordChangeRequired = true
	r.auth.Users["admin"] = u
	made := r.Want(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"admin","Password":"admin-pw"}`}, 201, "PasswordChangeRequired")
	if text := fmt.Sprint(made.At("@Message.ExtendedInfo")); !strings.Contains(text, resource.AccountsURI+"/admin") {
		t.Errorf("the message does not name the account: %s", text)
	}
	if made.Header.Get("X-Auth-Token") == "" {
		t.Error("no token")
	}
	for _, c := range []struct {
		method, uri string
		status      int
		keys        []string
	}{
		{"GET", made.Header.Get("Location"), 200, nil},
		{"GET", other.Header.Get("Location"), 403, []string{"PasswordChangeRequired"}},
		{"DELETE", other.Header.Get("Location"), 403, []string{"PasswordChangeRequired"}},
		{"GET", resource.SessionsURI + "/none", 403, []string{"PasswordChangeRequired"}},
		{"DELETE", made.Header.Get("Location"), 204, nil},
	} {
		r.Want(redfishtest.Call{Method: c.method, URI: c.uri, User: "admin"}, c.status, c.keys...)
	}
}

// Sessions have no more than that.
func TestSessionMethods(t *testing.T) {
	r := newRig(t)
	made := r.Want(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"admin","Password":"admin-pw"}`}, 201)
	for _, c := range []struct{ method, uri, allow string }{
		{"PATCH", made.Header.Get("Location"), "GET, HEAD, DELETE"},
		{"POST", made.Header.Get("Location"), "GET, HEAD, DELETE"},
		{"DELETE", resource.SessionsURI, "GET, HEAD, POST"},
		{"POST", resource.SessionServiceURI, "GET, HEAD, PATCH"},
	} {
		a := r.Want(redfishtest.Call{Method: c.method, URI: c.uri, User: "admin", Body: `{}`}, 405, "OperationNotAllowed")
		if got := a.Header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.uri, got, c.allow)
		}
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.SessionsURI + "/none", User: "admin"}, 404, "ResourceNotFound")
	for _, user := range []string{"reader", "oper"} {
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SessionServiceURI, User: user, Body: `{"SessionTimeout":60}`}, 403, "InsufficientPrivilege")
	}
}
