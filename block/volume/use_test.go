package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/cow"
)

// TestMergeInUse merges below a disk that is written to all the time, into a raw
// file and into an overlay, with snapshots and growth in between.
func TestMergeInUse(t *testing.T) {
	for _, below := range []string{"raw", "cow"} {
		t.Run(below, func(t *testing.T) {
			w := openAt(t, quickFolder(t), nil)
			w.run(t)
			r := block.CreateRequest{Name: "d", Size: 4 * mib}
			if below == "cow" {
				w.image(t, "golden", pattern(1, 4*mib))
				r = block.CreateRequest{Name: "d", Clone: "golden"}
			}
			w.create(t, r)
			d, release, err := w.Use("d")
			ok(t, err)
			var wg sync.WaitGroup
			stop := make(chan struct{})
			const writers, area = 4, mib
			var shadows [writers][]byte
			for i := range writers {
				shadow := make([]byte, area)
				ok(t, d.Readv([][]byte{shadow}, int64(i)*area))
				shadows[i] = shadow
				wg.Go(func() {
					random := rand.New(rand.NewPCG(uint64(i), 1))
					for n := uint64(0); ; n++ {
						select {
						case <-stop:
							return
						default:
						}
						at := random.IntN(area/512) * 512
						length := min((1+random.IntN(40))*512, area-at)
						var err error
						switch p := pattern(n, length); random.IntN(8) {
						case 0:
							clear(shadow[at : at+length])
							err = d.Discard(int64(i*area+at), int64(length))
						case 1:
							clear(shadow[at : at+length])
							err = d.WriteZeroes(int64(i*area+at), int64(length), true)
						case 2:
							got := make([]byte, length)
							if err = d.Readv([][]byte{got}, int64(i*area+at)); err == nil && !bytes.Equal(got, shadow[at:at+length]) {
								err = fmt.Errorf("%d bytes at %d read differently", length, i*area+at)
							}
						default:
							copy(shadow[at:], p)
							err = d.Writev([][]byte{p[:length/1024*512], p[length/1024*512:]}, int64(i*area+at), n%16 == 0)
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for i := range 4 {
				name := fmt.Sprintf("s%d", i)
				must(w.Snapshot(t.Context(), "d", name))(t)
				ok(t, w.Resize(t.Context(), "d", int64(5+i)*mib))
				ok(t, w.Delete(t.Context(), name))
				time.Sleep(time.Duration(rand.N(100)) * time.Millisecond)
				if i%2 == 1 {
					eventually(t, "all was merged", func() bool { return w.layerCount() <= 2 && len(w.Merges()) == 0 })
				}
			}
			eventually(t, "all was merged", func() bool {
				return w.layerCount() == map[string]int{"raw": 1, "cow": 2}[below]
			})
			close(stop)
			wg.Wait()
			release()
			want := append(bytes.Join(shadows[:], nil), make([]byte, 4*mib)...)
			w.same(t, "d", want)
			if info := must(w.Get("d"))(t); string(info.Format) != below {
				t.Errorf("d is %s, want %s", info.Format, below)
			}
			ok(t, w.Close())
			w = openAt(t, w.dir, nil)
			clean(t, w)
			w.same(t, "d", want)
		})
	}
}

// TestMergeBelow merges two layers below an overlay that is in use.
func TestMergeBelow(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.create(t, block.CreateRequest{Name: "d", Size: mib})
	want := make([]byte, mib)
	for i, name := range []string{"s1", "s2"} {
		p := pattern(uint64(i), 64<<10)
		w.write(t, "d", p, int64(i)<<15)
		want = with(want, p, i<<15)
		must(w.Snapshot(t.Context(), "d", name))(t)
	}
	d, release, err := w.Use("d")
	ok(t, err)
	defer release()
	_, releaseSnapshot, err := w.Use("s2")
	ok(t, err)
	defer releaseSnapshot()
	ok(t, d.Discard(0, 8192))
	ok(t, w.Delete(t.Context(), "s1"))
	w.mergeAll(t.Context())
	if got := w.layerCount(); got != 2 {
		t.Errorf("there are %d layers, want 2", got)
	}
	w.same(t, "s2", want)
	w.same(t, "d", with(want, make([]byte, 8192), 0))
}

// TestMirror: what is written during a merge gets below as far as the copy has come.
func TestMirror(t *testing.T) {
	over, below := &memory{data: pattern(1, 64<<10)}, &memory{data: pattern(1, 64<<10)}
	w := openAt(t, t.TempDir(), nil)
	h := &head{store: w.Store, mirror: &mirror{over: over, below: below, upTo: 32 << 10}}
	h.put(over)
	for _, tt := range []struct {
		name string
		do   func(offset int64) error
	}{
		{"write", func(at int64) error { return h.Writev([][]byte{pattern(2, 512), pattern(3, 512)}, at) }},
		{"discard", func(at int64) error { return h.Discard(at, 1024) }},
		{"write zeros", func(at int64) error { return h.WriteZeroes(at, 1024, true) }},
	} {
		for _, at := range []int64{0, 32 << 10} {
			ok(t, tt.do(at))
			same := bytes.Equal(over.data[at:at+1024], below.data[at:at+1024])
			if got, want := same, at == 0; got != want {
				t.Errorf("%s at %d: both have it %t, want %t", tt.name, at, got, want)
			}
			copy(over.data, pattern(1, 64<<10))
			copy(below.data, over.data)
		}
	}
	h.prompt = always{}
	if done, err := h.TryWritev([][]byte{make([]byte, 512)}, 0); done || err != nil {
		t.Errorf("TryWritev: got %t, %v, want it to be asked again", done, err)
	}
}

// counted counts the bytes that are read.
type counted struct {
	block.Device
	n int64
}

func (c *counted) Readv(bufs [][]byte, offset int64) error {
	c.n += block.Length(bufs)
	return c.Device.Readv(bufs, offset)
}

// TestMergeOwn: a merge into the layer below looks at what is the upper one's own only.
func TestMergeOwn(t *testing.T) {
	below := &counted{Device: &memory{data: pattern(1, mib)}}
	path := filepath.Join(t.TempDir(), "v")
	ok(t, cow.Create(path, mib))
	over := must(cow.Open(path, cow.Options{Base: below, Size: mib, BootID: "b0071d"}))(t)
	defer over.Close()
	ok(t, over.Writev([][]byte{pattern(2, 8192)}, 512<<10))
	want := with(pattern(1, mib), pattern(2, 8192), 512<<10)
	m := &mirror{over: over, below: below}
	a, b := make([]byte, mergeStep), make([]byte, mergeStep)
	for m.upTo < mib {
		must(m.copyStep(a, b))(t)
	}
	if below.n != 8192 {
		t.Errorf("%d bytes were read below, want 8192", below.n)
	}
	got := make([]byte, mib)
	if ok(t, below.Readv([][]byte{got}, 0)); !bytes.Equal(got, want) {
		t.Error("the layer below is not what the overlay was")
	}
}

// An always is a device that never has to wait.
type always struct{}

func (always) TryReadv([][]byte, int64) (bool, error)  { return true, nil }
func (always) TryWritev([][]byte, int64) (bool, error) { return true, nil }

// TestManyClones: what thousands of clones cost.
func TestManyClones(t *testing.T) {
	clones := 1000
	if os.Getenv("SOAK") != "" {
		clones = 5000
	}
	w := openAt(t, quickFolder(t), nil)
	w.image(t, "golden", pattern(1, 4*mib))
	before := usage(t, w.dir)
	began := time.Now()
	for i := range clones {
		w.create(t, block.CreateRequest{Name: fmt.Sprintf("clone%04d", i), Clone: "golden", Size: 16 << 30})
	}
	created := time.Since(began)
	each := (usage(t, w.dir) - before) / int64(clones)
	ok(t, w.Close())
	heap := heapInUse()
	began = time.Now()
	w = openAt(t, w.dir, nil)
	opened := time.Since(began)
	began = time.Now()
	list := w.List()
	listed := time.Since(began)
	closedHeap := (heapInUse() - heap) / int64(clones)
	var releases []func()
	for i := range 200 {
		_, release, err := w.Use(fmt.Sprintf("clone%04d", i))
		ok(t, err)
		releases = append(releases, release)
	}
	openHeap := (heapInUse()-heap)/200 - closedHeap*int64(clones)/200
	for _, release := range releases {
		release()
	}
	t.Logf("%d clones of 16 GiB: created in %v, %d bytes of disk each; opened in %v, listed in %v; %d bytes of memory each, in use %d more",
		clones, created, each, opened, listed, closedHeap, openHeap)
	runtime.KeepAlive(list)
	if len(list) != clones+1 || each > 32<<10 || closedHeap > 4<<10 || openHeap > 64<<10 || opened > 5*time.Second {
		t.Error("that is too much")
	}
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// usage is how much room a folder takes, in bytes.
func usage(t *testing.T, dir string) (n int64) {
	t.Helper()
	ok(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		err = errors.Join(err, unix.Lstat(path, &st))
		n += st.Blocks * 512
		return err
	}))
	return n
}

// TestConcurrent does everything at once; each worker checks what is its own.
func TestConcurrent(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.run(t)
	golden := pattern(1, 256<<10)
	w.image(t, "golden", golden)
	var wg sync.WaitGroup
	ctx := t.Context()
	for i := range 6 {
		wg.Go(func() {
			name := func(what string) string { return fmt.Sprintf("%s%d", what, i) }
			random := rand.New(rand.NewPCG(uint64(i), 2))
			check := func(what string, err error) {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			for round := range 8 {
				_, err := w.Create(ctx, block.CreateRequest{Name: name("c"), Clone: "golden"})
				check("clone", err)
				d, release, err := w.Use(name("c"))
				if err != nil {
					t.Error(err)
					return
				}
				p := pattern(uint64(round), 8192)
				at := random.IntN(60) * 4096
				want := with(golden, p, at)
				check("write", d.Writev([][]byte{p}, int64(at), false))
				_, err = w.Snapshot(ctx, name("c"), name("s"))
				check("snapshot", err)
				check("write", d.Writev([][]byte{make([]byte, 4096)}, 0, false))
				if i%2 == 0 {
					check("delete snapshot", w.Delete(ctx, name("s")))
				}
				var out bytes.Buffer
				check("export", w.Export(ctx, name("c"), "raw", &out, nil))
				if !bytes.Equal(out.Bytes(), with(want, make([]byte, 4096), 0)) {
					t.Errorf("%s was exported with other contents", name("c"))
				}
				_, err = w.Import(ctx, block.ImportRequest{Name: name("i")}, &out, nil)
				check("import", err)
				check("verify", w.Verify(ctx, name("i")))
				check("resize", w.Resize(ctx, name("c"), 512<<10))
				release()
				if i%2 == 1 {
					check("revert", w.Revert(ctx, name("c"), name("s")))
					d, release, err := w.Use(name("c"))
					check("use", err)
					got := make([]byte, d.Size())
					check("read", d.Readv([][]byte{got}, 0))
					release()
					if !bytes.Equal(got, want) {
						t.Errorf("%s was not reverted", name("c"))
					}
					check("delete snapshot", w.Delete(ctx, name("s")))
				}
				check("rename", w.Rename(ctx, name("i"), name("j")))
				check("delete", w.Delete(ctx, name("j")))
				check("delete", w.Delete(ctx, name("c")))
				w.List()
			}
		})
	}
	wg.Wait()
	eventually(t, "only the image was left", func() bool { return w.layerCount() == 1 })
	w.same(t, "golden", golden)
	ok(t, w.Verify(ctx, "golden"))
	clean(t, w)
}

// TestHammer does to one disk what can be done to it, all at the same time, and closes
// the store in the middle of it: it comes to an end, and reads are right till then.
func TestHammer(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.run(t)
	w.create(t, block.CreateRequest{Name: "d", Size: mib})
	var wg sync.WaitGroup
	var closing atomic.Bool
	fine := []error{ErrExists, ErrNotFound, ErrInUse, ErrRequest, ErrStandsOn}
	again := func(f func(n int) error) {
		wg.Go(func() {
			for n := 0; ; n++ {
				err := f(n)
				if closing.Load() && (errors.Is(err, ErrClosed) || errors.Is(err, block.ErrClosed)) {
					return
				}
				if err != nil && !slices.ContainsFunc(fine, func(e error) bool { return errors.Is(err, e) }) {
					t.Error(err)
					return
				}
			}
		})
	}
	ctx := t.Context()
	for i := range 3 {
		p := pattern(uint64(i), 4096+512)
		again(func(n int) error {
			d, release, err := w.Use("d")
			if err != nil {
				return err
			}
			defer release()
			got := make([]byte, len(p))
			at := int64(i)*(256<<10) + int64(n%50)*512
			if err := errors.Join(d.Writev([][]byte{p}, at, n%8 == 0), d.Readv([][]byte{got}, at)); err != nil {
				return err
			}
			if !bytes.Equal(got, p) {
				return fmt.Errorf("%d bytes at %d read differently", len(p), at)
			}
			return nil
		})
	}
	for i := range 2 {
		name := fmt.Sprintf("s%d", i)
		again(func(int) error { _, err := w.Snapshot(ctx, "d", name); return err })
		again(func(int) error { return w.Delete(ctx, name) })
		again(func(int) error {
			_, err := w.Create(ctx, block.CreateRequest{Name: "c" + name, Clone: name})
			return err
		})
		again(func(int) error { return w.Delete(ctx, "c"+name) })
		again(func(int) error { return w.Export(ctx, "d", "raw", io.Discard, nil) })
	}
	again(func(n int) error { return w.Resize(ctx, "d", mib+int64(min(n, 100))*4096) })
	again(func(int) error {
		w.List()
		_, err := w.Create(ctx, block.CreateRequest{Name: "x", Size: mib})
		return errors.Join(err, w.Delete(ctx, "x"))
	})
	time.Sleep(400 * time.Millisecond)
	closing.Store(true)
	ok(t, w.Close())
	wg.Wait()
	w = openAt(t, w.dir, nil)
	clean(t, w)
	for _, info := range w.List() {
		if info.Failed != "" {
			t.Errorf("%s has failed: %s", info.Name, info.Failed)
		}
	}
}

// TestReserve has the card be nearly full.
func TestReserve(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	var free atomic.Int64 // blocks of 4 KiB
	w.room.statfs = func(_ string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 4096, Blocks: 1 << 20, Bavail: uint64(free.Load())}
		return nil
	}
	free.Store(1 << 19)
	if got, size, err := w.Space(); got != 2<<30-64*mib || size != 4<<30 || err != nil {
		t.Errorf("got %d bytes of %d free, %v, want %d of %d", got, size, err, 2<<30-64*mib, int64(4<<30))
	}
	w.create(t, block.CreateRequest{Name: "d", Size: mib})
	w.write(t, "d", pattern(1, 4096), 0)
	d, release, err := w.Use("d")
	ok(t, err)
	defer release()
	free.Store(64 * mib / 4096)
	w.watchRoom()
	_, err = w.Create(t.Context(), block.CreateRequest{Name: "e", Size: mib})
	wantErr(t, err, block.ErrNoSpace)
	_, err = w.Snapshot(t.Context(), "d", "s")
	wantErr(t, err, block.ErrNoSpace)
	_, err = w.Import(t.Context(), block.ImportRequest{Name: "i"}, bytes.NewReader(pattern(1, mib)), nil)
	wantErr(t, err, block.ErrNoSpace)
	for range 3 {
		wantErr(t, d.Writev([][]byte{make([]byte, 4096)}, 8192, false), block.ErrNoSpace)
		done, err := d.TryWritev([][]byte{make([]byte, 4096)}, 8192)
		if done || err != nil {
			t.Errorf("TryWritev: got %t, %v, want it to be asked again", done, err)
		}
	}
	ok(t, d.Writev([][]byte{pattern(2, 4096)}, 0, true)) // there is room for that already
	ok(t, d.Discard(0, 4096))
	free.Store(1 << 19)
	w.watchRoom()
	ok(t, d.Writev([][]byte{pattern(3, 4096)}, 8192, false))
	want := []string{"volume.created", "volume.full", "volume.full"}
	if got := w.kinds(); !slices.Equal(got, want) {
		t.Errorf("got events %q, want %q", got, want)
	}
	if w.events[1].Severity == w.events[2].Severity {
		t.Errorf("both events have the severity %s", w.events[1].Severity)
	}
	if len(w.names()) != 1 || len(w.layerFiles(t)) != 1 {
		t.Errorf("there are %q with the layers %q, want d and its own", w.names(), w.layerFiles(t))
	}
	w.incomingEmpty(t)
}

// TestReserveClone: what only the base has is no room of a clone's own.
func TestReserveClone(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.image(t, "golden", pattern(1, mib))
	w.create(t, block.CreateRequest{Name: "c", Clone: "golden"})
	d, release, err := w.Use("c")
	ok(t, err)
	defer release()
	ok(t, d.Writev([][]byte{pattern(2, 8192)}, 4096, false))
	w.create(t, block.CreateRequest{Name: "nbd", Upstream: "nbd://u:secret@server/export"})
	far, releaseFar, err := w.Use("nbd")
	ok(t, err)
	defer releaseFar()
	w.room.statfs = func(_ string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 4096, Blocks: 1 << 20}
		return nil
	}
	w.watchRoom()
	for _, c := range []struct {
		offset, length int
		want           error
	}{{4096, 8192, nil}, {8192, 4096, nil}, {0, 4096, block.ErrNoSpace}, {8192, 8192, block.ErrNoSpace}} {
		if err := d.Writev([][]byte{pattern(3, c.length)}, int64(c.offset), false); !errors.Is(err, c.want) {
			t.Errorf("%d bytes at %d: got %v, want %v", c.length, c.offset, err, c.want)
		}
	}
	ok(t, far.WriteZeroes(0, 4096, false)) // which takes none of the card's
}

// TestReserveKept: disks look for room themselves, however fast they write.
func TestReserveKept(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.create(t, block.CreateRequest{Name: "d", Size: 256 * mib})
	d, release, err := w.Use("d")
	ok(t, err)
	defer release()
	const size = 2 << 30
	var written atomic.Int64
	w.room.statfs = func(_ string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 4096, Blocks: size / 4096, Bavail: uint64(max(0, 128*mib-written.Load()) / 4096)}
		return nil
	}
	p := pattern(1, mib)
	for at := int64(0); at < 256*mib; at += mib {
		if err = d.Writev([][]byte{p}, at, false); err != nil {
			break
		}
		written.Add(mib)
	}
	wantErr(t, err, block.ErrNoSpace)
	if left := 128*mib - written.Load(); left < reserveOf(size)-lookAfter {
		t.Errorf("%d MiB are left of the reserve of %d MiB", left>>20, reserveOf(size)>>20)
	}
}

// TestFullOnce: what ends besides blocks is told once too, and so is the room of an
// NBD server.
func TestFullOnce(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.create(t, block.CreateRequest{Name: "d", Size: mib})
	w.create(t, block.CreateRequest{Name: "nbd", Upstream: "nbd://u:secret@server/export"})
	w.mu.Lock()
	w.events = nil
	w.mu.Unlock()
	for _, remote := range []bool{false, true} {
		h := &head{store: w.Store, volume: w.volumes["d"], remote: remote}
		for range 3 {
			h.note(0, block.ErrNoSpace)
			w.watchRoom()
		}
	}
	if got, want := w.kinds(), []string{"volume.full", "volume.full"}; !slices.Equal(got, want) {
		t.Errorf("got events %q, want %q", got, want)
	}
}

// TestFullInMerge: a merge leaves the reserve alone.
func TestFullInMerge(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.image(t, "golden", pattern(1, mib))
	w.create(t, block.CreateRequest{Name: "c", Clone: "golden"})
	w.write(t, "c", pattern(2, mib), 0)
	must(w.Snapshot(t.Context(), "c", "s"))(t)
	ok(t, w.Delete(t.Context(), "s"))
	w.room.statfs = func(_ string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 4096, Blocks: 1 << 20}
		return nil
	}
	w.watchRoom()
	if retry := w.mergeAll(t.Context()); retry == 0 || w.layerCount() != 3 {
		t.Errorf("got a retry in %v and %d layers, want one and 3", retry, w.layerCount())
	}
	w.room.statfs = unix.Statfs
	w.watchRoom()
	w.mergeAll(t.Context())
	if got := w.layerCount(); got != 2 {
		t.Errorf("there are %d layers, want 2", got)
	}
	w.same(t, "c", pattern(2, mib))
}

// TestAway: the volumes on an NBD server that is not there have failed, and come back
// with it.
func TestAway(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.create(t, block.CreateRequest{Name: "image", Upstream: "nbd://u:secret@server/export", ReadOnly: true})
	w.create(t, block.CreateRequest{Name: "clone", Clone: "image"})
	ok(t, w.Close())
	w = openAt(t, w.dir, nil)
	var there atomic.Bool
	w.opt.Dial = func(ctx context.Context, uri string, report func(error)) (block.Device, error) {
		if !there.Load() {
			return nil, errors.New("connection refused")
		}
		return dialMemory(ctx, uri, report)
	}
	d, release, err := w.Use("clone")
	ok(t, err)
	defer release()
	p := make([]byte, 512)
	wantErr(t, d.Readv([][]byte{p}, 0), block.ErrGone)
	wantErr(t, d.Writev([][]byte{p}, 0, false), block.ErrGone)
	ok(t, d.Writev([][]byte{pattern(1, 4096)}, 0, true)) // that needs nothing of the base
	changed := w.Changed()
	for _, name := range []string{"image", "clone"} {
		if info := must(w.Get(name))(t); !strings.Contains(info.Failed, "connection refused") {
			t.Errorf("%s has failed with %q, want that its server cannot be reached", name, info.Failed)
		}
	}
	there.Store(true)
	<-changed
	ok(t, d.Readv([][]byte{p}, 8192))
	for _, info := range w.List() {
		if info.Failed != "" {
			t.Errorf("%s has failed: %s", info.Name, info.Failed)
		}
	}
	if got := w.kinds(); len(got) != 0 {
		t.Errorf("got events %q, want none: it was not away for long", got)
	}
}

// TestAwayClose: a store closes while a server is not there.
func TestAwayClose(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	w.create(t, block.CreateRequest{Name: "d", Upstream: "nbd://u:secret@server/export"})
	w.opt.Dial = func(context.Context, string, func(error)) (block.Device, error) {
		return nil, errors.New("connection refused")
	}
	d, release, err := w.Use("d")
	ok(t, err)
	if !d.CanDiscard() {
		t.Error("CanDiscard: got false before anybody knows")
	}
	release()
	if info := must(w.Get("d"))(t); info.Failed != "" {
		t.Errorf("d has failed: %s, but nobody asks its server", info.Failed)
	}
	_, release, err = w.Use("d")
	ok(t, err)
	ok(t, w.Close())
	release()
}

// TestBomb: a few bytes that unpack to more than the card has are refused.
func TestBomb(t *testing.T) {
	w := openAt(t, t.TempDir(), nil)
	w.room.statfs = func(_ string, st *unix.Statfs_t) error {
		*st = unix.Statfs_t{Bsize: 4096, Blocks: 2 * mib / 4096, Bavail: 2 * mib / 4096}
		return nil
	}
	for name, bomb := range map[string][]byte{
		"gzip": gzipped(t, make([]byte, 4*mib)), "zstd": zstdPacked(t, make([]byte, 4*mib)),
		"xz": xzPacked(t, make([]byte, 4*mib), xz.WriterConfig{}),
	} {
		_, err := w.Import(t.Context(), block.ImportRequest{Name: "bomb"}, bytes.NewReader(bomb), nil)
		if !errors.Is(err, ErrContent) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrContent)
		}
	}
	w.incomingEmpty(t)
	w.image(t, "zeros", make([]byte, 4*mib)) // these have come
}

// TestCancelledWait: who waits for another change can give up.
func TestCancelledWait(t *testing.T) {
	w := openAt(t, quickFolder(t), nil)
	ok(t, w.lock(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Create(ctx, block.CreateRequest{Name: "d", Size: mib})
	wantErr(t, err, context.Canceled)
	wantErr(t, w.Export(ctx, "d", "raw", io.Discard, nil), context.Canceled)
	w.unlock()
}
