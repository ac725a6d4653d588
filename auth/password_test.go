package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSameAnswerSameWork: whatever is wrong, the error is the same value and
// the work one hash.
func TestSameAnswerSameWork(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("off", Operator)
	b.create("locked", Operator)
	b.create("cached", Operator)
	if err := b.Create(User{Name: "keyonly", Role: Operator, Enabled: true}, "", boss); err != nil {
		t.Fatal(err)
	}
	if err := b.SetEnabled("off", false, boss); err != nil {
		t.Fatal(err)
	}
	lockedOut, unknownOut, usual := addr(1), addr(2), addr(3)
	b.fail("locked", lockedOut, 5)
	b.fail("nobody", unknownOut, 5)
	b.want("cached", usual, good, nil)
	b.fail("cached", usual, 5)
	for _, c := range []struct {
		what, name string
		from       netip.Addr
		password   string
		want       error
		hashes     int
	}{
		{"wrong password", "root", here, bad, ErrDenied, 1},
		{"empty password", "root", here, "", ErrDenied, 1},
		{"endless password", "root", addr(10), strings.Repeat("x", 1<<20), ErrDenied, 1},
		{"unknown user", "nobody", addr(11), good, ErrDenied, 1},
		{"no name", "", addr(11), good, ErrDenied, 1},
		{"no possible name", strings.Repeat("x", 1<<20), addr(11), good, ErrDenied, 1},
		{"disabled", "off", addr(12), good, ErrDenied, 1},
		{"no password set", "keyonly", addr(12), "", ErrDenied, 1},
		{"locked source, right password", "locked", lockedOut, good, ErrDenied, 1},
		{"locked source, wrong password", "locked", lockedOut, bad, ErrDenied, 1},
		{"locked source, other user", "root", lockedOut, good, ErrDenied, 1},
		{"locked source, unknown user", "nobody", unknownOut, good, ErrDenied, 1},
		{"locked usual place, password in the cache", "cached", usual, good, ErrDenied, 1},
		{"right", "root", here, good, nil, 1},
		{"right, in the cache", "root", here, good, nil, 0},
		{"right, in the cache, elsewhere", "root", elsewhere, good, nil, 0},
		{"wrong, another in the cache", "root", here, bad, ErrDenied, 1},
		{"the other user of the locked source, elsewhere", "locked", elsewhere, good, nil, 1},
	} {
		hashes, err := b.try(c.name, c.from, c.password)
		if err != c.want || hashes != c.hashes {
			t.Errorf("%s: got %v with %d hashes, want %v with %d", c.what, err, hashes, c.want, c.hashes)
		}
	}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.create("root", Administrator)
		b.create("bob", Administrator)
		hashes := func(what string, password string, wantErr error, want int) {
			t.Helper()
			if n, err := b.try("bob", here, password); err != wantErr || n != want {
				t.Errorf("%s: got %v with %d hashes, want %v with %d", what, err, n, wantErr, want)
			}
		}
		hashes("first", good, nil, 1)
		for range 3 {
			time.Sleep(cacheFor/4 - time.Second)
			hashes("cached", good, nil, 0)
		}
		time.Sleep(cacheFor/4 + 4*time.Second)
		hashes("the end is fixed", good, nil, 1)

		for what, change := range map[string]func() error{
			"role": func() error {
				return errors.Join(b.SetRole("bob", Operator, boss), b.SetRole("bob", Administrator, boss))
			},
			"state": func() error {
				return errors.Join(b.SetEnabled("bob", false, boss), b.SetEnabled("bob", true, boss))
			},
		} {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			hashes("after a change of "+what, good, nil, 1)
			hashes("again", good, nil, 0)
		}
		if err := b.SetIPMISecret("bob", "ipmi secret", boss); err != nil {
			t.Fatal(err)
		}
		hashes("the IPMI secret is not the password", good, nil, 0)
		if err := b.SetPassword("bob", "a new password", boss); err != nil {
			t.Fatal(err)
		}
		hashes("old password", good, ErrDenied, 1)
		hashes("new password", "a new password", nil, 1)
		if err := b.Delete("bob", boss); err != nil {
			t.Fatal(err)
		}
		hashes("deleted", "a new password", ErrDenied, 1)
		b.create("bob", ReadOnly)
		hashes("the deleted one's password", "a new password", ErrDenied, 1)
		if got := len(b.cache.entries); got != 0 {
			t.Errorf("the cache has %d entries, want 0", got)
		}
	})
}

// TestTogether: requests that come at once need one hash between them.
func TestTogether(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	start := b.hashes.Load()
	enter := make(chan struct{})
	compute := b.hasher.compute
	b.hasher.compute = func(c cost, password, salt []byte, n int) []byte { <-enter; return compute(c, password, salt, n) }
	var wg sync.WaitGroup
	for range maxWaitingPerSource {
		wg.Go(func() { b.want("root", here, good, nil) })
	}
	close(enter)
	wg.Wait()
	if got := b.hashes.Load() - start; got != 1 {
		t.Errorf("got %d hashes, want 1", got)
	}
}

// TestChangeDuringHash: what was verified must still hold when the hash is
// done.
func TestChangeDuringHash(t *testing.T) {
	for what, change := range map[string]func(b *bench) error{
		"disabled": func(b *bench) error { return b.SetEnabled("bob", false, boss) },
		"deleted":  func(b *bench) error { return b.Delete("bob", boss) },
	} {
		b := newBench(t)
		b.create("root", Administrator)
		b.create("bob", Operator)
		compute := b.hasher.compute
		b.hasher.compute = func(c cost, password, salt []byte, n int) []byte {
			if err := change(b); err != nil {
				t.Error(err)
			}
			return compute(c, password, salt, n)
		}
		if n, err := b.try("bob", here, good); err != ErrDenied || n != 1 {
			t.Errorf("%s: got %v with %d hashes, want %v with 1", what, err, n, ErrDenied)
		}
	}
}

// TestWait: a wait that ends is no failure, and a full house tells nothing.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.create("root", Administrator)
		b.kinds()
		if err := b.gate.enter(t.Context(), addr(0)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var errs []error
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range maxWaitingPerSource + 3 {
			wg.Go(func() {
				_, err := b.Password(ctx, Attempt{Via: "ssh", Source: here, Name: "root"}, bad)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
		wg.Wait()
		b.gate.leave()
		want := slices.Concat(slices.Repeat([]error{ErrBusy}, 3), slices.Repeat([]error{context.DeadlineExceeded}, maxWaitingPerSource))
		if !slices.Equal(errs, want) {
			t.Errorf("got %v, want %v", errs, want)
		}
		if got := b.kinds(); got != nil {
			t.Errorf("got reports %v, want none", got)
		}
		b.want("root", here, good, nil)
	})
}
