//go:build e2e

package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// A gate is a device that can stand still, or be slow. Unlike what it stands before
// it is no block.Prompt: all has to wait for it.
type gate struct {
	block.Device

	mu     sync.Mutex
	delay  time.Duration // of each call
	shut   chan struct{} // closed when the gate opens; nil while it is open
	inside int           // calls under way, those that wait too
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

// enter waits until a call may go on; leave is its end.
func (g *gate) enter() {
	g.mu.Lock()
	shut, delay := g.shut, g.delay
	g.inside++
	g.mu.Unlock()
	time.Sleep(delay)
	if shut != nil {
		<-shut
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
}

func (g *gate) underWay() int {
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
	g.enter()
	defer g.leave()
	return g.Device.Readv(bufs, offset)
}

func (g *gate) Writev(bufs [][]byte, offset int64) error {
	g.enter()
	defer g.leave()
	err := g.Device.Writev(bufs, offset)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.landed = append(g.landed, bytes.Clone(bytes.Join(bufs, nil)[:blockSize]))
	return err
}

// exportGate is a target whose disk has a gate.
func exportGate(t *testing.T, target block.Target) (*exported, *gate) {
	t.Helper()
	_, d := rawFile(t, 16<<20)
	g := &gate{Device: d}
	return export(t, target, newDisk(t, g, false)), g
}

// atOnce is how long what does not wait for storage that stands still may take, on a
// busy machine.
const atOnce = 5 * time.Second

// goesOn has sessions answer at once what needs no storage.
func goesOn(t *testing.T, sessions ...*initiator) {
	t.Helper()
	for _, i := range sessions {
		if err := i.ping(within(t, atOnce)); err != nil {
			t.Errorf("NOP-Out during a stall: %v", err)
		}
		if err := i.ready(within(t, atOnce)); err != nil {
			t.Errorf("TEST UNIT READY during a stall: %v", err)
		}
	}
}

// works has a session write and read blocks at once.
func works(t *testing.T, i *initiator) {
	t.Helper()
	data := bytes.Repeat([]byte(rand.Text()[:16]), 4096/16)
	if err := i.writeAt(within(t, atOnce), 8192, data, true); err != nil {
		t.Errorf("a write to another disk during a stall: %v", err)
	}
	if got, err := i.readAt(within(t, atOnce), 8192, len(data)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("another disk during a stall reads %.16q, %v, want %.16q", got, err, data)
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
			e, g := exportGate(t, block.Target{})
			a, b := openSession(t, e.portal, loginOptions{isid: 1}), openSession(t, e.portal, loginOptions{isid: 2})
			g.close()
			write, err := a.command(rw16(0x8a, 0, blockSize, false), bytes.Repeat([]byte{1}, blockSize), 0)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the write at the gate", 10*time.Second, func() bool { return g.underWay() == 1 })
			goesOn(t, a, b)
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
	e, g := exportGate(t, block.Target{})
	first := openSession(t, e.portal, loginOptions{isid: 1})
	g.close()
	old, now := bytes.Repeat([]byte{1}, blockSize), bytes.Repeat([]byte{2}, blockSize)
	for range 8 {
		if _, err := first.command(rw16(0x8a, 0, blockSize, false), old, 0); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a write at the gate", 10*time.Second, func() bool { return g.underWay() > 0 })
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
	e, g := exportGate(t, block.Target{})
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

// TestISCSIStalledServer: the NBD server behind a volume of bmcsim stands still for a
// minute. Nobody else is in its way, and what was aborted is nowhere once that was
// answered and the server is back.
func TestISCSIStalledServer(t *testing.T) {
	t.Parallel() // it waits for long
	const stall = time.Minute
	path := filepath.Join(t.TempDir(), "far.img")
	if err := os.WriteFile(path, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	server, port := startNBD(t, path)
	_, p := iscsiSim(t, t.TempDir(), fmt.Sprintf(`{"name": "far", "upstream": "nbd://127.0.0.1:%d/"}, {"name": "near", "size": %d}`, port, 16<<20), "far", "near")
	a, b := openSession(t, p, loginOptions{isid: 1}), openSession(t, p, loginOptions{isid: 2})
	near := openSession(t, p, loginOptions{isid: 3, lun: 1})
	block := func(text string) []byte { return bytes.Repeat([]byte(text), blockSize/len(text)) }
	if err := a.writeAt(within(t, 5*time.Second), 0, block("kept"), true); err != nil {
		t.Fatal(err)
	}

	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var writes []*task
	for _, i := range []*initiator{a, b} {
		for n := range int64(4) {
			w, err := i.command(rw16(0x8a, (1+n)*blockSize, blockSize, false), block("lost"), 0)
			if err != nil {
				t.Fatal(err)
			}
			writes = append(writes, w)
		}
	}
	var functions []*task
	manage := func(function byte, about *task) {
		f, err := a.manage(function, about)
		if err != nil {
			t.Fatal(err)
		}
		functions = append(functions, f)
	}
	for time.Since(began) < stall {
		goesOn(t, a, b, near)
		works(t, near)
		switch time.Sleep(250 * time.Millisecond); { // as an initiator does that loses its patience
		case len(functions) == 0 && time.Since(began) > stall/4:
			manage(abortTask, writes[0])
		case len(functions) == 1 && time.Since(began) > stall/2:
			manage(lunReset, nil)
			for _, i := range []*initiator{a, b} { // each is told of it
				if _, err := retry(func() ([]byte, error) { return nil, i.ready(within(t, atOnce)) }); err != nil {
					t.Errorf("TEST UNIT READY after a reset began: %v", err)
				}
			}
		}
	}
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for n, f := range functions {
		if err := a.wait(within(t, 30*time.Second), f); err != nil || f.header[2] != 0 {
			t.Errorf("function %d, after the stall: %v, response %d", n, err, f.header[2])
		}
	}
	t.Logf("the last function was answered %v after the server stopped", time.Since(began).Round(100*time.Millisecond))
	for n, w := range writes {
		if w.answered() {
			t.Errorf("write %d was answered, though it was aborted: status %#x", n, w.header[3])
		}
	}
	// The disk may say for a while that its server is away.
	eventually(t, "the disk", 30*time.Second, func() bool {
		return a.writeAt(within(t, 10*time.Second), blockSize, block("next"), true) == nil
	})
	for range 4 {
		for offset, want := range []string{"kept", "next"} {
			if got, err := b.readAt(within(t, 5*time.Second), int64(offset)*blockSize, blockSize); err != nil || !bytes.Equal(got, block(want)) {
				t.Errorf("block %d is %.8q, %v, want %q", offset, got, err, want)
			}
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// startNBD has qemu-nbd serve a file until the test ends.
func startNBD(t *testing.T, path string) (server *os.Process, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil { // nobody else gets that port at once
		t.Fatal(err)
	}
	cmd := exec.Command("qemu-nbd", "-f", "raw", "-t", "-e", "8", "-b", "127.0.0.1", "-p", strconv.Itoa(port), path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		cmd.Wait() // its error is the kill
	})
	return cmd.Process, port
}
