//go:build e2e

package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/internal/pty"
)

// A tty is a program on a pseudo terminal.
type tty struct {
	t    *testing.T
	name string
	pty  *os.File
	cmd  *exec.Cmd
	out  *lockedBuffer
	done chan struct{} // closed when the program is gone
}

// onTTY starts a program on a terminal and waits until it shows the words that
// say that it is ready.
func onTTY(t *testing.T, ready, name string, args ...string) *tty {
	t.Helper()
	term, end, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	x := &tty{t: t, name: name, pty: term, cmd: exec.Command(name, args...), out: &lockedBuffer{}, done: make(chan struct{})}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = end, end, end
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = x.cmd.Start()
	if err = errors.Join(err, end.Close()); err != nil {
		t.Fatal(errors.Join(err, term.Close()))
	}
	go func() {
		defer close(x.done)
		_, _ = io.Copy(x.out, term) // ends with EIO: nobody has the terminal open any more
	}()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill() // it may be gone already
		_ = x.cmd.Wait()         // killed
		<-x.done
		if err := term.Close(); err != nil {
			t.Error(err)
		}
	})
	x.see(0, ready)
	return x
}

// types writes text, as fast as the program takes it.
func (x *tty) types(text string) {
	x.t.Helper()
	if _, err := io.WriteString(x.pty, text); err != nil {
		x.t.Fatal(err)
	}
}

// see waits until what is shown from byte `from` on contains want, and returns
// where that ends.
func (x *tty) see(from int, want string) int {
	x.t.Helper()
	var shown string
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		shown = x.out.String()
		if i := strings.Index(shown[from:], want); i >= 0 {
			return from + i + len(want)
		}
	}
	x.t.Fatalf("%s: %q does not come; there is %q", x.name, want, shown[max(from, len(shown)-1000):])
	return 0
}

// here is how much is shown.
func (x *tty) here() int { return len(x.out.String()) }

// ends waits until the program is gone.
func (x *tty) ends() {
	x.t.Helper()
	select {
	case <-x.done:
	case <-time.After(30 * time.Second):
		x.t.Fatalf("%s is still there; it shows %q", x.name, x.out)
	}
}

// A relay stands between a console and the board and does what networks do.
type relay struct {
	t     *testing.T
	front *net.UDPConn
	board string

	mu      sync.Mutex
	rng     *rand.Rand
	loss    int           // percent that is lost, and as much doubled
	delay   time.Duration // the longest: datagrams overtake each other
	dark    bool          // nothing passes
	backs   map[netip.AddrPort]*net.UDPConn
	tasks   sync.WaitGroup
	over    chan struct{}
	passed  int
	dropped int
}

// relay opens a relay to the board's IPMI port, at an address of its own. Port 0
// is the board's own.
func (s *sim) relay(t *testing.T, port int) *relay {
	t.Helper()
	if port == 0 {
		port = s.base + 623
	}
	r := &relay{t: t, board: s.IPMI, rng: rand.New(rand.NewPCG(1, 2)), backs: map[netip.AddrPort]*net.UDPConn{}, over: make(chan struct{})}
	at := net.UDPAddr{IP: net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(250)), byte(1+rand.IntN(250))), Port: port}
	var err error
	if r.front, err = net.ListenUDP("udp4", &at); err != nil {
		t.Fatal(err)
	}
	r.tasks.Go(r.forward)
	t.Cleanup(func() {
		close(r.over)
		_ = r.front.Close() // ends forward
		r.mu.Lock()
		for _, c := range r.backs {
			_ = c.Close() // ends its backward
		}
		r.mu.Unlock()
		r.tasks.Wait()
		t.Logf("the relay passed %d datagrams and dropped %d", r.passed, r.dropped)
	})
	return r
}

// at is where consoles find the relay.
func (r *relay) at() (host, port string) {
	a := r.front.LocalAddr().(*net.UDPAddr)
	return a.IP.String(), strconv.Itoa(a.Port)
}

func (r *relay) set(loss int, delay time.Duration, dark bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loss, r.delay, r.dark = loss, delay, dark
}

func (r *relay) forward() {
	buf := make([]byte, 2048)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		c, err := r.back(from)
		if err != nil {
			r.t.Error(err)
			return
		}
		r.pass(buf[:n], func(p []byte) { _, _ = c.Write(p) }) // lost, as others are
	}
}

// back is the socket by which a console's datagrams go on.
func (r *relay) back(from netip.AddrPort) (*net.UDPConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.backs[from]; c != nil {
		return c, nil
	}
	c, err := net.Dial("udp4", r.board)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	r.backs[from] = conn
	r.tasks.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := conn.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil { // else the board's port was closed for a moment
				r.pass(buf[:n], func(p []byte) { _, _ = r.front.WriteToUDPAddrPort(p, from) }) // lost, as others are
			}
		}
	})
	return conn, nil
}

// pass sends a datagram on, once, twice or not at all, at once or later.
func (r *relay) pass(p []byte, send func([]byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	copies := 1
	if r.dark || r.rng.IntN(100) < r.loss {
		copies = 0
		r.dropped++
	} else if r.rng.IntN(100) < r.loss {
		copies = 2
	}
	r.passed += copies
	for range copies {
		if r.delay == 0 {
			send(p)
			continue
		}
		later, wait := bytes.Clone(p), time.Duration(r.rng.Int64N(int64(r.delay)))
		r.tasks.Go(func() {
			select {
			case <-time.After(wait):
				send(later)
			case <-r.over:
			}
		})
	}
}

// activate begins `sol activate` of ipmitool at an address.
func (s *sim) activate(t *testing.T, host, port string, args ...string) *tty {
	t.Helper()
	return onTTY(t, "for help]\n", "ipmitool", append([]string{"-I", "lanplus", "-C", "17", "-H", host, "-p", port,
		"-U", s.User, "-P", s.IPMIPassword, "sol", "activate"}, args...)...)
}

// ipmiconsole begins FreeIPMI's console. It knows no port but 623, so it needs a
// relay, and has to be told not to mind that the board says another one.
func (s *sim) ipmiconsole(t *testing.T, r *relay, args ...string) *tty {
	t.Helper()
	host, _ := r.at()
	return onTTY(t, "]\r\n", "ipmiconsole", append([]string{"-I", "17", "-W", "solport", "-h", host, "-u", s.User, "-p", s.IPMIPassword}, args...)...)
}

// TestSOLHost: two consoles over IPMI and one over SSH on one host. All see the
// same, whoever types, and stay through a restart and a power cycle.
func TestSOLHost(t *testing.T) {
	s := start(t)
	at, port, err := net.SplitHostPort(s.IPMI)
	if err != nil {
		t.Fatal(err)
	}
	s.ssh("settings set power.off_time 3s").must(t)
	one := s.activate(t, at, port)
	begun := one.here()
	two := s.ipmiconsole(t, s.relay(t, 623), "--sol-payload-instance=2")
	three := s.terminal(t, "console")
	three.see("console of")
	from := [2]int{begun, two.here()}
	all := func(words ...string) {
		t.Helper()
		for _, w := range words {
			from = [2]int{one.see(from[0], w), two.see(from[1], w)}
			three.see(w)
		}
	}
	s.ipmitool("chassis", "power", "on").must(t)
	all("SeaBIOS", "demo host is up", "> ")
	one.types("by ipmitool ")
	all("by ipmitool ")
	two.types("by ipmiconsole ")
	all("by ipmiconsole ")
	three.typeIn("by ssh")
	all("by ssh")
	one.types("\r") // the demo host takes a line
	all("\r\n> ")
	two.types("reboot\r")
	all("reboot", "SeaBIOS", "demo host is up", "> ")
	s.ipmitool("chassis", "power", "cycle").must(t)
	all("SeaBIOS", "demo host is up", "> ")
	// One fan-out: byte for byte the same.
	want := s.ssh("console -p").must(t)
	for i, got := range []string{one.out.String()[begun:], two.out.String()[strings.Index(two.out.String(), "]\r\n")+3:]} {
		if got != want {
			t.Errorf("SOL instance %d has %q, console -p %q", i+1, got, want)
		}
	}
	// QEMU takes a break; the demo host does not show it.
	one.types("\r~B")
	two.types("&B")
	all("\r\n> ")
	// What is typed at a dead machine is not kept for the next one.
	s.ipmitool("chassis", "power", "off").must(t)
	eventually(t, "the host to be off", 30*time.Second, func() bool { return strings.Contains(s.ssh("power status").out, " Off\n") })
	one.types("poweroff\r")
	from[0] = one.see(from[0], "[not sent: the host is off or asleep]")
	s.ipmitool("chassis", "power", "on").must(t)
	all("demo host is up")
	one.types("~.")
	one.ends()
	two.types("still here")
	two.see(from[1], "still here")
	two.types("&.")
	two.ends()
	for _, x := range []*tty{one, two} {
		if strings.Contains(x.out.String(), "no break was sent") {
			t.Errorf("%s: %q", x.name, x.out)
		}
	}
	three.typeIn("\r~.")
	three.ends()
}

// TestSOLEnds: a second console is refused, one that is ended by another is told
// who did it, and a break gets through.
func TestSOLEnds(t *testing.T) {
	s := start(t, "-host", "fake")
	at, port, err := net.SplitHostPort(s.IPMI)
	if err != nil {
		t.Fatal(err)
	}
	s.ipmitool("chassis", "power", "on").must(t)
	eventually(t, "the host to be up", 30*time.Second, func() bool { return strings.Contains(s.ssh("console -p").out, "is up\r\n> ") })
	x := s.activate(t, at, port)
	x.types("\r~B")
	from := x.see(0, "BREAK")
	second := s.ipmitool("sol", "activate")
	if want := "SOL payload already active on another session"; second.code == 0 || !strings.Contains(second.out, want) {
		t.Errorf("a second sol activate: got %d, %q, want %q", second.code, second.out, want)
	}
	s.ipmitool("sol", "deactivate").must(t)
	from = x.see(from, "[SOL ends: deactivated by admin from 127.0.0.1 by ipmi]")
	x.types("x") // ipmitool minds the status only in an answer
	x.see(from, "SOL session closed by BMC")
	x.ends()

	r := s.relay(t, 623)
	y := s.ipmiconsole(t, r)
	y.types("&B")
	from = y.see(0, "BREAK")
	s.ipmitool("sol", "deactivate").must(t)
	y.see(from, "SOL session stolen")
	y.ends()

	x = s.activate(t, at, port)
	y = s.ipmiconsole(t, r) // it takes over what is active
	x.see(0, "[SOL ends: deactivated by admin")
	y.types("whoami")
	y.see(0, "whoami")
	if got := s.ipmitool("sol", "deactivate", "instance=2"); got.code == 0 {
		t.Errorf("deactivating what is not active: %q", got.out)
	}
}

// printable are n characters that the demo host echoes, and that neither end a
// line nor begin an escape.
func printable(n int) string {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	p := make([]byte, n)
	for i := range p {
		for p[i] = ' '; p[i] == ' ' || p[i] == '&' || p[i] == '~'; {
			p[i] = byte(' ' + rng.IntN('~'-' '))
		}
	}
	return string(p)
}

// differ says where two texts do.
func differ(got, want string) string {
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%d bytes, want %d; they differ at %d: %q, want %q", len(got), len(want), i, got[i:min(i+40, len(got))], want[i:min(i+40, len(want))])
}

// echoes types text at most ahead bytes ahead of its echo, until all of that is
// shown in its order, and returns what is shown.
func (x *tty) echoes(text string, ahead int, limit time.Duration) (shown string, took time.Duration) {
	x.t.Helper()
	from, began, typed, echo := x.here(), time.Now(), 0, 0
	for read := 0; echo < len(text); {
		if time.Since(began) > limit {
			x.t.Fatalf("%s: %d bytes typed, %d of them echoed after %v", x.name, typed, echo, limit)
		}
		shown = x.out.String()[from:]
		for ; read < len(shown) && echo < len(text); read++ {
			if shown[read] == text[echo] {
				echo++
			}
		}
		if n := min(len(text)-typed, ahead-(typed-echo), 512); n > 0 {
			x.types(text[typed : typed+n])
			typed += n
			continue
		}
		time.Sleep(5 * time.Millisecond)
	}
	took = time.Since(began)
	time.Sleep(500 * time.Millisecond) // what is too much comes, too
	return x.out.String()[from:], took
}

// TestSOLNetwork: 64 KiB typed and echoed at once, by both consoles. A network
// that is dark for 5 s loses nothing that the host says meanwhile, nor does one
// that loses, doubles and reorders datagrams lose what is typed and echoed.
func TestSOLNetwork(t *testing.T) {
	s := start(t)
	s.ipmitool("chassis", "power", "on").must(t)
	eventually(t, "the demo host", 60*time.Second, func() bool { return strings.Contains(s.ssh("console -p").out, "demo host is up") })
	const ahead = 4096 // ipmiconsole takes no more than 8 KiB
	text := printable(64 << 10)
	good := func(x *tty) {
		x.t.Helper()
		shown, took := x.echoes(text, ahead, time.Minute)
		if shown != text {
			x.t.Errorf("%s: echo: %s", x.name, differ(shown, text))
		}
		x.t.Logf("%d bytes typed and echoed in %v: %.0f bytes/s each way", len(text), took, float64(len(text))/took.Seconds())
	}
	dark := func(x *tty, r *relay) {
		x.t.Helper()
		from := x.here()
		r.set(0, 0, true)
		s.ipmitool("chassis", "power", "reset").must(t)
		time.Sleep(5 * time.Second)
		if got := x.out.String()[from:]; got != "" {
			x.t.Errorf("%q came through the dark", got)
		}
		r.set(0, 0, false)
		x.see(from, "demo host is up\r\n> ")
		got, all := x.out.String()[from:], s.ssh("console -p").must(t)
		if !strings.HasSuffix(all, got) || !strings.Contains(got, "SeaBIOS") {
			x.t.Errorf("after the dark there is %q, want the end of %q", got, all[max(0, len(all)-1000):])
		}
		x.types("and on")
		x.see(from, "> and on")
	}
	t.Run("ipmitool", func(t *testing.T) {
		r := s.relay(t, 0)
		at, port := r.at()
		x := s.activate(t, at, port)
		good(x)
		dark(x, r)
		x.types("\r~.")
		x.ends()
	})
	t.Run("ipmiconsole", func(t *testing.T) {
		r := s.relay(t, 623)
		x := s.ipmiconsole(t, r, "--retransmission-timeout=150")
		good(x)
		dark(x, r)
		x.types("\r")
		x.see(x.here()-1, "> ")
		// ipmitool cannot type through a network that loses answers: it types
		// again what was taken. FreeIPMI goes by the book, but for showing a packet
		// again that the next one overtook (it looks at the packet's number only).
		// So what the host got has to be right byte for byte, and what is shown has
		// to have all of that.
		r.set(10, 20*time.Millisecond, false)
		shown, took := x.echoes(text, ahead, 2*time.Minute)
		t.Logf("%d bytes typed and echoed in %v through a bad network, %d shown again", len(text), took, len(shown)-len(text))
		if all := s.ssh("console -p").must(t); !strings.HasSuffix(all, "\r\n> "+text) {
			t.Errorf("the host echoed %s", differ(all[max(0, len(all)-len(text)):], text))
		}
		r.set(0, 0, false)
		x.types("&.")
		x.ends()
	})
}
