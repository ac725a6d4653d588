package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A powerWord is what a person calls a reset, and the ResetTypes that do it, the
// best first.
type powerWord struct {
	name, help string
	types      []string
	until      string // PowerState when it is done; "" is at once
	// restart: it is on before and after, so what tells is that it was not on in
	// between, or was reset since.
	restart bool
}

func powerWords() []powerWord {
	return []powerWord{
		{name: "on", help: "switch the host on", types: []string{"On", "ForceOn"}, until: "On"},
		{name: "off", help: "switch the host off at once", types: []string{"ForceOff"}, until: "Off"},
		{name: "soft", help: "ask the host's system to shut down", types: []string{"GracefulShutdown"}, until: "Off"},
		{name: "cycle", help: "switch the host off and on again", types: []string{"PowerCycle", "FullPowerCycle"}, until: "On", restart: true},
		{name: "reset", help: "reset the host at once", types: []string{"ForceRestart"}, until: "On", restart: true},
		{name: "restart", help: "ask the host's system to shut down, then switch it on", types: []string{"GracefulRestart"}, until: "On", restart: true},
		{name: "nmi", help: "send the host a diagnostic interrupt", types: []string{"Nmi"}},
		{name: "press", help: "press the power button once", types: []string{"PushPowerButton"}},
	}
}

func powerCommands() []command {
	all := []command{{name: "power status", help: "show whether the host is on", setup: powerStatus}}
	for _, w := range powerWords() {
		all = append(all, command{name: "power " + w.name, help: w.help, setup: func(f *flag.FlagSet) call { return power(f, w) }})
	}
	return append(all, command{name: "power policy", args: "[always-on|always-off|last-state]",
		help: "show or set what the host does when its power returns", setup: plain(policy)})
}

// A powerReport is what power status prints.
type powerReport struct {
	System string `json:"system"`
	Power  string `json:"power"` // Redfish's PowerState
	Health string `json:"health,omitempty"`
	State  string `json:"state,omitempty"`
	Policy string `json:"restore_policy,omitempty"`
}

func powerStatus(f *flag.FlagSet) call {
	quiet := f.Bool("q", false, "print nothing: the exit code is 0 if the host is on, else 1")
	return func(ctx context.Context, p *program, _ []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		s, err := p.system(c)
		if err != nil {
			return err
		}
		if *quiet {
			if s.PowerState != "On" {
				return errNo
			}
			return nil
		}
		r := powerReport{s.ID, s.PowerState, string(s.Status.Health), string(s.Status.State), s.PowerRestorePolicy}
		if r.Power == "" {
			r.Power = "Unknown"
		}
		return p.show(r, func(w io.Writer) {
			field(w, "Power", r.Power)
			field(w, "State", r.State)
			field(w, "Health", r.Health)
			field(w, "When power returns", r.Policy)
		})
	}
}

func power(f *flag.FlagSet, word powerWord) call {
	wait, limit := false, 5*time.Minute
	if word.until != "" {
		f.BoolVar(&wait, "w", false, "wait until it is done")
		f.DurationVar(&limit, "timeout", limit, "how long to wait at most")
	}
	return func(ctx context.Context, p *program, _ []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		s, err := p.system(c)
		if err != nil {
			return err
		}
		offered, err := c.kinds(s.Actions.Reset)
		if err != nil {
			return err
		}
		kind, err := pick(word.types, offered)
		if err != nil {
			return fmt.Errorf("power %s: %w", word.name, err)
		}
		body := struct{ ResetType string }{kind}
		a, err := c.act(s.Actions.Reset.action, "power "+word.name, body)
		if err != nil {
			return err
		}
		if err := c.settle(ctx, p, a, "power "+word.name); err != nil {
			return err
		}
		if !wait {
			return p.done("%s was requested of %s", kind, s.ID)
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		now, err := c.awaitPower(ctx, *s, word)
		if err != nil {
			return fmt.Errorf("power %s: %w", word.name, err)
		}
		return p.done("%s: %s", s.ID, now)
	}
}

// pick takes the first that is offered; nothing offered at all is a service that
// does not say.
func pick(wanted, offered []string) (string, error) {
	if len(offered) == 0 {
		return wanted[0], nil
	}
	for _, w := range wanted {
		if slices.Contains(offered, w) {
			return w, nil
		}
	}
	return "", fmt.Errorf("%w: it offers %s", errUnsupported, strings.Join(offered, ", "))
}

// awaitPower looks until the host is as asked. before is how it was before.
func (c *client) awaitPower(ctx context.Context, before system, word powerWord) (state string, err error) {
	left := !word.restart || before.PowerState != "On"
	for {
		var now system
		_, err := c.read(before.URI, &now)
		if err != nil && !passing(err) {
			return "", err
		}
		if err == nil {
			state = now.PowerState
			left = left || state != "On" || now.LastResetTime != before.LastResetTime
			if left && state == word.until {
				return state, nil
			}
		}
		if err := sleep(ctx, c.poll); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return "", fmt.Errorf("%w: the host is %s", errNoOutcome, strings.ToLower(state))
			}
			return "", err
		}
	}
}

// passing: an error that is over when one tries again.
func passing(err error) bool {
	switch status(err) {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	if _, is := errors.AsType[*certificateError](err); is {
		return false
	}
	e, is := errors.AsType[*url.Error](err)
	return is && !errors.Is(e, context.Canceled) && !errors.Is(e, context.DeadlineExceeded)
}

// sleep waits, or says why not any longer.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func policy(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	s, err := p.system(c)
	if err != nil {
		return err
	}
	words := map[string]string{"always-on": "AlwaysOn", "always-off": "AlwaysOff", "last-state": "LastState"}
	if len(args) == 0 {
		if s.PowerRestorePolicy == "" {
			return fmt.Errorf("power policy: %w", errUnsupported)
		}
		return p.show(struct {
			Policy string `json:"restore_policy"`
		}{s.PowerRestorePolicy}, func(w io.Writer) { fmt.Fprintln(w, clean(s.PowerRestorePolicy)) })
	}
	word, found := words[args[0]]
	if !found {
		return usagef("%q: want always-on, always-off or last-state", args[0])
	}
	if err := c.patch(s.URI, struct{ PowerRestorePolicy string }{word}); err != nil {
		return err
	}
	return p.done("%s: %s when power returns", s.ID, word)
}
