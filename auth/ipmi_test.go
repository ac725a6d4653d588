package auth

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestIPMIAccess(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", Operator)
	if err := b.SetIPMISecret("bob", "secret of bob", boss); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		access IPMIAccess
		text   string
		known  bool
	}{
		{IPMIAccess{}, "as the role may", true},
		{IPMIAccess{Limit: CallbackLimit}, "callback", false},
		{IPMIAccess{Limit: NoIPMI}, "none", false},
		{IPMIAccess{NoMessaging: true}, "as the role may, no messaging", false},
		{IPMIAccess{Callback: true}, "as the role may, only called back", false},
		{IPMIAccess{LinkAuth: true, NoSOL: true, SessionLimit: 15}, "as the role may, link authentication, no serial console, 15 sessions", true},
	} {
		if err := b.SetIPMIAccess("bob", c.access, boss); err != nil {
			t.Fatal(err)
		}
		if got := c.access.String(); got != c.text {
			t.Errorf("got %q, want %q", got, c.text)
		}
		for _, when := range []string{"", ", after a restart"} {
			s, known := b.Secret(Attempt{Via: "ipmi", Source: here, Name: "bob"})
			if known != c.known || known && s.Role != Operator {
				t.Errorf("%v%s: got %v, %v, want known %v", c.access, when, s, known, c.known)
			}
			if u, _ := b.User("bob"); u.IPMIAccess != c.access {
				t.Errorf("%v%s: got access %v", c.access, when, u.IPMIAccess)
			}
			b.want("bob", here, good, nil) // nothing of it is about other ways in
			b.reopen(testKey)
		}
	}
}

// TestAccessNotUnderstood: a limit of a later release is not read as no limit.
func TestAccessNotUnderstood(t *testing.T) {
	for _, raw := range []string{
		`{"name":"bob","role":"Operator","ipmi_access":{"limit":"reads"}}`,
		`{"name":"bob","role":"Operator","ipmi_access":{"session_limit":99}}`,
	} {
		r, err := decodeRecord("bob", []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if r.Access.LogsIn() {
			t.Errorf("%s: got access %v", raw, r.Access)
		}
	}
}

func TestCheckIPMISecret(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", Operator)
	check := func(name, secret string, want bool) {
		t.Helper()
		if got := b.CheckIPMISecret(name, secret); got != want {
			t.Errorf("%s with secret %q: got %v, want %v", name, secret, got, want)
		}
	}
	check("bob", "", true)
	check("bob", "x", false)
	check("nobody", "", false)
	if err := b.SetIPMISecretSize("bob", "twenty characters!!!", 20, boss); err != nil {
		t.Fatal(err)
	}
	check("bob", "twenty characters!!!", true)
	check("bob", "twenty characters!!!!", false)
	check("bob", "twenty characters!!", false)
	check("bob", "", false)
	b.reopen(testKey)
	check("bob", "twenty characters!!!", true)
	if u, _ := b.User("bob"); u.IPMISecretSize != 20 {
		t.Errorf("got size %d, want 20", u.IPMISecretSize)
	}
	if err := b.SetIPMISecret("bob", "", boss); err != nil {
		t.Fatal(err)
	}
	if u, _ := b.User("bob"); u.IPMISecretSize != 0 || u.IPMI {
		t.Errorf("got size %d, secret %v after the secret was removed", u.IPMISecretSize, u.IPMI)
	}
	// A secret that does not open is not "no secret".
	if err := b.SetIPMISecret("bob", good, boss); err != nil {
		t.Fatal(err)
	}
	b.reopen([32]byte{9})
	check("bob", good, false)
	if err := b.Rename("bob", "robert", boss); err != nil {
		t.Fatal(err)
	}
	b.kinds()
	b.reopen(testKey)
	if got := b.kinds(); got != nil {
		t.Errorf("a lost secret went along to the new name: %v", got)
	}
}

// TestPrivilege: a script that raises its session each time makes one line, and
// another level, user or source another.
func TestPrivilege(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		bob := Attempt{Via: "ipmi", Source: here, Name: "bob"}
		for range 3 {
			b.Privilege(bob, "ADMINISTRATOR")
			time.Sleep(10 * time.Minute)
		}
		if got, want := b.reports, []Report{{Kind: "auth.privilege", Level: OK,
			Message: "The session of user bob was raised to ADMINISTRATOR.", Via: "ipmi", User: "bob", Source: "192.0.2.1"}}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		b.kinds()
		b.Privilege(bob, "OPERATOR")
		b.Privilege(Attempt{Via: "ipmi", Source: elsewhere, Name: "bob"}, "ADMINISTRATOR")
		b.Privilege(Attempt{Via: "ipmi", Source: here, Name: "ann"}, "ADMINISTRATOR")
		b.audit.login(bob) // a login is another thing
		time.Sleep(16 * time.Minute)
		b.Privilege(bob, "ADMINISTRATOR")
		want := []string{"auth.privilege", "auth.privilege", "auth.privilege", "auth.login", "auth.privilege"}
		if got := b.kinds(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
