package fru

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nitrino/nitrino/host"
	format "github.com/nitrino/nitrino/internal/fru"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/command/commandtest"
)

// memory is an inventory in a slice. It fails with err where that is set.
type memory struct {
	mu      sync.Mutex
	data    []byte
	err     error
	changed uint64
	reads   int
	by      host.Origin
}

func (m *memory) Size() int { return len(m.data) }

func (m *memory) Read() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	return slices.Clone(m.data), m.err
}

func (m *memory) Cached() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil
	}
	return slices.Clone(m.data)
}

func (m *memory) WriteAt(p []byte, off int, from host.Origin) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed++
	m.by = from
	if m.err == nil {
		copy(m.data[off:], p)
	}
	return m.err
}

func (m *memory) Blank() bool {
	return !slices.ContainsFunc(m.data, func(b byte) bool { return b != 0xFF })
}

func (m *memory) Changed() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func blankMemory(size int) *memory { return &memory{data: bytes.Repeat([]byte{0xFF}, size)} }

func newFRU(m *memory) *FRU {
	return New(Options{
		Inventory: m, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Identity: host.Identity{Manufacturer: "Maker\n", Model: strings.Repeat("Köln ", 20), Serial: "€1"},
		UUID:     [16]byte{0: 0x11, 15: 0xFF},
	})
}

func TestFirst(t *testing.T) {
	m := blankMemory(2048)
	newFRU(m)
	inv, err := format.Decode(m.data)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"Maker", strings.Repeat("Köln ", 12) + "Köl", "€1", "", ""} {
		if got := inv.Board.Text(i); got != want {
			t.Errorf("board field %d is %q, want %q", i, got, want)
		}
	}
	for i := range format.ProductAssetTag {
		if got := inv.Product.Text(i); got != "" || len(inv.Product.Fields[i].Data) < 2 {
			t.Errorf("product field %d is %q in %d bytes", i, got, len(inv.Product.Fields[i].Data))
		}
	}
	if want := format.SystemUniqueID([16]byte{0: 0x11, 15: 0xFF}); len(inv.Records) != 1 || !bytes.Equal(inv.Records[0].Data, want.Data) {
		t.Errorf("records %+v", inv.Records)
	}
	before := bytes.Clone(m.data)
	newFRU(m)
	if m.changed != 1 || !bytes.Equal(m.data, before) {
		t.Error("an inventory with content was written")
	}

	small := blankMemory(64)
	newFRU(small)
	if small.changed != 0 {
		t.Error("a memory that is too small was written")
	}
}

func TestCommands(t *testing.T) {
	m := blankMemory(2048)
	x := newFRU(m)
	for _, tt := range []struct {
		name string
		cmd  byte
		data []byte
		code command.Code
		want []byte
	}{
		{"info", 0x10, []byte{0}, command.OK, []byte{0x00, 0x08, 0x00}},
		{"info of another", 0x10, []byte{1}, command.NotPresent, nil},
		{"info, short", 0x10, nil, command.BadLength, nil},
		{"header", 0x11, []byte{0, 0, 0, 2}, command.OK, []byte{2, 1, 0}},
		{"nothing", 0x11, []byte{0, 0, 0, 0}, command.OK, []byte{0}},
		{"end", 0x11, []byte{0, 0xFE, 0x07, 16}, command.OK, []byte{2, 0xFF, 0xFF}},
		{"behind the end", 0x11, []byte{0, 0x00, 0x08, 1}, command.OutOfRange, nil},
		{"too much", 0x11, []byte{0, 0, 0, 241}, command.CannotReturn, nil},
		{"of another", 0x11, []byte{7, 0, 0, 1}, command.NotPresent, nil},
		{"long", 0x11, []byte{0, 0, 0, 1, 0}, command.BadLength, nil},
		{"write", 0x12, []byte{0, 0xFE, 0x07, 0xAA, 0xBB}, command.OK, []byte{2}},
		{"read it", 0x11, []byte{0, 0xFD, 0x07, 3}, command.OK, []byte{3, 0xFF, 0xAA, 0xBB}},
		{"write over the end", 0x12, []byte{0, 0xFF, 0x07, 1, 2}, command.OutOfRange, nil},
		{"not at all", 0x11, []byte{0, 0xFF, 0x07, 1}, command.OK, []byte{1, 0xBB}},
		{"write nothing", 0x12, []byte{0, 0, 0}, command.BadLength, nil},
		{"write another", 0x12, []byte{9, 0, 0, 1}, command.NotPresent, nil},
	} {
		code, got := commandtest.Call(t, x.Commands(), command.Storage, tt.cmd, tt.data...)
		if code != tt.code || !bytes.Equal(got, tt.want) {
			t.Errorf("%s: got %v % x, want %v % x", tt.name, code, got, tt.code, tt.want)
		}
	}
	if m.by != commandtest.Origin() {
		t.Errorf("written by %v", m.by)
	}
}

func TestMemoryErrors(t *testing.T) {
	m := blankMemory(256)
	x := newFRU(m)
	for _, tt := range []struct {
		err         error
		read, write command.Code
	}{
		{host.ErrBusy, codeBusy, codeBusy},
		{fs.ErrPermission, codeBusy, codeProtected},
		{errors.ErrUnsupported, codeBusy, codeProtected},
		{io.ErrUnexpectedEOF, codeBusy, command.Unspecified},
		{nil, command.OK, command.OK},
	} {
		m.err = tt.err
		if code, _ := commandtest.Call(t, x.Commands(), command.Storage, 0x12, 0, 0, 0, 1); code != tt.write {
			t.Errorf("%v: write answers %v, want %v", tt.err, code, tt.write)
		}
		if code, _ := commandtest.Call(t, x.Commands(), command.Storage, 0x11, 0, 0, 0, 1); code != tt.read {
			t.Errorf("%v: read answers %v, want %v", tt.err, code, tt.read)
		}
	}
	m.err = io.ErrUnexpectedEOF
	newFRU(m)
}

// TestReadAgain: a write by somebody else is seen, and without one the memory
// is left alone.
func TestReadAgain(t *testing.T) {
	m := blankMemory(256)
	x := newFRU(m)
	reads := m.reads
	for range 3 {
		commandtest.Call(t, x.Commands(), command.Storage, 0x11, 0, 0, 0, 8)
	}
	if m.reads != reads {
		t.Errorf("read %d times more", m.reads-reads)
	}
	if err := m.WriteAt([]byte{0x77}, 255, host.Origin{}); err != nil {
		t.Fatal(err)
	}
	if code, got := commandtest.Call(t, x.Commands(), command.Storage, 0x11, 0, 255, 0, 1); code != command.OK || !bytes.Equal(got, []byte{1, 0x77}) {
		t.Errorf("got %v % x", code, got)
	}
}

// TestReadNeverWaits: a memory that failed is asked again by what may wait for
// it, not by Read FRU Data, which runs under the lock of all sessions.
func TestReadNeverWaits(t *testing.T) {
	m := blankMemory(256)
	m.err = io.ErrUnexpectedEOF
	x := newFRU(m)
	reads := m.reads
	for range 3 {
		if code, _ := commandtest.Call(t, x.Commands(), command.Storage, 0x11, 0, 0, 0, 8); code != codeBusy {
			t.Errorf("got %v, want %v", code, codeBusy)
		}
	}
	if m.reads != reads {
		t.Errorf("Read FRU Data asked the memory %d times", m.reads-reads)
	}
	for _, c := range x.Commands() {
		if c.Name != "Read FRU Data" && c.Conduct != command.Waits {
			t.Errorf("%s runs under the lock", c.Name)
		}
	}
	if code, got := commandtest.Call(t, x.Commands(), command.Storage, 0x10, 0); code != command.OK || !bytes.Equal(got, []byte{0, 1, 0}) || m.reads != reads+1 {
		t.Errorf("info of a memory that fails: got %v % x after %d looks", code, got, m.reads-reads)
	}
	m.err = nil
	commandtest.Call(t, x.Commands(), command.Storage, 0x10, 0)
	if code, got := commandtest.Call(t, x.Commands(), command.Storage, 0x11, 0, 0, 0, 1); code != command.OK || !bytes.Equal(got, []byte{1, 0xFF}) {
		t.Errorf("once it works again: got %v % x", code, got)
	}
}

func TestReadAllocates(t *testing.T) {
	x := newFRU(blankMemory(256))
	call := command.Call{Data: []byte{0, 0, 0, 16}, Reply: make([]byte, 0, 64)}
	if n := testing.AllocsPerRun(100, func() {
		call.Reply = call.Reply[:0]
		if code := x.read(&call); code != command.OK {
			t.Fatal(code)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzCommands(f *testing.F) {
	x := newFRU(blankMemory(1024))
	f.Add(uint8(0x12), []byte{0, 3, 0, 1})
	f.Fuzz(func(t *testing.T, cmd uint8, data []byte) {
		if code, reply := commandtest.Call(t, x.Commands(), command.Storage, 0x10+cmd%3, data...); len(reply) > 250 {
			t.Errorf("%v, %d bytes", code, len(reply))
		}
	})
}
