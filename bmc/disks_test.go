package bmc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/ipc"
	"github.com/nitrino/nitrino/internal/settings"
	"github.com/nitrino/nitrino/internal/store"
)

// testOrigin is who asks in tests.
func testOrigin() host.Origin { return host.Origin{Via: "test", User: "admin", Source: "192.0.2.1"} }

// A diskRig is core's end, to which disk processes can be joined.
type diskRig struct {
	*Disks
	t     *testing.T
	set   *SettingsStore
	ctx   context.Context
	conns chan *ipc.Conn
	tasks sync.WaitGroup
}

func newDiskRig(t *testing.T) *diskRig { return newLoggedDiskRig(t, slog.New(slog.DiscardHandler)) }

func newLoggedDiskRig(t *testing.T, log *slog.Logger) *diskRig {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	events, err := host.OpenEvents(db, log)
	if err != nil {
		t.Fatal(err)
	}
	set, err := settings.Open(settings.Options[Settings]{
		Defaults: Defaults, Version: SettingsVersion, Log: log,
		Changed: filepath.Join(dir, changedName), LastGood: filepath.Join(dir, LastGoodDir),
		Validate: func(s *Settings) error { return validate(s, nil) },
		Report:   func(p settings.Problem) { t.Error(p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &diskRig{t: t, conns: make(chan *ipc.Conn), set: &SettingsStore{set, &trial{settings: set, wake: make(chan struct{}, 1)}}}
	r.Disks = newDisks(events, log, r.set)
	r.retry = 20 * time.Millisecond
	var cancel context.CancelFunc
	r.ctx, cancel = context.WithCancel(t.Context())
	r.tasks.Go(func() { events.Run(r.ctx) })
	r.tasks.Go(func() {
		err := r.run(r.ctx, func(ctx context.Context) (*ipc.Conn, error) {
			select {
			case c := <-r.conns:
				return c, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
	t.Cleanup(func() {
		cancel()
		r.tasks.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// newDisk opens a disk process in a folder, which runs until the test's end.
func (r *diskRig) newDisk(instance, dir string) *Disk {
	r.t.Helper()
	d, stop := openDisk(r.t, instance, dir)
	r.t.Cleanup(stop)
	return d
}

// openDisk opens a disk process that runs until stop.
func openDisk(t *testing.T, instance, dir string) (d *Disk, stop func()) {
	t.Helper()
	return openLoggedDisk(t, instance, dir, slog.New(slog.DiscardHandler))
}

func openLoggedDisk(t *testing.T, instance, dir string, log *slog.Logger) (d *Disk, stop func()) {
	t.Helper()
	d, err := NewDisk(DiskOptions{Dir: dir, Version: "1.2.3", Instance: instance, BootID: "boot", ISCSI: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return d, sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v, want %v", err, context.Canceled)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

// join has a disk process serve this core until die.
func (r *diskRig) join(d *Disk) (die func()) {
	r.t.Helper()
	here, there := pair(r.t)
	ctx, cancel := context.WithCancel(r.ctx)
	served := make(chan struct{})
	r.tasks.Go(func() {
		defer close(served)
		d.Serve(ctx, there)
	})
	r.conns <- here
	return func() {
		cancel()
		<-served
	}
}

// fake joins what answers in a disk process's place.
func (r *diskRig) fake(handle ipc.Handler) {
	r.t.Helper()
	here, there := pair(r.t)
	r.tasks.Go(func() { there.Run(r.ctx, handle) })
	r.conns <- here
}

// start opens a disk process and joins it.
func (r *diskRig) start() *Disk {
	r.t.Helper()
	d := r.newDisk("one", r.t.TempDir())
	r.join(d)
	r.await("joined", r.Up)
	return d
}

func (r *diskRig) kinds() (list []string) {
	for _, e := range r.events.Since(0, 0) {
		list = append(list, e.Kind)
	}
	return list
}

func (r *diskRig) await(what string, is func() bool) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s: got the state %+v, the volumes %+v, the jobs %+v and the events %q", what, r.State(), r.List(), r.Jobs(), r.kinds())
		}
	}
}

func (r *diskRig) names() (list []string) {
	for _, i := range r.List() {
		list = append(list, i.Name)
	}
	return list
}

// noise is data in which nothing repeats, and that is the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

// TestDisksVolumes: what is asked for has happened, and can be read, when the method
// returns; what fails keeps its kind.
func TestDisksVolumes(t *testing.T) {
	r := newDiskRig(t)
	r.start()
	ctx, from := t.Context(), testOrigin()
	i, err := r.Create(ctx, block.CreateRequest{Name: "a", Size: 1 << 20}, from)
	if got, gerr := r.Get("a"); err != nil || gerr != nil || got.UUID != i.UUID || i.Size != 1<<20 {
		t.Errorf("created: got %+v, %v, and %+v, %v", i, err, got, gerr)
	}
	if _, err := r.Snapshot(ctx, "a", "a1", from); err != nil {
		t.Error(err)
	}
	if err := r.Resize(ctx, "a", 2<<20, from); err != nil {
		t.Error(err)
	}
	if got, err := r.Get("a"); err != nil || got.Size != 2<<20 {
		t.Errorf("resized: got %+v, %v", got, err)
	}
	if err := r.Rename(ctx, "a", "b", from); err != nil {
		t.Error(err)
	}
	if got, want := r.names(), []string{"a1", "b"}; !slices.Equal(got, want) {
		t.Errorf("got the volumes %q, want %q", got, want)
	}
	if err := r.Revert(ctx, "b", "a1", from); err != nil {
		t.Error(err)
	}
	for what, tt := range map[string]struct {
		do   func() error
		want error
	}{
		"exists":   {func() error { _, err := r.Create(ctx, block.CreateRequest{Name: "b", Size: 512}, from); return err }, volume.ErrExists},
		"name":     {func() error { _, err := r.Create(ctx, block.CreateRequest{Name: "B", Size: 512}, from); return err }, volume.ErrName},
		"nothing":  {func() error { return r.Delete(ctx, "c", from) }, volume.ErrNotFound},
		"shrink":   {func() error { return r.Resize(ctx, "b", 512, from) }, volume.ErrShrink},
		"too much": {func() error { _, err := r.Create(ctx, block.CreateRequest{Name: "d", Size: -1}, from); return err }, volume.ErrRequest},
		"no job":   {func() error { return r.CancelJob(ctx, "x", from) }, volume.ErrNotFound},
	} {
		if err := tt.do(); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", what, err, tt.want)
		}
	}
	if err := r.Delete(ctx, "b", from); err != nil {
		t.Error(err)
	}
	if slices.Contains(r.names(), "b") {
		t.Errorf("deleted: got the volumes %q", r.names())
	}
	want := []string{kindVolumeCreated, kindVolumeSnapshot, kindVolumeResized, kindVolumeRenamed, kindVolumeReverted, kindVolumeDeleted}
	var got []string
	r.await("the events", func() bool {
		got = nil
		for _, e := range r.events.Since(0, 0) {
			if e.Origin == from {
				got = append(got, e.Kind)
			}
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("got the events %q of who asked, want %q", got, want)
	}
}

// failing gives some data, then an error.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

// TestDisksStream: volumes go in and out as streams; what is broken leaves nothing.
func TestDisksStream(t *testing.T) {
	r := newDiskRig(t)
	r.start()
	ctx, from := t.Context(), testOrigin()
	data := noise(3 << 20)
	sum := sha256.Sum256(data)
	i, err := r.ImportStream(ctx, block.ImportRequest{Name: "a", SHA256: hex.EncodeToString(sum[:]), Length: int64(len(data))}, bytes.NewReader(data), from)
	if err != nil || i.Size != int64(len(data)) || i.Kind != block.KindImage {
		t.Fatalf("import: got %+v, %v", i, err)
	}
	if got, err := r.Get("a"); err != nil || got.UUID != i.UUID {
		t.Errorf("imported: got %+v, %v", got, err)
	}
	if err := r.Verify(ctx, "a"); err != nil {
		t.Errorf("verify: %v", err)
	}
	var out bytes.Buffer
	if err := r.Export(ctx, "a", "raw", &out); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("export: got %d bytes, %v, want the %d of before", out.Len(), err, len(data))
	}
	if err := r.Export(ctx, "none", "raw", io.Discard); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("export of nothing: got %v, want %v", err, volume.ErrNotFound)
	}
	broken := errors.New("broken")
	if err := r.Export(ctx, "a", "raw", writer(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
		t.Errorf("export into what is broken: got %v, want %v", err, broken)
	}
	ended, cancel := context.WithCancel(ctx)
	for what, tt := range map[string]struct {
		ctx     context.Context
		request block.ImportRequest
		data    io.Reader
		want    error
	}{
		"source":   {ctx, block.ImportRequest{}, &failing{bytes.NewReader(data), broken}, broken},
		"checksum": {ctx, block.ImportRequest{SHA256: strings.Repeat("00", 32)}, bytes.NewReader(data), volume.ErrContent},
		"short":    {ctx, block.ImportRequest{Length: int64(len(data)) + 1}, bytes.NewReader(data), volume.ErrContent},
		"canceled": {ended, block.ImportRequest{}, io.MultiReader(bytes.NewReader(data), reader(func([]byte) (int, error) {
			cancel()
			return 0, io.EOF
		}), bytes.NewReader(data)), context.Canceled},
	} {
		tt.request.Name = "b"
		if _, err := r.ImportStream(tt.ctx, tt.request, tt.data, from); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", what, err, tt.want)
		}
		if got := r.names(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%s: got the volumes %q, want a alone", what, got)
		}
	}
	cancel()
}

// TestDisksStreamAtOnce: an upload that is over, or breaks off, before the disk process
// has heard of it ends as any other.
func TestDisksStreamAtOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // what is begun last runs first
	r := newDiskRig(t)
	d := r.start()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	broken := errors.New("broken")
	for i := range 5 {
		name := fmt.Sprint("v", i)
		if _, err := r.ImportStream(ctx, block.ImportRequest{Name: name}, reader(func([]byte) (int, error) { return 0, broken }), testOrigin()); !errors.Is(err, broken) {
			t.Fatalf("%s: got %v, want %v", name, err, broken)
		}
		if got := len(d.long); got != 0 {
			t.Fatalf("%s: got %d under way after it broke off, want none", name, got)
		}
		if got, err := r.ImportStream(ctx, block.ImportRequest{Name: name}, strings.NewReader("little"), testOrigin()); err != nil || got.Size != 4096 {
			t.Fatalf("%s: got %+v, %v, want 4 KiB", name, got, err)
		}
	}
}

// TestDisksStreamStill: a client that stands still keeps no place from others.
func TestDisksStreamStill(t *testing.T) {
	r := newDiskRig(t)
	d := r.newDisk("one", t.TempDir())
	d.jobIdle = 50 * time.Millisecond
	r.join(d)
	r.await("joined", r.Up)
	ctx, from := t.Context(), testOrigin()
	if _, err := d.volumes.Import(ctx, block.ImportRequest{Name: "a"}, bytes.NewReader(noise(1<<20)), nil); err != nil {
		t.Fatal(err)
	}
	resume := make(chan struct{})
	results := make(chan error, 2)
	go func() {
		_, err := r.ImportStream(ctx, block.ImportRequest{Name: "b"}, io.MultiReader(strings.NewReader("some"), reader(func([]byte) (int, error) {
			<-resume
			return 0, io.EOF
		})), from)
		results <- err
	}()
	go func() {
		results <- r.Export(ctx, "a", "raw", writer(func(p []byte) (int, error) {
			<-resume
			return len(p), nil
		}))
	}()
	told := func(text string) func() bool {
		return func() bool {
			return slices.ContainsFunc(r.Jobs(), func(j block.Job) bool { return !j.Ended.IsZero() && strings.Contains(j.Error, text) })
		}
	}
	r.await("the import is given up", told("nothing came for 50ms"))
	r.await("the export is given up", told("nothing was taken for 50ms"))
	r.await("there is room for others", func() bool { return len(d.long) == 0 })
	close(resume)
	for range 2 {
		if err := <-results; err == nil || !strings.Contains(err.Error(), "for 50ms") {
			t.Errorf("got %v, want why it was given up", err)
		}
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

type reader func([]byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// TestDisksCoreDies: an import ends with the core that fed it, and leaves nothing,
// though its pipe looks as if all had come; other cores go on.
func TestDisksCoreDies(t *testing.T) {
	r := newDiskRig(t)
	d := r.newDisk("one", t.TempDir())
	die := r.join(d)
	r.await("joined", r.Up)
	begun, result := make(chan struct{}), make(chan error, 1)
	resume := make(chan struct{})
	data := io.MultiReader(bytes.NewReader(noise(1<<20)), reader(func([]byte) (int, error) {
		close(begun)
		<-resume
		return 0, io.EOF
	}))
	go func() {
		_, err := r.ImportStream(t.Context(), block.ImportRequest{Name: "a", Format: "raw"}, data, testOrigin())
		result <- err
	}()
	<-begun
	die() // to the disk process it is core that is gone
	close(resume)
	if err := <-result; !errors.Is(err, ErrDisk) {
		t.Errorf("got %v, want %v", err, ErrDisk)
	}
	r.join(d)
	r.await("joined again", r.Up)
	if got := r.names(); len(got) != 0 {
		t.Errorf("got the volumes %q, want none", got)
	}
	if _, err := r.Create(t.Context(), block.CreateRequest{Name: "a", Size: 1 << 20}, testOrigin()); err != nil {
		t.Errorf("the name is free again: %v", err)
	}
}

// TestDisksURL: an import from a server goes on over a lost connection, is a job,
// and can be cancelled.
func TestDisksURL(t *testing.T) {
	r := newDiskRig(t)
	r.start()
	ctx, from := t.Context(), testOrigin()
	data := noise(2 << 20)
	var mu sync.Mutex
	asked := 0
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/cut":
			mu.Lock()
			asked++
			first := asked == 1
			mu.Unlock()
			w.Header().Set("ETag", `"1"`)
			if first {
				w = &cutting{ResponseWriter: w, left: 1 << 20}
			}
			http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(data))
		case "/hang":
			w.Write(data[:1<<20])
			w.(http.Flusher).Flush()
			<-hang
		default:
			http.NotFound(w, q)
		}
	}))
	defer server.Close()
	defer close(hang)
	ended := func(j block.Job) (now block.Job) {
		t.Helper()
		r.await("the end of "+j.ID, func() bool {
			jobs := r.Jobs()
			i := slices.IndexFunc(jobs, func(o block.Job) bool { return o.ID == j.ID })
			if i >= 0 {
				now = jobs[i]
			}
			return i >= 0 && !now.Ended.IsZero()
		})
		return now
	}
	sum := sha256.Sum256(data)
	j, err := r.ImportURL(ctx, block.ImportRequest{Name: "a", SHA256: hex.EncodeToString(sum[:])}, server.URL+"/cut?secret", from)
	if err != nil {
		t.Fatal(err)
	}
	if j = ended(j); j.Error != "" || j.Done != int64(len(data)) || j.Total != int64(len(data)) {
		t.Errorf("got %+v, want all of %d bytes", j, len(data))
	}
	if i, err := r.Get("a"); err != nil || i.Source != server.URL+"/cut" {
		t.Errorf("got %+v, %v, want the source without its secret", i, err)
	}
	mu.Lock()
	if asked != 2 {
		t.Errorf("got %d requests, want 2", asked)
	}
	mu.Unlock()
	if _, err := r.ImportURL(ctx, block.ImportRequest{Name: "a"}, server.URL, from); !errors.Is(err, volume.ErrExists) {
		t.Errorf("got %v, want %v", err, volume.ErrExists)
	}
	if _, err := r.ImportURL(ctx, block.ImportRequest{Name: "b"}, "file:///etc/passwd", from); !errors.Is(err, host.ErrInvalid) {
		t.Errorf("got %v, want %v", err, host.ErrInvalid)
	}
	if j, err = r.ImportURL(ctx, block.ImportRequest{Name: "b"}, server.URL+"/none", from); err != nil {
		t.Fatal(err)
	}
	if j = ended(j); !strings.Contains(j.Error, "404") {
		t.Errorf("got %+v, want the server's refusal", j)
	}
	if j, err = r.ImportURL(ctx, block.ImportRequest{Name: "b"}, server.URL+"/hang", from); err != nil {
		t.Fatal(err)
	}
	r.await("its beginning", func() bool {
		return slices.ContainsFunc(r.Jobs(), func(o block.Job) bool { return o.ID == j.ID && o.Done > 0 })
	})
	if err := r.CancelJob(ctx, j.ID, from); err != nil {
		t.Error(err)
	}
	if j = ended(j); j.Error != errCanceled.Error() {
		t.Errorf("got %+v, want %v", j, errCanceled)
	}
	if got := r.names(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got the volumes %q, want a alone", got)
	}
}

// cutting breaks the connection off.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

// TestManyVolumes: a list that is longer than a message is told whole, then what
// changes of it.
func TestManyVolumes(t *testing.T) {
	const many = 3000
	list := make([]block.Info, many)
	for i := range list {
		list[i] = block.Info{Name: fmt.Sprintf("volume%d", i), UUID: "3f2504e0-4f89-41d3-9a0c-0305e82c3301", Size: int64(i) * 512,
			Source: "http://images.example.com/" + strings.Repeat("x", 100)}
	}
	here, there := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	var m mirror[block.Info]
	pages, whole := 0, make(chan int, 1)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		here.Run(ctx, func(_ context.Context, msg ipc.Message, _ *os.File) (any, error) {
			return nil, into(msg, func(p page[block.Info]) {
				pages++
				m.take(p, volumeKey)
				if !p.More {
					whole <- pages
				} else if len(m.list) != 0 && p.First {
					t.Error("half a list counts")
				}
			})
		})
	})
	tasks.Go(func() { there.Run(ctx, func(context.Context, ipc.Message, *os.File) (any, error) { return nil, nil }) })
	same := func() {
		t.Helper()
		if len(m.list) != len(list) {
			t.Fatalf("got %d volumes, want %d", len(m.list), len(list))
		}
		for _, i := range list {
			if m.list[i.Name] != i {
				t.Fatalf("got %+v, want %+v", m.list[i.Name], i)
			}
		}
	}
	tell := newTeller("volumes", volumeKey)
	if err := tell.tell(there, list); err != nil {
		t.Fatal(err)
	}
	if n := <-whole; n < 10 {
		t.Errorf("got %d messages, want as many as it takes", n)
	}
	same()
	list[7].Used = 4096
	list = slices.Delete(list, 100, 102)
	pages = 0
	if err := tell.tell(there, list); err != nil {
		t.Fatal(err)
	}
	if n := <-whole; n != 1 {
		t.Errorf("got %d messages for three changes, want 1", n)
	}
	same()
	if err := tell.tell(there, list); err != nil {
		t.Fatal(err)
	}
	list = list[:1]
	if err := tell.tell(there, list); err != nil { // nothing was told in between
		t.Fatal(err)
	}
	<-whole
	same()
	cancel()
	tasks.Wait()
}

// TestTold: what is told fits into a message, however much there is to say, and can be
// told at all.
func TestTold(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "a\xff\xfeb": "a?b", strings.Repeat("x", maxText): strings.Repeat("x", maxText),
		strings.Repeat("x", maxText-1) + "äö": strings.Repeat("x", maxText-1) + "?…",
	} {
		if got := told(text); got != want {
			t.Errorf("%.20q: got %q, want %q", text, got, want)
		}
	}
	r := newDiskRig(t)
	r.start()
	if err := r.set.Set("iscsi.enabled", "true"); err != nil {
		t.Fatal(err)
	}
	many := TargetOf("none")
	for i := range uint16(255) {
		many.LUNs = append(many.LUNs, block.LUN{Number: i + 1, Volume: fmt.Sprint("none", i)})
	}
	if err := r.PutTarget(t.Context(), many, testOrigin()); err != nil {
		t.Fatal(err)
	}
	failed := func() string { return r.TargetFailed(many.Name) }
	r.await("it is told", func() bool { return failed() != "" })
	if got := failed(); len(got) > maxText+len("…") || !strings.HasSuffix(got, "…") {
		t.Errorf("256 units that are not there: got %d bytes, want the begin of it", len(got))
	}
}

// TestDiskFails: a disk process that fails whenever it is greeted is told of once, and
// not asked in a busy loop.
func TestDiskFails(t *testing.T) {
	r := newDiskRig(t)
	r.greetRetry = 20 * time.Millisecond
	const times = 4
	begin := time.Now()
	for range times {
		r.fake(func(context.Context, ipc.Message, *os.File) (any, error) { return nil, errors.New("not today") })
	}
	if took := time.Since(begin); took < (times-1)*r.greetRetry {
		t.Errorf("got %d connections after %v, want %v in between", times, took, r.greetRetry)
	}
	r.start()
	r.await("the event of the one that serves", func() bool { return slices.Contains(r.kinds(), "disk.up") })
	down := 0
	for _, kind := range r.kinds() {
		if kind == "disk.down" {
			down++
		}
	}
	if down != 1 {
		t.Errorf("got the events %q, want one disk.down", r.kinds())
	}
}

// TestRevocationAhead: what is switched off is off while volumes cannot be had.
func TestRevocationAhead(t *testing.T) {
	r := newDiskRig(t)
	if err := r.set.Set("", `{"volumes":[{"name":"a","size":512}],"iscsi":{"enabled":true}}`); err != nil {
		t.Fatal(err)
	}
	waiting, enabled := make(chan struct{}, 1), make(chan bool, 10)
	r.fake(func(_ context.Context, m ipc.Message, _ *os.File) (any, error) {
		switch m.Type {
		case diskHello:
			return DiskHello{}, nil
		case diskCreate:
			return ipc.Later(func(ctx context.Context) (any, error) {
				waiting <- struct{}{}
				<-ctx.Done() // its server does not answer
				return nil, ctx.Err()
			}), nil
		case diskTargets:
			return nil, into(m, func(v targetsMessage) { enabled <- v.Enabled })
		}
		return nil, nil
	})
	<-waiting
	if err := r.set.Set("iscsi.enabled", "false"); err != nil {
		t.Fatal(err)
	}
	limit := time.After(20 * time.Second)
	for on := true; on; {
		select {
		case on = <-enabled:
		case <-limit:
			t.Fatal("not told for 20 s")
		}
	}
}

// TestSettledLast: all is settled when the disk process has exported what it was told
// once the volumes were there.
func TestSettledLast(t *testing.T) {
	r := newDiskRig(t)
	if err := r.set.Set("", `{"volumes":[{"name":"a","size":512}],"iscsi":{"enabled":true}}`); err != nil {
		t.Fatal(err)
	}
	first, again, resume := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var told atomic.Int64
	r.fake(func(_ context.Context, m ipc.Message, _ *os.File) (any, error) {
		switch m.Type {
		case diskHello:
			return DiskHello{}, nil
		case diskCreate:
			return ipc.Later(func(context.Context) (any, error) {
				<-first
				return block.Info{}, nil
			}), nil
		case diskTargets:
			if told.Add(1) == 1 {
				close(first)
				return nil, nil
			}
			return ipc.Later(func(context.Context) (any, error) {
				close(again)
				<-resume
				return nil, nil
			}), nil
		}
		return nil, nil
	})
	select {
	case <-again:
	case <-time.After(20 * time.Second):
		t.Error("not told again for 20 s")
	}
	if r.Settled() {
		t.Error("it is settled before all is exported")
	}
	close(resume)
	r.await("all is settled", r.Settled)
}

// TestDiskFlood: a core that asks for too much at once is refused what is too much,
// and gets its other answers.
func TestDiskFlood(t *testing.T) {
	r := newDiskRig(t)
	r.start()
	c, err := r.connection()
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	var mu sync.Mutex
	made, refused := 0, 0
	for i := range 500 {
		asking.Go(func() {
			err := r.call(t.Context(), diskCreate, createMessage{Request: block.CreateRequest{Name: fmt.Sprintf("v%d", i), Size: 512}}, nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case errors.Is(err, errBusy) && errors.Is(err, host.ErrBusy):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	var hello DiskHello
	if err := c.Call(t.Context(), diskHello, nil, &hello); err != nil || hello.Instance != "one" {
		t.Errorf("hello meanwhile: got %+v, %v", hello, err)
	}
	asking.Wait()
	if made < maxRequests/2 || made+refused != 500 || len(r.List()) != made {
		t.Errorf("got %d made and %d refused, %d in the list, want %d made at least", made, refused, len(r.List()), maxRequests/2)
	}
}

// TestDiskMalformed: what is no request is refused, and what is no message ends that
// connection; the next core finds all as it was.
func TestDiskMalformed(t *testing.T) {
	r := newDiskRig(t)
	d := r.start()
	c, err := r.connection()
	if err != nil {
		t.Fatal(err)
	}
	pipe := func() *os.File {
		out, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		in.Close()
		return out
	}
	for what, tt := range map[string]struct {
		kind string
		body any
		file *os.File
		want string
	}{
		"unknown":          {"format", nil, nil, "unsupported"},
		"no body":          {diskCreate, nil, nil, "no body"},
		"unknown field":    {diskDelete, map[string]any{"volume": "a", "force": true}, nil, "force"},
		"wrong type":       {diskResize, map[string]any{"volume": "a", "size": "1"}, nil, "string"},
		"no file":          {diskImport, importMessage{Job: "1"}, nil, "without a file"},
		"file":             {diskDelete, volumeMessage{Volume: "a"}, pipe(), "with a file"},
		"no job":           {diskImport, importMessage{}, pipe(), "named"},
		"import's body":    {diskImport, 5, pipe(), "number"},
		"subscribed twice": {diskSubscribe, nil, nil, "unsupported"},
	} {
		err := c.CallWith(t.Context(), tt.kind, tt.body, tt.file, nil)
		if _, ok := errors.AsType[*ipc.RemoteError](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want a refusal with %q", what, err, tt.want)
		}
	}
	if err := c.Tell(diskDelete, volumeMessage{Volume: "a"}, nil); err != nil {
		t.Fatal(err)
	}
	r.await("a request that wants no answer ends it", func() bool { return !r.Up() })
	r.join(d)
	r.await("the next core", r.Up)
	r.await("nothing is under way", func() bool { return len(d.slots) == 0 && len(d.long) == 0 })
}

// TestTargets: targets are changed and exported, and their secrets are shown to
// nobody; a disk process that is started again serves them before there is a core.
func TestTargets(t *testing.T) {
	r := newDiskRig(t)
	dir := t.TempDir()
	d, stop := openDisk(t, "one", dir)
	defer stop()
	die := r.join(d)
	r.await("joined", r.Up)
	ctx, from := t.Context(), testOrigin()
	if _, err := r.Create(ctx, block.CreateRequest{Name: "a", Size: 1 << 20}, from); err != nil {
		t.Fatal(err)
	}
	if err := r.set.Set("iscsi.enabled", "true"); err != nil {
		t.Fatal(err)
	}
	r.await("it listens", func() bool { return r.State().Health.ISCSI != "" })
	const secret, other = "sesame-open-12", "another-secret"
	name := r.TargetName("a")
	want := block.Target{Name: name, LUNs: []block.LUN{{Number: 1, Volume: "a"}, {Number: 2, Volume: "later"}},
		Initiators: []string{}, CHAP: block.Credentials{User: "u", Secret: secret}, Mutual: block.Credentials{User: "m", Secret: other}}
	if err := r.PutTarget(ctx, want, from); err != nil {
		t.Fatal(err)
	}
	fares := r.Served()
	if len(fares) != 1 || fares[0].Name != name || !strings.Contains(fares[0].Failed, "LUN 2") || strings.Contains(fares[0].Failed, "LUN 1") {
		t.Errorf("got %+v, want LUN 2 missing", fares)
	}
	if _, err := r.Create(ctx, block.CreateRequest{Name: "later", Size: 1 << 20}, from); err != nil {
		t.Fatal(err)
	}
	r.await("LUN 2", func() bool { f := r.Served(); return len(f) == 1 && f[0].Failed == "" })
	for what, err := range map[string]error{"delete": r.Delete(ctx, "a", from), "rename": r.Rename(ctx, "a", "b", from)} {
		if !errors.Is(err, volume.ErrInUse) {
			t.Errorf("%s of what a target shows: got %v, want %v", what, err, volume.ErrInUse)
		}
	}
	// Nobody is logged in, so that it can go back.
	if _, err := r.Snapshot(ctx, "a", "a1", from); err != nil {
		t.Error(err)
	}
	if err := r.Revert(ctx, "a", "a1", from); err != nil {
		t.Errorf("revert: %v", err)
	}
	if f := r.Served(); len(f) != 1 || f[0].Failed != "" {
		t.Errorf("after the revert: got %+v", f)
	}

	// What was read is put back, and the secrets stay.
	got := r.Targets()
	if len(got) != 1 || got[0].CHAP != (block.Credentials{User: "u"}) || got[0].Mutual != (block.Credentials{User: "m"}) {
		t.Errorf("got %+v, want no secrets", got)
	}
	got[0].Alias = "new"
	if err := r.PutTarget(ctx, got[0], from); err != nil {
		t.Error(err)
	}
	want.Alias = "new"
	text, err := r.set.Show("iscsi.targets")
	if err != nil || bytes.Contains(text, []byte(secret)) || bytes.Contains(text, []byte(other)) || bytes.Count(text, []byte(hiddenSecret)) != 2 {
		t.Errorf("shown: got %s, %v, want the secrets hidden", text, err)
	}
	if err := r.set.Set("iscsi.targets", string(text)); err != nil {
		t.Error(err)
	}
	kept := r.set.Get().ISCSI.Targets
	if len(kept) != 1 || kept[0].CHAP != want.CHAP || kept[0].Mutual != want.Mutual || kept[0].Alias != "new" {
		t.Errorf("got %+v, want %+v", kept, want)
	}
	for what, change := range map[string]func(*block.Target){
		"one secret for both": func(b *block.Target) { b.Mutual.Secret = secret },
		"alias in Latin-1":    func(b *block.Target) { b.Alias = "caf\xe9" },
		"user in Latin-1":     func(b *block.Target) { b.CHAP.User = "caf\xe9" },
		"secret in Latin-1":   func(b *block.Target) { b.CHAP.Secret = secret + "\xe9" },
		"other in Latin-1":    func(b *block.Target) { b.Mutual.Secret = other + "\xe9" },
	} {
		bad := want
		change(&bad)
		if err := r.PutTarget(ctx, bad, from); !errors.Is(err, host.ErrInvalid) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), other) {
			t.Errorf("%s: got %v, want %v without the secret", what, err, host.ErrInvalid)
		}
	}

	file := filepath.Join(dir, diskISCSI, exportsFile)
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("what is kept: got %v, %v, want mode 0600", info, err)
	}
	die()
	stop()
	again, stop := openDisk(t, "two", dir)
	defer stop()
	r.await("it listens without a core", func() bool { return again.iscsi.address() != "" })
	if f := again.iscsi.served(); len(f) != 1 || f[0] != (ServedTarget{Name: name}) {
		t.Errorf("without a core: got %+v, want %s", f, name)
	}
	r.join(again)
	r.await("joined again", r.Up)
	if err := r.DeleteTarget(ctx, name, from); err != nil {
		t.Error(err)
	}
	if err := r.DeleteTarget(ctx, name, from); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("again: got %v, want %v", err, volume.ErrNotFound)
	}
	if f := r.Served(); len(f) != 0 {
		t.Errorf("deleted: got %+v", f)
	}
	if err := r.Delete(ctx, "a", from); err != nil {
		t.Errorf("nobody shows it: %v", err)
	}
	if err := r.set.Set("iscsi.enabled", "false"); err != nil {
		t.Fatal(err)
	}
	r.await("it does not listen", func() bool { return r.State().Health.ISCSI == "" })
	for _, e := range r.events.Since(0, 0) {
		if strings.Contains(e.Message, secret) || strings.Contains(e.Message, other) {
			t.Errorf("an event shows a secret: %s", e.Message)
		}
	}
	if got := r.kinds(); !slices.Contains(got, kindTargetChanged) {
		t.Errorf("got the events %q, want %s", got, kindTargetChanged)
	}
}

// TestWantedVolumes: what the settings want is made, grown, fetched and cloned, and
// what cannot be is told once.
func TestWantedVolumes(t *testing.T) {
	r := newDiskRig(t)
	r.start()
	data := noise(1 << 20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/none" {
			http.NotFound(w, q)
			return
		}
		http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	set := func(value string) {
		t.Helper()
		if err := r.set.Set("volumes", value); err != nil {
			t.Fatal(err)
		}
	}
	size := func(name string) int64 { i, _ := r.Get(name); return i.Size }
	set(`[{"name":"a","size":1048576},{"name":"c","clone":"golden","size":2097152},{"name":"golden","image":{"url":"` + server.URL + `/x"}}]`)
	r.await("all three", func() bool { return size("a") == 1<<20 && size("c") == 2<<20 && size("golden") == 1<<20 })
	r.await("all is settled", r.Settled)
	set(`[{"name":"a","size":4194304},{"name":"x","clone":"none"}]`)
	r.await("a grew", func() bool { return size("a") == 4<<20 })
	missing := func() (n int) {
		for _, kind := range r.kinds() {
			if kind == kindVolumeMissing {
				n++
			}
		}
		return n
	}
	r.await("x is missing", func() bool { return missing() == 1 })
	set(`[{"name":"y","image":{"url":"` + server.URL + `/none"}}]`)
	attempts := func() (n int) {
		for _, j := range r.Jobs() {
			if j.Volume == "y" && !j.Ended.IsZero() {
				n++
			}
		}
		return n
	}
	r.await("y is tried again", func() bool { return attempts() >= 3 })
	if missing() != 2 || slices.Contains(r.kinds(), kindImportFailed) {
		t.Errorf("got the events %q, want one of y", r.kinds())
	}
	set(`[{"name":"a","size":512}]`)
	time.Sleep(50 * time.Millisecond)
	if got, want := r.names(), []string{"a", "c", "golden"}; !slices.Equal(got, want) || size("a") != 4<<20 || missing() != 2 {
		t.Errorf("got %q, a of %d bytes, %d events, want %q, nothing shrunk or deleted, and no more events", got, size("a"), missing(), want)
	}
}

// TestWantedPause: an image that is another one than expected, and was written to the card
// to learn that, is left alone much longer than one that is not there.
func TestWantedPause(t *testing.T) {
	r := newDiskRig(t)
	r.start()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/none" {
			http.NotFound(w, q)
			return
		}
		w.Write(noise(4096))
	}))
	defer server.Close()
	for path, want := range map[string]time.Duration{"/none": r.retry, "/other": maxReload} {
		w := &wantedVolume{settings: VolumeSettings{Name: "a", Image: &ImageSettings{URL: server.URL + path, SHA256: strings.Repeat("00", 32)}}}
		if got := r.provideOne(r.ctx, w, nil); got != 0 || w.coming == nil {
			t.Fatalf("%s: got %v, %q, want it to be loaded", path, got, w.failed)
		}
		r.await("it ends", func() bool { return len(w.coming) == 1 })
		if got := r.provideOne(r.ctx, w, nil); got != want {
			t.Errorf("%s: got %v after %q, want %v", path, got, w.failed, want)
		}
	}
}

// TestDiskSettings: what is wrong with the sections is told where it is.
func TestDiskSettings(t *testing.T) {
	r := newDiskRig(t)
	const chap = `"chap":{"user":"u","secret":"123456789012"}`
	target := func(fields string) string {
		return `{"targets":[{"name":"iqn.2026-01.io.nitrino:a"` + strings.TrimPrefix(","+fields, ",,") + `}]}`
	}
	for _, tt := range []struct{ path, value, want string }{
		{"volumes", `[{"name":"a","size":512}]`, ""},
		{"volumes", `[{"name":"A","size":512}]`, "/volumes/0/name"},
		{"volumes", `[{"name":"a","size":512},{"name":"a","size":512}]`, "/volumes/1/name"},
		{"volumes", `[{"name":"a"}]`, "/volumes/0/size"},
		{"volumes", `[{"name":"a","size":513}]`, "/volumes/0/size"},
		{"volumes", `[{"name":"a","size":17592186040320}]`, ""}, // what package volume makes at most
		{"volumes", `[{"name":"a","size":17592186040832}]`, "/volumes/0/size"},
		{"volumes", `[{"name":"a","size":512,"block_size":1024}]`, "/volumes/0/block_size"},
		{"volumes", `[{"name":"a","clone":"b","upstream":"nbd://h/x"}]`, "/volumes/0"},
		{"volumes", `[{"name":"a","upstream":"http://h/x"}]`, "/volumes/0/upstream"},
		{"volumes", `[{"name":"a","upstream":"nbd://h/x"}]`, ""},
		{"volumes", `[{"name":"a","upstream":"nbd://h/x?socket=/run/x"}]`, "/volumes/0/upstream"},
		{"volumes", `[{"name":"a","upstream":"nbd://u:123456789012@h/x"}]`, "/volumes/0/upstream"},
		{"volumes", `[{"name":"a","image":{"url":"http://u:123456789012@h/x"}}]`, "/volumes/0/image/url"},
		{"volumes", `[{"name":"a","image":{"url":"https://u@h/x"}}]`, "/volumes/0/image/url"},
		{"volumes", `[{"name":"a","image":{"url":"http://u:123456789012%@h/x"}}]`, "/volumes/0/image/url"},
		{"volumes", `[{"name":"a","image":{"url":"ftp://h/x"}}]`, "/volumes/0/image/url"},
		{"volumes", `[{"name":"a","image":{"url":"http://h/x","sha256":"12"}}]`, "/volumes/0/image/sha256"},
		{"volumes", `[{"name":"a","image":{"url":"http://h/x","format":"vmdk"}}]`, "/volumes/0/image/format"},
		{"iscsi", target(`"luns":[{"lun":0,"volume":"a"},{"lun":255,"volume":"a","cd":true}],` + chap), ""},
		{"iscsi", `{"targets":[{"name":"disk0"}]}`, "/iscsi/targets/0/name"},
		{"iscsi", `{"targets":[{"name":"iqn.2026-13.io.nitrino:a"}]}`, "/iscsi/targets/0/name"},
		{"iscsi", `{"targets":[{"name":"iqn.2026-01.io.nitrino:A"}]}`, "/iscsi/targets/0/name"},
		{"iscsi", `{"targets":[{"name":"eui.02004567a425678d"},{"name":"naa.52004567ba64678d"}]}`, ""},
		{"iscsi", `{"targets":[{"name":"eui.02004567a425678d"},{"name":"eui.02004567a425678d"}]}`, "/iscsi/targets/1/name"},
		{"iscsi", target(`"luns":[{"lun":0,"volume":"a"},{"lun":0,"volume":"b"}]`), "/iscsi/targets/0/luns/1/lun"},
		{"iscsi", target(`"luns":[{"lun":256,"volume":"a"}]`), "/iscsi/targets/0/luns/0/lun"},
		{"iscsi", target(`"luns":[{"lun":0}]`), "/iscsi/targets/0/luns/0/volume"},
		{"iscsi", target(`"initiators":["x"]`), "/iscsi/targets/0/initiators/0"},
		{"iscsi", target(`"chap":{"user":"u","secret":"12345678901"}`), "/iscsi/targets/0/chap/secret"},
		{"iscsi", target(`"chap":{"user":"u","secret":"****"}`), "/iscsi/targets/0/chap/secret"},
		{"iscsi", target(`"chap":{"secret":"123456789012"}`), "/iscsi/targets/0/chap/user"},
		{"iscsi", target(`"mutual_chap":{"user":"u","secret":"123456789012"}`), "/iscsi/targets/0/mutual_chap"},
		{"iscsi", target(chap + `,"mutual_chap":{"user":"u","secret":"123456789012"}`), "/iscsi/targets/0/mutual_chap/secret"},
		{"iscsi", target(chap + `,"mutual_chap":{"user":"u","secret":"abcdefghijkl"}},{"name":"eui.02004567a425678d","chap":{"user":"v","secret":"abcdefghijkl"}`), "/iscsi/targets/0/mutual_chap/secret"},
		{"iscsi", target(`"alias":"` + strings.Repeat("x", 256) + `"`), "/iscsi/targets/0/alias"},
	} {
		err := r.set.Set(tt.path, tt.value)
		e, _ := errors.AsType[*settings.Error](err)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: got %v, want it taken", tt.value, err)
		case tt.want != "" && (e == nil || e.Pointer != tt.want):
			t.Errorf("%s: got %v, want an error at %s", tt.value, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "123456789012"):
			t.Errorf("%s: the error shows the secret: %v", tt.value, err)
		}
	}
}

// TestHideSecrets hides secrets wherever the document is shown from, and nothing
// else.
func TestHideSecrets(t *testing.T) {
	const list = `[{"name":"n","chap":{"user":"secret","secret":"s1"},"mutual_chap":{"user":"","secret":""}}]`
	for path, tt := range map[string]struct{ value, want string }{
		"":               {`{"hostname":"h","iscsi":{"enabled":true,"targets":` + list + `}}`, `{"hostname":"h","iscsi":{"enabled":true,"targets":` + strings.Replace(list, "s1", "****", 1) + `}}`},
		"iscsi":          {`{"targets":` + list + `}`, `{"targets":` + strings.Replace(list, "s1", "****", 1) + `}`},
		"iscsi.targets":  {list, strings.Replace(list, "s1", "****", 1)},
		"/iscsi/targets": {list, strings.Replace(list, "s1", "****", 1)},
		"hostname":       {`"s1"`, `"s1"`},
		"iscsi.enabled":  {`true`, `true`},
	} {
		if got := withoutSecrets(path, tt.value); got != tt.want {
			t.Errorf("%s: got %s, want %s", path, got, tt.want)
		}
		now := ISCSISettings{Targets: []block.Target{{Name: "n", CHAP: block.Credentials{User: "secret", Secret: "s1"}}}}
		if got := withoutSecrets(path, unhide(path, tt.want, now)); got != tt.want {
			t.Errorf("%s and back: got %s, want %s", path, got, tt.want)
		}
		if base, ok := secretsIn(path); ok {
			if got := unhide(path, tt.want, now); !strings.Contains(got, `"s1"`) {
				t.Errorf("%s (%s): got %s, want the secret back", path, base, got)
			}
		}
	}
}

func FuzzUnhide(f *testing.F) {
	f.Add("iscsi.targets", `[{"name":"n","chap":{"user":"u","secret":"****"}}]`)
	f.Add("", `{"iscsi":{"targets":[{"name":"n"}]}}`)
	f.Fuzz(func(t *testing.T, path, value string) {
		now := ISCSISettings{Targets: []block.Target{{Name: "n", CHAP: block.Credentials{User: "u", Secret: "the secret itself"}}}}
		out := unhide(path, value, now)
		if _, ok := secretsIn(path); ok && !strings.Contains(value, "the secret") && strings.Contains(withoutSecrets(path, out), "the secret") {
			t.Errorf("%q, %q: shown as %q", path, value, withoutSecrets(path, out))
		}
	})
}
