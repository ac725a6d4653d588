package ipmi

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/ipmi/command"
)

// realBMC has real accounts: the users of newAccounts, one who is disabled and
// one without a secret.
func realBMC(t testing.TB) (*bmc, *auth.Auth) {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	users, err := auth.Open(auth.Options{Store: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(users.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	add := func(name, secret string, role auth.Role, enabled bool) {
		t.Helper()
		err := users.Create(auth.User{Name: name, Role: role, Enabled: enabled}, "", auth.Attempt{})
		if err == nil && secret != "" {
			err = users.SetIPMISecret(name, secret, auth.Attempt{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, u := range newAccounts().users {
		add(name, u.secret, u.role, true)
	}
	add("off", "secret-20-characters", auth.Operator, false)
	add("none", "", auth.Operator, true)
	return newBMC(t, func(o *Options, _ *machine) { o.Accounts = users }), users
}

// TestRefusedAlike: whoever may not come in gets the same packets after the
// same work, with the right secret or a wrong one.
func TestRefusedAlike(t *testing.T) {
	type trace struct {
		len2, len4, hmacs2, hmacs4 int
		two, four                  [8]byte // but for the console's ID
	}
	b, users := realBMC(t)
	var hmacs int
	b.suites[0].newHash = func() hash.Hash { return countedHash{sha256.New(), &hmacs} }
	try := func(from, name, secret string) (got trace) {
		c := b.console(t, from)
		c.user, c.password = name, secret
		c.open()
		hmacs = 0
		two := c.rakp1()
		got.len2, got.two, got.hmacs2 = len(two), [8]byte(two), hmacs
		p := plain(0x14, c.rakp3Body(0))
		hmacs = 0
		four := c.rakp4(c.send(p))
		got.len4, got.four, got.hmacs4 = len(four), [8]byte(four), hmacs
		return got
	}
	const right = "secret-20-characters"
	fail := func(from, name string) {
		for range 5 {
			users.SecretResult(auth.Attempt{Source: netip.MustParseAddrPort(from).Addr(), Name: name}, false)
		}
	}
	users.SecretResult(auth.Attempt{Source: netip.MustParseAddr("192.0.2.3"), Name: "admin"}, true)
	want := try("192.0.2.1:1", "admin", "wrong")
	if want.hmacs2 != 4 || want.hmacs4 != 2 { // each HMAC is two sums of the hash
		t.Errorf("%d and %d sums of the hash, want 4 (RAKP 2 and the fake key) and 2", want.hmacs2, want.hmacs4)
	}
	fail("192.0.2.2:1", "x")
	fail("192.0.2.3:1", "admin")
	for i := range 4 {
		fail(fmt.Sprintf("192.0.2.%d:1", 100+i), "operator")
	}
	for _, test := range []struct{ name, from, user, secret string }{
		{"unknown", "192.0.2.11:1", "nobody", right},
		{"no name", "192.0.2.12:1", "", right},
		{"disabled", "192.0.2.13:1", "off", right},
		{"no secret", "192.0.2.14:1", "none", ""},
		{"source locked", "192.0.2.2:1", "admin", right},
		{"source locked, wrong secret", "192.0.2.2:1", "admin", "wrong"},
		{"source locked, unknown", "192.0.2.2:1", "nobody", right},
		{"usual place locked", "192.0.2.3:1", "admin", right},
		{"name locked", "192.0.2.15:1", "operator", "operators-secret"},
	} {
		if got := try(test.from, test.user, test.secret); got != want {
			t.Errorf("%s: %+v, want %+v", test.name, got, want)
		}
	}
	if got := try("192.0.2.16:1", "admin", right); got.four[1] != statusOK {
		t.Errorf("admin from elsewhere: %+v", got)
	}
}

// TestNotBetweenRAKP1And3: what happens while a login is under way counts.
func TestNotBetweenRAKP1And3(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*auth.Auth) error
		want   byte
	}{
		{"nothing", func(*auth.Auth) error { return nil }, statusOK},
		{"lock", func(a *auth.Auth) error {
			for range 5 {
				a.SecretResult(auth.Attempt{Source: netip.MustParseAddr("192.0.2.1"), Name: "x"}, false)
			}
			return nil
		}, statusInvalidICV},
		{"disabled", func(a *auth.Auth) error { return a.SetEnabled("operator", false, auth.Attempt{}) }, statusInvalidICV},
		{"role", func(a *auth.Auth) error { return a.SetRole("operator", auth.ReadOnly, auth.Attempt{}) }, statusInvalidICV},
		{"secret", func(a *auth.Auth) error { return a.SetIPMISecret("operator", "another secret", auth.Attempt{}) }, statusInvalidICV},
		{"deleted", func(a *auth.Auth) error { return a.Delete("operator", auth.Attempt{}) }, statusInvalidICV},
	} {
		b, users := realBMC(t)
		c := b.console(t, here)
		c.user, c.password = "operator", "operators-secret"
		c.open()
		c.rakp1()
		if err := test.change(users); err != nil {
			t.Fatal(err)
		}
		if r := c.rakp3(); r[1] != test.want {
			t.Errorf("%s: RAKP 4 has status %02Xh, want %02Xh", test.name, r[1], test.want)
		}
	}
}

// TestRunningCommandKeepsItsNumber: whatever else comes under the number of a
// command that is not answered yet, that one does not run twice.
func TestRunningCommandKeepsItsNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBMC(t)
		c := b.console(t, here).at(command.Administrator)
		hold := make(chan struct{})
		b.host.change(func(f *fakeHost) { f.hold = hold })
		cycle := func() []byte { return c.send(c.next(request(7, command.Chassis, 0x02, 2))) }
		if out := cycle(); len(out) != 0 {
			t.Fatal("answered before the host did")
		}
		for _, other := range []struct {
			cmd  byte
			data []byte
			want command.Code
		}{{0x01, nil, command.OK}, {0xEE, nil, command.InvalidCommand}, {0x02, []byte{3}, command.Busy}, {0x04, []byte{1}, command.Busy}} {
			out := c.send(c.next(request(7, command.Chassis, other.cmd, other.data...)))
			if code, _ := c.response(c.unseal(out), 7, command.Chassis, other.cmd); code != other.want {
				t.Errorf("command %02X meanwhile = %v, want %v", other.cmd, code, other.want)
			}
		}
		time.Sleep(replyAge + time.Second) // a disk that takes its time
		if out := cycle(); len(out) != 0 {
			t.Error("the repetition was answered before the first")
		}
		close(hold)
		synctest.Wait()
		if code, _ := c.response(c.unseal(c.wait()), 7, command.Chassis, 0x02); code != command.OK {
			t.Errorf("Chassis Control = %v", code)
		}
		time.Sleep(replyAge - time.Second) // the answer is lost, too
		if out := cycle(); len(out) == 0 {
			t.Error("the repetition is not answered")
		}
		if got := b.host.calls(); len(got) != 1 {
			t.Errorf("the host was asked %q, want once", got)
		}
	})
}

// TestReplyIsTheSessionsOwn: the same command under the same number from
// another session is another command.
func TestReplyIsTheSessionsOwn(t *testing.T) {
	b := newBMC(t)
	ask := func(c *console) (code command.Code) {
		out := c.send(c.next(request(7, command.Chassis, 0x02, 2)))
		if len(out) == 0 {
			out = c.wait()
		}
		code, _ = c.response(c.unseal(out), 7, command.Chassis, 0x02)
		return code
	}
	first := b.console(t, "192.0.2.1:1").at(command.Operator)
	second := b.console(t, "192.0.2.1:2").at(command.Operator)
	reader := b.console(t, "192.0.2.1:3")
	reader.user, reader.password = "reader", "readers-secret"
	reader.login()
	if code := ask(first); code != command.OK {
		t.Errorf("first session: %v", code)
	}
	b.host.change(func(f *fakeHost) { f.err = host.ErrBusy })
	if code := ask(second); code != command.Busy {
		t.Errorf("second session: %v, want %v", code, command.Busy)
	}
	if code := ask(reader); code != command.TooLow {
		t.Errorf("a reader: %v, want %v", code, command.TooLow)
	}
	if code := ask(first); code != command.OK {
		t.Errorf("first session again: %v", code)
	}
	if got := len(b.host.calls()); got != 2 {
		t.Errorf("the host was asked %d times, want 2", got)
	}
}

// TestSessionEndsWhileCommandWaits: the command was allowed when it came, runs
// once, and its answer is sent; nothing is left over.
func TestSessionEndsWhileCommandWaits(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(b *bmc, c *console)
	}{
		{"closed", func(b *bmc, c *console) { c.command(command.App, 0x3C, le32(c.id)...) }},
		{"user deleted", func(b *bmc, c *console) { b.accounts.set("admin", fakeUser{}); b.expire(time.Now()) }},
		{"idle", func(b *bmc, c *console) { time.Sleep(61 * time.Second); b.expire(time.Now()) }},
		{"forgotten", func(b *bmc, c *console) {
			time.Sleep(61 * time.Second)
			b.expire(time.Now())
			time.Sleep(replyAge)
			b.expire(time.Now())
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBMC(t)
			hold := make(chan struct{})
			b.host.change(func(f *fakeHost) { f.hold = hold })
			c := b.console(t, here).at(command.Operator)
			c.send(c.next(request(9, command.Chassis, 0x02, 2)))
			test.end(b, c)
			if b.table.count != 0 {
				t.Errorf("%s: the session is there", test.name)
			}
			if out := c.send(c.next(request(9, command.Chassis, 0x02, 3))); len(out) != 0 {
				t.Errorf("%s: a new command is answered", test.name)
			}
			close(hold)
			synctest.Wait()
			if code, _ := c.response(c.unseal(c.wait()), 9, command.Chassis, 0x02); code != command.OK {
				t.Errorf("%s: Chassis Control = %v", test.name, code)
			}
			time.Sleep(time.Minute)
			b.expire(time.Now())
			if len(b.table.byID) != 0 || b.waiting != 0 || len(b.host.calls()) != 1 {
				t.Errorf("%s: %d sessions and %d commands are left over; the host was asked %q", test.name, len(b.table.byID), b.waiting, b.host.calls())
			}
		})
	}
}

// TestRoomForOthers: a user who takes all slots does not keep the others out,
// and ends no session of one who has no more than his share.
func TestRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBMC(t, func(o *Options, _ *machine) { o.Config.MaxSessions = 4 })
		login := func(port int, user string) (*console, byte) {
			c := b.console(t, fmt.Sprintf("192.0.2.1:%d", port))
			c.user, c.password = user, b.accounts.users[user].secret
			c.open()
			c.rakp1()
			r := c.rakp3()
			time.Sleep(time.Second)
			return c, r[1]
		}
		alive := func(c *console) bool { return len(c.send(c.next(request(1, command.App, 0x01)))) > 0 }
		var readers []*console
		for i := range 5 {
			c, status := login(1000+i, "reader")
			if i == 4 {
				if status != statusNoResources {
					t.Errorf("the reader's fifth session: status %02Xh, want %02Xh", status, statusNoResources)
				}
				break
			}
			readers = append(readers, c)
		}
		alive(readers[0]) // so that the second is silent for longest
		_, status := login(2000, "admin")
		if status != statusOK {
			t.Fatalf("the administrator is kept out: status %02Xh", status)
		}
		for i, want := range []bool{true, false, true, true} {
			if got := alive(readers[i]); got != want {
				t.Errorf("the reader's session %d lives: %v, want %v", i, got, want)
			}
		}
		if _, status := login(2001, "admin"); status != statusOK {
			t.Errorf("the administrator's second: status %02Xh", status)
		}
		if _, status := login(2002, "admin"); status != statusNoResources {
			t.Errorf("the administrator's third, with two each: status %02Xh, want %02Xh", status, statusNoResources)
		}
		if _, status := login(1010, "reader"); status != statusNoResources {
			t.Errorf("the reader's third, with two each: status %02Xh, want %02Xh", status, statusNoResources)
		}
		if _, status := login(3000, "operator"); status != statusOK {
			t.Errorf("the operator's first: status %02Xh", status)
		}
		for i, user := range []string{"admin", "reader"} { // one has two now, the other one
			if _, status := login(3001+i, user); status != statusNoResources {
				t.Errorf("one more of %s: status %02Xh, want %02Xh", user, status, statusNoResources)
			}
		}
		if err := b.table.check(); err != nil || b.table.count != 4 {
			t.Errorf("%d sessions, want 4; %v", b.table.count, err)
		}
		for _, told := range b.accounts.told() {
			if told == "ipmi 192.0.2.1 reader denied" {
				t.Error("a login without a slot counts as a failure")
			}
		}
		if got := len(b.accounts.told()); got != 7 {
			t.Errorf("accounts were told %d results, want 7: the sessions that began", got)
		}
	})
}

// TestRefusedLoginsMakeRoom: failed logins of a neighbour behind the same
// address push out no login that is under way.
func TestRefusedLoginsMakeRoom(t *testing.T) {
	b := newBMC(t)
	for i := range maxPendingPerSource {
		c := b.console(t, fmt.Sprintf("192.0.2.1:%d", 1000+i))
		c.password = "wrong"
		c.open()
		c.rakp1()
		c.rakp3()
	}
	one, two := b.console(t, "192.0.2.1:1"), b.console(t, "192.0.2.1:2")
	one.open()
	two.open()
	for i, c := range []*console{one, two} {
		if r := c.rakp1(); r[1] != statusOK {
			t.Errorf("console %d: status %02Xh", i+1, r[1])
		}
	}
}

// TestAmplification: nobody gains by sending with a false source. The packets,
// in bytes of UDP payload:
//
//	asked                                     sent  answered  factor
//	ASF ping (with an RMCP ACK besides)         12   28 (+ 4)  2.7
//	Get System GUID, v1.5 framing               21         38  1.8
//	Get System GUID, RMCP+ framing              23         40  1.7
//	Get Channel Cipher Suites, v1.5 framing     24         38  1.6
//	Get Channel Authentication Capabilities     23         30  1.3
//	any other command                           21         22  1.0
//	Open Session                                48         52  1.1
//	Open Session, cut to its first 8 bytes      24         24  1
//	RAKP 1, RAKP 3 of no login                  24         24  1
//	RAKP 1 of a login, which needs the ID
//	that Open Session sent to that source       44         88  2.0
//
// With the 28 bytes of IPv4 and UDP headers the ping's factor is 2.2.
func TestAmplification(t *testing.T) {
	b := newBMC(t, func(o *Options, _ *machine) { o.Config.Suite3 = true })
	c := b.console(t, here)
	old := func(m []byte) []byte {
		return append([]byte{6, 0, 0xFF, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(m))}, m...)
	}
	c.open()
	c.tag++
	for _, test := range []struct {
		name       string
		packet     []byte
		sent, back int
	}{
		{"ping", unhex(t, "06000506000011be802a0000"), 12, 32},
		{"System GUID", old(request(1, command.App, 0x37)), 21, 38},
		{"System GUID, RMCP+", plain(0, request(1, command.App, 0x37)), 23, 40},
		{"Cipher Suites", old(request(1, command.App, 0x54, 0x0E, 0, 0x80)), 24, 33},
		{"Authentication Capabilities", old(request(1, command.App, 0x38, 0x8E, 4)), 23, 30},
		{"another", old(request(1, command.App, 0x01)), 21, 22},
		{"Open Session", plain(0x10, openRequestOf(1, 4, 7, algorithms(17))), 48, 52},
		{"Open Session, cut", plain(0x10, openRequestOf(1, 4, 7, algorithms(17))[:8]), 24, 24},
		{"RAKP 1 of no login", plain(0x12, make([]byte, 8)), 24, 24},
		{"RAKP 3 of no login", plain(0x14, make([]byte, 8)), 24, 24},
		{"RAKP 1 without a name", plain(0x12, c.rakp1Body("")), 44, 88},
	} {
		back := len(c.send(test.packet))
		for len(c.mail) > 0 {
			back += len(<-c.mail)
		}
		if len(test.packet) != test.sent || back != test.back || back > 3*len(test.packet) {
			t.Errorf("%s: %d bytes for %d, want %d for %d", test.name, back, len(test.packet), test.back, test.sent)
		}
	}
}

// TestCutPackets: every packet is dropped that ends before it says it does.
func TestCutPackets(t *testing.T) {
	c := newBMC(t).console(t, here).at(command.Administrator)
	ask := request(1, command.App, 0x38, 0x8E, 4)
	old := append([]byte{6, 0, 0xFF, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(ask))}, ask...)
	for name, p := range map[string][]byte{
		"v1.5 framing": old, "RMCP+ framing": plain(0, ask), "ping": unhex(t, "0600ff06000011be802a0000"),
		"Open Session": plain(0x10, openRequestOf(1, 4, 7, algorithms(17))), "in a session": c.next(request(1, command.App, 0x01)),
	} {
		for n := range p {
			if out := c.send(p[:n:n]); len(out) != 0 {
				t.Errorf("%s: %d of %d bytes are answered: % X", name, n, len(p), out)
			}
		}
		if out := c.send(p); len(out) == 0 {
			t.Errorf("%s: whole, it is not answered", name)
		}
	}
	if body, ok := parseSessionless(old[rmcpHeaderLen : len(old)-1]); ok {
		t.Errorf("a v1.5 payload beyond the packet's end is taken: % X", body)
	}
}

// TestTwoSockets: one of them ends while commands come over the other.
func TestTwoSockets(t *testing.T) {
	b := newBMC(t)
	stays := serve(t, b, "udp4", "127.0.0.1:0")
	conn, err := net.DialUDP("udp4", nil, stays)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := b.console(t, conn.LocalAddr().String()).at(command.Operator)
	var others sync.WaitGroup
	others.Go(func() {
		for range 50 {
			other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			if err := b.Serve(ctx, other); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Serve = %v, want %v", err, context.DeadlineExceeded)
			}
			cancel()
			if err := other.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	buf := make([]byte, 2048)
	for i := range 200 {
		if _, err := conn.Write(c.next(request(byte(i)&0x3F, command.Chassis, 0x04, byte(i)))); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		c.unseal(buf[:n])
	}
	others.Wait()
}

// check says what is wrong with a table.
func (t *table) check() error {
	active := 0
	for h, s := range t.active {
		if s == nil {
			continue
		}
		active++
		if s.state != stateActive || s.sealer == nil || int(s.handle) != h || t.byID[s.id] != s || s.privilege > s.max || s.max > s.userLimit {
			return fmt.Errorf("active session %d: %+v", h, s)
		}
	}
	for _, s := range t.pending {
		if s.state > stateRefused || s.sealer != nil || t.byID[s.id] != s {
			return fmt.Errorf("pending session: %+v", s)
		}
	}
	for _, s := range t.left {
		if s.state != stateFarewell || t.byID[s.id] != s {
			return fmt.Errorf("session that was closed: %+v", s)
		}
	}
	if active != t.count || active > t.slots || len(t.pending) > maxPending || len(t.left) > maxSlots ||
		len(t.byID) != active+len(t.pending)+len(t.left) {
		return fmt.Errorf("%d active, %d counted, %d pending, %d closed, %d known", active, t.count, len(t.pending), len(t.left), len(t.byID))
	}
	return nil
}

// FuzzServer plays a script against one server: who sends what, cut, changed or
// out of turn. Each byte pair is a step: the low bits of the first choose the
// console (two who know a secret, one who guesses), the others the packet, and
// the second what is wrong with it. Whatever happens, the table stays sound, the
// guesser gets no session and no action, and a session's answers are sealed.
func FuzzServer(f *testing.F) {
	f.Add([]byte{0x00, 0, 0x04, 0, 0x08, 0, 0x0C, 0, 0x10, 0, 0x14, 0})
	f.Add([]byte{0x02, 0, 0x06, 0, 0x0A, 0, 0x0E, 0, 0x12, 0})
	f.Add([]byte{0x00, 0, 0x04, 0, 0x08, 0, 0x01, 0, 0x05, 0, 0x09, 0, 0x0C, 4, 0x0D, 4, 0x10, 2, 0x11, 2, 0x1C, 0, 0x1D, 0})
	f.Add([]byte{0x00, 0, 0x04, 0, 0x08, 0, 0x0C, 4, 0x20, 0, 0x24, 0, 0x18, 9, 0x28, 30, 0x2C, 0, 0x30, 1})
	f.Add([]byte{0x00, 0, 0x04, 0, 0x04, 0x81, 0x04, 0, 0x08, 0x90, 0x08, 0, 0x34, 3, 0x0A, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		b := newBMC(t, func(o *Options, _ *machine) { o.Config.MaxSessions = 2 })
		consoles := []*console{b.console(t, "192.0.2.1:1"), b.console(t, "192.0.2.2:1"), b.console(t, "192.0.2.3:1")}
		consoles[1].user, consoles[1].password = "operator", "operators-secret"
		consoles[2].password = "guess"
		for _, c := range consoles {
			c.keys()
		}
		now := time.Now()
		var last []byte // what was sent before, for replays
		for i := 0; i+1 < len(script) && i < 128; i += 2 {
			c, x := consoles[script[i]&3%3], script[i+1]
			var p []byte
			sealed := func(n command.NetFn, cmd byte, data ...byte) {
				p = c.next(request(c.rqSeq, n, cmd, data...))
			}
			switch script[i] >> 2 {
			case 0:
				p = plain(0x10, openRequestOf(x, 0, c.consoleID, algorithms(17)))
			case 1:
				p = plain(0x12, c.rakp1Body(c.user))
			case 2:
				p = plain(0x14, c.rakp3Body(0))
			case 3:
				sealed(command.App, 0x3B, x)
			case 4:
				sealed(command.Chassis, 0x02, x)
			case 5:
				sealed(command.App, 0x3C, le32(c.id)...)
			case 6:
				sealed(command.App, 0x3C, 0, 0, 0, 0, x)
			case 7:
				sealed(command.App, 0x3D, x)
			case 8:
				p = last
			case 9:
				c.rqSeq = x & 0x3F
			case 10:
				now = now.Add(time.Duration(x) * time.Second)
				b.expire(now)
			case 11:
				b.accounts.set("operator", fakeUser{secret: "operators-secret", role: auth.Operator})
				b.expire(now)
			case 12:
				c.w.from.addr = netip.AddrPortFrom(c.w.from.addr.Addr(), uint16(x)+1)
			case 13: // another's session
				c.id = consoles[int(x)%len(consoles)].id
			case 14:
				p = plain(0x14, c.rakp3Body(x))
			default:
				p = script[i:]
			}
			if x >= 0x80 && len(p) > 0 { // damaged
				p = slices.Clone(p)
				p[int(x)%len(p)] ^= 1 << (x & 7)
				if x >= 0xC0 {
					p = p[:int(x)%len(p)]
				}
			}
			if len(p) > maxPacket {
				p = p[:maxPacket]
			}
			last = p
			out := c.send(p)
			switch {
			case len(out) < 24 || out[4] != authTypeFormat:
			case out[5] == 0x11 && out[17] == statusOK && len(out) == 52:
				c.id = binary.LittleEndian.Uint32(out[24:])
			case out[5] == 0x13 && out[17] == statusOK && len(out) > 56:
				copy(c.rm[:], out[24:])
				copy(c.guid[:], out[40:])
			case out[5] == 0x15 && out[17] == statusOK:
				if c == consoles[2] {
					t.Fatal("the guesser is in")
				}
				if x < 0x80 {
					c.keys()
				}
			case out[5] != 0xC0 && binary.LittleEndian.Uint32(out[6:]) != 0:
				t.Fatalf("a session's packet is not sealed: % X", out)
			}
			if err := b.table.check(); err != nil {
				t.Fatalf("after step %d: %v", i/2, err)
			}
		}
		for _, c := range consoles {
			c.w.tasks.Wait()
		}
		for _, told := range b.accounts.told() {
			if told == "ipmi 192.0.2.3 admin ok" {
				t.Error("the guesser logged in")
			}
		}
		for _, asked := range b.host.calls() {
			if !slices.ContainsFunc(b.accounts.told(), func(s string) bool { return len(s) > 3 && s[len(s)-3:] == " ok" }) {
				t.Errorf("%q without a login", asked)
			}
		}
	})
}

// TestInboundSequenceWraps: the console's numbers go on past the end of the
// circle, without 0, and nothing from before it is taken again.
func TestInboundSequenceWraps(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Operator)
	ask := func(seq uint32) bool {
		return len(c.send(c.seal(seq, 0xC0, request(byte(seq)&0x3F, command.App, 0x01)))) > 0
	}
	for _, step := range []struct {
		seq  uint32
		want bool
	}{
		{0x7FFFFFFF, true}, {0xFFFFFFFD, true}, {0xFFFFFFFF, true}, {0, false}, {1, true}, {2, true},
		{0xFFFFFFFF, false}, {0xFFFFFFFE, true}, {0xFFFFFFFE, false}, {1, false}, {0xFFFFFF00, false}, {3, true},
	} {
		if got := ask(step.seq); got != step.want {
			t.Errorf("sequence %08X: answered: %v, want %v", step.seq, got, step.want)
		}
	}
}

// TestSOLAttacks: what must not reach the host's keyboard.
func TestSOLAttacks(t *testing.T) {
	b := newOn(t)
	stop := b.run(t)
	defer stop()
	c := b.console(t, here).at(command.Operator)
	other := b.console(t, "192.0.2.2:1").at(command.Operator)
	if code := c.activate(1); code != command.OK {
		t.Fatalf("Activate Payload = %v", code)
	}
	typed := func(x *console, seq uint32, n byte) []byte { return x.seal(seq, 0xC1, []byte{n, 0, 0, 0, 'a' + n}) }
	once := typed(c, 100, 1)
	clear := plain(0x01, []byte{2, 0, 0, 0, 'x'})
	copy(clear[6:], le32(c.id))
	copy(clear[10:], le32(101))
	broken := typed(c, 102, 3)
	broken[len(broken)-1] ^= 1
	for _, p := range [][]byte{once, once, clear, c.frame(103, 0x41, []byte{4, 0, 0, 0, 'x'}), broken, typed(other, 100, 5), c.seal(104, 0xC1, []byte{6, 0, 0}), once} {
		c.send(p)
	}
	for end := time.Now().Add(5 * time.Second); len(b.serial.typed()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	c.send(typed(c, 200, 2))
	c.wait() // the answer to the first, which was held
	stop()
	if got := string(b.serial.typed()); got != "b" && got != "bc" {
		t.Errorf("typed %q, want nothing but b and c", got)
	}
}
