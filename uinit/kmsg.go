package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

// The kernel's log is the board's: its lines carry the kernel's time, are shown
// where the kernel has a console, and are lost with the power. A record has at
// most kmsgLimit bytes (PRINTKRB_RECORD_MAX less what the kernel adds).
const (
	kmsgPath  = "/dev/kmsg"
	kmsgLimit = 960
	// kmsgRate allows all lines: by default the kernel drops those of a
	// process that writes more than two a second.
	kmsgRate = "/proc/sys/kernel/printk_devkmsg"
)

// newLog writes to the kernel's log, where there is one, else to standard error.
func newLog(process string) *slog.Logger {
	var w io.Writer = os.Stderr
	if f, err := os.OpenFile(kmsgPath, os.O_WRONLY, 0); err == nil {
		w = f // open for the life of the process
	}
	return slog.New(newKmsg(w, process))
}

// A kmsg is a slog.Handler whose lines are records of the kernel's log.
type kmsg struct {
	text   slog.Handler // writes the attributes to line
	prefix string
	out    *kmsgOut
}

type kmsgOut struct {
	mu   sync.Mutex
	w    io.Writer
	line bytes.Buffer
}

func newKmsg(w io.Writer, process string) *kmsg {
	out := &kmsgOut{w: w}
	drop := func(groups []string, a slog.Attr) slog.Attr {
		// The kernel adds the time; level and message are ours.
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}
	prefix := "nitrino: "
	if process != "" {
		prefix += process + ": "
	}
	return &kmsg{slog.NewTextHandler(&out.line, &slog.HandlerOptions{ReplaceAttr: drop}), prefix, out}
}

// Enabled leaves out what only helps to find faults in the software.
func (k *kmsg) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle writes one record.
func (k *kmsg) Handle(ctx context.Context, r slog.Record) error {
	k.out.mu.Lock()
	defer k.out.mu.Unlock()
	line := &k.out.line
	line.Reset()
	// Facility 3 is that of system daemons; 0 is the kernel's own.
	fmt.Fprintf(line, "<%d>%s%s ", 3<<3|priority(r.Level), k.prefix, r.Message)
	if err := k.text.Handle(ctx, r); err != nil {
		return err
	}
	b := bytes.TrimRight(line.Bytes(), " \n")
	if len(b) > kmsgLimit {
		b = b[:kmsgLimit]
	}
	_, err := k.out.w.Write(append(b, '\n'))
	return err
}

// priority is syslog's (RFC 5424 section 6.2.1).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	}
	return 6
}

// WithAttrs returns a handler that adds the attributes.
func (k *kmsg) WithAttrs(list []slog.Attr) slog.Handler {
	return &kmsg{k.text.WithAttrs(list), k.prefix, k.out}
}

// WithGroup returns a handler that puts further attributes into a group.
func (k *kmsg) WithGroup(name string) slog.Handler {
	return &kmsg{k.text.WithGroup(name), k.prefix, k.out}
}
