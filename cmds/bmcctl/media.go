package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/internal/progress"
)

// libraryURI is where nitrino keeps uploaded images. It is none of Redfish's, so
// other services do not have it.
const libraryURI = "/media/"

func mediaCommands() []command {
	return []command{
		{name: "media list", help: "show the virtual drives and what is in them", setup: plain(listMedia)},
		{name: "media insert", args: "FILE|URL|NAME", help: "put an image into a drive: a file is uploaded, a URL is read by the board, a NAME is an image uploaded before", setup: insertMedia},
		{name: "media eject", args: "[DRIVE]", help: "take the image out of a drive", setup: plain(ejectMedia)},
		{name: "media images", help: "show the uploaded images", setup: plain(listImages)},
		{name: "media upload", args: "FILE", help: "upload an image without inserting it", setup: uploadImage},
		{name: "media rm", args: "NAME", help: "delete an uploaded image", setup: plain(removeImage)},
	}
}

// A drive is a VirtualMedia resource.
type drive struct {
	URI              string `json:"@odata.id"`
	ID               string `json:"Id"`
	Name             string
	MediaTypes       []string
	Image, ImageName string
	Inserted         *bool
	WriteProtected   *bool
	ConnectedVia     string
	Actions          struct {
		Insert action `json:"#VirtualMedia.InsertMedia"`
		Eject  action `json:"#VirtualMedia.EjectMedia"`
	}
}

// inserted: older services only name the image.
func (d drive) inserted() bool {
	if d.Inserted != nil {
		return *d.Inserted
	}
	return d.Image != ""
}

// drives finds them at the system, or at the manager, as older services have it.
func (p *program) drives(c *client) ([]drive, error) {
	s, err := p.system(c)
	if err != nil {
		return nil, err
	}
	uri := s.VirtualMedia.URI
	if uri == "" {
		m, err := p.manager(c)
		if err != nil {
			return nil, err
		}
		uri = m.VirtualMedia.URI
	}
	all, err := members[drive](c, uri)
	if err != nil {
		return nil, fmt.Errorf("virtual media: %w", err)
	}
	return all, nil
}

// A driveRow is one of media list.
type driveRow struct {
	Drive          string   `json:"drive"`
	Types          []string `json:"types"`
	Inserted       bool     `json:"inserted"`
	Image          string   `json:"image,omitempty"`
	WriteProtected *bool    `json:"write_protected,omitempty"`
}

func listMedia(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	drives, err := p.drives(c)
	if err != nil {
		return err
	}
	all := []driveRow{}
	for _, d := range drives {
		all = append(all, driveRow{d.ID, d.MediaTypes, d.inserted(), d.Image, d.WriteProtected})
	}
	return p.show(all, func(w io.Writer) {
		row(w, "DRIVE", "TYPES", "INSERTED", "READ-ONLY", "IMAGE")
		for _, d := range all {
			protected := ""
			if d.Inserted && d.WriteProtected != nil {
				protected = yesNo(*d.WriteProtected)
			}
			row(w, d.Drive, strings.Join(d.Types, ","), yesNo(d.Inserted), protected, d.Image)
		}
	})
}

// choose takes the drive of that name; without one, the first empty drive that is
// of the image's kind, or where replace says so the first that is not.
func choose(all []drive, id, image string, replace bool) (drive, error) {
	var ids []string
	for _, d := range all {
		if d.ID == id {
			return d, nil
		}
		ids = append(ids, d.ID)
	}
	if id != "" {
		return drive{}, usagef("there is no drive %q, only %s", id, strings.Join(ids, ", "))
	}
	// The image may be a URL with a query behind its name.
	if u, err := url.Parse(image); err == nil {
		image = u.Path
	}
	disc := strings.EqualFold(filepath.Ext(image), ".iso")
	var full []drive
	for _, d := range all {
		reads := func(kind string) bool { return slices.Contains(d.MediaTypes, kind) }
		fits := disc && (reads("CD") || reads("DVD")) || !disc && reads("USBStick") || len(d.MediaTypes) == 0
		switch {
		case fits && !d.inserted():
			return d, nil
		case fits:
			full = append(full, d)
		}
	}
	if replace && len(full) > 0 {
		return full[0], nil
	}
	return drive{}, fmt.Errorf("no drive for this image is empty: eject first, replace what is in it with -f, or name one of %s with -drive", strings.Join(ids, ", "))
}

// insertBody is InsertMedia's parameters.
type insertBody struct {
	Image          string
	Inserted       bool
	WriteProtected bool
	UserName       string `json:",omitempty"`
	Password       string `json:",omitempty"`
}

func insertMedia(f *flag.FlagSet) call {
	id := f.String("drive", "", "`drive` to use, as media list names it (default: an empty one that suits the image)")
	writable := f.Bool("w", false, "let the host write to it")
	replace := f.Bool("f", false, "eject what is in the drive, and replace an uploaded image of the same name")
	as := f.String("as", "", "`name` of an uploaded file at the board (default: its own)")
	user := f.String("image-user", "", "`user` at the server of the URL; the password is asked, or from BMCCTL_IMAGE_PASSWORD")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		drives, err := p.drives(c)
		if err != nil {
			return err
		}
		d, err := choose(drives, *id, args[0], *replace)
		if err != nil {
			return err
		}
		if d.inserted() && *replace {
			if _, err := c.act(d.Actions.Eject, "media eject", struct{}{}); err != nil {
				return err
			}
		}
		body := insertBody{Inserted: true, WriteProtected: !*writable, UserName: *user}
		if *user != "" {
			if body.Password = p.getenv("BMCCTL_IMAGE_PASSWORD"); body.Password == "" {
				if body.Password, err = p.secret("Password of " + *user + " at the image's server: "); err != nil {
					return err
				}
			}
		}
		if body.Image, err = p.imageOf(ctx, c, args[0], *as, *replace); err != nil {
			return err
		}
		a, err := c.act(d.Actions.Insert, "media insert", body)
		if err != nil {
			return err
		}
		if err := c.settle(ctx, p, a, "media insert"); err != nil {
			return err
		}
		return p.done("%s is in drive %s", args[0], d.ID)
	}
}

// imageOf is what InsertMedia is told of an argument: a URL as it is, a file once it
// is uploaded, else the name of an uploaded image, which /media/NAME is even where a
// file is called so.
func (p *program) imageOf(ctx context.Context, c *client, text, as string, replace bool) (string, error) {
	if strings.Contains(text, "://") {
		return text, nil
	}
	_, err := os.Stat(text)
	switch {
	case err == nil:
		return c.upload(ctx, p, text, as, replace)
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	images, err := c.images(ctx)
	if err != nil {
		return "", fmt.Errorf("%s is no file here, and of uploaded images: %w", text, err)
	}
	name := strings.TrimPrefix(text, libraryURI)
	if !slices.ContainsFunc(images, func(i image) bool { return i.Name == name }) {
		return "", fmt.Errorf("%s is neither a file here nor an uploaded image", text)
	}
	return libraryURI + url.PathEscape(name), nil
}

// upload sends a file to the board's library, under its own name or another, and
// returns its URI there.
func (c *client) upload(ctx context.Context, p *program, file, as string, replace bool) (uri string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", usagef("%s is no plain file", file)
	}
	as = cmp.Or(as, filepath.Base(file))
	uri = libraryURI + url.PathEscape(as)
	meter := progress.Start(p.meter(), "uploading "+filepath.Base(file), info.Size(), "B")
	r, err := c.request(ctx, http.MethodPut, uri, &counted{io.NopCloser(in), meter})
	if err != nil {
		meter.Done(err)
		return "", err
	}
	r.ContentLength = info.Size()
	if info.Size() == 0 {
		r.Body = http.NoBody // else the length would be unknown
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Expect", "100-continue") // a refusal comes before the bytes
	if !replace {
		r.Header.Set("If-None-Match", "*")
	}
	resp, err := c.send(r)
	meter.Done(err)
	switch status(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return "", fmt.Errorf("this service cannot take uploads; give a URL that it can read: %w", errUnsupported)
	case http.StatusPreconditionFailed:
		return "", fmt.Errorf("an image %s is there already: insert it as %s, replace it with -f, or give this one another name with -as", as, uri)
	}
	if err != nil {
		return "", fmt.Errorf("uploading %s: %w", file, err)
	}
	return uri, resp.Body.Close()
}

// counted shows how far a body has been read.
type counted struct {
	io.ReadCloser
	meter *progress.Meter
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.meter.Add(int64(n))
	return n, err
}

func uploadImage(f *flag.FlagSet) call {
	replace := f.Bool("f", false, "replace an image of the same name")
	as := f.String("as", "", "`name` of the image at the board (default: the file's)")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		if _, err := c.upload(ctx, p, args[0], *as, *replace); err != nil {
			return err
		}
		return p.done("%s is uploaded", cmp.Or(*as, filepath.Base(args[0])))
	}
}

func ejectMedia(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	all, err := p.drives(c)
	if err != nil {
		return err
	}
	var some []drive
	for _, d := range all {
		if len(args) == 1 && d.ID == args[0] || len(args) == 0 && d.inserted() {
			some = append(some, d)
		}
	}
	switch {
	case len(some) == 0 && len(args) == 1:
		return usagef("there is no drive %q", args[0])
	case len(some) == 0:
		return p.done("No drive has an image")
	case len(some) > 1:
		return usagef("several drives have an image: say which")
	}
	a, err := c.act(some[0].Actions.Eject, "media eject", struct{}{})
	if err != nil {
		return err
	}
	if err := c.settle(ctx, p, a, "media eject"); err != nil {
		return err
	}
	return p.done("Drive %s is empty", some[0].ID)
}

// An image is an uploaded one, as the library lists it.
type image struct {
	Name     string `json:"name"`
	Size     int64  `json:"size"`
	Modified string `json:"modified"`
	InUse    bool   `json:"in_use"`
}

func (c *client) images(ctx context.Context) ([]image, error) {
	r, err := c.request(ctx, http.MethodGet, libraryURI, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := c.send(r)
	if s := status(err); s == http.StatusNotFound || s == http.StatusMethodNotAllowed {
		return nil, fmt.Errorf("this service keeps no images: %w", errUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	defer resp.Body.Close()
	all := struct {
		Images []image `json:"images"`
	}{[]image{}}
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerLimit)).Decode(&all); err != nil {
		return nil, fmt.Errorf("images: what the service sent cannot be read: %w", err)
	}
	return all.Images, nil
}

func listImages(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	all, err := c.images(ctx)
	if err != nil {
		return err
	}
	return p.show(all, func(w io.Writer) {
		row(w, "NAME", "BYTES", "MODIFIED", "IN USE")
		for _, i := range all {
			row(w, i.Name, i.Size, local(i.Modified), yesNo(i.InUse))
		}
	})
}

func removeImage(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	r, err := c.request(ctx, http.MethodDelete, libraryURI+url.PathEscape(args[0]), nil)
	if err != nil {
		return err
	}
	resp, err := c.send(r)
	if err != nil {
		return fmt.Errorf("deleting %s: %w", args[0], err)
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	return p.done("%s is deleted", args[0])
}
