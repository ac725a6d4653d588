package gpio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows is version 2 of the kernel's GPIO character device
// (include/uapi/linux/gpio.h), as far as single lines need it.

const (
	getChipInfo = 0x8044b401 // GPIO_GET_CHIPINFO_IOCTL

	flagActiveLow    = 1 << 1
	flagInput        = 1 << 2
	flagOutput       = 1 << 3
	flagEdgeRising   = 1 << 4
	flagEdgeFalling  = 1 << 5
	flagBiasPullUp   = 1 << 8
	flagBiasPullDown = 1 << 9

	maxName  = 32
	maxLines = 64
	maxAttrs = 10
)

type chipInfo struct {
	name, label [maxName]byte
	lines       uint32
}

type lineAttribute struct {
	id, padding uint32
	value       uint64
}

type lineConfig struct {
	flags    uint64
	numAttrs uint32
	padding  [5]uint32
	attrs    [maxAttrs]struct {
		attr lineAttribute
		mask uint64
	}
}

type lineRequest struct {
	offsets         [maxLines]uint32
	consumer        [maxName]byte
	config          lineConfig
	numLines        uint32
	eventBufferSize uint32
	padding         [5]uint32
	fd              int32
}

type lineInfo struct {
	name, consumer   [maxName]byte
	offset, numAttrs uint32
	flags            uint64
	attrs            [maxAttrs]lineAttribute
	padding          [4]uint32
}

type lineValues struct {
	bits, mask uint64
}

// A line event has eventSize bytes, its id stands at eventID.
const (
	eventSize = 48
	eventID   = 8
)

// eventRoom is how many events the kernel keeps for a reader that is late;
// beyond them it drops the oldest.
const eventRoom = 64

// An event handle and a chip as Input, Output and Chip use them: device and
// request below, or a test's own.
type (
	device interface {
		lines() int
		request(line int, flags uint64) (handle, error)
		user(line int) string // who has the line; "" for nobody
		Close() error
	}
	handle interface {
		value() (bool, error)
		setValue(active bool) error
		// events waits for edges and returns the level after each, oldest
		// first. It returns fs.ErrClosed once the handle is closed.
		events() ([]bool, error)
		Close() error
	}
)

// A chipFile is an open /dev/gpiochipN.
type chipFile struct {
	file *os.File
	info chipInfo
}

// openFile opens one character device and asks what it is.
func openFile(path string) (*chipFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	c := &chipFile{file: f}
	if err := ioctl(f, getChipInfo, unsafe.Pointer(&c.info)); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: asking for the chip: %w", path, err), f.Close())
	}
	return c, nil
}

// find opens the chip with the label among those in the folder dev. Numbers of
// chips depend on the order of probing and say nothing. It answers
// fs.ErrNotExist where no chip has the label.
func find(dev, label string) (*chipFile, error) {
	paths, err := filepath.Glob(filepath.Join(dev, "gpiochip*"))
	if err != nil {
		return nil, err
	}
	var errs []error
	var seen []string
	for _, path := range paths {
		c, err := openFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		name := text(c.info.label[:])
		if name == label {
			return c, nil
		}
		seen = append(seen, name)
		errs = append(errs, c.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err // it may be the one that cannot be opened
	}
	return nil, fmt.Errorf("%w: labels here: %q", fs.ErrNotExist, seen)
}

func (c *chipFile) lines() int { return int(c.info.lines) }

func (c *chipFile) Close() error { return c.file.Close() }

func (c *chipFile) user(line int) string {
	info := lineInfo{offset: uint32(line)}
	if err := ioctl(c.file, unix.GPIO_V2_GET_LINEINFO_IOCTL, unsafe.Pointer(&info)); err != nil {
		return "" // it only makes an error's text better
	}
	return text(info.consumer[:])
}

// request takes the line. An output is inactive from the first moment: without
// an attribute that says otherwise the kernel sets the value 0, which flags
// make logical before the direction changes.
func (c *chipFile) request(line int, flags uint64) (handle, error) {
	r := lineRequest{numLines: 1, config: lineConfig{flags: flags}}
	r.offsets[0] = uint32(line)
	copy(r.consumer[:maxName-1], consumer)
	if flags&flagInput != 0 {
		r.eventBufferSize = eventRoom
	}
	if err := ioctl(c.file, unix.GPIO_V2_GET_LINE_IOCTL, unsafe.Pointer(&r)); err != nil {
		return nil, err
	}
	// A file that does not block is one that Close can wake a Read of.
	if err := unix.SetNonblock(int(r.fd), true); err != nil {
		return nil, errors.Join(err, unix.Close(int(r.fd)))
	}
	name := fmt.Sprintf("%s:%d", c.file.Name(), line)
	return &lineFile{file: os.NewFile(uintptr(r.fd), name), buf: make([]byte, eventSize*eventRoom)}, nil
}

// A lineFile is what the kernel gives for a requested line.
type lineFile struct {
	file *os.File
	buf  []byte // of the one who calls events
}

func (l *lineFile) value() (bool, error) {
	v := lineValues{mask: 1}
	err := ioctl(l.file, unix.GPIO_V2_LINE_GET_VALUES_IOCTL, unsafe.Pointer(&v))
	return v.bits&1 != 0, err
}

func (l *lineFile) setValue(active bool) error {
	v := lineValues{mask: 1}
	if active {
		v.bits = 1
	}
	return ioctl(l.file, unix.GPIO_V2_LINE_SET_VALUES_IOCTL, unsafe.Pointer(&v))
}

func (l *lineFile) events() ([]bool, error) {
	n, err := l.file.Read(l.buf)
	if err != nil {
		return nil, err
	}
	return levels(l.buf[:n])
}

func (l *lineFile) Close() error { return l.file.Close() }

// levels decodes line events. Where both edges are asked for, an event says
// which level the kernel found after the edge, and so do two in a row that say
// the same. Levels are logical: active low is accounted for.
func levels(b []byte) ([]bool, error) {
	if len(b) == 0 || len(b)%eventSize != 0 {
		return nil, fmt.Errorf("the kernel gave %d bytes of events, not a multiple of %d", len(b), eventSize)
	}
	var list []bool
	for ; len(b) > 0; b = b[eventSize:] {
		switch id := binary.NativeEndian.Uint32(b[eventID:]); id {
		case unix.GPIO_V2_LINE_EVENT_RISING_EDGE:
			list = append(list, true)
		case unix.GPIO_V2_LINE_EVENT_FALLING_EDGE:
			list = append(list, false)
		default:
			return nil, fmt.Errorf("the kernel gave an event of unknown kind %d", id)
		}
	}
	return list, nil
}

// text is a name that the kernel padded with zeros.
func text(b []byte) string {
	name, _, _ := bytes.Cut(b, []byte{0})
	return string(name)
}

// ioctl is safe beside Close: it then answers fs.ErrClosed.
func ioctl(f *os.File, number uintptr, arg unsafe.Pointer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed unix.Errno
	if err := raw.Control(func(fd uintptr) {
		for {
			_, _, failed = unix.Syscall(unix.SYS_IOCTL, fd, number, uintptr(arg))
			if failed != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return fs.ErrClosed // which is all that Control itself reports
	}
	if failed != 0 {
		return failed
	}
	return nil
}
