package update

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
	"github.com/nitrino/nitrino/update"
	"github.com/nitrino/nitrino/update/manifest"
)

// fakeBundles takes any text as a bundle of that version.
type fakeBundles struct {
	mu     sync.Mutex
	staged *update.Bundle
	err    error
	source update.Source
	from   host.Origin
	block  chan struct{} // Fetch waits for it, if not nil
}

func (f *fakeBundles) Put(_ context.Context, r io.Reader, _ int64, from host.Origin) (update.Bundle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from = from
	if f.err != nil {
		return update.Bundle{}, f.err
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return update.Bundle{}, fmt.Errorf("fake: %w", err)
	}
	f.staged = &update.Bundle{Manifest: &manifest.Manifest{Version: string(text)}, Size: int64(len(text))}
	return *f.staged, nil
}

func (f *fakeBundles) Fetch(ctx context.Context, src update.Source, progress func(done, total int64), from host.Origin) (update.Bundle, error) {
	f.mu.Lock()
	f.source = src
	block := f.block
	f.mu.Unlock()
	progress(10, -1)
	progress(50, 100)
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return update.Bundle{}, ctx.Err()
		}
	}
	return f.Put(ctx, strings.NewReader("2.0.0"), -1, from)
}

func (f *fakeBundles) Staged() (update.Bundle, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.staged == nil {
		return update.Bundle{}, false
	}
	return *f.staged, true
}

func (f *fakeBundles) Discard(host.Origin) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if f.staged == nil {
		return update.ErrNone
	}
	f.staged = nil
	return nil
}

// fakeTasks runs the work beside the request, which is answered 202.
type fakeTasks struct {
	running sync.WaitGroup
	mu      sync.Mutex
	percent []int
	said    []string
	reply   *resource.Reply
	refuse  bool
	cancel  context.CancelFunc
}

func (f *fakeTasks) Percent(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.percent = append(f.percent, n)
}

func (f *fakeTasks) Say(m message.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, strings.TrimPrefix(m.ID, "Update.1.3."))
}

func (f *fakeTasks) Start(_ *resource.Request, _ string, _ time.Duration, work resource.Work) *resource.Reply {
	if f.refuse {
		return resource.Fail(message.TemporarilyUnavailable())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.percent, f.said = nil, nil
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	f.running.Go(func() {
		reply := work(ctx, f)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.reply = reply
	})
	return &resource.Reply{Status: http.StatusAccepted, Location: resource.TaskServiceURI + "/TaskMonitors/1"}
}

// end waits for the work and answers what it said and its reply's messages.
func (f *fakeTasks) end() []string {
	f.running.Wait()
	all := f.said
	for _, p := range f.reply.Problems {
		all = append(all, p.ID[strings.LastIndexByte(p.ID, '.')+1:])
	}
	return all
}

type rig struct {
	*redfishtest.Rig
	t       *testing.T
	bundles *fakeBundles
	tasks   *fakeTasks
	db      *store.Store
}

func newRig(t *testing.T) *rig {
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
	r := &rig{t: t, bundles: &fakeBundles{}, tasks: &fakeTasks{}, db: db}
	log := slog.New(slog.DiscardHandler)
	s, err := New(Options{Bundles: r.bundles, Tasks: r.tasks, Store: db, Log: log, Version: "1.2.3", MaxSize: 1 << 20, Manager: true,
		Released: time.Date(2026, 11, 22, 21, 0, 0, 0, time.UTC)})
	if err != nil {
		t.Fatal(err)
	}
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: s.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

func TestService(t *testing.T) {
	r := newRig(t)
	a := r.Want(redfishtest.Call{Method: "GET", URI: resource.UpdateServiceURI, User: "reader"}, 200)
	if a.At("MultipartHttpPushUri") != pushURI || a.At("MaxImageSizeBytes") != 1048576.0 || a.At("VerifyRemoteServerCertificate") != false ||
		a.At("Actions", "#"+simpleName, "target") != simpleURI || a.Header.Get("Allow") != "GET, HEAD, PATCH" {
		t.Errorf("%s %s", a.Header.Get("Allow"), a.Body)
	}
	r.Want(redfishtest.Call{Method: "GET", URI: resource.UpdateServiceURI}, 401, "AccessUnauthorized")
	patch := redfishtest.Call{Method: "PATCH", URI: resource.UpdateServiceURI, User: "reader", Body: `{"VerifyRemoteServerCertificate":true}`}
	r.Want(patch, 403, "InsufficientPrivilege")
	patch.User = "oper"
	if a := r.Want(patch, 200); a.At("VerifyRemoteServerCertificate") != true {
		t.Errorf("%s", a.Body)
	}
	var kept bool
	if _, err := r.db.GetJSON(bucket, verifyKey, &kept); err != nil || !kept {
		t.Errorf("kept %v, %v", kept, err)
	}
	patch.Body = `{"VerifyRemoteServerCertificate":1}`
	r.Want(patch, 400, "PropertyValueTypeError")
	patch.Body = `{"ServiceEnabled":false}`
	r.Want(patch, 400, "PropertyNotWritable")
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	patch.Body = `{"VerifyRemoteServerCertificate":false}`
	r.Want(patch, 500, "PropertyNotUpdated")
}

func TestInventory(t *testing.T) {
	r := newRig(t)
	a := r.Want(redfishtest.Call{Method: "GET", URI: resource.FirmwareInventoryURI, User: "reader"}, 200)
	if a.At("Members@odata.count") != 1.0 {
		t.Errorf("%s", a.Body)
	}
	a = r.Want(redfishtest.Call{Method: "GET", URI: resource.FirmwareURI, User: "reader"}, 200)
	for name, want := range map[string]any{"Version": "1.2.3", "VersionScheme": "SemVer", "ReleaseDate": "2026-11-22T21:00:00Z", "Updateable": false, "Active": true, "Manufacturer": "nitrino"} {
		if got := a.At(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	r.Want(redfishtest.Call{Method: "GET", URI: stagedURI, User: "reader"}, 404, "ResourceNotFound")
	r.Want(redfishtest.Call{Method: "DELETE", URI: stagedURI, User: "oper"}, 404, "ResourceNotFound")
	r.bundles.staged = &update.Bundle{Manifest: &manifest.Manifest{Version: "some"}, Size: 7}
	a = r.Want(redfishtest.Call{Method: "GET", URI: resource.FirmwareInventoryURI, User: "reader"}, 200)
	if a.At("Members@odata.count") != 2.0 {
		t.Errorf("%s", a.Body)
	}
	a = r.Want(redfishtest.Call{Method: "GET", URI: stagedURI, User: "reader"}, 200)
	for name, want := range map[string]any{"Version": "some", "VersionScheme": nil, "ReleaseDate": nil, "Staged": true, "Active": false, "SizeBytes": 7.0} {
		if got := a.At(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	r.bundles.err = errors.New("fault")
	r.Want(redfishtest.Call{Method: "DELETE", URI: stagedURI, User: "oper"}, 500, "InternalError")
	r.bundles.err = nil
	r.Want(redfishtest.Call{Method: "DELETE", URI: stagedURI, User: "reader"}, 403, "InsufficientPrivilege")
	r.Want(redfishtest.Call{Method: "DELETE", URI: stagedURI, User: "oper"}, 204)
	r.Want(redfishtest.Call{Method: "GET", URI: stagedURI, User: "reader"}, 404, "ResourceNotFound")
}

func TestSimpleUpdate(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		body   string
		source update.Source
	}{
		{`{"ImageURI":"https://example.com/x/a.tar?k=v"}`, update.Source{URL: "https://example.com/x/a.tar?k=v", AnyServer: true}},
		{`{"ImageURI":"http://example.com/","Username":"u","Password":"p","TransferProtocol":"HTTPS","Targets":["/redfish/v1/Managers/bmc"],"@Redfish.OperationApplyTime":"Immediate"}`, update.Source{URL: "http://example.com/", User: "u", Password: "p", AnyServer: true}},
		{`{"ImageURI":"example.com/a.tar","ForceUpdate":true}`, update.Source{URL: "http://example.com/a.tar", AnyServer: true}},
		{`{"ImageURI":"example.com/a.tar","TransferProtocol":"HTTPS","Targets":["/redfish/v1/UpdateService/FirmwareInventory/bmc/"]}`, update.Source{URL: "https://example.com/a.tar", AnyServer: true}},
	} {
		a := r.Want(redfishtest.Call{Method: "POST", URI: simpleURI, User: "oper", Body: c.body}, 202)
		if a.Header.Get("Location") == "" {
			t.Errorf("%v", a.Header)
		}
		if got, want := r.tasks.end(), []string{"TargetDetermined", "TransferringToComponent", "AwaitToUpdate"}; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", c.body, got, want)
		}
		if r.bundles.source != c.source || !slices.Equal(r.tasks.percent, []int{49}) || r.bundles.from.User != "oper" {
			t.Errorf("%s: got %+v, %v, from %+v", c.body, r.bundles.source, r.tasks.percent, r.bundles.from)
		}
	}
	for _, c := range []struct {
		body    string
		key     string
		related string
	}{
		{`{}`, "ActionParameterMissing", "#/ImageURI"},
		{`{"ImageURI":7}`, "ActionParameterValueTypeError", "#/ImageURI"},
		{`{"ImageURI":"tftp://example.com/a"}`, "ActionParameterValueFormatError", "#/ImageURI"},
		{`{"ImageURI":"https:///a"}`, "ActionParameterValueFormatError", "#/ImageURI"},
		{`{"ImageURI":""}`, "ActionParameterValueFormatError", "#/ImageURI"},
		{`{"ImageURI":"http://x\u0000/"}`, "ActionParameterValueFormatError", "#/ImageURI"},
		{`{"ImageURI":"http://a/","TransferProtocol":"TFTP"}`, "ActionParameterValueNotInList", "#/TransferProtocol"},
		{`{"ImageURI":"http://a/","Targets":["/redfish/v1/Systems/system"]}`, "ActionParameterValueNotInList", "#/Targets/0"},
		{`{"ImageURI":"http://a/","Targets":"x"}`, "ActionParameterValueTypeError", "#/Targets"},
		{`{"ImageURI":"http://a/","Stage":true}`, "ActionParameterUnknown", "#/Stage"},
		{`{"ImageURI":"http://a/","@Redfish.OperationApplyTime":"AtMaintenanceWindowStart"}`, "ActionParameterValueNotInList", "#/@Redfish.OperationApplyTime"},
	} {
		a := r.Want(redfishtest.Call{Method: "POST", URI: simpleURI, User: "oper", Body: c.body}, 400, c.key)
		if got := a.Related(); !slices.Equal(got, []string{c.related}) {
			t.Errorf("%s: about %q, want %q", c.body, got, c.related)
		}
	}
	r.Want(redfishtest.Call{Method: "POST", URI: simpleURI, User: "reader", Body: `{"ImageURI":"http://a/"}`}, 403, "InsufficientPrivilege")
}

func TestErrors(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		err error
		key string
	}{
		{update.ErrBusy, "ResourceInUse"},
		{update.ErrFull, "InsufficientStorage"},
		{update.ErrTooLarge, "PayloadTooLarge"},
		{update.ErrMachine, "UpdateNotApplicable"},
		{fmt.Errorf("update: %w: %w", update.ErrUnreachable, &url.Error{Op: "Get", URL: "http://a/?hush", Err: errors.New("refused")}), "TransferFailed"},
		{fmt.Errorf("%w: %w", update.ErrUnreachable, context.Canceled), "OperationFailed"},
		{update.ErrScheme, "TransferFailed"},
		{update.ErrNoKey, "VerificationFailed"},
		{fmt.Errorf("update: %w", update.ErrSignature), "VerificationFailed"},
		{update.ErrFormat, "VerificationFailed"},
		{update.ErrDamaged, "VerificationFailed"},
		{io.ErrUnexpectedEOF, "MissingOrMalformedPart"},
		{errors.New("fault"), "InternalError"},
	} {
		r.bundles.err = c.err
		r.Want(redfishtest.Call{Method: "POST", URI: simpleURI, User: "oper", Body: `{"ImageURI":"http://a/b"}`}, 202)
		if got := r.tasks.end(); got[len(got)-1] != c.key || len(got) != 3 {
			t.Errorf("%v: got %q, want %q", c.err, got, c.key)
		}
		if text := fmt.Sprint(r.tasks.reply.Problems); strings.Contains(text, "hush") {
			t.Errorf("a secret is told: %s", text)
		}
	}
}

func TestOneAtATime(t *testing.T) {
	r := newRig(t)
	call := redfishtest.Call{Method: "POST", URI: simpleURI, User: "oper", Body: `{"ImageURI":"http://a/b"}`}
	r.bundles.block = make(chan struct{})
	r.Want(call, 202)
	r.Want(call, 409, "ResourceInUse")
	if a := r.push("oper", jsonPart("{}"), filePart("9.9.9")); a.Status != 409 {
		t.Errorf("push: %d %s", a.Status, a.Body)
	}
	r.tasks.cancel()
	if got := r.tasks.end(); got[len(got)-1] != "OperationFailed" {
		t.Errorf("%q", got)
	}
	r.bundles.block = nil
	r.tasks.refuse = true
	r.Want(call, 503, "ServiceTemporarilyUnavailable")
	r.tasks.refuse = false
	r.Want(call, 202)
	r.tasks.end()
}

// A part is one of a form.
type part struct{ name, file, contentType, text string }

func jsonPart(text string) part { return part{"UpdateParameters", "", "application/json", text} }

func filePart(text string) part {
	return part{"UpdateFile", "b.tar", "application/octet-stream", text}
}

func form(t testing.TB, parts ...part) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		d := fmt.Sprintf("form-data; name=%q", p.name)
		if p.file != "" {
			d += fmt.Sprintf("; filename=%q", p.file)
		}
		h.Set("Content-Disposition", d)
		if p.contentType != "" {
			h.Set("Content-Type", p.contentType)
		}
		each, err := w.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(each, p.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

func (r *rig) push(user string, parts ...part) redfishtest.Answer {
	r.t.Helper()
	contentType, body := form(r.t, parts...)
	return r.Do(redfishtest.Call{Method: "POST", URI: pushURI, User: user, Body: body, Header: map[string]string{"Content-Type": contentType}})
}

func TestPush(t *testing.T) {
	r := newRig(t)
	for _, parameters := range []string{`{}`, `{"Targets":[]}`, `{"Targets":["/redfish/v1/Managers/bmc"],"@Redfish.OperationApplyTime":"OnReset","Oem":{}}`} {
		r.bundles.staged = nil
		a := r.push("oper", jsonPart(parameters), filePart("3.0.0"), part{"OemThing", "", "", "x"})
		if a.Status != 202 || a.Header.Get("Location") == "" {
			t.Fatalf("%s: %d %s", parameters, a.Status, a.Body)
		}
		if got, want := r.tasks.end(), []string{"TargetDetermined", "AwaitToUpdate"}; !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", parameters, got, want)
		}
		if b := r.bundles.staged; b == nil || b.Manifest.Version != "3.0.0" {
			t.Errorf("%s: staged %+v", parameters, b)
		}
	}
	r.bundles.staged = nil
	for _, c := range []struct {
		name   string
		parts  []part
		status int
		key    string
	}{
		{"nothing", nil, 400, "MissingOrMalformedPart"},
		{"no file", []part{jsonPart(`{}`)}, 400, "MissingOrMalformedPart"},
		{"no parameters", []part{filePart("x")}, 400, "MissingOrMalformedPart"},
		{"wrong order", []part{filePart("x"), jsonPart(`{}`)}, 400, "MissingOrMalformedPart"},
		{"Oem between", []part{jsonPart(`{}`), {"OemThing", "", "", "x"}, filePart("x")}, 400, "MissingOrMalformedPart"},
		{"no JSON", []part{jsonPart(`{`), filePart("x")}, 400, "MalformedJSON"},
		{"another type", []part{{"UpdateParameters", "", "text/plain", "{}"}, filePart("x")}, 400, "MissingOrMalformedPart"},
		{"too long", []part{jsonPart(`{"x":"` + strings.Repeat("x", maxParameters) + `"}`), filePart("x")}, 400, "MissingOrMalformedPart"},
		{"unknown", []part{jsonPart(`{"Colour":"red"}`), filePart("x")}, 400, "PropertyUnknown"},
		{"Oem", []part{jsonPart(`{"Oem":{"a":1}}`), filePart("x")}, 400, "PropertyUnknown"},
		{"target", []part{jsonPart(`{"Targets":["/redfish/v1/Chassis/x"]}`), filePart("x")}, 400, "PropertyValueNotInList"},
		{"too large", []part{jsonPart(`{}`), filePart(strings.Repeat("x", 1<<20+maxAround))}, 413, "PayloadTooLarge"},
	} {
		if a := r.push("oper", c.parts...); a.Status != c.status || !slices.Equal(a.Messages(), []string{c.key}) {
			t.Errorf("%s: got %d %v, want %d %s", c.name, a.Status, a.Messages(), c.status, c.key)
		}
		if r.bundles.staged != nil {
			t.Fatalf("%s: something is staged", c.name)
		}
	}
	r.bundles.err = update.ErrSignature
	if a := r.push("oper", jsonPart(`{}`), filePart("x")); a.Status != 400 || !slices.Equal(a.Messages(), []string{"Update.1.3.VerificationFailed"}) {
		t.Errorf("not signed: %d %s", a.Status, a.Body)
	}
	if a := r.push("reader", jsonPart(`{}`), filePart("x")); a.Status != 403 {
		t.Errorf("reader: %d", a.Status)
	}
	r.Want(redfishtest.Call{Method: "POST", URI: pushURI, User: "oper", Body: "{}"}, 415, "HeaderInvalid")
	r.Want(redfishtest.Call{Method: "GET", URI: pushURI, User: "oper"}, 405, "OperationNotAllowed")
}

func FuzzPush(f *testing.F) {
	for _, parts := range [][]part{{jsonPart(`{}`), filePart("3.0.0")}, {jsonPart(`{"Targets":["x"]}`)}, {filePart("x")}} {
		_, body := form(f, parts...)
		boundary := body[2:strings.Index(body, "\r\n")]
		f.Add(strings.ReplaceAll(body, boundary, "b"))
	}
	f.Fuzz(func(t *testing.T, body string) {
		bundles, tasks := &fakeBundles{}, &fakeTasks{}
		s := &Service{opt: Options{Bundles: bundles, Tasks: tasks, Log: slog.New(slog.DiscardHandler), MaxSize: 1 << 10}}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://bmc"+pushURI, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		reply := s.postPush(&resource.Request{Request: req})
		tasks.running.Wait()
		if _, staged := bundles.Staged(); staged != (reply.Status == http.StatusAccepted) {
			t.Errorf("staged %v: %+v", staged, reply)
		}
		if !s.taking.TryLock() {
			t.Error("still taking")
		}
	})
}
