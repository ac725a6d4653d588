package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"time"
)

func resetCommands() []command {
	return []command{
		{name: "reset", help: "restart the BMC's software; the host goes on", setup: resetManager},
		{name: "reset defaults", args: "all|keep-network|keep-network-and-users", help: "reset the BMC to its defaults, and restart it; the host goes on", setup: resetDefaults},
	}
}

func resetManager(f *flag.FlagSet) call {
	force := f.Bool("force", false, "at once, without ending what runs")
	wait := f.Bool("w", false, "wait until it answers again")
	limit := f.Duration("timeout", 5*time.Minute, "how long to wait at most")
	return func(ctx context.Context, p *program, _ []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		m, err := p.manager(c)
		if err != nil {
			return err
		}
		offered, err := c.kinds(m.Actions.Reset)
		if err != nil {
			return err
		}
		wanted := []string{"GracefulRestart", "ForceRestart"}
		if *force {
			wanted = []string{"ForceRestart", "GracefulRestart"}
		}
		kind, err := pick(wanted, offered)
		if err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		if _, err := c.act(m.Actions.Reset.action, "reset", struct{ ResetType string }{kind}); err != nil {
			return err
		}
		// Its sessions end with it.
		c.keep = true
		if !*wait {
			return p.done("%s was requested of %s", kind, m.ID)
		}
		ctx, cancel := context.WithTimeout(ctx, *limit)
		defer cancel()
		if err := c.awaitRestart(ctx); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
		return p.done("%s answers again", m.ID)
	}
}

// settling is how long a service that never went away may take to go.
const settling = 20 * time.Second

// awaitRestart waits until the service is gone and there again; the root needs no
// login, and the session's end tells of a restart that nobody saw.
func (c *client) awaitRestart(ctx context.Context) error {
	s, err := c.api.GetSession()
	if err != nil {
		return fmt.Errorf("waiting: %w", err)
	}
	gone := false
	began := time.Now()
	for {
		c.http.CloseIdleConnections()
		_, err := c.read(s.ID, &struct{}{})
		switch {
		case status(err) == http.StatusUnauthorized || status(err) == http.StatusNotFound:
			return nil // another process, which knows no old session
		case err == nil && (gone || time.Since(began) > settling):
			return nil
		case err != nil && !passing(err):
			return c.refused(err)
		}
		gone = gone || err != nil
		if err := sleep(ctx, c.poll); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%w: it does not answer", errNoOutcome)
			}
			return err
		}
	}
}

// A scopeWord is what a person calls a Manager.ResetToDefaultsType.
type scopeWord struct{ name, kind, gone string }

func scopeWords() []scopeWord {
	return []scopeWord{
		{"all", "ResetAll", "all users and settings, the network's too"},
		{"keep-network", "PreserveNetwork", "all users, and the settings but the network's"},
		{"keep-network-and-users", "PreserveNetworkAndUsers", "the settings but the network's and the users"},
	}
}

// resetDefaults does not wait: the BMC may come back with another certificate, at
// another address, and without the user that asked.
func resetDefaults(f *flag.FlagSet) call {
	yes := f.Bool("yes", false, "do not ask whether it is meant")
	return func(ctx context.Context, p *program, args []string) error {
		i := slices.IndexFunc(scopeWords(), func(w scopeWord) bool { return w.name == args[0] })
		if i < 0 {
			return usagef("%q: want all, keep-network or keep-network-and-users", args[0])
		}
		scope := scopeWords()[i]
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		m, err := p.manager(c)
		if err != nil {
			return err
		}
		a := m.Actions.ResetToDefaults
		if a.Target == "" {
			return fmt.Errorf("reset defaults: %w", errUnsupported)
		}
		offered, err := c.kinds(a)
		if err != nil {
			return err
		}
		if _, err := pick([]string{scope.kind}, offered); err != nil {
			return fmt.Errorf("reset defaults %s: %w", scope.name, err)
		}
		if err := p.sure(*yes, fmt.Sprintf("%s of %s loses %s. Reset it?", m.ID, c.profile.Host, scope.gone)); err != nil {
			return err
		}
		if _, err := c.act(a.action, "reset defaults", struct{ ResetType string }{scope.kind}); err != nil {
			return err
		}
		c.keep = true // its sessions end with it
		if c.profile.Fingerprint != "" {
			p.note("note: the BMC may come back with another certificate; bmcctl profile trust pins it")
		}
		return p.done("%s was requested of %s", scope.kind, m.ID)
	}
}
