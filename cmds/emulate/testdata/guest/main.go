// Guest is the /init of the boards in emulate's tests: it serves what emulate
// waits for, and on port 22 does what a test asks, one line each.
package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guest:", err)
		os.Exit(1)
	}
}

func run() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m[1], 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("%s: %w", m[1], err)
		}
	}
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err == nil {
		os.Stdout, os.Stderr = console, console
	}
	if cmdline, err := os.ReadFile("/proc/cmdline"); err == nil {
		fmt.Printf("guest: %s", cmdline)
	}
	if err := network(); err != nil {
		fmt.Println("guest: no network:", err)
	}
	g := &guest{outputs: make(map[int]int), serial: make(chan string, 100)}
	if err := g.openSerial(); err != nil {
		fmt.Println("guest: no serial port:", err)
	}
	go serveHTTPS()
	go serveRMCP()
	l, err := net.Listen("tcp", ":22")
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go g.serve(c)
	}
}

const (
	network0 = "/sys/bus/pci/drivers/virtio-pci/0000:00:01.0/virtio*/net/*"
	hostLink = "/sys/bus/pci/drivers/virtio-pci/0000:00:02.0/virtio*/net/*"
)

// network gives the first interface the address that user-mode networking
// forwards to, and brings up the second, which leads to the host.
func network() error {
	for pattern, addr := range map[string][]byte{network0: {10, 0, 2, 15}, hostLink: {169, 254, 1, 1}} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			return fmt.Errorf("no interface: %v", err)
		}
		if err := configure(filepath.Base(names[0]), addr); err != nil {
			return err
		}
	}
	return nil
}

func configure(name string, addr []byte) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := r.SetInet4Addr(addr); err != nil {
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

func serveHTTPS() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	root := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.URL.Path) })
	s := &http.Server{Addr: ":443", Handler: root, TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}}
	fmt.Println("guest:", s.ListenAndServeTLS("", ""))
}

func serveRMCP() {
	c, err := net.ListenPacket("udp", ":623")
	if err != nil {
		fmt.Println("guest:", err)
		return
	}
	b := make([]byte, 64)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if n >= 12 && b[8] == 0x80 {
			pong := append(bytes.Clone(b[:8]), 0x40, b[9], 0, 16)
			if _, err := c.WriteTo(append(pong, make([]byte, 16)...), from); err != nil {
				fmt.Println("guest:", err)
			}
		}
	}
}

type guest struct {
	outputs map[int]int // line → descriptor
	tty     *os.File
	serial  chan string
}

func (g *guest) openSerial() (err error) {
	if g.tty, err = os.OpenFile("/dev/ttyS0", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return err
	}
	t, err := unix.IoctlGetTermios(int(g.tty.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	if err := unix.IoctlSetTermios(int(g.tty.Fd()), unix.TCSETS, t); err != nil {
		return err
	}
	go func() {
		lines := bufio.NewScanner(g.tty)
		for lines.Scan() {
			g.serial <- strings.TrimSpace(lines.Text())
		}
	}()
	return nil
}

func (g *guest) serve(c net.Conn) {
	defer c.Close()
	if _, err := io.WriteString(c, "SSH-2.0-guest\r\n"); err != nil {
		return
	}
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		answer, err := g.do(strings.Fields(lines.Text()))
		if err != nil {
			answer = "error: " + err.Error()
		}
		if _, err := fmt.Fprintln(c, answer); err != nil {
			return
		}
	}
}

func (g *guest) do(words []string) (string, error) {
	words = append(words, "", "", "")
	n, _ := strconv.Atoi(words[1]) // where it is one
	switch words[0] {
	case "cmdline":
		b, err := os.ReadFile("/proc/cmdline")
		return strings.TrimSpace(string(b)), err
	case "set":
		return "ok", g.set(n, words[2] == "1")
	case "get":
		return get(n)
	case "edge":
		return edge(n)
	case "write":
		_, err := io.WriteString(g.tty, words[1]+"\r")
		return "ok", err
	case "read":
		select {
		case line := <-g.serial:
			return line, nil
		case <-time.After(10 * time.Second):
			return "", os.ErrDeadlineExceeded
		}
	case "tell":
		return tell(strings.TrimSpace(strings.Join(words[1:], " ")))
	case "reboot":
		return "", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case "poweroff":
		return "", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case "panic":
		os.Exit(1) // PID 1
	case "watchdog":
		f, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
		if err != nil {
			return "", err
		}
		return "ok", unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, 2)
	case "frames": // that came over the wire to the host
		names, err := filepath.Glob(hostLink + "/statistics/rx_packets")
		if err != nil || len(names) == 0 {
			return "", fmt.Errorf("no link to the host: %v", err)
		}
		b, err := os.ReadFile(names[0])
		return strings.TrimSpace(string(b)), err
	case "poke": // a sector that belongs to no partition
		f, err := os.OpenFile("/dev/mmcblk0", os.O_WRONLY|unix.O_SYNC, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte(words[1]), 1024)
		return "ok", err
	}
	return "", fmt.Errorf("what is %q?", words[0])
}

// tell says a word to emulate, as board/virt does.
func tell(argument string) (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(text)) != "org.nitrino.board" {
			continue
		}
		f, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if _, err := fmt.Fprintln(f, argument); err != nil {
			return "", err
		}
		answer, err := bufio.NewReader(f).ReadString('\n')
		return strings.TrimSpace(answer), err
	}
	return "", os.ErrNotExist
}

// The GPIO character device's ABI, version 2 (include/uapi/linux/gpio.h).
const (
	getLine   = 0xc250b407 // GPIO_V2_GET_LINE_IOCTL
	getValues = 0xc010b40e // GPIO_V2_LINE_GET_VALUES_IOCTL
	setValues = 0xc010b40f // GPIO_V2_LINE_SET_VALUES_IOCTL

	flagInput   = 1 << 2
	flagOutput  = 1 << 3
	flagRising  = 1 << 4
	flagFalling = 1 << 5
)

type lineRequest struct {
	offsets  [64]uint32
	consumer [32]byte
	config   struct {
		flags    uint64
		numAttrs uint32
		padding  [5]uint32
		attrs    [10][24]byte
	}
	numLines, eventBuffer uint32
	padding               [5]uint32
	fd                    int32
}

type values struct{ bits, mask uint64 }

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func request(line int, flags uint64) (int, error) {
	chip, err := os.Open("/dev/gpiochip0")
	if err != nil {
		return 0, err
	}
	defer chip.Close()
	r := lineRequest{numLines: 1}
	r.offsets[0], r.config.flags = uint32(line), flags
	err = ioctl(int(chip.Fd()), getLine, unsafe.Pointer(&r))
	return int(r.fd), err
}

func (g *guest) set(line int, level bool) error {
	fd, ok := g.outputs[line]
	if !ok {
		var err error
		if fd, err = request(line, flagOutput); err != nil {
			return err
		}
		g.outputs[line] = fd
	}
	v := values{mask: 1}
	if level {
		v.bits = 1
	}
	return ioctl(fd, setValues, unsafe.Pointer(&v))
}

func get(line int) (string, error) {
	fd, err := request(line, flagInput)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	v := values{mask: 1}
	err = ioctl(fd, getValues, unsafe.Pointer(&v))
	return strconv.FormatUint(v.bits, 10), err
}

// edge waits for the next edge, by interrupt, and says which.
func edge(line int) (string, error) {
	fd, err := request(line, flagInput|flagRising|flagFalling)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var event [48]byte
	if _, err := unix.Read(fd, event[:]); err != nil {
		return "", err
	}
	if event[8] == 1 {
		return "rising", nil
	}
	return "falling", nil
}
