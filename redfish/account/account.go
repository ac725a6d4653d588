package account

import (
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	accountType = "ManagerAccount.v1_14_1.ManagerAccount"
	// ipmiType is the AccountType that can be given and taken away.
	ipmiType = "IPMI"
)

type account struct {
	resource.OData
	UserName string `json:"UserName"`
	// Password and PasswordExpiration are always null: the one is never told, and
	// none expires.
	Password               *string  `json:"Password"`
	PasswordExpiration     *string  `json:"PasswordExpiration"`
	PasswordChangeRequired bool     `json:"PasswordChangeRequired"`
	RoleID                 string   `json:"RoleId"`
	Enabled                bool     `json:"Enabled"`
	Locked                 bool     `json:"Locked"`
	AccountTypes           []string `json:"AccountTypes"`
	// StrictAccountTypes is false: who may use Redfish may use SSH, too.
	StrictAccountTypes bool          `json:"StrictAccountTypes"`
	Keys               resource.Link `json:"Keys"`
	Links              accountLinks  `json:"Links"`
}

type accountLinks struct {
	Role resource.Link `json:"Role"`
}

// Settled leaves out what other people's logins change.
func (a account) Settled() resource.Typed {
	a.Locked = false
	return a
}

func (s *Service) newAccount(u auth.User) account {
	uri := resource.AccountURI(u)
	return account{
		OData:                  resource.NewOData(uri, accountType, "User Account"),
		UserName:               u.Name,
		PasswordChangeRequired: u.PasswordChangeRequired,
		RoleID:                 string(u.Role),
		Enabled:                u.Enabled,
		Locked:                 s.opt.Auth.Locked(u.Name),
		AccountTypes:           s.types(u),
		Keys:                   resource.Link{ODataID: uri + "/Keys"},
		Links:                  accountLinks{resource.Link{ODataID: roleURI(string(u.Role))}},
	}
}

// types lists what an account can be used for: Redfish and SSH, by which
// Operators reach the host's console, are for all, IPMI for who has a secret for
// it.
func (s *Service) types(u auth.User) []string {
	return slices.DeleteFunc(s.supportedTypes(), func(t string) bool {
		return t == "HostConsole" && !u.Role.AtLeast(auth.Operator) || t == ipmiType && !usesIPMI(u)
	})
}

func usesIPMI(u auth.User) bool { return u.IPMI && u.IPMIAccess.LogsIn() }

func (s *Service) getAccounts(*resource.Request) *resource.Reply {
	var uris []string
	for _, u := range s.opt.Auth.Users() {
		uris = append(uris, resource.AccountURI(u))
	}
	return resource.OK(resource.NewCollection(resource.AccountsURI, "ManagerAccountCollection", "Account Collection", uris...))
}

// visible finds the account that the request is about; it must be the user's
// own unless the user may configure users or the manager.
func (s *Service) visible(q *resource.Request) (auth.User, *resource.Reply) {
	u, problem := s.find(q.PathValue("id"))
	own := problem == nil && u.Name == q.User.Name
	switch {
	case !own && q.User.PasswordChangeRequired:
		return u, resource.Fail(message.PasswordChangeRequired(resource.AccountURI(q.User)))
	case problem != nil:
		return u, problem
	case !own && !q.May(resource.ConfigureUsers|resource.ConfigureManager):
		return u, resource.Fail(message.InsufficientPrivilege())
	}
	return u, nil
}

func (s *Service) getAccount(q *resource.Request) *resource.Reply {
	u, problem := s.visible(q)
	if problem != nil {
		return problem
	}
	return resource.OK(s.newAccount(u))
}

// deleteAccount: who has to change the password may not get rid of it so.
func (s *Service) deleteAccount(q *resource.Request) *resource.Reply {
	u, problem := s.visible(q)
	switch {
	case problem != nil:
		return problem
	case q.User.PasswordChangeRequired:
		return resource.Fail(message.PasswordChangeRequired(resource.AccountURI(q.User)))
	}
	err := s.opt.Auth.Delete(u.Name, q.Attempt)
	switch {
	case err == nil:
		return resource.NoContent()
	case errors.Is(err, auth.ErrNotFound):
		return resource.Fail(message.ResourceNotFound("ManagerAccount", q.PathValue("id")))
	}
	return resource.Fail(s.failure(err))
}

// postAccount makes a user. The password is the IPMI secret, too, where the
// account is to be used over IPMI.
func (s *Service) postAccount(q *resource.Request) *resource.Reply {
	u := auth.User{Enabled: true}
	var password, roleID string
	types := []string{"Redfish"} // the schema's default
	problems := q.Parameters("",
		resource.Required(resource.Text("UserName", &u.Name)),
		resource.Required(secret("Password", &password)),
		resource.Required(resource.Word("RoleId", roles(), &roleID)),
		resource.Flag("Enabled", &u.Enabled),
		resource.Flag("PasswordChangeRequired", &u.PasswordChangeRequired),
		resource.Parameter{Name: "Locked", Set: func(value any, _ string) *message.Message { return lockedProblem(value) }},
		resource.Parameter{Name: "AccountTypes", Set: func(value any, _ string) (problem *message.Message) {
			types, problem = s.typesOf(value, nil)
			return problem
		}})
	if problems != nil {
		return resource.Fail(problems...)
	}
	u.Role = auth.Role(roleID)
	problems = append(problems, s.checkPassword(password, slices.Contains(types, ipmiType))...)
	problems = append(problems, s.checkTypes(types, u.Role)...)
	if problems != nil {
		return resource.Fail(problems...)
	}
	if err := s.opt.Auth.Create(u, password, q.Attempt); err != nil {
		return resource.Fail(s.problem(err, "UserName", u.Name)...)
	}
	if slices.Contains(types, ipmiType) {
		if err := s.opt.Auth.SetIPMISecret(u.Name, password, q.Attempt); err != nil {
			// Half an account is none.
			return resource.Fail(s.failure(errors.Join(err, s.opt.Auth.Delete(u.Name, q.Attempt))))
		}
	}
	made, found := s.opt.Auth.User(u.Name)
	if !found { // somebody deleted it already
		return resource.Fail(message.ResourceNotFound("ManagerAccount", u.Name))
	}
	return resource.Created(s.newAccount(made), resource.AccountURI(made))
}

// secret is a Text that is never shown, not even its type in errors.
func secret(name string, to *string) resource.Parameter {
	return resource.Parameter{Name: name, Set: func(value any, _ string) *message.Message {
		text, isString := value.(string)
		if !isString {
			return new(message.PropertyValueError(name))
		}
		*to = text
		return nil
	}}
}

// lockedProblem: a client can unlock, and only failed logins lock.
func lockedProblem(value any) *message.Message {
	locked, isBool := value.(bool)
	switch {
	case !isBool:
		return new(message.PropertyValueTypeError(value, "Locked"))
	case locked:
		return new(message.PropertyValueNotInList(value, "Locked"))
	}
	return nil
}

// checkPassword says what is wrong with a password, without telling it. For an
// account that is to be used over IPMI it must do as an IPMI secret: 20 bytes of
// ASCII at most (IPMI 2.0 section 22.30).
func (s *Service) checkPassword(password string, ipmi bool) []message.Message {
	var problem message.Message
	switch {
	case len(password) < s.opt.MinPassword || len(password) > auth.MaxPassword:
		problem = message.PasswordIncorrectLength()
	case strings.ContainsFunc(password, unicode.IsControl):
		problem = message.PasswordComplexityNotMet()
	case ipmi && !fitsIPMI(password):
		problem = message.PropertyValueConflict("Password", "AccountTypes")
	default:
		return nil
	}
	return []message.Message{problem.About(message.Pointer("Password"))}
}

func fitsIPMI(password string) bool {
	return len(password) <= auth.MaxIPMISecret && !strings.ContainsFunc(password, func(c rune) bool { return c < ' ' || c > '~' })
}

// typesOf reads AccountTypes as PATCH writes an array (DSP0266, PATCH on array
// properties): null takes an element away, and {} leaves it as it is in shown.
func (s *Service) typesOf(value any, shown []string) ([]string, *message.Message) {
	list, isList := value.([]any)
	if !isList {
		return nil, new(message.PropertyValueTypeError(value, "AccountTypes"))
	}
	types := []string{}
	for i, each := range list {
		text, isString := each.(string)
		o, isObject := each.(resource.Object)
		switch {
		case each == nil:
			continue
		case isObject && len(o) == 0 && i < len(shown):
			text = shown[i]
		case !isString:
			return nil, new(message.PropertyValueTypeError(each, "AccountTypes"))
		case !slices.Contains(s.supportedTypes(), text):
			return nil, new(message.PropertyValueNotInList(text, "AccountTypes"))
		}
		types = append(types, text)
	}
	return types, nil
}

// checkTypes: the service adds types that go with every account, but does not
// leave out any that the client wants and the role does not give.
func (s *Service) checkTypes(types []string, role auth.Role) []message.Message {
	given := append(s.types(auth.User{Role: role}), ipmiType)
	for _, t := range types {
		if !slices.Contains(given, t) {
			return []message.Message{message.PropertyValueConflict("AccountTypes", "RoleId").About(message.Pointer("AccountTypes"))}
		}
	}
	return nil
}

// patchAccount changes a user. Who may not configure users, or has to change the
// password first, may change only that, and only the own one.
func (s *Service) patchAccount(q *resource.Request) *resource.Reply {
	u, problem := s.visible(q)
	if problem != nil {
		return problem
	}
	if refused := refusal(q, u); refused != nil {
		return resource.Fail(refused...)
	}
	// UserName comes last, since the others find the user by name, and what
	// else a new password brings about comes after it.
	inOrder(q.Body, "RoleId", "Enabled", "Password", "AccountTypes", "PasswordChangeRequired", "Locked", "UserName")
	c := &change{s: s, by: q.Attempt, name: u.Name, body: q.Body, shown: s.types(u)}
	return resource.Patch(q, s.getAccount,
		resource.Enum("RoleId", roles(), c.setRole),
		resource.Bool("Enabled", c.setEnabled),
		resource.Secret("Password", c.setPassword),
		resource.Property{Name: "AccountTypes", Set: c.setTypes},
		resource.Bool("PasswordChangeRequired", c.setChangeRequired),
		resource.Property{Name: "Locked", Set: c.setLocked},
		resource.String("UserName", func(to string) []message.Message {
			problems := c.rename(to)
			if renamed, found := s.opt.Auth.User(to); problems == nil && found {
				// The answer shows the account where it is now.
				q.SetPathValue("id", strings.TrimPrefix(resource.AccountURI(renamed), resource.AccountsURI+"/"))
			}
			return problems
		}))
}

// refusal says why a user may not make a change, nil: go on.
func refusal(q *resource.Request, u auth.User) (problems []message.Message) {
	if q.May(resource.ConfigureUsers) && !q.User.PasswordChangeRequired {
		return nil
	}
	if u.Name != q.User.Name {
		return []message.Message{message.InsufficientPrivilege()}
	}
	for _, m := range q.Body {
		switch {
		case m.Name == "Password" || resource.Ignored(m.Name):
		case q.User.PasswordChangeRequired:
			problems = append(problems, message.PasswordChangeRequired(resource.AccountURI(u)).About(message.Pointer(m.Name)))
		default:
			problems = append(problems, message.InsufficientPrivilege().About(message.Pointer(m.Name)))
		}
	}
	return problems
}

// change is a PATCH of one user.
type change struct {
	s     *Service
	by    auth.Attempt
	name  string
	body  resource.Object
	shown []string // AccountTypes before
}

func (c *change) setRole(role string) []message.Message {
	return c.s.problem(c.s.opt.Auth.SetRole(c.name, auth.Role(role), c.by), "RoleId", role)
}

func (c *change) setEnabled(enabled bool) []message.Message {
	return c.s.problem(c.s.opt.Auth.SetEnabled(c.name, enabled, c.by), "Enabled", enabled)
}

// wanted is AccountTypes as the body has it; false: not or not rightly.
func (c *change) wanted() ([]string, bool) {
	i := slices.IndexFunc(c.body, func(m resource.Member) bool { return m.Name == "AccountTypes" })
	if i < 0 {
		return nil, false
	}
	types, problem := c.s.typesOf(c.body[i].Value, c.shown)
	return types, problem == nil
}

// setPassword sets the password of all that the account is used for: the old
// one must do nowhere any more. It ends PasswordChangeRequired, whoever does it,
// as the schema says.
func (c *change) setPassword(password string) []message.Message {
	a := c.s.opt.Auth
	u, _ := a.User(c.name) // a user who is gone is SetPassword's to tell
	keep, must := u.IPMI, slices.Contains(c.shown, ipmiType)
	if types, sent := c.wanted(); sent {
		keep = slices.Contains(types, ipmiType)
		must = keep
	}
	if problems := c.s.checkPassword(password, must); problems != nil {
		return problems
	}
	err := a.SetPassword(c.name, password, c.by)
	switch {
	case errors.Is(err, auth.ErrInvalid): // it is the old one
		return []message.Message{message.PasswordComplexityNotMet()}
	case err != nil:
		return []message.Message{c.s.failure(err)}
	case keep && fitsIPMI(password):
		err = a.SetIPMISecret(c.name, password, c.by)
	case u.IPMI:
		err = a.SetIPMISecret(c.name, "", c.by)
	}
	if err == nil {
		err = a.SetPasswordChangeRequired(c.name, false, c.by)
	}
	if err != nil {
		return []message.Message{c.s.failure(err)}
	}
	return nil
}

// setTypes gives and takes away IPMI, the one type that is not everybody's. The
// IPMI secret can only be made of the password when that is sent.
func (c *change) setTypes(value any) (bool, []message.Message) {
	a := c.s.opt.Auth
	fail := func(p message.Message) (bool, []message.Message) {
		return false, []message.Message{p.About(message.Pointer("AccountTypes"))}
	}
	types, problem := c.s.typesOf(value, c.shown)
	if problem != nil {
		return fail(*problem)
	}
	u, found := a.User(c.name)
	if !found {
		return fail(message.ResourceNotFound("ManagerAccount", c.name))
	}
	if problems := c.s.checkTypes(types, u.Role); problems != nil {
		return false, problems
	}
	var err error
	switch want := slices.Contains(types, ipmiType); {
	case want && !u.IPMI:
		return fail(message.PropertyValueConflict("AccountTypes", "Password"))
	case want:
		x := u.IPMIAccess
		x.Limit, x.NoMessaging, x.Callback = auth.RoleLimit, false, false
		err = a.SetIPMIAccess(c.name, x, c.by)
	case u.IPMI:
		err = a.SetIPMISecret(c.name, "", c.by)
	}
	problems := c.s.problem(err, "AccountTypes", value)
	return problems == nil, problems
}

func (c *change) setChangeRequired(required bool) []message.Message {
	return c.s.problem(c.s.opt.Auth.SetPasswordChangeRequired(c.name, required, c.by), "PasswordChangeRequired", required)
}

func (c *change) setLocked(value any) (bool, []message.Message) {
	if problem := lockedProblem(value); problem != nil {
		return false, []message.Message{problem.About(message.Pointer("Locked"))}
	}
	c.s.opt.Auth.Unlock(c.name, c.by)
	return true, nil
}

func (c *change) rename(to string) []message.Message {
	return c.s.problem(c.s.opt.Auth.Rename(c.name, to, c.by), "UserName", to)
}
