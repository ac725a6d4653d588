package media

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/internal/store"
	"github.com/nitrino/nitrino/media"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/redfishtest"
	"github.com/nitrino/nitrino/redfish/resource"
)

const (
	cdURI  = resource.SystemVirtualMediaURI + "/cd"
	usbURI = resource.ManagerVirtualMediaURI + "/usb"
)

// A fakeDrive takes every image.
type fakeDrive struct {
	name  string
	kinds []host.MediumKind

	mu       sync.Mutex
	now      media.Status
	password string
	from     host.Origin
	err      error
}

func (d *fakeDrive) Name() string             { return d.name }
func (d *fakeDrive) Kinds() []host.MediumKind { return d.kinds }

func (d *fakeDrive) Status() media.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *fakeDrive) Insert(_ context.Context, src media.Source, from host.Origin) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	if d.now.Inserted {
		return media.ErrOccupied
	}
	d.from, d.password = from, src.Password
	d.now = media.Status{Inserted: true, Image: src.Image, Name: src.Image[strings.LastIndexByte(src.Image, '/')+1:], Kind: d.kinds[0], Uploaded: strings.HasPrefix(src.Image, media.LibraryPath),
		WriteProtected: src.WriteProtected, VerifyCertificate: src.VerifyCertificate, UserName: src.UserName}
	return nil
}

func (d *fakeDrive) Eject(_ context.Context, from host.Origin) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	if !d.now.Inserted {
		return media.ErrEmpty
	}
	d.from, d.now = from, media.Status{}
	return nil
}

func (d *fakeDrive) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// waiting are Tasks whose patience never ends.
type waiting struct{ patience time.Duration }

func (w *waiting) Start(q *resource.Request, _ string, patience time.Duration, work resource.Work) *resource.Reply {
	w.patience = patience
	return work(q.Context(), nil)
}

type rig struct {
	*redfishtest.Rig
	t       *testing.T
	s       *Service
	cd, usb *fakeDrive
	tasks   *waiting
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
	r := &rig{t: t, cd: &fakeDrive{name: "cd", kinds: []host.MediumKind{host.MediumCD}}, usb: &fakeDrive{name: "usb", kinds: []host.MediumKind{host.MediumDisk, host.MediumCD}}, tasks: &waiting{}, db: db}
	log := slog.New(slog.DiscardHandler)
	r.s, err = New(Options{Drives: []Drive{r.cd, r.usb}, Tasks: r.tasks, Store: db, Log: log, System: true, Manager: true})
	if err != nil {
		t.Fatal(err)
	}
	service, err := protocol.New(protocol.Options{Auth: redfishtest.NewAuth(), Log: log, Routes: r.s.Routes()})
	if err != nil {
		t.Fatal(err)
	}
	r.Rig = redfishtest.New(t, service)
	return r
}

func (r *rig) get(uri string) redfishtest.Answer {
	r.t.Helper()
	return r.Want(redfishtest.Call{Method: "GET", URI: uri, User: "reader"}, 200)
}

func (r *rig) shows(uri string, want map[string]any) {
	r.t.Helper()
	a := r.get(uri)
	for name, v := range want {
		if got := a.At(name); got != v {
			r.t.Errorf("%s: %s: got %v, want %v", uri, name, got, v)
		}
	}
}

func empty() map[string]any {
	return map[string]any{"Inserted": false, "Image": nil, "ImageName": nil, "WriteProtected": nil, "ConnectedVia": "NotConnected", "TransferMethod": nil, "TransferProtocolType": nil, "UserName": nil, "Password": nil}
}

func TestViews(t *testing.T) {
	r := newRig(t)
	for _, uri := range []string{resource.SystemVirtualMediaURI, resource.ManagerVirtualMediaURI} {
		if a := r.get(uri); a.At("Members@odata.count") != 2.0 || a.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s", a.Header.Get("Allow"), a.Body)
		}
		for name, types := range map[string]string{"cd": "[CD DVD]", "usb": "[USBStick CD DVD]"} {
			a := r.get(uri + "/" + name)
			if got := fmt.Sprint(a.At("MediaTypes")); got != types {
				t.Errorf("%s: got %s, want %s", name, got, types)
			}
			if a.Header.Get("Allow") != "GET, HEAD, PATCH" || a.At("Actions", "#"+insertName, "target") != uri+"/"+name+"/Actions/"+insertName {
				t.Errorf("%s %s", a.Header.Get("Allow"), a.Body)
			}
			r.shows(uri+"/"+name, empty())
		}
	}
	r.Want(redfishtest.Call{Method: "GET", URI: cdURI}, 401, "AccessUnauthorized")
	r.Want(redfishtest.Call{Method: "GET", URI: resource.SystemVirtualMediaURI + "/floppy", User: "reader"}, 404, "InvalidURI")
}

func (r *rig) insert(uri, user, body string, status int, keys ...string) redfishtest.Answer {
	r.t.Helper()
	return r.Want(redfishtest.Call{Method: "POST", URI: uri + "/Actions/" + insertName, User: user, Body: body}, status, keys...)
}

func (r *rig) eject(uri, user string, status int, keys ...string) {
	r.t.Helper()
	r.Want(redfishtest.Call{Method: "POST", URI: uri + "/Actions/" + ejectName, User: user, Body: `{}`}, status, keys...)
}

func TestInsert(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		body string
		want map[string]any
	}{
		// Only who may insert sees the query.
		{`{"Image":"https://example.com/a/boot.iso?x=y"}`, map[string]any{"Inserted": true, "Image": "https://example.com/a/boot.iso", "WriteProtected": true,
			"ConnectedVia": "URI", "TransferMethod": "Stream", "TransferProtocolType": "HTTPS", "UserName": nil, "Password": nil}},
		// What sushy sends.
		{`{"Image":"http://example.com/boot.iso","Inserted":true,"WriteProtected":false,"TransferMethod":"Stream","UserName":"me","Password":"hush"}`,
			map[string]any{"Image": "http://example.com/boot.iso", "ImageName": "boot.iso", "WriteProtected": false, "TransferProtocolType": "HTTP", "UserName": "me", "Password": nil}},
		{`{"Image":"example.com/boot.iso","TransferProtocolType":"HTTPS","UserName":null,"Password":null,"TransferMethod":null}`, map[string]any{"Image": "https://example.com/boot.iso"}},
		{`{"Image":"HTTPS://example.com/boot.iso","TransferProtocolType":"HTTPS"}`, map[string]any{"TransferProtocolType": "HTTPS"}},
		{`{"Image":"/media/my.iso"}`, map[string]any{"Image": "/media/my.iso", "TransferProtocolType": nil, "ConnectedVia": "URI"}},
	} {
		r.insert(cdURI, "admin", c.body, 204)
		r.shows(cdURI, c.want)
		// The same drive, seen from the manager.
		r.shows(resource.ManagerVirtualMediaURI+"/cd", c.want)
		if got := r.Want(redfishtest.Call{Method: "GET", URI: cdURI, User: "admin"}, 200).At("Image"); got != r.cd.Status().Image {
			t.Errorf("an administrator sees %v, want %s", got, r.cd.Status().Image)
		}
		r.shows(usbURI, empty())
		r.insert(resource.ManagerVirtualMediaURI+"/cd", "admin", c.body, 409, "ResourceInUse")
		r.eject(resource.ManagerVirtualMediaURI+"/cd", "admin", 204)
		r.shows(cdURI, empty())
	}
	if r.cd.from.User != "admin" || r.cd.from.Via != resource.Via || r.tasks.patience != patience {
		t.Errorf("from %+v, patience %v", r.cd.from, r.tasks.patience)
	}
	r.eject(cdURI, "admin", 204) // there is nothing in it, as was asked for
}

func TestInsertRefused(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		body, key, related string
	}{
		{`{}`, "ActionParameterMissing", "#/Image"},
		{`{"Image":7}`, "ActionParameterValueTypeError", "#/Image"},
		{`{"Image":""}`, "ActionParameterValueFormatError", "#/Image"},
		{`{"Image":"boot.iso"}`, "ActionParameterValueFormatError", "#/Image"},
		{`{"Image":"nfs://example.com/boot.iso"}`, "ActionParameterValueFormatError", "#/Image"},
		{`{"Image":"file:///etc/passwd"}`, "ActionParameterValueFormatError", "#/Image"},
		{`{"Image":"http://a/b","TransferProtocolType":"NFS"}`, "ActionParameterValueNotInList", "#/TransferProtocolType"},
		{`{"Image":"http://a/b","TransferProtocolType":"HTTPS"}`, "ActionParameterValueConflict", "#/TransferProtocolType"},
		{`{"Image":"http://a/b","TransferMethod":"Upload"}`, "ActionParameterValueNotInList", "#/TransferMethod"},
		{`{"Image":"http://a/b","Inserted":false}`, "ActionParameterValueNotInList", "#/Inserted"},
		{`{"Image":"http://a/b","WriteProtected":"yes"}`, "ActionParameterValueTypeError", "#/WriteProtected"},
		{`{"Image":"http://a/b","MediaType":"CD"}`, "ActionParameterUnknown", "#/MediaType"},
	} {
		a := r.insert(cdURI, "admin", c.body, 400, c.key)
		if got := a.Related(); !slices.Equal(got, []string{c.related}) {
			t.Errorf("%s: about %q, want %q", c.body, got, c.related)
		}
	}
	for _, c := range []struct {
		err    error
		status int
		key    string
	}{
		{media.ErrScheme, 400, "ActionParameterValueFormatError"},
		{media.ErrName, 400, "ActionParameterValueFormatError"},
		{media.ErrOccupied, 409, "ResourceInUse"},
		{media.ErrBusy, 409, "ResourceInUse"},
		{media.ErrInUse, 409, "ResourceInUse"},
		{media.ErrNotFound, 400, "ResourceMissingAtURI"},
		{fmt.Errorf("media: %w", media.ErrUnreachable), 400, "CouldNotEstablishConnection"},
		{media.ErrContent, 400, "ResourceAtUriInUnknownFormat"},
		{media.ErrChanged, 400, "ResourceAtUriInUnknownFormat"},
		{media.ErrFull, 507, "InsufficientStorage"},
		{media.ErrStopped, 503, "ServiceTemporarilyUnavailable"},
		{fmt.Errorf("%w: %w", media.ErrUnreachable, context.Canceled), 502, "OperationFailed"},
		{fmt.Errorf("%w: %w", media.ErrUnreachable, context.DeadlineExceeded), 400, "CouldNotEstablishConnection"},
		{context.DeadlineExceeded, 500, "OperationTimeout"},
		{errors.New("fault"), 500, "InternalError"},
	} {
		r.cd.fail(c.err)
		a := r.insert(cdURI, "admin", `{"Image":"http://me:hush@a/b?key=hush"}`, c.status, c.key)
		if strings.Contains(string(a.Body), "hush") {
			t.Errorf("a secret is told: %s", a.Body)
		}
	}
	r.cd.fail(errors.New("fault"))
	r.eject(cdURI, "admin", 500, "InternalError")
	r.cd.fail(nil)
	for _, user := range []string{"oper", "reader"} {
		r.insert(cdURI, user, `{"Image":"http://a/b"}`, 403, "InsufficientPrivilege")
		r.eject(cdURI, user, 403, "InsufficientPrivilege")
		r.Want(redfishtest.Call{Method: "PATCH", URI: cdURI, User: user, Body: `{"Image":null}`}, 403, "InsufficientPrivilege")
	}
	r.Want(redfishtest.Call{Method: "POST", URI: cdURI + "/Actions/" + ejectName, User: "admin", Body: `{"x":1}`}, 400, "ActionParameterUnknown")
	r.shows(cdURI, empty())
}

func TestPatch(t *testing.T) {
	r := newRig(t)
	const image = "http://example.com/boot.iso"
	in, out := map[string]any{"Inserted": true, "Image": image}, empty()
	for _, c := range []struct {
		body   string
		status int
		key    string
		want   map[string]any
	}{
		{`{"Image":"` + image + `","Inserted":true,"WriteProtected":true}`, 200, "", in},
		{`{"Image":"` + image + `"}`, 200, "", in},
		{`{"Inserted":true}`, 200, "", in},
		{`{"WriteProtected":true}`, 200, "", in},
		{`{"WriteProtected":false}`, 409, "PropertyValueExternalConflict", in},
		{`{"Image":"http://example.com/other.iso"}`, 409, "ResourceInUse", in},
		{`{"Image":"","Inserted":true}`, 400, "PropertyValueConflict", in},
		{`{"Image":"http://a/b","Inserted":false}`, 400, "PropertyValueConflict", in},
		{`{"Image":null,"Inserted":false}`, 200, "", out}, // sushy
		{`{"Image":null}`, 200, "", out},
		{`{"Inserted":true}`, 400, "PropertyValueConflict", out},
		{`{"UserName":"me"}`, 400, "PropertyValueConflict", out},
		{`{"Image":"` + image + `","TransferProtocolType":"HTTPS"}`, 400, "PropertyValueConflict", out},
		{`{"Image":"nfs://a/b"}`, 400, "PropertyValueFormatError", out},
		{`{"Image":7}`, 400, "PropertyValueTypeError", out},
		{`{"ImageName":"x"}`, 400, "PropertyNotWritable", out},
		{`{"Password":7}`, 400, "PropertyValueError", out},
		{`{"Image":"` + image + `","UserName":"me","Password":"hush","TransferProtocolType":"HTTP","TransferMethod":"Stream","WriteProtected":false}`, 200, "",
			map[string]any{"UserName": "me", "Password": nil, "WriteProtected": false}},
		{`{"Image":""}`, 200, "", out},
		{`{}`, 400, "EmptyJSON", out},
	} {
		var keys []string
		if c.key != "" {
			keys = []string{c.key}
		}
		r.Want(redfishtest.Call{Method: "PATCH", URI: cdURI, User: "admin", Body: c.body}, c.status, keys...)
		r.shows(cdURI, c.want)
	}
	if r.cd.password != "hush" {
		t.Errorf("password %q", r.cd.password)
	}
}

func TestVerifyCertificate(t *testing.T) {
	r := newRig(t)
	r.shows(cdURI, map[string]any{"VerifyCertificate": false})
	r.Want(redfishtest.Call{Method: "PATCH", URI: cdURI, User: "admin", Body: `{"VerifyCertificate":true}`}, 200)
	r.shows(cdURI, map[string]any{"VerifyCertificate": true})
	r.shows(usbURI, map[string]any{"VerifyCertificate": false})
	r.insert(cdURI, "admin", `{"Image":"https://a/b"}`, 204)
	if !r.cd.Status().VerifyCertificate {
		t.Error("not verified")
	}
	again, err := New(r.s.opt)
	if err != nil {
		t.Fatal(err)
	}
	if !again.verifies("cd") || again.verifies("usb") {
		t.Error("not kept")
	}
}

// A source that fails is the drive's health.
func TestHealth(t *testing.T) {
	r := newRig(t)
	r.insert(cdURI, "admin", `{"Image":"https://a/b"}`, 204)
	r.cd.mu.Lock()
	r.cd.now.Err = media.ErrUnreachable
	r.cd.mu.Unlock()
	if a := r.get(cdURI); a.At("Status", "Health") != "Warning" || a.At("Status", "State") != "Enabled" {
		t.Errorf("%s", a.Body)
	}
}

func FuzzSettle(f *testing.F) {
	for _, image := range []string{"http://a/b", "nfs://a/b", "a/b", "/media/x", "//a", ":", "http:a"} {
		f.Add(image, "")
		f.Add(image, "HTTPS")
	}
	f.Fuzz(func(t *testing.T, image, protocol string) {
		if protocol != "" && !slices.Contains(protocols(), protocol) {
			return
		}
		r := request{source: media.Source{Image: image}, protocol: protocol}
		if problem := r.settle(insertName); problem != nil {
			return
		}
		if s := schemeOf(r.source.Image); s != "http" && s != "https" && !strings.HasPrefix(r.source.Image, media.LibraryPath) && s != "" {
			t.Errorf("%q with %q is %q", image, protocol, r.source.Image)
		}
	})
}
