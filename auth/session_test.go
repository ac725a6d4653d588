package auth

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

func (b *bench) session(name string) (Session, string) {
	b.t.Helper()
	u, ok := b.User(name)
	if !ok {
		b.t.Fatalf("no user %s", name)
	}
	s, token, err := b.NewSession(u, Attempt{Via: "redfish", Source: here, Name: name})
	if err != nil {
		b.t.Fatal(err)
	}
	return s, token
}

func TestSession(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		s, token := b.session("bob")
		_, other := b.session("root")
		if len(token) != 64 || token == other || len(s.ID) != 32 || s.User != "bob" || s.Role != Operator || s.Source != here || s.Via != "redfish" {
			t.Errorf("got %+v, token %q", s, token)
		}
		if got, u, ok := b.Session(token); !ok || got.ID != s.ID || u.Name != "bob" || u.Role != Operator {
			t.Errorf("got %+v, %+v, %v", got, u, ok)
		}
		for _, wrong := range []string{"", token[:63], token + "a", s.ID, "AAAA"} {
			if _, _, ok := b.Session(wrong); ok {
				t.Errorf("token %q is taken", wrong)
			}
		}
		if got, ok := b.SessionByID(s.ID); !ok || got != s {
			t.Errorf("got %+v, %v, want %+v", got, ok, s)
		}
		if _, ok := b.SessionByID("nothing"); ok {
			t.Error("a session of no ID")
		}
		if got := b.Sessions(); len(got) != 2 {
			t.Errorf("got %v, want 2", got)
		}
		if !b.EndSession(s.ID) || b.EndSession(s.ID) {
			t.Error("ending a session: want true, then false")
		}
		if _, _, ok := b.Session(token); ok {
			t.Error("an ended session goes on")
		}
		if _, _, ok := b.Session(other); !ok {
			t.Error("another session ended, too")
		}
	})
}

func TestSessionTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		s, used := b.session("bob")
		_, idle := b.session("bob")
		for range 5 {
			time.Sleep(25 * time.Minute)
			if _, ok := b.SessionByID(s.ID); !ok { // looking does not use it
				t.Error("ended too early")
			}
			if got, _, ok := b.Session(used); !ok || got.LastUsed != time.Now() {
				t.Errorf("got %+v, %v", got, ok)
			}
		}
		if _, _, ok := b.Session(idle); ok {
			t.Error("an idle session goes on")
		}
		time.Sleep(30*time.Minute + time.Second)
		if got := b.Sessions(); len(got) != 0 || len(b.sessions.byToken) != 0 {
			t.Errorf("got %v, want none", got)
		}

		for _, c := range []struct {
			d    time.Duration
			want error
		}{
			{30 * time.Second, nil}, {24 * time.Hour, nil}, {29 * time.Second, ErrInvalid}, {24*time.Hour + time.Second, ErrInvalid},
			{0, ErrInvalid}, {-time.Minute, ErrInvalid}, {time.Minute + 1, ErrInvalid}, {time.Minute, nil},
		} {
			if err := b.SetSessionTimeout(c.d); !errors.Is(err, c.want) {
				t.Errorf("%v: got %v, want %v", c.d, err, c.want)
			}
		}
		_, token := b.session("bob")
		time.Sleep(61 * time.Second)
		if _, _, ok := b.Session(token); ok {
			t.Error("the new timeout does not hold")
		}
		b.reopen(testKey)
		if got := b.SessionTimeout(); got != time.Minute {
			t.Errorf("after a restart: got %v, want %v", got, time.Minute)
		}
		for _, raw := range []string{"29", `"x`} {
			if err := b.db.Update(func(tx store.Tx) error { return tx.Put(settingBucket, []byte(sessionTimeoutKey), []byte(raw)) }); err != nil {
				t.Fatal(err)
			}
			b.reopen(testKey)
			if got := b.SessionTimeout(); got != defaultSessionTimeout {
				t.Errorf("damaged: got %v, want %v", got, defaultSessionTimeout)
			}
		}
	})
}

func TestSessionEndsWithUser(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(b *bench) error
		ends   bool
	}{
		{"deleted", func(b *bench) error { return b.Delete("bob", boss) }, true},
		{"made anew", func(b *bench) error {
			return errors.Join(b.Delete("bob", boss), b.Create(User{Name: "bob", Role: Operator, Enabled: true}, good, boss))
		}, true},
		{"disabled", func(b *bench) error { return b.SetEnabled("bob", false, boss) }, true},
		{"disabled and enabled", func(b *bench) error {
			return errors.Join(b.SetEnabled("bob", false, boss), b.SetEnabled("bob", true, boss))
		}, true},
		{"role", func(b *bench) error { return b.SetRole("bob", ReadOnly, boss) }, true},
		{"password", func(b *bench) error { return b.SetPassword("bob", bad, boss) }, true},
		{"same password", func(b *bench) error { return b.SetPassword("bob", good, boss) }, true},
		{"keys", func(b *bench) error { return b.SetKeys("bob", []string{ed25519Line}, boss) }, false},
		{"IPMI secret", func(b *bench) error { return b.SetIPMISecret("bob", "ipmi secret", boss) }, false},
		{"another's password", func(b *bench) error { return b.SetPassword("root", bad, boss) }, false},
	} {
		b := newBench(t)
		b.create("root", Administrator)
		b.create("bob", Operator)
		old, _ := b.User("bob")
		s, token := b.session("bob")
		if err := c.change(b); err != nil {
			t.Fatal(err)
		}
		_, _, ok := b.Session(token)
		_, byID := b.SessionByID(s.ID)
		if ok == c.ends || byID == c.ends {
			t.Errorf("%s: got session %v, %v, want %v", c.what, ok, byID, !c.ends)
		}
		// Who was let in before the change does not begin a session after it.
		if _, _, err := b.NewSession(old, Attempt{}); (err == ErrDenied) != c.ends {
			t.Errorf("%s: NewSession: got %v", c.what, err)
		}
	}
	b := newBench(t)
	b.create("root", Administrator)
	if _, _, err := b.NewSession(User{Name: "root", Role: Administrator, Enabled: true}, Attempt{}); err != ErrDenied {
		t.Errorf("a user out of thin air: got %v, want %v", err, ErrDenied)
	}
}

func TestSessionEviction(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		count := func() map[string]int {
			n := map[string]int{}
			for _, s := range b.Sessions() {
				n[s.User]++
			}
			return n
		}
		var roots []string
		for range 3 {
			_, token := b.session("root")
			roots = append(roots, token)
			time.Sleep(time.Second)
		}
		var bobs []string
		for range MaxSessions + 20 { // a greedy one evicts himself only
			_, token := b.session("bob")
			bobs = append(bobs, token)
			time.Sleep(time.Second)
		}
		if got := count(); got["root"] != 3 || got["bob"] != MaxSessions-3 {
			t.Errorf("got %v", got)
		}
		for _, token := range roots {
			if _, _, ok := b.Session(token); !ok {
				t.Error("root lost a session to bob")
			}
		}
		// The one idle for longest goes, not the oldest.
		alive := slices.DeleteFunc(bobs, func(token string) bool { _, _, ok := b.Session(token); return !ok })
		time.Sleep(time.Second)
		b.Session(alive[0])
		for _, token := range alive[2:] {
			b.Session(token)
		}
		time.Sleep(time.Second)
		b.session("root")
		if _, _, ok := b.Session(alive[1]); ok {
			t.Error("the idlest stayed")
		}
		if _, _, ok := b.Session(alive[0]); !ok {
			t.Error("one in use went")
		}
		for range MaxSessions { // root, growing greedy in turn, gets half
			b.session("root")
			time.Sleep(time.Second)
		}
		if got := count(); got["root"] != MaxSessions/2 || got["bob"] != MaxSessions/2 {
			t.Errorf("got %v", got)
		}
	})
}
