package event

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// eventSchema is that of what subscribers get.
const eventSchema = "#Event.v1_11_0.Event"

// A record is one of Event's Events, without MemberId, which is different for
// each subscriber.
type record struct {
	// EventType is deprecated, and required all the same.
	EventType  string         `json:"EventType"`
	EventID    string         `json:"EventId,omitempty"`
	Timestamp  string         `json:"EventTimestamp,omitempty"`
	Group      *int64         `json:"EventGroupId,omitempty"`
	MessageID  string         `json:"MessageId"`
	Message    string         `json:"Message,omitempty"`
	Args       []string       `json:"MessageArgs,omitempty"`
	Severity   string         `json:"MessageSeverity,omitempty"`
	Resolution string         `json:"Resolution,omitempty"`
	Origin     *resource.Link `json:"OriginOfCondition,omitempty"`
	LogEntry   *resource.Link `json:"LogEntry,omitempty"`
	User       string         `json:"Username,omitempty"`
}

// The event types (schema Event, EventType).
const (
	typeAlert   = "Alert"
	typeAdded   = "ResourceAdded"
	typeRemoved = "ResourceRemoved"
	typeUpdated = "ResourceUpdated"
	typeStatus  = "StatusChange"
	typeReport  = "MetricReport"
	typeOther   = "Other"
)

func eventTypes() []string {
	return []string{typeAlert, typeAdded, typeRemoved, typeUpdated, typeStatus, typeReport, typeOther}
}

// newItem makes an item of a record and the type of its origin.
func newItem(at Position, r record, resourceType string) (*item, error) {
	if r.EventID == "" {
		r.EventID = at.String()
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	i := &item{at: at, severity: r.Severity, eventType: r.EventType, resourceType: resourceType, body: body}
	i.registry, i.key = splitID(r.MessageID)
	if r.Origin != nil {
		i.origin = r.Origin.ODataID
	}
	return i, nil
}

// recordOf is a message as an event.
func recordOf(m message.Message, at time.Time, eventType, origin string) record {
	r := record{EventType: eventType, Timestamp: at.UTC().Format(time.RFC3339Nano),
		MessageID: m.ID, Message: m.Text, Args: m.Args, Severity: m.Severity, Resolution: m.Resolution}
	if origin != "" {
		r.Origin = &resource.Link{ODataID: origin}
	}
	return r
}

// splitID takes a MessageId apart: its versions do not count in filters
// (EventDestination, MessageIds).
func splitID(id string) (registry, key string) {
	first, last := strings.IndexByte(id, '.'), strings.LastIndexByte(id, '.')
	if first < 0 {
		return "", id
	}
	return id[:first], id[last+1:]
}

// logged makes an item of an event of the log.
func (s *Service) logged(e host.Event) (*item, error) {
	origin, resourceType := s.originOf(e)
	eventType := typeStatus
	if e.Severity != host.OK {
		eventType = typeAlert
	}
	r := recordOf(message.Of(e), e.Time, eventType, origin)
	r.EventID, r.User = strconv.FormatUint(e.ID, 10), e.Origin.User
	if s.opt.LogEntry != nil {
		if uri := s.opt.LogEntry(e); uri != "" {
			r.LogEntry = &resource.Link{ODataID: uri}
		}
	}
	return newItem(Position{Log: e.ID}, r, resourceType)
}

// originOf finds the resource that an event is about, and its type.
func (s *Service) originOf(e host.Event) (uri, resourceType string) {
	if s.opt.Origin != nil {
		uri = s.opt.Origin(e)
	}
	switch {
	case strings.HasPrefix(uri, resource.SensorsURI+"/"):
		return uri, "Sensor"
	case uri == resource.SystemURI:
		return uri, "ComputerSystem"
	case uri == resource.ManagerURI:
		return uri, "Manager"
	case uri == resource.AccountServiceURI:
		return uri, "AccountService"
	case uri == resource.EventServiceURI:
		return uri, "EventService"
	case uri == resource.UpdateServiceURI:
		return uri, "UpdateService"
	case uri == resource.StorageURI:
		return uri, "Storage"
	case uri == resource.ISCSIFabricURI:
		return uri, "Fabric"
	}
	return uri, ""
}
