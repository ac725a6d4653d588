package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// memory is a device that can fail and wait.
type memory struct {
	mu      sync.Mutex
	data    []byte
	err     error
	flushes int
	gate    chan struct{} // reads wait for it unless it is nil
}

func (m *memory) Size() int64 { return int64(len(m.data)) }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	n := copy(p, m.data[off:])
	if int(off)+n == len(m.data) {
		return n, io.EOF // which io.ReaderAt allows
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return 0, m.err
	}
	return copy(m.data[off:off+int64(len(p))], p), nil
}

func (m *memory) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushes++
	return m.err
}

// trimmed is a device with everything.
type trimmed struct{ *memory }

func (m trimmed) Trim(off, n int64) error { return m.Zero(off, n, true) }

func (m trimmed) Zero(off, n int64, _ bool) error {
	_, err := m.WriteAt(make([]byte, n), off)
	return err
}

// serve serves e on a socket until the test ends and returns its address.
func serve(t testing.TB, e Export) (address string, end func()) {
	t.Helper()
	s, err := New(e, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	address = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: got %v, want %v", err, context.Canceled)
		}
	})
	t.Cleanup(end)
	return address, end
}

// A client is as small a one as can be.
type client struct {
	t testing.TB
	net.Conn
}

func dial(t testing.TB, address string) client {
	t.Helper()
	conn, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c := client{t, conn}
	hello := c.read(18)
	if got := string(hello[:16]); got != "NBDMAGICIHAVEOPT" || hello[17] != 3 {
		t.Fatalf("greeting: got %q", hello)
	}
	c.send([]byte{0, 0, 0, 3})
	return c
}

func (c client) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c client) read(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

func optionOf(option uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, optionMagic)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func infoOf(name string, infos ...uint16) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(infos)))
	for _, i := range infos {
		b = binary.BigEndian.AppendUint16(b, i)
	}
	return b
}

// option sends one and returns the answers as text, up to the one that ends.
func (c client) option(option uint32, data []byte) string {
	c.t.Helper()
	c.send(optionOf(option, data))
	var all []string
	for {
		h := c.read(20)
		if magic := binary.BigEndian.Uint64(h); magic != answerMagic {
			c.t.Fatalf("answer magic %#x", magic)
		}
		if got := binary.BigEndian.Uint32(h[8:]); got != option {
			c.t.Fatalf("answer to %d, want to %d", got, option)
		}
		kind := binary.BigEndian.Uint32(h[12:])
		all = append(all, fmt.Sprintf("%x:%x", kind, c.read(int(binary.BigEndian.Uint32(h[16:])))))
		if kind == repAck || kind >= 1<<31 {
			return strings.Join(all, " ")
		}
	}
}

// enter begins the transmission.
func enter(t testing.TB, address string) client {
	t.Helper()
	c := dial(t, address)
	if got := c.option(optGo, infoOf("")); !strings.HasSuffix(got, "1:") {
		t.Fatalf("NBD_OPT_GO: got %s", got)
	}
	return c
}

func requestOf(flags, command uint16, cookie, offset uint64, length uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, requestMagic)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, command)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, offset)
	return binary.BigEndian.AppendUint32(b, length)
}

// reply reads a reply without data.
func (c client) reply() (code uint32, cookie uint64) {
	c.t.Helper()
	b := c.read(replyLen)
	if magic := binary.BigEndian.Uint32(b); magic != replyMagic {
		c.t.Fatalf("reply magic %#x", magic)
	}
	return binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
}

// ask sends one request and returns its error.
func (c client) ask(flags, command uint16, offset uint64, length uint32, data []byte) uint32 {
	c.t.Helper()
	c.send(append(requestOf(flags, command, 77, offset, length), data...))
	code, cookie := c.reply()
	if cookie != 77 {
		c.t.Fatalf("cookie: got %d", cookie)
	}
	return code
}

func TestOptions(t *testing.T) {
	address, _ := serve(t, Export{Name: "cd", Description: "a CD", Device: &memory{data: make([]byte, 1<<20)}, ReadOnly: true, BlockSize: 512})
	const export, blocks = "3:000000000000001000000107", "3:0003000002000000100002000000"
	for _, tt := range []struct {
		name   string
		option uint32
		data   []byte
		want   string
	}{
		{"list", optList, nil, "2:000000026364 1:"},
		{"list with data", optList, []byte{1}, "80000003:"},
		{"info", optInfo, infoOf("cd"), export + " " + blocks + " 1:"},
		{"info of all", optInfo, infoOf("", infoName, infoDescription, infoExport, 99, infoName), export + " " + blocks + " 3:00016364 3:000261204344 1:"},
		{"another export", optInfo, infoOf("usb"), "80000006:"},
		{"go to another export", optGo, infoOf("usb"), "80000006:"},
		{"name longer than the data", optGo, []byte{0, 0, 0, 9, 'c', 0, 0}, "80000003:"},
		{"too few infos", optGo, infoOf("cd", 1)[:9], "80000003:"},
		{"nothing", optGo, nil, "80000003:"},
		{"TLS", 5, nil, "80000001:"},
		{"structured replies", 8, nil, "80000001:"},
		{"too long", 77, make([]byte, maxOption+1), "80000009:"},
		{"go", optGo, infoOf("cd"), export + " " + blocks + " 1:"},
	} {
		c := dial(t, address)
		for range 2 { // a refused option ends nothing
			if got := c.option(tt.option, tt.data); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
			}
			if tt.option == optGo && strings.HasSuffix(tt.want, " 1:") {
				break
			}
		}
	}
}

func TestExportName(t *testing.T) {
	address, _ := serve(t, Export{Name: "d", Device: &memory{data: make([]byte, 4096)}})
	c := dial(t, address)
	c.send(optionOf(optExportName, []byte("d")))
	if got, want := fmt.Sprintf("%x", c.read(10)), "0000000000001000010d"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := c.ask(0, cmdWrite, 0, 1, []byte{1}); got != 0 {
		t.Errorf("write: got error %d", got)
	}
	for _, bad := range [][]byte{
		optionOf(optExportName, []byte("other")),
		optionOf(optExportName, make([]byte, maxOption+1)),
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		c := dial(t, address)
		c.send(bad)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%.20q: the connection goes on", bad)
		}
	}
	c = dial(t, address)
	if got := c.option(optAbort, nil); got != "1:" {
		t.Errorf("abort: got %s", got)
	}
}

func TestRequests(t *testing.T) {
	const size = 1 << 20
	for _, tt := range []struct {
		name           string
		readOnly       bool
		flags, command uint16
		offset         uint64
		length         uint32
		want           uint32
	}{
		{"write", false, 0, cmdWrite, 512, 1024, 0},
		{"write, FUA", false, cmdFlagFUA, cmdWrite, 512, 1024, 0},
		{"write at the end", false, 0, cmdWrite, size - 512, 512, 0},
		{"write beyond the end", false, 0, cmdWrite, size - 512, 1024, eNoSpc},
		{"write far out", false, 0, cmdWrite, 1<<64 - 512, 1024, eNoSpc},
		{"write unaligned", false, 0, cmdWrite, 1, 512, eInval},
		{"write a part of a block", false, 0, cmdWrite, 0, 100, eInval},
		{"write, read-only", true, 0, cmdWrite, 0, 512, ePerm},
		{"write too much", false, 0, cmdWrite, 0, MaxRequest + 512, eOverflow},
		{"read nothing", false, 0, cmdRead, 0, 0, 0},
		{"read beyond the end", false, 0, cmdRead, size, 512, eInval},
		{"read too much", false, 0, cmdRead, 0, 1<<32 - 512, eOverflow},
		{"read with unknown flags", false, 1 << 9, cmdRead, 0, 512, eInval},
		{"flush", true, 0, cmdFlush, 0, 0, 0},
		{"flush of a range", false, 0, cmdFlush, 0, 512, eInval},
		{"trim", false, 0, cmdTrim, 0, size, 0},
		{"trim, read-only", true, 0, cmdTrim, 0, size, ePerm},
		{"zeroes", false, cmdFlagNoHole | cmdFlagFUA, cmdWriteZeroes, 0, size, 0},
		{"zeroes, only if fast", false, cmdFlagFastZero, cmdWriteZeroes, 0, size, eNotSup},
		{"cache", false, 0, 5, 0, 512, eInval},
		{"unknown", false, 0, 99, 0, 512, eInval},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, _ := serve(t, Export{Device: trimmed{&memory{data: make([]byte, size)}}, ReadOnly: tt.readOnly, BlockSize: 512})
			c := enter(t, address)
			var data []byte
			if tt.command == cmdWrite {
				data = bytes.Repeat([]byte{7}, int(tt.length))
			}
			if got := c.ask(tt.flags, tt.command, tt.offset, tt.length, data); got != tt.want {
				t.Errorf("got error %d, want %d", got, tt.want)
			}
			if got := c.ask(0, cmdRead, 0, 0, nil); got != 0 {
				t.Errorf("afterwards: got error %d", got)
			}
		})
	}
}

func TestDeviceErrors(t *testing.T) {
	m := &memory{data: make([]byte, 4096)}
	address, _ := serve(t, Export{Device: m})
	c := enter(t, address)
	for _, tt := range []struct {
		err  error
		want uint32
	}{
		{errors.New("broken"), eIO},
		{fmt.Errorf("full: %w", syscall.ENOSPC), eNoSpc},
		{fs.ErrPermission, ePerm},
		{errors.ErrUnsupported, eNotSup},
		{nil, 0},
	} {
		m.mu.Lock()
		m.err = tt.err
		m.mu.Unlock()
		if got := c.ask(0, cmdWrite, 0, 4, []byte("data")); got != tt.want {
			t.Errorf("%v: got error %d, want %d", tt.err, got, tt.want)
		}
	}
	if got := c.ask(0, cmdTrim, 0, 4, nil); got != eInval {
		t.Errorf("trim, which is not offered: got error %d, want %d", got, eInval)
	}
	if got := c.ask(cmdFlagFUA, cmdWrite, 0, 4, []byte("data")); got != 0 || m.flushes != 1 {
		t.Errorf("FUA: got error %d and %d flushes, want 1", got, m.flushes)
	}
}

// Many requests at once, on several connections, more than there is room for.
func TestPipeline(t *testing.T) {
	m := &memory{data: make([]byte, 8<<20)}
	for i := range m.data {
		m.data[i] = byte(i >> 12)
	}
	address, _ := serve(t, Export{Device: m})
	var clients sync.WaitGroup
	for range 3 {
		c := enter(t, address)
		clients.Go(func() {
			const count, length = 80, 1 << 20
			var sender sync.WaitGroup
			sender.Go(func() {
				for i := range count {
					if _, err := c.Write(requestOf(0, cmdRead, uint64(i), uint64(i%7)<<20, length)); err != nil {
						t.Error(err)
						return
					}
				}
				_, _ = c.Write(requestOf(0, cmdDisc, 0, 0, 0)) // the reader sees the end
			})
			defer sender.Wait()
			seen := make(map[uint64]bool)
			b := make([]byte, replyLen+length)
			for range count {
				if _, err := io.ReadFull(c, b); err != nil {
					t.Error(err)
					return
				}
				cookie := binary.BigEndian.Uint64(b[8:])
				if code := binary.BigEndian.Uint32(b[4:]); code != 0 || seen[cookie] || cookie >= count {
					t.Errorf("reply to %d: error %d", cookie, code)
					return
				}
				seen[cookie] = true
				for at := 0; at < length; at += 4096 {
					if got, want := b[replyLen+at], byte((int(cookie%7)<<20+at)>>12); got != want {
						t.Errorf("request %d at %d: got %d, want %d", cookie, at, got, want)
						return
					}
				}
			}
			if n, err := c.Read(b); n != 0 || err != io.EOF {
				t.Errorf("after NBD_CMD_DISC: got %d bytes, %v", n, err)
			}
		})
	}
	clients.Wait()
}

// The end of Serve leaves what is under way unanswered.
func TestEnd(t *testing.T) {
	m := &memory{data: make([]byte, 4096), gate: make(chan struct{})}
	address, end := serve(t, Export{Device: m})
	c := enter(t, address)
	c.send(requestOf(0, cmdRead, 1, 0, 512))
	time.AfterFunc(50*time.Millisecond, func() { close(m.gate) })
	end()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a request was answered after the end")
	}
	if _, err := net.Dial("unix", address); err == nil {
		t.Error("the socket still takes connections")
	}
}

func TestTooManyConnections(t *testing.T) {
	address, _ := serve(t, Export{Device: &memory{data: make([]byte, 512)}})
	for range maxConns {
		dial(t, address)
	}
	conn, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("connection %d was greeted", maxConns+1)
	}
}

func TestNew(t *testing.T) {
	for _, e := range []Export{
		{Device: &memory{}, BlockSize: 513},
		{Device: &memory{}, BlockSize: 8192},
		{Device: &memory{}, BlockSize: -512},
		{Device: &memory{}, Name: strings.Repeat("x", maxName+1)},
	} {
		if _, err := New(e, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%.40v: no error", e)
		}
	}
}

// FuzzSession throws anything at a server: it must end, and touch nothing
// outside of the device.
func FuzzSession(f *testing.F) {
	f.Add(append(optionOf(optGo, infoOf("", 1, 2, 3)), requestOf(0, cmdRead, 1, 0, 512)...))
	f.Add(append(append(optionOf(optExportName, nil), requestOf(1, cmdWrite, 1, 100, 4)...), "data"...))
	f.Add(append(optionOf(optList, nil), optionOf(optAbort, nil)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := New(Export{Device: trimmed{&memory{data: make([]byte, 4096)}}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		here, there := net.Pipe()
		var peer sync.WaitGroup
		peer.Go(func() {
			_, _ = io.Copy(io.Discard, there) // until the server closes
		})
		peer.Go(func() {
			_, _ = there.Write(append([]byte{0, 0, 0, 3}, in...)) // it may hang up first
			time.Sleep(time.Millisecond)                          // for the last reply
			_ = there.Close()
		})
		_ = s.ServeConn(t.Context(), here) // what it says to garbage does not matter
		peer.Wait()
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(infoOf("name", 1, 2))
	f.Add(requestOf(1, 2, 3, 4, 5))
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := decodeInfo(in); err == nil && !bytes.Equal(infoOf(r.name, r.infos...), in) {
			t.Errorf("%x is not what was decoded: %+v", in, r)
		}
		if len(in) < requestLen {
			return
		}
		if r, err := decodeRequest(in); err == nil && !bytes.Equal(requestOf(r.flags, r.command, r.cookie, r.offset, r.length), in[:requestLen]) {
			t.Errorf("%x is not what was decoded: %+v", in, r)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{4096, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			address, _ := serve(b, Export{Device: &memory{data: make([]byte, 2<<20)}})
			c := enter(b, address)
			_ = c.SetDeadline(time.Time{})
			b.SetBytes(int64(size))
			buf := make([]byte, replyLen+size)
			const depth = 16
			sent := 0
			for done := range b.N {
				for ; sent < b.N && sent < done+depth; sent++ {
					c.send(requestOf(0, cmdRead, uint64(sent), 0, uint32(size)))
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
