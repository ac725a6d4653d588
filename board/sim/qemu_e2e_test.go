//go:build e2e

package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/board/boardtest"
	"github.com/nitrino/nitrino/host"
)

const e2eLimit = 30 * time.Second

func newTestQEMU(t *testing.T, cfg QEMUConfig) *QEMU {
	t.Helper()
	q, err := NewQEMU(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Close has removed the pid file; a test that failed may not have closed.
		if p, err := q.find(); err != nil {
			t.Error(err)
		} else if p != nil {
			t.Errorf("QEMU %d is still there: killed: %v", p.Pid, p.Kill())
		}
	})
	return q
}

func closeQEMU(t *testing.T, q *QEMU) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), e2eLimit)
	defer cancel()
	if err := q.Close(ctx); err != nil {
		t.Errorf("closing: %v", err)
	}
}

func TestQEMUBoard(t *testing.T) {
	for _, machine := range []string{"pc", "q35"} {
		t.Run(machine, func(t *testing.T) {
			boardtest.Run(t, func(t *testing.T) boardtest.Rig {
				q := newTestQEMU(t, QEMUConfig{Dir: t.TempDir(), Machine: machine})
				t.Cleanup(func() { closeQEMU(t, q) })
				r := rig(t, q.Harness, Wires())
				r.BIOS, r.Limit = "SeaBIOS", e2eLimit
				return r
			})
		})
	}
}

// screen collects what the console shows.
type screen struct {
	conn host.PortConn
	done chan struct{}
	mu   sync.Mutex
	text bytes.Buffer
}

func openScreen(t *testing.T, q *QEMU) *screen {
	t.Helper()
	conn, err := q.con.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{conn: conn, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-s.done })
	return s
}

// expect waits for want and returns all up to it, which it forgets.
func (s *screen) expect(t *testing.T, want string) string {
	t.Helper()
	for end := time.Now().Add(e2eLimit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		if i := bytes.Index(s.text.Bytes(), []byte(want)); i >= 0 {
			got := string(s.text.Next(i + len(want)))
			s.mu.Unlock()
			return got
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Fatalf("the console did not show %q, but %q", want, s.text.String())
	return ""
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(e2eLimit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("%s: not within %v", what, e2eLimit)
}

func lit(q *QEMU) bool { level, _, _ := q.led.now(); return level }

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

const up = "nitrino demo host is up\r\n> "

// press presses the power button shortly and waits until it is released: a
// finger on a button that is pressed already is no press.
func press(q *QEMU) {
	q.PressPowerButton(50 * time.Millisecond)
	time.Sleep(100 * time.Millisecond)
}

func TestQEMUFirstByte(t *testing.T) {
	q := newTestQEMU(t, QEMUConfig{Dir: t.TempDir()})
	defer closeQEMU(t, q)
	s := openScreen(t, q)
	pressed := time.Now()
	q.PressPowerButton(50 * time.Millisecond)
	eventually(t, "LED", func() bool { return lit(q) })
	led := time.Since(pressed)
	// The very first thing that SeaBIOS sends is ESC c, reset the terminal.
	if got := s.expect(t, "\x1bc"); got != "\x1bc" {
		t.Errorf("bytes before the first: %q", got)
	}
	first := time.Since(pressed)
	s.expect(t, up)
	t.Logf("from the press: LED %v, first byte of the BIOS %v, demo host up %v", led, first, time.Since(pressed))
}

func TestQEMUBootOrder(t *testing.T) {
	q := newTestQEMU(t, QEMUConfig{Dir: t.TempDir()})
	defer closeQEMU(t, q)
	s := openScreen(t, q)
	choose := func(target host.BootTarget) {
		t.Helper()
		if err := q.SelectBoot(t.Context(), target, host.BootModeDefault); err != nil {
			t.Fatal(err)
		}
	}
	choose(host.BootCD) // while off: by the arguments
	press(q)
	s.expect(t, "Booting from DVD/CD")
	s.expect(t, up) // an empty drive, then the disk
	for range 2 {
		choose(host.BootPXE) // while on: at the next reset
		q.PressReset(50 * time.Millisecond)
		s.expect(t, "Booting from ROM")
		s.expect(t, "Configuring (net0")
		choose(host.BootDefault)
		q.PressReset(50 * time.Millisecond)
		if got := s.expect(t, up); !strings.Contains(got, "Booting from Hard Disk") {
			t.Errorf("default boot: got %q", got)
		}
	}
	if err := q.SelectBoot(t.Context(), host.BootPXE, host.BootModeUEFI); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("UEFI: got %v, want %v", err, errors.ErrUnsupported)
	}
}

func TestQEMUSleep(t *testing.T) {
	q := newTestQEMU(t, QEMUConfig{Dir: t.TempDir()})
	defer closeQEMU(t, q)
	s := openScreen(t, q)
	press(q)
	s.expect(t, up)
	if err := q.OSSleep(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("OSSleep: got %v, want %v", err, errors.ErrUnsupported)
	}
	if _, err := s.conn.Write([]byte("sleep\r")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true, false} {
		eventually(t, "LED blinks", func() bool { return lit(q) == want })
	}
	press(q)
	s.expect(t, up) // the demo host has no resume vector: waking restarts it
	eventually(t, "LED", func() bool { return lit(q) })
	time.Sleep(2 * blinkHalf)
	if !lit(q) {
		t.Error("the LED blinks on")
	}
	if _, err := s.conn.Write([]byte("reboot\r")); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "SeaBIOS")
	s.expect(t, up)
	if _, err := s.conn.Write([]byte("poweroff\r")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "LED off", func() bool { return !lit(q) })
}

// A path that no socket address has room for, with characters that QEMU's
// option syntax would take for its own.
func TestQEMUDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long,id=x ", 15))
	q := newTestQEMU(t, QEMUConfig{Dir: dir})
	s := openScreen(t, q)
	press(q)
	s.expect(t, up)

	if _, err := NewQEMU(t.Context(), QEMUConfig{Dir: dir}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second one on the same directory: got %v", err)
	}
	if err := q.Detach(); err != nil {
		t.Fatal(err)
	}
	q = newTestQEMU(t, QEMUConfig{Dir: dir})
	if !lit(q) || !q.On() {
		t.Error("the running machine was not taken over")
	}
	closeQEMU(t, q)
	if got, want := fmt.Sprint(files(t, dir)), "[demo.img qemu.log]"; got != want {
		t.Errorf("left behind: got %s, want %s", got, want)
	}
}

// Its process, started as TestQEMUKilled's child, is a board that is killed.
func TestQEMUChild(t *testing.T) {
	dir := os.Getenv("NITRINO_TEST_QEMU_DIR")
	if dir == "" {
		return // not a test of its own
	}
	q := newTestQEMU(t, QEMUConfig{Dir: dir})
	s := openScreen(t, q)
	press(q)
	s.expect(t, up)
	fmt.Printf("ready %s\n", q.identity.BootID)
	_, err := io.Copy(io.Discard, os.Stdin) // until the parent kills us, or is gone
	t.Error("not killed:", err)
	closeQEMU(t, q)
}

func TestQEMUKilled(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestQEMUChild$")
	child.Env = append(os.Environ(), "NITRINO_TEST_QEMU_DIR="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var bootID string
	if _, err := fmt.Fscanf(stdout, "ready %s\n", &bootID); err != nil {
		t.Error(err)
	}
	// The whole group, as Ctrl-C and a terminal's end have it.
	if err := syscall.Kill(-child.Process.Pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err == nil {
		t.Error("the child was not killed")
	}

	began := time.Now()
	q := newTestQEMU(t, QEMUConfig{Dir: dir})
	if !lit(q) {
		t.Error("the running machine was not taken over")
	}
	t.Logf("taken over after %v", time.Since(began))
	if q.identity.BootID != bootID {
		t.Errorf("boot ID: got %s, want %s", q.identity.BootID, bootID)
	}
	s := openScreen(t, q)
	if _, err := s.conn.Write([]byte("still here\r")); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "still here")
	press(q)
	s.expect(t, "shutting down")
	eventually(t, "LED off", func() bool { return !lit(q) })
	press(q)
	s.expect(t, up)
	closeQEMU(t, q)

	q = newTestQEMU(t, QEMUConfig{Dir: dir})
	if lit(q) {
		t.Error("on after a clean stop")
	}
	if q.identity.BootID == bootID {
		t.Error("a clean stop did not end the power-up")
	}
	closeQEMU(t, q)
}

// pid reads the pid file and makes sure that it names dir's QEMU.
func pid(t *testing.T, q *QEMU) int {
	t.Helper()
	p, err := q.find()
	if err != nil || p == nil {
		t.Fatalf("QEMU's pid: got %v, %v", p, err)
	}
	return p.Pid
}

func TestQEMUDies(t *testing.T) {
	dir := t.TempDir()
	q := newTestQEMU(t, QEMUConfig{Dir: dir})
	s := openScreen(t, q)
	press(q)
	s.expect(t, up)
	if err := syscall.Kill(pid(t, q), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "LED off", func() bool { return !lit(q) })
	press(q) // over what it left behind
	s.expect(t, up)

	// One that hangs is cut all the same.
	stopped := pid(t, q)
	if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	q.SetStandby(false)
	if lit(q) {
		t.Error("the LED is lit without AC")
	}
	eventually(t, "the process is gone", func() bool { return !alive(stopped) })
	q.SetStandby(true)
	press(q)
	s.expect(t, up)

	// One that hangs is not taken over, but ended.
	stopped = pid(t, q)
	if err := q.Detach(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	q = newTestQEMU(t, QEMUConfig{Dir: dir})
	if lit(q) || alive(stopped) {
		t.Error("a QEMU that hangs was taken over")
	}
	s = openScreen(t, q)
	press(q)
	s.expect(t, up)

	// One that went while nobody watched leaves only stale files.
	gone := pid(t, q)
	if err := q.Detach(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(gone, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return !alive(gone) })
	q = newTestQEMU(t, QEMUConfig{Dir: dir})
	if lit(q) {
		t.Error("a dead QEMU was taken over")
	}
	s = openScreen(t, q)
	press(q)
	s.expect(t, up)
	closeQEMU(t, q)
}

// A pid file may name a program that has nothing to do with us.
func TestQEMUForeignPid(t *testing.T) {
	dir := t.TempDir()
	foreign := exec.Command("sleep", "600")
	if err := foreign.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		foreign.Process.Kill()
		foreign.Wait()
	}()
	if err := os.WriteFile(filepath.Join(dir, pidFile), []byte(strconv.Itoa(foreign.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	closeQEMU(t, newTestQEMU(t, QEMUConfig{Dir: dir}))
	if !alive(foreign.Process.Pid) {
		t.Error("a foreign process was killed")
	}
}

// What QEMU complains about must reach the log, and the machine stay off.
func TestQEMUFailsToStart(t *testing.T) {
	var log lockedBuffer
	q, err := NewQEMU(t.Context(), QEMUConfig{Dir: t.TempDir(), Args: []string{"-device", "no-such-device"}}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer closeQEMU(t, q)
	press(q)
	eventually(t, "the complaint", func() bool { return strings.Contains(log.String(), "no-such-device") })
	if lit(q) || q.On() {
		t.Error("on without QEMU")
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
