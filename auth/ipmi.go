package auth

// Secret returns a user's IPMI secret, padded with zero bytes, and the role.
// IPMI needs it in clear at RAKP1 (IPMI 2.0 section 13.31), before the other
// side has proved anything. It does no input or output, no hash, and takes no
// lock but that of the counters, for a look into three maps.
//
// known is false for a user who is not there, is disabled or locked out, or
// has no secret: the caller then goes on with a key that nothing matches, and
// nothing on the wire tells one from the other.
func (a *Auth) Secret(t Attempt) (secret [MaxIPMISecret]byte, role Role, known bool) {
	locked := a.lockouts.locked(t)
	r := a.lookup(t.Name)
	if locked || r == nil || !r.Enabled || !r.opened {
		return [MaxIPMISecret]byte{}, "", false
	}
	return r.secret, r.Role, true
}

// SecretResult tells whether RAKP3 matched the secret: it counts for lockout
// and makes the audit's line. Known and unknown users are counted alike.
func (a *Auth) SecretResult(t Attempt, ok bool) {
	if a.lockouts.result(t, ok) {
		a.audit.login(t)
	}
}
