package event

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/resource"
)

// The event formats and delivery retry policies (schema EventDestination).
const (
	formatEvent  = "Event"
	formatReport = "MetricReport"

	terminate    = "TerminateAfterRetries"
	suspend      = "SuspendRetries"
	retryForever = "RetryForever"
	retryBackoff = "RetryForeverWithBackoff"
)

func policies() []string { return []string{terminate, suspend, retryForever, retryBackoff} }

// A target is what is kept of a subscription.
type target struct {
	Destination string   `json:"destination"`
	Context     string   `json:"context"`
	Filter      Filter   `json:"filter"`
	Headers     []Header `json:"headers,omitempty"`
	Verify      bool     `json:"verify,omitempty"`
	Policy      string   `json:"policy"`
	Suspended   bool     `json:"suspended,omitempty"`
	// Owner is the user who made it.
	Owner string `json:"owner"`
}

// A Header is sent with each post. It may be a secret.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A subscription is an EventDestination. The service's lock guards it, but for
// what never changes.
type subscription struct {
	id     string
	target target
	cursor Position // what was taken last
	kept   Position // cursor as it is in the store

	changing sync.Mutex // one change at a time; taken before the service's lock

	// Of a stream: what it wants, and what ends it when it is closed.
	stream matcher
	ended  chan struct{}

	// Of a destination: whether a post runs, what ends it, how many failed in a
	// row, and when to try again.
	busy   bool
	cancel func()
	fails  int64
	due    time.Time
	told   bool // that it fails
}

func (sub *subscription) isPush() bool { return sub.stream == nil }

func (sub *subscription) uri() string { return resource.SubscriptionsURI + "/" + sub.id }

// errFull: there are as many subscriptions as there may be.
var errFull = errors.New("too many subscriptions")

// subscribe adds a subscription that gets what comes after from; nil: from now
// on. A destination is kept over restarts.
func (s *Service) subscribe(sub *subscription, from *Position) error {
	sub.id = strings.ToLower(rand.Text()[:12])
	s.mu.Lock()
	n, limit := 0, maxStreams
	if sub.isPush() {
		limit = maxPushes
	}
	for _, other := range s.subs {
		if other.isPush() == sub.isPush() {
			n++
		}
	}
	if n >= limit {
		s.mu.Unlock()
		return errFull
	}
	sub.cursor = s.buffer.head
	if from != nil && from.compare(sub.cursor) < 0 {
		sub.cursor = *from
	}
	sub.kept = sub.cursor
	s.subs[sub.id] = sub
	kept, begin := sub.target, sub.cursor
	s.mu.Unlock()
	if !sub.isPush() {
		return nil
	}
	// Where it begins is kept with it, so that a crash loses nothing after.
	err := s.opt.Store.Update(func(t store.Tx) error {
		return t.Put(cursorBucket, []byte(sub.id), []byte(begin.String()))
	})
	if err == nil {
		err = s.save(sub.id, kept)
	}
	if err != nil {
		s.remove(sub)
		return fmt.Errorf("keeping a subscription: %w", err)
	}
	return nil
}

// save keeps a destination.
func (s *Service) save(id string, t target) error {
	return s.opt.Store.PutJSON(subBucket, id, t)
}

// remove takes a subscription out of the service, and ends its post or stream.
// false: it was out already.
func (s *Service) remove(sub *subscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[sub.id] != sub {
		return false
	}
	delete(s.subs, sub.id)
	if sub.cancel != nil {
		sub.cancel()
	}
	if sub.ended != nil {
		close(sub.ended)
	}
	return true
}

// unsubscribe removes a subscription for good. false: somebody else did.
func (s *Service) unsubscribe(sub *subscription, from host.Origin, why string) (bool, error) {
	if !sub.isPush() {
		return s.remove(sub), nil
	}
	err := s.opt.Store.Update(func(t store.Tx) error {
		return errors.Join(t.Delete(subBucket, []byte(sub.id)), t.Delete(cursorBucket, []byte(sub.id)))
	})
	if err != nil {
		return false, fmt.Errorf("removing a subscription: %w", err)
	}
	if !s.remove(sub) {
		return false, nil
	}
	s.tell("subscription.removed", host.OK, from, fmt.Sprintf("The event subscription %s %s.", sub.id, why))
	return true, nil
}

// tell logs what happened to a subscription.
func (s *Service) tell(kind string, severity host.Severity, from host.Origin, text string) {
	s.opt.Events.Add(host.Event{Kind: kind, Severity: severity, Origin: from, Message: text})
}

// change changes what is kept of a subscription, and with it, under the lock, what
// then changes.
func (s *Service) change(sub *subscription, f func(*target), then func()) error {
	sub.changing.Lock()
	defer sub.changing.Unlock()
	s.mu.Lock()
	t := sub.target
	s.mu.Unlock()
	f(&t)
	if sub.isPush() {
		if err := s.save(sub.id, t); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sub.target = t
	then()
	s.nudge()
	return nil
}

// setSuspended stops or continues posts; since says from when on events that
// waited are still to be sent.
func (s *Service) setSuspended(sub *subscription, suspended bool, since time.Time, from host.Origin) error {
	err := s.change(sub, func(t *target) { t.Suspended = suspended }, func() {
		sub.fails, sub.due, sub.told = 0, time.Time{}, false
		if !suspended {
			s.skip(sub, since)
		}
	})
	if err != nil {
		return err
	}
	if suspended {
		s.tell("subscription.suspended", host.OK, from, fmt.Sprintf("The event subscription %s was suspended.", sub.id))
	} else {
		s.tell("subscription.resumed", host.OK, from, fmt.Sprintf("The event subscription %s was resumed.", sub.id))
	}
	return nil
}

// skip leaves out what is older than since. The lock is held.
func (s *Service) skip(sub *subscription, since time.Time) {
	for {
		items, _ := s.buffer.since(sub.cursor, 1)
		if len(items) == 0 || !items[0].added.Before(since) {
			return
		}
		sub.cursor = items[0].at
	}
}
