// Package log is Redfish's LogService: views of the one event log, each with a
// mark of its own up to which it was cleared.
package log

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Options are what New needs. All but Show, Origin and Purposes are required.
type Options struct {
	// URI is that of the LogServices collection, and Under the entity that it
	// belongs to: "ComputerSystem", "Manager".
	URI, Under string
	// ID and Name are the one service's.
	ID, Name string
	// Purposes are of LogService's LogPurpose.
	Purposes []string
	Events   *host.Events
	// Show says which events are in this log; nil: all.
	Show func(host.Event) bool
	// Origin is the URI of the resource that an event is about, "" where there
	// is none.
	Origin func(host.Event) string
	// Store keeps the mark.
	Store *store.Store
	Log   *slog.Logger
}

// Service is the chapter.
type Service struct {
	Options
	uri string

	clearing sync.Mutex // one ClearLog at a time, the disk included

	mu   sync.Mutex
	mark uint64 // events up to this ID were cleared
}

const (
	servicesType = "LogServiceCollection.LogServiceCollection"
	serviceType  = "LogService.v1_9_0.LogService"
	entriesType  = "LogEntryCollection.LogEntryCollection"
	entryType    = "LogEntry.v1_21_0.LogEntry"
	clearName    = "LogService.ClearLog"

	markBucket = "redfish-log"
)

// New makes it, with the mark that is kept.
func New(o Options) (*Service, error) {
	s := &Service{Options: o, uri: o.URI + "/" + o.ID}
	if _, err := o.Store.GetJSON(markBucket, s.markKey(), &s.mark); err != nil {
		// Better old entries than none: a log that cannot be read is no reason
		// not to start.
		o.Log.Error("it is not known up to where the log was cleared", "log", s.uri, "error", err)
		s.mark = 0
	}
	// A crash may lose more events than IDs were reserved for; the log goes on
	// from there.
	s.mark = min(s.mark, o.Events.Last())
	return s, nil
}

// markKey names the log, whatever its URI.
func (s *Service) markKey() string { return s.Under + "/" + s.ID }

func (s *Service) entriesURI() string { return s.uri + "/Entries" }

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	return []resource.Route{
		{Pattern: s.URI, Type: servicesType, Under: s.Under, Get: s.getServices},
		{Pattern: s.uri, Type: serviceType, Under: s.Under, Get: s.getService},
		{Pattern: s.clearURI(), Type: serviceType, Under: s.Under, Action: clearName, Post: s.postClear},
		{Pattern: s.entriesURI(), Type: entriesType, Under: s.Under, Get: s.getEntries},
		{Pattern: s.entriesURI() + "/{id}", Type: entryType, Under: s.Under, Get: s.getEntry},
	}
}

func (s *Service) clearURI() string { return s.uri + "/Actions/" + clearName }

type service struct {
	resource.OData
	ServiceEnabled      bool            `json:"ServiceEnabled"`
	LogEntryType        string          `json:"LogEntryType"`
	LogPurposes         []string        `json:"LogPurposes,omitempty"`
	MaxNumberOfRecords  int             `json:"MaxNumberOfRecords"`
	OverWritePolicy     string          `json:"OverWritePolicy"`
	Persistency         bool            `json:"Persistency"`
	DateTime            string          `json:"DateTime,omitempty"`
	DateTimeLocalOffset string          `json:"DateTimeLocalOffset"`
	Status              resource.Status `json:"Status"`
	Entries             resource.Link   `json:"Entries"`
	Actions             serviceActions  `json:"Actions"`
}

type serviceActions struct {
	Clear resource.Action `json:"#LogService.ClearLog"`
}

// Settled implements resource.Settled.
func (r service) Settled() resource.Typed {
	r.DateTime = ""
	return r
}

type entry struct {
	resource.OData
	EntryType      string   `json:"EntryType"`
	Created        string   `json:"Created"`
	Severity       string   `json:"Severity"`
	Message        string   `json:"Message"`
	MessageID      string   `json:"MessageId"`
	MessageArgs    []string `json:"MessageArgs"`
	Resolution     string   `json:"Resolution"`
	EventID        string   `json:"EventId"`
	Username       string   `json:"Username,omitempty"`
	Originator     string   `json:"Originator,omitempty"`
	OriginatorType string   `json:"OriginatorType,omitempty"`
	Links          *links   `json:"Links,omitempty"`
}

type links struct {
	OriginOfCondition resource.Link `json:"OriginOfCondition"`
}

func (s *Service) getServices(*resource.Request) *resource.Reply {
	return resource.OK(resource.NewCollection(s.URI, "LogServiceCollection", "Log Service Collection", s.uri))
}

func (s *Service) getService(*resource.Request) *resource.Reply {
	return resource.OK(service{
		OData:               resource.NewOData(s.uri, serviceType, s.Name),
		ServiceEnabled:      true,
		LogEntryType:        "Event",
		LogPurposes:         s.Purposes,
		MaxNumberOfRecords:  host.MaxEvents,
		OverWritePolicy:     "WrapsWhenFull",
		Persistency:         true,
		DateTime:            time.Now().UTC().Format(time.RFC3339),
		DateTimeLocalOffset: "+00:00",
		Status:              resource.Enabled(),
		Entries:             resource.Link{ODataID: s.entriesURI()},
		Actions:             serviceActions{resource.Action{Target: s.clearURI()}},
	})
}

func (s *Service) cleared() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mark
}

// getEntries shows the entries themselves, the oldest first (schema
// LogEntryCollection: they are expanded).
func (s *Service) getEntries(*resource.Request) *resource.Reply {
	events := s.Events.Since(s.cleared(), 0)
	all := make([]entry, 0, len(events))
	for _, e := range events {
		if s.shows(e) {
			all = append(all, s.entry(e))
		}
	}
	return resource.OK(resource.NewFullCollection(s.entriesURI(), "LogEntryCollection", "Log Entry Collection", all))
}

func (s *Service) shows(e host.Event) bool { return s.Show == nil || s.Show(e) }

func (s *Service) getEntry(q *resource.Request) *resource.Reply {
	text := q.PathValue("id")
	// Only the digits as they are shown are an Id: no "+1", no "01".
	id, err := strconv.ParseUint(text, 10, 64)
	if err == nil && id > s.cleared() && strconv.FormatUint(id, 10) == text {
		if found := s.Events.Since(id-1, 1); len(found) > 0 && found[0].ID == id && s.shows(found[0]) {
			return resource.OK(s.entry(found[0]))
		}
	}
	return resource.Fail(message.ResourceNotFound("LogEntry", text))
}

func (s *Service) entry(e host.Event) entry {
	id := strconv.FormatUint(e.ID, 10)
	m := message.Of(e)
	r := entry{
		OData:       resource.NewOData(s.entriesURI()+"/"+id, entryType, "Log Entry "+id),
		EntryType:   "Event",
		Created:     e.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Severity:    m.Severity,
		Message:     m.Text,
		MessageID:   m.ID,
		MessageArgs: m.Args,
		Resolution:  m.Resolution,
		EventID:     id,
		Username:    e.Origin.User,
		Originator:  e.Origin.Source,
	}
	if r.MessageArgs == nil {
		r.MessageArgs = []string{}
	}
	if r.Originator != "" {
		r.OriginatorType = "Client"
	}
	if s.Origin != nil {
		if uri := s.Origin(e); uri != "" {
			r.Links = &links{resource.Link{ODataID: uri}}
		}
	}
	return r
}

// postClear hides all that is in the log now. LogEntriesETag, by which a client
// says what it has seen, is not known here: the tag is made of all the entries.
func (s *Service) postClear(q *resource.Request) *resource.Reply {
	if problems := q.Parameters(clearName, resource.Parameter{Name: "LogEntriesETag", Set: func(any, string) *message.Message {
		return new(message.ActionParameterNotSupported("LogEntriesETag", clearName))
	}}); problems != nil {
		return resource.Fail(problems...)
	}
	if err := s.clear(q.Origin()); err != nil {
		s.Log.Error("log not cleared", "log", s.uri, "error", err)
		return resource.Fail(message.InternalError())
	}
	return resource.NoContent()
}

func (s *Service) clear(from host.Origin) error {
	s.clearing.Lock()
	defer s.clearing.Unlock()
	mark := s.Events.Last()
	if err := s.Store.PutJSON(markBucket, s.markKey(), mark); err != nil {
		return err
	}
	s.mu.Lock()
	s.mark = mark
	s.mu.Unlock()
	s.Events.Add(host.Event{Kind: "log.cleared", Origin: from, Message: fmt.Sprintf("The %s was cleared.", s.Name)})
	return nil
}
