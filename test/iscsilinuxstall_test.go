//go:build e2e

package test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// linuxStall: the storage of three disks stands still for a minute. The kernel aborts its
// write at the third timeout, after 30 s, and waits for the answer; logs in anew as that
// does not come within 15 s; somebody resets the unit. When these are answered nothing can
// land any more, and the work goes on. Everybody else does so meanwhile.
func linuxStall(t *testing.T, g *linuxGuest) {
	const stall = time.Minute
	e := export(t, block.Target{}, rawDisk(t, 16<<20))
	type stalled struct {
		name    string
		timeout string // of a command in the guest
		gate    *gate
		watch   *watchman
		node    *linuxNode
		disk    string
		working <-chan guestAnswer
	}
	all := []*stalled{{name: "abort", timeout: "/short"}, {name: "reset", timeout: "/long"}, {name: "login", timeout: "/short"}}
	beside := []*initiator{openSession(t, e.portal, loginOptions{isid: 1})}
	for _, s := range all {
		_, d := rawFile(t, 16<<20)
		s.gate = &gate{Device: d}
		s.watch = &watchman{gate: s.gate}
		p := e.add(t, block.Target{Name: "iqn.2026-01.io.nitrino:" + s.name}, unit{disk: newDisk(t, s.gate, false)})
		beside = append(beside, openSession(t, p, loginOptions{isid: 2}))
		p, _ = through(t, p, inspecting(false, false, s.watch.look))
		s.node = g.node(p)
		if s.name != "login" { // else 15 s
			s.node.set([2]string{"node.session.err_timeo.abort_timeout", "120"}, [2]string{"node.session.err_timeo.lu_reset_timeout", "120"})
		}
		s.node.iscsiadm("--login").must(t)
		s.disk = g.disk(p.target, "")
		g.run("cp", s.timeout, "/sys/block/"+s.disk+"/device/timeout").must(t)
	}
	for _, s := range all {
		s.gate.close()
	}
	for _, s := range all {
		s.working = g.begin("fio", "--name="+s.name, "--direct=1", "--rw=write", "--bs=64k", "--size=256k", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--filename=/dev/"+s.disk)
	}
	for _, s := range all {
		eventually(t, "a write at the gate", time.Minute, func() bool { return s.gate.underWay() > 0 })
	}
	began := time.Now()
	reset := g.begin("sg_reset", "--device", "/dev/"+all[1].disk)
	eventually(t, "word of the reset", 20*time.Second, func() bool {
		told, ok := errors.AsType[*scsiError](beside[2].ready(within(t, atOnce)))
		return ok && told.key == 6 && told.code>>8 == 0x29
	})
	for time.Since(began) < stall {
		goesOn(t, beside...)
		works(t, beside[0])
		time.Sleep(250 * time.Millisecond)
	}
	for _, s := range all {
		s.gate.open()
	}
	g.end(reset).must(t)
	for _, s := range all {
		if r := g.end(s.working); r.code != 0 || strings.Contains(r.out, "verify:") {
			t.Errorf("%s: fio, over a stall of %v: exit code %d\n%s", s.name, stall, r.code, r.out)
		}
		for _, early := range s.watch.early() {
			t.Errorf("%s: %s while calls from before were under way", s.name, early)
		}
		s.node.iscsiadm("--logout").must(t)
	}
	for n, want := range []struct {
		function byte
		logins   int
	}{{abortTask, 1}, {lunReset, 1}, {abortTask, 2}} {
		s := all[n]
		if s.watch.asked(want.function) == 0 || s.watch.logins() != want.logins {
			t.Errorf("%s: function %d was asked for %d times in %d sessions, want it in %d", s.name, want.function, s.watch.asked(want.function), s.watch.logins(), want.logins)
		}
	}
}

// A watchman sees the PDUs of an initiator that waits for the answer to a task
// management function or a login before it goes on: what the storage has under way then
// is from before.
type watchman struct {
	gate *gate

	mu       sync.Mutex
	asks     []byte // task management functions
	sessions int    // logins that succeeded
	broken   []string
}

func (w *watchman) look(pdu []byte, _ *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var what string
	switch pdu[0] & 0x3f {
	case opTMF:
		w.asks = append(w.asks, pdu[1]&0x7f)
	case opTMFResponse:
		what = fmt.Sprintf("a function was answered with %d", pdu[2])
	case opLoginResponse:
		if pdu[1]&0x83 == 0x83 && pdu[36] == 0 { // to the full feature phase
			w.sessions++
			what = "a login succeeded"
		}
	}
	if n := w.gate.underWay(); what != "" && n > 0 {
		w.broken = append(w.broken, what)
	}
}

// asked counts requests for a function.
func (w *watchman) asked(function byte) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Count(w.asks, []byte{function})
}

func (w *watchman) logins() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sessions
}

// early are the answers that came too soon.
func (w *watchman) early() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}
