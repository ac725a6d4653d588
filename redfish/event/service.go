package event

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	serviceType     = "EventService.v1_12_0.EventService"
	collectionType  = "EventDestinationCollection.EventDestinationCollection"
	destinationType = "EventDestination.v1_16_0.EventDestination"

	submitAction = "EventService.SubmitTestEvent"
	testAction   = "EventService.TestEventSubscription"
	submitURI    = resource.EventServiceURI + "/Actions/" + submitAction
	testURI      = resource.EventServiceURI + "/Actions/" + testAction
)

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	one := resource.SubscriptionsURI + "/{id}"
	return []resource.Route{
		{Pattern: resource.EventServiceURI, Type: serviceType, Get: s.getService, Patch: s.patchService},
		{Pattern: submitURI, Type: serviceType, Action: submitAction, Post: s.postSubmit},
		{Pattern: testURI, Type: serviceType, Action: testAction, Post: s.postTest},
		{Pattern: streamURI, Type: serviceType, Stream: true, Get: s.getStream},
		{Pattern: resource.SubscriptionsURI, Type: collectionType, Get: s.getDestinations, Post: s.postDestination},
		{Pattern: one, Type: destinationType, Get: s.getDestination, Patch: s.patchDestination, Delete: s.deleteDestination},
		{Pattern: one + "/Actions/" + suspendAction, Type: destinationType, Action: suspendAction, Post: s.postSuspend},
		{Pattern: one + "/Actions/" + resumeAction, Type: destinationType, Action: resumeAction, Post: s.postResume},
	}
}

type eventService struct {
	resource.OData
	ServiceEnabled       bool            `json:"ServiceEnabled"`
	Status               resource.Status `json:"Status"`
	RetryAttempts        int64           `json:"DeliveryRetryAttempts"`
	RetryInterval        int64           `json:"DeliveryRetryIntervalSeconds"`
	Formats              []string        `json:"EventFormatTypes"`
	RegistryPrefixes     []string        `json:"RegistryPrefixes"`
	ResourceTypes        []string        `json:"ResourceTypes"`
	Severities           []string        `json:"Severities"`
	ExcludeMessageID     bool            `json:"ExcludeMessageId"`
	ExcludeRegistry      bool            `json:"ExcludeRegistryPrefix"`
	IncludesOrigin       bool            `json:"IncludeOriginOfConditionSupported"`
	StreamIncludesOrigin bool            `json:"SSEIncludeOriginOfConditionSupported"`
	OriginResources      bool            `json:"OriginResourcesSupported"`
	Subordinates         bool            `json:"SubordinateResourcesSupported"`
	StreamURI            string          `json:"ServerSentEventUri"`
	StreamFilters        streamFilters   `json:"SSEFilterPropertiesSupported"`
	Subscriptions        resource.Link   `json:"Subscriptions"`
	Actions              serviceActions  `json:"Actions"`
}

// streamFilters leaves out EventType, which is deprecated.
type streamFilters struct {
	EventFormatType        bool `json:"EventFormatType"`
	MessageID              bool `json:"MessageId"`
	MetricReportDefinition bool `json:"MetricReportDefinition"`
	OriginResource         bool `json:"OriginResource"`
	RegistryPrefix         bool `json:"RegistryPrefix"`
	ResourceType           bool `json:"ResourceType"`
	SubordinateResources   bool `json:"SubordinateResources"`
}

type serviceActions struct {
	Submit submitDescription `json:"#EventService.SubmitTestEvent"`
	Test   resource.Action   `json:"#EventService.TestEventSubscription"`
}

type submitDescription struct {
	Target     string   `json:"target"`
	EventTypes []string `json:"EventType@Redfish.AllowableValues"`
	Severities []string `json:"MessageSeverity@Redfish.AllowableValues"`
}

func severities() []string { return []string{message.OK, message.Warning, message.Critical} }

func (s *Service) formats() []string {
	if s.opt.MetricReports {
		return []string{formatEvent, formatReport}
	}
	return []string{formatEvent}
}

// resourceTypes are the schemas of what events are about: what originOf tells, and
// what clients and tasks change.
func resourceTypes() []string {
	return []string{"AccountService", "Certificate", "Chassis", "ComputerSystem", "Connection", "Control", "EthernetInterface", "EventDestination", "EventService",
		"Fabric", "LogService", "Manager", "ManagerAccount", "ManagerNetworkProtocol", "MetricReportDefinition", "Sensor", "SerialInterface", "Session",
		"SessionService", "Storage", "Task", "TaskService", "TelemetryService", "UpdateService", "VirtualMedia", "Volume"}
}

func (s *Service) getService(*resource.Request) *resource.Reply {
	s.mu.Lock()
	c := s.conf
	s.mu.Unlock()
	status := resource.Enabled()
	if !c.Enabled {
		status = resource.Disabled()
	}
	return resource.OK(eventService{
		OData:          resource.NewOData(resource.EventServiceURI, serviceType, "Event Service"),
		ServiceEnabled: c.Enabled, Status: status, RetryAttempts: c.Attempts, RetryInterval: c.Interval,
		Formats: s.formats(), RegistryPrefixes: registryNames(), ResourceTypes: resourceTypes(), Severities: severities(),
		ExcludeMessageID: true, ExcludeRegistry: true, OriginResources: true, Subordinates: true,
		StreamURI: streamURI, StreamFilters: streamFilters{true, true, s.opt.MetricReports, true, true, true, true},
		Subscriptions: resource.Link{ODataID: resource.SubscriptionsURI},
		Actions: serviceActions{
			Submit: submitDescription{submitURI, eventTypes(), severities()},
			Test:   resource.Action{Target: testURI},
		},
	})
}

func (s *Service) patchService(q *resource.Request) *resource.Reply {
	set := func(name string, f func(*config)) []message.Message {
		if err := s.configure(f); err != nil {
			s.opt.Log.Error("event service not changed", "error", err)
			return []message.Message{message.PropertyNotUpdated(name)}
		}
		return nil
	}
	return resource.Patch(q, s.getService,
		resource.Bool("ServiceEnabled", func(on bool) []message.Message {
			return set("ServiceEnabled", func(c *config) { c.Enabled = on })
		}),
		resource.Integer("DeliveryRetryAttempts", 0, 1000, func(n int64) []message.Message {
			return set("DeliveryRetryAttempts", func(c *config) { c.Attempts = n })
		}),
		resource.Integer("DeliveryRetryIntervalSeconds", 1, 86400, func(n int64) []message.Message {
			return set("DeliveryRetryIntervalSeconds", func(c *config) { c.Interval = n })
		}))
}

// configure changes the service's properties for good. Without the service there
// are no streams (EventService, ServiceEnabled).
func (s *Service) configure(f func(*config)) error {
	s.mu.Lock()
	c := s.conf
	s.mu.Unlock()
	f(&c)
	if err := s.opt.Store.PutJSON(configBucket, configKey, c); err != nil {
		return err
	}
	s.mu.Lock()
	s.conf = c
	var ended []*subscription
	for _, sub := range s.subs {
		if !sub.isPush() && !c.Enabled {
			ended = append(ended, sub)
		}
	}
	s.nudge()
	s.mu.Unlock()
	for _, sub := range ended {
		s.remove(sub)
	}
	return nil
}

// messageID is the pattern that a test event's MessageId has to match.
const messageID = `^\w+\.\d+\.\d+\.\w+$`

// formed is a text of a certain form.
func formed(name string, ok func(string) bool, to *string) resource.Parameter {
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		text, isString := value.(string)
		if !isString {
			return resource.WrongType(value, name, action)
		}
		if len(text) > maxText || !ok(text) {
			return resource.BadFormat(text, name, action)
		}
		*to = text
		return nil
	}}
}

// postSubmit makes an event as the client wants it.
func (s *Service) postSubmit(q *resource.Request) *resource.Reply {
	r := record{EventType: typeOther}
	var origin, severity string
	group := int64(-1)
	isID := regexp.MustCompile(messageID).MatchString
	isTime := func(text string) bool { _, err := time.Parse(time.RFC3339, text); return err == nil }
	isURI := func(text string) bool { return strings.HasPrefix(text, "/redfish/v1") }
	problems := q.Parameters(submitAction,
		resource.Required(formed("MessageId", isID, &r.MessageID)),
		formed("EventId", anyText, &r.EventID),
		formed("EventTimestamp", isTime, &r.Timestamp),
		resource.Word("EventType", eventTypes(), &r.EventType),
		resource.Count("EventGroupId", 0, 1<<53, &group),
		formed("Message", anyText, &r.Message),
		list("MessageArgs", nil, &r.Args),
		resource.Word("MessageSeverity", severities(), &r.Severity),
		resource.Word("Severity", severities(), &severity), // what MessageSeverity was called before
		formed("OriginOfCondition", isURI, &origin))
	if problems != nil {
		return resource.Fail(problems...)
	}
	if r.Severity == "" {
		r.Severity = severity
	}
	if group >= 0 {
		r.Group = &group
	}
	if origin != "" {
		r.Origin = &resource.Link{ODataID: origin}
	}
	return s.test(r)
}

// postTest sends the registry's test message.
func (s *Service) postTest(q *resource.Request) *resource.Reply {
	if problems := q.Parameters(testAction); problems != nil {
		return resource.Fail(problems...)
	}
	m, eventType, _ := resourceEvent("TestMessage") // it is there
	return s.test(recordOf(m, time.Now(), eventType, resource.EventServiceURI))
}

func (s *Service) test(r record) *resource.Reply {
	s.mu.Lock()
	enabled := s.conf.Enabled
	s.mu.Unlock()
	if !enabled {
		return resource.Fail(message.ServiceDisabled(resource.EventServiceURI))
	}
	resourceType := ""
	if r.Origin != nil && r.Origin.ODataID == resource.EventServiceURI {
		resourceType = "EventService"
	}
	s.add(r, resourceType)
	return &resource.Reply{Status: http.StatusNoContent}
}

// failed is for what should not happen; the log says what it was.
func (s *Service) failed(err error) *resource.Reply {
	if errors.Is(err, errFull) {
		return resource.Fail(message.EventSubscriptionLimitExceeded())
	}
	s.opt.Log.Error("event subscription", "error", err)
	return resource.Fail(message.InternalError())
}
