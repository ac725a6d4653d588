// Hello is the least that a board's software can be, the measure for the start
// of the real one: an address, and a web server that says hello.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"unsafe"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "hello: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	// The address that QEMU's user network would give.
	if err := address("eth0", [4]byte{10, 0, 2, 15}, [4]byte{255, 255, 255, 0}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":443")
	if err != nil {
		return err
	}
	if err := os.WriteFile("/dev/kmsg", []byte("hello: ready\n"), 0); err != nil {
		return err
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(w, "hello\n"); err != nil {
			fmt.Fprintf(os.Stderr, "hello: %v\n", err)
		}
	}))
}

// address gives an interface an IPv4 address and switches it on.
func address(name string, ip, mask [4]byte) (err error) {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Close(s)) }()
	request := func(what uintptr, fill func(value []byte)) error {
		var r [40]byte // struct ifreq: a name of 16 bytes and a union
		copy(r[:15], name)
		fill(r[16:])
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), what, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		return nil
	}
	inet := func(a [4]byte) func([]byte) {
		return func(v []byte) {
			binary.NativeEndian.PutUint16(v, syscall.AF_INET)
			copy(v[4:], a[:])
		}
	}
	return errors.Join(
		request(syscall.SIOCSIFADDR, inet(ip)),
		request(syscall.SIOCSIFNETMASK, inet(mask)),
		request(syscall.SIOCSIFFLAGS, func(v []byte) { binary.NativeEndian.PutUint16(v, syscall.IFF_UP|syscall.IFF_RUNNING) }),
	)
}
