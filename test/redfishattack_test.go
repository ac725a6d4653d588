//go:build e2e

package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A browser that keeps the login sends it along with what a page of another site
// makes it send. Nothing may come of it.
func TestRedfishCrossSite(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	accounts := len(admin.get("/redfish/v1/AccountService/Accounts").members())
	eve := `{"UserName": "eve", "Password": "eve-was-here-1", "RoleId": "Administrator"}`
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	if err := w.WriteField("UpdateParameters", "{}"); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteField("UpdateFile", "no bundle"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ method, path, kind, body string }{
		{"POST", "/redfish/v1/AccountService/Accounts", "text/plain", eve}, // the forms' three types
		{"POST", "/redfish/v1/AccountService/Accounts", "application/x-www-form-urlencoded", eve},
		{"POST", "/redfish/v1/AccountService/Accounts", "multipart/form-data; boundary=x", eve},
		{"POST", "/redfish/v1/AccountService/Accounts", "application/json", eve}, // as after a preflight
		{"POST", "/redfish/v1/Systems/system/Actions/ComputerSystem.Reset", "text/plain", `{"ResetType": "On"}`},
		{"POST", "/redfish/v1/UpdateService/update-multipart", w.FormDataContentType(), form.String()},
		{"PUT", "/media/eve.iso", "application/octet-stream", "an image"},
		{"DELETE", "/redfish/v1/AccountService/Accounts/" + accountID(admin, s.User), "", ""},
		{"GET", "/redfish/v1/EventService/SSE", "", ""},
	} {
		for _, header := range [][2]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
			if tt.method == "GET" && header[0] == "Origin" {
				continue // a browser says it of other methods
			}
			r := admin.request(tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set(header[0], header[1])
			if tt.kind != "" {
				r.Header.Set("Content-Type", tt.kind)
			}
			if a, err := admin.send(r); err != nil || a.status != http.StatusForbidden || a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s as %q from %v: got %d, %v, %s, want 403", tt.method, tt.path, tt.kind, header, a.status, err, a.body)
			}
		}
	}
	if got := len(admin.get("/redfish/v1/AccountService/Accounts").members()); got != accounts {
		t.Errorf("%d accounts, want %d as before", got, accounts)
	}
	if got := admin.get("/redfish/v1/Systems/system").text("PowerState"); got != "Off" {
		t.Errorf("PowerState: got %s, want Off", got)
	}
	if images, _ := admin.get("/media/").at("images").([]any); len(images) != 0 {
		t.Errorf("images: %v", images)
	}
}

// dialTLS opens a connection to speak HTTP by hand.
func (s *sim) dialTLS(t *testing.T) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", strings.TrimPrefix(s.Redfish, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // a test may have closed it
	return c
}

// TestRedfishSlow: who stalls is cut off, and keeps nobody waiting.
func TestRedfishSlow(t *testing.T) {
	t.Parallel() // it waits for long
	s := start(t, "-host", "fake")
	admin := s.admin()
	admin.get("/redfish/v1/Systems/system")
	login := admin.request("GET", "/", nil).Header.Get("Authorization")
	var g sync.WaitGroup
	began := time.Now()
	for name, tt := range map[string]struct {
		text  string
		limit time.Duration
	}{
		"nothing":       {"", 20 * time.Second},
		"half a header": {"POST /redfish/v1/SessionService/Sessions HTTP/1.1\r\nHost: x\r\n", 20 * time.Second},
		"half a body":   {"POST /redfish/v1/SessionService/Sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"UserName\"", 45 * time.Second},
		"half a PATCH":  {"PATCH /redfish/v1/Systems/system HTTP/1.1\r\nHost: x\r\nAuthorization: " + login + "\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"", 45 * time.Second},
	} {
		c := s.dialTLS(t)
		g.Go(func() {
			if _, err := io.WriteString(c, tt.text); err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if err := c.SetReadDeadline(time.Now().Add(tt.limit)); err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(c)
			if e, isNet := err.(net.Error); isNet && e.Timeout() {
				t.Errorf("%s: still open after %v", name, tt.limit)
			}
			line, _, _ := strings.Cut(string(got), "\r\n")
			t.Logf("%s: cut off after %v with %q", name, time.Since(began).Round(time.Second), line)
		})
	}
	done := make(chan struct{})
	go func() { defer close(done); g.Wait() }()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-time.After(500 * time.Millisecond):
			asked := time.Now()
			admin.get("/redfish/v1/Systems/system")
			if took := time.Since(asked); took > time.Second {
				t.Errorf("a request took %v meanwhile", took)
			}
		}
	}
}

// TestRedfishLarge: bodies that are too long are refused before they are read to
// the end.
func TestRedfishLarge(t *testing.T) {
	s := start(t, "-host", "fake")
	admin := s.admin()
	const limit, openLimit = 256 << 10, 8 << 10 // the latter without a login
	body := func(size int) string {
		const around = len(`{"PowerRestorePolicy": ""}`)
		return `{"PowerRestorePolicy": "` + strings.Repeat("x", size-around) + `"}`
	}
	admin.do(http.StatusBadRequest, "PATCH", "/redfish/v1/Systems/system", body(limit))
	if a := admin.do(http.StatusRequestEntityTooLarge, "PATCH", "/redfish/v1/Systems/system", body(limit+1)); !a.said("PayloadTooLarge") {
		t.Errorf("a byte too long: %s", a.body)
	}
	const login = `{"UserName": "", "Password": "x"}`
	stranger := s.as("", "")
	stranger.do(http.StatusUnauthorized, "POST", "/redfish/v1/SessionService/Sessions", strings.Replace(login, `""`, `"`+strings.Repeat("x", openLimit-len(login))+`"`, 1))
	stranger.do(http.StatusRequestEntityTooLarge, "POST", "/redfish/v1/SessionService/Sessions", strings.Replace(login, `""`, `"`+strings.Repeat("x", openLimit-len(login)+1)+`"`, 1))
	deep := strings.Repeat(`{"Boot":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	if a, err := admin.try("PATCH", "/redfish/v1/Systems/system", deep); err != nil || a.status != http.StatusBadRequest {
		t.Errorf("a deep body: got %d, %v, want 400", a.status, err)
	}
	// The rest of these never comes.
	for _, tt := range []struct{ method, path, kind string }{
		{"POST", "/redfish/v1/UpdateService/update-multipart", "multipart/form-data; boundary=x"},
		{"PATCH", "/redfish/v1/Systems/system", "application/json"},
	} {
		c := s.dialTLS(t)
		if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			tt.method, tt.path, admin.request("GET", "/", nil).Header.Get("Authorization"), tt.kind, int64(5)<<30, strings.Repeat(" ", limit+64<<10)); err != nil {
			t.Logf("%s: closed while it was sent: %v", tt.path, err) // it answered before
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 12)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "HTTP/1.1 413" {
			t.Errorf("%s of 5 GiB: got %q, %v, want 413", tt.path, got, err)
		}
	}
	// An upload that ends early leaves nothing.
	c := s.dialTLS(t)
	if _, err := fmt.Fprintf(c, "PUT /media/cut.iso HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s",
		admin.request("GET", "/", nil).Header.Get("Authorization"), int64(1)<<30, strings.Repeat("x", 3<<20)); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(s.dir, "media")
	eventually(t, "the upload to begin", 10*time.Second, func() bool { return used(t, folder) > 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest of the upload to go", 10*time.Second, func() bool { return used(t, folder) == 0 })
	if images, _ := admin.get("/media/").at("images").([]any); len(images) != 0 {
		t.Errorf("images: %v", images)
	}
}

// used is how many bytes the files below a folder have.
func used(t *testing.T, folder string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(folder, func(_ string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it went meanwhile
		}
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// zeros gives so many of them.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	clear(p[:n])
	z.n -= n
	return int(n), nil
}

// TestRedfishUploadMemory: a large upload goes to the disk and not to memory.
func TestRedfishUploadMemory(t *testing.T) {
	const size, limit = 1 << 30, 32.0 // bytes, MiB
	s := start(t, "-host", "fake")
	admin := s.admin()
	admin.client.Timeout = 5 * time.Minute
	// The login's hash takes its memory before.
	admin.do(http.StatusCreated, "PUT", "/media/small.img", strings.Repeat("x", 1<<20))
	before, most := resident(t, s.cmd.Process.Pid), 0.0
	r := admin.request("PUT", "/media/large.img", &zeros{size})
	r.ContentLength = size
	done := make(chan struct{})
	var a answer
	var err error
	began := time.Now()
	go func() { defer close(done); a, err = admin.send(r) }()
	for sending := true; sending; {
		select {
		case <-done:
			sending = false
		case <-time.After(20 * time.Millisecond):
			most = max(most, resident(t, s.cmd.Process.Pid))
		}
	}
	if err != nil || a.status != http.StatusCreated || a.at("size") != float64(size) {
		t.Fatalf("upload: got %d, %v, %s", a.status, err, a.body)
	}
	t.Logf("1 GiB in %v; resident %.1f MiB before, %.1f MiB at most", time.Since(began).Round(time.Millisecond), before, most)
	if most-before > limit {
		t.Errorf("resident memory grew by %.1f MiB, want at most %.0f", most-before, limit)
	}
	admin.do(http.StatusNoContent, "DELETE", "/media/large.img", "")
}
