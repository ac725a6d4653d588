package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// A Download is a file of a server that is read once, from its beginning to its
// end. Where the connection is lost and the server gives ranges, it goes on where it
// was; if the file has changed meanwhile it fails with ErrChanged.
type Download struct {
	ctx       context.Context
	server    *server
	url       *url.URL
	validator validator
	size      int64 // -1: nobody knows
	ranges    bool  // the server can go on in the middle
	at        int64
	body      io.ReadCloser // nil: the connection was lost
}

// OpenDownload asks a server for a file; s.Image is an http or https URL. The
// download ends with ctx. Close it in the end.
func OpenDownload(ctx context.Context, s Source) (*Download, error) {
	s, _, u, err := parseSource(s)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, ErrScheme
	}
	d := &Download{ctx: ctx, server: newServer(u, s, usualPatience()), url: u, size: -1}
	resp, err := d.server.get(ctx, 0, -1, validator{})
	if err != nil {
		d.server.close()
		return nil, err
	}
	err = d.begin(resp)
	if err != nil {
		err = errors.Join(err, resp.Body.Close())
		d.server.close()
		return nil, err
	}
	return d, nil
}

// begin takes the first response.
func (d *Download) begin(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		d.size = resp.ContentLength
	case http.StatusPartialContent:
		part, err := parseContentRange(resp.Header.Get("Content-Range"))
		if err != nil || part.first != 0 {
			return unreachable(errContentRange)
		}
		d.size, d.ranges = part.size, part.size >= 0
	default:
		return refusal(resp)
	}
	d.validator, d.body = validatorOf(resp.Header), resp.Body
	return nil
}

// Size is the file's length in bytes, -1 where the server does not tell.
func (d *Download) Size() int64 { return d.size }

// String is the URL without what may be a secret.
func (d *Download) String() string { return shown(d.url) }

// Read implements io.Reader.
func (d *Download) Read(p []byte) (int, error) {
	end := time.Now().Add(d.server.patience.stall)
	pause := d.server.patience.pause
	for {
		n, err := d.read(p)
		if n > 0 || err == nil || err == io.EOF {
			return n, err
		}
		if _, final := errors.AsType[permanent](err); final || !d.ranges || d.ctx.Err() != nil || time.Now().Add(pause).After(end) {
			return 0, err
		}
		select {
		case <-time.After(pause):
		case <-d.ctx.Done():
			return 0, d.ctx.Err()
		}
		pause = min(2*pause, 16*d.server.patience.pause)
	}
}

// read reads once, over a new connection where the last one was lost.
func (d *Download) read(p []byte) (int, error) {
	if d.size >= 0 && d.at == d.size {
		return 0, io.EOF
	}
	if d.body == nil {
		if err := d.resume(); err != nil {
			return 0, err
		}
	}
	if d.size >= 0 && int64(len(p)) > d.size-d.at {
		p = p[:d.size-d.at]
	}
	n, err := d.body.Read(p)
	d.at += int64(n)
	if err == nil || err == io.EOF && d.size < 0 {
		return n, err
	}
	// Its end comes too early, or it is lost.
	cerr := d.body.Close()
	d.body = nil
	if n > 0 {
		return n, nil // the next Read sees to it
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return 0, unreachable(errors.Join(err, cerr))
}

// resume asks for the rest.
func (d *Download) resume() error {
	resp, err := d.server.get(d.ctx, d.at, -1, d.validator)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		part, perr := parseContentRange(resp.Header.Get("Content-Range"))
		switch {
		case perr != nil || part.first != d.at:
			err = unreachable(errContentRange)
		case part.size != d.size || !d.validator.matches(validatorOf(resp.Header)):
			err = permanent{ErrChanged}
		}
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable:
		err = permanent{ErrChanged} // the answer to If-Range, or it has become shorter
	default:
		err = refusal(resp)
	}
	if err != nil {
		return errors.Join(err, resp.Body.Close())
	}
	d.body = resp.Body
	return nil
}

// Close ends the download.
func (d *Download) Close() error {
	defer d.server.close()
	if d.body == nil {
		return nil
	}
	if err := d.body.Close(); err != nil {
		return fmt.Errorf("%s: %w", d, err)
	}
	return nil
}
