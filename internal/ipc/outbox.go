package ipc

import (
	"context"
	"errors"
	"sync"
)

// MaxOutbox is how many messages an Outbox keeps.
const MaxOutbox = 256

// An Outbox keeps messages until the other end has answered that it has them,
// over as many connections as that takes. A message may arrive twice, where a
// connection ends before the answer; it is never lost, unless there are more
// than MaxOutbox.
type Outbox[T any] struct {
	kind string
	// missing makes the message that stands for n which there was no room for.
	missing func(n int) T

	mu      sync.Mutex
	first   uint64 // counts up with each message that is taken out
	list    []T
	dropped int
	grew    chan struct{}
}

// NewOutbox makes one for requests of a kind. missing makes the message that
// stands for n which there was no room for.
func NewOutbox[T any](kind string, missing func(n int) T) *Outbox[T] {
	return &Outbox[T]{kind: kind, missing: missing, grew: make(chan struct{})}
}

// Put adds a message, at once.
func (o *Outbox[T]) Put(body T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.list) == MaxOutbox {
		o.dropped++
		return
	}
	o.list = append(o.list, body)
	close(o.grew)
	o.grew = make(chan struct{})
}

// Len says how many messages wait.
func (o *Outbox[T]) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.list)
}

// Deliver sends messages over c, one after another, until ctx or the connection
// ends. A message that the other end refuses is given up and told to refused.
func (o *Outbox[T]) Deliver(ctx context.Context, c *Conn, refused func(T, error)) error {
	for {
		body, at, err := o.next(ctx, c)
		if err != nil {
			return err
		}
		err = c.Call(ctx, o.kind, body, nil)
		if no, ok := errors.AsType[*RemoteError](err); ok {
			refused(body, no)
		} else if err != nil {
			return err
		}
		o.taken(at)
	}
}

// next waits for the first message and answers it and its number.
func (o *Outbox[T]) next(ctx context.Context, c *Conn) (body T, at uint64, err error) {
	for {
		o.mu.Lock()
		grew := o.grew
		if len(o.list) > 0 {
			body, at = o.list[0], o.first
			o.mu.Unlock()
			return body, at, nil
		}
		o.mu.Unlock()
		select {
		case <-grew:
		case <-ctx.Done():
			return body, 0, ctx.Err()
		case <-c.ended:
			return body, 0, ErrClosed
		}
	}
}

// taken removes the message, unless another connection has delivered it too.
func (o *Outbox[T]) taken(at uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first != at {
		return
	}
	o.first++
	o.list = o.list[1:]
	if o.dropped > 0 {
		o.list = append(o.list, o.missing(o.dropped))
		o.dropped = 0
	}
}
