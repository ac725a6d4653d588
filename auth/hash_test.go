package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPHC(t *testing.T) {
	// From the test suite of the reference implementation (phc-winner-argon2,
	// test.c): m=2^8, t=2, p=1, "password", "somesalt".
	const reference = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	p, err := parsePHC(reference)
	if err != nil {
		t.Fatal(err)
	}
	h := standardHasher()
	h.later = (&tasks{}).after
	if !h.verify(p, "password") || h.verify(p, "passwore") {
		t.Error("the reference hash does not tell right from wrong")
	}
	made := h.make("x").String()
	if want := "$argon2id$v=19$m=19456,t=2,p=1$"; made[:len(want)] != want || len(made) != len(want)+22+1+43 {
		t.Errorf("got %s, want %s…", made, want)
	}
	for _, c := range []struct {
		in string
		ok bool
	}{
		{reference, true},
		{made, true},
		{"", false},
		{"$", false},
		{reference + "$", false},
		{reference + "\n", false},
		{reference + "=", false},
		{reference[1:], false},
		{"$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$t=2,m=256,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=256,t=2,p=1,x=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=0256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=+256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=65537,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=7,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=256,t=17,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=256,t=2,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=256,t=2,p=5$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR", false},
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHR$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false}, // stray bits
		{"$argon2id$v=19$m=256,t=2,p=1$c29t\nZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", false},
	} {
		p, err := parsePHC(c.in)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, errPHC) {
			t.Errorf("%q: got %v, want ok %v", c.in, err, c.ok)
		}
		if err == nil && p.String() != c.in {
			t.Errorf("%q became %q", c.in, p)
		}
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=00,t=,p=-1$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		if p.String() != s {
			t.Errorf("%q became %q", s, p)
		}
		if p.memory > maxMemory || p.passes > maxPasses || p.threads > maxThreads || p.memory < 8*uint32(p.threads) || p.passes < 1 || p.threads < 1 {
			t.Errorf("%q: costs out of bounds", s)
		}
	})
}

// TestHashMemory: a hash close behind another collects first; after a quiet
// second, once, the memory goes back.
func TestHashMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var did []string
		tasks := &tasks{}
		h := newHasher(testCost, func(cost, []byte, []byte, int) []byte { did = append(did, "hash"); return make([]byte, 32) })
		h.collect = func() { did = append(did, "collect") }
		h.release = func() { did = append(did, "release") }
		h.later = tasks.after
		step := func(wait time.Duration, want ...string) {
			t.Helper()
			did = nil
			h.make("x")
			time.Sleep(wait)
			synctest.Wait()
			if !slices.Equal(did, want) {
				t.Errorf("got %v, want %v", did, want)
			}
		}
		step(900*time.Millisecond, "hash")
		step(900*time.Millisecond, "collect", "hash")
		step(5*time.Second, "collect", "hash", "release")
		step(900*time.Millisecond, "hash")
		tasks.close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []string{"hash"}; !slices.Equal(did, want) {
			t.Errorf("after close: got %v, want %v", did, want)
		}
	})
}

func addr(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }

// TestGateFair: a source with many waiters takes turns with the others, and
// never more than one is inside.
func TestGateFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		if err := g.enter(t.Context(), addr(9)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var order []byte // guarded by the gate itself
		var inside atomic.Int32
		for _, source := range []byte{1, 1, 1, 1, 2, 2, 3} {
			wg.Go(func() {
				if err := g.enter(context.Background(), addr(source)); err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two inside")
				}
				order = append(order, source)
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				g.leave()
			})
			synctest.Wait()
		}
		g.leave()
		wg.Wait()
		if want := []byte{1, 2, 3, 1, 2, 1, 1}; !slices.Equal(order, want) {
			t.Errorf("got %v, want %v", order, want)
		}
		if g.busy || g.waiting != 0 || len(g.queues) != 0 || len(g.turns) != 0 {
			t.Errorf("left behind: %+v", g)
		}
	})
}

func TestGateBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		if err := g.enter(t.Context(), addr(0)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var busy, ended atomic.Int32
		join := func(source byte) {
			wg.Go(func() {
				switch err := g.enter(ctx, addr(source)); err {
				case ErrBusy:
					busy.Add(1)
				case context.Canceled:
					ended.Add(1)
				default:
					t.Errorf("got %v", err)
				}
			})
			synctest.Wait()
		}
		check := func(what string, want int32) {
			t.Helper()
			if got := busy.Load(); got != want {
				t.Errorf("%s: got %d turned away, want %d", what, got, want)
			}
		}
		for range maxWaitingPerSource {
			join(1)
		}
		check("a source's bound", 0)
		join(1)
		check("one more of that source", 1)
		for i := range maxWaiting - maxWaitingPerSource {
			join(byte(2 + i/2))
		}
		check("full", 1)
		join(200)
		check("a new source takes the place of the greediest's newest", 2)
		if got := len(g.queues[addr(1)]); got != maxWaitingPerSource-1 {
			t.Errorf("the greediest has %d, want %d", got, maxWaitingPerSource-1)
		}
		join(200)
		check("its second, too", 3)
		for g.queuesLonger(2) {
			join(byte(201 + busy.Load()%50))
		}
		before := busy.Load()
		n := len(g.queues[addr(2)])
		join(2)
		check("one who has as many as the greediest", before+1)
		if got := len(g.queues[addr(2)]); got != n {
			t.Errorf("source 2 has %d, want %d", got, n)
		}
		cancel()
		wg.Wait()
		if g.waiting != 0 || len(g.queues) != 0 || len(g.turns) != 0 || ended.Load() != maxWaiting {
			t.Errorf("%d ended; left behind: %+v", ended.Load(), g)
		}
		g.leave()
		if g.busy {
			t.Error("still busy")
		}
	})
}

func (g *gate) queuesLonger(n int) bool {
	for _, q := range g.queues {
		if len(q) > n {
			return true
		}
	}
	return false
}

// TestGateTurnAndEnd: who gives up in the very moment of the turn passes it on.
func TestGateTurnAndEnd(t *testing.T) {
	for range 200 {
		g := newGate()
		if err := g.enter(context.Background(), addr(0)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if g.enter(ctx, addr(1)) == nil {
				g.leave()
			}
		})
		wg.Go(cancel)
		wg.Go(g.leave)
		wg.Wait()
		if g.busy || g.waiting != 0 {
			t.Fatalf("the turn was lost: %+v", g)
		}
	}
}
