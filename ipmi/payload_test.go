package ipmi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/ipmi/command"
	"github.com/nitrino/nitrino/ipmi/sol"
)

// activate runs Activate Payload as ipmitool does.
func (c *console) activate(instance byte) command.Code {
	c.t.Helper()
	code, data := c.command(command.App, 0x48, 0x01, instance, 0xC6, 0, 0, 0)
	if want := []byte{0, 0, 0, 0, 255, 0, 255, 0}; code == command.OK && (len(data) != 12 || !bytes.Equal(data[:8], want) || !bytes.Equal(data[10:], []byte{0xFF, 0xFF})) {
		c.t.Errorf("Activate Payload answers % X", data)
	}
	return code
}

// serial sends a SOL packet and returns the answer to it at once.
func (c *console) serial(seq, ack, count, op byte, data string) []byte {
	c.t.Helper()
	c.seq++
	out := c.send(c.seal(c.seq, 0xC1, append([]byte{seq, ack, count, op}, data...)))
	if len(out) == 0 {
		return nil
	}
	return c.solPacket(out)
}

// solPacket opens a SOL packet of the BMC.
func (c *console) solPacket(p []byte) []byte {
	c.t.Helper()
	if p[5] != 0xC1 {
		c.t.Fatalf("% X is no SOL packet", p)
	}
	return c.unseal(p)
}

func TestSOL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOn(t)
		defer b.run(t)()
		c := b.console(t, here).at(command.Operator)
		if code := c.activate(1); code != command.OK {
			t.Fatalf("Activate Payload = %v", code)
		}
		b.serial.say([]byte("login: "))
		p := c.solPacket(c.wait())
		if want := "\x01\x00\x00\x00login: "; string(p) != want {
			t.Errorf("packet %q, want %q", p, want)
		}
		if got := c.solPacket(c.wait()); !bytes.Equal(got, p) {
			t.Errorf("repeated as %q", got)
		}
		if got := c.serial(0, 1, 7, 0, ""); got != nil {
			t.Errorf("an acknowledgement is answered % X", got)
		}
		if got := c.serial(1, 0, 0, 0, "root\r"); got != nil {
			t.Errorf("answered % X before it is written", got)
		}
		if got, want := c.solPacket(c.wait()), []byte{0, 1, 5, 0}; !bytes.Equal(got, want) {
			t.Errorf("answer % X, want % X", got, want)
		}
		if got, want := c.serial(2, 0, 0, 0x10, "x"), []byte{0, 2, 1, 0}; !bytes.Equal(got, want) {
			t.Errorf("answer % X, want % X", got, want)
		}
		synctest.Wait()
		if got := string(b.serial.typed()); got != "root\rx" || b.serial.breaks != 1 {
			t.Errorf("typed %q and %d breaks", got, b.serial.breaks)
		}
		b.host.change(func(f *fakeHost) { f.status.State = host.StateOff })
		time.Sleep(time.Second)
		if got, want := c.solPacket(c.wait()), []byte{0, 0, 0, 0x60}; !bytes.Equal(got, want) {
			t.Errorf("status % X, want % X", got, want)
		}
		code, _ := c.command(command.App, 0x49, 0x01, 1, 0, 0, 0, 0)
		if got := c.serial(4, 0, 0, 0, "y"); code != command.OK || got != nil {
			t.Errorf("Deactivate Payload = %v, then % X", code, got)
		}
	})
}

// newOn is a BMC whose host is on.
func newOn(t testing.TB, change ...func(*Options, *machine)) *bmc {
	b := newBMC(t, change...)
	b.host.change(func(f *fakeHost) { f.status.State = host.StateOn })
	return b
}

func TestActivatePayload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOn(t)
		stopped := b.console(t, "192.0.2.1:1").at(command.Administrator)
		if code := stopped.activate(1); code != command.Busy {
			t.Errorf("without Run: %v, want %v", code, command.Busy)
		}
		defer b.run(t)()
		c := stopped
		for _, test := range []struct {
			data []byte
			want command.Code
		}{
			{[]byte{0x00, 1, 0xC0, 0, 0, 0}, command.InvalidField},
			{[]byte{0x02, 1, 0xC0, 0, 0, 0}, command.InvalidField},
			{[]byte{0x01, 0, 0xC0, 0, 0, 0}, command.InvalidField},
			{[]byte{0x01, 5, 0xC0, 0, 0, 0}, command.InvalidField},
			{[]byte{0x01, 1, 0x80, 0, 0, 0}, command.InvalidField},
			{[]byte{0x01, 1, 0x40, 0, 0, 0}, 0x84},
			{[]byte{0x01, 1, 0x00, 0, 0, 0}, 0x84},
			{[]byte{0x01, 1, 0xC0, 0, 0}, command.BadLength},
			{[]byte{0x01, 1, 0xC0, 0, 0, 0}, command.OK},
			{[]byte{0x01, 1, 0xC0, 0, 0, 0}, 0x80},
			{[]byte{0x01, 2, 0xC0, 0, 0, 0}, 0x80}, // one a session
		} {
			if code, _ := c.command(command.App, 0x48, test.data...); code != test.want {
				t.Errorf("Activate % X = %v, want %v", test.data, code, test.want)
			}
		}
		status := func() []byte {
			_, data := c.command(command.App, 0x4A, 1)
			return data
		}
		if got, want := status(), []byte{4, 1, 0}; !bytes.Equal(got, want) {
			t.Errorf("activation status % X, want % X", got, want)
		}
		reader := b.console(t, "192.0.2.1:2")
		reader.user, reader.password = "reader", "readers-secret"
		reader.login()
		if code := reader.activate(2); code != command.TooLow {
			t.Errorf("a reader: %v, want %v", code, command.TooLow)
		}
		b.accounts.set("operator", fakeUser{secret: "operators-secret", role: auth.Operator, access: auth.IPMIAccess{NoSOL: true}})
		operator := b.console(t, "192.0.2.1:3")
		operator.user, operator.password = "operator", "operators-secret"
		operator.at(command.Operator)
		if code := operator.activate(2); code != command.TooLow {
			t.Errorf("a user without SOL: %v, want %v", code, command.TooLow)
		}
		var more []*console
		for i := range 3 {
			m := b.console(t, fmt.Sprintf("192.0.2.1:%d", 10+i)).at(command.Operator)
			if code := m.activate(byte(i + 2)); code != command.OK {
				t.Errorf("instance %d: %v", i+2, code)
			}
			more = append(more, m)
		}
		last := b.console(t, "192.0.2.1:20").at(command.Operator)
		if code := last.activate(2); code != 0x80 {
			t.Errorf("an active instance: %v", code)
		}
		if code := last.activate(5); code != 0x82 {
			t.Errorf("with all active: %v", code)
		}
		if got, want := status(), []byte{4, 15, 0}; !bytes.Equal(got, want) {
			t.Errorf("activation status % X, want % X", got, want)
		}
		if _, data := last.command(command.App, 0x4B, 1, 3); len(data) != 12 || binary.LittleEndian.Uint32(data) != more[1].id || data[4] != 1 {
			t.Errorf("instance info % X, want session %08X", data, more[1].id)
		}
		// A reader may not end what is another's, the owner's own name may.
		if code, _ := reader.command(command.App, 0x49, 1, 1, 0, 0, 0, 0); code != command.TooLow {
			t.Errorf("a reader ends it: %v", code)
		}
		if code, _ := last.command(command.App, 0x49, 1, 3, 0, 0, 0, 0); code != command.OK {
			t.Errorf("its owner ends it from another session: %v", code)
		}
		words, last1 := more[1].solPacket(more[1].wait()), more[1].solPacket(more[1].wait())
		if want := "\x01\x00\x00\x00\r\n[SOL ends: deactivated by admin from 192.0.2.1 by ipmi]\r\n"; string(words) != want {
			t.Errorf("words %q, want %q", words, want)
		}
		if want := []byte{0, 0, 0, 0x50}; !bytes.Equal(last1, want) {
			t.Errorf("status % X, want % X", last1, want)
		}
		if code, _ := last.command(command.App, 0x49, 1, 3, 0, 0, 0, 0); code != 0x80 {
			t.Errorf("twice: %v", code)
		}
		// A session's end deactivates.
		more[0].command(command.App, 0x3C, le32(more[0].id)...)
		if got, want := status(), []byte{4, 9, 0}; !bytes.Equal(got, want) {
			t.Errorf("activation status % X, want % X", got, want)
		}
		synctest.Wait()
		if len(more[0].mail) != 0 {
			t.Errorf("who closed the session is told % X", <-more[0].mail)
		}
		last.command(command.App, 0x3B, byte(command.Administrator))
		last.command(command.App, 0x3C, le32(more[2].id)...)
		more[2].solPacket(more[2].wait())
		if want, got := []byte{0, 0, 0, 0x50}, more[2].solPacket(more[2].wait()); !bytes.Equal(got, want) {
			t.Errorf("status % X, want % X", got, want)
		}
		// Disabled: told, and 4E says so.
		if code, _ := last.command(command.Transport, 0x21, 1, 1, 0); code != command.OK {
			t.Errorf("disabling: %v", code)
		}
		if code := last.activate(1); code != 0x81 {
			t.Errorf("disabled: %v", code)
		}
		if _, data := last.command(command.App, 0x4E, 0x0E); !bytes.Equal(data, []byte{1, 0, 0x3F, 0, 0, 0, 0, 0}) {
			t.Errorf("payload support % X", data)
		}
	})
}

// TestWhoOnlyWatches: where the owner lets readers in, they see and do not type.
func TestWhoOnlyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOn(t)
		defer b.run(t)()
		admin := b.console(t, "192.0.2.1:1").at(command.Administrator)
		if code, _ := admin.command(command.Transport, 0x21, 1, 2, 0xC2); code != command.OK {
			t.Fatalf("SOL at USER: %v", code)
		}
		c := b.console(t, here)
		c.user, c.password = "reader", "readers-secret"
		c.login()
		if code := c.activate(1); code != command.OK {
			t.Fatalf("Activate Payload = %v", code)
		}
		if got, want := c.serial(1, 0, 0, 0x10, "reboot\r"), []byte{0, 1, 7, 0}; !bytes.Equal(got, want) {
			t.Errorf("answer % X, want % X", got, want)
		}
		if got, want := c.solPacket(c.wait())[4:], "\r\n[your role may only watch; what you type is not sent]\r\n"; string(got) != want {
			t.Errorf("told %q, want %q", got, want)
		}
		if len(b.serial.typed()) != 0 || b.serial.breaks != 0 {
			t.Error("a reader typed")
		}
	})
}

func TestPayloadCommands(t *testing.T) {
	b := newBMC(t)
	bare := newBMC(t, func(_ *Options, m *machine) { m.console = nil })
	for _, test := range []struct {
		b    *bmc
		cmd  byte
		data []byte
		code command.Code
		want []byte
	}{
		{b, 0x4E, []byte{0x01}, command.OK, []byte{3, 0, 0x3F, 0, 0, 0, 0, 0}},
		{b, 0x4E, []byte{0x02}, command.InvalidField, nil},
		{b, 0x4F, []byte{0x0E, 0x00}, command.OK, []byte{0x10}},
		{b, 0x4F, []byte{0x0E, 0x01}, command.OK, []byte{0x10}},
		{b, 0x4F, []byte{0x0E, 0x15}, command.OK, []byte{0x10}},
		{b, 0x4F, []byte{0x0E, 0x16}, 0x80, nil},
		{b, 0x4F, []byte{0x03, 0x00}, command.InvalidField, nil},
		{b, 0x4A, []byte{0x01}, command.OK, []byte{sol.Instances, 0, 0}},
		{b, 0x4A, []byte{0x00}, command.InvalidField, nil},
		{b, 0x4B, []byte{0x01, 1}, command.OK, []byte{0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}},
		{b, 0x4B, []byte{0x01, 0}, command.InvalidField, nil},
		{b, 0x4B, []byte{0x01, 5}, command.InvalidField, nil},
		{b, 0x4B, []byte{0x00, 1}, command.InvalidField, nil},
		{b, 0x49, []byte{0x01, 1, 0, 0, 0, 0}, 0x80, nil},
		{b, 0x49, []byte{0x01, 0, 0, 0, 0, 0}, command.InvalidField, nil},
		{b, 0x49, []byte{0x00, 1, 0, 0, 0, 0}, command.InvalidField, nil},
		{b, 0x55, []byte{0x01, 1, 1}, 0x83, nil},
		{b, 0x55, []byte{0x00, 0, 0}, 0x81, nil},
		{b, 0x55, []byte{0x00, 0, 1}, command.OK, nil},
		{b, 0x55, []byte{0x00, 0, 2}, command.OK, nil},
		{b, 0x55, []byte{0x00, 0, 3}, command.InvalidField, nil},
		{b, 0x55, []byte{0x02, 0, 1}, command.InvalidField, nil},
		{bare, 0x4E, []byte{0x01}, command.OK, []byte{1, 0, 0x3F, 0, 0, 0, 0, 0}},
		{bare, 0x4F, []byte{0x0E, 0x01}, 0x80, nil},
		{bare, 0x48, []byte{0x01, 1, 0xC0, 0, 0, 0}, command.InvalidCommand, nil},
		{bare, 0x4A, []byte{0x01}, command.InvalidCommand, nil},
	} {
		c := test.b.console(t, here).at(command.Administrator)
		if code, data := c.command(command.App, test.cmd, test.data...); code != test.code || !bytes.Equal(data, test.want) {
			t.Errorf("%02X % X = %v % X, want %v % X", test.cmd, test.data, code, data, test.code, test.want)
		}
	}
}

// TestSOLKeepsTheSession: SOL's packets count as use, and nothing else keeps it.
func TestSOLKeepsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOn(t)
		defer b.run(t)()
		c := b.console(t, here).at(command.Operator)
		c.activate(1)
		for i := range byte(5) {
			time.Sleep(50 * time.Second)
			b.expire(time.Now())
			if got := c.serial(i+1, 0, 0, 0, ""); got == nil {
				t.Fatalf("the session ended in spite of SOL, %d", i)
			}
		}
		time.Sleep(61 * time.Second)
		b.expire(time.Now())
		if b.sol.Active(1) != nil || b.table.count != 0 {
			t.Error("an idle session lives")
		}
		c.solPacket(c.wait())
		if got, want := c.solPacket(c.wait()), []byte{0, 0, 0, 0x50}; !bytes.Equal(got, want) {
			t.Errorf("status % X, want % X", got, want)
		}
	})
}

// TestPrivilegeIsTold: a raise above USER, and nothing else.
func TestPrivilegeIsTold(t *testing.T) {
	b := newBMC(t)
	c := b.console(t, here).login()
	for _, p := range []byte{2, 3, 3, 0, 2, 4, 3, 4} {
		c.command(command.App, 0x3B, p)
	}
	reader := b.console(t, "192.0.2.9:1")
	reader.user, reader.password = "reader", "readers-secret"
	reader.login()
	reader.command(command.App, 0x3B, 4)
	if got, want := b.accounts.raises, []string{"ipmi 192.0.2.1 admin OPERATOR", "ipmi 192.0.2.1 admin ADMINISTRATOR", "ipmi 192.0.2.1 admin ADMINISTRATOR"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// TestUsersSessionLimit is Set User Access's limit of sessions at once.
func TestUsersSessionLimit(t *testing.T) {
	b := newBMC(t)
	b.accounts.set("operator", fakeUser{secret: "operators-secret", role: auth.Operator, access: auth.IPMIAccess{SessionLimit: 2}})
	var first *console
	for i, want := range []byte{statusOK, statusOK, statusNoResources} {
		c := b.console(t, fmt.Sprintf("192.0.2.1:%d", 1000+i))
		c.user, c.password = "operator", "operators-secret"
		c.open()
		c.rakp1()
		if r := c.rakp3(); r[1] != want {
			t.Errorf("session %d: status %02Xh, want %02Xh", i+1, r[1], want)
		}
		if i == 0 {
			first = c
		}
	}
	first.command(command.App, 0x3C, le32(first.id)...)
	c := b.console(t, "192.0.2.1:2000")
	c.user, c.password = "operator", "operators-secret"
	c.login()
}

// TestSixtyFourSessions: all can be there, and the counts that have six bits
// say 63.
func TestSixtyFourSessions(t *testing.T) {
	b := newBMC(t, func(o *Options, _ *machine) { o.Config.LoginsPerSecond = 10000 })
	var all []*console
	for i := range 64 {
		all = append(all, b.console(t, fmt.Sprintf("192.0.2.1:%d", 1000+i)).login())
	}
	for i, c := range all {
		_, info := c.command(command.App, 0x3D, 0)
		if len(info) < 3 || int(info[0]) != i+1 || info[1] != 63 || info[2] != 63 {
			t.Errorf("session %d: info % X", i+1, info)
		}
	}
	if _, info := all[0].command(command.App, 0x42, 1); len(info) < 4 || info[3] != 0x80|63 {
		t.Errorf("channel info % X", info)
	}
	if err := b.table.check(); err != nil || b.table.count != 64 {
		t.Errorf("%d sessions; %v", b.table.count, err)
	}
}

// TestSilentConsole: the session's sequence does not run away from a console
// that hears nothing, and goes on when it is heard.
func TestSilentConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newOn(t)
		defer b.run(t)()
		c := b.console(t, here).at(command.Operator)
		c.activate(1)
		b.serial.say([]byte("x"))
		var seqs []uint32
		take := func(n int) {
			for range n {
				p := c.wait()
				if got := c.solPacket(p); string(got) != "\x01\x00\x00\x00x" {
					t.Errorf("packet % X", got)
				}
				h, _ := parseSession(p[rmcpHeaderLen:])
				seqs = append(seqs, h.seq)
			}
		}
		take(12)
		c.command(command.App, 0x01)
		take(1)
		first := seqs[0]
		for i := range seqs {
			seqs[i] -= first
		}
		if want := []uint32{0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 9}; !slices.Equal(seqs, want) {
			t.Errorf("sequences %d, want %d", seqs, want)
		}
	})
}

// FuzzSOL has a console whose session is genuine send SOL packets that are not.
func FuzzSOL(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 'x'})
	f.Add([]byte{0, 1, 1, 0x40})
	f.Add([]byte{0xF2, 0xFF, 0xFF, 0xFF})
	b := newOn(f)
	f.Cleanup(b.run(f))
	c := b.console(f, here).at(command.Operator)
	if code := c.activate(1); code != command.OK {
		f.Fatalf("Activate Payload = %v", code)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 600 {
			return
		}
		c.t = t
		for len(c.mail) > 0 { // a carrier that is full loses packets
			<-c.mail
		}
		c.seq++
		if out := c.send(c.seal(c.seq, 0xC1, p)); len(out) > 0 {
			if got := c.solPacket(out); len(got) != 4 || got[0] != 0 || got[1] == 0 || got[1] != p[0]&0x0F {
				t.Errorf("% X is answered % X", p, got)
			}
		}
	})
}
