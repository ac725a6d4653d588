package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// A region is a part of the guest's memory.
type region struct {
	guest uint64 // where the guest has it
	user  uint64 // where the front-end has it
	bytes []byte
}

type memory []region

var errRing = errors.New("the guest's ring makes no sense")

// guest returns n bytes at an address of the guest.
func (m memory) guest(address, n uint64) ([]byte, error) {
	return m.find(address, n, func(r region) uint64 { return r.guest })
}

// user returns n bytes at an address of the front-end.
func (m memory) user(address, n uint64) ([]byte, error) {
	return m.find(address, n, func(r region) uint64 { return r.user })
}

func (m memory) find(address, n uint64, base func(region) uint64) ([]byte, error) {
	for _, r := range m {
		size := uint64(len(r.bytes))
		if at := address - base(r); address >= base(r) && at <= size && n <= size-at {
			return r.bytes[at : at+n : at+n], nil
		}
	}
	return nil, fmt.Errorf("%w: no %d bytes at %#x", errRing, n, address)
}

// A queue is a split virtqueue (Virtual I/O Device specification 1.2, section
// 2.7). Its three parts are at addresses of the front-end.
type queue struct {
	size              uint16
	desc, avail, used uint64
	last              uint16 // the index in the available ring that comes next
}

// Sizes and flags of section 2.7.
const (
	descSize = 16 // le64 address, le32 length, le16 flags, le16 next
	usedSize = 8  // le32 index, le32 length

	descNext     = 1 << 0
	descWrite    = 1 << 1
	descIndirect = 1 << 2

	maxQueue = 1024
	// maxRequest bounds what one request sends and takes.
	maxRequest = 64 << 10
)

// run carries out the requests that are in the ring at the call, and says how
// many there were. do gets what the driver sends and room for what it takes, and
// returns how much of that it has filled.
func (q *queue) run(m memory, do func(out, in []byte) int) (int, error) {
	n := uint64(q.size)
	if n == 0 || n > maxQueue {
		return 0, fmt.Errorf("%w: it has %d entries", errRing, n)
	}
	desc, err := m.user(q.desc, descSize*n)
	if err != nil {
		return 0, err
	}
	avail, err := m.user(q.avail, 4+2*n)
	if err != nil {
		return 0, err
	}
	used, err := m.user(q.used, 4+usedSize*n)
	if err != nil {
		return 0, err
	}
	from, err := index(avail)
	if err != nil {
		return 0, err
	}
	to, err := index(used)
	if err != nil {
		return 0, err
	}
	end, done := load(from), load(to)
	if end-q.last > q.size {
		return 0, fmt.Errorf("%w: %d requests in %d entries", errRing, end-q.last, n)
	}
	count := 0
	for ; q.last != end; q.last++ {
		head := binary.LittleEndian.Uint16(avail[4+2*(q.last%q.size):])
		written, err := request(m, desc, head, do)
		if err != nil {
			return count, err
		}
		at := used[4+usedSize*uint64(done%q.size):]
		binary.LittleEndian.PutUint32(at, uint32(head))
		binary.LittleEndian.PutUint32(at[4:], uint32(written))
		done++
		store(to, done) // after what it tells of
		count++
	}
	return count, nil
}

// request carries out the one that begins at a descriptor.
func request(m memory, table []byte, head uint16, do func(out, in []byte) int) (int, error) {
	out, places, err := chain(m, table, head)
	if err != nil {
		return 0, err
	}
	room := 0
	for _, p := range places {
		room += len(p)
	}
	in := make([]byte, room)
	written := do(out, in)
	rest := in[:written]
	for _, p := range places {
		rest = rest[copy(p, rest):]
	}
	return written, nil
}

// chain follows the descriptors of one request. It returns a copy of what the
// driver sends, and the places for what it takes.
func chain(m memory, table []byte, head uint16) (out []byte, in [][]byte, err error) {
	i, indirect, total := head, false, uint64(0)
	for range maxQueue { // a longer one goes round in circles
		if descSize*int(i)+descSize > len(table) {
			return nil, nil, fmt.Errorf("%w: there is no descriptor %d", errRing, i)
		}
		d := table[descSize*int(i):]
		address, length := binary.LittleEndian.Uint64(d), uint64(binary.LittleEndian.Uint32(d[8:]))
		flags, next := binary.LittleEndian.Uint16(d[12:]), binary.LittleEndian.Uint16(d[14:])
		if flags&descIndirect != 0 {
			// Section 2.7.5.3.1: a table within a table is not allowed.
			if indirect || flags&descNext != 0 || length > descSize*maxQueue {
				return nil, nil, fmt.Errorf("%w: an indirect descriptor", errRing)
			}
			if table, err = m.guest(address, length); err != nil {
				return nil, nil, err
			}
			i, indirect = 0, true
			continue
		}
		if total += length; total > maxRequest {
			return nil, nil, fmt.Errorf("%w: a request of more than %d bytes", errRing, maxRequest)
		}
		b, err := m.guest(address, length)
		if err != nil {
			return nil, nil, err
		}
		if flags&descWrite != 0 {
			in = append(in, b)
		} else {
			out = append(out, b...)
		}
		if flags&descNext == 0 {
			return out, in, nil
		}
		i = next
	}
	return nil, nil, fmt.Errorf("%w: a request without an end", errRing)
}

// index returns the word at the begin of a ring, le16 flags and le16 index, which
// orders what is before it in memory. It has to be aligned for that, as that of
// any driver of Linux is.
func index(ring []byte) (*uint32, error) {
	p := unsafe.Pointer(&ring[0])
	if uintptr(p)%4 != 0 {
		return nil, fmt.Errorf("%w: it is not aligned", errRing)
	}
	return (*uint32)(p), nil
}

func load(word *uint32) uint16 {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], atomic.LoadUint32(word))
	return binary.LittleEndian.Uint16(b[2:])
}

// store sets the index; no flag is set.
func store(word *uint32, v uint16) {
	var b [4]byte
	binary.LittleEndian.PutUint16(b[2:], v)
	atomic.StoreUint32(word, binary.NativeEndian.Uint32(b[:]))
}
