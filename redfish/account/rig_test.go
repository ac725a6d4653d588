package account

import (
	"encoding/base64"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// users is the real list of users, and a test's word for who is locked.
type users struct {
	*auth.Auth
	mu     sync.Mutex
	locked map[string]bool
	fail   error // of SetIPMISecret and SetKeys, if set
}

func (a *users) Locked(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.locked[name]
}

func (a *users) Unlock(name string, _ auth.Attempt) { a.lock(name, false) }

func (a *users) lock(name string, locked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.locked[name] = locked
}

func (a *users) broken() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fail
}

func (a *users) breakDown(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail = err
}

func (a *users) SetIPMISecret(name, secret string, by auth.Attempt) error {
	if err := a.broken(); err != nil {
		return err
	}
	return a.Auth.SetIPMISecret(name, secret, by)
}

func (a *users) SetKeys(name string, keys []string, by auth.Attempt) error {
	if err := a.broken(); err != nil {
		return err
	}
	return a.Auth.SetKeys(name, keys, by)
}

// A rig is the chapter on a board with SSH and IPMI. Its users are admin,
// operator and reader, of whom the latter two get passwords from admit: hashes
// take their time.
type rig struct {
	*redfishtest.Rig
	auth *users
}

func newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	real, err := auth.Open(auth.Options{Store: db, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{auth: &users{Auth: real, locked: map[string]bool{}}}
	for _, u := range []auth.User{{Name: "admin", Role: auth.Administrator}, {Name: "operator", Role: auth.Operator}, {Name: "reader", Role: auth.ReadOnly}} {
		u.Enabled = true
		if err := real.Create(u, "", auth.Attempt{}); err != nil {
			t.Fatal(err)
		}
	}
	r.admit(t, "admin")
	here := func() bool { return true }
	o := Options{Auth: r.auth, Log: log, SSH: here, IPMI: here,
		SaveLockout: func(l auth.Lockout, from host.Origin) error {
			if from.Via != resource.Via || from.User != "admin" {
				t.Errorf("origin %+v", from)
			}
			return real.Configure(l)
		}}
	if change != nil {
		change(&o)
	}
	service, err := protocol.New(protocol.Options{Auth: r.auth, Log: log, Routes: New(o).Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	t.Cleanup(func() { // after the server's end
		r.Server.Close()
		if err := real.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// admit gives users the passwords that the rig logs in with.
func (r *rig) admit(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := r.auth.SetPassword(name, name+"-pw", auth.Attempt{}); err != nil {
			t.Fatal(err)
		}
	}
}

func uriOf(name string) string { return resource.AccountsURI + "/" + name }

func get(uri, user string) redfishtest.Call {
	return redfishtest.Call{Method: "GET", URI: uri, User: user}
}

func post(uri, body string) redfishtest.Call {
	return redfishtest.Call{Method: "POST", URI: uri, User: "admin", Body: body}
}

func patch(name, body string) redfishtest.Call {
	return redfishtest.Call{Method: "PATCH", URI: uriOf(name), User: "admin", Body: body}
}

// as logs a call in with another password than the rig's.
func as(c redfishtest.Call, name, password string) redfishtest.Call {
	c.User = ""
	c.Header = map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))}
	return c
}

// secretIs says whether that is the user's IPMI secret ("": none).
func (r *rig) secretIs(t *testing.T, name, secret string) {
	t.Helper()
	if !r.auth.CheckIPMISecret(name, secret) {
		t.Errorf("the IPMI secret of %s is not %q", name, secret)
	}
}
