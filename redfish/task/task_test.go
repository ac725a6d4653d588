package task

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

// startURI is where the tests POST, to start whatever work they have set.
const startURI = resource.UpdateServiceURI

// registry is DMTF's of the events that are told: how many arguments each has.
func registry(t *testing.T) map[string]int {
	t.Helper()
	data, err := os.ReadFile("testdata/taskevent.1.0.5.json")
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Messages map[string]struct{ NumberOfArgs int }
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	args := map[string]int{}
	for key, m := range r.Messages {
		args[key] = m.NumberOfArgs
	}
	return args
}

type rig struct {
	*redfishtest.Rig
	t    *testing.T
	s    *Service
	db   *store.Store
	end  func() // of Run
	mu   sync.Mutex
	told []string
	work resource.Work
	wait time.Duration
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func newRig(t *testing.T, db *store.Store) *rig {
	t.Helper()
	r := &rig{t: t, db: db}
	known := registry(t)
	var err error
	r.s, err = New(Options{Store: db, Log: slog.New(slog.DiscardHandler), Changed: func(key string, args []string, uri string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, key+" "+strings.Join(args, ","))
		if n, found := known[key]; !found || n != len(args) || uri != resource.TasksURI+"/"+args[0] {
			t.Errorf("%s %q of %s", key, args, uri)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.run()
	t.Cleanup(func() { r.end() })
	start := resource.Route{Pattern: startURI, Type: "UpdateService.v1_17_0.UpdateService", Action: "x", Post: func(q *resource.Request) *resource.Reply {
		return r.s.Start(q, "Test", r.wait, r.work)
	}}
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: slog.New(slog.DiscardHandler), Routes: append(r.s.Routes(), start)})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.s.Run(ctx) }()
	for {
		r.s.mu.Lock()
		up := r.s.ctx != nil
		r.s.mu.Unlock()
		if up {
			break
		}
		time.Sleep(time.Millisecond)
	}
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Error(err)
		}
	})
}

func (r *rig) events(want ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.told, want) {
		r.t.Errorf("events: got %q, want %q", r.told, want)
	}
	r.told = nil
}

// await waits until a task is in a state.
func (r *rig) await(uri, state string) redfishtest.Answer {
	r.t.Helper()
	for range 1000 {
		a := r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
		if a.At("TaskState") == state {
			return a
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.t.Fatalf("%s never was %s", uri, state)
	return redfishtest.Answer{}
}

func TestService(t *testing.T) {
	r := newRig(t, openStore(t))
	a := r.Want(redfishtest.Call{Method: "GET", URI: resource.TaskServiceURI, User: "reader"}, 200)
	for name, want := range map[string]any{"CompletedTaskOverWritePolicy": "Oldest", "LifeCycleEventOnTaskStateChange": true, "TaskAutoDeleteTimeoutMinutes": 1440.0, "ServiceEnabled": true} {
		if got := a.At(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if _, err := time.Parse(time.RFC3339, a.At("DateTime").(string)); err != nil {
		t.Error(err)
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.TaskServiceURI}, 401, "AccessUnauthorized")
	r.Want(redfishtest.Call{Method: "PATCH", URI: resource.TaskServiceURI, User: "admin", Body: `{}`}, 405, "OperationNotAllowed")
	if a := r.Want(redfishtest.Call{Method: "GET", URI: resource.TasksURI, User: "reader"}, 200); a.At("Members@odata.count") != 0.0 {
		t.Errorf("%s", a.Body)
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.TasksURI + "/1", User: "reader"}, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "GET", URI: monitorsURI + "/1", User: "reader"}, 404, "ResourceNotFound")
}

func TestTask(t *testing.T) {
	r := newRig(t, openStore(t))
	goOn := make(chan struct{})
	r.work = func(_ context.Context, p resource.Progress) *resource.Reply {
		p.Percent(5)
		p.Percent(55)
		p.Percent(54)
		<-goOn
		p.Percent(60)
		p.Say(message.PropertyModified())
		return resource.NoContent()
	}
	body := `{"ImageURI":"https://me:hush@example.com/a.tar?key=hush","Without":["example.com/a.tar?key=hush","me:hush@example.com/a","hush@example.com/a","https:me:hush@example.com"],"Password":"hush","Targets":["/redfish/v1/x"],"Inner":{"OldPassword":["hush"]},"N":12}`
	a := r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper", Body: body}, 202)
	monitor, uri := a.Header.Get("Location"), resource.TasksURI+"/1"
	if monitor != monitorsURI+"/1" || a.Header.Get("Retry-After") == "" || a.At("@odata.id") != uri || a.At("TaskMonitor") != monitor {
		t.Errorf("%v %s", a.Header, a.Body)
	}
	if strings.Contains(string(a.Body), "hush") {
		t.Errorf("a secret is shown: %s", a.Body)
	}
	if got, want := a.At("Payload", "JsonBody"), `{"ImageURI":"https://example.com/a.tar","Without":["example.com/a.tar",null,null,null],"Password":null,"Targets":["/redfish/v1/x"],"Inner":{"OldPassword":null},"N":12}`; got != want {
		t.Errorf("payload: got %v, want %v", got, want)
	}
	a = r.Want(redfishtest.Call{Method: "GET", URI: monitor, User: "reader"}, 202)
	if a.Header.Get("Location") != monitor || a.At("TaskState") != "Running" || a.At("EndTime") != nil {
		t.Errorf("%v %s", a.Header, a.Body)
	}
	close(goOn)
	a = r.await(uri, "Completed")
	if a.At("PercentComplete") != 100.0 || a.At("TaskStatus") != "OK" || a.At("EndTime") == nil || len(a.At("Messages").([]any)) != 1 {
		t.Errorf("%s", a.Body)
	}
	r.Want(redfishtest.Call{Method: "HEAD", URI: monitor, User: "reader"}, 204)
	r.Want(redfishtest.Call{Method: "GET", URI: monitor, User: "reader"}, 204)
	r.mu.Lock()
	got := slices.DeleteFunc(slices.Clone(r.told), func(s string) bool { return strings.HasPrefix(s, "TaskProgressChanged") })
	r.mu.Unlock()
	if want := []string{"TaskStarted 1", "TaskCompletedOK 1"}; !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}
	r.Want(redfishtest.Call{Method: "DELETE", URI: uri, User: "oper"}, 403, "InsufficientPrivilege")
	r.Want(redfishtest.Call{Method: "DELETE", URI: uri, User: "admin"}, 204)
	r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 404, "ResourceNotFound")
}

// What ends in time is answered at once, and is no task.
func TestPatience(t *testing.T) {
	r := newRig(t, openStore(t))
	r.wait = time.Minute
	r.work = func(context.Context, resource.Progress) *resource.Reply {
		return resource.Fail(message.ResourceInUse())
	}
	r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 409, "ResourceInUse")
	r.events()
	r.wait = 10 * time.Millisecond
	r.work = func(ctx context.Context, _ resource.Progress) *resource.Reply {
		<-ctx.Done()
		return resource.Fail(message.OperationFailed())
	}
	a := r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 202)
	r.Want(redfishtest.Call{Method: "DELETE", URI: a.Header.Get("Location"), User: "admin"}, 204)
	r.Want(redfishtest.Call{Method: "GET", URI: a.Header.Get("Location"), User: "reader"}, 404, "ResourceNotFound")
	if a := r.await(resource.TasksURI+"/1", "Cancelled"); a.At("TaskStatus") != "Warning" {
		t.Errorf("%s", a.Body)
	}
	r.events("TaskStarted 1", "TaskCancelled 1")
}

func TestFailure(t *testing.T) {
	r := newRig(t, openStore(t))
	r.work = func(context.Context, resource.Progress) *resource.Reply {
		return resource.Fail(message.InsufficientStorage())
	}
	a := r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 202)
	if a := r.await(resource.TasksURI+"/1", "Exception"); a.At("TaskStatus") != "Critical" {
		t.Errorf("%s", a.Body)
	}
	r.Want(redfishtest.Call{Method: "GET", URI: a.Header.Get("Location"), User: "reader"}, 507, "InsufficientStorage")
	// A lost answer can be had again, but not for ever.
	r.Want(redfishtest.Call{Method: "GET", URI: a.Header.Get("Location"), User: "reader"}, 507, "InsufficientStorage")
	r.s.mu.Lock()
	r.s.tasks[0].read = r.s.tasks[0].read.Add(-keepMonitor)
	r.s.mu.Unlock()
	r.Want(redfishtest.Call{Method: "GET", URI: a.Header.Get("Location"), User: "reader"}, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "GET", URI: resource.TasksURI + "/1", User: "reader"}, 200)
	r.events("TaskStarted 1", "TaskAborted 1")
}

func TestLimit(t *testing.T) {
	r := newRig(t, openStore(t))
	block := make(chan struct{})
	r.work = func(ctx context.Context, _ resource.Progress) *resource.Reply {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return resource.NoContent()
	}
	for range maxTasks {
		r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 202)
	}
	a := r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 503, "ServiceTemporarilyUnavailable")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(block)
	r.await(resource.TasksURI+"/1", "Completed")
	r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 202)
	a = r.Want(redfishtest.Call{Method: "GET", URI: resource.TasksURI, User: "reader"}, 200)
	if n := a.At("Members@odata.count"); n != float64(maxTasks) {
		t.Errorf("%v tasks", n)
	}
}

// A restart ends tasks, and says so.
func TestRestart(t *testing.T) {
	db := openStore(t)
	r := newRig(t, db)
	r.work = func(ctx context.Context, _ resource.Progress) *resource.Reply {
		<-ctx.Done()
		return resource.Fail(message.OperationFailed())
	}
	r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 202)
	r.end()
	r.events("TaskStarted 1")
	r.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 503, "ServiceTemporarilyUnavailable")
	again := newRig(t, db)
	a := again.Want(redfishtest.Call{Method: "GET", URI: resource.TasksURI + "/1", User: "reader"}, 200)
	if a.At("TaskState") != "Exception" || a.At("TaskStatus") != "Critical" || a.At("Payload", "TargetUri") != startURI {
		t.Errorf("%s", a.Body)
	}
	again.Want(redfishtest.Call{Method: "GET", URI: monitorsURI + "/1", User: "reader"}, 404, "ResourceNotFound")
	again.work = func(context.Context, resource.Progress) *resource.Reply { return resource.NoContent() }
	if a := again.Want(redfishtest.Call{Method: "POST", URI: startURI, User: "oper"}, 202); a.At("Id") != "2" {
		t.Errorf("the number was used again: %s", a.Body)
	}
	again.await(resource.TasksURI+"/2", "Completed")
	third := newRig(t, db)
	if a := third.Want(redfishtest.Call{Method: "GET", URI: resource.TasksURI, User: "reader"}, 200); a.At("Members@odata.count") != 0.0 {
		t.Errorf("%s", a.Body)
	}
}

// Tasks go a day after their end.
func TestExpiry(t *testing.T) {
	db := openStore(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{Store: db, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://bmc/redfish/v1/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		q := &resource.Request{Request: req}
		a := s.Start(q, "Test", 0, func(context.Context, resource.Progress) *resource.Reply { return resource.NoContent() })
		if a.Status != 202 {
			t.Errorf("%+v", a)
		}
		synctest.Wait()
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{keep - time.Minute, 1}, {2 * time.Minute, 0}} {
			time.Sleep(c.after)
			if got := s.getTasks(nil).Resource.(resource.Collection).Count; got != c.want {
				t.Errorf("after %v: got %d, want %d", c.after, got, c.want)
			}
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func FuzzWithoutSecrets(f *testing.F) {
	for _, body := range []string{`{}`, `{"Password":"hush"}`, `{"URI":"http://a:hush@b/c?d=hush#hush"}`, `{"x":[{"password":{"a":"hush"}}]}`, `{"URI":"ftp://:hush@b"}`, `{"URI":"//a:hush@b"}`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		o, problem := resource.Decode([]byte(body), "")
		if problem != nil {
			return
		}
		shown, err := resource.AppendJSON(nil, withoutSecrets("", o))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resource.ParseObject(shown); err != nil {
			t.Errorf("%v: %s", err, shown)
		}
	})
}
