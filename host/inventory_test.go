package host

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeMemory is an EEPROM that counts its writes and may fail in them, or be
// slow.
type fakeMemory struct {
	data   []byte
	writes int
	fail   error
	slow   time.Duration
}

func (m *fakeMemory) Size() int { return len(m.data) }

func (m *fakeMemory) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(m.slow)
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *fakeMemory) WriteAt(p []byte, off int64) (int, error) {
	time.Sleep(m.slow)
	m.writes++
	if m.fail != nil {
		return copy(m.data[off:], p[:len(p)/2]), m.fail
	}
	return copy(m.data[off:], p), nil
}

func TestInventory(t *testing.T) {
	for _, kept := range []bool{true, false} {
		inVirtualTime(t, func(t *testing.T, r *rig) {
			size := inventorySize
			if !kept {
				size = 256
				r.parts.FRU = &fakeMemory{data: bytes.Repeat([]byte{0xFF}, size)}
			}
			i := r.boot().Inventory
			if i.Size() != size || !i.Blank() {
				t.Fatalf("got %d bytes, blank %v; want %d, true", i.Size(), i.Blank(), size)
			}
			admin := Origin{Via: "test", User: "admin"}
			for at := range size / 8 {
				if err := i.WriteAt([]byte{1, 2, 3, 4, 5, 6, 7, byte(at)}, 8*at, admin); err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * ms)
			}
			got, err := i.Read()
			if err != nil || got[size-1] != byte(size/8-1) || i.Blank() || i.Changed() != uint64(size/8) {
				t.Errorf("got %x, %v; %d changes", got, err, i.Changed())
			}
			got[0]++ // a copy
			r.wantTold(0, "inventory.changed")
			if err := i.WriteAt([]byte{1, 2}, 0, admin); err != nil || i.Changed() != uint64(size/8) {
				t.Errorf("the same again: got %v, %d changes", err, i.Changed())
			}
			time.Sleep(time.Minute)
			if err := i.WriteAt([]byte{9}, size-1, admin); err != nil {
				t.Error(err)
			}
			if err := i.WriteAt([]byte{9}, 0, Origin{}); err != nil {
				t.Error(err)
			}
			r.wantTold(0, "inventory.changed", "inventory.changed", "inventory.changed")
			for _, off := range []int{-1, size - 1, size, size + 1} {
				if err := i.WriteAt([]byte{1, 2}, off, admin); !errors.Is(err, ErrInvalid) {
					t.Errorf("at %d: got %v, want %v", off, err, ErrInvalid)
				}
			}
			if err := i.WriteAt(nil, size, admin); err != nil {
				t.Errorf("nothing at the end: %v", err)
			}
			want, _ := i.Read()
			r.crash(false)
			if got, err := r.h.Inventory.Read(); err != nil || !slices.Equal(got, want) {
				t.Errorf("after a crash: got %x, %v", got, err)
			}
		})
	}
}

// Who looks waits for nobody who reads or writes the memory.
func TestInventoryCached(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		m := &fakeMemory{data: make([]byte, 8), slow: time.Minute}
		r.parts.FRU = m
		i := r.boot().Inventory
		look := func(when string, want []byte) {
			t.Helper()
			began := time.Now()
			if got := i.Cached(); !slices.Equal(got, want) || time.Since(began) != 0 {
				t.Errorf("%s: got %x after %v, want %x at once", when, got, time.Since(began), want)
			}
		}
		var busy sync.WaitGroup
		busy.Go(func() {
			if _, err := i.Read(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		look("as it is read", nil)
		busy.Wait()
		look("once it was read", make([]byte, 8))
		busy.Go(func() {
			if err := i.WriteAt([]byte{1}, 0, Origin{}); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		look("as it is written", make([]byte, 8))
		busy.Wait()
		look("once it was written", []byte{1, 0, 0, 0, 0, 0, 0, 0})
		m.fail = errors.New("no acknowledge")
		if err := i.WriteAt([]byte{2, 3}, 0, Origin{}); !errors.Is(err, m.fail) {
			t.Errorf("got %v, want %v", err, m.fail)
		}
		look("after a write that failed", []byte{2, 0, 0, 0, 0, 0, 0, 0})
	})
}

// A write that fails in its middle leaves what the memory says.
func TestInventoryFails(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		m := &fakeMemory{data: make([]byte, 8)}
		r.parts.FRU = m
		i := r.boot().Inventory
		m.fail = errors.New("no acknowledge")
		if err := i.WriteAt([]byte{1, 2, 3, 4}, 0, Origin{}); !errors.Is(err, m.fail) {
			t.Errorf("got %v, want %v", err, m.fail)
		}
		if got, err := i.Read(); err != nil || !slices.Equal(got, []byte{1, 2, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("got %x, %v", got, err)
		}
		if i.Changed() != 1 {
			t.Errorf("changes: got %d, want 1", i.Changed())
		}
		m.fail = nil
		if err := i.WriteAt([]byte{1, 2}, 0, Origin{}); err != nil || m.writes != 1 {
			t.Errorf("what is there already: got %v after %d writes", err, m.writes)
		}
	})
}

// TestInventoryEdit: changes of several at once are all there in the end, and only
// what differs is written.
func TestInventoryEdit(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, r *rig) {
		m := &fakeMemory{data: make([]byte, 64)}
		r.parts.FRU = m
		i := r.boot().Inventory
		var all sync.WaitGroup
		for at := range 8 {
			all.Go(func() {
				err := i.Edit(func(old []byte) ([]byte, error) {
					fresh := slices.Clone(old)
					fresh[at], fresh[63] = 1, fresh[63]+1
					return fresh, nil
				}, Origin{Via: "test"})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		want := append(bytes.Repeat([]byte{1}, 8), make([]byte, 56)...)
		want[63] = 8
		if got, err := i.Read(); err != nil || !bytes.Equal(got, want) || !bytes.Equal(m.data, want) || i.Changed() != 8 {
			t.Errorf("got % x, %v, after %d changes; want % x", got, err, i.Changed(), want)
		}
		no := errors.New("no")
		for _, tt := range []struct {
			change func([]byte) ([]byte, error)
			want   error
		}{
			{func(old []byte) ([]byte, error) { return old, nil }, nil},
			{func(old []byte) ([]byte, error) { return nil, no }, no},
			{func(old []byte) ([]byte, error) { return old[1:], nil }, ErrInvalid},
		} {
			if err := i.Edit(tt.change, Origin{}); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		}
		if m.writes != 8 {
			t.Errorf("%d writes, want 8", m.writes)
		}
		m.fail = no
		if err := i.Edit(func(old []byte) ([]byte, error) { return make([]byte, len(old)), nil }, Origin{}); !errors.Is(err, no) {
			t.Errorf("got %v, want %v", err, no)
		}
		if got, err := i.Read(); err != nil || !bytes.Equal(got, m.data) {
			t.Errorf("got % x, %v, want what the memory has now: % x", got, err, m.data)
		}
	})
}
