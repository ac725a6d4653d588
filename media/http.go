package media

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A validator tells whether a server's image is still the same (RFC 9110
// section 8.8).
type validator struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

func validatorOf(h http.Header) validator { return validator{h.Get("ETag"), h.Get("Last-Modified")} }

// ifRange is the value of If-Range, which weak tags cannot be (RFC 9110 section
// 13.1.5).
func (v validator) ifRange() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.LastModified
}

// matches compares with what a response carries. One to If-Range may leave
// fields out (RFC 9110 section 15.3.7).
func (v validator) matches(got validator) bool {
	return (got.ETag == "" || got.ETag == v.ETag) && (got.LastModified == "" || v.LastModified == "" || got.LastModified == v.LastModified)
}

// A patience is how long to wait for a server.
type patience struct {
	// idle is how long a connection may give nothing.
	idle time.Duration
	// stall is how long a block may take to come, over all attempts: then the
	// host gets an error. It is less than the 30 s that Linux gives a disk.
	stall time.Duration
	// pause is before the second attempt; it doubles up to its sixteenfold.
	pause time.Duration
}

func usualPatience() patience {
	return patience{idle: 6 * time.Second, stall: 20 * time.Second, pause: 100 * time.Millisecond}
}

const maxRedirects = 5

// A server is where an image comes from.
type server struct {
	url                *url.URL
	userName, password string
	client             *http.Client
	patience           patience
}

func newServer(u *url.URL, s Source, p patience) *server {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: p.idle}).DialContext,
		TLSHandshakeTimeout:   p.idle,
		ResponseHeaderTimeout: p.idle,
		IdleConnTimeout:       time.Minute,
		MaxConnsPerHost:       maxFetches,
		MaxIdleConnsPerHost:   maxFetches,
		DisableCompression:    true, // ranges are of the image, not of what carries it
		// Unverified is what the administrator asked for.
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !s.VerifyCertificate},
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return errors.New("too many redirections")
		case r.URL.Scheme != "http" && r.URL.Scheme != "https":
			return ErrScheme
		case s.VerifyCertificate && r.URL.Scheme == "http" && via[0].URL.Scheme == "https":
			return errors.New("a redirection leads away from https")
		}
		return nil
	}}
	return &server{url: u, userName: s.UserName, password: s.Password, client: client, patience: p}
}

func (s *server) close() { s.client.CloseIdleConnections() }

// A permanent error is one that trying again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// unreachable wraps the cause, without the URL that package net/http puts into
// it and that may carry a secret.
func unreachable(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// get asks for the bytes from first to last, or to the end for a last of -1. The body fails when nothing comes
// for the idle time; ctx bounds all of it.
func (s *server) get(ctx context.Context, first, last int64, v validator) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, permanent{unreachable(err)}
	}
	span := fmt.Sprintf("bytes=%d-", first)
	if last >= 0 {
		span += strconv.FormatInt(last, 10)
	}
	r.Header.Set("Range", span)
	if v.ifRange() != "" {
		r.Header.Set("If-Range", v.ifRange())
	}
	if s.userName != "" || s.password != "" {
		r.SetBasicAuth(s.userName, s.password)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		cancel(nil)
		return nil, unreachable(err)
	}
	b := &watched{ReadCloser: resp.Body, cancel: cancel, idle: s.patience.idle}
	b.timer = time.AfterFunc(b.idle, func() { cancel(errIdle) })
	b.cause = func() error { return context.Cause(ctx) }
	resp.Body = b
	return resp, nil
}

var errIdle = errors.New("the server sends nothing")

// watched is a body that ends when nothing comes.
type watched struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
	cause  func() error
	timer  *time.Timer
	idle   time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.timer.Reset(w.idle)
	}
	if err != nil && err != io.EOF && w.cause() != nil {
		err = w.cause()
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.ReadCloser.Close()
}

// refusal is the error for a status that brings no content.
func refusal(r *http.Response) error {
	err := fmt.Errorf("%w: the server answers %s", ErrUnreachable, r.Status)
	switch r.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return err
	}
	if r.StatusCode < 500 {
		return permanent{err}
	}
	return err
}

// contentRange is the field of that name (RFC 9110 section 14.4); size is -1
// where the server does not know it.
type contentRange struct{ first, last, size int64 }

var errContentRange = errors.New("malformed Content-Range")

func parseContentRange(s string) (contentRange, error) {
	unit, rest, _ := strings.Cut(s, " ")
	span, size, found := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(span, "-")
	r := contentRange{size: -1}
	var errs [3]error
	r.first, errs[0] = number(first)
	r.last, errs[1] = number(last)
	if size != "*" {
		r.size, errs[2] = number(size)
	}
	if !strings.EqualFold(unit, "bytes") || !found || !dash || errors.Join(errs[:]...) != nil ||
		r.first > r.last || r.size >= 0 && r.last >= r.size {
		return contentRange{}, errContentRange
	}
	return r, nil
}

// number takes digits only.
func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
