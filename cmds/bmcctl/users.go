package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/stmcginnis/gofish/common"
)

func userCommands() []command {
	values := map[string][]string{"ROLE": roles()}
	return []command{
		{name: "users list", help: "show the users", setup: plain(listUsers)},
		{name: "users add", args: "NAME ROLE", help: "make a user: Administrator, Operator or ReadOnly", values: values, setup: addUser},
		{name: "users rm", args: "NAME", help: "delete a user", setup: plain(removeUser)},
		{name: "users passwd", args: "[NAME]", help: "change a password, one's own without NAME", setup: passwd},
		{name: "users role", args: "NAME ROLE", help: "give a user another role", values: values, setup: plain(setRole)},
		{name: "users enable", args: "NAME", help: "let a user log in", setup: enable(true)},
		{name: "users disable", args: "NAME", help: "keep a user from logging in", setup: enable(false)},
		{name: "users unlock", args: "NAME", help: "let a user try again who is locked out", setup: plain(unlock)},
		{name: "users keys list", args: "NAME", help: "show the SSH keys that a user logs in with", setup: plain(listKeys)},
		{name: "users keys add", args: "NAME FILE", help: "give a user the SSH public keys of a file; - is the standard input", setup: plain(addKeys)},
		{name: "users keys rm", args: "NAME ID", help: "take a key from a user: its Id or its fingerprint", setup: plain(removeKey)},
	}
}

// roles are those that every service has (DSP0266, Roles).
func roles() []string { return []string{"Administrator", "Operator", "ReadOnly"} }

// role writes one as the services do, however it was typed; they may have others.
func role(text string) string {
	for _, r := range roles() {
		if strings.EqualFold(r, text) {
			return r
		}
	}
	return text
}

// A userRow is an account.
type userRow struct {
	Name    string   `json:"name"`
	Role    string   `json:"role"`
	Enabled bool     `json:"enabled"`
	Locked  bool     `json:"locked"`
	Change  bool     `json:"password_change_required"`
	Types   []string `json:"types,omitempty"`
	uri     string
	keys    string // URI
}

type accountService struct{ Accounts link }

// accounts reads the users; only the services with a fixed number of places have
// empty ones, which are left out.
func (c *client) accounts() (uri string, all []userRow, err error) {
	r, err := c.root()
	if err != nil {
		return "", nil, err
	}
	var s accountService
	if _, err := c.read(r.AccountService.URI, &s); err != nil {
		return "", nil, fmt.Errorf("users: %w", err)
	}
	some, err := visibleMembers[struct {
		URI                    string `json:"@odata.id"`
		UserName               string
		Role                   string `json:"RoleId"`
		Enabled                *bool
		Locked                 bool
		PasswordChangeRequired bool
		AccountTypes           []string
		Keys                   link
	}](c, s.Accounts.URI)
	if err != nil {
		return "", nil, fmt.Errorf("users: %w", err)
	}
	all = []userRow{}
	for _, a := range some {
		if a.UserName != "" {
			all = append(all, userRow{a.UserName, a.Role, a.Enabled == nil || *a.Enabled, a.Locked, a.PasswordChangeRequired, a.AccountTypes, a.URI, a.Keys.URI})
		}
	}
	return s.Accounts.URI, all, nil
}

func (c *client) account(name string) (userRow, error) {
	_, all, err := c.accounts()
	if err != nil {
		return userRow{}, err
	}
	for _, a := range all {
		if a.Name == name {
			return a, nil
		}
	}
	return userRow{}, fmt.Errorf("there is no user %q", name)
}

func listUsers(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	_, all, err := c.accounts()
	if err != nil {
		return err
	}
	return p.show(all, func(w io.Writer) {
		row(w, "NAME", "ROLE", "ENABLED", "LOCKED", "MAY USE")
		for _, a := range all {
			row(w, a.Name, a.Role, yesNo(a.Enabled), yesNo(a.Locked), strings.Join(a.Types, ","))
		}
	})
}

// newPassword takes a user's from a file, the environment, or asks twice.
func (p *program) newPassword(file, name string) (string, error) {
	return p.newSecret(newSecret{"new password of " + name, file, "-new-password-file", "BMCCTL_NEW_PASSWORD"})
}

// A newSecret is one that is to be set, and where it may come from: the first line of
// a file, which a flag names, or a variable of the environment.
type newSecret struct{ what, file, flag, variable string }

// newSecret takes it from there, or asks twice.
func (p *program) newSecret(s newSecret) (string, error) {
	if s.file != "" {
		data, err := os.ReadFile(s.file)
		if err != nil {
			return "", fmt.Errorf("reading the %s: %w", s.what, err)
		}
		line, _, _ := strings.Cut(string(data), "\n")
		return strings.TrimSuffix(line, "\r"), nil
	}
	if text := p.getenv(s.variable); text != "" {
		return text, nil
	}
	first, err := p.secret(upper(s.what) + ": ")
	if errors.Is(err, errNoTerminal) {
		return "", usagef("no %s: want %s FILE, the variable %s, or a terminal to ask at", s.what, s.flag, s.variable)
	}
	if err != nil {
		return "", err
	}
	second, err := p.secret("Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two are not the same: nothing was changed")
	}
	return first, nil
}

func addUser(f *flag.FlagSet) call {
	file := f.String("new-password-file", "", "`file` whose first line is the new user's password")
	types := f.String("types", "", "what the user may use, parted by commas, as in Redfish,IPMI (default: the service's)")
	change := f.Bool("change", false, "the user has to change the password at the first login")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		uri, _, err := c.accounts()
		if err != nil {
			return err
		}
		body := struct {
			UserName, Password string
			Role               string `json:"RoleId"`
			Enabled            bool
			Types              []string `json:"AccountTypes,omitempty"`
			Change             bool     `json:"PasswordChangeRequired,omitempty"`
		}{UserName: args[0], Role: role(args[1]), Enabled: true, Change: *change}
		if *types != "" {
			body.Types = strings.Split(*types, ",")
		}
		if body.Password, err = p.newPassword(*file, args[0]); err != nil {
			return err
		}
		if _, err := c.call(http.MethodPost, uri, body, nil); err != nil {
			return err
		}
		return p.done("User %s was made: %s", args[0], body.Role)
	}
}

func removeUser(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	a, err := c.account(args[0])
	if err != nil {
		return err
	}
	if _, err := c.call(http.MethodDelete, a.uri, nil, nil); err != nil {
		return err
	}
	return p.done("User %s is deleted", a.Name)
}

func passwd(f *flag.FlagSet) call {
	file := f.String("new-password-file", "", "`file` whose first line is the new password")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		name, uri := "", ""
		if len(args) == 1 && args[0] != cmp.Or(c.user, c.profile.User) {
			a, err := c.account(args[0])
			if err != nil {
				return err
			}
			name, uri = a.Name, a.uri
		} else if name, uri, err = c.self(); err != nil {
			return err
		}
		text, err := p.newPassword(*file, name)
		if err != nil {
			return err
		}
		if err := c.patch(uri, struct{ Password string }{text}); err != nil {
			return err
		}
		return p.done("The password of %s is changed", name)
	}
}

// self finds one's own account. Who has to change the password first may see nothing
// else, and is told where it is with every refusal (DSP0266, Password change required
// handling).
func (c *client) self() (name, uri string, err error) {
	name, uri, err = c.findSelf()
	if own := passwordChange(err); own != "" {
		return cmp.Or(c.user, c.profile.User), own, nil
	}
	return name, uri, err
}

// passwordChange is the URI of the account whose password has to be changed before
// anything else; "": the error says no such thing.
func passwordChange(err error) (uri string) {
	e, is := errors.AsType[*common.Error](err)
	if !is || e.HTTPReturnedStatusCode != http.StatusForbidden {
		return ""
	}
	for _, m := range e.ExtendedInfos {
		if strings.HasSuffix(m.MessageID, ".PasswordChangeRequired") && len(m.MessageArgs) == 1 {
			return m.MessageArgs[0]
		}
	}
	return ""
}

func (c *client) findSelf() (name, uri string, err error) {
	s, err := c.api.GetSession()
	if err != nil {
		return "", "", fmt.Errorf("whose account: %w", err)
	}
	var session struct{ UserName string }
	if _, err := c.read(s.ID, &session); err != nil {
		return "", "", fmt.Errorf("whose account: %w", err)
	}
	r, err := c.root()
	if err != nil {
		return "", "", err
	}
	var service accountService
	if _, err := c.read(r.AccountService.URI, &service); err != nil {
		return "", "", err
	}
	var all struct{ Members []link }
	if _, err := c.read(service.Accounts.URI, &all); err != nil {
		return "", "", err
	}
	for _, m := range all.Members {
		var a struct{ UserName string }
		// Others' accounts may be out of bounds.
		if _, err := c.read(m.URI, &a); err == nil && a.UserName == session.UserName {
			return a.UserName, m.URI, nil
		} else if err != nil && status(err) != http.StatusForbidden {
			return "", "", err
		}
	}
	return "", "", fmt.Errorf("the account of %s is not to be found", session.UserName)
}

func setRole(ctx context.Context, p *program, args []string) error {
	return p.patchUser(ctx, args[0], struct {
		Role string `json:"RoleId"`
	}{role(args[1])}, "%s has the role "+strings.ReplaceAll(role(args[1]), "%", "%%"))
}

func enable(on bool) func(*flag.FlagSet) call {
	return plain(func(ctx context.Context, p *program, args []string) error {
		text := "%s is disabled"
		if on {
			text = "%s is enabled"
		}
		return p.patchUser(ctx, args[0], struct{ Enabled bool }{on}, text)
	})
}

func unlock(ctx context.Context, p *program, args []string) error {
	return p.patchUser(ctx, args[0], struct{ Locked bool }{false}, "%s is not locked out")
}

// patchUser changes an account, and says so; text has the name in it.
func (p *program) patchUser(ctx context.Context, name string, body any, text string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	a, err := c.account(name)
	if err != nil {
		return err
	}
	if err := c.patch(a.uri, body); err != nil {
		return err
	}
	return p.done(text, a.Name)
}
