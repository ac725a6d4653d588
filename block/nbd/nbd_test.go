package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/blocktest"
	server "github.com/nitrino/nitrino/internal/nbd"
)

// A store is a server's disk with a cache that a power cut empties.
type store struct {
	mu             sync.Mutex
	data, kept     []byte
	flushes        int
	err            error
	flushed, after int           // bytes written since the last flush, and most ever
	stall          chan struct{} // nothing is written until it is closed
}

// stalls has the store stall for a while.
func (s *store) stalls(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stall := make(chan struct{})
	s.stall = stall
	time.AfterFunc(d, func() { close(stall) })
}

func (s *store) wait() {
	s.mu.Lock()
	stall := s.stall
	s.mu.Unlock()
	if stall != nil {
		<-stall
	}
}

func newStore(size int64) *store { return &store{data: make([]byte, size), kept: make([]byte, size)} }

func (s *store) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.data))
}

func (s *store) ReadAt(p []byte, offset int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return copy(p, s.data[offset:]), nil
}

func (s *store) WriteAt(p []byte, offset int64) (int, error) {
	s.wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	s.flushed += len(p)
	s.after = max(s.after, s.flushed)
	return copy(s.data[offset:offset+int64(len(p))], p), nil
}

func (s *store) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.flushes++
	s.flushed = 0
	copy(s.kept, s.data)
	return nil
}

// cut takes the store's power away.
func (s *store) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(s.data, s.kept)
}

// holds tells whether what outlives a power cut is want from offset on.
func (s *store) holds(want []byte, offset int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Equal(s.kept[offset:][:len(want)], want)
}

// clearing is a store that can clear.
type clearing struct{ *store }

func (c clearing) Zero(offset, length int64, _ bool) error {
	_, err := c.WriteAt(make([]byte, length), offset)
	return err
}

// A site has a server that can be away.
type site struct {
	t testing.TB

	mu     sync.Mutex
	export *server.Export // nil: nobody answers
	serve  func(net.Conn) // instead
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func newSite(t testing.TB, e *server.Export) *site {
	s := &site{t: t}
	s.start(e)
	t.Cleanup(s.halt)
	return s
}

func (s *site) start(e *server.Export) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.export = e
	s.ctx, s.stop = context.WithCancel(context.Background())
}

// halt kills the server and waits for what it was doing.
func (s *site) halt() {
	s.mu.Lock()
	s.export, s.serve = nil, nil
	s.stop()
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *site) dial(context.Context, string, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.export == nil && s.serve == nil {
		return nil, errors.New("nobody there")
	}
	here, there := net.Pipe()
	if s.serve != nil {
		f := s.serve
		s.wg.Go(func() { f(there) })
		return here, nil
	}
	n, err := server.New(*s.export, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	ctx := s.ctx
	s.wg.Go(func() { _ = n.ServeConn(ctx, there) }) // it ends with an error when it is killed
	return here, nil
}

func (s *site) connect(o Options) *Client {
	s.t.Helper()
	o.Dial = s.dial
	c, err := Dial(context.Background(), "nbd://storage.example", o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.t.Errorf("Close: %v", err)
		}
	})
	return c
}

func TestConformance(t *testing.T) {
	for _, tt := range []struct {
		name    string
		block   int
		payload int64
		device  func(*store) server.Device
	}{
		{"plain", 1, maxPayload, func(s *store) server.Device { return s }},
		{"clearing", 512, maxPayload, func(s *store) server.Device { return clearing{s} }},
		{"small requests", 512, 12 << 10, func(s *store) server.Device { return clearing{s} }},
		{"blocks of 4096", 4096, maxPayload, func(s *store) server.Device { return clearing{s} }},
		{"blocks of 4096, plain", 4096, 16 << 10, func(s *store) server.Device { return s }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sites := make(map[block.Device]*site)
			dial := func(s *site, size int64) block.Device {
				c := s.connect(Options{})
				c.e.payload, c.size = tt.payload, size // the export may be larger
				sites[c] = s
				return c
			}
			blocktest.Run(t, blocktest.Options{
				New: func(t *testing.T, size int64) block.Device {
					whole := (size + int64(tt.block) - 1) &^ (int64(tt.block) - 1)
					return dial(newSite(t, &server.Export{Device: tt.device(newStore(whole)), BlockSize: tt.block}), size)
				},
				Reopen: func(t *testing.T, d block.Device) block.Device {
					if err := d.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
					return dial(sites[d], d.Size())
				},
			})
		})
	}
}

// load has writers check what they read, and that a flush is kept in s (nil: nobody can
// look). tick is called after each operation.
func load(t *testing.T, c *Client, s *store, rounds int, tick func()) {
	const span = 64 << 10
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), rand.Uint64()))
			model, from := make([]byte, span), int64(w)*span
			for i := range rounds {
				tick()
				at := random.Int64N(span/512) * 512
				n := min(span-at, 512*(1+random.Int64N(20)))
				var err error
				switch op := random.IntN(10); {
				case op < 6:
					for k := range model[at:][:n] {
						model[at+int64(k)] = byte(i + k/512)
					}
					err = c.Writev([][]byte{model[at:][:n/2], model[at+n/2:][:n-n/2]}, from+at)
				case op < 7:
					clear(model[at:][:n])
					err = c.Discard(from+at, n)
				case op < 8:
					err = c.Flush()
					if err == nil && s != nil && !s.holds(model, from) {
						t.Errorf("writer %d: round %d: a flush has not kept what was written", w, i)
						return
					}
				default:
					got := make([]byte, n)
					err = c.Readv([][]byte{got}, from+at)
					if err == nil && !bytes.Equal(got, model[at:][:n]) {
						t.Errorf("writer %d: round %d: %d bytes at %d are not what it wrote", w, i, n, from+at)
						return
					}
				}
				if err != nil {
					t.Errorf("writer %d: round %d: %v", w, i, err)
					return
				}
			}
			got := make([]byte, span)
			if err := c.Readv([][]byte{got}, from); err != nil || !bytes.Equal(got, model) {
				t.Errorf("writer %d: at the end: other data, error %v", w, err)
			}
		})
	}
	wg.Wait()
}

// reports is a list of what Options.Report was told.
type reports struct {
	mu  sync.Mutex
	all []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err)
}

// words has them as "down", "changed" and "up".
func (r *reports) words() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var words []string
	for _, err := range r.all {
		switch {
		case err == nil:
			words = append(words, "up")
		case errors.Is(err, ErrChanged):
			words = append(words, "changed")
		default:
			words = append(words, "down")
		}
	}
	return words
}

// A server that loses its power again and again, with all that was not flushed, loses
// nothing that its client's users would miss, however little the client may keep.
func TestPowerCuts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		budget *Budget
	}{
		{"a budget of its own", nil},
		{"room for a part of the writes", NewBudget(16 << 10)},
		{"no room", NewBudget(0)},
	} {
		t.Run(tt.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { powerCuts(t, tt.budget) }) })
	}
}

func powerCuts(t *testing.T, budget *Budget) {
	d := newStore(1 << 20)
	e := &server.Export{Device: clearing{d}}
	s := newSite(t, e)
	var told reports
	c := s.connect(Options{Report: told.add, Budget: budget})
	due := make(chan struct{}, 1)
	var killer sync.WaitGroup
	cuts := 0
	killer.Go(func() {
		for range due {
			s.halt()
			d.cut()
			cuts++
			s.start(e)
		}
	})
	var operations atomic.Int64
	load(t, c, d, 500, func() {
		if operations.Add(1)%200 == 0 {
			select {
			case due <- struct{}{}:
			default: // the last one is not over
			}
		}
	})
	close(due)
	killer.Wait()
	for i, got := range told.words() {
		if want := []string{"down", "up"}[i%2]; got != want {
			t.Errorf("report %d: got %s, want %s", i, got, want)
		}
	}
	t.Logf("%d cuts, %d reports", cuts, len(told.words()))
	if cuts < 10 {
		t.Errorf("%d power cuts", cuts)
	}
	if err := c.Flush(); err != nil {
		t.Error(err)
	}
	if n := held(c); n != 0 || budget != nil && used(budget) != 0 {
		t.Errorf("%d bytes are kept after a flush", n)
	}
}

// used is what a budget has given, bytes.
func used(b *Budget) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// held is what a client has of its budget, bytes.
func held(c *Client) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.journal.bytes
}

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &server.Export{Device: newStore(1 << 20)}
		s := newSite(t, e)
		var told reports
		c := s.connect(Options{Report: told.add, Patience: 20 * time.Second})
		b := [][]byte{[]byte(string(bytes.Repeat([]byte("x"), 512)))}
		ask := func(want error, after time.Duration) {
			t.Helper()
			began := time.Now()
			if err := c.Writev(b, 0); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if took := time.Since(began); took != after {
				t.Errorf("it took %v, want %v", took, after)
			}
		}
		ask(nil, 0)
		s.halt()
		ask(block.ErrGone, 20*time.Second)
		ask(block.ErrGone, 0)
		if err := c.Flush(); !errors.Is(err, block.ErrGone) {
			t.Errorf("Flush: got %v, want %v", err, block.ErrGone)
		}
		s.start(e)
		time.Sleep(2 * lastDelay)
		ask(nil, 0)
		s.halt()
		time.AfterFunc(10*time.Second, func() { s.start(e) })
		began := time.Now()
		if err := c.Flush(); err != nil || time.Since(began) < 10*time.Second {
			t.Errorf("Flush: got %v after %v", err, time.Since(began))
		}
		if got, want := told.words(), []string{"down", "up", "down", "up"}; !slices.Equal(got, want) {
			t.Errorf("reports: got %q, want %q", got, want)
		}
		// Close does not wait for a server that is away.
		s.halt()
		time.AfterFunc(time.Second, func() { _ = c.Close() }) // tested by what follows
		ask(block.ErrClosed, time.Second)
	})
}

// slowOnce is a store whose first write takes three minutes, while it does others.
type slowOnce struct {
	*store
	began atomic.Bool
}

func (o *slowOnce) WriteAt(p []byte, offset int64) (int, error) {
	if !o.began.Swap(true) {
		time.Sleep(3 * time.Minute)
	}
	return o.store.WriteAt(p, offset)
}

// A server that takes requests and is silent is waited for: an old write does not land
// over a later one. Who waits gives up with the connection alone.
func TestSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newStore(1 << 20)
		s := newSite(t, &server.Export{Device: &slowOnce{store: d}})
		var told reports
		c := s.connect(Options{Report: told.add, Patience: 20 * time.Second})
		defer c.Close()
		want := bytes.Repeat([]byte{7}, 4096)
		began := time.Now()
		for _, b := range []byte{1, 7} {
			if err := c.Writev([][]byte{bytes.Repeat([]byte{b}, 4096)}, 8192); err != nil {
				t.Errorf("Writev: %v", err)
			}
		}
		if took := time.Since(began); took != 3*time.Minute {
			t.Errorf("it took %v, want as long as the server did", took)
		}
		if err := c.Flush(); err != nil {
			t.Errorf("Flush: %v", err)
		}
		time.Sleep(10 * time.Minute) // with nothing under way silence is no loss
		got := make([]byte, len(want))
		if err := c.Readv([][]byte{got}, 8192); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d…, %v: an old write has landed over a later one", got[0], err)
		}
		if got, want := told.words(), []string{"down", "up"}; !slices.Equal(got, want) {
			t.Errorf("reports: got %q, want %q", got, want)
		}
		d.stalls(time.Hour)
		time.AfterFunc(time.Minute, s.halt)
		began = time.Now()
		if err := c.Writev([][]byte{want}, 8192); !errors.Is(err, block.ErrGone) || time.Since(began) != 80*time.Second {
			t.Errorf("Writev: got %v after %v, want %v", err, time.Since(began), block.ErrGone)
		}
	})
}

func TestCanDiscard(t *testing.T) {
	for flags, want := range map[uint16]bool{
		flagHasFlags: false, flagSendTrim: false, flagSendWriteZeroes: false, flagSendTrim | flagSendWriteZeroes: true,
	} {
		c := &Client{e: export{flags: flags}}
		if got := c.CanDiscard(); got != want {
			t.Errorf("flags %#x: got %t, want %t", flags, got, want)
		}
	}
}

func TestChanged(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    server.Export
	}{
		{"larger", server.Export{Device: clearing{newStore(2 << 20)}}},
		{"smaller", server.Export{Device: clearing{newStore(1 << 19)}}},
		{"read-only", server.Export{Device: clearing{newStore(1 << 20)}, ReadOnly: true}},
		{"cannot clear", server.Export{Device: newStore(1 << 20)}},
		{"larger blocks", server.Export{Device: clearing{newStore(1 << 20)}, BlockSize: 4096}},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &server.Export{Device: clearing{newStore(1 << 20)}}
			s := newSite(t, e)
			var told reports
			c := s.connect(Options{Report: told.add})
			if err := c.Writev([][]byte{make([]byte, 512)}, 0); err != nil {
				t.Fatal(err)
			}
			s.halt()
			s.start(&tt.e)
			if err := c.Flush(); !errors.Is(err, block.ErrGone) || !errors.Is(err, ErrChanged) {
				t.Errorf("%s: got %v, want %v", tt.name, err, ErrChanged)
			}
			s.halt()
			s.start(e)
			time.Sleep(2 * lastDelay)
			if err := c.Flush(); err != nil {
				t.Errorf("%s: after it is back: %v", tt.name, err)
			}
			if got, want := told.words(), []string{"down", "changed", "up"}; !slices.Equal(got, want) {
				t.Errorf("%s: reports: got %q, want %q", tt.name, got, want)
			}
		})
	}
}

// A disk that does not take again what it had is not used: a flush would lie.
func TestReplayRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newStore(1 << 20)
		e := &server.Export{Device: d}
		s := newSite(t, e)
		c := s.connect(Options{})
		want := bytes.Repeat([]byte{7}, 4096)
		if err := c.Writev([][]byte{want}, 8192); err != nil {
			t.Fatal(err)
		}
		s.halt()
		d.cut()
		d.err = errors.New("broken")
		s.start(e)
		if err := c.Flush(); !errors.Is(err, block.ErrGone) {
			t.Errorf("Flush: got %v, want %v", err, block.ErrGone)
		}
		d.mu.Lock()
		d.err = nil
		d.mu.Unlock()
		time.Sleep(2 * lastDelay)
		if err := c.Flush(); err != nil || !d.holds(want, 8192) {
			t.Errorf("Flush after it is mended: got %v, kept %t", err, d.holds(want, 8192))
		}
	})
}

// What is kept for a server that dies has a bound.
func TestJournal(t *testing.T) {
	d := newStore(1 << 20)
	s := newSite(t, &server.Export{Device: clearing{d}})
	c := s.connect(Options{})
	b := [][]byte{make([]byte, 512<<10)}
	for range 100 {
		if err := c.Writev(b, 0); err != nil {
			t.Fatal(err)
		}
		if c.journal.bytes > journalBytes {
			t.Fatalf("%d bytes are kept", c.journal.bytes)
		}
	}
	if d.flushes != 12 || d.after > journalBytes {
		t.Errorf("got %d flushes and %d bytes between two, want 12 and at most %d", d.flushes, d.after, journalBytes)
	}
	d.flushes = 0
	for range journalChanges + 10 {
		if err := c.Discard(512, 512); err != nil {
			t.Fatal(err)
		}
	}
	if d.flushes != 1 {
		t.Errorf("small changes: got %d flushes, want 1", d.flushes)
	}
	if err := c.Flush(); err != nil || len(c.journal.changes) != 0 || c.journal.bytes != 0 {
		t.Errorf("after a flush: %v, %d changes, %d bytes", err, len(c.journal.changes), c.journal.bytes)
	}
}

// Clients keep no more together than their budget; one that gets nothing of it
// flushes each write, until another one gives some back.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 64 << 10
		b := NewBudget(limit)
		var clients []*Client
		var stores []*store
		for range 4 {
			d := newStore(1 << 20)
			stores = append(stores, d)
			clients = append(clients, newSite(t, &server.Export{Device: clearing{d}}).connect(Options{Budget: b}))
		}
		data := [][]byte{bytes.Repeat([]byte{7}, 4096)}
		write := func(n int, offset int64) {
			t.Helper()
			if err := clients[n].Writev(data, offset); err != nil {
				t.Fatal(err)
			}
			if kept := held(clients[n]); used(b) > limit || kept > limit/2 {
				t.Fatalf("client %d keeps %d bytes, all %d", n, kept, used(b))
			}
		}
		flushes := func(want ...int) {
			t.Helper()
			for n, d := range stores {
				d.mu.Lock()
				got := d.flushes
				d.flushes = 0
				d.mu.Unlock()
				if got != want[n] {
					t.Errorf("the server of client %d flushed %d times, want %d", n, got, want[n])
				}
			}
		}
		for i := range int64(8) { // half of the budget each
			write(0, i*4096)
			write(1, i*4096)
		}
		flushes(0, 0, 0, 0)
		write(0, 0) // makes room by itself
		flushes(1, 0, 0, 0)
		for i := range int64(7) {
			write(2, i*4096)
		}
		flushes(0, 0, 0, 0)
		for i := range int64(3) { // nothing is left
			write(3, i*4096)
			if !stores[3].holds(data[0], i*4096) {
				t.Error("a write that is not kept was answered before it was flushed")
			}
		}
		flushes(0, 0, 0, 3)
		if err := clients[1].Close(); err != nil {
			t.Fatal(err)
		}
		write(3, 0)
		flushes(0, 0, 0, 0)
		time.Sleep(5 * settleTime / 2) // what is idle gives all back
		synctest.Wait()
		flushes(1, 0, 1, 1)
		if n := used(b); n != 0 {
			t.Errorf("%d bytes are kept after a while", n)
		}
	})
}

// A server that lies after a good handshake is left, asked again, and given up.
func TestLiar(t *testing.T) {
	for _, lie := range []string{
		"HTTP/1.1 400 Bad Request\r\n\r\n",
		"\x67\x44\x66\x98\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x00",
		"\x66\x8e\x33\xef\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xff",
		"",
	} {
		synctest.Test(t, func(t *testing.T) {
			honest := &server.Export{Device: newStore(1 << 20)}
			s := newSite(t, honest)
			n, err := server.New(*honest, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			c := s.connect(Options{})
			lying := func(conn net.Conn) { _ = n.ServeConn(t.Context(), &liar{Conn: conn, lie: lie}) }
			s.halt()
			s.start(nil)
			s.mu.Lock()
			s.serve = lying
			s.mu.Unlock()
			began := time.Now()
			if err := c.Readv([][]byte{make([]byte, 512)}, 0); !errors.Is(err, block.ErrGone) {
				t.Errorf("%.20q: got %v, want %v", lie, err, block.ErrGone)
			}
			if took := time.Since(began); took < 30*time.Second || took > time.Minute {
				t.Errorf("%.20q: given up after %v", lie, took)
			}
			s.halt()
			s.start(honest)
			time.Sleep(2 * lastDelay)
			if err := c.Readv([][]byte{make([]byte, 512)}, 0); err != nil {
				t.Errorf("%.20q: an honest server: %v", lie, err)
			}
		})
	}
}

// A liar replaces what a server answers after the handshake.
type liar struct {
	net.Conn
	lie  string
	lies atomic.Bool
}

func (l *liar) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n >= 4 && bytes.HasPrefix(p, []byte{0x25, 0x60, 0x95, 0x13}) { // a request
		l.lies.Store(true)
	}
	return n, err
}

func (l *liar) Write(p []byte) (int, error) {
	if !l.lies.Load() {
		return l.Conn.Write(p)
	}
	_, err := io.WriteString(l.Conn, l.lie)
	return len(p), errors.Join(err, l.Close())
}

func TestErrors(t *testing.T) {
	d := newStore(1 << 20)
	c := newSite(t, &server.Export{Device: d}).connect(Options{ReadOnly: true})
	if err := c.Writev([][]byte{make([]byte, 512)}, 0); !errors.Is(err, block.ErrReadOnly) {
		t.Errorf("read-only: got %v", err)
	}
	if err := c.Readv([][]byte{make([]byte, 1024)}, 1<<20-512); !errors.Is(err, block.ErrRange) {
		t.Errorf("outside: got %v", err)
	}
	if n, mapped, err := c.Extent(512); n != 1<<20-512 || !mapped || err != nil {
		t.Errorf("Extent: got %d, %t, %v", n, mapped, err)
	}
	c = newSite(t, &server.Export{Device: d, ReadOnly: true}).connect(Options{})
	if err := c.Discard(0, 512); !errors.Is(err, block.ErrReadOnly) || !c.ReadOnly() {
		t.Errorf("read-only server: got %v", err)
	}
	d.err = errors.New("broken")
	if err := c.Readv([][]byte{make([]byte, 512)}, 0); err == nil || errors.Is(err, block.ErrGone) {
		t.Errorf("broken: got %v", err)
	}
	if _, err := Dial(t.Context(), "nbd://a/b", Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no")
	}}); !errors.Is(err, block.ErrGone) {
		t.Errorf("no server: got %v", err)
	}
}

func TestURI(t *testing.T) {
	for _, tt := range []struct {
		uri  string
		want place
		bad  bool
	}{
		{"nbd://host", place{"host", "host:10809", "", false}, false},
		{"nbd://host:1/", place{"host", "host:1", "", false}, false},
		{"nbds://10.0.0.1/pool/disk%201", place{"10.0.0.1", "10.0.0.1:10809", "pool/disk 1", true}, false},
		{"nbd://[fe80::1]:99/x", place{"fe80::1", "[fe80::1]:99", "x", false}, false},
		{"http://host/x", place{}, true},
		{"nbd:///x", place{}, true},
		{"nbd:host", place{}, true},
		{"nbd://user:secret@host/x", place{}, true},
		{"nbd+unix:///x?socket=/s", place{}, true},
		{"nbds://host/x?tls-psk-file=/etc/shadow", place{}, true},
		{"nbd://ho st/\x00", place{}, true},
		{"", place{}, true},
		{"nbd://h/" + string(bytes.Repeat([]byte("x"), 4097)), place{}, true},
	} {
		got, err := parse(tt.uri)
		if got != tt.want || err != nil != tt.bad {
			t.Errorf("%.60s: got %+v, %v, want %+v, bad %t", tt.uri, got, err, tt.want, tt.bad)
		}
		if err := Check(tt.uri); err != nil != tt.bad || err != nil && bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("%.60s: Check: %v", tt.uri, err)
		}
	}
}

func BenchmarkDevice(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	n, err := server.New(server.Export{Device: clearing{newStore(64 << 20)}}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.Serve(ctx, l) }) // it ends with ctx's error
	defer wg.Wait()
	defer cancel()
	c, err := Dial(b.Context(), fmt.Sprintf("nbd://%s/", l.Addr()), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int64{4 << 10, 1 << 20} {
		for _, workers := range []int{1, 32} {
			for name, op := range map[string]func([][]byte, int64) error{"read": c.Readv, "write": c.Writev} {
				b.Run(fmt.Sprintf("%s/%d/%d", name, size, workers), func(b *testing.B) {
					b.ReportAllocs()
					b.SetBytes(size)
					var wg sync.WaitGroup
					for w := range workers {
						wg.Go(func() {
							bufs := [][]byte{make([]byte, size)}
							for i := w; i < b.N; i += workers {
								if err := op(bufs, int64(w)*size); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					wg.Wait()
				})
			}
		}
	}
}
