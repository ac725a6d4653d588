// Package task is Redfish's TaskService: the operations that go on after their
// request was answered (DSP0266, Asynchronous operations).
package task

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	// maxTasks is how many there are at most; the oldest that has ended makes room.
	maxTasks = 32
	// keep is how long a task is shown after its end.
	keep = 24 * time.Hour
	// keepMonitor is how long a monitor goes on to answer after its client has read
	// the end: the answer may have been lost on its way.
	keepMonitor = time.Minute
	// pollSeconds is how soon to look again.
	pollSeconds = 2
)

const monitorsURI = resource.TaskServiceURI + "/TaskMonitors"

const (
	serviceType    = "TaskService.v1_3_0.TaskService"
	collectionType = "TaskCollection.TaskCollection"
	taskType       = "Task.v1_7_4.Task"
)

// Options are what New needs. Changed may be nil.
type Options struct {
	// Store keeps which tasks run, so that a restart can tell that it ended them.
	Store *store.Store
	Log   *slog.Logger
	// Changed is told of each change of a task's state: the key of the message in
	// DMTF's registry TaskEvent, its arguments, and the task's URI. It must not wait
	// for anything.
	Changed func(key string, args []string, uri string)
}

// Service is the chapter. Tasks can be started while Run runs.
type Service struct {
	opt     Options
	running sync.WaitGroup

	mu    sync.Mutex      // guards the following, and the fields of each Task
	ctx   context.Context // nil: Run does not run
	last  int             // the number of the youngest task
	tasks []*task         // by their age
}

// The buckets of the store: the tasks that run by their Id, and the last number.
const (
	runningBucket = "tasks"
	numberBucket  = "task-number"
	numberKey     = "last"
)

// A record is what the store has of a task that runs.
type record struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Method  string    `json:"method"`
	URI     string    `json:"uri"`
}

// New makes the service. Tasks that a restart has ended are shown as such, until
// the next one.
func New(o Options) (*Service, error) {
	s := &Service{opt: o}
	if _, err := o.Store.GetJSON(numberBucket, numberKey, &s.last); err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	err := o.Store.Update(func(t store.Tx) error {
		var ids []string
		err := t.Each(runningBucket, func(key, value []byte) error {
			ids = append(ids, string(key))
			var r record
			if err := json.Unmarshal(value, &r); err != nil {
				o.Log.Warn("the record of a task cannot be read", "id", string(key), "error", err)
				return nil
			}
			s.tasks = append(s.tasks, s.interrupted(string(key), r))
			return nil
		})
		for _, id := range ids {
			if err == nil {
				err = t.Delete(runningBucket, []byte(id))
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	// By number: the clock may have been wrong.
	slices.SortFunc(s.tasks, func(a, b *task) int { return cmp.Or(cmp.Compare(len(a.id), len(b.id)), strings.Compare(a.id, b.id)) })
	return s, nil
}

// Run lets tasks run until ctx ends, ends them, and waits for that.
func (s *Service) Run(ctx context.Context) error {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.ctx = nil
	s.mu.Unlock()
	s.running.Wait()
	return ctx.Err()
}

// Routes are the chapter's.
func (s *Service) Routes() []resource.Route {
	return []resource.Route{
		{Pattern: resource.TaskServiceURI, Type: serviceType, Get: s.getService},
		{Pattern: resource.TasksURI, Type: collectionType, Get: s.getTasks},
		{Pattern: resource.TasksURI + "/{id}", Type: taskType, Get: s.getTask, Delete: s.deleteTask},
		{Pattern: monitorsURI + "/{id}", Type: taskType, Get: s.getMonitor, Delete: s.deleteMonitor},
	}
}

type taskService struct {
	resource.OData
	ServiceEnabled                  bool            `json:"ServiceEnabled"`
	Status                          resource.Status `json:"Status"`
	DateTime                        string          `json:"DateTime,omitempty"`
	CompletedTaskOverWritePolicy    string          `json:"CompletedTaskOverWritePolicy"`
	LifeCycleEventOnTaskStateChange bool            `json:"LifeCycleEventOnTaskStateChange"`
	TaskAutoDeleteTimeoutMinutes    int             `json:"TaskAutoDeleteTimeoutMinutes"`
	TaskMonitorAutoExpirySeconds    int             `json:"TaskMonitorAutoExpirySeconds"`
	Tasks                           resource.Link   `json:"Tasks"`
}

// Settled leaves out the time.
func (t taskService) Settled() resource.Typed {
	t.DateTime = ""
	return t
}

func (s *Service) getService(*resource.Request) *resource.Reply {
	return resource.OK(taskService{
		OData:                           resource.NewOData(resource.TaskServiceURI, serviceType, "Task Service"),
		ServiceEnabled:                  true,
		Status:                          resource.Enabled(),
		DateTime:                        time.Now().UTC().Format(time.RFC3339),
		CompletedTaskOverWritePolicy:    "Oldest",
		LifeCycleEventOnTaskStateChange: s.opt.Changed != nil,
		TaskAutoDeleteTimeoutMinutes:    int(keep / time.Minute),
		TaskMonitorAutoExpirySeconds:    int(keepMonitor / time.Second),
		Tasks:                           resource.Link{ODataID: resource.TasksURI},
	})
}

func (s *Service) getTasks(*resource.Request) *resource.Reply {
	var uris []string
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	for _, t := range s.tasks {
		uris = append(uris, t.uri())
	}
	return resource.OK(resource.NewCollection(resource.TasksURI, "TaskCollection", "Task Collection", uris...))
}

// expire removes the tasks whose end was long ago. s.mu is held.
func (s *Service) expire() {
	for _, t := range slices.Clone(s.tasks) {
		if t.hasEnded() && time.Since(t.ended) >= keep {
			s.remove(t)
		}
	}
}

// remove takes a task from the list. s.mu is held.
func (s *Service) remove(t *task) {
	s.tasks = slices.DeleteFunc(s.tasks, func(each *task) bool { return each == t })
	s.tell(t, "TaskRemoved")
}

// find finds the task that a request is about. s.mu is held.
func (s *Service) find(q *resource.Request) (*task, *resource.Reply) {
	s.expire()
	id := q.PathValue("id")
	i := slices.IndexFunc(s.tasks, func(t *task) bool { return t.id == id })
	if i < 0 {
		return nil, resource.Fail(message.ResourceNotFound("Task", id))
	}
	return s.tasks[i], nil
}

func (s *Service) getTask(q *resource.Request) *resource.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, problem := s.find(q)
	if problem != nil {
		return problem
	}
	return resource.OK(t.shown())
}

// deleteTask also ends what the task does.
func (s *Service) deleteTask(q *resource.Request) *resource.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, problem := s.find(q)
	if problem != nil {
		return problem
	}
	s.stop(t)
	s.remove(t)
	return resource.NoContent()
}

// findMonitor is find for a monitor, which may be gone before its task. s.mu is
// held.
func (s *Service) findMonitor(q *resource.Request) (*task, *resource.Reply) {
	t, problem := s.find(q)
	if problem != nil {
		return nil, problem
	}
	if t.reply == nil && t.hasEnded() || t.dropped || !t.read.IsZero() && time.Since(t.read) >= keepMonitor {
		return nil, resource.Fail(message.ResourceNotFound("Task", t.id))
	}
	return t, nil
}

// getMonitor answers 202 while the task runs, and then what the operation would
// have been answered.
func (s *Service) getMonitor(q *resource.Request) *resource.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, problem := s.findMonitor(q)
	switch {
	case problem != nil:
		return problem
	case !t.hasEnded():
		return t.accepted()
	}
	if q.Method == http.MethodGet && t.read.IsZero() {
		t.read = time.Now()
	}
	return t.reply
}

// deleteMonitor cancels the operation; the task stays to tell.
func (s *Service) deleteMonitor(q *resource.Request) *resource.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, problem := s.findMonitor(q)
	if problem != nil {
		return problem
	}
	s.stop(t)
	t.dropped = true
	return resource.NoContent()
}

// place makes room for one more task; false: all are running. s.mu is held.
func (s *Service) place() bool {
	s.expire()
	if len(s.tasks) < maxTasks {
		return true
	}
	i := slices.IndexFunc(s.tasks, (*task).hasEnded)
	if i < 0 {
		return false
	}
	s.remove(s.tasks[i])
	return true
}

// number gives a task its Id, which no other ever had.
func (s *Service) number(t *task) {
	s.last++
	t.id = strconv.Itoa(s.last)
	r, err := json.Marshal(record{t.name, t.started, t.payload.HTTPOperation, t.payload.TargetURI})
	if err == nil {
		err = s.opt.Store.Update(func(tx store.Tx) error {
			if err := tx.Put(numberBucket, []byte(numberKey), []byte(strconv.Itoa(s.last))); err != nil {
				return err
			}
			return tx.Put(runningBucket, []byte(t.id), r)
		})
	}
	if err != nil {
		// It can run all the same; only a restart would forget it.
		s.opt.Log.Warn("a task is not recorded", "id", t.id, "error", err)
	}
}

// tell tells of a change. s.mu is held.
func (s *Service) tell(t *task, key string, more ...string) {
	if s.opt.Changed != nil {
		s.opt.Changed(key, append([]string{t.id}, more...), t.uri())
	}
}
