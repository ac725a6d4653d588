// Package redfishtest is what the tests of the Redfish service share: fakes of
// users and wires, a client that checks what holds for every answer, and DMTF's
// schemas.
package redfishtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Auth is an Auth whose passwords are the user's name with "-pw" and whose
// clock a test sets.
type Auth struct {
	mu      sync.Mutex
	Users   map[string]auth.User
	Open    map[string]auth.Session // by token
	timeout time.Duration
	now     time.Time
	Tries   int
	Err     error // of Password, if set
	SaveErr error // of SetSessionTimeout, if set
}

// NewAuth has the users admin, oper, reader and nobody, whose role is none.
func NewAuth() *Auth {
	a := &Auth{Users: map[string]auth.User{}, Open: map[string]auth.Session{}, timeout: 30 * time.Minute, now: time.Unix(1_700_000_000, 0)}
	for name, role := range map[string]auth.Role{"admin": auth.Administrator, "oper": auth.Operator, "reader": auth.ReadOnly, "nobody": "Guest"} {
		a.Users[name] = auth.User{Name: name, Role: role, Enabled: true}
	}
	return a
}

func (a *Auth) Password(_ context.Context, t auth.Attempt, password string) (auth.User, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Tries++
	if a.Err != nil {
		return auth.User{}, a.Err
	}
	if t.Via != resource.Via || !t.Source.IsLoopback() {
		return auth.User{}, fmt.Errorf("attempt %+v", t)
	}
	u, found := a.Users[t.Name]
	if !found || password != t.Name+"-pw" {
		return auth.User{}, fmt.Errorf("fake: %w", auth.ErrDenied)
	}
	return u, nil
}

func (a *Auth) NewSession(u auth.User, t auth.Attempt) (auth.Session, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token := fmt.Sprintf("token%d", len(a.Open))
	s := auth.Session{ID: fmt.Sprintf("s%d", len(a.Open)), User: u.Name, Role: u.Role, Source: t.Source, Via: t.Via, Created: a.now, LastUsed: a.now}
	a.Open[token] = s
	return s, token, nil
}

func (a *Auth) live(s auth.Session) bool { return a.now.Sub(s.LastUsed) <= a.timeout }

func (a *Auth) Session(token string) (auth.Session, auth.User, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, found := a.Open[token]
	if !found || !a.live(s) {
		return auth.Session{}, auth.User{}, false
	}
	s.LastUsed = a.now
	a.Open[token] = s
	return s, a.Users[s.User], true
}

func (a *Auth) SessionByID(id string) (auth.Session, bool) {
	for _, s := range a.Sessions() {
		if s.ID == id {
			return s, true
		}
	}
	return auth.Session{}, false
}

func (a *Auth) Sessions() []auth.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []auth.Session
	for _, s := range a.Open {
		if a.live(s) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(x, y auth.Session) int { return strings.Compare(x.ID, y.ID) })
	return all
}

func (a *Auth) EndSession(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for token, s := range a.Open {
		if s.ID == id && a.live(s) {
			s.LastUsed = time.Time{}
			a.Open[token] = s
			return true
		}
	}
	return false
}

func (a *Auth) SessionTimeout() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timeout
}

func (a *Auth) SetSessionTimeout(d time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.SaveErr != nil {
		return a.SaveErr
	}
	a.timeout = d
	return nil
}

// Pass lets time pass.
func (a *Auth) Pass(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(d)
}
