// Package redfish serves the managed machine as DMTF's Redfish: an HTTP
// handler that shows package host and package auth as resources.
//
// It follows DSP0266 1.21 (the protocol) and pins one version of each DSP8010
// schema beside the Go type of the resource. A resource is a plain struct; one
// table (routes.go) says which URI has which methods and what privilege each
// needs; headers, entity tags, preconditions and bodies are handled once, in
// serve.go, for all of them.
//
// TLS, the listener and its limits belong to whoever mounts the handler. The
// handler refuses every login that did not come over TLS (DSP0266, HTTP Basic
// authentication and Session login).
package redfish

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

// Via is how this front-end names itself in origins and login attempts.
const Via = "redfish"

// Auth is what the service needs of package auth.
type Auth interface {
	// Password tells who the user is. It returns auth.ErrDenied whatever is
	// wrong with the name or the password.
	Password(ctx context.Context, t auth.Attempt, password string) (auth.User, error)
	// NewSession opens a session for a user that has just proved itself.
	NewSession(u auth.User, t auth.Attempt) (s auth.Session, token string, err error)
	// Session finds the live session of a token and prolongs it.
	Session(token string) (auth.Session, auth.User, bool)
	SessionByID(id string) (auth.Session, bool)
	Sessions() []auth.Session
	// EndSession ends a session; false: there was none.
	EndSession(id string) bool
	SessionTimeout() time.Duration
	// SetSessionTimeout takes 30 s to 24 h.
	SetSessionTimeout(time.Duration) error
}

// Options are what a Service is made of. All fields but Product and Version
// are required.
type Options struct {
	Host *host.Host
	Auth Auth
	Log  *slog.Logger
	// Product and Version name the service in ServiceRoot's Product; empty
	// ones are left out.
	Product, Version string
}

// Service answers HTTP requests for /redfish and what is below it. It is safe
// for many goroutines and owns none of its own.
type Service struct {
	host *host.Host
	auth Auth
	log  *slog.Logger
	mux  *http.ServeMux

	// The documents and parts of resources that never change.
	versions, root, odata, metadata *document
	uuid                            string
	resets                          *resetAction // nil: no wire for any reset

	// change makes an If-Match check and the change it guards one step, so
	// that of two clients with the same entity tag only one succeeds.
	change sync.Mutex
}

// New makes the service. It fails only if a required option is missing.
func New(o Options) (*Service, error) {
	if o.Host == nil || o.Auth == nil || o.Log == nil {
		return nil, fmt.Errorf("redfish: options Host, Auth and Log are required")
	}
	s := &Service{host: o.Host, auth: o.Auth, log: o.Log, mux: http.NewServeMux(), uuid: formatUUID(o.Host.UUID)}
	s.resets = newResetAction(o.Host.Power.Supports)
	var err error
	if s.versions, s.root, s.odata, s.metadata, err = documents(o, s.uuid); err != nil {
		return nil, fmt.Errorf("redfish: %w", err)
	}
	for _, r := range s.routes() {
		h := s.handler(r)
		// A URI means the same with and without a trailing slash; DSP0266
		// (Redfish-defined URIs) asks that of /redfish/v1 at least.
		s.mux.Handle(r.pattern, h)
		s.mux.Handle(r.pattern+"/{$}", h)
	}
	s.mux.Handle("/", s.handler(route{}))
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// formatUUID writes a UUID in the form of RFC 4122 section 3.
func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}
