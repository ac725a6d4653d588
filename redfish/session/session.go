// Package session is Redfish's SessionService: who is logged in, and the login
// (DSP0266, Session login).
package session

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Auth is what the chapter needs of package auth.
type Auth interface {
	Password(ctx context.Context, t auth.Attempt, password string) (auth.User, error)
	// NewSession opens a session for a user that has just proved itself.
	NewSession(u auth.User, t auth.Attempt) (s auth.Session, token string, err error)
	SessionByID(id string) (auth.Session, bool)
	Sessions() []auth.Session
	// EndSession ends a session; false: there was none.
	EndSession(id string) bool
	SessionTimeout() time.Duration
	// SetSessionTimeout takes 30 s to 24 h.
	SetSessionTimeout(time.Duration) error
}

// Service is the chapter.
type Service struct {
	auth Auth
	log  *slog.Logger
}

// New makes it.
func New(a Auth, log *slog.Logger) *Service { return &Service{a, log} }

const (
	serviceType    = "SessionService.v1_2_0.SessionService"
	collectionType = "SessionCollection.SessionCollection"
	sessionType    = "Session.v1_8_0.Session"
)

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	return []resource.Route{
		{Pattern: resource.SessionServiceURI, Type: serviceType, Get: s.getSessionService, Patch: s.patchSessionService},
		// Who logs in has no session yet.
		{Pattern: resource.SessionsURI, Type: collectionType, Open: true, Get: s.getSessions, Post: s.postSession},
		{Pattern: resource.SessionsURI + "/{id}", Type: sessionType, Free: true, Get: s.getSession, Delete: s.deleteSession},
	}
}

type sessionService struct {
	resource.OData
	ServiceEnabled bool `json:"ServiceEnabled"`
	// SessionTimeout is in seconds of inactivity.
	SessionTimeout int64           `json:"SessionTimeout"`
	Status         resource.Status `json:"Status"`
	Sessions       resource.Link   `json:"Sessions"`
}

// session leaves out Password, which would have to be null, and what this
// service does not know of a session.
type session struct {
	resource.OData
	UserName              string   `json:"UserName"`
	SessionType           string   `json:"SessionType,omitempty"`
	Roles                 []string `json:"Roles"`
	CreatedTime           string   `json:"CreatedTime"`
	ClientOriginIPAddress string   `json:"ClientOriginIPAddress,omitempty"`
}

func (s *Service) getSessionService(*resource.Request) *resource.Reply {
	return resource.OK(sessionService{
		OData:          resource.NewOData(resource.SessionServiceURI, serviceType, "Session Service"),
		ServiceEnabled: true,
		SessionTimeout: int64(s.auth.SessionTimeout() / time.Second),
		Status:         resource.Enabled(),
		Sessions:       resource.Link{ODataID: resource.SessionsURI},
	})
}

// patchSessionService takes SessionTimeout. ServiceEnabled is no property to
// write here: a service that nobody can log in to could not be enabled again.
func (s *Service) patchSessionService(q *resource.Request) *resource.Reply {
	// The schema's minimum and maximum.
	return resource.Patch(q, s.getSessionService, resource.Integer("SessionTimeout", 30, 86400, func(seconds int64) []message.Message {
		if err := s.auth.SetSessionTimeout(time.Duration(seconds) * time.Second); err != nil {
			s.log.Error("session timeout not set", "error", err)
			return []message.Message{message.PropertyNotUpdated("SessionTimeout")}
		}
		return nil
	}))
}

func (s *Service) getSessions(*resource.Request) *resource.Reply {
	var uris []string
	for _, each := range s.auth.Sessions() {
		uris = append(uris, resource.SessionsURI+"/"+each.ID)
	}
	return resource.OK(resource.NewCollection(resource.SessionsURI, "SessionCollection", "Session Collection", uris...))
}

// postSession is the login (DSP0266, Session login).
func (s *Service) postSession(q *resource.Request) *resource.Reply {
	if q.TLS == nil {
		return resource.Fail(message.NeedsTLS())
	}
	var name, password string
	if problems := q.Parameters("", resource.Required(resource.Text("UserName", &name)), resource.Required(resource.Password("Password", &password))); problems != nil {
		return resource.Fail(problems...)
	}
	by := protocol.Attempt(q.Request, name)
	u, err := s.auth.Password(q.Context(), by, password)
	if err != nil {
		return resource.Fail(*protocol.LoginProblem(s.log, err))
	}
	made, token, err := s.auth.NewSession(u, by)
	if err != nil {
		return resource.Fail(*protocol.LoginProblem(s.log, err))
	}
	r := newSession(made)
	return &resource.Reply{Status: http.StatusCreated, Resource: r, Location: r.ODataID, Token: token}
}

func newSession(a auth.Session) session {
	r := session{
		OData:       resource.NewOData(resource.SessionsURI+"/"+a.ID, sessionType, "User Session"),
		UserName:    a.User,
		Roles:       []string{string(a.Role)},
		CreatedTime: a.Created.UTC().Format(time.RFC3339),
	}
	switch a.Via {
	case resource.Via:
		r.SessionType = "Redfish"
	case "web":
		r.SessionType = "WebUI"
	}
	if a.Source.IsValid() {
		r.ClientOriginIPAddress = a.Source.String()
	}
	return r
}

// ownSession finds the session that the request is about; it must be the
// user's own unless the user may configure the manager.
func (s *Service) ownSession(q *resource.Request) (auth.Session, *resource.Reply) {
	id := q.PathValue("id")
	a, found := s.auth.SessionByID(id)
	if !found {
		return a, resource.Fail(message.ResourceNotFound("Session", id))
	}
	if a.User != q.User.Name && !q.May(resource.ConfigureManager) {
		return a, resource.Fail(message.InsufficientPrivilege())
	}
	return a, nil
}

func (s *Service) getSession(q *resource.Request) *resource.Reply {
	a, problem := s.ownSession(q)
	if problem != nil {
		return problem
	}
	return resource.OK(newSession(a))
}

func (s *Service) deleteSession(q *resource.Request) *resource.Reply {
	a, problem := s.ownSession(q)
	if problem != nil {
		return problem
	}
	if !s.auth.EndSession(a.ID) {
		return resource.Fail(message.ResourceNotFound("Session", a.ID))
	}
	return resource.NoContent()
}
