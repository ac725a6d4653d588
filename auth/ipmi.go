package auth

import (
	"crypto/subtle"
	"fmt"
)

// An IPMILimit is the most a user may do over IPMI, where it is less than the
// role.
type IPMILimit string

// The limits. There is none between a role and nothing: IPMI's ADMINISTRATOR,
// OPERATOR and USER are the roles.
const (
	// RoleLimit: all that the role may.
	RoleLimit IPMILimit = ""
	// CallbackLimit: to be called back. A LAN cannot, so the user cannot log in.
	CallbackLimit IPMILimit = "callback"
	// NoIPMI: nothing.
	NoIPMI IPMILimit = "none"
)

// maxSessionLimit is what IPMI has four bits for (section 22.26).
const maxSessionLimit = 15

// IPMIAccess narrows what a user may do over IPMI, in the words of Set User
// Access and Set User Payload Access (IPMI 2.0 sections 22.26 and 24.6). The
// zero value narrows nothing.
type IPMIAccess struct {
	Limit IPMILimit `json:"limit,omitempty"`
	// NoMessaging takes away IPMI commands; since there is no session without
	// them, the user cannot log in.
	NoMessaging bool `json:"no_messaging,omitempty"`
	// LinkAuth is kept and does nothing: a LAN has no link authentication.
	LinkAuth bool `json:"link_auth,omitempty"`
	// Callback restricts to callback connections, of which a LAN has none.
	Callback bool `json:"callback,omitempty"`
	// NoSOL takes the serial console over IPMI away.
	NoSOL bool `json:"no_sol,omitempty"`
	// SessionLimit is how many sessions the user may have at once, 1 to 15;
	// 0: as many as there can be.
	SessionLimit int `json:"session_limit,omitempty"`
}

// LogsIn says whether a user with this access may log in over IPMI.
func (x IPMIAccess) LogsIn() bool { return x.Limit == RoleLimit && !x.NoMessaging && !x.Callback }

// rights is the part that open sessions rest on.
func (x IPMIAccess) rights() IPMIAccess {
	x.LinkAuth, x.SessionLimit = false, 0
	return x
}

func (x IPMIAccess) validate() error {
	switch x.Limit {
	case RoleLimit, CallbackLimit, NoIPMI:
	default:
		return fmt.Errorf("%w: IPMI limit %q", ErrInvalid, x.Limit)
	}
	if x.SessionLimit < 0 || x.SessionLimit > maxSessionLimit {
		return fmt.Errorf("%w: a limit of IPMI sessions is 0 to %d", ErrInvalid, maxSessionLimit)
	}
	return nil
}

// String says the access in a few words, for the audit trail.
func (x IPMIAccess) String() string {
	s := "as the role may"
	if x.Limit != RoleLimit {
		s = string(x.Limit)
	}
	for _, f := range [...]struct {
		is   bool
		word string
	}{
		{x.NoMessaging, "no messaging"}, {x.LinkAuth, "link authentication"},
		{x.Callback, "only called back"}, {x.NoSOL, "no serial console"},
	} {
		if f.is {
			s += ", " + f.word
		}
	}
	if x.SessionLimit > 0 {
		s += fmt.Sprintf(", %d sessions", x.SessionLimit)
	}
	return s
}

// SetIPMIAccess changes a user's access over IPMI. IPMI sessions end if their
// rights changed; no others do.
func (a *Auth) SetIPMIAccess(name string, x IPMIAccess, by Attempt) error {
	report := Report{Kind: "auth.ipmi-access-changed", Level: OK, Message: fmt.Sprintf("The IPMI access of user %s is: %v.", name, x)}
	return a.edit(name, report, by, func(r *record) error {
		if r.Access == x {
			return errSame
		}
		r.Access = x
		return nil
	})
}

// A Secret is what an IPMI login is judged by.
type Secret struct {
	Key  [MaxIPMISecret]byte // padded with zero bytes
	Role Role
	// Version is the user's IPMIVersion: where it is the same later, so are the
	// other two.
	Version uint64
}

// Secret returns a user's IPMI secret, which IPMI needs in clear at RAKP1 (IPMI
// 2.0 section 13.31), before the other side has proved anything. It does no
// input or output, no hash, and takes no lock but that of the counters, for a
// look into three maps.
//
// known is false for a user who is not there, is disabled or locked out, has no
// secret, or may not log in over IPMI: the caller then goes on with a key that
// nothing matches, and nothing on the wire tells one from the other.
//
// It is to be asked again when RAKP3 has matched: a lock, or a change of the
// user, may have come meanwhile.
func (a *Auth) Secret(t Attempt) (s Secret, known bool) {
	locked := a.lockouts.locked(t)
	r := a.lookup(t.Name)
	if locked || r == nil || !r.Enabled || !r.opened || !r.Access.LogsIn() {
		return Secret{}, false
	}
	return Secret{Key: r.secret, Role: r.Role, Version: r.ipmiVersion}, true
}

// SecretResult tells whether RAKP3 matched the secret: it counts for lockout
// and makes the audit's line. Known and unknown users are counted alike.
func (a *Auth) SecretResult(t Attempt, ok bool) {
	if a.lockouts.result(t, ok) {
		a.audit.login(t)
	}
}

// Privilege reports that an IPMI session was raised to a privilege level, named
// as IPMI does, once for a row of them: ipmitool raises its session for each
// command.
func (a *Auth) Privilege(t Attempt, level string) { a.audit.privilege(t, level) }

// CheckIPMISecret says, in a time that tells nothing, whether a user has this
// IPMI secret; no secret is "". It is no login: nothing is counted, so only one
// who may set the secret may ask.
func (a *Auth) CheckIPMISecret(name, secret string) bool {
	r := a.lookup(name)
	return r != nil && r.hasSecret(secret)
}

// hasSecret compares in constant time.
func (r *record) hasSecret(secret string) bool {
	var padded [MaxIPMISecret]byte
	fits := copy(padded[:], secret) == len(secret)
	same := subtle.ConstantTimeCompare(padded[:], r.secret[:]) == 1
	return fits && same && r.opened == (secret != "")
}

// checkSecretSize takes the sizes of Set User Password (IPMI 2.0 section 22.30),
// and 0 for a secret that another front-end set.
func checkSecretSize(n int) error {
	if n != 0 && n != 16 && n != MaxIPMISecret {
		return fmt.Errorf("%w: an IPMI secret is one of 16 or %d bytes", ErrInvalid, MaxIPMISecret)
	}
	return nil
}
