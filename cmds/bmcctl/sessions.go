package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

func sessionCommands() []command {
	return []command{
		{name: "sessions list", help: "show who is logged in", setup: plain(listSessions)},
		{name: "sessions rm", args: "ID", help: "end a session", setup: plain(endSession)},
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
