//go:build guest

package virt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nitrino/nitrino/board"
	"github.com/nitrino/nitrino/board/boardtest"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/settings"
)

// What is here runs in the emulated board, as its /init. The kernel hands over
// the words of its command line that it does not know as environment.
const (
	// controlVariable holds the address that leads to the control socket of
	// the emulator, outputVariable the one that takes what the tests print,
	// and runVariable says which tests, as -test.run does.
	controlVariable = "nitrino_control"
	outputVariable  = "nitrino_output"
	runVariable     = "nitrino_run"

	guestAddress = "10.0.2.15"
	guestLimit   = time.Minute // for one thing that the host does, on a busy computer
	drainTime    = 300 * time.Millisecond
)

func TestMain(m *testing.M) {
	os.Args = []string{os.Args[0], "-test.v", "-test.timeout", "14m", "-test.run", os.Getenv(runVariable)}
	code := 1
	out, err := setUp()
	if err != nil {
		fmt.Println("setting up the guest:", err)
	} else {
		code = m.Run()
	}
	fmt.Printf("exit code %d\n", code)
	if out != nil { // the outside answers the end with its own
		_ = out.CloseWrite()
		_, _ = io.Copy(io.Discard, out)
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("power off:", err)
	}
	select {} // init must not end
}

// setUp does what an init has to, and sends all output to the outside.
func setUp() (*net.TCPConn, error) {
	for _, m := range []struct{ fs, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.fs, m.at, m.fs, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	if err := os.MkdirAll(os.TempDir(), 0o777); err != nil {
		return nil, err
	}
	name, err := New(slog.Default()).Interface()
	if err != nil {
		return nil, err
	}
	if err := address(name); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	to, err := net.ResolveTCPAddr("tcp4", os.Getenv(outputVariable))
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTCP("tcp4", nil, to)
	if err != nil {
		return nil, err
	}
	f, err := conn.File() // blocking, as a standard output is
	if err != nil {
		return nil, err
	}
	return conn, errors.Join(unix.Dup3(int(f.Fd()), 1, 0), unix.Dup3(int(f.Fd()), 2, 0))
}

func address(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := r.SetInet4Addr(net.ParseIP(guestAddress).To4()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCSIFADDR, r); err != nil {
		return err
	}
	if err := r.SetInet4Addr([]byte{255, 255, 255, 0}); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCSIFNETMASK, r); err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// An outside is the emulator's control socket: the hands and eyes at the host.
type outside struct {
	t *testing.T

	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	conn, err := net.Dial("tcp", os.Getenv(controlVariable))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &outside{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// do sends one line and returns what follows "ok" in the answer.
func (o *outside) do(line string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, err := io.WriteString(o.conn, line+"\n"); err != nil {
		o.t.Errorf("%s: %v", line, err)
		return ""
	}
	answer, err := o.in.ReadString('\n')
	if err != nil {
		o.t.Errorf("%s: %v", line, err)
		return ""
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(answer), "ok")
	if !ok {
		o.t.Errorf("%s: answered %q", line, answer)
	}
	return strings.TrimSpace(rest)
}

func (o *outside) line(n int) bool { return o.do(fmt.Sprintf("line %d", n)) == "1" }

// A typist is the console's port and types what makes the host's system act.
type typist struct {
	host.Port
	mu   sync.Mutex
	last host.PortConn
}

func (p *typist) Open(ctx context.Context) (host.PortConn, error) {
	c, err := p.Port.Open(ctx)
	if err == nil {
		p.mu.Lock()
		p.last = c
		p.mu.Unlock()
	}
	return c, err
}

func (p *typist) write(text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := io.WriteString(p.last, text)
	return err
}

func openBoard(t *testing.T) host.Parts {
	t.Helper()
	b := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err := b.Check(b.Wires()); err != nil {
		t.Fatal(err)
	}
	p, failed, release := b.Open(b.Wires(), board.DefaultSerial())
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	for _, err := range failed {
		t.Error(err)
	}
	if t.Failed() {
		t.FailNow()
	}
	return p
}

func TestBoard(t *testing.T) {
	boardtest.Run(t, func(t *testing.T) boardtest.Rig {
		o, p := newOutside(t), openBoard(t)
		o.do("host-ac-off")
		o.do("host-ac-on")
		until(t, "a host that is off, with AC", func() bool { return !o.line(linePowerLED) && o.line(lineStandby) })
		con := &typist{Port: p.Console}
		p.Console = con
		drain(t, con)
		on := func() bool { return o.line(linePowerLED) }
		byItself := func(text string) func() error {
			return func() error {
				if !on() {
					return host.ErrNoPower
				}
				return con.write(text)
			}
		}
		return boardtest.Rig{
			Parts: p, Limit: guestLimit, On: on,
			BIOS: "SeaBIOS", Up: "nitrino demo host is up\r\n> ", Down: "shutting down", AfterNMI: "NMI\r\n",
			Hang: "hang\r", Echoes: true,
			PressPower: func(time.Duration) { o.do("press-power") },
			PressReset: func(time.Duration) { o.do("press-reset") },
			SetStandby: func(on bool) { o.do(map[bool]string{false: "host-ac-off", true: "host-ac-on"}[on]) },
			IDLight:    func() bool { return o.line(lineIDLight) },
			OSReboot:   byItself("reboot\r"), OSShutdown: byItself("poweroff\r"),
		}
	}, "boot selection")
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(guestLimit); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", guestLimit, what)
		}
	}
}

// drain reads what an earlier boot of the host sent and nobody had read.
func drain(t *testing.T, p host.Port) {
	t.Helper()
	c, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	quiet := time.AfterFunc(drainTime, func() { c.Close() }) // its error is the Read's
	done.Go(func() {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			quiet.Reset(drainTime)
		}
	})
	done.Wait()
}

func TestWhatIsMissing(t *testing.T) {
	openBoard(t) // so that its lines are in use
	b := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	for _, tt := range []struct {
		name  string
		wires board.Wires
		check string // the field that Check names
		err   error
		text  string // of the WireError
	}{
		{"in use", board.Wires{PowerLED: &board.Wire{Line: linePowerLED}}, "", board.ErrBusy, `line 5 of GPIO chip 9030000.pl061, by "nitrino"`},
		{"no such line", board.Wires{IDLight: &board.Wire{Line: 8}}, "/id_light/line", board.ErrNoLine, "9030000.pl061 has the lines 0 to 7, not 8"},
		{"no such chip", board.Wires{Standby: &board.Wire{Chip: "20-0020", Line: 6}}, "/standby/chip", board.ErrNoLine, `no GPIO chip 20-0020`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := b.Check(tt.wires)
			if f, ok := errors.AsType[*settings.FieldError](err); ok != (tt.check != "") || ok && (f.Pointer != tt.check || !errors.Is(err, tt.err)) {
				t.Errorf("Check: got %v, want field %q", err, tt.check)
			}
			p, failed, release := b.Open(tt.wires, board.Serial{Port: board.SerialNone})
			if len(failed) != 1 || !errors.Is(failed[0], tt.err) || !strings.Contains(failed[0].Error(), tt.text) {
				t.Errorf("Open: got %v, want %v with %q", failed, tt.err, tt.text)
			}
			if p.PowerLED != nil || p.IDLight != nil || p.Standby != nil || p.Console != nil {
				t.Errorf("got parts %+v", p)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMachine(t *testing.T) {
	if got, err := board.Detect("/"); got != board.Virt || err != nil {
		t.Errorf("Detect: got %q, %v", got, err)
	}
	b := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if got, err := b.serial(); got != "ttyS0" || err != nil {
		t.Errorf("serial: got %q, %v", got, err)
	}
	// The kernel's console is never the host's port.
	p, _, release := b.Open(board.Wires{}, board.Serial{Port: "/dev/ttyAMA0", Baud: 115200})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := p.Console.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the kernel's console: got %v, %v", c, err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := b.Restart("0 tryboot"); err != nil {
		t.Errorf("Restart: %v", err)
	}
	if err := b.Restart("a\nb"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Restart with two lines: got %v", err)
	}
}
