package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
)

// fakeDrive is the hardware.
type fakeDrive struct {
	mu     sync.Mutex
	in     host.Loading
	served bool
	err    error
}

func (d *fakeDrive) Insert(_ context.Context, l host.Loading) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.in, d.served = l, true
	}
	return d.err
}

func (d *fakeDrive) Eject(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.in, d.served = host.Loading{}, false
	}
	return d.err
}

func (d *fakeDrive) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.served = false
}

func (d *fakeDrive) loading() host.Loading {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.in
}

func (d *fakeDrive) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// rig is a service with two drives, which can be started again.
type rig struct {
	t       *testing.T
	dir     string
	limit   int64
	db      *store.Store
	events  *host.Events
	hw      map[string]*fakeDrive
	s       *Service
	stop    func()
	cd, usb *Drive
}

func newRig(t *testing.T, limit int64) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), limit: limit, hw: map[string]*fakeDrive{"cd": {}, "usb": {}}}
	var err error
	if r.db, err = store.Open(filepath.Join(r.dir, "state.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() })
	if r.events, err = host.OpenEvents(r.db, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	s, err := Open(Options{
		Drives: []host.DrivePart{
			{Name: "cd", Kinds: []host.MediumKind{host.MediumCD}, Drive: r.hw["cd"]},
			{Name: "usb", Kinds: []host.MediumKind{host.MediumDisk, host.MediumCD}, Drive: r.hw["usb"]},
		},
		Dir: filepath.Join(r.dir, "media"), DB: r.db, Events: r.events, Log: slog.New(slog.DiscardHandler), Limit: r.limit,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	s.patience = patience{idle: 200 * time.Millisecond, stall: 600 * time.Millisecond, pause: 5 * time.Millisecond}
	r.s, r.cd, r.usb = s, s.Drives()[0], s.Drives()[1]
}

func (r *rig) start() {
	r.t.Helper()
	r.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run: got %v, want %v", err, context.Canceled)
		}
		for name, d := range r.hw {
			if d.served {
				r.t.Errorf("the drive %s is still served", name)
			}
		}
	})
}

func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

// kinds are those of all events so far.
func (r *rig) kinds() []string {
	var kinds []string
	for _, e := range r.events.Since(0, 0) {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (r *rig) insert(d *Drive, s Source) host.Medium {
	r.t.Helper()
	if err := d.Insert(r.t.Context(), s, host.Origin{User: "admin"}); err != nil {
		r.t.Fatalf("Insert(%s): %v", s.Image, err)
	}
	return r.hw[d.Name()].loading().Medium
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("%s: not in time", what)
}

// web is a server with one image, which tests change and break.
type web struct {
	*httptest.Server
	mu       sync.Mutex
	data     []byte
	tag      string
	handle   http.HandlerFunc // instead of the image; nil: none
	requests atomic.Int64
	bytes    atomic.Int64
	methods  []string
}

func newWeb(t *testing.T, size int) *web {
	w := &web{data: pattern(size), tag: `"one"`}
	w.Server = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	return w
}

func pattern(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i>>16) ^ byte(i>>8) ^ byte(i)*7
	}
	return data
}

func (w *web) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

type counter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func (w *web) serve(rw http.ResponseWriter, r *http.Request) {
	w.requests.Add(1)
	w.mu.Lock()
	data, tag, handle := w.data, w.tag, w.handle
	w.methods = append(w.methods, r.Method)
	w.mu.Unlock()
	if handle != nil {
		handle(rw, r)
		return
	}
	if tag != "" {
		rw.Header().Set("ETag", tag)
	}
	http.ServeContent(counter{rw, &w.bytes}, r, "", time.Time{}, bytes.NewReader(data))
}

func check(t *testing.T, m io.ReaderAt, want []byte, off, n int) {
	t.Helper()
	got := make([]byte, n)
	if _, err := m.ReadAt(got, int64(off)); err != nil && err != io.EOF {
		t.Fatalf("reading %d bytes at %d: %v", n, off, err)
	}
	if !bytes.Equal(got, want[off:off+n]) {
		t.Fatalf("%d bytes at %d differ", n, off)
	}
}

func TestServer(t *testing.T) {
	r := newRig(t, 0)
	r.s.patience = usualPatience() // what is given up on a busy machine would be fetched twice
	w := newWeb(t, 16<<20+123)
	m := r.insert(r.cd, Source{Image: w.URL + "/pool/Some.ISO?token=secret", UserName: "u", Password: "geheim"})
	want := Status{Inserted: true, Image: w.URL + "/pool/Some.ISO?token=secret", Name: "Some.ISO", Kind: host.MediumCD, WriteProtected: true, UserName: "u", Size: 16<<20 + 123}
	if got := r.cd.Status(); got != want {
		t.Errorf("status: got %+v, want %+v", got, want)
	}
	if !r.hw["cd"].loading().ReadOnly {
		t.Error("a CD can be written")
	}
	for _, at := range []struct{ off, n int }{{0, 2048}, {10 << 20, 4096}, {5<<20 - 100, 70000}, {16 << 20, 123}} {
		check(t, m, w.data, at.off, at.n)
	}
	if got := w.bytes.Load(); got > 1<<20 {
		t.Errorf("%d bytes were fetched for a few blocks", got)
	}
	before := w.requests.Load()
	check(t, m, w.data, 10<<20, 4096)
	if got := w.requests.Load() - before; got != 0 {
		t.Errorf("%d requests for what is in the cache", got)
	}
	for off := 0; off < len(w.data); off += 2048 {
		check(t, m, w.data, off, min(2048, len(w.data)-off))
	}
	if got := w.requests.Load() - before; got > 30 {
		t.Errorf("%d requests for 256 blocks in order", got)
	}
	if got := w.bytes.Load(); got != int64(len(w.data)) {
		t.Errorf("%d bytes were fetched, want each once: %d", got, len(w.data))
	}
	if n, err := m.ReadAt(make([]byte, 10), 16<<20+120); n != 3 || err != io.EOF {
		t.Errorf("beyond the end: got %d, %v", n, err)
	}
	if err := r.cd.Eject(t.Context(), host.Origin{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadAt(make([]byte, 10), 0); !errors.Is(err, ErrStopped) {
		t.Errorf("after the ejection: got %v, want %v", err, ErrStopped)
	}
	if left, err := os.ReadDir(r.s.cacheDir()); err != nil || len(left) > 0 || r.s.room.used != 0 {
		t.Errorf("after the ejection: %v, %v, %d bytes used", left, err, r.s.room.used)
	}
	if err := r.cd.Eject(t.Context(), host.Origin{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("ejecting twice: got %v, want %v", err, ErrEmpty)
	}
	if got := r.kinds(); !slices.Equal(got, []string{"media.inserted", "media.ejected"}) {
		t.Errorf("events: %v", got)
	}
	for _, e := range r.events.Since(0, 0) {
		if strings.Contains(e.Message, "geheim") || strings.Contains(e.Message, "secret") {
			t.Errorf("an event tells a secret: %s", e.Message)
		}
	}
}

// Many that wait for one block make one request.
func TestOneFetch(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 8<<20)
	m := r.insert(r.cd, Source{Image: w.URL})
	before := w.requests.Load()
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() { check(t, m, w.data, 6<<20+5, 100) })
	}
	readers.Wait()
	if got := w.requests.Load() - before; got != 1 {
		t.Errorf("got %d requests, want 1", got)
	}
}

func TestChanged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(w *web)
	}{
		{"another tag", func(w *web) { w.data, w.tag = pattern(4 << 20)[:4<<20], `"two"` }},
		{"shorter", func(w *web) { w.data = w.data[:1<<20] }},
		{"longer", func(w *web) { w.data, w.tag = append(w.data, 1), "" }},
		{"a tag that ignores If-Range", func(w *web) {
			w.handle = func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("ETag", `"two"`)
				r.Header.Del("If-Range")
				http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(w.data))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 0)
			w := newWeb(t, 4<<20)
			m := r.insert(r.cd, Source{Image: w.URL + "/x.iso"})
			w.set(func() { tt.change(w) })
			for range 3 {
				if _, err := m.ReadAt(make([]byte, 512), 2<<20); !errors.Is(err, ErrChanged) {
					t.Errorf("got %v, want %v", err, ErrChanged)
				}
			}
			check(t, m, pattern(4<<20), 0, 4096) // what was fetched is the old image's
			if got := r.kinds(); !slices.Equal(got, []string{"media.inserted", "media.failed"}) {
				t.Errorf("events: %v", got)
			}
			if got := r.cd.Status().Err; !errors.Is(got, ErrChanged) {
				t.Errorf("status: got %v", got)
			}
		})
	}
}

func TestWithoutRanges(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		r := newRig(t, 0)
		w := newWeb(t, 3<<20+17)
		w.handle = func(rw http.ResponseWriter, _ *http.Request) {
			if !chunked {
				rw.Header().Set("Content-Length", fmt.Sprint(len(w.data)))
			}
			_, _ = rw.Write(w.data)
		}
		m := r.insert(r.usb, Source{Image: w.URL})
		w.Close()
		check(t, m, w.data, 0, len(w.data))
		// The next run needs no server either.
		r.restart()
		eventually(t, "put in again", func() bool { return r.hw["usb"].loading().Medium != m })
		check(t, r.hw["usb"].loading().Medium, w.data, 0, len(w.data))
	}
}

func TestUnreachable(t *testing.T) {
	r := newRig(t, 8*blockSize)
	w := newWeb(t, 1<<20)
	empty := func(int) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(nil))
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) }
	}
	header := func(name, value string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set(name, value)
			rw.WriteHeader(http.StatusPartialContent)
			_, _ = rw.Write(w.data[:blockSize])
		}
	}
	for _, tt := range []struct {
		name   string
		handle http.HandlerFunc
		want   error
	}{
		{"404", status(404), ErrUnreachable},
		{"401", status(401), ErrUnreachable},
		{"500", status(500), ErrUnreachable},
		{"204", status(204), ErrUnreachable},
		{"silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrUnreachable},
		{"cut short", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "100000")
			_, _ = rw.Write(make([]byte, 70000))
		}, ErrUnreachable},
		{"cut short, chunked", func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = rw.Write(make([]byte, 70000))
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}, ErrUnreachable},
		{"no range told", header("X", "y"), ErrUnreachable},
		{"another range", header("Content-Range", "bytes 1-65536/1048576"), ErrUnreachable},
		{"size not told", header("Content-Range", "bytes 0-65535/*"), ErrUnreachable},
		{"huge", header("Content-Range", "bytes 0-65535/9223372036854775807"), ErrContent},
		{"more than the disk", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "9223372036854775807")
			_, _ = rw.Write(w.data[:blockSize])
		}, ErrFull},
		{"empty", empty(0), ErrContent},
		{"too large to be kept", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(w.data) }, ErrFull},
		{"to a file", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Location", "file:///etc/passwd")
			rw.WriteHeader(http.StatusFound)
		}, ErrScheme},
		{"in circles", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/again", http.StatusFound) }, ErrUnreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.set(func() { w.handle = tt.handle })
			err := r.usb.Insert(t.Context(), Source{Image: w.URL + "/?token=secret"}, host.Origin{})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
			if left, err := os.ReadDir(r.s.cacheDir()); err != nil || len(left) > 0 || r.s.room.used != 0 || r.usb.Status().Inserted {
				t.Errorf("left behind: %v, %v, %d bytes used", left, err, r.s.room.used)
			}
		})
	}
	w.Close()
	if err := r.usb.Insert(t.Context(), Source{Image: w.URL}, host.Origin{}); !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("no server: got %v", err)
	}
}

// A server that stalls makes the host wait, then fail, and does not matter once
// it is back.
func TestStall(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 4<<20)
	m := r.insert(r.cd, Source{Image: w.URL})
	var broken atomic.Int64
	w.set(func() {
		w.handle = func(rw http.ResponseWriter, r *http.Request) {
			if broken.Add(1) <= 2 {
				panic(http.ErrAbortHandler)
			}
			rw.Header().Set("ETag", `"one"`)
			http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(w.data))
		}
	})
	check(t, m, w.data, 1<<20, 4096) // at the third attempt
	w.set(func() { w.handle = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } })
	began := time.Now()
	for range 2 {
		if _, err := m.ReadAt(make([]byte, 512), 2<<20); !errors.Is(err, ErrUnreachable) {
			t.Errorf("got %v, want %v", err, ErrUnreachable)
		}
	}
	if took := time.Since(began); took < 2*200*time.Millisecond || took > 5*time.Second {
		t.Errorf("two reads failed after %v", took)
	}
	if r.cd.Status().Err == nil {
		t.Error("the status shows no error")
	}
	w.set(func() { w.handle = nil })
	check(t, m, w.data, 2<<20, 4096)
	eventually(t, "status", func() bool { return r.cd.Status().Err == nil })
	if got := r.kinds(); !slices.Equal(got, []string{"media.inserted", "media.failed"}) {
		t.Errorf("events: %v", got)
	}

	// An ejection does not wait for the server.
	w.set(func() { w.handle = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } })
	r.s.patience.stall = time.Hour
	failed := make(chan error, 1)
	go func() { _, err := m.ReadAt(make([]byte, 512), 3<<20); failed <- err }()
	time.Sleep(20 * time.Millisecond)
	if err := r.cd.Eject(t.Context(), host.Origin{}); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, ErrStopped) {
		t.Errorf("the read under way: got %v, want %v", err, ErrStopped)
	}
}

// What the host writes over an image of a server stays on the board, over a
// restart too.
func TestOverlay(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 2<<20+99)
	want := bytes.Clone(w.data)
	m := r.insert(r.usb, Source{Image: w.URL + "/d.img"})
	write := func(off, n int) {
		t.Helper()
		p := bytes.Repeat([]byte{byte(n)}, n)
		copy(want[off:], p)
		if got, err := m.WriteAt(p, int64(off)); got != n || err != nil {
			t.Fatalf("writing: %d, %v", got, err)
		}
	}
	write(100, 512)
	write(blockSize-7, 2*blockSize+14)
	write(2<<20, 99)
	if n, err := m.WriteAt([]byte{1}, 2<<20+99); n != 0 || err == nil {
		t.Error("written beyond the end")
	}
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	check(t, m, want, 0, 1<<20)
	w.mu.Lock()
	if slices.ContainsFunc(w.methods, func(m string) bool { return m != "GET" }) {
		t.Errorf("requests: %v", w.methods)
	}
	w.mu.Unlock()
	requests := w.requests.Load()

	r.restart()
	eventually(t, "put in again", func() bool { return r.hw["usb"].loading().Medium != m })
	m = r.hw["usb"].loading().Medium
	check(t, m, want, 0, 1<<20)
	if got := w.requests.Load(); got != requests {
		t.Errorf("%d requests for what is in the cache", got-requests)
	}
	check(t, m, want, 0, len(want))
	if got := r.kinds(); !slices.Equal(got, []string{"media.inserted"}) {
		t.Errorf("events: %v", got)
	}
	if got := r.usb.Status(); !got.Inserted || got.WriteProtected || got.Kind != host.MediumDisk {
		t.Errorf("status: %+v", got)
	}
}

// A damaged cache is fetched anew, and what belongs to nothing is removed.
func TestLeftovers(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 1<<20)
	m := r.insert(r.cd, Source{Image: w.URL + "/x.iso"})
	r.stop()
	for name, damage := range map[string]func(path string) error{
		"states cut":  func(p string) error { return os.Truncate(p+stateSuffix, 4000) },
		"data cut":    func(p string) error { return os.Truncate(p, 100) },
		"states gone": func(p string) error { return os.Remove(p + stateSuffix) },
		"a state that is none": func(p string) error {
			f, err := os.OpenFile(p+stateSuffix, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{9}, stateOffset+3)
			return errors.Join(err, f.Close())
		},
		"another boot": func(p string) error {
			text, err := os.ReadFile(p + stateSuffix)
			if err != nil {
				return err
			}
			i := bytes.Index(text, []byte(`"boot":"`))
			text[i+10]++
			return os.WriteFile(p+stateSuffix, text, 0o600)
		},
		"nothing": func(string) error { return nil },
	} {
		if err := damage(filepath.Join(r.s.cacheDir(), "cd")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, stray := range []string{filepath.Join(r.s.cacheDir(), "usb"), filepath.Join(r.s.libraryDir(), uploadPrefix+"123")} {
			if err := os.WriteFile(stray, []byte("stray"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := m
		r.start()
		eventually(t, name, func() bool { m = r.hw["cd"].loading().Medium; return m != before })
		check(t, m, w.data, 0, len(w.data))
		r.stop()
		for _, dir := range []string{r.s.cacheDir(), r.s.libraryDir()} {
			if found, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || slices.ContainsFunc(found, func(f string) bool { return !strings.HasPrefix(filepath.Base(f), "cd") }) {
				t.Errorf("%s: left behind: %v, %v", name, found, err)
			}
		}
	}
}

// A cache that has no room forgets what it can fetch again, and an image that
// was written no more than fits.
func TestLimit(t *testing.T) {
	r := newRig(t, 4*blockSize)
	w := newWeb(t, 32*blockSize)
	m := r.insert(r.usb, Source{Image: w.URL})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for b := range 32 {
				check(t, m, w.data, (b*(i+1)%32)*blockSize+100, 2048)
			}
		})
	}
	readers.Wait()
	var stat syscall.Stat_t
	if err := syscall.Stat(r.usb.cachePath(), &stat); err != nil {
		t.Fatal(err)
	}
	if got := stat.Blocks * 512; got > 5*blockSize || r.s.room.used > 4*blockSize {
		t.Errorf("the cache has %d bytes on the disk and counts %d, want at most %d", got, r.s.room.used, 4*blockSize)
	}
	for b := range int64(4) {
		if _, err := m.WriteAt(make([]byte, blockSize), b*blockSize); err != nil {
			t.Fatalf("write %d: %v", b, err)
		}
	}
	if _, err := m.WriteAt(make([]byte, blockSize), 9*blockSize); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("one block too many: got %v, want %v", err, ErrFull)
	}
	check(t, m, make([]byte, 4*blockSize), 0, 4*blockSize)
}

func TestRedirectAndLogin(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 1<<20)
	var leaked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		_, _, has := req.BasicAuth()
		leaked.Store(leaked.Load() || has)
		w.serve(rw, req)
	}))
	defer other.Close()
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user != "u" || password != "p:w" {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		// Another host's name, so that the client has to hold the login back.
		http.Redirect(rw, req, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/mirror", http.StatusFound)
	}))
	defer front.Close()
	if err := r.cd.Insert(t.Context(), Source{Image: front.URL, UserName: "u", Password: "wrong"}, host.Origin{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("wrong password: got %v", err)
	}
	m := r.insert(r.cd, Source{Image: strings.Replace(front.URL, "http://", "HTTP://u:p%3Aw@", 1) + "/a.iso#part"})
	check(t, m, w.data, 512<<10, 4096)
	if got := r.cd.Status(); got.Image != front.URL+"/a.iso" || got.UserName != "u" {
		t.Errorf("status: %+v", got)
	}
	if leaked.Load() {
		t.Error("the login was sent to the server redirected to")
	}
}

func TestCertificate(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 1<<20)
	tls := httptest.NewTLSServer(http.HandlerFunc(w.serve))
	defer tls.Close()
	if err := r.cd.Insert(t.Context(), Source{Image: tls.URL, VerifyCertificate: true}, host.Origin{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("unknown certificate: got %v, want %v", err, ErrUnreachable)
	}
	m := r.insert(r.cd, Source{Image: tls.URL})
	check(t, m, w.data, 0, 4096)
}

func TestSources(t *testing.T) {
	for _, tt := range []struct {
		image string
		want  error
	}{
		{"", ErrScheme},
		{"image.iso", ErrScheme},
		{"nfs://server/image.iso", ErrScheme},
		{"smb://server/share/image.iso", ErrScheme},
		{"ftp://server/image.iso", ErrScheme},
		{"file:///etc/passwd", ErrScheme},
		{"http:image.iso", ErrScheme},
		{"http:///image.iso", ErrScheme},
		{"https://:443/image.iso", ErrScheme},
		{"//server/image.iso", ErrScheme},
		{"http://server/%zz", ErrScheme},
		{"http://server/" + strings.Repeat("x", 3000), ErrScheme},
		{"/etc/passwd", ErrScheme},
		{"/media/", ErrName},
		{"/media/../state.db", ErrName},
		{"/media/.upload-1", ErrName},
		{"/media/a/b", ErrName},
		{"/media/none.iso", nil},
		{"https://server/media/x", nil},
	} {
		if _, _, _, err := parseSource(Source{Image: tt.image}); !errors.Is(err, tt.want) {
			t.Errorf("%.60q: got %v, want %v", tt.image, err, tt.want)
		}
	}
	r := newRig(t, 0)
	if err := r.cd.Insert(t.Context(), Source{Image: "/media/none.iso"}, host.Origin{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("not in the library: got %v, want %v", err, ErrNotFound)
	}
	if err := r.cd.Insert(t.Context(), Source{Image: "/media/none.iso", Kind: host.MediumDisk}, host.Origin{}); !errors.Is(err, ErrKind) {
		t.Errorf("a disk for the CD drive: got %v, want %v", err, ErrKind)
	}
}

// The last of the disk is the board's own, whatever comes.
func TestFullDisk(t *testing.T) {
	r := newRig(t, 0)
	var disk atomic.Int64 // as it were, without what media have
	disk.Store(reserve + 512<<10)
	used := func() int64 {
		n := int64(0)
		for _, dir := range []string{r.s.cacheDir(), r.s.libraryDir()} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Error(err)
			}
			for _, e := range entries {
				var stat syscall.Stat_t
				if !strings.HasSuffix(e.Name(), stateSuffix) && syscall.Stat(filepath.Join(dir, e.Name()), &stat) == nil {
					n += stat.Blocks * 512
				}
			}
		}
		return n
	}
	r.s.room.free = func(string) (int64, error) { return disk.Load() - used(), nil }
	w := newWeb(t, 32*blockSize)
	m := r.insert(r.usb, Source{Image: w.URL})
	check(t, m, w.data, 0, len(w.data))
	if got := used(); got > 512<<10 {
		t.Errorf("the cache takes %d bytes, want %d at most", got, 512<<10)
	}
	put := func(data io.Reader, size int64) error {
		_, err := r.s.Put("a.img", data, size, host.Origin{})
		return err
	}
	if err := put(bytes.NewReader(pattern(blockSize)), blockSize); !errors.Is(err, ErrFull) {
		t.Errorf("an upload: got %v, want %v", err, ErrFull)
	}
	if err := r.usb.Eject(t.Context(), host.Origin{}); err != nil {
		t.Fatal(err)
	}
	// The room that was there when the upload began is taken by others.
	err := put(io.MultiReader(bytes.NewReader(pattern(256<<10)), readFunc(func() { disk.Store(reserve) }), bytes.NewReader(pattern(256<<10))), 512<<10)
	if !errors.Is(err, ErrFull) {
		t.Errorf("an upload to a disk that fills: got %v, want %v", err, ErrFull)
	}
	if left := used(); left != 0 || r.s.room.used != 0 {
		t.Errorf("left behind: %d bytes, %d bytes counted", left, r.s.room.used)
	}
}

// readFunc is an empty reader that does something.
type readFunc func()

func (f readFunc) Read([]byte) (int, error) { f(); return 0, io.EOF }

// A server may give less of a range than it is asked for.
func TestPartOfRange(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 40*blockSize+100)
	w.handle = func(rw http.ResponseWriter, req *http.Request) {
		var first, last int
		if _, err := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil {
			t.Error(err)
		}
		last = min(last, first+3*blockSize-10, len(w.data)-1)
		rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(w.data)))
		rw.Header().Set("ETag", w.tag)
		rw.WriteHeader(http.StatusPartialContent)
		_, _ = rw.Write(w.data[first : last+1])
	}
	m := r.insert(r.usb, Source{Image: w.URL})
	began := time.Now()
	check(t, m, w.data, 0, len(w.data))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if r.usb.Status().Err != nil {
		t.Errorf("got %v", r.usb.Status().Err)
	}
}

func TestLibrary(t *testing.T) {
	r := newRig(t, 1<<20)
	put := func(name string, data []byte, size int64) error {
		_, err := r.s.Put(name, bytes.NewReader(data), size, host.Origin{User: "admin"})
		return err
	}
	a := pattern(300 << 10)
	iso := pattern(64 << 10)
	copy(iso[16*2048:], "\x01CD001\x01")
	for _, tt := range []struct {
		name string
		data []byte
		size int64
		want error
	}{
		{"disk.img", a[:1000], 1000, nil},
		{"disk.img", a, -1, nil}, // in place of the first
		{"cd.bin", iso, int64(len(iso)), nil},
		{"short", a, int64(len(a)) + 1, ErrContent},
		{"long", a, int64(len(a)) - 1, ErrContent},
		{"empty", nil, -1, ErrContent},
		{"empty", nil, 0, ErrContent},
		{"large", pattern(1 << 20), -1, ErrFull},
		{"announced", nil, 1 << 20, ErrFull},
		{"../a", a, -1, ErrName},
		{".a", a, -1, ErrName},
		{"", a, -1, ErrName},
		{"a b", a, -1, ErrName},
		{strings.Repeat("x", 129), a, -1, ErrName},
	} {
		if err := put(tt.name, tt.data, tt.size); !errors.Is(err, tt.want) {
			t.Errorf("Put(%.20q, %d): got %v, want %v", tt.name, tt.size, err, tt.want)
		}
	}
	broken := errors.New("the client went away")
	if _, err := r.s.Put("broken", io.MultiReader(bytes.NewReader(a), iotestError{broken}), -1, host.Origin{}); !errors.Is(err, broken) {
		t.Errorf("a client that goes away: got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(r.s.libraryDir(), uploadPrefix+"*")); len(left) > 0 || r.s.room.used != int64(len(a)+len(iso)) {
		t.Errorf("left behind: %v, %d bytes used", left, r.s.room.used)
	}

	m := r.insert(r.usb, Source{Image: "/media/disk.img"})
	cd := r.insert(r.cd, Source{Image: "/media/cd.bin", UserName: "nobody"})
	check(t, cd, iso, 0, len(iso))
	if _, err := m.WriteAt([]byte("written"), 100); err != nil {
		t.Fatal(err)
	}
	copy(a[100:], "written")
	if got, want := r.usb.Status(), (Status{Inserted: true, Image: "/media/disk.img", Name: "disk.img", Kind: host.MediumDisk, Uploaded: true, Size: int64(len(a))}); got != want {
		t.Errorf("status: got %+v, want %+v", got, want)
	}
	if got := r.cd.Status().Kind; got != host.MediumCD {
		t.Errorf("kind: got %s", got)
	}
	inUse := func(when string) {
		t.Helper()
		if err := put("disk.img", iso, -1); !errors.Is(err, ErrInUse) {
			t.Errorf("%s: replacing: got %v, want %v", when, err, ErrInUse)
		}
		if err := r.s.Remove("disk.img", host.Origin{}); !errors.Is(err, ErrInUse) {
			t.Errorf("%s: removing: got %v, want %v", when, err, ErrInUse)
		}
		list, err := r.s.Images()
		if err != nil || len(list) != 2 || list[0].Name != "cd.bin" || !list[1].InUse || list[1].Size != int64(len(a)) {
			t.Errorf("%s: images: %+v, %v", when, list, err)
		}
	}
	inUse("inserted")
	if err := r.cd.Insert(t.Context(), Source{Image: "/media/disk.img"}, host.Origin{}); !errors.Is(err, ErrOccupied) {
		t.Errorf("occupied: got %v, want %v", err, ErrOccupied)
	}
	if err := r.cd.Eject(t.Context(), host.Origin{}); err != nil {
		t.Fatal(err)
	}
	if err := r.cd.Insert(t.Context(), Source{Image: "/media/disk.img"}, host.Origin{}); !errors.Is(err, ErrInUse) {
		t.Errorf("two drives, one of which writes: got %v, want %v", err, ErrInUse)
	}

	r.restart()
	inUse("after a restart")
	eventually(t, "put in again", func() bool { return r.hw["usb"].loading().Medium != m })
	check(t, r.hw["usb"].loading().Medium, a, 0, len(a))
	if err := r.usb.Eject(t.Context(), host.Origin{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range r.s.Drives() { // two that only read
		r.insert(d, Source{Image: "/media/cd.bin", Kind: host.MediumCD})
	}
	f, image, err := r.s.OpenImage("disk.img")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, a) || image.Size != int64(len(a)) || image.InUse {
		t.Errorf("OpenImage: %d bytes, %+v, %v", len(got), image, err)
	}
	_ = f.Close()
	for _, want := range []error{nil, ErrNotFound} {
		if err := r.s.Remove("disk.img", host.Origin{}); !errors.Is(err, want) {
			t.Errorf("Remove: got %v, want %v", err, want)
		}
	}
	if _, _, err := r.s.OpenImage("../state.db"); !errors.Is(err, ErrNotFound) {
		t.Errorf("OpenImage: got %v, want %v", err, ErrNotFound)
	}
	if r.s.room.used != int64(len(iso)) {
		t.Errorf("%d bytes used, want %d", r.s.room.used, len(iso))
	}
}

type iotestError struct{ err error }

func (r iotestError) Read([]byte) (int, error) { return 0, r.err }

func TestHostEjects(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 1<<20)
	r.insert(r.cd, Source{Image: w.URL})
	r.hw["cd"].loading().Ejected()
	eventually(t, "ejected", func() bool { return !r.cd.Status().Inserted })
	if got := r.kinds(); !slices.Equal(got, []string{"media.inserted", "media.ejected"}) {
		t.Errorf("events: %v", got)
	}
	r.insert(r.cd, Source{Image: w.URL}) // and it can be used again
}

// Ejecting ends an insertion under way; a second insertion does not wait for it.
func TestAbort(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 1<<20)
	w.handle = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	r.s.patience.idle = time.Hour
	done := make(chan error, 1)
	go func() { done <- r.cd.Insert(t.Context(), Source{Image: w.URL}, host.Origin{}) }()
	eventually(t, "request", func() bool { return w.requests.Load() > 0 })
	if err := r.cd.Insert(t.Context(), Source{Image: w.URL}, host.Origin{}); !errors.Is(err, ErrBusy) {
		t.Errorf("meanwhile: got %v, want %v", err, ErrBusy)
	}
	if err := r.cd.Eject(t.Context(), host.Origin{}); err != nil {
		t.Errorf("Eject: %v", err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Insert: got %v, want %v", err, context.Canceled)
	}
	r.stop()
	for name, err := range map[string]error{
		"Insert": r.cd.Insert(t.Context(), Source{Image: w.URL}, host.Origin{}),
		"Eject":  r.cd.Eject(t.Context(), host.Origin{}),
	} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s after the end: got %v, want %v", name, err, ErrStopped)
		}
	}
}

func TestHardwareFails(t *testing.T) {
	r := newRig(t, 0)
	w := newWeb(t, 1<<20)
	broken := errors.New("no gadget")
	r.hw["cd"].fail(broken)
	if err := r.cd.Insert(t.Context(), Source{Image: w.URL}, host.Origin{}); !errors.Is(err, broken) {
		t.Errorf("Insert: got %v, want %v", err, broken)
	}
	if r.cd.Status().Inserted || r.s.room.used != 0 {
		t.Errorf("status: %+v, %d bytes used", r.cd.Status(), r.s.room.used)
	}
	r.hw["cd"].fail(nil)
	m := r.insert(r.cd, Source{Image: w.URL})
	r.hw["cd"].fail(broken)
	if err := r.cd.Eject(t.Context(), host.Origin{}); !errors.Is(err, broken) {
		t.Errorf("Eject: got %v, want %v", err, broken)
	}
	r.restart() // and tries again, and tells
	eventually(t, "event", func() bool { return slices.Contains(r.kinds(), "media.failed") })
	if got := r.cd.Status(); !got.Inserted || !errors.Is(got.Err, broken) {
		t.Errorf("status: %+v", got)
	}
	r.hw["cd"].fail(nil)
	eventually(t, "put in again", func() bool { return r.hw["cd"].loading().Medium != m })
}

// What a restarted board cannot read any more is taken out.
func TestGone(t *testing.T) {
	r := newRig(t, 0)
	if _, err := r.s.Put("a.img", strings.NewReader("content"), -1, host.Origin{}); err != nil {
		t.Fatal(err)
	}
	r.insert(r.usb, Source{Image: "/media/a.img"})
	r.stop()
	if err := os.Remove(filepath.Join(r.s.libraryDir(), "a.img")); err != nil {
		t.Fatal(err)
	}
	r.start()
	eventually(t, "ejected", func() bool { return !r.usb.Status().Inserted && r.hw["usb"].loading().Medium == nil })
	if got := r.kinds(); !slices.Equal(got, []string{"media.uploaded", "media.inserted", "media.failed", "media.ejected"}) {
		t.Errorf("events: %v", got)
	}
}

func TestContentRange(t *testing.T) {
	for _, tt := range []struct {
		text string
		want contentRange
		err  error
	}{
		{"bytes 0-65535/1048576", contentRange{0, 65535, 1048576}, nil},
		{"Bytes 5-5/6", contentRange{5, 5, 6}, nil},
		{"bytes 0-1/*", contentRange{0, 1, -1}, nil},
		{"bytes */100", contentRange{}, errContentRange},
		{"bytes 5-4/100", contentRange{}, errContentRange},
		{"bytes 0-100/100", contentRange{}, errContentRange},
		{"bytes -1-5/100", contentRange{}, errContentRange},
		{"bytes 0-5", contentRange{}, errContentRange},
		{"items 0-5/100", contentRange{}, errContentRange},
		{"bytes 0-5/18446744073709551616", contentRange{}, errContentRange},
		{"", contentRange{}, errContentRange},
	} {
		if got, err := parseContentRange(tt.text); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: got %+v, %v", tt.text, got, err)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-65535/1048576")
	f.Add("bytes 0-1/*")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err == nil && (r.first < 0 || r.last < r.first || r.size != -1 && r.last >= r.size) {
			t.Errorf("%q: got %+v", s, r)
		}
	})
}

func FuzzSource(f *testing.F) {
	f.Add("https://u:p@server:8443/a/b.iso?c=d#e")
	f.Add("/media/a.iso")
	f.Fuzz(func(t *testing.T, image string) {
		s, name, u, err := parseSource(Source{Image: image})
		if err != nil {
			return
		}
		if (name == "") == (u == nil) || u != nil && (u.User != nil || u.Scheme != "http" && u.Scheme != "https") {
			t.Errorf("%q: got %q, %v", image, name, u)
		}
		again, _, _, err := parseSource(s)
		if err != nil || again != s {
			t.Errorf("%q: %+v becomes %+v, %v", image, s, again, err)
		}
	})
}
