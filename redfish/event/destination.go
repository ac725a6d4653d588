package event

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	suspendAction = "EventDestination.SuspendSubscription"
	resumeAction  = "EventDestination.ResumeSubscription"
)

// What one subscription may ask for, so that a thousand of them find room.
const (
	maxText    = 1024
	maxList    = 64
	maxHeaders = 16
)

// destination is a subscription as GET shows it.
type destination struct {
	resource.OData
	Destination  string          `json:"Destination"`
	Protocol     string          `json:"Protocol"`
	Context      string          `json:"Context"`
	Subscription string          `json:"SubscriptionType"`
	Format       string          `json:"EventFormatType"`
	Status       resource.Status `json:"Status"`
	// RetryPolicy of a stream: one that cannot be written to is ended.
	RetryPolicy string `json:"DeliveryRetryPolicy"`
	// VerifyCertificate means nothing for a stream, nor does what is filtered
	// here: it has a filter of its own.
	VerifyCertificate *bool    `json:"VerifyCertificate,omitempty"`
	HTTPHeaders       []Header `json:"HttpHeaders"` // always empty
	IncludesOrigin    bool     `json:"IncludeOriginOfCondition"`
	*shownFilter
	Actions *destinationActions `json:"Actions,omitempty"`
}

// Settled leaves out how its posts go.
func (d destination) Settled() resource.Typed {
	d.Status.Health = ""
	return d
}

type shownFilter struct {
	RegistryPrefixes        []string        `json:"RegistryPrefixes"`
	ExcludeRegistryPrefixes []string        `json:"ExcludeRegistryPrefixes"`
	MessageIDs              []string        `json:"MessageIds"`
	ExcludeMessageIDs       []string        `json:"ExcludeMessageIds"`
	EventTypes              []string        `json:"EventTypes,omitempty"` // deprecated
	ResourceTypes           []string        `json:"ResourceTypes"`
	Severities              []string        `json:"Severities"`
	OriginResources         []resource.Link `json:"OriginResources"`
	OriginCount             int             `json:"OriginResources@odata.count"`
	SubordinateResources    bool            `json:"SubordinateResources"`
	MetricReportDefinitions []resource.Link `json:"MetricReportDefinitions,omitempty"`
}

type destinationActions struct {
	Suspend resource.Action `json:"#EventDestination.SuspendSubscription"`
	Resume  resource.Action `json:"#EventDestination.ResumeSubscription"`
}

// some is a list that is never null.
func some(list []string) []string { return append([]string{}, list...) }

func (s *Service) show(sub *subscription) destination {
	s.mu.Lock()
	t, fails := sub.target, sub.fails
	s.mu.Unlock()
	d := destination{
		OData:       resource.NewOData(sub.uri(), destinationType, "Event Subscription"),
		Destination: t.Destination, Protocol: "Redfish", Context: t.Context, Format: formatEvent, Status: resource.Enabled(), HTTPHeaders: []Header{},
	}
	if !sub.isPush() {
		d.Subscription, d.RetryPolicy = "SSE", terminate
		return d
	}
	d.Subscription, d.RetryPolicy, d.VerifyCertificate = "RedfishEvent", t.Policy, &t.Verify
	if t.Filter.MetricReports {
		d.Format = formatReport
	}
	switch {
	case t.Suspended:
		d.Status = resource.Status{State: new("Disabled"), Health: message.OK}
	case fails > 0:
		d.Status.Health = message.Warning
	}
	f := t.Filter
	d.shownFilter = &shownFilter{
		RegistryPrefixes: some(f.RegistryPrefixes), ExcludeRegistryPrefixes: some(f.ExcludeRegistryPrefixes),
		MessageIDs: some(f.MessageIDs), ExcludeMessageIDs: some(f.ExcludeMessageIDs), EventTypes: f.EventTypes,
		ResourceTypes: some(f.ResourceTypes), Severities: some(f.Severities),
		OriginResources: resource.Links(f.OriginResources...), OriginCount: len(f.OriginResources), SubordinateResources: f.SubordinateResources,
	}
	if f.MetricReportDefinitions != nil {
		d.MetricReportDefinitions = resource.Links(f.MetricReportDefinitions...)
	}
	d.Actions = &destinationActions{resource.Action{Target: sub.uri() + "/Actions/" + suspendAction}, resource.Action{Target: sub.uri() + "/Actions/" + resumeAction}}
	return d
}

func (s *Service) getDestinations(*resource.Request) *resource.Reply {
	s.mu.Lock()
	var uris []string
	for _, sub := range s.subs {
		uris = append(uris, sub.uri())
	}
	s.mu.Unlock()
	slices.Sort(uris)
	return resource.OK(resource.NewCollection(resource.SubscriptionsURI, "EventDestinationCollection", "Event Subscriptions", uris...))
}

// find finds the subscription that the request is about.
func (s *Service) find(q *resource.Request) (*subscription, *resource.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[q.PathValue("id")]
	if sub == nil {
		return nil, resource.Fail(message.ResourceNotFound("EventDestination", q.PathValue("id")))
	}
	return sub, nil
}

// own is find for one that is to be changed: it must be the user's own unless
// the user may configure the manager.
func (s *Service) own(q *resource.Request) (*subscription, *resource.Reply) {
	sub, problem := s.find(q)
	if problem != nil {
		return nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub.target.Owner != q.User.Name && !q.May(resource.ConfigureManager) {
		return nil, resource.Fail(message.InsufficientPrivilege())
	}
	return sub, nil
}

func (s *Service) getDestination(q *resource.Request) *resource.Reply {
	sub, problem := s.find(q)
	if problem != nil {
		return problem
	}
	d := s.show(sub)
	if _, problem := s.own(q); problem != nil {
		d.Destination = withoutQuery(d.Destination)
	}
	return resource.OK(d)
}

// withoutQuery is a destination as others may see it: a query may be a secret.
func withoutQuery(uri string) string {
	before, _, _ := strings.Cut(uri, "?")
	return before
}

// list is a parameter that is a list of texts, each one of words if there are
// such. null, as gofish sends, is an empty one.
func list(name string, words []string, to *[]string) resource.Parameter {
	var all []string
	texts := resource.Texts(name, &all)
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		if value == nil {
			return nil
		}
		if problem := texts.Set(value, action); problem != nil {
			return problem
		}
		if len(all) > maxList {
			return new(message.ArraySizeTooLong(name, maxList))
		}
		for _, text := range all {
			switch {
			case words != nil && !slices.Contains(words, text):
				return resource.NotInList(text, name, action)
			case len(text) > maxText:
				return new(message.StringValueTooLong(text, maxText))
			}
		}
		*to = all
		return nil
	}}
}

// links is a parameter that is a list of references to resources below a URI.
func links(name, below string, to *[]string) resource.Parameter {
	return resource.Parameter{Name: name, Set: func(value any, action string) *message.Message {
		if value == nil {
			return nil
		}
		all, isList := value.([]any)
		if !isList {
			return resource.WrongType(value, name, action)
		}
		if len(all) > maxList {
			return new(message.ArraySizeTooLong(name, maxList))
		}
		var uris []string
		for _, each := range all {
			o, isObject := each.(resource.Object)
			if !isObject || len(o) != 1 || o[0].Name != "@odata.id" {
				return resource.WrongType(each, name, action)
			}
			uri, isString := o[0].Value.(string)
			if !isString {
				return resource.WrongType(o[0].Value, name, action)
			}
			if !strings.HasPrefix(uri, below) || len(uri) > maxText {
				return resource.BadFormat(uri, name, action)
			}
			uris = append(uris, strings.TrimSuffix(uri, "/"))
		}
		*to = uris
		return nil
	}}
}

// headers is HttpHeaders: a list of objects, each of names with their values. One
// object without a list is taken, too: gofish sends it.
func headers(to *[]Header) resource.Parameter {
	const name = "HttpHeaders"
	return resource.Parameter{Name: name, Set: func(value any, _ string) *message.Message {
		if value == nil {
			return nil
		}
		// No problem shows a value: it may be a secret.
		bad := new(message.PropertyValueError(name))
		all, isList := value.([]any)
		if o, isObject := value.(resource.Object); isObject {
			all = []any{o}
		} else if !isList {
			return bad
		}
		var found []Header
		for _, each := range all {
			o, isObject := each.(resource.Object)
			if !isObject {
				return bad
			}
			for _, m := range o {
				text, isString := m.Value.(string)
				if !isString || len(m.Name) > maxText || len(text) > maxText || !isHeader(m.Name, text) || reserved(m.Name) {
					return bad
				}
				found = append(found, Header{m.Name, text})
			}
		}
		if len(found) > maxHeaders {
			return new(message.ArraySizeTooLong(name, maxHeaders))
		}
		*to = found
		return nil
	}}
}

// isHeader reports whether a name and a value may be sent as a header (RFC 9110
// sections 5.5 and 5.6.2).
func isHeader(name, value string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
	return name != "" && strings.Trim(name, letters) == "" && value == strings.TrimSpace(value) &&
		!strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// reserved are headers that a post has anyway, or that would make another
// request of it.
func reserved(name string) bool {
	return slices.Contains([]string{"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Odata-Version", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent"}, http.CanonicalHeaderKey(name))
}

// isDestination reports whether a text is a URI that events can be sent to. One
// with a password in it would show it to whoever reads the subscription.
func isDestination(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

// nullable is p that takes null for nothing said.
func nullable(p resource.Parameter) resource.Parameter {
	set := p.Set
	p.Set = func(value any, action string) *message.Message {
		if value == nil {
			return nil
		}
		return set(value, action)
	}
	return p
}

func anyText(string) bool { return true }

func (s *Service) postDestination(q *resource.Request) *resource.Reply {
	t := target{Policy: retryBackoff, Owner: q.User.Name}
	f := &t.Filter
	var protocol, subscriptionType string
	var includes bool
	format := formatEvent
	problems := q.Parameters("",
		resource.Required(formed("Destination", isDestination, &t.Destination)),
		resource.Required(resource.Word("Protocol", []string{"Redfish"}, &protocol)),
		nullable(formed("Context", anyText, &t.Context)),
		nullable(resource.Word("SubscriptionType", []string{"RedfishEvent"}, &subscriptionType)),
		nullable(resource.Word("EventFormatType", s.formats(), &format)),
		nullable(resource.Word("DeliveryRetryPolicy", policies(), &t.Policy)),
		nullable(resource.Flag("VerifyCertificate", &t.Verify)),
		headers(&t.Headers),
		list("RegistryPrefixes", registryNames(), &f.RegistryPrefixes),
		list("ExcludeRegistryPrefixes", registryNames(), &f.ExcludeRegistryPrefixes),
		list("MessageIds", nil, &f.MessageIDs),
		list("ExcludeMessageIds", nil, &f.ExcludeMessageIDs),
		list("EventTypes", eventTypes(), &f.EventTypes),
		list("ResourceTypes", resourceTypes(), &f.ResourceTypes),
		list("Severities", severities(), &f.Severities),
		links("OriginResources", "/redfish/v1", &f.OriginResources),
		nullable(resource.Flag("SubordinateResources", &f.SubordinateResources)),
		links("MetricReportDefinitions", resource.TelemetryServiceURI, &f.MetricReportDefinitions),
		nullable(resource.Parameter{Name: "IncludeOriginOfCondition", Set: func(value any, action string) *message.Message {
			if problem := resource.Flag("IncludeOriginOfCondition", &includes).Set(value, action); problem != nil || !includes {
				return problem
			}
			return new(message.PropertyValueError("IncludeOriginOfCondition"))
		}}),
	)
	if problems != nil {
		return resource.Fail(problems...)
	}
	// EventTypes is how reports were asked for before EventFormatType.
	f.MetricReports = format == formatReport || len(f.EventTypes) == 1 && f.EventTypes[0] == typeReport && s.opt.MetricReports
	sub := &subscription{target: t}
	if err := s.subscribe(sub, nil); err != nil {
		return s.failed(err)
	}
	s.tell("subscription.created", host.OK, q.Origin(), fmt.Sprintf("The event subscription %s to %s was created.", sub.id, message.Clip(withoutQuery(t.Destination))))
	d := s.show(sub)
	return resource.Created(d, d.ODataID)
}

func (s *Service) patchDestination(q *resource.Request) *resource.Reply {
	sub, problem := s.own(q)
	if problem != nil {
		return problem
	}
	set := func(name string, f func(*target)) []message.Message {
		if err := s.change(sub, f, func() {}); err != nil {
			s.opt.Log.Error("subscription not changed", "error", err)
			return []message.Message{message.PropertyNotUpdated(name)}
		}
		return nil
	}
	writable := []resource.Property{resource.String("Context", func(text string) []message.Message {
		if len(text) > maxText {
			return []message.Message{message.StringValueTooLong(text, maxText)}
		}
		return set("Context", func(t *target) { t.Context = text })
	})}
	if sub.isPush() {
		writable = append(writable,
			resource.Enum("DeliveryRetryPolicy", policies(), func(word string) []message.Message {
				return set("DeliveryRetryPolicy", func(t *target) { t.Policy = word })
			}),
			resource.Bool("VerifyCertificate", func(on bool) []message.Message {
				return set("VerifyCertificate", func(t *target) { t.Verify = on })
			}),
			resource.Property{Name: "HttpHeaders", Set: func(value any) (bool, []message.Message) {
				var all []Header
				if problem := headers(&all).Set(value, ""); problem != nil {
					return false, []message.Message{problem.About(message.Pointer("HttpHeaders"))}
				}
				problems := set("HttpHeaders", func(t *target) { t.Headers = all })
				return problems == nil, problems
			}})
	}
	return resource.Patch(q, s.getDestination, writable...)
}

func (s *Service) deleteDestination(q *resource.Request) *resource.Reply {
	sub, problem := s.own(q)
	if problem != nil {
		return problem
	}
	done, err := s.unsubscribe(sub, q.Origin(), "was removed")
	if err != nil {
		return s.failed(err)
	}
	if !done {
		return resource.Fail(message.ResourceNotFound("EventDestination", sub.id))
	}
	return resource.NoContent()
}

// pushed is own for the actions, which streams do not have.
func (s *Service) pushed(q *resource.Request, action string) (*subscription, *resource.Reply) {
	sub, problem := s.own(q)
	if problem == nil && !sub.isPush() {
		problem = resource.Fail(message.ActionNotSupported(action))
	}
	return sub, problem
}

func (s *Service) postSuspend(q *resource.Request) *resource.Reply {
	sub, problem := s.pushed(q, suspendAction)
	if problem != nil {
		return problem
	}
	if problems := q.Parameters(suspendAction); problems != nil {
		return resource.Fail(problems...)
	}
	return s.setTo(sub, true, time.Time{}, q)
}

func (s *Service) postResume(q *resource.Request) *resource.Reply {
	sub, problem := s.pushed(q, resumeAction)
	if problem != nil {
		return problem
	}
	var age string
	isDuration := func(text string) bool { _, ok := resource.ParseDuration(text); return ok }
	if problems := q.Parameters(resumeAction, formed("DeliverBufferedEventDuration", isDuration, &age)); problems != nil {
		return resource.Fail(problems...)
	}
	var since time.Time // all that waits
	if age != "" {
		d, _ := resource.ParseDuration(age) // it is one
		since = time.Now().Add(-d)
	}
	return s.setTo(sub, false, since, q)
}

func (s *Service) setTo(sub *subscription, suspended bool, since time.Time, q *resource.Request) *resource.Reply {
	if err := s.setSuspended(sub, suspended, since, q.Origin()); err != nil {
		return s.failed(err)
	}
	return resource.NoContent()
}
