package user

import (
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

// TestIpmitool sends what ipmitool does for these commands, in their order.
func TestIpmitool(t *testing.T) {
	r := newRig(t)
	r.ask("user set name 3 bob", "00h", 0x45, append([]byte{3}, padded("bob", 16)...)...)
	r.tells("user set name", "auth.user-created")
	if u, _ := r.auth.User("bob"); u.Number != 3 || u.Role != auth.ReadOnly || u.Enabled || u.IPMI {
		t.Errorf("got new user %+v, want number 3, ReadOnly, disabled, without a secret", u)
	}
	r.ask("user set password 3 secret 20", "00h", 0x47, append([]byte{0x83, 2}, padded("secret", 20)...)...)
	r.tells("user set password", "auth.ipmi-secret-changed")
	r.gets("channel setaccess asks", []byte{17, 0x81, 1, 0x12}, 0x44, 1, 3)
	r.ask("channel setaccess 1 3 callin=off ipmi=on link=on privilege=4", "00h", 0x43, 0x80|0x40|0x20|0x10|1, 3, 4, 0)
	r.tells("channel setaccess", "auth.role-changed", "auth.ipmi-access-changed")
	r.ask("channel setaccess 1 3 callin=on ipmi=on link=on privilege=4", "00h", 0x43, 0x80|0x20|0x10|1, 3, 4, 0)
	r.tells("channel setaccess", "auth.ipmi-access-changed")
	r.ask("user enable 3", "00h", 0x47, append([]byte{3, 1}, padded("", 16)...)...)
	r.tells("user enable", "auth.user-enabled")
	r.ask("user test 3 20 secret", "00h", 0x47, append([]byte{0x83, 3}, padded("secret", 20)...)...)
	r.ask("user test 3 20 wrong", "80h", 0x47, append([]byte{0x83, 3}, padded("wrong", 20)...)...)
	r.ask("user test 3 16 secret", "81h", 0x47, append([]byte{3, 3}, padded("secret", 16)...)...)
	s, known := r.auth.Secret(auth.Attempt{Via: "ipmi", Name: "bob"})
	if !known || s.Role != auth.Administrator || string(s.Key[:]) != string(padded("secret", 20)) {
		t.Errorf("bob does not log in: got %v, %v", s, known)
	}

	// user list 1
	for id := byte(1); id <= 17; id++ {
		access, name := []byte{17, 0x80 | 2, 1, 0x0F}, ""
		switch id {
		case 2:
			access, name = []byte{17, 0x40 | 2, 1, 0x14}, "admin"
		case 3:
			access, name = []byte{17, 0x40 | 2, 1, 0x34}, "bob"
		}
		r.gets("user list asks for access", access, 0x44, 1, id)
		r.gets("user list asks for the name", padded(name, 16), 0x46, id)
	}
	r.gets("user summary 1", []byte{17, 0x80 | 2, 1, 0x0F}, 0x44, 1, 1)

	r.ask("user priv 3 2", "00h", 0x43, 0x0E, 3, 2, 0)
	r.tells("user priv 2", "auth.role-changed")
	r.gets("after user priv 3 2", []byte{17, 0x42, 1, 0x32}, 0x44, 0x0E, 3)
	r.ask("user priv 3 15", "00h", 0x43, 0x0E, 3, 15, 0)
	r.tells("user priv 15", "auth.ipmi-access-changed")
	r.gets("after user priv 3 15", []byte{17, 0x42, 1, 0x3F}, 0x44, 0x0E, 3)
	if _, known := r.auth.Secret(auth.Attempt{Via: "ipmi", Name: "bob"}); known {
		t.Error("bob logs in without access")
	}
	r.gets("sol payload status 1 3", []byte{2, 0, 0, 0}, 0x4D, 1, 3)
	r.ask("sol payload disable 1 3", "00h", 0x4C, 1, 0x43, 2, 0, 0, 0)
	r.tells("sol payload disable", "auth.ipmi-access-changed")
	r.gets("sol payload status 1 3", []byte{0, 0, 0, 0}, 0x4D, 1, 3)
	r.ask("sol payload enable 1 3", "00h", 0x4C, 1, 3, 2, 0, 0, 0)
	r.tells("sol payload enable", "auth.ipmi-access-changed")

	r.ask("user disable 3", "00h", 0x47, append([]byte{3, 0}, padded("", 16)...)...)
	r.tells("user disable", "auth.user-disabled")
	r.ask("user set name 3 rob", "00h", 0x45, append([]byte{3}, padded("rob", 16)...)...)
	r.tells("another name", "auth.user-renamed")
	r.ask(`user set name 3 ""`, "00h", 0x45, append([]byte{3}, padded("", 16)...)...)
	r.tells("no name", "auth.user-deleted")
	r.gets("user set name", padded("", 16), 0x46, 3)
}

// section is what FreeIPMI's ipmi-config reads of a user in a checkout.
type section struct {
	name    string
	enabled bool
	access  byte
	sol     bool
}

func (r *rig) checkout(id byte) (s section) {
	r.t.Helper()
	name, _ := text(r.ask("Username", "00h", 0x46, id))
	access := r.ask("Enable_User", "00h", 0x44, 1, id)
	sol := r.ask("SOL_Payload_Access", "00h", 0x4D, 1, id)
	return section{name, access[1]>>6 == 1, access[3], sol[0] == 2}
}

// commit sends what ipmi-config does for a section; a password of "-" is one
// that is left out of the file, as in a checkout.
func (r *rig) commit(id byte, s section, password string) {
	r.t.Helper()
	if id != 1 {
		r.ask("Username", "00h", 0x45, append([]byte{id}, padded(s.name, 16)...)...)
	}
	if password != "-" {
		size, bit := 16, byte(0)
		if len(password) > 16 {
			size, bit = 20, 0x80
		}
		r.ask("Password", "00h", 0x47, append([]byte{bit | id, 2}, padded(password, size)...)...)
	}
	operation := byte(0)
	if s.enabled {
		operation = 1
	}
	r.ask("Enable_User", "00h", 0x47, id, operation)
	// Each key reads the access, changes its part, and writes all.
	for _, mask := range []byte{ipmiMessaging, linkAuth, callbackOnly, 0x0F, 0} {
		now := r.ask("Get User Access", "00h", 0x44, 1, id)[3]
		b := now&^mask | s.access&mask
		r.ask("Set User Access", "00h", 0x43, 0x80|b&0x70|1, id, b&0x0F, 0)
	}
	operation = 0x40
	if s.sol {
		operation = 0
	}
	r.ask("SOL_Payload_Access", "00h", 0x4C, 1, operation|id, 2, 0, 0, 0)
}

func TestFreeIPMI(t *testing.T) {
	r := newRig(t)
	r.must(r.auth.Create(auth.User{Name: "eve", Role: auth.Operator, Number: 9,
		IPMIAccess: auth.IPMIAccess{Limit: auth.CallbackLimit, NoMessaging: true, NoSOL: true}}, "", auth.Attempt{}))
	r.told()
	// A commit of a checkout changes nothing, not even for IDs that nobody has,
	// and ends no session.
	before := r.auth.Users()
	for id := byte(1); id <= 17; id++ {
		r.commit(id, r.checkout(id), "-")
	}
	r.tells("commit of a checkout")
	for i, u := range r.auth.Users() {
		if u.IPMIVersion != before[i].IPMIVersion {
			t.Errorf("the sessions of %s ended", u.Name)
		}
	}

	// A user who is not there is made; before, the tool asks whether passwords
	// can be so long.
	r.ask("a long password", "80h", 0x47, append([]byte{0x84, 3}, padded("foobar", 20)...)...)
	bob := section{"bob", true, ipmiMessaging | 3, true}
	r.commit(4, bob, "longer than 16 bytes")
	if got := r.checkout(4); got != bob {
		t.Errorf("got %+v, want %+v", got, bob)
	}
	if u, _ := r.auth.User("bob"); u.Role != auth.Operator || u.IPMISecretSize != 20 || !r.auth.CheckIPMISecret("bob", "longer than 16 bytes") {
		t.Errorf("got %+v", u)
	}
	r.tells("a new user", "auth.user-created", "auth.ipmi-secret-changed", "auth.user-enabled", "auth.role-changed")
	r.commit(4, bob, "longer than 16 bytes")
	r.tells("the same again")
	// diff
	r.ask("Password", "00h", 0x47, append([]byte{0x84, 3}, padded("longer than 16 bytes", 20)...)...)
	r.ask("Password", "81h", 0x47, append([]byte{0x04, 3}, padded("another", 16)...)...)
	// Enable_User retries with a password of 16 bytes on a board that wants one.
	r.ask("Enable_User", "00h", 0x47, append([]byte{4, 1}, padded("", 16)...)...)

	// The section of an ID that nobody had deletes the user.
	r.commit(4, section{"", false, 0x0F, false}, "")
	r.tells("no user", "auth.user-deleted")
	if _, found := r.auth.User("bob"); found {
		t.Error("bob is still there")
	}
}

func TestLastAdministrator(t *testing.T) {
	r := newRig(t)
	for what, c := range map[string]struct {
		cmd  byte
		data []byte
	}{
		"deleted":  {0x45, append([]byte{2}, padded("", 16)...)},
		"disabled": {0x47, []byte{2, 0}},
		"demoted":  {0x43, []byte{0x91, 2, 3, 5}},
	} {
		r.ask(what, "D5h", c.cmd, c.data...)
		r.tells(what, "auth.change-refused")
	}
	if u, _ := r.auth.User("admin"); u.Role != auth.Administrator || !u.Enabled || u.IPMIAccess != (auth.IPMIAccess{}) {
		t.Errorf("got %+v", u)
	}
	// SSH is still there, so IPMI may go.
	r.ask("no access", "00h", 0x43, 0x01, 2, 0x0F)
	r.tells("no access", "auth.ipmi-access-changed")

	// One whom IPMI made has no other way in.
	r.must(r.auth.Create(auth.User{Name: "bob", Role: auth.Administrator, Enabled: true}, "", auth.Attempt{}))
	r.must(r.auth.SetIPMISecret("bob", "secret of bob", auth.Attempt{}))
	r.must(r.auth.Delete("admin", auth.Attempt{}))
	r.told()
	r.ask("the only secret", "D5h", 0x47, append([]byte{3, 2}, padded("", 16)...)...)
	r.tells("the only secret", "auth.change-refused")
	r.ask("the only access", "D5h", 0x43, 0x81, 3, 4)
	r.tells("the only access", "auth.change-refused")
}

// TestAcrossRestart: numbers, access and the password's size stay.
func TestAcrossRestart(t *testing.T) {
	r := newRig(t)
	r.commit(17, section{"bob", true, linkAuth | ipmiMessaging | 2, false}, "16 bytes or less")
	r.ask("session limit", "00h", 0x43, 0x01, 17, 2, 5)
	r.open()
	if got, want := r.checkout(17), (section{"bob", true, linkAuth | ipmiMessaging | 2, false}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if u, _ := r.auth.User("bob"); u.IPMIAccess.SessionLimit != 5 {
		t.Errorf("got session limit %d, want 5", u.IPMIAccess.SessionLimit)
	}
	r.ask("password as one of 20 bytes", "81h", 0x47, append([]byte{0x91, 3}, padded("16 bytes or less", 20)...)...)
	r.ask("password", "00h", 0x47, append([]byte{0x11, 3}, padded("16 bytes or less", 16)...)...)
}

func TestCodes(t *testing.T) {
	r := newRig(t)
	r.must(r.auth.Create(auth.User{Name: "bob", Role: auth.ReadOnly, Number: 3}, "", auth.Attempt{}))
	r.told()
	for _, c := range []struct {
		what, want string
		cmd        byte
		data       []byte
	}{
		{"access on another channel", "CCh", 0x44, []byte{2, 2}},
		{"access of ID 0", "CCh", 0x44, []byte{1, 0}},
		{"access of ID 18", "C9h", 0x44, []byte{1, 18}},
		{"access of nobody in particular", "C7h", 0x44, []byte{1}},
		{"set access on another channel", "CCh", 0x43, []byte{0x80, 3, 2}},
		{"set access of ID 0", "CCh", 0x43, []byte{0x01, 0, 2}},
		{"set access of ID 63", "C9h", 0x43, []byte{0x01, 63, 2}},
		{"reserved privilege", "CCh", 0x43, []byte{0x01, 3, 0}},
		{"OEM privilege", "CCh", 0x43, []byte{0x01, 3, 5}},
		{"privilege of nobody", "CCh", 0x43, []byte{0x01, 4, 2}},
		{"privilege of the anonymous user", "CCh", 0x43, []byte{0x01, 1, 4, 0}},
		{"messages of nobody", "CCh", 0x43, []byte{0x91, 4, 0x0F}},
		{"nothing of nobody", "00h", 0x43, []byte{0x81, 4, 0x0F}},
		{"set access without privilege", "C7h", 0x43, []byte{0x01, 3}},
		{"name of ID 0", "CCh", 0x46, []byte{0}},
		{"name of ID 18", "C9h", 0x46, []byte{18}},
		{"set name of ID 0", "CCh", 0x45, append([]byte{0}, padded("eve", 16)...)},
		{"a name for the anonymous user", "CCh", 0x45, append([]byte{1}, padded("eve", 16)...)},
		{"no name for the anonymous user", "00h", 0x45, append([]byte{1}, padded("", 16)...)},
		{"a name that is taken", "CCh", 0x45, append([]byte{4}, padded("admin", 16)...)},
		{"another's name", "CCh", 0x45, append([]byte{3}, padded("admin", 16)...)},
		{"the same name", "00h", 0x45, append([]byte{3}, padded("bob", 16)...)},
		{"a bad name", "CCh", 0x45, append([]byte{4}, padded("b b", 16)...)},
		{"something after the name", "CCh", 0x45, append([]byte{4}, padded("a\x00b", 16)...)},
		{"only something after the name", "CCh", 0x45, append([]byte{3}, padded("\x00b", 16)...)},
		{"half a name", "C7h", 0x45, []byte{4, 'a'}},
		{"password of ID 0", "CCh", 0x47, append([]byte{0, 2}, padded("secret", 16)...)},
		{"password of ID 18", "C9h", 0x47, append([]byte{18, 2}, padded("secret", 16)...)},
		{"password of nobody", "CCh", 0x47, append([]byte{4, 2}, padded("secret", 16)...)},
		{"password of the anonymous user", "CCh", 0x47, append([]byte{1, 2}, padded("secret", 16)...)},
		{"no password of nobody", "00h", 0x47, append([]byte{4, 2}, padded("", 16)...)},
		{"no password", "00h", 0x47, append([]byte{3, 2}, padded("", 16)...)},
		{"test of no password", "00h", 0x47, append([]byte{3, 3}, padded("", 16)...)},
		{"a password with control characters", "CCh", 0x47, append([]byte{3, 2}, padded("a\nb", 16)...)},
		{"something after the password", "CCh", 0x47, append([]byte{3, 2}, padded("a\x00b", 16)...)},
		{"test with something after the password", "80h", 0x47, append([]byte{3, 3}, padded("\x00b", 16)...)},
		{"a short password's bytes for a long one", "C7h", 0x47, append([]byte{0x83, 2}, padded("secret", 16)...)},
		{"a long password's bytes for a short one", "C7h", 0x47, append([]byte{3, 2}, padded("secret", 20)...)},
		{"no password's bytes", "C7h", 0x47, []byte{3, 2}},
		{"test without a password's bytes", "C7h", 0x47, []byte{3, 3}},
		{"enable with odd bytes", "C7h", 0x47, []byte{3, 1, 0}},
		{"enable nobody", "CCh", 0x47, []byte{4, 1}},
		{"enable the anonymous user", "CCh", 0x47, []byte{1, 1}},
		{"disable nobody", "00h", 0x47, []byte{4, 0}},
		{"payloads on another channel", "CCh", 0x4D, []byte{0, 3}},
		{"payloads of ID 0", "CCh", 0x4D, []byte{1, 0}},
		{"set payloads on another channel", "CCh", 0x4C, []byte{0, 3, 2, 0, 0, 0}},
		{"reserved payload operation", "CCh", 0x4C, []byte{1, 0x83, 2, 0, 0, 0}},
		{"a payload that is not there", "CCh", 0x4C, []byte{1, 3, 4, 0, 0, 0}},
		{"an OEM payload", "CCh", 0x4C, []byte{1, 3, 2, 0, 1, 0}},
		{"payloads of nobody", "CCh", 0x4C, []byte{1, 4, 2, 0, 0, 0}},
		{"no payloads of nobody", "00h", 0x4C, []byte{1, 0x44, 2, 0, 0, 0}},
		{"no change of payloads", "00h", 0x4C, []byte{1, 3, 0, 0, 0, 0}},
		{"set payloads of ID 18", "C9h", 0x4C, []byte{1, 18, 2, 0, 0, 0}},
	} {
		r.ask(c.what, c.want, c.cmd, c.data...)
		r.tells(c.what)
	}
}

// TestSecretsOfOtherFrontEnds: the size of a secret that IPMI did not set is
// any that it fits in.
func TestSecretsOfOtherFrontEnds(t *testing.T) {
	r := newRig(t)
	r.ask("16", "00h", 0x47, append([]byte{2, 3}, padded("secret of admin", 16)...)...)
	r.ask("20", "00h", 0x47, append([]byte{0x82, 3}, padded("secret of admin", 20)...)...)
	r.must(r.auth.SetIPMISecret("admin", "twenty characters!!!", auth.Attempt{}))
	r.ask("20", "00h", 0x47, append([]byte{0x82, 3}, padded("twenty characters!!!", 20)...)...)
	r.ask("16", "80h", 0x47, append([]byte{2, 3}, padded("twenty characters!!!", 16)...)...)
}

// TestStoreFails: what was not kept is not said to be done.
func TestStoreFails(t *testing.T) {
	r := newRig(t)
	r.must(r.db.Close())
	r.ask("name", "FFh", 0x45, append([]byte{3}, padded("bob", 16)...)...)
	r.ask("password", "FFh", 0x47, append([]byte{2, 2}, padded("secret", 16)...)...)
	r.ask("access", "FFh", 0x43, 0xB1, 2, 4)
	r.tells("nothing")
}

// TestCommands: only what is wired is there, and nobody but administrators
// changes anything.
func TestCommands(t *testing.T) {
	var got []byte
	for _, c := range New(Options{}).Commands() {
		got = append(got, c.Cmd)
	}
	if want := []byte{0x43, 0x44, 0x45, 0x46, 0x47, 0x4C, 0x4D}; !slices.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	for _, c := range newRig(t).list {
		if (c.Conduct == command.Waits) != (c.Privilege == command.Administrator) {
			t.Errorf("%s has conduct %d for %v", c.Name, c.Conduct, c.Privilege)
		}
	}
}

// slowUsers take their time to answer, as a card does.
type slowUsers struct{ *auth.Auth }

func (s slowUsers) ByNumber(n int) (auth.User, bool) {
	u, ok := s.Auth.ByNumber(n)
	time.Sleep(20 * time.Millisecond)
	return u, ok
}

// TestTwoConsoles: what two consoles change at once is both there in the end.
func TestTwoConsoles(t *testing.T) {
	r := newRig(t)
	list := New(Options{Users: slowUsers{r.auth}, Log: r.log}).Commands()
	var consoles sync.WaitGroup
	for _, x := range []struct {
		cmd  byte
		data []byte
	}{
		{0x43, []byte{0x01, 2, 4, 5}},             // five sessions
		{0x4C, []byte{0x01, 0x42, 0x02, 0, 0, 0}}, // no serial console
	} {
		consoles.Go(func() {
			if code, _ := commandtest.Call(t, list, app, x.cmd, x.data...); code != command.OK {
				t.Errorf("command %02Xh: %v", x.cmd, code)
			}
		})
	}
	consoles.Wait()
	u, _ := r.auth.ByNumber(2)
	if want := (auth.IPMIAccess{NoSOL: true, SessionLimit: 5}); u.IPMIAccess != want {
		t.Errorf("got %+v, want %+v", u.IPMIAccess, want)
	}
}

// TestOriginWithoutAddress: a source that is no address is left out of the trail.
func TestOriginWithoutAddress(t *testing.T) {
	o := commandtest.Origin()
	o.Source = "the panel"
	if got := by(o); got.Source.IsValid() || got.Name != o.User || got.Via != o.Via {
		t.Errorf("got %+v", got)
	}
}

// fuzzUsers is a list that no disk slows down.
type fuzzUsers struct{ all [auth.MaxNumber + 1]auth.User }

func (f *fuzzUsers) ByNumber(n int) (auth.User, bool) {
	if n < auth.MinNumber || n > auth.MaxNumber {
		return auth.User{}, false
	}
	return f.all[n], f.all[n].Name != ""
}
func (f *fuzzUsers) Users() []auth.User { return f.all[auth.MinNumber:] }
func (f *fuzzUsers) Create(u auth.User, _ string, _ auth.Attempt) error {
	if u.Number < auth.MinNumber || u.Number > auth.MaxNumber || u.Name == "" {
		return auth.ErrInvalid
	}
	f.all[u.Number] = u
	return nil
}
func (f *fuzzUsers) edit(name string, change func(*auth.User)) error {
	for i := range f.all {
		if f.all[i].Name == name && name != "" {
			change(&f.all[i])
			return nil
		}
	}
	return auth.ErrNotFound
}
func (f *fuzzUsers) Delete(name string, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { *u = auth.User{} })
}
func (f *fuzzUsers) Rename(name, to string, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.Name = to })
}
func (f *fuzzUsers) SetRole(name string, r auth.Role, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.Role = r })
}
func (f *fuzzUsers) SetEnabled(name string, on bool, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.Enabled = on })
}
func (f *fuzzUsers) SetIPMIAccess(name string, x auth.IPMIAccess, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.IPMIAccess = x })
}
func (f *fuzzUsers) SetIPMISecretSize(name, _ string, size int, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.IPMISecretSize = size })
}
func (f *fuzzUsers) CheckIPMISecret(_, secret string) bool { return secret == "secret" }

func FuzzCommands(f *testing.F) {
	m := New(Options{Users: &fuzzUsers{}, Channel: newChannel(), Keys: &fakeKeys{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	f.Add(uint8(2), append([]byte{3}, padded("bob", 16)...))
	f.Add(uint8(4), append([]byte{0x83, 2}, padded("secret", 20)...))
	f.Add(uint8(0), []byte{0xF1, 3, 4, 0})
	f.Add(uint8(7), []byte{1, 0x42, 0x84})
	f.Add(uint8(9), append([]byte{1, 1, 1}, padded("key", 20)...))
	commandtest.Fuzz(f, m.Commands())
}
