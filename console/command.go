package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

// A row is one command of the table that running, help and completion use.
type row struct {
	name string // one word, or a group and a command in it
	// bare: the group's name alone runs this command.
	bare  bool
	args  string // for help: what follows the name, options excluded
	role  auth.Role
	does  string // one line
	more  string // further lines of "help NAME"
	flags []flag
	// absent: the wire is not there. The command is not shown, and answers
	// that it is not supported.
	absent bool
	// always: also for who has to change the password before all else.
	always bool
	// raw: Ctrl-C is not for the board but part of the command's input.
	raw bool
	// words are what the argument number n may be, for completion; nil: it
	// is up to the user.
	words func(n int) []string
	run   func(context.Context, *call) error
}

// A call is one command being run.
type call struct {
	*session
	row    *row
	user   auth.User // as it is now
	by     auth.Attempt
	origin host.Origin
	args   []string
	flags  map[string]string
	out    io.Writer
	err    io.Writer
}

// printf writes to the command's output. A write that fails means that the
// client is gone, which ends the session's context; so nobody looks at it.
func (c *call) printf(format string, args ...any) { fmt.Fprintf(c.out, format, args...) }

func (c *call) flag(name string) bool { _, ok := c.flags[name]; return ok }

// need refuses users of a lesser role than the command's part needs.
func (c *call) need(r auth.Role) error {
	if !c.user.Role.AtLeast(r) {
		return fmt.Errorf("%w: it needs %s", errDenied, r)
	}
	return nil
}

// counts refuses a wrong number of arguments.
func (c *call) counts(low, high int) error {
	if len(c.args) < low || len(c.args) > high {
		return fmt.Errorf("%w: %s", errUsage, c.row.usage())
	}
	return nil
}

func (r *row) usage() string {
	s := r.name
	for _, f := range r.flags {
		n := f.name
		if f.long != "" {
			n += "|" + f.long
		}
		if f.value != "" {
			n += " " + f.value
		}
		s += " [" + n + "]"
	}
	if r.args != "" {
		s += " " + r.args
	}
	return s
}

// table is every command. What it says of wires never changes.
func (s *Server) table() []row {
	return slices.Concat(s.powerRows(), s.consoleRows(), s.hostRows(), s.volumeRows(), s.targetRows(), s.userRows(),
		s.settingsRows(), []row{
			{name: "whoami", always: true, role: auth.ReadOnly, does: "show who you are logged in as", run: whoami},
			{name: "version", role: auth.ReadOnly, does: "show the board's software version", run: version},
			{name: "help", always: true, args: "[COMMAND]", role: auth.ReadOnly, does: "show the commands, or how to use one", run: help},
			{name: "exit", always: true, role: auth.ReadOnly, does: "leave (so does Ctrl-D)", run: exit},
		})
}

// find looks up the command that words begin with; the rest are its arguments.
func (s *Server) find(words []string) (*row, []string, error) {
	first := words[0]
	group := false
	var bare *row
	for i := range s.rows {
		r := &s.rows[i]
		g, sub, two := strings.Cut(r.name, " ")
		switch {
		case g != first:
		case !two:
			return r, words[1:], nil
		case len(words) > 1 && words[1] == sub:
			return r, words[2:], nil
		default:
			group = true
			if r.bare {
				bare = r
			}
		}
	}
	if bare != nil && (len(words) == 1 || strings.HasPrefix(words[1], "-")) {
		return bare, words[1:], nil
	}
	if group {
		return nil, nil, fmt.Errorf("%w: %s takes one of: %s", errUsage, first, strings.Join(s.subcommands(first), ", "))
	}
	return nil, nil, fmt.Errorf("%w: no command \"%s\"; try help", errUsage, clean(first))
}

func (s *Server) subcommands(group string) []string {
	var subs []string
	for _, r := range s.rows {
		if g, sub, two := strings.Cut(r.name, " "); two && g == group && !r.absent {
			subs = append(subs, sub)
		}
	}
	return subs
}

// execute runs one command line's words and returns its exit code; leave says
// that the session is to end.
func (s *session) execute(words []string) (code int, leave bool) {
	c := &call{session: s, out: s.out(s.ch), err: s.out(s.ch.Stderr())}
	if s.tty {
		c.out, c.err = s.term, s.term
	}
	err := c.dispatch(words)
	switch {
	case errors.Is(err, errExit):
		return done, true
	case errors.Is(err, errUsage):
		fmt.Fprintln(c.err, cleanText(err.Error()))
	case errors.Is(err, context.Canceled) && c.session.ctx.Err() != nil: // why is said where the session ends
	case err != nil && !errors.Is(err, errNotOn):
		msg := cleanText(err.Error())
		// Errors of the host and the settings begin so already.
		if rest, ok := strings.CutPrefix(msg, words[0]); !ok || !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, ": ") {
			msg = clean(words[0]) + ": " + msg
		}
		fmt.Fprintln(c.err, msg)
	}
	return exitCode(err), false
}

func (c *call) dispatch(words []string) error {
	// The user may have changed since the login.
	u, ok := c.s.opt.Auth.User(c.session.user)
	if !ok || !u.Enabled {
		return auth.ErrDenied
	}
	c.user = u
	c.by = c.attempt(u.Name)
	c.origin = host.Origin{Via: Via, User: u.Name, Source: c.source.String()}
	var err error
	if c.row, c.args, err = c.s.find(words); err != nil {
		return err
	}
	if slices.Contains(c.args, "--help") {
		c.args = strings.Fields(c.row.name)
		return help(c.session.ctx, c)
	}
	if u.PasswordChangeRequired && !c.row.always {
		return errChangeFirst
	}
	if err := c.need(c.row.role); err != nil {
		return err
	}
	if c.row.absent {
		return fmt.Errorf("no wire of this board does this: %w", errors.ErrUnsupported)
	}
	if c.flags, c.args, err = parse(c.args, c.row.flags); err != nil {
		return fmt.Errorf("%w\nusage: %s", err, c.row.usage())
	}
	ctx, cancel := context.WithCancelCause(c.session.ctx)
	defer cancel(nil)
	if c.tty && !c.row.raw {
		c.in.onInterrupt(func() { cancel(errInterrupted) })
		defer func() { c.in.onInterrupt(nil) }()
	}
	err = c.row.run(ctx, c)
	if errors.Is(err, context.Canceled) && context.Cause(ctx) == errInterrupted {
		return errInterrupted
	}
	return err
}

func whoami(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	c.printf("%s (%s) from %s\n", clean(c.user.Name), c.user.Role, c.source)
	return nil
}

func version(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	c.printf("nitrino %s\n", clean(c.s.opt.Version))
	return nil
}

func exit(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	return errExit
}

const helpTail = `
Options may stand anywhere; "--" ends them. Words with spaces go between quotes.
"help COMMAND" and "COMMAND --help" tell more.

Every command can be given to ssh, too: ssh USER@BOARD power on
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not supported by this board's
wiring, 4 busy with another request, 5 not permitted, 6 no response in time.
Without a command and without a terminal (ssh USER@BOARD < script), commands
are read one a line; a failure does not stop the others, a line that begins
with # is a comment, and the exit code is the last command's.
`

func help(_ context.Context, c *call) error {
	if len(c.args) > 0 {
		return c.helpOn(c.args)
	}
	width := 0
	var rows []row
	for _, r := range c.s.rows {
		if !r.absent && c.user.Role.AtLeast(r.role) {
			rows = append(rows, r)
			width = max(width, len(r.name+" "+r.args))
		}
	}
	width = min(width, 40)
	for _, r := range rows {
		c.printf("%-*s  %s\n", width, strings.TrimSpace(r.name+" "+r.args), r.does)
	}
	c.printf("%s", helpTail)
	return nil
}

// helpOn tells of one command, or of each in a group.
func (c *call) helpOn(words []string) error {
	name := strings.Join(words, " ")
	known := false
	for _, r := range c.s.rows {
		if r.absent || r.name != name && !strings.HasPrefix(r.name, name+" ") {
			continue
		}
		if known {
			c.printf("\n")
		}
		known = true
		c.printf("%s\n    %s (%s)\n", r.usage(), r.does, r.role)
		for _, f := range r.flags {
			c.printf("    %-16s %s\n", strings.TrimSpace(f.name+" "+f.value), f.does)
		}
		if r.more != "" {
			c.printf("    %s\n", strings.ReplaceAll(r.more, "\n", "\n    "))
		}
	}
	if !known {
		return fmt.Errorf("%w: no command \"%s\"; try help", errUsage, clean(name))
	}
	return nil
}
