package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nitrino/nitrino/internal/store"
)

// errSame ends a change that would change nothing.
var errSame = errors.New("no change")

// load reads all users from the store.
func (a *Auth) load() error {
	users := map[string]*record{}
	err := a.db.View(func(tx store.Tx) error {
		return tx.Each(userBucket, func(key, raw []byte) error {
			name := string(key)
			r, err := decodeRecord(name, raw)
			if err != nil {
				a.log.Error("user record", "user", name, "error", err)
				a.audit.say(Report{Kind: "auth.user-damaged", Level: Critical, User: printable(name),
					Message: fmt.Sprintf("The record of user %s is damaged; the user cannot log in.", printable(name))})
				return nil
			}
			if err := r.open(a.sealKey); err != nil {
				a.log.Error("IPMI secret", "user", name, "error", err)
				a.audit.say(Report{Kind: "auth.ipmi-secret-lost", Level: Warning, User: name,
					Message: fmt.Sprintf("The IPMI secret of user %s cannot be opened (%v); set it again.", name, err)})
			}
			a.version++
			r.version, r.ipmiVersion = a.version, a.version
			users[name] = r
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	a.giveNumbers(users)
	a.users.Store(&users)
	return nil
}

// Create makes a user. An empty password makes one who cannot log in by
// password (until SetPassword). u.Number may be chosen; 0 takes the lowest free
// one. u.IPMI is not looked at: SetIPMISecret gives a secret.
func (a *Auth) Create(u User, password string, by Attempt) error {
	r, err := a.newRecord(u, password, by)
	if err != nil {
		return err
	}
	return a.add(r, by)
}

// newRecord makes the record of a new user, without an IPMI secret.
func (a *Auth) newRecord(u User, password string, by Attempt) (*record, error) {
	r := &record{Name: u.Name, Role: u.Role, Enabled: u.Enabled, Keys: slices.Clone(u.Keys),
		Number: u.Number, Access: u.IPMIAccess, ChangeRequired: u.PasswordChangeRequired}
	if err := r.derive(); err != nil {
		return nil, err
	}
	if err := checkNumber(r.Number); err != nil {
		return nil, err
	}
	if password == "" {
		return r, nil
	}
	hash, err := a.hash(password, by)
	if err != nil {
		return nil, err
	}
	r.hash, r.Password = hash, hash.String()
	return r, nil
}

// add stores a new user.
func (a *Auth) add(r *record, by Attempt) error {
	report := Report{Kind: "auth.user-created", Level: OK, Message: fmt.Sprintf("User %s was created as %s.", r.Name, r.Role)}
	return a.change(r.Name, report, by, func(old *record) (*record, error) {
		if old != nil {
			return nil, fmt.Errorf("%w: %s", ErrExists, r.Name)
		}
		users := *a.users.Load()
		if len(users) >= MaxUsers {
			return nil, fmt.Errorf("%w: there are %d", ErrFull, MaxUsers)
		}
		if r.Number == 0 {
			r.Number = freeNumber(users)
		} else if holder := numbered(users, r.Number); holder != nil {
			return nil, fmt.Errorf("%w: %s has number %d", ErrExists, holder.Name, r.Number)
		}
		return r, nil
	})
}

// Delete removes a user and ends the sessions.
func (a *Auth) Delete(name string, by Attempt) error {
	report := Report{Kind: "auth.user-deleted", Level: OK, Message: fmt.Sprintf("User %s was deleted.", name)}
	return a.change(name, report, by, func(old *record) (*record, error) {
		if old == nil {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, printable(name))
		}
		return nil, nil
	})
}

// Rename gives a user another name; all else of the user stays, and the sessions
// end. An IPMI secret that does not open (see Open) is lost.
func (a *Auth) Rename(name, to string, by Attempt) error {
	report := Report{Kind: "auth.user-renamed", Level: OK, Message: fmt.Sprintf("User %s is called %s now.", name, to)}
	return a.edit(name, report, by, func(r *record) error {
		if to == name {
			return errSame
		}
		r.Name = to
		if r.opened { // the name is bound into the seal
			return r.seal(a.sealKey, string(bytes.TrimRight(r.secret[:], "\x00")))
		}
		r.IPMI = nil
		return nil
	})
}

// SetRole changes a user's role and ends the sessions.
func (a *Auth) SetRole(name string, role Role, by Attempt) error {
	report := Report{Kind: "auth.role-changed", Level: OK, Message: fmt.Sprintf("User %s has role %s now.", name, role)}
	return a.edit(name, report, by, func(r *record) error {
		if r.Role == role {
			return errSame
		}
		r.Role = role
		return nil
	})
}

// SetEnabled enables or disables a user; disabling ends the sessions.
func (a *Auth) SetEnabled(name string, enabled bool, by Attempt) error {
	report := Report{Kind: "auth.user-disabled", Level: OK, Message: fmt.Sprintf("User %s was disabled.", name)}
	if enabled {
		report.Kind, report.Message = "auth.user-enabled", fmt.Sprintf("User %s was enabled.", name)
	}
	return a.edit(name, report, by, func(r *record) error {
		if r.Enabled == enabled {
			return errSame
		}
		r.Enabled = enabled
		return nil
	})
}

// SetPassword changes a user's password and ends the sessions. The IPMI secret
// is another matter: SetIPMISecret. It ends PasswordChangeRequired when it is the
// user's own doing (by.Name); then the password must be another one.
func (a *Auth) SetPassword(name, password string, by Attempt) error {
	old := a.lookup(name)
	if old == nil {
		return fmt.Errorf("%w: %s", ErrNotFound, printable(name))
	}
	own := by.Name == name
	if own && old.ChangeRequired {
		if err := a.differs(old, password, by); err != nil {
			return err
		}
	}
	hash, err := a.hash(password, by)
	if err != nil {
		return err
	}
	report := Report{Kind: "auth.password-changed", Level: OK, Message: fmt.Sprintf("The password of user %s was changed.", name)}
	return a.edit(name, report, by, func(r *record) error {
		r.Password = hash.String()
		if own {
			r.ChangeRequired = false
		}
		return nil
	})
}

// SetPasswordChangeRequired says whether the user is to choose another password;
// open sessions stay, and learn of it.
func (a *Auth) SetPasswordChangeRequired(name string, required bool, by Attempt) error {
	report := Report{Kind: "auth.password-change-waived", Level: OK, Message: fmt.Sprintf("User %s need not change the password any more.", name)}
	if required {
		report.Kind, report.Message = "auth.password-change-required", fmt.Sprintf("User %s has to change the password.", name)
	}
	return a.edit(name, report, by, func(r *record) error {
		if r.ChangeRequired == required {
			return errSame
		}
		r.ChangeRequired = required
		return nil
	})
}

// SetIPMISecret changes a user's IPMI secret; "" takes it away, and with it the
// right to come in by IPMI. It ends IPMI sessions (see User.IPMIVersion), no
// others.
func (a *Auth) SetIPMISecret(name, secret string, by Attempt) error {
	return a.SetIPMISecretSize(name, secret, 0, by)
}

// SetIPMISecretSize is SetIPMISecret for a secret that was given as one of 16 or
// 20 bytes; see User.IPMISecretSize.
func (a *Auth) SetIPMISecretSize(name, secret string, size int, by Attempt) error {
	if err := checkSecretSize(size); err != nil {
		return err
	}
	if size != 0 && len(secret) > size {
		return fmt.Errorf("%w: the IPMI secret is longer than its %d bytes", ErrInvalid, size)
	}
	report := Report{Kind: "auth.ipmi-secret-removed", Level: OK, Message: fmt.Sprintf("The IPMI secret of user %s was removed.", name)}
	if secret != "" {
		report.Kind, report.Message = "auth.ipmi-secret-changed", fmt.Sprintf("The IPMI secret of user %s was changed.", name)
		if err := checkIPMISecret(secret, a.least(MinIPMISecret)); err != nil {
			return err
		}
	}
	return a.edit(name, report, by, func(r *record) error {
		if secret == "" {
			if r.IPMI == nil {
				return errSame
			}
			r.IPMI, r.opened, r.secret, r.SecretSize = nil, false, [MaxIPMISecret]byte{}, 0
			return nil
		}
		if r.hasSecret(secret) && r.SecretSize == size {
			return errSame
		}
		r.SecretSize = size
		return r.seal(a.sealKey, secret)
	})
}

// SetKeys replaces a user's SSH public keys: authorized_keys lines without
// options.
func (a *Auth) SetKeys(name string, keys []string, by Attempt) error {
	report := Report{Kind: "auth.keys-changed", Level: OK,
		Message: fmt.Sprintf("The SSH keys of user %s were changed; there are %d now.", name, len(keys))}
	return a.edit(name, report, by, func(r *record) error {
		if slices.Equal(r.Keys, keys) {
			return errSame
		}
		r.Keys = slices.Clone(keys)
		return nil
	})
}

// least is how many bytes a password or secret needs.
func (a *Auth) least(rule int) int {
	if a.short {
		return 1
	}
	return rule
}

// hash checks and hashes a new password, in turn with the logins.
func (a *Auth) hash(password string, by Attempt) (phc, error) {
	if err := checkPassword(password, a.least(MinPassword)); err != nil {
		return phc{}, err
	}
	// The wait is bounded by the gate's limits; a change has no context.
	if err := a.gate.enter(context.Background(), sourceOf(by.Source)); err != nil {
		return phc{}, err
	}
	defer a.gate.leave()
	return a.hasher.make(password), nil
}

// differs refuses a password that the user has already. It takes its turn with
// the logins.
func (a *Auth) differs(r *record, password string, by Attempt) error {
	if r.Password == "" || len(password) > MaxPassword {
		return nil // hash refuses the long one
	}
	if err := a.gate.enter(context.Background(), sourceOf(by.Source)); err != nil {
		return err
	}
	defer a.gate.leave()
	if a.hasher.verify(r.hash, password) {
		return fmt.Errorf("%w: the new password is the old one", ErrInvalid)
	}
	return nil
}

// edit changes a copy of a user's record.
func (a *Auth) edit(name string, report Report, by Attempt, f func(*record) error) error {
	return a.change(name, report, by, func(old *record) (*record, error) {
		if old == nil {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, printable(name))
		}
		r := *old
		if err := f(&r); err != nil {
			return nil, err
		}
		return &r, r.derive()
	})
}

// change replaces a user's record with what f makes of it (nil in: there is
// none; nil out: none shall be), and tells the audit trail.
func (a *Auth) change(name string, report Report, by Attempt, f func(*record) (*record, error)) error {
	err := a.replace(name, f)
	switch {
	case err == nil:
		a.audit.say(report.by(by))
	case errors.Is(err, errSame):
		return nil
	case errors.Is(err, ErrLastAdministrator):
		// Somebody tried to lock everybody out, or was about to by mistake.
		a.audit.noisy(Report{Kind: "auth.change-refused", Level: Warning,
			Message: fmt.Sprintf("A change of user %s was refused: %v.", name, err)}.by(by))
	}
	return err
}

// replace does the change: on the disk first, then for all to see. What f makes
// may have another name.
func (a *Auth) replace(name string, f func(*record) (*record, error)) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	before := *a.users.Load()
	old := before[name]
	r, err := f(old)
	if err != nil {
		return err
	}
	after := maps.Clone(before)
	delete(after, name)
	if r != nil {
		if after[r.Name] != nil { // renamed
			return fmt.Errorf("%w: %s", ErrExists, r.Name)
		}
		after[r.Name] = r
	}
	if administrators(before) > 0 && administrators(after) == 0 ||
		managers(before) > 0 && managers(after) == 0 {
		return ErrLastAdministrator
	}
	if err := a.save(name, r); err != nil {
		return err
	}
	if r != nil {
		a.version++
		rights := old == nil || r.Name != old.Name || r.Role != old.Role || r.Enabled != old.Enabled
		if rights || r.Password != old.Password {
			r.version = a.version
		}
		if rights || r.opened != old.opened || r.secret != old.secret || r.Access.rights() != old.Access.rights() {
			r.ipmiVersion = a.version
		}
	}
	a.users.Store(&after)
	a.cache.drop(after)
	a.sessions.sweep()
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}

func (a *Auth) save(name string, r *record) error {
	var raw []byte
	if r != nil {
		var err error
		if raw, err = json.Marshal(r); err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
	}
	err := a.db.Update(func(tx store.Tx) error {
		if r == nil || r.Name != name {
			if err := tx.Delete(userBucket, []byte(name)); err != nil {
				return err
			}
		}
		if r == nil {
			return nil
		}
		return tx.Put(userBucket, []byte(r.Name), raw)
	})
	if err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	return nil
}

// CopyUsers copies the users with all their secrets, which the same seal key
// opens, from one store to another.
func CopyUsers(to, from store.Tx) error {
	return from.Each(userBucket, func(name, raw []byte) error { return to.Put(userBucket, name, raw) })
}

// administrators counts the enabled ones.
func administrators(users map[string]*record) int {
	n := 0
	for _, r := range users {
		if r.Enabled && r.Role == Administrator {
			n++
		}
	}
	return n
}

// managers counts the enabled administrators who have a way to log in: one that
// IPMI made has no password and no keys, and may lose the secret.
func managers(users map[string]*record) int {
	n := 0
	for _, r := range users {
		if r.Enabled && r.Role == Administrator && (r.Password != "" || len(r.Keys) > 0 || r.opened && r.Access.LogsIn()) {
			n++
		}
	}
	return n
}
