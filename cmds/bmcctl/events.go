package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

func eventCommands() []command {
	return append([]command{
		{name: "events list", help: "show the newest entries of all logs", setup: listEntries},
		{name: "events follow", help: "show events as they happen, until Ctrl-C", setup: followEvents},
	}, logCommands()...)
}

// instant reads a time of the service; what is none is the oldest.
func instant(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// An eventFilter is what somebody wants to see.
type eventFilter struct{ severity, registry, messageID, origin string }

func (f eventFilter) wants(e entry) bool {
	return (f.severity == "" || strings.EqualFold(f.severity, e.Severity)) &&
		(f.registry == "" || strings.HasPrefix(strings.ToLower(e.MessageID), strings.ToLower(f.registry)+".")) &&
		(f.messageID == "" || e.MessageID == f.messageID || strings.HasSuffix(e.MessageID, "."+f.messageID)) &&
		(f.origin == "" || strings.HasPrefix(e.Origin, f.origin))
}

// A wireEvent is the schema Event's.
type wireEvent struct {
	Events []struct {
		EventID           string `json:"EventId"`
		EventTimestamp    string
		MessageSeverity   string
		Severity          string
		MessageID         string `json:"MessageId"`
		Message           string
		OriginOfCondition link
	}
}

func followEvents(f *flag.FlagSet) call {
	var wanted eventFilter
	f.StringVar(&wanted.severity, "severity", "", "only those of this `severity`: OK, Warning or Critical")
	f.StringVar(&wanted.registry, "registry", "", "only messages of this `registry`, as in ResourceEvent")
	f.StringVar(&wanted.messageID, "message", "", "only messages of this `Id`, with or without its registry")
	f.StringVar(&wanted.origin, "origin", "", "only those about this `URI` and what is below it")
	expression := f.String("filter", "", "$filter `expression` that the service applies (DSP0266)")
	last := f.String("since", "", "begin after the event that the stream gave this `id`")
	return func(ctx context.Context, p *program, _ []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		r, err := c.root()
		if err != nil {
			return err
		}
		var service struct {
			Stream string `json:"ServerSentEventUri"`
		}
		if _, err := c.read(r.EventService.URI, &service); err != nil {
			return fmt.Errorf("events: %w", err)
		}
		if service.Stream == "" {
			return fmt.Errorf("events follow: %w", errUnsupported)
		}
		if *expression != "" {
			joint := "?"
			if strings.Contains(service.Stream, "?") {
				joint = "&"
			}
			service.Stream += joint + "$filter=" + url.PathEscape(*expression)
		}
		s := &follower{c: c, uri: service.Stream, last: *last, pause: time.Second, take: func(data []byte) error { return p.event(data, wanted) }}
		return s.run(ctx)
	}
}

// event prints what of an event's payload is wanted: a line each.
func (p *program) event(data []byte, wanted eventFilter) error {
	var all wireEvent
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("an event cannot be read: %w", err)
	}
	for _, e := range all.Events {
		one := entry{ID: e.EventID, Time: e.EventTimestamp, Severity: cmp.Or(e.MessageSeverity, e.Severity),
			MessageID: e.MessageID, Message: e.Message, Origin: e.OriginOfCondition.URI}
		if !wanted.wants(one) {
			continue
		}
		if p.global.output == "json" {
			line, err := json.Marshal(one)
			if err != nil {
				return fmt.Errorf("writing JSON: %w", err)
			}
			if _, err := fmt.Fprintf(p.stdout, "%s\n", line); err != nil {
				return err
			}
			continue
		}
		text := cmp.Or(clean(one.Message), one.MessageID)
		if _, err := fmt.Fprintf(p.stdout, "%s  %-8s  %s\n", local(clean(one.Time)), cmp.Or(clean(one.Severity), "-"), text); err != nil {
			return err
		}
	}
	return nil
}

// A follower reads a stream of events, and goes on after the last one when the
// connection is lost.
type follower struct {
	c     *client
	uri   string
	last  string        // id of the last event
	pause time.Duration // before the next try; the service may set it
	take  func(data []byte) error
}

// A takeError: what the stream brought could not be used.
type takeError struct{ error }

func (e takeError) Unwrap() error { return e.error }

const longestPause = 30 * time.Second

// run ends with ctx, or when the service refuses. The pauses between tries that come
// to nothing grow.
func (s *follower) run(ctx context.Context) error {
	for failed := 0; ; failed++ {
		opened, err := s.once(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if bad, is := errors.AsType[takeError](err); is {
			return bad.error
		}
		if _, is := errors.AsType[*certificateError](err); is {
			return s.c.refused(err)
		}
		if status(err) != 0 && !passing(err) {
			return err // it will refuse again
		}
		if opened {
			failed = 0
		}
		s.c.note("note: the stream of events broke off; trying again")
		if err := sleep(ctx, min(s.pause<<min(failed, 5), longestPause)); err != nil {
			return err
		}
	}
}

// once reads one connection's events. That it ended is no error.
func (s *follower) once(ctx context.Context) (opened bool, err error) {
	r, err := s.c.request(ctx, http.MethodGet, s.uri, nil)
	if err != nil {
		return false, takeError{err}
	}
	r.Header.Set("Accept", "text/event-stream")
	if s.last != "" {
		r.Header.Set("Last-Event-ID", s.last)
	}
	resp, err := s.c.send(r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return true, readEvents(resp.Body, func(e streamEvent) error {
		if e.id != nil {
			s.last = *e.id
		}
		if e.retry > 0 {
			s.pause = min(e.retry, longestPause)
		}
		if len(e.data) == 0 {
			return nil
		}
		if err := s.take(e.data); err != nil {
			return takeError{err}
		}
		return nil
	})
}
