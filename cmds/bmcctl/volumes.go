package main

import (
	"cmp"
	"context"
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
	"strconv"
	"strings"
	"time"

	"github.com/stmcginnis/gofish/common"
	"golang.org/x/term"

	"github.com/nitrino/nitrino/internal/bytesize"
	"github.com/nitrino/nitrino/internal/progress"
)

// volumesURI is where nitrino takes and gives what is in volumes. It is none of
// Redfish's, so other services do not have it.
const volumesURI = "/volumes/"

func volumeCommands() []command {
	return []command{
		{name: "volume list", help: "show the volumes", setup: plain(listVolumes)},
		{name: "volume show", args: "NAME", help: "show all that is known of a volume", setup: plain(showVolume)},
		{name: "volume create", args: "NAME [SIZE]", help: "make an empty volume, a clone, or one on an NBD server", setup: createVolume},
		{name: "volume clone", args: "VOLUME NAME", help: "make a clone of an image or a snapshot: only what differs takes room", setup: plain(cloneVolume)},
		{name: "volume resize", args: "NAME SIZE", help: "let a volume grow, also while a host uses it", setup: plain(resizeVolume)},
		{name: "volume snapshot", args: "NAME SNAPSHOT", help: "keep how a volume is now, under another name", setup: plain(snapshotVolume)},
		{name: "volume revert", args: "NAME SNAPSHOT", help: "make a volume what it was when a snapshot of it was taken", setup: plain(revertVolume)},
		{name: "volume rename", args: "NAME NEW", help: "give a volume another name", setup: plain(renameVolume)},
		{name: "volume delete", args: "NAME", help: "delete a volume that no target shows, with all that is in it", setup: plain(deleteVolume)},
		{name: "volume import", args: "NAME FILE|URL|-", help: "make a volume of a file, which is uploaded, of a URL, which the board reads, or of the standard input", setup: importVolume},
		{name: "volume export", args: "NAME FILE|-", help: "write what a volume holds into a file, or to the standard output", setup: exportVolume},
		{name: "volume verify", args: "NAME", help: "let the board read an image, and compare it with how it was at first", setup: plain(verifyVolume)},
	}
}

// A volumeStore is a Storage that has volumes.
type volumeStore struct {
	ID      string `json:"Id"`
	Volumes link
	Actions struct {
		Oem struct {
			Import action `json:"#NitrinoStorage.Import"`
		}
	}
}

// A volume is a resource of Swordfish's schema Volume.
type volume struct {
	URI                string `json:"@odata.id"`
	ID                 string `json:"Id"`
	Name, DisplayName  string
	CapacityBytes      *int64
	BlockSizeBytes     int64
	OptimumIOSizeBytes int64
	Capacity           struct {
		Data struct{ AllocatedBytes *int64 }
	}
	Identifiers []struct{ DurableName, DurableNameFormat string }
	Status      common.Status
	Connections []link
	Oem         struct {
		Nitrino struct {
			Kind, Format, Created, Source, Upstream, Failed string
			SnapshotOf, CloneOf                             string
		}
	}
	Actions struct {
		Replica action `json:"#Volume.CreateReplicaTarget"`
		Check   action `json:"#Volume.CheckConsistency"`
		Oem     struct {
			Revert action `json:"#NitrinoVolume.Revert"`
		}
	}
}

// stores finds where the system's volumes are.
func (p *program) stores(c *client) ([]volumeStore, error) {
	s, err := p.system(c)
	if err != nil {
		return nil, err
	}
	all, err := members[volumeStore](c, s.Storage.URI)
	if err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	all = slices.DeleteFunc(all, func(s volumeStore) bool { return s.Volumes.URI == "" })
	if len(all) == 0 {
		return nil, fmt.Errorf("volumes: %w", errUnsupported)
	}
	return all, nil
}

// store is where new volumes are made: the board's own, else the only one.
func (p *program) store(c *client) (volumeStore, error) {
	all, err := p.stores(c)
	if err != nil {
		return volumeStore{}, err
	}
	if i := slices.IndexFunc(all, func(s volumeStore) bool { return s.Actions.Oem.Import.Target != "" }); i >= 0 {
		return all[i], nil
	}
	if len(all) > 1 {
		return volumeStore{}, fmt.Errorf("the service has volumes in several places, and none of them is the board's: %w", errUnsupported)
	}
	return all[0], nil
}

func (p *program) volumes(c *client) ([]volume, error) {
	stores, err := p.stores(c)
	if err != nil {
		return nil, err
	}
	var all []volume
	for _, s := range stores {
		some, err := members[volume](c, s.Volumes.URI)
		if err != nil {
			return nil, fmt.Errorf("volumes of %s: %w", s.ID, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// volume finds one by its name, or else its Id.
func (p *program) volume(ctx context.Context, name string) (*client, volume, error) {
	c, err := p.connect(ctx)
	if err != nil {
		return nil, volume{}, err
	}
	all, err := p.volumes(c)
	if err != nil {
		return nil, volume{}, err
	}
	for _, is := range []func(volume) bool{
		func(v volume) bool { return v.Name == name },
		func(v volume) bool { return v.ID == name },
	} {
		if i := slices.IndexFunc(all, is); i >= 0 {
			return c, all[i], nil
		}
	}
	return nil, volume{}, fmt.Errorf("there is no volume %q", name)
}

// A volumeRow is one of volume list, and what volume show prints.
type volumeRow struct {
	Name         string   `json:"name"`
	Kind         string   `json:"kind,omitempty"`
	Format       string   `json:"format,omitempty"`
	UUID         string   `json:"uuid,omitempty"`
	Size         *int64   `json:"size"`
	Used         *int64   `json:"used"`
	BlockSize    int64    `json:"block_size,omitempty"`
	PhysicalSize int64    `json:"physical_size,omitempty"`
	SnapshotOf   string   `json:"snapshot_of,omitempty"`
	CloneOf      string   `json:"clone_of,omitempty"`
	Source       string   `json:"source,omitempty"`
	Upstream     string   `json:"upstream,omitempty"`
	Created      string   `json:"created,omitempty"`
	Health       string   `json:"health"`
	Failed       string   `json:"failed,omitempty"`
	Targets      []string `json:"targets"`
	URI          string   `json:"uri"`
}

func (v volume) row() volumeRow {
	n := v.Oem.Nitrino
	r := volumeRow{
		Name: cmp.Or(v.Name, v.ID), Kind: n.Kind, Format: n.Format, Size: v.CapacityBytes, Used: v.Capacity.Data.AllocatedBytes,
		BlockSize: v.BlockSizeBytes, PhysicalSize: v.OptimumIOSizeBytes, SnapshotOf: n.SnapshotOf, CloneOf: n.CloneOf, Source: n.Source, Upstream: n.Upstream,
		Created: n.Created, Health: string(v.Status.Health), Failed: n.Failed, Targets: []string{}, URI: v.URI,
	}
	for _, i := range v.Identifiers {
		if i.DurableNameFormat == "UUID" {
			r.UUID = i.DurableName
		}
	}
	for _, l := range v.Connections {
		r.Targets = append(r.Targets, lastOf(l.URI))
	}
	return r
}

// lastOf is the Id of a resource in a collection, which its URI ends with.
func lastOf(uri string) string {
	name, err := url.PathUnescape(uri[strings.LastIndexByte(uri, '/')+1:])
	if err != nil {
		return uri
	}
	return name
}

// sizeText is a size for people; nil: the service does not tell.
func sizeText(n *int64) string {
	if n == nil {
		return ""
	}
	return bytesize.Format(*n)
}

func listVolumes(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	some, err := p.volumes(c)
	if err != nil {
		return err
	}
	all := []volumeRow{}
	for _, v := range some {
		all = append(all, v.row())
	}
	return p.show(all, func(w io.Writer) {
		row(w, "NAME", "KIND", "SIZE", "USED", "MADE OF", "HEALTH")
		for _, v := range all {
			row(w, v.Name, v.Kind, sizeText(v.Size), sizeText(v.Used), cmp.Or(v.SnapshotOf, v.CloneOf, v.Upstream), v.Health)
		}
	})
}

func showVolume(ctx context.Context, p *program, args []string) error {
	_, found, err := p.volume(ctx, args[0])
	if err != nil {
		return err
	}
	v := found.row()
	return p.show(v, func(w io.Writer) {
		for _, f := range []struct {
			name  string
			value any
		}{
			{"Name", v.Name}, {"Kind", v.Kind}, {"Format", v.Format}, {"UUID", v.UUID}, {"Size", sizeText(v.Size)}, {"Used", sizeText(v.Used)},
			{"Block size", cmp.Or(v.BlockSize, v.PhysicalSize)}, {"Physical block size", v.PhysicalSize}, {"Snapshot of", v.SnapshotOf}, {"Clone of", v.CloneOf},
			{"Source", v.Source}, {"Upstream", v.Upstream}, {"Created", local(v.Created)}, {"Health", v.Health}, {"Failed", v.Failed}, {"Targets", strings.Join(v.Targets, " ")},
		} {
			field(w, f.name, f.value)
		}
	})
}

// parseSize reads a size that is greater than nothing.
func parseSize(text string) (int64, error) {
	n, err := bytesize.Parse(text)
	if err != nil {
		return 0, usagef("%v", err)
	}
	if n == 0 {
		return 0, usagef("a volume has at least one block")
	}
	return n, nil
}

// A newVolume is what a volume is made of.
type newVolume struct {
	Name               string
	CapacityBytes      int64             `json:",omitempty"`
	BlockSizeBytes     int64             `json:",omitempty"`
	AccessCapabilities []string          `json:",omitempty"`
	ReplicaInfo        *replicaInfo      `json:",omitempty"`
	Oem                map[string]oemNew `json:",omitempty"`
}

type replicaInfo struct {
	ReplicaType string
	Replica     link
}

type oemNew struct{ Upstream string }

func createVolume(f *flag.FlagSet) call {
	from := f.String("from", "", "`volume` to clone: an image or a snapshot")
	upstream := f.String("upstream", "", "`URI` of what an NBD server has: nbd://HOST/EXPORT, nbds:// with TLS")
	readOnly := f.Bool("read-only", false, "with -upstream: an image, which is never written")
	blocks := f.Int64("block", 0, "`bytes` of the blocks that a host sees: 512 or 4096 (default: 512, or those of what it is made of)")
	return func(ctx context.Context, p *program, args []string) error {
		body := newVolume{Name: args[0], BlockSizeBytes: *blocks}
		if len(args) == 2 {
			var err error
			if body.CapacityBytes, err = parseSize(args[1]); err != nil {
				return err
			}
		}
		switch {
		case *from != "" && *upstream != "":
			return usagef("-from and -upstream exclude each other")
		case *readOnly && *upstream == "":
			return usagef("-read-only goes with -upstream")
		case len(args) == 1 && *from == "" && *upstream == "":
			return usagef("an empty volume needs a SIZE")
		}
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		if *from != "" {
			_, v, err := p.volume(ctx, *from)
			if err != nil {
				return err
			}
			body.ReplicaInfo = &replicaInfo{"Clone", link{v.URI}}
		}
		if *upstream != "" {
			body.Oem = map[string]oemNew{"Nitrino": {*upstream}}
		}
		if *readOnly {
			body.AccessCapabilities = []string{"Read"}
		}
		s, err := p.store(c)
		if err != nil {
			return err
		}
		a, err := c.call(http.MethodPost, s.Volumes.URI, body, nil)
		if err != nil {
			return err
		}
		if err := c.settle(ctx, p, a, "volume create"); err != nil {
			return err
		}
		return p.done("Volume %s is made", body.Name)
	}
}

// replicate makes a snapshot or a clone of a volume.
func (p *program) replicate(ctx context.Context, what, of, name string) error {
	c, v, err := p.volume(ctx, of)
	if err != nil {
		return err
	}
	// The schema wants the mode, which means nothing for a copy of one moment.
	a, err := c.act(v.Actions.Replica, "volume "+strings.ToLower(what), struct{ VolumeName, ReplicaType, ReplicaUpdateMode string }{name, what, "Synchronous"})
	if err != nil {
		return err
	}
	if err := c.settle(ctx, p, a, what+" of "+of); err != nil {
		return err
	}
	return p.done("%s is a %s of %s", name, strings.ToLower(what), of)
}

func cloneVolume(ctx context.Context, p *program, args []string) error {
	return p.replicate(ctx, "Clone", args[0], args[1])
}

func snapshotVolume(ctx context.Context, p *program, args []string) error {
	return p.replicate(ctx, "Snapshot", args[0], args[1])
}

func resizeVolume(ctx context.Context, p *program, args []string) error {
	size, err := parseSize(args[1])
	if err != nil {
		return err
	}
	c, v, err := p.volume(ctx, args[0])
	if err != nil {
		return err
	}
	if err := c.patch(v.URI, struct{ CapacityBytes int64 }{size}); err != nil {
		return err
	}
	return p.done("%s has %s", args[0], bytesize.Format(size))
}

func renameVolume(ctx context.Context, p *program, args []string) error {
	c, v, err := p.volume(ctx, args[0])
	if err != nil {
		return err
	}
	if err := c.patch(v.URI, struct{ DisplayName string }{args[1]}); err != nil {
		return err
	}
	return p.done("%s is called %s", args[0], args[1])
}

func revertVolume(ctx context.Context, p *program, args []string) error {
	_, snapshot, err := p.volume(ctx, args[1])
	if err != nil {
		return err
	}
	c, v, err := p.volume(ctx, args[0])
	if err != nil {
		return err
	}
	a, err := c.act(v.Actions.Oem.Revert, "volume revert", struct{ Snapshot link }{link{snapshot.URI}})
	if err != nil {
		return err
	}
	if err := c.settle(ctx, p, a, "volume revert"); err != nil {
		return err
	}
	return p.done("%s is what it was as %s", args[0], args[1])
}

func deleteVolume(ctx context.Context, p *program, args []string) error {
	c, v, err := p.volume(ctx, args[0])
	if err != nil {
		return err
	}
	a, err := c.call(http.MethodDelete, v.URI, nil, nil)
	if err != nil {
		return err
	}
	if err := c.settle(ctx, p, a, "volume delete"); err != nil {
		return err
	}
	return p.done("%s is deleted", args[0])
}

func verifyVolume(ctx context.Context, p *program, args []string) error {
	c, v, err := p.volume(ctx, args[0])
	if err != nil {
		return err
	}
	a, err := c.act(v.Actions.Check, "volume verify", struct{}{})
	if err != nil {
		return err
	}
	if err := c.settle(ctx, p, a, "verifying "+args[0]); err != nil {
		return err
	}
	return p.done("%s is as it was at first", args[0])
}

// An importBody is what NitrinoStorage.Import is told.
type importBody struct {
	Name, ImageURI string
	Kind           string `json:",omitempty"`
	Format         string `json:",omitempty"`
	SHA256         string `json:",omitempty"`
	CapacityBytes  int64  `json:",omitempty"`
	BlockSizeBytes int64  `json:",omitempty"`
}

// query is the same for an upload.
func (b importBody) query() string {
	q := url.Values{}
	for name, value := range map[string]string{"kind": b.Kind, "format": b.Format, "sha256": b.SHA256} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range map[string]int64{"size": b.CapacityBytes, "block_size": b.BlockSizeBytes} {
		if value != 0 {
			q.Set(name, strconv.FormatInt(value, 10))
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func importVolume(f *flag.FlagSet) call {
	disk := f.Bool("disk", false, "make a disk, which may be written (default: an image)")
	format := f.String("format", "", "`format` of the data: raw or qcow2 (default: the board looks at it)")
	digest := f.String("sha256", "", "`digest` that the file has to have, as 64 hexadecimal digits")
	size := f.String("size", "", "`size` of the volume, as in 10G (default: that of the data)")
	blocks := f.Int64("block", 0, "`bytes` of the blocks that a host sees: 512 or 4096 (default: 512)")
	nowait := f.Bool("n", false, "do not follow the import of a URL")
	return func(ctx context.Context, p *program, args []string) error {
		body := importBody{Name: args[0], Format: *format, SHA256: strings.ToLower(*digest), BlockSizeBytes: *blocks}
		if *disk {
			body.Kind = "disk"
		}
		if *size != "" {
			var err error
			if body.CapacityBytes, err = parseSize(*size); err != nil {
				return err
			}
		}
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		switch {
		case strings.Contains(args[1], "://"):
			body.ImageURI = args[1]
			err = p.importURL(ctx, c, body, *nowait)
			if err == nil && *nowait {
				return p.done("The import of %s has begun", body.Name)
			}
		case args[1] == "-":
			in := interruptible(ctx, p.stdin)
			err = errors.Join(c.importFrom(ctx, p, body, in, -1, "the standard input"), in.Close())
		default:
			err = p.importFile(ctx, c, body, args[1])
		}
		if err != nil {
			return err
		}
		return p.done("Volume %s is made", body.Name)
	}
}

func (p *program) importFile(ctx context.Context, c *client, body importBody, file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return usagef("%s is no plain file", file)
	}
	return c.importFrom(ctx, p, body, io.NopCloser(in), info.Size(), filepath.Base(file))
}

// interruptible reads r, until ctx ends at most: a request waits for the reading of its
// body. That of the standard input cannot be ended by anybody, so nobody waits for it;
// it ends with the input's next bytes, or with the program.
func interruptible(ctx context.Context, r io.Reader) io.ReadCloser {
	out, in := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = in.CloseWithError(context.Cause(ctx)) }) // never fails
	go func() {
		defer stop()
		_, err := io.Copy(in, r)
		_ = in.CloseWithError(err) // never fails; nil is the end of the data
	}()
	return out
}

// importFrom streams a volume's data to the board; length -1: nobody knows. One that
// breaks off leaves nothing there.
func (c *client) importFrom(ctx context.Context, p *program, body importBody, data io.ReadCloser, length int64, what string) error {
	meter := progress.Start(p.meter(), "uploading "+what, length, "B")
	r, err := c.request(ctx, http.MethodPut, volumesURI+url.PathEscape(body.Name)+body.query(), &counted{data, meter})
	if err != nil {
		meter.Done(err)
		return err
	}
	r.ContentLength = length
	if length == 0 {
		r.Body = http.NoBody // else the length would be unknown
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Expect", "100-continue") // a refusal comes before the bytes
	resp, err := c.send(r)
	meter.Done(err)
	if s := status(err); s == http.StatusNotFound || s == http.StatusMethodNotAllowed || s == http.StatusNotImplemented {
		return fmt.Errorf("this service cannot take volumes: %w", errUnsupported)
	}
	if err != nil {
		return fmt.Errorf("uploading %s: %w", what, err)
	}
	return resp.Body.Close()
}

// importURL lets the board read the file. Who interrupts the following is asked
// whether the import shall end, too.
func (p *program) importURL(ctx context.Context, c *client, body importBody, nowait bool) error {
	s, err := p.store(c)
	if err != nil {
		return err
	}
	a, err := c.act(s.Actions.Oem.Import, "volume import", body)
	if err != nil || nowait || a.status != http.StatusAccepted {
		return err
	}
	t, err := c.follow(ctx, p, a, "importing "+body.Name)
	if ctx.Err() == nil || t == nil || t.URI == "" || !p.terminal {
		return err
	}
	if agreed, bad := p.confirm("End the import, too?"); bad != nil || !agreed {
		return errors.Join(err, bad)
	}
	if bad := c.endTask(context.WithoutCancel(ctx), t.URI); bad != nil {
		p.note("note: the import goes on: %v", bad)
		return err
	}
	p.note("the import is ended; nothing of %s is left", body.Name)
	return err
}

// endTask cancels a task (DSP0266, Asynchronous operations), with a context of its
// own, as endSession does.
func (c *client) endTask(ctx context.Context, uri string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := c.request(ctx, http.MethodDelete, uri, nil)
	if err != nil {
		return err
	}
	resp, err := c.send(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func exportVolume(f *flag.FlagSet) call {
	format := f.String("format", "", "`format` to write: raw or qcow2 (default: qcow2 for a FILE that is called so, else raw)")
	replace := f.Bool("f", false, "replace a file that is there")
	return func(ctx context.Context, p *program, args []string) error {
		name, file := args[0], args[1]
		as := *format
		if as == "" && strings.EqualFold(filepath.Ext(file), ".qcow2") {
			as = "qcow2"
		}
		if as != "" && as != "raw" && as != "qcow2" {
			return usagef("-format %s: want raw or qcow2", as)
		}
		if out, is := p.stdout.(*os.File); file == "-" && is && term.IsTerminal(int(out.Fd())) {
			return usagef("a terminal cannot take a disk's bytes")
		}
		if _, err := os.Lstat(file); file != "-" && !*replace && !errors.Is(err, fs.ErrNotExist) {
			return cmp.Or(err, fmt.Errorf("%s is there already; -f replaces it", file))
		}
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		if file == "-" {
			return c.exportTo(ctx, p, name, as, p.stdout)
		}
		// A file of that name is whole.
		part := file + ".part"
		out, err := os.Create(part)
		if err != nil {
			return err
		}
		if err := errors.Join(c.exportTo(ctx, p, name, as, out), out.Close()); err != nil {
			return errors.Join(err, os.Remove(part))
		}
		if err := os.Rename(part, file); err != nil {
			return err
		}
		return p.done("%s is in %s", name, file)
	}
}

// exportTo writes what a volume holds.
func (c *client) exportTo(ctx context.Context, p *program, name, format string, w io.Writer) error {
	uri := volumesURI + url.PathEscape(name)
	if format != "" {
		uri += "?format=" + format
	}
	r, err := c.request(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return err
	}
	resp, err := c.send(r)
	if s := status(err); s == http.StatusMethodNotAllowed || s == http.StatusNotImplemented {
		return fmt.Errorf("this service does not give volumes' contents: %w", errUnsupported)
	}
	if err != nil {
		return fmt.Errorf("exporting %s: %w", name, err)
	}
	defer resp.Body.Close()
	meter := progress.Start(p.meter(), "exporting "+name, resp.ContentLength, "B")
	_, err = io.Copy(w, &counted{resp.Body, meter})
	meter.Done(err)
	if err != nil {
		return fmt.Errorf("exporting %s: %w", name, err)
	}
	return nil
}
