package sol

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// epoch is when every test of the link begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return epoch.Add(d) }

const ms = time.Millisecond

var plain = DefaultSettings().timing()

// sends polls at each step of 5 ms up to end and lists what is sent, with its
// time: "60ms 01 00 00 00 hello".
func sends(l *link, from, end time.Duration) (list []string) {
	for d := from; d <= end; d += 5 * ms {
		for {
			p, _ := l.poll(nil, plain, at(d))
			if len(p) == 0 {
				break
			}
			list = append(list, strings.TrimSuffix(fmt.Sprintf("%v % X %s", d, p[:headerLen], p[headerLen:]), " "))
		}
	}
	return list
}

func check(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// hears gives the link a packet and returns the answer, "" where there is none
// at once.
func hears(l *link, session uint32, d time.Duration, seq, ack, count, op byte, data string) string {
	h, send := l.receive(append([]byte{seq, ack, count, op}, data...), session, true, at(d))
	if !send {
		return ""
	}
	return fmt.Sprintf("% X", h.append(nil))
}

func typed(l *link) string {
	var all []byte
	var buf [64]byte
	for {
		n, isBreak := l.next(buf[:])
		switch {
		case isBreak:
			all = append(all, "<break>"...)
			l.brokeOff(nil)
		case n == 0:
			return string(all)
		default:
			all = append(all, buf[:n]...)
			l.wrote(n, nil)
		}
	}
}

// proven is a link whose port took something before.
func proven() *link { l := newLink(); l.proven = true; return l }

func TestAccumulateAndThreshold(t *testing.T) {
	l := newLink()
	l.add([]byte("ab"), at(0))
	check(t, "before the interval is over", sends(l, 0, 45*ms))
	l.add([]byte("c"), at(45*ms))
	check(t, "after it", sends(l, 50*ms, 60*ms), "50ms 01 00 00 00 abc")
	l.add(bytes.Repeat([]byte("x"), 96), at(65*ms)) // the threshold, but one packet is under way
	check(t, "one under way", sends(l, 65*ms, 70*ms))
	if got := l.room(); got != maxData-96 {
		t.Errorf("room for %d, want %d", got, maxData-96)
	}
	hears(l, 1, 70*ms, 0, 1, 3, 0, "")
	check(t, "threshold", sends(l, 70*ms, 70*ms), "70ms 02 00 00 00 "+strings.Repeat("x", 96))
}

func TestSequenceWraps(t *testing.T) {
	l := newLink()
	var got []byte
	for i := range uint32(17) {
		l.add([]byte("x"), at(0))
		p, _ := l.poll(nil, plain, at(time.Duration(i+1)*time.Second))
		got = append(got, p[0])
		hears(l, i+1, 0, 0, p[0], 1, 0, "")
	}
	if want := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 1, 2}; !bytes.Equal(got, want) {
		t.Errorf("sequence %d, want %d", got, want)
	}
}

// TestRetries: after the configured ones the packet stays, and so does all
// behind it.
func TestRetries(t *testing.T) {
	l := newLink()
	l.add([]byte("x"), at(0))
	got := sends(l, 0, 4*time.Second)
	var when []string
	for _, s := range got {
		a, rest, _ := strings.Cut(s, " ")
		when = append(when, a)
		if rest != "01 00 00 00 x" {
			t.Errorf("sent %q", s)
		}
	}
	check(t, "times", when, "50ms", "150ms", "250ms", "350ms", "450ms", "550ms", "650ms", "750ms", "1.75s", "2.75s", "3.75s")
}

// TestAnswersOfTheConsole is table 15-3.
func TestAnswersOfTheConsole(t *testing.T) {
	for _, test := range []struct {
		name            string
		ack, count, op  byte
		session         uint32
		again, complete bool
	}{
		{name: "completion", ack: 1, count: 3, session: 10, complete: true},
		{name: "more than was sent", ack: 1, count: 9, session: 10, complete: true},
		{name: "partial", ack: 1, count: 2, session: 10, again: true},
		{name: "resume", ack: 1, count: 0, session: 10, again: true},
		{name: "suspend", ack: 1, count: 0, op: opNACK, session: 10},
		{name: "another packet's", ack: 2, count: 3, session: 10},
		{name: "informational", ack: 0, count: 3, session: 10},
	} {
		l := newLink()
		l.add([]byte("abc"), at(0))
		sends(l, 0, 50*ms)
		hears(l, test.session, 50*ms, 0, test.ack, test.count, test.op, "")
		if got := l.sentLen == 0; got != test.complete {
			t.Errorf("%s: done: %v, want %v", test.name, got, test.complete)
		}
		if got := len(sends(l, 75*ms, 75*ms)) > 0; got != test.again {
			t.Errorf("%s: sent again at once: %v, want %v", test.name, got, test.again)
		}
	}
}

func TestSuspendAndResume(t *testing.T) {
	l := newLink()
	l.add([]byte("abc"), at(0))
	sends(l, 0, 50*ms)
	hears(l, 5, 60*ms, 0, 1, 0, opNACK, "")
	check(t, "suspended", sends(l, 60*ms, 5*time.Second))
	hears(l, 4, 5*time.Second, 0, 1, 3, 0, "") // sent before the NACK
	check(t, "a late answer", sends(l, 5*time.Second, 6*time.Second))
	hears(l, 6, 6*time.Second, 0, 1, 0, 0, "")
	check(t, "resumed", sends(l, 6*time.Second, 6*time.Second), "6s 01 00 00 00 abc")
	hears(l, 7, 6*time.Second, 0, 1, 0, opNACK, "")
	hears(l, 8, 6*time.Second, 0, 0, 0, opFlushOutbound, "")
	l.add([]byte("d"), at(6*time.Second))
	check(t, "flushed", sends(l, 6*time.Second, 6100*ms), "6.05s 02 00 00 00 d")
}

// TestPartialDoesNotSpin: a console that always accepts a part is not answered
// as fast as it asks.
func TestPartialDoesNotSpin(t *testing.T) {
	l := newLink()
	l.add([]byte("abc"), at(0))
	n := 0
	for d := 50 * ms; d < 1050*ms; d += ms {
		if p, _ := l.poll(nil, plain, at(d)); len(p) > 0 {
			n++
		}
		hears(l, uint32(d/ms), d, 0, 1, 1, 0, "")
	}
	if n > 51 {
		t.Errorf("%d packets in a second", n)
	}
}

func TestInput(t *testing.T) {
	l := proven()
	if got, want := hears(l, 1, 0, 3, 0, 0, 0, "ls"), "00 03 02 00"; got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
	if got, want := hears(l, 2, 0, 3, 0, 0, 0, "ls"), "00 03 02 00"; got != want {
		t.Errorf("answer to the repetition %s, want %s", got, want)
	}
	hears(l, 4, 0, 4, 0, 0, opBreak, "-l")
	hears(l, 5, 0, 4, 0, 0, opBreak, "-l")
	if got := hears(l, 3, 0, 3, 0, 0, 0, "ls"); got != "" { // kept back by the network
		t.Errorf("an old packet is answered %s", got)
	}
	if got, want := hears(l, 6, 0, 5, 0, 0, 0, ""), "00 05 00 00"; got != want { // ipmitool's usesolkeepalive
		t.Errorf("answer to nothing: %s, want %s", got, want)
	}
	hears(l, 7, 0, 6, 0, 0, 0x2C, "\r") // ring, CTS, DCD: no wires
	if got, want := typed(l), "ls<break>-l\r"; got != want {
		t.Errorf("typed %q, want %q", got, want)
	}
	hears(l, 8, 0, 7, 0, 0, 0, "old")
	hears(l, 9, 0, 8, 0, 0, opFlushInbound, "new")
	if got, want := typed(l), "new"; got != want {
		t.Errorf("typed %q after a flush, want %q", got, want)
	}
	for _, bad := range [][]byte{nil, {1, 0, 0}, make([]byte, headerLen+maxInbound+1)} {
		if _, send := l.receive(bad, 100, true, at(0)); send {
			t.Errorf("%d bytes are answered", len(bad))
		}
	}
}

// TestFirstInputIsWrittenFirst: what a port that was not tried takes is not
// known, so the answer waits.
func TestFirstInputIsWrittenFirst(t *testing.T) {
	l := newLink()
	if got := hears(l, 1, 0, 1, 0, 0, 0, "ab"); got != "" {
		t.Errorf("answered %s before it was written", got)
	}
	if got := hears(l, 2, 50*ms, 1, 0, 0, 0, "ab"); got != "" {
		t.Errorf("the repetition is answered %s", got)
	}
	check(t, "before", sends(l, 0, 50*ms))
	if got := typed(l); got != "ab" {
		t.Errorf("typed %q", got)
	}
	check(t, "after", sends(l, 60*ms, 60*ms), "60ms 00 01 02 00")
	if got, want := hears(l, 3, 70*ms, 2, 0, 0, 0, "c"), "00 02 01 00"; got != want {
		t.Errorf("the next: %s, want %s", got, want)
	}
	// The port goes away: what was accepted is lost, and said.
	var buf [9]byte
	n, _ := l.next(buf[:])
	l.wrote(n, errors.New("the serial port is not open"))
	check(t, "the loss", sends(l, 80*ms, 130*ms), "130ms 01 00 00 00 \r\n[1 bytes were not sent: the serial port is not open]\r\n")
	// Then nothing is accepted before it was written.
	hears(l, 4, 140*ms, 3, 1, 255, 0, "d")
	n, _ = l.next(buf[:])
	l.wrote(n, errors.New("the serial port is not open"))
	check(t, "refused", sends(l, 140*ms, 200*ms), "140ms 00 03 00 40")
	hears(l, 5, 210*ms, 4, 0, 0, 0, "d")
	if got := typed(l); got != "d" {
		t.Errorf("typed %q", got)
	}
	check(t, "the port is back", sends(l, 210*ms, 300*ms), "210ms 00 04 01 00")
}

func TestQueueFull(t *testing.T) {
	l := proven()
	data := strings.Repeat("0123456789", 25)
	var want strings.Builder
	for i := range 16 {
		if got := hears(l, uint32(i+1), 0, byte(i%15+1), 0, 0, 0, data); got == "" {
			t.Fatalf("packet %d is not answered", i)
		}
		want.WriteString(data)
	}
	if got := hears(l, 20, 0, 2, 0, 0, 0, data); got != "" { // 96 of 250 fit
		t.Errorf("answered %s at once", got)
	}
	check(t, "held", sends(l, 0, 395*ms))
	check(t, "partial", sends(l, 400*ms, 410*ms), "400ms 00 02 60 40")
	check(t, "remark", sends(l, 450*ms, 460*ms), "450ms 01 00 00 00 \r\n[the serial port is busy: 154 bytes were not taken]\r\n")
	want.WriteString(data[:96])
	hears(l, 21, 500*ms, 3, 1, 255, 0, data[96:])
	check(t, "full", sends(l, 505*ms, 905*ms), "900ms 00 03 00 40")
	hears(l, 22, time.Second, 4, 0, 0, 0, data[96:])
	if got := typed(l); got != want.String()+data[96:] {
		t.Errorf("%d bytes were typed, want %d", len(got), want.Len()+154)
	}
	check(t, "written in time", sends(l, 1010*ms, 1100*ms), "1.01s 00 04 9A 00")
}

// TestConsoleDoesNotWait: what it sent before its answer is kept, up to a bound.
func TestConsoleDoesNotWait(t *testing.T) {
	l := proven()
	data := strings.Repeat("0123456789", 25)
	for i := range 262 { // 65500 bytes
		hears(l, uint32(i+1), 0, byte(i%15+1), 0, 0, 0, data)
	}
	if got := typed(l); got != strings.Repeat(data, 262) {
		t.Errorf("%d bytes were typed, want %d", len(got), 262*len(data))
	}
	for i := range 300 {
		hears(l, uint32(i+500), 0, byte(i%15+1), 0, 0, 0, data)
	}
	if got := len(typed(l)); got < maxQueue || got > maxQueue+maxInbound {
		t.Errorf("%d bytes were kept, want %d", got, maxQueue)
	}
	if got := sends(l, 0, 50*ms); len(got) != 2 || !strings.Contains(got[1], "busy") {
		t.Errorf("told %q", got)
	}
}

func TestHostOff(t *testing.T) {
	l := proven()
	hears(l, 1, 0, 1, 0, 0, 0, "x")
	l.setOff(true)
	if got := typed(l); got != "" {
		t.Errorf("typed %q at a host that is off", got)
	}
	check(t, "told", sends(l, 0, 50*ms), "0s 00 00 00 60", "50ms 01 00 00 00 \r\n[1 bytes were not sent: the host went off or to sleep]\r\n")
	if got := hears(l, 2, 60*ms, 2, 1, 255, 0, "y"); got != "" {
		t.Errorf("refused at once: %s", got)
	}
	check(t, "refused", sends(l, 60*ms, 200*ms), "110ms 02 00 00 00 \r\n[not sent: the host is off or asleep]\r\n", "160ms 00 02 00 60")
	if got, want := hears(l, 3, 300*ms, 2, 2, 255, 0, "y"), "00 02 00 60"; got != want {
		t.Errorf("repetition: %s, want %s", got, want)
	}
	hears(l, 4, 300*ms, 3, 0, 0, opBreak, "")
	check(t, "break refused", sends(l, 300*ms, 400*ms), "400ms 00 03 00 60")
	l.setOff(false)
	check(t, "told again", sends(l, 400*ms, 400*ms), "400ms 00 00 00 40")
	hears(l, 5, 500*ms, 4, 0, 0, 0, "z")
	if got := typed(l); got != "z" {
		t.Errorf("typed %q", got)
	}
	check(t, "accepted", sends(l, 500*ms, 500*ms), "500ms 00 04 01 00")
}

func TestWatcherMayNotType(t *testing.T) {
	l := proven()
	for i, op := range []byte{0, opBreak} {
		h, send := l.receive([]byte{byte(i + 1), 0, 0, op, 'x'}, uint32(i+1), false, at(0))
		if got, want := fmt.Sprintf("% X %v", h.append(nil), send), fmt.Sprintf("00 %02X 01 00 true", i+1); got != want {
			t.Errorf("answer %s, want %s", got, want)
		}
	}
	if got := typed(l); got != "" {
		t.Errorf("typed %q", got)
	}
	check(t, "remark", sends(l, 0, 50*ms), "50ms 01 00 00 00 \r\n[your role may only watch; what you type is not sent]\r\n")
}

func TestLossIsTold(t *testing.T) {
	l := newLink()
	l.add([]byte("a"), at(0))
	l.lose(70000)
	if l.room() != 0 {
		t.Error("there is room before the remark has its place")
	}
	check(t, "remark", sends(l, 0, 50*ms), "50ms 01 00 00 08 a\r\n[70000 bytes were lost: the connection is too slow]\r\n")
	hears(l, 1, 50*ms, 0, 1, 255, 0, "")
	l.add([]byte("b"), at(50*ms))
	check(t, "next", sends(l, 50*ms, 100*ms), "100ms 02 00 00 00 b")
}

func TestFarewell(t *testing.T) {
	l := newLink()
	got := l.farewell("deactivated by admin from 192.0.2.1 by ipmi")
	if want := "\x01\x00\x00\x00\r\n[SOL ends: deactivated by admin from 192.0.2.1 by ipmi]\r\n"; string(got[0]) != want {
		t.Errorf("words %q, want %q", got[0], want)
	}
	if want := "\x00\x00\x00\x50"; string(got[1]) != want {
		t.Errorf("status %q, want %q", got[1], want)
	}
	if got := l.farewell(strings.Repeat("x", 999)); len(got[0]) > PayloadSize {
		t.Errorf("%d bytes of words", len(got[0]))
	}
}

// A remote is a console that goes by the book: one packet at a time, the same
// number for a repetition, each packet of the BMC acknowledged once it is
// known, none shown twice.
type remote struct {
	session uint32 // of its last packet
	seq     byte
	under   []byte // the characters under way
	sent    time.Duration
	todo    []byte
	last    byte
	newest  int // the BMC's session sequence
	shown   []byte
	began   bool
}

type datagram struct {
	n    int // session sequence
	data []byte
	when time.Duration
}

// TestLossyNetwork carries bytes both ways through a network that loses,
// doubles and delays, so that packets overtake others.
func TestLossyNetwork(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		random := func(n int) []byte {
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			return p
		}
		output, input := random(20000), random(20000)
		l, c := newLink(), &remote{todo: slices.Clone(input)}
		left := slices.Clone(output)
		var written []byte
		var toConsole, toBMC []datagram
		post := func(box *[]datagram, n int, p []byte, now time.Duration) {
			for range [...]int{0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 2, 9: 0}[rng.IntN(10)] {
				*box = append(*box, datagram{n, slices.Clone(p), now + time.Duration(rng.IntN(40))*ms})
			}
		}
		arrived := func(box *[]datagram, now time.Duration) (got []datagram) {
			*box = slices.DeleteFunc(*box, func(d datagram) bool {
				if d.when <= now {
					got = append(got, d)
				}
				return d.when <= now
			})
			rng.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
			return got
		}
		seenBMC, seenConsole := map[int]bool{}, map[int]bool{} // the session's windows
		bmcSession := 0
		fromBMC := func(p []byte, now time.Duration) { bmcSession++; post(&toConsole, bmcSession, p, now) }
		say := func(seq, ack, count byte, data []byte, now time.Duration) {
			c.session++
			post(&toBMC, int(c.session), append([]byte{seq, ack, count, 0}, data...), now)
		}
		now := time.Duration(0)
		for ; now < 20*time.Minute && (len(c.shown) < len(output) || len(written) < len(input)); now += ms {
			if k := min(l.room(), len(left), 12); k > 0 {
				l.add(left[:k], at(now))
				left = left[k:]
			}
			for {
				p, _ := l.poll(nil, plain, at(now))
				if len(p) == 0 {
					break
				}
				fromBMC(p, now)
			}
			var buf [12]byte
			if n, _ := l.next(buf[:]); n > 0 {
				written = append(written, buf[:n]...)
				l.wrote(n, nil)
			}
			for _, d := range arrived(&toBMC, now) {
				if seenBMC[d.n] {
					continue
				}
				seenBMC[d.n] = true
				if h, send := l.receive(d.data, uint32(d.n), true, at(now)); send {
					fromBMC(h.append(nil), now)
				}
			}
			for _, d := range arrived(&toConsole, now) {
				if seenConsole[d.n] {
					continue
				}
				seenConsole[d.n] = true
				h, data, _ := parse(d.data)
				if h.ack != 0 && h.ack == c.seq && c.under != nil {
					c.todo = c.todo[h.count:]
					c.under = nil
				}
				if h.seq == 0 || c.began && d.n < c.newest {
					continue
				}
				if !c.began || h.seq != c.last {
					c.shown = append(c.shown, data...)
				}
				c.began, c.last, c.newest = true, h.seq, d.n
				say(0, h.seq, byte(len(data)), nil, now)
			}
			switch {
			case c.under == nil && len(c.todo) > 0:
				c.seq = c.seq%15 + 1
				c.under = c.todo[:min(len(c.todo), 1+rng.IntN(maxData))]
				say(c.seq, 0, 0, c.under, now)
				c.sent = now
			case c.under != nil && now-c.sent > 500*ms:
				say(c.seq, 0, 0, c.under, now)
				c.sent = now
			}
		}
		if !bytes.Equal(c.shown, output) || !bytes.Equal(written, input) {
			t.Fatalf("seed %d: %d of %d bytes came, %d of %d were typed, or not the same", seed, len(c.shown), len(output), len(written), len(input))
		}
	}
}

func FuzzLink(f *testing.F) {
	f.Add([]byte{4, 1, 0, 0, 0, 5, 0, 1, 255, 0, 200, 1, 4, 2, 0, 0, 0x13, 3, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		l := newLink()
		now, session := epoch, uint32(0xFFFFFFF0)
		var buf [writeSize]byte
		for len(script) > 1 {
			what, x := script[0]&7, script[1]
			script = script[2:]
			switch what {
			case 0:
				now = now.Add(time.Duration(x) * ms)
			case 1:
				l.add(make([]byte, min(int(x), l.room())), now)
			case 2:
				l.setOff(x&1 != 0)
			case 3:
				l.lose(int64(x))
			case 4, 5:
				n := min(len(script), int(x)+4)
				session += uint32(x&3) - 1
				h, send := l.receive(script[:n], session, what == 4, now)
				if send && (h.seq != 0 || h.ack == 0 || h.ack > 15) {
					t.Fatalf("answer %+v", h)
				}
				script = script[n:]
			case 6:
				if n, _ := l.next(buf[:1+int(x)%writeSize]); n > 0 {
					var err error
					if x&1 != 0 {
						err = errors.New("broken")
					}
					l.wrote(n, err)
				}
			case 7:
				for range 10 { // it comes to rest
					p, _ := l.poll(nil, plain, now)
					if len(p) == 0 {
						break
					}
					if len(p) < headerLen || len(p) > PayloadSize {
						t.Fatalf("a packet of %d bytes", len(p))
					}
				}
			}
			if len(l.queue)+l.flight > maxQueue+maxInbound || len(l.breaks) > maxBreaks || len(l.notes) > maxNotes || l.n > maxData {
				t.Fatalf("%d queued, %d breaks, %d of remarks, %d to send", len(l.queue), len(l.breaks), len(l.notes), l.n)
			}
			for _, b := range l.breaks {
				if b < 0 || b > len(l.queue) {
					t.Fatalf("a break at %d of %d", b, len(l.queue))
				}
			}
		}
	})
}
