//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/cmds/emulate/cardtest"
	"github.com/nitrino/nitrino/image/kernel"
	"github.com/nitrino/nitrino/internal/card"
)

const limit = 60 * time.Second

// asEmulate makes the test binary be the program.
const asEmulate = "NITRINO_TEST_AS_EMULATE"

func TestMain(m *testing.M) {
	if os.Getenv(asEmulate) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// kernelFiles returns the paths of the kernel and of a Pi 3's device tree, as
// they were built for the card.
func kernelFiles(t *testing.T) (image, tree string) {
	t.Helper()
	cache := os.Getenv("NITRINO_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "nitrino")
	}
	k, err := kernel.Build(t.Context(), kernel.Options{Cache: cache, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range k.DTBs {
		if filepath.Base(path) == piTree {
			return k.Image, path
		}
	}
	t.Fatalf("got device trees %q, want %s among them", k.DTBs, piTree)
	return "", ""
}

const piTree = "bcm2837-rpi-3-b.dtb"

// guest builds the initramfs of the tests: testdata/guest as /init.
func guest(t *testing.T) []byte {
	t.Helper()
	init := filepath.Join(t.TempDir(), "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", init, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	program, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
	}
	return archive(
		file{"dev", 0o040755, nil}, file{"proc", 0o040755, nil}, file{"sys", 0o040755, nil},
		file{"init", 0o100755, program},
	)
}

type file struct {
	name    string
	mode    int
	content []byte
}

// archive is a cpio archive in the kernel's format (newc).
func archive(files ...file) []byte {
	var b bytes.Buffer
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	for i, f := range append(files, file{name: "TRAILER!!!"}) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", i, f.mode, 0, 0, 1, 0, len(f.content), 0, 0, 0, 0, len(f.name)+1, 0)
		b.WriteString(f.name + "\x00")
		pad()
		b.Write(f.content)
		pad()
	}
	return b.Bytes()
}

// newCard makes a card with two slots that say which they are, each as the
// functions change it.
func newCard(t *testing.T, change ...func(slot int, files map[string][]byte)) string {
	t.Helper()
	image, tree := kernelFiles(t)
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	linux, initramfs, dtb := read(image), guest(t), read(tree)
	slot := func(n int) map[string][]byte {
		files := map[string][]byte{
			card.KernelFile:    linux,
			card.InitramfsFile: initramfs,
			card.ConfigFile:    []byte("[all]\narm_64bit=1\ninitramfs " + card.InitramfsFile + " followkernel\nkernel_watchdog_timeout=30\n[pi3]\ndevice_tree=" + piTree + "\n"),
			card.CmdlineFile: fmt.Appendf(nil, "console=null panic=1 %s=%s bcm2835_wdt.panic_partition=%d\nnot read\n",
				card.SlotParam, card.SlotName(n), card.OtherSlot(n)),
			piTree: dtb,
		}
		for _, c := range change {
			c(n, files)
		}
		return files
	}
	return cardtest.New(t, map[int]map[string][]byte{
		card.BootPartition: {
			card.AutobootFile: card.Autoboot{Boot: card.SlotA, Try: card.SlotB}.Encode(),
			card.LoginFile:    []byte(`{"user":"admin","password":"one","ipmi_password":"two"}`),
		},
		card.SlotA: slot(card.SlotA),
		card.SlotB: slot(card.SlotB),
	})
}

// A run is a running emulate.
type running struct {
	t    *testing.T
	dir  string
	base int
	cmd  *exec.Cmd
	out  *bufio.Scanner

	mu  sync.Mutex
	log bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func start(t *testing.T, dir string, base int, args ...string) *running {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, dir: dir, base: base}
	r.cmd = exec.Command(program, append([]string{"-dir", dir, "-base", fmt.Sprint(base), "-v"}, args...)...)
	r.cmd.Env = append(os.Environ(), asEmulate+"=1")
	r.cmd.Stderr = r
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewScanner(stdout)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.t = t
		if r.cmd.ProcessState == nil {
			r.stop()
		}
		if t.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			serial, err := os.ReadFile(filepath.Join(dir, serialLog))
			t.Logf("emulate said:\n%s\nthe board said (%v):\n%s", r.log.String(), err, serial[max(0, len(serial)-8192):])
		}
	})
	return r
}

// in makes a subtest the one that fails.
func (r *running) in(t *testing.T) {
	outer := r.t
	r.t = t
	t.Cleanup(func() { r.t = outer })
}

// freeBase finds a base whose ports nobody uses.
func freeBase(t *testing.T) int {
	t.Helper()
	for range 100 {
		base := 40000 + rand.IntN(19000)
		free := func(s service) bool {
			at := net.JoinHostPort("127.0.0.1", fmt.Sprint(base+s.port))
			if s.protocol == "udp" {
				c, err := net.ListenPacket("udp", at)
				return err == nil && c.Close() == nil
			}
			l, err := net.Listen("tcp", at)
			return err == nil && l.Close() == nil
		}
		if free(https()) && free(ssh()) && free(ipmi()) {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// stop ends emulate as a service manager does.
func (r *running) stop() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Error(err)
	}
	_, _ = io.Copy(io.Discard, io.Reader(nothing{r.out}))
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("emulate: %v", err)
	}
}

// nothing reads what a scanner has left.
type nothing struct{ *bufio.Scanner }

func (n nothing) Read(p []byte) (int, error) {
	if n.Scan() {
		return 0, nil
	}
	return 0, io.EOF
}

// processes lists the QEMUs that run in a folder.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range names {
		cwd, err := os.Readlink(filepath.Join(filepath.Dir(name), "cwd"))
		if err != nil || cwd != dir && filepath.Dir(cwd) != dir {
			continue
		}
		if line, err := os.ReadFile(name); err == nil && bytes.HasPrefix(line, []byte("qemu-system")) || bytes.Contains(line, []byte("/qemu-system")) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func (r *running) ready() (line struct {
	Ready        bool
	Redfish, SSH string
	IPMI, User   string
	Password     string
	IPMIPassword string `json:"ipmi_password"`
	ReadyMS      int64  `json:"ready_ms"`
}) {
	r.t.Helper()
	timer := time.AfterFunc(limit, func() { _ = r.cmd.Process.Kill() })
	defer timer.Stop()
	if !r.out.Scan() {
		r.t.Fatalf("no ready line: %v", r.out.Err())
	}
	if err := json.Unmarshal(r.out.Bytes(), &line); err != nil || !line.Ready {
		r.t.Fatalf("got %q (%v), want a ready line", r.out.Text(), err)
	}
	return line
}

// control sends a line to the control socket.
func (r *running) control(line string) string {
	r.t.Helper()
	conn, err := net.Dial("unix", filepath.Join(r.dir, "control"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	return ask(r.t, conn, line)
}

func ask(t *testing.T, conn net.Conn, line string) string {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.TrimSpace(answer)
}

// guest connects to the guest that boots now, or has.
func (r *running) guest() net.Conn {
	r.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.base+22))
		if err != nil {
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			r.t.Fatal(err)
		}
		banner := make([]byte, len("SSH-2.0-guest\r\n"))
		if _, err := io.ReadFull(conn, banner); err == nil {
			return conn
		}
		conn.Close()
	}
	r.t.Fatal("the guest does not answer")
	return nil
}

// gone waits until the guest that conn leads to has ended.
func (r *running) gone(conn net.Conn) {
	r.t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
		r.t.Fatalf("the guest is still there: %v", err)
	}
}

func (r *running) wantSlot(g net.Conn, want string) {
	r.t.Helper()
	if got := ask(r.t, g, "cmdline"); !strings.Contains(got, card.SlotParam+"="+want+" ") || !strings.Contains(got, "console=ttyAMA0") || strings.Contains(got, "not read") {
		r.t.Fatalf("got command line %q, want that of slot %s", got, want)
	}
}

func (r *running) want(got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Fatalf("got %q, want %q", got, want)
	}
}

func (r *running) wantLine(n int, want string) {
	r.t.Helper()
	var got string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = r.control(fmt.Sprintf("line %d", n)); got == want {
			return
		}
	}
	r.t.Fatalf("line %d: got %q, want %q", n, got, want)
}

// wantLog waits until emulate has said something.
func (r *running) wantLog(want string) {
	r.t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		r.mu.Lock()
		said := strings.Contains(r.log.String(), want)
		r.mu.Unlock()
		if said {
			return
		}
	}
	r.t.Fatalf("it does not say %q", want)
}

// wantFrames waits for the host's first words on its network.
func (r *running) wantFrames(g net.Conn) {
	r.t.Helper()
	var got string
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got = ask(r.t, g, "frames"); got != "0" && !strings.HasPrefix(got, "error") {
			return
		}
	}
	r.t.Fatalf("got %s frames from the host", got)
}

func TestEmulate(t *testing.T) {
	image, dir := newCard(t), t.TempDir()
	r := start(t, dir, freeBase(t), "-card", image)
	line := r.ready()
	t.Logf("ready after %d ms", line.ReadyMS)
	if line.User != "admin" || line.Password != "one" || line.IPMIPassword != "two" ||
		line.SSH != fmt.Sprintf("127.0.0.1:%d", r.base+22) || line.Redfish != fmt.Sprintf("https://127.0.0.1:%d", r.base+443) ||
		line.IPMI != fmt.Sprintf("127.0.0.1:%d", r.base+623) {
		t.Errorf("got ready line %+v", line)
	}
	g := r.guest()
	r.wantSlot(g, "a")
	// Each goes on where the one before has ended.
	run := func(name string, test func(*testing.T)) {
		if !t.Run(name, test) {
			t.FailNow()
		}
	}

	run("wires", func(t *testing.T) {
		r.in(t)
		r.want(ask(t, g, "get 5"), "0")
		r.want(ask(t, g, "get 6"), "1")
		r.want(ask(t, g, "get 7"), "1")
		edge := make(chan string, 1)
		waiting := r.guest()
		go func() { edge <- ask(t, waiting, "edge 5") }()
		time.Sleep(200 * time.Millisecond) // until the guest waits
		r.want(ask(t, g, "set 0 1"), "ok")
		r.wantLine(0, "ok 1")
		r.want(ask(t, g, "set 0 0"), "ok")
		r.want(<-edge, "rising")
		r.wantLine(5, "ok 1")
		r.want(ask(t, g, "get 5"), "1")
		for got := ""; got != "nitrino demo host is up"; {
			got = ask(t, g, "read")
			if strings.HasPrefix(got, "error") {
				t.Fatalf("the host's serial port: %s", got)
			}
		}
		r.want(ask(t, g, "write from-the-board"), "ok")
		r.want(ask(t, g, "read"), "> from-the-board")
		r.want(r.control("host-ac-off"), "ok")
		r.wantLine(6, "ok 0")
		r.wantLine(5, "ok 0")
		r.want(ask(t, g, "get 6"), "0")
		r.want(r.control("host-ac-on"), "ok")
		r.want(r.control("press-power"), "ok")
		r.wantLine(5, "ok 1")
		r.want(r.control("line 3"), "error: line 3: no wire ends there")
	})

	run("tryboot once", func(t *testing.T) {
		r.in(t)
		r.want(ask(t, g, "set 4 1"), "ok")
		r.wantLine(4, "ok 1")
		r.want(ask(t, g, "tell reboot 99"), `error: reboot argument "99": partition 99 is not between 0 and 62`)
		r.want(ask(t, g, "tell reboot 0 tryboot"), "ok")
		ask(t, g, "reboot")
		r.wantLine(4, "ok 0")
		r.gone(g)
		g = r.guest()
		r.wantSlot(g, "b")
		r.want(ask(t, g, "get 5"), "1") // the host ran on, and the board sees it
		ask(t, g, "reboot")
		r.gone(g)
		g = r.guest()
		r.wantSlot(g, "a")
	})

	run("watchdog", func(t *testing.T) {
		r.in(t)
		r.want(ask(t, g, "tell reboot 3"), "ok")
		r.want(ask(t, g, "watchdog"), "ok")
		r.gone(g)
		g = r.guest()
		r.wantSlot(g, "b")
	})

	run("panic", func(t *testing.T) {
		r.in(t)
		ask(t, g, "reboot")
		r.gone(g)
		g = r.guest()
		r.wantSlot(g, "a")
		ask(t, g, "panic")
		r.gone(g)
		g = r.guest()
		r.wantSlot(g, "b")
	})

	run("cut", func(t *testing.T) {
		r.in(t)
		r.want(ask(t, g, "tell reboot 3"), "ok")
		r.want(r.control("cut"), "ok")
		r.gone(g)
		if got := processes(t, dir); len(got) != 1 || !strings.Contains(got[0], "nitrino-host") {
			t.Errorf("got processes %q, want the host's alone", got)
		}
		r.want(r.control("restore"), "ok")
		g = r.guest()
		r.wantSlot(g, "a")
	})

	run("damaged slot", func(t *testing.T) {
		r.in(t)
		ask(t, g, "poweroff")
		r.gone(g)
		cardtest.Damage(t, image, card.SlotA, 0, 512)
		r.want(r.control("restore"), "ok")
		g = r.guest()
		r.wantSlot(g, "b")
	})

	r.stop()
	if got := processes(t, dir); len(got) > 0 {
		t.Errorf("got processes %q, want none", got)
	}
}

// TestKilled kills emulate: the board ends with it, the host does not.
func TestKilled(t *testing.T) {
	image, dir, base := newCard(t), t.TempDir(), freeBase(t)
	// A disk that does not boot makes the host try its network.
	if err := os.Mkdir(filepath.Join(dir, hostDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, hostDir, "demo.img"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, dir, base, "-card", image, "-host", "q35")
	r.ready()
	r.want(r.control("press-power"), "ok")
	r.wantLine(5, "ok 1")
	r.wantFrames(r.guest())
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait() // it was killed
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		got := processes(t, dir)
		if len(got) == 1 && strings.Contains(got[0], "nitrino-host") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("got processes %q, want the host's alone", got)
		}
	}
	r = start(t, dir, base, "-card", image, "-host", "q35")
	r.ready()
	r.wantLine(5, "ok 1")
	g := r.guest()
	r.want(ask(t, g, "get 5"), "1")
	r.want(r.control("press-reset"), "ok") // so that the host tries its network again
	r.wantFrames(g)
	r.stop()
	if got := processes(t, dir); len(got) > 0 {
		t.Errorf("got processes %q, want none", got)
	}
}

// TestRecord writes to the card, over a cut, and finds both in the log.
func TestRecord(t *testing.T) {
	image, dir := newCard(t), t.TempDir()
	log := filepath.Join(t.TempDir(), "writes, all")
	r := start(t, dir, freeBase(t), "-card", image, "-host", "none", "-record", log)
	entries := func() uint64 {
		t.Helper()
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			return 0 // nothing was written yet
		}
		// The kernel's Documentation/admin-guide/device-mapper/log-writes.rst
		// and its struct log_write_super.
		if magic := binary.LittleEndian.Uint64(b); magic != 0x6a736677736872 {
			t.Fatalf("got magic %#x", magic)
		}
		return binary.LittleEndian.Uint64(b[16:])
	}
	r.ready()
	g := r.guest()
	before := entries()
	r.want(ask(t, g, "poke 0123456789"), "ok")
	first := entries()
	r.want(r.control("cut"), "ok")
	if got := entries(); got != first || first <= before {
		t.Errorf("got %d entries, then %d, after the cut %d", before, first, got)
	}
	r.want(r.control("host-ac-off"), "error: there is no host")
	r.want(r.control("restore"), "ok")
	g = r.guest()
	r.want(ask(t, g, "poke abcdefghij"), "ok")
	if got := entries(); got <= first {
		t.Errorf("got %d entries after the second start, want more than %d", got, first)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0123456789", "abcdefghij"} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s is not in the log", want)
		}
	}
	r.stop()
}

// TestHang has a kernel that hangs before it takes the watchdog over.
func TestHang(t *testing.T) {
	hangs := make([]byte, 4096)
	binary.LittleEndian.PutUint32(hangs, 0x14000000) // a branch to itself
	binary.LittleEndian.PutUint64(hangs[16:], uint64(len(hangs)))
	copy(hangs[56:], "ARM\x64")
	image, dir := newCard(t, func(slot int, files map[string][]byte) {
		if slot == card.SlotA {
			files[card.KernelFile] = hangs
			files[card.ConfigFile] = append(files[card.ConfigFile], "[all]\nkernel_watchdog_timeout=1\nkernel_watchdog_partition=3\n"...)
		}
	}), t.TempDir()
	r := start(t, dir, freeBase(t), "-card", image, "-host", "none")
	r.ready()
	r.wantSlot(r.guest(), "b")
	r.wantLog("the kernel did not take the watchdog over")
	r.wantLog("the kernel has taken the watchdog over") // slot B's did
	r.stop()
}

// TestNothing has a card that nothing can be started from, until it changes.
func TestNothing(t *testing.T) {
	image, dir := newCard(t), t.TempDir()
	good, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{card.SlotA, card.SlotB} {
		cardtest.Damage(t, image, n, 0, 1<<20)
	}
	r := start(t, dir, freeBase(t), "-card", image, "-host", "none")
	r.wantLog("nothing on the card can be started")
	if err := os.WriteFile(image, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r.ready()
	r.stop()
}

// TestRaspberryPi boots the same card as a Pi 3.
func TestRaspberryPi(t *testing.T) {
	image, dir := newCard(t), t.TempDir()
	r := start(t, dir, freeBase(t), "-card", image, "-machine", "raspi3b", "-append", "the-end")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		log, err := os.ReadFile(filepath.Join(dir, serialLog))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if bytes.Contains(log, []byte("Raspberry Pi 3 Model B")) && bytes.Contains(log, []byte("mmcblk")) && bytes.Contains(log, []byte("the-end")) {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the kernel did not find its card")
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.stop()
}
