package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/internal/store"
)

const ed25519Line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUj6b5TFKAPhKjqHQWmKqBpnJ2kYhy1cOV8OBV0dVxq admin@laptop"

func wire(t *testing.T, line string) []byte {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return key.Marshal()
}

func line(t *testing.T, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// rsaLine is an RSA public key whose modulus has so many bits (of no use but to
// be judged by its length).
func rsaLine(t *testing.T, bits uint) string {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return line(t, &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537})
}

func TestParseKey(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, line string
		wantErr    string // part of the message; empty: good
	}{
		{"Ed25519", ed25519Line, ""},
		{"spaces around", "  " + ed25519Line + " ", ""},
		{"no comment", strings.TrimSuffix(ed25519Line, " admin@laptop"), ""},
		{"ECDSA", line(t, ec.Public()), ""},
		{"RSA 2048", rsaLine(t, 2048), ""},
		{"RSA 2047", rsaLine(t, 2047), "2047 bits"},
		{"RSA 1024", rsaLine(t, 1024), "1024 bits"},
		{"DSA", "ssh-dss AAAAB3NzaC1kc3MAAAABAQ== old", "too weak"},
		{"DSA after a tab", "ssh-dss\tAAAAB3NzaC1kc3MAAAABAQ== old", "too weak"},
		{"certificate", "ssh-ed25519-cert-v01@openssh.com AAAA", "certificate"},
		{"option", "restrict " + ed25519Line, "options"},
		{"quoted option", `command="/bin/true x",no-pty ` + ed25519Line, "options"},
		{"empty", "", "not an authorized_keys line"},
		{"comment", "# " + ed25519Line, "not an authorized_keys line"},
		{"no base64", "ssh-ed25519 !!!!", "not an authorized_keys line"},
		{"cut off", ed25519Line[:60], "not an authorized_keys line"},
		{"wrong name", "ssh-rsa " + ed25519Line[12:], "not an authorized_keys line"},
		{"two lines", ed25519Line + "\n" + ed25519Line, "one line"},
		{"escape sequence", ed25519Line + "\x1b[2J", "one line"},
		{"endless", ed25519Line + strings.Repeat("x", maxKeyBytes), "longer"},
	} {
		err := CheckKey(c.line)
		switch {
		case c.wantErr == "" && err != nil:
			t.Errorf("%s: got %v", c.what, err)
		case c.wantErr != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.wantErr)):
			t.Errorf("%s: got %v, want %q", c.what, err, c.wantErr)
		}
	}
}

func TestPublicKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.create("root", Administrator)
		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		second := line(t, public)
		if err := b.Create(User{Name: "bob", Role: Operator, Enabled: true, Keys: []string{ed25519Line, second}}, "", boss); err != nil {
			t.Fatal(err)
		}
		ask := func(what, name string, key []byte, want error) {
			t.Helper()
			u, err := b.PublicKey(t.Context(), Attempt{Via: "ssh", Source: here, Name: name}, key)
			if err != want || (err == nil) != (u.Name == name) {
				t.Errorf("%s: got %v, %v, want %v", what, u, err, want)
			}
		}
		ask("first key", "bob", wire(t, ed25519Line), nil)
		ask("second key", "bob", wire(t, second), nil)
		ask("another's key", "root", wire(t, ed25519Line), ErrDenied)
		ask("unknown user", "nobody", wire(t, ed25519Line), ErrDenied)
		ask("no key", "bob", nil, ErrDenied)
		ask("cut key", "bob", wire(t, ed25519Line)[:50], ErrDenied)

		// Guessing at the password does not stop keys, of bob or from here.
		for i := range 30 {
			b.want("bob", addr(byte(i)), bad, ErrDenied)
		}
		b.fail("bob", here, 5)
		ask("under password locks", "bob", wire(t, ed25519Line), nil)

		// It was a login, and made the place one of bob's usual ones.
		b.want("bob", here, bad, ErrDenied)
		u := Attempt{Via: "ssh", Source: elsewhere, Name: "bob"}
		if !b.lockouts.locked(u) {
			t.Error("bob is not locked for a new place")
		}
		b.kinds()
		if _, err := b.PublicKey(t.Context(), u, wire(t, second)); err != nil {
			t.Error(err)
		}
		if b.lockouts.locked(u) {
			t.Error("a login by key did not prove the place")
		}
		if got, want := b.kinds(), []string{"auth.login"}; !slices.Equal(got, want) {
			t.Errorf("got reports %v, want %v", got, want)
		}

		if err := b.SetEnabled("bob", false, boss); err != nil {
			t.Fatal(err)
		}
		ask("disabled", "bob", wire(t, ed25519Line), ErrDenied)
	})
}

// TestManyKeys: a client's many keys do no harm, a row of refused ones does.
func TestManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if err := b.Create(User{Name: "root", Role: Administrator, Enabled: true, Keys: []string{ed25519Line}}, good, boss); err != nil {
			t.Fatal(err)
		}
		key := wire(t, ed25519Line)
		ask := func(what string, from byte, key []byte, want error) {
			t.Helper()
			if _, err := b.PublicKey(t.Context(), Attempt{Via: "ssh", Source: addr(from), Name: "root"}, key); err != want {
				t.Errorf("%s: got %v, want %v", what, err, want)
			}
		}
		b.kinds()
		for range 10 {
			for range 5 {
				ask("another of the client's keys", 1, []byte("other"), ErrDenied)
			}
			ask("the right key", 1, key, nil)
		}
		for range 20 {
			ask("a wrong key", 2, []byte("other"), ErrDenied)
		}
		ask("right, but locked", 2, key, ErrDenied)
		b.want("root", addr(2), good, nil)
		ask("the password proved the place", 2, key, nil)
		for range 20 {
			ask("a wrong key", 3, []byte("other"), ErrDenied)
		}
		time.Sleep(30 * time.Second)
		ask("the lock is over", 3, key, nil)
		synctest.Wait()
		if got, want := strings.Join(b.kinds(), " "),
			"auth.login auth.locked auth.login auth.locked auth.unlocked auth.unlocked auth.login"; sorted(got) != sorted(want) {
			t.Errorf("got reports %v, want %v", got, want)
		}
	})
}

// sorted puts words in order: an end of a lock and a login come at one moment.
func sorted(words string) string {
	w := strings.Fields(words)
	slices.Sort(w)
	return strings.Join(w, " ")
}

func TestSecret(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", Operator)
	b.create("off", Operator)
	b.create("none", Operator)
	for _, name := range []string{"root", "bob", "off"} {
		if err := b.SetIPMISecret(name, "secret of "+name, boss); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.SetEnabled("off", false, boss); err != nil {
		t.Fatal(err)
	}
	check := func(when string, name, want string, wantRole Role) {
		t.Helper()
		s, known := b.Secret(Attempt{Via: "ipmi", Source: here, Name: name})
		if got := strings.TrimRight(string(s.Key[:]), "\x00"); got != want || s.Role != wantRole || known != (want != "") {
			t.Errorf("%s, %s: got %q, %q, %v, want %q, %q", when, name, got, s.Role, known, want, wantRole)
		}
		if u, _ := b.User(name); known && s.Version != u.IPMIVersion {
			t.Errorf("%s, %s: the secret has version %d, the user %d", when, name, s.Version, u.IPMIVersion)
		}
	}
	for _, when := range []string{"before", "after a restart"} {
		check(when, "root", "secret of root", Administrator)
		check(when, "bob", "secret of bob", Operator)
		check(when, "off", "", "")
		check(when, "none", "", "")
		check(when, "nobody", "", "")
		b.reopen(testKey)
	}

	// Nothing of it is on the disk in clear.
	var all []byte
	if err := b.db.View(func(tx store.Tx) error {
		return tx.Each(userBucket, func(_, v []byte) error { all = append(all, v...); return nil })
	}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(all), "secret of") || strings.Contains(string(all), good) {
		t.Error("a secret is stored in clear")
	}

	// A sealed secret works in its own record only.
	var root, bob record
	for name, r := range map[string]*record{"root": &root, "bob": &bob} {
		if found, err := b.db.GetJSON(userBucket, name, r); err != nil || !found {
			t.Fatal(found, err)
		}
	}
	bob.IPMI = root.IPMI
	if err := b.db.PutJSON(userBucket, "bob", &bob); err != nil {
		t.Fatal(err)
	}
	b.kinds()
	b.reopen(testKey)
	check("with another's", "bob", "", "")
	check("with another's", "root", "secret of root", Administrator)
	if u, _ := b.User("bob"); u.IPMI {
		t.Error("a secret that does not open is shown as usable")
	}
	if got, want := b.kinds(), []string{"auth.ipmi-secret-lost"}; !slices.Equal(got, want) {
		t.Errorf("got reports %v, want %v", got, want)
	}
	b.want("bob", here, good, nil) // all else goes on

	b.reopen([32]byte{9})
	check("with another key", "root", "", "")
	if err := b.SetIPMISecret("root", "new secret", boss); err != nil {
		t.Fatal(err)
	}
	check("set again", "root", "new secret", Administrator)
	if err := b.SetIPMISecret("root", "", boss); err != nil {
		t.Fatal(err)
	}
	check("removed", "root", "", "")
	b.reopen([32]byte{9})
	check("removed, after a restart", "root", "", "")
}

// TestIPMIVersion: what ends IPMI sessions, and what ends the other ones.
func TestIPMIVersion(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("bob", Operator)
	if err := b.SetIPMISecret("bob", "first secret", boss); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what        string
		change      func() error
		ipmi, token bool // the sessions that end
	}{
		{"IPMI secret", func() error { return b.SetIPMISecret("bob", "second secret", boss) }, true, false},
		{"password", func() error { return b.SetPassword("bob", good, boss) }, false, true},
		{"role", func() error { return b.SetRole("bob", ReadOnly, boss) }, true, true},
		{"same role", func() error { return b.SetRole("bob", ReadOnly, boss) }, false, false},
		{"disabled", func() error { return b.SetEnabled("bob", false, boss) }, true, true},
		{"enabled", func() error { return b.SetEnabled("bob", true, boss) }, true, true},
		{"IPMI limit", func() error { return b.SetIPMIAccess("bob", IPMIAccess{Limit: NoIPMI}, boss) }, true, false},
		{"no messaging", func() error { return b.SetIPMIAccess("bob", IPMIAccess{NoMessaging: true}, boss) }, true, false},
		{"no console", func() error { return b.SetIPMIAccess("bob", IPMIAccess{NoSOL: true}, boss) }, true, false},
		{"what open sessions do not rest on", func() error {
			return b.SetIPMIAccess("bob", IPMIAccess{NoSOL: true, LinkAuth: true, SessionLimit: 3}, boss)
		}, false, false},
		{"the same IPMI secret", func() error { return b.SetIPMISecretSize("bob", "second secret", 20, boss) }, false, false},
		{"SSH keys", func() error { return b.SetKeys("bob", []string{ed25519Line}, boss) }, false, false},
		{"another user", func() error { return b.SetPassword("root", good, boss) }, false, false},
		{"IPMI secret removed", func() error { return b.SetIPMISecret("bob", "", boss) }, true, false},
		{"deleted and made again", func() error {
			return errors.Join(b.Delete("bob", boss), b.Create(User{Name: "bob", Role: ReadOnly, Enabled: true}, good, boss))
		}, true, true},
	} {
		before, _ := b.User("bob")
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		after, _ := b.User("bob")
		if got := after.IPMIVersion != before.IPMIVersion; got != c.ipmi {
			t.Errorf("%s: IPMI sessions end: %v, want %v", c.what, got, c.ipmi)
		}
		if got := after.version != before.version; got != c.token {
			t.Errorf("%s: other sessions end: %v, want %v", c.what, got, c.token)
		}
	}
}

func FuzzRecord(f *testing.F) {
	r := &record{Name: "root", Role: Administrator, Enabled: true, Keys: []string{ed25519Line}}
	h := newHasher(testCost, func(_ cost, _, _ []byte, n int) []byte { return make([]byte, n) })
	h.later = (&tasks{}).after
	r.Password = h.make(good).String()
	if err := r.seal(testKey, "ipmi secret"); err != nil {
		f.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("root", raw)
	f.Add("a", []byte(`{"name":"a","role":"ReadOnly","password":"$argon2id$","keys":[""],"ipmi":"AAAA"}`))
	f.Add("a", []byte(`{"name":"a","role":"ReadOnly","number":99,"ipmi_size":3,"ipmi_access":{"limit":"all","session_limit":-1}}`))
	f.Add("", []byte(`null`))
	f.Fuzz(func(t *testing.T, name string, raw []byte) {
		r, err := decodeRecord(name, raw)
		if err != nil {
			return
		}
		if err := r.open(testKey); err == nil && r.IPMI != nil && !r.opened {
			t.Error("opened without a secret")
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(name, again); err != nil {
			t.Errorf("%s became %s: %v", raw, again, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(ed25519Line)
	f.Add(`command="x" ` + ed25519Line)
	f.Add("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQA=")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := parseKey(s)
		if err != nil {
			return
		}
		if again, err := ssh.ParsePublicKey(key.Marshal()); err != nil || again.Type() != key.Type() {
			t.Errorf("%q: %v, %v", s, again, err)
		}
	})
}
