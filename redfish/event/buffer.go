package event

import (
	"slices"
	"time"
)

// How much a buffer keeps.
const (
	maxItems = 2048
	maxBytes = 2 << 20
)

// An item is one event or metric report, as all subscribers get it.
type item struct {
	at Position
	// added is when the service got it.
	added time.Time
	// registry and key are parts of the MessageId.
	registry, key string
	severity      string
	eventType     string
	// origin is the URI of OriginOfCondition, and resourceType the name of its
	// schema; empty: it has none.
	origin, resourceType string
	// report is the URI of the definition, where this is a metric report.
	report string
	// body is the JSON object, without what differs by subscriber.
	body []byte
}

// A buffer has the newest items in their order. Everybody who reads it has only
// a position in it, so that memory is the same however many read.
type buffer struct {
	list []*item
	size int // of all bodies
	// head is the newest position, and lost that of the newest item that is not
	// kept any more.
	head, lost Position
}

// begin empties the buffer: what comes next is after event id of the log.
func (b *buffer) begin(id uint64) {
	*b = buffer{head: Position{Log: id}, lost: Position{Log: id}}
}

// add appends an item, whose position is to be after head.
func (b *buffer) add(i *item) {
	b.head, i.added = i.at, time.Now()
	b.list = append(b.list, i)
	b.size += len(i.body)
	for len(b.list) > maxItems || b.size > maxBytes && len(b.list) > 1 {
		first := b.list[0]
		b.lost, b.size = first.at, b.size-len(first.body)
		b.list[0] = nil // the array stays for a while
		b.list = b.list[1:]
	}
}

// since finds what is after a position, at most limit items. lost: some that
// were after it are gone. The slice is of the buffer: it is only to be read, and
// only until the next add.
func (b *buffer) since(p Position, limit int) (items []*item, lost bool) {
	i, found := slices.BinarySearchFunc(b.list, p, func(i *item, p Position) int { return i.at.compare(p) })
	if found {
		i++
	}
	items = b.list[i:]
	return items[:min(len(items), limit)], p.compare(b.lost) < 0
}
