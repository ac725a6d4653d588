package ipmi

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/ipmi/command"
)

// serve runs b on a socket until the test ends.
func serve(t testing.TB, b *bmc, network, addr string) *net.UDPAddr {
	t.Helper()
	a, err := net.ResolveUDPAddr(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP(network, a)
	if err != nil {
		t.Fatalf("listening on %s %s: %v", network, addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Serve(ctx, conn); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve = %v, want %v", err, context.Canceled)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().(*net.UDPAddr)
}

func exchangeUDP(t testing.TB, network string, to *net.UDPAddr, p []byte) []byte {
	t.Helper()
	conn, err := net.DialUDP(network, nil, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatalf("no answer from %v: %v", to, err)
	}
	return buf[:n]
}

// TestAnswersFromTheAddressAsked: a connected socket takes answers only from
// the address that it asked.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	ping := unhex(t, "0600ff06000011be802a0000")
	for _, test := range []struct{ network, listen, ask string }{
		{"udp4", "127.0.0.1:0", "127.0.0.1"},
		{"udp4", "0.0.0.0:0", "127.0.0.1"},
		{"udp4", "0.0.0.0:0", "127.0.0.77"},
		{"udp6", "[::]:0", "::1"},
		{"udp", ":0", "127.0.0.77"},
	} {
		t.Run(test.listen+" asked at "+test.ask, func(t *testing.T) {
			to := serve(t, newBMC(t), test.network, test.listen)
			// A packet that came before Serve began would not tell its
			// destination: the first ask finds out that it has.
			first := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: to.Port}
			if test.network == "udp6" {
				first.IP = net.IPv6loopback
			}
			exchangeUDP(t, "udp", first, ping)
			to = &net.UDPAddr{IP: net.ParseIP(test.ask), Port: to.Port}
			if got := exchangeUDP(t, "udp", to, ping); len(got) != 28 || got[9] != 0x2A {
				t.Errorf("pong % X", got)
			}
		})
	}
}

// TestServe goes over a socket, with a packet that is too long before, and a
// command that waits.
func TestServe(t *testing.T) {
	b := newBMC(t)
	to := serve(t, b, "udp4", "127.0.0.1:0")
	conn, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, maxPacket+1)); err != nil {
		t.Fatal(err)
	}
	c := b.console(t, conn.LocalAddr().String())
	buf := make([]byte, 2048)
	ask := func(p []byte) []byte {
		t.Helper()
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(buf[:n])
	}
	c.tag = 1
	r := c.body(ask(plain(0x10, openRequestOf(c.tag, 4, c.consoleID, algorithms(17)))), 0x11)
	c.id = uint32(r[8]) | uint32(r[9])<<8 | uint32(r[10])<<16 | uint32(r[11])<<24
	c.rakp2(ask(plain(0x12, c.rakp1Body("admin"))))
	if r := c.rakp4(ask(plain(0x14, c.rakp3Body(0)))); r[1] != 0 {
		t.Fatalf("RAKP 4: status %02Xh", r[1])
	}
	c.keys()
	for i, m := range []struct {
		cmd  byte
		data byte
		n    command.NetFn
	}{{0x3B, 4, command.App}, {0x02, 1, command.Chassis}} {
		code, _ := c.response(c.unseal(ask(c.next(request(byte(i), m.n, m.cmd, m.data)))), byte(i), m.n, m.cmd)
		if code != command.OK {
			t.Errorf("%02X/%02X = %v", m.n, m.cmd, code)
		}
	}
	if got := len(b.host.calls()); got != 1 {
		t.Errorf("the host was asked %d times, want 1", got)
	}
}

func TestServeTellsSocketFailure(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := newBMC(t).Serve(context.Background(), conn); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed socket = %v, want %v", err, net.ErrClosed)
	}
}

// BenchmarkGetDeviceID is one command in a session: verify, decrypt, run,
// encrypt, authenticate. The packets are made beforehand.
func BenchmarkGetDeviceID(b *testing.B) {
	for _, suite := range []byte{17, 3} {
		b.Run("suite"+map[byte]string{17: "17", 3: "3"}[suite], func(b *testing.B) {
			s := newBMC(b, func(o *Options, _ *machine) { o.Config.Suite3 = true })
			c := s.console(b, here)
			c.suite = suite
			c.login()
			packets := make([][]byte, 4096)
			for i := range packets {
				packets[i] = c.next(request(byte(i)&0x3F, command.App, 0x01))
			}
			x := s.table.byID[c.id]
			var in [maxPacket]byte
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%len(packets) == 0 {
					x.window = newWindow()
				}
				p := packets[i%len(packets)]
				copy(in[:], p)
				if len(c.w.handle(in[:len(p)])) == 0 {
					b.Fatal("no answer")
				}
				c.w.finish()
			}
		})
	}
}

func TestNoAllocations(t *testing.T) {
	s := newBMC(t)
	c := s.console(t, here).login()
	c.command(command.App, 0x01)
	var packets [][]byte
	for range 102 {
		packets = append(packets, c.next(request(1, command.App, 0x01)))
	}
	i := 0
	if n := testing.AllocsPerRun(100, func() {
		if len(c.w.handle(packets[i])) == 0 {
			t.Fatal("no answer")
		}
		i++
	}); n != 0 {
		t.Errorf("Get Device ID in a session allocates %v times", n)
	}
}

// BenchmarkOpenSession is a whole login, Open Session to RAKP 4, the console's
// part included.
func BenchmarkOpenSession(b *testing.B) {
	s := newBMC(b, func(o *Options, _ *machine) { o.Config.LoginsPerSecond = 10000 })
	s.logins = newLimiter(1e9, 1e9)
	c := s.console(b, here)
	b.ReportAllocs()
	for b.Loop() {
		c.login()
		s.table.end(s.table.byID[c.id], time.Time{})
		s.expire(time.Now())
	}
}

// BenchmarkUDP has one console that asks and waits, over loopback.
func BenchmarkUDP(b *testing.B) {
	s := newBMC(b)
	to := serve(b, s, "udp4", "127.0.0.1:0")
	conn, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	c := s.console(b, conn.LocalAddr().String()).login()
	buf := make([]byte, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(c.next(request(1, command.App, 0x01))); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUDPConsoles has eight of them at once.
func BenchmarkUDPConsoles(b *testing.B) {
	s := newBMC(b)
	to := serve(b, s, "udp4", "127.0.0.1:0")
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.DialUDP("udp4", nil, to)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		c := s.console(b, conn.LocalAddr().String()).login()
		buf := make([]byte, 2048)
		for pb.Next() {
			if _, err := conn.Write(c.next(request(1, command.App, 0x01))); err != nil {
				b.Error(err)
				return
			}
			if _, err := conn.Read(buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
