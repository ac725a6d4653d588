package auth

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// The bounds of sessions. The timeout's are Redfish's (DSP0268,
// SessionService.SessionTimeout).
const (
	MaxSessions           = 64
	MinSessionTimeout     = 30 * time.Second
	MaxSessionTimeout     = 24 * time.Hour
	defaultSessionTimeout = 30 * time.Minute
)

const (
	settingBucket     = "auth"
	sessionTimeoutKey = "session-timeout-seconds"
)

// A Session is one login by token, of Redfish or the web page. Sessions live in
// memory only: a restart of the board's software logs everybody out.
type Session struct {
	ID                string // not secret, and not derived from the token
	User              string
	Role              Role
	Source            netip.Addr
	Via               string
	Created, LastUsed time.Time
}

// sessions holds the sessions by the SHA-256 of their tokens. A look-up by
// digest takes no time that depends on the token in a way one could steer, and
// memory that leaks shows no token.
type sessions struct {
	user func(name string) *record

	mu      sync.Mutex
	timeout time.Duration
	byToken map[[32]byte]*session
}

type session struct {
	Session
	version uint64 // of the user's record
}

func newSessions(timeout time.Duration, user func(string) *record) *sessions {
	return &sessions{user: user, timeout: timeout, byToken: map[[32]byte]*session{}}
}

// alive returns the session's user, or nil where the session has timed out or
// the user is gone or changed.
func (s *sessions) alive(e *session, now time.Time) *record {
	r := s.user(e.User)
	if r == nil || !r.Enabled || r.version != e.version || now.Sub(e.LastUsed) > s.timeout {
		return nil
	}
	return r
}

// sweep drops the sessions that are not alive.
func (s *sessions) sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(time.Now())
}

func (s *sessions) sweepLocked(now time.Time) {
	for k, e := range s.byToken {
		if s.alive(e, now) == nil {
			delete(s.byToken, k)
		}
	}
}

// NewSession begins a session of a user whom Password (or another login) has
// just returned. It answers ErrDenied if the user has changed since. The token
// is told this once.
//
// Where MaxSessions are open, the user with the most (at equal numbers the
// newcomer) loses the one idle for longest: so MaxSessions/MaxUsers of each
// user are safe from all others.
func (a *Auth) NewSession(u User, t Attempt) (Session, string, error) {
	// Redfish's validator takes a token that is hexadecimal for a random one.
	token := hex.EncodeToString(randomBytes(32))
	s := a.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e := &session{version: u.version, Session: Session{ID: hex.EncodeToString(randomBytes(16)), User: u.Name,
		Role: u.Role, Source: t.Source, Via: t.Via, Created: now, LastUsed: now}}
	r := s.alive(e, now)
	if r == nil {
		return Session{}, "", ErrDenied
	}
	e.Role = r.Role
	s.sweepLocked(now)
	if len(s.byToken) >= MaxSessions {
		s.evict(u.Name)
	}
	s.byToken[sha256.Sum256([]byte(token))] = e
	return e.Session, token, nil
}

func (s *sessions) evict(newcomer string) {
	count := map[string]int{newcomer: 1} // the one to come
	for _, e := range s.byToken {
		count[e.User]++
	}
	most := newcomer
	for name, n := range count {
		if n > count[most] {
			most = name
		}
	}
	var idlest [32]byte
	var found *session
	for k, e := range s.byToken {
		if e.User == most && (found == nil || e.LastUsed.Before(found.LastUsed)) {
			idlest, found = k, e
		}
	}
	delete(s.byToken, idlest)
}

// Session returns the session of a token and its user as he is now, and marks
// it used. It is false for a token that is unknown or expired, or whose user
// is gone or disabled or has a new password or role.
func (a *Auth) Session(token string) (Session, User, bool) {
	digest := sha256.Sum256([]byte(token))
	s := a.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byToken[digest]
	if e == nil {
		return Session{}, User{}, false
	}
	now := time.Now()
	r := s.alive(e, now)
	if r == nil {
		delete(s.byToken, digest)
		return Session{}, User{}, false
	}
	e.LastUsed = now
	return e.Session, r.user(), true
}

// SessionByID returns a session without marking it used.
func (a *Auth) SessionByID(id string) (Session, bool) {
	for _, e := range a.Sessions() {
		if e.ID == id {
			return e, true
		}
	}
	return Session{}, false
}

// Sessions returns the open sessions, the oldest first.
func (a *Auth) Sessions() []Session {
	s := a.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(time.Now())
	all := make([]Session, 0, len(s.byToken))
	for _, e := range s.byToken {
		all = append(all, e.Session)
	}
	slices.SortFunc(all, func(x, y Session) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return all
}

// EndSession ends a session; false: there is none of that ID.
func (a *Auth) EndSession(id string) bool {
	s := a.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(time.Now())
	for k, e := range s.byToken {
		if e.ID == id {
			delete(s.byToken, k)
			return true
		}
	}
	return false
}

// SessionTimeout is how long a session may be idle.
func (a *Auth) SessionTimeout() time.Duration {
	a.sessions.mu.Lock()
	defer a.sessions.mu.Unlock()
	return a.sessions.timeout
}

// SetSessionTimeout changes it, for open sessions too, and keeps it over
// restarts. It takes whole seconds from MinSessionTimeout to MaxSessionTimeout.
func (a *Auth) SetSessionTimeout(d time.Duration) error {
	if err := checkSessionTimeout(d); err != nil {
		return err
	}
	a.changing.Lock() // so that memory and disk end up with the same of two
	defer a.changing.Unlock()
	if err := a.db.PutJSON(settingBucket, sessionTimeoutKey, int64(d/time.Second)); err != nil {
		return fmt.Errorf("session timeout: %w", err)
	}
	a.sessions.mu.Lock()
	defer a.sessions.mu.Unlock()
	a.sessions.timeout = d
	return nil
}

func checkSessionTimeout(d time.Duration) error {
	if d < MinSessionTimeout || d > MaxSessionTimeout || d%time.Second != 0 {
		return fmt.Errorf("%w: session timeout: whole seconds, %v to %v", ErrInvalid, MinSessionTimeout, MaxSessionTimeout)
	}
	return nil
}

// loadSessionTimeout reads what SetSessionTimeout kept. A value that makes no
// sense is as good as none: it must not keep the users out.
func loadSessionTimeout(db *store.Store, log *slog.Logger) time.Duration {
	var seconds int64
	found, err := db.GetJSON(settingBucket, sessionTimeoutKey, &seconds)
	if err == nil && !found {
		return defaultSessionTimeout
	}
	d := time.Duration(seconds) * time.Second
	if err == nil {
		err = checkSessionTimeout(d)
	}
	if err != nil {
		log.Error("session timeout: the default is used", "error", err)
		return defaultSessionTimeout
	}
	return d
}
