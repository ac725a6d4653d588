package bmc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/sim"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/store"
)

// A bench is a BMC that runs in front of a fake machine, on free ports.
type bench struct {
	*BMC
	t    *testing.T
	at   Addresses
	stop func() error
}

func options(dir string) Options {
	return Options{
		Dir: dir, Version: "1.2.3", Log: slog.New(slog.DiscardHandler), Simulated: true,
		Defaults: func() Settings {
			s := Defaults()
			s.Wires = sim.Wires()
			s.IPMI.Enabled = true
			s.HTTPS.Enabled = true
			return s
		},
	}
}

func start(t *testing.T, dir string) *bench {
	t.Helper()
	machine, err := sim.NewFake(sim.DefaultFake(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	o.CheckWires = func(w board.Wires) error { _, err := machine.Parts(w); return err }
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Login(filepath.Join(dir, "login.json"), "secret"); err != nil {
		t.Fatal(err)
	}
	parts, err := machine.Parts(b.Settings.Get().Wires)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		done <- b.Run(ctx, Run{Parts: parts, Address: "127.0.0.1", Ready: func(a Addresses) { ready <- a }})
	}()
	r := &bench{BMC: b, t: t}
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		err := <-done
		if cerr := b.Close(); cerr != nil {
			t.Error(cerr)
		}
		if cerr := machine.Close(context.Background()); cerr != nil {
			t.Error(cerr)
		}
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case r.at = <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("Run: %v", err)
	}
	return r
}

func (r *bench) kinds() (kinds []string) {
	for _, e := range r.Events.Since(0, 0) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// eventually waits for what another goroutine brings about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("it does not come: %s", what)
}

// listens says whether somebody accepts TCP connections.
func listens(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	if r.at.HTTPS == "" || r.at.SSH == "" || r.at.IPMI == "" {
		t.Fatalf("addresses: got %+v, want all three", r.at)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer web.CloseIdleConnections()
	for path, want := range map[string]int{"/redfish/v1/": 200, "/redfish/v1/Systems": 401, "/nothing": 404} {
		resp, err := web.Get("https://" + r.at.HTTPS + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: got %d, want %d", path, resp.StatusCode, want)
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if listens(r.at.HTTPS) || listens(r.at.SSH) {
		t.Error("a port is open after Run has returned")
	}
	// What was kept is there again, the login included.
	again, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	l, err := again.Login(filepath.Join(dir, "login.json"), "")
	if want := (Login{"admin", "secret", "secret"}); err != nil || l != want {
		t.Errorf("login: got %+v, %v, want %+v", l, err, want)
	}
	if got := again.Events.Since(0, 0); len(got) == 0 || got[0].Kind != "auth.user-created" {
		t.Errorf("events: got %v, want those of the first run", got)
	}
}

// Settings that are changed act at once: services come and go.
func TestSettingsAct(t *testing.T) {
	r := start(t, t.TempDir())
	set := func(path, value string) {
		t.Helper()
		if err := r.changer().Set(path, value, host.Origin{Via: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	// A service whose port was chosen by the system listens elsewhere when it
	// comes back, so only its going is looked at here.
	set("https.enabled", "false")
	eventually(t, "HTTPS to be off", func() bool { return !listens(r.at.HTTPS) })
	set("https.enabled", "true")
	set("ipmi.enabled", "false")
	eventually(t, "IPMI to be off", func() bool {
		c, err := net.ListenPacket("udp", r.at.IPMI)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	set("lockout.threshold", "3")
	eventually(t, "the lockout to act", func() bool { return r.Users.Lockout().Threshold == 3 })
	if !listens(r.at.SSH) {
		t.Error("SSH was stopped by a setting of others")
	}
	if err := r.changer().Set("power.off_time", "never", host.Origin{}); err == nil {
		t.Error("a bad value was taken")
	}
	if err := r.changer().Unset("lockout.threshold", host.Origin{}); err != nil {
		t.Error(err)
	}
	eventually(t, "the default to act", func() bool { return r.Users.Lockout().Threshold == 5 })
	if got := r.kinds(); slices.Contains(got, "settings.not-applied") || !slices.Contains(got, "settings.changed") {
		t.Errorf("events: got %v", got)
	}
}

// A key of the settings is admin's for as long as it stands there; keys that
// were given otherwise stay.
func TestSSHKeys(t *testing.T) {
	b, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const (
		one = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBP8Zl6nJ1N3kZrL1b3J2x3wq4y5z6A7B8C9D0E1F2G3 one"
		two = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJP8Zl6nJ1N3kZrL1b3J2x3wq4y5z6A7B8C9D0E1F2G4 two"
		own = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKP8Zl6nJ1N3kZrL1b3J2x3wq4y5z6A7B8C9D0E1F2G5 own"
	)
	if err := b.giveKeys([]string{one}); err != nil {
		t.Errorf("before there is an administrator: %v", err)
	}
	if _, err := b.Login(filepath.Join(t.TempDir(), "login.json"), ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Users.SetKeys("admin", []string{own}, auth.Attempt{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ keys, want []string }{
		{[]string{one, two}, []string{own, one, two}},
		{[]string{two}, []string{own, two}},
		{[]string{two}, []string{own, two}},
		{nil, []string{own}},
	} {
		if err := b.giveKeys(tt.keys); err != nil {
			t.Error(err)
		}
		u, _ := b.Users.User("admin")
		if !slices.Equal(u.Keys, tt.want) {
			t.Errorf("settings %v: got %v, want %v", tt.keys, u.Keys, tt.want)
		}
	}
}

// SSH cannot be switched off by SSH: it is the only way to switch it on.
func TestSSHOff(t *testing.T) {
	b, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.changer().Set("ssh.enabled", "false", host.Origin{Via: "ssh"}); err == nil || !b.Settings.Get().SSH.Enabled {
		t.Errorf("got %v and SSH enabled: %v, want it refused", err, b.Settings.Get().SSH.Enabled)
	}
	if err := b.changer().Set("ssh.enabled", "false", host.Origin{Via: "test"}); err != nil || b.Settings.Get().SSH.Enabled {
		t.Errorf("by another way: got %v", err)
	}
}

// A port that somebody else has is told at once, by name.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	err = b.Run(t.Context(), Run{Address: "127.0.0.1", SSH: l.Addr().(*net.TCPAddr).Port, Ready: func(Addresses) { t.Error("ready") }})
	if err == nil || !strings.Contains(err.Error(), "ssh: ") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v, want ssh's port in use", err)
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := Open(options(dir)); !errors.Is(err, store.ErrInUse) {
		t.Errorf("got %v, want %v", err, store.ErrInUse)
	}
}

// A damaged state file does not keep the board from starting.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err = Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got := b.Events.Since(0, 0); len(got) == 0 || got[0].Kind != "state.damaged" {
		t.Errorf("events: got %v, want state.damaged", got)
	}
	if _, err := os.Stat(path + ".bad"); err != nil {
		t.Errorf("the damaged file is not kept: %v", err)
	}
}

// A reset through IPMI makes Run return ErrReset. (That ipmitool's command
// gets there is shown end to end.)
func TestReset(t *testing.T) {
	b, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(ErrReset)
	if err := b.Run(ctx, Run{Address: "127.0.0.1", Ready: func(Addresses) {}}); !errors.Is(err, ErrReset) {
		t.Errorf("got %v, want %v", err, ErrReset)
	}
}

func TestLogin(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "login.json")
	b, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	made, err := b.Login(path, "")
	if err != nil || made.User != "admin" || made.Password == "" || made.IPMIPassword == "" || made.Password == made.IPMIPassword {
		t.Fatalf("first: got %+v, %v, want two different random secrets", made, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: got %v, %v, want mode 0600", path, info, err)
	}
	if again, err := b.Login(path, ""); err != nil || again != made {
		t.Errorf("again: got %+v, %v, want %+v", again, err, made)
	}
	if given, err := b.Login(path, "x"); err != nil || given != (Login{"admin", "x", "x"}) {
		t.Errorf("given: got %+v, %v", given, err)
	}
	if again, err := b.Login(path, ""); err != nil || again.Password != "x" {
		t.Errorf("after given: got %+v, %v", again, err)
	}
	if _, err := b.Login(path, strings.Repeat("x", 21)); err == nil {
		t.Error("21 bytes: got success, want IPMI's limit told")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Login(path, ""); err == nil {
		t.Error("a damaged file: got success")
	}
}

// A cut between the file and the user costs nothing: the next start makes both
// anew, and what the file says is what logs in.
func TestLoginCut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "login.json")
	if err := (Login{"admin", "of a start that was cut", "never set"}).save(path); err != nil {
		t.Fatal(err)
	}
	b, err := Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	l, err := b.Login(path, "")
	if err != nil {
		t.Fatal(err)
	}
	from := auth.Attempt{Via: "test", Source: netip.MustParseAddr("192.0.2.1"), Name: l.User}
	if _, err := b.Users.Password(t.Context(), from, l.Password); err != nil {
		t.Errorf("the password that was answered: %v", err)
	}
	if kept, err := b.Login(path, ""); err != nil || kept != l {
		t.Errorf("kept: got %+v, %v, want %+v", kept, err, l)
	}

	// A file that cannot be written makes no administrator.
	other, err := Open(options(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Login(filepath.Join(dir, "no such folder", "login.json"), ""); err == nil || other.Users.HasAdministrator() {
		t.Errorf("got %v and an administrator: %v, want an error and none", err, other.Users.HasAdministrator())
	}
}

func TestValidate(t *testing.T) {
	line := func(n int) *board.Wire { return &board.Wire{Line: n} }
	tests := []struct {
		name    string
		change  func(*Settings)
		pointer string // "" for a good document
	}{
		{"defaults", func(*Settings) {}, ""},
		{"host name", func(s *Settings) { s.HostName = "rack7.example-1" }, ""},
		{"empty host name", func(s *Settings) { s.HostName = "" }, "hostname"},
		{"host name with a space", func(s *Settings) { s.HostName = "a b" }, "hostname"},
		{"host name with a hyphen first", func(s *Settings) { s.HostName = "-a" }, "hostname"},
		{"a long host name", func(s *Settings) { s.HostName = strings.Repeat("a", 64) }, "hostname"},
		{"a key that is none", func(s *Settings) { s.SSHKeys = []string{"ssh-rsa"} }, "ssh_keys.0"},
		{"one line for two wires", func(s *Settings) { s.Wires.ResetButton, s.Wires.NMIButton = line(9), line(9) }, "wires.nmi_button.line"},
		{"a line that the board has not", func(s *Settings) { s.Wires.ResetButton = line(99) }, "wires.reset_button.line"},
		{"a time out of range", func(s *Settings) { s.Power.PowerPulse = time.Hour }, "power.power_pulse"},
		{"SSH sessions", func(s *Settings) { s.SSH.MaxSessions = 0 }, "ssh.max_sessions"},
		{"SSH idle", func(s *Settings) { s.SSH.IdleTimeout = -1 }, "ssh.idle_timeout"},
		{"IPMI sessions", func(s *Settings) { s.IPMI.MaxSessions = 1000 }, "ipmi.max_sessions"},
		{"lockout", func(s *Settings) { s.Lockout.Factor = 99 }, "lockout.factor"},
		{"a time server", func(s *Settings) { s.Time.Servers = []string{"ok", "a b"} }, "time.servers.1"},
		{"an update's key", func(s *Settings) { s.Update.Keys = []string{"AAAA"} }, "update.keys.0"},
		{"too many of them", func(s *Settings) { s.Update.Keys = make([]string, 17) }, "update.keys"},
	}
	onBoard := func(w board.Wires) error {
		for _, n := range w.List() {
			if n.Line > 10 {
				return &settings.FieldError{Pointer: "/" + n.Name + "/line", Err: board.ErrNoLine}
			}
		}
		return nil
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Defaults()
			tt.change(&s)
			err := validate(&s, onBoard)
			if tt.pointer == "" {
				if err != nil {
					t.Errorf("got %v, want it valid", err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.pointer+": ") {
				t.Errorf("got %v, want an error at %s", err, tt.pointer)
			}
		})
	}
}

func TestFirmware(t *testing.T) {
	for version, want := range map[string][2]uint8{
		"0.1.0": {0, 1}, "v1.2.3": {1, 2}, "3": {3, 0}, "devel": {0, 0}, "200.150.1": {127, 99}, "": {0, 0},
	} {
		if major, minor := firmware(version); major != want[0] || minor != want[1] {
			t.Errorf("%q: got %d.%d, want %d.%d", version, major, minor, want[0], want[1])
		}
	}
}

// FuzzSettings: no value at any path, however odd, makes the settings panic,
// and a document with what was taken is valid.
func FuzzSettings(f *testing.F) {
	for _, seed := range [][2]string{
		{"hostname", "a"}, {"power.off_time", "5s"}, {"power.restore_policy", "always-on"}, {"power", `{"off_time": "1s"}`},
		{"wires.standby", "null"}, {"wires", `{"nmi_button": {"line": 3, "active_low": true}}`}, {"ssh_keys", `["ssh-ed25519 AAAA"]`},
		{"ipmi.idle_timeout", "60"}, {"ipmi", "{"}, {"", "null"}, {"/wires/standby/line", "1e9"}, {"version", "2"},
	} {
		f.Add(seed[0], seed[1])
	}
	b, err := Open(options(f.TempDir()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := b.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, path, value string) {
		if b.Settings.Set(path, value) != nil {
			return
		}
		s := b.Settings.Get()
		if err := validate(&s, nil); err != nil {
			t.Errorf("%s = %q was taken and is not valid: %v", path, value, err)
		}
	})
}
