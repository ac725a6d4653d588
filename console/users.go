package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/auth"
)

func (s *Server) userRows() []row {
	names := func(n int) []string { return only(n, 0, s.userNames()...) }
	roles := []string{string(auth.Administrator), string(auth.Operator), string(auth.ReadOnly)}
	nameRole := func(n int) []string { return append(names(n), only(n, 1, roles...)...) }
	const hidden = "The password is read without echo, or from the standard input's first line."
	return []row{{
		name: "users list", bare: true, role: auth.Administrator, run: usersList,
		does: "list the users",
	}, {
		name: "users add", args: "NAME ROLE", role: auth.Administrator, run: usersAdd,
		does:  "make a user; ROLE is Administrator, Operator or ReadOnly",
		flags: []flag{{name: "--no-password", does: "one who logs in by key only"}},
		more:  hidden, words: func(n int) []string { return only(n, 1, roles...) },
	}, {
		name: "users delete", args: "NAME", role: auth.Administrator, words: names,
		does: "delete a user",
		run:  usersChange(1, func(c *call) error { return c.s.opt.Auth.Delete(c.args[0], c.by) }),
	}, {
		name: "users rename", args: "NAME NEW", role: auth.Administrator, words: names,
		does: "give a user another name; all else of the user stays",
		run:  usersChange(2, func(c *call) error { return c.s.opt.Auth.Rename(c.args[0], c.args[1], c.by) }),
	}, {
		name: "users role", args: "NAME ROLE", role: auth.Administrator, words: nameRole,
		does: "change a user's role",
		run: usersChange(2, func(c *call) error {
			r, err := role(c.args[1])
			if err != nil {
				return err
			}
			return c.s.opt.Auth.SetRole(c.args[0], r, c.by)
		}),
	}, {
		name: "users enable", args: "NAME", role: auth.Administrator, words: names,
		does: "let a user log in",
		run:  usersChange(1, func(c *call) error { return c.s.opt.Auth.SetEnabled(c.args[0], true, c.by) }),
	}, {
		name: "users disable", args: "NAME", role: auth.Administrator, words: names,
		does: "keep a user out, and close what the user has open",
		run:  usersChange(1, func(c *call) error { return c.s.opt.Auth.SetEnabled(c.args[0], false, c.by) }),
	}, {
		name: "users passwd", args: "[NAME]", role: auth.ReadOnly, run: passwd, words: names,
		does: "change a password; another's needs Administrator", more: hidden,
	}, {
		name: "users ipmi-secret", args: "NAME", role: auth.Administrator, run: usersIPMISecret, words: names,
		does: "give a user a new random IPMI secret and show it once",
		flags: []flag{
			{name: "--type", does: "read it without echo, or from the standard input, instead"},
			{name: "--remove", does: "take it away: the user cannot use IPMI any more"},
		},
	}, {
		name: "users ipmi-access", args: "NAME on|off", role: auth.Administrator,
		does:  "let a user with an IPMI secret use IPMI as the role may, or not at all",
		words: func(n int) []string { return append(names(n), only(n, 1, "on", "off")...) },
		run: usersChange(2, func(c *call) error {
			access := auth.IPMIAccess{}
			switch c.args[1] {
			case "on":
			case "off":
				access.Limit = auth.NoIPMI
			default:
				return fmt.Errorf("%w: %s", errUsage, c.row.usage())
			}
			return c.s.opt.Auth.SetIPMIAccess(c.args[0], access, c.by)
		}),
	}, {
		name: "users keys", args: "NAME [list|add KEY|delete NUMBER]", role: auth.Administrator, run: usersKeys,
		does: "list or change a user's SSH keys",
		more: "KEY is a line of authorized_keys without options; a script may give it on the\nstandard input.",
		words: func(n int) []string {
			return append(names(n), only(n, 1, "list", "add", "delete")...)
		},
	}, {
		name: "passwd", always: true, role: auth.ReadOnly, run: passwd, does: "change your own password", more: hidden,
	}}
}

func (s *Server) userNames() []string {
	var names []string
	for _, u := range s.opt.Auth.Users() {
		names = append(names, u.Name)
	}
	return names
}

// role reads a role's name; case does not matter.
func role(s string) (auth.Role, error) {
	for _, r := range []auth.Role{auth.Administrator, auth.Operator, auth.ReadOnly} {
		if strings.EqualFold(s, string(r)) {
			return r, nil
		}
	}
	return "", fmt.Errorf("%w: the roles are Administrator, Operator and ReadOnly", errUsage)
}

// usersChange is a command of n arguments that does one thing.
func usersChange(n int, do func(*call) error) func(context.Context, *call) error {
	return func(_ context.Context, c *call) error {
		if err := c.counts(n, n); err != nil {
			return err
		}
		return do(c)
	}
}

func usersList(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tROLE\tENABLED\tIPMI\tKEYS")
	for _, u := range c.s.opt.Auth.Users() {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\n", u.Number, clean(u.Name), clean(string(u.Role)), yes(u.Enabled), yes(u.IPMI && u.IPMIAccess.LogsIn()), len(u.Keys))
	}
	return w.Flush()
}

func usersAdd(ctx context.Context, c *call) error {
	if err := c.counts(2, 2); err != nil {
		return err
	}
	r, err := role(c.args[1])
	if err != nil {
		return err
	}
	if _, ok := c.s.opt.Auth.User(c.args[0]); ok {
		return auth.ErrExists // before a password is typed for nothing
	}
	password := ""
	if !c.flag("--no-password") {
		if password, err = c.secret(ctx, "password"); err != nil {
			return err
		}
		if password == "" {
			return fmt.Errorf("%w: an empty password; --no-password makes a user without one", auth.ErrInvalid)
		}
	}
	return c.s.opt.Auth.Create(auth.User{Name: c.args[0], Role: r, Enabled: true}, password, c.by)
}

func passwd(ctx context.Context, c *call) error {
	high := 1
	if c.row.args == "" {
		high = 0
	}
	if err := c.counts(0, high); err != nil {
		return err
	}
	name := c.user.Name
	if len(c.args) == 1 && c.args[0] != name {
		if err := c.need(auth.Administrator); err != nil {
			return err
		}
		name = c.args[0]
		if _, ok := c.s.opt.Auth.User(name); !ok {
			return auth.ErrNotFound
		}
	}
	password, err := c.secret(ctx, "new password")
	if err != nil {
		return err
	}
	return c.s.opt.Auth.SetPassword(name, password, c.by)
}

// ipmiSecretLen is the longest secret that IPMI 2.0 takes (section 22.30); its
// 20 characters of base 32 are 100 bits.
const ipmiSecretLen = 20

func usersIPMISecret(ctx context.Context, c *call) error {
	if err := c.counts(1, 1); err != nil {
		return err
	}
	name := c.args[0]
	switch {
	case c.flag("--type") && c.flag("--remove"):
		return fmt.Errorf("%w: --type and --remove exclude each other", errUsage)
	case c.flag("--remove"):
		return c.s.opt.Auth.SetIPMISecret(name, "", c.by)
	case c.flag("--type"):
		secret, err := c.secret(ctx, "IPMI secret")
		if err != nil {
			return err
		}
		if secret == "" {
			return fmt.Errorf("%w: an empty secret; --remove takes it away", auth.ErrInvalid)
		}
		return c.s.opt.Auth.SetIPMISecret(name, secret, c.by)
	}
	secret := rand.Text()[:ipmiSecretLen]
	if err := c.s.opt.Auth.SetIPMISecret(name, secret, c.by); err != nil {
		return err
	}
	c.printf("%s\n", secret)
	return nil
}

func usersKeys(ctx context.Context, c *call) error {
	if len(c.args) == 0 {
		return c.counts(1, 3)
	}
	name, verb, rest := c.args[0], "list", []string(nil)
	if len(c.args) > 1 {
		verb, rest = c.args[1], c.args[2:]
	}
	u, ok := c.s.opt.Auth.User(name)
	if !ok {
		return auth.ErrNotFound
	}
	switch {
	case verb == "list" && len(rest) == 0:
		for i, line := range u.Keys {
			c.printf("%d  %s\n", i+1, describeKey(line))
		}
		return nil
	case verb == "delete" && len(rest) == 1:
		n, err := number(rest[0], 1, len(u.Keys))
		if err != nil {
			return err
		}
		return c.s.opt.Auth.SetKeys(name, slices.Delete(slices.Clone(u.Keys), n-1, n), c.by)
	case verb == "add":
		line := strings.Join(rest, " ")
		if line == "" && !c.tty {
			var err error
			if line, err = c.in.line(ctx); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		key, err := readKey(line)
		if err != nil {
			return err
		}
		for _, old := range u.Keys {
			if k, err := readKey(old); err == nil && bytes.Equal(k.Marshal(), key.Marshal()) {
				return errors.New("the user has this key already")
			}
		}
		return c.s.opt.Auth.SetKeys(name, append(slices.Clone(u.Keys), line), c.by)
	}
	return fmt.Errorf("%w: %s", errUsage, c.row.usage())
}

// readKey reads a line of authorized_keys. Which keys are good enough is up to
// SetKeys.
func readKey(line string) (gossh.PublicKey, error) {
	key, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, fmt.Errorf("%w: KEY is a line as in authorized_keys: %w", errUsage, err)
	}
	return key, nil
}

func describeKey(line string) string {
	key, comment, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return "unreadable: " + clean(line)
	}
	return strings.TrimSpace(key.Type() + " " + gossh.FingerprintSHA256(key) + " " + clean(comment))
}
