package storage

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
	"github.com/nitrino/nitrino/redfish/message"
	"github.com/nitrino/nitrino/redfish/protocol"
	"github.com/nitrino/nitrino/redfish/resource"
)

// VolumesPath is where Files is to be served.
const VolumesPath = "/volumes/"

// Files moves what is in volumes, for pages and scripts; the errors are as Redfish's:
//
//	GET    /volumes/      the volumes, as JSON
//	PUT    /volumes/NAME  makes one of the body. The query may have kind (image, which
//	                      is the default, or disk), format (raw, qcow2; by default it
//	                      is looked at), sha256, size and block_size (bytes)
//	GET    /volumes/NAME  its contents; the query may have format (raw or qcow2)
//
// Who waits for 100 Continue (RFC 9110 section 10.1.1) sends nothing in vain.
//
// user tells who sends a request, as Redfish does. To see what there is takes the
// privilege Login, all else what it takes to make a volume, ConfigureComponents.
func (s *Service) Files(user func(*http.Request) (auth.User, *message.Message)) http.Handler {
	f := &files{protocol.Plain{User: user, Log: s.Log}, s}
	const change = resource.ConfigureComponents
	mux := http.NewServeMux()
	mux.Handle("/", f.Methods())
	mux.Handle(VolumesPath+"{$}", f.Methods(protocol.PlainMethod{Name: "GET", Need: resource.Login, Do: f.list}))
	mux.Handle(VolumesPath+"{name}", f.Methods(protocol.PlainMethod{Name: "GET", Need: change, Do: f.get}, protocol.PlainMethod{Name: "PUT", Need: change, Do: f.put}))
	return mux
}

type files struct {
	protocol.Plain
	s *Service
}

// A volumeEntry is one of the list, or the answer to an upload.
type volumeEntry struct {
	block.Info
	Path    string `json:"path"`
	Redfish string `json:"redfish"`
}

func newEntry(i block.Info) volumeEntry {
	return volumeEntry{i, VolumesPath + i.Name, volumeURI(i.Name)}
}

func (f *files) list(w http.ResponseWriter, _ *http.Request, _ host.Origin) {
	all := struct {
		Volumes []volumeEntry `json:"volumes"`
	}{[]volumeEntry{}}
	for _, i := range f.s.Disks.List() {
		all.Volumes = append(all.Volumes, newEntry(i))
	}
	f.Send(w, http.StatusOK, all)
}

// A body is the body of a download, whose headers are sent with its first bytes:
// until then an error can be answered.
type body struct {
	w     http.ResponseWriter
	begun bool
}

func (b *body) Write(p []byte) (int, error) {
	b.begun = true
	return b.w.Write(p)
}

func (f *files) get(w http.ResponseWriter, r *http.Request, _ host.Origin) {
	name := r.PathValue("name")
	query, problem := queries(r, "format")
	format := query["format"]
	if format == "" {
		format = "raw"
	}
	if problem == nil && !slices.Contains(formats(), format) {
		problem = new(message.QueryParameterValueError("format"))
	}
	if problem != nil {
		f.Fail(w, *problem)
		return
	}
	i, err := f.s.Disks.Get(name)
	if err != nil {
		f.Fail(w, f.s.problem(err, name))
		return
	}
	h := w.Header()
	if r.Method == http.MethodHead {
		describe(h, i, format)
		return
	}
	if !f.s.Disks.Up() {
		f.Fail(w, message.TemporarilyUnavailable())
		return
	}
	describe(h, i, format)
	b := &body{w: w}
	err = f.s.Disks.Export(r.Context(), name, format, b)
	switch {
	case err == nil:
	case b.begun:
		f.Log.Info("an export ended early", "volume", name, "error", err)
		f.Break(w)
	default:
		for _, each := range []string{"Content-Length", "Content-Disposition"} {
			h.Del(each)
		}
		f.Fail(w, f.s.problem(err, name))
	}
}

// describe sets the headers of a download. Nobody knows how long qcow2 gets.
func describe(h http.Header, i block.Info, format string) {
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", "attachment; filename="+strconv.Quote(i.Name+"."+format)) // a name has nothing to escape
	if format == "raw" {
		h.Set("Content-Length", strconv.FormatInt(i.Size, 10))
	}
}

// queries are the parameters of a request's query, of which it may have these, each
// once.
func queries(r *http.Request, known ...string) (map[string]string, *message.Message) {
	all, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, new(message.QueryNotSupportedOnOperation())
	}
	one := map[string]string{}
	for name, values := range all {
		switch {
		case !slices.Contains(known, name):
			return nil, new(message.QueryParameterUnsupported(name))
		case len(values) != 1:
			return nil, new(message.QueryParameterValueError(name))
		}
		one[name] = values[0]
	}
	return one, nil
}

// newImport is what the query of an upload asks for.
func newImport(r *http.Request) (block.ImportRequest, *message.Message) {
	query, problem := queries(r, "kind", "format", "sha256", "size", "block_size")
	if problem != nil {
		return block.ImportRequest{}, problem
	}
	req := block.ImportRequest{Name: r.PathValue("name"), Kind: block.Kind(query["kind"]), Format: query["format"], SHA256: query["sha256"], Length: max(r.ContentLength, 0)}
	if req.Kind != "" && !slices.Contains(kinds(), string(req.Kind)) {
		return req, new(message.QueryParameterValueError("kind"))
	}
	if req.Format != "" && !slices.Contains(formats(), req.Format) {
		return req, new(message.QueryParameterValueError("format"))
	}
	var blockSize int64
	for name, to := range map[string]*int64{"size": &req.Size, "block_size": &blockSize} {
		text, given := query[name]
		n, err := strconv.ParseInt(text, 10, 64)
		if given && (err != nil || n < 1 || n > maxBytes) {
			return req, new(message.QueryParameterValueError(name))
		}
		*to = n
	}
	if blockSize != 0 && blockSize != 512 && blockSize != 4096 {
		return req, new(message.QueryParameterValueError("block_size"))
	}
	req.BlockSize = int(blockSize)
	return req, nil
}

// put makes a volume of the body. It replaces none.
func (f *files) put(w http.ResponseWriter, r *http.Request, from host.Origin) {
	if r.Header.Get("Content-Range") != "" { // RFC 9110 section 14.4
		f.Fail(w, message.HeaderInvalid("Content-Range", http.StatusBadRequest))
		return
	}
	req, problem := newImport(r)
	if problem != nil {
		f.Fail(w, *problem)
		return
	}
	// What can be told before the body comes is.
	_, missing := f.s.Disks.Get(req.Name)
	switch err := volume.CheckName(req.Name); {
	case err != nil:
		f.Fail(w, f.s.problem(err, req.Name))
		return
	case missing == nil:
		f.Fail(w, f.s.problem(volume.ErrExists, req.Name))
		return
	case !f.s.Disks.Up():
		f.Fail(w, message.TemporarilyUnavailable())
		return
	}
	i, err := f.s.Disks.ImportStream(r.Context(), req, r.Body, from)
	if err != nil {
		f.Fail(w, f.s.problem(err, req.Name))
		return
	}
	w.Header().Set("Location", VolumesPath+i.Name)
	f.Send(w, http.StatusCreated, newEntry(i))
}
