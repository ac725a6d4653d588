package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// maxShaped is how long an answer to $expand may be, in bytes of the resources
// that it is made of, and maxExpands how many such answers are made at once:
// while one is made it takes some times as much memory.
const (
	maxShaped  = 4 << 20
	maxExpands = 2
)

// errTooBig: the answer to $expand would be longer than maxShaped.
var errTooBig = errors.New("the expanded resource is too big")

// shape makes of a resource what the query parameters ask for, in the order of
// DSP0266 (Query parameters): $filter, $skip, $top, $expand, excerpt, $select.
//
// With $select and excerpt alone the entity tag stays that of the whole
// resource, as the specification wants it in the body: whenever the part
// changes it does, too, and it serves for If-Match of a PATCH. What is made of
// several resources, or of some of the members, has no entity tag, for nothing
// less than reading all of it would make one.
func (s *Service) shape(q *resource.Request, a *resource.Reply, ask query) *resource.Reply {
	if a.Status != http.StatusOK || a.Stream != nil {
		return a
	}
	whole, isCollection := a.Resource.(resource.Collection)
	if !isCollection && ask.collection() || a.Resource == nil && !isResourceDocument(a.Document) {
		return resource.Fail(message.QueryNotSupportedOnResource())
	}
	if ask.only {
		return s.only(q, a, whole)
	}
	if ask.paged() {
		if problem := s.page(q, &whole, ask); problem != nil {
			return problem
		}
		a = resource.OK(whole)
	}
	d, err := s.document(a, !ask.paged())
	if err != nil {
		return s.failed(err)
	}
	if ask.expand == nil && !ask.excerpt && ask.selected == nil {
		return &resource.Reply{Status: http.StatusOK, Document: d}
	}
	o, err := resource.ParseObject(d.Body)
	if err != nil {
		return s.failed(fmt.Errorf("%s: %w", q.URL.Path, err))
	}
	if ask.expand != nil {
		select {
		case s.expands <- struct{}{}:
			defer func() { <-s.expands }()
		case <-q.Context().Done():
			return s.failed(q.Context().Err())
		}
		x := &expander{service: s, q: q, expansion: *ask.expand, left: maxShaped, got: map[string][]byte{}, asIs: !ask.excerpt && ask.selected == nil}
		o, err = x.resource(o, x.levels, []string{canonical(q.URL.Path)})
		if errors.Is(err, errTooBig) {
			return resource.Fail(message.InsufficientStorage())
		}
		if err != nil {
			return s.failed(err)
		}
		d.ETag = ""
	}
	if ask.excerpt {
		o = excerptOf(o)
	}
	if ask.selected != nil {
		o = selectOf(o, ask.selected, ask.selected)
	}
	if d.Body, err = resource.AppendJSON(nil, o); err != nil {
		return s.failed(err)
	}
	return &resource.Reply{Status: http.StatusOK, Document: d}
}

// isResourceDocument: a document that is a resource which never changes.
func isResourceDocument(d *resource.Document) bool { return d != nil && d.Link != "" }

// document encodes a reply's resource, with its entity tag or without. It is a
// copy that may be changed.
func (s *Service) document(a *resource.Reply, tagged bool) (*resource.Document, error) {
	if a.Resource == nil {
		return new(*a.Document), nil
	}
	d := &resource.Document{ContentType: JSONType, Link: DescribedBy(resource.TypeOf(a.Resource))}
	var err error
	if tagged {
		d.Body, d.ETag, err = encode(a.Resource, a.Problems)
		return d, err
	}
	if d.Body, err = json.Marshal(a.Resource); err != nil {
		return nil, fmt.Errorf("encoding %s: %w", resource.TypeOf(a.Resource), err)
	}
	return d, nil
}

// only answers with a collection's one member.
func (s *Service) only(q *resource.Request, a *resource.Reply, c resource.Collection) *resource.Reply {
	if len(c.Members) != 1 {
		return a
	}
	switch m := c.Members[0].(type) {
	case resource.Link:
		if member := s.inside(q, m.ODataID); member != nil {
			return member
		}
	case resource.Typed:
		return resource.OK(m)
	}
	return a
}

// page leaves in a collection what $filter, $skip and $top do. Its count stays
// that of all members that $filter lets through.
func (s *Service) page(q *resource.Request, c *resource.Collection, ask query) *resource.Reply {
	members := c.Members
	if ask.filter != nil {
		members = []any{}
		for _, m := range c.Members {
			data, err := s.member(q, m)
			if err != nil {
				return s.failed(err)
			}
			if data == nil {
				continue // not for this user, or gone meanwhile
			}
			var member map[string]any
			fits := false
			if err = json.Unmarshal(data, &member); err == nil {
				fits, err = ask.filter.holds(member)
			}
			if errors.Is(err, errFilterType) {
				return resource.Fail(message.QueryParameterValueTypeError(ask.values["$filter"], "$filter"))
			}
			if err != nil {
				return s.failed(fmt.Errorf("$filter of %s: %w", c.ODataID, err))
			}
			if fits {
				members = append(members, m)
			}
		}
		c.Count = len(members)
	}
	from := min(ask.skip, len(members))
	to := len(members)
	if ask.top >= 0 && ask.top < to-from {
		to = from + ask.top
	}
	c.Members = members[from:to:to]
	// Without any members a page leads nowhere.
	if to < len(members) && to > from {
		c.Next = nextPage(c.ODataID, ask, to)
	}
	return nil
}

// nextPage is the URI of the page that begins with the member at from.
func nextPage(uri string, ask query, from int) string {
	params := []string{"$skip=" + strconv.Itoa(from)}
	for _, name := range []string{"$top", "$filter", "$expand", "excerpt", "$select"} {
		value, given := ask.values[name]
		switch {
		case given && name == "excerpt":
			params = append(params, name)
		case given:
			params = append(params, name+"="+url.QueryEscape(value))
		}
	}
	return uri + "?" + strings.Join(params, "&")
}

// member is the JSON of one member of a collection; nil: it is not to be seen.
func (s *Service) member(q *resource.Request, m any) (json.RawMessage, error) {
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	link, isLink := m.(resource.Link)
	if !isLink {
		return json.Marshal(m)
	}
	d, err := s.read(q, link.ODataID)
	if d == nil || err != nil {
		return nil, err
	}
	return d.Body, nil
}

// read gets another resource for the same user; nil: there is none that the
// user may see.
func (s *Service) read(q *resource.Request, uri string) (*resource.Document, error) {
	if err := q.Context().Err(); err != nil {
		return nil, err
	}
	a := s.inside(q, uri)
	if a == nil || a.Status != http.StatusOK || a.Resource == nil && !isResourceDocument(a.Document) {
		return nil, nil
	}
	return s.document(a, true)
}

// An inner is the writer of a request that the service makes itself, to answer
// another one of the same user: it takes the reply before it is written.
type inner struct {
	by    *resource.Request
	reply *resource.Reply
}

// Header implements http.ResponseWriter, as Write and WriteHeader do: what the
// mux answers by itself, a redirect to a clean path, is not of interest.
func (*inner) Header() http.Header         { return http.Header{} }
func (*inner) Write(p []byte) (int, error) { return len(p), nil }
func (*inner) WriteHeader(int)             {}

// inside is a GET of another resource by the same user; nil: there is no such
// URI.
func (s *Service) inside(q *resource.Request, uri string) *resource.Reply {
	w := &inner{by: q}
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: uri}, Header: http.Header{}, Host: q.Host, RemoteAddr: q.RemoteAddr, TLS: q.TLS}
	s.mux.ServeHTTP(w, r.WithContext(q.Context()))
	return w.reply
}

// An expander puts resources where links to them are.
type expander struct {
	service *Service
	q       *resource.Request
	expansion
	left int               // bytes
	got  map[string][]byte // by URI; nil: it cannot be had
	asIs bool              // nothing is taken away afterwards
}

// resource expands one that is shown. above are the URIs of those that it is
// in, itself included: a link to one of them stays a link, so that there is no
// circle.
func (x *expander) resource(o resource.Object, levels int, above []string) (resource.Object, error) {
	if levels == 0 {
		return o, nil
	}
	v, err := x.value(o, false, levels, above)
	if err != nil {
		return nil, err
	}
	return v.(resource.Object), nil
}

// value expands the links in a value that is of a resource's own; inLinks: it
// is in its Links.
func (x *expander) value(v any, inLinks bool, levels int, above []string) (any, error) {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, each := range v {
			var err error
			if list[i], err = x.below(each, inLinks, levels, above); err != nil {
				return nil, err
			}
		}
		return list, nil
	case resource.Object:
		o := make(resource.Object, len(v))
		for i, m := range v {
			value, err := x.below(m.Value, inLinks || m.Name == "Links", levels, above)
			if err != nil {
				return nil, err
			}
			o[i] = resource.Member{Name: m.Name, Value: value}
		}
		return o, nil
	}
	return v, nil
}

// below expands a value in an object or array: a link, a resource that stands
// there in full, as a collection's members may, or what has those in it.
func (x *expander) below(v any, inLinks bool, levels int, above []string) (any, error) {
	o, isObject := v.(resource.Object)
	if !isObject {
		return x.value(v, inLinks, levels, above)
	}
	uri, _ := o.Get("@odata.id").(string)
	switch {
	case isResource(o):
		return x.resource(o, levels-1, append(slices.Clip(above), canonical(uri)))
	case len(o) != 1 || uri == "":
		return x.value(o, inLinks, levels, above)
	case inLinks && !x.links || !inLinks && !x.others:
		return o, nil
	}
	// A link to a part of a resource, with a fragment, stays one.
	if uri = canonical(uri); strings.Contains(uri, "#") || slices.Contains(above, uri) {
		return o, nil
	}
	body, err := x.get(uri)
	if body == nil || err != nil {
		return o, err
	}
	if levels == 1 && x.asIs {
		return json.RawMessage(body), nil
	}
	there, err := resource.ParseObject(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	return x.resource(there, levels-1, append(slices.Clip(above), uri))
}

// get reads a resource, once.
func (x *expander) get(uri string) ([]byte, error) {
	body, known := x.got[uri]
	if !known {
		d, err := x.service.read(x.q, uri)
		if err != nil {
			return nil, err
		}
		if d != nil {
			body = d.Body
		}
		x.got[uri] = body
	}
	// It counts as often as it is shown.
	if x.left -= len(body); x.left < 0 {
		return nil, errTooBig
	}
	return body, nil
}

// isResource tells a resource from a link, and from an object with a URI of its
// own within a resource.
func isResource(o resource.Object) bool {
	return o.Get("@odata.id") != nil && o.Get("@odata.type") != nil
}

// excerpts are the properties that have the annotation Redfish.Excerpt, by
// entity, in DSP8010's schemas. All others have no excerpt, and are shown whole.
func excerpts(entity string) []string {
	switch entity {
	case "Sensor":
		return []string{"ApparentVA", "ApparentkVAh", "CrestFactor", "DeviceName", "LifetimeReading", "PhaseAngleDegrees", "PhysicalContext", "PhysicalSubContext",
			"PowerFactor", "ReactiveVAR", "ReactivekVARh", "Reading", "SensorResetTime", "SpeedRPM", "THDPercent"}
	case "Control":
		return []string{"AllowableMax", "AllowableMin", "AllowableNumericValues", "ControlLoop", "ControlMode", "DefaultSetPoint", "ReadingUnits", "SetPoint",
			"SetPointUnits", "SettingMax", "SettingMin"}
	}
	return nil
}

// excerptOf leaves in each resource what is of its excerpt.
func excerptOf(o resource.Object) resource.Object {
	odataType, _ := o.Get("@odata.type").(string)
	entity, _, _ := strings.Cut(strings.TrimPrefix(odataType, "#"), ".")
	keep := excerpts(entity)
	var less resource.Object
	for _, m := range o {
		if keep != nil && !strings.HasPrefix(m.Name, "@odata.") && !slices.Contains(keep, annotated(m.Name)) {
			continue
		}
		less = append(less, resource.Member{Name: m.Name, Value: eachResource(m.Value, excerptOf)})
	}
	return less
}

// eachResource replaces the resources in a value.
func eachResource(v any, by func(resource.Object) resource.Object) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, each := range v {
			list[i] = eachResource(each, by)
		}
		return list
	case resource.Object:
		if isResource(v) {
			return by(v)
		}
		o := make(resource.Object, len(v))
		for i, m := range v {
			o[i] = resource.Member{Name: m.Name, Value: eachResource(m.Value, by)}
		}
		return o
	}
	return v
}

// annotated is the property that an annotation is of: "Members" of
// "Members@odata.count".
func annotated(name string) string {
	if i := strings.IndexByte(name, '@'); i > 0 {
		return name[:i]
	}
	return name
}

// selectOf leaves in a resource what is selected. In an expanded resource the
// names are that resource's (DSP0266 has the example
// Systems?$select=UUID&$expand=.), as well as what a path leads to that goes
// into it; what has such a resource in it stays, too.
func selectOf(o resource.Object, s, all *selection) resource.Object {
	return selectMembers(o, merge(s, all), all, true)
}

func selectMembers(o resource.Object, s, all *selection, whole bool) resource.Object {
	stay := map[string]any{}
	for _, m := range o {
		if value, kept := selectIn(m.Value, s.of(m.Name), all); kept {
			stay[m.Name] = value
		}
	}
	less := resource.Object{}
	for _, m := range o {
		value, kept := stay[m.Name]
		// What is said of a property goes with it, and what a resource is stays.
		_, with := stay[annotated(m.Name)]
		if !kept && (with || whole && strings.HasPrefix(m.Name, "@odata.")) {
			value, kept = m.Value, true
		}
		if kept {
			less = append(less, resource.Member{Name: m.Name, Value: value})
		}
	}
	return less
}

// selectIn is selectOf for any value; s is nil where it is not selected itself.
func selectIn(v any, s, all *selection) (less any, kept bool) {
	if s != nil && s.children == nil {
		return v, true
	}
	switch v := v.(type) {
	case []any:
		list := []any{}
		for _, each := range v {
			if value, kept := selectIn(each, s, all); kept {
				list = append(list, value)
			}
		}
		return list, len(list) > 0
	case resource.Object:
		if isResource(v) {
			return selectOf(v, s, all), true
		}
		o := selectMembers(v, s, all, false)
		return o, len(o) > 0
	}
	return nil, false
}
