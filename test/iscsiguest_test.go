//go:build e2e

package test

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/image/initramfs"
)

// A linuxGuest is Debian's Linux in QEMU with programs of this machine in its
// initramfs: its kernel is an iSCSI initiator like that of any server. The machine
// that QEMU runs on is 10.0.2.2 to it.
type linuxGuest struct {
	tb testing.TB
	*linuxMachine
}

// in is the guest for a subtest.
func (g *linuxGuest) in(tb testing.TB) *linuxGuest { return &linuxGuest{tb, g.linuxMachine} }

// A linuxMachine is what a guest's tests share.
type linuxMachine struct {
	console *lockedBuffer
	conn    net.Conn

	mu      sync.Mutex
	last    int
	waiting map[int]chan<- guestAnswer // nil: the guest has ended
}

type guestAnswer struct {
	ID   int    `json:"id"`
	Out  string `json:"out"`
	Code int    `json:"code"`
}

// guestKernel is Debian's kernel for clouds, which is a third of the generic one:
// the image, and the folder of its modules. It is kept where mkcard keeps kernels.
func guestKernel(tb testing.TB) (image, modules string) {
	tb.Helper()
	kept := filepath.Join(cacheDir(tb), "linux-guest")
	if _, err := os.Stat(kept); err != nil {
		if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
			tb.Fatal(err)
		}
		dir, err := os.MkdirTemp(filepath.Dir(kept), "linux-guest-")
		if err != nil {
			tb.Fatal(err)
		}
		defer os.RemoveAll(dir) // what is left of it after an error
		const meta = "linux-image-cloud-amd64"
		_, after, ok := strings.Cut(client(tb, "apt-cache", "depends", "--important", meta).must(tb), "Depends: ")
		name, _, _ := strings.Cut(after, "\n")
		if !ok {
			tb.Fatalf("apt does not know the package %s: run apt-get update", meta)
		}
		get := exec.CommandContext(tb.Context(), "apt-get", "download", "-q", strings.TrimSpace(name))
		get.Dir = dir
		if out, err := get.CombinedOutput(); err != nil {
			tb.Fatalf("downloading %s: %v\n%s", name, err, out)
		}
		packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
		if err != nil || len(packages) != 1 {
			tb.Fatalf("downloading %s brought %v, %v", name, packages, err)
		}
		client(tb, "dpkg-deb", "-x", packages[0], filepath.Join(dir, "root")).must(tb)
		if err := os.Rename(filepath.Join(dir, "root"), kept); err != nil {
			tb.Fatal(err)
		}
	}
	images, err := filepath.Glob(filepath.Join(kept, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		tb.Fatalf("kernels in %s: %v, %v", kept, images, err)
	}
	return images[0], filepath.Join(kept, "lib", "modules")
}

// modulesFor answers the files of modules and of all that they depend on, in the
// order in which they can be loaded.
func modulesFor(tb testing.TB, dir string, names ...string) []string {
	tb.Helper()
	where := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			where[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	var order []string
	var add func(name string)
	add = func(name string) {
		path, ok := where[name]
		if !ok {
			tb.Fatalf("the guest's kernel has no module %s", name)
		}
		if slices.Contains(order, path) {
			return
		}
		f, err := elf.Open(path)
		if err != nil {
			tb.Fatal(err)
		}
		defer f.Close() // it was read only
		info, err := f.Section(".modinfo").Data()
		if err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		for field := range bytes.SplitSeq(info, []byte{0}) {
			if needs, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(needs) > 0 {
				for n := range strings.SplitSeq(string(needs), ",") {
					add(strings.ReplaceAll(n, "-", "_"))
				}
			}
		}
		order = append(order, path)
	}
	for _, n := range names {
		add(n)
	}
	return order
}

// withLibraries answers programs and the shared libraries that they need.
func withLibraries(tb testing.TB, programs ...string) []string {
	tb.Helper()
	var all []string
	for _, p := range programs {
		path, err := exec.LookPath(p)
		if err != nil {
			tb.Fatal(err)
		}
		if !slices.Contains(all, path) {
			all = append(all, path)
		}
		for line := range strings.Lines(client(tb, "ldd", path).out) {
			// "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", or the linker's path alone.
			for _, word := range strings.Fields(line) {
				if strings.HasPrefix(word, "/") && !slices.Contains(all, word) {
					all = append(all, word)
				}
			}
		}
	}
	return all
}

// bootLinux starts a guest with these programs, and files by their paths besides;
// a path that ends in a slash is a folder.
func bootLinux(tb testing.TB, programs []string, files map[string]string) *linuxGuest {
	tb.Helper()
	dir, err := os.MkdirTemp("", "guest-") // a unix socket's path has at most 107 bytes
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	init := filepath.Join(dir, "init")
	client(tb, "env", "CGO_ENABLED=0", "go", "build", "-ldflags=-s -w", "-o", init, "./linux").must(tb)
	image, modules := guestKernel(tb)
	var archive []initramfs.File
	add := func(name, from string) {
		data, err := os.ReadFile(from)
		if err != nil {
			tb.Fatal(err)
		}
		archive = append(archive, initramfs.File{Name: strings.TrimPrefix(name, "/"), Mode: 0o755, Data: data})
	}
	add("init", init)
	var order strings.Builder
	for i, m := range modulesFor(tb, modules, "virtio_pci", "virtio_net", "crc32c_intel", "sd_mod", "iscsi_tcp") {
		name := fmt.Sprintf("/lib/modules/%02d.ko", i)
		add(name, m)
		fmt.Fprintln(&order, name)
	}
	for _, p := range withLibraries(tb, programs...) {
		add(p, p)
	}
	archive = append(archive, initramfs.File{Name: "modules", Mode: 0o644, Data: []byte(order.String())})
	for name, text := range files {
		f := initramfs.File{Name: strings.Trim(name, "/"), Mode: 0o644, Data: []byte(text)}
		if strings.HasSuffix(name, "/") {
			f.Mode = fs.ModeDir | 0o755
		}
		archive = append(archive, f)
	}
	packed, err := initramfs.Archive(archive)
	if err != nil {
		tb.Fatal(err)
	}
	initrd, socket := filepath.Join(dir, "initrd"), filepath.Join(dir, "port")
	if err := os.WriteFile(initrd, packed, 0o600); err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	defer listener.Close() // QEMU connects once
	g := &linuxGuest{tb, &linuxMachine{console: &lockedBuffer{}, waiting: map[int]chan<- guestAnswer{}}}
	ctx, cancel := context.WithCancel(context.Background())
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "768",
		"-kernel", image, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off rdinit=/init",
		"-serial", "stdio", "-chardev", "socket,id=tests,path="+socket, "-serial", "chardev:tests",
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")
	qemu.Stdout, qemu.Stderr = g.console, g.console
	if err := qemu.Start(); err != nil {
		cancel()
		tb.Fatal(err)
	}
	var reading sync.WaitGroup
	tb.Cleanup(func() {
		cancel()
		qemu.Wait() // its error is the kill
		reading.Wait()
		if tb.Failed() {
			tb.Logf("the guest's console:\n%s", tail(g.console.String()))
		}
	})
	if err := listener.(*net.UnixListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	if g.conn, err = listener.Accept(); err != nil {
		tb.Fatalf("QEMU: %v\n%s", err, g.console)
	}
	ready := make(chan guestAnswer, 1)
	g.waiting[0] = ready
	reading.Go(g.read)
	select {
	case a, ok := <-ready:
		if !ok || a.Out != "ready" {
			tb.Fatalf("the guest said %+v", a)
		}
	case <-time.After(90 * time.Second):
		tb.Fatalf("the guest does not come up\n%s", g.console)
	}
	g.run("ip", "link", "set", "lo", "up").must(tb)
	g.run("ip", "addr", "add", "10.0.2.15/24", "dev", "eth0").must(tb)
	g.run("ip", "link", "set", "eth0", "up").must(tb)
	eventually(tb, "the guest's network", 20*time.Second, func() bool {
		return !strings.Contains(g.run("ip", "link", "show", "eth0").must(tb), "NO-CARRIER")
	})
	return g
}

// read hands out the guest's answers until it ends.
func (g *linuxGuest) read() {
	lines := bufio.NewScanner(g.conn)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var a guestAnswer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			g.tb.Errorf("the guest said %q: %v", lines.Text(), err)
			continue
		}
		g.mu.Lock()
		if c := g.waiting[a.ID]; c != nil {
			c <- a
			delete(g.waiting, a.ID)
		}
		g.mu.Unlock()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.waiting {
		close(c)
	}
	g.waiting = nil
}

// begin runs a program in the guest, and answers where its result will come.
func (g *linuxGuest) begin(args ...string) <-chan guestAnswer {
	g.tb.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.tb.Fatalf("the guest has ended\n%s", g.console)
	}
	g.last++
	c := make(chan guestAnswer, 1)
	g.waiting[g.last] = c
	text, err := json.Marshal(map[string]any{"id": g.last, "args": args})
	if err != nil {
		g.tb.Fatal(err)
	}
	if _, err := g.conn.Write(append(text, '\n')); err != nil {
		g.tb.Fatal(err)
	}
	return c
}

// end waits for what begin began.
func (g *linuxGuest) end(c <-chan guestAnswer) result {
	g.tb.Helper()
	select {
	case a, ok := <-c:
		if !ok {
			g.tb.Fatalf("the guest has ended\n%s", g.console)
		}
		return result{a.Out, a.Code}
	case <-time.After(4 * time.Minute):
		g.tb.Fatalf("a program in the guest does not end\n%s", g.console)
		return result{}
	}
}

func (g *linuxGuest) run(args ...string) result {
	g.tb.Helper()
	return g.end(g.begin(args...))
}
