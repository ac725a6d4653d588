package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/media"
	"github.com/nitrino/nitrino/redfish/message"
)

// fakeLibrary keeps images in memory.
type fakeLibrary struct {
	mu     sync.Mutex
	images map[string][]byte
	err    error
	from   host.Origin
	clock  int64
	times  map[string]int64
	begun  chan struct{} // of a Put, if not nil
}

func newFakeLibrary() *fakeLibrary {
	return &fakeLibrary{images: map[string][]byte{}, times: map[string]int64{}}
}

func (l *fakeLibrary) image(name string) media.Image {
	return media.Image{Name: name, Size: int64(len(l.images[name])), Modified: time.Unix(1_700_000_000+l.times[name], 0)}
}

func (l *fakeLibrary) Images() ([]media.Image, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []media.Image
	for name := range l.images {
		all = append(all, l.image(name))
	}
	slices.SortFunc(all, func(a, b media.Image) int { return strings.Compare(a.Name, b.Name) })
	return all, l.err
}

func (l *fakeLibrary) Put(name string, r io.Reader, size int64, from host.Origin) (media.Image, error) {
	if l.begun != nil {
		close(l.begun)
	}
	data, err := io.ReadAll(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || err != nil {
		return media.Image{}, errors.Join(l.err, err)
	}
	if size >= 0 && size != int64(len(data)) {
		return media.Image{}, media.ErrContent
	}
	l.clock++
	l.images[name], l.times[name], l.from = data, l.clock, from
	return l.image(name), nil
}

func (l *fakeLibrary) Remove(name string, _ host.Origin) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, found := l.images[name]; l.err == nil && !found {
		return media.ErrNotFound
	}
	delete(l.images, name)
	return l.err
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func (l *fakeLibrary) OpenImage(name string) (io.ReadSeekCloser, media.Image, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	data, found := l.images[name]
	if !found {
		return nil, media.Image{}, media.ErrNotFound
	}
	return readCloser{bytes.NewReader(data)}, l.image(name), l.err
}

// users are known by name alone.
func users(r *http.Request) (auth.User, *message.Message) {
	name, _, _ := r.BasicAuth()
	role := map[string]auth.Role{"admin": auth.Administrator, "new": auth.Administrator, "oper": auth.Operator, "reader": auth.ReadOnly}[name]
	if role == "" {
		return auth.User{}, new(message.Unauthorized())
	}
	return auth.User{Name: name, Role: role, PasswordChangeRequired: name == "new"}, nil
}

type library struct {
	t      *testing.T
	lib    *fakeLibrary
	server *httptest.Server
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	l := &library{t: t, lib: newFakeLibrary()}
	s := &Service{opt: Options{Library: l.lib, Log: slog.New(slog.DiscardHandler)}}
	l.server = httptest.NewTLSServer(s.Files(users))
	t.Cleanup(l.server.Close)
	return l
}

// do answers the response with its body read.
func (l *library) do(method, path, user string, body io.Reader, header ...string) (*http.Response, string) {
	l.t.Helper()
	req, err := http.NewRequest(method, l.server.URL+path, body)
	if err != nil {
		l.t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, "x")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := l.server.Client().Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		l.t.Fatal(err)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Cache-Control") != "no-cache" {
		l.t.Errorf("%s %s: headers %v", method, path, resp.Header)
	}
	return resp, string(text)
}

func (l *library) want(status int, method, path, user, body string, header ...string) (http.Header, string) {
	l.t.Helper()
	resp, text := l.do(method, path, user, strings.NewReader(body), header...)
	if resp.StatusCode != status {
		l.t.Errorf("%s %s %v as %s: got %d, want %d: %s", method, path, header, user, resp.StatusCode, status, text)
	}
	if status >= 400 && method != "HEAD" {
		var e struct {
			Error struct{ Code string } `json:"error"`
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil || e.Error.Code == "" {
			l.t.Errorf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return resp.Header, text
}

func TestFiles(t *testing.T) {
	l := newLibrary(t)
	if _, text := l.want(200, "GET", "/media/", "reader", ""); text != `{"images":[]}` {
		t.Errorf("%s", text)
	}
	h, text := l.want(201, "PUT", "/media/a.iso", "admin", "0123456789")
	first := h.Get("ETag")
	if h.Get("Location") != "/media/a.iso" || first == "" || text != `{"name":"a.iso","path":"/media/a.iso","size":10,"modified":"2023-11-14T22:13:21Z","in_use":false}` {
		t.Errorf("%v %s", h, text)
	}
	if l.lib.from.User != "admin" || l.lib.from.Source != "127.0.0.1" {
		t.Errorf("from %+v", l.lib.from)
	}
	if _, text := l.want(200, "GET", "/media/a.iso", "admin", ""); text != "0123456789" {
		t.Errorf("%s", text)
	}
	h, text = l.want(206, "GET", "/media/a.iso", "admin", "", "Range", "bytes=3-5")
	if text != "345" || h.Get("Content-Range") != "bytes 3-5/10" || h.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%v %s", h, text)
	}
	l.want(304, "GET", "/media/a.iso", "admin", "", "If-None-Match", first)
	if h, _ := l.want(200, "HEAD", "/media/a.iso", "admin", ""); h.Get("Content-Length") != "10" {
		t.Errorf("%v", h)
	}
	l.want(412, "PUT", "/media/a.iso", "admin", "x", "If-None-Match", "*")
	l.want(412, "PUT", "/media/a.iso", "admin", "x", "If-Match", `"other"`)
	l.want(412, "PUT", "/media/b.iso", "admin", "x", "If-Match", "*")
	l.want(400, "PUT", "/media/a.iso", "admin", "x", "Content-Range", "bytes 0-0/10")
	if h, _ := l.want(200, "PUT", "/media/a.iso", "admin", "0123", "If-Match", first); h.Get("ETag") == first {
		t.Error("the same entity tag")
	}
	l.want(201, "PUT", "/media/b.iso", "admin", "x", "If-None-Match", "*")
	if _, text := l.want(200, "GET", "/media/", "reader", ""); strings.Count(text, `"name"`) != 2 {
		t.Errorf("%s", text)
	}
	l.want(204, "DELETE", "/media/b.iso", "admin", "")
	l.want(404, "DELETE", "/media/b.iso", "admin", "")
	l.want(404, "GET", "/media/b.iso", "admin", "")
	l.want(404, "GET", "/media/a/b", "admin", "")
	if h, _ := l.want(405, "POST", "/media/a.iso", "admin", ""); h.Get("Allow") != "HEAD, GET, PUT, DELETE" {
		t.Errorf("Allow %q", h.Get("Allow"))
	}
	l.want(405, "PUT", "/media/", "admin", "")
}

func TestFilesAccess(t *testing.T) {
	l := newLibrary(t)
	l.want(201, "PUT", "/media/a.iso", "admin", "x")
	for _, user := range []string{"oper", "reader", "new"} {
		for _, method := range []string{"PUT", "GET", "DELETE"} {
			l.want(403, method, "/media/a.iso", user, "y")
		}
	}
	l.want(403, "GET", "/media/", "new", "")
	for _, path := range []string{"/media/", "/media/a.iso", "/media/none", "/other/x"} {
		if h, _ := l.want(401, "GET", path, "", ""); h.Get("WWW-Authenticate") == "" {
			t.Error("no WWW-Authenticate")
		}
	}
	// A page of another origin, in a browser that has kept credentials.
	for _, method := range []string{"PUT", "DELETE"} {
		l.want(403, method, "/media/a.iso", "admin", "y", "Sec-Fetch-Site", "cross-site")
		l.want(403, method, "/media/a.iso", "admin", "y", "Origin", "https://elsewhere.example")
	}
	if got := string(l.lib.images["a.iso"]); got != "x" {
		t.Errorf("changed to %q", got)
	}
	l.want(200, "PUT", "/media/a.iso", "admin", "y", "Sec-Fetch-Site", "same-origin", "Origin", l.server.URL)
}

func TestFilesErrors(t *testing.T) {
	l := newLibrary(t)
	for _, c := range []struct {
		err    error
		status int
	}{
		{media.ErrName, 400},
		{media.ErrContent, 400},
		{media.ErrInUse, 409},
		{fmt.Errorf("media: %w", media.ErrFull), 507},
		{media.ErrStopped, 503},
		{io.ErrUnexpectedEOF, 400},
		{os.ErrDeadlineExceeded, 408},
		{errors.New("fault"), 500},
	} {
		l.lib.err = c.err
		l.want(c.status, "PUT", "/media/a.iso", "admin", "x")
		l.want(c.status, "DELETE", "/media/a.iso", "admin", "")
		l.want(c.status, "GET", "/media/", "admin", "")
	}
}

// A second upload of a name does not wait for the first, nor mix with it.
func TestFilesOneUpload(t *testing.T) {
	l := newLibrary(t)
	l.lib.begun = make(chan struct{})
	body, feed := io.Pipe()
	done := make(chan int)
	go func() {
		resp, _ := l.do("PUT", "/media/a.iso", "admin", body)
		done <- resp.StatusCode
	}()
	<-l.lib.begun
	l.want(409, "PUT", "/media/a.iso", "admin", "x")
	if _, err := io.WriteString(feed, "first"); err != nil {
		t.Fatal(err)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if status := <-done; status != 201 || string(l.lib.images["a.iso"]) != "first" {
		t.Errorf("%d, %q", status, l.lib.images["a.iso"])
	}
}

// A slowReader takes time for each chunk.
type slowReader struct {
	chunks int
	pause  time.Duration
	chunk  string
}

func (s *slowReader) Read(p []byte) (int, error) {
	if s.chunks == 0 {
		return 0, io.EOF
	}
	s.chunks--
	time.Sleep(s.pause)
	return copy(p, s.chunk), nil
}

// deadlines are those that were set on a connection.
type deadlines struct {
	http.ResponseWriter
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// An upload may last as long as it comes on, and does not creep.
func TestFilesDeadlines(t *testing.T) {
	for chunk, status := range map[string]int{strings.Repeat("x", 2<<10): 201, "x": 408} {
		synctest.Test(t, func(t *testing.T) {
			lib := newFakeLibrary()
			s := &Service{opt: Options{Library: lib, Log: slog.New(slog.DiscardHandler)}}
			rec := httptest.NewRecorder()
			w := &deadlines{ResponseWriter: rec, read: time.Now()}
			// It is read by 512 bytes or more.
			r := httptest.NewRequest("PUT", "https://bmc/media/a.iso", &slowReader{chunks: 300, pause: time.Second / 3, chunk: chunk})
			r.SetBasicAuth("admin", "x")
			s.Files(users).ServeHTTP(w, r)
			if rec.Code != status || (len(lib.images["a.iso"]) > 0) != (status == 201) || time.Until(w.write) != time.Minute || status == 201 && !w.read.IsZero() {
				t.Errorf("chunks of %d: got %d, %d bytes, deadlines %v, %v", len(chunk), rec.Code, len(lib.images["a.iso"]), w.read, w.write)
			}
		})
	}
}
