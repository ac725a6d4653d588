// Package session is Redfish's SessionService: who is logged in, and the login
// (DSP0266, Session login).
package session

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"sync"
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

	mu       sync.Mutex
	contexts map[string]string // by Id of the session, what the client gave it
}

// New makes it.
func New(a Auth, log *slog.Logger) *Service {
	return &Service{auth: a, log: log, contexts: map[string]string{}}
}

// maxContext is the longest Context of a session, in bytes.
const maxContext = 256

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
	Writable       []string        `json:"@Redfish.WriteableProperties"`
	Status         resource.Status `json:"Status"`
	Sessions       resource.Link   `json:"Sessions"`
}

// session leaves out what this service does not know of a session. Password is
// always null: it is never told. Context is null where the client gave none.
type session struct {
	resource.OData
	UserName              string   `json:"UserName"`
	Password              *string  `json:"Password"`
	SessionType           string   `json:"SessionType,omitempty"`
	Roles                 []string `json:"Roles"`
	CreatedTime           string   `json:"CreatedTime"`
	ClientOriginIPAddress string   `json:"ClientOriginIPAddress,omitempty"`
	Context               *string  `json:"Context"`
}

func (s *Service) getSessionService(*resource.Request) *resource.Reply {
	return resource.OK(sessionService{
		OData:          resource.NewOData(resource.SessionServiceURI, serviceType, "Session Service"),
		ServiceEnabled: true,
		SessionTimeout: int64(s.auth.SessionTimeout() / time.Second),
		Writable:       []string{"SessionTimeout"},
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

// getSessions lists the sessions that the user may see.
func (s *Service) getSessions(q *resource.Request) *resource.Reply {
	var uris []string
	for _, each := range s.auth.Sessions() {
		if visible(q, each) {
			uris = append(uris, resource.SessionsURI+"/"+each.ID)
		}
	}
	return resource.OK(resource.NewCollection(resource.SessionsURI, "SessionCollection", "Session Collection", uris...))
}

// postSession is the login (DSP0266, Session login).
func (s *Service) postSession(q *resource.Request) *resource.Reply {
	if q.TLS == nil {
		return resource.Fail(message.NeedsTLS())
	}
	var name, password string
	var context *string
	problems := q.Parameters("",
		resource.Required(resource.Text("UserName", &name)),
		resource.Required(resource.Password("Password", &password)),
		resource.Parameter{Name: "Context", Set: func(value any, _ string) *message.Message {
			text, isString := value.(string)
			switch {
			case !isString:
				return new(message.PropertyValueTypeError(value, "Context"))
			case len(text) > maxContext:
				return new(message.StringValueTooLong(text, maxContext))
			}
			context = &text
			return nil
		}})
	if problems != nil {
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
	s.keep(made.ID, context)
	r := s.newSession(made)
	reply := &resource.Reply{Status: http.StatusCreated, Resource: r, Location: r.ODataID, Token: token}
	if u.PasswordChangeRequired {
		// The login stands, and this tells what it is good for (DSP0266, Password
		// change required).
		reply.Problems = []message.Message{message.PasswordChangeRequired(resource.AccountURI(u))}
	}
	return reply
}

// keep notes a session's context, and forgets those of sessions that are gone.
func (s *Service) keep(id string, context *string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if context != nil {
		s.contexts[id] = *context
	}
	open := map[string]bool{}
	for _, each := range s.auth.Sessions() {
		open[each.ID] = true
	}
	maps.DeleteFunc(s.contexts, func(id, _ string) bool { return !open[id] })
}

func (s *Service) newSession(a auth.Session) session {
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if context, given := s.contexts[a.ID]; given {
		r.Context = &context
	}
	return r
}

// visible says whether the user may see and end a session: the own ones, and all
// those who may configure the manager. Who has to change the password first may
// only log out.
func visible(q *resource.Request, a auth.Session) bool {
	return a.User == q.User.Name || q.May(resource.ConfigureManager) && !q.User.PasswordChangeRequired
}

// find finds the session that the request is about.
func (s *Service) find(q *resource.Request) (auth.Session, *resource.Reply) {
	id := q.PathValue("id")
	a, found := s.auth.SessionByID(id)
	switch {
	case found && visible(q, a):
		return a, nil
	case q.User.PasswordChangeRequired:
		return a, resource.Fail(message.PasswordChangeRequired(resource.AccountURI(q.User)))
	case found:
		return a, resource.Fail(message.InsufficientPrivilege())
	}
	return a, resource.Fail(message.ResourceNotFound("Session", id))
}

func (s *Service) getSession(q *resource.Request) *resource.Reply {
	a, problem := s.find(q)
	if problem != nil {
		return problem
	}
	return resource.OK(s.newSession(a))
}

func (s *Service) deleteSession(q *resource.Request) *resource.Reply {
	a, problem := s.find(q)
	if problem != nil {
		return problem
	}
	if !s.auth.EndSession(a.ID) {
		return resource.Fail(message.ResourceNotFound("Session", a.ID))
	}
	return resource.NoContent()
}
