package account

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

func TestService(t *testing.T) {
	const registry = resource.RegistriesURI + "/P/P.json"
	r := newRig(t, func(o *Options) { o.PrivilegeMap = registry })
	r.admit(t, "reader")
	a := r.Want(get(resource.AccountServiceURI, "reader"), 200)
	for _, c := range []struct {
		path []string
		want any
	}{
		{[]string{"ServiceEnabled"}, true},
		{[]string{"LocalAccountAuth"}, "Enabled"},
		{[]string{"HTTPBasicAuth"}, "Enabled"},
		{[]string{"RequireChangePasswordAction"}, false},
		{[]string{"MinPasswordLength"}, 8.0},
		{[]string{"MaxPasswordLength"}, 128.0},
		{[]string{"AccountLockoutThreshold"}, 20.0},
		{[]string{"AccountLockoutDuration"}, 30.0},
		{[]string{"AccountLockoutCounterResetAfter"}, 3600.0},
		{[]string{"SupportedAccountTypes"}, "[Redfish ManagerConsole HostConsole IPMI]"},
		{[]string{"PrivilegeMap", "@odata.id"}, registry},
		{[]string{"Accounts", "@odata.id"}, resource.AccountsURI},
		{[]string{"Roles", "@odata.id"}, resource.RolesURI},
	} {
		got := a.At(c.path...)
		if list, isList := got.([]any); isList {
			got = fmt.Sprint(list)
		}
		if got != c.want {
			t.Errorf("%v: got %v, want %v", c.path, got, c.want)
		}
	}
	r = newRig(t, func(o *Options) { o.SaveLockout, o.MinPassword = nil, 1 })
	a = r.Want(get(resource.AccountServiceURI, "admin"), 200)
	if _, there := a.JSON["PrivilegeMap"]; there || a.At("MinPasswordLength") != 1.0 {
		t.Errorf("got %s", a.Body)
	}
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.AccountServiceURI, User: "admin", Body: `{"AccountLockoutThreshold":3}`}, 400, "PropertyNotWritable")
}

func TestLockout(t *testing.T) {
	r := newRig(t, nil)
	standard := auth.DefaultLockout()
	constant := standard // what a client's duration makes of it
	constant.First, constant.UserMax, constant.Forget = 10*time.Minute, 10*time.Minute, 10*time.Minute
	for _, c := range []struct {
		body   string
		status int
		keys   []string
		want   func(*auth.Lockout)
	}{
		{`{"AccountLockoutThreshold":3}`, 200, nil, func(l *auth.Lockout) { l.Threshold, l.UserThreshold = 3, 3 }},
		{`{"AccountLockoutThreshold":7}`, 200, nil, func(l *auth.Lockout) { l.UserThreshold = 7 }},
		{`{"AccountLockoutThreshold":0}`, 200, nil, func(l *auth.Lockout) { l.Threshold = 0 }},
		{`{"AccountLockoutThreshold":-1}`, 400, []string{"PropertyValueOutOfRange"}, nil},
		{`{"AccountLockoutThreshold":10001}`, 400, []string{"PropertyValueOutOfRange"}, nil},
		{`{"AccountLockoutThreshold":null}`, 400, []string{"PropertyValueTypeError"}, nil},
		{`{"AccountLockoutDuration":600}`, 200, nil, func(l *auth.Lockout) { *l = constant }},
		{`{"AccountLockoutDuration":86400}`, 200, nil, func(l *auth.Lockout) {
			l.First, l.UserMax, l.Max = 24*time.Hour, 24*time.Hour, 24*time.Hour
		}},
		{`{"AccountLockoutDuration":0}`, 400, []string{"PropertyValueOutOfRange"}, nil},
		{`{"AccountLockoutDuration":86401}`, 400, []string{"PropertyValueOutOfRange"}, nil},
		{`{"AccountLockoutCounterResetAfter":20}`, 200, nil, func(l *auth.Lockout) { l.Forget = 20 * time.Second }},
		{`{"AccountLockoutCounterResetAfter":31}`, 400, []string{"PropertyValueConflict"}, nil},
		{`{"AccountLockoutCounterResetAfter":120,"AccountLockoutDuration":600,"AccountLockoutThreshold":5}`, 200, nil, func(l *auth.Lockout) {
			*l = constant
			l.UserThreshold, l.Forget = 5, 2*time.Minute
		}},
		{`{"MinPasswordLength":4}`, 400, []string{"PropertyNotWritable"}, nil},
		{`{"LocalAccountAuth":"Disabled"}`, 400, []string{"PropertyNotWritable"}, nil},
		{`{"ServiceEnabled":false,"AccountLockoutThreshold":4}`, 200, []string{"PropertyNotWritable"}, func(l *auth.Lockout) { l.Threshold, l.UserThreshold = 4, 4 }},
	} {
		if err := r.auth.Configure(standard); err != nil {
			t.Fatal(err)
		}
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.AccountServiceURI, User: "admin", Body: c.body}, c.status, c.keys...)
		want := standard
		if c.want != nil {
			c.want(&want)
		}
		if got := r.auth.Lockout(); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.body, got, want)
		}
	}
	// No locks at all is a threshold of 0, and back.
	none := standard
	none.Threshold = 0
	if err := r.auth.Configure(none); err != nil {
		t.Fatal(err)
	}
	if got := r.Want(get(resource.AccountServiceURI, "admin"), 200).At("AccountLockoutThreshold"); got != 0.0 {
		t.Errorf("AccountLockoutThreshold: got %v, want 0", got)
	}
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.AccountServiceURI, User: "admin", Body: `{"AccountLockoutThreshold":20}`}, 200)
	if got := r.auth.Lockout(); got != standard {
		t.Errorf("got %+v, want %+v", got, standard)
	}
	// What the settings do not take is told.
	for err, want := range map[error]struct {
		status int
		key    string
	}{errors.New("disk full"): {500, "PropertyNotUpdated"}, host.ErrInvalid: {400, "PropertyValueError"}} {
		r := newRig(t, func(o *Options) { o.SaveLockout = func(auth.Lockout, host.Origin) error { return err } })
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.AccountServiceURI, User: "admin", Body: `{"AccountLockoutThreshold":20}`}, want.status, want.key)
	}
}

// The roles are DSP0266's, and nobody can change them.
func TestRoles(t *testing.T) {
	r := newRig(t, nil)
	r.admit(t, "reader")
	if got := r.Want(get(resource.RolesURI, "reader"), 200).At("Members@odata.count"); got != 3.0 {
		t.Errorf("%v roles, want 3", got)
	}
	for name, want := range map[string]string{
		"Administrator": "[Login ConfigureManager ConfigureUsers ConfigureSelf ConfigureComponents]",
		"Operator":      "[Login ConfigureSelf ConfigureComponents]",
		"ReadOnly":      "[Login ConfigureSelf]",
	} {
		uri := resource.RolesURI + "/" + name
		a := r.Want(get(uri, "reader"), 200)
		if got := fmt.Sprint(a.At("AssignedPrivileges")); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if a.At("Id") != name || a.At("RoleId") != name || a.At("IsPredefined") != true {
			t.Errorf("got %s", a.Body)
		}
		for _, method := range []string{"PATCH", "PUT", "DELETE", "POST"} {
			r.Want(redfishtest.Call{Method: method, URI: uri, User: "admin", Body: `{"AssignedPrivileges":["Login"]}`}, 405, "OperationNotAllowed")
		}
	}
	r.Want(get(resource.RolesURI+"/King", "admin"), 404, "ResourceNotFound")
	r.Want(post(resource.RolesURI, `{"RoleId":"King","AssignedPrivileges":["Login"]}`), 405, "OperationNotAllowed")
}
