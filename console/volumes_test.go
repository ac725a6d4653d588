package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/host"
)

// fakeDisks are volumes without contents but those that a test gives them.
type fakeDisks struct {
	mu       sync.Mutex
	volumes  map[string]block.Info
	data     map[string]string // of volumes
	targets  []block.Target    // with their secrets
	sessions []block.Session
	jobs     []block.Job
	url      string // of the last import
	by       host.Origin
	fail     error // what any change fails with
	changed  chan struct{}
}

func newFakeDisks() *fakeDisks {
	f := &fakeDisks{volumes: map[string]block.Info{}, data: map[string]string{"golden": "GOLD"}, changed: make(chan struct{})}
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, i := range []block.Info{
		{Name: "disk0", Kind: block.KindDisk, Format: block.FormatCoW, Size: 64 << 20, Used: 1536, Base: "golden"},
		{Name: "golden", Kind: block.KindImage, Format: block.FormatRaw, Size: 64 << 20, Used: 64 << 20, Source: "http://x/\x1b[31m.img"},
		{Name: "before", Kind: block.KindSnapshot, Format: block.FormatCoW, Size: 64 << 20, Of: "disk0", Failed: "no\x07 map"},
	} {
		i.UUID, i.BlockSize, i.PhysicalSize, i.Created = "u-"+i.Name, 512, 4096, made
		f.volumes[i.Name] = i
	}
	f.targets = []block.Target{{Name: "iqn.2026-01.com.example:disk0", LUNs: []block.LUN{{Volume: "disk0"}}, Initiators: []string{}}}
	f.sessions = []block.Session{{Target: f.targets[0].Name, Initiator: "iqn.2026-01.com.example:host", Address: "192.0.2.7:33000", Since: made, Volumes: []string{"disk0"}}}
	return f
}

func (f *fakeDisks) List() []block.Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []block.Info
	for _, i := range f.volumes {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b block.Info) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (f *fakeDisks) Get(name string) (block.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.volumes[name]
	if !ok {
		return i, fmt.Errorf("%w: %s", volume.ErrNotFound, name)
	}
	return i, nil
}

// edit makes a change of a volume, which is there or, made, is not.
func (f *fakeDisks) edit(name string, made bool, by host.Origin, change func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by = by
	_, there := f.volumes[name]
	switch {
	case f.fail != nil:
		return f.fail
	case made && there:
		return volume.ErrExists
	case !made && !there:
		return volume.ErrNotFound
	}
	if err := volume.CheckName(name); err != nil {
		return err
	}
	err := change()
	close(f.changed)
	f.changed = make(chan struct{})
	return err
}

func (f *fakeDisks) Create(_ context.Context, r block.CreateRequest, by host.Origin) (i block.Info, err error) {
	return i, f.edit(r.Name, true, by, func() error {
		i = block.Info{Name: r.Name, Kind: block.KindDisk, Size: r.Size, BlockSize: r.BlockSize, Base: r.Clone, Upstream: r.Upstream}
		if r.ReadOnly {
			i.Kind = block.KindImage
		}
		f.volumes[r.Name] = i
		return nil
	})
}

func (f *fakeDisks) Snapshot(_ context.Context, of, name string, by host.Origin) (i block.Info, err error) {
	return i, f.edit(name, true, by, func() error {
		i = block.Info{Name: name, Kind: block.KindSnapshot, Of: of}
		f.volumes[name] = i
		return nil
	})
}

func (f *fakeDisks) Revert(_ context.Context, name, snapshot string, by host.Origin) error {
	return f.edit(name, false, by, func() error {
		if f.volumes[snapshot].Of != name {
			return volume.ErrRequest
		}
		return volume.ErrInUse
	})
}

func (f *fakeDisks) Resize(_ context.Context, name string, size int64, by host.Origin) error {
	return f.edit(name, false, by, func() error {
		i := f.volumes[name]
		if size < i.Size {
			return volume.ErrShrink
		}
		i.Size = size
		f.volumes[name] = i
		return nil
	})
}

func (f *fakeDisks) Rename(_ context.Context, name, to string, by host.Origin) error {
	return f.edit(name, false, by, func() error {
		i := f.volumes[name]
		i.Name = to
		delete(f.volumes, name)
		f.volumes[to] = i
		return nil
	})
}

func (f *fakeDisks) Delete(_ context.Context, name string, by host.Origin) error {
	return f.edit(name, false, by, func() error { delete(f.volumes, name); return nil })
}

func (f *fakeDisks) Verify(_ context.Context, name string) error {
	return f.edit(name, false, host.Origin{}, func() error { return nil })
}

func (f *fakeDisks) ImportURL(_ context.Context, r block.ImportRequest, url string, by host.Origin) (j block.Job, err error) {
	return j, f.edit(r.Name, true, by, func() error {
		f.url = url
		j = block.Job{ID: "JOB1", Volume: r.Name, Operation: "import", Started: time.Now(), Done: 1 << 20, Total: 4 << 20}
		f.jobs = []block.Job{j}
		return nil
	})
}

// endJob ends the job that there is.
func (f *fakeDisks) endJob(problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs[0].Ended, f.jobs[0].Error = time.Now(), problem
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeDisks) ImportStream(_ context.Context, r block.ImportRequest, data io.Reader, by host.Origin) (i block.Info, err error) {
	if f.fail != nil {
		return i, f.fail
	}
	all, err := io.ReadAll(data)
	if err != nil {
		return i, err
	}
	return i, f.edit(r.Name, true, by, func() error {
		i = block.Info{Name: r.Name, Kind: r.Kind, Format: block.Format(r.Format), Size: max(int64(len(all)), r.Size), BlockSize: r.BlockSize, Source: r.SHA256}
		f.volumes[r.Name], f.data[r.Name] = i, string(all)
		return nil
	})
}

func (f *fakeDisks) Export(_ context.Context, name, format string, w io.Writer) error {
	return f.edit(name, false, host.Origin{}, func() error {
		_, err := io.WriteString(w, format+" "+f.data[name])
		return err
	})
}

func (f *fakeDisks) Jobs() []block.Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.jobs)
}

func (f *fakeDisks) CancelJob(_ context.Context, id string, _ host.Origin) error {
	if !slices.ContainsFunc(f.Jobs(), func(j block.Job) bool { return j.ID == id && j.Ended.IsZero() }) {
		return volume.ErrNotFound
	}
	f.endJob("it was cancelled")
	return nil
}

func (f *fakeDisks) Space() (size, free int64) { return 8 << 30, 3 << 30 }

func (f *fakeDisks) Targets() []block.Target {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Clone(f.targets)
	for i := range all {
		all[i].CHAP.Secret, all[i].Mutual.Secret = "", ""
	}
	return all
}

func (f *fakeDisks) PutTarget(_ context.Context, t block.Target, by host.Origin) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by = by; t.CHAP.Secret != "" && len(t.CHAP.Secret) < 12 {
		return fmt.Errorf("a secret has 12 to 255 bytes: %w", host.ErrInvalid)
	}
	if i := slices.IndexFunc(f.targets, func(o block.Target) bool { return o.Name == t.Name }); i >= 0 {
		f.targets[i] = t
		return nil
	}
	f.targets = append(f.targets, t)
	return nil
}

func (f *fakeDisks) DeleteTarget(_ context.Context, name string, _ host.Origin) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.targets = slices.DeleteFunc(f.targets, func(t block.Target) bool { return t.Name == name })
	return nil
}

func (f *fakeDisks) TargetName(volume string) string { return "iqn.2026-01.io.nitrino:" + volume }

func (f *fakeDisks) Sessions() []block.Session { return f.sessions }

func (f *fakeDisks) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// volumeRig is a rig with disks.
func volumeRig(t *testing.T) (*rig, *fakeDisks) {
	f := newFakeDisks()
	return newRig(t, func(_ *rig, _ *host.Parts, o *Options) { o.Disks = f }), f
}

// TestVolumes runs commands in order, as TestExec does.
func TestVolumes(t *testing.T) {
	r, f := volumeRig(t)
	clients := map[string]*gossh.Client{"op": r.login("op"), "ro": r.login("ro")}
	for _, tt := range []struct {
		user, command, stdin string
		out, err             string // "*": anything but nothing
		code                 int
	}{
		{"ro", "volume", "", "NAME    KIND      SIZE   USED    MADE OF  STATE\n" +
			"before  snapshot  64MiB  0B      disk0    failed: no\\u0007 map\n" +
			"disk0   disk      64MiB  1.5KiB  golden   ok\n" +
			"golden  image     64MiB  64MiB   -        ok\n\n3GiB of 8GiB are free.\n", "", 0},
		{"ro", "volume show golden", "", "name:    golden\nkind:    image\nformat:  raw\nuuid:    u-golden\nsize:    64MiB, 67108864 bytes\nused:    64MiB, 67108864 bytes\n" +
			"blocks:  512 bytes, physical 4096\nsource:  http://x/\\u001b[31m.img\ncreated: 2026-01-02T03:04:05Z\n", "", 0},
		{"ro", "volume show none", "", "", "volume: there is no such volume: none\n", 1},
		{"ro", "volume create new 1G", "", "", "volume: your role does not permit this: it needs Operator\n", 5},
		{"ro", "volume export golden", "", "", "*", 5},
		{"op", "volume create new 1G --block 4096", "", "", "", 0},
		{"op", "volume create new 1G", "", "", "volume: a volume of that name exists already\n", 1},
		{"op", "volume create New 1G", "", "", "*", 2},
		{"op", "volume create other", "", "", "usage: an empty volume needs a SIZE\n", 2},
		{"op", "volume create other 1GB", "", "", "*", 2},
		{"op", "volume create other 0", "", "", "*", 2},
		{"op", "volume create other 1G --block 1024", "", "", "*", 2},
		{"op", "volume create other --from golden --upstream nbd://x/y", "", "", "*", 2},
		{"op", "volume create other --from golden --read-only", "", "", "*", 2},
		{"op", "volume create clone --from golden", "", "", "", 0},
		{"op", "volume create far --upstream nbd://x/y --read-only", "", "", "", 0},
		{"op", "volume resize new 2GiB", "", "", "", 0},
		{"op", "volume resize new 1G", "", "", "volume: a volume cannot shrink\n", 2},
		{"op", "volume resize new", "", "", "*", 2},
		{"op", "volume snapshot new then", "", "", "", 0},
		{"op", "volume revert new then", "", "", "volume: the volume is in use\n", 4},
		{"op", "volume revert new before", "", "", "*", 2},
		{"op", "volume rename new newer", "", "", "", 0},
		{"op", "volume delete new", "", "", "*", 1},
		{"op", "volume delete newer", "", "", "", 0},
		{"op", "volume verify golden", "", "", "", 0},
		{"op", "volume export golden", "", "raw GOLD", "", 0},
		{"op", "volume export golden --format qcow2", "", "qcow2 GOLD", "", 0},
		{"op", "volume export golden --format vmdk", "", "", "*", 2},
		{"op", "volume export none", "", "", "*", 1},
		{"op", "volume import piped -", "all of\nit\x03\x04", "", "", 0},
		{"op", "volume import typed - --disk --sha256 ABCD --format raw --size 1K --block 4096", "x", "", "", 0},
		{"op", "volume import piped -", "again", "", "*", 1},
		{"op", "volume import golden2 http://x/y.img -n", "", "", "", 0},
		{"ro", "volume jobs", "", "*", "", 0},
		{"op", "volume cancel JOB1", "", "", "", 0},
		{"op", "volume cancel JOB1", "", "", "*", 1},

		{"ro", "target", "", "NAME                           LUNS     INITIATORS  CHAP  SESSIONS\niqn.2026-01.com.example:disk0  0=disk0  any         none  1\n", "", 0},
		{"ro", "target show disk0", "", "name:       iqn.2026-01.com.example:disk0\nlun:        0=disk0\ninitiators: any\nchap:       none\nmutual:     none\n" +
			"session:    iqn.2026-01.com.example:host from 192.0.2.7:33000 since 2026-01-02T03:04:05Z\n", "", 0},
		{"ro", "target sessions", "", "*", "", 0},
		{"ro", "target add golden", "", "", "*", 5},
		{"op", "target add none", "", "", "*", 1},
		{"op", "target add golden --cd", "", "iqn.2026-01.io.nitrino:golden\n", "", 0},
		{"op", "target add golden", "", "", "*", 1},
		{"op", "target set golden --chap me", "", "", "*", 2},
		{"op", "target set golden --chap me", "short\n", "", "*", 2},
		{"op", "target set golden --mutual me", "long enough to be one\n", "", "*", 2},
		{"op", "target set golden --chap me --mutual you --initiators iqn.a:b,iqn.c:d --alias 'a disc'", "a secret of mine\nanother of yours\n", "", "", 0},
		{"op", "target set golden", "", "", "*", 2},
		{"op", "target set none --alias x", "", "", "target: there is no such target: none\n", 1},
		{"op", "target lun golden 7 disk0", "", "", "", 0},
		{"op", "target lun golden 3 none", "", "", "*", 1},
		{"op", "target lun golden 256 disk0", "", "", "*", 2},
		{"op", "target lun golden 8 nothing", "", "", "*", 1},
		{"op", "target lun golden 0 none", "", "", "", 0},
		{"op", "target remove disk0", "", "", "", 0},
		{"op", "target remove disk0", "", "", "*", 1},
	} {
		out, errs, code := r.exec(clients[tt.user], tt.command, tt.stdin)
		same := func(got, want string) bool { return got == want || want == "*" && got != "" }
		if !same(out, tt.out) || !same(errs, tt.err) || code != tt.code {
			t.Errorf("%s: %q: got %q, %q, %d, want %q, %q, %d", tt.user, tt.command, out, errs, code, tt.out, tt.err, tt.code)
		}
	}
	if got, want := f.data["piped"], "all of\nit\x03\x04"; got != want {
		t.Errorf("imported %q, want %q", got, want)
	}
	for name, want := range map[string]block.Info{
		"clone": {Name: "clone", Kind: block.KindDisk, Base: "golden"},
		"far":   {Name: "far", Kind: block.KindImage, Upstream: "nbd://x/y"},
		"piped": {Name: "piped", Kind: block.KindImage, Size: 11},
		"typed": {Name: "typed", Kind: block.KindDisk, Format: block.FormatRaw, Size: 1024, BlockSize: 4096, Source: "abcd"},
	} {
		if got := f.volumes[name]; got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	want := block.Target{Name: "iqn.2026-01.io.nitrino:golden", Alias: "a disc", LUNs: []block.LUN{{Number: 7, Volume: "disk0"}}, Initiators: []string{"iqn.a:b", "iqn.c:d"},
		CHAP: block.Credentials{User: "me"}, Mutual: block.Credentials{User: "you"}}
	if got := f.targets; len(got) != 1 || fmt.Sprintf("%+v", got[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("targets: got %+v, want %+v", got, want)
	}
	if f.by.User != "op" || f.by.Via != Via {
		t.Errorf("changed by %+v", f.by)
	}
}

// Both secrets are taken from the input, and what asks for no proof gives none.
func TestTargetSecrets(t *testing.T) {
	r, f := volumeRig(t)
	c := r.login("op")
	for _, tt := range []struct {
		command, stdin string
		chap, mutual   block.Credentials
	}{
		{"target set disk0 --chap me --mutual you", "a secret of mine\nanother of yours\n", block.Credentials{User: "me", Secret: "a secret of mine"}, block.Credentials{User: "you", Secret: "another of yours"}},
		{"target set disk0 --mutual none --chap me", "a second secret\n", block.Credentials{User: "me", Secret: "a second secret"}, block.Credentials{}},
		{"target set disk0 --chap me --mutual you", "a secret of mine\nanother of yours\n", block.Credentials{User: "me", Secret: "a secret of mine"}, block.Credentials{User: "you", Secret: "another of yours"}},
		{"target set disk0 --chap none", "", block.Credentials{}, block.Credentials{}},
	} {
		if _, said, code := r.exec(c, tt.command, tt.stdin); code != 0 {
			t.Fatalf("%s: %q, %d", tt.command, said, code)
		}
		if got := f.targets[0]; got.CHAP != tt.chap || got.Mutual != tt.mutual {
			t.Errorf("%s: got %+v and %+v, want %+v and %+v", tt.command, got.CHAP, got.Mutual, tt.chap, tt.mutual)
		}
	}
}

// What others change of a target while a secret is typed stays.
func TestTargetSetMeanwhile(t *testing.T) {
	r, f := volumeRig(t)
	c := r.login("op")
	x := r.terminal(c, true, "target set disk0 --chap me")
	x.expect("CHAP secret of me: ")
	if _, said, code := r.exec(c, "target set disk0 --initiators iqn.a:b", ""); code != 0 {
		t.Fatalf("%q, %d", said, code)
	}
	x.typ("a secret of mine\r")
	x.expect("the same again: ")
	x.typ("a secret of mine\r")
	if code := x.wait(); code != 0 {
		t.Errorf("got %d, %q", code, x.all())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	want := block.Credentials{User: "me", Secret: "a secret of mine"}
	if got := f.targets[0]; got.CHAP != want || !slices.Equal(got.Initiators, []string{"iqn.a:b"}) {
		t.Errorf("got %+v, want both changes", got)
	}
}

// At a terminal a secret is not shown, how far an import is is, and no bytes pass.
func TestVolumeTerminal(t *testing.T) {
	r, f := volumeRig(t)
	x := r.terminal(r.login("op"), true, "")
	x.expect("board> ")
	x.typ("target set disk0 --chap me\r")
	x.expect("CHAP secret of me: ")
	x.typ("a secret of mine\r")
	x.expect("the same again: ")
	x.typ("a secret of mine\r")
	if got := x.expect("board> "); strings.Contains(got, "mine") {
		t.Errorf("the secret is shown: %q", got)
	}
	x.typ("volume import new http://x/y.img\r")
	x.expect("25%, 1MiB of 4MiB")
	x.typ("\x03")
	x.expect("volume cancel JOB1 ends it")
	x.expect("board> ")
	f.endJob("")
	x.typ("volume import newer http://x/z.img\r")
	x.expect("25%, 1MiB of 4MiB")
	f.endJob("the server \x1b[2Jis gone")
	x.expect(`the import failed: the server \u001b[2Jis gone`)
	x.expect("board> ")
	for _, line := range []string{"volume import newest -\r", "volume export golden\r"} {
		x.typ(line)
		x.expect("usage: ")
		x.expect("board> ")
	}
	x.typ("volume revert disk0 b\t")
	x.expect("before ")
	x.typ("\x03")
	x.typ("exit\r")
	x.wait()
	if got := f.targets[0].CHAP; got.Secret != "a secret of mine" || f.url != "http://x/z.img" {
		t.Errorf("got %+v, %q", got, f.url)
	}
}

// What fails is not followed by the rest of the data as commands, and a connection
// that ends is no end of the data.
func TestImportCutOff(t *testing.T) {
	r, f := volumeRig(t)
	x := r.terminal(r.login("op"), false, "")
	x.typ("volume import new -\nvolume delete golden\n")
	x.expect("usage: the data comes with a command of its own")
	if err := x.in.Close(); err != nil {
		t.Fatal(err)
	}
	x.wait()

	c := r.login("op")
	x = r.terminal(c, false, "volume import new -")
	x.typ("the first half")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-x.end
	r.stop()
	<-r.done
	if _, err := f.Get("new"); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("half a file was taken for a volume: %v", err)
	}
}

func TestVolumeErrors(t *testing.T) {
	r, f := volumeRig(t)
	c := r.login("op")
	for _, tt := range []struct {
		err  error
		code int
	}{
		{fmt.Errorf("x: %w", block.ErrGone), noAnswer},
		{volume.ErrStandsOn, busy},
		{block.ErrNoSpace, failed},
		{volume.ErrContent, failed},
		{host.ErrBusy, busy},
	} {
		f.fail = tt.err
		for _, command := range []string{"volume create x 1M", "volume import x -", "volume import x http://x/y"} {
			if _, said, code := r.exec(c, command, "data"); code != tt.code || !strings.Contains(said, tt.err.Error()) {
				t.Errorf("%s: %v: got %q, %d, want %d", command, tt.err, said, code, tt.code)
			}
		}
	}
}

func TestVolumeCandidates(t *testing.T) {
	r, f := volumeRig(t)
	f.jobs = []block.Job{{ID: "A", Operation: "import"}, {ID: "B", Operation: "merge"}, {ID: "C", Operation: "export", Ended: time.Now()}}
	for _, tt := range []struct {
		user, line string
		want       []string
	}{
		{"ro", "volume ", []string{"list", "show", "jobs"}},
		{"ro", "target ", []string{"list", "show", "sessions"}},
		{"op", "volume resize ", []string{"before", "disk0", "golden"}},
		{"op", "volume revert disk0 ", []string{"before"}},
		{"op", "volume verify ", []string{"golden"}},
		{"op", "volume cancel ", []string{"A"}},
		{"op", "target set iqn.", []string{"iqn.2026-01.com.example:disk0"}},
		{"op", "target lun disk0 1 ", []string{"before", "disk0", "golden", "none"}},
		{"op", "target add g", []string{"golden"}},
	} {
		s := &session{conn: &conn{s: r.s}, user: tt.user}
		if _, got := s.candidates(tt.line); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q: got %q, want %q", tt.user, tt.line, got, tt.want)
		}
	}
}
