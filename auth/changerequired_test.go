package auth

import (
	"errors"
	"testing"

	"github.com/nitrino/nitrino/internal/store"
)

func TestPasswordChangeRequired(t *testing.T) {
	b := newBench(t)
	own := Attempt{Via: "redfish", Source: here, Name: "bob"}
	if err := b.Create(User{Name: "root", Role: Administrator, Enabled: true}, good, boss); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(User{Name: "bob", Role: Operator, Enabled: true, PasswordChangeRequired: true}, good, boss); err != nil {
		t.Fatal(err)
	}
	u, err := b.Password(t.Context(), own, good)
	if err != nil || !u.PasswordChangeRequired {
		t.Fatalf("login: got %+v, %v, want one that has to change the password", u, err)
	}
	required := func(when string, want bool) {
		t.Helper()
		if u, _ := b.User("bob"); u.PasswordChangeRequired != want {
			t.Errorf("%s: got %v, want %v", when, u.PasswordChangeRequired, want)
		}
	}
	if err := b.SetPassword("bob", good, own); !errors.Is(err, ErrInvalid) {
		t.Errorf("the same password: got %v, want %v", err, ErrInvalid)
	}
	required("after the same password", true)
	if err := b.SetPassword("bob", bad, boss); err != nil {
		t.Fatal(err)
	}
	required("after an administrator's change", true)
	b.reopen(testKey)
	required("after a restart", true)
	if err := b.SetPassword("bob", good, own); err != nil {
		t.Fatal(err)
	}
	required("after the user's change", false)

	// An open session stays and learns of it.
	if u, err = b.Password(t.Context(), own, good); err != nil {
		t.Fatal(err)
	}
	_, token, err := b.NewSession(u, own)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, true, false} {
		if err := b.SetPasswordChangeRequired("bob", want, boss); err != nil {
			t.Fatal(err)
		}
		if _, u, ok := b.Session(token); !ok || u.PasswordChangeRequired != want {
			t.Errorf("session: got %v, %v, want %v", ok, u.PasswordChangeRequired, want)
		}
	}
	if err := b.SetPasswordChangeRequired("nobody", true, boss); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody: got %v, want %v", err, ErrNotFound)
	}
	counts := map[string]int{}
	b.mu.Lock()
	for _, r := range b.reports {
		counts[r.Kind]++
	}
	b.mu.Unlock()
	if counts["auth.password-change-required"] != 1 || counts["auth.password-change-waived"] != 1 || counts["auth.password-changed"] != 2 {
		t.Errorf("got reports %v", counts)
	}
}

func TestCopyUsers(t *testing.T) {
	from, to := newBench(t), newBench(t)
	if err := from.Create(User{Name: "bob", Role: Administrator, Enabled: true}, good, boss); err != nil {
		t.Fatal(err)
	}
	if err := from.SetIPMISecret("bob", "ipmi-secret", boss); err != nil {
		t.Fatal(err)
	}
	err := to.db.Update(func(into store.Tx) error {
		return from.db.View(func(out store.Tx) error { return CopyUsers(into, out) })
	})
	if err != nil {
		t.Fatal(err)
	}
	to.reopen(testKey)
	if u, err := to.Password(t.Context(), Attempt{Name: "bob"}, good); err != nil || !u.IPMI {
		t.Errorf("got %+v, %v, want bob with an IPMI secret", u, err)
	}
}
