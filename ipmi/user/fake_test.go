package user

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

const app = command.App

// rig is the commands over the real accounts on a store of their own.
type rig struct {
	*Manager
	t       testing.TB
	db      *store.Store
	auth    *auth.Auth
	list    []command.Command
	channel *fakeChannel
	keys    *fakeKeys

	mu      sync.Mutex
	reports []auth.Report
}

// newRig has user 2, admin, an administrator who can log in by SSH.
func newRig(t testing.TB) *rig {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, db: db, channel: newChannel(), keys: &fakeKeys{}}
	t.Cleanup(func() { _ = db.Close() }) // a test closes it itself
	r.open()
	r.must(r.auth.Create(auth.User{Name: "admin", Role: auth.Administrator, Enabled: true, Keys: []string{
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUj6b5TFKAPhKjqHQWmKqBpnJ2kYhy1cOV8OBV0dVxq"}}, "", auth.Attempt{}))
	r.must(r.auth.SetIPMISecret("admin", "secret of admin", auth.Attempt{}))
	r.told()
	return r
}

// open is a start of the board's software.
func (r *rig) open() {
	r.t.Helper()
	a, err := auth.Open(auth.Options{Store: r.db, Report: r.take, ShortSecrets: true})
	r.must(err)
	r.t.Cleanup(func() { r.must(a.Close()) })
	r.auth = a
	r.Manager = New(Options{Users: a, Channel: r.channel, Keys: r.keys, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	r.list = r.Commands()
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) take(x auth.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, x)
}

// told returns the kinds of the reports since the last call, each of which must
// say who it was and from where, if it was not the board.
func (r *rig) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kinds []string
	for _, x := range r.reports {
		from := commandtest.Origin()
		if x.Via != "" && (x.Via != from.Via || x.User != from.User || x.Source != from.Source) {
			r.t.Errorf("got report %+v, want it from %v", x, from)
		}
		kinds = append(kinds, x.Kind)
	}
	r.reports = nil
	return kinds
}

// ask runs a command and wants a code, "00h" for success.
func (r *rig) ask(what, want string, cmd byte, data ...byte) []byte {
	r.t.Helper()
	code, reply := commandtest.Call(r.t, r.list, app, cmd, data...)
	if code.String() != want {
		r.t.Errorf("%s: got code %v, want %s", what, code, want)
	}
	return reply
}

// gets is ask for a command that answers, and wants the answer.
func (r *rig) gets(what string, want []byte, cmd byte, data ...byte) {
	r.t.Helper()
	if got := r.ask(what, "00h", cmd, data...); !slices.Equal(got, want) {
		r.t.Errorf("%s: got % x, want % x", what, got, want)
	}
}

// tells wants reports of these kinds.
func (r *rig) tells(what string, want ...string) {
	r.t.Helper()
	if got := r.told(); !slices.Equal(got, want) {
		r.t.Errorf("%s: got reports %v, want %v", what, got, want)
	}
}

// padded is s in n bytes.
func padded(s string, n int) []byte {
	b := make([]byte, n)
	copy(b, s)
	return b
}

// fakeChannel keeps both settings.
type fakeChannel struct {
	kept, inForce Access
	asked         []string
	err           error
}

func newChannel() *fakeChannel {
	a := Access{Enabled: true, Limit: command.Administrator}
	return &fakeChannel{kept: a, inForce: a}
}

func (f *fakeChannel) Access(kept bool) Access {
	if kept {
		return f.kept
	}
	return f.inForce
}

func (f *fakeChannel) SetAccess(a Access, kept bool, from host.Origin) error {
	f.asked = append(f.asked, fmt.Sprintf("kept %v: enabled %v, %v, alerts %v for %v", kept, a.Enabled, a.Limit, a.Alerts, from))
	if f.err != nil {
		return f.err
	}
	if kept {
		f.kept = a
	} else {
		f.inForce = a
	}
	return nil
}

// fakeKeys keep K_G.
type fakeKeys struct {
	key    [keyLen]byte
	locked bool
	sets   int
	err    error
}

func (f *fakeKeys) KG() ([keyLen]byte, bool) { return f.key, f.locked }

func (f *fakeKeys) SetKG(key [keyLen]byte, _ host.Origin) error {
	f.sets++
	if f.err == nil {
		f.key = key
	}
	return f.err
}

func (f *fakeKeys) LockKG(host.Origin) error {
	if f.err == nil {
		f.locked = true
	}
	return f.err
}
