//go:build e2e || bench

package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/image/initramfs"
)

// What the tests of the card share: made once, by the first that asks.
var made struct {
	sync.Once
	err                    error
	mkcard, emulate, guest string // programs, and the archive with the hand of the tests
	image                  string // a card that has never been started
}

// writeSettings writes the owner's settings of the card of the tests: those of
// make run, with a name of their own.
func writeSettings(path string) error {
	text, err := os.ReadFile("../image/emulated.json")
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(text, []byte(`"hostname": "nitrino"`), []byte(`"hostname": "rack7"`), 1), 0o600)
}

// card answers a fresh copy of the card image.
func card(tb testing.TB) string {
	tb.Helper()
	made.Do(func() { made.err = makeCard(filepath.Dir(program)) })
	if made.err != nil {
		tb.Fatalf("the card image: %v", made.err)
	}
	path := filepath.Join(tb.TempDir(), "card.img")
	client(tb, "cp", "--sparse=always", made.image, path).must(tb)
	return path
}

// makeCard builds the programs and the image in dir, from kept parts where
// there are any.
func makeCard(dir string) error {
	made.mkcard, made.emulate = filepath.Join(dir, "mkcard"), filepath.Join(dir, "emulate")
	made.guest, made.image = filepath.Join(dir, "guest.cpio"), filepath.Join(dir, "card.img")
	guest, bmc := filepath.Join(dir, "guest"), filepath.Join(dir, "bmc.json")
	if err := writeSettings(bmc); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"go", "build", "-o", made.mkcard, "../cmds/mkcard"},
		{"go", "build", "-o", made.emulate, "../cmds/emulate"},
		{"env", "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "./guest"},
		{made.mkcard, "-o", made.image, "-bmc", bmc},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	archive, err := initramfs.Archive([]initramfs.File{{Name: "test/init", Mode: 0o755, Data: program}})
	if err != nil {
		return err
	}
	return os.WriteFile(made.guest, archive, 0o600)
}

// cacheDir is where mkcard keeps what takes long to build.
func cacheDir(tb testing.TB) string {
	tb.Helper()
	if dir := os.Getenv("NITRINO_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, "nitrino")
}

// A booted is a card that runs in the emulated board.
type booted struct {
	*sim
	image string

	mu    sync.Mutex
	agent net.Conn
	lines *bufio.Reader
}

// insert is a card in an emulated board that does not run yet, with the hand of
// the tests in it.
func insert(tb testing.TB, image string, args ...string) *booted {
	tb.Helper()
	b := plain(tb, image, args...)
	b.args = append(b.args, "-initrd", made.guest, "-append", "rdinit=/test/init",
		"-qemu", "-chardev", "-qemu", "socket,id=test,server=on,wait=off,path="+filepath.Join(b.dir, "test"),
		"-qemu", "-device", "-qemu", "virtserialport,chardev=test,name=org.nitrino.test")
	return b
}

// plain is insert without that hand.
func plain(tb testing.TB, image string, args ...string) *booted {
	tb.Helper()
	// A unix socket's path has at most 107 bytes.
	dir, err := os.MkdirTemp("", "board-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	args = append([]string{"-card", image}, args...)
	return &booted{sim: &sim{tb: tb, program: made.emulate, dir: dir, args: args, base: freeBase(tb)}, image: image}
}

// boot starts a card with the hand of the tests in it, and waits until it
// answers.
func boot(tb testing.TB, image string, args ...string) *booted {
	tb.Helper()
	b := insert(tb, image, args...)
	b.run()
	tb.Cleanup(b.stop)
	return b
}

// log is the kernel's log as the emulated serial port showed it.
func (b *booted) log() string {
	b.tb.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "serial.log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.tb.Fatal(err)
	}
	return string(text)
}

// ask has the hand in the board do something.
func (b *booted) ask(request map[string]any) (string, error) {
	b.tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var answer struct{ Out, Err string }
	err := func() error {
		if b.agent == nil {
			var c net.Conn
			eventually(b.tb, "the board's QEMU", 20*time.Second, func() bool {
				var err error
				c, err = net.Dial("unix", filepath.Join(b.dir, "test"))
				return err == nil
			})
			b.agent, b.lines = c, bufio.NewReader(c)
		}
		if err := b.agent.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		text, err := json.Marshal(request)
		if err != nil {
			return err
		}
		if _, err := b.agent.Write(append(text, '\n')); err != nil {
			return err
		}
		line, err := b.lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		return json.Unmarshal(line, &answer)
	}()
	if err != nil {
		b.tb.Fatalf("%v: %v\n%s", request, err, tail(b.log()))
	}
	if answer.Err != "" {
		return answer.Out, errors.New(answer.Err)
	}
	return answer.Out, nil
}

// forget is for a board that was started anew: its hand is another.
func (b *booted) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.agent != nil {
		b.agent.Close() // whatever was under way went with the board
		b.agent = nil
	}
}

// get is ask for what has to succeed.
func (b *booted) get(op, path string) string {
	b.tb.Helper()
	out, err := b.ask(map[string]any{"op": op, "path": path})
	if err != nil {
		b.tb.Fatalf("%s %s: %v", op, path, err)
	}
	return out
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

// A process is one that runs in the board.
type process struct {
	pid, resident int // KiB
	args          string
}

// process finds the one whose arguments end so.
func (b *booted) process(name string) process {
	b.tb.Helper()
	all := b.get("processes", "")
	for line := range strings.Lines(all) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(fields) == 3 && strings.HasSuffix(fields[2], name) {
			pid, err := strconv.Atoi(fields[0])
			resident, err2 := strconv.Atoi(fields[1])
			if err := errors.Join(err, err2); err != nil {
				b.tb.Fatal(err)
			}
			return process{pid, resident, fields[2]}
		}
	}
	return process{}
}

// kill ends a process of the board as a bug would.
func (b *booted) killed(name string) process {
	b.tb.Helper()
	p := b.process(name)
	if p.pid == 0 {
		b.tb.Fatalf("no process %q:\n%s", name, b.get("processes", ""))
	}
	if _, err := b.ask(map[string]any{"op": "kill", "pid": p.pid}); err != nil {
		b.tb.Fatal(err)
	}
	return p
}

// partition is a part of a card's image.
type partition struct{ start, size int64 }

// partitions reads the image's MBR.
func partitions(tb testing.TB, image string) [4]partition {
	tb.Helper()
	f, err := os.Open(image)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	mbr := make([]byte, 512)
	if _, err := io.ReadFull(f, mbr); err != nil {
		tb.Fatal(err)
	}
	var all [4]partition
	for i := range all {
		e := mbr[446+16*i:]
		number := func(at int) int64 {
			return int64(e[at]) | int64(e[at+1])<<8 | int64(e[at+2])<<16 | int64(e[at+3])<<24
		}
		all[i] = partition{number(8) * 512, number(12) * 512}
	}
	return all
}

// fat answers mtools' name of a FAT partition, counted from 1.
func fat(tb testing.TB, image string, number int) string {
	tb.Helper()
	return fmt.Sprintf("%s@@%d", image, partitions(tb, image)[number-1].start)
}

// onCard writes a file to a FAT partition of a card that is not in a board.
func onCard(tb testing.TB, image string, number int, name, text string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	client(tb, "mcopy", "-o", "-i", fat(tb, image, number), path, "::"+name).must(tb)
}

// scratch overwrites a part of an image.
func scratch(tb testing.TB, image string, at int64, with []byte) {
	tb.Helper()
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = f.WriteAt(with, at)
	if err := errors.Join(err, f.Close()); err != nil {
		tb.Fatal(err)
	}
}

// cut takes the board's power away and gives it back, and waits until the
// board answers again.
func (b *booted) cut() {
	b.tb.Helper()
	b.do("cut")
	b.forget()
	b.do("restore")
	b.answers()
}

// answers waits until the services do.
func (b *booted) answers() {
	b.tb.Helper()
	eventually(b.tb, "the board to answer", 60*time.Second, func() bool { return b.ssh("whoami").code == 0 })
}
