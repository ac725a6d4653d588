package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"
)

// Password judges a login by password. The errors are ErrDenied, whatever is
// wrong; ErrBusy, if too many wait; or ctx's, if it ended the wait. Only the
// first counts as a failure, since nothing was tried in the others.
//
// Each refusal costs one hash: of the user's password if there is one to
// compare with, else a dummy's, so that the time tells nothing. A password that
// was right a short while ago costs none.
func (a *Auth) Password(ctx context.Context, t Attempt, password string) (User, error) {
	mac := a.cache.mac(t.Name, password)
	r := a.withPassword(t.Name)
	if !a.cached(r, mac, t) {
		if err := a.gate.enter(ctx, sourceOf(t.Source)); err != nil {
			return User{}, err
		}
		// Not before the password is in the cache: the next in the line may
		// bring the same.
		defer a.gate.leave()
		if !a.check(r, mac, t, password) {
			r = nil
		}
	}
	// The user may have changed in the meantime, and a lock may have begun.
	now := a.withPassword(t.Name)
	ok := r != nil && now != nil && now.Password == r.Password
	if !a.lockouts.result(t, ok) {
		return User{}, ErrDenied
	}
	a.cache.put(now, mac)
	a.audit.login(t)
	return now.user(), nil
}

// withPassword returns the record of a user who may log in by password, or nil.
func (a *Auth) withPassword(name string) *record {
	r := a.lookup(name)
	if r == nil || !r.Enabled || r.Password == "" {
		return nil
	}
	return r
}

// cached says whether the cache can stand in for the hash. A locked attempt
// takes the long way even then, or its quick refusal would tell that the
// password is right.
func (a *Auth) cached(r *record, mac [32]byte, t Attempt) bool {
	return r != nil && a.cache.has(r, mac) && !a.lockouts.locked(t)
}

// check compares the password in its turn at the gate.
func (a *Auth) check(r *record, mac [32]byte, t Attempt, password string) bool {
	if a.cached(r, mac, t) { // by one of many requests that came together
		return true
	}
	possible := r != nil && len(password) <= MaxPassword
	p := a.hasher.dummy
	if possible {
		p = r.hash
	}
	right := a.hasher.verify(p, password[:min(len(password), MaxPassword)])
	return right && possible
}

// cacheFor is how long a verified password need not be hashed again. The end is
// fixed: use does not prolong it.
const cacheFor = 5 * time.Minute

// cache remembers the last verified password of each user, so that Basic
// authentication on each request is quick. It holds no passwords but MACs under
// a key that lives and dies with the process.
type cache struct {
	key []byte

	mu      sync.Mutex
	entries map[string]verified // by name; one a user, so at most MaxUsers
}

type verified struct {
	mac     [32]byte
	version uint64 // of the record it was verified against
	until   time.Time
}

func newCache() *cache { return &cache{key: randomBytes(32), entries: map[string]verified{}} }

// mac binds name and password; the zero byte, which no user's name has, parts
// them.
func (c *cache) mac(name, password string) (sum [32]byte) {
	h := hmac.New(sha256.New, c.key)
	h.Write([]byte(name)) // a hash's Write never fails, says package hash
	h.Write([]byte{0})
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

func (c *cache) has(r *record, mac [32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[r.Name]
	if !ok {
		return false
	}
	if e.version != r.version || !time.Now().Before(e.until) {
		delete(c.entries, r.Name)
		return false
	}
	return subtle.ConstantTimeCompare(e.mac[:], mac[:]) == 1
}

// put notes a verified password; one that is there already keeps its end.
func (c *cache) put(r *record, mac [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if e, ok := c.entries[r.Name]; ok && e.version == r.version && e.mac == mac && now.Before(e.until) {
		return
	}
	c.entries[r.Name] = verified{mac, r.version, now.Add(cacheFor)}
}

// drop forgets who is gone or has changed.
func (c *cache) drop(users map[string]*record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, e := range c.entries {
		if r := users[name]; r == nil || r.version != e.version {
			delete(c.entries, name)
		}
	}
}
