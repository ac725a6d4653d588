package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A qtest speaks QEMU's qtest protocol (docs/devel/testing/qtest.rst), by which
// the pins of an emulated chip can be driven and watched: a command a line, each
// answered by "OK ..." or "FAIL ...", and between the answers "IRQ raise N" and
// "IRQ lower N".
type qtest struct {
	conn net.Conn
	irq  func(line int, level bool)
	done chan struct{} // closed when the connection has ended

	writing sync.Mutex // held over a command, which the reader must not wait for

	mu      sync.Mutex
	waiting []chan string // for an answer, in the order of the commands; nil: nobody does
	err     error         // why it ended
}

// newQtest calls irq from one goroutine, which irq must not block.
func newQtest(conn net.Conn, irq func(line int, level bool)) *qtest {
	q := &qtest{conn: conn, irq: irq, done: make(chan struct{})}
	go q.read()
	return q
}

// close ends the connection and waits for the reader.
func (q *qtest) close() {
	_ = q.conn.Close() // it is given up: no error of it matters
	<-q.done
}

var errQtest = errors.New("not the qtest protocol")

func (q *qtest) read() {
	defer close(q.done)
	err := net.ErrClosed
	lines := bufio.NewScanner(q.conn)
	for lines.Scan() {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "IRQ "); ok {
			n, level, irqErr := parseIRQ(rest)
			if irqErr != nil {
				err = irqErr
				break
			}
			q.irq(n, level)
			continue
		}
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.mu.Unlock()
			err = fmt.Errorf("%w: %q answers nothing", errQtest, line)
			break
		}
		answer := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		if answer != nil {
			answer <- line
		}
	}
	_ = q.conn.Close() // the error above is the one that matters
	q.mu.Lock()
	q.err = err
	q.mu.Unlock()
}

// parseIRQ reads "raise 5" or "lower 5".
func parseIRQ(text string) (line int, level bool, err error) {
	verb, number, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(number, 10, 8)
	if err != nil || verb != "raise" && verb != "lower" {
		return 0, false, fmt.Errorf("%w: IRQ %q", errQtest, text)
	}
	return int(n), verb == "raise", nil
}

// send writes a command whose answer goes to answer; nil: to nobody.
func (q *qtest) send(command string, answer chan string) error {
	q.writing.Lock()
	defer q.writing.Unlock()
	q.mu.Lock()
	err := q.err
	q.waiting = append(q.waiting, answer)
	q.mu.Unlock()
	if err != nil {
		return err
	}
	if err := q.conn.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := q.conn.Write([]byte(command + "\n")); err != nil {
		_ = q.conn.Close() // half a command may have gone: the write error is the one that matters
		return err
	}
	return nil
}

// execute sends a command and returns its answer without the "OK".
func (q *qtest) execute(ctx context.Context, command string) (string, error) {
	answer := make(chan string, 1)
	if err := q.send(command, answer); err != nil {
		return "", fmt.Errorf("qtest %s: %w", command, err)
	}
	select {
	case line := <-answer:
		rest, ok := strings.CutPrefix(line, "OK")
		if !ok {
			return "", fmt.Errorf("qtest %s: %s", command, line)
		}
		return strings.TrimSpace(rest), nil
	case <-q.done:
		return "", fmt.Errorf("qtest %s: %w", command, net.ErrClosed)
	case <-ctx.Done():
		return "", fmt.Errorf("qtest %s: %w", command, ctx.Err())
	}
}
