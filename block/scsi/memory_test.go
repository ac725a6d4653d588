package scsi

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// A memory is a device that counts, fails and stalls as a test wants.
type memory struct {
	mu      sync.RWMutex
	data    []byte
	mapped  []bool // by sector
	flushes int
	fail    error // of everything
	// stall is what writes wait for, after they told at by stalled.
	stall, stalled chan struct{}
	plain          bool // nothing but reading and writing
	slow           bool // never at once
}

func newMemory(size int64) *memory {
	return &memory{data: make([]byte, size), mapped: make([]bool, size/block.SectorSize)}
}

func (m *memory) Size() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return int64(len(m.data))
}

func (m *memory) Readv(bufs [][]byte, offset int64) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.fail != nil {
		return m.fail
	}
	for _, b := range bufs {
		offset += int64(copy(b, m.data[offset:offset+int64(len(b))]))
	}
	return nil
}

func (m *memory) Writev(bufs [][]byte, offset int64) error {
	if m.stall != nil {
		m.stalled <- struct{}{}
		<-m.stall
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, b := range bufs {
		n := copy(m.data[offset:offset+int64(len(b))], b)
		m.set(offset, int64(n), true)
		offset += int64(n)
	}
	return nil
}

func (m *memory) set(offset, length int64, is bool) {
	for i := offset / block.SectorSize; i < (offset+length)/block.SectorSize; i++ {
		m.mapped[i] = is
	}
}

func (m *memory) TryReadv(bufs [][]byte, offset int64) (bool, error) {
	if m.slow {
		return false, nil
	}
	return true, m.Readv(bufs, offset)
}

func (m *memory) TryWritev(bufs [][]byte, offset int64) (bool, error) {
	if m.slow || m.stall != nil {
		return false, nil
	}
	return true, m.Writev(bufs, offset)
}

func (m *memory) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	return m.fail
}

func (m *memory) CanDiscard() bool { return !m.plain }

func (m *memory) Discard(offset, length int64) error {
	if m.plain {
		return fmt.Errorf("discard: %w", errors.ErrUnsupported)
	}
	return m.WriteZeroes(offset, length, false)
}

func (m *memory) WriteZeroes(offset, length int64, keep bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	clear(m.data[offset : offset+length])
	m.set(offset, length, keep)
	return nil
}

func (m *memory) Extent(offset int64) (int64, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	first := offset / block.SectorSize
	is := m.mapped[first]
	end := slices.Index(m.mapped[first:], !is)
	if end < 0 {
		end = len(m.mapped[first:])
	}
	return int64(end) * block.SectorSize, is, m.fail
}

func (m *memory) Close() error { return nil }

func (m *memory) Resize(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = append(m.data, make([]byte, size-int64(len(m.data)))...)
	m.mapped = append(m.mapped, make([]bool, size/block.SectorSize-int64(len(m.mapped)))...)
	return nil
}

// A rig is a unit as LUN 0 of a target, and what the tests need of it.
type rig struct {
	t      testing.TB
	memory *memory
	disk   *block.Disk
	unit   *Unit
	target *Target
}

const testBlocks = 4096

// newRig makes a disk of testBlocks blocks of 512 bytes; change may change the
// options.
func newRig(t testing.TB, id block.Identity, change func(*UnitOptions)) *rig {
	t.Helper()
	if id.BlockSize == 0 {
		id.BlockSize = 512
	}
	id.Name, id.PhysicalSize = "disk0", 4096
	if id.UUID == [16]byte{} {
		id.UUID = [16]byte{0x9a, 1, 2, 3, 4, 5, 0x46, 7, 0x88, 9, 10, 11, 12, 13, 14, 15}
	}
	b := &rig{t: t, memory: newMemory(int64(id.BlockSize) * testBlocks)}
	var err error
	if b.disk, err = block.NewDisk(id, b.memory); err != nil {
		t.Fatal(err)
	}
	o := UnitOptions{Disk: b.disk, Vendor: "nitrino", Product: "volume", Revision: "1", Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	if b.unit, err = NewUnit(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.unit.Close)
	b.target = NewTarget("iqn.2026-01.test:disk0", 1)
	b.target.SetUnits(map[uint16]*Unit{0: b.unit})
	return b
}

// connect makes a nexus that has seen its first unit attention.
func (b *rig) connect(initiator string) *Nexus {
	b.t.Helper()
	n := b.target.Connect(initiator+",i,0x000000000001", nil)
	if c := do(n, []byte{0}, nil); c.Status != StatusCheckCondition {
		b.t.Fatalf("the first command: got status %#x, want a unit attention", c.Status)
	}
	return n
}

// cdb is a CDB with zeros to 16 bytes.
func cdb(b ...byte) []byte { return append(b, make([]byte, max(0, 16-len(b)))...) }

// do has a command done as a transport does.
func do(n *Nexus, code, data []byte) *Command { return doLUN(n, 0, code, data) }

func doLUN(n *Nexus, lun uint64, code, data []byte) *Command {
	c := &Command{LUN: lun, CDB: cdb(code...), Attribute: Simple}
	carry(n, c, data)
	return c
}

func carry(n *Nexus, c *Command, data []byte) {
	if !n.Begin(c) {
		finish(n, c, data)
	}
	answered := c.Data
	n.End(c)
	c.Data = answered
}

// finish carries a command out that Begin left to do. What it answered with stays in
// its Data.
func finish(n *Nexus, c *Command, data []byte) {
	switch {
	case c.In > 0:
		c.Data = make([]byte, c.In)
	case c.Out > 0:
		c.Data = data[:min(len(data), c.Out)]
	}
	if !n.Try(c) {
		n.Execute(c)
	}
	if c.In > 0 {
		c.Data = c.Data[:c.N]
	}
}

// sense is key, code and qualifier of a command's sense data.
func sense(c *Command) (key byte, code uint16) {
	switch {
	case len(c.Sense) == 0:
		return 0, 0
	case c.Sense[0] == 0x72:
		return c.Sense[1], uint16(c.Sense[2])<<8 | uint16(c.Sense[3])
	}
	return c.Sense[2], uint16(c.Sense[12])<<8 | uint16(c.Sense[13])
}

// outcome is a command's answer in a word: good, conflict, aborted, or key/code.
func outcome(c *Command) string {
	switch c.Status {
	case StatusGood:
		return "good"
	case StatusReservationConflict:
		return "conflict"
	case StatusTaskAborted:
		return "aborted"
	case StatusCheckCondition:
		key, code := sense(c)
		return fmt.Sprintf("%x/%04x", key, code)
	}
	return fmt.Sprintf("status %#x", c.Status)
}

func expect(t testing.TB, what string, c *Command, want string) {
	t.Helper()
	if got := outcome(c); got != want {
		t.Errorf("%s: got %s (sense %x), want %s", what, got, c.Sense, want)
	}
}
