package redfish

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

func authAttempt(name string) auth.Attempt {
	return auth.Attempt{Via: resource.Via, Source: netip.MustParseAddr("127.0.0.1"), Name: name}
}

// A session from login to its end (DSP0266, Redfish session login).
func TestSessionLife(t *testing.T) {
	for _, uri := range []string{resource.SessionsURI, resource.SessionsURI + "/", resource.SessionsURI + "/Members"} {
		r := newRig(t, redfishtest.HostOptions{})
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
		with := func(method, uri string) int {
			return r.Do(redfishtest.Call{Method: method, URI: uri, Header: map[string]string{"X-Auth-Token": token}}).Status
		}
		r.auth.Pass(29 * time.Minute)
		if got := with("GET", location); got != 200 {
			t.Errorf("GET own sessiOn: got %d, want 200", got)
		}
		r.auth.Pass(29 * time.Minute) // the request before prolonged it
		list := r.Do(redfishtest.Call{Method: "GET", URI: resource.SessionsURI, Header: map[string]string{"X-Auth-Token": token}})
		if got := list.At("Members@odata.count"); got != 1.0 {
			t.Errorf("Members@odata.count: got %v, want 1", got)
		}
		if got := with("DELETE", location); got != 204 {
			t.Errorf("DELETE own sessiOn: got %d, want 204", got)
		}
		if got := with("GET", resource.SystemURI); got != 401 {
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
	r := newRig(t, redfishtest.HostOptions{})
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.SessionServiceURI, User: "admin", Body: `{"SessionTimeout":60}`}, 200)
	made := r.Do(redfishtest.Call{Method: "POST", URI: resource.SessionsURI, Body: `{"UserName":"reader","Password":"reader-pw"}`})
	get := redfishtest.Call{Method: "GET", URI: resource.SystemURI, Header: map[string]string{"X-Auth-Token": made.Header.Get("X-Auth-Token")}}
	r.Want(get, 200)
	r.auth.Pass(61 * time.Second)
	r.Want(get, 401, "AccessUnauthorized")
	r.Want(redfishtest.Call{Method: "GET", URI: made.Header.Get("Location"), User: "admin"}, 404, "ResourceNotFound")
}

// Whose session one may see and end.
func TestSessionOwners(t *testing.T) {
	r := newRig(t, redfishtest.HostOptions{})
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
	r := newRig(t, redfishtest.HostOptions{})
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
	r := newRig(t, redfishtest.HostOptions{})
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
