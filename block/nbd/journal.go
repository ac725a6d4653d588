package nbd

import (
	"math/bits"
	"sync"
)

// A journal is the changes that the server has answered and that no flush came after
// since, in order.
type journal struct {
	changes []change
	bytes   int64
	last    uint64 // number of the last change
	pools   [40]sync.Pool
}

// A change is a write or a clearing.
type change struct {
	number         uint64
	flags, command uint16
	offset, length int64
	data           *[]byte // nil: none
}

// copyOf copies a call's data into a buffer that is used again. It needs no lock.
func (j *journal) copyOf(c *call) *[]byte {
	if c.command != cmdWrite {
		return nil
	}
	class := bits.Len64(uint64(c.length - 1))
	b, ok := j.pools[class].Get().(*[]byte)
	if !ok {
		b = new(make([]byte, 1<<class))
	}
	*b = (*b)[:0]
	for _, p := range c.bufs {
		*b = append(*b, p...)
	}
	return b
}

func (j *journal) release(b *[]byte) {
	if b != nil {
		j.pools[bits.Len64(uint64(cap(*b)-1))].Put(b)
	}
}

func (j *journal) add(c *call, data *[]byte) {
	j.last++
	j.changes = append(j.changes, change{j.last, c.flags, c.command, c.offset, c.length, data})
	if data != nil {
		j.bytes += int64(cap(*data))
	}
}

// drop forgets the changes up to a number.
func (j *journal) drop(number uint64) {
	n := 0
	for n < len(j.changes) && j.changes[n].number <= number {
		if data := j.changes[n].data; data != nil {
			j.bytes -= int64(cap(*data))
			j.release(data)
		}
		n++
	}
	left := copy(j.changes, j.changes[n:])
	clear(j.changes[left:])
	j.changes = j.changes[:left]
}

// full tells whether a flush is due.
func (j *journal) full() bool {
	return j.bytes >= journalBytes || len(j.changes) >= journalChanges
}

// Limits of what a client keeps between two flushes: all disks on NBD servers share
// the little memory of a board. The second bounds how long it
// takes to send all again, one at a time.
const (
	journalBytes   = 4 << 20
	journalChanges = 4096
)
