package ipmi

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

// fakeAccounts are users whose IPMI secrets stand in the test.
type fakeAccounts struct {
	mu      sync.Mutex
	users   map[string]fakeUser
	version uint64   // of the newest user
	results []string // "name ok" and "name denied", in order
}

type fakeUser struct {
	secret  string
	role    auth.Role
	version uint64
}

func newAccounts() *fakeAccounts {
	return &fakeAccounts{users: map[string]fakeUser{
		"admin":    {secret: "secret-20-characters", role: auth.Administrator},
		"operator": {secret: "operators-secret", role: auth.Operator},
		"reader":   {secret: "readers-secret", role: auth.ReadOnly},
	}}
}

func (a *fakeAccounts) Secret(t auth.Attempt) (s auth.Secret, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, known := a.users[t.Name]
	copy(s.Key[:], u.secret)
	s.Role, s.Version = u.role, u.version
	return s, known
}

func (a *fakeAccounts) SecretResult(t auth.Attempt, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	word := " denied"
	if ok {
		word = " ok"
	}
	a.results = append(a.results, t.Via+" "+t.Source.String()+" "+t.Name+word)
}

func (a *fakeAccounts) told() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.results)
}

func (a *fakeAccounts) User(name string) (auth.User, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, ok := a.users[name]
	return auth.User{Name: name, Role: u.role, Enabled: ok, IPMI: ok, IPMIVersion: u.version}, ok
}

func (a *fakeAccounts) Users() (all []auth.User) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, u := range a.users {
		all = append(all, auth.User{Name: name, Role: u.role, Enabled: true, IPMI: true})
	}
	slices.SortFunc(all, func(x, y auth.User) int {
		if x.Name < y.Name {
			return -1
		}
		return 1
	})
	return all
}

func (a *fakeAccounts) set(name string, u fakeUser) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u.role == "" {
		delete(a.users, name)
	} else {
		a.version++
		u.version = a.version
		a.users[name] = u
	}
}

// fakeHost is power, boot and identify. A request that has err answers it.
type fakeHost struct {
	mu     sync.Mutex
	status host.PowerStatus
	asked  []string
	err    error
	hold   chan struct{} // where not nil, requests wait for it
	boots  host.BootOverride
	absent []host.Action
	light  bool
}

func newHost() *fakeHost {
	return &fakeHost{
		status: host.PowerStatus{State: host.StateOff, Restore: host.LastState, RestartCause: host.CauseUnknown},
		boots:  host.BootOverride{Target: host.BootDefault},
	}
}

func (f *fakeHost) note(what string, o host.Origin) error {
	f.mu.Lock()
	f.asked = append(f.asked, what+" for "+o.String())
	hold, err := f.hold, f.err
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return err
}

func (f *fakeHost) calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

func (f *fakeHost) change(g func(*fakeHost)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g(f)
}

type fakePower struct{ *fakeHost }

func (f fakePower) Supports(a host.Action) bool { return !slices.Contains(f.absent, a) }

func (f fakePower) Request(a host.Action, c host.Cause, o host.Origin) (*host.Operation, error) {
	if !f.Supports(a) {
		return nil, errors.ErrUnsupported
	}
	return nil, f.note(string(a)+" as "+string(c), o)
}

func (f fakePower) Status() host.PowerStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f fakePower) SetRestorePolicy(p host.RestorePolicy, o host.Origin) error {
	err := f.note("policy "+string(p), o)
	if err == nil {
		f.change(func(h *fakeHost) { h.status.Restore = p })
	}
	return err
}

type fakeBoot struct{ *fakeHost }

func (f fakeBoot) Get() host.BootOverride {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.boots.Expires.IsZero() && !time.Now().Before(f.boots.Expires) {
		return host.BootOverride{Target: host.BootDefault}
	}
	return f.boots
}

func (f fakeBoot) Set(b host.BootOverride, o host.Origin) error {
	err := f.note("boot "+string(b.Target), o)
	if err == nil {
		f.change(func(h *fakeHost) { h.boots = b })
	}
	return err
}

type fakeIdentify struct{ *fakeHost }

func (f fakeIdentify) On() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.light
}

func (f fakeIdentify) Set(d time.Duration, o host.Origin) error {
	err := f.note("identify "+d.String(), o)
	if err == nil {
		f.change(func(h *fakeHost) { h.light = d != 0 })
	}
	return err
}

// bmc is a server with fakes behind it and without a socket.
type bmc struct {
	*Server
	accounts *fakeAccounts
	host     *fakeHost
	resets   []string
}

func newBMC(t testing.TB, change ...func(*Options, *machine)) *bmc {
	t.Helper()
	b := &bmc{accounts: newAccounts(), host: newHost()}
	o := Options{
		Config: DefaultConfig(), Accounts: b.accounts,
		Device: Device{Major: 1, Minor: 23, Product: 0x4455, Aux: [4]byte{1, 2, 3, 4}},
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		ResetBMC: func(cold bool, from host.Origin) {
			kind := "warm"
			if cold {
				kind = "cold"
			}
			b.resets = append(b.resets, kind+" for "+from.String())
		},
	}
	m := machine{power: fakePower{b.host}, boot: fakeBoot{b.host}, identify: fakeIdentify{b.host}}
	for i := range m.uuid {
		m.uuid[i] = byte(i)
	}
	m.uuid[6], m.uuid[8] = 0x46, 0x88 // version 4
	for _, f := range change {
		f(&o, &m)
	}
	s, err := newServer(o, m)
	if err != nil {
		t.Fatal(err)
	}
	b.Server = s
	return b
}

// mailbox takes what the server sends by itself, and not as a packet's answer.
// As a network it loses what finds no room.
type mailbox chan []byte

func (m mailbox) send(b []byte, _ *peer) {
	select {
	case m <- slices.Clone(b):
	default:
	}
}

// console makes a console at addr.
func (b *bmc) console(t testing.TB, addr string) *console {
	c := &console{t: t, w: newWorker(b.Server), mail: make(mailbox, 64), suite: 17, openPrivilege: 0, role: 0x14, id: 0, consoleID: 0xA0A2A3A4, seq: 0}
	c.user, c.password = "admin", "secret-20-characters"
	c.w.from = peer{addr: netip.MustParseAddrPort(addr), via: c.mail}
	return c
}
