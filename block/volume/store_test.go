package volume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

const mib = 1 << 20

// A watched is a store whose events are kept.
type watched struct {
	*Store
	dir string

	mu     sync.Mutex
	events []Event
}

func (w *watched) kinds() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, e := range w.events {
		list = append(list, e.Kind)
	}
	return list
}

func openAt(t *testing.T, dir string, edge func(string) error) *watched {
	t.Helper()
	return openBoot(t, dir, "b0071d", edge)
}

// openBoot opens a folder as the kernel with that boot ID.
func openBoot(t *testing.T, dir, bootID string, edge func(string) error) *watched {
	t.Helper()
	w := &watched{dir: dir}
	s, err := open(Options{
		Dir: dir, BootID: bootID, Log: slog.New(slog.DiscardHandler),
		Report: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Dial: dialMemory,
	}, edge)
	if err != nil {
		t.Fatal(err)
	}
	w.Store = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// run has the background work done until the test ends.
func (w *watched) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

func (w *watched) create(t *testing.T, r block.CreateRequest) block.Info {
	t.Helper()
	return must(w.Create(t.Context(), r))(t)
}

func (w *watched) image(t *testing.T, name string, data []byte) {
	t.Helper()
	must(w.Import(t.Context(), block.ImportRequest{Name: name}, bytes.NewReader(data), nil))(t)
}

// contents reads a volume.
func (w *watched) contents(t *testing.T, name string) []byte {
	t.Helper()
	d, release, err := w.Use(name)
	if err != nil {
		t.Fatalf("using %s: %v", name, err)
	}
	defer release()
	p := make([]byte, d.Size())
	ok(t, d.Readv([][]byte{p}, 0))
	return p
}

func (w *watched) write(t *testing.T, name string, p []byte, offset int64) {
	t.Helper()
	d, release, err := w.Use(name)
	if err != nil {
		t.Fatalf("using %s: %v", name, err)
	}
	defer release()
	ok(t, d.Writev([][]byte{p}, offset, true))
}

func (w *watched) same(t *testing.T, name string, want []byte) {
	t.Helper()
	got := w.contents(t, name)
	if !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Fatalf("%s has %d bytes, want %d; they differ at %d", name, len(got), len(want), at)
	}
}

func (w *watched) names() []string {
	list := []string{}
	for _, i := range w.List() {
		list = append(list, i.Name)
	}
	return list
}

// layerFiles are the stems of what is in layers.
func (w *watched) layerFiles(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, e := range must(os.ReadDir(filepath.Join(w.dir, "layers")))(t) {
		stem, _, _ := strings.Cut(e.Name(), ".")
		if !slices.Contains(list, stem) {
			list = append(list, stem)
		}
	}
	return list
}

func (w *watched) incomingEmpty(t *testing.T) {
	t.Helper()
	if list := must(os.ReadDir(filepath.Join(w.dir, "incoming")))(t); len(list) > 0 {
		t.Errorf("incoming has %v", list)
	}
}

func (w *watched) layerCount() int {
	w.Store.mu.Lock()
	defer w.Store.mu.Unlock()
	return len(w.layers)
}

// pattern is n bytes that differ from others by seed.
func pattern(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.NewPCG(seed, seed)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64()|1)
	}
	return p
}

// with is data with p at offset.
func with(data, p []byte, offset int) []byte {
	data = bytes.Clone(data)
	copy(data[offset:], p)
	return data
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 3000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("it never came that %s", what)
}

// A memory is a disk on an "NBD server".
type memory struct {
	mu   sync.Mutex
	data []byte
}

func dialMemory(_ context.Context, uri string, _ func(error)) (block.Device, error) {
	if uri != "nbd://u:secret@server/export" {
		return nil, fmt.Errorf("%w: %s", block.ErrGone, uri)
	}
	return &memory{data: make([]byte, mib)}, nil
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) Readv(bufs [][]byte, offset int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range bufs {
		offset += int64(copy(b, m.data[offset:]))
	}
	return nil
}

func (m *memory) Writev(bufs [][]byte, offset int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range bufs {
		offset += int64(copy(m.data[offset:], b))
	}
	return nil
}

func (m *memory) Flush() error { return nil }

func (m *memory) Discard(offset, length int64) error { return m.WriteZeroes(offset, length, false) }

func (m *memory) WriteZeroes(offset, length int64, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.data[offset : offset+length])
	return nil
}

func (m *memory) Extent(offset int64) (int64, bool, error) { return m.Size() - offset, true, nil }
func (m *memory) Close() error                             { return nil }

func TestCreate(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	golden := pattern(1, mib)
	w.image(t, "golden", golden)
	for _, tt := range []struct {
		request block.CreateRequest
		want    error
		size    int64
		format  block.Format
	}{
		{block.CreateRequest{Name: "d", Size: mib}, nil, mib, block.FormatRaw},
		{block.CreateRequest{Name: "d", Size: mib}, ErrExists, 0, ""},
		{block.CreateRequest{Name: "d4k", Size: mib, BlockSize: 4096}, nil, mib, block.FormatRaw},
		{block.CreateRequest{Name: "odd4k", Size: mib + 512, BlockSize: 4096}, ErrRequest, 0, ""},
		{block.CreateRequest{Name: "b1024", Size: mib, BlockSize: 1024}, ErrRequest, 0, ""},
		{block.CreateRequest{Name: "odd", Size: 1000}, ErrRequest, 0, ""},
		{block.CreateRequest{Name: "none"}, ErrRequest, 0, ""},
		{block.CreateRequest{Name: "huge", Size: 1 << 50}, ErrRequest, 0, ""},
		{block.CreateRequest{Name: "", Size: mib}, ErrName, 0, ""},
		{block.CreateRequest{Name: "../d", Size: mib}, ErrName, 0, ""},
		{block.CreateRequest{Name: "D", Size: mib}, ErrName, 0, ""},
		{block.CreateRequest{Name: ".d", Size: mib}, ErrName, 0, ""},
		{block.CreateRequest{Name: strings.Repeat("a", 64), Size: mib}, ErrName, 0, ""},
		{block.CreateRequest{Name: "clone", Clone: "golden"}, nil, mib, block.FormatCoW},
		{block.CreateRequest{Name: "larger", Clone: "golden", Size: 2 * mib}, nil, 2 * mib, block.FormatCoW},
		{block.CreateRequest{Name: "smaller", Clone: "golden", Size: mib / 2}, ErrShrink, 0, ""},
		{block.CreateRequest{Name: "ofdisk", Clone: "d"}, ErrRequest, 0, ""},
		{block.CreateRequest{Name: "ofnothing", Clone: "absent"}, ErrNotFound, 0, ""},
		{block.CreateRequest{Name: "ro", Size: mib, ReadOnly: true}, ErrRequest, 0, ""},
		{block.CreateRequest{Name: "nbd", Upstream: "nbd://u:secret@server/export"}, nil, mib, block.FormatNBD},
		{block.CreateRequest{Name: "nbdimage", Upstream: "nbd://u:secret@server/export", ReadOnly: true}, nil, mib, block.FormatNBD},
		{block.CreateRequest{Name: "nbdclone", Clone: "nbdimage"}, nil, mib, block.FormatCoW},
		{block.CreateRequest{Name: "nbdgone", Upstream: "nbd://gone"}, block.ErrGone, 0, ""},
	} {
		info, err := w.Create(t.Context(), tt.request)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%+v: got error %v, want %v", tt.request, err, tt.want)
		}
		if info.Size != tt.size || info.Format != tt.format {
			t.Errorf("%+v: got %d bytes as %q, want %d as %q", tt.request, info.Size, info.Format, tt.size, tt.format)
		}
		if strings.Contains(info.Upstream, "secret") {
			t.Errorf("the upstream %q has the secret", info.Upstream)
		}
	}
	want := []string{"clone", "d", "d4k", "golden", "larger", "nbd", "nbdclone", "nbdimage"}
	for range 2 {
		if got := w.names(); !slices.Equal(got, want) {
			t.Errorf("got volumes %q, want %q", got, want)
		}
		w.same(t, "d", make([]byte, mib))
		w.same(t, "clone", golden)
		w.same(t, "larger", append(bytes.Clone(golden), make([]byte, mib)...))
		if n := len(w.layerFiles(t)); n != len(want) {
			t.Errorf("there are %d layers, want %d", n, len(want))
		}
		ok(t, w.Close())
		w = openAt(t, w.dir, nil)
	}
}

// TestLives takes volumes through what happens to them; after each step, and after
// a restart there, they read as they should.
func TestLives(t *testing.T) {
	golden := pattern(1, mib)
	a, b, c := pattern(2, 8192), pattern(3, 512), pattern(4, 4096)
	zeros := make([]byte, mib)
	type state map[string][]byte
	for _, tt := range []struct {
		name  string
		steps func(t *testing.T, w *watched, step func(state))
	}{
		{"a disk", func(t *testing.T, w *watched, step func(state)) {
			w.create(t, block.CreateRequest{Name: "d", Size: mib})
			step(state{"d": zeros})
			w.write(t, "d", a, 4096)
			step(state{"d": with(zeros, a, 4096)})
			ok(t, w.Resize(t.Context(), "d", 2*mib))
			step(state{"d": with(make([]byte, 2*mib), a, 4096)})
			wantErr(t, w.Resize(t.Context(), "d", mib), ErrShrink)
			ok(t, w.Rename(t.Context(), "d", "e"))
			step(state{"e": with(make([]byte, 2*mib), a, 4096)})
			ok(t, w.Delete(t.Context(), "e"))
			step(state{})
		}},
		{"a clone", func(t *testing.T, w *watched, step func(state)) {
			w.image(t, "golden", golden)
			w.create(t, block.CreateRequest{Name: "c1", Clone: "golden"})
			w.create(t, block.CreateRequest{Name: "c2", Clone: "golden"})
			w.write(t, "c1", b, 512)
			step(state{"golden": golden, "c1": with(golden, b, 512), "c2": golden})
			err := w.Delete(t.Context(), "golden")
			wantErr(t, err, ErrStandsOn)
			if !strings.Contains(err.Error(), "c1, c2") {
				t.Errorf("the error %q does not name the clones", err)
			}
			ok(t, w.Delete(t.Context(), "c1"))
			step(state{"golden": golden, "c2": golden})
			ok(t, w.Delete(t.Context(), "c2"))
			ok(t, w.Delete(t.Context(), "golden"))
			step(state{})
		}},
		{"snapshots", func(t *testing.T, w *watched, step func(state)) {
			ctx := t.Context()
			w.create(t, block.CreateRequest{Name: "d", Size: mib})
			w.write(t, "d", a, 0)
			must(w.Snapshot(ctx, "d", "s1"))(t)
			first := with(zeros, a, 0)
			w.write(t, "d", b, 0)
			must(w.Snapshot(ctx, "d", "s2"))(t)
			second := with(first, b, 0)
			w.write(t, "d", c, 4096)
			third := with(second, c, 4096)
			step(state{"d": third, "s1": first, "s2": second})
			ok(t, w.Resize(ctx, "d", 2*mib))
			grown := append(bytes.Clone(third), zeros...)
			step(state{"d": grown, "s1": first, "s2": second})
			w.create(t, block.CreateRequest{Name: "c", Clone: "s1"})
			w.write(t, "c", c, 0)
			step(state{"d": grown, "s1": first, "s2": second, "c": with(first, c, 0)})
			wantErr(t, w.Revert(ctx, "d", "c"), ErrRequest)
			ok(t, w.Revert(ctx, "d", "s1"))
			step(state{"d": first, "s1": first, "s2": second, "c": with(first, c, 0)})
			ok(t, w.Delete(ctx, "s1")) // s2, c and d stand on it
			step(state{"d": first, "s2": second, "c": with(first, c, 0)})
			ok(t, w.Delete(ctx, "d"))
			step(state{"s2": second, "c": with(first, c, 0)})
			ok(t, w.Delete(ctx, "s2"))
			step(state{"c": with(first, c, 0)})
			ok(t, w.Delete(ctx, "c"))
			step(state{})
		}},
		{"an upstream", func(t *testing.T, w *watched, step func(state)) {
			w.create(t, block.CreateRequest{Name: "i", Upstream: "nbd://u:secret@server/export", ReadOnly: true})
			w.create(t, block.CreateRequest{Name: "c", Clone: "i"})
			w.write(t, "c", a, 0)
			step(state{"i": zeros, "c": with(zeros, a, 0)})
			must(w.Snapshot(t.Context(), "c", "s"))(t)
			w.write(t, "c", b, 0)
			step(state{"i": zeros, "c": with(with(zeros, a, 0), b, 0), "s": with(zeros, a, 0)})
			ok(t, w.Delete(t.Context(), "s"))
			step(state{"i": zeros, "c": with(with(zeros, a, 0), b, 0)})
		}},
	} {
		for _, merging := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, merging %t", tt.name, merging), func(t *testing.T) {
				w := openAt(t, quickFolder(t), nil)
				if merging {
					w.run(t)
				}
				step := func(want state) {
					t.Helper()
					check := func(w *watched) {
						t.Helper()
						if got := len(w.List()); got != len(want) {
							t.Fatalf("there are %q, want %d", w.names(), len(want))
						}
						for name, data := range want {
							w.same(t, name, data)
						}
					}
					check(w)
					if !merging { // else the copy is of no one moment
						check(openAt(t, copyFolder(t, w.dir), nil))
					}
				}
				tt.steps(t, w, step)
				if len(w.List()) == 0 {
					eventually(t, "all layers were deleted", func() bool { return len(w.layerFiles(t)) == 0 })
				}
			})
		}
	}
}

// quickFolder is one in memory where there is that, for what syncs very often.
func quickFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "volume-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { ok(t, os.RemoveAll(dir)) })
	return dir
}

// copyFolder is how the folder would be after a kill at this moment.
func copyFolder(t *testing.T, dir string) string {
	t.Helper()
	to := quickFolder(t)
	ok(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

func TestInUse(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	ctx := t.Context()
	w.create(t, block.CreateRequest{Name: "d", Size: mib})
	must(w.Snapshot(ctx, "d", "s"))(t)
	d, release, err := w.Use("d")
	ok(t, err)
	again, releaseAgain, err := w.Use("d")
	ok(t, err)
	if d != again {
		t.Error("two users have two disks")
	}
	wantErr(t, w.Delete(ctx, "d"), ErrInUse)
	wantErr(t, w.Revert(ctx, "d", "s"), ErrInUse)
	wantErr(t, w.Rename(ctx, "d", "e"), ErrInUse)
	resized := make(chan block.Change, 1)
	defer d.Watch(func(c block.Change) { resized <- c })()
	ok(t, w.Resize(ctx, "d", 2*mib))
	if got := <-resized; got != block.Resized || d.Size() != 2*mib {
		t.Errorf("got change %v and %d bytes, want %v and %d", got, d.Size(), block.Resized, 2*mib)
	}
	release()
	release() // once more does nothing
	wantErr(t, w.Delete(ctx, "d"), ErrInUse)
	releaseAgain()
	wantErr(t, d.Flush(), block.ErrClosed)
	ok(t, w.Delete(ctx, "d"))
	_, _, err = w.Use("d")
	wantErr(t, err, ErrNotFound)
	s, release, err := w.Use("s")
	ok(t, err)
	wantErr(t, s.Writev([][]byte{make([]byte, 512)}, 0, false), block.ErrReadOnly)
	wantErr(t, w.Delete(ctx, "s"), ErrInUse)
	ok(t, w.Close())
	wantErr(t, s.Flush(), block.ErrClosed)
	release()
	_, _, err = w.Use("s")
	wantErr(t, err, ErrClosed)
	_, err = w.Create(ctx, block.CreateRequest{Name: "x", Size: mib})
	wantErr(t, err, ErrClosed)
}

func TestEventsAndChanges(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	ctx := t.Context()
	for _, tt := range []struct {
		kind string
		do   func() error
	}{
		{"volume.created", func() error { _, err := w.Create(ctx, block.CreateRequest{Name: "d", Size: mib}); return err }},
		{"volume.snapshot", func() error { _, err := w.Snapshot(ctx, "d", "s"); return err }},
		{"volume.resized", func() error { return w.Resize(ctx, "d", 2*mib) }},
		{"volume.reverted", func() error { return w.Revert(ctx, "d", "s") }},
		{"volume.imported", func() error {
			_, err := w.Import(ctx, block.ImportRequest{Name: "i"}, strings.NewReader("data"), nil)
			return err
		}},
		{"volume.deleted", func() error { return w.Delete(ctx, "s") }},
		{"volume.merged", func() error { w.mergeAll(ctx); return nil }},
	} {
		changed := w.Changed()
		ok(t, tt.do())
		select {
		case <-changed:
		default:
			t.Errorf("%s: no change was told", tt.kind)
		}
		if got := w.kinds(); got[len(got)-1] != tt.kind {
			t.Errorf("got events %q, want %q last", got, tt.kind)
		}
	}
}

func TestDepth(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.create(t, block.CreateRequest{Name: "d", Size: mib})
	for i := range maxDepth - 1 {
		must(w.Snapshot(t.Context(), "d", fmt.Sprintf("s%d", i)))(t)
	}
	_, err := w.Snapshot(t.Context(), "d", "one.more")
	wantErr(t, err, ErrRequest)
	w.write(t, "d", pattern(1, 512), 0)
	w.same(t, "s62", make([]byte, mib))
	w.same(t, "d", with(make([]byte, mib), pattern(1, 512), 0))
}
