//go:build e2e

package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Units of the target in TestCardDisks.
const (
	cloneLUN byte = iota
	plainLUN
	goldLUN
	upstreamLUN
)

// TestCardDisks: the disks of the booted card go on while core is killed again and
// again, come back with all that was acknowledged when their own process is killed,
// and with all that was flushed after a power cut; the process stays small, and sees
// the volumes and the name servers alone.
func TestCardDisks(t *testing.T) {
	const name = "iqn.2026-01.io.nitrino:four"
	const size = 8 << 20 // of the image; the volumes made of it and beside it have twice that
	image, web := goldenImage(t, size)
	_, webPort, err := net.SplitHostPort(strings.TrimPrefix(web, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	// The board sees this machine as 10.0.2.2, and itself is 10.0.2.15: there, the hand
	// of the tests is its name server.
	card := card(t)
	onCard(t, card, 1, "bmc.json", fmt.Sprintf(`{"version": 1, "network": {"dns": ["10.0.2.15"]},
		"volumes": [
			{"name": "gold", "image": {"url": "http://gold.test:%s/gold.img", "format": "raw", "sha256": "%x"}},
			{"name": "clone", "clone": "gold", "size": %d},
			{"name": "plain", "size": %d},
			{"name": "upstream", "upstream": "nbd://store.test:%d/"}],
		"iscsi": {"enabled": true, "targets": [{"name": %q, "luns": [
			{"lun": %d, "volume": "clone"}, {"lun": %d, "volume": "plain"}, {"lun": %d, "volume": "gold"}, {"lun": %d, "volume": "upstream"}]}]}}`,
		webPort, sha256.Sum256(image), 2*size, 2*size, nbdServer(t, size), name, cloneLUN, plainLUN, goldLUN, upstreamLUN))
	b := insert(t, card)
	b.run()
	t.Cleanup(b.stop)
	defer func() {
		if t.Failed() {
			t.Log(b.ssh("events").out)
		}
	}()
	b.names()
	p := portal{fmt.Sprintf("127.0.0.1:%d", b.base+3260), name}
	if b.ISCSI != p.addr {
		t.Errorf("the ready line has iSCSI at %q, want %q", b.ISCSI, p.addr)
	}
	for lun := range upstreamLUN + 1 {
		b.served(p, lun)
	}
	same(t, "the imported image", p, goldLUN, image)

	disks := []*verifier{
		{login: loginOptions{isid: 1, lun: cloneLUN}, size: size / 2, initial: golden},
		{login: loginOptions{isid: 2, lun: plainLUN}, size: size / 2},
		{login: loginOptions{isid: 3, lun: upstreamLUN}, size: size / 2},
	}
	working, cancel := context.WithCancel(t.Context())
	defer cancel()
	var busy sync.WaitGroup
	for _, v := range disks {
		v.tb, v.portal, v.workers = t, p, 4
		busy.Go(func() { v.run(working) })
	}

	disk := b.process("disk")
	b.restricted(disk)
	kills := 0
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if b.process("core").pid != 0 { // its parent waits longer each time
			b.killed("core")
			kills++
		}
	}
	if now := b.process("disk"); now.pid != disk.pid {
		t.Errorf("disk: process %d, want %d as before", now.pid, disk.pid)
	}
	for _, v := range disks {
		t.Logf("LUN %d while core was killed %d times: %d writes, %d reads, the slowest of them %v", v.login.lun, kills, v.writes.Load(), v.reads.Load(), time.Duration(v.slowest.Load()))
		if got := v.sessions.Load(); got != 1 {
			t.Errorf("LUN %d: %d sessions, want one", v.login.lun, got)
		}
	}
	b.answers()

	b.load(t, p, size)

	for range 3 {
		time.Sleep(time.Second)
		b.killed("disk")
	}
	time.Sleep(time.Second)
	cancel()
	busy.Wait()
	for _, v := range disks {
		if got := v.sessions.Load(); got < 2 {
			t.Errorf("LUN %d: %d sessions although disk was killed", v.login.lun, got)
		}
	}

	// Every write of the one is in force unit access, the other flushes now and then.
	fua := &verifier{tb: t, portal: p, login: loginOptions{isid: 4, lun: plainLUN}, workers: 4, offset: size, size: size / 4, fua: true}
	working, cancel = context.WithCancel(t.Context())
	defer cancel()
	busy.Go(func() { fua.run(working) })
	f := newFlusher(p, loginOptions{isid: 5, lun: cloneLUN}, size/2, size/2)
	for range 2 {
		if err := f.until(t, func() { b.do("cut") }); err == nil {
			t.Error("a flush was answered by a board without power")
		}
		b.forget()
		b.do("restore")
		b.names()
		b.served(p, cloneLUN)
		f.check(t)
	}
	cancel()
	busy.Wait()
	t.Logf("power cuts: %d flushes, and %d writes with FUA in %d sessions", f.flushes, fua.writes.Load(), fua.sessions.Load())
	b.served(p, upstreamLUN)
	for _, v := range disks {
		v.check() // what was flushed before
	}
	same(t, "the golden image", p, goldLUN, image)
	b.answers()
	if events := b.ssh("events").must(t); strings.Contains(events, "disk.unrestricted") || strings.Contains(events, "iscsi.panic") {
		t.Errorf("events: %s", events)
	}
}

// nbdServer serves a disk of that size until the test ends, at a port of this machine.
func nbdServer(t *testing.T, size int64) (port int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "upstream.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	_, port = startNBD(t, path)
	return port
}

// names has every name stand for this machine, in a board that has just started.
func (b *booted) names() {
	b.tb.Helper()
	if _, err := b.ask(map[string]any{"op": "names", "text": "10.0.2.2"}); err != nil {
		b.tb.Fatal(err)
	}
}

// served waits until a logical unit can be read.
func (b *booted) served(p portal, lun byte) {
	b.tb.Helper()
	eventually(b.tb, fmt.Sprintf("LUN %d to be served", lun), 60*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(b.tb.Context(), 5*time.Second)
		defer cancel()
		i, err := login(ctx, p, loginOptions{isid: 9, lun: lun})
		if err != nil {
			return false
		}
		defer i.close()
		_, err = i.readAt(ctx, 0, blockSize)
		return err == nil
	})
}

// restricted holds a process to what Landlock needs and leaves behind.
func (b *booted) restricted(p process) {
	b.tb.Helper()
	if status := b.get("read", fmt.Sprintf("/proc/%d/status", p.pid)); !strings.Contains(status, "NoNewPrivs:\t1\n") {
		b.tb.Errorf("process %d is not restricted: %s", p.pid, status)
	}
}

// load keeps the disk process as busy as it lets itself be, beside what else is
// under way, and holds it to its memory.
func (b *booted) load(t *testing.T, p portal, size int64) {
	t.Helper()
	const sessions, depth, length, most = 8, 4, 1 << 20, 48 << 10 // the last in KiB
	var hosts []*initiator                                        // one host alone gets only a part of the memory
	for n := range sessions {
		hosts = append(hosts, openSession(t, p, loginOptions{name: fmt.Sprintf("iqn.2026-01.io.nitrino:load%d", n), isid: 20, lun: plainLUN}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	end := time.Now().Add(6 * time.Second)
	var busy sync.WaitGroup
	for n, i := range hosts {
		for m := range depth {
			busy.Go(func() {
				data := bytes.Repeat([]byte{byte(n), byte(m)}, length/2)
				for k := int64(n*depth + m); time.Now().Before(end); k++ {
					at := size*3/2 + k*length%(size/2)
					_, err := i.readAt(ctx, at, length)
					if err == nil && k%2 == 0 {
						err = i.writeAt(ctx, at, data, false)
					}
					if err != nil {
						t.Errorf("under load: %v", err)
						return
					}
				}
			})
		}
	}
	var together int
	for time.Now().Before(end) {
		core := b.process("core")
		// The program is a file of the initramfs, which is in memory once for all processes.
		together = max(together, b.process("disk").resident+core.resident-b.memory(core, "RssShmem:"))
		time.Sleep(200 * time.Millisecond)
	}
	busy.Wait()
	disk := b.memory(b.process("disk"), "VmHWM:") // the most that it ever had
	t.Logf("resident with %d sessions of %d commands of %d KiB: disk %.1f MiB at most, with core %.1f MiB", sessions, depth, length>>10, float64(disk)/1024, float64(together)/1024)
	if disk > most {
		t.Errorf("disk had %d KiB resident, want at most %d", disk, most)
	}
}

// memory is what /proc/PID/status (proc(5)) has of a process under that name, in KiB.
func (b *booted) memory(p process, name string) int {
	b.tb.Helper()
	status := b.get("read", fmt.Sprintf("/proc/%d/status", p.pid))
	_, rest, _ := strings.Cut(status, name)
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.tb.Fatalf("%v: %s", err, status)
	}
	return kib
}

// A flusher writes and flushes in one session, and knows of each block what it may
// be after a loss of power.
type flusher struct {
	portal  portal
	login   loginOptions
	offset  int64
	flushes int
	next    uint32
	// Of each block, the generation at the last flush that was answered, and all that
	// were written since.
	flushed []uint32
	since   []map[uint32]bool
}

// newFlusher is for a part of a clone of the golden image.
func newFlusher(p portal, o loginOptions, offset, size int64) *flusher {
	f := &flusher{portal: p, login: o, offset: offset, flushed: make([]uint32, size/blockSize), since: make([]map[uint32]bool, size/blockSize)}
	for n := range f.flushed {
		f.flushed[n] = golden
	}
	return f
}

// until writes for a while, has the power cut, and returns how the session ended.
func (f *flusher) until(t *testing.T, cut func()) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	i, err := login(ctx, f.portal, f.login)
	if err != nil {
		t.Fatal(err)
	}
	defer i.close()
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			err = f.round(ctx, i)
		}
		ended <- err
	}()
	time.Sleep(3*time.Second + rand.N(time.Second))
	cut()
	i.close() // QEMU's network may leave it half open
	return <-ended
}

// round is some writes and a flush.
func (f *flusher) round(ctx context.Context, i *initiator) error {
	latest := map[int]uint32{}
	for range 1 + rand.IntN(8) {
		length := 1 + rand.IntN(64)
		first := rand.IntN(len(f.flushed) - length)
		f.next++
		data := make([]byte, length*blockSize)
		for n := range length {
			fill(data[n*blockSize:][:blockSize], f.number(first+n), f.next)
			latest[first+n] = f.next
			if f.since[first+n] == nil {
				f.since[first+n] = map[uint32]bool{}
			}
			f.since[first+n][f.next] = true
		}
		if err := i.writeAt(ctx, f.offset+int64(first)*blockSize, data, false); err != nil {
			return err
		}
	}
	if err := i.flush(ctx); err != nil {
		return err
	}
	f.flushes++
	for n, generation := range latest {
		f.flushed[n], f.since[n] = generation, nil
	}
	return nil
}

// number is a block's on the whole disk.
func (f *flusher) number(n int) int { return int(f.offset/blockSize) + n }

// check reads all blocks: what was flushed is there, or what was written after that.
// It is what the next round begins with.
func (f *flusher) check(t *testing.T) {
	t.Helper()
	i := openSession(t, f.portal, f.login)
	lost, want := 0, make([]byte, blockSize)
	const chunk = 128
	for first := 0; first < len(f.flushed); first += chunk {
		got, err := i.readAt(within(t, 10*time.Second), f.offset+int64(first)*blockSize, chunk*blockSize)
		if err != nil {
			t.Fatal(err)
		}
		for n := first; n < first+chunk; n++ {
			block := got[(n-first)*blockSize:][:blockSize]
			generation := binary.BigEndian.Uint32(block[8:])
			fill(want, f.number(n), generation)
			was, since := f.flushed[n], f.since[n]
			f.flushed[n], f.since[n] = generation, nil
			if !bytes.Equal(block, want) || generation != was && !since[generation] {
				if lost++; lost > 5 {
					continue // the rest is only counted
				}
				t.Logf("block %d has generation %d, want the flushed %d or of %v: % x", f.number(n), generation, was, since, block[:16])
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d blocks are not what was flushed", lost)
	}
	if err := i.logout(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
}
