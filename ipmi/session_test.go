package ipmi

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
)

func addrPort(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 623)
}

func TestWindow(t *testing.T) {
	const top = 0xFFFFFFFF
	for _, test := range []struct {
		name string
		seqs []uint32
		want []bool
	}{
		{"in order", []uint32{1, 2, 3, 4}, []bool{true, true, true, true}},
		{"ipmitool begins at 3", []uint32{3, 4, 1, 2, 1}, []bool{true, true, true, true, false}},
		{"zero", []uint32{0, 1, 0}, []bool{false, true, false}},
		{"twice", []uint32{5, 5}, []bool{true, false}},
		{"other order", []uint32{10, 8, 9, 8, 10, 11}, []bool{true, true, true, false, false, true}},
		{"edge of the window", []uint32{100, 37, 36, 37}, []bool{true, true, false, false}},
		{"far jump", []uint32{1, 1000000, 1000000 - 63, 1000000 - 64, 1}, []bool{true, true, true, false, false}},
		{"jump of exactly 64", []uint32{1, 65, 2, 1}, []bool{true, true, true, false}},
		{"before the first", []uint32{top, top - 5, 1}, []bool{false, false, true}},
		{"wrap", []uint32{0x7FFFFFFF, top - 1, top, 0, 1, 2, top, top - 2}, []bool{true, true, true, false, true, true, false, true}},
		{"never back", []uint32{0x7FFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF}, []bool{true, true, false}},
	} {
		w := newWindow()
		for i, seq := range test.seqs {
			got := w.fresh(seq)
			if got != test.want[i] {
				t.Errorf("%s: fresh(%d), number %d, = %v, want %v", test.name, seq, i, got, test.want[i])
			}
			if got {
				last := w.last
				w.take(seq)
				if int32(w.last-last) < 0 {
					t.Errorf("%s: the window went from %d back to %d", test.name, last, w.last)
				}
			}
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add(uint32(0), []byte{1, 1, 2, 255, 3, 200, 64, 65})
	f.Add(uint32(0xFFFFFFF0), []byte{1, 8, 8, 8, 1, 255, 3, 200, 64, 65})
	f.Fuzz(func(t *testing.T, start uint32, steps []byte) {
		w := newWindow()
		if start != 0 && w.fresh(start) {
			w.take(start)
		}
		seen := map[uint32]bool{0: true, w.last: true}
		seq := w.last
		for _, s := range steps {
			seq += uint32(int8(s))
			got := w.fresh(seq)
			if got && seen[seq] {
				t.Fatalf("%d was taken twice", seq)
			}
			if got {
				w.take(seq)
				seen[seq] = true
			}
			seq = w.last
		}
	})
}

func TestOutboundSequenceSkipsZero(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).login()
	b.table.byID[c.id].sent = 0xFFFFFFFE
	var got []uint32
	for range 3 {
		out := c.send(c.next(request(1, command.App, 0x01)))
		h, ok := parseSession(out[rmcpHeaderLen:])
		if !ok {
			t.Fatal("no answer")
		}
		got = append(got, h.seq)
	}
	if want := []uint32{0xFFFFFFFF, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("sequences %X, want %X", got, want)
	}
}

// TestDropped has what a session must not even answer.
func TestDropped(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Operator)
	cycle := request(5, command.Chassis, 0x02, 2)
	clearText := func(kind byte) []byte {
		p := plain(kind, cycle)
		copy(p[6:], le32(c.id))
		copy(p[10:], le32(100))
		return p
	}
	flip := func(at int) []byte {
		p := c.seal(101, 0xC0, cycle)
		if at < 0 {
			at += len(p)
		}
		p[at] ^= 1
		return p
	}
	other := func(f func(c *console)) []byte {
		x := *c
		f(&x)
		return x.seal(102, 0xC0, cycle)
	}
	// sealed is a packet that is right but for one byte before the AuthCode.
	sealed := func(seq uint32, fromEnd int, value byte) []byte {
		p := c.seal(seq, 0xC0, cycle)
		at := len(p) - c.codeLen()
		p[at-fromEnd] = value
		copy(p[at:], c.mac(c.k1, p[4:at])[:c.codeLen()])
		return p
	}
	long := request(5, command.App, 0x01, make([]byte, 8)...) // 15 bytes
	for _, test := range []struct {
		name   string
		packet []byte
	}{
		{"next header, with its AuthCode", sealed(120, 1, 6)},
		{"integrity pad of another length, with its AuthCode", sealed(121, 2, 9)},
		{"says authenticated only, and is encrypted, too", c.seal(122, 0x40, cycle)},
		{"confidentiality pad of 16, in order", c.frame(123, 0xC0, c.encrypt(append(long, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16)))},
		{"clear text", clearText(0x00)},
		{"says encrypted and authenticated, and is not", clearText(0xC0)},
		{"authenticated, not encrypted", c.frame(103, 0x40, cycle)},
		{"encrypted, not authenticated", c.seal(104, 0x80, cycle)},
		{"AuthCode", flip(-1)}, {"next header", flip(-17)}, {"ciphertext", flip(40)}, {"IV", flip(17)}, {"sequence", flip(10)}, {"length", flip(14)}, {"payload type", flip(5)},
		{"another key", other(func(x *console) { x.k1 = slices.Repeat([]byte{1}, 32) })},
		{"another session", other(func(x *console) { x.id ^= 1 })},
		{"no session", other(func(x *console) { x.id = 0 })},
		{"unknown payload", c.seal(105, 0xC0|0x3F, cycle)},
		{"confidentiality pad", c.frame(106, 0xC0, c.encrypt(append(slices.Clone(cycle), 9, 9, 9, 9, 9, 9, 6)[:16]))},
		{"confidentiality pad of 16", c.frame(107, 0xC0, c.encrypt(slices.Repeat([]byte{16}, 32)))},
		{"first checksum", c.seal(108, 0xC0, func() []byte { m := slices.Clone(cycle); m[2]++; return m }())},
		{"second checksum", c.seal(109, 0xC0, func() []byte { m := slices.Clone(cycle); m[len(m)-1]++; return m }())},
		{"another responder", c.seal(110, 0xC0, func() []byte { m := slices.Clone(cycle); m[0] += 2; m[2] -= 2; return m }())},
		{"requester that is no software", c.seal(111, 0xC0, func() []byte { m := slices.Clone(cycle); m[3]--; m[len(m)-1]++; return m }())},
		{"response", c.seal(112, 0xC0, request(5, command.Chassis+1, 0x02, 2))},
		{"empty message", c.seal(113, 0xC0, nil)},
		{"cut off", c.seal(114, 0xC0, cycle)[:40]},
	} {
		if out := c.send(test.packet); len(out) != 0 {
			t.Errorf("%s: answered % X", test.name, out)
		}
	}
	c.seq = 200
	if code, _ := c.command(command.App, 0x01); code != command.OK {
		t.Errorf("the session is gone: %v", code)
	}
	c.w.tasks.Wait()
	if got := b.host.calls(); len(got) != 0 {
		t.Errorf("the host was asked %q", got)
	}
}

// TestSameCommandAgain: a console that sends one command over and over comes back
// to a requester's sequence after 64, and that is no repetition.
func TestSameCommandAgain(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).at(command.Administrator)
	for i := range 200 {
		if out := c.send(c.next(request(byte(i%64), command.App, 0x03))); len(out) == 0 {
			t.Fatalf("Warm Reset %d is not answered", i)
		}
	}
	if got := len(b.resets); got != 200 {
		t.Errorf("it ran %d times, want 200", got)
	}
}

// TestRetriedCycleRunsOnce is ipmitool's retry: a new packet with the same
// requester's sequence.
func TestRetriedCycleRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBMC(t)
		c := b.console(t, here).at(command.Operator)
		retry := func(rqSeq byte, cmd byte, data ...byte) (command.Code, bool) {
			out := c.send(c.next(request(rqSeq, command.Chassis, cmd, data...)))
			if len(out) == 0 {
				synctest.Wait()
				select {
				case out = <-c.mail:
				default:
					return 0, false
				}
			}
			code, _ := c.response(c.unseal(out), rqSeq, command.Chassis, cmd)
			return code, true
		}
		runs := func(want int, when string) {
			t.Helper()
			if got := b.host.calls(); len(got) != want {
				t.Errorf("%s: the host was asked %d times, want %d: %q", when, len(got), want, got)
			}
		}
		hold := make(chan struct{})
		b.host.change(func(f *fakeHost) { f.hold = hold })
		if _, ok := retry(7, 0x02, 2); ok {
			t.Fatal("answered before the host did")
		}
		if _, ok := retry(7, 0x02, 2); ok {
			t.Error("a repetition was answered before the first")
		}
		// Meanwhile everything else goes on.
		if code, _ := c.command(command.App, 0x01); code != command.OK {
			t.Errorf("Get Device ID while a command waits = %v", code)
		}
		close(hold)
		synctest.Wait()
		if code, _ := c.response(c.unseal(c.wait()), 7, command.Chassis, 0x02); code != command.OK {
			t.Errorf("Chassis Control = %v", code)
		}
		runs(1, "first answer")
		time.Sleep(6 * time.Second)
		if code, ok := retry(7, 0x02, 2); !ok || code != command.OK {
			t.Errorf("repetition after 6 s = %v, %v", code, ok)
		}
		runs(1, "after the repetition")

		// Other data, another number or another command is a new one.
		retry(7, 0x02, 3)
		runs(2, "other data")
		retry(8, 0x02, 3)
		runs(3, "another number")
		retry(8, 0x01)
		retry(8, 0x02, 3)
		runs(4, "another command came between")
		time.Sleep(replyAge)
		retry(8, 0x02, 3)
		runs(5, "after a while")

		// Errors are repeated too.
		b.host.change(func(f *fakeHost) { f.err = host.ErrBusy })
		if code, _ := retry(9, 0x02, 2); code != command.Busy {
			t.Errorf("busy host = %v, want %v", code, command.Busy)
		}
		b.host.change(func(f *fakeHost) { f.err = nil })
		if code, _ := retry(9, 0x02, 2); code != command.Busy {
			t.Errorf("repetition = %v, want %v", code, command.Busy)
		}
		runs(6, "busy")
	})
}

func TestWaitingIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBMC(t)
		hold := make(chan struct{})
		b.host.change(func(f *fakeHost) { f.hold = hold })
		c := b.console(t, here).at(command.Operator)
		for i := range maxWaiting {
			if out := c.send(c.next(request(byte(i), command.Chassis, 0x04, byte(i)))); len(out) != 0 {
				t.Fatalf("command %d was answered", i)
			}
		}
		out := c.send(c.next(request(40, command.Chassis, 0x04, 40)))
		if code, _ := c.response(c.unseal(out), 40, command.Chassis, 0x04); code != command.Busy {
			t.Errorf("one more = %v, want %v", code, command.Busy)
		}
		close(hold)
		for range maxWaiting {
			c.unseal(c.wait())
		}
		if code, _ := c.command(command.Chassis, 0x04, 1); code != command.OK {
			t.Errorf("afterwards = %v", code)
		}
	})
}

func TestCloseSession(t *testing.T) {
	b := newBMC(t)
	admin := b.console(t, "192.0.2.1:1").at(command.Administrator)
	op := b.console(t, "192.0.2.1:2").at(command.Operator)
	login := b.console(t, "192.0.2.1:3")
	login.open()
	for _, test := range []struct {
		name string
		c    *console
		data []byte
		want command.Code
	}{
		{"operator, another's", op, le32(admin.id), command.TooLow},
		{"operator, nobody's", op, le32(1), command.TooLow},
		{"operator, by another's handle", op, []byte{0, 0, 0, 0, 1}, command.TooLow},
		{"administrator, nobody's", admin, le32(1), codeNoSuchSession},
		{"administrator, a login's", admin, le32(login.id), codeNoSuchSession},
		{"no such handle", admin, []byte{0, 0, 0, 0, 9}, codeNoSuchHandle},
		{"ID and handle", admin, append(le32(op.id), 1), command.BadLength},
		{"administrator, another's by handle", admin, []byte{0, 0, 0, 0, 2}, command.OK},
		{"own", admin, le32(admin.id), command.OK},
	} {
		if code, _ := test.c.command(command.App, 0x3C, test.data...); code != test.want {
			t.Errorf("%s: %v, want %v", test.name, code, test.want)
		}
	}
	if out := op.send(op.next(request(1, command.App, 0x01))); len(out) != 0 || b.table.count != 0 {
		t.Errorf("a closed session answers, %d sessions are counted", b.table.count)
	}
	// The answer was lost: the same command again gets it again, and no other.
	if out := admin.send(admin.next(request(admin.rqSeq, command.App, 0x3C, le32(admin.id)...))); len(out) == 0 {
		t.Error("a repeated Close Session is not answered")
	}
	if out := admin.send(admin.next(request(admin.rqSeq+1, command.App, 0x3C, le32(admin.id)...))); len(out) != 0 {
		t.Error("a closed session takes a new command")
	}
	if r := admin.rakp3(); r[1] != statusInvalidSession {
		t.Errorf("RAKP 3 of a closed session: status %02Xh, want %02Xh", r[1], statusInvalidSession)
	}
}

func TestSessionInfo(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, "192.0.2.1:258").at(command.Administrator)
	six := b.console(t, "[2001:db8::1]:7")
	six.user, six.password = "reader", "readers-secret"
	six.login()
	own := []byte{1, 63, 2, 2, 4, 0x11, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 2, 1}
	second := []byte{2, 63, 2, 4, 2, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0}
	none := []byte{0, 63, 2}
	for _, test := range []struct {
		name string
		data []byte
		code command.Code
		want []byte
	}{
		{"own", []byte{0}, command.OK, own},
		{"first", []byte{1}, command.OK, own},
		{"second", []byte{2}, command.OK, second},
		{"third", []byte{3}, command.OK, none},
		{"by handle", []byte{0xFE, 2}, command.OK, second},
		{"no such handle", []byte{0xFE, 200}, command.OK, none},
		{"by ID", append([]byte{0xFF}, le32(six.id)...), command.OK, second},
		{"no such ID", append([]byte{0xFF}, le32(1)...), command.OK, none},
		{"short", []byte{0xFE}, command.BadLength, nil},
		{"long", []byte{1, 2}, command.BadLength, nil},
	} {
		code, got := c.command(command.App, 0x3D, test.data...)
		if code != test.code || !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, % X, want %v, % X", test.name, code, got, test.code, test.want)
		}
	}
}

func TestSessionFollowsItsConsole(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).login()
	c.w.from.addr = netip.MustParseAddrPort("192.0.2.1:4444") // a NAT has forgotten it
	if code, got := c.command(command.App, 0x3D, 0); code != command.OK || fmt.Sprint(got[16:]) != fmt.Sprint([]byte{0x5C, 0x11}) {
		t.Errorf("Get Session Info = %v, % X", code, got)
	}
}

func FuzzPacket(f *testing.F) {
	b := newBMC(f)
	c := b.console(f, here).login()
	f.Add(c.next(request(1, command.App, 0x01)))
	f.Add(plain(0x10, openRequestOf(1, 4, 7, algorithms(17))))
	for _, g := range golden {
		f.Add(unhex(f, g.request))
		f.Add(plain(0x12, unhex(f, g.rakp1)))
		f.Add(plain(0x14, unhex(f, g.rakp3)))
	}
	f.Add(unhex(f, "0600ff07000000000000000000092018c88100388e04b5"))
	f.Add(unhex(f, "0600ff06000011be802a0000"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > maxPacket {
			return
		}
		c.w.handle(p)
	})
}

// FuzzSealed puts any payload into a genuine packet.
func FuzzSealed(f *testing.F) {
	b := newBMC(f)
	b.logins = newLimiter(1e9, 1e9)
	c := b.console(f, here).at(command.Administrator)
	f.Add(byte(0), []byte{})
	f.Add(byte(0), request(1, command.App, 0x01))
	f.Add(byte(0), request(1, command.Group, 0x00, 0xDC))
	f.Add(byte(0), request(1, command.App, 0x3D, 0xFE, 1))
	f.Add(byte(0), request(1, command.Chassis, 0x09, 5, 0, 0))
	f.Add(byte(1), []byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if len(body) > 900 {
			return
		}
		c.t = t
		if b.table.count == 0 { // it closed its own session
			c.at(command.Administrator)
		}
		if out := c.send(c.next(body)); len(out) > 0 {
			c.unseal(out)
		}
		c.send(c.frame(c.seq+1, 0xC0|kind&0x3F, body))
		c.seq++
		for len(c.mail) > 0 {
			<-c.mail
		}
	})
}
