package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/common"
)

// answerLimit is how much of one answer is read. A service need not be honest.
const answerLimit = 64 << 20

// A client is a service that somebody is logged in to.
type client struct {
	api  *gofish.APIClient
	http *http.Client
	base string // https://HOST:PORT
	note func(format string, args ...any)
	poll time.Duration

	name     string // of the profile, or ""
	profile  profile
	user     string
	password string // "" where a saved session is used
	keep     bool   // the session outlives the program
}

// connect logs in to the service that the flags name, once a run.
func (p *program) connect(ctx context.Context) (*client, error) {
	if p.session != nil {
		return p.session, nil
	}
	conf, err := p.load()
	if err != nil {
		return nil, err
	}
	name, chosen, err := p.chosen(conf)
	if err != nil {
		return nil, err
	}
	one := *chosen
	if p.global.fingerprint != "" || p.global.ca != "" {
		one.Fingerprint, one.CA = p.global.fingerprint, p.global.ca
	}
	t, err := trust(one)
	if err != nil {
		return nil, err
	}
	c := &client{http: newHTTP(t), note: p.note, poll: p.poll, name: name, profile: one}
	if c.base, _, err = address(one.Host); err != nil {
		return nil, err
	}
	if one.Session != nil && p.global.user == "" {
		live, err := c.resume(ctx, *one.Session)
		if err != nil {
			return nil, err
		}
		if live {
			p.session = c
			return c, nil
		}
	}
	if c.user = p.user(one); c.user == "" {
		return nil, usagef("no user is named: want -u USER")
	}
	if c.password, err = p.password(c.user, one.Host); err != nil {
		return nil, err
	}
	c.api, err = gofish.ConnectContext(ctx, gofish.ClientConfig{
		Endpoint: c.base, HTTPClient: c.http, Username: c.user, Password: c.password, MaxConcurrentRequests: 8,
	})
	if err != nil {
		return nil, c.refused(err)
	}
	p.session = c
	return c, nil
}

// user is who logs in.
func (p *program) user(one profile) string {
	for _, name := range []string{p.global.user, p.getenv("BMCCTL_USER"), one.User} {
		if name != "" {
			return name
		}
	}
	return ""
}

// password comes from a file, the environment or the terminal; it is kept nowhere.
func (p *program) password(user, host string) (string, error) {
	if file := p.global.passwordFile; file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		line, _, _ := strings.Cut(string(data), "\n")
		return strings.TrimSuffix(line, "\r"), nil
	}
	if text := p.getenv("BMCCTL_PASSWORD"); text != "" {
		return text, nil
	}
	text, err := p.secret(fmt.Sprintf("Password of %s at %s: ", user, host))
	if errors.Is(err, errNoTerminal) {
		return "", usagef("no password: want -password-file FILE, the variable BMCCTL_PASSWORD, or a terminal to ask at")
	}
	return text, err
}

// resume takes a session that login left; false: it is over.
func (c *client) resume(ctx context.Context, s savedSession) (live bool, err error) {
	c.api, err = gofish.ConnectContext(ctx, gofish.ClientConfig{
		Endpoint: c.base, HTTPClient: c.http, Session: &gofish.Session{ID: s.URI, Token: s.Token}, MaxConcurrentRequests: 8,
	})
	if err != nil {
		return false, c.refused(err)
	}
	c.keep = true
	_, err = c.read(s.URI, &struct{}{})
	if status(err) == http.StatusUnauthorized || status(err) == http.StatusNotFound {
		c.keep = false
		return false, nil
	}
	return err == nil, err
}

// refused explains why there is no connection.
func (c *client) refused(err error) error {
	if e, is := errors.AsType[*certificateError](err); is {
		return e // without the URL that was to be read
	}
	if status(err) == http.StatusUnauthorized {
		return fmt.Errorf("%w: wrong user or password, a disabled user, or locked out after too many tries (%w)", errDenied, err)
	}
	// What TLS says of a certificate that nobody known has signed.
	if text := err.Error(); strings.Contains(text, "x509: ") || strings.Contains(text, "tls: failed to verify") {
		return &certificateError{fmt.Sprintf("the certificate of %s is not trusted: %v.\n"+
			"Pin it with bmcctl profile add NAME %s, or name it with -fingerprint, or its authorities with -ca", c.profile.Host, err, c.profile.Host)}
	}
	if e, is := errors.AsType[*url.Error](err); is && !errors.Is(err, context.Canceled) {
		return &url.Error{Op: "connecting to", URL: c.profile.Host, Err: e.Err} // which path was asked first is of no interest
	}
	return err
}

// repin takes another certificate for the service's from now on. For a moment it may
// still show the one before.
func (c *client) repin(print string) {
	c.http.CloseIdleConnections()
	c.http = newHTTP(pinned(c.profile.Host, print, c.profile.Fingerprint))
	c.api.HTTPClient = c.http
	c.profile.Fingerprint = print
}

// close ends the session, unless it is kept.
func (c *client) close(ctx context.Context) error {
	defer c.http.CloseIdleConnections()
	s, err := c.api.GetSession()
	if c.keep || err != nil {
		return nil // none of ours to end
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return c.endSession(ctx, s.ID)
}

// endSession deletes it, with a context of its own: gofish's may have ended.
func (c *client) endSession(ctx context.Context, uri string) error {
	r, err := c.request(ctx, http.MethodDelete, uri, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("logging out: %w", err)
	}
	// A session that is gone already is as good.
	return resp.Body.Close()
}

// request makes one for what gofish does not do: streams.
func (c *client) request(ctx context.Context, method, uri string, body io.Reader) (*http.Request, error) {
	base, err := url.Parse(c.base)
	if err != nil {
		return nil, fmt.Errorf("the service's address: %w", err)
	}
	ref, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("the service names %q: %w", uri, err)
	}
	to := base.ResolveReference(ref)
	// The token may go to nobody else.
	if to.Host != base.Host || to.Scheme != base.Scheme {
		return nil, fmt.Errorf("the service leads to %s, which is not asked", to.Host)
	}
	r, err := http.NewRequestWithContext(ctx, method, to.String(), body)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	if s, err := c.api.GetSession(); err == nil {
		r.Header.Set("X-Auth-Token", s.Token)
	} else {
		r.SetBasicAuth(c.user, c.password)
	}
	return r, nil
}

// send does a request that request made; what is not a success is an error.
func (c *client) send(r *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(r)
	if err != nil || resp.StatusCode < 300 {
		return resp, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	return nil, common.ConstructError(resp.StatusCode, data)
}

// status is that of an answer that is an error; 0: it is none.
func status(err error) int {
	if e, is := errors.AsType[*common.Error](err); is {
		return e.HTTPReturnedStatusCode
	}
	return 0
}

// An answer is what a service says to a request that it took.
type answer struct {
	status   int
	location string
	etag     string
	body     []byte
}

// call sends JSON and reads the answer. body nil sends none. Messages that come
// with a success are told: some of what was asked for was not done.
func (c *client) call(method, uri string, body any, header map[string]string) (*answer, error) {
	var payload io.ReadSeeker
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("writing JSON: %w", err)
		}
		payload = bytes.NewReader(data)
	}
	kind := ""
	if payload != nil {
		kind = "application/json"
	}
	resp, err := c.api.RunRawRequestWithHeaders(method, uri, payload, kind, header)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, location: resp.Header.Get("Location"), etag: resp.Header.Get("ETag")}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit)); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	if method != http.MethodGet {
		c.tell(a.body)
	}
	return a, nil
}

// tell shows the messages of a success that are more than "success".
func (c *client) tell(body []byte) {
	var info struct {
		Messages []wireMessage `json:"@Message.ExtendedInfo"`
	}
	if len(body) == 0 || json.Unmarshal(body, &info) != nil {
		return // not of Redfish's form: there is nothing to tell
	}
	for _, m := range info.Messages {
		if !strings.HasSuffix(m.MessageID, ".Success") && m.Message != "" {
			c.note("note: %s", clean(m.Message))
		}
	}
}

// read gets a resource.
func (c *client) read(uri string, v any) (etag string, err error) {
	if uri == "" {
		return "", errUnsupported
	}
	a, err := c.call(http.MethodGet, uri, nil, nil)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		return "", fmt.Errorf("%s: what the service sent cannot be read: %w", uri, err)
	}
	return a.etag, nil
}

// patch changes a resource. A service that wants to know which version is meant
// is told the present one (DSP0266, PATCH (update)).
func (c *client) patch(uri string, body any) error {
	_, err := c.call(http.MethodPatch, uri, body, nil)
	if status(err) != http.StatusPreconditionRequired && status(err) != http.StatusPreconditionFailed {
		return err
	}
	etag, bad := c.read(uri, &struct{}{})
	if bad != nil || etag == "" {
		return err
	}
	_, err = c.call(http.MethodPatch, uri, body, map[string]string{"If-Match": etag})
	return err
}

// A link leads to another resource.
type link struct {
	URI string `json:"@odata.id"`
}

// An action is one that a resource offers.
type action struct {
	Target string `json:"target"`
}

// act runs an action; a service that does not offer it has no target.
func (c *client) act(a action, what string, body any) (*answer, error) {
	if a.Target == "" {
		return nil, fmt.Errorf("%s: %w", what, errUnsupported)
	}
	return c.call(http.MethodPost, a.Target, body, nil)
}

// pages is how many parts of a collection are read at most.
const pages = 1000

// members reads all of a collection.
func members[T any](c *client, uri string) ([]T, error) {
	all, bad, err := eachMember[T](c, uri)
	return all, errors.Join(append(bad, err)...)
}

// visibleMembers leaves out those that are others' business.
func visibleMembers[T any](c *client, uri string) (some []T, err error) {
	all, bad, err := eachMember[T](c, uri)
	for i, one := range all {
		if status(bad[i]) == http.StatusForbidden {
			continue
		}
		some, err = append(some, one), errors.Join(err, bad[i])
	}
	return some, err
}

// eachMember reads a collection: as many members as the service sends whole, the
// others one by one; bad has an error or nil for each. uri "" is a service without
// it.
func eachMember[T any](c *client, uri string) (all []T, bad []error, err error) {
	if uri == "" {
		return nil, nil, errUnsupported
	}
	if c.api.Service != nil && c.api.Service.ProtocolFeaturesSupported.ExpandQuery.NoLinks {
		uri += "?$expand=." // its members in the same answer
	}
	var raw []json.RawMessage
	for range pages {
		var page struct {
			Members []json.RawMessage
			Next    string `json:"Members@odata.nextLink"`
		}
		if _, err := c.read(uri, &page); err != nil {
			return nil, nil, err
		}
		raw = append(raw, page.Members...)
		if page.Next == "" {
			break
		}
		uri = page.Next
	}
	all, bad = make([]T, len(raw)), make([]error, len(raw))
	var wg sync.WaitGroup
	turn := make(chan struct{}, 8)
	for i, one := range raw {
		var there map[string]json.RawMessage
		var to link
		if err := errors.Join(json.Unmarshal(one, &there), json.Unmarshal(one, &to)); err != nil {
			return nil, nil, fmt.Errorf("%s: a member cannot be read: %w", uri, err)
		}
		if len(there) > 1 {
			bad[i] = json.Unmarshal(one, &all[i])
			continue
		}
		turn <- struct{}{}
		wg.Go(func() {
			_, bad[i] = c.read(to.URI, &all[i])
			<-turn
		})
	}
	wg.Wait()
	return all, bad, nil
}
