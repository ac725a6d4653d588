package redfish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

// maxBody is the longest request body, in bytes.
const maxBody = 1 << 20

const (
	jsonType = "application/json;charset=utf-8"
	xmlType  = "application/xml;charset=utf-8"
)

// A request is one HTTP request that has passed authentication, authorization
// and the checks of its headers.
type request struct {
	*http.Request
	// user is the zero User where the method needs no login.
	user auth.User
	// body is the request's JSON object; nil for methods without one.
	body object
}

// may reports whether the user has any privilege of p.
func (q *request) may(p privilege) bool { return privilegesOf(q.user.Role)&p != 0 }

// origin is the request's sender, as events show it.
func (q *request) origin() host.Origin {
	o := host.Origin{Via: Via, User: q.user.Name}
	if a := source(q.Request); a.IsValid() {
		o.Source = a.String()
	}
	return o
}

// source is the client's address; the zero Addr if the server did not set it.
func source(r *http.Request) netip.Addr {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap()
}

// begunKey is the key of a connection's beginning in its context.
type begunKey struct{}

// ConnContext notes when a connection began: it is for http.Server.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, begunKey{}, time.Now())
}

// attempt is a login by a request.
func attempt(r *http.Request, name string) auth.Attempt {
	begun, _ := r.Context().Value(begunKey{}).(time.Time) // zero without ConnContext
	return auth.Attempt{Via: Via, Source: source(r), Name: name, Begun: begun}
}

// A reply is the answer to a request, before it is written.
type reply struct {
	status int
	// resource is a struct that embeds odata, or nil.
	resource typed
	// document is a ready body; it stands where resource is nil.
	document *document
	// problems are the messages of an error, or what a partly successful
	// PATCH could not do.
	problems []message
	// location and token are those headers of a new session.
	location, token string
}

func ok(r typed) *reply               { return &reply{status: http.StatusOK, resource: r} }
func noContent() *reply               { return &reply{status: http.StatusNoContent} }
func fail(problems ...message) *reply { return &reply{problems: problems} }

// failed is for what should not happen; the log says what it was.
func (s *Service) failed(err error) *reply {
	s.log.Error("redfish request", "error", err)
	return fail(internalError())
}

// A document is a body that never changes, with its entity tag.
type document struct {
	contentType, link, etag string
	body                    []byte
}

// handler runs the checks that all requests share, in the order that DSP0266
// demands (authentication before any other header), then the method.
func (s *Service) handler(rt route) http.Handler {
	allow, public := rt.allow(), rt.public()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("OData-Version", "4.0")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		m, found := rt.method(r.Method)
		if allow != "" && (!found || m.name == "GET") {
			h.Set("Allow", allow)
		}
		q := &request{Request: r}
		switch {
		case found && m.need == noAuth, public:
		default:
			// What does not exist is told only to who is logged in.
			if problem := s.authenticate(q); problem != nil {
				s.write(w, q, fail(*problem))
				return
			}
		}
		switch {
		case rt.pattern == "":
			s.write(w, q, fail(invalidURI(r.URL.Path)))
			return
		case !found:
			s.write(w, q, fail(operationNotAllowed()))
			return
		case m.need != noAuth && !q.may(m.need):
			s.write(w, q, fail(insufficientPrivilege()))
			return
		}
		if problems := checkHeaders(r); problems != nil {
			s.write(w, q, fail(problems...))
			return
		}
		if m.name == "POST" || m.name == "PATCH" {
			var problem *message
			if q.body, problem = readBody(w, r, actionOf(rt.pattern)); problem != nil {
				s.write(w, q, fail(*problem))
				return
			}
		}
		s.write(w, q, s.run(rt, m, q))
	})
}

// run calls the method; one that changes a resource only if the resource is
// the one that the client means (RFC 9110 section 13).
func (s *Service) run(rt route, m method, q *request) *reply {
	if m.name != "PATCH" && m.name != "DELETE" {
		return m.handle(q)
	}
	s.change.Lock()
	defer s.change.Unlock()
	match, noneMatch := q.Header.Values("If-Match"), q.Header.Values("If-None-Match")
	if match != nil || noneMatch != nil {
		get, _ := rt.method("GET") // every route that can be changed can be read
		now := get.handle(q)
		if now.problems != nil {
			return now
		}
		_, etag, err := encode(now.resource, nil)
		if err != nil {
			return s.failed(err)
		}
		if (match != nil && !hasTag(match, etag)) || hasTag(noneMatch, etag) {
			return fail(preconditionFailed())
		}
	}
	return m.handle(q)
}

// authenticate fills in the request's user, or says why it cannot. A token
// goes before a password. No cookie counts (DSP0266, HTTP header
// authentication), so a foreign page has nothing to ride on but Basic
// credentials that a browser kept, and for those its requests would need the
// media type application/json, which needs a preflight that is refused.
func (s *Service) authenticate(q *request) *message {
	token := q.Header.Get("X-Auth-Token")
	name, password, basic := q.BasicAuth()
	if q.TLS == nil {
		return new(needsTLS())
	}
	if token == "" && !basic {
		return new(unauthorized())
	}
	if token != "" {
		_, u, found := s.auth.Session(token)
		if !found {
			return new(unauthorized())
		}
		q.user = u
		return nil
	}
	u, err := s.auth.Password(q.Context(), attempt(q.Request, name), password)
	if err != nil {
		return s.loginProblem(err)
	}
	q.user = u
	return nil
}

// loginProblem maps an error of Auth.Password. Its answer to whatever is wrong
// with name or password is the same.
func (s *Service) loginProblem(err error) *message {
	if errors.Is(err, auth.ErrDenied) {
		return new(unauthorized())
	}
	s.log.Warn("login could not be checked", "error", err)
	return new(temporarilyUnavailable())
}

// checkHeaders checks what DSP0266 (Request headers, Query parameters) asks of
// every request.
func checkHeaders(r *http.Request) (problems []message) {
	if v := r.Header.Values("OData-Version"); v != nil && (len(v) > 1 || v[0] != "4.0") {
		return []message{headerInvalid("OData-Version", http.StatusPreconditionFailed)}
	}
	// $metadata is XML whatever the client would rather have.
	if r.URL.Path != metadataURI && !acceptsJSON(r.Header.Values("Accept")) {
		return []message{headerInvalid("Accept", http.StatusNotAcceptable)}
	}
	for name := range r.URL.Query() {
		if strings.HasPrefix(name, "$") {
			problems = append(problems, queryParameterUnsupported(name))
		}
	}
	slices.SortFunc(problems, func(a, b message) int { return strings.Compare(a.Args[0], b.Args[0]) })
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
func readBody(w http.ResponseWriter, r *http.Request, action string) (object, *message) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return nil, new(payloadTooLarge())
	}
	if err != nil {
		return nil, new(malformedJSON())
	}
	if len(data) == 0 {
		return object{}, nil
	}
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || mediaType != "application/json" || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return nil, new(headerInvalid("Content-Type", http.StatusUnsupportedMediaType))
	}
	return decodeObject(data, action)
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

// encode makes a resource's body and its strong entity tag: a hash of all that
// it says, so that equal tags mean equal bodies. What a PATCH could not do is
// said in the body, and no part of the tag.
func encode(r typed, problems []message) (body []byte, etag string, err error) {
	if body, err = json.Marshal(r); err != nil {
		return nil, "", fmt.Errorf("encoding %s: %w", r.odataType(), err)
	}
	etag = tagOf(body)
	// The body is an object with at least one member.
	head := fmt.Appendf(nil, `{"@odata.etag":%q,`, etag)
	if problems != nil {
		notes, err := annotations(problems)
		if err != nil {
			return nil, "", err
		}
		head = append(head, notes...)
	}
	return append(head, body[1:]...), etag, nil
}

func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// write sends the reply.
func (s *Service) write(w http.ResponseWriter, q *request, a *reply) {
	if a.problems != nil && a.resource == nil {
		s.writeError(w, q, a.problems)
		return
	}
	h := w.Header()
	d := a.document
	if a.resource != nil {
		body, etag, err := encode(a.resource, a.problems)
		if err != nil {
			s.log.Error("redfish reply", "error", err)
			s.writeError(w, q, []message{internalError()})
			return
		}
		d = &document{contentType: jsonType, link: describedBy(a.resource.odataType()), etag: etag, body: body}
	}
	if a.location != "" {
		h.Set("Location", a.location)
	}
	if a.token != "" {
		h.Set("X-Auth-Token", a.token)
	}
	if d == nil {
		w.WriteHeader(a.status)
		return
	}
	h.Set("ETag", d.etag)
	if d.link != "" {
		h.Set("Link", d.link)
	}
	if q.Method == "GET" || q.Method == "HEAD" {
		if match := q.Header.Values("If-Match"); match != nil && !hasTag(match, d.etag) {
			h.Del("ETag")
			h.Del("Link")
			s.writeError(w, q, []message{preconditionFailed()})
			return
		}
		// RFC 9110 section 13.1.2 compares these weakly: W/ is no difference.
		if none := strings.Join(q.Header.Values("If-None-Match"), ","); hasTag([]string{strings.ReplaceAll(none, "W/", "")}, d.etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.send(w, q, a.status, d.contentType, d.body)
}

// describedBy is the header Link of a resource: the schema of its type.
func describedBy(odataType string) string {
	name := strings.TrimPrefix(odataType, "#")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return "<http://redfish.dmtf.org/schemas/v1/" + name + ".json>; rel=describedby"
}

func (s *Service) writeError(w http.ResponseWriter, q *request, problems []message) {
	status := 0
	for _, p := range problems {
		status = max(status, p.status)
		if p.retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
		}
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Redfish", charset="UTF-8"`)
	}
	body, err := errorBody(problems)
	if err != nil {
		s.log.Error("redfish error reply", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	s.send(w, q, status, jsonType, body)
}

func (s *Service) send(w http.ResponseWriter, q *request, status int, contentType string, body []byte) {
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
