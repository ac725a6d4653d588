// Package redfish serves the managed machine as DMTF's Redfish (DSP0266 1.21):
// it puts the chapters together, each a package of its own below this one, and
// shows the documents that lead to them.
package redfish

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/redfish/session"
	"github.com/nitrino/nitrino/redfish/system"
)

// Auth is what the service needs of package auth.
type Auth interface {
	protocol.Auth
	session.Auth
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
// for many goroutines.
type Service struct {
	http *protocol.Service
}

// New makes the service. It fails only if a required option is missing.
func New(o Options) (*Service, error) {
	if o.Host == nil || o.Auth == nil || o.Log == nil {
		return nil, fmt.Errorf("redfish: options Host, Auth and Log are required")
	}
	var routes []resource.Route
	routes = append(routes, system.New(system.Options{Host: o.Host, Log: o.Log}).Routes()...)
	routes = append(routes, session.New(o.Auth, o.Log).Routes()...)
	first, err := root(o, routes)
	if err != nil {
		return nil, fmt.Errorf("redfish: %w", err)
	}
	s := &Service{}
	s.http, err = protocol.New(protocol.Options{Auth: o.Auth, Log: o.Log, Routes: append(first, routes...)})
	return s, err
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.http.ServeHTTP(w, r) }
