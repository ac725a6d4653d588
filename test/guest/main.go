// Guest is the hand of the tests inside a booted card. Release images have no
// shell, so the emulator appends it to the initramfs (rdinit=/test/init): it
// leaves an agent behind that obeys the tests over a virtio port, and becomes
// the init of the image.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"
)

// port is the name of the virtio port.
const port = "org.nitrino.test"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		if err := serve(); err != nil {
			fmt.Fprintf(os.Stderr, "agent: %v\n", err)
			os.Exit(1)
		}
		return
	}
	agent := exec.Command("/test/init", "agent")
	agent.Stdin, agent.Stdout, agent.Stderr = os.Stdin, os.Stdout, os.Stderr // there is no /dev/null yet
	if err := agent.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "agent: %v\n", err)
	}
	err := syscall.Exec("/init", []string{"/init"}, os.Environ())
	fmt.Fprintf(os.Stderr, "/init: %v\n", err)
	os.Exit(1)
}

// A request is one line from the tests.
type request struct {
	Op   string `json:"op"`
	Path string `json:"path"`
	Text string `json:"text"`
	PID  int    `json:"pid"`
	Line uint32 `json:"line"`
}

// An answer is one line back.
type answer struct {
	Out string `json:"out,omitempty"`
	Err string `json:"err,omitempty"`
}

// serve obeys until the board ends.
func serve() error {
	dev, err := open()
	if err != nil {
		return err
	}
	defer dev.Close() // the end of the process
	lines := bufio.NewScanner(patient{dev})
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		var a answer
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			a.Out, err = r.do()
		}
		if err != nil {
			a.Err = err.Error()
		}
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if _, err := dev.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}

// patient reads on where the port says that it has ended: nobody outside has it
// open yet, or any more.
type patient struct{ f *os.File }

func (p patient) Read(buf []byte) (int, error) {
	for {
		n, err := p.f.Read(buf)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// open waits for the port: init mounts /sys and /dev later than this starts.
func open() (*os.File, error) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			text, err := os.ReadFile(n)
			if err == nil && strings.TrimSpace(string(text)) == port {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
			}
		}
	}
	return nil, errors.New("there is no virtio port " + port)
}

func (r request) do() (string, error) {
	switch r.Op {
	case "read":
		text, err := os.ReadFile(r.Path)
		return string(text), err
	case "write": // into what is there: sysfs has no files to make
		f, err := os.OpenFile(r.Path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return "", err
		}
		_, err = f.WriteString(r.Text)
		return "", errors.Join(err, f.Close())
	case "list":
		entries, err := os.ReadDir(r.Path)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, "\n"), err
	case "kmsg":
		return kmsg()
	case "processes":
		return processes()
	case "kill":
		return "", syscall.Kill(r.PID, syscall.SIGKILL)
	case "fill":
		return "", fill(r.Path)
	case "hold":
		return "", hold(r.Text, r.Line)
	case "names":
		return "", names(r.Text)
	case "size":
		var s syscall.Statfs_t
		err := syscall.Statfs(r.Path, &s)
		return strconv.FormatInt(int64(s.Blocks)*s.Bsize, 10), err
	}
	return "", fmt.Errorf("no such operation: %q", r.Op)
}

// kmsg returns the kernel's log so far, each line "microseconds text".
func kmsg() (string, error) {
	f, err := syscall.Open("/dev/kmsg", syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(f) // nothing was written
	var out strings.Builder
	buf := make([]byte, 8192)
	for {
		n, err := syscall.Read(f, buf)
		if errors.Is(err, syscall.EAGAIN) {
			return out.String(), nil
		}
		if errors.Is(err, syscall.EPIPE) { // overwritten meanwhile
			continue
		}
		if err != nil {
			return "", err
		}
		// "level,sequence,microseconds,flags;text\n continuation"
		head, text, _ := strings.Cut(string(buf[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		if fields := strings.Split(head, ","); len(fields) >= 3 {
			fmt.Fprintf(&out, "%s %s\n", fields[2], text)
		}
	}
}

// processes returns a line "pid resident-KiB arguments" for each process that
// has a program.
func processes() (string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, d := range dirs {
		args, err := os.ReadFile(d + "/cmdline")
		if err != nil || len(args) == 0 {
			continue // it has ended, or is a kernel thread
		}
		status, err := os.ReadFile(d + "/status")
		if err != nil {
			continue
		}
		_, rss, _ := strings.Cut(string(status), "VmRSS:")
		rss, _, _ = strings.Cut(strings.TrimSpace(rss), " ")
		fmt.Fprintf(&out, "%s %s %s\n", filepath.Base(d), rss, strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " ")))
	}
	return out.String(), nil
}

// hold takes a line of the GPIO chip whose label has the text, for as long as
// the agent lives.
func hold(label string, line uint32) error {
	chips, err := filepath.Glob("/dev/gpiochip*")
	if err != nil {
		return err
	}
	for _, path := range chips {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		// struct gpiochip_info: name and label of 32 bytes, and the lines' number.
		var info [68]byte
		if err := ioctl(f, 0x8044b401, unsafe.Pointer(&info)); err != nil {
			return errors.Join(err, f.Close())
		}
		if !strings.Contains(string(info[32:64]), label) {
			if err := f.Close(); err != nil {
				return err
			}
			continue
		}
		// struct gpio_v2_line_request: one offset, the rest zero: as it is.
		var request [592]byte
		binary.NativeEndian.PutUint32(request[0:], line)
		copy(request[256:], "test")
		binary.NativeEndian.PutUint32(request[560:], 1)
		return errors.Join(ioctl(f, 0xc250b407, unsafe.Pointer(&request)), f.Close())
	}
	return fmt.Errorf("no GPIO chip %q", label)
}

// names is a name server from now on, at each address of the board, to which every
// name is that of one IPv4 address.
func names(address string) error {
	to, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	if !to.Is4() {
		return fmt.Errorf("%s is no IPv4 address", to)
	}
	conn, err := net.ListenPacket("udp4", ":53")
	if err != nil {
		return err
	}
	go func() { // until the board ends
		query := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(query)
			if err == nil {
				err = answerName(conn, from, query[:n], to.As4())
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "agent: names: %v\n", err)
			}
		}
	}()
	return nil
}

// answerName answers one query (RFC 1035).
func answerName(conn net.PacketConn, to net.Addr, query []byte, address [4]byte) error {
	var in dnsmessage.Parser
	header, err := in.Start(query)
	if err != nil {
		return err
	}
	question, err := in.Question()
	if err != nil {
		return err
	}
	header.Response, header.Authoritative = true, true
	out := dnsmessage.NewBuilder(nil, header)
	err = errors.Join(out.StartQuestions(), out.Question(question), out.StartAnswers())
	if question.Type == dnsmessage.TypeA {
		head := dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class, TTL: 1}
		err = errors.Join(err, out.AResource(head, dnsmessage.AResource{A: address}))
	}
	text, err2 := out.Finish()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	_, err = conn.WriteTo(text, to)
	return err
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// fill makes a file that takes all that is left of a file system.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	var at int64
	for size := int64(1) << 30; size >= 512; {
		err := syscall.Fallocate(int(f.Fd()), 0, at, size)
		switch {
		case err == nil:
			at += size
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case !errors.Is(err, syscall.EINTR):
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(f.Sync(), f.Close())
}
