package update

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/nitrino/nitrino/host"
)

// The times of a download.
const (
	dialLimit   = 10 * time.Second
	answerLimit = 30 * time.Second
	// stallLimit is how long a server may send nothing.
	stallLimit = 30 * time.Second
	// fetchLimit is how long a download may take altogether.
	fetchLimit   = 2 * time.Hour
	maxRedirects = 5
)

var (
	// ErrScheme: the address is not one of http or https.
	ErrScheme = errors.New("only http and https addresses can be read from")
	// ErrUnreachable: the server does not answer, or not with a bundle. It wraps
	// the cause.
	ErrUnreachable = errors.New("the update cannot be fetched")

	errStalled = fmt.Errorf("the server sent nothing for %v", stallLimit)
	errTooSlow = fmt.Errorf("it took more than %v", fetchLimit)
)

// A Source is where a bundle is fetched from.
type Source struct {
	URL string
	// User and Password are for HTTP's Basic scheme; an empty User: none.
	User, Password string
	// AnyServer takes a server for what it says it is, without a certificate that
	// is trusted. What comes from it has to be signed all the same.
	AnyServer bool
}

// Check says whether the address can be one: ErrScheme.
func (s Source) Check() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil:
		return ErrScheme // the cause would show all of the address, a password too
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%w, not %q", ErrScheme, u.Redacted())
	}
	return nil
}

// Fetch is Put of what a server gives. progress, which may be nil, is called with
// how many bytes came, and of how many, or -1. Besides Put's errors: ErrScheme,
// ErrUnreachable.
func (s *Staging) Fetch(ctx context.Context, src Source, progress func(done, total int64), from host.Origin) (Bundle, error) {
	if err := src.Check(); err != nil {
		return Bundle{}, s.refused(err, from)
	}
	limited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limited, done := context.WithTimeoutCause(limited, fetchLimit, errTooSlow)
	defer done()
	body, size, end, err := s.get(limited, src)
	defer end()
	if err != nil {
		return Bundle{}, s.refused(unreachable(limited, err), from)
	}
	stall := time.AfterFunc(stallLimit, func() { cancel(errStalled) })
	defer stall.Stop()
	in := &download{ctx: limited, r: body, size: size, stall: stall, progress: progress}
	return s.Put(ctx, in, size, from)
}

// unreachable makes an error of a download: why it was given up, if it was. It
// is for events, too, and leaves out the address that package net/http puts into
// it: its query may be a secret.
func unreachable(ctx context.Context, err error) error {
	if e, is := errors.AsType[*url.Error](err); is {
		err = e.Err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// get asks for a bundle. end gives back what that holds, in any case.
func (s *Staging) get(ctx context.Context, src Source) (body io.Reader, size int64, end func(), err error) {
	transport := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialLimit}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.opt.Roots, InsecureSkipVerify: src.AnyServer},
		TLSHandshakeTimeout:   dialLimit,
		ResponseHeaderTimeout: answerLimit,
		DisableCompression:    true, // its size is to be known, and it is compressed already
	}
	end = transport.CloseIdleConnections
	client := &http.Client{Transport: transport, CheckRedirect: checkRedirect}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src.URL, nil)
	if err != nil {
		return nil, 0, end, err
	}
	if src.User != "" {
		req.SetBasicAuth(src.User, src.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, end, err
	}
	end = func() {
		// Nothing is lost with it: all that was wanted has been read.
		_ = resp.Body.Close()
		transport.CloseIdleConnections()
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, end, fmt.Errorf("the server answers %s", resp.Status)
	}
	return resp.Body, resp.ContentLength, end, nil
}

// checkRedirect follows a few redirections, and none that gives up what the
// address asked for.
func checkRedirect(req *http.Request, via []*http.Request) error {
	last := via[len(via)-1].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirections", maxRedirects)
	case req.URL.Scheme == "https" || req.URL.Scheme == "http" && last.Scheme == "http":
		return nil
	}
	return fmt.Errorf("redirected from %s to %s: %w", last.Scheme, req.URL.Scheme, ErrScheme)
}

// A download is a body that comes.
type download struct {
	ctx        context.Context
	r          io.Reader
	done, size int64
	stall      *time.Timer
	progress   func(done, total int64)
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if n > 0 {
		d.stall.Reset(stallLimit)
		d.done += int64(n)
		if d.progress != nil {
			d.progress(d.done, d.size)
		}
	}
	if err != nil && err != io.EOF {
		err = unreachable(d.ctx, err)
	}
	return n, err
}
