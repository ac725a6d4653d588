package iscsi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi/login"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
)

// stallWrite has a write wait in the disk, and returns its tag.
func (i *initiator) stallWrite(b *bed, lba int, data []byte) uint32 {
	i.t.Helper()
	itt := i.command(final|wants, rw(true, lba, len(data)/512), len(data), data)
	select {
	case <-b.disk.stalled:
	case <-time.After(10 * time.Second):
		i.t.Fatal("the write does not come to the disk")
	}
	return itt
}

// quiet makes sure that nothing comes.
func (i *initiator) quiet() {
	i.t.Helper()
	if err := i.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		i.t.Fatal(err)
	}
	if a, err := i.read(); err == nil {
		i.t.Fatalf("got %v, want nothing", a)
	}
	if err := i.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		i.t.Fatal(err)
	}
}

// ping sends a NOP-Out and waits for the answer.
func (i *initiator) ping() {
	i.t.Helper()
	h := i.request(pdu.OpNOPOut, final)
	i.write(h, []byte("are you there"))
	if a := i.want(pdu.OpNOPIn); a.h.ITT() != h.ITT() || a.h.TTT() != pdu.NoTag || string(a.data) != "are you there" {
		i.t.Fatalf("got %v for a NOP-Out", a)
	}
}

// manage sends a task management function.
func (i *initiator) manage(f pdu.Function, tag, refCmdSN uint32) {
	i.t.Helper()
	h := i.request(pdu.OpTaskManagement, final|byte(f))
	h[0] |= 0x40 // immediate
	i.cmdSN--
	binary.BigEndian.PutUint32(h[20:], tag)
	binary.BigEndian.PutUint32(h[32:], refCmdSN)
	i.write(h, nil)
}

func (i *initiator) managed() byte {
	i.t.Helper()
	a := i.want(pdu.OpTaskManagementResponse)
	return a.h[2]
}

// TestStalled has a disk that does not answer: NOPs are answered all the same, and
// no write lands after its abort was answered.
func TestStalled(t *testing.T) {
	for _, tt := range []struct {
		name     string
		function pdu.Function
	}{
		{"abort task", pdu.AbortTask}, {"abort task set", pdu.AbortTaskSet}, {"clear task set", pdu.ClearTaskSet},
		{"logical unit reset", pdu.LogicalUnitReset}, {"target warm reset", pdu.TargetWarmReset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, true, Options{})
			i := b.login(t, 1, nil).ready()
			letGo := b.disk.hold()
			defer letGo()
			itt := i.stallWrite(b, 0, pattern(4096, 1))
			waiting := i.command(final|wants, rw(true, 8, 4096), 2<<20, make([]byte, 262144))
			i.want(pdu.OpR2T)
			i.want(pdu.OpR2T)
			i.ping()
			i.manage(tt.function, itt, 0)
			i.ping()
			i.quiet()
			letGo()
			if r := i.managed(); r != pdu.FunctionComplete {
				t.Errorf("response %d", r)
			}
			landed := b.disk.content(0, 4096)
			if tt.function == pdu.AbortTask {
				i.manage(pdu.AbortTask, waiting, 0)
				if r := i.managed(); r != pdu.FunctionComplete {
					t.Errorf("response %d of the abort of a command that waits for data", r)
				}
			}
			i.ready()
			if !bytes.Equal(b.disk.content(0, 4096), landed) {
				t.Error("something landed after the answer")
			}
		})
	}
}

func TestTaskManagement(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	i.manage(pdu.AbortTask, 9999, i.cmdSN-1)
	if r := i.managed(); r != pdu.TaskDoesNotExist {
		t.Errorf("response %d for a task that is over", r)
	}
	// One that has not come, and never will (section 11.6.1).
	h := i.request(pdu.OpTaskManagement, final|byte(pdu.AbortTask))
	h[0] |= 0x40
	binary.BigEndian.PutUint32(h[20:], 9999)
	binary.BigEndian.PutUint32(h[32:], i.cmdSN-1)
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	i.write(h, nil)
	if r := i.managed(); r != pdu.FunctionComplete {
		t.Errorf("response %d for a task that has not come", r)
	}
	i.ready()
	i.manage(pdu.TaskReassign, 1, 0)
	if r := i.managed(); r != pdu.ReassignNotSupported {
		t.Errorf("response %d for TASK REASSIGN", r)
	}
	i.manage(100, 1, 0)
	if r := i.managed(); r != pdu.FunctionNotSupported {
		t.Errorf("response %d for a reserved function", r)
	}
	other := b.login(t, 2, nil).ready()
	i.manage(pdu.TargetColdReset, 0, 0)
	if r := i.managed(); r != pdu.FunctionComplete {
		t.Errorf("response %d for TARGET COLD RESET", r)
	}
	i.closed()
	other.closed()
}

// TestAfterReset sends commands after a reset that has to wait for a write: the reset
// concerns what came before it only.
func TestAfterReset(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	letGo := b.disk.hold()
	defer letGo()
	i.stallWrite(b, 0, pattern(512, 1))
	i.manage(pdu.LogicalUnitReset, 0, 0)
	reset := i.itt
	if got, want := i.sense(i.command(final, make([]byte, 6), 0, nil)), [3]byte{6, 0x29, 3}; got != want {
		t.Errorf("got sense %x, want %x", got, want)
	}
	after := i.stallWrite(b, 8, pattern(512, 2))
	letGo()
	var answers []pdu.Opcode
	for range 2 {
		a := i.next()
		answers = append(answers, a.op())
		if want := map[pdu.Opcode]uint32{pdu.OpSCSIResponse: after, pdu.OpTaskManagementResponse: reset}[a.op()]; a.h.ITT() != want || a.h[3] != 0 {
			t.Errorf("got %v, want a good answer to task %d", a, want)
		}
	}
	if answers[0] == answers[1] {
		t.Errorf("got answers %v, want one to each", answers)
	}
	if !bytes.Equal(b.disk.content(8*512, 512), pattern(512, 2)) {
		t.Error("the write after the reset is not there")
	}
}

// TestColdReset waits for a write of another session: nothing is answered before all
// has ended, and nothing is done that was sent after it.
func TestColdReset(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	other := b.login(t, 2, nil).ready()
	letGo := b.disk.hold()
	defer letGo()
	other.stallWrite(b, 0, pattern(512, 1))
	i.manage(pdu.TargetColdReset, 0, 0)
	other.closed()
	i.command(final|wants, rw(true, 8, 1), 512, pattern(512, 2))
	if err := i.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if a, err := i.read(); err == nil {
		t.Errorf("got %v before the write had ended", a)
	}
	if err := i.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	letGo()
	if r := i.managed(); r != pdu.FunctionComplete {
		t.Errorf("response %d", r)
	}
	i.closed()
	if !bytes.Equal(b.disk.content(8*512, 512), make([]byte, 512)) {
		t.Error("a write after the reset was done")
	}
}

// TestResetByAnother ends the commands of one initiator by another's reset: the one
// that waits for data does so no more, and the window opens again.
func TestResetByAnother(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, words{"InitialR2T": "Yes"}).ready()
	other := b.login(t, 2, nil).ready()
	for range maxWindow {
		i.command(final|wants, rw(true, 0, 1), 512, nil)
		i.want(pdu.OpR2T)
	}
	if n := i.maxCmdSN - i.cmdSN + 1; n != 0 {
		t.Fatalf("the window has room for %d commands, want 0", n)
	}
	i.command(final, make([]byte, 6), 0, nil) // outside: ignored
	i.cmdSN--
	other.manage(pdu.LogicalUnitReset, 0, 0)
	if r := other.managed(); r != pdu.FunctionComplete {
		t.Errorf("response %d", r)
	}
	a := i.want(pdu.OpNOPIn)
	if a.h.TTT() != pdu.NoTag {
		t.Errorf("got %v, want a NOP-In without a tag", a)
	}
	// The commands end one by one: a request can close the window again meanwhile.
	for range maxWindow {
		itt := i.command(final, make([]byte, 6), 0, nil)
		a := i.next()
		for ; a.op() == pdu.OpNOPIn && a.h.TTT() == pdu.NoTag; a = i.next() {
		}
		if a.op() != pdu.OpSCSIResponse || a.h.ITT() != itt {
			t.Fatalf("got %v, want the response to %d", a, itt)
		}
		if a.h[3] == scsi.StatusGood && i.maxCmdSN-i.cmdSN+1 == maxWindow {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("the window does not open")
}

// TestOrder sends commands in the wrong order, and outside of the window.
func TestOrder(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	sn := i.cmdSN
	write := func(cmdSN uint32, seed uint64) uint32 {
		i.cmdSN = cmdSN
		return i.command(final|wants, rw(true, 0, 1), 512, pattern(512, seed))
	}
	last := write(sn+2, 3)
	middle := write(sn+1, 2)
	write(sn-1, 9)         // over
	write(sn+maxWindow, 9) // too far
	i.quiet()
	first := write(sn, 1)
	i.good(first)
	i.good(middle)
	i.good(last)
	if !bytes.Equal(b.disk.content(0, 512), pattern(512, 3)) {
		t.Error("the writes were not made in their order")
	}
	i.cmdSN = sn + 3
	i.ready()
	if i.last.h.ExpCmdSN() != i.cmdSN {
		t.Errorf("ExpCmdSN %d, want %d", i.last.h.ExpCmdSN(), i.cmdSN)
	}
}

func TestRejects(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*pdu.Header)
		want   pdu.Reason
	}{
		{"an unknown opcode", func(h *pdu.Header) { h[0] = 0x1c }, pdu.ReasonCommandNotSupported},
		{"SNACK", func(h *pdu.Header) { h[0] = byte(pdu.OpSNACK) }, pdu.ReasonSNACK},
		{"a login", func(h *pdu.Header) { h[0] = byte(pdu.OpLogin) }, pdu.ReasonProtocolError},
		{"a command's attribute", func(h *pdu.Header) { h[0], h[1] = byte(pdu.OpSCSICommand), 0x87 }, pdu.ReasonInvalidField},
		{"a reserved logout", func(h *pdu.Header) { h[0], h[1] = byte(pdu.OpLogout), 0x83 }, pdu.ReasonInvalidField},
		{"a text of nobody", func(h *pdu.Header) { h[0], h[1] = byte(pdu.OpText), 0x80; h[23] = 1 }, pdu.ReasonProtocolError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, true, Options{})
			i := b.login(t, 1, nil).ready()
			h := i.request(pdu.OpNOPOut, final)
			numbered := tt.name != "an unknown opcode" && tt.name != "SNACK" && tt.name != "a login"
			tt.change(&h)
			i.write(h, nil)
			a := i.want(pdu.OpReject)
			if pdu.Reason(a.h[2]) != tt.want || !bytes.Equal(a.data, h[:]) {
				t.Errorf("got %v, want reason %#x and the header", a, tt.want)
			}
			if !numbered {
				i.cmdSN--
			}
			i.ready()
		})
	}
	t.Run("a task tag in use", func(t *testing.T) {
		b := newBed(t, true, Options{})
		i := b.login(t, 1, words{"InitialR2T": "Yes"}).ready()
		itt := i.command(final|wants, rw(true, 0, 1), 512, nil)
		ttt := i.asked()
		i.itt--
		i.command(final|reads, rw(false, 0, 1), 512, nil)
		if a := i.want(pdu.OpReject); pdu.Reason(a.h[2]) != pdu.ReasonTaskInProgress {
			t.Errorf("got %v", a)
		}
		i.dataOut(itt, ttt, 0, 0, true, make([]byte, 512))
		i.good(itt)
	})
}

// TestBroken breaks what only a new connection repairs.
func TestBroken(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(i *initiator) []byte
	}{
		{"a header digest", func(i *initiator) []byte {
			b := i.encode(i.request(pdu.OpNOPOut, final), nil, nil)
			b[20] ^= 1
			return b
		}},
		{"a command's data digest", func(i *initiator) []byte {
			h := i.request(pdu.OpSCSICommand, final|wants|1)
			binary.BigEndian.PutUint32(h[20:], 512)
			copy(h[32:], rw(true, 0, 1))
			b := i.encode(h, nil, make([]byte, 512))
			b[len(b)-10] ^= 1
			return b
		}},
		{"the data digest of a long command", func(i *initiator) []byte {
			h := i.request(pdu.OpSCSICommand, final|wants|1)
			binary.BigEndian.PutUint32(h[20:], 200<<10)
			copy(h[32:], rw(true, 0, 400))
			b := i.encode(h, nil, make([]byte, 200<<10))
			b[len(b)-10] ^= 1
			return b
		}},
		{"a data segment too long", func(i *initiator) []byte {
			h := i.request(pdu.OpNOPOut, final)
			b := i.encode(h, nil, make([]byte, maxSegment+4))
			return b[:100] // it is not waited for
		}},
		{"an end in the middle", func(i *initiator) []byte {
			b := i.encode(i.request(pdu.OpNOPOut, final), nil, make([]byte, 1000))
			return b[:500]
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, true, Options{})
			i := b.login(t, 1, words{"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}).ready()
			if _, err := i.conn.Write(tt.send(i)); err != nil {
				t.Fatal(err)
			}
			if tt.name == "an end in the middle" {
				if err := i.conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			i.closed()
			b.has(t, "iscsi.dropped")
			b.login(t, 1, nil).ready()
		})
	}
}

// TestReinstatement logs in anew as the same initiator port, while a write of the
// session before is still in the disk: the new login is answered when it has ended.
func TestReinstatement(t *testing.T) {
	b := newBed(t, true, Options{})
	old := b.login(t, 1, nil).ready()
	other := b.login(t, 2, nil).ready() // another port: it stays
	letGo := b.disk.hold()
	defer letGo()
	old.stallWrite(b, 0, pattern(512, 1))
	next := b.dial(t)
	answered := make(chan login.Status, 1)
	go func() { answered <- next.login(1, nil) }()
	old.closed()
	select {
	case s := <-answered:
		t.Fatalf("answered with %04x before the write had ended", s)
	case <-time.After(50 * time.Millisecond):
	}
	letGo()
	if s := <-answered; s != login.Success {
		t.Fatalf("login status %04x", s)
	}
	next.ready()
	other.ready()
	if n := len(b.Sessions()); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
}

// TestUnavailable is a login while the session before cannot end.
func TestUnavailable(t *testing.T) {
	b := newBed(t, true, Options{})
	b.endLimit = 50 * time.Millisecond
	old := b.login(t, 1, nil).ready()
	letGo := b.disk.hold()
	old.stallWrite(b, 0, pattern(512, 1))
	if s := b.dial(t).login(1, nil); s != login.ServiceUnavailable {
		t.Errorf("login status %04x, want %04x", s, login.ServiceUnavailable)
	}
	letGo()
	eventually(t, "end of the session", func() bool { return len(b.Sessions()) == 0 })
	b.login(t, 1, nil).ready()
}

func TestLogout(t *testing.T) {
	for _, tt := range []struct {
		name         string
		reason       byte
		cid          byte
		want         byte
		ends         bool
		wantReported string
	}{
		{"session", pdu.CloseSession, 7, pdu.LogoutDone, true, "iscsi.logout"},
		{"connection", pdu.CloseConnection, 0, pdu.LogoutDone, true, "iscsi.logout"},
		{"another connection", pdu.CloseConnection, 7, pdu.LogoutCIDNotFound, false, "iscsi.login"},
		{"recovery", pdu.RemoveForRecovery, 0, pdu.LogoutRecoveryNotSupported, false, "iscsi.login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, true, Options{})
			i := b.login(t, 1, words{"InitialR2T": "Yes"}).ready()
			i.command(final|wants, rw(true, 0, 1), 512, nil) // it never gets its data
			i.want(pdu.OpR2T)
			h := i.request(pdu.OpLogout, final|tt.reason)
			h[20], h[21], h[22], h[23] = 0, tt.cid, 0, 0
			i.write(h, nil)
			if a := i.want(pdu.OpLogoutResponse); a.h[2] != tt.want {
				t.Errorf("response %d, want %d", a.h[2], tt.want)
			}
			if tt.ends {
				i.closed()
			} else {
				i.ping()
			}
			b.has(t, tt.wantReported)
		})
	}
}

// TestSilence asks an initiator that says nothing, which need not answer.
func TestSilence(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	c := b.connOf(t)
	for range 3 {
		for range idleLimit + 1 {
			c.second()
		}
		a := i.want(pdu.OpNOPIn)
		if a.h.ITT() != pdu.NoTag || a.h.TTT() == pdu.NoTag {
			t.Fatalf("got %v, want a ping", a)
		}
	}
	h := i.request(pdu.OpNOPOut, final)
	h[0] |= 0x40
	i.cmdSN--
	binary.BigEndian.PutUint32(h[16:], pdu.NoTag)
	copy(h[20:24], i.last.h[20:24])
	i.write(h, nil)
	i.ready()
}

// connOf is the target's end of an initiator's only session.
func (b *bed) connOf(t *testing.T) *conn {
	t.Helper()
	b.Server.mu.Lock()
	defer b.Server.mu.Unlock()
	for ses := range b.sessions {
		return ses.conn
	}
	t.Fatal("there is no session")
	return nil
}

// TestNoData is an initiator that does not send the data of commands, asked for or
// announced: these fail, what comes of it later is nobody's, and all else goes on.
func TestNoData(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, words{"InitialR2T": "No", "ImmediateData": "Yes"}).ready()
	c := b.connOf(t)
	large := i.command(final|wants, rw(true, 0, 1024), 512<<10, nil)
	ttt := i.asked()
	announced := i.command(wants, rw(true, 1024, 8), 4096, nil)
	early := i.command(wants, rw(true, 1<<40, 8), 4096, nil) // outside of the disk
	i.ready()
	answered := func() answer { // but for pings
		for {
			if a := i.next(); a.op() != pdu.OpNOPIn {
				return a
			}
		}
	}
	for range dataLimit - 5 {
		c.second()
	}
	i.dataOut(large, ttt, 0, 0, false, make([]byte, 512)) // it comes, but slowly
	alive := i.command(final, make([]byte, 6), 0, nil)
	if a := answered(); a.h.ITT() != alive {
		t.Fatalf("got %v, want the answer of task %d", a, alive)
	}
	for range 6 {
		c.second()
	}
	senses := make(map[uint32][3]byte)
	failed := func() {
		a := answered()
		senses[a.h.ITT()] = [3]byte{a.data[4] & 0xf, a.data[14], a.data[15]}
	}
	failed()
	failed()
	if _, ok := senses[large]; ok {
		t.Error("a command whose data came was ended")
	}
	for range dataLimit {
		c.second()
	}
	failed()
	want := map[uint32][3]byte{large: {0xb, 0x4b, 6}, announced: {0xb, 0x4b, 6}, early: {5, 0x21, 0}}
	if !maps.Equal(senses, want) {
		t.Errorf("got sense %x, want %x", senses, want)
	}
	i.dataOut(large, ttt, 1, 512, true, make([]byte, 1024))
	i.dataOut(announced, pdu.NoTag, 0, 0, true, make([]byte, 4096))
	alive = i.command(final, make([]byte, 6), 0, nil)
	if a := answered(); a.h.ITT() != alive || a.h[3] != scsi.StatusGood {
		t.Errorf("got %v, want GOOD for task %d", a, alive)
	}
}

// TestHalfPDU is an initiator that goes away in the middle of a PDU: it is dropped.
func TestHalfPDU(t *testing.T) {
	for _, n := range []int{20, 48, 100, 48 + 8192, 48 + 65536 - 1} {
		b := newBed(t, true, Options{})
		i := b.login(t, 1, nil).ready()
		c := b.connOf(t)
		h := i.request(pdu.OpSCSICommand, final|wants|1)
		binary.BigEndian.PutUint32(h[20:], 65536)
		copy(h[32:], rw(true, 0, 128))
		if _, err := i.conn.Write(i.encode(h, nil, make([]byte, 65536))[:n]); err != nil {
			t.Fatal(err)
		}
		eventually(t, "reading of a part", c.partly.Load)
		for range dataLimit + 1 {
			c.second()
		}
		eventually(t, "end of the session", func() bool { return len(b.Sessions()) == 0 })
	}
}

// TestDeaf is an initiator that asks for much and reads nothing: what waits for it is
// bounded, others go on, and in the end it is dropped.
func TestDeaf(t *testing.T) {
	b := newBed(t, true, Options{})
	deaf := b.login(t, 1, nil).ready()
	var all []byte
	for range 4000 {
		h := deaf.request(pdu.OpNOPOut, final)
		h[0] |= 0x40
		deaf.cmdSN--
		all = append(all, deaf.encode(h, nil, make([]byte, 32<<10))...)
	}
	sent := make(chan error, 1)
	go func() { _, err := deaf.conn.Write(all); sent <- err }()
	var c *conn
	b.Server.mu.Lock()
	for ses := range b.sessions {
		c = ses.conn
	}
	b.Server.mu.Unlock()
	eventually(t, "full queue", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.out.queued > maxQueued
	})
	b.login(t, 2, nil).ready()
	c.mu.Lock()
	if limit := maxQueued + receiveSize + 2*arenaSize; c.out.queued > limit {
		t.Errorf("%d bytes wait, want %d at most", c.out.queued, limit)
	}
	c.mu.Unlock()
	for range stuckLimit + 2 {
		c.second()
	}
	<-sent
	b.has(t, "iscsi.dropped")
}

// TestHalfOpen opens far more connections than may log in: the oldest have to go.
func TestHalfOpen(t *testing.T) {
	b := newBed(t, true, Options{})
	var conns []net.Conn
	for range 10 * maxLogins {
		c, err := net.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	b.login(t, 1, nil).ready()
	if err := conns[0].SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conns[0].Read(make([]byte, 1)); err == nil {
		t.Error("the oldest got an answer")
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Error("the oldest connection is still open")
	}
	b.Server.mu.Lock()
	defer b.Server.mu.Unlock()
	if len(b.logins) > maxLoginsOf {
		t.Errorf("%d logins under way, want %d at most", len(b.logins), maxLoginsOf)
	}
}

// TestSetTargets takes a target away from those that are logged in.
func TestSetTargets(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	same := b.config()
	same.Alias = "another"
	b.SetTargets([]TargetConfig{same})
	i.ping()
	changed := b.Changed()
	other := b.config()
	other.CHAP = block.Credentials{User: "user", Secret: "a secret of some length"}
	b.SetTargets([]TargetConfig{other})
	<-changed
	a := i.want(pdu.OpAsync)
	if a.h[36] != pdu.AsyncLogoutRequest || binary.BigEndian.Uint16(a.h[42:]) != logoutTime {
		t.Errorf("got %v, want a request to log out", a)
	}
	i.ping()
	if s := b.dial(t).login(2, nil); s != login.AuthenticationFailure {
		t.Errorf("login status %04x without CHAP", s)
	}
	b.has(t, "iscsi.refused")
	b.Server.mu.Lock()
	for ses := range b.sessions {
		ses.retire = min(ses.retire, 1) // its time is nearly over
	}
	b.Server.mu.Unlock()
	i.closed()
	b.SetTargets(nil)
	if s := b.dial(t).login(2, nil); s != login.NotFound {
		t.Errorf("login status %04x for no target", s)
	}
}

// TestDiscovery shows each initiator the targets that are for it.
func TestDiscovery(t *testing.T) {
	b := newBed(t, true, Options{})
	hers := b.config()
	hers.Name, hers.Initiators = "iqn.2026-01.test:hers", []string{"iqn.2026-01.test:her"}
	b.SetTargets([]TargetConfig{b.config(), hers})
	portal := "TargetAddress=" + b.address + ",1\x00"
	both := "TargetName=" + testTarget + "\x00" + portal + "TargetName=" + hers.Name + "\x00" + portal
	for _, tt := range []struct{ initiator, asks, want string }{
		{testInitiator, "SendTargets=All\x00", "TargetName=" + testTarget + "\x00" + portal},
		{"iqn.2026-01.test:her", "SendTargets=All\x00", both},
		{testInitiator, "SendTargets=" + testTarget + "\x00", "TargetName=" + testTarget + "\x00" + portal},
		{testInitiator, "SendTargets=" + hers.Name + "\x00", ""},
	} {
		for _, segment := range []string{"8192", "512"} {
			i := b.login(t, 1, words{"InitiatorName": tt.initiator, "SessionType": "Discovery", "TargetName": "", "MaxRecvDataSegmentLength": segment})
			h := i.request(pdu.OpText, final)
			i.write(h, []byte(tt.asks))
			a := i.want(pdu.OpTextResponse)
			if string(a.data) != tt.want || !a.h.Final() {
				t.Errorf("%s asks %q: got %q, want %q", tt.initiator, tt.asks, a.data, tt.want)
			}
			i.command(final|reads, rw(false, 0, 1), 512, nil)
			if a := i.want(pdu.OpReject); pdu.Reason(a.h[2]) != pdu.ReasonProtocolError {
				t.Errorf("got %v for a command", a)
			}
		}
	}
	if s := b.dial(t).login(1, words{"TargetName": hers.Name}); s != login.NotFound {
		t.Errorf("login status %04x for another's target", s)
	}
	if n := len(b.Sessions()); n != 0 {
		t.Errorf("%d sessions are told, want none of discovery", n)
	}
}

// TestLongText has a list of targets that takes several PDUs.
func TestLongText(t *testing.T) {
	b := newBed(t, true, Options{})
	var all []TargetConfig
	var want []string
	for n := range 60 {
		c := b.config()
		c.Name = testTarget + strings.Repeat("x", n)
		all = append(all, c)
		want = append(want, c.Name)
	}
	b.SetTargets(all)
	i := b.login(t, 1, words{"SessionType": "Discovery", "TargetName": "", "MaxRecvDataSegmentLength": "600"})
	var text []byte
	h := i.request(pdu.OpText, final)
	first := h.ITT()
	i.write(h, []byte("SendTargets=All\x00"))
	for {
		a := i.want(pdu.OpTextResponse)
		text = append(text, a.data...)
		if a.h.Final() {
			break
		}
		h := i.request(pdu.OpText, final)
		binary.BigEndian.PutUint32(h[16:], first)
		copy(h[20:24], a.h[20:24])
		i.write(h, nil)
	}
	var got []string
	for word := range strings.SplitSeq(string(text), "\x00") {
		if name, ok := strings.CutPrefix(word, "TargetName="); ok {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPanic is a fault of the disk's code, in the reader or in a goroutine of its
// own: it costs one connection, and others can still reset the unit.
func TestPanic(t *testing.T) {
	for _, prompt := range []bool{true, false} {
		t.Run(fmt.Sprintf("prompt=%v", prompt), func(t *testing.T) {
			b := newBed(t, prompt, Options{})
			i := b.login(t, 1, nil).ready()
			other := b.login(t, 2, nil).ready()
			fault := func(on bool) {
				b.disk.mu.Lock()
				b.disk.panics = on
				b.disk.mu.Unlock()
			}
			for _, write := range []bool{false, true} {
				fault(true)
				flags, data := byte(final|reads), []byte(nil)
				if write {
					flags, data = final|wants, make([]byte, 512)
				}
				i.command(flags, rw(write, 0, 1), 512, data)
				i.closed()
				b.has(t, "iscsi.panic")
				fault(false)
				other.ping()
				other.manage(pdu.LogicalUnitReset, 0, 0)
				if r := other.managed(); r != pdu.FunctionComplete {
					t.Errorf("response %d", r)
				}
				i = b.login(t, 1, nil).ready()
			}
		})
	}
}

// TestCutOff ends a connection in the middle of data: nothing of the command is left.
func TestCutOff(t *testing.T) {
	for _, tt := range []struct {
		name string
		send func(i *initiator) []byte
	}{
		{"immediate data", func(i *initiator) []byte {
			h := i.request(pdu.OpSCSICommand, final|wants|1)
			binary.BigEndian.PutUint32(h[20:], 200<<10)
			copy(h[32:], rw(true, 0, 400))
			return i.encode(h, nil, make([]byte, 200<<10))
		}},
		{"Data-Out", func(i *initiator) []byte {
			itt := i.command(wants, rw(true, 0, 400), 200<<10, nil)
			return i.encode(dataOut(itt, pdu.NoTag, 0, 0, true), nil, make([]byte, 200<<10))
		}},
		{"no data at all", func(i *initiator) []byte {
			i.command(wants, rw(true, 0, 400), 200<<10, nil)
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, true, Options{})
			other := b.login(t, 2, nil).ready()
			i := b.login(t, 1, nil).ready()
			all := tt.send(i)
			if _, err := i.conn.Write(all[:len(all)/2]); err != nil {
				t.Fatal(err)
			}
			i.conn.Close()
			eventually(t, "end of the session", func() bool { return len(b.Sessions()) == 1 })
			other.manage(pdu.LogicalUnitReset, 0, 0)
			if r := other.managed(); r != pdu.FunctionComplete {
				t.Errorf("response %d", r)
			}
			other.ready()
		})
	}
}

// TestCrowd opens more discovery sessions than there may be: the oldest ends.
func TestCrowd(t *testing.T) {
	b := newBed(t, true, Options{})
	var all []*initiator
	for n := range maxDiscovery + 1 {
		all = append(all, b.login(t, byte(n), words{"SessionType": "Discovery", "TargetName": ""}))
	}
	all[0].closed()
	all[1].ping()
	b.login(t, 1, nil).ready()
}

func TestSessions(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 9, nil).ready()
	got := b.Sessions()
	if len(got) != 1 {
		t.Fatalf("%d sessions, want 1", len(got))
	}
	s := got[0]
	if s.Since.IsZero() || s.Address != i.conn.LocalAddr().String() || s.Target != testTarget || s.Initiator != testInitiator ||
		s.ISID != "800000000009" || !slices.Equal(s.Volumes, []string{"disk0"}) {
		t.Errorf("got %+v", s)
	}
	changed := b.Changed()
	i.conn.Close()
	<-changed
	eventually(t, "end of the session", func() bool { return len(b.Sessions()) == 0 })
}

// TestReadAborted aborts a read that is in the disk.
func TestReadAborted(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	letGo := b.disk.hold()
	defer letGo()
	var tags []uint32
	for n := range 20 {
		tags = append(tags, i.command(final|reads, rw(false, 0, 8*(n+1)), 4096*(n+1), nil))
		<-b.disk.stalled
	}
	for _, tag := range tags {
		i.manage(pdu.AbortTask, tag, 0)
	}
	i.ping()
	letGo()
	for range tags {
		if r := i.managed(); r != pdu.FunctionComplete {
			t.Errorf("response %d", r)
		}
	}
	if a := i.command(final|reads, rw(false, 0, 1), 512, nil); !bytes.Equal(i.collect(a), make([]byte, 512)) {
		t.Error("a read after that is wrong")
	}
	if i.last.h[3] != scsi.StatusGood {
		t.Errorf("got %v", i.last)
	}
}
