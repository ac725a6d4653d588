package account

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

func TestAccount(t *testing.T) {
	r := newRig(t, nil)
	if err := r.auth.Auth.SetIPMISecret("operator", "ipmi-secret", auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	a := r.Want(get(uriOf("operator"), "admin"), 200)
	for _, c := range []struct {
		path []string
		want any
	}{
		{[]string{"Id"}, "operator"},
		{[]string{"UserName"}, "operator"},
		{[]string{"RoleId"}, "Operator"},
		{[]string{"Links", "Role", "@odata.id"}, resource.RolesURI + "/Operator"},
		{[]string{"Keys", "@odata.id"}, uriOf("operator") + "/Keys"},
		{[]string{"Enabled"}, true},
		{[]string{"Locked"}, false},
		{[]string{"PasswordChangeRequired"}, false},
		{[]string{"StrictAccountTypes"}, false},
		{[]string{"AccountTypes"}, "[Redfish ManagerConsole HostConsole IPMI]"},
	} {
		got := a.At(c.path...)
		if list, isList := got.([]any); isList {
			got = fmt.Sprint(list)
		}
		if got != c.want {
			t.Errorf("%v: got %v, want %v", c.path, got, c.want)
		}
	}
	for _, name := range []string{"Password", "PasswordExpiration"} {
		if v, shown := a.JSON[name]; !shown || v != nil {
			t.Errorf("%s: got %v, %v, want null", name, v, shown)
		}
	}
	if got := a.Header.Get("Allow"); got != "GET, HEAD, PATCH, DELETE" {
		t.Errorf("Allow: got %q", got)
	}
	if got := fmt.Sprint(r.Want(get(uriOf("reader"), "admin"), 200).At("AccountTypes")); got != "[Redfish ManagerConsole]" {
		t.Errorf("AccountTypes of reader: got %s", got)
	}
}

// A board without SSH and IPMI has accounts for Redfish alone.
func TestAccountOfBareBoard(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SSH, o.IPMI = nil, nil })
	if err := r.auth.Auth.SetIPMISecret("operator", "ipmi-secret", auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	for uri, name := range map[string]string{uriOf("operator"): "AccountTypes", resource.AccountServiceURI: "SupportedAccountTypes"} {
		if got := fmt.Sprint(r.Want(get(uri, "admin"), 200).At(name)); got != "[Redfish]" {
			t.Errorf("%s: got %s", uri, got)
		}
	}
	r.Want(patch("operator", `{"AccountTypes":["Redfish","IPMI"]}`), 400, "PropertyValueNotInList")
	// The secret is not shown, and yet the old one must not stay.
	r.Want(patch("operator", `{"Password":"another-password"}`), 200)
	r.secretIs(t, "operator", "another-password")
	r.Want(patch("operator", `{"Password":"too long for any IPMI client"}`), 200)
	r.secretIs(t, "operator", "")
}

// Who may see and change whom.
func TestAccountPrivileges(t *testing.T) {
	r := newRig(t, nil)
	r.admit(t, "operator", "reader")
	for _, c := range []struct {
		method, whom, user, body string
		status                   int
		keys                     []string
	}{
		{"GET", "admin", "admin", "", 200, nil},
		{"GET", "reader", "admin", "", 200, nil},
		{"GET", "operator", "operator", "", 200, nil},
		{"GET", "reader", "reader", "", 200, nil},
		{"GET", "reader", "operator", "", 403, []string{"InsufficientPrivilege"}},
		{"GET", "admin", "reader", "", 403, []string{"InsufficientPrivilege"}},
		{"GET", "none", "admin", "", 404, []string{"ResourceNotFound"}},
		{"PATCH", "none", "admin", `{"Enabled":true}`, 404, []string{"ResourceNotFound"}},
		{"DELETE", "none", "admin", "", 404, []string{"ResourceNotFound"}},
		{"PATCH", "admin", "reader", `{"Password":"reader-took-it"}`, 403, []string{"InsufficientPrivilege"}},
		{"PATCH", "reader", "operator", `{"Password":"reader-took-it"}`, 403, []string{"InsufficientPrivilege"}},
		{"PATCH", "reader", "reader", `{"RoleId":"Administrator"}`, 403, []string{"InsufficientPrivilege"}},
		{"PATCH", "reader", "reader", `{"Password":"reader-took-it","RoleId":"Administrator"}`, 403, []string{"InsufficientPrivilege"}},
		{"PATCH", "reader", "reader", `{"Password":"reader-took-it","AccountTypes":["IPMI"]}`, 403, []string{"InsufficientPrivilege"}},
		{"PATCH", "reader", "reader", `{"Locked":false}`, 403, []string{"InsufficientPrivilege"}},
		{"PATCH", "reader", "reader", `{}`, 400, []string{"EmptyJSON"}},
		{"PATCH", "reader", "reader", `{"@odata.id":"/"}`, 400, []string{"NoOperation"}},
		{"PATCH", "reader", "reader", `{"Password":"reader-pw","@odata.etag":"x"}`, 200, nil},
		{"DELETE", "reader", "reader", "", 403, []string{"InsufficientPrivilege"}},
		{"DELETE", "reader", "operator", "", 403, []string{"InsufficientPrivilege"}},
		{"PUT", "reader", "admin", `{}`, 405, []string{"OperationNotAllowed"}},
	} {
		r.Want(redfishtest.Call{Method: c.method, URI: uriOf(c.whom), User: c.user, Body: c.body}, c.status, c.keys...)
	}
	for _, user := range []string{"operator", "reader"} {
		if got := r.Want(get(resource.AccountsURI, user), 200).At("Members@odata.count"); got != 3.0 {
			t.Errorf("%s sees %v accounts, want 3", user, got)
		}
		r.Want(redfishtest.Call{Method: "POST", URI: resource.AccountsURI, User: user, Body: `{"UserName":"x","Password":"x-password","RoleId":"ReadOnly"}`}, 403, "InsufficientPrivilege")
		r.Want(redfishtest.Call{Method: "PATCH", URI: resource.AccountServiceURI, User: user, Body: `{"AccountLockoutThreshold":9}`}, 403, "InsufficientPrivilege")
	}
	if u, _ := r.auth.User("reader"); u.Role != auth.ReadOnly {
		t.Errorf("reader is %s now", u.Role)
	}
}

func TestCreate(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		body   string
		status int
		keys   []string
		about  string
	}{
		{`{"UserName":"anna","Password":"anna-pw-1","RoleId":"Operator"}`, 201, nil, ""},
		{`{"UserName":"anna","Password":"anna-pw-1","RoleId":"Operator"}`, 409, []string{"ResourceAlreadyExists"}, "[#/UserName]"},
		{`{"UserName":"bert","Password":"bert-pw-1","RoleId":"ReadOnly","AccountTypes":["Redfish","IPMI"],"Enabled":false,"PasswordChangeRequired":true,"Locked":false}`, 201, nil, ""},
		{`{"UserName":"carl","Password":"hUPgd9Z4","RoleId":"Administrator"}`, 201, nil, ""},
		{`{"UserName":"Members","Password":"members-pw","RoleId":"ReadOnly"}`, 201, nil, ""},
		{``, 400, []string{"PropertyMissing", "PropertyMissing", "PropertyMissing"}, "[#/UserName #/Password #/RoleId]"},
		{`{"UserName":"dora","Password":"dora-pw-1"}`, 400, []string{"PropertyMissing"}, "[#/RoleId]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"King"}`, 400, []string{"PropertyValueNotInList"}, "[#/RoleId]"},
		{`{"UserName":"dora","Password":"dora-pw","RoleId":"ReadOnly"}`, 400, []string{"PasswordIncorrectLength"}, "[#/Password]"},
		{`{"UserName":"dora","Password":"` + strings.Repeat("x", 129) + `","RoleId":"ReadOnly"}`, 400, []string{"PasswordIncorrectLength"}, "[#/Password]"},
		{`{"UserName":"dora","Password":"dora\u0007pw-1","RoleId":"ReadOnly"}`, 400, []string{"PasswordComplexityNotMet"}, "[#/Password]"},
		{`{"UserName":"dora","Password":["s3cret-thing"],"RoleId":"ReadOnly"}`, 400, []string{"PropertyValueError"}, "[#/Password]"},
		{`{"UserName":"dora","Password":"s3cret-thing-more-than-20","RoleId":"ReadOnly","AccountTypes":["IPMI"]}`, 400, []string{"PropertyValueConflict"}, "[#/Password]"},
		{`{"UserName":"dora","Password":"s3cret-thing-ö","RoleId":"ReadOnly","AccountTypes":["IPMI"]}`, 400, []string{"PropertyValueConflict"}, "[#/Password]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly","AccountTypes":["HostConsole"]}`, 400, []string{"PropertyValueConflict"}, "[#/AccountTypes]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly","AccountTypes":["SNMP"]}`, 400, []string{"PropertyValueNotInList"}, "[#/AccountTypes]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly","AccountTypes":[{}]}`, 400, []string{"PropertyValueTypeError"}, "[#/AccountTypes]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly","AccountTypes":"IPMI"}`, 400, []string{"PropertyValueTypeError"}, "[#/AccountTypes]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly","Locked":true}`, 400, []string{"PropertyValueNotInList"}, "[#/Locked]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly","Locked":1}`, 400, []string{"PropertyValueTypeError"}, "[#/Locked]"},
		{`{"UserName":"1a","Password":"dora-pw-1","RoleId":"ReadOnly"}`, 400, []string{"PropertyValueFormatError"}, "[#/UserName]"},
		{`{"UserName":"a/../b","Password":"dora-pw-1","RoleId":"ReadOnly"}`, 400, []string{"PropertyValueFormatError"}, "[#/UserName]"},
		{`{"UserName":"abcdefghijklmnopq","Password":"dora-pw-1","RoleId":"ReadOnly"}`, 400, []string{"PropertyValueFormatError"}, "[#/UserName]"},
		{`{"UserName":"","Password":"dora-pw-1","RoleId":"ReadOnly"}`, 400, []string{"PropertyValueFormatError"}, "[#/UserName]"},
		{`{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly","Colour":"red"}`, 400, []string{"PropertyUnknown"}, "[#/Colour]"},
	} {
		a := r.Want(post(resource.AccountsURI, c.body), c.status, c.keys...)
		if got := fmt.Sprint(a.Related()); c.about != "" && got != c.about {
			t.Errorf("%s: about %s, want %s", c.body, got, c.about)
		}
		if strings.Contains(string(a.Body), "s3cret") {
			t.Errorf("the password is told: %s", a.Body)
		}
		location := a.Header.Get("Location")
		if (location != "") != (c.status == 201) {
			t.Errorf("%s: Location %q", c.body, location)
			continue
		}
		if c.status == 201 {
			r.Want(get(location, "admin"), 200)
		}
	}
	if u, _ := r.auth.User("bert"); u.Enabled || !u.PasswordChangeRequired || u.Role != auth.ReadOnly || !u.IPMI {
		t.Errorf("bert is %+v", u)
	}
	r.secretIs(t, "bert", "bert-pw-1")
	r.secretIs(t, "anna", "")
	if _, found := r.auth.User("dora"); found {
		t.Error("dora was made")
	}
	r.Want(as(get(uriOf("anna"), ""), "anna", "anna-pw-1"), 200)
	// Members is no Id in a collection.
	r.Want(as(get(uriOf("8"), ""), "Members", "members-pw"), 200)

	r.Want(post(resource.AccountsURI+"/Members", `{"UserName":"emil","Password":"emil-pw-1","RoleId":"ReadOnly"}`), 201)
	for n := len(r.auth.Users()); n < auth.MaxUsers; n++ {
		if err := r.auth.Create(auth.User{Name: fmt.Sprintf("u%d", n), Role: auth.ReadOnly}, "", auth.Attempt{}); err != nil {
			t.Fatal(err)
		}
	}
	r.Want(post(resource.AccountsURI, `{"UserName":"dora","Password":"dora-pw-1","RoleId":"ReadOnly"}`), 409, "CreateLimitReachedForResource")
	if got := r.Want(get(resource.AccountsURI, "admin"), 200).At("Members@odata.count"); got != float64(auth.MaxUsers) {
		t.Errorf("%v accounts, want %d", got, auth.MaxUsers)
	}
}

// Half an account is none.
func TestCreateBreaks(t *testing.T) {
	r := newRig(t, nil)
	r.auth.breakDown(errors.New("disk full"))
	r.Want(post(resource.AccountsURI, `{"UserName":"anna","Password":"anna-pw-1","RoleId":"Operator","AccountTypes":["IPMI"]}`), 500, "InternalError")
	if _, found := r.auth.User("anna"); found {
		t.Error("anna is there")
	}
}

func TestPatch(t *testing.T) {
	r := newRig(t, nil)
	r.Want(post(resource.AccountsURI, `{"UserName":"anna","Password":"anna-pw-1","RoleId":"Operator"}`), 201)
	for _, c := range []struct {
		whom, body string
		status     int
		keys       []string
		about      string
		check      func(auth.User) bool
	}{
		{"anna", `{"RoleId":"ReadOnly"}`, 200, nil, "[]", func(u auth.User) bool { return u.Role == auth.ReadOnly }},
		{"anna", `{"RoleId":"King"}`, 400, []string{"PropertyValueNotInList"}, "[#/RoleId]", nil},
		{"anna", `{"RoleId":null}`, 400, []string{"PropertyValueTypeError"}, "[#/RoleId]", nil},
		{"anna", `{"Enabled":false}`, 200, nil, "[]", func(u auth.User) bool { return !u.Enabled }},
		{"anna", `{"Enabled":true}`, 200, nil, "[]", func(u auth.User) bool { return u.Enabled }},
		{"anna", `{"Enabled":"yes"}`, 400, []string{"PropertyValueTypeError"}, "[#/Enabled]", nil},
		{"anna", `{"PasswordChangeRequired":true}`, 200, nil, "[]", func(u auth.User) bool { return u.PasswordChangeRequired }},
		{"anna", `{"PasswordChangeRequired":true,"Password":"anna-pw-2"}`, 200, nil, "[]", func(u auth.User) bool { return u.PasswordChangeRequired }},
		{"anna", `{"Password":"anna-pw-3"}`, 200, nil, "[]", func(u auth.User) bool { return !u.PasswordChangeRequired }},
		{"anna", `{"Password":"short"}`, 400, []string{"PasswordIncorrectLength"}, "[#/Password]", nil},
		{"anna", `{"Password":null}`, 400, []string{"PropertyValueError"}, "[#/Password]", nil},
		{"anna", `{"Password":"anna\npw\nfour"}`, 400, []string{"PasswordComplexityNotMet"}, "[#/Password]", nil},
		{"anna", `{"Password":"anna-pw-4","BogusProp":"foo"}`, 200, []string{"PropertyUnknown"}, "[#/BogusProp]", nil},
		{"anna", `{"BogusProp":"foo"}`, 400, []string{"PropertyUnknown"}, "[#/BogusProp]", nil},
		{"anna", `{"StrictAccountTypes":true}`, 400, []string{"PropertyNotWritable"}, "[#/StrictAccountTypes]", nil},
		{"anna", `{"PasswordExpiration":"2030-01-01T00:00:00Z"}`, 400, []string{"PropertyNotWritable"}, "[#/PasswordExpiration]", nil},
		{"anna", `{"Locked":true}`, 400, []string{"PropertyValueNotInList"}, "[#/Locked]", nil},
		{"anna", `{"Locked":null}`, 400, []string{"PropertyValueTypeError"}, "[#/Locked]", nil},
		{"anna", `{"UserName":"admin"}`, 409, []string{"ResourceAlreadyExists"}, "[#/UserName]", nil},
		{"anna", `{"UserName":"no name"}`, 400, []string{"PropertyValueFormatError"}, "[#/UserName]", nil},
		{"admin", `{"RoleId":"Operator"}`, 409, []string{"PropertyValueExternalConflict"}, "[#/RoleId]", nil},
		{"admin", `{"Enabled":false}`, 409, []string{"PropertyValueExternalConflict"}, "[#/Enabled]", nil},
	} {
		a := r.Want(patch(c.whom, c.body), c.status, c.keys...)
		if got := fmt.Sprint(a.Related()); got != c.about {
			t.Errorf("%s: about %s, want %s", c.body, got, c.about)
		}
		if u, _ := r.auth.User(c.whom); c.check != nil && !c.check(u) {
			t.Errorf("%s: %+v", c.body, u)
		}
	}
	r.Want(as(get(uriOf("anna"), ""), "anna", "anna-pw-4"), 200)

	// A new name is a new URI, and the rest of the same request counts, too.
	a := r.Want(patch("anna", `{"UserName":"berta","RoleId":"Operator","Password":"berta-pw-1"}`), 200)
	if got := a.At("@odata.id"); got != uriOf("berta") || a.At("RoleId") != "Operator" {
		t.Errorf("renamed: got %s", a.Body)
	}
	r.Want(get(uriOf("anna"), "admin"), 404, "ResourceNotFound")
	r.Want(as(get(uriOf("berta"), ""), "berta", "berta-pw-1"), 200)
}

// AccountTypes gives and takes IPMI, whose secret is the password.
func TestAccountTypes(t *testing.T) {
	const types = "AccountTypes"
	r := newRig(t, nil)
	for _, c := range []struct {
		body   string
		status int
		keys   []string
		types  string
		secret string
	}{
		{`{"AccountTypes":["Redfish","IPMI"]}`, 400, []string{"PropertyValueConflict"}, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":["Redfish","IPMI"],"Password":"long-but-no-more-than-it-may"}`, 400, []string{"PropertyValueConflict", "PropertyValueConflict"}, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":["Redfish","IPMI"],"Password":"password-1"}`, 200, nil, "[Redfish ManagerConsole HostConsole IPMI]", "password-1"},
		{`{"Password":"password-2"}`, 200, nil, "[Redfish ManagerConsole HostConsole IPMI]", "password-2"},
		{`{"Password":"long-but-no-more-than-it-may"}`, 400, []string{"PropertyValueConflict"}, "[Redfish ManagerConsole HostConsole IPMI]", "password-2"},
		{`{"AccountTypes":[{},{},{},{}]}`, 200, nil, "[Redfish ManagerConsole HostConsole IPMI]", "password-2"},
		{`{"AccountTypes":[{},{},{},null]}`, 200, nil, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":["IPMI"],"Password":"password-3"}`, 200, nil, "[Redfish ManagerConsole HostConsole IPMI]", "password-3"},
		{`{"AccountTypes":["Redfish"],"Password":"long-but-no-more-than-it-may"}`, 200, nil, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":["IPMI"],"Password":"password-4"}`, 200, nil, "[Redfish ManagerConsole HostConsole IPMI]", "password-4"},
		{`{"AccountTypes":[]}`, 200, nil, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":["KVMIP"]}`, 400, []string{"PropertyValueNotInList"}, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":[7]}`, 400, []string{"PropertyValueTypeError"}, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":null}`, 400, []string{"PropertyValueTypeError"}, "[Redfish ManagerConsole HostConsole]", ""},
		{`{"AccountTypes":["HostConsole"],"RoleId":"ReadOnly"}`, 200, []string{"PropertyValueConflict"}, "[Redfish ManagerConsole]", ""},
	} {
		r.Want(patch("operator", c.body), c.status, c.keys...)
		if got := fmt.Sprint(r.Want(get(uriOf("operator"), "admin"), 200).At(types)); got != c.types {
			t.Errorf("%s: got %s, want %s", c.body, got, c.types)
		}
		r.secretIs(t, "operator", c.secret)
	}

	// IPMI may have been narrowed by IPMI's own commands.
	if err := r.auth.Auth.SetIPMISecret("reader", "ipmi-secret", auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	if err := r.auth.SetIPMIAccess("reader", auth.IPMIAccess{Limit: auth.NoIPMI, NoMessaging: true, Callback: true, NoSOL: true, SessionLimit: 2}, auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.Want(get(uriOf("reader"), "admin"), 200).At(types)); got != "[Redfish ManagerConsole]" {
		t.Errorf("narrowed: got %s", got)
	}
	r.Want(patch("reader", `{"AccountTypes":["IPMI"]}`), 200)
	if u, _ := r.auth.User("reader"); u.IPMIAccess != (auth.IPMIAccess{NoSOL: true, SessionLimit: 2}) {
		t.Errorf("access is %+v", u.IPMIAccess)
	}
	r.auth.breakDown(errors.New("disk full"))
	r.Want(patch("reader", `{"AccountTypes":["Redfish"]}`), 500, "InternalError")
	r.Want(patch("reader", `{"Password":"password-5"}`), 500, "InternalError")
}

func TestDelete(t *testing.T) {
	r := newRig(t, nil)
	r.admit(t, "operator")
	remove := func(name string) redfishtest.Call {
		return redfishtest.Call{Method: "DELETE", URI: uriOf(name), User: "admin"}
	}
	r.Want(remove("reader"), 204)
	r.Want(remove("reader"), 404, "ResourceNotFound")
	r.Want(remove("admin"), 409, "ResourceCannotBeDeleted")
	r.Want(patch("operator", `{"RoleId":"Administrator"}`), 200)
	r.Want(remove("admin"), 204) // oneself
	if got := r.Want(get(resource.AccountsURI, "operator"), 200).At("Members@odata.count"); got != 1.0 {
		t.Errorf("%v accounts, want 1", got)
	}
}

// The entity tag is that of what clients can change, so that a lock does not
// keep an administrator who has just read the account from changing it.
func TestLocked(t *testing.T) {
	r := newRig(t, nil)
	before := r.Want(get(uriOf("reader"), "admin"), 200)
	r.auth.lock("reader", true)
	now := r.Want(get(uriOf("reader"), "admin"), 200)
	if now.At("Locked") != true || now.Header.Get("ETag") != before.Header.Get("ETag") {
		t.Errorf("Locked %v, ETag %s, before %s", now.At("Locked"), now.Header.Get("ETag"), before.Header.Get("ETag"))
	}
	unlock := patch("reader", `{"Locked":false}`)
	unlock.Header = map[string]string{"If-Match": before.Header.Get("ETag")}
	if got := r.Want(unlock, 200).At("Locked"); got != false {
		t.Errorf("Locked: got %v, want false", got)
	}
	unlock.Header["If-Match"] += "foobar"
	r.Want(unlock, 412, "PreconditionFailed")
}

// Who has to change the password may do that and no more, be it the
// administrator (DSP0266, Password change required).
func TestPasswordChangeRequired(t *testing.T) {
	r := newRig(t, nil)
	r.admit(t, "reader")
	for _, user := range []string{"reader", "admin"} {
		if err := r.auth.SetPasswordChangeRequired(user, true, auth.Attempt{}); err != nil {
			t.Fatal(err)
		}
		call := func(method, whom, body string) redfishtest.Call {
			return redfishtest.Call{Method: method, URI: uriOf(whom), User: user, Body: body}
		}
		if got := r.Want(call("GET", user, ""), 200).At("PasswordChangeRequired"); got != true {
			t.Errorf("PasswordChangeRequired: got %v, want true", got)
		}
		for _, refused := range []redfishtest.Call{
			call("GET", "operator", ""),
			call("GET", "none", ""),
			call("PATCH", "operator", `{"Password":"another-pw"}`),
			call("PATCH", user, `{"PasswordChangeRequired":false}`),
			call("PATCH", user, `{"Password":"another-pw","Enabled":true}`),
			call("DELETE", user, ""),
		} {
			r.Want(refused, 403, "PasswordChangeRequired")
		}
		r.Want(call("PATCH", user, `{"Password":"`+user+`-pw"}`), 400, "PasswordComplexityNotMet") // it is the old one
		a := r.Want(call("PATCH", user, `{"Password":"another-pw"}`), 200)
		if got := a.At("PasswordChangeRequired"); got != false {
			t.Errorf("PasswordChangeRequired: got %v, want false", got)
		}
		r.Want(as(get(uriOf(user), ""), user, "another-pw"), 200)
	}
}
