package bmc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

var asker = host.Origin{Via: "redfish", User: "bob", Source: "192.0.2.1"}

const aKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFUPTjKJSM2dPwAjvMVBiqDeOPVHX4TYHuFvJQzIrEsa test"

// fail ends the test on the first error.
func fail(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// used makes a folder of a board that was in use, with the card's settings in it
// too, and asks for a reset. It answers the host's UUID as kept.
func used(t *testing.T, dir string, scope DefaultsScope) (uuid []byte) {
	t.Helper()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		fail(t, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600))
	}
	write("card.json", `{"version": 1, "ssh": {"idle_timeout": "1h0m0s"}}`)
	write(permName, "\xef\xbb\xbf"+`{"version": 1, "hostname": "named", "ssh": {"max_sessions": 7}}`)
	b := reopen(t, dir)
	_, err := b.Login(filepath.Join(dir, "login.json"), "")
	fail(t, err,
		b.Settings.Set("ipmi.max_sessions", "9"),
		b.Settings.Set("network.interface", "eth7"),
		b.Settings.Set("ssh_keys", `["`+aKey+`"]`),
		b.giveKeys([]string{aKey}),
		b.Users.SetPassword("admin", "another one", auth.Attempt{}),
		b.Users.Create(auth.User{Name: "bob", Role: auth.Operator, Enabled: true}, "bobs password", auth.Attempt{}),
		b.Users.SetIPMISecret("bob", "bobs secret", auth.Attempt{}),
		b.key.SetKG([20]byte{1}, host.Origin{}),
		leases{b.db}.Store([]byte("lease")),
		b.db.PutJSON("boot", "override", "x"),
		b.db.PutJSON("power", "record", map[string]any{"wanted": true, "cause": "command"}))
	_, err = auth.OpenCertificate(dir, nil, time.Now, b.audit)
	fail(t, err)
	_, err = auth.SSHHostKey(dir, b.keyDamaged)
	fail(t, err)
	h, err := host.New(host.Parts{}, host.Options{Store: b.db, Events: b.Events, Log: b.log, Power: host.DefaultPowerConfig()})
	fail(t, err)
	write("media/image.iso", "data")
	write("update/staged", "data")
	write("volumes/disk0", "data")
	write("tls.pem.bad", "old")
	write("state.db.bad", "old")
	fail(t, b.ResetDefaults(scope, asker), b.Close())
	return h.UUID[:]
}

func reopen(t *testing.T, dir string) *BMC {
	t.Helper()
	o := options(dir)
	o.Card = filepath.Join(dir, "card.json")
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // a test that goes on has closed it itself
	return b
}

// TestResetDefaults cuts the power after each step, and in the middle of the one
// that makes the new state.
func TestResetDefaults(t *testing.T) {
	steps := len(defaults{}.steps())
	for _, scope := range []DefaultsScope{ResetAll, PreserveNetwork, PreserveNetworkAndUsers} {
		board := t.TempDir()
		uuid := used(t, board, scope)
		for cut := range steps + 1 {
			t.Run(fmt.Sprintf("%s cut after %d", scope, cut), func(t *testing.T) {
				dir := t.TempDir()
				fail(t, os.CopyFS(dir, os.DirFS(board)))
				d := defaults{dir: dir, request: defaultsRequest{scope, asker}, log: slog.New(slog.DiscardHandler)}
				db, err := store.Open(d.file(stateFile))
				fail(t, err)
				for _, step := range d.steps()[:cut] {
					fail(t, step(db))
				}
				fail(t, db.Close())
				if cut < steps-1 {
					fail(t, os.WriteFile(d.file(nextState), []byte("half"), 0o600))
				}
				isReset(t, dir, scope, uuid)
			})
		}
	}
}

// isReset checks what is there after the reset, twice: it is done once.
func isReset(t *testing.T, dir string, scope DefaultsScope, uuid []byte) {
	t.Helper()
	b := reopen(t, dir)
	s := b.Settings.Get()
	same := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	pick := func(kept bool, then, otherwise any) any {
		if kept {
			return then
		}
		return otherwise
	}
	same("ipmi.max_sessions", s.IPMI.MaxSessions, Defaults().IPMI.MaxSessions)
	same("ssh.max_sessions", s.SSH.MaxSessions, Defaults().SSH.MaxSessions)
	same("ssh.idle_timeout, the card's", s.SSH.IdleTimeout, time.Hour)
	same("hostname", s.HostName, pick(scope.network(), "named", Defaults().HostName))
	same("network.interface", s.Network.Interface, pick(scope.network(), "eth7", Defaults().Network.Interface))
	same("ssh_keys", len(s.SSHKeys), pick(scope.users(), 1, 0))
	lease, err := leases{b.db}.Load()
	same("lease", string(lease), pick(scope.network(), "lease", ""))
	if scope.network() {
		fail(t, err)
	}
	key, _ := b.key.KG()
	same("K_G", key, [20]byte{})
	var left any
	found, err := b.db.GetJSON("boot", "override", &left)
	fail(t, err)
	same("boot override", found, false)
	found, err = b.db.GetJSON("power", "record", &left)
	fail(t, err)
	same("the host's power", found, true)

	u, ok := b.Users.User("bob")
	same("bob", ok, scope.users())
	same("bob's IPMI secret", u.IPMI, scope.users())
	login, err := b.Login(filepath.Join(dir, "login.json"), "")
	fail(t, err)
	password := login.Password // the first login's, again
	if scope.users() {
		password = "another one"
	}
	if _, err := b.Users.Password(t.Context(), auth.Attempt{Name: "admin"}, password); err != nil {
		t.Errorf("login: %v", err)
	}
	admin, _ := b.Users.User("admin")
	same("admin's SSH keys", len(admin.Keys), pick(scope.users(), 1, 0))

	var told []host.Event
	for _, e := range b.Events.Since(0, 0) {
		if e.Kind == "bmc.defaults" {
			told = append(told, e)
		} else if e.Severity == host.Critical {
			t.Errorf("event %s: %s", e.Kind, e.Message)
		}
	}
	if len(told) != 1 || told[0].Origin != asker || told[0].ID < 3 {
		t.Errorf("got events %+v, want one, by %v, with an ID that is new", told, asker)
	}
	var gone []string
	for _, name := range []string{"tls.pem", "tls.pem.bad", "ssh_host_ed25519_key", "state.db.bad", nextState, defaultsFile, mediaDir, updateDir, LastGoodDir + "/perm.bad"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			gone = append(gone, name)
		}
	}
	if len(gone) > 0 {
		t.Errorf("still there: %v", gone)
	}
	if _, err := os.Stat(filepath.Join(dir, "volumes/disk0")); err != nil {
		t.Errorf("a volume: %v", err)
	}
	h, err := host.New(host.Parts{}, host.Options{Store: b.db, Events: b.Events, Log: b.log, Power: host.DefaultPowerConfig()})
	fail(t, err)
	if !slices.Equal(h.UUID[:], uuid) {
		t.Errorf("UUID: got %x, want %x", h.UUID, uuid)
	}

	fail(t, b.Users.SetPassword("admin", "the third one", auth.Attempt{}), b.Close())
	b = reopen(t, dir)
	if _, err := b.Users.Password(t.Context(), auth.Attempt{Name: "admin"}, "the third one"); err != nil {
		t.Errorf("after another start: %v", err)
	}
	fail(t, b.Close())
}

// A request of another version, or one that is no request, resets nothing.
func TestResetNotUnderstood(t *testing.T) {
	dir := t.TempDir()
	b := reopen(t, dir)
	if err := b.ResetDefaults("Everything", asker); !errors.Is(err, ErrScope) {
		t.Errorf("got %v, want %v", err, ErrScope)
	}
	fail(t, b.Settings.Set("hostname", "named"), b.Close())
	for _, text := range []string{"", "{", `{"scope":"Everything"}`} {
		fail(t, os.WriteFile(filepath.Join(dir, defaultsFile), []byte(text), 0o600))
		b = reopen(t, dir)
		if got := b.Settings.Get().HostName; got != "named" {
			t.Errorf("%q: got %q, want the settings as they were", text, got)
		}
		fail(t, b.Close())
		if _, err := os.Stat(filepath.Join(dir, defaultsFile)); err == nil {
			t.Errorf("%q is still there", text)
		}
	}
}

// What is in force is reduced: the last good copy, not the bad file over it.
func TestResetBadFile(t *testing.T) {
	dir := t.TempDir()
	used(t, dir, PreserveNetwork)
	fail(t, os.WriteFile(filepath.Join(dir, permName), []byte(`{"version": 1, "hostname": "bad", "ssh": 7}`), 0o600))
	b := reopen(t, dir)
	if got := b.Settings.Get().HostName; got != "named" {
		t.Errorf("got %q, want the name of the last good copy", got)
	}
	text, err := os.ReadFile(filepath.Join(dir, permName))
	if err != nil || strings.Contains(string(text), "ssh") {
		t.Errorf("got %s, %v", text, err)
	}
}

// A running BMC ends with ErrReset.
func TestResetEndsRun(t *testing.T) {
	b, err := Open(options(t.TempDir()))
	fail(t, err)
	ended := make(chan error, 1)
	ready := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		ended <- b.Run(ctx, Run{Address: "127.0.0.1", Ready: func(Addresses) { close(ready) }})
	}()
	<-ready
	fail(t, b.ResetDefaults(ResetAll, asker))
	if err := <-ended; !errors.Is(err, ErrReset) {
		t.Errorf("got %v, want %v", err, ErrReset)
	}
	fail(t, b.Close())
}
