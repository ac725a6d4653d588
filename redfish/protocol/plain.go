package protocol

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// Plain is for what is beside Redfish's resources, for pages and scripts: uploads
// and downloads of any length. Users, privileges and errors are as Redfish's.
type Plain struct {
	// User tells who sends a request, as Service.User does.
	User func(*http.Request) (auth.User, *message.Message)
	Log  *slog.Logger
}

// A PlainMethod is one that a URI has. GET answers HEAD, too.
type PlainMethod struct {
	Name string
	Need resource.Privilege // any of it
	Do   func(http.ResponseWriter, *http.Request, host.Origin)
}

// Methods answers at a URI; one without methods does not exist. It lifts the
// server's limits of time, which are for short requests, and bounds how long
// nothing comes or goes instead.
func (p Plain) Methods(all ...PlainMethod) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		// A page of another origin must not use Basic credentials that the browser
		// keeps.
		if err := new(http.CrossOriginProtection).Check(r); err != nil {
			p.Fail(w, message.GeneralError(http.StatusForbidden, "Send the request from a page of this service, or with a client that is no web browser."))
			return
		}
		var m *PlainMethod
		var names []string
		for _, each := range all {
			names = append(names, each.Name)
			if each.Name == r.Method || each.Name == "GET" && r.Method == "HEAD" {
				m = &each
			}
		}
		u, problem := p.User(r)
		switch {
		case problem != nil:
			p.Fail(w, *problem)
			return
		case u.PasswordChangeRequired:
			p.Fail(w, message.PasswordChangeRequired(resource.AccountURI(u)))
			return
		case all == nil:
			p.Fail(w, message.InvalidURI(r.URL.Path))
			return
		case m == nil:
			h.Set("Allow", strings.Join(append([]string{"HEAD"}, names...), ", "))
			p.Fail(w, message.OperationNotAllowed())
			return
		case resource.PrivilegesOf(u.Role)&m.Need == 0:
			p.Fail(w, message.InsufficientPrivilege())
			return
		}
		c := http.NewResponseController(w)
		if r.Method != "PUT" {
			// The server would take it for the client's end.
			if err := deadline(c.SetReadDeadline, 0); err != nil {
				return // the client has gone
			}
		}
		// The server looks at its own request's body to know whether a client still
		// waits for leave to send it.
		r = r.WithContext(r.Context())
		r.Body = PacedBody(r.Body, c)
		m.Do(plainWriter{pacedWriter{w, c}}, r, (&resource.Request{Request: r, User: u}).Origin())
	})
}

// A plainWriter is a pacedWriter whose headers may wait for long, too.
type plainWriter struct{ pacedWriter }

// WriteHeader implements http.ResponseWriter.
func (w plainWriter) WriteHeader(status int) {
	// What the connection cannot do, a write will tell.
	_ = deadline(w.conn.SetWriteDeadline, idle)
	w.ResponseWriter.WriteHeader(status)
}

// Break ends an answer that has begun and cannot be completed, so that its client
// does not take it for whole: without a length there is no other way to say so.
func (p Plain) Break(w http.ResponseWriter) {
	// What is in buffers goes first, so that nothing is cut in its middle. Where that
	// fails the connection has ended.
	c := http.NewResponseController(w)
	if err := errors.Join(c.Flush(), c.SetWriteDeadline(time.Unix(1, 0))); err != nil {
		p.Log.Debug("breaking an answer off", "error", err)
	}
}

// Fail answers an error.
func (p Plain) Fail(w http.ResponseWriter, m message.Message) {
	if m.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Redfish", charset="UTF-8"`)
	}
	if m.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(m.RetryAfter))
	}
	body, err := message.ErrorBody([]message.Message{m})
	if err != nil {
		p.Log.Error("plain reply", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	p.write(w, m.Status, body)
}

// Send answers v as JSON.
func (p Plain) Send(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		p.Log.Error("plain reply", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	p.write(w, status, body)
}

func (p Plain) write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", JSONType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		p.Log.Debug("client went away", "error", err)
	}
}
