//go:build e2e

package ipmi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/internal/pty"
	"github.com/nitrino/nitrino/ipmi/command"
)

// lineRate is 115200 bit/s in bytes a second.
const lineRate = 11520

// A terminal is a program on a pseudo terminal of its own.
type terminal struct {
	t    *testing.T
	name string
	pty  *os.File
	cmd  *exec.Cmd

	mu     sync.Mutex
	screen []byte
	done   chan struct{} // closed when the program is gone
}

func startTerminal(t *testing.T, name string, args ...string) *terminal {
	t.Helper()
	term, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, name: name, pty: term, cmd: exec.Command(name, args...), done: make(chan struct{})}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = tty, tty, tty
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(x.done)
		buf := make([]byte, 4096)
		for {
			n, err := term.Read(buf)
			x.mu.Lock()
			x.screen = append(x.screen, buf[:n]...)
			x.mu.Unlock()
			if err != nil {
				return // EIO: nobody has the terminal open any more
			}
		}
	})
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill() // it may be gone already
		_ = x.cmd.Wait()         // killed
		reading.Wait()
		if err := term.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *terminal) shown() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.screen)
}

func (x *terminal) types(p string) {
	x.t.Helper()
	if _, err := io.WriteString(x.pty, p); err != nil {
		x.t.Fatal(err)
	}
}

// pastes types all at once, or at the line's rate: ipmiconsole takes no more
// than 8 KiB ahead.
func (x *terminal) pastes(p []byte, slowly bool) {
	x.t.Helper()
	if !slowly {
		x.types(string(p))
		return
	}
	began := time.Now()
	for at := 0; at < len(p); at += 64 {
		x.types(string(p[at:min(at+64, len(p))]))
		time.Sleep(time.Until(began.Add(time.Duration(at) * time.Second / lineRate)))
	}
}

// waits until the screen, from byte `from` on, contains want, and returns where
// that ends.
func (x *terminal) waits(from int, want string, limit time.Duration) int {
	x.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		s := x.shown()
		if i := bytes.Index(s[from:], []byte(want)); i >= 0 {
			return from + i + len(want)
		}
		if time.Now().After(end) {
			x.t.Fatalf("%s shows %q, want %q in it", x.name, last(s, 300), want)
		}
	}
}

// exits waits until the program is gone.
func (x *terminal) exits(limit time.Duration) {
	x.t.Helper()
	select {
	case <-x.done:
	case <-time.After(limit):
		x.t.Fatalf("%s is still there; it shows %q", x.name, last(x.shown(), 300))
	}
}

func last(p []byte, n int) []byte { return p[max(0, len(p)-n):] }

// toolArgs are ipmitool's arguments for a command at an address.
func toolArgs(at *net.UDPAddr, args ...string) []string {
	return append([]string{"-I", "lanplus", "-C", "17", "-H", at.IP.String(), "-p", strconv.Itoa(at.Port), "-U", "admin", "-P", "secret-20-characters"}, args...)
}

// ipmitool begins `sol activate`, and returns where its screen was then.
func ipmitool(t *testing.T, at *net.UDPAddr, args ...string) (*terminal, int) {
	t.Helper()
	x := startTerminal(t, "ipmitool", append(toolArgs(at, "sol", "activate"), args...)...)
	return x, x.waits(0, "for help]\n", 10*time.Second)
}

func ipmiconsole(t *testing.T, at *net.UDPAddr) (*terminal, int) {
	t.Helper()
	x := startTerminal(t, "ipmiconsole", "-I", "17", "-h", at.IP.String(), "-u", "admin", "-p", "secret-20-characters")
	return x, x.waits(0, "]\r\n", 10*time.Second)
}

// loopback is an address of its own with IPMI's port, since ipmiconsole knows
// no other port.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d:623", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
}

// solBMC serves a BMC whose host is on, over a socket.
func solBMC(t *testing.T, change ...func(*Options, *machine)) (*bmc, *net.UDPAddr) {
	b := newOn(t, append(change, func(o *Options, _ *machine) { o.Port = 623 })...)
	t.Cleanup(b.run(t))
	return b, serve(t, b, "udp4", loopback())
}

// payloadBytes are n bytes of all values but those that begin an escape.
func payloadBytes(n int, seed uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, 7))
	p := make([]byte, n)
	for i := range p {
		for p[i] = byte(rng.Uint32()); p[i] == '~' || p[i] == '&'; {
			p[i] = byte(rng.Uint32())
		}
	}
	return p
}

// same says where two byte strings differ.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Errorf("%s: %d bytes, want %d; they differ at %d: %q, want %q", what, len(got), len(want), i, got[i:min(i+40, len(got))], want[i:min(i+40, len(want))])
}

// paced says p at the line's rate.
func (f *fakeSerial) paced(p []byte) {
	began := time.Now()
	for at := 0; at < len(p); at += 64 {
		f.say(p[at:min(at+64, len(p))])
		time.Sleep(time.Until(began.Add(time.Duration(at) * time.Second / lineRate)))
	}
}

func (f *fakeSerial) waitTyped(t *testing.T, n int, limit time.Duration) []byte {
	for end := time.Now().Add(limit); len(f.typed()) < n && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // what is too much comes, too
	return f.typed()
}

// TestSOLClients: 80 kB each way, byte by byte, at the line's rate, through the
// real consoles; then a break.
func TestSOLClients(t *testing.T) {
	for _, client := range []struct {
		name  string
		start func(*testing.T, *net.UDPAddr) (*terminal, int)
		brk   string
		leave string
	}{
		{"ipmitool", func(t *testing.T, at *net.UDPAddr) (*terminal, int) { return ipmitool(t, at) }, "\r~B", "\r~."},
		{"ipmiconsole", ipmiconsole, "&B", "&."},
	} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			b, at := solBMC(t)
			b.serial.rate = lineRate
			x, from := client.start(t, at)
			output, input := payloadBytes(80_000, 1), payloadBytes(80_000, 2)
			b.serial.paced(output[:40_000])
			b.serial.say(output[40_000:]) // and as fast as it goes
			for end := time.Now().Add(20 * time.Second); len(x.shown()) < from+len(output) && time.Now().Before(end); {
				time.Sleep(10 * time.Millisecond)
			}
			same(t, "host to console", x.shown()[from:], output)
			began := time.Now()
			x.pastes(input, client.name == "ipmiconsole")
			same(t, "console to host", b.serial.waitTyped(t, len(input), 30*time.Second), input)
			t.Logf("%d bytes typed in %v, the line takes %v", len(input), time.Since(began), time.Duration(len(input))*time.Second/lineRate)
			x.types(client.brk)
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				b.serial.mu.Lock()
				n := b.serial.breaks
				b.serial.mu.Unlock()
				if n == 1 {
					break
				}
			}
			if b.serial.breaks != 1 {
				t.Errorf("%d breaks, want 1", b.serial.breaks)
			}
			x.types(client.leave)
			x.exits(5 * time.Second)
			if b.sol.Active(1) != nil {
				t.Error("SOL is active after the end")
			}
		})
	}
}

// TestSOLEcho pastes a file into a host that echoes it.
func TestSOLEcho(t *testing.T) {
	for _, client := range []struct {
		name  string
		start func(*testing.T, *net.UDPAddr) (*terminal, int)
	}{
		{"ipmitool", func(t *testing.T, at *net.UDPAddr) (*terminal, int) { return ipmitool(t, at) }},
		{"ipmiconsole", ipmiconsole},
	} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			b, at := solBMC(t)
			b.serial.rate, b.serial.echo = lineRate, true
			x, from := client.start(t, at)
			input := payloadBytes(30_000, 3)
			x.pastes(input, client.name == "ipmiconsole")
			same(t, "typed", b.serial.waitTyped(t, len(input), 30*time.Second), input)
			time.Sleep(time.Second)
			same(t, "echo", x.shown()[from:], input)
		})
	}
}

// TestSOLStolen: whose SOL is ended by another is told, in the way each console
// shows.
func TestSOLStolen(t *testing.T) {
	t.Parallel()
	b, at := solBMC(t)
	deactivate := func() {
		out, err := exec.Command("ipmitool", toolArgs(at, "sol", "deactivate")...).CombinedOutput()
		if err != nil {
			t.Errorf("sol deactivate: %v\n%s", err, out)
		}
	}
	x, from := ipmitool(t, at)
	// A second one is refused by name.
	out, err := exec.Command("ipmitool", toolArgs(at, "sol", "activate")...).CombinedOutput()
	if want := "SOL payload already active on another session"; err == nil || !bytes.Contains(out, []byte(want)) {
		t.Errorf("a second sol activate: %v, want %q in\n%s", err, want, out)
	}
	deactivate()
	from = x.waits(from, "[SOL ends: deactivated by admin from 127.", 5*time.Second)
	x.types("x")
	x.waits(from, "SOL session closed by BMC", 20*time.Second)
	x.exits(5 * time.Second)

	y, from := ipmiconsole(t, at)
	deactivate()
	y.waits(from, "SOL session stolen", 5*time.Second)
	y.exits(5 * time.Second)

	x, from = ipmitool(t, at)
	y, _ = ipmiconsole(t, at) // it steals what is active
	x.waits(from, "[SOL ends: deactivated by admin", 5*time.Second)
	b.serial.say([]byte("hello"))
	y.waits(0, "hello", 5*time.Second)
	if n := len(b.serial.typed()); n != 0 {
		t.Errorf("%d bytes were typed", n)
	}
}

// TestSOLKeepalive: ipmitool asks every 15 s, which keeps a session that would
// be idle.
func TestSOLKeepalive(t *testing.T) {
	t.Parallel()
	b, at := solBMC(t, func(o *Options, _ *machine) { o.Config.IdleTimeout = 20 * time.Second })
	x, from := ipmitool(t, at)
	y, yfrom := ipmitool(t, at, "instance=2", "nokeepalive")
	y.waits(yfrom, "[SOL ends: the session was closed: idle]", 25*time.Second)
	time.Sleep(10 * time.Second)
	b.serial.say([]byte("still here"))
	x.waits(from, "still here", 5*time.Second)
	x.types("\r~.")
	x.exits(5 * time.Second)
}

// A proxy stands between consoles and the BMC and does what networks do.
type proxy struct {
	t      *testing.T
	front  *net.UDPConn
	server *net.UDPAddr

	mu      sync.Mutex
	rng     *rand.Rand
	loss    int // percent lost, and as many doubled
	delay   time.Duration
	dark    bool
	passed  int
	dropped int
	back    map[netip.AddrPort]*net.UDPConn
	tasks   sync.WaitGroup
	over    chan struct{}
}

func startProxy(t *testing.T, server *net.UDPAddr) *proxy {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp4", loopback())
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.ListenUDP("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, front: front, server: server,
		rng: rand.New(rand.NewPCG(1, 2)), back: map[netip.AddrPort]*net.UDPConn{}, over: make(chan struct{})}
	p.tasks.Go(p.forward)
	t.Cleanup(func() {
		close(p.over)
		_ = front.Close() // ends forward
		p.mu.Lock()
		for _, c := range p.back {
			_ = c.Close() // ends its goroutine
		}
		p.mu.Unlock()
		p.tasks.Wait()
		t.Logf("the proxy passed %d datagrams and dropped %d", p.passed, p.dropped)
	})
	return p
}

func (p *proxy) addr() *net.UDPAddr { return p.front.LocalAddr().(*net.UDPAddr) }

func (p *proxy) set(loss int, delay time.Duration, dark bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loss, p.delay, p.dark = loss, delay, dark
}

func (p *proxy) forward() {
	buf := make([]byte, 2048)
	for {
		n, from, err := p.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		c := p.back[from]
		if c == nil {
			if c, err = net.DialUDP("udp4", nil, p.server); err != nil {
				p.mu.Unlock()
				p.t.Error(err)
				return
			}
			p.back[from] = c
			p.tasks.Go(func() { p.backward(c, from) })
		}
		p.mu.Unlock()
		p.pass(buf[:n], func(b []byte) { _, _ = c.Write(b) }) // a lost datagram, as any
	}
}

func (p *proxy) backward(c *net.UDPConn, to netip.AddrPort) {
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.pass(buf[:n], func(b []byte) { _, _ = p.front.WriteToUDPAddrPort(b, to) }) // a lost datagram, as any
		}
	}
}

// pass sends a datagram on, once, twice or not at all, at once or later.
func (p *proxy) pass(b []byte, send func([]byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	copies := 1
	if p.dark || p.rng.IntN(100) < p.loss {
		copies = 0
	} else if p.rng.IntN(100) < p.loss {
		copies = 2
	}
	p.passed += copies
	if copies == 0 {
		p.dropped++
	}
	for range copies {
		if p.delay == 0 {
			send(b)
			continue
		}
		b := slices.Clone(b)
		wait := time.Duration(p.rng.Int64N(int64(p.delay)))
		p.tasks.Go(func() {
			select {
			case <-time.After(wait):
				send(b)
			case <-p.over:
			}
		})
	}
}

// TestSOLLossyNetwork: a console that goes by the book has every byte both
// ways, while a tenth of the datagrams is lost, a tenth doubled, and all are
// delayed so that they overtake each other; and the network goes dark for 5 s.
func TestSOLLossyNetwork(t *testing.T) {
	t.Parallel()
	b, at := solBMC(t)
	b.serial.rate = lineRate
	p := startProxy(t, at)
	conn, err := net.DialUDP("udp4", nil, p.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := b.console(t, conn.LocalAddr().String()).at(command.Operator)
	if code := c.activate(1); code != command.OK {
		t.Fatalf("Activate Payload = %v", code)
	}
	p.set(10, 20*time.Millisecond, false)
	output, input := payloadBytes(80_000, 4), payloadBytes(80_000, 5)
	var host sync.WaitGroup
	host.Go(func() { b.serial.paced(output) })
	dark := time.AfterFunc(6*time.Second, func() { p.set(10, 20*time.Millisecond, true) })
	light := time.AfterFunc(11*time.Second, func() { p.set(10, 20*time.Millisecond, false) })
	defer dark.Stop()
	defer light.Stop()
	began := time.Now()
	shown := c.carry(conn, input, len(output), 3*time.Minute)
	host.Wait()
	same(t, "host to console", shown, output)
	same(t, "console to host", b.serial.waitTyped(t, len(input), 10*time.Second), input)
	t.Logf("%d and %d bytes in %v", len(output), len(input), time.Since(began))
}

// carry types input and returns what is shown, until both are complete. Old
// packets are known by the session's sequence.
func (c *console) carry(conn *net.UDPConn, input []byte, want int, limit time.Duration) (shown []byte) {
	c.t.Helper()
	say := func(seq, ack, count byte, data []byte) {
		c.seq++
		if _, err := conn.Write(c.seal(c.seq, 0xC1, append([]byte{seq, ack, count, 0}, data...))); err != nil {
			c.t.Fatal(err)
		}
	}
	var (
		buf     [2048]byte
		seq     byte
		under   []byte
		sent    time.Time
		known   = newWindow()
		newest  uint32
		lastSeq byte
	)
	for end := time.Now().Add(limit); len(shown) < want || len(input) > 0; {
		if time.Now().After(end) {
			return shown
		}
		switch {
		case under == nil && len(input) > 0:
			seq = seq%15 + 1
			under = input[:min(len(input), 251)]
			say(seq, 0, 0, under)
			sent = time.Now()
		case under != nil && time.Since(sent) > 500*time.Millisecond:
			say(seq, 0, 0, under)
			sent = time.Now()
		}
		if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			c.t.Fatal(err)
		}
		n, err := conn.Read(buf[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			c.t.Fatal(err)
		}
		h, ok := parseSession(buf[rmcpHeaderLen:n])
		if !ok || !known.fresh(h.seq) {
			continue
		}
		known.take(h.seq)
		m := c.solPacket(buf[:n])
		if m[1] == seq && under != nil {
			input = input[m[2]:]
			under = nil
		}
		if m[0] == 0 || lastSeq != 0 && int32(h.seq-newest) < 0 {
			continue
		}
		if m[0] != lastSeq {
			shown = append(shown, m[4:]...)
		}
		lastSeq, newest = m[0], h.seq
		say(0, m[0], byte(len(m)-4), nil)
	}
	return shown
}

// TestSOLLossyIPMItool: the real one has every byte of the host through loss
// and doubling, and through 5 s of darkness. (Overtaking is beyond it, and what
// it types it types twice when an answer is lost: it counts its packets on.)
func TestSOLLossyIPMItool(t *testing.T) {
	for _, client := range []struct {
		name  string
		start func(*testing.T, *net.UDPAddr) (*terminal, int)
	}{
		{"ipmitool", func(t *testing.T, at *net.UDPAddr) (*terminal, int) { return ipmitool(t, at) }},
		{"ipmiconsole", ipmiconsole},
	} {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			b, at := solBMC(t)
			p := startProxy(t, at)
			x, from := client.start(t, p.addr())
			p.set(10, 0, false)
			output := payloadBytes(40_000, 6)
			b.serial.say(output[:20_000])
			time.Sleep(2 * time.Second)
			p.set(10, 0, true)
			b.serial.say(output[20_000:])
			time.Sleep(5 * time.Second)
			p.set(10, 0, false)
			for end := time.Now().Add(60 * time.Second); len(x.shown()) < from+len(output) && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(time.Second)
			same(t, "host to console", x.shown()[from:], output)
			p.set(0, 0, false)
			x.types("after all that\r")
			if got := b.serial.waitTyped(t, 15, 10*time.Second); !bytes.HasSuffix(got, []byte("after all that\r")) {
				t.Errorf("typed %q", got)
			}
		})
	}
}

// TestSOLCommands: what the clients say of SOL's parameters.
func TestSOLCommands(t *testing.T) {
	t.Parallel()
	_, at := solBMC(t)
	for _, test := range []struct {
		command string
		want    string
	}{
		{"sol info", "Character Send Threshold        : 96"},
		{"sol info", "Volatile Bit Rate (kbps)        : 115.2"},
		{"sol info", fmt.Sprintf("Payload Port                    : %d", at.Port)},
		{"sol set character-send-threshold 50", ""},
		{"sol set character-accumulate-level 5", ""},
		{"sol set retry-count 6", ""},
		{"sol set retry-interval 20", ""},
		{"sol set privilege-level admin", ""},
		{"sol set enabled true", ""},
		{"sol set non-volatile-bit-rate 115.2", ""},
		{"sol info", "Retry Count                     : 6"},
		{"sol info", "Privilege Level                 : ADMINISTRATOR"},
		{"sol looptest 3 50", "remain loop test counter: 1"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out, err := exec.CommandContext(ctx, "ipmitool", toolArgs(at, strings.Fields(test.command)...)...).CombinedOutput()
		cancel()
		if err != nil || !bytes.Contains(out, []byte(test.want)) {
			t.Errorf("%v: %v, want %q in\n%s", test.command, err, test.want, out)
		}
	}
}
