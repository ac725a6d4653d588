package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
)

func profileCommands() []command {
	return []command{
		{name: "profile add", args: "NAME HOST", help: "remember a service under a name, and pin its certificate", setup: addProfile},
		{name: "profile list", help: "show the profiles", setup: plain(listProfiles)},
		{name: "profile use", args: "NAME", help: "choose the profile that is used without -p", setup: plain(useProfile)},
		{name: "profile trust", args: "[NAME]", help: "pin the certificate that the service has now, and forget its SSH key", setup: plain(trustProfile)},
		{name: "profile rm", args: "NAME", help: "forget a profile", setup: plain(removeProfile)},
		{name: "login", help: "log in and keep the session for the next commands", setup: plain(login)},
		{name: "logout", help: "end the session that login kept", setup: plain(logout)},
	}
}

func addProfile(f *flag.FlagSet) call {
	force := f.Bool("f", false, "replace a profile of that name")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.load()
		if err != nil {
			return err
		}
		name := args[0]
		if _, there := c.Profiles[name]; there && !*force {
			return fmt.Errorf("there is a profile %q already; -f replaces it", name)
		}
		one := &profile{Host: args[1], User: p.global.user, CA: p.global.ca}
		if err := p.pin(ctx, one); err != nil {
			return err
		}
		c.Profiles[name] = one
		if c.Default == "" {
			c.Default = name
		}
		if err := p.save(c); err != nil {
			return err
		}
		return p.done("Profile %s: %s", name, trusted(*one))
	}
}

// pin decides by what a profile's service is known: the fingerprint or authorities
// that were given, the system's authorities, or what the person says.
func (p *program) pin(ctx context.Context, one *profile) error {
	if _, _, err := address(one.Host); err != nil {
		return err
	}
	if one.CA != "" {
		one.Fingerprint = ""
		_, err := trust(*one)
		return err
	}
	if p.global.fingerprint != "" {
		text, err := parseFingerprint(p.global.fingerprint)
		one.Fingerprint = text
		return err
	}
	text, signed, err := seen(ctx, one.Host)
	if err != nil {
		return err
	}
	if signed {
		one.Fingerprint = ""
		return nil
	}
	p.note("The certificate of %s is not signed by an authority that this system knows.\nIts SHA-256 fingerprint is\n  %s\nCompare it with what the board itself shows.", one.Host, text)
	yes, err := p.confirm("Trust it?")
	if err != nil {
		return &certificateError{fmt.Sprintf("%v; give the fingerprint with -fingerprint", err)}
	}
	if !yes {
		return &certificateError{"the certificate is not trusted: nothing was changed"}
	}
	one.Fingerprint = text
	return nil
}

// trusted says by what.
func trusted(one profile) string {
	switch {
	case one.Fingerprint != "":
		return "certificate pinned"
	case one.CA != "":
		return "certificates signed by " + one.CA
	}
	return "certificates signed by the system's authorities"
}

// A profileRow is a profile in JSON, without its token.
type profileRow struct {
	Name        string `json:"name"`
	Host        string `json:"host"`
	User        string `json:"user,omitempty"`
	Default     bool   `json:"default"`
	Fingerprint string `json:"fingerprint,omitempty"`
	CA          string `json:"ca,omitempty"`
	LoggedIn    bool   `json:"logged_in"`
}

func listProfiles(_ context.Context, p *program, _ []string) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	all := []profileRow{}
	for _, name := range slices.Sorted(maps.Keys(c.Profiles)) {
		one := c.Profiles[name]
		all = append(all, profileRow{name, one.Host, one.User, name == c.Default, one.Fingerprint, one.CA, one.Session != nil})
	}
	return p.show(all, func(w io.Writer) {
		row(w, "NAME", "HOST", "USER", "LOGGED IN", "TRUST")
		for _, r := range all {
			name := r.Name
			if r.Default {
				name += " *"
			}
			row(w, name, r.Host, r.User, yesNo(r.LoggedIn), trusted(*c.Profiles[r.Name]))
		}
	})
}

func useProfile(_ context.Context, p *program, args []string) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	if c.Profiles[args[0]] == nil {
		return usagef("there is no profile %q", args[0])
	}
	c.Default = args[0]
	if err := p.save(c); err != nil {
		return err
	}
	return p.done("Profile %s is used from now on", args[0])
}

func trustProfile(ctx context.Context, p *program, args []string) error {
	if len(args) > 0 {
		p.global.profile = args[0]
	}
	c, err := p.load()
	if err != nil {
		return err
	}
	name, one, err := p.chosen(c)
	if err != nil {
		return err
	}
	if name == "" {
		return usagef("a certificate is pinned in a profile: want its name")
	}
	one.CA = p.global.ca
	if err := p.pin(ctx, one); err != nil {
		return err
	}
	one.HostKey = "" // console asks about it
	if err := p.save(c); err != nil {
		return err
	}
	return p.done("Profile %s: %s", name, trusted(*one))
}

func removeProfile(_ context.Context, p *program, args []string) error {
	c, err := p.load()
	if err != nil {
		return err
	}
	if c.Profiles[args[0]] == nil {
		return usagef("there is no profile %q", args[0])
	}
	if c.Profiles[args[0]].Session != nil {
		p.note("note: its session is open until it times out; logout would have ended it")
	}
	delete(c.Profiles, args[0])
	if c.Default == args[0] {
		c.Default = ""
	}
	if err := p.save(c); err != nil {
		return err
	}
	return p.done("Profile %s is forgotten", args[0])
}

func login(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	if c.name == "" {
		return usagef("a session is kept in a profile: want -p, or bmcctl profile add first")
	}
	if c.keep {
		return p.done("Logged in already at %s", c.profile.Host)
	}
	s, err := c.api.GetSession()
	if err != nil {
		return fmt.Errorf("the service gave no session: %w", err)
	}
	err = p.change(c.name, func(one *profile) {
		one.Session = &savedSession{s.ID, s.Token}
		if one.User == "" {
			one.User = c.user
		}
	})
	if err != nil {
		return err
	}
	c.keep = true
	return p.done("Logged in at %s as %s", c.profile.Host, c.user)
}

func logout(ctx context.Context, p *program, _ []string) error {
	conf, err := p.load()
	if err != nil {
		return err
	}
	name, one, err := p.chosen(conf)
	if err != nil {
		return err
	}
	if one.Session == nil {
		return p.done("Not logged in")
	}
	saved := *one.Session
	one.Session = nil
	if err := p.save(conf); err != nil {
		return err
	}
	t, err := trust(*one)
	if err != nil {
		return err
	}
	c := &client{http: newHTTP(t), note: p.note, name: name, profile: *one}
	if c.base, _, err = address(one.Host); err != nil {
		return err
	}
	live, err := c.resume(ctx, saved)
	if err != nil {
		return fmt.Errorf("the session is forgotten here, but not ended: %w", err)
	}
	if live {
		if err := c.endSession(ctx, saved.URI); err != nil {
			return err
		}
	}
	return p.done("Logged out of %s", one.Host)
}
