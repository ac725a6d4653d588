package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// A streamEvent is one of an event stream (HTML standard, Server-sent events).
type streamEvent struct {
	id    *string // nil: none was sent
	retry time.Duration
	data  []byte
}

// eventLimit is how long one event may be.
const eventLimit = 16 << 20

// readEvents reads a stream until it ends, and gives each event to take. An event
// that the end cuts off is dropped, as the standard asks.
func readEvents(r io.Reader, take func(streamEvent) error) error {
	in := lineReader{in: bufio.NewReader(r)}
	var e streamEvent
	var some bool
	for first := true; ; first = false {
		line, err := in.next(eventLimit)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(line) == 0 {
			if some {
				e.data = bytes.TrimSuffix(e.data, []byte("\n"))
				if err := take(e); err != nil {
					return err
				}
			}
			e, some = streamEvent{}, false
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "id":
			if !bytes.ContainsRune(value, 0) {
				e.id, some = new(string(value)), true
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				e.retry, some = time.Duration(ms)*time.Millisecond, true
			}
		case "data":
			if len(e.data)+len(value) > eventLimit {
				return fmt.Errorf("an event is longer than %d bytes", eventLimit)
			}
			e.data, some = append(append(e.data, value...), '\n'), true
		}
	}
}

// A lineReader reads lines that end with CR LF, LF or CR.
type lineReader struct {
	in      *bufio.Reader
	afterCR bool // a LF that comes next belongs to the CR before
}

func (l *lineReader) next(limit int) ([]byte, error) {
	var line []byte
	for {
		b, err := l.in.ReadByte()
		if err != nil {
			return nil, err // a line without an end is none
		}
		joined := l.afterCR && b == '\n'
		l.afterCR = b == '\r'
		switch {
		case joined:
		case b == '\n' || b == '\r':
			return line, nil
		case len(line) >= limit:
			return nil, fmt.Errorf("a line of the stream is longer than %d bytes", limit)
		default:
			line = append(line, b)
		}
	}
}
