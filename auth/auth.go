// Package auth is the one list of users, and the one judge of who may come in,
// for every front-end: SSH and Redfish passwords, SSH public keys, IPMI secrets
// and Redfish sessions, with one lockout policy and one audit trail over all.
//
// Whatever is wrong with a login (password, name, a disabled user, a lock), the
// answer is ErrDenied after the work of one password hash, so that nobody
// learns which names exist. A process has one Auth: "one hash at a time" holds
// for what goes through one Auth.
package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// A Role is what a user may do, named as Redfish's predefined roles (DSP0266
// section 13.3): each one may do what the next may, and more.
type Role string

// The roles, from all rights to the fewest.
const (
	Administrator Role = "Administrator"
	Operator      Role = "Operator"
	ReadOnly      Role = "ReadOnly"
)

// rank orders the roles; 0 is no role at all.
func (r Role) rank() int {
	switch r {
	case Administrator:
		return 3
	case Operator:
		return 2
	case ReadOnly:
		return 1
	}
	return 0
}

// AtLeast says whether r may do what need may. An unknown role may do nothing,
// and nobody has the rights of an unknown need.
func (r Role) AtLeast(need Role) bool { return need.rank() > 0 && r.rank() >= need.rank() }

// A User is a user without secrets.
type User struct {
	Name    string
	Role    Role
	Enabled bool
	// Number is the user's IPMI user ID, MinNumber to MaxNumber: no two users
	// have the same, and a user's never changes. Create gives the lowest free
	// one where it is 0.
	Number int
	// IPMI tells that the user has an IPMI secret that can be used.
	IPMI bool
	// IPMISecretSize is 16 or 20 where the secret was set as one of that many
	// bytes, which IPMI remembers; else 0.
	IPMISecretSize int
	// IPMIAccess narrows what the user may do over IPMI.
	IPMIAccess IPMIAccess
	// Keys are the SSH public keys, as authorized_keys lines.
	Keys []string
	// PasswordChangeRequired: the user is to choose another password before
	// anything else (DSP0266, Password change required). It is for the front-ends to
	// hold the user to; IPMI, which knows another secret, does not.
	PasswordChangeRequired bool
	// IPMIVersion changes when the IPMI secret, the name, the role, Enabled or
	// what of IPMIAccess a session rests on does: an IPMI session that began
	// under another one is to end.
	IPMIVersion uint64

	// version is of the record that this was read from; NewSession refuses a
	// User whose password, role or state has changed since.
	version uint64
}

// Stands reports whether a login as u is still one of the user as he is now:
// what it rests on, the name, password, role and state, is the same. It is for
// long connections, see Changed.
func (u User) Stands(now User) bool {
	return now.Enabled && now.version == u.version && now.Name == u.Name && now.Role == u.Role
}

// An Attempt says who tries, by which front-end ("ssh", "redfish", "ipmi") and
// from where. As the `by` of a change it says who made it; the zero Attempt is
// the board itself.
type Attempt struct {
	Via    string
	Source netip.Addr
	Name   string
	// Begun is when the connection or handshake began that the attempt comes
	// over; zero where nobody knows.
	Begun time.Time
}

// Errors; compare with errors.Is.
var (
	// ErrDenied is the one answer to a wrong password, key or secret, an
	// unknown user, a disabled one and a lock.
	ErrDenied = errors.New("access denied")
	// ErrBusy: too many password checks are waiting. It is decided before
	// anybody looks at name or password, so it tells nothing about them.
	ErrBusy = errors.New("too many logins at once")
	// ErrNotFound: no such user.
	ErrNotFound = errors.New("no such user")
	// ErrExists: the name or the number is taken.
	ErrExists = errors.New("the user exists")
	// ErrInvalid: a name, password, secret, key, role or setting breaks a rule.
	ErrInvalid = errors.New("invalid value")
	// ErrFull: there are MaxUsers users.
	ErrFull = errors.New("no room for another user")
	// ErrLastAdministrator: nobody would be left to manage the board, or nobody
	// who can log in.
	ErrLastAdministrator = errors.New("the last enabled administrator must stay, and be able to log in")
)

// Options are what Open needs.
type Options struct {
	Store *store.Store
	// SealKey protects the IPMI secrets at rest; see SealKey the function.
	SealKey [32]byte
	// Log may be nil.
	Log *slog.Logger
	// Report takes the audit trail; it must not block. It may be nil.
	Report func(Report)
	// LoggedIn hears of every login, also of those that make no line in the
	// trail; it must not block. It may be nil.
	LoggedIn func(Attempt)
	// Lockout is DefaultLockout where it is zero.
	Lockout Lockout
	// ShortSecrets takes passwords and IPMI secrets below the least lengths:
	// for a simulator, whose user knows what the password protects.
	ShortSecrets bool
}

// Auth holds the users and judges logins. It is safe for several goroutines.
type Auth struct {
	db      *store.Store
	sealKey [32]byte
	short   bool
	log     *slog.Logger
	audit   *auditor
	tasks   *tasks

	hasher   *hasher
	gate     *gate
	cache    *cache
	lockouts *lockouts
	sessions *sessions

	// users is replaced as a whole at each change and never written to, so
	// that the network's hot paths read it without a lock.
	users atomic.Pointer[map[string]*record]

	changing sync.Mutex    // held over each change of a user, disk included
	version  uint64        // of the newest record; under changing
	changed  chan struct{} // closed at the next change; under changing
}

// Open reads the users. A record that cannot be read is reported and left out,
// an IPMI secret that cannot be opened is reported and left unused: neither
// keeps the others from logging in.
func Open(o Options) (*Auth, error) { return open(o, standardHasher()) }

func open(o Options, h *hasher) (*Auth, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Lockout == (Lockout{}) {
		o.Lockout = DefaultLockout()
	}
	if err := o.Lockout.Validate(); err != nil {
		return nil, err
	}
	a := &Auth{
		db: o.Store, sealKey: o.SealKey, short: o.ShortSecrets, log: o.Log, tasks: &tasks{},
		hasher: h, gate: newGate(), cache: newCache(),
		changed: make(chan struct{}),
	}
	h.later = a.tasks.after
	a.audit = newAuditor(o.Report, o.Log, a.tasks.after)
	a.audit.loggedIn = o.LoggedIn
	a.lockouts = newLockouts(o.Lockout, a.audit, a.tasks.after)
	a.sessions = newSessions(loadSessionTimeout(o.Store, o.Log), a.lookup)
	if err := a.load(); err != nil {
		return nil, err
	}
	return a, nil
}

// Close stops what waits in the background (ends of locks, summaries) and
// returns when none of it runs any more. The store stays open.
func (a *Auth) Close() error {
	a.tasks.close()
	return nil
}

// Configure changes the lockout policy. Locks that hold already stay as they
// are. The caller keeps the settings.
func (a *Auth) Configure(l Lockout) error {
	if err := l.Validate(); err != nil {
		return err
	}
	a.lockouts.configure(l)
	return nil
}

// Lockout returns the policy in force.
func (a *Auth) Lockout() Lockout { return a.lockouts.config() }

// User returns a user.
func (a *Auth) User(name string) (User, bool) {
	r := a.lookup(name)
	if r == nil {
		return User{}, false
	}
	return r.user(), true
}

// Users returns all users in the order of their names.
func (a *Auth) Users() []User {
	var all []User
	for _, r := range *a.users.Load() {
		all = append(all, r.user())
	}
	slices.SortFunc(all, func(x, y User) int { return strings.Compare(x.Name, y.Name) })
	return all
}

// Changed returns a channel that is closed at the next change of any user, so
// that a front-end can end the long connections of one who is gone.
func (a *Auth) Changed() <-chan struct{} {
	a.changing.Lock()
	defer a.changing.Unlock()
	return a.changed
}

func (a *Auth) lookup(name string) *record { return (*a.users.Load())[name] }

// sourceOf is what counts as one source: an IPv4 address, or an IPv6 /64, which
// is the smallest network one attacker owns (RFC 4291 section 2.5.1).
func sourceOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

// randomText returns n random characters of an alphabet of at most 256.
func randomText(alphabet string, n int) string {
	var b strings.Builder
	limit := 256 / len(alphabet) * len(alphabet) // bytes above would favour some
	var raw [1]byte
	for b.Len() < n {
		if _, err := rand.Read(raw[:]); err != nil {
			panic(fmt.Sprintf("crypto/rand: %v", err)) // it never fails, says its documentation
		}
		if int(raw[0]) < limit {
			b.WriteByte(alphabet[int(raw[0])%len(alphabet)])
		}
	}
	return b.String()
}

// tasks owns what runs later: after close nothing starts and nothing runs.
type tasks struct {
	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

func (t *tasks) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return
		}
		t.running.Add(1)
		t.mu.Unlock()
		defer t.running.Done()
		f()
	})
}

func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.running.Wait()
}
