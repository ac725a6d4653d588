package ipmi

import (
	"context"
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
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sol"
	"github.com/nitrino/nitrino/ipmi/user"
)

// fakeAccounts are users whose IPMI secrets stand in the test.
type fakeAccounts struct {
	mu      sync.Mutex
	users   map[string]fakeUser
	version uint64   // of the newest user
	results []string // "name ok" and "name denied", in order
	raises  []string // "name LEVEL", in order
}

type fakeUser struct {
	secret  string
	role    auth.Role
	version uint64
	number  int
	access  auth.IPMIAccess
}

func newAccounts() *fakeAccounts {
	return &fakeAccounts{users: map[string]fakeUser{
		"admin":    {secret: "secret-20-characters", role: auth.Administrator, number: 2},
		"operator": {secret: "operators-secret", role: auth.Operator, number: 3},
		"reader":   {secret: "readers-secret", role: auth.ReadOnly, number: 4},
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

func (a *fakeAccounts) Privilege(t auth.Attempt, level string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raises = append(a.raises, t.Via+" "+t.Source.String()+" "+t.Name+" "+level)
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
	return auth.User{Name: name, Number: u.number, Role: u.role, Enabled: ok, IPMI: ok, IPMIVersion: u.version, IPMIAccess: u.access}, ok
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

func (f fakePower) Hours() (time.Duration, bool) { return 0, false }

func (f fakeBoot) Targets() []host.BootTarget {
	return []host.BootTarget{host.BootPXE, host.BootDisk, host.BootCD, host.BootUSB, host.BootFloppy, host.BootDiags, host.BootUEFIHTTP, host.BootBIOSSetup}
}

func (f fakeBoot) Extend(time.Time, host.Origin) error { return nil }

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

// fakeSerial is a serial console whose watchers miss nothing.
type fakeSerial struct {
	mu      sync.Mutex
	all     []byte
	grew    chan struct{}
	written []byte
	breaks  int
	echo    bool
	rate    int // bytes a second that writes take; 0: no limit
}

func newSerial() *fakeSerial { return &fakeSerial{grew: make(chan struct{})} }

func (f *fakeSerial) say(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, p...)
	close(f.grew)
	f.grew = make(chan struct{})
}

func (f *fakeSerial) Write(p []byte) (int, error) {
	f.mu.Lock()
	f.written = append(f.written, p...)
	echo, rate := f.echo, f.rate
	f.mu.Unlock()
	if echo {
		f.say(p)
	}
	if rate > 0 {
		time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(rate))
	}
	return len(p), nil
}

func (f *fakeSerial) Break(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.breaks++
	return nil
}

func (f *fakeSerial) typed() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.written)
}

func (f *fakeSerial) Watch(replay int) sol.Watcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &serialWatcher{f, len(f.all) - replay}
}

type serialWatcher struct {
	f  *fakeSerial
	at int
}

func (w *serialWatcher) Next(ctx context.Context, p []byte) (n int, lost int64, err error) {
	for {
		w.f.mu.Lock()
		n = copy(p, w.f.all[w.at:])
		grew := w.f.grew
		w.f.mu.Unlock()
		if w.at += n; n > 0 {
			return n, 0, nil
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
}

// fakeChannel has a limit and no more.
type fakeChannel struct{ limit command.Privilege }

func (f fakeChannel) Access(bool) user.Access { return user.Access{Enabled: true, Limit: f.limit} }

func (f fakeChannel) SetAccess(user.Access, bool, host.Origin) error { return errors.ErrUnsupported }

// fakeKeys is a K_G that nobody changes.
type fakeKeys [20]byte

func newKeys(kg string) (k fakeKeys) {
	copy(k[:], kg)
	return k
}

func (f fakeKeys) KG() ([20]byte, bool) { return f, false }

func (f fakeKeys) SetKG([20]byte, host.Origin) error { return errors.ErrUnsupported }

func (f fakeKeys) LockKG(host.Origin) error { return errors.ErrUnsupported }

// bmc is a server with fakes behind it and without a socket.
type bmc struct {
	*Server
	accounts *fakeAccounts
	host     *fakeHost
	serial   *fakeSerial
	resets   []string
}

func newBMC(t testing.TB, change ...func(*Options, *machine)) *bmc {
	t.Helper()
	b := &bmc{accounts: newAccounts(), host: newHost(), serial: newSerial()}
	o := Options{
		Config: DefaultConfig(), Accounts: b.accounts,
		Device:     Device{Major: 1, Minor: 23, Product: 0x4455, Aux: [4]byte{1, 2, 3, 4}},
		Log:        slog.New(slog.NewTextHandler(io.Discard, nil)),
		SerialRate: func() int { return 115200 },
		ResetBMC: func(cold bool, from host.Origin) {
			kind := "warm"
			if cold {
				kind = "cold"
			}
			b.resets = append(b.resets, kind+" for "+from.String())
		},
	}
	m := machine{power: fakePower{b.host}, boot: fakeBoot{b.host}, identify: fakeIdentify{b.host}, console: b.serial}
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

// run does b's background work; the test must end it by the function.
func (b *bmc) run(t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want %v", err, context.Canceled)
		}
	})
	for err := sol.ErrStopped; errors.Is(err, sol.ErrStopped); time.Sleep(time.Millisecond) {
		_, err = b.sol.Activate(0, nil) // there is no such instance, once it runs
	}
	return func() { cancel(); running.Wait() }
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
