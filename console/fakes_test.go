package console

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

// fakeUsers is a Users whose passwords are in clear.
type fakeUsers struct {
	mu        sync.Mutex
	users     map[string]auth.User
	passwords map[string]string
	secrets   map[string]string
	attempts  []auth.Attempt // logins that were decided
	changed   chan struct{}
}

func newFakeUsers() *fakeUsers {
	f := &fakeUsers{users: map[string]auth.User{}, passwords: map[string]string{}, secrets: map[string]string{}, changed: make(chan struct{})}
	for i, role := range []auth.Role{auth.Administrator, auth.Operator, auth.ReadOnly} {
		name := []string{"admin", "op", "ro"}[i]
		f.users[name] = auth.User{Name: name, Role: role, Enabled: true, Number: auth.MinNumber + i, IPMI: i < 2}
		f.passwords[name] = name + "-password"
	}
	op := f.users["op"]
	op.IPMIAccess.Limit = auth.NoIPMI
	f.users["op"] = op
	f.users["off"] = auth.User{Name: "off", Role: auth.Administrator, Number: 17}
	f.passwords["off"] = "off-password"
	return f
}

func (f *fakeUsers) Password(_ context.Context, t auth.Attempt, password string) (auth.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts = append(f.attempts, t)
	u, ok := f.users[t.Name]
	if !ok || !u.Enabled || f.passwords[t.Name] != password {
		return auth.User{}, auth.ErrDenied
	}
	return u, nil
}

func (f *fakeUsers) PublicKey(_ context.Context, t auth.Attempt, key []byte) (auth.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts = append(f.attempts, t)
	u, ok := f.users[t.Name]
	for _, line := range u.Keys {
		k, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
		if ok && u.Enabled && err == nil && bytes.Equal(k.Marshal(), key) {
			return u, nil
		}
	}
	return auth.User{}, auth.ErrDenied
}

func (f *fakeUsers) User(name string) (auth.User, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.users[name]
	return u, ok
}

func (f *fakeUsers) Users() []auth.User {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []auth.User
	for _, u := range f.users {
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b auth.User) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (f *fakeUsers) edit(name string, change func(*auth.User)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.users[name]
	if !ok {
		return auth.ErrNotFound
	}
	change(&u)
	f.users[name] = u
	close(f.changed)
	f.changed = make(chan struct{})
	return nil
}

func (f *fakeUsers) Create(u auth.User, password string, _ auth.Attempt) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.users[u.Name]; ok {
		return auth.ErrExists
	}
	f.users[u.Name], f.passwords[u.Name] = u, password
	return nil
}

func (f *fakeUsers) Delete(name string, _ auth.Attempt) error {
	err := f.edit(name, func(*auth.User) {})
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, name)
	return err
}

func (f *fakeUsers) Rename(name, to string, _ auth.Attempt) error {
	u, ok := f.User(name)
	if !ok {
		return auth.ErrNotFound
	}
	u.Name = to
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, name)
	f.users[to], f.passwords[to], f.secrets[to] = u, f.passwords[name], f.secrets[name]
	return nil
}

func (f *fakeUsers) SetIPMIAccess(name string, x auth.IPMIAccess, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.IPMIAccess = x })
}

func (f *fakeUsers) SetRole(name string, r auth.Role, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.Role = r })
}

func (f *fakeUsers) SetEnabled(name string, on bool, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.Enabled = on })
}

func (f *fakeUsers) SetPassword(name, password string, by auth.Attempt) error {
	return f.edit(name, func(u *auth.User) {
		f.passwords[name] = password
		u.PasswordChangeRequired = u.PasswordChangeRequired && by.Name != name
	})
}

func (f *fakeUsers) SetIPMISecret(name, secret string, _ auth.Attempt) error {
	return f.edit(name, func(u *auth.User) { u.IPMI = secret != ""; f.secrets[name] = secret })
}

func (f *fakeUsers) SetKeys(name string, keys []string, _ auth.Attempt) error {
	for _, k := range keys {
		if err := auth.CheckKey(k); err != nil {
			return err
		}
	}
	return f.edit(name, func(u *auth.User) { u.Keys = keys })
}

func (f *fakeUsers) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakeUsers) of(m map[string]string, name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return m[name]
}

// fakeSettings holds strings.
type fakeSettings struct {
	mu      sync.Mutex
	values  map[string]string
	changed func() // nil, or called at each change
}

func (f *fakeSettings) Show(path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if path == "" {
		return []byte("{\n}\n"), nil
	}
	v, ok := f.values[path]
	if !ok {
		return nil, fmt.Errorf("bmc.json:3:5: no setting %q", path)
	}
	return []byte(v), nil
}

func (f *fakeSettings) Set(path, value string, by host.Origin) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if value == "bad" {
		return fmt.Errorf("bmc.json:3:5: %s: %w", path, host.ErrInvalid)
	}
	f.values[path] = value + " by " + by.User
	if f.changed != nil {
		f.changed()
	}
	return nil
}

func (f *fakeSettings) Unset(path string, _ host.Origin) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.values, path)
	return nil
}

// KeepNetwork keeps a changed network.vlan.
func (f *fakeSettings) KeepNetwork(host.Origin) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.values["network.vlan"] == "" {
		return fmt.Errorf("not on trial: %w", host.ErrInvalid)
	}
	delete(f.values, "network.vlan")
	return nil
}

func (f *fakeSettings) Paths() []string {
	return []string{"host.name", "power.off_time", "power.power_pulse"}
}

// line is an output that calls edge at each change.
type line struct {
	mu     sync.Mutex
	active bool
	edge   func(bool)
}

func (l *line) Set(active bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if active != l.active && l.edge != nil {
		l.edge(active)
	}
	l.active = active
	return nil
}

// light is the power LED.
type light struct {
	mu      sync.Mutex
	on      bool
	changed chan struct{}
}

func (s *light) set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *light) Level() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on, nil
}

func (s *light) Watch(ctx context.Context, changed func(bool)) error {
	for {
		s.mu.Lock()
		on, wake := s.on, s.changed
		s.mu.Unlock()
		changed(on)
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serial is a serial port whose host echoes what it gets.
type serial struct {
	mu     sync.Mutex
	typed  []byte
	breaks int
	conn   *serialConn
	opened chan struct{}
	broken bool
}

// fail makes the port fail for good.
func (p *serial) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = true
	_ = p.conn.Close() // never fails
}

type serialConn struct {
	p      *serial
	toUs   chan []byte
	rest   []byte
	closed chan struct{}
	once   sync.Once
}

func (p *serial) Open(context.Context) (host.PortConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		return nil, io.ErrClosedPipe
	}
	p.conn = &serialConn{p: p, toUs: make(chan []byte, 64), closed: make(chan struct{})}
	if p.opened != nil {
		close(p.opened)
		p.opened = nil
	}
	return p.conn, nil
}

// say is the host writing to its serial port.
func (c *serialConn) say(b []byte) {
	select {
	case c.toUs <- b:
	case <-c.closed:
	}
}

func (c *serialConn) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		select {
		case c.rest = <-c.toUs:
		case <-c.closed:
			return 0, io.EOF
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *serialConn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	c.p.typed = append(c.p.typed, b...)
	c.p.mu.Unlock()
	c.say(bytes.Clone(b))
	return len(b), nil
}

func (c *serialConn) Break(context.Context) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.breaks++
	return nil
}

func (c *serialConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (p *serial) seen() (string, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.typed), p.breaks
}

// selector takes every boot target it lists.
type selector struct{}

func (selector) Targets() []host.BootTarget {
	return []host.BootTarget{host.BootPXE, host.BootDisk, host.BootCD, host.BootUSB}
}

func (selector) SelectBoot(context.Context, host.BootTarget, host.BootMode) error { return nil }
