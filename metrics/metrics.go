// Package metrics shows the host and the board to Prometheus: GET answers in its
// text format 0.0.4.
package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

// Via is how this front-end names itself in login attempts.
const Via = "metrics"

// Auth is what the handler needs of package auth.
type Auth interface {
	Password(ctx context.Context, t auth.Attempt, password string) (auth.User, error)
	Session(token string) (auth.Session, auth.User, bool)
	Sessions() []auth.Session
}

// Options are what a Handler is made of; all but Version are required.
type Options struct {
	Host *host.Host
	Auth Auth
	Log  *slog.Logger
	// Version is the software's.
	Version string
}

// Handler answers GET for every user who may read. It is safe for many
// goroutines.
type Handler struct {
	opt   Options
	began time.Time
	// counted are the counters of events, which Run counts up.
	counted *metrics.Set
	last    uint64
}

// New makes the handler. Events are counted from now on, by Run.
func New(o Options) *Handler {
	return &Handler{opt: o, began: time.Now(), counted: metrics.NewSet(), last: o.Host.Events.Last()}
}

// Run counts events until ctx ends.
func (h *Handler) Run(ctx context.Context) error {
	for {
		if err := h.opt.Host.Events.Wait(ctx, h.last); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, e := range h.opt.Host.Events.Since(h.last, 0) {
			h.last = e.ID
			h.counted.GetOrCreateCounter(eventsName + labels("kind", e.Kind, "severity", string(e.Severity))).Inc()
		}
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		head.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	if status := h.admit(r); status != http.StatusOK {
		if status == http.StatusUnauthorized {
			head.Set("WWW-Authenticate", `Basic realm="metrics", charset="UTF-8"`)
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	var page bytes.Buffer
	h.write(&page)
	head.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(page.Bytes()); err != nil {
		h.opt.Log.Debug("client went away", "error", err)
	}
}

// admit says with which status to answer: OK for a user who may read. A token is
// one of a session's, as X-Auth-Token or bearer (RFC 6750 section 2.1).
func (h *Handler) admit(r *http.Request) int {
	if r.TLS == nil {
		return http.StatusForbidden // credentials are not for everybody's eyes
	}
	token := r.Header.Get("X-Auth-Token")
	if kind, value, found := strings.Cut(r.Header.Get("Authorization"), " "); found && strings.EqualFold(kind, "Bearer") && token == "" {
		token = value
	}
	var u auth.User
	if token != "" {
		var found bool
		if _, u, found = h.opt.Auth.Session(token); !found {
			return http.StatusUnauthorized
		}
	} else {
		name, password, given := r.BasicAuth()
		if !given {
			return http.StatusUnauthorized
		}
		var err error
		u, err = h.opt.Auth.Password(r.Context(), auth.Attempt{Via: Via, Source: source(r), Name: name}, password)
		if errors.Is(err, auth.ErrDenied) {
			return http.StatusUnauthorized
		}
		if err != nil {
			h.opt.Log.Warn("login could not be checked", "error", err)
			return http.StatusServiceUnavailable
		}
	}
	if !u.Role.AtLeast(auth.ReadOnly) || u.PasswordChangeRequired {
		return http.StatusForbidden
	}
	return http.StatusOK
}

// source is the client's address.
func source(r *http.Request) netip.Addr {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // the server did not set it
	}
	return p.Addr().Unmap()
}

// labels writes pairs of names and values: {a="b",c="d"}.
func labels(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `%s="%s"`, pairs[i], strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(pairs[i+1]))
	}
	return "{" + b.String() + "}"
}
