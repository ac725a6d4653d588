package host

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nitrino/nitrino/internal/store"
)

// Inventory is the memory with the FRU information of the host: who made it,
// its serial number. Its form is the front-ends' (IPMI Platform Management FRU
// Information Storage Definition).
type Inventory struct {
	mem     Memory
	events  *Events
	changed atomic.Uint64

	turn sync.Mutex // one who reads or writes mem at a time
	// last is when it was last written, and by whom.
	last time.Time
	by   Origin

	mu   sync.Mutex // never held over mem: who looks does not wait
	data []byte     // what mem has; nil: it was not read; written with turn held, too
}

const (
	// inventorySize is that of an inventory without a memory of its own.
	inventorySize = 2048
	// inventoryBurst is the longest pause between two writes of one burst.
	inventoryBurst = 10 * time.Second
	inventoryKey   = "inventory"
)

func newInventory(mem Memory, opt Options) *Inventory {
	if mem == nil {
		mem = storedMemory{opt.Store}
	}
	return &Inventory{mem: mem, events: opt.Events}
}

// Size is how many bytes there are.
func (i *Inventory) Size() int { return i.mem.Size() }

// Read returns a copy of all of them. It waits for the memory the first time,
// and after an error.
func (i *Inventory) Read() ([]byte, error) {
	if data := i.Cached(); data != nil {
		return data, nil
	}
	i.turn.Lock()
	defer i.turn.Unlock()
	data, err := i.load()
	return slices.Clone(data), err
}

// Cached is what Read would return, nil where it would wait for the memory. It
// never blocks.
func (i *Inventory) Cached() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.data)
}

// load reads the memory where that was not done yet, with i.turn held. What it
// returns must not be changed.
func (i *Inventory) load() ([]byte, error) {
	i.mu.Lock()
	data := i.data
	i.mu.Unlock()
	if data != nil {
		return data, nil
	}
	data = make([]byte, i.mem.Size())
	if n, err := i.mem.ReadAt(data, 0); n < len(data) { // io.EOF at the very end is no error
		return nil, fmt.Errorf("reading the inventory: %w", err)
	}
	i.keep(data)
	return data, nil
}

func (i *Inventory) keep(data []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.data = data
}

// WriteAt writes p to off; it is on the medium when WriteAt returns nil. It
// answers ErrInvalid for what is beyond Size.
func (i *Inventory) WriteAt(p []byte, off int, from Origin) error {
	if off < 0 || off > i.mem.Size() || len(p) > i.mem.Size()-off {
		return fmt.Errorf("%d bytes at %d of the inventory's %d: %w", len(p), off, i.mem.Size(), ErrInvalid)
	}
	i.turn.Lock()
	defer i.turn.Unlock()
	data, err := i.load()
	if err != nil || bytes.Equal(data[off:off+len(p)], p) {
		return err
	}
	return i.write(data, p, off, from)
}

// Edit makes of all the bytes what change makes of them, while nobody else writes;
// it is on the medium when Edit returns nil. change may keep old but not change
// it, and returns as many bytes, or an error, which Edit returns as it is. Only
// what differs is written, for the sake of the memory. Edit waits for the memory.
func (i *Inventory) Edit(change func(old []byte) ([]byte, error), from Origin) error {
	i.turn.Lock()
	defer i.turn.Unlock()
	old, err := i.load()
	if err != nil {
		return err
	}
	fresh, err := change(old)
	if err != nil {
		return err
	}
	if len(fresh) != len(old) {
		return fmt.Errorf("%d bytes for the inventory's %d: %w", len(fresh), len(old), ErrInvalid)
	}
	start, end := 0, len(old)
	for start < end && old[start] == fresh[start] {
		start++
	}
	for end > start && old[end-1] == fresh[end-1] {
		end--
	}
	if start == end {
		return nil
	}
	return i.write(old, fresh[start:end], start, from)
}

// write writes p to off of the memory, which has data, with i.turn held.
func (i *Inventory) write(data, p []byte, off int, from Origin) error {
	if _, err := i.mem.WriteAt(p, int64(off)); err != nil {
		i.keep(nil) // nobody knows what was written
		_, again := i.load()
		i.changed.Add(1) // after the data: who sees the count sees the bytes
		return fmt.Errorf("writing the inventory: %w", errors.Join(err, again))
	}
	data = slices.Clone(data)
	copy(data[off:], p)
	i.keep(data)
	i.changed.Add(1)
	now := time.Now()
	if i.last.IsZero() || now.Sub(i.last) > inventoryBurst || i.by != from {
		i.events.Add(Event{Kind: "inventory.changed", Origin: from, Message: "The inventory of the host was written."})
	}
	i.last, i.by = now, from
	return nil
}

// Blank says whether nobody has written it yet: every byte is 0, or every one
// FFh. It is false where it cannot be read. It waits as Read does.
func (i *Inventory) Blank() bool {
	data, err := i.Read()
	if err != nil || len(data) == 0 {
		return false
	}
	first := data[0]
	return (first == 0 || first == 0xFF) && bytes.Count(data, []byte{first}) == len(data)
}

// Changed counts the writes that changed, or may have changed, a byte.
func (i *Inventory) Changed() uint64 { return i.changed.Load() }

// storedMemory is a memory kept in the store.
type storedMemory struct {
	db *store.Store
}

func (m storedMemory) Size() int { return inventorySize }

func (m storedMemory) ReadAt(p []byte, off int64) (int, error) {
	data, err := m.load()
	if err != nil {
		return 0, err
	}
	return bytes.NewReader(data).ReadAt(p, off)
}

func (m storedMemory) WriteAt(p []byte, off int64) (int, error) {
	data, err := m.load()
	if err != nil {
		return 0, err
	}
	n := copy(data[off:], p)
	return n, m.db.Update(func(t store.Tx) error { return t.Put(hostBucket, []byte(inventoryKey), data) })
}

// load returns the bytes kept, zeros where there are none.
func (m storedMemory) load() ([]byte, error) {
	data := make([]byte, inventorySize)
	err := m.db.View(func(t store.Tx) error {
		copy(data, t.Get(hostBucket, []byte(inventoryKey)))
		return nil
	})
	return data, err
}
