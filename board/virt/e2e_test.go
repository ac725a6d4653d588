//go:build e2e

package virt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	suiteLimit = 15 * time.Minute // for all tests in the guest
	emulateEnd = 30 * time.Second // for the emulator to end what it started
	slirpHost  = "10.0.2.2"       // the outside's loopback, as the guest sees it
)

// TestInGuest runs the tests of guest_test.go inside the board that emulate
// plays, in front of its host; those of guest_rpi_test.go too. The test binary is the board's /init: it comes
// in an archive behind the card's initramfs, whose /init it replaces.
func TestInGuest(t *testing.T) {
	dir := t.TempDir()
	command(t, "go", "build", "-o", dir, "../../cmds/emulate", "../../cmds/mkcard")
	card := filepath.Join(dir, "card.img")
	command(t, filepath.Join(dir, "mkcard"), "-o", card)
	archive := filepath.Join(dir, "guest.cpio")
	guestArchive(t, dir, archive)

	control, output := listen(t), listen(t)
	t.Cleanup(serveControl(t, control, filepath.Join(dir, "run", "control")))
	words := fmt.Sprintf("nitrino_control=%s:%d nitrino_output=%s:%d", slirpHost, port(control), slirpHost, port(output))

	var log bytes.Buffer
	emulate := exec.Command(filepath.Join(dir, "emulate"), "-card", card, "-dir", filepath.Join(dir, "run"),
		"-base", "42400", "-host", "pc", "-initrd", archive, "-append", words)
	emulate.Stderr = &log
	if err := emulate.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		err := emulate.Wait()
		output.Close() // nothing comes from a board that is gone
		ended <- err
	}()

	text := readOutput(t, output)
	t.Logf("the board's tests:\n%s", text)
	passed := regexp.MustCompile(`(?m)^PASS$`).Match(text)
	for _, name := range []string{"TestBoard", "TestRaspberryPi", "TestMachine", "TestWhatIsMissing", "TestSensors"} {
		passed = passed && bytes.Contains(text, []byte("--- PASS: "+name+" "))
	}
	if !passed {
		serial, err := os.ReadFile(filepath.Join(dir, "run", "serial.log"))
		t.Errorf("the tests in the board did not pass; its serial log (%v):\n%s", err, serial)
	}

	if err := emulate.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("emulate: %v\n%s", err, log.String())
		}
	case <-time.After(emulateEnd):
		t.Errorf("emulate did not end on SIGTERM: killed: %v\n%s", emulate.Process.Kill(), log.String())
		<-ended
	}
}

// guestArchive builds the tests that run in the guest, and packs them.
func guestArchive(t *testing.T, dir, archive string) {
	t.Helper()
	build := exec.Command("go", "test", "-c", "-tags", "guest", "-ldflags", "-s -w", "-o", filepath.Join(dir, "init"), ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest's tests: %v\n%s", err, out)
	}
	var b bytes.Buffer
	for _, folder := range []string{"lib", "lib/modules", "lib/modules/nitrino-test"} {
		entry(&b, folder, 0o040755, nil)
	}
	for name, file := range map[string]string{"init": filepath.Join(dir, "init"), "lib/modules/nitrino-test/gpio-sim.ko": simModuleFile(t)} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		entry(&b, name, 0o100755, content)
	}
	entry(&b, "TRAILER!!!", 0, nil)
	if err := os.WriteFile(archive, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// simModuleFile finds gpio-sim among the kernels that mkcard keeps: that of the
// newest one.
func simModuleFile(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("NITRINO_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "nitrino")
	}
	files, err := filepath.Glob(filepath.Join(cache, "kernel", "*", "modules", "gpio-sim.ko"))
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
		t.Fatalf("there is no gpio-sim.ko below %s", cache)
	}
	return newest
}

// entry appends a file to an archive of the kind "newc" (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst).
func entry(b *bytes.Buffer, name string, mode uint32, content []byte) {
	pad := func() { b.Write(make([]byte, -b.Len()&3)) }
	fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	b.WriteString(name + "\x00")
	pad()
	b.Write(content)
	pad()
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // it may be closed already
	return l
}

func port(l *net.TCPListener) int { return l.Addr().(*net.TCPAddr).Port }

// serveControl joins each connection to the emulator's control socket. The
// function ends it.
func serveControl(t *testing.T, l net.Listener, socket string) (end func()) {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			guest, err := l.Accept()
			if err != nil {
				return // closed
			}
			control, err := net.Dial("unix", socket)
			if err != nil {
				t.Error(err)
				guest.Close()
				continue
			}
			all.Go(func() { join(guest, control) })
			all.Go(func() { join(control, guest) })
		}
	})
	return func() { l.Close(); all.Wait() }
}

// join copies until one side ends; that ends the other way too. Which side ended
// first does not matter.
func join(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	to.Close()
	from.Close()
}

// readOutput reads what the board's tests print, until they are done.
func readOutput(t *testing.T, l *net.TCPListener) []byte {
	t.Helper()
	end := time.Now().Add(suiteLimit)
	if err := l.SetDeadline(end); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Errorf("the board did not call: %v", err)
		return nil
	}
	if err := conn.SetDeadline(end); err != nil {
		t.Error(err)
	}
	text, err := io.ReadAll(conn)
	// A board that switches itself off does not say goodbye.
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reading from the board: %v", err)
	}
	conn.Close()
	return text
}
