// Package event is Redfish's EventService (DSP0266, Eventing): it sends the
// events of the log, changes of resources and metric reports to the destinations
// that clients name, and on streams that they hold open.
//
// All wait in one buffer, in which each subscriber has only a position: memory
// is the same however many there are and however slow they are. Who falls behind
// loses the oldest, and is told.
package event

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Users is what the service needs of package auth: a stream ends when its user may
// no longer come in as when it began.
type Users interface {
	User(name string) (auth.User, bool)
	// Changed is closed at the next change of any user.
	Changed() <-chan struct{}
}

// Options are what a Service is made of. Events, Store, Users and Log are
// required.
type Options struct {
	Events *host.Events
	Store  *store.Store
	Users  Users
	Log    *slog.Logger
	// Roots are the authorities that destinations' certificates are checked
	// against; nil: the system's.
	Roots *x509.CertPool
	// Origin is the URI of the resource that an event is about; nil, or "":
	// there is none.
	Origin func(host.Event) string
	// LogEntry is the URI of an event's log entry; nil, or "": it has none.
	LogEntry func(host.Event) string
	// MetricReports: there are such to send.
	MetricReports bool
}

// Service is the chapter.
type Service struct {
	opt      Options
	verified *http.Client
	any      *http.Client // who asked for no verification

	mu     sync.Mutex
	conf   config
	buffer buffer
	subs   map[string]*subscription
	posts  int // running
	// grew is closed, and made anew, when the buffer grew.
	grew chan struct{}
	// turn wakes who hands out posts.
	turn chan struct{}
}

// config is what is kept of the service's own properties.
type config struct {
	Enabled bool `json:"enabled"`
	// Attempts are those after the first; Interval is in seconds.
	Attempts int64 `json:"attempts"`
	Interval int64 `json:"interval"`
}

// What is kept, and where.
const (
	configBucket  = "event-service"
	configKey     = "config"
	subBucket     = "subscriptions"
	cursorBucket  = "subscription-positions"
	maxPushes     = 1000
	maxStreams    = 64
	batchItems    = 32
	saveCursors   = 30 * time.Second
	defaultTries  = 3
	defaultPeriod = 30
)

// New makes the service with the subscriptions that are kept. One that cannot be
// read is left out, and the log says so.
func New(o Options) (*Service, error) {
	s := &Service{opt: o, verified: newClient(&tls.Config{RootCAs: o.Roots}), any: newClient(&tls.Config{InsecureSkipVerify: true}),
		conf: config{Enabled: true, Attempts: defaultTries, Interval: defaultPeriod},
		subs: map[string]*subscription{}, grew: make(chan struct{}), turn: make(chan struct{}, 1)}
	if _, err := o.Store.GetJSON(configBucket, configKey, &s.conf); err != nil {
		o.Log.Warn("the event service begins with its defaults", "error", err)
	}
	// What was logged while nobody could be told, the last start included, is
	// for who was subscribed then.
	last := o.Events.Last()
	kept := o.Events.Since(0, 0)
	kept = kept[max(0, len(kept)-maxItems):]
	s.buffer.begin(last)
	if len(kept) > 0 {
		s.buffer.begin(kept[0].ID - 1)
	}
	s.append(kept)
	// A crash may have left out numbers after the newest.
	s.buffer.head.Log = max(s.buffer.head.Log, last)
	return s, s.load()
}

// load reads the subscriptions.
func (s *Service) load() error {
	positions := map[string]Position{}
	return s.opt.Store.View(func(t store.Tx) error {
		err := t.Each(cursorBucket, func(k, v []byte) error {
			p, err := parsePosition(string(v))
			if err != nil {
				s.opt.Log.Warn("a subscription's position cannot be read", "subscription", string(k), "error", err)
				return nil
			}
			positions[string(k)] = p
			return nil
		})
		if err != nil {
			return err
		}
		return t.Each(subBucket, func(k, v []byte) error {
			sub := &subscription{id: string(k), cursor: s.buffer.head, kept: s.buffer.head}
			if err := json.Unmarshal(v, &sub.target); err != nil {
				s.opt.Log.Warn("a subscription cannot be read", "subscription", sub.id, "error", err)
				return nil
			}
			// What was counted and never logged is forgotten with a crash.
			if p, found := positions[sub.id]; found && p.compare(sub.cursor) < 0 {
				sub.cursor, sub.kept = p, p
			}
			s.subs[sub.id] = sub
			return nil
		})
	})
}

// Run sends events until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.follow(ctx) })
	wg.Go(func() { s.keep(ctx) })
	return s.hand(ctx, &wg)
}

// follow takes up what is logged.
func (s *Service) follow(ctx context.Context) {
	for {
		s.mu.Lock()
		last := s.buffer.head.Log
		s.mu.Unlock()
		if s.opt.Events.Wait(ctx, last) != nil || ctx.Err() != nil {
			return
		}
		events := s.opt.Events.Since(last, 256)
		if len(events) > 0 && events[0].ID > last+1 {
			s.mu.Lock()
			s.buffer.begin(events[0].ID - 1) // the log has let go of some
			s.mu.Unlock()
		}
		s.append(events)
	}
}

// append puts events of the log into the buffer.
func (s *Service) append(events []host.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		i, err := s.logged(e)
		if err != nil {
			s.opt.Log.Error("event not sent", "event", e.ID, "error", err)
			s.buffer.head = Position{Log: e.ID}
			continue
		}
		s.buffer.add(i)
	}
	s.wake()
}

// wake tells everybody that there is something new. The lock is held.
func (s *Service) wake() {
	close(s.grew)
	s.grew = make(chan struct{})
	s.nudge()
}

// nudge wakes who hands out posts.
func (s *Service) nudge() {
	select {
	case s.turn <- struct{}{}:
	default: // it is awake
	}
}

// add puts what is in no log into the buffer.
func (s *Service) add(r record, resourceType string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.buffer.head
	at.Extra++
	i, err := newItem(at, r, resourceType)
	if err != nil {
		s.opt.Log.Error("event not sent", "error", err)
		return
	}
	s.buffer.add(i)
	s.wake()
}

// Changed makes an event of a change of a resource: kind is a key of the registry
// ResourceEvent (ResourceCreated, ResourceChanged, ResourceRemoved), odataType
// the resource's @odata.type, or empty.
func (s *Service) Changed(kind, uri, odataType string) {
	m, eventType, found := resourceEvent(kind)
	if !found {
		s.opt.Log.Error("no such message", "registry", resourceName, "key", kind)
		return
	}
	s.add(recordOf(m, time.Now(), eventType, uri), typeName(odataType))
}

// typeName is the schema's name: "Task" of "#Task.v1_2_0.Task".
func typeName(odataType string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(odataType, "#"), ".")
	return name
}

// Task makes an event of a change of a task: key and args are of the registry
// TaskEvent, uri is the task's.
func (s *Service) Task(key string, args []string, uri string) {
	m, found := taskEvent(key, args...)
	if !found {
		s.opt.Log.Error("no such message", "registry", taskName, "key", key)
		return
	}
	s.add(recordOf(m, time.Now(), typeStatus, uri), "Task")
}

// Report sends a metric report, a resource of schema MetricReport; definition is
// the URI of its MetricReportDefinition.
func (s *Service) Report(definition string, report resource.Typed) error {
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encoding a metric report: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.buffer.head
	at.Extra++
	s.buffer.add(&item{at: at, eventType: typeReport, report: definition, resourceType: typeName(resource.TypeOf(report)), body: body})
	s.wake()
	return nil
}

// A payload is what a subscriber gets at a time.
type payload struct {
	body []byte // nil: nothing of what came was for the subscriber
	upto Position
	// more: something may follow at once.
	more bool
}

// next makes the next payload for a subscription. The lock is not held.
func (s *Service) next(sub *subscription) payload {
	s.mu.Lock()
	items, lost := s.buffer.since(sub.cursor, batchItems)
	items = append([]*item(nil), items...)
	upto, target := sub.cursor, sub.target
	if lost && s.buffer.lost.compare(upto) > 0 {
		upto = s.buffer.lost
	}
	s.mu.Unlock()

	wants := sub.stream
	if sub.isPush() {
		wants = target.Filter.matches
	}
	p := payload{upto: upto, more: len(items) == batchItems}
	var records [][]byte
	if lost && !target.Filter.MetricReports {
		if i, err := s.exceeded(sub, upto); err == nil {
			records = append(records, i.body)
		}
	}
	for n, i := range items {
		if !wants(i) {
			p.upto = i.at
			continue
		}
		if i.report != "" {
			if len(records) > 0 {
				// It goes by itself, after what came before it.
				p.more = true
				break
			}
			p.upto, p.more, p.body = i.at, p.more || n < len(items)-1, withContext(i.body, target.Context)
			return p
		}
		p.upto = i.at
		records = append(records, i.body)
	}
	if len(records) > 0 {
		p.body = eventBody(p.upto.String(), target.Context, records)
	}
	return p
}

// exceeded is what is sent first where events were lost.
func (s *Service) exceeded(sub *subscription, at Position) (*item, error) {
	return newItem(at, recordOf(message.EventBufferExceeded(), time.Now(), typeOther, sub.uri()), "EventDestination")
}

// withContext puts a subscription's context into a JSON object that has members.
func withContext(body []byte, context string) []byte {
	head := append([]byte(`{"Context":`), quoted(context)...)
	return append(append(head, ','), body[1:]...)
}

func quoted(s string) []byte {
	q, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`) // a string never fails
	}
	return q
}

// eventBody is an Event (schema Event) with those records.
func eventBody(id, context string, records [][]byte) []byte {
	b := []byte(`{"@odata.type":"` + eventSchema + `","Id":"` + id + `","Name":"Events","Context":`)
	b = append(append(b, quoted(context)...), `,"Events":[`...)
	for n, r := range records {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"MemberId":"`+strconv.Itoa(n)+`",`...)
		b = append(b, r[1:]...)
	}
	return append(b, "]}"...)
}

// keep writes now and then how far subscribers are, and at the end.
func (s *Service) keep(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-time.After(saveCursors):
		case <-ctx.Done():
		}
		if err := s.saveCursors(); err != nil {
			s.opt.Log.Error("positions of subscriptions not kept", "error", err)
		}
	}
}

func (s *Service) saveCursors() error {
	s.mu.Lock()
	moved := map[string]Position{}
	for id, sub := range s.subs {
		if sub.isPush() && sub.kept != sub.cursor {
			moved[id] = sub.cursor
		}
	}
	s.mu.Unlock()
	if len(moved) == 0 {
		return nil
	}
	err := s.opt.Store.Update(func(t store.Tx) error {
		var errs []error
		for id, p := range moved {
			errs = append(errs, t.Put(cursorBucket, []byte(id), []byte(p.String())))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range moved {
		if sub := s.subs[id]; sub != nil {
			sub.kept = p
		}
	}
	return nil
}
