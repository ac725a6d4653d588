package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
)

// maxTypeAhead is how much input waits for a command to read it; then the
// client waits.
const maxTypeAhead = 32 << 10

// ctrlC and ctrlD are what a terminal's keys send.
const ctrlC, ctrlD = 3, 4

var errInterrupted = errors.New("interrupted")

// An input holds what the client sent until somebody reads it, so that reading
// can end with a context, and Ctrl-C is seen while a command runs.
type input struct {
	mu      sync.Mutex
	buf     []byte
	err     error         // comes after buf
	changed chan struct{} // closed at each change
	// interrupt, where set, is called for a Ctrl-C instead of keeping it.
	interrupt func()
}

func newInput() *input { return &input{changed: make(chan struct{})} }

// pump reads r until it or ctx ends.
func (in *input) pump(ctx context.Context, r io.Reader, touch func()) {
	p := make([]byte, 4096)
	for {
		n, err := r.Read(p)
		touch()
		if !in.put(ctx, p[:n], err) || err != nil {
			return
		}
	}
}

// put waits for room; it answers false when ctx ended first.
func (in *input) put(ctx context.Context, p []byte, err error) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for {
		if i := bytes.LastIndexByte(p, ctrlC); i >= 0 && in.interrupt != nil {
			// As a tty does, drop what was typed before it.
			in.buf, p = nil, p[i+1:]
			in.interrupt()
		}
		if len(in.buf)+len(p) <= maxTypeAhead {
			break
		}
		wait := in.changed
		in.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
		in.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
	in.buf = append(in.buf, p...)
	in.err = err
	in.wake()
	return true
}

func (in *input) wake() {
	close(in.changed)
	in.changed = make(chan struct{})
}

// onInterrupt sets what Ctrl-C does and returns what it did; nil: it is input
// like any other. A Ctrl-C that already waits in the input acts at once.
func (in *input) onInterrupt(f func()) (old func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	old, in.interrupt = in.interrupt, f
	if i := bytes.LastIndexByte(in.buf, ctrlC); i >= 0 && f != nil {
		in.buf = in.buf[i+1:]
		f()
	}
	in.wake() // put may hold a Ctrl-C back for want of room
	return old
}

// read copies what has come into p, waiting for some. It stops after the first
// byte that is one of stop. It returns ctx's error when ctx ends first.
func (in *input) read(ctx context.Context, p []byte, stop string) (int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		in.mu.Lock()
		if len(in.buf) > 0 {
			n := copy(p, in.buf)
			if i := bytes.IndexAny(p[:n], stop); i >= 0 {
				n = i + 1
			}
			in.buf = in.buf[n:]
			in.wake()
			in.mu.Unlock()
			return n, nil
		}
		err, wait := in.err, in.changed
		in.mu.Unlock()
		if err != nil {
			return 0, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
}

// unread puts back what was read and is for the next reader.
func (in *input) unread(p []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.buf = append(bytes.Clone(p), in.buf...)
	in.wake()
}

// maxLine is the longest line of a script.
const maxLine = 64 << 10

var errLineTooLong = errors.New("the input has a line of more than 64 KiB")

// line reads one line, without its end. The last one may lack the end; after
// it comes io.EOF.
func (in *input) line(ctx context.Context) (string, error) {
	var line []byte
	p := make([]byte, 4096)
	for {
		n, err := in.read(ctx, p, "\n")
		line = append(line, p[:n]...)
		if len(line) > maxLine {
			return "", errLineTooLong
		}
		if bytes.HasSuffix(line, []byte("\n")) || errors.Is(err, io.EOF) && len(line) > 0 {
			return string(bytes.TrimRight(line, "\r\n")), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// A keyboard is what the Terminal reads: the input, a line at most at a time,
// so that what was typed ahead stays for the next reader. The Terminal takes
// Ctrl-C for the end of the input and keeps the half-typed line; here it is
// turned into keys that clear the line and end it.
type keyboard struct {
	in  *input
	ctx context.Context
	// password also makes Ctrl-D a Ctrl-C, as the Terminal's own end would
	// leave the half-typed password in its line.
	password    bool
	interrupted bool
	skipLF      bool
	pending     []byte
}

// clearLine ends a half-read escape sequence (the letter), goes to the line's
// end (Ctrl-E), erases the line (Ctrl-U) and ends it.
const clearLine = "x\x05\x15\r"

func (k *keyboard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		// The Terminal's buffer is full of an escape sequence without an
		// end; it would ask for ever.
		return 0, errors.New("an escape sequence without an end was typed")
	}
	for {
		if len(k.pending) > 0 {
			n := copy(p, k.pending)
			k.pending = k.pending[n:]
			return n, nil
		}
		n, err := k.in.read(k.ctx, p, "\r\n\x03\x04")
		if err != nil {
			return 0, err
		}
		// Only the last byte can be one of those four.
		last := p[n-1]
		if last == '\n' && n == 1 && k.skipLF {
			k.skipLF = false
			continue // the line ended with CR LF
		}
		k.skipLF = last == '\r'
		if last == ctrlC || last == ctrlD && k.password {
			k.interrupted = true
			k.pending = []byte(clearLine)
			n--
		}
		if n > 0 {
			return n, nil
		}
	}
}
