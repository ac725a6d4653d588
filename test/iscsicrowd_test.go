//go:build e2e

package test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bystander is a host that works while others misbehave.
type bystander struct {
	*verifier
	cancel context.CancelFunc
	busy   sync.WaitGroup
}

// standBy has one work at LUN 0 of a target.
func standBy(t *testing.T, p portal) *bystander {
	t.Helper()
	b := &bystander{verifier: &verifier{tb: t, portal: p, login: loginOptions{isid: 1}, workers: 4, size: 4 << 20}}
	var ctx context.Context
	ctx, b.cancel = context.WithCancel(t.Context())
	b.busy.Go(func() { b.run(ctx) })
	t.Cleanup(func() {
		b.cancel()
		b.busy.Wait()
	})
	eventually(t, "a session", 10*time.Second, func() bool { return b.writes.Load() > 0 })
	return b
}

// undisturbed holds that it went on, in the same session, and goes on.
func (b *bystander) undisturbed(t *testing.T) {
	t.Helper()
	writes := b.writes.Load()
	eventually(t, "more verified I/O", 10*time.Second, func() bool { return b.writes.Load() > writes })
	b.cancel()
	b.busy.Wait()
	if n := b.sessions.Load(); n != 1 {
		t.Errorf("the busy session was lost %d times", n-1)
	}
	if slowest := time.Duration(b.slowest.Load()); slowest > 2*time.Second {
		t.Errorf("the slowest read or write beside them took %v", slowest)
	}
}

// dialFrom connects to a target as the host of that address.
func dialFrom(t *testing.T, address string, p portal) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // the target may have done so before
	return c
}

// TestISCSIHalfOpen: 10,000 connections that never finish their login keep nobody
// else from working, or from logging in, and take no memory.
func TestISCSIHalfOpen(t *testing.T) {
	s, p := iscsiSim(t, t.TempDir(), `{"name": "disk", "size": 16777216}`, "disk")
	b := standBy(t, p)
	const many, most = 10000, 24.0 // the latter in MiB
	before := resident(t, s.cmd.Process.Pid)
	for n := range many {
		var h [48]byte
		h[0], h[1], h[6] = opLogin|immediate, final|1<<2|3, 4
		// Nothing, a part of the header, all of it, or a part of the text too: the
		// target may have hung up already.
		dialFrom(t, "127.0.0.2", p).Write(h[:n%4*16])
		if n%(many/10) == 0 {
			if err := openSession(t, p, loginOptions{isid: 2}).logout(within(t, 5*time.Second)); err != nil {
				t.Errorf("after %d: %v", n, err)
			}
		}
	}
	after := resident(t, s.cmd.Process.Pid)
	t.Logf("resident before %d half-open logins: %.1f MiB, with them %.1f MiB", many, before, after)
	if after-before > most {
		t.Errorf("%d half-open logins take %.1f MiB, want at most %.1f", many, after-before, most)
	}
	b.undisturbed(t)
	s.quiet()
}

// TestISCSIEndlessLogin: logins that go on and on are ended.
func TestISCSIEndlessLogin(t *testing.T) {
	t.Parallel() // it waits for long
	const limit = 15 * time.Second
	s, p := iscsiSim(t, t.TempDir(), `{"name": "disk", "size": 16777216}`, "disk")
	request := func(flags byte, text string) []byte {
		var h [48]byte
		h[0], h[1] = opLogin|immediate, flags
		h[6], h[7], h[8] = byte(len(text)>>8), byte(len(text)), 0x80
		return append(append(h[:], text...), make([]byte, -len(text)&3)...)
	}
	const operational, goesOn = 1 << 2, 1 << 6 // CSG, and the C bit (section 11.12)
	names := request(operational, "InitiatorName=iqn.2026-01.io.nitrino:endless\x00TargetName="+p.target+"\x00SessionType=Normal\x00")
	kinds := []struct {
		name  string
		pause time.Duration
		next  func(n int) []byte
	}{
		{"silence", time.Second, func(int) []byte { return nil }},
		{"a byte at a time", 100 * time.Millisecond, func(n int) []byte { return names[n%len(names):][:1] }},
		{"text without an end", time.Second, func(int) []byte { return request(operational|goesOn, strings.Repeat("X-io.nitrino.text=1\x00", 5)) }},
		{"no wish to go on", time.Second, func(n int) []byte {
			if n == 0 {
				return names
			}
			return request(operational, "")
		}},
	}
	var all sync.WaitGroup
	for _, k := range kinds {
		conn := dialFrom(t, "127.0.0.2", p)
		began, ended := time.Now(), make(chan struct{})
		all.Go(func() {
			defer close(ended)
			for buf := make([]byte, 4096); ; {
				if _, err := conn.Read(buf); err != nil {
					return
				}
			}
		})
		all.Go(func() {
			for n := 0; time.Since(began) < limit+5*time.Second; n++ {
				conn.Write(k.next(n)) // who reads learns of the end
				select {
				case <-ended:
					return
				case <-time.After(k.pause):
				}
			}
			t.Errorf("%s: the login is not ended after %v, want %v", k.name, time.Since(began), limit)
			conn.Close()
		})
	}
	for range 5 {
		if err := openSession(t, p, loginOptions{isid: 2}).logout(within(t, 5*time.Second)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
	}
	all.Wait()
	s.quiet()
}

// TestISCSIStuck: initiators that ask for much and read nothing keep nobody else
// from working.
func TestISCSIStuck(t *testing.T) {
	s, p := iscsiSim(t, t.TempDir(), `{"name": "disk", "size": 67108864}`, "disk")
	for n := range 8 { // as many sessions as an initiator may have
		i, err := login(within(t, 10*time.Second), p, loginOptions{name: "iqn.2026-01.io.nitrino:stuck", isid: uint16(n), stuck: true})
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
	b := standBy(t, p)
	time.Sleep(3 * time.Second)
	b.undisturbed(t)
	s.quiet()
}

// quiet holds that no part of the target has panicked.
func (s *sim) quiet() {
	s.tb.Helper()
	if events := s.ssh("events").must(s.tb); strings.Contains(events, "iscsi.panic") {
		s.tb.Errorf("events: %s", events)
	}
}
