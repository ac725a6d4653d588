//go:build e2e

package test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/raw"
)

// A gate is a device that can stand still, or be slow. Unlike what it stands before
// it is no block.Prompt: all has to wait for it.
type gate struct {
	block.Device

	mu     sync.Mutex
	delay  time.Duration // of each call
	shut   chan struct{} // closed when the gate opens; nil while it is open
	inside int           // calls that wait at it
	landed [][]byte      // the first block of each write that was done, in their order
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut = nil
}

// slow has each call take so long.
func (g *gate) slow(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay = d
}

func (g *gate) pass() {
	g.mu.Lock()
	shut, delay := g.shut, g.delay
	g.inside++
	g.mu.Unlock()
	time.Sleep(delay)
	if shut != nil {
		<-shut
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}

func (g *gate) done() [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.landed[:len(g.landed):len(g.landed)]
}

func (g *gate) Readv(bufs [][]byte, offset int64) error {
	g.pass()
	return g.Device.Readv(bufs, offset)
}

func (g *gate) Writev(bufs [][]byte, offset int64) error {
	g.pass()
	err := g.Device.Writev(bufs, offset)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.landed = append(g.landed, bytes.Clone(bytes.Join(bufs, nil)[:blockSize]))
	return err
}

// exportGate is a target whose disk has a gate.
func exportGate(t *testing.T) (*exported, *gate) {
	t.Helper()
	_, d := rawFile(t, 16<<20)
	g := &gate{Device: d}
	return export(t, block.Target{}, newDisk(t, g, false)), g
}

// open logs in, and has no unit attention pending.
func openSession(t *testing.T, p portal, o loginOptions) *initiator {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	i, err := login(ctx, p, o)
	if err != nil {
		t.Fatalf("login: %v", err)
	}
	t.Cleanup(i.close)
	if _, err := retry(func() ([]byte, error) { return nil, i.ready(ctx) }); err != nil {
		t.Fatalf("TEST UNIT READY: %v", err)
	}
	return i
}

// ready is TEST UNIT READY.
func (i *initiator) ready(ctx context.Context) error {
	t, err := i.command(make([]byte, 6), nil, 0)
	_, err = i.scsi(ctx, t, err)
	return err
}

// within has a context that ends soon.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func (t *task) answered() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// TestISCSIStall: while the storage stands still the target answers all that needs
// none; what was aborted is not written once that was said to be complete.
func TestISCSIStall(t *testing.T) {
	for _, c := range []struct {
		name     string
		function byte
	}{{"abort task", abortTask}, {"LUN reset", lunReset}} {
		t.Run(c.name, func(t *testing.T) {
			e, g := exportGate(t)
			a, b := openSession(t, e.portal, loginOptions{isid: 1}), openSession(t, e.portal, loginOptions{isid: 2})
			g.close()
			write, err := a.command(rw16(0x8a, 0, blockSize, false), bytes.Repeat([]byte{1}, blockSize), 0)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the write at the gate", 10*time.Second, func() bool { return g.waiting() == 1 })
			for _, i := range []*initiator{a, b} {
				if err := i.ping(within(t, time.Second)); err != nil {
					t.Errorf("NOP-Out during a stall: %v", err)
				}
				if err := i.ready(within(t, time.Second)); err != nil {
					t.Errorf("TEST UNIT READY during a stall: %v", err)
				}
			}
			function, err := a.manage(c.function, write)
			if err != nil {
				t.Fatal(err)
			}
			opened := make(chan struct{})
			go func() {
				time.Sleep(time.Second)
				g.open()
				close(opened)
			}()
			if err := a.wait(within(t, 10*time.Second), function); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			before := len(g.done())
			if function.header[2] != 0 {
				t.Errorf("%s is answered with %d, want 0", c.name, function.header[2])
			}
			<-opened
			time.Sleep(300 * time.Millisecond)
			if after := len(g.done()); after != before {
				t.Errorf("%d writes landed after the function was complete", after-before)
			}
			if write.answered() {
				t.Error("the aborted command was answered")
			}
			if c.function == lunReset {
				// SAM-5 section 5.14: BUS DEVICE RESET FUNCTION OCCURRED, to all.
				var told *scsiError
				if err := b.ready(within(t, time.Second)); !errors.As(err, &told) || told.key != 6 || told.code>>8 != 0x29 {
					t.Errorf("after the reset the other session is told %v, want 6/29xx", err)
				}
			}
			if err := b.writeAt(within(t, 5*time.Second), 0, bytes.Repeat([]byte{2}, blockSize), true); err != nil {
				t.Errorf("a write afterwards: %v", err)
			}
			if err := a.ping(within(t, time.Second)); err != nil {
				t.Errorf("the session afterwards: %v", err)
			}
		})
	}
}

// TestISCSIReinstatement: the second login of an initiator port ends its first
// session, and nothing of that is written any more once it is answered.
func TestISCSIReinstatement(t *testing.T) {
	e, g := exportGate(t)
	first := openSession(t, e.portal, loginOptions{isid: 1})
	g.close()
	old, now := bytes.Repeat([]byte{1}, blockSize), bytes.Repeat([]byte{2}, blockSize)
	for range 8 {
		if _, err := first.command(rw16(0x8a, 0, blockSize, false), old, 0); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a write at the gate", 10*time.Second, func() bool { return g.waiting() > 0 })
	go func() {
		time.Sleep(time.Second)
		g.open()
	}()
	second := openSession(t, e.portal, loginOptions{isid: 1})
	before := len(g.done())
	if err := second.writeAt(within(t, 5*time.Second), 0, now, true); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if late := g.done()[before:]; len(late) != 1 || !bytes.Equal(late[0], now) {
		t.Errorf("after the new login %d writes landed, want 1, the new session's", len(late))
	}
	if got, err := second.readAt(within(t, 5*time.Second), 0, blockSize); err != nil || !bytes.Equal(got, now) {
		t.Errorf("read % x, %v; want % x", got[:min(4, len(got))], err, now[:4])
	}
	if n := len(e.server.Sessions()); n != 1 {
		t.Errorf("there are %d sessions, want 1", n)
	}
}

// TestISCSISlow: a slow backend does not make the target slow to say that it is
// there.
func TestISCSISlow(t *testing.T) {
	e, g := exportGate(t)
	g.slow(300 * time.Millisecond)
	v := &verifier{tb: t, portal: e.portal, login: loginOptions{isid: 1}, workers: 40, size: 4 << 20}
	working, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() { v.run(working) })
	i := openSession(t, e.portal, loginOptions{isid: 2})
	var slowest time.Duration
	for working.Err() == nil {
		began := time.Now()
		if err := i.ping(within(t, 5*time.Second)); err != nil {
			t.Errorf("NOP-Out: %v", err)
			break
		}
		slowest = max(slowest, time.Since(began))
		time.Sleep(10 * time.Millisecond)
	}
	g.slow(0) // what was written is read again
	busy.Wait()
	t.Logf("the slowest NOP-In took %v", slowest)
	if slowest > 250*time.Millisecond {
		t.Errorf("a NOP-In took %v", slowest)
	}
}

// capacity is READ CAPACITY(16), in bytes.
func (i *initiator) capacity(ctx context.Context) (int64, error) {
	cdb := make([]byte, 16)
	cdb[0], cdb[1], cdb[13] = 0x9e, 0x10, 32
	data, err := retry(func() ([]byte, error) {
		t, err := i.command(cdb, nil, 32)
		return i.scsi(ctx, t, err)
	})
	if err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(data)+1) * blockSize, nil
}

// TestISCSIResize: a disk grows under load. Each session hears of it, and the window
// holds (which the initiator sees to with each PDU).
func TestISCSIResize(t *testing.T) {
	disk := rawDisk(t, 16<<20)
	e := export(t, block.Target{}, disk)
	v := &verifier{tb: t, portal: e.portal, login: loginOptions{isid: 1}, workers: 8, size: 8 << 20}
	working, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() { v.run(working) })
	i := openSession(t, e.portal, loginOptions{isid: 2})
	for size := int64(20 << 20); working.Err() == nil; size += 4 << 20 {
		if err := disk.Resize(size); err != nil {
			t.Fatal(err)
		}
		var told *scsiError // SPC-4: CAPACITY DATA HAS CHANGED
		if err := i.ready(within(t, 5*time.Second)); !errors.As(err, &told) || told.key != 6 || told.code != 0x2a09 {
			t.Errorf("after it grew the session is told %v, want 6/2a09", err)
		}
		if got, err := i.capacity(within(t, 5*time.Second)); err != nil || got != size {
			t.Errorf("capacity is %d, %v, want %d", got, err, size)
		}
		time.Sleep(50 * time.Millisecond)
	}
	busy.Wait()
	if n := v.sessions.Load(); n != 1 {
		t.Errorf("it took %d sessions, want 1", n)
	}
}

// TestISCSINetworks: whatever a network does to the packets, data that was
// acknowledged is right.
func TestISCSINetworks(t *testing.T) {
	for _, c := range []struct {
		name         string
		header, data bool
		every        int // a bit in one of so many PDUs
		resets       time.Duration
		fragments    bool
	}{
		{name: "fragments", fragments: true},
		{name: "fragments and digests", fragments: true, header: true, data: true},
		{name: "bits of headers", header: true, every: 100},
		{name: "bits of data", data: true, every: 100},
		{name: "bits of both", header: true, data: true, every: 100},
		{name: "resets", resets: 60 * time.Millisecond},
		{name: "resets and digests", resets: 60 * time.Millisecond, header: true, data: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := export(t, block.Target{}, rawDisk(t, 16<<20))
			carry := plainly
			switch {
			case c.fragments:
				carry = fragmenting
			case c.every > 0:
				carry = flipping(c.header, c.data, c.every)
			}
			p, r := through(t, e.portal, carry)
			v := &verifier{tb: t, portal: p, login: loginOptions{isid: 1, header: c.header, data: c.data}, workers: 8, size: 16 << 20}
			working, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			var busy sync.WaitGroup
			if c.resets > 0 {
				busy.Go(func() {
					for working.Err() == nil {
						time.Sleep(c.resets/2 + rand.N(c.resets))
						r.reset()
					}
				})
			}
			v.run(working)
			busy.Wait()
			n := v.sessions.Load()
			t.Logf("%d writes, %d reads, %d sessions", v.writes.Load(), v.reads.Load(), n)
			if broken := c.resets > 0 || c.every > 0; broken && n < 3 || !broken && n != 1 {
				t.Errorf("it took %d sessions", n)
			}
		})
	}
}

// TestISCSITruncated: what is missing of a backing file is a medium error, never
// zeros, and a write does not hide it.
func TestISCSITruncated(t *testing.T) {
	const size = 16 << 20
	path, d := rawFile(t, size)
	e := export(t, block.Target{}, newDisk(t, d, false))
	i := openSession(t, e.portal, loginOptions{isid: 1})
	data := bytes.Repeat([]byte("data"), 4096/4)
	for _, at := range []int64{0, size - 4096} {
		if err := i.writeAt(within(t, 5*time.Second), at, data, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path, size/2); err != nil {
		t.Fatal(err)
	}
	if got, err := i.readAt(within(t, 5*time.Second), 0, 4096); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what is still there reads % x…, %v", got[:min(4, len(got))], err)
	}
	var sense *scsiError
	for _, c := range []struct {
		name string
		at   int64
		n    int
	}{{"beyond", size - 4096, 4096}, {"across", size/2 - 4096, 8192}} {
		if _, err := i.readAt(within(t, 5*time.Second), c.at, c.n); !errors.As(err, &sense) || sense.key != 3 {
			t.Errorf("reading %s its end: %v, want a medium error", c.name, err)
		}
		if err := i.writeAt(within(t, 5*time.Second), c.at, make([]byte, c.n), false); !errors.As(err, &sense) || sense.key != 3 {
			t.Errorf("writing %s its end: %v, want a medium error", c.name, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() != size/2 {
		t.Errorf("the file has %d bytes then, %v", info.Size(), err)
	}
}

// TestISCSIFullCard: where there is no room the sense says so, what was written
// stays, and with room again all goes on.
func TestISCSIFullCard(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatalf("mounting a small card: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	const size, step = 64 << 20, 64 << 10
	if err := raw.Create(dir+"/disk.img", size); err != nil {
		t.Fatal(err)
	}
	d, err := raw.Open(dir+"/disk.img", size, false)
	if err != nil {
		t.Fatal(err)
	}
	e := export(t, block.Target{}, newDisk(t, d, false))
	i := openSession(t, e.portal, loginOptions{isid: 1})
	written := 0
	block := func(n int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), 0xda, 0x7a}, step/4) }
	for ; written < size/step; written++ {
		if err = i.writeAt(within(t, 5*time.Second), int64(written)*step, block(written), true); err != nil {
			break
		}
	}
	// SBC-3 section 4.7.3.6: SPACE ALLOCATION FAILED WRITE PROTECT.
	var sense *scsiError
	if !errors.As(err, &sense) || sense.key != 7 || sense.code != 0x2707 {
		t.Fatalf("on a full card, after %d of its 8 MiB: %v, want 7/2707", written*step, err)
	}
	check := func() {
		t.Helper()
		for n := range written {
			if got, err := i.readAt(within(t, 5*time.Second), int64(n)*step, step); err != nil || !bytes.Equal(got, block(n)) {
				t.Fatalf("piece %d of what was written reads % x…, %v", n, got[:min(4, len(got))], err)
			}
		}
	}
	check()
	// A piece that is there can be written anew, and one that is given up makes room.
	if err := i.writeAt(within(t, 5*time.Second), 0, block(0), true); err != nil {
		t.Errorf("writing again what is there: %v", err)
	}
	written--
	unmap := make([]byte, 24) // SBC-3 section 5.28
	unmap[1], unmap[3] = 22, 16
	binary.BigEndian.PutUint64(unmap[8:], uint64(written)*step/blockSize)
	binary.BigEndian.PutUint32(unmap[16:], step/blockSize)
	if _, err := retry(func() ([]byte, error) {
		t, err := i.command([]byte{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, unmap, 0)
		return i.scsi(context.Background(), t, err)
	}); err != nil {
		t.Errorf("UNMAP on a full card: %v", err)
	}
	if err := i.writeAt(within(t, 5*time.Second), size-step, block(1), true); err != nil {
		t.Errorf("writing after UNMAP made room: %v", err)
	}
	check()
}

// TestISCSIHalfOpen: 10,000 connections that never finish their login keep nobody
// else from working, or from logging in.
func TestISCSIHalfOpen(t *testing.T) {
	e := export(t, block.Target{}, rawDisk(t, 16<<20))
	v := &verifier{tb: t, portal: e.portal, login: loginOptions{isid: 1}, workers: 4, size: 4 << 20}
	working, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() { v.run(working) })
	eventually(t, "a session", 10*time.Second, func() bool { return v.writes.Load() > 0 })

	const many = 10000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range many {
		c, err := net.Dial("tcp", e.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", n, err)
		}
		defer c.Close() // it never said anything whole
		var h [48]byte
		h[0], h[1], h[6] = opLogin|immediate, final|1<<2|3, 4
		// Nothing, a part of the header, all of it, or a part of the text too: the
		// target may have hung up already.
		c.Write(h[:n%4*16])
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	t.Logf("%d half-open logins take %d KiB of memory, of both ends", many, (int64(after.HeapInuse+after.StackInuse)-int64(before.HeapInuse+before.StackInuse))>>10)
	// Another host, as its address shows.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.DialContext(within(t, 10*time.Second), "tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.Close() // it only shows that it is let in; the login is next
	openSession(t, e.portal, loginOptions{isid: 2})
	writes := v.writes.Load()
	eventually(t, "more verified I/O", 10*time.Second, func() bool { return v.writes.Load() > writes })
	cancel()
	busy.Wait()
	if n := v.sessions.Load(); n != 1 {
		t.Errorf("the busy session was lost %d times", n-1)
	}
}

// TestISCSIStuck: initiators that ask for much and read nothing keep nobody else
// from working.
func TestISCSIStuck(t *testing.T) {
	e := export(t, block.Target{}, rawDisk(t, 64<<20))
	for n := range 8 {
		i, err := login(within(t, 10*time.Second), e.portal, loginOptions{isid: uint16(100 + n), stuck: true})
		if err != nil {
			t.Fatal(err)
		}
		defer i.close()
		for i.room() {
			if _, err := i.command(rw16(0x88, 0, 1<<20, false), nil, 1<<20); err != nil {
				t.Fatal(err)
			}
		}
	}
	v := &verifier{tb: t, portal: e.portal, login: loginOptions{isid: 1}, workers: 8, size: 8 << 20}
	working, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	v.run(working)
	if n := v.sessions.Load(); n != 1 {
		t.Errorf("it took %d sessions, want 1", n)
	}
	if slowest := time.Duration(v.slowest.Load()); slowest > 2*time.Second {
		t.Errorf("the slowest read or write beside them took %v", slowest)
	}
}

// TestISCSIGarbage: PDUs of each opcode with anything at all in them end one
// connection at worst.
func TestISCSIGarbage(t *testing.T) {
	e := export(t, block.Target{}, rawDisk(t, 16<<20))
	other := e.add(t, block.Target{}, unit{disk: rawDisk(t, 16<<20)})
	v := &verifier{tb: t, portal: other, login: loginOptions{isid: 1}, workers: 4, size: 4 << 20}
	working, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() { v.run(working) })
	random := rand.New(rand.NewPCG(1, 2))
	for op := range 128 {
		i, err := login(within(t, 10*time.Second), e.portal, loginOptions{isid: 2})
		if err != nil {
			t.Fatalf("before opcode %#x: %v", op, err)
		}
		for range 4 {
			var h [48]byte
			for n := range h {
				h[n] = byte(random.Uint32())
			}
			h[0], h[4] = byte(op), 0
			clear(h[8:16]) // LUN 0: nothing is behind the others
			binary.BigEndian.PutUint32(h[16:], random.Uint32N(4))
			i.sending.Lock()
			i.stamp(&h, make([]byte, random.IntN(600))) // the target may have hung up
			i.sending.Unlock()
		}
		i.close()
	}
	cancel()
	busy.Wait()
	if n := v.sessions.Load(); n != 1 {
		t.Errorf("the busy session was lost %d times", n-1)
	}
}
