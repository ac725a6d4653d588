package ipmi

import (
	"crypto/rand"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"time"
)

const (
	// handshakeLimit ends a login that stalls. FreeIPMI gives up after 20 s.
	handshakeLimit = 20 * time.Second
	// Logins under way, in all and from one source. At the limit the oldest
	// that waits for no RAKP 3 makes room, so that a flood pushes out itself;
	// a real login takes milliseconds.
	maxPending          = 128
	maxPendingPerSource = 32
	// packetsPerLogin is how many packets outside sessions a source has answered
	// for each login that it may begin; ipmitool's login takes 8. Silence above
	// that keeps a flood off the other sources: the answers cost the most.
	packetsPerLogin = 10
	// maxSlots is how many sessions there can be; the counts in answers have 6
	// bits (tables 22-25 and 22-29), so of 64 sessions they tell mostTold.
	maxSlots = 64
	mostTold = 63
)

// table holds the sessions. The server's lock guards it.
type table struct {
	slots   int
	idle    time.Duration
	byID    map[uint32]*session
	pending []*session             // opened to refused, oldest first
	active  [maxSlots + 1]*session // by handle; 0 is no handle
	count   int                    // of active
	left    []*session             // farewell, oldest first
}

func newTable(slots int, idle time.Duration) *table {
	return &table{slots: slots, idle: idle, byID: map[uint32]*session{}}
}

// newID returns a random session ID that is neither 0 nor taken (section
// 13.18).
func (t *table) newID() uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // it never fails, says its documentation
		id := binary.LittleEndian.Uint32(b[:])
		if id != 0 && t.byID[id] == nil {
			return id
		}
	}
}

// open adds a login.
func (t *table) open(s *session) {
	same, oldest, oldestSame := 0, -1, -1
	for i, p := range t.pending {
		idle := p.state != stateRAKP2
		if idle && oldest < 0 {
			oldest = i
		}
		if p.source == s.source {
			same++
			if idle && oldestSame < 0 {
				oldestSame = i
			}
		}
	}
	switch {
	case same >= maxPendingPerSource:
		if oldestSame < 0 {
			oldestSame = slices.IndexFunc(t.pending, func(p *session) bool { return p.source == s.source })
		}
		t.drop(oldestSame)
	case len(t.pending) >= maxPending:
		t.drop(max(oldest, 0))
	}
	s.id = t.newID()
	s.state = stateOpened
	t.pending = append(t.pending, s)
	t.byID[s.id] = s
}

func (t *table) drop(i int) {
	delete(t.byID, t.pending[i].id)
	t.pending = slices.Delete(t.pending, i, i+1)
}

// forget ends a login.
func (t *table) forget(s *session) {
	if i := slices.Index(t.pending, s); i >= 0 {
		t.drop(i)
	}
}

// login returns the login under way that id names, if it is from's. Anything
// else is as if it did not exist.
func (t *table) login(id uint32, from netip.AddrPort) *session {
	s := t.byID[id]
	if s == nil || s.state == stateFarewell || s.peer.addr != from {
		return nil
	}
	return s
}

// countOf is how many active sessions a user has.
func (t *table) countOf(user string) (n int) {
	for _, x := range t.active {
		if x != nil && x.exchange.username == user {
			n++
		}
	}
	return n
}

// room returns a session that can give its slot to a new one of user, nil where
// there is none: the longest silent one of the user with the most, if those are
// more than user would have. So nobody keeps the others out.
func (t *table) room(user string) (idlest *session) {
	count := map[string]int{user: 1}
	for _, x := range t.active {
		if x != nil {
			count[x.exchange.username]++
		}
	}
	most := user
	for name, n := range count {
		if n > count[most] {
			most = name
		}
	}
	if most == user {
		return nil
	}
	for _, x := range t.active {
		if x != nil && x.exchange.username == most && (idlest == nil || x.lastUsed.Before(idlest.lastUsed)) {
			idlest = x
		}
	}
	return idlest
}

// activate makes a login a session; false where no slot is free.
func (t *table) activate(s *session) bool {
	if t.count >= t.slots {
		return false
	}
	for h := 1; h <= t.slots; h++ {
		if t.active[h] == nil {
			t.active[h], s.handle = s, byte(h)
			break
		}
	}
	t.count++
	i := slices.Index(t.pending, s)
	t.pending = slices.Delete(t.pending, i, i+1)
	s.state = stateActive
	return true
}

// end frees an active session's slot. The session stays for a while, deaf to
// all but repeated commands: a console whose Close Session lost its answer
// would else wait through all its tries.
func (t *table) end(s *session, now time.Time) {
	if s.state != stateActive {
		return
	}
	t.active[s.handle] = nil
	t.count--
	s.state = stateFarewell
	s.lastUsed = now
	if len(t.left) >= maxSlots {
		t.bury()
	}
	t.left = append(t.left, s)
}

// bury forgets the session that was closed first.
func (t *table) bury() {
	delete(t.byID, t.left[0].id)
	t.left = slices.Delete(t.left, 0, 1)
}

// limit is how long a session may be silent: 60 s (section 6.12.15), and half
// of that when three quarters of the slots are taken, so that abandoned
// sessions do not keep people out.
func (t *table) limit() time.Duration {
	if 4*t.count > 3*t.slots {
		return t.idle / 2
	}
	return t.idle
}

// expire ends what is over; closed is told of active sessions.
func (t *table) expire(now time.Time, closed func(*session)) {
	for len(t.pending) > 0 && now.Sub(t.pending[0].lastUsed) >= handshakeLimit {
		t.drop(0)
	}
	for len(t.left) > 0 && now.Sub(t.left[0].lastUsed) >= replyAge {
		t.bury()
	}
	limit := t.limit()
	for _, s := range t.active {
		if s != nil && now.Sub(s.lastUsed) >= limit {
			t.end(s, now)
			closed(s)
		}
	}
}

// limiter lets each source do something so often a second: a token bucket per
// source. The buckets are of fixed number, chosen by a keyed hash; two sources
// that meet in one share it, and nobody can choose to meet another.
type limiter struct {
	rate, burst float64
	seed        maphash.Seed
	buckets     [1024]struct {
		tokens float64
		at     time.Time
	}
}

func newLimiter(rate, burst float64) *limiter {
	return &limiter{rate: rate, burst: burst, seed: maphash.MakeSeed()}
}

func (l *limiter) allow(source netip.Addr, now time.Time) bool {
	b := &l.buckets[maphash.Comparable(l.seed, source)%uint64(len(l.buckets))]
	if b.at.IsZero() {
		b.tokens = l.burst
	} else {
		b.tokens = min(l.burst, b.tokens+l.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
