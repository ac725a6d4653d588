package console

import (
	"strings"
	"testing"

	"github.com/nitrino/nitrino/auth"
)

// requireChange has a user change the password first.
func (f *fakeUsers) requireChange(name string, required bool) error {
	return f.edit(name, func(u *auth.User) { u.PasswordChangeRequired = required })
}

// TestPasswordChangeRequired: who has to change the password first can do that,
// find out how, and nothing else, whatever the role.
func TestPasswordChangeRequired(t *testing.T) {
	const refusal = "you have to change your password first: passwd\n"
	for _, user := range []string{"admin", "op", "ro"} {
		r := newRig(t, nil)
		if err := r.users.requireChange(user, true); err != nil {
			t.Fatal(err)
		}
		c := r.login(user)
		for _, name := range []string{"power", "power on", "console", "boot", "events", "version", "users", "users passwd " + user, "settings", "users list"} {
			if out, said, code := r.exec(c, name, "x-password\n"); code != denied || out != "" || !strings.HasSuffix(said, refusal) {
				t.Errorf("%s: %s: got %q, %q, %d; want %q, %d", user, name, out, said, code, refusal, denied)
			}
		}
		for _, name := range []string{"whoami", "help", "help power", "passwd --help", "exit"} {
			if _, said, code := r.exec(c, name, ""); code != 0 {
				t.Errorf("%s: %s: got %q, %d", user, name, said, code)
			}
		}
		if _, said, code := r.exec(c, "passwd", "another password\n"); code != 0 {
			t.Errorf("%s: passwd: got %q, %d", user, said, code)
		}
		if _, said, code := r.exec(c, "power", ""); code != 0 {
			t.Errorf("%s: power afterwards: got %q, %d", user, said, code)
		}
	}
}

// Who is told to change the password while at the host's console types no more.
func TestConsolePasswordChangeRequired(t *testing.T) {
	r := newRig(t, nil)
	x := r.terminal(r.login("op"), true, "console")
	x.expect(hint)
	x.typ("one")
	x.expect("one")
	if err := r.users.requireChange("op", true); err != nil {
		t.Fatal(err)
	}
	x.typ("two")
	x.expect("is not sent")
	if typed, _ := r.serial.seen(); typed != "one" {
		t.Errorf("the host got %q", typed)
	}
}
