package event

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
)

const (
	// maxPosts run at once; of them maxRetries to destinations that failed
	// before, so that dead ones do not take the places of those that live.
	maxPosts   = 16
	maxRetries = 8
	// postLimit bounds one post.
	postLimit = 10 * time.Second
	// maxBackoff is the longest time between two attempts.
	maxBackoff = time.Hour
)

// errRefused: the destination answered, but did not take the events.
var errRefused = errors.New("refused")

// newClient makes a client for posts. It goes where a subscription says and
// nowhere else: by no proxy, and after no redirect.
func newClient(t *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: t, ForceAttemptHTTP2: true, MaxIdleConns: maxPosts, MaxIdleConnsPerHost: maxPosts,
			IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: postLimit, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       postLimit,
	}
}

// hand hands out posts until ctx ends.
func (s *Service) hand(ctx context.Context, wg *sync.WaitGroup) error {
	defer s.verified.CloseIdleConnections()
	defer s.any.CloseIdleConnections()
	for {
		var due <-chan time.Time
		if next := s.begin(ctx, wg); !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-s.turn:
		case <-due:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// begin starts a post to each destination that has something to get, as far as
// there are places, and says when to look again; zero: when something happens.
func (s *Service) begin(ctx context.Context, wg *sync.WaitGroup) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.conf.Enabled {
		return next
	}
	retries := 0
	for _, sub := range s.subs {
		if sub.busy && sub.fails > 0 {
			retries++
		}
	}
	now := time.Now()
	for _, sub := range s.subs { // in no order: nobody is always the last
		switch {
		case s.posts == maxPosts:
			return next
		case !sub.isPush() || sub.busy || sub.target.Suspended || sub.cursor == s.buffer.head:
			continue
		case sub.due.After(now):
			if next.IsZero() || sub.due.Before(next) {
				next = sub.due
			}
			continue
		case sub.fails > 0 && retries == maxRetries:
			continue
		case sub.fails > 0:
			retries++
		}
		post, cancel := context.WithCancel(ctx)
		sub.busy, sub.cancel = true, cancel
		s.posts++
		wg.Go(func() {
			s.deliver(post, sub)
			cancel()
		})
	}
	return next
}

// deliver sends a subscription's next payload.
func (s *Service) deliver(ctx context.Context, sub *subscription) {
	p := s.next(sub)
	var err error
	if p.body != nil {
		err = s.post(ctx, sub, p.body)
	}
	s.mu.Lock()
	sub.busy, sub.cancel = false, nil
	s.posts--
	s.nudge()
	if ctx.Err() != nil || s.subs[sub.id] != sub {
		s.mu.Unlock() // it was stopped; what it sent may be sent again
		return
	}
	if err == nil {
		if p.upto.compare(sub.cursor) > 0 { // else it was resumed further on meanwhile
			sub.cursor = p.upto
		}
		again := sub.told && p.body != nil
		if p.body != nil {
			sub.fails, sub.due, sub.told = 0, time.Time{}, false
		}
		s.mu.Unlock()
		if again {
			s.tell("subscription.resumed", host.OK, host.Origin{}, fmt.Sprintf("The destination of the event subscription %s takes events again.", sub.id))
		}
		return
	}
	sub.fails++
	policy, over, told := sub.target.Policy, sub.fails > s.conf.Attempts, sub.told
	wait := time.Duration(s.conf.Interval) * time.Second
	if policy == retryBackoff {
		wait = min(wait<<min(sub.fails-1, 10), maxBackoff)
	}
	sub.due, sub.told = time.Now().Add(wait), told || over
	s.mu.Unlock()
	// Who may subscribe learns nothing here of a network behind the board.
	s.opt.Log.Debug("events not delivered", "subscription", sub.id, "error", err)
	if !over || told {
		return
	}
	s.tell("subscription.failed", host.Warning, host.Origin{}, fmt.Sprintf("The destination of the event subscription %s does not take events.", sub.id))
	switch policy {
	case terminate:
		_, err = s.unsubscribe(sub, host.Origin{}, "was ended, as its destination does not take events")
	case suspend:
		err = s.setSuspended(sub, true, time.Time{}, host.Origin{})
	default:
		return
	}
	if err != nil {
		s.opt.Log.Error("subscription not ended", "subscription", sub.id, "error", err)
	}
}

// post sends one payload.
func (s *Service) post(ctx context.Context, sub *subscription, body []byte) (err error) {
	s.mu.Lock()
	t := sub.target
	s.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Destination, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, h := range t.Headers {
		req.Header.Add(h.Name, h.Value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OData-Version", "4.0")
	req.Header.Set("User-Agent", "nitrino")
	c := s.any
	if t.Verify {
		c = s.verified
	}
	answer, err := c.Do(req)
	if err != nil {
		return err
	}
	// A short answer is read, so that the connection can be used again; nobody
	// wants to know what a long one says.
	_, readErr := io.CopyN(io.Discard, answer.Body, 4<<10)
	if errors.Is(readErr, io.EOF) {
		readErr = nil
	}
	closeErr := answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return fmt.Errorf("%w: status %d", errRefused, answer.StatusCode)
	}
	if readErr != nil || closeErr != nil {
		s.opt.Log.Debug("a destination's answer", "subscription", sub.id, "error", errors.Join(readErr, closeErr))
	}
	return nil
}
