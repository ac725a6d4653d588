package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"
)

func sessionCommands() []command {
	return []command{
		{name: "sessions list", help: "show who is logged in", setup: plain(listSessions)},
		{name: "sessions rm", args: "ID", help: "end a session", setup: plain(endSession)},
		{name: "reset", help: "restart the BMC's software; the host goes on", setup: resetManager},
	}
}

// A sessionRow is one of sessions list.
type sessionRow struct {
	ID      string `json:"id"`
	User    string `json:"user"`
	Type    string `json:"type,omitempty"`
	From    string `json:"from,omitempty"`
	Created string `json:"created,omitempty"`
	Own     bool   `json:"own"` // the one of this command
	uri     string
}

func (c *client) sessions() ([]sessionRow, error) {
	r, err := c.root()
	if err != nil {
		return nil, err
	}
	some, err := members[struct {
		URI                                string `json:"@odata.id"`
		ID                                 string `json:"Id"`
		UserName, SessionType              string
		ClientOriginIPAddress, CreatedTime string
	}](c, r.Links.Sessions.URI)
	if err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	own := ""
	if s, err := c.api.GetSession(); err == nil {
		own = s.ID
	}
	all := []sessionRow{}
	for _, s := range some {
		all = append(all, sessionRow{s.ID, s.UserName, s.SessionType, s.ClientOriginIPAddress, s.CreatedTime, s.URI == own, s.URI})
	}
	return all, nil
}

func listSessions(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	all, err := c.sessions()
	if err != nil {
		return err
	}
	return p.show(all, func(w io.Writer) {
		row(w, "ID", "USER", "TYPE", "FROM", "SINCE")
		for _, s := range all {
			id := s.ID
			if s.Own {
				id += " *"
			}
			row(w, id, s.User, s.Type, s.From, local(s.Created))
		}
	})
}

func endSession(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	all, err := c.sessions()
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.ID != args[0] {
			continue
		}
		if _, err := c.call(http.MethodDelete, s.uri, nil, nil); err != nil {
			return err
		}
		return p.done("Session %s of %s is ended", s.ID, s.User)
	}
	return fmt.Errorf("there is no session %q", args[0])
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
