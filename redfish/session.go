package redfish

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/nitrino/nitrino/auth"
)

const (
	sessionServiceSchema = "SessionService.v1_2_0"
	sessionServiceType   = "#" + sessionServiceSchema + ".SessionService"
	sessionSchema        = "Session.v1_8_0"
	sessionType          = "#" + sessionSchema + ".Session"
)

type sessionService struct {
	odata
	ID             string `json:"Id"`
	ServiceEnabled bool   `json:"ServiceEnabled"`
	// SessionTimeout is in seconds of inactivity.
	SessionTimeout int64  `json:"SessionTimeout"`
	Status         status `json:"Status"`
	Sessions       link   `json:"Sessions"`
}

// session leaves out Password, which would have to be null, and what this
// service does not know of a session.
type session struct {
	odata
	ID                    string   `json:"Id"`
	UserName              string   `json:"UserName"`
	SessionType           string   `json:"SessionType,omitempty"`
	Roles                 []string `json:"Roles"`
	CreatedTime           string   `json:"CreatedTime"`
	ClientOriginIPAddress string   `json:"ClientOriginIPAddress,omitempty"`
}

func (s *Service) getSessionService(*request) *reply {
	return ok(sessionService{
		odata:          odata{sessionServiceURI, sessionServiceType, "Session Service"},
		ID:             "SessionService",
		ServiceEnabled: true,
		SessionTimeout: int64(s.auth.SessionTimeout() / time.Second),
		Status:         status{new("Enabled"), "OK"},
		Sessions:       link{sessionsURI},
	})
}

// patchSessionService takes SessionTimeout. ServiceEnabled is no property to
// write here: a service that nobody can log in to could not be enabled again.
func (s *Service) patchSessionService(q *request) *reply {
	return s.patch(q, s.getSessionService, []property{{"SessionTimeout", s.setSessionTimeout}})
}

func (s *Service) setSessionTimeout(value any) (bool, []message) {
	const name = "SessionTimeout"
	number, isNumber := value.(json.Number)
	seconds, err := strconv.ParseInt(number.String(), 10, 32)
	switch {
	case !isNumber, err != nil && !errors.Is(err, strconv.ErrRange):
		return false, []message{propertyValueTypeError(value, name).about(pointer(name))}
	// The schema's minimum and maximum.
	case err != nil, seconds < 30, seconds > 86400:
		return false, []message{propertyValueOutOfRange(value, name).about(pointer(name))}
	}
	if err := s.auth.SetSessionTimeout(time.Duration(seconds) * time.Second); err != nil {
		s.log.Error("session timeout not set", "error", err)
		return false, []message{propertyNotUpdated(name).about(pointer(name))}
	}
	return true, nil
}

func (s *Service) getSessions(*request) *reply {
	var uris []string
	for _, each := range s.auth.Sessions() {
		uris = append(uris, sessionsURI+"/"+each.ID)
	}
	return ok(newCollection(sessionsURI, "SessionCollection", "Session Collection", uris...))
}

// postSession is the login (DSP0266, Session login).
func (s *Service) postSession(q *request) *reply {
	if q.TLS == nil {
		return fail(needsTLS())
	}
	given, sent := map[string]string{}, map[string]bool{}
	var problems []message
	for _, m := range q.body {
		sent[m.name] = true
		switch text, isString := m.value.(string); {
		case ignored(m.name):
		case m.name != "UserName" && m.name != "Password":
			problems = append(problems, propertyUnknown(m.name).about(pointer(m.name)))
		case !isString:
			// The value may be a password: it is not shown.
			problems = append(problems, propertyValueTypeError("", m.name).about(pointer(m.name)))
		default:
			given[m.name] = text
		}
	}
	for _, name := range []string{"UserName", "Password"} {
		if !sent[name] {
			problems = append(problems, propertyMissing(name).about(pointer(name)))
		}
	}
	if problems != nil {
		return fail(problems...)
	}
	by := attempt(q.Request, given["UserName"])
	u, err := s.auth.Password(q.Context(), by, given["Password"])
	if err != nil {
		return fail(*s.loginProblem(err))
	}
	made, token, err := s.auth.NewSession(u, by)
	if err != nil {
		return fail(*s.loginProblem(err))
	}
	r := newSession(made)
	return &reply{status: http.StatusCreated, resource: r, location: r.ODataID, token: token}
}

func newSession(a auth.Session) session {
	r := session{
		odata:       odata{sessionsURI + "/" + a.ID, sessionType, "User Session"},
		ID:          a.ID,
		UserName:    a.User,
		Roles:       []string{string(a.Role)},
		CreatedTime: a.Created.UTC().Format(time.RFC3339),
	}
	switch a.Via {
	case Via:
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
func (s *Service) ownSession(q *request) (auth.Session, *reply) {
	id := q.PathValue("id")
	a, found := s.auth.SessionByID(id)
	if !found {
		return a, fail(resourceNotFound("Session", id))
	}
	if a.User != q.user.Name && !q.may(configureManager) {
		return a, fail(insufficientPrivilege())
	}
	return a, nil
}

func (s *Service) getSession(q *request) *reply {
	a, problem := s.ownSession(q)
	if problem != nil {
		return problem
	}
	return ok(newSession(a))
}

func (s *Service) deleteSession(q *request) *reply {
	a, problem := s.ownSession(q)
	if problem != nil {
		return problem
	}
	if !s.auth.EndSession(a.ID) {
		return fail(resourceNotFound("Session", a.ID))
	}
	return noContent()
}
