package media

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/media"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/resource"
)

// idle is how long a client of a download may let a connection stand still.
const idle = time.Minute

// Files serves the library, for pages and scripts; the errors are as Redfish's:
//
//	GET    /media/      the images, as JSON
//	PUT    /media/NAME  uploads one: the body is the image
//	GET    /media/NAME  downloads it, also in parts (RFC 9110 section 14)
//	DELETE /media/NAME  deletes it
//
// user tells who sends a request, as Redfish does. To see what there is takes the
// privilege Login, all else what it takes to insert an image, ConfigureManager:
// an image may have secrets in it.
func (s *Service) Files(user func(*http.Request) (auth.User, *message.Message)) http.Handler {
	f := &files{s: s, user: user, uploading: map[string]bool{}}
	const secret = resource.ConfigureManager
	mux := http.NewServeMux()
	mux.Handle("/", f.methods())
	mux.Handle(media.LibraryPath+"{$}", f.methods(method{"GET", resource.Login, f.list}))
	mux.Handle(media.LibraryPath+"{name}", f.methods(method{"GET", secret, f.get}, method{"PUT", secret, f.put}, method{"DELETE", secret, f.delete}))
	return mux
}

type files struct {
	s    *Service
	user func(*http.Request) (auth.User, *message.Message)

	mu        sync.Mutex
	uploading map[string]bool // by the image's name
}

// A method is one that a URI has. GET answers HEAD, too.
type method struct {
	name string
	need resource.Privilege
	do   func(http.ResponseWriter, *http.Request, host.Origin)
}

// methods answers at a URI; one without methods does not exist. It lifts the
// server's limits of time, which are for short requests, and bounds how long
// nothing comes or goes instead.
func (f *files) methods(all ...method) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		// A page of another origin must not use Basic credentials that the browser
		// keeps.
		if err := new(http.CrossOriginProtection).Check(r); err != nil {
			f.fail(w, message.GeneralError(http.StatusForbidden, "Send the request from a page of this service, or with a client that is no web browser."))
			return
		}
		var m *method
		var names []string
		for _, each := range all {
			names = append(names, each.name)
			if each.name == r.Method || each.name == "GET" && r.Method == "HEAD" {
				m = &each
			}
		}
		u, problem := f.user(r)
		switch {
		case problem != nil:
			f.fail(w, *problem)
			return
		case u.PasswordChangeRequired:
			f.fail(w, message.PasswordChangeRequired(resource.AccountURI(u)))
			return
		case all == nil:
			f.fail(w, message.InvalidURI(r.URL.Path))
			return
		case m == nil:
			h.Set("Allow", "HEAD, "+strings.Join(names, ", "))
			f.fail(w, message.OperationNotAllowed())
			return
		case resource.PrivilegesOf(u.Role)&m.need == 0:
			f.fail(w, message.InsufficientPrivilege())
			return
		}
		c := http.NewResponseController(w)
		if r.Method != "PUT" {
			// The server would take it for the client's end.
			if err := ahead(c.SetReadDeadline, 0); err != nil {
				return // the client has gone
			}
		}
		r.Body = protocol.PacedBody(r.Body, c)
		m.do(download{w, c}, r, (&resource.Request{Request: r, User: u}).Origin())
	})
}

// A download is an answer that may take any time, as long as it goes on.
type download struct {
	http.ResponseWriter
	c *http.ResponseController
}

func (d download) WriteHeader(status int) {
	// What the connection cannot do, a write will tell.
	_ = ahead(d.c.SetWriteDeadline, idle)
	d.ResponseWriter.WriteHeader(status)
}

func (d download) Write(p []byte) (int, error) {
	if err := ahead(d.c.SetWriteDeadline, idle); err != nil {
		return 0, err
	}
	return d.ResponseWriter.Write(p)
}

// ahead sets a deadline, or none for 0, where the connection has such.
func ahead(set func(time.Time) error, d time.Duration) error {
	var at time.Time
	if d > 0 {
		at = time.Now().Add(d)
	}
	if err := set(at); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// An imageEntry is one of the list, or the answer to an upload.
type imageEntry struct {
	Name     string    `json:"name"`
	Path     string    `json:"path"`
	Size     int64     `json:"size"` // bytes
	Modified time.Time `json:"modified"`
	InUse    bool      `json:"in_use"`
}

func newEntry(i media.Image) imageEntry {
	return imageEntry{i.Name, media.LibraryPath + i.Name, i.Size, i.Modified.UTC().Truncate(time.Second), i.InUse}
}

func (f *files) list(w http.ResponseWriter, r *http.Request, _ host.Origin) {
	images, err := f.s.opt.Library.Images()
	if err != nil {
		f.fail(w, f.problem(err, ""))
		return
	}
	all := struct {
		Images []imageEntry `json:"images"`
	}{[]imageEntry{}}
	for _, i := range images {
		all.Images = append(all.Images, newEntry(i))
	}
	f.send(w, http.StatusOK, all)
}

func (f *files) get(w http.ResponseWriter, r *http.Request, _ host.Origin) {
	name := r.PathValue("name")
	file, image, err := f.s.opt.Library.OpenImage(name)
	if err != nil {
		f.fail(w, f.problem(err, name))
		return
	}
	defer func() {
		if err := file.Close(); err != nil {
			f.s.opt.Log.Warn("closing an image", "name", name, "error", err)
		}
	}()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", "attachment; filename="+strconv.Quote(name)) // a name has nothing to escape
	h.Set("ETag", tag(image))
	http.ServeContent(w, r, "", image.Modified, file)
}

// tag is an image's entity tag: an upload changes its time.
func tag(i media.Image) string { return fmt.Sprintf(`"%x-%x"`, i.Size, i.Modified.UnixNano()) }

// put uploads. With If-None-Match: * it replaces nothing (RFC 9110 section
// 13.1.2).
func (f *files) put(w http.ResponseWriter, r *http.Request, from host.Origin) {
	name := r.PathValue("name")
	if r.Header.Get("Content-Range") != "" { // RFC 9110 section 14.4
		f.fail(w, message.HeaderInvalid("Content-Range", http.StatusBadRequest))
		return
	}
	if !f.claim(name) {
		f.fail(w, message.ResourceInUse())
		return
	}
	defer f.release(name)
	images, err := f.s.opt.Library.Images()
	if err != nil {
		f.fail(w, f.problem(err, name))
		return
	}
	var was *media.Image
	for _, i := range images {
		if i.Name == name {
			was = &i
		}
	}
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case none != "" && was != nil && (none == "*" || none == tag(*was)),
		match != "" && (was == nil || match != "*" && match != tag(*was)):
		f.fail(w, message.PreconditionFailed())
		return
	}
	image, err := f.s.opt.Library.Put(name, r.Body, r.ContentLength, from)
	if err != nil {
		f.fail(w, f.problem(err, name))
		return
	}
	w.Header().Set("ETag", tag(image))
	if was != nil {
		f.send(w, http.StatusOK, newEntry(image))
		return
	}
	w.Header().Set("Location", media.LibraryPath+name)
	f.send(w, http.StatusCreated, newEntry(image))
}

// claim makes an upload the only one of its name; false: there is one already.
func (f *files) claim(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uploading[name] {
		return false
	}
	f.uploading[name] = true
	return true
}

func (f *files) release(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.uploading, name)
}

func (f *files) delete(w http.ResponseWriter, r *http.Request, from host.Origin) {
	name := r.PathValue("name")
	if err := f.s.opt.Library.Remove(name, from); err != nil {
		f.fail(w, f.problem(err, name))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// problem is the message for an error of the library.
func (f *files) problem(err error, name string) message.Message {
	switch {
	case errors.Is(err, media.ErrNotFound):
		return message.ResourceNotFound("image", name)
	case errors.Is(err, media.ErrName):
		return message.GeneralError(http.StatusBadRequest, sentence(err))
	case errors.Is(err, media.ErrContent):
		return message.GeneralError(http.StatusBadRequest, sentence(err)+" Send all of it again.")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return message.GeneralError(http.StatusRequestTimeout, "Nothing came for a while. Send all of it again.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return message.GeneralError(http.StatusBadRequest, "The upload ended early. Send all of it again.")
	case errors.Is(err, media.ErrInUse):
		m := message.ResourceInUse()
		m.Resolution = sentence(err) + " Eject it first, and resubmit the request."
		return m
	}
	return f.s.problem(err, name, "")
}

func (f *files) fail(w http.ResponseWriter, m message.Message) {
	if m.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Redfish", charset="UTF-8"`)
	}
	if m.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(m.RetryAfter))
	}
	body, err := message.ErrorBody([]message.Message{m})
	if err != nil {
		f.s.opt.Log.Error("media reply", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	f.write(w, m.Status, body)
}

func (f *files) send(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		f.s.opt.Log.Error("media reply", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	f.write(w, status, body)
}

func (f *files) write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		f.s.opt.Log.Debug("client went away", "error", err)
	}
}
