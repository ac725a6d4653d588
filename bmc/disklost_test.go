package bmc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/internal/ipc"
)

// A cardCore is a core with its settings in files, as on a card, that begins anew as
// often as a test wants.
type cardCore struct {
	*BMC
	t         *testing.T
	dir, card string
	d         *Disk
	stop      func()
}

// restart ends the core, has the files changed, and begins the next one, which has done
// with the disk process what it has to.
func (c *cardCore) restart(change func()) {
	c.t.Helper()
	c.stop()
	change()
	o := options(c.dir)
	o.Card = c.card
	o.Defaults = nil
	var err error
	if c.BMC, err = Open(o); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	here, there := pair(c.t)
	var tasks sync.WaitGroup
	tasks.Go(func() { c.d.Serve(ctx, there) })
	tasks.Go(func() { c.Events.Run(ctx) })
	tasks.Go(func() {
		err := c.Disks.run(ctx, func(ctx context.Context) (*ipc.Conn, error) {
			if next := here; next != nil {
				here = nil
				return next, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			c.t.Error(err)
		}
	})
	c.stop = sync.OnceFunc(func() {
		cancel()
		tasks.Wait()
		if err := c.Close(); err != nil {
			c.t.Error(err)
		}
	})
	eventually(c.t, "all is as the settings want it", c.Disks.Settled)
}

// says counts the events of a kind.
func (c *cardCore) says(kind string) (n int) {
	for _, e := range c.Events.Since(0, 0) {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

func (c *cardCore) write(text string, paths ...string) {
	c.t.Helper()
	for _, path := range paths {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestSettingsDamaged: a host keeps its disk whatever happens to the files of the
// settings, and to whoever edits them, until somebody really takes it away.
func TestSettingsDamaged(t *testing.T) {
	c := &cardCore{t: t, dir: t.TempDir(), card: filepath.Join(t.TempDir(), "bmc.json"), stop: func() {}}
	defer func() { c.stop() }()
	var stop func()
	c.d, stop = openDisk(t, "one", t.TempDir())
	defer stop()
	changed, good := filepath.Join(c.dir, changedName), filepath.Join(c.dir, LastGoodDir)
	const targetOfA = `{"name":"iqn.2026-01.io.nitrino:a","luns":[{"lun":0,"volume":"a"}]}`
	const card = `{"version":1,"volumes":[{"name":"a","size":1048576}],"iscsi":{"enabled":true,"targets":[` + targetOfA + `]}}`
	c.restart(func() { c.write(card, c.card) })
	eventually(t, "it listens", func() bool { return c.d.iscsi.address() != "" })
	host, err := login(c.d.iscsi.address(), TargetName("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	checks := 0
	unharmed := func(what string) {
		t.Helper()
		checks++
		if err := host.check(checks); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if s := c.d.iscsi.sessions(); len(s) != 1 {
			t.Fatalf("%s: got the sessions %+v, want the one", what, s)
		}
	}
	unharmed("at first")

	// Edits that are wrong change nothing, neither at once nor at the next start.
	for _, edit := range [][2]string{
		{"iscsi", `{"enabled":"no"}`}, {"iscsi", `{"targets":[{"name":"x"}]}`}, {"", `{"iscsi":{"targets":[`}, {"", `{"iscsi":{"targets":[]},"hostname":"-"}`},
		{"iscsi.targets", `[` + targetOfA + `,` + targetOfA + `]`}, {"iscsi.enabled", "maybe"}, {"volumes", `[{"name":"a","size":-1}]`},
	} {
		if err := c.Settings.Set(edit[0], edit[1]); err == nil {
			t.Errorf("%s: %s was taken", edit[0], edit[1])
		}
	}
	unharmed("after wrong edits")
	c.restart(func() { c.write(`{"version":1,"iscsi":{"enabled":tru}}`, c.card) })
	unharmed("a damaged file on the card")
	c.restart(func() {
		if err := os.Remove(c.card); err != nil {
			t.Fatal(err)
		}
	})
	unharmed("no file on the card")
	if got := c.says("settings.bad"); got != 2 || c.says(kindNotApplied) != 0 {
		t.Errorf("got %d events of bad settings, want one of each start with some", got)
	}

	// What was changed by a front-end is in one file and its copy.
	c.restart(func() { c.write(`{"version":1}`, c.card) })
	eventually(t, "the card has the last word", func() bool { return len(c.d.iscsi.sessions()) == 0 })
	if err := c.Settings.Set("iscsi", `{"enabled":true,"targets":[`+targetOfA+`]}`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is exported again", func() bool { return len(c.Disks.Served()) == 1 && c.d.iscsi.address() != "" })
	if host, err = login(c.d.iscsi.address(), TargetName("a")); err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	unharmed("changed")
	c.restart(func() { c.write(`{`, changed) })
	unharmed("a damaged file of changes")
	if c.says(kindNotApplied) != 0 {
		t.Error("told that settings were lost, though the copy was good")
	}
	lose := func() { c.write(`{`, changed, filepath.Join(good, "changed.json")) }
	c.restart(lose)
	if set := c.Settings.Get().ISCSI; set.Enabled || len(set.Targets) != 0 {
		t.Fatalf("got the settings %+v, want them lost", set)
	}
	unharmed("all changes are lost")
	if got := c.says(kindNotApplied); got != 1 {
		t.Errorf("told %d times that exports stay as they are, want once", got)
	}
	if err := c.Settings.Set("hostname", "other"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	unharmed("something else is set")

	// Who now says what is to be exported is taken at his word.
	if _, err := c.Disks.Create(t.Context(), block.CreateRequest{Name: "b", Size: 1 << 20}, testOrigin()); err != nil {
		t.Fatal(err)
	}
	if err := c.Settings.Set("iscsi.enabled", "true"); err != nil {
		t.Fatal(err)
	}
	if err := c.Disks.PutTarget(t.Context(), TargetOf("b"), testOrigin()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new target alone is exported", func() bool {
		return slices.Equal(c.Disks.Served(), []ServedTarget{{Name: TargetName("b")}})
	})

	// A disk process that exports nothing has nothing to lose.
	if err := c.Settings.Unset("iscsi"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is exported", func() bool { return len(c.Disks.Served()) == 0 })
	c.restart(func() {
		lose()
		c.write(card, c.card)
	})
	eventually(t, "what the card says is exported", func() bool { return len(c.Disks.Served()) == 1 })
}

// TestTargetsDamaged: what the disk process was to export cannot be read, which people
// are told; core says it again.
func TestTargetsDamaged(t *testing.T) {
	for _, damage := range []string{"", "{", `{}`, `{"version":2,"enabled":true,"targets":[]}`, `{"version":1,"enabled":true,"targets":[{"name":5}]}`} {
		r := newDiskRig(t)
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, diskISCSI), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, diskISCSI, exportsFile), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.set.Set("", `{"volumes":[{"name":"a","size":1048576}],"iscsi":{"enabled":true,"targets":[{"name":"iqn.2026-01.io.nitrino:a","luns":[{"lun":0,"volume":"a"}]}]}}`); err != nil {
			t.Fatal(err)
		}
		d := r.newDisk("one", dir)
		if got := d.iscsi.served(); len(got) != 0 || d.iscsi.address() != "" {
			t.Errorf("%q: got %+v exported", damage, got)
		}
		r.join(d)
		r.await("it is exported", func() bool {
			f := r.Served()
			return len(f) == 1 && f[0].Failed == "" && d.iscsi.address() != ""
		})
		r.await("its event", func() bool { return slices.Contains(r.kinds(), "iscsi.failed") })
	}
}
