package protocol

import (
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// maxBody is the longest JSON body of a request, in bytes.
const maxBody = 1 << 20

// failed is for what should not happen; the log says what it was.
func (s *Service) failed(err error) *resource.Reply {
	s.log.Error("redfish request", "error", err)
	return resource.Fail(message.InternalError())
}

// handler runs the checks that all requests share, in the order that DSP0266
// demands (authentication before any other header), then the method.
func (s *Service) handler(rt resource.Route, need mapping) http.Handler {
	allow := rt.Allow()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("OData-Version", "4.0")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		handle := rt.Handler(r.Method)
		if allow != "" && (handle == nil || r.Method == "GET" || r.Method == "HEAD") {
			h.Set("Allow", allow)
		}
		q := &resource.Request{Request: r, Attempt: Attempt(r, "")}
		privilege := need.of(r.Method)
		public := privilege == 0 && rt.Pattern != "" || handle == nil && need.get == 0 && rt.Pattern != ""
		if rt.Open && r.Method == "POST" || rt.Open && rt.Get == nil {
			public = true
		}
		if !public {
			// What does not exist is told only to who is logged in.
			if problem := s.authenticate(q); problem != nil {
				s.write(w, q, resource.Fail(*problem))
				return
			}
			q.Attempt = Attempt(r, q.User.Name)
		}
		switch {
		case rt.Pattern == "":
			s.write(w, q, resource.Fail(message.InvalidURI(r.URL.Path)))
			return
		case handle == nil:
			s.write(w, q, resource.Fail(message.OperationNotAllowed()))
			return
		case !public && !q.May(privilege) && !(rt.Self && r.Method == "PATCH" && q.May(resource.ConfigureSelf)):
			s.write(w, q, resource.Fail(message.InsufficientPrivilege()))
			return
		}
		if problems := checkHeaders(r); problems != nil {
			s.write(w, q, resource.Fail(problems...))
			return
		}
		if hasBody(r.Method) && !rt.Raw {
			var problem *message.Message
			if q.Body, problem = readBody(w, r, rt.Action); problem != nil {
				s.write(w, q, resource.Fail(*problem))
				return
			}
		}
		s.write(w, q, s.run(rt, handle, q))
	})
}

func hasBody(method string) bool { return method == "POST" || method == "PATCH" || method == "PUT" }

// run calls the method; one that changes a resource only if the resource is
// the one that the client means (RFC 9110 section 13).
func (s *Service) run(rt resource.Route, handle resource.Handler, q *resource.Request) *resource.Reply {
	if q.Method != "PATCH" && q.Method != "PUT" && q.Method != "DELETE" || rt.Get == nil {
		return handle(q)
	}
	s.change.Lock()
	defer s.change.Unlock()
	match, noneMatch := q.Header.Values("If-Match"), q.Header.Values("If-None-Match")
	if match != nil || noneMatch != nil {
		now := rt.Get(q)
		if now.Problems != nil {
			return now
		}
		_, etag, err := encode(now.Resource, nil)
		if err != nil {
			return s.failed(err)
		}
		if (match != nil && !hasTag(match, etag)) || hasTag(noneMatch, etag) {
			return resource.Fail(message.PreconditionFailed())
		}
	}
	return handle(q)
}

// authenticate fills in the request's user, or says why it cannot. A token
// goes before a password. No cookie counts (DSP0266, HTTP header
// authentication), so a foreign page has nothing to ride on but Basic
// credentials that a browser kept, and for those its requests would need the
// media type application/json, which needs a preflight that is refused.
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

// LoginProblem maps an error of Auth.Password. Its answer to whatever is wrong
// with name or password is the same.
func LoginProblem(log *slog.Logger, err error) *message.Message {
	if errors.Is(err, auth.ErrDenied) {
		return new(message.Unauthorized())
	}
	log.Warn("login could not be checked", "error", err)
	return new(message.TemporarilyUnavailable())
}

// checkHeaders checks what DSP0266 (Request headers, Query parameters) asks of
// every request.
func checkHeaders(r *http.Request) (problems []message.Message) {
	if v := r.Header.Values("OData-Version"); v != nil && (len(v) > 1 || v[0] != "4.0") {
		return []message.Message{message.HeaderInvalid("OData-Version", http.StatusPreconditionFailed)}
	}
	// $metadata is XML whatever the client would rather have.
	if !strings.HasSuffix(r.URL.Path, "$metadata") && !acceptsJSON(r.Header.Values("Accept")) {
		return []message.Message{message.HeaderInvalid("Accept", http.StatusNotAcceptable)}
	}
	for name := range r.URL.Query() {
		if strings.HasPrefix(name, "$") {
			problems = append(problems, message.QueryParameterUnsupported(name))
		}
	}
	slices.SortFunc(problems, func(a, b message.Message) int { return strings.Compare(a.Args[0], b.Args[0]) })
	return problems
}

// acceptsJSON reports whether a client with these Accept headers takes JSON.
func acceptsJSON(values []string) bool {
	any := false
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		any = true
		name, params, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "*/*", "application/*", "application/json":
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
func readBody(w http.ResponseWriter, r *http.Request, action string) (resource.Object, *message.Message) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
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
		a.Stream(w)
		return
	}
	if d == nil {
		w.WriteHeader(a.Status)
		return
	}
	h.Set("ETag", d.ETag)
	if d.Link != "" {
		h.Set("Link", d.Link)
	}
	if q.Method == "GET" || q.Method == "HEAD" {
		if match := q.Header.Values("If-Match"); match != nil && !hasTag(match, d.ETag) {
			h.Del("ETag")
			h.Del("Link")
			s.writeError(w, q, []message.Message{message.PreconditionFailed()})
			return
		}
		// RFC 9110 section 13.1.2 compares these weakly: W/ is no difference.
		if none := strings.Join(q.Header.Values("If-None-Match"), ","); hasTag([]string{strings.ReplaceAll(none, "W/", "")}, d.ETag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.send(w, q, a.Status, d.ContentType, d.Body)
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
