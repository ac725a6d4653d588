package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/nitrino/nitrino/internal/store"
)

// bench is an Auth with a cheap hash that counts, and the audit trail it wrote.
type bench struct {
	*Auth
	t      *testing.T
	db     *store.Store
	hashes atomic.Int64

	mu      sync.Mutex
	reports []Report
}

var (
	testKey   = [32]byte{1, 2, 3}
	testCost  = cost{memory: 8, passes: 1, threads: 1}
	here      = netip.MustParseAddr("192.0.2.1")
	elsewhere = netip.MustParseAddr("198.51.100.7")
	boss      = Attempt{Via: "redfish", Source: here, Name: "root"}
)

const good, bad = "correct horse", "battery staple"

func newBench(t *testing.T) *bench {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // some tests close it themselves
	b := &bench{t: t, db: db}
	b.reopen(testKey)
	return b
}

// reopen is a restart of the board's software.
func (b *bench) reopen(key [32]byte) {
	b.t.Helper()
	if b.Auth != nil {
		b.close()
	}
	h := newHasher(testCost, func(c cost, password, salt []byte, n int) []byte {
		b.hashes.Add(1)
		return argon2.IDKey(password, salt, c.passes, c.memory, c.threads, uint32(n))
	})
	h.collect, h.release = func() {}, func() {}
	a, err := open(Options{Store: b.db, SealKey: key, Report: b.take}, h)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Auth = a
	b.t.Cleanup(b.close)
}

func (b *bench) close() {
	if err := b.Close(); err != nil {
		b.t.Error(err)
	}
}

func (b *bench) take(r Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, r)
}

// kinds returns the kinds of the reports since the last call.
func (b *bench) kinds() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var kinds []string
	for _, r := range b.reports {
		kinds = append(kinds, r.Kind)
	}
	b.reports = nil
	return kinds
}

func (b *bench) create(name string, role Role) {
	b.t.Helper()
	if err := b.Create(User{Name: name, Role: role, Enabled: true}, good, boss); err != nil {
		b.t.Fatal(err)
	}
}

// try logs in and returns how many hashes that took.
func (b *bench) try(name string, from netip.Addr, password string) (hashes int, err error) {
	before := b.hashes.Load()
	u, err := b.Password(context.Background(), Attempt{Via: "ssh", Source: from, Name: name}, password)
	if err == nil && u.Name != name || err != nil && u.Name != "" {
		b.t.Errorf("login as %q: got user %q with error %v", name, u.Name, err)
	}
	return int(b.hashes.Load() - before), err
}

func (b *bench) want(name string, from netip.Addr, password string, want error) {
	b.t.Helper()
	if _, err := b.try(name, from, password); err != want {
		b.t.Errorf("login as %q from %v with %q: got %v, want %v", name, from, password, err, want)
	}
}

func (b *bench) fail(name string, from netip.Addr, times int) {
	b.t.Helper()
	for range times {
		b.want(name, from, bad, ErrDenied)
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		role, need Role
		want       bool
	}{
		{Administrator, Administrator, true}, {Administrator, Operator, true}, {Administrator, ReadOnly, true},
		{Operator, Administrator, false}, {Operator, Operator, true}, {Operator, ReadOnly, true},
		{ReadOnly, Operator, false}, {ReadOnly, ReadOnly, true},
		{"", ReadOnly, false}, {"root", ReadOnly, false}, {"", "", false}, {Administrator, "", false}, {Administrator, "root", false},
	} {
		if got := c.role.AtLeast(c.need); got != c.want {
			t.Errorf("%q.AtLeast(%q): got %v, want %v", c.role, c.need, got, c.want)
		}
	}
}

func TestChecks(t *testing.T) {
	password := func(s string) error { return checkPassword(s, MinPassword) }
	secret := func(s string) error { return checkIPMISecret(s, MinIPMISecret) }
	for _, c := range []struct {
		what  string
		check func(string) error
		value string
		ok    bool
	}{
		{"name", checkName, "a", true},
		{"name", checkName, "_svc.backup-1", true},
		{"name", checkName, "abcdefghijklmnop", true},
		{"name", checkName, "abcdefghijklmnopq", false},
		{"name", checkName, "", false},
		{"name", checkName, "1a", false},
		{"name", checkName, "-a", false},
		{"name", checkName, "a b", false},
		{"name", checkName, "a\x00", false},
		{"name", checkName, "é", false},
		{"name", checkName, "a@b", false},
		{"password", password, "1234567", false},
		{"password", password, "12345678", true},
		{"password", password, strings.Repeat("é", 64), true},
		{"password", password, strings.Repeat("x", 129), false},
		{"password", password, "1234567\n", false},
		{"password", password, "1234567\xff", false},
		{"secret", secret, "1234567", false},
		{"secret", secret, "12345678", true},
		{"secret", secret, strings.Repeat("x", 20), true},
		{"secret", secret, strings.Repeat("x", 21), false},
		{"secret", secret, "1234567\x00", false},
		{"secret", secret, "1234567é", false},
	} {
		err := c.check(c.value)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s %q: got %v, want ok %v", c.what, c.value, err, c.ok)
		}
	}
}

func TestUserChanges(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", ReadOnly)
	b.kinds()
	for _, c := range []struct {
		what string
		do   func() error
		want error
		kind string
	}{
		{"create again", func() error { return b.Create(User{Name: "bob", Role: Operator}, good, boss) }, ErrExists, ""},
		{"create with a bad name", func() error { return b.Create(User{Name: "b b", Role: Operator}, good, boss) }, ErrInvalid, ""},
		{"create with a bad role", func() error { return b.Create(User{Name: "eve", Role: "Root"}, good, boss) }, ErrInvalid, ""},
		{"create with a short password", func() error { return b.Create(User{Name: "eve", Role: Operator}, "short", boss) }, ErrInvalid, ""},
		{"create with a bad key", func() error {
			return b.Create(User{Name: "eve", Role: Operator, Keys: []string{"ssh-rsa x"}}, good, boss)
		}, ErrInvalid, ""},
		{"delete nobody", func() error { return b.Delete("eve", boss) }, ErrNotFound, ""},
		{"role of nobody", func() error { return b.SetRole("eve", Operator, boss) }, ErrNotFound, ""},
		{"password of nobody", func() error { return b.SetPassword("eve", good, boss) }, ErrNotFound, ""},
		{"secret of nobody", func() error { return b.SetIPMISecret("eve", good, boss) }, ErrNotFound, ""},
		{"keys of nobody", func() error { return b.SetKeys("eve", nil, boss) }, ErrNotFound, ""},
		{"bad role", func() error { return b.SetRole("bob", "Root", boss) }, ErrInvalid, ""},
		{"empty password", func() error { return b.SetPassword("bob", "", boss) }, ErrInvalid, ""},
		{"short secret", func() error { return b.SetIPMISecret("bob", "short", boss) }, ErrInvalid, ""},
		{"bad keys", func() error { return b.SetKeys("bob", []string{"no key"}, boss) }, ErrInvalid, ""},
		{"last administrator deleted", func() error { return b.Delete("root", boss) }, ErrLastAdministrator, "auth.change-refused"},
		{"last administrator demoted", func() error { return b.SetRole("root", Operator, boss) }, ErrLastAdministrator, "auth.change-refused"},
		{"last administrator disabled", func() error { return b.SetEnabled("root", false, boss) }, ErrLastAdministrator, "auth.change-refused"},
		{"same role", func() error { return b.SetRole("bob", ReadOnly, boss) }, nil, ""},
		{"same state", func() error { return b.SetEnabled("bob", true, boss) }, nil, ""},
		{"no secret to remove", func() error { return b.SetIPMISecret("bob", "", boss) }, nil, ""},
		{"new role", func() error { return b.SetRole("bob", Administrator, boss) }, nil, "auth.role-changed"},
		{"one of two administrators disabled", func() error { return b.SetEnabled("bob", false, boss) }, nil, "auth.user-disabled"},
		{"the other, enabled one demoted", func() error { return b.SetRole("root", Operator, boss) }, ErrLastAdministrator, "auth.change-refused"},
		{"enabled", func() error { return b.SetEnabled("bob", true, boss) }, nil, "auth.user-enabled"},
		{"password", func() error { return b.SetPassword("bob", bad, boss) }, nil, "auth.password-changed"},
		{"secret", func() error { return b.SetIPMISecret("bob", good, boss) }, nil, "auth.ipmi-secret-changed"},
		{"the same secret", func() error { return b.SetIPMISecret("bob", good, boss) }, nil, ""},
		{"the same secret as one of 16", func() error { return b.SetIPMISecretSize("bob", good, 16, boss) }, nil, "auth.ipmi-secret-changed"},
		{"secret of another size", func() error { return b.SetIPMISecretSize("bob", good, 8, boss) }, ErrInvalid, ""},
		{"secret too long for its size", func() error { return b.SetIPMISecretSize("bob", "17 characters now", 16, boss) }, ErrInvalid, ""},
		{"IPMI access", func() error { return b.SetIPMIAccess("bob", IPMIAccess{NoSOL: true}, boss) }, nil, "auth.ipmi-access-changed"},
		{"the same IPMI access", func() error { return b.SetIPMIAccess("bob", IPMIAccess{NoSOL: true}, boss) }, nil, ""},
		{"bad IPMI limit", func() error { return b.SetIPMIAccess("bob", IPMIAccess{Limit: "all"}, boss) }, ErrInvalid, ""},
		{"bad session limit", func() error { return b.SetIPMIAccess("bob", IPMIAccess{SessionLimit: 16}, boss) }, ErrInvalid, ""},
		{"IPMI access of nobody", func() error { return b.SetIPMIAccess("eve", IPMIAccess{}, boss) }, ErrNotFound, ""},
		{"keys", func() error { return b.SetKeys("bob", []string{ed25519Line}, boss) }, nil, "auth.keys-changed"},
		{"name taken", func() error { return b.Rename("bob", "root", boss) }, ErrExists, ""},
		{"bad name", func() error { return b.Rename("bob", "b b", boss) }, ErrInvalid, ""},
		{"name of nobody", func() error { return b.Rename("eve", "adam", boss) }, ErrNotFound, ""},
		{"same name", func() error { return b.Rename("bob", "bob", boss) }, nil, ""},
		{"one of two administrators deleted", func() error { return b.Delete("root", boss) }, nil, "auth.user-deleted"},
		{"name", func() error { return b.Rename("bob", "robert", boss) }, nil, "auth.user-renamed"},
	} {
		changed := b.Changed()
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
		if got := strings.Join(b.kinds(), " "); got != c.kind {
			t.Errorf("%s: got report %q, want %q", c.what, got, c.kind)
		}
		select {
		case <-changed:
			if c.kind == "" || c.want != nil {
				t.Errorf("%s: Changed without a change", c.what)
			}
		default:
			if c.kind != "" && c.want == nil {
				t.Errorf("%s: Changed did not tell", c.what)
			}
		}
	}

	// All of it is on the disk.
	b.reopen(testKey)
	want := User{Name: "robert", Role: Administrator, Enabled: true, Number: 3, IPMI: true, IPMISecretSize: 16,
		IPMIAccess: IPMIAccess{NoSOL: true}, Keys: []string{ed25519Line}}
	got := b.Users()
	if len(got) != 1 {
		t.Fatalf("got users %v, want only robert", got)
	}
	got[0].version, got[0].IPMIVersion = 0, 0
	if fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Errorf("after a restart: got %v, want %v", got[0], want)
	}
	b.want("robert", here, bad, nil)
	b.want("robert", elsewhere, good, ErrDenied)
	b.want("bob", elsewhere, bad, ErrDenied)
	if !b.CheckIPMISecret("robert", good) {
		t.Error("the IPMI secret did not survive the new name")
	}
}

func TestReportTellsWho(t *testing.T) {
	b := newBench(t)
	if err := b.Create(User{Name: "root", Role: Administrator, Enabled: true}, good,
		Attempt{Via: "redfish", Source: netip.MustParseAddr("::ffff:192.0.2.1"), Name: "a\nb"}); err != nil {
		t.Fatal(err)
	}
	want := Report{Kind: "auth.user-created", Level: OK, Message: "User root was created as Administrator.",
		Via: "redfish", User: "a?b", Source: "192.0.2.1"}
	if got := b.reports[0]; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestMaxUsers(t *testing.T) {
	b := newBench(t)
	var names []string
	for i := range MaxUsers {
		names = append(names, fmt.Sprintf("u%02d", i))
		b.create(names[i], Administrator)
	}
	if err := b.Create(User{Name: "more", Role: ReadOnly}, good, boss); !errors.Is(err, ErrFull) {
		t.Errorf("user %d: got %v, want %v", MaxUsers+1, err, ErrFull)
	}
	var got []string
	for _, u := range b.Users() {
		got = append(got, u.Name)
	}
	if !slices.Equal(got, names) {
		t.Errorf("got %v, want %v", got, names)
	}
}

// TestDiskFails: what the disk did not take did not happen.
func TestDiskFails(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", ReadOnly)
	b.kinds()
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"create":   func() error { return b.Create(User{Name: "eve", Role: Operator}, good, boss) },
		"delete":   func() error { return b.Delete("bob", boss) },
		"role":     func() error { return b.SetRole("bob", Operator, boss) },
		"password": func() error { return b.SetPassword("bob", bad, boss) },
		"timeout":  func() error { return b.SetSessionTimeout(time.Minute) },
	} {
		if err := do(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if u, ok := b.User("bob"); !ok || u.Role != ReadOnly || len(b.Users()) != 2 || b.SessionTimeout() != defaultSessionTimeout {
		t.Errorf("a change stayed in memory: %v", b.Users())
	}
	if got := b.kinds(); got != nil {
		t.Errorf("got reports %v, want none", got)
	}
	b.want("bob", here, good, nil)
}

// TestUsersAreCopies: nobody changes a user by the slice he was given.
func TestUsersAreCopies(t *testing.T) {
	b := newBench(t)
	keys := []string{ed25519Line}
	if err := b.Create(User{Name: "root", Role: Administrator, Enabled: true, Keys: keys}, good, boss); err != nil {
		t.Fatal(err)
	}
	keys[0] = "mine"
	u, _ := b.User("root")
	u.Keys[0] = "mine"
	if got, _ := b.User("root"); got.Keys[0] != ed25519Line {
		t.Errorf("got key %q, want %q", got.Keys[0], ed25519Line)
	}
}

func TestDamagedRecords(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", Operator)
	for name, raw := range map[string]string{
		"json":   `{"name":"json","role":"Operator"`,
		"role":   `{"name":"role","role":"Root","enabled":true}`,
		"moved":  `{"name":"other","role":"Operator","enabled":true}`,
		"hash":   `{"name":"hash","role":"Operator","password":"$argon2id$v=19$m=99999999,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA"}`,
		"key":    `{"name":"key","role":"Operator","keys":["ssh-rsa"]}`,
		"future": `{"name":"future","role":"Operator","enabled":true,"colour":"blue"}`,
	} {
		if err := b.db.Update(func(tx store.Tx) error { return tx.Put(userBucket, []byte(name), []byte(raw)) }); err != nil {
			t.Fatal(err)
		}
	}
	b.kinds()
	b.reopen(testKey)
	var got []string
	for _, u := range b.Users() {
		got = append(got, u.Name)
	}
	if want := []string{"bob", "future", "root"}; !slices.Equal(got, want) {
		t.Errorf("got users %v, want %v", got, want)
	}
	if got, want := b.kinds(), slices.Repeat([]string{"auth.user-damaged"}, 5); !slices.Equal(got, want) {
		t.Errorf("got reports %v, want %v", got, want)
	}
	b.want("root", here, good, nil)
	if err := b.Create(User{Name: "role", Role: Operator}, good, boss); err != nil {
		t.Errorf("creating over a damaged record: %v", err)
	}
}

func TestFirstStart(t *testing.T) {
	b := newBench(t)
	c, made, err := b.FirstStart("", "")
	if err != nil || !made || c.User != "admin" {
		t.Fatalf("got %+v, %v, %v", c, made, err)
	}
	if len(c.Password) != 23 || len(c.IPMISecret) != 20 || strings.ContainsAny(c.Password+c.IPMISecret, "01lIO") {
		t.Errorf("got credentials %+v", c)
	}
	b.want("admin", here, c.Password, nil)
	s, known := b.Secret(Attempt{Via: "ipmi", Source: here, Name: "admin"})
	if string(s.Key[:]) != c.IPMISecret || s.Role != Administrator || !known {
		t.Errorf("got secret %q, %v, %v; want %q", s.Key, s.Role, known, c.IPMISecret)
	}
	if again, made, err := b.FirstStart("other password", ""); err != nil || made || again != (Credentials{}) {
		t.Errorf("second call: got %+v, %v, %v", again, made, err)
	}
	b.reopen(testKey)
	if _, made, err := b.FirstStart("", ""); err != nil || made {
		t.Errorf("after a restart: got %v, %v", made, err)
	}
	b.want("admin", here, c.Password, nil)
}

func TestFirstStartGiven(t *testing.T) {
	for _, c := range []struct {
		password, secret string
		want             error
	}{
		{good, "ipmi secret", nil}, {"short", "", ErrInvalid}, {"", "short", ErrInvalid},
	} {
		b := newBench(t)
		got, made, err := b.FirstStart(c.password, c.secret)
		if !errors.Is(err, c.want) || made != (c.want == nil) {
			t.Errorf("%q, %q: got %v, %v, want %v", c.password, c.secret, made, err, c.want)
		}
		if want := (Credentials{"admin", c.password, c.secret}); made && got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if !made && len(b.Users()) != 0 {
			t.Errorf("a refused first start left %v", b.Users())
		}
	}
}

// TestFirstStartAfterDamage: the only administrator's record is broken.
func TestFirstStartAfterDamage(t *testing.T) {
	b := newBench(t)
	b.create("admin", Administrator)
	b.create("bob", Operator)
	if err := b.db.Update(func(tx store.Tx) error { return tx.Put(userBucket, []byte("admin"), []byte("{")) }); err != nil {
		t.Fatal(err)
	}
	b.reopen(testKey)
	c, made, err := b.FirstStart("", "")
	if err != nil || !made {
		t.Fatalf("got %v, %v", made, err)
	}
	b.want("admin", here, c.Password, nil)
}

// TestFirstStartNameTaken: a user called admin is not turned into an
// administrator behind everybody's back.
func TestFirstStartNameTaken(t *testing.T) {
	b := newBench(t)
	b.create("admin", Operator)
	if _, made, err := b.FirstStart("", ""); !errors.Is(err, ErrExists) || made {
		t.Errorf("got %v, %v, want %v", made, err, ErrExists)
	}
	if u, ok := b.User("admin"); !ok || u.Role != Operator {
		t.Errorf("got %+v, want the operator as before", u)
	}
	if u, ok := b.User("nobody"); ok {
		t.Errorf("got %+v of nobody", u)
	}
}

// TestOpen goes through the real hash once.
func TestOpen(t *testing.T) {
	b := newBench(t)
	l := DefaultLockout()
	l.Factor = 0
	if _, err := Open(Options{Store: b.db, Lockout: l}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bad policy: got %v, want %v", err, ErrInvalid)
	}
	a, err := Open(Options{Store: b.db})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	if got := a.Lockout(); got != DefaultLockout() {
		t.Errorf("got policy %+v, want %+v", got, DefaultLockout())
	}
	c, _, err := a.FirstStart("", "")
	if err != nil {
		t.Fatal(err)
	}
	at := Attempt{Via: "console", Name: c.User} // no address: the board's own serial line
	if _, err := a.Password(t.Context(), at, c.Password); err != nil {
		t.Error(err)
	}
	if _, err := a.Password(t.Context(), at, bad); err != ErrDenied {
		t.Errorf("got %v, want %v", err, ErrDenied)
	}
	var r record
	if found, err := b.db.GetJSON(userBucket, c.User, &r); err != nil || !found || !strings.HasPrefix(r.Password, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("got password %q, %v, %v", r.Password, found, err)
	}
}

func TestRandomText(t *testing.T) {
	seen := map[rune]int{}
	for range 200 {
		for _, c := range randomText(plainAlphabet, 31) {
			seen[c]++
		}
	}
	for _, c := range plainAlphabet { // 200 expected of each
		if n := seen[c]; n < 100 || n > 300 {
			t.Errorf("%c came %d times in 6200", c, n)
		}
	}
	if len(seen) != len(plainAlphabet) {
		t.Errorf("got %d different characters, want %d", len(seen), len(plainAlphabet))
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", Operator)
	var wg sync.WaitGroup
	for i := range 4 {
		from := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		wg.Go(func() {
			for range 20 {
				u, err := b.Password(context.Background(), Attempt{Via: "redfish", Source: from, Name: "root"}, good)
				if err != nil {
					t.Error(err)
					return
				}
				s, token, err := b.NewSession(u, Attempt{Via: "redfish", Source: from, Name: "root"})
				if err != nil {
					t.Error(err)
					return
				}
				b.Session(token)
				b.Sessions()
				b.EndSession(s.ID)
				b.Secret(Attempt{Name: "bob", Source: from})
				b.SecretResult(Attempt{Name: "bob", Source: from}, i%2 == 0)
				b.Users()
			}
		})
	}
	wg.Go(func() {
		for i := range 20 {
			if err := b.SetEnabled("bob", i%2 == 0, boss); err != nil {
				t.Error(err)
			}
			if err := b.Configure(DefaultLockout()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}
