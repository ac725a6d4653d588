package vhost

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A frontEnd is QEMU's side.
type frontEnd struct {
	t    *testing.T
	conn *net.UnixConn
}

func (f frontEnd) send(request uint32, body []byte, files ...*os.File) {
	f.t.Helper()
	m := binary.LittleEndian.AppendUint32(nil, request)
	m = binary.LittleEndian.AppendUint32(m, 1)
	m = binary.LittleEndian.AppendUint32(m, uint32(len(body)))
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, file := range files {
			fds = append(fds, int(file.Fd()))
		}
		rights = syscall.UnixRights(fds...)
	}
	if _, _, err := f.conn.WriteMsgUnix(append(m, body...), rights, nil); err != nil {
		f.t.Fatal(err)
	}
}

func (f frontEnd) ask(request uint32, body []byte) uint64 {
	f.t.Helper()
	f.send(request, body)
	reply := make([]byte, 20)
	if _, err := io.ReadFull(f.conn, reply); err != nil {
		f.t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint32(reply); got != request {
		f.t.Fatalf("got an answer to %d, want to %d", got, request)
	}
	return binary.LittleEndian.Uint64(reply[12:])
}

func words(w ...uint64) []byte {
	var b []byte
	for _, v := range w {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// pair is a vhost-user socket.
func pair(t *testing.T) (front, back *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(file)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() }) // it may be closed already
	}
	return conns[0], conns[1]
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() }) // they may be closed already
	return r, w
}

// TestServe starts a queue, uses it, stops it and starts it again. Pipes stand in
// for eventfds.
func TestServe(t *testing.T) {
	front, back := pair(t)
	f := frontEnd{t, front}
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(back, Device{Features: 1, Request: echo}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	}()
	if got := f.ask(getFeatures, nil); got != version1|protocol|1 {
		t.Errorf("got features %#x", got)
	}
	if got := f.ask(getProtocolFeatures, nil); got != 0 {
		t.Errorf("got protocol features %#x", got)
	}
	f.send(2, words(version1)) // the features that are used
	f.send(3, nil)             // the owner

	ram, err := os.Create(filepath.Join(t.TempDir(), "ram"))
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	if err := ram.Truncate(4096 + 1024); err != nil {
		t.Fatal(err)
	}
	mapped, err := syscall.Mmap(int(ram.Fd()), 4096, 1024, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Munmap(mapped); err != nil {
			t.Error(err)
		}
	}()
	g := newGuest()
	g.bytes = mapped
	f.send(setMemTable, words(1, guestBase, 1024, userBase, 4096), ram)
	begin := func(last uint64) (kick, call *os.File) {
		kickIn, kick := pipe(t)
		call, callOut := pipe(t)
		f.send(setVringNum, words(4<<32))
		f.send(setVringBase, words(last<<32))
		f.send(setVringAddr, words(0, userBase+atDesc, userBase+atUsed, userBase+atAvail, 0))
		f.send(setVringKick, words(0), kickIn)
		f.send(setVringCall, words(0), callOut)
		f.send(setVringEnable, words(1<<32))
		f.ask(getFeatures, nil) // a kick before the new call is known would be told by the old one
		return kick, call
	}
	use := func(kick, call *os.File, want uint16) {
		t.Helper()
		clear(mapped[atData+16 : atData+32])
		copy(mapped[atData:], "ab")
		g.descriptor(atDesc, 0, guestBase+atData, 2, descNext, 1)
		g.descriptor(atDesc, 1, guestBase+atData+16, 16, descWrite, 0)
		g.offer(0)
		if _, err := kick.Write(words(1)); err != nil {
			t.Fatal(err)
		}
		if err := call.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(call, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		if index, head, n := g.used(); index != want || head != 0 || n != 4 || !bytes.Equal(mapped[atData+16:atData+21], []byte("abab\x00")) {
			t.Errorf("got %d done, head %d, %d bytes: %q", index, head, n, mapped[atData+16:atData+32])
		}
	}
	kick, call := begin(0)
	use(kick, call, 1)
	use(kick, call, 2)
	if got := f.ask(getVringBase, words(0)); got != 2<<32 {
		t.Errorf("got base %#x, want 2", got)
	}
	kick, call = begin(2)
	use(kick, call, 3)
	if err := front.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestMessages(t *testing.T) {
	file := func(t *testing.T) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), "ram"))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, c := range []struct {
		name    string
		request uint32
		body    []byte
		files   int
		err     error
	}{
		{"memory", setMemTable, words(1, 0, 4096, 0, 0), 1, nil},
		{"memory without a file", setMemTable, words(1, 0, 4096, 0, 0), 0, errMessage},
		{"memory that is cut off", setMemTable, words(1, 0, 4096), 1, errMessage},
		{"memory beyond the file", setMemTable, words(1, 0, 4096, 0, 1), 1, errMessage},
		{"memory that wraps", setMemTable, words(1, 0, ^uint64(0), 0, 2), 1, errMessage},
		{"no table", setMemTable, nil, 0, errMessage},
		{"another queue", setVringNum, words(4<<32 | 1), 0, errMessage},
		{"a queue of nothing", setVringNum, words(0), 0, errMessage},
		{"a queue that is too long", setVringNum, words(70000 << 32), 0, errMessage},
		{"addresses that are cut off", setVringAddr, words(0, 1), 0, errMessage},
		{"a kick of another queue", setVringKick, words(1), 1, errMessage},
		{"a kick to be polled for", setVringKick, words(noFD), 0, errMessage},
		{"no call", setVringCall, words(noFD), 0, nil},
		{"unknown", 99, words(1, 2, 3), 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &backend{device: Device{Request: echo}, log: slog.New(slog.DiscardHandler)}
			var files []*os.File
			for range c.files {
				files = append(files, file(t))
			}
			if _, err := b.message(c.request, c.body, files); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			b.stop()
			if err := b.forget(); err != nil {
				t.Error(err)
			}
		})
	}
}

// FuzzMessages has front-ends that say anything; QEMU is trusted with its files.
func FuzzMessages(f *testing.F) {
	var talk []byte
	for request, body := range map[uint32][]byte{
		getFeatures: nil, setMemTable: words(1, 0, 4096, 0, 0), setVringNum: words(4 << 32), setVringAddr: words(0, 0, 0, 0, 0),
		setVringBase: words(1 << 32), getVringBase: words(0), setVringCall: words(noFD), setVringEnable: words(1 << 32),
	} {
		talk = binary.LittleEndian.AppendUint32(talk, request)
		talk = binary.LittleEndian.AppendUint32(talk, 1)
		talk = binary.LittleEndian.AppendUint32(talk, uint32(len(body)))
		talk = append(talk, body...)
	}
	f.Add(talk)
	f.Fuzz(func(t *testing.T, talk []byte) {
		b := &backend{device: Device{Request: echo}, log: slog.New(slog.DiscardHandler)}
		for len(talk) >= 12 {
			request, size := binary.LittleEndian.Uint32(talk), binary.LittleEndian.Uint32(talk[8:])
			talk = talk[12:]
			size = min(size, uint32(len(talk)), maxBody)
			if _, err := b.message(request, talk[:size], nil); err != nil && !errors.Is(err, errMessage) && !errors.Is(err, errRing) {
				t.Error(err)
			}
			talk = talk[size:]
		}
		b.stop()
		if err := b.forget(); err != nil {
			t.Error(err)
		}
	})
}
