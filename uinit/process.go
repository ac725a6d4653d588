package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nitrino/nitrino/internal/ipc"
)

// A role is what a child process does, and how it is started.
type role struct {
	name string
	// command is the program and its arguments.
	command []string
	env     []string
	// memory is the Go heap's soft limit (GOMEMLIMIT), in bytes.
	memory int64
	// oom is the child's oom_score_adj: whom the kernel kills last.
	oom int
}

// A process is one run of a role.
type process struct {
	role     *role
	instance int // counts from 1 with each start
	cmd      *exec.Cmd
	conn     *ipc.Conn
	began    time.Time
	said     *lastWords
	cancel   context.CancelFunc

	// Only the parent's loop uses these.
	beat   time.Time // the latest
	ready  bool
	killed time.Time // zero: it was not
	why    string    // it was killed
}

// A report is what the parent's loop hears of a process: a message, or that the
// process has ended.
type report struct {
	from    *process
	message ipc.Message
	answer  chan error // where the message wants one
	ended   bool
	err     error // of the end
}

// startProcess starts a role; the reports go to the channel until done ends.
// tasks counts the goroutines.
func startProcess(r *role, instance int, log *slog.Logger, reports chan<- report, done <-chan struct{}, tasks *sync.WaitGroup) (*process, error) {
	mine, its, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	conn, err := ipc.New(mine)
	if err != nil {
		return nil, errors.Join(err, its.Close())
	}
	p := &process{role: r, instance: instance, conn: conn, began: time.Now(), beat: time.Now(), said: &lastWords{log: log.With("process", r.name)}}
	p.cmd = exec.Command(r.command[0], r.command[1:]...)
	p.cmd.Env = append(append(os.Environ(), "GOMEMLIMIT="+strconv.FormatInt(r.memory, 10)), r.env...)
	p.cmd.ExtraFiles = []*os.File{its}
	p.cmd.Stderr = p.said
	// What the child started may hold its standard error open.
	p.cmd.WaitDelay = time.Second
	err = p.cmd.Start()
	if err = errors.Join(err, its.Close()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.cmd.Process.Pid), []byte(strconv.Itoa(r.oom)), 0); err != nil {
		log.Warn("the kernel's order of killing could not be set", "process", r.name, "error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	send := func(r report) bool {
		select {
		case reports <- r:
			return true
		case <-done:
			return false
		}
	}
	tasks.Go(func() {
		err := conn.Run(ctx, func(_ context.Context, m ipc.Message, file *os.File) (any, error) {
			if file != nil {
				return nil, errors.Join(fmt.Errorf("%s with a file", m.Type), file.Close())
			}
			r := report{from: p, message: m}
			if m.ID != 0 {
				r.answer = make(chan error, 1)
			}
			if !send(r) {
				return nil, errors.New("the board is stopping")
			}
			if r.answer == nil {
				return nil, nil
			}
			return nil, <-r.answer
		})
		if err != nil && ctx.Err() == nil {
			log.Error("control connection", "process", r.name, "error", err)
		}
	})
	tasks.Go(func() {
		err := p.cmd.Wait()
		cancel()
		send(report{from: p, ended: true, err: err})
	})
	return p, nil
}

// signal sends a signal; a process that has just ended needs none.
func (p *process) signal(s syscall.Signal, log *slog.Logger) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		log.Error("signal", "process", p.role.name, "signal", s, "error", err)
	}
}

// lastWords is a child's standard error: what the Go runtime says before the
// process dies. Each line goes to the log.
type lastWords struct {
	log *slog.Logger

	mu    sync.Mutex
	line  []byte
	cause string
}

// maxLine is where a line is cut.
const maxLine = 512

// Write takes a part of the output.
func (w *lastWords) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for part := range bytes.Lines(data) {
		w.line = append(w.line, part...)
		whole := bytes.HasSuffix(part, []byte("\n"))
		if !whole && len(w.line) < maxLine {
			continue
		}
		text := strings.TrimSpace(string(w.line[:min(len(w.line), maxLine)]))
		w.line = w.line[:0]
		if text == "" {
			continue
		}
		w.log.Error("says", "line", text)
		for _, begin := range []string{"panic:", "fatal error:", "runtime:"} {
			if w.cause == "" && strings.HasPrefix(text, begin) {
				w.cause = text
			}
		}
	}
	return len(data), nil
}

// why is the first line that says why the process died; it may be empty.
func (w *lastWords) why() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}
