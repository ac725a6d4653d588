//go:build e2e

package network

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guestEnd is for the board to start, pass its test and switch itself off.
const guestEnd = 150 * time.Second

// TestVLANOnTheWire boots a board's kernel, whose /init is the test of
// guest_test.go, on a cable to a switch that this test plays: what has the tag of
// VLAN 7 goes to and comes from one network, what has none another, each with
// its own dnsmasq. VLANs are not in every kernel, so the board's own is needed.
func TestVLANOnTheWire(t *testing.T) {
	if !inside(t) {
		return
	}
	l := newLab(t)
	s := newSwitch(l)
	l.lan("ip", "link", "set", "untagged", "master", "lan", "up")
	l.lan("ip", "link", "set", "tagged", "up")
	l.lan("ip", "addr", "add", "10.88.0.1/24", "dev", "tagged")
	l.lan("ip", "addr", "add", "2001:db8:88::1/64", "dev", "tagged", "nodad")
	l.dnsmasq(l.pool("--interface=tagged", "--dhcp-range=10.88.0.50,10.88.0.59,255.255.255.0,120s", "--dhcp-authoritative",
		"--enable-ra", "--dhcp-range=2001:db8:88::,ra-only,64,600s", "--ra-param=tagged,10")...)

	archive, serial := filepath.Join(l.dir, "guest.cpio"), filepath.Join(l.dir, "serial.log")
	guestArchive(t, l.dir, archive)
	board := exec.CommandContext(t.Context(), "qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72", "-m", "512", "-nodefaults", "-display", "none",
		"-serial", "file:"+serial, "-no-reboot", "-kernel", guestKernel(t), "-initrd", archive, "-append", "console=ttyAMA0 quiet panic=-1 net.ifnames=0",
		"-netdev", fmt.Sprintf("dgram,id=lan,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", s.board.Name, s.own.Name),
		"-device", "virtio-net-pci,netdev=lan,mac=02:00:00:00:00:05,romfile=")
	board.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	board.Stdout, board.Stderr = &said, &said
	if err := board.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- board.Wait() }()
	limit := time.After(guestEnd)
	for running := true; running; {
		// The guest waits until it is asked at each of these.
		for _, address := range []string{"10.88.0.5", "10.77.0.5"} {
			// It is mostly at neither.
			_ = exec.CommandContext(t.Context(), "ip", "netns", "exec", "lan", "curl", "-s", "--max-time", "0.5", "http://"+address+"/").Run()
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("QEMU: %v: %s", err, said.String())
			}
			running = false
		case <-limit:
			t.Errorf("the board did not end within %v: %v", guestEnd, board.Process.Kill())
			<-ended
			running = false
		default:
		}
	}
	text, err := os.ReadFile(serial)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the board:\n%s", text)
	if !regexp.MustCompile(`(?m)^PASS\r?$`).Match(text) || !bytes.Contains(text, []byte("--- PASS: TestVLANInGuest ")) {
		t.Error("the test in the board did not pass")
	}
	untagged, tagged, wrong := s.counts()
	t.Logf("from the board: %d frames without tag, %d of VLAN 7", untagged, tagged)
	if untagged == 0 || tagged == 0 || wrong > 0 {
		t.Errorf("got %d frames without tag, %d of VLAN 7, and of these %d without priority 5", untagged, tagged, wrong)
	}
}

// guestArchive builds the test that runs in the guest, and packs it as the
// kernel's Documentation/driver-api/early-userspace/buffer-format.rst says.
func guestArchive(t *testing.T, dir, archive string) {
	t.Helper()
	program := filepath.Join(dir, "init")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "guest", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest's test: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	entry := func(name string, mode uint32, content []byte) {
		pad := func() { b.Write(make([]byte, -b.Len()&3)) }
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		pad()
		b.Write(content)
		pad()
	}
	entry("init", 0o100755, content)
	entry("TRAILER!!!", 0, nil)
	if err := os.WriteFile(archive, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// guestKernel finds the newest of the kernels that mkcard keeps.
func guestKernel(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("NITRINO_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "nitrino")
	}
	files, err := filepath.Glob(filepath.Join(cache, "kernel", "*", "Image.gz"))
	if err != nil {
		t.Fatal(err)
	}
	var newest string
	var at time.Time
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.ModTime().After(at) {
			newest, at = file, info.ModTime()
		}
	}
	if newest == "" {
		t.Fatalf("there is no kernel below %s: bin/mkcard -only kernel makes it", cache)
	}
	return newest
}

// A vlanSwitch joins a board's cable, which carries frames as datagrams, to the
// interfaces "untagged" and "tagged" of the namespace lan.
type vlanSwitch struct {
	own, board net.UnixAddr
	conn       *net.UnixConn

	mu                      sync.Mutex
	untagged, tagged, wrong int
}

const (
	switchVLAN     = 7
	switchPriority = 5
	tagType        = 0x8100 // IEEE 802.1Q section 9.4
	macs           = 12     // bytes before the tag
	tagLen         = 4
)

func newSwitch(l *lab) *vlanSwitch {
	l.Helper()
	s := &vlanSwitch{own: net.UnixAddr{Name: filepath.Join(l.dir, "switch"), Net: "unixgram"}, board: net.UnixAddr{Name: filepath.Join(l.dir, "board"), Net: "unixgram"}}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &s.own); err != nil {
		l.Fatal(err)
	}
	untagged, tagged := tap(l, "untagged"), tap(l, "tagged")
	var all sync.WaitGroup
	all.Go(func() { s.fromBoard(untagged, tagged) })
	all.Go(func() { s.toBoard(untagged, func(frame []byte) []byte { return frame }) })
	all.Go(func() {
		s.toBoard(tagged, func(frame []byte) []byte {
			out := append(make([]byte, 0, len(frame)+tagLen), frame[:macs]...)
			out = binary.BigEndian.AppendUint16(out, tagType)
			out = binary.BigEndian.AppendUint16(out, switchVLAN)
			return append(out, frame[macs:]...)
		})
	})
	l.Cleanup(func() {
		// Their ends end the goroutines.
		s.conn.Close()
		untagged.Close()
		tagged.Close()
		all.Wait()
	})
	return s
}

// tap makes an interface whose other end is the file.
func tap(l *lab, name string) *os.File {
	l.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		l.Fatal(err)
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		l.Fatal(err)
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		l.Fatalf("interface %s: %v", name, err)
	}
	l.do("ip", "link", "set", name, "netns", "lan")
	return os.NewFile(uintptr(fd), name)
}

// fromBoard ends when the switch's socket is closed.
func (s *vlanSwitch) fromBoard(untagged, tagged *os.File) {
	b := make([]byte, 1<<16)
	for {
		n, err := s.conn.Read(b)
		if err != nil {
			return
		}
		frame := b[:n]
		if n < macs+tagLen {
			continue
		}
		to := untagged
		if binary.BigEndian.Uint16(frame[macs:]) == tagType {
			tci := binary.BigEndian.Uint16(frame[macs+2:])
			if tci&0xfff != switchVLAN {
				continue // of a VLAN that the switch does not have
			}
			frame = append(frame[:macs:macs], frame[macs+tagLen:]...)
			s.count(&s.tagged, tci>>13 != switchPriority)
			to = tagged
		} else {
			s.count(&s.untagged, false)
		}
		// An interface that is not up yet takes nothing, as a cable that is not
		// plugged.
		_, _ = to.Write(frame)
	}
}

func (s *vlanSwitch) count(n *int, wrong bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
	if wrong {
		s.wrong++
	}
}

func (s *vlanSwitch) counts() (untagged, tagged, wrong int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.untagged, s.tagged, s.wrong
}

// toBoard ends when the interface's file is closed.
func (s *vlanSwitch) toBoard(from *os.File, tag func([]byte) []byte) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		// The board is not there before it started, nor after its end.
		_, _ = s.conn.WriteToUnix(tag(b[:n]), &s.board)
	}
}
