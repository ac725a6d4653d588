package scsi

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/block"
)

// A flushing device counts the writes that a Flush has made durable; meanwhile, if
// not nil, is called once in the middle of one.
type flushing struct {
	*memory
	meanwhile       func()
	writes, durable int
}

func (d *flushing) Writev(bufs [][]byte, offset int64) error {
	err := d.memory.Writev(bufs, offset)
	d.writes++
	return err
}

func (d *flushing) TryWritev(bufs [][]byte, offset int64) (bool, error) {
	return true, d.Writev(bufs, offset)
}

func (d *flushing) Flush() error {
	d.durable = d.writes
	if f := d.meanwhile; f != nil {
		d.meanwhile = nil
		f()
	}
	return nil
}

// TestCacheOff: once MODE SELECT has turned the write cache off, all that was
// answered outlives a loss of power; also what began before and ends after it.
func TestCacheOff(t *testing.T) {
	d := &flushing{memory: newMemory(512 * testBlocks)}
	disk, err := block.NewDisk(block.Identity{Name: "d", BlockSize: 512, PhysicalSize: 4096}, d)
	if err != nil {
		t.Fatal(err)
	}
	b := newRig(t, block.Identity{}, func(o *UnitOptions) { o.Disk = disk })
	n, o := b.connect("iqn.a"), b.connect("iqn.b")
	d.meanwhile = func() { expect(t, "WRITE", do(o, code10(0x2a, 0, 0, 1), blocks(1, 1)), "good") }
	early := []*Command{
		{CDB: cdb(code10(0x2a, 0, 8, 1)...), Attribute: Simple},  // WRITE(10)
		{CDB: cdb(code16(0x8b, 0, 16, 1)...), Attribute: Simple}, // ORWRITE(16)
		{CDB: cdb(code10(0x41, 0, 24, 1)...), Attribute: Simple}, // WRITE SAME(10)
	}
	for _, c := range early {
		if o.Begin(c) {
			t.Fatal(outcome(c))
		}
	}
	page := append([]byte{0, 0, 0, 0}, b.unit.page(pageCaching, 0, current)...)
	page[6] &^= bitWCE
	expect(t, "MODE SELECT", do(n, []byte{0x15, 0x10, 0, 0, byte(len(page))}, page), "good")
	if d.writes != 1 || d.durable != d.writes {
		t.Errorf("of %d writes that were answered %d are safe", d.writes, d.durable)
	}
	for _, c := range early {
		finish(o, c, blocks(1, 2))
		o.End(c)
		expect(t, "a write that began before", c, "good")
		if d.durable != d.writes {
			t.Errorf("%#x: of %d writes that were answered %d are safe", c.CDB[0], d.writes, d.durable)
		}
	}
}

// TestVerifyMemory: commands with memory of their own do not multiply it.
func TestVerifyMemory(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n := b.connect("iqn.a")
	b.memory.mu.Lock() // reads wait
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for range 128 {
		c := &Command{CDB: cdb(0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0), Attribute: Simple}
		if n.Begin(c) {
			t.Fatalf("%#x % x", c.Status, c.Sense)
		}
		all.Go(func() { n.Execute(c); n.End(c) })
	}
	time.Sleep(100 * time.Millisecond)
	runtime.ReadMemStats(&after)
	b.memory.mu.Unlock()
	all.Wait()
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 8<<20 {
		t.Errorf("128 VERIFYs take %d MiB", got>>20)
	}
}

// TestChunkAborted aborts a command that waits for the memory of others.
func TestChunkAborted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, block.Identity{}, nil)
		n := b.connect("iqn.a")
		for range maxChunks {
			b.unit.chunks <- struct{}{}
		}
		c := &Command{CDB: cdb(0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0), Attribute: Simple}
		if n.Begin(c) {
			t.Fatal(outcome(c))
		}
		go func() { n.Execute(c); n.End(c) }()
		synctest.Wait()
		<-n.Abort(c)
		for range maxChunks {
			<-b.unit.chunks
		}
	})
}

// TestSanitized: nothing lands of writes that began before SANITIZE, neither those
// that wait for their data nor those that are in the storage.
func TestSanitized(t *testing.T) {
	b := newRig(t, block.Identity{}, nil)
	n, o := b.connect("iqn.a"), b.connect("iqn.b")
	var waiting []*Command
	for _, code := range [][]byte{code10(0x2a, 0, 0, 1), code16(0x8b, 0, 0, 1), code10(0x41, 0, 0, 1), code10(0x28, 0, 0, 1)} {
		c := &Command{CDB: cdb(code...), Attribute: Simple}
		if n.Begin(c) {
			t.Fatal(outcome(c))
		}
		waiting = append(waiting, c)
	}
	under := begin(t, n, Simple, 3)
	b.memory.stall, b.memory.stalled = make(chan struct{}), make(chan struct{}, 1)
	go func() { finish(n, under, blocks(1, 7)); n.End(under) }()
	<-b.memory.stalled
	erased := make(chan *Command)
	go func() { erased <- do(o, []byte{0x48, 2}, nil) }()
	for b.unit.erasures.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	finish(n, waiting[0], blocks(1, 7)) // at once: it does not wait for either
	expect(t, "a write from before, meanwhile", waiting[0], "2/041b")
	select {
	case <-erased:
		t.Error("SANITIZE has not waited for a write")
	default:
	}
	close(b.memory.stall)
	expect(t, "SANITIZE", <-erased, "good")
	for _, c := range waiting[1:] {
		finish(n, c, blocks(1, 7))
		expect(t, "a command from before", c, "2/041b")
	}
	for _, c := range waiting {
		n.End(c)
	}
	if !bytes.Equal(b.memory.data, make([]byte, len(b.memory.data))) {
		t.Error("something has landed")
	}
	b.memory.stall = nil
	expect(t, "a write after it", do(n, code10(0x2a, 0, 0, 1), blocks(1, 1)), "good")
}
