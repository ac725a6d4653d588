package auth

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// A Level grades a report; the words are those of Redfish's Health.
type Level string

// The levels, from harmless to urgent.
const (
	OK       Level = "OK"
	Warning  Level = "Warning"
	Critical Level = "Critical"
)

// A Report is one line of the audit trail. The kinds are auth.login,
// auth.failed, auth.locked, auth.unlocked, auth.flood, auth.privilege,
// auth.user-created, auth.user-deleted, auth.user-renamed, auth.user-enabled,
// auth.user-disabled, auth.role-changed, auth.password-changed,
// auth.password-change-required, auth.password-change-waived,
// auth.keys-changed, auth.ipmi-secret-changed, auth.ipmi-secret-removed,
// auth.ipmi-secret-lost, auth.ipmi-access-changed, auth.change-refused,
// auth.user-damaged, and those of a Certificate.
type Report struct {
	Kind    string
	Level   Level
	Message string // one English sentence
	// Who did it, by which front-end, from which address; empty: the board.
	Via, User, Source string
}

// What keeps the trail readable, and a flood from washing older events out of
// a log of a few thousand.
const (
	// loginQuiet: logins of the same user by the same way from the same source
	// are one login until there was none for so long. A script that polls
	// makes one line. Raises of an IPMI session's privilege are told likewise.
	loginQuiet = 15 * time.Minute
	maxLogins  = 256
	// A burst of failures and locks is listed one by one, then one per
	// floodRefill, and the others are counted in a summary.
	floodBurst  = 20
	floodRefill = 10 * time.Minute
)

// auditor writes the trail.
type auditor struct {
	report   func(Report)
	loggedIn func(Attempt) // nil: nobody wants to know
	log      *slog.Logger
	later    func(time.Duration, func()) *time.Timer

	mu         sync.Mutex
	logins     map[login]time.Time // the last of each
	room       float64             // noisy reports that may still be made
	filled     time.Time           // when room was brought up to date
	suppressed int
}

type login struct {
	via, name string
	source    netip.Addr
	level     string // of a privilege raise; empty: the login itself
}

func newAuditor(report func(Report), log *slog.Logger, later func(time.Duration, func()) *time.Timer) *auditor {
	if report == nil {
		report = func(Report) {}
	}
	return &auditor{report: report, log: log, later: later,
		logins: map[login]time.Time{}, room: floodBurst, filled: time.Now()}
}

// say makes a report for certain.
func (d *auditor) say(r Report) {
	d.log.Info(r.Message, "kind", r.Kind, "via", r.Via, "user", r.User, "source", r.Source)
	d.report(r)
}

// noisy makes a report that an attacker can cause at will: it may end in a
// summary.
func (d *auditor) noisy(r Report) {
	if d.fits() {
		d.say(r)
	}
}

func (d *auditor) fits() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.room = min(floodBurst, d.room+float64(now.Sub(d.filled))/float64(floodRefill))
	d.filled = now
	if d.room >= 1 {
		d.room--
		return true
	}
	d.suppressed++
	if d.suppressed == 1 {
		d.later(floodRefill, d.summary)
	}
	return false
}

func (d *auditor) summary() {
	d.mu.Lock()
	n := d.suppressed
	d.suppressed = 0
	d.mu.Unlock()
	d.say(Report{Kind: "auth.flood", Level: Warning,
		Message: fmt.Sprintf("%d more failed logins and locks in the last %v are not listed one by one.", n, floodRefill)})
}

// login reports a login, once for a row of them.
func (d *auditor) login(t Attempt) {
	if d.loggedIn != nil {
		d.loggedIn(t)
	}
	if !d.isNew(login{via: t.Via, name: t.Name, source: sourceOf(t.Source)}) {
		d.log.Debug("login again", "via", t.Via, "user", t.Name, "source", t.Source)
		return
	}
	d.say(Report{Kind: "auth.login", Level: OK, Message: fmt.Sprintf("User %s logged in.", printable(t.Name))}.by(t))
}

// privilege reports a raised privilege, once for a row of them.
func (d *auditor) privilege(t Attempt, level string) {
	if !d.isNew(login{via: t.Via, name: t.Name, source: sourceOf(t.Source), level: level}) {
		d.log.Debug("privilege again", "via", t.Via, "user", t.Name, "source", t.Source, "level", level)
		return
	}
	d.say(Report{Kind: "auth.privilege", Level: OK,
		Message: fmt.Sprintf("The session of user %s was raised to %s.", printable(t.Name), printable(level))}.by(t))
}

// by fills in who did it.
func (r Report) by(t Attempt) Report {
	r.Via, r.User, r.Source = t.Via, printable(t.Name), sourceText(t.Source)
	return r
}

func (d *auditor) isNew(l login) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	last, again := d.logins[l]
	if !again && len(d.logins) >= maxLogins {
		oldest := l
		for k, at := range d.logins {
			if oldest == l || at.Before(d.logins[oldest]) {
				oldest = k
			}
		}
		delete(d.logins, oldest)
	}
	d.logins[l] = now
	return !again || now.Sub(last) > loginQuiet
}

// printable makes a name that anybody may have sent fit for a log line: at most
// 32 characters, nothing but printable ASCII.
func printable(name string) string {
	if len(name) > 32 {
		name = name[:32]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, name)
}

func sourceText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().String()
}
