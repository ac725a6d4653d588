package media

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/media"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/resource"
)

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
	f := &files{Plain: protocol.Plain{User: user, Log: s.opt.Log}, s: s, uploading: map[string]bool{}}
	const secret = resource.ConfigureManager
	mux := http.NewServeMux()
	mux.Handle("/", f.Methods())
	mux.Handle(media.LibraryPath+"{$}", f.Methods(protocol.PlainMethod{Name: "GET", Need: resource.Login, Do: f.list}))
	mux.Handle(media.LibraryPath+"{name}", f.Methods(protocol.PlainMethod{Name: "GET", Need: secret, Do: f.get},
		protocol.PlainMethod{Name: "PUT", Need: secret, Do: f.put}, protocol.PlainMethod{Name: "DELETE", Need: secret, Do: f.delete}))
	return mux
}

type files struct {
	protocol.Plain
	s *Service

	mu        sync.Mutex
	uploading map[string]bool // by the image's name
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
		f.Fail(w, f.problem(err, ""))
		return
	}
	all := struct {
		Images []imageEntry `json:"images"`
	}{[]imageEntry{}}
	for _, i := range images {
		all.Images = append(all.Images, newEntry(i))
	}
	f.Send(w, http.StatusOK, all)
}

func (f *files) get(w http.ResponseWriter, r *http.Request, _ host.Origin) {
	name := r.PathValue("name")
	file, image, err := f.s.opt.Library.OpenImage(name)
	if err != nil {
		f.Fail(w, f.problem(err, name))
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
		f.Fail(w, message.HeaderInvalid("Content-Range", http.StatusBadRequest))
		return
	}
	if !f.claim(name) {
		f.Fail(w, message.ResourceInUse())
		return
	}
	defer f.release(name)
	images, err := f.s.opt.Library.Images()
	if err != nil {
		f.Fail(w, f.problem(err, name))
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
		f.Fail(w, message.PreconditionFailed())
		return
	}
	image, err := f.s.opt.Library.Put(name, r.Body, r.ContentLength, from)
	if err != nil {
		f.Fail(w, f.problem(err, name))
		return
	}
	w.Header().Set("ETag", tag(image))
	if was != nil {
		f.Send(w, http.StatusOK, newEntry(image))
		return
	}
	w.Header().Set("Location", media.LibraryPath+name)
	f.Send(w, http.StatusCreated, newEntry(image))
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
		f.Fail(w, f.problem(err, name))
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
