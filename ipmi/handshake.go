package ipmi

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"time"

	"github.com/nitrino/nitrino/auth"

	"github.com/nitrino/nitrino/ipmi/command"
)

// fakeKey stands in for the key of a user who is not there: the same at each
// try until the board restarts, as a real one would be.
func (s *Server) fakeKey(username string) (key [20]byte) {
	copy(key[:], s.suites[0].hmac(s.bootKey[:], []byte(username)))
	return key
}

// openSession answers an RMCP+ Open Session Request (sections 13.17, 13.18).
func (s *Server) openSession(b, p []byte, from *peer, now time.Time) []byte {
	r, status, ok := parseOpen(p)
	if !ok {
		return nil
	}
	var chosen *suite
	if status == statusOK {
		if chosen = s.chooseSuite(&r); chosen == nil {
			status = statusNoCipherSuite
		}
	}
	if status != statusOK {
		return appendStatus(b, r.tag, status, r.consoleID)
	}
	limit := s.limit()
	if r.privilege != command.None { // none asks for the highest that suits (table 13-9)
		limit = min(limit, r.privilege)
	}
	login := &session{
		peer: *from, source: sourceOf(from.addr.Addr()), lastUsed: now, begun: now,
		consoleID: r.consoleID, suite: chosen, max: limit,
	}
	s.table.open(login)
	return appendOpenResponse(b, r.tag, login)
}

func (s *Server) chooseSuite(r *openRequest) *suite {
	for _, one := range s.suites {
		if one.matches(r) {
			return one
		}
	}
	return nil
}

// rakp1 answers RAKP message 1 with RAKP message 2 (sections 13.20, 13.21).
func (s *Server) rakp1(b, p []byte, from *peer, now time.Time) []byte {
	r, status, ok := parseRAKP1(p)
	if !ok {
		return nil
	}
	login := s.table.login(r.id, from.addr)
	if login == nil || login.state > stateRAKP2 {
		// An ID that is not the console's own is answered alike, whether a
		// session has it or not.
		return appendStatus(b, r.tag, statusInvalidSession, 0)
	}
	if status != statusOK {
		return appendStatus(b, r.tag, status, login.consoleID)
	}
	if login.state == stateRAKP2 && bytes.Equal(p[1:], login.request) {
		// The console lost RAKP 2. It gets the same random number again: it
		// may still go on with the first answer, if that comes late.
		return appendAgain(b, r.tag, login.answer)
	}
	if !s.logins.allow(login.source, now) {
		// Silence makes the console try again, later.
		return nil
	}

	// A user who is not there goes the same way with a key nobody knows.
	username := string(r.username)
	fake := s.fakeKey(username)
	login.exchange = exchange{
		consoleID: login.consoleID, id: login.id, consoleRandom: r.random,
		guid: s.systemGUID, role: r.role, username: username,
	}
	_, _ = rand.Read(login.exchange.random[:]) // it never fails, says its documentation
	login.secret, login.known = s.accounts.Secret(login.attempt())
	choice := 0
	if !login.known {
		choice = 1
	}
	subtle.ConstantTimeCopy(choice, login.secret.Key[:], fake[:])
	login.userLimit = privilegeOf(login.secret.Role)

	answer := appendStatus(nil, r.tag, statusOK, login.consoleID)
	answer = append(answer, login.exchange.random[:]...)
	answer = append(answer, login.exchange.guid[:]...)
	answer = append(answer, login.exchange.code2(login.suite, login.secret.Key[:])...)
	login.state = stateRAKP2
	login.remember(p, answer)
	return append(b, answer...)
}

// rakp3 answers RAKP message 3 with RAKP message 4 (sections 13.22, 13.23) and
// begins the session. judged is set when a login was decided.
func (s *Server) rakp3(b, p []byte, from *peer, now time.Time, judged *verdict) []byte {
	r, ok := parseRAKP3(p)
	if !ok {
		return nil
	}
	login := s.table.login(r.id, from.addr)
	if login == nil {
		return appendStatus(b, r.tag, statusInvalidSession, 0)
	}
	if login.state != stateRAKP2 {
		// It comes too early, or RAKP 4 was lost, or somebody forges: only the
		// very same message is answered, and nothing changes.
		if bytes.Equal(p[1:], login.request) {
			return appendAgain(b, r.tag, login.answer)
		}
		return appendStatus(b, r.tag, statusInvalidSession, 0)
	}
	if r.status != statusOK {
		// The console gave up, and RAKP 3 with an error has no answer. An
		// invalid check value is what a console with a wrong password finds in
		// RAKP 2, so it counts as a failed login.
		if r.status == statusInvalidICV {
			*judged = verdict{attempt: login.attempt(), decided: true}
		}
		s.table.forget(login)
		return nil
	}

	x, key := &login.exchange, login.secret.Key[:]
	genuine := subtle.ConstantTimeCompare(x.code3(login.suite, key), r.code) == 1 && login.known
	// Since RAKP 1 a lock may have begun, or the user have changed.
	again, known := s.accounts.Secret(login.attempt())
	genuine = genuine && known && again.Version == login.secret.Version
	if !genuine {
		*judged = verdict{attempt: login.attempt(), decided: true}
		answer := appendStatus(nil, r.tag, statusInvalidICV, login.consoleID)
		login.state = stateRefused
		login.remember(p, answer)
		return append(b, answer...)
	}
	if kg := s.kg(); kg != nil {
		key = kg
	}
	sik := x.sessionKey(login.suite, key)
	sealer, err := newSealer(login.suite, sik)
	if err != nil {
		s.log.Error("IPMI session keys", "error", err)
		return appendStatus(b, r.tag, statusNoResources, login.consoleID)
	}
	if !s.mayHaveMore(x.username) {
		return appendStatus(b, r.tag, statusNoResources, login.consoleID)
	}
	if s.table.count >= s.table.slots {
		if idlest := s.table.room(x.username); idlest != nil {
			s.table.end(idlest, now)
			s.closed(idlest, "slot needed")
		}
	}
	if !s.table.activate(login) {
		return appendStatus(b, r.tag, statusNoResources, login.consoleID)
	}
	*judged = verdict{attempt: login.attempt(), decided: true, ok: true}
	login.sealer = sealer
	login.lastUsed = now
	login.window = newWindow()
	login.replies = new([64]reply)
	login.max = min(login.max, command.Privilege(x.role&0x0F), login.userLimit, s.limit())
	// A session starts at USER (section 22.18), or below if it may not be USER.
	login.privilege = min(command.User, login.max)
	s.log.Debug("IPMI session opened", "user", x.username, "from", login.peer.addr, "privilege", login.max, "sessions", s.table.count)

	answer := appendStatus(nil, r.tag, statusOK, login.consoleID)
	answer = append(answer, x.code4(login.suite, sik)...)
	login.remember(p, answer)
	login.secret.Key = [20]byte{}
	return append(b, answer...)
}

// mayHaveMore says whether a user may have one more session (section 22.26).
func (s *Server) mayHaveMore(username string) bool {
	u, _ := s.accounts.User(username)
	limit := u.IPMIAccess.SessionLimit
	return limit == 0 || s.table.countOf(username) < limit
}

// verdict is the outcome of a login, told to the accounts when the answer is
// sent and no lock is held.
type verdict struct {
	attempt     auth.Attempt
	decided, ok bool
}

// remember keeps a request, without its tag, and the answer.
func (s *session) remember(request, answer []byte) {
	s.request = append(s.request[:0], request[1:]...)
	s.answer = answer
}

// appendAgain repeats an answer under the tag of the request that came again;
// consoles that count their tags look for the new one. No HMAC covers the tag.
func appendAgain(b []byte, tag byte, answer []byte) []byte {
	return append(append(b, tag), answer[1:]...)
}

// privilegeOf is what a user of a role may do over IPMI. A role that is none,
// as of a user who is not there, gives nothing.
func privilegeOf(r auth.Role) command.Privilege {
	switch r {
	case auth.Administrator:
		return command.Administrator
	case auth.Operator:
		return command.Operator
	case auth.ReadOnly:
		return command.User
	}
	return command.None
}
