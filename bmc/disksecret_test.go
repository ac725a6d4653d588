package bmc

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// A transcript is a log that may be read while it is written.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// TestImportPassword: the password of an image's server is for that server alone.
func TestImportPassword(t *testing.T) {
	const password = "open-sesame"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, given, _ := q.BasicAuth()
		switch {
		case given != password:
			w.WriteHeader(http.StatusUnauthorized)
		case q.URL.Path == "/away":
			http.Redirect(w, q, "http://127.0.0.1:1/x?"+password, http.StatusFound)
		case q.URL.Path == "/cut":
			panic(http.ErrAbortHandler)
		default:
			w.Write(noise(1 << 20))
		}
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer server.Close()
	var text transcript
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := newLoggedDiskRig(t, log)
	dir := t.TempDir()
	d, stop := openLoggedDisk(t, "one", dir, log)
	defer stop()
	r.join(d)
	r.await("joined", r.Up)
	at := "http://me:" + password + "@" + strings.TrimPrefix(server.URL, "http://")
	seen := ""
	for i, tt := range []struct{ url, failure string }{
		{at + "/image?key=" + password, ""},
		{at + "/away", "refused"},
		{at + "/cut", "EOF"},
		{strings.Replace(at, password, "wrong", 1), "401"},
		{strings.Replace(at, "http:", "https:", 1), "HTTP response"},
		{"ftp://me:" + password + "@127.0.0.1/", "only http"},
		{"http://me:" + password + "%@127.0.0.1/", "only http"},
	} {
		name := fmt.Sprint("v", i)
		j, err := r.ImportURL(t.Context(), block.ImportRequest{Name: name}, tt.url, testOrigin())
		if err != nil {
			j.Error = err.Error()
		} else {
			r.await("its end", func() bool {
				jobs := r.Jobs()
				i := slices.IndexFunc(jobs, func(o block.Job) bool { return o.ID == j.ID })
				if i >= 0 {
					j = jobs[i]
				}
				return i >= 0 && !j.Ended.IsZero()
			})
		}
		if (tt.failure == "") != (j.Error == "") || !strings.Contains(j.Error, tt.failure) {
			t.Errorf("%s: got %q, want %q", name, j.Error, tt.failure)
		}
		seen += fmt.Sprintf("%+v\n", j)
	}
	if i, err := r.Get("v0"); err != nil || i.Source != server.URL+"/image" {
		t.Errorf("got %+v, %v, want the image of %s", i, err, server.URL)
	}
	r.await("the events", func() bool { return d.events.Len() == 0 })
	seen += fmt.Sprintf("%+v\n%+v\n%+v\n%s\n", r.List(), r.Jobs(), r.events.Since(0, 0), text.String())
	for line := range strings.Lines(seen) {
		if strings.Contains(line, password) {
			t.Errorf("it shows the password: %s", line)
		}
	}
}

// TestPasswordInFile: a settings file with a password in a URL is refused with its
// place, and without it.
func TestPasswordInFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bmc.json")
	if err := os.WriteFile(path, []byte("{\"version\": 1,\n \"volumes\": [\n  {\"name\": \"a\", \"image\": {\"url\": \"https://me:open-sesame@example.com/x\"}}]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := CheckSettings(path)
	if err == nil || !strings.Contains(err.Error(), "bmc.json:3:34: volumes.0.image.url: no user or password") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got %v, want its place", err)
	}
}
