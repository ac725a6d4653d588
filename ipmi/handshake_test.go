package ipmi

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/ipmi/command"
)

const here = "192.0.2.1:1000"

// The next six are the measured holes of another BMC in Go.

func TestHoleNameLengthOverflow(t *testing.T) {
	b := newBMC(t)
	for n, want := range map[byte]byte{0xFC: statusInvalidNameLen, 0xFF: statusInvalidNameLen, 17: statusInvalidNameLen, 16: statusIllegalParameter, 6: statusIllegalParameter, 5: statusOK} {
		c := b.console(t, here)
		c.open()
		body := c.rakp1Body("admin")
		body[27] = n
		r := c.rakp2(c.send(plain(0x12, body)))
		if r[1] != want || binary.LittleEndian.Uint32(r[4:]) != c.consoleID {
			t.Errorf("user name length %d: answer % X, want status %02Xh and the console's ID", n, r[:8], want)
		}
	}
}

func TestHolePrivilegeEscalation(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here)
	c.user, c.password = "reader", "readers-secret"
	c.openPrivilege, c.role = 4, 0x14
	c.login()
	if code, _ := c.command(command.App, 0x3B, 4); code != codeAboveUserLimit {
		t.Errorf("Set Session Privilege Level ADMINISTRATOR = %v, want %v", code, codeAboveUserLimit)
	}
	if code, _ := c.command(command.Chassis, 0x02, 1); code != command.TooLow {
		t.Errorf("Chassis Control = %v, want %v", code, command.TooLow)
	}
	if got := b.host.calls(); len(got) != 0 {
		t.Errorf("the host was asked %q", got)
	}
}

func TestHoleCiphertextLength(t *testing.T) {
	c := newBMC(t).console(t, here).login()
	seq := uint32(0)
	for n := range 70 {
		text := slices.Repeat([]byte{0x0F}, n)
		seq++
		payload := append(slices.Repeat([]byte{7}, 16), text...)
		if out := c.send(c.frame(seq, 0xC0, payload)); len(out) != 0 {
			t.Errorf("%d bytes of ciphertext were answered", n)
		}
		seq++
		if out := c.send(c.frame(seq, 0xC0, payload[:min(n, 16)])); len(out) != 0 {
			t.Errorf("a payload of %d bytes was answered", min(n, 16))
		}
	}
	c.seq = seq
	if code, _ := c.command(command.App, 0x01); code != command.OK {
		t.Errorf("the session is gone: %v", code)
	}
}

func TestHoleReplay(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Operator)
	packet := c.next(request(9, command.Chassis, 0x02, 2))
	if out := c.send(packet); len(out) != 0 {
		t.Fatalf("Chassis Control is answered by another goroutine, got % X", out)
	}
	c.wait()
	for range 3 {
		if out := c.send(packet); len(out) != 0 {
			t.Errorf("a replayed packet was answered: % X", out)
		}
	}
	if got := b.host.calls(); len(got) != 1 {
		t.Errorf("the host was asked %q, want once", got)
	}
}

func TestHoleForgedRAKP3(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).login()
	for _, from := range []string{here, "192.0.2.9:1000", "192.0.2.1:1001"} {
		forger := b.console(t, from)
		forger.id, forger.password = c.id, "guess"
		for _, status := range []byte{0, statusInvalidICV, statusNoResources} {
			r := forger.rakp4(forger.send(plain(0x14, forger.rakp3Body(status))))
			if want := []byte{forger.tag, statusInvalidSession, 0, 0, 0, 0, 0, 0}; !slices.Equal(r, want) {
				t.Errorf("forged RAKP 3 (status %02Xh) from %s = % X, want % X", status, from, r, want)
			}
		}
		if r := forger.rakp1(); r[1] != statusInvalidSession {
			t.Errorf("forged RAKP 1 from %s: status %02Xh, want %02Xh", from, r[1], statusInvalidSession)
		}
	}
	if code, _ := c.command(command.App, 0x01); code != command.OK {
		t.Errorf("the session is gone: %v", code)
	}
	if got, want := b.accounts.told(), []string{"ipmi 192.0.2.1 admin ok"}; !slices.Equal(got, want) {
		t.Errorf("accounts were told %q, want %q", got, want)
	}
}

// countedHash counts what is hashed.
type countedHash struct {
	hash.Hash
	sums *int
}

func (h countedHash) Sum(b []byte) []byte { *h.sums++; return h.Hash.Sum(b) }

func TestHoleUnknownUser(t *testing.T) {
	type trace struct {
		Answer2, Answer4 int // lengths
		Status2, Status4 byte
		HMACs            int
		Fixed            bool // the key is the same at the next try
	}
	measure := func(user string) (got trace) {
		b := newBMC(t)
		b.suites[0].newHash = func() hash.Hash { return countedHash{sha256.New(), &got.HMACs} }
		code := func() []byte {
			c := b.console(t, here)
			c.user, c.password = user, "wrong"
			c.open()
			c.rc = [16]byte{}
			two := c.rakp2(c.send(plain(0x12, c.rakp1Body(user))))
			four := c.rakp3()
			got.Answer2, got.Answer4, got.Status2, got.Status4 = len(two), len(four), two[1], four[1]
			return two
		}
		code()
		// With the same input the key behind the code must be the same. The
		// session's IDs and random numbers differ, so the key itself is asked.
		first := b.fakeKey(user)
		got.Fixed = first == b.fakeKey(user) && first != b.fakeKey(user+"x")
		return got
	}
	known, unknown := measure("admin"), measure("nobody")
	if known != unknown {
		t.Errorf("known user: %+v\nunknown user: %+v", known, unknown)
	}
	if known.Status2 != statusOK || known.Status4 != statusInvalidICV || known.HMACs == 0 {
		t.Errorf("trace %+v: want statuses 00h and 0Fh", known)
	}
	// Even with the fake key itself nobody comes in.
	b := newBMC(t)
	c := b.console(t, here)
	fake := b.fakeKey("nobody")
	c.user, c.password = "nobody", string(fake[:])
	c.open()
	if two := c.rakp1(); !slices.Equal(two[40:], c.code2()) {
		t.Error("RAKP 2 for an unknown user is not made with the fake key")
	}
	if r := c.rakp3(); r[1] != statusInvalidICV {
		t.Errorf("login with the fake key: status %02Xh, want %02Xh", r[1], statusInvalidICV)
	}
}

func TestCipherSuites(t *testing.T) {
	wild := [3]byte{0xFF, 0xFF, 0xFF}
	for _, test := range []struct {
		name   string
		suite3 bool
		offer  [3]byte // FFh: null payload
		want   byte
		given  [3]byte
	}{
		{"17", false, algorithms(17), 0, [3]byte{3, 4, 1}},
		{"3 not allowed", false, algorithms(3), 0x11, wild},
		{"3 allowed", true, algorithms(3), 0, [3]byte{1, 1, 1}},
		{"17 of both", true, wild, 0, [3]byte{3, 4, 1}},
		{"wildcard", false, wild, 0, [3]byte{3, 4, 1}},
		{"wildcard but SHA1", true, [3]byte{1, 0xFF, 0xFF}, 0, [3]byte{1, 1, 1}},
		{"half a wildcard", false, [3]byte{0xFF, 1, 0xFF}, 0x11, wild},
		{"mixed triple", true, [3]byte{1, 4, 1}, 0x11, wild},
		{"0", true, algorithms(0), 0x11, wild}, {"1", true, algorithms(1), 0x11, wild}, {"2", true, algorithms(2), 0x11, wild},
		{"4", true, algorithms(4), 0x11, wild}, {"6", true, algorithms(6), 0x11, wild}, {"7", true, algorithms(7), 0x11, wild},
		{"8", true, algorithms(8), 0x11, wild}, {"11", true, algorithms(11), 0x11, wild}, {"12", true, algorithms(12), 0x11, wild},
		{"15", true, algorithms(15), 0x11, wild}, {"16", true, algorithms(16), 0x11, wild}, {"18", true, algorithms(18), 0x11, wild},
	} {
		c := newBMC(t, func(o *Options, _ *machine) { o.Config.Suite3 = test.suite3 }).console(t, here)
		body := openRequestOf(7, 4, c.consoleID, test.offer)
		for i, a := range test.offer {
			if a == 0xFF {
				body[8+8*i+3], body[8+8*i+4] = 0, 0
			}
		}
		r := c.body(c.send(plain(0x10, body)), 0x11)
		if r[0] != 7 || r[1] != test.want || binary.LittleEndian.Uint32(r[4:]) != c.consoleID {
			t.Errorf("suite %s: answer % X, want tag 7, status %02Xh, the console's ID", test.name, r, test.want)
			continue
		}
		if test.want != 0 {
			if len(r) != 8 {
				t.Errorf("suite %s: refusal of %d bytes, want 8", test.name, len(r))
			}
			continue
		}
		if got := [3]byte{r[16], r[24], r[32]}; got != test.given || r[2] != 4 {
			t.Errorf("suite %s: given % X at privilege %d, want % X at 4", test.name, got, r[2], test.given)
		}
	}
}

func TestOpenSessionRefusals(t *testing.T) {
	c := newBMC(t).console(t, here)
	good := openRequestOf(1, 4, c.consoleID, algorithms(17))
	for _, test := range []struct {
		name string
		body []byte
		want byte
	}{
		{"cut", good[:31], statusIllegalParameter},
		{"payload types in another order", slices.Concat(good[:8], good[16:24], good[8:16], good[24:]), statusIllegalParameter},
		{"payload length 9", func() []byte { b := slices.Clone(good); b[11] = 9; return b }(), statusIllegalParameter},
		{"privilege 6", openRequestOf(1, 6, c.consoleID, algorithms(17)), statusInvalidRole},
	} {
		if r := c.body(c.send(plain(0x10, test.body)), 0x11); r[1] != test.want {
			t.Errorf("%s: status %02Xh, want %02Xh", test.name, r[1], test.want)
		}
	}
	for _, flags := range []byte{0x40, 0x80, 0xC0} { // there are no keys yet
		if out := c.send(plain(0x10|flags, good)); len(out) != 0 {
			t.Errorf("a request with flags %02Xh was answered: % X", flags, out)
		}
	}
	if out := c.send(plain(0x10, good[:7])); len(out) != 0 {
		t.Errorf("a request without console ID was answered: % X", out)
	}
}

func TestPrivilegeIsTheLeast(t *testing.T) {
	for _, test := range []struct {
		user        string
		open, role  byte
		channel     command.Privilege
		start, most command.Privilege
		refusal     command.Code // of one level more
	}{
		{"admin", 0, 0x14, 4, 2, 4, codeAboveUserLimit},
		{"admin", 0, 0x04, 4, 2, 4, codeAboveUserLimit}, // look-up by name and role
		{"admin", 4, 0x14, 4, 2, 4, codeAboveUserLimit},
		{"admin", 5, 0x15, 4, 2, 4, codeAboveUserLimit},
		{"admin", 3, 0x14, 4, 2, 3, codeNotForThisSession},
		{"admin", 4, 0x13, 4, 2, 3, codeNotForThisSession},
		{"admin", 0, 0x12, 4, 2, 2, codeNotForThisSession},
		{"admin", 0, 0x14, 3, 2, 3, codeAboveUserLimit},
		{"operator", 4, 0x14, 4, 2, 3, codeAboveUserLimit},
		{"operator", 4, 0x04, 4, 2, 3, codeAboveUserLimit},
		{"operator", 2, 0x14, 4, 2, 2, codeNotForThisSession},
		{"reader", 0, 0x14, 4, 2, 2, codeAboveUserLimit},
		{"admin", 1, 0x14, 4, 1, 1, 0},
	} {
		name := fmt.Sprintf("%s open %d role %02X channel %d", test.user, test.open, test.role, test.channel)
		b := newBMC(t, func(o *Options, _ *machine) { o.Board.Channel = fakeChannel{limit: test.channel} })
		c := b.console(t, here)
		c.user, c.password = test.user, b.accounts.users[test.user].secret
		c.openPrivilege, c.role = test.open, test.role
		c.login()
		code, got := c.command(command.App, 0x3B, 0)
		if test.most < command.User {
			if code != command.TooLow {
				t.Errorf("%s: Set Session Privilege Level = %v, want %v", name, code, command.TooLow)
			}
			continue
		}
		if code != command.OK || command.Privilege(got[0]) != test.start {
			t.Errorf("%s: starts at %v (%v), want %v", name, got, code, test.start)
		}
		if code, got := c.command(command.App, 0x3B, byte(test.most)); code != command.OK || command.Privilege(got[0]) != test.most {
			t.Errorf("%s: raising to %v = %v, %v", name, test.most, code, got)
		}
		if code, _ := c.command(command.App, 0x3B, byte(test.most)+1); code != test.refusal {
			t.Errorf("%s: raising to %v = %v, want %v", name, test.most+1, code, test.refusal)
		}
		if code, got := c.command(command.App, 0x3B, 2); code != command.OK || got[0] != 2 {
			t.Errorf("%s: lowering to USER = %v, %v", name, code, got)
		}
	}
	c := newBMC(t).console(t, here).login()
	for _, level := range []byte{1, 6, 15} {
		if code, _ := c.command(command.App, 0x3B, level); code != command.InvalidField {
			t.Errorf("level %d = %v, want %v", level, code, command.InvalidField)
		}
	}
}

func TestRoleIsChecked(t *testing.T) {
	c := newBMC(t).console(t, here)
	c.open()
	for role, want := range map[byte]byte{0x10: statusInvalidRole, 0x16: statusInvalidRole, 0x1F: statusInvalidRole} {
		c.role = role
		if r := c.rakp1(); r[1] != want {
			t.Errorf("role %02Xh: status %02Xh, want %02Xh", role, r[1], want)
		}
	}
}

func TestLoginTwoSuitesAndKG(t *testing.T) {
	for _, suite := range []byte{3, 17} {
		for _, kg := range []string{"", "the BMC key"} {
			b := newBMC(t, func(o *Options, _ *machine) { o.Config.Suite3, o.Board.Keys = true, newKeys(kg) })
			c := b.console(t, here)
			c.suite, c.kg = suite, kg
			c.login()
			if code, _ := c.command(command.App, 0x01); code != command.OK {
				t.Errorf("suite %d, KG %q: Get Device ID = %v", suite, kg, code)
			}
			if kg != "" {
				c := b.console(t, "192.0.2.1:1001")
				c.suite, c.kg = suite, kg+"x"
				c.open()
				c.rakp1()
				r := c.rakp3()
				if want := c.mac(c.sik, c.rc[:], le32(c.id), c.guid[:])[:c.codeLen()]; slices.Equal(r[8:], want) {
					t.Errorf("suite %d: a wrong KG gives the right code", suite)
				}
			}
		}
	}
}

// TestRepeatedHandshake loses each answer once: the repetition, under a new tag
// as FreeIPMI's, gets the same answer, and the login goes on from it.
func TestRepeatedHandshake(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here)
	c.open()
	body := c.rakp1Body("admin")
	first := c.rakp2(c.send(plain(0x12, body)))
	c.tag++
	body[0] = c.tag
	second := c.rakp2(c.send(plain(0x12, body)))
	if !slices.Equal(first[1:], second[1:]) {
		t.Errorf("RAKP 2 again = % X, want % X", second, first)
	}
	body = c.rakp3Body(0)
	first = c.rakp4(c.send(plain(0x14, body)))
	if first[1] != 0 {
		t.Fatalf("RAKP 4: status %02Xh", first[1])
	}
	c.tag++
	body[0] = c.tag
	second = c.rakp4(c.send(plain(0x14, body)))
	if !slices.Equal(first[1:], second[1:]) {
		t.Errorf("RAKP 4 again = % X, want % X", second, first)
	}
	c.keys()
	if code, _ := c.command(command.App, 0x01); code != command.OK {
		t.Errorf("Get Device ID = %v", code)
	}
	if got, want := b.accounts.told(), []string{"ipmi 192.0.2.1 admin ok"}; !slices.Equal(got, want) {
		t.Errorf("accounts were told %q, want %q", got, want)
	}
}

func TestWrongKey(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here)
	c.password = "wrong"
	c.open()
	c.rakp1()
	bad := c.rakp3Body(0)
	r := c.rakp4(c.send(plain(0x14, bad)))
	want := append([]byte{c.tag, statusInvalidICV, 0, 0}, le32(c.consoleID)...)
	if !slices.Equal(r, want) {
		t.Errorf("RAKP 4 = % X, want % X", r, want)
	}
	// The same again gets the same again; another guess does not count.
	if r := c.rakp4(c.send(plain(0x14, bad))); !slices.Equal(r, want) {
		t.Errorf("RAKP 4 again = % X, want % X", r, want)
	}
	c.password = "secret-20-characters"
	if r := c.rakp3(); r[1] != statusInvalidSession {
		t.Errorf("a second guess: status %02Xh, want %02Xh", r[1], statusInvalidSession)
	}
	if got, want := b.accounts.told(), []string{"ipmi 192.0.2.1 admin denied"}; !slices.Equal(got, want) {
		t.Errorf("accounts were told %q, want %q", got, want)
	}
}

// TestConsoleGivesUp is what ipmitool does with a wrong password: it finds the
// code of RAKP 2 wrong and sends RAKP 3 with an error.
func TestConsoleGivesUp(t *testing.T) {
	b := newBMC(t)
	for i, status := range []byte{statusInvalidICV, statusNoResources} {
		c := b.console(t, here)
		c.open()
		c.rakp1()
		if out := c.send(plain(0x14, c.rakp3Body(status))); len(out) != 0 {
			t.Errorf("RAKP 3 with status %02Xh was answered: % X", status, out)
		}
		if r := c.rakp3(); r[1] != statusInvalidSession {
			t.Errorf("the login goes on after status %02Xh: %02Xh", status, r[1])
		}
		if got, want := len(b.accounts.told()), 1; got != want {
			t.Errorf("try %d: accounts were told %d results, want %d", i, got, want)
		}
	}
}

func TestSourceIsHeld(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here)
	c.open()
	thief := b.console(t, "192.0.2.1:1001")
	thief.id = c.id
	if r := thief.rakp1(); r[1] != statusInvalidSession || binary.LittleEndian.Uint32(r[4:]) != 0 {
		t.Errorf("RAKP 1 from another port = % X, want status 02h and no console ID", r)
	}
	if r := c.rakp1(); r[1] != statusOK {
		t.Errorf("RAKP 1: status %02Xh", r[1])
	}
}

func TestSessionIDs(t *testing.T) {
	b := newBMC(t)
	seen := map[uint32]bool{}
	for i := range 100 {
		c := b.console(t, fmt.Sprintf("192.0.2.%d:1", i+1))
		c.open()
		if c.id == 0 || seen[c.id] {
			t.Fatalf("session ID %08X is zero or was there before", c.id)
		}
		seen[c.id] = true
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add(openRequestOf(1, 4, 7, algorithms(17)))
	f.Add(openRequestOf(1, 0, 7, [3]byte{}))
	for _, g := range golden {
		for _, s := range []string{g.rakp1, g.rakp2, g.rakp3} {
			f.Add(unhex(f, s))
		}
	}
	f.Add([]byte(strings.Repeat("\xFC", 44)))
	f.Fuzz(func(t *testing.T, p []byte) {
		if r, status, ok := parseOpen(p); ok && status == statusOK {
			for _, a := range []int{r.auth, r.integrity, r.confidentiality} {
				if a < wildcard || a > 0x3F {
					t.Errorf("parseOpen(% X) = %+v", p, r)
				}
			}
		}
		if r, status, ok := parseRAKP1(p); ok && status == statusOK && len(r.username) > maxNameLen {
			t.Errorf("parseRAKP1(% X) = %+v", p, r)
		}
		if r, ok := parseRAKP3(p); ok && !reflect.DeepEqual(r.code, p[8:]) {
			t.Errorf("parseRAKP3(% X) = %+v", p, r)
		}
	})
}
