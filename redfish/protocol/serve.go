package protocol

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// maxBody is the longest JSON body of a request, in bytes, and maxOpenBody one
// that needs no login: anybody can send many of those at once, and all of them
// are in memory.
const (
	maxBody     = 256 << 10
	maxOpenBody = 8 << 10
)

// failed is for what should not happen; the log says what it was.
func (s *Service) failed(err error) *resource.Reply {
	s.log.Error("redfish request", "error", err)
	return resource.Fail(message.InternalError())
}

// handler answers all requests for a route.
func (s *Service) handler(rt resource.Route, need mapping) http.Handler {
	allow := rt.Allow()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if in, isInner := w.(*inner); isInner {
			in.reply = s.answerInside(rt, need, in.by, r)
			return
		}
		h := w.Header()
		h.Set("OData-Version", "4.0")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		if allow != "" && (rt.Handler(r.Method) == nil || isReading(r.Method)) {
			h.Set("Allow", allow)
		}
		q := &resource.Request{Request: r, Attempt: Attempt(r, "")}
		ask, refusal := s.admit(rt, need, q)
		switch {
		case refusal != nil:
			s.write(w, q, refusal)
		case rt.Stream && r.Method == "HEAD":
			// Its GET may be a subscription, which a look at the headers is none of.
			h.Set("Content-Type", streamType)
			w.WriteHeader(http.StatusOK)
		case rt.Raw && hasBody(r.Method):
			s.takeUpload(w, rt, q)
		default:
			a, sent := s.answer(w, rt, q, ask)
			defer sent()
			s.write(w, q, a)
		}
	})
}

// admit runs the checks that all requests share, in the order that DSP0266
// demands: authentication before any other header. A reply is a refusal.
func (s *Service) admit(rt resource.Route, need mapping, q *resource.Request) (query, *resource.Reply) {
	if err := foreign(q.Request, rt.Stream); err != nil {
		return query{}, resource.Fail(message.GeneralError(http.StatusForbidden, "Send the request from a page of this service, or with a client that is no web browser."))
	}
	public := isPublic(rt, need, q.Method)
	// What does not exist is told only to who is logged in. What needs no login
	// may lead to what does, for $expand.
	if !public || isReading(q.Method) && q.URL.RawQuery != "" && hasCredentials(q.Request) {
		if problem := s.authenticate(q); problem != nil {
			return query{}, resource.Fail(*problem)
		}
		q.Attempt = Attempt(q.Request, q.User.Name)
	}
	exists := rt.Handler(q.Method) != nil
	switch {
	case !public && !mayUse(rt, q):
		return query{}, resource.Fail(message.PasswordChangeRequired(resource.AccountURI(q.User)))
	case rt.Pattern == "":
		return query{}, resource.Fail(message.InvalidURI(q.URL.Path))
	case !exists && !isMethod(q.Method):
		// RFC 9110 section 15.6.2: a method that no resource here could have.
		return query{}, resource.Fail(message.GeneralError(http.StatusNotImplemented, "Use one of the methods that the header Allow lists."))
	case !exists:
		return query{}, resource.Fail(message.OperationNotAllowed())
	case !public && !q.May(need.of(q.Method)) && !(rt.Self && q.Method == "PATCH" && q.May(resource.ConfigureSelf)):
		return query{}, resource.Fail(message.InsufficientPrivilege())
	}
	ask, problems := checkRequest(q.Request, rt)
	if problems != nil {
		return query{}, resource.Fail(problems...)
	}
	return ask, nil
}

// answer calls the method, with the body that it takes. sent is to be called
// once the reply was written.
func (s *Service) answer(w http.ResponseWriter, rt resource.Route, q *resource.Request, ask query) (a *resource.Reply, sent func()) {
	sent = func() {}
	switch {
	case isReading(q.Method):
		return s.show(rt, q, ask)
	case hasBody(q.Method):
		limit := int64(maxBody)
		if rt.Open {
			limit = maxOpenBody
		}
		var problem *message.Message
		if q.Body, problem = readBody(w, q.Request, rt.Action, limit); problem != nil {
			return resource.Fail(*problem), sent
		}
	}
	return s.run(rt, rt.Handler(q.Method), q), sent
}

// takeUpload is answer and write for a body that may take its time: longer, too,
// than the server lets an answer take.
func (s *Service) takeUpload(w http.ResponseWriter, rt resource.Route, q *resource.Request) {
	conn := http.NewResponseController(w)
	// The server looks at its own request's body to know whether a client still waits
	// for leave to send it.
	q.Request = q.WithContext(q.Context())
	q.Request.Body = PacedBody(q.Request.Body, conn)
	a := s.run(rt, rt.Handler(q.Method), q)
	if err := deadline(conn.SetWriteDeadline, idle); err != nil {
		s.log.Debug("client went away", "error", err)
		return
	}
	s.write(w, q, a)
}

// isPublic reports whether a method needs no login: neither what the method
// needs nor, where there is no such method, what it takes to see the resource.
func isPublic(rt resource.Route, need mapping, method string) bool {
	if rt.Pattern == "" {
		return false
	}
	if rt.Open && (method == "POST" || rt.Get == nil) {
		return true
	}
	return need.of(method) == 0 || rt.Handler(method) == nil && need.get == 0
}

func hasCredentials(r *http.Request) bool {
	return r.Header.Get("X-Auth-Token") != "" || r.Header.Get("Authorization") != ""
}

// mayUse reports whether a user who has to change the password may use a route
// (DSP0266, Password change required handling). The account is the user's own.
func mayUse(rt resource.Route, q *resource.Request) bool {
	if !q.User.PasswordChangeRequired {
		return true
	}
	if !rt.Free || !rt.Self {
		return rt.Free
	}
	own := canonical(q.URL.Path) == resource.AccountURI(q.User)
	return own && (isReading(q.Method) || q.Method == "PATCH")
}

// answerInside answers a GET of the service's own; nil: it cannot be answered
// in full there.
func (s *Service) answerInside(rt resource.Route, need mapping, by *resource.Request, r *http.Request) *resource.Reply {
	q := &resource.Request{Request: r, User: by.User, Session: by.Session, Attempt: by.Attempt}
	switch {
	case rt.Get == nil || rt.Stream:
		return nil
	case isPublic(rt, need, "GET"):
	case !mayUse(rt, q) || !q.May(need.get):
		return resource.Fail(message.InsufficientPrivilege())
	}
	return rt.Get(q)
}

// canonical is a URI without the slash that makes no difference at its end.
func canonical(uri string) string { return strings.TrimSuffix(uri, "/") }

func isReading(method string) bool { return method == "GET" || method == "HEAD" }

func hasBody(method string) bool { return method == "POST" || method == "PATCH" || method == "PUT" }

// isMethod reports whether RFC 9110 section 9.3 or RFC 5789 has the method.
func isMethod(method string) bool {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		return true
	}
	return false
}

// foreign tells a request that a page of another origin has sent, by a browser
// that adds credentials it has kept: Basic ones, as no cookie counts here. A
// JSON body needs a preflight, which is refused, but a form can send files, and
// an upload is one. Reading does no harm, as such a page does not get to see
// the answer; but a stream is a subscription.
func foreign(r *http.Request, stream bool) error {
	if stream {
		r = r.WithContext(r.Context()) // a copy
		r.Method = "POST"
	}
	return new(http.CrossOriginProtection).Check(r)
}

// run calls the method; one that changes a resource only if the resource is
// the one that the client means (RFC 9110 section 13).
func (s *Service) run(rt resource.Route, handle resource.Handler, q *resource.Request) *resource.Reply {
	a := s.guarded(rt, handle, q)
	s.tell(rt, q, a)
	return a
}

// guarded makes an If-Match check and the change that it guards one step, so
// that of two clients with the same entity tag only one succeeds.
func (s *Service) guarded(rt resource.Route, handle resource.Handler, q *resource.Request) *resource.Reply {
	if q.Method != "PATCH" && q.Method != "PUT" && q.Method != "DELETE" || rt.Get == nil {
		return handle(q)
	}
	defer s.changes.lock(canonical(q.URL.Path))()
	match, noneMatch := q.Header.Values("If-Match"), q.Header.Values("If-None-Match")
	if match != nil || noneMatch != nil {
		now := rt.Get(q)
		if now.Problems != nil {
			return now
		}
		etag, err := tagOfReply(now)
		if err != nil {
			return s.failed(err)
		}
		if (match != nil && !hasTag(match, etag)) || hasTag(noneMatch, etag) {
			return resource.Fail(message.PreconditionFailed())
		}
	}
	return handle(q)
}

// tagOfReply is the entity tag of what GET shows.
func tagOfReply(a *resource.Reply) (string, error) {
	if a.Resource == nil {
		if a.Document == nil {
			return "", nil
		}
		return a.Document.ETag, nil
	}
	_, etag, err := encode(a.Resource, nil)
	return etag, err
}

// The kinds of changes that Options.Changed is told of: the keys of DMTF's
// registry ResourceEvent.
const (
	ResourceCreated = "ResourceCreated"
	ResourceChanged = "ResourceChanged"
	ResourceRemoved = "ResourceRemoved"
)

// tell reports a change that a client has made. What an action or a task does
// is not known here.
func (s *Service) tell(rt resource.Route, q *resource.Request, a *resource.Reply) {
	done := a.Status == http.StatusOK || a.Status == http.StatusNoContent
	uri, odataType := canonical(q.URL.Path), "#"+rt.Type
	if a.Resource != nil {
		odataType = resource.TypeOf(a.Resource)
	}
	switch {
	case s.changed == nil || rt.Type == "" || rt.Action != "":
	case (q.Method == "PATCH" || q.Method == "PUT") && done:
		s.changed(ResourceChanged, uri, odataType)
	case q.Method == "DELETE" && done:
		s.changed(ResourceRemoved, uri, "#"+rt.Type)
	case q.Method == "POST" && a.Status == http.StatusCreated && a.Location != "" && a.Resource != nil:
		s.changed(ResourceCreated, a.Location, odataType)
	}
}

// authenticate fills in the request's user, or says why it cannot. A token
// goes before a password. No cookie counts (DSP0266, HTTP header
// authentication).
func (s *Service) authenticate(q *resource.Request) *message.Message {
	token := q.Header.Get("X-Auth-Token")
	name, password, basic := q.BasicAuth()
	if q.TLS == nil {
		return new(message.NeedsTLS())
	}
	if token == "" && !basic {
		return new(message.Unauthorized())
	}
	if token != "" {
		session, u, found := s.auth.Session(token)
		if !found {
			return new(message.Unauthorized())
		}
		q.User, q.Session = u, session
		return nil
	}
	u, err := s.auth.Password(q.Context(), Attempt(q.Request, name), password)
	if err != nil {
		return LoginProblem(s.log, err)
	}
	q.User = u
	return nil
}

// User tells who sends a request that is not Redfish's, or says why it cannot:
// one who has to change the password first is nobody yet.
func (s *Service) User(r *http.Request) (auth.User, *message.Message) {
	q := &resource.Request{Request: r}
	if problem := s.authenticate(q); problem != nil {
		return auth.User{}, problem
	}
	if q.User.PasswordChangeRequired {
		return auth.User{}, new(message.PasswordChangeRequired(resource.AccountURI(q.User)))
	}
	return q.User, nil
}

// LoginProblem maps an error of Auth.Password. Its answer to whatever is wrong
// with name or password is the same.
func LoginProblem(log *slog.Logger, err error) *message.Message {
	if errors.Is(err, auth.ErrDenied) {
		return new(message.Unauthorized())
	}
	log.Warn("login could not be checked", "error", err)
	return new(message.TemporarilyUnavailable())
}

// checkRequest checks what DSP0266 (Request headers, Query parameters) asks of
// every request, and reads the query of a GET.
func checkRequest(r *http.Request, rt resource.Route) (ask query, problems []message.Message) {
	if v := r.Header.Values("OData-Version"); v != nil && (len(v) > 1 || v[0] != "4.0") {
		return ask, []message.Message{message.HeaderInvalid("OData-Version", http.StatusPreconditionFailed)}
	}
	reading := isReading(r.Method)
	mediaType := "application/json"
	if rt.Stream && reading {
		mediaType = streamType
	}
	if (rt.Media == "" || !reading) && !accepts(r.Header.Values("Accept"), mediaType) {
		return ask, []message.Message{message.HeaderInvalid("Accept", http.StatusNotAcceptable)}
	}
	if r.URL.RawQuery == "" || rt.Stream {
		return ask, nil
	}
	ask, unsupported, problems := parseQuery(r.URL.RawQuery)
	if unsupported != nil {
		return ask, unsupported
	}
	if !reading {
		for name := range ask.values {
			if strings.HasPrefix(name, "$") {
				return query{}, []message.Message{message.QueryNotSupportedOnOperation()}
			}
		}
		return query{}, nil
	}
	return ask, problems
}

// accepts reports whether a client with these Accept headers takes a media type.
func accepts(values []string, mediaType string) bool {
	kind, _, _ := strings.Cut(mediaType, "/")
	any := false
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		any = true
		name, params, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "*/*", kind + "/*", mediaType:
		default:
			continue
		}
		refused := false
		for p := range strings.SplitSeq(params, ";") {
			k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
			weight, err := strconv.ParseFloat(v, 64)
			refused = refused || strings.EqualFold(k, "q") && err == nil && weight == 0
		}
		if !refused {
			return true
		}
	}
	return !any
}

// readBody reads the request's JSON object. A request without a body has the
// empty one.
func readBody(w http.ResponseWriter, r *http.Request, action string, limit int64) (resource.Object, *message.Message) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, new(message.PayloadTooLarge())
	}
	if err != nil {
		return nil, new(message.MalformedJSON())
	}
	if len(data) == 0 {
		return resource.Object{}, nil
	}
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || mediaType != "application/json" || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return nil, new(message.HeaderInvalid("Content-Type", http.StatusUnsupportedMediaType))
	}
	return resource.Decode(data, action)
}

// hasTag reports whether a list of entity tags (RFC 9110 section 8.8.3) has
// this one, or is "*". Ours are strong; a weak one never matches.
func hasTag(lists []string, etag string) bool {
	for part := range strings.SplitSeq(strings.Join(lists, ","), ",") {
		if part = strings.TrimSpace(part); part == "*" || part == etag {
			return true
		}
	}
	return false
}

// write sends the reply.
func (s *Service) write(w http.ResponseWriter, q *resource.Request, a *resource.Reply) {
	if a.Problems != nil && a.Resource == nil && a.Status == 0 {
		s.writeError(w, q, a.Problems)
		return
	}
	h := w.Header()
	d := a.Document
	if a.Resource != nil {
		body, etag, err := encode(a.Resource, a.Problems)
		if err != nil {
			s.log.Error("redfish reply", "error", err)
			s.writeError(w, q, []message.Message{message.InternalError()})
			return
		}
		d = &resource.Document{ContentType: JSONType, Link: DescribedBy(resource.TypeOf(a.Resource)), ETag: etag, Body: body}
	}
	if a.Location != "" {
		h.Set("Location", a.Location)
	}
	if a.Token != "" {
		h.Set("X-Auth-Token", a.Token)
	}
	if a.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.RetryAfter))
	}
	if d == nil && a.Stream != nil {
		s.stream(w, q, a)
		return
	}
	if d == nil {
		w.WriteHeader(a.Status)
		return
	}
	if d.ETag != "" {
		h.Set("ETag", d.ETag)
	}
	if d.Link != "" {
		h.Set("Link", d.Link)
	}
	if isReading(q.Method) {
		if match := q.Header.Values("If-Match"); match != nil && d.ETag != "" && !hasTag(match, d.ETag) {
			h.Del("ETag")
			h.Del("Link")
			s.writeError(w, q, []message.Message{message.PreconditionFailed()})
			return
		}
		// RFC 9110 section 13.1.2 compares these weakly: W/ is no difference.
		if none := strings.Join(q.Header.Values("If-None-Match"), ","); d.ETag != "" && hasTag([]string{strings.ReplaceAll(none, "W/", "")}, d.ETag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.send(w, q, a.Status, d.ContentType, d.Body)
}

// stream lets the reply write itself. HEAD gets the headers only.
func (s *Service) stream(w http.ResponseWriter, q *resource.Request, a *resource.Reply) {
	if q.Method == "HEAD" {
		w.WriteHeader(a.Status)
		return
	}
	paced, err := newPacedWriter(w)
	if err != nil {
		s.log.Debug("client went away", "error", err)
		return
	}
	a.Stream(paced)
}

func (s *Service) writeError(w http.ResponseWriter, q *resource.Request, problems []message.Message) {
	status := 0
	for _, p := range problems {
		status = max(status, p.Status)
		if p.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
		}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Redfish", charset="UTF-8"`)
	}
	body, err := message.ErrorBody(problems)
	if err != nil {
		s.log.Error("redfish error reply", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.send(w, q, status, JSONType, body)
}

func (s *Service) send(w http.ResponseWriter, q *resource.Request, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if q.Method == "HEAD" {
		return
	}
	if _, err := w.Write(body); err != nil {
		s.log.Debug("client went away", "error", err)
	}
}
