package protocol

import (
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// A log of thousands of entries is megabytes long, and one client can ask for
// it many times at once and take its time to read. So maxShown answers are made
// at once, the others wait; and of those longer than longAnswer, in bytes,
// maxLong are on their way at once, and what is more is refused.
const (
	maxShown   = 4
	longAnswer = 64 << 10
	maxLong    = 8
)

// show is answer for GET and HEAD, which gives of the resource what the query
// asks for.
func (s *Service) show(rt resource.Route, q *resource.Request, ask query) (a *resource.Reply, sent func()) {
	sent = func() {}
	select {
	case s.shown <- struct{}{}:
		defer func() { <-s.shown }()
	case <-q.Context().Done():
		return resource.Fail(message.TemporarilyUnavailable()), sent // to nobody
	}
	a = s.run(rt, rt.Get, q)
	if ask.any() {
		a = s.shape(q, a, ask)
	}
	if a.Resource != nil {
		d, err := s.document(a, true)
		if err != nil {
			return s.failed(err), sent
		}
		made := *a // a handler may have it for others, too
		made.Resource, made.Document = nil, d
		a = &made
	} else if !ask.any() {
		return a, sent // the body is everybody's
	}
	if a.Document == nil || len(a.Document.Body) <= longAnswer {
		return a, sent
	}
	select {
	case s.long <- struct{}{}:
		return a, func() { <-s.long }
	default:
		return resource.Fail(message.TemporarilyUnavailable()), sent
	}
}
