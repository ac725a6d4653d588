package event

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	streamURI = resource.EventServiceURI + "/SSE"
	// heartbeat is how often a stream says something, so that who reads it, and
	// what is between, knows that it lives.
	heartbeat = 10 * time.Second
)

// getStream opens a stream (DSP0266, Server-sent events).
func (s *Service) getStream(q *resource.Request) *resource.Reply {
	if q.Method == http.MethodHead {
		return &resource.Reply{Status: http.StatusOK} // nothing is opened
	}
	wants, problems := streamQuery(q.URL.RawQuery)
	if problems != nil {
		return resource.Fail(problems...)
	}
	s.mu.Lock()
	enabled := s.conf.Enabled
	s.mu.Unlock()
	if !enabled {
		return resource.Fail(message.ServiceDisabled(resource.EventServiceURI))
	}
	sub := &subscription{stream: wants, ended: make(chan struct{})}
	sub.target = target{Destination: "redfish-sse://" + q.RemoteAddr, Owner: q.User.Name,
		Context: fmt.Sprintf("The stream of %s from %s", q.User.Name, q.RemoteAddr)}
	var from *Position
	if p, err := parsePosition(q.Header.Get("Last-Event-ID")); err == nil {
		from = &p // else it is none of ours: the stream begins now
	}
	// The EventDestination is there before the first header is sent.
	if err := s.subscribe(sub, from); err != nil {
		return resource.Fail(message.EventSubscriptionLimitExceeded())
	}
	// It goes when the request is over, however far that came.
	context.AfterFunc(q.Context(), func() { s.remove(sub) })
	return &resource.Reply{Status: http.StatusOK, Stream: func(w http.ResponseWriter) {
		if err := s.send(q, w, sub); err != nil {
			s.opt.Log.Debug("event stream ended", "subscription", sub.id, "error", err)
		}
	}}
}

// streamQuery reads the query of a stream's URI.
func streamQuery(raw string) (matcher, []message.Message) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, []message.Message{message.QueryParameterValueFormatError(raw, "$filter")}
	}
	var problems []message.Message
	for name := range values {
		if strings.HasPrefix(name, "$") && name != "$filter" {
			problems = append(problems, message.QueryParameterUnsupported(name))
		}
	}
	if problems != nil {
		slices.SortFunc(problems, func(a, b message.Message) int { return strings.Compare(a.Text, b.Text) })
		return nil, problems
	}
	filters, asked := values["$filter"]
	if !asked {
		return everyEvent, nil
	}
	wants, err := parseFilter(filters[0])
	if err != nil || len(filters) > 1 {
		return nil, []message.Message{message.QueryParameterValueFormatError(filters[len(filters)-1], "$filter")}
	}
	return wants, nil
}

// stands reports whether the user of a stream may still come in as when it began.
// The end of the session that it was asked for with is no end of the stream
// (DSP0266, Session termination or logout).
func (s *Service) stands(q *resource.Request) bool {
	now, found := s.opt.Users.User(q.User.Name)
	return found && q.User.Stands(now) && !now.PasswordChangeRequired
}

// send writes a stream until its client, its user or its subscription is gone.
func (s *Service) send(q *resource.Request, w http.ResponseWriter, sub *subscription) error {
	ctx, c := q.Context(), http.NewResponseController(w)
	// A client that does not take what it is sent is cut off by package protocol.
	write := func(text []byte) error {
		if _, err := w.Write(text); err != nil {
			return err
		}
		return c.Flush()
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	if err := write([]byte(": events of nitrino\n\n")); err != nil {
		return err
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		s.mu.Lock()
		grew := s.grew // taken before looking, so that nothing is missed
		s.mu.Unlock()
		changed := s.opt.Users.Changed()
		if !s.stands(q) {
			return nil
		}
		p := s.next(sub)
		s.mu.Lock()
		sub.cursor = p.upto
		s.mu.Unlock()
		if p.body != nil {
			text := append([]byte("id: "+p.upto.String()+"\ndata: "), p.body...)
			if err := write(append(text, "\n\n"...)); err != nil {
				return err
			}
		}
		if p.more {
			grew = ready()
		}
		select {
		case <-sub.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		select {
		case <-grew:
		case <-changed:
		case <-beat.C:
			if err := write([]byte(": still here\n\n")); err != nil {
				return err
			}
		case <-sub.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ready is a channel that is closed.
func ready() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
