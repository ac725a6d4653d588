package nbd

import (
	"math/bits"
	"sync"
)

const (
	// journalBytes is what a client keeps between two flushes that shares no budget.
	journalBytes = 4 << 20
	// journalChanges bounds how long it takes to send all again, one at a time.
	journalChanges = 4096
)

// A Budget is the memory that clients have together for what they keep between two
// flushes. One client has half of it at most.
type Budget struct {
	limit int64
	pools [40]sync.Pool // of *[]byte, by the logarithm of their length

	mu   sync.Mutex
	used int64
}

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{limit: bytes} }

// take takes room for n bytes, if there is some.
func (b *Budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit {
		return false
	}
	b.used += n
	return true
}

// give gives room back.
func (b *Budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// class is that of buffers for n bytes, which have 1<<class.
func class(n int64) int { return bits.Len64(uint64(n - 1)) }

// buffer is one for n bytes, empty.
func (b *Budget) buffer(n int64) *[]byte {
	if p, ok := b.pools[class(n)].Get().(*[]byte); ok {
		return p
	}
	return new(make([]byte, 0, 1<<class(n)))
}

// release has a buffer used again; nil is none.
func (b *Budget) release(p *[]byte) {
	if p != nil {
		*p = (*p)[:0]
		b.pools[class(int64(cap(*p)))].Put(p)
	}
}

// A journal is the changes that the server has answered and that no flush came after
// since, in order.
type journal struct {
	budget  *Budget
	most    int64 // of bytes
	changes []change
	bytes   int64  // of the budget
	kept    int64  // of them for changes; the others are for those under way
	last    uint64 // number of the last change
}

// A change is a write or a clearing.
type change struct {
	number         uint64
	flags, command uint16
	offset, length int64
	data           *[]byte // nil: none
}

// cost is what a call's copy takes of the budget.
func cost(c *call) int64 {
	if c.command != cmdWrite {
		return 0
	}
	return 1 << class(c.length)
}

// reserve takes room for a change of that cost, if there is some.
func (j *journal) reserve(cost int64) bool {
	if len(j.changes) >= journalChanges || j.bytes+cost > j.most || !j.budget.take(cost) {
		return false
	}
	j.bytes += cost
	return true
}

// unreserve gives room back.
func (j *journal) unreserve(cost int64) {
	j.bytes -= cost
	j.budget.give(cost)
}

// copyOf copies a call's data. It needs no lock.
func (j *journal) copyOf(c *call) *[]byte {
	if c.command != cmdWrite {
		return nil
	}
	b := j.budget.buffer(c.length)
	for _, p := range c.bufs {
		*b = append(*b, p...)
	}
	return b
}

// add adds a change whose room was reserved.
func (j *journal) add(c *call, data *[]byte) {
	j.last++
	j.changes = append(j.changes, change{j.last, c.flags, c.command, c.offset, c.length, data})
	j.kept += cost(c)
}

// drop forgets the changes up to a number.
func (j *journal) drop(number uint64) {
	n := 0
	for n < len(j.changes) && j.changes[n].number <= number {
		if data := j.changes[n].data; data != nil {
			n := int64(cap(*data))
			j.kept -= n
			j.unreserve(n)
			j.budget.release(data)
		}
		n++
	}
	left := copy(j.changes, j.changes[n:])
	clear(j.changes[left:])
	j.changes = j.changes[:left]
}
