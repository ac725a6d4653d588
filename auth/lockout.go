package auth

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/settings"
)

// Lockout is the policy against guessing. Failed logins are counted, and locks
// hold, in one of two ways.
//
// From a place that has not proved itself as this user, a failure counts for
// its source address (Threshold) and for the user name (UserThreshold), known
// or not. The source's lock stops one guesser, the name's lock stops guessers
// who come from many addresses. UserMax is short, since whoever knows a name
// can cause that lock.
//
// A source from which this very user has logged in within the last week counts
// by itself (Threshold), and neither lock above touches it. So a stranger who
// knows the administrator's name cannot lock the administrator out of the usual
// places, nor can a neighbour behind the same address who fails as somebody
// else; yet no source, and no user with a password of his own, gets more
// guesses than Threshold at another's. (OWASP calls it device cookies; here the
// address stands for the device.)
//
// What a lock refuses is not counted, so that hammering does not prolong it.
// SSH keys cannot be guessed: they are outside all of this, except that a
// source with UserThreshold refused keys in a row is turned away for a time.
// All is in memory: a restart forgets it.
type Lockout struct {
	// Threshold is how many failures lock a source; 0: no locks at all.
	Threshold int
	// UserThreshold is how many failures of all unproved sources lock a name.
	UserThreshold int
	// First is how long the first lock holds; each further one Factor times
	// as long as the one before, up to Max (UserMax for a name).
	First   time.Duration
	Factor  int
	Max     time.Duration
	UserMax time.Duration
	// Forget is how long after the last failure, or the end of the last lock,
	// all is forgiven.
	Forget time.Duration
}

// DefaultLockout is 5 failures of a source, 20 of a name, half a minute,
// doubling up to half an hour (five minutes for a name), forgotten in an hour.
func DefaultLockout() Lockout {
	return Lockout{Threshold: 5, UserThreshold: 20, First: 30 * time.Second, Factor: 2,
		Max: 30 * time.Minute, UserMax: 5 * time.Minute, Forget: time.Hour}
}

// Validate answers a *settings.FieldError for the first field that breaks a rule.
func (l Lockout) Validate() error {
	const day = 24 * time.Hour
	bad := func(field, rule string) error {
		return &settings.FieldError{Pointer: "/" + field, Err: fmt.Errorf("%w: it is %s", ErrInvalid, rule)}
	}
	switch {
	case l.Threshold < 0 || l.Threshold > 1000:
		return bad("threshold", "0 to 1000")
	case l.Threshold == 0:
		return nil
	case l.UserThreshold < l.Threshold || l.UserThreshold > 10000:
		return bad("user_threshold", "at least threshold and at most 10000")
	case l.First < time.Second || l.First > day:
		return bad("first", "1s to 24h")
	case l.Factor < 1 || l.Factor > 10:
		return bad("factor", "1 to 10")
	case l.Max < l.First || l.Max > day:
		return bad("max", "at least first and at most 24h")
	case l.UserMax < l.First || l.UserMax > day:
		return bad("user_max", "at least first and at most 24h")
	case l.Forget < time.Second || l.Forget > 7*day:
		return bad("forget", "1s to 168h")
	}
	return nil
}

// Bounds of the memory, whoever knocks; and how long a source stays proved.
const (
	maxSources = 1024
	maxNames   = 1024
	maxPairs   = 256
	// evictionSample bounds the work of a failure in a flood.
	evictionSample = 32
	provedFor      = 7 * 24 * time.Hour
)

// counter counts the failures of one source, name, or proved pair of both.
type counter struct {
	fails   int // since the last lock
	locks   int // in a row
	last    time.Time
	until   time.Time // the lock's end
	refused int       // during the lock
	end     *time.Timer
	name    string // of a source: whom it failed as last
}

// spot is what is counted: a source, a name, or both.
type spot struct {
	source netip.Addr
	name   string
}

// lockouts counts. Its times carry Go's monotonic clock, so that a board that
// learns the time of day late neither loses locks nor keeps them for years.
type lockouts struct {
	audit *auditor
	later func(time.Duration, func()) *time.Timer

	mu      sync.Mutex
	policy  Lockout
	sources map[spot]*counter
	names   map[spot]*counter
	pairs   map[spot]*counter
	proved  map[spot]time.Time // the last success
	keys    map[spot]*counter  // sources of refused SSH keys
}

func newLockouts(policy Lockout, audit *auditor, later func(time.Duration, func()) *time.Timer) *lockouts {
	return &lockouts{audit: audit, later: later, policy: policy,
		sources: map[spot]*counter{}, names: map[spot]*counter{}, pairs: map[spot]*counter{},
		proved: map[spot]time.Time{}, keys: map[spot]*counter{}}
}

func (l *lockouts) configure(policy Lockout) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.policy = policy
}

func (l *lockouts) config() Lockout {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.policy
}

// pairOf cuts names that no user can have; the copy lets go of the caller's
// buffer.
func pairOf(t Attempt) spot {
	return spot{sourceOf(t.Source), strings.Clone(t.Name[:min(len(t.Name), MaxName+1)])}
}

// locked says whether the attempt would be refused whatever it brings.
func (l *lockouts) locked(t Attempt) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lockOf(pairOf(t), time.Now()) != nil
}

// lockOf returns the counter that refuses an attempt, or nil.
func (l *lockouts) lockOf(pair spot, now time.Time) *counter {
	if l.provedAt(pair, now) {
		return holds(l.pairs[pair], now)
	}
	if c := holds(l.sources[spot{source: pair.source}], now); c != nil {
		return c
	}
	return holds(l.names[spot{name: pair.name}], now)
}

func holds(c *counter, now time.Time) *counter {
	if c == nil || !now.Before(c.until) {
		return nil
	}
	return c
}

// Locked says whether failed logins keep a user out: from all but the usual
// places, or from one of those. A lock of a source alone is none of a user.
func (a *Auth) Locked(name string) bool { return a.lockouts.nameLocked(name) }

// Unlock ends the locks of a user, and those of sources that failed as that user
// last: a person who forgot the password and was given a new one tries from
// where the lock is. What they have counted is forgotten.
func (a *Auth) Unlock(name string, by Attempt) {
	if a.lockouts.forgive(name) {
		a.audit.say(Report{Kind: "auth.unlocked", Level: OK,
			Message: fmt.Sprintf("The locks against logins as %q were taken away.", printable(name))}.by(by))
	}
}

func (l *lockouts) nameLocked(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for pair, c := range l.pairs {
		if pair.name == name && holds(c, now) != nil {
			return true
		}
	}
	return holds(l.names[spot{name: name}], now) != nil
}

// forgive says whether there was a lock.
func (l *lockouts) forgive(name string) (locked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, table := range []map[spot]*counter{l.sources, l.names, l.pairs} {
		for at, c := range table {
			if at.name != name && c.name != name {
				continue
			}
			locked = locked || holds(c, now) != nil
			delete(table, at)
			if c.end != nil {
				c.end.Stop() // Unlock reports the end
			}
		}
	}
	return locked
}

func (l *lockouts) provedAt(pair spot, now time.Time) bool {
	at, ok := l.proved[pair]
	return ok && now.Sub(at) < provedFor
}

// result takes the outcome of an attempt and says whether it may come in: a
// lock refuses success, too.
func (l *lockouts) result(t Attempt, ok bool) bool {
	allowed, reports := l.count(t, ok)
	for _, r := range reports {
		l.audit.noisy(r)
	}
	return allowed
}

func (l *lockouts) count(t Attempt, ok bool) (allowed bool, reports []Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, pair := time.Now(), pairOf(t)
	if c := l.lockOf(pair, now); c != nil {
		c.refused++
		return false, nil
	}
	if ok {
		l.prove(pair, now)
		return true, nil
	}
	if l.provedAt(pair, now) {
		c := l.touch(l.pairs, pair, maxPairs, now)
		return false, l.fail(c, t, now, l.policy.Threshold, l.policy.Max,
			fmt.Sprintf("as %q from %s", printable(t.Name), networkText(pair.source)))
	}
	c := l.touch(l.sources, spot{source: pair.source}, maxSources, now)
	c.name = pair.name
	reports = l.fail(c, t, now, l.policy.Threshold, l.policy.Max, "from "+networkText(pair.source))
	c = l.touch(l.names, spot{name: pair.name}, maxNames, now)
	byName := l.fail(c, t, now, l.policy.UserThreshold, l.policy.UserMax,
		fmt.Sprintf("as %q from other than the usual addresses", printable(t.Name)))
	for _, r := range byName {
		if r.Kind != "auth.failed" { // the source's report says it
			reports = append(reports, r)
		}
	}
	return false, reports
}

// prove notes a success. It forgives no failures, time does: one who logs in as
// himself, or shares an address with a user whose client logs in every second,
// must not win guesses that way.
func (l *lockouts) prove(pair spot, now time.Time) {
	if _, ok := l.proved[pair]; !ok && len(l.proved) >= maxPairs {
		oldest := pair
		for p, at := range l.proved {
			if oldest == pair || at.Before(l.proved[oldest]) {
				oldest = p
			}
		}
		delete(l.proved, oldest)
		delete(l.pairs, oldest)
	}
	l.proved[pair] = now
}

// keysLocked says whether a source offered too many keys that nobody has.
func (l *lockouts) keysLocked(t Attempt) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, pair := time.Now(), pairOf(t)
	c := holds(l.keys[spot{source: pair.source}], now)
	if c == nil || l.provedAt(pair, now) {
		return false
	}
	c.refused++
	return true
}

// keyResult counts refused keys in a row. A client tries all the keys it has, so
// one of them is no failed login, and only the lock is reported. The right key
// proves the place.
func (l *lockouts) keyResult(t Attempt, ok bool) {
	for _, r := range l.countKey(t, ok) {
		if r.Kind != "auth.failed" {
			l.audit.noisy(r)
		}
	}
}

func (l *lockouts) countKey(t Attempt, ok bool) []Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, source := time.Now(), spot{source: sourceOf(t.Source)}
	if ok {
		delete(l.keys, source)
		l.prove(pairOf(t), now)
		return nil
	}
	c := l.touch(l.keys, source, maxSources, now)
	return l.fail(c, t, now, l.policy.UserThreshold, l.policy.UserMax, "by SSH key from "+networkText(source.source))
}

// touch finds or makes a counter, one that was quiet for long as if new. A full
// table loses the counter that matters least of a random few: not locked, with
// the fewest locks and failures, the oldest. So a flood of names or addresses
// does not free one that was guessed at more often than each of the flood's own.
func (l *lockouts) touch(table map[spot]*counter, at spot, most int, now time.Time) *counter {
	c := table[at]
	if c != nil {
		quietSince := c.last
		if c.until.After(quietSince) {
			quietSince = c.until
		}
		if now.Sub(quietSince) > l.policy.Forget {
			*c = counter{}
		}
		return c
	}
	if len(table) >= most {
		var least spot
		var lost *counter
		looked := 0
		for s, c := range table { // Go begins at a random place
			if looked++; looked > evictionSample {
				break
			}
			if lost == nil || lesser(c, lost, now) {
				least, lost = s, c
			}
		}
		delete(table, least)
		if lost.end != nil {
			lost.end.Stop() // or timers would pile up where counters do not
		}
	}
	c = &counter{}
	table[at] = c
	return c
}

func lesser(a, b *counter, now time.Time) bool {
	la, lb := holds(a, now) != nil, holds(b, now) != nil
	switch {
	case la != lb:
		return lb
	case a.locks != b.locks:
		return a.locks < b.locks
	case a.fails != b.fails:
		return a.fails < b.fails
	}
	return a.last.Before(b.last)
}

// fail counts one failure, and locks where it is one too many. The first
// failure of a row and each lock make a report.
func (l *lockouts) fail(c *counter, t Attempt, now time.Time, threshold int, most time.Duration, what string) []Report {
	r := Report{Level: Warning, Via: t.Via, User: printable(t.Name), Source: sourceText(t.Source)}
	if holds(c, now) != nil { // only for keys: a proved pair passes its source's lock
		c.refused++
		return nil
	}
	c.fails++
	c.last = now
	var reports []Report
	if c.fails == 1 && c.locks == 0 {
		r.Kind, r.Message = "auth.failed", fmt.Sprintf("A login as %q failed.", r.User)
		reports = append(reports, r)
	}
	if l.policy.Threshold == 0 || c.fails < threshold {
		return reports
	}
	d := l.policy.First
	for i := 0; i < c.locks && d < most; i++ {
		d *= time.Duration(l.policy.Factor)
	}
	d = min(d, most)
	r.Kind, r.Message = "auth.locked", fmt.Sprintf("Logins %s are refused for %v after %d failures.", what, d, c.fails)
	c.fails = 0
	c.locks++
	c.until = now.Add(d)
	c.end = l.later(d, func() { l.unlocked(c, r, what) })
	return append(reports, r)
}

// unlocked reports a lock's end, and what it kept out.
func (l *lockouts) unlocked(c *counter, r Report, what string) {
	l.mu.Lock()
	n := c.refused
	c.refused = 0
	l.mu.Unlock()
	r.Kind, r.Level = "auth.unlocked", OK
	r.Message = fmt.Sprintf("Logins %s are possible again; %d were refused meanwhile.", what, n)
	l.audit.noisy(r)
}

// networkText is a source as it is counted.
func networkText(source netip.Addr) string {
	switch {
	case !source.IsValid():
		return "the board itself"
	case source.Is6():
		return source.String() + "/64"
	}
	return source.String()
}
