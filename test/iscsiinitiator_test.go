//go:build e2e

package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An initiator is one session of a small iSCSI initiator, written without the
// target's packages so that no mistake of theirs is its own. It holds the target to
// RFC 7143 with each PDU: sequence numbers, the command window, digests.
type initiator struct {
	conn           net.Conn
	header, data   bool // digests
	burst, segment int  // MaxBurstLength, and the target's MaxRecvDataSegmentLength
	first          int  // FirstBurstLength
	immediate      bool
	lun            byte
	reading        sync.WaitGroup

	sending sync.Mutex // a PDU after the other, in the order of CmdSN

	mu       sync.Mutex
	changed  *sync.Cond // the window has moved, or the session has ended
	cmdSN    uint32
	maxCmdSN uint32
	expCmdSN uint32
	statSN   uint32 // the next one
	itt      uint32
	tasks    map[uint32]*task
	err      error // why the session has ended
	// asyncs counts Async Messages, by their event.
	asyncs map[byte]int
}

// A task is a request that is not answered yet.
type task struct {
	itt    uint32
	out    []byte // what is to be written
	in     []byte // what was read
	dataSN uint32
	r2tSN  uint32
	header [48]byte // the answer
	data   []byte
	done   chan struct{}
}

// loginOptions are what an initiator asks for; zero is a session without digests,
// of a name made from isid.
type loginOptions struct {
	name         string
	isid         uint16
	lun          byte // of the commands
	header, data bool
	// stuck: after the login nothing is read any more.
	stuck bool
	// keys replace what the initiator offers otherwise.
	keys map[string]string
}

// Opcodes (RFC 7143 section 11.2.1.2).
const (
	opNopOut, opCommand, opTMF, opLogin, opText, opDataOut, opLogout         = 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
	opNopIn, opResponse, opTMFResponse, opLoginResponse, opTextResponse      = 0x20, 0x21, 0x22, 0x23, 0x24
	opDataIn, opLogoutResponse, opR2T, opAsync, opReject                     = 0x25, 0x26, 0x31, 0x32, 0x3f
	immediate                                                           byte = 0x40
	final                                                               byte = 0x80
	reservedTag                                                              = 0xffffffff
	abortTask, lunReset                                                 byte = 1, 5
)

var errStatus = errors.New("the target refuses the login")

// login opens a session.
func login(ctx context.Context, p portal, o loginOptions) (*initiator, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return nil, err
	}
	i := &initiator{
		conn: conn, lun: o.lun, cmdSN: 1, tasks: map[uint32]*task{}, asyncs: map[byte]int{},
		burst: 262144, segment: 8192, first: 65536, immediate: true,
	}
	i.changed = sync.NewCond(&i.mu)
	if err := i.negotiate(ctx, p.target, o); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if !o.stuck {
		i.reading.Go(i.read)
	}
	return i, nil
}

func (i *initiator) negotiate(ctx context.Context, target string, o loginOptions) error {
	if end, ok := ctx.Deadline(); ok {
		if err := i.conn.SetDeadline(end); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { i.conn.Close() }) // what waits for it says so
	defer stop()
	digest := func(on bool) string {
		if on {
			return "CRC32C"
		}
		return "None"
	}
	if o.name == "" {
		o.name = "iqn.2026-01.io.nitrino:test"
	}
	keys := map[string]string{
		"InitiatorName": o.name, "TargetName": target, "SessionType": "Normal",
		"HeaderDigest": digest(o.header), "DataDigest": digest(o.data),
		"InitialR2T": "No", "ImmediateData": "Yes", "MaxBurstLength": "1048576", "FirstBurstLength": "262144",
		"MaxRecvDataSegmentLength": "65536", "MaxOutstandingR2T": "8", "ErrorRecoveryLevel": "0", "MaxConnections": "1",
	}
	maps.Copy(keys, o.keys)
	var text bytes.Buffer
	for k, v := range keys {
		fmt.Fprintf(&text, "%s=%s\x00", k, v)
	}
	var h [48]byte
	h[0], h[1] = opLogin|immediate, final|1<<2|3 // from the operational stage to full feature
	h[8], h[9] = 0x80, 0                         // ISID: a random one (section 11.12.5)
	binary.BigEndian.PutUint16(h[12:], o.isid)
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	var answer []byte
	data := text.Bytes()
	for round, there := 0, false; !there; round++ {
		if err := i.send(&h, data); err != nil {
			return err
		}
		a, more, err := i.receive(i.conn)
		if err != nil {
			return err
		}
		if a[0] != opLoginResponse || a[36] != 0 || round == 5 {
			return fmt.Errorf("%w: opcode %#x, status %#x %#x", errStatus, a[0], a[36], a[37])
		}
		answer, data = append(answer, more...), nil
		i.statSN = binary.BigEndian.Uint32(a[24:]) + 1
		i.expCmdSN = binary.BigEndian.Uint32(a[28:])
		i.maxCmdSN = binary.BigEndian.Uint32(a[32:])
		binary.BigEndian.PutUint32(h[28:], i.statSN)
		there = a[1]&final != 0 // else it wants another round
	}
	for line := range strings.SplitSeq(strings.TrimRight(string(answer), "\x00"), "\x00") {
		k, v, _ := strings.Cut(line, "=")
		n, _ := strconv.Atoi(v) // for those that are numbers
		switch k {
		case "MaxBurstLength":
			i.burst = n
		case "FirstBurstLength":
			i.first = n
		case "MaxRecvDataSegmentLength":
			i.segment = n
		case "ImmediateData":
			i.immediate = v == "Yes"
		case "HeaderDigest":
			i.header = v == "CRC32C"
		case "DataDigest":
			i.data = v == "CRC32C"
		}
	}
	if i.header != o.header || i.data != o.data {
		return fmt.Errorf("login: the digests came out as %v and %v, want %v and %v", i.header, i.data, o.header, o.data)
	}
	return i.conn.SetDeadline(time.Time{})
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// send writes one PDU. The caller holds sending, or nobody else sends yet.
func (i *initiator) send(h *[48]byte, data []byte) error {
	h[5], h[6], h[7] = byte(len(data)>>16), byte(len(data)>>8), byte(len(data))
	pdu := append(make([]byte, 0, 64+len(data)), h[:]...)
	if i.header {
		pdu = binary.LittleEndian.AppendUint32(pdu, crc32.Checksum(h[:], castagnoli))
	}
	at := len(pdu)
	pdu = append(pdu, data...)
	for (len(pdu)-at)%4 != 0 {
		pdu = append(pdu, 0)
	}
	if i.data && len(data) > 0 {
		pdu = binary.LittleEndian.AppendUint32(pdu, crc32.Checksum(pdu[at:], castagnoli))
	}
	_, err := i.conn.Write(pdu)
	return err
}

func (i *initiator) receive(r io.Reader) (h [48]byte, data []byte, err error) {
	if _, err = io.ReadFull(r, h[:]); err != nil {
		return h, nil, err
	}
	var sum [4]byte
	if i.header {
		if _, err = io.ReadFull(r, sum[:]); err != nil {
			return h, nil, err
		}
		if binary.LittleEndian.Uint32(sum[:]) != crc32.Checksum(h[:], castagnoli) {
			return h, nil, errors.New("a header's digest is wrong")
		}
	}
	if h[4] != 0 {
		return h, nil, errors.New("the target sends an additional header segment")
	}
	n := int(h[5])<<16 | int(h[6])<<8 | int(h[7])
	padded := make([]byte, (n+3)&^3)
	if _, err = io.ReadFull(r, padded); err != nil {
		return h, nil, err
	}
	if i.data && n > 0 {
		if _, err = io.ReadFull(r, sum[:]); err != nil {
			return h, nil, err
		}
		if binary.LittleEndian.Uint32(sum[:]) != crc32.Checksum(padded, castagnoli) {
			return h, nil, errors.New("a digest of data is wrong")
		}
	}
	return h, padded[:n], nil
}

// read takes what the target sends, until the session ends.
func (i *initiator) read() {
	r := bufio.NewReaderSize(i.conn, 128<<10)
	var err error
	for err == nil {
		var h [48]byte
		var data []byte
		if h, data, err = i.receive(r); err == nil {
			err = i.take(h, data)
		}
	}
	i.conn.Close() // whoever sends learns of it
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.err == nil {
		i.err = err
	}
	for _, t := range i.tasks {
		close(t.done)
	}
	clear(i.tasks)
	i.changed.Broadcast()
}

// take handles one PDU of the target's.
func (i *initiator) take(h [48]byte, data []byte) error {
	op := h[0] & 0x3f
	itt, ttt := binary.BigEndian.Uint32(h[16:]), binary.BigEndian.Uint32(h[20:])
	statSN, expCmdSN, maxCmdSN := binary.BigEndian.Uint32(h[24:]), binary.BigEndian.Uint32(h[28:]), binary.BigEndian.Uint32(h[32:])

	i.mu.Lock()
	// Section 4.2.2.1: the window neither shrinks nor is less than nothing.
	if int32(maxCmdSN-(expCmdSN-1)) >= 0 {
		if d := int32(maxCmdSN - i.maxCmdSN); d > 0 {
			i.maxCmdSN = maxCmdSN
		} else if d < 0 && int32(expCmdSN-i.expCmdSN) > 0 {
			i.mu.Unlock()
			return fmt.Errorf("MaxCmdSN goes back from %d to %d", i.maxCmdSN, maxCmdSN)
		}
		if int32(expCmdSN-i.expCmdSN) > 0 {
			i.expCmdSN = expCmdSN
		}
		if int32(expCmdSN-i.cmdSN) > 0 {
			i.mu.Unlock()
			return fmt.Errorf("ExpCmdSN is %d, but only %d was sent", expCmdSN, i.cmdSN-1)
		}
	}
	t := i.tasks[itt]
	withStatus := false
	switch op {
	case opResponse, opTMFResponse, opTextResponse, opLogoutResponse, opAsync, opReject:
		withStatus = true
	case opNopIn:
		withStatus = itt != reservedTag
	case opDataIn:
		withStatus = h[1]&1 != 0
	}
	wrong := (withStatus || op == opNopIn || op == opR2T) && statSN != i.statSN
	if withStatus {
		i.statSN++
	}
	expected := i.statSN
	i.changed.Broadcast()
	i.mu.Unlock()
	if wrong {
		return fmt.Errorf("opcode %#x has StatSN %d, which is not what is due (%d)", op, statSN, expected)
	}

	switch op {
	case opReject:
		return fmt.Errorf("rejected, reason %#x", h[2])
	case opAsync:
		i.mu.Lock()
		defer i.mu.Unlock()
		i.asyncs[h[36]]++
		return nil
	case opNopIn:
		if itt == reservedTag {
			if ttt == reservedTag {
				return nil
			}
			var pong [48]byte // section 11.18: a ping, which is answered
			pong[0], pong[1] = opNopOut|immediate, final
			copy(pong[8:16], h[8:16])
			binary.BigEndian.PutUint32(pong[16:], reservedTag)
			binary.BigEndian.PutUint32(pong[20:], ttt)
			i.sending.Lock()
			defer i.sending.Unlock()
			return i.stamp(&pong, nil)
		}
	}
	if t == nil {
		return fmt.Errorf("opcode %#x is for the task %#x, which there is not", op, itt)
	}
	switch op {
	case opDataIn:
		sn, offset := binary.BigEndian.Uint32(h[36:]), binary.BigEndian.Uint32(h[40:])
		if sn != t.dataSN || int(offset)+len(data) > len(t.in) {
			return fmt.Errorf("Data-In %d (want %d) with %d bytes at %d of %d", sn, t.dataSN, len(data), offset, len(t.in))
		}
		t.dataSN++
		copy(t.in[offset:], data)
		if h[1]&1 == 0 {
			return nil
		}
	case opR2T:
		sn := binary.BigEndian.Uint32(h[36:])
		offset, length := binary.BigEndian.Uint32(h[40:]), binary.BigEndian.Uint32(h[44:])
		if sn != t.r2tSN || length == 0 || int(length) > i.burst || int(offset+length) > len(t.out) {
			return fmt.Errorf("R2T %d (want %d) for %d bytes at %d of %d", sn, t.r2tSN, length, offset, len(t.out))
		}
		t.r2tSN++
		i.reading.Go(func() {
			if err := i.dataOut(t, ttt, h[8:16], int(offset), int(length)); err != nil {
				i.conn.Close() // the reader says why
			}
		})
		return nil
	}
	t.header, t.data = h, data
	i.mu.Lock()
	delete(i.tasks, itt)
	i.mu.Unlock()
	close(t.done)
	return nil
}

// dataOut sends what an R2T asks for.
func (i *initiator) dataOut(t *task, ttt uint32, lun []byte, offset, length int) error {
	for sn := uint32(0); length > 0; sn++ {
		n := min(length, i.segment)
		var h [48]byte
		h[0] = opDataOut
		if n == length {
			h[1] = final
		}
		copy(h[8:16], lun)
		binary.BigEndian.PutUint32(h[16:], t.itt)
		binary.BigEndian.PutUint32(h[20:], ttt)
		binary.BigEndian.PutUint32(h[36:], sn)
		binary.BigEndian.PutUint32(h[40:], uint32(offset))
		i.sending.Lock()
		i.mu.Lock()
		binary.BigEndian.PutUint32(h[28:], i.statSN)
		i.mu.Unlock()
		err := i.send(&h, t.out[offset:offset+n])
		i.sending.Unlock()
		if err != nil {
			return err
		}
		offset, length = offset+n, length-n
	}
	return nil
}

// stamp sends a PDU with the session's numbers as they are. The caller holds
// sending.
func (i *initiator) stamp(h *[48]byte, data []byte) error {
	i.mu.Lock()
	binary.BigEndian.PutUint32(h[24:], i.cmdSN)
	binary.BigEndian.PutUint32(h[28:], i.statSN)
	if h[0]&immediate == 0 {
		i.cmdSN++
	}
	i.mu.Unlock()
	return i.send(h, data)
}

// begin sends a request once the window lets it.
func (i *initiator) begin(h [48]byte, data []byte, out []byte, in int) (*task, error) {
	for open := false; !open; {
		// Not with sending held: an answer to a ping may not have to wait for this.
		i.mu.Lock()
		for i.err == nil && h[0]&immediate == 0 && !i.room() {
			i.changed.Wait()
		}
		err := i.err
		i.mu.Unlock()
		if err != nil {
			return nil, err
		}
		i.sending.Lock()
		i.mu.Lock()
		if open = i.err != nil || h[0]&immediate != 0 || i.room(); !open {
			i.mu.Unlock()
			i.sending.Unlock()
		}
	}
	defer i.sending.Unlock()
	if i.err != nil {
		err := i.err
		i.mu.Unlock()
		return nil, err
	}
	i.itt++
	t := &task{itt: i.itt, out: out, in: make([]byte, in), done: make(chan struct{})}
	i.tasks[t.itt] = t
	i.mu.Unlock()
	binary.BigEndian.PutUint32(h[16:], t.itt)
	if err := i.stamp(&h, data); err != nil {
		i.conn.Close() // the reader ends all tasks
		return nil, err
	}
	return t, nil
}

// room says whether the window has room for a command. The caller holds mu.
func (i *initiator) room() bool { return int32(i.cmdSN-i.maxCmdSN) <= 0 }

// wait is for a task's answer.
func (i *initiator) wait(ctx context.Context, t *task) error {
	select {
	case <-t.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.header[0] == 0 {
		i.mu.Lock()
		defer i.mu.Unlock()
		return fmt.Errorf("the session has ended: %w", i.err)
	}
	return nil
}

// command begins a SCSI command that writes out, or reads in bytes.
func (i *initiator) command(cdb, out []byte, in int) (*task, error) {
	var h [48]byte
	h[0], h[1], h[9] = opCommand, final|1, i.lun // a simple task
	if in > 0 {
		h[1] |= 0x40
	}
	n := 0
	if len(out) > 0 {
		h[1] |= 0x20
		if i.immediate {
			n = min(len(out), i.first, i.segment)
		}
	}
	binary.BigEndian.PutUint32(h[20:], uint32(max(len(out), in)))
	copy(h[32:48], cdb)
	return i.begin(h, out[:n], out, in)
}

// A scsiError is a command's answer other than GOOD.
type scsiError struct {
	status    byte
	key       byte
	code      uint16 // additional sense code and qualifier
	additions []byte // the sense data
}

func (e *scsiError) Error() string {
	return fmt.Sprintf("status %#x, sense %x/%04x", e.status, e.key, e.code)
}

// scsi waits for a SCSI command's answer.
func (i *initiator) scsi(ctx context.Context, t *task, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if err := i.wait(ctx, t); err != nil {
		return nil, err
	}
	if t.header[0]&0x3f == opResponse && t.header[2] != 0 {
		return nil, fmt.Errorf("iSCSI response %#x", t.header[2])
	}
	if t.header[3] == 0 {
		return t.in, nil
	}
	e := &scsiError{status: t.header[3]}
	if len(t.data) > 2 {
		e.additions = t.data[2:] // after SenseLength (section 11.4.7.2)
		switch s := e.additions; {
		case len(s) >= 14 && s[0]&0x7e == 0x70: // SPC-4 section 4.5.3
			e.key, e.code = s[2]&0xf, binary.BigEndian.Uint16(s[12:])
		case len(s) >= 4:
			e.key, e.code = s[1]&0xf, binary.BigEndian.Uint16(s[2:])
		}
	}
	return nil, e
}

// retry repeats a command for as long as it is answered with a unit attention.
func retry(f func() ([]byte, error)) ([]byte, error) {
	for range 20 {
		data, err := f()
		if e, ok := errors.AsType[*scsiError](err); !ok || e.key != 6 {
			return data, err
		}
	}
	return nil, errors.New("unit attentions without an end")
}

const blockSize = 512

func rw16(op byte, offset int64, length int, fua bool) []byte {
	cdb := make([]byte, 16)
	cdb[0] = op
	if fua {
		cdb[1] = 8
	}
	binary.BigEndian.PutUint64(cdb[2:], uint64(offset/blockSize))
	binary.BigEndian.PutUint32(cdb[10:], uint32(length/blockSize))
	return cdb
}

// readAt reads by READ(16); offset and length are in bytes.
func (i *initiator) readAt(ctx context.Context, offset int64, length int) ([]byte, error) {
	return retry(func() ([]byte, error) {
		t, err := i.command(rw16(0x88, offset, length, false), nil, length)
		return i.scsi(ctx, t, err)
	})
}

// writeAt writes by WRITE(16).
func (i *initiator) writeAt(ctx context.Context, offset int64, data []byte, fua bool) error {
	_, err := retry(func() ([]byte, error) {
		t, err := i.command(rw16(0x8a, offset, len(data), fua), data, 0)
		return i.scsi(ctx, t, err)
	})
	return err
}

// flush is SYNCHRONIZE CACHE(10) of all of the disk.
func (i *initiator) flush(ctx context.Context) error {
	_, err := retry(func() ([]byte, error) {
		t, err := i.command([]byte{0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 0)
		return i.scsi(ctx, t, err)
	})
	return err
}

// manage is a task management function; about is the task that it is for.
func (i *initiator) manage(function byte, about *task) (*task, error) {
	var h [48]byte
	h[0], h[1], h[9] = opTMF|immediate, final|function, i.lun
	binary.BigEndian.PutUint32(h[20:], reservedTag)
	if about != nil {
		binary.BigEndian.PutUint32(h[20:], about.itt)
		i.mu.Lock()
		binary.BigEndian.PutUint32(h[32:], i.cmdSN) // RefCmdSN: it only has to be one that was used
		i.mu.Unlock()
	}
	return i.begin(h, nil, nil, 0)
}

// ping sends a NOP-Out and wants its data back.
func (i *initiator) ping(ctx context.Context) error {
	var h [48]byte
	h[0], h[1] = opNopOut|immediate, final
	binary.BigEndian.PutUint32(h[20:], reservedTag)
	t, err := i.begin(h, []byte("still there?"), nil, 0)
	if err != nil {
		return err
	}
	if err := i.wait(ctx, t); err != nil {
		return err
	}
	if string(t.data) != "still there?" {
		return fmt.Errorf("the answer to a NOP-Out has the data %q", t.data)
	}
	return nil
}

// logout ends the session in good order.
func (i *initiator) logout(ctx context.Context) error {
	var h [48]byte
	h[0], h[1] = opLogout|immediate, final // reason 0: the session
	t, err := i.begin(h, nil, nil, 0)
	if err == nil {
		err = i.wait(ctx, t)
	}
	if err == nil && t.header[2] != 0 {
		err = fmt.Errorf("logout is answered with %d", t.header[2])
	}
	i.close()
	return err
}

// close drops the connection.
func (i *initiator) close() {
	i.conn.Close() // the reader's error
	i.reading.Wait()
}
