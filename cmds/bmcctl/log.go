package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

func logCommands() []command {
	return []command{
		{name: "log services", help: "show the logs that there are", setup: plain(listLogs)},
		{name: "log list", args: "[LOG]", help: "show the newest entries of a log, or of all", setup: listEntries},
		{name: "log clear", args: "LOG", help: "delete all entries of a log", setup: plain(clearLog)},
	}
}

// A logService is a log of the system or of the manager.
type logService struct {
	ID                 string `json:"Id"`
	Name               string
	LogEntryType       string
	MaxNumberOfRecords int64
	Entries            link
	Actions            struct {
		Clear action `json:"#LogService.ClearLog"`
	}
	of string // "system" or "manager"
}

// name tells two logs apart that have the same Id.
func (l logService) name() string { return l.of + "/" + l.ID }

func (p *program) logs(c *client) (all []logService, err error) {
	s, err := p.system(c)
	if err != nil {
		return nil, err
	}
	m, err := p.manager(c)
	if err != nil && !errors.Is(err, errUnsupported) {
		return nil, err
	}
	type place struct {
		of  string
		uri string
	}
	places := []place{{"system", s.LogServices.URI}}
	if m != nil {
		places = append(places, place{"manager", m.LogServices.URI})
	}
	for _, where := range places {
		if where.uri == "" {
			continue
		}
		some, err := members[logService](c, where.uri)
		if err != nil {
			return nil, fmt.Errorf("logs of the %s: %w", where.of, err)
		}
		for _, l := range some {
			l.of = where.of
			all = append(all, l)
		}
	}
	if all == nil {
		return nil, fmt.Errorf("logs: %w", errUnsupported)
	}
	return all, nil
}

// one finds a log by its name, or by its Id where that is enough.
func oneLog(all []logService, name string) (logService, error) {
	var found []logService
	var names []string
	for _, l := range all {
		if l.name() == name || l.ID == name {
			found = append(found, l)
		}
		names = append(names, l.name())
	}
	if len(found) != 1 {
		return logService{}, usagef("log %q: want one of %s", name, strings.Join(names, ", "))
	}
	return found[0], nil
}

// A logRow is one of log services.
type logRow struct {
	Log  string `json:"log"`
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	Max  int64  `json:"max_entries,omitempty"`
}

func listLogs(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	logs, err := p.logs(c)
	if err != nil {
		return err
	}
	all := []logRow{}
	for _, l := range logs {
		all = append(all, logRow{l.name(), l.Name, l.LogEntryType, l.MaxNumberOfRecords})
	}
	return p.show(all, func(w io.Writer) {
		row(w, "LOG", "NAME", "TYPE")
		for _, l := range all {
			row(w, l.Log, l.Name, l.Type)
		}
	})
}

// An entry is one of a log, or an event as it comes.
type entry struct {
	ID        string `json:"id,omitempty"`
	Log       string `json:"log,omitempty"`
	Time      string `json:"time"`
	Severity  string `json:"severity,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	Message   string `json:"message"`
	Origin    string `json:"origin,omitempty"` // URI of what it is about
}

// A wireEntry is the schema LogEntry's.
type wireEntry struct {
	ID                      string `json:"Id"`
	Created, EventTimestamp string
	Severity, Message       string
	MessageID               string `json:"MessageId"`
	Links                   struct{ OriginOfCondition link }
}

func listEntries(f *flag.FlagSet) call {
	count := f.Int("n", 20, "how many of the newest; 0 is all")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		logs, err := p.logs(c)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			one, err := oneLog(logs, args[0])
			if err != nil {
				return err
			}
			logs = []logService{one}
		}
		all := []entry{}
		for _, l := range logs {
			some, err := members[wireEntry](c, l.Entries.URI)
			if err != nil {
				return fmt.Errorf("log %s: %w", l.name(), err)
			}
			for _, e := range some {
				all = append(all, entry{e.ID, l.name(), cmp.Or(e.EventTimestamp, e.Created), e.Severity, e.MessageID, e.Message, e.Links.OriginOfCondition.URI})
			}
		}
		// Services list them the newest or the oldest first; here the newest is last.
		if len(all) > 1 && instant(all[0].Time).After(instant(all[len(all)-1].Time)) {
			slices.Reverse(all)
		}
		slices.SortStableFunc(all, func(a, b entry) int { return instant(a.Time).Compare(instant(b.Time)) })
		all = once(all)
		if *count > 0 && len(all) > *count {
			all = all[len(all)-*count:]
		}
		return p.show(all, func(w io.Writer) {
			row(w, "TIME", "SEVERITY", "LOG", "MESSAGE")
			for _, e := range all {
				row(w, local(e.Time), e.Severity, e.Log, e.Message)
			}
		})
	}
}

// once drops what another log has, too.
func once(all []entry) []entry {
	type key struct{ id, time, message string }
	in := map[key]string{}
	return slices.DeleteFunc(all, func(e entry) bool {
		k := key{e.ID, e.Time, e.Message}
		log, seen := in[k]
		if !seen {
			in[k] = e.Log
		}
		return seen && log != e.Log
	})
}

func clearLog(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	logs, err := p.logs(c)
	if err != nil {
		return err
	}
	one, err := oneLog(logs, args[0])
	if err != nil {
		return err
	}
	a, err := c.act(one.Actions.Clear, "log clear", struct{}{})
	if err != nil {
		return err
	}
	if err := c.settle(ctx, p, a, "log clear"); err != nil {
		return err
	}
	return p.done("Log %s is empty", one.name())
}
