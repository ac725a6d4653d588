package iscsi

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(1 << 20)
		var a, b, c share
		quit := make(chan struct{})
		first := m.get(&a, 200<<10) // takes 256 KiB, a share
		if first == nil || len(first.b) != 256<<10 {
			t.Fatal("nothing for the first")
		}
		if m.get(&a, 1) != nil {
			t.Error("more than its share")
		}
		if p := m.promised(&a, 100); p == nil {
			t.Error("nothing for what was promised")
		} else {
			m.put(p)
		}
		second, third := m.get(&b, 256<<10), m.get(&c, 512<<10) // the first may be greater
		if second == nil || third == nil {
			t.Fatal("nothing for others")
		}
		if !m.tight.Load() {
			t.Error("a full memory is not tight")
		}
		var d share
		var order []string
		var mu sync.Mutex
		wait := func(name string, s *share, n int) {
			go func() {
				if got := m.wait(s, n, quit); got != nil {
					mu.Lock()
					order = append(order, name)
					mu.Unlock()
					defer m.put(got)
				}
			}()
			synctest.Wait()
		}
		wait("of a", &a, 4096) // beyond its share
		wait("of d", &d, 64<<10)
		if m.get(&d, 1) != nil {
			t.Error("past those that wait")
		}
		m.put(second)
		synctest.Wait()
		if len(order) != 1 || order[0] != "of d" {
			t.Errorf("got %q, want first what is within its share", order)
		}
		m.put(first)
		synctest.Wait()
		if len(order) != 2 {
			t.Errorf("got %q", order)
		}
		wait("never", &c, 1<<20)
		close(quit)
		m.put(third)
		synctest.Wait()
		if m.used != [kinds]int{} || len(m.queue) > 0 {
			t.Errorf("%v bytes are left, %d wait", m.used, len(m.queue))
		}
	})
}

// Buffers are used again, and all that there are stay within the limits whatever sizes
// are asked for; in the end none is left.
func TestMemoryReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1 << 20
		m := newMemory(limit)
		shares := make([]share, 4)
		// all takes what it can get of buffers of n bytes.
		all := func(n int) (got []*buffer) {
			t.Helper()
			for i := range shares {
				for b := m.get(&shares[i], n); b != nil; b = m.get(&shares[i], n) {
					got = append(got, b)
				}
				for b := m.promised(&shares[i], n); b != nil; b = m.promised(&shares[i], n) {
					got = append(got, b)
				}
			}
			if there := m.used[limited] + m.used[unasked] + m.kept; there > limit+limit/2 {
				t.Errorf("%d bytes with buffers of %d, want at most %d", there, n, limit+limit/2)
			}
			return got
		}
		for _, n := range []int{4 << 10, 256 << 10, 64 << 10, 4 << 10} {
			first := all(n)
			if len(first) == 0 {
				t.Fatalf("no buffers of %d bytes", n)
			}
			for _, b := range first {
				m.put(b)
			}
			second := all(n)
			for _, b := range second {
				if !slices.Contains(first, b) {
					t.Errorf("a new buffer of %d bytes although there are free ones", n)
				}
				m.put(b)
			}
		}
		b := m.get(&shares[0], 4<<10)
		for range 5 {
			time.Sleep(trimPause / 2)
			m.put(b)
			if again := m.get(&shares[0], 4<<10); again != b {
				t.Error("a buffer that is used now and then was not kept")
			}
		}
		synctest.Wait()
		if m.kept > 0 {
			t.Errorf("%d bytes are kept though nobody needs them", m.kept)
		}
		m.put(b)
		time.Sleep(2*trimPause + 1)
		synctest.Wait()
		if m.kept != 0 || m.trimming {
			t.Errorf("%d bytes are kept in the end, another trim: %t", m.kept, m.trimming)
		}
	})
}

func TestSized(t *testing.T) {
	for _, tt := range []struct{ n, class, length int }{
		{0, 0, 4096}, {1, 0, 4096}, {4096, 0, 4096}, {4097, 1, 8192}, {1 << 20, 8, 1 << 20}, {1<<20 + 1, 9, 2 << 20}, {8 << 20, 11, 8 << 20}, {8<<20 + 1, -1, 8<<20 + 1},
	} {
		if class, length := sized(tt.n); class != tt.class || length != tt.length {
			t.Errorf("%d bytes: class %d, %d bytes; want %d, %d", tt.n, class, length, tt.class, tt.length)
		}
	}
}
