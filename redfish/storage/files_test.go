package storage

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/redfish/message"
)

// users are known by name alone.
func users(r *http.Request) (auth.User, *message.Message) {
	name, _, _ := r.BasicAuth()
	role := map[string]auth.Role{"admin": auth.Administrator, "oper": auth.Operator, "reader": auth.ReadOnly}[name]
	if role == "" {
		return auth.User{}, new(message.Unauthorized())
	}
	return auth.User{Name: name, Role: role}, nil
}

type fileRig struct {
	*rig
	server *httptest.Server
}

func newFileRig(t *testing.T, http2 bool) *fileRig {
	t.Helper()
	r := &fileRig{rig: newRig(t)}
	r.server = httptest.NewUnstartedServer(r.s.Files(users))
	r.server.EnableHTTP2 = http2
	r.server.StartTLS()
	t.Cleanup(r.server.Close)
	return r
}

// send answers the response with its body read, as far as that came.
func (r *fileRig) send(method, path, user, text string, header ...string) (*http.Response, string, error) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.server.URL+path, strings.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, "x")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), errors.Join(err, resp.Body.Close())
}

// want checks the status, and the message of an error.
func (r *fileRig) want(status int, key, method, path, user, text string, header ...string) (http.Header, string) {
	r.t.Helper()
	resp, body, err := r.send(method, path, user, text, header...)
	var e struct {
		Error struct{ Code string }
	}
	if status >= 400 && method != "HEAD" && err == nil {
		err = json.Unmarshal([]byte(body), &e)
	}
	if got := strings.TrimPrefix(e.Error.Code, message.BaseRegistry); err != nil || resp.StatusCode != status || got != key {
		r.t.Errorf("%s %s as %q: got %d %s, %v, want %d %s: %s", method, path, user, resp.StatusCode, got, err, status, key, body)
	}
	return resp.Header, body
}

func TestUpload(t *testing.T) {
	r := newFileRig(t, true)
	h, body := r.want(201, "", "PUT", "/volumes/deb?kind=disk&format=raw&sha256=00&size=1024&block_size=4096", "oper", "contents")
	var e volumeEntry
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Name != "deb" || e.Path != "/volumes/deb" || e.Redfish != volumeURI("deb") || h.Get("Location") != "/volumes/deb" {
		t.Errorf("%v %s at %s", err, body, h.Get("Location"))
	}
	if want := (block.ImportRequest{Name: "deb", Kind: block.KindDisk, Format: "raw", SHA256: "00", Length: 8, Size: 1024, BlockSize: 4096}); r.disks.imported != want {
		t.Errorf("got %+v, want %+v", r.disks.imported, want)
	}
	if got := r.disks.from; got.User != "oper" || got.Source != "127.0.0.1" {
		t.Errorf("origin %+v", got)
	}
	if _, body = r.want(200, "", "GET", "/volumes/", "reader", ""); !strings.Contains(body, `"path":"/volumes/deb"`) {
		t.Errorf("list %s", body)
	}
	for _, c := range []struct {
		status            int
		key, method, path string
		user              string
		header            []string
	}{
		{409, "ResourceAlreadyExists", "PUT", "/volumes/deb", "oper", nil},
		{400, "GeneralError", "PUT", "/volumes/A", "oper", nil},
		{400, "QueryParameterValueError", "PUT", "/volumes/x?kind=snapshot", "oper", nil},
		{400, "QueryParameterValueError", "PUT", "/volumes/x?format=vhd", "oper", nil},
		{400, "QueryParameterValueError", "PUT", "/volumes/x?size=-1", "oper", nil},
		{400, "QueryParameterValueError", "PUT", "/volumes/x?size=", "oper", nil},
		{400, "QueryParameterValueError", "PUT", "/volumes/x?block_size=520", "oper", nil},
		{400, "QueryParameterValueError", "PUT", "/volumes/x?size=1&size=2", "oper", nil},
		{501, "QueryParameterUnsupported", "PUT", "/volumes/x?name=y", "oper", nil},
		{400, "QueryNotSupportedOnOperation", "PUT", "/volumes/x?%zz", "oper", nil},
		{400, "HeaderInvalid", "PUT", "/volumes/x", "oper", []string{"Content-Range", "bytes 0-1/2"}},
		{403, "InsufficientPrivilege", "PUT", "/volumes/x", "reader", nil},
		{401, "AccessUnauthorized", "PUT", "/volumes/x", "", nil},
		{405, "OperationNotAllowed", "DELETE", "/volumes/deb", "admin", nil},
		{403, "GeneralError", "PUT", "/volumes/x", "oper", []string{"Sec-Fetch-Site", "cross-site"}},
		{404, "InvalidURI", "GET", "/volumes/a/b", "oper", nil},
	} {
		r.want(c.status, c.key, c.method, c.path, c.user, "x", c.header...)
	}
	r.disks.set(func() { r.disks.away = true })
	if h, _ := r.want(503, "ServiceTemporarilyUnavailable", "PUT", "/volumes/x", "oper", "x"); h.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// Who waits for leave to send is told no before sending.
func TestContinue(t *testing.T) {
	r := newFileRig(t, false)
	r.fill()
	for name, want := range map[string]string{"disk0": "HTTP/1.1 409 Conflict", "new": "HTTP/1.1 100 Continue"} {
		config := r.server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		config.NextProtos = nil
		conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "PUT /volumes/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic b3Blcjp4\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", name); err != nil {
			t.Fatal(err)
		}
		if got, err := bufio.NewReader(conn).ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
			t.Errorf("%s: got %q, %v, want %s", name, got, err, want)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDownload(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", http2), func(t *testing.T) {
			r := newFileRig(t, http2)
			r.want(201, "", "PUT", "/volumes/deb", "oper", strings.Repeat("contents", 4096))
			whole := strings.Repeat("contents", 4096)
			h, body := r.want(200, "", "GET", "/volumes/deb", "oper", "")
			if body != whole || h.Get("Content-Length") != "32768" || h.Get("Content-Disposition") != `attachment; filename="deb.raw"` {
				t.Errorf("%d bytes, %v", len(body), h)
			}
			if h, body := r.want(200, "", "GET", "/volumes/deb?format=qcow2", "oper", ""); body != "QFI\xfb"+whole || h.Get("Content-Length") != "" {
				t.Errorf("%d bytes, %v", len(body), h)
			}
			if h, _ := r.want(200, "", "HEAD", "/volumes/deb", "oper", ""); h.Get("Content-Length") != "32768" {
				t.Errorf("%v", h)
			}
			r.want(403, "InsufficientPrivilege", "GET", "/volumes/deb", "reader", "")
			r.want(404, "ResourceNotFound", "GET", "/volumes/x", "oper", "")
			r.want(400, "QueryParameterValueError", "GET", "/volumes/deb?format=vhd", "oper", "")
			// What fails at once is answered, what fails later is broken off.
			r.disks.set(func() { r.disks.err = block.ErrMedium })
			r.want(409, "GeneralError", "GET", "/volumes/deb", "oper", "")
			for _, format := range []string{"raw", "qcow2"} {
				for _, n := range []int{100, 20000} {
					r.disks.set(func() { r.disks.exported = n })
					if resp, body, err := r.send("GET", "/volumes/deb?format="+format, "oper", ""); err == nil {
						t.Errorf("%s, %d bytes: got %d, %d bytes as if that were all", format, n, resp.StatusCode, len(body))
					}
				}
			}
			r.disks.set(func() { r.disks.away = true })
			r.want(503, "ServiceTemporarilyUnavailable", "GET", "/volumes/deb", "oper", "")
		})
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("kind=disk&format=qcow2&size=512&block_size=4096")
	f.Add("size=99999999999999999999&sha256=%00")
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("PUT", "/volumes/x", nil)
		r.URL.RawQuery = query
		req, problem := newImport(r)
		if problem == nil && (req.Size < 0 || req.Size > maxBytes || req.BlockSize != 0 && req.BlockSize != 512 && req.BlockSize != 4096) {
			t.Errorf("%q: %+v", query, req)
		}
	})
}
