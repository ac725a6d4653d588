package redfish

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
)

func authAttempt(name string) auth.Attempt {
	return auth.Attempt{Via: Via, Source: netip.MustParseAddr("127.0.0.1"), Name: name}
}

// A session from login to its end (DSP0266, Redfish session login).
func TestSessionLife(t *testing.T) {
	for _, uri := range []string{sessionsURI, sessionsURI + "/", sessionsURI + "/Members"} {
		r := newRig(t, rigOptions{})
		made := r.want(call{method: "POST", uri: uri, body: `{"UserName":"oper","Password":"oper-pw"}`}, 201)
		token, location := made.header.Get("X-Auth-Token"), made.header.Get("Location")
		if token == "" || location != sessionsURI+"/s0" || made.at("@odata.id") != location {
			t.Fatalf("POST %s: token %q, Location %q, @odata.id %v", uri, token, location, made.at("@odata.id"))
		}
		for name, want := range map[string]any{"UserName": "oper", "SessionType": "Redfish", "ClientOriginIPAddress": "127.0.0.1", "CreatedTime": "2023-11-14T22:13:20Z", "Password": nil} {
			if got := made.at(name); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		with := func(method, uri string) int {
			return r.do(call{method: method, uri: uri, header: map[string]string{"X-Auth-Token": token}}).status
		}
		r.auth.pass(29 * time.Minute)
		if got := with("GET", location); got != 200 {
			t.Errorf("GET own session: got %d, want 200", got)
		}
		r.auth.pass(29 * time.Minute) // the request before prolonged it
		list := r.do(call{method: "GET", uri: sessionsURI, header: map[string]string{"X-Auth-Token": token}})
		if got := list.at("Members@odata.count"); got != 1.0 {
			t.Errorf("Members@odata.count: got %v, want 1", got)
		}
		if got := with("DELETE", location); got != 204 {
			t.Errorf("DELETE own session: got %d, want 204", got)
		}
		if got := with("GET", systemURI); got != 401 {
			t.Errorf("GET after logout: got %d, want 401", got)
		}
		list = r.do(call{method: "GET", uri: sessionsURI, user: "admin"})
		if got := list.at("Members@odata.count"); got != 0.0 {
			t.Errorf("Members@odata.count after logout: got %v, want 0", got)
		}
		if members, isList := list.at("Members").([]any); !isList || len(members) != 0 {
			t.Errorf("Members after logout: got %v, want []", list.at("Members"))
		}
	}
}

func TestSessionTimesOut(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.want(call{method: "PATCH", uri: sessionServiceURI, user: "admin", body: `{"SessionTimeout":60}`}, 200)
	made := r.do(call{method: "POST", uri: sessionsURI, body: `{"UserName":"reader","Password":"reader-pw"}`})
	get := call{method: "GET", uri: systemURI, header: map[string]string{"X-Auth-Token": made.header.Get("X-Auth-Token")}}
	r.want(get, 200)
	r.auth.pass(61 * time.Second)
	r.want(get, 401, "AccessUnauthorized")
	r.want(call{method: "GET", uri: made.header.Get("Location"), user: "admin"}, 404, "ResourceNotFound")
}

// Whose session one may see and end.
func TestSessionOwners(t *testing.T) {
	r := newRig(t, rigOptions{})
	login := func(user string) string {
		a := r.do(call{method: "POST", uri: sessionsURI, body: `{"UserName":"` + user + `","Password":"` + user + `-pw"}`})
		return a.header.Get("Location")
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
		if got := r.do(call{method: "DELETE", uri: uri, user: c.user}).status; got != c.want {
			t.Errorf("DELETE session of %s as %s: got %d, want %d", c.owner, c.user, got, c.want)
		}
		want := map[int]int{403: 200, 204: 404}[c.want]
		if got := r.do(call{method: "GET", uri: uri, user: c.owner}).status; got != want {
			t.Errorf("GET after DELETE as %s: got %d, want %d", c.user, got, want)
		}
	}
}

func TestBadLogins(t *testing.T) {
	r := newRig(t, rigOptions{})
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
	} {
		a := r.want(call{method: "POST", uri: sessionsURI, body: c.body}, c.status, c.keys...)
		if a.header.Get("X-Auth-Token") != "" || a.header.Get("Location") != "" {
			t.Errorf("%s: a session came of it", c.body)
		}
	}
	if len(r.auth.sessions) != 0 {
		t.Errorf("got %d sessions, want 0", len(r.auth.sessions))
	}
}

func TestSessionServicePatch(t *testing.T) {
	r := newRig(t, rigOptions{})
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
		r.want(call{method: "PATCH", uri: sessionServiceURI, user: "admin", body: c.body}, c.status, c.keys...)
		if got := r.do(call{method: "GET", uri: sessionServiceURI, user: "admin"}).at("SessionTimeout"); got != c.want {
			t.Errorf("%s: SessionTimeout %v, want %v", c.body, got, c.want)
		}
	}
	r.auth.saveErr = errors.New("disk full")
	r.want(call{method: "PATCH", uri: sessionServiceURI, user: "admin", body: `{"SessionTimeout":62}`}, 500, "PropertyNotUpdated")
}
