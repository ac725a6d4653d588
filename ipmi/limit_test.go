package ipmi

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/auth"

	"github.com/nitrino/nitrino/ipmi/command"
)

func TestPendingFlood(t *testing.T) {
	b := newBMC(t)
	flood := func(n int, addr func(i int) string) {
		for i := range n {
			b.console(t, addr(i)).open()
		}
	}
	// One source.
	flood(200, func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1000+i) })
	if got := len(b.table.pending); got != maxPendingPerSource {
		t.Errorf("one source has %d logins under way, want %d", got, maxPendingPerSource)
	}
	// One IPv6 network, whatever the host part.
	flood(200, func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1000", i+1) })
	if got := len(b.table.pending); got != 2*maxPendingPerSource {
		t.Errorf("two sources have %d logins under way, want %d", got, 2*maxPendingPerSource)
	}
	// A login that has got its RAKP 2 stays through a flood from everywhere.
	real := b.console(t, "198.51.100.1:1000")
	real.open()
	real.rakp1()
	w := newWorker(b.Server)
	one := real.w
	packet := plain(0x10, openRequestOf(1, 4, 5, algorithms(17)))
	spoof := func(n int) {
		for i := range n {
			w.from = one.from
			w.from.addr = addrPort(i)
			in := slices.Clone(packet)
			w.handle(in)
		}
	}
	spoof(10_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	spoof(50_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("the flood took %d bytes of memory", grown)
	}
	if got := len(b.table.pending); got > maxPending {
		t.Errorf("%d logins under way, want at most %d", got, maxPending)
	}
	if got := len(b.table.byID); got > maxPending {
		t.Errorf("%d sessions are known, want at most %d", got, maxPending)
	}
	if r := real.rakp3(); r[1] != statusOK {
		t.Errorf("the real login: status %02Xh", r[1])
	}
}

func TestLoginRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBMC(t, func(o *Options, _ *machine) { o.Config.LoginsPerSecond = 2 })
		try := func(addr string) bool {
			c := b.console(t, addr)
			c.open()
			c.rc = [16]byte{1}
			return len(c.send(plain(0x12, c.rakp1Body("admin")))) > 0
		}
		count := func(n int) (got int) {
			for range n {
				if try(here) {
					got++
				}
			}
			return got
		}
		if got := count(30); got != 10 {
			t.Errorf("%d logins at once, want 10", got)
		}
		if !try("192.0.2.77:1000") {
			t.Error("another source is held up")
		}
		time.Sleep(3 * time.Second)
		if got := count(30); got != 6 {
			t.Errorf("%d logins after 3 s, want 6", got)
		}
		time.Sleep(time.Hour)
		if got := count(30); got != 10 {
			t.Errorf("%d logins at once after an hour, want 10", got)
		}
	})
}

func TestSessionsAreLimited(t *testing.T) {
	b := newBMC(t, func(o *Options, _ *machine) { o.Config.MaxSessions = 2 })
	late := b.console(t, "192.0.2.1:1003")
	late.open()
	late.rakp1()
	first := b.console(t, "192.0.2.1:1001").login()
	b.console(t, "192.0.2.1:1002").login()
	if r := late.rakp3(); r[1] != statusNoResources {
		t.Errorf("RAKP 3 with all slots taken: status %02Xh, want %02Xh", r[1], statusNoResources)
	}
	if code, _ := first.command(command.App, 0x3C, le32(first.id)...); code != command.OK {
		t.Fatalf("Close Session = %v", code)
	}
	b.console(t, "192.0.2.1:1005").login()
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBMC(t, func(o *Options, _ *machine) { o.Config.MaxSessions = 4 })
		at := func(d time.Duration) { time.Sleep(d); b.expire(time.Now()) }
		alive := func(c *console) bool {
			return len(c.send(c.next(request(1, command.App, 0x01)))) > 0
		}
		c := b.console(t, here).login()
		at(57 * time.Second)
		if !alive(c) {
			t.Error("the session ended before 57 s")
		}
		at(57 * time.Second)
		if !alive(c) {
			t.Error("a command does not keep the session")
		}
		at(61 * time.Second)
		if alive(c) || b.table.count != 0 {
			t.Error("the session lives after 61 s of silence")
		}
		// With all slots taken it is half as long.
		var all []*console
		for i := range 4 {
			all = append(all, b.console(t, fmt.Sprintf("192.0.2.1:%d", 2000+i)).login())
		}
		at(31 * time.Second)
		if alive(all[0]) {
			t.Error("the session lives after 31 s with all slots taken")
		}
		// A login that stalls ends as well.
		c = b.console(t, here)
		c.open()
		at(21 * time.Second)
		if r := c.rakp1(); r[1] != statusInvalidSession {
			t.Errorf("RAKP 1 after 21 s: status %02Xh, want %02Xh", r[1], statusInvalidSession)
		}
		at(time.Minute)
		if got := len(b.table.byID); got != 0 {
			t.Errorf("%d sessions are left over", got)
		}
	})
}

func TestChangedUserEndsSessions(t *testing.T) {
	for _, test := range []struct {
		name string
		next []fakeUser
		live bool
	}{
		{"nothing", nil, true},
		{"deleted", []fakeUser{{}}, false},
		{"role", []fakeUser{{secret: "operators-secret", role: auth.ReadOnly}}, false},
		{"secret", []fakeUser{{secret: "another secret", role: auth.Operator}}, false},
		{"deleted and made again", []fakeUser{{}, {secret: "operators-secret", role: auth.Operator}}, false},
	} {
		b := newBMC(t)
		c := b.console(t, here)
		c.user, c.password = "operator", "operators-secret"
		c.login()
		for _, u := range test.next {
			b.accounts.set("operator", u)
		}
		b.expire(time.Now())
		if live := len(c.send(c.next(request(1, command.App, 0x01)))) > 0; live != test.live {
			t.Errorf("%s changed: session lives: %v, want %v", test.name, live, test.live)
		}
	}
}

// TestOutsideRate: whoever asks too much outside sessions is not answered, and
// sessions from the same address are.
func TestOutsideRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBMC(t, func(o *Options, _ *machine) { o.Config.LoginsPerSecond = 2 })
		c := b.console(t, here).login() // three packets
		ask := request(1, command.App, 0x38, 0x0E, 4)
		old := append([]byte{6, 0, 0xFF, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(ask))}, ask...)
		kinds := [][]byte{
			plain(0x10, openRequestOf(1, 4, 7, algorithms(17))), plain(0x10, openRequestOf(1, 4, 7, algorithms(0))), plain(0x12, make([]byte, 8)),
			plain(0x14, make([]byte, 8)), plain(0, ask), old, unhex(t, "0600ff06000011be802a0000"),
		}
		count := func(from *console) (n int) {
			for i := range 200 {
				if len(from.send(kinds[i%len(kinds)])) > 0 {
					n++
				}
			}
			return n
		}
		if got := count(c); got != 97 {
			t.Errorf("%d packets are answered at once, want 97", got)
		}
		time.Sleep(time.Second)
		if got := count(c); got != 20 {
			t.Errorf("%d packets are answered after a second, want 20", got)
		}
		if code, _ := c.command(command.App, 0x01); code != command.OK {
			t.Errorf("in the session: %v", code)
		}
		if got := count(b.console(t, "192.0.2.77:1")); got != 100 {
			t.Errorf("another source is answered %d times, want 100", got)
		}
	})
}
