// Package redfish serves the managed machine as DMTF's Redfish (DSP0266 1.21):
// it puts the chapters together, each a package of its own below this one, and
// shows the documents that lead to them.
package redfish

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/registry"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/redfish/session"
	"github.com/nitrino/nitrino/redfish/system"
)

// Auth is what the service needs of package auth.
type Auth interface {
	protocol.Auth
	session.Auth
}

// A Chapter is a part of the service.
type Chapter interface{ Routes() []resource.Route }

// Options are what a Service is made of. Host, Auth and Log are required.
type Options struct {
	Host *host.Host
	Auth Auth
	Log  *slog.Logger
	// System is the chapter of the host; nil: one that is on its own.
	System *system.System
	// Chapters are those besides it, session and registry, which are always
	// there.
	Chapters []Chapter
	// Changed is protocol.Options.Changed; nil: nobody wants to know.
	Changed func(kind, uri, odataType string)
	// Product and Version name the service in ServiceRoot's Product; empty
	// ones are left out.
	Product, Version string
}

// Service answers HTTP requests for /redfish and what is below it. It is safe
// for many goroutines.
type Service struct {
	http *protocol.Service
}

// New makes the service. It fails only if a required option is missing.
func New(o Options) (*Service, error) {
	if o.Host == nil || o.Auth == nil || o.Log == nil {
		return nil, fmt.Errorf("redfish: options Host, Auth and Log are required")
	}
	if o.System == nil {
		o.System = system.New(system.Options{Host: o.Host, Log: o.Log})
	}
	routes := o.System.Routes()
	routes = append(routes, session.New(o.Auth, o.Log).Routes()...)
	for _, c := range o.Chapters {
		routes = append(routes, c.Routes()...)
	}
	registries, err := registry.New(types(routes))
	if err != nil {
		return nil, fmt.Errorf("redfish: %w", err)
	}
	routes = append(routes, registries.Routes()...)
	first, err := root(o, routes)
	if err != nil {
		return nil, fmt.Errorf("redfish: %w", err)
	}
	s := &Service{}
	s.http, err = protocol.New(protocol.Options{Auth: o.Auth, Log: o.Log, Routes: append(first, routes...), Changed: o.Changed})
	return s, err
}

// User tells who sends a request that is not the service's, as it does itself;
// the message says why it cannot.
func (s *Service) User(r *http.Request) (auth.User, *message.Message) { return s.http.User(r) }

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.http.ServeHTTP(w, r) }
