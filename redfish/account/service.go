// Package account is Redfish's AccountService: the users, their SSH keys, the
// roles and the policy against guessing.
package account

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Auth is what the chapter needs of package auth.
type Auth interface {
	Users() []auth.User
	User(name string) (auth.User, bool)
	Create(u auth.User, password string, by auth.Attempt) error
	Delete(name string, by auth.Attempt) error
	Rename(name, to string, by auth.Attempt) error
	SetRole(name string, role auth.Role, by auth.Attempt) error
	SetEnabled(name string, enabled bool, by auth.Attempt) error
	SetPassword(name, password string, by auth.Attempt) error
	SetPasswordChangeRequired(name string, required bool, by auth.Attempt) error
	SetIPMISecret(name, secret string, by auth.Attempt) error
	SetIPMIAccess(name string, x auth.IPMIAccess, by auth.Attempt) error
	SetKeys(name string, keys []string, by auth.Attempt) error
	// Locked says whether failed logins have locked the user's name.
	Locked(name string) bool
	// Unlock ends that lock.
	Unlock(name string, by auth.Attempt)
	Lockout() auth.Lockout
}

// Options are what a Service is made of; Auth and Log are required.
type Options struct {
	Auth Auth
	Log  *slog.Logger
	// SaveLockout keeps a policy in the settings and puts it in force. It
	// answers host.ErrInvalid for one that breaks a rule. nil: the policy can
	// only be read.
	SaveLockout func(auth.Lockout, host.Origin) error
	// MinPassword is the least length of a password in bytes; 0 stands for
	// auth.MinPassword.
	MinPassword int
	// SSH and IPMI say whether that service is there for users to log in to; nil:
	// it is not.
	SSH, IPMI func() bool
	// PrivilegeMap is the URI of the PrivilegeRegistry that the service follows;
	// empty: there is none to show.
	PrivilegeMap string
}

// Service is the chapter.
type Service struct {
	opt Options
	// keys is held from reading a user's keys to writing them.
	keys sync.Mutex
}

// New makes it.
func New(o Options) *Service {
	never := func() bool { return false }
	if o.SSH == nil {
		o.SSH = never
	}
	if o.IPMI == nil {
		o.IPMI = never
	}
	if o.MinPassword == 0 {
		o.MinPassword = auth.MinPassword
	}
	return &Service{opt: o}
}

const serviceType = "AccountService.v1_18_1.AccountService"

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	const account = resource.AccountsURI + "/{id}"
	return []resource.Route{
		{Pattern: resource.AccountServiceURI, Type: serviceType, Get: s.getService, Patch: s.patchService},
		{Pattern: resource.AccountsURI, Type: "ManagerAccountCollection.ManagerAccountCollection", Get: s.getAccounts, Post: s.postAccount},
		// Users may see themselves and change their passwords, even those who
		// have to; the handlers see to it that it is no more.
		{Pattern: account, Type: accountType, Self: true, Free: true, Get: s.getAccount, Patch: s.patchAccount, Delete: s.deleteAccount},
		{Pattern: account + "/Keys", Type: "KeyCollection.KeyCollection", Get: s.getKeys, Post: s.postKey},
		{Pattern: account + "/Keys/{key}", Type: keyType, Get: s.getKey, Delete: s.deleteKey},
		{Pattern: resource.RolesURI, Type: "RoleCollection.RoleCollection", Get: getRoles},
		{Pattern: resource.RolesURI + "/{id}", Type: roleType, Get: getRole},
	}
}

type accountService struct {
	resource.OData
	Status                      resource.Status `json:"Status"`
	ServiceEnabled              bool            `json:"ServiceEnabled"`
	LocalAccountAuth            string          `json:"LocalAccountAuth"`
	HTTPBasicAuth               string          `json:"HTTPBasicAuth"`
	MinPasswordLength           int             `json:"MinPasswordLength"`
	MaxPasswordLength           int             `json:"MaxPasswordLength"`
	PasswordGuidanceMessage     string          `json:"PasswordGuidanceMessage"`
	RequireChangePasswordAction bool            `json:"RequireChangePasswordAction"`
	// The durations are in seconds.
	AccountLockoutThreshold         int            `json:"AccountLockoutThreshold"`
	AccountLockoutDuration          int64          `json:"AccountLockoutDuration"`
	AccountLockoutCounterResetAfter int64          `json:"AccountLockoutCounterResetAfter"`
	SupportedAccountTypes           []string       `json:"SupportedAccountTypes"`
	PrivilegeMap                    *resource.Link `json:"PrivilegeMap,omitempty"`
	Accounts                        resource.Link  `json:"Accounts"`
	Roles                           resource.Link  `json:"Roles"`
}

// getService shows of the policy what Redfish has words for: the lock of an
// account, as IPMI's LAN parameters show it too. Sources of failed logins are
// locked besides (see auth.Lockout). The duration is that of the first lock;
// those after it may be longer, and for that the counter is kept for longer
// than the lock holds, other than the schema would have it, until a client sets
// a duration.
func (s *Service) getService(*resource.Request) *resource.Reply {
	l := s.opt.Auth.Lockout()
	r := accountService{
		OData:             resource.NewOData(resource.AccountServiceURI, serviceType, "Account Service"),
		Status:            resource.Enabled(),
		ServiceEnabled:    true,
		LocalAccountAuth:  "Enabled",
		HTTPBasicAuth:     "Enabled",
		MinPasswordLength: s.opt.MinPassword,
		MaxPasswordLength: auth.MaxPassword,
		PasswordGuidanceMessage: fmt.Sprintf("A password has %d to %d bytes of UTF-8 text without control characters. Where the account is to be used over IPMI, it has at most %d printable ASCII characters.",
			s.opt.MinPassword, auth.MaxPassword, auth.MaxIPMISecret),
		AccountLockoutDuration:          int64(l.First / time.Second),
		AccountLockoutCounterResetAfter: int64(l.Forget / time.Second),
		SupportedAccountTypes:           s.supportedTypes(),
		Accounts:                        resource.Link{ODataID: resource.AccountsURI},
		Roles:                           resource.Link{ODataID: resource.RolesURI},
	}
	if l.Threshold > 0 { // else there are no locks at all
		r.AccountLockoutThreshold = l.UserThreshold
	}
	if s.opt.PrivilegeMap != "" {
		r.PrivilegeMap = &resource.Link{ODataID: s.opt.PrivilegeMap}
	}
	return resource.OK(r)
}

// The bounds of the policy are auth.Lockout.Validate's.
const (
	maxThreshold = 10000
	maxLock      = 24 * 60 * 60
	maxForget    = 7 * maxLock
)

// patchService takes the policy. That of an account is made just what the
// client says: all its locks last as long, and none is remembered for longer.
// Sources keep their own, in so far as the two fit.
func (s *Service) patchService(q *resource.Request) *resource.Reply {
	if s.opt.SaveLockout == nil {
		return resource.Patch(q, s.getService)
	}
	set := func(name string, change func(*auth.Lockout)) []message.Message {
		l := s.opt.Auth.Lockout()
		change(&l)
		err := s.opt.SaveLockout(l, q.Origin())
		switch {
		case err == nil:
			return nil
		case errors.Is(err, host.ErrInvalid):
			s.opt.Log.Warn("lockout not set", "error", err)
			return []message.Message{message.PropertyValueError(name)}
		}
		s.opt.Log.Error("lockout not set", "error", err)
		return []message.Message{message.PropertyNotUpdated(name)}
	}
	const threshold, duration, reset = "AccountLockoutThreshold", "AccountLockoutDuration", "AccountLockoutCounterResetAfter"
	// The one bounds the other.
	inOrder(q.Body, threshold, duration, reset)
	return resource.Patch(q, s.getService,
		resource.Integer(threshold, 0, maxThreshold, func(n int64) []message.Message {
			return set(threshold, func(l *auth.Lockout) {
				if n == 0 {
					l.Threshold = 0
					return
				}
				if l.Threshold == 0 {
					l.Threshold = auth.DefaultLockout().Threshold
				}
				l.UserThreshold = int(n)
				l.Threshold = min(l.Threshold, l.UserThreshold)
			})
		}),
		resource.Integer(duration, 1, maxLock, func(n int64) []message.Message {
			return set(duration, func(l *auth.Lockout) {
				d := time.Duration(n) * time.Second
				l.First, l.UserMax = d, d
				l.Max = max(l.Max, d)
				l.Forget = min(l.Forget, d)
			})
		}),
		resource.Integer(reset, 1, maxForget, func(n int64) []message.Message {
			d := time.Duration(n) * time.Second
			if d > s.opt.Auth.Lockout().First {
				return []message.Message{message.PropertyValueConflict(reset, duration)}
			}
			return set(reset, func(l *auth.Lockout) { l.Forget = d })
		}))
}

// inOrder puts properties of a body into the order in which they can be
// written, those that are not named last.
func inOrder(body resource.Object, names ...string) {
	rank := func(m resource.Member) int {
		if i := slices.Index(names, m.Name); i >= 0 {
			return i
		}
		return len(names)
	}
	slices.SortStableFunc(body, func(a, b resource.Member) int { return rank(a) - rank(b) })
}

// supportedTypes lists all that an account can be used for here.
func (s *Service) supportedTypes() []string {
	types := []string{"Redfish"}
	if s.opt.SSH() {
		types = append(types, "ManagerConsole", "HostConsole")
	}
	if s.opt.IPMI() {
		types = append(types, ipmiType)
	}
	return types
}

// problem maps an error of package auth on the property that it is about.
func (s *Service) problem(err error, name string, value any) []message.Message {
	var m message.Message
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrLastAdministrator):
		m = message.PropertyValueExternalConflict(name, value)
	case errors.Is(err, auth.ErrExists):
		m = message.ResourceAlreadyExists("ManagerAccount", name, value)
	case errors.Is(err, auth.ErrInvalid):
		m = message.PropertyValueFormatError(value, name)
	default:
		return []message.Message{s.failure(err)}
	}
	return []message.Message{m.About(message.Pointer(name))}
}

// failure maps what is wrong with no value.
func (s *Service) failure(err error) message.Message {
	switch {
	case errors.Is(err, auth.ErrFull):
		return message.CreateLimitReachedForResource()
	case errors.Is(err, auth.ErrLastAdministrator):
		// The registry's status is for what can never be deleted (DSP0266,
		// DELETE); this can, once there is another administrator.
		m := message.ResourceCannotBeDeleted()
		m.Status = http.StatusConflict
		return m
	case errors.Is(err, auth.ErrBusy):
		return message.TemporarilyUnavailable()
	}
	s.opt.Log.Error("account not changed", "error", err)
	return message.InternalError()
}

const roleType = "Role.v1_3_3.Role"

type role struct {
	resource.OData
	RoleID             string   `json:"RoleId"`
	IsPredefined       bool     `json:"IsPredefined"`
	AssignedPrivileges []string `json:"AssignedPrivileges"`
}

// roles are the predefined ones. There are no others, and these cannot be
// changed (DSP0266, Roles): so a role has no PATCH, and their collection no POST.
func roles() []string {
	return []string{string(auth.Administrator), string(auth.Operator), string(auth.ReadOnly)}
}

func roleURI(name string) string { return resource.RolesURI + "/" + name }

func getRoles(*resource.Request) *resource.Reply {
	var uris []string
	for _, name := range roles() {
		uris = append(uris, roleURI(name))
	}
	return resource.OK(resource.NewCollection(resource.RolesURI, "RoleCollection", "Role Collection", uris...))
}

func getRole(q *resource.Request) *resource.Reply {
	id := q.PathValue("id")
	if !slices.Contains(roles(), id) {
		return resource.Fail(message.ResourceNotFound("Role", id))
	}
	r := role{OData: resource.NewOData(roleURI(id), roleType, id+" Role"), RoleID: id, IsPredefined: true}
	held := resource.PrivilegesOf(auth.Role(id))
	for _, each := range []struct {
		privilege resource.Privilege
		name      string
	}{
		{resource.Login, "Login"},
		{resource.ConfigureManager, "ConfigureManager"},
		{resource.ConfigureUsers, "ConfigureUsers"},
		{resource.ConfigureSelf, "ConfigureSelf"},
		{resource.ConfigureComponents, "ConfigureComponents"},
	} {
		if held&each.privilege != 0 {
			r.AssignedPrivileges = append(r.AssignedPrivileges, each.name)
		}
	}
	return resource.OK(r)
}

// find finds the user of an Id, which is not always the name.
func (s *Service) find(id string) (auth.User, *resource.Reply) {
	for _, u := range s.opt.Auth.Users() {
		if strings.TrimPrefix(resource.AccountURI(u), resource.AccountsURI+"/") == id {
			return u, nil
		}
	}
	return auth.User{}, resource.Fail(message.ResourceNotFound("ManagerAccount", id))
}
