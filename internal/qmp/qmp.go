// Package qmp is a client of the QEMU Machine Protocol, by which QEMU is told
// what to do and tells what happens to its machine.
package qmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxLine bounds one message from QEMU. The longest answers (schemas,
// memory listings) stay well below.
const maxLine = 1 << 20

// An Error is QEMU's answer to a command that it refused.
type Error struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *Error) Error() string { return "QEMU: " + e.Desc }

// A message is one message from QEMU: greeting, answer or event (QEMU
// Machine Protocol Specification, section 2).
type message struct {
	Greeting  jsontext.Value `json:"QMP"`
	Return    jsontext.Value `json:"return"`
	Error     *Error         `json:"error"`
	Event     string         `json:"event"`
	Data      jsontext.Value `json:"data"`
	Timestamp *struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
	ID *uint64 `json:"id"`
}

var errMessage = errors.New("not a QMP message")

// decode decodes one line. It takes only what is exactly one of greeting,
// answer, refusal and event, without members of the others. Members that it
// does not know are allowed, as section 5 demands of a client.
func decode(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("%w: %w", errMessage, err)
	}
	kinds := 0
	for _, is := range []bool{m.Greeting != nil, m.Return != nil, m.Error != nil, m.Event != ""} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return message{}, fmt.Errorf("%w: want one of greeting, answer, error and event", errMessage)
	case m.Event == "" && (m.Data != nil || m.Timestamp != nil):
		return message{}, fmt.Errorf("%w: only an event has data and timestamp", errMessage)
	case m.Return == nil && m.Error == nil && m.ID != nil:
		return message{}, fmt.Errorf("%w: only an answer has an id", errMessage)
	}
	return m, nil
}

// A Client speaks QMP over one connection.
type Client struct {
	conn  net.Conn
	event func(name string, data []byte)
	done  chan struct{} // closed when the connection has ended, after the last event

	writing sync.Mutex

	mu      sync.Mutex
	err     error // why it ended; valid once done is closed
	last    uint64
	waiting map[uint64]chan message
}

// New takes the greeting from conn, leaves the negotiation mode and from
// then on calls event, from one goroutine that event must not block. It
// closes conn if it fails.
func New(ctx context.Context, conn net.Conn, event func(name string, data []byte)) (*Client, error) {
	c := &Client{conn: conn, event: event, done: make(chan struct{}), waiting: make(map[uint64]chan message)}
	greeted := make(chan struct{})
	go c.read(greeted)
	select {
	case <-greeted:
	case <-c.done:
		return nil, fmt.Errorf("QMP greeting: %w", c.err)
	case <-ctx.Done():
		c.Close()
		return nil, fmt.Errorf("QMP greeting: %w", ctx.Err())
	}
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Done is closed when the connection has ended, after the last event.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection and waits for the reader.
func (c *Client) Close() {
	_ = c.conn.Close() // it is given up: no error of it matters
	<-c.done
}

func (c *Client) read(greeted chan struct{}) {
	err := c.readAll(greeted)
	_ = c.conn.Close() // the read error is the one that matters
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.done)
}

func (c *Client) readAll(greeted chan struct{}) error {
	lines := bufio.NewScanner(c.conn)
	lines.Buffer(make([]byte, 4096), maxLine)
	first := true
	for lines.Scan() {
		m, err := decode(lines.Bytes())
		if err != nil {
			return err
		}
		switch {
		case first != (m.Greeting != nil):
			return fmt.Errorf("%w: the greeting comes first, and once", errMessage)
		case first:
			first = false
			close(greeted)
		case m.Event != "":
			c.event(m.Event, m.Data)
		case m.ID == nil:
			return fmt.Errorf("%w: an answer without id: %v", errMessage, m.Error)
		default:
			c.mu.Lock()
			answer, known := c.waiting[*m.ID]
			delete(c.waiting, *m.ID)
			last := c.last
			c.mu.Unlock()
			if known {
				answer <- m
			} else if *m.ID == 0 || *m.ID > last {
				return fmt.Errorf("%w: answer to command %d, which was not sent", errMessage, *m.ID)
			} // else nobody waits for it any more
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

// Execute runs a command and decodes its answer into result, unless that is
// nil. A refusal is an *Error. When ctx ends first the command may still
// have its effect.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	answer := make(chan message, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	request := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitzero"`
		ID        uint64 `json:"id"`
	}{command, args, id}
	text, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	if err := c.write(ctx, append(text, '\n')); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("QMP %s: %w", command, m.Error)
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(m.Return, result); err != nil {
			return fmt.Errorf("QMP %s: %w", command, err)
		}
		return nil
	case <-c.done:
		return fmt.Errorf("QMP %s: %w", command, c.err)
	case <-ctx.Done():
		return fmt.Errorf("QMP %s: %w", command, ctx.Err())
	}
}

// write sends one whole line. One that ctx cut short leaves the stream
// unusable, so the connection ends then.
func (c *Client) write(ctx context.Context, line []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.conn.SetWriteDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = c.conn.SetWriteDeadline(time.Unix(1, 0)) // fails only on a closed connection, which ends the write too
	})
	defer stop()
	if n, err := c.conn.Write(line); err != nil {
		if n > 0 {
			_ = c.conn.Close() // the write error is the one that matters
		}
		return err
	}
	return nil
}
