package task

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

// The states of a task (Task.TaskState).
const (
	running    = "Running"
	cancelling = "Cancelling"
	completed  = "Completed"
	cancelled  = "Cancelled"
	exception  = "Exception"
)

// maxPayload is the longest body of a request that is shown, in bytes.
const maxPayload = 4 << 10

// step is by how many percent a task gets on between two events.
const step = 10

// A task is one that is shown, or an operation that may become one.
type task struct {
	id      string // "": its client still waits
	name    string
	payload payload
	started time.Time
	cancel  context.CancelFunc

	state     string
	ended     time.Time
	percent   int
	told      int // the percent of the last event
	messages  []message.Message
	reply     *resource.Reply // at the end; nil also where a restart ended it
	read      time.Time       // when the client got reply; zero: not yet
	dropped   bool            // the monitor was deleted
	cancelled bool
}

type taskResource struct {
	resource.OData
	TaskState       string            `json:"TaskState"`
	TaskStatus      string            `json:"TaskStatus"`
	StartTime       string            `json:"StartTime"`
	EndTime         string            `json:"EndTime,omitempty"`
	PercentComplete int               `json:"PercentComplete"`
	Messages        []message.Message `json:"Messages"`
	TaskMonitor     string            `json:"TaskMonitor"`
	HidePayload     bool              `json:"HidePayload"`
	Payload         payload           `json:"Payload"`
}

// A payload is the request that the task came from, without its secrets.
type payload struct {
	HTTPHeaders   []string `json:"HttpHeaders"`
	HTTPOperation string   `json:"HttpOperation"`
	JSONBody      string   `json:"JsonBody,omitempty"`
	TargetURI     string   `json:"TargetUri"`
}

// Start implements resource.Tasks.
func (s *Service) Start(q *resource.Request, name string, patience time.Duration, work resource.Work) *resource.Reply {
	t := &task{name: name, payload: newPayload(q), started: time.Now(), state: running, messages: []message.Message{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil || s.ctx.Err() != nil || patience == 0 && !s.show(t) {
		return resource.Fail(message.TemporarilyUnavailable())
	}
	base := s.ctx
	ctx, cancel := context.WithCancel(base)
	t.cancel = cancel
	done := make(chan struct{})
	s.running.Go(func() {
		defer close(done)
		defer cancel()
		s.end(base, t, work(ctx, &progress{s, t}))
	})
	if patience == 0 {
		return t.accepted()
	}
	clientHere := context.AfterFunc(q.Context(), cancel)
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	s.mu.Lock()
	switch {
	case t.hasEnded():
		return t.reply
	case !clientHere():
		return resource.Fail(message.OperationFailed()) // to nobody
	case !s.show(t):
		cancel()
		return resource.Fail(message.TemporarilyUnavailable())
	}
	return t.accepted()
}

// show makes an operation a task that is shown; false: there are too many. s.mu
// is held.
func (s *Service) show(t *task) bool {
	if !s.place() {
		return false
	}
	s.number(t)
	s.tasks = append(s.tasks, t)
	s.tell(t, "TaskStarted")
	return true
}

// end notes how the work ended.
func (s *Service) end(base context.Context, t *task, reply *resource.Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.reply, t.ended = reply, time.Now()
	t.messages = append(t.messages, reply.Problems...)
	switch {
	case !reply.Failed():
		t.state, t.percent = completed, 100
		if len(t.messages) == 0 {
			t.messages = append(t.messages, message.Success())
		}
	case t.cancelled:
		t.state = cancelled
	default:
		t.state = exception
	}
	if base.Err() != nil && t.state == exception {
		return // what the restart ended is told after it
	}
	if t.id != "" {
		s.tellEnd(t)
	}
}

// tellEnd tells how a task ended, if it was not removed, and takes its record
// from the store. s.mu is held.
func (s *Service) tellEnd(t *task) {
	switch {
	case !slices.Contains(s.tasks, t):
	case t.state == completed && t.status() == message.OK:
		s.tell(t, "TaskCompletedOK")
	case t.state == completed:
		s.tell(t, "TaskCompletedWarning")
	case t.state == cancelled:
		s.tell(t, "TaskCancelled")
	default:
		s.tell(t, "TaskAborted")
	}
	if err := s.opt.Store.Update(func(tx store.Tx) error { return tx.Delete(runningBucket, []byte(t.id)) }); err != nil {
		s.opt.Log.Warn("the record of a task stays", "id", t.id, "error", err)
	}
}

// stop asks a task to end, if it has not. s.mu is held.
func (s *Service) stop(t *task) {
	if t.hasEnded() {
		return
	}
	t.cancelled, t.state = true, cancelling
	t.cancel()
}

// interrupted is a task that ran when the software was ended.
func (s *Service) interrupted(id string, r record) *task {
	t := &task{id: id, name: r.Name, started: r.Started, state: exception, ended: time.Now(),
		payload: payload{HTTPHeaders: []string{}, HTTPOperation: r.Method, TargetURI: r.URI}}
	t.messages = []message.Message{message.New("TaskEvent.1.0.TaskAborted", message.Critical, "The task with Id '%1' has completed with errors.",
		"The management software was restarted meanwhile. Send the request again.", id)}
	return t
}

func (t *task) uri() string { return resource.TasksURI + "/" + t.id }

func (t *task) hasEnded() bool { return !t.ended.IsZero() }

// status is the worst of the messages' severities. A failure is Critical,
// whatever they say.
func (t *task) status() string {
	worst := message.OK
	for _, m := range t.messages {
		if m.Severity == message.Critical || m.Severity == message.Warning && worst == message.OK {
			worst = m.Severity
		}
	}
	switch t.state {
	case exception:
		return message.Critical
	case cancelled:
		return message.Warning
	}
	return worst
}

// shown is the resource. Service.mu is held.
func (t *task) shown() resource.Typed {
	r := taskResource{
		OData:           resource.NewOData(t.uri(), taskType, t.name),
		TaskState:       t.state,
		TaskStatus:      t.status(),
		StartTime:       t.started.UTC().Format(time.RFC3339),
		PercentComplete: t.percent,
		Messages:        slices.Clone(t.messages),
		TaskMonitor:     monitorsURI + "/" + t.id,
		Payload:         t.payload,
	}
	if t.hasEnded() {
		r.EndTime = t.ended.UTC().Format(time.RFC3339)
	}
	return r
}

// accepted is the answer while it runs. Service.mu is held.
func (t *task) accepted() *resource.Reply {
	return &resource.Reply{Status: http.StatusAccepted, Resource: t.shown(), Location: monitorsURI + "/" + t.id, RetryAfter: pollSeconds}
}

// progress is a task's, for its work.
type progress struct {
	s *Service
	t *task
}

func (p *progress) Percent(n int) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.t.percent = min(max(n, p.t.percent), 100)
	if p.t.id != "" && p.t.percent >= p.t.told+step {
		p.t.told = p.t.percent
		p.s.tell(p.t, "TaskProgressChanged", strconv.Itoa(p.t.percent))
	}
}

func (p *progress) Say(m message.Message) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.t.messages = append(p.t.messages, m)
}

// newPayload shows a request to all who may see the task.
func newPayload(q *resource.Request) payload {
	p := payload{HTTPHeaders: []string{}, HTTPOperation: q.Method, TargetURI: q.URL.Path}
	for _, name := range []string{"Content-Type", "OData-Version"} {
		for _, value := range q.Header.Values(name) {
			p.HTTPHeaders = append(p.HTTPHeaders, name+": "+message.Clip(value))
		}
	}
	// A body that came as JSON can be written as JSON. A long one is not worth the
	// memory.
	if body, err := resource.AppendJSON(nil, withoutSecrets("", q.Body)); err == nil && q.Body != nil && len(body) <= maxPayload {
		p.JSONBody = string(body)
	}
	return p
}

// withoutSecrets is the value of a member without passwords: those that are
// named so, and those that a URL has in it or may have in its query.
func withoutSecrets(name string, v any) any {
	if strings.Contains(strings.ToLower(name), "password") {
		return nil
	}
	switch v := v.(type) {
	case resource.Object:
		o := resource.Object{}
		for _, m := range v {
			o = append(o, resource.Member{Name: m.Name, Value: withoutSecrets(m.Name, m.Value)})
		}
		return o
	case []any:
		list := []any{}
		for _, each := range v {
			list = append(list, withoutSecrets(name, each))
		}
		return list
	case string:
		u, err := url.Parse(v)
		if err != nil || u.Opaque != "" {
			return nil // who knows what is in it
		}
		// An address may come without its scheme, and then has its host and what is
		// before it in its path.
		if u.Host == "" && strings.Contains(u.Path, "@") {
			return nil
		}
		if u.Host != "" || u.RawQuery != "" {
			u.User, u.RawQuery, u.Fragment, u.RawFragment = nil, "", "", ""
			return u.String()
		}
	}
	return v
}
