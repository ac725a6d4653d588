// Package protocol is the HTTP side of Redfish (DSP0266): it authenticates,
// checks privileges, headers, preconditions and query parameters once, for all
// routes, and writes what the routes' handlers answer.
//
// TLS, the listener and its limits belong to whoever mounts the handler. The
// handler refuses every login that did not come over TLS (DSP0266, HTTP Basic
// authentication and Session login).
package protocol

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Auth is what tells who sends a request.
type Auth interface {
	// Password tells who the user is. It returns auth.ErrDenied whatever is
	// wrong with the name or the password.
	Password(ctx context.Context, t auth.Attempt, password string) (auth.User, error)
	// Session finds the live session of a token and prolongs it.
	Session(token string) (auth.Session, auth.User, bool)
}

// Options are what a Service is made of; all but Changed are required.
type Options struct {
	Auth   Auth
	Routes []resource.Route
	Log    *slog.Logger
	// Changed is told of each resource that a client has changed, created or
	// removed: ResourceChanged and so on, its URI and @odata.type. It must not
	// wait for anything.
	Changed func(kind, uri, odataType string)
}

// Service answers HTTP requests for the routes. It is safe for many goroutines
// and owns none of its own.
type Service struct {
	auth Auth
	log  *slog.Logger
	mux  *http.ServeMux

	changed func(kind, uri, odataType string) // or nil
	changes locks                             // by URI
	shown   chan struct{}                     // one for each answer that is made
	expands chan struct{}                     // one for each $expand
	long    chan struct{}                     // one for each long answer on its way
}

// New makes the service. It fails for a route whose entity the standard table
// of privileges does not have.
func New(o Options) (*Service, error) {
	s := &Service{auth: o.Auth, log: o.Log, mux: http.NewServeMux(), changed: o.Changed,
		shown: make(chan struct{}, maxShown), expands: make(chan struct{}, maxExpands), long: make(chan struct{}, maxLong)}
	for _, r := range o.Routes {
		m, err := mappingOf(r)
		if err != nil {
			return nil, fmt.Errorf("redfish: %w", err)
		}
		h := s.handler(r, m)
		// A URI means the same with and without a trailing slash; DSP0266
		// (Redfish-defined URIs) asks that of /redfish/v1 at least.
		s.mux.Handle(r.Pattern, h)
		s.mux.Handle(r.Pattern+"/{$}", h)
		if r.Post != nil && r.Get != nil && r.Action == "" {
			// A POST to a collection's Members is one to the collection (DSP0266,
			// POST (create)).
			members := r
			members.Pattern, members.Get, members.Patch, members.Put, members.Delete = r.Pattern+"/Members", nil, nil, nil, nil
			s.mux.Handle(members.Pattern, s.handler(members, m))
		}
	}
	s.mux.Handle("/", s.handler(resource.Route{}, mapping{}))
	return s, nil
}

// mappingOf finds the privileges of a route's methods.
func mappingOf(r resource.Route) (mapping, error) {
	if r.Type == "" {
		return mapping{}, nil
	}
	for _, under := range []string{r.Under, ""} {
		for _, m := range append(standard(), swordfish()...) {
			if m.entity == r.Entity() && m.under == under {
				return m, nil
			}
		}
	}
	return mapping{}, fmt.Errorf("%s: no privileges are known of %q", r.Pattern, r.Entity())
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// begunKey is the key of a connection's beginning in its context.
type begunKey struct{}

// ConnContext notes when a connection began: it is for http.Server.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, begunKey{}, time.Now())
}

// Attempt is a login by a request.
func Attempt(r *http.Request, name string) auth.Attempt {
	begun, _ := r.Context().Value(begunKey{}).(time.Time) // zero without ConnContext
	return auth.Attempt{Via: resource.Via, Source: resource.Source(r), Name: name, Begun: begun}
}
