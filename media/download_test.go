package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestDownload reads files of servers that do well and of such that do not.
func TestDownload(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	var asked atomic.Int32
	// whole gives the file with these headers; cut breaks each answer off after as
	// many bytes.
	whole := func(w http.ResponseWriter, q *http.Request, etag string, cut int) {
		w.Header().Set("ETag", etag)
		if cut > 0 {
			w = &cutAfter{w, cut}
		}
		http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(data))
	}
	for name, tt := range map[string]struct {
		serve http.HandlerFunc
		size  int64
		asked int32
		want  error
	}{
		"well": {func(w http.ResponseWriter, q *http.Request) { whole(w, q, `"1"`, 0) }, int64(len(data)), 1, nil},
		"no ranges": {func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			w.Write(data)
		}, int64(len(data)), 1, nil},
		"no length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Write(data[:1])
			w.(http.Flusher).Flush()
			w.Write(data[1:])
		}, -1, 1, nil},
		"cut": {func(w http.ResponseWriter, q *http.Request) { whole(w, q, `"1"`, 50_000) }, int64(len(data)), 4, nil},
		"cut at once": {func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Content-Length", "9")
			(&cutAfter{w, 4}).Write(data[:9])
		}, 9, 1, ErrUnreachable},
		"changed": {func(w http.ResponseWriter, q *http.Request) {
			whole(w, q, fmt.Sprintf("%q", fmt.Sprint(asked.Load())), 50_000)
		}, int64(len(data)), 2, ErrChanged},
		"none": {http.NotFound, 0, 1, ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			asked.Store(0)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				asked.Add(1)
				tt.serve(w, q)
			}))
			defer server.Close()
			d, err := OpenDownload(t.Context(), Source{Image: server.URL + "/a?token=secret"})
			var got []byte
			if err == nil {
				if d.Size() != tt.size || strings.Contains(d.String(), "secret") {
					t.Errorf("got %d bytes of %s, want %d of what shows no secret", d.Size(), d, tt.size)
				}
				got, err = io.ReadAll(d)
				if cerr := d.Close(); cerr != nil {
					t.Error(cerr)
				}
			}
			if !errors.Is(err, tt.want) || tt.want == nil && !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, %v, want %v", len(got), err, tt.want)
			}
			if asked.Load() != tt.asked {
				t.Errorf("got %d requests, want %d", asked.Load(), tt.asked)
			}
		})
	}
	for _, url := range []string{"ftp://h/x", "/media/x", "x"} {
		if _, err := OpenDownload(t.Context(), Source{Image: url}); !errors.Is(err, ErrScheme) {
			t.Errorf("%s: got %v, want %v", url, err, ErrScheme)
		}
	}
}

// cutAfter breaks the connection off.
type cutAfter struct {
	http.ResponseWriter
	left int
}

func (c *cutAfter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	if c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}
