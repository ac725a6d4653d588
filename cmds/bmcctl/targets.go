package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func targetCommands() []command {
	return []command{
		{name: "target list", help: "show the iSCSI targets by which hosts get at volumes", setup: plain(listTargets)},
		{name: "target show", args: "TARGET", help: "show all that is known of a target", setup: plain(showTarget)},
		{name: "target add", args: "VOLUME", help: "make a target that shows a volume as its LUN 0", setup: addTarget},
		{name: "target set", args: "TARGET", help: "change who may log in to a target, and its alias", setup: setTarget},
		{name: "target lun", args: "TARGET NUMBER VOLUME|none", help: "show a volume as one of a target's logical units, or none", setup: setLUN},
		{name: "target remove", args: "TARGET", help: "take a target away, also from who is logged in; the volumes stay", setup: plain(removeTarget)},
		{name: "target sessions", help: "show the initiators that are logged in", setup: plain(listTargetSessions)},
	}
}

// The words that take something away from a target.
const (
	anyInitiator = "any"
	none         = "none"
)

// A fabric is where initiators meet targets.
type fabric struct {
	FabricType             string
	Connections, Endpoints link
}

// A connection is a target with what it shows, and to whom.
type connection struct {
	URI        string `json:"@odata.id"`
	ID         string `json:"Id"`
	Name       string
	VolumeInfo []struct {
		Volume link
		LUN    int
	}
	ConnectionKeys struct {
		CHAP struct{ CHAPUsername string }
	}
	Links struct{ InitiatorEndpoints []link }
	Oem   struct {
		Nitrino struct {
			Alias, TargetCHAPUsername, Failed string
			CDLUNs                            []int
			Volumes                           []string
			Sessions                          []targetSession
		}
	}
}

type targetSession struct {
	Initiator, ISID, Address, Since string
	User                            string `json:"CHAPUsername"`
}

// fabric finds the one of iSCSI.
func (p *program) fabric(ctx context.Context) (*client, fabric, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, fabric{}, err
	}
	r, err := c.root()
	if err != nil {
		return nil, fabric{}, err
	}
	all, err := members[fabric](c, r.Fabrics.URI)
	if err != nil {
		return nil, fabric{}, fmt.Errorf("targets: %w", err)
	}
	i := slices.IndexFunc(all, func(f fabric) bool { return f.FabricType == "iSCSI" && f.Connections.URI != "" })
	if i < 0 {
		return nil, fabric{}, fmt.Errorf("targets: %w", errUnsupported)
	}
	return c, all[i], nil
}

// target finds one by its name, or the part of it behind the colon.
func (p *program) target(ctx context.Context, name string) (*client, fabric, connection, error) {
	c, f, err := p.fabric(ctx)
	if err != nil {
		return nil, f, connection{}, err
	}
	all, err := members[connection](c, f.Connections.URI)
	if err != nil {
		return nil, f, connection{}, fmt.Errorf("targets: %w", err)
	}
	var found []connection
	for _, t := range all {
		if t.Name == name || t.ID == name {
			return c, f, t, nil
		}
		if _, short, ok := strings.Cut(t.Name, ":"); ok && short == name {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return nil, f, connection{}, fmt.Errorf("there is no target %q", name)
	case 1:
		return c, f, found[0], nil
	}
	return nil, f, connection{}, usagef("several targets are called %q: give the whole name", name)
}

// A targetRow is one of target list, and what target show prints.
type targetRow struct {
	Name       string         `json:"name"`
	Alias      string         `json:"alias,omitempty"`
	LUNs       []lunRow       `json:"luns"`
	Initiators []string       `json:"initiators"`
	CHAP       string         `json:"chap,omitempty"`
	Mutual     string         `json:"mutual_chap,omitempty"`
	Sessions   []initiatorRow `json:"sessions"`
	Failed     string         `json:"failed,omitempty"`
	URI        string         `json:"uri"`
}

type lunRow struct {
	LUN    int    `json:"lun"`
	Volume string `json:"volume"`
	CD     bool   `json:"cd"`
}

type initiatorRow struct {
	Target    string `json:"target"`
	Initiator string `json:"initiator"`
	ISID      string `json:"isid"`
	Address   string `json:"address"`
	User      string `json:"user,omitempty"`
	Since     string `json:"since"`
}

func (t connection) row() targetRow {
	n := t.Oem.Nitrino
	r := targetRow{Name: cmp.Or(t.Name, t.ID), Alias: n.Alias, LUNs: []lunRow{}, Initiators: []string{}, CHAP: t.ConnectionKeys.CHAP.CHAPUsername,
		Mutual: n.TargetCHAPUsername, Sessions: []initiatorRow{}, Failed: n.Failed, URI: t.URI}
	for i, v := range t.VolumeInfo {
		l := lunRow{LUN: v.LUN, Volume: lastOf(v.Volume.URI), CD: slices.Contains(n.CDLUNs, v.LUN)}
		if i < len(n.Volumes) {
			l.Volume = n.Volumes[i] // also where it is not there
		}
		r.LUNs = append(r.LUNs, l)
	}
	for _, e := range t.Links.InitiatorEndpoints {
		r.Initiators = append(r.Initiators, lastOf(e.URI))
	}
	for _, s := range n.Sessions {
		r.Sessions = append(r.Sessions, initiatorRow{r.Name, s.Initiator, s.ISID, s.Address, s.User, s.Since})
	}
	return r
}

// luns are the logical units for people.
func (t targetRow) luns() string {
	var all []string
	for _, l := range t.LUNs {
		text := fmt.Sprintf("%d=%s", l.LUN, l.Volume)
		if l.CD {
			text += " (cd)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func (p *program) targets(ctx context.Context) ([]targetRow, error) {
	c, f, err := p.fabric(ctx)
	if err != nil {
		return nil, err
	}
	some, err := members[connection](c, f.Connections.URI)
	if err != nil {
		return nil, fmt.Errorf("targets: %w", err)
	}
	all := []targetRow{}
	for _, t := range some {
		all = append(all, t.row())
	}
	return all, nil
}

func listTargets(ctx context.Context, p *program, _ []string) error {
	all, err := p.targets(ctx)
	if err != nil {
		return err
	}
	return p.show(all, func(w io.Writer) {
		row(w, "NAME", "LUNS", "INITIATORS", "CHAP", "SESSIONS")
		for _, t := range all {
			proof := none
			switch {
			case t.Mutual != "":
				proof = "mutual"
			case t.CHAP != "":
				proof = "one-way"
			}
			row(w, t.Name, t.luns(), cmp.Or(strings.Join(t.Initiators, ","), anyInitiator), proof, len(t.Sessions))
		}
	})
}

func showTarget(ctx context.Context, p *program, args []string) error {
	_, _, found, err := p.target(ctx, args[0])
	if err != nil {
		return err
	}
	t := found.row()
	return p.show(t, func(w io.Writer) {
		field(w, "Name", t.Name)
		field(w, "Alias", t.Alias)
		field(w, "LUNs", t.luns())
		field(w, "Initiators", cmp.Or(strings.Join(t.Initiators, " "), anyInitiator))
		field(w, "CHAP", cmp.Or(t.CHAP, none))
		field(w, "Mutual CHAP", cmp.Or(t.Mutual, none))
		field(w, "Failed", t.Failed)
		for _, s := range t.Sessions {
			field(w, "Session", fmt.Sprintf("%s from %s since %s", s.Initiator, s.Address, local(s.Since)))
		}
	})
}

func listTargetSessions(ctx context.Context, p *program, _ []string) error {
	targets, err := p.targets(ctx)
	if err != nil {
		return err
	}
	all := []initiatorRow{}
	for _, t := range targets {
		all = append(all, t.Sessions...)
	}
	return p.show(all, func(w io.Writer) {
		row(w, "TARGET", "INITIATOR", "ADDRESS", "USER", "SINCE")
		for _, s := range all {
			row(w, s.Target, s.Initiator, s.Address, s.User, local(s.Since))
		}
	})
}

// A connectionBody makes or changes a target; what is nil stays as it is.
type connectionBody struct {
	Name           string           `json:",omitempty"`
	ConnectionType string           `json:",omitempty"`
	VolumeInfo     []*volumeInfo    `json:",omitempty"`
	ConnectionKeys *connectionKeys  `json:",omitempty"`
	Links          *connectionLinks `json:",omitempty"`
	Oem            *connectionOEM   `json:",omitempty"`
}

// A volumeInfo is a logical unit; one without a Volume stays as it is.
type volumeInfo struct {
	Volume *link `json:",omitempty"`
	LUN    *int  `json:",omitempty"`
}

// connectionKeys have a user or null, which asks for no proof, and a password.
type connectionKeys struct{ CHAP map[string]*string }

type connectionLinks struct{ InitiatorEndpoints []link }

// connectionOEM is the part that is nitrino's own.
type connectionOEM struct{ Nitrino map[string]any }

// own sets a property of it.
func (b *connectionBody) own(name string, value any) {
	if b.Oem == nil {
		b.Oem = &connectionOEM{map[string]any{}}
	}
	b.Oem.Nitrino[name] = value
}

// targetFlags are those of target add and target set. Secrets never come from
// arguments, which end up in histories and lists of processes.
type targetFlags struct {
	set                                               *flag.FlagSet
	alias, initiators, chap, mutual, secret, mutually *string
}

func newTargetFlags(f *flag.FlagSet) targetFlags {
	return targetFlags{
		set:        f,
		alias:      f.String("alias", "", "`text` that initiators show to people"),
		initiators: f.String("initiators", "", "iSCSI `names` of who may log in, parted by commas; any: all"),
		chap:       f.String("chap", "", "`user` whose secret an initiator has to prove to know; none: it need not"),
		mutual:     f.String("mutual", "", "`user` whose secret the target proves to know in turn; none: it does not"),
		secret:     f.String("chap-secret-file", "", "`file` whose first line is the secret of -chap"),
		mutually:   f.String("mutual-secret-file", "", "`file` whose first line is the secret of -mutual"),
	}
}

// into puts what the flags say into a body.
func (t targetFlags) into(p *program, f fabric, b *connectionBody) error {
	t.set.Visit(func(one *flag.Flag) {
		if one.Name == "alias" {
			b.own("Alias", *t.alias)
		}
	})
	if *t.initiators != "" {
		if f.Endpoints.URI == "" {
			return fmt.Errorf("initiators by name: %w", errUnsupported)
		}
		b.Links = &connectionLinks{[]link{}}
		for name := range strings.SplitSeq(*t.initiators, ",") {
			if *t.initiators != anyInitiator {
				b.Links.InitiatorEndpoints = append(b.Links.InitiatorEndpoints, link{f.Endpoints.URI + "/" + url.PathEscape(name)})
			}
		}
	}
	keys := map[string]*string{}
	if user := *t.chap; user != "" {
		if keys["CHAPUsername"] = nil; user != none {
			secret, err := p.newSecret(newSecret{"CHAP secret of " + user, *t.secret, "-chap-secret-file", "BMCCTL_CHAP_SECRET"})
			if err != nil {
				return err
			}
			keys["CHAPUsername"], keys["CHAPPassword"] = &user, &secret
		}
	}
	if user := *t.mutual; user != "" {
		name := (*string)(nil)
		if user != none {
			secret, err := p.newSecret(newSecret{"target's CHAP secret of " + user, *t.mutually, "-mutual-secret-file", "BMCCTL_MUTUAL_CHAP_SECRET"})
			if err != nil {
				return err
			}
			name, keys["TargetCHAPPassword"] = &user, &secret
		}
		b.own("TargetCHAPUsername", name)
	}
	if len(keys) > 0 {
		b.ConnectionKeys = &connectionKeys{keys}
	}
	return nil
}

func addTarget(f *flag.FlagSet) call {
	name := f.String("name", "", "its iSCSI `name`, iqn.… (default: one made of the volume's)")
	cd := f.Bool("cd", false, "show the volume as a CD-ROM drive with the disc in it")
	flags := newTargetFlags(f)
	return func(ctx context.Context, p *program, args []string) error {
		_, v, err := p.volume(ctx, args[0])
		if err != nil {
			return err
		}
		c, f, err := p.fabric(ctx)
		if err != nil {
			return err
		}
		body := connectionBody{Name: *name, ConnectionType: "Storage", VolumeInfo: []*volumeInfo{{&link{v.URI}, new(0)}}}
		if *cd {
			body.own("CDLUNs", []int{0})
		}
		if err := flags.into(p, f, &body); err != nil {
			return err
		}
		a, err := c.call(http.MethodPost, f.Connections.URI, body, nil)
		if err != nil {
			return err
		}
		return p.done("Target %s shows %s", cmp.Or(lastOf(a.location), *name), args[0])
	}
}

func setTarget(f *flag.FlagSet) call {
	flags := newTargetFlags(f)
	return func(ctx context.Context, p *program, args []string) error {
		c, f, t, err := p.target(ctx, args[0])
		if err != nil {
			return err
		}
		var body connectionBody
		if err := flags.into(p, f, &body); err != nil {
			return err
		}
		if body.Links == nil && body.ConnectionKeys == nil && body.Oem == nil {
			return usagef("say what to change: -alias, -initiators, -chap or -mutual")
		}
		if err := c.patch(t.URI, body); err != nil {
			return err
		}
		return p.done("Target %s is changed", t.Name)
	}
}

func setLUN(f *flag.FlagSet) call {
	cd := f.Bool("cd", false, "show the volume as a CD-ROM drive with the disc in it")
	return func(ctx context.Context, p *program, args []string) error {
		n, err := strconv.ParseUint(args[1], 10, 8)
		if err != nil {
			return usagef("%q is no number of a logical unit: want 0 to 255", args[1])
		}
		lun, name := int(n), args[2]
		c, _, t, err := p.target(ctx, args[0])
		if err != nil {
			return err
		}
		// An element that is not to change is empty, one that is to go null (DSP0266,
		// PATCH on array properties).
		var body connectionBody
		at := -1
		for i, v := range t.VolumeInfo {
			body.VolumeInfo = append(body.VolumeInfo, &volumeInfo{})
			if v.LUN == lun {
				at = i
			}
		}
		discs := slices.DeleteFunc(slices.Clone(t.Oem.Nitrino.CDLUNs), func(other int) bool { return other == lun })
		switch {
		case name == none && at < 0:
			return fmt.Errorf("the target has no LUN %d", lun)
		case name == none:
			body.VolumeInfo[at] = nil
		default:
			_, v, err := p.volume(ctx, name)
			if err != nil {
				return err
			}
			if at < 0 {
				at = len(body.VolumeInfo)
				body.VolumeInfo = append(body.VolumeInfo, nil)
			}
			body.VolumeInfo[at] = &volumeInfo{&link{v.URI}, &lun}
			if *cd {
				discs = append(discs, lun)
			}
		}
		if !slices.Equal(discs, t.Oem.Nitrino.CDLUNs) {
			body.own("CDLUNs", append([]int{}, discs...)) // an empty list is not null
		}
		if err := c.patch(t.URI, body); err != nil {
			return err
		}
		if name == none {
			return p.done("Target %s has no LUN %d", t.Name, lun)
		}
		return p.done("LUN %d of %s is %s", lun, t.Name, name)
	}
}

func removeTarget(ctx context.Context, p *program, args []string) error {
	c, _, t, err := p.target(ctx, args[0])
	if err != nil {
		return err
	}
	if _, err := c.call(http.MethodDelete, t.URI, nil, nil); err != nil {
		return err
	}
	return p.done("Target %s is removed", t.Name)
}
