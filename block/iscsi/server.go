// Package iscsi is an iSCSI target (RFC 7143): it shows logical units of package
// scsi to initiators over TCP. Sessions have one connection and error recovery
// level 0. Package pdu has the protocol's data units, package login the login phase;
// section numbers in comments are RFC 7143's.
package iscsi

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi/login"
	"github.com/nitrino/nitrino/block/scsi"
	"github.com/nitrino/nitrino/host"
)

// DefaultMemory is what the data of all commands may take, bytes.
const DefaultMemory = 16 << 20

// portalGroup is the tag of the only portal group.
const portalGroup = 1

// Options are what a Server needs.
type Options struct {
	Log *slog.Logger
	// Report tells people of logins and what is wrong; it must return soon. It is
	// called from many goroutines.
	Report func(severity host.Severity, kind, message string)
	// Memory bounds the data of commands under way, in bytes; 0: DefaultMemory.
	Memory int
}

// A TargetConfig is a target that initiators can log in to.
type TargetConfig struct {
	block.Target
	// SCSI has its logical units, and belongs to the caller.
	SCSI *scsi.Target
}

// A Server is the iSCSI service of a machine: all its targets and sessions.
type Server struct {
	o        Options
	memory   *memory
	endLimit time.Duration
	policy   login.Policy

	mu       sync.Mutex
	targets  map[string]*TargetConfig // by name in lower case
	sessions map[*session]struct{}
	tsih     uint16
	logins   []*loggingIn
	refused  refusals
	told     paces // of sessions that begin and end
	changed  chan struct{}
}

// A session is an initiator port that is logged in (section 4.4.3); its connection
// ends with it.
type session struct {
	name      string // of the target; "" for discovery
	initiator string
	tsih      uint16
	host      string // its address without the port
	address   string
	portal    string // where it reached us
	since     time.Time
	result    *login.Result
	share     *share
	nexus     *scsi.Nexus // nil for discovery
	ended     chan struct{}

	// Guarded by the server's mutex.
	target  *TargetConfig // nil for discovery
	conn    *conn         // nil until the login has been answered; never changes then
	dropped error         // why it is to end before that
	retire  int           // seconds until it is dropped, after it was asked to leave; 0: it was not
}

// New makes a server without targets.
func New(o Options) *Server {
	o.Memory = cmp.Or(o.Memory, DefaultMemory)
	s := &Server{
		o: o, memory: newMemory(o.Memory), endLimit: endLimit, targets: make(map[string]*TargetConfig),
		sessions: make(map[*session]struct{}), told: make(paces), changed: make(chan struct{}),
	}
	s.policy = login.Policy{Lookup: s.lookup, Ours: login.Tuned(), Window: maxWindow, Rand: rand.Reader}
	return s
}

// allows says whether an initiator may log in, and see the target.
func (t *TargetConfig) allows(initiator string) bool {
	return len(t.Initiators) == 0 || slices.ContainsFunc(t.Initiators, func(name string) bool { return strings.EqualFold(name, initiator) })
}

// SetTargets says which targets there are. Sessions that may not go on as they are
// are asked to log out, and dropped logoutTime later; others go on.
func (s *Server) SetTargets(all []TargetConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets = make(map[string]*TargetConfig, len(all))
	for _, t := range all {
		s.targets[strings.ToLower(t.Name)] = &t
	}
	for ses := range s.sessions {
		if ses.target == nil {
			continue
		}
		was, now := ses.target, s.targets[ses.name]
		if now == nil || now.SCSI != was.SCSI || now.CHAP != was.CHAP || now.Mutual != was.Mutual || !now.allows(ses.initiator) {
			s.askToLeave(ses)
			continue
		}
		ses.target = now
	}
	s.change()
}

// change tells those that wait for it. The caller holds mu.
func (s *Server) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed is closed when Sessions will answer differently.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Sessions are the initiators that are logged in to a target.
func (s *Server) Sessions() []block.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]block.Session, 0, len(s.sessions))
	for ses := range s.sessions {
		if ses.target == nil || ses.conn == nil {
			continue
		}
		b := block.Session{
			Target: ses.target.Name, Initiator: ses.initiator, ISID: hex.EncodeToString(ses.result.ISID[:]),
			Address: ses.address, User: ses.result.User, Since: ses.since,
		}
		for _, l := range ses.target.LUNs {
			b.Volumes = append(b.Volumes, l.Volume)
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b block.Session) int {
		return cmp.Or(strings.Compare(a.Target, b.Target), strings.Compare(a.Initiator, b.Initiator), strings.Compare(a.ISID, b.ISID))
	})
	return list
}

// lookup is the login's question for a target. Who may not see a target learns
// nothing of it.
func (s *Server) lookup(initiator, target string) (login.Target, login.Status) {
	if target == "" {
		return login.Target{}, login.Success
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.targets[target]
	if t == nil || !t.allows(initiator) {
		return login.Target{}, login.NotFound
	}
	return login.Target{Alias: t.Alias, CHAP: t.CHAP, Mutual: t.Mutual}, login.Success
}

// listed is what a session may learn of the targets: the one of that name, or with
// "" all that its initiator may see.
func (s *Server) listed(ses *session, name string) []login.Listed {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []login.Listed
	for key, t := range s.targets {
		if (name == "" || name == key) && t.allows(ses.initiator) {
			list = append(list, login.Listed{Name: t.Name, Portals: []login.Portal{{Address: ses.portal, Group: portalGroup}}})
		}
	}
	slices.SortFunc(list, func(a, b login.Listed) int { return strings.Compare(a.Name, b.Name) })
	return list
}

const (
	// logoutTime is how long an initiator that is asked to log out has for it, seconds.
	logoutTime = 5
	// maxSessions bounds the sessions; each has about 400 KiB of buffers at most, of
	// which it uses what its initiator needs.
	maxSessions = 64
	// maxSessionsOf bounds those of one initiator, by its name, and those of one target;
	// maxSessionsSame those of one initiator at one target.
	maxSessionsOf   = maxSessions / 2
	maxSessionsSame = 8
	// maxDiscovery bounds discovery sessions, which anybody may have: one more ends the
	// oldest.
	maxDiscovery = 8
	// endLimit is how long a login waits for the commands of the session that it is
	// instead of.
	endLimit = 10 * time.Second
)

// errUnavailable is for a session whose predecessor does not end.
var errUnavailable = errors.New("commands of the session before do not end")

// admit makes the session that a login is for. The one before it with the same
// initiator, ISID and target ends first, with all its commands (section 6.3.5).
func (s *Server) admit(ctx context.Context, r *login.Result, address, portal net.Addr) (*session, login.Status, error) {
	ses := &session{
		name: r.Target, initiator: r.Initiator, host: hostOf(address), address: address.String(), portal: portal.String(), since: time.Now(),
		result: r, ended: make(chan struct{}),
	}
	limit := time.NewTimer(s.endLimit)
	defer limit.Stop()
	s.mu.Lock()
	for {
		old, status := s.before(r)
		if status != login.Success {
			s.mu.Unlock()
			return nil, status, errors.New("its TSIH is not that of a session it could go on with")
		}
		if old == nil {
			break
		}
		ses.tsih = r.TSIH
		s.end(old, errReinstated)
		s.mu.Unlock()
		select {
		case <-old.ended:
		case <-limit.C:
			return nil, login.ServiceUnavailable, errUnavailable
		case <-ctx.Done():
			return nil, login.ServiceUnavailable, ctx.Err()
		}
		r.TSIH = 0 // it has ended
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	normal, discovery := s.kinds()
	if r.Discovery {
		if len(discovery) >= maxDiscovery {
			s.end(slices.MinFunc(discovery, func(a, b *session) int { return a.since.Compare(b.since) }), errCrowded)
		}
	} else {
		if err := crowded(normal, r); err != nil {
			return nil, login.OutOfResources, err
		}
		t := s.targets[r.Target]
		switch {
		case t == nil || !t.allows(r.Initiator):
			return nil, login.TargetRemoved, errors.New("the target has gone meanwhile")
		case t.CHAP != r.CHAP || t.Mutual != r.Mutual:
			return nil, login.AuthenticationFailure, errors.New("the credentials have changed meanwhile")
		}
		ses.target = t
		port := r.Initiator + ",i,0x" + hex.EncodeToString(r.ISID[:])
		// There are no commands before the session has its connection.
		ses.nexus = t.SCSI.Connect(port, func(c *scsi.Command) { ses.conn.aborted(c) })
	}
	ses.share = s.shareOf(r.Initiator)
	for ses.tsih == 0 || s.byTSIH(ses.tsih) != nil {
		s.tsih++
		ses.tsih = s.tsih
	}
	s.sessions[ses] = struct{}{}
	return ses, login.Success, nil
}

// kinds are the sessions of either kind. The caller holds mu.
func (s *Server) kinds() (normal, discovery []*session) {
	for ses := range s.sessions {
		if ses.result.Discovery {
			discovery = append(discovery, ses)
		} else {
			normal = append(normal, ses)
		}
	}
	return normal, discovery
}

// crowded is why there is no session more for a login: they are enough for all, and
// neither one initiator nor one target, which anybody may use, is to have them all.
func crowded(sessions []*session, r *login.Result) error {
	ofInitiator, atTarget, both := 0, 0, 0
	for _, ses := range sessions {
		initiator, target := ses.initiator == r.Initiator, ses.name == r.Target
		if initiator {
			ofInitiator++
		}
		if target {
			atTarget++
		}
		if initiator && target {
			both++
		}
	}
	switch {
	case both >= maxSessionsSame:
		return fmt.Errorf("it has %d sessions there already", both)
	case ofInitiator >= maxSessionsOf:
		return fmt.Errorf("the initiator has %d sessions already", ofInitiator)
	case atTarget >= maxSessionsOf:
		return fmt.Errorf("the target has %d sessions already", atTarget)
	case len(sessions) >= maxSessions:
		return fmt.Errorf("there are %d sessions already", len(sessions))
	}
	return nil
}

// shareOf is the share of memory that an initiator's sessions have in common. The
// caller holds mu.
func (s *Server) shareOf(initiator string) *share {
	for ses := range s.sessions {
		if ses.initiator == initiator {
			return ses.share
		}
	}
	return new(share)
}

// before is the session that a login ends: nil for none. The caller holds mu.
func (s *Server) before(r *login.Result) (*session, login.Status) {
	same := func(ses *session) bool {
		return !r.Discovery && ses.name == r.Target && ses.initiator == r.Initiator && ses.result.ISID == r.ISID
	}
	if r.TSIH != 0 {
		old := s.byTSIH(r.TSIH)
		switch {
		case old == nil || !same(old):
			return nil, login.SessionDoesNotExist
		case old.result.CID != r.CID: // a second connection
			return nil, login.TooManyConnections
		}
		return old, login.Success
	}
	for ses := range s.sessions {
		if same(ses) {
			return ses, login.Success
		}
	}
	return nil, login.Success
}

// byTSIH is the session with that handle. The caller holds mu.
func (s *Server) byTSIH(tsih uint16) *session {
	for ses := range s.sessions {
		if ses.tsih == tsih {
			return ses
		}
	}
	return nil
}

// end drops a session's connection, or has it end as soon as it has one. The caller
// holds mu.
func (s *Server) end(ses *session, why error) {
	if ses.conn != nil {
		ses.conn.drop(why)
	} else {
		ses.dropped = cmp.Or(ses.dropped, why)
	}
}

// resetOthers ends all sessions of a session's target but that one, and returns them.
func (s *Server) resetOthers(of *session) (others []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		if ses != of && ses.name == of.name {
			s.end(ses, errReset)
			others = append(others, ses)
		}
	}
	return others
}

// askToLeave has a session's initiator log out. The caller holds mu.
func (s *Server) askToLeave(ses *session) {
	switch {
	case ses.retire > 0:
	case ses.conn == nil:
		ses.dropped = cmp.Or(ses.dropped, errRetired)
	default:
		ses.retire = logoutTime
		ses.conn.askToLeave()
	}
}
