package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/internal/bytesize"
)

func (s *Server) volumeRows() []row {
	if s.opt.Disks == nil {
		return nil
	}
	names := func(n int) []string { return only(n, 0, s.volumeNames()...) }
	blocks := flag{name: "--block", value: "BYTES", does: "size of the blocks that a host sees, 512 or 4096"}
	format := flag{name: "--format", value: "FORMAT", does: "raw or qcow2"}
	const sizes = "SIZE is as in 64MiB or 10G, or in bytes."
	return []row{{
		name: "volume list", bare: true, role: auth.ReadOnly, run: volumeList,
		does: "list the volumes, and the room for them",
	}, {
		name: "volume show", args: "NAME", role: auth.ReadOnly, words: names, run: volumeShow,
		does: "show all that is known of a volume",
	}, {
		name: "volume create", args: "NAME [SIZE]", role: auth.Operator, run: volumeCreate,
		does: "make an empty volume, a clone, or one on an NBD server",
		flags: []flag{
			{name: "--from", value: "VOLUME", does: "a clone of this image or snapshot: only what differs takes room"},
			{name: "--upstream", value: "URI", does: "what an NBD server has: nbd://HOST/EXPORT, nbds:// with TLS"},
			{name: "--read-only", does: "with --upstream: an image, which is never written"},
			blocks,
		},
		more: sizes + " Without it a volume is as large as what it is made of.",
	}, {
		name: "volume resize", args: "NAME SIZE", role: auth.Operator, words: names,
		does: "let a volume grow, also while a host uses it", more: sizes,
		run: disksChange(2, func(ctx context.Context, c *call) error {
			size, err := sizeOf(c.args[1])
			if err != nil {
				return err
			}
			return c.s.opt.Disks.Resize(ctx, c.args[0], size, c.origin)
		}),
	}, {
		name: "volume snapshot", args: "NAME SNAPSHOT", role: auth.Operator, words: names,
		does: "keep how a volume is now, under another name",
		run: disksChange(2, func(ctx context.Context, c *call) error {
			_, err := c.s.opt.Disks.Snapshot(ctx, c.args[0], c.args[1], c.origin)
			return err
		}),
	}, {
		name: "volume revert", args: "NAME SNAPSHOT", role: auth.Operator,
		does:  "make a volume what it was when a snapshot of it was taken",
		more:  "What was written since is lost. No host may be logged in for it.",
		words: func(n int) []string { return append(names(n), only(n, 1, s.volumeNames(block.KindSnapshot)...)...) },
		run: disksChange(2, func(ctx context.Context, c *call) error {
			return c.s.opt.Disks.Revert(ctx, c.args[0], c.args[1], c.origin)
		}),
	}, {
		name: "volume rename", args: "NAME NEW", role: auth.Operator, words: names,
		does: "give a volume another name",
		run: disksChange(2, func(ctx context.Context, c *call) error {
			return c.s.opt.Disks.Rename(ctx, c.args[0], c.args[1], c.origin)
		}),
	}, {
		name: "volume delete", args: "NAME", role: auth.Operator, words: names,
		does: "delete a volume that no target shows, with all that is in it",
		run: disksChange(1, func(ctx context.Context, c *call) error {
			return c.s.opt.Disks.Delete(ctx, c.args[0], c.origin)
		}),
	}, {
		name: "volume import", args: "NAME URL|-", role: auth.Operator, run: volumeImport,
		does: "make a volume of a file on a web server, or of the standard input",
		flags: []flag{
			{name: "--disk", does: "a disk, which may be written; without, an image"},
			{name: "--sha256", value: "DIGEST", does: "what the file has to have"},
			format,
			{name: "--size", value: "SIZE", does: "of the volume; without, that of the data"},
			blocks,
			{name: "-n", long: "--no-wait", does: "do not wait for the outcome; volume jobs shows it"},
		},
		more: "The file may be raw or qcow2, and packed with gzip, xz or zstd.\nFrom a pipe: ssh USER@BOARD volume import NAME - < FILE",
	}, {
		name: "volume export", args: "NAME", role: auth.Operator, words: names, run: volumeExport,
		does: "write what a volume holds to the standard output", flags: []flag{format},
		more: "Of a volume that is in use it is how it was at one moment.\nInto a file: ssh USER@BOARD volume export NAME > FILE",
	}, {
		name: "volume verify", args: "NAME", role: auth.Operator,
		does:  "read an image, and compare it with how it was at first",
		words: func(n int) []string { return only(n, 0, s.volumeNames(block.KindImage)...) },
		run: disksChange(1, func(ctx context.Context, c *call) error {
			return c.s.opt.Disks.Verify(ctx, c.args[0])
		}),
	}, {
		name: "volume jobs", role: auth.ReadOnly, run: volumeJobs,
		does: "list what takes long, and the last that did",
	}, {
		name: "volume cancel", args: "JOB", role: auth.Operator,
		does:  "end an import or export; nothing of the volume is left",
		words: func(n int) []string { return only(n, 0, s.jobs()...) },
		run: disksChange(1, func(ctx context.Context, c *call) error {
			return c.s.opt.Disks.CancelJob(ctx, c.args[0], c.origin)
		}),
	}}
}

// volumeNames are those of all volumes, or of some kinds.
func (s *Server) volumeNames(kinds ...block.Kind) []string {
	var names []string
	for _, i := range s.opt.Disks.List() {
		if len(kinds) == 0 || slices.Contains(kinds, i.Kind) {
			names = append(names, i.Name)
		}
	}
	return names
}

// jobs are the IDs of those that can be cancelled.
func (s *Server) jobs() []string {
	var ids []string
	for _, j := range s.opt.Disks.Jobs() {
		if j.Ended.IsZero() && j.Operation != "merge" {
			ids = append(ids, j.ID)
		}
	}
	return ids
}

// disksChange is a command of n arguments that does one thing.
func disksChange(n int, do func(context.Context, *call) error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if err := c.counts(n, n); err != nil {
			return err
		}
		return do(ctx, c)
	}
}

// sizeOf reads a size that is greater than nothing.
func sizeOf(text string) (int64, error) {
	n, err := bytesize.Parse(text)
	if err == nil && n == 0 {
		err = errors.New("a volume has at least one block")
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errUsage, err)
	}
	return n, nil
}

// blockSize is the value of --block; 0: it is not given.
func (c *call) blockSize() (int, error) {
	switch text, given := c.flags["--block"]; {
	case !given:
		return 0, nil
	case text == "512":
		return 512, nil
	case text == "4096":
		return 4096, nil
	}
	return 0, fmt.Errorf("%w: blocks have 512 or 4096 bytes", errUsage)
}

// format is the value of --format.
func (c *call) format(otherwise string) (string, error) {
	switch text, given := c.flags["--format"]; {
	case !given:
		return otherwise, nil
	case text == "raw", text == "qcow2":
		return text, nil
	}
	return "", fmt.Errorf("%w: the formats are raw and qcow2", errUsage)
}

func volumeList(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKIND\tSIZE\tUSED\tMADE OF\tSTATE")
	for _, i := range c.s.opt.Disks.List() {
		state := "ok"
		if i.Failed != "" {
			state = "failed: " + clean(i.Failed)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", clean(i.Name), i.Kind, bytesize.Format(i.Size), bytesize.Format(i.Used), madeOf(i), state)
	}
	size, free := c.s.opt.Disks.Space()
	fmt.Fprintf(w, "\n%s of %s are free.\n", bytesize.Format(free), bytesize.Format(size))
	return w.Flush()
}

// madeOf is what a volume stands on: another one, or a server.
func madeOf(i block.Info) string {
	for _, text := range []string{i.Of, i.Base, i.Upstream} {
		if text != "" {
			return clean(text)
		}
	}
	return "-"
}

func volumeShow(_ context.Context, c *call) error {
	if err := c.counts(1, 1); err != nil {
		return err
	}
	i, err := c.s.opt.Disks.Get(c.args[0])
	if err != nil {
		return err
	}
	var shown []string
	for _, t := range c.s.opt.Disks.Targets() {
		for _, l := range t.LUNs {
			if l.Volume == i.Name {
				shown = append(shown, fmt.Sprintf("%s LUN %d", t.Name, l.Number))
			}
		}
	}
	c.fields([][2]string{
		{"name", i.Name}, {"kind", string(i.Kind)}, {"format", string(i.Format)}, {"uuid", i.UUID},
		{"size", exact(i.Size)}, {"used", exact(i.Used)}, {"blocks", fmt.Sprintf("%d bytes, physical %d", i.BlockSize, i.PhysicalSize)},
		{"snapshot of", i.Of}, {"clone of", i.Base}, {"source", i.Source}, {"upstream", i.Upstream},
		{"created", stamp(i.Created)}, {"targets", strings.Join(shown, ", ")}, {"failed", i.Failed},
	})
	return nil
}

// exact is a size in two ways.
func exact(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%s, %d bytes", bytesize.Format(n), n)
}

// fields writes those that have a value, a line each.
func (c *call) fields(all [][2]string) {
	width := 0
	for _, f := range all {
		if f[1] != "" {
			width = max(width, len(f[0]))
		}
	}
	for _, f := range all {
		if f[1] != "" {
			c.printf("%-*s %s\n", width+1, f[0]+":", clean(f[1]))
		}
	}
}

func volumeCreate(ctx context.Context, c *call) error {
	if err := c.counts(1, 2); err != nil {
		return err
	}
	r := block.CreateRequest{Name: c.args[0], Clone: c.flags["--from"], Upstream: c.flags["--upstream"], ReadOnly: c.flag("--read-only")}
	var err error
	if r.BlockSize, err = c.blockSize(); err != nil {
		return err
	}
	if len(c.args) == 2 {
		if r.Size, err = sizeOf(c.args[1]); err != nil {
			return err
		}
	}
	switch {
	case r.Clone != "" && r.Upstream != "":
		return fmt.Errorf("%w: --from and --upstream exclude each other", errUsage)
	case r.ReadOnly && r.Upstream == "":
		return fmt.Errorf("%w: --read-only goes with --upstream", errUsage)
	case r.Size == 0 && r.Clone == "" && r.Upstream == "":
		return fmt.Errorf("%w: an empty volume needs a SIZE", errUsage)
	}
	_, err = c.s.opt.Disks.Create(ctx, r, c.origin)
	return err
}

func volumeImport(ctx context.Context, c *call) error {
	if err := c.counts(2, 2); err != nil {
		return err
	}
	r := block.ImportRequest{Name: c.args[0], Kind: block.KindImage, SHA256: strings.ToLower(c.flags["--sha256"])}
	if c.flag("--disk") {
		r.Kind = block.KindDisk
	}
	var err error
	if r.Format, err = c.format(""); err != nil {
		return err
	}
	if r.BlockSize, err = c.blockSize(); err != nil {
		return err
	}
	if text, given := c.flags["--size"]; given {
		if r.Size, err = sizeOf(text); err != nil {
			return err
		}
	}
	if c.args[1] != "-" {
		job, err := c.s.opt.Disks.ImportURL(ctx, r, c.args[1], c.origin)
		if err != nil || c.flag("-n") {
			return err
		}
		return c.follow(ctx, job)
	}
	// In a script what is left of the data when an import fails would be taken for
	// commands.
	if c.tty || !c.exec {
		return fmt.Errorf("%w: the data comes with a command of its own: ssh USER@BOARD %s < FILE", errUsage, clean("volume import "+r.Name+" -"))
	}
	_, err = c.s.opt.Disks.ImportStream(ctx, r, &upload{c, ctx}, c.origin)
	return err
}

// errCutOff is the end of an upload whose client has gone.
var errCutOff = fmt.Errorf("the connection has ended before the data: %w", io.ErrUnexpectedEOF)

// An upload is the standard input, read to its end.
type upload struct {
	c   *call
	ctx context.Context
}

// Read implements io.Reader. The end of a connection looks like the end of the data,
// so the client is asked whether it is still there: it answers what it does not know
// (RFC 4254 section 5.4).
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.c.in.read(u.ctx, p, "")
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if _, gone := u.c.ch.SendRequest("keepalive@nitrino.io", true, nil); gone != nil || u.ctx.Err() != nil {
		return n, errCutOff
	}
	return n, io.EOF
}

// errImport is how an import of a URL ended that did not end well.
var errImport = errors.New("the import failed")

// follow waits until a job has ended, and shows at a terminal how far it is.
func (c *call) follow(ctx context.Context, job block.Job) error {
	width := 0
	tell := func(text string) {
		if c.tty && (text != "" || width > 0) {
			c.printf("\r%-*s\r%s", width, "", text)
			width = len(text)
		}
	}
	defer func() { tell("") }()
	for {
		changed := c.s.opt.Disks.Changed()
		all := c.s.opt.Disks.Jobs()
		i := slices.IndexFunc(all, func(j block.Job) bool { return j.ID == job.ID })
		switch {
		case i < 0:
			return fmt.Errorf("%w: nobody knows any more how it went", errImport)
		case !all[i].Ended.IsZero() && all[i].Error != "":
			return fmt.Errorf("%w: %s", errImport, all[i].Error)
		case !all[i].Ended.IsZero():
			return nil
		}
		tell(farther(all[i], time.Now()))
		select {
		case <-changed:
		case <-ctx.Done():
			tell("")
			return fmt.Errorf("no longer waiting; the import goes on, volume cancel %s ends it", clean(job.ID))
		}
	}
}

// farther says how far a job is.
func farther(j block.Job, now time.Time) string {
	text := bytesize.Format(j.Done)
	if j.Total > 0 {
		text = fmt.Sprintf("%d%%, %s of %s", min(100*j.Done/j.Total, 100), text, bytesize.Format(j.Total))
	}
	if ran := now.Sub(j.Started); ran > time.Second && j.Done > 0 {
		text += fmt.Sprintf(", %s/s", bytesize.Format(int64(float64(j.Done)/ran.Seconds())))
		if j.Total > j.Done {
			text += fmt.Sprintf(", %v left", time.Duration(float64(ran)*float64(j.Total-j.Done)/float64(j.Done)).Round(time.Second))
		}
	}
	return text
}

func volumeExport(ctx context.Context, c *call) error {
	if err := c.counts(1, 1); err != nil {
		return err
	}
	format, err := c.format("raw")
	if err != nil {
		return err
	}
	if c.tty {
		return fmt.Errorf("%w: a terminal cannot take a file: ssh -T USER@BOARD %s > FILE", errUsage, clean("volume export "+c.args[0]))
	}
	return c.s.opt.Disks.Export(ctx, c.args[0], format, c.out)
}

func volumeJobs(_ context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tWHAT\tVOLUME\tSINCE\tSTATE")
	now := time.Now()
	for _, j := range c.s.opt.Disks.Jobs() {
		state := farther(j, now)
		switch {
		case j.Error != "":
			state = "failed: " + clean(j.Error)
		case !j.Ended.IsZero():
			state = "done"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", clean(j.ID), clean(j.Operation), clean(j.Volume), stamp(j.Started), state)
	}
	return w.Flush()
}
