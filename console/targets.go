package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
)

// The words that take something away from a target.
const (
	anyInitiator = "any"
	none         = "none"
)

// maxLUN is the greatest number of a logical unit.
const maxLUN = 255

func (s *Server) targetRows() []row {
	if s.opt.Disks == nil {
		return nil
	}
	names := func(n int) []string { return only(n, 0, s.targetNames()...) }
	cd := flag{name: "--cd", does: "as a CD-ROM drive with the disc in it"}
	change := []flag{
		{name: "--alias", value: "TEXT", does: "what initiators show to people"},
		{name: "--initiators", value: "LIST", does: "who may log in, by iSCSI names parted by commas; any: all"},
		{name: "--chap", value: "USER", does: "who logs in has to prove to know the secret of USER; none: need not"},
		{name: "--mutual", value: "USER", does: "the target proves, too, that it knows one; none: it does not"},
	}
	const which = "TARGET is an iSCSI name, or the part of it behind the colon."
	const secrets = "The secrets, of 12 to 255 bytes, are read without echo, or from the standard\ninput: a line for --chap, then one for --mutual."
	return []row{{
		name: "target list", bare: true, role: auth.ReadOnly, run: targetList,
		does: "list the iSCSI targets by which hosts get at volumes",
	}, {
		name: "target show", args: "TARGET", role: auth.ReadOnly, words: names, run: targetShow,
		does: "show all of a target, and who is logged in", more: which,
	}, {
		name: "target add", args: "VOLUME", role: auth.Operator, run: targetAdd,
		does:  "make a target that shows a volume as its LUN 0",
		words: func(n int) []string { return only(n, 0, s.volumeNames()...) },
		flags: append([]flag{{name: "--name", value: "NAME", does: "its iSCSI name, iqn.… ; without, one made of the volume's"}, cd}, change...),
		more:  secrets,
	}, {
		name: "target set", args: "TARGET", role: auth.Operator, words: names, run: targetSet,
		does: "change a target's alias, and who may log in", flags: change, more: which + "\n" + secrets,
	}, {
		name: "target lun", args: "TARGET NUMBER VOLUME|none", role: auth.Operator, run: targetLUN,
		does: "show a volume as one of a target's logical units, or none",
		words: func(n int) []string {
			return append(names(n), only(n, 2, append(s.volumeNames(), none)...)...)
		},
		flags: []flag{cd}, more: which,
	}, {
		name: "target remove", args: "TARGET", role: auth.Operator, words: names,
		does: "take a target away, also from who is logged in", more: which + " The volumes stay.",
		run: disksChange(1, func(ctx context.Context, c *call) error {
			t, err := c.target(c.args[0])
			if err != nil {
				return err
			}
			return c.s.opt.Disks.DeleteTarget(ctx, t.Name, c.origin)
		}),
	}, {
		name: "target sessions", role: auth.ReadOnly, run: targetSessions,
		does: "list the initiators that are logged in",
	}}
}

func (s *Server) targetNames() []string {
	var names []string
	for _, t := range s.opt.Disks.Targets() {
		names = append(names, t.Name)
	}
	return names
}

var errNoTarget = errors.New("there is no such target")

// target finds one by its name, or the part of it behind the colon.
func (c *call) target(name string) (block.Target, error) {
	var found []block.Target
	for _, t := range c.s.opt.Disks.Targets() {
		if t.Name == name {
			return t, nil
		}
		if _, short, ok := strings.Cut(t.Name, ":"); ok && short == name {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return block.Target{}, fmt.Errorf("%w: %s", errNoTarget, clean(name))
	case 1:
		return found[0], nil
	}
	return block.Target{}, fmt.Errorf("%w: several targets are called \"%s\"; give the whole name", errUsage, clean(name))
}

// lunText is how a logical unit is shown.
func lunText(l block.LUN) string {
	text := fmt.Sprintf("%d=%s", l.Number, l.Volume)
	if l.CD {
		text += " (cd)"
	}
	return text
}

func lunTexts(t block.Target) string {
	var all []string
	for _, l := range t.LUNs {
		all = append(all, lunText(l))
	}
	return strings.Join(all, ", ")
}

// otherwise is a text, or another where there is none.
func otherwise(text, or string) string {
	if text == "" {
		return or
	}
	return clean(text)
}

// proof is what has to be proven at the login.
func proof(t block.Target) string {
	switch {
	case t.CHAP.User == "":
		return none
	case t.Mutual.User == "":
		return "one-way"
	}
	return "mutual"
}

func targetList(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	sessions := c.s.opt.Disks.Sessions()
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tLUNS\tINITIATORS\tCHAP\tSESSIONS")
	for _, t := range c.s.opt.Disks.Targets() {
		n := 0
		for _, s := range sessions {
			if s.Target == t.Name {
				n++
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", clean(t.Name), otherwise(lunTexts(t), "-"), otherwise(strings.Join(t.Initiators, ","), anyInitiator), proof(t), n)
	}
	return w.Flush()
}

func targetShow(_ context.Context, c *call) error {
	if err := c.counts(1, 1); err != nil {
		return err
	}
	t, err := c.target(c.args[0])
	if err != nil {
		return err
	}
	all := [][2]string{{"name", t.Name}, {"alias", t.Alias}}
	for _, l := range t.LUNs {
		all = append(all, [2]string{"lun", lunText(l)})
	}
	if len(t.Initiators) == 0 {
		all = append(all, [2]string{"initiators", anyInitiator})
	}
	for _, name := range t.Initiators {
		all = append(all, [2]string{"initiator", name})
	}
	all = append(all, [2]string{"chap", otherwise(t.CHAP.User, none)}, [2]string{"mutual", otherwise(t.Mutual.User, none)})
	for _, s := range c.s.opt.Disks.Sessions() {
		if s.Target == t.Name {
			all = append(all, [2]string{"session", fmt.Sprintf("%s from %s since %s", s.Initiator, s.Address, stamp(s.Since))})
		}
	}
	c.fields(all)
	return nil
}

// credentials are those that the options set and add name: nil is not named, without a
// user is none. Where there is a user there is a secret to be asked for; it never comes
// from arguments. People take their time, so this comes before the target is looked at.
func (c *call) credentials(ctx context.Context) (chap, mutual *block.Credentials, err error) {
	for _, x := range []struct {
		flag, what string
		of         **block.Credentials
	}{{"--chap", "CHAP secret of ", &chap}, {"--mutual", "target's CHAP secret of ", &mutual}} {
		user, given := c.flags[x.flag]
		switch {
		case !given:
			continue
		case user == none:
			*x.of = new(block.Credentials)
			continue
		case user == "":
			return nil, nil, fmt.Errorf("%w: %s needs a USER, or none", errUsage, x.flag)
		}
		secret, err := c.secret(ctx, x.what+clean(user))
		if err != nil {
			return nil, nil, err
		}
		if secret == "" {
			return nil, nil, fmt.Errorf("%w: an empty secret; %s none asks for no proof", errUsage, x.flag)
		}
		*x.of = &block.Credentials{User: user, Secret: secret}
	}
	return chap, mutual, nil
}

// changeTarget takes the options of set and add.
func (c *call) changeTarget(t *block.Target, chap, mutual *block.Credentials) error {
	if text, given := c.flags["--alias"]; given {
		t.Alias = text
	}
	switch text, given := c.flags["--initiators"]; {
	case given && text == anyInitiator:
		t.Initiators = []string{}
	case given:
		t.Initiators = strings.Split(text, ",")
	}
	if chap != nil {
		t.CHAP = *chap
	}
	if mutual != nil {
		t.Mutual = *mutual
	}
	if t.CHAP.User == "" && t.Mutual.User != "" {
		if c.flags["--chap"] != none {
			return fmt.Errorf("%w: --mutual goes with --chap", errUsage)
		}
		t.Mutual = block.Credentials{} // to whom nothing is proven it proves nothing
	}
	return nil
}

func targetAdd(ctx context.Context, c *call) error {
	if err := c.counts(1, 1); err != nil {
		return err
	}
	if _, err := c.s.opt.Disks.Get(c.args[0]); err != nil {
		return err
	}
	chap, mutual, err := c.credentials(ctx)
	if err != nil {
		return err
	}
	t := block.Target{Name: c.flags["--name"], LUNs: []block.LUN{{Volume: c.args[0], CD: c.flag("--cd")}}, Initiators: []string{}}
	if t.Name == "" {
		t.Name = c.s.opt.Disks.TargetName(c.args[0])
	}
	if slices.Contains(c.s.targetNames(), t.Name) {
		return fmt.Errorf("there is a target %s already; target set and target lun change it", clean(t.Name))
	}
	if err := c.changeTarget(&t, chap, mutual); err != nil {
		return err
	}
	if err := c.s.opt.Disks.PutTarget(ctx, t, c.origin); err != nil {
		return err
	}
	c.printf("%s\n", clean(t.Name))
	return nil
}

func targetSet(ctx context.Context, c *call) error {
	if err := c.counts(1, 1); err != nil {
		return err
	}
	if len(c.flags) == 0 {
		return fmt.Errorf("%w: %s", errUsage, c.row.usage())
	}
	if _, err := c.target(c.args[0]); err != nil {
		return err
	}
	chap, mutual, err := c.credentials(ctx)
	if err != nil {
		return err
	}
	t, err := c.target(c.args[0]) // as it is now
	if err != nil {
		return err
	}
	if err := c.changeTarget(&t, chap, mutual); err != nil {
		return err
	}
	return c.s.opt.Disks.PutTarget(ctx, t, c.origin)
}

func targetLUN(ctx context.Context, c *call) error {
	if err := c.counts(3, 3); err != nil {
		return err
	}
	n, err := number(c.args[1], 0, maxLUN)
	if err != nil {
		return err
	}
	t, err := c.target(c.args[0])
	if err != nil {
		return err
	}
	was := len(t.LUNs)
	t.LUNs = slices.DeleteFunc(slices.Clone(t.LUNs), func(l block.LUN) bool { return int(l.Number) == n })
	if name := c.args[2]; name != none {
		if _, err := c.s.opt.Disks.Get(name); err != nil {
			return err
		}
		t.LUNs = append(t.LUNs, block.LUN{Number: uint16(n), Volume: name, CD: c.flag("--cd")})
		slices.SortFunc(t.LUNs, func(a, b block.LUN) int { return int(a.Number) - int(b.Number) })
	} else if len(t.LUNs) == was {
		return fmt.Errorf("the target has no LUN %d", n)
	}
	return c.s.opt.Disks.PutTarget(ctx, t, c.origin)
}

func targetSessions(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TARGET\tINITIATOR\tADDRESS\tUSER\tSINCE\tVOLUMES")
	for _, s := range c.s.opt.Disks.Sessions() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", clean(s.Target), clean(s.Initiator), clean(s.Address), otherwise(s.User, "-"), stamp(s.Since), otherwise(strings.Join(s.Volumes, ","), "-"))
	}
	return w.Flush()
}
