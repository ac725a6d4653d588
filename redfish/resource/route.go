package resource

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
)

// Via is how this front-end names itself in origins and login attempts.
const Via = "redfish"

// A Handler answers a request that has passed authentication, authorization
// and the checks of headers and query.
type Handler func(*Request) *Reply

// A Route is a URI and what it answers to.
type Route struct {
	// Pattern is the URI as http.ServeMux takes it: a segment may be "{id}".
	Pattern string
	// Type is the schema of what GET shows, as "Chassis.v1_25_0.Chassis" or
	// "ChassisCollection.ChassisCollection"; of an action, that of the resource
	// that has it. Its first part is the entity whose privileges count (DSP0266,
	// Privilege mappings), and a collection's or resource's schema is listed in
	// $metadata by it. Empty: the route is no resource, and needs no login.
	Type string
	// Under is the entity that the resource belongs to, where the standard table
	// has other privileges for that ("Manager"); see Subordinate overrides.
	Under string
	// Action is the name that the POST invokes, "ComputerSystem.Reset"; empty:
	// it creates.
	Action string
	// Raw: the POST takes its own body, of any media type and length.
	Raw bool
	// Stream: GET writes its own body for as long as the client stays, and reads
	// its query itself.
	Stream bool
	// Media is the media type of what GET shows, where that is no JSON. No Accept
	// is refused for it.
	Media string
	// Open: the method needs no login, whatever the standard table says: POST
	// of a login.
	Open bool
	// Self: who has no privilege but ConfigureSelf may PATCH, too; the handler
	// sees to it that it is only what is theirs (Property overrides).
	Self bool
	// Free: a user who has to change the password first may use it all the same;
	// with Self, only to see and PATCH the own account.
	Free bool

	Get, Post, Patch, Put, Delete Handler
}

// A Privilege is a set of Redfish's standard privileges (DSP0266, Privilege
// model).
type Privilege uint8

// The privileges.
const (
	Login Privilege = 1 << iota
	ConfigureManager
	ConfigureUsers
	ConfigureSelf
	ConfigureComponents
)

// PrivilegesOf lists what the predefined roles may do (DSP0266, Roles); they
// cannot be changed.
func PrivilegesOf(r auth.Role) Privilege {
	switch r {
	case auth.Administrator:
		return Login | ConfigureManager | ConfigureUsers | ConfigureSelf | ConfigureComponents
	case auth.Operator:
		return Login | ConfigureSelf | ConfigureComponents
	case auth.ReadOnly:
		return Login | ConfigureSelf
	}
	return 0
}

// A Request is one HTTP request that has passed authentication, authorization
// and the checks of its headers.
type Request struct {
	*http.Request
	// User is the zero User where the method needs no login, and Session that of
	// a token, if one was used.
	User    auth.User
	Session auth.Session
	// Body is the request's JSON object; nil for methods without one.
	Body Object
	// Attempt says who asks, as package auth wants to know it.
	Attempt auth.Attempt
}

// May reports whether the user has any privilege of p.
func (q *Request) May(p Privilege) bool { return PrivilegesOf(q.User.Role)&p != 0 }

// Origin is the request's sender, as events show it.
func (q *Request) Origin() host.Origin {
	o := host.Origin{Via: Via, User: q.User.Name}
	if a := Source(q.Request); a.IsValid() {
		o.Source = a.String()
	}
	return o
}

// Source is the client's address; the zero Addr if the server did not set it.
func Source(r *http.Request) netip.Addr {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}

// A Reply is the answer to a request, before it is written.
type Reply struct {
	Status int
	// Resource is the body, with its entity tag; or nil.
	Resource Typed
	// Document is a ready body; it stands where Resource is nil.
	Document *Document
	// Stream writes the body as it comes, after Status and the headers that all
	// answers have; it sets Content-Type itself. It stands where both are nil.
	Stream func(http.ResponseWriter)
	// Problems are the messages of an error, or what a partly successful PATCH
	// could not do, or what a successful request has to say.
	Problems []message.Message
	// Location and Token are those headers: of a new resource or a task's
	// monitor, and of a new session.
	Location, Token string
	// RetryAfter is in seconds; 0: no such header.
	RetryAfter int
}

// A Document is a body that never changes, with its strong entity tag. Link is
// that header; empty: none.
type Document struct {
	ContentType, Link, ETag string
	Body                    []byte
}

// OK shows a resource.
func OK(r Typed) *Reply { return &Reply{Status: http.StatusOK, Resource: r} }

// Created shows a new resource.
func Created(r Typed, location string) *Reply {
	return &Reply{Status: http.StatusCreated, Resource: r, Location: location}
}

// NoContent says that it is done.
func NoContent() *Reply { return &Reply{Status: http.StatusNoContent} }

// Fail answers an error; its status is the highest of the problems'.
func Fail(problems ...message.Message) *Reply { return &Reply{Problems: problems} }

// Allow is the value of the header Allow.
func (r Route) Allow() string { return strings.Join(r.Methods(), ", ") }

// Methods are those that the route answers to.
func (r Route) Methods() []string {
	var names []string
	for _, name := range []string{"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"} {
		if r.Handler(name) != nil {
			names = append(names, name)
		}
	}
	return names
}

// Handler is what answers to a method, nil: the route has none. GET answers
// HEAD too.
func (r Route) Handler(method string) Handler {
	switch method {
	case "GET", "HEAD":
		return r.Get
	case "POST":
		return r.Post
	case "PATCH":
		return r.Patch
	case "PUT":
		return r.Put
	case "DELETE":
		return r.Delete
	}
	return nil
}

// Entity is the name of the schema without version: "Chassis".
func (r Route) Entity() string {
	entity, _, _ := strings.Cut(r.Type, ".")
	return entity
}
