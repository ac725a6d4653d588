package update

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// A rig is a staging with what it needs.
type rig struct {
	*Staging
	dir    string
	events *host.Events
	keys   []ed25519.PublicKey
	roots  *x509.CertPool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	events, err := host.OpenEvents(db, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{dir: filepath.Join(t.TempDir(), "update"), events: events, keys: []ed25519.PublicKey{public(key(1))}, roots: x509.NewCertPool()}
	r.open(t)
	return r
}

// open opens the folder, again.
func (r *rig) open(t *testing.T) {
	t.Helper()
	var err error
	r.Staging, err = OpenStaging(StagingOptions{
		Dir: r.dir, Keys: func() []ed25519.PublicKey { return r.keys }, Arch: "arm64", Running: "0.2.0", Events: r.events, Roots: r.roots,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) kinds() []string {
	var kinds []string
	for _, e := range r.events.Since(0, 0) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// files are those of the folder.
func (r *rig) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// version is that of the kept bundle; "" without one.
func (r *rig) version() string {
	b, ok := r.Staged()
	if !ok {
		return ""
	}
	return b.Manifest.Version
}

var someone = host.Origin{Via: "redfish", User: "admin"}

func TestStaging(t *testing.T) {
	r := newRig(t)
	if got := r.version(); got != "" {
		t.Errorf("at first: got %q, want none", got)
	}
	text := bundle(t, "0.3.0", key(1))
	b, err := r.Put(t.Context(), bytes.NewReader(text), int64(len(text)), someone)
	if err != nil || b.Manifest.Version != "0.3.0" || b.Size != int64(len(text)) || b.Staged.IsZero() {
		t.Fatalf("got %+v, %v, want version 0.3.0 of %d bytes", b, err, len(text))
	}
	if got, err := os.ReadFile(filepath.Join(r.dir, stagedFile)); err != nil || !bytes.Equal(got, text) {
		t.Errorf("got %d bytes, %v on the disk, want the bundle", len(got), err)
	}
	// One that is refused leaves the one before.
	if _, err := r.Put(t.Context(), bytes.NewReader(bundle(t, "0.4.0", key(2))), -1, someone); !errors.Is(err, ErrSignature) {
		t.Errorf("another's key: got %v, want %v", err, ErrSignature)
	}
	if _, err := r.Put(t.Context(), bytes.NewReader(text[:len(text)/2]), int64(len(text)), someone); !errors.Is(err, ErrDamaged) {
		t.Errorf("half of it: got %v, want %v", err, ErrDamaged)
	}
	if _, err := r.Put(t.Context(), bytes.NewReader(text), MaxSize+1, someone); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large by what it says: got %v, want %v", err, ErrTooLarge)
	}
	if got, files := r.version(), r.files(t); got != "0.3.0" || !slices.Equal(files, []string{stagedFile}) {
		t.Errorf("got %q and %q, want 0.3.0 and nothing beside", got, files)
	}
	older, err := r.Put(t.Context(), bytes.NewReader(bundle(t, "0.1.0", key(1))), -1, someone)
	if err != nil || !older.Downgrade {
		t.Errorf("an older one: got %+v, %v, want a downgrade", older, err)
	}
	r.open(t)
	if got, ok := r.Staged(); !ok || got.Manifest.Version != "0.1.0" || got.Size != older.Size || !got.Downgrade || !got.Staged.Equal(older.Staged) {
		t.Errorf("after a restart: got %+v, %v, want %+v", got, ok, older)
	}
	if err := r.Discard(someone); err != nil {
		t.Error(err)
	}
	if err := r.Discard(someone); !errors.Is(err, ErrNone) {
		t.Errorf("again: got %v, want %v", err, ErrNone)
	}
	if got := r.files(t); len(got) != 0 {
		t.Errorf("got %q, want nothing left", got)
	}
	want := []string{"update.staged", "update.refused", "update.refused", "update.refused", "update.staged", "update.discarded"}
	if got := r.kinds(); !slices.Equal(got, want) {
		t.Errorf("got events %q, want %q", got, want)
	}
}

// TestCrash: what a crash leaves goes at the next start.
func TestCrash(t *testing.T) {
	r := newRig(t)
	if _, err := r.Put(t.Context(), bytes.NewReader(bundle(t, "0.3.0", key(1))), -1, someone); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, pendingPrefix+"12"+pendingSuffix), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	if got := r.files(t); !slices.Equal(got, []string{stagedFile}) || r.version() != "0.3.0" {
		t.Errorf("got %q, %q, want the kept bundle alone", got, r.version())
	}
	// A kept bundle whose key is trusted no more, and one that the card lost.
	for name, breakIt := range map[string]func() error{
		"key":  func() error { r.keys = []ed25519.PublicKey{public(key(9))}; return nil },
		"card": func() error { return os.Truncate(filepath.Join(r.dir, stagedFile), 600) },
	} {
		r.keys = []ed25519.PublicKey{public(key(1))}
		if _, err := r.Put(t.Context(), bytes.NewReader(bundle(t, "0.3.0", key(1))), -1, someone); err != nil {
			t.Fatal(err)
		}
		if err := breakIt(); err != nil {
			t.Fatal(err)
		}
		r.open(t)
		if got := r.files(t); len(got) != 0 || r.version() != "" || r.kinds()[len(r.kinds())-1] != "update.dropped" {
			t.Errorf("%s: got %q, %q, %q, want nothing and an event", name, got, r.version(), r.kinds())
		}
	}
}

func TestRoom(t *testing.T) {
	text := bundle(t, "0.3.0", key(1))
	for _, tt := range []struct {
		name       string
		free, size int64
		want       error
	}{
		{"enough", reserve + int64(len(text)), int64(len(text)), nil},
		{"enough, of unknown size", reserve + int64(len(text)), -1, nil},
		{"a byte less", reserve + int64(len(text)) - 1, int64(len(text)), ErrFull},
		{"a byte less, of unknown size", reserve + int64(len(text)) - 1, -1, ErrFull},
		{"nothing", 0, -1, ErrFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.free = func(string) (int64, error) { return tt.free, nil }
			if _, err := r.Put(t.Context(), bytes.NewReader(text), tt.size, someone); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if got := r.files(t); tt.want != nil && len(got) != 0 {
				t.Errorf("got %q, want nothing left", got)
			}
		})
	}
	if n, err := free(t.TempDir()); err != nil || n <= 0 {
		t.Errorf("got %d, %v bytes free, want some", n, err)
	}
}

func TestNoKey(t *testing.T) {
	r := newRig(t)
	r.keys = nil
	read := false
	_, err := r.Put(t.Context(), readFunc(func([]byte) (int, error) { read = true; return 0, io.EOF }), -1, someone)
	if !errors.Is(err, ErrNoKey) || read {
		t.Errorf("got %v, read: %v, want %v before anything is read", err, read, ErrNoKey)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestBusy: one at a time; who comes meanwhile is told so at once.
func TestBusy(t *testing.T) {
	r := newRig(t)
	text := bundle(t, "0.3.0", key(1))
	reading, writing := io.Pipe()
	first := make(chan error)
	go func() {
		_, err := r.Put(t.Context(), reading, -1, someone)
		first <- err
	}()
	if _, err := writing.Write(text[:100]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(t.Context(), bytes.NewReader(text), -1, someone); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	if err := writing.CloseWithError(io.ErrUnexpectedEOF); err != nil {
		t.Fatal(err)
	}
	if err := <-first; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if _, err := r.Put(t.Context(), bytes.NewReader(text), -1, someone); err != nil {
		t.Errorf("afterwards: got %v, want no error", err)
	}
}

func TestFetch(t *testing.T) {
	text := bundle(t, "0.3.0", key(1))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /bundle", func(w http.ResponseWriter, _ *http.Request) {
		http.ServeContent(w, &http.Request{Method: http.MethodGet}, "", time.Time{}, bytes.NewReader(text))
	})
	mux.HandleFunc("GET /chunked", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(text))); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("GET /short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		if _, err := w.Write(text); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("GET /secret", func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "word" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, "/bundle", http.StatusFound)
	})
	mux.HandleFunc("GET /loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	clear := httptest.NewServer(mux)
	defer clear.Close()
	mux.HandleFunc("GET /down", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, clear.URL+"/bundle", http.StatusFound)
	})
	secure := httptest.NewUnstartedServer(mux)
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	secure.StartTLS()
	defer secure.Close()
	mux.HandleFunc("GET /up", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, secure.URL+"/bundle", http.StatusFound)
	})
	gone := httptest.NewServer(mux)
	gone.Close()

	for _, tt := range []struct {
		name    string
		src     Source
		trusted bool // the server's certificate
		want    error
		says    string
	}{
		{"http", Source{URL: clear.URL + "/bundle"}, false, nil, ""},
		{"without length", Source{URL: clear.URL + "/chunked"}, false, nil, ""},
		{"https", Source{URL: secure.URL + "/bundle"}, true, nil, ""},
		{"https of an unknown server", Source{URL: secure.URL + "/bundle"}, false, ErrUnreachable, "certificate"},
		{"https of any server", Source{URL: secure.URL + "/bundle", AnyServer: true}, false, nil, ""},
		{"a login, and a redirection", Source{URL: clear.URL + "/secret", User: "me", Password: "word"}, false, nil, ""},
		{"a wrong login", Source{URL: clear.URL + "/secret", User: "me", Password: "hidden"}, false, ErrUnreachable, "401"},
		{"http to https", Source{URL: clear.URL + "/up"}, true, nil, ""},
		{"https to http", Source{URL: secure.URL + "/down"}, true, ErrScheme, "redirected"},
		{"a redirection to a file", Source{URL: clear.URL + "/file"}, false, ErrScheme, "redirected"},
		{"redirections without end", Source{URL: clear.URL + "/loop"}, false, ErrUnreachable, "redirections"},
		{"nothing there", Source{URL: clear.URL + "/none"}, false, ErrUnreachable, "404"},
		{"a connection that breaks", Source{URL: clear.URL + "/short"}, false, ErrUnreachable, "EOF"},
		{"no server", Source{URL: gone.URL + "/bundle?key=hidden"}, false, ErrUnreachable, "refused"},
		{"ftp", Source{URL: "ftp://127.0.0.1/bundle"}, false, ErrScheme, "ftp"},
		{"no host", Source{URL: "http:///bundle"}, false, ErrScheme, ""},
		{"no address", Source{URL: "bundle"}, false, ErrScheme, ""},
		{"an address that is none", Source{URL: "http://me:hidden@[::1"}, false, ErrScheme, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if tt.trusted {
				r.roots.AddCert(secure.Certificate())
			}
			var done int64
			b, err := r.Fetch(t.Context(), tt.src, func(n, total int64) {
				if n < done || total >= 0 && n > total {
					t.Errorf("got progress %d of %d after %d", n, total, done)
				}
				done = n
			}, someone)
			if tt.want != nil {
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v, want %v with %q", err, tt.want, tt.says)
				}
				for _, e := range r.events.Since(0, 0) {
					if strings.Contains(e.Message, "hidden") {
						t.Errorf("a secret is in an event: %s", e.Message)
					}
				}
				return
			}
			if err != nil || b.Manifest.Version != "0.3.0" || done != int64(len(text)) {
				t.Errorf("got %+v, %v after %d bytes, want version 0.3.0 after %d", b, err, done, len(text))
			}
		})
	}
}

// TestStall: a server that sends nothing more is given up.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		stall := time.AfterFunc(stallLimit, func() { cancel(errStalled) })
		defer stall.Stop()
		reads := 0
		d := &download{ctx: ctx, stall: stall, r: readFunc(func(p []byte) (int, error) {
			if reads++; reads < 4 {
				time.Sleep(stallLimit - time.Second)
				return 1, nil
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})}
		start := time.Now()
		n, err := io.Copy(io.Discard, d)
		if took := time.Since(start); n != 3 || !errors.Is(err, errStalled) || !errors.Is(err, ErrUnreachable) || took != 3*(stallLimit-time.Second)+stallLimit {
			t.Errorf("got %d bytes, %v after %v, want 3 and %v", n, err, took, errStalled)
		}
	})
}
