package iscsi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi/login"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
	"github.com/nitrino/nitrino/block/scsi"
	"github.com/nitrino/nitrino/host"
)

const (
	testTarget    = "iqn.2026-01.test:disk"
	testInitiator = "iqn.2026-01.test:host"
	diskSize      = 8 << 20
)

// A memoryDisk is a device in memory.
type memoryDisk struct {
	mu   sync.Mutex
	data []byte
	// prompt: nothing has to be waited for. stall, if not nil, is what reads and
	// writes wait for; stalled tells of each that does.
	prompt  bool
	stall   chan struct{}
	stalled chan struct{}
	panics  bool
}

func newMemoryDisk(prompt bool) *memoryDisk {
	return &memoryDisk{data: make([]byte, diskSize), prompt: prompt, stalled: make(chan struct{}, 1000)}
}

func (d *memoryDisk) wait() {
	d.mu.Lock()
	stall, panics := d.stall, d.panics
	d.mu.Unlock()
	if panics {
		panic("a fault of the disk")
	}
	if stall != nil {
		d.stalled <- struct{}{}
		<-stall
	}
}

// hold has reads and writes wait from now on, until the function returned is called.
func (d *memoryDisk) hold() (letGo func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stall := make(chan struct{})
	d.stall = stall
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.stall = nil
		close(stall)
	})
}

func (d *memoryDisk) Size() int64 { return diskSize }

func (d *memoryDisk) Readv(bufs [][]byte, offset int64) error {
	d.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range bufs {
		offset += int64(copy(b, d.data[offset:]))
	}
	return nil
}

func (d *memoryDisk) Writev(bufs [][]byte, offset int64) error {
	d.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range bufs {
		offset += int64(copy(d.data[offset:], b))
	}
	return nil
}

func (d *memoryDisk) waits() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.prompt || d.stall != nil
}

func (d *memoryDisk) TryReadv(bufs [][]byte, offset int64) (bool, error) {
	if d.waits() {
		return false, nil
	}
	return true, d.Readv(bufs, offset)
}

func (d *memoryDisk) TryWritev(bufs [][]byte, offset int64) (bool, error) {
	if d.waits() {
		return false, nil
	}
	return true, d.Writev(bufs, offset)
}

func (d *memoryDisk) Flush() error { return nil }

func (d *memoryDisk) Discard(offset, length int64) error { return d.WriteZeroes(offset, length, false) }

func (d *memoryDisk) WriteZeroes(offset, length int64, _ bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.data[offset : offset+length])
	return nil
}

func (d *memoryDisk) Extent(offset int64) (int64, bool, error) { return diskSize - offset, true, nil }
func (d *memoryDisk) Close() error                             { return nil }

// content is what the disk holds at an offset.
func (d *memoryDisk) content(offset, n int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.data[offset : offset+n])
}

// A bed is a server with one target, whose LUN 0 is a disk in memory.
type bed struct {
	*Server
	disk    *memoryDisk
	scsi    *scsi.Target
	address string

	mu     sync.Mutex
	events []string
}

// config is the bed's target.
func (b *bed) config() TargetConfig {
	return TargetConfig{Target: block.Target{Name: testTarget, Alias: "test", LUNs: []block.LUN{{Number: 0, Volume: "disk0"}}}, SCSI: b.scsi}
}

// has waits until an event of a kind was reported.
func (b *bed) has(t *testing.T, kind string) {
	t.Helper()
	eventually(t, "the event "+kind, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return strings.Contains(strings.Join(b.events, "\n"), kind)
	})
}

// eventually waits for something that happens soon.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s after 10 s", what)
		}
	}
}

func newBed(t testing.TB, prompt bool, o Options) *bed {
	t.Helper()
	b := &bed{disk: newMemoryDisk(prompt)}
	k, err := block.NewDisk(block.Identity{Name: "disk0", UUID: [16]byte{1}, BlockSize: 512, PhysicalSize: 512}, b.disk)
	if err != nil {
		t.Fatal(err)
	}
	o.Log = slog.New(slog.DiscardHandler)
	u, err := scsi.NewUnit(scsi.UnitOptions{Disk: k, Vendor: "TEST", Product: "DISK", Revision: "1", Log: o.Log})
	if err != nil {
		t.Fatal(err)
	}
	b.scsi = scsi.NewTarget(testTarget, portalGroup)
	b.scsi.SetUnits(map[uint16]*scsi.Unit{0: u})
	o.Report = func(_ host.Severity, kind, message string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, kind+": "+message)
	}
	b.Server = New(o)
	b.SetTargets([]TargetConfig{b.config()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := b.Serve(ctx, l); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
		u.Close()
		if b.memory.used != [kinds]int{} || len(b.memory.queue) > 0 {
			t.Errorf("%v bytes of buffers are left, %d waiting", b.memory.used, len(b.memory.queue))
		}
	})
	return b
}

// An initiator speaks iSCSI as a test has it.
type initiator struct {
	t    testing.TB
	conn net.Conn

	header, data bool // digests
	cmdSN        uint32
	expStatSN    uint32
	maxCmdSN     uint32
	itt          uint32
	last         answer
}

// An answer is a PDU of the target.
type answer struct {
	h    pdu.Header
	data []byte
}

func (a answer) op() pdu.Opcode { return a.h.Opcode() }

func (a answer) String() string {
	return fmt.Sprintf("% x | % x", a.h[:], a.data[:min(len(a.data), 32)])
}

// words are the keys of a login that a test can set otherwise.
type words map[string]string

// dial opens a connection without a login.
func (b *bed) dial(t testing.TB) *initiator {
	t.Helper()
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &initiator{t: t, conn: conn, cmdSN: 100, expStatSN: 1}
}

// login logs in, by one request, with tuned parameters unless w has others. isid is
// its last byte.
func (b *bed) login(t testing.TB, isid byte, w words) *initiator {
	t.Helper()
	i := b.dial(t)
	if status := i.login(isid, w); status != login.Success {
		t.Fatalf("login status %04x", status)
	}
	return i
}

func (i *initiator) login(isid byte, w words) login.Status {
	i.t.Helper()
	keys := words{
		"InitiatorName": testInitiator, "TargetName": testTarget, "SessionType": "Normal",
		"InitialR2T": "No", "ImmediateData": "Yes", "MaxRecvDataSegmentLength": "262144", "MaxBurstLength": "1048576",
		"FirstBurstLength": "262144", "MaxOutstandingR2T": "8", "HeaderDigest": "None", "DataDigest": "None",
	}
	for k, v := range w {
		if keys[k] = v; v == "" {
			delete(keys, k)
		}
	}
	var text []byte
	for k, v := range keys {
		text = fmt.Appendf(text, "%s=%s\x00", k, v)
	}
	h := pdu.Header{0: 0x43, 1: 0x87, 8: 0x80, 13: isid}
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	binary.BigEndian.PutUint32(h[28:], i.expStatSN)
	i.write(h, text)
	a, err := i.read()
	if err != nil {
		i.t.Fatalf("login: %v", err)
	}
	i.expStatSN = a.h.StatSN() + 1
	i.maxCmdSN = a.h.MaxCmdSN()
	i.header, i.data = keys["HeaderDigest"] == "CRC32C", keys["DataDigest"] == "CRC32C"
	return login.Status(binary.BigEndian.Uint16(a.h[36:]))
}

// write sends a PDU.
func (i *initiator) write(h pdu.Header, data []byte) {
	i.t.Helper()
	if _, err := i.conn.Write(i.encode(h, nil, data)); err != nil {
		i.t.Fatalf("sending: %v", err)
	}
}

func (i *initiator) encode(h pdu.Header, ahs, data []byte) []byte {
	h.SetDataLength(len(data))
	h[4] = byte(len(ahs) / 4)
	b := append(h[:], ahs...)
	if i.header {
		b = append(b, make([]byte, 4)...)
		pdu.Digest(0).Update(b[:len(b)-4]).Put(b[len(b)-4:])
	}
	b = append(b, data...)
	b = append(b, make([]byte, pdu.Padding(len(data)))...)
	if i.data && len(data) > 0 {
		b = append(b, make([]byte, 4)...)
		pdu.Digest(0).Update(data).Pad(len(data)).Put(b[len(b)-4:])
	}
	return b
}

// read gets a PDU and checks its digests.
func (i *initiator) read() (answer, error) {
	var a answer
	if _, err := io.ReadFull(i.conn, a.h[:]); err != nil {
		return a, err
	}
	var digest [4]byte
	if i.header {
		if _, err := io.ReadFull(i.conn, digest[:]); err != nil {
			return a, err
		}
		if !pdu.Digest(0).Update(a.h[:]).Is(digest[:]) {
			return a, errors.New("a wrong header digest")
		}
	}
	n := a.h.DataLength()
	padded := make([]byte, n+pdu.Padding(n))
	if _, err := io.ReadFull(i.conn, padded); err != nil {
		return a, err
	}
	a.data = padded[:n]
	if i.data && n > 0 {
		if _, err := io.ReadFull(i.conn, digest[:]); err != nil {
			return a, err
		}
		if !pdu.Digest(0).Update(padded).Is(digest[:]) {
			return a, errors.New("a wrong data digest")
		}
	}
	return a, nil
}

// next is the next PDU; it checks the numbers that all have.
func (i *initiator) next() answer {
	i.t.Helper()
	a, err := i.read()
	if err != nil {
		i.t.Fatalf("receiving: %v", err)
	}
	numbered := true
	switch a.op() {
	case pdu.OpDataIn:
		numbered = a.h[1]&1 != 0
	case pdu.OpNOPIn:
		numbered = a.h.ITT() != pdu.NoTag
		if !numbered && a.h.StatSN() != i.expStatSN {
			i.t.Fatalf("StatSN %d of a ping, want the next one, %d", a.h.StatSN(), i.expStatSN)
		}
	case pdu.OpR2T:
		numbered = false
	}
	if numbered {
		if a.h.StatSN() != i.expStatSN {
			i.t.Fatalf("StatSN %d, want %d: %v", a.h.StatSN(), i.expStatSN, a)
		}
		i.expStatSN++
	}
	if pdu.Before(a.h.MaxCmdSN(), i.maxCmdSN) {
		i.t.Fatalf("MaxCmdSN went back from %d to %d", i.maxCmdSN, a.h.MaxCmdSN())
	}
	if n := int32(a.h.MaxCmdSN() - a.h.ExpCmdSN() + 1); n < 0 || n > maxWindow {
		i.t.Fatalf("a window of %d commands", n)
	}
	i.maxCmdSN = a.h.MaxCmdSN()
	i.last = a
	return a
}

// want is next of a certain kind.
func (i *initiator) want(op pdu.Opcode) answer {
	i.t.Helper()
	a := i.next()
	if a.op() != op {
		i.t.Fatalf("got opcode %#x, want %#x: %v", a.op(), op, a)
	}
	return a
}

// closed waits for the end of the connection, whatever comes before.
func (i *initiator) closed() {
	i.t.Helper()
	for {
		if _, err := i.read(); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				i.t.Fatal("the connection is still open")
			}
			return
		}
	}
}

// asked waits for an R2T and returns its tag.
func (i *initiator) asked() (ttt uint32) {
	i.t.Helper()
	a := i.want(pdu.OpR2T)
	return a.h.TTT()
}

// flags of a SCSI Command.
const (
	final = 0x80
	reads = 0x40
	wants = 0x20 // it writes
)

// request makes a request's header with the next numbers.
func (i *initiator) request(op pdu.Opcode, flags byte) pdu.Header {
	i.itt++
	h := pdu.Header{0: byte(op), 1: flags}
	binary.BigEndian.PutUint32(h[16:], i.itt)
	binary.BigEndian.PutUint32(h[20:], pdu.NoTag)
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	binary.BigEndian.PutUint32(h[28:], i.expStatSN)
	i.cmdSN++
	return h
}

// command sends a SCSI Command and returns its tag.
func (i *initiator) command(flags byte, cdb []byte, expected int, data []byte) uint32 {
	i.t.Helper()
	h := i.request(pdu.OpSCSICommand, flags|1)
	binary.BigEndian.PutUint32(h[20:], uint32(expected))
	copy(h[32:], cdb)
	i.write(h, data)
	return h.ITT()
}

// dataOut sends a Data-Out.
func (i *initiator) dataOut(itt, ttt, sn uint32, offset int, last bool, data []byte) {
	i.t.Helper()
	i.write(dataOut(itt, ttt, sn, offset, last), data)
}

func dataOut(itt, ttt, sn uint32, offset int, last bool) pdu.Header {
	h := pdu.Header{0: byte(pdu.OpDataOut)}
	if last {
		h[1] = final
	}
	binary.BigEndian.PutUint32(h[16:], itt)
	binary.BigEndian.PutUint32(h[20:], ttt)
	binary.BigEndian.PutUint32(h[36:], sn)
	binary.BigEndian.PutUint32(h[40:], uint32(offset))
	return h
}

// rw is a READ(16) or WRITE(16).
func rw(write bool, lba, blocks int) []byte {
	c := make([]byte, 16)
	c[0] = 0x88
	if write {
		c[0] = 0x8a
	}
	binary.BigEndian.PutUint64(c[2:], uint64(lba))
	binary.BigEndian.PutUint32(c[10:], uint32(blocks))
	return c
}

// ready takes the unit attention that a new session gets.
func (i *initiator) ready() *initiator {
	i.t.Helper()
	for range 3 {
		i.command(final, make([]byte, 6), 0, nil)
		if a := i.want(pdu.OpSCSIResponse); a.h[3] == scsi.StatusGood {
			return i
		}
	}
	i.t.Fatal("the unit is not ready")
	return nil
}

// good waits for a response that says that all is well.
func (i *initiator) good(itt uint32) answer {
	i.t.Helper()
	a := i.want(pdu.OpSCSIResponse)
	if a.h.ITT() != itt || a.h[2] != 0 || a.h[3] != scsi.StatusGood {
		i.t.Fatalf("got %v, want GOOD for task %d", a, itt)
	}
	return a
}

// sense waits for a response with sense data, and returns key, code and qualifier.
func (i *initiator) sense(itt uint32) [3]byte {
	i.t.Helper()
	a := i.want(pdu.OpSCSIResponse)
	if a.h.ITT() != itt || a.h[3] != scsi.StatusCheckCondition || len(a.data) < 16 {
		i.t.Fatalf("got %v, want CHECK CONDITION for task %d", a, itt)
	}
	return [3]byte{a.data[4] & 0xf, a.data[14], a.data[15]}
}

// readBack gets what a read of the disk gives.
func (i *initiator) readBack(lba, n int) []byte {
	i.t.Helper()
	itt := i.command(final|reads, rw(false, lba, n/512), n, nil)
	return i.collect(itt)
}

// collect gets the Data-In of a command, in order.
func (i *initiator) collect(itt uint32) []byte {
	i.t.Helper()
	var all []byte
	for sn := uint32(0); ; sn++ {
		a := i.next()
		if a.op() == pdu.OpSCSIResponse {
			if a.h[3] != scsi.StatusGood {
				i.t.Fatalf("a read failed: %v", a)
			}
			return all
		}
		if a.op() != pdu.OpDataIn || a.h.ITT() != itt || binary.BigEndian.Uint32(a.h[36:]) != sn || int(binary.BigEndian.Uint32(a.h[40:])) != len(all) {
			i.t.Fatalf("got %v, want Data-In %d of task %d at %d", a, sn, itt, len(all))
		}
		all = append(all, a.data...)
		if a.h[1]&1 != 0 {
			if !a.h.Final() {
				i.t.Fatal("a status without the F bit")
			}
			return all
		}
	}
}

// obey sends the data that R2Ts ask for, in segments, until a response comes.
func (i *initiator) obey(itt uint32, data []byte, segment int) answer {
	i.t.Helper()
	for asks := uint32(0); ; asks++ {
		a := i.next()
		if a.op() != pdu.OpR2T {
			return a
		}
		if a.h.ITT() != itt || binary.BigEndian.Uint32(a.h[36:]) != asks {
			i.t.Fatalf("got %v, want R2T %d of task %d", a, asks, itt)
		}
		offset, n := int(binary.BigEndian.Uint32(a.h[40:])), int(binary.BigEndian.Uint32(a.h[44:]))
		i.burst(itt, a.h.TTT(), offset, data[offset:offset+n], segment)
	}
}

// burst sends a sequence of Data-Out.
func (i *initiator) burst(itt, ttt uint32, offset int, data []byte, segment int) {
	i.t.Helper()
	for sn := uint32(0); ; sn++ {
		n := min(segment, len(data))
		i.dataOut(itt, ttt, sn, offset, n == len(data), data[:n])
		data = data[n:]
		offset += n
		if len(data) == 0 {
			return
		}
	}
}
