package auth

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
// known is false for a user who is not there, is disabled or locked out, or
// has no secret: the caller then goes on with a key that nothing matches, and
// nothing on the wire tells one from the other.
//
// It is to be asked again when RAKP3 has matched: a lock, or a change of the
// user, may have come meanwhile.
func (a *Auth) Secret(t Attempt) (s Secret, known bool) {
	locked := a.lockouts.locked(t)
	r := a.lookup(t.Name)
	if locked || r == nil || !r.Enabled || !r.opened {
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
