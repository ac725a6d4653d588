package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/nitrino/nitrino/internal/progress"
)

// A task is what a service works on (DSP0266, Asynchronous operations).
type task struct {
	URI             string `json:"@odata.id"`
	Type            string `json:"@odata.type"`
	ID              string `json:"Id"`
	TaskState       string
	TaskStatus      string
	PercentComplete *int64
	Messages        []wireMessage
}

// over: the task's state does not change any more. A service that names none
// answers with something else than a task.
func (t task) over() bool {
	switch t.TaskState {
	case "Completed", "Exception", "Killed", "Cancelled", "Interrupted":
		return true
	}
	return false
}

// settle follows what a request began, if it is not done yet.
func (c *client) settle(ctx context.Context, p *program, a *answer, what string) error {
	if a.status != http.StatusAccepted {
		return nil
	}
	_, err := c.follow(ctx, p, a, what)
	return err
}

// follow shows a task until it has ended, with its messages as they come. With
// ctx the following ends, not the task, which is returned with the error then.
func (c *client) follow(ctx context.Context, p *program, a *answer, what string) (*task, error) {
	var t task
	// The body may be the task; else the header leads to a monitor, which answers
	// 202 with the task until it has ended.
	uri := a.location
	if json.Unmarshal(a.body, &t) == nil && strings.Contains(t.Type, "Task.") && t.URI != "" {
		uri = t.URI
	}
	if uri == "" {
		return nil, fmt.Errorf("%s: the service took it, and does not say where to follow it", what)
	}
	meter := progress.Start(p.meter(), what, 100, "")
	told := 0
	for {
		next, status, err := c.readTask(uri)
		switch {
		case err == nil && status != http.StatusAccepted && next.TaskState == "":
			// The monitor has the operation's own answer.
			meter.Done(nil)
			return &task{ID: t.ID, TaskState: "Completed", TaskStatus: "OK"}, nil
		case err == nil:
			t = *next
		case ctx.Err() != nil: // so it was not read
		case !passing(err):
			meter.Done(err)
			return nil, fmt.Errorf("following %s: %w", what, err)
		}
		for ; told < len(t.Messages); told++ {
			if text, _, _ := strings.Cut(t.Messages[told].short().lines(), "\n"); text != "" && p.global.output != "json" {
				p.note("%s", clean(text))
			}
		}
		if t.PercentComplete != nil {
			meter.Set(*t.PercentComplete)
		}
		if t.over() {
			err := t.failed(what)
			meter.Done(err)
			return &t, err
		}
		if err := sleep(ctx, c.poll); err != nil {
			meter.Done(err)
			p.note("task %s goes on at the service", t.ID)
			return &t, err
		}
	}
}

func (c *client) readTask(uri string) (*task, int, error) {
	a, err := c.call(http.MethodGet, uri, nil, nil)
	if err != nil {
		return nil, 0, err
	}
	var t task
	if len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &t); err != nil {
			return nil, 0, fmt.Errorf("a task cannot be read: %w", err)
		}
	}
	return &t, a.status, nil
}

// failed says how a task ended that did not end well.
func (t task) failed(what string) error {
	if t.TaskState == "Completed" && t.TaskStatus != "Critical" {
		return nil
	}
	text := fmt.Sprintf("%s: the task ended as %s", what, strings.ToLower(t.TaskState))
	for _, m := range t.Messages {
		short := m.short()
		if short.Message != "" && short.Severity != "OK" {
			first, _, _ := strings.Cut(short.lines(), "\n")
			text += "\n" + clean(first)
			if first != short.Resolution && short.Resolution != "" && !strings.HasPrefix(strings.ToLower(short.Resolution), "none") {
				text += "\n  " + clean(short.Resolution)
			}
		}
	}
	return errors.New(text)
}

// meter is where progress is shown: nowhere without a terminal.
func (p *program) meter() io.Writer {
	if p.terminal && p.global.output != "json" {
		return p.stderr
	}
	return io.Discard
}
