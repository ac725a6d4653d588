package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a test with an administrator and an operator under fake time.
func inBubble(t *testing.T, f func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.create("root", Administrator)
		b.create("bob", Operator)
		b.kinds()
		f(t, b)
	})
}

func TestSourceLock(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		// Each lock holds twice as long, up to the longest.
		for _, d := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute,
			8 * time.Minute, 16 * time.Minute, 30 * time.Minute, 30 * time.Minute} {
			b.fail("nobody", here, 5)
			for range 10 { // hammering does not prolong it
				b.want("root", here, good, ErrDenied)
			}
			time.Sleep(d - time.Second)
			b.want("root", here, good, ErrDenied)
			b.want("bob", elsewhere, good, nil)
			time.Sleep(time.Second)
			if b.lockouts.locked(Attempt{Source: here, Name: "root"}) {
				t.Errorf("still locked after %v", d)
			}
		}
		b.want("root", here, good, nil)
	})
}

func TestForget(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.fail("root", here, 4)
		time.Sleep(59 * time.Minute)
		b.fail("root", here, 1)
		b.want("root", here, good, ErrDenied)
		time.Sleep(30*time.Second + 61*time.Minute)
		b.fail("root", here, 4)
		b.want("root", here, good, nil)
		b.fail("bob", here, 1)
		b.want("bob", here, good, ErrDenied)
		time.Sleep(29 * time.Second)
		b.want("bob", here, good, ErrDenied)
		time.Sleep(time.Second)
		b.want("bob", here, good, nil) // the first step again
	})
}

// TestNameLock: guessers from many addresses lock the name for new places, not
// for the administrator's usual one; unknown names alike.
func TestNameLock(t *testing.T) {
	for _, name := range []string{"root", "nobody"} {
		inBubble(t, func(t *testing.T, b *bench) {
			if name == "root" {
				b.want(name, here, good, nil)
			}
			for i := range 20 {
				b.want(name, addr(byte(i)), bad, ErrDenied)
			}
			if !b.lockouts.locked(Attempt{Source: elsewhere, Name: name}) {
				t.Errorf("%s is not locked for a new place", name)
			}
			b.want(name, elsewhere, good, ErrDenied)
			b.want("bob", elsewhere, good, nil)
			if name == "root" {
				b.want(name, here, good, nil)
			}
			// The longest lock of a name is five minutes.
			for range 10 {
				time.Sleep(5 * time.Minute)
				if b.lockouts.locked(Attempt{Source: elsewhere, Name: name}) {
					t.Errorf("%s is locked for longer than five minutes", name)
				}
				for i := range 20 {
					b.lockouts.result(Attempt{Source: addr(byte(100 + i)), Name: name}, false)
				}
			}
		})
	}
}

// TestProvedPlace: a usual place has its own count, for its user only.
func TestProvedPlace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.want("root", here, good, nil)
		b.fail("bob", here, 6) // a neighbour's broken script locks the source
		b.want("bob", here, good, ErrDenied)
		b.want("root", here, good, nil)

		// A success forgives nothing: 5 wrong ones lock, however many right
		// ones are among them.
		for range 4 {
			b.fail("root", here, 1)
			b.want("root", here, good, nil)
		}
		b.fail("root", here, 1)
		b.want("root", here, good, ErrDenied)
		b.want("root", elsewhere, good, nil)
		time.Sleep(30 * time.Second)
		b.want("root", here, good, nil)

		// A week without a login, and the place is like any other.
		time.Sleep(provedFor)
		b.fail("bob", here, 5)
		b.want("root", here, good, ErrDenied)
	})
}

// TestOwnAccountWinsNoGuesses: logging in as oneself does not reset the count
// of failures as another.
func TestOwnAccountWinsNoGuesses(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for range 5 {
			b.want("bob", here, good, nil)
			b.fail("root", here, 1)
		}
		b.want("root", here, good, ErrDenied)
	})
}

func TestSourceOf(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
		{"fe80::1%eth0", "fe80::"},
		{"::1", "::"},
	} {
		if got := sourceOf(netip.MustParseAddr(c.in)); got.String() != c.want {
			t.Errorf("%s: got %v, want %s", c.in, got, c.want)
		}
	}
	if got := sourceOf(netip.Addr{}); got.IsValid() {
		t.Errorf("no address became %v", got)
	}
}

func TestIPv6Network(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for i := range 5 {
			b.want("nobody", netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i)), bad, ErrDenied)
		}
		b.want("root", netip.MustParseAddr("2001:db8::ffff"), good, ErrDenied)
		b.want("root", netip.MustParseAddr("2001:db8:0:1::1"), good, nil)
	})
}

// TestIPMICounts: the secret's failures count with the passwords'.
func TestIPMICounts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		if err := b.SetIPMISecret("bob", "ipmi secret", boss); err != nil {
			t.Fatal(err)
		}
		at := Attempt{Via: "ipmi", Source: here, Name: "bob"}
		for range 5 {
			if _, known := b.Secret(at); !known {
				t.Error("locked too early")
			}
			b.SecretResult(at, false)
		}
		if s, known := b.Secret(at); known || s != (Secret{}) {
			t.Errorf("a locked user's secret: got %+v, %v", s, known)
		}
		b.want("bob", here, good, ErrDenied)
		time.Sleep(30 * time.Second)
		if _, known := b.Secret(at); !known {
			t.Error("still locked")
		}
		synctest.Wait() // for the report of the lock's end
		b.kinds()
		b.SecretResult(at, true)
		if got, want := b.kinds(), []string{"auth.login"}; !slices.Equal(got, want) {
			t.Errorf("got reports %v, want %v", got, want)
		}
	})
}

func TestConfigure(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.fail("nobody", here, 5)
		p := DefaultLockout()
		p.Threshold, p.UserThreshold, p.First = 2, 2, time.Minute
		if err := b.Configure(p); err != nil {
			t.Fatal(err)
		}
		if got := b.Lockout(); got != p {
			t.Errorf("got %+v, want %+v", got, p)
		}
		time.Sleep(30 * time.Second) // the lock of before stays as it was
		b.want("root", here, good, nil)
		b.fail("nemo", addr(1), 2)
		time.Sleep(59 * time.Second)
		b.want("bob", addr(1), good, ErrDenied)
		time.Sleep(time.Second)
		b.want("bob", addr(1), good, nil)

		if err := b.Configure(Lockout{}); err != nil {
			t.Fatal(err)
		}
		b.fail("nobody", addr(2), 50)
		b.want("bob", addr(2), good, nil)

		p.Factor = 0
		if err := b.Configure(p); !errors.Is(err, ErrInvalid) {
			t.Errorf("got %v, want %v", err, ErrInvalid)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*Lockout)
		ok     bool
	}{
		{"the default", func(l *Lockout) {}, true},
		{"off", func(l *Lockout) { *l = Lockout{} }, true},
		{"negative", func(l *Lockout) { l.Threshold = -1 }, false},
		{"threshold of a name below a source's", func(l *Lockout) { l.UserThreshold = 4 }, false},
		{"no first time", func(l *Lockout) { l.First = 0 }, false},
		{"no factor", func(l *Lockout) { l.Factor = 0 }, false},
		{"always the same time", func(l *Lockout) { l.Factor = 1 }, true},
		{"longest below the first", func(l *Lockout) { l.Max = l.First - 1 }, false},
		{"a name's longest below the first", func(l *Lockout) { l.UserMax = l.First - 1 }, false},
		{"for ever", func(l *Lockout) { l.Max = 1 << 62 }, false},
		{"never forgotten", func(l *Lockout) { l.Forget = 1 << 62 }, false},
		{"forgotten at once", func(l *Lockout) { l.Forget = 0 }, false},
	} {
		l := DefaultLockout()
		c.change(&l)
		if err := l.Validate(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, want ok %v", c.what, err, c.ok)
		}
	}
}

// TestFlood: memory and the log stay small under many names and addresses, and
// a lock is not washed away.
func TestFlood(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		victim, guesser := Attempt{Source: addr(250), Name: "root"}, Attempt{Source: here, Name: "x"}
		for i := range 20 {
			b.lockouts.result(Attempt{Source: addr(byte(i)), Name: "root"}, false)
		}
		for range 5 {
			b.lockouts.result(guesser, false)
			b.lockouts.keyResult(guesser, false)
		}
		b.kinds()
		for i := range 2000 {
			source := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
			at := Attempt{Source: source, Name: fmt.Sprintf("n%d", i)}
			b.lockouts.result(at, false)
			b.lockouts.keyResult(at, false)
			b.lockouts.result(Attempt{Source: source, Name: "ok" + at.Name}, true)
			b.audit.login(at)
		}
		l := b.lockouts
		for what, c := range map[string][2]int{
			"sources": {len(l.sources), maxSources}, "names": {len(l.names), maxNames}, "keys": {len(l.keys), maxSources},
			"proved": {len(l.proved), maxPairs}, "pairs": {len(l.pairs), 0}, "logins": {len(b.audit.logins), maxLogins},
		} {
			if c[0] != c[1] {
				t.Errorf("%s: got %d, want %d", what, c[0], c[1])
			}
		}
		if !l.locked(victim) || !l.locked(guesser) {
			t.Error("the flood freed a lock")
		}
		failed := 0
		for _, k := range b.kinds() {
			if k == "auth.failed" {
				failed++
			}
		}
		if failed > floodBurst {
			t.Errorf("%d lines in the log, want at most %d", failed, floodBurst)
		}
		time.Sleep(floodRefill)
		synctest.Wait()
		if got := b.kinds(); !slices.Contains(got, "auth.flood") {
			t.Errorf("got reports %v, want a summary", got)
		}
	})
}

// TestLockedFlood: a table full of locks still takes new ones, without a timer
// for each that it lost.
func TestLockedFlood(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for i := range maxSources + 500 {
			source := netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)})
			for range 5 {
				b.lockouts.result(Attempt{Source: source, Name: fmt.Sprint(i)}, false)
			}
		}
		if got := len(b.lockouts.sources); got != maxSources {
			t.Errorf("got %d sources, want %d", got, maxSources)
		}
		b.kinds()
		before := b.suppressed()
		time.Sleep(time.Minute)
		synctest.Wait()
		ends := b.suppressed() - before
		for _, k := range b.kinds() {
			if k == "auth.unlocked" {
				ends++
			}
		}
		if ends != maxSources {
			t.Errorf("got %d ends of locks, want %d", ends, maxSources)
		}
	})
}

func (b *bench) suppressed() int {
	b.audit.mu.Lock()
	defer b.audit.mu.Unlock()
	return b.audit.suppressed
}

// TestTrail: the first failure, the lock, and its end with a count.
func TestTrail(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.fail("ro\not", here, 8)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		at := Report{Level: Warning, Via: "ssh", User: "ro?ot", Source: "192.0.2.1"}
		want := []Report{at, at, at}
		want[0].Kind, want[0].Message = "auth.failed", `A login as "ro?ot" failed.`
		want[1].Kind, want[1].Message = "auth.locked", "Logins from 192.0.2.1 are refused for 30s after 5 failures."
		want[2].Kind, want[2].Message = "auth.unlocked", "Logins from 192.0.2.1 are possible again; 3 were refused meanwhile."
		want[2].Level = OK
		if !slices.Equal(b.reports, want) {
			t.Errorf("got %+v, want %+v", b.reports, want)
		}

		// Logins in a row are one line.
		b.kinds()
		for range 5 {
			b.want("root", here, good, nil)
			time.Sleep(loginQuiet - time.Minute)
		}
		b.want("root", elsewhere, good, nil)
		time.Sleep(loginQuiet + time.Minute)
		b.want("root", here, good, nil)
		if got, want := b.kinds(), []string{"auth.login", "auth.login", "auth.login"}; !slices.Equal(got, want) {
			t.Errorf("got reports %v, want %v", got, want)
		}

		// After Close the trail is silent.
		b.fail("nobody", addr(1), 5)
		b.kinds()
		b.close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := b.kinds(); got != nil {
			t.Errorf("after Close: got reports %v, want none", got)
		}
	})
}
