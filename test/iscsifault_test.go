//go:build e2e

package test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/raw"
)

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

// luns is REPORT LUNS: how many there are.
func (i *initiator) luns(ctx context.Context) (int, error) {
	const most = 8 + 256*8
	cdb := []byte{0xa0, 0, 0, 0, 0, 0, 0, 0, most >> 8, most & 0xff, 0, 0}
	data, err := retry(func() ([]byte, error) {
		t, err := i.command(cdb, nil, most)
		return i.scsi(ctx, t, err)
	})
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint32(data) / 8), nil
}

// TestISCSIResize: a disk grows under load, and others come beside it. Each session
// hears of it, and the window holds (which the initiator sees to with each PDU).
func TestISCSIResize(t *testing.T) {
	disk := rawDisk(t, 16<<20)
	e := export(t, block.Target{}, disk)
	v := &verifier{tb: t, portal: e.portal, login: loginOptions{isid: 1}, workers: 8, size: 8 << 20}
	working, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var busy sync.WaitGroup
	busy.Go(func() { v.run(working) })
	i := openSession(t, e.portal, loginOptions{isid: 2})
	told := func(what string, code uint16) {
		t.Helper()
		err := i.ready(within(t, 5*time.Second))
		if e, ok := errors.AsType[*scsiError](err); !ok || e.key != 6 || e.code != code {
			t.Errorf("after %s the session is told %v, want 6/%04x", what, err, code)
		}
	}
	for n := 1; working.Err() == nil; n++ {
		size := int64(16+4*n) << 20
		if err := disk.Resize(size); err != nil {
			t.Fatal(err)
		}
		told("it grew", 0x2a09) // SPC-4: CAPACITY DATA HAS CHANGED
		if got, err := i.capacity(within(t, 5*time.Second)); err != nil || got != size {
			t.Errorf("capacity is %d, %v, want %d", got, err, size)
		}
		e.addUnit(t, unit{disk: rawDisk(t, 1<<20)})
		told("another one came", 0x3f0e) // REPORTED LUNS DATA HAS CHANGED
		if got, err := i.luns(within(t, 5*time.Second)); err != nil || got != 1+n {
			t.Errorf("there are %d units, %v, want %d", got, err, 1+n)
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
	t.Parallel()
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
