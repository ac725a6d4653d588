package iscsi

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi/login"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
)

// within fails unless a PDU of that kind comes soon.
func (i *initiator) within(limit time.Duration, op pdu.Opcode) {
	i.t.Helper()
	if err := i.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		i.t.Fatal(err)
	}
	i.want(op)
}

// connOfPort is the target's end of the session with that last byte of the ISID.
func (b *bed) connOfPort(t *testing.T, isid byte) *conn {
	t.Helper()
	b.Server.mu.Lock()
	defer b.Server.mu.Unlock()
	for ses := range b.sessions {
		if ses.result.ISID[5] == isid {
			return ses.conn
		}
	}
	t.Fatal("there is no such session")
	return nil
}

// TestFilling ends a command while the reader fills its buffer, which it keeps.
func TestFilling(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	i.command(wants|final, rw(true, 0, 512), 512*512, nil)
	i.asked()
	c := b.connOf(t)
	c.mu.Lock()
	var k *task
	for _, k = range c.tasks {
	}
	k.filling = true
	c.mu.Unlock()
	c.end(k)
	c.mu.Lock()
	if k.buffer == nil {
		t.Error("the buffer was given back while it is being filled")
	}
	k.filling = false
	c.mu.Unlock()
}

// TestStalledData: one who stops in the middle of its data is in nobody's way.
func TestStalledData(t *testing.T) {
	half := func(i *initiator, h pdu.Header, n int) {
		if _, err := i.conn.Write(i.encode(h, nil, make([]byte, n))[:n/4]); err != nil {
			i.t.Fatal(err)
		}
	}
	for name, stall := range map[string]func(i *initiator){
		"immediate data": func(i *initiator) {
			h := i.request(pdu.OpSCSICommand, final|wants|1)
			binary.BigEndian.PutUint32(h[20:], 32<<10)
			copy(h[32:], rw(true, 0, 64))
			half(i, h, 32<<10)
		},
		"Data-Out": func(i *initiator) {
			itt := i.command(wants|final, rw(true, 0, 512), 512*512, nil)
			half(i, dataOut(itt, i.asked(), 0, 0, true), 256<<10)
		},
		"unasked data": func(i *initiator) { i.command(wants, rw(true, 0, 512), 512*512, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, true, Options{})
			i := b.login(t, 1, nil).ready()
			o := b.login(t, 2, nil).ready()
			c := b.connOfPort(t, 1)
			stall(i)
			eventually(t, "command", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				for _, k := range c.tasks {
					return k.filling || name == "unasked data"
				}
				return false
			})
			o.manage(pdu.LogicalUnitReset, 0, 0)
			eventually(t, "abort", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				for _, k := range c.tasks {
					return k.dead
				}
				return true
			})
			for range abortLimit + 2 {
				c.second()
			}
			o.within(8*time.Second, pdu.OpTaskManagementResponse)
		})
	}
}

// TestInlineMemory: answers that are not there yet are within the limit.
func TestInlineMemory(t *testing.T) {
	b := newBed(t, false, Options{Memory: 1 << 20})
	letGo := b.disk.hold()
	defer letGo()
	for isid := range byte(4) {
		i := b.login(t, 1+isid, words{"InitiatorName": fmt.Sprintf("%s%d", testInitiator, isid)})
		i.command(final, make([]byte, 6), 0, nil)
		i.want(pdu.OpSCSIResponse)
		for range maxWindow {
			i.command(final|reads, rw(false, 0, 128), 64<<10, nil)
		}
	}
	time.Sleep(200 * time.Millisecond)
	b.memory.mu.Lock()
	used := b.memory.used
	b.memory.mu.Unlock()
	if all := used[limited] + used[unasked] + used[answers]; all > 2<<20 {
		t.Errorf("%d KiB are in use (%v), of 1024 KiB", all>>10, used)
	}
}

// TestStarved: a host with four sessions does not take the memory of another one.
func TestStarved(t *testing.T) {
	b := newBed(t, true, Options{})
	for isid := range byte(4) {
		i := b.login(t, 1+isid, words{"InitiatorName": testInitiator + ".greedy"}).ready()
		i.command(wants|final, rw(true, 0, 8192), 4<<20, nil)
		if isid == 0 {
			i.asked()
			continue
		}
		h := i.request(pdu.OpNOPOut, final)
		i.write(h, nil)
		if a := i.next(); a.op() == pdu.OpR2T {
			t.Errorf("session %d has more than the share of its initiator", isid)
		}
	}
	o := b.login(t, 9, nil).ready()
	o.command(final|reads, rw(false, 0, 256), 128<<10, nil)
	o.within(3*time.Second, pdu.OpDataIn)
}

// TestLateCredentials is a login that began before the target's credentials changed.
func TestLateCredentials(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.dial(t)
	h := pdu.Header{0: 0x43, 1: 0x04, 8: 0x80, 13: 1} // operational, not to go on yet
	i.write(h, []byte("InitiatorName="+testInitiator+"\x00TargetName="+testTarget+"\x00SessionType=Normal\x00"))
	if _, err := i.read(); err != nil {
		t.Fatal(err)
	}
	c := b.config()
	c.CHAP = block.Credentials{User: "u", Secret: "0123456789abcdef"}
	b.SetTargets([]TargetConfig{c})
	h[1] = 0x87
	i.write(h, nil)
	a, err := i.read()
	if err != nil {
		t.Fatal(err)
	}
	if got := login.Status(binary.BigEndian.Uint16(a.h[36:])); got != login.AuthenticationFailure {
		t.Errorf("login status %04x, want %04x", got, login.AuthenticationFailure)
	}
}

// TestSending: the socket is not closed while somebody sends.
func TestSending(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	c := b.connOf(t)
	eventually(t, "end of sending", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		free := !c.out.sending
		c.out.sending = true
		return free
	})
	i.conn.Close()
	time.Sleep(50 * time.Millisecond)
	if len(b.Sessions()) == 0 {
		t.Error("the session ended")
	}
	c.mu.Lock()
	c.out.sending = false
	c.out.room.Broadcast()
	c.mu.Unlock()
	eventually(t, "end of the session", func() bool { return len(b.Sessions()) == 0 })
}

// TestAddressing resets a unit while a command of the same session waits for data
// that named it by the other addressing method (SAM-5 section 4.7.7).
func TestAddressing(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	h := i.request(pdu.OpSCSICommand, final|wants|1)
	h[8] = 0x40
	binary.BigEndian.PutUint32(h[20:], 256<<10)
	copy(h[32:], rw(true, 0, 512))
	i.write(h, nil)
	i.asked()
	i.manage(pdu.LogicalUnitReset, 0, 0)
	i.within(5*time.Second, pdu.OpTaskManagementResponse)
}

// TestManyFunctions has more task management functions wait than there may be.
func TestManyFunctions(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	letGo := b.disk.hold()
	defer letGo()
	i.stallWrite(b, 0, pattern(512, 1))
	for range maxManaging + 1 {
		i.manage(pdu.LogicalUnitReset, 0, 0)
	}
	if a := i.want(pdu.OpReject); a.h[2] != byte(pdu.ReasonImmediateTooMany) {
		t.Errorf("got %v", a)
	}
	letGo()
	for range maxManaging {
		i.managed()
	}
	i.ready()
}

// TestGap sends much before what has to come first.
func TestGap(t *testing.T) {
	b := newBed(t, true, Options{})
	i := b.login(t, 1, nil).ready()
	i.cmdSN++
	for range 2 {
		h := i.request(pdu.OpNOPOut, final)
		i.write(h, make([]byte, maxHeld*2/3))
	}
	i.closed()
}

// TestSessionLimits: nobody has all sessions.
func TestSessionLimits(t *testing.T) {
	var all []*session
	add := func(n int, initiator, target func(n int) string) {
		for k := range n {
			all = append(all, &session{initiator: initiator(k), name: target(k)})
		}
	}
	each := func(s string) func(int) string { return func(n int) string { return fmt.Sprint(s, n) } }
	only := func(s string) func(int) string { return func(int) string { return s } }
	for _, tt := range []struct {
		name string
		fill func()
		full bool
	}{
		{"some paths", func() { add(maxSessionsSame-1, only("a"), only("t")) }, false},
		{"many paths", func() { add(maxSessionsSame, only("a"), only("t")) }, true},
		{"many paths of another", func() { add(maxSessionsSame, only("b"), only("t")) }, false},
		{"many targets", func() { add(maxSessionsOf, only("a"), each("u")) }, true},
		{"many initiators", func() { add(maxSessionsOf, each("b"), only("t")) }, true},
		{"many of both", func() { add(maxSessions-1, each("b"), each("u")) }, false},
		{"all", func() { add(maxSessions, each("b"), each("u")) }, true},
	} {
		all = nil
		tt.fill()
		if err := crowded(all, &login.Result{Initiator: "a", Target: "t"}); (err != nil) != tt.full {
			t.Errorf("%s: got %v, want an error: %t", tt.name, err, tt.full)
		}
	}
}

// TestEvicted has one host open connections from many addresses: they are in each
// other's way, and not in that of another host's login.
func TestEvicted(t *testing.T) {
	b := newBed(t, true, Options{})
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	logins := func() int {
		b.Server.mu.Lock()
		defer b.Server.mu.Unlock()
		return len(b.logins)
	}
	i := &initiator{t: t, conn: dial("127.0.0.99"), cmdSN: 100, expStatSN: 1}
	eventually(t, "login", func() bool { return logins() == 1 })
	for address := range 5 {
		for range maxLoginsOf {
			dial(fmt.Sprintf("127.0.0.%d", 100+address))
		}
	}
	eventually(t, "logins", func() bool { return logins() == maxLogins })
	if s := i.login(1, nil); s != login.Success {
		t.Errorf("login status %04x", s)
	}
}

func TestPaces(t *testing.T) {
	p := make(paces)
	now := time.Unix(1000, 0)
	a := pacer{"192.0.2.1", "t"}
	count := func(of pacer, n int) (told int) {
		for range n {
			if _, ok := p.take(of, now); ok {
				told++
			}
		}
		return told
	}
	if n := count(a, 1000); n != paceBurst {
		t.Errorf("%d at once, want %d", n, paceBurst)
	}
	if n := count(pacer{"192.0.2.2", "t"}, 1); n != 1 {
		t.Error("another host is not told of")
	}
	now = now.Add(pacePause)
	if missed, ok := p.take(a, now); !ok || missed != 1000-paceBurst {
		t.Errorf("after a pause: got %d, %t", missed, ok)
	}
	told := 0
	for n := range 10 * maxPaces {
		told += count(pacer{fmt.Sprint(n), "t"}, 1)
	}
	if len(p) > maxPaces+1 || told > maxPaces+paceBurst {
		t.Errorf("%d are known, %d told of", len(p), told)
	}
}

// TestRestless logs in and away without end: people are told of some.
func TestRestless(t *testing.T) {
	b := newBed(t, true, Options{})
	for range 2 * paceBurst {
		i := b.login(t, 1, nil)
		i.conn.Close()
		eventually(t, "end of the session", func() bool { return len(b.Sessions()) == 0 })
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.events); n > paceBurst+1 {
		t.Errorf("%d events", n)
	}
}

// TestOrderedMemory: commands that wait for an ordered one do not have the memory that
// it waits for.
func TestOrderedMemory(t *testing.T) {
	for _, write := range []bool{false, true} {
		t.Run(fmt.Sprintf("write=%v", write), func(t *testing.T) {
			b := newBed(t, false, Options{Memory: 1 << 20})
			one := b.login(t, 1, words{"InitiatorName": testInitiator + ".1", "InitialR2T": "Yes", "ImmediateData": "No"}).ready()
			two := b.login(t, 2, words{"InitiatorName": testInitiator + ".2", "InitialR2T": "Yes", "ImmediateData": "No"}).ready()
			three := b.login(t, 3, words{"InitiatorName": testInitiator + ".3", "InitialR2T": "Yes", "ImmediateData": "No"}).ready()
			wait := func(isid byte, n int) {
				c := b.connOfPort(t, isid)
				eventually(t, "command", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return len(c.tasks) == n
				})
			}
			send := func(i *initiator, attribute byte, size int) uint32 {
				flags := byte(final | reads)
				if write {
					flags = final | wants
				}
				h := i.request(pdu.OpSCSICommand, flags|attribute)
				binary.BigEndian.PutUint32(h[20:], uint32(size))
				copy(h[32:], rw(write, 0, size/512))
				i.write(h, nil)
				return h.ITT()
			}
			finish := func(i *initiator, itt uint32, size int) {
				if write {
					a := i.obey(itt, pattern(size, 1), maxSegment)
					if a.op() != pdu.OpSCSIResponse || a.h[3] != scsi.StatusGood {
						t.Errorf("got %v, want GOOD", a)
					}
				} else if got := len(i.collect(itt)); got != size {
					t.Errorf("%d bytes, want %d", got, size)
				}
			}
			letGo := b.disk.hold()
			defer letGo()
			first := one.command(final|reads, rw(false, 0, 512), 256<<10, nil)
			<-b.disk.stalled // it has all the share of its initiator
			ordered := send(one, 2, 512<<10)
			wait(1, 2)
			behind := send(two, 1, 256<<10)
			wait(2, 1)
			more := send(three, 1, 512<<10)
			wait(3, 1)
			letGo()
			one.collect(first)
			finish(one, ordered, 512<<10)
			finish(two, behind, 256<<10)
			finish(three, more, 512<<10)
		})
	}
}
