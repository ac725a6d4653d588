// Package vhost is a back-end of QEMU's vhost-user devices that have one queue:
// QEMU hands over the guest's memory and two eventfds, and the back-end serves
// the queue by itself (QEMU's docs/interop/vhost-user.rst).
package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
)

// A Device is what the queue leads to.
type Device struct {
	// Features are the device's own feature bits.
	Features uint64
	// Request carries out one request: out is what the driver sends, in what it
	// takes. It returns how much of in it has filled.
	Request func(out, in []byte) int
}

// The requests of the front-end that matter here; what others there are needs no
// answer with the features that this has.
const (
	getFeatures         = 1
	setMemTable         = 5
	setVringNum         = 8
	setVringAddr        = 9
	setVringBase        = 10
	getVringBase        = 11
	setVringKick        = 12
	setVringCall        = 13
	getProtocolFeatures = 15
	setVringEnable      = 18
)

const (
	version1  = 1 << 32 // VIRTIO_F_VERSION_1
	protocol  = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES: QEMU wants it, if none of them
	isReply   = 1<<2 | 1
	noFD      = 1 << 8 // in the payload of a kick or a call
	maxBody   = 4096
	maxFDs    = 8
	maxRegion = 1 << 40
)

var errMessage = errors.New("not the vhost-user protocol")

// Serve plays a device for the front-end at the other end of conn, until that
// ends.
func Serve(conn *net.UnixConn, d Device, log *slog.Logger) error {
	b := &backend{device: d, log: log}
	err := b.serve(conn)
	b.stop()
	return errors.Join(err, b.forget())
}

type backend struct {
	device Device
	log    *slog.Logger

	kick *os.File       // nil while the queue is stopped
	wait sync.WaitGroup // for the goroutine that reads it

	mu      sync.Mutex // held while requests are carried out
	memory  memory
	maps    [][]byte
	queue   queue
	enabled bool // by the front-end
	started bool // there is a kick
	call    *os.File
}

// serve answers the front-end's messages.
func (b *backend) serve(conn *net.UnixConn) error {
	header, control := make([]byte, 12), make([]byte, syscall.CmsgSpace(4*maxFDs))
	for {
		n, controls, _, _, err := conn.ReadMsgUnix(header, control)
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return nil // the front-end has ended
		}
		files, fdErr := received(control[:controls])
		if err == nil {
			_, err = io.ReadFull(conn, header[n:])
		}
		request, size := binary.LittleEndian.Uint32(header), binary.LittleEndian.Uint32(header[8:])
		if size > maxBody {
			err = errors.Join(err, fmt.Errorf("%w: a message of %d bytes", errMessage, size))
		}
		if err = errors.Join(err, fdErr); err != nil {
			return errors.Join(err, closeAll(files))
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(conn, body); err != nil {
			return errors.Join(err, closeAll(files))
		}
		reply, err := b.message(request, body, files)
		if err != nil {
			return err
		}
		if reply == nil {
			continue
		}
		answer := binary.LittleEndian.AppendUint32(nil, request)
		answer = binary.LittleEndian.AppendUint32(answer, isReply)
		answer = binary.LittleEndian.AppendUint32(answer, uint32(len(reply)))
		if _, err := conn.Write(append(answer, reply...)); err != nil {
			return err
		}
	}
}

// received are the files that came with a message.
func received(control []byte) (files []*os.File, err error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			// QEMU uses these too, and hangs with an eventfd that blocks; and
			// the end of a Read that blocks could not be brought about.
			if err := syscall.SetNonblock(fd, true); err != nil {
				return files, os.NewSyscallError("fcntl", err)
			}
			files = append(files, os.NewFile(uintptr(fd), "vhost-user"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// message acts on one message; its files are given away.
func (b *backend) message(request uint32, body []byte, files []*os.File) (reply []byte, err error) {
	kept := 0
	defer func() { err = errors.Join(err, closeAll(files[kept:])) }()
	// Payloads begin with these, as far as they have them.
	var words [5]uint64
	for i := range words {
		if len(body) >= 8*i+8 {
			words[i] = binary.LittleEndian.Uint64(body[8*i:])
		}
	}
	first, second := uint32(words[0]), uint32(words[0]>>32)
	switch request {
	case setVringNum, setVringAddr, setVringBase, getVringBase, setVringEnable:
		if len(body) < 8 || first != 0 || request == setVringAddr && len(body) < 40 {
			return nil, fmt.Errorf("%w: request %d for queue %d", errMessage, request, first)
		}
	case setVringKick, setVringCall:
		if len(body) < 8 || words[0]&0xff != 0 {
			return nil, fmt.Errorf("%w: request %d for queue %d", errMessage, request, words[0]&0xff)
		}
	}
	switch request {
	case getFeatures:
		return binary.LittleEndian.AppendUint64(nil, version1|protocol|b.device.Features), nil
	case getProtocolFeatures:
		return make([]byte, 8), nil
	case setMemTable:
		return nil, b.remember(body, files)
	case setVringNum:
		if second == 0 || second > maxQueue {
			return nil, fmt.Errorf("%w: a queue of %d entries", errMessage, second)
		}
		b.change(func(q *queue) { q.size = uint16(second) })
	case setVringAddr:
		b.change(func(q *queue) { q.desc, q.used, q.avail = words[1], words[2], words[3] })
	case setVringBase:
		b.change(func(q *queue) { q.last = uint16(second) })
	case getVringBase:
		b.stop()
		return binary.LittleEndian.AppendUint64(nil, uint64(b.queue.last)<<32), nil
	case setVringKick:
		b.stop()
		if words[0]&noFD != 0 || len(files) == 0 {
			return nil, fmt.Errorf("%w: a queue to be polled", errMessage)
		}
		b.kick, kept = files[0], 1
		b.start(true)
		b.wait.Go(func() { b.run(files[0]) })
	case setVringEnable:
		b.mu.Lock()
		b.enabled = second != 0
		b.mu.Unlock()
		return nil, b.serveQueue() // a kick may have come before
	case setVringCall:
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.call != nil {
			err = b.call.Close()
			b.call = nil
		}
		if words[0]&noFD == 0 && len(files) > 0 {
			b.call, kept = files[0], 1
		}
	}
	return nil, err
}

// change changes the queue between two requests.
func (b *backend) change(do func(*queue)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do(&b.queue)
}

// remember maps the guest's memory.
func (b *backend) remember(body []byte, files []*os.File) error {
	const size = 32 // le64 guest address, size, user address, offset in the file
	if len(body) < 8 {
		return fmt.Errorf("%w: a table of memory of %d bytes", errMessage, len(body))
	}
	n := int(binary.LittleEndian.Uint32(body))
	if n > maxFDs || n != len(files) || len(body) < 8+size*n {
		return fmt.Errorf("%w: %d regions of memory in %d bytes, with %d files", errMessage, n, len(body), len(files))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.unmap(); err != nil {
		return err
	}
	for i, f := range files {
		e := body[8+size*i:]
		guest, length := binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint64(e[8:])
		user, offset := binary.LittleEndian.Uint64(e[16:]), binary.LittleEndian.Uint64(e[24:])
		if length == 0 || length > maxRegion || offset > maxRegion {
			return fmt.Errorf("%w: a region of %d bytes at %d", errMessage, length, offset)
		}
		// A page beyond the end of the file would be the end of this program.
		if info, err := f.Stat(); err != nil || info.Size() < int64(offset+length) {
			return errors.Join(err, fmt.Errorf("%w: a region of %d bytes at %d beyond its file", errMessage, length, offset))
		}
		m, err := syscall.Mmap(int(f.Fd()), 0, int(offset+length), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			return os.NewSyscallError("mmap", err)
		}
		b.maps = append(b.maps, m)
		b.memory = append(b.memory, region{guest, user, m[offset:]})
	}
	return nil
}

// unmap is called with mu held.
func (b *backend) unmap() error {
	var errs []error
	for _, m := range b.maps {
		errs = append(errs, os.NewSyscallError("munmap", syscall.Munmap(m)))
	}
	b.maps, b.memory = nil, nil
	return errors.Join(errs...)
}

// forget gives all back.
func (b *backend) forget() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.unmap()
	if b.call != nil {
		err = errors.Join(err, b.call.Close())
	}
	return err
}

// start says whether the queue's requests are carried out.
func (b *backend) start(yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started = yes
}

// stop ends the queue's goroutine.
func (b *backend) stop() {
	b.start(false)
	if b.kick != nil {
		if err := b.kick.Close(); err != nil {
			b.log.Error("vhost-user: closing a kick", "error", err)
		}
		b.kick = nil
	}
	b.wait.Wait()
}

// run carries out requests at each kick until the file is closed.
func (b *backend) run(kick *os.File) {
	count := make([]byte, 8)
	for {
		if _, err := kick.Read(count); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				b.log.Error("vhost-user: waiting for a kick", "error", err)
			}
			return
		}
		if err := b.serveQueue(); err != nil {
			b.log.Error("vhost-user: the queue is stopped", "error", err)
			return
		}
	}
}

// serveQueue carries out what is in the queue, and tells the guest.
func (b *backend) serveQueue() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.enabled || !b.started {
		return nil
	}
	n, err := b.queue.run(b.memory, b.device.Request)
	if err != nil || n == 0 || b.call == nil {
		return err
	}
	_, err = b.call.Write(binary.NativeEndian.AppendUint64(nil, 1))
	return err
}
